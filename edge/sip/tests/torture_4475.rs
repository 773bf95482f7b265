//! What RFC 4475 tries on a parser, section by section, in messages of our own: valid ones are handled, broken ones
//! answered with 400 (or the code that fits better) or dropped, and what the agent answers can be read.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use trunkline_sip::message::{Message, ParseError};
use trunkline_sip::{Output, UaConfig, UserAgent};

/// What becomes of a message.
#[derive(Debug, PartialEq)]
enum Fate {
    /// It is read; the agent's first answer has this code, or there is none.
    Read(Option<u16>),
    /// It is refused with this code.
    Refused(u16),
    /// Nothing comes back.
    Dropped,
}

fn fate(text: &str) -> Fate {
    let peer: SocketAddr = "192.0.2.1:5060".parse().unwrap();
    let mut config = UaConfig::new("192.0.2.2:5060".parse().unwrap());
    config.allowed_peers = Some(vec![peer.ip()]);
    let mut agent = UserAgent::new(config, [9; 32]);
    let bytes = text.replace('\n', "\r\n").into_bytes();
    let now = Instant::now();
    agent.handle_datagram(now, peer, &bytes);
    let mut codes = Vec::new();
    while let Some(output) = agent.poll_output() {
        if let Output::Send { bytes, .. } = output {
            // An answer repeats what it answers, so it is as unreadable as that may be; its first line is ours.
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let code = text.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)?.parse::<u16>().ok());
            codes.push(code.expect("an answer"));
        }
    }
    agent.handle_timeout(now + Duration::from_secs(400));
    let answer = codes.iter().copied().find(|code| *code > 100).or(codes.first().copied());
    match Message::parse(&bytes) {
        Ok(_) => Fate::Read(answer),
        Err(ParseError::BadRequest { code, .. }) => {
            assert_eq!(answer, Some(code), "{text}");
            Fate::Refused(code)
        }
        Err(ParseError::NotSip(_) | ParseError::KeepAlive) => {
            assert_eq!(answer, None, "{text}");
            Fate::Dropped
        }
    }
}

/// A request with what every request has; `changed` headers take the place of those, or come behind them.
fn message(line: &str, changed: &str, body: &str) -> String {
    let method = line.split(' ').next().unwrap();
    let usual = [
        "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK-torture".to_owned(),
        "From: <sip:caller@example.net>;tag=98asjd8".to_owned(),
        "To: <sip:callee@example.com>".to_owned(),
        "Call-ID: torture@192.0.2.1".to_owned(),
        format!("CSeq: 8 {method}"),
        "Contact: <sip:caller@192.0.2.1>".to_owned(),
        "Max-Forwards: 70".to_owned(),
    ];
    let name = |header: &str| header.split(':').next().unwrap_or_default().trim().to_ascii_lowercase();
    let mut text = format!("{line}\n");
    for header in usual {
        if !changed.lines().any(|other| name(other) == name(&header)) {
            text.push_str(&header);
            text.push('\n');
        }
    }
    // A line of `Name:!` leaves a header out.
    for line in changed.lines().filter(|line| !line.ends_with(":!")) {
        text.push_str(line);
        text.push('\n');
    }
    format!("{text}\n{body}")
}

const INVITE: &str = "INVITE sip:callee@192.0.2.2 SIP/2.0";
const OPTIONS: &str = "OPTIONS sip:callee@192.0.2.2 SIP/2.0";
const SDP: &str = "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\nm=audio 49217 RTP/AVP 0\n";
const RINGS: Fate = Fate::Read(Some(100));
const OK: Fate = Fate::Read(Some(200));

#[track_caller]
fn check(section: &str, text: &str, expected: &Fate) {
    assert_eq!(fate(text), *expected, "section {section}:\n{text}");
}

