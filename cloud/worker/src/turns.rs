//! Answers turns: what was heard goes in, what to do comes out.
//!
//! A request carries the dialogue's state, so the answer is a function of the request, the script
//! and the call: [`trunkline_turn::answer`]. A draft leaves no trace.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::{Timestamp, Zoned};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};
use trunkline_model::{BoxId, CallId, ScriptVersion};
use trunkline_turn::{answer, pending, refusal};
use trunkline_wire::{Envelope, TurnEvent, TurnKind, TurnReply, TurnRequest, parse, topic};

use crate::broker::envelope;
use crate::dispatch::Chain;
use crate::{Inbound, Publication, Qos, Stop, Worker};

/// How many calls are remembered, so that a turn need not ask the database.
const REMEMBERED: usize = 10_000;

/// What a turn needs to know about its call.
#[derive(Clone)]
pub struct CallFacts {
    /// The box that carries it.
    pub box_id: BoxId,
    /// The script's version.
    pub version: ScriptVersion,
    /// The script's variables.
    pub variables: BTreeMap<String, String>,
}

pub(crate) async fn run(worker: Arc<Worker>, mut requests: mpsc::Receiver<Inbound>, mut stop: Stop) {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let service = Arc::new(TurnService {
        worker,
        processors: Semaphore::new(cores),
        memory: Mutex::new(Memory::default()),
    });
    loop {
        let request = tokio::select! {
            request = requests.recv() => request,
            () = stop.stopped() => return,
        };
        let Some(request) = request else { return };
        // One task per request: a call that waits for the database or a processor blocks no other.
        let service = Arc::clone(&service);
        tokio::spawn(async move { service.handle(request).await });
    }
}

struct TurnService {
    worker: Arc<Worker>,
    processors: Semaphore,
    memory: Mutex<Memory>,
}

/// The calls of late, and the newest revision of each, so that an overtaken draft costs nothing.
#[derive(Default)]
struct Memory {
    calls: BTreeMap<CallId, (CallFacts, (u32, u32))>,
    order: VecDeque<CallId>,
}

impl Memory {
    fn facts(&self, call: CallId) -> Option<CallFacts> {
        self.calls.get(&call).map(|(facts, _)| facts.clone())
    }

    fn remember(&mut self, call: CallId, facts: CallFacts) {
        if self.calls.insert(call, (facts, (0, 0))).is_none() {
            self.order.push_back(call);
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.calls.remove(&oldest);
            }
        }
    }

    /// Notes a request and says whether it is the newest of its call.
    fn newest(&mut self, request: &TurnRequest) -> bool {
        let Some((_, latest)) = self.calls.get_mut(&request.call) else { return true };
        let this = (request.turn, request.rev);
        *latest = this.max(*latest);
        *latest == this
    }
}

impl TurnService {
    async fn handle(&self, message: Inbound) {
        let envelope = match parse::<Envelope<TurnRequest>>(&message.payload) {
            Ok(envelope) if envelope.box_id == message.box_id => envelope,
            Ok(_) => return tracing::warn!(box.id = %message.box_id, "A turn request names another box"),
            Err(error) => {
                return tracing::warn!(error = %Chain(&error), box.id = %message.box_id, "A turn request is dropped");
            }
        };
        let request = envelope.body;
        let budget = Duration::from_millis(u64::from(request.budget_ms));
        let mut reply = match self.reply(&message, &request, message.received + budget).await {
            Some(reply) => reply,
            None => {
                return tracing::debug!(call.id = %request.call, request.turn, request.rev, "A draft was overtaken");
            }
        };
        if reply.error.is_empty()
            && let Some(generator) = &self.worker.generator
            && let Some(wait) = generator.wanted(&request, &reply)
        {
            if !wait.is_zero() {
                self.send(&message, envelope.sess, &envelope.trace, &pending(&request, wait)).await;
            }
            generator.fill(&request, &mut reply).await;
        }
        // From its arrival, so that waiting for a processor shows in the figures.
        reply.took_us = u64::try_from(message.received.elapsed().as_micros()).unwrap_or(u64::MAX);
        if !reply.error.is_empty() {
            tracing::warn!(call.id = %request.call, request.turn, error = reply.error, "A turn was not answered");
        }
        self.send(&message, envelope.sess, &envelope.trace, &reply).await;
        if request.mode == TurnKind::Final && reply.error.is_empty() {
            self.keep(&request, &reply).await;
        }
    }

