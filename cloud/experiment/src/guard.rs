//! When an arm must be stopped, however often one looks.
//!
//! Calls of the arm and of `control` are taken in pairs as they come in. Of each pair we bet a part of our wealth
//! that the arm did harm (`1`) and `control` did not (`-1` the other way round, `0` else) more often than the
//! declared rise allows. If the arm is within it, the wealth is a supermartingale, and by Ville's inequality it ever
//! reaches `1 / alpha` with a probability of at most `alpha`: the guard may be asked after each call, and stops a
//! harmless arm in no more than that share of experiments. Bets of several sizes are made side by side and
//! averaged, since nobody knows beforehand how harmful an arm is.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// The parts of the wealth that are bet side by side.
const BETS: [f64; 6] = [0.02, 0.05, 0.1, 0.2, 0.4, 0.8];
/// The most calls of one side that wait for one of the other; the oldest are dropped, whatever came of them.
const MOST_WAITING: usize = 10_000;

/// What the guard says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// There is no reason to stop.
    GoOn,
    /// The arm harms more customers than is allowed.
    Stop,
}

/// Watches one arm against `control`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    max_rise: f64,
    alpha: f64,
    wealth: [f64; BETS.len()],
    arm: VecDeque<bool>,
    control: VecDeque<bool>,
    pairs: u64,
    stopped: bool,
}

impl Guard {
    /// Starts to watch. `max_rise` is by how much the arm's share of harmed customers may exceed that of `control`,
    /// 0 to 1; `alpha` is the share of harmless arms that may be stopped by mistake, above 0 and below 1. Values
    /// out of range are moved into it.
    #[must_use]
    pub fn new(max_rise: f64, alpha: f64) -> Self {
        let within =
            |value: f64, least: f64, most: f64| if value.is_nan() { most } else { value.clamp(least, most) };
        Self {
            max_rise: within(max_rise, 0.0, 1.0),
            alpha: within(alpha, 1e-9, 0.5),
            wealth: [1.0; BETS.len()],
            arm: VecDeque::new(),
            control: VecDeque::new(),
            pairs: 0,
            stopped: false,
        }
    }

    /// Takes the result of one call of the arm.
    pub fn arm(&mut self, harmed: bool) -> Verdict {
        keep(&mut self.arm, harmed);
        self.pair()
    }

    /// Takes the result of one call of `control`.
    pub fn control(&mut self, harmed: bool) -> Verdict {
        keep(&mut self.control, harmed);
        self.pair()
    }

    /// Says what is so far; once stopped, an arm stays stopped.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.stopped { Verdict::Stop } else { Verdict::GoOn }
    }

    /// Returns how many pairs of calls have been compared.
    #[must_use]
    pub fn pairs(&self) -> u64 {
        self.pairs
    }

    fn pair(&mut self) -> Verdict {
        while let (Some(&arm), Some(&control)) = (self.arm.front(), self.control.front()) {
            self.arm.pop_front();
            self.control.pop_front();
            self.pairs += 1;
            // What is decided is decided; going on would only make numbers that no file can hold.
            if self.stopped {
                continue;
            }
            let harm = f64::from(i8::from(arm) - i8::from(control));
            for (wealth, bet) in self.wealth.iter_mut().zip(BETS) {
                // No bet can lose all: the worst outcome is -1 - max_rise.
                let part = bet / (1.0 + self.max_rise);
                *wealth *= 1.0 + part * (harm - self.max_rise);
            }
            let count = f64::from(u32::try_from(BETS.len()).unwrap_or(1));
            self.stopped |= self.wealth.iter().sum::<f64>() / count >= 1.0 / self.alpha;
        }
        self.verdict()
    }
}

fn keep(waiting: &mut VecDeque<bool>, harmed: bool) {
    if waiting.len() >= MOST_WAITING {
        waiting.pop_front();
    }
    waiting.push_back(harmed);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// The number of pairs after which a guard stops, if it does.
    fn stops(seed: u64, control: f64, arm: f64, pairs: u32) -> Option<u64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut guard = Guard::new(0.02, 0.05);
        for _ in 0..pairs {
            guard.control(rng.random_bool(control));
            if guard.arm(rng.random_bool(arm)) == Verdict::Stop {
                return Some(guard.pairs());
            }
        }
        None
    }

    #[test]
    fn a_harmless_arm_is_rarely_stopped_however_often_one_looks() {
        for (control, arm) in [(0.03, 0.03), (0.03, 0.05), (0.20, 0.22)] {
            let stopped = (0..400).filter(|seed| stops(*seed, control, arm, 2_000).is_some()).count();
            // 5 % of 400 is 20; three standard deviations more would be 33.
            assert!(stopped <= 33, "{stopped} of 400 at {control} against {arm}");
        }
    }

    #[test]
    fn a_harmful_arm_is_stopped_and_sooner_the_worse_it_is() {
        let median = |arm: f64| {
            let mut all: Vec<u64> =
                (0..50).map(|seed| stops(seed, 0.03, arm, 5_000).unwrap_or(u64::MAX)).collect();
            all.sort_unstable();
            all[25]
        };
        let (bad, worse) = (median(0.12), median(0.25));
        assert!(worse < bad && bad < 1_000, "{worse} and {bad} pairs");
    }

    #[test]
    fn a_guard_goes_on_after_it_was_stored() {
        let mut guard = Guard::new(0.02, 0.05);
        guard.control(false);
        guard.control(true);
        guard.arm(true);
        let stored = serde_json::to_string(&guard).unwrap();
        let mut read: Guard = serde_json::from_str(&stored).unwrap();
        assert_eq!((read.arm(true), read.pairs()), (guard.arm(true), 2));
        // JSON may round the last bit.
        let close = read.wealth.iter().zip(&guard.wealth).all(|(a, b)| (a - b).abs() < 1e-9);
        assert!(close && read.arm == guard.arm && read.control == guard.control, "{read:?}");
    }

    proptest! {
        #[test]
        fn no_sequence_of_calls_breaks_a_guard(
            max_rise: f64,
            alpha: f64,
            calls in prop::collection::vec(any::<(bool, bool)>(), 0..400),
        ) {
            let mut guard = Guard::new(max_rise, alpha);
            let mut before = Verdict::GoOn;
            for (arm, harmed) in calls {
                let now = if arm { guard.arm(harmed) } else { guard.control(harmed) };
                prop_assert!(before == Verdict::GoOn || now == Verdict::Stop, "what is stopped stays stopped");
                prop_assert!(guard.wealth.iter().all(|w| w.is_finite() && *w >= 0.0));
                before = now;
            }
        }
    }
}
