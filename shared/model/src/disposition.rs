//! How a call ended on the line, and what came of it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who called whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The box called the customer.
    #[default]
    Outbound,
    /// The customer called the box.
    Inbound,
}

impl Direction {
    /// Returns the name used on the wire, in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
        }
    }

    /// Says whether the box called; what was written before there were others is that.
    pub fn is_outbound(&self) -> bool {
        *self == Self::Outbound
    }
}

/// How a call ended, as the line and the box saw it; what the customer said is [`Outcome`]'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// The script reached an end and the robot hung up.
    Completed,
    /// The customer hung up after answering.
    CustomerHungUp,
    /// The call was handed to a person.
    Transferred,
    /// A machine or a fax answered, and the robot hung up.
    Machine,
    /// The far end is busy (SIP 486, 600).
    Busy,
    /// It rang and nobody answered.
    NoAnswer,
    /// The far end declined (SIP 603).
    Declined,
    /// No such number (SIP 404, 410, 484, 604).
    InvalidNumber,
    /// The network says that the telephone is switched off.
    PowerOff,
    /// The trunk did not answer, or the network says that the telephone cannot be reached.
    Unreachable,
    /// The trunk refused us: wrong password or not allowed (SIP 401, 403, 407).
    TrunkRefused,
    /// No audio codec in common (SIP 488, 606, 415).
    CodecMismatch,
    /// The trunk or the network behind it failed (SIP 5xx).
    NetworkFault,
    /// The sound stopped coming in the middle of the call.
    MediaLost,
    /// Cancelled before it was answered: by the caller of the API, or by the customer who called.
    Cancelled,
    /// The instant before which it had to be dialled passed.
    Expired,
    /// The box could not carry it: no channel free, no disk, a model that does not load.
    BoxFault,
    /// The cloud could not be reached during the call and the box said goodbye.
    CloudLost,
}

impl Disposition {
    /// Every disposition, for tables and filters.
    pub const ALL: [Self; 18] = [
        Self::Completed,
        Self::CustomerHungUp,
        Self::Transferred,
        Self::Machine,
        Self::Busy,
        Self::NoAnswer,
        Self::Declined,
        Self::InvalidNumber,
        Self::PowerOff,
        Self::Unreachable,
        Self::TrunkRefused,
        Self::CodecMismatch,
        Self::NetworkFault,
        Self::MediaLost,
        Self::Cancelled,
        Self::Expired,
        Self::BoxFault,
        Self::CloudLost,
    ];

    /// Returns the name used on the wire, in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::CustomerHungUp => "customer_hung_up",
            Self::Transferred => "transferred",
            Self::Machine => "machine",
            Self::Busy => "busy",
            Self::NoAnswer => "no_answer",
            Self::Declined => "declined",
            Self::InvalidNumber => "invalid_number",
            Self::PowerOff => "power_off",
            Self::Unreachable => "unreachable",
            Self::TrunkRefused => "trunk_refused",
            Self::CodecMismatch => "codec_mismatch",
            Self::NetworkFault => "network_fault",
            Self::MediaLost => "media_lost",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::BoxFault => "box_fault",
            Self::CloudLost => "cloud_lost",
        }
    }

    /// Says whether somebody answered.
    pub fn was_answered(self) -> bool {
        matches!(
            self,
            Self::Completed
                | Self::CustomerHungUp
                | Self::Transferred
                | Self::Machine
                | Self::MediaLost
                | Self::CloudLost
        )
    }
}

impl fmt::Display for Disposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What came of a call by the script's own outcome rules, such as code `A`, "promised to pay".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// The script's code.
    pub code: String,
    /// What the code means, in the script's language.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_disposition_is_its_wire_form() {
        for disposition in Disposition::ALL {
            let json = serde_json::to_string(&disposition).unwrap();
            assert_eq!(json, format!("\"{disposition}\""));
        }
    }
}
