//! Calls from start to record, in virtual time, on the real sample script.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use proptest::prelude::*;
use trunkline_dialogue::action::{Entity, Event, Heard};
use trunkline_dialogue::{Script, State};
use trunkline_model::{CallId, Disposition};
use trunkline_wire::{
    ActionV1, CallRecord, DialCommand, ScriptRef, TurnEvent, TurnKind, TurnReply, TurnRequest,
    UnderstandingV1, VoiceV1,
};

use crate::{Call, CallConfig, Hearing, Line, Media, Output, Transcript};

mod alone;
mod answerer;
mod goes_on;
mod inbound;
mod transfer;
mod words;

const SCRIPT: &str = include_str!("../../../shared/scripts/repayment-reminder-zh.yaml");

fn script() -> Arc<Script> {
    Arc::new(Script::load(SCRIPT).unwrap())
}

fn command(script: &Script) -> DialCommand {
    DialCommand {
        call: CallId::from_u128(1),
        callee: "+8613800138000".parse().unwrap(),
        caller_id: None,
        script: ScriptRef { id: script.id().clone(), version: script.version().clone() },
        variables: script.example_variables(),
        before: "2026-11-22T11:00:00Z".parse().unwrap(),
        ring_s: 30,
        gate: None,
        words: Vec::new(),
        arms: std::collections::BTreeMap::new(),
    }
}

/// A call with a world around it that does at once what it is asked to.
struct World {
    call: Call,
    script: Arc<Script>,
    now: Instant,
    asked: Vec<TurnRequest>,
    played: Vec<String>,
    orders: Vec<&'static str>,
    record: Option<CallRecord>,
    /// What the person is told of the call.
    summary: Option<String>,
    playing: Option<u32>,
    pauses: u32,
    /// How much of a prompt is heard before it is held.
    heard: f32,
    /// The signs of listening that were to be weighed last.
    asides: Arc<[String]>,
    /// How the cloud understands; `None` when it is gone.
    cloud: Option<fn(&str) -> Option<&'static str>>,
    /// How the box understands.
    own: Option<fn(&str) -> Option<&'static str>>,
    /// The turns that the box was to take itself, and when.
    taken: Vec<(u32, Instant)>,
}

impl World {
    fn new() -> Self {
        Self::of(script())
    }

    fn of(script: Arc<Script>) -> Self {
        let command = command(&script);
        let now = Instant::now();
        let wall: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let mut world = Self {
            call: Call::new(command, CallConfig::default(), now, wall),
            script,
            now,
            asked: Vec::new(),
            played: Vec::new(),
            orders: Vec::new(),
            record: None,
            summary: None,
            playing: None,
            pauses: 0,
            heard: 0.4,
            asides: Arc::default(),
            cloud: Some(understand),
            own: Some(understand),
            taken: Vec::new(),
        };
        world.settle();
        world
    }

    fn answered() -> Self {
        let mut world = Self::new();
        world.call.handle_prepared(world.now, Ok(script()));
        world.settle();
        world.line(Line::Ringing);
        world.line(Line::Answered);
        world
    }

    fn line(&mut self, news: Line) {
        self.call.handle_line(self.now, news);
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(output) = self.call.poll_output() {
            match output {
                Output::Play { say, text } => {
                    self.played.push(text);
                    self.playing = Some(say);
                    let length = Duration::from_secs(4);
                    self.call.handle_media(self.now, Media::Started { say, at: self.now, length });
                }
                Output::Ask(request) => {
                    let reply = self.cloud.map(|cloud| answer(&self.script, &request, cloud));
                    self.asked.push(request);
                    if let Some(reply) = reply {
                        self.call.handle_reply(self.now, reply);
                    }
                }
                Output::TakeTurn(request) => {
                    self.taken.push((request.turn, self.now));
                    if let Some(own) = self.own {
                        self.call.handle_own_reply(self.now, answer(&self.script, &request, own));
                    }
                }
                Output::File => self.call.handle_filed(self.now, None, None),
                Output::Ended(record) => {
                    assert!(self.record.replace(*record).is_none(), "a second record");
                }
                Output::HangUp => {
                    self.orders.push("hang up");
                    self.call.handle_line(self.now, Line::Ended);
                }
                Output::Pause => {
                    self.orders.push("pause");
                    if let Some(say) = self.playing {
                        self.call.handle_media(self.now, Media::Held { say, heard: self.heard });
                    }
                }
                Output::Resume => self.orders.push("resume"),
                Output::Stop => self.orders.push("stop"),
                Output::ForgetTurn => self.orders.push("forget"),
                Output::Dial => self.orders.push("dial"),
                Output::Answer => self.orders.push("answer"),
                Output::Transfer { summary, .. } => {
                    self.summary = Some(summary);
                    self.orders.push("transfer");
                }
                Output::TransferOver => self.orders.push("let go"),
                Output::Recognize { asides, .. } => self.asides = asides,
                Output::Prepare
                | Output::Warm { .. }
                | Output::Expect { .. }
                | Output::DropRecognition { .. }
                | Output::Matched { .. }
                | Output::Progress(..)
                | Output::Turn(_) => {}
            }
        }
    }

