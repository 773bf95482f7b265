//! One agent against a peer whose messages are written out: forks, re-INVITE, what must not be answered, and abuse.

use proptest::prelude::*;

use super::*;
use crate::sdp::Direction;

fn with_contact(at: &str) -> String {
    format!("Contact: <sip:{at}>\nContent-Type: application/sdp")
}

#[test]
fn a_2xx_that_comes_again_is_acknowledged_again() {
    let mut solo = Solo::new(Side::Caller);
    let (_, invite) = solo.call();
    let ok = reply(&invite, 200, "t1", &with_contact("a@192.0.2.2"), &sdp("192.0.2.9:6000", ""));
    solo.hear(&ok);
    let first = solo.requests();
    solo.hear(&ok);
    let second = solo.requests();
    assert_eq!(first.len(), 1);
    assert_eq!(first, second);
    assert_eq!(first[0].method, Method::Ack);
    assert_eq!(first[0].headers.cseq().unwrap().number, 1);
}

#[test]
fn a_second_fork_that_answers_is_acknowledged_and_hung_up_once() {
    let mut solo = Solo::new(Side::Caller);
    let (_, invite) = solo.call();
    solo.hear(&reply(&invite, 200, "t1", &with_contact("a@192.0.2.2"), &sdp("192.0.2.9:6000", "")));
    solo.take();
    let second = reply(&invite, 200, "t2", &with_contact("b@192.0.2.2:5080"), &sdp("192.0.2.8:6000", ""));
    solo.hear(&second);
    let (messages, events) = solo.take();
    assert!(events.is_empty(), "{events:?}");
    let methods: Vec<_> = messages.iter().map(|m| m.headers().cseq().unwrap().method).collect();
    assert_eq!(methods, [Method::Ack, Method::Bye]);
    assert_eq!(messages[1].headers().to().unwrap().tag().as_deref(), Some("t2"));
    solo.hear(&second);
    assert_eq!(solo.requests().len(), 1, "the ACK alone");
}

#[test]
fn early_media_of_the_fork_that_answers_without_sdp_is_kept() {
    let mut solo = Solo::new(Side::Caller);
    let (key, invite) = solo.call();
    solo.hear(&reply(&invite, 183, "t1", &with_contact("a@192.0.2.2"), &sdp("192.0.2.9:6000", "")));
    solo.hear(&reply(&invite, 183, "t2", &with_contact("b@192.0.2.2"), &sdp("192.0.2.8:7000", "")));
    solo.hear(&reply(&invite, 200, "t1", "Contact: <sip:a@192.0.2.2>", ""));
    let (_, events) = solo.take();
    let Some(SipEvent::Answered { key: answered, media }) = events.last() else { panic!("{events:?}") };
    assert_eq!(*answered, key);
    assert_eq!(media.remote, "192.0.2.9:6000".parse().unwrap());
}

#[test]
fn an_answer_without_any_sdp_is_hung_up_as_not_acceptable() {
    let mut solo = Solo::new(Side::Caller);
    let (_, invite) = solo.call();
    solo.hear(&reply(&invite, 200, "t1", "Contact: <sip:a@192.0.2.2>", ""));
    let (messages, events) = solo.take();
    assert!(
        matches!(&events[..], [SipEvent::Failed { failure, .. }] if failure.cause == FailureCause::NotAcceptable)
    );
    let methods: Vec<_> = messages.iter().map(|m| m.headers().cseq().unwrap().method).collect();
    assert_eq!(methods, [Method::Ack, Method::Bye]);
    assert!(messages[1].headers().get("Reason").unwrap().contains("488"));
}

#[test]
fn requests_in_a_call_follow_the_recorded_route_to_the_contact() {
    let mut solo = Solo::new(Side::Caller);
    let (key, invite) = solo.call();
    let more =
        format!("Record-Route: <sip:192.0.2.4;lr>, <sip:192.0.2.3;lr>\n{}", with_contact("a@192.0.2.9:5070"));
    solo.hear(&reply(&invite, 200, "t1", &more, &sdp("192.0.2.9:6000", "")));
    solo.agent.bye(solo.now, key, None).unwrap();
    let mut sent = Vec::new();
    while let Some(output) = solo.agent.poll_output() {
        if let Output::Send { to, bytes, .. } = output {
            sent.push((to.to_string(), Message::parse(&bytes).unwrap()));
        }
    }
    assert_eq!(sent.len(), 2);
    for (to, message) in &sent {
        assert_eq!(to, "192.0.2.3:5060");
        let Message::Request(request) = message else { panic!("a response") };
        assert_eq!(request.uri.to_wire(), "sip:a@192.0.2.9:5070");
        let routes: Vec<_> = request.headers.list("Route").collect();
        assert_eq!(routes, ["<sip:192.0.2.3;lr>", "<sip:192.0.2.4;lr>"]);
    }
}

