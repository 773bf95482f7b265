//! The whole gate: zones and daylight saving, random histories, packs, and the chain of receipts.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod common;

use std::path::Path;

use common::*;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use trunkline_model::CallId;
use trunkline_policy::receipt::{Body, Entry, Inputs, ReceiptError, Stage, Verifier, verify};
use trunkline_policy::*;

#[test]
fn the_packs_that_are_shipped_can_be_read_are_signed_and_name_their_sources() {
    let packs = Packs::shipped().unwrap();
    let ids: Vec<&str> = packs.all().map(|pack| pack.id.as_str()).collect();
    assert_eq!(ids, ["cn", "default-strict", "eu", "uk", "unrestricted-lab", "us"]);
    for pack in packs.all() {
        assert!(pack.sign_off.as_ref().is_some_and(|signed| !signed.role.is_empty()), "{}", pack.id);
        assert_eq!(pack.reference().sha256.len(), 64);
    }
}

#[test]
fn a_tone_of_voice_is_listened_to_where_pack_script_and_a_written_consent_agree() {
    let packs = Packs::shipped().unwrap();
    let planned = |pack: &str, basis: Option<&str>, script: &str| {
        let world = World::cn();
        let mut dossier = Dossier {
            country: None,
            region: None,
            zone: None,
            consent: basis.map(|basis| serde_json::from_str(basis).unwrap()),
            opt_outs: Vec::new(),
            suppressions: Vec::new(),
            wrong_party_at: None,
            reverified_at: None,
            vulnerable: false,
            debt: None,
            history: Vec::new(),
            line: None,
            plan: world.plan.clone(),
            operations: world.operations.clone(),
        };
        dossier.permit_emotion(&world.contact.callee, &[packs.get(pack).unwrap()]);
        dossier.with_script(&ScriptFacts::read(script));
        dossier.plan.emotion
    };
    let (written, wants) = (Some(r#"{"basis": "written"}"#), r#"{"tone_of_voice": true}"#);
    let on: Vec<&str> =
        packs.all().map(|pack| pack.id.as_str()).filter(|id| planned(id, written, wants)).collect();
    assert_eq!(on, ["cn", "unrestricted-lab", "us"]);
    assert!(!planned("cn", Some(r#"{"basis": "express"}"#), wants) && !planned("cn", None, wants));
    let withdrawn = r#"{"basis": "written", "revoked": "2026-01-01T00:00:00Z"}"#;
    assert!(!planned("cn", Some(withdrawn), wants));
    assert!(!planned("cn", written, "{}") && !planned("cn", written, r#"{"tone_of_voice": "yes"}"#));
}

#[test]
fn the_schema_beside_the_packs_is_the_one_of_this_build() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packs/pack.schema.json");
    let written = format!("{:#}\n", schema());
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    assert!(std::fs::read_to_string(&path).unwrap() == written, "run this test with UPDATE_SCHEMA=1");
}

#[test]
fn a_pack_with_a_misspelt_key_an_empty_source_or_hours_that_never_are_is_refused() {
    let good = include_str!("../packs/us.yaml");
    assert!(Pack::from_yaml("us", good).is_ok());
    for (from, to, what) in [
        ("zone_confidence:", "zone_confidense:", "zone_confidense"),
        ("source: \"Product decision.\"", "source: \"\"", "source"),
        ("from: \"08:00\", to: \"21:00\"", "from: \"21:00\", to: \"08:00\"", "21:00"),
        ("trunkline/policy/1", "trunkline/policy/9", "trunkline/policy/9"),
        ("\"21:00\"", "\"25:00\"", "25:00"),
    ] {
        assert!(good.contains(from), "{from}");
        let error = Pack::from_yaml("us", &good.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn the_laboratorys_pack_is_for_declared_targets_over_declared_lines_and_for_nobody_else() {
    let contact = |callee: &str| Contact::new(callee.parse().unwrap());
    let ids = |packs: &Packs, callee: &str| -> Vec<String> {
        packs.applicable(&contact(callee)).iter().map(|pack| pack.id.clone()).collect()
    };
    let none = Packs::shipped().unwrap();
    assert_eq!(ids(&none, "sip:a@127.0.0.1:5070"), ["default-strict"]);
    let lab =
        Lab { numbers: vec!["+861380013".into(), "+1".into()], boxes: vec!["tl-demo".into()], sip: true };
    let packs = Packs::shipped().unwrap().with_lab(lab);
    assert_eq!(ids(&packs, "sip:a@127.0.0.1:5070"), ["unrestricted-lab"]);
    assert_eq!(ids(&packs, "sip:a@[::1]:5070"), ["unrestricted-lab"]);
    assert_eq!(ids(&packs, "sip:a@192.168.1.9"), ["unrestricted-lab"]);
    assert_eq!(ids(&packs, "sip:a@203.0.113.9"), ["default-strict"], "a public address");
    assert_eq!(ids(&packs, "sip:a@127.0.0.1.example.org"), ["default-strict"], "a name that looks like one");
    assert_eq!(ids(&packs, "+8613800138000"), ["unrestricted-lab"]);
    assert_eq!(ids(&packs, "+8613900138000"), ["cn"]);
    assert_eq!(ids(&packs, "+12025550123"), ["us"], "a start of two characters declares nothing");

    let mut world = World::of("unrestricted-lab", "+8613800138000", "2026-11-22T19:00:00Z");
    world.contact.consent = None;
    assert_eq!(world.decide().verdict, skip(Reason::LabLineRequired), "over a real trunk");
    world.line.as_mut().unwrap().lab = true;
    assert!(world.decide().allows(), "{:?}", world.decide().verdict);
    // A number of no plan, kept for fiction, is a test number like others.
    world.contact.callee = "+15550100199".parse().unwrap();
    assert!(world.decide().allows(), "{:?}", world.decide().verdict);
    world.contact.opt_outs.push(OptOut {
        scope: OptOutScope::Number,
        channel: "spoken".into(),
        at: world.now,
    });
    assert_eq!(world.decide().verdict, block(Reason::OptedOut), "also in a laboratory");
}

#[test]
fn a_number_and_an_address_of_two_countries_obey_both_packs() {
    let packs = Packs::shipped().unwrap();
    let mut world = World::us();
    world.contact.country = Some("CA".into());
    let both = packs.applicable(&world.contact);
    assert_eq!(both.iter().map(|pack| pack.id.as_str()).collect::<Vec<_>>(), ["us", "default-strict"]);
    // The American hours alone would open Honolulu at 8:00, the strict ones open it at 9:00, at 19:00 UTC.
    assert!(decide(&world.facts(), &both, world.now).allows());
    world.now = at("2026-11-23T18:30:00Z");
    assert!(decide(&world.facts(), &both[..1], world.now).allows());
    let decision = decide(&world.facts(), &both, world.now);
    assert_eq!(decision.verdict, defer("2026-11-23T19:00:00Z", Reason::OutsideHours));
    assert_eq!(decision.packs.len(), 2);
}

#[test]
fn daylight_saving_days_and_the_29th_of_february_have_the_hours_that_people_there_have() {
    let open = |zone: &str, from: &str, to: &str, now: &str| -> String {
        let hours = [Hours { days: vec![], from: from.parse().unwrap(), to: to.parse().unwrap() }];
        let zones = [(zone.to_owned(), jiff::tz::TimeZone::get(zone).unwrap())];
        next_open(&[&hours], &[], &zones, at(now)).unwrap().to_string()
    };
    let ny = "America/New_York";
    // 8 March 2026: 2:00 becomes 3:00. Midnight is 5:00 UTC, and 8:00 is 12:00 UTC, not 13:00.
    assert_eq!(open(ny, "08:00", "21:00", "2026-03-08T05:00:00Z"), "2026-03-08T12:00:00Z");
    assert_eq!(open(ny, "08:00", "21:00", "2026-03-07T05:00:00Z"), "2026-03-07T13:00:00Z");
    // A window that begins in the gap begins when the gap is over.
    assert_eq!(open(ny, "02:30", "04:00", "2026-03-08T05:00:00Z"), "2026-03-08T07:30:00Z");
    // 1 November 2026: 1:30 comes twice; the first one counts.
    assert_eq!(open(ny, "01:30", "01:45", "2026-11-01T04:00:00Z"), "2026-11-01T05:30:00Z");
    assert_eq!(open("Asia/Shanghai", "09:00", "20:00", "2028-02-28T13:00:00Z"), "2028-02-29T01:00:00Z");
    assert_eq!(open("Asia/Shanghai", "09:00", "20:00", "2028-02-29T13:00:00Z"), "2028-03-01T01:00:00Z");

    // A calendar day of 25 hours ends an hour later: three attempts at its beginning hold until then.
    let mut world = World::us();
    world.contact.region = Some("NY".into());
    world.pack.time.caps.retain(|cap| cap.window == CapWindow::CalendarDay && cap.check == CapCheck::D2);
    world.now = at("2026-11-01T15:00:00Z");
    world.history =
        (0..3).map(|n| attempt(&format!("2026-11-01T04:0{n}:00Z"), AttemptResult::NotConnected)).collect();
    assert_eq!(world.run(checks::d2_daily), defer("2026-11-02T05:00:00Z", Reason::DailyCap));
}

#[test]
fn a_deferral_by_one_reason_waits_for_the_others_too() {
    let mut world = World::cn();
    // The spacing ends at 12:15, in the noon rest: the whole gate says 14:00.
    world.now = at("2026-11-23T03:50:00Z");
    world.history = vec![attempt("2026-11-23T03:45:00Z", AttemptResult::NotConnected)];
    assert_eq!(world.decide().verdict, defer("2026-11-23T06:00:00Z", Reason::Spacing));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_refused_after_a_conversation_is_refused_after_an_abandoned_call(
        pack in 0_usize..5, region in 0_usize..4, minutes in 0_i64..20_000, history in attempts(10),
    ) {
        let abandoned = |attempt: &Attempt| {
            let talked = attempt.result == AttemptResult::Conversation;
            let result = if talked { AttemptResult::Abandoned } else { attempt.result };
            Attempt { result, ..attempt.clone() }
        };
        let after = world(pack, region, minutes, history.iter().map(abandoned).collect()).decide().verdict;
        let before = world(pack, region, minutes, history).decide().verdict;
        prop_assert!(before.severity() <= after.severity(), "{before:?} became {after:?}");
    }
}

fn results() -> impl Strategy<Value = AttemptResult> {
    prop_oneof![
        Just(AttemptResult::Open),
        Just(AttemptResult::NotConnected),
        Just(AttemptResult::Connected),
        Just(AttemptResult::Conversation),
        Just(AttemptResult::Abandoned),
    ]
}

/// Attempts of the last ten days.
fn attempts(most: usize) -> impl Strategy<Value = Vec<Attempt>> {
    let one = (0_i64..14_400, results(), any::<bool>(), proptest::option::of("d[12]")).prop_map(
        |(minutes, result, same_number, debt)| Attempt {
            at: at(MONDAY_US) - SignedDuration::from_mins(minutes),
            result,
            same_number,
            debt,
        },
    );
    proptest::collection::vec(one, 0..most)
}

fn world(pack: usize, region: usize, minutes: i64, history: Vec<Attempt>) -> World {
    let mut world = match pack {
        0 => World::us(),
        1 => World::cn(),
        2 => World::of("uk", "+442079460123", MONDAY_US),
        3 => World::of("eu", "+491711234567", MONDAY_US),
        _ => World::of("default-strict", "+81312345678", MONDAY_US),
    };
    world.now = at(MONDAY_US) + SignedDuration::from_mins(minutes);
    world.contact.region = [None, Some("NY"), Some("FL"), Some("HI")][region].map(str::to_owned);
    world.history = history;
    world.operations.lists.iter_mut().for_each(|list| list.as_of = Timestamp::MAX);
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn one_more_attempt_never_turns_a_refusal_into_a_permission(
        pack in 0_usize..5, region in 0_usize..4, minutes in 0_i64..20_000,
        history in attempts(10), more in attempts(4),
    ) {
        let before = world(pack, region, minutes, history.clone());
        let after = world(pack, region, minutes, history.into_iter().chain(more).collect());
        let (before, after) = (before.decide().verdict, after.decide().verdict);
        prop_assert!(before.severity() == 0 || after.severity() > 0, "{before:?} became {after:?}");
        if before.severity() == 3 {
            prop_assert_eq!(after.severity(), 3);
        }
    }

    #[test]
    fn what_is_deferred_may_be_called_at_the_end_of_the_deferral_and_not_before_it_would_be(
        pack in 0_usize..5, region in 0_usize..4, minutes in 0_i64..20_000, history in attempts(12),
    ) {
        let mut world = world(pack, region, minutes, history);
        if let Verdict::Defer { until, reason } = world.decide().verdict {
            prop_assert!(until > world.now);
            world.now = until;
            let then = world.decide();
            prop_assert!(then.allows() || then.verdict.reason() != Some(reason), "{:?}", then.verdict);
            world.now = until - SignedDuration::from_millis(1);
            prop_assert!(!world.decide().allows(), "a millisecond earlier was allowed too");
        }
    }
}

fn log(entries: u64) -> String {
    let mut log = String::new();
    let mut head: Option<(u64, String)> = None;
    for n in 1..=entries {
        let world = World::cn();
        let inputs = Inputs {
            script: "0".repeat(64),
            purpose: "debt_reminder".into(),
            line: None,
            attempts: 0,
            ..Inputs::default()
        };
        let mut decision = world.decide();
        decision.checks.truncate(3);
        let body =
            Body { call: CallId::from_u128(n.into()), stage: Stage::Request, inputs, decision, anchor: None };
        let prev = head.as_ref().map(|(seq, hash)| (*seq, hash.as_str()));
        let entry = Entry::follow(prev, &body, at(MONDAY_CN)).unwrap();
        log += &entry.line().unwrap();
        log.push('\n');
        head = Some((entry.seq, entry.hash));
    }
    log
}

#[test]
fn a_log_verifies_and_one_flipped_bit_anywhere_is_found() {
    let log = log(3);
    let (seq, hash) = verify(&log).unwrap().unwrap();
    assert_eq!((seq, hash.len()), (3, 64));
    let mut bytes = log.clone().into_bytes();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            // What is no UTF-8 any more is found by reading it.
            if let Ok(text) = std::str::from_utf8(&bytes) {
                assert!(verify(text).is_err(), "bit {bit} of byte {at}");
            }
            bytes[at] ^= 1 << bit;
        }
    }
}

#[test]
fn a_log_with_a_missing_swapped_or_cut_receipt_does_not_verify() {
    let log = log(4);
    let lines: Vec<&str> = log.lines().collect();
    let of = |order: &[usize]| order.iter().map(|at| format!("{}\n", lines[*at])).collect::<String>();
    assert_eq!(verify(&of(&[0, 2, 3])), Err(ReceiptError::Gap { line: 2, found: 3, expected: 2 }));
    assert!(verify(&of(&[0, 2, 1, 3])).is_err());
    assert_eq!(verify(&of(&[1, 2, 3])), Err(ReceiptError::Gap { line: 1, found: 2, expected: 1 }));
    assert_eq!(verify(log.trim_end()), Err(ReceiptError::CutOff));
    assert!(verify(&of(&[0, 1])).is_ok(), "who keeps the head's hash notices a short log");
    let first: Entry = serde_json::from_str(lines[0]).unwrap();
    let mut tail = Verifier::after(1, first.hash);
    assert!(lines[1..].iter().all(|line| tail.push(line).is_ok()));
}

#[test]
fn a_receipt_names_no_number() {
    assert!(!log(1).contains("138001"));
}
