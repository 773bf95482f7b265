//! How many calls to start now.
//!
//! The base is the formula of the design: `free / p_answer - ringing`, clipped by every limit. It aims
//! at the *mean* number of answers, and so abandons in half of all cases by a little. Where people must
//! take the answered calls, [`predictive`] therefore asks for the tail as well: the calls that are
//! ringing, each answered with probability p, against the agents who are free or soon will be. See
//! `shared/docs/adr` for the choice.

use serde::{Deserialize, Serialize};
use trunkline_policy::abandonment::{Formula, Tally};

/// How a campaign is paced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A person looks at the contact first and says go.
    Preview,
    /// One call for each that can be taken at once.
    Progressive,
    /// As many as will be answered in time to be taken.
    Predictive,
}

/// What limits the calls of a campaign.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Channels that are free on the lines it may use.
    pub channels: u32,
    /// Calls that may be started in this second.
    pub starts: u32,
    /// Calls that the recognisers can take in addition.
    pub recognisers: u32,
    /// People who can take a transferred call; `None` when nobody is needed.
    pub humans: Option<u32>,
    /// The share of answered calls that are transferred.
    pub p_transfer: f64,
}

/// The formula of the design for robots: every answered call needs a free robot, and a share of them
/// a person. `p_answer` is clamped to 1 % at least, so that a campaign that nobody answers stays bounded.
pub fn robot_aware(free_robots: u32, p_answer: f64, ringing: u32, limits: &Limits) -> u32 {
    let p = p_answer.clamp(0.01, 1.0);
    let mut answers = f64::from(free_robots.min(limits.recognisers));
    if let Some(humans) = limits.humans {
        answers = answers.min(f64::from(humans) / limits.p_transfer.clamp(0.001, 1.0));
    }
    let wanted = (answers / p).floor() - f64::from(ringing);
    (wanted.max(0.0) as u32).min(limits.channels).min(limits.starts)
}

/// One call for each that can be taken at once.
pub fn progressive(free: u32, ringing: u32, limits: &Limits) -> u32 {
    free.saturating_sub(ringing).min(limits.channels).min(limits.starts)
}

/// What predictive dialling looks at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Floor {
    /// Agents who wait.
    pub free: u32,
    /// Agents who talk or write up.
    pub busy: u32,
    /// The probability that one of them is free before a call that starts now is answered.
    pub p_free_soon: f64,
    /// People who answered and wait for an agent.
    pub waiting: u32,
    /// Calls that ring.
    pub ringing: u32,
    /// The probability that one of them is answered.
    pub p_answer: f64,
}

/// Starts as many calls as keep the expected number of people without an agent below `budget` per
/// answer, and the unlikely case (1 in 700) within `credit`, the calls that may still be abandoned
/// before the cap is reached.
pub fn predictive(floor: &Floor, budget: f64, credit: f64, limits: &Limits) -> u32 {
    let least = progressive(floor.free, floor.ringing + floor.waiting, limits);
    if credit < 1.0 || budget <= 0.0 {
        return least;
    }
    let most = limits.channels.min(limits.starts);
    let holds = |start: u32| {
        let (mean, deviation) = surplus(floor, floor.ringing + start);
        let answers = f64::from(floor.ringing + start) * floor.p_answer;
        expected_positive(mean, deviation) <= budget * answers && mean + 3.0 * deviation <= credit
    };
    // More calls are never safer, so the largest number that holds is found by halving.
    let (mut low, mut high) = (least, most.max(least));
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if holds(middle) { low = middle } else { high = middle - 1 }
    }
    low
}

/// Mean and deviation of the answers without an agent, before it is cut off at nought.
fn surplus(floor: &Floor, calls: u32) -> (f64, f64) {
    let (n, p) = (f64::from(calls), floor.p_answer.clamp(0.0, 1.0));
    let (busy, q) = (f64::from(floor.busy), floor.p_free_soon.clamp(0.0, 1.0));
    // Half an agent against the normal curve's blurred steps.
    let mean = n * p + f64::from(floor.waiting) - f64::from(floor.free) - busy * q - 0.5;
    let variance = n * p * (1.0 - p) + busy * q * (1.0 - q);
    (mean, variance.sqrt().max(1e-6))
}

/// Expected value of max(0, X) for a normal X.
fn expected_positive(mean: f64, deviation: f64) -> f64 {
    let z = mean / deviation;
    deviation * (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() + mean * cumulative(z)
}

/// The normal distribution (Abramowitz and Stegun, 26.2.17; error below 7.5e-8).
fn cumulative(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let poly = t
        * (0.319_381_530
            + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let tail = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * poly;
    if z >= 0.0 { 1.0 - tail } else { tail }
}

/// Keeps the abandonment rate below its cap.
///
/// Above 0.8 of the cap only progressive calls are made, until it is below 0.6. In between the budget
/// grows and shrinks with the distance from where it should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Governor {
    /// The cap, 0 to 1.
    pub cap: f64,
    /// How the rate is counted.
    pub formula: Formula,
    falling_back: bool,
}

/// What the governor permits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Permit {
    /// People without an agent per answer, in expectation.
    pub budget: f64,
    /// Calls that may still be abandoned before the cap is reached.
    pub credit: f64,
}

impl Governor {
    /// Makes a governor.
    pub fn new(cap: f64, formula: Formula) -> Self {
        Self { cap, formula, falling_back: false }
    }

    /// Goes on as one that had fallen back, or had not.
    #[must_use]
    pub fn resumed(self, falling_back: bool) -> Self {
        Self { falling_back, ..self }
    }

