//! Campaigns: making one, filling it from CSV, starting and stopping it, and what it has before it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::{Value, json};
use trunkline_db::{CampaignRow, NewContact};
use trunkline_dialer::campaign::{Command, State as CampaignState, apply};
use trunkline_policy::next_open;
use trunkline_worker::campaigns::{CampaignSettings, preflight};
use uuid::Uuid;

use crate::audit::Detail;
use crate::auth::Caller;
use crate::calls::{callback, unreadable};
use crate::import::{Importer, Row};
use crate::{Api, Problem};

/// Lines that are stored together.
const BATCH: usize = 1_000;
/// Bad lines that are listed; the others are counted.
const LISTED: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CampaignRequest {
    name: String,
    settings: CampaignSettings,
}

pub(crate) async fn create(
    State(api): State<Arc<Api>>,
    _: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body = body.map_err(|_| Problem::too_large())?;
    let request: CampaignRequest = serde_json::from_slice(&body).map_err(unreadable)?;
    let settings = &request.settings;
    if request.name.is_empty() || request.name.chars().count() > 200 {
        return Err(Problem::refused("bad_name", "name", "1 to 200 characters"));
    }
    if api.scripts.current(&settings.script_id).is_none() {
        let detail = "there is no script with this id; GET /v1/scripts lists them";
        return Err(Problem::refused("unknown_script", "settings.script_id", detail));
    }
    if let Some(url) = &settings.callback_url {
        callback(&api, url.clone())?;
    }
    opens(&api, settings)?;
    let id = format!("cmp_{}", Uuid::now_v7().simple());
    let stored = serde_json::to_value(settings).unwrap_or_default();
    api.db.create_campaign(&id, &request.name, &stored, (api.clock)()).await?;
    let row = campaign(&api, &id).await?;
    let detail = Detail::of(json!({ "campaign": id, "name": row.name, "settings": row.settings }));
    let location = [(LOCATION, format!("/v1/campaigns/{id}"))];
    Ok((StatusCode::CREATED, detail, location, Json(row)).into_response())
}

/// Refuses windows that are never open together with the hours of any pack.
fn opens(api: &Api, settings: &CampaignSettings) -> Result<(), Problem> {
    if settings.windows.is_empty() {
        return Ok(());
    }
    let zones = [("UTC".to_owned(), TimeZone::UTC)];
    let now = (api.clock)();
    let open = api.gate.packs().all().any(|pack| {
        let people = pack.id != "unrestricted-lab" || api.gate.packs().lab().sip;
        let sets = [settings.windows.as_slice(), pack.time.hours.value.as_slice()];
        people && next_open(&sets, &[], &zones, now).is_some()
    });
    if open {
        return Ok(());
    }
    let detail = "these windows and the calling hours of the packs have no minute in common";
    Err(Problem::refused("window_never_opens", "settings.windows", detail))
}

pub(crate) async fn list(State(api): State<Arc<Api>>, _: Caller) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "campaigns": api.db.campaigns(None).await? })))
}

pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let row = campaign(&api, &id).await?;
    let mut contacts: BTreeMap<String, u64> = BTreeMap::new();
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    for (state, why, n) in api.db.contact_counts(&id).await? {
        *contacts.entry(state).or_default() += n;
        if !why.is_empty() {
            *reasons.entry(why).or_default() += n;
        }
    }
    let mut shown = serde_json::to_value(row).unwrap_or_default();
    shown["contacts"] = json!(contacts);
    shown["reasons"] = json!(reasons);
    Ok(Json(shown))
}

async fn campaign(api: &Api, id: &str) -> Result<CampaignRow, Problem> {
    api.db.campaign(id).await?.ok_or_else(|| Problem::not_found("there is no campaign with this id"))
}

