//! Calls through a proxy that was not written here: Kamailio (Debian: kamailio), with SIPp behind it.
//!
//! Without a peer its tests say so and pass, unless `TRUNKLINE_REQUIRE_PEERS=1` demands it. Everything runs on
//! loopback, and every process is ended with the test that began it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::kamailio::Kamailio;
use crate::line::{Line, answered, failed, hung_up, line_with, until};
use crate::played::{Played, play_at, play_from};
use crate::scenario::{Body, ROUTED, Scenario};
use trunkline_line::trunks::{CallRequest, LineNews, Proxy, Target, TrunkSetup, Trunks, TrunksConfig};
use trunkline_line::{SipCommand, SipTransports, TlsSettings};
use trunkline_ports::free_port;
use trunkline_sip::cause::Outcome;
use trunkline_sip::digest::Credentials;
use trunkline_sip::message::{Hop, Transport, Uri};
use trunkline_sip::sdp::Direction;
use trunkline_sip::{Account, FailureCause, RegisterRequest, SipEvent};

// --- our side --------------------------------------------------------------------------------------------

async fn our_line() -> Line {
    let transports = SipTransports { tcp: true, tls: TlsSettings::default() };
    line_with(transports, |config| config.credentials = Some(Credentials::new("branch", "secret"))).await
}

fn changed(event: &SipEvent) -> Option<Direction> {
    if let SipEvent::MediaChanged { media, .. } = event { Some(media.direction) } else { None }
}

/// The Via of a request that came by way of the proxy.
fn by_way_of(proxy: SocketAddr) -> String {
    format!("127.0.0.1:{}", proxy.port())
}

const BOTH_TRANSPORTS: [Transport; 2] = [Transport::Udp, Transport::Tcp];

/// The address of a peer that is to come: the proxy must know it before the peer's scenario can name the proxy.
fn place() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

fn rings_at(at: SocketAddr, scenario: &Scenario) -> Option<Played> {
    play_at(at, &scenario.to_xml(), None)
}

// --- calls -----------------------------------------------------------------------------------------------

#[tokio::test]
async fn hold_and_hang_up_go_along_the_route_of_the_call() {
    for transport in BOTH_TRANSPORTS {
        let at = place();
        let Some(proxy) = Kamailio::before(at).await else { return };
        let via = by_way_of(proxy.at);
        let contact = "Contact: <sip:peer@[local_ip]:[local_port];transport=[transport]>";
        let called = Scenario::called_by_proxy().answer(180, ROUTED, Body::None);
        let called = called.answer(200, ROUTED, Body::Sdp).recv_with("ACK", "Via", &via);
        let called = called.recv_with("INVITE", "Via", &via);
        let called = called.reply(200, contact, Body::SdpWith("a=recvonly")).recv("ACK");
        let called = called.recv_with("BYE", "Via", &via).reply(200, "", Body::None);
        let Some(mut peer) = rings_at(at, &called) else { return };
        let line = our_line().await;

        let (key, mut events) = line.call("one", proxy.at, transport).await;
        until(&mut events, |event| matches!(event, SipEvent::Ringing { .. }).then_some(())).await;
        until(&mut events, answered).await;
        line.sip.send(SipCommand::Hold(key, true));
        assert_eq!(until(&mut events, changed).await, Direction::SendOnly, "{transport:?}");
        line.hang_up(key, &mut events).await;
        peer.peer.is_content().await;
    }
}

#[tokio::test]
async fn who_is_called_hangs_up_along_the_route() {
    for transport in BOTH_TRANSPORTS {
        let at = place();
        let Some(proxy) = Kamailio::before(at).await else { return };
        let called = Scenario::called_by_proxy().answer(200, ROUTED, Body::Sdp).recv("ACK").pause(100);
        let called = called.then_request("BYE", 1, "[routes]", Body::None).recv_code(200);
        let Some(mut peer) = rings_at(at, &called) else { return };
        let line = our_line().await;

        let (_, mut events) = line.call("one", proxy.at, transport).await;
        until(&mut events, answered).await;
        until(&mut events, hung_up).await;
        peer.peer.is_content().await;
    }
}

