//! Scripts that nobody wrote, and calls that nobody made: whatever lints can be walked to an end.

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail it")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::OnceLock;

use proptest::prelude::*;
use trunkline_dialogue::{
    Action, Entity, Event, Heard, Script, State, lint, outcome_now, prompts, start, step,
};

/// One node before it is written: its kind, and numbers to draw targets from.
type Plan = (u8, [usize; 4], bool);

const HEAD: &str = "schema: trunkline/script/1\nid: made\nlocale: en-US\npurpose: service\nvoice: {name: x}\n\
    vars: {org: {type: text, required: true}, n: {type: number, required: true, example: \"4\"}, who: {type: id, required: true}}\n\
    slots: {day: {type: date}, tone: {type: enum, values: [low, high]}, words: {type: text}}\n\
    entities: {pitch: {values: {low: [deep], high: [shrill]}}}\n\
    experiments: {x: {by: who, arms: {control: 1, other: 1}, metric: done}}\n\
    intents: {late: {examples: [a, b, c, d, e, f, g, h]}, lost: {examples: [i, j, k, l, m, n, o, p]}}\nnodes:\n";
const TAIL: &str = "outcomes: [{code: transferred}, {code: opt_out}, {code: early, when: slot.day and turns < 3}, \
    {code: done, when: \"true\"}]\n";

/// Writes a script; only nodes that can be reached are written, and only asking nodes lead back.
fn written(plans: &[Plan], digress: u8, handoff: bool) -> String {
    let count = plans.len();
    let last = count;
    let name = |i: usize| if i >= last { "bye".to_owned() } else { format!("n{i}") };
    let ahead = |i: usize, n: usize| (i + 1 + n % (count - i)).min(last);
    let anywhere = |n: usize| n % (count + 1);
    let targets = |i: usize| -> Vec<usize> {
        let (kind, t, _) = plans[i];
        match kind {
            0..=3 => vec![anywhere(t[0]), anywhere(t[1]), anywhere(t[2])],
            4 => vec![ahead(i, t[0])],
            5 => vec![ahead(i, t[0]), ahead(i, t[1])],
            6 => vec![last],
            _ => Vec::new(),
        }
    };
    let mut seen = BTreeSet::new();
    let mut todo = vec![0];
    while let Some(i) = todo.pop() {
        if i < last && seen.insert(i) {
            todo.extend(targets(i));
        }
    }
    let mut out = HEAD.to_owned();
    for i in seen {
        let (kind, t, flag) = plans[i];
        let say = if i == 0 {
            "This is the automated assistant of {org}, this call is recorded. Well?".to_owned()
        } else {
            format!("Words of n{i}.")
        };
        let _ = write!(out, "  - id: n{i}\n    say: \"{say}\"\n");
        if i == 0 {
            out.push_str("    barge_in: {off_until: this call is recorded}\n");
        } else if flag {
            let _ = writeln!(out, "    arms: {{x.other: {{say: \"Other words of n{i}.\"}}}}");
        }
        match kind {
            0..=3 => {
                let (a, b, c) = (name(anywhere(t[0])), name(anywhere(t[1])), name(anywhere(t[2])));
                let ladder = if flag { ", no_match: {say: Hm?, max: 1, then: handoff}" } else { "" };
                let (fill, filled) = match kind {
                    0 => ("{day: date}", true),
                    1 => ("{tone: pitch}", true),
                    2 => ("{words: text}", true),
                    _ => ("", false),
                };
                if filled {
                    let _ = write!(
                        out,
                        "    fill: {fill}\n    on: {{filled: {c}, \"yes\": {a}, late: {b}{ladder}}}\n"
                    );
                } else {
                    let _ = writeln!(
                        out,
                        "    on: {{any: {c}, \"no\": {{then: {a}, arms: {{x.other: {b}}}}}{ladder}}}"
                    );
                }
            }
            4 => {
                let _ = writeln!(out, "    next: {}", name(ahead(i, t[0])));
            }
            5 => {
                let guard =
                    ["slot.day", "heard.late and var.n > 3", "arm.x.other or visited.n0", "turns >= 2"]
                        [t[3] % 4];
                let _ = write!(
                    out,
                    "    branch: [{{when: {guard}, then: {}}}]\n    else: {}\n",
                    name(ahead(i, t[0])),
                    name(ahead(i, t[1]))
                );
            }
            6 => out.push_str("    transfer: {to: desk, fail: bye}\n"),
            _ => out.push_str("    end: auto\n"),
        }
    }
    out.push_str("  - {id: bye, say: Goodbye., end: auto}\n  - {id: aside, say: \"An aside. Fine?\", on: {\"yes\": return, \"no\": return}}\n");
    match digress % 3 {
        0 => out.push_str("digressions: [{on: lost, visit: aside}]\n"),
        1 => {
            out.push_str("digressions: [{on: lost, say: Here., return: resume}, {on: busy, visit: aside}]\n")
        }
        _ => {
            out.push_str("digressions: [{on: lost, say: Here., return: listen}, {on: wait, visit: aside}]\n")
        }
    }
    let when = if handoff { "when: no_match >= 3, " } else { "" };
    let _ = writeln!(out, "handoff: {{{when}to: desk, fail: bye}}");
    out + TAIL
}

