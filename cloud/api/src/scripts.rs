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
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use trunkline_db::Publication;
use trunkline_dialogue::document::Purpose;
use trunkline_dialogue::{Finding, MAX_BYTES, PlainFinding, Script};
use trunkline_model::{ScriptId, ScriptVersion};
use trunkline_policy::Pack;
use trunkline_worker::scripts::{self, PublishError};

use crate::answer::Created;
use crate::audit::Detail;
use crate::auth::Caller;
use crate::openapi::{Route, get, post};
use crate::query::Query;
use crate::{Api, Problem};

/// A body that is too large is read on for so many bytes, so that whoever sends it hears why.
const READ_ON: usize = 20_000_000;
/// Publications that are shown of a script.
const SHOWN: u32 = 100;

pub(crate) fn routes() -> Vec<Route> {
    let document = || json!({ "type": "object" });
    let publish = post("publishScript", publish, "Publishes a script")
        .about(
            "It is checked by the linter; with an error nothing is stored, and the answer has every finding. Its version \
             is the SHA-256 of its canonical form: the same content again changes nothing. From then on new calls get \
             it; calls under way keep theirs.",
        )
        .takes("application/yaml", document())
        .takes("application/json", document())
        .about_body(
            "A script (`trunkline/script/1`) as YAML or JSON, 1 MiB (1048576 bytes) at most; a larger one is 413: split \
             it, such as by campaign",
        )
        .or::<Json<Published>>(200, "It was the current version already")
        .or::<Created<Published>>(201, "New calls get it from now on")
        .fails(&[413, 422]);
    let version = get("getScriptVersion", version, "Returns the canonical text of a version")
        .part::<String>("version", "SHA-256 of the text, hexadecimal")
        .or_sends(200, "The script", "application/json", document())
        .fails(&[404]);
    vec![
        Route::at("/v1/scripts")
            .on(get("listScripts", list, "Lists the scripts that a call may name").says("The scripts"))
            .on(publish),
        Route::at("/v1/scripts/{id}").on(get("getScript", show, "Shows a script and its publications")
            .says("The script")
            .fails(&[404])),
        Route::at("/v1/scripts/{id}/versions/{version}").on(version),
    ]
}

/// A script that a call may name.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Script")]
pub(crate) struct Shown {
    id: ScriptId,
    /// SHA-256 of its canonical text.
    version: ScriptVersion,
    /// Its language, such as `zh-CN`.
    locale: String,
    title: Option<String>,
    /// Why customers are called with it.
    #[schemars(with = "trunkline_policy::Purpose")]
    purpose: Purpose,
    /// Its variables: name, type and what else the script says of them.
    #[schemars(with = "Vec<Map<String, Value>>")]
    vars: Vec<Value>,
    /// Since when new calls get this version.
    published_at: Option<Timestamp>,
    /// The token that published it; `null` for a file of the server.
    published_by: Option<String>,
}

/// A script that was published, or only checked.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PublishedScript")]
pub(crate) struct Published {
    #[serde(flatten)]
    script: Shown,
    /// Whether anything has changed.
    new: bool,
    /// The linter's warnings.
    #[schemars(with = "Vec<PlainFinding<'static>>")]
    findings: Vec<Value>,
}

/// A script with its publications.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ScriptDetail")]
pub(crate) struct Detailed {
    #[serde(flatten)]
    script: Shown,
    /// The last 100 publications, the newest first.
    versions: Vec<Version>,
}

/// A version that became the one that new calls get.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ScriptPublication")]
struct Version {
    version: ScriptVersion,
    /// Since when.
    published_at: Timestamp,
    /// The token that published it; `null` for a file of the server.
    published_by: Option<String>,
    /// The linter's warnings of then.
    #[schemars(with = "Vec<PlainFinding<'static>>")]
    findings: Value,
}

impl From<Publication> for Version {
    fn from(one: Publication) -> Self {
        let Publication { id: _, version, published_at, published_by, findings } = one;
        Self { version, published_at, published_by, findings }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Listed {
    scripts: Vec<Shown>,
}

/// How a script is published.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct How {
    /// Names of policy packs, with commas between them, such as `eu,uk`: what one of them does not permit is an error.
    #[serde(default)]
    pack: String,
    /// With `true` the script is checked, and that is all.
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
        let findings = warnings.iter().map(Finding::to_json).collect();
        return Ok(Json(Published { script: describe(&script, None), new: false, findings }).into_response());
    }
    let script = (script, warnings.as_slice());
    let done = api.scripts.publish(&api.db, &api.engine, script, &token, (api.clock)()).await;
    let published = done.map_err(refused)?;
    let script = &published.script;
    let shown = Published {
        script: describe(script, Some(&published.publication)),
        new: published.new,
        // Of this text: what was published before may have had the same content in other lines.
        findings: warnings.iter().map(Finding::to_json).collect(),
    };
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

pub(crate) async fn list(State(api): State<Arc<Api>>, _: Caller) -> Result<Json<Listed>, Problem> {
    let published: BTreeMap<ScriptId, Publication> =
        api.db.publications().await?.into_iter().map(|one| (one.id.clone(), one)).collect();
    let all = api.scripts.all();
    let scripts = all.iter().map(|script| describe(script, published.get(script.id()))).collect();
    Ok(Json(Listed { scripts }))
}

/// A script as new calls get it, and its publications, the newest first.
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Json<Detailed>, Problem> {
    let id: ScriptId = id.parse().map_err(|_| missing())?;
    let script = api.scripts.current(&id).ok_or_else(missing)?;
    let publications = api.db.publications_of(&id, SHOWN).await?;
    let shown = describe(&script, publications.first());
    Ok(Json(Detailed { script: shown, versions: publications.into_iter().map(Version::from).collect() }))
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

fn describe(script: &Script, publication: Option<&Publication>) -> Shown {
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
    Shown {
        id: script.id().clone(),
        version: script.version().clone(),
        locale: script.locale().to_owned(),
        title: document.title.clone(),
        purpose: *document.purpose,
        vars,
        published_at: publication.map(|one| one.published_at),
        published_by: publication.and_then(|one| one.published_by.clone()),
    }
}
