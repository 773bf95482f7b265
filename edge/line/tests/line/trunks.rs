//! Several trunks, against peers that were not written here: SIPp (Debian: sip-tester) and baresip.
//!
//! Without a peer its tests say so and pass, unless `TRUNKLINE_REQUIRE_PEERS=1` demands it.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{Certificates, baresip, certificates};
use crate::played::{Played, play, play_from};
use crate::scenario::{Body, Scenario};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use trunkline_line::trunks::{
    CallRequest, Encryption, IncomingCall, LineNews, LineOrder, PlacedCall, Proxy, Target, TrunkSetup,
    Trunks, TrunksConfig,
};
use trunkline_line::{Command as Order, MediaHandle, MediaNews, MediaTerms, PeerTls};
use trunkline_ports::{free_port, sound_ports};
use trunkline_sip::digest::Credentials;
use trunkline_sip::message::{Transport, Uri};
use trunkline_sip::sdp::MediaParams;
use trunkline_sip::{Account, Failure, FailureCause, HangupReason, TransferStep};

// --- peers -----------------------------------------------------------------------------------------------

/// A peer that answers, and is hung up.
fn answers() -> Option<Played> {
    let scenario = Scenario::called().answer(180, "", Body::None).answer(200, "", Body::Sdp).recv("ACK");
    play(&scenario.recv("BYE").reply(200, "", Body::None).to_xml())
}

fn refuses(code: u16) -> Option<Played> {
    play(&Scenario::called().answer(code, "", Body::None).recv("ACK").to_xml())
}

// --- trunks ----------------------------------------------------------------------------------------------

fn trunk(name: &str, at: SocketAddr, priority: u16) -> TrunkSetup {
    let proxy = Proxy { host: at.ip().to_string(), port: at.port() };
    let mut setup = TrunkSetup::new(name, proxy, "127.0.0.1:0".parse().unwrap());
    setup.pool.priority = priority;
    setup
}

async fn start(setups: Vec<TrunkSetup>) -> Trunks {
    let rtp_ports = sound_ports();
    let config =
        TrunksConfig { rtp_ports, first_word: Duration::from_millis(400), ..TrunksConfig::default() };
    Trunks::start(config, setups).await.unwrap()
}

fn call(trunks: &Trunks) -> PlacedCall {
    call_user(trunks, "1001")
}

fn call_user(trunks: &Trunks, user: &str) -> PlacedCall {
    trunks.place(CallRequest {
        target: Target::Number(user.to_owned()),
        from: Some("4000".to_owned()),
        ring: Duration::from_secs(20),
    })
}

/// What was told of a call up to the news that `wanted` likes, as words, and those news.
async fn until<T>(
    call: &mut PlacedCall,
    wanted: impl Fn(LineNews) -> Result<T, LineNews>,
) -> (Vec<String>, T) {
    let mut told = Vec::new();
    let limit = Instant::now() + Duration::from_secs(20);
    loop {
        let left = limit.saturating_duration_since(Instant::now());
        let news = tokio::time::timeout(left, call.news.recv()).await;
        let news = news.unwrap_or_else(|_| panic!("it never came; told: {told:?}"));
        let news = news.unwrap_or_else(|| panic!("the call is over; told: {told:?}"));
        match wanted(news) {
            Ok(found) => return (told, found),
            Err(LineNews::Dialing { trunk }) => told.push(format!("dialing {trunk}")),
            Err(LineNews::TrunkFailed(attempt)) => told.push(format!("{} failed", attempt.trunk)),
            Err(LineNews::Ringing { .. }) => told.push("ringing".to_owned()),
            Err(LineNews::Transfer(step)) => told.push(format!("{step:?}")),
            Err(LineNews::Failed(failure)) => told.push(format!("failed: {failure}")),
            Err(other) => told.push(format!("{other:?}")),
        }
    }
}

async fn answered(call: &mut PlacedCall) -> (Vec<String>, MediaParams) {
    until(call, |news| match news {
        LineNews::Answered { media, .. } => Ok(media),
        other => Err(other),
    })
    .await
}

async fn failed(call: &mut PlacedCall) -> (Vec<String>, Failure) {
    until(call, |news| match news {
        LineNews::Failed(failure) => Ok(failure),
        other => Err(other),
    })
    .await
}

