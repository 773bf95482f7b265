//! Figures of a program, the same on both sides: what Prometheus reads is what a collector of OpenTelemetry is sent.
//!
//! - [`Page`]: all figures of one moment. Written as Prometheus reads them (text format 0.0.4), or as the OpenTelemetry
//!   protocol has them (OTLP 1.x, protobuf), from the same values, so that the two cannot differ.
//! - [`OtlpConfig`]: the section `[otlp]` of a configuration.
//! - [`push`]: sends the page of the moment to a collector, again and again, over HTTP.
//!
//! **Invariant:** nothing is kept for a collector that is away: the next push has the figures of its own moment.
//! **Invariant:** a label is letters, digits and `_`, and has few values: no number, name or address gets into one.
//!
//! Absent on purpose: histograms, counters and traces; every figure here is a gauge.

mod otlp;
mod page;
mod push;

pub use otlp::Resource;
pub use page::Page;
pub use push::{OtlpConfig, OtlpError, Pusher, push};
