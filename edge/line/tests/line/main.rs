//! Lines against peers that were not written here. One program: each file on its own would link all of it once more.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what is not waited for fails the test or is passed over"
)]

mod common;
#[path = "common/kamailio.rs"]
mod kamailio;
#[path = "common/line.rs"]
mod line;
#[path = "common/played.rs"]
mod played;
#[expect(dead_code, reason = "the peers of edge/sip need all of it")]
#[path = "../../../sip/tests/peers/scenario.rs"]
mod scenario;
#[path = "common/linphonec.rs"]
mod softphone;
#[path = "common/sound.rs"]
mod sound;

mod bridge;
mod connections;
mod echo;
mod handover;
mod keys;
mod linphonec;
mod opus;
mod phones;
mod proxy;
mod relay;
mod supervise;
mod taken;
mod trace;
mod trunks;
