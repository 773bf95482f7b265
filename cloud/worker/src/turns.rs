//! Answers turns: what was heard goes in, what to do comes out.
//!
//! A request carries the dialogue's state, so the answer is a function of the request, the script
//! and the call; [`answer`] is that function. A draft leaves no trace.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::civil::DateTime;
use jiff::{Timestamp, Zoned};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use trunkline_dialogue::action::{Entity, Event, Heard};
use trunkline_dialogue::{Script, State, expects, start, step};
use trunkline_model::{BoxId, CallId, ScriptVersion};
use trunkline_nlu::Engine;
use trunkline_wire::{
    ActionV1, EntityV1, Envelope, TurnEvent, TurnKind, TurnReply, TurnRequest, UnderstandingV1, parse, topic,
};

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

/// Computes the answer to a turn. `now` is the customer's wall clock, for "tomorrow at three".
pub fn answer(
    engine: &Engine,
    script: &Script,
    facts: &CallFacts,
    request: &TurnRequest,
    now: DateTime,
) -> TurnReply {
    let began = Instant::now();
    let mut reply = empty(request);
    match decide(engine, script, facts, request, now) {
        Ok(decision) => {
            reply.state = decision.state;
            reply.node = decision.node;
            reply.because = decision.because;
            reply.actions = decision.actions;
            reply.understanding = decision.understanding;
        }
        Err(error) => reply.error = error,
    }
    reply.took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    reply
}

struct Decision {
    state: Value,
    node: String,
    because: String,
    actions: Vec<ActionV1>,
    understanding: UnderstandingV1,
}

fn decide(
    engine: &Engine,
    script: &Script,
    facts: &CallFacts,
    request: &TurnRequest,
    now: DateTime,
) -> Result<Decision, String> {
    let state = match &request.state {
        Some(state) => serde_json::from_value::<State>(state.clone())
            .map_err(|error| format!("the state cannot be read: {error}"))?,
        None => start(script, &facts.variables)
            .map_err(|_| "the call's variables do not fit its script".to_owned())?,
    };
    let mut understanding = UnderstandingV1::default();
    let event = match &request.event {
        TurnEvent::Answered => Event::Answered,
        TurnEvent::NoInput => Event::NoInput,
        TurnEvent::HungUp => Event::HungUp,
        TurnEvent::TransferFailed { reason } => Event::TransferFailed { reason: reason.clone() },
        TurnEvent::Heard { text, .. } => {
            understanding = understand(engine, script, &state, text, now)?;
            Event::Heard(Heard {
                text: text.clone(),
                intent: understanding.intent.clone(),
                score: understanding.score,
                entities: understanding.entities.iter().map(entity).collect(),
            })
        }
    };
    let step = step(script, &state, &event, request.elapsed_s);
    let state =
        serde_json::to_value(&step.state).map_err(|error| format!("the state cannot be written: {error}"))?;
    Ok(Decision {
        state,
        node: step.node,
        because: step.because,
        actions: step.actions.iter().map(ActionV1::from).collect(),
        understanding,
    })
}

fn understand(
    engine: &Engine,
    script: &Script,
    state: &State,
    text: &str,
    now: DateTime,
) -> Result<UnderstandingV1, String> {
    let expected = expects(script, state);
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    let understood = engine
        .understand(script.version().as_str(), text, &expected, now)
        .map_err(|error| format!("the text could not be understood: {error}"))?;
    let layer = serde_json::to_value(understood.decision.layer).unwrap_or_default();
    Ok(UnderstandingV1 {
        intent: understood.decision.intent,
        score: understood.decision.score,
        layer: layer.as_str().unwrap_or_default().to_owned(),
        top: understood.decision.top,
        entities: understood
            .entities
            .into_iter()
            .map(|found| EntityV1 {
                kind: found.kind.as_str().to_owned(),
                value: found.value.normalised(),
                text: found.text,
            })
            .collect(),
    })
}

fn entity(found: &EntityV1) -> Entity {
    Entity { kind: found.kind.clone(), value: found.value.clone(), text: found.text.clone() }
}

fn empty(request: &TurnRequest) -> TurnReply {
    TurnReply {
        call: request.call,
        turn: request.turn,
        rev: request.rev,
        mode: request.mode,
        state: Value::Null,
        node: String::new(),
        because: String::new(),
        actions: Vec::new(),
        understanding: UnderstandingV1::default(),
        took_us: 0,
        error: String::new(),
    }
}

