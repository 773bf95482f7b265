//! Keys pressed on a telephone, as events in the RTP stream (RFC 4733).

use crate::{CLOCK_HZ, FRAME_TICKS, RtpPacket, RtpTicks, Ssrc};

/// The payload of one telephone-event packet (RFC 4733 §2.3).
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// |     event     |E|R|  volume   |           duration            |
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TelephoneEvent {
    /// Which event: 0 to 15 are the keys 0 to 9, `*`, `#`, A to D.
    pub event: u8,
    /// The key was let go.
    pub end: bool,
    /// How far below 0 dBm0 the tone is, 0 to 63 dB.
    pub volume: u8,
    /// How long it has lasted, in clock ticks.
    pub duration: u16,
}

impl TelephoneEvent {
    /// Reads the first event of a payload; `None` when it is too short.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let [event, flags, high, low] = *payload.first_chunk::<4>()?;
        Some(Self {
            event,
            end: flags & 0x80 != 0,
            volume: flags & 0x3f,
            duration: u16::from_be_bytes([high, low]),
        })
    }

    /// Writes the payload; a volume over 63 is sent as 63.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 4] {
        let [high, low] = self.duration.to_be_bytes();
        [self.event, u8::from(self.end) << 7 | self.volume.min(63), high, low]
    }
}

/// Returns the key of an event, `None` when it is not one of the sixteen.
#[must_use]
pub fn event_digit(event: u8) -> Option<char> {
    KEYS.get(usize::from(event)).map(|&key| char::from(key))
}

/// Returns the event of a key: `0` to `9`, `*`, `#`, `A` to `D` in either case.
#[must_use]
pub fn digit_event(digit: char) -> Option<u8> {
    let digit = digit.to_ascii_uppercase();
    KEYS.iter().position(|&key| char::from(key) == digit).map(|event| event as u8)
}

/// One key being sent; see [`RtpSender::write_event_into`](crate::RtpSender::write_event_into).
#[derive(Clone, Debug)]
pub struct EventSender {
    event: u8,
    total: u16,
    sent: u16,
    started: Option<RtpTicks>,
    ends_left: u8,
    /// Ticks of the event's clock in 20 ms.
    step: u16,
}

impl EventSender {
    /// Prepares a key press of `duration_ticks`, rounded up to whole 20 ms frames; `None` when
    /// `digit` is no key.
    ///
    /// Receivers want at least 40 ms (RFC 4733 §2.5.2.2); 100 to 160 ms is usual.
    #[must_use]
    pub fn new(digit: char, duration_ticks: u16) -> Option<Self> {
        Self::at_clock(digit, duration_ticks.div_ceil(FRAME_TICKS as u16), CLOCK_HZ)
    }

    /// As [`Self::new`], for `frames` of 20 ms of a clock of `clock_hz` ticks a second: 8 kHz, or 48 kHz beside Opus. As
    /// long as fits in 16 bits.
    #[must_use]
    pub fn at_clock(digit: char, frames: u16, clock_hz: u32) -> Option<Self> {
        let step = u16::try_from(clock_hz / 50).ok().filter(|step| *step > 0)?;
        let total = frames.clamp(1, u16::MAX / step) * step;
        Some(Self { event: digit_event(digit)?, total, sent: 0, started: None, ends_left: ENDS, step })
    }

    /// Returns whether the last packet, and its repetitions, were sent.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.ends_left == 0
    }

    /// What to send now: the body, the start time to send it with, and whether it is the first.
    pub(crate) fn current(&self, now: RtpTicks) -> Option<(TelephoneEvent, RtpTicks, bool)> {
        let duration = self.sent.saturating_add(self.step).min(self.total);
        let event =
            TelephoneEvent { event: self.event, end: duration == self.total, volume: VOLUME, duration };
        (!self.is_done()).then_some((event, self.started.unwrap_or(now), self.started.is_none()))
    }

    pub(crate) fn advance(&mut self, started: RtpTicks) {
        self.started = Some(started);
        let next = self.sent.saturating_add(self.step);
        if next >= self.total {
            self.ends_left -= 1;
        } else {
            self.sent = next;
        }
    }
}

/// Turns the many packets of each key press into one event.
///
/// Packets of one press share their time, so a press is reported at its first packet that arrives,
/// whichever that is. A press of more than eight seconds is sent in segments with new times (RFC 4733
/// §2.5.1.3); a segment that begins where the last one ended, without an end between, is the same
/// press.
#[derive(Clone, Debug, Default)]
pub struct EventReceiver {
    current: Option<Press>,
}

