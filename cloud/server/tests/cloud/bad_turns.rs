//! Turns that are late, doubled, out of order, too long, or none at all.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use trunkline_wire::{DialCommand, TurnReply, topic};

use crate::harness::{FakeBox, Site};

struct Talk {
    fake: FakeBox,
    dial: DialCommand,
}

impl Talk {
    fn request(&self, turn: u32, rev: u32, event: Value, state: &Value) -> Value {
        json!({ "call": self.dial.call, "turn": turn, "rev": rev, "mode": "final", "event": event, "state": state,
            "elapsed_s": 5 * turn, "budget_ms": 900 })
    }

    async fn asked(&mut self, request: &Value) -> TurnReply {
        self.fake.ask("c", request).await;
        self.answer().await
    }

    async fn answer(&mut self) -> TurnReply {
        self.fake.heard::<TurnReply>(&topic::turn_res(&self.fake.id.clone())).await.0.body
    }
}

fn heard(text: &str) -> Value {
    json!({ "kind": "heard", "text": text, "logprob": -0.2 })
}

#[tokio::test]
async fn no_bad_turn_breaks_the_service_and_each_gets_an_answer_or_a_line_in_the_log() {
    let site = Site::new();
    let cloud = site.start();
    let mut fake = FakeBox::connect(&site, &cloud, "tl-a", 1, 1).await;
    let body = json!({
        "callee": "+15550100177", "script_id": "appointment-confirmation-en",
        "variables": { "org": "Riverside Clinic", "name": "Alex Morgan", "doctor": "Doctor Patel",
            "date": "2026-11-27", "time": "15:00" },
    });
    let (status, call) = cloud.post("/v1/calls", &body).await;
    assert!(status.is_success(), "{call:#}");
    let dial = fake.dialled().await;
    let mut talk = Talk { fake, dial };

    // A call that nobody has.
    let mut unknown = talk.request(0, 0, json!({ "kind": "answered" }), &Value::Null);
    unknown["call"] = json!("00000000-0000-0000-0000-000000000001");
    let refused = talk.asked(&unknown).await;
    assert_eq!((refused.error.as_str(), refused.actions.len()), ("unknown call", 0));

    let opening = talk.asked(&talk.request(0, 0, json!({ "kind": "answered" }), &Value::Null)).await;
    assert_eq!(opening.error, "");
    assert_eq!(opening.budget_ms, 900);

    // Not UTF-8, not JSON, another's envelope: dropped, and the next turn is answered.
    for raw in [&b"\xff\xfe{"[..], b"{", b"[]", b"{\"v\":1,\"box\":\"tl-b\"}", &[b'['; 100_000]] {
        talk.fake.ask_raw(raw).await;
    }
    let yes = talk.request(1, 1, heard("yes"), &opening.state);
    let first = talk.asked(&yes).await;
    assert_eq!((first.error.as_str(), first.understanding.intent.as_deref()), ("", Some("yes")));

    // The same again, and again after a later one: the same answer, from the state that came with it.
    let again = talk.asked(&yes).await;
    let same =
        |a: &TurnReply, b: &TurnReply| (a.state == b.state) && (a.actions == b.actions) && (a.node == b.node);
    assert!(same(&again, &first), "{again:?}");
    let second = talk.asked(&talk.request(2, 2, heard("can you repeat that"), &first.state)).await;
    assert_eq!(second.error, "");
    let late = talk.asked(&yes).await;
    assert!(same(&late, &first), "{late:?}");

    // A state that is none.
    let broken = talk.asked(&talk.request(3, 3, heard("yes"), &json!({ "v": 99 }))).await;
    assert!(broken.error.contains("state"), "{}", broken.error);

    // Ten thousand characters, most of them more than one byte.
    let long: String = "yes 是的 ".chars().cycle().take(10_000).collect();
    let began = Instant::now();
    let answered = talk.asked(&talk.request(4, 4, heard(&long), &second.state)).await;
    assert_eq!(answered.error, "");
    println!("ten thousand characters: {:?}", began.elapsed());
    assert!(serde_json::to_vec(&answered.state).unwrap().len() < 20_000, "what was said does not pile up");

    // Over.
    let now = jiff::Timestamp::now();
    let end = json!({
        "call": talk.dial.call, "script": talk.dial.script, "started": now, "answered": now, "ended": now,
        "disposition": "completed", "outcome": { "code": "agreed", "label": "" }, "turns": [],
    });
    talk.fake.event(1, "call.ended", &end).await;
    cloud.call_when(&talk.dial.call.to_string(), "ended", |call| call["status"] == "ended").await;
    let over = talk.asked(&talk.request(5, 5, heard("hello?"), &second.state)).await;
    assert_eq!((over.error.as_str(), over.actions.len()), ("this call is over", 0));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(site.log().contains("A turn request"), "what was dropped stands in the log");
}
