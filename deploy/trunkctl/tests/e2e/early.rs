//! What the network plays before the answer, by a peer that was not written here: SIPp (Debian: sip-tester) answers 183
//! and sends sound of its own by RTP.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use trunkctl::stage::{Plan, Stage, cache_dir};
use trunkline_audio::Codec;
use trunkline_audio::level::trim_silence;
use trunkline_audio::music::hold_music;
use trunkline_ports::free_port;
use trunkline_speech::synth::{Locale, PromptStore, SpeechRequest, open_synthesizer};

use super::plan;

#[expect(dead_code, reason = "this file needs a part of it")]
#[path = "../../../../edge/line/tests/line/common/mod.rs"]
mod common;
#[expect(dead_code, reason = "this file needs a part of it")]
#[path = "../../../../edge/sip/tests/peers/scenario.rs"]
mod scenario;

use common::{Peer, installed};
use scenario::{Body, Scenario};

const SCRIPT: &str = r#"schema: trunkline/script/1
id: tiny-zh
locale: zh-CN
purpose: notice
voice: {name: zf_xiaoxiao}
vars: {org: {type: text, required: true}}
nodes:
  - id: open
    say: "您好，我是{org}的智能语音助手，本次通话将被录音。可以吗？"
    barge_in: {off_until: 本次通话将被录音}
    on: {"yes": bye, "no": bye}
  - {id: bye, say: "再见。", end: done}
handoff: {to: desk, fail: bye}
outcomes: [{code: transferred}, {code: opt_out}, {code: done, when: "true"}]
"#;

/// What happens once the sound was played.
#[derive(Clone, Copy)]
enum Then {
    Refuses(u16),
    Nothing,
    AnswersAndHangsUp,
}

