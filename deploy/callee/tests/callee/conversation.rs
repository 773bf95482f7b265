//! The program itself, called by a robot that plays prompts: she hears with the recogniser, speaks
//! with the synthesiser, and what she says can be understood. Needs the models.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::common::Caller;
use serde_json::Value;
use trunkline_callee::persona::{Heard, Pattern};
use trunkline_speech::ort_rt::model_dir;
use trunkline_speech::recognise::{
    Language, RecognizeOptions, Recognizer, Utterance, Whisper, WhisperConfig,
};
use trunkline_speech::synth::{Locale, PromptStore, SpeechRequest, open_synthesizer};

/// Rendered speech is kept between runs.
fn prompts() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("prompts")
}

/// Tells whether the models are there; without them the test is skipped, or fails where it must not be.
fn has_models() -> bool {
    let missing = ["kokoro-v1.0-int8.onnx", "whisper-base-q8_0.bin", "libonnxruntime.so"]
        .into_iter()
        .find(|name| !model_dir().join(name).is_file());
    let Some(name) = missing else { return true };
    assert!(std::env::var("TRUNKLINE_REQUIRE_MODELS").is_err(), "model {name} is missing");
    println!("skipped: model {name} missing, run deploy/get-models");
    false
}

struct Customer {
    child: Child,
    addr: SocketAddr,
    lines: mpsc::Receiver<String>,
}

impl Customer {
    fn start(persona: &str, more: &[&str]) -> Self {
        let persona = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../personas/{persona}.yaml"));
        let mut child = Command::new(env!("CARGO_BIN_EXE_trunkline-callee"))
            .args(["--listen", "127.0.0.1:0", "--once", "--events", "--rtp", "41400-41799"])
            .arg("--persona")
            .arg(persona)
            .arg("--prompts")
            .arg(prompts())
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let first = lines.recv_timeout(Duration::from_secs(300)).unwrap();
        let addr = first.strip_prefix("ready sip=").unwrap().parse().unwrap();
        Self { child, addr, lines }
    }

    /// Waits for the end; returns the events.
    fn ended(mut self) -> Vec<Value> {
        let mut events = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(30)) {
            events.push(serde_json::from_str(&line).unwrap());
        }
        assert!(self.child.wait().unwrap().success());
        events
    }
}

impl Drop for Customer {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
    }
}

fn of<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == kind).collect()
}

/// Calls, plays each prompt, listens, and compares what is heard with what is expected to be said.
async fn converse(persona: &str, locale: Locale, turns: &[(&str, &str)], goodbye: &str) {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("customer.wav");
    let customer = Customer::start(persona, &["--record", record.to_str().unwrap()]);
    let store = PromptStore::open(&prompts(), open_synthesizer(&model_dir()).unwrap(), 1 << 20).unwrap();
    let prompt = |text: &str| store.get_or_render(&SpeechRequest::new(text, locale)).unwrap().samples.clone();
    let said: Vec<_> = turns.iter().map(|(robot, _)| prompt(robot)).collect();
    let goodbye = prompt(goodbye);
    let whisper = model_dir().join("whisper-base-q8_0.bin");
    let whisper = Whisper::load(&whisper, WhisperConfig { states: 1, ..WhisperConfig::default() }).unwrap();

    let caller = Caller::new(None).await;
    let mut call = caller.call("1001", customer.addr).await.unwrap();
    for ((_, expected), clip) in turns.iter().zip(said) {
        call.heard.clear();
        let length = clip.len() / 8;
        call.say(clip);
        call.listen(length + 7_000).await;
        let (began, ended) = call.voice().unwrap_or_else(|| panic!("{persona} says nothing"));
        assert!(began > length, "{persona} waits for the robot to finish: {began} ms, {length} ms");
        let words =
            Utterance::from_telephone(&call.heard[(began.saturating_sub(200)) * 8..(ended + 100) * 8]);
        let language = Language::from_tag(locale.tag()).unwrap();
        let text = whisper.recognize(&words, &RecognizeOptions::new(language)).unwrap().text;
        println!("{persona} is understood as: {text}");
        assert!(Pattern::parse(expected).unwrap().is_in(&Heard::new(&text)), "`{text}` is not `{expected}`");
    }
    call.say(goodbye);
    call.until(|event| matches!(event, trunkline_sip::SipEvent::PeerHungUp { .. })).await;

    let events = customer.ended();
    assert_eq!(of(&events, "said").len(), turns.len(), "{events:#?}");
    assert!(of(&events, "heard").iter().all(|heard| heard["matched"].is_string()), "{events:#?}");
    for event in of(&events, "heard").iter().chain(&of(&events, "ended")) {
        println!("{event}");
    }
    let wav = trunkline_audio::wav::read(&record).unwrap();
    let spoken = &of(&events, "said")[0];
    let at = |key: &str| (spoken[key].as_f64().unwrap() * 8_000.0) as usize;
    let right = &wav.channels[1];
    assert!(trunkline_audio::level::rms_dbfs(&right[at("start_s")..at("end_s")]) > -32.0);
    assert!(trunkline_audio::level::rms_dbfs(&right[..at("start_s") - 800]) < -60.0);
}

#[tokio::test]
async fn in_mandarin_she_hears_who_is_meant_and_wants_no_more_calls() {
    if has_models() {
        let turns = [("请问您是王芳吗？", "我就是"), ("请问您近期方便还上吗？", "给我打电话")];
        converse("zh-optout", Locale::ZhCn, &turns, "打扰您了，再见。").await;
    }
}

#[tokio::test]
async fn in_english_she_asks_to_be_taken_off_the_list() {
    if has_models() {
        let turns = [("Am I speaking with Alex Morgan?", "off your list")];
        converse("en-optout", Locale::EnUs, &turns, "This assistant won't call you again. Goodbye.").await;
    }
}

#[test]
fn a_bad_persona_ends_with_2_and_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.yaml");
    std::fs::write(&file, "schema: trunkline/persona/1\nname: x\nlocale: en-US\nvoice: af_heart\n").unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_trunkline-callee"))
        .args(["--listen", "127.0.0.1:0", "--persona"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2));
    let error = String::from_utf8(out.stderr).unwrap();
    assert!(error.contains("bad.yaml:4:8: `af_heart` is a robot's voice"), "{error}");
    assert!(out.stdout.is_empty());
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let persona = Path::new(env!("CARGO_MANIFEST_DIR")).join("../personas/busy.yaml");
    let out = Command::new(env!("CARGO_BIN_EXE_trunkline-callee"))
        .args(["--listen", &addr, "--persona"])
        .arg(persona)
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1));
    let error = String::from_utf8(out.stderr).unwrap();
    assert!(error.contains(&format!("could not listen for calls on {addr}")), "{error}");
}
