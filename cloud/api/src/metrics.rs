//! `GET /metrics`: how the fleet and its calls are, for Prometheus (text format 0.0.4).
//!
//! Labels have few values and name nobody: no box, no number, no person.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use jiff::SignedDuration;
use trunkline_fleet::alert::Kind;
use trunkline_fleet::rollout::Phase;
use trunkline_fleet::shadow::{Sync, compare};

use crate::auth::Caller;
use crate::fleet::as_core;
use crate::{Api, Problem};

/// A box that was not heard of for so long counts as silent.
const SILENT: SignedDuration = SignedDuration::from_mins(5);

pub(crate) async fn scrape(State(api): State<Arc<Api>>, _: Caller) -> Result<Response, Problem> {
    let now = (api.clock)();
    let mut page = Page::default();

    let mut by_state: BTreeMap<&'static str, u64> =
        ["waiting", "claimed", "approved", "issued", "revoked"].map(|state| (state, 0)).into();
    for enrolment in api.db.enrolments().await? {
        *by_state.entry(enrolment.state.name()).or_default() += 1;
    }
    page.family(
        "trunkline_boxes",
        "Boxes by where they are on their way into the fleet.",
        "state",
        &by_state,
    );

    let reports = api.db.all_reported().await?;
    let silent = reports.iter().filter(|row| now.duration_since(row.at) > SILENT).count() as u64;
    let heard = BTreeMap::from([("silent", silent), ("heard", reports.len() as u64 - silent)]);
    page.family(
        "trunkline_boxes_reporting",
        "Boxes that ever reported, by whether they still do.",
        "state",
        &heard,
    );

    let mut by_sync: BTreeMap<&'static str, u64> =
        ["in_sync", "behind", "differs", "confused"].map(|sync| (sync, 0)).into();
    let mut by_stage: BTreeMap<String, u64> = BTreeMap::new();
    for row in &reports {
        for part in &row.reported.components {
            // Stages that only a newer box knows are one value, so that a box cannot make labels up.
            let stage = part["stage"].as_str().filter(|stage| STAGES.contains(stage)).unwrap_or("other");
            *by_stage.entry(stage.to_owned()).or_default() += 1;
        }
        let Some(desired) = api.db.desired(&row.box_id).await? else { continue };
        let name = match compare(&desired, Some(&as_core(row))) {
            Sync::InSync => "in_sync",
            Sync::Behind { .. } | Sync::NeverReported => "behind",
            Sync::Differs { .. } => "differs",
            Sync::Confused => "confused",
        };
        *by_sync.entry(name).or_default() += 1;
    }
    page.family(
        "trunkline_boxes_configured",
        "Boxes by how they stand to their desired document.",
        "sync",
        &by_sync,
    );
    page.family("trunkline_updates", "Components of boxes by how far their update is.", "stage", &by_stage);

    let mut by_kind: BTreeMap<&'static str, u64> = Kind::ALL.map(|kind| (kind.name(), 0)).into();
    for alert in api.db.alerts(false, u32::MAX).await? {
        if alert.silent_until.is_none_or(|until| until <= now) {
            *by_kind.entry(alert.kind.name()).or_default() += 1;
        }
    }
    page.family(
        "trunkline_alerts",
        "What somebody should look at on boxes, by kind, without what was silenced.",
        "kind",
        &by_kind,
    );

    let mut by_phase: BTreeMap<&'static str, u64> =
        ["running", "paused", "finished", "stopped"].map(|phase| (phase, 0)).into();
    for rollout in api.db.rollouts().await? {
        let name = match rollout.phase {
            Phase::Running { .. } => "running",
            Phase::Paused { .. } => "paused",
            Phase::Finished { .. } => "finished",
            Phase::Stopped { .. } => "stopped",
        };
        *by_phase.entry(name).or_default() += 1;
    }
    page.family(
        "trunkline_rollouts",
        "Rollouts by phase; a paused one waits for a person.",
        "phase",
        &by_phase,
    );

    let boxes = api.db.boxes().await?;
    let online: Vec<_> = boxes.iter().filter(|row| row.online).collect();
    let sum = |of: fn(&trunkline_db::BoxRow) -> u32| online.iter().map(|row| u64::from(of(row))).sum::<u64>();
    let channels = BTreeMap::from([("all", sum(|row| row.channels)), ("busy", sum(|row| row.busy))]);
    page.family("trunkline_channels", "Channels of connected boxes.", "state", &channels);

    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page.0).into_response())
}

const STAGES: [&str; 16] = [
    "idle",
    "assigned",
    "checking",
    "downloading",
    "verifying",
    "staged",
    "wait_window",
    "arming",
    "rebooting",
    "trial",
    "committing",
    "committed",
    "rolling_back",
    "rolled_back",
    "failed",
    "cancelled",
];

/// The page, family by family.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family<K: AsRef<str>>(&mut self, name: &str, help: &str, label: &str, values: &BTreeMap<K, u64>) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (key, value) in values {
            let _ = writeln!(self.0, "{name}{{{label}=\"{}\"}} {value}", key.as_ref());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_written_as_prometheus_reads_it() {
        let mut page = Page::default();
        page.family("x_boxes", "Boxes.", "state", &BTreeMap::from([("a", 1), ("b", 0)]));
        assert_eq!(
            page.0,
            "# HELP x_boxes Boxes.\n# TYPE x_boxes gauge\nx_boxes{state=\"a\"} 1\nx_boxes{state=\"b\"} 0\n"
        );
    }
}
