//! The registrar against telephones that register, and against strangers who write whatever they like.

use proptest::prelude::*;

use super::*;
use crate::digest::{Advice, Algorithm, Attempts, ClientAuth, Credentials, Subject};

const PHONE: &str = "198.51.100.7:5070";

/// The registrar, and a telephone that knows the password of user 201.
struct Office {
    agent: UserAgent,
    now: Instant,
    credentials: Credentials,
    auth: ClientAuth,
    call_id: &'static str,
    cseq: u32,
    /// Requests so far, each with a branch of its own, and the last of them.
    sent: u32,
    last: Vec<u8>,
    /// Bytes of the request sent last, and of the answers to it.
    sizes: (usize, Vec<usize>),
}

impl Office {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut RegistrarConfig)) -> Self {
        let users = vec![Credentials::new("201", "secret"), Credentials::new("202", "other")];
        let mut registrar = RegistrarConfig::new("branch17", users);
        change(&mut registrar);
        let mut config = config(Side::Callee);
        config.registrar = Some(registrar);
        Self {
            agent: UserAgent::new(config, [9; 32]),
            now: Instant::now(),
            credentials: Credentials::new("201", "secret"),
            auth: ClientAuth::default(),
            call_id: "phone-a",
            cseq: 0,
            sent: 0,
            last: Vec::new(),
            sizes: (0, Vec::new()),
        }
    }

    /// Sends one REGISTER of a telephone, with answers to the challenges so far.
    fn send(&mut self, more: &str) -> Vec<Response> {
        self.cseq += 1;
        self.sent += 1;
        let text = format!(
            "REGISTER sip:192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP {PHONE};rport;branch=z9hG4bKp{}\r\nMax-Forwards: 70\r\n\
             From: <sip:201@192.0.2.2>;tag=f\r\nTo: <sip:201@192.0.2.2>\r\nCall-ID: {}\r\nCSeq: {} REGISTER\r\n\
             User-Agent: a telephone that says who it is and what it can\r\nSupported: path, gruu, outbound, replaces\r\n\
             Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, NOTIFY, SUBSCRIBE, INFO, MESSAGE, UPDATE, REFER\r\n{more}\
             Content-Length: 0\r\n\r\n",
            self.sent, self.call_id, self.cseq
        );
        let Ok(Message::Request(mut request)) = Message::parse(text.as_bytes()) else { return Vec::new() };
        let uri = request.uri.to_wire();
        let subject = Subject { method: "REGISTER", uri: &uri, body: b"" };
        self.auth.authorize(&self.credentials, subject, &mut request.headers);
        self.last = request.to_bytes().to_vec();
        self.deliver(&self.last.clone())
    }

    fn deliver(&mut self, bytes: &[u8]) -> Vec<Response> {
        self.agent.handle_datagram(self.now, PHONE.parse().unwrap(), bytes);
        self.sizes = (bytes.len(), Vec::new());
        let mut answers = Vec::new();
        while let Some(output) = self.agent.poll_output() {
            let Output::Send { bytes, to, .. } = output else { continue };
            assert_eq!(to, PHONE.parse().unwrap());
            self.sizes.1.push(bytes.len());
            if let Ok(Message::Response(response)) = Message::parse(&bytes) {
                answers.push(response);
            }
        }
        answers
    }

    /// Registers, with the password when it is asked for.
    fn register(&mut self, more: &str) -> Response {
        let mut attempts = Attempts::default();
        loop {
            let mut answers = self.send(more);
            assert_eq!(answers.len(), 1, "{answers:?}");
            let answer = answers.remove(0);
            let again = answer.code == 401
                && self.auth.handle_challenge(&answer.headers, &mut attempts, "c0ffee") == Advice::Retry;
            if !again {
                return answer;
            }
            assert!(
                self.sizes.1[0] <= self.sizes.0,
                "a stranger gets no more than he sent: {:?}",
                self.sizes
            );
        }
    }

    fn contacts(&self) -> Vec<String> {
        let bindings = self.agent.bindings(self.now, "201");
        bindings.iter().map(|binding| binding.contact.to_wire()).collect()
    }
}

