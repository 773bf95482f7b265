//! Lists of contacts, and campaigns that are made of them.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use trunkline_db::{Copied, ListRow};
use uuid::Uuid;

use crate::answer::{Created, Done, Gone};
use crate::auth::Caller;
use crate::campaigns::{NOT_BLANK, Shown, campaign, named};
use crate::contacts::{Imports, Mapping, export_of, exporting, import_into, importing};
use crate::openapi::{Route, delete, get, post};
use crate::query::Query;
use crate::sent::{MaybeSent, Sent};
use crate::{Api, Problem};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::at("/v1/lists")
            .on(post("createList", create, "Makes an empty list of contacts")
                .example(json!({ "name": "First overdue, November" }))
                .says("The list"))
            .on(get("listLists", all, "All lists").says("The lists")),
        Route::at("/v1/lists/{id}").on(get("getList", show, "A list").says("The list").fails(&[404])).on(
            delete("removeList", remove, "Removes a list with its contacts; campaigns keep what they copied")
                .says("It is gone")
                .fails(&[404]),
        ),
        Route::at("/v1/lists/{id}/contacts").on(importing(post(
            "importListContacts",
            import,
            "Takes contacts into a list, as CSV or XLSX",
        ))),
        Route::at("/v1/lists/{id}/contacts.csv").on(exporting(get(
            "exportListContacts",
            export,
            "The contacts of a list, as CSV",
        ))),
        Route::at("/v1/lists/{id}/imports").on(get("listListImports", imports, "The imports of a list")
            .says("The newest first")
            .fails(&[404])),
        Route::at("/v1/campaigns/{id}/lists").on(post(
            "addList",
            add,
            "Copies the contacts of a list to a campaign",
        )
        .example(json!({ "list": "lst_01890a5d" }))
        .says("What was copied")
        .fails(&[404])),
        Route::at("/v1/campaigns/{id}/copy").on(post(
            "copyCampaign",
            copy,
            "Makes a draft with the settings of a campaign, and with its contacts if they are wanted too",
        )
        .example(json!({ "name": "December", "contacts": true }))
        .says("The campaign, as a draft")
        .fails(&[404])),
    ]
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Lists {
    lists: Vec<ListRow>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(crate) struct ListRequest {
    /// For people.
    #[schemars(length(min = 1, max = 200), regex(pattern = NOT_BLANK))]
    name: String,
}

pub(crate) async fn create(
    State(api): State<Arc<Api>>,
    _: Caller,
    body: Sent<ListRequest>,
) -> Result<Created<ListRow>, Problem> {
    let request = body.json()?;
    let name = named(&request.name)?;
    let id = format!("lst_{}", Uuid::now_v7().simple());
    api.db.create_list(&id, name, (api.clock)()).await?;
    let row = list(&api, &id).await?;
    Ok(Created::of(row).at(format!("/v1/lists/{id}")).noting(json!({ "list": id, "name": name })))
}

pub(crate) async fn all(State(api): State<Arc<Api>>, _: Caller) -> Result<Json<Lists>, Problem> {
    Ok(Json(Lists { lists: api.db.lists().await? }))
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
) -> Result<Gone, Problem> {
    if !api.db.remove_list(&id).await? {
        return Err(no_such_list());
    }
    Ok(Gone::noting(json!({ "list": id })))
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
) -> Result<Json<Imports>, Problem> {
    list(&api, &id).await?;
    Ok(Json(Imports { imports: api.db.imports(&id).await? }))
}

pub(crate) async fn export(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    list(&api, &id).await?;
    Ok(export_of(api, id))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(crate) struct AddRequest {
    /// The list, by its id.
    list: String,
}

/// Copies the contacts of a list to a campaign.
pub(crate) async fn add(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
    body: Sent<AddRequest>,
) -> Result<Done<Copied>, Problem> {
    campaign(&api, &id).await?;
    let request = body.json()?;
    let from = api.db.list(&request.list).await?;
    let from =
        from.ok_or_else(|| Problem::refused("unknown_list", "list", "there is no list with this id"))?;
    let copied = api.db.copy_contacts(&from.id, &id).await?;
    let detail = json!({ "list": from.id, "copied": copied.copied, "duplicates": copied.duplicates });
    Ok(Done::of(copied).noting(detail))
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(crate) struct CopyRequest {
    /// As the other one when left out.
    #[serde(default)]
    #[schemars(length(min = 1, max = 200), regex(pattern = NOT_BLANK))]
    name: Option<String>,
    /// With its contacts.
    #[serde(default)]
    contacts: bool,
}

/// Makes a draft with the settings of a campaign, and with its contacts if they are wanted too.
pub(crate) async fn copy(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
    body: MaybeSent<CopyRequest>,
) -> Result<Created<Shown>, Problem> {
    let from = campaign(&api, &id).await?;
    let request = body.json_or_default()?;
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
    let detail = json!({ "campaign": copy, "of": from.id, "contacts": request.contacts });
    Ok(Created::of(row.into()).at(format!("/v1/campaigns/{copy}")).noting(detail))
}

async fn list(api: &Api, id: &str) -> Result<ListRow, Problem> {
    api.db.list(id).await?.ok_or_else(no_such_list)
}

fn no_such_list() -> Problem {
    Problem::not_found("there is no list with this id")
}
