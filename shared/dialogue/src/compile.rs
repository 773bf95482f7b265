//! From the file to the graph: resolves names, reads guards and texts, and says what is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use trunkline_model::Outcome;

use crate::action::Endpoint;
use crate::document::{self, Act, BargeInSpec, Document, ListenSpec, Type};
use crate::expr::{Expr, Names, type_name};
use crate::graph::{
    ANY, Ask, Back, Barge, Digression, Edge, Ending, FILLED, Fill, Graph, HANDOFF, Ladder, NO_INPUT,
    NO_MATCH, Node, NodeKind, OptOut, RETURN, Target, Transfer, UNIVERSAL,
};
use crate::lint::{Finding, did_you_mean};
use crate::scalar::{At, Pause, Pos};
use crate::vars;
use crate::wording::{Builtin, Template, builtin};

mod declared;

/// The longest text, in characters, before variables.
const MAX_TEXT_CHARS: usize = 600;
/// How long silence may last where nobody says.
const NO_INPUT_AFTER: Duration = Duration::from_secs(5);
/// How long a hand-over rings where nobody says.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(20);
/// How often a ladder of our own speaks.
const LADDER_MAX: u8 = 2;

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

    fn error(&mut self, pos: Pos, message: impl Into<String>, remedy: impl Into<String>) {
        self.findings.push(Finding::error(pos, message, remedy));
    }

    fn graph(&mut self) -> Option<Graph> {
        let doc = self.doc;
        self.check_head();
        self.check_values();
        let nodes: Vec<Node> = doc.nodes.iter().map(|node| self.node(node)).collect();
        if nodes.is_empty() {
            self.error(Pos::default(), "the script has no nodes", "add a node that speaks first");
            return None;
        }
        let opt_out = self.opt_out();
        let digressions = self.digressions();
        let handoff = &doc.handoff;
        let pos = handoff.pos();
        let handoff_when = handoff.when.as_ref().and_then(|when| self.guard(when, pos));
        let handoff_say = match &handoff.say {
            Some(say) => self.text(say, pos),
            None => self.own(|b| b.handoff, pos, "handoff.say"),
        };
        let handoff =
            self.transfer(&handoff.to, handoff.timeout, &handoff.fail, handoff.outcome.as_ref(), pos);
        let rules = self.rules();
        let lost = match &doc.goodbye_when_lost {
            Some(text) => self.text(text, text.pos()),
            None => self.own(|b| b.lost, Pos::default(), "goodbye_when_lost"),
        };
        if let Some(slot) = lost.slots().next() {
            let pos = doc.goodbye_when_lost.as_ref().map(At::pos).unwrap_or_default();
            let message = format!("goodbye_when_lost uses the slot `{slot}`, which the box does not know");
            self.error(pos, message, "use variables only");
        }
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
        {
            expr.remembers(&mut heard, &mut visited);
        }
        Some(Graph {
            nodes,
            by_id: self.by_id.clone(),
            slot_types: self.names.slots.clone(),
            digressions,
            opt_out,
            handoff,
            handoff_say,
            handoff_when,
            rules,
            goodbye,
            silence,
            lost,
            max_turns: doc.limits.turns,
            remember_heard: heard,
            remember_visited: visited,
        })
    }

    fn text(&mut self, text: &At<String>, fallback: Pos) -> Template {
        let pos = text.pos().or(fallback);
        if text.trim().is_empty() {
            self.error(pos, "a text is empty", "write what is to be said, or drop it");
        }
        if text.chars().count() > MAX_TEXT_CHARS {
            let message = format!("a text has more than {MAX_TEXT_CHARS} characters");
            self.error(pos, message, "split it over several turns");
        }
        let template = match Template::parse(text) {
            Ok(template) => template,
            Err((message, remedy)) => {
                self.error(pos, message, remedy);
                return Template::default();
            }
        };
        for name in template.vars() {
            if !self.names.vars.contains_key(name) {
                let known: Vec<&str> = self.names.vars.keys().map(String::as_str).collect();
                let remedy = did_you_mean(name, &known);
                self.error(pos, format!("the text uses a variable `{name}` that is not declared"), remedy);
            }
        }
        for name in template.slots() {
            if !self.names.slots.contains_key(name) {
                let known: Vec<&str> = self.names.slots.keys().map(String::as_str).collect();
                let remedy = did_you_mean(name, &known);
                self.error(pos, format!("the text uses a slot `{name}` that is not declared"), remedy);
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
                self.error(pos.or(self.doc.locale.pos()), message, format!("write {what}"));
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
                self.error(pos, format!("guard `{}`: {}", &**text, e.message), e.remedy);
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
                    self.error(name.pos().or(fallback), format!("there is no node `{id}`"), remedy);
                    Target::Leave
                }
            },
        }
    }

    fn intent(&mut self, name: &str, pos: Pos) {
        if !self.names.intents.contains(name) {
            let known: Vec<&str> = self.names.intents.iter().map(String::as_str).collect();
            let remedy = did_you_mean(name, &known);
            self.error(pos, format!("there is no intent `{name}`"), remedy);
        }
    }

    fn outcome(&mut self, code: &str, pos: Pos) -> Outcome {
        match self.outcomes.get(code) {
            Some(outcome) => outcome.clone(),
            None => {
                let known: Vec<&str> = self.outcomes.keys().map(String::as_str).collect();
                let remedy = format!("declare it in outcomes; {}", did_you_mean(code, &known));
                self.error(pos, format!("there is no outcome `{code}`"), remedy);
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

    fn transfer(
        &mut self,
        to: &str,
        timeout: Option<Pause>,
        fail: &At<String>,
        outcome: Option<&At<String>>,
        pos: Pos,
    ) -> Transfer {
        if to.trim().is_empty() {
            self.error(pos, "a hand-over goes nowhere", "name where to, such as to: branch");
        }
        let target = self.target(fail, pos);
        if target == Target::Handoff {
            self.error(fail.pos().or(pos), "a failed hand-over leads to a hand-over", "name a node");
        }
        let outcome = match outcome {
            Some(code) => self.outcome(code, code.pos().or(pos)),
            None => self.outcome("transferred", pos),
        };
        Transfer {
            to: to.to_owned(),
            timeout: timeout.map_or(TRANSFER_TIMEOUT, Pause::get),
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
                Ok(value) => out.push((slot.clone(), value)),
                Err(rule) => {
                    let message = format!("`{}` is no {} for slot `{slot}`", &**value, type_name(kind));
                    self.error(pos, message, rule);
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
            self.error(pos, format!("there is no slot `{slot}`"), remedy);
        }
        found
    }

    fn fills(&mut self, fill: &BTreeMap<String, At<String>>, fallback: Pos) -> Vec<Fill> {
        let mut out = Vec::new();
        for (slot, kind) in fill {
            let pos = kind.pos().or(fallback);
            let Some((type_, _)) = self.slot(slot, pos) else { continue };
            let optional = kind.ends_with('?');
            let kind = kind.trim_end_matches('?');
            match vars::suits(kind, type_) {
                Some(true) => out.push(Fill { slot: slot.clone(), kind: kind.to_owned(), optional }),
                Some(false) => {
                    let message = format!("slot `{slot}` is a {} and cannot hold a {kind}", type_name(type_));
                    self.error(pos, message, "change the slot's type, or what fills it");
                }
                None => {
                    let remedy = did_you_mean(kind, &vars::ENTITY_KINDS);
                    self.error(pos, format!("`{kind}` is no kind of value that is found in speech"), remedy);
                }
            }
        }
        out
    }

    fn node(&mut self, node: &At<document::Node>) -> Node {
        let pos = node.pos();
        let say = node.say.as_ref().map(|text| self.text(text, pos));
        let again = node.again.as_ref().map(|text| self.text(text, pos));
        let barge_in = self.barge_in(node);
        let set = self.sets(&node.set, pos);
        let kind = self.kind(node);
        if say.is_none() && matches!(kind, NodeKind::Ask(_)) {
            self.error(pos, format!("node `{}` asks without words", &*node.id), "give it a `say`");
        }
        Node {
            id: node.id.to_string(),
            pos,
            say,
            again,
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
                    let inside = node.say.as_ref().is_some_and(|say| say.contains(words.trim()));
                    if words.trim().is_empty() || !inside {
                        self.error(
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
            self.error(pos, message, "a node does one thing; split it in two");
        }
        if node.otherwise.is_some() && node.branch.is_empty() {
            self.error(pos, format!("node `{id}` has `else` without `branch`"), "add a branch, or use next");
        }
        if node.again.is_some() && !asks {
            self.error(pos, format!("node `{id}` has `again` and asks nothing"), "drop `again`");
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
                    self.error(pos, format!("branch `{id}` has no `else`"), "add else: node");
                    Target::Leave
                }
            };
            return NodeKind::Branch { cases, otherwise };
        }
        if let Some(spec) = &node.transfer {
            let transfer =
                self.transfer(&spec.to, spec.timeout, &spec.fail, spec.outcome.as_ref(), spec.pos());
            return NodeKind::Transfer(transfer);
        }
        if let Some(code) = &node.end {
            return NodeKind::End(self.ending(code, pos));
        }
        if let Some(next) = &node.next {
            return NodeKind::Go(self.target(next, pos));
        }
        self.error(
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
                        self.error(edge.pos(), message, "add fill: {slot: kind}");
                    }
                    filled = Some(self.edge(edge));
                }
                ANY => any = Some(self.edge(edge)),
                "opt_out" => self.error(
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
            self.error(pos, message, "add filled: node to its `on`");
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
            self.error(pos, "`max` belongs to no_input and no_match", "drop it");
        }
        if edge.say.len() > 1 {
            self.error(pos, "an edge says one thing", "several wordings belong to no_input and no_match");
        }
        Edge {
            say: edge.say.first().map(|text| self.text(text, pos)),
            then: self.target(&edge.then, pos),
            set: self.sets(&edge.set, pos),
            fill: self.fills(&edge.fill, pos),
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
            self.error(pos, format!("{name} can set no slots"), "set them at the node that it leads to");
        }
        let say: Vec<Template> = edge.say.iter().map(|text| self.text(text, pos)).collect();
        let steps = u8::try_from(say.len()).unwrap_or(u8::MAX);
        let max = edge.max.unwrap_or(steps);
        if max > 5 || (max == 0 && edge.max.is_some()) {
            self.error(pos, format!("{name} speaks {max} times before it gives up"), "use max: 1 to 5");
        }
        let reask = say.is_empty();
        Ladder { say, reask, max, then: self.target(&edge.then, pos) }
    }

    fn opt_out(&mut self) -> OptOut {
        let own = self.doc.digressions.iter().find(|d| d.on.as_str() == "opt_out");
        let Some(digression) = own else {
            let say = self.own(|b| b.opt_out, Pos::default(), "a digression on opt_out");
            let outcome = self.outcome("opt_out", Pos::default());
            return OptOut { say, outcome };
        };
        let pos = digression.pos();
        let say = match &digression.say {
            Some(say) => self.text(say, pos),
            None => self.own(|b| b.opt_out, pos, "its `say`"),
        };
        if say.slots().next().is_some() {
            self.error(pos, "the answer to opt_out uses a slot", "say it without");
        }
        let outcome = match &digression.end {
            Some(code) if code.as_str() != "auto" => self.outcome(code, code.pos().or(pos)),
            Some(_) | None => {
                self.error(pos, "opt_out does not end the call with an outcome", "add end: opt_out");
                self.outcome("opt_out", pos)
            }
        };
        if digression.back.is_some() || digression.visit.is_some() {
            self.error(pos, "opt_out goes on with the call", "drop `return` and `visit`; it ends the call");
        }
        OptOut { say, outcome }
    }

    fn digressions(&mut self) -> BTreeMap<String, Digression> {
        let mut out = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for digression in &self.doc.digressions {
            let (pos, on) = (digression.pos(), digression.on.as_str());
            self.intent(on, digression.on.pos());
            if !seen.insert(on) {
                self.error(pos, format!("there are two digressions on `{on}`"), "drop one of the two");
            }
            if on == "opt_out" {
                continue;
            }
            let say = digression.say.as_ref().map(|text| self.text(text, pos));
            let back = self.back(digression);
            let suppress = digression.acts.contains(&Act::Suppress);
            out.insert(on.to_owned(), Digression { say, suppress, back });
        }
        let org = self.names.vars.contains_key("org");
        let universal: [(&str, Pick, Back); 4] = [
            ("wait", |b| b.wait, Back::Wait),
            ("ask_robot", |b| b.ask_robot, Back::Resume),
            ("who_are_you", if org { |b| b.who_are_you_org } else { |b| b.who_are_you }, Back::Resume),
            ("busy", |b| b.busy, Back::End(Ending::Auto)),
        ];
        for (intent, say, back) in universal {
            if !out.contains_key(intent) {
                let say = self.own(say, Pos::default(), &format!("a digression on {intent}"));
                out.insert(intent.to_owned(), Digression { say: Some(say), suppress: false, back });
            }
        }
        out.entry("repeat".to_owned()).or_insert(Digression {
            say: None,
            suppress: false,
            back: Back::Repeat,
        });
        out.entry("ask_human".to_owned()).or_insert(Digression {
            say: None,
            suppress: false,
            back: Back::Go(Target::Handoff),
        });
        out
    }

    fn back(&mut self, digression: &At<document::Digression>) -> Back {
        let (pos, on) = (digression.pos(), digression.on.as_str());
        let given = [digression.visit.is_some(), digression.end.is_some()].iter().filter(|g| **g).count();
        let silent = digression.say.is_none() && digression.visit.is_none();
        match (&digression.back, &digression.visit, &digression.end) {
            _ if given > 1 || (digression.end.is_some() && digression.back.is_some()) => {
                let message = format!("digression `{on}` goes to several places");
                self.error(pos, message, "give it one of return, visit, end");
                Back::Resume
            }
            (_, Some(visit), _) => Back::Visit(self.target(visit, pos)),
            (_, _, Some(code)) => Back::End(self.ending(code, pos)),
            (Some(back), None, None) => match back.as_str() {
                "resume" | "listen" if silent => {
                    let message = format!("digression `{on}` answers nothing");
                    self.error(pos, message, "give it a `say`");
                    Back::Resume
                }
                "resume" => Back::Resume,
                "listen" => Back::Listen,
                _ => Back::Go(self.target(back, pos)),
            },
            (None, None, None) => {
                let message = format!("digression `{on}` does not say what comes after it");
                self.error(pos, message, "add return: resume, return: node, or end: outcome");
                Back::Resume
            }
        }
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
