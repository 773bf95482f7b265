//! Keys by INFO: in their order, one at a time, with a password where it is asked for.

use super::*;

fn up() -> (Solo, DialogKey) {
    let mut solo = Solo::new(Side::Caller);
    solo.agent.config.credentials = Some(crate::digest::Credentials::new("u", "p"));
    let (key, invite) = solo.call();
    let contact = "Contact: <sip:a@192.0.2.2>\nContent-Type: application/sdp";
    solo.hear(&reply(&invite, 200, "t1", contact, &sdp("192.0.2.9:6000", "")));
    solo.take();
    (solo, key)
}

fn body(request: &Request) -> String {
    assert_eq!(request.headers.get("Content-Type"), Some("application/dtmf-relay"));
    String::from_utf8(request.body.to_vec()).unwrap()
}

fn answers(solo: &mut Solo) -> Vec<(char, Option<u16>)> {
    let mut answers = Vec::new();
    while let Some(output) = solo.agent.poll_output() {
        if let Output::News { news: CallNews::DigitAnswered { digit, code }, .. } = output {
            answers.push((digit, code));
        }
    }
    answers
}

#[test]
fn keys_go_one_after_another_each_when_the_one_before_is_answered() {
    let (mut solo, key) = up();
    for digit in ['1', '#', 'a'] {
        solo.agent.send_digit(solo.now, key, digit, 160).unwrap();
    }
    let mut seen = Vec::new();
    for _ in 0..3 {
        let requests = solo.requests();
        assert_eq!(requests.len(), 1, "one at a time");
        seen.push((requests[0].headers.cseq().unwrap().number, body(&requests[0])));
        solo.hear(&reply(&requests[0], 200, "t1", "", ""));
    }
    assert_eq!(answers(&mut solo), [('A', Some(200))], "the others were told before");
    let wanted = ["1", "#", "A"].map(|digit| format!("Signal={digit}\r\nDuration=160\r\n"));
    assert_eq!(seen.iter().map(|(_, body)| body.clone()).collect::<Vec<_>>(), wanted);
    assert!(seen.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1), "{seen:?}");
}

#[test]
fn a_key_that_is_refused_or_not_answered_is_told_and_the_next_goes_on() {
    let (mut solo, key) = up();
    for digit in ['1', '2', '3'] {
        solo.agent.send_digit(solo.now, key, digit, 100).unwrap();
    }
    let first = solo.requests().remove(0);
    solo.hear(&reply(&first, 415, "t1", "", ""));
    let (messages, _) = solo.take();
    let Message::Request(second) = &messages[0] else { panic!("a response") };
    assert!(body(second).starts_with("Signal=2"));
    let challenge = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", algorithm=SHA-256, qop=\"auth\"";
    solo.hear(&reply(second, 401, "t1", challenge, ""));
    let again = solo.requests().remove(0);
    assert!(again.headers.get("Authorization").is_some() && body(&again).starts_with("Signal=2"));
    solo.hear(&reply(&again, 200, "t1", "", ""));
    assert_eq!(answers(&mut solo), [('2', Some(200))]);
    solo.wait(Duration::from_secs(40));
    assert_eq!(answers(&mut solo), [('3', None)], "nobody answered the last");
}

#[test]
fn what_is_no_key_or_no_call_is_refused_and_no_more_wait_than_may() {
    let (mut solo, key) = up();
    assert_eq!(solo.agent.send_digit(solo.now, key, 'x', 160), Err(CommandError::NoSuchKey));
    assert_eq!(solo.agent.send_digit(solo.now, DialogKey(999), '1', 160), Err(CommandError::UnknownCall));
    let pressed = (0..1_000).filter(|_| solo.agent.send_digit(solo.now, key, '1', 160).is_ok()).count();
    assert_eq!(pressed, 64);
    solo.agent.bye(solo.now, key, None).unwrap();
    assert_eq!(solo.agent.send_digit(solo.now, key, '1', 160), Err(CommandError::WrongState));
}
