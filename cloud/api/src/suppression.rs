//! Opt-outs and suppression lists.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use trunkline_db::NewSuppression;
use trunkline_model::Callee;
use trunkline_policy::{Fingerprint, OptOut, OptOutScope};

use crate::audit::Detail;
use crate::auth::Caller;
use crate::sent::Sent;
use crate::{Api, Problem};

const MOST: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OptOutRequest {
    callee: String,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    of: Option<String>,
}

fn scope(request: &OptOutRequest) -> Result<OptOutScope, Problem> {
    let unknown = || {
        let detail = "one of number, person, debt (`of` names it) and purpose (`of` names it)";
        Problem::refused("unknown_scope", "scope", detail)
    };
    match (request.scope.as_deref(), request.of.as_deref()) {
        (None | Some("number"), None) => Ok(OptOutScope::Number),
        (Some("person"), None) => Ok(OptOutScope::Person),
        (Some("debt"), Some(of)) if !of.is_empty() && of.len() <= 200 => Ok(OptOutScope::Debt(of.to_owned())),
        (Some("purpose"), Some(of)) => {
            serde_json::from_value(of.into()).map(OptOutScope::Purpose).map_err(|_| unknown())
        }
        _ => Err(unknown()),
    }
}

/// Writes an opt-out down. There is no way to take it back.
pub(crate) async fn opt_out(
    State(api): State<Arc<Api>>,
    Caller(token): Caller,
    body: Sent,
) -> Result<Response, Problem> {
    let request: OptOutRequest = body.json()?;
    let callee = number(&request.callee)?;
    let now = (api.clock)();
    let opt_out = OptOut { scope: scope(&request)?, channel: "api".into(), at: now };
    api.db.opt_out(&callee, &opt_out).await?;
    tracing::info!(by = token, "An opt-out was written down");
    // Calls that wait are judged again before they go out, and those with a box once more there.
    api.wakers.suppressor();
    api.wakers.dispatcher();
    // Who opted out can be tested against the fingerprint and not read from it.
    let detail = Detail::of(json!({ "scope": opt_out.scope, "who": Fingerprint::of(&callee) }));
    Ok((StatusCode::CREATED, detail, Json(json!({ "scope": opt_out.scope, "at": now }))).into_response())
}

/// How far the boxes are: who lacks a change gets no new call.
pub(crate) async fn confirmations(State(api): State<Arc<Api>>, _: Caller) -> Result<Json<Value>, Problem> {
    let head = api.db.suppression_head().await?;
    Ok(Json(json!({ "head": head, "boxes": api.db.confirmations((api.clock)()).await? })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListRequest {
    list: String,
    #[serde(default)]
    callees: Vec<String>,
    #[serde(default)]
    until: Option<Timestamp>,
}

/// Puts numbers on a suppression list and takes the list for up to date; without numbers only the latter.
pub(crate) async fn extend(State(api): State<Arc<Api>>, _: Caller, body: Sent) -> Result<Response, Problem> {
    let request: ListRequest = body.json()?;
    if request.list.is_empty() || request.list.len() > 100 {
        return Err(Problem::refused("bad_list", "list", "1 to 100 characters"));
    }
    if request.callees.len() > MOST {
        return Err(Problem::refused("too_many", "callees", "at most 1,000 in one request"));
    }
    let entries: Vec<NewSuppression> = request
        .callees
        .iter()
        .map(|text| {
            Ok(NewSuppression { list: request.list.clone(), callee: number(text)?, until: request.until })
        })
        .collect::<Result<_, Problem>>()?;
    let now = (api.clock)();
    api.db.suppress(&entries, now).await?;
    api.db.list_is_current(&request.list, now).await?;
    api.wakers.suppressor();
    let done = json!({ "list": request.list, "entries": entries.len() });
    Ok((StatusCode::CREATED, Detail::of(done.clone()), Json(done)).into_response())
}

fn number(text: &str) -> Result<Callee, Problem> {
    text.parse().map_err(|e: trunkline_model::NumberError| {
        Problem::refused("malformed_number", "callee", e.to_string())
    })
}
