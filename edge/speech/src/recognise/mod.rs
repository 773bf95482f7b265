//! Recognition: one utterance in, its text out, or the reason why there is none.
//!
//! [`Recognizer`] is the seam between the call and an engine; [`Whisper`] is the engine that the box
//! brings, [`OnnxRecognizer`] runs models that a customer brings.
//! [`RecognizerPool`] gives the callers their turn, the one who has waited longest first.
//! [`guard`] decides whether what the engine wrote was said at all: whisper writes a sentence for
//! any noise, and a robot that answers a passing lorry is worse than one that asks again.
//!
//! Not here on purpose: when to recognise (see [`crate::ear`]) and what the words mean (the cloud).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

mod alike;
mod dictation;
mod greedy;
pub mod guard;
mod judge;
mod lanes;
mod language;
mod lexicon;
mod memory;
pub mod onnx;
mod phrases;
mod pool;
mod stop;
#[cfg(test)]
pub(crate) mod testing;
pub mod text;
mod upsample;
mod whisper;

pub use dictation::{Dictation, Draft};
pub use guard::{Guards, Rejection};
pub use language::Language;
pub use lexicon::{Lexicon, LexiconRule};
pub use onnx::{OnnxConfig, OnnxError, OnnxFiles, OnnxRecognizer};
pub use phrases::{Choice, ChoiceRule};
pub use pool::{Done, Job, PoolConfig, PoolStats, RecognizerPool};
pub use whisper::{LoadError, Whisper, WhisperConfig};

/// Samples per second of everything that goes into a recogniser or an end-of-turn model.
pub const MODEL_RATE: u32 = 16_000;

/// Turns sound into text.
///
/// Implementations are shared between calls and are called from several threads at once; they block
/// for as long as the computation takes, so they belong on worker threads ([`RecognizerPool`]).
pub trait Recognizer: Send + Sync {
    /// Recognises one utterance.
    ///
    /// Sound without speech is no error: it gives a [`Transcript`] with an empty text and the
    /// [`Rejection`] that says why.
    ///
    /// # Errors
    /// [`RecognizeError::Cancelled`] and [`RecognizeError::DeadlinePassed`] as the options ask,
    /// [`RecognizeError::TooLong`] beyond what the engine takes, [`RecognizeError::Engine`] when it fails.
    fn recognize(&self, audio: &Utterance, options: &RecognizeOptions) -> Result<Transcript, RecognizeError>;

    /// Returns how many utterances it can work on at the same time: fewer than it was set up for where
    /// there was no memory for more. The pool gives it no more than that at once.
    fn at_once(&self) -> usize {
        usize::MAX
    }
}

/// One stretch of a caller's speech: 16 kHz, mono, -1 to 1. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Utterance {
    /// The sound.
    pub samples: Arc<[f32]>,
    /// How much of it the voice activity detector took for speech, when one listened.
    pub voiced: Option<Duration>,
    /// The turn of whose sound this is the beginning or the whole: a number that no other turn of the
    /// call has.
    pub turn: Option<u64>,
}

impl Utterance {
    /// Wraps sound that is already at [`MODEL_RATE`].
    pub fn new(samples: impl Into<Arc<[f32]>>) -> Self {
        Self { samples: samples.into(), voiced: None, turn: None }
    }

    /// Converts sound of the telephone (8 kHz, 16 bit).
    pub fn from_telephone(pcm: &[i16]) -> Self {
        Self::new(upsample::double_rate(pcm))
    }

    /// States how much speech the voice activity detector found.
    pub fn with_voiced(mut self, voiced: Duration) -> Self {
        self.voiced = Some(voiced);
        self
    }

    /// States to which turn of its call the sound belongs. Two utterances of one turn must begin at the
    /// same sample.
    pub fn of_turn(mut self, turn: u64) -> Self {
        self.turn = Some(turn);
        self
    }

    /// Returns the length of the sound.
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.samples.len() as f64 / f64::from(MODEL_RATE))
    }

    /// Returns the level in dB relative to full scale (a full-scale square wave is 0), -120 at least.
    pub fn level_dbfs(&self) -> f32 {
        if self.samples.is_empty() {
            return -120.0;
        }
        let power = self.samples.iter().map(|s| f64::from(*s) * f64::from(*s)).sum::<f64>();
        (10.0 * (power / self.samples.len() as f64).max(1e-12).log10()) as f32
    }
}

/// Says "stop" to a recognition that runs or waits; clones say it together.
#[derive(Debug, Clone, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// Asks to stop. An engine may finish the step it is in first.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Tells whether two tokens are clones of each other.
    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The flag itself, for an engine's callback.
    fn flag(&self) -> &AtomicBool {
        &self.0
    }

    /// Tells whether somebody asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// How much of its fixed 30 s window the encoder computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AudioContext {
    /// The utterance's length and `margin` more units of 20 ms. Below 100 the words suffer, above
    /// only the cost grows (measured; the table is in the crate's bench).
    Fit {
        /// Units of 20 ms beyond the utterance.
        margin: u32,
    },
    /// The whole window: ten times the cost, and the reference to compare with.
    Full,
}

