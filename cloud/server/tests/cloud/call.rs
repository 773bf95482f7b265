//! A call from the request to the callback, with the cloud killed in the middle.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::{Value, json};
use trunkline_wire::{
    Ack, ActionV1, CancelCommand, DialCommand, DialReply, SuperviseCommand, SuperviseWish, TransferCommand,
    TurnReply, topic,
};

use crate::harness::{Crm, FakeBox, Received, SECRET, Site, TOKEN};

const SCRIPT: &str = "appointment-confirmation-en";

fn request(callback: Option<&str>) -> Value {
    json!({
        "callee": "+1 555 010 0199", "script_id": SCRIPT, "callback_url": callback, "external_id": "crm-7",
        "variables": {
            "org": "Riverside Clinic", "name": "Alex Morgan", "doctor": "Doctor Patel",
            "date": "2026-11-27", "time": "15:00",
        },
    })
}

fn record(command: &DialCommand) -> Value {
    json!({
        "call": command.call, "script": command.script, "started": "2026-11-22T10:00:00Z",
        "rang": "2026-11-22T10:00:01Z", "answered": "2026-11-22T10:00:05Z", "ended": "2026-11-22T10:00:35Z",
        "disposition": "completed", "outcome": {"code": "agreed", "label": "Confirmed"},
        "turns": [
            {"turn": 0, "decision": {"node": "open", "because": "answered"}},
            {"turn": 1, "customer": {"text": "yes", "start_s": 4.0, "end_s": 4.4},
             "decision": {"node": "visit", "because": "intent yes"},
             "latency": {"asr_start_ms": 120.0, "asr_done_ms": 300.0, "reply_ms": 310.0, "turn_end_ms": 500.0, "first_packet_ms": 520.0}},
        ],
        "recording": {"path": "/var/lib/x.wav", "seconds": 30.0, "sha256": "ab"},
    })
}

fn is_signed(received: &Received) -> bool {
    let signed = format!("{}.{}.{}", received.id, received.timestamp, received.body);
    let tag = STANDARD.decode(received.signature.strip_prefix("v1,").unwrap()).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    hmac::verify(&key, signed.as_bytes(), &tag).is_ok()
}

