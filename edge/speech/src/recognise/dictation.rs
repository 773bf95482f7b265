//! One call's place at the pool: a turn is recognised again and again while it grows, and what was
//! written of its beginning is not written twice.
//!
//! The encoder must see the whole sound each time, but each piece of text costs the decoder a step
//! of some ten milliseconds, and a sentence has twenty. So each text leaves a [`Draft`], and the next
//! recognition of the same turn takes its firm part as given and decodes the rest. Drafts come from
//! pauses after which the caller went on, and, while the pool has nothing else to do, from guesses in
//! the middle of speech.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::greedy::Chosen;
use super::{
    CancelToken, Done, Job, Language, MODEL_RATE, RecognizeError, RecognizeOptions, RecognizerPool, Utterance,
};
use crate::ear::Ear;

/// A turn this long, in ms, is worth a guess while it goes on.
const LONG_TURN_MS: u32 = 1_500;
/// So much more sound, in ms, makes another guess worth its work.
const GROWN_MS: u32 = 900;
/// Text of the last stretch of sound may change with what follows, in seconds.
const UNSETTLED_S: f32 = 0.5;
/// Pieces of text that are dropped at least.
const UNSETTLED_PIECES: usize = 2;
/// A shorter beginning is not worth keeping, in pieces of text.
const SHORTEST: usize = 3;
/// Sound around the voice in an utterance, in seconds: none of the text belongs to it.
const AROUND_S: f32 = 0.36;

/// What was written of the beginning of a turn.
#[derive(Debug, Clone)]
pub struct Draft {
    turn: u64,
    samples: usize,
    language: Language,
    /// First number that is a timestamp and no text.
    first_time: i32,
    sequence: Arc<[Chosen]>,
}

impl Draft {
    /// Keeps what was chosen for `audio`; `None` when it is not known to which turn it belongs.
    pub(crate) fn of(
        audio: &Utterance,
        language: Language,
        first_time: i32,
        sequence: &[Chosen],
    ) -> Option<Self> {
        let turn = audio.turn?;
        Some(Self { turn, samples: audio.samples.len(), language, first_time, sequence: sequence.into() })
    }

    /// Returns the part that more sound of the same turn does not change, with its timestamps; empty
    /// when `audio` is of another turn or is not longer.
    pub(crate) fn firm(&self, audio: &Utterance, language: Language) -> &[Chosen] {
        if audio.turn != Some(self.turn) || language != self.language || audio.samples.len() < self.samples {
            return &[];
        }
        let is_text = |chosen: &&Chosen| chosen.token < self.first_time;
        let pieces = self.sequence.iter().filter(is_text).count();
        let seconds = self.samples as f32 / MODEL_RATE as f32 - AROUND_S;
        let unsettled = (pieces as f32 * UNSETTLED_S / seconds.max(UNSETTLED_S)).ceil() as usize;
        let keep = pieces.saturating_sub(unsettled.max(UNSETTLED_PIECES));
        if keep < SHORTEST {
            return &[];
        }
        let last = self.sequence.iter().enumerate().filter(|(_, chosen)| is_text(chosen)).nth(keep - 1);
        last.map_or(&[], |(at, _)| &self.sequence[..=at])
    }
}

/// A call's recognitions. Dropping it cancels what runs.
pub struct Dictation {
    pool: Arc<RecognizerPool>,
    latest: Arc<Mutex<Option<Draft>>>,
    /// What runs or waits for this call.
    running: Option<CancelToken>,
    /// Length of the turn at the last recognition, in ms.
    heard_ms: u32,
}

impl Dictation {
    /// Begins a call.
    pub fn new(pool: Arc<RecognizerPool>) -> Self {
        Self { pool, latest: Arc::default(), running: None, heard_ms: 0 }
    }

    /// Has the sound up to a pause recognised. What ran for this call before is cancelled; `done` is
    /// called once, on a worker thread.
    ///
    /// # Errors
    /// [`RecognizeError::Busy`] when the queue is full; then `done` is never called.
    pub fn recognise(
        &mut self,
        audio: Utterance,
        options: RecognizeOptions,
        waiting_since: Instant,
        done: impl FnOnce(Done) + Send + 'static,
    ) -> Result<(), RecognizeError> {
        self.submit(audio, options, Some(waiting_since), done)
    }

