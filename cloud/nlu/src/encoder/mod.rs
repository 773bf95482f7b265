//! multilingual-e5-small, run in this process on the CPU.
//!
//! The model file is the 4-bit packing `E5S1`: [`file`] reads it, [`tokenizer`] cuts text into
//! sentence pieces, [`bert`] runs the twelve layers on [`matrix`]. The 250,000-row word embedding
//! stays 4-bit in a memory map and a row is unpacked when it is looked up; the layers' weights are
//! widened once to bytes and keep their scales. So the process holds some 40 MB and the map.
//!
//! A vector is the mean of the last layer over all tokens of `query: ` + text, scaled to length 1.

mod bert;
mod file;
mod matrix;
mod tokenizer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bert::Bert;
use file::ModelFile;
pub use file::ModelFileError;

use crate::locale::Locale;
use tokenizer::Tokenizer;

pub(crate) use matrix::with_simd;

/// The name of the encoder's file in the model folder.
pub const MODEL_FILE: &str = "e5-small-q4.bin";

/// The longest input in tokens, with the two at its ends. A turn on the telephone has 5 to 60;
/// the cap keeps the cost of a hostile text bounded.
const MAX_TOKENS: usize = 256;

/// How many tokens one forward pass holds at most, so that a large batch needs little memory.
const TOKENS_PER_PASS: usize = 768;

/// What e5 expects in front of a text that is compared with texts of its own kind.
const PREFIX: &str = "query: ";

/// Why the encoder could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum EncoderError {
    /// The file cannot be opened or mapped.
    #[error("could not open the encoder `{path}`")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is there and is not a sound model.
    #[error("`{path}` is not a usable encoder")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ModelFileError,
    },
}

/// The sentence encoder. Cheap to clone; safe to use from several threads at once.
#[derive(Clone)]
pub struct Encoder {
    inner: Arc<Inner>,
}

struct Inner {
    tokenizer: Tokenizer,
    bert: Bert,
    /// Vectors of texts that every script shares.
    shared: Mutex<BTreeMap<Locale, Arc<[f32]>>>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("dimensions", &self.dimensions()).finish_non_exhaustive()
    }
}

impl Encoder {
    /// Maps and unpacks the model file at `path`; takes about a tenth of a second.
    ///
    /// # Errors
    /// The file cannot be read, or is not a sound `E5S1` file.
    pub fn open(path: &Path) -> Result<Self, EncoderError> {
        let file = ModelFile::open(path)?;
        let damaged = |source| EncoderError::Damaged { path: path.to_owned(), source };
        let file = Arc::new(file);
        let tokenizer = Tokenizer::new(Arc::clone(&file)).map_err(damaged)?;
        let bert = Bert::new(file).map_err(damaged)?;
        Ok(Self { inner: Arc::new(Inner { tokenizer, bert, shared: Mutex::default() }) })
    }

    /// Returns the length of a vector: 384.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.inner.bert.dimensions()
    }

    /// Returns the vector of one text, of length 1.
    #[must_use]
    pub fn embed(&self, text: &str) -> Vec<f32> {
        let tokens = self.tokens(text);
        self.inner.bert.forward(&[tokens])
    }

    /// Returns the vectors of all texts, one after another in one allocation.
    #[must_use]
    pub fn embed_batch<S: AsRef<str>>(&self, texts: &[S]) -> Vec<f32> {
        let mut out = Vec::with_capacity(texts.len() * self.dimensions());
        let mut batch: Vec<Vec<u32>> = Vec::new();
        let mut held = 0;
        for text in texts {
            let tokens = self.tokens(text.as_ref());
            if held + tokens.len() > TOKENS_PER_PASS && !batch.is_empty() {
                out.extend(self.inner.bert.forward(&batch));
                batch.clear();
                held = 0;
            }
            held += tokens.len();
            batch.push(tokens);
        }
        if !batch.is_empty() {
            out.extend(self.inner.bert.forward(&batch));
        }
        out
    }

    /// Like [`Self::embed_batch`], with the texts shared out among `threads` threads.
    #[must_use]
    pub fn embed_parallel<S: AsRef<str> + Sync>(&self, texts: &[S], threads: usize) -> Vec<f32> {
        let share = texts.len().div_ceil(threads.max(1)).max(1);
        if threads <= 1 || texts.len() <= share {
            return self.embed_batch(texts);
        }
        std::thread::scope(|scope| {
            let parts: Vec<_> =
                texts.chunks(share).map(|chunk| scope.spawn(|| self.embed_batch(chunk))).collect();
            let mut out = Vec::with_capacity(texts.len() * self.dimensions());
            for part in parts {
                match part.join() {
                    Ok(vectors) => out.extend(vectors),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            out
        })
    }

    /// Returns the vectors of the texts that all scripts of a language share, computed by the first who
    /// asks. For one locale `texts` must always be the same.
    pub(crate) fn embed_shared(&self, locale: Locale, texts: &[String], threads: usize) -> Arc<[f32]> {
        let mut shared = self.inner.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let vectors = shared.entry(locale).or_insert_with(|| self.embed_parallel(texts, threads).into());
        debug_assert_eq!(vectors.len(), texts.len() * self.dimensions(), "other texts than before");
        Arc::clone(vectors)
    }

    fn tokens(&self, text: &str) -> Vec<u32> {
        self.inner.tokenizer.encode(&format!("{PREFIX}{text}"), MAX_TOKENS)
    }
}
