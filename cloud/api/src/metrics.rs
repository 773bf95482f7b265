//! `GET /metrics`: how the fleet and its calls are, for Prometheus (text format 0.0.4); `GET /healthz`.
//!
//! Labels have few values and name nobody: no box, no number, no person.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;
use trunkline_db::{Db, DbError};
use trunkline_figures::Page;
use trunkline_fleet::alert::Kind;
use trunkline_fleet::rollout::Phase;
use trunkline_fleet::shadow::{Sync, compare};

use crate::answer::Answer;
use crate::auth::Caller;
use crate::fleet::as_core;
use crate::openapi::{Route, get, text};
use crate::problem::Chain;
use crate::{Api, Problem};

/// A box that was not heard of for so long counts as silent.
const SILENT: SignedDuration = SignedDuration::from_mins(5);

/// Files that the server's process has open: every connection is one.
#[derive(Debug, Default)]
pub struct OpenFiles {
    /// How many the system allows; 0 where nobody looked.
    pub limit: AtomicU64,
    /// How many there were when somebody last looked.
    pub open: AtomicU64,
    /// Connections of boxes that were refused because there was no room for them, since the start.
    pub refused: AtomicU64,
}

impl OpenFiles {
    fn show(&self, page: &mut Page) {
        let figure = |value: &AtomicU64| Some(value.load(Ordering::Relaxed) as f64);
        page.family(
            "trunkline_open_files",
            "Files that the cloud's process has open, and may have open.",
            "state",
            [("open", figure(&self.open)), ("limit", figure(&self.limit))],
        );
        page.figure(
            "trunkline_connections_refused",
            "Connections of boxes that were refused for want of open files, since the start.",
            figure(&self.refused),
        );
    }
}

pub(crate) fn routes() -> Vec<Route> {
    let scrape = get("metrics", scrape, "How the fleet and its calls are, for Prometheus");
    let health = get("health", health, "Says whether the server can work")
        .or::<Json<Health>>(200, "It can")
        .or::<Answer<503, Health>>(503, "It cannot");
    vec![
        Route::at("/metrics").on(scrape.or_sends(200, "Text format 0.0.4", "text/plain", text())),
        Route::at("/healthz").on(health),
    ]
}

/// Whether the server can work.
#[derive(Serialize, JsonSchema)]
struct Health {
    status: &'static str,
}

async fn health(State(api): State<Arc<Api>>) -> Response {
    match api.db.ping().await {
        Ok(()) => Json(Health { status: "ok" }).into_response(),
        Err(error) => {
            tracing::error!(error = %Chain(&error), "The database does not answer");
            Answer::<503, _>::of(Health { status: "the database does not answer" }).into_response()
        }
    }
}

pub(crate) async fn scrape(State(api): State<Arc<Api>>, _: Caller) -> Result<Response, Problem> {
    let page = figures(&api.db, &api.files, (api.clock)()).await?;
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page.prometheus()).into_response())
}

/// Returns the figures of now: what `/metrics` shows, and what is pushed to a collector.
///
/// # Errors
/// When the database cannot be asked.
pub async fn figures(db: &Db, files: &OpenFiles, now: Timestamp) -> Result<Page, DbError> {
    let mut page = Page::default();
    files.show(&mut page);

    let mut by_state: BTreeMap<&'static str, u64> =
        ["waiting", "claimed", "approved", "issued", "revoked"].map(|state| (state, 0)).into();
    for enrolment in db.enrolments().await? {
        *by_state.entry(enrolment.state.name()).or_default() += 1;
    }
    page.family(
        "trunkline_boxes",
        "Boxes by where they are on their way into the fleet.",
        "state",
        counts(&by_state),
    );

    let reports = db.all_reported().await?;
    let silent = reports.iter().filter(|row| now.duration_since(row.at) > SILENT).count() as u64;
    let heard = BTreeMap::from([("silent", silent), ("heard", reports.len() as u64 - silent)]);
    page.family(
        "trunkline_boxes_reporting",
        "Boxes that ever reported, by whether they still do.",
        "state",
        counts(&heard),
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
        let Some(desired) = db.desired(&row.box_id).await? else { continue };
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
        counts(&by_sync),
    );
    page.family(
        "trunkline_updates",
        "Components of boxes by how far their update is.",
        "stage",
        counts(&by_stage),
    );

    let mut by_kind: BTreeMap<&'static str, u64> = Kind::ALL.map(|kind| (kind.name(), 0)).into();
    for alert in db.alerts(false, u32::MAX).await? {
        if alert.silent_until.is_none_or(|until| until <= now) {
            *by_kind.entry(alert.kind.name()).or_default() += 1;
        }
    }
    page.family(
        "trunkline_alerts",
        "What somebody should look at on boxes, by kind, without what was silenced.",
        "kind",
        counts(&by_kind),
    );

    let mut by_phase: BTreeMap<&'static str, u64> =
        ["running", "paused", "finished", "stopped"].map(|phase| (phase, 0)).into();
    for rollout in db.rollouts().await? {
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
        counts(&by_phase),
    );

    let boxes = db.boxes().await?;
    let online: Vec<_> = boxes.iter().filter(|row| row.online).collect();
    let sum = |of: fn(&trunkline_db::BoxRow) -> u32| online.iter().map(|row| u64::from(of(row))).sum::<u64>();
    let channels = BTreeMap::from([("all", sum(|row| row.channels)), ("busy", sum(|row| row.busy))]);
    page.family("trunkline_channels", "Channels of connected boxes.", "state", counts(&channels));

    Ok(page)
}

fn counts<K: AsRef<str>>(values: &BTreeMap<K, u64>) -> impl Iterator<Item = (&K, Option<f64>)> {
    values.iter().map(|(label, count)| (label, Some(*count as f64)))
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
