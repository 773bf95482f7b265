//! The way to the boxes and back, whichever broker carries it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::mpsc;
use trunkline_model::BoxId;
use trunkline_wire::{Envelope, WIRE_VERSION};
use uuid::Uuid;

/// How often a message may arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    /// Once or never.
    AtMostOnce,
    /// Once or more.
    AtLeastOnce,
}

/// A message for a box.
#[derive(Clone)]
pub struct Publication {
    /// Below `tl/1/{box}/`.
    pub topic: String,
    /// The envelope as JSON.
    pub payload: Bytes,
    /// How often it may arrive.
    pub qos: Qos,
    /// After this time it is of no use and is not delivered any more.
    pub expiry: Option<Duration>,
    /// Copied from the request that this answers.
    pub correlation: Option<Bytes>,
}

/// Why a message could not be handed to the broker.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The message could not be written as JSON.
    #[error("a message could not be written")]
    Unwritable(#[from] serde_json::Error),
    /// The broker refused it or is gone.
    #[error("the broker did not take a message: {0}")]
    Refused(String),
}

/// A broker that this process can publish through.
pub trait Broker: Send + Sync {
    /// Hands a message over and returns how many sessions it was queued for; 0 when nobody listens.
    fn publish(&self, message: Publication) -> BoxFuture<'_, Result<usize, BrokerError>>;

    /// Ends every session of a box and returns how many there were.
    fn kick<'a>(&'a self, box_id: &'a BoxId) -> BoxFuture<'a, usize>;
}

/// A message from a box, its sender proven by the broker.
#[derive(Clone, Debug)]
pub struct Inbound {
    /// The box, as its certificate and the topic say.
    pub box_id: BoxId,
    /// The topic below `tl/1/{box}/`.
    pub tail: String,
    /// The envelope as JSON.
    pub payload: Bytes,
    /// To be copied into the answer.
    pub correlation: Option<Bytes>,
    /// When it came.
    pub received: Instant,
}

/// The broker's end of the way in.
#[derive(Clone)]
pub struct Inlet {
    pub(crate) filed: mpsc::Sender<Inbound>,
    pub(crate) turns: mpsc::Sender<Inbound>,
}

/// The worker's end of the way in.
pub struct Outlet {
    pub(crate) filed: mpsc::Receiver<Inbound>,
    pub(crate) turns: mpsc::Receiver<Inbound>,
}

impl Inlet {
    /// Takes a message in. Waits while the worker is behind, except for turns, which are dropped.
    pub async fn take(&self, message: Inbound) {
        if message.tail == "turn" {
            if self.turns.try_send(message).is_err() {
                tracing::warn!("A turn request was dropped because the turn service is behind");
            }
        } else if self.filed.send(message).await.is_err() {
            tracing::debug!("A message came while the worker was stopping");
        }
    }
}

/// Puts an envelope of this process around `body`.
pub(crate) fn envelope<T: Serialize>(
    to: &BoxId,
    sess: u64,
    kind: &str,
    trace: &str,
    body: T,
) -> Result<Bytes, BrokerError> {
    let envelope = Envelope {
        v: WIRE_VERSION,
        id: Uuid::now_v7(),
        box_id: to.clone(),
        sess,
        seq: 0,
        ts: Timestamp::now(),
        mono: 0,
        kind: kind.to_owned(),
        trace: trace.to_owned(),
        body,
    };
    Ok(Bytes::from(serde_json::to_vec(&envelope)?))
}
