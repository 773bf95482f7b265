//! Opt-outs and suppression lists.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use trunkline_db::{Confirmed, NewSuppression};
use trunkline_model::Callee;
use trunkline_policy::{Fingerprint, OptOut, OptOutScope};

use crate::answer::Created;
use crate::auth::Caller;
use crate::openapi::{Route, get, post};
use crate::sent::Sent;
use crate::{Api, Problem};

const MOST: usize = 1_000;

pub(crate) fn routes() -> Vec<Route> {
    let opt_out = post("optOut", opt_out, "Writes an opt-out down; it is for ever").says("Written down");
    let extend =
        post("suppress", extend, "Puts numbers on a suppression list and takes the list for up to date")
            .says("On the list");
    let confirmations =
        get("confirmations", confirmations, "How far the boxes have the opt-outs and list entries")
            .about("A box that lacks one gets no new call.")
            .says("The newest change, and how far each box is");
    vec![Route::at("/v1/opt-outs").on(opt_out), Route::at("/v1/suppressions").on(extend).on(confirmations)]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OptOutRequest {
    /// A number in international form, or sip:user@host.
    callee: String,
    /// What it covers; the number when left out.
    #[serde(default)]
    #[schemars(extend("enum" = ["number", "person", "debt", "purpose", null]))]
    scope: Option<String>,
    /// The debt or the purpose.
    #[serde(default)]
    #[schemars(length(max = 200))]
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

/// An opt-out that was written down.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Written {
    scope: OptOutScope,
    at: Timestamp,
}

/// Writes an opt-out down. There is no way to take it back.
pub(crate) async fn opt_out(
    State(api): State<Arc<Api>>,
    Caller(token): Caller,
    body: Sent<OptOutRequest>,
) -> Result<Created<Written>, Problem> {
    let request = body.json()?;
    let callee = number(&request.callee)?;
    let now = (api.clock)();
    let opt_out = OptOut { scope: scope(&request)?, channel: "api".into(), at: now };
    api.db.opt_out(&callee, &opt_out).await?;
    tracing::info!(by = token, "An opt-out was written down");
    // Calls that wait are judged again before they go out, and those with a box once more there.
    api.wakers.suppressor();
    api.wakers.dispatcher();
    // Who opted out can be tested against the fingerprint and not read from it.
    let detail = json!({ "scope": opt_out.scope, "who": Fingerprint::of(&callee) });
    Ok(Created::of(Written { scope: opt_out.scope, at: now }).noting(detail))
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Confirmations {
    /// The number of the newest change.
    head: u64,
    boxes: Vec<Confirmed>,
}

/// How far the boxes are: who lacks a change gets no new call.
pub(crate) async fn confirmations(
    State(api): State<Arc<Api>>,
    _: Caller,
) -> Result<Json<Confirmations>, Problem> {
    let head = api.db.suppression_head().await?;
    Ok(Json(Confirmations { head, boxes: api.db.confirmations((api.clock)()).await? }))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SuppressionRequest")]
pub(crate) struct ListRequest {
    /// The list, such as `global`.
    #[schemars(length(min = 1, max = 100))]
    list: String,
    /// Numbers in international form, or sip:user@host.
    #[serde(default)]
    #[schemars(length(max = MOST))]
    callees: Vec<String>,
    /// When the entries end; never when left out.
    #[serde(default)]
    until: Option<Timestamp>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Extended {
    list: String,
    /// How many numbers were sent.
    entries: usize,
}

/// Puts numbers on a suppression list and takes the list for up to date; without numbers only the latter.
pub(crate) async fn extend(
    State(api): State<Arc<Api>>,
    _: Caller,
    body: Sent<ListRequest>,
) -> Result<Created<Extended>, Problem> {
    let request = body.json()?;
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
    let detail = json!({ "list": request.list, "entries": entries.len() });
    Ok(Created::of(Extended { list: request.list, entries: entries.len() }).noting(detail))
}

fn number(text: &str) -> Result<Callee, Problem> {
    text.parse().map_err(|e: trunkline_model::NumberError| {
        Problem::refused("malformed_number", "callee", e.to_string())
    })
}
