//! A campaign over a fake box, with the cloud killed twice in the middle.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use serde_json::{Value, json};
use trunkline_policy::receipt::verify;
use trunkline_wire::{DialCommand, DialReply, topic};

use crate::harness::{Cloud, FakeBox, Site, TOKEN};

const CONTACTS: usize = 24;

fn ended(dial: &DialCommand) -> Value {
    json!({
        "call": dial.call, "script": dial.script, "started": "2026-11-22T10:00:00Z",
        "answered": "2026-11-22T10:00:05Z", "ended": "2026-11-22T10:00:35Z", "disposition": "completed",
    })
}

/// A box that holds every call for a moment, and keeps its events as a journal does.
#[derive(Default)]
struct Journal {
    /// Calls by number.
    dialled: BTreeMap<String, BTreeSet<String>>,
    events: Vec<Value>,
}

impl Journal {
    fn calls(&self) -> usize {
        self.dialled.values().map(BTreeSet::len).sum()
    }

    /// Sends everything again, as a box does that has seen no acknowledgement.
    async fn resend(&self, fake: &FakeBox) {
        for (seq, event) in (1..).zip(&self.events) {
            fake.event(seq, "call.ended", event).await;
        }
    }

    /// Takes commands until so many different calls were dialled in all.
    async fn carry(&mut self, fake: &mut FakeBox, calls: usize) {
        let begun = Instant::now();
        while self.calls() < calls {
            assert!(begun.elapsed() < Duration::from_secs(60), "only {:?}", self.dialled);
            let on = topic::req_dial(&fake.id.clone());
            let heard = fake.heard_within::<DialCommand>(&on, Duration::from_secs(2)).await;
            let Some((command, _)) = heard else { continue };
            let dial = command.body;
            fake.reply(&DialReply { call: dial.call, accepted: true, reason: String::new(), busy: false })
                .await;
            let calls = self.dialled.entry(dial.callee.reveal().to_owned()).or_default();
            // A command that comes again is answered again; the call itself is held once.
            if calls.insert(dial.call.to_string()) {
                self.events.push(ended(&dial));
                fake.event(self.events.len() as u64, "call.ended", &ended(&dial)).await;
            }
        }
    }
}

