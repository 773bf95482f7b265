//! A second engine: models of three families over ONNX Runtime, as sherpa-onnx has them exported.
//!
//! - CTC: SenseVoice (with its language, emotion and event marks), Zipformer and WeNet.
//! - Transducers without a stateful decoder: Zipformer, Conformer and their kin from icefall.
//! - Paraformer, which writes a whole text at once.
//!
//! All of them hear the whole utterance in one pass, so there is no draft to build on; in exchange a
//! pass costs no window of 30 s and no steps of a decoder. What a model is follows from its own
//! metadata and is checked while it loads: a wrong file is refused with what was expected and found.
//!
//! Absent on purpose: streaming exports (the box decodes whole turns), NeMo's and TeleSpeech's models
//! (other features), and any weights: a customer brings them, as a bundle ([`crate::bundle`]).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

mod ctc;
mod fbank;
mod graph;
mod model;
mod tokens;
mod transducer;

pub use tokens::TokensError;

use super::guard::Guards;
use super::judge::{Judge, Written};
use super::lanes::Lanes;
use super::lexicon::LexiconRule;
use super::memory::{self, KEEP_FREE, Need};
use super::phrases::{Choice, ChoiceRule};
use super::stop::Stop;
use super::{
    Language, MODEL_RATE, RecognizeError, RecognizeOptions, Recognizer, Token, Transcript, Utterance, text,
};
use crate::ort_rt::OrtError;
use ctc::{Bias, Piece, log_add};
use fbank::Features;
use model::{Model, Networks, Posterior};

/// Shorter sound holds no word.
const SHORTEST: Duration = Duration::from_millis(120);
/// Longest sound that is taken; these models' memory grows with its square.
const LONGEST: Duration = Duration::from_secs(30);
/// Beginnings that are kept where words are expected and no number is asked for.
const BEAM: usize = 6;

/// The files of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnnxFiles {
    /// SenseVoice, Zipformer or WeNet with CTC.
    Ctc {
        /// The network.
        model: PathBuf,
        /// Its pieces.
        tokens: PathBuf,
    },
    /// Paraformer.
    Paraformer {
        /// The network.
        model: PathBuf,
        /// Its pieces.
        tokens: PathBuf,
    },
    /// A transducer of three networks.
    Transducer {
        /// Hears the sound.
        encoder: PathBuf,
        /// Sees the last pieces.
        decoder: PathBuf,
        /// Scores the next piece.
        joiner: PathBuf,
        /// Its pieces.
        tokens: PathBuf,
    },
}

/// How an [`OnnxRecognizer`] is set up.
#[derive(Debug, Clone, PartialEq)]
pub struct OnnxConfig {
    /// What the model knows; a request for none of these is refused. Empty: anything is tried.
    pub languages: Vec<Language>,
    /// Utterances in work at the same time, each with sessions and weights of its own; at least 1.
    pub states: usize,
    /// Threads for each utterance. ONNX Runtime fixes them when the model is opened, so a request's own
    /// number does not count here.
    pub threads: usize,
    /// Limits of the guards against invented text.
    pub guards: Guards,
    /// When an expected phrase takes the place of the free text.
    pub choice: ChoiceRule,
    /// When a number that is expected does.
    pub lexicon: LexiconRule,
    /// What each piece of an expected word earns in the beam, in nats.
    pub bias: f32,
    /// Most pieces that a transducer writes for one encoded step.
    pub pieces_per_step: usize,
    /// Bytes of the machine's memory that further sessions must leave free.
    pub keep_free: u64,
}

impl Default for OnnxConfig {
    fn default() -> Self {
        Self {
            languages: Vec::new(),
            states: std::thread::available_parallelism().map_or(1, usize::from),
            threads: 1,
            guards: Guards::default(),
            choice: ChoiceRule::default(),
            lexicon: LexiconRule::default(),
            bias: 1.5,
            pieces_per_step: 1,
            keep_free: KEEP_FREE,
        }
    }
}

