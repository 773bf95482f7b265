//! Each check: what it allows, and what it says to each way of spoiling the case.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod common;

use AttemptResult::{Abandoned, Conversation, NotConnected, Open};
use common::*;
use trunkline_policy::checks::*;
use trunkline_policy::*;

type Spoil = fn(&mut World);

/// Runs a check on the good case and on each spoilt one.
fn table(good: &World, check: CheckFn, rows: &[(&str, Spoil, Verdict)]) {
    assert_eq!(good.run(check), Verdict::Allow, "the good case");
    for (name, spoil, wanted) in rows {
        let mut world = good.clone();
        spoil(&mut world);
        assert_eq!(world.run(check), *wanted, "{name}");
    }
}

fn callee(world: &mut World, callee: &str) {
    world.contact.callee = callee.parse().unwrap();
}

#[test]
fn a_good_call_passes_all_forty_two_checks_in_every_country() {
    for world in [
        World::cn(),
        World::us(),
        World::of("uk", "+442079460123", "2026-11-23T11:00:00Z"),
        World::of("eu", "+491711234567", "2026-11-23T11:00:00Z"),
        World::of("default-strict", "+81312345678", "2026-11-23T02:00:00Z"),
    ] {
        let decision = world.decide();
        assert!(decision.allows(), "{}: {:?}", world.pack.id, decision.verdict);
        let names: Vec<Check> = decision.checks.iter().map(|found| found.check).collect();
        assert_eq!(names, Check::ALL, "each check once, in order");
    }
}

#[test]
fn a1_calls_peoples_telephones_and_never_emergency_or_premium_numbers() {
    table(
        &World::us(),
        a1_number,
        &[
            ("premium", |w| callee(w, "+19005550123"), block(Reason::NumberPremium)),
            ("toll-free", |w| callee(w, "+18005550123"), block(Reason::NumberType)),
            ("no such area", |w| callee(w, "+11115550123"), block(Reason::NumberInvalid)),
            ("emergency", |w| callee(w, "+35200112"), block(Reason::NumberEmergency)),
            ("SIP", |w| callee(w, "sip:a@127.0.0.1"), block(Reason::SipNotAllowed)),
        ],
    );
    let lab = World::of("unrestricted-lab", "sip:a@127.0.0.1", MONDAY_CN);
    table(
        &lab,
        a1_number,
        &[
            ("a test number of no plan", |w| callee(w, "+120255501"), Verdict::Allow),
            ("premium in a laboratory", |w| callee(w, "+19005550123"), block(Reason::NumberPremium)),
        ],
    );
}

#[test]
fn a2_and_a3_fail_closed_where_country_or_zone_are_unknown() {
    table(
        &World::cn(),
        a2_jurisdiction,
        &[("satellite", |w| callee(w, "+881612345678"), block(Reason::JurisdictionUnknown))],
    );
    table(
        &World::cn(),
        a3_zone,
        &[
            ("satellite", |w| callee(w, "+881612345678"), block(Reason::ZoneUnknown)),
            ("bad stored zone", |w| hint(w, "Mars/Olympus", 100), block(Reason::ZoneUnknown)),
            (
                "country not in the table",
                |w| w.contact.country = Some("XX".into()),
                block(Reason::ZoneUnknown),
            ),
        ],
    );
}

fn hint(world: &mut World, name: &str, confidence: u8) {
    world.contact.zone = Some(ZoneHint { name: name.into(), source: "CRM".into(), confidence });
}

