//! Each kind of mistake that the linter knows, made once in a good script.

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail it")]

use std::collections::BTreeSet;

use trunkline_dialogue::{Code, Finding, Script, lint, lint_under};
use trunkline_policy::{Pack, Packs};

const GOOD: &str = include_str!("data/rich-en.yaml");

fn findings(text: &str) -> Vec<Finding> {
    lint(text).unwrap_or_else(|error| error.findings())
}

/// What is wrong, what is changed into what to make it so, and whether it refuses the script.
fn mistakes() -> Vec<(Code, &'static str, String, bool)> {
    use Code::*;
    let nodes = &GOOD[GOOD.find("nodes:").unwrap()..GOOD.find("handoff:").unwrap()];
    let opening = &GOOD[GOOD.find("    say: \"This is").unwrap()..GOOD.find("    barge_in:").unwrap()];
    let table: Vec<(Code, &'static str, &str, bool)> = vec![
        (Shape, "purpose: service", "purpose: nagging", true),
        (UnknownSchema, "schema: trunkline/script/1", "schema: trunkline/script/9\nnews: 1", true),
        (BadName, "id: rich-en", "id: Rich En", true),
        (Duplicate, "id: rate", "id: pay", true),
        (OutOfRange, "budget: 500ms", "budget: 9s", true),
        (LeadIn, "lead_in: Sure.", "lead_in: Sure", true),
        (WrongType, "default: blue", "default: green", true),
        (EnumValues, "colour: {type: enum, values: [red, blue]}", "colour: {type: enum}", true),
        (Contradiction, "min: 1, max: 5", "min: 9, max: 5", true),
        (StrayField, "default: blue", "default: blue, min: 1", true),
        (EmptyText, "Goodbye.", "", true),
        (BadPlaceholder, "Goodbye.", "Goodbye {name", true),
        (UnknownVariable, "Goodbye.", "Goodbye, {nmae}.", true),
        (UnknownSlot, "So {slot.colour}", "So {slot.color}", true),
        (UnknownNode, "filled: check", "filled: chekc", true),
        (UnknownIntent, "rate, later: bye", "rate, latter: bye", true),
        (UnknownOutcome, "end: done", "end: dnoe", true),
        (UnknownEntity, "colour: paint", "colour: pain", true),
        (UnknownArm, "tone.warm: check", "tone.cold: check", true),
        (BadGuard, "arm.tone.warm, then", "arm.tone.warm and, then", true),
        (NeverTrue, "slot.score >= 4 and", "slot.score > 4 and slot.score <= 4 and", true),
        (AlwaysTrue, "arm.tone.warm, then", "var.tier or arm.tone.warm, then", false),
        (NeverTaken, "arm.tone.warm, then", "slot.score == 5 and var.tier == \"gold\", then", false),
        (NoWording, "locale: en-US", "locale: fr-FR", true),
        (NoNodes, nodes, "nodes: []\n", true),
        (TwoKinds, "next: bye", "next: bye\n    end: done", true),
        (DeadEnd, "say: \"Goodbye.\", end: done", "say: \"Goodbye.\"", true),
        (NoElse, "    else: bye\n", "", true),
        (NoQuestion, "say: \"The fee is {fee}. Which colour would you like?\"\n    ", "", true),
        (FillWithoutFilled, "filled: rate, ", "", true),
        (ProtectedWords, "off_until: this call is recorded", "off_until: this call was recorded", true),
        (NoOutcome, "{code: done, when: \"true\"}", "{code: done}", true),
        (BadHandoff, "to: desk", "to: \"\"", true),
        (BadDigression, "handoff:", "digressions: [{on: later, say: No.}]\nhandoff:", true),
        (OptOut, "handoff:", "digressions: [{on: opt_out, say: No., return: resume}]\nhandoff:", true),
        (BadExperiment, "{control: 50, warm: 50}", "{control: 0, warm: 0}", true),
        (Unreachable, "filled: rate", "filled: check", true),
        (NoExit, "end: done", "next: bye", true),
        (EndlessLadder, "filled: check", "filled: check, no_match: {say: Hm?, max: 1, then: rate}", true),
        (EndlessLoop, "next: bye", "next: check", true),
        (DisclosureMissing, "This is the automated assistant", "This is the friendly voice", true),
        (DisclosureMissing, "Here is the automated assistant", "Here is the friendly voice", true),
        (DisclosureDropped, "purpose: service", "purpose: marketing\ndisclose: [recording]", true),
        (DisclosureDropped, "purpose: service", "purpose: service\ndisclose: [recording, ai]", false),
        (DisclosureUnprotected, "    barge_in: {off_until: this call is recorded}\n", "", false),
        (AmountBeforePerson, "Goodbye.", "Goodbye, and {fee}.", false),
        (NoHuman, "handoff:", "digressions: [{on: ask_human, say: No., return: resume}]\nhandoff:", true),
        (NoHuman, "rate, later: bye", "rate, ask_human: rate", true),
        (NotPrerendered, "{type: enum, values: [red, blue]}", "{type: text}", false),
        (
            NotPrerendered,
            opening,
            "    generate: {prompt: Greet., fallback: \"Here is {org}, an automated assistant, and this call is recorded. Is it {name}?\"}\n",
            true,
        ),
        (UnsetVariable, "name: {type: person, required: true", "name: {type: person", false),
        (SilentEnd, "say: \"Goodbye.\", end", "end", false),
        (FewExamples, "[later, not now, another time,", "[", false),
        (
            FewExamples,
            "[later, not now, another time, in a while, maybe tomorrow, call me tonight, some other day, ring again]",
            "[]",
            true,
        ),
        (CollidingExamples, "blue: [navy]", "blue: [crimson]", true),
        (
            CollidingExamples,
            "intents:\n",
            "intents:\n  soon: {examples: [another time, a, b, c, d, e, f, g]}\n",
            true,
        ),
        (
            CollidingExamples,
            "intents:\n",
            "intents:\n  soon: {examples: [call me tonights, a, b, c, d, e, f, g]}\n",
            false,
        ),
        (Unused, "slots:\n", "slots:\n  spare: {type: text}\n", false),
        (Unused, "vars:\n", "vars:\n  spare: {type: text}\n", false),
        (NoTests, &GOOD[GOOD.find("tests:").unwrap()..], "", false),
        (BadTest, "expect: [{outcome: done}]", "expect: [{outcome: dnoe}]", true),
        (BadTest, "intent: \"no\"", "intent: noo", true),
        (BadTest, "tests: [{name: t,", "tests: [{name: t, arms: {tone: cold},", true),
    ];
    let long = |times| ("Goodbye.", "Goodbye. ".repeat(times));
    let more = [(TextTooLong, long(90), true), (LongPrompt, long(25), false)];
    let table = table.into_iter().map(|(code, from, to, refuses)| (code, from, to.to_owned(), refuses));
    table.chain(more.into_iter().map(|(code, (from, to), refuses)| (code, from, to, refuses))).collect()
}

