//! What the counts of an endpoint say about how a call sounds.

use std::time::Duration;

use trunkline_rtp::rtcp::RtcpNews;
use trunkline_rtp::rtcp::quality::{Robustness, estimate};
use trunkline_trace::MediaReport;

use crate::media::MediaStats;

/// A packet, and what the far end's jitter buffer holds, as it does not say how much.
const FAR_BUFFER: Duration = Duration::from_millis(60);

/// What the far end reports of our packets, and the keys of either side.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FarEnd {
    /// Reports about our packets.
    pub reports: u32,
    /// Sum of the shares that were lost, one for each report.
    loss_sum: f32,
    /// Jitter of our packets there, in milliseconds, as last reported.
    jitter_ms: f32,
    /// The way there and back, the shortest that was seen.
    pub round_trip: Option<Duration>,
    /// Telephone events that came.
    pub keys_heard: u32,
    /// Telephone events that were ordered.
    pub keys_sent: u32,
}

impl FarEnd {
    /// Takes a datagram of reports in about packets whose clock runs at `clock_hz`.
    pub(crate) fn take(&mut self, news: &RtcpNews, clock_hz: u32) {
        if let (Some(loss), Some(jitter)) = (news.far_loss, news.far_jitter) {
            self.reports += 1;
            self.loss_sum += loss;
            self.jitter_ms = (f64::from(jitter) * 1_000.0 / f64::from(clock_hz.max(1))) as f32;
        }
        self.round_trip = match (self.round_trip, news.round_trip) {
            (Some(least), Some(now)) => Some(least.min(now)),
            (least, now) => now.or(least),
        };
    }

    /// Returns the share of our packets that the far end missed, 0 to 1; `None` without a report.
    pub fn loss(&self) -> Option<f32> {
        (self.reports > 0).then(|| self.loss_sum / self.reports as f32)
    }

    /// Returns the jitter of our packets there, in milliseconds.
    pub fn jitter_ms(&self) -> Option<f32> {
        (self.reports > 0).then_some(self.jitter_ms)
    }
}

impl MediaStats {
    /// Returns the share of the far end's packets that were not played, lost or late, 0 to 1.
    pub fn loss(&self) -> f32 {
        let played = self.received.saturating_sub(self.late);
        let expected = played + self.lost;
        if expected == 0 { 0.0 } else { self.lost as f32 / expected as f32 }
    }

    /// Estimates how the far end sounds here (ITU-T G.107), 1 to 4.5; `None` when nothing came.
    pub fn mos_heard(&self) -> Option<f32> {
        let robustness = Robustness::G711_CONCEALED;
        (self.received > 0).then(|| estimate(robustness, self.loss(), 1.0, self.one_way()).mos)
    }

    /// Estimates how we sound there; `None` when the far end does not report.
    pub fn mos_sent(&self) -> Option<f32> {
        self.far.loss().map(|loss| estimate(Robustness::G711_CONCEALED, loss, 1.0, self.one_way()).mos)
    }

    fn one_way(&self) -> Duration {
        self.far.round_trip.unwrap_or_default() / 2 + FAR_BUFFER
    }

    /// Returns what is kept with the trace of a call. `codec`: its name in SDP. There is no estimate for Opus, whose
    /// robustness ITU-T G.113 does not list.
    pub fn report(&self, codec: &str, encrypted: bool) -> MediaReport {
        let listed = codec.starts_with("PCM");
        MediaReport {
            codec: codec.to_owned(),
            encrypted,
            received: self.received,
            sent: self.sent,
            lost: self.lost,
            late: self.late,
            duplicate: self.duplicate,
            reordered: self.reordered,
            forged: self.forged,
            jitter_ms: self.jitter_ms,
            mos_heard: self.mos_heard().filter(|_| listed),
            far_loss: self.far.loss(),
            far_jitter_ms: self.far.jitter_ms(),
            mos_sent: self.mos_sent().filter(|_| listed),
            round_trip_ms: self.far.round_trip.map(|time| time.as_secs_f32() * 1_000.0),
            keys_heard: self.far.keys_heard,
            keys_sent: self.far.keys_sent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_far_end_reports_becomes_loss_jitter_and_an_opinion() {
        let mut stats = MediaStats { received: 90, late: 0, lost: 10, ..MediaStats::default() };
        assert!((stats.loss() - 0.1).abs() < 1e-6);
        assert_eq!((stats.far.loss(), stats.mos_sent()), (None, None));
        for (loss, ms) in [(0.0, 30), (0.5, 20), (0.1, 40)] {
            let news = RtcpNews {
                round_trip: Some(Duration::from_millis(ms)),
                far_loss: Some(loss),
                far_jitter: Some(80),
                ..RtcpNews::default()
            };
            stats.far.take(&news, 8_000);
        }
        assert!((stats.far.loss().unwrap() - 0.2).abs() < 1e-6);
        assert_eq!(stats.far.jitter_ms(), Some(10.0));
        assert_eq!(stats.far.round_trip, Some(Duration::from_millis(20)));
        assert!(stats.mos_heard().unwrap() > stats.mos_sent().unwrap());
        assert_eq!(MediaStats::default().mos_heard(), None);
        let report = stats.report("PCMA", true);
        assert_eq!((report.lost, report.encrypted, report.round_trip_ms), (10, true, Some(20.0)));
        assert!(report.mos_sent.is_some() && stats.report("opus", true).mos_sent.is_none());
        stats
            .far
            .take(&RtcpNews { far_loss: Some(0.0), far_jitter: Some(480), ..RtcpNews::default() }, 48_000);
        assert_eq!(stats.far.jitter_ms(), Some(10.0), "the clock of Opus is six times as fast");
    }
}
