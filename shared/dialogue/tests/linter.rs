//! What is wrong with a script is found, placed and explained; nothing panics the reader.

use proptest::prelude::*;
use trunkline_dialogue::{LoadError, MAX_BYTES, Script, lint, lint_under, schema};
use trunkline_policy::Packs;

const GOOD: &str = r#"schema: trunkline/script/1
id: tiny
locale: en-US
purpose: notice
voice: {name: af_heart}
vars:
  org: {type: text, required: true}
  amount: {type: money, required: true}
  tier: {type: enum, values: [gold, blue], default: blue}
slots:
  day: {type: date}
intents:
  later: {examples: [later, not now, another time, in a while, maybe later, call later, later please, some other time]}
nodes:
  - id: open
    say: "This is the automated assistant of {org}, and this call is recorded. All right?"
    barge_in: {off_until: this call is recorded}
    on: {"yes": day, "no": bye, later: bye}
  - id: day
    say: "Which day?"
    fill: {day: date}
    on: {filled: check}
  - id: check
    branch: [{when: slot.day > "2026-01-01" and var.tier == "gold" and var.amount > 0, then: bye}]
    else: bye
  - {id: bye, say: "Goodbye.", end: done}
handoff: {to: desk, fail: bye}
outcomes: [{code: transferred}, {code: opt_out}, {code: done, when: "true"}]
tests: [{name: t, turns: [{hear: "no", intent: "no"}], expect: [{outcome: done}]}]
"#;

/// The findings after one change to a good script.
fn changed(from: &str, to: &str) -> Vec<String> {
    assert!(GOOD.contains(from), "{from}");
    match lint(&GOOD.replacen(from, to, 1)) {
        Ok(findings) => findings.iter().map(ToString::to_string).collect(),
        Err(e) => vec![e.to_string()],
    }
}

#[test]
fn a_good_script_is_found_good() {
    assert_eq!(changed("", ""), Vec::<String>::new());
    let script = Script::load(GOOD).unwrap();
    assert_eq!(script.id().as_str(), "tiny");
    assert_eq!(Script::load(GOOD.trim_end()).unwrap().version(), script.version());
    let other = Script::load(&GOOD.replace("Which day?", "What day?")).unwrap();
    assert_ne!(other.version(), script.version());
}

#[test]
fn the_canonical_form_and_the_version_do_not_change_unnoticed() {
    let script = Script::load(GOOD).unwrap();
    insta::assert_snapshot!(format!("{}\n{}", script.version(), script.canonical()));
}