async fn hang_up(call: &mut PlacedCall) {
    call.order(LineOrder::HangUp(HangupReason::normal()));
    until(call, |news| match news {
        LineNews::Ended => Ok(()),
        other => Err(other),
    })
    .await;
}

/// Waits until the status is as wanted.
async fn status(trunks: &Trunks, wanted: impl Fn(&Trunks) -> bool) {
    let limit = Instant::now() + Duration::from_secs(15);
    while !wanted(trunks) {
        assert!(Instant::now() < limit, "still {:#?}", trunks.status());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// An address where nothing listens.
fn nobody() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

// --- failover --------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_dead_trunk_makes_way_for_a_living_one_and_is_told_as_down() {
    let Some(mut living) = answers() else { return };
    let trunks = start(vec![trunk("dead", nobody(), 1), trunk("living", living.at, 2)]).await;
    let mut call = call(&trunks);
    let (told, media) = answered(&mut call).await;
    assert_eq!(told, ["dialing dead", "dead failed", "dialing living", "ringing"]);
    assert_eq!(media.secure, None);
    let status = trunks.status();
    assert_eq!((status[0].up, status[1].up), (false, true), "{status:#?}");
    assert_eq!((status[0].calls, status[1].calls), (0, 1));
    assert!(!status[0].trouble.is_empty() && status[1].trouble.is_empty(), "{status:#?}");
    hang_up(&mut call).await;
    living.peer.is_content().await;
    assert_eq!(trunks.status()[1].calls, 0);
}

#[tokio::test]
async fn a_trunk_that_says_nothing_is_not_waited_for() {
    let Some(living) = answers() else { return };
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let trunks =
        start(vec![trunk("silent", silent.local_addr().unwrap(), 1), trunk("living", living.at, 2)]).await;
    let begun = Instant::now();
    let mut call = call(&trunks);
    let (told, _) = answered(&mut call).await;
    assert_eq!(told, ["dialing silent", "silent failed", "dialing living", "ringing"]);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    hang_up(&mut call).await;
}

#[tokio::test]
async fn a_trunk_in_trouble_is_passed_over_and_a_busy_customer_is_not_called_twice() {
    let (Some(trouble), Some(busy)) = (refuses(503), refuses(486)) else { return };
    let unused = nobody();
    let trunks =
        start(vec![trunk("trouble", trouble.at, 1), trunk("busy", busy.at, 2), trunk("unused", unused, 3)])
            .await;
    let mut call = call(&trunks);
    let (told, failure) = failed(&mut call).await;
    assert_eq!(told, ["dialing trouble", "trouble failed", "dialing busy"]);
    assert_eq!((failure.cause, failure.sip_code), (FailureCause::Busy, Some(486)));
}

#[tokio::test]
async fn a_trunk_with_all_its_channels_in_use_makes_way() {
    let (Some(first), Some(second)) = (answers(), answers()) else { return };
    let mut narrow = trunk("narrow", first.at, 1);
    narrow.pool.channels = 1;
    let trunks = start(vec![narrow, trunk("wide", second.at, 2)]).await;
    let (mut one, mut two) = (call(&trunks), call(&trunks));
    let (first_told, _) = answered(&mut one).await;
    let (second_told, _) = answered(&mut two).await;
    assert_eq!(first_told[0], "dialing narrow");
    assert_eq!(second_told[0], "dialing wide");
    hang_up(&mut one).await;
    hang_up(&mut two).await;
}

#[tokio::test]
async fn a_call_goes_over_a_trunk_that_may_carry_it_and_over_no_other() {
    let Some(living) = answers() else { return };
    let mut elsewhere = trunk("elsewhere", nobody(), 1);
    elsewhere.serves = vec!["+44".to_owned()];
    let mut others = trunk("shows others", nobody(), 2);
    others.caller_ids = vec!["4001".to_owned()];
    let mut right = trunk("right", living.at, 3);
    (right.caller_ids, right.serves) = (vec!["4000".to_owned()], vec!["10".to_owned()]);
    let trunks = start(vec![elsewhere, others, right]).await;
    let mut one = call(&trunks);
    let (told, _) = answered(&mut one).await;
    assert_eq!(told, ["dialing right", "ringing"]);
    hang_up(&mut one).await;
    let (told, failure) = failed(&mut call_user(&trunks, "2001")).await;
    assert!(told.is_empty() && failure.to_string().contains("serves"), "{told:?}: {failure}");
}

#[tokio::test]
async fn without_any_trunk_the_last_one_says_why() {
    let trunks = start(vec![trunk("a", nobody(), 1), trunk("b", nobody(), 2)]).await;
    let mut call = call(&trunks);
    let (told, failure) = failed(&mut call).await;
    assert_eq!(told, ["dialing a", "a failed", "dialing b", "b failed"]);
    assert_eq!(failure.cause, FailureCause::Unreachable);
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_told_and_the_other_trunk_works() {
    let Some(living) = answers() else { return };
    let proxy = Proxy { host: "no-such-trunk.invalid".to_owned(), port: 5060 };
    let mut named = TrunkSetup::new("named", proxy, "127.0.0.1:0".parse().unwrap());
    named.pool.priority = 0;
    let trunks = start(vec![named, trunk("living", living.at, 2)]).await;
    let mut call = call(&trunks);
    answered(&mut call).await;
    status(&trunks, |trunks| trunks.status()[0].trouble.contains("no-such-trunk.invalid")).await;
    hang_up(&mut call).await;
}

#[tokio::test]
async fn a_name_is_looked_up() {
    let Some(living) = answers() else { return };
    let proxy = Proxy { host: "localhost".to_owned(), port: living.at.port() };
    let trunks = start(vec![TrunkSetup::new("named", proxy, "127.0.0.1:0".parse().unwrap())]).await;
    status(&trunks, |trunks| trunks.status()[0].up).await;
    let mut call = call(&trunks);
    answered(&mut call).await;
    hang_up(&mut call).await;
}

#[tokio::test]
async fn a_call_that_is_let_go_is_hung_up() {
    let Some(mut living) = answers() else { return };
    let trunks = start(vec![trunk("living", living.at, 1)]).await;
    let mut call = call(&trunks);
    answered(&mut call).await;
    drop(call);
    living.peer.is_content().await;
    status(&trunks, |trunks| trunks.status()[0].calls == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_find_a_trunk_that_comes_back() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut pinged = trunk("pinged", silent.local_addr().unwrap(), 1);
    pinged.pool.ping_every = Some(Duration::from_millis(300));
    let trunks = start(vec![pinged]).await;
    let mut buffer = [0; 2_000];
    silent.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let (length, from) = silent.recv_from(&mut buffer).unwrap();
    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
    assert!(text.starts_with("OPTIONS sip:"), "{text}");
    let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    let (via, from_line, to) = (line("Via:"), line("From:"), line("To:"));
    let (call_id, cseq) = (line("Call-ID:"), line("CSeq:"));
    let reply = format!(
        "SIP/2.0 200 OK\r\n{via}\r\n{from_line}\r\n{to};tag=x\r\n{call_id}\r\n{cseq}\r\nContent-Length: 0\r\n\r\n"
    );
    silent.send_to(reply.as_bytes(), from).unwrap();
    status(&trunks, |trunks| trunks.status()[0].up && trunks.status()[0].trouble.is_empty()).await;
}

// --- registration ----------------------------------------------------------------------------------------

fn registering(at: SocketAddr, password: &str) -> TrunkSetup {
    let mut setup = trunk("registered", at, 1);
    setup.account = Account { credentials: Some(Credentials::new("branch", password)), domain: None };
    setup.user = Some("branch".to_owned());
    setup.register = Some(Duration::from_secs(600));
    setup
}

fn registrar() -> Option<Played> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/registrar.xml");
    play(&std::fs::read_to_string(file).unwrap())
}

#[tokio::test]
async fn a_box_registers_with_its_password() {
    let Some(mut registrar) = registrar() else { return };
    let trunks = start(vec![registering(registrar.at, "secret")]).await;
    assert_eq!(trunks.status()[0].registered, Some(false));
    assert!(!trunks.status()[0].up);
    status(&trunks, |trunks| trunks.status()[0].registered == Some(true)).await;
    assert!(trunks.status()[0].up);
    registrar.peer.is_content().await;
}

#[tokio::test]
async fn a_wrong_password_is_told_in_the_status_of_the_trunk() {
    let Some(registrar) = registrar() else { return };
    let trunks = start(vec![registering(registrar.at, "wrong")]).await;
    status(&trunks, |trunks| trunks.status()[0].trouble.contains("credentials refused")).await;
    assert_eq!((trunks.status()[0].registered, trunks.status()[0].up), (Some(false), false));
}

// --- TLS and encrypted sound -----------------------------------------------------------------------------

fn over_tls(name: &str, at: SocketAddr, trusted: &Certificates) -> TrunkSetup {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.authority.as_bytes()).unwrap()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut setup = trunk(name, at, 1);
    setup.transport = Transport::Tls;
    setup.tls = Some(PeerTls { client: Arc::new(client), name: ServerName::from(at.ip()) });
    setup
}

const ENCRYPTED: (&str, &str) =
    ("module srtp.so\nausrc_srate 8000\nauplay_srate 8000\naudio_channels 1", ";mediaenc=srtp-mand");

/// Two seconds of a tone of 500 Hz.
fn tone() -> Arc<[i16]> {
    (0..16_000)
        .map(|n| ((n as f32 * std::f32::consts::TAU * 500.0 / 8_000.0).sin() * 8_000.0) as i16)
        .collect()
}

#[tokio::test]
async fn sound_over_a_tls_trunk_is_encrypted_both_ways() {
    let (folder, own) = (tempfile::tempdir().unwrap(), certificates());
    let Some((_peer, at)) = baresip(folder.path(), &own, free_port(), ENCRYPTED).await else { return };
    let mut setup = over_tls("carrier", at, &own);
    setup.encryption = Encryption::Required;
    let trunks = start(vec![setup]).await;
    let mut call = call_user(&trunks, "bare");
    let (_, (media, sockets)) = until(&mut call, |news| match news {
        LineNews::Answered { media, sockets: Some(sockets) } => Ok((media, sockets)),
        other => Err(other),
    })
    .await;
    assert!(media.secure.is_some());

    let handle = MediaHandle::start().unwrap();
    let config = MediaTerms::agreed(&media, Duration::from_secs(10));
    let mut attached = handle.attach(sockets, config, None, None);
    attached.commands.push(Order::Play { say: 1, clip: tone(), last: true }).unwrap();
    let mut heard = Vec::new();
    let limit = Instant::now() + Duration::from_secs(3);
    while Instant::now() < limit {
        tokio::time::sleep(Duration::from_millis(20)).await;
        while let Ok(frame) = attached.frames.pop() {
            heard.extend(frame.samples);
        }
    }
    attached.commands.push(Order::Close).unwrap();
    let stats = loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if let Ok(MediaNews::Closed(stats)) = attached.news.pop() {
            break stats;
        }
    };
    // baresip's first report may go out before its keys are set.
    assert!(stats.received > 50 && stats.forged <= 1, "{stats:?}");
    // baresip sends back what it hears: our tone came through two encryptions.
    let goertzel = trunkline_audio::tone::Goertzel::new(500.0, 8_000);
    let best = heard.chunks_exact(1_600).map(|part| goertzel.power(part)).fold(0.0, f32::max);
    assert!(best > 1_000_000.0, "{best}");
    hang_up(&mut call).await;
}

