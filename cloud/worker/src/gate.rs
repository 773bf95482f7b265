//! The compliance gate of the cloud: gathers what is on record, asks `shared/policy`, keeps the receipt.
//!
//! It runs when a call is asked for and again when it is given to a box; between the two the clock has
//! moved, and somebody may have opted out.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use trunkline_db::{Db, DbError};
use trunkline_dialogue::Script;
use trunkline_model::{BoxId, CallId, Callee, E164};
use trunkline_policy::receipt::{Body, Inputs, Stage};
use trunkline_policy::{
    Attestation, Consent, Contact, Decision, Did, Disclosure, Facts, Hours, Line, LineKind, ListState,
    Operations, Packs, Plan, Purpose, Recording, ScriptFacts, VoicemailAction, ZoneHint, decide,
};

/// What the operator declares about itself; what is not declared counts as not there.
#[derive(Clone, Debug)]
pub struct GateSettings {
    /// The legal basis of contacts for whom a request names none.
    pub basis: Option<Consent>,
    /// The caller ids that the operator may show.
    pub caller_ids: Vec<Did>,
    /// How strongly the trunks sign calls.
    pub attestation: Option<Attestation>,
    /// How long records are kept, in days.
    pub retention_days: u32,
    /// A person's data can be handed out and erased.
    pub subject_rights: bool,
    /// Audio that leaves is labelled as artificial.
    pub audio_label: bool,
    /// Calls are recorded.
    pub recorded: bool,
    /// How long a call rings, in seconds.
    pub ring_s: u32,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self {
            basis: None,
            caller_ids: Vec::new(),
            attestation: None,
            retention_days: 0,
            subject_rights: false,
            audio_label: false,
            recorded: true,
            ring_s: 30,
        }
    }
}

/// What is known about a contact beyond the number, as it is stored with a call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContactFacts {
    /// The legal basis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consent: Option<Consent>,
    /// Country of the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// State or province of the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// IANA time zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The debt that the call is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debt: Option<String>,
    /// To be called by people only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub vulnerable: bool,
    /// The campaign's own windows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Hours>,
}

impl ContactFacts {
    /// Returns the facts as they are stored.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }
}

/// A call to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The call.
    pub call: CallId,
    /// Whom.
    pub callee: &'a Callee,
    /// The number to show.
    pub caller_id: Option<&'a E164>,
    /// What is known about the contact.
    pub facts: &'a ContactFacts,
    /// The campaign.
    pub campaign: Option<&'a str>,
}

/// The gate.
#[derive(Clone, Debug)]
pub struct Gate {
    packs: Packs,
    settings: GateSettings,
}

impl Gate {
    /// Makes a gate.
    pub fn new(packs: Packs, settings: GateSettings) -> Self {
        Self { packs, settings }
    }

    /// Returns the packs.
    pub fn packs(&self) -> &Packs {
        &self.packs
    }

    /// Says whether this box may carry this call as far as the laboratory is concerned: test numbers
    /// leave by declared boxes only.
    pub fn may_carry(&self, callee: &Callee, by: &BoxId) -> bool {
        let lab = self.packs.lab();
        let test_number = matches!(callee, Callee::Number(_)) && lab.covers(callee);
        !test_number || lab.boxes.iter().any(|declared| declared == by.as_str())
    }

    /// Judges a call and appends the receipt.
    ///
    /// # Errors
    /// [`DbError`]; then nothing may be dialled.
    pub async fn judge(
        &self,
        db: &Db,
        ask: &Ask<'_>,
        script: &Script,
        by: Option<&BoxId>,
        now: Timestamp,
    ) -> Result<Decision, DbError> {
        let (decision, inputs) = self.look(db, ask, script, by, now).await?;
        let stage = if by.is_some() { Stage::Lease } else { Stage::Request };
        let body = Body { call: ask.call, stage, inputs, decision: decision.clone() };
        db.append_receipt(&body, now).await?;
        Ok(decision)
    }

