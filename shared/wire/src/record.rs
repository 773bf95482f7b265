//! The call record: what the box files about a call, counted exactly once.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline_model::{CallId, Direction, Disposition, Outcome};

use crate::{ScriptRef, UnderstandingV1, VoiceV1};

/// `call.ended`: the whole call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    /// The call.
    pub call: CallId,
    /// Who called whom.
    #[serde(default, skip_serializing_if = "Direction::is_outbound")]
    pub direction: Direction,
    /// What was to be said.
    pub script: ScriptRef,
    /// When the box took the command.
    pub started: Timestamp,
    /// When the far end rang.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rang: Option<Timestamp>,
    /// When somebody answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Timestamp>,
    /// When it was over.
    pub ended: Timestamp,
    /// How it ended on the line.
    pub disposition: Disposition,
    /// The line's own words or the box's error, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// The final SIP status, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip_code: Option<u16>,
    /// What came of it, by the script's rules; absent when nobody answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The customer asked not to be called again.
    #[serde(default)]
    pub suppress: bool,
    /// What the script filled in. Personal data.
    #[serde(default)]
    pub slots: BTreeMap<String, String>,
    /// The arm of each experiment that the customer got.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub arms: BTreeMap<String, String>,
    /// Turn by turn.
    #[serde(default)]
    pub turns: Vec<TurnRecord>,
    /// Where the sound is, unless nothing was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<RecordingRecord>,
    /// How the line sounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media: Option<MediaRecord>,
    /// The trunk that carried the call, or was tried last; empty for a call past the trunks.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trunk: String,
    /// Trunks that were tried before it, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptRecord>,
    /// Hand-overs that were tried, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transfers: Vec<TransferRecord>,
    /// Tones of the network that were heard, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tones: Vec<ToneRecord>,
    /// Who or what answered, as far as the sound tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answerer: Option<AnswererRecord>,
}

/// A trunk that did not take the call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptRecord {
    /// Its name in the box's configuration.
    pub trunk: String,
    /// Why it did not, for people.
    pub cause: String,
    /// The SIP status, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip_code: Option<u16>,
}

/// A hand-over to a person.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TransferRecord {
    /// Where to, as the script names it.
    pub to: String,
    /// `refer`, or `bridge` where the trunk does not do that; empty when neither was tried.
    pub how: String,
    /// `done`, or why not: `busy`, `no_answer`, `declined`, `refused`, `left`, `cancelled`.
    pub fate: String,
    /// The SIP status that said so, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip_code: Option<u16>,
    /// From the order to its end, in milliseconds.
    pub took_ms: u32,
    /// Who took the call, as the box's configuration names her; empty when nobody did, or the network knows.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub who: String,
}

/// A tone of the network, or what was heard of it otherwise before an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToneRecord {
    /// `ringback`, `busy`, `congestion`, `information`, `fax`, `beep`; in words `invalid_number`, `power_off`, `suspended`,
    /// `in_call`, `no_answer`, `unreachable`, `leave_message`, `hold`; `colour_ring`.
    pub tone: String,
    /// From the order to dial until it was recognised, in milliseconds.
    pub at_ms: u32,
    /// What it was recognised by, for people.
    #[serde(default)]
    pub evidence: String,
}

/// Who or what answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AnswererRecord {
    /// `human`, `machine`, `voicemail`, `menu`, `screener`, `fax` or `silence`.
    pub verdict: String,
    /// From the answer to the verdict, in milliseconds.
    pub at_ms: u32,
    /// What it rests on, for people.
    #[serde(default)]
    pub evidence: String,
}

/// The two-channel recording, left the customer, right the robot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecordingRecord {
    /// Path on the box.
    pub path: String,
    /// Length in seconds.
    pub seconds: f32,
    /// SHA-256 of the file, hexadecimal; empty when it could not be finished.
    #[serde(default)]
    pub sha256: String,
    /// Why the recording ended early, if it did, such as `no space left on device`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// What the RTP stream was like.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MediaRecord {
    /// `PCMA`, `PCMU` or `opus`.
    pub codec: String,
    /// Packets received.
    pub received: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that came too late to be played.
    pub late: u64,
    /// Interarrival jitter in milliseconds (RFC 3550 §6.4.1).
    pub jitter_ms: f32,
    /// How the customer sounds here, 1 to 4.5, estimated from loss and delay (ITU-T G.107); absent for a codec without
    /// published figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mos: Option<f32>,
}