#[test]
fn the_script_that_is_changed_is_good() {
    assert_eq!(findings(GOOD), []);
}

#[test]
fn each_kind_of_mistake_is_found_with_its_place_and_a_remedy() {
    let mut made = BTreeSet::new();
    for (code, from, to, refuses) in mistakes() {
        assert_eq!(GOOD.matches(from).count().min(1), 1, "{from}");
        let text = GOOD.replacen(from, &to, 1);
        let all = findings(&text);
        let shown: Vec<String> = all.iter().map(ToString::to_string).collect();
        let Some(found) = all.iter().find(|f| f.code == code && f.is_error() == refuses) else {
            panic!("{from:?} -> {to:?} is not {code}:\n{}", shown.join("\n"));
        };
        assert!(found.remedy.len() > 2 && found.message.len() > 2, "{found}");
        // A few things are missing from the file as a whole.
        let whole = [Code::NoNodes, Code::NoTests].contains(&code);
        assert!(whole || (found.line > 0 && found.column > 0), "{from:?} has no place: {found}");
        assert!(found.line as usize <= text.lines().count(), "{found}");
        assert_eq!(Script::load(&text).is_err(), all.iter().any(Finding::is_error), "{from:?}: {shown:?}");
        made.insert(code);
    }
    let by_bytes = [
        (Code::TooLarge, [GOOD.as_bytes(), &vec![b'#'; 5 << 20]].concat()),
        (Code::NotUtf8, b"schema: x\nid: \xff\n".to_vec()),
    ];
    for (code, bytes) in by_bytes {
        assert_eq!(Script::load_bytes(&bytes).unwrap_err().findings()[0].code, code);
        made.insert(code);
    }
    let listening = GOOD.replacen("\nvoice:", "\ntone_of_voice: true\nvoice:", 1);
    let packs = Packs::shipped().unwrap();
    let eu = packs.get("eu").unwrap();
    let mut keyed = eu.clone();
    keyed.call.opt_out.value.key = true;
    let debt = GOOD.replace("purpose: service", "purpose: debt_reminder");
    let voicemail = |text: &str| format!("{GOOD}\nanswered_by: {{voicemail: \"{text}\"}}\n");
    let denies = GOOD.replacen(
        "handoff:",
        "digressions: [{on: ask_robot, say: \"I'm NOT a robot.\", return: resume}]\nhandoff:",
        1,
    );
    let undisclosed = GOOD.replacen("\nvoice:", "\ndisclose: [ai]\nvoice:", 1);
    let under: [(&str, &Pack, Code, usize); 8] = [
        (&listening, eu, Code::ForbiddenByPack, 1),
        (&undisclosed, eu, Code::PackDisclosure, 2),
        (GOOD, &keyed, Code::PackOptOut, 1),
        (&debt, eu, Code::PackRightParty, 1),
        (&voicemail("Please call {org}."), eu, Code::PackVoicemail, 1),
        (&voicemail("Please call us back."), eu, Code::PackVoicemail, 0),
        (&denies, eu, Code::PackPhrase, 1),
        (GOOD, eu, Code::PackPhrase, 0),
    ];
    for (text, pack, code, times) in under {
        let found = lint_under(text, pack).unwrap();
        let of: Vec<&Finding> = found.iter().filter(|found| found.code == code).collect();
        assert_eq!(of.len(), times, "{code}: {found:?}");
        assert!(of.iter().all(|found| found.is_error() && found.line > 0), "{code}: {of:?}");
        made.extend(of.iter().map(|found| found.code));
    }
    let missed: Vec<&Code> = Code::ALL.iter().filter(|code| !made.contains(code)).collect();
    assert!(missed.is_empty(), "no script shows {missed:?}");
}

#[test]
fn an_amount_in_a_debt_call_is_for_the_right_person_alone() {
    let debt = GOOD.replace("purpose: service", "purpose: debt_reminder");
    assert_eq!(findings(&debt), [], "a yes to a question that names a person is enough");
    let nobody =
        debt.replace("Am I speaking with {name}?", "All right?").replace("Is this {name}?", "All right?");
    let nobody = nobody.replace("Is it {name}?", "All right?");
    let of = |text: &str| findings(text).iter().filter(|f| f.code == Code::AmountBeforePerson).count();
    assert_eq!(of(&nobody), 1);
    assert!(Script::load(&nobody).is_err());
    let confirmed = nobody.replace("on: {\"yes\": pay,", "on: {\"yes\": {then: pay, confirms: true},");
    assert_eq!(of(&confirmed), 0);
    let told = debt.replace(
        "handoff:",
        "digressions: [{on: who_are_you, say: \"It is about {fee}.\", return: resume}]\nhandoff:",
    );
    assert_eq!(of(&told), 1, "who asks who is calling may be anybody");
}

#[test]
fn the_names_of_codes_are_unique_and_plain() {
    let names: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(names.len(), Code::ALL.len());
    assert!(
        names.iter().all(|n| n.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'))
    );
}