#[test]
fn what_is_valid_and_looks_odd_is_handled() {
    let tortuous = "TO :\n sip:callee@example.com ;   tag    = 1918181833n\nfrom   : \"J Rosenberg \\\\\\\"\"       \
                    <sip:jdrosen@example.com>\n  ;\n  tag = 98asjd8\nMaX-fOrWaRdS: 0068\nCall-ID: odd@192.0.2.1\n\
                    cseq: 0009\n  INVITE\nVia  : SIP  /   2.0\n /UDP\n    192.0.2.1;branch=390skdjuw\n\
                    s :\nNewFangledHeader:   newfangled value\n continued newfangled value\n\
                    m:\"Quoted string \\\"\\\"\" <sip:jdrosen@192.0.2.1> ; newparam =\n      newvalue ;\n  secondparam ; q = 0.33\n";
    let tortuous = format!("{INVITE}\n{tortuous}Content-Type: application/sdp\n\n{SDP}");
    // It has a To tag, so it is a request within a call that nobody knows.
    check("3.1.1.1", &tortuous, &Fate::Read(Some(481)));
    let method = "!interesting-Method0123456789_*+`.%indeed'~";
    let wide = message(
        &format!("{method} sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@192.0.2.2 SIP/2.0"),
        "",
        "",
    );
    check("3.1.1.2", &wide, &Fate::Read(Some(405)));
    check("3.1.1.3", &message("INVITE sip:sips%3Auser%40example.com@192.0.2.2 SIP/2.0", "", ""), &RINGS);
    let null = message("REGISTER sip:example.com SIP/2.0", "To: sip:null-%00-null@example.com", "");
    check("3.1.1.4", &null, &Fate::Read(Some(405)));
    let percent = message(
        "RE%47IST%45R sip:registrar.example.com SIP/2.0",
        "To: \"%Z%45\" <sip:resource@example.com>",
        "",
    );
    check("3.1.1.5", &percent, &Fate::Read(Some(405)));
    let tight = message(OPTIONS, "From: caller<sip:caller@example.com>;tag=323", "");
    check("3.1.1.6", &tight, &OK);
    let long = "x".repeat(1_500);
    let long = format!("Call-ID: {long}\nX-{long}: {long}\nTo: \"{long}\" <sip:{long}@example.com:5060>");
    check("3.1.1.7", &message(OPTIONS, &long, ""), &OK);
    let second = message(INVITE, "", "");
    check("3.1.1.8", &message(OPTIONS, "Content-Length: 0", &second), &OK);
    check("3.1.1.9", &message("OPTIONS sip:user;par=u%40example.net@192.0.2.2 SIP/2.0", "", ""), &OK);
    let vias = "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1\nVia: SIP/2.0/SCTP t2;branch=z9hG4bK2\nVia: SIP/2.0/TLS t3;branch=z9hG4bK3\n\
                Via: SIP/2.0/UNKNOWN t4;branch=z9hG4bK4";
    check("3.1.1.10", &message(OPTIONS, vias, ""), &OK);
    let parts =
        message(INVITE, "Content-Type: multipart/mixed;boundary=7a9cbec0", "--7a9cbec0\n\n--7a9cbec0--\n");
    check("3.1.1.11", &parts, &Fate::Read(Some(415)));
    let answer = message("SIP/2.0 200 = 2**3 * 5**2 \u{43d}\u{43e}", "CSeq: 1 INVITE", "");
    check("3.1.1.12", &answer, &Fate::Read(None));
    check("3.1.1.13", &message("SIP/2.0 100 ", "CSeq: 1 INVITE", ""), &Fate::Read(None));
}

