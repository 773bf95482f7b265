//! What goes out of her telephone: her words, and the noise of the line under and between them.
//!
//! On a quiet line an utterance is handed to the media thread whole. With noise the sound is mixed
//! here, frame by frame and a little ahead, because noise has no end.

use std::sync::Arc;

use trunkline_audio::FRAME;
use trunkline_line::{Clip, Command};

const FRAME_MS: u64 = 20;
/// Frames given to the media thread ahead of time: what this task may be late.
const LEAD: u64 = 6;

/// A change in what she says; times are of when it goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voiced {
    Began { at_ms: u64 },
    Ended { at_ms: u64 },
}

/// Her side of the line.
#[derive(Debug)]
pub(crate) struct Mouth {
    stream: Option<Stream>,
    /// Number of the prompt that the media thread plays.
    say: u32,
}

/// Mixed sound on its way.
#[derive(Debug)]
struct Stream {
    noise: Arc<[i16]>,
    at: usize,
    words: Option<(Clip, usize)>,
    /// Frames handed over.
    fed: u64,
    /// Frames in which the media thread had nothing from us, or had not begun.
    missed: u64,
    /// What begins or ends at which frame.
    marks: Vec<(u64, bool)>,
}

impl Mouth {
    pub(crate) fn new(noise: Option<Arc<[i16]>>) -> Self {
        let stream =
            noise.map(|noise| Stream { noise, at: 0, words: None, fed: 0, missed: 0, marks: Vec::new() });
        Self { stream, say: 0 }
    }

    /// Says something; returns what to tell the media thread at once.
    pub(crate) fn say(&mut self, clip: Clip) -> Option<Command> {
        match &mut self.stream {
            Some(stream) => {
                stream.words = Some((clip, 0));
                None
            }
            None => {
                self.say += 1;
                Some(Command::Play { say: self.say, clip, last: true })
            }
        }
    }

    /// Tells whether news about prompt `say` are about what she says now.
    pub(crate) fn is_current(&self, say: u32) -> bool {
        self.stream.is_none() && say == self.say
    }

    /// `ticks` frames have gone out since the call began: hands over what is due.
    pub(crate) fn tick(&mut self, ticks: u64, mut order: impl FnMut(Command)) -> Vec<Voiced> {
        let Some(stream) = &mut self.stream else { return Vec::new() };
        if stream.fed + stream.missed < ticks {
            stream.missed = ticks - stream.fed;
        }
        while stream.fed + stream.missed < ticks + LEAD {
            let clip = stream.next();
            let command = if stream.fed == 0 {
                Command::Play { say: 0, clip, last: false }
            } else {
                Command::Append { say: 0, clip, last: false }
            };
            stream.fed += 1;
            order(command);
        }
        let missed = stream.missed;
        let due: Vec<_> = stream.marks.extract_if(.., |(frame, _)| *frame + missed <= ticks).collect();
        due.into_iter()
            .map(|(frame, begins)| {
                let at_ms = (frame + missed) * FRAME_MS;
                if begins { Voiced::Began { at_ms } } else { Voiced::Ended { at_ms } }
            })
            .collect()
    }
}

impl Stream {
    fn next(&mut self) -> Clip {
        let mut frame = [0i16; FRAME];
        for sample in &mut frame {
            *sample = self.noise[self.at];
            self.at = (self.at + 1) % self.noise.len();
        }
        if let Some((clip, at)) = &mut self.words {
            if *at == 0 {
                self.marks.push((self.fed, true));
            }
            let rest = &clip[*at..];
            for (sample, word) in frame.iter_mut().zip(rest) {
                *sample = sample.saturating_add(*word);
            }
            *at += FRAME.min(rest.len());
            if *at == clip.len() {
                self.marks.push((self.fed + 1, false));
                self.words = None;
            }
        }
        Arc::from(frame.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clip_of(command: &Command) -> &Clip {
        match command {
            Command::Play { clip, .. } | Command::Append { clip, .. } => clip,
            Command::Pause
            | Command::Resume
            | Command::Stop
            | Command::Digit(_)
            | Command::DigitAsSound(_)
            | Command::Record(_)
            | Command::Monitor(_)
            | Command::Change(_)
            | Command::Bridge(_)
            | Command::Unbridge
            | Command::Supervise(..)
            | Command::SuperviseAs(_)
            | Command::Unsupervise
            | Command::Close => {
                unreachable!()
            }
        }
    }

    #[test]
    fn on_a_quiet_line_words_go_out_whole() {
        let mut mouth = Mouth::new(None);
        assert!(mouth.tick(5, |_| panic!("nothing to send")).is_empty());
        assert!(matches!(mouth.say(vec![1; 500].into()), Some(Command::Play { say: 1, last: true, .. })));
        assert!(mouth.is_current(1) && !mouth.is_current(0));
    }

    #[test]
    fn noise_never_ends_and_words_lie_on_it() {
        let mut mouth = Mouth::new(Some(vec![3; 1_000].into()));
        let mut sent = Vec::new();
        mouth.tick(0, |command| sent.push(command));
        assert_eq!(sent.len() as u64, LEAD);
        assert!(mouth.say(vec![10; 200].into()).is_none());
        let mut voiced = Vec::new();
        for ticks in 1..20 {
            voiced.extend(mouth.tick(ticks, |command| sent.push(command)));
        }
        let sound: Vec<i16> = sent.iter().flat_map(|command| clip_of(command).iter().copied()).collect();
        let begin = LEAD as usize * FRAME;
        assert!(sound[..begin].iter().all(|&s| s == 3) && sound[begin + 200..].iter().all(|&s| s == 3));
        assert!(sound[begin..begin + 200].iter().all(|&s| s == 13));
        assert_eq!(voiced, [Voiced::Began { at_ms: 120 }, Voiced::Ended { at_ms: 160 }]);
        assert!(matches!(sent[0], Command::Play { .. }) && matches!(sent[1], Command::Append { .. }));
    }

    #[test]
    fn a_task_that_was_late_does_not_fall_further_behind() {
        let mut mouth = Mouth::new(Some(vec![3; 1_000].into()));
        let mut sent = 0;
        mouth.tick(0, |_| sent += 1);
        mouth.tick(50, |_| sent += 1);
        assert_eq!(sent, 2 * LEAD);
        mouth.say(vec![1; 160].into());
        let mut voiced = Vec::new();
        for ticks in 51..70 {
            voiced.extend(mouth.tick(ticks, |_| sent += 1));
        }
        // The next frame after the 12 that were fed goes out at 12 + 44 missed.
        assert_eq!(voiced[0], Voiced::Began { at_ms: 56 * 20 });
    }
}
