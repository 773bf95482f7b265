//! Calls with SIPp. The scenarios are in `scenarios/`.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use trunkline_ports::free_port;
use trunkline_sip::sdp::{Codec, Direction};
use trunkline_sip::{FailureCause, SipEvent};

use crate::shell::{Peer, Shell, answered, failed, incoming, installed};

pub(crate) fn has_sipp() -> bool {
    installed("sipp", "-v", "sip-tester")
}

fn sipp(scenario: &str, port: u16, more: &[&str]) -> Peer {
    sipp_file(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/scenarios").join(scenario), port, more)
}

/// Starts SIPp with the scenario in `file`.
pub(crate) fn sipp_file(file: &Path, port: u16, more: &[&str]) -> Peer {
    let child = Command::new("sipp")
        .arg("-sf")
        .arg(file)
        .args(["-i", "127.0.0.1", "-mi", "127.0.0.1", "-p", &port.to_string(), "-nostdin"])
        .args(["-timeout", "120s", "-timeout_error", "-recv_timeout", "15000"])
        .args(more)
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    Peer(child)
}

/// Starts SIPp as the called side of one call.
fn called(scenario: &str) -> (Peer, SocketAddr) {
    let port = free_port();
    (sipp(scenario, port, &["-m", "1"]), SocketAddr::from(([127, 0, 0, 1], port)))
}

/// Starts SIPp as the caller of `shell`.
fn caller(scenario: &str, shell: &Shell, more: &[&str]) -> Peer {
    let target = shell.local().to_string();
    let mut all = vec![target.as_str()];
    all.extend_from_slice(more);
    sipp(scenario, free_port(), &all)
}

const LONG: Duration = Duration::from_secs(30);

// SIPp 3.6 checks MD5 only; SHA-256 is checked against the examples of RFC 7616 and our own verifier.
#[test]
fn a_call_with_a_password_is_answered_and_hung_up() {
    if !has_sipp() {
        return;
    }
    let (mut peer, at) = called("answer_with_md5.xml");
    let mut shell = Shell::new(Some(at), "secret");
    let call = shell.call(at, LONG);
    let media = shell.until(answered);
    assert_eq!((media.codec, media.dtmf_pt, media.ptime_ms), (Codec::Pcma, Some(101), 20));
    shell.agent.bye(Instant::now(), call, None).unwrap();
    shell.until(|event| matches!(event, SipEvent::Ended { .. }).then_some(()));
    shell.serve_until_done(&mut peer);
}

#[test]
fn a_wrong_password_is_told_as_such() {
    if !has_sipp() {
        return;
    }
    let (mut peer, at) = called("answer_with_md5.xml");
    let mut shell = Shell::new(Some(at), "wrong");
    shell.call(at, LONG);
    let failure = shell.until(failed);
    assert_eq!((failure.cause, failure.sip_code), (FailureCause::Unauthorized, Some(403)));
    shell.serve_until_done(&mut peer);
}

#[test]
fn busy_and_not_acceptable_are_told_apart() {
    if !has_sipp() {
        return;
    }
    for (scenario, cause, code, q850) in [
        ("busy.xml", FailureCause::Busy, 486, Some(17)),
        ("not_acceptable.xml", FailureCause::NotAcceptable, 488, None),
    ] {
        let (mut peer, at) = called(scenario);
        let mut shell = Shell::new(Some(at), "secret");
        shell.call(at, LONG);
        let failure = shell.until(failed);
        assert_eq!((failure.cause, failure.sip_code, failure.q850), (cause, Some(code), q850));
        shell.serve_until_done(&mut peer);
    }
}

#[test]
fn a_call_nobody_answers_is_cancelled() {
    if !has_sipp() {
        return;
    }
    let (mut peer, at) = called("rings_until_cancelled.xml");
    let mut shell = Shell::new(Some(at), "secret");
    shell.call(at, Duration::from_secs(3));
    shell.until(|event| matches!(event, SipEvent::Ringing { code: 180, .. }).then_some(()));
    assert_eq!(shell.until(failed).cause, FailureCause::NoAnswer);
    shell.serve_until_done(&mut peer);
}

#[test]
fn the_other_side_hangs_up_behind_a_recorded_route() {
    if !has_sipp() {
        return;
    }
    let (mut peer, at) = called("hangs_up.xml");
    let mut shell = Shell::new(Some(at), "secret");
    shell.call(at, LONG);
    shell.until(answered);
    let reason = shell.until(|event| {
        if let SipEvent::PeerHungUp { reason, .. } = event { Some(reason.clone()) } else { None }
    });
    assert_eq!(reason.q850, Some(16));
    shell.serve_until_done(&mut peer);
}

#[test]
fn a_call_to_us_is_answered_and_hung_up_by_the_caller() {
    if !has_sipp() {
        return;
    }
    let mut shell = Shell::new(None, "");
    let mut peer = caller("calls_us.xml", &shell, &["-m", "1"]);
    let call = shell.until(incoming);
    shell.agent.ringing(Instant::now(), call, None).unwrap();
    let media = shell.media();
    let agreed = shell.agent.accept(Instant::now(), call, media).unwrap().unwrap();
    assert_eq!((agreed.codec, agreed.dtmf_pt), (Codec::Pcma, Some(101)));
    shell.until(answered);
    shell.until(|event| matches!(event, SipEvent::PeerHungUp { .. }).then_some(()));
    shell.serve_until_done(&mut peer);
}

#[test]
fn a_call_to_us_is_held_and_resumed_and_we_hang_up() {
    if !has_sipp() {
        return;
    }
    let mut shell = Shell::new(None, "");
    let mut peer = caller("calls_us_and_holds.xml", &shell, &["-m", "1"]);
    let call = shell.until(incoming);
    let media = shell.media();
    shell.agent.accept(Instant::now(), call, media).unwrap();
    shell.until(answered);
    let changed = |event: &SipEvent| {
        if let SipEvent::MediaChanged { media, .. } = event { Some(media.direction) } else { None }
    };
    assert_eq!(shell.until(changed), Direction::RecvOnly);
    assert_eq!(shell.until(changed), Direction::SendRecv);
    shell.agent.bye(Instant::now(), call, None).unwrap();
    shell.until(|event| matches!(event, SipEvent::Ended { .. }).then_some(()));
    shell.serve_until_done(&mut peer);
}

#[test]
fn a_call_to_us_in_a_codec_we_lack_gets_488() {
    if !has_sipp() {
        return;
    }
    let mut shell = Shell::new(None, "");
    let mut peer = caller("calls_us_without_codec.xml", &shell, &["-m", "1"]);
    let call = shell.until(incoming);
    let media = shell.media();
    assert!(shell.agent.accept(Instant::now(), call, media).is_err());
    assert_eq!(shell.until(failed).cause, FailureCause::NotAcceptable);
    shell.serve_until_done(&mut peer);
}

#[test]
fn a_caller_who_gives_up_while_it_rings_is_told() {
    if !has_sipp() {
        return;
    }
    let mut shell = Shell::new(None, "");
    let mut peer = caller("calls_us_and_cancels.xml", &shell, &["-m", "1"]);
    let call = shell.until(incoming);
    shell.agent.ringing(Instant::now(), call, None).unwrap();
    assert_eq!(shell.until(failed).cause, FailureCause::Cancelled);
    shell.serve_until_done(&mut peer);
}

/// Ticks of 10 ms that this process has computed for.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// `TRUNKLINE_LOAD_CALLS` and `TRUNKLINE_LOAD_RATE` make it more and faster than the 300 at 50 a second.
#[test]
fn hundreds_of_calls_all_come_and_go() {
    if !has_sipp() {
        return;
    }
    let from_env = |name: &str, otherwise: usize| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
    };
    let (calls, rate) = (from_env("TRUNKLINE_LOAD_CALLS", 300), from_env("TRUNKLINE_LOAD_RATE", 50));
    let (m, r) = (calls.to_string(), rate.to_string());
    let mut shell = Shell::new(None, "");
    let before = cpu_ticks();
    let mut peer = caller("calls_us.xml", &shell, &["-m", &m, "-r", &r, "-l", "500"]);
    let limit = Instant::now() + Duration::from_secs(30 + 2 * (calls / rate) as u64);
    let (mut answered_calls, mut ended) = (0, 0);
    while ended < calls {
        assert!(Instant::now() < limit, "{answered_calls} answered, {ended} ended");
        shell.turn(Duration::from_millis(20));
        for event in std::mem::take(&mut shell.unread) {
            if let Some(call) = incoming(&event) {
                let media = shell.media();
                shell.agent.accept(Instant::now(), call, media).unwrap();
            }
            answered_calls += usize::from(answered(&event).is_some());
            ended += usize::from(matches!(event, SipEvent::PeerHungUp { .. }));
        }
    }
    shell.serve_until_done(&mut peer);
    assert_eq!(shell.agent.gauges().calls, 0);
    let cpu_ms = (cpu_ticks() - before) * 10;
    println!(
        "{calls} calls at {rate}/s: {answered_calls} acknowledged, {cpu_ms} ms of CPU, {:?}",
        shell.agent.stats()
    );
}
