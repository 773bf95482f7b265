//! The whole answers that a node expects, in the words in which people give them.
//!
//! A closed question is heard better when the recogniser weighs these against the sound than when it
//! writes freely ([ADR 0009](../../../shared/docs/adr/0009-closed-questions-are-weighed.md)). They
//! are the short examples of the script's own intents and a few wordings of the universal ones, of
//! which a customer may use any at any time.

use std::sync::Arc;

use trunkline_dialogue::Script;
use trunkline_dialogue::action::Listen;

/// No more phrases than this: each is another branch to weigh.
const MOST: usize = 96;
/// Longer answers are better transcribed.
const LONGEST_CHARS_ZH: usize = 7;
const LONGEST_WORDS: usize = 4;

type Phrases = &'static [(&'static str, &'static [&'static str])];

const ZH: Phrases = &[
    (
        "yes",
        &[
            "是",
            "是的",
            "是我",
            "对",
            "对的",
            "对对",
            "对对对",
            "嗯",
            "嗯嗯",
            "好",
            "好的",
            "好啊",
            "行",
            "可以",
            "可以的",
            "没问题",
            "没错",
            "我是",
            "我就是",
            "方便",
            "有",
            "需要",
            "要",
            "确认",
            "同意",
            "当然可以",
        ],
    ),
    (
        "no",
        &[
            "不",
            "不是",
            "不是的",
            "不是我",
            "没有",
            "没",
            "不行",
            "不要",
            "不用",
            "不用了",
            "不需要",
            "不可以",
            "不对",
            "不方便",
            "算了",
            "没兴趣",
            "不考虑",
            "没有了",
        ],
    ),
    ("repeat", &["什么", "啊", "再说一遍", "没听清", "你说什么"]),
    ("wait", &["等一下", "等等", "稍等"]),
    ("busy", &["我在开会", "现在没空", "我在忙"]),
    ("who_are_you", &["你是谁", "你是哪里", "哪位"]),
    ("ask_robot", &["你是机器人吗", "你是真人吗"]),
    ("ask_human", &["转人工", "我要人工"]),
    ("opt_out", &["别打了", "别再打了", "不要再打了"]),
];

const EN: Phrases = &[
    (
        "yes",
        &[
            "yes",
            "yeah",
            "yep",
            "yes please",
            "yes I am",
            "yes it is",
            "that's me",
            "that's right",
            "speaking",
            "this is she",
            "this is he",
            "sure",
            "okay",
            "OK",
            "correct",
            "of course",
            "I do",
            "I will",
            "right",
            "uh-huh",
            "absolutely",
        ],
    ),
    (
        "no",
        &[
            "no",
            "nope",
            "no thanks",
            "no thank you",
            "not really",
            "I'm not",
            "I don't",
            "not interested",
            "wrong number",
            "not now",
            "no I'm not",
        ],
    ),
    ("repeat", &["what", "sorry", "pardon", "say that again"]),
    ("wait", &["hold on", "wait", "one moment"]),
    ("busy", &["I'm busy", "I'm driving"]),
    ("who_are_you", &["who is this", "who are you"]),
    ("ask_robot", &["are you a robot"]),
    ("ask_human", &["a real person", "agent please"]),
    ("opt_out", &["stop calling me", "don't call again"]),
];

const DIGITS_ZH: &[&str] = &["零", "一", "二", "三", "四", "五", "六", "七", "八", "九", "幺"];
const DIGITS_EN: &[&str] =
    &["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "oh"];

const WEEKDAYS_ZH: &[&str] = &[
    "今天",
    "明天",
    "后天",
    "大后天",
    "周一",
    "周二",
    "周三",
    "周四",
    "周五",
    "周六",
    "周日",
    "下周一",
    "下周二",
    "下周三",
    "下周四",
    "下周五",
    "下周六",
    "月底",
    "这个周末",
    "下个月",
];
const WEEKDAYS_EN: &[&str] = &[
    "today",
    "tomorrow",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "next Monday",
    "next Tuesday",
    "next Wednesday",
    "next Thursday",
    "next Friday",
    "on Friday",
    "on Monday",
    "next week",
];

/// What kind of number a node asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// A row of digits: a telephone number, an order number.
    Digits,
    /// A number or an amount of money.
    Amount,
}

