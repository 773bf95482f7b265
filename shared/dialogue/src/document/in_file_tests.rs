//! Tests that a script holds.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::is_false;
use crate::scalar::At;

/// A conversation that must go as written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// What it shows.
    pub name: String,
    /// Variables that differ from their examples.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, String>,
    /// The arms of experiments that the call has; `control` where nothing is said.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub arms: BTreeMap<String, String>,
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
    /// What they mean. `none` says that nothing is understood, or that it does not matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<At<String>>,
    /// How sure the understanding is of that, 0 to 1; 1 when no one says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub score: Option<f32>,
    /// Their mood, from -1, furious, to 1, delighted; 0 when no one says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1.0, max = 1.0))]
    pub mood: Option<f32>,
    /// The excitement of the voice that speaks them, from -1 to 1; not listened to when no one says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1.0, max = 1.0))]
    pub arousal: Option<f32>,
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
