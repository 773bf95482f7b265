//! An INVITE that takes the place of a call: who may, which call, and everything that is refused (RFC 3891 §3).

use super::*;

/// Our end of a call from the peer, who may replace it.
struct Taken {
    solo: Solo,
    key: DialogKey,
    to_tag: String,
    sent: u32,
}

const CALL_ID: &str = "first@peer";

impl Taken {
    fn up() -> Self {
        let mut solo = Solo::new(Side::Callee);
        let ip = solo.peer.ip();
        solo.agent.allow_replacing(ip);
        let mut taken = Self { solo, key: DialogKey(0), to_tag: String::new(), sent: 0 };
        taken.invite(CALL_ID, "", "");
        let (_, events) = taken.solo.take();
        taken.key = incoming(&events[0]).unwrap();
        taken.solo.agent.accept(taken.solo.now, taken.key, media(Side::Callee)).unwrap();
        let ok = taken.solo.responses().remove(0);
        taken.to_tag = ok.headers.to().unwrap().tag().unwrap();
        let ack = taken.in_dialog("ACK", 1, "");
        taken.solo.hear(&ack);
        taken.solo.take();
        taken
    }

    /// Sends an INVITE of the peer's; `to`: the tag in To, if any.
    fn invite(&mut self, call_id: &str, to: &str, more: &str) {
        self.sent += 1;
        let (n, body) = (self.sent, sdp("192.0.2.1:4000", ""));
        let tag = if to.is_empty() { String::new() } else { format!(";tag={to}") };
        let text = format!(
            "INVITE sip:1001@192.0.2.2 SIP/2.0\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKr{n}\n\
             From: <sip:4000@192.0.2.1>;tag=theirs\nTo: <sip:1001@192.0.2.2>{tag}\nCall-ID: {call_id}\n\
             CSeq: {n} INVITE\nContact: <sip:4000@192.0.2.1:5060>\nContent-Type: application/sdp\n{more}\
             Content-Length: {}\n\n{body}",
            body.len()
        );
        self.solo.hear(&text);
    }

    fn in_dialog(&self, method: &str, number: u32, more: &str) -> String {
        format!(
            "{method} sip:1001@192.0.2.2 SIP/2.0\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKd{method}{number}\n\
             From: <sip:4000@192.0.2.1>;tag=theirs\nTo: <sip:1001@192.0.2.2>;tag={}\nCall-ID: {CALL_ID}\n\
             CSeq: {number} {method}\n{more}\n",
            self.to_tag
        )
    }

    /// The header that names our call.
    fn replaces(&self) -> String {
        format!("Replaces: {CALL_ID};to-tag={};from-tag=theirs\n", self.to_tag)
    }

    /// Sends an INVITE with these headers and returns the final answer, or the call that it began.
    fn answer_to(&mut self, headers: &str) -> Result<(DialogKey, Option<DialogKey>), u16> {
        let call_id = format!("new{}@peer", self.sent);
        self.invite(&call_id, "", headers);
        let (messages, events) = self.solo.take();
        for event in &events {
            if let SipEvent::Incoming { key, replaces, .. } = event {
                return Ok((*key, *replaces));
            }
        }
        match &messages[..] {
            [Message::Response(response)] => Err(response.code),
            other => panic!("{other:?}"),
        }
    }

    fn is_up(&self) -> bool {
        matches!(&self.solo.agent.calls[&self.key.0].phase, Phase::Up(_))
    }
}

#[test]
fn who_may_moves_a_call_to_another_dialog_and_the_old_one_is_hung_up() {
    let mut taken = Taken::up();
    let (new, replaced) = taken.answer_to(&taken.replaces()).unwrap();
    assert_eq!(replaced, Some(taken.key));
    assert!(taken.is_up(), "until the new one is accepted");
    taken.solo.agent.accept(taken.solo.now, new, media(Side::Callee)).unwrap();
    let (messages, _) = taken.solo.take();
    let first: Vec<_> = messages
        .iter()
        .map(|message| match message {
            Message::Response(response) => response.code.to_string(),
            Message::Request(request) => request.method.as_str().to_owned(),
        })
        .collect();
    assert_eq!(first, ["200", "BYE"], "answered before the other is hung up");
    let Message::Request(bye) = &messages[1] else { panic!("a response") };
    taken.solo.hear(&reply(bye, 200, "", "", ""));
    assert_eq!(taken.solo.take().1, [SipEvent::Ended { key: taken.key }]);
}

