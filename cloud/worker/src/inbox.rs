//! Files what boxes report: births and wills, answers to commands, and events, in order.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use trunkline_db::{Effect, Event};
use trunkline_model::CallId;
use trunkline_policy::receipt::Entry;
use trunkline_wire::{
    Birth, CallRecord, DialReply, Envelope, NumbersReply, Reported, SuppressReply, TurnRecord, parse, topic,
};

use crate::broker::envelope;
use crate::dispatch::Chain;
use crate::{Inbound, Publication, Qos, Stop, Worker};

const BATCH: usize = 256;
/// How often a batch is tried before its events are tried one by one.
const TRIES: u32 = 3;

pub(crate) async fn run(worker: Arc<Worker>, mut messages: mpsc::Receiver<Inbound>, mut stop: Stop) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let received = tokio::select! {
            // What has arrived is filed before stopping.
            biased;
            received = messages.recv_many(&mut batch, BATCH) => received,
            () = stop.stopped() => return,
        };
        if received == 0 {
            return;
        }
        let mut events = Vec::new();
        for message in batch.drain(..) {
            match message.tail.as_str() {
                "conn" => worker.conn(&message).await,
                "cfg/reported" => {
                    if let Some(envelope) = read::<Reported>(&message) {
                        worker.reported(&message.box_id, &envelope.body).await;
                    }
                }
                "res/suppress" => worker.has_suppressions(&message).await,
                "res/numbers" => worker.has_numbers(&message).await,
                tail if tail.starts_with("res/") => worker.reply(&message).await,
                tail if tail.starts_with("evt/") => events.extend(read_event(&message)),
                _ => tracing::trace!(box.id = %message.box_id, "A message of no concern here"),
            }
        }
        if !events.is_empty() {
            worker.file(events).await;
        }
    }
}

impl Worker {
    async fn conn(&self, message: &Inbound) {
        let Some(envelope) = read::<Birth>(message) else { return };
        let birth = envelope.body;
        let said = self.db.box_said(&message.box_id, &birth, Timestamp::now()).await;
        match said {
            Ok(true) if birth.online => {
                tracing::info!(box.id = %message.box_id, sess = birth.sess, channels = birth.channels, "Box came online");
                self.wakers.dispatcher();
                self.wakers.suppressor();
            }
            Ok(true) => tracing::warn!(box.id = %message.box_id, sess = birth.sess, "Box went away"),
            Ok(false) => {
                tracing::debug!(box.id = %message.box_id, sess = birth.sess, "Word of an older session");
            }
            Err(error) => tracing::error!(error = %Chain(&error), "A box's state could not be kept"),
        }
    }

    async fn reply(&self, message: &Inbound) {
        let Some(envelope) = read::<DialReply>(message) else { return };
        let answered = self.dial_answered(&message.box_id, &envelope.body, Timestamp::now()).await;
        if let Err(error) = answered {
            tracing::error!(error = %Chain(&error), "A box's answer could not be kept");
        }
    }

    async fn has_suppressions(&self, message: &Inbound) {
        let Some(envelope) = read::<SuppressReply>(message) else { return };
        if let Err(error) = self.suppress_answered(&message.box_id, envelope.body).await {
            tracing::error!(error = %Chain(&error), "A box's answer could not be kept");
        }
    }

    async fn has_numbers(&self, message: &Inbound) {
        let Some(envelope) = read::<NumbersReply>(message) else { return };
        if let Err(error) = self.numbers_answered(&message.box_id, &envelope.body).await {
            tracing::error!(error = %Chain(&error), "A box's answer could not be kept");
        }
    }

