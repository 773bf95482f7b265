//! Messages made to break parsers: a few of our own, and, where `TRUNKLINE_TORTURE` names a folder with
//! `wellformed` and `malformed` ones (such as those of RFC 4475 and RFC 5118), all of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use trunkline_sip::message::{Message, ParseError};
use trunkline_sip::{Output, UaConfig, UserAgent};

/// Reads a message, prints and reads it again, and lets an agent take it in and live on.
fn survive(bytes: &[u8]) -> Result<Message, ParseError> {
    let peer: SocketAddr = "192.0.2.1:5060".parse().unwrap();
    let mut config = UaConfig::new("192.0.2.2:5060".parse().unwrap());
    config.allowed_peers = Some(vec![peer.ip()]);
    let mut agent = UserAgent::new(config, [9; 32]);
    let now = Instant::now();
    agent.handle_datagram(now, peer, bytes);
    agent.handle_timeout(now + Duration::from_secs(400));
    while let Some(output) = agent.poll_output() {
        if let Output::Send { bytes, .. } = output {
            let _ = Message::parse(&bytes);
        }
    }
    let read = Message::parse(bytes);
    if let Ok(message) = &read {
        let printed = match message {
            Message::Request(request) => request.to_bytes(),
            Message::Response(response) => response.to_bytes(),
        };
        assert_eq!(Message::parse(&printed).as_ref(), Ok(message), "it reads back as it was read");
    }
    read
}

/// Why a message is refused, in a few words.
fn verdict(read: &Result<Message, ParseError>) -> String {
    match read {
        Ok(Message::Request(request)) => format!("request {}", request.method.as_str()),
        Ok(Message::Response(response)) => format!("response {}", response.code),
        Err(ParseError::BadRequest { code, what, .. }) => format!("{code} {what}"),
        Err(error @ (ParseError::NotSip(_) | ParseError::KeepAlive)) => error.to_string(),
    }
}

fn request(line: &str, more: &str) -> Vec<u8> {
    format!(
        "{line}\nVia: SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bKt\nFrom: <sip:a@h>;tag=1\nTo: <sip:b@h>\n\
         Call-ID: t\nCSeq: 1 OPTIONS\n{more}\n"
    )
    .replace('\n', "\r\n")
    .into_bytes()
}

#[test]
fn our_own_tortures_are_read_or_refused_as_they_deserve() {
    let plain = "OPTIONS sip:b@h SIP/2.0";
    let long = format!("X-Long: {}\n", "x".repeat(40_000));
    let many = "X-Many: 1\n".repeat(300);
    let nested = format!("Contact: {}sip:a@h{}\n", "<".repeat(500), ">".repeat(500));
    let commas = format!("Via: {}\n", ",".repeat(5_000));
    let cases: &[(&str, &str, &str)] = &[
        (plain, "", "request OPTIONS"),
        (plain, &long, "request OPTIONS"),
        (plain, &many, "not a SIP message: too many headers"),
        (plain, &nested, "request OPTIONS"),
        (plain, &commas, "request OPTIONS"),
        (plain, "Contact: \"never closed <sip:a@h>\n", "request OPTIONS"),
        (plain, "Contact: *\n", "request OPTIONS"),
        (plain, "Route: <sip:[::1>\n", "request OPTIONS"),
        (plain, ": no name\n", "400 Unreadable header line"),
        (plain, "X Y: two names\n", "400 Unreadable header line"),
        (plain, "l: 0\nContent-Length: 0\n", "400 Several Content-Length headers"),
        (plain, "l: 99999999999999999999999\n", "400 Content-Length exceeds the datagram"),
        ("OPTIONS sip:b@h;%00%zz?%% SIP/2.0", "", "request OPTIONS"),
        ("OPTIONS sip:%FF%FE@h SIP/2.0", "", "request OPTIONS"),
        ("OPTIONS sip:@h SIP/2.0", "", "request OPTIONS"),
        ("OPTIONS sip:b@h:65536 SIP/2.0", "", "400 Unreadable Request-URI"),
        ("OPTIONS sip: SIP/2.0", "", "400 Unreadable Request-URI"),
        ("OPTIONS  sip:b@h  SIP/2.0", "", "request OPTIONS"),
        ("OPTIONS sip:b@h sip/2.0", "", "request OPTIONS"),
        ("OPTIONS sip:b@h SIP/3.0", "", "505 Version Not Supported"),
        ("options sip:b@h SIP/2.0", "", "400 CSeq names another method"),
        ("OPT\u{7}IONS sip:b@h SIP/2.0", "", "400 Unreadable method"),
        ("OPTIONS sip:b@h", "", "not a SIP message: no request line"),
        ("GET / HTTP/1.1", "", "not a SIP message: no SIP version"),
        ("SIP/2.0 200", "", "response 200"),
        ("SIP/2.0 2000 OK", "", "not a SIP message: a status code out of range"),
        ("SIP/2.0 -20 OK", "", "not a SIP message: a status code out of range"),
    ];
    for (line, more, expected) in cases {
        let read = survive(&request(line, more));
        assert_eq!(verdict(&read), *expected, "{line} / {}", &more[..more.len().min(60)]);
    }
}

#[test]
fn the_tortures_of_the_standards_are_survived() {
    let Ok(folder) = std::env::var("TRUNKLINE_TORTURE") else {
        println!("skipped: TRUNKLINE_TORTURE names no folder");
        return;
    };
    let mut refused = Vec::new();
    for kind in ["wellformed", "malformed"] {
        let mut files: Vec<_> = std::fs::read_dir(Path::new(&folder).join(kind)).unwrap().flatten().collect();
        files.sort_by_key(std::fs::DirEntry::file_name);
        for file in files {
            let raw = std::fs::read(file.path()).unwrap();
            // The line ends, and the last one altogether, may have been lost on the way.
            let text = String::from_utf8_lossy(&raw).replace("\r\n", "\n").replace('\n', "\r\n") + "\r\n";
            for bytes in [raw.as_slice(), text.as_bytes()] {
                survive(bytes).ok();
            }
            let read = survive(text.as_bytes());
            println!("{kind:10} {:45} {}", file.file_name().to_string_lossy(), verdict(&read));
            if kind == "wellformed" && read.is_err() {
                refused.push((file.file_name(), verdict(&read)));
            }
        }
    }
    println!("well-formed ones refused: {refused:?}");
}