/// Starts a carrier for one call, which plays `sound`.
fn carrier(folder: &Path, at: SocketAddr, sound: &[i16], then: Then) -> Peer {
    let mut octets = vec![0; sound.len()];
    Codec::Pcma.encode(sound, &mut octets);
    std::fs::write(folder.join("sound.raw"), octets).unwrap();
    // The last packets are on their way when it is over.
    let ms = u32::try_from(sound.len() / 8).unwrap() + 100;
    let plays = Scenario::called().answer(183, "", Body::Sdp);
    let over = match then {
        Then::Refuses(code) => plays.pause(ms).answer(code, "", Body::None).recv("ACK"),
        Then::Nothing => {
            plays.recv("CANCEL").reply(200, "", Body::None).answer(487, "", Body::None).recv("ACK")
        }
        Then::AnswersAndHangsUp => {
            let answered = plays.pause(ms + 3_000).answer(200, "", Body::Sdp).recv("ACK").pause(500);
            answered.then_request("BYE", 2, "", Body::None).recv_code(200)
        }
    };
    // SIPp sends a file from a port of its own.
    let play = "]]></send>\n<nop><action><exec rtp_stream=\"sound.raw,1,8,PCMA/8000\"/></action></nop>";
    let xml = over.to_xml().replace("[media_port]", "[rtpstream_audio_port]").replacen("]]></send>", play, 1);
    std::fs::write(folder.join("scenario.xml"), xml).unwrap();
    let mut command = Command::new("sipp");
    command.args(["-sf", "scenario.xml", "-i", "127.0.0.1", "-mi", "127.0.0.1", "-nostdin", "-m", "1"]);
    command.args(["-mp", &free_port().to_string(), "-p", &at.port().to_string()]);
    command.args(["-timeout", "120s", "-timeout_error"]).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    let peer = Peer(command.spawn().unwrap());
    for _ in 0..200 {
        if UdpSocket::bind(at).is_err() {
            return peer;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("nobody takes {at}");
}

/// Calls a number of the carrier and returns the record.
async fn call(stage: &Stage, at: SocketAddr, number: u32, sound: &[i16], then: Then) -> Value {
    let mut peer = carrier(stage.dir(), at, sound, then);
    let request = json!({
        "script_id": "tiny-zh", "callee": format!("+861380013{number:04}"), "variables": { "org": "和顺银行" },
        "callback_url": stage.callbacks.url(),
    });
    let call = super::call(stage, &request).await;
    let log = std::fs::read_to_string(stage.dir().join("logs/box.log")).unwrap_or_default();
    for line in log.lines().filter(|line| line.contains("Before the answer")) {
        println!("{line}");
    }
    println!("{} {} {:#}", call["disposition"], call["cause"], call["line"]["tones"]);
    peer.is_content().await;
    call
}

/// Says an announcement as a network does.
fn announced(store: &PromptStore, said: &[(Locale, &str, &str)]) -> Vec<i16> {
    let mut sound = Vec::new();
    for (locale, voice, text) in said {
        let request = SpeechRequest::new(*text, *locale).with_voice(*voice);
        let prompt = store.get_or_render(&request).unwrap();
        sound.extend(&prompt.samples[trim_silence(&prompt.samples, 8_000)]);
    }
    sound
}

fn heard(call: &Value) -> Vec<&str> {
    let tones = call["line"]["tones"].as_array();
    tones.into_iter().flatten().filter_map(|tone| tone["tone"].as_str()).collect()
}

/// A switched-off telephone is told as that, though the network says 480 at its last word; one that cannot be
/// reached, though the network says nothing after it. Who asks to hold the line is waited for, and music is no end.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_network_says_before_the_answer_is_how_the_call_ends() {
    if !installed("sipp", "-v", "sip-tester") {
        return;
    }
    let models = std::env::var_os("TRUNKLINE_MODELS").map_or_else(|| cache_dir().join("models"), Into::into);
    let voices = open_synthesizer(&models).unwrap();
    let store = PromptStore::open(&cache_dir().join("bench-prompts"), voices, 1 << 24).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let scripts = dir.path().join("scripts");
    std::fs::create_dir(&scripts).unwrap();
    std::fs::write(scripts.join("tiny-zh.yaml"), SCRIPT).unwrap();
    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let stage = Stage::start(
        Plan { scripts, trunk: Some(at), trunk_extra: "ping = \"off\"\n".to_owned(), ..plan(dir.path()) },
        &[],
        |what| println!("… {what}"),
    )
    .await
    .unwrap();

    let zh = |text| (Locale::ZhCn, "zf_xiaobei", text);
    let en = |text| (Locale::EnUs, "af_bella", text);
    let off = announced(&store, &[en("Sorry, the subscriber you dialed is switched off.")]);
    let told = call(&stage, at, 8001, &off, Then::Refuses(480)).await;
    assert_eq!((&told["disposition"], &told["sip_code"]), (&json!("power_off"), &json!(480)), "{told:#}");
    assert_eq!(heard(&told), ["power_off"]);

    let away = announced(&store, &[zh("您好，您拨打的用户暂时无法接通，请稍后再拨。")]);
    let told = call(&stage, at, 8002, &away, Then::Nothing).await;
    assert_eq!(told["disposition"], "unreachable", "{told:#}");
    assert_eq!(heard(&told), ["unreachable"]);

    let hold =
        announced(&store, &[en("Please hold the line, the person you are calling is on another call.")]);
    let told = call(&stage, at, 8003, &hold, Then::AnswersAndHangsUp).await;
    assert_eq!(told["disposition"], "customer_hung_up", "{told:#}");
    assert!(!heard(&told).is_empty() && heard(&told).iter().all(|what| *what == "hold"), "{told:#}");

    let music = hold_music(6 * 8_000, -20.0, 4);
    let told = call(&stage, at, 8004, &music, Then::Refuses(486)).await;
    assert_eq!((&told["disposition"], &told["sip_code"]), (&json!("busy"), &json!(486)), "{told:#}");
    assert_eq!(heard(&told), ["colour_ring"]);
    let evidence = told["line"]["tones"][0]["evidence"].as_str().unwrap();
    assert!(evidence.contains("notes"), "{evidence}");
}
