//! How a version spreads: in waves, each of which must prove itself before the next one begins.
//!
//! Every box has its place in a row by a hash of its id and the release, so that the same boxes are not always
//! the first. Waves are cut from the row once, at the start: whatever happens to the fleet later, the first wave
//! is no larger than was asked for. Boxes that join later come last.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline_model::BoxId;
use trunkline_trust::{AssignedTarget, sha256};

use crate::report::{BoxReport, Standing};
use crate::sequential::{Share, Verdict, judge};

/// The gates of a rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RolloutProfile")]
pub struct Profile {
    /// How many percent of the boxes have the version at the end of each wave; the last is 100.
    pub percents: Vec<u8>,
    /// A wave lasts at least this long, so that there are calls to judge by.
    pub soak: SignedDuration,
    /// A box that was about to start is silent after this time.
    pub silence: SignedDuration,
    /// This many percent of a wave's boxes that are heard of must have committed.
    pub committed_percent: u32,
    /// This many percent of a wave may have failed, rolled back or fallen silent …
    pub bad_percent: u32,
    /// … or this many boxes, whichever is more.
    pub bad_boxes: u32,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            percents: vec![1, 5, 15, 40, 70, 100],
            soak: SignedDuration::from_hours(24),
            silence: SignedDuration::from_hours(2),
            committed_percent: 95,
            bad_percent: 2,
            bad_boxes: 3,
        }
    }
}

impl Profile {
    /// The profile for what cannot wait, such as a hole that is being used: two waves, and a short look.
    pub fn emergency() -> Self {
        Self { percents: vec![5, 100], soak: SignedDuration::from_mins(30), ..Self::default() }
    }
}

/// A figure of calls that the gates look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "RolloutFigure")]
pub enum FigureName {
    /// Calls that failed for technical reasons, of all calls.
    CallFailures,
    /// Customers who do not want to be called again, of all answered calls.
    OptOuts,
    /// Calls whose first word came later than 95 of 100 do on the old version, of all answered calls.
    SlowFirstWord,
    /// Replies that came later than 95 of 100 do on the old version, of all replies.
    SlowReplies,
}

/// One figure of the boxes with the new version, and of the rest over the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Which.
    pub name: FigureName,
    /// On boxes with the new version.
    pub new: Share,
    /// On the rest.
    pub rest: Share,
}

/// Why a rollout was paused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "cause", rename_all = "snake_case")]
#[schemars(rename = "PauseCause")]
pub enum Cause {
    /// More boxes failed, rolled back or fell silent than may.
    TooManyBad {
        /// How many, in all waves so far.
        bad: u32,
        /// How many may.
        allowed: u32,
    },
    /// So many went wrong that the wave cannot pass any more.
    CannotPass {
        /// How many boxes of the wave went wrong.
        bad: u32,
        /// How many boxes it has.
        of: u32,
    },
    /// The new version's calls are worse than those of the rest.
    Worse {
        /// In which figure.
        figure: FigureName,
        /// By how much, in tenths of a percentage point.
        by_permille: u32,
    },
    /// A person said so.
    Person {
        /// Who.
        name: String,
        /// Why.
        why: String,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyBad { bad, allowed } => {
                write!(f, "{bad} boxes failed, rolled back or fell silent, and {allowed} may")
            }
            Self::CannotPass { bad, of } => write!(f, "{bad} of the wave's {of} boxes went wrong"),
            Self::Worse { figure, by_permille } => {
                let figure = match figure {
                    FigureName::CallFailures => "failed calls",
                    FigureName::OptOuts => "opt-outs",
                    FigureName::SlowFirstWord => "late first words",
                    FigureName::SlowReplies => "late replies",
                };
                let (whole, tenth) = (by_permille / 10, by_permille % 10);
                write!(f, "{whole}.{tenth} percentage points more {figure} than on the old version")
            }
            Self::Person { name, why } => write!(f, "{name}: {why}"),
        }
    }
}

