//! The personas that come with the product: that they parse, and that they fit the sample scripts.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use trunkline_callee::Persona;
use trunkline_callee::persona::{Hear, Heard, Rule, Utterance};
use trunkline_dialogue::{Script, testing};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn persona(name: &str) -> Persona {
    Persona::load(&root().join(format!("deploy/personas/{name}.yaml"))).unwrap_or_else(|e| panic!("{e}"))
}

/// Returns the conversation that a test inside a script describes: (robot, customer) in order.
fn conversation(script: &str, test: &str) -> Vec<(String, Option<String>)> {
    let text = std::fs::read_to_string(root().join(format!("shared/scripts/{script}.yaml"))).unwrap();
    let script = Script::load(&text).unwrap_or_else(|e| panic!("{e}"));
    let results = testing::run_given(&script);
    let result =
        results.into_iter().find(|result| result.name == test).unwrap_or_else(|| panic!("no test `{test}`"));
    let mut turns: Vec<(String, Option<String>)> = Vec::new();
    for line in result.transcript {
        if let Some(said) = line.strip_prefix("robot: ") {
            match turns.last_mut() {
                Some((robot, None)) => robot.push_str(&format!(" {said}")),
                Some((_, Some(_))) | None => turns.push((said.to_owned(), None)),
            }
        } else if let Some(said) = line.strip_prefix("customer: ")
            && let Some((_, customer)) = turns.last_mut()
        {
            *customer = Some(said.to_owned());
        }
    }
    turns
}

fn rule<'a>(persona: &'a Persona, heard: &str) -> Option<&'a Rule> {
    let heard = Heard::new(heard);
    persona.talk.rules.iter().find(|rule| match &rule.hear {
        Hear::Any => true,
        Hear::OneOf(patterns) => patterns.iter().any(|pattern| pattern.is_in(&heard)),
    })
}

fn says(persona: &Persona, rule: &Rule) -> Vec<String> {
    rule.reply.say.0.iter().map(|way| Utterance::text(&persona.utterances[*way])).collect()
}

#[test]
fn every_persona_parses_and_none_has_a_robots_voice() {
    let mut count = 0;
    for entry in std::fs::read_dir(root().join("deploy/personas")).unwrap() {
        let path = entry.unwrap().path();
        let persona = Persona::load(&path).unwrap_or_else(|e| panic!("{e}"));
        assert!(!["zf_xiaoxiao", "af_heart", "bf_emma"].contains(&persona.voice.name.as_str()));
        count += 1;
    }
    assert!(count >= 13, "{count}");
}

/// Each prompt on the way is answered by a rule of its own, in the words that are expected there.
fn fits(name: &str, script: &str, test: &str, expected: &[&str]) {
    let persona = persona(name);
    let turns = conversation(script, test);
    let answered: Vec<_> = turns.iter().filter(|(_, customer)| customer.is_some()).collect();
    assert_eq!(answered.len(), expected.len(), "{turns:#?}");
    for ((robot, _), part) in answered.into_iter().zip(expected) {
        let rule = rule(&persona, robot).unwrap_or_else(|| panic!("{name} has no answer to: {robot}"));
        let ways = says(&persona, rule);
        assert!(
            !ways.is_empty() && ways.iter().all(|way| way.contains(part)),
            "to `{robot}` {name} says {ways:?}"
        );
    }
}

#[test]
fn those_who_agree_have_an_answer_to_each_prompt_of_the_way() {
    fits(
        "zh-agrees",
        "repayment-reminder-zh",
        "答应还款",
        &["我", "方便", "下周五", "没问题", "清楚", "没有了"],
    );
    let expected = ["Yes", "I", "ease", "I'm fine", "that's all"];
    fits("en-agrees", "appointment-confirmation-en", "confirms", &expected);
}

#[test]
fn those_who_decline_stick_to_it() {
    fits("zh-declines", "repayment-reminder-zh", "不愿意还款", &["我", "不会还", "不想还"]);
    fits("en-declines", "appointment-confirmation-en", "cancels", &["this is me", "cancel", "that's right"]);
}

#[test]
fn those_who_want_no_more_calls_say_so() {
    fits("zh-optout", "repayment-reminder-zh", "要求不再来电", &["我", "给我打电话"]);
    fits("en-optout", "appointment-confirmation-en", "does not want to be called", &["off your list"]);
}

#[test]
fn the_robots_goodbye_is_taken_for_one() {
    for (name, goodbye) in [
        ("zh-agrees", "好的，感谢您的配合，请记得按时还款。祝您生活愉快，再见。"),
        ("zh-optout", "好的，已经为您登记，以后不会再用机器人给您拨打这类电话。打扰您了，再见。"),
        ("en-agrees", "Thank you, Alex Morgan. We look forward to seeing you. Goodbye."),
        (
            "en-optout",
            "All right, I've taken you off the list, and this assistant won't call you again. Goodbye.",
        ),
    ] {
        let persona = persona(name);
        let rule = rule(&persona, goodbye).unwrap();
        assert_eq!(rule.reply.then, trunkline_callee::persona::Then::HangUp, "{name}");
    }
}
