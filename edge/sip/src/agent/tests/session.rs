//! Calls that are up: hold, glare, session timers, and calls over connections.

use super::*;
use crate::message::Transport;
use crate::sdp::Direction;

fn with_timers(side: Side, interval: u64, shortest: u64) -> UaConfig {
    let (interval, shortest) = (Duration::from_secs(interval), Duration::from_secs(shortest));
    UaConfig { session_timers: Some(SessionTimers { interval, shortest }), ..config(side) }
}

#[test]
fn a_call_is_held_and_resumed_from_either_side() {
    let mut pair = Pair::new();
    let (here, there) = pair.set_up();
    for side in [Side::Caller, Side::Callee] {
        let other = if side == Side::Caller { Side::Callee } else { Side::Caller };
        let (key, now) = (if side == Side::Caller { here } else { there }, pair.now);
        pair.agent(side).hold(now, key).unwrap();
        assert_eq!(pair.until(other, changed), Direction::RecvOnly);
        assert_eq!(pair.until(side, changed), Direction::SendOnly);
        let now = pair.now;
        pair.agent(side).resume(now, key).unwrap();
        assert_eq!(pair.until(other, changed), Direction::SendRecv);
        assert_eq!(pair.until(side, changed), Direction::SendRecv);
        pair.run_for(Duration::from_secs(1));
    }
    pair.caller.bye(pair.now, here, None).unwrap();
    pair.settle();
}

#[test]
fn two_changes_at_once_both_come_to_pass_in_the_end() {
    let mut pair = Pair::new();
    let (here, there) = pair.set_up();
    pair.run_for(Duration::from_secs(1));
    pair.caller.hold(pair.now, here).unwrap();
    let mut media = media(Side::Callee);
    media.addr.set_port(6_100);
    pair.callee.change_media(pair.now, there, media).unwrap();
    pair.run_for(Duration::from_secs(15));
    let refused = pair.sent.iter().filter(|line| line.2.contains("491")).count();
    assert_eq!(refused, 2, "both are told to wait");
    let moved = |event: &SipEvent| {
        if let SipEvent::MediaChanged { media, .. } = event { Some(media.remote.port()) } else { None }
    };
    let last =
        pair.events.iter().rev().filter(|event| event.1 == Side::Caller).find_map(|event| moved(&event.2));
    assert_eq!(last, Some(6_100));
    let held = pair.events.iter().rev().filter(|event| event.1 == Side::Callee);
    assert_eq!(held.clone().find_map(|event| changed(&event.2)), Some(Direction::RecvOnly));
    pair.callee.bye(pair.now, there, None).unwrap();
    pair.settle();
}

#[test]
fn a_change_that_is_refused_leaves_the_call_as_it_was() {
    let mut pair = Pair::new();
    let (here, _) = pair.set_up();
    let mut other = media(Side::Caller);
    other.codecs = vec![];
    pair.caller.change_media(pair.now, here, other).unwrap();
    let news = pair.until_news(Side::Caller, |_| true);
    assert_eq!(news, CallNews::MediaRefused { code: 488 });
    pair.caller.hold(pair.now, here).unwrap();
    assert_eq!(pair.until(Side::Callee, changed), Direction::RecvOnly);
    pair.caller.bye(pair.now, here, None).unwrap();
    pair.settle();
}

#[test]
fn changes_over_a_bad_network_come_to_pass_or_end_the_call() {
    for seed in 0..40 {
        let mut pair = Pair::with(config(Side::Caller), config(Side::Callee), seed);
        let (here, there) = pair.set_up();
        pair.weather = Weather { loss: 0.25, duplicate: 0.2, longest_delay_ms: 400 };
        for _ in 0..4 {
            // The call may have ended; then there is nothing to change.
            let _ = pair.caller.hold(pair.now, here);
            let _ = pair.callee.hold(pair.now, there);
            pair.run_for(Duration::from_secs(20));
            let _ = pair.caller.resume(pair.now, here);
            pair.run_for(Duration::from_secs(20));
        }
        pair.weather = FAIR;
        let _ = pair.caller.bye(pair.now, here, None);
        pair.settle();
    }
}

#[test]
fn a_session_is_refreshed_at_half_its_time_by_update() {
    let mut pair = Pair::with(with_timers(Side::Caller, 200, 90), with_timers(Side::Callee, 1_800, 90), 1);
    let (here, _) = pair.set_up();
    pair.run_for(Duration::from_secs(650));
    let updates: Vec<_> =
        pair.sent.iter().filter(|line| line.2 == "UPDATE").map(|line| line.0 / 1_000).collect();
    assert_eq!(updates, [100, 200, 300, 400, 500, 600]);
    pair.caller.bye(pair.now, here, None).unwrap();
    pair.settle();
}

