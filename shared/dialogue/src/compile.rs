//! From the file to the graph: resolves names, reads guards and texts, and says what is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use trunkline_model::Outcome;

use crate::code::Code;
use crate::document::{Document, TransferSpec, Type};
use crate::entities;
use crate::expr::{Expr, Names, type_name};
use crate::graph::{Ending, Fill, Graph, HANDOFF, Node, NodeKind, RETURN, Target, Transfer, UNIVERSAL};
use crate::lint::{Finding, did_you_mean};
use crate::scalar::{At, Pause, Pos};
use crate::vars;
use crate::wording::{Builtin, Template, builtin};

mod declared;
mod digressions;
mod node;

/// The longest text, in characters, before variables.
const MAX_TEXT_CHARS: usize = 600;
/// How long a hand-over rings where nobody says.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(20);

/// Compiles a document. There is a graph when none of the findings is an error.
pub(crate) fn compile(doc: &Document) -> (Option<Graph>, Vec<Finding>) {
    let mut compiler = Compiler::new(doc);
    let graph = compiler.graph();
    let findings = compiler.findings;
    let broken = findings.iter().any(Finding::is_error);
    (graph.filter(|_| !broken), findings)
}

/// Takes one of our own wordings.
type Pick = fn(&Builtin) -> &'static str;

struct Compiler<'d> {
    doc: &'d Document,
    names: Names,
    by_id: BTreeMap<String, usize>,
    outcomes: BTreeMap<String, Outcome>,
    builtin: Option<&'static Builtin>,
    findings: Vec<Finding>,
}

impl<'d> Compiler<'d> {
    fn new(doc: &'d Document) -> Self {
        let mut by_id = BTreeMap::new();
        for (i, node) in doc.nodes.iter().enumerate() {
            by_id.entry(node.id.to_string()).or_insert(i);
        }
        let names = Names {
            vars: doc.vars.iter().map(|(n, v)| (n.clone(), (v.kind, v.values.clone()))).collect(),
            slots: doc.slots.iter().map(|(n, s)| (n.clone(), (s.kind, s.values.clone()))).collect(),
            intents: doc.intents.keys().cloned().chain(UNIVERSAL.map(str::to_owned)).collect(),
            nodes: by_id.keys().cloned().collect(),
            arms: doc
                .experiments
                .iter()
                .map(|(name, e)| (name.clone(), e.arms.keys().cloned().collect()))
                .collect(),
        };
        let outcomes = doc
            .outcomes
            .iter()
            .map(|rule| {
                let label = rule.label.clone().unwrap_or_default();
                (rule.code.to_string(), Outcome { code: rule.code.to_string(), label })
            })
            .collect();
        Self { doc, names, by_id, outcomes, builtin: builtin(&doc.locale), findings: Vec::new() }
    }

    fn error(&mut self, code: Code, pos: Pos, message: impl Into<String>, remedy: impl Into<String>) {
        self.findings.push(Finding::error(code, pos, message, remedy));
    }

