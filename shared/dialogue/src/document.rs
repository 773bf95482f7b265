//! The file format `trunkline/script/1`, field by field as an author writes it.
//!
//! These types are the format and its JSON Schema; what they mean together (names that must exist,
//! guards that must have the right types) is checked by [`crate::Script::load`] and [`crate::lint()`].

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::action::Endpoint;
use crate::scalar::{At, Pause};

/// The value of `schema` that this crate reads.
pub const SCHEMA: &str = "trunkline/script/1";

/// One script: everything that a robot may say in a call of one kind, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The version of the format: `trunkline/script/1`.
    pub schema: At<String>,
    /// The script's name: a-z, 0-9, `-`, `_` and `.`, at most 100 characters.
    pub id: At<String>,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The language that it speaks, as a BCP 47 tag such as `zh-CN` or `en-US`.
    pub locale: At<String>,
    /// Why the customer is called; picks the compliance profile.
    pub purpose: At<Purpose>,
    /// What the opening must tell the customer; all three when it is left out.
    #[serde(default = "all_disclosures")]
    pub disclose: Vec<Disclosure>,
    /// The robot's voice.
    pub voice: Voice,
    /// What is known about the customer before the call.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, At<Var>>,
    /// What the call is to find out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slots: BTreeMap<String, At<Slot>>,
    /// What the customer may mean, beyond the universal intents that every script has. An entry named
    /// like a universal intent adds examples to it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub intents: BTreeMap<String, At<Intent>>,
    /// What nodes inherit.
    #[serde(default, skip_serializing_if = "Defaults::is_empty")]
    pub defaults: Defaults,
    /// The graph; the call begins at the first.
    pub nodes: Vec<At<Node>>,
    /// What is answered from any node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub digressions: Vec<At<Digression>>,
    /// How a person takes over.
    pub handoff: At<Handoff>,
    /// What may come of a call. On an `end: auto` and when the customer hangs up, the first whose `when`
    /// holds is the result.
    pub outcomes: Vec<At<OutcomeRule>>,
    /// What the box says by itself before it hangs up when the cloud is lost. Chinese and English have
    /// a wording of their own when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goodbye_when_lost: Option<At<String>>,
    /// What bounds a call.
    #[serde(default, skip_serializing_if = "Limits::is_default")]
    pub limits: Limits,
    /// Conversations that must go as written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<At<Test>>,
}

/// Why the customer is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// What the customer must be told before the first question.
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

fn all_disclosures() -> Vec<Disclosure> {
    vec![Disclosure::Ai, Disclosure::Recording, Disclosure::Identity]
}

/// The robot's voice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Voice {
    /// The voice's name in the synthesiser, such as `zf_xiaoxiao` or `af_heart`.
    pub name: String,
    /// A manner of speaking, for synthesisers that know several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub style: Option<String>,
    /// How fast it speaks, 1 being as trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.5, max = 2.0))]
    pub speed: Option<f32>,
}

/// The kind of value that a variable or a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Type {
    /// Any words, at most 200 characters.
    Text,
    /// A person's name.
    Person,
    /// A decimal amount, with or without a currency behind it: `1280.50`, `1280.50 CNY`.
    Money,
    /// A day, ISO 8601: `2026-11-27`.
    Date,
    /// A time of day, ISO 8601: `15:00`.
    Time,
    /// A decimal number.
    Number,
    /// A telephone number: digits, or `+` and digits.
    Phone,
    /// Letters, digits and `-_./`, such as an order number.
    Id,
    /// One of a list.
    Enum,
}

/// A value that is known before the call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Var {
    /// What it holds.
    #[serde(rename = "type")]
    pub kind: Type,
    /// Whether a call without it is refused.
    #[serde(default, skip_serializing_if = "is_false")]
    pub required: bool,
    /// The value when none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// The values of an `enum`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// A value for tests and previews.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<String>,
}

/// A value that the call finds out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// What it holds.
    #[serde(rename = "type")]
    pub kind: Type,
    /// The values of an `enum`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// Something that a customer may mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// How it sounds, as spoken.
    pub examples: Vec<String>,
}

/// What nodes inherit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// How to listen, where a node does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<ListenSpec>,
    /// Whether the customer may break in, where a node does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barge_in: Option<At<BargeInSpec>>,
    /// The ladders `no_input` and `no_match` of nodes that have none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub on: BTreeMap<String, At<Edge>>,
}

