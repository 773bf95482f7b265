//! A call of eleven turns whose broker is killed at every one of them in turn.
//!
//! Real are the cloud's process with its broker, the box's core of a call, its own understanding, TLS and
//! MQTT. The customer is a list of sentences, and sound takes no time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use trunkline_call::{Call, CallConfig, Hearing, Line, Media, Output, Transcript};
use trunkline_dialogue::Script;
use trunkline_nlu::Engine;
use trunkline_wire::{CallRecord, DialCommand, TurnReply, topic};

use crate::harness::{Cloud, FakeBox, Site};

const SCRIPT: &str = include_str!("../../../../shared/scripts/repayment-reminder-zh.yaml");
const TALK: [&str; 11] = [
    "你是机器人吗",
    "对，我是",
    "再说一遍",
    "你是谁",
    "可以",
    "下周五",
    "不对",
    "后天",
    "对的",
    "清楚",
    "没有了",
];
/// How many turns the cloud is away.
const AWAY: usize = 2;

/// The box, as far as a call goes.
struct Holder {
    site: Site,
    cloud: Option<Cloud>,
    fake: Option<FakeBox>,
    call: Call,
    command: DialCommand,
    script: Arc<Script>,
    floor: Engine,
    /// What the cloud has not acknowledged is sent again; here that is everything.
    journal: Vec<(&'static str, Value)>,
    playing: Option<u32>,
    /// How many of her sentences the customer has said.
    said: usize,
    answered_from: Vec<(u32, Duration)>,
    asked: Instant,
    record: Option<CallRecord>,
}

impl Holder {
    async fn dialled() -> Self {
        let site = Site::new();
        let scripts = site.dir.path().join("scripts");
        std::fs::create_dir(&scripts).unwrap();
        std::fs::write(scripts.join("script.yaml"), SCRIPT).unwrap();
        let config = site.config("127.0.0.1:0", "127.0.0.1:0");
        let all =
            config.lines().find(|line| line.trim_start().starts_with("dir = ") && line.contains("scripts"));
        let only = format!("dir = \"{}\"", scripts.display());
        site.write("cloud.toml", &config.replace(all.unwrap().trim(), &only));
        let cloud = site.start();
        let mut fake = FakeBox::connect(&site, &cloud, "tl-a", 1, 1).await;
        let request = json!({
            "callee": "+1 555 010 0199", "script_id": "repayment-reminder-zh",
            "variables": { "org": "和顺银行", "name": "王芳", "amount": "1280.50", "due_date": "2026-11-20" },
        });
        let (status, call) = cloud.post("/v1/calls", &request).await;
        assert!(status.is_success(), "{call:#}");
        let command = fake.dialled().await;
        let script = Arc::new(Script::load(SCRIPT).unwrap());
        let floor = Engine::floor_only();
        trunkline_turn::prepare(&floor, &script).unwrap();
        let call = Call::new(command.clone(), CallConfig::default(), Instant::now(), Timestamp::now());
        Self {
            site,
            cloud: Some(cloud),
            fake: Some(fake),
            call,
            command,
            script,
            floor,
            journal: Vec::new(),
            playing: None,
            said: 0,
            answered_from: Vec::new(),
            asked: Instant::now(),
            record: None,
        }
    }

    async fn settle(&mut self) {
        while let Some(output) = self.call.poll_output() {
            let now = Instant::now();
            match output {
                Output::Prepare => self.call.handle_prepared(now, Ok(Arc::clone(&self.script))),
                Output::Dial => {
                    self.call.handle_line(now, Line::Ringing);
                    self.call.handle_line(now, Line::Answered);
                }
                Output::HangUp => self.call.handle_line(now, Line::Ended),
                Output::Play { say, .. } => {
                    self.playing = Some(say);
                    let length = Duration::from_millis(10);
                    self.call.handle_media(now, Media::Started { say, at: now, length });
                }
                Output::Ask(request) => {
                    if let Some(fake) = &self.fake {
                        fake.ask(&request.rev.to_string(), &request).await;
                    }
                }
                Output::TakeTurn(request) => {
                    self.answered_from.push((request.turn, now - self.asked));
                    let today = jiff::Zoned::now().datetime();
                    let variables = &self.command.variables;
                    let reply = trunkline_turn::answer(&self.floor, &self.script, variables, &request, today);
                    self.call.handle_own_reply(Instant::now(), reply);
                }
                Output::Turn(turn) => {
                    self.event("call.turn", json!({ "call": self.command.call, "turn": turn })).await;
                }
                Output::File => self.call.handle_filed(now, None, None),
                Output::Ended(record) => {
                    self.event("call.ended", serde_json::to_value(&record).unwrap()).await;
                    assert!(self.record.replace(*record).is_none(), "a second record");
                }
                Output::Pause
                | Output::Resume
                | Output::Stop
                | Output::Warm { .. }
                | Output::Expect { .. }
                | Output::ForgetTurn
                | Output::Recognize { .. }
                | Output::DropRecognition { .. }
                | Output::Matched { .. }
                | Output::Answer
                | Output::Transfer { .. }
                | Output::TransferOver
                | Output::Progress(..) => {}
            }
        }
    }

