//! Rollouts over a simulated fleet, hour by hour.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use trunkline_fleet::report::{BoxReport, ComponentReport, Standing, Version};
use trunkline_fleet::rollout::{
    Cause, Change, Figure, FigureName, Order, Phase, Profile, Rollout, RolloutError, place, share_of_site,
};
use trunkline_fleet::sequential::Share;
use trunkline_fleet::why::{Why, why};
use trunkline_model::BoxId;
use trunkline_trust::{AssignedTarget, sha256};

fn t0() -> Timestamp {
    "2026-06-01T08:00:00Z".parse().unwrap()
}

fn target() -> AssignedTarget {
    AssignedTarget { component: "app".into(), name: "app-2.0.0.json".into(), sha256: sha256(b"2.0.0") }
}

fn ids(count: usize) -> Vec<BoxId> {
    (0..count).map(|n| format!("tl-{n:04}").parse().unwrap()).collect()
}

/// How the boxes take the version.
#[derive(Clone, Copy)]
struct Nature {
    /// This share rolls back.
    rolls_back: f64,
    /// This share falls silent.
    falls_silent: f64,
    /// This share is switched off.
    offline: f64,
    /// Failed calls on the new version; on the old one it is 3 %.
    failures: f64,
}

const GOOD: Nature = Nature { rolls_back: 0.0, falls_silent: 0.0, offline: 0.0, failures: 0.03 };

struct Fleet {
    rng: ChaCha8Rng,
    now: Timestamp,
    boxes: BTreeMap<BoxId, BoxReport>,
    /// When a box began, and what becomes of it.
    begun: BTreeMap<BoxId, (Timestamp, &'static str)>,
    off: Vec<BoxId>,
    nature: Nature,
    calls: (Share, Share),
}

impl Fleet {
    fn new(count: usize, nature: Nature, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let boxes: BTreeMap<BoxId, BoxReport> = ids(count)
            .into_iter()
            .map(|id| {
                let current = Some(Version { version: sha256(b"1.0.0") });
                let component = ComponentReport { current, stage: "idle".into(), ..Default::default() };
                (id, BoxReport { seen: t0(), at: t0(), component: Some(component) })
            })
            .collect();
        let off = boxes.keys().filter(|_| rng.random_bool(nature.offline)).cloned().collect();
        let calls = (Share::default(), Share::default());
        Self { rng, now: t0(), boxes, begun: BTreeMap::new(), off, nature, calls }
    }

    /// An hour passes: boxes that were told to run the version take it, and 4 calls are made on each box.
    fn hour(&mut self, rollout: &Rollout) {
        self.now += SignedDuration::from_hours(1);
        for (id, report) in &mut self.boxes {
            if self.off.contains(id) {
                continue;
            }
            let silent = self.begun.get(id).is_some_and(|(_, fate)| *fate == "silent");
            if !silent {
                (report.seen, report.at) = (self.now, self.now);
            }
            let component = report.component.as_mut().unwrap();
            if rollout.order(self.now, id, None) == Order::Run && !self.begun.contains_key(id) {
                let dice: f64 = self.rng.random();
                let fate = match dice {
                    dice if dice < self.nature.rolls_back => "rolled_back",
                    dice if dice < self.nature.rolls_back + self.nature.falls_silent => "silent",
                    _ => "committed",
                };
                self.begun.insert(id.clone(), (self.now, fate));
                component.job = Some(Version { version: rollout.target.sha256 });
                component.stage = "rebooting".into();
            } else if let Some((at, fate)) = self.begun.get(id)
                && self.now >= *at + SignedDuration::from_hours(2)
                && *fate != "silent"
            {
                component.stage = (*fate).into();
                component.reason = (*fate == "rolled_back")
                    .then(|| json!({"why": "self_test", "failed": [["test call", "no sound"]]}));
            }
            let new = component.stage == "committed";
            let share = if new { &mut self.calls.0 } else { &mut self.calls.1 };
            for _ in 0..4 {
                let rate = if new { self.nature.failures } else { 0.03 };
                share.cases += 1;
                share.bad += u64::from(self.rng.random_bool(rate));
            }
        }
    }

    fn figures(&self) -> [Figure; 1] {
        [Figure { name: FigureName::CallFailures, new: self.calls.0, rest: self.calls.1 }]
    }