impl Defaults {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One place of the graph. Its kind follows from its fields: `on` or `listen` asks, `branch` decides,
/// `transfer` hands over, `end` ends, `do` or `set` with `next` acts, `say` with `next` speaks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its name.
    pub id: At<String>,
    /// What is said on entering; `{name}` is a variable, `{slot.name}` a slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub say: Option<At<String>>,
    /// The question in short, for when it is asked again after something else was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<At<String>>,
    /// Whether the customer may break into `say`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barge_in: Option<At<BargeInSpec>>,
    /// How to listen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<ListenSpec>,
    /// The slots that an answer fills: slot to kind of value (`date`, `time`, `money`, `number`,
    /// `digits`, `phone`, `percent`, `duration`, or `text` for all of the words). A `?` behind the kind
    /// makes it optional. The edge `filled` is taken when all that are not optional have a value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fill: BTreeMap<String, At<String>>,
    /// Where an answer leads: intents, and `filled`, `any`, `no_input`, `no_match`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub on: BTreeMap<String, At<Edge>>,
    /// Cases, of which the first that holds is taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub branch: Vec<At<Case>>,
    /// Where to go when no case holds.
    #[serde(default, rename = "else", skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<At<String>>,
    /// Slots that are given a value on entering.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, At<String>>,
    /// What is done on entering.
    #[serde(default, rename = "do", skip_serializing_if = "Vec::is_empty")]
    pub acts: Vec<Act>,
    /// Where to go from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<At<String>>,
    /// Hands the call to a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<At<TransferSpec>>,
    /// Ends the call with this outcome, or with the one that the rules give (`auto`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<At<String>>,
}

/// Something that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Puts the customer on the list of those who are not called again.
    Suppress,
}

/// How to listen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenSpec {
    /// How long silence may last; 5 s when no one says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_input: Option<Pause>,
    /// Intents that make sense here besides those in `on`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<At<String>>,
    /// How long an answer is likely to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<EndpointSpec>,
    /// Words that may well be said here; variables may stand in them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hot_words: Vec<At<String>>,
}

/// How long an answer is likely to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndpointSpec {
    /// Yes, no, one word.
    Short,
    /// A sentence.
    Normal,
    /// Explanations, addresses, digits with pauses between.
    Long,
}

impl From<EndpointSpec> for Endpoint {
    fn from(spec: EndpointSpec) -> Self {
        match spec {
            EndpointSpec::Short => Self::Short,
            EndpointSpec::Normal => Self::Normal,
            EndpointSpec::Long => Self::Long,
        }
    }
}

/// Whether the customer may break into a prompt: `on`, `off`, or `{off_until: words}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BargeInSpec {
    /// At any time.
    On,
    /// Not at all.
    Off,
    /// Once these words of the prompt were played.
    OffUntil(String),
}

