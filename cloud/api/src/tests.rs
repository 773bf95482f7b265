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
use trunkline_wire::CallRecord;
use uuid::Uuid;

use crate::auth::sha256_hex;

use super::*;

const TOKEN: &str = "secret";

async fn api(callbacks: bool) -> (TempDir, Api) {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(&dir.path().join("cloud.sqlite")).await.unwrap();
    db.replace_tokens(&[("crm".into(), sha256_hex(TOKEN.as_bytes()))]).await.unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/scripts");
    let scripts = Arc::new(Scripts::read(&folder).unwrap());
    for script in scripts.all() {
        db.save_script(script.id(), script.version(), script.canonical(), Timestamp::now()).await.unwrap();
    }
    let config = ApiConfig { not_after: Duration::from_secs(300), callbacks, allow_private: false };
    let api = Api { db, scripts, hub: Hub::new(), wakers: Wakers::default(), config };
    (dir, api)
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
async fn only_a_box_fetches_blobs() {
    let (_dir, api) = api(false).await;
    let script = api.scripts.all().next().unwrap().version().clone();
    let path = format!("/box/v1/blobs/{script}");
    assert_eq!(send(&api, Method::GET, &path, None).await.0, StatusCode::UNAUTHORIZED);

    let peer = Peer { address: "127.0.0.1:1".parse().unwrap(), box_id: Some("tl-a".parse().unwrap()) };
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
    let (_dir, api) = api(false).await;
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
