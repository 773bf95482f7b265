//! What a draft would have decided in calls that were made with another version.
//!
//! Each stored turn is put to the draft where the stored call stood, with the understanding that was stored;
//! the call then goes on as it did, so that one difference does not make all that follow. A turn at a node
//! that the draft no longer has cannot be compared, and is counted as such.

use std::collections::BTreeMap;
use std::io::BufRead;

use anyhow::{Context, Result};
use serde::Serialize;
use trunkline_dialogue::{Action, Entity, Event, Heard, Script, Variables, start, step};
use trunkline_wire::{CallRecord, TurnRecord};

/// A turn that the draft decides otherwise.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Difference {
    /// The call.
    pub(crate) call: String,
    /// The turn within it.
    pub(crate) turn: u32,
    /// The node at which the call stood.
    pub(crate) at: String,
    /// What was heard; empty for silence. Personal data.
    pub(crate) heard: String,
    /// The node that the call went to, and why.
    pub(crate) went: (String, String),
    /// The node that the draft goes to, and why.
    pub(crate) goes: (String, String),
}

/// What came of a replay.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Replay {
    /// Calls that were read.
    pub(crate) calls: usize,
    /// Turns that were compared.
    pub(crate) turns: usize,
    /// Turns at nodes that the draft does not have.
    pub(crate) lost: usize,
    /// The turns that differ.
    pub(crate) differences: Vec<Difference>,
    /// How many of the turns at a node differ: differing, all.
    pub(crate) by_node: BTreeMap<String, (usize, usize)>,
}

impl Replay {
    /// Reads call records, one a line, and puts their turns to the draft.
    ///
    /// # Errors
    ///
    /// When a line cannot be read or is no call record; the line is named.
    pub(crate) fn read(draft: &Script, records: impl BufRead) -> Result<Self> {
        let mut replay = Self::default();
        for (number, line) in (1_usize..).zip(records.lines()) {
            let line = line.with_context(|| format!("line {number} cannot be read"))?;
            if line.trim().is_empty() {
                continue;
            }
            let record: CallRecord =
                serde_json::from_str(&line).with_context(|| format!("line {number} is no call record"))?;
            replay.call(draft, &record);
        }
        Ok(replay)
    }

    fn call(&mut self, draft: &Script, record: &CallRecord) {
        self.calls += 1;
        let variables: Variables = draft.example_variables();
        let Ok(mut state) = start(draft, &variables) else { return };
        for (before, turn) in record.turns.iter().zip(record.turns.iter().skip(1)) {
            let event = event(turn);
            let at = &before.decision.node;
            let elapsed_s = turn.customer.as_ref().map_or(0, |c| seconds(c.end_s));
            if draft.document().nodes.iter().all(|node| node.id.as_str() != at) && at != "handoff" {
                self.lost += 1;
                continue;
            }
            state = state.standing_at(at);
            let done = step(draft, &state, &event, elapsed_s);
            let (differing, all) = self.by_node.entry(at.clone()).or_default();
            self.turns += 1;
            *all += 1;
            if done.node != turn.decision.node {
                *differing += 1;
                self.differences.push(Difference {
                    call: record.call.to_string(),
                    turn: turn.turn,
                    at: at.clone(),
                    heard: turn.customer.as_ref().map(|c| c.text.clone()).unwrap_or_default(),
                    went: (turn.decision.node.clone(), turn.decision.because.clone()),
                    goes: (done.node.clone(), done.because.clone()),
                });
            }
            // What the draft found out stands; where it stands is taken from the call.
            if !done.actions.iter().any(|action| matches!(action, Action::End { .. })) {
                state = done.state;
            }
        }
    }

    /// Prints what differs, and how often at which node.
    pub(crate) fn page(&self) -> String {
        let mut page = String::new();
        for d in &self.differences {
            let heard = if d.heard.is_empty() { "…" } else { &d.heard };
            page.push_str(&format!(
                "{} turn {} at {}: {heard}\n    went to {} ({})\n    goes to {} ({})\n",
                d.call, d.turn, d.at, d.went.0, d.went.1, d.goes.0, d.goes.1
            ));
        }
        for (node, (differing, all)) in self.by_node.iter().filter(|(_, (differing, _))| *differing > 0) {
            page.push_str(&format!("{node}: {differing} of {all} turns differ\n"));
        }
        page.push_str(&format!(
            "{} of {} turns in {} calls differ; {} were at nodes that the draft does not have\n",
            self.differences.len(),
            self.turns,
            self.calls,
            self.lost
        ));
        page
    }
}

