//! The table of pieces that a model writes (`tokens.txt`: a piece and its number in each line), and how
//! pieces make a text.
//!
//! Three ways are in use: `▁` at the beginning of a word (SentencePiece), `@@` at the end of a piece
//! that goes on (subword-nmt, in Paraformer), and pieces of bytes that are written as letters
//! (byte-level BPE of icefall). Bytes may also stand alone as `<0xE4>`. Whatever else stands in angle
//! brackets (`<unk>`, `<|zh|>`, `<|HAPPY|>`) is a mark and no text.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Beginning of a word.
const WORD: char = '\u{2581}';
/// More pieces than any model has.
const MOST: usize = 1_000_000;
/// Different letters beyond ASCII that a table must have to be taken for one of bytes: an alphabet with
/// as many, all of them among the letters that stand for bytes, is not known.
const BYTE_LETTERS: usize = 64;

/// Why a table of pieces cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The file cannot be read as text.
    #[error("could not read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A line is not a piece and its number.
    #[error("`{path}`, line {line}: expected a piece and its number, found `{found}`")]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The line.
        found: String,
    },
    /// A number is given twice.
    #[error("`{path}`, line {line}: number {number} is given a second time")]
    Twice {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The number.
        number: usize,
    },
    /// There is nothing in it.
    #[error("`{path}` holds no pieces")]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// How pieces are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Joining {
    /// `▁` is a space.
    Words,
    /// `@@` joins to the next piece; other pieces stand alone.
    AtSigns,
    /// Letters stand for bytes.
    Bytes,
}

/// The pieces by their numbers.
#[derive(Debug, Clone)]
pub(super) struct Tokens {
    pieces: Vec<Option<String>>,
    numbers: BTreeMap<String, u32>,
    joining: Joining,
    /// No piece has a small Latin letter: what comes out in capitals means nothing by them.
    only_capitals: bool,
    /// Letters of the longest piece.
    longest: usize,
}

impl Tokens {
    pub(super) fn read(path: &Path) -> Result<Self, TokensError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| TokensError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, TokensError> {
        let mut pieces: Vec<Option<String>> = Vec::new();
        for (n, line) in text.lines().enumerate() {
            let line = line.trim_end_matches(['\r', '\n']);
            if line.trim().is_empty() {
                continue;
            }
            let wrong = || TokensError::Line { path: path.to_owned(), line: n + 1, found: line.to_owned() };
            // The piece may itself be a space, or missing for one.
            let (piece, number) = line.rsplit_once([' ', '\t']).unwrap_or((" ", line));
            let number: usize = number.parse().map_err(|_| wrong())?;
            if number >= MOST {
                return Err(wrong());
            }
            let piece = if piece.trim().is_empty() { " " } else { piece.trim() };
            if pieces.len() <= number {
                pieces.resize(number + 1, None);
            }
            match &mut pieces[number] {
                Some(_) => return Err(TokensError::Twice { path: path.to_owned(), line: n + 1, number }),
                empty => *empty = Some(piece.to_owned()),
            }
        }
        if pieces.is_empty() {
            return Err(TokensError::Empty { path: path.to_owned() });
        }
        Ok(Self::new(pieces))
    }

    fn new(pieces: Vec<Option<String>>) -> Self {
        let written = || pieces.iter().flatten().filter(|piece| !is_mark(piece));
        let letters = || written().filter(|piece| byte_of(piece).is_none());
        let only_capitals = !letters().any(|piece| piece.chars().any(|c| c.is_ascii_lowercase()));
        let joining = if is_byte_level(written()) {
            Joining::Bytes
        } else if written().any(|piece| piece.len() > 2 && piece.ends_with("@@")) {
            Joining::AtSigns
        } else {
            Joining::Words
        };
        let longest = written().map(|piece| piece.chars().count()).max().unwrap_or(1);
        let numbers = (0u32..).zip(&pieces).filter_map(|(n, p)| Some((p.clone()?, n))).collect();
        Self { pieces, numbers, joining, only_capitals, longest }
    }