    fn graph(&mut self) -> Option<Graph> {
        let doc = self.doc;
        self.check_head();
        self.check_values();
        let nodes: Vec<Node> = doc.nodes.iter().map(|node| self.node(node)).collect();
        if nodes.is_empty() {
            self.error(
                Code::NoNodes,
                Pos::default(),
                "the script has no nodes",
                "add a node that speaks first",
            );
            return None;
        }
        let opt_out = self.opt_out();
        let digressions = self.digressions();
        let handoff = &doc.handoff;
        let pos = handoff.pos();
        let handoff_when = handoff.when.as_ref().and_then(|when| self.guard(when, pos));
        let handoff_rules: Vec<(Expr, String)> = handoff
            .rules
            .iter()
            .filter_map(|rule| {
                if rule.to.trim().is_empty() {
                    let remedy = "name where to, such as to: branch";
                    self.error(Code::BadHandoff, rule.pos(), "a hand-over goes nowhere", remedy);
                }
                Some((self.guard(&rule.when, rule.pos())?, rule.to.clone()))
            })
            .collect();
        let handoff_say = match &handoff.say {
            Some(say) => self.text(say, pos),
            None => self.own(|b| b.handoff, pos, "handoff.say"),
        };
        let handoff = self.transfer(
            &TransferSpec {
                to: handoff.to.clone(),
                timeout: handoff.timeout,
                wait: handoff.wait.clone(),
                music: handoff.music,
                whisper: handoff.whisper.clone(),
                fail: handoff.fail.clone(),
                outcome: handoff.outcome.clone(),
            },
            pos,
        );
        let rules = self.rules();
        let lost = match &doc.goodbye_when_lost {
            Some(text) => self.text_of_the_box(text, "goodbye_when_lost"),
            None => self.own(|b| b.lost, Pos::default(), "goodbye_when_lost"),
        };
        let to_machines = doc.answered_by.as_ref();
        let voicemail = to_machines
            .and_then(|rules| rules.voicemail.as_ref())
            .map(|text| self.text_of_the_box(text, "answered_by.voicemail"));
        let screener = to_machines
            .and_then(|rules| rules.screener.as_ref())
            .map(|text| self.text_of_the_box(text, "answered_by.screener"));
        let or_lost = |own: Option<&'static str>| own.map_or_else(|| lost.clone(), Template::plain);
        let (goodbye, silence) =
            (or_lost(self.builtin.map(|b| b.goodbye)), or_lost(self.builtin.map(|b| b.silence)));
        let (mut heard, mut visited) = (BTreeSet::new(), BTreeSet::new());
        for expr in nodes
            .iter()
            .flat_map(|node| match &node.kind {
                NodeKind::Branch { cases, .. } => cases.as_slice(),
                NodeKind::Ask(_) | NodeKind::Go(_) | NodeKind::Transfer(_) | NodeKind::End(_) => &[],
            })
            .map(|(expr, _)| expr)
            .chain(rules.iter().filter_map(|(_, when)| when.as_ref()))
            .chain(&handoff_when)
            .chain(handoff_rules.iter().map(|(when, _)| when))
        {
            expr.remembers(&mut heard, &mut visited);
        }
        Some(Graph {
            nodes,
            by_id: self.by_id.clone(),
            slot_types: self.names.slots.clone(),
            slot_ranges: doc.slots.iter().map(|(name, s)| (name.clone(), (s.min, s.max))).collect(),
            entities: entities::all(doc.entities.iter().map(|(name, spec)| (name, &**spec))),
            digressions,
            opt_out,
            handoff,
            handoff_say,
            handoff_when,
            handoff_rules,
            rules,
            goodbye,
            silence,
            lost,
            voicemail,
            screener,
            max_turns: doc.limits.turns,
            remember_heard: heard,
            remember_visited: visited,
        })
    }

    /// A text that the box says by itself, where nothing is known but the variables.
    fn text_of_the_box(&mut self, text: &At<String>, name: &str) -> Template {
        let template = self.text(text, text.pos());
        if let Some(slot) = template.slots().next() {
            let message = format!("{name} uses the slot `{slot}`, which the box does not know");
            self.error(Code::UnknownSlot, text.pos(), message, "use variables only");
        }
        template
    }

    fn text(&mut self, text: &At<String>, fallback: Pos) -> Template {
        let pos = text.pos().or(fallback);
        if text.trim().is_empty() {
            self.error(Code::EmptyText, pos, "a text is empty", "write what is to be said, or drop it");
        }
        if text.chars().count() > MAX_TEXT_CHARS {
            let message = format!("a text has more than {MAX_TEXT_CHARS} characters");
            self.error(Code::TextTooLong, pos, message, "split it over several turns");
        }
        let template = match Template::parse(text) {
            Ok(template) => template,
            Err((message, remedy)) => {
                self.error(Code::BadPlaceholder, pos, message, remedy);
                return Template::default();
            }
        };
        for name in template.vars() {
            if !self.names.vars.contains_key(name) {
                let known: Vec<&str> = self.names.vars.keys().map(String::as_str).collect();
                let remedy = did_you_mean(name, &known);
                self.error(
                    Code::UnknownVariable,
                    pos,
                    format!("the text uses a variable `{name}` that is not declared"),
                    remedy,
                );
            }
        }
        for name in template.slots() {
            if !self.names.slots.contains_key(name) {
                let known: Vec<&str> = self.names.slots.keys().map(String::as_str).collect();
                let remedy = did_you_mean(name, &known);
                self.error(
                    Code::UnknownSlot,
                    pos,
                    format!("the text uses a slot `{name}` that is not declared"),
                    remedy,
                );
            }
        }
        template
    }

