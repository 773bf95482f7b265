//! The parameters of a pack.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, Weekday};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::abandonment::Formula;
use crate::{Attestation, Basis, Disclosure, LineType, Purpose, Recording};

/// A parameter and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// The rule, the document or the decision behind it.
    pub source: String,
}

/// Who stands for a pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignOff {
    /// The role, such as `compliance officer`.
    pub role: String,
    /// When.
    #[schemars(with = "String")]
    pub at: Date,
    /// What was signed, and with which reservation.
    #[serde(default)]
    pub note: String,
}

/// A time of day in minutes since midnight, 00:00 to 24:00.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Clock(u16);

impl Clock {
    /// Returns the minutes since midnight.
    pub fn minutes(self) -> u16 {
        self.0
    }
}

impl FromStr for Clock {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no time of day; write it as 08:00");
        let (hours, minutes) = text.split_once(':').ok_or_else(wrong)?;
        let two = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        if !two(hours) || !two(minutes) {
            return Err(wrong());
        }
        let (hours, minutes): (u16, u16) =
            (hours.parse().map_err(|_| wrong())?, minutes.parse().map_err(|_| wrong())?);
        if minutes > 59 || hours * 60 + minutes > 24 * 60 {
            return Err(wrong());
        }
        Ok(Self(hours * 60 + minutes))
    }
}

impl TryFrom<String> for Clock {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Clock> for String {
    fn from(clock: Clock) -> Self {
        clock.to_string()
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl JsonSchema for Clock {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Clock".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "pattern": "^([01][0-9]|2[0-4]):[0-5][0-9]$", "description": "A time of day"
        })
    }
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl From<Weekday> for Day {
    fn from(day: Weekday) -> Self {
        match day {
            Weekday::Monday => Self::Mon,
            Weekday::Tuesday => Self::Tue,
            Weekday::Wednesday => Self::Wed,
            Weekday::Thursday => Self::Thu,
            Weekday::Friday => Self::Fri,
            Weekday::Saturday => Self::Sat,
            Weekday::Sunday => Self::Sun,
        }
    }
}

/// A range of local time, the end not included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    /// The days; empty means all.
    #[serde(default)]
    pub days: Vec<Day>,
    /// From.
    pub from: Clock,
    /// To; after `from`.
    pub to: Clock,
}

/// Hours for some purposes, in place of the general ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PurposeHours {
    /// The purposes.
    pub purposes: Vec<Purpose>,
    /// The hours.
    pub hours: Vec<Hours>,
    /// Where they come from.
    pub source: String,
}

/// Which check a cap belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "named like the checks")]
pub enum CapCheck {
    D2,
    D3,
    D4,
    D6,
}

/// What a cap counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// Every attempt.
    Attempts,
    /// Attempts that nobody answered, and those under way.
    NotConnected,
    /// Conversations, and attempts under way.
    Conversations,
}

/// Over whom a cap counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// This number.
    Number,
    /// The person on all numbers.
    Person,
    /// The person about this debt.
    Debt,
}

/// How far back a cap counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CapWindow {
    /// The last 24 hours.
    Sliding24h,
    /// The calendar day in the callee's zone.
    CalendarDay,
    /// The last seven times 24 hours.
    SevenDays,
    /// For ever.
    Lifetime,
}

/// At most so many in so long, over all campaigns, lines and boxes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cap {
    /// The check that applies it.
    pub check: CapCheck,
    /// What is counted.
    pub count: Counted,
    /// Over whom.
    pub scope: Scope,
    /// How far back.
    pub window: CapWindow,
    /// How many.
    pub max: u32,
    /// For which purposes; empty means all.
    #[serde(default)]
    pub purposes: Vec<Purpose>,
    /// Where it comes from.
    pub source: String,
}

/// Whether SIP addresses are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SipRule {
    /// Never: telephone numbers only.
    Never,
    /// A laboratory: declared SIP hosts and declared test numbers only, over laboratory lines.
    LabTargets,
}

/// A suppression list that the pack wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListRule {
    /// The list.
    pub list: String,
    /// How old it may be, in hours; `None` for lists that are kept here and are always current.
    #[serde(default)]
    pub max_age_h: Option<u32>,
    /// Purposes that need it; empty means all.
    #[serde(default)]
    pub purposes: Vec<Purpose>,
    /// Where it comes from.
    pub source: String,
}

/// Group A.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContactRules {
    /// Types that may be called. Emergency and premium numbers never may, whatever stands here.
    pub line_types: Sourced<Vec<LineType>>,
    /// SIP addresses.
    pub sip: Sourced<SipRule>,
    /// How sure a stored zone must be, 0 to 100, to replace the candidates.
    pub zone_confidence: Sourced<u8>,
    /// Suppression lists.
    pub lists: Vec<ListRule>,
    /// Days after which a number marked as somebody else's may be asked again once it was verified.
    pub wrong_party_days: Sourced<u32>,
    /// Vulnerable people and minors are called by people only.
    pub vulnerable_by_people_only: Sourced<bool>,
}

/// What a purpose needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsentRule {
    /// The purposes.
    pub purposes: Vec<Purpose>,
    /// The weakest basis that is enough.
    pub at_least: Basis,
    /// It must cover an artificial voice.
    #[serde(default)]
    pub ai_voice: bool,
    /// A proof must be kept.
    #[serde(default)]
    pub proof: bool,
    /// Where it comes from.
    pub source: String,
}

