//! Kokoro: a small neural voice, run by ONNX Runtime.
//!
//! The model takes phoneme tokens with a zero at both ends, a row of the voice's table (one per
//! number of tokens) and a speaking rate, and gives sound at 24 kHz with silence around it. The
//! silence is cut off and replaced by pauses of our own, so that joined parts sound alike.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ort::session::Session;
use ort::value::{Tensor, TensorElementType, ValueType};

use super::level::{fade, quietest, speaking};
use super::text::{Clause, FrontEnd, Pause};
use super::{ClauseEnd, SAMPLE_RATE, Speech, SpeechRequest, SynthError, Synthesizer};
use crate::ort_rt::{SessionSettings, init_ort, library_in, open_session};

/// Rows of a voice's table, which is also the most tokens the model takes at once.
const ROWS: usize = 510;
/// Numbers per row.
const STYLE: usize = 256;
/// Symbols given to the model at once: above some 400 it hurries.
const MOST: usize = 400;
/// Symbols after which a sentence is cut at its next comma.
const COMFORTABLE: usize = 150;
/// A first clause shorter than this is joined with the next even when the first sound is urgent:
/// the model slurs very short inputs.
const SHORTEST: usize = 10;
/// Raised whenever the front end reads something differently, so that old prompts are not reused.
const FRONT_END: u32 = 1;

/// How Kokoro runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KokoroSettings {
    /// Threads and memory of each session.
    pub session: SessionSettings,
    /// Sessions, so requests served at the same time, 1 or more. Each costs some 150 MB.
    pub sessions: usize,
}

impl Default for KokoroSettings {
    fn default() -> Self {
        Self { session: SessionSettings::default(), sessions: 1 }
    }
}

/// The Kokoro 1.0 voices.
pub struct Kokoro {
    sessions: Vec<Mutex<Session>>,
    next: AtomicUsize,
    inputs: Inputs,
    vocabulary: HashMap<char, i64>,
    front: FrontEnd,
    voices_dir: PathBuf,
    voices: Mutex<HashMap<String, Arc<[f32]>>>,
    version: String,
}

/// Names differ between exports of the model.
struct Inputs {
    tokens: String,
    style: String,
    speed: String,
    whole_speed: bool,
}

impl Kokoro {
    /// Opens the model, the vocabulary and the lexicon of `model_dir`. Takes a second or two.
    ///
    /// # Errors
    /// [`SynthError::Model`] or [`SynthError::Asset`], naming the file.
    pub fn open(model_dir: &Path, settings: KokoroSettings) -> Result<Self, SynthError> {
        init_ort(&library_in(model_dir))?;
        let model = model_dir.join("kokoro-v1.0-int8.onnx");
        let asset = |path: &Path, reason: String| SynthError::Asset { path: path.to_owned(), reason };
        let size = std::fs::metadata(&model).map_err(|e| asset(&model, e.to_string()))?.len();
        let vocabulary = vocabulary(&model_dir.join("kokoro-vocab.json"))?;
        let lexicon = model_dir.join("lexicon-en-us.json");
        let front = FrontEnd::load(&lexicon).map_err(|e| asset(&lexicon, e.to_string()))?;
        let mut sessions = Vec::new();
        for _ in 0..settings.sessions.max(1) {
            sessions.push(Mutex::new(open_session(&model, settings.session)?));
        }
        let inputs = {
            let session = lock(&sessions[0]);
            Inputs::of(&session).ok_or_else(|| {
                let names: Vec<&str> = session.inputs().iter().map(|i| i.name()).collect();
                asset(&model, format!("its inputs are not those of Kokoro: {names:?}"))
            })?
        };
        Ok(Self {
            sessions,
            next: AtomicUsize::new(0),
            inputs,
            vocabulary,
            front,
            voices_dir: model_dir.join("kokoro-voices"),
            voices: Mutex::default(),
            version: format!("kokoro-v1.0-int8-{size}/{FRONT_END}"),
        })
    }

    /// How `text` is read, clause by clause: for checking pronunciations.
    pub fn clauses(&self, req: &SpeechRequest) -> Vec<Clause> {
        self.front.clauses(&req.text, req.locale)
    }

