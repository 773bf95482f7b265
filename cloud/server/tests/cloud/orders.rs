//! Orders to a box, from the address that people use to what happens on it: the real cloud, the real keeper, TLS and
//! MQTT between them. The program for calls is a few lines of shell.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use trunkline_keeper::Carrier;
use trunkline_telemetry::Line;
use trunkline_wire::{OrderCommand, topic};

use crate::fleet::{Keeping, TestBox, seen, site};
use crate::harness::{Cloud, FakeBox, Site};

/// A program that writes down each of its starts and each word that it hears. The first word that calls are to end
/// finds one under way, if `busy` is there; it ends after a moment.
fn program(dir: &Path) -> Carrier {
    let path = dir.join("program");
    let text = r#"#!/bin/sh
say() { echo "{\"ready\":true,\"calls\":$1,\"draining\":$2}"; }
cd "$(dirname "$0")"
echo start >> heard
say 0 false
while read word; do
    echo "$word" >> heard
    case $word in
    *drain*true*) if [ -e busy ]; then rm busy; say 1 true; sleep 1; echo over >> heard; fi; say 0 true ;;
    *drain*false*) say 0 false ;;
    esac
done
"#;
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    Carrier { program: path, args: Vec::new() }
}

/// A box that has joined, whose keeper runs, with a program for calls.
async fn joined(site: &Site, cloud: &Cloud) -> (TestBox, Keeping) {
    let mut new = TestBox::new(site, cloud, "box");
    fs::create_dir_all(site.dir.path().join("box")).unwrap();
    new.carrier = Some(program(&site.dir.path().join("box")));
    new.config.orders.boot_id = site.write("boot-id", "boot-1\n");
    let (word, went) = (site.dir.path().join("box/rebooted"), "echo once >> ".to_owned());
    new.config.orders.reboot = ["/bin/sh".into(), "-c".into(), went + &word.display().to_string()].to_vec();
    let keeping = new.start(None);
    new.join(cloud).await;
    keeping.stop().await;
    let keeping = new.start(None);
    let path = format!("/v1/boxes/{}", new.id());
    seen(cloud, &path, "up", |shown| shown["reported"]["calls"]["state"] == "up").await;
    (new, keeping)
}

async fn order(cloud: &Cloud, id: &str, body: Value) -> String {
    let (status, given) = cloud.ask("li", Method::POST, &format!("/v1/boxes/{id}/orders"), &body).await;
    assert_eq!(status, StatusCode::CREATED, "{given}");
    format!("/v1/boxes/{id}/orders/{}", given["id"].as_str().unwrap())
}

async fn over(cloud: &Cloud, path: &str) -> Value {
    seen(cloud, path, "over", |shown| matches!(shown["state"].as_str(), Some("done" | "failed" | "expired")))
        .await
}

