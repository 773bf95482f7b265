//! The intents that every script has: their examples, and the rules that decide before any model.
//!
//! The wording lives in `data/universal.{zh,en}.toml`, which also explains the kinds of rule.
//! `opt_out` and `ask_human` are rights, not preferences: their rules are read first and do not
//! ask what the node expects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde::Deserialize;

use crate::locale::Locale;
use crate::pattern::{Pattern, Units};
use crate::text::{normalise, syllables};

/// The names of the universal intents, in the order in which their rules are tried.
pub const UNIVERSAL: [&str; 9] =
    ["opt_out", "ask_human", "ask_robot", "yes", "no", "repeat", "wait", "busy", "who_are_you"];

/// The two that win wherever the dialogue stands.
pub(crate) const ALWAYS: [&str; 2] = ["opt_out", "ask_human"];

/// What an author may say about one intent in the data file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Entry {
    examples: Vec<String>,
    exact: Vec<String>,
    weak: Vec<String>,
    hard: Vec<String>,
    patterns: Vec<String>,
    never: Vec<String>,
}

/// The universal intents of one language, compiled.
#[derive(Debug)]
pub(crate) struct Universal {
    locale: Locale,
    intents: Vec<Intent>,
    /// Talk that belongs to no intent: the heads learn it as one more class, which is never told.
    pub(crate) background: Vec<String>,
}

#[derive(Debug)]
struct Intent {
    name: &'static str,
    examples: Vec<String>,
    exact: BTreeSet<String>,
    weak: BTreeSet<String>,
    exact_sounds: BTreeSet<Vec<String>>,
    weak_sounds: BTreeSet<Vec<String>>,
    hard: Vec<Pattern>,
    patterns: Vec<Pattern>,
    never: Vec<Pattern>,
}

/// What a rule found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RuleHit {
    pub(crate) intent: &'static str,
    pub(crate) score: f32,
    /// Decides alone; otherwise it only speaks for the intent.
    pub(crate) decides: bool,
}

static ZH: LazyLock<Universal> =
    LazyLock::new(|| Universal::read(include_str!("../data/universal.zh.toml"), Locale::Zh));
static EN: LazyLock<Universal> =
    LazyLock::new(|| Universal::read(include_str!("../data/universal.en.toml"), Locale::En));

impl Universal {
    pub(crate) fn of(locale: Locale) -> &'static Self {
        match locale {
            Locale::Zh => &ZH,
            Locale::En => &EN,
        }
    }

    /// The files are part of the program and a test reads both, so a bad one cannot be shipped.
    fn read(source: &str, locale: Locale) -> Self {
        let mut entries: BTreeMap<String, Entry> = match toml::from_str(source) {
            Ok(entries) => entries,
            Err(error) => panic!("the universal intents of {locale:?} do not parse: {error}"),
        };
        let background = entries.remove("background").unwrap_or_default().examples;
        let intents = UNIVERSAL
            .iter()
            .map(|name| Intent::new(name, entries.remove(*name).unwrap_or_default(), locale))
            .collect();
        Self { locale, intents, background }
    }

    /// Returns the examples of each intent.
    pub(crate) fn examples(&self) -> impl Iterator<Item = (&'static str, &[String])> {
        self.intents.iter().map(|intent| (intent.name, intent.examples.as_slice()))
    }

    /// Says whether the whole answer is `intent`, as in `是的` for yes.
    pub(crate) fn is_exactly(&self, intent: &str, normal: &str) -> bool {
        self.intents.iter().any(|known| known.name == intent && known.exact.contains(normal))
    }

    /// Reads the rules of `opt_out` and `ask_human`, which nothing outranks.
    pub(crate) fn right(&self, normal: &str) -> Option<RuleHit> {
        let units = Units::new(normal, self.locale);
        self.intents
            .iter()
            .filter(|intent| ALWAYS.contains(&intent.name))
            .find(|intent| {
                intent.exact.contains(normal)
                    || finds(&intent.hard, &units)
                    || (finds(&intent.patterns, &units) && !finds(&intent.never, &units))
            })
            .map(|intent| RuleHit { intent: intent.name, score: 0.99, decides: true })
    }

    /// The intents of which a rule says that this is not one: `打断` is no `打`.
    pub(crate) fn doubted(&self, normal: &str) -> Vec<&'static str> {
        let units = Units::new(normal, self.locale);
        let doubted = self.intents.iter().filter(|i| finds(&i.never, &units));
        doubted.map(|intent| intent.name).collect()
    }

    /// Reads all other rules; the first that decides ends the search.
    pub(crate) fn rules(&self, normal: &str, expected: &[&str]) -> Vec<RuleHit> {
        let wanted = |intent: &&Intent| expected.contains(&intent.name);
        let decided = |intent: &Intent, score| vec![RuleHit { intent: intent.name, score, decides: true }];
        if let Some(intent) = self.intents.iter().find(|i| i.exact.contains(normal)) {
            return decided(intent, 0.98);
        }
        let mut wanted_ones = self.intents.iter().filter(wanted);
        if let Some(intent) = wanted_ones.find(|i| i.weak.contains(normal)) {
            return decided(intent, 0.9);
        }
        if let Some(sounds) = self.sounds(normal) {
            let lone = sounds.len() == 1;
            let heard = |intent: &&Intent| {
                (!lone || wanted(intent)) && intent.exact_sounds.contains(&sounds)
                    || wanted(intent) && intent.weak_sounds.contains(&sounds)
            };
            if let Some(intent) = self.intents.iter().find(heard) {
                return decided(intent, 0.85);
            }
        }
        let units = Units::new(normal, self.locale);
        let mut hits = Vec::new();
        for intent in &self.intents {
            let covered = intent.patterns.iter().filter_map(|p| p.find(&units)).max();
            let Some(covered) = covered.filter(|_| !finds(&intent.never, &units)) else {
                continue;
            };
            if covered * 2 >= units.len() {
                return decided(intent, 0.9);
            }
            hits.push(RuleHit { intent: intent.name, score: 0.6, decides: false });
        }
        hits
    }

    /// The syllables of a short Mandarin answer. Numbers are left alone: `四` is not a lisped `是`.
    fn sounds(&self, normal: &str) -> Option<Vec<String>> {
        let short = normal.chars().count() <= 6;
        let number = normal.contains(|c: char| "零一二三四五六七八九十百千万两".contains(c));
        let spoken = self.locale == Locale::Zh && short && !number && !normal.is_empty();
        spoken.then(|| blurred(normal))
    }
}