/// How far a rollout is. Waves count from 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "phase", rename_all = "snake_case")]
#[schemars(rename = "RolloutPhase")]
pub enum Phase {
    /// A wave is under way.
    Running {
        /// Which.
        wave: usize,
        /// Since when.
        since: Timestamp,
    },
    /// Nothing new begins. Only a person ends this.
    Paused {
        /// In which wave.
        wave: usize,
        /// Since when.
        since: Timestamp,
        /// Why.
        cause: Cause,
    },
    /// Every wave has passed.
    Finished {
        /// When.
        at: Timestamp,
    },
    /// A person ended it.
    Stopped {
        /// In which wave.
        wave: usize,
        /// When.
        at: Timestamp,
        /// Who.
        by: String,
    },
}

/// What changed in a step; for the log, the alarm and the console.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The next wave begins.
    Wave(usize),
    /// Nothing new begins.
    Paused(Cause),
    /// It is done.
    Finished,
}

/// What a box is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Run the version of this rollout.
    Run,
    /// Take the update back, if it is not armed yet; otherwise it goes on to its end.
    Hold,
    /// This rollout has nothing to say about it.
    Nothing,
}

/// Why a rollout does not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RolloutError {
    /// There are no boxes.
    #[error("there are no boxes to roll out to")]
    NoBoxes,
    /// The percents do not rise to 100.
    #[error("the waves must rise from at least 1 to exactly 100 percent")]
    Percents,
    /// It is in another phase.
    #[error("the rollout is not {0}")]
    Phase(&'static str),
}

/// One version on its way into the fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// Its id.
    pub id: String,
    /// What spreads.
    pub target: AssignedTarget,
    /// The gates.
    pub profile: Profile,
    /// The boxes of each wave.
    pub waves: Vec<Vec<BoxId>>,
    /// How far it is.
    #[serde(flatten)]
    pub phase: Phase,
    /// Bad boxes that a person has looked at before resuming.
    pub forgiven: BTreeSet<BoxId>,
    /// Calls before this moment are not judged: a person has looked at them.
    pub judged_from: Timestamp,
}

/// A box's place in the row for a release: the first 16 bits of SHA-256 over both ids.
pub fn place(box_id: &BoxId, release: &str) -> u16 {
    let hash = sha256(format!("{box_id}\n{release}").as_bytes());
    u16::from_be_bytes([hash.as_bytes()[0], hash.as_bytes()[1]])
}

/// Returns what each of `fetching` boxes of a site may fetch, in bytes per second; at least 8 KiB/s, below
/// which a box gives a fetch up.
pub fn share_of_site(site_bytes_per_s: u64, fetching: u64) -> u64 {
    (site_bytes_per_s / fetching.max(1)).max(8 * 1024)
}

impl Rollout {
    /// Begins with the first wave.
    ///
    /// # Errors
    /// [`RolloutError::NoBoxes`], [`RolloutError::Percents`].
    pub fn start(
        id: &str,
        target: AssignedTarget,
        profile: Profile,
        boxes: impl IntoIterator<Item = BoxId>,
        now: Timestamp,
    ) -> Result<Self, RolloutError> {
        let rises = profile.percents.windows(2).all(|pair| pair[0] < pair[1]);
        let bounds = profile.percents.first().is_some_and(|first| *first >= 1)
            && profile.percents.last() == Some(&100);
        if !rises || !bounds {
            return Err(RolloutError::Percents);
        }
        let boxes: BTreeSet<BoxId> = boxes.into_iter().collect();
        let mut row: Vec<BoxId> = boxes.into_iter().collect();
        row.sort_by_key(|box_id| (place(box_id, &target.name), box_id.clone()));
        if row.is_empty() {
            return Err(RolloutError::NoBoxes);
        }
        let mut waves = Vec::new();
        let mut taken = 0;
        for percent in &profile.percents {
            let upto = (row.len() * usize::from(*percent)).div_ceil(100);
            waves.push(row[taken..upto].to_vec());
            taken = upto;
        }
        let phase = Phase::Running { wave: 0, since: now };
        let forgiven = BTreeSet::new();
        Ok(Self { id: id.into(), target, profile, waves, phase, forgiven, judged_from: now })
    }

