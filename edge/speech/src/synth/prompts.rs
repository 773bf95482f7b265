//! Rendered prompts on disk, found by what they say.
//!
//! A prompt's name is the SHA-256 of everything that decides how it sounds: text, locale, voice,
//! style, speed, and the version of engine and model. So nothing is ever out of date, and the same
//! prompt is rendered once on a box however many scripts use it.
//!
//! ```text
//! +------+-----------+----------------+------------------+---------------------+
//! | TLP1 | u32 bytes | header in JSON | s16 samples, 8 k | SHA-256 of all that |
//! +------+-----------+----------------+------------------+---------------------+
//! ```
//!
//! A file is written under another name, synced and renamed, so that a power cut leaves either the
//! whole prompt or none. One that does not match its own hash is rendered again.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ring::digest::{Context, SHA256, digest};
use serde::{Deserialize, Serialize};

use super::level::{TELEPHONE_RATE, TelephoneSpeech};
use super::{ClauseEnd, SpeechRequest, SynthError, Synthesizer};

const MAGIC: &[u8; 4] = b"TLP1";
const HASH: usize = 32;
/// Raised when the level, the rate or the fades change.
const RENDERING: u32 = 1;

/// The name of a prompt: 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PromptKey(String);

impl PromptKey {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PromptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A prompt ready to be played: [`TELEPHONE_RATE`], 16 bits, one channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// Samples.
    pub samples: Arc<[i16]>,
    /// The clauses in order, ends in samples; the last is the length of `samples`.
    pub clauses: Vec<ClauseEnd>,
}

impl Prompt {
    /// What a listener has heard after `played` samples: every clause that was played to its end,
    /// and one more once half of it was.
    pub fn heard(&self, played: usize) -> Vec<&str> {
        let mut start = 0;
        let mut heard = Vec::new();
        for clause in &self.clauses {
            let middle = start + (clause.end - start) / 2;
            if played < clause.end && played <= middle {
                break;
            }
            if !clause.text.is_empty() {
                heard.push(clause.text.as_str());
            }
            start = clause.end;
        }
        heard
    }

    fn bytes(&self) -> usize {
        self.samples.len() * 2
    }
}

