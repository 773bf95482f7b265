//! Calls with Opus: with ourselves over a network that loses packets, and with baresip, which uses libopus as well.
//!
//! Without a peer its tests say so and pass, unless `TRUNKLINE_REQUIRE_PEERS=1` demands it.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::common::{baresip, certificates};
use crate::line::{line, until};
use crate::sound::{Sound, loudest, rtp_sockets, tone};
use trunkline_line::{Command as Order, MediaNews, RtpSockets, SipTransports};
use trunkline_ports::free_port;
use trunkline_sip::SipEvent;
use trunkline_sip::message::Transport;
use trunkline_sip::sdp::{Codec, Direction, LocalMedia, MediaParams, SdpOrigin};

fn speaks(codecs: &[Codec], sockets: &RtpSockets) -> LocalMedia {
    LocalMedia { codecs: codecs.to_vec(), ..LocalMedia::new(sockets.local().unwrap()) }
}

/// What two of us agree on, at the caller and at who is called.
fn agree(caller: &RtpSockets, called: &RtpSockets) -> (MediaParams, MediaParams) {
    let (caller, called) = (speaks(&[Codec::Opus, Codec::Pcma], caller), speaks(&[Codec::Opus], called));
    let mut origin = SdpOrigin::new(1);
    let offer = origin.offer(&caller);
    let (answer, at_called) = SdpOrigin::new(2).answer(&called, &offer).unwrap();
    (origin.read_answer(&caller, &answer).unwrap(), at_called)
}

#[tokio::test]
async fn two_of_us_hear_each_other_and_the_keys() {
    let (one, other) = (rtp_sockets(), rtp_sockets());
    let (at_one, at_other) = agree(&one, &other);
    let (mut one, mut other) = (Sound::begin(one, &at_one), Sound::begin(other, &at_other));
    one.play(tone(500.0, 2));
    other.play(tone(1_200.0, 2));
    tokio::join!(one.run(Duration::from_millis(1_500)), other.run(Duration::from_millis(1_500)));
    let (at_one, at_other) = (loudest(&one.heard, 1_200.0), loudest(&other.heard, 500.0));
    assert!(at_one > 10_000_000.0 && at_other > 10_000_000.0, "{at_one}, {at_other}");
    one.order(Order::Digit('7'));
    other.until(|news| *news == MediaNews::Digit('7')).await;
    let stats = one.close().await;
    assert!(stats.received > 60 && stats.lost <= 2, "{stats:?}");
}

/// Passes on packets to one side, but not every seventh.
fn lossy(to: SocketAddr) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 1_500];
        for n in 0u32.. {
            let Ok((length, _)) = socket.recv_from(&mut buffer) else { return };
            if n % 7 != 3 {
                let _ = socket.send_to(&buffer[..length], to);
            }
        }
    });
    at
}

#[tokio::test]
async fn lost_packets_are_made_up_from_the_next_ones() {
    let (one, other) = (rtp_sockets(), rtp_sockets());
    let (mut at_one, mut at_other) = agree(&one, &other);
    at_one.remote = lossy(at_one.remote);
    // What came straight from there would show the first another way.
    at_other.direction = Direction::RecvOnly;
    let (mut one, mut other) = (Sound::begin(one, &at_one), Sound::begin(other, &at_other));
    one.play(tone(500.0, 3));
    tokio::join!(one.run(Duration::from_millis(2_700)), other.run(Duration::from_millis(2_700)));
    let stats = other.close().await;
    assert!(stats.lost > 8, "{stats:?}");
    // The tone has no holes: a frame that is merely missing would be silent.
    let begun = other.heard.iter().position(|sample| sample.unsigned_abs() > 3_000).unwrap();
    let middle = &other.heard[begun + 3_200..begun + 16_000];
    let levels = middle.chunks_exact(160).map(trunkline_audio::level::rms_dbfs);
    let weakest = levels.fold(0.0, f32::min);
    let usual = trunkline_audio::level::rms_dbfs(middle);
    assert!(usual > -18.0 && weakest > usual - 24.0, "{weakest} of {usual} dBFS");
}

#[tokio::test]
async fn baresip_hears_our_opus_and_we_hear_its() {
    let (folder, own) = (tempfile::tempdir().unwrap(), certificates());
    let opus = ("net_interface 127.0.0.1\nmodule opus.so\nopus_inbandfec yes", ";audio_codecs=opus/48000/2");
    let Some((_peer, tls)) = baresip(folder.path(), &own, free_port(), opus).await else { return };
    let at = SocketAddr::new(tls.ip(), tls.port() - 1);
    let sockets = rtp_sockets();
    let mut line = line(SipTransports::default()).await;
    line.media = speaks(&[Codec::Opus, Codec::Pcma], &sockets);
    let (key, mut events) = line.call("bare", at, Transport::Udp).await;
    let media = until(&mut events, |event| {
        if let SipEvent::Answered { media, .. } = event { Some(media.clone()) } else { None }
    })
    .await;
    assert_eq!(media.codec, Codec::Opus);
    let mut sound = Sound::begin(sockets, &media);
    sound.play(tone(500.0, 3));
    sound.run(Duration::from_millis(3_000)).await;
    let stats = sound.close().await;
    line.hang_up(key, &mut events).await;
    // It sends back what it hears: the tone went through two encoders.
    assert!(stats.received > 80, "{stats:?}");
    let best = loudest(&sound.heard, 500.0);
    assert!(best > 5_000_000.0, "{best}");
}