/// Syllables with the differences taken out that southern accents do not make and recognisers
/// confuse on the telephone: zh/z, ch/c, sh/s, and -ng/-n.
fn blurred(text: &str) -> Vec<String> {
    syllables(text)
        .into_iter()
        .map(|syllable| {
            let mut s = syllable.to_owned();
            if s.is_ascii() && s.len() > 2 {
                if s[1..].starts_with('h') {
                    s.remove(1);
                }
                if s.ends_with("ng") {
                    s.pop();
                }
            }
            s
        })
        .collect()
}

fn finds(patterns: &[Pattern], units: &Units) -> bool {
    patterns.iter().any(|pattern| pattern.find(units).is_some())
}

impl Intent {
    fn new(name: &'static str, entry: Entry, locale: Locale) -> Self {
        let normal = |texts: &[String]| -> BTreeSet<String> {
            texts.iter().map(|text| normalise(text, locale)).collect()
        };
        let sounds = |texts: &BTreeSet<String>| -> BTreeSet<Vec<String>> {
            match locale {
                Locale::Zh => texts.iter().map(|text| blurred(text)).collect(),
                Locale::En => BTreeSet::new(),
            }
        };
        let compile = |sources: &[String]| -> Vec<Pattern> {
            sources.iter().map(|source| Pattern::new(source, locale)).collect()
        };
        let (exact, weak) = (normal(&entry.exact), normal(&entry.weak));
        Self {
            name,
            exact_sounds: sounds(&exact),
            weak_sounds: sounds(&weak),
            exact,
            weak,
            hard: compile(&entry.hard),
            patterns: compile(&entry.patterns),
            never: compile(&entry.never),
            examples: entry.examples,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_languages_have_fifteen_to_fifty_examples_of_every_universal_intent() {
        for locale in [Locale::Zh, Locale::En] {
            let universal = Universal::of(locale);
            assert!(universal.background.len() >= 30);
            for (name, examples) in universal.examples() {
                assert!((15..=60).contains(&examples.len()), "{locale:?} {name}");
            }
        }
    }

    #[test]
    fn no_short_answer_means_two_things() {
        for locale in [Locale::Zh, Locale::En] {
            let mut seen = BTreeMap::new();
            for intent in &Universal::of(locale).intents {
                for text in &intent.exact {
                    assert!(!text.is_empty());
                    if let Some(other) = seen.insert(text.clone(), intent.name) {
                        panic!("`{text}` is both {other} and {}", intent.name);
                    }
                }
            }
        }
    }

    #[test]
    fn a_homophone_of_a_short_answer_is_that_answer() {
        let zh = Universal::of(Locale::Zh);
        let first = |text, expected: &[&str]| zh.rules(text, expected).first().map(|h| h.intent);
        assert_eq!(first("事的", &[]), Some("yes"));
        assert_eq!(first("不适", &[]), Some("no"));
        assert_eq!(first("可已", &[]), Some("yes"));
        assert_eq!(first("队", &["yes", "no"]), Some("yes"));
        assert_eq!(first("队", &[]), None, "one syllable alone proves nothing");
        assert_eq!(first("四", &["yes", "no"]), None, "a number is a number");
    }
}
