//! The figures, and the governor over a real database.

use std::path::Path;

use trunkline_db::{ContactFate, Effect, Event, JudgedContact, NewCall, NewContact};
use trunkline_model::{BoxId, CallId};
use trunkline_policy::receipt::{Body, Inputs, Stage};
use trunkline_policy::{Decision, Packs, Verdict};
use trunkline_wire::{CallProgress, CallRecord, HANDING_OVER, ProgressStage, ScriptRef, TransferRecord};
use uuid::Uuid;

use super::*;
use crate::GateSettings;

#[test]
fn a_fraction_of_a_call_a_second_is_kept_over_ten_seconds() {
    assert_eq!([starts(0.2, 0), starts(0.2, 1), starts(0.2, 2)], [1, 1, 0]);
    assert_eq!([starts(5.0, 0), starts(5.0, 48), starts(5.0, 60)], [5, 2, 0]);
}

#[test]
fn a_pool_is_good_for_what_its_numbers_have_left() {
    let now = Timestamp::from_second(1_763_863_200).unwrap();
    let numbers = ["+12125550100", "+13125550100"].map(|number| number.parse().unwrap()).to_vec();
    let pool = Pool { numbers, per_day: 10, rest_s: 0, local_presence: false };
    let wear = [Wear { calls: 8, last: Some(now) }, Wear::default()];
    assert_eq!(left(&pool, &wear, now), 12);
    assert_eq!(left(&Pool { rest_s: 30, ..pool }, &wear, now), 1);
}

#[test]
fn rates_come_from_the_last_calls_and_a_guess_weighs_as_a_few() {
    let people = People { agents: 5, group: String::new(), talk_s: 120, wrap_s: 15 };
    let nothing = scene(&people, &CampaignSums::default(), &CampaignSums::default());
    assert_eq!((nothing.p_answer, nothing.p_transfer, nothing.handle_s), (0.3, 0.5, 135.0));
    let hour = CampaignSums {
        tried: 1_000,
        answered: 200,
        handovers: 20,
        handled: 20,
        handled_ms: 20 * 60_000,
        until_ms: 20 * 30_000,
        ..CampaignSums::default()
    };
    let seen = scene(&people, &hour, &hour);
    assert!((seen.p_answer - 0.2).abs() < 0.01 && (seen.p_transfer - 0.1).abs() < 0.02, "{seen:?}");
    assert!((60.0..90.0).contains(&seen.handle_s) && (29.0..35.0).contains(&seen.until_s), "{seen:?}");
}

fn receipt(call: CallId, at: Timestamp) -> Body {
    let inputs = Inputs {
        script: String::new(),
        purpose: String::new(),
        line: None,
        attempts: 0,
        caller_id: None,
        shown: String::new(),
        asked: None,
    };
    let decision = Decision { at, verdict: Verdict::Allow, packs: Vec::new(), checks: Vec::new() };
    Body { call, stage: Stage::Request, inputs, decision, anchor: None }
}

const CAMPAIGN: &str = "cmp_1";

/// A campaign that calls people in the United States, where 3 % may be abandoned, with its database.
struct Desk {
    _dir: tempfile::TempDir,
    db: Db,
    gate: Gate,
    settings: CampaignSettings,
    seq: u64,
    calls: u128,
}

fn t0() -> Timestamp {
    "2026-11-23T15:00:00Z".parse().unwrap()
}

fn after(minutes: i64) -> Timestamp {
    t0() + SignedDuration::from_mins(minutes)
}