#[test]
fn what_cannot_be_replaced_is_refused_with_the_code_of_the_standard_and_the_call_goes_on() {
    let mut taken = Taken::up();
    let tag = taken.to_tag.clone();
    let named = |call_id: &str, to: &str, from: &str, more: &str| {
        format!("Replaces: {call_id};to-tag={to};from-tag={from}{more}\n")
    };
    let good = named(CALL_ID, &tag, "theirs", "");
    for (headers, code) in [
        (named("other@peer", &tag, "theirs", ""), 481),
        (named(CALL_ID, "x", "theirs", ""), 481),
        (named(CALL_ID, &tag, "x", ""), 481),
        // The tags are those of whoever is asked: turned round they are nobody's.
        (named(CALL_ID, "theirs", &tag, ""), 481),
        (named(CALL_ID, &tag, "0", ""), 481),
        (named(CALL_ID, &tag, "theirs", ";early-only"), 486),
        (format!("Replaces: {CALL_ID}\n"), 400),
        (format!("Replaces: {CALL_ID};to-tag={tag}\n"), 400),
        ("Replaces: ;to-tag=a;from-tag=b\n".to_owned(), 400),
        (format!("{good}{good}"), 400),
        (format!("{good}Join: {CALL_ID};to-tag={tag};from-tag=theirs\n"), 400),
        (format!("Replaces: {};to-tag=a;from-tag=b\n", "x".repeat(8_000)), 481),
    ] {
        let short = &headers[..headers.len().min(120)];
        assert_eq!(taken.answer_to(&headers), Err(code), "{short}");
        assert!(taken.is_up(), "{short}");
    }
    assert!(taken.answer_to(&good).is_ok(), "nothing of that was in the way");
}

#[test]
fn a_dead_dialog_is_declined_and_a_second_wish_for_the_same_call_too() {
    let mut taken = Taken::up();
    let replaces = taken.replaces();
    let (first, _) = taken.answer_to(&replaces).unwrap();
    assert_eq!(taken.answer_to(&replaces), Err(603), "it is promised to the first");
    taken.solo.agent.accept(taken.solo.now, first, media(Side::Callee)).unwrap();
    let bye = taken.solo.requests().remove(0);
    assert_eq!(taken.answer_to(&replaces), Err(603), "its BYE is out");
    taken.solo.hear(&reply(&bye, 200, "", "", ""));
    taken.solo.take();
    assert_eq!(taken.answer_to(&replaces), Err(603), "it is over");

    let mut taken = Taken::up();
    let (replaces, bye) = (taken.replaces(), taken.in_dialog("BYE", 2, ""));
    taken.solo.hear(&bye);
    taken.solo.take();
    assert_eq!(taken.answer_to(&replaces), Err(603), "they hung it up themselves");
}

#[test]
fn a_first_wish_that_was_turned_away_leaves_the_call_to_the_next() {
    let mut taken = Taken::up();
    let replaces = taken.replaces();
    let (first, _) = taken.answer_to(&replaces).unwrap();
    taken.solo.agent.reject(taken.solo.now, first, 488).unwrap();
    taken.solo.take();
    assert!(taken.is_up());
    assert!(taken.answer_to(&replaces).is_ok());
}

#[test]
fn who_may_not_replace_learns_nothing_of_the_calls_there_are() {
    let mut taken = Taken::up();
    taken.solo.agent.config.may_replace.clear();
    let nobody = "Replaces: nothing;to-tag=a;from-tag=b\n".to_owned();
    for headers in [taken.replaces(), nobody] {
        assert_eq!(taken.answer_to(&headers), Err(403));
    }
    assert_eq!(taken.solo.agent.stats().refused, 2);
    assert!(taken.is_up());

    // Another trunk of ours may move its own calls, and not this one.
    let mut taken = Taken::up();
    let other: SocketAddr = "192.0.2.40:5060".parse().unwrap();
    taken.solo.agent.allow_peer(other.ip());
    taken.solo.agent.allow_replacing(other.ip());
    taken.solo.peer = other;
    assert_eq!(taken.answer_to(&taken.replaces()), Err(403));
    assert!(taken.is_up());
}

