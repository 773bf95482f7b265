//! Numbers that customers call, and the scripts that answer them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use trunkline_db::{Bound, NumberRow};
use trunkline_model::{BoxId, E164, ScriptId};
use trunkline_worker::numbers::route;
use uuid::Uuid;

use crate::answer::{Created, Done, Gone};
use crate::auth::Caller;
use crate::calls::{Variable, callback, texts, variable_problem};
use crate::openapi::{Route, delete, get, post, put};
use crate::sent::Sent;
use crate::{Api, Problem};

/// The longest extension.
const MAX_EXTENSION: usize = 32;
/// Boxes that one binding may name.
const MAX_BOXES: usize = 200;

pub(crate) fn routes() -> Vec<Route> {
    let example = || {
        json!({
            "number": "+862155550100",
            "script_id": "appointment-confirmation-en",
            "callback_url": "https://crm.example.com/hooks/trunkline",
            "variables": {
                "org": "Riverside Clinic", "name": "Alex Morgan", "doctor": "Doctor Patel", "date": "2026-11-27",
                "time": "15:00",
            },
            "boxes": ["tl-branch17"],
        })
    };
    vec![
        Route::at("/v1/numbers")
            .on(post("bindNumber", create, "Binds a number that customers call to the script that answers")
                .example(example())
                .says("The binding; boxes have it within seconds")
                .fails(&[409]))
            .on(get("listNumbers", list, "All bindings").says("The bindings")),
        Route::at("/v1/numbers/{id}")
            .on(get("getNumber", show, "A binding").says("The binding").fails(&[404]))
            .on(put("changeNumber", change, "Puts another binding in the place of one")
                .example(example())
                .says("The binding")
                .fails(&[404, 409]))
            .on(delete(
                "unbindNumber",
                remove,
                "Takes a binding away; calls to the number are refused, or answered by the binding without a number",
            )
            .says("It is gone")
            .fails(&[404])),
    ]
}

/// Body of `POST /v1/numbers` and of `PUT /v1/numbers/{id}`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NumberRequest {
    /// In international form, or an extension as the trunk has it; without it, every number that has no binding of its
    /// own.
    #[serde(default)]
    number: Option<String>,
    /// The script, by name: the version that is current when somebody calls.
    script_id: String,
    /// All that the script requires. A variable `phone` that is not given takes the caller's number.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Variable>")]
    variables: BTreeMap<String, Value>,
    /// Where changes of the calls are reported to.
    #[serde(default)]
    callback_url: Option<String>,
    /// On these boxes, before a binding for all; on all when empty.
    #[serde(default)]
    #[schemars(with = "Vec<String>", length(max = MAX_BOXES))]
    boxes: BTreeSet<String>,
}

/// A binding of a number to a script.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Number")]
pub(crate) struct Shown {
    #[serde(flatten)]
    row: NumberRow,
    /// Why calls are not answered by it, as when its script is gone.
    trouble: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Numbers {
    numbers: Vec<Shown>,
}

pub(crate) async fn create(
    State(api): State<Arc<Api>>,
    _: Caller,
    body: Sent<NumberRequest>,
) -> Result<Created<Shown>, Problem> {
    let now = (api.clock)();
    let row = read(&api, body, format!("num_{}", Uuid::now_v7().simple()), now, now)?;
    bind(&api, &row, false).await?;
    let (location, detail) = (format!("/v1/numbers/{}", row.id), detail(&row));
    Ok(Created::of(shown(&api, row)).at(location).noting(detail))
}

pub(crate) async fn list(State(api): State<Arc<Api>>, _: Caller) -> Result<Json<Numbers>, Problem> {
    let rows = api.db.numbers().await?;
    Ok(Json(Numbers { numbers: rows.into_iter().map(|row| shown(&api, row)).collect() }))
}

pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Json<Shown>, Problem> {
    let row = api.db.number(&id).await?.ok_or_else(no_such_binding)?;
    Ok(Json(shown(&api, row)))
}

/// Puts another binding in the place of one.
pub(crate) async fn change(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
    body: Sent<NumberRequest>,
) -> Result<Done<Shown>, Problem> {
    let before = api.db.number(&id).await?.ok_or_else(no_such_binding)?;
    let row = read(&api, body, id, before.created_at, (api.clock)())?;
    bind(&api, &row, true).await?;
    let detail = detail(&row);
    Ok(Done::of(shown(&api, row)).noting(detail))
}

pub(crate) async fn remove(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Gone, Problem> {
    if !api.db.unbind_number(&id).await? {
        return Err(no_such_binding());
    }
    Ok(Gone::noting(json!({ "binding": id })))
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
    body: Sent<NumberRequest>,
    id: String,
    created_at: Timestamp,
    updated_at: Timestamp,
) -> Result<NumberRow, Problem> {
    let request = body.json()?;
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
fn shown(api: &Api, row: NumberRow) -> Shown {
    let trouble = match api.scripts.current(&row.script_id) {
        None => Some("there is no script with this id any more".to_owned()),
        Some(script) => route(&row, &script)
            .err()
            .map(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
    };
    Shown { row, trouble }
}

fn detail(row: &NumberRow) -> Value {
    json!({ "binding": row.id, "number": row.number, "script": row.script_id, "boxes": row.boxes })
}

fn no_such_binding() -> Problem {
    Problem::not_found("there is no binding with this id")
}