impl Desk {
    async fn new(mode: &str, agents: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&Path::new(dir.path()).join("cloud.sqlite")).await.unwrap();
        let settings = serde_json::json!({
            "script_id": "demo", "mode": mode, "people": { "agents": agents, "group": "desk" },
        });
        db.create_campaign(CAMPAIGN, "Desk", &settings, t0()).await.unwrap();
        db.move_campaign(CAMPAIGN, "draft", "running", "", t0()).await.unwrap();
        let contacts: Vec<NewContact> = (0..400)
            .map(|n| NewContact {
                callee: format!("+1212555{n:04}").parse().unwrap(),
                variables: BTreeMap::new(),
                facts: "{}".into(),
                external_id: None,
                priority: 0,
            })
            .collect();
        db.add_contacts(CAMPAIGN, &contacts).await.unwrap();
        let gate = Gate::new(Packs::shipped().unwrap(), GateSettings::default());
        let settings = serde_json::from_value(settings).unwrap();
        Self { _dir: dir, db, gate, settings, seq: 0, calls: 0 }
    }

    /// What a pass at this instant decides, with 100 free lines.
    async fn pass(&self, now: Timestamp) -> Pacing {
        let row = self.db.campaign(CAMPAIGN).await.unwrap().unwrap();
        let due = self.db.ready_contacts(CAMPAIGN, now, 200).await.unwrap();
        let subject = Subject {
            campaign: CAMPAIGN,
            settings: &self.settings,
            before: &row.pacing,
            due: &due,
            calling: 0,
            lines: 100,
        };
        let decided = subject.decide(&self.db, &self.gate, None, &mut InPass::new(), now).await.unwrap();
        self.db.set_pacing(CAMPAIGN, &serde_json::to_value(&decided).unwrap()).await.unwrap();
        decided
    }

    /// Begins calls that a box carries.
    async fn begin(&mut self, calls: usize, now: Timestamp) -> Vec<CallId> {
        let mut begun = Vec::new();
        for contact in self.db.ready_contacts(CAMPAIGN, now, u32::try_from(calls).unwrap()).await.unwrap() {
            self.calls += 1;
            let call = NewCall {
                id: CallId::from_u128(self.calls),
                callee: contact.callee.clone(),
                caller_id: None,
                script: script(),
                variables: BTreeMap::new(),
                external_id: None,
                callback_url: None,
                not_before: now,
                not_after: now + SignedDuration::from_mins(1),
                facts: "{}".into(),
                priority: 0,
                campaign: Some((CAMPAIGN.to_owned(), contact.n)),
                trace: String::new(),
                idempotency: None,
            };
            let id = call.id;
            let judged = JudgedContact {
                n: contact.n,
                receipt: receipt(id, now),
                fate: ContactFate::Starts(Box::new(call)),
            };
            assert_eq!(self.db.file_contacts(CAMPAIGN, &[judged], now).await.unwrap(), [true]);
            assert!(self.db.assign(id, &the_box(), now).await.unwrap());
            begun.push(id);
        }
        assert_eq!(begun.len(), calls);
        begun
    }

    async fn tell(&mut self, effects: Vec<Effect>, at: Timestamp) {
        let events: Vec<Event> = effects
            .into_iter()
            .map(|effect| {
                self.seq += 1;
                Event {
                    box_id: the_box(),
                    sess: 1,
                    seq: self.seq,
                    id: Uuid::from_u128(u128::from(self.seq)),
                    ts: at,
                    kind: "test".into(),
                    trace: String::new(),
                    body: self.seq.to_string(),
                    effect,
                }
            })
            .collect();
        self.db.ingest(&events, at).await.unwrap();
    }

    /// Ends calls that were answered; with a fate they were handed over, and that became of it.
    async fn end(&mut self, calls: &[CallId], fate: Option<&str>, at: Timestamp) {
        let ended = calls.iter().map(|call| Effect::Ended(Box::new(record(*call, fate, at)))).collect();
        self.tell(ended, at).await;
    }
}

fn the_box() -> BoxId {
    "tl-a".parse().unwrap()
}

fn script() -> ScriptRef {
    ScriptRef { id: "demo".parse().unwrap(), version: "0".repeat(64).parse().unwrap() }
}

fn record(call: CallId, fate: Option<&str>, ended: Timestamp) -> CallRecord {
    let before = |s| ended - SignedDuration::from_secs(s);
    let transfer = |fate: &str| TransferRecord {
        to: "desk".into(),
        how: "bridge".into(),
        fate: fate.into(),
        sip_code: None,
        took_ms: 20_000,
        who: String::new(),
    };
    let value = serde_json::json!({
        "call": call, "script": script(), "started": before(60), "answered": before(50), "ended": ended,
        "disposition": "completed",
        "turns": [{"turn": 0, "decision": {"node": "open"}, "robot": [{"text": "Hello", "start_s": 0.2, "heard": 1.0}]}],
    });
    let record: CallRecord = serde_json::from_value(value).unwrap();
    CallRecord { transfers: fate.map(transfer).into_iter().collect(), ..record }
}

