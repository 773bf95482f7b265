//! Who changed what and when: written before a change is tried, completed with what came of it.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, IntoResponseParts, Response, ResponseParts};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use trunkline_db::AuditEntry;

use crate::auth::{self, Caller};
use crate::openapi::{Route, get};
use crate::problem::Chain;
use crate::query::Query;
use crate::{Api, Problem};

const LONGEST_PATH: usize = 500;

/// What a handler changed, for the log; holds no personal data.
#[derive(Clone, Debug)]
pub(crate) struct Detail(Value);

impl Detail {
    pub(crate) fn of(value: Value) -> Self {
        Self(value)
    }
}

impl IntoResponseParts for Detail {
    type Error = Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Infallible> {
        parts.extensions_mut().insert(self);
        Ok(parts)
    }
}

/// Wraps every request that may change something.
pub(crate) async fn keep(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    if request.method().is_safe() || !request.uri().path().starts_with("/v1/") {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let Ok(token) = auth::resolve(&parts.headers, &api).await else {
        // Without a valid token nothing can be changed; the handler says so.
        return next.run(Request::from_parts(parts, body)).await;
    };
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let path: String = path.chars().take(LONGEST_PATH).collect();
    let begun = api.db.audit_begin(&token.name, parts.method.as_str(), &path, (api.clock)()).await;
    let n = match begun {
        Ok(n) => n,
        // What cannot be written down is not done.
        Err(error) => return Problem::from(error).into_response(),
    };
    parts.extensions.insert(auth::Token(token));
    let response = next.run(Request::from_parts(parts, body)).await;
    let detail =
        response.extensions().get::<Detail>().map_or_else(|| json!({}), |Detail(value)| value.clone());
    if let Err(error) = api.db.audit_end(n, response.status().as_u16(), &detail).await {
        tracing::error!(error = %Chain(&error), n, "An entry of the audit log could not be completed");
    }
    response
}

pub(crate) fn routes() -> Vec<Route> {
    let list = get("audit", list, "Who changed what and when, the newest first");
    vec![Route::at("/v1/audit").on(list.says("A page of the log"))]
}

/// A page of the log.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Log {
    entries: Vec<AuditEntry>,
    /// Where the next page begins; `null` at the end.
    next: Option<u64>,
}

#[derive(Deserialize, JsonSchema)]
pub(crate) struct Page {
    /// `next` of the page before.
    before: Option<u64>,
    #[schemars(range(min = 1, max = 1_000), extend("default" = 100))]
    limit: Option<u32>,
}

/// The log, the newest first.
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    _: Caller,
    Query(page): Query<Page>,
) -> Result<Json<Log>, Problem> {
    let limit = page.limit.unwrap_or(100).clamp(1, 1_000);
    let entries = api.db.audit(page.before, limit).await?;
    let next = entries.last().map(|last| last.n).filter(|_| entries.len() as u64 == u64::from(limit));
    Ok(Json(Log { entries, next }))
}
