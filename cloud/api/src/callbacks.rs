//! The delivery log of callbacks, sending one again, and receivers that were disabled.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline_db::{Endpoint, LoggedCallback};

use crate::answer::Accepted;
use crate::auth::Caller;
use crate::openapi::{Route, get, post};
use crate::query::Query;
use crate::sent::Sent;
use crate::{Api, Problem};

pub(crate) fn routes() -> Vec<Route> {
    let list = get("listCallbacks", list, "Lists callbacks and how they fared, the newest first");
    let replay = post("replayCallback", replay, "Sends a callback again, under its old id");
    let endpoints =
        get("listEndpoints", endpoints, "Lists receivers that fail, and those that were disabled for it");
    let enable = post("enableEndpoint", enable, "Lets a disabled receiver have its callbacks again");
    vec![
        Route::at("/v1/callbacks").on(list.says("A page").fails(&[422])),
        Route::at("/v1/callbacks/{id}/replay").on(replay.says("In the spool").fails(&[404])),
        Route::at("/v1/callback-endpoints").on(endpoints.says("The receivers")),
        Route::at("/v1/callback-endpoints/enable")
            .on(enable.says("Its callbacks are on their way").fails(&[404])),
    ]
}

/// A page of callbacks.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Callbacks {
    callbacks: Vec<LoggedCallback>,
    /// Where the next page begins; `null` at the end.
    next: Option<u64>,
}

/// A callback that is sent again.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Replayed {
    id: String,
    #[schemars(extend("enum" = ["pending"]))]
    state: &'static str,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Endpoints {
    endpoints: Vec<Endpoint>,
}

#[derive(Deserialize, JsonSchema)]
pub(crate) struct Page {
    /// Only callbacks that stand so.
    #[schemars(extend("enum" = ["pending", "delivered", "failed"]))]
    state: Option<String>,
    /// `next` of the page before.
    before: Option<u64>,
    #[schemars(range(min = 1, max = 200), extend("default" = 50))]
    limit: Option<u32>,
}

pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    _: Caller,
    Query(page): Query<Page>,
) -> Result<Json<Callbacks>, Problem> {
    let state = page.state.as_deref();
    if state.is_some_and(|state| !["pending", "delivered", "failed"].contains(&state)) {
        return Err(Problem::refused("unknown_state", "state", "one of pending, delivered and failed"));
    }
    let limit = page.limit.unwrap_or(50).clamp(1, 200);
    let callbacks = api.db.callbacks(state, page.before, limit).await?;
    let full = u32::try_from(callbacks.len()).unwrap_or(u32::MAX) == limit;
    let next = if full { callbacks.last().map(|callback| callback.n) } else { None };
    Ok(Json(Callbacks { callbacks, next }))
}

pub(crate) async fn replay(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Accepted<Replayed>, Problem> {
    if !api.db.replay_callback(&id, (api.clock)()).await? {
        return Err(Problem::not_found("there is no callback with this id"));
    }
    api.wakers.courier();
    Ok(Accepted::of(Replayed { id, state: "pending" }))
}

pub(crate) async fn endpoints(State(api): State<Arc<Api>>, _: Caller) -> Result<Json<Endpoints>, Problem> {
    Ok(Json(Endpoints { endpoints: api.db.failing_endpoints().await? }))
}

/// A receiver.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(crate) struct Receiver {
    /// Its address.
    url: String,
}

pub(crate) async fn enable(
    State(api): State<Arc<Api>>,
    _: Caller,
    body: Sent<Receiver>,
) -> Result<Accepted<Receiver>, Problem> {
    let request = body.json()?;
    if !api.db.enable_endpoint(&request.url, (api.clock)()).await? {
        return Err(Problem::not_found("no receiver with this address fails"));
    }
    api.wakers.courier();
    Ok(Accepted::of(request))
}
