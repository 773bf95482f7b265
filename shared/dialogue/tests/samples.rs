//! The sample scripts: that they lint, that their own tests pass, and how their conversations read.

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail it")]

use std::path::{Path, PathBuf};

use trunkline_dialogue::{Script, Variables, goodbye, lint, prompts, testing};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts")
}

fn text(name: &str) -> String {
    std::fs::read_to_string(folder().join(format!("{name}.yaml"))).unwrap()
}

fn load(name: &str) -> Script {
    Script::load(&text(name)).unwrap_or_else(|e| panic!("{name}:\n{e}"))
}

fn every_sample() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    for language in ["-zh", "-en"] {
        assert!(names.iter().filter(|name| name.ends_with(language)).count() >= 3, "{names:?}");
    }
    names
}

#[test]
fn the_linter_finds_nothing_in_the_samples() {
    for name in every_sample() {
        let findings: Vec<String> = lint(&text(&name)).unwrap().iter().map(ToString::to_string).collect();
        assert!(findings.is_empty(), "{name}:\n{}", findings.join("\n"));
    }
}

#[test]
fn the_tests_inside_the_samples_pass() {
    for name in every_sample() {
        for result in testing::run_given(&load(&name)) {
            assert!(
                result.passed(),
                "{name}, `{}`:\n{}\n{}",
                result.name,
                result.failures.join("\n"),
                result.transcript.join("\n")
            );
        }
    }
}

#[test]
fn a_sample_is_the_same_script_after_a_round_through_its_canonical_form() {
    for name in every_sample() {
        let script = load(&name);
        let again = Script::load(script.canonical()).unwrap();
        assert_eq!(again.version(), script.version(), "{name}");
        assert_eq!(again.canonical(), script.canonical());
        assert_eq!(again.document(), script.document());
    }
}

fn transcript(script: &str, test: &str) -> String {
    let results = testing::run_given(&load(script));
    let result = results.iter().find(|r| r.name == test).unwrap();
    result.transcript.join("\n")
}

#[test]
fn the_repayment_reminder_reads_like_this() {
    let name = "repayment-reminder-zh";
    insta::assert_snapshot!("repayment_agrees", transcript(name, "答应还款"));
    insta::assert_snapshot!("repayment_declines", transcript(name, "不愿意还款"));
    insta::assert_snapshot!("repayment_opts_out", transcript(name, "要求不再来电"));
}

#[test]
fn the_appointment_confirmation_reads_like_this() {
    let name = "appointment-confirmation-en";
    insta::assert_snapshot!("appointment_agrees", transcript(name, "confirms"));
    insta::assert_snapshot!("appointment_declines", transcript(name, "cancels"));
    insta::assert_snapshot!("appointment_opts_out", transcript(name, "does not want to be called"));
}

#[test]
fn what_can_be_rendered_before_dialling_is_listed_with_the_opening_first() {
    let script = load("repayment-reminder-zh");
    let vars: Variables =
        [("org", "和顺银行"), ("name", "李雷"), ("amount", "300"), ("due_date", "2026-11-01")]
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .into();
    let texts = prompts(&script, &vars);
    assert_eq!(texts[0], "您好，我是和顺银行的智能语音助手，本次通话将被录音。请问您是李雷吗？");
    assert!(texts[1].contains("应还300元"), "what comes after the opening comes first: {}", texts[1]);
    assert!(texts.iter().any(|t| t.contains("手机应用")), "defaults are filled in");
    assert!(texts.iter().all(|t| !t.contains("slot.") && !t.contains('{')));
    assert!(texts.contains(&goodbye(&script, &vars)));
}
