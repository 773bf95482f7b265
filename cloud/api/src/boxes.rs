//! Boxes: what people look up, and what boxes fetch.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use trunkline_db::BoxRow;
use trunkline_model::ScriptVersion;

use crate::auth::{Caller, Known};
use crate::openapi::{Route, get, text};
use crate::{Api, Problem};

pub(crate) fn routes() -> Vec<Route> {
    let blob = get("fetchBlob", blob, "Hands a box a script, a policy pack or a word list by its hash")
        .part::<ScriptVersion>("sha256", "SHA-256 of the text, hexadecimal")
        .or_sends(
            200,
            "The text; its SHA-256 is the address",
            "application/json",
            json!({ "type": "object" }),
        )
        .or_sends(200, "The text; its SHA-256 is the address", "application/yaml", text())
        .fails(&[404]);
    vec![
        Route::at("/v1/boxes").on(get("listBoxes", list, "Lists the boxes").says("The boxes")),
        Route::at("/box/v1/blobs/{sha256}").on(blob),
    ]
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Boxes {
    boxes: Vec<BoxRow>,
}

pub(crate) async fn list(State(api): State<Arc<Api>>, _: Caller) -> Result<Json<Boxes>, Problem> {
    Ok(Json(Boxes { boxes: api.db.boxes().await? }))
}

/// A script by the hash of its canonical text, or a policy pack by that of its own. Content under a hash never
/// changes, so it may be kept.
pub(crate) async fn blob(
    State(api): State<Arc<Api>>,
    Known(by): Known,
    Path(sha256): Path<String>,
) -> Result<Response, Problem> {
    let missing = || Problem::not_found("there is no blob with this hash");
    let version: ScriptVersion = sha256.parse().map_err(|_| missing())?;
    let (kind, text) = match api.db.script(&version).await? {
        Some(canonical) => ("application/json", canonical),
        None => {
            let pack = api.gate.packs().all().find(|pack| pack.reference().sha256 == version.as_str());
            let text = pack.map(|pack| pack.text().to_owned()).or_else(|| api.words.text(version.as_str()));
            ("application/yaml", text.ok_or_else(missing)?)
        }
    };
    tracing::debug!(box.id = %by, %version, bytes = text.len(), "Blob fetched");
    let headers = [
        (CONTENT_TYPE, kind.to_owned()),
        (ETAG, format!("\"{version}\"")),
        (CACHE_CONTROL, "private, max-age=31536000, immutable".to_owned()),
    ];
    Ok((headers, text).into_response())
}