    /// Takes a box that joined the fleet after the start: it comes last.
    pub fn join(&mut self, box_id: BoxId) {
        if self.wave_of(&box_id).is_none()
            && let Some(last) = self.waves.last_mut()
        {
            last.push(box_id);
        }
    }

    /// Returns the wave that a box is in.
    pub fn wave_of(&self, box_id: &BoxId) -> Option<usize> {
        self.waves.iter().position(|wave| wave.contains(box_id))
    }

    /// Looks at the fleet and goes on, pauses or ends. Looking often changes nothing.
    pub fn step(
        &mut self,
        now: Timestamp,
        boxes: &BTreeMap<BoxId, BoxReport>,
        figures: &[Figure],
    ) -> Option<Change> {
        let Phase::Running { wave, since } = self.phase else { return None };
        let cause = self.alarm(now, wave, boxes, figures);
        if let Some(cause) = cause {
            self.phase = Phase::Paused { wave, since: now, cause: cause.clone() };
            return Some(Change::Paused(cause));
        }
        let tally = self.tally(now, &self.waves[wave], boxes);
        let heard =
            self.waves[wave].iter().filter(|id| boxes.get(id).is_some_and(|report| report.seen >= since));
        let heard = heard.filter(|id| {
            let standing = boxes.get(id).map(|report| self.standing(report, now));
            !matches!(standing, Some(Standing::Cancelled))
        });
        let heard = u32::try_from(heard.count()).unwrap_or(u32::MAX);
        let size = u32::try_from(self.waves[wave].len()).unwrap_or(u32::MAX);
        // Boxes that are switched off do not hold up the fleet, unless most of the wave is.
        let enough = heard.saturating_mul(2) >= size
            && tally.committed.saturating_mul(100) >= heard.saturating_mul(self.profile.committed_percent);
        if now < since + self.profile.soak || !enough {
            return None;
        }
        if wave + 1 < self.waves.len() {
            self.phase = Phase::Running { wave: wave + 1, since: now };
            Some(Change::Wave(wave + 1))
        } else {
            self.phase = Phase::Finished { at: now };
            Some(Change::Finished)
        }
    }

    /// Says what a box is to be told.
    pub fn order(&self, now: Timestamp, box_id: &BoxId, report: Option<&BoxReport>) -> Order {
        let Some(own) = self.wave_of(box_id) else { return Order::Nothing };
        match &self.phase {
            Phase::Running { wave, .. } if own <= *wave => Order::Run,
            Phase::Finished { .. } => Order::Run,
            Phase::Running { .. } => Order::Nothing,
            Phase::Paused { wave, .. } | Phase::Stopped { wave, .. } if own <= *wave => {
                match report.map(|report| self.standing(report, now)) {
                    Some(Standing::Committed) => Order::Run,
                    _ => Order::Hold,
                }
            }
            Phase::Paused { .. } | Phase::Stopped { .. } => Order::Nothing,
        }
    }

    /// Stops anything new from beginning.
    ///
    /// # Errors
    /// [`RolloutError::Phase`].
    pub fn pause(&mut self, by: &str, why: &str, now: Timestamp) -> Result<(), RolloutError> {
        let Phase::Running { wave, .. } = self.phase else { return Err(RolloutError::Phase("running")) };
        let cause = Cause::Person { name: by.into(), why: why.into() };
        self.phase = Phase::Paused { wave, since: now, cause };
        Ok(())
    }

