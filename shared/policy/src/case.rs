//! The facts that the gate judges.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline_model::{Callee, E164};

use crate::Pack;
use crate::rules::{Hours, NumberClass, VoicemailAction};

/// Why somebody is called; the same names as in scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A payment that is due or overdue.
    DebtReminder,
    /// An appointment to confirm or move.
    Appointment,
    /// An offer.
    Marketing,
    /// A question about how satisfied the customer is.
    Survey,
    /// Something that the customer should know.
    Notice,
    /// Something that the customer asked for.
    Service,
}

impl Purpose {
    /// Returns the name used in scripts and packs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DebtReminder => "debt_reminder",
            Self::Appointment => "appointment",
            Self::Marketing => "marketing",
            Self::Survey => "survey",
            Self::Notice => "notice",
            Self::Service => "service",
        }
    }
}

/// On what a call is based, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Nothing.
    None,
    /// A contract that the call serves.
    Contract,
    /// Express consent, such as by voice.
    Express,
    /// Express consent in writing.
    Written,
}

/// A consent, or another legal basis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    /// What it is.
    pub basis: Basis,
    /// When it was given.
    #[serde(default)]
    pub given: Option<Timestamp>,
    /// When it ends.
    #[serde(default)]
    pub expires: Option<Timestamp>,
    /// When it was withdrawn.
    #[serde(default)]
    pub revoked: Option<Timestamp>,
    /// What for; empty means for every purpose.
    #[serde(default)]
    pub purposes: BTreeSet<Purpose>,
    /// It covers an artificial voice.
    #[serde(default)]
    pub ai_voice: bool,
    /// Where the proof is.
    #[serde(default)]
    pub proof: Option<String>,
}

/// What an opt-out covers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "scope", content = "of")]
pub enum OptOutScope {
    /// This number.
    Number,
    /// This person, on every number.
    Person,
    /// This debt.
    Debt(String),
    /// This purpose.
    Purpose(Purpose),
}

/// A word that is not taken back: "do not call me again".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptOut {
    /// What it covers.
    pub scope: OptOutScope,
    /// How it was said: `spoken`, `dtmf`, `sms`, `api`.
    pub channel: String,
    /// When.
    pub at: Timestamp,
}

/// An entry of a suppression list that names the contact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppression {
    /// The list: `global`, `tenant`, `campaign:…`, `national`, `litigator`.
    pub list: String,
    /// When the entry ends; `None` is for ever.
    pub until: Option<Timestamp>,
}

impl Suppression {
    /// Says whether the entry is about calls of this campaign, or of none: a list `campaign:x` is about those of x only,
    /// every other list about all.
    pub fn covers(&self, campaign: Option<&str>) -> bool {
        self.list.strip_prefix("campaign:").is_none_or(|only| campaign == Some(only))
    }
}

/// A time zone that somebody wrote down for a contact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneHint {
    /// An IANA name.
    pub name: String,
    /// Where it comes from.
    pub source: String,
    /// 0 to 100.
    pub confidence: u8,
}

/// Who would be called.
#[derive(Clone, PartialEq, Eq)]
pub struct Contact {
    /// The number, or a SIP address in a laboratory.
    pub callee: Callee,
    /// Country of the stored address, ISO 3166-1 alpha-2.
    pub country: Option<String>,
    /// State or province of the stored address, such as `FL`.
    pub region: Option<String>,
    /// A zone that is known.
    pub zone: Option<ZoneHint>,
    /// The legal basis.
    pub consent: Option<Consent>,
    /// Opt-outs of this person and number.
    pub opt_outs: Vec<OptOut>,
    /// Suppression entries that name the contact.
    pub suppressions: Vec<Suppression>,
    /// When somebody said that this number is another person's.
    pub wrong_party_at: Option<Timestamp>,
    /// When the number was checked again after that.
    pub reverified_at: Option<Timestamp>,
    /// A minor, or somebody vulnerable.
    pub vulnerable: bool,
    /// The debt that the call is about.
    pub debt: Option<String>,
}

impl Contact {
    /// Returns a contact of whom nothing else is known.
    pub fn new(callee: Callee) -> Self {
        Self {
            callee,
            country: None,
            region: None,
            zone: None,
            consent: None,
            opt_outs: Vec::new(),
            suppressions: Vec::new(),
            wrong_party_at: None,
            reverified_at: None,
            vulnerable: false,
            debt: None,
        }
    }
}

impl Contact {
    /// Says whether there is a written consent that nobody has withdrawn, or announced to.
    pub fn consented_in_writing(&self) -> bool {
        let consent = self.consent.as_ref();
        consent.is_some_and(|consent| consent.basis == Basis::Written && consent.revoked.is_none())
    }
}

impl fmt::Debug for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contact")
            .field("callee", &self.callee)
            .field("country", &self.country)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

/// How an attempt went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptResult {
    /// It is under way, or nobody knows: counted like a conversation.
    Open,
    /// Nobody answered.
    NotConnected,
    /// Somebody or something answered, without a conversation.
    Connected,
    /// A conversation.
    Conversation,
    /// Answered and dropped by us, or left waiting for a person who did not come.
    Abandoned,
}

impl AttemptResult {
    /// Says whether somebody was talked with, also where it ended badly.
    pub fn is_conversation(self) -> bool {
        matches!(self, Self::Conversation | Self::Abandoned)
    }
}

/// An attempt of the past, over whatever line and campaign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it was made.
    pub at: Timestamp,
    /// How it went.
    pub result: AttemptResult,
    /// To the number that would be called now, and not to another one of the person.
    pub same_number: bool,
    /// The debt that it was about.
    pub debt: Option<String>,
}

