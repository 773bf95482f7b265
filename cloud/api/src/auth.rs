//! Who is calling: people and programs by token, boxes by certificate.

use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use ring::digest;
use trunkline_db::Holder;
use trunkline_model::BoxId;

use crate::{Api, Peer, Problem, scope};

/// A caller whose token is valid and holds the scope that the request needs, by the token's name.
pub(crate) struct Caller(pub(crate) String);

impl FromRequestParts<Arc<Api>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        Token::from_request_parts(parts, api).await.map(|token| Self(token.0.name))
    }
}

/// The same with what the token may be used for.
#[derive(Clone)]
pub(crate) struct Token(pub(crate) Holder);

impl FromRequestParts<Arc<Api>> for Token {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let known = parts.extensions.get::<Self>().cloned();
        let token = match known {
            Some(token) => token,
            None => Self(resolve(&parts.headers, api).await?),
        };
        let needed = scope::needed(&parts.method, parts.uri.path());
        if scope::holds(token.0.scopes.as_deref(), &needed) {
            Ok(token)
        } else {
            Err(Problem::forbidden(&needed))
        }
    }
}

/// Looks the token of a request up.
pub(crate) async fn resolve(headers: &HeaderMap, api: &Api) -> Result<Holder, Problem> {
    let token = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(|| Problem::unauthorized("send `Authorization: Bearer <token>`"))?;
    let holder = api.db.holder(&sha256_hex(token.as_bytes()), (api.clock)()).await?;
    holder.ok_or_else(|| Problem::unauthorized("the token is not valid, or not any more"))
}

/// A box that showed its certificate.
pub(crate) struct Known(pub(crate) BoxId);

impl FromRequestParts<Arc<Api>> for Known {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Self, Problem> {
        let peer = parts.extensions.get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| peer);
        peer.and_then(|peer| peer.box_id.clone()).map(Self).ok_or_else(|| {
            Problem::unauthorized("this address is for boxes: connect with a box's certificate")
        })
    }
}

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}
