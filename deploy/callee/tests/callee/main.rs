//! The simulated customer. One program: each file on its own would link all of it once more.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod common;

mod calls;
mod conversation;
mod personas;
mod story;
