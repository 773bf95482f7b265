//! The compliance gate of the cloud: gathers what is on record, asks `shared/policy`, keeps the receipt.
//!
//! It runs when a call is asked for and again when it is given to a box; between the two the clock has
//! moved, and somebody may have opted out.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use trunkline_db::{Db, DbError, OnRecord};
use trunkline_dialer::people::LEAST_ANSWERS;
use trunkline_dialogue::Script;
use trunkline_model::{BoxId, CallId, Callee, E164, ScriptVersion};
use trunkline_policy::receipt::{Asked, Body, Stage};
use trunkline_policy::{
    Attestation, Consent, Decision, Did, Dossier, Hours, Line, LineKind, ListState, Operations, Order, Pack,
    PackRef, Packs, Plan, Purpose, Recording, ScriptFacts, VoicemailAction, ZoneHint,
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
    /// The boxes that may carry the call, or their lines; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub boxes: Vec<String>,
    /// Why this number is shown, of several.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub shown: String,
    /// It is shown because it begins like the callee's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub local_presence: bool,
    /// The customer asked for this call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
}

impl ContactFacts {
    /// Says whether this box may carry the call as far as whoever asked for it is concerned.
    pub fn may_go_to(&self, by: &BoxId) -> bool {
        let names = |name: &String| name.split_once('/').map_or(name.as_str(), |(on, _)| on) == by.as_str();
        self.boxes.is_empty() || self.boxes.iter().any(names)
    }

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

/// A call to be judged with others.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// The call.
    pub ask: Ask<'a>,
    /// What is said in it.
    pub script: &'a Script,
    /// The box that would carry it, once there is one.
    pub by: Option<&'a BoxId>,
}

/// What was decided about a call.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The decision with its reasons, to be filed.
    pub receipt: Body,
    packs: Vec<PackRef>,
    dossier: Dossier,
}

impl Judged {
    /// Returns what the box needs to judge the call itself; `suppressions` is the number of the last one, read after
    /// the call was judged.
    pub fn order(self, suppressions: u64) -> Order {
        Order { packs: self.packs, dossier: self.dossier, suppressions }
    }
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

    /// Returns the boxes and lines that may carry a call, of those that are allowed (none for all): test numbers leave
    /// by declared boxes only. `None` where no box is left.
    pub fn boxes_for(&self, callee: &Callee, allowed: &[String]) -> Option<Vec<String>> {
        let lab = self.packs.lab();
        if !matches!(callee, Callee::Number(_)) || !lab.covers(callee) {
            return Some(allowed.to_vec());
        }
        let on = |name: &String| name.split_once('/').map_or(name.clone(), |(on, _)| on.to_owned());
        let boxes: Vec<String> = if allowed.is_empty() {
            lab.boxes.iter().map(ToString::to_string).collect()
        } else {
            allowed
                .iter()
                .filter(|name| lab.boxes.iter().any(|declared| *declared == on(name)))
                .cloned()
                .collect()
        };
        (!boxes.is_empty()).then_some(boxes)
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
        let record = db.on_record(ask.callee, ask.call).await?;
        let question = Question { ask: *ask, script, by };
        let judged = self.weigh(db, &question, record, &mut Shared::default(), now).await?;
        db.append_receipt(&judged.receipt, now).await?;
        Ok(judged.receipt.decision)
    }

