//! How fast campaigns become calls: the database, the gate with its receipts, the scheduler and the dispatcher as in the
//! product; boxes take and end their calls at once, and the broker counts what it is given.
//!
//! `cargo run -p trunkline-worker --example dispatch_bench -- 10000 100000 1000000`

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use trunkline_db::{Db, Effect, Event, NewContact};
use trunkline_model::{BoxId, CallId, Direction, Disposition, Outcome};
use trunkline_policy::Packs;
use trunkline_wire::{Birth, CallRecord, DialCommand, Envelope, parse};
use trunkline_worker::{
    Broker, BrokerError, Engine, Gate, GateSettings, Hub, Publication, Scripts, Wakers, WordLists, Worker,
    WorkerConfig,
};
use uuid::Uuid;

const BOXES: u32 = 200;
const LINES: u32 = 10;
const ROUNDS: u32 = 10;
const SCRIPT: &str = "repayment-reminder-zh";

/// Takes commands as boxes would, and remembers which call went to which box.
#[derive(Clone, Default)]
struct Boxes(Arc<Mutex<Vec<(CallId, BoxId)>>>);

impl Broker for Boxes {
    fn publish(&self, message: Publication) -> BoxFuture<'_, Result<usize, BrokerError>> {
        Box::pin(async move {
            if let Ok(command) = parse::<Envelope<DialCommand>>(&message.payload) {
                let mut taken = self.0.lock().map_err(|_| BrokerError::Refused("a box panicked".into()))?;
                taken.push((command.body.call, command.box_id));
            }
            Ok(1)
        })
    }

    fn kick<'a>(&'a self, _: &'a BoxId) -> BoxFuture<'a, usize> {
        Box::pin(async { 0 })
    }
}

fn main() -> Result<()> {
    let sizes: Vec<u32> = std::env::args().skip(1).map(|size| size.parse()).collect::<Result<_, _>>()?;
    ensure!(!sizes.is_empty(), "how many contacts? For example: 10000 100000 1000000");
    println!("{BOXES} boxes with {LINES} lines each, {ROUNDS} rounds in which every line gets a call.\n");
    println!(
        "| contacts | stored in | scheduling pass: median, worst | dispatch: median, worst | calls/s | filed in: median | memory |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for size in sizes {
        runtime.block_on(measure(size))?;
    }
    Ok(())
}

async fn measure(size: u32) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let db = Db::open(&dir.path().join("cloud.sqlite")).await?;
    // Ten in the morning, where the contacts are.
    let start: Timestamp = "2026-11-24T02:00:00Z".parse()?;
    let filling = Instant::now();
    fill(&db, size, start).await?;
    let filled = filling.elapsed();
    let boxes = Boxes::default();
    let worker = worker(db.clone(), boxes.clone()).await?;

    let (mut passes, mut dispatches, mut filings) = (Vec::new(), Vec::new(), Vec::new());
    let (mut calls, mut seqs) = (0, BTreeMap::new());
    for round in 0..ROUNDS {
        let now = start + SignedDuration::from_secs(10 * i64::from(round));
        loop {
            let (took, more) = timed(worker.campaigns(now)).await?;
            passes.push(took);
            if !more {
                break;
            }
        }
        dispatches.push(timed(worker.dispatch(now)).await?.0);
        let taken = std::mem::take(&mut *boxes.0.lock().map_err(|_| anyhow::anyhow!("a box panicked"))?);
        if taken.is_empty() {
            ensure!(calls == size as usize, "{calls} calls, then none: {:?}", db.contact_counts("c").await?);
            break;
        }
        calls += taken.len();
        let events: Vec<Event> = taken
            .iter()
            .map(|(call, by)| ended(*call, by, seqs.entry(by.clone()).or_insert(0), now))
            .collect::<Result<_>>()?;
        filings.push(timed(file(&db, &taken, &events, now)).await?.0);
    }
    let busy: Duration = passes.iter().chain(&dispatches).sum();
    println!(
        "| {size} | {:.1} s | {} | {} | {:.0} | {} ms | {:.0} MiB |",
        filled.as_secs_f64(),
        shown(&mut passes),
        shown(&mut dispatches),
        calls as f64 / busy.as_secs_f64(),
        middle(&mut filings).as_millis(),
        memory()?
    );
    ensure!(calls == size.min(ROUNDS * BOXES * LINES) as usize, "{calls} calls");
    db.close().await;
    Ok(())
}