async fn text(cloud: &Cloud, path: &str) -> String {
    cloud.http.get(cloud.url(path)).bearer_auth(TOKEN).send().await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn a_campaign_calls_everybody_once_though_the_cloud_is_killed_twice_and_its_receipts_verify() {
    let site = Site::new();
    let mut cloud = site.start();
    let variables = json!({
        "org": "Riverside Clinic", "name": "Alex Morgan", "doctor": "Doctor Patel",
        "date": "2026-11-27", "time": "15:00",
    });
    let settings =
        json!({ "script_id": "appointment-confirmation-en", "variables": variables, "boxes": ["tl-a"] });
    let (status, made) =
        cloud.post("/v1/campaigns", &json!({ "name": "Everybody once", "settings": settings })).await;
    assert_eq!(status, StatusCode::CREATED, "{made:#}");
    let path = format!("/v1/campaigns/{}", made["id"].as_str().unwrap());
    let mut csv = String::from("phone,external_id\n");
    for n in 0..CONTACTS {
        csv += &format!("+15550100{n:03},c{n}\n");
    }
    let upload = cloud.http.post(cloud.url(&format!("{path}/contacts?map=phone:callee")));
    let report: Value = upload.bearer_auth(TOKEN).body(csv).send().await.unwrap().json().await.unwrap();
    assert_eq!(report["imported"], CONTACTS, "{report:#}");
    let (status, _) = cloud.post(&format!("{path}/start"), &json!({})).await;
    assert_eq!(status, StatusCode::ACCEPTED);

    let mut journal = Journal::default();
    // The last session stays connected until all is filed.
    let mut connected = None;
    for (session, calls) in [(1, CONTACTS / 3), (2, 2 * CONTACTS / 3), (3, CONTACTS)] {
        let mut fake = FakeBox::connect(&site, &cloud, "tl-a", session, 4).await;
        journal.resend(&fake).await;
        journal.carry(&mut fake, calls).await;
        if session < 3 {
            cloud.kill();
            drop(fake);
            cloud = site.start();
        } else {
            connected = Some(fake);
        }
    }
    let begun = Instant::now();
    loop {
        let (_, shown) = cloud.get(&path).await;
        if shown["state"] == "finished" {
            assert_eq!(shown["contacts"], json!({ "done": CONTACTS }));
            assert_eq!(shown["reasons"], json!({ "reached": CONTACTS }));
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{shown:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    drop(connected);
    let dialled = journal.dialled;
    assert_eq!(dialled.len(), CONTACTS, "everybody");
    assert!(dialled.values().all(|calls| calls.len() == 1), "and nobody twice: {dialled:?}");

    let log = text(&cloud, "/v1/receipts").await;
    let (receipts, _) = verify(&log).unwrap().unwrap();
    assert!(
        receipts >= 2 * CONTACTS as u64,
        "each call was judged when it was made and when it was given out"
    );
    let call = dialled.values().next().and_then(|calls| calls.first()).unwrap();
    let (_, shown) = cloud.get(&format!("/v1/calls/{call}/receipt")).await;
    let stages: Vec<&str> = shown["receipts"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["body"]["stage"].as_str())
        .collect();
    assert_eq!(stages, ["request", "lease"]);
}

#[tokio::test]
async fn a_gray_release_begins_with_the_contacts_of_least_value_widens_and_halts_when_people_opt_out() {
    let site = Site::new();
    let cloud = site.start();
    let variables = json!({
        "org": "Riverside Clinic", "name": "Alex Morgan", "doctor": "Doctor Patel",
        "date": "2026-11-27", "time": "15:00",
    });
    let gate = json!({ "least": 4, "good_outcome": 0.5, "opt_out": 0.3, "complaint": 0.0, "no_match": 0.5 });
    let release = json!({
        "plan": { "steps": [20, 50, 100], "gate": gate, "automatic": true }, "value": "prep", "good": ["agreed"],
    });
    let settings =
        json!({ "script_id": "appointment-confirmation-en", "variables": variables, "release": release });
    let (status, made) = cloud.post("/v1/campaigns", &json!({ "name": "Gray", "settings": settings })).await;
    assert_eq!(status, StatusCode::CREATED, "{made:#}");
    let path = format!("/v1/campaigns/{}", made["id"].as_str().unwrap());
    // The last of the file are worth least.
    let mut csv = String::from("callee,prep\n");
    for n in 0..20 {
        csv += &format!("+15550100{n:03},{}\n", 100 - n);
    }
    let upload = cloud.http.post(cloud.url(&format!("{path}/contacts"))).bearer_auth(TOKEN).body(csv);
    assert!(upload.send().await.unwrap().status().is_success());
    cloud.post(&format!("{path}/start"), &json!({})).await;

    let mut fake = FakeBox::connect(&site, &cloud, "tl-a", 1, 8).await;
    let (mut seq, mut dialled) = (0, Vec::new());
    let begun = Instant::now();
    // The first fifth agrees; of those after it, who is called does not want to be called again.
    let halted = loop {
        let (_, shown) = cloud.get(&path).await;
        if shown["state"] == "paused" {
            break shown;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{dialled:?}: {shown:#}");
        let on = topic::req_dial(&fake.id.clone());
        let heard = fake.heard_within::<DialCommand>(&on, Duration::from_secs(1)).await;
        let Some((dial, _)) = heard else { continue };
        let dial = dial.body;
        fake.reply(&DialReply { call: dial.call, accepted: true, reason: String::new(), busy: false }).await;
        dialled.push(dial.callee.reveal().to_owned());
        let refuses = dialled.len() > 4;
        let now = jiff::Timestamp::now();
        let code = if refuses { "opt_out" } else { "agreed" };
        let end = json!({
            "call": dial.call, "script": dial.script, "started": now, "answered": now, "ended": now,
            "disposition": "completed", "outcome": { "code": code, "label": "" }, "suppress": refuses,
            "turns": [{ "turn": 1, "customer": { "text": "yes", "start_s": 1.0, "end_s": 1.5 },
                "decision": { "node": "open", "because": "intent yes" }, "robot": [] }],
        });
        seq += 1;
        fake.event(seq, "call.ended", &end).await;
        if dialled.len() == 4 {
            let first: BTreeSet<&str> = dialled.iter().map(String::as_str).collect();
            let least: Vec<String> = (16..20).map(|n| format!("+15550100{n:03}")).collect();
            assert_eq!(first, least.iter().map(String::as_str).collect(), "the fifth that is worth least");
        }
    };
    assert_eq!(halted["share"], 50, "{halted:#}");
    assert!(halted["why"].as_str().unwrap().contains("opted out"), "{halted:#}");
    assert_eq!(halted["contacts"]["held"], 10, "{halted:#}");
}

#[tokio::test]
async fn who_asks_to_be_called_later_waits_until_then_and_where_no_time_was_understood_the_campaign_says_when()
 {
    let site = Site::new();
    let cloud = site.start();
    let variables = json!({
        "org": "Riverside Clinic", "name": "Alex Morgan", "doctor": "Doctor Patel",
        "date": "2026-11-27", "time": "15:00",
    });
    let settings = json!({
        "script_id": "appointment-confirmation-en", "variables": variables,
        "callbacks": { "max": 1, "default_min": 0 },
    });
    let (status, made) = cloud.post("/v1/campaigns", &json!({ "name": "Later", "settings": settings })).await;
    assert_eq!(status, StatusCode::CREATED, "{made:#}");
    let path = format!("/v1/campaigns/{}", made["id"].as_str().unwrap());
    let csv = "callee,zone\n+15550100001,America/New_York\n+15550100002,America/New_York\n";
    let upload = cloud.http.post(cloud.url(&format!("{path}/contacts"))).bearer_auth(TOKEN).body(csv);
    assert!(upload.send().await.unwrap().status().is_success());
    cloud.post(&format!("{path}/start"), &json!({})).await;

    let mut fake = FakeBox::connect(&site, &cloud, "tl-a", 1, 2).await;
    let day = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let day = day.checked_add(jiff::ToSpan::days(3)).unwrap();
    let (mut dialled, mut calls) = (Vec::new(), Vec::new());
    while dialled.len() < 3 {
        let dial = fake.dialled().await;
        dialled.push(dial.callee.reveal().to_owned());
        calls.push((dial.callee.reveal().to_owned(), dial.call));
        let slots = match dial.callee.reveal() {
            "+15550100001" => json!({ "callback_date": day, "callback_time": "16:30" }),
            _ => json!({}),
        };
        let code = if dialled.len() < 3 { "callback" } else { "agreed" };
        let now = jiff::Timestamp::now();
        let end = json!({
            "call": dial.call, "script": dial.script, "started": now, "answered": now, "ended": now,
            "disposition": "completed", "outcome": { "code": code, "label": "" }, "slots": slots,
            "turns": [{ "turn": 0, "decision": { "node": "open", "because": "answered" },
                "robot": [{ "text": "Hello.", "start_s": 0.3, "heard": 1.0 }] }],
        });
        fake.event(dialled.len() as u64, "call.ended", &end).await;
    }
    dialled[..2].sort_unstable();
    assert_eq!(dialled, ["+15550100001", "+15550100002", "+15550100002"], "the first one asked for a day");

    let second: Vec<_> =
        calls.iter().filter(|(callee, _)| callee == "+15550100002").map(|(_, call)| call).collect();
    for (call, asked_in) in [(second[0], None), (second[1], Some(second[0]))] {
        let (_, shown) = cloud.get(&format!("/v1/calls/{call}/receipt")).await;
        let receipts = shown["receipts"].as_array().unwrap();
        assert_eq!(receipts.len(), 2, "{shown:#}");
        for one in receipts {
            let asked = &one["body"]["inputs"]["asked"];
            assert_eq!(asked.get("call"), asked_in.map(|call| json!(call)).as_ref(), "{one:#}");
            assert_eq!(asked.get("at").is_some(), asked_in.is_some(), "{one:#}");
        }
    }

    let asked = day.at(16, 30, 0, 0).in_tz("America/New_York").unwrap().timestamp();
    let begun = Instant::now();
    loop {
        let (_, shown) = cloud.get(&path).await;
        if shown["contacts"] == json!({ "ready": 1, "done": 1 }) {
            assert_eq!(shown["reasons"], json!({ "callback": 1, "reached": 1 }), "{shown:#}");
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{shown:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let csv = text(&cloud, &format!("{path}/contacts.csv")).await;
    let line = csv.lines().find(|line| line.contains("15550100001")).unwrap();
    assert!(line.ends_with(&format!(",callback,{asked}")), "{line}");
}
