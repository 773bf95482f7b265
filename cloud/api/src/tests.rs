//! The handlers in process; `cloud/server` tests them behind TLS and with a worker.

use std::path::Path;

use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{Method, Request, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;
use trunkline_db::{Effect, Event};
use trunkline_model::BoxId;
use trunkline_policy::Packs;
use trunkline_wire::CallRecord;
use trunkline_worker::GateSettings;
use uuid::Uuid;

use crate::auth::sha256_hex;

use super::*;

mod keys;
mod lists;
mod numbers;
mod previews;
mod records;
mod scripts;

const TOKEN: &str = "secret";

async fn api(callbacks: bool) -> (TempDir, Api) {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(&dir.path().join("cloud.sqlite")).await.unwrap();
    db.replace_tokens(&[("crm".into(), sha256_hex(TOKEN.as_bytes()))]).await.unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/scripts");
    let scripts = Arc::new(Scripts::read(&folder).unwrap());
    scripts.load(&db, Timestamp::now()).await.unwrap();
    let rate = Rate { per_second: 100.0, burst: 100 };
    let config = ApiConfig { not_after: Duration::from_secs(300), callbacks, allow_private: false, rate };
    let settings = GateSettings {
        basis: Some(serde_json::from_str(r#"{"basis": "express"}"#).unwrap()),
        retention_days: 2_000,
        subject_rights: true,
        audio_label: true,
        ..GateSettings::default()
    };
    let gate = Arc::new(Gate::new(Packs::shipped().unwrap(), settings));
    let (hub, wakers, buckets) = (Hub::new(), Wakers::default(), Buckets::default());
    let fleet = Fleet::default();
    (
        dir,
        Api {
            db,
            scripts,
            engine: Arc::new(Engine::floor_only()),
            gate,
            words: Arc::default(),
            clock: ten_in_shanghai,
            buckets,
            files: Arc::default(),
            hub,
            wakers,
            fleet,
            config,
        },
    )
}

fn ten_in_shanghai() -> Timestamp {
    "2026-11-23T02:00:00Z".parse().unwrap()
}

fn ten_at_night() -> Timestamp {
    "2026-11-23T14:00:00Z".parse().unwrap()
}

async fn send(api: &Api, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("bearer {TOKEN}"))
        .body(body.map_or(Body::empty(), |body| Body::from(body.to_string())))
        .unwrap();
    let response = api.clone().router().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

/// A request with the sample script's own examples.
async fn sample(api: &Api, callee: &str) -> Value {
    let (_, listed) = send(api, Method::GET, "/v1/scripts", None).await;
    let scripts = listed["scripts"].as_array().unwrap().clone();
    let script = scripts.iter().find(|script| script["id"] == "repayment-reminder-zh").unwrap();
    let mut body = json!({ "callee": callee, "script_id": script["id"], "variables": {} });
    for var in script["vars"].as_array().unwrap() {
        if let Some(example) = var["example"].as_str() {
            body["variables"][var["name"].as_str().unwrap()] = example.into();
        }
    }
    body
}

#[tokio::test]
async fn a_call_is_taken_shown_listed_and_called_off() {
    let (_dir, api) = api(false).await;
    let (status, call) =
        send(&api, Method::POST, "/v1/calls", Some(sample(&api, "+8613800138000").await)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{call:#}");
    assert_eq!(call["status"], "queued");
    let path = format!("/v1/calls/{}", call["id"].as_str().unwrap());

    let (status, shown) = send(&api, Method::GET, &path, None).await;
    assert_eq!((status, &shown["turns"], &shown["callbacks"]), (StatusCode::OK, &json!([]), &json!([])));
    let (_, listed) = send(&api, Method::GET, "/v1/calls?status=queued", None).await;
    assert_eq!(listed["calls"][0]["id"], call["id"]);

    let (status, cancelled) = send(&api, Method::POST, &format!("{path}/cancel"), None).await;
    assert_eq!((status, &cancelled["disposition"]), (StatusCode::ACCEPTED, &json!("cancelled")));
    let (status, problem) = send(&api, Method::POST, &format!("{path}/cancel"), None).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("already_ended")));
}

#[tokio::test]
async fn what_cannot_be_done_is_said_with_its_reason() {
    let (_dir, api) = api(false).await;
    let good = sample(&api, "+8613800138000").await;
    let mut with_callback = good.clone();
    with_callback["callback_url"] = "https://crm.example/".into();
    let mut no_number = good.clone();
    no_number["callee"] = "tomorrow".into();
    for (body, code, field) in
        [(with_callback, "callbacks_disabled", "callback_url"), (no_number, "malformed_number", "callee")]
    {
        let (status, problem) = send(&api, Method::POST, "/v1/calls", Some(body)).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!((&problem["code"], &problem["field"]), (&json!(code), &json!(field)));
        assert!(!problem["detail"].as_str().unwrap().contains("tomorrow"), "what came is not echoed");
    }
    assert_eq!(send(&api, Method::DELETE, "/v1/calls", None).await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(
        send(&api, Method::GET, "/v1/calls?status=odd", None).await.0,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(send(&api, Method::GET, "/nothing", None).await.1["code"], "not_found");
}

#[tokio::test]
async fn a_private_callback_address_is_refused() {
    let (_dir, api) = api(true).await;
    let mut body = sample(&api, "+8613800138000").await;
    for inside in ["http://127.0.0.1:9/", "http://[::1]/", "http://169.254.169.254/"] {
        body["callback_url"] = inside.into();
        let (status, problem) = send(&api, Method::POST, "/v1/calls", Some(body.clone())).await;
        assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("bad_callback_url")), "{inside}");
    }
}

#[tokio::test]
async fn who_asked_not_to_be_called_is_refused_to_everybody() {
    let (_dir, api) = api(false).await;
    let body = sample(&api, "+8613800138000").await;
    let (_, call) = send(&api, Method::POST, "/v1/calls", Some(body.clone())).await;
    let box_id: BoxId = "tl-a".parse().unwrap();
    let id = call["id"].as_str().unwrap().parse().unwrap();
    assert!(api.db.assign(id, &box_id, Timestamp::now()).await.unwrap());
    let record: CallRecord = serde_json::from_value(json!({
        "call": call["id"], "script": call["script"], "started": "2026-11-22T10:00:00Z",
        "ended": "2026-11-22T10:00:30Z", "disposition": "completed", "suppress": true,
    }))
    .unwrap();
    let event = Event {
        box_id,
        sess: 1,
        seq: 1,
        id: Uuid::from_u128(1),
        ts: Timestamp::now(),
        kind: "call.ended".into(),
        trace: String::new(),
        body: "{}".into(),
        effect: Effect::Ended(Box::new(record)),
    };
    api.db.ingest(&[event], Timestamp::now()).await.unwrap();

    let (status, problem) = send(&api, Method::POST, "/v1/calls", Some(body)).await;
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("suppressed")));
}

#[tokio::test]
async fn the_gate_refuses_with_its_reason_and_every_decision_has_a_receipt() {
    let (_dir, mut api) = api(false).await;
    for (callee, reason) in [
        ("+19005550123", "number_premium"),
        ("sip:a@127.0.0.1", "sip_not_allowed"),
        ("+881612345678", "jurisdiction_unknown"),
    ] {
        let (status, problem) = send(&api, Method::POST, "/v1/calls", Some(sample(&api, callee).await)).await;
        assert_eq!((status.as_u16(), &problem["code"]), (422, &json!(reason)), "{problem:#}");
        let detail = problem["detail"].as_str().unwrap();
        let receipt = detail.split_whitespace().last().unwrap().to_owned();
        let (status, shown) = send(&api, Method::GET, &receipt, None).await;
        assert_eq!(status, StatusCode::OK, "{receipt}");
        assert_eq!(shown["receipts"][0]["body"]["decision"]["reason"], reason);
        assert_eq!(shown["receipts"][0]["body"]["decision"]["checks"].as_array().unwrap().len(), 42);
        assert!(!shown.to_string().contains(callee), "no number in a receipt");
    }

    // At night a call that may wait until the morning waits; one that may not is refused.
    api.clock = ten_at_night;
    let mut body = sample(&api, "+8613800138000").await;
    let (status, problem) = send(&api, Method::POST, "/v1/calls", Some(body.clone())).await;
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("outside_hours")));
    body["not_after"] = "2026-11-24T03:00:00Z".into();
    let (status, call) = send(&api, Method::POST, "/v1/calls", Some(body)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{call:#}");
    let morning = |text: &str| text.parse::<Timestamp>().unwrap();
    assert!(api.db.queued(morning("2026-11-23T23:59:59Z"), 9).await.unwrap().is_empty());
    assert_eq!(api.db.queued(morning("2026-11-24T00:00:00Z"), 9).await.unwrap().len(), 1);

    let request = Request::builder()
        .uri("/v1/receipts")
        .header("authorization", format!("Bearer {TOKEN}"))
        .body(Body::empty())
        .unwrap();
    let response = api.clone().router().oneshot(request).await.unwrap();
    let log = String::from_utf8(to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap();
    assert_eq!(trunkline_policy::receipt::verify(&log).unwrap().unwrap().0, 5);
}

#[tokio::test]
async fn an_opt_out_by_the_api_is_for_ever_and_a_listed_number_is_refused() {
    let (_dir, api) = api(false).await;
    let post = async |path: &str, body: Value| send(&api, Method::POST, path, Some(body)).await;
    let (status, _) = post("/v1/opt-outs", json!({"callee": "+8613800138001", "scope": "person"})).await;
    assert_eq!(status, StatusCode::CREATED);
    let (status, _) = post("/v1/opt-outs", json!({"callee": "+8613800138001", "scope": "debt"})).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let (status, _) =
        post("/v1/suppressions", json!({"list": "tenant", "callees": ["+8613800138002"]})).await;
    assert_eq!(status, StatusCode::CREATED);
    for (callee, reason) in [("+8613800138001", "opted_out"), ("+8613800138002", "suppressed")] {
        let (_, problem) = post("/v1/calls", sample(&api, callee).await).await;
        assert_eq!(problem["code"], reason);
    }
}

#[tokio::test]
async fn the_same_key_and_body_give_the_same_call_and_another_body_is_409() {
    let (_dir, mut api) = api(false).await;
    let body = sample(&api, "+8613800138000").await;
    let post = async |api: &Api, body: &Value| {
        let request = Request::builder()
            .method(Method::POST)
            .uri("/v1/calls")
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("idempotency-key", "k1")
            .body(Body::from(body.to_string()))
            .unwrap();
        let response = api.clone().router().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice::<Value>(&bytes).unwrap())
    };
    let (status, first) = post(&api, &body).await;
    assert_eq!(status, 202, "{first:#}");
    api.clock = ten_at_night;
    let (status, again) = post(&api, &body).await;
    assert_eq!((status, &again["id"]), (202, &first["id"]), "also when the gate would now say no");
    let mut other = body.clone();
    other["external_id"] = "another".into();
    assert_eq!(post(&api, &other).await.0, 409);
}

#[tokio::test]
async fn a_token_that_asks_too_often_is_told_when_to_come_again() {
    let (_dir, mut api) = api(false).await;
    api.config.rate = Rate { per_second: 0.5, burst: 2 };
    let get = async || {
        let request = Request::builder()
            .uri("/v1/boxes")
            .header("authorization", format!("Bearer {TOKEN}"))
            .body(Body::empty())
            .unwrap();
        api.clone().router().oneshot(request).await.unwrap()
    };
    let first = get().await;
    assert_eq!(first.status(), StatusCode::OK);
    assert_eq!(first.headers()["ratelimit"], "\"default\";r=1;t=2");
    assert_eq!(first.headers()["ratelimit-policy"], "\"default\";q=2;w=4");
    get().await;
    let third = get().await;
    assert_eq!(third.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(third.headers()["retry-after"], "2");
    assert_eq!(third.headers()["content-type"], "application/problem+json");
}

#[tokio::test]
async fn a_campaign_is_filled_from_csv_looked_at_started_and_stopped() {
    let (_dir, api) = api(false).await;
    let example = sample(&api, "+8613800138000").await["variables"].clone();
    let settings = json!({ "script_id": "repayment-reminder-zh", "variables": example });
    let (status, made) =
        send(&api, Method::POST, "/v1/campaigns", Some(json!({"name": "November", "settings": settings})))
            .await;
    assert_eq!((status, &made["state"]), (StatusCode::CREATED, &json!("draft")), "{made:#}");
    let path = format!("/v1/campaigns/{}", made["id"].as_str().unwrap());

    // Every 33rd line is broken, and the last is a number that is there already.
    let mut csv = String::from("callee,external_id\n");
    for n in 0..3_000 {
        csv +=
            &if n % 33 == 0 { format!("1380013{n:04},c{n}\n") } else { format!("+861380013{n:04},c{n}\n") };
    }
    csv += "+8613800130001,again\n";
    let upload = async |body: Vec<u8>| {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{path}/contacts"))
            .header("authorization", format!("Bearer {TOKEN}"))
            .body(Body::from_stream(futures_util::stream::iter(
                body.chunks(1_000).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect::<Vec<_>>(),
            )))
            .unwrap();
        let response = api.clone().router().oneshot(request).await.unwrap();
        serde_json::from_slice::<Value>(&to_bytes(response.into_body(), 1 << 20).await.unwrap()).unwrap()
    };
    let report = upload(csv.into_bytes()).await;
    assert_eq!(report["lines"], 3_001);
    assert_eq!((&report["imported"], &report["rejected"]), (&json!(2_909), &json!(91)), "{report:#}");
    assert_eq!((&report["duplicates"], &report["errors"][1]["line"]), (&json!(1), &json!(35)));
    assert!(!report.to_string().contains("1380013"), "a report names no number");

    let (_, report) = send(&api, Method::GET, &format!("{path}/preflight?calls_per_hour=1000"), None).await;
    assert_eq!((&report["contacts"], &report["now"]), (&json!(2_909), &json!(2_909)), "{report:#}");
    assert_eq!(report["done"], "2026-11-23T04:54:32.4Z");

    let tell = async |what: &str| send(&api, Method::POST, &format!("{path}/{what}"), None).await;
    assert_eq!(tell("pause").await.1["code"], "wrong_state");
    assert_eq!(tell("start").await.1["state"], "running");
    assert_eq!(tell("stop").await.1["state"], "stopped");
    assert_eq!(tell("start").await.0, StatusCode::CONFLICT);
    assert_eq!(tell("dance").await.0, StatusCode::NOT_FOUND);
    let (_, shown) = send(&api, Method::GET, &path, None).await;
    assert_eq!(shown["contacts"], json!({ "ready": 2_909 }));
}

#[tokio::test]
async fn a_campaign_whose_window_never_opens_is_refused_with_the_reason() {
    let (_dir, api) = api(false).await;
    let windows = json!([{ "from": "02:00", "to": "03:00" }]);
    let settings = json!({ "script_id": "repayment-reminder-zh", "windows": windows });
    let (status, problem) =
        send(&api, Method::POST, "/v1/campaigns", Some(json!({"name": "Night", "settings": settings}))).await;
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("window_never_opens")));
}

