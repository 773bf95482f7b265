//! The dispatcher over a database, with boxes that only listen.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use trunkline_db::{Db, NewCall};
use trunkline_model::{BoxId, CallId};
use trunkline_policy::Packs;
use trunkline_wire::{Birth, DialCommand, Envelope, ScriptRef, parse};
use trunkline_worker::{
    Broker, BrokerError, ContactFacts, Engine, Gate, GateSettings, Hub, Publication, Scripts, Wakers,
    WordLists, Worker, WorkerConfig,
};

/// Remembers which call went to which box.
#[derive(Clone, Default)]
struct Boxes(Arc<Mutex<Vec<(CallId, String)>>>);

impl Broker for Boxes {
    fn publish(&self, message: Publication) -> BoxFuture<'_, Result<usize, BrokerError>> {
        Box::pin(async move {
            let command = parse::<Envelope<DialCommand>>(&message.payload).unwrap();
            self.0.lock().unwrap().push((command.body.call, command.box_id.to_string()));
            Ok(1)
        })
    }

    fn kick<'a>(&'a self, _: &'a BoxId) -> BoxFuture<'a, usize> {
        Box::pin(async { 0 })
    }
}

async fn worker(db: &Db, boxes: &Boxes) -> Worker {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/scripts");
    let (scripts, engine) = (Arc::new(Scripts::read(&scripts).unwrap()), Arc::new(Engine::floor_only()));
    scripts.prepare(db, &engine).await.unwrap();
    let settings = GateSettings {
        basis: Some(serde_json::from_value(json!({ "basis": "contract" })).unwrap()),
        retention_days: 365,
        subject_rights: true,
        audio_label: true,
        ..GateSettings::default()
    };
    Worker {
        db: db.clone(),
        scripts,
        engine,
        gate: Arc::new(Gate::new(Packs::shipped().unwrap(), settings)),
        words: Arc::new(WordLists::open(None).unwrap()),
        experiments: Arc::default(),
        generator: None,
        broker: Arc::new(boxes.clone()),
        hub: Hub::new(),
        wakers: Wakers::default(),
        fleet: None,
        config: WorkerConfig {
            lost_after: Duration::from_secs(120),
            ring: Duration::from_secs(30),
            shared_state: None,
            listen_share: 0.0,
            callbacks: None,
        },
    }
}

async fn born(db: &Db, id: &str, channels: u32, now: Timestamp) {
    let birth: Birth =
        serde_json::from_value(json!({ "online": true, "sess": 1, "channels": channels })).unwrap();
    db.box_said(&id.parse().unwrap(), &birth, now).await.unwrap();
}

#[tokio::test]
async fn calls_that_wait_for_a_full_box_hold_up_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(&dir.path().join("cloud.sqlite")).await.unwrap();
    // Ten in the morning, where the contacts are.
    let now: Timestamp = "2026-11-24T02:00:00Z".parse().unwrap();
    let boxes = Boxes::default();
    let worker = worker(&db, &boxes).await;
    born(&db, "a", 0, now).await;
    born(&db, "b", 9, now).await;
    let script = worker.scripts.current(&"repayment-reminder-zh".parse().unwrap()).unwrap();
    let add_to = async |n: u32, callee: String, only: &[&str]| {
        let facts = ContactFacts {
            boxes: only.iter().map(|id| (*id).to_owned()).collect(),
            ..ContactFacts::default()
        };
        let variables =
            [("org", "和顺银行"), ("name", "王芳"), ("amount", "1280.50"), ("due_date", "2026-11-20")];
        let call = NewCall {
            id: CallId::from_u128(n.into()),
            callee: callee.parse().unwrap(),
            caller_id: None,
            script: ScriptRef { id: script.id().clone(), version: script.version().clone() },
            variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            external_id: None,
            callback_url: None,
            not_before: now,
            not_after: now + SignedDuration::from_secs(60),
            facts: facts.to_json(),
            priority: 0,
            campaign: None,
            trace: String::new(),
            idempotency: None,
        };
        db.create_call(&call, now).await.unwrap();
    };
    let add = async |n: u32, only: &[&str]| {
        add_to(n, format!("+86138{:08}", 10_000_000 + n), only).await;
    };
    // More than are looked at together, and all before the others.
    for n in 1..=260 {
        add(n, &["a/trunk"]).await;
    }
    add(301, &["b"]).await;
    add(302, &[]).await;
    add(303, &["a", "b/trunk"]).await;

    worker.dispatch(now).await.unwrap();

    let given: BTreeMap<CallId, String> = boxes.0.lock().unwrap().drain(..).collect();
    let expected = [301, 302, 303].map(|n| (CallId::from_u128(n), "b".to_owned()));
    assert_eq!(given, BTreeMap::from(expected));

    // The box has room again: those that waited longest go first.
    born(&db, "a", 2, now).await;
    worker.dispatch(now).await.unwrap();
    let given: BTreeMap<CallId, String> = boxes.0.lock().unwrap().drain(..).collect();
    assert_eq!(given, BTreeMap::from([1, 2].map(|n| (CallId::from_u128(n), "a".to_owned()))));
}
