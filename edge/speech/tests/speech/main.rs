//! The engines on real models and recordings. One program: each file on its own would link all of it once more.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[path = "../../src/recognise/testing.rs"]
mod testing;
mod tiny;

mod bad_input;
mod bundle;
mod hearing;
mod onnx_engine;