/// A purpose that is not served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Forbidden {
    /// The purpose.
    pub purpose: Purpose,
    /// Only over caller ids of this class; `None` means over all.
    #[serde(default)]
    pub over: Option<NumberClass>,
    /// Where it comes from.
    pub source: String,
}

/// Group B.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasisRules {
    /// What each purpose needs; a purpose without a rule is blocked.
    pub consent: Vec<ConsentRule>,
    /// What is not done.
    #[serde(default)]
    pub forbidden: Vec<Forbidden>,
    /// How long a revocation may take to reach every box, in seconds.
    pub revocation_s: Sourced<u64>,
}

/// The class of a caller id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NumberClass {
    /// A fixed line of a place.
    Geographic,
    /// A mobile number.
    Mobile,
    /// Free for the caller.
    TollFree,
    /// A nationwide call-centre number, such as 95xxx in China.
    CallCentre,
    /// Any other short or special number.
    Special,
}

/// What a class of caller ids is good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassRule {
    /// The class.
    pub class: NumberClass,
    /// The purposes that may be served with it.
    pub purposes: Vec<Purpose>,
    /// Where it comes from.
    pub source: String,
}

/// Group C.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LineRules {
    /// A caller id that is asked for must be in the registry, with proof.
    pub registered: Sourced<bool>,
    /// Who calls the number back must be answered, and be able to opt out.
    pub reachable: Sourced<bool>,
    /// Classes with limited use.
    #[serde(default)]
    pub classes: Vec<ClassRule>,
    /// The weakest signature that is enough.
    pub attestation: Sourced<Option<Attestation>>,
    /// Calls a day with one caller id.
    pub calls_per_day: Sourced<u32>,
    /// The answer rate below which a caller id rests, 0 to 1.
    pub answer_floor: Sourced<f64>,
    /// Complaints in 30 days from which a caller id rests.
    pub complaints: Sourced<u32>,
    /// Local presence, with owned numbers.
    pub local_presence: Sourced<bool>,
    /// SIMs must be registered to who operates them.
    pub sim_registered: Sourced<bool>,
    /// SIMs stay where they are.
    pub sim_fixed: Sourced<bool>,
    /// GSM lines are permitted.
    pub gsm: Sourced<bool>,
}

/// Group D.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeRules {
    /// Calling hours.
    pub hours: Sourced<Vec<Hours>>,
    /// Other hours for some purposes.
    #[serde(default)]
    pub purpose_hours: Vec<PurposeHours>,
    /// Days without calls.
    #[schemars(with = "Sourced<Vec<String>>")]
    pub holidays: Sourced<Vec<Date>>,
    /// The caps.
    pub caps: Vec<Cap>,
    /// Minutes between two attempts.
    pub spacing_min: Sourced<u32>,
    /// Hours after an abandoned call without a person who could take the next one.
    pub abandoned_rest_h: Sourced<u32>,
    /// Days after a conversation, for `rest_purposes`.
    pub conversation_rest_days: Sourced<u32>,
    /// Purposes that rest after a conversation.
    #[serde(default)]
    pub rest_purposes: Vec<Purpose>,
    /// The shortest ring, in seconds.
    pub ring_min_s: Sourced<u32>,
    /// The longest ring, in seconds.
    pub ring_max_s: Sourced<u32>,
}

/// Stricter rules for states or provinces. They also apply where the region is not known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Area {
    /// Codes of the regions, such as `FL`.
    pub regions: Vec<String>,
    /// Hours that apply in addition.
    #[serde(default)]
    pub hours: Vec<Hours>,
    /// Caps that apply in addition.
    #[serde(default)]
    pub caps: Vec<Cap>,
    /// Where it comes from.
    pub source: String,
}

/// What is done with a voicemail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VoicemailAction {
    /// Hang up.
    HangUp,
    /// Leave a text without details of a debt.
    NeutralText,
    /// Leave a text with details.
    FullText,
}

/// Group E: opting out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OptOutRule {
    /// By voice.
    pub spoken: bool,
    /// By a key.
    pub key: bool,
}

/// Words that a robot may not say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wording {
    /// BCP 47 language.
    pub language: String,
    /// Phrases, in lower case.
    pub phrases: Vec<String>,
}

/// Group E.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallRules {
    /// What must be said before the first question.
    pub disclose: Sourced<Vec<Disclosure>>,
    /// The least that is done before recording.
    pub recording: Sourced<Recording>,
    /// The longest wait for the first word, in ms.
    pub first_word_ms: Sourced<u32>,
    /// How one opts out.
    pub opt_out: Sourced<OptOutRule>,
    /// What is not said.
    pub forbidden: Sourced<Vec<Wording>>,
    /// A debt is named to the right person only.
    pub right_party: Sourced<bool>,
    /// A person takes over on request.
    pub human: Sourced<bool>,
    /// What may be left on a voicemail.
    pub voicemail: Sourced<Vec<VoicemailAction>>,
    /// Emotions and voiceprints may be processed with a written consent.
    pub emotion: Sourced<bool>,
}

/// Group F.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AfterRules {
    /// How long records are kept at least, in days.
    pub retention_days: Sourced<u32>,
    /// Export and erasure must be in place.
    pub subject_rights: Sourced<bool>,
    /// Within how many days a complaint is answered.
    pub complaint_days: Sourced<u32>,
    /// How abandoned calls are counted.
    pub abandonment_formula: Sourced<Formula>,
    /// The highest abandonment rate, 0 to 1.
    pub abandonment_cap: Sourced<f64>,
    /// The window over which it counts, in days.
    pub abandonment_days: Sourced<u32>,
    /// Exported audio is labelled as artificial.
    pub audio_label: Sourced<bool>,
}
