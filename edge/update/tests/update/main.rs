//! Updates that are cut off. One program: each file on its own would link all of it once more.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod common;

mod killed;
mod power;
mod updates;
