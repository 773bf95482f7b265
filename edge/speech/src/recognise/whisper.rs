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
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use whisper_rs::{
    FullParams, SamplingStrategy, WhisperContext, WhisperContextParameters, WhisperError, WhisperState,
};

use super::greedy::{Greedy, Specials, Steps};
use super::guard::Guards;
use super::judge::{Judge, Written};
use super::lanes::Lanes;
use super::lexicon::{Lexicon, LexiconRule};
use super::memory::{self, KEEP_FREE, Need};
use super::phrases::{self, Choice, ChoiceRule, NextToken, TokenId, Trie};
use super::stop::Stop;
use super::{
    AudioContext, Draft, Language, MODEL_RATE, RecognizeError, RecognizeOptions, Recognizer, Token,
    Transcript, Utterance, language, text,
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
    /// When an expected phrase takes the place of the free text.
    pub choice: ChoiceRule,
    /// When a number that is expected does.
    pub lexicon: LexiconRule,
    /// Bytes of the machine's memory that another working state must leave free: without them, those
    /// that are there have to do.
    pub keep_free: u64,
}

impl Default for WhisperConfig {
    fn default() -> Self {
        let states = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            states,
            guards: Guards::default(),
            choice: ChoiceRule::default(),
            lexicon: LexiconRule::default(),
            keep_free: KEEP_FREE,
        }
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

/// Which pieces of the vocabulary are allowed, by the token's number.
type Pieces = Arc<[bool]>;

/// The recogniser over whisper.cpp.
pub struct Whisper {
    context: WhisperContext,
    judge: Judge,
    lexicon: LexiconRule,
    /// The vocabulary's pieces that make up numbers.
    pieces: Mutex<BTreeMap<(Language, Lexicon), Pieces>>,
    specials: Specials,
    /// Marks that end a phrase as well as the end of the text does.
    marks: Vec<TokenId>,
    states: OnceLock<Lanes<WhisperState>>,
    // Setting a language leaks a few bytes in whisper-rs, so it is done once for each.
    templates: Mutex<BTreeMap<Language, FullParams<'static, 'static>>>,
}

/// What the decoder's first step tells.
struct First {
    found: Language,
    no_speech_prob: f32,
    /// Probability that another language was spoken than any that is allowed.
    foreign: f32,
}

/// The decoder over sound that is encoded already.
struct Decoder<'a> {
    whisper: &'a Whisper,
    state: &'a mut WhisperState,
    /// Tokens before the text: the language, and that no timestamps are wanted.
    past: usize,
    /// The text whose steps are computed already.
    known: Vec<TokenId>,
    threads: usize,
}

impl NextToken for Decoder<'_> {
    type Error = RecognizeError;

    fn logprobs(
        &mut self,
        before: &[TokenId],
        wanted: &[TokenId],
    ) -> Result<(Vec<f32>, f32), RecognizeError> {
        // Branches share their beginnings, and what is shared is not computed twice. The scores that
        // are there belong to the last token, so at least one is.
        let shared = self.known.iter().zip(before).take_while(|(a, b)| a == b).count();
        if shared < before.len() {
            advance(self.state, &before[shared..], self.past + shared, self.threads)?;
        } else if let Some(last) = before.last() {
            advance(self.state, &[*last], self.past + shared - 1, self.threads)?;
        }
        self.known = before.to_vec();
        let logits = self.state.get_logits().map_err(engine)?;
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f32 = logits.iter().map(|logit| (logit - highest).exp()).sum();
        let norm = highest + total.ln();
        let at = |token: &TokenId| {
            let logit = usize::try_from(*token).ok().and_then(|t| logits.get(t)).copied();
            logit.map_or(f32::NEG_INFINITY, |logit| logit - norm)
        };
        let marks: f32 = self.whisper.marks.iter().map(|token| at(token).exp()).sum();
        let end = (marks + at(&self.whisper.context.token_eot()).exp()).ln();
        Ok((wanted.iter().map(at).collect(), end))
    }
}

/// Steps through the decoder, one token at a time.
struct Stepper<'a> {
    state: &'a mut WhisperState,
    past: usize,
    threads: usize,
    stop: &'a Stop<'a>,
}

impl Steps for Stepper<'_> {
    type Error = RecognizeError;

    fn after(&mut self, token: TokenId) -> Result<&[f32], RecognizeError> {
        self.stop.check()?;
        self.state.decode(&[token], self.past, self.threads).map_err(engine)?;
        self.past += 1;
        self.state.get_logits().map_err(engine)
    }
}

