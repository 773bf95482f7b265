//! The body of a request as JSON.

use std::convert::Infallible;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use crate::Problem;
use crate::calls::unreadable;

/// What somebody sent, read where the handler wants it: what the address names is looked up before.
pub(crate) struct Sent(Result<Bytes, BytesRejection>);

impl<S: Send + Sync> FromRequest<S> for Sent {
    type Rejection = Infallible;

    async fn from_request(request: Request, state: &S) -> Result<Self, Infallible> {
        Ok(Self(Bytes::from_request(request, state).await))
    }
}

impl Sent {
    /// Reads it.
    pub(crate) fn json<T: DeserializeOwned>(self) -> Result<T, Problem> {
        let body = self.0.map_err(|_| Problem::too_large())?;
        serde_json::from_slice(&body).map_err(unreadable)
    }

    /// Reads it, and takes an empty one for one that says nothing.
    pub(crate) fn json_or_default<T: DeserializeOwned + Default>(self) -> Result<T, Problem> {
        let body = self.0.map_err(|_| Problem::too_large())?;
        if body.is_empty() { Ok(T::default()) } else { serde_json::from_slice(&body).map_err(unreadable) }
    }
}
