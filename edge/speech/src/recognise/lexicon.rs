//! The few words of which an answer is made where a number is asked for.
//!
//! Of digits and amounts the engine often hears the sound and writes another word for it (要 for 幺, "for"
//! for four). Where the node asks for a number, a text that is doubtful is decoded again with nothing
//! but these words allowed, and takes the first one's place when the sound bears it out.

use super::Language;

/// Which words an answer may be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lexicon {
    /// A row of digits: a telephone number, an order number.
    Digits,
    /// A number or an amount of money.
    Amount,
}

/// When digits or an amount take the place of the free text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LexiconRule {
    /// Mean log-probability of a token below which the sound is no number.
    pub least: f32,
    /// How far below that of the free text it may be.
    pub below_text: f32,
}

impl Default for LexiconRule {
    fn default() -> Self {
        Self { least: -1.3, below_text: 0.6 }
    }
}

impl LexiconRule {
    /// Tells whether the restricted text is to be believed; both figures are means per token, and
    /// `free` is `None` when there is no text or a guard rejected it.
    pub fn prefers(&self, restricted: f32, free: Option<f32>) -> bool {
        restricted >= self.least && free.is_none_or(|free| restricted >= free - self.below_text)
    }
}

impl Lexicon {
    /// Returns the words, as the engine may write them; figures are allowed besides.
    pub(crate) fn words(self, language: Language) -> Vec<String> {
        let list = |words: &str| words.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let mut words = if language == Language::ZH {
            let mut words = list("零 〇 一 二 三 四 五 六 七 八 九 幺 两 兩 ， 、 。");
            if self == Self::Amount {
                words.extend(list("十 百 千 万 萬 亿 億 点 點 块 塊 元 圆 毛 角 分 钱 錢 整 半 人民币"));
            }
            words
        } else {
            let mut words = list("zero oh one two three four five six seven eight nine double triple , - .");
            if self == Self::Amount {
                words.extend(list(
                    "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty \
                     thirty forty fifty sixty seventy eighty ninety hundred thousand million a and point half \
                     dollar dollars cent cents pound pounds pence euro euros $ £ €",
                ));
            }
            words
        };
        if language != Language::ZH {
            // A word begins with its space in the engine's vocabulary, and a text with a capital.
            let spaced: Vec<String> = words.iter().map(|word| format!(" {word}")).collect();
            let capital = |word: &String| {
                let mut chars = word.chars();
                let first = chars.next().map(|c| c.to_uppercase().chain(chars).collect::<String>());
                format!(" {}", first.unwrap_or_default())
            };
            let capitals: Vec<String> = words.iter().map(capital).collect();
            words.extend(spaced);
            words.extend(capitals);
        }
        words
    }

    /// Returns the characters of which a Mandarin number is spoken, none of them twice.
    pub(crate) fn characters(self) -> Vec<char> {
        // What is written two ways is here once, as it is to be written.
        let skipped = ['〇', '兩', '萬', '億', '點', '塊', '錢', '圆'];
        let all = self.words(Language::ZH);
        all.iter()
            .flat_map(|word| word.chars())
            .filter(|c| c.is_alphanumeric() && !skipped.contains(c))
            .collect()
    }

    /// Tells whether a text is made of these words and figures alone.
    pub(crate) fn covers(self, text: &str, language: Language) -> bool {
        let words = self.words(language);
        if language == Language::ZH {
            return text
                .chars()
                .all(|c| !c.is_alphanumeric() || c.is_ascii_digit() || words.iter().any(|w| w.contains(c)));
        }
        text.split(|c: char| !c.is_alphanumeric()).filter(|piece| !piece.is_empty()).all(|piece| {
            piece.chars().all(|c| c.is_ascii_digit())
                || words.iter().any(|word| word.eq_ignore_ascii_case(piece))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_covered_and_talk_is_not() {
        for (lexicon, text, language) in [
            (Lexicon::Digits, "三八二幺。", Language::ZH),
            (Lexicon::Digits, "3821", Language::ZH),
            (Lexicon::Amount, "两千三百块", Language::ZH),
            (Lexicon::Digits, "Three, eight two-one.", Language::EN),
            (Lexicon::Amount, "$250", Language::EN),
            (Lexicon::Amount, "two hundred and fifty dollars", Language::EN),
        ] {
            assert!(lexicon.covers(text, language), "{text}");
        }
        for (lexicon, text, language) in [
            (Lexicon::Digits, "三百", Language::ZH),
            (Lexicon::Amount, "我不知道", Language::ZH),
            (Lexicon::Digits, "for three", Language::EN),
            (Lexicon::Amount, "I don't know", Language::EN),
        ] {
            assert!(!lexicon.covers(text, language), "{text}");
        }
    }

    #[test]
    fn a_number_that_the_sound_does_not_bear_out_is_not_believed() {
        let rule = LexiconRule::default();
        assert!(rule.prefers(-0.6, None) && rule.prefers(-0.6, Some(-0.5)));
        assert!(!rule.prefers(-2.0, None) && !rule.prefers(-1.2, Some(-0.2)));
    }
}
