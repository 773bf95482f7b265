//! What is answered from anywhere, `opt_out` first.

use std::collections::{BTreeMap, BTreeSet};

use super::{Compiler, Pick};
use crate::code::Code;
use crate::document::{self, Act};
use crate::graph::{Back, Digression, Ending, OptOut, Target};
use crate::scalar::{At, Pos};

impl Compiler<'_> {
    pub(super) fn opt_out(&mut self) -> OptOut {
        let own = self.doc.digressions.iter().find(|d| d.on.as_str() == "opt_out");
        let Some(digression) = own else {
            let say = self.own(|b| b.opt_out, Pos::default(), "a digression on opt_out");
            let last = self.doc.outcomes.last().map(At::pos).unwrap_or_default();
            let outcome = self.outcome("opt_out", last);
            return OptOut { say, outcome };
        };
        let pos = digression.pos();
        let say = match &digression.say {
            Some(say) => self.text(say, pos),
            None => self.own(|b| b.opt_out, pos, "its `say`"),
        };
        if say.slots().next().is_some() {
            self.error(Code::OptOut, pos, "the answer to opt_out uses a slot", "say it without");
        }
        let outcome = match &digression.end {
            Some(code) if code.as_str() != "auto" => self.outcome(code, code.pos().or(pos)),
            Some(_) | None => {
                self.error(
                    Code::OptOut,
                    pos,
                    "opt_out does not end the call with an outcome",
                    "add end: opt_out",
                );
                self.outcome("opt_out", pos)
            }
        };
        if digression.back.is_some() || digression.visit.is_some() {
            self.error(
                Code::OptOut,
                pos,
                "opt_out goes on with the call",
                "drop `return` and `visit`; it ends the call",
            );
        }
        OptOut { say, outcome }
    }

    pub(super) fn digressions(&mut self) -> BTreeMap<String, Digression> {
        let mut out = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for digression in &self.doc.digressions {
            let (pos, on) = (digression.pos(), digression.on.as_str());
            self.intent(on, digression.on.pos());
            if !seen.insert(on) {
                self.error(
                    Code::Duplicate,
                    pos,
                    format!("there are two digressions on `{on}`"),
                    "drop one of the two",
                );
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
                self.error(Code::BadDigression, pos, message, "give it one of return, visit, end");
                Back::Resume
            }
            (_, Some(visit), _) => Back::Visit(self.target(visit, pos)),
            (_, _, Some(code)) => Back::End(self.ending(code, pos)),
            (Some(back), None, None) => match back.as_str() {
                "resume" | "listen" if silent => {
                    let message = format!("digression `{on}` answers nothing");
                    self.error(Code::BadDigression, pos, message, "give it a `say`");
                    Back::Resume
                }
                "resume" => Back::Resume,
                "listen" => Back::Listen,
                _ => Back::Go(self.target(back, pos)),
            },
            (None, None, None) => {
                let message = format!("digression `{on}` does not say what comes after it");
                self.error(
                    Code::BadDigression,
                    pos,
                    message,
                    "add return: resume, return: node, or end: outcome",
                );
                Back::Resume
            }
        }
    }
}
