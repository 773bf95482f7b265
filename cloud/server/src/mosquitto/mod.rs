//! A Mosquitto beside the cloud, in the place of the embedded broker.
//!
//! - `MosquittoBroker` is the worker's end: what it publishes, and whom it throws out.
//! - [`Link`] holds the cloud's own connection: what boxes say goes in, what the cloud says goes out, and
//!   `rights` keeps the boxes that may speak in step with those that are enrolled.
//! - [`write()`] writes the configuration that a Mosquitto needs for that.
//!
//! Who says something is known from its topic: a box has rights below its own name only.

mod config;
mod link;
mod rights;

pub(crate) use config::{Endpoint, MosquittoConfig, Written, write};
pub(crate) use link::Link;
