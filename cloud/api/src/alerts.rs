//! Alerts of the fleet: what somebody should look at, and what nobody wants to hear of for a while.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::audit::Detail;
use crate::auth::Member;
use crate::fleet::{operator, read};
use crate::query::Query;
use crate::{Api, Problem};

const MOST: u32 = 500;
/// Nobody remembers after this time why they did not want to hear of it.
const MOST_HOURS: u32 = 24 * 14;

#[derive(Deserialize)]
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
) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "alerts": api.db.alerts(query.all, MOST).await? })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SilenceRequest {
    hours: u32,
}

/// Lets an alert be silent for some hours; one that comes again after it was over is loud.
pub(crate) async fn silence(
    State(api): State<Arc<Api>>,
    Member(by): Member,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    operator(&by)?;
    let missing = || Problem::not_found("there is no such alert, or it is over");
    let id: u64 = id.parse().map_err(|_| missing())?;
    let request: SilenceRequest = read(body)?;
    if request.hours == 0 || request.hours > MOST_HOURS {
        return Err(Problem::refused("bad_hours", "hours", format!("1 to {MOST_HOURS}")));
    }
    let now = (api.clock)();
    let until = now + SignedDuration::from_hours(i64::from(request.hours));
    let alert = api.db.silence_alert(id, &by.name, until, now).await?.ok_or_else(missing)?;
    tracing::info!(by = by.name, alert = id, box.id = %alert.box_id, "An alert was silenced");
    Ok((Detail::of(json!({ "alert": id, "until": until })), Json(json!(alert))).into_response())
}
