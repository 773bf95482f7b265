//! The file format `trunkline/script/1`, field by field as an author writes it.
//!
//! These types are the format and its JSON Schema; what they mean together (names that must exist,
//! guards that must have the right types) is checked by [`crate::Script::load`] and [`crate::lint()`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::action::Endpoint;
use crate::scalar::{At, Pause};

mod in_file_tests;
mod short;

pub use in_file_tests::{Expect, Test, TestTurn};
pub use short::{BargeInSpec, Edge};

/// The value of `schema` that this crate reads.
pub const SCHEMA: &str = "trunkline/script/1";

/// The arm of an experiment that says and does what stands in the nodes.
pub const CONTROL: &str = "control";

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
    /// Whether the robot listens to how the customer speaks (pitch, loudness, pace), for `upset` and the record.
    /// It does so only where the policy pack permits it and a written consent is on record; the opening must tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tone_of_voice: Option<At<bool>>,
    /// What is known about the customer before the call.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, At<Var>>,
    /// What the call is to find out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slots: BTreeMap<String, At<Slot>>,
    /// Words of the trade that stand for a value, for slots that are an enum.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub entities: BTreeMap<String, At<EntitySpec>>,
    /// What is tried out on some customers and not on others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub experiments: BTreeMap<String, At<Experiment>>,
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
    /// What is done when a machine answers the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<AnsweredBy>,
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
    /// The least value of a `number` or `money`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The greatest value of a `number` or `money`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
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
    /// The least value of a `number` or `money`; what is less is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The greatest value of a `number` or `money`; what is more is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// Words that stand for a value: `{values: {express: [express, next day], post: [by post, letter]}}`. Where
/// several of them are said the longest counts, and of two that are as long the one said last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntitySpec {
    /// The values, each with the ways to say it.
    pub values: BTreeMap<String, Vec<String>>,
}

/// What is tried out on some customers and not on others. The arm called `control` says and does what stands
/// in the nodes; the others what stands in the nodes' and edges' `arms`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// The variable that names the customer: the same value always gets the same arm.
    pub by: At<String>,
    /// The arms with their weights, `control` among them.
    pub arms: BTreeMap<String, u32>,
    /// The outcome that counts as a success.
    pub metric: At<String>,
    /// When it must be stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<ExperimentGuard>,
    /// How customers are spread over the arms.
    #[serde(default, skip_serializing_if = "is_fixed")]
    pub policy: Policy,
}

/// When an experiment must be stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExperimentGuard {
    /// The outcome that must not become frequent; `opt_out` as a rule.
    pub outcome: At<String>,
    /// By how much its share may exceed that of `control`, 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_rise: f32,
}

/// How customers are spread over the arms of an experiment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// By the weights.
    #[default]
    Fixed,
    /// More and more to the arm that does better; the weights are where it starts.
    Adaptive,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_fixed(policy: &Policy) -> bool {
    *policy == Policy::Fixed
}

/// Something that a customer may mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// How it sounds, as spoken.
    pub examples: Vec<At<String>>,
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
/// `transfer` hands over, `end` ends, `do` or `set` with `next` acts, `say` with `next` speaks; `generate`
/// takes the place of `say`.
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
    /// Lets a language model find the words, where the cloud has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate: Option<At<GenerateSpec>>,
    /// What arms of experiments say and do instead, by `experiment.arm`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub arms: BTreeMap<String, At<NodeArm>>,
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

/// What an arm of an experiment says and does at a node; what is left out is as in the node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeArm {
    /// What is said on entering.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub say: Option<At<String>>,
    /// The question in short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<At<String>>,
    /// Where to go from here, for a node with `next`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<At<String>>,
}

/// Words that a language model finds. They are filtered before they are spoken, and only words are found:
/// where the call goes stays with the script.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenerateSpec {
    /// What it is told; variables and slots may stand in it, and leave the house with it.
    pub prompt: At<String>,
    /// What is said when there is no model, or it is late, or its words are refused.
    pub fallback: At<String>,
    /// A word or two that are spoken in front of generated words, rendered before the call, so that there is sound
    /// while the rest is made: `好的，` or `Sure.`. They end in a mark, and hold no variables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lead_in: Option<At<String>>,
    /// How long to wait for it; 800 ms when no one says, at most 3 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Pause>,
    /// The most characters that are spoken; 120 when no one says, at most 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 600))]
    pub max_chars: Option<u16>,
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
    /// What the customer hears while the person is called, said again and again; ringback between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<At<String>>,
    /// The customer hears music instead of ringback.
    #[serde(default, skip_serializing_if = "is_false")]
    pub music: bool,
    /// What the person hears alone before the two are joined: who calls and why. Chinese and English have a summary
    /// of their own when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whisper: Option<At<String>>,
    /// The node to go to when nobody takes the call.
    pub fail: At<String>,
    /// The outcome when somebody does; `transferred` when no one says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<At<String>>,
}

/// What is done when a machine answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnsweredBy {
    /// What is done with a machine that nothing below is for; the box's own setting when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<OnMachine>,
    /// Said to a voicemail after its beep; then the box hangs up. Who hears it is not known: name nothing private.
    /// Policy packs permit texts without variables sooner than others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voicemail: Option<At<String>>,
    /// Said once to an assistant that asks who calls and why; then the box waits for the person and begins anew. One
    /// clear sentence is best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub screener: Option<At<String>>,
}

/// What is done with a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnMachine {
    /// Hang up.
    HangUp,
    /// Talk on as to a person.
    GoOn,
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
    /// Where to instead, by the first rule that holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<At<HandoffRule>>,
    /// How long to let it ring; 20 s when no one says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Pause>,
    /// What the customer hears while the person is called, said again and again; ringback between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<At<String>>,
    /// The customer hears music instead of ringback.
    #[serde(default, skip_serializing_if = "is_false")]
    pub music: bool,
    /// What the person hears alone before the two are joined: who calls and why. Chinese and English have a summary
    /// of their own when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whisper: Option<At<String>>,
    /// The node to go to when nobody takes the call.
    pub fail: At<String>,
    /// The outcome when somebody does; `transferred` when no one says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<At<String>>,
}

/// Who takes over in which case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HandoffRule {
    /// The guard, such as `var.tier == "gold"`.
    pub when: At<String>,
    /// Where to, by a name that the box's configuration knows.
    pub to: String,
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(flag: &bool) -> bool {
    !flag
}
