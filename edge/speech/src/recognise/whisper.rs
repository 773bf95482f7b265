//! whisper.cpp behind [`Recognizer`]: one model in memory, a few working states over it.
//!
//! What makes it fit for a conversation is mostly what it does not compute: the encoder's window is
//! cut to the utterance (a tenth of the cost), decoding is greedy and is never repeated at a higher
//! temperature, and one segment is decoded, not the rest of a 30 s window. Timestamps stay on:
//! without them a cut window makes the decoder loop.
//!
//! **Invariant:** nothing is printed; whisper.cpp's log goes nowhere.
//! **Invariant:** the engine's own no-speech rule is off; [`super::guard`] alone decides.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use whisper_rs::{
    FullParams, SamplingStrategy, WhisperContext, WhisperContextParameters, WhisperError, WhisperState,
};

use super::guard::{Evidence, Guards, Rejection, compression_ratio, unloop};
use super::{
    AudioContext, Language, MODEL_RATE, RecognizeError, RecognizeOptions, Recognizer, Token, Transcript,
    Utterance, text,
};

/// Encoder units of 20 ms in the whole window of 30 s.
const FULL_CONTEXT: u32 = 1_500;
/// The smallest window that is computed; there is nothing to gain below.
const MIN_CONTEXT: u32 = 64;
/// Shorter sound holds no word, and whisper.cpp refuses it.
const SHORTEST: Duration = Duration::from_millis(120);
/// The window of the model.
const LONGEST: Duration = Duration::from_secs(30);
/// First four bytes of a model file ("ggml", as a little-endian number).
const MAGIC: u32 = 0x6767_6d6c;

/// How a [`Whisper`] is set up.
#[derive(Debug, Clone, PartialEq)]
pub struct WhisperConfig {
    /// Utterances in work at the same time, each with working memory of its own; at least 1. Give it
    /// the pool's number of workers.
    pub states: usize,
    /// Limits of the guards against invented text.
    pub guards: Guards,
}

impl Default for WhisperConfig {
    fn default() -> Self {
        let states = std::thread::available_parallelism().map_or(1, usize::from);
        Self { states, guards: Guards::default() }
    }
}

/// Why a model could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("could not read model `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is something else, or is damaged.
    #[error("`{path}` is no whisper model in ggml format, or is damaged")]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// There is no memory for even one working state.
    #[error("no memory for a working state of model `{path}`")]
    Memory {
        /// The file.
        path: PathBuf,
    },
}

/// The recogniser over whisper.cpp.
pub struct Whisper {
    context: WhisperContext,
    guards: Guards,
    limit: usize,
    states: Mutex<States>,
    returned: Condvar,
    // Setting a language leaks a few bytes in whisper-rs, so it is done once for each.
    templates: Mutex<BTreeMap<Language, FullParams<'static, 'static>>>,
}

#[derive(Default)]
struct States {
    free: Vec<WhisperState>,
    made: usize,
}

/// What the engine gave for one pass.
struct Decoded {
    raw: String,
    tokens: Vec<Token>,
    avg_logprob: f32,
    no_speech_prob: f32,
}

