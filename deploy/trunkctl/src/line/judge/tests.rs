use std::time::Duration;

use trunkline_trace::MediaReport;

use super::*;
use crate::line::Lang;

fn wanted(echo: bool, ask: bool) -> Wanted {
    let number = Some("1001".to_owned());
    let (lasts, ring) = (Duration::ZERO, Duration::ZERO);
    Wanted { number, echo, ask, lasts, ring, lang: Lang::En, profile: false }
}

fn measured(call: CallMeasured) -> Measured {
    Measured {
        trunk: "a".to_owned(),
        place: "192.0.2.1:5060".to_owned(),
        transport: "UDP",
        lookup: Step::NotTested,
        certificate_days: Step::NotTested,
        keys_in_clear: false,
        options: Step::Done((200, 12)),
        registered: Step::NotTested,
        call: Some(call),
    }
}

fn good() -> CallMeasured {
    CallMeasured {
        first_word_ms: Some(5),
        rang_ms: Some(300),
        answered_ms: Some(2_000),
        codec: "PCMA".to_owned(),
        events_agreed: true,
        media: MediaReport { received: 500, mos_heard: Some(4.4), ..MediaReport::default() },
        heard_dbm0: Some(-20.0),
        bye: Some((20, true)),
        ..CallMeasured::default()
    }
}

fn verdict(measured: &Measured, wanted: &Wanted, check: &str) -> Verdict {
    let rows = rows(measured, wanted);
    rows.iter().find(|row| row.check == check).unwrap_or_else(|| panic!("no {check}")).verdict
}

#[test]
fn one_way_sound_is_a_failure_in_either_direction() {
    let deaf = CallMeasured { media: MediaReport::default(), heard_dbm0: None, ..good() };
    assert_eq!(verdict(&measured(deaf), &wanted(false, false), "sound_in"), Verdict::Fail);
    let silent = || measured(CallMeasured { heard_dbm0: None, ..good() });
    assert_eq!(verdict(&silent(), &wanted(false, false), "sound_in"), Verdict::Warn);
    assert_eq!(verdict(&silent(), &wanted(true, false), "sound_in"), Verdict::Fail);
    let mut mute = measured(good());
    assert_eq!(verdict(&mute, &wanted(false, false), "sound_out"), Verdict::NotTested);
    assert_eq!(verdict(&mute, &wanted(true, false), "sound_out"), Verdict::Fail);
    mute.call.as_mut().unwrap().heard_us = Some(false);
    assert_eq!(verdict(&mute, &wanted(false, true), "sound_out"), Verdict::Fail);
    mute.call.as_mut().unwrap().heard_us = None;
    mute.call.as_mut().unwrap().media.far_loss = Some(0.0);
    assert_eq!(verdict(&mute, &wanted(false, false), "sound_out"), Verdict::Pass);
}

#[test]
fn an_echo_is_what_a_service_should_do_and_a_telephone_should_not() {
    let of = |loss: Option<f32>, service| {
        let call = CallMeasured { echo_loss_db: loss, echo_round_trip_ms: loss.map(|_| 50.0), ..good() };
        verdict(&measured(call), &wanted(service, false), "echo")
    };
    assert_eq!(
        [of(Some(1.0), true), of(Some(30.0), true), of(None, true)],
        [Verdict::Pass, Verdict::Fail, Verdict::Fail]
    );
    assert_eq!(
        [of(Some(1.0), false), of(Some(25.0), false), of(Some(40.0), false), of(None, false)],
        [Verdict::Fail, Verdict::Warn, Verdict::Pass, Verdict::Pass]
    );
}

#[test]
fn keys_count_by_the_way_they_came() {
    let of = |pressed_as, ask| {
        verdict(&measured(CallMeasured { pressed_as, ..good() }), &wanted(false, ask), "keys_in")
    };
    assert_eq!([of(Some("event"), true), of(Some("info"), true)], [Verdict::Pass, Verdict::Pass]);
    assert_eq!(
        [of(Some("sound"), true), of(None, true), of(None, false)],
        [Verdict::Warn, Verdict::Fail, Verdict::NotTested]
    );
    let without = CallMeasured { events_agreed: false, ..good() };
    assert_eq!(verdict(&measured(without), &wanted(false, false), "keys_out"), Verdict::Warn);
}

#[test]
fn figures_pass_warn_and_fail_at_their_limits() {
    let loss = |lost| {
        let mut call = good();
        (call.media.received, call.media.lost) = (1_000 - lost, lost);
        verdict(&measured(call), &wanted(false, false), "loss_in")
    };
    assert_eq!(
        [loss(10), loss(11), loss(30), loss(31)],
        [Verdict::Pass, Verdict::Warn, Verdict::Warn, Verdict::Fail]
    );
    let mos = |mos| {
        let mut call = good();
        call.media.mos_heard = Some(mos);
        verdict(&measured(call), &wanted(false, false), "mos_in")
    };
    assert_eq!([mos(4.0), mos(3.6), mos(3.5)], [Verdict::Pass, Verdict::Warn, Verdict::Fail]);
}

#[test]
fn a_trunk_that_only_leaves_options_unanswered_is_no_dead_one() {
    let mut trunk = measured(CallMeasured { failed: Some("busy".to_owned()), ..CallMeasured::default() });
    trunk.options = Step::Failed("no answer".to_owned());
    assert_eq!(verdict(&trunk, &wanted(false, false), "options"), Verdict::Fail);
    trunk.registered = Step::Done(20);
    assert_eq!(verdict(&trunk, &wanted(false, false), "options"), Verdict::Warn);
    assert_eq!(verdict(&trunk, &wanted(false, false), "call"), Verdict::Fail);
}

#[test]
fn every_text_is_there_in_both_languages() {
    for call in [
        good(),
        CallMeasured {
            failed: Some("busy".to_owned()),
            cause: Some(FailureCause::Busy),
            ..CallMeasured::default()
        },
    ] {
        for row in rows(&measured(call), &wanted(true, true)) {
            assert!(!row.name.of(Lang::Zh).is_empty() && row.name != same(row.name.of(Lang::En)), "{row:?}");
            assert_eq!(row.advice.of(Lang::En).is_empty(), row.advice.of(Lang::Zh).is_empty(), "{row:?}");
        }
    }
}
