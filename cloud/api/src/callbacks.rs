//! The delivery log of callbacks, sending one again, and receivers that were disabled.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::auth::Caller;
use crate::calls::unreadable;
use crate::query::Query;
use crate::{Api, Problem};

#[derive(Deserialize)]
pub(crate) struct Page {
    state: Option<String>,
    before: Option<u64>,
    limit: Option<u32>,
}

pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    _: Caller,
    Query(page): Query<Page>,
) -> Result<Json<Value>, Problem> {
    let state = page.state.as_deref();
    if state.is_some_and(|state| !["pending", "delivered", "failed"].contains(&state)) {
        return Err(Problem::refused("unknown_state", "state", "one of pending, delivered and failed"));
    }
    let limit = page.limit.unwrap_or(50).clamp(1, 200);
    let callbacks = api.db.callbacks(state, page.before, limit).await?;
    let full = u32::try_from(callbacks.len()).unwrap_or(u32::MAX) == limit;
    let next = if full { callbacks.last().map(|callback| callback.n) } else { None };
    Ok(Json(json!({ "callbacks": callbacks, "next": next })))
}

pub(crate) async fn replay(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    if !api.db.replay_callback(&id, (api.clock)()).await? {
        return Err(Problem::not_found("there is no callback with this id"));
    }
    api.wakers.courier();
    Ok((StatusCode::ACCEPTED, Json(json!({ "id": id, "state": "pending" }))).into_response())
}

pub(crate) async fn endpoints(State(api): State<Arc<Api>>, _: Caller) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "endpoints": api.db.failing_endpoints().await? })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnableRequest {
    url: String,
}

pub(crate) async fn enable(
    State(api): State<Arc<Api>>,
    _: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body = body.map_err(|_| Problem::too_large())?;
    let request: EnableRequest = serde_json::from_slice(&body).map_err(unreadable)?;
    if !api.db.enable_endpoint(&request.url, (api.clock)()).await? {
        return Err(Problem::not_found("no receiver with this address fails"));
    }
    api.wakers.courier();
    Ok((StatusCode::ACCEPTED, Json(json!({ "url": request.url }))).into_response())
}
