//! A box in the field for days, from a seed that replays them: its own outbox and journal, the cloud's own tables, and between
//! them a link that is away for a day, brokers that change and deliver late, certificates that are renewed while events are
//! under way, clocks that step, and restarts of both. Nothing is lost, and nothing is there twice.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tempfile::TempDir;
use trunkline_db::{Db, Effect, Event};
use trunkline_link::{Outbox, Output};
use trunkline_model::BoxId;
use trunkline_store::OutboxStore;
use trunkline_wire::{Ack, Envelope, WIRE_VERSION, parse};
use uuid::Uuid;

const STEP: Duration = Duration::from_secs(10);
const DAY: u32 = 24 * 360;

fn the_box() -> BoxId {
    "tl-a".parse().unwrap()
}

/// A message that a broker holds, and when it hands it on.
struct Held {
    due: u32,
    payload: Vec<u8>,
}

struct World {
    rng: ChaCha8Rng,
    dir: TempDir,
    step: u32,
    mono: Instant,
    /// The box's own clock, which somebody or a dead battery sets.
    wall: Timestamp,
    store: Option<OutboxStore>,
    outbox: Outbox,
    sess: u64,
    linked: bool,
    appended: u64,
    /// What the broker that is in use holds, and what those before have not handed on yet.
    broker: Vec<Held>,
    old_brokers: Vec<Held>,
    /// Acknowledgements on their way to this connection.
    acks: Vec<Ack>,
    db: Option<Db>,
    late: u32,
}

impl World {
    async fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = OutboxStore::open(&dir.path().join("box")).unwrap();
        let outbox = Outbox::new(store.acked_upto(), store.next_seq() - 1);
        let db = Some(open(dir.path()).await);
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            dir,
            step: 0,
            mono: Instant::now(),
            wall: "2026-11-17T10:32:00Z".parse().unwrap(),
            store: Some(store),
            outbox,
            sess: 0,
            linked: false,
            appended: 0,
            broker: Vec::new(),
            old_brokers: Vec::new(),
            acks: Vec::new(),
            db,
            late: 0,
        }
    }

    fn store(&mut self) -> &mut OutboxStore {
        self.store.as_mut().unwrap()
    }

    /// Something happened in a call.
    fn append(&mut self) {
        let (sess, wall, seq) = (self.sess, self.wall, self.store().next_seq());
        let id = Uuid::from_u128(u128::from(self.rng.random::<u64>()) << 64 | u128::from(seq));
        let body = json!({ "n": seq });
        let (kind, trace) = ("audit.x".to_owned(), String::new());
        let envelope = Envelope {
            v: WIRE_VERSION,
            id,
            box_id: the_box(),
            sess,
            seq,
            ts: wall,
            mono: 0,
            kind,
            trace,
            body,
        };
        let now_ms = u64::try_from(wall.as_millisecond()).unwrap_or(0);
        let payload = serde_json::to_vec(&envelope).unwrap();
        assert_eq!(self.store().append(now_ms, &payload).unwrap(), seq);
        self.outbox.handle_appended(seq);
        self.appended = seq;
    }

    /// A new connection, with a session number above all before, whatever the clock says.
    fn link(&mut self) {
        let now_s = u64::try_from(self.wall.as_second()).unwrap_or(0);
        let sess = self.store().next_session(now_s).unwrap();
        assert!(sess > self.sess, "{sess} after {}", self.sess);
        self.sess = sess;
        self.linked = true;
        self.acks.clear();
        self.outbox.handle_connected();
    }

    /// The link breaks: acknowledgements that were under way are gone. A broker may still hand on what it took, later and
    /// also when another one is in use by then.
    fn unlink(&mut self) {
        self.linked = false;
        self.acks.clear();
        self.outbox.handle_disconnected();
        for mut held in std::mem::take(&mut self.broker) {
            if self.rng.random_bool(0.5) {
                held.due = self.step + self.rng.random_range(1..500);
                self.old_brokers.push(held);
            }
        }
    }

    fn restart_box(&mut self) {
        self.unlink();
        self.store = None;
        let store = OutboxStore::open(&self.dir.path().join("box")).unwrap();
        assert_eq!(store.next_seq(), self.appended + 1, "no number is given out twice");
        self.outbox = Outbox::new(store.acked_upto(), store.next_seq() - 1);
        self.store = Some(store);
    }

    async fn restart_cloud(&mut self) {
        self.acks.clear();
        self.db = None;
        self.db = Some(open(self.dir.path()).await);
    }

    /// The box sends what is due, the brokers hand on, the cloud commits and acknowledges.
    async fn turn(&mut self) {
        self.step += 1;
        self.mono += STEP;
        self.wall += SignedDuration::try_from(STEP).unwrap();
        for ack in std::mem::take(&mut self.acks) {
            self.outbox.handle_ack(&ack);
        }
        self.outbox.handle_timeout(self.mono);
        while let Some(output) = self.outbox.poll_output(self.mono) {
            match output {
                Output::Send(seq) => {
                    let record = self.store().read_from(seq, 1).unwrap().remove(0);
                    let due =
                        self.step + if self.rng.random_bool(0.2) { self.rng.random_range(1..40) } else { 0 };
                    self.broker.push(Held { due, payload: record.payload });
                }
                Output::Acknowledged(upto) => self.store().set_acked_upto(upto).unwrap(),
            }
        }
        let mut batch = due(&mut self.broker, self.step);
        let late = due(&mut self.old_brokers, self.step);
        self.late += u32::try_from(late.len()).unwrap();
        batch.extend(late);
        // Brokers promise "at least once".
        if !batch.is_empty() && self.rng.random_bool(0.1) {
            batch.push(batch[0].clone());
        }
        if batch.is_empty() {
            return;
        }
        let ingested = self.db.as_ref().unwrap().ingest(&batch, Timestamp::now()).await.unwrap();
        assert_eq!(ingested.conflicts, 0);
        for (_, ack) in ingested.acks {
            if self.linked && !self.rng.random_bool(0.1) {
                self.acks.push(ack);
            }
        }
    }

    /// A few hours in which anything may happen.
    async fn run(&mut self, steps: u32) {
        for _ in 0..steps {
            if self.rng.random_bool(0.1) {
                self.append();
            }
            match self.rng.random_range(0..2_000) {
                // The broker changes, or the certificate was renewed: the connection is made anew, at once.
                0..3 if self.linked => {
                    self.unlink();
                    self.link();
                }
                3 => self.restart_box(),
                4 => self.restart_cloud().await,
                // The battery is dead, somebody sets a year, or the time is learnt again.
                5 => self.wall = Timestamp::UNIX_EPOCH,
                6 => self.wall = "2031-01-01T00:00:00Z".parse().unwrap(),
                7 => self.wall = "2026-11-18T00:00:00Z".parse().unwrap(),
                8 => self.unlink(),
                9..40 if !self.linked => self.link(),
                _ => {}
            }
            self.turn().await;
        }
    }
}