#[tokio::test]
async fn the_governor_makes_careful_stops_and_lets_go_as_the_rate_of_the_record_says() {
    let mut desk = Desk::new("predictive", 10).await;
    let begun = desk.begin(120, t0()).await;
    let (talked, handed) = begun.split_at(90);
    desk.end(talked, None, after(1)).await;
    desk.end(&handed[..1], Some("no_answer"), after(1)).await;
    desk.end(&handed[1..], Some("done"), after(2)).await;
    // One of 120 is below the cap: it is bold.
    let bold = desk.pass(after(5)).await;
    let people = bold.people.as_ref().unwrap();
    assert_eq!((people.cap, people.abandonment, people.careful), (0.03, 0.0083, false), "{bold:?}");
    assert!(bold.allowed > 10, "more calls than people: {bold:?}");
    assert!(people.answer_rate > 0.8 && (0.2..0.35).contains(&people.transfer_rate), "{bold:?}");

    // Three of 122: above 0.8 of the cap each call has its person.
    let two = desk.begin(2, after(6)).await;
    desk.end(&two, Some("busy"), after(7)).await;
    let careful = desk.pass(after(8)).await;
    assert_eq!((careful.allowed, careful.reason), (10, Held::Abandonment), "{careful:?}");
    // Four of 123: above it nothing starts, and it says why.
    let one = desk.begin(1, after(9)).await;
    desk.end(&one, Some("no_answer"), after(10)).await;
    let stopped = desk.pass(after(11)).await;
    assert_eq!((stopped.allowed, stopped.reason), (0, Held::AbandonmentCap), "{stopped:?}");
    assert!(stopped.why.contains("3.25 %") && stopped.why.contains("3.00 %"), "{}", stopped.why);

    // Calls that were under way end well and bring the rate down, but not far enough to be bold at once.
    let more = desk.begin(40, after(12)).await;
    desk.end(&more, Some("done"), after(13)).await;
    let careful = desk.pass(after(20)).await;
    assert_eq!(careful.reason, Held::Abandonment, "{careful:?}");
    assert_eq!(careful.allowed, 10);
    let more = desk.begin(80, after(20)).await;
    desk.end(&more, None, after(21)).await;
    let free = desk.pass(after(25)).await;
    assert!(free.allowed > 10 && !free.people.as_ref().unwrap().careful, "{free:?}");

    // The day is over, but the pack's window of 30 days still counts.
    let next = desk.pass(after(26 * 60)).await;
    assert!((next.people.unwrap().abandonment - 4.0 / 243.0).abs() < 1e-3);
    assert_eq!(desk.pass(after(32 * 24 * 60)).await.people.unwrap().abandonment, 0.0);
}

#[tokio::test]
async fn people_who_have_a_call_or_write_up_are_not_free_and_a_group_is_shared() {
    let mut desk = Desk::new("progressive", 5).await;
    assert_eq!(desk.pass(t0()).await.allowed, 5);
    let begun = desk.begin(3, t0()).await;
    assert_eq!(desk.pass(t0()).await.allowed, 2, "each call has its person");
    let answered = |call: &CallId, detail: &str| {
        Effect::Progress(CallProgress { call: *call, stage: ProgressStage::Answered, detail: detail.into() })
    };
    desk.tell(vec![answered(&begun[0], ""), answered(&begun[1], HANDING_OVER)], after(1)).await;
    let seen = desk.pass(after(1)).await;
    let people = seen.people.unwrap();
    assert_eq!((people.busy, people.ringing, people.talking, seen.allowed), (1, 1, 1, 2));
    desk.end(&begun[1..2], Some("done"), after(2)).await;
    assert_eq!(desk.pass(after(2)).await.people.unwrap().busy, 1, "she writes up");
    assert_eq!(desk.pass(after(3)).await.people.unwrap().busy, 0);

    // Another campaign of the group needs the same people.
    desk.db
        .create_campaign("cmp_2", "Other", &serde_json::to_value(&desk.settings).unwrap(), t0())
        .await
        .unwrap();
    let shared = desk.db.campaigns_of_people("desk").await.unwrap();
    assert_eq!(shared, [CAMPAIGN, "cmp_2"]);
    assert_eq!(desk.db.set_agents((CAMPAIGN, "desk"), 9, after(3)).await.unwrap(), 2);
}

#[tokio::test]
async fn where_nobody_takes_the_calls_it_pauses_until_somebody_says_who_is_there() {
    let mut desk = Desk::new("predictive", 5).await;
    let begun = desk.begin(3, t0()).await;
    desk.end(&begun, Some("no_answer"), after(1)).await;
    let stopped = desk.pass(after(2)).await;
    assert_eq!((stopped.allowed, stopped.reason), (0, Held::NobodyTakesCalls), "{stopped:?}");
    assert_eq!(desk.pass(after(11)).await.allowed, 1, "one is tried");
    desk.db.set_agents((CAMPAIGN, "desk"), 5, after(3)).await.unwrap();
    let again = desk.pass(after(4)).await;
    assert_eq!(
        (again.allowed, again.reason),
        (5, Held::Abandonment),
        "careful, for three of three: {again:?}"
    );
}