fn made() -> impl Strategy<Value = String> {
    let plan = (0..8_u8, prop::array::uniform4(0..100_usize), any::<bool>());
    (prop::collection::vec(plan, 1..9), any::<u8>(), any::<bool>())
        .prop_map(|(plans, digress, handoff)| written(&plans, digress, handoff))
}

fn samples() -> &'static [Script] {
    static SAMPLES: OnceLock<Vec<Script>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts");
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut paths: Vec<_> =
            entries.filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
        paths.sort();
        let texts = paths.iter().map(|path| std::fs::read_to_string(path).unwrap());
        texts.map(|text| Script::load(&text).unwrap()).collect()
    })
}

/// An event by number, made of what the script knows, so that most of them mean something.
fn event(script: &Script, (kind, which, score): (u8, usize, f32)) -> Event {
    let mut intents: Vec<&str> = script.document().intents.keys().map(String::as_str).collect();
    intents.extend([
        "yes",
        "no",
        "repeat",
        "wait",
        "busy",
        "who_are_you",
        "ask_robot",
        "ask_human",
        "nonsense",
    ]);
    let words: Vec<&str> =
        script.entities().flat_map(|(_, values)| values.keys().map(String::as_str)).collect();
    let heard = |text: &str, intent: Option<&str>, entities: Vec<Entity>| {
        Event::Heard(Heard {
            text: text.to_owned(),
            intent: intent.map(str::to_owned),
            score,
            entities,
            sentiment: 0.0,
            arousal: None,
        })
    };
    let entity = |kind: &str, value: &str| Entity {
        kind: kind.to_owned(),
        value: value.to_owned(),
        text: value.to_owned(),
    };
    let intent = intents[which % intents.len()];
    match kind % 16 {
        0..=6 => heard("well now", Some(intent), vec![]),
        7 => heard("on Friday", Some(intent), vec![entity("date", "2026-11-27"), entity("time", "10:00")]),
        8 => heard("on Friday", None, vec![entity("date", "2026-11-27")]),
        9 => heard("seven", None, vec![entity("number", "7")]),
        10 => heard(words.get(which % words.len().max(1)).unwrap_or(&""), None, vec![]),
        11 => heard("", None, vec![]),
        12 => Event::NoInput,
        13 => Event::TransferFailed { reason: "busy".to_owned() },
        14 if which % 5 == 0 => heard("stop calling", Some("opt_out"), vec![]),
        14 if which % 5 == 1 => {
            Event::HandOver { to: Some("elsewhere".to_owned()).filter(|_| which % 2 == 0) }
        }
        15 if which % 7 == 0 => Event::HungUp,
        _ => Event::Answered,
    }
}

