//! What an update does and refuses, on a disk in memory.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "what was not expected fails the test"
)]

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::common::sim::Sim;
use crate::common::{BOX, DAY, End, Life, Repo, Verdict, key, t0};
use jiff::SignedDuration;
use trunkline_trust::{Schedule, Signer, sha256};
use trunkline_update::{
    Conditions, Fetch, FetchError, FolderSource, LOOK_AGAIN, Reason, Status, StickResult, Todo, Wait,
    read_result, write_result,
};

fn fresh() -> (Sim, Life<Sim>) {
    let mut repo = Repo::new();
    repo.release("app", "1.0.0", 1, 0);
    repo.release("app", "2.0.0", 2, 2);
    let disk = Sim::new();
    let life = Life::new(disk.folder("update"), disk.folder("app"), repo, "app-1.0.0.json");
    (disk, life)
}

fn assign(life: &mut Life<Sim>, name: &str, when: Schedule) {
    life.assignment = Some(life.repo.assign(&[name], when));
}

fn live(life: &mut Life<Sim>) -> Status {
    life.live(|| false, || ()).remove(0)
}

fn reason(status: &Status) -> &Reason {
    status.reason.as_ref().unwrap_or_else(|| panic!("{status:?}"))
}

#[test]
fn an_update_goes_through_every_state_and_fetches_only_what_changed() {
    let (_, mut life) = fresh();
    assign(&mut life, "app-2.0.0.json", Schedule::default());
    let status = live(&mut life);
    assert_eq!(status.current.unwrap().release.version, "2.0.0");
    let seen = life.stages.join(" ");
    assert_eq!(seen, "idle checking downloading wait_window rebooting trial committed", "{seen}");
    let pack: u64 = life.fetched.iter().filter(|(path, _)| path.starts_with("packs/")).map(|(_, n)| n).sum();
    let whole = life.repo.versions["app-2.0.0.json"].1.len() as u64;
    assert!(pack < whole * 6 / 10, "{pack} of {whole} bytes");
    assert!(!life.drained, "calls are taken again");
}

#[test]
fn a_second_try_can_be_taken_back() {
    let (_, mut life) = fresh();
    life.verdicts.insert("2.0.0".into(), Verdict::Fails);
    assign(&mut life, "app-2.0.0.json", Schedule::default());
    let mut updater = life.start().unwrap();
    for _ in 0..5 {
        if updater.status()[0].stage == "rolled_back" {
            break;
        }
        life.run(&mut updater, || false);
        updater = life.start().unwrap();
    }
    assert!(updater.handle_cancel("app"));
    assert!(!updater.handle_cancel("app"), "only once");
    life.run(&mut updater, || false);
    let status = live(&mut life);
    assert_eq!((status.stage.as_str(), status.waiting), ("rolled_back", None));
    assert_eq!(life.stages.iter().filter(|stage| *stage == "trial").count(), 1, "{:?}", life.stages);
}

#[test]
fn a_version_that_fails_is_tried_twice_and_then_refused_until_somebody_insists() {
    for (verdict, expected) in [
        (Verdict::Fails, Reason::SelfTest { failed: vec![("test call".to_owned(), "no sound".to_owned())] }),
        (Verdict::Dies, Reason::NeverPassed),
        (Verdict::Hangs, Reason::SelfTestTimeout),
    ] {
        let (_, mut life) = fresh();
        life.verdicts.insert("2.0.0".into(), verdict);
        assign(&mut life, "app-2.0.0.json", Schedule::default());
        let status = live(&mut life);
        assert_eq!((status.stage.as_str(), reason(&status)), ("rolled_back", &expected));
        assert_eq!(life.running(), "1.0.0");
        let trials = life.stages.iter().filter(|stage| *stage == "trial").count();
        assert_eq!(trials, 2, "{:?}", life.stages);

        // The same assignment again, or a newer one for the same version: no loop.
        let status = live(&mut life);
        assert_eq!(status.stage, "rolled_back");
        assign(&mut life, "app-2.0.0.json", Schedule::default());
        let status = live(&mut life);
        assert_eq!(reason(&status), &Reason::FailedBefore);

        // Somebody who has repaired the box insists.
        life.verdicts.clear();
        assign(&mut life, "app-2.0.0.json", Schedule { retry_failed: true, ..Schedule::default() });
        assert_eq!(live(&mut life).stage, "committed");
        assert_eq!(life.running(), "2.0.0");
    }
}

