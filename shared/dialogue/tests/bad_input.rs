//! Files that are no scripts and tables that are none: a clear error with a place, never a panic.

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail it")]

use proptest::prelude::*;
use trunkline_dialogue::{Code, Imported, LoadError, MAX_BYTES, Script, diff, import, lint, render, spoken};

const RICH: &str = include_str!("data/rich-en.yaml");

fn error(text: &str) -> LoadError {
    Script::load(text).unwrap_err()
}

#[test]
fn a_later_version_of_the_format_is_named_and_not_its_new_fields() {
    let text = RICH.replace("script/1", "script/2").replace("nodes:", "moods: [gloomy]\nnodes:");
    assert_eq!(
        error(&text).to_string(),
        "2:9: this program does not know the format `trunkline/script/2`; write schema: trunkline/script/1, or \
         update the program"
    );
    assert_eq!(error(&text).findings()[0].code, Code::UnknownSchema);
}

#[test]
fn five_megabytes_are_refused_before_they_are_read() {
    let large = format!("{RICH}#{}", "x".repeat(5 << 20));
    let began = std::time::SystemTime::now();
    assert_eq!(error(&large), LoadError::TooLarge { bytes: large.len() });
    assert!(began.elapsed().unwrap() < std::time::Duration::from_millis(500));
    assert!(import(&large, "x").unwrap_err().to_string().contains("1048576 are allowed"));
}

#[test]
fn a_file_cannot_pull_in_another_or_itself() {
    for bad in ["nodes: &a [*a]", "nodes: !include other.yaml", "<<: *missing", "nodes: *missing"] {
        let from = &RICH[RICH.find("nodes:").unwrap()..RICH.find("handoff:").unwrap()];
        let error = error(&RICH.replace(from, &format!("{bad}\n")));
        let LoadError::Shape { line, message, .. } = &error else { panic!("{bad}: {error:?}") };
        assert!(*line > 0 && !message.is_empty(), "{bad}: {error}");
    }
}

