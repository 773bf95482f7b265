//! All checks together.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::checks::{self, CheckFn};
use crate::{Attempt, Case, Contact, Finding, Line, Operations, Pack, PackRef, Plan, Reason, Verdict};

/// How often a deferral is looked at again before it is taken for endless.
const ROUNDS: u32 = 24;

/// A [`Case`] without its pack and its instant.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Who.
    pub contact: &'a Contact,
    /// The attempts so far, over all lines and campaigns.
    pub history: &'a [Attempt],
    /// On which line.
    pub line: Option<&'a Line>,
    /// What is planned.
    pub plan: &'a Plan,
    /// The operation's state.
    pub operations: &'a Operations,
}

/// What the gate decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// By which packs.
    pub packs: Vec<PackRef>,
    /// What each check found; of several packs the worst.
    pub checks: Vec<Finding>,
}

impl Decision {
    /// Says whether the contact may be called at that instant.
    pub fn allows(&self) -> bool {
        self.verdict == Verdict::Allow
    }
}

/// Runs every check by every pack. No pack at all is a refusal.
///
/// A deferral is as long as it must be: at its end the checks of hours and counts allow, unless
/// something else has changed by then.
pub fn decide(facts: &Facts<'_>, packs: &[&Pack], now: Timestamp) -> Decision {
    let mut checks: Vec<Finding> = Vec::new();
    for pack in packs {
        let case = case(facts, pack, now);
        for (at, check) in checks::ALL.iter().enumerate() {
            let found = check(&case);
            match checks.get_mut(at) {
                Some(known) if known.verdict.worse(found.verdict) == known.verdict => {}
                Some(known) => *known = found,
                None => checks.push(found),
            }
        }
    }
    let mut verdict = if packs.is_empty() {
        Verdict::Block { reason: Reason::JurisdictionUnknown }
    } else {
        checks.iter().fold(Verdict::Allow, |worst, found| worst.worse(found.verdict))
    };
    if let Verdict::Defer { until, reason } = verdict {
        verdict = match earliest(facts, packs, until) {
            Some(until) => Verdict::Defer { until, reason },
            None => Verdict::Skip { reason: Reason::WindowNeverOpens },
        };
    }
    Decision { at: now, verdict, packs: packs.iter().map(|pack| pack.reference()).collect(), checks }
}

/// Returns the first instant from `from` on at which hours and counts allow, as the history stands;
/// `None` when there is none within the horizon.
pub fn earliest(facts: &Facts<'_>, packs: &[&Pack], from: Timestamp) -> Option<Timestamp> {
    let mut at = from;
    for _ in 0..ROUNDS {
        match run(&checks::TIMED, facts, packs, at) {
            Verdict::Allow => return Some(at),
            Verdict::Defer { until, .. } if until > at => at = until,
            Verdict::Defer { .. } | Verdict::Skip { .. } | Verdict::Block { .. } => return None,
        }
    }
    None
}

fn run(checks: &[CheckFn], facts: &Facts<'_>, packs: &[&Pack], at: Timestamp) -> Verdict {
    let all = packs.iter().flat_map(|pack| {
        let case = case(facts, pack, at);
        checks.iter().map(move |check| check(&case).verdict)
    });
    all.fold(Verdict::Allow, Verdict::worse)
}

fn case<'a>(facts: &Facts<'a>, pack: &'a Pack, now: Timestamp) -> Case<'a> {
    let Facts { contact, history, line, plan, operations } = *facts;
    Case { contact, history, line, plan, operations, pack, now }
}