    /// Lets the prompts that play come to their end.
    fn hear_out(&mut self) {
        while let Some(say) = self.playing.take() {
            self.now += Duration::from_secs(4);
            self.call.handle_media(self.now, Media::Finished { say });
            self.settle();
        }
    }

    /// The customer says `text`, and her turn ends `silence` after it.
    fn says(&mut self, text: &str) {
        self.says_for(text, Duration::from_secs(1));
    }

    /// The same with so much speech.
    fn says_for(&mut self, text: &str, length: Duration) {
        let start = self.now;
        self.call.handle_hearing(self.now, Hearing::SpeechStarted);
        self.settle();
        self.now += length;
        self.pauses += 1;
        let (pause, speech_end) = (self.pauses, self.now);
        self.now += Duration::from_millis(120);
        self.call.handle_hearing(self.now, Hearing::Paused { pause, speech_end });
        self.settle();
        self.now += Duration::from_millis(150);
        let transcript = Transcript { text: text.to_owned(), logprob: -0.2, ..Transcript::default() };
        self.call.handle_transcript(self.now, pause, transcript);
        self.settle();
        self.now += Duration::from_millis(80);
        self.call.handle_hearing(self.now, Hearing::TurnEnded { pause, speech_start: start, speech_end });
        self.settle();
    }

    /// Lets time pass, timer by timer.
    fn wait(&mut self, duration: Duration) {
        let until = self.now + duration;
        while let Some((due, _)) = self.call.poll_timeout().filter(|(due, _)| *due <= until) {
            self.now = self.now.max(due);
            self.call.handle_timeout(self.now);
            self.settle();
            self.hear_out();
        }
        self.now = self.now.max(until);
    }
}

fn understand(text: &str) -> Option<&'static str> {
    ["yes", "no", "opt_out", "will_pay", "ask_robot"].into_iter().find(|intent| text.contains(intent))
}

fn answer(script: &Script, request: &TurnRequest, cloud: fn(&str) -> Option<&'static str>) -> TurnReply {
    let TurnEvent::Heard { text, .. } = &request.event else {
        panic!("only what was heard goes to the cloud")
    };
    let state: State = serde_json::from_value(request.state.clone().unwrap()).unwrap();
    let entities = if text.contains("friday") {
        vec![Entity { kind: "date".into(), value: "2026-11-27".into(), text: "friday".into() }]
    } else {
        Vec::new()
    };
    let intent = cloud(text).map(str::to_owned);
    let heard = Heard {
        text: text.clone(),
        intent: intent.clone(),
        score: 0.9,
        entities,
        sentiment: 0.0,
        arousal: None,
    };
    let step = trunkline_dialogue::step(script, &state, &Event::Heard(heard), request.elapsed_s);
    TurnReply {
        next: trunkline_dialogue::next_prompts(script, &step.state),
        budget_ms: request.budget_ms,
        call: request.call,
        turn: request.turn,
        rev: request.rev,
        mode: request.mode,
        state: serde_json::to_value(&step.state).unwrap(),
        node: step.node,
        because: step.because,
        actions: step.actions.iter().map(ActionV1::from).collect(),
        understanding: UnderstandingV1 { intent, ..UnderstandingV1::default() },
        took_us: 900,
        pending_ms: 0,
        error: String::new(),
    }
}

#[test]
fn a_draft_is_asked_at_the_pause_and_confirmed_when_the_turn_is_over() {
    let mut world = World::answered();
    world.hear_out();
    world.says("yes");
    let modes: Vec<TurnKind> = world.asked.iter().map(|request| request.mode).collect();
    assert_eq!(modes, [TurnKind::Draft, TurnKind::Final]);
    assert_eq!(world.asked[0].rev, world.asked[1].rev);
    assert_eq!(world.played.len(), 2, "the opening and the answer: {:?}", world.played);
}

