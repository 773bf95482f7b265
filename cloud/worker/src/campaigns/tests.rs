//! What follows which end, and what a pass counts.

use std::collections::BTreeMap;
use std::path::Path;

use trunkline_db::{Db, EndedAttempt, NewContact};
use trunkline_dialer::callback::Callbacks;
use trunkline_dialer::retry::Rules;
use trunkline_model::{CallId, Callee};
use trunkline_policy::{OptOut, OptOutScope, Packs};

use super::begin::{call_contacts, wear};
use super::*;
use crate::Gate;

fn ended(ends: &[(i64, Disposition, &str)]) -> Settling {
    let at = |s: i64| Timestamp::from_second(1_763_863_200 + s).unwrap();
    Settling {
        n: 1,
        callee: "+8613800138000".parse().unwrap(),
        facts: "{}".into(),
        calls: ends
            .iter()
            .map(|(s, end, why)| EndedAttempt {
                call: CallId::from_u128(7),
                at: at(*s),
                disposition: *end,
                cause: (*why).to_owned(),
                outcome: String::new(),
                slots: BTreeMap::new(),
            })
            .collect(),
    }
}

#[test]
fn a_contact_is_tried_again_by_its_cause_and_what_was_no_attempt_does_not_count() {
    let (rules, now) = (Rules::default(), Timestamp::from_second(1_763_863_300).unwrap());
    let of = |ends: &[(i64, Disposition, &str)]| {
        settle(&rules, &Callbacks::default(), &ended(ends), &TimeZone::UTC, now)
    };
    assert_eq!(of(&[(0, Disposition::Completed, "")]), Settled::Done("reached".into()));
    assert_eq!(of(&[(0, Disposition::InvalidNumber, "")]), Settled::Done("invalid_number".into()));
    let Settled::Until(at, _) = of(&[(0, Disposition::Busy, "")]) else { panic!("busy is tried again") };
    assert_eq!(at.as_second(), 1_763_863_200 + 1_800);
    // Ten expired leases are no attempts: the busy one is still the first.
    let mut ends = vec![(0, Disposition::Expired, "no box"); 10];
    ends.push((0, Disposition::Busy, ""));
    assert!(matches!(of(&ends), Settled::Until(..)));
    assert!(
        matches!(of(&[(0, Disposition::Expired, "no box")]), Settled::Still(at, _) if at.as_second() == now.as_second() + 5)
    );
    assert!(matches!(of(&[(0, Disposition::Cancelled, "not permitted: spacing")]), Settled::Still(..)));
    assert_eq!(
        of(&[(0, Disposition::Cancelled, "cancelled by the caller of the API")]),
        Settled::Done("cancelled".into())
    );
}

#[test]
fn who_asks_to_be_called_later_is_called_then_as_often_as_the_campaign_permits() {
    let (rules, callbacks) = (Rules::default(), Callbacks::default());
    let zone = TimeZone::get("Asia/Shanghai").unwrap();
    let now = Timestamp::from_second(1_763_870_000).unwrap();
    let of = |rules: &Rules, contact: &Settling| settle(rules, &callbacks, contact, &zone, now);
    let asks = |call: &mut EndedAttempt, slots: &[(&str, &str)]| {
        call.outcome = "callback".into();
        call.slots = slots.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    };
    // It ended on 23 November 2025 at 10:00 in Shanghai.
    let mut contact = ended(&[(0, Disposition::Completed, "")]);
    asks(&mut contact.calls[0], &[("callback_date", "2025-11-24"), ("callback_time", "15:00")]);
    assert_eq!(of(&rules, &contact), Settled::Callback("2025-11-24T07:00:00Z".parse().unwrap()));
    asks(&mut contact.calls[0], &[("callback_date", "next_week")]);
    assert_eq!(of(&rules, &contact), Settled::Callback("2025-11-23T04:00:00Z".parse().unwrap()));
    let once = Rules { max_attempts: 1, ..Rules::default() };
    assert_eq!(of(&once, &contact), Settled::Done("attempts used up".into()));

    let mut contact = ended(&[(0, Disposition::Completed, ""), (7_200, Disposition::NoAnswer, "")]);
    asks(&mut contact.calls[0], &[]);
    assert!(matches!(of(&rules, &contact), Settled::Until(..)), "the callback rang in vain");
    let mut contact = ended(&[(0, Disposition::Completed, ""); 3]);
    contact.calls.iter_mut().for_each(|call| asks(call, &[]));
    assert_eq!(of(&rules, &contact), Settled::Done("callbacks used up".into()));
    contact.calls[2].outcome = "agreed".into();
    assert_eq!(of(&rules, &contact), Settled::Done("reached".into()));
}

