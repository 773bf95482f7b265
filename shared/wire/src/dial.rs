//! Commands to dial and to cancel, and how a call gets on before it is answered.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trunkline_model::{CallId, Callee, E164, ScriptId, ScriptVersion};

/// A script by name and by the hash of its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// `call.progress`, an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallProgress {
    /// The call.
    pub call: CallId,
    /// How far it is.
    pub stage: ProgressStage,
    /// For people, such as `rendering prompt 3 of 21`.
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
    }
}
