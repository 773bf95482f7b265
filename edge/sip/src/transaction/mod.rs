//! The four transaction machines of RFC 3261 §17, with the Accepted states of RFC 6026.
//!
//! A machine holds states and deadlines, no messages: it says what to do with the bytes that its owner keeps.
//! `reliable` machines (TCP, TLS) resend nothing and linger for no one.

mod client;
mod server;

use std::time::Duration;

pub use client::{ClientTx, OnResponse, OnTimeout};
pub use server::{OnAck, OnServerTimeout, ServerTx};

/// The base intervals of RFC 3261 §17.1.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// T1, the estimate of a round trip: 500 ms.
    pub t1: Duration,
    /// T2, the longest interval between resends: 4 s.
    pub t2: Duration,
    /// T4, how long a message may linger in the network: 5 s.
    pub t4: Duration,
}

impl Timers {
    /// Returns 64·T1, the patience of most timers.
    pub fn patience(&self) -> Duration {
        self.t1 * 64
    }
}

impl Default for Timers {
    fn default() -> Self {
        Self { t1: Duration::from_millis(500), t2: Duration::from_secs(4), t4: Duration::from_secs(5) }
    }
}