    /// Judges a call without a receipt, as for a report of what would be.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn look(
        &self,
        db: &Db,
        ask: &Ask<'_>,
        script: &Script,
        by: Option<&BoxId>,
        now: Timestamp,
    ) -> Result<(Decision, Inputs), DbError> {
        let record = db.on_record(ask.callee, ask.call).await?;
        let facts = ask.facts;
        let contact = Contact {
            country: facts.country.clone(),
            region: facts.region.clone(),
            zone: facts.zone.clone().map(|name| ZoneHint { name, source: "request".into(), confidence: 90 }),
            consent: facts.consent.clone().or_else(|| self.settings.basis.clone()),
            opt_outs: record.opt_outs,
            suppressions: record.suppressions,
            vulnerable: facts.vulnerable,
            debt: facts.debt.clone(),
            ..Contact::new(ask.callee.clone())
        };
        let plan = self.plan(script, ask);
        let line = by.map(|by| self.line(by, ask.caller_id));
        let operations = self.operations(record.lists);
        let packs = self.packs.applicable(&contact);
        let facts = Facts {
            contact: &contact,
            history: &record.history,
            line: line.as_ref(),
            plan: &plan,
            operations: &operations,
        };
        let decision = decide(&facts, &packs, now);
        let inputs = Inputs {
            script: script.version().as_str().to_owned(),
            purpose: plan.purpose.as_str().to_owned(),
            line: line.map(|line| line.id),
            attempts: u32::try_from(record.history.len()).unwrap_or(u32::MAX),
        };
        Ok((decision, inputs))
    }

    fn plan(&self, script: &Script, ask: &Ask<'_>) -> Plan {
        Plan {
            purpose: purpose_of(script),
            campaign: ask.campaign.map(str::to_owned),
            windows: ask.facts.windows.clone(),
            ring_s: self.settings.ring_s,
            script: facts_of(script),
            recording: if self.settings.recorded { Recording::Notice } else { Recording::None },
            // The greeting begins when somebody answers: there is no agent to wait for.
            first_word_ms: 800,
            voicemail: VoicemailAction::HangUp,
            emotion: false,
            human_available: false,
        }
    }

    fn line(&self, by: &BoxId, caller_id: Option<&E164>) -> Line {
        let lab = self.packs.lab().boxes.iter().any(|declared| declared == by.as_str());
        Line {
            id: format!("{by}/trunk"),
            kind: LineKind::Sip,
            country: None,
            lab,
            caller_id: caller_id.cloned(),
            did: caller_id
                .and_then(|asked| self.settings.caller_ids.iter().find(|did| did.number == *asked))
                .cloned(),
            local_presence: false,
            attestation: self.settings.attestation,
            sim: None,
        }
    }

    fn operations(&self, lists: Vec<ListState>) -> Operations {
        Operations {
            lists,
            // Each lease is judged by itself against the database, so that what is on record now counts.
            revocation_lag_s: 0,
            // All calls of all boxes are in the one database that was asked.
            history_complete: true,
            retention_days: self.settings.retention_days,
            subject_rights: self.settings.subject_rights,
            oldest_complaint_days: 0,
            // A robot answers every call: nobody waits for an agent.
            abandonment: None,
            audio_label: self.settings.audio_label,
        }
    }
}

/// Scripts and packs use the same names. A purpose that packs do not know is taken for the one with the
/// strictest rules.
fn purpose_of(script: &Script) -> Purpose {
    let written = serde_json::to_value(*script.document().purpose).unwrap_or_default();
    serde_json::from_value(written).unwrap_or(Purpose::Marketing)
}

