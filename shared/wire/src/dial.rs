//! Commands to dial and to cancel, and how a call gets on before it is answered.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline_model::{CallId, Callee, E164, ScriptId, ScriptVersion};
use trunkline_policy::Order;

/// A script by name and by the hash of its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScriptRef {
    /// The name that people gave it.
    pub id: ScriptId,
    /// Which bytes: fetched as a blob of this hash, checked against it.
    pub version: ScriptVersion,
}

/// `req/dial`: dial this call before `before`. Idempotent by `call`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DialCommand {
    /// The call.
    pub call: CallId,
    /// Whom to call.
    pub callee: Callee,
    /// The number to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller_id: Option<E164>,
    /// What to say.
    pub script: ScriptRef,
    /// The script's variables. Personal data.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// After this instant the box must not dial any more.
    pub before: Timestamp,
    /// How long to let it ring, in seconds.
    #[serde(default = "default_ring")]
    pub ring_s: u32,
    /// What the box needs to judge the call itself in the second before it dials. Without it a box
    /// with a gate does not dial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Box<Order>>,
    /// Arms of experiments that the cloud gives; the others follow from the script and the variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub arms: BTreeMap<String, String>,
    /// The word lists in force, each by the SHA-256 of its text: fetched as blobs, checked against it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<String>,
}

fn default_ring() -> u32 {
    30
}

/// `res/cloud`: the box's answer to [`DialCommand`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DialReply {
    /// The call.
    pub call: CallId,
    /// Whether the box took it.
    pub accepted: bool,
    /// Why not, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Nothing is wrong: the box has its hands full for the moment.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub busy: bool,
}

/// `req/transfer`: hand the call to a person now, whatever the script is at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferCommand {
    /// The call.
    pub call: CallId,
    /// Counts the wishes for this call from 1: each is followed once, however often it comes.
    pub wish: u32,
    /// Where to, by a name that the box's configuration knows; as the script has it when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// What a supervisor is to do in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SuperviseWish {
    /// Hear both, heard by nobody.
    Listen,
    /// Hear both, heard by the person who is joined.
    Whisper,
    /// Hear both, heard by both.
    Barge,
    /// Leave the call.
    Leave,
}

impl SuperviseWish {
    /// Returns the word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::Whisper => "whisper",
            Self::Barge => "barge",
            Self::Leave => "leave",
        }
    }
}

impl std::str::FromStr for SuperviseWish {
    type Err = UnknownWish;

    fn from_str(text: &str) -> Result<Self, UnknownWish> {
        let all = [Self::Listen, Self::Whisper, Self::Barge, Self::Leave];
        all.into_iter().find(|wish| wish.as_str() == text).ok_or(UnknownWish)
    }
}

/// A word that is no [`SuperviseWish`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write listen, whisper, barge or leave")]
pub struct UnknownWish;

/// `req/supervise`: have a supervisor's telephone called and joined to a call, or change who hears her there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuperviseCommand {
    /// The call.
    pub call: CallId,
    /// Counts the wishes for this call from 1: each is followed once, however often it comes.
    pub wish: u32,
    /// What she does there.
    pub mode: SuperviseWish,
    /// Whom to call, by a name that the box's configuration allows for this; the first one there when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// `req/cancel`: give the call up if it has not been answered, else hang up politely.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelCommand {
    /// The call.
    pub call: CallId,
}

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgressStage {
    /// Fetching the script and rendering its prompts.
    Preparing,
    /// The INVITE is out.
    Dialing,
    /// The far end rings.
    Ringing,
    /// Somebody answered.
    Answered,
}

/// [`CallProgress::detail`] of a call whose hand-over to a person begins.
pub const HANDING_OVER: &str = "handing over";
/// The same of one that a person took, over the box.
pub const HANDED_OVER: &str = "handed over";
/// The same of one that nobody took: the robot has it again.
pub const NOT_HANDED_OVER: &str = "not handed over";

/// `call.progress`, an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallProgress {
    /// The call.
    pub call: CallId,
    /// How far it is.
    pub stage: ProgressStage,
    /// For people, such as `rendering prompt 3 of 21`; or [`HANDING_OVER`] and what follows it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_dial_command_as_the_first_cloud_sent_it() {
        let read: DialCommand = serde_json::from_str(include_str!("golden/dial.v1.json")).unwrap();
        assert_eq!(read.call, CallId::from_u128(42));
        assert_eq!(read.callee.reveal(), "+8613800138000");
        assert_eq!(read.ring_s, 30);
        assert_eq!(read.variables["name"], "王芳");
        assert_eq!(read.gate, None);
    }

    #[test]
    fn reads_a_wish_about_a_supervisor_as_the_first_cloud_sent_it() {
        let read: SuperviseCommand = serde_json::from_str(include_str!("golden/supervise.v1.json")).unwrap();
        assert_eq!((read.call, read.wish), (CallId::from_u128(42), 2));
        assert_eq!((read.mode, read.to.as_deref()), (SuperviseWish::Whisper, Some("phone:201")));
    }

    #[test]
    fn reads_what_the_gate_needs_as_the_first_cloud_with_a_gate_on_boxes_sent_it() {
        let read: DialCommand = serde_json::from_str(include_str!("golden/dial_gate.v1.json")).unwrap();
        let order = read.gate.unwrap();
        assert_eq!((order.packs[0].id.as_str(), order.suppressions), ("cn", 17));
        assert_eq!(order.dossier.history.len(), 1);
        assert_eq!(order.dossier.line.unwrap().id, "tl-demo/trunk");
        assert_eq!(order.dossier.plan.script, trunkline_policy::ScriptFacts::default());
    }
}
