//! Places that are never reached, calls that never end, and the way to a person.

use std::collections::BTreeSet;

use super::{Finding, Linter};
use crate::code::Code;
use crate::graph::{Back, NO_INPUT, NO_MATCH, Node, NodeKind, Target};
use crate::scalar::{At, Pos};

impl Linter<'_> {
    /// Where digressions and the hand-over lead to, from any asking node.
    fn targets_from_anywhere(&self) -> impl Iterator<Item = Target> {
        let digressions = self.graph.digressions.values().filter_map(|d| match &d.back {
            Back::Go(target) | Back::Visit(target) => Some(*target),
            Back::Resume | Back::Listen | Back::Wait | Back::Repeat | Back::End(_) => None,
        });
        digressions.chain([self.graph.handoff.fail])
    }

    pub(super) fn reachable(&mut self) {
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
                self.error(Code::Unreachable, node.pos, message, "lead an answer to it, or drop it");
            }
        }
    }

    /// Each node must be able to come to an end without the help of digressions.
    pub(super) fn exits(&mut self) {
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
                self.error(Code::NoExit, node.pos, message, "lead one of its answers to a node with `end`");
            }
        }
        // A ladder that leads back to its own node is climbed for ever by a customer who says nothing.
        for (i, node) in self.graph.nodes.iter().enumerate() {
            let Some(ask) = node.ask() else { continue };
            for (name, ladder) in [(NO_INPUT, &ask.no_input), (NO_MATCH, &ask.no_match)] {
                if self.circles(i, ladder.then, name) {
                    let message = format!("the ladder {name} of node `{}` comes back to it", node.id);
                    self.error(
                        Code::EndlessLadder,
                        node.pos,
                        message,
                        "lead it to a node that ends, or to handoff",
                    );
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
                NodeKind::Ask(ask) if name == NO_INPUT => todo.push(ask.no_input.then),
                NodeKind::Ask(ask) => todo.push(ask.no_match.then),
                NodeKind::Go(_) | NodeKind::Branch { .. } | NodeKind::Transfer(_) | NodeKind::End(_) => {
                    todo.extend(node.targets());
                }
            }
        }
        false
    }

    /// Nodes that go on by themselves must not go round in a circle.
    pub(super) fn spinning(&mut self) {
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
                    self.findings.push(Finding::error(
                        Code::EndlessLoop,
                        node.pos,
                        message,
                        "ask something on the way",
                    ));
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

    /// Who asks for a person must get one in that turn, from any node.
    pub(super) fn human(&mut self) {
        let digression = self.graph.digressions.get("ask_human").map(|digression| &digression.back);
        let declared = self.document.digressions.iter().find(|d| d.on.as_str() == "ask_human").map(At::pos);
        let remedy = "add return: handoff to the digression on ask_human, or drop it";
        match digression {
            Some(Back::Go(target)) if self.to_a_person(*target, 0) => {}
            Some(Back::End(_)) => {
                let message = "who asks for a person does not get one in this call";
                self.warn(Code::NoHuman, declared.unwrap_or_default(), message, remedy);
            }
            Some(Back::Go(_) | Back::Visit(_) | Back::Resume | Back::Listen | Back::Wait | Back::Repeat)
            | None => {
                let message = "who asks for a person does not get one";
                self.error(Code::NoHuman, declared.unwrap_or_default(), message, remedy);
            }
        }
        let mut wrong: Vec<(Pos, &str)> = Vec::new();
        for node in &self.graph.nodes {
            let own = node.ask().and_then(|ask| ask.on.get("ask_human"));
            if own.is_some_and(|edge| edge.targets().any(|target| !self.to_a_person(target, 0))) {
                wrong.push((node.pos, &node.id));
            }
        }
        for (pos, id) in wrong {
            let message = format!("who asks for a person at node `{id}` does not get one");
            let remedy = "lead ask_human to handoff, or drop it from `on`";
            self.findings.push(Finding::error(Code::NoHuman, pos, message, remedy));
        }
    }

    /// Says whether a person is fetched from here before the customer is asked anything more.
    fn to_a_person(&self, target: Target, depth: usize) -> bool {
        match target {
            Target::Handoff => true,
            Target::Return | Target::Leave => false,
            Target::Node(i) => self.graph.nodes.get(i).is_some_and(|node| match &node.kind {
                NodeKind::Transfer(_) => true,
                NodeKind::Go(_) | NodeKind::Branch { .. } => {
                    depth < 16 && node.targets().into_iter().any(|next| self.to_a_person(next, depth + 1))
                }
                NodeKind::Ask(_) | NodeKind::End(_) => false,
            }),
        }
    }
}