    /// Takes one of our own wordings, where there is one for the language.
    fn own(&mut self, pick: Pick, pos: Pos, what: &str) -> Template {
        match self.builtin {
            // One of them names the organisation, so they are templates too.
            Some(builtin) => Template::parse(pick(builtin)).unwrap_or_default(),
            None => {
                let message = format!("there is no wording of our own for locale `{}`", &*self.doc.locale);
                self.error(Code::NoWording, pos.or(self.doc.locale.pos()), message, format!("write {what}"));
                Template::default()
            }
        }
    }

    fn guard(&mut self, text: &At<String>, fallback: Pos) -> Option<Expr> {
        match Expr::parse(text, &self.names) {
            Ok(expr) => Some(expr),
            Err(e) => {
                let mut pos = text.pos().or(fallback);
                // Right for a guard on one line; a quote before it is not counted.
                pos.column += u32::try_from(e.at).unwrap_or(0);
                self.error(e.code, pos, format!("guard `{}`: {}", &**text, e.message), e.remedy);
                None
            }
        }
    }

    fn target(&mut self, name: &At<String>, fallback: Pos) -> Target {
        match name.as_str() {
            HANDOFF => Target::Handoff,
            RETURN => Target::Return,
            id => match self.by_id.get(id) {
                Some(&i) => Target::Node(i),
                None => {
                    let known: Vec<&str> =
                        self.by_id.keys().map(String::as_str).chain([HANDOFF, RETURN]).collect();
                    let remedy = did_you_mean(id, &known);
                    self.error(
                        Code::UnknownNode,
                        name.pos().or(fallback),
                        format!("there is no node `{id}`"),
                        remedy,
                    );
                    Target::Leave
                }
            },
        }
    }

    fn intent(&mut self, name: &str, pos: Pos) {
        if !self.names.intents.contains(name) {
            let known: Vec<&str> = self.names.intents.iter().map(String::as_str).collect();
            let remedy = did_you_mean(name, &known);
            self.error(Code::UnknownIntent, pos, format!("there is no intent `{name}`"), remedy);
        }
    }

    fn outcome(&mut self, code: &str, pos: Pos) -> Outcome {
        match self.outcomes.get(code) {
            Some(outcome) => outcome.clone(),
            None => {
                let known: Vec<&str> = self.outcomes.keys().map(String::as_str).collect();
                let remedy = format!("declare it in outcomes; {}", did_you_mean(code, &known));
                self.error(Code::UnknownOutcome, pos, format!("there is no outcome `{code}`"), remedy);
                Outcome { code: code.to_owned(), label: String::new() }
            }
        }
    }

    fn ending(&mut self, code: &At<String>, fallback: Pos) -> Ending {
        if code.as_str() == "auto" {
            Ending::Auto
        } else {
            Ending::Code(self.outcome(code, code.pos().or(fallback)))
        }
    }