#[test]
fn the_record_says_where_the_time_of_a_turn_went() {
    let mut world = World::answered();
    world.hear_out();
    world.says("yes");
    world.hear_out();
    world.line(Line::PeerHungUp);
    let record = world.record.unwrap();
    assert_eq!(record.disposition, Disposition::CustomerHungUp);
    assert!(record.outcome.is_some());
    let latency = record.turns[1].latency.unwrap();
    assert!((latency.asr_start_ms - 120.0).abs() < 1.0, "{latency:?}");
    assert!((latency.asr_done_ms - 270.0).abs() < 1.0, "{latency:?}");
    assert!((latency.first_packet_ms - 350.0).abs() < 1.0, "{latency:?}");
}

#[test]
fn how_a_turn_was_spoken_goes_with_it_to_the_cloud_and_into_the_record() {
    let mut world = World::answered();
    world.hear_out();
    let start = world.now;
    world.call.handle_hearing(world.now, Hearing::SpeechStarted);
    world.now += Duration::from_secs(1);
    world.call.handle_hearing(world.now, Hearing::Paused { pause: 1, speech_end: world.now });
    let voice = VoiceV1 { arousal: 0.6, pitch_st: 3.0, ..VoiceV1::default() };
    let transcript = Transcript { text: "yes".into(), logprob: -0.1, voice: Some(voice) };
    world.call.handle_transcript(world.now, 1, transcript);
    let ended = Hearing::TurnEnded { pause: 1, speech_start: start, speech_end: world.now };
    world.call.handle_hearing(world.now, ended);
    world.settle();
    let TurnEvent::Heard { voice: sent, .. } = world.asked.last().unwrap().event.clone() else {
        panic!("nothing was heard")
    };
    assert_eq!(sent, Some(voice));
    world.hear_out();
    world.line(Line::PeerHungUp);
    let record = world.record.unwrap();
    assert_eq!(record.turns[1].customer.as_ref().unwrap().voice, Some(voice));
}

#[test]
fn a_customer_who_goes_on_voids_what_was_guessed() {
    let mut world = World::answered();
    world.hear_out();
    let start = world.now;
    world.call.handle_hearing(world.now, Hearing::SpeechStarted);
    world.call.handle_hearing(world.now, Hearing::Paused { pause: 1, speech_end: world.now });
    world.call.handle_transcript(
        world.now,
        1,
        Transcript { text: "no".into(), logprob: 0.0, ..Transcript::default() },
    );
    world.settle();
    world.call.handle_hearing(world.now, Hearing::Resumed { pause: 1 });
    world.settle();
    assert_eq!(world.played.len(), 1, "nothing is said on a guess");
    world.call.handle_hearing(world.now, Hearing::Paused { pause: 2, speech_end: world.now });
    world.call.handle_transcript(
        world.now,
        2,
        Transcript { text: "no wait yes".into(), logprob: 0.0, ..Transcript::default() },
    );
    let ended = Hearing::TurnEnded { pause: 2, speech_start: start, speech_end: world.now };
    world.call.handle_hearing(world.now, ended);
    world.settle();
    let texts: Vec<String> = world
        .asked
        .iter()
        .map(|request| match &request.event {
            TurnEvent::Heard { text, .. } => text.clone(),
            TurnEvent::Answered
            | TurnEvent::NoInput
            | TurnEvent::TransferFailed { .. }
            | TurnEvent::HungUp => String::new(),
        })
        .collect();
    assert_eq!(texts, ["no", "no wait yes", "no wait yes"]);
    assert!(world.asked[1].rev > world.asked[0].rev);
}

#[test]
fn a_box_that_cannot_take_a_turn_either_says_goodbye() {
    let mut world = World::answered();
    world.hear_out();
    (world.cloud, world.own) = (None, None);
    world.says("yes");
    world.wait(Duration::from_secs(20));
    let record = world.record.unwrap();
    assert_eq!(record.disposition, Disposition::CloudLost);
    assert!(world.asked.len() > 3, "asked only {} times", world.asked.len());
    assert_eq!(world.played.last(), Some(&trunkline_dialogue::goodbye(&world.script, &Default::default())));
    assert_eq!(record.turns.last().unwrap().robot[0].heard, 1.0);
}

