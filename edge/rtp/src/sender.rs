//! One outgoing stream: numbers, clock and marker (RFC 3550 §5.1, RFC 3551 §4.1).

use crate::{Csrcs, EventSender, FRAME_TICKS, RtpError, RtpPacket, RtpTicks, Seq, Ssrc};

/// Numbers and times the packets of one outgoing stream.
///
/// The clock never stops: silence that is not sent is [`skip`](Self::skip)ped, and the next packet
/// carries the marker. The first number and time should be random (RFC 3550 §5.1); they are the
/// caller's arguments, so that a seed replays the run.
#[derive(Clone, Debug)]
pub struct RtpSender {
    ssrc: Ssrc,
    seq: Seq,
    ticks: RtpTicks,
    talkspurt_begins: bool,
    packets: u32,
    octets: u32,
    /// Ticks of the clock in 20 ms.
    frame_ticks: u32,
}

impl RtpSender {
    /// Begins a stream at a number and a time.
    #[must_use]
    pub fn new(ssrc: Ssrc, seq: Seq, ticks: RtpTicks) -> Self {
        Self { ssrc, seq, ticks, talkspurt_begins: true, packets: 0, octets: 0, frame_ticks: FRAME_TICKS }
    }

    /// Lets the clock run at `clock_hz` ticks a second instead of 8000, as beside Opus.
    #[must_use]
    pub fn at_clock(mut self, clock_hz: u32) -> Self {
        self.frame_ticks = clock_hz / 50;
        self
    }

    /// Returns the ticks of the clock in a frame of 20 ms.
    #[must_use]
    pub fn frame_ticks(&self) -> u32 {
        self.frame_ticks
    }

    /// Writes one packet of sound that lasts `ticks`, advances the clock by as much, and returns the
    /// packet's length.
    ///
    /// # Errors
    /// Those of [`RtpPacket::write_into`]; nothing has advanced then.
    pub fn write_into(
        &mut self,
        payload_type: u8,
        payload: &[u8],
        ticks: u32,
        out: &mut [u8],
    ) -> Result<usize, RtpError> {
        let len = self.packet(payload_type, self.talkspurt_begins, self.ticks, payload, out)?;
        self.talkspurt_begins = false;
        self.ticks = self.ticks.wrapping_add(ticks);
        Ok(len)
    }

    /// Lets the clock run for `ticks` of silence that is not sent.
    pub fn skip(&mut self, ticks: u32) {
        self.ticks = self.ticks.wrapping_add(ticks);
        self.talkspurt_begins = true;
    }

    /// Writes the next packet of a pressed key in place of a 20 ms frame of sound.
    ///
    /// Call it once per frame until [`EventSender::is_done`]. All packets of a key carry the time of
    /// its start while the clock runs on below, and the first has the marker (RFC 4733 §2.5.1).
    ///
    /// # Errors
    /// Those of [`RtpPacket::write_into`], and [`RtpError::Field`] when the event is done.
    pub fn write_event_into(
        &mut self,
        payload_type: u8,
        event: &mut EventSender,
        out: &mut [u8],
    ) -> Result<usize, RtpError> {
        let (body, started, first) = event.current(self.ticks).ok_or(RtpError::Field { field: "event" })?;
        let len = self.packet(payload_type, first, started, &body.to_bytes(), out)?;
        event.advance(started);
        self.ticks = self.ticks.wrapping_add(self.frame_ticks);
        self.talkspurt_begins = true;
        Ok(len)
    }

    /// Returns the stream's name.
    #[must_use]
    pub fn ssrc(&self) -> Ssrc {
        self.ssrc
    }

    /// Returns the number of the next packet.
    #[must_use]
    pub fn next_seq(&self) -> Seq {
        self.seq
    }

    /// Returns the time of the next packet.
    #[must_use]
    pub fn ticks(&self) -> RtpTicks {
        self.ticks
    }

    /// Returns how many packets were sent, for the sender report.
    #[must_use]
    pub fn packets(&self) -> u32 {
        self.packets
    }

    /// Returns how many octets of payload were sent, for the sender report.
    #[must_use]
    pub fn octets(&self) -> u32 {
        self.octets
    }

