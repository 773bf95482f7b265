//! What is wrong with a script, where, and what to do about it.
//!
//! The compiler finds what does not fit together (names, types); this file finds what fits and is still
//! wrong: places that are never reached, calls that never end, words that the law asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::compile::compile;
use crate::document::{Disclosure, Document, Purpose, Type};
use crate::graph::{Back, Barge, Ending, Graph, Node, NodeKind, Target};
use crate::scalar::{At, Pos};
use crate::script::{LoadError, examples, read};
use crate::wording::Template;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The script is refused.
    Error,
    /// It can be published, and somebody should look.
    Warning,
}

/// One thing that is wrong with a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The line in the file, from 1; 0 when it is about the file as a whole.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl Finding {
    pub(crate) fn error(pos: Pos, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            line: pos.line,
            column: pos.column,
            message: message.into(),
            remedy: remedy.into(),
        }
    }

    fn warning(pos: Pos, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(pos, message, remedy) }
    }

    /// Says whether it refuses the script.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        if self.line > 0 {
            write!(f, "{}:{}: ", self.line, self.column)?;
        }
        write!(f, "{severity}: {}; {}", self.message, self.remedy)
    }
}

/// Returns all that is wrong with a script, errors and warnings, in the order of the file.
///
/// # Errors
///
/// When it is too large or not of the shape of a script, so that nothing more can be said.
pub fn lint(text: &str) -> Result<Vec<Finding>, LoadError> {
    let document = read(text)?;
    let (graph, mut findings) = compile(&document);
    if let Some(graph) = &graph {
        findings.extend(check(&document, graph));
    }
    findings.sort_by_key(|f| (f.line, f.column, f.severity));
    Ok(findings)
}

/// Checks a script that compiled.
pub(crate) fn check(document: &Document, graph: &Graph) -> Vec<Finding> {
    let mut linter = Linter { document, graph, findings: Vec::new() };
    linter.reachable();
    linter.exits();
    linter.spinning();
    linter.opening();
    linter.texts();
    linter.intents();
    linter.human();
    linter.unused();
    linter.tests();
    linter.findings
}

struct Linter<'d> {
    document: &'d Document,
    graph: &'d Graph,
    findings: Vec<Finding>,
}

