//! The lines of a trace file: JSON, one thing a line, so that what was written before a power cut can be read.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// From the box.
    Out,
    /// To the box.
    In,
}

/// How the sound of a leg was, when it ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MediaReport {
    /// Name of the codec in SDP.
    pub codec: String,
    /// Whether packets were encrypted.
    pub encrypted: bool,
    /// Packets of sound that came.
    pub received: u64,
    /// Packets that went out.
    pub sent: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that came after their time.
    pub late: u64,
    /// Packets that came again.
    pub duplicate: u64,
    /// Packets that came after a later one.
    pub reordered: u64,
    /// Packets that were not encrypted as agreed.
    pub forged: u64,
    /// Jitter of what came, in milliseconds (RFC 3550 §6.4.1).
    pub jitter_ms: f32,
    /// Estimated opinion of what was heard here, 1 to 4.5 (ITU-T G.107).
    pub mos_heard: Option<f32>,
    /// Share of our packets that the far end missed, 0 to 1, as it reports.
    pub far_loss: Option<f32>,
    /// Jitter of our packets there, in milliseconds.
    pub far_jitter_ms: Option<f32>,
    /// Estimated opinion of what was heard there.
    pub mos_sent: Option<f32>,
    /// Way there and back in milliseconds, by RTCP.
    pub round_trip_ms: Option<f32>,
    /// Telephone events that came (RFC 4733); which keys they were is not kept.
    pub keys_heard: u32,
    /// Telephone events that went out.
    pub keys_sent: u32,
}

/// One line of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub(crate) enum Line {
    /// The first line.
    Begin {
        v: u32,
        sip_call_id: String,
    },
    /// A message, without its secrets.
    Message {
        /// Microseconds since 1970.
        at: i64,
        way: Way,
        transport: String,
        local: SocketAddr,
        remote: SocketAddr,
        text: String,
    },
    /// Which call the leg belongs to.
    Named {
        call: String,
        leg: String,
        trunk: String,
    },
    Media(MediaReport),
    /// Something worth knowing, such as the cause of the end.
    Note {
        at: i64,
        text: String,
    },
    /// The file is full: messages after this are not in it.
    Cut,
}

/// The version that is written.
pub(crate) const VERSION: u32 = 1;
