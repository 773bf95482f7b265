//! One node: what it says, what kind it is, where its answers lead.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Compiler, MAX_TEXT_CHARS, Pick};
use crate::action::Endpoint;
use crate::code::Code;
use crate::document::{self, Act, BargeInSpec, CONTROL, ListenSpec};
use crate::graph::{
    ANY, Arm, Ask, Barge, Edge, Ending, FILLED, Generated, Ladder, NO_INPUT, NO_MATCH, Node, NodeKind, Target,
};
use crate::lint::did_you_mean;
use crate::scalar::{At, Pause, Pos};
use crate::wording::Template;

/// How long silence may last where nobody says.
const NO_INPUT_AFTER: Duration = Duration::from_secs(5);
/// How often a ladder of our own speaks.
const LADDER_MAX: u8 = 2;
/// How long words may be waited for where nobody says.
const GENERATE_BUDGET: Duration = Duration::from_millis(800);
const GENERATE_BUDGET_MAX: Duration = Duration::from_secs(3);
/// The most characters of a lead-in.
const MAX_LEAD_IN: usize = 24;
/// How many characters may be generated where nobody says.
const GENERATE_CHARS: u16 = 120;

impl Compiler<'_> {
    pub(super) fn node(&mut self, node: &At<document::Node>) -> Node {
        let pos = node.pos();
        let generate = node.generate.as_ref().map(|spec| self.generate(spec));
        let (generate, fallback) = generate.map_or((None, None), |(g, f)| (Some(g), Some(f)));
        if let (Some(spec), true) = (&node.generate, node.say.is_some()) {
            let message = format!("node `{}` has both say and generate", &*node.id);
            self.error(Code::TwoKinds, spec.pos(), message, "put the wording into generate.fallback");
        }
        let say = node.say.as_ref().map(|text| self.text(text, pos)).or(fallback);
        let again = node.again.as_ref().map(|text| self.text(text, pos));
        let barge_in = self.barge_in(node);
        let set = self.sets(&node.set, pos);
        let kind = self.kind(node);
        let arms = self.arms(node, &kind);
        let asks = matches!(kind, NodeKind::Ask(_));
        if say.is_none() && asks {
            self.error(
                Code::NoQuestion,
                pos,
                format!("node `{}` asks without words", &*node.id),
                "give it a `say`",
            );
        }
        Node {
            id: node.id.to_string(),
            pos,
            say,
            again,
            generate,
            arms,
            barge_in,
            set,
            suppress: node.acts.contains(&Act::Suppress),
            kind,
        }
    }

    fn barge_in(&mut self, node: &document::Node) -> Barge {
        match node.barge_in.as_ref().or(self.doc.defaults.barge_in.as_ref()) {
            None => Barge::On,
            Some(spec) => match &**spec {
                BargeInSpec::On => Barge::On,
                BargeInSpec::Off => Barge::Off,
                BargeInSpec::OffUntil(words) => {
                    let fallback = node.generate.as_ref().map(|generate| &generate.fallback);
                    let say = node.say.as_ref().or(fallback);
                    let inside = say.is_some_and(|say| say.contains(words.trim()));
                    if words.trim().is_empty() || !inside {
                        self.error(
                            Code::ProtectedWords,
                            spec.pos(),
                            format!("the protected words `{words}` do not stand in the prompt"),
                            "copy them from `say`",
                        );
                    }
                    Barge::Until(Template::parse(words).unwrap_or_default())
                }
            },
        }
    }

    fn generate(&mut self, spec: &At<document::GenerateSpec>) -> (Generated, Template) {
        let pos = spec.pos();
        let budget = spec.budget.map_or(GENERATE_BUDGET, Pause::get);
        let max_chars = usize::from(spec.max_chars.unwrap_or(GENERATE_CHARS));
        if budget > GENERATE_BUDGET_MAX || budget.is_zero() {
            let remedy = "use up to 3s; a customer who waits longer hangs up";
            self.error(Code::OutOfRange, pos, "generate.budget is out of range", remedy);
        }
        if !(10..=MAX_TEXT_CHARS).contains(&max_chars) {
            self.error(Code::OutOfRange, pos, "generate.max_chars is out of range", "use 10 to 600");
        }
        let lead_in = spec.lead_in.as_ref().map(|words| words.trim().to_owned()).unwrap_or_default();
        if let Some(words) = &spec.lead_in
            && !is_lead_in(&lead_in)
        {
            let remedy = "write a word or two that end in a mark, such as 好的， or Sure.";
            self.error(Code::LeadIn, words.pos().or(pos), "generate.lead_in is no lead-in", remedy);
        }
        let (prompt, fallback) = (self.text(&spec.prompt, pos), self.text(&spec.fallback, pos));
        (Generated { prompt, budget, max_chars, lead_in }, fallback)
    }

    fn arms(&mut self, node: &At<document::Node>, kind: &NodeKind) -> Vec<Arm> {
        let mut out = Vec::new();
        for (name, spec) in &node.arms {
            let pos = spec.pos();
            let Some((experiment, name)) = self.arm_name(name, pos) else { continue };
            let say = spec.say.as_ref().map(|text| self.text(text, pos));
            let again = spec.again.as_ref().map(|text| self.text(text, pos));
            let next = spec.next.as_ref().map(|target| self.target(target, pos));
            if next.is_some() && !matches!(kind, NodeKind::Go(_)) {
                let remedy = "give the arm a `next` where the node has one; answers have arms of their own";
                self.error(Code::StrayField, pos, "an arm goes on from a node that does not", remedy);
            }
            if say.is_none() && again.is_none() && next.is_none() {
                self.error(Code::StrayField, pos, "an arm changes nothing", "give it a `say` or a `next`");
            }
            if let (Some(spec), true) = (&node.generate, say.is_some()) {
                let message = "an arm has words and the node generates its own";
                self.error(Code::StrayField, spec.pos(), message, "make it two nodes with a branch before");
            }
            if let (Some(text), Some(BargeInSpec::OffUntil(words))) = (&spec.say, node.barge_in.as_deref())
                && !text.contains(words.trim())
            {
                let message = format!("the protected words `{words}` do not stand in the arm's prompt");
                self.error(Code::ProtectedWords, pos, message, "say them in every arm");
            }
            out.push(Arm { experiment, name, say, again, next });
        }
        out
    }

    /// Splits `experiment.arm` and says whether there is such an arm to change something for.
    fn arm_name(&mut self, name: &str, pos: Pos) -> Option<(String, String)> {
        let (experiment, arm) = name.split_once('.').unwrap_or((name, ""));
        let known = self.names.arms.get(experiment).cloned();
        let problem = match &known {
            None => {
                let all: Vec<&str> = self.names.arms.keys().map(String::as_str).collect();
                Some((format!("there is no experiment `{experiment}`"), did_you_mean(experiment, &all)))
            }
            Some(_) if arm == CONTROL => Some((
                format!("`{CONTROL}` says and does what stands in the node"),
                "name another arm".to_owned(),
            )),
            Some(arms) if !arms.contains(arm) => {
                let all: Vec<&str> = arms.iter().map(String::as_str).collect();
                let remedy = format!("write experiment.arm; {}", did_you_mean(arm, &all));
                Some((format!("experiment `{experiment}` has no arm `{arm}`"), remedy))
            }
            Some(_) => None,
        };
        match problem {
            Some((message, remedy)) => {
                self.error(Code::UnknownArm, pos, message, remedy);
                None
            }
            None => Some((experiment.to_owned(), arm.to_owned())),
        }
    }

    fn kind(&mut self, node: &At<document::Node>) -> NodeKind {
        let (pos, id) = (node.pos(), node.id.as_str());
        let asks = !node.on.is_empty() || node.listen.is_some() || !node.fill.is_empty();
        let kinds: Vec<&str> = [
            (asks, "on/listen/fill"),
            (!node.branch.is_empty(), "branch"),
            (node.transfer.is_some(), "transfer"),
            (node.end.is_some(), "end"),
            (node.next.is_some(), "next"),
        ]
        .iter()
        .filter_map(|(there, name)| there.then_some(*name))
        .collect();
        if let [first, second, ..] = kinds.as_slice() {
            let message = format!("node `{id}` has both {first} and {second}");
            self.error(Code::TwoKinds, pos, message, "a node does one thing; split it in two");
        }
        if node.otherwise.is_some() && node.branch.is_empty() {
            self.error(
                Code::StrayField,
                pos,
                format!("node `{id}` has `else` without `branch`"),
                "add a branch, or use next",
            );
        }
        if node.again.is_some() && !asks {
            self.error(
                Code::StrayField,
                pos,
                format!("node `{id}` has `again` and asks nothing"),
                "drop `again`",
            );
        }
        if asks {
            return NodeKind::Ask(Box::new(self.ask(node)));
        }
        if !node.branch.is_empty() {
            let cases = node
                .branch
                .iter()
                .filter_map(|case| {
                    let target = self.target(&case.then, case.pos());
                    self.guard(&case.when, case.pos()).map(|expr| (expr, target))
                })
                .collect();
            let otherwise = match &node.otherwise {
                Some(name) => self.target(name, pos),
                None => {
                    self.error(Code::NoElse, pos, format!("branch `{id}` has no `else`"), "add else: node");
                    Target::Leave
                }
            };
            return NodeKind::Branch { cases, otherwise };
        }
        if let Some(spec) = &node.transfer {
            let transfer = self.transfer(spec, spec.pos());
            return NodeKind::Transfer(transfer);
        }
        if let Some(code) = &node.end {
            return NodeKind::End(self.ending(code, pos));
        }
        if let Some(next) = &node.next {
            return NodeKind::Go(self.target(next, pos));
        }
        self.error(
            Code::DeadEnd,
            pos,
            format!("node `{id}` leads nowhere"),
            "give it one of on, branch, transfer, end, next",
        );
        NodeKind::End(Ending::Auto)
    }

    fn ask(&mut self, node: &At<document::Node>) -> Ask {
        let pos = node.pos();
        let none = ListenSpec::default();
        let own = node.listen.as_ref().unwrap_or(&none);
        let inherited = self.doc.defaults.listen.as_ref().unwrap_or(&none);
        let mut expect = BTreeSet::new();
        for name in own.expect.iter().chain(&inherited.expect) {
            self.intent(name, name.pos().or(pos));
            expect.insert(name.to_string());
        }
        let hot_words = own.hot_words.iter().chain(&inherited.hot_words).map(|w| self.text(w, pos)).collect();
        let fill = self.fills(&node.fill, pos);
        let mut on = BTreeMap::new();
        let (mut filled, mut any) = (None, None);
        for (name, edge) in &node.on {
            match name.as_str() {
                NO_INPUT | NO_MATCH => {}
                FILLED => {
                    if fill.is_empty() {
                        let message = format!("node `{}` has `filled` and fills nothing", &*node.id);
                        self.error(Code::FillWithoutFilled, edge.pos(), message, "add fill: {slot: kind}");
                    }
                    filled = Some(self.edge(edge));
                }
                ANY => any = Some(self.edge(edge)),
                "opt_out" => self.error(
                    Code::OptOut,
                    edge.pos(),
                    "opt_out cannot be answered by a node",
                    "drop it; every script honours it from anywhere. Its wording is a digression's",
                ),
                intent => {
                    self.intent(intent, edge.pos());
                    expect.insert(intent.to_owned());
                    let edge = self.edge(edge);
                    on.insert(intent.to_owned(), edge);
                }
            }
        }
        if !fill.is_empty() && filled.is_none() {
            let message = format!("node `{}` fills slots and has no `filled`", &*node.id);
            self.error(Code::FillWithoutFilled, pos, message, "add filled: node to its `on`");
        }
        let no_input = self.ladder(node, NO_INPUT);
        let no_match = self.ladder(node, NO_MATCH);
        Ask {
            no_input_after: own.no_input.or(inherited.no_input).map_or(NO_INPUT_AFTER, Pause::get),
            endpoint: own.endpoint.or(inherited.endpoint).map_or(Endpoint::Normal, Endpoint::from),
            expect: expect.into_iter().collect(),
            hot_words,
            fill,
            on,
            filled,
            any,
            no_input,
            no_match,
        }
    }

    fn edge(&mut self, edge: &At<document::Edge>) -> Edge {
        let pos = edge.pos();
        if edge.max.is_some() {
            self.error(Code::StrayField, pos, "`max` belongs to no_input and no_match", "drop it");
        }
        if edge.say.len() > 1 {
            self.error(
                Code::StrayField,
                pos,
                "an edge says one thing",
                "several wordings belong to no_input and no_match",
            );
        }
        Edge {
            say: edge.say.first().map(|text| self.text(text, pos)),
            then: self.target(&edge.then, pos),
            set: self.sets(&edge.set, pos),
            fill: self.fills(&edge.fill, pos),
            confirms: edge.confirms,
            arms: edge
                .arms
                .iter()
                .filter_map(|(name, to)| {
                    let (experiment, arm) = self.arm_name(name, to.pos().or(pos))?;
                    Some((experiment, arm, self.target(to, pos)))
                })
                .collect(),
        }
    }

    fn ladder(&mut self, node: &At<document::Node>, name: &'static str) -> Ladder {
        let doc = self.doc;
        let Some(edge) = node.on.get(name).or_else(|| doc.defaults.on.get(name)) else {
            let (say, then): (Pick, _) = match name {
                NO_INPUT => (|b| b.no_input, Target::Leave),
                _ => (|b| b.no_match, Target::Handoff),
            };
            let say = self.own(say, node.pos(), name);
            return Ladder { say: vec![say], reask: true, max: LADDER_MAX, then };
        };
        let pos = edge.pos();
        if !edge.set.is_empty() || !edge.fill.is_empty() {
            let remedy = "set them at the node that it leads to";
            self.error(Code::StrayField, pos, format!("{name} can set no slots"), remedy);
        }
        if edge.confirms || !edge.arms.is_empty() {
            let message = format!("{name} is no answer, so it confirms nobody and has no arms");
            self.error(Code::StrayField, pos, message, "drop `confirms` and `arms`");
        }
        let say: Vec<Template> = edge.say.iter().map(|text| self.text(text, pos)).collect();
        let steps = u8::try_from(say.len()).unwrap_or(u8::MAX);
        let max = edge.max.unwrap_or(steps);
        if max > 5 || (max == 0 && edge.max.is_some()) {
            self.error(
                Code::OutOfRange,
                pos,
                format!("{name} speaks {max} times before it gives up"),
                "use max: 1 to 5",
            );
        }
        let reask = say.is_empty();
        Ladder { say, reask, max, then: self.target(&edge.then, pos) }
    }
}

/// A few words that a voice can stop after, without places for values.
fn is_lead_in(words: &str) -> bool {
    let ends = words.ends_with(['，', '。', '！', '？', ',', '.', '!', '?']);
    let spoken = words.chars().any(char::is_alphanumeric);
    ends && spoken && words.chars().count() <= MAX_LEAD_IN && !words.contains(['{', '}'])
}