fn refusal(request: &TurnRequest, error: &str) -> TurnReply {
    TurnReply { error: error.to_owned(), ..empty(request) }
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
            tokio::task::spawn_blocking(move || answer(&engine, &script, &facts, &task, now)).await;
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
    use serde_json::json;
    use trunkline_nlu::{IntentExamples, Locale};

    use super::*;

    fn script() -> (Engine, Script) {
        let text = include_str!("../../../shared/scripts/repayment-reminder-zh.yaml");
        let script = Script::load(text).unwrap();
        let engine = Engine::floor_only();
        let intents: Vec<IntentExamples> =
            script.intents().into_iter().map(|(name, examples)| IntentExamples { name, examples }).collect();
        engine.prepare(script.version().as_str(), Locale::Zh, &intents).unwrap();
        (engine, script)
    }

    fn facts(script: &Script) -> CallFacts {
        let examples = script.document().vars.iter().filter_map(|(name, var)| {
            let value = serde_json::to_value(var).unwrap();
            Some((name.clone(), value["example"].as_str()?.to_owned()))
        });
        CallFacts {
            box_id: "tl-a".parse().unwrap(),
            version: script.version().clone(),
            variables: examples.collect(),
        }
    }

    fn request(turn: u32, event: Value, state: Option<Value>) -> TurnRequest {
        let mut request = json!({
            "call": CallId::from_u128(1), "turn": turn, "rev": 0, "mode": "final", "event": event,
            "elapsed_s": 5, "budget_ms": 1000,
        });
        if let Some(state) = state {
            request["state"] = state;
        }
        serde_json::from_value(request).unwrap()
    }

    fn now() -> DateTime {
        "2026-11-22T10:00:00".parse().unwrap()
    }

    #[test]
    fn a_request_that_comes_again_gets_the_same_answer() {
        let (engine, script) = script();
        let facts = facts(&script);
        let opening = answer(&engine, &script, &facts, &request(0, json!({"kind": "answered"}), None), now());
        assert_eq!(opening.error, "");
        assert!(matches!(opening.actions[0], ActionV1::Say { .. }), "{:?}", opening.actions);

        let heard = request(1, json!({"kind": "heard", "text": "对，我是"}), Some(opening.state));
        let first = answer(&engine, &script, &facts, &heard, now());
        let again = answer(&engine, &script, &facts, &heard, now());
        assert_eq!(first.understanding.intent.as_deref(), Some("yes"));
        assert_ne!(first.node, opening.node);
        assert_eq!(TurnReply { took_us: 0, ..first }, TurnReply { took_us: 0, ..again });
    }

    #[test]
    fn a_state_of_another_make_is_refused_and_not_guessed_at() {
        let (engine, script) = script();
        let facts = facts(&script);
        for state in [json!({"v": 99}), json!(7), json!({"v": 1, "node": "no-such-node"})] {
            let request = request(1, json!({"kind": "no_input"}), Some(state.clone()));
            let reply = answer(&engine, &script, &facts, &request, now());
            let refused = !reply.error.is_empty() && reply.actions.is_empty();
            let ended = reply.actions.iter().any(|action| matches!(action, ActionV1::End { .. }));
            assert!(refused || ended, "{state}: {reply:?}");
        }
    }

    #[test]
    fn variables_that_do_not_fit_are_refused() {
        let (engine, script) = script();
        let facts = CallFacts { variables: BTreeMap::new(), ..facts(&script) };
        let reply = answer(&engine, &script, &facts, &request(0, json!({"kind": "answered"}), None), now());
        assert_eq!(reply.error, "the call's variables do not fit its script");
    }

    #[test]
    fn an_older_revision_is_known_to_be_overtaken() {
        let (_, script) = script();
        let mut memory = Memory::default();
        memory.remember(CallId::from_u128(1), facts(&script));
        let at = |turn, rev| TurnRequest { rev, ..request(turn, json!({"kind": "no_input"}), None) };
        assert!(memory.newest(&at(1, 2)));
        assert!(!memory.newest(&at(1, 1)));
        assert!(memory.newest(&at(1, 2)), "the same once more");
        assert!(memory.newest(&at(2, 0)));
        assert!(!memory.newest(&at(1, 9)));
    }
}