async fn open(dir: &Path) -> Db {
    Db::open(&dir.join("cloud.sqlite")).await.unwrap()
}

fn due(held: &mut Vec<Held>, step: u32) -> Vec<Event> {
    let (now, later): (Vec<_>, Vec<_>) = std::mem::take(held).into_iter().partition(|one| one.due <= step);
    *held = later;
    now.iter().map(|one| event(&one.payload)).collect()
}

fn event(payload: &[u8]) -> Event {
    let read: Envelope<Value> = parse(payload).unwrap();
    Event {
        box_id: read.box_id,
        sess: read.sess,
        seq: read.seq,
        id: read.id,
        ts: read.ts,
        kind: read.kind,
        trace: read.trace,
        body: read.body.to_string(),
        effect: Effect::Unknown,
    }
}

#[tokio::test]
async fn days_with_a_day_without_a_link_lose_nothing_and_file_nothing_twice() {
    let mut late = 0;
    for seed in 0..6 {
        let mut world = World::new(seed).await;
        world.link();
        world.run(DAY / 4).await;
        // A day without a link, in which the box works on, is restarted, and its clock steps.
        world.unlink();
        let before = world.appended;
        for step in 0..DAY {
            match step {
                2_000 => world.restart_box(),
                3_000 => world.wall = Timestamp::UNIX_EPOCH,
                4_000 => world.restart_cloud().await,
                _ if world.rng.random_bool(0.05) => world.append(),
                _ => {}
            }
            world.turn().await;
        }
        assert!(world.appended > before + 300 && world.outbox.backlog() > 300, "SEED={seed}");
        world.run(DAY / 4).await;

        // The world heals.
        if !world.linked {
            world.link();
        }
        for _ in 0..300 {
            world.turn().await;
        }
        let counts = world.db.as_ref().unwrap().event_counts().await.unwrap();
        let stored = counts[&the_box()];
        assert!(
            stored.is_whole() && stored.events == world.appended,
            "SEED={seed}: {stored:?}, {}",
            world.appended
        );
        assert_eq!(world.store().acked_upto(), world.appended, "SEED={seed}");
        late += world.late;
    }
    assert!(late > 0, "no broker handed anything on late, which is part of the test");
}
