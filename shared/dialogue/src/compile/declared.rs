//! What a script declares: its head, variables, slots, intents, outcomes, and the names of its nodes.

use std::collections::{BTreeMap, BTreeSet};

use super::Compiler;
use crate::document::{SCHEMA, Type};
use crate::expr::type_name;
use crate::graph::{ANY, FILLED, HANDOFF, NO_INPUT, NO_MATCH, RETURN};
use crate::scalar::Pos;
use crate::vars;

/// The most nodes that a script may have.
const MAX_NODES: usize = 1_000;

impl Compiler<'_> {
    pub(super) fn check_head(&mut self) {
        let doc = self.doc;
        if doc.schema.as_str() != SCHEMA {
            let message = format!("this program does not know the format `{}`", &*doc.schema);
            self.error(doc.schema.pos(), message, format!("write schema: {SCHEMA}, or update the program"));
        }
        if let Err(e) = doc.id.parse::<trunkline_model::ScriptId>() {
            self.error(doc.id.pos(), e.to_string(), "rename the script");
        }
        if !doc.voice.speed.is_none_or(|speed| (0.5..=2.0).contains(&speed)) {
            self.error(Pos::default(), "voice.speed is out of range", "use 0.5 to 2.0");
        }
        if !(5..=200).contains(&doc.limits.turns) {
            self.error(Pos::default(), "limits.turns is out of range", "use 5 to 200");
        }
        if doc.nodes.len() > MAX_NODES {
            let message = format!("the script has {} nodes, {MAX_NODES} are allowed", doc.nodes.len());
            self.error(Pos::default(), message, "split it");
        }
        let mut seen = BTreeMap::new();
        for node in &doc.nodes {
            let (id, pos) = (node.id.as_str(), node.id.pos());
            if !is_name(id) || [HANDOFF, RETURN, "resume", "listen"].contains(&id) {
                self.error(
                    pos,
                    format!("`{id}` cannot name a node"),
                    "use a-z, 0-9 and _, at most 64 characters, and none of handoff, return, resume, listen",
                );
            }
            if let Some(first) = seen.insert(id, pos) {
                self.error(pos, format!("node `{id}` exists already, at {first}"), "rename one of the two");
            }
        }
    }

    pub(super) fn check_values(&mut self) {
        let doc = self.doc;
        for (name, var) in &doc.vars {
            self.check_name("variable", name, var.pos());
            self.check_enum(name, var.kind, &var.values, var.pos());
            for (field, value) in [("default", &var.default), ("example", &var.example)] {
                if let Some(Err(rule)) = value.as_ref().map(|v| vars::check(var.kind, &var.values, v)) {
                    let message = format!("the {field} of variable `{name}` is no {}", type_name(var.kind));
                    self.error(var.pos(), message, rule);
                }
            }
            if var.required && var.default.is_some() {
                let message = format!("variable `{name}` is required and has a default");
                self.error(var.pos(), message, "drop one of the two");
            }
        }
        for (name, slot) in &doc.slots {
            self.check_name("slot", name, slot.pos());
            self.check_enum(name, slot.kind, &slot.values, slot.pos());
        }
        for (name, intent) in &doc.intents {
            self.check_name("intent", name, intent.pos());
            if [FILLED, ANY, NO_INPUT, NO_MATCH, "none"].contains(&name.as_str()) {
                self.error(
                    intent.pos(),
                    format!("`{name}` cannot name an intent"),
                    "it has a meaning of its own; rename it",
                );
            }
            if intent.examples.iter().all(|e| e.trim().is_empty()) {
                self.error(
                    intent.pos(),
                    format!("intent `{name}` has no examples"),
                    "add ten or more, as customers would say them",
                );
            }
        }
        let mut codes = BTreeSet::new();
        for rule in &doc.outcomes {
            if !is_name(&rule.code) || rule.code.as_str() == "auto" {
                let message = format!("`{}` cannot be an outcome's code", &*rule.code);
                self.error(
                    rule.code.pos(),
                    message,
                    "use letters, digits, `_` and `-`, at most 64, and not auto",
                );
            }
            if !codes.insert(rule.code.as_str()) && rule.when.is_none() {
                let message = format!("outcome `{}` is declared twice", &*rule.code);
                self.error(rule.code.pos(), message, "drop one of the two, or give it a `when`");
            }
        }
        match doc.outcomes.last() {
            Some(last) if last.when.as_ref().is_some_and(|w| w.trim() == "true") => {}
            Some(last) => self.error(
                last.pos(),
                "a call could end without an outcome",
                "add a last outcome with when: \"true\", such as {code: no_result, when: \"true\"}",
            ),
            None => self.error(
                Pos::default(),
                "the script has no outcomes",
                "add outcomes, the last with when: \"true\"",
            ),
        }
    }

    fn check_name(&mut self, what: &str, name: &str, pos: Pos) {
        if !is_name(name) {
            self.error(
                pos,
                format!("`{name}` cannot name a {what}"),
                "use letters, digits and _, at most 64",
            );
        }
    }

    fn check_enum(&mut self, name: &str, kind: Type, values: &[String], pos: Pos) {
        if kind == Type::Enum && values.is_empty() {
            self.error(pos, format!("`{name}` is an enum without values"), "add values: [first, second]");
        }
        if kind != Type::Enum && !values.is_empty() {
            let message = format!("`{name}` has values and is a {}", type_name(kind));
            self.error(pos, message, "make it an enum, or drop the values");
        }
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.chars().count() <= 64
        && text.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-')
}
