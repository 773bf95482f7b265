//! The interpreter from outside: what every script inherits, and what no event sequence can break.

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail it")]

use std::time::Duration;

use proptest::prelude::*;
use trunkline_dialogue::action::Waiting;
use trunkline_dialogue::{
    Action, BargeIn, Endpoint, Entity, Event, Heard, Script, State, Step, Variables, expects, outcome_now,
    start, step,
};

const ORDER: &str = r#"
schema: trunkline/script/1
id: order-en
locale: en-GB
purpose: service
voice: {name: bf_emma}
vars:
  org: {type: text, required: true, example: Acme}
  note: {type: text, default: nothing special}
slots:
  day: {type: date}
  hour: {type: time}
  story: {type: text}
  amount: {type: money}
intents:
  late: {examples: [it is late, where is it]}
  faq: {examples: [tell me about fees]}
nodes:
  - id: open
    say: "This is the automated assistant of {org}, and this call is recorded. Shall we deliver it?"
    again: "Shall we deliver it?"
    barge_in: {off_until: this call is recorded}
    listen: {endpoint: short, no_input: 3s, hot_words: [deliver, "{org}"]}
    on:
      "yes": when
      "no": {then: sad, say: I see.}
      late: when
      no_input: {say: [Hello?, Still there?], max: 2, then: gone}
      no_match: {max: 1, then: gone}
  - id: when
    say: "On which day, and at what time?"
    fill: {day: date, hour: "time?"}
    on: {filled: sure, late: {fill: {day: date}, then: story}, any: story}
  - id: sure
    say: "So {slot.day}?"
    fill: {day: date}
    on: {"yes": check, "no": when, filled: sure}
  - id: check
    branch: [{when: slot.hour >= "12:00", then: afternoon}, {when: not slot.hour, then: story}]
    else: done
  - {id: afternoon, say: In the afternoon., next: done}
  - id: story
    say: Tell me what happened.
    listen: {endpoint: long}
    fill: {story: text}
    on: {filled: done}
  - id: fees
    say: "Fees are low. All right?"
    on: {"yes": return, "no": return}
  - {id: sad, say: That is a pity. Goodbye., end: declined}
  - {id: done, say: Thank you. Goodbye., end: agreed}
  - {id: gone, say: Goodbye., end: auto}
  - {id: nobody, say: Nobody is free. Goodbye., end: auto}
digressions: [{on: faq, visit: fees}]
handoff: {when: no_match >= 2, to: desk, timeout: 15s, fail: nobody}
outcomes:
  - {code: agreed, label: Wants it, when: slot.day}
  - {code: declined}
  - {code: transferred}
  - {code: opt_out}
  - {code: quiet, when: turns == 0}
  - {code: open, when: "true"}
limits: {turns: 12}
"#;

struct Call {
    script: Script,
    state: State,
    seconds: u32,
}

impl Call {
    fn answered() -> (Self, Step<State>) {
        let script = Script::load(ORDER).unwrap_or_else(|e| panic!("{e}"));
        let vars = Variables::from([("org".to_owned(), "Acme".to_owned())]);
        let state = start(&script, &vars).unwrap();
        let mut call = Self { script, state, seconds: 0 };
        let step = call.take(&Event::Answered);
        (call, step)
    }

    fn take(&mut self, event: &Event) -> Step<State> {
        self.seconds += 5;
        let step = step(&self.script, &self.state, event, self.seconds);
        self.state = step.state.clone();
        step
    }

    fn hear(&mut self, intent: &str) -> Step<State> {
        self.hear_with(intent, &[])
    }

    fn hear_with(&mut self, intent: &str, entities: &[(&str, &str)]) -> Step<State> {
        self.take(&heard(intent, intent, entities))
    }
}

fn heard(text: &str, intent: &str, entities: &[(&str, &str)]) -> Event {
    let entities = entities
        .iter()
        .map(|(kind, value)| Entity {
            kind: (*kind).to_owned(),
            value: (*value).to_owned(),
            text: (*value).to_owned(),
        })
        .collect();
    let intent = Some(intent.to_owned()).filter(|i| !i.is_empty());
    Event::Heard(Heard { text: text.to_owned(), intent, score: 0.9, entities, sentiment: 0.0, arousal: None })
}

fn said(step: &Step<State>) -> Vec<&str> {
    step.actions
        .iter()
        .filter_map(|a| match a {
            Action::Say(say) => Some(say.text.as_str()),
            Action::Listen(_) | Action::Transfer { .. } | Action::Suppress | Action::End { .. } => None,
        })
        .collect()
}

