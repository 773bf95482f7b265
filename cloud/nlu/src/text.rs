//! Text as a recogniser writes it, brought to one form before anything is compared.
//!
//! Lower case, no punctuation, no fillers, no stutter. Entities are *not* read from this form:
//! their spans refer to the text as it came.

use pinyin::ToPinyin;

use crate::locale::Locale;

/// No turn on the telephone is longer; what lies beyond is ignored.
const MAX_CHARS: usize = 600;

/// Returns the comparable form of a text. May be empty.
pub(crate) fn normalise(text: &str, locale: Locale) -> String {
    match locale {
        Locale::Zh => mandarin(text),
        Locale::En => english(text),
    }
}

fn folded(text: &str) -> impl Iterator<Item = char> {
    text.chars()
        .take(MAX_CHARS)
        .map(|c| match c {
            // Full-width forms to ASCII.
            '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
            '\u{2019}' | '\u{2018}' | '`' => '\'',
            other => other,
        })
        .flat_map(char::to_lowercase)
}

fn english(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    for c in folded(text) {
        if c.is_alphanumeric() || c == '\'' || c == '$' || c == '%' {
            cleaned.push(c);
        } else if c == '.' && cleaned.ends_with(|c: char| c.is_ascii_digit()) {
            // A decimal point if a digit follows; a stray one is dropped with the word's end.
            cleaned.push('.');
        } else {
            cleaned.push(' ');
        }
    }
    let words: Vec<&str> = cleaned
        .split_whitespace()
        .map(|word| word.trim_matches(|c| c == '\'' || c == '.'))
        .filter(|word| !word.is_empty())
        .collect();
    let words = english_back_channels(&words);
    let spoken: Vec<&str> = words.iter().copied().filter(|word| !ENGLISH_FILLERS.contains(word)).collect();
    collapse(spoken, 3).join(" ")
}

/// Joins the yes and no that are written as two syllables, before fillers are dropped.
fn english_back_channels<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let mut out = Vec::with_capacity(words.len());
    let mut at = 0;
    while at < words.len() {
        let pair = (words[at], words.get(at + 1).copied().unwrap_or_default());
        let (word, used) = match pair {
            ("uh" | "mm" | "mhm" | "um" | "ah" | "m", "hmm" | "huh" | "hm") => ("uhhuh", 2),
            ("uh" | "nuh" | "nah", "uh") => ("nuhuh", 2),
            ("mhm" | "mmhmm" | "mmhm" | "uhhuh", _) => ("uhhuh", 1),
            ("you", "know") | ("i", "mean") if words.len() > 3 => ("uh", 2),
            (word, _) => (word, 1),
        };
        out.push(word);
        at += used;
    }
    out
}

const ENGLISH_FILLERS: [&str; 14] =
    ["uh", "um", "er", "erm", "hmm", "mmm", "ah", "oh", "ehm", "uhm", "umm", "uhh", "eh", "well"];

fn mandarin(text: &str) -> String {
    let mut chars: Vec<char> = Vec::with_capacity(text.len() / 2);
    // A Latin word or number keeps one space to the next; Chinese has none.
    let mut gap = false;
    for c in folded(text) {
        if !(c.is_alphanumeric() || matches!(c, '%' | '$' | '¥' | '.')) || c == '，' {
            gap = true;
            continue;
        }
        if c == '.' && !chars.last().is_some_and(char::is_ascii_digit) {
            continue;
        }
        let latin = |c: &char| c.is_ascii_alphanumeric();
        if gap && latin(&c) && chars.last().is_some_and(latin) {
            chars.push(' ');
        }
        gap = false;
        chars.push(c);
    }
    while chars.last() == Some(&'.') {
        chars.pop();
    }
    let hummed = chars.contains(&'嗯');
    let kept = drop_mandarin_fillers(&chars);
    let kept = collapse(kept, 4);
    let out: String = kept.into_iter().collect();
    if out.is_empty() && hummed {
        // A lone hum is an answer where yes is expected, so it must survive.
        return "嗯".to_owned();
    }
    out
}

fn drop_mandarin_fillers(chars: &[char]) -> Vec<char> {
    let mut out: Vec<char> = Vec::with_capacity(chars.len());
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        let next = rest.get(1).copied();
        let skip = match rest[0] {
            '嗯' | '呃' | '唔' | '呣' | '诶' | '欸' | '哎' | '唉' | '噢' => 1,
            '额' if !next.is_some_and(|c| "度外定头满数".contains(c))
                && !out.last().is_some_and(|c| "金余数总限全差税份名".contains(*c)) =>
            {
                1
            }
            // Particles at the end of a thought carry no meaning, alone they do.
            '啊' | '呀' | '哈' | '哦' | '嘛' | '呗' | '哇' if !out.is_empty() || chars.len() > 2 => 1,
            // `这个时候` and `那个人` name something; before a pronoun it is a hesitation.
            '那' | '这'
                if next == Some('个')
                    && rest.get(2).is_some_and(|c| "我你他她您咱那这就想能请".contains(*c)) =>
            {
                2
            }
            '就' if rest.starts_with(&['就', '是', '说']) && rest.len() > 4 => 3,
            '然' if rest.starts_with(&['然', '后']) && at == 0 && rest.len() > 4 => 2,
            '喂' if at == 0 && rest.len() > 2 => 1,
            _ => 0,
        };
        if skip == 0 {
            out.push(rest[0]);
            at += 1;
        } else {
            at += skip;
        }
    }
    out
}