/// Steps of the decoder that a choice may cost.
const CHOICE_STEPS: usize = 16;
/// The same where signs of listening are weighed as well.
const ASIDE_STEPS: usize = 24;
/// Phrases that are so much less likely than the best are of no interest, in nats.
const CHOICE_WINDOW: f32 = 4.0;

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
        let marks = [".", ",", "!", "?", "。", "，", "！", "？"]
            .iter()
            .filter_map(|mark| context.tokenize(mark, 4).ok().filter(|tokens| tokens.len() == 1))
            .flatten()
            .collect();
        let specials = Specials {
            end: context.token_eot(),
            first_time: context.token_beg(),
            blank: context.tokenize(" ", 2).ok().and_then(|tokens| tokens.first().copied()).unwrap_or(-1),
        };
        let whisper = Self {
            context,
            specials,
            judge: Judge { guards: config.guards, choice: config.choice },
            lexicon: config.lexicon,
            pieces: Mutex::default(),
            marks,
            states: OnceLock::new(),
            templates: Mutex::default(),
        };
        let memory = || LoadError::Memory { path: path.to_owned() };
        let held = memory::held();
        let mut state = whisper.context.create_state().map_err(|_| memory())?;
        let options = RecognizeOptions { threads: 1, ..RecognizeOptions::new(whisper.first_language()) };
        let hush = vec![0.0; MODEL_RATE as usize];
        whisper.decode(&mut state, &hush, whisper.first_language(), &options).map_err(|_| memory())?;
        let need = Need::measured(held, config.keep_free);
        whisper.states.get_or_init(|| Lanes::new(state, config.states, need));
        Ok(whisper)
    }

    /// Tells whether the model knows languages other than English.
    pub fn is_multilingual(&self) -> bool {
        self.context.is_multilingual()
    }

    fn first_language(&self) -> Language {
        if self.is_multilingual() { Language::ZH } else { Language::EN }
    }

    /// Finds the language among those allowed, the probability that it was another, and the text.
    fn transcribe(
        &self,
        state: &mut WhisperState,
        audio: &Utterance,
        options: &RecognizeOptions,
    ) -> Result<(Language, f32, Written), RecognizeError> {
        let samples: &[f32] = &audio.samples;
        let first = match options.languages.first() {
            Some(language) if self.is_multilingual() => *language,
            _ => self.first_language(),
        };
        let threads = options.threads.max(1);
        let (found, foreign, mut decoded) = if options.beam > 1 || !options.hints.is_empty() {
            let decoded = self.decode(state, samples, first, options)?;
            let First { found, no_speech_prob, foreign } =
                self.first_step(state, first, &options.languages, threads)?;
            let decoded = if found == first { decoded } else { self.decode(state, samples, found, options)? };
            (found, foreign, Written { no_speech_prob, ..decoded })
        } else {
            self.encode(state, samples, first, options)?;
            let First { found, no_speech_prob, foreign } =
                self.first_step(state, first, &options.languages, threads)?;
            let decoded = self.decode_greedily(state, audio, found, options, None)?;
            (found, foreign, Written { no_speech_prob, ..decoded })
        };
        if let Some(lexicon) = options.lexicon
            && !self.is_number(&decoded, found, lexicon)
        {
            let pieces = self.pieces(lexicon, found);
            let number = self.decode_greedily(state, audio, found, options, Some(pieces))?;
            let free = (!decoded.raw.is_empty()).then_some(decoded.avg_logprob);
            if !number.tokens.is_empty() && self.lexicon.prefers(number.avg_logprob, free) {
                decoded = Written { no_speech_prob: decoded.no_speech_prob, ..number };
                return Ok((found, foreign, decoded));
            }
        }
        if !self.judge.is_settled(&decoded, found, options) {
            (decoded.choice, decoded.aside) = self.choose(state, samples.len(), found, options)?;
        }
        Ok((found, foreign, decoded))
    }

    /// Encodes the sound into the state, and nothing else. It cannot be stopped half-way.
    fn encode(
        &self,
        state: &mut WhisperState,
        samples: &[f32],
        language: Language,
        options: &RecognizeOptions,
    ) -> Result<(), RecognizeError> {
        let stop = Stop::new(options);
        let threads = options.threads.max(1);
        let mut params = self.template(language, 1);
        params.set_n_threads(to_c_int(threads));
        params.set_audio_ctx(to_c_int(audio_context(samples.len(), options.context) as usize));
        spectrum_only(state, params, samples).map_err(engine)?;
        stop.check()?;
        state.encode(0, threads).map_err(engine)?;
        stop.check()
    }

    /// Writes the text of sound that is encoded, after [`Self::first_step`].
    fn decode_greedily(
        &self,
        state: &mut WhisperState,
        audio: &Utterance,
        language: Language,
        options: &RecognizeOptions,
        pieces: Option<Pieces>,
    ) -> Result<Written, RecognizeError> {
        let threads = options.threads.max(1);
        let samples = audio.samples.len();
        let draft = options.draft.as_ref().filter(|_| pieces.is_none());
        let given = draft.map_or(&[][..], |draft| draft.firm(audio, language));
        let mut tokens = self.prompt(language);
        tokens.extend(given.iter().map(|chosen| chosen.token));
        // The first step has computed the start already.
        if tokens.len() > 1 {
            advance(state, &tokens[1..], 1, threads)?;
        }
        let first = state.get_logits().map_err(engine)?.to_vec();
        let mut greedy = Greedy::new(self.specials, samples, token_limit(samples));
        greedy.begin_with(given);
        if let Some(pieces) = pieces {
            greedy.allow_only(pieces);
        }
        let stop = Stop::new(options);
        let mut stepper = Stepper { state, past: tokens.len(), threads, stop: &stop };
        let outcome = greedy.run(&first, &mut stepper);
        match outcome {
            Ok(_) => {}
            // The best so far is worth more than nothing.
            Err(RecognizeError::DeadlinePassed) if !greedy.text().is_empty() => {}
            Err(error) => return Err(error),
        }
        let draft = Draft::of(audio, language, self.specials.first_time, greedy.sequence());
        Ok(Written { draft, end_logprob: greedy.end_logprob(), ..self.written(&greedy) })
    }

    /// Tells whether the text is a number of which the engine is sure.
    fn is_number(&self, decoded: &Written, language: Language, lexicon: Lexicon) -> bool {
        let text = text::clean(&decoded.raw, language);
        !text.is_empty() && decoded.avg_logprob > self.judge.choice.settled && lexicon.covers(&text, language)
    }

    /// Returns which pieces of the vocabulary the words of a lexicon are made of.
    fn pieces(&self, lexicon: Lexicon, language: Language) -> Pieces {
        let mut known = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let end = usize::try_from(self.context.token_eot()).unwrap_or(0);
            let mut allowed = vec![false; end];
            for word in lexicon.words(language) {
                for token in self.context.tokenize(&word, 32).unwrap_or_default() {
                    if let Some(allowed) = usize::try_from(token).ok().and_then(|t| allowed.get_mut(t)) {
                        *allowed = true;
                    }
                }
            }
            for (token, allowed) in (0..).zip(&mut allowed) {
                let bytes = self.context.token_to_bytes(token).unwrap_or_default();
                let figures = bytes.strip_prefix(b" ").unwrap_or(bytes);
                *allowed |= !figures.is_empty() && figures.iter().all(u8::is_ascii_digit);
            }
            allowed.into()
        };
        Arc::clone(known.entry((language, lexicon)).or_insert_with(make))
    }

    /// What stands before the text: the start and, where the model knows several, the language.
    fn prompt(&self, language: Language) -> Vec<TokenId> {
        let mut prompt = vec![self.context.token_sot()];
        if self.is_multilingual() {
            prompt.extend([self.context.token_lang(language.engine_id()), self.context.token_transcribe()]);
        }
        prompt
    }

    fn written(&self, greedy: &Greedy) -> Written {
        let mut bytes = Vec::new();
        let mut tokens = Vec::new();
        for chosen in greedy.text() {
            let piece = self.context.token_to_bytes(chosen.token).unwrap_or_default();
            bytes.extend_from_slice(piece);
            let text = String::from_utf8_lossy(piece).into_owned();
            tokens.push(Token { text, probability: chosen.logprob.exp() });
        }
        let sum: f32 = greedy.text().iter().map(|chosen| chosen.logprob.max(-13.8)).sum();
        let avg_logprob = if tokens.is_empty() { -10.0 } else { sum / tokens.len() as f32 };
        let raw = String::from_utf8_lossy(&bytes).trim().to_owned();
        Written { raw, tokens, avg_logprob, ..Written::default() }
    }

    /// Finds which of the expected phrases the encoded sound is most likely to be, and which of the signs of
    /// listening.
    fn choose(
        &self,
        state: &mut WhisperState,
        samples: usize,
        language: Language,
        options: &RecognizeOptions,
    ) -> Result<(Option<Choice>, Option<Choice>), RecognizeError> {
        let longest = (self.judge.choice.longest_s * MODEL_RATE as f32) as usize;
        let all: Vec<&String> = options.phrases.iter().chain(&*options.asides).collect();
        if all.is_empty() || samples > longest {
            return Ok((None, None));
        }
        let mut trie = Trie::default();
        for (number, phrase) in all.iter().enumerate() {
            for wording in text::wordings(phrase, language) {
                // A phrase that the vocabulary cannot write is not among the choices.
                if let Ok(tokens) = self.context.tokenize(&wording.replace('\0', ""), 32) {
                    trie.add(number, &tokens);
                }
            }
        }
        let mut prompt = self.prompt(language);
        prompt.push(self.context.token_not());
        let threads = options.threads.max(1);
        advance(state, &prompt, 0, threads)?;
        let steps = if options.asides.is_empty() { CHOICE_STEPS } else { ASIDE_STEPS };
        let mut decoder = Decoder { whisper: self, state, past: prompt.len(), known: Vec::new(), threads };
        let found = phrases::search(&trie, &mut decoder, steps, CHOICE_WINDOW)?;
        let is_aside = |number: usize| number >= options.phrases.len();
        let best = |aside: bool| {
            let (number, logprob) = found.iter().copied().find(|(number, _)| is_aside(*number) == aside)?;
            let phrase = all[number].clone();
            let second = found.iter().find(|(other, _)| *all[*other] != phrase);
            let margin = second.map_or(f32::INFINITY, |(_, second)| logprob - second);
            Some(Choice { phrase, logprob, margin })
        };
        Ok((best(false), best(true)))
    }

    /// Asks the decoder for its very first token. The encoder's work is still in the state, so this
    /// costs one step. It tells the likeliest of the allowed languages and the probabilities that it
    /// was another and that nobody spoke (whisper.cpp's own figure comes from a row that it did not
    /// compute).
    fn first_step(
        &self,
        state: &mut WhisperState,
        first: Language,
        allowed: &[Language],
        threads: usize,
    ) -> Result<First, RecognizeError> {
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
        let foreign = if self.is_multilingual() {
            let allowed = if allowed.is_empty() { std::slice::from_ref(&first) } else { allowed };
            language::foreign(allowed, |number| at(self.context.token_lang(number)))
        } else {
            0.0
        };
        Ok(First { found, no_speech_prob: no_speech as f32, foreign })
    }

    fn decode(
        &self,
        state: &mut WhisperState,
        samples: &[f32],
        language: Language,
        options: &RecognizeOptions,
    ) -> Result<Written, RecognizeError> {
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

    fn collect(&self, state: &WhisperState) -> Written {
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
        Written { raw, tokens, avg_logprob, ..Written::default() }
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
        let mut transcript = self.judge.silence(audio, language);
        if let Some(states) = self.states.get()
            && self.judge.may_hold_speech(audio, SHORTEST)
        {
            let (language, foreign, written) = states.run(
                || self.context.create_state().map_err(engine),
                || stop.check(),
                |state| self.transcribe(state, audio, options),
            )?;
            transcript = self.judge.transcript(audio, options, language, written);
            language::doubt(&mut transcript, foreign, audio.voiced);
        }
        transcript.took = started.elapsed();
        Ok(transcript)
    }

    fn at_once(&self) -> usize {
        self.states.get().map_or(1, Lanes::at_once)
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

/// Puts tokens behind `past` others that are computed already. The last goes alone: the scores that
/// whisper.cpp gives out are those of a batch's first row, which is computed only if it is the last.
fn advance(
    state: &mut WhisperState,
    tokens: &[TokenId],
    past: usize,
    threads: usize,
) -> Result<(), RecognizeError> {
    let Some((last, before)) = tokens.split_last() else { return Ok(()) };
    if !before.is_empty() {
        state.decode(before, past, threads).map_err(engine)?;
    }
    state.decode(&[*last], past + before.len(), threads).map_err(engine)
}

/// Lets the engine compute the spectrum and take the window's length, and stops it before the encoder:
/// whisper.cpp has no other way to set a window that is shorter than the whole.
#[expect(unsafe_code, reason = "whisper-rs has no safe way to set this callback")]
fn spectrum_only(
    state: &mut WhisperState,
    mut params: FullParams<'_, '_>,
    samples: &[f32],
) -> Result<(), WhisperError> {
    unsafe extern "C" fn stop_here(
        _: *mut whisper_rs::WhisperSysContext,
        _: *mut whisper_rs::WhisperSysState,
        _: *mut c_void,
    ) -> bool {
        false
    }
    // SAFETY: the function has the type that the callback needs and touches none of its arguments.
    unsafe { params.set_start_encoder_callback(Some(stop_here)) };
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