fn ended(step: &Step<State>) -> Option<&str> {
    step.actions.iter().find_map(|a| match a {
        Action::End { outcome } => Some(outcome.code.as_str()),
        Action::Say(_) | Action::Listen(_) | Action::Transfer { .. } | Action::Suppress => None,
    })
}

const OPENING: &str =
    "This is the automated assistant of Acme, and this call is recorded. Shall we deliver it?";

#[test]
fn the_robot_speaks_first_and_protects_what_must_be_heard() {
    let (call, step) = Call::answered();
    let Action::Say(say) = &step.actions[0] else { panic!("{step:?}") };
    assert_eq!(say.text, OPENING);
    let until = "This is the automated assistant of Acme, and this call is recorded";
    assert_eq!(say.barge_in, BargeIn::OffUntil { chars: until.chars().count() });
    let Action::Listen(listen) = &step.actions[1] else { panic!("{step:?}") };
    assert_eq!(listen.no_input, Duration::from_secs(3));
    assert_eq!(listen.endpoint, Endpoint::Short);
    assert_eq!(listen.hot_words, ["deliver", "Acme"]);
    assert_eq!(listen.expect, ["late", "no", "yes"]);
    assert_eq!(expects(&call.script, &call.state), listen.expect);
    assert_eq!((step.node.as_str(), step.because.as_str()), ("open", "answered"));
}

#[test]
fn silence_climbs_the_ladder_and_a_call_in_which_nobody_spoke_says_so() {
    let (mut call, _) = Call::answered();
    assert_eq!(said(&call.take(&Event::NoInput)), ["Hello?"]);
    let second = call.take(&Event::NoInput);
    assert_eq!((said(&second), second.because.as_str()), (vec!["Still there?"], "no input 2 of 2"));
    let third = call.take(&Event::NoInput);
    assert_eq!((said(&third), ended(&third)), (vec!["Goodbye."], Some("quiet")));
}

#[test]
fn what_is_not_understood_is_asked_again_in_short_and_then_handed_over() {
    let (mut call, _) = Call::answered();
    let first = call.hear("");
    assert_eq!((said(&first), first.because.as_str()), (vec!["Shall we deliver it?"], "no match 1 of 1"));
    let second = call.hear("");
    assert_eq!(second.because, "hand-over rule");
    let transfer = Action::Transfer {
        to: "desk".to_owned(),
        timeout: Duration::from_secs(15),
        waiting: Waiting::default(),
        whisper: String::new(),
    };
    assert_eq!(second.actions.last(), Some(&transfer));
    assert!(call.state.is_transferring());
    assert!(call.take(&Event::NoInput).actions.is_empty(), "a person is being fetched");
    assert_eq!(ended(&call.take(&Event::HungUp)), Some("transferred"));
}

#[test]
fn a_hand_over_that_fails_goes_where_the_script_says() {
    let (mut call, _) = Call::answered();
    call.hear("ask_human");
    let step = call.take(&Event::TransferFailed { reason: "busy".to_owned() });
    assert_eq!((said(&step), ended(&step)), (vec!["Nobody is free. Goodbye."], Some("open")));
    assert_eq!(step.because, "hand-over failed: busy");
}

#[test]
fn every_script_can_repeat_wait_and_say_what_it_is() {
    let (mut call, _) = Call::answered();
    assert_eq!(said(&call.hear("repeat")), [OPENING]);
    let robot = call.hear("ask_robot");
    assert!(said(&robot)[0].contains("automated assistant"));
    assert_eq!(said(&robot)[1], "Shall we deliver it?");
    assert_eq!(said(&call.hear("repeat")), said(&robot), "what was said last is repeated, not the node");
    assert!(said(&call.hear("who_are_you"))[0].contains("assistant of Acme"));
    let wait = call.hear("wait");
    let Some(Action::Listen(listen)) = wait.actions.last() else { panic!("{wait:?}") };
    assert_eq!(listen.no_input, Duration::from_secs(20));
    assert_eq!(call.state.node(), "open");
    assert_eq!(ended(&call.hear("busy")), Some("open"));
}

#[test]
fn who_wants_no_more_calls_is_suppressed_from_any_state() {
    let (mut call, _) = Call::answered();
    for intents in [&[][..], &["yes"], &["ask_human"], &["no"], &["faq"]] {
        let (mut call, _) = Call::answered();
        for intent in intents {
            call.hear(intent);
        }
        let step = call.hear("opt_out");
        assert!(said(&step)[0].contains("off the list"), "after {intents:?}");
        assert_eq!(step.actions[1], Action::Suppress);
        assert_eq!(ended(&step), Some("opt_out"));
        assert_eq!(call.hear("opt_out").actions.len(), 1, "once is enough");
    }
    call.take(&Event::HungUp);
    assert_eq!(ended(&call.hear("opt_out")), Some("opt_out"), "even behind the end");
}