#[tokio::test]
async fn a_call_in_the_clear_is_not_made_where_encryption_is_required() {
    let Some(plain) = answers() else { return };
    let mut setup = trunk("plain", plain.at, 1);
    setup.encryption = Encryption::Required;
    let trunks = start(vec![setup]).await;
    let mut call = call(&trunks);
    let (_, failure) = failed(&mut call).await;
    assert_eq!(failure.cause, FailureCause::NotAcceptable);
}

#[tokio::test]
async fn a_wrong_certificate_is_told_at_once_and_the_next_trunk_takes_the_call() {
    let (folder, own, other) = (tempfile::tempdir().unwrap(), certificates(), certificates());
    let Some((_peer, at)) = baresip(folder.path(), &own, free_port(), ENCRYPTED).await else { return };
    let Some(living) = answers() else { return };
    let mut wrong = over_tls("wrong", at, &other);
    wrong.pool.ping_every = Some(Duration::from_secs(30));
    let begun = Instant::now();
    let trunks = start(vec![wrong, trunk("living", living.at, 2)]).await;
    status(&trunks, |trunks| trunks.status()[0].trouble.contains("certificate")).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let mut call = call(&trunks);
    let (told, _) = answered(&mut call).await;
    assert_eq!(told, ["dialing wrong", "wrong failed", "dialing living", "ringing"]);
    hang_up(&mut call).await;
}

