//! `trunkctl script` as a person or a build uses it: what is printed, and with which exit status.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/scripts")
}

fn sample(name: &str) -> String {
    samples().join(format!("{name}.yaml")).display().to_string()
}

/// Runs a command and returns its exit status, its page and its complaints.
fn run(arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_trunkctl"))
        .arg("script")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Who refuses the arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let done = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

#[test]
fn every_sample_lints_and_its_tests_pass() {
    let mut files: Vec<String> = std::fs::read_dir(samples())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .map(|path| path.display().to_string())
        .collect();
    files.sort();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let (status, page, _) = run(&[&["lint", "--strict"], files.as_slice()].concat(), "");
    assert_eq!((status, page.matches(": fine, 0 errors, 0 warnings").count()), (0, files.len()), "{page}");
    let (status, page, _) = run(&[&["test"], files.as_slice()].concat(), "");
    assert_eq!(status, 0, "{page}");
    assert!(page.ends_with("passed, 0 failed\n"), "{page}");
}

#[test]
fn what_is_wrong_is_placed_and_refused_with_status_1() {
    let text = std::fs::read_to_string(sample("satisfaction-survey-en")).unwrap();
    let wrong = text.replace("filled: after_score", "filled: after_scroe");
    let (status, page, _) = run(&["lint", "-"], &wrong);
    assert_eq!(status, 1);
    assert!(
        page.contains("error[unknown-node]: there is no node `after_scroe`; did you mean `after_score`?"),
        "{page}"
    );
    let (status, page, _) = run(&["lint", "--json", "-"], &wrong);
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    assert_eq!((status, &page[0]["findings"][0]["code"]), (1, &serde_json::json!("unknown-node")));
    assert_eq!(page[0]["findings"][0]["severity"], "error");
    let (status, _, complaint) = run(&["show", "-"], &wrong);
    assert_eq!(status, 2);
    assert!(complaint.contains("cannot be used"), "{complaint}");
    let broken = text.replace("at: why_good}", "at: thanks}");
    let (status, page, _) = run(&["test", "-"], &broken);
    assert_eq!(status, 1);
    assert!(page.contains("FAIL") && page.contains("stands at `why_good`, not at `thanks`"), "{page}");
}

#[test]
fn a_pack_refuses_what_it_does_not_permit() {
    let text = std::fs::read_to_string(sample("satisfaction-survey-en")).unwrap();
    let listening = text.replacen("\nvoice:", "\ntone_of_voice: true\nvoice:", 1);
    let (status, page, _) = run(&["lint", "--pack", "eu", "-"], &listening);
    assert!(status == 1 && page.contains("error[forbidden-by-pack]"), "{page}");
    let (status, page, _) = run(&["lint", "--pack", "us", "-"], &listening);
    assert!(status == 0 && page.contains("warning[disclosure-missing]"), "{page}");
    let (status, _, complaint) = run(&["lint", "--pack", "moon", "-"], &text);
    assert!(status == 2 && complaint.contains("no pack `moon`"), "{complaint}");
}

#[test]
fn what_cannot_be_read_has_status_2() {
    for arguments in [&["lint", "no-such-file.yaml"][..], &["lint"], &["frobnicate"], &["diff", "-"]] {
        let (status, _, complaint) = run(arguments, "");
        assert_eq!(status, 2, "{arguments:?}");
        assert!(!complaint.is_empty());
    }
    let (status, page, _) = run(&["lint", "-"], &"#".repeat(5 << 20));
    assert_eq!(status, 1);
    assert!(page.contains("error[too-large]"), "{page}");
}

#[test]
fn a_version_is_the_hash_of_what_show_prints() {
    let (status, page, _) = run(&["show", &sample("ecommerce-promotion-zh")], "");
    assert_eq!(status, 0);
    assert!(page.contains("nodes") && page.contains("offer_refill"), "{page}");
    let (_, canonical, _) = run(&["show", "--canonical", &sample("ecommerce-promotion-zh")], "");
    let digest = ring::digest::digest(&ring::digest::SHA256, canonical.as_bytes());
    assert!(page.starts_with(&format!("ecommerce-promotion-zh {}", hex::encode(digest.as_ref()))), "{page}");
    let (_, json, _) = run(&["show", "--json", &sample("ecommerce-promotion-zh")], "");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["experiments"], serde_json::json!(["opening_line"]));
}

#[test]
fn a_diff_has_status_1_when_there_is_one() {
    let old = sample("appointment-confirmation-en");
    assert_eq!(run(&["diff", &old, &old], ""), (0, String::new(), String::new()));
    let new = std::fs::read_to_string(&old)
        .unwrap()
        .replace("Which day would suit you better?", "Which day is better?");
    let (status, page, _) = run(&["diff", &old, "-"], &new);
    assert_eq!(status, 1);
    assert_eq!(
        page,
        "~ node new_date\n    say: - Sure. Which day would suit you better?\n         + Sure. Which day is better?\n"
    );
}

#[test]
fn a_review_page_holds_the_wording_and_reading_its_head_is_no_fault() {
    let (status, page, _) = run(&["render", &sample("repayment-reminder-zh")], "");
    assert_eq!(status, 0);
    assert!(page.contains("您好，我是{org}的智能语音助手，本次通话将被录音。"), "{page}");
    let (_, json, _) = run(&["render", "--json", &sample("repayment-reminder-zh")], "");
    let texts: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    assert!(texts.iter().any(|t| t["slots"] == serde_json::json!(["promise_date"])), "{json}");
}

#[test]
fn a_table_becomes_a_file_that_is_never_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let (table, out) = (dir.path().join("Parcel wording.csv"), dir.path().join("parcel.yaml"));
    let rows = "节点,话术,回答,下一步\n开场,您好，我是{org}的智能助手，本次通话将被录音。可以吗？,是,结束\n,,打错了,结束\n";
    std::fs::write(&table, rows).unwrap();
    let (table, out) = (table.display().to_string(), out.display().to_string());
    let (status, page, notes) = run(&["import", &table, "--out", &out], "");
    assert_eq!(status, 0, "{notes}");
    assert!(page.contains("written") && notes.contains("to do: "), "{page}{notes}");
    let (status, page, _) = run(&["lint", &out], "");
    assert_eq!(status, 0, "{page}");
    assert!(std::fs::read_to_string(&out).unwrap().contains("id: \"parcel-wording\""));
    let (status, _, complaint) = run(&["import", &table, "--out", &out], "");
    assert_eq!(status, 2);
    assert!(complaint.contains("an existing file is kept"), "{complaint}");
}

#[test]
fn stored_calls_are_replayed_and_inspected() {
    let golden = include_str!("../../../shared/wire/src/golden/call_ended.v1.json").replace('\n', "");
    let script = sample("repayment-reminder-zh");
    let (status, page, _) = run(&["replay", "--script", &script, "--calls", "-"], &golden);
    assert_eq!((status, page.contains("0 of 0 turns in 1 calls differ")), (0, true), "{page}");
    let (status, page, _) = run(&["inspect", "--script", &script, "--calls", "-"], &golden);
    assert_eq!((status, page.contains("1 calls, 0 with a critical remark")), (0, true), "{page}");
    let (status, _, complaint) = run(&["inspect", "--script", &script, "--calls", "-"], "{}");
    assert_eq!(status, 2);
    assert!(complaint.contains("line 1 is no call record"), "{complaint}");
}
