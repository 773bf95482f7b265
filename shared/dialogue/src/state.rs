//! Where a conversation stands: small, versioned JSON that travels between box and cloud.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use trunkline_model::Outcome;

use crate::action::Variables;

/// The version of the state's JSON that this crate writes and reads.
const VERSION: u8 = 1;

/// Where a conversation stands. It is made by [`crate::start`], and a new one comes out of each
/// [`crate::step`]; it means something only together with the version of the script that made it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub(crate) v: Version,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) node: String,
    pub(crate) phase: Phase,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) vars: Variables,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) slots: BTreeMap<String, String>,
    /// Turns in which something was heard.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) turns: u16,
    /// Turns and silences together; what the limit counts.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) steps: u16,
    /// Since the customer was last understood.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) no_match: u16,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) no_input: u16,
    /// Turns in a row whose words were angry.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) upset: u16,
    /// How far the ladders of this node were climbed.
    #[serde(default, skip_serializing_if = "Rungs::is_zero")]
    pub(crate) rungs: Rungs,
    /// The nodes that digressions come back to, the innermost last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) stack: Vec<String>,
    /// The arm of each experiment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) arms: BTreeMap<String, String>,
    /// Intents and nodes that a guard asks about later.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) heard: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) visited: BTreeSet<String>,
    /// What was said last, for `repeat`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) last: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) outcome: Option<Outcome>,
}

/// The version of the state's JSON; any but ours does not deserialise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub(crate) struct Version;

impl TryFrom<u8> for Version {
    type Error = String;

    fn try_from(v: u8) -> Result<Self, String> {
        if v == VERSION {
            Ok(Self)
        } else {
            Err(format!("a dialogue state of version {v} cannot be read here, only version {VERSION}"))
        }
    }
}

impl From<Version> for u8 {
    fn from(_: Version) -> Self {
        VERSION
    }
}

/// What the conversation waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// For the customer to answer the call.
    Ready,
    /// For the customer to speak.
    Asking,
    /// For a person to take over.
    Transferring,
    /// For nothing.
    Ended,
}

/// How far the ladders of a node were climbed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rungs {
    #[serde(default)]
    pub(crate) no_input: u8,
    #[serde(default)]
    pub(crate) no_match: u8,
}

impl Rungs {
    fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

impl State {
    /// The state before the customer answers.
    pub(crate) fn new(vars: Variables, arms: BTreeMap<String, String>) -> Self {
        Self {
            v: Version,
            node: String::new(),
            phase: Phase::Ready,
            vars,
            slots: BTreeMap::new(),
            turns: 0,
            steps: 0,
            no_match: 0,
            no_input: 0,
            upset: 0,
            rungs: Rungs::default(),
            stack: Vec::new(),
            arms,
            heard: BTreeSet::new(),
            visited: BTreeSet::new(),
            last: Vec::new(),
            outcome: None,
        }
    }

    /// Returns the node at which the dialogue stands; empty before the customer answers.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Returns what the call found out.
    pub fn slots(&self) -> &BTreeMap<String, String> {
        &self.slots
    }

    /// Returns the arm that the call has in each experiment of its script.
    pub fn arms(&self) -> &BTreeMap<String, String> {
        &self.arms
    }

    /// Returns this state as if the dialogue stood at a node and waited for the customer, for replays of a
    /// stored call. What was found out stays.
    pub fn standing_at(&self, node: &str) -> Self {
        let phase = if node == crate::graph::HANDOFF { Phase::Transferring } else { Phase::Asking };
        let rungs = if node == self.node { self.rungs } else { Rungs::default() };
        Self { node: node.to_owned(), phase, outcome: None, rungs, ..self.clone() }
    }

    /// Puts words that were generated in the place of those that the script holds for want of them, so that
    /// `repeat` says what was said.
    pub fn replace_said(&mut self, fixed: &str, generated: &str) {
        if let Some(said) = self.last.iter_mut().find(|said| *said == fixed) {
            generated.clone_into(said);
        }
    }

    /// Returns how many turns of the customer were heard.
    pub fn turns(&self) -> u16 {
        self.turns
    }

    /// Says whether the dialogue is over.
    pub fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Says whether the call is being handed to a person.
    pub fn is_transferring(&self) -> bool {
        self.phase == Phase::Transferring
    }

    /// Returns what came of the call, once it is over.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(n: &u16) -> bool {
    *n == 0
}