#[test]
fn a_bye_that_asks_for_a_password_gets_it() {
    let mut solo = Solo::new(Side::Caller);
    solo.agent.config.credentials = Some(crate::digest::Credentials::new("u", "p"));
    let (key, invite) = solo.call();
    solo.hear(&reply(&invite, 200, "t1", &with_contact("a@192.0.2.2"), &sdp("192.0.2.9:6000", "")));
    solo.agent.bye(solo.now, key, None).unwrap();
    let bye = solo.requests().remove(1);
    let challenge = "Proxy-Authenticate: Digest realm=\"r\", nonce=\"n\", algorithm=SHA-256, qop=\"auth\"";
    solo.hear(&reply(&bye, 407, "t1", challenge, ""));
    let again = solo.requests().remove(0);
    assert!(again.headers.get("Proxy-Authorization").is_some());
    assert_eq!(again.headers.cseq().unwrap().number, bye.headers.cseq().unwrap().number + 1);
    solo.hear(&reply(&again, 200, "t1", "", ""));
    assert_eq!(solo.take().1, [SipEvent::Ended { key }]);
}

#[test]
fn a_403_after_credentials_means_that_they_were_wrong() {
    let mut solo = Solo::new(Side::Caller);
    solo.agent.config.credentials = Some(crate::digest::Credentials::new("u", "p"));
    let (_, invite) = solo.call();
    solo.hear(&reply(&invite, 407, "t1", "Proxy-Authenticate: Digest realm=\"r\", nonce=\"n\"", ""));
    let messages = solo.requests();
    assert_eq!(messages[0].method, Method::Ack);
    solo.hear(&reply(&messages[1], 403, "t2", "", ""));
    let events = solo.take().1;
    assert!(
        matches!(&events[..], [SipEvent::Failed { failure, .. }]
            if failure.cause == FailureCause::Unauthorized && failure.sip_code == Some(403)),
        "{events:?}"
    );
}

#[test]
fn a_peer_that_never_finally_answers_a_withdrawn_invite_is_forgotten_after_32_s() {
    let mut solo = Solo::new(Side::Caller);
    let (key, invite) = solo.call();
    solo.hear(&reply(&invite, 180, "t1", "Contact: <sip:a@192.0.2.2>", ""));
    solo.agent.cancel(solo.now, key).unwrap();
    let cancel = solo.requests().remove(0);
    assert_eq!(cancel.headers.top_via(), invite.headers.top_via());
    solo.hear(&reply(&cancel, 200, "t1", "", ""));
    solo.wait(Duration::from_secs(31));
    assert!(solo.take().1.is_empty());
    solo.wait(Duration::from_secs(1));
    assert!(matches!(solo.take().1[..], [SipEvent::Failed { .. }]));
    solo.wait(Duration::from_secs(10));
    assert!(solo.agent.is_idle());
}

// --- a call that came in -----------------------------------------------------------------------------------

/// A request of the peer, in the dialog `tag` if there is one.
pub(super) fn ask(method: &str, number: u32, tag: &str, more: &str, body: &str) -> String {
    let to_tag = if tag.is_empty() { String::new() } else { format!(";tag={tag}") };
    format!(
        "{method} sip:trunkline@192.0.2.2 SIP/2.0\nVia: SIP/2.0/UDP 192.0.2.1;rport;branch=z9hG4bK{method}{number}\n\
         Max-Forwards: 70\nFrom: \"Ann\" <sip:4000@192.0.2.1>;tag=ann\nTo: <sip:1001@192.0.2.2>{to_tag}\n\
         Call-ID: c1\nCSeq: {number} {method}\nContact: <sip:4000@192.0.2.1:5060>\n{more}\
         Content-Length: {}\n\n{body}",
        body.replace("\r\n", "\n").replace('\n', "\r\n").len(),
    )
}

