//! Sensitive words: what the robot must not say, and what a customer says that somebody should know.
//!
//! A [`WordList`] is a file that people write; a [`Filter`] is made of all lists in force and looks at a text
//! in one pass (Aho and Corasick 1975), however many words there are. The box holds it against every sentence
//! of the robot before it is played, and against what it understood of the customer.
//!
//! Words are found as they are meant, not as they are spelt: width and case do not count, and neither do
//! spaces and signs between Chinese characters. A word of letters or digits is found as a whole word only.
//!
//! **Invariant:** nothing here opens a file, reads a clock or draws a random number.
//! **Invariant:** no text can panic it, and what it takes grows linearly with the text.
//!
//! Absent on purpose: homophones and traditional characters (the recogniser writes simplified ones), and any
//! judgement that needs the sentence's meaning.

mod fold;
mod list;

use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::fold::Folded;
pub use crate::list::{Action, Entry, ListError, Severity, Side, WordList};

/// All lists in force, ready to be held against texts.
#[derive(Debug, Default)]
pub struct Filter {
    robot: Option<Finder>,
    customer: Option<Finder>,
}

/// The lists hold more than can be searched for.
#[derive(Debug, thiserror::Error)]
#[error("the word lists cannot be compiled: {0}")]
pub struct CompileError(String);

/// A word that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where, in bytes of the text.
    pub range: Range<usize>,
    /// The word as the list has it.
    pub word: String,
    /// The list.
    pub list: String,
    /// How bad it is.
    pub severity: Severity,
    /// What is done about it.
    pub action: Action,
}

/// What is left of a sentence of the robot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// What may be said; empty when nothing is left.
    pub text: String,
    /// What was found.
    pub found: Vec<Found>,
}

#[derive(Debug)]
struct Finder {
    automaton: AhoCorasick,
    /// By pattern.
    entries: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    word: String,
    list: String,
    severity: Severity,
    action: Action,
    with: String,
}

impl Filter {
    /// Compiles lists. A word that several of them have counts as the gravest entry says.
    ///
    /// # Errors
    /// [`CompileError`] when together they are too large, at some hundred megabytes.
    pub fn new<'a>(lists: impl IntoIterator<Item = &'a WordList> + Clone) -> Result<Self, CompileError> {
        let of = |side| Finder::new(lists.clone(), side);
        Ok(Self { robot: of(Side::Robot)?, customer: of(Side::Customer)? })
    }

    /// Says whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.robot.is_none() && self.customer.is_none()
    }

    /// Lists what a customer said of what somebody should know.
    pub fn heard(&self, text: &str) -> Vec<Found> {
        let Some(finder) = &self.customer else { return Vec::new() };
        finder.find(text).into_iter().map(|(range, at)| finder.entries[at].found(range)).collect()
    }

    /// Takes out of what the robot is about to say what it must not.
    pub fn speakable(&self, text: &str) -> Spoken {
        let mut spoken = Spoken { text: text.to_owned(), found: Vec::new() };
        let Some(finder) = &self.robot else { return spoken };
        // What is left may make a new word where something was taken out.
        for pass in 0..MAX_PASSES {
            let hits = finder.find(&spoken.text);
            if pass == 0 {
                spoken.found =
                    hits.iter().map(|(range, at)| finder.entries[*at].found(range.clone())).collect();
            }
            if hits.iter().all(|(_, at)| finder.entries[*at].action == Action::Note) {
                return spoken;
            }
            spoken.text = finder.without(&spoken.text, &hits);
        }
        // Nothing is better than a word that comes back each time.
        spoken.text.clear();
        spoken
    }
}

/// How often what is left of a text is looked at again.
const MAX_PASSES: usize = 4;

impl Finder {
    fn new<'a>(
        lists: impl IntoIterator<Item = &'a WordList>,
        side: Side,
    ) -> Result<Option<Self>, CompileError> {
        let mut by_word: std::collections::BTreeMap<String, Pattern> = std::collections::BTreeMap::new();
        for list in lists {
            for entry in list.entries.iter().filter(|entry| entry.side == side || entry.side == Side::Both) {
                for word in &entry.words {
                    let pattern = Pattern {
                        word: word.clone(),
                        list: list.id.clone(),
                        severity: entry.severity,
                        action: entry.action,
                        with: entry.with.clone(),
                    };
                    let folded = Folded::new(word).text;
                    let graver = by_word.get(&folded).is_none_or(|other| {
                        (other.severity, other.action) < (pattern.severity, pattern.action)
                    });
                    if graver {
                        by_word.insert(folded, pattern);
                    }
                }
            }
        }
        if by_word.is_empty() {
            return Ok(None);
        }
        let automaton = AhoCorasick::builder()
            // All matches, also inside each other: the longest may not be a whole word, and a shorter one may be.
            .match_kind(MatchKind::Standard)
            .build(by_word.keys())
            .map_err(|error| CompileError(error.to_string()))?;
        Ok(Some(Self { automaton, entries: by_word.into_values().collect() }))
    }

    /// What is left of a text without what was found in it.
    fn without(&self, text: &str, hits: &[(Range<usize>, usize)]) -> String {
        let mut left = String::with_capacity(text.len());
        for sentence in sentences(text) {
            let inside = || hits.iter().filter(|(range, _)| sentence.contains(&range.start));
            if inside().any(|(_, at)| self.entries[*at].action == Action::Withhold) {
                continue;
            }
            let mut from = sentence.start;
            for (range, at) in inside().filter(|(_, at)| self.entries[*at].action == Action::Replace) {
                left.push_str(&text[from..range.start]);
                left.push_str(&self.entries[*at].with);
                from = range.end;
            }
            left.push_str(&text[from..sentence.end]);
        }
        left.trim().to_owned()
    }

    /// The words in a text from left to right, none inside another, the longest where several begin.
    fn find(&self, text: &str) -> Vec<(Range<usize>, usize)> {
        let folded = Folded::new(text);
        let mut hits: Vec<(Range<usize>, usize)> = self
            .automaton
            .find_overlapping_iter(&folded.text)
            .filter(|hit| folded.is_whole(hit.range()))
            .map(|hit| (hit.range(), hit.pattern().as_usize()))
            .collect();
        hits.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
        let mut end = 0;
        hits.retain(|(range, _)| {
            let free = range.start >= end;
            end = if free { range.end } else { end };
            free
        });
        hits.into_iter().map(|(range, at)| (folded.origin(range), at)).collect()
    }
}

