//! Calls to a customer over loopback: real SIP and RTP, no models.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::common::{Caller, Line, cast, speech};
use tokio::task::JoinSet;
use trunkline_audio::{level, wav};
use trunkline_callee::Dial;
use trunkline_callee::event::{By, Event, Outcome};
use trunkline_sip::message::Uri;
use trunkline_sip::sdp::Codec as SdpCodec;
use trunkline_sip::{FailureCause, SipEvent};

const ANSWERS: &str = "thinking: 300ms\nrules: [{hear: any, say: yes of course}]\n";

fn outcome(events: &[Event]) -> Outcome {
    let ended = events.iter().find_map(|event| match event {
        Event::Ended { outcome, .. } => Some(*outcome),
        Event::Ringing { .. }
        | Event::Dialing { .. }
        | Event::Answered { .. }
        | Event::Heard { .. }
        | Event::Said { .. }
        | Event::HungUp { .. }
        | Event::Summary { .. } => None,
    });
    ended.unwrap_or_else(|| panic!("{events:?}"))
}

#[tokio::test]
async fn she_answers_when_the_caller_has_fallen_silent() {
    let line = Line::open(cast(ANSWERS), |config| config.calls = Some(1)).await;
    let caller = Caller::new(None).await;
    let mut call = caller.call("1001", line.addr).await.unwrap();
    call.listen(200).await;
    call.say(speech(1_500));
    call.listen(4_000).await;
    let (began, ended) = call.voice().expect("she says something");
    // 200 + 1500 ms, 600 ms patience, 300 ms thought; jitter buffers and frames on both sides.
    assert!((2_550..2_900).contains(&began), "{began}");
    assert!((1_300..1_500).contains(&(ended - began)), "{began} {ended}");
    caller.hang_up(&mut call).await;

    let (calls, events) = line.ended().await;
    assert_eq!(calls, 1);
    assert!(
        matches!(events[0], Event::Ringing { call: 1, ref number, .. } if number == "1001"),
        "{events:?}"
    );
    assert!(matches!(events[1], Event::Answered { codec: "PCMA", .. }), "{events:?}");
    let Event::Heard { turn: 1, start_s, end_s, text: None, .. } = events[2] else { panic!("{events:?}") };
    assert!((1.3..1.7).contains(&(end_s - start_s)), "{start_s} {end_s}");
    let Event::Said { start_s, end_s, .. } = events[3] else { panic!("{events:?}") };
    assert!((1.2..1.5).contains(&(end_s - start_s)), "{start_s} {end_s}");
    assert!(matches!(events[4], Event::HungUp { by: By::Robot, .. }), "{events:?}");
    let Event::Ended { outcome: Outcome::Answered, received, said: 1, robot_turns: 1, .. } = events[5] else {
        panic!("{events:?}")
    };
    assert!(received > 200, "{received}");
    assert!(matches!(events[6], Event::Summary { calls: 1, .. }), "{events:?}");
}

#[tokio::test]
async fn she_calls_somebody_and_talks_as_one_who_was_called() {
    let robot = cast("greeting: hello there\nhangup_after: {seconds: 4}\n");
    let there = Line::open(robot, |config| config.calls = Some(1)).await;
    let dial = Dial { to: Uri::at("8001", there.addr), from: "4000".to_owned() };
    let here = Line::open(cast(ANSWERS), |config| {
        config.calls = Some(1);
        config.dial = Some(dial);
    })
    .await;
    let (_, heard) = there.ended().await;
    let (calls, told) = here.ended().await;
    assert_eq!((calls, outcome(&told), outcome(&heard)), (1, Outcome::Answered, Outcome::Answered));
    assert!(matches!(&told[0], Event::Dialing { number, .. } if number == "8001"), "{told:?}");
    assert!(matches!(&heard[0], Event::Ringing { number, .. } if number == "8001"), "{heard:?}");
    assert!(told.iter().any(|event| matches!(event, Event::Said { .. })), "{told:?}");
}

#[tokio::test]
async fn her_recording_holds_both_sides_and_the_noise_of_her_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("call.wav");
    let noise = folder.path().join("noise.wav");
    wav::write(&noise, 8_000, &[&trunkline_audio::channel::pink_noise(16_000, -20.0, 3)]).unwrap();
    let text = format!(
        "schema: trunkline/persona/1\nname: N\nlocale: en-US\nanswer_after: 0s\n\
         noise: {{file: {}, snr_db: 20}}\nsilent: true\n",
        noise.display()
    );
    let persona = trunkline_callee::Persona::parse(&text, folder.path()).unwrap();
    let noisy =
        trunkline_callee::sound::rehearse(vec![persona], folder.path(), folder.path()).unwrap().remove(0);
    let record = file.clone();
    let line = Line::open(noisy, |config| config.record = Some(record)).await;
    let caller = Caller::new(None).await;
    let mut call = caller.call("1", line.addr).await.unwrap();
    call.listen(500).await;
    call.say(speech(1_000));
    call.listen(2_000).await;
    caller.hang_up(&mut call).await;
    let events = line.stop().await;
    assert_eq!(outcome(&events), Outcome::Answered);

    // -22 dBFS of speech less 20 dB.
    let heard = level::rms_dbfs(&call.heard[8_000..]);
    assert!((heard + 42.0).abs() < 1.0, "the caller hears noise at {heard} dBFS");
    let recorded = wav::read(&file).unwrap();
    let (left, right) = (&recorded.channels[0], &recorded.channels[1]);
    assert!(level::active_dbfs(left, 8_000).unwrap() > -30.0);
    let silence = right.chunks(160).skip(25).take(75).filter(|frame| level::rms_dbfs(frame) < -60.0).count();
    assert!(silence <= 2, "{silence} frames of the noise are missing");
}