const SDP_TYPE: &str = "Content-Type: application/sdp\n";

/// Brings a call up; returns its key and our tag.
fn incoming_call(solo: &mut Solo, offer: Option<&str>) -> (DialogKey, String) {
    let (more, body) = offer.map_or(("", ""), |offer| (SDP_TYPE, offer));
    solo.hear(&ask("INVITE", 1, "", more, body));
    let key = solo.take().1.iter().find_map(incoming).unwrap();
    solo.agent.accept(solo.now, key, media(Side::Callee)).unwrap();
    let ok = solo.responses().remove(0);
    assert_eq!(ok.code, 200);
    (key, ok.headers.to().unwrap().tag().unwrap())
}

#[test]
fn hold_and_resume_by_the_peer_are_answered_and_told() {
    let mut solo = Solo::new(Side::Callee);
    let (key, tag) = incoming_call(&mut solo, Some(&sdp("192.0.2.1:4000", "")));
    solo.hear(&ask("ACK", 1, &tag, "", ""));
    solo.take();

    solo.hear(&ask("INVITE", 2, &tag, SDP_TYPE, &sdp("192.0.2.1:4000", "a=sendonly\r\n")));
    let (messages, events) = solo.take();
    let Message::Response(held) = &messages[0] else { panic!("a request") };
    assert!(String::from_utf8_lossy(&held.body).contains("a=recvonly"));
    assert!(matches!(&events[..], [SipEvent::MediaChanged { key: k, media }]
        if *k == key && media.direction == Direction::RecvOnly));

    solo.hear(&ask("UPDATE", 3, &tag, SDP_TYPE, &sdp("192.0.2.1:4002", "")));
    let (messages, events) = solo.take();
    let Message::Response(resumed) = &messages[0] else { panic!("a request") };
    assert_eq!(resumed.code, 200);
    assert!(matches!(&events[..], [SipEvent::MediaChanged { media, .. }]
        if media.direction == Direction::SendRecv && media.remote.port() == 4002));
}

#[test]
fn a_reinvite_before_the_ack_of_the_one_before_is_put_off() {
    let mut solo = Solo::new(Side::Callee);
    let (_, tag) = incoming_call(&mut solo, Some(&sdp("192.0.2.1:4000", "")));
    solo.hear(&ask("INVITE", 2, &tag, SDP_TYPE, &sdp("192.0.2.1:4000", "")));
    assert_eq!(solo.responses().remove(0).code, 491);
}

#[test]
fn a_reinvite_with_nothing_in_common_leaves_the_call_as_it_was() {
    let mut solo = Solo::new(Side::Callee);
    let (_, tag) = incoming_call(&mut solo, Some(&sdp("192.0.2.1:4000", "")));
    solo.hear(&ask("ACK", 1, &tag, "", ""));
    solo.take();
    let offer = sdp("192.0.2.1:4000", "").replace("AVP 8", "AVP 18");
    solo.hear(&ask("INVITE", 2, &tag, SDP_TYPE, &offer));
    let (messages, events) = solo.take();
    assert!(events.is_empty());
    assert!(matches!(&messages[..], [Message::Response(r)] if r.code == 488));
    assert_eq!(solo.agent.gauges().calls, 1);
}

#[test]
fn an_invite_without_offer_gets_ours_and_the_ack_brings_the_answer() {
    let mut solo = Solo::new(Side::Callee);
    let (key, tag) = incoming_call(&mut solo, None);
    solo.hear(&ask("ACK", 1, &tag, SDP_TYPE, &sdp("192.0.2.1:4444", "")));
    let events = solo.take().1;
    assert!(matches!(&events[..], [SipEvent::Answered { key: k, media }]
        if *k == key && media.remote.port() == 4444));
}

#[test]
fn a_new_contact_of_the_peer_is_where_the_bye_goes() {
    let mut solo = Solo::new(Side::Callee);
    let (key, tag) = incoming_call(&mut solo, Some(&sdp("192.0.2.1:4000", "")));
    solo.hear(&ask("ACK", 1, &tag, "", ""));
    solo.hear(
        &ask("UPDATE", 2, &tag, "", "").replace("<sip:4000@192.0.2.1:5060>", "<sip:new@192.0.2.7:5099>"),
    );
    solo.take();
    solo.agent.bye(solo.now, key, None).unwrap();
    let Some(Output::Send { to, .. }) = solo.agent.poll_output() else { panic!("nothing sent") };
    assert_eq!(to, "192.0.2.7:5099".parse().unwrap());
}

