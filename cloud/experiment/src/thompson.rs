//! Which arm the next customer gets when an experiment is to learn while it runs (Thompson sampling).
//!
//! What is known of an arm's rate of success is a Beta distribution of what it has achieved. A rate is drawn from
//! each arm's, and the arm with the highest gets the customer: an arm is tried as often as it may be the best.
//! A floor keeps a share for each arm, so that a guard still sees `control`.

use std::collections::BTreeMap;

use rand::Rng;
use serde::{Deserialize, Serialize};

/// What an arm has achieved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Finished calls.
    pub calls: u64,
    /// Those of them that ended with the experiment's outcome.
    pub successes: u64,
}

/// Draws arms by what they have achieved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Thompson {
    /// By arm.
    pub arms: BTreeMap<String, Tally>,
    /// The share of customers that is spread evenly, 0 to 1.
    pub floor: f64,
}

impl Thompson {
    /// Starts with arms of which nothing is known.
    pub fn new<'a>(arms: impl IntoIterator<Item = &'a str>, floor: f64) -> Self {
        let arms = arms.into_iter().map(|arm| (arm.to_owned(), Tally::default())).collect();
        Self { arms, floor }
    }

    /// Draws an arm for a customer; none when there are no arms.
    pub fn draw(&self, rng: &mut impl Rng) -> Option<&str> {
        let names: Vec<&str> = self.arms.keys().map(String::as_str).collect();
        if names.is_empty() {
            return None;
        }
        if rng.random::<f64>() < self.floor {
            return names.get(rng.random_range(0..names.len())).copied();
        }
        let drawn = self.arms.iter().map(|(name, tally)| (beta(*tally, rng), name.as_str()));
        drawn.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
    }

    /// Takes the result of a call; an arm that is not known is left out.
    pub fn learn(&mut self, arm: &str, success: bool) {
        if let Some(tally) = self.arms.get_mut(arm) {
            tally.calls += 1;
            tally.successes += u64::from(success);
        }
    }
}

/// Draws a rate of success: Beta(1 + successes, 1 + failures), as the share of two Gamma draws.
fn beta(tally: Tally, rng: &mut impl Rng) -> f64 {
    let count = |n: u64| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    let good = gamma(1.0 + count(tally.successes), rng);
    let bad = gamma(1.0 + count(tally.calls.saturating_sub(tally.successes)), rng);
    good / (good + bad)
}

/// Draws from a Gamma distribution of scale 1 and a shape of 1 or more (Marsaglia and Tsang, 2000).
fn gamma(shape: f64, rng: &mut impl Rng) -> f64 {
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(rng);
        let v = (1.0 + c * x).powi(3);
        if v <= 0.0 {
            continue;
        }
        let u = 1.0 - rng.random::<f64>();
        if u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

/// Draws from the standard normal distribution (Box and Muller, 1958).
fn normal(rng: &mut impl Rng) -> f64 {
    // Never 0, whose logarithm there is not.
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn a_drawn_rate_has_the_mean_and_the_spread_of_a_beta_distribution() {
        for (calls, successes) in [(0, 0), (10, 2), (200, 50)] {
            let mut rng = ChaCha8Rng::seed_from_u64(7);
            let drawn: Vec<f64> = (0..20_000).map(|_| beta(Tally { calls, successes }, &mut rng)).collect();
            let mean = drawn.iter().sum::<f64>() / 20_000.0;
            let variance = drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0;
            let (a, b) = (1.0 + successes as f64, 1.0 + (calls - successes) as f64);
            let (wanted, spread) = (a / (a + b), a * b / ((a + b).powi(2) * (a + b + 1.0)));
            assert!((mean - wanted).abs() < 0.01, "{mean} is not {wanted}");
            assert!((variance / spread - 1.0).abs() < 0.1, "{variance} is not {spread}");
        }
    }

    #[test]
    fn the_better_arm_gets_most_customers_and_the_other_its_floor() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut policy = Thompson::new(["control", "other"], 0.1);
        for _ in 0..4_000 {
            let arm = policy.draw(&mut rng).unwrap().to_owned();
            let rate = if arm == "other" { 0.3 } else { 0.2 };
            let success = rng.random_bool(rate);
            policy.learn(&arm, success);
        }
        let share = policy.arms["other"].calls as f64 / 4_000.0;
        assert!((0.8..0.96).contains(&share), "{share}");
    }

    #[test]
    fn a_seed_replays_the_draws_and_no_arms_draw_none() {
        let policy = Thompson::new(["a", "b", "c"], 0.0);
        let draws = |seed| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            (0..20).map(|_| policy.draw(&mut rng).unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(draws(3), draws(3));
        assert_eq!(Thompson::default().draw(&mut ChaCha8Rng::seed_from_u64(3)), None);
    }
}