#[test]
fn an_entity_fills_the_slot_and_leads_on() {
    let (mut call, _) = Call::answered();
    call.hear("yes");
    let step = call.hear_with("", &[("date", "2026-12-24"), ("time", "15:00")]);
    assert_eq!((said(&step), step.because.as_str()), (vec!["So 2026-12-24?"], "filled day, hour"));
    let same = call.hear_with("yes", &[("date", "2026-12-24")]);
    assert_eq!(said(&same), ["In the afternoon.", "Thank you. Goodbye."], "a yes with the same day is a yes");
    assert_eq!(ended(&same), Some("agreed"));
}

#[test]
fn a_no_with_a_new_value_is_the_new_value() {
    let (mut call, _) = Call::answered();
    call.hear("yes");
    call.hear_with("", &[("date", "2026-12-24")]);
    assert_eq!(said(&call.hear_with("no", &[("date", "2026-12-27")])), ["So 2026-12-27?"]);
    assert_eq!(said(&call.hear("no")), ["On which day, and at what time?"]);
}

#[test]
fn an_intent_of_its_own_takes_no_value_of_the_node_along() {
    let (mut call, _) = Call::answered();
    call.hear("yes");
    call.hear_with("late", &[("time", "09:00")]);
    assert!(call.state.slots().is_empty(), "the edge on `late` keeps days only: {:?}", call.state.slots());
    assert_eq!(call.state.node(), "story");
}

fn weighed(text: &str, intent: &str, score: f32, words: &str, date: &str) -> Event {
    let entity = Entity { kind: "date".to_owned(), value: date.to_owned(), text: words.to_owned() };
    Event::Heard(Heard {
        text: text.to_owned(),
        intent: Some(intent.to_owned()),
        score,
        entities: vec![entity],
        sentiment: 0.0,
        arousal: None,
    })
}

#[test]
fn a_weak_guess_at_an_intent_loses_to_a_value_that_answers_the_question() {
    for (score, text) in [(0.38, "next Friday"), (0.84, "next Friday"), (0.49, "it comes on next Friday")] {
        let (mut call, _) = Call::answered();
        call.hear("yes");
        let step = call.take(&weighed(text, "late", score, "next Friday", "2026-12-25"));
        assert_eq!((step.because.as_str(), step.node.as_str()), ("filled day", "sure"), "{text} {score}");
        assert_eq!(call.state.slots()["day"], "2026-12-25");
    }
}

#[test]
fn a_strong_intent_beats_a_value_in_the_same_words_and_takes_it_where_its_own_edge_says() {
    for (score, text) in [(0.5, "it was late, it came on next Friday"), (0.85, "next Friday")] {
        let (mut call, _) = Call::answered();
        call.hear("yes");
        let step = call.take(&weighed(text, "late", score, "next Friday", "2026-12-25"));
        assert_eq!((step.because.as_str(), step.node.as_str()), ("intent late", "story"), "{text} {score}");
    }
}

#[test]
fn a_weak_intent_counts_when_nothing_else_was_said() {
    let (mut call, _) = Call::answered();
    call.hear("yes");
    let late = Heard {
        text: "hm late".to_owned(),
        intent: Some("late".to_owned()),
        score: 0.31,
        ..Heard::default()
    };
    assert_eq!(call.take(&Event::Heard(late)).because, "intent late");
}

#[test]
fn a_digression_is_followed_when_it_is_meant_and_not_when_a_value_was_given() {
    for (score, because) in [(0.9, "digression faq"), (0.35, "filled day")] {
        let (mut call, _) = Call::answered();
        call.hear("yes");
        let step = call.take(&weighed("on Friday", "faq", score, "Friday", "2026-12-25"));
        assert_eq!(step.because, because);
    }
}

#[test]
fn what_does_not_suit_the_slot_is_no_answer() {
    let (mut call, _) = Call::answered();
    call.hear("yes");
    let step = call.take(&heard("", "", &[("date", "soon"), ("money", "12"), ("date", "")]));
    assert_eq!(step.because, "no match 1 of 2");
    let step = call.take(&heard("well you see", "", &[]));
    assert_eq!((step.because.as_str(), step.node.as_str()), ("any answer", "story"));
    call.take(&heard("the box\nwas open", "", &[]));
    assert_eq!(call.state.slots()["story"], "the boxwas open");
    assert!(call.state.is_ended());
}