fn heard(site: &Site) -> Vec<String> {
    let text = fs::read_to_string(site.dir.path().join("box/heard")).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_box_takes_no_calls_over_a_restart_of_its_keeper_until_it_is_undrained() {
    let site = site();
    let cloud = site.start();
    let (new, keeping) = joined(&site, &cloud).await;
    let (id, path) = (new.id(), format!("/v1/boxes/{}", new.id()));
    let (status, problem) =
        cloud.ask("mei", Method::POST, &format!("{path}/orders"), &json!({ "kind": "drain" })).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{problem}");

    let drain = order(&cloud, &id, json!({ "kind": "drain" })).await;
    let done = over(&cloud, &drain).await;
    assert_eq!((&done["state"], &done["by"]), (&json!("done"), &json!("li")), "{done:#}");
    let shown = seen(&cloud, &path, "drained", |shown| shown["reported"]["calls"]["draining"] == true).await;
    assert_eq!(shown["reported"]["drained"]["by"], done["id"]);
    assert_eq!(heard(&site).last().unwrap(), "{\"drain\":true}");

    keeping.stop().await;
    let before = heard(&site).iter().filter(|line| *line == "start").count();
    let keeping = new.start(None);
    let again = |_: &Value| {
        let lines = heard(&site);
        let starts = lines.iter().filter(|line| *line == "start").count();
        starts > before && lines.last().is_some_and(|last| last == "{\"drain\":true}")
    };
    seen(&cloud, &path, "drained again", again).await;

    let undrain = order(&cloud, &id, json!({ "kind": "undrain" })).await;
    assert_eq!(over(&cloud, &undrain).await["state"], "done");
    let free = |shown: &Value| {
        shown["reported"]["calls"]["draining"] == false && shown["reported"]["drained"].is_null()
    };
    seen(&cloud, &path, "free", free).await;
    let (_, listed) = cloud.get(&format!("{path}/orders")).await;
    assert_eq!(
        (&listed["orders"][0]["kind"], &listed["orders"][1]["kind"]),
        (&json!("undrain"), &json!("drain"))
    );
    let (_, shown) = cloud.get(&path).await;
    let log: Vec<&str> =
        shown["log"].as_array().unwrap().iter().map(|entry| entry["what"].as_str().unwrap()).collect();
    assert!(log.ends_with(&["ordered", "order done", "ordered", "order done"]), "{log:?}");
    keeping.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_waits_for_the_call_and_a_reboot_is_done_when_the_machine_is_back() {
    let site = site();
    let cloud = site.start();
    let (new, keeping) = joined(&site, &cloud).await;
    let id = new.id();
    site.write("box/busy", "");
    let restart = order(&cloud, &id, json!({ "kind": "restart" })).await;
    let waits = |shown: &Value| shown["reason"] == "calls_under_way" || shown["state"] == "done";
    seen(&cloud, &restart, "waiting", waits).await;
    assert_eq!(over(&cloud, &restart).await["state"], "done");
    let lines = heard(&site);
    let at = |what: &str| lines.iter().rposition(|line| line == what).unwrap();
    assert!(at("over") < at("start"), "the call was let finish: {lines:?}");

    let reboot = order(&cloud, &id, json!({ "kind": "reboot" })).await;
    seen(&cloud, &reboot, "begun", |shown| shown["reason"] == "begun").await;
    let went = || fs::read_to_string(site.dir.path().join("box/rebooted")).unwrap_or_default();
    for _ in 0..100 {
        if !went().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The keeper starts anew, and the machine does not yet: it is not told to go down once more.
    keeping.stop().await;
    let keeping = new.start(None);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (_, shown) = cloud.get(&reboot).await;
    assert_eq!(shown["state"], "running", "{shown:#}");
    keeping.stop().await;
    site.write("boot-id", "boot-2\n");
    let keeping = new.start(None);
    assert_eq!(over(&cloud, &reboot).await["state"], "done");
    assert_eq!(went(), "once\n");
    keeping.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_and_a_bundle_come_to_headquarters_without_what_must_stay() {
    let site = site();
    let cloud = site.start();
    let (new, keeping) = joined(&site, &cloud).await;
    let id = new.id();
    let logs = new.config.logs_dir();
    fs::create_dir_all(&logs).unwrap();
    let line = |message: &str| {
        let (level, target) = ("INFO".to_owned(), "trunkline_keeper::keep".to_owned());
        let at = jiff::Timestamp::now();
        let line = Line { at, level, target, message: message.to_owned(), fields: Default::default() };
        serde_json::to_string(&line).unwrap() + "\n"
    };
    let planted = "Anna Miller, +8613800138000, will pay on Friday";
    fs::write(logs.join("keeper.log"), line("The certificate was renewed") + &line(planted)).unwrap();

    let order_logs = order(&cloud, &id, json!({ "kind": "logs", "lines": 10 })).await;
    let done = over(&cloud, &order_logs).await;
    assert_eq!(done["state"], "done", "{done:#}");
    let get = async |path: &str, range: &str| {
        let request = cloud.http.get(cloud.url(&format!("{path}/file"))).bearer_auth("li");
        let response = request.header("range", range).send().await.unwrap();
        (response.status().as_u16(), response.bytes().await.unwrap().to_vec())
    };
    let (status, text) = get(&order_logs, "bytes=0-").await;
    let text = String::from_utf8(text).unwrap();
    assert_eq!(status, 206);
    assert!(text.contains("The certificate was renewed") && text.lines().count() == 2, "{text}");
    for word in ["Anna", "Miller", "13800138000", "Friday"] {
        assert!(!text.contains(word), "{text}");
    }

    let diag = order(&cloud, &id, json!({ "kind": "diag" })).await;
    let done = over(&cloud, &diag).await;
    let (bytes, sha256) = (done["file"]["bytes"].as_u64().unwrap(), done["file"]["sha256"].as_str().unwrap());
    let mut whole = Vec::new();
    while (whole.len() as u64) < bytes {
        let (status, part) = get(&diag, &format!("bytes={}-{}", whole.len(), whole.len() + 499)).await;
        assert!(status == 206 && part.len() <= 500);
        whole.extend(part);
    }
    assert_eq!(hex::encode(ring::digest::digest(&ring::digest::SHA256, &whole)), sha256);
    assert!(whole.starts_with(&[0x1f, 0x8b]), "gzip");
    assert_eq!(get(&diag, &format!("bytes={bytes}-")).await.0, 416);
    let request = cloud.http.get(cloud.url(&format!("{diag}/file"))).bearer_auth("mei");
    assert_eq!(request.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    keeping.stop().await;
}

#[tokio::test]
async fn an_order_that_the_box_knows_is_not_sent_again_and_a_drained_box_gets_no_call() {
    let site = Site::new();
    let sha = |token: &str| hex::encode(ring::digest::digest(&ring::digest::SHA256, token.as_bytes()));
    site.write("tokens", &format!("crm {}\nli {}\n", sha(crate::harness::TOKEN), sha("li")));
    let ca = site.ca.intermediate();
    site.write("boxes.pem", &ca.cert);
    site.write("boxes.key", &ca.key);
    let fleet =
        "[fleet]\nca_cert = \"boxes.pem\"\nca_key = \"boxes.key\"\nroles = { li = \"fleet_admin\" }\n";
    site.write("cloud.toml", &format!("{}\n{fleet}", site.config("127.0.0.1:0", "127.0.0.1:0")));
    let cloud = site.start();
    let away = "/v1/boxes/tl-a/orders";
    let drain = json!({ "kind": "drain" });
    assert_eq!(cloud.ask("li", Method::POST, away, &drain).await.0, StatusCode::NOT_FOUND);
    for (wrong, code) in [
        (json!({ "kind": "drain", "until": "2020-01-01T00:00:00Z" }), "bad_until"),
        (json!({ "kind": "drain", "now": true }), "not_of_this_kind"),
        (json!({ "kind": "logs", "lines": 0 }), "bad_lines"),
        (json!({ "kind": "reboot", "within_s": 5 }), "bad_within"),
    ] {
        let fake = FakeBox::connect(&site, &cloud, "tl-a", 1, 1).await;
        fake.reported(&json!({})).await;
        seen(&cloud, "/v1/boxes/tl-a", "known", |shown| shown["seen"].is_string()).await;
        let (status, problem) = cloud.ask("li", Method::POST, away, &wrong).await;
        assert_eq!((status, &problem["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!(code)));
    }

    let mut fake = FakeBox::connect(&site, &cloud, "tl-a", 2, 1).await;
    let path = order(&cloud, "tl-a", json!({ "kind": "restart", "now": true })).await;
    let (sent, _) = fake.heard::<OrderCommand>(&topic::req_order(&fake.id.clone())).await;
    assert_eq!((sent.body.kind.as_str(), sent.body.now), ("restart", true));
    assert!(sent.ts < sent.body.expires);
    let said = json!({ "order": sent.body.order, "state": "running", "reason": "calls_under_way" });
    fake.reported(&json!({ "orders": [said] })).await;
    seen(&cloud, &path, "running", |shown| shown["state"] == "running").await;
    fake.reported(&json!({})).await;
    let again =
        fake.heard_within::<OrderCommand>(&topic::req_order(&fake.id.clone()), Duration::from_secs(2)).await;
    assert!(again.is_none(), "what the box knows is not sent again");

    // A box whose calls' link stands and whose keeper says that it takes none gets none.
    let call = json!({
        "callee": "+1 555 010 0199", "script_id": "appointment-confirmation-en",
        "variables": { "org": "Riverside Clinic", "name": "Alex Morgan", "doctor": "Doctor Patel",
            "date": "2026-11-27", "time": "15:00" },
    });
    fake.reported(&json!({ "calls": { "state": "up", "draining": true } })).await;
    seen(&cloud, "/v1/boxes", "drained", |shown| shown["boxes"][0]["draining"].is_string()).await;
    let (status, asked) = cloud.post("/v1/calls", &call).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{asked}");
    let dialled = topic::req_dial(&fake.id.clone());
    let none = fake.heard_within::<trunkline_wire::DialCommand>(&dialled, Duration::from_secs(3)).await;
    assert!(none.is_none(), "it was given a call");
    fake.reported(&json!({ "calls": { "state": "up" } })).await;
    fake.dialled().await;
}