async fn asked_for(cloud: &crate::harness::Cloud, callback: Option<&str>) -> String {
    let (status, call) = cloud.post("/v1/calls", &request(callback)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{call:#}");
    call["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_call_survives_a_kill_of_the_cloud_and_is_counted_once() {
    let site = Site::new();
    let cloud = site.start();
    let crm = Crm::start(vec![500]).await;
    let mut fake = FakeBox::connect(&site, &cloud, "tl-a", 1, 1).await;
    let id = asked_for(&cloud, Some(&crm.url)).await;

    let (dial, _) = fake.heard::<DialCommand>(&topic::req_dial(&fake.id.clone())).await;
    assert_eq!(dial.kind, "dial");
    let dial = dial.body;
    assert_eq!(dial.call.to_string(), id);
    assert_eq!(dial.callee.reveal(), "+15550100199");
    fake.reply(&DialReply { call: dial.call, accepted: true, reason: String::new(), busy: false }).await;
    fake.event(1, "call.progress", &json!({"call": id, "stage": "ringing"})).await;
    fake.event(2, "call.progress", &json!({"call": id, "stage": "answered"})).await;
    let (ack, _) = fake.heard::<Ack>(&topic::ack(&fake.id.clone())).await;
    assert!(ack.body.upto >= 1 && ack.body.except.is_empty(), "{ack:?}");

    // The robot opens, the customer says yes: a draft, then the final turn.
    let ask = |turn: u32, rev: u32, mode: &str, event: Value, state: &Value| {
        let mut body = json!({
            "call": id, "turn": turn, "rev": rev, "mode": mode, "event": event, "elapsed_s": 3, "budget_ms": 5000,
        });
        if !state.is_null() {
            body["state"] = state.clone();
        }
        body
    };
    fake.ask("c0", &ask(0, 0, "final", json!({"kind": "answered"}), &Value::Null)).await;
    let (opening, correlation) = fake.heard::<TurnReply>(&topic::turn_res(&fake.id.clone())).await;
    assert_eq!((correlation.as_deref(), opening.body.error.as_str()), (Some("c0"), ""));
    assert_eq!(opening.body.node, "open");
    let ActionV1::Say { text, .. } = &opening.body.actions[0] else { panic!("{:?}", opening.body.actions) };
    assert!(text.contains("Riverside Clinic") && text.contains("Alex Morgan"), "{text}");

    let heard = json!({"kind": "heard", "text": "yes", "logprob": -0.2});
    fake.ask("c1", &ask(1, 0, "draft", heard.clone(), &opening.body.state)).await;
    let (draft, correlation) = fake.heard::<TurnReply>(&topic::turn_res(&fake.id.clone())).await;
    assert_eq!(correlation.as_deref(), Some("c1"));
    fake.ask("c2", &ask(1, 1, "final", heard, &opening.body.state)).await;
    let (reply, _) = fake.heard::<TurnReply>(&topic::turn_res(&fake.id.clone())).await;
    assert_eq!((reply.body.node.as_str(), reply.body.rev), ("visit", 1));
    assert_eq!(reply.body.actions, draft.body.actions, "the final answer is the draft's");
    assert_eq!(reply.body.understanding.intent.as_deref(), Some("yes"));
    assert!(reply.body.took_us > 0);

    // Another box knows the call's id, and is told nothing.
    let mut other = FakeBox::connect(&site, &cloud, "tl-b", 1, 0).await;
    other.ask("x", &ask(0, 0, "final", json!({"kind": "answered"}), &Value::Null)).await;
    let (refused, _) = other.heard::<TurnReply>(&topic::turn_res(&other.id.clone())).await;
    assert_eq!((refused.body.error.as_str(), refused.body.actions.len()), ("unknown call", 0));

    crm.wait_for(1).await;
    cloud.kill();
    drop(fake);
    let cloud = site.start();
    let mut fake = FakeBox::connect(&site, &cloud, "tl-a", 2, 1).await;
    let known = cloud.call_when(&id, "answered", |call| call["status"] == "answered").await;
    assert_eq!(known["box"], "tl-a");

    // The box sends what it has no acknowledgement for, and the end twice.
    fake.event(2, "call.progress", &json!({"call": id, "stage": "answered"})).await;
    fake.event(3, "call.turn", &json!({"call": id, "turn": record(&dial)["turns"][0]})).await;
    fake.event(4, "call.ended", &record(&dial)).await;
    fake.event(4, "call.ended", &record(&dial)).await;
    loop {
        let (ack, _) = fake.heard::<Ack>(&topic::ack(&fake.id.clone())).await;
        assert!(ack.body.except.is_empty(), "{ack:?}");
        if ack.body.upto == 4 {
            break;
        }
    }

    let ended = cloud
        .call_when(&id, "ended and reported", |call| {
            call["status"] == "ended"
                && call["callbacks"]
                    .as_array()
                    .is_some_and(|all| all.iter().all(|one| one["state"] == "delivered"))
        })
        .await;
    assert_eq!(ended["outcome"]["code"], "agreed");
    assert_eq!(ended["turns"][1]["latency"]["first_packet_ms"], 520.0);
    assert_eq!(ended["recording"]["path"], "/var/lib/x.wav");
    assert_eq!(ended["callbacks"].as_array().unwrap().len(), 3);
    assert_eq!(ended["answered_at"], "2026-11-22T10:00:05Z");

    let received = crm.wait_for(4).await;
    assert!(received.iter().all(is_signed));
    let kinds: Vec<String> =
        received.iter().map(|one| one.json()["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(
        kinds,
        ["call.ringing", "call.ringing", "call.answered", "call.ended"],
        "in order, the failed one again"
    );
    assert_eq!(received[0].id, received[1].id, "the same delivery has the same id");
    let end = received[3].json();
    assert_eq!(end["data"]["id"], id);
    assert_eq!(end["data"]["external_id"], "crm-7");
    assert_eq!(end["data"]["disposition"], "completed");
    assert!(end["data"].get("callbacks").is_none());

    // The stream tells the whole story and then ends.
    let stream =
        cloud.http.get(cloud.url(&format!("/v1/calls/{id}/events"))).bearer_auth(TOKEN).send().await.unwrap();
    let story = tokio::time::timeout(Duration::from_secs(20), stream.text()).await.unwrap().unwrap();
    let events: Vec<&str> = story.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(events.iter().filter(|event| **event == "call.ended").count(), 1, "{events:?}");
    assert_eq!(events[..2], ["call.queued", "call.dispatched"]);
    // A decision is answered first and noted after, so the kill may have cost the note; the box's own
    // record of the turn is what counts.
    for kind in ["call.turn", "callback"] {
        assert!(events.contains(&kind), "no {kind} in {events:?}");
    }

    assert!(cloud.terminate().await, "SIGTERM ends it well: {}", site.log());
    let log = site.log();
    assert!(!log.contains("5550100199") && !log.contains("Alex Morgan"), "personal data in the log");
}

#[tokio::test]
async fn a_command_is_repeated_and_a_box_that_refuses_is_asked_again() {
    let site = Site::new();
    let cloud = site.start();
    let id = asked_for(&cloud, None).await;
    let (_, queued) = cloud.get(&format!("/v1/calls/{id}")).await;
    assert_eq!((&queued["status"], &queued["box"]), (&json!("queued"), &Value::Null), "no box is online");

    let mut fake = FakeBox::connect(&site, &cloud, "tl-a", 1, 1).await;
    let dial = topic::req_dial(&fake.id.clone());
    let (first, _) = fake.heard::<DialCommand>(&dial).await;
    fake.reply(&DialReply {
        call: first.body.call,
        accepted: false,
        reason: "no disk space".into(),
        busy: false,
    })
    .await;
    let (second, _) = fake.heard::<DialCommand>(&dial).await;
    assert_eq!(second.body, first.body);
    // No answer: the same command comes again.
    let began = Instant::now();
    let (third, _) = fake.heard::<DialCommand>(&dial).await;
    assert_eq!(third.body, first.body);
    assert!(began.elapsed() > Duration::from_secs(3), "{:?}", began.elapsed());

    // With the only channel taken, a second call waits.
    fake.reply(&DialReply { call: first.body.call, accepted: true, reason: String::new(), busy: false })
        .await;
    let waiting = asked_for(&cloud, None).await;
    assert!(fake.heard_within::<DialCommand>(&dial, Duration::from_secs(2)).await.is_none());

    let (status, cancelled) = cloud.post(&format!("/v1/calls/{waiting}/cancel"), &json!({})).await;
    assert_eq!((status, &cancelled["disposition"]), (StatusCode::ACCEPTED, &json!("cancelled")));
    let (status, _) = cloud.post(&format!("/v1/calls/{waiting}/cancel"), &json!({})).await;
    assert_eq!(status, StatusCode::CONFLICT);

    let (status, asked) = cloud.post(&format!("/v1/calls/{id}/cancel"), &json!({})).await;
    assert_eq!((status, &asked["status"]), (StatusCode::ACCEPTED, &json!("dispatched")));
    let (cancel, _) = fake.heard::<CancelCommand>(&topic::req_cancel(&fake.id.clone())).await;
    assert_eq!(cancel.body.call.to_string(), id);
    let mut end = record(&first.body);
    end["disposition"] = "cancelled".into();
    fake.event(1, "call.ended", &end).await;
    let ended = cloud.call_when(&id, "ended", |call| call["status"] == "ended").await;
    assert_eq!(ended["disposition"], "cancelled");
}

#[tokio::test]
async fn a_call_that_nobody_takes_in_time_ends_with_a_cause() {
    let site = Site::new();
    let cloud = site.start();
    let crm = Crm::start(vec![]).await;
    let mut body = request(Some(&crm.url));
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(2);
    body["not_after"] = soon.to_string().into();
    let (_, call) = cloud.post("/v1/calls", &body).await;
    let id = call["id"].as_str().unwrap();
    let ended = cloud.call_when(id, "ended", |call| call["status"] == "ended").await;
    assert_eq!(ended["disposition"], "expired");
    assert_eq!(ended["cause"], "no box was online before the deadline");
    let received = crm.wait_for(1).await;
    assert_eq!(received[0].json()["data"]["disposition"], "expired");
}

#[tokio::test]
async fn a_wrong_request_is_refused_with_the_reason() {
    let site = Site::new();
    let cloud = site.start();
    let wrong = async |change: Value| {
        let mut body = request(None);
        for (key, value) in change.as_object().unwrap() {
            body[key] = value.clone();
        }
        let (status, problem) = cloud.post("/v1/calls", &body).await;
        (status.as_u16(), problem["code"].as_str().unwrap_or_default().to_owned())
    };
    let refused = |code: &str| (422, code.to_owned());
    assert_eq!(wrong(json!({"callee": "13800138000"})).await, refused("malformed_number"));
    assert_eq!(wrong(json!({"caller_id": "+0"})).await, refused("malformed_number"));
    assert_eq!(wrong(json!({"script_id": "nobody-wrote-this"})).await, refused("unknown_script"));
    assert_eq!(wrong(json!({"script_id": "../../etc"})).await, refused("unknown_script"));
    assert_eq!(wrong(json!({"variables": {}})).await, refused("missing_variable"));
    assert_eq!(wrong(json!({"variables": {"date": []}})).await, refused("wrong_variable"));
    assert_eq!(wrong(json!({"callback_url": "ftp://x/"})).await, refused("bad_callback_url"));
    assert_eq!(wrong(json!({"not_after": "2020-01-01T00:00:00Z"})).await, refused("not_after_past"));
    assert_eq!(wrong(json!({"calee": "+1"})).await, refused("malformed_body"));
    let mut variables = request(None)["variables"].clone();
    variables["date"] = "next week".into();
    assert_eq!(wrong(json!({ "variables": variables })).await, refused("wrong_variable"));
    variables["date"] = "2026-11-27".into();
    variables["colour"] = "red".into();
    assert_eq!(wrong(json!({ "variables": variables })).await, refused("unknown_variable"));

    let url = cloud.url("/v1/calls");
    let post = |body: &'static str| cloud.http.post(&url).bearer_auth(TOKEN).body(body).send();
    let response = post("{").await.unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let large = cloud.http.post(&url).bearer_auth(TOKEN).body("x".repeat(100_000)).send().await.unwrap();
    assert_eq!(large.status(), 413);

    let nobody = cloud.http.post(&url).json(&request(None)).send().await.unwrap();
    assert_eq!(
        (nobody.status().as_u16(), nobody.headers()["www-authenticate"].as_bytes()),
        (401, &b"Bearer"[..])
    );
    let wrong_token = cloud.http.get(&url).bearer_auth("guess").send().await.unwrap();
    assert_eq!(wrong_token.status(), 401);

    let (status, problem) = cloud.get("/v1/calls/00000000-0000-0000-0000-00000000002a").await;
    assert_eq!((status.as_u16(), &problem["code"]), (404, &json!("not_found")));
    assert_eq!(cloud.get("/v1/calls/xyz/events").await.0, 404);
    assert_eq!(cloud.get("/v1/nothing").await.0, 404);
    let (_, none) = cloud.get("/v1/calls").await;
    assert_eq!(none["calls"], json!([]), "a refused request leaves nothing behind");
}

#[tokio::test]
async fn the_same_idempotency_key_gives_the_same_call() {
    let site = Site::new();
    let cloud = site.start();
    let url = cloud.url("/v1/calls");
    let post = async |key: &'static str, body: Value| {
        let request = cloud.http.post(&url).bearer_auth(TOKEN).header("idempotency-key", key).json(&body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (status, first) = post("k1", request(None)).await;
    assert_eq!(status, 202);
    let (status, again) = post("k1", request(None)).await;
    assert_eq!((status, &again["id"]), (202, &first["id"]));
    let mut other = request(None);
    other["external_id"] = "crm-8".into();
    let (status, problem) = post("k1", other.clone()).await;
    assert_eq!((status, &problem["code"]), (409, &json!("idempotency_key_reused")));
    let (status, second) = post("k2", other).await;
    assert_eq!(status, 202);

    let (_, page) = cloud.get("/v1/calls?limit=1").await;
    assert_eq!(page["calls"][0]["id"], second["id"], "the newest first");
    let next = page["next"].as_str().unwrap();
    let (_, page) = cloud.get(&format!("/v1/calls?limit=1&before={next}")).await;
    assert_eq!(page["calls"][0]["id"], first["id"]);
    let (_, page) = cloud.get("/v1/calls?status=ended").await;
    assert_eq!(page["calls"], json!([]));
}

#[tokio::test]
async fn a_box_fetches_the_script_by_its_hash_and_nobody_else_does() {
    let site = Site::new();
    let cloud = site.start();
    let (_, scripts) = cloud.get("/v1/scripts").await;
    let script = scripts["scripts"].as_array().unwrap().iter().find(|script| script["id"] == SCRIPT).unwrap();
    assert!(
        script["vars"]
            .as_array()
            .unwrap()
            .iter()
            .any(|var| var["name"] == "doctor" && var["required"] == true)
    );
    let version = script["version"].as_str().unwrap();
    let path = format!("/box/v1/blobs/{version}");

    assert_eq!(cloud.get(&path).await.0, 401, "a token is no certificate");
    let the_box = site.http_as(&site.ca.client(Some("tl-a")));
    let bytes = the_box.get(cloud.url(&path)).send().await.unwrap().bytes().await.unwrap();
    let hash = ring::digest::digest(&ring::digest::SHA256, &bytes);
    assert_eq!(hex::encode(hash), version);
    let absent = the_box.get(cloud.url(&format!("/box/v1/blobs/{}", "0".repeat(64)))).send().await.unwrap();
    assert_eq!(absent.status(), 404);

    let page = cloud.http.get(cloud.url("/console")).send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.headers()["content-security-policy"].to_str().unwrap().contains("'sha256-"));
}

#[tokio::test]
async fn a_turn_is_answered_in_a_fraction_of_its_budget() {
    let Some(site) = Site::with_encoder() else { return };
    let began = Instant::now();
    let cloud = site.start();
    println!("start with the encoder, two scripts: {:?}", began.elapsed());
    let mut fake = FakeBox::connect(&site, &cloud, "tl-a", 1, 1).await;
    let id = asked_for(&cloud, None).await;
    fake.heard::<DialCommand>(&topic::req_dial(&fake.id.clone())).await;
    let answers = topic::turn_res(&fake.id.clone());

    let ask = |rev: u32, mode: &str, event: Value, state: Value| {
        json!({
            "call": id, "turn": u32::from(rev > 0), "rev": rev, "mode": mode, "event": event, "elapsed_s": 3,
            "budget_ms": 5000, "state": state,
        })
    };
    fake.ask("c", &ask(0, "final", json!({"kind": "answered"}), Value::Null)).await;
    let (opening, _) = fake.heard::<TurnReply>(&answers).await;
    let texts = [
        "yes this is Alex",
        "sorry who is this",
        "no you have the wrong number",
        "could you call me back tomorrow",
    ];
    let (mut trips, mut inside) = (Vec::new(), Vec::new());
    for rev in 1..=200 {
        let text = texts[rev as usize % texts.len()];
        let event = json!({"kind": "heard", "text": text});
        let sent = Instant::now();
        fake.ask(
            "c",
            &ask(rev, if rev % 2 == 0 { "final" } else { "draft" }, event, opening.body.state.clone()),
        )
        .await;
        let (reply, _) = fake.heard::<TurnReply>(&answers).await;
        assert_eq!((reply.body.rev, reply.body.error.as_str()), (rev, ""));
        trips.push(sent.elapsed());
        inside.push(Duration::from_micros(reply.body.took_us));
    }
    for (name, times) in [("turn, box to box", &mut trips), ("of that in the cloud", &mut inside)] {
        times.sort();
        println!("{name}: p50 {:?}, p99 {:?}", times[100], times[198]);
    }
    assert!(trips[100] < Duration::from_millis(200), "{:?}", trips[100]);
}

#[tokio::test]
async fn many_events_are_filed_and_acknowledged_without_a_gap() {
    let site = Site::new();
    let cloud = site.start();
    let mut fake = FakeBox::connect(&site, &cloud, "tl-a", 1, 1).await;
    let began = Instant::now();
    for seq in 1..=2_000_u64 {
        fake.event(seq, "audit.test", &json!({ "n": seq })).await;
    }
    loop {
        let (ack, _) = fake.heard::<Ack>(&topic::ack(&fake.id.clone())).await;
        assert!(ack.body.except.is_empty(), "{ack:?}");
        if ack.body.upto == 2_000 {
            break;
        }
    }
    println!("2,000 events filed and acknowledged in {:?}", began.elapsed());
}

#[tokio::test]
async fn a_call_that_talks_is_handed_over_when_somebody_asks_and_no_other() {
    let site = Site::new();
    let cloud = site.start();
    let mut fake = FakeBox::connect(&site, &cloud, "tl-a", 1, 1).await;
    let id = asked_for(&cloud, None).await;
    let dial = fake.dialled().await;
    let path = format!("/v1/calls/{id}/transfer");
    let (status, problem) = cloud.post(&path, &json!({})).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("not_talking")), "{problem:#}");

    fake.event(1, "call.progress", &json!({"call": id, "stage": "answered"})).await;
    cloud.call_when(&id, "answered", |call| call["status"] == "answered").await;
    let (status, problem) = cloud.post(&path, &json!({"to": "a\nb"})).await;
    assert_eq!((status, &problem["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("invalid_to")));
    let (status, _) = cloud.post(&path, &json!({"to": "night desk"})).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let on = topic::req_transfer(&fake.id.clone());
    let (wish, _) = fake.heard::<TransferCommand>(&on).await;
    assert_eq!((wish.body.wish, wish.body.to.as_deref()), (1, Some("night desk")));
    assert_eq!(wish.body.call, dial.call);
    let (status, _) = cloud.post(&path, &json!({})).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let second = loop {
        let (wish, _) = fake.heard::<TransferCommand>(&on).await;
        if wish.body.wish == 2 {
            break wish.body;
        }
    };
    assert_eq!(second.to, None);

    fake.event(2, "call.ended", &record(&dial)).await;
    cloud.call_when(&id, "ended", |call| call["status"] == "ended").await;
    let (status, problem) = cloud.post(&path, &json!({})).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("not_talking")));
    let (status, _) = cloud.post("/v1/calls/00000000-0000-0000-0000-000000000001/transfer", &json!({})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_supervisor_is_sent_to_a_call_that_talks_and_each_change_of_hers_follows() {
    let site = Site::new();
    let cloud = site.start();
    let mut fake = FakeBox::connect(&site, &cloud, "tl-a", 1, 1).await;
    let id = asked_for(&cloud, None).await;
    let dial = fake.dialled().await;
    let path = format!("/v1/calls/{id}/supervise");
    let (status, problem) = cloud.post(&path, &json!({"mode": "listen"})).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("not_talking")), "{problem:#}");

    fake.event(1, "call.progress", &json!({"call": id, "stage": "answered"})).await;
    cloud.call_when(&id, "answered", |call| call["status"] == "answered").await;
    for (body, code) in
        [(json!({"mode": "shout"}), "invalid_mode"), (json!({"mode": "listen", "to": "a\nb"}), "invalid_to")]
    {
        let (status, problem) = cloud.post(&path, &body).await;
        assert_eq!((status, &problem["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!(code)));
    }
    let on = topic::req_supervise(&fake.id.clone());
    let wishes = [
        (SuperviseWish::Listen, Some("phone:203")),
        (SuperviseWish::Barge, None),
        (SuperviseWish::Leave, None),
    ];
    for (n, (mode, to)) in (1..).zip(wishes) {
        let (status, _) = cloud.post(&path, &json!({"mode": mode, "to": to})).await;
        assert_eq!(status, StatusCode::ACCEPTED);
        let told = loop {
            let (wish, _) = fake.heard::<SuperviseCommand>(&on).await;
            if wish.body.wish == n {
                break wish.body;
            }
        };
        assert_eq!((told.call, told.mode, told.to.as_deref()), (dial.call, mode, to));
    }
    fake.event(2, "call.ended", &record(&dial)).await;
    cloud.call_when(&id, "ended", |call| call["status"] == "ended").await;
    let (status, _) = cloud.post(&path, &json!({"mode": "listen"})).await;
    assert_eq!(status, StatusCode::CONFLICT);
}
