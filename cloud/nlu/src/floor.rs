//! The head that needs no encoder: hashed n-grams, TF-IDF, logistic regression.
//!
//! It decides in microseconds and packs into some hundred kilobytes, so it travels in the bundle
//! and takes the turns for which the cloud is late. Mandarin is cut into one to three characters
//! and, for recognisers that write the wrong character of the right sound, into syllables; English
//! into one and two words and the letters inside them.

use std::collections::BTreeMap;

use crate::locale::Locale;
use crate::softmax::{Sparse, SparseOptions, SparseRow, softmax};
use crate::text::{normalise, syllables};

/// The trained head.
#[derive(Clone, Debug, PartialEq)]
pub struct FloorHead {
    locale: Locale,
    labels: Vec<String>,
    /// Sorted hashes of the features seen in training, and their rarity.
    features: Vec<u32>,
    rarity: Vec<f32>,
    /// By feature, then label, in steps of the label's `step`.
    weights: Vec<i8>,
    steps: Vec<f32>,
    bias: Vec<f32>,
}

/// A packed head cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FloorError {
    /// The bytes are not a head of this version.
    #[error("not a floor head of version 1")]
    Magic,
    /// The bytes end early or contradict themselves.
    #[error("the floor head is cut short or damaged")]
    Damaged,
}

const MAGIC: &[u8; 4] = b"TLF1";

impl FloorHead {
    /// Trains on normalised texts; `labels[i]` indexes `names`.
    pub(crate) fn train(
        locale: Locale,
        names: &[String],
        texts: &[String],
        labels: &[usize],
        weights: &[f32],
    ) -> Self {
        let raw: Vec<Vec<u32>> = texts.iter().map(|text| hashes(text, locale)).collect();
        let mut seen_in: BTreeMap<u32, u32> = BTreeMap::new();
        for row in &raw {
            let mut distinct = row.clone();
            distinct.sort_unstable();
            distinct.dedup();
            for hash in distinct {
                *seen_in.entry(hash).or_default() += 1;
            }
        }
        let n = texts.len() as f32;
        let features: Vec<u32> = seen_in.keys().copied().collect();
        let rarity: Vec<f32> =
            seen_in.values().map(|count| ((1.0 + n) / (1.0 + *count as f32)).ln() + 1.0).collect();
        let mut head = Self {
            locale,
            labels: names.to_vec(),
            features,
            rarity,
            weights: Vec::new(),
            steps: Vec::new(),
            bias: Vec::new(),
        };
        let rows: Vec<SparseRow> = raw.iter().map(|row| head.row(row)).collect();
        let options = SparseOptions {
            // Few examples need more rounds; many are seen often enough in few.
            epochs: (30_000 / texts.len().max(1)).clamp(8, 60),
            rate: 0.5,
            l2: 1e-5,
        };
        let classes = names.len();
        let sparse = Sparse::train(&rows, head.features.len(), labels, weights, classes, options);
        head.pack(&sparse);
        head
    }

    /// Rounds the weights to a byte each.
    fn pack(&mut self, sparse: &Sparse) {
        let classes = self.labels.len();
        let mut largest = vec![1e-6_f32; classes];
        for row in sparse.weights.chunks_exact(classes) {
            for (largest, w) in largest.iter_mut().zip(row) {
                *largest = largest.max(w.abs());
            }
        }
        self.steps = largest.iter().map(|l| l / 127.0).collect();
        self.weights = sparse
            .weights
            .chunks_exact(classes)
            .flat_map(|row| row.iter().zip(&self.steps))
            .map(|(w, step)| (w / step).round() as i8)
            .collect();
        self.bias.clone_from(&sparse.bias);
    }

    /// Returns the label names, in the order of [`Self::probabilities`].
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Returns the language of the head.
    #[must_use]
    pub fn locale(&self) -> Locale {
        self.locale
    }

    /// Returns a probability for each label. A text without any known feature gets all alike.
    #[must_use]
    pub fn probabilities(&self, text: &str) -> Vec<f32> {
        self.of_normal(&normalise(text, self.locale))
    }

    /// The same for a text that is already normalised.
    pub(crate) fn of_normal(&self, normal: &str) -> Vec<f32> {
        let row = self.row(&hashes(normal, self.locale));
        if row.is_empty() {
            return vec![1.0 / self.labels.len().max(1) as f32; self.labels.len()];
        }
        let classes = self.labels.len();
        let mut sums = vec![0.0_f32; classes];
        for (feature, value) in row {
            let weights = &self.weights[feature * classes..][..classes];
            for (sum, w) in sums.iter_mut().zip(weights) {
                *sum += value * f32::from(*w);
            }
        }
        for ((sum, step), bias) in sums.iter_mut().zip(&self.steps).zip(&self.bias) {
            *sum = *sum * step + bias;
        }
        softmax(&mut sums);
        sums
    }

    /// How much of the text the head has seen in training, from 0 to 1.
    pub(crate) fn familiarity(&self, normal: &str) -> f32 {
        let all = hashes(normal, self.locale);
        if all.is_empty() {
            return 0.0;
        }
        let known = all.iter().filter(|hash| self.features.binary_search(hash).is_ok()).count();
        known as f32 / all.len() as f32
    }

    /// Counts, weighs and scales to length 1.
    fn row(&self, hashes: &[u32]) -> SparseRow {
        let mut counts: BTreeMap<usize, f32> = BTreeMap::new();
        for hash in hashes {
            if let Ok(feature) = self.features.binary_search(hash) {
                *counts.entry(feature).or_default() += 1.0;
            }
        }
        let mut row: SparseRow = counts
            .into_iter()
            .map(|(feature, count)| (feature, (1.0 + count.ln()) * self.rarity[feature]))
            .collect();
        let length = row.iter().map(|(_, v)| v * v).sum::<f32>().sqrt();
        for (_, value) in &mut row {
            *value /= length;
        }
        row
    }