impl Whisper {
    /// Loads a model file and computes once, so that the first caller does not pay for it.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(path: &Path, config: WhisperConfig) -> Result<Self, LoadError> {
        whisper_rs::install_logging_hooks();
        check_magic(path)?;
        let context = WhisperContext::new_with_params(path, WhisperContextParameters::default())
            .map_err(|_| LoadError::Format { path: path.to_owned() })?;
        let whisper = Self {
            context,
            guards: config.guards,
            limit: config.states.max(1),
            states: Mutex::default(),
            returned: Condvar::new(),
            templates: Mutex::default(),
        };
        let memory = || LoadError::Memory { path: path.to_owned() };
        let mut state = whisper.context.create_state().map_err(|_| memory())?;
        let options = RecognizeOptions { threads: 1, ..RecognizeOptions::new(whisper.first_language()) };
        let hush = vec![0.0; MODEL_RATE as usize];
        whisper.decode(&mut state, &hush, whisper.first_language(), &options).map_err(|_| memory())?;
        whisper.lock_states().free.push(state);
        whisper.lock_states().made = 1;
        Ok(whisper)
    }

    /// Tells whether the model knows languages other than English.
    pub fn is_multilingual(&self) -> bool {
        self.context.is_multilingual()
    }

    fn first_language(&self) -> Language {
        if self.is_multilingual() { Language::ZH } else { Language::EN }
    }

    fn lock_states(&self) -> MutexGuard<'_, States> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a free state, makes one, or waits for one to come back.
    fn take_state(&self, stop: &Stop<'_>) -> Result<WhisperState, RecognizeError> {
        let mut states = self.lock_states();
        loop {
            if let Some(state) = states.free.pop() {
                return Ok(state);
            }
            if states.made < self.limit {
                match self.context.create_state() {
                    Ok(state) => {
                        states.made += 1;
                        return Ok(state);
                    }
                    Err(error) if states.made == 0 => return Err(engine(error)),
                    // No memory for another: those that exist have to do.
                    Err(error) => {
                        tracing::warn!(made = states.made, %error, "No memory for another recogniser state")
                    }
                }
            }
            let tick = Duration::from_millis(20);
            states = self.returned.wait_timeout(states, tick).unwrap_or_else(PoisonError::into_inner).0;
            stop.check()?;
        }
    }

    fn give_back(&self, state: WhisperState) {
        self.lock_states().free.push(state);
        self.returned.notify_one();
    }

    /// Finds the language among those allowed, and its text.
    fn transcribe(
        &self,
        state: &mut WhisperState,
        samples: &[f32],
        options: &RecognizeOptions,
    ) -> Result<(Language, Decoded), RecognizeError> {
        let first = match options.languages.first() {
            Some(language) if self.is_multilingual() => *language,
            _ => self.first_language(),
        };
        let mut decoded = self.decode(state, samples, first, options)?;
        let (found, no_speech_prob) =
            self.first_step(state, first, &options.languages, options.threads.max(1))?;
        if found != first {
            decoded = self.decode(state, samples, found, options)?;
        }
        decoded.no_speech_prob = no_speech_prob;
        Ok((found, decoded))
    }

    /// Asks the decoder for its very first token. The encoder's work is still in the state, so this
    /// costs one step. It tells the likeliest of the allowed languages and the probability that
    /// nobody spoke (whisper.cpp's own figure comes from a row that it did not compute).
    fn first_step(
        &self,
        state: &mut WhisperState,
        first: Language,
        allowed: &[Language],
        threads: usize,
    ) -> Result<(Language, f32), RecognizeError> {
        state.decode(&[self.context.token_sot()], 0, threads).map_err(engine)?;
        let logits = state.get_logits().map_err(engine)?;
        let at = |token: c_int| {
            usize::try_from(token).ok().and_then(|t| logits.get(t)).copied().unwrap_or(f32::NEG_INFINITY)
        };
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f64 = logits.iter().map(|l| f64::from(l - highest).exp()).sum();
        let no_speech = f64::from(at(self.context.token_nosp()) - highest).exp() / total.max(1e-30);
        let score = |language: &Language| at(self.context.token_lang(language.engine_id()));
        let found = if self.is_multilingual() && allowed.len() > 1 {
            allowed.iter().copied().max_by(|a, b| score(a).total_cmp(&score(b))).unwrap_or(first)
        } else {
            first
        };
        Ok((found, no_speech as f32))
    }

    fn decode(
        &self,
        state: &mut WhisperState,
        samples: &[f32],
        language: Language,
        options: &RecognizeOptions,
    ) -> Result<Decoded, RecognizeError> {
        let stop = Stop::new(options);
        let hints = self.hint_tokens(&options.hints);
        let mut params = self.template(language, options.beam);
        params.set_n_threads(to_c_int(options.threads.max(1)));
        params.set_audio_ctx(to_c_int(audio_context(samples.len(), options.context) as usize));
        params.set_max_tokens(to_c_int(token_limit(samples.len())));
        if !hints.is_empty() {
            params.set_tokens(&hints);
        }
        let outcome = run_until(state, params, samples, &stop);
        stop.check()?;
        outcome.map_err(engine)?;
        Ok(self.collect(state))
    }

    /// Parameters that are the same for every utterance of a language.
    fn template<'b>(&self, language: Language, beam: usize) -> FullParams<'static, 'b> {
        if beam > 1 {
            let beam_size = to_c_int(beam.min(8));
            return Self::make_template(language, SamplingStrategy::BeamSearch { beam_size, patience: -1.0 });
        }
        let mut templates = self.templates.lock().unwrap_or_else(PoisonError::into_inner);
        templates
            .entry(language)
            .or_insert_with(|| Self::make_template(language, SamplingStrategy::Greedy { best_of: 1 }))
            .clone()
    }

    fn make_template<'b>(language: Language, strategy: SamplingStrategy) -> FullParams<'static, 'b> {
        let mut params = FullParams::new(strategy);
        params.set_language(Some(language.code()));
        params.set_translate(false);
        params.set_no_context(true);
        params.set_single_segment(true);
        params.set_no_timestamps(false);
        params.set_suppress_blank(true);
        // On noise the engine likes to write "(coughing)" or "[BLANK_AUDIO]". Forbidden to, it writes
        // a sentence instead; allowed to, its annotations are taken out of the text by `clean`.
        params.set_suppress_nst(false);
        params.set_temperature(0.0);
        params.set_temperature_inc(0.0);
        // Above any probability: whisper.cpp must not drop text before the guards have seen it.
        params.set_no_speech_thold(2.0);
        params.set_print_special(false);
        params.set_print_progress(false);
        params.set_print_realtime(false);
        params.set_print_timestamps(false);
        params
    }

    fn hint_tokens(&self, hints: &[String]) -> Vec<c_int> {
        if hints.is_empty() {
            return Vec::new();
        }
        let joined = hints.join(", ").replace('\0', " ");
        // 224 is half of the decoder's text context, all that whisper.cpp uses of a prompt.
        self.context.tokenize(&joined, 224).unwrap_or_default()
    }

    fn collect(&self, state: &WhisperState) -> Decoded {
        let mut bytes = Vec::new();
        let mut tokens = Vec::new();
        let (mut sum, mut count) = (0.0f64, 0u32);
        let end_of_text = self.context.token_eot();
        for segment in state.as_iter() {
            for at in 0..segment.n_tokens() {
                let Some(token) = segment.get_token(at) else { continue };
                if token.token_id() >= end_of_text {
                    continue;
                }
                let piece = token.to_bytes().unwrap_or_default();
                bytes.extend_from_slice(piece);
                let probability = token.token_probability();
                sum += f64::from(probability.max(1e-6).ln());
                count += 1;
                tokens.push(Token { text: String::from_utf8_lossy(piece).into_owned(), probability });
            }
        }
        let avg_logprob = if count == 0 { -10.0 } else { (sum / f64::from(count)) as f32 };
        // A character may lie in two tokens, so the whole is decoded, not the pieces.
        let raw = String::from_utf8_lossy(&bytes).trim().to_owned();
        Decoded { raw, tokens, avg_logprob, no_speech_prob: 0.0 }
    }
}