fn callee(text: &str) -> Callee {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_number_is_worn_by_the_calls_that_are_made_and_not_by_those_that_the_gate_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(&dir.path().join("cloud.sqlite")).await.unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/scripts/repayment-reminder-zh.yaml");
    let script = Script::load(&std::fs::read_to_string(path).unwrap()).unwrap();
    let settings = serde_json::json!({
        "script_id": script.id(), "caller_ids": { "numbers": ["+862155550100"], "per_day": 2, "rest_s": 0 },
        "variables": { "org": "和顺银行", "amount": "1280.50", "due_date": "2026-11-20", "name": "王芳" },
    });
    let now: Timestamp = "2026-11-24T02:00:00Z".parse().unwrap();
    db.create_campaign("c", "November", &settings, now).await.unwrap();
    db.move_campaign("c", "draft", "running", "", now).await.unwrap();
    let numbers = ["+8613800138001", "+8613800138002", "+8613800138003", "+8613800138004"];
    let contacts = numbers.map(|number| NewContact {
        callee: callee(number),
        variables: BTreeMap::new(),
        facts: "{}".into(),
        external_id: None,
        priority: 0,
    });
    db.add_contacts("c", &contacts).await.unwrap();
    let opt_out = OptOut { scope: OptOutScope::Person, channel: "api".into(), at: now };
    for refused in &numbers[..2] {
        db.opt_out(&callee(refused), &opt_out).await.unwrap();
    }
    let consent = serde_json::from_str(r#"{"basis": "contract"}"#).unwrap();
    let known = crate::GateSettings {
        basis: Some(consent),
        retention_days: 365,
        subject_rights: true,
        audio_label: true,
        ..crate::GateSettings::default()
    };
    let gate = Gate::new(Packs::shipped().unwrap(), known);
    let settings: CampaignSettings = serde_json::from_value(settings).unwrap();

    let mut worn = wear(&db, &settings, now).await.unwrap().unwrap();
    let pass = async |worn: &mut [Wear]| {
        let ready = db.ready_contacts("c", now, 10).await.unwrap();
        let of = ("c", &settings, &script);
        call_contacts(&db, &gate, of, (&ready, &|_, _| true), Some(worn), now).await.unwrap()
    };
    let began = pass(&mut worn).await;
    let never = Began::Never("opted_out".into());
    assert_eq!(began[..2], [never.clone(), never], "they were refused");
    assert_eq!(
        began[2..],
        [Began::Waits(now, "caller_ids"), Began::Waits(now, "caller_ids")],
        "the number may not do"
    );
    assert_eq!(worn[0].calls, 0, "nobody has seen it");
    let began = pass(&mut worn).await;
    assert!(matches!(began[..], [Began::Started(_), Began::Started(_)]), "{began:?}");
    assert_eq!(worn[0].calls, 2);
    assert_eq!(wear(&db, &settings, now).await.unwrap().unwrap()[0].calls, 2);

    // No box was free in time: nobody was called.
    let Began::Started(first) = began[0] else { unreachable!() };
    assert!(db.end_queued(first, Disposition::Expired, "no box", now).await.unwrap());
    assert_eq!(wear(&db, &settings, now).await.unwrap().unwrap()[0].calls, 1);
}
