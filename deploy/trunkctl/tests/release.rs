//! From a folder to a box: keys, root, release, signatures, publishing, a stick, a rollout.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use trunkline_update::{
    Check, Config, FileSlots, FolderSource, Manifest, Now, RealDisk, StickResult, Todo, Updater, launch,
    write_result,
};

fn call(dir: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trunkctl"))
        .current_dir(dir)
        .args(line.split_whitespace())
        .output()
        .unwrap()
}

fn ok(dir: &Path, line: &str) -> String {
    let done = call(dir, line);
    assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn refused(dir: &Path, line: &str) -> String {
    let done = call(dir, line);
    assert!(!done.status.success(), "{line} was accepted");
    String::from_utf8(done.stderr).unwrap()
}

fn write(dir: &Path, path: &str, text: &str) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A repository with a first release, `app-1.0.0.json`, and the keys for more.
fn repository(dir: &Path) {
    for key in ["r1", "r2", "r3", "t1", "t2", "online", "assign"] {
        ok(dir, &format!("release key {key}"));
    }
    ok(
        dir,
        "release root --root r1.pub r2.pub r3.pub --release t1.pub t2.pub --online online.pub --assign assign.pub",
    );
    write(dir, "v1/bin/edge", &"one ".repeat(20_000));
    write(dir, "v1/version", "1.0.0");
    ok(dir, "release create --component app --version 1.0.0 --from v1");
    for key in ["r1", "r3", "t1", "t2"] {
        ok(dir, &format!("release sign --key {key}"));
    }
    ok(dir, "release publish --key online");
}

fn add(dir: &Path, version: &str, text: &str) {
    write(dir, &format!("v{version}/bin/edge"), &text.repeat(20_000));
    write(dir, &format!("v{version}/version"), version);
    ok(dir, &format!("release create --component app --version {version} --from v{version}"));
    ok(dir, "release sign --key t1");
    ok(dir, "release sign --key t2");
    ok(dir, "release publish --key online");
}

#[test]
fn a_release_needs_enough_signatures_and_the_right_number() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    repository(dir);
    assert!(refused(dir, "release key r1").contains("already"));
    write(dir, "v2/version", "2.0.0");
    assert!(refused(dir, "release create --component app --version ../x --from v2").contains("no name"));
    let low = refused(dir, "release create --component app --version 2.0.0 --number 1 --from v2");
    assert!(low.contains("not above 1"), "{low}");
    let floor = refused(dir, "release create --component app --version 2.0.0 --floor 9 --from v2");
    assert!(floor.contains("refuse this very release"), "{floor}");

    ok(dir, "release create --component app --version 2.0.0 --from v2");
    ok(dir, "release sign --key t1");
    let one = refused(dir, "release publish --key online");
    assert!(one.contains("signed by 1 of the 2 keys"), "{one}");
    assert!(refused(dir, "release sign --key assign").contains("no draft that this key may sign"));
    ok(dir, "release sign --key t2");
    assert!(refused(dir, "release publish --key assign").contains("timestamp.json"));
    ok(dir, "release publish --key online");

    let shown: Value = serde_json::from_str(&ok(dir, "release show --json")).unwrap();
    assert_eq!(shown["releases"].as_array().unwrap().len(), 2);
    assert_eq!(shown["releases"][1]["release"]["release"], 2);
    assert_eq!(shown["drafts"], serde_json::json!([]));

    // A new root with another holder, signed by the old ones and the new one.
    ok(dir, "release key r4");
    ok(
        dir,
        "release root --root r2.pub r3.pub r4.pub --release t1.pub t2.pub --online online.pub --assign assign.pub",
    );
    ok(dir, "release sign --key r4");
    ok(dir, "release sign --key r2");
    assert!(refused(dir, "release publish --key online").contains("root cannot be published"));
    ok(dir, "release sign --key r3");
    ok(dir, "release publish --key online");
    assert!(ok(dir, "release show").starts_with("root 2,"));
}

/// One life after the other of a box with a stick in it, until nothing more happens; returns what it runs.
fn plug_in(repo: &Path, home: &Path, stick: &Path, box_id: &str) -> StickResult {
    let root = fs::read(repo.join("metadata/1.root.json")).unwrap();
    let source = FolderSource::new(stick);
    let mut clock = Duration::ZERO;
    loop {
        let mut app = RealDisk::new(&home.join("app")).unwrap();
        let start = launch(&mut app).unwrap();
        let wall = Timestamp::now();
        let config =
            Config { box_id: box_id.into(), platform: "x86-64".into(), built: Timestamp::UNIX_EPOCH };
        let disk = RealDisk::new(&home.join("update")).unwrap();
        let now = |clock| Now { mono: clock, wall, local_minute: 0 };
        let mut updater =
            Updater::open(config, disk, &root, vec![("app".into(), app, start.slot)], now(clock)).unwrap();
        if let Some(assignment) = source.assignment(box_id).unwrap() {
            updater.handle_assignment(assignment);
        }
        loop {
            match updater.poll(now(clock)) {
                Todo::Fetch(fetch) => updater.handle_fetched(now(clock), fetch.number, source.get(&fetch)),
                Todo::Drain(_) => {}
                Todo::Switch { .. } => break,
                Todo::SelfTest { component } => {
                    updater.handle_self_test(&component, &[Check { name: "all".into(), failed: None }]);
                }
                Todo::Wait { until: Some(until) } if until < clock + Duration::from_secs(60) => clock = until,
                Todo::Wait { .. } => {
                    let trouble = updater.trouble().map(str::to_owned);
                    return StickResult {
                        box_id: box_id.into(),
                        at: wall,
                        components: updater.status(),
                        trouble,
                    };
                }
            }
        }
    }
}

