//! Written text to phonemes, clause by clause.
//!
//! The symbols are those of Kokoro 1.0: IPA with tone arrows for Mandarin (→ ↗ ↓ ↘, none for the
//! neutral tone), and an IPA in which capitals stand for diphthongs (`A` as in "day") for English.
//!
//! Order of work: split into clauses, write out numbers and signs, read the words. The readings come
//! from published facts about both languages; the tables are our own.

mod en_lexicon;
mod en_numbers;
mod en_read;
mod en_written;
mod zh_ipa;
mod zh_numbers;
mod zh_read;
mod zh_written;

use std::path::Path;

pub use self::en_lexicon::{EspeakLetters, Lexicon, LexiconError};
pub use self::en_read::EnglishReader;
pub use self::zh_ipa::syllable_to_ipa;
pub use self::zh_read::MandarinReader;
use super::Locale;

/// Writes `text` out as it is said: digits, signs and units become words.
pub fn written_out(text: &str, locale: Locale) -> String {
    match locale {
        Locale::ZhCn => zh_written::spoken(text),
        Locale::EnUs => en_written::spoken(text, false),
        Locale::EnGb => en_written::spoken(text, true),
    }
}

/// A stretch of speech between two pauses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// The words as written.
    pub text: String,
    /// What is said, in the symbols of Kokoro, closing punctuation included.
    pub phonemes: String,
    /// What follows.
    pub pause: Pause,
}

/// How a clause ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// A comma or the like: the sentence goes on.
    Short,
    /// The end of a sentence.
    Long,
    /// A new paragraph.
    Paragraph,
}

impl Pause {
    /// Silence between this clause and the next, in milliseconds, before style and speed.
    pub fn millis(self) -> u32 {
        match self {
            Self::Short => 170,
            Self::Long => 380,
            Self::Paragraph => 600,
        }
    }
}

/// Both languages' readers, ready for use. Shared by all voices.
pub struct FrontEnd {
    mandarin: MandarinReader,
    english: EnglishReader,
}

impl FrontEnd {
    /// Loads the English lexicon (a JSON object of word to phonemes); the Mandarin tables are built
    /// in. Takes some 0.3 s.
    ///
    /// # Errors
    /// When the lexicon cannot be read.
    pub fn load(lexicon: &Path) -> Result<Self, LexiconError> {
        Ok(Self::new(Lexicon::load(lexicon)?))
    }

    /// The same with a lexicon that is already there.
    pub fn new(lexicon: Lexicon) -> Self {
        Self { mandarin: MandarinReader::new(), english: EnglishReader::new(lexicon) }
    }

    /// Reads `text` as clauses. Clauses without anything to say are left out.
    pub fn clauses(&self, text: &str, locale: Locale) -> Vec<Clause> {
        let written = match locale {
            Locale::ZhCn => split(text, true),
            Locale::EnUs | Locale::EnGb => split(text, false),
        };
        written
            .into_iter()
            .filter_map(|(text, close, pause)| {
                let mut phonemes = self.phonemes(&text, locale);
                if phonemes.trim().is_empty() {
                    return None;
                }
                phonemes.truncate(phonemes.trim_end().len());
                phonemes.push(close);
                Some(Clause { text, phonemes, pause })
            })
            .collect()
    }

    /// Reads one clause.
    fn phonemes(&self, clause: &str, locale: Locale) -> String {
        match locale {
            Locale::ZhCn => self.mandarin.read(clause, &self.english),
            Locale::EnUs => self.english.read(clause, false),
            Locale::EnGb => self.english.read(clause, true),
        }
    }
}

/// Splits at punctuation into (words, closing symbol, pause).
fn split(text: &str, mandarin: bool) -> Vec<(String, char, Pause)> {
    let chars: Vec<char> = text.chars().collect();
    let mut clauses: Vec<(String, char, Pause)> = Vec::new();
    let mut words = String::new();
    let mut start = 0;
    for (i, &c) in chars.iter().enumerate() {
        let Some((close, pause)) = closes(&chars, start, i, mandarin) else {
            words.push(c);
            continue;
        };
        start = i + 1;
        // A second mark ("?!", a newline after a full stop) only makes the pause longer.
        if words.trim().is_empty() {
            if let Some(last) = clauses.last_mut()
                && rank(pause) > rank(last.2)
            {
                last.2 = pause;
            }
            words.clear();
            continue;
        }
        clauses.push((words.trim().to_owned(), close, pause));
        words.clear();
    }
    if !words.trim().is_empty() {
        clauses.push((words.trim().to_owned(), '.', Pause::Long));
    }
    clauses
}

