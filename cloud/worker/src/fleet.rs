//! The fleet, reconciled: what boxes report is kept, what they lack is sent, rollouts go on or pause, and
//! who was revoked is shown the door.
//!
//! The decisions are those of `cloud/fleet`; here is the database, the signature of assignments and the way to
//! the boxes. Everything is read anew each time, so that a restart is no special case.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use trunkline_db::{AssignmentRow, DbError, ReportRow};
use trunkline_fleet::alert::{self, Alert, Machine, Seen};
use trunkline_fleet::report::{BoxReport, Standing};
use trunkline_fleet::rollout::{Change, Figure, FigureName, Order, Phase, Rollout};
use trunkline_fleet::sequential::Share;
use trunkline_model::BoxId;
use trunkline_trust::{AssignedTarget, Assignment, Client, Envelope, EnvelopeError, FileKey, TrustError};
use trunkline_wire::{Desired, JobNext, Reported, topic};
use uuid::Uuid;

use crate::broker::envelope;
use crate::dispatch::Chain;
use crate::{BrokerError, Publication, Qos, Stop, Worker};

/// An assignment is believed for this long, and signed anew when a third of it is left.
const ASSIGNMENT_LIFE: SignedDuration = SignedDuration::from_hours(24 * 30);
const SIGN_AGAIN: SignedDuration = SignedDuration::from_hours(24 * 10);
/// What a box did not confirm is sent again after this time.
pub(crate) const SEND_AGAIN: Duration = Duration::from_secs(15);
/// Between two looks at the whole fleet.
const PAUSE: Duration = Duration::from_millis(250);
const IDLE: Duration = Duration::from_secs(2);
/// Between two looks at how well the boxes are.
const ALERTS: Duration = Duration::from_secs(10);
/// A session is ended for so long after its box was revoked; later ones are not let in anyway.
const KICK_FOR: SignedDuration = SignedDuration::from_mins(5);

/// What the worker needs for updates.
#[derive(Clone, Debug)]
pub struct FleetKeys {
    /// The signed repository, as `trunkctl release` writes it.
    pub repo: PathBuf,
    /// The online key that signs assignments.
    pub assign: Arc<FileKey>,
}

/// Returns what a report says about how well the box is.
fn seen(row: &ReportRow) -> Seen {
    let told = &row.reported;
    let health = told.health.clone().unwrap_or_default();
    let calls = told.calls.clone().unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let back = |part: &&serde_json::Value| part["stage"] == "rolled_back";
    Seen {
        id: row.box_id.clone(),
        at: row.at,
        machine: Machine {
            memory_free_mib: health.memory_free_mib,
            memory_mib: health.memory_mib,
            disk_free_mib: health.disk_free_mib,
            disk_mib: health.disk_mib,
            temperature_c: health.temperature_c,
            clock_off_s: health.clock_off_s,
        },
        calls_down: (calls.state == "down").then_some(calls.why),
        trunks_down: calls
            .trunks
            .into_iter()
            .filter(|trunk| !trunk.up)
            .map(|trunk| (trunk.name, trunk.trouble))
            .collect(),
        rolled_back: told
            .components
            .iter()
            .filter(back)
            .map(|part| (text(&part["component"]), part["reason"].to_string()))
            .collect(),
    }
}

/// Reads the repository as a box would that knows nothing but the first root.
///
/// # Errors
/// [`TrustError`]: what a box would refuse.
pub fn look(repo: &Path, now: Timestamp) -> Result<Client, TrustError> {
    let read = |name: &str| fs::read(repo.join("metadata").join(name)).ok();
    let root = read("1.root.json").ok_or_else(|| TrustError::Missing("1.root.json".into()))?;
    let mut client = Client::open(&root, |_| None)?;
    client.begin(now);
    while let Some(fetch) = client.poll_fetch() {
        match read(&fetch.name) {
            Some(bytes) => client.handle_file(&fetch.name, &bytes)?,
            None => client.handle_absent(&fetch.name)?,
        }
    }
    Ok(client)
}

/// Returns what a box says about one component, as rollouts look at it.
pub fn box_report(row: &ReportRow, component: &str) -> BoxReport {
    let told = row.reported.components.iter().find(|told| told["component"] == component);
    // What cannot be read was written by a box of tomorrow: it is as if it had said nothing.
    let component = told.and_then(|told| serde_json::from_value(told.clone()).ok());
    BoxReport { seen: row.at, at: row.at, component }
}