#[test]
fn a_telephone_registers_with_its_password_and_is_found_where_it_is() {
    for algorithm in [Algorithm::SHA256, Algorithm::MD5] {
        let mut office = Office::with(|config| config.algorithms = vec![algorithm]);
        let answer = office.register("Contact: <sip:201@10.0.0.9:5070>\r\nExpires: 600\r\n");
        assert_eq!(answer.code, 200);
        assert_eq!(answer.headers.get("Contact"), Some("<sip:201@10.0.0.9:5070>;expires=600"));
        let binding = office.agent.bindings(office.now, "201").remove(0);
        assert_eq!(binding.contact.to_wire(), "sip:201@10.0.0.9:5070");
        assert_eq!(binding.at, Hop::udp(PHONE.parse().unwrap()), "behind a NAT only this way leads to it");
        assert!(office.agent.bindings(office.now, "202").is_empty());
        // It ends by itself.
        office.now += Duration::from_secs(601);
        assert!(office.contacts().is_empty());
    }
}

#[test]
fn both_hashes_are_offered_where_there_is_room_and_one_where_there_is_not() {
    let mut office = Office::new();
    let challenges =
        |answer: &Response| answer.headers.all("WWW-Authenticate").map(str::to_owned).collect::<Vec<_>>();
    let long = office.send(
        "Contact: <sip:201@10.0.0.9>;+sip.instance=\"<urn:uuid:0e8c5d0a-4f3f-4f6e-9c6e-7b3d8ad0b3f1>\"\r\n",
    );
    let offered = challenges(&long[0]);
    assert_eq!(offered.len(), 2, "{offered:?}");
    assert!(offered[0].contains("SHA-256") && offered[1].contains("MD5"), "{offered:?}");
    let short = "REGISTER sip:192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7:5070;branch=z9hG4bKs\r\n\
        From: <sip:201@192.0.2.2>;tag=f\r\nTo: <sip:201@192.0.2.2>\r\nCall-ID: s\r\nCSeq: 1 REGISTER\r\n\
        Contact: <sip:201@10.0.0.9:5070>\r\nUser-Agent: a telephone of few words, but enough of them for one challenge and not two\r\n\
        Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, NOTIFY\r\nContent-Length: 0\r\n\r\n";
    let answers = office.deliver(short.as_bytes());
    let offered = challenges(&answers[0]);
    assert!(offered.len() == 1 && offered[0].contains("MD5"), "{offered:?}");
    assert!(office.sizes.1[0] <= office.sizes.0);
}

#[test]
fn a_wrong_password_and_another_users_name_register_nothing() {
    let mut office = Office::new();
    office.credentials = Credentials::new("201", "guess");
    assert_eq!(office.register("Contact: <sip:201@10.0.0.9>\r\n").code, 401);
    let mut office = Office::new();
    // The password of 202 is right, and 201 is not his to move.
    office.credentials = Credentials::new("202", "other");
    assert_eq!(office.register("Contact: <sip:201@10.0.0.9>\r\n").code, 403);
    assert!(office.contacts().is_empty());
}

#[test]
fn passwords_are_not_guessed_fast() {
    let mut office = Office::new();
    let answered = (0..200).map(|_| office.send("Contact: <sip:201@10.0.0.9>\r\n").len()).sum::<usize>();
    assert!(answered <= 5, "{answered}");
}

#[test]
fn too_short_a_time_is_told_and_too_long_a_time_is_cut() {
    let mut office = Office::new();
    let brief = office.register("Contact: <sip:201@10.0.0.9>;expires=30\r\n");
    assert_eq!((brief.code, brief.headers.get("Min-Expires")), (423, Some("60")));
    assert!(office.contacts().is_empty());
    let long = office.register("Contact: <sip:201@10.0.0.9>\r\nExpires: 999999\r\n");
    assert_eq!(long.headers.get("Contact"), Some("<sip:201@10.0.0.9>;expires=3600"));
}