#[test]
fn a4_stops_at_a_list_that_names_the_contact_and_at_one_that_is_stale() {
    let mut good = World::us();
    good.plan.purpose = Purpose::Marketing;
    table(
        &good,
        a4_suppression,
        &[
            (
                "listed for ever",
                |w| w.contact.suppressions.push(Suppression { list: "national".into(), until: None }),
                block(Reason::Suppressed),
            ),
            (
                "the entry is over",
                |w| {
                    let until = Some(at("2026-11-01T00:00:00Z"));
                    w.contact.suppressions.push(Suppression { list: "campaign:x".into(), until });
                },
                Verdict::Allow,
            ),
            (
                "listed for another campaign",
                |w| {
                    w.plan.campaign = Some("y".into());
                    w.contact.suppressions.push(Suppression { list: "campaign:x".into(), until: None });
                },
                Verdict::Allow,
            ),
            (
                "listed for this campaign",
                |w| {
                    w.plan.campaign = Some("x".into());
                    w.contact.suppressions.push(Suppression { list: "campaign:x".into(), until: None });
                },
                block(Reason::Suppressed),
            ),
            (
                "listed for a campaign, and the call belongs to none",
                |w| {
                    w.plan.campaign = None;
                    w.contact.suppressions.push(Suppression { list: "campaign:x".into(), until: None });
                },
                Verdict::Allow,
            ),
            (
                "25 hours old",
                |w| w.operations.lists[0].as_of = at("2026-11-22T18:29:59Z"),
                block(Reason::ListStale),
            ),
            ("24 hours old", |w| w.operations.lists[0].as_of = at("2026-11-22T19:30:00Z"), Verdict::Allow),
            ("never loaded", |w| w.operations.lists.clear(), block(Reason::ListStale)),
            (
                "not needed for a reminder",
                |w| {
                    w.operations.lists.clear();
                    w.plan.purpose = Purpose::Appointment;
                },
                Verdict::Allow,
            ),
        ],
    );
}

#[test]
fn a5_an_opt_out_holds_for_its_scope_for_ever() {
    let opt_out = |w: &mut World, scope| {
        w.contact.opt_outs.push(OptOut { scope, channel: "spoken".into(), at: at("1999-01-01T00:00:00Z") });
    };
    let mut world = World::cn();
    world.contact.debt = Some("d1".into());
    for (scope, blocked) in [
        (OptOutScope::Number, true),
        (OptOutScope::Person, true),
        (OptOutScope::Debt("d1".into()), true),
        (OptOutScope::Debt("d2".into()), false),
        (OptOutScope::Purpose(Purpose::DebtReminder), true),
        (OptOutScope::Purpose(Purpose::Marketing), false),
    ] {
        let mut spoilt = world.clone();
        opt_out(&mut spoilt, scope.clone());
        let wanted = if blocked { block(Reason::OptedOut) } else { Verdict::Allow };
        assert_eq!(spoilt.run(a5_opt_out), wanted, "{scope:?}");
    }
}

#[test]
fn a6_and_a7_leave_wrong_and_vulnerable_people_alone() {
    table(
        &World::cn(),
        a6_wrong_party,
        &[
            (
                "marked",
                |w| w.contact.wrong_party_at = Some(at("2026-11-01T00:00:00Z")),
                block(Reason::WrongParty),
            ),
            (
                "verified, but recently marked",
                |w| {
                    w.contact.wrong_party_at = Some(at("2026-11-01T00:00:00Z"));
                    w.contact.reverified_at = Some(at("2026-11-02T00:00:00Z"));
                },
                defer("2027-01-30T00:00:00Z", Reason::WrongParty),
            ),
            (
                "verified before the mark",
                |w| {
                    w.contact.wrong_party_at = Some(at("2026-01-02T00:00:00Z"));
                    w.contact.reverified_at = Some(at("2026-01-01T00:00:00Z"));
                },
                block(Reason::WrongParty),
            ),
        ],
    );
    table(
        &World::cn(),
        a7_vulnerable,
        &[("marked", |w| w.contact.vulnerable = true, block(Reason::HumanOnly))],
    );
}

fn consent(world: &mut World) -> &mut Consent {
    world.contact.consent.as_mut().unwrap()
}

