//! Opus as the jitter buffer holds it: whole packets, each with the time that it lasts.

use super::FRAME;

/// Packets held at a time: more than a second of the usual 20 ms.
const SLOTS: usize = 64;

/// Octets of the longest payload that comes over Ethernet unfragmented.
const LONGEST: usize = 1_488;

/// A frame of 20 ms holds the beginnings of eight packets of 2.5 ms at most.
const MOST: usize = 8;

/// A table of packets.
#[derive(Debug)]
pub(super) struct Packets {
    slots: Box<[Slot]>,
    /// Whether what was decoded last is quiet.
    pub(super) quiet: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Slot {
    /// When its sound begins and ends; the same where there is none.
    start: i64,
    end: i64,
    taken: bool,
    len: usize,
    payload: [u8; LONGEST],
}

/// Which packets begin within a frame, in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Which {
    slots: [u8; MOST],
    len: usize,
}

/// The payloads of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    slots: &'a [Slot],
    which: Which,
    next: usize,
}

impl<'a> Iterator for Parts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let found = self.which.slots[..self.which.len].get(self.next)?;
        let slot = self.slots.get(usize::from(*found))?;
        self.next += 1;
        slot.payload.get(..slot.len)
    }
}

impl Packets {
    pub(super) fn new() -> Self {
        let empty = Slot { start: 0, end: 0, taken: false, len: 0, payload: [0; LONGEST] };
        Self { slots: vec![empty; SLOTS].into_boxed_slice(), quiet: false }
    }

    /// How long the sound of a packet lasts in ticks of 1/8000 s, from its first octets (RFC 6716 §3.1, §3.2.5).
    pub(super) fn ticks_of(payload: &[u8]) -> Option<i64> {
        let toc = *payload.first().filter(|_| payload.len() <= LONGEST)?;
        let frame = match toc >> 3 {
            config @ 0..=11 => [80, 160, 320, 480][usize::from(config % 4)],
            config @ 12..=15 => [80, 160][usize::from(config % 2)],
            config => [20, 40, 80, 160][usize::from(config % 4)],
        };
        let frames = match toc & 3 {
            0 => 1,
            1 | 2 => 2,
            _ => i64::from(payload.get(1)? & 0x3f),
        };
        // 120 ms at most.
        (1..=960).contains(&(frame * frames)).then_some(frame * frames)
    }

    /// Stores a packet whose sound lasts from `start` to `end`. Where there is no room the oldest makes way.
    pub(super) fn put(&mut self, start: i64, end: i64, payload: &[u8]) {
        // Two whose times overlap do not come from a sender that counts right; the later one is believed.
        let at = self.slots.iter().position(|slot| slot.overlaps(start, end));
        let at = at.or_else(|| self.slots.iter().position(|slot| !slot.is_used()));
        let oldest = || self.slots.iter().enumerate().min_by_key(|(_, slot)| slot.start).map(|(at, _)| at);
        let Some(slot) = at.or_else(oldest).and_then(|at| self.slots.get_mut(at)) else { return };
        let len = payload.len().min(LONGEST);
        (slot.start, slot.end, slot.taken, slot.len) = (start, end, false, len);
        slot.payload[..len].copy_from_slice(&payload[..len]);
    }

    /// Whether packets cover all of the frame at `at`.
    pub(super) fn has(&self, at: i64) -> bool {
        let mut covered = at;
        while covered < at + FRAME {
            match self.at(covered) {
                Some(slot) => covered = slot.end,
                None => return false,
            }
        }
        true
    }

    pub(super) fn is_quiet(&self, at: i64) -> bool {
        // Of a longer packet no part can be left out.
        self.quiet && self.at(at).is_some_and(|slot| slot.start == at && slot.end <= at + FRAME)
    }

    /// Takes the packets that begin before the frame at `at` ends and were not taken with an earlier one.
    pub(super) fn take(&mut self, at: i64) -> Which {
        let mut which = Which::default();
        let mut next = at;
        while next < at + FRAME && which.len < MOST {
            let Some(found) = self.slots.iter().position(|slot| slot.covers(next)) else { break };
            let slot = &mut self.slots[found];
            next = slot.end;
            if !std::mem::replace(&mut slot.taken, true) {
                // There are 64 of them.
                which.slots[which.len] = found as u8;
                which.len += 1;
            }
        }
        which
    }

    /// Lends what was taken; it stays until the next packet is stored.
    pub(super) fn parts(&self, which: Which) -> Parts<'_> {
        Parts { slots: &self.slots, which, next: 0 }
    }

    pub(super) fn beginning_at(&self, at: i64) -> Option<&[u8]> {
        let slot = self.at(at).filter(|slot| slot.start == at && !slot.taken)?;
        slot.payload.get(..slot.len)
    }

    /// Lets go of what ended by `to`.
    pub(super) fn clear(&mut self, to: i64) {
        for slot in self.slots.iter_mut().filter(|slot| slot.end <= to) {
            slot.end = slot.start;
        }
    }

    fn at(&self, tick: i64) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.covers(tick))
    }
}

impl Slot {
    fn is_used(&self) -> bool {
        self.start < self.end
    }

    fn covers(&self, tick: i64) -> bool {
        self.start <= tick && tick < self.end
    }

    fn overlaps(&self, start: i64, end: i64) -> bool {
        self.is_used() && self.start < end && start < self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_octets_say_how_long_a_packet_lasts() {
        for (octets, ticks) in [
            (&[0 << 3][..], Some(80)),
            (&[1 << 3], Some(160)),
            (&[3 << 3], Some(480)),
            (&[3 << 3 | 1], Some(960)),
            (&[13 << 3], Some(160)),
            (&[16 << 3], Some(20)),
            (&[31 << 3 | 2], Some(320)),
            (&[31 << 3 | 3, 3], Some(480)),
            (&[31 << 3 | 3, 6], Some(960)),
            (&[31 << 3 | 3, 7], None),
            (&[31 << 3 | 3, 0], None),
            (&[31 << 3 | 3], None),
            (&[], None),
        ] {
            assert_eq!(Packets::ticks_of(octets), ticks, "{octets:?}");
        }
    }

    #[test]
    fn packets_shorter_and_longer_than_a_frame_are_given_out_once_and_in_order() {
        let mut packets = Packets::new();
        packets.put(80, 160, &[2]);
        packets.put(0, 80, &[1]);
        packets.put(160, 640, &[3]);
        assert!(packets.has(0) && packets.has(160) && packets.has(480) && !packets.has(640));
        let taken = |packets: &mut Packets, at| {
            let which = packets.take(at);
            packets.clear(at + FRAME);
            packets.parts(which).map(|payload| payload[0]).collect::<Vec<_>>()
        };
        assert_eq!(taken(&mut packets, 0), [1, 2]);
        assert_eq!(packets.beginning_at(160), Some(&[3][..]));
        assert_eq!(taken(&mut packets, 160), [3]);
        assert_eq!(taken(&mut packets, 320), [0; 0]);
        assert_eq!(packets.beginning_at(320), None);
    }

    #[test]
    fn a_flood_takes_no_more_room() {
        let mut packets = Packets::new();
        for n in 0..1_000 {
            packets.put(n * 20, n * 20 + 20, &[n as u8; 2_000]);
        }
        assert_eq!(packets.slots.len(), SLOTS);
        assert!(packets.has(999 * 20 - FRAME), "the newest are there");
    }
}
