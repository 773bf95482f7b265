//! How keys reach the other side: as telephone events, by INFO, and as sound; and sound in G.722.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::played::play;
use crate::scenario::{Body, Scenario};
use crate::sound::{Sound, loudest, tone};
use trunkline_audio::FRAME;
use trunkline_audio::tone::DtmfDetector;
use trunkline_line::trunks::{
    CallRequest, LineNews, LineOrder, PlacedCall, Proxy, Target, TrunkSetup, Trunks, TrunksConfig,
};
use trunkline_line::{KeysBy, MediaNews};
use trunkline_ports::{free_port, sound_ports};
use trunkline_sip::sdp::Codec;

const PATIENCE: Duration = Duration::from_secs(10);

async fn trunks(at: SocketAddr, change: impl FnOnce(&mut TrunkSetup)) -> Trunks {
    let rtp_ports = sound_ports();
    let config = TrunksConfig { rtp_ports, ..TrunksConfig::default() };
    let proxy = Proxy { host: at.ip().to_string(), port: at.port() };
    let mut setup = TrunkSetup::new("trunk", proxy, SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 0));
    setup.inbound = true;
    change(&mut setup);
    Trunks::start(config, vec![setup]).await.unwrap()
}

async fn answered(call: &mut PlacedCall) -> (Sound, Codec) {
    loop {
        match tokio::time::timeout(PATIENCE, call.news.recv()).await.unwrap().unwrap() {
            LineNews::Answered { media, sockets } => {
                let codec = media.codec;
                return (Sound::begin(sockets.unwrap(), &media), codec);
            }
            LineNews::Dialing { .. } | LineNews::Ringing { early: None } => {}
            other => panic!("{other:?}"),
        }
    }
}

fn request() -> CallRequest {
    let target = Target::Number("1001".to_owned());
    CallRequest { target, from: Some("4000".to_owned()), ring: Duration::from_secs(20) }
}

/// A call between two of us; `here` and `there` change how each sets up its trunk.
async fn call(
    here: impl FnOnce(&mut TrunkSetup),
    there: impl FnOnce(&mut TrunkSetup),
) -> (Trunks, Trunks, [(PlacedCall, Sound); 2], Codec) {
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let far = trunks(nobody, there).await;
    let mut arrivals = far.incoming();
    let near = trunks(far.local(), here).await;
    let mut ours = near.place(request());
    let mut theirs = tokio::time::timeout(PATIENCE, arrivals.recv()).await.unwrap().unwrap().take();
    theirs.order(LineOrder::Answer);
    let (their_sound, codec) = answered(&mut theirs).await;
    let (our_sound, _) = answered(&mut ours).await;
    (near, far, [(ours, our_sound), (theirs, their_sound)], codec)
}

fn keys_in(heard: &[i16]) -> String {
    let mut detector = DtmfDetector::new(8_000);
    heard.chunks_exact(FRAME).filter_map(|frame| detector.push(frame)).collect()
}

fn press(call: &PlacedCall, sound: &mut Sound, keys: &str) {
    for key in keys.chars() {
        if let Some(order) = call.press(key) {
            sound.order(order);
        }
    }
}

#[tokio::test]
async fn a_trunk_that_wants_keys_by_info_gets_them_in_their_order() {
    let scenario = Scenario::called().answer(200, "", Body::Sdp).recv("ACK");
    let scenario = scenario.recv_with("INFO", "", "Signal=4").reply(200, "", Body::None);
    let scenario = scenario.recv_with("INFO", "", "Signal=#").reply(200, "", Body::None);
    let Some(mut trunk) = play(&scenario.recv("BYE").reply(200, "", Body::None).to_xml()) else { return };
    let trunks = trunks(trunk.at, |setup| setup.keys = KeysBy::Info).await;
    let mut call = trunks.place(request());
    let (mut sound, _) = answered(&mut call).await;
    press(&call, &mut sound, "4#");
    sound.run(Duration::from_millis(300)).await;
    assert_eq!(sound.close().await.far.keys_sent, 0, "nothing of it went with the sound");
    drop(call);
    trunk.peer.is_content().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_go_as_sound_where_a_trunk_wants_that() {
    let (_near, _far, [(ours, mut near), (_theirs, mut far)], _) =
        call(|setup| setup.keys = KeysBy::Sound, |_| {}).await;
    near.play(tone(600.0, 5));
    press(&ours, &mut near, "1150#");
    far.run(Duration::from_millis(1_800)).await;
    assert_eq!(keys_in(&far.heard), "1150#");
    assert!(!far.news.iter().any(|news| matches!(news, MediaNews::Digit(_))), "{:?}", far.news);
    assert!(loudest(&far.heard, 600.0) > 5_000_000.0, "what was said goes on after them");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_hear_each_other_in_g_722_and_keys_go_as_events_beside_it() {
    let wide = |setup: &mut TrunkSetup| setup.codecs = vec![Codec::G722];
    let (_near, _far, [(ours, mut near), (_theirs, mut far)], codec) = call(wide, wide).await;
    assert_eq!(codec, Codec::G722);
    near.play(tone(500.0, 3));
    far.play(tone(1_200.0, 3));
    tokio::join!(near.run(Duration::from_millis(1_200)), far.run(Duration::from_millis(1_200)));
    let (at_far, at_near) = (loudest(&far.heard, 500.0), loudest(&near.heard, 1_200.0));
    assert!(at_far > 10_000_000.0 && at_near > 10_000_000.0, "{at_far} {at_near}");
    press(&ours, &mut near, "7");
    let limit = Instant::now() + PATIENCE;
    while !far.news.iter().any(|news| matches!(news, MediaNews::Digit('7'))) {
        assert!(Instant::now() < limit, "{:?}", far.news);
        far.run(Duration::from_millis(50)).await;
    }
    let stats = far.close().await;
    assert!(stats.received > 40 && stats.lost <= 2, "{stats:?}");
}