// --- transfer --------------------------------------------------------------------------------------------

async fn transfer(call: &mut PlacedCall, wanted: TransferStep) -> Vec<String> {
    call.order(LineOrder::Refer(Box::new(Uri::sip("2000", "127.0.0.1").unwrap())));
    let (told, ()) = until(call, |news| match news {
        LineNews::Transfer(step) if step == wanted => Ok(()),
        other => Err(other),
    })
    .await;
    told
}

#[tokio::test]
async fn a_transfer_is_asked_for_and_its_progress_told() {
    let fragment = |text| Body::Other("message/sipfrag", text);
    let active = "Event: refer\nSubscription-State: active;expires=60";
    let over = "Event: refer\nSubscription-State: terminated;reason=noresource";
    let scenario = Scenario::called().answer(200, "", Body::Sdp).recv("ACK");
    let scenario = scenario.recv_with("REFER", "Refer-To", "sip:2000@").reply(202, "", Body::None);
    let scenario =
        scenario.then_request("NOTIFY", 1, active, fragment("SIP/2.0 180 Ringing\n")).recv_code(200);
    let scenario = scenario.then_request("NOTIFY", 2, over, fragment("SIP/2.0 200 OK\n")).recv_code(200);
    let Some(mut peer) = play(&scenario.recv("BYE").reply(200, "", Body::None).to_xml()) else { return };
    let trunks = start(vec![trunk("carrier", peer.at, 1)]).await;
    let mut call = call(&trunks);
    answered(&mut call).await;
    let told = transfer(&mut call, TransferStep::Done(200)).await;
    assert_eq!(told, ["Accepted", "Progress(180)"]);
    hang_up(&mut call).await;
    peer.peer.is_content().await;
}