/// Returns what the boxes say about one component.
pub fn box_reports(rows: &[ReportRow], component: &str) -> BTreeMap<BoxId, BoxReport> {
    rows.iter().map(|row| (row.box_id.clone(), box_report(row, component))).collect()
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum FleetError {
    #[error("the state of the fleet could not be read or written")]
    Db(#[from] DbError),
    #[error("a message could not be sent")]
    Broker(#[from] BrokerError),
    #[error("an assignment could not be signed")]
    Sign(#[from] EnvelopeError),
}

/// What was sent to whom in which version, and when; forgotten at a restart, which sends again.
pub(crate) type Sent = BTreeMap<(BoxId, &'static str, Option<Uuid>), (u64, Instant)>;

pub(crate) async fn run(worker: Arc<Worker>, mut stop: Stop) {
    let mut sent = Sent::new();
    let mut looked: Option<Instant> = None;
    loop {
        if let Err(error) = worker.fleet_look(&mut sent, Timestamp::now()).await {
            tracing::error!(error = %Chain(&error), "Looking at the fleet failed and is tried again");
        }
        if looked.is_none_or(|at| at.elapsed() >= ALERTS) {
            looked = Some(Instant::now());
            if let Err(error) = worker.look_at_alerts(Timestamp::now()).await {
                tracing::error!(error = %Chain(&error), "Looking at how well the boxes are failed");
            }
        }
        tokio::select! {
            () = worker.wakers.fleet_woken() => {}
            () = tokio::time::sleep(IDLE) => {}
            () = stop.stopped() => return,
        }
        // Many boxes may report at once; one look serves all of them.
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stop.stopped() => return,
        }
    }
}

impl Worker {
    /// Keeps what boxes say they are, and sends them what they lack.
    pub(crate) async fn reported(&self, reports: &[(BoxId, Reported)]) {
        let done = async {
            let (mut moved, now) = (false, Timestamp::now());
            for (by, reported) in reports {
                let before = self.db.reported(by).await?;
                moved |= before.is_none_or(|before| before.reported.components != reported.components);
            }
            self.db.save_reports(reports, now).await?;
            for (by, reported) in reports {
                self.orders_told(by, &reported.orders, now).await?;
                self.send_open_orders(by, now).await?;
            }
            if moved {
                self.wakers.fleet();
            }
            for (by, reported) in reports {
                self.send_what_lacks(by, reported).await?;
            }
            Ok::<_, FleetError>(())
        };
        if let Err(error) = done.await {
            let boxes = reports.len();
            tracing::error!(error = %Chain(&error), boxes, "Reports of boxes could not be kept or answered");
        }
    }

    async fn send_what_lacks(&self, by: &BoxId, reported: &Reported) -> Result<(), FleetError> {
        if let Some(desired) = self.db.desired(by).await?
            && (desired.version != reported.version || desired.hash.to_string() != reported.hash)
        {
            self.send_desired(by).await?;
        }
        if let Some(row) = self.db.assignment(by).await?
            && row.number > reported.assignment
        {
            self.send_job(&row).await?;
        }
        Ok(())
    }

    async fn fleet_look(&self, sent: &mut Sent, now: Timestamp) -> Result<(), FleetError> {
        let since = now.saturating_sub(KICK_FOR).unwrap_or(Timestamp::MIN);
        for id in self.db.revoked_since(since).await? {
            let ended = self.broker.kick(&id).await;
            if ended > 0 {
                tracing::warn!(box.id = %id, ended, "The sessions of a revoked box were ended");
            }
        }
        self.go_on_with_rollouts(now).await?;
        let clock = Instant::now();
        let mut due = |id: &BoxId, what: &'static str, version: u64| {
            let known = sent.get(&(id.clone(), what, None));
            let due = known.is_none_or(|(last, at)| {
                *last != version || clock.saturating_duration_since(*at) >= SEND_AGAIN
            });
            if due {
                sent.insert((id.clone(), what, None), (version, clock));
            }
            due
        };
        for (id, version) in self.db.behind_desired().await? {
            if due(&id, "desired", version) {
                self.send_desired(&id).await?;
            }
        }
        for row in self.db.behind_assignment().await? {
            if due(&row.box_id, "job", row.number) {
                self.send_job(&row).await?;
            }
        }
        self.look_at_orders(sent, now).await
    }

    /// Raises what somebody should look at, and says when it is over. A box that left the fleet is not looked at.
    async fn look_at_alerts(&self, now: Timestamp) -> Result<(), FleetError> {
        let mut open: BTreeMap<BoxId, Vec<Alert>> = BTreeMap::new();
        for alert in self.db.open_alerts().await? {
            open.entry(alert.id.clone()).or_default().push(alert);
        }
        let gone: BTreeSet<BoxId> = self
            .db
            .enrolments()
            .await?
            .into_iter()
            .filter(|one| one.state.name() == "revoked")
            .map(|one| one.box_id)
            .collect();
        let mut changes = Vec::new();
        for row in self.db.all_reported().await? {
            let known = open.remove(&row.box_id).unwrap_or_default();
            let findings =
                if gone.contains(&row.box_id) { Vec::new() } else { alert::look(&seen(&row), now) };
            changes.extend(alert::step(&row.box_id, &known, &findings, now));
        }
        for change in &changes {
            match change {
                alert::Change::Raised(alert) => {
                    let (kind, about) = (alert.kind.name(), &alert.about);
                    tracing::error!(box.id = %alert.id, kind, about, "Alert: {}", alert.detail);
                }
                alert::Change::Cleared(alert) => {
                    tracing::info!(box.id = %alert.id, kind = alert.kind.name(), about = alert.about, "An alert is over");
                }
                alert::Change::Seen(_) | alert::Change::Forgotten(_) => {}
            }
        }
        Ok(self.db.change_alerts(&changes, now).await?)
    }

    async fn go_on_with_rollouts(&self, now: Timestamp) -> Result<(), FleetError> {
        let Some(keys) = &self.fleet else { return Ok(()) };
        let mut rollouts = self.db.rollouts().await?;
        if rollouts.is_empty() {
            return Ok(());
        }
        let rows = self.db.all_reported().await?;
        for rollout in &mut rollouts {
            if !matches!(rollout.phase, Phase::Running { .. }) {
                continue;
            }
            let boxes = box_reports(&rows, &rollout.target.component);
            let figures = self.figures(rollout, &boxes, now).await?;
            let step = |rollout: &mut Rollout| {
                let change = rollout.step(now, &boxes, &figures);
                let words = change.as_ref().map(in_words);
                Ok(((change, rollout.clone()), words))
            };
            let Some(Ok((change, after))) = self.db.change_rollout(&rollout.id, "cloud", now, step).await?
            else {
                continue;
            };
            *rollout = after;
            match change {
                Some(Change::Paused(cause)) => {
                    tracing::error!(rollout = rollout.id, %cause, "A rollout was paused: somebody must look");
                }
                Some(change) => tracing::info!(rollout = rollout.id, "Rollout: {}", in_words(&change)),
                None => {}
            }
        }
        let known: BTreeMap<BoxId, AssignmentRow> =
            self.db.assignments().await?.into_iter().map(|row| (row.box_id.clone(), row)).collect();
        for (id, wanted) in orders(&rollouts, &rows, now) {
            let before = known.get(&id);
            if !is_news(before, &wanted, now) {
                continue;
            }
            let row = sign(keys, &id, before, wanted, now)?;
            self.db.save_assignment(&row, now).await?;
            tracing::debug!(box.id = %id, number = row.number, "Assigned");
        }
        Ok(())
    }

    /// Compares the calls of the boxes that have the version with those of the rest.
    async fn figures(
        &self,
        rollout: &Rollout,
        boxes: &BTreeMap<BoxId, BoxReport>,
        now: Timestamp,
    ) -> Result<Vec<Figure>, DbError> {
        let (mut failures, mut opt_outs) = ([Share::default(); 2], [Share::default(); 2]);
        for (id, figures) in self.db.call_figures(rollout.judged_from).await? {
            let has =
                boxes.get(&id).is_some_and(|report| rollout.standing(report, now) == Standing::Committed);
            let side = usize::from(!has);
            for (sum, one) in
                [(&mut failures[side], figures.failures), (&mut opt_outs[side], figures.opt_outs)]
            {
                sum.cases += one.cases;
                sum.bad += one.bad;
            }
        }
        let figure = |name, [new, rest]: [Share; 2]| Figure { name, new, rest };
        Ok(vec![figure(FigureName::CallFailures, failures), figure(FigureName::OptOuts, opt_outs)])
    }

    async fn send_desired(&self, to: &BoxId) -> Result<(), FleetError> {
        let Some(desired) = self.db.desired(to).await? else { return Ok(()) };
        let body = Desired { version: desired.version, hash: desired.hash.to_string(), body: desired.body };
        self.send(to, topic::cfg_desired(to), "cfg.desired", body).await
    }

    async fn send_job(&self, row: &AssignmentRow) -> Result<(), FleetError> {
        let to = &row.box_id;
        let body = JobNext { number: row.number, assignment: row.doc.clone(), cancel: row.cancel.clone() };
        self.send(to, topic::job_next(to), "job.next", body).await
    }

    async fn send<T: serde::Serialize>(
        &self,
        to: &BoxId,
        topic: String,
        kind: &str,
        body: T,
    ) -> Result<(), FleetError> {
        let payload = envelope(to, 0, kind, "", body)?;
        let message = Publication {
            topic,
            payload,
            qos: Qos::AtLeastOnce,
            expiry: Some(SEND_AGAIN),
            correlation: None,
        };
        // Nobody listening is no error: the box says what it has when it comes back, and is sent the rest.
        self.broker.publish(message).await?;
        Ok(())
    }
}

/// What one box is to be told by all rollouts together.
#[derive(Clone, Debug, Default, PartialEq)]
struct Wanted {
    targets: BTreeMap<String, AssignedTarget>,
    cancel: Vec<String>,
}

/// Adds up what the rollouts say, the newest last. One that holds a version back leaves to a box what older
/// ones have brought it.
fn orders(rollouts: &[Rollout], rows: &[ReportRow], now: Timestamp) -> BTreeMap<BoxId, Wanted> {
    let mut all: BTreeMap<BoxId, Wanted> = BTreeMap::new();
    for rollout in rollouts {
        let component = &rollout.target.component;
        let boxes = box_reports(rows, component);
        for id in rollout.waves.iter().flatten() {
            match rollout.order(now, id, boxes.get(id)) {
                Order::Run => {
                    let wanted = all.entry(id.clone()).or_default();
                    wanted.targets.insert(component.clone(), rollout.target.clone());
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

fn is_news(before: Option<&AssignmentRow>, wanted: &Wanted, now: Timestamp) -> bool {
    let Some(before) = before else { return true };
    let targets: Vec<&AssignedTarget> = wanted.targets.values().collect();
    before.targets.iter().collect::<Vec<_>>() != targets
        || before.cancel != wanted.cancel
        || before.expires < now + SIGN_AGAIN
}

fn sign(
    keys: &FleetKeys,
    id: &BoxId,
    before: Option<&AssignmentRow>,
    wanted: Wanted,
    now: Timestamp,
) -> Result<AssignmentRow, EnvelopeError> {
    // Seconds count up without anybody keeping count: sticks and cloud share the key and the rule.
    let seconds = u64::try_from(now.as_second()).unwrap_or(1);
    let number = before.map_or(0, |before| before.number + 1).max(seconds);
    let targets: Vec<AssignedTarget> = wanted.targets.into_values().collect();
    let expires = now + ASSIGNMENT_LIFE;
    let assignment = Assignment::new(id.as_str(), number, expires, targets.clone());
    let mut envelope = Envelope::new(json!(assignment));
    envelope.sign(&*keys.assign)?;
    let doc = String::from_utf8_lossy(&envelope.to_bytes()).into_owned();
    Ok(AssignmentRow { box_id: id.clone(), number, targets, cancel: wanted.cancel, doc, expires })
}

fn in_words(change: &Change) -> String {
    match change {
        Change::Wave(wave) => format!("wave {} begins", wave + 1),
        Change::Paused(cause) => format!("paused: {cause}"),
        Change::Finished => "finished".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use trunkline_fleet::rollout::Profile;
    use trunkline_trust::{Signer, sha256};

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
        let told = orders(&[good.clone(), bad.clone()], &[], t0());
        for (id, wanted) in &told {
            let expected = if canary.contains(id) { "app-2.json" } else { "app-1.json" };
            assert_eq!((wanted.targets["app"].name.as_str(), wanted.cancel.len()), (expected, 0), "{id}");
        }
        bad.pause("li", "a look", t0()).unwrap();
        let told = orders(&[good, bad], &[], t0());
        for (id, wanted) in &told {
            assert_eq!(wanted.targets["app"].name, "app-1.json");
            assert_eq!(wanted.cancel.is_empty(), !canary.contains(id), "the canary takes it back");
        }
    }

    #[test]
    fn an_assignment_is_signed_for_news_only_and_its_number_rises() {
        let assign = Arc::new(FileKey::from_seed(&[3; 32]).unwrap());
        let keys = FleetKeys { repo: PathBuf::new(), assign };
        let id: BoxId = "tl-a".parse().unwrap();
        let wanted = orders(&[rollout("app-1.json", &[100])], &[], t0()).remove(&id).unwrap();
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
}