impl<'de> Deserialize<'de> for BargeInSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = BargeInSpec;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`on`, `off` or {off_until: \"words of the prompt\"}")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<BargeInSpec, E> {
                match text {
                    "on" => Ok(BargeInSpec::On),
                    "off" => Ok(BargeInSpec::Off),
                    other => Err(E::unknown_variant(other, &["on", "off", "off_until"])),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BargeInSpec, A::Error> {
                let spec = OffUntilSpec::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(BargeInSpec::OffUntil(spec.off_until))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OffUntilSpec {
    /// The protected words, as they stand in the prompt; the prompt can be broken into behind them.
    off_until: String,
}

impl JsonSchema for BargeInSpec {
    fn schema_name() -> Cow<'static, str> {
        "BargeIn".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let off_until = OffUntilSpec::json_schema(generator);
        schemars::json_schema!({ "oneOf": [{ "type": "string", "enum": ["on", "off"] }, off_until] })
    }
}

/// Where an answer leads: the name of a node, or more. Besides nodes there are two names: `handoff`, a
/// person, and `return`, back to where a digression came from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Edge {
    /// What is said on the way. In a ladder, the first wording the first time, the second the second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub say: Vec<At<String>>,
    /// How often a ladder speaks before it gives up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u8>,
    /// Where to go; in a ladder, when it gives up.
    pub then: At<String>,
    /// Slots that are given a value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, At<String>>,
    /// Slots that the same answer fills on this edge only.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fill: BTreeMap<String, At<String>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EdgeSpec {
    /// What is said on the way; in a ladder several wordings take turns.
    #[serde(default)]
    #[schemars(with = "WordingSchema")]
    say: Wording,
    /// How often a ladder speaks before it gives up.
    #[serde(default)]
    #[schemars(range(min = 1, max = 5))]
    max: Option<u8>,
    /// Where to go; in a ladder, when it gives up.
    then: At<String>,
    /// Slots that are given a value.
    #[serde(default)]
    set: BTreeMap<String, At<String>>,
    /// Slots that the same answer fills on this edge only.
    #[serde(default)]
    fill: BTreeMap<String, At<String>>,
}

impl<'de> Deserialize<'de> for Edge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Edge;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the name of a node, or {say: …, then: node}")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Edge, E> {
                let then = At::bare(text.to_owned());
                Ok(Edge { say: Vec::new(), max: None, then, set: BTreeMap::new(), fill: BTreeMap::new() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Edge, A::Error> {
                let EdgeSpec { say, max, then, set, fill } =
                    EdgeSpec::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Edge { say: say.0, max, then, set, fill })
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl JsonSchema for Edge {
    fn schema_name() -> Cow<'static, str> {
        "Edge".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let full = EdgeSpec::json_schema(generator);
        schemars::json_schema!({ "oneOf": [{ "type": "string" }, full] })
    }
}

/// One wording or several.
#[derive(Default)]
struct Wording(Vec<At<String>>);

#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum WordingSchema {
    One(String),
    Several(Vec<String>),
}

impl<'de> Deserialize<'de> for Wording {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Wording;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a wording or a list of wordings")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Wording, E> {
                Ok(Wording(vec![At::bare(text.to_owned())]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Wording, A::Error> {
                let mut wordings = Vec::new();
                while let Some(wording) = seq.next_element()? {
                    wordings.push(wording);
                }
                Ok(Wording(wordings))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// One case of a `branch`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The guard, such as `slot.promise_date and answered_s > 15`.
    pub when: At<String>,
    /// Where to go when it holds.
    pub then: At<String>,
}

/// A hand-over to a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferSpec {
    /// Where to, by a name that the box's configuration knows.
    pub to: String,
    /// How long to let it ring; 20 s when no one says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Pause>,
    /// The node to go to when nobody takes the call.
    pub fail: At<String>,
    /// The outcome when somebody does; `transferred` when no one says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<At<String>>,
}

/// How a person takes over, from any node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Handoff {
    /// When, besides the customer's asking for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<At<String>>,
    /// What is said before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub say: Option<At<String>>,
    /// Where to, by a name that the box's configuration knows.
    pub to: String,
    /// How long to let it ring; 20 s when no one says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Pause>,
    /// The node to go to when nobody takes the call.
    pub fail: At<String>,
    /// The outcome when somebody does; `transferred` when no one says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<At<String>>,
}

/// Something that is answered from any node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Digression {
    /// The intent that it answers.
    pub on: At<String>,
    /// The answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub say: Option<At<String>>,
    /// A node to visit; its graph comes back by going to `return`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visit: Option<At<String>>,
    /// What comes after the answer: `resume` asks the open question again, `listen` only listens, any
    /// other name is a node.
    #[serde(default, rename = "return", skip_serializing_if = "Option::is_none")]
    pub back: Option<At<String>>,
    /// What is done.
    #[serde(default, rename = "do", skip_serializing_if = "Vec::is_empty")]
    pub acts: Vec<Act>,
    /// Ends the call with this outcome, or with the one that the rules give (`auto`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<At<String>>,
}

/// One thing that may come of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutcomeRule {
    /// Its code, for the record and the CRM.
    pub code: At<String>,
    /// What it means, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// When it is the result of a call that no `end` named one for. The last rule has `when: "true"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<At<String>>,
}

/// What bounds a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Turns and silences of the customer after which the robot takes its leave.
    #[schemars(range(min = 5, max = 200))]
    pub turns: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self { turns: 40 }
    }
}

impl Limits {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A conversation that must go as written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// What it shows.
    pub name: String,
    /// Variables that differ from their examples.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, String>,
    /// What happens, after the customer answered.
    pub turns: Vec<At<TestTurn>>,
    /// What must have come of it.
    pub expect: Vec<At<Expect>>,
}

/// One thing that the customer does in a test: exactly one of `hear`, `silence`, `hang_up` and
/// `transfer_fails`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestTurn {
    /// The words that are recognised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hear: Option<String>,
    /// What they mean. `none` says that nothing is understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<At<String>>,
    /// The values in them, by kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub entities: BTreeMap<String, String>,
    /// Nothing is said.
    #[serde(default, skip_serializing_if = "is_false")]
    pub silence: bool,
    /// The customer hangs up.
    #[serde(default, skip_serializing_if = "is_false")]
    pub hang_up: bool,
    /// Nobody takes the call that was to be handed over, for this reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer_fails: Option<String>,
    /// The node at which the dialogue must stand after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<At<String>>,
}

/// What must be true after a test; each field that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// A node that was visited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<At<String>>,
    /// The outcome with which the call ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<At<String>>,
    /// Words that the robot said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
    /// Words that the robot did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub never_says: Option<String>,
    /// Values that slots have; `""` for none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slots: BTreeMap<String, String>,
    /// Whether the customer was put on the list of those who are not called again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppressed: Option<bool>,
    /// Where the call was to be handed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(flag: &bool) -> bool {
    !flag
}
