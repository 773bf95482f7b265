//! What the tables of the fleet promise, over restarts of the process as well.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tempfile::TempDir;
use trunkline_fleet::enrol::{CERTIFICATE_LIFE, ClaimCode, EnrolError, GUESSES, Person, Role, State};
use trunkline_fleet::rollout::{Profile, Rollout};
use trunkline_fleet::speed::{Times, bucket};
use trunkline_model::{BoxId, CallId};
use trunkline_trust::{AssignedTarget, sha256};
use trunkline_wire::{CallRecord, Reported};
use uuid::Uuid;

use crate::{AssignmentRow, Certificate, Db, Effect, Event, Waits};

fn t0() -> Timestamp {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

fn the_box() -> BoxId {
    "tl-a".parse().unwrap()
}

fn person(name: &str, role: Role) -> Person {
    Person { name: name.into(), role }
}

async fn open() -> (TempDir, Db) {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(&dir.path().join("cloud.sqlite")).await.unwrap();
    (dir, db)
}

fn certificate(serial: &str) -> Certificate {
    Certificate {
        serial: serial.into(),
        box_id: the_box(),
        pem: "PEM".into(),
        not_after: t0() + CERTIFICATE_LIFE,
    }
}

#[tokio::test]
async fn a_box_joins_and_leaves_and_every_step_is_in_the_log() {
    let (_dir, db) = open().await;
    let code = ClaimCode::from_random(7);
    let proof = code.proof(b"csr");
    let waiting = db.announce(&the_box(), b"csr", &proof, "192.0.2.1", t0()).await.unwrap().unwrap();
    assert_eq!(waiting.state, State::Waiting { since: t0() });
    let mei = person("mei", Role::Branch);
    assert_eq!(db.claim_box(&code, &mei, "0451", t0()).await.unwrap(), Ok(the_box()));
    let li = person("li", Role::FleetAdmin);
    let approved = db
        .change_enrolment(&the_box(), "li", "approved", t0(), |enrolment| {
            enrolment.approve(&li, t0())?;
            enrolment.issued("1f", t0() + CERTIFICATE_LIFE)?;
            Ok(((), Some(certificate("1f"))))
        })
        .await
        .unwrap();
    assert_eq!(approved, Some(Ok(())));
    assert!(db.may_connect(&the_box(), "1f", true).await.unwrap());
    assert!(!db.may_connect(&the_box(), "20", true).await.unwrap(), "a certificate that was not issued");
    assert_eq!(db.certificate("1f").await.unwrap(), Some(certificate("1f")));

    let revoked = db
        .change_enrolment(&the_box(), "li", "revoked", t0(), |enrolment| {
            Ok((enrolment.revoke(&li, "stolen", t0())?, None))
        })
        .await
        .unwrap();
    assert_eq!(revoked, Some(Ok(())));
    assert!(!db.may_connect(&the_box(), "1f", false).await.unwrap());
    assert_eq!(db.revoked_since(t0() - SignedDuration::from_secs(1)).await.unwrap(), [the_box()]);
    let log = db.fleet_log("tl-a", 10).await.unwrap();
    let seen: Vec<(&str, &str)> = log.iter().map(|one| (one.by.as_str(), one.what.as_str())).collect();
    assert_eq!(seen, [("mei", "claimed"), ("li", "approved"), ("li", "revoked")]);
}

#[tokio::test]
async fn wrong_codes_are_counted_over_restarts() {
    let (dir, db) = open().await;
    let code = ClaimCode::from_random(7);
    db.announce(&the_box(), b"csr", &code.proof(b"csr"), "x", t0()).await.unwrap().unwrap();
    let mei = person("mei", Role::Branch);
    for n in 0..GUESSES as u64 {
        let guess = ClaimCode::from_random(1_000 + n);
        assert_eq!(db.claim_box(&guess, &mei, "1", t0()).await.unwrap(), Err(EnrolError::WrongCode));
    }
    db.close().await;
    let db = Db::open(&dir.path().join("cloud.sqlite")).await.unwrap();
    let refused = db.claim_box(&code, &mei, "1", t0()).await.unwrap();
    assert!(matches!(refused, Err(EnrolError::TooMany { .. })), "{refused:?}");
    let li = person("li", Role::Operator);
    assert_eq!(db.claim_box(&code, &li, "1", t0()).await.unwrap(), Ok(the_box()), "another person may");
}

#[tokio::test]
async fn an_address_announces_so_many_boxes_and_polling_is_free() {
    let (_dir, db) = open().await;
    let proof = ClaimCode::from_random(7).proof(b"csr");
    for _ in 0..100 {
        db.announce(&the_box(), b"csr", &proof, "192.0.2.1", t0()).await.unwrap().unwrap();
    }
    let mut refused = 0;
    for n in 0..40 {
        let other: BoxId = format!("tl-{n}").parse().unwrap();
        refused += u32::from(db.announce(&other, b"csr", &proof, "192.0.2.1", t0()).await.unwrap().is_err());
    }
    assert_eq!(refused, 11, "30 in all");
    let other: BoxId = "tl-elsewhere".parse().unwrap();
    assert!(db.announce(&other, b"csr", &proof, "192.0.2.2", t0()).await.unwrap().is_ok());
}

#[tokio::test]
async fn who_wanted_what_and_when_is_kept_and_the_same_again_is_no_change() {
    let (_dir, db) = open().await;
    let hour = SignedDuration::from_hours(1);
    let first = db.change_desired(&the_box(), "li", json!({"name": "a"}), t0()).await.unwrap().unwrap();
    assert_eq!(db.behind_desired().await.unwrap(), [(the_box(), 1)]);
    let report = Reported { version: 1, hash: first.hash.to_string(), ..Reported::default() };
    db.save_reported(&the_box(), &report, t0()).await.unwrap();
    assert!(db.behind_desired().await.unwrap().is_empty());
    assert_eq!(db.reported(&the_box()).await.unwrap().unwrap().reported, report);

    assert!(db.change_desired(&the_box(), "mei", json!({"name": "a"}), t0() + hour).await.unwrap().is_none());
    let second =
        db.change_desired(&the_box(), "mei", json!({"name": "b"}), t0() + hour).await.unwrap().unwrap();
    assert_eq!((second.version, db.behind_desired().await.unwrap().len()), (2, 1));
    let history = db.desired_history(&the_box()).await.unwrap();
    assert_eq!(history.in_force("2026-11-22T10:32:00Z".parse().unwrap()).unwrap().by, "li");
    assert_eq!(history.changed_by(2)[0].path, "/name");
    assert_eq!(db.desired(&the_box()).await.unwrap(), Some(second));
}

#[tokio::test]
async fn a_rollout_and_an_assignment_read_back_as_written() {
    let (_dir, db) = open().await;
    let target = AssignedTarget { component: "app".into(), name: "app-2.json".into(), sha256: sha256(b"x") };
    let rollout = Rollout::start("r1", target.clone(), Profile::default(), [the_box()], t0()).unwrap();
    db.add_rollout(&rollout, "li", t0()).await.unwrap();
    assert_eq!(db.rollout("r1").await.unwrap(), Some(rollout));
    let paused = db
        .change_rollout("r1", "mei", t0(), |rollout| {
            rollout.pause("mei", "a look", t0())?;
            Ok(((), Some("paused".into())))
        })
        .await
        .unwrap();
    assert_eq!(paused, Some(Ok(())));
    assert_eq!(db.rollouts().await.unwrap().len(), 1);
    assert_eq!(db.fleet_log("r1", 10).await.unwrap().last().unwrap().what, "paused");

    let row = AssignmentRow {
        box_id: the_box(),
        number: 9,
        targets: vec![target],
        cancel: vec!["models".into()],
        doc: "{}".into(),
        expires: t0(),
    };
    db.save_assignment(&row, t0()).await.unwrap();
    assert_eq!(db.assignment(&the_box()).await.unwrap(), Some(row));
    assert!(db.call_figures(t0()).await.unwrap().is_empty());
}

#[tokio::test]
async fn how_long_customers_waited_is_counted_once_by_box_and_hour_and_forgotten_in_time() {
    let (_dir, db) = open().await;
    let ended = |seq: u64, minutes: i64| {
        let record: CallRecord = serde_json::from_value(json!({
            "call": CallId::from_u128(u128::from(seq)), "started": t0(), "disposition": "completed",
            "script": {"id": "demo", "version": "0".repeat(64)},
            "ended": t0() + SignedDuration::from_mins(minutes), "slots": {},
            "turns": [
                {"turn": 0, "decision": {"node": "open", "because": "answered"},
                    "robot": [{"text": "x", "start_s": 0.4, "heard": 1.0}]},
                {"turn": 1, "decision": {"node": "open", "because": "intent"},
                    "customer": {"text": "x", "start_s": 2.0, "end_s": 3.0},
                    "robot": [{"text": "x", "start_s": 3.7, "heard": 1.0}],
                    "latency": {"asr_start_ms": 100.0, "asr_done_ms": 300.0, "reply_ms": 400.0,
                        "turn_end_ms": 500.0, "first_packet_ms": 700.0}},
            ],
        }))
        .unwrap();
        Event {
            box_id: the_box(),
            sess: 1,
            seq,
            id: Uuid::from_u128(u128::from(seq)),
            ts: t0(),
            kind: "call.ended".into(),
            trace: String::new(),
            body: "{}".into(),
            effect: Effect::Ended(Box::new(record)),
        }
    };
    let events = [ended(1, 10), ended(2, 20), ended(3, 70)];
    for _ in 0..2 {
        db.ingest(&events, t0()).await.unwrap();
    }
    let times = |bucket, n| {
        let mut times = Times::default();
        times.add(bucket, n);
        times
    };
    let waits = |n| Waits { first_words: times(bucket(400.0), n), replies: times(bucket(700.0), n) };
    assert_eq!(db.waits(t0()).await.unwrap(), [(the_box(), waits(3))].into());
    let second = SignedDuration::from_secs(1);
    assert_eq!(
        db.waits(t0() + second).await.unwrap(),
        [(the_box(), waits(1))].into(),
        "from the next full hour on"
    );
    let later = t0() + SignedDuration::from_hours(24 * 14) + SignedDuration::from_hours(1);
    db.forget_waits(later).await.unwrap();
    assert_eq!(db.waits(t0()).await.unwrap(), [(the_box(), waits(1))].into());
}
