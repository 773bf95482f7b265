//! Text to sound.
//!
//! [`Kokoro`] is the voice, [`Espeak`] speaks when its model is missing or fails, and
//! [`PromptStore`] keeps what was rendered, so that in a call only generated text waits for
//! synthesis. [`text`] turns written Mandarin and English into phonemes; it holds no model.

mod espeak;
mod kokoro;
mod level;
mod pieces;
mod prompts;
pub mod text;

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

pub use self::espeak::Espeak;
pub use self::kokoro::{Kokoro, KokoroSettings};
pub use self::level::{PROMPT_LEVEL_DBFS, TELEPHONE_RATE, TelephoneSpeech};
pub use self::pieces::{Piece, pieces};
pub use self::prompts::{Prompt, PromptError, PromptKey, PromptStore};
use crate::ort_rt::OrtError;

/// Samples per second of every [`Speech`].
pub const SAMPLE_RATE: u32 = 24_000;

/// The language and country whose reading rules apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Locale {
    /// Mandarin, mainland China.
    ZhCn,
    /// English, United States: `$`, month before day.
    EnUs,
    /// English, United Kingdom: day before month, "and" in numbers, no r after vowels.
    EnGb,
}

impl Locale {
    /// The BCP 47 tag.
    pub fn tag(self) -> &'static str {
        match self {
            Self::ZhCn => "zh-CN",
            Self::EnUs => "en-US",
            Self::EnGb => "en-GB",
        }
    }

    /// The voice a robot uses when its script names none.
    pub fn default_voice(self) -> &'static str {
        match self {
            Self::ZhCn => "zf_xiaoxiao",
            Self::EnUs => "af_heart",
            Self::EnGb => "bf_emma",
        }
    }
}

impl fmt::Display for Locale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.tag())
    }
}

/// A language tag that no voice here speaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no voice speaks `{0}`: only zh-CN, en-US and en-GB")]
pub struct UnknownLocale(pub String);

impl FromStr for Locale {
    type Err = UnknownLocale;

    fn from_str(tag: &str) -> Result<Self, UnknownLocale> {
        match tag.to_ascii_lowercase().replace('_', "-").as_str() {
            "zh" | "zh-cn" | "zh-hans" | "zh-hans-cn" | "cmn" => Ok(Self::ZhCn),
            "en" | "en-us" => Ok(Self::EnUs),
            "en-gb" => Ok(Self::EnGb),
            _ => Err(UnknownLocale(tag.to_owned())),
        }
    }
}

/// How something is said: a small, fixed set that changes pace and pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Style {
    /// The voice as it is.
    #[default]
    Neutral,
    /// A little slower, with room between clauses.
    Warm,
    /// Quick, with short pauses.
    Brisk,
    /// Slow, with long pauses: for people who are upset, and for numbers to be written down.
    Calm,
}

impl Style {
    /// The name used in scripts and keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Neutral => "neutral",
            Self::Warm => "warm",
            Self::Brisk => "brisk",
            Self::Calm => "calm",
        }
    }

    /// Factor on the speaking rate.
    fn pace(self) -> f32 {
        match self {
            Self::Neutral => 1.0,
            Self::Warm => 0.96,
            Self::Brisk => 1.12,
            Self::Calm => 0.9,
        }
    }

    /// Factor on the pauses.
    fn pauses(self) -> f32 {
        match self {
            Self::Neutral => 1.0,
            Self::Warm => 1.15,
            Self::Brisk => 0.7,
            Self::Calm => 1.4,
        }
    }
}

impl FromStr for Style {
    type Err = UnknownStyle;

    fn from_str(name: &str) -> Result<Self, UnknownStyle> {
        match name {
            "neutral" => Ok(Self::Neutral),
            "warm" => Ok(Self::Warm),
            "brisk" => Ok(Self::Brisk),
            "calm" => Ok(Self::Calm),
            _ => Err(UnknownStyle(name.to_owned())),
        }
    }
}

/// A style that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no style is called `{0}`: neutral, warm, brisk or calm")]
pub struct UnknownStyle(pub String);

/// What to say, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct SpeechRequest {
    /// The text as written, digits and all.
    pub text: String,
    /// Whose reading rules apply.
    pub locale: Locale,
    /// A voice of the engine, such as `zf_xiaoxiao`.
    pub voice: String,
    /// How it is said.
    pub style: Style,
    /// Factor on the speaking rate, 0.5 to 2.0; 1.0 is the voice's own.
    pub speed: f32,
    /// It is one of several pieces that must be in one voice: no other engine steps in for it.
    pub one_of_several: bool,
}

impl SpeechRequest {
    /// Asks for `text` in the locale's default voice, neutral, at its own speed.
    pub fn new(text: impl Into<String>, locale: Locale) -> Self {
        Self {
            text: text.into(),
            locale,
            voice: locale.default_voice().to_owned(),
            style: Style::Neutral,
            speed: 1.0,
            one_of_several: false,
        }
    }

    /// The same in another voice.
    #[must_use]
    pub fn with_voice(mut self, voice: impl Into<String>) -> Self {
        self.voice = voice.into();
        self
    }

    /// How long a pause of so many milliseconds is in this style and at this speed, in milliseconds.
    pub fn pause_ms(&self, pause_ms: u32) -> u32 {
        (pause_ms as f32 * self.style.pauses() / self.rate()) as u32
    }

