//! How many calls to start when a share of them will be handed to people.
//!
//! The robot answers, talks, and hands a share of its calls over. So a call that is started now needs a person
//! later, with the probability that it is answered and that it is handed over then. What rings and what talks is
//! weighed by that against the people who are free or soon will be ([`predictive`]). The governor looks at two
//! windows and tightens in three steps: bold, progressive (each call has its person), nothing.

use serde::{Deserialize, Serialize};
use trunkline_policy::abandonment::{Formula, Tally};

use crate::pacing::{Floor, Governor, Limits, predictive, progressive, robot_aware};

/// How calls that people may have to take are paced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// On average enough people for all who want one.
    Mean,
    /// Each call has its person.
    Progressive,
    /// As many calls as people will probably be free for in time.
    Predictive,
}

/// What is known about the people and the calls that may need them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scene {
    /// People at work.
    pub agents: u32,
    /// Of these, in a call, being rung, or writing up.
    pub busy: u32,
    /// Calls of these people's campaigns that nobody has answered yet.
    pub ringing: u32,
    /// Calls in which the robot talks.
    pub talking: u32,
    /// The probability that a call is answered.
    pub p_answer: f64,
    /// The probability that an answered call is handed over.
    pub p_transfer: f64,
    /// From the start of a call to its hand-over, on average, in seconds.
    pub until_s: f64,
    /// How long a person is busy with a call, writing up included, on average, in seconds.
    pub handle_s: f64,
    /// Hand-overs that nobody took, counted back from the last one.
    pub missed: u32,
    /// How long the last of them is ago, in seconds.
    pub missed_s: u32,
}

/// What was abandoned, and what may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ledger {
    /// The sliding last 24 hours.
    pub day: Tally,
    /// The sliding window of the pack.
    pub window: Tally,
    /// The pack's cap, 0 to 1.
    pub cap: f64,
    /// The pack's formula.
    pub formula: Formula,
}

/// What holds a campaign back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Nothing: all that the lines can carry.
    None,
    /// There are not enough people for more.
    People,
    /// People do not take the calls that they are given.
    NobodyTakesCalls,
    /// Near the cap: each call has its person until the rate has fallen.
    Abandonment,
    /// Above the cap in the last 24 hours: nothing is started until it has fallen.
    AbandonmentCap,
}

/// How many calls may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paced {
    /// Calls.
    pub allowed: u32,
    /// What holds it back.
    pub reason: Reason,
}

/// Over fewer answers than this a rate does not stop a campaign; it only makes it careful.
pub const LEAST_ANSWERS: u64 = 100;
/// After so many hand-overs in a row that nobody took, nobody is there.
pub const MISSED: u32 = 3;
/// So long nothing is started then; after that one call at a time shows whether somebody is back. In seconds.
pub const MISSED_PAUSE_S: u32 = 600;

impl Ledger {
    /// Returns the higher rate of the two windows.
    pub fn rate(&self) -> f64 {
        self.day.rate(self.formula).max(self.window.rate(self.formula))
    }

    /// Returns the rate of the last 24 hours, once it is over enough answers to stop a campaign.
    pub fn stopping_rate(&self) -> Option<f64> {
        (self.day.answered_live >= LEAST_ANSWERS).then(|| self.day.rate(self.formula))
    }

    fn worse(&self) -> &Tally {
        let (day, window) = (self.day.rate(self.formula), self.window.rate(self.formula));
        if day > window { &self.day } else { &self.window }
    }
}

/// Decides how many calls start now. `limits` are those of the lines; its people are left out.
pub fn pace(
    method: Method,
    scene: &Scene,
    ledger: &Ledger,
    governor: &mut Governor,
    limits: &Limits,
) -> Paced {
    let lines = limits.channels.min(limits.starts).min(limits.recognisers);
    let lines_only = Limits { channels: lines, starts: lines, recognisers: lines, ..*limits };
    // It keeps its state whatever else holds the campaign back.
    let permit = governor.permit(ledger.worse());
    let credit = permit.credit.min(governor.credit(&ledger.day)).min(governor.credit(&ledger.window));
    if ledger.stopping_rate().is_some_and(|rate| rate > ledger.cap) {
        return Paced { allowed: 0, reason: Reason::AbandonmentCap };
    }
    if scene.missed >= MISSED {
        let waits = scene.missed_s < MISSED_PAUSE_S || scene.ringing + scene.talking + scene.busy > 0;
        return Paced { allowed: u32::from(!waits).min(lines), reason: Reason::NobodyTakesCalls };
    }
    let free = scene.agents.saturating_sub(scene.busy);
    let under_way = scene.ringing + scene.talking;
    let careful = progressive(free, under_way, &lines_only);
    let allowed = match method {
        _ if governor.is_falling_back() => careful,
        Method::Progressive => careful,
        Method::Mean => {
            let p = scene.p_transfer.clamp(0.001, 1.0);
            let pending = f64::from(scene.ringing) * scene.p_answer + f64::from(scene.talking);
            let limits = Limits { humans: Some(free), p_transfer: p, ..lines_only };
            robot_aware(u32::MAX, scene.p_answer, (pending / scene.p_answer.clamp(0.01, 1.0)) as u32, &limits)
        }
        Method::Predictive => {
            predictive(&floor(scene, free), permit.budget, credit, &lines_only).max(careful)
        }
    };
    let reason = match allowed {
        _ if allowed >= lines => Reason::None,
        _ if governor.is_falling_back() => Reason::Abandonment,
        _ => Reason::People,
    };
    Paced { allowed, reason }
}