    /// One more than the highest number.
    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    pub(super) fn number(&self, piece: &str) -> Option<u32> {
        self.numbers.get(piece).copied()
    }

    /// The piece as the table has it; empty for a number that it does not have.
    pub(super) fn piece(&self, token: u32) -> &str {
        self.pieces.get(token as usize).and_then(Option::as_deref).unwrap_or("")
    }

    /// Tells whether a token is a mark and no text.
    pub(super) fn is_mark(&self, token: u32) -> bool {
        is_mark(self.piece(token))
    }

    /// Makes a text of tokens.
    pub(super) fn join(&self, tokens: impl IntoIterator<Item = u32>) -> String {
        let mut bytes: Vec<u8> = Vec::new();
        let mut goes_on = true;
        for token in tokens {
            let piece = self.piece(token);
            if is_mark(piece) {
                continue;
            }
            match (byte_of(piece), self.joining) {
                (Some(byte), _) => bytes.push(byte),
                (None, Joining::Words) => {
                    bytes.extend_from_slice(piece.replace(WORD, " ").as_bytes());
                }
                (None, Joining::Bytes) => {
                    bytes.extend(piece.chars().map(|c| if c == WORD { b' ' } else { byte_letter(c) }));
                }
                (None, Joining::AtSigns) => {
                    let (text, more) = match piece.strip_suffix("@@") {
                        Some(text) => (text, true),
                        None => (piece, false),
                    };
                    if !goes_on {
                        bytes.push(b' ');
                    }
                    bytes.extend_from_slice(text.as_bytes());
                    // Ideographs stand alone; spaces beside them are taken out later.
                    goes_on = more;
                }
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if self.only_capitals { text.to_lowercase() } else { text }
    }

    /// Returns how the table writes a text: the fewest pieces, and character by character where that is
    /// something else. Empty when it cannot write it.
    pub(super) fn write(&self, text: &str) -> Vec<Vec<u32>> {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if text.is_empty() {
            return Vec::new();
        }
        let mut ways: Vec<Vec<u32>> = Vec::new();
        let cases = if self.only_capitals {
            vec![text.to_uppercase()]
        } else {
            vec![text.clone(), text.to_lowercase()]
        };
        for case in cases {
            for longest in [self.longest, 1] {
                let way = match self.joining {
                    Joining::AtSigns => self.write_at_signs(&case, longest).into_iter().collect(),
                    Joining::Words | Joining::Bytes => self.write_words(&case, longest),
                };
                for way in way {
                    if !ways.contains(&way) {
                        ways.push(way);
                    }
                }
            }
        }
        ways
    }

    fn write_words(&self, text: &str, longest: usize) -> Vec<Vec<u32>> {
        let mut spelt = String::new();
        for word in text.split(' ') {
            spelt.push(WORD);
            match self.joining {
                Joining::Bytes => spelt.extend(word.bytes().map(letter_of_byte)),
                Joining::Words | Joining::AtSigns => spelt.push_str(word),
            }
        }
        // An ideograph takes three letters there.
        let longest = if self.joining == Joining::Bytes { longest.max(3) } else { longest };
        let marked = self.fewest(&spelt, longest, |piece, _| self.number(piece));
        // Ideographs stand without the mark of a word as well, and tables of characters know none.
        let is_latin = text.starts_with(|c: char| c <= '\u{24f}');
        let bare = if marked.is_some() && is_latin {
            None
        } else {
            self.fewest(&spelt.replace(WORD, ""), longest, |piece, _| self.number(piece))
        };
        marked.into_iter().chain(bare).collect()
    }

    fn write_at_signs(&self, text: &str, longest: usize) -> Option<Vec<u32>> {
        let mut all = Vec::new();
        for word in text.split(' ') {
            let is_spelt = word.chars().all(|c| c.is_ascii_alphanumeric() || c == '\'');
            let limit = if is_spelt { self.longest } else { longest };
            let found = self.fewest(word, limit, |piece, ends| {
                if ends || !is_spelt { self.number(piece) } else { self.number(&format!("{piece}@@")) }
            });
            all.extend(found?);
        }
        Some(all)
    }

    /// Splits a text into the fewest pieces of at most so many letters; `known` is told a piece and
    /// whether it is the last.
    fn fewest(
        &self,
        text: &str,
        longest: usize,
        known: impl Fn(&str, bool) -> Option<u32>,
    ) -> Option<Vec<u32>> {
        let edges: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let letters = edges.len() - 1;
        // How many pieces lead to each edge, and the last of them.
        let mut best: Vec<Option<(usize, usize, u32)>> = vec![None; letters + 1];
        best[0] = Some((0, 0, 0));
        for end in 1..=letters {
            // A mark of a word counts with its first letter.
            for start in (end.saturating_sub(longest + 1)..end).rev() {
                let piece = &text[edges[start]..edges[end]];
                if piece.trim_start_matches(WORD).chars().count() > longest {
                    continue;
                }
                let (Some((count, _, _)), Some(token)) = (best[start], known(piece, end == letters)) else {
                    continue;
                };
                if best[end].is_none_or(|(least, _, _)| count + 1 < least) {
                    best[end] = Some((count + 1, start, token));
                }
            }
        }
        let mut tokens = Vec::new();
        let mut at = letters;
        while at > 0 {
            let (_, start, token) = best[at]?;
            tokens.push(token);
            at = start;
        }
        tokens.reverse();
        Some(tokens)
    }
}

fn is_mark(piece: &str) -> bool {
    piece.len() > 2 && piece.starts_with('<') && piece.ends_with('>') && byte_of(piece).is_none()
}

/// The byte of a piece such as `<0xE4>`.
fn byte_of(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// The letters that stand for the bytes, in their order: ASCII's printable ones stand for themselves,
/// the others for letters of Latin Extended that no normalisation changes (icefall's `byte_utils.py`).
fn letters_of_bytes() -> impl Iterator<Item = char> {
    [(256, 287), (32, 126), (288, 305), (308, 318), (321, 328), (330, 382), (384, 422)]
        .into_iter()
        .flat_map(|(first, last)| first..=last)
        .filter_map(char::from_u32)
}

fn letter_of_byte(byte: u8) -> char {
    letters_of_bytes().nth(usize::from(byte)).unwrap_or(' ')
}

fn byte_letter(letter: char) -> u8 {
    let at = letters_of_bytes().position(|c| c == letter);
    at.and_then(|at| u8::try_from(at).ok()).unwrap_or(b' ')
}

fn is_byte_level<'a>(pieces: impl Iterator<Item = &'a String>) -> bool {
    let known: std::collections::BTreeSet<char> = letters_of_bytes().collect();
    let mut beyond = std::collections::BTreeSet::new();
    for piece in pieces {
        for c in piece.chars().filter(|c| *c != WORD && *c != '\u{2047}') {
            if !known.contains(&c) && !is_disambiguation(piece) {
                return false;
            }
            if !c.is_ascii() {
                beyond.insert(c);
            }
        }
    }
    beyond.len() >= BYTE_LETTERS
}

/// `#0`, `#1`: symbols of decoding graphs that stand at the end of some tables.
fn is_disambiguation(piece: &str) -> bool {
    piece.strip_prefix('#').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(pieces: &[&str]) -> Tokens {
        let text: String = pieces.iter().enumerate().map(|(n, piece)| format!("{piece} {n}\n")).collect();
        Tokens::parse(&text, Path::new("tokens.txt")).unwrap()
    }

    #[test]
    fn words_begin_with_their_mark_and_bytes_make_characters() {
        let tokens =
            table(&["<blk>", "\u{2581}HE", "LLO", "\u{2581}WORLD", "<unk>", "<0xE4>", "<0xBD>", "<0xA0>"]);
        assert_eq!(tokens.join([0, 1, 2, 4, 3]), "hello world", "capitals alone mean nothing");
        assert_eq!(tokens.join([5, 6, 7]), "你");
        assert_eq!(tokens.join([5, 6]), "\u{fffd}");
    }

    #[test]
    fn marks_of_sense_voice_are_no_text() {
        let tokens = table(&["<unk>", "<|zh|>", "<|NEUTRAL|>", "<|Speech|>", "你", "好", "\u{2581}ok"]);
        assert_eq!(tokens.join([1, 2, 3, 4, 5, 6]), "你好 ok");
        assert!(tokens.is_mark(1) && !tokens.is_mark(4));
    }

    #[test]
    fn at_signs_join_to_what_follows() {
        let tokens = table(&["<blank>", "<s>", "</s>", "hel@@", "lo", "我", "wor@@", "ld"]);
        assert_eq!(tokens.join([3, 4, 6, 7]), "hello world");
        assert_eq!(tokens.join([5, 5, 3, 4, 5]), "我 我 hello 我");
        assert_eq!(tokens.write("hello 我"), [vec![3, 4, 5]]);
    }

    #[test]
    fn letters_that_stand_for_bytes_are_turned_back() {
        // All letters of bytes, as a byte-level table has them.
        let letters: Vec<String> = letters_of_bytes().filter(|c| *c != ' ').map(String::from).collect();
        let mut pieces = vec!["<blk>", "\u{2581}"];
        pieces.extend(letters.iter().map(String::as_str));
        let tokens = table(&pieces);
        let spelt: Vec<u32> = std::iter::once(1)
            .chain("你好 a".bytes().map(|b| match b {
                b' ' => 1,
                b => tokens.number(&letter_of_byte(b).to_string()).unwrap(),
            }))
            .collect();
        assert_eq!(tokens.join(spelt.clone()), "你好 a");
        assert!(tokens.write("你好 a").contains(&spelt));
    }

    #[test]
    fn a_table_of_czech_letters_is_not_one_of_bytes() {
        let tokens = table(&["<blk>", "\u{2581}č", "e", "š", "t", "ina"]);
        assert_eq!(tokens.join([1, 2, 3, 4, 5]), "čeština");
    }

    #[test]
    fn a_text_is_written_with_the_fewest_pieces_and_letter_by_letter() {
        let tokens = table(&[
            "<blk>",
            "\u{2581}",
            "\u{2581}y",
            "e",
            "s",
            "\u{2581}ye",
            "\u{2581}yes",
            "a",
            "\u{2581}a",
        ]);
        assert_eq!(tokens.write("yes"), [vec![6], vec![2, 3, 4]]);
        assert_eq!(tokens.write("Yes a")[0], [6, 8]);
        assert_eq!(tokens.write("no"), Vec::<Vec<u32>>::new());
        let characters = table(&["<blk>", "好", "的"]);
        assert_eq!(characters.write("好的"), [vec![1, 2]]);
    }

    #[test]
    fn a_space_may_be_a_piece() {
        let text = "<blk> 0\n  1\na 2\n";
        let tokens = Tokens::parse(text, Path::new("t")).unwrap();
        assert_eq!(tokens.join([2, 1, 2]), "a a");
    }

    #[test]
    fn what_is_no_table_is_refused_with_its_line() {
        let parse = |text: &str| Tokens::parse(text, Path::new("tokens.txt")).unwrap_err().to_string();
        assert!(parse("a 0\nb x\n").contains("line 2"), "{}", parse("a 0\nb x\n"));
        assert!(parse("a 0\nb 0\n").contains("second time"));
        assert!(parse("a 99999999999\n").contains("line 1"));
        assert!(parse("\n\n").contains("no pieces"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_the_table(text in ".{0,60}", numbers in proptest::collection::vec(0u32..40, 0..20)) {
            if let Ok(tokens) = Tokens::parse(&text, Path::new("t")) {
                let _ = tokens.join(numbers);
                let _ = tokens.write(&text);
            }
        }

        #[test]
        fn what_a_table_writes_it_reads_back(words in proptest::collection::vec("[abc]{1,5}", 1..4)) {
            let tokens = table(&["<blk>", "\u{2581}", "a", "b", "c", "\u{2581}a", "ab", "\u{2581}abc", "cc"]);
            let text = words.join(" ");
            for way in tokens.write(&text) {
                proptest::prop_assert_eq!(tokens.join(way), text.clone());
            }
        }
    }
}
