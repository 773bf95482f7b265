//! The fleet, as decisions without I/O: who may join, what each box should be, and how a new version spreads.
//!
//! - [`enrol`]: a box announces itself, somebody enters its claim code, somebody else approves; renewal,
//!   revocation, decommission and transfer.
//! - [`shadow`]: what a box should be against what it says it is, with versions and hashes, and the history
//!   of who changed what.
//! - [`rollout`]: waves, gates, pauses; [`sequential`] judges the calls of the new version while they come in,
//!   [`speed`] says how long their customers waited.
//! - [`alert`]: what somebody should look at, said once.
//! - [`why`]: one sentence for each box that does not run what it should.
//!
//! **Invariant:** nothing here reads a clock, a socket or a database; `now` and randomness are arguments.
//! **Invariant:** a rollout that was paused goes on only when a person says so.
//! **Invariant:** nobody approves what they claimed themselves, and a code is good for one box, once.
//!
//! Absent on purpose: X.509 (the shell parses requests and signs certificates) and storage.

pub mod alert;
pub mod enrol;
pub mod report;
pub mod rollout;
pub mod sequential;
pub mod shadow;
pub mod speed;
pub mod why;