#[test]
fn deep_nesting_and_bombs_are_refused_quickly() {
    let began = std::time::SystemTime::now();
    let mut block = String::from("nodes:\n");
    for depth in 0..3_000 {
        block.push_str(&format!("{}a:\n", " ".repeat(depth % 500 + 1)));
    }
    let mut bomb = String::from("vars: {a0: &a0 {type: text}}\n");
    for i in 1..40 {
        bomb.push_str(&format!("x{i}: &x{i} [*x{0}, *x{0}, *x{0}]\n", i - 1));
    }
    let merged: String = (0..2_000).map(|i| format!("k{i}: &k{i}\n  <<: *k{}\n", i - 1)).collect();
    for text in [
        "[".repeat(200_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        "? ".repeat(50_000),
        format!("{}{}", "[".repeat(5_000), "]".repeat(5_000)),
        block,
        bomb,
        merged,
        "\u{0}".repeat(1_000),
        "\u{feff}\u{feff}a: b".to_owned(),
        "a: &a b\n".repeat(10_000),
        format!("id: \"{}", "\\\"".repeat(100_000)),
    ] {
        let shown = error(&text).to_string();
        assert!(shown.chars().count() < 800, "{} characters of error", shown.chars().count());
    }
    assert!(began.elapsed().unwrap() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn a_guard_of_many_conditions_is_checked_quickly() {
    let many: Vec<String> = (0..40).map(|i| format!("(slot.score > {i} or not slot.colour)")).collect();
    let guard = &many.join(" and ")[..960];
    let guard = &guard[..guard.rfind(" and ").unwrap()];
    let cases: Vec<String> = (0..200).map(|_| format!("{{when: '{guard}', then: chat}}")).collect();
    let text = RICH.replace("branch: [", &format!("branch: [{}, ", cases.join(", ")));
    let began = std::time::SystemTime::now();
    lint(&text).unwrap();
    assert!(began.elapsed().unwrap() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn what_is_not_utf8_is_placed() {
    let bytes = [RICH.as_bytes(), b"\n# caf\xe9\n"].concat();
    let error = Script::load_bytes(&bytes).unwrap_err();
    let line = RICH.lines().count() + 2;
    assert!(error.to_string().contains(&format!("(line {line})")), "{error}");
}

const TABLE: &str = "node,wording,answers,next\n\
    greeting,\"Hello, this is the automated assistant of {org}. Is this {name}?\",yes,offer\n\
    ,,no,end\n\
    ,,\"wrong number|you have the wrong number|never heard of them\",sorry\n\
    offer,Your parcel comes on {date}. Is that fine?,yes / that works,thanks\n\
    ,,no,human\n\
    ,,silence,thanks\n\
    ,,stop calling,end\n\
    sorry,\"Sorry, goodbye.\",,end\n\
    thanks,Thank you. Goodbye.,,\n";

fn imported(table: &str) -> Imported {
    import(table, "made").unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn a_wording_table_becomes_a_script_that_says_what_is_missing() {
    let made = imported(TABLE);
    let findings: Vec<String> = lint(&made.yaml).unwrap().iter().map(ToString::to_string).collect();
    let page = format!("{}\n---\n{}\n---\n{}", made.yaml, made.remarks.join("\n"), findings.join("\n"));
    insta::assert_snapshot!(page);
    let disclosed = made.yaml.replace("assistant of {org}.", "assistant of {org} on a recorded line.");
    let script = Script::load(&disclosed).unwrap();
    assert_eq!(script.document().nodes[0].on.len(), 3);
}

#[test]
fn a_chinese_table_from_a_spreadsheet_is_read_too() {
    let table = "\u{feff}节点;话术;回答;下一步\r\n开场;您好，我是{org}的智能助手，本次通话将被录音。请问是｛姓名｝吗？;是;通知\r\n;;打错了、不是我;结束\r\n\
                 通知;您的快递明天送到。;;挂断\r\n";
    let made = imported(table);
    assert!(
        made.yaml.contains("locale: zh-CN") && made.yaml.contains("{type: person, required: true}"),
        "{}",
        made.yaml
    );
    let script = Script::load(&made.yaml).unwrap_or_else(|e| panic!("{e}\n{}", made.yaml));
    assert_eq!(script.document().nodes[0].id.as_str(), "开场");
}

#[test]
fn a_table_that_is_none_is_refused_with_its_line() {
    for (table, error) in [
        ("", "the table has no rows"),
        ("node,wording,answers,next\n", "the table has no rows"),
        ("node,text\na,b\n", "line 1: there is no column `answers`"),
        ("node,wording,answers,next\n,Hi,yes,a\n", "line 2: the first row has no node"),
        ("node,wording,answers,next\na,Hi,yes,b\n", "line 2: there is no node `b`; known are a"),
        ("node,wording,answers,next\na,Hi,,end\na,Ho,,end\n", "line 3: node `a` has a second wording"),
        ("node,wording,answers,next\na,Hi,yes,end\n,,yes,end\n", "line 3: node `a` has this answer twice"),
        ("node,wording,answers,next\na,\"Hi,yes,end\n", "line 2: a quote is not closed"),
    ] {
        let found = import(table, "x").unwrap_err().to_string();
        assert!(found.contains(error), "{table:?}: {found}");
    }
}

#[test]
fn a_diff_goes_by_node_and_says_what_of_it_changed() {
    let old = Script::load(RICH).unwrap();
    assert_eq!(diff(&old, &old), []);
    let moved = RICH.replacen("  - {id: bye, say: \"Goodbye.\", end: done}\n", "", 1).replacen(
        "  - id: chat\n",
        "  - {id: bye, say: \"Goodbye, {name}.\", end: done}\n  - id: chat\n",
        1,
    );
    let changed = moved
        .replace("ring again", "ring me again")
        .replace("filled: rate, later: bye", "filled: rate, later: extra")
        .replace("handoff:", "  - {id: extra, say: Later then., end: done}\nhandoff:")
        .replace("to: desk", "to: branch")
        .replace("tests: [{name: t,", "tests: [{name: renamed,");
    let new = Script::load(&changed).unwrap_or_else(|e| panic!("{e}"));
    let page: Vec<String> = diff(&old, &new).iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(page.join("\n"));
}

#[test]
fn the_page_for_review_holds_every_text_and_every_value() {
    let script = Script::load(RICH).unwrap();
    let page = render(&script);
    for text in spoken(&script) {
        assert!(page.contains(&text.text), "{}", text.text);
    }
    insta::assert_snapshot!(page);
}

proptest! {
    #[test]
    fn no_bytes_panic_the_reader(bytes: Vec<u8>) {
        let _ = Script::load_bytes(&bytes);
    }

    #[test]
    fn no_damage_to_a_script_panics_the_reader(
        cuts in prop::collection::vec((0..RICH.len(), 0..30_usize, any::<Vec<u8>>()), 1..4),
    ) {
        let mut bytes = RICH.as_bytes().to_vec();
        for (at, len, new) in cuts {
            let at = at.min(bytes.len());
            let end = (at + len).min(bytes.len());
            bytes.splice(at..end, new.into_iter().take(16));
        }
        if let Ok(script) = Script::load_bytes(&bytes) {
            let again = Script::load(script.canonical()).unwrap();
            prop_assert_eq!(again.version(), script.version());
            prop_assert!(!render(&script).is_empty());
        }
    }

    #[test]
    fn no_damage_to_the_canonical_form_panics_the_reader(at in 0..4_000_usize, new in "[\\[\\]{}\",:a-z0-9]{0,8}") {
        static CANONICAL: std::sync::OnceLock<String> = std::sync::OnceLock::new();
        let canonical = CANONICAL.get_or_init(|| Script::load(RICH).unwrap().canonical().to_owned());
        let at = at.min(canonical.len());
        if canonical.is_char_boundary(at) {
            let _ = lint(&format!("{}{new}{}", &canonical[..at], canonical.get(at + new.len()..).unwrap_or("")));
        }
    }

    #[test]
    fn no_table_panics_the_importer(table in "[a-z,;\t\"\n{}|是不 ]{0,80}") {
        let titled = format!("node,wording,answers,next\n{table}");
        for text in [&table, &titled] {
            if let Ok(made) = import(text, "made") {
                // What is missing may be much, and it is YAML of the right shape all the same.
                let findings = lint(&made.yaml);
                prop_assert!(findings.is_ok(), "{:?}\n{}", findings, made.yaml);
            }
        }
    }
}

#[test]
fn the_limit_is_where_it_is_said_to_be() {
    let fill = |to: usize| format!("{RICH}#{}", "x".repeat(to - RICH.len() - 1));
    assert!(Script::load(&fill(MAX_BYTES)).is_ok());
    assert_eq!(error(&fill(MAX_BYTES + 1)), LoadError::TooLarge { bytes: MAX_BYTES + 1 });
}
