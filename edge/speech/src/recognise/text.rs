//! What a recogniser writes, made fit to be understood and to be shown.

use std::sync::OnceLock;

use ferrous_opencc::OpenCC;
use ferrous_opencc::config::BuiltinConfig;

use super::Language;

/// Cleans what the engine wrote: stage directions in brackets and note signs go, spaces are put in
/// order, and Mandarin comes out in simplified characters. Punctuation inside the text stays.
pub fn clean(raw: &str, language: Language) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut depth = 0usize;
    for c in raw.chars() {
        match c {
            // Book-title marks (《》) are not among them: they enclose words that were said.
            '[' | '(' | '（' | '【' | '{' | '<' => depth += 1,
            ']' | ')' | '）' | '】' | '}' | '>' => depth = depth.saturating_sub(1),
            '♪' | '♫' | '♬' | '*' | '#' | '\u{fffd}' => {}
            c if c.is_control() => text.push(' '),
            c if depth == 0 => text.push(c),
            _ => {}
        }
    }
    let text = if language == Language::ZH { simplified(&text) } else { text };
    let text = tidy_spaces(&text);
    let lonely = |c: char| c.is_whitespace() || is_punctuation(c) && !matches!(c, '?' | '？' | '%' | '"');
    let text = text.trim_start_matches(lonely);
    // A closing mark stays: a question mark carries meaning. Marks with nothing before them do not.
    if text.chars().all(|c| is_punctuation(c) || c.is_whitespace()) {
        String::new()
    } else {
        text.trim().to_owned()
    }
}

/// Converts to simplified characters. Text without traditional ones comes back as it is.
pub fn simplified(text: &str) -> String {
    static CONVERTER: OnceLock<Option<OpenCC>> = OnceLock::new();
    match CONVERTER.get_or_init(|| OpenCC::from_config(BuiltinConfig::T2s).ok()) {
        Some(converter) => converter.convert(text),
        None => text.to_owned(),
    }
}

/// Returns the ways in which the engine may write a phrase: in simplified and traditional characters,
/// or with a capital and without.
pub(crate) fn wordings(phrase: &str, language: Language) -> Vec<String> {
    static CONVERTER: OnceLock<Option<OpenCC>> = OnceLock::new();
    let phrase = phrase.trim();
    if phrase.is_empty() {
        return Vec::new();
    }
    let mut wordings = if language == Language::ZH {
        let converter = CONVERTER.get_or_init(|| OpenCC::from_config(BuiltinConfig::S2t).ok());
        let traditional = converter.as_ref().map(|converter| converter.convert(phrase));
        std::iter::once(phrase.to_owned()).chain(traditional).collect::<Vec<_>>()
    } else {
        let mut chars = phrase.chars();
        let capital = chars.next().map(|first| first.to_uppercase().chain(chars).collect::<String>());
        // Words begin with their space in the engine's vocabulary.
        std::iter::once(phrase.to_owned()).chain(capital).map(|wording| format!(" {wording}")).collect()
    };
    wordings.dedup();
    wordings
}

/// Tells whether a text is written in letters that its language has. A short sound sometimes comes out in
/// Korean or Japanese; what it says then is of no use to anyone.
pub(crate) fn is_in_script(text: &str, language: Language) -> bool {
    let latin = |c: char| c <= '\u{24f}';
    text.chars().filter(|c| c.is_alphabetic()).all(|c| {
        if language == Language::ZH {
            latin(c) || is_ideograph(c)
        } else if language == Language::EN {
            latin(c)
        } else {
            true
        }
    })
}

/// Reduces text to what counts when two texts are compared: letters, digits and ideographs, lower
/// case, words one space apart.
pub fn bare(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_alphanumeric() || c == '\'' {
            out.extend(c.to_lowercase());
        } else if !out.ends_with(' ') {
            out.push(' ');
        }
    }
    tidy_spaces(&out)
}

