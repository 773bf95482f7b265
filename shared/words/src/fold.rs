//! The form of a text in which words are looked for, and the way back to the text.

use std::ops::Range;

use crate::ends_sentence;

/// A text without width, case, and signs between Chinese characters.
pub(crate) struct Folded {
    /// What is searched.
    pub(crate) text: String,
    /// For each byte of `text`: the bytes of the original's character that it comes from.
    origins: Vec<(u32, u32)>,
}

/// Longer texts than any turn: what is beyond is not looked at.
const MAX_BYTES: usize = 1 << 20;

impl Folded {
    pub(crate) fn new(original: &str) -> Self {
        let mut folded = Self { text: String::with_capacity(original.len()), origins: Vec::new() };
        // A gap counts only where it parts two words.
        let mut gap: Option<(u32, u32)> = None;
        for (at, c) in original.char_indices().take_while(|(at, _)| *at < MAX_BYTES) {
            let origin = (at as u32, (at + c.len_utf8()) as u32);
            if ends_sentence(c) {
                folded.push('\n', origin);
                gap = None;
                continue;
            }
            let c = narrow(c);
            if !c.is_alphanumeric() {
                gap = gap.or(Some(origin));
                continue;
            }
            if let Some(gap) = gap.take()
                && folded.text.chars().next_back().is_some_and(|before| is_spelt(before) && is_spelt(c))
            {
                folded.push(' ', gap);
            }
            for lower in c.to_lowercase() {
                folded.push(lower, origin);
            }
        }
        folded
    }

    fn push(&mut self, c: char, origin: (u32, u32)) {
        self.text.push(c);
        self.origins.extend(std::iter::repeat_n(origin, c.len_utf8()));
    }

    /// Says whether a match is not a part of a longer word.
    pub(crate) fn is_whole(&self, range: Range<usize>) -> bool {
        let Some((before, rest)) = self.text.split_at_checked(range.start) else { return false };
        let Some((word, after)) = rest.split_at_checked(range.len()) else { return false };
        let parted = |a: Option<char>, b: Option<char>| !(a.is_some_and(is_spelt) && b.is_some_and(is_spelt));
        parted(before.chars().next_back(), word.chars().next())
            && parted(word.chars().next_back(), after.chars().next())
    }

    /// Returns where a match stands in the original.
    pub(crate) fn origin(&self, range: Range<usize>) -> Range<usize> {
        let start = self.origins.get(range.start).map_or(0, |origin| origin.0);
        let end =
            range.end.checked_sub(1).and_then(|last| self.origins.get(last)).map_or(start, |origin| origin.1);
        start as usize..end as usize
    }
}

/// Full-width letters, digits and signs are those of ASCII.
fn narrow(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        other => other,
    }
}

/// Whether words of such characters are parted by spaces: everything but the scripts of Chinese and Japanese.
fn is_spelt(c: char) -> bool {
    c.is_alphanumeric()
        && !matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}