#[test]
fn a_visit_comes_back_to_the_question() {
    let (mut call, _) = Call::answered();
    assert_eq!(said(&call.hear("faq")), ["Fees are low. All right?"]);
    let step = call.hear("yes");
    assert_eq!((said(&step), step.node.as_str()), (vec!["Shall we deliver it?"], "open"));
}

#[test]
fn visits_nest_only_so_deep() {
    let (mut call, _) = Call::answered();
    for _ in 0..8 {
        call.hear("faq");
    }
    assert!(serde_json::to_value(&call.state).unwrap()["stack"].as_array().unwrap().len() <= 4);
}

#[test]
fn a_call_that_goes_in_circles_is_ended_politely() {
    let (mut call, _) = Call::answered();
    let last = (0..20).map(|_| call.hear("repeat")).find(|s| ended(s).is_some()).unwrap();
    assert_eq!(last.because, "limit of 12 turns");
    assert!(said(&last)[0].contains("Goodbye"));
    assert_eq!(call.state.outcome().unwrap().code, "open");
    assert_eq!(ended(&call.hear("yes")), Some("open"), "what is over stays over");
}

#[test]
fn who_hangs_up_gets_the_outcome_that_the_rules_give() {
    let (mut call, _) = Call::answered();
    assert_eq!(outcome_now(&call.script, &call.state, 3).code, "quiet");
    call.hear("yes");
    call.hear_with("", &[("date", "2026-12-24")]);
    let step = call.take(&Event::HungUp);
    assert_eq!(step.actions.len(), 1);
    assert_eq!(ended(&step), Some("agreed"));
    assert_eq!(call.state.outcome().unwrap().label, "Wants it");
}

#[test]
fn a_state_travels_as_small_json_and_another_version_is_refused() {
    let (mut call, _) = Call::answered();
    call.hear("yes");
    call.hear_with("", &[("date", "2026-12-24")]);
    let json = serde_json::to_string(&call.state).unwrap();
    assert!(json.len() < 2048, "{} bytes", json.len());
    assert_eq!(serde_json::from_str::<State>(&json).unwrap(), call.state);
    insta::assert_snapshot!(json);
    let newer = json.replace("\"v\":1", "\"v\":2");
    let error = serde_json::from_str::<State>(&newer).unwrap_err().to_string();
    assert!(error.contains("version 2 cannot be read here"), "{error}");
}

#[test]
fn a_state_of_another_script_ends_politely() {
    let (call, _) = Call::answered();
    let json = serde_json::to_string(&call.state).unwrap().replace("\"open\"", "\"renamed\"");
    let state: State = serde_json::from_str(&json).unwrap();
    let step = step(&call.script, &state, &heard("yes", "yes", &[]), 9);
    assert!(said(&step)[0].contains("something went wrong on our side"));
    assert_eq!(ended(&step), Some("open"));
}

#[test]
fn wrong_variables_are_all_named_and_their_values_are_not() {
    let script = Script::load(ORDER).unwrap();
    let vars = Variables::from([("orgg".to_owned(), "x".to_owned()), ("note".to_owned(), "a\nb".to_owned())]);
    let errors: Vec<String> = start(&script, &vars).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "variable `note` is no text: it must not hold line breaks or control characters",
            "variable `orgg` is unknown: did you mean `org`?",
            "variable `org` is missing: give a text",
        ]
    );
}

fn any_event() -> impl Strategy<Value = Event> {
    let intents = prop::sample::select(vec![
        "",
        "yes",
        "no",
        "repeat",
        "wait",
        "busy",
        "who_are_you",
        "ask_robot",
        "ask_human",
        "late",
        "faq",
        "wrong_party",
        "will_pay",
        "already_paid",
        "hardship",
        "dispute",
        "refuse",
        "ask_how",
        "reschedule",
        "cancel_visit",
        "need_help",
        "what_to_bring",
        "ask_where",
        "not_available",
        "no such intent",
    ]);
    let kinds = prop::sample::select(vec!["date", "time", "money", "text", "digits", "nothing"]);
    let values = prop_oneof![Just("2026-12-24".to_owned()), Just("10:30".to_owned()), any::<String>()];
    let entities = prop::collection::vec((kinds, values), 0..3);
    let turn = (any::<String>(), intents, entities).prop_map(|(text, intent, entities)| {
        let entities: Vec<(&str, &str)> = entities.iter().map(|(k, v)| (*k, v.as_str())).collect();
        heard(&text, intent, &entities)
    });
    prop_oneof![
        10 => turn,
        2 => Just(Event::NoInput),
        1 => Just(Event::Answered),
        1 => Just(heard("stop calling", "opt_out", &[])),
        2 => any::<String>().prop_map(|reason| Event::TransferFailed { reason }),
        1 => Just(Event::HungUp),
    ]
}