impl Recognizer for Whisper {
    fn recognize(&self, audio: &Utterance, options: &RecognizeOptions) -> Result<Transcript, RecognizeError> {
        let started = Instant::now();
        let stop = Stop::new(options);
        stop.check()?;
        let length = audio.duration();
        if length > LONGEST {
            let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
            return Err(RecognizeError::TooLong { got_ms: ms(length), max_ms: ms(LONGEST) });
        }
        let language = options.languages.first().copied().unwrap_or_else(|| self.first_language());
        let mut transcript = Transcript {
            text: String::new(),
            raw: String::new(),
            language,
            avg_logprob: -10.0,
            no_speech_prob: 1.0,
            compression_ratio: 0.0,
            audio: length,
            took: Duration::ZERO,
            tokens: Vec::new(),
            rejected: Some(Rejection::Silence),
        };
        if length >= SHORTEST && audio.level_dbfs() >= self.guards.silence_dbfs {
            let mut state = self.take_state(&stop)?;
            let outcome = self.transcribe(&mut state, &audio.samples, options);
            self.give_back(state);
            let (language, decoded) = outcome?;
            transcript.text = text::clean(&decoded.raw, language);
            let looped = unloop(&transcript.text);
            let unlooped = looped.is_some();
            transcript.text = looped.unwrap_or(transcript.text);
            transcript.language = language;
            transcript.avg_logprob = decoded.avg_logprob;
            transcript.no_speech_prob = decoded.no_speech_prob;
            transcript.compression_ratio = compression_ratio(&transcript.text);
            transcript.raw = decoded.raw;
            transcript.tokens = decoded.tokens;
            transcript.rejected = self.guards.judge(&Evidence {
                text: &transcript.text,
                avg_logprob: transcript.avg_logprob,
                no_speech_prob: transcript.no_speech_prob,
                audio: length,
                voiced: audio.voiced,
                unlooped,
            });
            if transcript.rejected.is_some() {
                transcript.text.clear();
            }
        }
        transcript.took = started.elapsed();
        Ok(transcript)
    }
}

