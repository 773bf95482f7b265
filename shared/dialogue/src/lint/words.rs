//! What is said and what is understood.

use std::collections::{BTreeMap, BTreeSet};

use super::{Finding, Linter};
use crate::code::Code;
use crate::document::Type;
use crate::graph::NodeKind;
use crate::prompts::few_values;
use crate::scalar::Pos;
use crate::script::examples;

/// The most seconds that a customer listens to at a stretch.
const LONGEST_SECS: f64 = 12.0;
/// From this likeness on two examples sound the same to a classifier.
const ALIKE: f64 = 0.85;
/// The most examples that are compared with each other.
const MAX_COMPARED: usize = 2_000;

impl Linter<'_> {
    pub(super) fn texts(&mut self) {
        let document = self.document;
        let vars = examples(document);
        let chinese = document.locale.starts_with("zh");
        for node in &self.graph.nodes {
            let mut unready: BTreeSet<&str> = BTreeSet::new();
            for text in node.texts() {
                let secs = seconds(&text.fill(&vars, &vars), chinese);
                if secs > LONGEST_SECS {
                    self.findings.push(Finding::warning(
                        Code::LongPrompt,
                        node.pos,
                        format!("node `{}` speaks for about {secs:.0} s at a stretch", node.id),
                        "keep it under 12 s; ask something in between",
                    ));
                }
                let unset = text.vars().find(|name| {
                    document.vars.get(*name).is_some_and(|v| !v.required && v.default.is_none())
                });
                if let Some(name) = unset {
                    self.findings.push(Finding::warning(
                        Code::UnsetVariable,
                        node.pos,
                        format!("node `{}` says `{name}`, which may have no value", node.id),
                        "make it required, give it a default, or branch on it before",
                    ));
                }
                unready.extend(text.slots().filter(|slot| {
                    document.slots.get(*slot).is_some_and(|slot| {
                        !matches!(slot.kind, Type::Date | Type::Time) && few_values(slot).is_empty()
                    })
                }));
            }
            for slot in unready {
                self.findings.push(Finding::warning(
                    Code::NotPrerendered,
                    node.pos,
                    format!("node `{}` says `{slot}`, which can be anything, so it is synthesised in the call", node.id),
                    "leave the value out, or make the slot an enum, a date, a time or a number from min to max",
                ));
            }
            if node.say.is_none() && matches!(node.kind, NodeKind::End(_)) {
                self.findings.push(Finding::warning(
                    Code::SilentEnd,
                    node.pos,
                    format!("node `{}` hangs up without a word", node.id),
                    "say goodbye, unless what leads to it does",
                ));
            }
        }
    }

    pub(super) fn intents(&mut self) {
        let mut owners: BTreeMap<String, &str> = BTreeMap::new();
        let mut all: Vec<(&str, &str, Pos, Pairs)> = Vec::new();
        let document = self.document;
        for (name, intent) in &document.intents {
            let universal = crate::graph::UNIVERSAL.contains(&name.as_str());
            if intent.examples.len() < 8 && !universal {
                let message = format!("intent `{name}` has {} examples", intent.examples.len());
                self.warn(
                    Code::FewExamples,
                    intent.pos(),
                    message,
                    "twelve or more are recognised far better",
                );
            }
            for example in &intent.examples {
                let pos = example.pos().or(intent.pos());
                let plain: String =
                    example.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
                all.push((name, example, pos, pairs(&plain)));
                match owners.insert(plain, name) {
                    Some(other) if other != name => {
                        let message =
                            format!("`{}` is an example of both `{other}` and `{name}`", &**example);
                        self.error(Code::CollidingExamples, pos, message, "keep it with one of the two");
                        all.pop();
                    }
                    Some(_) => {
                        let message = format!("`{}` stands twice among the examples of `{name}`", &**example);
                        self.warn(Code::CollidingExamples, pos, message, "drop one");
                    }
                    None => {}
                }
            }
        }
        if all.len() > MAX_COMPARED {
            return;
        }
        for (i, (name, example, pos, sounds)) in all.iter().enumerate() {
            let near =
                all[..i].iter().find(|(other, _, _, theirs)| other != name && alike(sounds, theirs) >= ALIKE);
            if let Some((other, theirs, _, _)) = near {
                let message = format!("`{example}` of `{name}` sounds much like `{theirs}` of `{other}`");
                let remedy = "drop one of the two, or say what tells them apart";
                self.findings.push(Finding::warning(Code::CollidingExamples, *pos, message, remedy));
            }
        }
    }
}

/// How often each pair of neighbours stands in a text.
type Pairs = BTreeMap<(char, char), usize>;

fn pairs(plain: &str) -> Pairs {
    let mut out = Pairs::new();
    let chars: Vec<char> = plain.chars().take(200).collect();
    for pair in chars.windows(2) {
        *out.entry((pair[0], pair[1])).or_default() += 1;
    }
    out
}

/// Returns the share of pairs that two texts have in common, 0 to 1 (Dice's coefficient).
fn alike(a: &Pairs, b: &Pairs) -> f64 {
    let count = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    let common: usize = a.iter().map(|(pair, n)| b.get(pair).map_or(0, |m| *n.min(m))).sum();
    let all: usize = a.values().sum::<usize>() + b.values().sum::<usize>();
    if all < 8 { 0.0 } else { 2.0 * count(common) / count(all) }
}

/// Estimates how long a text is spoken, in seconds, at an unhurried pace.
fn seconds(text: &str, chinese: bool) -> f64 {
    let count = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    if chinese {
        count(text.chars().filter(|c| c.is_alphanumeric()).count()) / 4.5
    } else {
        count(text.chars().count()) / 15.0
    }
}
