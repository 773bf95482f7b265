//! A call that every check allows, to be spoilt in one respect at a time.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses a part")]

use std::collections::BTreeSet;

use jiff::Timestamp;
use trunkline_model::Callee;
use trunkline_policy::*;

/// Monday, 23 November 2026, 10:30 in Shanghai.
pub const MONDAY_CN: &str = "2026-11-23T02:30:00Z";
/// Monday, 23 November 2026, 14:30 in New York, 09:30 in Honolulu.
pub const MONDAY_US: &str = "2026-11-23T19:30:00Z";

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[derive(Clone)]
pub struct World {
    pub contact: Contact,
    pub history: Vec<Attempt>,
    pub line: Option<Line>,
    pub plan: Plan,
    pub operations: Operations,
    pub pack: Pack,
    pub now: Timestamp,
}

impl World {
    pub fn of(pack: &str, callee: &str, now: &str) -> Self {
        let callee: Callee = callee.parse().unwrap();
        let now = at(now);
        let consent = Consent {
            basis: Basis::Written,
            given: Some(at("2026-01-01T00:00:00Z")),
            expires: None,
            revoked: None,
            purposes: BTreeSet::new(),
            ai_voice: true,
            proof: Some("form 17".into()),
        };
        let contact = Contact { consent: Some(consent), ..Contact::new(callee) };
        let did = Did {
            number: "+862155550100".parse().unwrap(),
            proof: Some("contract 4".into()),
            reachable: true,
            class: NumberClass::Geographic,
            inbound_only: false,
            calls_today: 3,
            answer_rate: Some(0.4),
            complaints: 0,
        };
        let line = Line {
            id: "tl-a/trunk".into(),
            kind: LineKind::Sip,
            country: Some("CN".into()),
            lab: false,
            caller_id: Some(did.number.clone()),
            did: Some(did),
            local_presence: false,
            attestation: Some(Attestation::A),
            sim: None,
        };
        let script = ScriptFacts {
            purpose: Purpose::DebtReminder,
            discloses: [Disclosure::Ai, Disclosure::Identity, Disclosure::Recording].into(),
            opt_out_spoken: true,
            opt_out_key: true,
            human: true,
            right_party: true,
            tone_of_voice: false,
            voicemail: VoicemailAction::HangUp,
            texts: vec!["Hello, I am a voice assistant.".into()].into(),
        };
        let plan = Plan {
            purpose: Purpose::DebtReminder,
            campaign: None,
            windows: Vec::new(),
            ring_s: 30,
            script,
            recording: Recording::Notice,
            first_word_ms: 800,
            voicemail: VoicemailAction::HangUp,
            emotion: false,
            human_available: false,
        };
        let lists = ["national", "litigator"]
            .map(|list| ListState { list: list.into(), as_of: at("2026-11-23T00:00:00Z") })
            .to_vec();
        let operations = Operations {
            lists,
            revocation_lag_s: 5,
            history_complete: true,
            retention_days: 2_000,
            subject_rights: true,
            oldest_complaint_days: 0,
            abandonment: None,
            audio_label: true,
        };
        let pack = Packs::shipped().unwrap().get(pack).unwrap().clone();
        Self { contact, history: Vec::new(), line: Some(line), plan, operations, pack, now }
    }

    pub fn cn() -> Self {
        Self::of("cn", "+8613800138000", MONDAY_CN)
    }

    pub fn us() -> Self {
        Self::of("us", "+12025550123", MONDAY_US)
    }

    pub fn run(&self, check: checks::CheckFn) -> Verdict {
        check(&self.case()).verdict
    }

    pub fn case(&self) -> Case<'_> {
        Case {
            contact: &self.contact,
            history: &self.history,
            line: self.line.as_ref(),
            plan: &self.plan,
            operations: &self.operations,
            pack: &self.pack,
            now: self.now,
        }
    }

    pub fn facts(&self) -> Facts<'_> {
        Facts {
            contact: &self.contact,
            history: &self.history,
            line: self.line.as_ref(),
            plan: &self.plan,
            operations: &self.operations,
        }
    }

    pub fn decide(&self) -> Decision {
        decide(&self.facts(), &[&self.pack], self.now)
    }

    pub fn did(&mut self) -> &mut Did {
        self.line.as_mut().unwrap().did.as_mut().unwrap()
    }
}

pub fn attempt(when: &str, result: AttemptResult) -> Attempt {
    Attempt { at: at(when), result, same_number: true, debt: None }
}

pub fn defer(until: &str, reason: Reason) -> Verdict {
    Verdict::Defer { until: at(until), reason }
}

pub fn skip(reason: Reason) -> Verdict {
    Verdict::Skip { reason }
}

pub fn block(reason: Reason) -> Verdict {
    Verdict::Block { reason }
}
