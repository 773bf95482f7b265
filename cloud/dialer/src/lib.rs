//! The dialer's decisions: who is called, when, and on which line.
//!
//! Every part is a plain function or a small state that is pushed into: campaigns and their fuse
//! ([`campaign`]), the next attempt ([`retry`]) and the one that
//! a customer asked for ([`callback`]), lines for campaigns ([`allot`]), tokens to dial
//! ([`lease`]), how many calls to start ([`pacing`],
//! [`people`]), the number that is shown ([`caller`]), widening a release ([`release`]), what a campaign
//! has before it ([`preflight`]), and the order of contacts ([`queue`]). The simulator ([`sim`]) is a
//! world for them, from a seed.
//!
//! **Invariant:** a contact has at most one lease, and a lease that may have reached a box is not given
//! to another one before its end.
//! **Invariant:** no campaign waits for ever: one that has waited longer than the patience of the
//! allotment gets a line before all others.
//! **Invariant:** when calls are abandoned, fewer calls are started, never more.
//!
//! Absent on purpose: whether a contact may be called (`shared/policy`), SQL (`cloud/db`), and the task
//! that applies all this (`cloud/worker`).

pub mod allot;
pub mod callback;
pub mod caller;
pub mod campaign;
pub mod lease;
pub mod pacing;
pub mod people;
pub mod preflight;
pub mod queue;
pub mod release;
pub mod retry;
pub mod sim;
