//! Calls with peers that were not written here: SIPp (Debian: sip-tester) and baresip.
//!
//! Without a peer its tests say so and pass, unless `TRUNKLINE_REQUIRE_PEERS=1` demands it. Everything runs on
//! loopback, and every process is ended with the test that began it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod baresip;
#[expect(dead_code, reason = "edge/line has the tests with a proxy")]
mod scenario;
mod shell;
mod sipp;
mod sipp_suite;
mod sound;
