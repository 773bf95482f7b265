//! The body of a request as JSON.

use std::convert::Infallible;
use std::marker::PhantomData;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use crate::Problem;
use crate::calls::unreadable;

/// What somebody sent, a `T`, read where the handler wants it: what the address names is looked up before.
pub(crate) struct Sent<T, const REQUIRED: bool = true> {
    body: Result<Bytes, BytesRejection>,
    what: PhantomData<fn() -> T>,
}

/// The same where an empty body is one that says nothing.
pub(crate) type MaybeSent<T> = Sent<T, false>;

impl<S: Send + Sync, T, const REQUIRED: bool> FromRequest<S> for Sent<T, REQUIRED> {
    type Rejection = Infallible;

    async fn from_request(request: Request, state: &S) -> Result<Self, Infallible> {
        Ok(Self { body: Bytes::from_request(request, state).await, what: PhantomData })
    }
}

impl<T: DeserializeOwned> Sent<T> {
    /// Reads it.
    pub(crate) fn json(self) -> Result<T, Problem> {
        self.with_bytes().map(|(read, _)| read)
    }

    /// Reads it, and returns its bytes too.
    pub(crate) fn with_bytes(self) -> Result<(T, Bytes), Problem> {
        let body = self.body.map_err(|_| Problem::too_large())?;
        Ok((serde_json::from_slice(&body).map_err(unreadable)?, body))
    }
}

impl<T: DeserializeOwned + Default> MaybeSent<T> {
    /// Reads it.
    pub(crate) fn json_or_default(self) -> Result<T, Problem> {
        let body = self.body.map_err(|_| Problem::too_large())?;
        if body.is_empty() { Ok(T::default()) } else { serde_json::from_slice(&body).map_err(unreadable) }
    }
}