    async fn event(&mut self, kind: &'static str, body: Value) {
        self.journal.push((kind, body));
        let (seq, (kind, body)) = (self.journal.len() as u64, self.journal.last().unwrap());
        if let Some(fake) = &self.fake {
            fake.event(seq, kind, body).await;
        }
    }

    /// SIGKILL, as when memory is short: broker, database and understanding are gone at once.
    fn kill(&mut self) {
        self.cloud.take().unwrap().kill();
        self.fake = None;
    }

    async fn revive(&mut self) {
        let cloud = self.site.start();
        let fake = FakeBox::connect(&self.site, &cloud, "tl-a", 2, 1).await;
        for (at, (kind, body)) in self.journal.iter().enumerate() {
            fake.event(at as u64 + 1, kind, body).await;
        }
        (self.cloud, self.fake) = (Some(cloud), Some(fake));
    }

    async fn say(&mut self, text: &str) {
        let (pause, start) = (self.said as u32 + 1, Instant::now());
        self.said += 1;
        self.asked = start;
        self.call.handle_hearing(start, Hearing::SpeechStarted);
        self.call.handle_hearing(start, Hearing::Paused { pause, speech_end: start });
        let transcript = Transcript { text: text.to_owned(), logprob: -0.2, ..Transcript::default() };
        self.call.handle_transcript(Instant::now(), pause, transcript);
        self.settle().await;
        let ended = Hearing::TurnEnded { pause, speech_start: start, speech_end: start };
        self.call.handle_hearing(Instant::now(), ended);
        self.settle().await;
    }

    /// Holds the call to its end; the cloud is away from the customer's turn `killed_at` on.
    async fn hold(&mut self, killed_at: usize) {
        self.settle().await;
        let mut answered = 0;
        while self.record.is_none() {
            if let Some(say) = self.playing.take() {
                self.call.handle_media(Instant::now(), Media::Finished { say });
                answered = if self.playing.is_none() { self.said } else { answered };
            } else if answered == self.said && self.said < TALK.len() {
                if self.said == killed_at {
                    self.kill();
                }
                if self.said == killed_at + AWAY {
                    self.revive().await;
                }
                self.say(TALK[self.said]).await;
            }
            self.settle().await;
            let wait = Duration::from_millis(if self.playing.is_some() { 0 } else { 10 });
            match &mut self.fake {
                Some(fake) => {
                    let on = topic::turn_res(&fake.id);
                    if let Some((reply, _)) = fake.heard_within::<TurnReply>(&on, wait).await {
                        self.call.handle_reply(Instant::now(), reply.body);
                    }
                }
                None => tokio::time::sleep(wait).await,
            }
            self.call.handle_timeout(Instant::now());
            self.settle().await;
        }
        if self.cloud.is_none() {
            self.revive().await;
        }
    }
}

/// What was said and decided, turn by turn.
fn path(turns: &Value) -> Vec<String> {
    let line = |turn: &Value| {
        let robot: Vec<&str> =
            turn["robot"].as_array().into_iter().flatten().filter_map(|said| said["text"].as_str()).collect();
        format!("{} {} {} {robot:?}", turn["turn"], turn["customer"]["text"], turn["decision"]["node"])
    };
    turns.as_array().unwrap().iter().map(line).collect()
}

/// Returns what the cloud has of the call in the end, and when the box took which turn.
async fn called(killed_at: usize) -> (Value, Vec<(u32, Duration)>) {
    let mut holder = Holder::dialled().await;
    holder.hold(killed_at).await;
    let id = holder.command.call.to_string();
    let cloud = holder.cloud.as_ref().unwrap();
    // Looked at, too, some seconds after the end.
    let call = cloud.call_when(&id, "inspected", |call| call["inspection"].is_object()).await;
    (call, holder.answered_from)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_on_from_the_same_place_whichever_turn_the_broker_is_killed_at() {
    let (whole, taken) = called(usize::MAX - AWAY).await;
    let expected = path(&whole["turns"]);
    assert_eq!(
        (whole["outcome"]["code"].as_str(), expected.len()),
        (Some("agreed"), TALK.len() + 1),
        "{expected:#?}"
    );
    assert!(taken.is_empty(), "the cloud was there: {taken:?}");
    assert!(
        whole["inspection"]["score"].is_u64() && whole["listen"].is_boolean(),
        "{:#}",
        whole["inspection"]
    );
    for killed_at in 0..TALK.len() {
        let (call, taken) = called(killed_at).await;
        assert_eq!(path(&call["turns"]), expected, "killed at turn {}", killed_at + 1);
        assert_eq!(call["outcome"], whole["outcome"]);
        assert_eq!(call["slots"], whole["slots"]);
        let away: Vec<u32> =
            (killed_at..(killed_at + AWAY).min(TALK.len())).map(|at| at as u32 + 1).collect();
        let turns: Vec<u32> = taken.iter().map(|(turn, _)| *turn).collect();
        assert_eq!(turns, away, "killed at turn {}", killed_at + 1);
        for turn in call["turns"].as_array().unwrap().iter().filter(|turn| turn["customer"].is_object()) {
            let number = u32::try_from(turn["turn"].as_u64().unwrap()).unwrap();
            assert_eq!(turn["decision"]["local"] == true, away.contains(&number), "turn {number}: {turn:#}");
        }
        println!("killed at turn {}: {taken:?}", killed_at + 1);
    }
}
