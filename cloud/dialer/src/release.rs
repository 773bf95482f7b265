//! Gray release: a campaign begins with a share of its contacts and widens by gates.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What must hold before the next step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ReleaseGate")]
pub struct Gate {
    /// Conversations that must have been held at this step.
    pub least: u32,
    /// At least this share with a good outcome, 0 to 1.
    #[schemars(range(min = 0, max = 1))]
    pub good_outcome: f64,
    /// At most this share that opted out.
    #[schemars(range(min = 0, max = 1))]
    pub opt_out: f64,
    /// At most this share that complained.
    #[schemars(range(min = 0, max = 1))]
    pub complaint: f64,
    /// At most this share of turns that were not understood.
    #[schemars(range(min = 0, max = 1))]
    pub no_match: f64,
}

/// The steps of a release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ReleasePlan")]
pub struct Release {
    /// Shares of the contacts in percent, rising, the last 100. The contacts of least value come first.
    #[schemars(length(min = 1), inner(range(min = 1, max = 100)))]
    pub steps: Vec<u8>,
    /// The gate before each widening.
    pub gate: Gate,
    /// Widen by itself, or wait for somebody.
    pub automatic: bool,
}

impl Release {
    /// Says what is wrong with the plan, if anything is.
    pub fn wrong(&self) -> Option<&'static str> {
        let shares = [self.gate.good_outcome, self.gate.opt_out, self.gate.complaint, self.gate.no_match];
        if self.steps.first().is_none_or(|first| *first == 0) || self.steps.last() != Some(&100) {
            Some("the steps are shares in percent from 1 on, and the last is 100")
        } else if !self.steps.is_sorted_by(|a, b| a < b) {
            Some("each step is larger than the one before")
        } else if !shares.iter().all(|share| (0.0..=1.0).contains(share)) {
            Some("the shares of a gate are from 0 to 1")
        } else {
            None
        }
    }
}

/// What was seen at the present step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Conversations.
    pub conversations: u32,
    /// Of these with a good outcome.
    pub good: u32,
    /// Of these with an opt-out.
    pub opt_outs: u32,
    /// Complaints.
    pub complaints: u32,
    /// Turns.
    pub turns: u32,
    /// Turns that were not understood.
    pub no_match: u32,
}

/// What to do with a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not enough was seen.
    Wait,
    /// Go to this share, in percent.
    Widen(u8),
    /// It could be widened to this share; somebody must say so.
    Ready(u8),
    /// Pause: a gate does not hold, and which.
    Halt(&'static str),
    /// Everybody is called already.
    Done,
}

/// Decides whether a release at `share` percent goes on.
pub fn judge(release: &Release, share: u8, seen: &Seen) -> Verdict {
    let of = |part: u32, all: u32| if all == 0 { 0.0 } else { f64::from(part) / f64::from(all) };
    let gate = &release.gate;
    // What harms is acted upon at once, as soon as a fifth of the sample shows it.
    if seen.conversations >= (gate.least / 5).max(1) {
        if of(seen.opt_outs, seen.conversations) > gate.opt_out {
            return Verdict::Halt("too many opted out");
        }
        if of(seen.complaints, seen.conversations) > gate.complaint {
            return Verdict::Halt("too many complained");
        }
        if of(seen.no_match, seen.turns) > gate.no_match {
            return Verdict::Halt("too many turns were not understood");
        }
    }
    let Some(next) = release.steps.iter().copied().find(|step| *step > share) else { return Verdict::Done };
    if seen.conversations < gate.least {
        return Verdict::Wait;
    }
    if of(seen.good, seen.conversations) < gate.good_outcome {
        return Verdict::Halt("too few good outcomes");
    }
    if release.automatic { Verdict::Widen(next) } else { Verdict::Ready(next) }
}

/// Says whether a contact belongs to the first `share` percent: by its rank among `all`, the least
/// valuable first.
pub fn includes(share: u8, rank: u64, all: u64) -> bool {
    share >= 100 || rank.saturating_mul(100) < all.saturating_mul(share.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_widens_step_by_step_and_stops_when_people_opt_out() {
        let gate = Gate { least: 50, good_outcome: 0.2, opt_out: 0.05, complaint: 0.0, no_match: 0.3 };
        let release = Release { steps: vec![5, 25, 100], gate, automatic: true };
        let seen = Seen { conversations: 50, good: 20, turns: 200, no_match: 20, opt_outs: 1, complaints: 0 };
        assert_eq!(judge(&release, 5, &Seen { conversations: 49, ..seen }), Verdict::Wait);
        assert_eq!(judge(&release, 5, &seen), Verdict::Widen(25));
        assert_eq!(judge(&release, 25, &seen), Verdict::Widen(100));
        assert_eq!(judge(&release, 100, &seen), Verdict::Done);
        assert_eq!(judge(&Release { automatic: false, ..release.clone() }, 5, &seen), Verdict::Ready(25));
        let early = Seen { conversations: 10, opt_outs: 1, ..seen };
        assert_eq!(judge(&release, 5, &early), Verdict::Halt("too many opted out"));
        assert_eq!(judge(&release, 5, &Seen { good: 9, ..seen }), Verdict::Halt("too few good outcomes"));
        assert_eq!(judge(&release, 5, &Seen { complaints: 1, ..seen }), Verdict::Halt("too many complained"));
        assert_eq!(
            judge(&release, 5, &Seen { no_match: 61, ..seen }),
            Verdict::Halt("too many turns were not understood")
        );
    }

    #[test]
    fn a_plan_that_goes_nowhere_is_wrong() {
        let gate = Gate { least: 5, good_outcome: 0.2, opt_out: 0.05, complaint: 0.0, no_match: 0.3 };
        let plan = |steps: &[u8]| Release { steps: steps.to_vec(), gate, automatic: true };
        assert_eq!(plan(&[100]).wrong(), None);
        assert_eq!(plan(&[1, 10, 100]).wrong(), None);
        for steps in [&[][..], &[0, 100], &[10], &[10, 10, 100], &[50, 10, 100], &[50, 101]] {
            assert!(plan(steps).wrong().is_some(), "{steps:?}");
        }
        assert!(Release { gate: Gate { opt_out: 5.0, ..gate }, ..plan(&[100]) }.wrong().is_some());
    }

    #[test]
    fn five_per_cent_of_a_thousand_are_fifty() {
        assert_eq!((0..1_000).filter(|rank| includes(5, *rank, 1_000)).count(), 50);
        assert!(includes(100, u64::MAX, 1));
    }
}