/// STIR/SHAKEN levels (ATIS-1000074), the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Attestation {
    /// Gateway.
    C,
    /// Partial.
    B,
    /// Full.
    A,
}

/// What a line is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineKind {
    /// A SIP trunk.
    Sip,
    /// A GSM module.
    Gsm,
}

/// A number that is shown to the callee.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Did {
    /// The number.
    pub number: E164,
    /// Where the proof of the right to use it is.
    pub proof: Option<String>,
    /// Who calls back is answered and can opt out.
    pub reachable: bool,
    /// Its class.
    pub class: NumberClass,
    /// It may receive calls only.
    pub inbound_only: bool,
    /// Calls shown with it today.
    pub calls_today: u32,
    /// Share of answered calls of the last day, 0 to 1, when there are enough.
    pub answer_rate: Option<f64>,
    /// Complaints of the last 30 days.
    pub complaints: u32,
}

/// A SIM and the module that it sits in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sim {
    /// Who the SIM is registered to.
    pub holder: Option<String>,
    /// Who operates the line.
    pub operator: String,
    /// The SIM is at the branch that it was issued for.
    pub at_its_branch: bool,
    /// ICCID, IMSI and IMEI are those of the registration.
    pub identity_unchanged: bool,
}

/// The line that would be used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Its name, for the receipt.
    pub id: String,
    /// What it is.
    pub kind: LineKind,
    /// Country in which it enters the telephone network.
    pub country: Option<String>,
    /// A declared laboratory line: it ends on a loopback and reaches no telephone.
    pub lab: bool,
    /// The caller id that was asked for.
    pub caller_id: Option<E164>,
    /// What is registered about it; without `caller_id` about the trunk's own number, where known.
    pub did: Option<Did>,
    /// The caller id was chosen because it looks local to the callee.
    pub local_presence: bool,
    /// How strongly calls are signed.
    pub attestation: Option<Attestation>,
    /// The SIM of a GSM line.
    pub sim: Option<Sim>,
}

/// What the callee must be told before the first question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Disclosure {
    /// That a machine is speaking.
    Ai,
    /// That the call is recorded.
    Recording,
    /// Who is calling.
    Identity,
}

/// How the call is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Recording {
    /// Not at all.
    None,
    /// After a notice.
    Notice,
    /// After a question that was answered with yes.
    Ask,
}

/// What the gate knows about the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptFacts {
    /// Why it calls.
    pub purpose: Purpose,
    /// What it discloses.
    pub discloses: BTreeSet<Disclosure>,
    /// A spoken wish not to be called again is understood.
    pub opt_out_spoken: bool,
    /// A key does the same.
    pub opt_out_key: bool,
    /// A person takes over, or calls back, when the callee asks.
    pub human: bool,
    /// It makes sure who is speaking before a debt is named.
    pub right_party: bool,
    /// It wants to listen to the callee's tone of voice.
    pub tone_of_voice: bool,
    /// What it leaves on a voicemail; a text with variables counts as one with details.
    pub voicemail: VoicemailAction,
    /// Everything that it can say; shared by all calls that are judged with it.
    pub texts: Arc<Vec<String>>,
}

impl Default for ScriptFacts {
    /// A script that promises nothing, for the purpose with the strictest rules.
    fn default() -> Self {
        Self {
            purpose: Purpose::Marketing,
            discloses: BTreeSet::new(),
            opt_out_spoken: false,
            opt_out_key: false,
            human: false,
            right_party: false,
            tone_of_voice: false,
            voicemail: VoicemailAction::HangUp,
            texts: Arc::default(),
        }
    }
}

/// The call that is planned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What for.
    pub purpose: Purpose,
    /// The campaign, if it belongs to one.
    pub campaign: Option<String>,
    /// The campaign's own windows, in the callee's time; empty means no limit of its own.
    pub windows: Vec<Hours>,
    /// How long it rings, in seconds.
    pub ring_s: u32,
    /// The script. Not part of what travels: whoever judges has the script itself.
    #[serde(skip)]
    pub script: ScriptFacts,
    /// How it is recorded.
    pub recording: Recording,
    /// From the end of the callee's greeting to the robot's first word, in ms, as measured or planned.
    pub first_word_ms: u32,
    /// What is said to a voicemail.
    pub voicemail: VoicemailAction,
    /// Emotions or voiceprints are processed.
    pub emotion: bool,
    /// A person is there who can take the call.
    pub human_available: bool,
}

/// The state of a suppression list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListState {
    /// The list.
    pub list: String,
    /// When it was last brought up to date.
    pub as_of: Timestamp,
}

/// The state of the operation around the call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operations {
    /// The suppression lists.
    pub lists: Vec<ListState>,
    /// The slowest box's delay in taking over a revocation, in seconds.
    pub revocation_lag_s: u64,
    /// The history covers every line, campaign and box.
    pub history_complete: bool,
    /// How long records are kept, in days.
    pub retention_days: u32,
    /// A person's data can be exported and erased, boxes included.
    pub subject_rights: bool,
    /// Age of the oldest complaint without an answer, in days.
    pub oldest_complaint_days: u32,
    /// The campaign's abandonment rate over its window, 0 to 1, by the pack's formula.
    pub abandonment: Option<f64>,
    /// Exported audio carries its label.
    pub audio_label: bool,
}

/// Everything that the checks see.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// Who.
    pub contact: &'a Contact,
    /// The attempts so far.
    pub history: &'a [Attempt],
    /// On which line; `None` while no line is chosen, and then the checks about lines wait.
    pub line: Option<&'a Line>,
    /// What is planned.
    pub plan: &'a Plan,
    /// The operation's state.
    pub operations: &'a Operations,
    /// By which rules.
    pub pack: &'a Pack,
    /// When.
    pub now: Timestamp,
}
