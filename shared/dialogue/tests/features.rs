//! Experiments, entities, ranges, generated words and rules of the hand-over, as a call meets them.

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail it")]

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use trunkline_dialogue::action::Generate;
use trunkline_dialogue::{
    Action, Entity, Event, Heard, Script, State, Step, Temper, Variables, assign, likely_prompts, prompts,
    start, start_with_arms, step, summary,
};

const RICH: &str = include_str!("data/rich-en.yaml");

fn script() -> Script {
    Script::load(RICH).unwrap_or_else(|e| panic!("{e}"))
}

fn vars(changes: &[(&str, &str)]) -> Variables {
    static EXAMPLES: OnceLock<Variables> = OnceLock::new();
    let mut vars = EXAMPLES.get_or_init(|| script().example_variables()).clone();
    vars.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    vars
}

fn hear(text: &str, intent: &str, entities: &[(&str, &str)]) -> Event {
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

fn walk(script: &Script, mut state: State, events: &[Event]) -> Vec<Step<State>> {
    let mut steps = Vec::new();
    for event in events {
        let step = step(script, &state, event, 5);
        state = step.state.clone();
        steps.push(step);
    }
    steps
}

fn arm(name: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("tone".to_owned(), name.to_owned())])
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

#[test]
fn a_customer_always_gets_the_same_arm_and_the_arms_get_their_shares() {
    let script = script();
    let of = |customer: &str| assign(&script, &vars(&[("customer", customer)]))["tone"].clone();
    let mut warm = 0;
    for i in 0..2_000 {
        let customer = format!("C-{i}");
        assert_eq!(of(&customer), of(&customer));
        warm += usize::from(of(&customer) == "warm");
    }
    // Four standard deviations of a fair coin thrown 2000 times.
    assert!((910..=1_090).contains(&warm), "{warm}");
    let reworded = Script::load(&RICH.replace("Goodbye.", "Bye.")).unwrap();
    for i in 0..100 {
        let vars = vars(&[("customer", &format!("C-{i}"))]);
        assert_eq!(assign(&script, &vars), assign(&reworded, &vars), "a new wording moves nobody");
    }
    let skewed = Script::load(&RICH.replace("{control: 50, warm: 50}", "{control: 1, warm: 0}")).unwrap();
    assert!(
        (0..100).all(|i| assign(&skewed, &vars(&[("customer", &format!("C-{i}"))]))["tone"] == "control")
    );
}

#[test]
fn an_arm_has_its_own_words_and_its_own_way() {
    let script = script();
    let thanked: &[&str] = &["Thank you very much.", "Goodbye."];
    for (name, opening, after) in [("control", "This is the", &thanked[1..]), ("warm", "Hi!", thanked)] {
        let state = start_with_arms(&script, &vars(&[]), &arm(name)).unwrap();
        assert_eq!(state.arms()["tone"], name);
        let steps = walk(&script, state, &[Event::Answered, hear("later", "later", &[])]);
        assert!(said(&steps[0])[0].starts_with(opening), "{:?}", said(&steps[0]));
        assert_eq!(said(&steps[1]), after);
    }
    let drawn = start_with_arms(&script, &vars(&[]), &arm("no such arm")).unwrap();
    assert_eq!(drawn, start(&script, &vars(&[])).unwrap(), "an arm that is gone is drawn anew");
}

#[test]
fn the_arm_that_the_customer_gets_is_the_one_whose_words_are_rendered_ahead() {
    let script = script();
    for i in 0..20 {
        let vars = vars(&[("customer", &format!("C-{i}"))]);
        let opening = prompts(&script, &vars)[0].clone();
        let step = step(&script, &start(&script, &vars).unwrap(), &Event::Answered, 0);
        assert_eq!(said(&step), [opening]);
    }
}

#[test]
fn an_entity_of_the_script_is_found_in_the_words_and_what_is_out_of_range_is_no_answer() {
    let script = script();
    let state = start_with_arms(&script, &vars(&[]), &arm("control")).unwrap();
    let steps = walk(
        &script,
        state,
        &[
            Event::Answered,
            hear("yes", "yes", &[]),
            hear("not the red one, navy please", "", &[]),
            hear("nine", "", &[("number", "9")]),
            hear("four", "", &[("number", "4")]),
        ],
    );
    assert_eq!(steps[2].state.slots()["colour"], "blue");
    assert!(said(&steps[2])[0].starts_with("So blue."));
    assert_eq!(steps[3].because, "no match 1 of 2");
    assert_eq!(steps[4].state.slots()["score"], "4");
    assert!(steps[4].state.is_ended());
    let likely = likely_prompts(&script, &vars(&[]), &[], &[]);
    assert!(
        likely.iter().any(|t| t.starts_with("So red.")) && likely.iter().any(|t| t.starts_with("So blue."))
    );
}