#[test]
fn b1_wants_a_basis_that_is_strong_in_force_in_scope_and_proven() {
    let mut good = World::us();
    good.plan.purpose = Purpose::Marketing;
    table(
        &good,
        b1_consent,
        &[
            ("none", |w| w.contact.consent = None, block(Reason::ConsentMissing)),
            ("too weak", |w| consent(w).basis = Basis::Express, block(Reason::ConsentMissing)),
            (
                "in the future",
                |w| consent(w).given = Some(at("2027-01-01T00:00:00Z")),
                block(Reason::ConsentMissing),
            ),
            ("over", |w| consent(w).expires = Some(at(MONDAY_US)), block(Reason::ConsentExpired)),
            ("withdrawn", |w| consent(w).revoked = Some(at(MONDAY_US)), block(Reason::ConsentRevoked)),
            ("for surveys", |w| consent(w).purposes = [Purpose::Survey].into(), block(Reason::ConsentScope)),
            ("people only", |w| consent(w).ai_voice = false, block(Reason::ConsentAiVoice)),
            ("unproven", |w| consent(w).proof = Some(" ".into()), block(Reason::ConsentProof)),
            ("no rule", |w| w.pack.basis.consent.clear(), block(Reason::ConsentMissing)),
        ],
    );
}

#[test]
fn b2_sells_nothing_over_a_chinese_call_centre_number_and_b3_waits_for_slow_boxes() {
    table(
        &World::cn(),
        b2_purpose,
        &[(
            "marketing over 95",
            |w| {
                w.plan.purpose = Purpose::Marketing;
                w.did().class = NumberClass::CallCentre;
            },
            skip(Reason::PurposeForbidden),
        )],
    );
    table(
        &World::cn(),
        b3_revocation,
        &[
            ("61 s", |w| w.operations.revocation_lag_s = 61, skip(Reason::RevocationLag)),
            ("60 s", |w| w.operations.revocation_lag_s = 60, Verdict::Allow),
        ],
    );
}

#[test]
fn c1_to_c6_the_caller_id_is_ours_fit_fresh_and_not_rotated() {
    let good = World::us();
    table(
        &good,
        c1_caller_id,
        &[
            ("no line yet", |w| w.line = None, Verdict::Allow),
            ("unknown", |w| w.line.as_mut().unwrap().did = None, block(Reason::CallerIdUnknown)),
            ("no proof", |w| w.did().proof = None, block(Reason::CallerIdUnknown)),
            ("unreachable", |w| w.did().reachable = false, block(Reason::CallerIdUnreachable)),
            (
                "another's entry",
                |w| w.did().number = "+12025550199".parse().unwrap(),
                block(Reason::CallerIdUnknown),
            ),
        ],
    );
    table(
        &good,
        c2_class,
        &[("inbound only", |w| w.did().inbound_only = true, block(Reason::CallerIdClass))],
    );
    table(
        &World::cn(),
        c2_class,
        &[(
            "a reminder over a short number",
            |w| w.did().class = NumberClass::Special,
            block(Reason::CallerIdClass),
        )],
    );
    table(
        &good,
        c3_attestation,
        &[
            ("B", |w| w.line.as_mut().unwrap().attestation = Some(Attestation::B), skip(Reason::Attestation)),
            ("none", |w| w.line.as_mut().unwrap().attestation = None, skip(Reason::Attestation)),
        ],
    );
    table(
        &good,
        c4_wear,
        &[
            ("worn", |w| w.did().calls_today = 500, skip(Reason::CallerIdWorn)),
            ("nobody answers", |w| w.did().answer_rate = Some(0.01), skip(Reason::CallerIdResting)),
            ("complaints", |w| w.did().complaints = 3, skip(Reason::CallerIdResting)),
        ],
    );
    table(
        &good,
        c5_no_evasion,
        &[("a partial history", |w| w.operations.history_complete = false, skip(Reason::CapEvasion))],
    );
    let local = |w: &mut World| w.line.as_mut().unwrap().local_presence = true;
    let mut in_the_us = good.clone();
    local(&mut in_the_us);
    table(
        &in_the_us,
        c6_local_presence,
        &[("not owned", |w| w.did().proof = None, skip(Reason::LocalPresence))],
    );
    let mut in_china = World::cn();
    local(&mut in_china);
    assert_eq!(in_china.run(c6_local_presence), skip(Reason::LocalPresence));
}