/// What the gate wants to know about a script.
pub fn facts_of(script: &Script) -> ScriptFacts {
    let disclosed = serde_json::to_value(&script.document().disclose).unwrap_or_default();
    let disclosed: BTreeSet<Disclosure> = serde_json::from_value(disclosed).unwrap_or_default();
    let canonical: Value = serde_json::from_str(script.canonical()).unwrap_or_default();
    let mut found = Found::default();
    walk(&canonical, "", &mut found);
    ScriptFacts {
        discloses: disclosed,
        // The interpreter honours it from every state of every script.
        opt_out_spoken: true,
        opt_out_key: false,
        // Every script has a hand-over with what happens when nobody is there.
        human: true,
        right_party: found.answered.contains("wrong_party"),
        texts: found.texts,
    }
}

#[derive(Default)]
struct Found {
    texts: Vec<String>,
    /// The intents that some node or digression answers.
    answered: BTreeSet<String>,
}

fn walk(value: &Value, key: &str, found: &mut Found) {
    match value {
        Value::String(text) if key == "say" => found.texts.push(text.clone()),
        Value::String(intent) if key == "on" => {
            found.answered.insert(intent.clone());
        }
        Value::Array(items) => items.iter().for_each(|item| walk(item, key, found)),
        Value::Object(map) => {
            if key == "on" {
                found.answered.extend(map.keys().cloned());
            }
            map.iter().for_each(|(key, inner)| walk(inner, key, found));
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(name: &str) -> Script {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/scripts").join(name);
        Script::load(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn the_sample_scripts_tell_the_gate_what_they_promise() {
        let zh = facts_of(&script("repayment-reminder-zh.yaml"));
        assert!(zh.right_party && zh.opt_out_spoken && zh.discloses.len() == 3);
        assert!(zh.texts.iter().any(|text| text.contains("语音助手")), "{:?}", zh.texts);
        let en = facts_of(&script("appointment-confirmation-en.yaml"));
        assert!(en.discloses.contains(&Disclosure::Ai) && en.texts.len() > 5);
    }

    #[tokio::test]
    async fn a_call_is_judged_on_what_is_on_record_and_the_chain_of_receipts_holds() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("cloud.sqlite")).await.unwrap();
        let consent: Consent = serde_json::from_str(r#"{"basis": "contract"}"#).unwrap();
        let settings = GateSettings {
            basis: Some(consent),
            retention_days: 365,
            subject_rights: true,
            audio_label: true,
            ..GateSettings::default()
        };
        let gate = Gate::new(Packs::shipped().unwrap(), settings);
        let script = script("repayment-reminder-zh.yaml");
        let (callee, facts) = ("+8613800138000".parse().unwrap(), ContactFacts::default());
        let ask = |n| Ask {
            call: CallId::from_u128(n),
            callee: &callee,
            caller_id: None,
            facts: &facts,
            campaign: None,
        };
        let at = |text: &str| text.parse::<Timestamp>().unwrap();

        let day = gate.judge(&db, &ask(1), &script, None, at("2026-11-23T02:00:00Z")).await.unwrap();
        assert!(day.allows(), "{:?}", day.verdict);
        let night = gate.judge(&db, &ask(2), &script, None, at("2026-11-23T15:00:00Z")).await.unwrap();
        assert_eq!(night.verdict.reason().map(|r| r.as_str()), Some("outside_hours"));
        let opt_out = trunkline_policy::OptOut {
            scope: trunkline_policy::OptOutScope::Person,
            channel: "api".into(),
            at: at("2026-11-23T03:00:00Z"),
        };
        db.opt_out(&callee, &opt_out).await.unwrap();
        let opted = gate.judge(&db, &ask(1), &script, None, at("2026-11-23T03:00:01Z")).await.unwrap();
        assert_eq!(opted.verdict.reason().map(|r| r.as_str()), Some("opted_out"));

        let log: String = db
            .receipts_after(0, 10)
            .await
            .unwrap()
            .iter()
            .map(|entry| format!("{}\n", entry.line().unwrap()))
            .collect();
        assert_eq!(trunkline_policy::receipt::verify(&log).unwrap().map(|(seq, _)| seq), Some(3));
        assert_eq!(db.receipts_of(CallId::from_u128(1)).await.unwrap().len(), 2);
        assert!(!log.contains("138001380"));
    }
}
