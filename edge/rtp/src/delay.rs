//! How late packets are, and how long to hold them for it.

/// Estimates the shortest way through the network and how much longer other packets take.
///
/// All times are ticks of 1/8000 s. A packet's transit is its arrival on our clock less its time on
/// the sender's; the two clocks have nothing in common, so only differences of transits mean anything.
#[derive(Clone, Debug)]
pub(crate) struct DelayEstimate {
    /// Shortest transit of the current and of the last window. Two windows and not all of the past,
    /// because the two clocks drift apart.
    shortest: [i64; 2],
    window_since: i64,
    /// Share of packets by lateness over the shortest transit, in steps of [`STEP`].
    share: [f32; STEPS],
    seen: u32,
}

impl DelayEstimate {
    /// Begins with the belief that packets are up to `late` ticks late.
    pub(crate) fn new(late: i64) -> Self {
        let mut share = [0.0; STEPS];
        share[step_of(late - MARGIN)] = 1.0;
        Self { shortest: [i64::MAX; 2], window_since: i64::MIN, share, seen: 0 }
    }

    /// Forgets the sender's clock, but not how the network behaves.
    pub(crate) fn restart(&mut self) {
        self.shortest = [i64::MAX; 2];
        self.window_since = i64::MIN;
    }

    /// Takes the transit of a packet that arrived at `now`.
    pub(crate) fn observe(&mut self, now: i64, transit: i64) {
        if self.window_since == i64::MIN {
            self.window_since = now;
        }
        if now - self.window_since >= WINDOW {
            self.shortest = [transit, self.shortest[0]];
            self.window_since = now;
        } else {
            self.shortest[0] = self.shortest[0].min(transit);
        }
        self.seen = self.seen.saturating_add(1);
        let weight = (1.0 / (self.seen as f32 + 1.0)).max(FORGET);
        for share in &mut self.share {
            *share *= 1.0 - weight;
        }
        self.share[step_of(transit - self.shortest_transit().unwrap_or(transit))] += weight;
    }

    /// The shortest transit seen lately, if any packet was.
    pub(crate) fn shortest_transit(&self) -> Option<i64> {
        let shortest = self.shortest[0].min(self.shortest[1]);
        (shortest != i64::MAX).then_some(shortest)
    }

    /// How long to hold a packet so that all but the latest few are there in time.
    pub(crate) fn hold(&self) -> i64 {
        let mut later = 0.0;
        let mut step = STEPS;
        while step > 0 {
            step -= 1;
            later += self.share[step];
            if later > TOO_LATE {
                break;
            }
        }
        (step as i64 + 1) * STEP + MARGIN
    }
}

fn step_of(late: i64) -> usize {
    usize::try_from(late.max(0) / STEP).unwrap_or(usize::MAX).min(STEPS - 1)
}

/// 5 ms.
const STEP: i64 = 40;

/// 0 to 205 ms; the last step holds everything later.
const STEPS: usize = 41;

/// The ticks that pop frames are themselves some milliseconds early or late.
const MARGIN: i64 = 40;

/// The share of packets that we let be too late, because waiting for them costs everybody delay.
const TOO_LATE: f32 = 0.015;

/// Weight of the newest packet: a memory of some five seconds at 50 packets a second.
const FORGET: f32 = 1.0 / 256.0;

/// Four seconds: crystals that differ by 100 ppm drift 0.4 ms in it.
const WINDOW: i64 = 32_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calm_network_needs_two_steps_after_a_second() {
        let mut estimate = DelayEstimate::new(320);
        assert_eq!(estimate.hold(), 360);
        for packet in 0..100 {
            estimate.observe(packet * 160, -7_000);
        }
        assert_eq!(estimate.hold(), STEP + MARGIN);
        assert_eq!(estimate.shortest_transit(), Some(-7_000));
    }

    #[test]
    fn one_packet_in_ten_that_is_60_ms_late_is_waited_for() {
        let mut estimate = DelayEstimate::new(320);
        for packet in 0..200 {
            estimate.observe(packet * 160, if packet % 10 == 0 { 480 } else { 0 });
        }
        assert_eq!(estimate.hold(), 13 * STEP + MARGIN);
    }

    #[test]
    fn drifting_clocks_do_not_count_as_lateness() {
        let mut estimate = DelayEstimate::new(320);
        for packet in 0..50_000 {
            estimate.observe(packet * 160, packet * 160 / 10_000);
        }
        assert!(estimate.hold() <= 2 * STEP + MARGIN);
    }
}