impl Pattern {
    fn found(&self, range: Range<usize>) -> Found {
        Found {
            range,
            word: self.word.clone(),
            list: self.list.clone(),
            severity: self.severity,
            action: self.action,
        }
    }
}

/// Cuts a text after the signs that end a sentence: no word is found across them.
fn sentences(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    let ends = text.char_indices().filter(|(_, c)| ends_sentence(*c)).map(|(at, c)| at + c.len_utf8());
    let mut ends: Vec<usize> = ends.collect();
    ends.push(text.len());
    ends.into_iter().map(move |end| std::mem::replace(&mut start, end)..end).filter(|range| !range.is_empty())
}

/// A point is none of them: it also stands in numbers and abbreviations.
fn ends_sentence(c: char) -> bool {
    matches!(c, '。' | '！' | '？' | '；' | '!' | '?' | ';' | '\n')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIST: &str = "
schema: trunkline/words/1
id: branch
entries:
  - words: [微信转账, 私下, VX]
    severity: critical
    side: robot
    action: withhold
  - words: [傻瓜, damn, 'damn it']
    severity: warn
    side: robot
    action: replace
    with: ……
  - words: [投诉, 律师, lawyer]
    severity: warn
    side: customer
  - words: [身份证]
    side: both
";

    fn filter() -> Filter {
        Filter::new(&[WordList::from_yaml(LIST).unwrap()]).unwrap()
    }

    fn words(found: &[Found]) -> Vec<&str> {
        found.iter().map(|found| found.word.as_str()).collect()
    }

    #[test]
    fn a_word_is_found_however_it_is_written_and_only_as_a_whole_word() {
        let filter = filter();
        for said in ["我要投诉你们", "我要投 诉", "投，诉！", "给我叫律、师", "投。投诉"]
        {
            assert_eq!(filter.heard(said).len(), 1, "{said}");
        }
        assert_eq!(words(&filter.heard("I'll call my LAWYER, today")), ["lawyer"]);
        assert!(filter.heard("是投。诉讼的诉").is_empty(), "two sentences");
        assert!(filter.heard("lawyers are lawyering").is_empty());
        assert!(filter.heard("微信转账").is_empty(), "that is the robot's list");
        assert_eq!(words(&filter.speakable("加我ＶＸ聊。").found), ["VX"]);
        assert!(filter.speakable("型号是VX90。").found.is_empty());
    }

    #[test]
    fn a_sentence_that_must_not_be_said_is_left_out_and_a_word_is_replaced() {
        let filter = filter();
        let spoken = filter.speakable("您好。请微信转账给我。谢谢您。");
        assert_eq!(spoken.text, "您好。谢谢您。");
        assert_eq!((words(&spoken.found), spoken.found[0].severity), (vec!["微信转账"], Severity::Critical));
        assert_eq!(filter.speakable("You damn it all! Bye.").text, "You …… all! Bye.");
        assert_eq!(filter.speakable("您真是个傻瓜吗？").text, "您真是个……吗？");
        assert_eq!(filter.speakable("私下说。").text, "");
        let noted = filter.speakable("请说身份证号。");
        assert_eq!((noted.text.as_str(), noted.found[0].action), ("请说身份证号。", Action::Note));
    }

    #[test]
    fn a_word_of_two_lists_counts_as_the_graver_says() {
        let other = "
schema: trunkline/words/1
id: head-office
entries: [{words: [傻 瓜], severity: critical, side: robot, action: withhold}]
";
        let lists = [LIST, other].map(|text| WordList::from_yaml(text).unwrap());
        let spoken = Filter::new(&lists).unwrap().speakable("好的。您真是个傻瓜吗？");
        assert_eq!((spoken.text.as_str(), spoken.found[0].list.as_str()), ("好的。", "head-office"));
    }

    #[test]
    fn no_list_finds_nothing() {
        let none = Filter::new(&[]).unwrap();
        assert!(none.is_empty() && none.heard("投诉").is_empty());
        assert_eq!(none.speakable("投诉 ").text, "投诉 ", "what is not touched stays as it is");
    }

    proptest! {
        #[test]
        fn no_text_breaks_it_and_what_must_not_be_said_is_gone(
            parts in proptest::collection::vec(
                prop_oneof![
                    "\\PC{0,6}",
                    Just("微信转账".to_owned()),
                    Just("微 信，转账".to_owned()),
                    Just("damn it".to_owned()),
                    Just("。".to_owned()),
                    Just("傻瓜".to_owned()),
                ],
                0..12,
            )
        ) {
            let text = parts.concat();
            let filter = filter();
            let spoken = filter.speakable(&text);
            for found in &spoken.found {
                prop_assert!(text.get(found.range.clone()).is_some(), "{:?} of {text:?}", found.range);
            }
            let again = filter.speakable(&spoken.text);
            prop_assert!(again.found.iter().all(|found| found.action != Action::Withhold), "{:?}", spoken.text);
            filter.heard(&text);
        }
    }
}
