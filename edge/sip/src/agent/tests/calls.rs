//! Calls between two agents on a fair network.

use std::io::ErrorKind;

use super::*;
use crate::digest::{Algorithm, Credentials};
use crate::sdp::{Codec, SdpError};

#[test]
fn a_call_is_set_up_talked_on_and_hung_up_by_the_caller() {
    let mut pair = Pair::new();
    let call = pair.call();
    let there = pair.until(Side::Callee, incoming);
    pair.callee.ringing(pair.now, there, None).unwrap();
    let at_callee = pair.callee.accept(pair.now, there, media(Side::Callee)).unwrap().unwrap();
    let at_caller = pair.until(Side::Caller, answered);
    pair.until(Side::Callee, answered);

    assert_eq!(at_caller.remote, media(Side::Callee).addr);
    assert_eq!(at_callee.remote, media(Side::Caller).addr);
    assert_eq!((at_caller.codec, at_caller.dtmf_pt), (Codec::Pcma, Some(101)));

    pair.caller.bye(pair.now, call, Some(HangupReason::normal())).unwrap();
    assert_eq!(pair.until(Side::Callee, hung_up).q850, Some(16));
    pair.until(Side::Caller, ended);
    pair.settle();
    assert_eq!(pair.sent_by(Side::Caller), ["INVITE", "ACK", "BYE"]);
    let answers = ["SIP/2.0 100 Trying", "SIP/2.0 180 Ringing", "SIP/2.0 200 OK", "SIP/2.0 200 OK"];
    assert_eq!(pair.sent_by(Side::Callee), answers);
    assert_eq!(pair.caller.bye(pair.now, call, None), Err(CommandError::UnknownCall));
}

#[test]
fn the_callee_may_hang_up_and_say_why() {
    let mut pair = Pair::new();
    let (_, there) = pair.set_up();
    let reason = HangupReason { q850: Some(41), sip_code: None, text: Some("line cut".to_owned()) };
    pair.callee.bye(pair.now, there, Some(reason.clone())).unwrap();
    assert_eq!(pair.until(Side::Caller, hung_up), reason);
    pair.until(Side::Callee, ended);
    pair.settle();
}

#[test]
fn both_may_hang_up_at_once() {
    let mut pair = Pair::new();
    let (here, there) = pair.set_up();
    pair.caller.bye(pair.now, here, None).unwrap();
    pair.callee.bye(pair.now, there, None).unwrap();
    pair.until(Side::Caller, ended);
    pair.until(Side::Callee, ended);
    pair.settle();
}

#[test]
fn refusals_become_causes() {
    for (code, cause) in [
        (486, FailureCause::Busy),
        (603, FailureCause::Declined),
        (404, FailureCause::NotFound),
        (480, FailureCause::NoAnswer),
    ] {
        let mut pair = Pair::new();
        pair.call();
        let there = pair.until(Side::Callee, incoming);
        pair.callee.reject(pair.now, there, code).unwrap();
        let failure = pair.until(Side::Caller, failed);
        assert_eq!((failure.cause, failure.sip_code), (cause, Some(code)));
        pair.settle();
    }
}

#[test]
fn a_busy_line_says_when_to_try_again_and_who_was_called_is_told() {
    let mut pair = Pair::new();
    pair.call();
    let told = |event: &SipEvent| {
        let SipEvent::Incoming { key, parties, .. } = event else { return None };
        Some((*key, parties.called("nobody")))
    };
    let (there, called) = pair.until(Side::Callee, told);
    assert!(pair.callee.is_offered(there) && !called.is_empty());
    pair.callee.reject_for(pair.now, there, 486, Some(Duration::from_secs(7))).unwrap();
    assert!(!pair.callee.is_offered(there));
    pair.drain();
    let sent = pair.wire.values().map(|(_, _, bytes)| String::from_utf8_lossy(bytes).into_owned());
    let sent = sent.filter(|text| text.contains("486 Busy Here")).collect::<String>();
    assert!(sent.contains("\r\nRetry-After: 7\r\n"), "{sent}");
    assert_eq!(pair.until(Side::Caller, failed).cause, FailureCause::Busy);
    pair.settle();
}

