//! Is the new version worse? Asked after every call, without being fooled by asking often.
//!
//! Two shares are compared, such as failed calls among those of the new version and of the rest. The test is
//! the mixture sequential probability ratio test (Johari, Pekelis, Walsh: "Always valid inference", 2015,
//! section 4): over all the times that one may look, a version that is not worse is called worse with a
//! probability of at most [`ALPHA`].

/// The chance of a false alarm per figure, over a whole rollout.
pub const ALPHA: f64 = 0.01;
/// How large a difference is looked for at first, as a share; larger and smaller ones are found as well.
const TAU: f64 = 0.05;
/// Fewer cases than this on either side say nothing.
pub const LEAST_CASES: u64 = 50;
/// Fewer bad cases than this on both sides together say nothing: the normal approximation would not hold.
const LEAST_BAD: u64 = 5;

/// How many cases there were, and how many of them were bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Share {
    /// All cases.
    pub cases: u64,
    /// The bad ones.
    pub bad: u64,
}

impl Share {
    fn rate(self) -> f64 {
        self.bad as f64 / self.cases.max(1) as f64
    }
}

/// What the test says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Not known yet, or not worse.
    NotWorse,
    /// Worse, by this many percentage points as seen.
    Worse {
        /// The difference of the shares, 0 to 1.
        by: f64,
    },
}

/// Compares the share of bad cases of the new version with that of the rest.
pub fn judge(new: Share, rest: Share) -> Verdict {
    if new.cases < LEAST_CASES || rest.cases < LEAST_CASES || new.bad + rest.bad < LEAST_BAD {
        return Verdict::NotWorse;
    }
    let by = new.rate() - rest.rate();
    let pooled = Share { cases: new.cases + rest.cases, bad: new.bad + rest.bad }.rate();
    let variance = pooled * (1.0 - pooled) * (1.0 / new.cases as f64 + 1.0 / rest.cases as f64);
    if by <= 0.0 || variance <= 0.0 {
        return Verdict::NotWorse;
    }
    let tau2 = TAU * TAU;
    let log_ratio =
        0.5 * (variance / (variance + tau2)).ln() + by * by * tau2 / (2.0 * variance * (variance + tau2));
    // One-sided: half of the false alarms of the two-sided test would be in the good direction.
    if log_ratio >= (1.0 / (2.0 * ALPHA)).ln() { Verdict::Worse { by } } else { Verdict::NotWorse }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Looks after each of `calls` calls per side; returns after how many it cries.
    fn watch(rng: &mut ChaCha8Rng, new_rate: f64, rest_rate: f64, calls: u64) -> Option<u64> {
        let (mut new, mut rest) = (Share::default(), Share::default());
        for n in 1..=calls {
            for (share, rate) in [(&mut new, new_rate), (&mut rest, rest_rate)] {
                share.cases += 1;
                share.bad += u64::from(rng.random_bool(rate));
            }
            if judge(new, rest) != Verdict::NotWorse {
                return Some(n);
            }
        }
        None
    }

    #[test]
    fn a_version_that_is_no_worse_is_hardly_ever_accused_however_often_one_looks() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for rate in [0.03, 0.1, 0.3] {
            let alarms = (0..400).filter(|_| watch(&mut rng, rate, rate, 1_000).is_some()).count();
            // 1 % of 400 is 4; 12 are more than four standard deviations above.
            assert!(alarms <= 12, "{alarms} of 400 at {rate}");
        }
    }

    #[test]
    fn a_version_that_fails_twice_as_often_is_found_in_some_hundred_calls() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut found: Vec<u64> = (0..60).filter_map(|_| watch(&mut rng, 0.2, 0.1, 3_000)).collect();
        found.sort_unstable();
        assert!(found.len() >= 58, "{}", found.len());
        assert!(found[found.len() / 2] < 700, "{found:?}");
        let broken = watch(&mut rng, 0.9, 0.1, 3_000).unwrap();
        assert!(broken <= LEAST_CASES + 5, "{broken}");
    }

    #[test]
    fn few_cases_and_a_better_version_say_nothing() {
        let share = |cases, bad| Share { cases, bad };
        assert_eq!(judge(share(49, 49), share(1_000, 0)), Verdict::NotWorse);
        assert_eq!(judge(share(1_000, 0), share(1_000, 500)), Verdict::NotWorse);
        assert_eq!(judge(share(1_000, 1_000), share(1_000, 1_000)), Verdict::NotWorse);
        assert!(matches!(judge(share(100, 60), share(1_000, 50)), Verdict::Worse { by } if by > 0.5));
    }
}
