//! What arrived of the peer's stream (RFC 3550 §6.4.1, appendices A.1, A.3 and A.8).

use std::time::{Duration, Instant};

use super::{NtpTime, ReportBlock};
use crate::{RtpPacket, RtpTicks, Seq, Ssrc};

/// Counts the packets of one incoming stream, whatever they carry.
#[derive(Clone, Debug)]
pub struct Reception {
    clock_hz: u32,
    source: Option<Source>,
}

/// Where a stream stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReceptionStats {
    /// Packets that arrived, repeated ones included.
    pub received: u64,
    /// Packets that the numbers say were sent.
    pub expected: u64,
    /// Those that did not arrive; repeated packets can make it negative.
    pub lost: i64,
    /// Lost over expected, 0 to 1.
    pub loss_fraction: f32,
    /// Mean deviation of arrival times, in milliseconds.
    pub jitter_ms: f32,
}

#[derive(Clone, Debug)]
struct Source {
    ssrc: Ssrc,
    first_seq: u32,
    highest_seq: u32,
    received: u64,
    /// What the totals were at the last report.
    reported: (u64, u64),
    /// Arrival and media time of the last packet.
    last: (Instant, RtpTicks),
    jitter_ticks: f64,
    last_sr: Option<(Instant, NtpTime)>,
}

impl Reception {
    /// Begins to count a stream whose media clock runs at `clock_hz`.
    #[must_use]
    pub fn new(clock_hz: u32) -> Self {
        Self { clock_hz: clock_hz.max(1), source: None }
    }

    /// Takes a packet. A new source, or numbers that jump, begin the count anew.
    pub fn on_packet(&mut self, now: Instant, packet: &RtpPacket<'_>) {
        let begin = |last_sr| Source {
            ssrc: packet.ssrc,
            first_seq: u32::from(packet.seq.0),
            highest_seq: u32::from(packet.seq.0),
            received: 1,
            reported: (0, 0),
            last: (now, packet.ticks),
            jitter_ticks: 0.0,
            last_sr,
        };
        let Some(source) = self.source.as_mut().filter(|source| source.ssrc == packet.ssrc) else {
            self.source = Some(begin(None));
            return;
        };
        let ahead = packet.seq.since(Seq(source.highest_seq as u16));
        if ahead.unsigned_abs() > SEQ_JUMP {
            *source = begin(source.last_sr);
            return;
        }
        if ahead > 0 {
            source.highest_seq = source.highest_seq.wrapping_add(u32::from(ahead.unsigned_abs()));
        }
        source.received += 1;
        // Packets of one telephone event share their time and would count as jitter; so would a
        // clock that was set anew.
        let ticks = packet.ticks.since(source.last.1);
        if ticks != 0 {
            let arrival = now.saturating_duration_since(source.last.0).as_secs_f64();
            let deviation = (arrival * f64::from(self.clock_hz) - f64::from(ticks)).abs();
            if deviation < f64::from(self.clock_hz) * 5.0 {
                source.jitter_ticks += (deviation - source.jitter_ticks) / 16.0;
            }
            source.last = (now, packet.ticks);
        }
    }

    /// Remembers a sender report of the stream, so that the peer can measure the round trip.
    pub fn on_sender_report(&mut self, now: Instant, ssrc: Ssrc, ntp: NtpTime) {
        if let Some(source) = self.source.as_mut().filter(|source| source.ssrc == ssrc) {
            source.last_sr = Some((now, ntp));
        }
    }

    /// Makes the next report block, `None` when nothing has arrived. The loss fraction is that since
    /// the last call.
    pub fn report(&mut self, now: Instant) -> Option<ReportBlock> {
        let source = self.source.as_mut()?;
        let expected = source.expected();
        let lost = expected as i64 - source.received as i64;
        let (expected_before, received_before) = source.reported;
        let expected_now = expected.saturating_sub(expected_before);
        let lost_now = expected_now as i64 - (source.received - received_before) as i64;
        let fraction_lost = match u64::try_from(lost_now) {
            Ok(lost) if expected_now > 0 => (lost * 256 / expected_now).min(255) as u8,
            Ok(_) | Err(_) => 0,
        };
        source.reported = (expected, source.received);
        let (last_sr, delay_since_sr) = source.last_sr.map_or((0, 0), |(at, ntp)| {
            let delay = now.saturating_duration_since(at).as_nanos() * 65_536 / 1_000_000_000;
            (ntp.middle(), u32::try_from(delay).unwrap_or(u32::MAX))
        });
        Some(ReportBlock {
            ssrc: source.ssrc,
            fraction_lost,
            lost: lost.clamp(-0x80_0000, 0x7f_ffff) as i32,
            highest_seq: source.highest_seq,
            jitter: source.jitter_ticks as u32,
            last_sr,
            delay_since_sr,
        })
    }