/// Sees the scene as [`predictive`] does: as calls that all need a person with one probability.
fn floor(scene: &Scene, free: u32) -> Floor {
    let p_answer = scene.p_answer.clamp(0.01, 1.0);
    let p = (p_answer * scene.p_transfer.clamp(0.001, 1.0)).min(1.0);
    // A call that talks needs a person as often as this many that are started.
    let talking = (f64::from(scene.talking) / p_answer).ceil() as u32;
    Floor {
        free,
        busy: scene.busy.min(scene.agents),
        p_free_soon: 1.0 - (-0.5 * scene.until_s / scene.handle_s.max(1.0)).exp(),
        waiting: 0,
        ringing: scene.ringing + talking,
        p_answer: p,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINES: Limits =
        Limits { channels: 200, starts: 200, recognisers: 200, humans: None, p_transfer: 0.0 };

    fn scene() -> Scene {
        Scene {
            agents: 10,
            busy: 4,
            ringing: 0,
            talking: 0,
            p_answer: 0.4,
            p_transfer: 0.2,
            until_s: 45.0,
            handle_s: 120.0,
            missed: 0,
            missed_s: 0,
        }
    }

    fn ledger(answered: u64, abandoned: u64) -> Ledger {
        let tally =
            Tally { answered_live: answered, connected: answered - abandoned, abandoned, false_machines: 0 };
        Ledger { day: tally, window: tally, cap: 0.03, formula: Formula::Tsr }
    }

    fn paced(method: Method, scene: Scene, ledger: Ledger) -> Paced {
        pace(method, &scene, &ledger, &mut Governor::new(ledger.cap, ledger.formula), &LINES)
    }

    #[test]
    fn predictive_starts_more_than_progressive_and_less_than_the_mean_would() {
        let of = |method| paced(method, scene(), ledger(1_000, 5)).allowed;
        assert_eq!(of(Method::Progressive), 6);
        assert_eq!(of(Method::Mean), 75, "six people for one call in 12.5");
        assert!((7..75).contains(&of(Method::Predictive)), "{}", of(Method::Predictive));
        assert_eq!(paced(Method::Predictive, Scene { busy: 10, ..scene() }, ledger(0, 0)).allowed, 0);
    }

    #[test]
    fn the_governor_tightens_in_steps_and_lets_go() {
        let mut governor = Governor::new(0.03, Formula::Tsr);
        let mut at = |answered, abandoned| {
            pace(Method::Predictive, &scene(), &ledger(answered, abandoned), &mut governor, &LINES)
        };
        assert!(at(1_000, 5).allowed > 6);
        assert_eq!(at(1_000, 26), Paced { allowed: 6, reason: Reason::Abandonment });
        assert_eq!(at(1_000, 31), Paced { allowed: 0, reason: Reason::AbandonmentCap });
        assert_eq!(at(1_000, 20), Paced { allowed: 6, reason: Reason::Abandonment }, "not yet below 0.6");
        let free = at(1_000, 15);
        assert!(free.allowed > 6 && free.reason == Reason::People, "{free:?}");
        // Of few answers the rate says little: careful, and no more.
        assert_eq!(paced(Method::Predictive, scene(), ledger(20, 2)).reason, Reason::Abandonment);
    }

    #[test]
    fn where_nobody_takes_calls_one_at_a_time_is_tried_after_a_pause() {
        let missed = |missed_s, talking| {
            let scene = Scene { busy: 0, missed: 3, missed_s, talking, ..scene() };
            paced(Method::Predictive, scene, ledger(10, 3)).allowed
        };
        assert_eq!((missed(10, 0), missed(600, 0), missed(600, 1)), (0, 1, 0));
    }

    proptest! {
        #[test]
        fn more_abandoned_calls_or_fewer_people_never_start_more(
            busy in 0_u32..12, ringing in 0_u32..40, talking in 0_u32..40, abandoned in 0_u64..40,
            p_answer in 0.02..0.9_f64, p_transfer in 0.02..0.9_f64,
        ) {
            for method in [Method::Mean, Method::Progressive, Method::Predictive] {
                let scene = Scene { busy, ringing, talking, p_answer, p_transfer, ..scene() };
                let allowed = |scene, abandoned| paced(method, scene, ledger(1_000, abandoned)).allowed;
                let now = allowed(scene, abandoned);
                let (fewer, more) = (Scene { agents: 9, ..scene }, Scene { talking: talking + 1, ..scene });
                prop_assert!(allowed(scene, abandoned + 1) <= now);
                prop_assert!(allowed(fewer, abandoned) <= now);
                prop_assert!(allowed(more, abandoned) <= now);
            }
        }
    }
}