#[test]
fn a_word_of_the_scripts_own_is_the_answer_unless_something_else_is_nearly_certain() {
    let script = script();
    for (score, because) in [(0.8, "filled colour"), (0.9, "intent later")] {
        let state = start_with_arms(&script, &vars(&[]), &arm("control")).unwrap();
        let text = "well I think I would like the navy one".to_owned();
        let unsure = Heard { text, intent: Some("later".to_owned()), score, ..Heard::default() };
        let steps = walk(&script, state, &[Event::Answered, hear("yes", "yes", &[]), Event::Heard(unsure)]);
        assert_eq!(steps[2].because, because);
    }
}

#[test]
fn generated_words_come_with_fixed_ones_and_with_what_to_ask_for() {
    let script = script();
    let state = start_with_arms(&script, &vars(&[("tier", "gold")]), &arm("control")).unwrap();
    let five = hear("five", "", &[("number", "5")]);
    let events = [Event::Answered, hear("yes", "yes", &[]), hear("crimson", "", &[]), five];
    let mut steps = walk(&script, state, &events);
    let last = steps.pop().unwrap();
    let Action::Say(say) = &last.actions[0] else { panic!("{last:?}") };
    assert_eq!(say.text, "Thank you very much.");
    let prompt = "Thank Ada, who gave 5 of 5.".to_owned();
    let wanted =
        Generate { prompt, budget: Duration::from_millis(500), max_chars: 120, lead_in: "Sure.".into() };
    assert_eq!(say.generate, Some(wanted));
    let mut state = last.state;
    state.replace_said("Thank you very much.", "Five of five, how kind!");
    let json = serde_json::to_string(&state).unwrap();
    assert!(json.contains("how kind!") && !json.contains("very much"), "{json}");
    assert!(prompts(&script, &vars(&[])).contains(&"Thank you very much.".to_owned()));
    assert!(prompts(&script, &vars(&[])).contains(&"Sure.".to_owned()), "it is rendered ahead");
}

#[test]
fn a_rule_of_the_hand_over_says_who_takes_the_call() {
    let script = script();
    for (tier, desk) in [("gold", "vip"), ("blue", "desk")] {
        let state = start(&script, &vars(&[("tier", tier)])).unwrap();
        let steps = walk(&script, state, &[Event::Answered, hear("a person", "ask_human", &[])]);
        let to = steps[1].actions.iter().find_map(|a| match a {
            Action::Transfer { to, .. } => Some(to.as_str()),
            Action::Say(_) | Action::Listen(_) | Action::Suppress | Action::End { .. } => None,
        });
        assert_eq!(to, Some(desk));
    }
}

#[test]
fn a_script_says_what_the_customer_hears_while_she_waits_and_what_the_person_hears_before() {
    let own = "fail: bye\n  wait: \"One moment, {name}.\"\n  music: true\n  whisper: \"{name} chose {slot.colour}.\"";
    let script = Script::load(&RICH.replacen("fail: bye", own, 1)).unwrap_or_else(|e| panic!("{e}"));
    let state = start(&script, &vars(&[("tier", "blue")])).unwrap();
    let events = [hear("yes", "yes", &[]), hear("navy", "", &[]), hear("a person", "ask_human", &[])];
    let last = walk(&script, state, &[&[Event::Answered], &events[..]].concat()).pop().unwrap();
    let Some(Action::Transfer { waiting, whisper, .. }) = last.actions.last() else { panic!("{last:?}") };
    assert_eq!((waiting.say.as_str(), waiting.music), ("One moment, Ada.", true));
    assert_eq!(whisper, "Ada chose blue.");
    let ahead = prompts(&script, &vars(&[]));
    assert!(ahead.contains(&"One moment, Ada.".to_owned()), "{ahead:?}");

    let told = summary(&script, &last.state, 20, &["hello", "navy, please.", "a person"]);
    assert_eq!(
        told,
        "A call is handed over to you: Ada, about a request for service. The customer said last: navy, please, a person."
    );
}

