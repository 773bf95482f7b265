//! Tokens: given out once, kept as a hash, for some purposes and some time.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::json;
use trunkline_db::{KeyRow, NewKey};
use uuid::Uuid;

use crate::answer::{Created, Done};
use crate::auth::{Caller, Token, sha256_hex};
use crate::openapi::{Route, delete, get, post};
use crate::scope;
use crate::sent::Sent;
use crate::{Api, Problem};

pub(crate) fn routes() -> Vec<Route> {
    let create = post("createKey", create, "Makes a token")
        .about("The token stands in this answer and nowhere else. Nobody gives out more than he holds.")
        .says("The token")
        .fails(&[409]);
    let list = get("listKeys", list, "Lists the tokens that the API gave out");
    let revoke = delete("revokeKey", revoke, "Ends a token at once").says("The token, ended").fails(&[404]);
    vec![
        Route::at("/v1/keys").on(create).on(list.says("Them, without the tokens themselves")),
        Route::at("/v1/keys/{id}").on(revoke),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyRequest {
    /// What people call it; not `server`.
    #[schemars(length(min = 1, max = 100))]
    name: String,
    /// What it may be used for.
    #[schemars(with = "Vec<Scope>", length(min = 1))]
    scopes: Vec<String>,
    /// When it ends; never when left out.
    #[serde(default)]
    expires_at: Option<Timestamp>,
}

/// A scope, as a schema.
struct Scope;

impl JsonSchema for Scope {
    fn schema_name() -> Cow<'static, str> {
        "Scope".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": scope::all(), "description": "`admin` holds all others." })
    }
}

/// A token that was just made.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "NewKey")]
pub(crate) struct Made {
    #[serde(flatten)]
    key: Shown,
    /// The token; it is shown only here.
    token: String,
}

/// A token, without itself.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Key")]
pub(crate) struct Shown {
    id: String,
    /// What people call it.
    name: String,
    #[schemars(with = "Vec<Scope>")]
    scopes: Vec<String>,
    created_at: Timestamp,
    /// The token that made it.
    created_by: String,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
}

impl From<KeyRow> for Shown {
    fn from(row: KeyRow) -> Self {
        let KeyRow { id, name, scopes, created_at, created_by, expires_at, revoked_at } = row;
        Self { id, name, scopes, created_at, created_by, expires_at, revoked_at }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Keys {
    keys: Vec<Shown>,
}

/// Makes a token. The answer is the only place where it ever stands.
pub(crate) async fn create(
    State(api): State<Arc<Api>>,
    maker: Token,
    body: Sent<KeyRequest>,
) -> Result<Created<Made>, Problem> {
    let request = body.json()?;
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
        return Err(scope::missing(beyond));
    }
    if request.expires_at.is_some_and(|at| at <= now) {
        return Err(Problem::refused("expires_past", "expires_at", "this instant has passed"));
    }
    let mut random = [0_u8; 24];
    SystemRandom::new().fill(&mut random).map_err(|_| Problem::failed())?;
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
    let NewKey { id, name, scopes, created_by, expires_at, .. } = key;
    let key = Shown { id, name, scopes, created_at: now, created_by, expires_at, revoked_at: None };
    let detail = json!(key);
    Ok(Created::of(Made { key, token }).noting(detail))
}

pub(crate) async fn list(State(api): State<Arc<Api>>, _: Caller) -> Result<Json<Keys>, Problem> {
    Ok(Json(Keys { keys: api.db.keys().await?.into_iter().map(Shown::from).collect() }))
}

/// Ends a token at once.
pub(crate) async fn revoke(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Done<Shown>, Problem> {
    let key = api.db.revoke_key(&id, (api.clock)()).await?;
    let key = key.ok_or_else(|| Problem::not_found("there is no token with this id"))?;
    let detail = json!({ "name": key.name });
    Ok(Done::of(key.into()).noting(detail))
}