    /// Returns where the stream stands.
    #[must_use]
    pub fn stats(&self) -> ReceptionStats {
        let Some(source) = &self.source else { return ReceptionStats::default() };
        let expected = source.expected();
        let lost = expected as i64 - source.received as i64;
        ReceptionStats {
            received: source.received,
            expected,
            lost,
            loss_fraction: lost.max(0) as f32 / expected.max(1) as f32,
            jitter_ms: (source.jitter_ticks * 1_000.0 / f64::from(self.clock_hz)) as f32,
        }
    }
}

impl Source {
    fn expected(&self) -> u64 {
        u64::from(self.highest_seq.wrapping_sub(self.first_seq)) + 1
    }
}

/// Returns the round trip that a peer's report block about our stream shows; `now` is our wall clock.
///
/// `None` when the peer has no report of ours, or its figures cannot be.
pub(crate) fn round_trip(now: NtpTime, block: &ReportBlock) -> Option<Duration> {
    if block.last_sr == 0 {
        return None;
    }
    let units = now.middle().wrapping_sub(block.last_sr).wrapping_sub(block.delay_since_sr);
    let trip = Duration::from_nanos(u64::from(units) * 1_000_000_000 / 65_536);
    (trip < Duration::from_secs(60)).then_some(trip)
}

/// RFC 3550 appendix A.1, MAX_DROPOUT.
const SEQ_JUMP: u16 = 3_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Csrcs;

    fn packet(seq: u16, ticks: u32) -> RtpPacket<'static> {
        RtpPacket {
            marker: false,
            payload_type: 8,
            seq: Seq(seq),
            ticks: RtpTicks(ticks),
            ssrc: Ssrc(5),
            csrc: Csrcs::default(),
            extension: None,
            padding: 0,
            payload: &[],
        }
    }

    #[test]
    fn one_packet_in_four_lost_is_a_quarter_now_and_less_in_all() {
        let start = Instant::now();
        let mut reception = Reception::new(8_000);
        assert_eq!(reception.report(start), None);
        for n in 0..200u32 {
            if n < 100 || n % 4 != 3 {
                let now = start + Duration::from_millis(u64::from(n) * 20);
                reception.on_packet(now, &packet(65_500u16.wrapping_add(n as u16), n * 160));
            }
            if n == 99 {
                assert_eq!(reception.report(start).unwrap().fraction_lost, 0);
            }
        }
        let last = start + Duration::from_secs(4);
        reception.on_packet(last, &packet(65_500u16.wrapping_add(200), 200 * 160));
        let block = reception.report(last).unwrap();
        assert_eq!((block.fraction_lost, block.lost), ((25 * 256 / 101) as u8, 25));
        assert_eq!(block.highest_seq, 65_700);
        let stats = reception.stats();
        assert_eq!((stats.received, stats.expected, stats.lost), (176, 201, 25));
        assert!(stats.jitter_ms < 0.1);
    }

    #[test]
    fn alternating_arrival_of_16_and_24_ms_is_4_ms_of_jitter() {
        let start = Instant::now();
        let mut reception = Reception::new(8_000);
        for n in 0..400u32 {
            let now = start + Duration::from_millis(u64::from(n) * 20 + u64::from(n % 2) * 4);
            reception.on_packet(now, &packet(n as u16, n * 160));
        }
        assert!((reception.stats().jitter_ms - 4.0).abs() < 0.1);
    }

    #[test]
    fn the_round_trip_is_what_is_left_after_the_peers_own_delay() {
        let start = Instant::now();
        let sent = NtpTime::from_unix(Duration::from_secs(1_800_000_000));
        let mut far = Reception::new(8_000);
        far.on_packet(start, &packet(1, 0));
        far.on_sender_report(start, Ssrc(5), sent);
        let block = far.report(start + Duration::from_secs(3)).unwrap();
        let back = NtpTime::from_unix(Duration::from_secs(1_800_000_000) + Duration::from_millis(3_080));
        let trip = round_trip(back, &block).unwrap();
        assert!((trip.as_secs_f64() - 0.080).abs() < 0.001, "{trip:?}");
        // A peer that reports more delay than has passed is not believed.
        assert_eq!(round_trip(sent, &block), None);
    }

    #[test]
    fn numbers_that_jump_begin_a_new_count() {
        let start = Instant::now();
        let mut reception = Reception::new(8_000);
        reception.on_packet(start, &packet(1, 0));
        reception.on_packet(start, &packet(30_000, 160));
        assert_eq!(reception.stats().expected, 1);
    }
}