    fn voice(&self, name: &str) -> Result<Arc<[f32]>, SynthError> {
        let unknown = || SynthError::Voice { voice: name.to_owned() };
        if let Some(voice) = lock(&self.voices).get(name) {
            return Ok(voice.clone());
        }
        let plain = !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !plain {
            return Err(unknown());
        }
        let path = self.voices_dir.join(format!("{name}.bin"));
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(unknown()),
            Err(e) => return Err(SynthError::Asset { path, reason: e.to_string() }),
        };
        if bytes.len() != ROWS * STYLE * 4 {
            let reason = format!("{} bytes instead of {}", bytes.len(), ROWS * STYLE * 4);
            return Err(SynthError::Asset { path, reason });
        }
        let table: Arc<[f32]> =
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        lock(&self.voices).insert(name.to_owned(), table.clone());
        Ok(table)
    }

    /// Runs the model on one chunk and cuts the silence off.
    fn run(&self, phonemes: &str, voice: &[f32], rate: f32) -> Result<Vec<f32>, SynthError> {
        let mut tokens: Vec<i64> =
            phonemes.chars().filter_map(|c| self.vocabulary.get(&c).copied()).collect();
        tokens.truncate(ROWS);
        if tokens.is_empty() {
            return Ok(Vec::new());
        }
        let row = (tokens.len() - 1).min(ROWS - 1);
        let style = voice[row * STYLE..(row + 1) * STYLE].to_vec();
        tokens.insert(0, 0);
        tokens.push(0);

        let failed = SynthError::Inference;
        let length = tokens.len();
        let tokens = Tensor::from_array(([1usize, length], tokens)).map_err(failed)?;
        let style = Tensor::from_array(([1usize, STYLE], style)).map_err(failed)?;
        let speed = if self.inputs.whole_speed {
            Tensor::from_array(([1usize], vec![rate.round().max(1.0) as i32])).map_err(failed)?.into_dyn()
        } else {
            Tensor::from_array(([1usize], vec![rate])).map_err(failed)?.into_dyn()
        };
        let inputs = ort::inputs![
            self.inputs.tokens.as_str() => tokens,
            self.inputs.style.as_str() => style,
            self.inputs.speed.as_str() => speed,
        ];
        let mut session = self.free_session();
        let outputs = session.run(inputs).map_err(failed)?;
        let (_, samples) = outputs[0].try_extract_tensor::<f32>().map_err(failed)?;
        if samples.iter().any(|s| !s.is_finite()) {
            return Err(SynthError::BadOutput("not a number".to_owned()));
        }
        let range = speaking(samples, SAMPLE_RATE as usize);
        let mut samples = samples[range].to_vec();
        fade(&mut samples, SAMPLE_RATE as usize / 200);
        Ok(samples)
    }

    /// A session that nobody uses, else the next in turn.
    fn free_session(&self) -> MutexGuard<'_, Session> {
        for session in &self.sessions {
            if let Ok(free) = session.try_lock() {
                return free;
            }
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.sessions.len();
        lock(&self.sessions[turn])
    }

    fn say(
        &self,
        req: &SpeechRequest,
        urgent: bool,
        sink: &mut dyn FnMut(Speech) -> bool,
    ) -> Result<(), SynthError> {
        let voice = self.voice(&req.voice)?;
        let rate = req.rate();
        let clauses = self.front.clauses(&req.text, req.locale);
        let chunks = chunks(clauses, urgent);
        let count = chunks.len();
        for (i, chunk) in chunks.into_iter().enumerate() {
            let mut samples = self.run(&chunk.phonemes, &voice, rate)?;
            let mut clauses = chunk.clause_ends(&samples);
            if i + 1 < count {
                let pause = chunk.pause.millis() as f32 * req.style.pauses() / rate;
                let pause = (pause * SAMPLE_RATE as f32 / 1000.0) as usize;
                samples.resize(samples.len() + pause, 0.0);
                if let Some(last) = clauses.last_mut() {
                    last.end = samples.len();
                }
            }
            if !sink(Speech { samples, clauses }) {
                break;
            }
        }
        Ok(())
    }
}

impl Synthesizer for Kokoro {
    fn synthesize(&self, req: &SpeechRequest) -> Result<Speech, SynthError> {
        let mut speech = Speech::default();
        self.say(req, false, &mut |part| {
            let at = speech.samples.len();
            speech.samples.extend_from_slice(&part.samples);
            speech.clauses.extend(part.clauses.into_iter().map(|c| ClauseEnd { end: at + c.end, ..c }));
            true
        })?;
        Ok(speech)
    }

    fn stream(&self, req: &SpeechRequest, sink: &mut dyn FnMut(Speech) -> bool) -> Result<(), SynthError> {
        self.say(req, true, sink)
    }

