//! Calls that customers make: the numbers on their way to the boxes, and the calls on their way back.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use trunkline_wire::{Ack, CallInbound, NumbersCommand, NumbersReply, TurnReply, topic};

use crate::harness::{Cloud, Crm, FakeBox, Site, TOKEN};

const CALL: &str = "0193a000-0000-7000-8000-000000000001";

fn binding(callback: &str) -> Value {
    json!({
        "number": "+862155550100", "script_id": "appointment-confirmation-en", "callback_url": callback,
        "variables": {
            "org": "Riverside Clinic", "name": "Alex Morgan", "doctor": "Doctor Patel",
            "date": "2026-11-27", "time": "15:00",
        },
    })
}

async fn pushed(fake: &mut FakeBox) -> NumbersCommand {
    fake.heard::<NumbersCommand>(&topic::req_numbers(&fake.id.clone())).await.0.body
}

async fn bound(cloud: &Cloud, callback: &str) -> String {
    let (status, made) = cloud.post("/v1/numbers", &binding(callback)).await;
    assert_eq!(status, StatusCode::CREATED, "{made:#}");
    made["id"].as_str().unwrap().to_owned()
}

fn called(table: &NumbersCommand, call: &str, caller: &str) -> CallInbound {
    let route = &table.routes[0];
    CallInbound {
        call: call.parse().unwrap(),
        binding: route.binding.clone(),
        caller: caller.parse().unwrap(),
        called: "+862155550100".to_owned(),
        trunk: "carrier".to_owned(),
        script: route.script.clone(),
        variables: route.variables.clone(),
        rang: "2026-11-22T10:00:00Z".parse().unwrap(),
    }
}

fn ended(inbound: &CallInbound) -> Value {
    json!({
        "call": inbound.call, "direction": "inbound", "script": inbound.script, "trunk": "carrier",
        "started": "2026-11-22T10:00:00Z", "rang": "2026-11-22T10:00:00Z", "answered": "2026-11-22T10:00:02Z",
        "ended": "2026-11-22T10:00:35Z", "disposition": "completed", "suppress": true,
        "outcome": { "code": "opt_out", "label": "Do not call" },
        "recording": { "path": "/var/lib/x.wav", "seconds": 33.0, "sha256": "ab" },
        "turns": [{ "turn": 0, "decision": { "node": "open", "because": "answered" } }],
    })
}

async fn acknowledged(fake: &mut FakeBox, upto: u64) {
    let on = topic::ack(&fake.id.clone());
    while fake.heard::<Ack>(&on).await.0.body.upto < upto {}
}

#[tokio::test]
async fn a_customer_who_calls_has_turns_a_record_callbacks_and_an_opt_out_like_any_other() {
    let site = Site::new();
    let cloud = site.start();
    let crm = Crm::start(Vec::new()).await;
    let mut fake = FakeBox::connect(&site, &cloud, "tl-a", 1, 2).await;
    bound(&cloud, &crm.url).await;
    let table = pushed(&mut fake).await;
    assert_eq!(table.routes[0].number.as_deref(), Some("+862155550100"));
    assert_eq!(
        table.routes[0].variables["prep"],
        "Please bring your ID and a list of the medicines you take"
    );
    fake.has_numbers(&NumbersReply { table: table.table.clone() }).await;

    let inbound = called(&table, CALL, "+15550100199");
    fake.event(1, "call.inbound", &inbound).await;
    fake.event(2, "call.progress", &json!({ "call": CALL, "stage": "preparing" })).await;
    fake.event(3, "call.progress", &json!({ "call": CALL, "stage": "answered" })).await;
    acknowledged(&mut fake, 3).await;
    let (_, call) = cloud.get(&format!("/v1/calls/{CALL}")).await;
    assert_eq!((&call["status"], &call["direction"]), (&json!("answered"), &json!("inbound")), "{call:#}");
    assert_eq!((&call["callee"], &call["called"]), (&json!("+15550100199"), &json!("+862155550100")));

    let turn = json!({
        "call": CALL, "turn": 0, "rev": 0, "mode": "final", "event": { "kind": "answered" },
        "elapsed_s": 0, "budget_ms": 5000,
    });
    fake.ask("c0", &turn).await;
    let (opening, _) = fake.heard::<TurnReply>(&topic::turn_res(&fake.id.clone())).await;
    assert_eq!((opening.body.error.as_str(), opening.body.node.as_str()), ("", "open"));

    // The same once more, as after a restart of the box, changes nothing.
    fake.event(4, "call.inbound", &inbound).await;
    fake.event(5, "call.ended", &ended(&inbound)).await;
    acknowledged(&mut fake, 5).await;
    let call = cloud.call_when(CALL, "inspected", |call| call["inspection"].is_object()).await;
    assert_eq!((&call["status"], &call["outcome"]["code"]), (&json!("ended"), &json!("opt_out")), "{call:#}");
    let kinds: Vec<Value> = (crm.wait_for(3).await.iter())
        .map(|one| serde_json::from_str::<Value>(&one.body).unwrap()["type"].clone())
        .collect();
    assert_eq!(kinds, ["call.ringing", "call.answered", "call.ended"]);
    let (_, records) = cloud.get("/v1/records").await;
    assert_eq!(records["records"].as_array().unwrap().len(), 1);
    assert_eq!(records["records"][0]["record"]["direction"], "inbound");

    // She asked not to be called.
    let mut request = binding(&crm.url);
    request["callee"] = "+15550100199".into();
    request.as_object_mut().unwrap().remove("number");
    let (status, problem) = cloud.post("/v1/calls", &request).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem:#}");
}

#[tokio::test]
async fn numbers_reach_a_box_that_comes_back_and_no_box_speaks_for_the_call_of_another() {
    let site = Site::new();
    let cloud = site.start();
    let mut a = FakeBox::connect(&site, &cloud, "tl-a", 1, 1).await;
    let crm = Crm::start(Vec::new()).await;
    let id = bound(&cloud, &crm.url).await;
    let table = pushed(&mut a).await;
    a.has_numbers(&NumbersReply { table: table.table.clone() }).await;
    let on = topic::req_numbers(&a.id.clone());
    assert!(a.heard_within::<NumbersCommand>(&on, Duration::from_secs(3)).await.is_none(), "it has it");

    let inbound = called(&table, CALL, "sip:anonymous@anonymous.invalid");
    a.event(1, "call.inbound", &inbound).await;
    acknowledged(&mut a, 1).await;
    let mut b = FakeBox::connect(&site, &cloud, "tl-b", 1, 1).await;
    b.event(1, "call.ended", &ended(&inbound)).await;
    acknowledged(&mut b, 1).await;
    let (_, call) = cloud.get(&format!("/v1/calls/{CALL}")).await;
    assert_eq!(call["status"], "ringing", "{call:#}");
    a.event(2, "call.ended", &ended(&inbound)).await;
    acknowledged(&mut a, 2).await;
    let (_, lists) = cloud.get("/v1/suppressions").await;
    assert_eq!(lists["head"], 0, "nobody can be kept from being called: {lists:#}");

    // A binding that is taken away is taken away on the box.
    let (status, _) =
        cloud.ask(TOKEN, reqwest::Method::DELETE, &format!("/v1/numbers/{id}"), &Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(pushed(&mut a).await, NumbersCommand::default());
    drop(a);
    bound(&cloud, &crm.url).await;
    let mut back = FakeBox::connect(&site, &cloud, "tl-a", 2, 1).await;
    assert_eq!(pushed(&mut back).await.routes.len(), 1, "whoever was away is told");
}
