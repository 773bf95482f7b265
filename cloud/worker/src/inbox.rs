//! Files what boxes report: births and wills, answers to commands, and events, in order.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use trunkline_db::{Effect, Event};
use trunkline_model::{BoxId, CallId};
use trunkline_policy::receipt::Entry;
use trunkline_wire::{
    Birth, CallRecord, DialReply, Envelope, NumbersReply, Reported, SuppressReply, TurnRecord, parse, topic,
};

use crate::broker::envelope;
use crate::dispatch::Chain;
use crate::{Inbound, Publication, Qos, Stop, Worker};

const BATCH: usize = 512;
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
        // What needs a commit of its own shares one with its like: many boxes come back, or report, at once.
        let (mut births, mut reports, mut events) = (Vec::new(), Vec::new(), Vec::new());
        let mut taken = Vec::new();
        for message in batch.drain(..) {
            match message.tail.as_str() {
                "conn" => births.extend(read::<Birth>(&message).map(|said| (said.box_id, said.body))),
                "cfg/reported" => {
                    reports.extend(read::<Reported>(&message).map(|said| (said.box_id, said.body)));
                }
                tail if tail.starts_with("res/") => {
                    // An answer is about the session that its box has begun.
                    worker.born(&mut births).await;
                    match tail {
                        "res/suppress" => worker.has_suppressions(&message).await,
                        "res/numbers" => worker.has_numbers(&message).await,
                        _ => taken.extend(worker.reply(&message).await),
                    }
                }
                tail if tail.starts_with("evt/") => events.extend(read_event(&message)),
                _ => tracing::trace!(box.id = %message.box_id, "A message of no concern here"),
            }
        }
        worker.born(&mut births).await;
        if !reports.is_empty() {
            worker.reported(&reports).await;
        }
        if !taken.is_empty()
            && let Err(error) = worker.db.accepted(&taken, Timestamp::now()).await
        {
            tracing::error!(error = %Chain(&error), "Answers of boxes could not be kept");
        }
        if !events.is_empty() {
            worker.file(events).await;
        }
    }
}

impl Worker {
    /// Takes births and wills, and leaves none.
    async fn born(&self, births: &mut Vec<(BoxId, Birth)>) {
        if births.is_empty() {
            return;
        }
        let births = std::mem::take(births);
        let said = match self.db.boxes_said(&births, Timestamp::now()).await {
            Ok(said) => said,
            Err(error) => {
                let boxes = births.len();
                return tracing::error!(error = %Chain(&error), boxes, "The state of boxes could not be kept");
            }
        };
        for ((id, birth), new) in births.iter().zip(said) {
            match (new, birth.online) {
                (true, true) => {
                    tracing::info!(box.id = %id, sess = birth.sess, channels = birth.channels, "Box came online");
                }
                (true, false) => tracing::warn!(box.id = %id, sess = birth.sess, "Box went away"),
                (false, _) => {
                    tracing::debug!(box.id = %id, sess = birth.sess, "Word of an older session");
                }
            }
        }
        self.wakers.dispatcher();
        self.wakers.suppressor();
    }

    /// Returns the call that a box took; a refusal is filed at once.
    async fn reply(&self, message: &Inbound) -> Option<(CallId, BoxId)> {
        let reply = read::<DialReply>(message)?.body;
        if reply.accepted {
            return Some((reply.call, message.box_id.clone()));
        }
        if let Err(error) = self.dial_refused(&message.box_id, &reply, Timestamp::now()).await {
            tracing::error!(error = %Chain(&error), "A box's answer could not be kept");
        }
        None
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
