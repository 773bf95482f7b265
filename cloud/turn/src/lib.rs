//! One turn of a dialogue: what was heard goes in, what to do comes out.
//!
//! A request carries the dialogue's state, so the answer is a function of the request, the script and
//! the understanding: [`answer`] is that function. The cloud runs it with the sentence encoder; the box
//! runs it without, for turns that the cloud does not answer in time
//! ([ADR 0020](../../../shared/docs/adr/0020-the-box-takes-the-turn.md)).
//!
//! **Invariant:** nothing here opens a socket, reads a clock or draws a random number.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::civil::DateTime;
use serde_json::Value;
use trunkline_dialogue::action::{Entity, Event, Heard, Temper};
use trunkline_dialogue::{Script, State, expects, next_prompts, start, step};
use trunkline_nlu::{Engine, EngineError, IntentExamples, Locale};
use trunkline_wire::{ActionV1, EntityV1, TurnEvent, TurnReply, TurnRequest, UnderstandingV1};

/// Why a script cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// No understanding for this language.
    #[error("script `{script}` is in `{locale}`, and only zh and en are understood")]
    Locale {
        /// The script.
        script: String,
        /// Its language.
        locale: String,
    },
    /// The understanding could not be trained.
    #[error("script `{script}` could not be prepared for understanding")]
    Engine {
        /// The script.
        script: String,
        /// Why.
        source: EngineError,
    },
}

/// Trains the understanding of a script, if it is not trained already. Takes some tenths of a second,
/// and seconds with the encoder.
///
/// # Errors
/// [`PrepareError`].
pub fn prepare(engine: &Engine, script: &Script) -> Result<(), PrepareError> {
    let name = || script.id().to_string();
    let locale: Locale = script
        .locale()
        .parse()
        .map_err(|_| PrepareError::Locale { script: name(), locale: script.locale().to_owned() })?;
    let intents: Vec<IntentExamples> =
        script.intents().into_iter().map(|(name, examples)| IntentExamples { name, examples }).collect();
    engine
        .prepare(script.version().as_str(), locale, &intents)
        .map_err(|source| PrepareError::Engine { script: name(), source })
}

/// Computes the answer to a turn; what keeps it from being answered stands in the reply's `error`.
/// `variables` are the call's, for a request without a state; `now` is the customer's wall clock, for
/// "tomorrow at three".
pub fn answer(
    engine: &Engine,
    script: &Script,
    variables: &BTreeMap<String, String>,
    request: &TurnRequest,
    now: DateTime,
) -> TurnReply {
    let mut reply = empty(request);
    match decide(engine, script, variables, request, now) {
        Ok(decision) => {
            reply.state = decision.state;
            reply.node = decision.node;
            reply.because = decision.because;
            reply.actions = decision.actions;
            reply.next = decision.next;
            reply.understanding = decision.understanding;
        }
        Err(error) => reply.error = error,
    }
    reply
}

struct Decision {
    state: Value,
    node: String,
    because: String,
    actions: Vec<ActionV1>,
    next: Vec<String>,
    understanding: UnderstandingV1,
}

fn decide(
    engine: &Engine,
    script: &Script,
    variables: &BTreeMap<String, String>,
    request: &TurnRequest,
    now: DateTime,
) -> Result<Decision, String> {
    let state = match &request.state {
        Some(state) => serde_json::from_value::<State>(state.clone())
            .map_err(|error| format!("the state cannot be read: {error}"))?,
        None => {
            start(script, variables).map_err(|_| "the call's variables do not fit its script".to_owned())?
        }
    };
    let mut understanding = UnderstandingV1::default();
    let event = match &request.event {
        TurnEvent::Answered => Event::Answered,
        TurnEvent::NoInput => Event::NoInput,
        TurnEvent::HungUp => Event::HungUp,
        TurnEvent::TransferFailed { reason } => Event::TransferFailed { reason: reason.clone() },
        TurnEvent::Heard { text, voice, .. } => {
            understanding = understand(engine, script, &state, text, now)?;
            // The script must have asked for it, whatever the box sends.
            let arousal = voice.filter(|_| script.hears_tone_of_voice()).map(|voice| voice.arousal);
            if arousal.is_some() {
                understanding.temper = Temper::of(understanding.sentiment, arousal).as_str().to_owned();
            }
            Event::Heard(Heard {
                text: text.clone(),
                intent: understanding.intent.clone(),
                score: understanding.score,
                sentiment: understanding.sentiment,
                arousal,
                entities: understanding.entities.iter().map(entity).collect(),
            })
        }
    };
    let step = step(script, &state, &event, request.elapsed_s);
    let next = next_prompts(script, &step.state);
    let state =
        serde_json::to_value(&step.state).map_err(|error| format!("the state cannot be written: {error}"))?;
    Ok(Decision {
        state,
        node: step.node,
        because: step.because,
        actions: step.actions.iter().map(ActionV1::from).collect(),
        next,
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
    // A voice without words means nothing, whatever a model makes of an empty text.
    if text.trim().is_empty() {
        return Ok(UnderstandingV1::default());
    }
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
        sentiment: understood.sentiment,
        temper: String::new(),
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
        next: Vec::new(),
        budget_ms: request.budget_ms,
        took_us: 0,
        pending_ms: 0,
        error: String::new(),
    }
}

/// Returns word that an answer is being made, which may take so long.
pub fn pending(request: &TurnRequest, wait: Duration) -> TurnReply {
    TurnReply { pending_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX), ..empty(request) }
}

