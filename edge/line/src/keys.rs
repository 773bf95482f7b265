//! How keys are pressed, and those that are pressed as sound.

use std::collections::VecDeque;

use trunkline_audio::FRAME;
use trunkline_audio::tone::{ToneGenerator, dtmf};

/// How the keys that we press reach the other side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeysBy {
    /// As telephone events (RFC 4733); as sound in a call where none were agreed on.
    #[default]
    Events,
    /// By INFO in the signalling (application/dtmf-relay).
    Info,
    /// As sound.
    Sound,
}

/// Frames that a key sounds, and that are silent after it: 120 and 80 ms (ITU-T Q.24 asks for 40 of each).
const ON: u16 = 6;
const OFF: u16 = 4;
/// As loud as telephones press.
const LEVEL_DBFS: f32 = -12.0;
/// Keys that wait at most.
const MAX_WAITING: usize = 32;

/// Keys pressed as sound, one after another.
#[derive(Debug)]
pub(crate) struct KeyTones {
    waiting: VecDeque<char>,
    tone: Option<ToneGenerator>,
    /// Frames left of the key that is pressed and of the silence after it.
    left: u16,
}

impl KeyTones {
    pub(crate) fn new() -> Self {
        Self { waiting: VecDeque::with_capacity(MAX_WAITING), tone: None, left: 0 }
    }

    /// Presses a key; false for none, and when too many wait.
    pub(crate) fn press(&mut self, key: char) -> bool {
        let takes = self.waiting.len() < MAX_WAITING && dtmf(key, LEVEL_DBFS).is_some();
        if takes {
            self.waiting.push_back(key);
        }
        takes
    }

    /// Puts the key that is pressed in the place of what a frame has.
    pub(crate) fn fill(&mut self, frame: &mut [i16; FRAME]) {
        if self.left == 0 {
            let Some(key) = self.waiting.pop_front() else { return };
            self.tone = dtmf(key, LEVEL_DBFS).map(|signal| ToneGenerator::new(8_000, signal));
            self.left = ON + OFF;
        }
        self.left -= 1;
        match &mut self.tone {
            Some(tone) if self.left >= OFF => tone.fill(frame),
            Some(_) | None => frame.fill(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use trunkline_audio::tone::DtmfDetector;

    use super::*;

    #[test]
    fn keys_are_heard_in_their_order_also_the_same_one_twice_and_speech_goes_on_after_them() {
        let mut keys = KeyTones::new();
        for key in "1159*#D".chars() {
            assert!(keys.press(key));
        }
        assert!(!keys.press('x'));
        let mut detector = DtmfDetector::new(8_000);
        let mut heard = String::new();
        for _ in 0..7 * (ON + OFF) {
            let mut frame = [9_000; FRAME];
            keys.fill(&mut frame);
            heard.extend(detector.push(&frame));
        }
        assert_eq!(heard, "1159*#D");
        let mut frame = [9_000; FRAME];
        keys.fill(&mut frame);
        assert_eq!(frame, [9_000; FRAME]);
    }

    #[test]
    fn a_flood_of_keys_is_bounded() {
        let mut keys = KeyTones::new();
        assert_eq!((0..1_000).filter(|_| keys.press('1')).count(), MAX_WAITING);
    }
}