/// Why a model could not be used.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// ONNX Runtime or the file could not be opened.
    #[error(transparent)]
    Open(#[from] OrtError),
    /// The table of pieces is no such table.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// Inputs and outputs are not those of the family.
    #[error("`{path}` is no {family}: it should have {wanted}; it has {found}")]
    Form {
        /// The model file.
        path: PathBuf,
        /// What it was taken for.
        family: String,
        /// Inputs and outputs of that.
        wanted: String,
        /// What the file has.
        found: String,
    },
    /// The model is of a family that is known and not supported.
    #[error("`{path}` is a model of type `{model_type}`, which is not supported: {why}")]
    Unsupported {
        /// The model file.
        path: PathBuf,
        /// Its metadata's `model_type`.
        model_type: String,
        /// Why not.
        why: &'static str,
    },
    /// A value that the exporter writes is not there.
    #[error("`{path}` has no `{key}` in its metadata: was it exported for sherpa-onnx?")]
    Metadata {
        /// The model file.
        path: PathBuf,
        /// What is missing.
        key: &'static str,
    },
    /// A value of the metadata makes no sense.
    #[error("`{path}` has a `{key}` of {found} in its metadata instead of {wanted}")]
    MetadataValue {
        /// The model file.
        path: PathBuf,
        /// Which.
        key: &'static str,
        /// What stands there.
        found: String,
        /// What should.
        wanted: String,
    },
    /// The model writes pieces that the table does not have.
    #[error("`{path}` writes {model} pieces and `{tokens}` has {table}: they do not belong together")]
    Vocabulary {
        /// The model file.
        path: PathBuf,
        /// The table.
        tokens: PathBuf,
        /// Pieces of the model.
        model: usize,
        /// Pieces of the table.
        table: usize,
    },
    /// It loaded, and could not compute.
    #[error("`{path}` could not be run: {reason}")]
    Trial {
        /// The model file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
}

/// The recogniser over ONNX Runtime.
pub struct OnnxRecognizer {
    model: Model,
    lanes: Lanes<Networks>,
    judge: Judge,
    languages: Vec<Language>,
    lexicon: LexiconRule,
    bias: f32,
    per_step: usize,
}

/// One utterance, ready for the networks.
struct Asked<'a> {
    features: &'a Features,
    stop: &'a Stop<'a>,
    /// What the model is told is spoken; `None` lets it find out.
    language: Option<Language>,
}

impl OnnxRecognizer {
    /// Loads a model, checks it, and computes once, so that the first caller does not pay for it.
    ///
    /// # Errors
    /// See [`OnnxError`].
    pub fn load(files: &OnnxFiles, config: OnnxConfig) -> Result<Self, OnnxError> {
        let held = memory::held();
        let mut networks = Networks::open(files, config.threads)?;
        let model = Model::read(files.clone(), &networks, config.threads)?;
        let options = RecognizeOptions::new(config.languages.first().copied().unwrap_or(Language::EN));
        let features = model.features(&vec![0.0; MODEL_RATE as usize]);
        let asked = Asked { features: &features, stop: &Stop::new(&options), language: None };
        let trial = model.run(&mut networks, &asked, config.pieces_per_step);
        trial.map_err(|e| OnnxError::Trial { path: model.path().to_owned(), reason: e.to_string() })?;
        let need = Need::measured(held, config.keep_free);
        Ok(Self {
            model,
            lanes: Lanes::new(networks, config.states, need),
            judge: Judge { guards: config.guards, choice: config.choice },
            languages: config.languages,
            lexicon: config.lexicon,
            bias: config.bias,
            per_step: config.pieces_per_step,
        })
    }