#[test]
fn the_floor_rises_with_a_commit_and_refuses_what_lies_below_also_from_a_stick() {
    let (_, mut life) = fresh();
    assign(&mut life, "app-2.0.0.json", Schedule::default());
    assert_eq!(live(&mut life).floor, 2);
    assign(&mut life, "app-1.0.0.json", Schedule::default());
    let status = live(&mut life);
    assert_eq!(reason(&status), &Reason::BelowFloor { floor: 2 });
    assert_eq!(life.running(), "2.0.0");
}

#[test]
fn the_floor_is_known_although_the_state_file_was_spoilt() {
    let (disk, mut life) = fresh();
    assign(&mut life, "app-2.0.0.json", Schedule::default());
    assert_eq!(live(&mut life).floor, 2);
    disk.spoil("app/state.json", 0);
    assign(&mut life, "app-1.0.0.json", Schedule::default());
    assert_eq!(reason(&live(&mut life)), &Reason::BelowFloor { floor: 2 });
}

#[test]
fn a_state_file_that_is_spoilt_during_a_trial_proves_nothing() {
    let (disk, mut life) = fresh();
    assign(&mut life, "app-2.0.0.json", Schedule::default());
    let mut updater = life.start().unwrap();
    assert_eq!(life.run(&mut updater, || false), End::Switch);
    disk.spoil("app/state.json", 0);
    let updater = life.start().unwrap();
    assert_eq!((updater.status()[0].floor, updater.status()[0].current.as_ref()), (0, None));
    drop(updater);
    // The old version runs again, and the update begins anew.
    assert_eq!(live(&mut life).stage, "committed");
    assert_eq!(life.running(), "2.0.0");
}

#[test]
fn a_roll_back_to_an_older_version_above_the_floor_is_an_update_like_any_other() {
    let (_, mut life) = fresh();
    life.repo.release("app", "3.0.0", 3, 0);
    for (name, version) in [("app-3.0.0.json", "3.0.0"), ("app-2.0.0.json", "2.0.0")] {
        assign(&mut life, name, Schedule::default());
        assert_eq!(live(&mut life).stage, "committed");
        assert_eq!(life.running(), version);
    }
}

#[test]
fn a_version_that_was_never_committed_raises_no_floor() {
    let (_, mut life) = fresh();
    life.verdicts.insert("2.0.0".into(), Verdict::Fails);
    assign(&mut life, "app-2.0.0.json", Schedule::default());
    assert_eq!(live(&mut life).floor, 0);
}

#[test]
fn a_version_for_other_machines_is_refused() {
    let (_, mut life) = fresh();
    life.repo.release_for("app", "2.0.0-arm", 3, 0, &["aarch64"], t0());
    assign(&mut life, "app-2.0.0-arm.json", Schedule::default());
    assert_eq!(reason(&live(&mut life)), &Reason::WrongPlatform);
}

