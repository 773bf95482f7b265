//! Experiments while they run: what each arm has achieved, and arms that are stopped.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use trunkline_db::Tally;
use trunkline_dialogue::document::CONTROL;
use trunkline_model::ScriptId;

use crate::audit::Detail;
use crate::auth::Caller;
use crate::sent::Sent;
use crate::{Api, Problem};

pub(crate) async fn list(State(api): State<Arc<Api>>, _: Caller) -> Result<Json<Value>, Problem> {
    let mut all = Vec::new();
    for script in api.scripts.all() {
        let stopped = api.db.stopped_arms(script.id()).await?;
        let tallies = api.db.experiment_tallies(script.id()).await?;
        for (name, experiment) in &script.document().experiments {
            let arm = |(arm, weight): (&String, &u32)| {
                let Tally { calls, successes, harmed } =
                    tallies.get(&(name.clone(), arm.clone())).copied().unwrap_or_default();
                let stop = stopped.iter().find(|one| one.experiment == *name && one.arm == *arm);
                json!({
                    "arm": arm, "weight": weight, "calls": calls, "successes": successes, "harmed": harmed,
                    "stopped_at": stop.map(|stop| stop.at), "why": stop.map(|stop| stop.why.as_str()),
                })
            };
            all.push(json!({
                "script": script.id(), "experiment": name, "policy": experiment.policy,
                "metric": experiment.metric.as_str(),
                "guard": experiment.guard.as_ref().map(|guard| {
                    json!({ "outcome": guard.outcome.as_str(), "max_rise": guard.max_rise })
                }),
                "arms": experiment.arms.iter().map(arm).collect::<Vec<_>>(),
            }));
        }
    }
    Ok(Json(json!({ "experiments": all })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StopRequest {
    experiment: String,
    arm: String,
    #[serde(default)]
    why: String,
}

/// Stops an arm: whoever had it gets `control` from the next call on.
pub(crate) async fn stop(
    State(api): State<Arc<Api>>,
    Caller(token): Caller,
    Path(id): Path<String>,
    body: Sent,
) -> Result<Response, Problem> {
    let missing = || Problem::not_found("there is no script with this id");
    let id: ScriptId = id.parse().map_err(|_| missing())?;
    let script = api.scripts.current(&id).ok_or_else(missing)?;
    let request: StopRequest = body.json()?;
    let experiment = script.document().experiments.get(&request.experiment).ok_or_else(|| {
        Problem::refused("unknown_experiment", "experiment", "the script has no experiment of this name")
    })?;
    if request.arm == CONTROL || !experiment.arms.contains_key(&request.arm) {
        let detail = "an arm of the experiment other than `control`, which is what everybody gets instead";
        return Err(Problem::refused("unknown_arm", "arm", detail));
    }
    let why = if request.why.trim().is_empty() { "stopped by hand" } else { request.why.trim() };
    let was_running = api.db.stop_arm(&id, &request.experiment, &request.arm, why, (api.clock)()).await?;
    tracing::warn!(by = token, script = %id, experiment = request.experiment, arm = request.arm, "An arm was stopped");
    let done = json!({
        "script": id, "experiment": request.experiment, "arm": request.arm, "why": why, "was_running": was_running,
    });
    Ok((Detail::of(done.clone()), Json(done)).into_response())
}
