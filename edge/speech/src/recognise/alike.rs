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
        [b'j' | b'q' | b'x', b'u', ..] => pinyin.replacen('u', "ü", 1),
        _ => pinyin.to_owned(),
    };
    let length = if spelled.starts_with("zh") || spelled.starts_with("ch") || spelled.starts_with("sh") {
        2
    } else {
        usize::from(spelled.starts_with(|c: char| "bpmfdtnlgkhjqxrzcs".contains(c)))
    };
    let end = match &spelled[length..] {
        // Written short behind a consonant.
        "iu" => "iou",
        "ui" => "uei",
        "un" => "uen",
        end => end,
    };
    Syllable { initial: spelled[..length].to_owned(), end: end.to_owned() }
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

/// Vowels that a narrow line lets pass for each other; what follows them (n, ng, i) is compared apart.
const NEAR_ENDS: [&[&str]; 6] =
    [&["ai", "ei"], &["uai", "uei"], &["ao", "ou", "u"], &["iao", "iou"], &["o", "uo", "e"], &["an", "en"]];

fn ends(a: &str, b: &str) -> f32 {
    let without_g = |end: &str| end.trim_end_matches('g').to_owned();
    let without_nasal = |end: &str| end.trim_end_matches('g').trim_end_matches('n').to_owned();
    let is_near = |a: &str, b: &str| NEAR_ENDS.iter().any(|group| group.contains(&a) && group.contains(&b));
    if a == b {
        0.0
    } else if without_g(a) == without_g(b) {
        // In and ing, an and ang: the line takes the difference away.
        0.1
    } else if is_near(a, b) {
        0.2
    } else if without_nasal(a) == without_nasal(b) || is_near(&without_g(a), &without_g(b)) {
        // The nasal was not heard at all, or only the vowel differs.
        0.3
    } else {
        0.5
    }
}

/// Distance up to which a syllable may be a word for a number, when the others are surer.
const NUMBER_SYLLABLE: f32 = 0.5;
/// Mean distance of a syllable up to which a text is a number.
const NUMBER_WHOLE: f32 = 0.18;

const DIGITS: &str = "零一二三四五六七八九幺两";

/// Returns the number that a text sounds like, syllable by syllable: 零物流奇 is 零五六七. `None` when it is
/// written as one already, holds one, or sounds like something else: in 三百块吧 and 是十块 the other words
/// are talk, though 吧 sounds like 八 and 是 like 十. Only for answers to questions for a number.
pub(crate) fn number(text: &str, words: &[char]) -> Option<String> {
    let chars: Vec<char> = text.chars().filter(|c| c.is_alphanumeric()).collect();
    let is_known = |c: &char| c.is_ascii_digit() || words.contains(c);
    if !(2..=16).contains(&chars.len()) || chars.iter().all(is_known) {
        return None;
    }
    let is_digit = |c: char| c.is_ascii_digit() || DIGITS.contains(c);
    // A word of quantity behind a number word, or a row of digits, is a number that was heard.
    let has_quantity = chars.windows(2).any(|pair| pair.iter().all(is_known) && !is_digit(pair[1]));
    let has_row = chars.windows(3).any(|three| three.iter().all(|c| is_digit(*c)));
    if has_quantity || has_row || words.contains(&'百') && chars.iter().any(char::is_ascii_digit) {
        return None;
    }
    let sounds: Vec<(char, Syllable)> =
        words.iter().filter_map(|word| Some((*word, split(word.to_pinyin()?.plain())))).collect();
    // What each syllable may be, and how far that is.
    let mut readings: Vec<Vec<(char, f32)>> = Vec::with_capacity(chars.len());
    for c in &chars {
        if is_known(c) {
            readings.push(vec![(*c, 0.0)]);
            continue;
        }
        let said = split(c.to_pinyin()?.plain());
        let far = |sound: &Syllable| initials(&said, sound) + ends(&said.end, &sound.end);
        let near = sounds.iter().map(|(word, sound)| (*word, far(sound)));
        readings.push(near.filter(|(_, far)| *far <= NUMBER_SYLLABLE).collect());
    }
    // A row of digits, or digits with a unit behind each: 三七五百 is neither.
    let row = cheapest(&readings, |_, c| is_digit(c));
    let amount = cheapest(&readings, |before, c| !(is_digit(c) && before.is_some_and(is_digit)));
    let (number, fars) = [row, amount]
        .into_iter()
        .flatten()
        .min_by(|a, b| a.1.iter().sum::<f32>().total_cmp(&b.1.iter().sum::<f32>()))?;
    let doubtful = fars.iter().filter(|far| **far > 0.3).count();
    let mean = fars.iter().sum::<f32>() / fars.len() as f32;
    (doubtful <= chars.len() / 4 && mean <= NUMBER_WHOLE).then_some(number)
}

/// Picks the reading of each syllable so that the sum of the distances is least and `may_follow` holds
/// between neighbours; also gives the distances.
fn cheapest(
    readings: &[Vec<(char, f32)>],
    may_follow: impl Fn(Option<char>, char) -> bool,
) -> Option<(String, Vec<f32>)> {
    // The best way to each reading of the syllable before: its sum, and what was picked.
    let mut ways: Vec<(f32, Vec<(char, f32)>)> = vec![(0.0, Vec::new())];
    for syllable in readings {
        let mut next: Vec<(f32, Vec<(char, f32)>)> = Vec::with_capacity(syllable.len());
        for (word, far) in syllable {
            let best = ways
                .iter()
                .filter(|(_, picked)| may_follow(picked.last().map(|(c, _)| *c), *word))
                .min_by(|a, b| a.0.total_cmp(&b.0));
            if let Some((sum, picked)) = best {
                let mut picked = picked.clone();
                picked.push((*word, *far));
                next.push((sum + far, picked));
            }
        }
        ways = next;
    }
    let (_, picked) = ways.into_iter().min_by(|a, b| a.0.total_cmp(&b.0))?;
    Some(picked.into_iter().unzip())
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
            ("奔利偷产", "办理套餐"),
            ("陶属", "投诉"),
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
    fn a_number_that_was_written_as_other_words_is_put_right_and_talk_is_not() {
        let digits: Vec<char> = "零一二三四五六七八九幺两".chars().collect();
        let amount: Vec<char> = digits.iter().copied().chain("十百千万块元毛分点".chars()).collect();
        for (written, words, meant) in [
            ("零物流奇", &digits, "零五六七"),
            ("要要要爸爸", &digits, "幺幺幺八八"),
            ("五倍亏", &amount, "五百块"),
            ("一錢二", &amount, "一千二"),
            ("量万", &amount, "两万"),
            ("三请无败员", &amount, "三千五百元"),
        ] {
            assert_eq!(number(written, words).as_deref(), Some(meant), "{written}");
        }
        for talk in [
            "我不知道",
            "等一下",
            "转人工",
            "没有钱",
            "三百块",
            "不是",
            "对",
            "我再想想",
            "下个月吧",
            "三百块吧",
            "是三百块",
            "十块吧",
            "是十块",
            "三点五块吧",
            "3.5块吧",
        ] {
            assert_eq!(number(talk, &amount), None, "{talk}");
        }
        assert_eq!(number("是一二三四", &digits), None, "the digits were heard");
    }

    #[test]
    fn two_phrases_of_the_same_sound_are_no_choice() {
        assert_eq!(rewritten("公式", &phrases(&["攻势", "公事"])), None);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC{0,30}", phrase in "\\PC{0,8}") {
            let _ = number(&text, &phrase.chars().collect::<Vec<_>>());
            let _ = rewritten(&text, &[phrase]);
        }
    }
}