/// Where a voice may stop in `text`: the byte behind each mark, and for how long.
pub fn stops(text: &str, locale: Locale) -> Vec<(usize, Pause)> {
    let chars: Vec<char> = text.chars().collect();
    let mut stops: Vec<(usize, Pause)> = Vec::new();
    let (mut start, mut byte) = (0, 0);
    for (i, c) in chars.iter().enumerate() {
        byte += c.len_utf8();
        let Some((_, pause)) = closes(&chars, start, i, locale == Locale::ZhCn) else { continue };
        start = i + 1;
        match stops.last_mut() {
            Some((end, last))
                if text.get(*end..byte).is_some_and(|gap| !gap.contains(char::is_alphanumeric)) =>
            {
                *end = byte;
                if rank(pause) > rank(*last) {
                    *last = pause;
                }
            }
            _ => stops.push((byte, pause)),
        }
    }
    stops
}

fn rank(pause: Pause) -> u32 {
    pause.millis()
}

/// Whether the character at `i` ends a clause that began at `start`, with what symbol and pause.
fn closes(chars: &[char], start: usize, i: usize, mandarin: bool) -> Option<(char, Pause)> {
    let before = i.checked_sub(1).and_then(|p| chars.get(p)).copied();
    let after = chars.get(i + 1).copied();
    let digits = before.is_some_and(|c| c.is_ascii_digit()) && after.is_some_and(|c| c.is_ascii_digit());
    let gap = after.is_none_or(|c| c.is_whitespace() || is_han(c) || is_quote(c));
    match chars[i] {
        '，' | '、' | '：' | '；' => Some((',', Pause::Short)),
        '。' | '．' => Some(('.', Pause::Long)),
        '！' | '!' => Some(('!', Pause::Long)),
        '？' | '?' => Some(('?', Pause::Long)),
        '…' | '—' => Some((',', Pause::Short)),
        '\n' => Some(('.', Pause::Paragraph)),
        ',' if !digits && !year_follows(chars, i) => Some((',', Pause::Short)),
        ';' => Some((',', Pause::Short)),
        ':' if gap && !digits => Some((',', Pause::Short)),
        '.' if gap && !digits => {
            let word: String = chars[start..i].iter().rev().take_while(|c| !c.is_whitespace()).collect();
            let word: String = word.chars().rev().collect();
            let rest = || chars[i + 1..].iter().copied();
            let more = rest().any(char::is_alphanumeric);
            // "at 8 p.m. Call us": these end a sentence as often as not; a capital tells.
            let may_end = matches!(word.as_str(), "a.m" | "p.m" | "etc" | "Inc" | "Ltd" | "Co");
            let capital = rest().find(|c| !c.is_whitespace()).is_some_and(char::is_uppercase);
            let ends = may_end && capital;
            if !mandarin && more && !ends && en_written::is_abbreviation(&word) {
                return None;
            }
            Some(('.', Pause::Long))
        }
        '-' if before.is_some_and(char::is_whitespace) && after.is_some_and(char::is_whitespace) => {
            Some((',', Pause::Short))
        }
        '(' | ')' | '（' | '）' => {
            let phone = chars[i] == '(' && after.is_some_and(|c| c.is_ascii_digit())
                || chars[i] == ')' && digits_before(chars, i) == 3;
            if phone { None } else { Some((',', Pause::Short)) }
        }
        _ => None,
    }
}

fn digits_before(chars: &[char], i: usize) -> usize {
    chars[..i].iter().rev().take_while(|c| c.is_ascii_digit()).count()
}

/// Whether a year stands after the comma at `i`, as in "May 5, 2026".
fn year_follows(chars: &[char], i: usize) -> bool {
    let rest: String = chars[i + 1..].iter().take(6).collect();
    let day = digits_before(chars, i) > 0;
    let Some(year) = rest.strip_prefix(' ').filter(|_| day) else { return false };
    let digits = year.chars().take_while(char::is_ascii_digit).count();
    digits == 4 && (year.starts_with("19") || year.starts_with("20"))
}

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'' | '”' | '’' | ')' | '）')
}

/// Whether `c` is a Han character.
pub(crate) fn is_han(c: char) -> bool {
    matches!(c, '\u{4E00}'..='\u{9FFF}' | '\u{3400}'..='\u{4DBF}' | '〇')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_split_at_punctuation_but_not_inside_numbers_and_abbreviations() {
        let cases: [(&str, bool, &[&str]); 7] = [
            ("您好，我是小林。请问方便吗？", true, &["您好", "我是小林", "请问方便吗"]),
            ("余额1,234.56元，谢谢", true, &["余额1,234.56元", "谢谢"]),
            ("Hello, Dr. Smith. You owe $1,234.50.", false, &["Hello", "Dr. Smith", "You owe $1,234.50"]),
            ("Call at 3:30 p.m. today", false, &["Call at 3:30 p.m. today"]),
            ("Due at 8:05 p.m. Call us", false, &["Due at 8:05 p.m", "Call us"]),
            ("时间：8:30", true, &["时间", "8:30"]),
            ("Call (415) 555-0132 now", false, &["Call (415) 555-0132 now"]),
        ];
        for (text, mandarin, expected) in cases {
            let got: Vec<String> = split(text, mandarin).into_iter().map(|c| c.0).collect();
            assert_eq!(got, expected, "{text}");
        }
    }
}