#[test]
fn without_a_common_codec_the_call_is_turned_away_with_488() {
    let mut pair = Pair::new();
    pair.call();
    let there = pair.until(Side::Callee, incoming);
    let mut other = media(Side::Callee);
    other.codecs = vec![];
    let refused = pair.callee.accept(pair.now, there, other);
    assert_eq!(refused, Err(CommandError::Sdp(SdpError::NoCommonCodec)));
    let failure = pair.until(Side::Caller, failed);
    assert_eq!((failure.cause, failure.sip_code), (FailureCause::NotAcceptable, Some(488)));
    assert_eq!(pair.until(Side::Callee, failed).cause, FailureCause::NotAcceptable);
    pair.settle();
}

fn with_password(password: &str, algorithms: Vec<Algorithm>) -> Pair {
    let mut caller = config(Side::Caller);
    caller.credentials = Some(Credentials::new("branch", password));
    let mut callee = config(Side::Callee);
    callee.inbound_auth = Some(InboundAuth {
        realm: "trunk".to_owned(),
        users: vec![Credentials::new("branch", "secret")],
        algorithms,
    });
    Pair::with(caller, callee, 2)
}

#[test]
fn a_challenge_is_answered_in_either_hash() {
    for algorithms in [vec![Algorithm::MD5], vec![Algorithm::SHA256], vec![Algorithm::SHA256, Algorithm::MD5]]
    {
        let mut pair = with_password("secret", algorithms);
        let (here, _) = pair.set_up();
        pair.caller.bye(pair.now, here, None).unwrap();
        pair.settle();
        assert_eq!(pair.sent_by(Side::Caller), ["INVITE", "ACK", "INVITE", "ACK", "BYE"]);
    }
}

#[test]
fn a_wrong_password_fails_after_one_try() {
    let mut pair = with_password("wrong", vec![Algorithm::SHA256]);
    pair.call();
    let failure = pair.until(Side::Caller, failed);
    assert_eq!((failure.cause, failure.sip_code), (FailureCause::Unauthorized, Some(401)));
    pair.settle();
    assert_eq!(pair.sent_by(Side::Caller), ["INVITE", "ACK", "INVITE", "ACK"]);
}

#[test]
fn without_a_password_a_challenge_is_a_failure() {
    let mut pair = with_password("secret", vec![Algorithm::MD5]);
    pair.caller.config.credentials = None;
    pair.call();
    assert_eq!(pair.until(Side::Caller, failed).cause, FailureCause::Unauthorized);
    pair.settle();
}

#[test]
fn a_call_nobody_answers_is_withdrawn_when_the_time_is_up() {
    let mut pair = Pair::new();
    pair.call();
    let there = pair.until(Side::Callee, incoming);
    pair.callee.ringing(pair.now, there, None).unwrap();
    let failure = pair.until(Side::Caller, failed);
    assert_eq!(failure.cause, FailureCause::NoAnswer);
    assert!((60_000..60_100).contains(&pair.ms()));
    assert_eq!(pair.until(Side::Callee, failed).cause, FailureCause::Cancelled);
    pair.settle();
    assert_eq!(pair.sent_by(Side::Caller), ["INVITE", "CANCEL", "ACK"]);
}

#[test]
fn a_call_that_rings_here_for_too_long_is_turned_away() {
    let mut callee = config(Side::Callee);
    callee.incoming_ring_limit = Duration::from_secs(20);
    let mut pair = Pair::with(config(Side::Caller), callee, 1);
    pair.call();
    assert_eq!(pair.until(Side::Caller, failed).sip_code, Some(480));
    pair.until(Side::Callee, failed);
    pair.settle();
}

