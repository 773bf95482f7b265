//! What the robot is saying: clips queued one behind the other, played in frames of 20 ms.

use std::collections::VecDeque;
use std::sync::Arc;

use rtrb::Producer;
use trunkline_audio::FRAME;
use trunkline_audio::record::RecordFrame;

use crate::bridge::Bridge;
use crate::media::MediaTerms;
use crate::third::SuperviseMode;

/// How far a prompt that goes on is taken back at most, to begin at a gap between words: 700 ms.
const TAKE_BACK: usize = 5_600;
/// A window that is searched for quiet: 20 ms.
const WINDOW: usize = 160;
/// A fade that no ear takes for a click: 5 ms.
const RAMP: usize = 40;

/// A piece of sound, 8 kHz, 16 bit, mono.
pub type Clip = Arc<[i16]>;

/// What the owner of a call tells its player.
#[derive(Debug)]
pub enum Command {
    /// Begins prompt `say` with this clip, dropping whatever played.
    Play {
        /// Number of the prompt.
        say: u32,
        /// Its first clip.
        clip: Clip,
        /// Whether nothing follows.
        last: bool,
    },
    /// Adds a clip to prompt `say`; ignored when another plays.
    Append {
        /// Number of the prompt.
        say: u32,
        /// The next clip.
        clip: Clip,
        /// Whether nothing follows.
        last: bool,
    },
    /// Holds the prompt where it is.
    Pause,
    /// Goes on with it.
    Resume,
    /// Drops it.
    Stop,
    /// Sends `digit` as a telephone event (RFC 4733), in front of what is said.
    Digit(char),
    /// The same as sound, in place of what is said; so is [`Self::Digit`] where no telephone events were agreed on.
    DigitAsSound(char),
    /// Hands each frame of both directions to a recording from now on; dropping the other end ends that.
    Record(Producer<RecordFrame>),
    /// As [`Self::Record`], for somebody who listens.
    Monitor(Producer<RecordFrame>),
    /// Goes on with what was agreed anew in the signalling.
    Change(MediaTerms),
    /// Joins the sound of another call to this one, in place of prompts.
    Bridge(Box<Bridge>),
    /// Ends that.
    Unbridge,
    /// Joins a supervisor to the call, who hears both and is heard as the mode says. Her own call has the other end.
    Supervise(Box<Bridge>, SuperviseMode),
    /// Changes who hears her.
    SuperviseAs(SuperviseMode),
    /// Lets her go.
    Unsupervise,
    /// Ends the endpoint.
    Close,
}

/// What came of filling a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    Silence,
    /// The first frame of a prompt.
    First(u32),
    Sound,
    /// The last frame of a prompt.
    Last(u32),
}

/// The prompt that is being said.
#[derive(Debug, Default)]
pub(crate) struct Player {
    say: u32,
    clips: VecDeque<Clip>,
    at: usize,
    played: usize,
    last: bool,
    active: bool,
    begun: bool,
    paused: bool,
    /// The next frame is the last before a pause: it fades away.
    fading: bool,
    /// The next frame is the first after a pause.
    rising: bool,
}

impl Player {
    pub(crate) fn new() -> Self {
        Self { clips: VecDeque::with_capacity(32), ..Self::default() }
    }

    pub(crate) fn play(&mut self, say: u32, clip: Clip, last: bool) {
        self.clips.clear();
        self.clips.push_back(clip);
        (self.say, self.at, self.played, self.last) = (say, 0, 0, last);
        (self.active, self.begun, self.paused) = (true, false, false);
        (self.fading, self.rising) = (false, false);
    }

    pub(crate) fn append(&mut self, say: u32, clip: Clip, last: bool) {
        if self.active && self.say == say && self.clips.len() < self.clips.capacity() {
            self.clips.push_back(clip);
            self.last = last;
        }
    }

    /// Holds the prompt, or lets it go on from the last gap between words.
    pub(crate) fn set_paused(&mut self, paused: bool) {
        if paused == self.paused {
            return;
        }
        self.paused = paused;
        self.fading = paused && self.active && self.begun;
        if !paused && self.begun {
            self.take_back();
            self.rising = true;
        }
    }

    /// Goes back to the quietest spot of the last words, the nearest of equally quiet ones: half a
    /// word is not understood. Only within the clip that plays.
    fn take_back(&mut self) {
        let Some(clip) = self.clips.front() else { return };
        let from = self.at.saturating_sub(TAKE_BACK);
        let energy = |at: usize| -> u64 {
            clip[at..at + WINDOW].iter().map(|s| u64::from(s.unsigned_abs()).pow(2)).sum()
        };
        let spots = (from..self.at.saturating_sub(WINDOW)).step_by(WINDOW / 2).map(|at| (energy(at), at));
        let Some((least, _)) = spots.clone().min() else { return };
        // 6 dB above the quietest is as good a gap, and less is said twice.
        let spot = spots.filter(|(energy, _)| *energy <= least.saturating_mul(4)).map(|(_, at)| at).max();
        let at = spot.map_or(from, |at| at + WINDOW / 2);
        self.played -= self.at - at;
        self.at = at;
    }

