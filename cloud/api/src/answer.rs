//! Answers whose status and body stand in their type, so that the description of the API can read them there.

use axum::Json;
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;

use crate::audit::Detail;

/// An answer of one status.
pub(crate) struct Answer<const STATUS: u16, T> {
    body: T,
    location: Option<String>,
    detail: Option<Detail>,
}

/// It is done.
pub(crate) type Done<T> = Answer<200, T>;
/// It is made.
pub(crate) type Created<T> = Answer<201, T>;
/// It will be done.
pub(crate) type Accepted<T> = Answer<202, T>;

impl<const STATUS: u16, T> Answer<STATUS, T> {
    /// Answers with `body`.
    pub(crate) fn of(body: T) -> Self {
        Self { body, location: None, detail: None }
    }

    /// Says where it is to be found from now on.
    pub(crate) fn at(self, location: String) -> Self {
        Self { location: Some(location), ..self }
    }

    /// Says for the audit log what was changed; holds no personal data.
    pub(crate) fn noting(self, detail: Value) -> Self {
        Self { detail: Some(Detail::of(detail)), ..self }
    }
}

impl<const STATUS: u16, T: Serialize> IntoResponse for Answer<STATUS, T> {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(STATUS).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.body)).into_response();
        if let Some(location) = self.location.and_then(|at| HeaderValue::try_from(at).ok()) {
            response.headers_mut().insert(LOCATION, location);
        }
        if let Some(detail) = self.detail {
            response.extensions_mut().insert(detail);
        }
        response
    }
}

/// It is done, and there is nothing to show.
pub(crate) struct Gone(Detail);

impl Gone {
    /// Says for the audit log what was changed; holds no personal data.
    pub(crate) fn noting(detail: Value) -> Self {
        Self(Detail::of(detail))
    }
}

impl IntoResponse for Gone {
    fn into_response(self) -> Response {
        (StatusCode::NO_CONTENT, self.0, ()).into_response()
    }
}