fn scripts() -> &'static [Script] {
    static SCRIPTS: std::sync::OnceLock<Vec<Script>> = std::sync::OnceLock::new();
    SCRIPTS.get_or_init(|| {
        vec![
            Script::load(ORDER).unwrap(),
            Script::load(include_str!("../../scripts/repayment-reminder-zh.yaml")).unwrap(),
            Script::load(include_str!("../../scripts/appointment-confirmation-en.yaml")).unwrap(),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_events_breaks_a_call(
        which in 0..3_usize,
        events in prop::collection::vec(any_event(), 0..120),
        elapsed: u32,
    ) {
        let script = &scripts()[which];
        let mut state = start(script, &script.example_variables()).unwrap();
        for event in &events {
            let before = state.clone();
            let taken = step(script, &state, event, elapsed);
            prop_assert_eq!(&step(script, &state, event, elapsed), &taken, "the same again");
            let json = serde_json::to_string(&taken.state).unwrap();
            prop_assert!(json.len() < 8_192, "{} bytes", json.len());
            prop_assert_eq!(&serde_json::from_str::<State>(&json).unwrap(), &taken.state);
            prop_assert_eq!(taken.state.is_ended(), taken.state.outcome().is_some());
            prop_assert!(!before.is_ended() || taken.state.is_ended(), "what is over stays over");
            // A robot that neither listens, hands over nor hangs up would hold the line for ever.
            let goes_on = taken.state.is_transferring()
                || ended(&taken).is_some()
                || matches!(taken.actions.last(), Some(Action::Listen(_)));
            prop_assert!(goes_on, "{:?}", taken);
            state = taken.state;
        }
        let outcome = outcome_now(script, &state, elapsed);
        let known = script.document().outcomes.iter().any(|rule| *rule.code == outcome.code);
        prop_assert!(known, "{outcome:?}");
    }

    #[test]
    fn a_customer_who_never_hangs_up_is_let_go(
        which in 0..3_usize,
        events in prop::collection::vec(any_event(), 1..20),
    ) {
        let script = &scripts()[which];
        let mut state = start(script, &script.example_variables()).unwrap();
        let failed = Event::TransferFailed { reason: "busy".to_owned() };
        for i in 0..60 {
            // While a person is fetched, only the line's news moves the call.
            let event = if state.is_transferring() { &failed } else { &events[i % events.len()] };
            state = step(script, &state, event, 1).state;
        }
        prop_assert!(state.is_ended());
    }
}

fn any_state() -> impl Strategy<Value = State> {
    let name = || {
        prop::sample::select(vec![
            "",
            "open",
            "when",
            "check",
            "afternoon",
            "done",
            "story",
            "handoff",
            "fees",
            "thanks",
            "remind",
            "confirm",
            "visit",
            "no such node",
        ])
    };
    let phase = prop::sample::select(vec!["ready", "asking", "transferring", "ended"]);
    let stack = prop::collection::vec(name(), 0..9);
    let numbers = prop::collection::vec(any::<u16>(), 4);
    (name(), phase, stack, numbers, any::<(u8, u8)>(), any::<String>()).prop_map(
        |(node, phase, stack, numbers, (a, b), text)| {
            let json = serde_json::json!({
                "v": 1, "node": node, "phase": phase, "stack": stack,
                "vars": { "org": text, "unknown": text }, "slots": { "day": text, "unknown": text },
                "turns": numbers[0], "steps": numbers[1], "no_match": numbers[2], "no_input": numbers[3],
                "rungs": { "no_input": a, "no_match": b }, "last": [text], "heard": [text],
            });
            serde_json::from_value(json).unwrap()
        },
    )
}

proptest! {
    #[test]
    fn no_state_from_the_wire_panics_it(which in 0..3_usize, state in any_state(), event in any_event()) {
        let taken = step(&scripts()[which], &state, &event, u32::MAX);
        prop_assert_eq!(taken.state.is_ended(), taken.state.outcome().is_some());
        let _ = expects(&scripts()[which], &state);
    }
}
