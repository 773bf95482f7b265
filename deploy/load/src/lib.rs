//! Many boxes at once on one cloud: how fast all of them come back, how long an event takes until it is in the
//! database, how much memory the cloud needs, and that nothing is lost when it is killed meanwhile.
//!
//! - [`Plan`] says how many boxes do what for how long, and [`run`] does it: it makes an authority and a
//!   certificate for each box, starts `trunkline-cloud` as a process, connects the boxes over mutual TLS, lets them
//!   send events, kills the cloud, and at last compares its database with what each box made.
//! - [`Report`] is what came out, with a row for a table and what of [`Promises`] was not kept.
//!
//! A box here is the part of one that its link needs: `edge/link` decides what is sent and sent again, the envelopes,
//! topics, keep-alive, will and back-off are those of `edge/agent`, and so is what the keeper reports each minute. It
//! has one connection where a box has two, and its journal lies in memory: it is never killed itself.
//!
//! The time of an event runs from its making until the cloud's own acknowledgement is here, which the cloud sends
//! after its commit. So it is longer than the time to the database, never shorter.
//!
//! Absent on purpose: calls and turns. The round trip of a turn is measured in `cloud/server`.

mod authority;
mod cloud;
mod one;
mod report;
mod run;

pub use report::{Kill, Phase, Promises, Report};
pub use run::{Plan, run};