    fn version(&self) -> &str {
        &self.version
    }
}

impl Inputs {
    fn of(session: &Session) -> Option<Self> {
        let named = |names: &[&str]| {
            session.inputs().iter().find(|i| names.contains(&i.name())).map(|i| i.name().to_owned())
        };
        let speed = named(&["speed"])?;
        let whole_speed = session.inputs().iter().any(|i| {
            i.name() == speed && matches!(i.dtype(), ValueType::Tensor { ty: TensorElementType::Int32, .. })
        });
        Some(Self {
            tokens: named(&["input_ids", "tokens"])?,
            style: named(&["style", "ref_s"])?,
            speed,
            whole_speed,
        })
    }
}

/// What the model is given at once.
struct Chunk {
    phonemes: String,
    /// Clauses in it: the words, and the symbols up to their end.
    clauses: Vec<(String, usize)>,
    pause: Pause,
}

impl Chunk {
    fn of(clause: Clause) -> Self {
        let symbols = clause.phonemes.chars().count();
        Self { phonemes: clause.phonemes, clauses: vec![(clause.text, symbols)], pause: clause.pause }
    }

    fn symbols(&self) -> usize {
        self.clauses.last().map_or(0, |c| c.1)
    }

    fn join(&mut self, clause: Clause) {
        self.phonemes.push(' ');
        self.phonemes.push_str(&clause.phonemes);
        self.clauses.push((clause.text, self.phonemes.chars().count()));
        self.pause = clause.pause;
    }

    /// Where each clause ends: by its share of the symbols, moved to the quietest place nearby.
    fn clause_ends(&self, samples: &[f32]) -> Vec<ClauseEnd> {
        let total = self.symbols().max(1);
        let reach = SAMPLE_RATE as usize * 35 / 100;
        let mut before = 0;
        let last = self.clauses.len() - 1;
        let mut ends = Vec::with_capacity(self.clauses.len());
        for (i, (text, symbols)) in self.clauses.iter().enumerate() {
            let end = if i == last {
                samples.len()
            } else {
                let near = samples.len() * symbols / total;
                quietest(samples, near, reach, SAMPLE_RATE as usize).max(before)
            };
            before = end;
            ends.push(ClauseEnd { text: text.clone(), end });
        }
        ends
    }
}

/// Joins clauses into sentences, since a sentence spoken at once has the better melody. `urgent`
/// lets the first clause go alone.
fn chunks(clauses: Vec<Clause>, urgent: bool) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    for clause in clauses.into_iter().flat_map(cut_long) {
        let symbols = clause.phonemes.chars().count();
        let first = chunks.len() == 1;
        match chunks.last_mut() {
            Some(open) if open.pause == Pause::Short => {
                let together = open.symbols() + symbols;
                let alone = urgent && first && open.symbols() >= SHORTEST;
                if together > COMFORTABLE && open.symbols() >= SHORTEST || alone {
                    chunks.push(Chunk::of(clause));
                } else {
                    open.join(clause);
                }
            }
            _ => chunks.push(Chunk::of(clause)),
        }
    }
    chunks
}

/// A clause that is too long for the model is cut between words.
fn cut_long(clause: Clause) -> Vec<Clause> {
    if clause.phonemes.chars().count() <= MOST {
        return vec![clause];
    }
    let mut parts: Vec<String> = vec![String::new()];
    let mut symbols = 0;
    for word in clause.phonemes.split(' ') {
        let length = word.chars().count() + 1;
        if symbols + length > MOST && symbols > 0 {
            parts.push(String::new());
            symbols = 0;
        }
        symbols += length;
        if let Some(part) = parts.last_mut() {
            if !part.is_empty() {
                part.push(' ');
            }
            part.push_str(word);
        }
    }
    let last = parts.len() - 1;
    parts
        .into_iter()
        .enumerate()
        .map(|(i, phonemes)| Clause {
            text: if i == 0 { clause.text.clone() } else { String::new() },
            phonemes,
            pause: if i == last { clause.pause } else { Pause::Short },
        })
        .collect()
}

