//! What time it is, on a box whose clock may be wrong by decades.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// No clock is right that is before this: the software did not exist. Raised with releases.
pub const BUILT: &str = "2026-11-01T00:00:00Z";

/// The cloud's word counts when the own clock differs from it by more than this.
const TOLERATED: SignedDuration = SignedDuration::from_mins(5);

/// The wall clock as the box believes it. Clones share what was learned.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

struct Inner {
    system: fn() -> Timestamp,
    built: Timestamp,
    started: Instant,
    learned: Mutex<Option<(Timestamp, Instant)>>,
}

impl Clock {
    /// Takes the machine's clock for right unless it is before [`BUILT`].
    pub fn of_the_machine() -> Self {
        Self::new(Timestamp::now)
    }

    /// Takes another clock in the place of the machine's; for tests of dead batteries.
    pub fn new(system: fn() -> Timestamp) -> Self {
        // A constant that the test below reads.
        let built = BUILT.parse().unwrap_or(Timestamp::UNIX_EPOCH);
        Self(Arc::new(Inner { system, built, started: Instant::now(), learned: Mutex::new(None) }))
    }

    /// Returns the time: what the cloud said plus what has passed since, or the machine's clock, but never a
    /// time before the software was built.
    pub fn now(&self) -> Timestamp {
        let learned = *self.0.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let now = match learned {
            Some((at, since)) => {
                at.saturating_add(SignedDuration::try_from(since.elapsed()).unwrap_or_default()).unwrap_or(at)
            }
            None => (self.0.system)(),
        };
        now.max(self.0.built)
    }

    /// Says whether the time can be trusted to be about right.
    pub fn is_known(&self) -> bool {
        self.0.learned.lock().unwrap_or_else(PoisonError::into_inner).is_some()
            || (self.0.system)() >= self.0.built
    }

    /// Takes the time from the cloud, whose certificate was checked. Returns by how much the own clock was
    /// wrong, when it was.
    pub fn learn(&self, told: Timestamp) -> Option<SignedDuration> {
        let off = (self.0.system)().duration_since(told);
        let wrong = off.abs() > TOLERATED;
        *self.0.learned.lock().unwrap_or_else(PoisonError::into_inner) =
            wrong.then(|| (told, Instant::now()));
        wrong.then_some(off)
    }

    /// Returns by how much the machine's clock is ahead of what the cloud said, once it was found to be wrong.
    pub fn off(&self) -> SignedDuration {
        let learned = self.0.learned.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if learned { (self.0.system)().duration_since(self.now()) } else { SignedDuration::ZERO }
    }

    /// Returns the time since the process started; never goes back.
    pub fn since_start(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// Returns the day the software was built.
    pub fn built(&self) -> Timestamp {
        self.0.built
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_battery_is_noticed_and_the_cloud_sets_the_clock() {
        let clock = Clock::new(|| Timestamp::UNIX_EPOCH);
        assert!(!clock.is_known());
        assert_eq!(clock.now(), BUILT.parse::<Timestamp>().unwrap());
        let told: Timestamp = "2027-03-01T08:00:00Z".parse().unwrap();
        assert!(clock.learn(told).is_some());
        assert!(clock.is_known() && clock.now() >= told);
    }

    #[test]
    fn a_clock_that_is_nearly_right_is_kept() {
        let clock = Clock::of_the_machine();
        assert!(clock.learn(Timestamp::now() + SignedDuration::from_secs(3)).is_none());
        let later = Timestamp::now() + SignedDuration::from_hours(48);
        assert!(clock.learn(later).is_some() && clock.now() >= later);
        assert!(clock.learn(Timestamp::now()).is_none(), "and right again once the machine's is");
    }
}