impl EventReceiver {
    /// Takes a packet of the negotiated event type and returns the event when it is a new one.
    pub fn push(&mut self, packet: &RtpPacket<'_>) -> Option<u8> {
        let event = TelephoneEvent::parse(packet.payload)?;
        let seen = Press {
            ssrc: packet.ssrc,
            event: event.event,
            started: packet.ticks,
            until: packet.ticks.wrapping_add(u32::from(event.duration)),
            ended: event.end,
        };
        let Some(last) = &mut self.current else {
            self.current = Some(seen);
            return Some(event.event);
        };
        if last.ssrc != seen.ssrc {
            self.current = Some(seen);
            return Some(event.event);
        }
        let age = seen.started.since(last.started);
        if age == 0 && seen.event == last.event {
            if seen.until.since(last.until) > 0 {
                last.until = seen.until;
            }
            last.ended |= seen.ended;
            return None;
        }
        // A packet of an earlier press that was overtaken on the way: that press was reported.
        if age < 0 && age > -OVERTAKEN {
            return None;
        }
        let continued = !last.ended && seen.event == last.event && seen.started == last.until;
        self.current = Some(seen);
        (!continued).then_some(event.event)
    }
}

#[derive(Clone, Debug)]
struct Press {
    ssrc: Ssrc,
    event: u8,
    started: RtpTicks,
    until: RtpTicks,
    ended: bool,
}

const KEYS: &[u8; 16] = b"0123456789*#ABCD";

/// The final packet is sent three times (RFC 4733 §2.5.1.4).
const ENDS: u8 = 3;

/// -10 dBm0, the level most gateways send.
const VOLUME: u8 = 10;

/// Packets this much older than the current press, two seconds of ticks, are late; still older ones
/// mean that the peer's clock was set anew.
const OVERTAKEN: i32 = 16_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Csrcs, Seq};
    use proptest::prelude::*;

    fn packet(ticks: u32, payload: &[u8]) -> RtpPacket<'_> {
        RtpPacket {
            marker: false,
            payload_type: 101,
            seq: Seq(0),
            ticks: RtpTicks(ticks),
            ssrc: Ssrc(9),
            csrc: Csrcs::default(),
            extension: None,
            padding: 0,
            payload,
        }
    }

    fn event(event: u8, end: bool, duration: u16) -> [u8; 4] {
        TelephoneEvent { event, end, volume: 10, duration }.to_bytes()
    }

    #[test]
    fn every_key_has_an_event_and_back() {
        for (event, key) in "0123456789*#ABCD".chars().enumerate() {
            assert_eq!(digit_event(key), Some(event as u8));
            assert_eq!(event_digit(event as u8), Some(key));
        }
        assert_eq!(digit_event('d'), Some(15));
        assert_eq!((digit_event('x'), event_digit(16)), (None, None));
    }

    #[test]
    fn a_press_whose_start_was_lost_is_still_reported_once() {
        let mut receiver = EventReceiver::default();
        assert_eq!(receiver.push(&packet(800, &event(3, true, 480))), Some(3));
        assert_eq!(receiver.push(&packet(800, &event(3, true, 480))), None);
        assert_eq!(receiver.push(&packet(800, &event(3, false, 320))), None);
    }

    #[test]
    fn the_same_key_pressed_twice_counts_twice_and_overtaken_packets_do_not() {
        let mut receiver = EventReceiver::default();
        assert_eq!(receiver.push(&packet(800, &event(1, false, 160))), Some(1));
        assert_eq!(receiver.push(&packet(3_200, &event(1, false, 160))), Some(1));
        assert_eq!(receiver.push(&packet(800, &event(1, true, 480))), None);
        assert_eq!(receiver.push(&packet(3_200, &event(1, true, 480))), None);
        // Pressed again at the very tick after the end: a new press, because the end was seen.
        assert_eq!(receiver.push(&packet(3_680, &event(1, false, 160))), Some(1));
    }

    #[test]
    fn a_very_long_press_in_segments_counts_once() {
        let mut receiver = EventReceiver::default();
        assert_eq!(receiver.push(&packet(100, &event(2, false, u16::MAX))), Some(2));
        assert_eq!(receiver.push(&packet(100 + 65_535, &event(2, false, 160))), None);
    }

    proptest! {
        #[test]
        fn a_telephone_event_reads_back_as_written(
            event: u8, end: bool, volume in 0u8..64, duration: u16, trailer: Vec<u8>,
        ) {
            let event = TelephoneEvent { event, end, volume, duration };
            let mut bytes = event.to_bytes().to_vec();
            bytes.extend(trailer);
            prop_assert_eq!(TelephoneEvent::parse(&bytes), Some(event));
        }

        #[test]
        fn no_bytes_panic_the_telephone_event_parser(packets: Vec<(u32, Vec<u8>)>) {
            let mut receiver = EventReceiver::default();
            for (ticks, payload) in &packets {
                let _ = TelephoneEvent::parse(payload);
                let _ = receiver.push(&packet(*ticks, payload));
            }
        }

        #[test]
        fn a_key_of_any_length_ends_with_its_whole_duration(ticks: u16) {
            let mut key = EventSender::new('#', ticks).unwrap();
            let (mut last, mut count) = (None, 0u32);
            while let Some((body, started, _)) = key.current(RtpTicks(5)) {
                last = Some(body);
                count += 1;
                key.advance(started);
                prop_assert!(count < 1_000);
            }
            let last = last.unwrap();
            prop_assert!(last.end);
            prop_assert!(u32::from(last.duration) + 160 > u32::from(ticks));
            prop_assert_eq!(count, u32::from(last.duration) / 160 + 2);
        }
    }
}
