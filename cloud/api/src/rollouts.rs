//! Rollouts: a released version on its way into the fleet, in waves.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use trunkline_db::{FleetEntry, ReportRow};
use trunkline_fleet::enrol::{Person, State as At};
use trunkline_fleet::report::Standing;
use trunkline_fleet::rollout::{Phase, Profile, Rollout, RolloutError};
use trunkline_fleet::why::why;
use trunkline_model::BoxId;
use trunkline_trust::{AssignedTarget, is_plain_name};
use trunkline_worker::fleet::{box_reports, look};

use crate::answer::Created;
use crate::auth::{Caller, Member};
use crate::fleet::operator;
use crate::openapi::{Operation, Route, get, post};
use crate::sent::{MaybeSent, Sent};
use crate::{Api, Problem};

pub(crate) fn routes() -> Vec<Route> {
    let start = post("startRollout", start, "Begins to roll a published release out");
    let list = get("listRollouts", list, "Lists rollouts, the newest first");
    let show = get("showRollout", show, "Shows how far a rollout is, and for each box why it is not updated");
    let tell = |path, operation: Operation| {
        let operation = operation.part::<String>("id", "The rollout").says("The rollout");
        Route::at(path).on(operation.fails(&[404, 409]))
    };
    vec![
        Route::at("/v1/rollouts")
            .on(start.says("The first wave has begun").fails(&[501]))
            .on(list.says("The rollouts")),
        Route::at("/v1/rollouts/{id}")
            .on(show.part::<String>("id", "The rollout").says("The rollout").fails(&[404])),
        tell("/v1/rollouts/{id}/pause", post("pauseRollout", pause, "Lets nothing new begin")),
        tell(
            "/v1/rollouts/{id}/resume",
            post("resumeRollout", resume, "Goes on; what went wrong so far no longer counts"),
        ),
        tell("/v1/rollouts/{id}/stop", post("stopRollout", stop, "Ends it where it is")),
    ]
}

/// A rollout, and how far it is.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Rollout")]
pub(crate) struct Shown {
    id: String,
    /// What spreads.
    target: AssignedTarget,
    /// The gates.
    profile: Profile,
    /// Boxes in each wave.
    waves: Vec<usize>,
    state: Phase,
    /// Boxes by where they stand, in the waves so far.
    counts: BTreeMap<Standing, u32>,
    /// Of a single rollout that is looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    boxes: Option<Vec<BoxLine>>,
    /// What was done, the newest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<Vec<FleetEntry>>,
}

