//! What `trunkctl` is made of, for the tests that run the whole chain.
//!
//! [`stage`] puts cloud, box and customer on one machine as separate processes that talk only over
//! TLS, MQTT, SIP and RTP, as they would over a network; [`fleet`] does so with several boxes that join and
//! are updated.

pub mod api;
pub mod callbacks;
pub mod campaign;
pub mod fleet;
pub mod process;
pub mod setup;
pub mod stage;