#[test]
fn a_session_that_nobody_refreshes_is_hung_up_by_both() {
    let mut pair = Pair::with(with_timers(Side::Caller, 200, 90), with_timers(Side::Callee, 200, 90), 1);
    pair.set_up();
    pair.cut();
    // The callee refreshes, gets no answer, and gives up; the caller waits until the session has run out.
    let failure = pair.until(Side::Callee, failed);
    assert!(failure.reason.unwrap().contains("does not answer"));
    assert!((131_900..134_000).contains(&pair.ms()), "{}", pair.ms());
    let failure = pair.until(Side::Caller, failed);
    assert_eq!(failure.cause, FailureCause::Unreachable);
    assert!(failure.reason.unwrap().contains("not refreshed"));
    assert!((167_900..170_000).contains(&pair.ms()), "{}", pair.ms());
    pair.settle();
}

#[test]
fn an_interval_that_is_too_short_is_raised_as_the_422_says() {
    let mut pair = Pair::with(with_timers(Side::Caller, 120, 90), with_timers(Side::Callee, 1_800, 600), 1);
    let (here, _) = pair.set_up();
    assert_eq!(pair.sent_by(Side::Caller)[..3], ["INVITE", "ACK", "INVITE"]);
    assert!(pair.sent.iter().any(|line| line.2.starts_with("SIP/2.0 422")));
    pair.run_for(Duration::from_secs(700));
    let updates: Vec<_> =
        pair.sent.iter().filter(|line| line.2 == "UPDATE").map(|line| line.0 / 1_000).collect();
    assert_eq!(updates, [300, 600]);
    pair.caller.bye(pair.now, here, None).unwrap();
    pair.settle();
}

#[test]
fn a_peer_without_session_timers_is_left_alone() {
    let caller = UaConfig { session_timers: None, ..config(Side::Caller) };
    let mut pair = Pair::with(caller, with_timers(Side::Callee, 200, 90), 1);
    let (here, _) = pair.set_up();
    pair.run_for(Duration::from_secs(350));
    let by_caller = pair.sent_by(Side::Caller);
    assert!(!by_caller.contains(&"UPDATE"));
    assert!(
        pair.sent_by(Side::Callee).iter().filter(|line| **line == "UPDATE").count() >= 2,
        "the callee refreshes"
    );
    pair.caller.bye(pair.now, here, None).unwrap();
    pair.settle();
}

#[test]
fn over_a_connection_nothing_is_resent_and_the_addresses_say_so() {
    for transport in [Transport::Tcp, Transport::Tls] {
        let caller = UaConfig { transport, ..config(Side::Caller) };
        let mut pair = Pair::with(caller, config(Side::Callee), 1);
        let call = pair.call();
        let Some(Output::Send { transport: sent, bytes, .. }) = pair.caller.outputs.front().cloned() else {
            panic!("no INVITE")
        };
        let invite = String::from_utf8(bytes.to_vec()).unwrap();
        assert_eq!(sent, transport);
        assert!(
            invite.contains(&format!("Via: SIP/2.0/{} 192.0.2.1:5060", transport.via_name())),
            "{invite}"
        );
        assert!(invite.contains(&format!(";transport={}>", transport.param())), "{invite}");
        let there = pair.until(Side::Callee, incoming);
        pair.callee.ringing(pair.now, there, None).unwrap();
        pair.run_for(Duration::from_secs(3));
        pair.callee.accept(pair.now, there, media(Side::Callee)).unwrap();
        pair.until(Side::Caller, answered);
        pair.until(Side::Callee, answered);
        pair.callee.bye(pair.now, there, None).unwrap();
        pair.until(Side::Caller, hung_up);
        pair.settle();
        assert_eq!(pair.sent_by(Side::Caller), ["INVITE", "ACK", "SIP/2.0 200 OK"]);
        assert_eq!(pair.caller.stats().resent + pair.callee.stats().resent, 0);
        assert_eq!(pair.caller.bye(pair.now, call, None), Err(CommandError::UnknownCall));
    }
}

#[test]
fn a_certificate_that_does_not_fit_fails_the_call_at_once_and_says_why() {
    let caller = UaConfig { transport: Transport::Tls, ..config(Side::Caller) };
    let mut pair = Pair::with(caller, config(Side::Callee), 1);
    pair.call();
    let to = Hop::new(Transport::Tls, addr(Side::Callee));
    pair.caller.handle_transport_error(pair.now, to, "the certificate has expired");
    let failure = pair.until(Side::Caller, failed);
    assert_eq!(failure.cause, FailureCause::Unreachable);
    assert_eq!(
        failure.reason.as_deref(),
        Some("the next hop cannot be reached: the certificate has expired")
    );
    assert_eq!(pair.ms(), 0);
}