#[tokio::test]
async fn of_two_that_ring_the_one_that_answers_has_the_call_and_the_other_stops_ringing() {
    let (one, two) = (place(), place());
    let Some(proxy) = Kamailio::start("MD5", one, two).await else { return };
    let answers = Scenario::called_by_proxy().answer_as("t1", 180, ROUTED, Body::None).pause(300);
    let answers = answers.answer_as("t1", 200, ROUTED, Body::Sdp).recv("ACK");
    let answers = answers.recv("BYE").reply(200, "", Body::None);
    let stops = Scenario::called_by_proxy().answer_as("t2", 180, ROUTED, Body::None).recv("CANCEL");
    let stops = stops.reply(200, "", Body::None).answer_as("t2", 487, ROUTED, Body::None).recv("ACK");
    let (Some(mut first), Some(mut second)) = (rings_at(one, &answers), rings_at(two, &stops)) else {
        return;
    };
    let line = our_line().await;

    let (key, mut events) = line.call("both", proxy.at, Transport::Udp).await;
    until(&mut events, answered).await;
    second.peer.is_content().await;
    line.hang_up(key, &mut events).await;
    first.peer.is_content().await;
    assert_eq!(line.sip.gauges().await.calls, 0);
}

#[tokio::test]
async fn of_two_that_answer_the_second_is_hung_up() {
    for transport in BOTH_TRANSPORTS {
        let (one, two) = (place(), place());
        let Some(proxy) = Kamailio::start("MD5", one, two).await else { return };
        let via = by_way_of(proxy.at);
        let keeps = Scenario::called_by_proxy().answer_as("t1", 180, ROUTED, Body::None).pause(200);
        let keeps = keeps.answer_as("t1", 200, ROUTED, Body::Sdp).recv("ACK");
        let keeps = keeps.recv("BYE").reply(200, "", Body::None);
        // It is asked to stop, and was answered already.
        let late = Scenario::called_by_proxy().answer_as("t2", 180, ROUTED, Body::None).recv("CANCEL");
        let late = late.reply(200, "", Body::None).answer_as("t2", 200, ROUTED, Body::Sdp);
        let late =
            late.recv_with("ACK", "Via", &via).recv_with("BYE", "Via", &via).reply(200, "", Body::None);
        let (Some(mut first), Some(mut second)) = (rings_at(one, &keeps), rings_at(two, &late)) else {
            return;
        };
        let line = our_line().await;

        let (key, mut events) = line.call("both", proxy.at, transport).await;
        until(&mut events, answered).await;
        second.peer.is_content().await;
        assert_eq!(line.sip.gauges().await.calls, 1, "the first goes on");
        line.hang_up(key, &mut events).await;
        first.peer.is_content().await;
    }
}

#[tokio::test]
async fn a_proxy_that_asks_for_a_password_gets_it() {
    for (transport, algorithm) in [(Transport::Udp, "MD5"), (Transport::Tcp, "SHA-256")] {
        let at = place();
        let Some(proxy) = Kamailio::start(algorithm, at, at).await else { return };
        let called = Scenario::called_by_proxy().answer(200, ROUTED, Body::Sdp).recv("ACK");
        let Some(mut peer) = rings_at(at, &called.recv("BYE").reply(200, "", Body::None)) else { return };
        let line = our_line().await;

        let (key, mut events) = line.call("locked", proxy.at, transport).await;
        until(&mut events, answered).await;
        line.hang_up(key, &mut events).await;
        peer.peer.is_content().await;
    }
}

#[tokio::test]
async fn a_proxy_that_does_not_know_the_password_refuses_the_call() {
    let at = place();
    let Some(proxy) = Kamailio::before(at).await else { return };
    let wrong = Credentials::new("branch", "wrong");
    let line = line_with(SipTransports::default(), |config| config.credentials = Some(wrong)).await;
    let (_, mut events) = line.call("locked", proxy.at, Transport::Udp).await;
    let failure = until(&mut events, failed).await;
    assert_eq!((failure.cause, Outcome::of_failure(&failure)), (FailureCause::Unauthorized, Outcome::Ours));
}

