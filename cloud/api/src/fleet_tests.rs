//! Enrolment and configuration over HTTP, in process; `cloud/server` tests them with real boxes and TLS.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{Method, Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use rcgen::KeyPair;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;
use trunkline_fleet::alert::{Alert, Change, Kind};
use trunkline_fleet::enrol::{ClaimCode, Role};
use trunkline_policy::Packs;
use trunkline_worker::GateSettings;

use crate::auth::sha256_hex;
use crate::authority::tests::{authority, request};

use super::*;

async fn api() -> (TempDir, Api) {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(&dir.path().join("cloud.sqlite")).await.unwrap();
    let tokens = ["crm", "mei", "li"].map(|name| (name.to_owned(), sha256_hex(name.as_bytes())));
    db.replace_tokens(&tokens).await.unwrap();
    let roles = [("mei".to_owned(), Role::Branch), ("li".to_owned(), Role::FleetAdmin)];
    let fleet = Fleet {
        authority: Some(Arc::new(authority())),
        roles: Arc::new(roles.into()),
        repo: None,
        only_enrolled: true,
    };
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/scripts");
    let rate = Rate { per_second: 100.0, burst: 1_000 };
    let config =
        ApiConfig { not_after: Duration::from_secs(300), callbacks: false, allow_private: false, rate };
    let api = Api {
        db,
        scripts: Arc::new(Scripts::read(&scripts).unwrap()),
        engine: Arc::default(),
        words: Arc::default(),
        gate: Arc::new(Gate::new(Packs::shipped().unwrap(), GateSettings::default())),
        clock: noon,
        buckets: Buckets::default(),
        files: Arc::default(),
        hub: Hub::new(),
        wakers: Wakers::default(),
        fleet,
        config,
    };
    (dir, api)
}

fn noon() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

/// After the certificate's end, within its grace.
fn in_95_days() -> Timestamp {
    noon() + SignedDuration::from_hours(24 * 95)
}

async fn send(api: &Api, token: &str, method: Method, path: &str, body: Value) -> (u16, Value) {
    exchange(api, token, method, path, body, None).await
}

