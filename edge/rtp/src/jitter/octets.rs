//! G.711 and G.722 as the jitter buffer holds them: octets by time, one a tick.

use super::{CAPACITY, FRAME};
use crate::RtpPacket;

/// The payload type of G.722 (RFC 3551 §6).
const G722: u8 = 9;

/// Octets by time, with the payload type of each plus one, or 0 where there is none.
#[derive(Debug)]
pub(super) struct Ring {
    octets: [u8; CAPACITY],
    kinds: [u8; CAPACITY],
    /// Whether the frame that was decoded last is quiet, for a codec whose octets do not say it.
    pub(super) quiet: bool,
}

impl Default for Ring {
    fn default() -> Self {
        Self { octets: [0; CAPACITY], kinds: [0; CAPACITY], quiet: false }
    }
}

impl Ring {
    pub(super) fn ticks_of(packet: &RtpPacket<'_>) -> Option<i64> {
        let fits = (1..=CAPACITY / 4).contains(&packet.payload.len());
        (matches!(packet.payload_type, 0 | 8 | G722) && fits).then_some(packet.payload.len() as i64)
    }

    /// Stores what of a packet that begins at `start` is due from `from` on.
    pub(super) fn put(&mut self, start: i64, from: i64, packet: &RtpPacket<'_>) {
        for (at, &octet) in (from..).zip(&packet.payload[(from - start) as usize..]) {
            self.octets[slot(at)] = octet;
            self.kinds[slot(at)] = packet.payload_type + 1;
        }
    }

    /// Whether the frame at `at` is there, all of it in one codec.
    pub(super) fn has(&self, at: i64) -> bool {
        let first = self.kinds[slot(at)];
        first != 0 && (at..at + FRAME).all(|tick| self.kinds[slot(tick)] == first)
    }

    /// How many whole frames of G.711 in one law lie from `at` on, `most` at most.
    pub(super) fn frames_at(&self, at: i64, most: usize) -> usize {
        let first = self.kinds[slot(at)];
        if first == G722 + 1 {
            return 0;
        }
        let same = |frame: &i64| self.kinds[slot(*frame)] == first && self.has(*frame);
        (0..most as i64).map(|n| at + n * FRAME).take_while(same).count()
    }

    /// Whether the frame's samples are all below about -31 dBFS, in either law; with G.722, whether those before were.
    pub(super) fn is_quiet(&self, at: i64) -> bool {
        if self.kinds[slot(at)] == G722 + 1 {
            return self.quiet;
        }
        (at..at + FRAME).all(|tick| {
            let octet = self.octets[slot(tick)];
            let magnitude = if self.kinds[slot(tick)] == 1 { !octet } else { octet ^ 0x55 } & 0x7f;
            magnitude < 0x30
        })
    }

    /// Copies what lies from `at` on, and returns its payload type plus one.
    pub(super) fn copy(&self, at: i64, out: &mut [u8]) -> u8 {
        for (tick, octet) in (at..).zip(out) {
            *octet = self.octets[slot(tick)];
        }
        self.kinds[slot(at)]
    }

    pub(super) fn clear(&mut self, from: i64, to: i64) {
        for tick in from..to {
            self.kinds[slot(tick)] = 0;
        }
    }

    pub(super) fn clear_all(&mut self) {
        self.kinds.fill(0);
    }
}

fn slot(tick: i64) -> usize {
    tick.rem_euclid(CAPACITY as i64) as usize
}