/// When to stop in the middle of the work.
struct Stop<'a> {
    cancelled: &'a AtomicBool,
    deadline: Option<Instant>,
}

impl<'a> Stop<'a> {
    fn new(options: &'a RecognizeOptions) -> Self {
        Self { cancelled: options.cancel.flag(), deadline: options.deadline }
    }

    fn check(&self) -> Result<(), RecognizeError> {
        if self.cancelled.load(Ordering::Acquire) {
            Err(RecognizeError::Cancelled)
        } else if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            Err(RecognizeError::DeadlinePassed)
        } else {
            Ok(())
        }
    }
}

/// Runs the engine, asking `stop` after the encoder and after every token.
#[expect(unsafe_code, reason = "whisper-rs's safe way to set this callback calls the wrong function type")]
fn run_until(
    state: &mut WhisperState,
    mut params: FullParams<'_, '_>,
    samples: &[f32],
    stop: &Stop<'_>,
) -> Result<(), WhisperError> {
    unsafe extern "C" fn asked_to_stop(stop: *mut c_void) -> bool {
        // SAFETY: `stop` is the pointer set below. It points to a `Stop` that outlives `full`, and
        // whisper.cpp only calls back while `full` runs, on the thread that called it.
        let stop = unsafe { &*stop.cast_const().cast::<Stop<'_>>() };
        stop.check().is_err()
    }
    // SAFETY: the function has the type that the callback needs and reads its argument only, which
    // lives until after `full` has returned.
    unsafe {
        params.set_abort_callback(Some(asked_to_stop));
        params.set_abort_callback_user_data(std::ptr::from_ref(stop).cast_mut().cast());
    }
    state.full(params, samples)
}

/// Units of 20 ms that the encoder computes for so many samples.
fn audio_context(samples: usize, rule: AudioContext) -> u32 {
    match rule {
        AudioContext::Full => FULL_CONTEXT,
        AudioContext::Fit { margin } => {
            let units = u32::try_from(samples.div_ceil(MODEL_RATE as usize / 50)).unwrap_or(FULL_CONTEXT);
            units.saturating_add(margin).clamp(MIN_CONTEXT, FULL_CONTEXT)
        }
    }
}

/// Tokens that speech of this length may have: a loop is cut here, and its cost with it.
fn token_limit(samples: usize) -> usize {
    (12 + samples * 14 / MODEL_RATE as usize).min(220)
}

fn to_c_int(value: usize) -> c_int {
    c_int::try_from(value).unwrap_or(c_int::MAX)
}

fn engine(error: WhisperError) -> RecognizeError {
    RecognizeError::Engine(error.to_string())
}

/// whisper.cpp gives up on a damaged header with an abort of the process in some cases, so what is
/// no model at all is turned away before. Whether it is the right one is checked by its hash when it
/// is installed.
fn check_magic(path: &Path) -> Result<(), LoadError> {
    let read = |source| LoadError::Read { path: path.to_owned(), source };
    let mut magic = [0; 4];
    let mut file = std::fs::File::open(path).map_err(read)?;
    match file.read_exact(&mut magic) {
        Ok(()) if u32::from_le_bytes(magic) == MAGIC => Ok(()),
        Ok(()) => Err(LoadError::Format { path: path.to_owned() }),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(LoadError::Format { path: path.to_owned() })
        }
        Err(error) => Err(read(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_follows_the_utterance_and_never_leaves_its_limits() {
        let fit = AudioContext::Fit { margin: 100 };
        assert_eq!(audio_context(16_000, fit), 150);
        assert_eq!(audio_context(16_001, fit), 151);
        assert_eq!(audio_context(0, fit), 100);
        assert_eq!(audio_context(0, AudioContext::Fit { margin: 0 }), MIN_CONTEXT);
        assert_eq!(audio_context(16_000 * 60, fit), FULL_CONTEXT);
        assert_eq!(audio_context(16_000, AudioContext::Full), FULL_CONTEXT);
    }

    #[test]
    fn what_is_no_model_is_refused_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.bin");
        for content in [&b""[..], b"abc", b"not a model at all"] {
            std::fs::write(&path, content).unwrap();
            let error = Whisper::load(&path, WhisperConfig::default()).err().unwrap();
            assert!(matches!(error, LoadError::Format { .. }), "{error}");
            assert!(error.to_string().contains("model.bin"));
        }
        let missing = dir.path().join("missing.bin");
        assert!(matches!(Whisper::load(&missing, WhisperConfig::default()), Err(LoadError::Read { .. })));
    }
}