    /// Returns how many calls may still be abandoned; a fifth of the cap is kept for what the model does not see.
    pub fn credit(&self, tally: &Tally) -> f64 {
        let bad = match self.formula {
            Formula::Tsr => tally.abandoned,
            Formula::Ofcom => tally.abandoned + tally.false_machines,
        };
        0.8 * self.cap * tally.answered_live as f64 - bad as f64
    }

    /// Says whether it has fallen back to progressive calls.
    pub fn is_falling_back(&self) -> bool {
        self.falling_back
    }

    /// Looks at what happened in the evaluation window so far.
    pub fn permit(&mut self, tally: &Tally) -> Permit {
        let rate = tally.rate(self.formula);
        if rate > 0.8 * self.cap {
            self.falling_back = true;
        } else if rate < 0.6 * self.cap {
            self.falling_back = false;
        }
        let credit = self.credit(tally);
        if self.falling_back || self.cap <= 0.0 {
            return Permit { budget: 0.0, credit };
        }
        // Nothing is risked at 0.75 of the cap, so that falling back stays rare; the cap itself at half of it.
        let room = 0.75 - rate / self.cap;
        Permit { budget: (4.0 * room * self.cap).clamp(0.0, 2.0 * self.cap), credit }
    }
}

/// How likely a call is to be answered, by hour of the callee's day, learned as it goes.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerRate {
    by_hour: [(f64, f64); 24],
    prior: f64,
}

impl AnswerRate {
    /// Starts from a guess, 0 to 1.
    pub fn new(prior: f64) -> Self {
        Self { by_hour: [(0.0, 0.0); 24], prior: prior.clamp(0.01, 1.0) }
    }

    /// A call that rang ended: was it answered? What is older than some 200 calls fades. A call that the
    /// trunk could not make says nothing about people and is not to be counted here.
    pub fn learn(&mut self, hour: usize, answered: bool) {
        let (calls, answers) = &mut self.by_hour[hour % 24];
        *calls = *calls * 0.995 + 1.0;
        *answers = *answers * 0.995 + if answered { 1.0 } else { 0.0 };
    }

    /// Returns the rate of an hour; the guess weighs as much as ten calls.
    pub fn at(&self, hour: usize) -> f64 {
        let (calls, answers) = self.by_hour[hour % 24];
        (answers + 10.0 * self.prior) / (calls + 10.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WIDE: Limits =
        Limits { channels: 1_000, starts: 1_000, recognisers: 1_000, humans: None, p_transfer: 0.1 };

    #[test]
    fn the_formula_of_the_design_is_clipped_by_every_limit() {
        assert_eq!(robot_aware(10, 0.25, 8, &WIDE), 32);
        assert_eq!(robot_aware(10, 0.25, 50, &WIDE), 0);
        assert_eq!(robot_aware(10, 0.25, 8, &Limits { channels: 20, ..WIDE }), 20);
        assert_eq!(robot_aware(10, 0.25, 8, &Limits { starts: 3, ..WIDE }), 3);
        assert_eq!(robot_aware(10, 0.25, 8, &Limits { recognisers: 5, ..WIDE }), 12);
        // Two people, every tenth answer: room for twenty answers; half an answer each: for four.
        assert_eq!(robot_aware(30, 0.5, 0, &Limits { humans: Some(2), ..WIDE }), 40);
        assert_eq!(robot_aware(30, 0.5, 0, &Limits { humans: Some(2), p_transfer: 0.5, ..WIDE }), 8);
        assert_eq!(robot_aware(5, 0.0, 0, &WIDE), 500, "bounded where nobody answers");
    }

    #[test]
    fn the_governor_falls_back_above_eight_tenths_of_the_cap_until_below_six() {
        let mut governor = Governor::new(0.03, Formula::Tsr);
        let tally = |abandoned| Tally {
            answered_live: 1_000,
            connected: 1_000 - abandoned,
            abandoned,
            false_machines: 0,
        };
        assert!(governor.permit(&tally(10)).budget > 0.03, "far below: bolder than the cap");
        assert_eq!(governor.permit(&tally(25)).budget, 0.0);
        assert_eq!(governor.permit(&tally(20)).budget, 0.0, "still above 0.6");
        assert!(governor.permit(&tally(17)).budget > 0.0);
        assert_eq!(
            Governor::new(0.0, Formula::Ofcom).permit(&tally(0)).budget,
            0.0,
            "a cap of nought dials progressively"
        );
    }

    #[test]
    fn an_answer_rate_is_learned_by_the_hour() {
        let mut rate = AnswerRate::new(0.5);
        (0..400).for_each(|n| rate.learn(10, n % 5 == 0));
        assert!((rate.at(10) - 0.2).abs() < 0.04, "{}", rate.at(10));
        assert_eq!(rate.at(11), 0.5);
    }

    proptest! {
        #[test]
        fn a_smaller_budget_or_credit_never_starts_more_calls(
            free in 0_u32..40, busy in 0_u32..80, q in 0.0..0.5_f64, ringing in 0_u32..100, p in 0.02..0.9_f64,
            budget in 0.0..0.1_f64, credit in 0.0..50.0_f64,
        ) {
            let floor = Floor { free, busy, p_free_soon: q, waiting: 0, ringing, p_answer: p };
            let bold = predictive(&floor, budget, credit, &WIDE);
            prop_assert!(predictive(&floor, budget / 2.0, credit, &WIDE) <= bold);
            prop_assert!(predictive(&floor, budget, credit / 2.0, &WIDE) <= bold);
            prop_assert!(bold >= progressive(free, ringing, &WIDE));
            let one_more = Floor { ringing: ringing + 1, ..floor };
            prop_assert!(predictive(&one_more, budget, credit, &WIDE) <= bold);
        }
    }
}
