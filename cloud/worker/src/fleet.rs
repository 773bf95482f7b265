//! The fleet, reconciled: what boxes report is kept, what they lack is sent, rollouts go on or pause, and
//! who was revoked is shown the door.
//!
//! The decisions are those of `cloud/fleet`; here is the database, the signature of assignments and the way to
//! the boxes. Everything is read anew each time, so that a restart is no special case.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use trunkline_db::{AssignmentRow, DbError, ReportRow, Waits};
use trunkline_fleet::alert::{self, Alert, Machine, Seen};
use trunkline_fleet::enrol::{Enrolment, State};
use trunkline_fleet::report::{BoxReport, Standing};
use trunkline_fleet::rollout::{Change, Figure, FigureName, Phase, Rollout};
use trunkline_fleet::sequential::Share;
use trunkline_fleet::speed;
use trunkline_model::BoxId;
use trunkline_trust::{Client, EnvelopeError, FileKey, TrustError};
use trunkline_wire::{Desired, JobNext, Reported, topic};
use uuid::Uuid;

mod assign;

use assign::{is_news, orders, sign};

use crate::broker::envelope;
use crate::dispatch::Chain;
use crate::{BrokerError, Publication, Qos, Stop, Worker};

/// What a box did not confirm is sent again after this time.
pub(crate) const SEND_AGAIN: Duration = Duration::from_secs(15);
/// Between two looks at the whole fleet.
const PAUSE: Duration = Duration::from_millis(250);
const IDLE: Duration = Duration::from_secs(2);
/// Between two looks at how well the boxes are.
const ALERTS: Duration = Duration::from_secs(10);
/// Between two looks at how long customers waited, which is much to read.
const WAITS: Duration = Duration::from_secs(30);
/// Between two times that old waits are forgotten.
const FORGET: Duration = Duration::from_secs(3_600);
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

/// How long customers waited since a moment, by box, and when that was read.
type Waited = BTreeMap<Timestamp, (Instant, BTreeMap<BoxId, Waits>)>;

