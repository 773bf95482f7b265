//! Numbers that customers call, and the scripts that answer them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use trunkline_db::{Bound, NumberRow};
use trunkline_model::{BoxId, E164, ScriptId};
use trunkline_worker::numbers::route;
use uuid::Uuid;

use crate::audit::Detail;
use crate::auth::Caller;
use crate::calls::{callback, texts, unreadable, variable_problem};
use crate::{Api, Problem};

/// The longest extension.
const MAX_EXTENSION: usize = 32;
/// Boxes that one binding may name.
const MAX_BOXES: usize = 200;

/// Body of `POST /v1/numbers` and of `PUT /v1/numbers/{id}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NumberRequest {
    #[serde(default)]
    number: Option<String>,
    script_id: String,
    #[serde(default)]
    variables: BTreeMap<String, Value>,
    #[serde(default)]
    callback_url: Option<String>,
    #[serde(default)]
    boxes: BTreeSet<String>,
}

pub(crate) async fn create(
    State(api): State<Arc<Api>>,
    _: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let now = (api.clock)();
    let row = read(&api, body, format!("num_{}", Uuid::now_v7().simple()), now, now)?;
    bind(&api, &row, false).await?;
    let location = [(LOCATION, format!("/v1/numbers/{}", row.id))];
    Ok((StatusCode::CREATED, detail(&row), location, Json(shown(&api, &row))).into_response())
}

pub(crate) async fn list(State(api): State<Arc<Api>>, _: Caller) -> Result<Json<Value>, Problem> {
    let rows = api.db.numbers().await?;
    let shown: Vec<Value> = rows.iter().map(|row| shown(&api, row)).collect();
    Ok(Json(json!({ "numbers": shown })))
}

pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let row = api.db.number(&id).await?.ok_or_else(no_such_binding)?;
    Ok(Json(shown(&api, &row)))
}

/// Puts another binding in the place of one.
pub(crate) async fn change(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let before = api.db.number(&id).await?.ok_or_else(no_such_binding)?;
    let row = read(&api, body, id, before.created_at, (api.clock)())?;
    bind(&api, &row, true).await?;
    Ok((detail(&row), Json(shown(&api, &row))).into_response())
}

pub(crate) async fn remove(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    if !api.db.unbind_number(&id).await? {
        return Err(no_such_binding());
    }
    Ok((StatusCode::NO_CONTENT, Detail::of(json!({ "binding": id })), ()).into_response())
}

async fn bind(api: &Api, row: &NumberRow, change: bool) -> Result<(), Problem> {
    match api.db.bind_number(row, change).await? {
        Bound::Done => Ok(()),
        Bound::NoSuchBinding => Err(no_such_binding()),
        Bound::Taken(other) => Err(Problem::conflict(
            "number_taken",
            format!("the binding {other} has this number on the same box"),
        )),
        Bound::Full => Err(Problem::refused(
            "numbers_full",
            "number",
            "there are as many bindings as a box can be told: remove some, or shorten their variables",
        )),
    }
}

fn read(
    api: &Api,
    body: Result<Bytes, BytesRejection>,
    id: String,
    created_at: Timestamp,
    updated_at: Timestamp,
) -> Result<NumberRow, Problem> {
    let body = body.map_err(|_| Problem::too_large())?;
    let request: NumberRequest = serde_json::from_slice(&body).map_err(unreadable)?;
    let unknown = || {
        let detail = "there is no script with this id; GET /v1/scripts lists them";
        Problem::refused("unknown_script", "script_id", detail)
    };
    let script_id: ScriptId = request.script_id.parse().map_err(|_| unknown())?;
    let script = api.scripts.current(&script_id).ok_or_else(unknown)?;
    let variables = texts(request.variables)?;
    script.check_variables(&variables).map_err(variable_problem)?;
    let wrong_box =
        || Problem::refused("malformed_box", "boxes", "a box is named as its certificate names it");
    if request.boxes.len() > MAX_BOXES {
        return Err(Problem::refused("too_many_boxes", "boxes", "at most 200; leave it out for all"));
    }
    let boxes: Result<BTreeSet<BoxId>, _> = request.boxes.iter().map(|id| id.parse()).collect();
    Ok(NumberRow {
        id,
        number: request.number.map(number).transpose()?,
        script_id,
        variables,
        callback_url: request.callback_url.map(|url| callback(api, url)).transpose()?,
        boxes: boxes.map_err(|_| wrong_box())?,
        created_at,
        updated_at,
    })
}

/// Reads a number of ours: in international form, or an extension as the trunk has it.
fn number(text: String) -> Result<String, Problem> {
    let text = text.trim();
    if text.starts_with('+') {
        let number: Result<E164, _> = text.parse();
        let number = number.map_err(|e| Problem::refused("malformed_number", "number", e.to_string()))?;
        return Ok(number.reveal().to_owned());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "*#._-".contains(c);
    if text.is_empty() || text.len() > MAX_EXTENSION || !text.chars().all(plain) {
        let detail = "a number in international form such as +862155550100, or an extension of letters, digits and *#._-";
        return Err(Problem::refused("malformed_number", "number", detail));
    }
    Ok(text.to_owned())
}

/// Returns a binding as the API shows it: with what keeps it from being used, as when its script is gone.
fn shown(api: &Api, row: &NumberRow) -> Value {
    let trouble = match api.scripts.current(&row.script_id) {
        None => Some("there is no script with this id any more".to_owned()),
        Some(script) => route(row, &script)
            .err()
            .map(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
    };
    let mut value = serde_json::to_value(row).unwrap_or_default();
    value["trouble"] = trouble.into();
    value
}

fn detail(row: &NumberRow) -> Detail {
    Detail::of(
        json!({ "binding": row.id, "number": row.number, "script": row.script_id, "boxes": row.boxes }),
    )
}

fn no_such_binding() -> Problem {
    Problem::not_found("there is no binding with this id")
}
