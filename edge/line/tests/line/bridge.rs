//! Two calls joined in the media thread: a tone that one far end plays is heard at the other, and the other way round.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use trunkline_audio::Codec;
use trunkline_audio::tone::Goertzel;
use trunkline_line::{Attached, Bridge, Command, MediaConfig, MediaHandle, RtpPorts, RtpSockets};

fn config(remote: SocketAddr, codec: Codec) -> MediaConfig {
    MediaConfig { remote, codec, dtmf_pt: None, lost_after: Duration::from_secs(10) }
}

/// A call between us and a far end, both in this process: our side and theirs.
fn call(media: &MediaHandle, ports: &RtpPorts, codec: Codec) -> (Attached, Attached) {
    let bind = || -> (RtpSockets, SocketAddr) {
        let sockets = ports.bind().unwrap();
        let local = sockets.local().unwrap();
        (sockets, local)
    };
    let ((ours, our_addr), (theirs, their_addr)) = (bind(), bind());
    let ours = media.attach(ours, config(their_addr, codec), None, None);
    (ours, media.attach(theirs, config(our_addr, codec), None, None))
}

fn tone(hz: f32) -> Arc<[i16]> {
    (0..16_000).map(|n| ((n as f32 * std::f32::consts::TAU * hz / 8_000.0).sin() * 8_000.0) as i16).collect()
}

#[test]
fn two_calls_with_different_codecs_hear_each_other() {
    let media = MediaHandle::start().unwrap();
    let ports = RtpPorts::new("127.0.0.1".parse().unwrap(), 47_000..=47_099);
    let (mut ours_a, mut far_a) = call(&media, &ports, Codec::Pcma);
    let (mut ours_b, mut far_b) = call(&media, &ports, Codec::Pcmu);
    let (a, b) = Bridge::pair();
    ours_a.commands.push(Command::Bridge(a)).unwrap();
    ours_b.commands.push(Command::Bridge(b)).unwrap();
    far_a.commands.push(Command::Play { say: 1, clip: tone(500.0), last: true }).unwrap();
    far_b.commands.push(Command::Play { say: 1, clip: tone(1_200.0), last: true }).unwrap();

    let (mut at_a, mut at_b) = (Vec::new(), Vec::new());
    let limit = Instant::now() + Duration::from_millis(1_800);
    while Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(20));
        for (far, heard) in [(&mut far_a, &mut at_a), (&mut far_b, &mut at_b)] {
            while let Ok(frame) = far.frames.pop() {
                heard.extend(frame.samples);
            }
        }
    }
    let loudest = |heard: &[i16], hz: f32| {
        let goertzel = Goertzel::new(hz, 8_000);
        heard.chunks_exact(1_600).map(|part| goertzel.power(part)).fold(0.0, f32::max)
    };
    assert!(loudest(&at_a, 1_200.0) > 5_000_000.0, "{}", loudest(&at_a, 1_200.0));
    assert!(loudest(&at_b, 500.0) > 5_000_000.0, "{}", loudest(&at_b, 500.0));
    assert!(loudest(&at_a, 500.0) < 100_000.0, "nobody hears himself");

    // Once one side is let go, the other hears silence and the call goes on.
    ours_b.commands.push(Command::Close).unwrap();
    ours_a.commands.push(Command::Unbridge).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(!far_a.commands.is_abandoned());
}