#[test]
fn an_answer_that_crosses_the_cancel_is_acknowledged_and_hung_up() {
    let mut pair = Pair::new();
    let call = pair.call();
    let there = pair.until(Side::Callee, incoming);
    pair.until(Side::Caller, |event| matches!(event, SipEvent::Trying { .. }).then_some(()));
    pair.callee.accept(pair.now, there, media(Side::Callee)).unwrap();
    pair.caller.cancel(pair.now, call).unwrap();
    assert_eq!(pair.until(Side::Caller, failed).cause, FailureCause::Cancelled);
    pair.until(Side::Callee, hung_up);
    pair.settle();
    assert_eq!(pair.sent_by(Side::Caller), ["INVITE", "CANCEL", "ACK", "BYE"]);
}

#[test]
fn a_call_withdrawn_before_anything_was_heard_is_cancelled_once_the_far_end_wakes_up() {
    let mut pair = Pair::new();
    let call = pair.call();
    pair.caller.cancel(pair.now, call).unwrap();
    assert_eq!(pair.until(Side::Caller, failed).cause, FailureCause::Cancelled);
    assert_eq!(pair.until(Side::Callee, failed).cause, FailureCause::Cancelled);
    pair.settle();
    assert_eq!(pair.sent_by(Side::Caller), ["INVITE", "CANCEL", "ACK"]);
}

#[test]
fn a_trunk_that_is_not_there_fails_after_32_s_and_the_invite_goes_out_seven_times() {
    let mut pair = Pair::new();
    pair.weather.loss = 1.0;
    pair.call();
    let failure = pair.until(Side::Caller, failed);
    assert_eq!((failure.cause, failure.sip_code), (FailureCause::Unreachable, None));
    let at: Vec<_> = pair.sent.iter().map(|line| line.0).collect();
    assert_eq!(at, [0, 500, 1_500, 3_500, 7_500, 15_500, 31_500]);
    assert_eq!(pair.ms(), 32_000);
    assert!(pair.caller.is_idle());
}

#[test]
fn a_port_that_refuses_fails_the_call_at_once() {
    let mut pair = Pair::new();
    pair.weather.loss = 1.0;
    pair.call();
    pair.caller.options(pair.now, addr(Side::Callee));
    pair.caller.handle_send_error(pair.now, addr(Side::Callee), ErrorKind::ConnectionRefused);
    let failure = pair.until(Side::Caller, failed);
    assert_eq!(failure.cause, FailureCause::Unreachable);
    assert!(failure.to_string().contains("refused"), "{failure}");
    pair.until(Side::Caller, |event| matches!(event, SipEvent::OptionsUnanswered { .. }).then_some(()));
    assert_eq!(pair.ms(), 0);
    assert!(pair.caller.is_idle());
}

#[test]
fn a_ringing_call_survives_a_send_error() {
    let mut pair = Pair::new();
    pair.call();
    let there = pair.until(Side::Callee, incoming);
    pair.until(Side::Caller, |event| matches!(event, SipEvent::Trying { .. }).then_some(()));
    pair.caller.handle_send_error(pair.now, addr(Side::Callee), ErrorKind::HostUnreachable);
    pair.callee.accept(pair.now, there, media(Side::Callee)).unwrap();
    pair.until(Side::Caller, answered);
}

#[test]
fn early_media_is_agreed_before_the_answer_and_repeated_by_it() {
    let mut pair = Pair::new();
    pair.call();
    let there = pair.until(Side::Callee, incoming);
    let early = pair.callee.ringing(pair.now, there, Some(media(Side::Callee))).unwrap();
    let heard = pair.until(Side::Caller, |event| {
        if let SipEvent::Ringing { code: 183, early, .. } = event { early.clone() } else { None }
    });
    assert_eq!(heard.remote, media(Side::Callee).addr);
    assert_eq!(pair.callee.accept(pair.now, there, media(Side::Callee)).unwrap(), early);
    assert_eq!(pair.until(Side::Caller, answered), heard);
}

