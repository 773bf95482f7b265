//! Errors as problem documents (RFC 9457).

use std::fmt;

use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use trunkline_db::DbError;
use trunkline_dialogue::PlainFinding;

/// Why a request was not served.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// HTTP status.
    pub status: StatusCode,
    /// A word that programs can rely on, such as `malformed_number`.
    pub code: &'static str,
    /// For people; holds no personal data.
    pub detail: String,
    /// The field at fault, where there is one.
    pub field: Option<String>,
    /// What the linter found, where a script is at fault.
    pub findings: Option<serde_json::Value>,
}

/// Why a request was not served (RFC 9457).
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(crate) struct Document {
    #[serde(rename = "type")]
    kind: &'static str,
    /// The name of the status.
    title: &'static str,
    status: u16,
    /// What is wrong, for people.
    detail: String,
    /// What is wrong, as a word that programs can rely on.
    #[schemars(extend("examples" = [
        "malformed_number", "unknown_script", "missing_variable", "wrong_variable", "unknown_variable",
        "bad_callback_url", "callbacks_disabled", "not_after_past", "suppressed", "malformed_body",
        "idempotency_key_reused", "already_ended", "unauthorized", "not_found",
    ]))]
    code: &'static str,
    /// The field at fault, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// All that the linter found, where a script was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<PlainFinding<'static>>>")]
    findings: Option<serde_json::Value>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), field: None, findings: None }
    }

    /// The request is well written, and what it asks for is not possible.
    pub fn refused(code: &'static str, field: &str, detail: impl Into<String>) -> Self {
        let field = Some(field.to_owned());
        Self { field, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail) }
    }

    /// The body cannot be read.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed_body", detail)
    }

    /// What stands behind `?` cannot be read.
    pub fn malformed_query(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed_query", detail)
    }

    /// There is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// The thing is in a state in which this cannot be done.
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// No token, or one that is not valid.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    /// The caller is known, and may not do this.
    pub fn forbidden(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, detail)
    }

    /// It was tried too often; later it is looked at again.
    pub fn later(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, code, detail)
    }

    /// This server is not set up for it.
    pub fn not_set_up(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "not_set_up", detail)
    }

    /// Something here is broken that the caller cannot help.
    pub(crate) fn internal(what: &str, error: &dyn std::error::Error) -> Self {
        tracing::error!(error = %Chain(error), "{what}");
        let detail = "the request failed here; it may be tried again";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// It failed here, and the log says why.
    pub(crate) fn failed() -> Self {
        let detail = "the request failed here; it may be tried again";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    pub(crate) fn too_many(wait_s: u64) -> Self {
        let detail = format!("too many requests with this token; one more in {wait_s} s");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail)
    }

    pub(crate) fn method_not_allowed() -> Self {
        let detail = "this address does not know that method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
    }

    pub(crate) fn too_large() -> Self {
        Self::larger_than("64 KiB")
    }

    /// The body has more than is read here.
    pub(crate) fn larger_than(limit: &str) -> Self {
        let detail = format!("the body is larger than {limit}");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }
}

impl From<DbError> for Problem {
    fn from(error: DbError) -> Self {
        tracing::error!(error = %Chain(&error), "A request failed in the database");
        let detail = "the request failed here; it may be tried again";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Document {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or("error"),
            status: self.status.as_u16(),
            detail: self.detail,
            code: self.code,
            field: self.field,
            findings: self.findings,
        };
        let mut response = (self.status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Shows an error with its causes, for the one place that logs it.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}