#[test]
fn a_stick_with_an_older_release_moves_nothing_and_its_result_says_why() {
    let (_, mut life) = fresh();
    // The stick is a copy of the repository as it was before 3.0.0.
    let stick = tempfile::tempdir().unwrap();
    let old = life.repo.clone();
    for (path, bytes) in &old.files {
        let path = stick.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let old_assignment = life.repo.clone().assign(&["app-1.0.0.json"], Schedule::default());
    std::fs::create_dir(stick.path().join("assignments")).unwrap();
    std::fs::write(stick.path().join(format!("assignments/{BOX}.json")), old_assignment).unwrap();

    life.repo.release("app", "3.0.0", 3, 3);
    life.repo.assign(&[], Schedule::default());
    assign(&mut life, "app-3.0.0.json", Schedule::default());
    assert_eq!(live(&mut life).stage, "committed");

    let source = FolderSource::new(stick.path());
    life.assignment = source.assignment(BOX).unwrap();
    assert!(life.assignment.is_some());
    assert_eq!(source.assignment("tl-b").unwrap(), None);
    life.answer = Box::new(move |_, fetch| source.get(fetch));
    let mut updater = life.start().unwrap();
    assert_eq!(life.run(&mut updater, || false), End::Settled);
    let trouble = updater.trouble().unwrap().to_owned();
    assert!(trouble.contains("version 2") && trouble.contains("version 3"), "{trouble}");
    assert_eq!(life.running(), "3.0.0");

    let result = StickResult {
        box_id: BOX.into(),
        at: life.now().wall,
        components: updater.status(),
        trouble: Some(trouble),
    };
    let written = write_result(stick.path(), &result, &key(77)).unwrap();
    let read = read_result(&std::fs::read(written).unwrap(), key(77).public()).unwrap();
    assert_eq!(read, result);
}

#[test]
fn a_stick_with_a_new_release_updates_a_box_without_a_network() {
    let (_, mut life) = fresh();
    let stick = tempfile::tempdir().unwrap();
    for (path, bytes) in &life.repo.files {
        let path = stick.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    assign(&mut life, "app-2.0.0.json", Schedule::default());
    let source = FolderSource::new(stick.path());
    life.answer = Box::new(move |_, fetch| source.get(fetch));
    assert_eq!(live(&mut life).stage, "committed");
}

#[test]
fn metadata_from_which_time_has_run_out_moves_nothing() {
    let (_, mut life) = fresh();
    assign(&mut life, "app-2.0.0.json", Schedule::default());
    life.clock = Duration::from_secs(8 * 86_400);
    let mut updater = life.start().unwrap();
    assert_eq!(life.run(&mut updater, || false), End::Settled);
    assert!(updater.trouble().unwrap().contains("expired"), "{:?}", updater.trouble());
    assert_eq!(life.running(), "1.0.0");
    // A server that is alive signs a new timestamp.
    life.repo.publish(&[], t0() + DAY * 8);
    assert_eq!(live(&mut life).stage, "committed");
}

#[test]
fn a_404_is_final_and_a_broken_network_is_not() {
    for status in [400, 401, 403, 404, 410, 451] {
        let (_, mut life) = fresh();
        assign(&mut life, "app-2.0.0.json", Schedule::default());
        let asked = std::rc::Rc::new(std::cell::Cell::new(0));
        let count = asked.clone();
        life.answer = Box::new(move |repo, fetch| {
            if fetch.path.starts_with("packs/") {
                count.set(count.get() + 1);
                return Err(FetchError::Status(status));
            }
            repo.get(fetch)
        });
        let ended = live(&mut life);
        assert_eq!(reason(&ended), &Reason::Refused { status });
        assert_eq!(asked.get(), 1, "asked once, never again");
    }
    for error in [
        FetchError::Status(503),
        FetchError::Status(429),
        FetchError::Slow,
        FetchError::Network("reset".into()),
    ] {
        let (_, mut life) = fresh();
        assign(&mut life, "app-2.0.0.json", Schedule::default());
        let mut left = 6;
        let failing = error.clone();
        life.answer = Box::new(move |repo, fetch| {
            if left > 0 {
                left -= 1;
                return Err(failing.clone());
            }
            repo.get(fetch)
        });
        assert_eq!(live(&mut life).stage, "committed", "{error}");
        assert!(life.clock >= Duration::from_secs(100), "tries lie further and further apart");
    }
}

#[test]
fn a_download_goes_on_after_a_cut_where_it_was() {
    let (_, mut life) = fresh();
    life.repo.release("app", "4.0.0-all-new", 4, 0);
    assign(&mut life, "app-4.0.0-all-new.json", Schedule::default());
    let pack = |fetch: &Fetch| fetch.range.filter(|_| fetch.path.starts_with("packs/"));
    let asked = Rc::new(RefCell::new(Vec::new()));
    let log = asked.clone();
    let cut = |bytes: Vec<u8>, at: usize| bytes[..bytes.len().min(at)].to_vec();
    life.answer = Box::new(move |repo, fetch| {
        let bytes = repo.get(fetch)?;
        let Some(range) = pack(fetch) else { return Ok(bytes) };
        log.borrow_mut().push(range);
        Ok(if log.borrow().len() == 1 { cut(bytes, 300_000) } else { bytes })
    });
    // The first process dies right after the cut.
    let mut updater = life.start().unwrap();
    let deaths = asked.clone();
    assert_eq!(life.run(&mut updater, move || deaths.borrow().len() == 1), End::Died);
    drop(updater);
    assert_eq!(live(&mut life).stage, "committed");
    let asked = asked.borrow();
    let (first, second) = (asked[0], asked[1]);
    let whole = life.repo.versions["app-4.0.0-all-new.json"].1.len() as u64;
    assert!(first.1 > whole / 2, "{first:?}");
    // All but the chunk in which it was cut is there.
    assert!(second.0 > first.0 && second.0 + 256 * 1024 > first.0 + 300_000, "{first:?} {second:?}");
}

#[test]
fn a_line_that_breaks_after_every_chunk_still_gets_there() {
    let (_, mut life) = fresh();
    life.repo.release("app", "4.0.0-all-new", 4, 0);
    assign(&mut life, "app-4.0.0-all-new.json", Schedule::default());
    life.answer = Box::new(|repo, fetch| {
        let mut bytes = repo.get(fetch)?;
        if fetch.range.is_some() {
            bytes.truncate(256 * 1024);
        }
        Ok(bytes)
    });
    assert_eq!(live(&mut life).stage, "committed");
}

#[test]
fn a_cancel_reaches_a_box_that_is_downloading_and_a_late_answer_changes_nothing() {
    let (_, mut life) = fresh();
    assign(&mut life, "app-2.0.0.json", Schedule::default());
    let mut updater = life.start().unwrap();
    let fetch = loop {
        match updater.poll(life.now()) {
            Todo::Fetch(fetch) if fetch.path.starts_with("packs/") => break fetch,
            Todo::Fetch(fetch) => {
                updater.handle_fetched(life.now(), fetch.number, life.repo.get(&fetch));
            }
            other => drop(other),
        }
    };
    assert!(updater.handle_cancel("app"));
    assert!(!updater.handle_cancel("app"), "only once");
    assert!(!updater.handle_cancel("models"), "no such component");
    updater.handle_fetched(life.now(), fetch.number, life.repo.get(&fetch));
    assert_eq!(life.run(&mut updater, || false), End::Settled);
    assert_eq!(updater.status()[0].stage, "cancelled");
    assert_eq!(live(&mut life).stage, "cancelled", "the same assignment does not start it again");
    assign(&mut life, "app-2.0.0.json", Schedule::default());
    assert_eq!(live(&mut life).stage, "committed");
}

#[test]
fn endless_and_slow_data_end() {
    // Endless: more than was asked for is refused and not written.
    let (_, mut life) = fresh();
    assign(&mut life, "app-2.0.0.json", Schedule::default());
    life.answer = Box::new(|repo, fetch| {
        let mut bytes = repo.get(fetch)?;
        if fetch.path.starts_with("targets/") {
            bytes.resize(fetch.max_bytes as usize + 1, b' ');
        }
        Ok(bytes)
    });
    assert!(matches!(reason(&live(&mut life)), Reason::NotAsReleased { .. }));

    // Slow: the updater gives a fetch up that the shell never answers, and asks again later.
    let (_, mut life) = fresh();
    assign(&mut life, "app-2.0.0.json", Schedule::default());
    let mut updater = life.start().unwrap();
    let Todo::Fetch(first) = updater.poll(life.now()) else { panic!("nothing to fetch") };
    let Todo::Wait { until: Some(until) } = updater.poll(life.now()) else { panic!("does not wait") };
    assert!(until < Duration::from_secs(120) && until >= first.within, "{until:?}");
    life.clock = until;
    assert!(matches!(updater.poll(life.now()), Todo::Wait { .. }));
    assert!(updater.trouble().unwrap().contains("slow"));
    assert_ne!(life.run(&mut updater, || false), End::Died);
    assert!(updater.trouble().is_none());
}

#[test]
fn wrong_bytes_are_never_written_and_a_short_answer_is_asked_for_again() {
    for damage in [0usize, 1] {
        let (_, mut life) = fresh();
        assign(&mut life, "app-2.0.0.json", Schedule::default());
        let mut left = 3;
        life.answer = Box::new(move |repo, fetch| {
            let mut bytes = repo.get(fetch)?;
            if fetch.path.starts_with("packs/") && left > 0 {
                left -= 1;
                if damage == 0 {
                    bytes[0] ^= 1;
                } else {
                    bytes.truncate(bytes.len() / 2);
                }
            }
            Ok(bytes)
        });
        assert_eq!(live(&mut life).stage, "committed");
    }
}

#[test]
fn an_update_waits_for_its_hours_for_calls_and_for_whoever_is_on_site() {
    let (_, mut life) = fresh();
    let when = Schedule { window: Some((23 * 60, 5 * 60)), ..Schedule::default() };
    assign(&mut life, "app-2.0.0.json", when);
    let mut updater = life.start().unwrap();
    let step = |life: &mut Life<Sim>, updater: &mut trunkline_update::Updater<Sim>| {
        for _ in 0..60 {
            updater.handle_conditions(life.conditions);
            match updater.poll(life.now()) {
                Todo::Fetch(fetch) => {
                    updater.handle_fetched(life.now(), fetch.number, life.repo.get(&fetch));
                }
                Todo::Drain(on) => life.drained = on,
                Todo::Wait { .. } => break,
                other => panic!("{other:?}"),
            }
        }
        updater.status()[0].waiting.clone()
    };
    assert_eq!(step(&mut life, &mut updater), Some(Wait::Window { from: 1_380, to: 300 }));
    assert!(!life.drained);
    life.local_minute = 30;
    life.conditions.calls = 2;
    assert_eq!(step(&mut life, &mut updater), Some(Wait::Calls { count: 2 }));
    assert!(life.drained, "no new calls while the last ones end");
    life.local_minute = 6 * 60;
    assert!(matches!(step(&mut life, &mut updater), Some(Wait::Window { .. })));
    assert!(!life.drained, "the hours are over: calls are taken again");
    life.local_minute = 0;
    life.conditions = Conditions { locked: true, ..Conditions::default() };
    assert_eq!(step(&mut life, &mut updater), Some(Wait::Lock));
    life.conditions = Conditions { hours: Some((1_200, 1_380)), ..Conditions::default() };
    assert_eq!(step(&mut life, &mut updater), Some(Wait::Window { from: 1_200, to: 1_380 }), "the branch's");
    life.conditions = Conditions { power: false, ..Conditions::default() };
    assert_eq!(step(&mut life, &mut updater), Some(Wait::Power));
    life.conditions = Conditions::default();
    assert_eq!(life.run(&mut updater, || false), End::Switch);
    assert_eq!(live(&mut life).stage, "committed");
}

#[test]
fn after_the_deadline_the_hours_no_longer_count_but_calls_still_end_first() {
    let (_, mut life) = fresh();
    let deadline = Some(t0() + SignedDuration::from_hours(1));
    assign(&mut life, "app-2.0.0.json", Schedule { window: Some((0, 1)), deadline, ..Schedule::default() });
    assert_eq!(live(&mut life).stage, "committed");
    assert!(life.clock >= Duration::from_secs(3_600));
}

#[test]
fn what_lacks_room_a_boot_record_or_a_cheap_line_waits_and_says_so() {
    type Prepare = fn(&Sim, &mut Life<Sim>);
    type Expected = fn(&Wait) -> bool;
    let cases: [(Prepare, Prepare, Expected); 3] = [
        (
            |disk, _| disk.set_free(1_000_000),
            |disk, _| disk.set_free(1 << 40),
            |wait| matches!(wait, Wait::Room { free: 1_000_000, .. }),
        ),
        (
            |_, life| life.conditions.metered_limit = Some(1_000),
            |_, life| life.conditions.metered_limit = None,
            |wait| matches!(wait, Wait::Metered { bytes } if *bytes > 1_000),
        ),
        (
            |_, life| life.conditions.power = false,
            |_, life| life.conditions.power = true,
            |wait| *wait == Wait::Power,
        ),
    ];
    for (spoil, heal, expected) in cases {
        let (disk, mut life) = fresh();
        assign(&mut life, "app-2.0.0.json", Schedule::default());
        spoil(&disk, &mut life);
        let mut updater = life.start().unwrap();
        for _ in 0..40 {
            updater.handle_conditions(life.conditions);
            match updater.poll(life.now()) {
                Todo::Fetch(fetch) => {
                    assert!(!fetch.path.starts_with("packs/"));
                    updater.handle_fetched(life.now(), fetch.number, life.repo.get(&fetch));
                }
                Todo::Wait { .. } => break,
                other => panic!("{other:?}"),
            }
        }
        let wait = updater.status()[0].waiting.clone().unwrap();
        assert!(expected(&wait), "{wait:?}");
        heal(&disk, &mut life);
        life.clock += LOOK_AGAIN;
        assert_eq!(life.run(&mut updater, || false), End::Switch);
    }
}

#[test]
fn a_disk_that_went_read_only_starts_the_good_version_and_updates_nothing() {
    let (disk, mut life) = fresh();
    assign(&mut life, "app-2.0.0.json", Schedule::default());
    disk.set_read_only(true);
    let mut updater = life.start().unwrap();
    for _ in 0..100 {
        match updater.poll(life.now()) {
            Todo::Fetch(fetch) => {
                updater.handle_fetched(life.now(), fetch.number, life.repo.get(&fetch));
            }
            Todo::Wait { until } => life.clock = until.unwrap(),
            other => panic!("{other:?}"),
        }
    }
    assert!(updater.trouble().unwrap().contains("read-only"), "{:?}", updater.trouble());
    assert_eq!(life.running(), "1.0.0");
}

#[test]
fn a_trial_that_cannot_be_counted_is_not_started() {
    let (disk, mut life) = fresh();
    assign(&mut life, "app-2.0.0.json", Schedule::default());
    let mut updater = life.start().unwrap();
    assert_eq!(life.run(&mut updater, || false), End::Switch);
    disk.set_read_only(true);
    assert_eq!(life.running(), "1.0.0");
    disk.set_read_only(false);
    assert_eq!(live(&mut life).stage, "committed");
}

#[test]
fn a_slot_that_was_spoilt_after_it_was_sealed_is_not_started() {
    let (disk, mut life) = fresh();
    assign(&mut life, "app-2.0.0.json", Schedule::default());
    let mut updater = life.start().unwrap();
    assert_eq!(life.run(&mut updater, || false), End::Switch);
    disk.spoil("app/b/bin/edge", 50_000);
    let mut updater = life.start().unwrap();
    assert_eq!(updater.status()[0].stage, "rolled_back");
    assert!(updater.status()[0].current.as_ref().unwrap().release.version == "1.0.0");
    // The second try writes it anew.
    let end = life.run(&mut updater, || false);
    assert_eq!(end, End::Switch);
    assert_eq!(live(&mut life).stage, "committed");
}

#[test]
fn a_newer_assignment_takes_the_place_of_an_older_one_in_the_middle_of_the_download() {
    let (_, mut life) = fresh();
    life.repo.release("app", "3.0.0", 3, 0);
    assign(&mut life, "app-2.0.0.json", Schedule::default());
    let mut updater = life.start().unwrap();
    loop {
        match updater.poll(life.now()) {
            Todo::Fetch(fetch) if fetch.path.starts_with("packs/") => break,
            Todo::Fetch(fetch) => {
                updater.handle_fetched(life.now(), fetch.number, life.repo.get(&fetch));
            }
            other => drop(other),
        }
    }
    assign(&mut life, "app-3.0.0.json", Schedule::default());
    updater.handle_assignment(life.assignment.clone().unwrap());
    assert_eq!(life.run(&mut updater, || false), End::Switch);
    assert_eq!(live(&mut life).current.unwrap().release.version, "3.0.0");
    let old = sha256(&life.repo.versions["app-2.0.0.json"].0.to_bytes()).to_string();
    assert!(!life.fetched.keys().any(|path| path.contains(&old)), "{:?}", life.fetched);
}

#[test]
fn a_budget_is_kept() {
    let (_, mut life) = fresh();
    assign(&mut life, "app-2.0.0.json", Schedule { bytes_per_s: Some(20_000), ..Schedule::default() });
    assert_eq!(live(&mut life).stage, "committed");
    let pack: u64 = life.fetched.iter().filter(|(path, _)| path.starts_with("packs/")).map(|(_, n)| n).sum();
    let least = Duration::from_secs(pack / 20_000 - 1);
    assert!(life.clock >= least, "{pack} bytes in {:?}", life.clock);

    // What the branch allows counts as well, whichever is less.
    let (_, mut life) = fresh();
    life.conditions.bytes_per_s = Some(10_000);
    assign(&mut life, "app-2.0.0.json", Schedule { bytes_per_s: Some(20_000), ..Schedule::default() });
    assert_eq!(live(&mut life).stage, "committed");
    let least = Duration::from_secs(pack / 10_000 - 1);
    assert!(life.clock >= least, "{pack} bytes in {:?}", life.clock);
}

#[test]
fn app_and_models_are_updated_by_one_assignment_one_after_the_other() {
    let (disk, mut life) = fresh();
    life.repo.release("models", "1", 1, 0);
    life.repo.release("models", "2", 2, 0);
    let (manifest, pack) = life.repo.versions["models-1.json"].clone();
    let models = trunkline_update::FileSlots::install(disk.folder("models"), &manifest, &pack).unwrap();
    life.components.push(("models".into(), models));
    life.assignment = Some(life.repo.assign(&["app-2.0.0.json", "models-2.json"], Schedule::default()));
    let status = life.live(|| false, || ());
    let versions: Vec<&str> =
        status.iter().map(|status| status.current.as_ref().unwrap().release.version.as_str()).collect();
    assert_eq!(versions, ["2.0.0", "2"]);
}
