//! A pattern over words or characters, small enough for a script author to read.
//!
//! A pattern is a row of elements parted by spaces: `a|b` is one of these, `*` a short gap, and
//! what stands side by side must follow at once. English counts in words (with `_` for a space
//! inside an alternative), Mandarin in characters.

use crate::locale::Locale;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    elements: Vec<Element>,
    longest_gap: usize,
}

#[derive(Clone, Debug)]
enum Element {
    Gap,
    OneOf(Vec<Vec<String>>),
}

/// A text cut into the units that patterns count in.
#[derive(Clone, Debug)]
pub(crate) struct Units(Vec<String>);

impl Units {
    pub(crate) fn new(normal: &str, locale: Locale) -> Self {
        Self(match locale {
            Locale::Zh => normal.chars().filter(|c| *c != ' ').map(String::from).collect(),
            Locale::En => normal.split(' ').map(str::to_owned).collect(),
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Pattern {
    pub(crate) fn new(source: &str, locale: Locale) -> Self {
        let elements = source
            .split_whitespace()
            .map(|element| match element {
                "*" => Element::Gap,
                alternatives => Element::OneOf(
                    alternatives
                        .split('|')
                        .map(|text| Units::new(&text.replace('_', " "), locale).0)
                        .collect(),
                ),
            })
            .collect();
        let longest_gap = match locale {
            Locale::Zh => 6,
            Locale::En => 4,
        };
        Self { elements, longest_gap }
    }

    /// Returns how many units the first match covers.
    pub(crate) fn find(&self, units: &Units) -> Option<usize> {
        (0..units.0.len())
            .find_map(|start| self.match_at(&self.elements, &units.0[start..]).filter(|covered| *covered > 0))
    }

    fn match_at(&self, elements: &[Element], units: &[String]) -> Option<usize> {
        let Some((element, rest)) = elements.split_first() else {
            return Some(0);
        };
        match element {
            Element::Gap => (0..=self.longest_gap.min(units.len()))
                .find_map(|skipped| self.match_at(rest, &units[skipped..]).map(|covered| covered + skipped)),
            Element::OneOf(alternatives) => alternatives.iter().find_map(|alternative| {
                let after = units.strip_prefix(alternative.as_slice())?;
                self.match_at(rest, after).map(|covered| covered + alternative.len())
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(pattern: &str, text: &str, locale: Locale) -> Option<usize> {
        Pattern::new(pattern, locale).find(&Units::new(text, locale))
    }

    #[test]
    fn a_gap_is_short_and_neighbours_touch() {
        assert_eq!(covers("别|不要 * 打了", "你们别老给我打了", Locale::Zh), Some(6));
        assert_eq!(covers("别 打了", "别再打了", Locale::Zh), None);
        assert_eq!(covers("stop * calling", "please stop calling me", Locale::En), Some(2));
        assert_eq!(covers("stop * calling", "stop it is not what i am calling", Locale::En), None);
    }

    #[test]
    fn english_matches_whole_words_and_underscores_join_them() {
        assert_eq!(covers("call me", "recall me", Locale::En), None);
        assert_eq!(covers("do_not call", "do not call", Locale::En), Some(3));
    }
}