/// Returns an answer that says why there is none.
pub fn refusal(request: &TurnRequest, error: &str) -> TurnReply {
    TurnReply { error: error.to_owned(), ..empty(request) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use trunkline_model::CallId;

    use super::*;

    fn script() -> (Engine, Script) {
        let text = include_str!("../../../shared/scripts/repayment-reminder-zh.yaml");
        let script = Script::load(text).unwrap();
        let engine = Engine::floor_only();
        prepare(&engine, &script).unwrap();
        (engine, script)
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
        let variables = script.example_variables();
        let opening =
            answer(&engine, &script, &variables, &request(0, json!({"kind": "answered"}), None), now());
        assert_eq!(opening.error, "");
        assert!(matches!(opening.actions[0], ActionV1::Say { .. }), "{:?}", opening.actions);

        let heard = request(1, json!({"kind": "heard", "text": "对，我是"}), Some(opening.state));
        let first = answer(&engine, &script, &variables, &heard, now());
        let again = answer(&engine, &script, &variables, &heard, now());
        assert_eq!(first.understanding.intent.as_deref(), Some("yes"));
        assert_ne!(first.node, opening.node);
        assert_eq!(first, again);
    }

    #[test]
    fn words_and_voice_are_joined_where_the_script_wants_the_voice() {
        let text = include_str!("../../../shared/scripts/repayment-reminder-zh.yaml");
        let listening = text.replacen("voice: ", "tone_of_voice: true\nvoice: ", 1);
        let variables = Script::load(text).unwrap().example_variables();
        let upset = |text: &str, arousal: Option<f32>| {
            let script = Script::load(text).unwrap();
            let engine = Engine::floor_only();
            prepare(&engine, &script).unwrap();
            let opened =
                answer(&engine, &script, &variables, &request(0, json!({"kind": "answered"}), None), now());
            let mut event = json!({"kind": "heard", "text": "你们弄错了吧，这有问题，太慢了"});
            if let Some(arousal) = arousal {
                event["voice"] = json!({ "arousal": arousal });
            }
            let reply = answer(&engine, &script, &variables, &request(1, event, Some(opened.state)), now());
            assert_eq!(reply.error, "");
            let sentiment = reply.understanding.sentiment;
            assert!((-0.5..=-0.2).contains(&sentiment), "unfriendly words, not furious ones: {sentiment}");
            (reply.understanding.temper, reply.state["upset"].as_u64().unwrap_or_default())
        };
        assert_eq!(upset(&listening, Some(0.7)), ("angry".to_owned(), 1));
        assert_eq!(upset(&listening, Some(0.3)), ("tense".to_owned(), 0));
        assert_eq!(upset(&listening, Some(-0.4)), ("calm".to_owned(), 0));
        assert_eq!(upset(&listening, None), (String::new(), 0));
        assert_eq!(upset(text, Some(0.7)), (String::new(), 0), "a script that does not ask for it");
    }

    #[test]
    fn a_state_of_another_make_is_refused_and_not_guessed_at() {
        let (engine, script) = script();
        let variables = script.example_variables();
        for state in [json!({"v": 99}), json!(7), json!({"v": 1, "node": "no-such-node"})] {
            let request = request(1, json!({"kind": "no_input"}), Some(state.clone()));
            let reply = answer(&engine, &script, &variables, &request, now());
            let refused = !reply.error.is_empty() && reply.actions.is_empty();
            let ended = reply.actions.iter().any(|action| matches!(action, ActionV1::End { .. }));
            assert!(refused || ended, "{state}: {reply:?}");
        }
    }

    #[test]
    fn variables_that_do_not_fit_are_refused() {
        let (engine, script) = script();
        let reply =
            answer(&engine, &script, &BTreeMap::new(), &request(0, json!({"kind": "answered"}), None), now());
        assert_eq!(reply.error, "the call's variables do not fit its script");
    }
}