/// How one utterance is to be recognised.
#[derive(Debug, Clone)]
pub struct RecognizeOptions {
    /// What may be spoken, the most likely first. More than one: the engine tells which.
    pub languages: Vec<Language>,
    /// After this instant the answer is of no use to anyone.
    pub deadline: Option<Instant>,
    /// Stops the work when the caller goes on speaking.
    pub cancel: CancelToken,
    /// How much of the encoder's window to compute.
    pub context: AudioContext,
    /// Threads for this one utterance; 0 leaves it to the pool, which takes two when the box is idle.
    pub threads: usize,
    /// Hypotheses kept while decoding: 1 is greedy, at most 8.
    pub beam: usize,
    /// Words and phrases the node expects. They are put before the text as if they had been said
    /// already.
    pub hints: Vec<String>,
    /// Whole answers that the node expects, for closed questions: each is weighed against the sound,
    /// and the likeliest takes the place of free text that is worse. At most some sixty.
    pub phrases: Arc<[String]>,
    /// What people say while they listen, if the robot was speaking: weighed like `phrases`, and then likelier than
    /// any of them.
    pub asides: Arc<[String]>,
    /// The node asks for a number: doubtful text is decoded again with the words of numbers alone.
    pub lexicon: Option<Lexicon>,
    /// What was written of the turn when there was less of it; its firm part is not decoded again.
    pub draft: Option<Draft>,
}

impl RecognizeOptions {
    /// Greedy, context cut to the utterance, no deadline.
    pub fn new(language: Language) -> Self {
        Self {
            languages: vec![language],
            deadline: None,
            cancel: CancelToken::default(),
            context: AudioContext::Fit { margin: 100 },
            threads: 0,
            beam: 1,
            hints: Vec::new(),
            phrases: Arc::default(),
            asides: Arc::default(),
            lexicon: None,
            draft: None,
        }
    }
}

/// One piece of text with the probability the engine gave it.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// The piece; part of a character's bytes show as the replacement character.
    pub text: String,
    /// 0 to 1.
    pub probability: f32,
}

/// What was understood.
#[derive(Debug, Clone)]
pub struct Transcript {
    /// The text, in simplified characters for Mandarin; empty when `rejected` says why.
    pub text: String,
    /// What the engine wrote, before cleaning and guards. For the log of a developer, not for a record.
    pub raw: String,
    /// The language that was assumed or found.
    pub language: Language,
    /// Mean natural logarithm of the text tokens' probabilities; 0 is certain, below -1 is guessing.
    pub avg_logprob: f32,
    /// The engine's own probability that nobody spoke, 0 to 1.
    pub no_speech_prob: f32,
    /// Bytes of the text over bytes after taking out repetitions; above 2.4 it loops.
    pub compression_ratio: f32,
    /// Length of the sound.
    pub audio: Duration,
    /// Time the engine took, without waiting.
    pub took: Duration,
    /// The text piece by piece.
    pub tokens: Vec<Token>,
    /// The likeliest of the expected phrases, if any were given and the sound was short enough.
    pub choice: Option<Choice>,
    /// Why the text is empty, if a guard emptied it.
    pub rejected: Option<Rejection>,
    /// Natural logarithm of the decoder's probability that the text ends where it does.
    pub end_logprob: f32,
    /// What a recognition of more of the same turn may take as given; `None` for rejected text.
    pub draft: Option<Draft>,
}

impl Transcript {
    /// Returns one figure for "how sure", 0 to 1: the geometric mean of the token probabilities,
    /// lowered by the engine's doubt that anybody spoke; 0 for rejected text.
    pub fn confidence(&self) -> f32 {
        if self.text.is_empty() {
            return 0.0;
        }
        self.avg_logprob.exp().clamp(0.0, 1.0) * (1.0 - 0.5 * self.no_speech_prob.clamp(0.0, 1.0))
    }
}

/// Why there is no transcript.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecognizeError {
    /// Somebody cancelled it.
    #[error("recognition was cancelled")]
    Cancelled,
    /// The deadline passed while it waited or ran.
    #[error("recognition did not finish before its deadline")]
    DeadlinePassed,
    /// Longer than the engine's window.
    #[error("utterance of {got_ms} ms is longer than the {max_ms} ms that can be recognised at once")]
    TooLong {
        /// Length of the utterance.
        got_ms: u64,
        /// The limit.
        max_ms: u64,
    },
    /// The engine failed or panicked.
    #[error("recogniser failed: {0}")]
    Engine(String),
    /// As many utterances wait as the pool holds.
    #[error("{waiting} utterances are waiting already")]
    Busy {
        /// How many.
        waiting: usize,
    },
    /// The pool is shutting down.
    #[error("the recogniser pool is closed")]
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_of_a_token_is_cancelled_with_it() {
        let token = CancelToken::default();
        let clone = token.clone();
        assert!(!clone.is_cancelled());
        token.cancel();
        assert!(clone.is_cancelled());
    }

    #[test]
    fn telephone_sound_doubles_in_samples_and_keeps_its_length_in_time() {
        let utterance = Utterance::from_telephone(&[1000; 8_000]);
        assert_eq!(utterance.samples.len(), 16_000);
        assert_eq!(utterance.duration(), Duration::from_secs(1));
        assert!((utterance.level_dbfs() - 20.0 * (1000.0f32 / 32768.0).log10()).abs() < 0.2);
    }
}