impl Linter<'_> {
    fn error(&mut self, pos: Pos, message: impl Into<String>, remedy: impl Into<String>) {
        self.findings.push(Finding::error(pos, message, remedy));
    }

    fn warn(&mut self, pos: Pos, message: impl Into<String>, remedy: impl Into<String>) {
        self.findings.push(Finding::warning(pos, message, remedy));
    }

    /// Where digressions and the hand-over lead to, from any asking node.
    fn targets_from_anywhere(&self) -> impl Iterator<Item = Target> {
        let digressions = self.graph.digressions.values().filter_map(|d| match &d.back {
            Back::Go(target) | Back::Visit(target) => Some(*target),
            Back::Resume | Back::Listen | Back::Wait | Back::Repeat | Back::End(_) => None,
        });
        digressions.chain([self.graph.handoff.fail])
    }

    fn reachable(&mut self) {
        let mut seen = BTreeSet::new();
        let mut todo: Vec<Target> = self.targets_from_anywhere().chain([Target::Node(0)]).collect();
        while let Some(target) = todo.pop() {
            if let Target::Node(i) = target
                && seen.insert(i)
                && let Some(node) = self.graph.nodes.get(i)
            {
                todo.extend(node.targets());
            }
        }
        for (i, node) in self.graph.nodes.iter().enumerate() {
            if !seen.contains(&i) {
                let message = format!("node `{}` is never reached", node.id);
                self.error(node.pos, message, "lead an answer to it, or drop it");
            }
        }
    }

    /// Each node must be able to come to an end without the help of digressions.
    fn exits(&mut self) {
        let count = self.graph.nodes.len();
        let mut good: Vec<bool> = self
            .graph
            .nodes
            .iter()
            .map(|node| matches!(node.kind, NodeKind::End(_) | NodeKind::Transfer(_)))
            .collect();
        let leads_out = |good: &[bool], target: &Target| match target {
            Target::Node(i) => good.get(*i).copied().unwrap_or(false),
            Target::Handoff | Target::Leave | Target::Return => true,
        };
        for _ in 0..count {
            let mut changed = false;
            for (i, node) in self.graph.nodes.iter().enumerate() {
                if !good[i] && node.targets().iter().any(|t| leads_out(&good, t)) {
                    good[i] = true;
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
        for (i, node) in self.graph.nodes.iter().enumerate() {
            if !good[i] {
                let message = format!("from node `{}` the call can never end", node.id);
                self.error(node.pos, message, "lead one of its answers to a node with `end`");
            }
        }
        // A ladder that leads back to its own node is climbed for ever by a customer who says nothing.
        for (i, node) in self.graph.nodes.iter().enumerate() {
            let Some(ask) = node.ask() else { continue };
            for (name, ladder) in [("no_input", &ask.no_input), ("no_match", &ask.no_match)] {
                if self.circles(i, ladder.then, name) {
                    let message = format!("the ladder {name} of node `{}` comes back to it", node.id);
                    self.error(node.pos, message, "lead it to a node that ends, or to handoff");
                }
            }
        }
    }

    /// Says whether a customer who always gives the same non-answer comes back to node `start`.
    fn circles(&self, start: usize, from: Target, name: &str) -> bool {
        let mut seen = BTreeSet::new();
        let mut todo = vec![from];
        while let Some(target) = todo.pop() {
            let Target::Node(i) = target else { continue };
            if i == start {
                return true;
            }
            let Some(node) = self.graph.nodes.get(i) else { continue };
            if !seen.insert(i) {
                continue;
            }
            match &node.kind {
                NodeKind::Ask(ask) if name == "no_input" => todo.push(ask.no_input.then),
                NodeKind::Ask(ask) => todo.push(ask.no_match.then),
                NodeKind::Go(_) | NodeKind::Branch { .. } | NodeKind::Transfer(_) | NodeKind::End(_) => {
                    todo.extend(node.targets());
                }
            }
        }
        false
    }

    /// Nodes that go on by themselves must not go round in a circle.
    fn spinning(&mut self) {
        for (start, node) in self.graph.nodes.iter().enumerate() {
            let by_itself = |node: &Node| matches!(node.kind, NodeKind::Go(_) | NodeKind::Branch { .. });
            if !by_itself(node) {
                continue;
            }
            let mut seen = BTreeSet::new();
            let mut todo = node.targets();
            while let Some(target) = todo.pop() {
                let Target::Node(i) = target else { continue };
                if i == start {
                    let message = format!("node `{}` comes round to itself without listening", node.id);
                    self.findings.push(Finding::error(node.pos, message, "ask something on the way"));
                    break;
                }
                if let Some(next) = self.graph.nodes.get(i).filter(|n| by_itself(n))
                    && seen.insert(i)
                {
                    todo.extend(next.targets());
                }
            }
        }
    }

    /// What must be said before the first question, and what must not.
    fn opening(&mut self) {
        let mut paths = Vec::new();
        self.openings(0, Vec::new(), &mut paths);
        let document = self.document;
        let debt = *document.purpose == Purpose::DebtReminder;
        let wanted: BTreeSet<Disclosure> = document.disclose.iter().copied().collect();
        if !wanted.contains(&Disclosure::Ai) {
            self.warn(
                Pos::default(),
                "`disclose` leaves out ai",
                "many places require that customers are told that a machine speaks; add it",
            );
        }
        let mut missed = BTreeSet::new();
        for path in &paths {
            let nodes: Vec<&Node> = path.iter().filter_map(|i| self.graph.nodes.get(*i)).collect();
            let Some(first) = nodes.first() else { continue };
            let texts: Vec<&Template> = nodes.iter().filter_map(|n| n.say.as_ref()).collect();
            let vars = examples(document);
            let spoken: String =
                texts.iter().map(|t| t.fill(&vars, &BTreeMap::new())).collect::<Vec<_>>().join(" ");
            for disclosure in &wanted {
                if let Some(false) = discloses(*disclosure, document, &spoken, &texts) {
                    missed.insert((first.pos, *disclosure));
                }
            }
            for (name, _) in document.vars.iter().filter(|(_, v)| v.kind == Type::Money) {
                if texts.iter().any(|t| t.vars().any(|v| v == name)) {
                    let message =
                        format!("the opening names the amount `{name}` before it is known who listens");
                    let remedy = "ask for the right person first";
                    let finding = if debt {
                        Finding::error(first.pos, message, remedy)
                    } else {
                        Finding::warning(first.pos, message, remedy)
                    };
                    if !self.findings.contains(&finding) {
                        self.findings.push(finding);
                    }
                }
            }
            let protected = nodes.iter().any(|n| matches!(n.barge_in, Barge::Off | Barge::Until(_)));
            if !wanted.is_empty() && !protected {
                self.warn(
                    first.pos,
                    "the customer can break into the opening before it has told what it must",
                    "add barge_in: {off_until: \"the last words that must be heard\"}",
                );
            }
        }
        for (pos, disclosure) in missed {
            let (what, how) = match disclosure {
                Disclosure::Ai => {
                    ("that a machine speaks", "say it, such as 智能语音助手 or automated assistant")
                }
                Disclosure::Recording => {
                    ("that the call is recorded", "say it, such as 通话将被录音 or this call is recorded")
                }
                Disclosure::Identity => ("who is calling", "say it, best with a variable such as {org}"),
            };
            let message = format!("the opening does not tell {what} before the first question");
            self.error(pos, message, format!("{how}; or drop it from `disclose`"));
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

    fn texts(&mut self) {
        let document = self.document;
        let vars = examples(document);
        let chinese = document.locale.starts_with("zh");
        for node in &self.graph.nodes {
            for text in node.texts() {
                let secs = seconds(&text.fill(&vars, &vars), chinese);
                if secs > 12.0 {
                    self.findings.push(Finding::warning(
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
                        node.pos,
                        format!("node `{}` says `{name}`, which may have no value", node.id),
                        "make it required, give it a default, or branch on it before",
                    ));
                }
            }
            if node.say.is_none() && matches!(node.kind, NodeKind::End(_)) {
                self.findings.push(Finding::warning(
                    node.pos,
                    format!("node `{}` hangs up without a word", node.id),
                    "say goodbye, unless what leads to it does",
                ));
            }
        }
    }

    fn intents(&mut self) {
        let mut owners: BTreeMap<String, &str> = BTreeMap::new();
        let document = self.document;
        for (name, intent) in &document.intents {
            let pos = intent.pos();
            if intent.examples.len() < 8 {
                let message = format!("intent `{name}` has {} examples", intent.examples.len());
                self.warn(pos, message, "twelve or more are recognised far better");
            }
            for example in &intent.examples {
                let plain: String =
                    example.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
                match owners.insert(plain, name) {
                    Some(other) if other != name => {
                        let message = format!("`{example}` is an example of both `{other}` and `{name}`");
                        self.error(pos, message, "keep it with one of the two");
                    }
                    Some(_) => {
                        let message = format!("`{example}` stands twice among the examples of `{name}`");
                        self.warn(pos, message, "drop one");
                    }
                    None => {}
                }
            }
        }
    }

    /// Who asks for a person must get one.
    fn human(&mut self) {
        let Some(digression) = self.graph.digressions.get("ask_human") else { return };
        let to_a_person = match &digression.back {
            Back::Go(Target::Handoff) => true,
            Back::Go(Target::Node(i)) => {
                self.graph.nodes.get(*i).is_some_and(|n| matches!(n.kind, NodeKind::Transfer(_)))
            }
            Back::Go(Target::Return | Target::Leave)
            | Back::Visit(_)
            | Back::Resume
            | Back::Listen
            | Back::Wait
            | Back::Repeat
            | Back::End(_) => false,
        };
        if !to_a_person {
            let pos = self.document.digressions.iter().find(|d| d.on.as_str() == "ask_human").map(At::pos);
            self.warn(
                pos.unwrap_or_default(),
                "who asks for a person does not get one",
                "add return: handoff to the digression on ask_human, or drop it",
            );
        }
    }

    fn unused(&mut self) {
        let mut intents: BTreeSet<&str> = self.graph.digressions.keys().map(String::as_str).collect();
        for node in &self.graph.nodes {
            if let Some(ask) = node.ask() {
                intents.extend(ask.expect.iter().map(String::as_str));
            }
        }
        let document = self.document;
        let guards: Vec<&str> = document
            .nodes
            .iter()
            .flat_map(|n| n.branch.iter().map(|c| c.when.as_str()))
            .chain(document.outcomes.iter().filter_map(|o| o.when.as_ref().map(|w| w.as_str())))
            .chain(document.handoff.when.iter().map(|w| w.as_str()))
            .collect();
        let universal = |name: &str| crate::graph::UNIVERSAL.contains(&name);
        for (name, intent) in &document.intents {
            let in_guard = guards.iter().any(|g| g.contains(&format!(".{name}")));
            if !universal(name) && !intents.contains(name.as_str()) && !in_guard {
                let message = format!("intent `{name}` leads nowhere");
                self.warn(intent.pos(), message, "use it in an `on`, a digression or a guard, or drop it");
            }
        }
        let mut ends: BTreeSet<&str> = BTreeSet::new();
        ends.insert(&self.graph.opt_out.outcome.code);
        ends.insert(&self.graph.handoff.outcome.code);
        for node in &self.graph.nodes {
            match &node.kind {
                NodeKind::End(Ending::Code(outcome)) => {
                    ends.insert(&outcome.code);
                }
                NodeKind::Transfer(transfer) => {
                    ends.insert(&transfer.outcome.code);
                }
                NodeKind::End(Ending::Auto)
                | NodeKind::Ask(_)
                | NodeKind::Go(_)
                | NodeKind::Branch { .. } => {}
            }
        }
        for digression in self.graph.digressions.values() {
            if let Back::End(Ending::Code(outcome)) = &digression.back {
                ends.insert(&outcome.code);
            }
        }
        for rule in document.outcomes.iter().filter(|rule| rule.when.is_none()) {
            if !ends.contains(rule.code.as_str()) {
                let message = format!("outcome `{}` never comes of a call", &*rule.code);
                self.findings.push(Finding::warning(
                    rule.code.pos(),
                    message,
                    "name it in an `end`, give it a `when`, or drop it",
                ));
            }
        }
    }

    fn tests(&mut self) {
        let document = self.document;
        if document.tests.is_empty() {
            self.warn(Pos::default(), "the script has no tests", "add a conversation for each outcome");
        }
        let codes: Vec<&str> = document.outcomes.iter().map(|o| o.code.as_str()).collect();
        for test in &document.tests {
            let nodes = test.expect.iter().filter_map(|e| e.node.as_ref());
            for node in nodes.chain(test.turns.iter().filter_map(|t| t.at.as_ref())) {
                if !self.graph.by_id.contains_key(node.as_str()) && node.as_str() != crate::graph::HANDOFF {
                    let known: Vec<&str> = self.graph.by_id.keys().map(String::as_str).collect();
                    let remedy = did_you_mean(node, &known);
                    self.error(
                        node.pos(),
                        format!("test `{}`: there is no node `{}`", test.name, &**node),
                        remedy,
                    );
                }
            }
            for outcome in test.expect.iter().filter_map(|e| e.outcome.as_ref()) {
                if !codes.contains(&outcome.as_str()) {
                    let message = format!("test `{}`: there is no outcome `{}`", test.name, &**outcome);
                    self.error(outcome.pos(), message, did_you_mean(outcome, &codes));
                }
            }
            for turn in &test.turns {
                let kinds = [turn.hear.is_some(), turn.silence, turn.hang_up, turn.transfer_fails.is_some()];
                if kinds.iter().filter(|k| **k).count() != 1 {
                    self.error(
                        turn.pos(),
                        format!(
                            "test `{}`: a turn is one of hear, silence, hang_up, transfer_fails",
                            test.name
                        ),
                        "give it exactly one",
                    );
                }
            }
            if test.expect.is_empty() {
                self.error(test.pos(), format!("test `{}` expects nothing", test.name), "add expect");
            }
        }
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

/// Estimates how long a text is spoken, in seconds, at an unhurried pace.
fn seconds(text: &str, chinese: bool) -> f64 {
    let count = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    if chinese {
        count(text.chars().filter(|c| c.is_alphanumeric()).count()) / 4.5
    } else {
        count(text.chars().count()) / 15.0
    }
}

/// Returns a remedy that names the nearest known name, or all of them.
pub(crate) fn did_you_mean(name: &str, known: &[&str]) -> String {
    let near = known.iter().map(|k| (distance(name, k), *k)).min();
    match near {
        None => "none is declared; declare it".to_owned(),
        Some((d, nearest)) if d <= 2 && d < nearest.chars().count() => format!("did you mean `{nearest}`?"),
        Some(_) => {
            let shown: Vec<&str> = known.iter().take(20).copied().collect();
            let more = if known.len() > shown.len() { ", …" } else { "" };
            format!("known are {}{more}", shown.join(", "))
        }
    }
}

/// The number of characters to change, add or drop to make one of the other.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
