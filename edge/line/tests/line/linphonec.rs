//! Calls with linphonec (Debian: linphone-cli), in G.711 and in Opus: heard, held, resumed, keys, and hung up by it.
//!
//! Without a peer its tests say so and pass, unless `TRUNKLINE_REQUIRE_PEERS=1` demands it.

use std::time::Duration;

use crate::line::{hung_up, line, until};
use crate::softphone::{Linphonec, THEIRS};
use crate::sound::{Sound, loudest, rtp_sockets};
use trunkline_line::{MediaNews, SipTransports};
use trunkline_sip::SipEvent;
use trunkline_sip::message::Transport;
use trunkline_sip::sdp::{Codec, Direction, LocalMedia, MediaParams};

fn agreed(event: &SipEvent) -> Option<MediaParams> {
    if let SipEvent::Answered { media, .. } | SipEvent::MediaChanged { media, .. } = event {
        Some(media.clone())
    } else {
        None
    }
}

async fn a_call_in(codec: Codec) {
    let Some(mut peer) = Linphonec::start().await else { return };
    let sockets = rtp_sockets();
    let mut line = line(SipTransports::default()).await;
    line.media = LocalMedia { codecs: vec![codec], ..LocalMedia::new(sockets.local().unwrap()) };
    let (_, mut events) = line.call("linphonec", peer.at, Transport::Udp).await;
    let media = until(&mut events, agreed).await;
    assert_eq!((media.codec, media.direction), (codec, Direction::SendRecv));
    let mut sound = Sound::begin(sockets, &media);
    peer.play();
    hears(&mut sound).await;

    peer.type_in("pause");
    let held = until(&mut events, agreed).await;
    assert!(!held.direction.sends() || !held.direction.receives(), "{:?}", held.direction);
    sound.change(&held);
    sound.run(Duration::from_millis(300)).await;
    peer.type_in("resume");
    let back = until(&mut events, agreed).await;
    assert_eq!(back.direction, Direction::SendRecv);
    sound.change(&back);
    peer.play();
    hears(&mut sound).await;

    peer.type_in("7");
    sound.until(|news| *news == MediaNews::Digit('7')).await;
    peer.type_in("terminate");
    until(&mut events, hung_up).await;
    let stats = sound.close().await;
    assert!(stats.received > 50, "{stats:?}");
}

/// Waits until its tone is what we hear.
async fn hears(sound: &mut Sound) {
    sound.heard.clear();
    for _ in 0..50 {
        sound.run(Duration::from_millis(200)).await;
        if loudest(&sound.heard, THEIRS) > 2_000_000.0 {
            return;
        }
    }
    panic!("its tone is not heard: {} of {} samples", loudest(&sound.heard, THEIRS), sound.heard.len());
}

#[tokio::test]
async fn linphonec_is_heard_holds_resumes_presses_a_key_and_hangs_up() {
    a_call_in(Codec::Pcma).await;
}

#[tokio::test]
async fn the_same_in_opus() {
    a_call_in(Codec::Opus).await;
}