    /// Judges calls, without telling anybody; the answers are in the order of the questions. What is on record is read
    /// once for all of them: two calls to one callee do not know of each other.
    ///
    /// # Errors
    /// [`DbError`]; then nothing may be dialled.
    pub async fn judge_all(
        &self,
        db: &Db,
        questions: &[Question<'_>],
        now: Timestamp,
    ) -> Result<Vec<Judged>, DbError> {
        let asked: Vec<_> = questions.iter().map(|one| (one.ask.callee, one.ask.call)).collect();
        let records = db.on_record_of(&asked).await?;
        let mut shared = Shared::default();
        let mut judged = Vec::with_capacity(questions.len());
        for (question, record) in questions.iter().zip(records) {
            judged.push(self.weigh(db, question, record, &mut shared, now).await?);
        }
        Ok(judged)
    }

    async fn weigh(
        &self,
        db: &Db,
        question: &Question<'_>,
        record: OnRecord,
        shared: &mut Shared,
        now: Timestamp,
    ) -> Result<Judged, DbError> {
        let Question { ask, script, by } = *question;
        let dossier = self.dossier(&ask, record, by);
        let mut counted = dossier.clone();
        shared.count(db, &ask, &mut counted, now).await?;
        counted.with_script(shared.facts(script));
        let packs = self.packs.applicable(&counted.contact(ask.callee));
        let decision = counted.decide(ask.callee, &packs, now);
        let mut inputs = counted.inputs(script.version().as_str());
        inputs.caller_id = ask.caller_id.map(|number| number.reveal().to_owned());
        inputs.shown.clone_from(&ask.facts.shown);
        inputs.asked.clone_from(&ask.facts.asked);
        let stage = if by.is_some() { Stage::Lease } else { Stage::Request };
        Ok(Judged {
            receipt: Body { call: ask.call, stage, inputs, decision, anchor: None },
            packs: packs.into_iter().map(Pack::reference).collect(),
            dossier,
        })
    }

    /// Returns what the box needs to judge the call itself.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn order(&self, db: &Db, ask: &Ask<'_>, by: &BoxId) -> Result<Order, DbError> {
        let record = db.on_record(ask.callee, ask.call).await?;
        let dossier = self.dossier(ask, record, Some(by));
        let packs = self.packs.applicable(&dossier.contact(ask.callee));
        let packs = packs.into_iter().map(Pack::reference).collect();
        Ok(Order { packs, dossier, suppressions: db.suppression_head().await? })
    }

    /// Puts together what is known about a call.
    fn dossier(&self, ask: &Ask<'_>, record: OnRecord, by: Option<&BoxId>) -> Dossier {
        let facts = ask.facts;
        let mut dossier = Dossier {
            country: facts.country.clone(),
            region: facts.region.clone(),
            zone: facts.zone.clone().map(zone_hint),
            consent: facts.consent.clone().or_else(|| self.settings.basis.clone()),
            opt_outs: record.opt_outs,
            suppressions: record.suppressions,
            wrong_party_at: None,
            reverified_at: None,
            vulnerable: facts.vulnerable,
            debt: facts.debt.clone(),
            history: record.history,
            line: by.map(|by| self.line(by, ask)),
            plan: self.plan(ask),
            operations: self.operations(record.lists),
        };
        let packs = self.packs.applicable(&dossier.contact(ask.callee));
        dossier.permit_emotion(ask.callee, &packs);
        dossier
    }

    fn plan(&self, ask: &Ask<'_>) -> Plan {
        Plan {
            // The script fills in its own; until then the strictest.
            purpose: Purpose::Marketing,
            campaign: ask.campaign.map(str::to_owned),
            windows: ask.facts.windows.clone(),
            ring_s: self.settings.ring_s,
            script: ScriptFacts::default(),
            recording: if self.settings.recorded { Recording::Notice } else { Recording::None },
            // The greeting begins when somebody answers: there is no agent to wait for.
            first_word_ms: 800,
            voicemail: VoicemailAction::HangUp,
            // Decided once the packs are known.
            emotion: false,
            human_available: false,
        }
    }

    fn line(&self, by: &BoxId, ask: &Ask<'_>) -> Line {
        let caller_id = ask.caller_id;
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
            local_presence: ask.facts.local_presence,
            attestation: self.settings.attestation,
            sim: None,
        }
    }

    fn operations(&self, lists: Vec<ListState>) -> Operations {
        Operations {
            lists,
            // Each lease is judged by itself against the database, and goes only to a box that has confirmed
            // everything; the box counts for how long it has been out of reach since.
            revocation_lag_s: 0,
            // All calls of all boxes are in the one database that was asked.
            history_complete: true,
            retention_days: self.settings.retention_days,
            subject_rights: self.settings.subject_rights,
            oldest_complaint_days: 0,
            // Counted where the campaign is known.
            abandonment: None,
            audio_label: self.settings.audio_label,
        }
    }
}

/// A zone that came with a contact.
fn zone_hint(name: String) -> ZoneHint {
    ZoneHint { name, source: "request".into(), confidence: 90 }
}

