//! Alerts of the fleet: what somebody should look at, and what nobody wants to hear of for a while.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use trunkline_db::AlertRow;

use crate::answer::Done;
use crate::auth::Member;
use crate::fleet::operator;
use crate::openapi::{Route, get, post};
use crate::query::Query;
use crate::sent::Sent;
use crate::{Api, Problem};

const MOST: u32 = 500;
/// Nobody remembers after this time why they did not want to hear of it.
const MOST_HOURS: u32 = 24 * 14;

pub(crate) fn routes() -> Vec<Route> {
    let list = get("listAlerts", list, "Lists what somebody should look at on boxes, the newest first");
    let silence = post(
        "silenceAlert",
        silence,
        "Lets an alert be silent for some hours; one that comes again after it was over is loud",
    );
    let silence = silence.part::<Number>("id", "The alert").says("Silenced").fails(&[404]);
    vec![
        Route::at("/v1/alerts").on(list.says("The alerts")),
        Route::at("/v1/alerts/{id}/silence").on(silence),
    ]
}

/// Numbers begin with 1.
#[derive(JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "it is a schema")]
struct Number(#[schemars(range(min = 1))] u64);

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Alerts {
    alerts: Vec<AlertRow>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Those that are over as well.
    #[serde(default)]
    all: bool,
}

pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    _: crate::auth::Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Alerts>, Problem> {
    Ok(Json(Alerts { alerts: api.db.alerts(query.all, MOST).await? }))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(crate) struct SilenceRequest {
    #[schemars(range(min = 1, max = MOST_HOURS))]
    hours: u32,
}

/// Lets an alert be silent for some hours; one that comes again after it was over is loud.
pub(crate) async fn silence(
    State(api): State<Arc<Api>>,
    Member(by): Member,
    Path(id): Path<String>,
    body: Sent<SilenceRequest>,
) -> Result<Done<AlertRow>, Problem> {
    operator(&by)?;
    let missing = || Problem::not_found("there is no such alert, or it is over");
    let id: u64 = id.parse().map_err(|_| missing())?;
    let request = body.json()?;
    if request.hours == 0 || request.hours > MOST_HOURS {
        return Err(Problem::refused("bad_hours", "hours", format!("1 to {MOST_HOURS}")));
    }
    let now = (api.clock)();
    let until = now + SignedDuration::from_hours(i64::from(request.hours));
    let alert = api.db.silence_alert(id, &by.name, until, now).await?.ok_or_else(missing)?;
    tracing::info!(by = by.name, alert = id, box.id = %alert.box_id, "An alert was silenced");
    Ok(Done::of(alert).noting(json!({ "alert": id, "until": until })))
}
