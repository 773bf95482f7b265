//! Amounts are for the ears of the right person only.

use std::collections::BTreeSet;

use super::{Finding, Linter};
use crate::code::Code;
use crate::document::{Purpose, Type};
use crate::graph::{Back, Edge, Node, Target};
use crate::scalar::Pos;
use crate::wording::Template;

impl Linter<'_> {
    /// Follows the call from its opening for as long as it is not known who listens, and looks for amounts.
    ///
    /// The right person is known after a `yes` to a question that names a person, and after an answer that
    /// is marked with `confirms`.
    pub(super) fn amounts(&mut self) {
        let severe = match *self.document.purpose {
            Purpose::DebtReminder => true,
            Purpose::Appointment | Purpose::Notice | Purpose::Service => false,
            // A price is no secret.
            Purpose::Marketing | Purpose::Survey => return,
        };
        let mut found: BTreeSet<(Pos, String, String)> = BTreeSet::new();
        let mut look = |pos: Pos, place: String, text: &Template| {
            for name in text.vars().filter(|name| self.is(name, Type::Money)) {
                found.insert((pos, place.clone(), name.to_owned()));
            }
        };
        let mut seen = BTreeSet::new();
        let mut todo = vec![Target::Node(0), self.graph.handoff.fail];
        for (intent, digression) in &self.graph.digressions {
            if let Some(say) = &digression.say {
                let source = self.document.digressions.iter().find(|d| d.on.as_str() == intent);
                look(source.map(|d| d.pos()).unwrap_or_default(), format!("the answer to {intent}"), say);
            }
            if let Back::Go(target) | Back::Visit(target) = &digression.back {
                todo.push(*target);
            }
        }
        while let Some(target) = todo.pop() {
            let Target::Node(i) = target else { continue };
            let Some(node) = self.graph.nodes.get(i).filter(|_| seen.insert(i)) else { continue };
            let mut own = |text: &Template| look(node.pos, format!("node `{}`", node.id), text);
            node.says().for_each(&mut own);
            node.arms.iter().filter_map(|arm| arm.again.as_ref()).for_each(&mut own);
            node.again.iter().chain(node.generate.iter().map(|g| &g.prompt)).for_each(&mut own);
            let Some(ask) = node.ask() else {
                todo.extend(node.targets());
                continue;
            };
            node.ladder_texts().for_each(&mut own);
            todo.extend([ask.no_input.then, ask.no_match.then]);
            let named = ask.on.iter().map(|(intent, edge)| (intent.as_str(), edge));
            for (intent, edge) in named.chain(ask.filled.iter().chain(&ask.any).map(|edge| ("", edge))) {
                if !self.confirms(node, intent, edge) {
                    edge.say.iter().for_each(&mut own);
                    todo.extend(edge.targets());
                }
            }
        }
        let remedy = "ask first whether it is the right person, naming a variable of type person, or mark the \
                      answer that tells it with confirms: true";
        for (pos, place, name) in found {
            let message = format!("{place} names the amount `{name}` before it is known who listens");
            let make = if severe { Finding::error } else { Finding::warning };
            self.findings.push(make(Code::AmountBeforePerson, pos, message, remedy));
        }
    }

    fn is(&self, var: &str, kind: Type) -> bool {
        self.document.vars.get(var).is_some_and(|v| v.kind == kind)
    }

    fn confirms(&self, node: &Node, intent: &str, edge: &Edge) -> bool {
        let names_somebody = node.says().chain(&node.again).flat_map(|text| text.vars());
        edge.confirms || (intent == "yes" && names_somebody.into_iter().any(|v| self.is(v, Type::Person)))
    }
}