    /// The rate that style and speed come to, within what the voices can do.
    fn rate(&self) -> f32 {
        let speed = if self.speed.is_finite() { self.speed } else { 1.0 };
        (speed * self.style.pace()).clamp(0.5, 2.0)
    }
}

/// A stretch of text between two pauses, and where it ends in the sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClauseEnd {
    /// The words as written in the request.
    pub text: String,
    /// The first sample after the clause, at the rate of what holds this.
    pub end: usize,
}

/// Synthesised sound at [`SAMPLE_RATE`], one channel.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Speech {
    /// Samples, full scale at 1.0.
    pub samples: Vec<f32>,
    /// The clauses in order; ends never decrease and the last is the length of `samples`.
    pub clauses: Vec<ClauseEnd>,
}

impl Speech {
    /// Length in seconds.
    pub fn seconds(&self) -> f32 {
        self.samples.len() as f32 / SAMPLE_RATE as f32
    }
}

/// Why nothing was synthesised.
#[derive(Debug, thiserror::Error)]
pub enum SynthError {
    /// The model or the runtime could not be opened.
    #[error("could not open the voice model")]
    Model(#[from] OrtError),
    /// A file beside the model is missing or damaged.
    #[error("could not read `{path}`: {reason}")]
    Asset {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The engine has no voice of that name.
    #[error("there is no voice `{voice}`")]
    Voice {
        /// The name asked for.
        voice: String,
    },
    /// The model failed on this text.
    #[error("the voice model failed")]
    Inference(#[source] ort::Error),
    /// The model answered with something that is no sound.
    #[error("the voice model gave no usable sound: {0}")]
    BadOutput(String),
    /// The external speech program could not be used.
    #[error("could not run `{program}`: {reason}")]
    Program {
        /// The program.
        program: String,
        /// What happened.
        reason: String,
    },
}

/// Something that speaks. Calls block for about as long as the model computes, so they belong on a
/// worker thread, not on the one that serves a call.
pub trait Synthesizer: Send + Sync {
    /// Says what `req` asks for. Text without anything to say gives empty speech.
    ///
    /// # Errors
    /// See [`SynthError`].
    fn synthesize(&self, req: &SpeechRequest) -> Result<Speech, SynthError> {
        let mut speech = Speech::default();
        self.stream(req, &mut |part| {
            let at = speech.samples.len();
            speech.samples.extend_from_slice(&part.samples);
            speech.clauses.extend(part.clauses.into_iter().map(|c| ClauseEnd { end: at + c.end, ..c }));
            true
        })?;
        Ok(speech)
    }

    /// Says the same part by part, so that the first sound is out before the last is computed.
    /// Each part goes to `sink` as soon as it is ready; `false` from `sink` stops the rest.
    ///
    /// # Errors
    /// See [`SynthError`]; parts already delivered stay delivered.
    fn stream(&self, req: &SpeechRequest, sink: &mut dyn FnMut(Speech) -> bool) -> Result<(), SynthError>;

    /// Engine and model, such as `kokoro-v1.0-int8/1`. Part of every prompt's key: it changes
    /// whenever the same request would sound different.
    fn version(&self) -> &str;
}

/// Speaks with the first engine, and with the second where the first fails.
pub struct WithFallback {
    first: Arc<dyn Synthesizer>,
    second: Arc<dyn Synthesizer>,
}

impl WithFallback {
    /// Joins two engines.
    pub fn new(first: Arc<dyn Synthesizer>, second: Arc<dyn Synthesizer>) -> Self {
        Self { first, second }
    }
}

impl Synthesizer for WithFallback {
    fn stream(&self, req: &SpeechRequest, sink: &mut dyn FnMut(Speech) -> bool) -> Result<(), SynthError> {
        let mut delivered = false;
        let first = self.first.stream(req, &mut |part| {
            delivered = true;
            sink(part)
        });
        match first {
            Ok(()) => Ok(()),
            // Half of a sentence in one voice and the whole again in another is worse than silence.
            Err(e) if delivered || req.one_of_several => Err(e),
            Err(e) => {
                tracing::warn!(error = %e, "Voice failed, the fallback speaks");
                self.second.stream(req, sink)
            }
        }
    }

    fn version(&self) -> &str {
        self.first.version()
    }
}

/// Opens the best engine this box has: Kokoro from `model_dir` with espeak-ng behind it, or
/// whichever of the two there is.
///
/// # Errors
/// What is wrong with Kokoro, when espeak-ng is not installed either.
pub fn open_synthesizer(model_dir: &Path) -> Result<Arc<dyn Synthesizer>, SynthError> {
    let fallback = Espeak::find();
    // Two sentences at once: rendering ahead of a call is what keeps its customer waiting longest.
    let sessions = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(2));
    let settings = KokoroSettings { sessions, ..KokoroSettings::default() };
    match (Kokoro::open(model_dir, settings), fallback) {
        (Ok(kokoro), Some(espeak)) => Ok(Arc::new(WithFallback::new(Arc::new(kokoro), Arc::new(espeak)))),
        (Ok(kokoro), None) => Ok(Arc::new(kokoro)),
        (Err(e), Some(espeak)) => {
            tracing::warn!(error = %e, "Kokoro is not usable, espeak-ng speaks");
            Ok(Arc::new(espeak))
        }
        (Err(e), None) => Err(e),
    }
}