#[test]
fn a_call_that_rings_here_is_not_replaced_and_one_that_we_make_is_picked_up_elsewhere() {
    let mut taken = Taken::up();
    taken.invite("second@peer", "", "");
    let (messages, _) = taken.solo.take();
    let trying = messages.first().unwrap().headers().to().unwrap();
    assert_eq!(trying.tag(), None);
    let second = taken.solo.agent.calls.values().find(|call| call.call_id == "second@peer").unwrap();
    let headers = format!("Replaces: second@peer;to-tag={};from-tag=theirs\n", second.local_tag);
    assert_eq!(taken.answer_to(&headers), Err(481), "only its caller may give it away");

    // Ours rings at one telephone, and is taken at another.
    let (key, invite) = taken.solo.call();
    taken.solo.hear(&reply(&invite, 180, "desk", "Contact: <sip:desk@192.0.2.2>", ""));
    let (call_id, tag) = (invite.headers.call_id().unwrap(), invite.headers.from().unwrap().tag().unwrap());
    let headers = format!("Replaces: {call_id};to-tag={tag};from-tag=desk;early-only\n");
    taken.solo.take();
    taken.solo.peer = addr(Side::Callee);
    taken.solo.agent.allow_peer(addr(Side::Callee).ip());
    taken.solo.agent.allow_replacing(addr(Side::Callee).ip());
    let (new, replaced) = taken.answer_to(&headers).unwrap();
    assert_eq!(replaced, Some(key));
    taken.solo.agent.accept(taken.solo.now, new, media(Side::Callee)).unwrap();
    let methods: Vec<_> =
        taken.solo.requests().iter().map(|request| request.method.as_str().to_owned()).collect();
    assert_eq!(methods, ["CANCEL"]);
}

#[test]
fn replaces_in_anything_but_a_new_invite_is_a_bad_request() {
    let mut taken = Taken::up();
    let replaces = taken.replaces();
    for method in ["BYE", "UPDATE", "INFO", "OPTIONS", "REFER"] {
        taken.sent += 1;
        let request = taken.in_dialog(method, 10 + taken.sent, &replaces);
        taken.solo.hear(&request);
        assert_eq!(taken.solo.responses()[0].code, 400, "{method}");
    }
    taken.sent = 30;
    let tag = taken.to_tag.clone();
    taken.invite(CALL_ID, &tag, &replaces);
    assert_eq!(taken.solo.responses().last().unwrap().code, 400);
    assert!(taken.is_up());
}

#[test]
fn what_ended_is_remembered_within_bounds() {
    let mut ended = super::tables::Ended::default();
    for n in 0..1_000 {
        ended.note(&format!("{n}@peer"), "a", "b");
    }
    assert!(ended.has("999@peer", "a", "b") && ended.has("936@peer", "a", "b"));
    assert!(!ended.has("935@peer", "a", "b"));
    ended.note(&"x".repeat(60_000), "a", "b");
    assert!(ended.has("936@peer", "a", "b"), "a name that long is not kept");
}

#[test]
fn where_the_other_side_takes_our_second_call_over_it_is_told_to_demand_replaces() {
    let mut pair = Pair::new();
    let (first, _) = pair.set_up();
    let (second, there) = pair.set_up();
    pair.caller.refer(pair.now, first, &Uri::sip("unused", "192.0.2.2").unwrap(), Some(second)).unwrap();
    let mut refer = None;
    while let Some(output) = pair.caller.poll_output() {
        if let Output::Send { bytes, .. } = output {
            refer = Some(Message::parse(&bytes).unwrap());
        }
    }
    let Some(Message::Request(refer)) = refer else { panic!("no REFER") };
    let to = NameAddr::parse(refer.headers.get("Refer-To").unwrap()).unwrap().uri;
    let headers = to.headers.unwrap();
    let call = &pair.callee.calls[&there.0];
    assert!(headers.ends_with("&Require=replaces"), "{headers}");
    assert!(
        headers.starts_with(&format!("Replaces={}%3Bto-tag%3D{}", call.call_id, call.local_tag)),
        "{headers}"
    );
}

#[test]
fn after_a_refused_transfer_a_late_notify_means_nothing() {
    let mut solo = Solo::new(Side::Caller);
    let (key, invite) = solo.call();
    let contact = "Contact: <sip:a@192.0.2.2>\nContent-Type: application/sdp";
    solo.hear(&reply(&invite, 200, "t1", contact, &sdp("192.0.2.9:6000", "")));
    solo.take();
    solo.agent.refer(solo.now, key, &Uri::sip("8001", "192.0.2.2").unwrap(), None).unwrap();
    let refer = solo.requests().remove(0);
    solo.hear(&reply(&refer, 603, "t1", "", ""));
    solo.take();
    let (from, to) = (refer.headers.get("To").unwrap(), refer.headers.get("From").unwrap());
    solo.hear(&format!(
        "NOTIFY sip:trunkline@192.0.2.1 SIP/2.0\nVia: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bKn1\nFrom: {from}\n\
         To: {to}\nCall-ID: {}\nCSeq: 1 NOTIFY\nEvent: refer\nSubscription-State: terminated\n\
         Content-Type: message/sipfrag\nContent-Length: 16\n\nSIP/2.0 200 OK\r\n",
        refer.headers.call_id().unwrap()
    ));
    assert_eq!(solo.responses()[0].code, 481);
}