/// Why a prompt could not be had.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// The voice failed.
    #[error("could not render the prompt")]
    Synth(#[from] SynthError),
    /// The folder could not be made.
    #[error("could not open the prompt folder `{path}`")]
    Open {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The prompts of a box. Shared by its calls.
pub struct PromptStore {
    dir: PathBuf,
    voice: Arc<dyn Synthesizer>,
    memory: Mutex<Memory>,
    /// One lock per prompt that is being rendered, so that it is rendered once.
    rendering: Mutex<HashMap<PromptKey, Arc<Mutex<()>>>>,
    temporary: AtomicU64,
}

/// Prompts played lately.
#[derive(Default)]
struct Memory {
    most: usize,
    used: usize,
    clock: u64,
    prompts: HashMap<PromptKey, (u64, Arc<Prompt>)>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    rate: u32,
    clauses: Vec<HeaderClause>,
}

#[derive(Serialize, Deserialize)]
struct HeaderClause {
    text: String,
    end: usize,
}

impl PromptStore {
    /// Opens the store in `dir`, which is made if need be; prompts up to `memory_bytes` stay in
    /// memory as well.
    ///
    /// # Errors
    /// [`PromptError::Open`] when the folder cannot be made.
    pub fn open(dir: &Path, voice: Arc<dyn Synthesizer>, memory_bytes: usize) -> Result<Self, PromptError> {
        fs::create_dir_all(dir).map_err(|source| PromptError::Open { path: dir.to_owned(), source })?;
        Ok(Self {
            dir: dir.to_owned(),
            voice,
            memory: Mutex::new(Memory { most: memory_bytes, ..Memory::default() }),
            rendering: Mutex::default(),
            temporary: AtomicU64::new(0),
        })
    }

    /// The name of the prompt that `req` asks for.
    pub fn key(&self, req: &SpeechRequest) -> PromptKey {
        let mut hash = Context::new(&SHA256);
        let text = req.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let speed = (f64::from(req.speed) * 1000.0).round() as i64;
        let parts = [
            text.as_str(),
            req.locale.tag(),
            req.voice.as_str(),
            req.style.name(),
            &speed.to_string(),
            self.voice.version(),
            &RENDERING.to_string(),
        ];
        for part in parts {
            // Lengths first, so that no two lists of parts run together to the same bytes.
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        PromptKey(hex::encode(hash.finish()))
    }

    /// Whether the prompt is there already, so that [`Self::get_or_render`] will not wait for the
    /// voice.
    pub fn contains(&self, key: &PromptKey) -> bool {
        lock(&self.memory).prompts.contains_key(key) || self.path(key).is_file()
    }

    /// Gives the prompt from memory, from disk, or from the voice. Blocks while it is rendered; two
    /// callers who ask for the same prompt wait for one rendering.
    ///
    /// A disk that is full or broken costs only the next rendering, not this prompt.
    ///
    /// # Errors
    /// [`PromptError::Synth`] when the voice fails.
    pub fn get_or_render(&self, req: &SpeechRequest) -> Result<Arc<Prompt>, PromptError> {
        let key = self.key(req);
        if let Some(prompt) = lock(&self.memory).get(&key) {
            return Ok(prompt);
        }
        let turn = lock(&self.rendering).entry(key.clone()).or_default().clone();
        let result = {
            let _turn = lock(&turn);
            self.load_or_render(&key, req)
        };
        lock(&self.rendering).remove(&key);
        result
    }

    fn load_or_render(&self, key: &PromptKey, req: &SpeechRequest) -> Result<Arc<Prompt>, PromptError> {
        if let Some(prompt) = lock(&self.memory).get(key) {
            return Ok(prompt);
        }
        let path = self.path(key);
        let prompt = match fs::read(&path) {
            Ok(bytes) => parse(&bytes).or_else(|| {
                tracing::warn!(prompt = %key, "Prompt on disk is damaged and is rendered again");
                None
            }),
            Err(_) => None,
        };
        let prompt = match prompt {
            Some(prompt) => prompt,
            None => {
                let TelephoneSpeech { samples, clauses } = self.voice.synthesize(req)?.telephone();
                let prompt = Prompt { samples: samples.into(), clauses };
                if let Err(e) = self.write(&path, &prompt) {
                    tracing::warn!(prompt = %key, error = %e, "Prompt could not be kept on disk");
                }
                prompt
            }
        };
        let prompt = Arc::new(prompt);
        lock(&self.memory).put(key.clone(), prompt.clone());
        Ok(prompt)
    }

    /// Removes the prompts that were not written for longest until at most `bytes` are left on
    /// disk, and returns how many went.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn prune(&self, bytes: u64) -> io::Result<usize> {
        let mut files = Vec::new();
        for shelf in fs::read_dir(&self.dir)? {
            let shelf = shelf?.path();
            if !shelf.is_dir() {
                continue;
            }
            for file in fs::read_dir(&shelf)? {
                let file = file?;
                let about = file.metadata()?;
                files.push((about.modified()?, about.len(), file.path()));
            }
        }
        files.sort();
        let mut total: u64 = files.iter().map(|f| f.1).sum();
        let mut removed = 0;
        for (_, size, path) in files {
            if total <= bytes {
                break;
            }
            fs::remove_file(path)?;
            total -= size;
            removed += 1;
        }
        Ok(removed)
    }

    fn path(&self, key: &PromptKey) -> PathBuf {
        self.dir.join(&key.0[..2]).join(format!("{}.prompt", key.0))
    }

    fn write(&self, path: &Path, prompt: &Prompt) -> io::Result<()> {
        let Some(shelf) = path.parent() else { return Ok(()) };
        fs::create_dir_all(shelf)?;
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = path.with_extension(format!("{}-{number}.new", std::process::id()));
        let written = (|| {
            let mut file = File::create(&temporary)?;
            file.write_all(&print(prompt)?)?;
            file.sync_all()?;
            fs::rename(&temporary, path)?;
            File::open(shelf)?.sync_all()
        })();
        if written.is_err() {
            // The error that matters is the one above.
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}

impl Memory {
    fn get(&mut self, key: &PromptKey) -> Option<Arc<Prompt>> {
        self.clock += 1;
        let (used, prompt) = self.prompts.get_mut(key)?;
        *used = self.clock;
        Some(prompt.clone())
    }

    fn put(&mut self, key: PromptKey, prompt: Arc<Prompt>) {
        if prompt.bytes() > self.most {
            return;
        }
        self.clock += 1;
        self.used += prompt.bytes();
        if let Some((_, old)) = self.prompts.insert(key, (self.clock, prompt)) {
            self.used -= old.bytes();
        }
        while self.used > self.most {
            let oldest = self.prompts.iter().min_by_key(|(_, (used, _))| *used).map(|(k, _)| k.clone());
            let Some((_, gone)) = oldest.and_then(|k| self.prompts.remove(&k)) else { return };
            self.used -= gone.bytes();
        }
    }
}

fn print(prompt: &Prompt) -> io::Result<Vec<u8>> {
    let clauses = prompt.clauses.iter().map(|c| HeaderClause { text: c.text.clone(), end: c.end }).collect();
    let header = serde_json::to_vec(&Header { rate: TELEPHONE_RATE, clauses })?;
    let mut bytes = Vec::with_capacity(8 + header.len() + prompt.bytes() + HASH);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&(header.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&header);
    for sample in prompt.samples.iter() {
        bytes.extend_from_slice(&sample.to_le_bytes());
    }
    let hash = digest(&SHA256, &bytes);
    bytes.extend_from_slice(hash.as_ref());
    Ok(bytes)
}

fn parse(bytes: &[u8]) -> Option<Prompt> {
    let (body, hash) = bytes.split_at_checked(bytes.len().checked_sub(HASH)?)?;
    if digest(&SHA256, body).as_ref() != hash {
        return None;
    }
    let body = body.strip_prefix(MAGIC)?;
    let (length, body) = body.split_at_checked(4)?;
    let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
    let (header, samples) = body.split_at_checked(length)?;
    let header: Header = serde_json::from_slice(header).ok()?;
    if header.rate != TELEPHONE_RATE {
        return None;
    }
    let samples: Arc<[i16]> = samples.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
    let clauses: Vec<ClauseEnd> =
        header.clauses.into_iter().map(|c| ClauseEnd { text: c.text, end: c.end }).collect();
    let ordered = clauses.windows(2).all(|w| w[0].end <= w[1].end)
        && clauses.last().is_none_or(|c| c.end == samples.len());
    ordered.then_some(Prompt { samples, clauses })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::super::{Locale, SAMPLE_RATE, Speech, Style};
    use super::*;

    /// A tone as long as the text, and a count of how often it was asked.
    struct Tone {
        asked: AtomicUsize,
        version: &'static str,
    }

    impl Tone {
        fn new(version: &'static str) -> Arc<Self> {
            Arc::new(Self { asked: AtomicUsize::new(0), version })
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::SeqCst)
        }
    }

    impl Synthesizer for Tone {
        fn stream(
            &self,
            req: &SpeechRequest,
            sink: &mut dyn FnMut(Speech) -> bool,
        ) -> Result<(), SynthError> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(20));
            for word in req.text.split(' ') {
                let samples: Vec<f32> = (0..SAMPLE_RATE / 4)
                    .map(|i| 0.3 * (i as f32 * 300.0 * std::f32::consts::TAU / SAMPLE_RATE as f32).sin())
                    .collect();
                let clauses = vec![ClauseEnd { text: word.to_owned(), end: samples.len() }];
                sink(Speech { samples, clauses });
            }
            Ok(())
        }

        fn version(&self) -> &str {
            self.version
        }
    }

    fn request(text: &str) -> SpeechRequest {
        SpeechRequest::new(text, Locale::EnUs)
    }

    #[test]
    fn a_prompt_is_rendered_once_and_read_back_as_it_was_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let voice = Tone::new("tone/1");
        let store = PromptStore::open(dir.path(), voice.clone(), 1 << 20).unwrap();
        let first = store.get_or_render(&request("good morning")).unwrap();
        assert!(store.contains(&store.key(&request("good  morning "))));

        let again = PromptStore::open(dir.path(), voice.clone(), 1 << 20).unwrap();
        let second = again.get_or_render(&request("good morning")).unwrap();

        assert_eq!(voice.asked(), 1);
        assert_eq!(first, second);
        assert_eq!(first.clauses.len(), 2);
        assert_eq!(first.clauses[1].end, first.samples.len());
    }

    #[test]
    fn everything_that_changes_the_sound_changes_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let store = PromptStore::open(dir.path(), Tone::new("tone/1"), 0).unwrap();
        let newer = PromptStore::open(dir.path(), Tone::new("tone/2"), 0).unwrap();
        let base = request("hello");
        let variants = [
            SpeechRequest { text: "hello!".to_owned(), ..base.clone() },
            SpeechRequest { locale: Locale::EnGb, ..base.clone() },
            SpeechRequest { voice: "am_michael".to_owned(), ..base.clone() },
            SpeechRequest { style: Style::Calm, ..base.clone() },
            SpeechRequest { speed: 1.1, ..base.clone() },
        ];
        let mut keys: Vec<PromptKey> = variants.iter().map(|v| store.key(v)).collect();
        keys.push(store.key(&base));
        keys.push(newer.key(&base));
        keys.sort();
        keys.dedup();

        assert_eq!(keys.len(), 7);
    }

    #[test]
    fn a_damaged_file_is_rendered_again_and_healed() {
        let dir = tempfile::tempdir().unwrap();
        let voice = Tone::new("tone/1");
        let req = request("hello");
        let path = {
            let store = PromptStore::open(dir.path(), voice.clone(), 0).unwrap();
            store.get_or_render(&req).unwrap();
            store.path(&store.key(&req))
        };
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for damaged in [flipped, whole[..whole.len() / 2].to_vec(), Vec::new()] {
            fs::write(&path, damaged).unwrap();
            let before = voice.asked();

            let store = PromptStore::open(dir.path(), voice.clone(), 0).unwrap();
            store.get_or_render(&req).unwrap();

            assert_eq!(voice.asked(), before + 1);
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
    }

    #[test]
    fn callers_who_ask_at_the_same_time_wait_for_one_rendering() {
        let dir = tempfile::tempdir().unwrap();
        let voice = Tone::new("tone/1");
        let store = PromptStore::open(dir.path(), voice.clone(), 1 << 20).unwrap();

        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| store.get_or_render(&request("all together")).unwrap());
            }
        });

        assert_eq!(voice.asked(), 1);
    }

    #[test]
    fn memory_and_disk_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let voice = Tone::new("tone/1");
        let one = 4_000;
        let store = PromptStore::open(dir.path(), voice, 3 * one + 100).unwrap();
        for text in ["a", "b", "c", "d", "e"] {
            store.get_or_render(&request(text)).unwrap();
        }
        assert!(lock(&store.memory).used <= 3 * one + 100);
        assert_eq!(lock(&store.memory).prompts.len(), 3);
        assert!(lock(&store.memory).prompts.contains_key(&store.key(&request("e"))));

        let removed = store.prune(3 * (one as u64 + 200)).unwrap();

        assert_eq!(removed, 2);
    }

    #[test]
    fn what_was_heard_is_told_by_clauses() {
        let clause = |text: &str, end| ClauseEnd { text: text.to_owned(), end };
        let prompt = Prompt {
            samples: vec![0; 300].into(),
            clauses: vec![clause("one", 100), clause("two", 200), clause("three", 300)],
        };
        assert_eq!(prompt.heard(0), Vec::<&str>::new());
        assert_eq!(prompt.heard(40), Vec::<&str>::new());
        assert_eq!(prompt.heard(60), ["one"]);
        assert_eq!(prompt.heard(140), ["one"]);
        assert_eq!(prompt.heard(300), ["one", "two", "three"]);
    }

    proptest::proptest! {
        #[test]
        fn a_prompt_reads_back_as_written(samples: Vec<i16>, text in "\\PC{0,12}") {
            let clauses = vec![ClauseEnd { text, end: samples.len() }];
            let prompt = Prompt { samples: samples.into(), clauses };
            proptest::prop_assert_eq!(parse(&print(&prompt).unwrap()), Some(prompt));
        }

        #[test]
        fn no_bytes_panic_the_parser(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