/// Counts what a speaker pronounces one by one: ideographs and, elsewhere, words.
pub fn spoken_units(text: &str) -> usize {
    let mut units = 0;
    let mut in_word = false;
    for c in text.chars() {
        if is_ideograph(c) {
            units += 1;
            in_word = false;
        } else if c.is_numeric() {
            // Digits are spoken one by one at worst: 2024 is four to seven syllables.
            units += 1;
            in_word = false;
        } else if c.is_alphabetic() {
            units += usize::from(!in_word);
            in_word = true;
        } else if c != '\'' {
            in_word = false;
        }
    }
    units
}

/// Tells whether a character is a Chinese ideograph.
pub fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{2ebef}')
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation()
        || matches!(c, '\u{3000}'..='\u{303f}' | '\u{ff00}'..='\u{ff0f}' | '\u{ff1a}'..='\u{ff20}')
        || matches!(c, '\u{2010}'..='\u{2027}' | '\u{ff3b}'..='\u{ff40}' | '\u{ff5b}'..='\u{ff65}' | '·')
}

/// One space between words, none at the ends, none beside an ideograph.
fn tidy_spaces(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut gap = false;
    for c in text.chars() {
        if c.is_whitespace() {
            gap = true;
            continue;
        }
        let before = out.chars().next_back();
        let glued =
            is_ideograph(c) || before.is_some_and(|b| is_ideograph(b) || is_wide_mark(b)) || is_wide_mark(c);
        if gap && !glued && before.is_some() {
            out.push(' ');
        }
        gap = false;
        out.push(c);
    }
    out
}

fn is_wide_mark(c: char) -> bool {
    matches!(c, '\u{3000}'..='\u{303f}' | '\u{ff00}'..='\u{ff65}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_that_a_language_does_not_have_are_noticed() {
        for text in ["뭐야?", "はい", "да"] {
            assert!(!is_in_script(text, Language::ZH) && !is_in_script(text, Language::EN), "{text}");
        }
        assert!(is_in_script("我的WiFi坏了。", Language::ZH) && !is_in_script("好的", Language::EN));
        assert!(is_in_script("Café number 3", Language::EN));
    }

    #[test]
    fn mandarin_comes_out_simplified_and_without_spaces() {
        assert_eq!(clean(" 對,我 是 張 偉 。", Language::ZH), "对,我是张伟。");
        assert_eq!(clean("請幫我轉人工", Language::ZH), "请帮我转人工");
        assert_eq!(clean("我用 iPhone 打 的", Language::ZH), "我用iPhone打的");
    }

    #[test]
    fn annotations_and_marks_alone_leave_nothing() {
        for raw in ["[BLANK_AUDIO]", " (music) ", "♪♪", "（字幕）", "...", "。", "  ", "*sigh*[x]"] {
            let left = clean(raw, Language::EN);
            assert!(left.is_empty() || left == "sigh", "{raw:?} left {left:?}");
        }
    }

    #[test]
    fn english_keeps_its_spaces_and_its_question_mark() {
        assert_eq!(clean("  Can you   call me back? ", Language::EN), "Can you call me back?");
        assert_eq!(clean("- yes, please.", Language::EN), "yes, please.");
    }

    #[test]
    fn an_unclosed_or_unopened_bracket_does_no_harm() {
        assert_eq!(clean("yes) of course", Language::EN), "yes of course");
        assert_eq!(clean("yes (of course", Language::EN), "yes");
    }

    #[test]
    fn bare_text_compares_regardless_of_case_and_marks() {
        assert_eq!(bare("  It's OK, thanks! "), "it's ok thanks");
        assert_eq!(bare("好的，明天 见。"), "好的明天见");
    }

    #[test]
    fn spoken_units_count_ideographs_words_and_digits() {
        assert_eq!(spoken_units("我欠1200元"), 7);
        assert_eq!(spoken_units("I don't know"), 3);
        assert_eq!(spoken_units("，。!"), 0);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_the_cleaner(raw in ".*") {
            let text = clean(&raw, Language::ZH);
            proptest::prop_assert_eq!(text.trim(), text.as_str());
            let _ = bare(&raw);
            let _ = spoken_units(&raw);
        }
    }
}
