//! Experiments while they run: what each arm has achieved, and arms that are stopped.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use trunkline_db::Tally;
use trunkline_dialogue::document::{CONTROL, Policy};
use trunkline_model::ScriptId;

use crate::answer::Done;
use crate::auth::Caller;
use crate::openapi::{Route, get, post};
use crate::sent::Sent;
use crate::{Api, Problem};

pub(crate) fn routes() -> Vec<Route> {
    let stop = post("stopArm", stop, "Stops an arm of an experiment")
        .about(
            "Whoever had it gets `control` from the next call on. There is no way back: a changed arm gets a new name.",
        )
        .part::<String>("id", "The script.")
        .says("Stopped")
        .fails(&[404]);
    let list = get("experiments", list, "What the arms of the scripts' experiments have achieved");
    vec![
        Route::at("/v1/experiments").on(list.says("By script and experiment")),
        Route::at("/v1/experiments/{id}/stop").on(stop),
    ]
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Experiments {
    experiments: Vec<Experiment>,
}

/// An experiment of a script.
#[derive(Serialize, JsonSchema)]
struct Experiment {
    script: ScriptId,
    experiment: String,
    policy: Policy,
    /// The outcome that counts as a success.
    metric: String,
    guard: Option<Guard>,
    arms: Vec<Arm>,
}

/// What an arm may not do.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ExperimentGuard")]
struct Guard {
    /// The outcome that harms.
    outcome: String,
    /// By how much its share may be above that of `control`.
    max_rise: f32,
}

/// What an arm has achieved.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ExperimentArm")]
struct Arm {
    arm: String,
    weight: u32,
    /// Answered calls with an outcome.
    calls: u64,
    successes: u64,
    harmed: u64,
    stopped_at: Option<Timestamp>,
    why: Option<String>,
}

pub(crate) async fn list(State(api): State<Arc<Api>>, _: Caller) -> Result<Json<Experiments>, Problem> {
    let mut all = Vec::new();
    for script in api.scripts.all() {
        let stopped = api.db.stopped_arms(script.id()).await?;
        let tallies = api.db.experiment_tallies(script.id()).await?;
        for (name, experiment) in &script.document().experiments {
            let arm = |(arm, weight): (&String, &u32)| {
                let Tally { calls, successes, harmed } =
                    tallies.get(&(name.clone(), arm.clone())).copied().unwrap_or_default();
                let stop = stopped.iter().find(|one| one.experiment == *name && one.arm == *arm);
                Arm {
                    arm: arm.clone(),
                    weight: *weight,
                    calls,
                    successes,
                    harmed,
                    stopped_at: stop.map(|stop| stop.at),
                    why: stop.map(|stop| stop.why.clone()),
                }
            };
            all.push(Experiment {
                script: script.id().clone(),
                experiment: name.clone(),
                policy: experiment.policy,
                metric: experiment.metric.as_str().to_owned(),
                guard: experiment.guard.as_ref().map(|guard| Guard {
                    outcome: guard.outcome.as_str().to_owned(),
                    max_rise: guard.max_rise,
                }),
                arms: experiment.arms.iter().map(arm).collect(),
            });
        }
    }
    Ok(Json(Experiments { experiments: all }))
}

/// An arm that was stopped.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Stopped {
    script: ScriptId,
    experiment: String,
    arm: String,
    why: String,
    /// It was not stopped before.
    was_running: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(crate) struct StopRequest {
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
    body: Sent<StopRequest>,
) -> Result<Done<Stopped>, Problem> {
    let missing = || Problem::not_found("there is no script with this id");
    let id: ScriptId = id.parse().map_err(|_| missing())?;
    let script = api.scripts.current(&id).ok_or_else(missing)?;
    let request = body.json()?;
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
    let why = why.to_owned();
    let done = Stopped { script: id, experiment: request.experiment, arm: request.arm, why, was_running };
    let detail = json!(done);
    Ok(Done::of(done).noting(detail))
}
