//! What is answered to whom nobody asked for: a little, from a bucket for each source and one for all.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

/// Answers to one stranger: so many at once, and so many a second.
const BURST: f64 = 5.0;
const PER_SECOND: f64 = 0.5;
/// Answers to all strangers together.
const BURST_OF_ALL: f64 = 20.0;
const PER_SECOND_OF_ALL: f64 = 10.0;
/// Strangers remembered; a flood from forged sources must not fill the memory.
const MAX_SOURCES: usize = 1_024;

/// The buckets of all strangers.
#[derive(Debug)]
pub(super) struct Strangers {
    all: Bucket,
    by_source: BTreeMap<IpAddr, Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Option<Instant>,
}

impl Bucket {
    fn full(burst: f64) -> Self {
        Self { left: burst, at: None }
    }

    fn refill(&mut self, now: Instant, burst: f64, per_second: f64) {
        let since = self.at.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.at = Some(now);
        self.left = (self.left + since * per_second).min(burst);
    }
}

impl Strangers {
    pub(super) fn new() -> Self {
        Self { all: Bucket::full(BURST_OF_ALL), by_source: BTreeMap::new() }
    }

    /// Tells whether one more answer may go to `source`.
    pub(super) fn take(&mut self, now: Instant, source: IpAddr) -> bool {
        self.all.refill(now, BURST_OF_ALL, PER_SECOND_OF_ALL);
        if self.all.left < 1.0 {
            return false;
        }
        if !self.by_source.contains_key(&source) && self.by_source.len() >= MAX_SOURCES {
            // Whoever has been quiet for long enough has a full bucket again and need not be remembered.
            self.by_source.retain(|_, bucket| {
                bucket.refill(now, BURST, PER_SECOND);
                bucket.left < BURST
            });
            if self.by_source.len() >= MAX_SOURCES {
                return false;
            }
        }
        let bucket = self.by_source.entry(source).or_insert(Bucket::full(BURST));
        bucket.refill(now, BURST, PER_SECOND);
        if bucket.left < 1.0 {
            return false;
        }
        bucket.left -= 1.0;
        self.all.left -= 1.0;
        true
    }

    /// Returns how many are remembered.
    pub(super) fn len(&self) -> usize {
        self.by_source.len()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    fn source(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(0xcb00_7100 + n))
    }

    #[test]
    fn one_source_empties_its_own_bucket_and_not_that_of_others() {
        let (mut strangers, now) = (Strangers::new(), Instant::now());
        let answered = (0..100).filter(|_| strangers.take(now, source(1))).count();
        assert_eq!(answered, 5);
        assert!(strangers.take(now, source(2)));
        let later = now + Duration::from_secs(60);
        assert_eq!((0..100).filter(|_| strangers.take(later, source(1))).count(), 5);
    }

    #[test]
    fn a_flood_from_many_sources_is_answered_slowly_and_remembered_within_bounds() {
        let (mut strangers, t0) = (Strangers::new(), Instant::now());
        let mut answered = 0;
        for n in 0..100_000 {
            let now = t0 + Duration::from_micros(100 * u64::from(n));
            answered += usize::from(strangers.take(now, source(n)));
        }
        assert!((20..=125).contains(&answered), "{answered} in 10 s");
        assert!(strangers.len() <= MAX_SOURCES);
    }
}