    pub(crate) fn stop(&mut self) {
        self.active = false;
        self.clips.clear();
    }

    /// Returns the prompt and how many of its samples were sent, while there is one.
    pub(crate) fn position(&self) -> Option<(u32, usize)> {
        self.active.then_some((self.say, self.played))
    }

    /// Fills one frame with what is to be sent now.
    pub(crate) fn fill(&mut self, frame: &mut [i16; FRAME]) -> Filled {
        frame.fill(0);
        if !self.active || (self.paused && !self.fading) {
            return Filled::Silence;
        }
        let mut filled = 0;
        while filled < FRAME {
            let Some(clip) = self.clips.front() else { break };
            let n = (FRAME - filled).min(clip.len() - self.at);
            frame[filled..filled + n].copy_from_slice(&clip[self.at..self.at + n]);
            filled += n;
            self.at += n;
            if self.at == clip.len() {
                self.clips.pop_front();
                self.at = 0;
            }
        }
        self.played += filled;
        if std::mem::take(&mut self.fading) {
            for (n, sample) in frame.iter_mut().enumerate() {
                *sample = (i32::from(*sample) * (FRAME - n) as i32 / FRAME as i32) as i16;
            }
        }
        if std::mem::take(&mut self.rising) {
            for (n, sample) in frame.iter_mut().take(RAMP).enumerate() {
                *sample = (i32::from(*sample) * n as i32 / RAMP as i32) as i16;
            }
        }
        let over = self.clips.is_empty() && self.last;
        if over {
            self.active = false;
        }
        let begun = self.begun;
        self.begun |= filled > 0;
        match (over, filled > 0, begun) {
            (false, true, false) => Filled::First(self.say),
            (true, _, _) => Filled::Last(self.say),
            (false, true, true) => Filled::Sound,
            (false, false, _) => Filled::Silence,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clip(len: usize, value: i16) -> Clip {
        vec![value; len].into()
    }

    #[test]
    fn clips_are_joined_without_a_gap_and_the_end_is_told_once() {
        let mut player = Player::new();
        let mut frame = [0; FRAME];
        player.play(7, clip(200, 1), false);
        player.append(7, clip(120, 2), true);
        assert_eq!(player.fill(&mut frame), Filled::First(7));
        assert_eq!(player.fill(&mut frame), Filled::Last(7));
        assert_eq!((frame[39], frame[40]), (1, 2));
        assert_eq!(player.fill(&mut frame), Filled::Silence);
    }

    #[test]
    fn a_held_prompt_fades_and_goes_on_from_the_gap_before_the_word() {
        let mut player = Player::new();
        let mut frame = [0; FRAME];
        let mut sound = vec![4_000; 3_200];
        sound[1_280..1_600].fill(3);
        player.play(1, sound.into(), true);
        for _ in 0..15 {
            player.fill(&mut frame);
        }
        player.set_paused(true);
        assert_eq!(player.fill(&mut frame), Filled::Sound);
        assert!(frame[0] > 3_900 && frame[159] < 100, "{frame:?}");
        assert_eq!(player.fill(&mut frame), Filled::Silence);
        assert_eq!(frame, [0; FRAME]);
        assert_eq!(player.position(), Some((1, 2_560)));
        player.set_paused(false);
        let (_, at) = player.position().unwrap();
        assert!((1_280..1_600).contains(&at), "{at}");
        assert_eq!(player.fill(&mut frame), Filled::Sound);
        assert!(frame[0] == 0, "it rises from silence");
    }

    #[test]
    fn a_prompt_that_was_held_before_it_began_begins_at_its_beginning() {
        let mut player = Player::new();
        let mut frame = [0; FRAME];
        player.play(1, clip(320, 5), true);
        player.set_paused(true);
        assert_eq!(player.fill(&mut frame), Filled::Silence);
        player.set_paused(false);
        assert_eq!(player.fill(&mut frame), Filled::First(1));
        assert_eq!(player.fill(&mut frame), Filled::Last(1));
    }

    #[test]
    fn a_prompt_whose_next_clip_is_late_waits_in_silence() {
        let mut player = Player::new();
        let mut frame = [0; FRAME];
        player.play(1, clip(160, 5), false);
        assert_eq!(player.fill(&mut frame), Filled::First(1));
        assert_eq!(player.fill(&mut frame), Filled::Silence);
        player.append(1, clip(10, 5), true);
        assert_eq!(player.fill(&mut frame), Filled::Last(1));
    }
}