fn vocabulary(path: &Path) -> Result<HashMap<char, i64>, SynthError> {
    #[derive(serde::Deserialize)]
    struct Vocabulary {
        vocab: HashMap<String, i64>,
    }
    let asset = |reason: String| SynthError::Asset { path: path.to_owned(), reason };
    let bytes = std::fs::read(path).map_err(|e| asset(e.to_string()))?;
    let wrapped: Result<Vocabulary, _> = serde_json::from_slice(&bytes);
    let entries = match wrapped {
        Ok(v) => v.vocab,
        Err(_) => serde_json::from_slice(&bytes).map_err(|e| asset(e.to_string()))?,
    };
    let symbols: HashMap<char, i64> =
        entries.into_iter().filter_map(|(k, id)| k.chars().next().map(|c| (c, id))).collect();
    if symbols.is_empty() {
        return Err(asset("it holds no symbols".to_owned()));
    }
    Ok(symbols)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::Locale;
    use super::*;

    fn clause(symbols: usize, pause: Pause) -> Clause {
        Clause { text: symbols.to_string(), phonemes: "a".repeat(symbols), pause }
    }

    #[test]
    fn a_sentence_is_spoken_at_once_unless_it_is_long_or_urgent() {
        let sizes = |urgent, clauses: Vec<Clause>| -> Vec<usize> {
            chunks(clauses, urgent).iter().map(|c| c.clauses.len()).collect()
        };
        let greeting = || {
            vec![
                clause(20, Pause::Short),
                clause(30, Pause::Short),
                clause(20, Pause::Long),
                clause(9, Pause::Long),
            ]
        };

        assert_eq!(sizes(false, greeting()), [3, 1]);
        assert_eq!(sizes(true, greeting()), [1, 2, 1]);
        assert_eq!(sizes(true, vec![clause(4, Pause::Short), clause(30, Pause::Long)]), [2]);
        assert_eq!(sizes(false, vec![clause(140, Pause::Short), clause(30, Pause::Long)]), [1, 1]);
    }

    #[test]
    fn a_clause_beyond_the_models_reach_is_cut_between_words() {
        let long =
            Clause { text: "x".to_owned(), phonemes: vec!["abcdefghi"; 100].join(" "), pause: Pause::Long };

        let parts = cut_long(long);

        assert_eq!(parts.len(), 3);
        assert!(parts.iter().all(|p| p.phonemes.chars().count() <= MOST));
    }

    #[test]
    fn kokoro_speaks_both_languages_when_its_model_is_there() {
        let Some(kokoro) = model() else { return };
        for (text, locale, seconds) in [
            ("您好，我是智能客服。您的账单金额是128.50元。", Locale::ZhCn, 3.0..9.0),
            ("Hello, this is your bank. Your balance is $128.50.", Locale::EnUs, 2.5..8.0),
        ] {
            let speech = kokoro.synthesize(&SpeechRequest::new(text, locale)).unwrap();

            assert!(seconds.contains(&speech.seconds()), "{text}: {} s", speech.seconds());
            assert_eq!(speech.clauses.len(), 3, "{text}: {:?}", speech.clauses);
            assert_eq!(speech.clauses.last().unwrap().end, speech.samples.len());
            assert!(speech.clauses.windows(2).all(|w| w[0].end <= w[1].end));
        }
        let unknown = SpeechRequest::new("好", Locale::ZhCn).with_voice("../x");
        assert!(matches!(kokoro.synthesize(&unknown), Err(SynthError::Voice { .. })));
    }

    #[test]
    fn every_symbol_that_the_readers_write_is_one_the_model_knows() {
        let Some(kokoro) = model() else { return };
        let texts = [
            (
                "余额1,234.56元，11月22日8:05到期，请拨打400-820-1234，或者还款给银行行长，女儿旅行略圈群。",
                Locale::ZhCn,
            ),
            (
                "Dr. Smith owes $1,234.56 by 11/22/2026 at 8:05 a.m., call +1 415-555-0132, ATM, xylophone, Trunkline.",
                Locale::EnUs,
            ),
            ("The quick car waited on water, the hour's measure: going, judging, churches.", Locale::EnGb),
        ];
        for (text, locale) in texts {
            for clause in kokoro.front.clauses(text, locale) {
                for c in clause.phonemes.chars() {
                    assert!(kokoro.vocabulary.contains_key(&c), "{c:?} in {}", clause.phonemes);
                }
            }
        }
    }

    fn model() -> Option<Kokoro> {
        let dir = crate::ort_rt::model_dir();
        match Kokoro::open(&dir, KokoroSettings::default()) {
            Ok(kokoro) => Some(kokoro),
            Err(e) if std::env::var_os("TRUNKLINE_REQUIRE_MODELS").is_some() => panic!("{e:?}"),
            Err(_) => {
                println!("skipped: model kokoro missing, run deploy/models");
                None
            }
        }
    }
}
