//! What is kept of a call with a peer that was not written here: SIPp (Debian: sip-tester), read by tshark where it is
//! installed.
//!
//! Without SIPp the test says so and passes, unless `TRUNKLINE_REQUIRE_PEERS=1` demands it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::played::{Played, play_sound};
use crate::scenario::{Body, Scenario};
use trunkline_line::trunks::{
    CallRequest, Encryption, LineNews, LineOrder, Proxy, Target, TrunkSetup, Trunks, TrunksConfig,
};
use trunkline_line::{Command as Order, MediaHandle, MediaNews, MediaTerms, TraceName};
use trunkline_ports::sound_ports;
use trunkline_sip::digest::Credentials;
use trunkline_sip::{Account, HangupReason};
use trunkline_trace::{Limits, Tracer, find, ladder, mask, pcap};

const NUMBER: &str = "13800138000";
const NONCE: &str = "47ebe028cda119c35d4877b383027d28da013815";

/// A trunk that asks for a password, answers, sends a pressed key as INFO and sound back, and is hung up.
fn peer() -> Option<Played> {
    let challenge =
        format!("Proxy-Authenticate: Digest realm=\"trunk\", nonce=\"{NONCE}\", algorithm=MD5, qop=\"auth\"");
    let scenario = Scenario::called()
        .answer(407, &challenge, Body::None)
        .recv("ACK")
        .recv_invite_again()
        .answer(180, "", Body::None)
        .answer(200, "", Body::Sdp)
        .recv("ACK")
        .then_request("INFO", 2, "", Body::Other("application/dtmf-relay", "Signal=7\nDuration=160\n"))
        .recv_code(200)
        .recv("BYE")
        .reply(200, "", Body::None);
    play_sound(&scenario.to_xml(), &["-rtp_echo"])
}

fn setup(at: SocketAddr) -> TrunkSetup {
    let proxy = Proxy { host: at.ip().to_string(), port: at.port() };
    let mut setup = TrunkSetup::new("carrier", proxy, "127.0.0.1:0".parse().unwrap());
    setup.account =
        Account { credentials: Some(Credentials::new("branch17", "secret-of-branch")), domain: None };
    setup.user = Some("branch17".to_owned());
    // Our offer names a key, which the peer does not take.
    setup.encryption = Encryption::Optional;
    setup
}

/// Makes the call with 400 ms of sound.
async fn call(trunks: &Trunks, tracer: &Tracer) {
    let request =
        CallRequest { target: Target::Number(NUMBER.to_owned()), from: None, ring: Duration::from_secs(20) };
    let name = TraceName { call: "0192f3a1-call".to_owned(), leg: "call" };
    let mut call = trunks.place_as(request, name);
    let media = MediaHandle::start().unwrap();
    let mut attached = None;
    while let Some(news) = call.news.recv().await {
        if let LineNews::Answered { media: agreed, sockets: Some(sockets) } = news {
            let terms = MediaTerms::agreed(&agreed, Duration::from_secs(10));
            attached = Some(media.attach(sockets, terms, None, None));
        } else if let LineNews::Digit(digit) = news {
            assert_eq!(digit, '7');
            // A call that goes on can be traced.
            tracer.flush();
            break;
        }
    }
    let mut attached = attached.unwrap();
    attached.commands.push(Order::Digit('4')).unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    call.order(LineOrder::HangUp(HangupReason::normal()));
    while call.news.recv().await.is_some() {}
    attached.commands.push(Order::Close).unwrap();
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if let Ok(MediaNews::Closed(stats)) = attached.news.pop() {
            tracer.media("0192f3a1-call", "call", stats.report("PCMA", false));
            break;
        }
    }
    tracer.note("0192f3a1-call", "completed");
    tracer.flush();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_with_a_password_and_keys_is_kept_without_either() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut played) = peer() else { return };
    let at = played.at;
    let traces = folder.path().join("traces");
    let tracer = Tracer::start(&traces, Limits::default()).unwrap();
    let rtp_ports = sound_ports();
    let config = TrunksConfig { tracer: Some(tracer.clone()), rtp_ports, ..TrunksConfig::default() };
    let trunks = Trunks::start(config, vec![setup(at)]).await.unwrap();
    call(&trunks, &tracer).await;
    played.peer.is_content().await;

    let legs = find(&traces, "0192f3a1-call").unwrap();
    let shown = ladder::show(&legs, false);
    for step in [
        "on trunk carrier",
        "407 Phrase",
        "with credentials",
        "180 Phrase",
        "200 Phrase",
        "INFO sip:",
        "BYE sip:",
        "CSeq 2 INVITE",
        "PCMA PCMU telephone-event, with a key",
        "PCMA telephone-event, in the clear",
        "keys heard 1, sent 1",
        "completed",
    ] {
        assert!(shown.contains(step), "{step} is not in\n{shown}");
    }
    let rungs = shown.lines().filter(|line| line.contains("──")).count();
    assert_eq!(rungs, 11, "{shown}");
    assert!(!shown.contains(NUMBER) && ladder::show(&legs, true).contains(NUMBER));
    let media = legs[0].media.as_ref().unwrap();
    assert!(media.received > 5 && media.mos_heard.is_some_and(|mos| mos > 3.0), "{media:?}");

    let file = folder.path().join("call.pcap");
    pcap::write(&mut std::fs::File::create(&file).unwrap(), &legs, mask::numbers).unwrap();
    for path in std::fs::read_dir(&traces).unwrap().map(|entry| entry.unwrap().path()).chain([file.clone()]) {
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        let responses: Vec<&str> = text.split("response=").skip(1).collect();
        let hidden = |rest: &&str| rest.trim_start_matches(['\\', '"']).starts_with("***");
        assert!(!responses.is_empty() && responses.iter().all(hidden), "{text}");
        // The key of our offer is 40 characters behind `inline:`, whatever they are.
        let key = text.split("inline:").nth(1).unwrap();
        assert!(key.starts_with(&"x".repeat(40)), "{key}");
        for secret in ["secret-of-branch", NONCE, "Signal=7"] {
            assert!(!text.contains(secret), "{secret} is in {}", path.display());
        }
    }
    read_with_tshark(&file, at);
}

/// Lets another program read the packets; `tshark` is in the Debian package of that name.
fn read_with_tshark(file: &Path, at: SocketAddr) {
    if Command::new("tshark").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        println!("tshark is not installed: what it would say of the packets is not looked at");
        return;
    }
    let port = format!("udp.port=={},sip", at.port());
    let checks = ["-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-d", &port];
    let done = Command::new("tshark").arg("-r").arg(file).args(checks).output().unwrap();
    let read = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    for seen in ["SIP/SDP", "407 Phrase", "Request: BYE", "INFO"] {
        assert!(read.contains(seen), "{seen} is not in\n{read}");
    }
    let bad = Command::new("tshark")
        .arg("-r")
        .arg(file)
        .args(checks)
        .args(["-Y", "udp.checksum.status==0 || ip.checksum.status==0 || _ws.malformed"])
        .output()
        .unwrap();
    assert!(bad.stdout.is_empty(), "{}", String::from_utf8_lossy(&bad.stdout));
}