#[test]
fn each_mistake_is_named_with_its_place_and_what_to_do() {
    let mistakes = [
        // Shape.
        ("purpose: notice", "purpose: nagging"),
        ("say: \"Which day?\"", "sya: \"Which day?\""),
        ("id: tiny\n", ""),
        ("fill: {day: date}", "fill: {day: date}\n    listen: {no_input: 4}"),
        ("fill: {day: date}", "fill: {day: date"),
        ("id: tiny", "id: tiny\nid: other"),
        ("barge_in: {off_until: this call is recorded}", "barge_in: sometimes"),
        // Names.
        ("schema: trunkline/script/1", "schema: trunkline/script/9"),
        ("id: tiny", "id: Tiny Script"),
        ("later: bye}", "latter: bye}"),
        ("filled: check", "filled: chekc"),
        ("{org}, and", "{ogr}, and"),
        ("Which day?", "Which day, {slot.dya}?"),
        ("Which day?", "Which day, {org?"),
        ("end: done", "end: finished"),
        ("fail: bye", "fail: nowhere"),
        ("id: check", "id: day"),
        ("\"no\": bye", "opt_out: bye"),
        // Types.
        ("slot.day > \"2026-01-01\"", "slot.day > \"soon\""),
        ("slot.day > \"2026-01-01\"", "slot.day > 5"),
        ("slot.day > \"2026-01-01\"", "slot.dy"),
        ("var.tier == \"gold\"", "var.tier == \"green\""),
        ("var.tier == \"gold\"", "var.tier > \"gold\""),
        ("var.tier == \"gold\"", "(no_match"),
        ("fill: {day: date}", "fill: {day: money}"),
        ("fill: {day: date}", "fill: {day: colour}"),
        ("default: blue", "default: green"),
        ("{type: date}", "{type: date, values: [a]}"),
        // Graph.
        ("\"yes\": day, ", ""),
        ("else: bye", "else: check"),
        ("end: done", "next: bye"),
        ("filled: check", "filled: check, no_match: {say: Hm?, max: 1, then: day}"),
        ("say: \"Goodbye.\", end: done", "say: \"Goodbye.\""),
        ("when: \"true\"", "when: no_input > 3"),
        ("outcomes: [{code: transferred}, {code: opt_out}, ", "outcomes: [{code: transferred}, "),
        // What must be said.
        ("automated assistant", "friendly voice"),
        (", and this call is recorded. All", ". All"),
        ("This is the automated assistant of {org}", "An automated assistant speaks"),
        ("All right?", "You owe {amount}."),
        ("    barge_in: {off_until: this call is recorded}\n", ""),
        ("off_until: this call is recorded", "off_until: this call was recorded"),
        ("locale: en-US", "locale: fr-FR"),
        ("handoff: {to", "digressions: [{on: ask_human, say: No., return: resume}]\nhandoff: {to"),
        ("handoff: {to", "digressions: [{on: opt_out, say: Fine., return: resume}]\nhandoff: {to"),
        // Style.
        ("examples: [later, not now,", "examples: [later, Later!,"),
        ("maybe later, call later, later please, some other time]", "maybe later]"),
        ("later: bye}", "\"no\": bye}"),
        ("tests: [{name: t,", "tests: [{name: t, vars: {org: x},"),
        ("expect: [{outcome: done}]", "expect: [{outcome: dnoe}]"),
        ("{hear: \"no\", intent: \"no\"}", "{hear: \"no\", silence: true}"),
    ];
    let mut page = String::new();
    for (from, to) in mistakes {
        page.push_str(&format!("--- {from:?} -> {to:?}\n"));
        for finding in changed(from, to) {
            page.push_str(&finding);
            page.push('\n');
        }
    }
    insta::assert_snapshot!(page);
}

#[test]
fn a_script_with_errors_is_refused_and_one_with_warnings_is_not() {
    let error = Script::load(&GOOD.replace("filled: check", "filled: chekc")).unwrap_err();
    let LoadError::Rejected(findings) = &error else { panic!("{error:?}") };
    assert!(findings.iter().all(|f| f.is_error()));
    assert!(error.to_string().contains("there is no node `chekc`; did you mean `check`?"), "{error}");
    let warned = GOOD.replace("Which day?", &"Which day? ".repeat(25));
    assert_eq!(lint(&warned).unwrap().len(), 1);
    Script::load(&warned).unwrap();
}

#[test]
fn what_is_too_large_or_no_text_is_refused_at_once() {
    let large = format!("{GOOD}#{}", "x".repeat(5 * MAX_BYTES));
    assert_eq!(Script::load(&large).unwrap_err(), LoadError::TooLarge { bytes: large.len() });
    assert_eq!(Script::load_bytes(large.as_bytes()).unwrap_err(), LoadError::TooLarge { bytes: large.len() });
    let error = Script::load_bytes(b"schema: x\nid: \xff\xfe\n").unwrap_err();
    assert_eq!(error.to_string(), "the script is not UTF-8 from byte 14 on (line 2); save it as UTF-8");
    assert!(Script::load("").is_err());
}

#[test]
fn a_script_whose_canonical_form_is_too_large_is_refused_before_anything_is_stored() {
    // A quotation mark is one byte in this file and two in JSON.
    let titled =
        |marks: usize| GOOD.replacen("locale:", &format!("title: '{}'\nlocale:", "\"".repeat(marks)), 1);
    let fits = Script::load(&titled(MAX_BYTES / 2 - 10_000)).unwrap();
    assert!(fits.canonical().len() <= MAX_BYTES);
    assert!(Script::load(fits.canonical()).is_ok(), "and is read again");
    let large = titled(MAX_BYTES - 10_000);
    assert!(large.len() <= MAX_BYTES);
    let error = Script::load(&large).unwrap_err();
    assert!(matches!(error, LoadError::TooLarge { bytes } if bytes > MAX_BYTES), "{error}");
}