async fn exchange(
    api: &Api,
    token: &str,
    method: Method,
    path: &str,
    body: Value,
    peer: Option<Peer>,
) -> (u16, Value) {
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {token}"))
        .body(body)
        .unwrap();
    if let Some(peer) = peer {
        request.extensions_mut().insert(ConnectInfo(peer));
    }
    let response = api.clone().router().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

/// A box in a carton: its key and the code on its label.
struct Carton {
    key: KeyPair,
    code: ClaimCode,
    csr: Vec<u8>,
}

impl Carton {
    fn new(bits: u64) -> Self {
        let key = KeyPair::generate().unwrap();
        let csr = request(&key);
        Self { key, code: ClaimCode::from_random(bits), csr }
    }

    fn enrol(&self) -> Value {
        json!({ "csr": STANDARD.encode(&self.csr), "proof": self.code.proof(&self.csr).to_hex() })
    }

    fn id(&self) -> String {
        use rcgen::PublicKeyData;
        trunkline_trust::box_name(&self.key.subject_public_key_info())
    }

    fn peer(&self, serial: &str, not_after: Timestamp) -> Peer {
        Peer {
            address: "192.0.2.7:1".parse().unwrap(),
            box_id: Some(self.id().parse().unwrap()),
            serial: serial.into(),
            not_after,
        }
    }

    /// Joins with two people; returns the serial number of its certificate.
    async fn join(&self, api: &Api) -> String {
        assert_eq!(send(api, "", Method::POST, "/box/v1/enrol", self.enrol()).await.0, 202);
        let claim = json!({ "code": self.code.reveal(), "branch": "0451" });
        assert_eq!(send(api, "mei", Method::POST, "/v1/enrolments/claim", claim).await.0, 201);
        let path = format!("/v1/enrolments/{}/approve", self.id());
        let (status, issued) = send(api, "li", Method::POST, &path, Value::Null).await;
        assert_eq!((status, &issued["state"]), (200, &json!("issued")), "{issued}");
        issued["serial"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_box_joins_with_its_code_and_two_people_and_fetches_its_certificate() {
    let (_dir, api) = api().await;
    let carton = Carton::new(12_345);
    let (status, waiting) = send(&api, "", Method::POST, "/box/v1/enrol", carton.enrol()).await;
    assert_eq!((status, &waiting["state"]), (202, &json!("waiting")));
    assert_eq!(waiting["now"], "2026-11-23T12:00:00Z", "a box without a clock learns the time");

    let claim = json!({ "code": carton.code.reveal().to_lowercase(), "branch": "0451" });
    let (status, problem) = send(&api, "crm", Method::POST, "/v1/enrolments/claim", claim.clone()).await;
    assert_eq!((status, &problem["code"]), (403, &json!("no_role")));
    let (status, claimed) = send(&api, "mei", Method::POST, "/v1/enrolments/claim", claim.clone()).await;
    assert_eq!((status, &claimed["box"], &claimed["by"]), (201, &json!(carton.id()), &json!("mei")));
    let (status, problem) = send(&api, "mei", Method::POST, "/v1/enrolments/claim", claim).await;
    assert_eq!((status, &problem["code"]), (422, &json!("wrong_code")), "the code is spent");

    let approve = format!("/v1/enrolments/{}/approve", carton.id());
    let (status, problem) = send(&api, "mei", Method::POST, &approve, Value::Null).await;
    assert_eq!((status, &problem["code"]), (403, &json!("not_allowed")));
    let (status, issued) = send(&api, "li", Method::POST, &approve, Value::Null).await;
    assert_eq!((status, &issued["state"]), (200, &json!("issued")));
    assert_eq!(send(&api, "li", Method::POST, &approve, Value::Null).await.0, 409, "once");

    let (status, reply) = send(&api, "", Method::POST, "/box/v1/enrol", carton.enrol()).await;
    assert_eq!(status, 200);
    assert!(reply["certificate"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    let (_, shown) = send(&api, "crm", Method::GET, &format!("/v1/boxes/{}", carton.id()), Value::Null).await;
    assert_eq!(shown["enrolment"]["branch"], "0451");
    assert_eq!(shown["log"].as_array().unwrap().len(), 2, "{shown:#}");
}

#[tokio::test]
async fn nobody_approves_what_they_claimed_themselves() {
    let (_dir, api) = api().await;
    let carton = Carton::new(1);
    send(&api, "", Method::POST, "/box/v1/enrol", carton.enrol()).await;
    let claim = json!({ "code": carton.code.reveal(), "branch": "0451" });
    assert_eq!(send(&api, "li", Method::POST, "/v1/enrolments/claim", claim).await.0, 201);
    let path = format!("/v1/enrolments/{}/approve", carton.id());
    let (status, problem) = send(&api, "li", Method::POST, &path, Value::Null).await;
    assert_eq!((status, &problem["code"]), (403, &json!("second_person_needed")));
}

#[tokio::test]
async fn codes_cannot_be_guessed_and_requests_cannot_be_forged_or_replayed() {
    let (_dir, api) = api().await;
    // Whoever replays the request of a box that left gets nothing for it.
    let gone = Carton::new(7);
    let serial = gone.join(&api).await;
    let path = format!("/v1/boxes/{}/revoke", gone.id());
    assert_eq!(send(&api, "mei", Method::POST, &path, json!({"reason": "x"})).await.0, 403);
    assert_eq!(send(&api, "li", Method::POST, &path, json!({"reason": "stolen"})).await.0, 200);
    let (status, problem) = send(&api, "", Method::POST, "/box/v1/enrol", gone.enrol()).await;
    assert_eq!((status, &problem["code"]), (409, &json!("replayed")));
    let peer = gone.peer(&serial, Timestamp::MAX);
    let renew = json!({ "csr": STANDARD.encode(request(&gone.key)) });
    let (status, _) = exchange(&api, "", Method::POST, "/box/v1/renew", renew, Some(peer.clone())).await;
    assert_eq!(status, 409, "a revoked box does not renew itself");
    let blob = format!("/box/v1/blobs/{}", "0".repeat(64));
    assert_eq!(exchange(&api, "", Method::GET, &blob, Value::Null, Some(peer)).await.0, 401);

    let carton = Carton::new(99);
    send(&api, "", Method::POST, "/box/v1/enrol", carton.enrol()).await;
    for n in 0..5 {
        let guess = json!({ "code": ClaimCode::from_random(n).reveal(), "branch": "1" });
        let (status, problem) = send(&api, "mei", Method::POST, "/v1/enrolments/claim", guess).await;
        assert_eq!((status, &problem["code"]), (422, &json!("wrong_code")));
    }
    let right = json!({ "code": carton.code.reveal(), "branch": "1" });
    let (status, problem) = send(&api, "mei", Method::POST, "/v1/enrolments/claim", right).await;
    assert_eq!((status, &problem["code"]), (429, &json!("too_many_tries")));

    let mut forged = carton.csr.clone();
    *forged.last_mut().unwrap() ^= 1;
    let body = json!({ "csr": STANDARD.encode(&forged), "proof": carton.code.proof(&forged).to_hex() });
    let (status, problem) = send(&api, "", Method::POST, "/box/v1/enrol", body).await;
    assert_eq!((status, &problem["code"]), (422, &json!("bad_csr")));
}

#[tokio::test]
async fn an_expired_certificate_may_renew_itself_and_nothing_else() {
    let (_dir, mut api) = api().await;
    let carton = Carton::new(5);
    let serial = carton.join(&api).await;
    let until = noon() + SignedDuration::from_hours(24 * 90);
    let blob = format!("/box/v1/blobs/{}", "0".repeat(64));
    let fetch = async |api: &Api, serial: &str, until| {
        exchange(api, "", Method::GET, &blob, Value::Null, Some(carton.peer(serial, until))).await.0
    };
    assert_eq!(fetch(&api, &serial, until).await, 404, "it is let in");
    assert_eq!(fetch(&api, "1f", until).await, 401, "with a certificate that we did not sign for it");

    api.clock = in_95_days;
    assert_eq!(fetch(&api, &serial, until).await, 401);
    let renew = json!({ "csr": STANDARD.encode(request(&carton.key)) });
    let other = json!({ "csr": STANDARD.encode(request(&KeyPair::generate().unwrap())) });
    let ask = async |body: &Value, serial: &str| {
        let peer = Some(carton.peer(serial, until));
        exchange(&api, "", Method::POST, "/box/v1/renew", body.clone(), peer).await
    };
    assert_eq!(ask(&other, &serial).await.1["code"], "another_key");
    let (status, first) = ask(&renew, &serial).await;
    assert_eq!(status, 200, "{first}");
    let (status, again) = ask(&renew, &serial).await;
    assert_eq!((status, &again["certificate"]), (200, &first["certificate"]), "a lost answer is repeated");
    let (_, shown) = send(&api, "crm", Method::GET, &format!("/v1/boxes/{}", carton.id()), Value::Null).await;
    let newest = shown["enrolment"]["serial"].as_str().unwrap();
    assert_ne!(newest, serial);
    assert_eq!(fetch(&api, newest, Timestamp::MAX).await, 404);
}

#[tokio::test]
async fn what_a_box_should_be_has_versions_and_a_history() {
    let (_dir, api) = api().await;
    let path = "/v1/boxes/tl-a/desired";
    assert_eq!(send(&api, "mei", Method::PUT, path, json!({"name": "x"})).await.0, 403);
    let (status, first) = send(&api, "li", Method::PUT, path, json!({"name": "Branch 1"})).await;
    assert_eq!((status, &first["version"]), (200, &json!(1)), "{first}");
    let (_, same) = send(&api, "li", Method::PUT, path, json!({"name": "Branch 1"})).await;
    assert_eq!(same["version"], 1);
    let (_, second) = send(&api, "li", Method::PUT, path, json!({"name": "Branch 2"})).await;
    assert_eq!(second["version"], 2);
    for wrong in [json!([1]), json!({"a": 0.5})] {
        let (status, problem) = send(&api, "li", Method::PUT, path, wrong).await;
        assert_eq!((status, &problem["code"]), (422, &json!("malformed_document")));
    }
    let (_, history) = send(&api, "crm", Method::GET, "/v1/boxes/tl-a/history", Value::Null).await;
    let last = &history["changes"][1];
    assert_eq!((&last["by"], &last["changed"][0]["path"]), (&json!("li"), &json!("/name")));
    assert_eq!(
        (&last["changed"][0]["found"], &last["changed"][0]["wanted"]),
        (&json!("Branch 1"), &json!("Branch 2"))
    );
    let at = format!("{path}?at=2026-11-23T12:00:00Z");
    assert_eq!(send(&api, "crm", Method::GET, &at, Value::Null).await.1["document"]["version"], 2);
    let before = format!("{path}?at=2026-11-23T11:59:59Z");
    assert_eq!(send(&api, "crm", Method::GET, &before, Value::Null).await.0, 404);
    assert_eq!(send(&api, "crm", Method::GET, &format!("{path}?at=noon"), Value::Null).await.0, 422);
}

#[tokio::test]
async fn a_rollout_needs_a_repository_and_a_role() {
    let (_dir, api) = api().await;
    let body = json!({ "release": "app-1.0.0.json" });
    assert_eq!(send(&api, "mei", Method::POST, "/v1/rollouts", body.clone()).await.0, 403);
    let (status, problem) = send(&api, "li", Method::POST, "/v1/rollouts", body).await;
    assert_eq!((status, &problem["code"]), (501, &json!("not_set_up")));
    let listed = send(&api, "crm", Method::GET, "/v1/rollouts", Value::Null).await;
    assert_eq!(listed, (StatusCode::OK.as_u16(), json!({ "rollouts": [] })));
    assert_eq!(send(&api, "li", Method::POST, "/v1/rollouts/none/pause", Value::Null).await.0, 404);
}

#[tokio::test]
async fn prometheus_sees_how_many_boxes_are_how_and_no_names() {
    let (_dir, api) = api().await;
    let carton = Carton::new(3);
    carton.join(&api).await;
    let report = serde_json::from_value(json!({"components": [{"component": "app", "stage": "committed"}]}));
    api.db.save_reported(&carton.id().parse().unwrap(), &report.unwrap(), noon()).await.unwrap();
    let request = Request::builder().uri("/metrics").header("authorization", "Bearer crm");
    let response = api.clone().router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    for line in [
        "trunkline_boxes{state=\"issued\"} 1",
        "trunkline_boxes_reporting{state=\"heard\"} 1",
        "trunkline_updates{stage=\"committed\"} 1",
        "trunkline_rollouts{phase=\"paused\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(!text.contains(&carton.id()));
    assert_eq!(send(&api, "", Method::GET, "/metrics", Value::Null).await.0, 401);
    // What is drawn and what there is are the same.
    let drawn = include_str!("../../../deploy/grafana/fleet.json").to_owned()
        + include_str!("../../../deploy/grafana/alerts.yml");
    let names = |text: &str| -> BTreeSet<String> {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        words.filter(|word| word.starts_with("trunkline_")).map(str::to_owned).collect()
    };
    assert_eq!(names(&drawn), names(&text));
}

#[tokio::test]
async fn an_alert_is_listed_silenced_by_those_who_may_and_then_counts_no_more() {
    let (_dir, api) = api().await;
    let alert = Alert {
        id: "tl-a".parse().unwrap(),
        kind: Kind::DiskLow,
        about: String::new(),
        detail: "400 of 30000 MiB are free".into(),
        first: noon(),
        last: noon(),
        raised: Some(noon()),
        cleared: None,
    };
    api.db.change_alerts(&[Change::Raised(alert)], noon()).await.unwrap();
    let (status, listed) = send(&api, "crm", Method::GET, "/v1/alerts", Value::Null).await;
    let shown = &listed["alerts"][0];
    assert_eq!((status, &shown["kind"], &shown["box"]), (200, &json!("disk_low"), &json!("tl-a")));
    let path = format!("/v1/alerts/{}/silence", shown["id"]);
    let silence = async |who: &str, path: &str, hours: u32| {
        send(&api, who, Method::POST, path, json!({ "hours": hours })).await.0
    };
    assert_eq!(silence("mei", &path, 8).await, 403);
    assert_eq!(silence("li", &path, 0).await, 422);
    assert_eq!(silence("li", "/v1/alerts/99/silence", 8).await, 404);
    assert_eq!(silence("li", "/v1/alerts/x/silence", 8).await, 404);
    let counted = async || {
        let request = Request::builder().uri("/metrics").header("authorization", "Bearer crm");
        let response = api.clone().router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let text = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        String::from_utf8_lossy(&text).contains("trunkline_alerts{kind=\"disk_low\"} 1")
    };
    assert!(counted().await);
    assert_eq!(silence("li", &path, 8).await, 200);
    assert!(!counted().await);
    let (_, listed) = send(&api, "crm", Method::GET, "/v1/alerts?all=true", Value::Null).await;
    assert_eq!(listed["alerts"][0]["silent_by"], "li");
}
