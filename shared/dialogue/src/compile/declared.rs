//! What a script declares: its head, variables, slots, intents, outcomes, and the names of its nodes.

use std::collections::{BTreeMap, BTreeSet};

use super::Compiler;
use crate::code::Code;
use crate::document::{CONTROL, SCHEMA, Type};
use crate::expr::type_name;
use crate::graph::{ANY, FILLED, HANDOFF, NO_INPUT, NO_MATCH, RETURN};
use crate::lint::did_you_mean;
use crate::scalar::Pos;
use crate::vars::{self, Range};

/// The greatest weight of an arm.
const MAX_WEIGHT: u32 = 10_000;
/// The most nodes that a script may have.
const MAX_NODES: usize = 1_000;

impl Compiler<'_> {
    pub(super) fn check_head(&mut self) {
        let doc = self.doc;
        if doc.schema.as_str() != SCHEMA {
            let message = format!("this program does not know the format `{}`", &*doc.schema);
            self.error(
                Code::UnknownSchema,
                doc.schema.pos(),
                message,
                format!("write schema: {SCHEMA}, or update the program"),
            );
        }
        if let Err(e) = doc.id.parse::<trunkline_model::ScriptId>() {
            self.error(Code::BadName, doc.id.pos(), e.to_string(), "rename the script");
        }
        if !doc.voice.speed.is_none_or(|speed| (0.5..=2.0).contains(&speed)) {
            self.error(Code::OutOfRange, Pos::default(), "voice.speed is out of range", "use 0.5 to 2.0");
        }
        if !(5..=200).contains(&doc.limits.turns) {
            self.error(Code::OutOfRange, Pos::default(), "limits.turns is out of range", "use 5 to 200");
        }
        if doc.nodes.len() > MAX_NODES {
            let message = format!("the script has {} nodes, {MAX_NODES} are allowed", doc.nodes.len());
            self.error(Code::OutOfRange, Pos::default(), message, "split it");
        }
        let mut seen = BTreeMap::new();
        for node in &doc.nodes {
            let (id, pos) = (node.id.as_str(), node.id.pos());
            if !is_name(id) || [HANDOFF, RETURN, "resume", "listen"].contains(&id) {
                self.error(
                    Code::BadName,
                    pos,
                    format!("`{id}` cannot name a node"),
                    "use a-z, 0-9 and _, at most 64 characters, and none of handoff, return, resume, listen",
                );
            }
            if let Some(first) = seen.insert(id, pos) {
                self.error(
                    Code::Duplicate,
                    pos,
                    format!("node `{id}` exists already, at {first}"),
                    "rename one of the two",
                );
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
                    self.error(Code::WrongType, var.pos(), message, rule);
                }
            }
            if var.required && var.default.is_some() {
                let message = format!("variable `{name}` is required and has a default");
                self.error(Code::Contradiction, var.pos(), message, "drop one of the two");
            }
        }
        for (name, slot) in &doc.slots {
            self.check_name("slot", name, slot.pos());
            self.check_enum(name, slot.kind, &slot.values, slot.pos());
        }
        for (name, var) in &doc.vars {
            self.check_range(name, var.kind, (var.min, var.max), var.pos());
            for value in [&var.default, &var.example].into_iter().flatten() {
                if !vars::in_range((var.min, var.max), value) {
                    let message = format!("a value of variable `{name}` is out of its range");
                    let rule = vars::range_rule((var.min, var.max));
                    self.error(Code::OutOfRange, var.pos(), message, rule);
                }
            }
        }
        for (name, slot) in &doc.slots {
            self.check_range(name, slot.kind, (slot.min, slot.max), slot.pos());
        }
        self.check_entities();
        self.check_experiments();
        for (name, intent) in &doc.intents {
            self.check_name("intent", name, intent.pos());
            if [FILLED, ANY, NO_INPUT, NO_MATCH, "none"].contains(&name.as_str()) {
                self.error(
                    Code::BadName,
                    intent.pos(),
                    format!("`{name}` cannot name an intent"),
                    "it has a meaning of its own; rename it",
                );
            }
            if intent.examples.iter().all(|e| e.trim().is_empty()) {
                self.error(
                    Code::FewExamples,
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
                    Code::BadName,
                    rule.code.pos(),
                    message,
                    "use letters, digits, `_` and `-`, at most 64, and not auto",
                );
            }
            if !codes.insert(rule.code.as_str()) && rule.when.is_none() {
                let message = format!("outcome `{}` is declared twice", &*rule.code);
                self.error(
                    Code::Duplicate,
                    rule.code.pos(),
                    message,
                    "drop one of the two, or give it a `when`",
                );
            }
        }
        match doc.outcomes.last() {
            Some(last) if last.when.as_ref().is_some_and(|w| w.trim() == "true") => {}
            Some(last) => self.error(
                Code::NoOutcome,
                last.pos(),
                "a call could end without an outcome",
                "add a last outcome with when: \"true\", such as {code: no_result, when: \"true\"}",
            ),
            None => self.error(
                Code::NoOutcome,
                Pos::default(),
                "the script has no outcomes",
                "add outcomes, the last with when: \"true\"",
            ),
        }
    }

    fn check_range(&mut self, name: &str, kind: Type, range: Range, pos: Pos) {
        if range == (None, None) {
            return;
        }
        if !matches!(kind, Type::Number | Type::Money) {
            let message = format!("`{name}` has a range and is a {}", type_name(kind));
            self.error(Code::StrayField, pos, message, "drop min and max, or make it a number");
        }
        if let (Some(min), Some(max)) = range
            && min > max
        {
            let message = format!("the range of `{name}` is empty");
            self.error(Code::Contradiction, pos, message, "let min be less than max");
        }
    }

    fn check_entities(&mut self) {
        for (name, entity) in &self.doc.entities {
            let pos = entity.pos();
            self.check_name("entity", name, pos);
            if vars::ENTITY_KINDS.contains(&name.as_str()) {
                let message = format!("`{name}` is a kind of value that is found anyway");
                self.error(Code::BadName, pos, message, "rename the entity");
            }
            if entity.values.is_empty() {
                let message = format!("entity `{name}` has no values");
                self.error(Code::EnumValues, pos, message, "add values: {red: [red, crimson]}");
            }
            let mut owners: BTreeMap<String, &str> = BTreeMap::new();
            for (sound, value) in crate::entities::sounds(entity) {
                let owned = entity.values.keys().find(|v| **v == value).map_or("", String::as_str);
                if let Some(other) = owners.insert(sound.clone(), owned).filter(|other| *other != owned) {
                    let message = format!("`{sound}` stands for both `{other}` and `{owned}`");
                    self.error(Code::CollidingExamples, pos, message, "keep it with one of the two");
                }
            }
        }
    }

    fn check_experiments(&mut self) {
        let doc = self.doc;
        for (name, experiment) in &doc.experiments {
            let pos = experiment.pos();
            self.check_name("experiment", name, pos);
            for arm in experiment.arms.keys() {
                self.check_name("arm", arm, pos);
            }
            if !experiment.arms.contains_key(CONTROL) || experiment.arms.len() < 2 {
                let message = format!("experiment `{name}` needs an arm `{CONTROL}` and another one");
                self.error(Code::BadExperiment, pos, message, "write arms: {control: 50, other: 50}");
            }
            if experiment.arms.values().all(|w| *w == 0) || experiment.arms.values().any(|w| *w > MAX_WEIGHT)
            {
                let message = format!("the weights of experiment `{name}` make no shares");
                self.error(Code::BadExperiment, pos, message, "use whole numbers up to 10000, not all 0");
            }
            match doc.vars.get(experiment.by.as_str()) {
                None => {
                    let known: Vec<&str> = doc.vars.keys().map(String::as_str).collect();
                    let message = format!("there is no variable `{}`", &*experiment.by);
                    let remedy = did_you_mean(&experiment.by, &known);
                    self.error(Code::UnknownVariable, experiment.by.pos(), message, remedy);
                }
                Some(var) if !var.required => {
                    let message = format!("a call may have no `{}` to tell customers apart", &*experiment.by);
                    self.error(Code::BadExperiment, experiment.by.pos(), message, "make it required");
                }
                Some(_) => {}
            }
            self.outcome(&experiment.metric, experiment.metric.pos());
            if let Some(guard) = &experiment.guard {
                self.outcome(&guard.outcome, guard.outcome.pos());
                if !(0.0..=1.0).contains(&guard.max_rise) {
                    let message = "guard.max_rise is out of range";
                    self.error(Code::OutOfRange, pos, message, "use a share from 0 to 1, such as 0.02");
                }
            }
        }
    }

    fn check_name(&mut self, what: &str, name: &str, pos: Pos) {
        if !is_name(name) {
            self.error(
                Code::BadName,
                pos,
                format!("`{name}` cannot name a {what}"),
                "use letters, digits and _, at most 64",
            );
        }
    }

    fn check_enum(&mut self, name: &str, kind: Type, values: &[String], pos: Pos) {
        if kind == Type::Enum && values.is_empty() {
            self.error(
                Code::EnumValues,
                pos,
                format!("`{name}` is an enum without values"),
                "add values: [first, second]",
            );
        }
        if kind != Type::Enum && !values.is_empty() {
            let message = format!("`{name}` has values and is a {}", type_name(kind));
            self.error(Code::EnumValues, pos, message, "make it an enum, or drop the values");
        }
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.chars().count() <= 64
        && text.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-')
}