/// Tells whether the answer is likely to be a number, from the values that are still asked for.
pub fn numbers(listen: &Listen) -> Option<Numbers> {
    listen.values.iter().find_map(|kind| match kind.as_str() {
        "phone" | "id" | "digits" => Some(Numbers::Digits),
        "money" | "number" => Some(Numbers::Amount),
        _ => None,
    })
}

/// Lists the answers that may well be given where `listen` stands, the expected intents' first.
pub fn phrases(script: &Script, listen: &Listen) -> Arc<[String]> {
    let is_zh = script.locale().starts_with("zh");
    let universal = if is_zh { ZH } else { EN };
    let is_short = |phrase: &str| {
        if is_zh {
            phrase.chars().count() <= LONGEST_CHARS_ZH
        } else {
            phrase.split_whitespace().count() <= LONGEST_WORDS
        }
    };
    let document = script.document();
    let of_intent = |name: &str| -> Vec<&str> {
        let special = document.intents.get(name).into_iter().flat_map(|intent| &intent.examples);
        let general = universal.iter().filter(|(intent, _)| *intent == name).flat_map(|(_, all)| *all);
        special
            .map(|phrase| phrase.as_str())
            .filter(|phrase| is_short(phrase))
            .chain(general.copied())
            .collect()
    };
    let mut phrases: Vec<&str> = Vec::with_capacity(MOST);
    let mut add = |phrase| {
        if phrases.len() < MOST && !phrases.contains(&phrase) {
            phrases.push(phrase);
        }
    };
    for intent in &listen.expect {
        of_intent(intent).into_iter().for_each(&mut add);
    }
    listen.hot_words.iter().map(String::as_str).filter(|word| is_short(word)).for_each(&mut add);
    for (intent, _) in universal {
        if !listen.expect.iter().any(|expected| expected == intent) {
            of_intent(intent).into_iter().take(6).for_each(&mut add);
        }
    }
    if numbers(listen) == Some(Numbers::Digits) {
        let digits = if is_zh { DIGITS_ZH } else { DIGITS_EN };
        digits.iter().copied().for_each(&mut add);
    }
    let days = if is_zh { WEEKDAYS_ZH } else { WEEKDAYS_EN };
    days.iter().copied().for_each(&mut add);
    phrases.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use trunkline_dialogue::action::Endpoint;

    use super::*;

    fn listen(expect: &[&str]) -> Listen {
        Listen {
            no_input: Duration::from_secs(5),
            endpoint: Endpoint::Short,
            expect: expect.iter().map(|e| (*e).to_owned()).collect(),
            hot_words: vec!["王芳".to_owned()],
            values: Vec::new(),
        }
    }

    #[test]
    fn the_expected_answers_come_first_and_none_twice() {
        let script =
            Script::load(include_str!("../../../shared/scripts/repayment-reminder-zh.yaml")).unwrap();
        let found = phrases(&script, &listen(&["wrong_party", "yes"]));
        assert_eq!(found[0], "不是本人");
        for expected in ["是我", "我就是", "不是", "王芳", "你是机器人吗", "别打了"] {
            assert!(found.iter().any(|phrase| phrase == expected), "{expected}");
        }
        let mut sorted = found.to_vec();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), found.len());
        assert!(found.len() <= MOST && found.iter().all(|phrase| phrase.chars().count() <= LONGEST_CHARS_ZH));
    }

    #[test]
    fn a_node_that_asks_for_an_amount_expects_a_number() {
        let asks = |values: &[&str]| Listen {
            values: values.iter().map(|kind| (*kind).to_owned()).collect(),
            ..listen(&[])
        };
        assert_eq!(numbers(&asks(&["date", "money"])), Some(Numbers::Amount));
        assert_eq!(numbers(&asks(&["phone"])), Some(Numbers::Digits));
        assert_eq!(numbers(&asks(&["date"])), None);
        let script =
            Script::load(include_str!("../../../shared/scripts/repayment-reminder-zh.yaml")).unwrap();
        assert!(phrases(&script, &asks(&["phone"])).iter().any(|phrase| phrase == "九"));
    }

    #[test]
    fn an_english_script_expects_english() {
        let script =
            Script::load(include_str!("../../../shared/scripts/appointment-confirmation-en.yaml")).unwrap();
        let found = phrases(&script, &listen(&["yes"]));
        assert!(
            found.iter().any(|phrase| phrase == "yes") && found.iter().any(|phrase| phrase == "no thank you")
        );
        assert!(found.iter().all(|phrase| phrase.is_ascii() || phrase == "王芳"), "{found:?}");
    }
}
