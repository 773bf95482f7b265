//! One binding against a written-out registrar.

use super::*;
use crate::digest::Credentials;

fn solo() -> (Solo, Request) {
    let mut solo = Solo::new(Side::Caller);
    solo.agent.config.credentials = Some(Credentials::new("1001", "secret"));
    let request = RegisterRequest {
        aor: Uri::sip("1001", "pbx.example.com").unwrap(),
        registrar: Uri::sip("", "pbx.example.com").unwrap(),
        next_hop: None,
        account: None,
        trunk: 0,
        expires: Duration::from_secs(3_600),
    };
    solo.agent.register(solo.now, request).unwrap();
    let first = solo.requests().remove(0);
    (solo, first)
}

#[test]
fn a_binding_is_made_with_a_password_and_refreshed_before_it_ends() {
    let (mut solo, first) = solo();
    assert_eq!(first.uri.to_wire(), "sip:pbx.example.com");
    assert_eq!(first.headers.get("Expires"), Some("3600"));
    solo.hear(&reply(
        &first,
        401,
        "r",
        "WWW-Authenticate: Digest realm=\"pbx\", nonce=\"n\", qop=\"auth\"",
        "",
    ));
    let second = solo.requests().remove(0);
    assert_eq!(second.headers.cseq().unwrap().number, 2);
    assert!(second.headers.get("Authorization").unwrap().contains("nc=00000001"));
    solo.hear(&reply(&second, 200, "r", "Contact: <sip:trunkline@192.0.2.1:5060>;expires=600", ""));
    let events = solo.take().1;
    assert_eq!(events, [SipEvent::Registered { trunk: 0, expires: Duration::from_secs(600) }]);

    solo.wait(Duration::from_secs(400));
    assert!(solo.requests().is_empty());
    solo.wait(Duration::from_secs(150));
    let refresh = solo.requests().remove(0);
    assert_eq!(refresh.headers.call_id(), first.headers.call_id());
    assert!(refresh.headers.get("Authorization").unwrap().contains("nc=00000002"), "the nonce goes on");
}

#[test]
fn a_binding_that_is_too_short_for_the_registrar_is_asked_for_anew() {
    let (mut solo, first) = solo();
    solo.hear(&reply(&first, 423, "r", "Min-Expires: 7200", ""));
    assert_eq!(solo.requests().remove(0).headers.get("Expires"), Some("7200"));
}

#[test]
fn failures_are_told_and_tried_again_ever_more_slowly() {
    let (mut solo, mut request) = solo();
    let mut waits = Vec::new();
    for _ in 0..9 {
        solo.hear(&reply(&request, 503, "r", "", ""));
        let Some(SipEvent::RegistrationFailed { failure, retry_in: Some(wait), .. }) = solo.take().1.pop()
        else {
            panic!("not told");
        };
        assert_eq!(failure.cause, FailureCause::ServerError);
        waits.push(wait.as_secs());
        solo.wait(wait + Duration::from_millis(1));
        request = solo.requests().remove(0);
    }
    assert!((4..=6).contains(&waits[0]), "{waits:?}");
    assert!((240..=360).contains(&waits[8]), "{waits:?}");
}

#[test]
fn a_wrong_password_is_not_insisted_on() {
    let (mut solo, first) = solo();
    let challenge = "WWW-Authenticate: Digest realm=\"pbx\", nonce=\"n\", qop=\"auth\"";
    solo.hear(&reply(&first, 401, "r", challenge, ""));
    let second = solo.requests().remove(0);
    solo.hear(&reply(&second, 401, "r", challenge, ""));
    let Some(SipEvent::RegistrationFailed { failure, retry_in: Some(wait), .. }) = solo.take().1.pop() else {
        panic!("not told");
    };
    assert_eq!(failure.cause, FailureCause::Unauthorized);
    assert!(wait >= Duration::from_secs(240));
}

#[test]
fn a_binding_is_taken_back_even_from_a_registrar_that_is_gone() {
    let (mut solo, first) = solo();
    solo.hear(&reply(&first, 200, "r", "Expires: 600", ""));
    solo.agent.unregister(solo.now);
    let last = solo.requests().remove(0);
    assert_eq!(last.headers.get("Expires"), Some("0"));
    solo.wait(Duration::from_secs(40));
    assert!(solo.take().1.contains(&SipEvent::Unregistered));
    assert!(solo.agent.is_idle());
    assert_eq!(solo.agent.poll_timeout(), None);
}

#[test]
fn a_binding_over_a_connection_that_ended_is_made_anew_at_once() {
    let mut solo = Solo::new(Side::Caller);
    let hop = crate::message::Hop::new(crate::message::Transport::Tcp, addr(Side::Callee));
    let request = RegisterRequest {
        aor: Uri::sip("1001", "pbx.example.com").unwrap(),
        registrar: Uri::sip("", "pbx.example.com").unwrap(),
        next_hop: Some(hop),
        account: None,
        trunk: 3,
        expires: Duration::from_secs(3_600),
    };
    solo.agent.register(solo.now, request).unwrap();
    let first = solo.requests().remove(0);
    let ok = reply(&first, 200, "r", "Expires: 3600", "");
    solo.hear(&ok);
    solo.take();
    solo.agent.handle_transport_error(solo.now, hop, "the connection was closed");
    solo.wait(Duration::from_secs(11));
    assert_eq!(solo.requests().len(), 1, "a new REGISTER");
}

#[test]
fn a_registrar_that_takes_no_connection_is_tried_ever_more_slowly() {
    let mut solo = Solo::new(Side::Caller);
    let hop = crate::message::Hop::new(crate::message::Transport::Tcp, addr(Side::Callee));
    let request = RegisterRequest {
        aor: Uri::sip("1001", "pbx.example.com").unwrap(),
        registrar: Uri::sip("", "pbx.example.com").unwrap(),
        next_hop: Some(hop),
        account: None,
        trunk: 3,
        expires: Duration::from_secs(3_600),
    };
    solo.agent.register(solo.now, request).unwrap();
    let mut waits = Vec::new();
    for _ in 0..5 {
        solo.requests();
        solo.agent.handle_transport_error(solo.now, hop, "refused");
        let told = solo.take().1.into_iter().find_map(|event| {
            if let SipEvent::RegistrationFailed { trunk: 3, retry_in, .. } = event { retry_in } else { None }
        });
        let wait = told.unwrap();
        waits.push(wait);
        solo.wait(wait + Duration::from_millis(1));
    }
    assert!(waits[4] > waits[0] * 8, "{waits:?}");
}
