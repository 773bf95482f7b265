//! What must be said before the first question.

use std::collections::{BTreeMap, BTreeSet};

use super::Linter;
use crate::code::Code;
use crate::document::{Disclosure, Document, Purpose, Type};
use crate::graph::{Barge, Node, NodeKind, Target};
use crate::script::examples;
use crate::wording::Template;

/// What a purpose demands to be told, whatever the script's `disclose` says.
const fn demands(purpose: Purpose) -> &'static [Disclosure] {
    match purpose {
        Purpose::DebtReminder => &[Disclosure::Ai, Disclosure::Recording, Disclosure::Identity],
        Purpose::Marketing => &[Disclosure::Ai, Disclosure::Identity],
        Purpose::Appointment | Purpose::Survey | Purpose::Notice | Purpose::Service => &[],
    }
}

impl Linter<'_> {
    pub(super) fn opening(&mut self) {
        let document = self.document;
        let wanted: BTreeSet<Disclosure> = document.disclose.iter().copied().collect();
        self.dropped(&wanted);
        let mut paths = Vec::new();
        self.openings(0, Vec::new(), &mut paths);
        let vars = examples(document);
        let (mut missed, mut open, mut generated) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut unheard = false;
        for path in &paths {
            let nodes: Vec<&Node> = path.iter().filter_map(|i| self.graph.nodes.get(*i)).collect();
            let Some(first) = nodes.first() else { continue };
            let arms: BTreeSet<Option<(&str, &str)>> = nodes
                .iter()
                .flat_map(|node| &node.arms)
                .map(|arm| Some((arm.experiment.as_str(), arm.name.as_str())))
                .chain([None])
                .collect();
            for arm in arms {
                let texts: Vec<&Template> = nodes.iter().filter_map(|node| said(node, arm)).collect();
                let spoken: Vec<String> = texts.iter().map(|t| t.fill(&vars, &BTreeMap::new())).collect();
                unheard |= tells_tone_of_voice(document, &spoken.join(" ")) == Some(false);
                for disclosure in &wanted {
                    if let Some(false) = discloses(*disclosure, document, &spoken.join(" "), &texts) {
                        missed.insert((first.pos, *disclosure, arm.map(|(_, arm)| arm.to_owned())));
                    }
                }
            }
            if !wanted.is_empty() && !nodes.iter().any(|n| matches!(n.barge_in, Barge::Off | Barge::Until(_)))
            {
                open.insert(first.pos);
            }
            generated.extend(nodes.iter().filter(|n| n.generate.is_some()).map(|n| (n.pos, n.id.clone())));
        }
        for pos in open {
            self.warn(
                Code::DisclosureUnprotected,
                pos,
                "the customer can break into the opening before it has told what it must",
                "add barge_in: {off_until: \"the last words that must be heard\"}",
            );
        }
        if let Some(wanted) = document.tone_of_voice.as_ref().filter(|wanted| ***wanted && unheard) {
            self.warn(
                Code::DisclosureMissing,
                wanted.pos(),
                "the opening does not tell that the tone of voice is listened to",
                "say it, such as 我们会留意您的语气 or we also listen to your tone of voice",
            );
        }
        for (pos, id) in generated {
            let message = format!("node `{id}` belongs to the opening and is generated");
            self.error(Code::NotPrerendered, pos, message, "give the opening fixed words");
        }
        for (pos, disclosure, arm) in missed {
            let (what, how) = match disclosure {
                Disclosure::Ai => {
                    ("that a machine speaks", "say it, such as 智能语音助手 or automated assistant")
                }
                Disclosure::Recording => {
                    ("that the call is recorded", "say it, such as 通话将被录音 or this call is recorded")
                }
                Disclosure::Identity => ("who is calling", "say it, best with a variable such as {org}"),
            };
            let arm = arm.map(|arm| format!(" in the arm `{arm}`")).unwrap_or_default();
            let message = format!("the opening does not tell {what} before the first question{arm}");
            self.error(Code::DisclosureMissing, pos, message, format!("{how}; or drop it from `disclose`"));
        }
    }

    fn dropped(&mut self, wanted: &BTreeSet<Disclosure>) {
        let purpose = &self.document.purpose;
        for (disclosure, name) in
            [(Disclosure::Ai, "ai"), (Disclosure::Recording, "recording"), (Disclosure::Identity, "identity")]
        {
            if wanted.contains(&disclosure) {
                continue;
            }
            let message = format!("`disclose` leaves out {name}");
            if demands(**purpose).contains(&disclosure) {
                let remedy = "add it, and say it in the opening; the purpose demands it";
                self.error(Code::DisclosureDropped, purpose.pos(), message, remedy);
            } else if disclosure != Disclosure::Recording {
                let remedy = "many places require that customers are told it; add it";
                self.warn(Code::DisclosureDropped, purpose.pos(), message, remedy);
            }
        }
    }

    /// Follows the nodes from `i` to the first that waits for the customer.
    fn openings(&self, i: usize, mut path: Vec<usize>, out: &mut Vec<Vec<usize>>) {
        let Some(node) = self.graph.nodes.get(i) else { return };
        if path.contains(&i) || path.len() > 16 || out.len() > 64 {
            return;
        }
        path.push(i);
        match &node.kind {
            NodeKind::Go(_) | NodeKind::Branch { .. } => {
                for target in node.targets() {
                    if let Target::Node(next) = target {
                        self.openings(next, path.clone(), out);
                    }
                }
            }
            NodeKind::Ask(_) | NodeKind::Transfer(_) | NodeKind::End(_) => out.push(path),
        }
    }
}