#[test]
fn the_first_words_wait_for_no_cloud() {
    let mut world = World::new();
    world.cloud = None;
    world.call.handle_prepared(world.now, Ok(script()));
    world.settle();
    world.line(Line::Answered);
    assert_eq!(world.played.len(), 1);
    assert!(world.asked.is_empty());
}

#[test]
fn a_noise_over_a_prompt_holds_it_and_lets_it_go_on() {
    let mut world = World::answered();
    world.hear_out();
    world.says("yes");
    world.now += Duration::from_secs(1);
    world.call.handle_hearing(world.now, Hearing::SpeechStarted);
    world.settle();
    world.call.handle_hearing(world.now, Hearing::FalseStart);
    world.settle();
    assert_eq!(world.orders[world.orders.len() - 3..], ["pause", "forget", "resume"]);
}

#[test]
fn short_words_over_a_prompt_that_mean_nothing_do_not_take_the_floor_and_longer_ones_do() {
    for (text, ms, is_taken) in [("ramil", 400, false), ("no", 400, true), ("ramil ramil ramil", 1_600, true)]
    {
        let mut world = World::answered();
        world.hear_out();
        world.says("yes");
        world.now += Duration::from_secs(1);
        let (played, orders) = (world.played.len(), world.orders.len());
        world.says_for(text, Duration::from_millis(ms));
        assert_eq!(world.played.len() > played, is_taken, "{text}: {:?}", world.orders);
        assert_eq!(world.orders[orders..].contains(&"resume"), !is_taken, "{text}: {:?}", world.orders);
    }
}

#[test]
fn a_voice_of_some_length_over_a_prompt_takes_the_floor_though_no_word_of_it_was_understood() {
    for (ms, is_taken) in [(1_000, false), (1_600, true)] {
        let mut world = World::answered();
        world.hear_out();
        world.says("yes");
        world.now += Duration::from_secs(1);
        let (asked, orders) = (world.asked.len(), world.orders.len());
        world.says_for("", Duration::from_millis(ms));
        let asked: Vec<_> = world.asked[asked..].iter().map(|request| &request.event).collect();
        assert_eq!(
            matches!(asked[..], [TurnEvent::Heard { text, .. }] if text.is_empty()),
            is_taken,
            "{asked:?}"
        );
        assert_eq!(world.orders[orders..].contains(&"resume"), !is_taken, "{:?}", world.orders);
    }
    // Where nothing was broken into, what cannot be understood is no turn.
    let mut world = World::answered();
    world.hear_out();
    world.says_for("", Duration::from_millis(1_600));
    assert!(world.asked.is_empty());
}

#[test]
fn signs_of_listening_are_weighed_for_short_sounds_early_in_a_prompt() {
    for (ms, heard, are_weighed) in [(500, 0.4, true), (1_000, 0.4, false), (500, 0.8, false)] {
        let mut world = World::answered();
        world.hear_out();
        world.says("yes");
        world.now += Duration::from_secs(1);
        world.heard = heard;
        world.says_for("", Duration::from_millis(ms));
        assert_eq!(
            world.asides.contains(&"嗯".to_owned()),
            are_weighed,
            "{ms} ms, {heard}: {:?}",
            world.asides
        );
    }
}

#[test]
fn protected_words_are_said_to_their_end() {
    let mut world = World::answered();
    world.call.handle_hearing(world.now, Hearing::SpeechStarted);
    world.settle();
    assert!(!world.orders.contains(&"pause"), "the disclosure was cut off");
}

#[test]
fn a_silent_customer_is_asked_again_and_the_call_ends() {
    let mut world = World::answered();
    world.hear_out();
    world.wait(Duration::from_secs(120));
    let record = world.record.expect("the call goes on for ever");
    assert_eq!(record.disposition, Disposition::Completed);
    assert!(world.asked.is_empty(), "silence needs no understanding");
}

#[test]
fn a_customer_who_wants_no_more_calls_is_suppressed() {
    let mut world = World::answered();
    world.hear_out();
    world.says("opt_out");
    world.hear_out();
    let record = world.record.unwrap();
    assert!(record.suppress);
    assert_eq!(record.outcome.unwrap().code, "opt_out");
}