pub(crate) async fn command(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path((id, command)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let command: Command = serde_json::from_value(command.into())
        .map_err(|_| Problem::not_found("a campaign is told to start, pause, resume or stop"))?;
    let row = campaign(&api, &id).await?;
    let from = CampaignState::from_name(&row.state).unwrap_or(CampaignState::Stopped);
    let to = apply(from, command).map_err(|e| Problem::conflict("wrong_state", e.to_string()))?;
    if from != to && !api.db.move_campaign(&id, from.as_str(), to.as_str(), "", (api.clock)()).await? {
        return Err(Problem::conflict("wrong_state", "somebody else was faster; look at it again"));
    }
    let detail = Detail::of(json!({ "from": from.as_str(), "to": to.as_str() }));
    Ok((StatusCode::ACCEPTED, detail, Json(campaign(&api, &id).await?)).into_response())
}

#[derive(Deserialize)]
pub(crate) struct Pace {
    calls_per_hour: Option<f64>,
}

pub(crate) async fn before(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
    Query(pace): Query<Pace>,
) -> Result<Response, Problem> {
    let row = campaign(&api, &id).await?;
    let settings: CampaignSettings = serde_json::from_value(row.settings)
        .map_err(|_| Problem::conflict("wrong_settings", "this build cannot read the campaign's settings"))?;
    let pace = pace.calls_per_hour.unwrap_or(0.0);
    let found = preflight(&api.db, &api.gate, &api.scripts, &id, &settings, pace, (api.clock)()).await?;
    match found {
        Some(report) => Ok(Json(report).into_response()),
        None => Err(Problem::conflict("unknown_script", "the campaign's script is gone")),
    }
}

#[derive(Deserialize)]
pub(crate) struct Mapping {
    /// `COLUMN:name,COLUMN:name`.
    map: Option<String>,
}

/// Contacts as CSV, of any length. What was stored before a fatal error stays stored.
pub(crate) async fn contacts(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
    Query(mapping): Query<Mapping>,
    body: Body,
) -> Result<Response, Problem> {
    campaign(&api, &id).await?;
    let pairs = mapping.map.unwrap_or_default();
    let map = pairs.split(',').filter_map(|pair| pair.split_once(':'));
    let mut importer =
        Importer::new(map.map(|(from, to)| (from.trim().to_owned(), to.trim().to_owned())).collect());
    let mut report = Report::default();
    let mut rows = Vec::new();
    let mut stream = body.into_data_stream();
    let fatal = loop {
        let pushed = match stream.next().await {
            Some(Ok(bytes)) => importer.push(&bytes, &mut rows),
            Some(Err(_)) => break Some("the body broke off".to_owned()),
            None => {
                let finished = importer.finish(&mut rows);
                report.store(&api, &id, &mut rows).await?;
                break finished.err().map(|error| error.to_string());
            }
        };
        if rows.len() >= BATCH || pushed.is_err() {
            report.store(&api, &id, &mut rows).await?;
        }
        if let Err(error) = pushed {
            break Some(error.to_string());
        }
    };
    let Report { lines, imported, rejected, errors } = report;
    let duplicates = lines - imported - rejected;
    let body = json!({
        "encoding": importer.encoding(), "lines": lines, "imported": imported, "duplicates": duplicates,
        "rejected": rejected, "errors": errors, "fatal": fatal,
    });
    let status = if fatal.is_none() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let detail = json!({ "lines": lines, "imported": imported, "rejected": rejected });
    Ok((status, Detail::of(detail), Json(body)).into_response())
}

#[derive(Default)]
struct Report {
    lines: u64,
    imported: u64,
    rejected: u64,
    errors: Vec<Value>,
}

impl Report {
    async fn store(
        &mut self,
        api: &Api,
        campaign: &str,
        rows: &mut Vec<Result<Row, crate::import::LineError>>,
    ) -> Result<(), Problem> {
        let mut contacts = Vec::with_capacity(rows.len());
        for row in rows.drain(..) {
            self.lines += 1;
            match row {
                Ok(row) => contacts.push(NewContact {
                    callee: row.callee,
                    variables: row.variables,
                    facts: row.facts.to_json(),
                    external_id: row.external_id,
                    priority: row.priority,
                }),
                Err(error) => {
                    self.rejected += 1;
                    if self.errors.len() < LISTED {
                        self.errors.push(json!({ "line": error.line, "reason": error.reason }));
                    }
                }
            }
        }
        self.imported += api.db.add_contacts(campaign, &contacts).await?;
        Ok(())
    }
}
