//! How long customers wait for words: times in buckets, and which of them are late beside the rest's.

use std::collections::BTreeMap;

use crate::sequential::{LEAST_CASES, Share};

/// Times are counted in buckets, each this much longer than the one before.
const STEP: f64 = 1.1;
/// The end of the first bucket, in milliseconds.
const FIRST_MS: f64 = 50.0;
/// Times beyond the start of the last bucket, some 37 s, are one.
const LAST: u8 = 70;
/// Of the rest, this share of times at most is late.
const LATE: f64 = 0.05;

/// Returns the bucket of a time in milliseconds.
pub fn bucket(ms: f64) -> u8 {
    let n = (ms.max(FIRST_MS) / FIRST_MS).ln() / STEP.ln();
    // A cast of a float saturates; what is no number is the first bucket.
    (n as u8).min(LAST)
}

/// Times, counted by bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times(BTreeMap<u8, u64>);

impl Times {
    /// Counts so many times in a bucket.
    pub fn add(&mut self, bucket: u8, n: u64) {
        *self.0.entry(bucket).or_default() += n;
    }

    /// Counts all of these too.
    pub fn add_all(&mut self, other: &Self) {
        other.0.iter().for_each(|(bucket, n)| self.add(*bucket, *n));
    }

    fn cases(&self) -> u64 {
        self.0.values().sum()
    }

    fn beyond(&self, bucket: u8) -> u64 {
        self.0.range(bucket..).skip_while(|(at, _)| **at <= bucket).map(|(_, n)| n).sum()
    }
}

/// Returns how many times are late on the new version and on the rest: beyond the bucket within which 95 of 100 of the
/// rest's lie. Few times of the rest say nothing of where that is, and then none are counted.
pub fn late(new: &Times, rest: &Times) -> (Share, Share) {
    if rest.cases() < LEAST_CASES {
        return Default::default();
    }
    let may = (rest.cases() as f64 * LATE) as u64;
    let limit = (0..=LAST).find(|bucket| rest.beyond(*bucket) <= may).unwrap_or(LAST);
    let share = |times: &Times| Share { cases: times.cases(), bad: times.beyond(limit) };
    (share(new), share(rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sequential::{Verdict, judge};

    fn times(each: impl IntoIterator<Item = f64>) -> Times {
        let mut times = Times::default();
        each.into_iter().for_each(|ms| times.add(bucket(ms), 1));
        times
    }

    #[test]
    fn replies_that_became_a_half_slower_are_found_and_the_same_ones_are_not() {
        // 400 ms to 800 ms, evenly.
        let rest = times((0..2_000).map(|n| 400.0 + f64::from(n) / 5.0));
        let same = times((0..400).map(|n| 400.0 + f64::from(n)));
        let slow = times((0..400).map(|n| 600.0 + f64::from(n) * 1.5));
        let (new, old) = late(&same, &rest);
        assert!(old.bad * 20 <= old.cases, "{old:?}");
        assert_eq!(judge(new, old), Verdict::NotWorse, "{new:?} {old:?}");
        let (new, old) = late(&slow, &rest);
        assert!(matches!(judge(new, old), Verdict::Worse { by } if by > 0.3), "{new:?} {old:?}");
    }

    #[test]
    fn few_times_of_the_rest_accuse_nobody() {
        let (new, rest) = late(&times([5_000.0; 500]), &times([300.0; 49]));
        assert_eq!((new.cases, rest.cases), (0, 0));
    }

    #[test]
    fn odd_times_have_a_bucket() {
        for (ms, wanted) in
            [(0.0, 0), (-5.0, 0), (f64::NAN, 0), (60.0, 1), (f64::INFINITY, LAST), (1e9, LAST)]
        {
            assert_eq!(bucket(ms), wanted, "{ms}");
        }
    }

    proptest! {
        #[test]
        fn of_the_rest_hardly_more_than_5_of_100_are_ever_late(each in prop::collection::vec(1.0f64..60_000.0, 50..300)) {
            let rest = times(each);
            let (new, old) = late(&rest, &rest);
            prop_assert_eq!(new, old);
            prop_assert!(old.bad * 20 <= old.cases);
        }

        #[test]
        fn longer_times_have_later_buckets(a in 0.0f64..100_000.0, b in 0.0f64..100_000.0) {
            prop_assert!(a > b || bucket(a) <= bucket(b));
        }
    }
}