#[tokio::test]
async fn a_call_is_refused_as_the_persona_says() {
    for (lines, code, cause, wanted) in [
        ("busy: true\n", 486, FailureCause::Busy, Outcome::Busy),
        ("reject: 603\n", 603, FailureCause::Declined, Outcome::Rejected),
        ("reject: 404\n", 404, FailureCause::NotFound, Outcome::Rejected),
        ("reject: 488\n", 488, FailureCause::NotAcceptable, Outcome::Rejected),
    ] {
        let line = Line::open(cast(lines), |config| config.calls = Some(1)).await;
        let failure = Caller::new(None).await.call("1", line.addr).await.err().unwrap();
        assert_eq!((failure.sip_code, failure.cause), (Some(code), cause));
        assert_eq!(outcome(&line.ended().await.1), wanted);
    }
}

#[tokio::test]
async fn without_a_common_codec_the_call_ends_with_488() {
    let line = Line::open(cast("codecs: [PCMU]\n"), |config| config.calls = Some(1)).await;
    let mut caller = Caller::new(None).await;
    caller.codecs = vec![SdpCodec::Pcma];
    let failure = caller.call("1", line.addr).await.err().unwrap();
    assert_eq!((failure.sip_code, failure.cause), (Some(488), FailureCause::NotAcceptable));
    assert_eq!(outcome(&line.ended().await.1), Outcome::NotAcceptable);
}

#[tokio::test]
async fn a_caller_needs_the_password_of_the_line() {
    let auth = format!("{ANSWERS}auth: {{realm: trunk, user: branch, password: secret}}\n");
    let line = Line::open(cast(&auth), |config| config.calls = Some(1)).await;
    for password in [None, Some("wrong")] {
        let failure = Caller::new(password).await.call("1", line.addr).await.err().unwrap();
        assert_eq!((failure.sip_code, failure.cause), (Some(401), FailureCause::Unauthorized));
    }
    let caller = Caller::new(Some("secret")).await;
    let mut call = caller.call("1", line.addr).await.unwrap();
    caller.hang_up(&mut call).await;
    assert_eq!(outcome(&line.ended().await.1), Outcome::Answered);
}

#[tokio::test]
async fn nobody_comes_until_the_caller_gives_up() {
    let line = Line::open(cast("no_answer: true\n"), |config| config.calls = Some(1)).await;
    let mut caller = Caller::new(None).await;
    caller.ring_timeout = Duration::from_secs(1);
    let failure = caller.call("1", line.addr).await.err().unwrap();
    assert_eq!(failure.cause, FailureCause::NoAnswer);
    assert_eq!(outcome(&line.ended().await.1), Outcome::NoAnswer);
}

#[tokio::test]
async fn she_can_hang_up_at_once_or_after_a_while() {
    for (lines, by) in
        [("hang_up_at_once: true\n", By::Customer), ("hangup_after: {seconds: 0.5}\n", By::Customer)]
    {
        let line = Line::open(cast(lines), |config| config.calls = Some(1)).await;
        let caller = Caller::new(None).await;
        let mut call = caller.call("1", line.addr).await.unwrap();
        call.until(|event| matches!(event, SipEvent::PeerHungUp { .. })).await;
        let (_, events) = line.ended().await;
        assert!(events.contains(&Event::HungUp { call: 1, by }), "{events:?}");
    }
}

#[tokio::test]
async fn the_number_that_is_called_picks_the_persona() {
    let line = Line::open(cast("busy: true\n"), |config| {
        config.numbers = BTreeMap::from([("1002".to_owned(), cast("reject: 603\n"))]);
    })
    .await;
    let caller = Caller::new(None).await;
    assert_eq!(caller.call("1001", line.addr).await.err().unwrap().sip_code, Some(486));
    assert_eq!(caller.call("1002", line.addr).await.err().unwrap().sip_code, Some(603));
    line.stop().await;
}

#[tokio::test]
async fn told_to_stop_she_hangs_up_first() {
    let line = Line::open(cast(ANSWERS), |_| ()).await;
    let caller = Caller::new(None).await;
    let mut call = caller.call("1", line.addr).await.unwrap();
    call.listen(300).await;
    let events = line.stop().await;
    call.until(|event| matches!(event, SipEvent::PeerHungUp { .. })).await;
    assert_eq!(outcome(&events), Outcome::Answered);
}

#[tokio::test]
async fn twenty_customers_talk_at_once() {
    let line = Line::open(cast(ANSWERS), |config| config.calls = Some(20)).await;
    let caller = Arc::new(Caller::new(None).await);
    let mut calls = JoinSet::new();
    for n in 0..20 {
        let (caller, to) = (Arc::clone(&caller), line.addr);
        calls.spawn(async move {
            let mut call = caller.call(&n.to_string(), to).await.unwrap();
            call.say(speech(800));
            call.listen(4_000).await;
            assert!(call.voice().is_some());
            caller.hang_up(&mut call).await;
        });
    }
    while let Some(done) = calls.join_next().await {
        done.unwrap();
    }
    let (_, events) = line.ended().await;
    let said = events.iter().filter(|event| matches!(event, Event::Said { .. })).count();
    assert_eq!(said, 20);
    if let Some(Event::Summary { cpu_s, max_rss_mb, .. }) = events.last() {
        println!("20 calls at once: {cpu_s} s of processor time with their callers, {max_rss_mb} MB");
    }
}