#[test]
fn requests_in_a_call_get_the_answer_that_fits() {
    let mut solo = Solo::new(Side::Callee);
    let (key, tag) = incoming_call(&mut solo, Some(&sdp("192.0.2.1:4000", "")));
    solo.hear(&ask("ACK", 1, &tag, "", ""));
    solo.take();
    let mut number = 1;
    let mut code = |method: &str, more: &str, body: &str| {
        number += 1;
        solo.hear(&ask(method, number, &tag, more, body));
        let (messages, events) = solo.take();
        let Message::Response(response) = &messages[0] else { panic!("a request") };
        (response.code, events)
    };
    assert_eq!(code("OPTIONS", "", "").0, 200);
    assert_eq!(code("NOTIFY", "Event: refer\n", "").0, 481);
    assert_eq!(code("NOTIFY", "Event: weather\n", "").0, 489);
    assert_eq!(code("REFER", "", "").0, 603);
    assert_eq!(code("PRACK", "", "").0, 481);
    assert_eq!(code("FROBNICATE", "", "").0, 405);
    assert_eq!(code("INFO", "", "").0, 200);
    assert_eq!(code("INFO", "Content-Type: text/plain\n", "hi").0, 415);
    assert_eq!(code("OPTIONS", "Require: teleportation\n", "").0, 420);
    let (told, events) = code("INFO", "Content-Type: application/dtmf-relay\n", "Signal=7\nDuration=100\n");
    assert_eq!((told, &events[..]), (200, &[SipEvent::Digit { key, digit: '7', duration_ms: 100 }][..]));
}

#[test]
fn a_request_out_of_order_or_for_another_dialog_is_refused() {
    let mut solo = Solo::new(Side::Callee);
    let (_, tag) = incoming_call(&mut solo, Some(&sdp("192.0.2.1:4000", "")));
    solo.hear(&ask("ACK", 1, &tag, "", ""));
    solo.hear(&ask("OPTIONS", 5, &tag, "", ""));
    solo.take();
    solo.hear(&ask("BYE", 3, &tag, "", ""));
    assert_eq!(solo.responses().remove(0).code, 500);
    solo.hear(&ask("BYE", 6, "other", "", ""));
    assert_eq!(solo.responses().remove(0).code, 481);
    solo.hear(&ask("BYE", 7, &tag, "", "").replace("tag=ann", "tag=mallory"));
    assert_eq!(solo.responses().remove(0).code, 481);
    assert_eq!(solo.agent.gauges().calls, 1);
}

#[test]
fn the_same_invite_by_two_ways_rings_once() {
    let mut solo = Solo::new(Side::Callee);
    let invite = ask("INVITE", 1, "", SDP_TYPE, &sdp("192.0.2.1:4000", ""));
    solo.hear(&invite);
    solo.take();
    solo.hear(&invite.replace("z9hG4bKINVITE1", "z9hG4bKother"));
    let (messages, events) = solo.take();
    assert!(events.is_empty());
    assert!(matches!(&messages[..], [Message::Response(r)] if r.code == 482));
}

#[test]
fn a_copy_of_a_ringing_invite_gets_the_last_answer_again() {
    let mut solo = Solo::new(Side::Callee);
    let invite = ask("INVITE", 1, "", SDP_TYPE, &sdp("192.0.2.1:4000", ""));
    solo.hear(&invite);
    let key = solo.take().1.iter().find_map(incoming).unwrap();
    solo.agent.ringing(solo.now, key, None).unwrap();
    let first = solo.responses();
    solo.hear(&invite);
    assert_eq!(solo.responses(), first);
}

