//! An opt-out on its way to every box, and the box's own judgement on its way back.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use serde_json::{Value, json};
use trunkline_policy::receipt::{Body, Entry, Stage, verify};
use trunkline_policy::{Change, Fingerprint};
use trunkline_wire::{Ack, DialCommand, SuppressCommand, SuppressReply, topic};

use crate::harness::{Cloud, FakeBox, Site, TOKEN};

async fn asked_for(cloud: &Cloud, callee: &str) -> String {
    let body = json!({
        "callee": callee, "script_id": "appointment-confirmation-en",
        "variables": {
            "org": "Riverside Clinic", "name": "Alex Morgan", "doctor": "Doctor Patel",
            "date": "2026-11-27", "time": "15:00",
        },
    });
    let (status, call) = cloud.post("/v1/calls", &body).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{call:#}");
    call["id"].as_str().unwrap().to_owned()
}

async fn pushed(fake: &mut FakeBox) -> SuppressCommand {
    fake.heard::<SuppressCommand>(&topic::req_suppress(&fake.id.clone())).await.0.body
}

#[tokio::test]
async fn a_spoken_opt_out_reaches_every_connected_box_and_who_has_not_confirmed_gets_no_lease() {
    let site = Site::new();
    let cloud = site.start();
    let mut a = FakeBox::connect(&site, &cloud, "tl-a", 1, 1).await;
    asked_for(&cloud, "+15550100201").await;
    let dial = a.dialled().await;
    let mut b = FakeBox::connect(&site, &cloud, "tl-b", 1, 1).await;

    let end = json!({
        "call": dial.call, "script": dial.script, "started": "2026-11-22T10:00:00Z",
        "answered": "2026-11-22T10:00:05Z", "ended": "2026-11-22T10:00:35Z", "disposition": "completed",
        "suppress": true,
    });
    let spoken = Instant::now();
    a.event(1, "call.ended", &end).await;
    for fake in [&mut a, &mut b] {
        let push = pushed(fake).await;
        assert_eq!((push.after, push.upto, push.changes.len()), (0, 1, 1));
        assert_eq!(push.changes[0].who, Fingerprint::of(&dial.callee));
        assert!(matches!(push.changes[0].change, Change::OptedOut(_)));
    }
    println!("an opt-out was with two boxes after {:?}", spoken.elapsed());
    assert!(spoken.elapsed() < Duration::from_secs(60));

    // Both have a free channel, and neither has said that it knows.
    asked_for(&cloud, "+15550100202").await;
    for fake in [&mut a, &mut b] {
        let on = topic::req_dial(&fake.id.clone());
        assert!(fake.heard_within::<DialCommand>(&on, Duration::from_secs(2)).await.is_none());
    }
    let (_, state) = cloud.get("/v1/suppressions").await;
    assert_eq!((&state["head"], &state["boxes"][1]["upto"]), (&json!(1), &json!(0)), "{state:#}");
    b.suppressed(&SuppressReply { upto: 1 }).await;
    let lease = b.dialled().await;
    assert_eq!(lease.gate.unwrap().suppressions, 1);
    let (_, state) = cloud.get("/v1/suppressions").await;
    assert_eq!(
        (&state["boxes"][1]["upto"], &state["boxes"][1]["lag_s"]),
        (&json!(1), &json!(0)),
        "{state:#}"
    );
    assert_eq!(pushed(&mut a).await.upto, 1, "who has not confirmed is told again");

    // A box that claims more than there is has another cloud's changes: it begins anew.
    a.suppressed(&SuppressReply { upto: 900 }).await;
    assert_eq!(pushed(&mut a).await.after, 0);
    a.suppressed(&SuppressReply { upto: 1 }).await;

    // What the API and the lists say goes the same way, and a list that is loaded again goes nowhere.
    let (status, _) = cloud.post("/v1/opt-outs", &json!({ "callee": "+15550100203" })).await;
    assert_eq!(status, StatusCode::CREATED);
    let list = json!({ "list": "tenant", "callees": ["+15550100204"] });
    for _ in 0..2 {
        assert_eq!(cloud.post("/v1/suppressions", &list).await.0, StatusCode::CREATED);
    }
    let mut upto = 1;
    while upto < 3 {
        upto = pushed(&mut b).await.upto;
        b.suppressed(&SuppressReply { upto }).await;
    }
    let (_, state) = cloud.get("/v1/suppressions").await;
    assert_eq!(state["head"], 3, "{state:#}");
}

async fn receipts(cloud: &Cloud, id: &str) -> Vec<Value> {
    cloud.get(&format!("/v1/calls/{id}/receipt")).await.1["receipts"].as_array().cloned().unwrap_or_default()
}

#[tokio::test]
async fn the_lease_brings_what_the_gate_needs_and_the_boxs_receipt_stands_in_the_clouds_chain() {
    let site = Site::new();
    let cloud = site.start();
    let mut fake = FakeBox::connect(&site, &cloud, "tl-a", 1, 2).await;
    let id = asked_for(&cloud, "+15550100205").await;
    let dial = fake.dialled().await;
    let order = dial.gate.unwrap();
    assert_eq!(order.packs[0].id, "unrestricted-lab");

    // The pack comes by its hash, over the box's certificate.
    let the_box = site.http_as(&site.ca.client(Some("tl-a")));
    let url = cloud.url(&format!("/box/v1/blobs/{}", order.packs[0].sha256));
    let text = the_box.get(url).send().await.unwrap().text().await.unwrap();
    let pack = trunkline_policy::Pack::from_yaml("lab", &text).unwrap();
    assert_eq!(pack.reference(), order.packs[0]);

    // The box judges by it and says so.
    let now = jiff::Timestamp::now();
    let decision = order.dossier.decide(&dial.callee, &[&pack], now);
    let inputs = order.dossier.inputs(dial.script.version.as_str());
    let body = Body { call: dial.call, stage: Stage::Dial, inputs, decision, anchor: None };
    let first = Entry::follow(None, &body, now).unwrap();
    fake.event(1, "gate.receipt", &first).await;
    let mut forged = Entry::follow(Some((1, &first.hash)), &body, now).unwrap();
    forged.body = forged.body.replacen("dial", "lead", 1);
    fake.event(2, "gate.receipt", &forged).await;
    // The third does not follow the first: the box has lost one.
    let third = Entry::follow(Some((2, &forged.hash)), &body, now).unwrap();
    fake.event(3, "gate.receipt", &third).await;
    loop {
        let (ack, _) = fake.heard::<Ack>(&topic::ack(&fake.id.clone())).await;
        if ack.body.upto == 3 {
            break;
        }
    }
    let shown = receipts(&cloud, &id).await;
    let stages: Vec<&str> = shown.iter().filter_map(|one| one["body"]["stage"].as_str()).collect();
    assert_eq!(stages, ["request", "lease", "dial", "dial"], "the forged one is not there");
    let anchors: Vec<(Value, Value)> = shown[2..]
        .iter()
        .map(|one| (one["body"]["anchor"]["seq"].clone(), one["body"]["anchor"]["follows"].clone()))
        .collect();
    assert_eq!(anchors, [(json!(1), json!(true)), (json!(3), json!(false))]);
    let log = cloud.http.get(cloud.url("/v1/receipts")).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(verify(&log.text().await.unwrap()).unwrap().map(|(seq, _)| seq), Some(4));
}
