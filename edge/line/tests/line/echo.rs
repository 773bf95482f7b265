//! A call to an echo service, against SIPp (Debian: sip-tester), which sends back the packets that it gets.
//!
//! Without the peer its tests say so and pass, unless `TRUNKLINE_REQUIRE_PEERS=1` demands it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::played::play_sound;
use crate::scenario::{Body, Scenario};
use trunkline_line::trunks::{CallRequest, Proxy, Target, TrunkSetup, Trunks, TrunksConfig};
use trunkline_line::{EchoCall, EchoError, EchoHeard, MediaHandle, echo_call};
use trunkline_ports::sound_ports;

async fn call(at: SocketAddr) -> Result<EchoHeard, EchoError> {
    let proxy = Proxy { host: at.ip().to_string(), port: at.port() };
    let mut setup = TrunkSetup::new("carrier", proxy, "127.0.0.1:0".parse().unwrap());
    setup.pool.ping_every = None;
    let rtp_ports = sound_ports();
    let config = TrunksConfig { rtp_ports, ..TrunksConfig::default() };
    let trunks = Trunks::start(config, vec![setup]).await.unwrap();
    let media = MediaHandle::start().unwrap();
    let target = Target::Number("4443".to_owned());
    let request = CallRequest { target, from: None, ring: Duration::from_secs(5) };
    echo_call(&trunks, &media, EchoCall { request, trace: None }).await
}

fn answers() -> Scenario {
    let ringing = Scenario::called().answer(180, "", Body::None).answer(200, "", Body::Sdp).recv("ACK");
    ringing.recv("BYE").reply(200, "", Body::None)
}

#[tokio::test]
async fn what_is_sent_returns_with_its_delay_and_its_loss() {
    let Some(mut played) = play_sound(&answers().to_xml(), &["-rtp_echo"]) else { return };
    let heard = call(played.at).await.unwrap();
    assert_eq!((heard.trunk.as_str(), heard.codec.as_str()), ("carrier", "PCMA"));
    assert!(heard.loss_db.abs() < 1.5 && heard.round_trip_ms < 400.0 && heard.lost < 0.05, "{heard:?}");
    // It was hung up properly.
    played.peer.is_content().await;
}

#[tokio::test]
async fn who_sends_nothing_back_or_does_not_answer_is_named() {
    let Some(played) = play_sound(&answers().to_xml(), &[]) else { return };
    assert_eq!(call(played.at).await, Err(EchoError::NoSound));
    let busy = Scenario::called().answer(486, "", Body::None).recv("ACK");
    let Some(played) = play_sound(&busy.to_xml(), &[]) else { return };
    let refused = call(played.at).await;
    assert!(matches!(&refused, Err(EchoError::NotAnswered(why)) if why.contains("486")), "{refused:?}");
    let leaves = Scenario::called().answer(200, "", Body::Sdp).recv("ACK").pause(300);
    let leaves = leaves.then_request("BYE", 2, "", Body::None).recv_code(200);
    let Some(played) = play_sound(&leaves.to_xml(), &["-rtp_echo"]) else { return };
    assert_eq!(call(played.at).await, Err(EchoError::HungUp));
}
