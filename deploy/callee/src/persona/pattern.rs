//! What she listens for, and whether a recognised text has it.
//!
//! A recogniser writes other characters of the same sound and other forms of the same word. So
//! Chinese is compared by its readings without tones, and English word by word with one letter of
//! tolerance in long words.

use pinyin::ToPinyinMulti;
use regex::Regex;

/// Shorter English words must match exactly: `can` is not `car`.
const TOLERANT_LETTERS: usize = 6;

/// One thing she listens for.
#[derive(Clone, Debug)]
pub struct Pattern {
    source: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Words(Vec<Piece>),
    Regex(Regex),
}

/// One character of Chinese by all its readings, or one word of anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Readings(char, Vec<&'static str>),
    Word(String),
}

impl Pattern {
    /// Reads `/regular expression/` or a keyword.
    ///
    /// # Errors
    /// What is wrong with the expression, or that the keyword has no words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let kind = match text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
            Some(expression) => {
                let built = regex::RegexBuilder::new(expression).case_insensitive(true).build();
                // The library's message has several lines; the last says what is wrong.
                Kind::Regex(built.map_err(|error| {
                    let message = error.to_string();
                    let reason =
                        message.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                    format!("`{text}` is no regular expression: {reason}")
                })?)
            }
            None => {
                let pieces = pieces(text);
                if pieces.is_empty() {
                    return Err(format!("`{text}` has no words to listen for"));
                }
                Kind::Words(pieces)
            }
        };
        Ok(Self { source: text.to_owned(), kind })
    }

    /// Returns the pattern as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Tells whether a text has it.
    pub fn is_in(&self, heard: &Heard) -> bool {
        match &self.kind {
            Kind::Regex(regex) => regex.is_match(&heard.text),
            Kind::Words(words) => heard
                .pieces
                .windows(words.len())
                .any(|window| window.iter().zip(words).all(|(a, b)| a.sounds_like(b))),
        }
    }
}

/// A recognised text, taken apart once for all patterns.
#[derive(Clone, Debug)]
pub struct Heard {
    text: String,
    pieces: Vec<Piece>,
}

impl Heard {
    /// Takes a text apart.
    pub fn new(text: &str) -> Self {
        Self { text: text.to_owned(), pieces: pieces(text) }
    }
}

impl Piece {
    fn sounds_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Readings(a, readings), Self::Readings(b, others)) => {
                a == b || readings.iter().any(|reading| others.contains(reading))
            }
            (Self::Word(a), Self::Word(b)) => {
                a == b || (a.len().min(b.len()) >= TOLERANT_LETTERS && is_one_letter_off(a, b))
            }
            (Self::Readings(..), Self::Word(_)) | (Self::Word(_), Self::Readings(..)) => false,
        }
    }
}

fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut word = String::new();
    for c in text.chars() {
        let readings: Vec<_> =
            c.to_pinyin_multi().into_iter().flatten().map(|reading| reading.plain()).collect();
        if !readings.is_empty() {
            flush(&mut word, &mut pieces);
            pieces.push(Piece::Readings(c, readings));
        } else if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        } else if !matches!(c, '\'' | '’') {
            // An apostrophe is inside a word: some write `I'm`, some `Im`.
            flush(&mut word, &mut pieces);
        }
    }
    flush(&mut word, &mut pieces);
    pieces
}

fn flush(word: &mut String, pieces: &mut Vec<Piece>) {
    if !word.is_empty() {
        pieces.push(Piece::Word(std::mem::take(word)));
    }
}

/// Tells whether one letter was changed, put in or left out.
fn is_one_letter_off(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 1 {
        return false;
    }
    let front = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let back = a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| x == y).count();
    front + back + 1 >= a.len().max(b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hears(pattern: &str, text: &str) -> bool {
        Pattern::parse(pattern).unwrap().is_in(&Heard::new(text))
    }

    #[test]
    fn chinese_is_heard_by_its_sound() {
        assert!(hears("还款", "您打算哪一天换款呢？"));
        assert!(hears("账单", "您的帐单应还一千元"));
        assert!(hears("是王芳", "请问您是王方吗"));
        assert!(!hears("还款", "请还给我一款"));
        assert!(!hears("再见", "您好"));
    }

    #[test]
    fn english_is_heard_word_by_word() {
        assert!(hears("can you make it", "At 3 p.m. Can you make it?"));
        assert!(hears("i'm", "Im the assistant"));
        assert!(hears("interpreter", "or an interpreters"));
        assert!(!hears("can", "a cancelled car"));
        assert!(!hears("right", "a bright day"));
    }

    #[test]
    fn an_expression_stands_between_slashes() {
        assert!(hears("/prepare( for)?/", "how to PREPARE for your visit"));
        assert!(!hears("/^prepare/", "how to prepare"));
        assert!(Pattern::parse("/(/").unwrap_err().contains("unclosed group"));
        assert!(Pattern::parse("？！").is_err());
    }

    #[test]
    fn one_letter_may_differ_in_a_long_word() {
        for (a, b) in [("prepare", "prepared"), ("recorded", "recarded"), ("goodbye", "goodby")] {
            assert!(is_one_letter_off(a, b) && is_one_letter_off(b, a), "{a} {b}");
        }
        assert!(!is_one_letter_off("cancel", "channel"));
        assert!(is_one_letter_off("same", "same"));
    }
}
