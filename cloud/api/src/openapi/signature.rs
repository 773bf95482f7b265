//! What the signature of a handler says about its operation.
//!
//! Each extractor says what it reads and which refusals it knows, each answer its status and its body. So a handler
//! that reads another body is described as reading another body, without a second word.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::{Event, Sse};
use futures_util::Stream;
use schemars::JsonSchema;

use super::draft::{Draft, Security};
use crate::answer::{Answer, Gone};
use crate::auth::{Caller, Known, Member, Origin, Shown, Token};
use crate::query::Query;
use crate::sent::Sent;
use crate::{Api, Problem};

/// A handler whose description can be read from its signature: arguments `I`, answer `O`.
pub(crate) trait Signature<I, O> {
    /// Adds what the arguments and the answer say.
    fn describe(draft: &mut Draft<'_>);
}

/// An argument of a handler.
pub(crate) trait Input {
    /// Adds what it reads, and how it refuses.
    fn describe(draft: &mut Draft<'_>);
}

/// What a handler returns.
pub(crate) trait Output {
    /// Adds what it answers with.
    fn describe(draft: &mut Draft<'_>);
}

macro_rules! signature {
    ($($argument:ident)*) => {
        impl<F, Fut, O, $($argument,)*> Signature<($($argument,)*), O> for F
        where
            F: Fn($($argument),*) -> Fut,
            Fut: Future<Output = O>,
            O: Output,
            $($argument: Input,)*
        {
            fn describe(draft: &mut Draft<'_>) {
                $($argument::describe(draft);)*
                O::describe(draft);
            }
        }
    };
}

signature!();
signature!(A);
signature!(A B);
signature!(A B C);
signature!(A B C D);
signature!(A B C D E);

impl Input for State<Arc<Api>> {
    fn describe(_: &mut Draft<'_>) {}
}

/// Names come from the address; an operation says more where there is more to say.
impl<T> Input for Path<T> {
    fn describe(_: &mut Draft<'_>) {}
}

/// The operation names those that are read.
impl Input for HeaderMap {
    fn describe(_: &mut Draft<'_>) {}
}

impl Input for Origin {
    fn describe(_: &mut Draft<'_>) {}
}

impl Input for Caller {
    fn describe(draft: &mut Draft<'_>) {
        draft.security(Security::Token);
        draft.problems(&[401, 403]);
    }
}

impl Input for Token {
    fn describe(draft: &mut Draft<'_>) {
        Caller::describe(draft);
    }
}

impl Input for Member {
    fn describe(draft: &mut Draft<'_>) {
        Caller::describe(draft);
    }
}

impl Input for Shown {
    fn describe(draft: &mut Draft<'_>) {
        draft.security(Security::Certificate);
        draft.problems(&[401]);
    }
}

impl Input for Known {
    fn describe(draft: &mut Draft<'_>) {
        Shown::describe(draft);
    }
}

impl<T: JsonSchema> Input for Query<T> {
    fn describe(draft: &mut Draft<'_>) {
        draft.query::<T>();
        draft.problems(&[400]);
    }
}

/// The handler itself says what is wrong with it.
impl<T: JsonSchema> Input for Result<axum::extract::Query<T>, QueryRejection> {
    fn describe(draft: &mut Draft<'_>) {
        draft.query::<T>();
        draft.problems(&[422]);
    }
}

impl<T: JsonSchema, const REQUIRED: bool> Input for Sent<T, REQUIRED> {
    fn describe(draft: &mut Draft<'_>) {
        let schema = draft.schemas.read::<T>();
        draft.body("application/json", schema, REQUIRED);
        draft.problems(&[400, 413, 422]);
    }
}

/// Bytes as they are, all at once.
impl Input for Result<Bytes, BytesRejection> {
    fn describe(draft: &mut Draft<'_>) {
        draft.body("application/octet-stream", super::binary(), true);
        draft.problems(&[413]);
    }
}

/// The operation says what they are.
impl Input for Body {
    fn describe(_: &mut Draft<'_>) {}
}

impl<T: Output> Output for Result<T, Problem> {
    fn describe(draft: &mut Draft<'_>) {
        T::describe(draft);
    }
}

impl<T: JsonSchema> Output for Json<T> {
    fn describe(draft: &mut Draft<'_>) {
        Answer::<200, T>::describe(draft);
    }
}

impl<const STATUS: u16, T: JsonSchema> Output for Answer<STATUS, T> {
    fn describe(draft: &mut Draft<'_>) {
        let schema = draft.schemas.written::<T>();
        draft.answer(STATUS, Some(("application/json", schema)));
    }
}

impl Output for Gone {
    fn describe(draft: &mut Draft<'_>) {
        draft.answer(204, None);
    }
}

impl<S: Stream<Item = Result<Event, Infallible>>> Output for Sse<S> {
    fn describe(draft: &mut Draft<'_>) {
        draft.answer(200, Some(("text/event-stream", super::text())));
    }
}

/// The operation says which answers there are.
impl Output for Response {
    fn describe(_: &mut Draft<'_>) {}
}