    fn transfer(&mut self, spec: &TransferSpec, pos: Pos) -> Transfer {
        let fail = &spec.fail;
        if spec.to.trim().is_empty() {
            self.error(
                Code::BadHandoff,
                pos,
                "a hand-over goes nowhere",
                "name where to, such as to: branch",
            );
        }
        let target = self.target(fail, pos);
        if target == Target::Handoff {
            self.error(
                Code::BadHandoff,
                fail.pos().or(pos),
                "a failed hand-over leads to a hand-over",
                "name a node",
            );
        }
        let outcome = match &spec.outcome {
            Some(code) => self.outcome(code, code.pos().or(pos)),
            None => self.outcome("transferred", pos),
        };
        Transfer {
            to: spec.to.clone(),
            timeout: spec.timeout.map_or(TRANSFER_TIMEOUT, Pause::get),
            wait: spec.wait.as_ref().map(|text| self.text(text, pos)),
            music: spec.music,
            whisper: spec.whisper.as_ref().map(|text| self.text(text, pos)),
            fail: target,
            outcome,
        }
    }

    fn sets(&mut self, set: &BTreeMap<String, At<String>>, fallback: Pos) -> Vec<(String, String)> {
        let mut out = Vec::new();
        for (slot, value) in set {
            let pos = value.pos().or(fallback);
            let Some((kind, values)) = self.slot(slot, pos) else { continue };
            match vars::check(kind, &values, value) {
                Ok(value) => {
                    let range = self.doc.slots.get(slot).map(|s| (s.min, s.max)).unwrap_or_default();
                    if !vars::in_range(range, &value) {
                        let message = format!("`{value}` is out of the range of slot `{slot}`");
                        self.error(Code::OutOfRange, pos, message, vars::range_rule(range));
                    }
                    out.push((slot.clone(), value));
                }
                Err(rule) => {
                    let message = format!("`{}` is no {} for slot `{slot}`", &**value, type_name(kind));
                    self.error(Code::WrongType, pos, message, rule);
                }
            }
        }
        out
    }

    fn slot(&mut self, slot: &str, pos: Pos) -> Option<(Type, Vec<String>)> {
        let found = self.names.slots.get(slot).cloned();
        if found.is_none() {
            let known: Vec<&str> = self.names.slots.keys().map(String::as_str).collect();
            let remedy = did_you_mean(slot, &known);
            self.error(Code::UnknownSlot, pos, format!("there is no slot `{slot}`"), remedy);
        }
        found
    }

    fn fills(&mut self, fill: &BTreeMap<String, At<String>>, fallback: Pos) -> Vec<Fill> {
        let mut out = Vec::new();
        for (slot, kind) in fill {
            let pos = kind.pos().or(fallback);
            let Some((type_, values)) = self.slot(slot, pos) else { continue };
            let optional = kind.ends_with('?');
            let kind = kind.trim_end_matches('?');
            let suits = match self.doc.entities.get(kind) {
                // A slot that an entity fills must know each of its values.
                Some(entity) => Some(match type_ {
                    Type::Enum => entity.values.keys().all(|value| values.contains(value)),
                    Type::Text => true,
                    Type::Person
                    | Type::Money
                    | Type::Date
                    | Type::Time
                    | Type::Number
                    | Type::Phone
                    | Type::Id => false,
                }),
                None => vars::suits(kind, type_),
            };
            match suits {
                Some(true) => out.push(Fill { slot: slot.clone(), kind: kind.to_owned(), optional }),
                Some(false) => {
                    let message = format!("slot `{slot}` is a {} and cannot hold a {kind}", type_name(type_));
                    self.error(Code::WrongType, pos, message, "change the slot's type, or what fills it");
                }
                None => {
                    let own = self.doc.entities.keys().map(String::as_str);
                    let known: Vec<&str> = vars::ENTITY_KINDS.into_iter().chain(own).collect();
                    let remedy = did_you_mean(kind, &known);
                    self.error(
                        Code::UnknownEntity,
                        pos,
                        format!("`{kind}` is no kind of value that is found in speech"),
                        remedy,
                    );
                }
            }
        }
        out
    }

    fn rules(&mut self) -> Vec<(Outcome, Option<Expr>)> {
        let mut rules = Vec::new();
        for rule in &self.doc.outcomes {
            let when = rule.when.as_ref().and_then(|when| self.guard(when, rule.pos()));
            let label = rule.label.clone().unwrap_or_default();
            rules.push((Outcome { code: rule.code.to_string(), label }, when));
        }
        rules
    }
}
