//! A telephone line: the shells that turn the sans-IO cores `sip` and `rtp` into calls with sound.
//!
//! [`SipHandle`] owns the signalling socket, and the TCP and TLS connections, in one task; [`MediaHandle`] owns every RTP socket in
//! one thread of its own, ticking each call every 20 ms in one of 20 phases; [`RecorderHandle`]
//! writes recordings in another, so that a slow disk holds up neither. [`HandOver`] calls persons for a customer and
//! joins one. [`echo_call`] proves a line: it calls who sends back what it hears; [`sound::Sound`] is its ear.
//!
//! **Invariant:** the media thread allocates nothing per frame and waits for nobody.
//! **Invariant:** nothing here decides what is said or when a call ends.

mod bridge;
mod coder;
mod echo;
mod handover;
mod keys;
mod media;
mod player;
mod playout;
mod recorder;
mod sip;
pub mod sound;
mod stats;
mod third;
pub mod trunks;
mod wrap;

pub use bridge::Bridge;
pub use coder::MediaCodec;
pub use echo::{EchoCall, EchoError, EchoHeard, echo_call};
pub use handover::{HandOver, HandOverNews, HandOverRequest};
pub use keys::KeysBy;
pub use media::{
    Attached, Endpoint, MediaConfig, MediaHandle, MediaNews, MediaStats, MediaTerms, Received, RtpPorts,
    RtpSockets,
};
pub use player::{Clip, Command};
pub use playout::Playout;
pub use recorder::{RecorderHandle, Recording, RecordingResult};
pub use sip::{
    Command as SipCommand, PeerTls, SipHandle, SipTransports, TlsSettings, TraceName, start as start_sip,
    start_with as start_sip_with,
};
pub use stats::FarEnd;
pub use third::SuperviseMode;