    /// Names the family that was found, for people: `SenseVoice`, `CTC`, `Paraformer`, `transducer`.
    pub fn family(&self) -> &'static str {
        self.model.family()
    }

    /// Finds what is spoken, as far as the request settles it, and what to assume otherwise.
    fn language(&self, options: &RecognizeOptions) -> Result<(Language, Option<Language>), RecognizeError> {
        let knows = |language: &Language| self.languages.is_empty() || self.languages.contains(language);
        let known: Vec<Language> = options.languages.iter().copied().filter(knows).collect();
        match known.as_slice() {
            [only] => Ok((*only, Some(*only))),
            [first, ..] => Ok((*first, None)),
            [] => match (options.languages.first(), self.languages.first()) {
                (None, Some(own)) => Ok((*own, None)),
                (None, None) => Ok((Language::EN, None)),
                (Some(_), _) => {
                    let list = |all: &[Language]| all.iter().map(|l| l.code()).collect::<Vec<_>>().join(", ");
                    let (asked, own) = (list(&options.languages), list(&self.languages));
                    Err(RecognizeError::Engine(format!("the model knows {own} and was asked for {asked}")))
                }
            },
        }
    }

    fn write(
        &self,
        posterior: &Posterior,
        audio: &Utterance,
        options: &RecognizeOptions,
        assumed: Language,
    ) -> (Language, Written) {
        let language =
            posterior.language.filter(|found| options.languages.contains(found)).unwrap_or(assumed);
        let free = self.free_text(posterior, options, language);
        let mut written = self.written(&free, posterior);
        if let Some(number) = self.number(posterior, &free, &written, options, language) {
            return (language, number);
        }
        if !self.judge.is_settled(&written, language, options) {
            written.choice = self.choose(posterior, &free, audio, options, language);
        }
        (language, written)
    }

    fn free_text(&self, posterior: &Posterior, options: &RecognizeOptions, language: Language) -> Vec<Piece> {
        if options.hints.is_empty() && options.beam <= 1 {
            return posterior.free(|token| !self.model.tokens.is_mark(token));
        }
        // A deadline that has passed leaves no time for what the greedy way gives at once.
        if Stop::new(options).check().is_err() {
            return posterior.free(|token| !self.model.tokens.is_mark(token));
        }
        let mut bias = Bias::new(self.bias);
        for hint in &options.hints {
            for way in self.ways(hint, language) {
                bias.add(&way);
            }
        }
        posterior.beam(if options.beam > 1 { options.beam.min(8) } else { BEAM }, &bias)
    }

    /// Returns how the model may write a phrase.
    fn ways(&self, phrase: &str, language: Language) -> Vec<Vec<u32>> {
        let mut ways = Vec::new();
        for wording in text::wordings(phrase, language) {
            for way in self.model.tokens.write(&wording) {
                if !ways.contains(&way) {
                    ways.push(way);
                }
            }
        }
        ways
    }

    fn written(&self, pieces: &[Piece], posterior: &Posterior) -> Written {
        let said = || pieces.iter().filter(|piece| !self.model.tokens.is_mark(piece.token));
        let tokens: Vec<Token> = said()
            .map(|piece| Token {
                text: self.model.tokens.piece(piece.token).replace('\u{2581}', " "),
                probability: piece.logprob.exp(),
            })
            .collect();
        let sum: f32 = said().map(|piece| piece.logprob.max(-13.8)).sum();
        Written {
            raw: self.model.tokens.join(pieces.iter().map(|piece| piece.token)),
            avg_logprob: if tokens.is_empty() { -10.0 } else { sum / tokens.len() as f32 },
            tokens,
            no_speech_prob: posterior.no_speech,
            choice: None,
            aside: None,
            end_logprob: posterior.end_logprob(),
            draft: None,
        }
    }

    /// Reads a doubtful text again with the words of numbers alone, where the node asks for a number.
    fn number(
        &self,
        posterior: &Posterior,
        free: &[Piece],
        written: &Written,
        options: &RecognizeOptions,
        language: Language,
    ) -> Option<Written> {
        let lexicon = options.lexicon?;
        let said = text::clean(&written.raw, language);
        let is_sure = written.avg_logprob > self.judge.choice.settled;
        if !said.is_empty() && is_sure && lexicon.covers(&said, language) {
            return None;
        }
        let mut allowed: Vec<u32> =
            lexicon.words(language).iter().flat_map(|word| self.ways(word, language)).flatten().collect();
        allowed.extend((0..10).flat_map(|digit: u32| self.ways(&digit.to_string(), language)).flatten());
        allowed.sort_unstable();
        let number = posterior.free(|token| allowed.binary_search(&token).is_ok());
        // The sound that the words of numbers do not explain speaks against them as a whole.
        let tokens: Vec<u32> = number.iter().map(|piece| piece.token).collect();
        let mean = posterior.relative(free, &tokens)? / tokens.len().max(1) as f32;
        let text = (!written.raw.is_empty()).then_some(written.avg_logprob);
        let fits = !tokens.is_empty() && self.lexicon.prefers(mean, text);
        fits.then(|| Written { avg_logprob: mean, ..self.written(&number, posterior) })
    }

    /// Finds which of the expected phrases is the likeliest.
    fn choose(
        &self,
        posterior: &Posterior,
        free: &[Piece],
        audio: &Utterance,
        options: &RecognizeOptions,
        language: Language,
    ) -> Option<Choice> {
        if audio.duration().as_secs_f32() > self.judge.choice.longest_s {
            return None;
        }
        let mut found: Vec<(&String, f32)> = Vec::new();
        for phrase in options.phrases.iter() {
            let ways = self.ways(phrase, language);
            let logprob = ways
                .iter()
                .filter_map(|way| posterior.relative(free, way))
                .fold(f32::NEG_INFINITY, log_add)
                .min(0.0);
            if logprob.is_finite() {
                found.push((phrase, logprob));
            }
        }
        found.sort_by(|a, b| b.1.total_cmp(&a.1));
        let (phrase, logprob) = found.first().copied()?;
        let second = found.iter().find(|(other, _)| *other != phrase);
        let margin = second.map_or(f32::INFINITY, |(_, second)| logprob - second);
        Some(Choice { phrase: phrase.clone(), logprob, margin })
    }
}