pub(crate) async fn run(worker: Arc<Worker>, mut stop: Stop) {
    let (mut sent, mut waited) = (Sent::new(), Waited::new());
    let (mut looked, mut forgot): (Option<Instant>, Option<Instant>) = (None, None);
    loop {
        if let Err(error) = worker.fleet_look(&mut sent, &mut waited, Timestamp::now()).await {
            tracing::error!(error = %Chain(&error), "Looking at the fleet failed and is tried again");
        }
        if looked.is_none_or(|at| at.elapsed() >= ALERTS) {
            looked = Some(Instant::now());
            if let Err(error) = worker.look_at_alerts(Timestamp::now()).await {
                tracing::error!(error = %Chain(&error), "Looking at how well the boxes are failed");
            }
        }
        if forgot.is_none_or(|at| at.elapsed() >= FORGET) {
            forgot = Some(Instant::now());
            if let Err(error) = worker.db.forget_waits(Timestamp::now()).await {
                tracing::error!(error = %Chain(&error), "Old figures of calls could not be forgotten");
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

    async fn fleet_look(
        &self,
        sent: &mut Sent,
        waited: &mut Waited,
        now: Timestamp,
    ) -> Result<(), FleetError> {
        let since = now.saturating_sub(KICK_FOR).unwrap_or(Timestamp::MIN);
        for id in self.db.revoked_since(since).await? {
            let ended = self.broker.kick(&id).await;
            if ended > 0 {
                tracing::warn!(box.id = %id, ended, "The sessions of a revoked box were ended");
            }
        }
        self.go_on_with_rollouts(waited, now).await?;
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

    async fn go_on_with_rollouts(&self, waited: &mut Waited, now: Timestamp) -> Result<(), FleetError> {
        let Some(keys) = &self.fleet else { return Ok(()) };
        let mut rollouts = self.db.rollouts().await?;
        if rollouts.is_empty() {
            return Ok(());
        }
        let rows = self.db.all_reported().await?;
        let branches = self.let_join(&mut rollouts, now).await?;
        for rollout in &mut rollouts {
            if !matches!(rollout.phase, Phase::Running { .. }) {
                continue;
            }
            let boxes = box_reports(&rows, &rollout.target.component);
            let waits = self.waits(waited, rollout.judged_from).await?;
            let figures = self.figures(rollout, &boxes, waits, now).await?;
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
        for (id, wanted) in orders(&rollouts, &rows, &branches, now) {
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

    /// Takes boxes that joined the fleet into the rollouts that are meant for everybody; returns each box's branch.
    async fn let_join(
        &self,
        rollouts: &mut [Rollout],
        now: Timestamp,
    ) -> Result<BTreeMap<BoxId, String>, FleetError> {
        let enrolments = self.db.enrolments().await?;
        let open = |rollout: &&mut Rollout| {
            rollout.everybody && matches!(rollout.phase, Phase::Running { .. } | Phase::Finished { .. })
        };
        for rollout in rollouts.iter_mut().filter(open) {
            let known: BTreeSet<&BoxId> = rollout.waves.iter().flatten().collect();
            let issued = enrolments.iter().filter(|one| matches!(one.state, State::Issued { .. }));
            let new: Vec<BoxId> =
                issued.map(|one| &one.box_id).filter(|id| !known.contains(id)).cloned().collect();
            if new.is_empty() {
                continue;
            }
            let join = |rollout: &mut Rollout| {
                new.iter().for_each(|id| rollout.join(id.clone()));
                Ok((rollout.clone(), Some(format!("{} boxes joined", new.len()))))
            };
            if let Some(Ok(after)) = self.db.change_rollout(&rollout.id, "cloud", now, join).await? {
                *rollout = after;
            }
        }
        let branch = |one: &Enrolment| Some((one.box_id.clone(), one.branch()?.to_owned()));
        Ok(enrolments.iter().filter_map(branch).collect())
    }

    /// Compares the calls of the boxes that have the version with those of the rest.
    async fn figures(
        &self,
        rollout: &Rollout,
        boxes: &BTreeMap<BoxId, BoxReport>,
        waits: &BTreeMap<BoxId, Waits>,
        now: Timestamp,
    ) -> Result<Vec<Figure>, DbError> {
        let has =
            |id: &BoxId| boxes.get(id).is_some_and(|one| rollout.standing(one, now) == Standing::Committed);
        let (mut failures, mut opt_outs) = ([Share::default(); 2], [Share::default(); 2]);
        for (id, figures) in self.db.call_figures(rollout.judged_from).await? {
            let side = usize::from(!has(&id));
            for (sum, one) in
                [(&mut failures[side], figures.failures), (&mut opt_outs[side], figures.opt_outs)]
            {
                sum.cases += one.cases;
                sum.bad += one.bad;
            }
        }
        let figure = |name, [new, rest]: [Share; 2]| Figure { name, new, rest };
        let counted = [figure(FigureName::CallFailures, failures), figure(FigureName::OptOuts, opt_outs)];
        Ok(counted.into_iter().chain(slower(waits, has)).collect())
    }

    /// Reads how long customers waited since a moment, unless that was done just now.
    async fn waits<'a>(
        &self,
        waited: &'a mut Waited,
        since: Timestamp,
    ) -> Result<&'a BTreeMap<BoxId, Waits>, DbError> {
        waited.retain(|_, (at, _)| at.elapsed() < WAITS);
        let (_, waits) = match waited.entry(since) {
            Entry::Occupied(read) => read.into_mut(),
            Entry::Vacant(place) => place.insert((Instant::now(), self.db.waits(since).await?)),
        };
        Ok(waits)
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

/// Compares how long customers waited at boxes that have the version with the rest.
fn slower(waits: &BTreeMap<BoxId, Waits>, has: impl Fn(&BoxId) -> bool) -> [Figure; 2] {
    let (mut new, mut rest) = (Waits::default(), Waits::default());
    for (id, waits) in waits {
        let side = if has(id) { &mut new } else { &mut rest };
        side.first_words.add_all(&waits.first_words);
        side.replies.add_all(&waits.replies);
    }
    let kinds = [
        (FigureName::SlowFirstWord, &new.first_words, &rest.first_words),
        (FigureName::SlowReplies, &new.replies, &rest.replies),
    ];
    kinds.map(|(name, new, rest)| {
        let (new, rest) = speed::late(new, rest);
        Figure { name, new, rest }
    })
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
    use super::*;

    #[test]
    fn a_version_whose_replies_are_late_is_told_by_the_boxes_that_have_it() {
        let mut waits: BTreeMap<BoxId, Waits> = BTreeMap::new();
        for (id, ms) in [("tl-a", 1_500.0), ("tl-b", 600.0), ("tl-c", 650.0)] {
            let one = waits.entry(id.parse().unwrap()).or_default();
            one.replies.add(speed::bucket(ms), 200);
            one.first_words.add(speed::bucket(400.0), 50);
        }
        let [first, replies] = slower(&waits, |id| id.as_str() == "tl-a");
        assert_eq!((first.name, first.new.bad, first.rest.bad), (FigureName::SlowFirstWord, 0, 0));
        assert_eq!((replies.name, replies.new), (FigureName::SlowReplies, Share { cases: 200, bad: 200 }));
        assert_eq!(replies.rest, Share { cases: 400, bad: 0 });
    }
}