// --- registrations, and calls to us ----------------------------------------------------------------------

#[tokio::test]
async fn who_registered_is_called_through_the_proxy() {
    for (transport, algorithm) in [(Transport::Udp, "SHA-256"), (Transport::Tcp, "MD5")] {
        let Some(proxy) = Kamailio::start(algorithm, place(), place()).await else { return };
        let mut line = our_line().await;
        let request = RegisterRequest {
            aor: Uri::at("1001", proxy.at),
            registrar: Uri::at("", proxy.at),
            next_hop: Some(Hop::new(transport, proxy.at)),
            account: None,
            trunk: 0,
            expires: Duration::from_secs(600),
        };
        line.sip.send(SipCommand::Register(Box::new(request)));
        let granted = until(&mut line.unclaimed, |event| {
            if let SipEvent::Registered { expires, .. } = event { Some(*expires) } else { None }
        });
        assert_eq!(granted.await, Duration::from_secs(600));

        let caller = Scenario::calling("", Body::Sdp).maybe_code(100).maybe_code(180).recv_code(200);
        let caller = caller.then_request("ACK", 1, "[routes]", Body::None).pause(100);
        let caller = caller.then_request("BYE", 2, "[routes]", Body::None).recv_code(200);
        let Some(mut peer) = play_from([127, 0, 0, 1], &caller.to_xml(), Some(proxy.at)) else { return };
        let (_, mut events) = line.take_call().await;
        until(&mut events, answered).await;
        until(&mut events, hung_up).await;
        peer.peer.is_content().await;
    }
}

fn trunk(at: SocketAddr, transport: Transport, password: &str) -> TrunkSetup {
    let proxy = Proxy { host: at.ip().to_string(), port: at.port() };
    let mut setup = TrunkSetup::new("carrier", proxy, place());
    setup.transport = transport;
    setup.account = Account { credentials: Some(Credentials::new("branch", password)), domain: None };
    setup.user = Some("branch".to_owned());
    setup.register = Some(Duration::from_secs(600));
    setup
}

async fn wait_until(trunks: &Trunks, wanted: impl Fn(&Trunks) -> bool) {
    let limit = Instant::now() + Duration::from_secs(15);
    while !wanted(trunks) {
        assert!(Instant::now() < limit, "still {:#?}", trunks.status());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_trunk_registers_and_a_number_of_nobody_is_told_as_such() {
    for (transport, algorithm) in [(Transport::Udp, "SHA-256"), (Transport::Tcp, "MD5")] {
        let Some(proxy) = Kamailio::start(algorithm, place(), place()).await else { return };
        let setup = trunk(proxy.at, transport, "secret");
        let trunks = Trunks::start(TrunksConfig::default(), vec![setup]).await.unwrap();
        wait_until(&trunks, |trunks| trunks.status()[0].registered == Some(true)).await;
        let target = Target::Number("nobody".to_owned());
        let mut call = trunks.place(CallRequest { target, from: None, ring: Duration::from_secs(20) });
        let failure = loop {
            match call.news.recv().await.unwrap() {
                LineNews::Failed(failure) => break failure,
                LineNews::Dialing { .. } => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((failure.cause, failure.sip_code), (FailureCause::NotFound, Some(404)));
        assert_eq!(Outcome::of_failure(&failure), Outcome::InvalidNumber);
        assert!(trunks.status()[0].up, "the trunk is not to blame");
    }
}

#[tokio::test]
async fn a_wrong_password_of_a_trunk_is_told() {
    let Some(proxy) = Kamailio::start("SHA-256", place(), place()).await else { return };
    let setup = trunk(proxy.at, Transport::Udp, "wrong");
    let trunks = Trunks::start(TrunksConfig::default(), vec![setup]).await.unwrap();
    wait_until(&trunks, |trunks| trunks.status()[0].trouble.contains("credentials refused")).await;
    assert_eq!(trunks.status()[0].registered, Some(false));
}
