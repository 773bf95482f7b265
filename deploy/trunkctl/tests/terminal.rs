//! What people and scripts at a terminal rely on: completion, JSON, exit status.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn call(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trunkctl")).args(args).output().unwrap()
}

fn said(args: &[&str]) -> String {
    let done = call(args);
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// The commands that a help lists.
fn commands(help: &str) -> Vec<String> {
    let listed =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // A second line of a description is set further in.
    let first = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    first
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .filter(|name| name != "help")
        .collect()
}

#[test]
fn bash_completes_by_what_trunkctl_prints() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("trunkctl");
    std::fs::write(&file, said(&["completion", "bash"])).unwrap();
    let complete = |words: &[&str]| {
        let (last, before) = (words[words.len() - 1], words[words.len() - 2]);
        let line = format!(
            "source '{}'; COMP_WORDS=({}); COMP_CWORD={}; _trunkctl trunkctl '{last}' '{before}'; echo \"${{COMPREPLY[@]}}\"",
            file.display(),
            words.join(" "),
            words.len() - 1
        );
        let done = Command::new("bash").args(["-c", &line]).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(complete(&["trunkctl", "roll"]), "rollout");
    assert_eq!(complete(&["trunkctl", "rollout", "re"]), "resume");
    assert_eq!(complete(&["trunkctl", "box", "drain", "--no"]), "--no-wait");
    for shell in ["zsh", "fish"] {
        assert!(said(&["completion", shell]).contains("rollout"), "{shell}");
    }
}

#[test]
fn every_command_around_releases_and_boxes_has_json() {
    for group in ["release", "rollout", "box"] {
        let names = commands(&said(&[group, "--help"]));
        assert!(names.len() >= 6, "{group}: {names:?}");
        for name in names {
            let help = said(&[group, &name, "--help"]);
            assert!(help.contains("--json"), "{group} {name}");
        }
    }
    assert!(said(&["flash", "--help"]).contains("--json"));
}

#[test]
fn a_key_and_its_signature_are_told_in_json_and_failures_by_the_status() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (key, repo) = (path("r1"), path("repo"));
    let made: Value = serde_json::from_str(&said(&["release", "key", &key, "--json"])).unwrap();
    assert_eq!(made["public"], path("r1.pub"));
    let public = path("r1.pub");
    let root = [
        "release",
        "root",
        "--repo",
        &repo,
        "--root",
        &public,
        "--root-threshold",
        "1",
        "--release",
        &public,
    ];
    let more = ["--release-threshold", "1", "--online", &public, "--assign", &public, "--json"];
    let drafted: Value = serde_json::from_str(&said(&[&root[..], &more[..]].concat())).unwrap();
    assert_eq!((&drafted["root"], &drafted["threshold"]), (&1.into(), &1.into()));
    let signed = said(&["release", "sign", "--repo", &repo, "--key", &key, "--json"]);
    let signed: Value = serde_json::from_str(&signed).unwrap();
    assert_eq!(signed["signed"][0]["role"], "root");

    assert_eq!(call(&["release", "key", &key]).status.code(), Some(1), "it is there already");
    assert_eq!(call(&["release", "kay", &key]).status.code(), Some(2), "no such command");
}

/// What does not come back easily wants the name of the box, and asks the cloud nothing before that.
#[test]
fn a_box_is_transferred_and_decommissioned_by_typing_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_str().unwrap();
    let ask = |args: &[&str], typed: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trunkctl"));
        command.arg("box").args(args).args(["--dir", place]);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut asking = piped.spawn().unwrap();
        asking.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
        let done = asking.wait_with_output().unwrap();
        assert_eq!(done.status.code(), Some(1), "{args:?}");
        String::from_utf8(done.stderr).unwrap()
    };
    let transfer = ["transfer", "tl-7q2k", "--branch", "harbour"];
    for args in [&transfer[..], &["decommission", "tl-7q2k"]] {
        for typed in ["", "yes\n", "tl-7q2\n"] {
            let said = ask(args, typed);
            assert!(said.contains("nothing was changed") && !said.contains("token"), "{said}");
        }
        // The folder has no token: that is looked for only after the name was typed, or --yes said.
        assert!(ask(args, "tl-7q2k\n").contains("cannot read the token"));
        assert!(ask(&[args, &["--yes"]].concat(), "").contains("cannot read the token"));
    }
}

/// A folder with a little of everything in it, to make a release of.
fn bundle(dir: &std::path::Path) {
    std::fs::create_dir_all(dir.join("v1/bin")).unwrap();
    std::fs::write(dir.join("v1/bin/edge"), "one ".repeat(200_000)).unwrap();
}

/// What stands on a terminal (one of its own, by `script` of util-linux) at the end.
fn on_a_terminal(dir: &std::path::Path, line: &str) -> String {
    let line = format!("exec {} {line}", env!("CARGO_BIN_EXE_trunkctl"));
    let mut script = Command::new("script");
    // Who runs the tests may have no terminal at all, and a dumb one gets no bars.
    script.current_dir(dir).env("SHELL", "/bin/sh").env("TERM", "xterm").stdin(Stdio::null());
    let done = script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).output().unwrap();
    let said = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success(), "{said}");
    said
}

#[test]
fn a_bar_is_for_terminals_only_and_json_is_alone() {
    let dir = tempfile::tempdir().unwrap();
    bundle(dir.path());
    let create = "release create --component app --from v1 --version";
    let said = on_a_terminal(dir.path(), &format!("{create} 1.0.0"));
    assert!(
        said.contains("cutting") && said.contains("781.25 KiB") && said.contains("app-1.0.0.json"),
        "{said}"
    );
    let said = on_a_terminal(dir.path(), &format!("{create} 1.0.1 --json"));
    assert!(serde_json::from_str::<Value>(&said).is_ok(), "{said}");

    // In a log, what is short says nothing but its result.
    let mut plain = Command::new(env!("CARGO_BIN_EXE_trunkctl"));
    let done = plain.current_dir(dir.path()).args(create.split(' ')).arg("1.0.2").output().unwrap();
    assert!(done.status.success() && done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(String::from_utf8(done.stdout).unwrap().starts_with("app-1.0.2.json"));
}
