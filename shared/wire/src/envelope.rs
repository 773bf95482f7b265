//! The envelope around every message, and the few messages that belong to the link itself.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use trunkline_model::BoxId;
use uuid::Uuid;

/// The version of the envelope and of the bodies that this build writes.
pub const WIRE_VERSION: u32 = 1;

/// Why a message could not be read. The peer's bytes are counted, never echoed.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Larger than [`crate::MAX_MESSAGE`].
    #[error("a message of {0} bytes is larger than this side accepts")]
    TooLarge(usize),
    /// Not UTF-8, not JSON, or not of this shape.
    #[error("a message is not what its topic says")]
    Malformed(#[from] serde_json::Error),
}

/// What every message carries around its body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// Version of the message, [`WIRE_VERSION`] when written by this build.
    pub v: u32,
    /// This message, for logs; version 7.
    pub id: Uuid,
    /// The box that sent it or that it is for.
    #[serde(rename = "box")]
    pub box_id: BoxId,
    /// The box's session: rises with each connection of the box.
    pub sess: u64,
    /// For events: the box's own counter, never reused. 0 where nothing is counted.
    #[serde(default)]
    pub seq: u64,
    /// When it was written, by the sender's wall clock.
    pub ts: Timestamp,
    /// Milliseconds since the sender started, from a clock that never steps.
    #[serde(default)]
    pub mono: u64,
    /// What the body is, such as `call.ended`.
    #[serde(rename = "type")]
    pub kind: String,
    /// W3C traceparent, from the CRM's request to the RTP packet; empty when there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trace: String,
    /// The message itself.
    pub body: T,
}

/// Reads a message as JSON.
///
/// # Errors
/// [`WireError`] for bytes that are too many or not a `T`.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    if bytes.len() > crate::MAX_MESSAGE {
        return Err(WireError::TooLarge(bytes.len()));
    }
    Ok(serde_json::from_slice(bytes)?)
}

/// `conn`: the box came up, or (as its will) went away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Birth {
    /// False in the will.
    pub online: bool,
    /// The session that begins or ended. Compare numbers, never arrival order.
    pub sess: u64,
    /// The software's version.
    #[serde(default)]
    pub software: String,
    /// How many calls the box carries at once.
    #[serde(default)]
    pub channels: u32,
    /// The lowest event number that is still in the outbox: what the cloud misses below it will
    /// not come any more. Absent when the box does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<u64>,
    /// How each trunk of the box is. Told again when it changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trunks: Vec<TrunkReport>,
    /// How far the box has the suppressions; absent where it keeps none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppressions: Option<u64>,
    /// The table of numbers that the box has, empty for none; absent from a box that answers no calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numbers: Option<String>,
}

/// How one trunk of a box is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Trunk")]
pub struct TrunkReport {
    /// Its name in the box's configuration.
    pub name: String,
    /// Whether it takes calls, as far as is known.
    pub up: bool,
    /// Whether the box is registered there; absent for a trunk that knows the box by address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered: Option<bool>,
    /// What was wrong last, for people; absent when nothing was.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trouble: String,
    /// New calls a second that it takes; the cloud gives its box no more. Absent from boxes that do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_per_second: Option<f64>,
    /// What it is.
    #[serde(default, skip_serializing_if = "LineKind::is_sip")]
    pub kind: LineKind,
    /// Calls that it carries at once; absent from boxes that do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<u32>,
    /// Numbers that it may show, in E.164; empty for any, and with a modem for its own only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caller_ids: Vec<String>,
    /// What the numbers begin with that it may call, such as `+86` or `+1212`; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub serves: Vec<String>,
}

/// What a line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LineKind {
    /// A SIP trunk.
    #[default]
    Sip,
    /// A SIM card in a modem: one call at a time.
    Gsm,
    /// Something newer than this build.
    #[serde(other)]
    Other,
}

impl LineKind {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    fn is_sip(&self) -> bool {
        *self == Self::Sip
    }
}

impl TrunkReport {
    /// Says whether it may show this number; its own, where a call brings none, it always may.
    pub fn shows(&self, caller_id: Option<&str>) -> bool {
        let any = self.caller_ids.is_empty() && self.kind != LineKind::Gsm;
        any || caller_id.is_none_or(|number| self.caller_ids.iter().any(|id| id == number))
    }

    /// Says whether it may call this number.
    pub fn serves(&self, callee: &str) -> bool {
        self.serves.is_empty() || self.serves.iter().any(|prefix| callee.starts_with(prefix.as_str()))
    }

    /// Returns how many calls it carries at once, as far as it says: a modem carries one.
    pub fn most_calls(&self) -> Option<u32> {
        match self.kind {
            LineKind::Gsm => Some(1),
            LineKind::Sip | LineKind::Other => self.channels,
        }
    }
}

/// `ack`: the cloud has committed these events to its database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Every event up to this number …
    pub upto: u64,
    /// … except these, which the cloud has not seen: the box sends them again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_an_ack_with_fields_that_it_does_not_know() {
        let sent = include_str!("golden/ack.v1.json");
        let read: Envelope<Ack> = parse(sent.as_bytes()).unwrap();
        assert_eq!(read.body, Ack { upto: 90_817, except: vec![90_810] });
        assert_eq!(read.box_id.as_str(), "tl-demo");
    }

    #[test]
    fn reads_a_birth_with_and_without_the_speed_of_its_trunks() {
        let sent = include_str!("golden/birth.v1.json");
        let read: Envelope<Birth> = parse(sent.as_bytes()).unwrap();
        let trunk = &read.body.trunks[0];
        assert_eq!((trunk.name.as_str(), trunk.up, trunk.calls_per_second), ("carrier", true, None));
        let sent = include_str!("golden/birth.v1b.json");
        let read: Envelope<Birth> = parse(sent.as_bytes()).unwrap();
        let speeds: Vec<Option<f64>> = read.body.trunks.iter().map(|trunk| trunk.calls_per_second).collect();
        assert_eq!(speeds, [Some(2.5), Some(50.0)]);
        assert!(read.body.trunks[0].shows(Some("+862155550100")) && read.body.trunks[0].serves("+4420"));
    }

    #[test]
    fn reads_what_a_line_may_show_and_whom_it_may_call() {
        let sent = include_str!("golden/birth.v1c.json");
        let read: Envelope<Birth> = parse(sent.as_bytes()).unwrap();
        let [sip, gsm, newer] = &read.body.trunks[..] else { panic!("three trunks") };
        assert_eq!((sip.kind, sip.most_calls()), (LineKind::Sip, Some(30)));
        assert!(sip.shows(Some("+862155550100")) && !sip.shows(Some("+862155550199")) && sip.shows(None));
        assert!(sip.serves("+8613800138000") && !sip.serves("+442079460000"));
        assert_eq!((gsm.kind, gsm.most_calls()), (LineKind::Gsm, Some(1)), "whatever it says");
        assert!(gsm.shows(None) && !gsm.shows(Some("+862155550100")), "it has its own number only");
        assert_eq!((newer.kind, newer.most_calls()), (LineKind::Other, None));
        let again = serde_json::to_value(&read.body.trunks[0]).unwrap();
        assert!(again.get("kind").is_none() && again["serves"] == serde_json::json!(["+86"]));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_reader(bytes: Vec<u8>) {
            let _ = parse::<Envelope<Ack>>(&bytes);
        }
    }
}
