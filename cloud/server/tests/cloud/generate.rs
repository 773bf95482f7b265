//! Nodes that a language model words: a server of chat completions stands in for one, at the wire.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};
use trunkline_wire::{ActionV1, TurnReply, topic};

use crate::harness::{FakeBox, Site};

const FIXED: &str = "All right, then I'll leave it as it is. Someone from the clinic will call you. Goodbye.";

/// What the model does next, and what it was asked.
#[derive(Clone, Default)]
struct Model {
    next: Arc<Mutex<(Duration, u16, String)>>,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

async fn complete(
    State(model): State<Model>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> (StatusCode, Json<Value>) {
    let key = headers.get("authorization").map_or("", |value| value.to_str().unwrap()).to_owned();
    model.asked.lock().unwrap().push((key, body));
    let (wait, status, words) = model.next.lock().unwrap().clone();
    tokio::time::sleep(wait).await;
    let answer = json!({ "choices": [{ "index": 0, "message": { "role": "assistant", "content": words } }] });
    (StatusCode::from_u16(status).unwrap(), Json(answer))
}

async fn answered(fake: &mut FakeBox, body: Value) -> (Vec<u32>, TurnReply) {
    fake.ask("c", &body).await;
    let mut pending = Vec::new();
    loop {
        let (reply, _) = fake.heard::<TurnReply>(&topic::turn_res(&fake.id.clone())).await;
        if reply.body.pending_ms == 0 {
            return (pending, reply.body);
        }
        pending.push(reply.body.pending_ms);
    }
}

fn said(reply: &TurnReply) -> &str {
    let Some(ActionV1::Say { text, .. }) = reply.actions.first() else { panic!("{reply:?}") };
    text
}

#[tokio::test]
async fn a_node_is_worded_by_the_model_and_by_the_script_when_that_is_late_or_unsound() {
    let model = Model::default();
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/chat/completions", socket.local_addr().unwrap());
    let router = Router::new().route("/v1/chat/completions", post(complete)).with_state(model.clone());
    tokio::spawn(async move { axum::serve(socket, router).await });

    let site = Site::new();
    let scripts = site.dir.path().join("scripts");
    std::fs::create_dir(&scripts).unwrap();
    let script = include_str!("../../../../shared/scripts/appointment-confirmation-en.yaml");
    let node = format!(
        "generate: {{prompt: \"Tell {{name}} that the visit stays.\", fallback: \"{FIXED}\", budget: 700ms, max_chars: 90}}"
    );
    let changed = script.replace(&format!("say: \"{FIXED}\""), &node);
    assert_ne!(changed, script);
    std::fs::write(scripts.join("a.yaml"), changed).unwrap();
    let config = site.config("127.0.0.1:0", "127.0.0.1:0");
    let all = config.lines().find(|line| line.contains("shared/scripts")).unwrap().trim().to_owned();
    let config = config.replace(&all, &format!("dir = \"{}\"", scripts.display()));
    site.write("model.key", "sk-test\n");
    let section = format!("[generate]\nurl = \"{url}\"\nmodel = \"small\"\nkey_file = \"model.key\"\n");
    site.write("cloud.toml", &format!("{config}\n{section}"));
    let cloud = site.start();

    let mut fake = FakeBox::connect(&site, &cloud, "tl-a", 1, 1).await;
    let request = json!({
        "callee": "+1 555 010 0199", "script_id": "appointment-confirmation-en",
        "variables": { "org": "Riverside Clinic", "name": "Alex Morgan", "doctor": "Doctor Patel",
            "date": "2026-11-27", "time": "15:00" },
    });
    let (status, call) = cloud.post("/v1/calls", &request).await;
    assert!(status.is_success(), "{call:#}");
    let dial = fake.dialled().await;

    let ask = |turn: u32, rev: u32, mode: &str, event: Value, state: &Value| {
        let mut body = json!({ "call": dial.call, "turn": turn, "rev": rev, "mode": mode, "event": event,
            "elapsed_s": 3, "budget_ms": 5000 });
        if !state.is_null() {
            body["state"] = state.clone();
        }
        body
    };
    let heard = |text: &str| json!({ "kind": "heard", "text": text, "logprob": -0.2 });
    let mut state = Value::Null;
    for (turn, event) in [json!({"kind": "answered"}), heard("yes"), heard("no")].into_iter().enumerate() {
        let (pending, reply) = answered(&mut fake, ask(turn as u32, 0, "final", event, &state)).await;
        assert!(pending.is_empty() && reply.error.is_empty(), "{reply:?}");
        state = reply.state;
    }

    let next = |ms: u64, status: u16, words: &str| {
        *model.next.lock().unwrap() = (Duration::from_millis(ms), status, words.to_owned());
    };
    next(50, 200, "Fine, Alex, the visit stays as it is. Goodbye.");
    let (pending, draft) = answered(&mut fake, ask(3, 1, "draft", heard("no"), &state)).await;
    assert_eq!(pending, [700], "the box is told to wait");
    assert_eq!(said(&draft), "Fine, Alex, the visit stays as it is. Goodbye.");
    assert!(draft.because.ends_with("words generated"), "{}", draft.because);
    let (_, last) = answered(&mut fake, ask(3, 1, "final", heard("no"), &state)).await;
    assert_eq!(last.actions, draft.actions);
    let asked = model.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 1, "the final turn has the draft's words");
    assert_eq!((asked[0].0.as_str(), &asked[0].1["model"]), ("Bearer sk-test", &json!("small")));
    let task = asked[0].1["messages"][0]["content"].as_str().unwrap();
    assert!(task.contains("Tell Alex Morgan that the visit stays."), "{task}");

    for (rev, ms, status, words, why) in [
        (2, 3_000, 200, "Fine.", "late"),
        (3, 0, 500, "Fine.", "refused"),
        (4, 0, 200, "You get 20 dollars back.", "a number that nobody named"),
        (5, 0, 200, &"Fine, fine. ".repeat(20), "too long"),
    ] {
        next(ms, status, words);
        let (_, reply) = answered(&mut fake, ask(3, rev, "final", heard("no"), &state)).await;
        assert_eq!(said(&reply), FIXED, "{why}");
        assert!(reply.because.ends_with(&format!("fixed wording: {why}")), "{}", reply.because);
    }
}
