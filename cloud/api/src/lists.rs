//! Lists of contacts, and campaigns that are made of them.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use trunkline_db::ListRow;
use uuid::Uuid;

use crate::audit::Detail;
use crate::auth::Caller;
use crate::campaigns::{campaign, named};
use crate::contacts::{Mapping, export_of, import_into};
use crate::query::Query;
use crate::sent::Sent;
use crate::{Api, Problem};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListRequest {
    name: String,
}

pub(crate) async fn create(State(api): State<Arc<Api>>, _: Caller, body: Sent) -> Result<Response, Problem> {
    let request: ListRequest = body.json()?;
    let name = named(&request.name)?;
    let id = format!("lst_{}", Uuid::now_v7().simple());
    api.db.create_list(&id, name, (api.clock)()).await?;
    let row = list(&api, &id).await?;
    let detail = Detail::of(json!({ "list": id, "name": name }));
    Ok((StatusCode::CREATED, detail, [(LOCATION, format!("/v1/lists/{id}"))], Json(row)).into_response())
}

pub(crate) async fn all(State(api): State<Arc<Api>>, _: Caller) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "lists": api.db.lists().await? })))
}

pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Json<ListRow>, Problem> {
    Ok(Json(list(&api, &id).await?))
}

/// Removes a list with its contacts. Campaigns keep what they copied.
pub(crate) async fn remove(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    if !api.db.remove_list(&id).await? {
        return Err(no_such_list());
    }
    Ok((StatusCode::NO_CONTENT, Detail::of(json!({ "list": id })), ()).into_response())
}

pub(crate) async fn import(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
    Query(mapping): Query<Mapping>,
    body: Body,
) -> Result<Response, Problem> {
    list(&api, &id).await?;
    import_into(&api, &id, mapping, body).await
}

pub(crate) async fn imports(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    list(&api, &id).await?;
    Ok(Json(json!({ "imports": api.db.imports(&id).await? })))
}

pub(crate) async fn export(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    list(&api, &id).await?;
    Ok(export_of(api, id))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddRequest {
    list: String,
}

/// Copies the contacts of a list to a campaign.
pub(crate) async fn add(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
    body: Sent,
) -> Result<Response, Problem> {
    campaign(&api, &id).await?;
    let request: AddRequest = body.json()?;
    let from = api.db.list(&request.list).await?;
    let from =
        from.ok_or_else(|| Problem::refused("unknown_list", "list", "there is no list with this id"))?;
    let copied = api.db.copy_contacts(&from.id, &id).await?;
    let detail = json!({ "list": from.id, "copied": copied.copied, "duplicates": copied.duplicates });
    Ok((Detail::of(detail), Json(copied)).into_response())
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CopyRequest {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    contacts: bool,
}

/// Makes a draft with the settings of a campaign, and with its contacts if they are wanted too.
pub(crate) async fn copy(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
    body: Sent,
) -> Result<Response, Problem> {
    let from = campaign(&api, &id).await?;
    let request: CopyRequest = body.json_or_default()?;
    let name = match &request.name {
        Some(name) => named(name)?.to_owned(),
        None => from.name.clone(),
    };
    let copy = format!("cmp_{}", Uuid::now_v7().simple());
    api.db.create_campaign(&copy, &name, &from.settings, (api.clock)()).await?;
    if request.contacts {
        api.db.copy_contacts(&from.id, &copy).await?;
    }
    let row = campaign(&api, &copy).await?;
    let detail = Detail::of(json!({ "campaign": copy, "of": from.id, "contacts": request.contacts }));
    Ok((StatusCode::CREATED, detail, [(LOCATION, format!("/v1/campaigns/{copy}"))], Json(row))
        .into_response())
}

async fn list(api: &Api, id: &str) -> Result<ListRow, Problem> {
    api.db.list(id).await?.ok_or_else(no_such_list)
}

fn no_such_list() -> Problem {
    Problem::not_found("there is no list with this id")
}
