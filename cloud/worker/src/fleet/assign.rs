//! What each box is assigned: added up over all rollouts, signed when it is news.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use trunkline_db::{AssignmentRow, ReportRow};
use trunkline_fleet::report::Standing;
use trunkline_fleet::rollout::{Order, Rollout};
use trunkline_model::BoxId;
use trunkline_trust::{AssignedTarget, Assignment, Envelope, EnvelopeError, Schedule};

use super::{FleetKeys, box_reports};

/// An assignment is believed for this long, and signed anew when a third of it is left.
const ASSIGNMENT_LIFE: SignedDuration = SignedDuration::from_hours(24 * 30);
const SIGN_AGAIN: SignedDuration = SignedDuration::from_hours(24 * 10);
/// What one box is to be told by all rollouts together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Wanted {
    targets: BTreeMap<String, Part>,
    cancel: Vec<String>,
}

/// One component of it.
#[derive(Clone, Debug, PartialEq)]
struct Part {
    target: AssignedTarget,
    /// When and how fast, while the box does not run it yet.
    when: Option<Schedule>,
}

impl Wanted {
    /// Returns when and how fast the box takes what it does not run yet; `None` when there is nothing.
    fn when(&self) -> Option<Schedule> {
        self.targets.values().filter_map(|part| part.when.clone()).reduce(|one, other| Schedule {
            window: one.window.or(other.window),
            deadline: one.deadline.into_iter().chain(other.deadline).min(),
            bytes_per_s: one.bytes_per_s.into_iter().chain(other.bytes_per_s).min(),
            retry_failed: one.retry_failed || other.retry_failed,
        })
    }
}

/// Adds up what the rollouts say, the newest last. One that holds a version back leaves to a box what older
/// ones have brought it.
pub(super) fn orders(
    rollouts: &[Rollout],
    rows: &[ReportRow],
    branches: &BTreeMap<BoxId, String>,
    now: Timestamp,
) -> BTreeMap<BoxId, Wanted> {
    let mut all: BTreeMap<BoxId, Wanted> = BTreeMap::new();
    for rollout in rollouts {
        let component = &rollout.target.component;
        let boxes = box_reports(rows, component);
        let told: Vec<(&BoxId, Order)> =
            rollout.waves.iter().flatten().map(|id| (id, rollout.order(now, id, boxes.get(id)))).collect();
        let mut fetching: BTreeMap<&str, u64> = BTreeMap::new();
        for (id, order) in &told {
            if *order == Order::Run
                && rollout.has_to_fetch(now, boxes.get(id))
                && let Some(branch) = branches.get(id)
            {
                *fetching.entry(branch).or_default() += 1;
            }
        }
        for (id, order) in told {
            match order {
                Order::Run => {
                    let wanted = all.entry(id.clone()).or_default();
                    let there = boxes.get(id).map(|report| rollout.standing(report, now));
                    let beside = branches.get(id).and_then(|branch| fetching.get(branch.as_str()));
                    let when = (there != Some(Standing::Committed))
                        .then(|| rollout.schedule(beside.copied().unwrap_or(1)));
                    let part = Part { target: rollout.target.clone(), when };
                    wanted.targets.insert(component.clone(), part);
                    wanted.cancel.retain(|one| one != component);
                }
                Order::Hold => {
                    let wanted = all.entry(id.clone()).or_default();
                    if !wanted.cancel.contains(component) {
                        wanted.cancel.push(component.clone());
                    }
                }
                Order::Nothing => {}
            }
        }
    }
    all
}

pub(super) fn is_news(before: Option<&AssignmentRow>, wanted: &Wanted, now: Timestamp) -> bool {
    let Some(before) = before else { return true };
    let targets: Vec<&AssignedTarget> = wanted.targets.values().map(|part| &part.target).collect();
    before.targets.iter().collect::<Vec<_>>() != targets
        || before.cancel != wanted.cancel
        || before.expires < now + SIGN_AGAIN
        || wanted.when().is_some_and(|when| when != schedule_of(&before.doc))
}

/// Returns the schedule in an assignment that was signed here before.
fn schedule_of(doc: &str) -> Schedule {
    let signed = Envelope::parse(doc.as_bytes()).map(|envelope| envelope.signed()["when"].clone());
    signed.ok().and_then(|when| serde_json::from_value(when).ok()).unwrap_or_default()
}

