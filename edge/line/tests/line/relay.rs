//! Sound through a relay that was not written here: rtpengine (Debian: rtpengine-daemon), which Kamailio steers.
//!
//! Without a peer its tests say so and pass, unless `TRUNKLINE_REQUIRE_PEERS=1` demands it. Everything runs on
//! loopback, and every process is ended with the test that began it.

use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::{Peer, baresip, certificates, installed};
use crate::kamailio::Kamailio;
use crate::line::{line, until};
use crate::sound::{Sound, loudest, rtp_sockets, tone};
use trunkline_line::SipTransports;
use trunkline_ports::{free_port, sound_ports};
use trunkline_sip::SipEvent;
use trunkline_sip::message::Transport;
use trunkline_sip::sdp::{LocalMedia, Secure};

/// Starts a relay; the address is where it is steered.
fn rtpengine() -> Option<(Peer, SocketAddr)> {
    if !installed("rtpengine", "--version", "rtpengine-daemon") {
        return None;
    }
    let steered = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let sound = sound_ports();
    let mut command = Command::new("rtpengine");
    // Without the kernel's help: table -1.
    command.args(["--config-file=none", "--foreground", "--table=-1", "--interface=127.0.0.1"]);
    command.args(["--num-threads=1", "--log-level=4"]);
    command.arg(format!("--listen-ng={steered}"));
    command.args([format!("--port-min={}", sound.start()), format!("--port-max={}", sound.end())]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut relay = Peer(command.spawn().unwrap());
    let asks = UdpSocket::bind("127.0.0.1:0").unwrap();
    asks.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut answer = [0; 100];
    for _ in 0..100 {
        assert!(relay.0.try_wait().unwrap().is_none(), "rtpengine does not start");
        asks.send_to(b"1 d7:command4:pinge", steered).unwrap();
        if asks.recv(&mut answer).is_ok() {
            return Some((relay, steered));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("rtpengine says nothing");
}

/// Calls baresip, which sends back what it hears, with the sound through the relay.
async fn echo_through_the_relay(secure: Option<Secure>) {
    let Some((_relay, steered)) = rtpengine() else { return };
    let (folder, own) = (tempfile::tempdir().unwrap(), certificates());
    let plain = ("ausrc_srate 8000\nauplay_srate 8000\naudio_channels 1", "");
    let Some((_peer, tls)) = baresip(folder.path(), &own, free_port(), plain).await else { return };
    let at = SocketAddr::new(tls.ip(), tls.port() - 1);
    let Some(proxy) = Kamailio::with_relay(steered, at).await else { return };

    let sockets = rtp_sockets();
    let local = sockets.local().unwrap();
    let mut line = line(SipTransports::default()).await;
    line.media = LocalMedia { secure: secure.clone(), ..LocalMedia::new(local) };
    let (key, mut events) = line.call("relayed", proxy.at, Transport::Udp).await;
    let media = until(&mut events, |event| {
        if let SipEvent::Answered { media, .. } = event { Some(media.clone()) } else { None }
    })
    .await;
    assert_eq!(media.secure.is_some(), secure.is_some());
    let mut sound = Sound::begin(sockets, &media);
    sound.play(tone(500.0, 2));
    sound.run(Duration::from_millis(2_500)).await;
    let stats = sound.close().await;
    line.hang_up(key, &mut events).await;

    assert!(stats.received > 80 && stats.forged <= 1, "{stats:?}");
    let best = loudest(&sound.heard, 500.0);
    assert!(best > 1_000_000.0, "{best}: our tone went there and came back");
}

#[tokio::test]
async fn a_relay_carries_sound_both_ways() {
    echo_through_the_relay(None).await;
}

#[tokio::test]
async fn a_relay_opens_what_we_encrypt_and_encrypts_what_we_hear() {
    echo_through_the_relay(Some(Secure::new([41; 30], true))).await;
}