#[tokio::test]
async fn a_transfer_that_the_trunk_does_not_do_is_told_with_its_code() {
    for code in [405, 501, 603] {
        let scenario = Scenario::called().answer(200, "", Body::Sdp).recv("ACK");
        let scenario =
            scenario.recv("REFER").reply(code, "", Body::None).recv("BYE").reply(200, "", Body::None);
        let Some(mut peer) = play(&scenario.to_xml()) else { return };
        let trunks = start(vec![trunk("carrier", peer.at, 1)]).await;
        let mut call = call(&trunks);
        answered(&mut call).await;
        transfer(&mut call, TransferStep::Refused(Some(code))).await;
        hang_up(&mut call).await;
        peer.peer.is_content().await;
    }
}

// --- calls to us -----------------------------------------------------------------------------------------

#[tokio::test]
async fn a_trunk_that_calls_a_number_of_nobody_gets_404_and_a_stranger_403() {
    let mut setup = trunk("carrier", nobody(), 1);
    setup.inbound = true;
    let trunks = start(vec![setup]).await;
    for (ip, code) in [([127, 0, 0, 1], 404), ([127, 0, 0, 2], 403)] {
        let scenario = Scenario::calling("", Body::Sdp).maybe_code(100).recv_code(code).ack_refusal(1);
        let Some(mut caller) = play_from(ip, &scenario.to_xml(), Some(trunks.local())) else { return };
        caller.peer.is_content().await;
    }
    assert_eq!(trunks.gauges().await.calls, 0);
}

fn from_anybody_here() -> TrunkSetup {
    let mut setup = trunk("carrier", nobody(), 1);
    setup.inbound = true;
    setup
}

async fn next(calls: &mut tokio::sync::mpsc::Receiver<IncomingCall>) -> IncomingCall {
    tokio::time::timeout(Duration::from_secs(20), calls.recv()).await.unwrap().unwrap()
}