#[test]
fn a_stranger_is_refused_and_beyond_a_rate_ignored() {
    let mut callee = config(Side::Callee);
    callee.allowed_peers = None;
    let mut pair = Pair::with(config(Side::Caller), callee, 1);
    for _ in 0..30 {
        pair.call();
    }
    let failure = pair.until(Side::Caller, failed);
    assert_eq!((failure.cause, failure.sip_code), (FailureCause::Forbidden, Some(403)));
    pair.run_for(Duration::from_millis(20));
    assert_eq!((pair.callee.stats().refused, pair.callee.stats().dropped), (5, 25));
    assert!(pair.callee.is_idle(), "strangers cost no state");
    pair.settle();
}

#[test]
fn there_are_never_more_calls_than_allowed() {
    let mut callee = config(Side::Callee);
    callee.max_calls = 1;
    let mut pair = Pair::with(config(Side::Caller), callee, 1);
    pair.call();
    pair.until(Side::Callee, incoming);
    pair.call();
    assert_eq!(pair.until(Side::Caller, failed).sip_code, Some(503));
    pair.caller.config.max_calls = 1;
    let request = InviteRequest::new("4000", Uri::sip("1", "192.0.2.2").unwrap(), media(Side::Caller));
    assert_eq!(pair.caller.invite(pair.now, request), Err(CommandError::TooManyCalls));
}

#[test]
fn a_ping_is_answered_with_its_round_trip() {
    let mut pair = Pair::new();
    pair.caller.options(pair.now, addr(Side::Callee));
    let (code, rtt) = pair.until(Side::Caller, |event| {
        if let SipEvent::OptionsAnswered { code, rtt, .. } = event { Some((*code, *rtt)) } else { None }
    });
    assert_eq!(code, 200);
    assert!(rtt >= Duration::from_millis(2) && rtt <= Duration::from_millis(20));
    pair.settle();
}

#[test]
fn a_bye_before_the_ack_waits_for_it() {
    let mut pair = Pair::new();
    pair.call();
    let there = pair.until(Side::Callee, incoming);
    pair.callee.accept(pair.now, there, media(Side::Callee)).unwrap();
    pair.callee.bye(pair.now, there, None).unwrap();
    pair.until(Side::Caller, answered);
    pair.until(Side::Caller, hung_up);
    pair.until(Side::Callee, ended);
    pair.settle();
}

#[test]
fn an_answer_that_is_never_acknowledged_is_given_up_after_32_s() {
    let mut pair = Pair::new();
    pair.call();
    let there = pair.until(Side::Callee, incoming);
    pair.weather.loss = 1.0;
    pair.callee.accept(pair.now, there, media(Side::Callee)).unwrap();
    let failure = pair.until(Side::Callee, failed);
    assert_eq!(failure.cause, FailureCause::Protocol);
    let answers: Vec<_> = pair.sent.iter().filter(|line| line.2.contains("200")).map(|line| line.0).collect();
    let gaps: Vec<_> = answers.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(gaps, [500, 1_000, 2_000, 4_000, 4_000, 4_000, 4_000, 4_000, 4_000, 4_000]);
}

#[test]
fn ten_thousand_short_calls_leave_nothing_behind() {
    let mut pair = Pair::new();
    for _ in 0..10_000 / 100 {
        let calls: Vec<_> = (0..100).map(|_| pair.call()).collect();
        for _ in &calls {
            let there = pair.until(Side::Callee, incoming);
            pair.callee.accept(pair.now, there, media(Side::Callee)).unwrap();
        }
        for _ in calls {
            let call = pair.until(Side::Caller, |event| {
                if let SipEvent::Answered { key, .. } = event { Some(*key) } else { None }
            });
            pair.caller.bye(pair.now, call, None).unwrap();
        }
        pair.run_for(Duration::from_secs(1));
        pair.events.clear();
        pair.unread.clear();
        pair.sent.clear();
    }
    pair.settle();
    assert!(pair.callee.by_dialog.is_empty() && pair.caller.by_dialog.is_empty());
    assert!(pair.callee.ringing_here.is_empty());
    assert_eq!(pair.caller.gauges(), Gauges::default());
}