    /// Goes on after a pause. What has gone wrong so far is known to the person and no longer counts.
    ///
    /// # Errors
    /// [`RolloutError::Phase`].
    pub fn resume(&mut self, now: Timestamp, boxes: &BTreeMap<BoxId, BoxReport>) -> Result<(), RolloutError> {
        let Phase::Paused { wave, .. } = self.phase else { return Err(RolloutError::Phase("paused")) };
        let bad: Vec<BoxId> = boxes
            .iter()
            .filter(|(_, report)| is_bad(self.standing(report, now)))
            .map(|(id, _)| id.clone())
            .collect();
        self.forgiven.extend(bad);
        self.judged_from = now;
        self.phase = Phase::Running { wave, since: now };
        Ok(())
    }

    /// Ends the rollout where it is.
    ///
    /// # Errors
    /// [`RolloutError::Phase`] when it has ended.
    pub fn stop(&mut self, by: &str, now: Timestamp) -> Result<(), RolloutError> {
        let (Phase::Running { wave, .. } | Phase::Paused { wave, .. }) = self.phase else {
            return Err(RolloutError::Phase("running or paused"));
        };
        self.phase = Phase::Stopped { wave, at: now, by: by.into() };
        Ok(())
    }

    /// Returns where a box stands with this version.
    pub fn standing(&self, report: &BoxReport, now: Timestamp) -> Standing {
        report.standing(self.target.sha256, self.profile.silence, now)
    }

    /// Returns how many boxes stand where, in the waves so far.
    pub fn counts(&self, now: Timestamp, boxes: &BTreeMap<BoxId, BoxReport>) -> BTreeMap<Standing, u32> {
        let upto = match self.phase {
            Phase::Running { wave, .. } | Phase::Paused { wave, .. } | Phase::Stopped { wave, .. } => {
                wave + 1
            }
            Phase::Finished { .. } => self.waves.len(),
        };
        let mut counts = BTreeMap::new();
        for id in self.waves[..upto].iter().flatten() {
            let standing = boxes.get(id).map_or(Standing::NotBegun, |report| self.standing(report, now));
            *counts.entry(standing).or_insert(0) += 1;
        }
        counts
    }

    fn alarm(
        &self,
        now: Timestamp,
        wave: usize,
        boxes: &BTreeMap<BoxId, BoxReport>,
        figures: &[Figure],
    ) -> Option<Cause> {
        let own = self.tally(now, &self.waves[wave], boxes);
        let (bad, of) = (own.bad, u32::try_from(self.waves[wave].len()).unwrap_or(u32::MAX));
        let left = of.saturating_sub(own.bad).saturating_mul(100);
        if bad > 0 && left < of.saturating_mul(self.profile.committed_percent) {
            return Some(Cause::CannotPass { bad, of });
        }
        let all: Vec<BoxId> = self.waves[..=wave].concat();
        let bad = self.tally(now, &all, boxes).bad;
        let size = u32::try_from(all.len()).unwrap_or(u32::MAX);
        let allowed = (size.saturating_mul(self.profile.bad_percent) / 100).max(self.profile.bad_boxes);
        if bad > allowed {
            return Some(Cause::TooManyBad { bad, allowed });
        }
        figures.iter().find_map(|figure| match judge(figure.new, figure.rest) {
            Verdict::Worse { by } => {
                let by_permille = (by * 1_000.0).round() as u32;
                Some(Cause::Worse { figure: figure.name, by_permille })
            }
            Verdict::NotWorse => None,
        })
    }

    fn tally(&self, now: Timestamp, ids: &[BoxId], boxes: &BTreeMap<BoxId, BoxReport>) -> Tally {
        let mut tally = Tally::default();
        for id in ids {
            let Some(report) = boxes.get(id) else { continue };
            let standing = self.standing(report, now);
            tally.committed += u32::from(standing == Standing::Committed);
            tally.bad += u32::from(is_bad(standing) && !self.forgiven.contains(id));
        }
        tally
    }
}

#[derive(Default)]
struct Tally {
    committed: u32,
    bad: u32,
}

fn is_bad(standing: Standing) -> bool {
    match standing {
        Standing::Failed | Standing::RolledBack | Standing::Silent => true,
        Standing::NotBegun | Standing::UnderWay | Standing::Committed | Standing::Cancelled => false,
    }
}