#[test]
fn aliases_and_nesting_cannot_blow_up_the_reader() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let list = vec![format!("*a{}", i - 1); 10].join(", ");
        bomb.push_str(&format!("a{i}: &a{i} [{list}]\n"));
    }
    assert!(Script::load(&bomb).is_err());
    assert!(Script::load(&"[".repeat(100_000)).is_err());
    let deep = format!("{}slot.day{}", "(".repeat(200), ")".repeat(200));
    let findings = changed("slot.day > \"2026-01-01\"", &deep);
    assert!(findings.iter().any(|f| f.contains("nested too deeply")), "{findings:?}");
}

#[test]
fn the_published_schema_is_the_one_of_the_types() {
    let now = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("script.schema.json");
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(published == now, "script.schema.json is old; run with UPDATE_SCHEMA=1");
}

proptest! {
    #[test]
    fn no_text_panics_the_reader(text: String) {
        let _ = lint(&text);
    }

    #[test]
    fn no_change_to_a_good_script_panics_the_reader(at in 0..GOOD.len(), len in 0..40_usize, new in "[ a-z{}\\[\\]:,\"&*.\n-]{0,12}") {
        let end = (at + len).min(GOOD.len());
        if GOOD.is_char_boundary(at) && GOOD.is_char_boundary(end) {
            let text = format!("{}{new}{}", &GOOD[..at], &GOOD[end..]);
            let findings = lint(&text);
            let loaded = Script::load(&text);
            let refused = findings.map_or(true, |f| f.iter().any(trunkline_dialogue::Finding::is_error));
            prop_assert_eq!(loaded.is_err(), refused);
        }
    }

    #[test]
    fn no_guard_panics_the_reader(guard in "[ a-z._()\"'<>=!0-9]{0,60}") {
        let _ = lint(&GOOD.replace("slot.day > \"2026-01-01\"", &guard.replace('"', "\\\"")));
    }
}

#[test]
fn a_script_that_listens_to_the_tone_of_voice_must_tell_it_and_be_permitted_to() {
    let packs = Packs::shipped().unwrap();
    let wants = ("voice: {name: af_heart}", "voice: {name: af_heart}\ntone_of_voice: true");
    let found = changed(wants.0, wants.1);
    assert!(found.len() == 1 && found[0].contains("warning[disclosure-missing]"), "{found:?}");
    let told =
        GOOD.replacen(wants.0, wants.1, 1).replace("is recorded.", "is recorded, your tone of voice too.");
    let told = told.replace("off_until: this call is recorded", "off_until: tone of voice too");
    assert_eq!(lint(&told).unwrap(), []);
    assert_eq!(lint_under(&told, packs.get("us").unwrap()).unwrap(), []);
    let refused = lint_under(&told, packs.get("eu").unwrap()).unwrap();
    assert!(refused.len() == 1 && refused[0].is_error() && refused[0].line > 0, "{refused:?}");
    assert_eq!(lint_under(GOOD, packs.get("eu").unwrap()).unwrap(), []);
}

#[test]
fn a_lead_in_is_a_few_words_that_end_in_a_mark() {
    let with = |lead_in: &str| {
        let generate =
            format!("generate: {{prompt: Say goodbye., fallback: Goodbye., lead_in: \"{lead_in}\"}}");
        changed("say: \"Goodbye.\", end: done", &format!("{generate}, end: done"))
    };
    assert_eq!(with("All right."), Vec::<String>::new());
    for wrong in ["All right", "", "...", "All right, {org}.", "All right, I will see what I can do."] {
        assert!(with(wrong).iter().any(|f| f.contains("error[lead-in]")), "{wrong}: {:?}", with(wrong));
    }
}
