//! The dispatcher over a database, with boxes that only listen.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use trunkline_db::{Db, NewCall};
use trunkline_model::{BoxId, CallId, Disposition};
use trunkline_policy::{Did, NumberClass, Packs};
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

const OURS: &str = "+862155550100";
const THEIRS: &str = "+862155550200";

/// A number that may be shown.
fn ours(number: &str) -> Did {
    Did {
        number: number.parse().unwrap(),
        proof: Some("contract".into()),
        reachable: true,
        class: NumberClass::Geographic,
        inbound_only: false,
        calls_today: 0,
        answer_rate: None,
        complaints: 0,
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
        caller_ids: [OURS, THEIRS].map(ours).into(),
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

async fn born(db: &Db, id: &str, channels: u32, trunks: Value, now: Timestamp) {
    let birth = json!({ "online": true, "sess": 1, "channels": channels, "trunks": trunks });
    let birth: Birth = serde_json::from_value(birth).unwrap();
    db.box_said(&id.parse().unwrap(), &birth, now).await.unwrap();
}

/// A call that waits for a box.
async fn queue(
    worker: &Worker,
    id: u32,
    callee: &str,
    caller_id: Option<&str>,
    only: &[&str],
    now: Timestamp,
) {
    let script = worker.scripts.current(&"repayment-reminder-zh".parse().unwrap()).unwrap();
    let facts =
        ContactFacts { boxes: only.iter().map(|id| (*id).to_owned()).collect(), ..ContactFacts::default() };
    let variables =
        [("org", "和顺银行"), ("name", "王芳"), ("amount", "1280.50"), ("due_date", "2026-11-20")];
    let call = NewCall {
        id: CallId::from_u128(id.into()),
        callee: callee.parse().unwrap(),
        caller_id: caller_id.map(|number| number.parse().unwrap()),
        script: ScriptRef { id: script.id().clone(), version: script.version().clone() },
        variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        external_id: None,
        callback_url: None,
        not_before: now,
        not_after: now + SignedDuration::from_secs(90),
        facts: facts.to_json(),
        priority: 0,
        campaign: None,
        trace: String::new(),
        idempotency: None,
    };
    worker.db.create_call(&call, now).await.unwrap();
}

/// Which calls went where since it was last asked.
fn given(boxes: &Boxes) -> BTreeMap<CallId, String> {
    boxes.0.lock().unwrap().drain(..).collect()
}

fn to<const N: usize>(expected: [(u128, &str); N]) -> BTreeMap<CallId, String> {
    expected.map(|(n, on)| (CallId::from_u128(n), on.to_owned())).into()
}

/// Ten in the morning, where the contacts are.
const MORNING: &str = "2026-11-24T02:00:00Z";

#[tokio::test]
async fn calls_that_wait_for_a_full_box_hold_up_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(&dir.path().join("cloud.sqlite")).await.unwrap();
    let now: Timestamp = MORNING.parse().unwrap();
    let boxes = Boxes::default();
    let worker = worker(&db, &boxes).await;
    born(&db, "a", 0, json!([]), now).await;
    born(&db, "b", 9, json!([]), now).await;
    let add = async |n: u32, only: &[&str]| {
        queue(&worker, n, &format!("+86138{:08}", 10_000_000 + n), None, only, now).await;
    };
    // More than are looked at together, and all before the others.
    for n in 1..=260 {
        add(n, &["a/trunk"]).await;
    }
    add(301, &["b"]).await;
    add(302, &[]).await;
    add(303, &["a", "b/trunk"]).await;

    worker.dispatch(now).await.unwrap();
    assert_eq!(given(&boxes), to([(301, "b"), (302, "b"), (303, "b")]));

    // The box has room again: those that waited longest go first.
    born(&db, "a", 2, json!([]), now).await;
    worker.dispatch(now).await.unwrap();
    assert_eq!(given(&boxes), to([(1, "a"), (2, "a")]));
}

#[tokio::test]
async fn calls_go_to_boxes_whose_lines_may_carry_them_and_the_others_hold_up_nobody_and_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(&dir.path().join("cloud.sqlite")).await.unwrap();
    let now: Timestamp = MORNING.parse().unwrap();
    let boxes = Boxes::default();
    let worker = worker(&db, &boxes).await;
    let line = |name: &str, shows: &str, serves: &str| json!({ "name": name, "up": true, "channels": 300, "caller_ids": [shows], "serves": [serves] });
    born(&db, "a", 300, json!([line("one", OURS, "+86138")]), now).await;
    let modem = json!({ "name": "sim", "up": true, "kind": "gsm", "serves": ["+86137"] });
    born(&db, "b", 300, json!([line("two", THEIRS, "+86139"), modem]), now).await;

    // More than are looked at together, and all before the others.
    for n in 1..=260 {
        queue(&worker, n, &format!("+86138{:08}", 10_000_000 + n), Some(THEIRS), &[], now).await;
    }
    queue(&worker, 301, "+8613800000301", Some(OURS), &[], now).await;
    queue(&worker, 302, "+8613900000302", Some(THEIRS), &[], now).await;
    queue(&worker, 303, "+8613900000303", None, &[], now).await;
    queue(&worker, 304, "+8613900000304", None, &["a"], now).await;
    queue(&worker, 305, "+8613600000305", None, &[], now).await;
    queue(&worker, 306, "+8613700000306", None, &[], now).await;
    queue(&worker, 307, "+8613700000307", Some(THEIRS), &[], now).await;
    worker.dispatch(now).await.unwrap();
    let first = to([(301, "a"), (302, "b"), (303, "b"), (306, "b")]);
    assert_eq!(given(&boxes), first);

    // A line for some of them comes, and within a minute they are looked at again.
    let lines = json!([line("one", OURS, "+86138"), line("more", THEIRS, "+86138")]);
    let later = now + SignedDuration::from_secs(61);
    born(&db, "a", 3, lines, later).await;
    worker.dispatch(later).await.unwrap();
    let news = given(&boxes).into_iter().filter(|(id, _)| !first.contains_key(id));
    assert_eq!(news.collect::<BTreeMap<_, _>>(), to([(1, "a"), (2, "a")]), "the rest is repeated");

    worker.dispatch(now + SignedDuration::from_secs(91)).await.unwrap();
    for (n, why) in [(304, "no_line_serves"), (305, "no_line_serves"), (307, "no_line_shows")] {
        let call = db.call(CallId::from_u128(n)).await.unwrap().unwrap();
        assert_eq!((call.disposition, call.cause.as_str()), (Some(Disposition::Expired), why), "{n}");
    }
}