    fn submit(
        &mut self,
        audio: Utterance,
        options: RecognizeOptions,
        waiting_since: Option<Instant>,
        done: impl FnOnce(Done) + Send + 'static,
    ) -> Result<(), RecognizeError> {
        self.cancel();
        self.heard_ms = u32::try_from(audio.duration().as_millis()).unwrap_or(u32::MAX);
        let latest = Arc::clone(&self.latest);
        let draft = latest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let options = RecognizeOptions { draft, cancel: CancelToken::default(), ..options };
        let keep = move |finished: Done| {
            if let Ok(transcript) = &finished.result
                && let Some(draft) = &transcript.draft
            {
                *latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(draft.clone());
            }
            done(finished);
        };
        self.running = Some(self.pool.submit(Job { audio, options, waiting_since }, keep)?);
        Ok(())
    }

    /// The caller goes on, and nobody waits for the text any more. Unless other calls need the pool the
    /// work is finished all the same: its text is the beginning of what is to come.
    pub fn went_on(&mut self) {
        if let Some(running) = &self.running {
            self.pool.nobody_waits(running);
        }
    }

    /// Guesses at what is being said, when there is enough of it and the pool has nothing else to do.
    /// To be called with every frame or so; it costs nothing when there is nothing to do.
    pub fn listen_ahead(&mut self, ear: &Ear, language: Language) {
        if !self.pool.can_spare_a_core() {
            return;
        }
        let Some(turn_ms) = ear.turn_ms() else {
            self.heard_ms = 0;
            return;
        };
        if turn_ms < LONG_TURN_MS.max(self.heard_ms + GROWN_MS)
            || ear.silence_ms() > 0
            || !self.pool.is_empty()
        {
            return;
        }
        let Some(audio) = ear.utterance() else { return };
        // One thread: the other is for whoever comes to the end of a turn meanwhile.
        let options = RecognizeOptions { threads: 1, ..RecognizeOptions::new(language) };
        // When the queue is full there is no guess; that is no loss.
        let _ = self.submit(audio, options, None, |_| {});
    }

    /// Stops what runs.
    pub fn cancel(&mut self) {
        if let Some(running) = self.running.take() {
            running.cancel();
        }
    }
}

impl Drop for Dictation {
    fn drop(&mut self) {
        self.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST_TIME: i32 = 100;

    fn sequence(tokens: &[i32]) -> Vec<Chosen> {
        tokens.iter().map(|token| Chosen { token: *token, logprob: -0.1 }).collect()
    }

    fn sound(turn: u64, seconds: f32) -> Utterance {
        Utterance::new(vec![0.0; (seconds * MODEL_RATE as f32) as usize]).of_turn(turn)
    }

    fn kept(draft: &Draft, audio: &Utterance) -> Vec<i32> {
        draft.firm(audio, Language::EN).iter().map(|chosen| chosen.token).collect()
    }

    #[test]
    fn the_last_half_second_of_a_draft_may_change_and_the_rest_is_kept() {
        let tokens: Vec<i32> = [FIRST_TIME].into_iter().chain(0..10).chain([FIRST_TIME + 90]).collect();
        let draft = Draft::of(&sound(7, 2.36), Language::EN, FIRST_TIME, &sequence(&tokens)).unwrap();
        // Ten pieces in two seconds: the last three are doubtful, and the timestamp behind them.
        assert_eq!(kept(&draft, &sound(7, 3.0)), [FIRST_TIME, 0, 1, 2, 3, 4, 5, 6]);
        assert!(kept(&draft, &sound(8, 3.0)).is_empty(), "another turn");
        assert!(kept(&draft, &sound(7, 1.0)).is_empty(), "it cannot have been shorter");
        assert!(draft.firm(&sound(7, 3.0), Language::ZH).is_empty(), "another language");
        let short =
            Draft::of(&sound(7, 1.0), Language::EN, FIRST_TIME, &sequence(&[FIRST_TIME, 1, 2, 3])).unwrap();
        assert!(kept(&short, &sound(7, 3.0)).is_empty(), "one sure piece is not worth it");
    }

    #[test]
    fn sound_of_no_known_turn_leaves_no_draft() {
        assert!(Draft::of(&Utterance::new(vec![0.0; 160]), Language::EN, FIRST_TIME, &[]).is_none());
    }
}