async fn file(db: &Db, taken: &[(CallId, BoxId)], events: &[Event], now: Timestamp) -> Result<()> {
    for (taken, events) in taken.chunks(256).zip(events.chunks(256)) {
        db.accepted(taken, now).await?;
        db.ingest(events, now).await?;
    }
    Ok(())
}

async fn timed<T, E>(work: impl Future<Output = Result<T, E>>) -> Result<(Duration, T)>
where
    anyhow::Error: From<E>,
{
    let began = Instant::now();
    let done = work.await?;
    Ok((began.elapsed(), done))
}

async fn fill(db: &Db, size: u32, now: Timestamp) -> Result<()> {
    let variables = json!({ "org": "和顺银行", "amount": "1280.50", "due_date": "2026-11-20" });
    let settings = json!({ "script_id": SCRIPT, "variables": variables, "max_at_once": BOXES * LINES });
    db.create_campaign("c", "November", &settings, now).await?;
    let numbers: Vec<u32> = (0..size).collect();
    for some in numbers.chunks(5_000) {
        let contacts: Vec<NewContact> = some
            .iter()
            .map(|n| {
                Ok(NewContact {
                    callee: format!("+86138{:08}", 10_000_000 + n).parse()?,
                    variables: BTreeMap::from([("name".to_owned(), "王芳".to_owned())]),
                    facts: "{}".to_owned(),
                    external_id: Some(n.to_string()),
                    priority: 0,
                })
            })
            .collect::<Result<_>>()?;
        db.add_contacts("c", &contacts).await?;
    }
    ensure!(db.move_campaign("c", "draft", "running", "", now).await?, "the campaign does not start");
    for n in 0..BOXES {
        let birth: Birth = serde_json::from_value(json!({ "online": true, "sess": 1, "channels": LINES }))?;
        db.box_said(&format!("tl-{n:03}").parse()?, &birth, now).await?;
    }
    Ok(())
}

async fn worker(db: Db, boxes: Boxes) -> Result<Worker> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/scripts");
    let (scripts, engine) = (Arc::new(Scripts::read(&scripts)?), Arc::new(Engine::floor_only()));
    scripts.prepare(&db, &engine).await?;
    let settings = GateSettings {
        basis: Some(serde_json::from_value(json!({ "basis": "contract" }))?),
        retention_days: 365,
        subject_rights: true,
        audio_label: true,
        ..GateSettings::default()
    };
    Ok(Worker {
        db,
        scripts,
        engine,
        gate: Arc::new(Gate::new(Packs::shipped()?, settings)),
        words: Arc::new(WordLists::open(None)?),
        experiments: Arc::default(),
        generator: None,
        broker: Arc::new(boxes),
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
    })
}

fn ended(call: CallId, by: &BoxId, seq: &mut u64, now: Timestamp) -> Result<Event> {
    *seq += 1;
    let record: CallRecord = serde_json::from_value(json!({
        "call": call, "direction": Direction::Outbound,
        "script": { "id": SCRIPT, "version": "0".repeat(64) },
        "started": now, "answered": now, "ended": now, "disposition": Disposition::Completed,
        "outcome": Outcome { code: "agreed".to_owned(), label: "承诺还款".to_owned() },
    }))?;
    Ok(Event {
        box_id: by.clone(),
        sess: 1,
        seq: *seq,
        id: Uuid::now_v7(),
        ts: now,
        kind: "call.ended".into(),
        trace: String::new(),
        body: serde_json::to_string(&record)?,
        effect: Effect::Ended(Box::new(record)),
    })
}

fn middle(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn shown(times: &mut [Duration]) -> String {
    let middle = middle(times).as_millis();
    let worst = times.last().map_or(0, Duration::as_millis);
    format!("{middle}, {worst} ms")
}

/// The most memory that this process had, in MiB.
fn memory() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1_024.0)
}