/// Walks a call and says what must hold of every step.
fn walk(script: &Script, numbers: &[(u8, usize, f32)]) -> Result<State, TestCaseError> {
    let mut state = start(script, &script.example_variables()).unwrap();
    state = step(script, &state, &Event::Answered, 0).state;
    for (second, number) in (1..).zip(numbers) {
        let event = event(script, *number);
        let before = state.clone();
        let taken = step(script, &state, &event, second * 6);
        prop_assert_eq!(&step(script, &state, &event, second * 6), &taken, "the same again");
        let json = serde_json::to_string(&taken.state).unwrap();
        prop_assert!(json.len() < 8_192, "{} bytes", json.len());
        prop_assert_eq!(&serde_json::from_str::<State>(&json).unwrap(), &taken.state);
        prop_assert_eq!(taken.state.is_ended(), taken.state.outcome().is_some());
        prop_assert!(!before.is_ended() || taken.state.is_ended(), "what is over stays over");
        let ends = taken.actions.iter().any(|a| matches!(a, Action::End { .. }));
        let listens = matches!(taken.actions.last(), Some(Action::Listen(_)));
        prop_assert!(ends || listens || taken.state.is_transferring(), "{:?}", taken);
        prop_assert!(taken.actions.len() < 80, "{} actions", taken.actions.len());
        state = taken.state;
    }
    let outcome = outcome_now(script, &state, 600);
    prop_assert!(script.document().outcomes.iter().any(|rule| *rule.code == outcome.code), "{:?}", outcome);
    Ok(state)
}

fn numbers(most: usize) -> impl Strategy<Value = Vec<(u8, usize, f32)>> {
    prop::collection::vec((any::<u8>(), 0..1_000_usize, 0.0..=1.0_f32), 1..most)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn a_script_that_lints_is_walked_without_a_stumble(text in made(), numbers in numbers(60)) {
        let errors: Vec<_> = lint(&text).unwrap().into_iter().filter(|f| f.is_error()).collect();
        let loaded = Script::load(&text);
        prop_assert_eq!(loaded.is_ok(), errors.is_empty(), "{:?}\n{}", errors, text);
        // What was made may still be no script, such as an opening that asks nothing at once.
        if let Ok(script) = loaded {
            walk(&script, &numbers)?;
            prop_assert!(!prompts(&script, &script.example_variables()).is_empty());
            let again = Script::load(script.canonical()).unwrap();
            prop_assert_eq!(again.version(), script.version());
        }
    }

    #[test]
    fn a_customer_who_never_hangs_up_is_let_go_by_any_script(text in made(), numbers in numbers(12)) {
        if let Ok(script) = Script::load(&text) {
            let limit = usize::from(script.document().limits.turns);
            let long: Vec<_> = numbers.iter().cycle().take(limit * 2 + 8).copied().collect();
            let mut state = walk(&script, &long)?;
            // While a person is fetched, only the line's news moves the call.
            for _ in 0..limit * 2 {
                if state.is_transferring() {
                    state = step(&script, &state, &Event::TransferFailed { reason: "busy".to_owned() }, 9).state;
                } else {
                    state = step(&script, &state, &Event::NoInput, 9).state;
                }
            }
            prop_assert!(state.is_ended());
        }
    }

    #[test]
    fn every_sample_takes_every_sequence_of_events(which in 0..64_usize, numbers in numbers(80)) {
        let script = &samples()[which % samples().len()];
        walk(script, &numbers)?;
    }
}

#[test]
fn most_of_what_is_made_is_a_script() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let texts = (0..60).map(|_| made().new_tree(&mut runner).unwrap().current());
    let refused: Vec<String> =
        texts.filter_map(|text| Script::load(&text).err().map(|error| format!("{error}\n{text}"))).collect();
    assert!(refused.len() < 20, "{} of 60:\n{}", refused.len(), refused.last().unwrap());
}