/// Folds what is said twice in a row (`I want I want`, `别打了别打了`) into one, for repeats of one
/// to `longest` units. A doubled single Chinese character is often a word, so two stay and three
/// fold, except pronouns and the like, which only a stutter doubles.
fn collapse<T: PartialEq + Copy + Stutter>(units: Vec<T>, longest: usize) -> Vec<T> {
    let mut units = units;
    for len in (1..=longest).rev() {
        let mut out: Vec<T> = Vec::with_capacity(units.len());
        let mut at = 0;
        while at < units.len() {
            let mut end = at + len;
            if end <= units.len() {
                let block = &units[at..end];
                let mut copies = 1;
                while units.get(end..end + len) == Some(block) {
                    end += len;
                    copies += 1;
                }
                let foldable = len > 1 || copies > 2 || units[at].only_stutter_doubles();
                if copies > 1 && foldable && block.iter().all(Stutter::may_fold) {
                    out.extend_from_slice(block);
                    at = end;
                    continue;
                }
            }
            out.push(units[at]);
            at += 1;
        }
        units = out;
    }
    units
}

trait Stutter {
    fn only_stutter_doubles(&self) -> bool;
    /// Digits said twice are two digits.
    fn may_fold(&self) -> bool;
}

impl Stutter for char {
    fn only_stutter_doubles(&self) -> bool {
        "我你他她它您那就要有在的是不没想对好行别还能可会我和跟把被再".contains(*self)
    }

    fn may_fold(&self) -> bool {
        !self.is_ascii_digit() && !"零一二三四五六七八九十百千万幺两".contains(*self)
    }
}

impl Stutter for &str {
    fn only_stutter_doubles(&self) -> bool {
        true
    }

    fn may_fold(&self) -> bool {
        const NUMBERS: [&str; 12] =
            ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "oh", "double"];
        !self.contains(|c: char| c.is_ascii_digit()) && !NUMBERS.contains(self)
    }
}

/// Returns the syllables of a Chinese text without tones; other characters stand for themselves.
pub(crate) fn syllables(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    for (at, c) in text.char_indices() {
        match c.to_pinyin() {
            Some(syllable) => out.push(syllable.plain()),
            None => out.push(&text[at..at + c.len_utf8()]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mandarin_loses_punctuation_fillers_and_stutter_and_nothing_else() {
        for (raw, normal) in [
            ("嗯，那个，我我我想问一下。", "我想问一下"),
            ("这个时候不行", "这个时候不行"),
            ("别打了，别打了！", "别打了"),
            ("嗯", "嗯"),
            ("嗯嗯。", "嗯"),
            ("额度是多少？", "额度是多少"),
            ("呃，金额不对吧", "金额不对吧"),
            ("谢谢", "谢谢"),
            ("等等", "等等"),
            ("幺三三三八八", "幺三三三八八"),
            ("ＯＫ，Ａ１２３ ok", "ok a123 ok"),
            ("1.2万。", "1.2万"),
            ("好啊", "好"),
            ("？！", ""),
        ] {
            assert_eq!(normalise(raw, Locale::Zh), normal, "from {raw}");
        }
    }

    #[test]
    fn english_loses_punctuation_fillers_and_stutter_and_nothing_else() {
        for (raw, normal) in [
            ("Um, I, I want to, uh, pay.", "i want to pay"),
            ("No, no, no!", "no"),
            ("Uh-huh.", "uhhuh"),
            ("Mm-hmm, sure", "uhhuh sure"),
            ("don\u{2019}t call me", "don't call me"),
            ("one one two two", "one one two two"),
            ("$35.50.", "$35.50"),
            ("I want to I want to pay", "i want to pay"),
            ("...", ""),
        ] {
            assert_eq!(normalise(raw, Locale::En), normal, "from {raw}");
        }
    }

    #[test]
    fn syllables_make_homophones_equal() {
        assert_eq!(syllables("是的"), syllables("事的"));
        assert_eq!(syllables("不是"), syllables("不适"));
        assert_eq!(syllables("ok是"), ["o", "k", "shi"]);
    }
}
