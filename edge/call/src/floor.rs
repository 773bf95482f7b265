//! Does this take the floor? What people say while they listen (嗯, 对对, uh-huh) is no turn.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use trunkline_wire::UnderstandingV1;

/// What was said over a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// A sound of thinking or listening: never a turn of its own over a prompt.
    Filler,
    /// A word of agreement: a sign of listening early in a prompt, an answer near its end.
    Agreement,
    /// Anything else: a turn.
    Turn,
}

/// Share of a prompt after which a word of agreement answers it.
const ANSWERED_AT: f32 = 0.7;

/// As they are said, and as a recogniser likes to write them.
const FILLERS: &[&str] = &[
    "嗯", "恩", "嗯哼", "哼", "哦", "噢", "呃", "额", "唉", "哎", "诶", "欸", "啊", "呀", "哈", "呵", "喔",
    "唔", "uh", "uhm", "um", "hm", "hmm", "mm", "mmm", "mhm", "mm-hm", "mm-hmm", "mhmm", "uh-huh", "aha",
    "ah", "oh", "er", "erm", "huh",
];
const AGREEMENT: &[&str] = &[
    "对",
    "对的",
    "对啊",
    "是",
    "是的",
    "好",
    "好的",
    "好吧",
    "行",
    "知道",
    "知道了",
    "明白",
    "明白了",
    "清楚",
    "了解",
    "没错",
    "好啊",
    "好嘞",
    "yes",
    "yeah",
    "yep",
    "yup",
    "ok",
    "okay",
    "right",
    "sure",
    "i see",
    "got it",
    "i understand",
    "that's right",
    "alright",
    "all right",
    "fine",
];

const SIGNS_ZH: &[&str] = &[
    "嗯",
    "嗯嗯",
    "嗯哼",
    "哦",
    "噢",
    "呃",
    "啊",
    "哎",
    "对",
    "对对",
    "对对对",
    "对啊",
    "是",
    "是的",
    "是啊",
    "好",
    "好的",
    "好好好",
    "嗯好",
    "嗯好的",
    "嗯对",
    "行",
    "知道了",
    "明白",
    "没错",
];
const SIGNS_EN: &[&str] = &[
    "uh-huh",
    "mm-hmm",
    "mm",
    "hmm",
    "oh",
    "um",
    "uh",
    "ah",
    "aha",
    "yeah",
    "yes",
    "yep",
    "okay",
    "right",
    "I see",
    "sure",
    "got it",
    "all right",
    "oh okay",
    "oh yeah",
    "uh right",
];

/// Speech over a prompt that is shorter than this takes the floor only when it means something here.
pub(crate) const SHORT: Duration = Duration::from_millis(900);

/// Who speaks over a prompt for so long wants the floor, whether the words were understood or not.
pub(crate) const LONG: Duration = Duration::from_millis(1_200);

/// Lists the signs of listening as a recogniser shall weigh them: one wording for each sound.
pub(crate) fn signs(is_zh: bool) -> Arc<[String]> {
    static ZH: LazyLock<Arc<[String]>> = LazyLock::new(|| listed(SIGNS_ZH));
    static EN: LazyLock<Arc<[String]>> = LazyLock::new(|| listed(SIGNS_EN));
    Arc::clone(if is_zh { &ZH } else { &EN })
}

fn listed(signs: &[&str]) -> Arc<[String]> {
    signs.iter().map(|sign| (*sign).to_owned()).collect()
}

/// Tells whether an intent or a value was found in the words. There is none in a sign of listening that was written
/// as other words, in a cough, and in a word from the next room.
pub(crate) fn is_meant(understood: &UnderstandingV1) -> bool {
    understood.intent.is_some() || !understood.entities.is_empty()
}

/// Tells what the words are, whatever was asked.
pub(crate) fn classify(text: &str) -> Over {
    let words = pieces(text);
    if words.is_empty() {
        return Over::Filler;
    }
    let is = |list: &[&str], word: &str| list.contains(&word) || is_repeated(list, word);
    if words.iter().all(|word| is(FILLERS, word)) {
        Over::Filler
    } else if words.iter().all(|word| is(FILLERS, word) || is(AGREEMENT, word))
        || is(AGREEMENT, &words.join(" "))
    {
        Over::Agreement
    } else {
        Over::Turn
    }
}

/// Tells whether so little of a prompt was `heard`, 0 to 1, that agreement is a sign of listening.
pub(crate) fn is_early(heard: f32) -> bool {
    heard < ANSWERED_AT
}

/// Tells whether the words end a prompt of which `heard`, 0 to 1, was spoken.
pub(crate) fn is_taken(text: &str, heard: f32) -> bool {
    match classify(text) {
        Over::Filler => false,
        Over::Agreement => !is_early(heard),
        Over::Turn => true,
    }
}

/// Splits at everything that is no letter; hyphens and apostrophes stay in words.
fn pieces(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '\''))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Tells whether a word without spaces is made of listed ones: 对对对, 嗯嗯, 嗯好的.
fn is_repeated(list: &[&str], word: &str) -> bool {
    if word.is_ascii() {
        return false;
    }
    let mut rest = word;
    while !rest.is_empty() {
        let longest = list
            .iter()
            .chain(FILLERS)
            .filter(|known| rest.starts_with(**known))
            .map(|known| known.len())
            .max();
        match longest {
            Some(length) => rest = &rest[length..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_listening_are_told_from_turns() {
        for filler in ["嗯", "嗯嗯。", "呃……", "Uh-huh.", "mm, mm-hmm", "", "。"] {
            assert_eq!(classify(filler), Over::Filler, "{filler}");
        }
        for agreement in [
            "对",
            "对对对",
            "嗯，好的",
            "嗯好的",
            "是的是的",
            "Yeah, okay.",
            "I see.",
            "uh, right",
            "All right",
        ] {
            assert_eq!(classify(agreement), Over::Agreement, "{agreement}");
        }
        for turn in [
            "不是",
            "等一下",
            "对不起打错了",
            "好贵",
            "是谁",
            "No.",
            "yes but not today",
            "who is this",
            "转人工",
        ] {
            assert_eq!(classify(turn), Over::Turn, "{turn}");
        }
    }

    #[test]
    fn an_intent_or_a_value_is_meant_and_nothing_else_is() {
        let intent = UnderstandingV1 { intent: Some("no".to_owned()), ..UnderstandingV1::default() };
        let date = serde_json::json!({ "entities": [{ "kind": "date", "value": "2026-11-27" }] });
        let date: UnderstandingV1 = serde_json::from_value(date).unwrap();
        assert!(is_meant(&intent) && is_meant(&date) && !is_meant(&UnderstandingV1::default()));
    }

    #[test]
    fn agreement_answers_a_question_only_near_its_end() {
        assert!(!is_taken("好的", 0.3));
        assert!(is_taken("好的", 0.9));
        assert!(is_taken("不用了", 0.1));
        assert!(!is_taken("嗯", 0.99));
    }
}
