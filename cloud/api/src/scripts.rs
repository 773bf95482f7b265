//! Publishing scripts, and looking at them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use trunkline_db::Publication;
use trunkline_dialogue::{Finding, MAX_BYTES, Script};
use trunkline_model::{ScriptId, ScriptVersion};
use trunkline_policy::Pack;
use trunkline_worker::scripts::{self, PublishError};

use crate::audit::Detail;
use crate::auth::Caller;
use crate::query::Query;
use crate::{Api, Problem};

/// A body that is too large is read on for so many bytes, so that whoever sends it hears why.
const READ_ON: usize = 20_000_000;
/// Publications that are shown of a script.
const SHOWN: u32 = 100;

/// How a script is published.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct How {
    /// Names of policy packs, with commas between them: what one of them does not permit is an error.
    #[serde(default)]
    pack: String,
    /// It is checked, and that is all.
    #[serde(default)]
    dry_run: bool,
}

/// Publishes a script: from now on new calls get it. The same content again changes nothing.
pub(crate) async fn publish(
    State(api): State<Arc<Api>>,
    Caller(token): Caller,
    Query(how): Query<How>,
    body: Body,
) -> Result<Response, Problem> {
    let packs = packs(&api, &how.pack)?;
    let bytes = read(body).await?;
    let (script, warnings) = scripts::check(bytes, &packs).await.map_err(refused)?;
    if how.dry_run {
        let mut shown = describe(&script, None);
        shown["new"] = false.into();
        shown["findings"] = warnings.iter().map(Finding::to_json).collect();
        return Ok(Json(shown).into_response());
    }
    let script = (script, warnings.as_slice());
    let done = api.scripts.publish(&api.db, &api.engine, script, &token, (api.clock)()).await;
    let published = done.map_err(refused)?;
    let script = &published.script;
    let mut shown = describe(script, Some(&published.publication));
    shown["new"] = published.new.into();
    // Of this text: what was published before may have had the same content in other lines.
    shown["findings"] = warnings.iter().map(Finding::to_json).collect();
    let status = if published.new { StatusCode::CREATED } else { StatusCode::OK };
    let detail = json!({
        "script": script.id(), "version": script.version(), "new": published.new, "warnings": warnings.len(),
    });
    let location = [(LOCATION, format!("/v1/scripts/{}", script.id()))];
    Ok((status, Detail::of(detail), location, Json(shown)).into_response())
}

fn packs<'a>(api: &'a Api, names: &str) -> Result<Vec<&'a Pack>, Problem> {
    let all = api.gate.packs();
    let named = names.split(',').map(str::trim).filter(|name| !name.is_empty());
    named
        .map(|name| {
            all.get(name).ok_or_else(|| {
                let known: Vec<&str> = all.all().map(|pack| pack.id.as_str()).collect();
                let shown: String = name.chars().take(64).collect();
                let detail = format!("there is no policy pack `{shown}`; there are {}", known.join(", "));
                Problem::refused("unknown_pack", "pack", detail)
            })
        })
        .collect()
}

fn refused(error: PublishError) -> Problem {
    match error {
        PublishError::Rejected(findings) => rejected(&findings),
        PublishError::Db(error) => error.into(),
        error @ PublishError::Prepare(_) => {
            Problem::refused("script_untrainable", "script", trunkline_worker::causes(&error))
        }
    }
}

/// Reads a body. What is too much is read on for a while and thrown away, so that whoever sends it hears why.
async fn read(body: Body) -> Result<Vec<u8>, Problem> {
    let mut chunks = body.into_data_stream();
    let (mut bytes, mut length) = (Vec::new(), 0_usize);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Problem::malformed("the body broke off"))?;
        length = length.saturating_add(chunk.len());
        if length <= MAX_BYTES {
            bytes.extend_from_slice(&chunk);
        } else if length > READ_ON {
            break;
        }
    }
    if length > MAX_BYTES {
        let limit = format!(
            "{MAX_BYTES} bytes (1 MiB), the most that a script may have: split it, such as by campaign"
        );
        return Err(Problem::larger_than(&limit));
    }
    Ok(bytes)
}

fn rejected(findings: &[Finding]) -> Problem {
    let errors = findings.iter().filter(|finding| finding.is_error()).count();
    let detail = format!("the script has {errors} error(s): see `findings`; nothing was stored");
    let findings = findings.iter().map(Finding::to_json).collect();
    Problem { findings: Some(findings), ..Problem::refused("script_rejected", "script", detail) }
}

pub(crate) async fn list(State(api): State<Arc<Api>>, _: Caller) -> Result<Json<Value>, Problem> {
    let published: BTreeMap<ScriptId, Publication> =
        api.db.publications().await?.into_iter().map(|one| (one.id.clone(), one)).collect();
    let all = api.scripts.all();
    let scripts: Vec<Value> = all.iter().map(|script| describe(script, published.get(script.id()))).collect();
    Ok(Json(json!({ "scripts": scripts })))
}

/// A script as new calls get it, and its publications, the newest first.
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let id: ScriptId = id.parse().map_err(|_| missing())?;
    let script = api.scripts.current(&id).ok_or_else(missing)?;
    let publications = api.db.publications_of(&id, SHOWN).await?;
    let mut shown = describe(&script, publications.first());
    shown["versions"] = json!(publications);
    Ok(Json(shown))
}

/// The canonical text of a version, whose SHA-256 it is.
pub(crate) async fn version(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path((id, version)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let id: ScriptId = id.parse().map_err(|_| missing())?;
    let version: ScriptVersion = version.parse().map_err(|_| missing())?;
    let stored = api.db.script_of(&id, &version).await?.ok_or_else(missing)?;
    Ok(([(CONTENT_TYPE, "application/json")], stored).into_response())
}

fn missing() -> Problem {
    Problem::not_found("there is no script with this id, or it has no such version")
}

fn describe(script: &Script, publication: Option<&Publication>) -> Value {
    let document = script.document();
    let vars: Vec<Value> = document
        .vars
        .iter()
        .map(|(name, var)| {
            let mut value = serde_json::to_value(var).unwrap_or_default();
            value["name"] = name.as_str().into();
            value
        })
        .collect();
    json!({
        "id": script.id(), "version": script.version(), "locale": script.locale(),
        "title": document.title, "purpose": document.purpose, "vars": vars,
        "published_at": publication.map(|one| one.published_at),
        "published_by": publication.and_then(|one| one.published_by.as_deref()),
    })
}
