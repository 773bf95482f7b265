//! Mandarin that was written with the wrong characters for the right sound: 班里透餐 for 办理套餐.
//!
//! What the engine heard is mostly near in sound even where the characters are far off, so the text is
//! compared with the expected phrases syllable by syllable, without tones, and sounds that lines and
//! accents confuse count as near (z and zh, n and l, an and ang).

use pinyin::ToPinyin as _;

use super::text::is_ideograph;

/// Mean distance of a syllable up to which a text, or a part of one, is an expected phrase. One wrong
/// final among two syllables is more: ten o'clock (shi dian) must not become yes (shi de).
const NEAR_ENOUGH: f32 = 0.2;
/// A phrase of fewer syllables is near to too much.
const SHORTEST_WHOLE: usize = 2;
const SHORTEST_PART: usize = 3;
/// How much farther away the second nearest phrase must be, or it is no choice.
const LEAD: f32 = 0.1;

/// A syllable as it is heard: how it begins and how it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Syllable {
    initial: String,
    end: String,
}

/// Returns the text with what sounds like an expected phrase written as that phrase; `None` when nothing
/// does, or when it stands there already. What is not replaced stays as it was, marks and all; a text
/// with figures or Latin letters has no row of syllables to compare and is left alone.
pub(crate) fn rewritten(text: &str, phrases: &[String]) -> Option<String> {
    if text.chars().any(|c| c.is_alphanumeric() && !is_ideograph(c)) {
        return None;
    }
    // Where each syllable's character stands in the text.
    let (places, chars): (Vec<usize>, Vec<char>) =
        text.char_indices().filter(|(_, c)| is_ideograph(*c)).unzip();
    let said = syllables(&chars)?;
    if said.is_empty() || said.len() > 24 || phrases.iter().any(|phrase| text.contains(phrase.as_str())) {
        return None;
    }
    let mut whole: Vec<(f32, &str)> = Vec::new();
    let mut part: Option<(f32, usize, &str)> = None;
    for phrase in phrases {
        let letters: Vec<char> = phrase.chars().collect();
        let Some(expected) = syllables(&letters) else { continue };
        if expected.len() == said.len() && expected.len() >= SHORTEST_WHOLE {
            whole.push((distance(&said, &expected), phrase));
        } else if expected.len() >= SHORTEST_PART {
            for (at, window) in said.windows(expected.len()).enumerate() {
                let far = distance(window, &expected);
                if far <= NEAR_ENOUGH && part.is_none_or(|(best, ..)| far < best) {
                    part = Some((far, at, phrase));
                }
            }
        }
    }
    whole.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (at, phrase) = match whole.first() {
        Some((best, phrase))
            if *best <= NEAR_ENOUGH && whole.get(1).is_none_or(|(next, _)| next - best >= LEAD) =>
        {
            (0, *phrase)
        }
        _ => part.map(|(_, at, phrase)| (at, phrase))?,
    };
    let last = at + phrase.chars().count() - 1;
    let end = places[last] + chars[last].len_utf8();
    Some(format!("{}{phrase}{}", &text[..places[at]], &text[end..]))
}

/// Splits into what is heard; `None` when something is no Mandarin syllable.
fn syllables(chars: &[char]) -> Option<Vec<Syllable>> {
    chars.iter().map(|c| Some(split(c.to_pinyin()?.plain()))).collect()
}

fn split(pinyin: &str) -> Syllable {
    // Written w and y are vowels: wa is ua, you is iou.
    let spelled = match pinyin.as_bytes() {
        [b'y', b'u', ..] => pinyin.replacen("yu", "ü", 1),
        [b'y', b'i', ..] => pinyin.replacen("yi", "i", 1),
        [b'y', ..] => pinyin.replacen('y', "i", 1),
        [b'w', b'u', ..] => pinyin.replacen("wu", "u", 1),
        [b'w', ..] => pinyin.replacen('w', "u", 1),
        _ => pinyin.to_owned(),
    };
    let length = if spelled.starts_with("zh") || spelled.starts_with("ch") || spelled.starts_with("sh") {
        2
    } else {
        usize::from(spelled.starts_with(|c: char| "bpmfdtnlgkhjqxrzcs".contains(c)))
    };
    Syllable { initial: spelled[..length].to_owned(), end: spelled[length..].to_owned() }
}

/// Mean distance of two rows of syllables of the same length, 0 (the same) to 1.
fn distance(a: &[Syllable], b: &[Syllable]) -> f32 {
    let sum: f32 = a.iter().zip(b).map(|(a, b)| initials(a, b) + ends(&a.end, &b.end)).sum();
    sum / a.len().max(1) as f32
}

fn initials(a: &Syllable, b: &Syllable) -> f32 {
    const NEAR: [&[&str]; 9] = [
        &["z", "zh", "j"],
        &["c", "ch", "q"],
        &["s", "sh", "x"],
        &["n", "l"],
        &["h", "f"],
        &["b", "p"],
        &["d", "t"],
        &["g", "k"],
        &["r", "l"],
    ];
    if a.initial == b.initial {
        0.0
    } else if NEAR.iter().any(|group| group.contains(&&*a.initial) && group.contains(&&*b.initial)) {
        0.2
    } else {
        0.5
    }
}

fn ends(a: &str, b: &str) -> f32 {
    if a == b {
        0.0
    } else if a.trim_end_matches('g') == b.trim_end_matches('g') {
        // in and ing, an and ang: the line takes the difference away.
        0.1
    } else {
        0.5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phrases(list: &[&str]) -> Vec<String> {
        list.iter().map(|phrase| (*phrase).to_owned()).collect()
    }

    #[test]
    fn wrong_characters_for_the_right_sound_are_put_right() {
        let expected = phrases(&["话费查询", "办理套餐", "国际漫游", "换积分", "投诉", "没有"]);
        for (written, meant) in [
            ("班里透餐", "办理套餐"),
            ("国际卖油。", "国际漫游。"),
            ("挖废查询", "话费查询"),
            ("化费茶心", "话费查询"),
            ("我想换机身", "我想换积分"),
            ("梅友", "没有"),
            ("嗯，换机身吧。", "嗯，换积分吧。"),
        ] {
            assert_eq!(rewritten(written, &expected).as_deref(), Some(meant), "{written}");
        }
    }

    #[test]
    fn what_sounds_otherwise_or_stands_there_already_is_left_alone() {
        let expected = phrases(&["话费查询", "换积分", "投诉", "是", "是的", "没有"]);
        for written in
            ["今天天气很好", "我要投诉", "十点", "3", "yes", "", "明天下午三点", "事", "换机身300元"]
        {
            assert_eq!(rewritten(written, &expected), None, "{written}");
        }
    }

    #[test]
    fn two_phrases_of_the_same_sound_are_no_choice() {
        assert_eq!(rewritten("公式", &phrases(&["攻势", "公事"])), None);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC{0,30}", phrase in "\\PC{0,8}") {
            let _ = rewritten(&text, &[phrase]);
        }
    }
}
