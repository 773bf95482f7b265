//! The binary as a whole: a real process, real certificates, an MQTT client that plays the box, an
//! HTTP server that plays the CRM.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

mod alone;
mod bad_turns;
mod broker;
mod call;
mod campaign;
mod crowd;
mod experiments;
mod fleet;
mod generate;
mod harness;
mod import;
mod inbound;
mod mosquitto;
mod orders;
mod otlp;
mod pacing;
mod redis;
mod schemathesis;
mod startup;
mod suppress;
mod tpm;
mod trips;
mod words;