    /// `None` for a draft that nobody waits for any more.
    async fn reply(
        &self,
        message: &Inbound,
        request: &TurnRequest,
        useful_until: Instant,
    ) -> Option<TurnReply> {
        let facts = match self.facts(request.call, &message.box_id).await {
            Ok(Some(facts)) if facts.box_id == message.box_id => facts,
            Ok(_) => return Some(refusal(request, "unknown call")),
            Err(error) => {
                tracing::error!(error = %Chain(&error), "A call could not be read");
                return Some(refusal(request, "the cloud's database does not answer"));
            }
        };
        let worker = &self.worker;
        match worker.db.is_over(request.call).await {
            Ok(false) => {}
            Ok(true) => return Some(refusal(request, "this call is over")),
            // Who was let in a moment ago is not turned away for that.
            Err(error) => tracing::warn!(error = %Chain(&error), "Whether a call is over could not be read"),
        }
        let script = match worker.scripts.version(&facts.version, &worker.db, &worker.engine).await {
            Ok(Some(script)) => script,
            Ok(None) => return Some(refusal(request, "unknown script")),
            Err(error) => {
                tracing::error!(error = %Chain(&error), "A stored script is not usable");
                return Some(refusal(request, "the script is not usable"));
            }
        };
        let Ok(permit) = self.processors.acquire().await else { return None };
        let overtaken = !self.newest(request) || Instant::now() > useful_until;
        if request.mode == TurnKind::Draft && overtaken {
            return None;
        }
        let (engine, task) = (Arc::clone(&worker.engine), request.clone());
        let now = Zoned::now().datetime();
        let computed =
            tokio::task::spawn_blocking(move || answer(&engine, &script, &facts.variables, &task, now)).await;
        drop(permit);
        match computed {
            Ok(reply) => Some(reply),
            Err(error) => {
                tracing::error!(%error, call.id = %request.call, "A turn broke the turn service");
                Some(refusal(request, "the turn could not be computed"))
            }
        }
    }

    async fn facts(
        &self,
        call: CallId,
        asked_by: &BoxId,
    ) -> Result<Option<CallFacts>, trunkline_db::DbError> {
        let known = self.memory.lock().ok().and_then(|memory| memory.facts(call));
        // A call that one box refused may be another's by now, so a stranger makes us look again.
        if known.as_ref().is_some_and(|facts| facts.box_id == *asked_by) {
            return Ok(known);
        }
        let Some(row) = self.worker.db.call(call).await? else { return Ok(None) };
        let Some(box_id) = row.box_id else { return Ok(None) };
        let facts = CallFacts { box_id, version: row.script.version, variables: row.variables };
        if let Ok(mut memory) = self.memory.lock() {
            memory.remember(call, facts.clone());
        }
        Ok(Some(facts))
    }

    fn newest(&self, request: &TurnRequest) -> bool {
        self.memory.lock().map_or(true, |mut memory| memory.newest(request))
    }

    async fn send(&self, message: &Inbound, sess: u64, trace: &str, reply: &TurnReply) {
        let payload = match envelope(&message.box_id, sess, "turn.reply", trace, reply) {
            Ok(payload) => payload,
            Err(error) => return tracing::error!(error = %Chain(&error), "A turn's answer was not written"),
        };
        let sent = self
            .worker
            .broker
            .publish(Publication {
                topic: topic::turn_res(&message.box_id),
                payload,
                qos: Qos::AtMostOnce,
                expiry: Some(Duration::from_secs(10)),
                correlation: message.correlation.clone(),
            })
            .await;
        if let Err(error) = sent {
            tracing::warn!(error = %Chain(&error), call.id = %reply.call, "A turn's answer was not sent");
        }
    }

    async fn keep(&self, request: &TurnRequest, reply: &TurnReply) {
        let (event, text) = match &request.event {
            TurnEvent::Answered => ("answered", ""),
            TurnEvent::Heard { text, .. } => ("heard", text.as_str()),
            TurnEvent::NoInput => ("no_input", ""),
            TurnEvent::TransferFailed { .. } => ("transfer_failed", ""),
            TurnEvent::HungUp => ("hung_up", ""),
        };
        let log = json!({
            "turn": reply.turn, "rev": reply.rev, "event": event, "text": text, "node": reply.node,
            "because": reply.because, "intent": reply.understanding.intent,
            "score": reply.understanding.score, "layer": reply.understanding.layer,
            "took_us": reply.took_us,
        });
        match self.worker.db.store_reply(reply, log, Timestamp::now()).await {
            Ok(true) => self.worker.hub.changed(reply.call),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(error = %Chain(&error), call.id = %reply.call, "A turn was answered but not kept");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_revision_is_known_to_be_overtaken() {
        let call = CallId::from_u128(1);
        let version = "0".repeat(64).parse().unwrap();
        let mut memory = Memory::default();
        memory.remember(
            call,
            CallFacts { box_id: "tl-a".parse().unwrap(), version, variables: BTreeMap::new() },
        );
        let at = |turn, rev| TurnRequest {
            call,
            turn,
            rev,
            mode: TurnKind::Final,
            event: TurnEvent::NoInput,
            state: None,
            elapsed_s: 5,
            budget_ms: 1_000,
        };
        assert!(memory.newest(&at(1, 2)));
        assert!(!memory.newest(&at(1, 1)));
        assert!(memory.newest(&at(1, 2)), "the same once more");
        assert!(memory.newest(&at(2, 0)));
        assert!(!memory.newest(&at(1, 9)));
    }
}