fn event(turn: &TurnRecord) -> Event {
    let Some(customer) = &turn.customer else {
        let failed = turn.decision.because.strip_prefix("hand-over failed: ");
        return match failed {
            Some(reason) => Event::TransferFailed { reason: reason.to_owned() },
            None if turn.decision.because.contains("hung up") => Event::HungUp,
            None => Event::NoInput,
        };
    };
    let understanding = &turn.decision.understanding;
    let entities = understanding
        .entities
        .iter()
        .map(|e| Entity { kind: e.kind.clone(), value: e.value.clone(), text: e.text.clone() })
        .collect();
    Event::Heard(Heard {
        text: customer.text.clone(),
        intent: understanding.intent.clone(),
        score: understanding.score,
        entities,
        sentiment: understanding.sentiment,
        arousal: customer.voice.map(|voice| voice.arousal),
    })
}

fn seconds(seconds: f32) -> u32 {
    // Saturates, and a call has no negative time.
    seconds.max(0.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = include_str!("../../../../shared/scripts/repayment-reminder-zh.yaml");

    fn record(turns: &[(&str, &str, &str, f32)]) -> String {
        let mut list =
            vec![serde_json::json!({"turn": 0, "decision": {"node": "open", "because": "answered"}})];
        for (i, (text, intent, node, score)) in (1..).zip(turns) {
            let mut decision = serde_json::json!({"node": node, "because": format!("intent {intent}")});
            decision["understanding"] =
                serde_json::json!({"intent": intent, "score": score, "layer": "encoder"});
            list.push(serde_json::json!({
                "turn": i, "customer": {"text": text, "start_s": 1.0, "end_s": 2.0}, "decision": decision,
            }));
        }
        let golden = include_str!("../../../../shared/wire/src/golden/call_ended.v1.json");
        let mut record: serde_json::Value = serde_json::from_str(golden).unwrap();
        record["turns"] = list.into();
        record.to_string()
    }

    #[test]
    fn the_version_that_made_the_calls_decides_as_it_did() {
        let script = Script::load(SCRIPT).unwrap();
        let line = record(&[
            ("是我", "yes", "remind", 1.0),
            ("我失业了", "hardship", "hardship", 0.9),
            ("不用了", "no", "noted", 1.0),
        ]);
        let replay = Replay::read(&script, format!("{line}\n\n{line}\n").as_bytes()).unwrap();
        assert_eq!((replay.calls, replay.turns, replay.lost), (2, 6, 0));
        assert_eq!(replay.differences, []);
    }

    #[test]
    fn a_draft_that_goes_elsewhere_is_named_turn_by_turn_and_the_call_goes_on_as_it_did() {
        let draft = SCRIPT.replace("      hardship: hardship\n      dispute: dispute\n      refuse: ask_reason\n      ask_how: {say: \"{how_to_pay}\", then: ask_date}",
            "      hardship: noted\n      dispute: dispute\n      refuse: ask_reason\n      ask_how: {say: \"{how_to_pay}\", then: ask_date}");
        assert_ne!(draft, SCRIPT);
        let draft = Script::load(&draft).unwrap();
        let line = record(&[
            ("是我", "yes", "remind", 1.0),
            ("我失业了", "hardship", "hardship", 0.9),
            ("不用了", "no", "noted", 1.0),
        ]);
        let replay = Replay::read(&draft, line.as_bytes()).unwrap();
        assert_eq!(replay.differences.len(), 1);
        let found = &replay.differences[0];
        assert_eq!(
            (found.at.as_str(), found.went.0.as_str(), found.goes.0.as_str()),
            ("remind", "hardship", "noted")
        );
        assert_eq!(replay.by_node["remind"], (1, 1));
        assert!(replay.page().contains("remind: 1 of 1 turns differ"), "{}", replay.page());
    }

    #[test]
    fn a_line_that_is_no_record_is_named() {
        let script = Script::load(SCRIPT).unwrap();
        let error = Replay::read(&script, "\n{}\n".as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "line 2 is no call record");
    }
}
