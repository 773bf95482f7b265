//! Experiments while they run: when one must be stopped, and which arm the next customer gets.
//!
//! A script declares its experiments, and `trunkline_dialogue::assign` gives each customer an arm by the declared
//! weights. [`Guard`] watches what the arms do to customers and says when an arm harms too many of them;
//! [`Thompson`] draws arms by what they have achieved so far, for experiments that are declared adaptive.
//! A drawn arm goes into a call by `start_with_arms`; whoever draws keeps it by contact, so that it stays.
//!
//! **Invariant:** no I/O and no clock; randomness is an argument, so a seed replays a run.

mod guard;
mod thompson;

pub use guard::{Guard, Verdict};
pub use thompson::{Tally, Thompson};