#[test]
fn c7_to_c9_a_gsm_line_has_its_own_registered_sim_and_is_permitted() {
    let mut good = World::cn();
    let line = good.line.as_mut().unwrap();
    line.kind = LineKind::Gsm;
    line.sim = Some(Sim {
        holder: Some("Branch Ltd".into()),
        operator: "Branch Ltd".into(),
        at_its_branch: true,
        identity_unchanged: true,
    });
    fn sim(w: &mut World) -> &mut Sim {
        w.line.as_mut().unwrap().sim.as_mut().unwrap()
    }
    table(
        &good,
        c7_sim_registered,
        &[
            ("somebody else's", |w| sim(w).holder = Some("Other".into()), block(Reason::SimRegistration)),
            ("unregistered", |w| sim(w).holder = None, block(Reason::SimRegistration)),
            ("elsewhere", |w| sim(w).at_its_branch = false, block(Reason::SimRegistration)),
            ("unknown", |w| w.line.as_mut().unwrap().sim = None, block(Reason::SimRegistration)),
        ],
    );
    table(
        &good,
        c8_sim_fixed,
        &[("swapped", |w| sim(w).identity_unchanged = false, block(Reason::SimSwapped))],
    );
    assert_eq!(good.run(c9_gsm), skip(Reason::GsmProhibited), "in China until counsel agrees");
    assert_eq!(World::cn().run(c9_gsm), Verdict::Allow, "over SIP");
}

#[test]
fn d1_keeps_the_callees_hours_in_every_zone_that_may_be_hers() {
    table(
        &World::cn(),
        d1_hours,
        &[
            (
                "noon rest",
                |w| w.now = at("2026-11-23T04:00:00Z"),
                defer("2026-11-23T06:00:00Z", Reason::OutsideHours),
            ),
            (
                "22:00",
                |w| w.now = at("2026-11-23T14:00:00Z"),
                defer("2026-11-24T00:00:00Z", Reason::OutsideHours),
            ),
            ("21:59:59", |w| w.now = at("2026-11-23T13:59:59Z"), Verdict::Allow),
            (
                "the campaign opens later",
                |w| {
                    w.plan.windows = vec![Hours {
                        days: vec![],
                        from: "15:00".parse().unwrap(),
                        to: "16:00".parse().unwrap(),
                    }]
                },
                defer("2026-11-23T07:00:00Z", Reason::OutsideHours),
            ),
            (
                "the campaign opens at night",
                |w| {
                    w.plan.windows = vec![Hours {
                        days: vec![],
                        from: "02:00".parse().unwrap(),
                        to: "03:00".parse().unwrap(),
                    }]
                },
                skip(Reason::WindowNeverOpens),
            ),
            (
                "a holiday",
                |w| w.pack.time.holidays.value = vec!["2026-11-23".parse().unwrap()],
                defer("2026-11-24T00:00:00Z", Reason::OutsideHours),
            ),
            ("a zone that does not exist", |w| hint(w, "Asia/Nowhere", 99), block(Reason::ZoneUnknown)),
        ],
    );
    table(
        &World::us(),
        d1_hours,
        &[
            // 10:00 in New York is 5:00 in Honolulu; 8:00 there is 13:00 in New York.
            (
                "no address",
                |w| w.now = at("2026-11-23T15:00:00Z"),
                defer("2026-11-23T18:00:00Z", Reason::OutsideHours),
            ),
            (
                "in New York",
                |w| {
                    w.now = at("2026-11-23T15:00:00Z");
                    w.contact.region = Some("NY".into());
                },
                Verdict::Allow,
            ),
            (
                "20:30 in New York",
                |w| {
                    w.now = at("2026-11-24T01:30:00Z");
                    w.contact.region = Some("NY".into());
                },
                Verdict::Allow,
            ),
            (
                "19:30 in Florida's west, 20:30 in its east",
                |w| {
                    w.now = at("2026-11-24T01:30:00Z");
                    w.contact.region = Some("FL".into());
                },
                defer("2026-11-24T14:00:00Z", Reason::OutsideHours),
            ),
            (
                "an unsure zone is one more candidate",
                |w| {
                    hint(w, "Asia/Tokyo", 10);
                    w.contact.region = Some("NY".into());
                },
                // Open in New York until 2:00 UTC, in Tokyo from 23:00 UTC.
                defer("2026-11-23T23:00:00Z", Reason::OutsideHours),
            ),
        ],
    );
}

