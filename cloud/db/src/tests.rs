//! Shared promises of the tables: counted once, in order, nothing acknowledged that is not there.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sqlx::Row;
use tempfile::TempDir;
use trunkline_model::{BoxId, CallId, Callee, Disposition};
use trunkline_policy::receipt::{Body, Inputs, Stage};
use trunkline_policy::{Decision, OptOut, OptOutScope, Verdict};
use trunkline_wire::{Ack, Birth, CallProgress, CallRecord, ProgressStage, RobotTurn, ScriptRef, TurnReply};
use uuid::Uuid;

use crate::{
    AttemptResult, CallFate, CallStatus, Cancelled, ContactFate, Created, Db, Effect, Event, JudgedCall,
    JudgedContact, NewCall, NewContact, NewSuppression, Resend,
};

fn t0() -> Timestamp {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

fn after(seconds: i64) -> Timestamp {
    t0() + SignedDuration::from_secs(seconds)
}

fn the_box() -> BoxId {
    "tl-a".parse().unwrap()
}

async fn open() -> (TempDir, Db) {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(&dir.path().join("cloud.sqlite")).await.unwrap();
    (dir, db)
}

fn new_call(n: u128) -> NewCall {
    NewCall {
        id: CallId::from_u128(n),
        callee: format!("+86138001380{n:02}").parse().unwrap(),
        caller_id: None,
        script: script(),
        variables: BTreeMap::from([("name".into(), "王芳".into())]),
        external_id: None,
        callback_url: Some("http://crm.example/hook".into()),
        not_before: Timestamp::UNIX_EPOCH,
        not_after: after(300),
        facts: "{}".into(),
        priority: 0,
        campaign: None,
        trace: String::new(),
        idempotency: None,
    }
}

fn script() -> ScriptRef {
    ScriptRef { id: "demo".parse().unwrap(), version: "0".repeat(64).parse().unwrap() }
}

/// A call that box `tl-a` carries.
async fn carried(db: &Db, n: u128) -> CallId {
    let new = new_call(n);
    assert!(matches!(db.create_call(&new, t0()).await.unwrap(), Created::New(_)));
    assert!(db.assign(new.id, &the_box(), t0()).await.unwrap());
    new.id
}

fn event(seq: u64, kind: &str, effect: Effect, body: serde_json::Value) -> Event {
    Event {
        box_id: the_box(),
        sess: 1,
        seq,
        id: Uuid::from_u128(u128::from(seq)),
        ts: after(1),
        kind: kind.into(),
        trace: String::new(),
        body: body.to_string(),
        effect,
    }
}

fn progress(seq: u64, call: CallId, stage: ProgressStage) -> Event {
    let progress = CallProgress { call, stage, detail: String::new() };
    let body = serde_json::to_value(&progress).unwrap();
    event(seq, "call.progress", Effect::Progress(progress), body)
}

fn ended(seq: u64, call: CallId, disposition: Disposition, suppress: bool) -> Event {
    let record: CallRecord = serde_json::from_value(json!({
        "call": call, "script": script(), "started": after(1), "answered": after(5), "ended": after(30),
        "disposition": disposition, "suppress": suppress, "outcome": {"code": "A", "label": "promised"},
        "slots": {"promise_date": "2026-11-27"},
        "turns": [{"turn": 0, "decision": {"node": "open", "because": "answered"}}],
        "transfers": [{"to": "desk", "how": "bridge", "fate": "done", "took_ms": 900, "who": "8002"}],
    }))
    .unwrap();
    let body = serde_json::to_value(&record).unwrap();
    event(seq, "call.ended", Effect::Ended(Box::new(record)), body)
}

fn plain(seq: u64) -> Event {
    event(seq, "audit.x", Effect::Unknown, json!({ "n": seq }))
}

async fn ack_of(db: &Db, events: &[Event]) -> Ack {
    let ingested = db.ingest(events, t0()).await.unwrap();
    ingested.acks.into_iter().next().unwrap().1
}

#[tokio::test]
async fn a_record_that_comes_twice_is_counted_once() {
    let (_dir, db) = open().await;
    let call = carried(&db, 1).await;
    let end = ended(1, call, Disposition::Completed, false);

    let first = db.ingest(std::slice::from_ref(&end), t0()).await.unwrap();
    let again = db.ingest(std::slice::from_ref(&end), t0()).await.unwrap();

    assert_eq!((first.touched.len(), first.duplicates), (1, 0));
    assert_eq!((again.touched.len(), again.duplicates), (0, 1));
    assert_eq!(again.acks, first.acks, "a repeated event is acknowledged again");
    let detail = db.call_detail(call).await.unwrap().unwrap();
    assert_eq!(detail.call.status, CallStatus::Ended);
    assert_eq!(detail.call.outcome.unwrap().code, "A");
    assert_eq!(detail.slots["promise_date"], "2026-11-27");
    assert_eq!(detail.turns.len(), 1);
    assert_eq!(detail.line.unwrap().transfers[0].who, "8002");
    assert_eq!(detail.callbacks.unwrap().len(), 1);
}

#[tokio::test]
async fn the_same_record_under_another_number_is_counted_once_too() {
    let (_dir, db) = open().await;
    let call = carried(&db, 1).await;
    db.ingest(&[ended(1, call, Disposition::Completed, false)], t0()).await.unwrap();
    db.ingest(&[ended(2, call, Disposition::Busy, false)], t0()).await.unwrap();

    let detail = db.call_detail(call).await.unwrap().unwrap();
    assert_eq!(detail.call.disposition, Some(Disposition::Completed), "the first record stands");
    assert_eq!(detail.callbacks.unwrap().len(), 1);
}

#[tokio::test]
async fn an_acknowledgement_lists_what_is_missing_and_the_list_shrinks() {
    let (_dir, db) = open().await;
    assert_eq!(ack_of(&db, &[plain(1), plain(2)]).await, Ack { upto: 2, except: vec![] });
    assert_eq!(ack_of(&db, &[plain(5), plain(7)]).await, Ack { upto: 7, except: vec![3, 4, 6] });
    assert_eq!(ack_of(&db, &[plain(4)]).await, Ack { upto: 4, except: vec![3] });
    assert_eq!(ack_of(&db, &[plain(3), plain(6), plain(8)]).await, Ack { upto: 8, except: vec![] });
}

#[tokio::test]
async fn an_acknowledgement_never_reaches_beyond_what_was_sent() {
    let (_dir, db) = open().await;
    for seq in 1..=50 {
        ack_of(&db, &[plain(seq)]).await;
    }
    // The box lost its store and counts from 1 again: 3 must not count as acknowledged by 50.
    let call = carried(&db, 1).await;
    let ack =
        ack_of(&db, &[progress(1, call, ProgressStage::Dialing), ended(2, call, Disposition::Busy, false)])
            .await;
    assert_eq!(ack, Ack { upto: 2, except: vec![] });
    let row = db.call(call).await.unwrap().unwrap();
    assert_eq!(row.disposition, Some(Disposition::Busy), "and its record is not lost");
}

#[tokio::test]
async fn a_gap_too_wide_to_list_holds_the_acknowledgement_back() {
    let (_dir, db) = open().await;
    assert_eq!(ack_of(&db, &[plain(10_000)]).await, Ack { upto: 0, except: vec![] });
    let birth = Birth {
        online: true,
        sess: 9,
        software: String::new(),
        channels: 1,
        oldest: Some(10_000),
        trunks: vec![],
        suppressions: None,
        numbers: None,
    };
    db.box_said(&the_box(), &birth, t0()).await.unwrap();
    assert_eq!(ack_of(&db, &[plain(10_001)]).await, Ack { upto: 10_001, except: vec![] });
}

#[tokio::test]
async fn an_event_that_cannot_be_read_is_kept_and_acknowledged() {
    let (_dir, db) = open().await;
    let bad = event(1, "call.ended", Effect::Unreadable("missing field".into()), json!({"x": 1}));
    assert_eq!(ack_of(&db, &[bad]).await, Ack { upto: 1, except: vec![] });
}

#[tokio::test]
async fn a_box_cannot_end_the_call_of_another() {
    let (_dir, db) = open().await;
    let (call, queued) = (carried(&db, 1).await, new_call(2));
    db.create_call(&queued, t0()).await.unwrap();
    let mut theft = [ended(1, call, Disposition::Busy, true), ended(2, queued.id, Disposition::Busy, true)];
    for event in &mut theft {
        event.box_id = "tl-thief".parse().unwrap();
    }
    let ingested = db.ingest(&theft, t0()).await.unwrap();
    assert_eq!((ingested.foreign, ingested.touched.len()), (2, 0));
    assert_eq!(ingested.acks[0].1, Ack { upto: 2, except: vec![] });
    assert_eq!(db.call(call).await.unwrap().unwrap().status, CallStatus::Dispatched);
    assert!(!db.is_suppressed(&queued.callee).await.unwrap());

    db.ingest(&[ended(1, call, Disposition::Completed, false)], t0()).await.unwrap();
    let row = db.call(call).await.unwrap().unwrap();
    assert_eq!(row.disposition, Some(Disposition::Completed), "the carrier's own word counts");
}

#[tokio::test]
async fn progress_only_goes_forward_and_reports_each_step_once() {
    let (_dir, db) = open().await;
    let call = carried(&db, 1).await;
    let stages =
        [ProgressStage::Ringing, ProgressStage::Dialing, ProgressStage::Ringing, ProgressStage::Answered];
    for (seq, stage) in (1..).zip(stages) {
        db.ingest(&[progress(seq, call, stage)], t0()).await.unwrap();
    }
    let detail = db.call_detail(call).await.unwrap().unwrap();
    assert_eq!(detail.call.status, CallStatus::Answered);
    assert_eq!(detail.call.answered_at, Some(after(1)));
    let kinds: Vec<String> = detail.callbacks.unwrap().into_iter().map(|c| c.kind).collect();
    assert_eq!(kinds, ["call.ringing", "call.answered"]);
    // A late word changes nothing once the call is over.
    db.ingest(
        &[ended(9, call, Disposition::Completed, false), progress(10, call, ProgressStage::Ringing)],
        t0(),
    )
    .await
    .unwrap();
    assert_eq!(db.call(call).await.unwrap().unwrap().status, CallStatus::Ended);
}

#[tokio::test]
async fn callbacks_of_a_call_are_due_one_after_the_other() {
    let (_dir, db) = open().await;
    let (one, two) = (carried(&db, 1).await, carried(&db, 2).await);
    db.ingest(
        &[
            progress(1, one, ProgressStage::Ringing),
            ended(2, one, Disposition::Completed, false),
            ended(3, two, Disposition::Busy, false),
        ],
        t0(),
    )
    .await
    .unwrap();

    let due = db.due_callbacks(t0(), 10).await.unwrap();
    let due_kinds: Vec<_> = due.iter().map(|d| (d.call, d.kind.as_str())).collect();
    assert_eq!(due_kinds, [(one, "call.ringing"), (two, "call.ended")]);

    let retry = AttemptResult::Retry { status: Some(500), error: "500".into(), at: after(60) };
    db.callback_attempted(&due[0], &retry, t0()).await.unwrap();
    db.callback_attempted(&due[1], &AttemptResult::Delivered { status: 200 }, t0()).await.unwrap();
    assert!(db.due_callbacks(after(30), 10).await.unwrap().is_empty(), "the second waits for the first");

    let due = db.due_callbacks(after(61), 10).await.unwrap();
    assert_eq!((due.len(), due[0].attempts), (1, 1));
    db.callback_attempted(&due[0], &AttemptResult::Delivered { status: 204 }, after(61)).await.unwrap();
    assert_eq!(db.due_callbacks(after(61), 10).await.unwrap()[0].kind, "call.ended");
    assert!(db.has_pending_callbacks(one).await.unwrap());
}

#[tokio::test]
async fn the_same_key_and_request_give_the_same_call() {
    let (_dir, db) = open().await;
    let mut new = new_call(1);
    new.idempotency = Some(("crm".into(), "k1".into(), "hash".into()));
    assert!(matches!(db.create_call(&new, t0()).await.unwrap(), Created::New(_)));

    let mut again = new.clone();
    again.id = CallId::from_u128(2);
    let Created::Same(call) = db.create_call(&again, t0()).await.unwrap() else { panic!("not the same") };
    assert_eq!(call.id, new.id);

    again.idempotency = Some(("crm".into(), "k1".into(), "other".into()));
    assert_eq!(db.create_call(&again, t0()).await.unwrap(), Created::KeyReused);
    again.idempotency = Some(("other-crm".into(), "k1".into(), "other".into()));
    assert!(matches!(db.create_call(&again, t0()).await.unwrap(), Created::New(_)));
}

#[tokio::test]
async fn who_asked_not_to_be_called_is_not_called() {
    let (_dir, db) = open().await;
    let call = carried(&db, 1).await;
    db.ingest(&[ended(1, call, Disposition::Completed, true)], t0()).await.unwrap();

    let mut again = new_call(1);
    again.id = CallId::from_u128(2);
    assert_eq!(db.create_call(&again, t0()).await.unwrap(), Created::Suppressed);
    assert!(db.is_suppressed(&again.callee).await.unwrap());
    assert!(!db.is_suppressed(&new_call(3).callee).await.unwrap());
}

#[tokio::test]
async fn a_call_nobody_takes_expires_and_says_why() {
    let (_dir, db) = open().await;
    let new = new_call(1);
    db.create_call(&new, t0()).await.unwrap();
    assert!(db.sweep(t0() - SignedDuration::from_secs(900), after(299)).await.unwrap().is_empty());
    assert_eq!(db.sweep(t0(), after(300)).await.unwrap(), [new.id]);

    let call = db.call(new.id).await.unwrap().unwrap();
    assert_eq!(call.disposition, Some(Disposition::Expired));
    assert_eq!(call.cause, "no box was online before the deadline");
    assert_eq!(db.due_callbacks(after(300), 10).await.unwrap()[0].kind, "call.ended");
}

#[tokio::test]
async fn a_silent_call_is_lost_but_never_given_up() {
    let (_dir, db) = open().await;
    let call = carried(&db, 1).await;
    db.accepted(&[(call, the_box())], after(2)).await.unwrap();
    assert_eq!(db.sweep(after(3), after(1_000)).await.unwrap(), [call]);
    assert!(db.sweep(after(3), after(1_001)).await.unwrap().is_empty(), "said once");
    let row = db.call(call).await.unwrap().unwrap();
    assert!(row.lost && row.status == CallStatus::Dispatched);

    db.ingest(&[ended(1, call, Disposition::Completed, false)], after(2_000)).await.unwrap();
    let row = db.call(call).await.unwrap().unwrap();
    assert!(!row.lost && row.status == CallStatus::Ended);
}

#[tokio::test]
async fn a_refused_call_waits_again_and_a_late_refusal_changes_nothing() {
    let (_dir, db) = open().await;
    let call = carried(&db, 1).await;
    let refusals = db.refused(call, &the_box(), "no channel", false, after(5), after(1)).await.unwrap();
    assert_eq!(refusals, Some(1));
    assert!(db.queued(after(4), 10).await.unwrap().is_empty());
    assert_eq!(db.queued(after(5), 10).await.unwrap().len(), 1);

    assert!(db.assign(call, &the_box(), after(5)).await.unwrap());
    let refusals = db.refused(call, &the_box(), "full", true, after(6), after(5)).await.unwrap();
    assert_eq!(refusals, Some(1), "a box that has its hands full is no fault of the call");

    assert!(db.assign(call, &the_box(), after(6)).await.unwrap());
    db.accepted(&[(call, the_box())], after(6)).await.unwrap();
    assert_eq!(db.refused(call, &the_box(), "late", false, after(9), after(7)).await.unwrap(), None);
    assert_eq!(db.call(call).await.unwrap().unwrap().status, CallStatus::Dispatched);
}

#[tokio::test]
async fn a_command_is_repeated_until_the_box_says_something() {
    let (_dir, db) = open().await;
    let call = carried(&db, 1).await;
    assert!(db.resends(after(5), after(5)).await.unwrap().is_empty(), "the box is not online");
    let birth = Birth {
        online: true,
        sess: 1,
        software: String::new(),
        channels: 1,
        oldest: None,
        trunks: vec![],
        suppressions: None,
        numbers: None,
    };
    db.box_said(&the_box(), &birth, t0()).await.unwrap();

    let resends = db.resends(after(5), after(5)).await.unwrap();
    assert!(matches!(&resends[..], [Resend::Dial(row, _)] if row.id == call));
    assert!(db.resends(after(4), after(6)).await.unwrap().is_empty(), "sent a second ago");

    db.ingest(&[progress(1, call, ProgressStage::Preparing)], after(7)).await.unwrap();
    assert!(db.resends(after(20), after(20)).await.unwrap().is_empty());

    assert!(matches!(db.cancel(call, after(21)).await.unwrap(), Cancelled::Asked(_)));
    let resends = db.resends(after(21), after(21)).await.unwrap();
    assert_eq!(resends, [Resend::Cancel(call, the_box())]);
    db.ingest(&[ended(2, call, Disposition::Cancelled, false)], after(22)).await.unwrap();
    assert!(db.resends(after(40), after(40)).await.unwrap().is_empty());
    assert!(matches!(db.cancel(call, after(41)).await.unwrap(), Cancelled::Over(_)));
}

#[tokio::test]
async fn a_queued_call_is_cancelled_at_once_and_then_given_to_nobody() {
    let (_dir, db) = open().await;
    let new = new_call(1);
    db.create_call(&new, t0()).await.unwrap();
    let Cancelled::Ended(call) = db.cancel(new.id, t0()).await.unwrap() else { panic!("not ended") };
    assert_eq!(call.disposition, Some(Disposition::Cancelled));
    assert!(!db.assign(new.id, &the_box(), t0()).await.unwrap());
    assert_eq!(db.cancel(CallId::from_u128(9), t0()).await.unwrap(), Cancelled::NoSuchCall);
}

#[tokio::test]
async fn words_of_an_older_session_do_not_count() {
    let (_dir, db) = open().await;
    let say = async |online, sess| {
        let birth = Birth {
            online,
            sess,
            software: "1".into(),
            channels: 2,
            oldest: None,
            trunks: vec![],
            suppressions: None,
            numbers: None,
        };
        db.box_said(&the_box(), &birth, t0()).await.unwrap()
    };
    assert!(say(true, 7).await);
    assert!(!say(false, 6).await, "the will of the session before comes late");
    assert!(db.boxes().await.unwrap()[0].online);
    assert!(say(false, 7).await);
    assert!(!db.boxes().await.unwrap()[0].online);
}

#[tokio::test]
async fn births_of_many_boxes_share_a_commit_and_each_counts_by_its_session() {
    let (_dir, db) = open().await;
    let birth = |online, sess, numbers: Option<&str>| Birth {
        online,
        sess,
        software: "1".into(),
        channels: 2,
        oldest: None,
        trunks: vec![],
        suppressions: Some(0),
        numbers: numbers.map(str::to_owned),
    };
    let [a, b]: [BoxId; 2] = ["tl-a", "tl-b"].map(|id| id.parse().unwrap());
    let said = [
        (a.clone(), birth(true, 7, None)),
        (b.clone(), birth(true, 3, Some(""))),
        (a.clone(), birth(false, 6, None)),
        (b.clone(), birth(false, 3, None)),
        (b.clone(), birth(true, 4, Some(""))),
    ];
    assert_eq!(db.boxes_said(&said, t0()).await.unwrap(), [true, true, false, true, true]);
    let online: Vec<(BoxId, u64)> = db
        .boxes()
        .await
        .unwrap()
        .into_iter()
        .filter(|row| row.online)
        .map(|row| (row.id, row.sess))
        .collect();
    assert_eq!(online, [(a.clone(), 7), (b.clone(), 4)]);
    assert_eq!(db.box_count().await.unwrap(), 2);

    let answering = db.answering_boxes().await.unwrap();
    assert_eq!(answering.iter().map(|row| &row.id).collect::<Vec<_>>(), [&b]);
    assert!(db.unconfirmed_boxes().await.unwrap().is_empty(), "there is nothing to confirm yet");
}

#[tokio::test]
async fn what_is_stored_is_counted_so_that_a_gap_and_a_second_copy_show() {
    let (_dir, db) = open().await;
    let call = carried(&db, 1).await;
    db.ingest(&[ended(1, call, Disposition::Completed, false)], t0()).await.unwrap();
    db.ingest(&[ended(1, call, Disposition::Completed, false)], t0()).await.unwrap();
    let counted = db.event_counts().await.unwrap()[&the_box()];
    assert!(counted.is_whole(), "{counted:?}");
    db.ingest(&[ended(3, call, Disposition::Completed, false)], t0()).await.unwrap();
    let counted = db.event_counts().await.unwrap()[&the_box()];
    assert!(!counted.is_whole() && counted.highest == 3, "{counted:?}");
}

#[tokio::test]
async fn a_reply_is_kept_once() {
    let (_dir, db) = open().await;
    let reply: TurnReply = serde_json::from_value(json!({
        "call": CallId::from_u128(1), "turn": 1, "rev": 2, "mode": "final", "state": {}, "node": "open", "actions": [],
    }))
    .unwrap();
    assert!(db.store_reply(&reply, json!({}), t0()).await.unwrap());
    assert!(!db.store_reply(&reply, json!({}), t0()).await.unwrap());
    assert_eq!(db.log_after(reply.call, 0).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_was_committed_is_there_after_opening_again() {
    let (dir, db) = open().await;
    let call = carried(&db, 1).await;
    db.ingest(&[ended(1, call, Disposition::Completed, false)], t0()).await.unwrap();
    // Not closed on purpose: the process may be killed.
    drop(db);
    let db = Db::open(&dir.path().join("cloud.sqlite")).await.unwrap();
    assert_eq!(db.call(call).await.unwrap().unwrap().status, CallStatus::Ended);
    assert_eq!(db.due_callbacks(t0(), 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn two_schedulers_call_no_contact_twice_and_one_of_them_leads() {
    let (_dir, db) = open().await;
    db.create_campaign("c1", "November", &json!({}), t0()).await.unwrap();
    let contacts: Vec<NewContact> = (0..20)
        .map(|n| NewContact {
            callee: format!("+86138001390{n:02}").parse().unwrap(),
            variables: BTreeMap::new(),
            facts: "{}".into(),
            external_id: None,
            priority: 0,
        })
        .collect();
    assert_eq!(db.add_contacts("c1", &contacts).await.unwrap(), 20);
    assert_eq!(db.add_contacts("c1", &contacts).await.unwrap(), 0, "a number is there once");
    let ready = db.ready_contacts("c1", t0(), 99).await.unwrap();
    let call = |n: u128| NewCall { campaign: Some(("c1".into(), ready[0].n)), ..new_call(n) };
    let early = started(ready[0].n, call(1));
    assert_eq!(db.file_contacts("c1", &[early], t0()).await.unwrap(), [false], "it does not run yet");
    assert!(db.move_campaign("c1", "draft", "running", "", t0()).await.unwrap());

    // Both read the same list and race for each contact.
    let race = async |first: u128| {
        let mut won = 0;
        for (at, some) in (0..).zip(ready.chunks(3)) {
            let some: Vec<JudgedContact> = (first + 10 * at..)
                .zip(some)
                .map(|(id, contact)| {
                    started(contact.n, NewCall { campaign: Some(("c1".into(), contact.n)), ..new_call(id) })
                })
                .collect();
            let took_effect = db.file_contacts("c1", &some, t0()).await.unwrap();
            won += took_effect.into_iter().filter(|took_effect| *took_effect).count();
        }
        won
    };
    let (a, b) = tokio::join!(race(100), race(200));
    assert_eq!(a + b, 20);
    assert_eq!(db.campaign_calls("c1").await.unwrap().len(), 20);

    assert!(db.lead("campaigns", "a", after(10), t0()).await.unwrap());
    assert!(!db.lead("campaigns", "b", after(10), t0()).await.unwrap());
    assert!(db.lead("campaigns", "a", after(20), after(5)).await.unwrap());
    assert!(db.lead("campaigns", "b", after(40), after(20)).await.unwrap(), "the leader said nothing");
}

fn receipt(call: CallId) -> Body {
    Body {
        call,
        stage: Stage::Request,
        inputs: Inputs {
            script: "0".repeat(64),
            purpose: "appointment".into(),
            line: None,
            attempts: 0,
            caller_id: None,
            shown: String::new(),
            asked: None,
        },
        decision: Decision { at: t0(), verdict: Verdict::Allow, packs: Vec::new(), checks: Vec::new() },
        anchor: None,
    }
}

fn started(n: u64, call: NewCall) -> JudgedContact {
    JudgedContact { n, receipt: receipt(call.id), fate: ContactFate::Starts(Box::new(call)) }
}

#[tokio::test]
async fn what_was_judged_together_is_filed_together_and_the_chain_of_receipts_holds() {
    let (_dir, db) = open().await;
    let calls: Vec<NewCall> = (1..=4)
        .map(|n| NewCall { callee: format!("+861380013900{n}").parse().unwrap(), ..new_call(n) })
        .collect();
    for call in &calls {
        db.create_call(call, t0()).await.unwrap();
    }
    let fates = [
        CallFate::Given(the_box()),
        CallFate::Waits(after(60), "not permitted now: spacing".into()),
        CallFate::Ends(Disposition::Cancelled, "not permitted: opted_out".into()),
        CallFate::Given(the_box()),
    ];
    let judged: Vec<JudgedCall> = calls
        .iter()
        .zip(fates)
        .map(|(call, fate)| JudgedCall { id: call.id, receipt: receipt(call.id), fate })
        .collect();
    assert_eq!(db.file_calls(&judged[..3], t0()).await.unwrap(), [true; 3]);
    // Again, as after an answer that was lost: what was given stays where it is.
    assert_eq!(db.file_calls(&judged, t0()).await.unwrap(), [false, true, false, true]);
    let mut states = Vec::new();
    for call in &calls {
        states.push(db.call(call.id).await.unwrap().unwrap().status.as_str());
    }
    assert_eq!(states, ["dispatched", "queued", "ended", "dispatched"]);
    let log: String = db
        .receipts_after(0, 99)
        .await
        .unwrap()
        .iter()
        .map(|entry| format!("{}\n", entry.line().unwrap()))
        .collect();
    let last = trunkline_policy::receipt::verify(&log).unwrap().map(|(seq, _)| seq);
    assert_eq!(last, Some(7), "a receipt for each decision, without a gap");
}

#[tokio::test]
async fn records_of_many_callees_are_those_of_each() {
    let (_dir, db) = open().await;
    let carried_by = carried(&db, 1).await;
    let callee = |text: &str| -> Callee { text.parse().unwrap() };
    let (called, opted, listed) = (new_call(1).callee, callee("+8613800138002"), callee("+8613800138003"));
    let opt_out = OptOut { scope: OptOutScope::Person, channel: "api".into(), at: t0() };
    db.opt_out(&opted, &opt_out).await.unwrap();
    let entry = NewSuppression { list: "own".into(), callee: listed.clone(), until: None };
    db.suppress(&[entry], t0()).await.unwrap();
    let nobody = CallId::from_u128(9);
    let asked = [(&listed, nobody), (&called, nobody), (&called, carried_by), (&opted, nobody)];
    let together = db.on_record_of(&asked).await.unwrap();
    for ((callee, except), record) in asked.into_iter().zip(&together) {
        assert_eq!(*record, db.on_record(callee, except).await.unwrap());
        assert_eq!(record.lists.len(), 1);
    }
    let found: Vec<(usize, usize, usize)> = together
        .iter()
        .map(|record| (record.history.len(), record.opt_outs.len(), record.suppressions.len()))
        .collect();
    assert_eq!(found, [(0, 0, 1), (1, 0, 0), (0, 0, 0), (0, 1, 0)]);
}

#[tokio::test]
async fn receipts_and_opt_outs_cannot_be_changed_or_removed_even_by_sql() {
    let (_dir, db) = open().await;
    let opt_out = OptOut { scope: OptOutScope::Person, channel: "api".into(), at: t0() };
    let callee = "+8613800138000".parse().unwrap();
    db.opt_out(&callee, &opt_out).await.unwrap();
    for statement in ["DELETE FROM opt_outs", "UPDATE opt_outs SET scope = 'x'"] {
        let mut tx = db.begin().await.unwrap();
        assert!(sqlx::query(statement).execute(&mut *tx).await.is_err(), "{statement}");
    }
    db.opt_out(&callee, &OptOut { channel: "later".into(), ..opt_out.clone() }).await.unwrap();
    let record = db.on_record(&callee, CallId::from_u128(0)).await.unwrap();
    assert_eq!(record.opt_outs, [opt_out], "the first word stands");
}

#[tokio::test]
async fn what_reached_a_telephone_is_an_attempt_over_all_campaigns_and_boxes() {
    let (_dir, db) = open().await;
    let callee: Callee = new_call(1).callee;
    let id = carried(&db, 1).await;
    let record = db.on_record(&callee, CallId::from_u128(9)).await.unwrap();
    assert_eq!(record.history.len(), 1);
    assert_eq!(record.history[0].result, trunkline_policy::AttemptResult::Open);
    assert!(db.on_record(&callee, id).await.unwrap().history.is_empty(), "not its own");
    let waiting = NewCall { callee: callee.clone(), ..new_call(2) };
    db.create_call(&waiting, t0()).await.unwrap();
    assert_eq!(db.on_record(&callee, CallId::from_u128(9)).await.unwrap().history.len(), 1, "one waits");
}

#[tokio::test]
async fn who_waited_in_vain_for_a_person_or_for_a_word_was_abandoned() {
    let (_dir, db) = open().await;
    let handed =
        |fate: &'static str| json!([{ "to": "desk", "how": "bridge", "fate": fate, "took_ms": 20_000 }]);
    let ends = [
        (Disposition::Completed, Some(0.4), handed("no_answer"), trunkline_policy::AttemptResult::Abandoned),
        (Disposition::MediaLost, Some(0.4), handed("no_answer"), trunkline_policy::AttemptResult::Abandoned),
        (Disposition::Machine, None, handed("no_answer"), trunkline_policy::AttemptResult::Connected),
        (Disposition::Completed, Some(0.4), handed("done"), trunkline_policy::AttemptResult::Conversation),
        (Disposition::Completed, Some(0.4), json!([]), trunkline_policy::AttemptResult::Conversation),
        // The regulator's formula counts these too: so does the rest that follows.
        (Disposition::CustomerHungUp, None, json!([]), trunkline_policy::AttemptResult::Abandoned),
        (Disposition::Completed, Some(2.6), json!([]), trunkline_policy::AttemptResult::Abandoned),
        (Disposition::Machine, None, json!([]), trunkline_policy::AttemptResult::Connected),
    ];
    for (n, (disposition, first_word, transfers, expected)) in (1_u8..).zip(ends) {
        let call = carried(&db, n.into()).await;
        let mut end = ended(n.into(), call, disposition, false);
        if let Effect::Ended(record) = &mut end.effect {
            record.transfers = serde_json::from_value(transfers).unwrap();
            let said = |start_s| RobotTurn { start_s, ..RobotTurn::default() };
            record.turns[0].robot = first_word.map(said).into_iter().collect();
        }
        db.ingest(&[end], after(30)).await.unwrap();
        let record = db.on_record(&new_call(n.into()).callee, CallId::from_u128(99)).await.unwrap();
        assert_eq!(record.history[0].result, expected, "{disposition}");
    }
}

#[tokio::test]
async fn a_page_of_contacts_begins_where_the_last_one_ended_and_sorts_nothing() {
    let (_dir, db) = open().await;
    for page in [crate::campaigns::CONTACTS_AFTER, crate::imports::RESULTS_AFTER] {
        let steps = sqlx::query(&format!("EXPLAIN QUERY PLAN {page}"))
            .bind("cmp_1")
            .bind(7)
            .bind(1_000)
            .fetch_all(db.reader())
            .await
            .unwrap();
        let steps: Vec<String> = steps.iter().map(|step| step.get("detail")).collect();
        assert!(steps[0].contains("rowid>?"), "{steps:#?}");
        assert!(!steps.iter().any(|step| step.contains("TEMP B-TREE")), "{steps:#?}");
    }
}
