//! Two calls joined: what one side says is what the other hears.
//!
//! Each endpoint of the media thread holds one end; frames cross as samples, so that the two sides may differ in
//! codec and encryption. Where both speak the same law, coding what was just decoded gives the same octets back.

use rtrb::{Consumer, Producer, RingBuffer};
use trunkline_audio::FRAME;

/// Frames under way between two calls at most: 80 ms, enough for two clocks that are out of step.
const DEPTH: usize = 4;

/// One end of a joined pair of calls.
#[derive(Debug)]
pub struct Bridge {
    to: Producer<[i16; FRAME]>,
    from: Consumer<[i16; FRAME]>,
}

impl Bridge {
    /// Makes both ends, one for [`crate::Command::Bridge`] of each call.
    pub fn pair() -> (Box<Self>, Box<Self>) {
        let (to_second, from_first) = RingBuffer::new(DEPTH);
        let (to_first, from_second) = RingBuffer::new(DEPTH);
        let first = Box::new(Self { to: to_second, from: from_second });
        (first, Box::new(Self { to: to_first, from: from_first }))
    }

    /// Hands over what was received here; a frame that finds no room is dropped.
    pub(crate) fn give(&mut self, frame: &[i16; FRAME]) {
        let _ = self.to.push(*frame);
    }

    /// Fills in what the other side received; silence where nothing is there.
    pub(crate) fn take(&mut self, frame: &mut [i16; FRAME]) {
        if let Ok(other) = self.from.pop() {
            *frame = other;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_side_gives_the_other_takes_and_nothing_comes_back() {
        let (mut first, mut second) = Bridge::pair();
        first.give(&[7; FRAME]);
        let mut frame = [0; FRAME];
        first.take(&mut frame);
        assert_eq!(frame, [0; FRAME]);
        second.take(&mut frame);
        assert_eq!(frame, [7; FRAME]);
    }

    #[test]
    fn a_side_that_does_not_take_holds_up_nobody_and_stays_near() {
        let (mut first, mut second) = Bridge::pair();
        for n in 0..50 {
            first.give(&[n; FRAME]);
        }
        let mut heard = Vec::new();
        for _ in 0..10 {
            let mut frame = [-1; FRAME];
            second.take(&mut frame);
            heard.push(frame[0]);
        }
        assert_eq!(heard, [0, 1, 2, 3, -1, -1, -1, -1, -1, -1]);
    }
}