#[test]
fn a_stick_updates_the_boxes_it_is_for_and_brings_their_results_back() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    repository(dir);
    // Two boxes as delivered.
    let shown: Value = serde_json::from_str(&ok(dir, "release show --json")).unwrap();
    let hash = shown["releases"][0]["sha256"].as_str().unwrap().to_owned();
    let repo = dir.join("repo");
    let manifest = fs::read(repo.join(format!("targets/{hash}.app-1.0.0.json"))).unwrap();
    let pack = fs::read(repo.join(format!("packs/{hash}.pack"))).unwrap();
    for home in ["a", "b"] {
        let disk = RealDisk::new(&dir.join(home).join("app")).unwrap();
        FileSlots::install(disk, &Manifest::parse(&manifest).unwrap(), &pack).unwrap();
    }

    fs::create_dir(dir.join("usb")).unwrap();
    fs::create_dir(dir.join("old")).unwrap();
    ok(dir, "flash --usb old --release app-1.0.0.json --box tl-a --key assign");
    add(dir, "2.0.0", "two ");
    assert!(
        refused(dir, "flash --usb usb --release app-9.json --box tl-a --key assign").contains("app-9.json")
    );
    assert!(refused(dir, "flash --usb usb --release app-2.0.0.json --box tl-a --key t1").contains("tl-a"));
    ok(dir, "flash --usb usb --release app-2.0.0.json --box tl-a --key assign");

    let stick = dir.join("usb/trunkline");
    let first = plug_in(&repo, &dir.join("a"), &stick, "tl-a");
    let version =
        |result: &StickResult| result.components[0].current.as_ref().unwrap().release.version.clone();
    assert_eq!((version(&first), first.trouble.clone()), ("2.0.0".into(), None));
    assert_eq!(version(&plug_in(&repo, &dir.join("b"), &stick, "tl-b")), "1.0.0", "not for this box");

    // The older stick is refused now, and says why.
    let refused = plug_in(&repo, &dir.join("a"), &dir.join("old/trunkline"), "tl-a");
    assert_eq!(version(&refused), "2.0.0");
    assert!(refused.trouble.clone().unwrap().contains("is known already"), "{:?}", refused.trouble);

    let key = trunkline_trust::FileKey::from_seed(&[5; 32]).unwrap();
    write_result(&stick, &first, &key).unwrap();
    let shown = ok(dir, "flash --usb usb --results");
    assert!(shown.contains("tl-a") && shown.contains("committed") && shown.contains("runs 2.0.0"), "{shown}");
}

#[test]
fn a_rollout_in_a_file_assigns_the_first_wave_and_pauses_on_its_failures() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    repository(dir);
    let boxes: Vec<String> = (0..200).map(|n| format!("tl-{n:03}")).collect();
    write(dir, "boxes", &boxes.join("\n"));
    let started = ok(dir, "rehearse start --release app-1.0.0.json --boxes boxes");
    assert!(started.contains("waves of 2, 8, 20, 50, 60, 60 boxes"), "{started}");
    assert!(refused(dir, "rehearse start --release app-1.0.0.json --boxes boxes").contains("already"));
    let assigned: Value =
        serde_json::from_str(&ok(dir, "rehearse assign --key assign --out out --json")).unwrap();
    let assigned: Vec<String> = serde_json::from_value(assigned["assigned"].clone()).unwrap();
    assert_eq!(assigned.len(), 2);
    assert_eq!(fs::read_dir(dir.join("out")).unwrap().count(), 2);

    let rollout: Value = serde_json::from_slice(&fs::read(dir.join("rollout.json")).unwrap()).unwrap();
    let version = &rollout["target"]["sha256"];
    let reports = serde_json::json!({(assigned[0].clone()): {
        "seen": Timestamp::now(),
        "component": {"stage": "rolled_back", "job": {"version": version},
            "reason": {"why": "self_test", "failed": [["test call", "no sound"]]}},
    }});
    write(dir, "reports.json", &reports.to_string());
    assert!(ok(dir, "rehearse step").contains("nothing has changed"));
    let step = ok(dir, "rehearse step --reports reports.json");
    assert!(step.contains("paused: 1 of the wave's 2 boxes went wrong"), "{step}");
    let shown = ok(dir, "rehearse show --reports reports.json");
    assert!(shown.contains("the self-test failed: test call (no sound)"), "{shown}");
    assert!(shown.contains("the rollout is paused"), "{shown}");
    assert!(ok(dir, "rehearse assign --key assign --out out --reports reports.json").starts_with("0 "));
    ok(dir, "rehearse resume --reports reports.json --by li");
    assert!(refused(dir, "rehearse resume").contains("not paused"));
    ok(dir, "rehearse stop --by li");
}