#[test]
fn bindings_are_asked_for_taken_back_one_by_one_and_all_at_once() {
    let mut office = Office::new();
    office.register("Contact: <sip:a@10.0.0.1>;q=0.5, <sip:b@10.0.0.2>\r\n");
    assert_eq!(office.contacts(), ["sip:b@10.0.0.2", "sip:a@10.0.0.1"], "the preferred one first");
    let asked = office.register("");
    assert_eq!((asked.code, asked.headers.list("Contact").count()), (200, 2));
    office.register("Contact: <sip:b@10.0.0.2>;expires=0\r\n");
    assert_eq!(office.contacts(), ["sip:a@10.0.0.1"]);
    for (more, code) in [
        ("Contact: *\r\nExpires: 60\r\n", 400),
        ("Contact: *, <sip:a@10.0.0.1>\r\nExpires: 0\r\n", 400),
        ("Contact: <tel:+4930>\r\n", 400),
        ("Require: gruu\r\nContact: <sip:x@10.0.0.1>\r\n", 420),
    ] {
        assert_eq!(office.register(more).code, code, "{more}");
        assert_eq!(office.contacts(), ["sip:a@10.0.0.1"], "all or nothing");
    }
    assert_eq!(office.register("Contact: *\r\nExpires: 0\r\n").code, 200);
    assert!(office.contacts().is_empty());
}

#[test]
fn an_older_request_does_not_undo_a_newer_one() {
    let mut office = Office::new();
    office.register("Contact: <sip:a@10.0.0.1>\r\n");
    office.cseq = 0;
    let late = office.send("Contact: <sip:a@10.0.0.1>;expires=0\r\n");
    assert_eq!(late[0].code, 500, "{late:?}");
    assert_eq!(office.contacts(), ["sip:a@10.0.0.1"]);
    // Another telephone, or the same after a restart, has a Call-ID of its own.
    office.call_id = "phone-b";
    assert_eq!(office.send("Contact: <sip:a@10.0.0.1>;expires=0\r\n")[0].code, 200);
    assert!(office.contacts().is_empty());
}

#[test]
fn one_more_telephone_takes_the_place_of_the_one_that_would_end_first() {
    let mut office = Office::new();
    for n in 0..6 {
        office.register(&format!("Contact: <sip:p{n}@10.0.0.1>;expires={}\r\n", 600 + n));
        office.now += Duration::from_secs(1);
    }
    assert_eq!(office.contacts().len(), 4);
    assert_eq!(office.contacts()[0], "sip:p5@10.0.0.1");
    let many: String = (0..9).map(|n| format!("Contact: <sip:m{n}@10.0.0.1>\r\n")).collect();
    assert_eq!(office.register(&many).code, 400);
}

#[test]
fn a_stale_nonce_costs_one_more_round_and_a_copy_gets_the_same_answer() {
    let mut office = Office::new();
    office.register("Contact: <sip:a@10.0.0.1>\r\n");
    let rounds = office.cseq;
    office.now += Duration::from_secs(100);
    office.register("Contact: <sip:a@10.0.0.1>\r\n");
    assert_eq!(office.cseq, rounds + 1, "the nonce goes on");
    office.now += Duration::from_secs(400);
    let answers = office.send("Contact: <sip:a@10.0.0.1>\r\n");
    assert!(answers[0].headers.get("WWW-Authenticate").unwrap().contains("stale=true"), "{answers:?}");
    assert_eq!(office.register("Contact: <sip:a@10.0.0.1>\r\n").code, 200);
    // Its answer was lost: the count of the nonce is used up, and the copy is answered all the same.
    let copy = office.deliver(&office.last.clone());
    assert_eq!(copy[0].code, 200);
}

#[test]
fn a_telephone_on_a_connection_that_is_gone_is_not_called() {
    let mut office = Office::new();
    let at = Hop::new(crate::message::Transport::Tcp, PHONE.parse().unwrap());
    let mut attempts = Attempts::default();
    for _ in 0..2 {
        office.cseq += 1;
        let text = format!(
            "REGISTER sip:x SIP/2.0\r\nVia: SIP/2.0/TCP {PHONE};branch=z9hG4bKt{n}\r\nFrom: <sip:201@x>;tag=f\r\n\
             To: <sip:201@x>\r\nCall-ID: t\r\nCSeq: {n} REGISTER\r\nContact: <sip:a@10.0.0.1;transport=tcp>\r\n\r\n",
            n = office.cseq
        );
        let Ok(Message::Request(mut request)) = Message::parse(text.as_bytes()) else { panic!("{text}") };
        let subject = Subject { method: "REGISTER", uri: "sip:x", body: b"" };
        office.auth.authorize(&office.credentials, subject, &mut request.headers);
        office.agent.handle_message(office.now, at, &request.to_bytes());
        while let Some(output) = office.agent.poll_output() {
            if let Output::Send { bytes, .. } = output
                && let Ok(Message::Response(answer)) = Message::parse(&bytes)
                && answer.code == 401
            {
                // On a connection nobody can pretend to be another: the answer may be longer than the question.
                assert_eq!(answer.headers.all("WWW-Authenticate").count(), 2);
                office.auth.handle_challenge(&answer.headers, &mut attempts, "c0ffee");
            }
        }
    }
    assert_eq!(office.agent.bindings(office.now, "201")[0].at, at);
    office.agent.handle_transport_error(office.now, at, "closed");
    assert!(office.contacts().is_empty());
}

