//! Calls with SIPp as the other side: a peer that was not written here.
//!
//! The scenarios are in `tests/sipp/`. Without `sipp` (Debian: sip-tester) the tests say so and pass, unless
//! `TRUNKLINE_REQUIRE_PEERS=1` demands it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use trunkline_sip::digest::Credentials;
use trunkline_sip::message::Uri;
use trunkline_sip::sdp::{Codec, Direction, LocalMedia};
use trunkline_sip::{DialogKey, FailureCause, InviteRequest, Output, SipEvent, UaConfig, UserAgent};

/// The smallest shell there is: one socket, one thread.
struct Shell {
    socket: UdpSocket,
    agent: UserAgent,
    unread: Vec<SipEvent>,
}

impl Shell {
    /// `peer`: the trunk to call, if any; otherwise local callers are let in.
    fn new(peer: Option<SocketAddr>, password: &str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut config = UaConfig::new(socket.local_addr().unwrap());
        config.trunk = peer;
        config.allowed_peers = Some(vec!["127.0.0.1".parse().unwrap()]);
        config.credentials = Some(Credentials::new("branch", password));
        Self { socket, agent: UserAgent::new(config, [5; 32]), unread: Vec::new() }
    }

    fn local(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    fn media(&self) -> LocalMedia {
        LocalMedia::new("127.0.0.1:40000".parse().unwrap())
    }

    fn call(&mut self, peer: SocketAddr, ring: Duration) -> DialogKey {
        let mut request = InviteRequest::new("4000", Uri::at("1001", peer), self.media());
        request.ring_timeout = ring;
        self.agent.invite(Instant::now(), request).unwrap()
    }

    fn flush(&mut self) {
        while let Some(output) = self.agent.poll_output() {
            match output {
                Output::Send { to, bytes } => {
                    if let Err(error) = self.socket.send_to(&bytes, to) {
                        self.agent.handle_send_error(Instant::now(), to, error.kind());
                    }
                }
                Output::Event(event) => self.unread.push(event),
            }
        }
    }

    /// Moves bytes and time once, for at most `longest`.
    fn turn(&mut self, longest: Duration) {
        self.flush();
        let due = self.agent.poll_timeout().map(|(due, _)| due.saturating_duration_since(Instant::now()));
        let wait = due.unwrap_or(longest).min(longest).max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(wait)).unwrap();
        let mut buffer = [0; 65_535];
        if let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
            self.agent.handle_datagram(Instant::now(), from, &buffer[..length]);
        }
        self.agent.handle_timeout(Instant::now());
        self.flush();
    }

    fn until<T>(&mut self, wanted: impl Fn(&SipEvent) -> Option<T>) -> T {
        let limit = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(at) = self.unread.iter().position(|event| wanted(event).is_some()) {
                let event = self.unread.remove(at);
                return wanted(&event).unwrap();
            }
            assert!(Instant::now() < limit, "never came; still unread: {:#?}", self.unread);
            self.turn(Duration::from_millis(50));
        }
    }

    /// Serves until SIPp has ended; it must be content.
    fn serve_until_done(&mut self, peer: &mut Peer) {
        let limit = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = peer.0.try_wait().unwrap() {
                assert!(status.success(), "sipp ended with {status}; unread: {:#?}", self.unread);
                return;
            }
            assert!(Instant::now() < limit, "sipp does not end; unread: {:#?}", self.unread);
            self.turn(Duration::from_millis(20));
        }
    }
}

/// A SIPp process, ended with the test.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn has_sipp() -> bool {
    let found = Command::new("sipp").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        assert_ne!(
            std::env::var("TRUNKLINE_REQUIRE_PEERS").as_deref(),
            Ok("1"),
            "sipp is required and missing"
        );
        println!("skipped: sipp is not installed (Debian package sip-tester)");
    }
    found
}

fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn sipp(scenario: &str, port: u16, more: &[&str]) -> Peer {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sipp").join(scenario);
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

fn incoming(event: &SipEvent) -> Option<DialogKey> {
    if let SipEvent::Incoming { key, .. } = event { Some(*key) } else { None }
}

fn answered(event: &SipEvent) -> Option<trunkline_sip::sdp::MediaParams> {
    if let SipEvent::Answered { media, .. } = event { Some(media.clone()) } else { None }
}

fn failed(event: &SipEvent) -> Option<trunkline_sip::Failure> {
    if let SipEvent::Failed { failure, .. } = event { Some(failure.clone()) } else { None }
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