#[test]
fn what_is_broken_is_refused_or_dropped() {
    let bad = Fate::Refused(400);
    check("3.1.2.2", &message(INVITE, "Content-Length: 9999\nContent-Type: application/sdp", SDP), &bad);
    check("3.1.2.3", &message(INVITE, "Content-Length: -999\nContent-Type: application/sdp", SDP), &bad);
    check(
        "3.1.2.4",
        &message("REGISTER sip:example.com SIP/2.0", "CSeq: 36893488147419103232 REGISTER", ""),
        &bad,
    );
    check(
        "3.1.2.5",
        &message("SIP/2.0 503 Overloaded", "CSeq: 9292394834772304023312 OPTIONS", ""),
        &Fate::Dropped,
    );
    check("3.1.2.6", &message(INVITE, "To: \"Mr. J. User <sip:j.user@example.com>", ""), &bad);
    check("3.1.2.7", &message("INVITE <sip:user@192.0.2.2> SIP/2.0", "", ""), &bad);
    check("3.1.2.8", &message("INVITE sip:user@192.0.2.2; lr SIP/2.0", "", ""), &bad);
    check("3.1.2.16", &message("OPTIONS sip:t@192.0.2.2 SIP/7.0", "", ""), &Fate::Refused(505));
    check("3.1.2.17", &message(OPTIONS, "CSeq: 8 INVITE", ""), &bad);
    check("3.1.2.18", &message("NEWMETHOD sip:user@192.0.2.2 SIP/2.0", "CSeq: 8 OPTIONS", ""), &bad);
    check(
        "3.1.2.19",
        &message("SIP/2.0 4294967301 better not break the receiver", "CSeq: 1 INVITE", ""),
        &Fate::Dropped,
    );
    check(
        "3.3.1",
        "INVITE sip:user@192.0.2.2 SIP/2.0\nCSeq: 193942 INVITE\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKk\n\n",
        &bad,
    );
    check(
        "3.3.2",
        &message("OPTIONS nobodyKnowsThisScheme:totallyopaquecontent SIP/2.0", "", ""),
        &Fate::Refused(416),
    );
    check("3.3.8", &message(INVITE, "CSeq: 5 INVITE\nCSeq: 59 INVITE\nCall-ID: a\nCall-ID: b", ""), &bad);
    check("3.3.9", &message(OPTIONS, "Content-Length: 13\nContent-Length: 5", "There's no way"), &bad);
}

#[test]
fn what_a_lenient_reader_may_mend_is_mended_or_refused_and_never_misread() {
    // A stray separator in Via or Contact does no harm where the rest is clear.
    check("3.1.2.1", &message(INVITE, "Contact: \"Joe\" <sip:joe@192.0.2.1>;;;;", ""), &RINGS);
    check("3.1.2.9", &message("INVITE  sip:user@192.0.2.2  SIP/2.0", "", ""), &RINGS);
    check("3.1.2.10", &message("OPTIONS sip:callee@192.0.2.2 SIP/2.0  ", "", ""), &OK);
    check(
        "3.1.2.11",
        &message("INVITE sip:user@192.0.2.2?Route=%3Csip:example.com%3E SIP/2.0", "", ""),
        &RINGS,
    );
    check("3.1.2.12", &message(INVITE, "Date: Fri, 01 Jan 2010 16:00:00 EST", ""), &RINGS);
    check("3.1.2.14", &message(OPTIONS, "To: \"Watson, Thomas\" < sip:t.watson@example.org >", ""), &OK);
    check("3.1.2.15", &message(OPTIONS, "From: Bell, Alexander <sip:a.g.bell@example.com>;tag=43", ""), &OK);
    // A branch that is the magic cookie alone tells nothing: it counts as one of before RFC 3261.
    check("3.2.1", &message(OPTIONS, "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK", ""), &OK);
    check("3.3.4", &message(INVITE, "To: isbn:2983792873\nFrom: <http://www.example.com>;tag=3", ""), &RINGS);
    check(
        "3.3.5",
        &message(OPTIONS, "Require: nothingSupportsThis, nothingSupportsThisEither", ""),
        &Fate::Read(Some(420)),
    );
    check(
        "3.3.6",
        &message(INVITE, "Content-Type: application/unknownformat", "<audio/>\n"),
        &Fate::Read(Some(415)),
    );
    check(
        "3.3.10",
        &message("SIP/2.0 200 OK", "Via: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bK1\nCSeq: 1 INVITE", ""),
        &Fate::Read(None),
    );
    check("3.3.11", &message(OPTIONS, "Max-Forwards: 0", ""), &OK);
    check("3.3.15", &message(INVITE, "Accept: text/nobodyKnowsThis", ""), &RINGS);
    let old = "Via: SIP/2.0/UDP 192.0.2.1\nFrom: <sip:caller@example.net>";
    check("3.4.1", &message(INVITE, old, ""), &RINGS);
}
