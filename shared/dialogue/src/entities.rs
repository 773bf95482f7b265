//! Words of a script's own that stand for a value, found in what was heard.

use std::collections::BTreeMap;

use crate::document::EntitySpec;

/// Lists how an entity sounds, the longest first, with the value that each stands for.
pub(crate) fn sounds(spec: &EntitySpec) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = spec
        .values
        .iter()
        .flat_map(|(value, ways)| ways.iter().chain([value]).map(|way| (plain(way), value.clone())))
        .filter(|(way, _)| !way.is_empty())
        .collect();
    all.sort_by(|a, b| b.0.chars().count().cmp(&a.0.chars().count()).then(a.cmp(b)));
    all.dedup();
    all
}

/// Returns the value that was named: the longest words count, and of two that are as long the last, since
/// "not the blue one, the grey one" is grey.
pub(crate) fn find(sounds: &[(String, String)], text: &str) -> Option<String> {
    let text = plain(&text.chars().take(MAX_CHARS).collect::<String>());
    let mut best: Option<(usize, usize, &str)> = None;
    for (way, value) in sounds {
        let length = way.chars().count();
        if best.is_some_and(|(longest, _, _)| length < longest) {
            break;
        }
        let last = text
            .match_indices(way.as_str())
            .map(|(at, _)| at)
            .filter(|at| stands_alone(&text, *at, way))
            .last();
        if let Some(at) = last.filter(|at| best.is_none_or(|(_, before, _)| *at > before)) {
            best = Some((length, at, value));
        }
    }
    best.map(|(_, _, value)| value.to_owned())
}

/// The most of a turn that is searched.
const MAX_CHARS: usize = 2_000;

/// Says whether the words are no part of a longer one; Chinese has no gaps to look for.
fn stands_alone(text: &str, at: usize, way: &str) -> bool {
    let latin = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let before = latin(text[..at].chars().next_back()) && latin(way.chars().next());
    let behind = latin(text[at + way.len()..].chars().next()) && latin(way.chars().next_back());
    !before && !behind
}

/// Writes words as they are compared: in small letters, with single gaps and without punctuation.
fn plain(text: &str) -> String {
    let spoken: String = text
        .chars()
        .flat_map(char::to_lowercase)
        .map(|c| if c.is_alphanumeric() || c == '\'' { c } else { ' ' })
        .collect();
    spoken.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Lists the entities of a script as [`find`] wants them.
pub(crate) fn all<'s>(
    specs: impl Iterator<Item = (&'s String, &'s EntitySpec)>,
) -> BTreeMap<String, Vec<(String, String)>> {
    specs.map(|(name, spec)| (name.clone(), sounds(spec))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_in(values: &[(&str, &[&str])], text: &str) -> Option<String> {
        let owned = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect();
        let values = values.iter().map(|(value, ways)| ((*value).to_owned(), owned(ways))).collect();
        find(&sounds(&EntitySpec { values }), text)
    }

    #[test]
    fn the_longest_words_count_and_then_the_last() {
        let colours: &[(&str, &[&str])] =
            &[("red", &["crimson"]), ("blue", &["navy blue", "navy"]), ("grey", &["gray"])];
        for (text, value) in [
            ("the red one", Some("red")),
            ("Navy, please", Some("blue")),
            ("not the blue one, the gray one", Some("grey")),
            ("I was bored and tired", None),
            ("", None),
        ] {
            assert_eq!(find_in(colours, text).as_deref(), value, "{text}");
        }
        let mood: &[(&str, &[&str])] =
            &[("good", &["满意", "挺满意"]), ("great", &["非常满意"]), ("bad", &["不满意", "不太满意"])];
        for (text, value) in [("我不太满意吧", "bad"), ("还是非常满意的", "great"), ("满意", "good")]
        {
            assert_eq!(find_in(mood, text).as_deref(), Some(value), "{text}");
        }
    }
}
