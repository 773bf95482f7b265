//! Who is calling: people and programs by token, boxes by certificate.

use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use ring::digest;
use trunkline_model::BoxId;

use crate::{Api, Peer, Problem};

/// A caller with a valid token, by the token's name.
pub(crate) struct Caller(pub(crate) String);

impl FromRequestParts<Arc<Api>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let token = parts
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or_else(|| Problem::unauthorized("send `Authorization: Bearer <token>`"))?;
        match api.db.token_name(&sha256_hex(token.as_bytes())).await? {
            Some(name) => Ok(Self(name)),
            None => Err(Problem::unauthorized("the token is not valid")),
        }
    }
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
