//! Receipts of the gate: of one call, and the whole chain for whoever verifies it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::auth::Caller;
use crate::calls::{call_id, no_such_call};
use crate::query::Query;
use crate::{Api, Problem};

const MOST: u32 = 5_000;

/// The receipts of one call: each as it stands in the chain, and its body as JSON for reading.
pub(crate) async fn of_call(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let entries = api.db.receipts_of(call_id(&id)?).await?;
    if entries.is_empty() {
        return Err(no_such_call());
    }
    let receipts: Vec<Value> = entries
        .iter()
        .map(|entry| {
            let body: Value = serde_json::from_str(&entry.body).unwrap_or_default();
            json!({ "entry": entry, "body": body, "intact": entry.is_intact() })
        })
        .collect();
    Ok(Json(json!({ "receipts": receipts })))
}

#[derive(Deserialize)]
pub(crate) struct After {
    after: Option<u64>,
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
