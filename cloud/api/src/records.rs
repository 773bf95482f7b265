//! Calls that are over, as structured data: page by page for a program, as CSV for a person.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use trunkline_db::{EndedCall, RecordFilter};

use crate::auth::Caller;
use crate::import::cell;
use crate::openapi::{Route, get, text};
use crate::problem::Chain;
use crate::query::Query;
use crate::{Api, Problem};

const PAGE: u32 = 500;

pub(crate) fn routes() -> Vec<Route> {
    let list = get("listRecords", list, "Calls that are over, in the order in which that became known")
        .about(
            "A reader that goes on from `next`, now or tomorrow, sees every call. One that was given up and whose \
             record arrived all the same comes again.",
        )
        .says("A page")
        .fails(&[422]);
    let export = get("exportRecords", export, "Calls that are over, as CSV, a line for each")
        .about("A field that a spreadsheet could take for a formula begins with an apostrophe.")
        .or_sends(200, "All that fits the filter", "text/csv", text())
        .fails(&[422]);
    vec![Route::at("/v1/records").on(list), Route::at("/v1/records.csv").on(export)]
}

#[derive(Deserialize, JsonSchema)]
pub(crate) struct Wanted {
    /// Go on behind this place: `next` of the page before.
    after: Option<u64>,
    /// Only calls of this script.
    script_id: Option<String>,
    /// Only calls that ended like this on the line, such as `completed`.
    disposition: Option<String>,
    /// Only calls of which this came, such as `agreed`.
    outcome: Option<String>,
    /// Only what became known at or after this instant.
    #[schemars(with = "Option<Timestamp>")]
    since: Option<String>,
    /// Only what became known before this instant.
    #[schemars(with = "Option<Timestamp>")]
    until: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
pub(crate) struct Limit {
    /// At most so many.
    #[schemars(range(min = 1, max = PAGE), extend("default" = 100))]
    limit: Option<u32>,
}

/// A page of calls that are over.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Records {
    records: Vec<EndedCall>,
    /// Where the next page begins, now or later.
    next: u64,
    /// There is a further page now.
    more: bool,
}

impl Wanted {
    fn filter(self, limit: u32) -> Result<RecordFilter, Problem> {
        let instant = |field: &str, text: Option<String>| {
            let read = |text: String| {
                text.parse::<Timestamp>().map_err(|_| {
                    Problem::refused(
                        "malformed_instant",
                        field,
                        "an instant is written as 2026-11-23T08:00:00Z",
                    )
                })
            };
            text.map(read).transpose()
        };
        let disposition = self.disposition.map(|name| {
            let unknown =
                || Problem::refused("unknown_disposition", "disposition", "there is no such disposition");
            serde_json::from_value(Value::String(name)).map_err(|_| unknown())
        });
        let script = self.script_id.map(|id| {
            id.parse().map_err(|_| Problem::refused("unknown_script", "script_id", "this is no script id"))
        });
        Ok(RecordFilter {
            after: self.after.unwrap_or(0),
            script: script.transpose()?,
            disposition: disposition.transpose()?,
            outcome: self.outcome,
            since: instant("since", self.since)?,
            until: instant("until", self.until)?,
            limit,
        })
    }
}

/// Calls that are over, in the order in which that became known. `next` goes on from there, now or later.
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    _: Caller,
    Query(wanted): Query<Wanted>,
    Query(page): Query<Limit>,
) -> Result<Json<Records>, Problem> {
    let filter = wanted.filter(page.limit.unwrap_or(100).clamp(1, PAGE))?;
    let records = api.db.ended_calls(&filter).await?;
    let next = records.last().map_or(filter.after, |last| last.n);
    let more = records.len() as u64 == u64::from(filter.limit);
    Ok(Json(Records { records, next, more }))
}

/// The same as CSV in which nothing is a formula, a line for each call.
pub(crate) async fn export(
    State(api): State<Arc<Api>>,
    _: Caller,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let filter = wanted.filter(PAGE)?;
    let header = "call,external_id,callee,script_id,version,asked_at,answered_at,ended_at,disposition,outcome,label,\
                  turns,mood,score,slots,direction,called\r\n";
    let pages = unfold((api, filter, Some(header)), |(api, filter, header)| async move {
        let mut text = header.unwrap_or_default().to_owned();
        let page = match api.db.ended_calls(&filter).await {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(error = %Chain(&error), "An export broke off");
                return None;
            }
        };
        let Some(last) = page.last().map(|last| last.n) else {
            return (!text.is_empty()).then_some((Ok::<_, Infallible>(text), (api, filter, None)));
        };
        for ended in &page {
            text += &line(ended);
        }
        Some((Ok(text), (api, RecordFilter { after: last, ..filter }, None)))
    });
    let headers = [
        (CONTENT_TYPE, "text/csv; charset=utf-8"),
        (CONTENT_DISPOSITION, "attachment; filename=\"records.csv\""),
    ];
    Ok((headers, Body::from_stream(pages)).into_response())
}

fn line(ended: &EndedCall) -> String {
    let call = &ended.call;
    let found =
        |path: &str| ended.inspection.as_ref().and_then(|found| found.pointer(path)).map(Value::to_string);
    let filed = |path: &str| ended.record.as_ref().and_then(|record| record.pointer(path));
    let instant = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    let turns = filed("/turns").and_then(Value::as_array).map_or(0, Vec::len);
    let cells = [
        call.id.to_string(),
        cell(call.external_id.as_deref().unwrap_or_default()),
        cell(call.callee.reveal()),
        cell(call.script.id.as_str()),
        call.script.version.to_string(),
        call.created_at.to_string(),
        instant(call.answered_at),
        instant(call.ended_at),
        call.disposition.map(|disposition| disposition.as_str()).unwrap_or_default().to_owned(),
        cell(call.outcome.as_ref().map(|outcome| outcome.code.as_str()).unwrap_or_default()),
        cell(call.outcome.as_ref().map(|outcome| outcome.label.as_str()).unwrap_or_default()),
        turns.to_string(),
        found("/mood").unwrap_or_default(),
        found("/score").unwrap_or_default(),
        cell(&filed("/slots").map(Value::to_string).unwrap_or_default()),
        call.direction.as_str().to_owned(),
        cell(call.called.as_deref().unwrap_or_default()),
    ];
    format!("{}\r\n", cells.join(","))
}