/// What is found out once for all calls that are judged together.
#[derive(Default)]
struct Shared {
    /// Calls of the last 24 hours, by the number that they showed.
    shown: BTreeMap<String, u32>,
    /// What campaigns abandoned in the last 24 hours.
    abandonment: BTreeMap<String, Option<f64>>,
    /// What scripts promise.
    scripts: BTreeMap<ScriptVersion, ScriptFacts>,
}

impl Shared {
    fn facts(&mut self, script: &Script) -> &ScriptFacts {
        self.scripts.entry(script.version().clone()).or_insert_with(|| ScriptFacts::read(script.canonical()))
    }

    /// Fills in the calls of the number that is shown, and what the campaign abandoned.
    async fn count(
        &mut self,
        db: &Db,
        ask: &Ask<'_>,
        dossier: &mut Dossier,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let since = now.saturating_sub(SignedDuration::from_hours(24)).unwrap_or(Timestamp::MIN);
        if let Some(did) = dossier.line.as_mut().and_then(|line| line.did.as_mut()) {
            let calls = match self.shown.get(did.number.reveal()) {
                Some(calls) => *calls,
                None => {
                    let shown = db.shown_since(std::slice::from_ref(&did.number), since).await?;
                    let calls = shown.first().map_or(0, |(calls, _)| *calls);
                    self.shown.insert(did.number.reveal().to_owned(), calls);
                    calls
                }
            };
            // The call itself is one of them.
            did.calls_today = calls.saturating_sub(1);
        }
        if let Some(campaign) = ask.campaign {
            dossier.operations.abandonment = match self.abandonment.get(campaign) {
                Some(rate) => *rate,
                None => {
                    let day = db.campaign_sums(campaign, since).await?;
                    // A robot answers every call: who waits for nobody is abandoned by nobody.
                    let rate = (day.handovers > 0 && day.answered >= LEAST_ANSWERS)
                        .then(|| day.abandoned as f64 / day.answered as f64);
                    self.abandonment.insert(campaign.to_owned(), rate);
                    rate
                }
            };
        }
        Ok(())
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
        let facts_of = |script: &Script| ScriptFacts::read(script.canonical());
        let zh = facts_of(&script("repayment-reminder-zh.yaml"));
        assert_eq!(zh.purpose, Purpose::DebtReminder);
        assert!(zh.right_party && zh.opt_out_spoken && zh.discloses.len() == 3);
        assert!(zh.texts.iter().any(|text| text.contains("语音助手")), "{:?}", zh.texts);
        let en = facts_of(&script("appointment-confirmation-en.yaml"));
        assert_eq!(en.purpose, Purpose::Appointment);
        assert!(en.discloses.contains(&trunkline_policy::Disclosure::Ai) && en.texts.len() > 5);
        assert_eq!((zh.voicemail, en.voicemail), (VoicemailAction::HangUp, VoicemailAction::NeutralText));
        assert!(en.texts.iter().any(|text| text.contains("call us back")), "{:?}", en.texts);
        let personal = ScriptFacts::read(r#"{"answered_by": {"voicemail": "Please pay {amount}."}}"#);
        assert_eq!(personal.voicemail, VoicemailAction::FullText);
    }

    #[tokio::test]
    async fn a_tone_of_voice_is_planned_where_the_pack_permits_it_and_the_consent_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("cloud.sqlite")).await.unwrap();
        let gate = Gate::new(Packs::shipped().unwrap(), GateSettings::default());
        let by: BoxId = "tl-a".parse().unwrap();
        for (callee, basis, planned) in [
            ("+8613800138000", "written", true),
            ("+8613800138000", "express", false),
            ("+33142685300", "written", false),
        ] {
            let callee = callee.parse().unwrap();
            let consent = serde_json::from_value(serde_json::json!({ "basis": basis })).unwrap();
            let facts = ContactFacts { consent: Some(consent), ..ContactFacts::default() };
            let ask = Ask {
                call: CallId::from_u128(1),
                callee: &callee,
                caller_id: None,
                facts: &facts,
                campaign: None,
            };
            let order = gate.order(&db, &ask, &by).await.unwrap();
            assert_eq!(order.dossier.plan.emotion, planned, "{callee:?} {basis}");
        }
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
