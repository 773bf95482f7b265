//! Provisional answers that are acknowledged, and offers before the answer.

use super::*;
use crate::agent::Reliability;
use crate::sdp::Direction;

fn demanding(side: Side) -> UaConfig {
    UaConfig { reliable: Reliability::Required, ..config(side) }
}

#[test]
fn early_media_is_acknowledged_before_the_answer_and_said_once() {
    let mut pair = Pair::new();
    pair.call();
    let there = pair.until(Side::Callee, incoming);
    pair.callee.ringing(pair.now, there, Some(media(Side::Callee))).unwrap();
    // The 200 has to wait for the PRACK.
    pair.callee.accept(pair.now, there, media(Side::Callee)).unwrap();
    pair.until(Side::Caller, answered);
    pair.until(Side::Callee, answered);
    pair.callee.bye(pair.now, there, None).unwrap();
    pair.settle();
    assert_eq!(pair.sent_by(Side::Caller), ["INVITE", "PRACK", "ACK", "SIP/2.0 200 OK"]);
    let answers =
        ["SIP/2.0 100 Trying", "SIP/2.0 183 Session Progress", "SIP/2.0 200 OK", "SIP/2.0 200 OK", "BYE"];
    assert_eq!(pair.sent_by(Side::Callee), answers);
}

#[test]
fn where_it_is_demanded_every_progress_is_acknowledged_one_after_the_other() {
    let mut pair = Pair::with(demanding(Side::Caller), config(Side::Callee), 1);
    pair.call();
    let there = pair.until(Side::Callee, incoming);
    pair.callee.ringing(pair.now, there, None).unwrap();
    pair.callee.ringing(pair.now, there, Some(media(Side::Callee))).unwrap();
    pair.run_for(Duration::from_secs(2));
    let asked = pair.sent_by(Side::Caller);
    assert_eq!(asked, ["INVITE", "PRACK", "PRACK"]);
    pair.callee.accept(pair.now, there, media(Side::Callee)).unwrap();
    pair.until(Side::Caller, answered);
    pair.caller.bye(pair.now, DialogKey(1), None).ok();
    pair.callee.bye(pair.now, there, None).ok();
    pair.settle();
}

#[test]
fn it_works_over_a_network_that_loses_and_reorders() {
    for seed in 0..60 {
        let mut pair = Pair::with(demanding(Side::Caller), config(Side::Callee), seed);
        pair.weather = Weather { loss: 0.2, duplicate: 0.2, longest_delay_ms: 300 };
        pair.call();
        let there = pair.until(Side::Callee, incoming);
        pair.callee.ringing(pair.now, there, Some(media(Side::Callee))).unwrap();
        pair.callee.accept(pair.now, there, media(Side::Callee)).unwrap();
        pair.until(Side::Caller, answered);
        pair.until(Side::Callee, answered);
        pair.weather = FAIR;
        pair.callee.bye(pair.now, there, None).unwrap();
        pair.settle();
    }
}

#[test]
fn a_progress_that_is_never_acknowledged_turns_the_call_away() {
    let mut solo = Solo::new(Side::Callee);
    solo.hear(&super::peer::ask(
        "INVITE",
        1,
        "",
        "Require: 100rel\nContent-Type: application/sdp\n",
        &sdp("192.0.2.1:4000", ""),
    ));
    let (_, events) = solo.take();
    let key = events.iter().find_map(incoming).unwrap();
    solo.agent.ringing(solo.now, key, None).unwrap();
    solo.wait(Duration::from_secs(40));
    let codes: Vec<u16> = solo.responses().iter().map(|response| response.code).collect();
    assert_eq!(codes[..8], [180, 180, 180, 180, 180, 180, 180, 504]);
}

#[test]
fn a_copy_and_one_out_of_order_are_not_acknowledged() {
    let mut solo = Solo::new(Side::Caller);
    let (_, invite) = solo.call();
    let progress = |number: u32| {
        reply(&invite, 180, "t1", &format!("Contact: <sip:a@192.0.2.2>\nRequire: 100rel\nRSeq: {number}"), "")
    };
    solo.hear(&progress(7));
    let first = solo.requests();
    assert_eq!(first[0].headers.get("RAck"), Some("7 1 INVITE"));
    solo.hear(&progress(7));
    solo.hear(&progress(9));
    assert!(solo.requests().is_empty());
    solo.hear(&progress(8));
    let second = solo.requests();
    assert_eq!(second[0].headers.get("RAck"), Some("8 1 INVITE"));
    assert_eq!(second[0].headers.cseq().unwrap().number, 3);
    solo.hear(&reply(
        &invite,
        200,
        "t1",
        "Contact: <sip:a@192.0.2.2>\nContent-Type: application/sdp",
        &sdp("192.0.2.9:6000", ""),
    ));
    let ack = solo.requests().remove(0);
    assert_eq!(ack.headers.cseq().unwrap().number, 1, "an ACK has its INVITE's number");
}

#[test]
fn media_may_change_before_the_answer() {
    let mut solo = Solo::new(Side::Callee);
    let sdp_type = "Content-Type: application/sdp\n";
    solo.hear(&super::peer::ask(
        "INVITE",
        1,
        "",
        &format!("Require: 100rel\n{sdp_type}"),
        &sdp("192.0.2.1:4000", ""),
    ));
    let key = solo.take().1.iter().find_map(incoming).unwrap();
    solo.agent.ringing(solo.now, key, Some(media(Side::Callee))).unwrap();
    let progress = solo.responses().remove(0);
    let tag = progress.headers.to().unwrap().tag().unwrap();
    let number = progress.headers.get("RSeq").unwrap().to_owned();
    let early =
        |number| super::peer::ask("UPDATE", number, &tag, sdp_type, &sdp("192.0.2.1:4002", "a=sendonly\r\n"));
    solo.hear(&early(2));
    assert_eq!(solo.responses().remove(0).code, 500, "the answer before it was not acknowledged yet");
    solo.hear(&super::peer::ask("PRACK", 3, &tag, &format!("RAck: {number} 1 INVITE\n"), ""));
    assert_eq!(solo.responses().remove(0).code, 200);
    solo.hear(&early(4));
    let (messages, events) = solo.take();
    let Some(Message::Response(response)) = messages.first() else { panic!("{messages:?}") };
    assert_eq!(response.code, 200);
    assert_eq!(events.iter().find_map(changed), Some(Direction::RecvOnly));
    solo.agent.accept(solo.now, key, media(Side::Callee)).unwrap();
    let ok = solo.responses().remove(0);
    assert_eq!((ok.code, ok.body.len()), (200, 0), "what was acknowledged is not said again");
}
