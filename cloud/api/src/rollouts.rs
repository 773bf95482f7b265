//! Rollouts: a released version on its way into the fleet, in waves.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use trunkline_db::ReportRow;
use trunkline_fleet::enrol::State as At;
use trunkline_fleet::rollout::{Profile, Rollout, RolloutError};
use trunkline_fleet::why::why;
use trunkline_model::BoxId;
use trunkline_trust::{AssignedTarget, is_plain_name};
use trunkline_worker::fleet::{box_reports, look};

use crate::auth::{Caller, Member};
use crate::fleet::{operator, read};
use crate::{Api, Problem};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StartRequest {
    /// The release, such as `app-1.4.2.json`.
    release: String,
    /// The boxes; every enrolled one when left out.
    #[serde(default)]
    boxes: Option<Vec<BoxId>>,
    /// Fields of the profile that shall differ from the default one.
    #[serde(default)]
    profile: Option<Value>,
    /// Two waves and a short look, for what cannot wait.
    #[serde(default)]
    emergency: bool,
}

/// Begins with the first wave of a published release.
pub(crate) async fn start(
    State(api): State<Arc<Api>>,
    Member(by): Member,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    operator(&by)?;
    let request: StartRequest = read(body)?;
    let now = (api.clock)();
    let target = released(&api, &request.release, now)?;
    let profile = profile(&request)?;
    let everybody = request.boxes.is_none();
    let boxes = match request.boxes {
        Some(boxes) => boxes,
        None => {
            let all = api.db.enrolments().await?.into_iter();
            all.filter(|one| matches!(one.state, At::Issued { .. })).map(|one| one.box_id).collect()
        }
    };
    let stem = request.release.trim_end_matches(".json");
    let id = format!("{stem}-{}", now.as_millisecond());
    let mut rollout = Rollout::start(&id, target, profile, boxes, now).map_err(|error| {
        let field = if error == RolloutError::NoBoxes { "boxes" } else { "profile" };
        Problem::refused("malformed_rollout", field, error.to_string())
    })?;
    rollout.everybody = everybody;
    api.db.add_rollout(&rollout, &by.name, now).await?;
    api.wakers.fleet();
    tracing::info!(rollout = id, by = by.name, "A rollout begins");
    let rows = api.db.all_reported().await?;
    Ok((StatusCode::CREATED, Json(view(&rollout, &rows, now, true))).into_response())
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

pub(crate) async fn list(State(api): State<Arc<Api>>, _: Caller) -> Result<Json<Value>, Problem> {
    let (rows, now) = (api.db.all_reported().await?, (api.clock)());
    let all: Vec<Value> =
        api.db.rollouts().await?.iter().rev().map(|rollout| view(rollout, &rows, now, false)).collect();
    Ok(Json(json!({ "rollouts": all })))
}

/// How far a rollout is, and for each box why it is not updated.
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let rollout = api.db.rollout(&id).await?.ok_or_else(unknown)?;
    let (rows, now) = (api.db.all_reported().await?, (api.clock)());
    let mut view = view(&rollout, &rows, now, true);
    view["log"] = json!(api.db.fleet_log(&id, 50).await?);
    Ok(Json(view))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PauseRequest {
    #[serde(default)]
    why: String,
}

/// `pause`, `resume` and `stop`.
pub(crate) async fn command(
    State(api): State<Arc<Api>>,
    Member(by): Member,
    Path((id, command)): Path<(String, String)>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    operator(&by)?;
    let now = (api.clock)();
    let name = by.name.as_str();
    let rows = api.db.all_reported().await?;
    let done = match command.as_str() {
        "pause" => {
            let body = body.map_err(|_| Problem::too_large())?;
            let request: PauseRequest =
                if body.is_empty() { PauseRequest::default() } else { read(Ok(body))? };
            let what = format!("paused: {}", request.why);
            let change = |rollout: &mut Rollout| {
                rollout.pause(name, &request.why, now)?;
                Ok((rollout.clone(), Some(what)))
            };
            api.db.change_rollout(&id, name, now, change).await?
        }
        "resume" => {
            let change = |rollout: &mut Rollout| {
                let boxes = box_reports(&rows, &rollout.target.component);
                rollout.resume(now, &boxes)?;
                Ok((rollout.clone(), Some("resumed".to_owned())))
            };
            api.db.change_rollout(&id, name, now, change).await?
        }
        "stop" => {
            let change = |rollout: &mut Rollout| {
                rollout.stop(name, now)?;
                Ok((rollout.clone(), Some("stopped".to_owned())))
            };
            api.db.change_rollout(&id, name, now, change).await?
        }
        _ => return Err(Problem::not_found("a rollout knows pause, resume and stop")),
    };
    match done {
        None => Err(unknown()),
        Some(Err(error)) => Err(Problem::conflict("wrong_state", error.to_string())),
        Some(Ok(rollout)) => {
            tracing::info!(rollout = id, by = name, command, "A rollout was told");
            api.wakers.fleet();
            Ok(Json(view(&rollout, &rows, now, true)))
        }
    }
}

fn view(rollout: &Rollout, rows: &[ReportRow], now: Timestamp, with_boxes: bool) -> Value {
    let boxes = box_reports(rows, &rollout.target.component);
    let sizes: Vec<usize> = rollout.waves.iter().map(Vec::len).collect();
    let mut view = json!({
        "id": rollout.id, "target": rollout.target, "profile": rollout.profile, "waves": sizes,
        "state": rollout.phase, "counts": rollout.counts(now, &boxes),
    });
    if with_boxes {
        let answers: Vec<Value> = rollout
            .waves
            .iter()
            .enumerate()
            .flat_map(|(wave, ids)| ids.iter().map(move |id| (wave, id)))
            .map(|(wave, id)| {
                let report = boxes.get(id);
                json!({
                    "box": id, "wave": wave + 1,
                    "standing": report.map(|report| rollout.standing(report, now)),
                    "why": why(rollout, id, report, now).to_string(),
                })
            })
            .collect();
        view["boxes"] = answers.into();
    }
    view
}

fn unknown() -> Problem {
    Problem::not_found("there is no such rollout")
}
