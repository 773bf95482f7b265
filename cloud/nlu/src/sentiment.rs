//! The mood of a turn from its words alone, from -1 to 1. The voice's prosody joins in elsewhere.

use crate::locale::Locale;
use crate::text::normalise;

/// Returns the mood of a turn: -1 furious, 0 even or unknown, 1 delighted.
///
/// Words are looked up with their strength; a negation just before turns a word round at a lower
/// strength, an intensifier raises it. Many words together saturate instead of adding up.
#[must_use]
pub fn sentiment(text: &str, locale: Locale) -> f32 {
    let normal = normalise(text, locale);
    let sum = match locale {
        Locale::Zh => mandarin(&normal),
        Locale::En => english(&normal),
    };
    sum.tanh()
}

fn english(normal: &str) -> f32 {
    let words: Vec<&str> = normal.split(' ').collect();
    let mut sum = 0.0;
    for (at, word) in words.iter().enumerate() {
        let Some((_, strength)) = ENGLISH.iter().find(|(known, _)| known == word) else {
            continue;
        };
        let before = &words[at.saturating_sub(3)..at];
        let negated =
            before.iter().any(|w| w.ends_with("n't") || matches!(*w, "not" | "no" | "never" | "dont"));
        let raised =
            before.iter().any(|w| matches!(*w, "very" | "really" | "so" | "too" | "extremely" | "fucking"));
        sum += weigh(*strength, negated, raised);
    }
    sum
}

fn mandarin(normal: &str) -> f32 {
    let mut sum = 0.0;
    let mut rest = normal;
    let mut before = String::new();
    while let Some(first) = rest.chars().next() {
        // The longest word at this place counts, so that `不满意` is not read as `满意`.
        let found =
            MANDARIN.iter().filter(|(word, _)| rest.starts_with(word)).max_by_key(|(word, _)| word.len());
        if let Some((word, strength)) = found {
            let negated = ["不", "没", "别", "没有", "不是", "不太"].iter().any(|n| before.ends_with(n));
            let raised = ["很", "太", "非常", "特别", "真", "挺", "好", "超", "十分"]
                .iter()
                .any(|n| before.ends_with(n));
            sum += weigh(*strength, negated, raised);
            before.push_str(word);
            rest = &rest[word.len()..];
        } else {
            before.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    sum
}

fn weigh(strength: f32, negated: bool, raised: bool) -> f32 {
    let strength = if raised { strength * 1.5 } else { strength };
    if negated { -0.6 * strength } else { strength }
}

const ENGLISH: [(&str, f32); 62] = [
    ("thanks", 0.4),
    ("thank", 0.4),
    ("great", 0.6),
    ("good", 0.4),
    ("perfect", 0.7),
    ("lovely", 0.6),
    ("excellent", 0.8),
    ("wonderful", 0.8),
    ("happy", 0.6),
    ("glad", 0.5),
    ("pleased", 0.6),
    ("satisfied", 0.6),
    ("helpful", 0.6),
    ("appreciate", 0.5),
    ("love", 0.6),
    ("like", 0.2),
    ("nice", 0.4),
    ("kind", 0.4),
    ("awesome", 0.7),
    ("fantastic", 0.8),
    ("fine", 0.2),
    ("friendly", 0.5),
    ("easy", 0.3),
    ("bad", -0.5),
    ("terrible", -0.9),
    ("awful", -0.9),
    ("horrible", -0.9),
    ("worst", -0.9),
    ("poor", -0.5),
    ("angry", -0.8),
    ("annoyed", -0.7),
    ("annoying", -0.7),
    ("upset", -0.7),
    ("frustrated", -0.7),
    ("frustrating", -0.7),
    ("disappointed", -0.7),
    ("disappointing", -0.7),
    ("unhappy", -0.7),
    ("ridiculous", -0.7),
    ("rude", -0.7),
    ("useless", -0.8),
    ("stupid", -0.8),
    ("idiot", -1.0),
    ("idiots", -1.0),
    ("hate", -0.9),
    ("scam", -0.8),
    ("fraud", -0.7),
    ("harassing", -0.9),
    ("harassment", -0.9),
    ("sick", -0.4),
    ("tired", -0.4),
    ("waste", -0.6),
    ("wrong", -0.4),
    ("complain", -0.6),
    ("complaint", -0.6),
    ("problem", -0.3),
    ("slow", -0.3),
    ("broken", -0.4),
    ("damn", -0.6),
    ("hell", -0.6),
    ("fuck", -1.0),
    ("fucking", -0.8),
];

const MANDARIN: [(&str, f32); 66] = [
    ("谢谢", 0.4),
    ("感谢", 0.5),
    ("满意", 0.6),
    ("不满意", -0.7),
    ("不满", -0.7),
    ("喜欢", 0.5),
    ("太好了", 0.8),
    ("挺好", 0.5),
    ("很好", 0.6),
    ("不错", 0.5),
    ("开心", 0.6),
    ("高兴", 0.6),
    ("不高兴", -0.7),
    ("放心", 0.4),
    ("不放心", -0.4),
    ("麻烦你了", 0.3),
    ("辛苦了", 0.4),
    ("棒", 0.6),
    ("贴心", 0.6),
    ("耐心", 0.4),
    ("不耐烦", -0.7),
    ("专业", 0.4),
    ("方便", 0.2),
    ("优惠", 0.2),
    ("没问题", 0.3),
    ("好的", 0.2),
    ("生气", -0.8),
    ("气死", -1.0),
    ("烦", -0.6),
    ("烦死", -1.0),
    ("烦不烦", -0.9),
    ("讨厌", -0.8),
    ("恶心", -0.9),
    ("骚扰", -0.8),
    ("骗子", -0.9),
    ("骗人", -0.8),
    ("诈骗", -0.8),
    ("投诉", -0.7),
    ("举报", -0.7),
    ("报警", -0.8),
    ("垃圾", -0.8),
    ("差劲", -0.8),
    ("太差", -0.8),
    ("很差", -0.8),
    ("糟糕", -0.7),
    ("失望", -0.7),
    ("难受", -0.5),
    ("难过", -0.5),
    ("郁闷", -0.5),
    ("着急", -0.3),
    ("过分", -0.7),
    ("无语", -0.5),
    ("没完没了", -0.7),
    ("有病", -0.9),
    ("神经病", -1.0),
    ("滚", -1.0),
    ("他妈", -1.0),
    ("妈的", -1.0),
    ("傻", -0.8),
    ("混蛋", -1.0),
    ("坑人", -0.8),
    ("太慢", -0.5),
    ("太贵", -0.4),
    ("不好用", -0.5),
    ("不行", -0.2),
    ("够了", -0.5),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_negation_and_strength_move_the_mood() {
        let zh = |text| sentiment(text, Locale::Zh);
        let en = |text| sentiment(text, Locale::En);
        assert!(zh("谢谢你，服务很好") > 0.4);
        assert!(zh("你们烦不烦，再打我投诉") < -0.7);
        assert!(zh("我不满意") < -0.3);
        assert_eq!(zh("明天下午三点"), 0.0);
        assert!(en("thank you that's great") > 0.4);
        assert!(en("this is ridiculous and you are useless") < -0.7);
        assert!(en("I'm not happy with this") < 0.0);
        assert!(en("very bad") < en("bad"));
        assert_eq!(en(""), 0.0);
    }

    #[test]
    fn the_longest_text_stays_within_bounds() {
        let text = "滚".repeat(10_000);
        assert!((-1.0..=1.0).contains(&sentiment(&text, Locale::Zh)));
    }
}