#[test]
fn our_own_registration_is_taken_by_our_own_registrar() {
    let mut callee = config(Side::Callee);
    callee.registrar = Some(RegistrarConfig::new("branch17", vec![Credentials::new("201", "secret")]));
    let mut caller = config(Side::Caller);
    caller.credentials = Some(Credentials::new("201", "secret"));
    let mut pair = Pair::with(caller, callee, 5);
    let request = RegisterRequest {
        aor: Uri::sip("201", "192.0.2.2").unwrap(),
        registrar: Uri::sip("", "192.0.2.2").unwrap(),
        // Its REGISTER is shorter than a challenge: over datagrams it would get none.
        next_hop: Some(Hop::new(crate::message::Transport::Tcp, addr(Side::Callee))),
        account: None,
        trunk: 0,
        expires: Duration::from_secs(600),
    };
    pair.caller.register(pair.now, request).unwrap();
    pair.run_for(Duration::from_secs(2));
    let registered = pair.events.iter().any(|(_, side, event)| {
        *side == Side::Caller
            && matches!(event, SipEvent::Registered { expires, .. } if expires.as_secs() == 600)
    });
    assert!(registered, "{:#?}\n{:#?}", pair.sent, pair.events);
    assert_eq!(pair.callee.bindings(pair.now, "201").len(), 1);
    pair.run_for(Duration::from_secs(3_600));
    assert_eq!(pair.callee.bindings(pair.now, "201").len(), 1, "it is kept fresh");
}

fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("Contact: *".to_owned()),
        Just("Expires: 0".to_owned()),
        "Contact: [ -~]{0,60}",
        "Expires: [ -~]{0,12}",
        "Authorization: Digest [ -~]{0,120}",
        "Authorization: Digest username=\"201\", realm=\"branch17\", nonce=\"[0-9a-f]{0,64}\", uri=\"sip:x\", nc=00000001, cnonce=\"x\", qop=auth, response=\"[0-9a-f]{0,64}\"",
        "To: [ -~]{0,40}",
        "[A-Za-z-]{1,12}: [ -~]{0,80}",
    ]
}

proptest! {
    /// Whatever strangers send: nothing is kept, and over datagrams they get less than they sent.
    #[test]
    fn strangers_register_nothing_and_are_no_amplifier(
        parts in prop::collection::vec(part(), 0..8),
        uri in "sip:[a-z0-9.@:;=]{1,20}",
    ) {
        let mut office = Office::new();
        let text = format!(
            "REGISTER {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {PHONE};branch=z9hG4bKx\r\nFrom: <sip:201@x>;tag=f\r\n\
             To: <sip:201@x>\r\nCall-ID: x\r\nCSeq: 1 REGISTER\r\n{}\r\n\r\n",
            parts.join("\r\n")
        );
        office.deliver(text.as_bytes());
        prop_assert!(office.contacts().is_empty());
        let (sent, answers) = &office.sizes;
        prop_assert!(answers.len() <= 1);
        prop_assert!(answers.iter().all(|answer| answer <= sent), "{:?}", office.sizes);
    }

    /// Whatever contacts somebody who knows a password sends: the table stays within its bounds.
    #[test]
    fn a_user_fills_no_more_than_his_share(
        rounds in prop::collection::vec(prop::collection::vec("[ -~]{0,60}", 0..7), 1..6),
    ) {
        let mut office = Office::new();
        let first = office.send("");
        office.auth.handle_challenge(&first[0].headers, &mut Attempts::default(), "c0ffee");
        for contacts in rounds {
            let good = format!("Contact: <sip:p{}@10.0.0.1>\r\n", office.cseq);
            let more: String = contacts.iter().map(|contact| format!("Contact: {contact}\r\n")).collect();
            office.send(&format!("{good}{more}"));
            prop_assert!(office.contacts().len() <= 4);
        }
    }
}