/// One turn: what the customer did, what was decided, what the robot said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TurnRecord {
    /// The turn's number.
    pub turn: u32,
    /// The customer's part; absent for turn 0 and for silence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<CustomerTurn>,
    /// What was decided and why.
    pub decision: DecisionRecord,
    /// The robot's part.
    #[serde(default)]
    pub robot: Vec<RobotTurn>,
    /// Where the time went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<LatencyRecord>,
    /// Words of the word lists that were said, or kept from being said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<WordRecord>,
}

/// A word of a word list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WordRecord {
    /// `robot` or `customer`.
    pub by: String,
    /// The word, as the list has it.
    pub word: String,
    /// The list.
    pub list: String,
    /// `info`, `warn` or `critical`.
    pub severity: String,
    /// What was done: `note`, `replace` or `withhold`.
    pub action: String,
}

/// What the customer said. Times are seconds since the answer, as in the recording.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CustomerTurn {
    /// What was recognised. Personal data.
    pub text: String,
    /// Start of speech.
    pub start_s: f32,
    /// End of speech.
    pub end_s: f32,
    /// Recogniser's mean log-probability per token.
    #[serde(default)]
    pub logprob: f32,
    /// It broke into a prompt.
    #[serde(default)]
    pub barged_in: bool,
    /// It was answered too early, and the answer taken back when the customer went on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub went_on: bool,
    /// How it was spoken; absent where that is not listened to, or nothing could be said yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voice: Option<VoiceV1>,
}

/// Why the dialogue went where it went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DecisionRecord {
    /// The node arrived at.
    pub node: String,
    /// Why.
    #[serde(default)]
    pub because: String,
    /// How the text was understood.
    #[serde(default)]
    pub understanding: UnderstandingV1,
    /// The box decided by itself because the cloud was late or gone.
    #[serde(default)]
    pub local: bool,
}

/// What the robot said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RobotTurn {
    /// The words. Personal data where variables were filled in.
    pub text: String,
    /// Seconds since the answer of the first packet.
    pub start_s: f32,
    /// How much of its words was played, 0 to 1.
    pub heard: f32,
}

/// Milliseconds from the end of the customer's speech, as the detector saw it, to each stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LatencyRecord {
    /// Recognition began (the first pause).
    pub asr_start_ms: f32,
    /// Recognition was done.
    pub asr_done_ms: f32,
    /// The cloud's answer was there.
    pub reply_ms: f32,
    /// The silence was long enough to be sure.
    pub turn_end_ms: f32,
    /// The first packet of the reply was sent.
    pub first_packet_ms: f32,
    /// Part of the cloud's share that it spent computing.
    #[serde(default)]
    pub cloud_ms: f32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_call_record_as_v1_boxes_send_it() {
        let read: CallRecord = serde_json::from_str(include_str!("golden/call_ended.v1.json")).unwrap();
        assert_eq!(read.call, CallId::from_u128(42));
        assert_eq!(read.disposition, Disposition::CustomerHungUp);
        assert_eq!(read.turns[0].robot[0].text, "您好");
        assert_eq!(read.direction, Direction::Outbound);
    }

    #[test]
    fn reads_the_record_of_a_call_that_a_customer_made() {
        let sent = include_str!("golden/call_ended_inbound.v1.json");
        let read: CallRecord = serde_json::from_str(sent).unwrap();
        assert_eq!((read.call, read.direction), (CallId::from_u128(43), Direction::Inbound));
        let written = serde_json::to_string(&read).unwrap();
        assert_eq!(serde_json::from_str::<CallRecord>(&written).unwrap(), read);
    }

    #[test]
    fn reads_a_turn_whose_tone_of_voice_was_listened_to() {
        let read: TurnRecord =
            serde_json::from_str(include_str!("golden/turn_record_voice.v1.json")).unwrap();
        assert_eq!(read.customer.unwrap().voice.unwrap().loudness_db, 5.4);
        assert_eq!(read.decision.understanding.temper, "angry");
    }
}
