//! Persona against script without sound: what she says, as a recogniser writes it, is understood by
//! the cloud's engine, and the call ends as the persona wants it to.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use trunkline_callee::Persona;
use trunkline_callee::persona::{Hear, Heard, Reply, Then};
use trunkline_dialogue::action::{self, Action, Event};
use trunkline_dialogue::{Script, expects, start, step};
use trunkline_nlu::Engine;
use trunkline_speech::ort_rt::model_dir;

/// How the recogniser wrote what personas said, where that differs from the text.
const SLIPS: [(&str, &str); 5] = [
    ("我就是。", "我就是"),
    ("没有，谢谢。", "没有谢谢"),
    ("是的，没问题。", "是的,没问题"),
    ("对，没错。", "对没错。"),
    ("知道怎么弄。", "知道怎么弄」。"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn answer<'a>(persona: &'a Persona, robot: &str) -> Option<&'a Reply> {
    let heard = Heard::new(robot);
    let rule = persona.talk.rules.iter().find(|rule| match &rule.hear {
        Hear::Any => true,
        Hear::OneOf(patterns) => patterns.iter().any(|pattern| pattern.is_in(&heard)),
    });
    rule.map(|rule| &rule.reply).or(persona.talk.otherwise.as_ref())
}

/// Lets the two talk; returns the outcome and how many times she spoke.
fn talk(name: &str, script: &Script, engine: &Engine, slips: bool) -> (String, usize) {
    let persona = Persona::load(&root().join(format!("deploy/personas/{name}.yaml"))).unwrap();
    let now = "2026-11-22T10:00:00".parse().unwrap();

    let example = |name: &str| match name {
        "org" => "Riverside Clinic",
        "name" => {
            if script.locale() == "zh-CN" {
                "王芳"
            } else {
                "Alex Morgan"
            }
        }
        "amount" => "1280.50",
        "due_date" => "2026-11-20",
        "doctor" => "Doctor Patel",
        "date" => "2026-11-27",
        _ => "15:00",
    };
    let required = script.document().vars.iter().filter(|(_, var)| var.required);
    let variables = required.map(|(name, _)| (name.clone(), example(name).to_owned())).collect();
    let mut state = start(script, &variables).unwrap();
    let mut event = Event::Answered;
    for said in 0..20 {
        let done = step(script, &state, &event, u32::try_from(said).unwrap() * 8);
        state = done.state;
        let mut robot = String::new();
        for action in &done.actions {
            match action {
                Action::Say(say) => robot.push_str(&say.text),
                Action::End { outcome } => return (outcome.code.clone(), said),
                Action::Transfer { .. } => return ("transferred".to_owned(), said),
                Action::Listen(_) | Action::Suppress => {}
            }
        }
        println!("robot ({}, {}): {robot}", done.node, done.because);
        let reply = answer(&persona, &robot).unwrap_or_else(|| panic!("{name} has no answer to {robot}"));
        if reply.then == Then::HangUp {
            return ("hung up".to_owned(), said);
        }
        let words = persona.utterances[reply.say.0[0]].text();
        let slip = SLIPS.iter().find(|(text, _)| slips && *text == words);
        let words = slip.map_or(words.clone(), |(_, written)| (*written).to_owned());
        println!("{name}: {words}");
        let expected = expects(script, &state);
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        let understood = engine.understand(script.version().as_str(), &words, &expected, now).unwrap();
        let entities = understood.entities.iter().map(|entity| action::Entity {
            kind: entity.kind.as_str().to_owned(),
            value: entity.value.normalised(),
            text: entity.text.clone(),
        });
        event = Event::Heard(action::Heard {
            text: words,
            intent: understood.decision.intent,
            score: understood.decision.score,
            entities: entities.collect(),
            sentiment: understood.sentiment,
            arousal: None,
        });
    }
    panic!("{name} and the robot talk for ever");
}

fn ends(name: &str, script: &str, outcome: &str, at_least: usize) {
    if !model_dir().join("e5-small-q4.bin").is_file() {
        assert!(std::env::var("TRUNKLINE_REQUIRE_MODELS").is_err(), "model e5-small-q4.bin is missing");
        println!("skipped: model e5-small-q4.bin missing, run deploy/get-models");
        return;
    }
    let text = std::fs::read_to_string(root().join(format!("shared/scripts/{script}.yaml"))).unwrap();
    let script = Script::load(&text).unwrap_or_else(|e| panic!("{e}"));
    let engine = Engine::load(&model_dir()).unwrap();
    trunkline_turn::prepare(&engine, &script).unwrap();
    for slips in [false, true] {
        let (found, said) = talk(name, &script, &engine, slips);
        assert_eq!(found, outcome, "{name}, slips: {slips}");
        assert!(said >= at_least, "{name} speaks {said} times");
    }
}

#[test]
fn zh_agrees_ends_agreed() {
    ends("zh-agrees", "repayment-reminder-zh", "agreed", 6);
}

#[test]
fn zh_interrupts_ends_agreed() {
    ends("zh-interrupts", "repayment-reminder-zh", "agreed", 5);
}

#[test]
fn zh_declines_ends_declined() {
    ends("zh-declines", "repayment-reminder-zh", "declined", 3);
}

#[test]
fn zh_optout_ends_opted_out() {
    ends("zh-optout", "repayment-reminder-zh", "opt_out", 2);
}

#[test]
fn en_agrees_ends_agreed() {
    ends("en-agrees", "appointment-confirmation-en", "agreed", 5);
}

#[test]
fn en_declines_ends_declined() {
    ends("en-declines", "appointment-confirmation-en", "declined", 3);
}

#[test]
fn en_optout_ends_opted_out() {
    ends("en-optout", "appointment-confirmation-en", "opt_out", 1);
}