#[test]
fn a_refusal_counts_even_when_its_confirmation_is_talked_over() {
    let mut world = World::answered();
    world.hear_out();
    world.says("opt_out");
    world.now += Duration::from_secs(1);
    world.says("yes");
    world.hear_out();
    let record = world.record.unwrap();
    assert!(record.suppress);
    assert_eq!(record.outcome.unwrap().code, "opt_out");
}

#[test]
fn a_refusal_counts_even_when_the_customer_hangs_up_at_once() {
    let mut world = World::answered();
    world.hear_out();
    world.says("opt_out");
    world.line(Line::PeerHungUp);
    assert!(world.record.unwrap().suppress);
}

#[test]
fn what_the_line_refuses_is_filed_with_its_reason() {
    let mut world = World::new();
    world.call.handle_prepared(world.now, Ok(script()));
    world.settle();
    let cause = "the line is busy (SIP 486)".to_owned();
    world.line(Line::Failed { disposition: Disposition::Busy, cause: cause.clone(), sip_code: Some(486) });
    let record = world.record.unwrap();
    assert_eq!((record.disposition, record.cause, record.sip_code), (Disposition::Busy, cause, Some(486)));
    assert!(record.outcome.is_none());
}

#[test]
fn a_call_that_the_gate_does_not_permit_any_more_is_filed_as_nobody_called() {
    let mut world = World::new();
    world.call.handle_prepared(world.now, Ok(script()));
    world.call.handle_not_permitted(world.now, "not permitted: opted_out".to_owned());
    world.settle();
    let record = world.record.expect("a record");
    assert_eq!(record.disposition, Disposition::Cancelled);
    assert_eq!(
        (record.cause.as_str(), record.rang, record.answered),
        ("not permitted: opted_out", None, None)
    );
}

#[test]
fn a_call_that_cannot_be_prepared_in_time_is_not_dialled() {
    let mut world = World::new();
    world.now += Duration::from_secs(2 * 3_600);
    world.call.handle_prepared(world.now, Ok(script()));
    world.settle();
    assert_eq!(world.record.unwrap().disposition, Disposition::Expired);
    assert!(!world.orders.contains(&"dial"));
}

#[derive(Clone, Debug)]
enum Chance {
    Says(&'static str),
    Speech,
    FalseStart,
    Finish,
    Wait(u16),
    PeerHangsUp,
    Cancel,
    CloudGone,
    CloudBack,
    MediaLost,
}

fn chance() -> impl Strategy<Value = Chance> {
    prop_oneof![
        6 => prop::sample::select(vec!["yes", "no", "will_pay friday", "opt_out", "", "ask_robot", "xyz"])
            .prop_map(Chance::Says),
        2 => Just(Chance::Speech),
        2 => Just(Chance::FalseStart),
        6 => Just(Chance::Finish),
        4 => any::<u16>().prop_map(Chance::Wait),
        1 => Just(Chance::PeerHangsUp),
        1 => Just(Chance::Cancel),
        1 => Just(Chance::CloudGone),
        1 => Just(Chance::CloudBack),
        1 => Just(Chance::MediaLost),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happens in whatever order, there is one record, and the call does not go on for ever.
    #[test]
    fn every_call_ends_with_one_record(inbound: bool, chances in prop::collection::vec(chance(), 0..60)) {
        let mut world = if inbound { inbound::answered() } else { World::answered() };
        for chance in chances {
            match chance {
                Chance::Says(text) => world.says(text),
                Chance::Speech => world.call.handle_hearing(world.now, Hearing::SpeechStarted),
                Chance::FalseStart => world.call.handle_hearing(world.now, Hearing::FalseStart),
                Chance::Finish => world.hear_out(),
                Chance::Wait(ms) => world.wait(Duration::from_millis(u64::from(ms))),
                Chance::PeerHangsUp => world.line(Line::PeerHungUp),
                Chance::Cancel => world.call.handle_cancel(world.now),
                Chance::CloudGone => world.cloud = None,
                Chance::CloudBack => world.cloud = Some(understand),
                Chance::MediaLost => world.call.handle_media(world.now, Media::Lost),
            }
            world.settle();
        }
        // The ear always tells how a sound ended; then silence.
        world.call.handle_hearing(world.now, Hearing::FalseStart);
        world.settle();
        for _ in 0..40 {
            world.hear_out();
            world.wait(Duration::from_secs(60));
        }
        prop_assert!(world.record.is_some(), "no record: {:?}", world.call);
        prop_assert!(world.call.is_done());
    }
}
