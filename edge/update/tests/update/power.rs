//! The power is cut between any two changes of the disk, once or again and again: no brick, no unverified
//! start, and the right slot in the end. `crate::common::Life::start` checks each start byte for byte.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::cell::RefCell;

use crate::common::sim::Sim;
use crate::common::{Life, Repo, Verdict};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use trunkline_trust::Schedule;

/// A box that runs 1.0.0 and is assigned 2.0.0; made once, and copied for each cut.
struct Template {
    disk: Sim,
    repo: Repo,
    assignment: Vec<u8>,
}

impl Template {
    fn new() -> Self {
        let mut repo = Repo::new();
        repo.release("app", "1.0.0", 1, 0);
        repo.release("app", "2.0.0", 2, 2);
        let disk = Sim::new();
        Life::new(disk.folder("update"), disk.folder("app"), repo.clone(), "app-1.0.0.json");
        let assignment = repo.assign(&["app-2.0.0.json"], Schedule::default());
        Self { disk, repo, assignment }
    }

    fn copy(&self, verdict: Verdict) -> (Sim, Life<Sim>) {
        let disk = self.disk.fork();
        let mut life = Life::on(disk.folder("update"), disk.folder("app"), self.repo.clone());
        life.assignment = Some(self.assignment.clone());
        life.verdicts.insert("2.0.0".into(), verdict);
        (disk, life)
    }
}

fn expect_end(life: &mut Life<Sim>, verdict: Verdict, stage: &str, floor: u64, context: &str) {
    let running = life.running();
    match verdict {
        Verdict::Passes => {
            assert_eq!((running.as_str(), stage, floor), ("2.0.0", "committed", 2), "{context}");
        }
        Verdict::Fails | Verdict::Dies | Verdict::Hangs => {
            assert_eq!((running.as_str(), floor), ("1.0.0", 0), "{context}");
            assert!(matches!(stage, "rolled_back" | "failed"), "{context}: {stage}");
        }
    }
}

/// Cuts the power after the n-th change, for every n.
fn cut_everywhere(verdict: Verdict) -> u64 {
    let template = Template::new();
    let (disk, mut life) = template.copy(verdict);
    let before = disk.changes();
    let status = life.live(|| false, || ());
    expect_end(&mut life, verdict, &status[0].stage, status[0].floor, "without a cut");
    let changes = disk.changes() - before;

    for n in 0..changes {
        let (disk, mut life) = template.copy(verdict);
        disk.cut_after(Some(n));
        let rng = RefCell::new(ChaCha8Rng::seed_from_u64(n));
        let status = life.live(|| disk.is_dead(), || disk.crash(&mut rng.borrow_mut()));
        let context = format!("{verdict:?}, cut after change {n} of {changes}, {:?}", life.stages);
        expect_end(&mut life, verdict, &status[0].stage, status[0].floor, &context);
    }
    println!("a version that {verdict:?}: cut after each of its {changes} changes, the right slot each time");
    changes
}

#[test]
fn a_cut_at_any_change_of_a_good_update_ends_in_the_new_version() {
    assert!(cut_everywhere(Verdict::Passes) > 60);
}

#[test]
fn a_cut_at_any_change_of_a_version_that_fails_its_test_ends_in_the_old_one() {
    assert!(cut_everywhere(Verdict::Fails) > 100);
}

#[test]
fn a_cut_at_any_change_of_a_version_that_dies_at_once_ends_in_the_old_one() {
    assert!(cut_everywhere(Verdict::Dies) > 100);
}

#[test]
fn a_power_switch_that_somebody_plays_with_never_strands_the_box() {
    let template = Template::new();
    for seed in 0..120 {
        let verdict = [Verdict::Passes, Verdict::Fails, Verdict::Dies][seed as usize % 3];
        let (disk, mut life) = template.copy(verdict);
        let rng = RefCell::new(ChaCha8Rng::seed_from_u64(seed));
        let cuts = RefCell::new(rng.borrow_mut().random_range(2..12));
        let next = |rng: &mut ChaCha8Rng| Some(rng.random_range(0..60));
        disk.cut_after(next(&mut rng.borrow_mut()));
        let status = life.live(
            || disk.is_dead(),
            || {
                let mut rng = rng.borrow_mut();
                disk.crash(&mut rng);
                let mut cuts = cuts.borrow_mut();
                if *cuts > 0 {
                    *cuts -= 1;
                    disk.cut_after(next(&mut rng));
                }
            },
        );
        let running = life.running();
        let stage = status[0].stage.as_str();
        let context = format!("SIM_SEED={seed} {verdict:?} {:?}", life.stages);
        // A good version that never got three undisturbed starts may have been given up; it is then said so.
        match (verdict, stage) {
            (Verdict::Passes, "committed") => assert_eq!(running, "2.0.0", "{context}"),
            (_, "rolled_back" | "failed") => assert_eq!(running, "1.0.0", "{context}"),
            other => panic!("{other:?}: {context}"),
        }
    }
}

#[test]
fn a_second_update_cut_anywhere_leaves_the_one_that_was_committed() {
    let mut template = Template::new();
    let (disk, mut life) = template.copy(Verdict::Passes);
    life.live(|| false, || ());
    life.repo.release("app", "3.0.0", 3, 0);
    template.assignment = life.repo.assign(&["app-3.0.0.json"], Schedule::default());
    (template.disk, template.repo) = (disk.fork(), life.repo.clone());

    let (disk, mut life) = template.copy(Verdict::Passes);
    let before = disk.changes();
    life.live(|| false, || ());
    assert_eq!(life.running(), "3.0.0");
    let changes = disk.changes() - before;
    for n in (0..changes).step_by(3) {
        let (disk, mut life) = template.copy(Verdict::Passes);
        disk.cut_after(Some(n));
        let rng = RefCell::new(ChaCha8Rng::seed_from_u64(n));
        let status = life.live(|| disk.is_dead(), || disk.crash(&mut rng.borrow_mut()));
        assert_eq!(life.running(), "3.0.0", "cut after change {n}");
        assert_eq!((status[0].stage.as_str(), status[0].floor), ("committed", 2));
    }
}