#[test]
fn what_was_said_in_the_first_turn_still_counts_in_the_twenty_fifth() {
    let script = Script::load(&RICH.replace("fail: bye", "fail: bye\nlimits: {turns: 60}")).unwrap();
    let state = start_with_arms(&script, &vars(&[("tier", "gold")]), &arm("control")).unwrap();
    let mut events = vec![Event::Answered, hear("yes", "yes", &[]), hear("navy", "", &[])];
    for _ in 0..7 {
        events.extend([
            hear("are you a robot", "ask_robot", &[]),
            hear("who is this", "who_are_you", &[]),
            hear("one moment", "wait", &[]),
        ]);
    }
    events.push(hear("what?", "repeat", &[]));
    events.push(hear("five", "", &[("number", "5")]));
    let steps = walk(&script, state, &events);
    let (last, turns) = (steps.last().unwrap(), steps.last().unwrap().state.turns());
    assert_eq!(turns, 25);
    assert_eq!(last.state.slots()["colour"], "blue");
    assert_eq!(
        said(last),
        ["Thank you very much.", "Goodbye."],
        "the tier of the call leads to the last words"
    );
    assert!(serde_json::to_string(&last.state).unwrap().len() < 2_048);
}

#[test]
fn a_variable_out_of_its_range_is_refused() {
    let errors = start(&script(), &vars(&[("fee", "501")])).unwrap_err();
    assert_eq!(errors[0].to_string(), "variable `fee` is no money: it must be from 0 to 500");
}

#[test]
fn who_asks_from_outside_gets_the_hand_over_and_may_say_where_to() {
    let script = script();
    let begun = step(&script, &start(&script, &vars(&[])).unwrap(), &Event::Answered, 0).state;
    let expected = &*script.document().handoff.to;
    for (to, found) in [(None, expected), (Some("night desk".to_owned()), "night desk")] {
        let taken = step(&script, &begun, &Event::HandOver { to }, 9);
        let Some(Action::Transfer { to, .. }) = taken.actions.last() else { panic!("{:?}", taken.actions) };
        assert_eq!((to.as_str(), taken.state.is_transferring()), (found, true));
        let again = step(&script, &taken.state, &Event::HandOver { to: None }, 10);
        assert_eq!(again.actions, [], "it is under way");
    }
}

#[test]
fn angry_words_count_in_a_row_only() {
    let text = RICH.replacen("handoff:\n", "handoff:\n  when: upset >= 2\n", 1);
    let script = Script::load(&text).unwrap();
    let said = |text: &str, sentiment: f32| {
        Event::Heard(Heard { text: text.to_owned(), sentiment, ..Heard::default() })
    };
    let walked = |moods: &[f32]| {
        let events: Vec<Event> =
            std::iter::once(Event::Answered).chain(moods.iter().map(|mood| said("well", *mood))).collect();
        walk(&script, start(&script, &vars(&[])).unwrap(), &events).last().unwrap().state.is_transferring()
    };
    assert!(walked(&[-0.7, -0.8]));
    assert!(!walked(&[-0.7, 0.0]) && !walked(&[-0.7]) && !walked(&[-0.3, -0.3]));
}

#[test]
fn an_excited_voice_makes_unfriendly_words_angry_and_is_never_angry_by_itself() {
    for (sentiment, arousal, temper) in [
        (0.0, None, Temper::Calm),
        (-0.6, None, Temper::Angry),
        (-0.6, Some(-0.5), Temper::Angry),
        (-0.3, None, Temper::Calm),
        (-0.3, Some(0.2), Temper::Calm),
        (-0.3, Some(0.3), Temper::Tense),
        (-0.3, Some(0.6), Temper::Angry),
        (0.0, Some(0.9), Temper::Tense),
        (0.5, Some(0.9), Temper::Calm),
    ] {
        assert_eq!(Temper::of(sentiment, arousal), temper, "{sentiment} {arousal:?}");
    }
    let text = RICH.replacen("handoff:\n", "handoff:\n  when: upset >= 2\n", 1);
    let script = Script::load(&text).unwrap();
    let walked = |arousal: Option<f32>| {
        let said =
            || Event::Heard(Heard { text: "well".into(), sentiment: -0.3, arousal, ..Heard::default() });
        let events = [Event::Answered, said(), said()];
        walk(&script, start(&script, &vars(&[])).unwrap(), &events).last().unwrap().state.is_transferring()
    };
    assert!(walked(Some(0.7)) && !walked(Some(0.1)) && !walked(None));
}
