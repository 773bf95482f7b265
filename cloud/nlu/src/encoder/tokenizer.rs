//! Sentence pieces: the most probable way to cut a text into known pieces.
//!
//! A unigram model (Kudo 2018, "Subword regularization", section 3): each piece has a log
//! probability, and Viterbi finds the cut with the highest sum. Characters are first replaced by
//! the file's own table (a compatibility normal form), runs of spaces become one, and a space is
//! written as U+2581 so that pieces may begin with it.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use super::file::{ModelFile, ModelFileError};

/// The visible stand-in for a space inside pieces.
const SPACE: char = '\u{2581}';

/// How far below the rarest piece an unknown character is scored.
const UNKNOWN_PENALTY: f32 = 10.0;

pub(super) struct Tokenizer {
    file: Arc<ModelFile>,
    /// Open addressing: piece id + 1, 0 for free; the length is a power of two.
    slots: Vec<u32>,
    longest: usize,
    unknown_score: f32,
}

impl Tokenizer {
    pub(super) fn new(file: Arc<ModelFile>) -> Result<Self, ModelFileError> {
        let count = file.pieces.scores.len();
        let mut tokenizer =
            Self { slots: vec![0; (count * 2).next_power_of_two()], longest: 1, unknown_score: 0.0, file };
        let mut lowest = 0.0_f32;
        for id in 0..count {
            let piece = tokenizer.piece(id);
            // Pieces in angle brackets at score 0 are commands, never parts of a text.
            let command = tokenizer.file.pieces.scores[id] == 0.0 && piece.starts_with(b"<");
            if piece.is_empty() || command {
                continue;
            }
            lowest = lowest.min(tokenizer.file.pieces.scores[id]);
            let len = piece.len();
            let mut slot = tokenizer.slot_of(piece);
            while tokenizer.slots[slot] != 0 {
                slot = (slot + 1) % tokenizer.slots.len();
            }
            tokenizer.slots[slot] =
                u32::try_from(id + 1).map_err(|_| ModelFileError::Value("number of pieces"))?;
            tokenizer.longest = tokenizer.longest.max(len);
        }
        tokenizer.unknown_score = lowest - UNKNOWN_PENALTY;
        Ok(tokenizer)
    }

    /// Returns the ids of a text between the two end tokens, `max` at most in all.
    pub(super) fn encode(&self, text: &str, max: usize) -> Vec<u32> {
        let tables = &self.file.pieces;
        let mut ids = vec![tables.bos];
        // A piece is rarely longer than 8 characters: what lies beyond cannot be among `max`.
        let (text, starts) = self.normalise(text, max * 16);
        ids.extend(self.cut(&text, &starts));
        ids.truncate(max - 1);
        ids.push(tables.eos);
        ids
    }

    /// The normal form, and where each of its characters starts (and the end).
    fn normalise(&self, text: &str, max_chars: usize) -> (String, Vec<usize>) {
        let rules = &self.file.pieces.rules;
        let mut out = String::with_capacity(text.len() + 3);
        let mut starts = Vec::with_capacity(text.len() + 2);
        let mut push = |c: char| {
            let c = if c == ' ' { SPACE } else { c };
            if !(c == SPACE && out.ends_with(SPACE)) {
                starts.push(out.len());
                out.push(c);
            }
        };
        push(' ');
        for c in text.chars().take(max_chars) {
            match rules.get(&u32::from(c)) {
                Some(to) => to.iter().copied().for_each(&mut push),
                None => push(c),
            }
        }
        starts.push(out.len());
        (out, starts)
    }

    fn cut(&self, text: &str, starts: &[usize]) -> Vec<u32> {
        #[derive(Clone, Copy)]
        struct Best {
            score: f32,
            piece: u32,
            from: usize,
        }
        let unk = self.file.pieces.unk;
        let nowhere = Best { score: f32::NEG_INFINITY, piece: unk, from: 0 };
        let mut best = vec![nowhere; starts.len()];
        best[0].score = 0.0;
        let end = starts.len() - 1;
        for from in 0..end {
            let so_far = best[from].score;
            for to in from + 1..=end {
                let bytes = &text.as_bytes()[starts[from]..starts[to]];
                if bytes.len() > self.longest {
                    break;
                }
                let found = self.find(bytes).map(|id| {
                    let score = self.file.pieces.scores[id as usize];
                    (id, score)
                });
                // Every character can stand alone as the unknown, so that a cut always exists.
                let fallback = (to == from + 1).then_some((unk, self.unknown_score));
                if let Some((piece, score)) = found.or(fallback)
                    && so_far + score > best[to].score
                {
                    best[to] = Best { score: so_far + score, piece, from };
                }
            }
        }
        let mut ids = Vec::new();
        let mut at = end;
        while at > 0 {
            ids.push(best[at].piece);
            at = best[at].from;
        }
        ids.reverse();
        ids
    }

    fn piece(&self, id: usize) -> &[u8] {
        let offsets = &self.file.pieces.offsets;
        &self.file.piece_blob()[offsets[id] as usize..offsets[id + 1] as usize]
    }

    fn find(&self, bytes: &[u8]) -> Option<u32> {
        let mut slot = self.slot_of(bytes);
        loop {
            match self.slots[slot] {
                0 => return None,
                taken if self.piece(taken as usize - 1) == bytes => return Some(taken - 1),
                _ => slot = (slot + 1) % self.slots.len(),
            }
        }
    }

    fn slot_of(&self, bytes: &[u8]) -> usize {
        let mut hasher = FnvBuilder.build_hasher();
        hasher.write(bytes);
        (hasher.finish() % self.slots.len() as u64) as usize
    }
}

struct FnvBuilder;

struct Fnv(u64);

impl BuildHasher for FnvBuilder {
    type Hasher = Fnv;

    fn build_hasher(&self) -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