#[test]
fn d2_counts_a_sliding_day_and_a_calendar_day_over_everything() {
    let mut world = World::cn();
    let calls = ["2026-11-22T06:00:00Z", "2026-11-22T08:00:00Z", "2026-11-22T10:00:00Z"];
    world.history = calls.map(|when| attempt(when, NotConnected)).to_vec();
    assert_eq!(world.run(d2_daily), defer("2026-11-23T06:00:00Z", Reason::DailyCap));
    world.now = at("2026-11-23T06:00:00Z");
    assert_eq!(world.run(d2_daily), Verdict::Allow, "the first has left the window at its very end");

    // Five to this number on one calendar day of Shanghai; the pack's sliding cap is lifted to see it.
    world.pack.time.caps.retain(|cap| cap.window == CapWindow::CalendarDay);
    world.now = at("2026-11-23T13:00:00Z");
    world.history = (0..5).map(|hour| attempt(&format!("2026-11-23T0{hour}:30:00Z"), Conversation)).collect();
    assert_eq!(world.run(d2_daily), defer("2026-11-23T16:00:00Z", Reason::DailyCap), "midnight in Shanghai");
    world.history.iter_mut().for_each(|attempt| attempt.same_number = false);
    assert_eq!(world.run(d2_daily), Verdict::Allow, "another number of the person");
}

#[test]
fn d2_in_florida_has_three_in_24_hours_also_where_the_state_is_unknown() {
    let mut world = World::us();
    world.pack.time.caps.clear();
    let calls = ["2026-11-22T20:00:00Z", "2026-11-23T15:00:00Z", "2026-11-23T16:00:00Z"];
    world.history = calls.map(|when| attempt(when, NotConnected)).to_vec();
    assert_eq!(world.run(d2_daily), defer("2026-11-23T20:00:00Z", Reason::DailyCap));
    world.contact.region = Some("NY".into());
    assert_eq!(world.run(d2_daily), Verdict::Allow);
}

#[test]
fn d3_and_d4_count_conversations_and_weeks() {
    let mut world = World::cn();
    world.history = (0..3).map(|n| attempt(&format!("2026-11-23T00:{n}0:00Z"), Conversation)).collect();
    assert_eq!(world.run(d3_conversations), defer("2026-11-23T16:00:00Z", Reason::ConversationCap));
    world.history[0].result = Open;
    assert_eq!(
        world.run(d3_conversations),
        defer("2026-11-23T16:00:00Z", Reason::ConversationCap),
        "may become one"
    );
    world.history[0].result = Abandoned;
    assert_eq!(
        world.run(d3_conversations),
        defer("2026-11-23T16:00:00Z", Reason::ConversationCap),
        "who waited for a person in vain was talked with"
    );
    world.history[0].result = NotConnected;
    assert_eq!(world.run(d3_conversations), Verdict::Allow);

    let mut world = World::us();
    world.contact.debt = Some("d1".into());
    world.history = (0..7)
        .map(|day| Attempt {
            debt: Some("d1".into()),
            ..attempt(&format!("2026-11-{}T18:00:00Z", 17 + day), NotConnected)
        })
        .collect();
    assert_eq!(world.run(d4_week), defer("2026-11-24T18:00:00Z", Reason::WeeklyCap));
    world.history.truncate(1);
    for talked in [Conversation, Abandoned] {
        world.history[0].result = talked;
        assert_eq!(world.run(d4_week), defer("2026-11-24T18:00:00Z", Reason::ConversationRest));
    }
    world.history[0].debt = Some("another".into());
    assert_eq!(world.run(d4_week), Verdict::Allow);
}