#[test]
fn an_invite_that_cannot_be_served_is_told_so() {
    let offer = sdp("192.0.2.1:4000", "");
    let code = |text: String| {
        let mut solo = Solo::new(Side::Callee);
        solo.hear(&text);
        let (messages, events) = solo.take();
        assert!(events.is_empty());
        assert!(solo.agent.is_idle());
        let Message::Response(response) = &messages[0] else { panic!("a request") };
        assert!(response.headers.to().unwrap().tag().is_some());
        response.code
    };
    assert_eq!(code(ask("INVITE", 1, "", "Content-Type: text/html\n", "<p>")), 415);
    assert_eq!(
        code(ask("INVITE", 1, "", "Require: teleportation\nContent-Type: application/sdp\n", &offer)),
        420
    );
    assert_eq!(code(ask("INVITE", 1, "", "", "").replace("Contact: <sip:4000@192.0.2.1:5060>\n", "")), 400);
    assert_eq!(code(ask("REGISTER", 1, "", "", "")), 405);
    assert_eq!(code(ask("SUBSCRIBE", 1, "", "", "")), 489);
    assert_eq!(code(ask("BYE", 1, "", "", "")), 481);
    assert_eq!(code(ask("OPTIONS", 1, "", "", "")), 200);
    assert_eq!(code(ask("OPTIONS", 1, "", "Content-Length: x\n", "")), 400);
}

#[test]
fn a_cancel_for_nothing_and_an_ack_for_nothing_do_nothing() {
    let mut solo = Solo::new(Side::Callee);
    solo.hear(&ask("CANCEL", 1, "", "", ""));
    assert_eq!(solo.responses().remove(0).code, 481);
    solo.hear(&ask("ACK", 1, "x", "", ""));
    solo.hear("SIP/2.0 200 OK\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\nFrom: <sip:a@h>;tag=1\nTo: <sip:b@h>;tag=2\nCall-ID: c\nCSeq: 1 INVITE\n\n");
    assert!(solo.take().0.is_empty());
    assert_eq!(solo.agent.stats().unmatched, 2);
}

#[test]
fn a_stranger_gets_no_answer_larger_than_the_question() {
    let mut solo = Solo::new(Side::Callee);
    solo.peer = "203.0.113.66:5060".parse().unwrap();
    let mut told = 0;
    for number in 0..100 {
        for method in ["INVITE", "OPTIONS", "REGISTER", "CANCEL", "BYE"] {
            let more = if number % 2 == 0 {
                ""
            } else {
                "X-Pad: some scanners are chatty, and then there is room for an answer\n"
            };
            let text =
                ask(method, number, if method == "BYE" { "x" } else { "" }, more, "").replace('\n', "\r\n");
            solo.hear(&text);
            while let Some(output) = solo.agent.poll_output() {
                let Output::Send { bytes, .. } = output else { panic!("an event for a stranger") };
                told += 1;
                assert!(bytes.len() <= text.len(), "{}", String::from_utf8_lossy(&bytes));
            }
        }
    }
    assert!((1..=20).contains(&told), "{told}");
    assert!(solo.agent.is_idle());
}

proptest! {
    #[test]
    fn no_bytes_panic_the_agent(bytes: Vec<u8>) {
        let mut solo = Solo::new(Side::Callee);
        solo.agent.handle_datagram(solo.now, solo.peer, &bytes);
        while solo.agent.poll_output().is_some() {}
    }

    #[test]
    fn no_damaged_message_panics_the_agent_in_a_call(
        method in prop_oneof![Just("INVITE"), Just("UPDATE"), Just("BYE"), Just("INFO"), Just("CANCEL"), Just("ACK")],
        at in 0usize..700, with in proptest::collection::vec(any::<u8>(), 0..6), in_call: bool,
    ) {
        let mut solo = Solo::new(Side::Callee);
        let (_, tag) = incoming_call(&mut solo, Some(&sdp("192.0.2.1:4000", "")));
        solo.hear(&ask("ACK", 1, &tag, "", ""));
        let tag = if in_call { tag.as_str() } else { "" };
        let text = ask(method, 2, tag, SDP_TYPE, &sdp("192.0.2.1:4000", "a=sendonly\r\n"));
        let mut bytes = text.replace("\r\n", "\n").replace('\n', "\r\n").into_bytes();
        let at = at.min(bytes.len());
        let end = (at + with.len()).min(bytes.len());
        bytes.splice(at..end, with);
        solo.agent.handle_datagram(solo.now, solo.peer, &bytes);
        solo.wait(Duration::from_secs(300));
        while solo.agent.poll_output().is_some() {}
    }
}