    /// Stores events and acknowledges them. A database that fails is waited for: what is not stored
    /// stays with the box, and the broker's queue holds the boxes back meanwhile.
    async fn file(&self, events: Vec<Event>) {
        for attempt in 1..=TRIES {
            match self.file_once(&events).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::error!(error = %Chain(&error), attempt, "Events could not be stored");
                    tokio::time::sleep(Duration::from_millis(500) * attempt).await;
                }
            }
        }
        for event in events {
            let (id, seq) = (event.box_id.clone(), event.seq);
            if let Err(error) = self.file_once(&[event]).await {
                tracing::error!(
                    error = %Chain(&error), box.id = %id, seq,
                    "An event could not be stored; the box keeps it and sends it again"
                );
            }
        }
    }

    async fn file_once(&self, events: &[Event]) -> Result<(), trunkline_db::DbError> {
        let ingested = self.db.ingest(events, Timestamp::now()).await?;
        if ingested.conflicts > 0 {
            tracing::error!(
                conflicts = ingested.conflicts,
                "A box used event numbers again with another content: was its store erased?"
            );
        }
        if ingested.foreign > 0 {
            tracing::error!(foreign = ingested.foreign, "A box reported about calls that are not its own");
        }
        if ingested.duplicates > 0 {
            tracing::debug!(duplicates = ingested.duplicates, "Events came again");
        }
        for (id, ack) in ingested.acks {
            let sess = events.iter().rev().find(|event| event.box_id == id).map_or(0, |event| event.sess);
            let sent = match envelope(&id, sess, "ack", "", ack) {
                Ok(payload) => {
                    self.broker
                        .publish(Publication {
                            topic: topic::ack(&id),
                            payload,
                            qos: Qos::AtLeastOnce,
                            expiry: None,
                            correlation: None,
                        })
                        .await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = sent {
                // The box sends the events again and is answered then.
                tracing::warn!(error = %Chain(&error), box.id = %id, "An acknowledgement was not sent");
            }
        }
        for call in ingested.touched {
            self.told(call);
        }
        self.wakers.dispatcher();
        // Somebody may have asked not to be called again.
        self.wakers.suppressor();
        Ok(())
    }
}

fn read<T: DeserializeOwned>(message: &Inbound) -> Option<Envelope<T>> {
    match parse::<Envelope<T>>(&message.payload) {
        Ok(envelope) if envelope.box_id == message.box_id => Some(envelope),
        Ok(_) => {
            tracing::warn!(box.id = %message.box_id, "A message claims to be another box's and is dropped");
            None
        }
        Err(error) => {
            tracing::warn!(error = %Chain(&error), box.id = %message.box_id, "A message is dropped");
            None
        }
    }
}

fn read_event(message: &Inbound) -> Option<Event> {
    let envelope = read::<Box<RawValue>>(message)?;
    if envelope.seq == 0 {
        tracing::warn!(box.id = %message.box_id, "An event without a number is dropped");
        return None;
    }
    let body = envelope.body.get();
    let effect = match envelope.kind.as_str() {
        "call.inbound" => body_of(body).map(|inbound| Effect::Inbound(Box::new(inbound))),
        "call.progress" => body_of(body).map(Effect::Progress),
        "call.turn" => body_of::<TurnDone>(body).map(|done| Effect::Turn(done.call, Box::new(done.turn))),
        "call.ended" => body_of::<CallRecord>(body).map(|record| Effect::Ended(Box::new(record))),
        "gate.receipt" => body_of::<Entry>(body).and_then(|entry| {
            let body = entry.read()?;
            Ok(Effect::Receipt(Box::new(entry), Box::new(body)))
        }),
        _ => Ok(Effect::Unknown),
    };
    let effect = effect.unwrap_or_else(|error| {
        tracing::error!(
            box.id = %message.box_id, seq = envelope.seq, kind = envelope.kind, %error,
            "An event is not what its type says; it is kept aside"
        );
        Effect::Unreadable(error.to_string())
    });
    Some(Event {
        box_id: envelope.box_id,
        sess: envelope.sess,
        seq: envelope.seq,
        id: envelope.id,
        ts: envelope.ts,
        kind: envelope.kind,
        trace: envelope.trace,
        body: body.to_owned(),
        effect,
    })
}

fn body_of<T: DeserializeOwned>(body: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(body)
}

/// Body of `call.turn`.
#[derive(serde::Deserialize)]
struct TurnDone {
    call: CallId,
    turn: TurnRecord,
}
