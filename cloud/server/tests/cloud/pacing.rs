//! A campaign that is paced by the people who take its calls, and shows numbers of a pool.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use trunkline_wire::{DialCommand, DialReply, topic};

use crate::harness::{Cloud, FakeBox, Site, TOKEN};

const AGENTS: usize = 3;
const POOL: [&str; 2] = ["+15550100901", "+15550100902"];

async fn shown_when(cloud: &Cloud, path: &str, what: &str, ready: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let (_, shown) = cloud.get(path).await;
        if ready(&shown["pacing"]) {
            return shown["pacing"].clone();
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "never {what}: {:#}", shown["pacing"]);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Takes the calls that come within some seconds of the last one.
async fn dialled(fake: &mut FakeBox) -> Vec<DialCommand> {
    let mut dialled = Vec::new();
    let on = topic::req_dial(&fake.id.clone());
    while let Some((dial, _)) = fake.heard_within::<DialCommand>(&on, Duration::from_millis(2_500)).await {
        let dial = dial.body;
        fake.reply(&DialReply { call: dial.call, accepted: true, reason: String::new(), busy: false }).await;
        dialled.push(dial);
    }
    dialled
}

fn missed(dial: &DialCommand) -> Value {
    let now = jiff::Timestamp::now();
    let transfer = json!({ "to": "desk", "how": "bridge", "fate": "no_answer", "took_ms": 20_000 });
    json!({
        "call": dial.call, "script": dial.script, "started": now, "answered": now, "ended": now,
        "disposition": "completed", "transfers": [transfer],
        "turns": [{ "turn": 0, "decision": { "node": "open" }, "robot": [{ "text": "Hi", "start_s": 0.2, "heard": 1.0 }] }],
    })
}

#[tokio::test]
async fn a_paced_campaign_starts_as_many_calls_as_people_are_free_stops_where_nobody_takes_them_and_goes_on()
{
    let site = Site::new();
    let cloud = site.start();
    let variables = json!({
        "org": "Riverside Clinic", "name": "Alex Morgan", "doctor": "Doctor Patel",
        "date": "2026-11-27", "time": "15:00",
    });
    let settings = json!({
        "script_id": "appointment-confirmation-en", "variables": variables, "mode": "progressive",
        "people": { "agents": AGENTS }, "caller_ids": { "numbers": POOL, "per_day": 3 },
    });
    let (status, made) = cloud.post("/v1/campaigns", &json!({ "name": "Desk", "settings": settings })).await;
    assert_eq!(status, StatusCode::CREATED, "{made:#}");
    let path = format!("/v1/campaigns/{}", made["id"].as_str().unwrap());
    let csv = (0..20).fold(String::from("callee\n"), |csv, n| csv + &format!("+15550100{n:03}\n"));
    let upload = cloud.http.post(cloud.url(&format!("{path}/contacts")));
    let upload = upload.bearer_auth(TOKEN).body(csv).send().await.unwrap();
    assert!(upload.status().is_success());
    cloud.post(&format!("{path}/start"), &json!({})).await;

    let mut fake = FakeBox::connect(&site, &cloud, "tl-a", 1, 12).await;
    let first = dialled(&mut fake).await;
    assert_eq!(first.len(), AGENTS, "a call for each person, though twelve channels are free");
    let held =
        |reason: &'static str| move |pacing: &Value| pacing["reason"] == reason && pacing["allowed"] == 0;
    let pacing = shown_when(&cloud, &path, "held by people", held("people")).await;
    assert_eq!(pacing["mode"], "progressive", "{pacing:#}");
    assert_eq!(pacing["people"]["ringing"], 3, "{pacing:#}");

    // Each number was shown in turn, and the receipt says why.
    let mut by_number: BTreeMap<String, usize> = BTreeMap::new();
    for dial in &first {
        *by_number.entry(dial.caller_id.as_ref().unwrap().reveal().to_owned()).or_default() += 1;
    }
    assert_eq!(by_number.values().copied().collect::<Vec<_>>(), [2, 1], "{by_number:?}");
    let (_, receipt) = cloud.get(&format!("/v1/calls/{}/receipt", first[0].call)).await;
    for one in receipt["receipts"].as_array().unwrap() {
        let inputs = &one["body"]["inputs"];
        assert_eq!(inputs["caller_id"], json!(first[0].caller_id), "{inputs:#}");
        assert!(inputs["shown"].as_str().unwrap().starts_with("the fewest calls"), "{inputs:#}");
    }

    // Nobody takes the calls: nothing more is started.
    for (seq, dial) in (1..).zip(&first) {
        fake.event(seq, "call.ended", &missed(dial)).await;
    }
    shown_when(&cloud, &path, "stopped", held("nobody_takes_calls")).await;
    assert!(dialled(&mut fake).await.is_empty());
    // Somebody says that two are there, and two calls begin.
    let people = format!("{path}/people");
    let (status, changed) = cloud.ask(TOKEN, Method::PUT, &people, &json!({ "agents": 2 })).await;
    assert_eq!(status, StatusCode::OK, "{changed:#}");
    assert_eq!(changed["settings"]["people"]["agents"], 2);
    assert_eq!(dialled(&mut fake).await.len(), 2);
    // With five people there are three calls more to make; the pool of two numbers is good for one.
    cloud.ask(TOKEN, Method::PUT, &people, &json!({ "agents": 5 })).await;
    assert_eq!(dialled(&mut fake).await.len(), 1);
    shown_when(&cloud, &path, "out of numbers", held("caller_ids")).await;
}