    fn standing(&self, rollout: &Rollout, standing: Standing) -> u32 {
        rollout.counts(self.now, &self.boxes).get(&standing).copied().unwrap_or(0)
    }
}

fn run(fleet: &mut Fleet, rollout: &mut Rollout, hours: u32) -> Vec<Change> {
    let mut changes = Vec::new();
    for _ in 0..hours {
        fleet.hour(rollout);
        let figures = fleet.figures();
        changes.extend(rollout.step(fleet.now, &fleet.boxes, &figures));
    }
    changes
}

fn start(count: usize) -> Rollout {
    Rollout::start("r1", target(), Profile::default(), ids(count), t0()).unwrap()
}

#[test]
fn a_bad_version_on_200_boxes_stops_in_the_first_wave() {
    for (seed, nature) in [
        (1, Nature { rolls_back: 1.0, ..GOOD }),
        (2, Nature { falls_silent: 1.0, ..GOOD }),
        (3, Nature { rolls_back: 0.5, falls_silent: 0.5, ..GOOD }),
    ] {
        let (mut fleet, mut rollout) = (Fleet::new(200, nature, seed), start(200));
        let changes = run(&mut fleet, &mut rollout, 24 * 30);
        assert_eq!(rollout.waves[0].len(), 2);
        assert!(matches!(changes[..], [Change::Paused(Cause::CannotPass { of: 2, .. })]), "{changes:?}");
        assert!(matches!(rollout.phase, Phase::Paused { wave: 0, .. }));
        assert_eq!(fleet.begun.len(), 2, "198 boxes never heard of it");
    }
}

#[test]
fn a_good_version_reaches_every_box_wave_by_wave() {
    let (mut fleet, mut rollout) = (Fleet::new(200, GOOD, 4), start(200));
    let sizes: Vec<usize> = rollout.waves.iter().map(Vec::len).collect();
    assert_eq!(sizes, [2, 8, 20, 50, 60, 60]);
    let changes = run(&mut fleet, &mut rollout, 24 * 7);
    assert_eq!(changes.last(), Some(&Change::Finished), "{changes:?}");
    assert_eq!(fleet.standing(&rollout, Standing::Committed), 200);
}

#[test]
fn a_version_that_only_some_boxes_cannot_run_stops_before_most_have_it() {
    let (mut fleet, mut rollout) = (Fleet::new(1_000, Nature { rolls_back: 0.15, ..GOOD }, 5), start(1_000));
    run(&mut fleet, &mut rollout, 24 * 30);
    let Phase::Paused { wave, .. } = rollout.phase else { panic!("{:?}", rollout.phase) };
    assert!(wave <= 1, "{wave}");
    assert!(fleet.begun.len() <= 50, "{}", fleet.begun.len());
}

#[test]
fn a_version_whose_calls_fail_stops_by_the_figures_although_every_box_committed() {
    let (mut fleet, mut rollout) = (Fleet::new(400, Nature { failures: 0.12, ..GOOD }, 6), start(400));
    let changes = run(&mut fleet, &mut rollout, 24 * 14);
    let Some(Change::Paused(cause)) = changes.last() else { panic!("{changes:?}") };
    assert!(
        matches!(cause, Cause::Worse { figure: FigureName::CallFailures, by_permille } if *by_permille > 40)
    );
    assert!(cause.to_string().contains("more failed calls than on the old version"), "{cause}");
    assert_eq!(fleet.standing(&rollout, Standing::RolledBack), 0);
    assert!(fleet.begun.len() <= 60, "{}", fleet.begun.len());
}

#[test]
fn boxes_that_are_switched_off_do_not_hold_up_the_fleet() {
    let (mut fleet, mut rollout) = (Fleet::new(300, Nature { offline: 0.2, ..GOOD }, 7), start(300));
    let changes = run(&mut fleet, &mut rollout, 24 * 10);
    assert_eq!(changes.last(), Some(&Change::Finished));
    // One that comes back later is still told.
    let late = fleet.off[0].clone();
    assert_eq!(rollout.order(fleet.now, &late, None), Order::Run);
}

#[test]
fn a_pause_ends_only_by_a_person_and_what_they_have_seen_no_longer_counts() {
    let nature = Nature { rolls_back: 1.0, ..GOOD };
    let (mut fleet, mut rollout) = (Fleet::new(200, nature, 8), start(200));
    run(&mut fleet, &mut rollout, 48);
    assert!(matches!(rollout.phase, Phase::Paused { .. }));
    assert_eq!(run(&mut fleet, &mut rollout, 24 * 60), [], "nothing by itself");
    let (first, second) = (rollout.waves[0][0].clone(), rollout.waves[1][0].clone());
    assert_eq!(rollout.order(fleet.now, &first, fleet.boxes.get(&first)), Order::Hold);
    assert_eq!(rollout.order(fleet.now, &second, fleet.boxes.get(&second)), Order::Nothing);

    rollout.resume(fleet.now, &fleet.boxes).unwrap();
    let figures = fleet.figures();
    assert_eq!(rollout.step(fleet.now, &fleet.boxes, &figures), None, "the two are forgiven");
    assert_eq!(rollout.resume(fleet.now, &fleet.boxes), Err(RolloutError::Phase("paused")));
    rollout.stop("li", fleet.now).unwrap();
    assert!(rollout.stop("li", fleet.now).is_err());
}

#[test]
fn waves_are_the_same_every_time_differ_between_releases_and_never_grow() {
    let (one, two) = (start(500), start(500));
    assert_eq!(one.waves, two.waves);
    let mut other = target();
    other.name = "app-3.0.0.json".into();
    let other = Rollout::start("r2", other, Profile::default(), ids(500), t0()).unwrap();
    assert_ne!(one.waves[0], other.waves[0]);
    let mut grown = one.clone();
    for n in 500..900 {
        grown.join(format!("tl-{n:04}").parse().unwrap());
    }
    grown.join(ids(1)[0].clone());
    assert_eq!(grown.waves[..5], one.waves[..5]);
    assert_eq!(grown.waves[5].len(), one.waves[5].len() + 400);
    // Places are spread evenly enough that no release always meets the same boxes first.
    let low = ids(2_000).iter().filter(|id| place(id, "x") < 6_554).count();
    assert!((150..250).contains(&low), "{low}");
}

#[test]
fn percents_must_rise_to_100_and_there_must_be_boxes() {
    for percents in [vec![], vec![0, 100], vec![5, 5, 100], vec![1, 50], vec![50, 1, 100]] {
        let profile = Profile { percents, ..Profile::default() };
        let result = Rollout::start("r", target(), profile, ids(9), t0());
        assert_eq!(result.unwrap_err(), RolloutError::Percents);
    }
    let none = Rollout::start("r", target(), Profile::emergency(), ids(0), t0());
    assert_eq!(none.unwrap_err(), RolloutError::NoBoxes);
    assert_eq!(Rollout::start("r", target(), Profile::default(), ids(1), t0()).unwrap().waves[0].len(), 1);
}

#[test]
fn a_site_shares_its_line() {
    assert_eq!(share_of_site(1_000_000, 4), 250_000);
    assert_eq!(share_of_site(1_000, 100), 8_192);
    assert_eq!(share_of_site(1_000_000, 0), 1_000_000);
}

#[test]
fn each_box_has_an_answer_to_why_it_is_not_updated() {
    let mut rollout = start(200);
    let (id, later) = (rollout.waves[0][0].clone(), rollout.waves[3][0].clone());
    let report = |stage: &str, waiting, reason| BoxReport {
        seen: t0(),
        at: t0(),
        component: Some(ComponentReport {
            stage: stage.into(),
            job: Some(Version { version: target().sha256 }),
            waiting,
            reason,
            to_fetch: Some(1_000),
            ..ComponentReport::default()
        }),
    };
    let say = |rollout: &Rollout, id: &BoxId, report: Option<&BoxReport>, now| why(rollout, id, report, now);
    let mut page = String::new();
    let mut note = |answer: &Why| page.push_str(&format!("{answer}\n"));
    note(&say(&rollout, &"tl-other".parse().unwrap(), None, t0()));
    note(&say(&rollout, &later, None, t0()));
    note(&say(&rollout, &id, None, t0()));
    let late = t0() + SignedDuration::from_hours(3);
    let idle = BoxReport { component: None, ..report("idle", None, None) };
    note(&say(&rollout, &id, Some(&idle), t0()));
    note(&say(&rollout, &id, Some(&idle), late));
    note(&say(&rollout, &id, Some(&report("downloading", None, None)), t0()));
    for wait in [
        json!({"for": "window", "from": 1380, "to": 300}),
        json!({"for": "calls", "count": 2}),
        json!({"for": "room", "need": 10, "free": 5}),
        json!({"for": "metered", "bytes": 7}),
        json!({"for": "retry", "after": "the network failed", "tries": 3}),
        json!({"for": "lock"}),
        json!({"for": "something_new"}),
    ] {
        note(&say(&rollout, &id, Some(&report("wait_window", Some(wait), None)), t0()));
    }
    note(&say(&rollout, &id, Some(&report("trial", None, None)), late));
    for reason in [
        json!({"why": "self_test", "failed": [["test call", "no sound"]]}),
        json!({"why": "below_floor", "floor": 9}),
        json!({"why": "refused", "status": 404}),
        json!({"why": "failed_before"}),
    ] {
        note(&say(&rollout, &id, Some(&report("failed", None, Some(reason))), t0()));
    }
    note(&say(&rollout, &id, Some(&report("committed", None, None)), t0()));
    note(&say(&rollout, &id, Some(&report("cancelled", None, None)), t0()));
    rollout.pause("li", "calls sound odd", t0()).unwrap();
    note(&say(&rollout, &later, None, t0()));
    rollout.stop("li", t0()).unwrap();
    note(&say(&rollout, &later, None, t0()));
    insta::assert_snapshot!(page, @r#"
    the rollout does not include it
    it is in wave 4, and wave 1 runs
    it was never heard of
    it is connected and has not taken the assignment up yet
    it is offline since 2026-06-01T08:00:00Z
    downloading: 1000 bytes are left to fetch
    wait_window: it waits for its hours, 23:00 to 05:00
    wait_window: it waits for 2 calls to end
    wait_window: it waits for room: 10 bytes are needed, 5 are free
    wait_window: it waits for a line that costs nothing: 7 bytes are to be fetched
    wait_window: it waits to try again for the 3. time (the network failed)
    wait_window: it waits for somebody on site to release it
    wait_window: it waits for {"for":"something_new"}
    it was about to start the version and is silent since 2026-06-01T08:00:00Z
    failed: the self-test failed: test call (no sound)
    failed: older than the floor, release 9
    failed: the server answered 404
    failed: failed twice on this box before
    it runs this version
    the update was taken back
    the rollout is paused: li: calls sound odd
    li stopped the rollout
    "#);
}