impl Recognizer for OnnxRecognizer {
    fn recognize(&self, audio: &Utterance, options: &RecognizeOptions) -> Result<Transcript, RecognizeError> {
        let started = Instant::now();
        let stop = Stop::new(options);
        stop.check()?;
        let length = audio.duration();
        if length > LONGEST {
            let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
            return Err(RecognizeError::TooLong { got_ms: ms(length), max_ms: ms(LONGEST) });
        }
        let (assumed, told) = self.language(options)?;
        let mut transcript = self.judge.silence(audio, assumed);
        if self.judge.may_hold_speech(audio, SHORTEST) {
            let features = self.model.features(&audio.samples);
            let asked = Asked { features: &features, stop: &stop, language: told };
            let posterior = self.lanes.run(
                || self.model.open().map_err(|error| RecognizeError::Engine(chain(&error))),
                || stop.check(),
                |networks| self.model.run(networks, &asked, self.per_step),
            )?;
            // The one long step is over. A text that is late is still worth more than none.
            if options.cancel.is_cancelled() {
                return Err(RecognizeError::Cancelled);
            }
            let (language, written) = self.write(&posterior, audio, options, assumed);
            transcript = self.judge.transcript(audio, options, language, written);
        }
        transcript.took = started.elapsed();
        Ok(transcript)
    }

    fn at_once(&self) -> usize {
        self.lanes.at_once()
    }
}

/// An error with its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Loads a model behind the trait; a convenience for those who do not care which family it is.
///
/// # Errors
/// See [`OnnxError`].
pub fn open(files: &OnnxFiles, config: OnnxConfig) -> Result<Arc<dyn Recognizer>, OnnxError> {
    Ok(Arc::new(OnnxRecognizer::load(files, config)?))
}
