//! What the gate knows about a call, as it travels with the call's lease: the box judges by the same
//! facts and the same code as the cloud, a moment later.

use std::fmt;

use crate::rules::VoicemailAction;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trunkline_model::Callee;

use crate::receipt::Inputs;
use crate::{
    Attempt, Consent, Contact, Decision, Facts, Line, Operations, OptOut, Pack, PackRef, Plan, ScriptFacts,
    Suppression, ZoneHint, decide,
};

/// The facts of one call without its number and without its script: the lease brings both anyway.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Dossier {
    /// Country of the stored address, ISO 3166-1 alpha-2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// State or province of the stored address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// A zone that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneHint>,
    /// The legal basis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<Consent>,
    /// Opt-outs of this person and number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opt_outs: Vec<OptOut>,
    /// Suppression entries that name the contact.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suppressions: Vec<Suppression>,
    /// When somebody said that this number is another person's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrong_party_at: Option<Timestamp>,
    /// When the number was checked again after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverified_at: Option<Timestamp>,
    /// A minor, or somebody vulnerable.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub vulnerable: bool,
    /// The debt that the call is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debt: Option<String>,
    /// The attempts so far, over all lines, campaigns and boxes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Attempt>,
    /// The line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<Line>,
    /// What is planned; what the script says is filled in by whoever has the script.
    pub plan: Plan,
    /// The operation's state.
    pub operations: Operations,
}

impl Dossier {
    /// Returns the contact, whose number comes beside the dossier.
    pub fn contact(&self, callee: &Callee) -> Contact {
        Contact {
            callee: callee.clone(),
            country: self.country.clone(),
            region: self.region.clone(),
            zone: self.zone.clone(),
            consent: self.consent.clone(),
            opt_outs: self.opt_outs.clone(),
            suppressions: self.suppressions.clone(),
            wrong_party_at: self.wrong_party_at,
            reverified_at: self.reverified_at,
            vulnerable: self.vulnerable,
            debt: self.debt.clone(),
        }
    }

    /// Plans to listen to the tone of voice, for scripts that want to, where every pack permits it and the
    /// consent is written.
    pub fn permit_emotion(&mut self, callee: &Callee, packs: &[&Pack]) {
        let written = self.contact(callee).consented_in_writing();
        self.plan.emotion = written && !packs.is_empty() && packs.iter().all(|pack| pack.call.emotion.value);
    }

    /// Fills in what the script says. The script's own purpose counts, and a tone of voice that it does not want
    /// to know is not listened to.
    pub fn with_script(&mut self, script: &ScriptFacts) {
        self.plan.purpose = script.purpose;
        self.plan.emotion &= script.tone_of_voice;
        self.plan.voicemail = script.voicemail;
        self.plan.script = script.clone();
    }

    /// Runs every check by every pack.
    pub fn decide(&self, callee: &Callee, packs: &[&Pack], now: Timestamp) -> Decision {
        let contact = self.contact(callee);
        let facts = Facts {
            contact: &contact,
            history: &self.history,
            line: self.line.as_ref(),
            plan: &self.plan,
            operations: &self.operations,
        };
        decide(&facts, packs, now)
    }

    /// Returns what a receipt says about the facts; `script` is the version.
    pub fn inputs(&self, script: &str) -> Inputs {
        Inputs {
            script: script.to_owned(),
            purpose: self.plan.purpose.as_str().to_owned(),
            line: self.line.as_ref().map(|line| line.id.clone()),
            attempts: u32::try_from(self.history.len()).unwrap_or(u32::MAX),
            caller_id: self
                .line
                .as_ref()
                .and_then(|line| line.caller_id.as_ref())
                .map(|number| number.reveal().to_owned()),
            shown: String::new(),
            asked: None,
        }
    }
}

impl fmt::Debug for Dossier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dossier")
            .field("country", &self.country)
            .field("attempts", &self.history.len())
            .field("line", &self.line.as_ref().map(|line| &line.id))
            .finish_non_exhaustive()
    }
}

/// What the cloud sends with a lease so that the box can judge the call itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The packs to judge by; a box that lacks one fetches it by its hash.
    pub packs: Vec<PackRef>,
    /// The facts.
    pub dossier: Dossier,
    /// How far the suppressions went when the lease was given: a box that has confirmed less does not dial.
    pub suppressions: u64,
}

impl ScriptFacts {
    /// Reads from a script's canonical text (JSON) what the gate wants to know. What cannot be read
    /// discloses nothing and counts as marketing, which has the strictest rules.
    pub fn read(canonical: &str) -> Self {
        let value: serde_json::Value = serde_json::from_str(canonical).unwrap_or_default();
        let mut found = Found::default();
        walk(&value, "", &mut found);
        let to_machine = |which: &str| value["answered_by"][which].as_str();
        found.texts.extend(["voicemail", "screener"].into_iter().filter_map(to_machine).map(str::to_owned));
        Self {
            purpose: serde_json::from_value(value["purpose"].clone()).unwrap_or(crate::Purpose::Marketing),
            discloses: serde_json::from_value(value["disclose"].clone()).unwrap_or_default(),
            // The interpreter honours it from every state of every script.
            opt_out_spoken: true,
            opt_out_key: false,
            // Every script has a hand-over with what happens when nobody is there.
            human: true,
            right_party: found.answered.contains("wrong_party"),
            tone_of_voice: value["tone_of_voice"].as_bool().unwrap_or(false),
            voicemail: match to_machine("voicemail") {
                None => VoicemailAction::HangUp,
                Some(text) if text.contains('{') => VoicemailAction::FullText,
                Some(_) => VoicemailAction::NeutralText,
            },
            texts: found.texts.into(),
        }
    }
}

#[derive(Default)]
struct Found {
    texts: Vec<String>,
    /// The intents that some node or digression answers.
    answered: std::collections::BTreeSet<String>,
}

fn walk(value: &serde_json::Value, key: &str, found: &mut Found) {
    use serde_json::Value;
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
