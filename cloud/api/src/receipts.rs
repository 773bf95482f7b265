//! Receipts of the gate: of one call, and the whole chain for whoever verifies it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use trunkline_model::CallId;
use trunkline_policy::receipt::Entry;

use crate::auth::Caller;
use crate::calls::{call_id, no_such_call};
use crate::openapi::{Route, get, text};
use crate::query::Query;
use crate::{Api, Problem};

const MOST: u32 = 5_000;

pub(crate) fn routes() -> Vec<Route> {
    let of_call =
        get("getReceipt", of_call, "Shows what the compliance gate decided about a call, and on what")
            .part::<CallId>("id", "")
            .says("Every decision about the call: the entry of the chain, and its body")
            .fails(&[404]);
    let chain = get("getReceipts", chain, "Gives the chain of receipts, for verification").or_sends(
        200,
        "One receipt per line; nothing at the end of the chain",
        "application/jsonl",
        text(),
    );
    vec![Route::at("/v1/calls/{id}/receipt").on(of_call), Route::at("/v1/receipts").on(chain)]
}

/// What the gate decided about a call.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Receipts {
    receipts: Vec<Receipt>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct Receipt {
    /// As it stands in the chain.
    entry: Entry,
    /// Its body, for reading.
    #[schemars(with = "Map<String, Value>")]
    body: Value,
    /// Its hash is that of its content.
    intact: bool,
}

/// The receipts of one call: each as it stands in the chain, and its body as JSON for reading.
pub(crate) async fn of_call(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Json<Receipts>, Problem> {
    let entries = api.db.receipts_of(call_id(&id)?).await?;
    if entries.is_empty() {
        return Err(no_such_call());
    }
    let receipts = entries
        .into_iter()
        .map(|entry| {
            let body = serde_json::from_str(&entry.body).unwrap_or_default();
            Receipt { body, intact: entry.is_intact(), entry }
        })
        .collect();
    Ok(Json(Receipts { receipts }))
}

#[derive(Deserialize, JsonSchema)]
pub(crate) struct After {
    /// Go on behind this number.
    after: Option<u64>,
    #[schemars(range(min = 1, max = MOST), extend("default" = MOST))]
    limit: Option<u32>,
}

/// The chain as lines of JSON, from number `after` on; an empty answer is its end.
pub(crate) async fn chain(
    State(api): State<Arc<Api>>,
    _: Caller,
    Query(page): Query<After>,
) -> Result<Response, Problem> {
    let limit = page.limit.unwrap_or(MOST).clamp(1, MOST);
    let mut text = String::new();
    for entry in api.db.receipts_after(page.after.unwrap_or(0), limit).await? {
        if let Ok(line) = entry.line() {
            text.push_str(&line);
            text.push('\n');
        }
    }
    Ok(([(CONTENT_TYPE, "application/jsonl")], text).into_response())
}