#[test]
fn d5_spaces_attempts_and_rests_after_an_abandoned_call() {
    table(
        &World::cn(),
        d5_spacing,
        &[
            (
                "29 min",
                |w| w.history = vec![attempt("2026-11-23T02:01:00Z", Open)],
                defer("2026-11-23T02:31:00Z", Reason::Spacing),
            ),
            ("30 min", |w| w.history = vec![attempt("2026-11-23T02:00:00Z", Open)], Verdict::Allow),
            (
                "abandoned yesterday",
                |w| w.history = vec![attempt("2026-11-22T02:00:00Z", Abandoned)],
                defer("2026-11-25T02:00:00Z", Reason::AbandonedRest),
            ),
            (
                "abandoned yesterday, a person is there now",
                |w| {
                    w.history = vec![attempt("2026-11-22T02:00:00Z", Abandoned)];
                    w.plan.human_available = true;
                },
                Verdict::Allow,
            ),
            (
                "a clock that jumped: the last attempt is in the future",
                |w| w.history = vec![attempt("2026-11-23T05:00:00Z", NotConnected)],
                defer("2026-11-23T05:30:00Z", Reason::Spacing),
            ),
        ],
    );
}

#[test]
fn d6_and_d7_end_after_a_life_time_and_ring_neither_too_short_nor_too_long() {
    let mut world = World::us();
    world.history = (0..30)
        .map(|day| attempt(&format!("2026-0{}-{:02}T18:00:00Z", 1 + day / 28, 1 + day % 28), NotConnected))
        .collect();
    assert_eq!(world.run(d6_lifetime), skip(Reason::LifetimeCap));
    world.history.pop();
    assert_eq!(world.run(d6_lifetime), Verdict::Allow);
    table(
        &World::us(),
        d7_ring,
        &[
            ("14 s", |w| w.plan.ring_s = 14, block(Reason::RingTime)),
            ("61 s", |w| w.plan.ring_s = 61, block(Reason::RingTime)),
            ("15 s", |w| w.plan.ring_s = 15, Verdict::Allow),
        ],
    );
}

fn says(world: &mut World, text: &str) {
    std::sync::Arc::make_mut(&mut world.plan.script.texts).push(text.into());
}

#[test]
fn e6_looks_again_where_the_texts_or_the_pack_are_other_ones() {
    let mut world = World::us();
    assert_eq!(world.run(e6_no_deception), Verdict::Allow);
    let before = world.plan.script.texts.clone();
    says(&mut world, "I am a real person");
    assert_eq!(world.run(e6_no_deception), block(Reason::Deception));
    let after = std::mem::replace(&mut world.plan.script.texts, before);
    assert_eq!(world.run(e6_no_deception), Verdict::Allow);
    world.plan.script.texts = after;
    world.pack.call.forbidden.value.clear();
    assert_eq!(world.run(e6_no_deception), Verdict::Allow, "this pack forbids nothing");
}