async fn over(call: &mut PlacedCall) -> LineNews {
    until(call, |news| match news {
        news @ (LineNews::PeerHungUp(_) | LineNews::Failed(_) | LineNews::Ended) => Ok(news),
        other => Err(other),
    })
    .await
    .1
}

#[tokio::test]
async fn a_caller_rings_is_answered_and_hangs_up_with_an_offer_and_without() {
    for (invite, ack) in [(Body::Sdp, Body::None), (Body::None, Body::Sdp)] {
        let trunks = start(vec![from_anybody_here()]).await;
        let mut calls = trunks.incoming();
        let who = "P-Asserted-Identity: <sip:13800138000@127.0.0.1>";
        let scenario = Scenario::calling(who, invite).maybe_code(100).recv_code(180).recv_code(200);
        let scenario = scenario.then_request("ACK", 1, "", ack).pause(200);
        let scenario = scenario.then_request("BYE", 2, "", Body::None).recv_code(200);
        let Some(mut caller) = play_from([127, 0, 0, 1], &scenario.to_xml(), Some(trunks.local())) else {
            return;
        };
        let incoming = next(&mut calls).await;
        assert_eq!((incoming.trunk(), incoming.called()), ("carrier", vec!["1001".to_owned()]));
        assert_eq!(incoming.parties().caller().map(Uri::user_text).as_deref(), Some("13800138000"));
        let mut call = incoming.take();
        assert_eq!(trunks.status()[0].calls, 1);
        tokio::time::sleep(Duration::from_millis(100)).await;
        call.order(LineOrder::Answer);
        let (_, media) = answered(&mut call).await;
        assert_eq!(media.remote.ip().to_string(), "127.0.0.1");
        assert!(matches!(over(&mut call).await, LineNews::PeerHungUp(_)));
        caller.peer.is_content().await;
        assert_eq!(trunks.status()[0].calls, 0, "the channel is free again");
    }
}

#[tokio::test]
async fn a_caller_who_gives_up_is_told_and_leaves_nothing_behind() {
    let trunks = start(vec![from_anybody_here()]).await;
    let mut calls = trunks.incoming();
    let scenario = Scenario::calling("", Body::Sdp).maybe_code(100).recv_code(180).cancel("");
    let scenario = scenario.recv_code(200).recv_code(487).ack_refusal(1);
    let Some(mut caller) = play_from([127, 0, 0, 1], &scenario.to_xml(), Some(trunks.local())) else {
        return;
    };
    let mut call = next(&mut calls).await.take();
    let LineNews::Failed(failure) = over(&mut call).await else { panic!("it did not fail") };
    assert_eq!(failure.cause, FailureCause::Cancelled);
    caller.peer.is_content().await;
    assert_eq!((trunks.status()[0].calls, trunks.gauges().await.calls), (0, 0));
}

#[tokio::test]
async fn a_busy_box_and_a_full_trunk_say_when_to_try_again() {
    let mut setup = from_anybody_here();
    setup.pool.channels = 1;
    let trunks = start(vec![setup]).await;
    let mut calls = trunks.incoming();
    let refused = |code, after: &str| {
        let scenario =
            Scenario::calling("", Body::Sdp).maybe_code(100).recv_header(code, "Retry-After", after);
        play_from([127, 0, 0, 1], &scenario.ack_refusal(1).to_xml(), Some(trunks.local()))
    };
    let Some(mut caller) = refused(486, "60") else { return };
    next(&mut calls).await.refuse(486, Some(Duration::from_secs(60)));
    caller.peer.is_content().await;

    let mut first = play_from(
        [127, 0, 0, 1],
        &Scenario::calling("", Body::Sdp)
            .maybe_code(100)
            .recv_code(180)
            .recv_code(503)
            .ack_refusal(1)
            .to_xml(),
        Some(trunks.local()),
    )
    .unwrap();
    let ringing = next(&mut calls).await.take();
    let mut second = refused(486, "10").unwrap();
    second.peer.is_content().await;
    // Whoever lets go of a call that rings refuses it.
    drop(ringing);
    first.peer.is_content().await;
    for _ in 0..100 {
        if trunks.status()[0].calls == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the channel is still taken");
}