pub(super) fn sign(
    keys: &FleetKeys,
    id: &BoxId,
    before: Option<&AssignmentRow>,
    wanted: Wanted,
    now: Timestamp,
) -> Result<AssignmentRow, EnvelopeError> {
    // Seconds count up without anybody keeping count: sticks and cloud share the key and the rule.
    let seconds = u64::try_from(now.as_second()).unwrap_or(1);
    let number = before.map_or(0, |before| before.number + 1).max(seconds);
    let when = wanted.when().unwrap_or_default();
    let targets: Vec<AssignedTarget> = wanted.targets.into_values().map(|part| part.target).collect();
    let expires = now + ASSIGNMENT_LIFE;
    let mut assignment = Assignment::new(id.as_str(), number, expires, targets.clone());
    assignment.when = when;
    let mut envelope = Envelope::new(json!(assignment));
    envelope.sign(&*keys.assign)?;
    let doc = String::from_utf8_lossy(&envelope.to_bytes()).into_owned();
    Ok(AssignmentRow { box_id: id.clone(), number, targets, cancel: wanted.cancel, doc, expires })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use trunkline_fleet::rollout::{Phase, Profile};
    use trunkline_trust::{FileKey, Signer, sha256};
    use trunkline_wire::Reported;

    use super::*;

    fn t0() -> Timestamp {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    fn rollout(name: &str, percents: &[u8]) -> Rollout {
        let target =
            AssignedTarget { component: "app".into(), name: name.into(), sha256: sha256(name.as_bytes()) };
        let profile = Profile { percents: percents.to_vec(), ..Profile::default() };
        let boxes = ["tl-a", "tl-b", "tl-c"].map(|id| id.parse().unwrap());
        Rollout::start(name, target, profile, boxes, t0()).unwrap()
    }

    #[test]
    fn a_held_rollout_leaves_to_a_box_what_an_older_one_has_brought() {
        let mut good = rollout("app-1.json", &[100]);
        good.phase = Phase::Finished { at: t0() };
        let mut bad = rollout("app-2.json", &[34, 100]);
        let canary: Vec<BoxId> = bad.waves[0].clone();
        let told = orders(&[good.clone(), bad.clone()], &[], &BTreeMap::new(), t0());
        for (id, wanted) in &told {
            let expected = if canary.contains(id) { "app-2.json" } else { "app-1.json" };
            assert_eq!(
                (wanted.targets["app"].target.name.as_str(), wanted.cancel.len()),
                (expected, 0),
                "{id}"
            );
        }
        bad.pause("li", "a look", t0()).unwrap();
        let told = orders(&[good, bad], &[], &BTreeMap::new(), t0());
        for (id, wanted) in &told {
            assert_eq!(wanted.targets["app"].target.name, "app-1.json");
            assert_eq!(wanted.cancel.is_empty(), !canary.contains(id), "the canary takes it back");
        }
    }

    #[test]
    fn an_assignment_is_signed_for_news_only_and_its_number_rises() {
        let assign = Arc::new(FileKey::from_seed(&[3; 32]).unwrap());
        let keys = FleetKeys { repo: PathBuf::new(), assign };
        let id: BoxId = "tl-a".parse().unwrap();
        let wanted =
            orders(&[rollout("app-1.json", &[100])], &[], &BTreeMap::new(), t0()).remove(&id).unwrap();
        assert!(is_news(None, &wanted, t0()));
        let first = sign(&keys, &id, None, wanted.clone(), t0()).unwrap();
        assert!(!is_news(Some(&first), &wanted, t0()));
        assert!(is_news(
            Some(&first),
            &wanted,
            t0() + ASSIGNMENT_LIFE - SIGN_AGAIN + SignedDuration::from_secs(1)
        ));
        let second = sign(&keys, &id, Some(&first), wanted, t0()).unwrap();
        assert_eq!(second.number, first.number + 1, "also within one second");
        let signed = Envelope::parse(second.doc.as_bytes()).unwrap();
        assert_eq!(signed.claimed().collect::<Vec<_>>(), [&keys.assign.public().id()]);
        assert_eq!(signed.signed()["box"], "tl-a");
    }

    fn reported(id: &str, stage: &str, version: &str) -> ReportRow {
        let hash = sha256(version.as_bytes());
        let component = json!({"component": "app", "stage": stage, "job": {"version": hash}});
        let reported = Reported { components: vec![component], ..Reported::default() };
        ReportRow { box_id: id.parse().unwrap(), reported, at: t0() }
    }

    #[test]
    fn boxes_of_one_branch_share_its_line_and_each_gets_more_as_the_others_are_done() {
        let mut rollout = rollout("app-1.json", &[100]);
        rollout.profile.hours = Some("22:00-05:00".parse().unwrap());
        rollout.profile.site_kib_per_s = Some(600);
        rollout.profile.box_kib_per_s = Some(400);
        let branches: BTreeMap<BoxId, String> = [("tl-a", "0451"), ("tl-b", "0451"), ("tl-c", "harbour")]
            .map(|(id, branch)| (id.parse().unwrap(), branch.to_owned()))
            .into();
        let rates = |rows: &[ReportRow]| {
            let told = orders(std::slice::from_ref(&rollout), rows, &branches, t0());
            told.into_values()
                .map(|wanted| wanted.when().map(|when| when.bytes_per_s.unwrap() / 1024))
                .collect::<Vec<_>>()
        };
        assert_eq!(rates(&[]), [Some(300), Some(300), Some(400)]);
        let staged = reported("tl-a", "wait_window", "app-1.json");
        assert_eq!(rates(&[staged]), [Some(400), Some(400), Some(400)], "its line is free again");
        let done = reported("tl-a", "committed", "app-1.json");
        assert_eq!(rates(std::slice::from_ref(&done)), [None, Some(400), Some(400)]);

        // What is signed says so; what changes is signed again, and what is done is left alone.
        let keys =
            FleetKeys { repo: PathBuf::new(), assign: Arc::new(FileKey::from_seed(&[3; 32]).unwrap()) };
        let id: BoxId = "tl-a".parse().unwrap();
        let wanted = |rows: &[ReportRow]| {
            orders(std::slice::from_ref(&rollout), rows, &branches, t0()).remove(&id).unwrap()
        };
        let first = sign(&keys, &id, None, wanted(&[]), t0()).unwrap();
        let when = schedule_of(&first.doc);
        assert_eq!((when.window, when.bytes_per_s), (Some((1_320, 300)), Some(300 * 1024)));
        assert!(!is_news(Some(&first), &wanted(&[]), t0()));
        let other = reported("tl-b", "committed", "app-1.json");
        assert!(is_news(Some(&first), &wanted(&[other]), t0()), "it may fetch faster");
        assert!(!is_news(Some(&first), &wanted(&[done]), t0()));
    }
}