#[test]
fn e1_to_e10_the_script_and_the_plan_promise_what_the_call_must_keep() {
    let good = World::cn();
    let missing = block(Reason::DisclosureMissing);
    let lacks = |disclosure: Disclosure| {
        let mut world = good.clone();
        world.plan.script.discloses.remove(&disclosure);
        world
    };
    assert_eq!(lacks(Disclosure::Ai).run(e1_ai_disclosure), missing);
    assert_eq!(lacks(Disclosure::Identity).run(e2_identity), missing);
    assert_eq!(lacks(Disclosure::Recording).run(e3_recording), missing);
    let mut unrecorded = lacks(Disclosure::Recording);
    unrecorded.plan.recording = Recording::None;
    assert_eq!(unrecorded.run(e3_recording), Verdict::Allow);
    for check in [e1_ai_disclosure, e2_identity, e3_recording] {
        assert_eq!(good.run(check), Verdict::Allow);
    }
    table(
        &good,
        e4_first_word,
        &[("2001 ms", |w| w.plan.first_word_ms = 2_001, skip(Reason::FirstWordLate))],
    );
    table(
        &good,
        e5_opt_out,
        &[("mute", |w| w.plan.script.opt_out_spoken = false, block(Reason::OptOutMissing))],
    );
    table(
        &good,
        e6_no_deception,
        &[
            ("denies", |w| says(w, "No, I am a REAL person."), block(Reason::Deception)),
            ("threatens", |w| says(w, "不还款就上门抓你"), block(Reason::Deception)),
        ],
    );
    table(
        &good,
        e7_right_party,
        &[
            ("does not ask", |w| w.plan.script.right_party = false, block(Reason::RightPartyMissing)),
            (
                "no debt",
                |w| {
                    w.plan.script.right_party = false;
                    w.plan.purpose = Purpose::Notice;
                },
                Verdict::Allow,
            ),
        ],
    );
    table(&good, e8_human, &[("nobody", |w| w.plan.script.human = false, block(Reason::HumanMissing))]);
    table(
        &good,
        e9_voicemail,
        &[("all of it", |w| w.plan.voicemail = VoicemailAction::FullText, block(Reason::VoicemailPlan))],
    );
    table(
        &good,
        e10_emotion,
        &[
            ("on", |w| w.plan.emotion = true, Verdict::Allow),
            (
                "on, without a written consent",
                |w| {
                    w.plan.emotion = true;
                    w.contact.consent.as_mut().unwrap().basis = Basis::Express;
                },
                block(Reason::EmotionProcessing),
            ),
            (
                "on, where the pack forbids it",
                |w| {
                    w.plan.emotion = true;
                    w.pack = World::of("eu", "+33142685300", MONDAY_CN).pack;
                },
                block(Reason::EmotionProcessing),
            ),
        ],
    );
}

#[test]
fn f1_to_f6_the_operation_around_the_call_is_in_order() {
    let good = World::cn();
    table(
        &good,
        f1_retention,
        &[("29 days", |w| w.operations.retention_days = 29, block(Reason::RetentionShort))],
    );
    table(
        &good,
        f2_rights,
        &[("none", |w| w.operations.subject_rights = false, block(Reason::RightsMissing))],
    );
    table(
        &good,
        f3_complaints,
        &[("16 days", |w| w.operations.oldest_complaint_days = 16, skip(Reason::ComplaintsOverdue))],
    );
    table(
        &good,
        f4_abandonment,
        &[
            (
                "4 %",
                |w| w.operations.abandonment = Some(0.04),
                defer("2026-11-23T02:45:00Z", Reason::AbandonmentCap),
            ),
            ("3 %", |w| w.operations.abandonment = Some(0.03), Verdict::Allow),
        ],
    );
    table(&good, f5_label, &[("none", |w| w.operations.audio_label = false, block(Reason::LabelMissing))]);
    table(
        &good,
        f6_pack,
        &[
            ("unsigned", |w| w.pack.sign_off = None, block(Reason::PackUnsigned)),
            (
                "in force tomorrow",
                |w| w.pack.effective = "2026-11-24".parse().unwrap(),
                block(Reason::PackNotInForce),
            ),
        ],
    );
}