/// What a node says in an arm of an experiment.
fn said<'n>(node: &'n Node, arm: Option<(&str, &str)>) -> Option<&'n Template> {
    let own = arm.and_then(|(experiment, name)| {
        node.arms.iter().find(|arm| arm.experiment == experiment && arm.name == name)?.say.as_ref()
    });
    own.or(node.say.as_ref())
}

/// Says whether the opening tells that the tone of voice is listened to, or nothing for a language that we do
/// not know.
fn tells_tone_of_voice(document: &Document, spoken: &str) -> Option<bool> {
    let spoken = spoken.to_lowercase();
    let any = |words: &[&str]| words.iter().any(|word| spoken.contains(word));
    match document.locale.split(['-', '_']).next()? {
        "zh" => Some(any(&["语气", "情绪", "语调"])),
        "en" => Some(any(&["tone of voice", "tone of your voice", "how you speak", "emotion", "mood"])),
        _ => None,
    }
}

/// Says whether the opening tells it, or nothing for a language that we do not know.
fn discloses(what: Disclosure, document: &Document, spoken: &str, texts: &[&Template]) -> Option<bool> {
    let spoken = spoken.to_lowercase();
    let any = |words: &[&str]| words.iter().any(|word| spoken.contains(word));
    match (what, document.locale.split(['-', '_']).next()?) {
        (Disclosure::Ai, "zh") => Some(any(&["智能", "机器人", "人工智能", "ai", "虚拟助"])),
        (Disclosure::Ai, "en") => Some(any(&[
            "automated",
            "virtual assistant",
            "virtual agent",
            "robot",
            "artificial",
            "digital assistant",
            " ai ",
            "computer",
        ])),
        (Disclosure::Recording, "zh") => Some(any(&["录音", "录制"])),
        (Disclosure::Recording, "en") => Some(any(&["record"])),
        (Disclosure::Identity, language) => {
            let names_somebody = |var: &str| document.vars.get(var).is_some_and(|v| v.kind == Type::Text);
            let named = texts.iter().any(|t| t.vars().any(names_somebody));
            let words = match language {
                "zh" => any(&["这里是", "来自", "代表"]),
                "en" => any(&["calling from", "on behalf of", "this is"]),
                _ => return named.then_some(true),
            };
            Some(named || words)
        }
        (Disclosure::Ai | Disclosure::Recording, _) => None,
    }
}