    fn packet(
        &mut self,
        payload_type: u8,
        marker: bool,
        ticks: RtpTicks,
        payload: &[u8],
        out: &mut [u8],
    ) -> Result<usize, RtpError> {
        let packet = RtpPacket {
            marker,
            payload_type,
            seq: self.seq,
            ticks,
            ssrc: self.ssrc,
            csrc: Csrcs::default(),
            extension: None,
            padding: 0,
            payload,
        };
        let len = packet.write_into(out)?;
        self.seq = self.seq.next();
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload.len() as u32);
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EventReceiver;

    #[test]
    fn the_marker_stands_on_the_first_packet_of_each_talkspurt_and_the_clock_runs_through_silence() {
        let mut sender = RtpSender::new(Ssrc(1), Seq(65_534), RtpTicks(u32::MAX - 100));
        let mut out = [0; 200];
        let mut log = Vec::new();
        for frame in 0..6 {
            if frame == 3 {
                sender.skip(FRAME_TICKS);
                continue;
            }
            let len = sender.write_into(8, &[0xd5; 160], FRAME_TICKS, &mut out).unwrap();
            let packet = RtpPacket::parse(&out[..len]).unwrap();
            log.push((packet.seq.0, packet.marker, packet.ticks.since(RtpTicks(u32::MAX - 100))));
        }
        assert_eq!(
            log,
            [(65_534, true, 0), (65_535, false, 160), (0, false, 320), (1, true, 640), (2, false, 800)]
        );
        assert_eq!((sender.packets(), sender.octets()), (5, 800));
    }

    #[test]
    fn a_packet_that_does_not_fit_advances_nothing() {
        let mut sender = RtpSender::new(Ssrc(1), Seq(7), RtpTicks(0));
        assert!(sender.write_into(8, &[0; 160], FRAME_TICKS, &mut [0; 100]).is_err());
        assert_eq!((sender.next_seq(), sender.ticks(), sender.packets()), (Seq(7), RtpTicks(0), 0));
    }

    #[test]
    fn a_key_is_sent_with_one_start_time_growing_duration_and_three_ends() {
        let mut sender = RtpSender::new(Ssrc(1), Seq(0), RtpTicks(1_000));
        let mut key = EventSender::new('5', 480).unwrap();
        let mut receiver = EventReceiver::default();
        let (mut out, mut log, mut heard) = ([0; 64], Vec::new(), Vec::new());
        while !key.is_done() {
            let len = sender.write_event_into(101, &mut key, &mut out).unwrap();
            let packet = RtpPacket::parse(&out[..len]).unwrap();
            let event = crate::TelephoneEvent::parse(packet.payload).unwrap();
            log.push((packet.marker, packet.ticks.0, event.event, event.end, event.duration));
            heard.extend(receiver.push(&packet));
        }
        assert_eq!(
            log,
            [
                (true, 1_000, 5, false, 160),
                (false, 1_000, 5, false, 320),
                (false, 1_000, 5, true, 480),
                (false, 1_000, 5, true, 480),
                (false, 1_000, 5, true, 480),
            ]
        );
        assert_eq!(heard, [5]);
        assert_eq!(sender.ticks(), RtpTicks(1_000 + 5 * 160));
        assert!(sender.write_event_into(101, &mut key, &mut out).is_err());
    }

    #[test]
    fn a_key_beside_opus_lasts_in_ticks_of_its_clock() {
        let mut sender = RtpSender::new(Ssrc(1), Seq(0), RtpTicks(1_000)).at_clock(48_000);
        let mut key = EventSender::at_clock('5', 2, 48_000).unwrap();
        let (mut out, mut durations) = ([0; 64], Vec::new());
        while !key.is_done() {
            let len = sender.write_event_into(110, &mut key, &mut out).unwrap();
            let packet = RtpPacket::parse(&out[..len]).unwrap();
            durations.push(crate::TelephoneEvent::parse(packet.payload).unwrap().duration);
        }
        assert_eq!(durations, [960, 1_920, 1_920, 1_920]);
        assert_eq!(sender.ticks(), RtpTicks(1_000 + 4 * 960));
        assert!(EventSender::at_clock('5', u16::MAX, 48_000).is_some(), "as long as it can be");
        assert!(EventSender::at_clock('5', 1, 7).is_none());
    }
}