/// How a rollout stands with a box.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RolloutBox")]
struct BoxLine {
    #[serde(rename = "box")]
    id: BoxId,
    /// From 1.
    wave: usize,
    /// `null` for a box that never reported.
    standing: Option<Standing>,
    /// Why it does not run the version, for people.
    why: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Rollouts {
    rollouts: Vec<Shown>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RolloutRequest")]
pub(crate) struct StartRequest {
    /// The release.
    #[schemars(example = "app-1.4.2.json")]
    release: String,
    /// The boxes; every enrolled one when left out.
    #[serde(default)]
    boxes: Option<Vec<BoxId>>,
    /// Fields of the profile that shall differ from the default: percents, soak, silence, committed_percent, bad_percent,
    /// bad_boxes.
    #[serde(default)]
    #[schemars(with = "Option<Map<String, Value>>")]
    profile: Option<Value>,
    /// Two waves and a short look, for what cannot wait.
    #[serde(default)]
    emergency: bool,
}

/// Begins with the first wave of a published release.
pub(crate) async fn start(
    State(api): State<Arc<Api>>,
    Member(by): Member,
    body: Sent<StartRequest>,
) -> Result<Created<Shown>, Problem> {
    operator(&by)?;
    let request = body.json()?;
    let now = (api.clock)();
    let target = released(&api, &request.release, now)?;
    let profile = profile(&request)?;
    let boxes = match request.boxes {
        Some(boxes) => boxes,
        None => {
            let all = api.db.enrolments().await?.into_iter();
            all.filter(|one| matches!(one.state, At::Issued { .. })).map(|one| one.box_id).collect()
        }
    };
    let stem = request.release.trim_end_matches(".json");
    let id = format!("{stem}-{}", now.as_millisecond());
    let rollout = Rollout::start(&id, target, profile, boxes, now).map_err(|error| {
        let field = if error == RolloutError::NoBoxes { "boxes" } else { "profile" };
        Problem::refused("malformed_rollout", field, error.to_string())
    })?;
    api.db.add_rollout(&rollout, &by.name, now).await?;
    api.wakers.fleet();
    tracing::info!(rollout = id, by = by.name, "A rollout begins");
    let rows = api.db.all_reported().await?;
    Ok(Created::of(view(&rollout, &rows, now, true)))
}

/// Finds a release in the repository, as a box would that trusts the first root only.
fn released(api: &Api, name: &str, now: Timestamp) -> Result<AssignedTarget, Problem> {
    let refused = |detail: String| Problem::refused("unknown_release", "release", detail);
    let repo = api
        .fleet
        .repo
        .clone()
        .ok_or_else(|| Problem::not_set_up("there is no repository: `fleet.repo` is not set"))?;
    if !is_plain_name(name) {
        return Err(refused("a name such as app-1.4.2.json".into()));
    }
    let client =
        look(&repo, now).map_err(|error| refused(format!("a box would refuse the repository: {error}")))?;
    let target = client.target(name, now).map_err(|error| refused(error.to_string()))?;
    match (target.release(), target.sha256()) {
        (Some(release), Some(sha256)) => {
            Ok(AssignedTarget { component: release.component, name: name.to_owned(), sha256 })
        }
        _ => Err(refused("this release does not say what it is".into())),
    }
}

fn profile(request: &StartRequest) -> Result<Profile, Problem> {
    let base = if request.emergency { Profile::emergency() } else { Profile::default() };
    let Some(change) = &request.profile else { return Ok(base) };
    let wrong = |detail: String| Problem::refused("malformed_profile", "profile", detail);
    let mut fields = serde_json::to_value(base).map_err(|error| wrong(error.to_string()))?;
    for (key, value) in change.as_object().ok_or_else(|| wrong("an object".into()))? {
        match fields.get_mut(key) {
            Some(field) => *field = value.clone(),
            None => return Err(wrong(format!("there is no field `{key}`"))),
        }
    }
    serde_json::from_value(fields).map_err(|error| wrong(error.to_string()))
}

pub(crate) async fn list(State(api): State<Arc<Api>>, _: Caller) -> Result<Json<Rollouts>, Problem> {
    let (rows, now) = (api.db.all_reported().await?, (api.clock)());
    let all = api.db.rollouts().await?;
    let rollouts = all.iter().rev().map(|rollout| view(rollout, &rows, now, false)).collect();
    Ok(Json(Rollouts { rollouts }))
}

/// How far a rollout is, and for each box why it is not updated.
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Json<Shown>, Problem> {
    let rollout = api.db.rollout(&id).await?.ok_or_else(unknown)?;
    let (rows, now) = (api.db.all_reported().await?, (api.clock)());
    let log = Some(api.db.fleet_log(&id, 50).await?);
    Ok(Json(Shown { log, ..view(&rollout, &rows, now, true) }))
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(crate) struct PauseRequest {
    /// For people.
    #[serde(default)]
    why: String,
}

/// Lets nothing new begin.
pub(crate) async fn pause(
    State(api): State<Arc<Api>>,
    Member(by): Member,
    Path(id): Path<String>,
    body: MaybeSent<PauseRequest>,
) -> Result<Json<Shown>, Problem> {
    operator(&by)?;
    let request = body.json_or_default()?;
    let (rows, now) = (api.db.all_reported().await?, (api.clock)());
    let what = format!("paused: {}", request.why);
    let name = by.name.clone();
    let change = |rollout: &mut Rollout| {
        rollout.pause(&name, &request.why, now)?;
        Ok((rollout.clone(), Some(what)))
    };
    let done = api.db.change_rollout(&id, &by.name, now, change).await?;
    told(&api, &by, done, &rows, now)
}

/// Goes on.
pub(crate) async fn resume(
    State(api): State<Arc<Api>>,
    Member(by): Member,
    Path(id): Path<String>,
) -> Result<Json<Shown>, Problem> {
    operator(&by)?;
    let (rows, now) = (api.db.all_reported().await?, (api.clock)());
    let change = |rollout: &mut Rollout| {
        let boxes = box_reports(&rows, &rollout.target.component);
        rollout.resume(now, &boxes)?;
        Ok((rollout.clone(), Some("resumed".to_owned())))
    };
    let done = api.db.change_rollout(&id, &by.name, now, change).await?;
    told(&api, &by, done, &rows, now)
}

/// Ends it where it is.
pub(crate) async fn stop(
    State(api): State<Arc<Api>>,
    Member(by): Member,
    Path(id): Path<String>,
) -> Result<Json<Shown>, Problem> {
    operator(&by)?;
    let (rows, now) = (api.db.all_reported().await?, (api.clock)());
    let name = by.name.clone();
    let change = |rollout: &mut Rollout| {
        rollout.stop(&name, now)?;
        Ok((rollout.clone(), Some("stopped".to_owned())))
    };
    let done = api.db.change_rollout(&id, &by.name, now, change).await?;
    told(&api, &by, done, &rows, now)
}

/// Shows a rollout that was told something, or says why it was not.
fn told(
    api: &Api,
    by: &Person,
    done: Option<Result<Rollout, RolloutError>>,
    rows: &[ReportRow],
    now: Timestamp,
) -> Result<Json<Shown>, Problem> {
    match done {
        None => Err(unknown()),
        Some(Err(error)) => Err(Problem::conflict("wrong_state", error.to_string())),
        Some(Ok(rollout)) => {
            tracing::info!(rollout = rollout.id, by = by.name, state = ?rollout.phase, "A rollout was told");
            api.wakers.fleet();
            Ok(Json(view(&rollout, rows, now, true)))
        }
    }
}

fn view(rollout: &Rollout, rows: &[ReportRow], now: Timestamp, with_boxes: bool) -> Shown {
    let boxes = box_reports(rows, &rollout.target.component);
    let lines = || {
        let ids =
            rollout.waves.iter().enumerate().flat_map(|(wave, ids)| ids.iter().map(move |id| (wave, id)));
        ids.map(|(wave, id)| {
            let report = boxes.get(id);
            BoxLine {
                id: id.clone(),
                wave: wave + 1,
                standing: report.map(|report| rollout.standing(report, now)),
                why: why(rollout, id, report, now).to_string(),
            }
        })
        .collect()
    };
    Shown {
        id: rollout.id.clone(),
        target: rollout.target.clone(),
        profile: rollout.profile.clone(),
        waves: rollout.waves.iter().map(Vec::len).collect(),
        state: rollout.phase.clone(),
        counts: rollout.counts(now, &boxes),
        boxes: with_boxes.then(lines),
        log: None,
    }
}

fn unknown() -> Problem {
    Problem::not_found("there is no such rollout")
}
