//! The timetable of reports of one call (RFC 3550 §6.2, §6.3).

use std::time::{Duration, Instant};

use super::reception::round_trip;
use super::{NtpTime, Reception, RtcpPacket, RtcpWriter, SenderInfo, parse_compound};
use crate::{RtpError, RtpSender, Ssrc};

/// Decides when to report and understands what the peer reports.
///
/// With two members the interval of RFC 3550 is five seconds, spread by half to either side so that
/// the reports of many calls do not come together.
#[derive(Clone, Debug)]
pub struct RtcpSession {
    cname: String,
    due: Instant,
    random: u64,
}

/// What a datagram of reports said.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RtcpNews {
    /// The peer ended its stream.
    pub bye: bool,
    /// The way to the peer and back, as its report shows it.
    pub round_trip: Option<Duration>,
    /// Share of our packets that the peer missed since its last report, 0 to 1.
    pub far_loss: Option<f32>,
    /// Jitter of our packets at the peer, in media clock ticks.
    pub far_jitter: Option<u32>,
    /// Packets that could not be read.
    pub malformed: u32,
}

impl RtcpSession {
    /// Begins a session. `cname` names this end for as long as it lives, without saying who or where
    /// it is (RFC 7022); `seed` spreads the reports.
    #[must_use]
    pub fn new(cname: String, now: Instant, seed: u64) -> Self {
        let mut session = Self { cname, due: now, random: seed | 1 };
        session.due = now + session.interval() / 2;
        session
    }

    /// Returns when [`poll`](Self::poll) has something to send next.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        self.due
    }

    /// Writes a compound report when it is due and returns its length.
    pub fn poll(
        &mut self,
        now: Instant,
        wall: NtpTime,
        sender: &RtpSender,
        reception: &mut Reception,
        out: &mut [u8],
    ) -> Option<usize> {
        if now < self.due {
            return None;
        }
        self.due = now + self.interval();
        self.write(now, wall, sender, reception, None, out).ok()
    }

    /// Writes the last report, with the end of the stream, and returns its length.
    ///
    /// # Errors
    /// [`RtpError::NoRoom`] when `out` is too small.
    pub fn bye_into(
        &mut self,
        now: Instant,
        wall: NtpTime,
        sender: &RtpSender,
        reception: &mut Reception,
        reason: &str,
        out: &mut [u8],
    ) -> Result<usize, RtpError> {
        self.write(now, wall, sender, reception, Some(reason), out)
    }

    /// Takes a datagram of the peer; `ours` is the stream that its blocks should be about.
    pub fn handle(
        &mut self,
        now: Instant,
        wall: NtpTime,
        datagram: &[u8],
        ours: Ssrc,
        reception: &mut Reception,
    ) -> RtcpNews {
        let mut news = RtcpNews::default();
        for packet in parse_compound(datagram) {
            let blocks = match packet {
                Ok(RtcpPacket::SenderReport { ssrc, info, blocks }) => {
                    reception.on_sender_report(now, ssrc, info.ntp);
                    blocks
                }
                Ok(RtcpPacket::ReceiverReport { blocks, .. }) => blocks,
                Ok(RtcpPacket::Bye { .. }) => {
                    news.bye = true;
                    continue;
                }
                Ok(RtcpPacket::SourceDescription { .. } | RtcpPacket::Other { .. }) => continue,
                Err(_) => {
                    news.malformed += 1;
                    continue;
                }
            };
            if let Some(block) = blocks.iter().find(|block| block.ssrc == ours) {
                news.round_trip = round_trip(wall, &block);
                news.far_loss = Some(f32::from(block.fraction_lost) / 256.0);
                news.far_jitter = Some(block.jitter);
            }
        }
        news
    }

    fn write(
        &self,
        now: Instant,
        wall: NtpTime,
        sender: &RtpSender,
        reception: &mut Reception,
        bye: Option<&str>,
        out: &mut [u8],
    ) -> Result<usize, RtpError> {
        let block = reception.report(now);
        let mut writer = RtcpWriter::new(out);
        if sender.packets() > 0 {
            let info = SenderInfo {
                ntp: wall,
                ticks: sender.ticks(),
                packets: sender.packets(),
                octets: sender.octets(),
            };
            writer.sender_report(sender.ssrc(), &info, block.as_slice())?;
        } else {
            writer.receiver_report(sender.ssrc(), block.as_slice())?;
        }
        writer.source_description(sender.ssrc(), &self.cname)?;
        if let Some(reason) = bye {
            writer.bye(sender.ssrc(), reason)?;
        }
        Ok(writer.finish())
    }

    /// 2.5 to 7.5 seconds, by xorshift: it only has to differ between calls.
    fn interval(&mut self) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        Duration::from_millis(2_500 + self.random % 5_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FRAME_TICKS, RtpPacket, RtpTicks, Seq};

    #[test]
    fn two_ends_learn_loss_and_round_trip_from_each_other() {
        let start = Instant::now();
        let wall = |ms: u64| NtpTime::from_unix(Duration::from_millis(1_800_000_000_000 + ms));
        let at = |ms: u64| start + Duration::from_millis(ms);
        let way = 35; // ms, each direction
        let mut ends: Vec<_> = (1..=2u32)
            .map(|n| {
                (
                    RtpSender::new(Ssrc(n), Seq(n as u16), RtpTicks(n * 999)),
                    Reception::new(8_000),
                    RtcpSession::new(format!("end{n}"), start, u64::from(n)),
                )
            })
            .collect();
        let (mut speech, mut reports) = ([0; 200], [0; 400]);
        let mut news = [Vec::new(), Vec::new()];
        for frame in 0..1_500u64 {
            let now = frame * 20;
            for (from, to) in [(0, 1), (1, 0)] {
                let len = ends[from].0.write_into(8, &[0xd5; 160], FRAME_TICKS, &mut speech).unwrap();
                if frame % 10 != 3 {
                    let packet = RtpPacket::parse(&speech[..len]).unwrap();
                    ends[to].1.on_packet(at(now + way), &packet);
                }
                let (sender, reception, session) = &mut ends[from];
                if let Some(len) = session.poll(at(now), wall(now), sender, reception, &mut reports) {
                    let (sender, reception, session) = &mut ends[to];
                    let (now, wall) = (at(now + way), wall(now + way));
                    news[to].push(session.handle(now, wall, &reports[..len], sender.ssrc(), reception));
                }
            }
        }
        for news in news {
            assert!((4..=12).contains(&news.len()), "{} reports in 30 s", news.len());
            let last = news.last().unwrap();
            let trip = last.round_trip.unwrap().as_secs_f64();
            assert!((trip - 0.070).abs() < 0.002, "{trip}");
            assert!((last.far_loss.unwrap() - 0.1).abs() < 0.02);
            assert!(!last.bye);
        }
    }

    #[test]
    fn the_end_is_told_and_understood() {
        let now = Instant::now();
        let wall = NtpTime(1 << 40);
        let sender = RtpSender::new(Ssrc(1), Seq(0), RtpTicks(0));
        let mut reception = Reception::new(8_000);
        let mut session = RtcpSession::new("x".into(), now, 3);
        let mut out = [0; 100];
        let len = session.bye_into(now, wall, &sender, &mut reception, "hung up", &mut out).unwrap();
        assert!(session.handle(now, wall, &out[..len], Ssrc(2), &mut reception).bye);
        assert!(session.bye_into(now, wall, &sender, &mut reception, "", &mut [0; 10]).is_err());
    }
}
