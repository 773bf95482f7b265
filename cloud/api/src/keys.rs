//! Tokens: given out once, kept as a hash, for some purposes and some time.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;
use serde_json::{Value, json};
use trunkline_db::NewKey;
use uuid::Uuid;

use crate::audit::Detail;
use crate::auth::{Caller, Token, sha256_hex};
use crate::calls::unreadable;
use crate::scope;
use crate::{Api, Problem};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyRequest {
    name: String,
    scopes: Vec<String>,
    #[serde(default)]
    expires_at: Option<Timestamp>,
}

/// Makes a token. The answer is the only place where it ever stands.
pub(crate) async fn create(
    State(api): State<Arc<Api>>,
    maker: Token,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body = body.map_err(|_| Problem::too_large())?;
    let request: KeyRequest = serde_json::from_slice(&body).map_err(unreadable)?;
    let now = (api.clock)();
    let name_ok = (1..=100).contains(&request.name.chars().count())
        && request.name != "server"
        && !request.name.chars().any(char::is_control);
    if !name_ok {
        return Err(Problem::refused("bad_name", "name", "1 to 100 characters, and not `server`"));
    }
    let known = scope::all();
    if request.scopes.is_empty() || request.scopes.iter().any(|scope| !known.contains(scope)) {
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        return Err(Problem::refused("unknown_scope", "scopes", format!("some of {}", known.join(", "))));
    }
    if let Some(beyond) = request.scopes.iter().find(|scope| !scope::holds(maker.0.scopes.as_deref(), scope))
    {
        return Err(Problem::forbidden(beyond));
    }
    if request.expires_at.is_some_and(|at| at <= now) {
        return Err(Problem::refused("expires_past", "expires_at", "this instant has passed"));
    }
    let mut random = [0_u8; 24];
    SystemRandom::new().fill(&mut random).map_err(|_| Problem::internal())?;
    let token = format!("tl_{}", hex::encode(random));
    let key = NewKey {
        id: format!("key_{}", Uuid::now_v7().simple()),
        name: request.name,
        sha256: sha256_hex(token.as_bytes()),
        scopes: request.scopes,
        created_by: maker.0.name,
        expires_at: request.expires_at,
    };
    if !api.db.create_key(&key, now).await? {
        return Err(Problem::conflict("name_taken", "there is or was a token of this name"));
    }
    let shown = json!({
        "id": key.id, "name": key.name, "scopes": key.scopes, "created_at": now, "created_by": key.created_by,
        "expires_at": key.expires_at,
    });
    let mut answer = shown.clone();
    answer["token"] = token.into();
    Ok((StatusCode::CREATED, Detail::of(shown), Json(answer)).into_response())
}

pub(crate) async fn list(State(api): State<Arc<Api>>, _: Caller) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "keys": api.db.keys().await? })))
}

/// Ends a token at once.
pub(crate) async fn revoke(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let key = api.db.revoke_key(&id, (api.clock)()).await?;
    let key = key.ok_or_else(|| Problem::not_found("there is no token with this id"))?;
    Ok((Detail::of(json!({ "name": key.name })), Json(key)).into_response())
}
