//! Whether the box can hear one more caller in time.

use std::time::Duration;

use trunkline_speech::recognise::PoolStats;

/// The most that recognition may take, waiting included: with 100 ms until a pause is seen, the cloud's answer and
/// the first packet it makes the 800 ms in which a caller is promised an answer.
const IN_TIME: Duration = Duration::from_millis(500);
/// So many recognitions tell how long one takes; before that nobody knows.
const ENOUGH: u64 = 8;

/// Returns how long recognition will take with one more call, when that is too long. With no call under way any
/// call is taken: what was measured is then of another hour.
pub(crate) fn too_late(stats: &PoolStats, calls: usize) -> Option<Duration> {
    if calls == 0 || stats.done < ENOUGH {
        return None;
    }
    // A queue grows faster than the calls do: in proportion is the least that it will grow.
    let wait = stats.mean_queued.mul_f32((calls + 1) as f32 / calls as f32).max(stats.expected_wait());
    Some(wait + stats.mean_run).filter(|expected| *expected > IN_TIME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(done: u64, run_ms: u64, queued_ms: u64) -> PoolStats {
        PoolStats {
            workers: 2,
            done,
            mean_run: Duration::from_millis(run_ms),
            mean_queued: Duration::from_millis(queued_ms),
            ..PoolStats::default()
        }
    }

    #[test]
    fn a_box_that_answers_late_takes_no_further_call_and_takes_one_again_when_it_has_caught_up() {
        assert_eq!(too_late(&stats(100, 200, 20), 3), None);
        let late = too_late(&stats(100, 250, 240), 3).unwrap();
        assert!((560..=580).contains(&late.as_millis()), "{late:?}");
        assert_eq!(too_late(&stats(100, 250, 240), 0), None, "an idle box takes a call whatever was before");
        assert_eq!(too_late(&stats(3, 900, 900), 1), None, "nothing is known yet");
        let queued = PoolStats { queued: 6, busy: 2, ..stats(100, 200, 0) };
        assert!(too_late(&queued, 4).is_some(), "a queue is a delay before it shows in the means");
    }
}