#[tokio::test]
async fn only_a_box_fetches_blobs() {
    let (_dir, api) = api(false).await;
    let script = api.scripts.all()[0].version().clone();
    let path = format!("/box/v1/blobs/{script}");
    assert_eq!(send(&api, Method::GET, &path, None).await.0, StatusCode::UNAUTHORIZED);

    let peer = Peer {
        address: "127.0.0.1:1".parse().unwrap(),
        box_id: Some("tl-a".parse().unwrap()),
        serial: "1".into(),
        not_after: Timestamp::MAX,
    };
    let mut request = Request::builder().uri(&path).body(Body::empty()).unwrap();
    request.extensions_mut().insert(ConnectInfo(peer));
    let response = api.clone().router().oneshot(request).await.unwrap();
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    assert_eq!(sha256_hex(&bytes), script.as_str());
}

#[tokio::test]
async fn a_stream_tells_what_was_and_what_comes_and_goes_on_where_it_stopped() {
    let (_dir, api) = api(false).await;
    let (_, call) = send(&api, Method::POST, "/v1/calls", Some(sample(&api, "+8613800138000").await)).await;
    let id = call["id"].as_str().unwrap().to_owned();
    let read = async |last: &str| {
        let request = Request::builder()
            .uri(format!("/v1/calls/{id}/events"))
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("last-event-id", last)
            .body(Body::empty())
            .unwrap();
        let response = api.clone().router().oneshot(request).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let text = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let text = String::from_utf8(text.to_vec()).unwrap();
        let field = |name: &str| -> Vec<String> {
            text.lines().filter_map(|line| Some(line.strip_prefix(name)?.trim().to_owned())).collect()
        };
        (field("event:"), field("id:"))
    };
    let (all, _) = tokio::join!(read("0"), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        send(&api, Method::POST, &format!("/v1/calls/{id}/cancel"), None).await
    });
    assert_eq!(all.0, ["call.queued", "call.cancel", "call.ended"]);
    let rest = read(&all.1[0]).await;
    assert_eq!(rest.0, ["call.cancel", "call.ended"]);
}