    /// Packs the head for a bundle.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.weights.len() + self.features.len() * 8 + 1_024);
        out.extend(MAGIC);
        out.push(match self.locale {
            Locale::Zh => 0,
            Locale::En => 1,
        });
        let length = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
        out.extend(length(self.labels.len()));
        for label in &self.labels {
            out.extend(length(label.len()));
            out.extend(label.as_bytes());
        }
        out.extend(length(self.features.len()));
        out.extend(self.features.iter().flat_map(|v| v.to_le_bytes()));
        for floats in [&self.rarity, &self.steps, &self.bias] {
            out.extend(floats.iter().flat_map(|v| v.to_le_bytes()));
        }
        out.extend(self.weights.iter().flat_map(|v| v.to_le_bytes()));
        out
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// The bytes are not such a head.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FloorError> {
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(FloorError::Magic)?;
        let locale = match take(&mut rest, 1)?[0] {
            0 => Locale::Zh,
            1 => Locale::En,
            _ => return Err(FloorError::Damaged),
        };
        let classes = number(&mut rest)?;
        let mut labels = Vec::new();
        for _ in 0..classes {
            let len = number(&mut rest)?;
            let label = std::str::from_utf8(take(&mut rest, len)?);
            labels.push(label.map_err(|_| FloorError::Damaged)?.to_owned());
        }
        let count = number(&mut rest)?;
        let features: Vec<u32> = words(take(&mut rest, times(count, 4)?)?).map(u32::from_le_bytes).collect();
        let mut floats = |n: usize| -> Result<Vec<f32>, FloorError> {
            Ok(words(take(&mut rest, times(n, 4)?)?).map(f32::from_le_bytes).collect())
        };
        let (rarity, steps, bias) = (floats(count)?, floats(classes)?, floats(classes)?);
        let weights: Vec<i8> =
            take(&mut rest, times(count, classes)?)?.iter().map(|b| i8::from_le_bytes([*b])).collect();
        let sorted = features.is_sorted_by(|a, b| a < b);
        if !rest.is_empty() || !sorted {
            return Err(FloorError::Damaged);
        }
        Ok(Self { locale, labels, features, rarity, weights, steps, bias })
    }
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], FloorError> {
    let (part, after) = rest.split_at_checked(len).ok_or(FloorError::Damaged)?;
    *rest = after;
    Ok(part)
}

fn number(rest: &mut &[u8]) -> Result<usize, FloorError> {
    let bytes = take(rest, 4)?;
    let value = words(bytes).next().map(u32::from_le_bytes);
    value.map(|v| v as usize).ok_or(FloorError::Damaged)
}

fn times(a: usize, b: usize) -> Result<usize, FloorError> {
    a.checked_mul(b).ok_or(FloorError::Damaged)
}

fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    bytes.as_chunks().0.iter().copied()
}

/// The hashed features of a normalised text, repeats included.
fn hashes(normal: &str, locale: Locale) -> Vec<u32> {
    let mut out = Vec::new();
    match locale {
        Locale::Zh => {
            let bounded: Vec<char> = format!("^{normal}$").chars().collect();
            for n in 1..=3 {
                for gram in bounded.windows(n) {
                    out.push(hash('c', gram.iter().collect::<String>().as_bytes()));
                }
            }
            let sounds = syllables(normal);
            for n in 1..=2 {
                for gram in sounds.windows(n) {
                    out.push(hash('s', gram.join(" ").as_bytes()));
                }
            }
        }
        Locale::En => {
            let words: Vec<&str> = normal.split(' ').filter(|w| !w.is_empty()).collect();
            for n in 1..=2 {
                for gram in words.windows(n) {
                    out.push(hash('w', gram.join(" ").as_bytes()));
                }
            }
            for word in words {
                let bounded: Vec<char> = format!(" {word} ").chars().collect();
                for n in 2..=5 {
                    for gram in bounded.windows(n) {
                        out.push(hash('c', gram.iter().collect::<String>().as_bytes()));
                    }
                }
            }
        }
    }
    out
}

/// FNV-1a over the kind and the bytes.
fn hash(kind: char, bytes: &[u8]) -> u32 {
    let mut hash = 0x811c_9dc5_u32 ^ u32::from(kind);
    for byte in bytes {
        hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head() -> FloorHead {
        let names = ["pay", "wrong"].map(str::to_owned);
        let texts = ["我明天还", "我会还款的", "打错了", "我不认识他"].map(str::to_owned);
        FloorHead::train(Locale::Zh, &names, &texts, &[0, 0, 1, 1], &[1.0; 4])
    }

    #[test]
    fn a_head_reads_back_as_written_and_knows_its_examples() {
        let head = head();
        let read = FloorHead::from_bytes(&head.to_bytes()).unwrap();
        assert_eq!(read, head);
        assert!(read.probabilities("明天就还")[0] > 0.6);
        assert!(read.probabilities("你打错啦")[1] > 0.6);
    }

    #[test]
    fn a_cut_head_is_refused_at_every_length() {
        let bytes = head().to_bytes();
        for len in 0..bytes.len() {
            assert!(FloorHead::from_bytes(&bytes[..len]).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_reader(mut bytes: Vec<u8>, magic: bool) {
            if magic {
                bytes.splice(0..0, *MAGIC);
            }
            let _ = FloorHead::from_bytes(&bytes);
        }
    }
}
