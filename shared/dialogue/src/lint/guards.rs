//! Guards that can never hold, and cases that earlier ones leave nothing for.

use super::Linter;
use crate::code::Code;
use crate::document::Type;
use crate::expr::Expr;
use crate::expr::solve::{Domain, certain, possible, possible_after};
use crate::graph::NodeKind;
use crate::scalar::Pos;

/// How many earlier cases are held against a later one.
const MAX_EARLIER: usize = 8;

impl Linter<'_> {
    pub(super) fn guards(&mut self) {
        let (document, graph) = (self.document, self.graph);
        let domain = self.domain();
        for (source, node) in document.nodes.iter().zip(&graph.nodes) {
            if let NodeKind::Branch { cases, .. } = &node.kind {
                let cases: Vec<(Pos, &Expr)> = source
                    .branch
                    .iter()
                    .zip(cases)
                    .map(|(case, (expr, _))| (case.when.pos().or(case.pos()), expr))
                    .collect();
                self.in_order(&format!("a case of node `{}`", node.id), &cases, &domain);
            }
        }
        let rules: Vec<(Pos, &Expr)> = document
            .outcomes
            .iter()
            .zip(&graph.rules)
            .filter_map(|(rule, (_, expr))| Some((rule.pos(), expr.as_ref()?)))
            .collect();
        self.in_order("an outcome's rule", &rules, &domain);
        let handoff: Vec<(Pos, &Expr)> = document
            .handoff
            .rules
            .iter()
            .zip(&graph.handoff_rules)
            .map(|(rule, (expr, _))| (rule.pos(), expr))
            .collect();
        self.in_order("a rule of the hand-over", &handoff, &domain);
        if let Some(expr) = &graph.handoff_when {
            self.in_order("handoff.when", &[(document.handoff.pos(), expr)], &domain);
        }
    }

    fn in_order(&mut self, what: &str, cases: &[(Pos, &Expr)], domain: &Domain) {
        for (i, (pos, expr)) in cases.iter().enumerate() {
            // Written out, it is how a case is switched on or off for the time being.
            let literal = matches!(expr, Expr::Const(_));
            if !possible(expr, domain) {
                if literal {
                    let message = format!("{what} is switched off");
                    self.warn(Code::NeverTrue, *pos, message, "drop it if that is for good");
                } else {
                    let message = format!("{what} can never hold: its conditions contradict each other");
                    self.error(Code::NeverTrue, *pos, message, "correct it, or drop it");
                }
                continue;
            }
            let earlier: Vec<&Expr> =
                cases[i.saturating_sub(MAX_EARLIER)..i].iter().map(|(_, expr)| *expr).collect();
            if !earlier.is_empty() && !possible_after(expr, &earlier, domain) {
                let message = format!("{what} is never taken: those before it hold whenever it does");
                self.warn(Code::NeverTaken, *pos, message, "put it before them, or drop it");
            } else if !literal && certain(expr, domain) {
                let message = format!("{what} always holds");
                self.warn(Code::AlwaysTrue, *pos, message, "write \"true\" if that is meant, or correct it");
            }
        }
    }

    fn domain(&self) -> Domain {
        let document = self.document;
        let is_enum = |kind: Type| kind == Type::Enum;
        Domain {
            always_set: document
                .vars
                .iter()
                .filter(|(_, var)| var.required || var.default.is_some())
                .map(|(name, _)| name.clone())
                .collect(),
            var_values: document
                .vars
                .iter()
                .filter(|(_, var)| is_enum(var.kind))
                .map(|(name, var)| (name.clone(), var.values.clone()))
                .collect(),
            slot_values: document
                .slots
                .iter()
                .filter(|(_, slot)| is_enum(slot.kind))
                .map(|(name, slot)| (name.clone(), slot.values.clone()))
                .collect(),
        }
    }
}