#[tokio::test]
async fn every_described_address_is_served_and_answers_as_described() {
    let (_dir, mut api) = api(false).await;
    // Every address twice is more than a burst.
    api.config.rate.burst = 1_000;
    let (status, described) = send(&api, Method::GET, "/openapi.json", None).await;
    assert_eq!((status, &described["openapi"]), (StatusCode::OK, &json!("3.1.0")));
    for (path, methods) in described["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let at = path.replace("{id}", &Uuid::nil().to_string()).replace("{sha256}", &"0".repeat(64));
            let (status, _) = send(&api, method.clone(), &at, None).await;
            let code = status.as_u16().to_string();
            assert!(operation["responses"].get(&code).is_some(), "{method} {path} answered {code}");
            let known = send(&api, Method::TRACE, &at, None).await.0;
            assert_eq!(known, StatusCode::METHOD_NOT_ALLOWED, "{path} is not served");
        }
    }
    let required = &described["components"]["schemas"]["Call"]["properties"];
    let (_, call) = send(&api, Method::POST, "/v1/calls", Some(sample(&api, "+8613800138000").await)).await;
    let undescribed: Vec<&String> =
        call.as_object().unwrap().keys().filter(|key| required.get(key.as_str()).is_none()).collect();
    assert!(undescribed.is_empty(), "{undescribed:?}");
}
