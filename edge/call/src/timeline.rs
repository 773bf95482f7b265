//! From the monotonic clock to the times that stand in a record.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// One instant on both clocks, from which every other is reckoned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeline {
    mono: Instant,
    wall: Timestamp,
}

impl Timeline {
    pub(crate) fn new(mono: Instant, wall: Timestamp) -> Self {
        Self { mono, wall }
    }

    /// Returns the wall-clock time of `at`, unmoved by steps of the wall clock during the call.
    pub(crate) fn wall(&self, at: Instant) -> Timestamp {
        let since = at.saturating_duration_since(self.mono);
        self.wall.checked_add(SignedDuration::try_from(since).unwrap_or_default()).unwrap_or(self.wall)
    }
}

/// Returns the seconds from `from` to `to`, 0 when `to` is earlier.
pub(crate) fn seconds(from: Instant, to: Instant) -> f32 {
    to.saturating_duration_since(from).as_secs_f32()
}

/// Returns the milliseconds from `from` to `to`, negative when `to` is earlier.
pub(crate) fn signed_ms(from: Instant, to: Instant) -> f32 {
    match to.checked_duration_since(from) {
        Some(after) => ms(after),
        None => -ms(from.saturating_duration_since(to)),
    }
}

fn ms(duration: Duration) -> f32 {
    duration.as_secs_f32() * 1_000.0
}
