//! What is declared and never used, and tests that cannot be run.

use std::collections::BTreeSet;

use super::{Finding, Linter, did_you_mean};
use crate::code::Code;
use crate::document::CONTROL;
use crate::expr::Expr;
use crate::graph::{Back, Ending, HANDOFF, Node, NodeKind, UNIVERSAL};
use crate::scalar::Pos;
use crate::wording::Template;

impl Linter<'_> {
    pub(super) fn unused(&mut self) {
        let document = self.document;
        let used = self.mentions();
        let has = |kind: &str, name: &str| used.contains(&format!("{kind}.{name}"));
        let mut unused: Vec<(Pos, String, &str)> = Vec::new();
        for (name, intent) in &document.intents {
            if !UNIVERSAL.contains(&name.as_str()) && !has("intent", name) {
                let remedy = "use it in an `on`, a digression or a guard, or drop it";
                unused.push((intent.pos(), format!("intent `{name}` leads nowhere"), remedy));
            }
        }
        for (name, var) in document.vars.iter().filter(|(name, _)| !has("var", name)) {
            let remedy = "say it, use it in a guard, or drop it: it is personal data for nothing";
            unused.push((var.pos(), format!("variable `{name}` is never used"), remedy));
        }
        for (name, slot) in document.slots.iter().filter(|(name, _)| !has("fill", name)) {
            let remedy = "name it in a `fill` or a `set`, or drop it";
            unused.push((slot.pos(), format!("slot `{name}` never gets a value"), remedy));
        }
        for (name, entity) in document.entities.iter().filter(|(name, _)| !has("entity", name)) {
            let remedy = "name it in a `fill`, or drop it";
            unused.push((entity.pos(), format!("entity `{name}` fills no slot"), remedy));
        }
        for (name, experiment) in &document.experiments {
            for arm in experiment.arms.keys().filter(|arm| *arm != CONTROL) {
                if !has("arm", &format!("{name}.{arm}")) {
                    let message = format!("arm `{arm}` of experiment `{name}` changes nothing");
                    let remedy = "give a node or an answer `arms`, ask for it in a guard, or drop it";
                    unused.push((experiment.pos(), message, remedy));
                }
            }
        }
        let ends = self.ends();
        for rule in document.outcomes.iter().filter(|rule| rule.when.is_none()) {
            if !ends.contains(rule.code.as_str()) {
                let message = format!("outcome `{}` never comes of a call", &*rule.code);
                unused.push((rule.code.pos(), message, "name it in an `end`, give it a `when`, or drop it"));
            }
        }
        for (pos, message, remedy) in unused {
            self.findings.push(Finding::warning(Code::Unused, pos, message, remedy));
        }
    }

    /// Lists everything that is used somewhere, as `intent.x`, `var.x`, `fill.slot`, `entity.x`, `arm.x.y`.
    fn mentions(&self) -> BTreeSet<String> {
        let (document, graph) = (self.document, self.graph);
        let mut used: BTreeSet<String> =
            graph.digressions.keys().map(|name| format!("intent.{name}")).collect();
        let branches = graph.nodes.iter().filter_map(|node| match &node.kind {
            NodeKind::Branch { cases, .. } => Some(cases),
            NodeKind::Ask(_) | NodeKind::Go(_) | NodeKind::Transfer(_) | NodeKind::End(_) => None,
        });
        let guards = branches.flatten().map(|(expr, _)| expr);
        let rules = graph.rules.iter().filter_map(|(_, expr)| expr.as_ref());
        let handoff = graph.handoff_when.iter().chain(graph.handoff_rules.iter().map(|(expr, _)| expr));
        guards.chain(rules).chain(handoff).for_each(|expr: &Expr| expr.mentions(&mut used));
        let mut spoken: Vec<&Template> =
            vec![&graph.opt_out.say, &graph.handoff_say, &graph.lost, &graph.goodbye, &graph.silence];
        spoken.extend(graph.voicemail.iter().chain(&graph.screener));
        spoken.extend(graph.digressions.values().filter_map(|d| d.say.as_ref()));
        let transfers = graph.nodes.iter().filter_map(Node::transfer).chain([&graph.handoff]);
        spoken.extend(transfers.flat_map(|transfer| transfer.wait.iter().chain(&transfer.whisper)));
        for node in &graph.nodes {
            spoken.extend(node.texts());
            spoken.extend(node.generate.iter().map(|generate| &generate.prompt));
            used.extend(node.set.iter().map(|(slot, _)| format!("fill.{slot}")));
            used.extend(node.arms.iter().map(|arm| format!("arm.{}.{}", arm.experiment, arm.name)));
            let Some(ask) = node.ask() else { continue };
            spoken.extend(&ask.hot_words);
            used.extend(ask.expect.iter().map(|intent| format!("intent.{intent}")));
            let edges = || ask.on.values().chain(&ask.filled).chain(&ask.any);
            for fill in ask.fill.iter().chain(edges().flat_map(|edge| &edge.fill)) {
                used.insert(format!("fill.{}", fill.slot));
                used.insert(format!("entity.{}", fill.kind));
            }
            for edge in edges() {
                used.extend(edge.set.iter().map(|(slot, _)| format!("fill.{slot}")));
                used.extend(edge.arms.iter().map(|(experiment, arm, _)| format!("arm.{experiment}.{arm}")));
            }
        }
        used.extend(spoken.iter().flat_map(|text| text.vars()).map(|name| format!("var.{name}")));
        used.extend(document.experiments.values().map(|e| format!("var.{}", &*e.by)));
        used
    }

    /// Lists the outcomes that an end, a hand-over or a digression names.
    fn ends(&self) -> BTreeSet<&str> {
        let graph = self.graph;
        let mut ends: BTreeSet<&str> =
            [graph.opt_out.outcome.code.as_str(), &graph.handoff.outcome.code].into();
        for node in &graph.nodes {
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
        for digression in graph.digressions.values() {
            if let Back::End(Ending::Code(outcome)) = &digression.back {
                ends.insert(&outcome.code);
            }
        }
        ends
    }

    pub(super) fn tests(&mut self) {
        let document = self.document;
        if document.tests.is_empty() {
            self.warn(
                Code::NoTests,
                Pos::default(),
                "the script has no tests",
                "add a conversation for each outcome",
            );
        }
        let codes: Vec<&str> = document.outcomes.iter().map(|o| o.code.as_str()).collect();
        for test in &document.tests {
            let nodes = test.expect.iter().filter_map(|e| e.node.as_ref());
            for node in nodes.chain(test.turns.iter().filter_map(|t| t.at.as_ref())) {
                if !self.graph.by_id.contains_key(node.as_str()) && node.as_str() != HANDOFF {
                    let known: Vec<&str> = self.graph.by_id.keys().map(String::as_str).collect();
                    let remedy = did_you_mean(node, &known);
                    self.error(
                        Code::BadTest,
                        node.pos(),
                        format!("test `{}`: there is no node `{}`", test.name, &**node),
                        remedy,
                    );
                }
            }
            for outcome in test.expect.iter().filter_map(|e| e.outcome.as_ref()) {
                if !codes.contains(&outcome.as_str()) {
                    let message = format!("test `{}`: there is no outcome `{}`", test.name, &**outcome);
                    self.error(Code::BadTest, outcome.pos(), message, did_you_mean(outcome, &codes));
                }
            }
            for turn in &test.turns {
                let known = |name: &str| {
                    name == "none" || UNIVERSAL.contains(&name) || document.intents.contains_key(name)
                };
                if let Some(intent) = turn.intent.as_ref().filter(|intent| !known(intent)) {
                    let names: Vec<&str> =
                        document.intents.keys().map(String::as_str).chain(UNIVERSAL).collect();
                    let message = format!("test `{}`: there is no intent `{}`", test.name, &**intent);
                    self.error(Code::BadTest, intent.pos(), message, did_you_mean(intent, &names));
                }
                let kinds = [turn.hear.is_some(), turn.silence, turn.hang_up, turn.transfer_fails.is_some()];
                if kinds.iter().filter(|k| **k).count() != 1 {
                    self.error(
                        Code::BadTest,
                        turn.pos(),
                        format!(
                            "test `{}`: a turn is one of hear, silence, hang_up, transfer_fails",
                            test.name
                        ),
                        "give it exactly one",
                    );
                }
            }
            for (experiment, arm) in &test.arms {
                let arms = document.experiments.get(experiment).map(|e| &e.arms);
                if !arms.is_some_and(|arms| arms.contains_key(arm)) {
                    let message = format!("test `{}`: there is no arm `{experiment}.{arm}`", test.name);
                    let known: Vec<&str> = document.experiments.keys().map(String::as_str).collect();
                    self.error(Code::BadTest, test.pos(), message, did_you_mean(experiment, &known));
                }
            }
            if test.expect.is_empty() {
                self.error(
                    Code::BadTest,
                    test.pos(),
                    format!("test `{}` expects nothing", test.name),
                    "add expect",
                );
            }
        }
    }
}
