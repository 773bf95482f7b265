//! Campaigns: making one, starting and stopping it, and what it has before it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::{Value, json};
use trunkline_db::{CampaignRow, ContactRow, Moved, Promise};
use trunkline_dialer::campaign::{Command, State as CampaignState, apply};
use trunkline_policy::next_open;
use trunkline_worker::campaigns::{Began, CampaignSettings, Mode, call_contact, preflight};
use uuid::Uuid;

use crate::audit::Detail;
use crate::auth::Caller;
use crate::calls::callback;
use crate::query::Query;
use crate::sent::Sent;
use crate::{Api, Problem};

const MOST_AGENTS: u32 = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CampaignRequest {
    name: String,
    settings: CampaignSettings,
}

pub(crate) async fn create(State(api): State<Arc<Api>>, _: Caller, body: Sent) -> Result<Response, Problem> {
    let request: CampaignRequest = body.json()?;
    let settings = &request.settings;
    named(&request.name)?;
    if api.scripts.current(&settings.script_id).is_none() {
        let detail = "there is no script with this id; GET /v1/scripts lists them";
        return Err(Problem::refused("unknown_script", "settings.script_id", detail));
    }
    if let Some(url) = &settings.callback_url {
        callback(&api, url.clone())?;
    }
    opens(&api, settings)?;
    if let Some(wrong) = settings.release.as_ref().and_then(|release| release.plan.wrong()) {
        return Err(Problem::refused("bad_release", "settings.release", wrong));
    }
    paced(settings)?;
    let value = settings.release.as_ref().map_or("", |release| release.value.as_str());
    if !value.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(Problem::refused("bad_release", "settings.release.value", "the name of a variable"));
    }
    let id = format!("cmp_{}", Uuid::now_v7().simple());
    let stored = serde_json::to_value(settings).unwrap_or_default();
    api.db.create_campaign(&id, &request.name, &stored, (api.clock)()).await?;
    let row = campaign(&api, &id).await?;
    let detail = Detail::of(json!({ "campaign": id, "name": row.name, "settings": row.settings }));
    let location = [(LOCATION, format!("/v1/campaigns/{id}"))];
    Ok((StatusCode::CREATED, detail, location, Json(row)).into_response())
}

/// Checks a name for people.
pub(crate) fn named(name: &str) -> Result<&str, Problem> {
    if name.trim().is_empty() || name.chars().count() > 200 {
        return Err(Problem::refused("bad_name", "name", "1 to 200 characters"));
    }
    Ok(name)
}

/// Checks what the pacing goes by.
fn paced(settings: &CampaignSettings) -> Result<(), Problem> {
    let refused =
        |field: &str, detail: &str| Err(Problem::refused("bad_pacing", &format!("settings.{field}"), detail));
    match &settings.people {
        None if matches!(settings.mode, Mode::Progressive | Mode::Predictive) => {
            return refused("people", "this mode goes by the people who take calls: name how many there are");
        }
        Some(people) if people.agents > MOST_AGENTS || people.group.chars().count() > 100 => {
            return refused("people", "at most 10000 agents, and a group of at most 100 characters");
        }
        Some(_) | None => {}
    }
    if let Some(pool) = &settings.caller_ids {
        if settings.caller_id.is_some() {
            return refused("caller_ids", "either `caller_id` or `caller_ids`");
        }
        if let Some(wrong) = pool.wrong() {
            return refused("caller_ids", wrong);
        }
    }
    match settings.calls_per_second {
        Some(speed) if !(0.01..=1_000.0).contains(&speed) => {
            refused("calls_per_second", "0.01 to 1000 calls per second")
        }
        Some(_) | None => Ok(()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentsRequest {
    agents: u32,
}

/// Says how many people take calls now: of this campaign, and of all that share its group.
pub(crate) async fn people(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
    body: Sent,
) -> Result<Response, Problem> {
    let request: AgentsRequest = body.json()?;
    let row = campaign(&api, &id).await?;
    let Some(people) = settings(&row)?.people else {
        return Err(Problem::conflict("no_people", "this campaign's calls are handed to nobody (`people`)"));
    };
    if request.agents > MOST_AGENTS {
        return Err(Problem::refused("bad_pacing", "agents", "at most 10000 agents"));
    }
    let campaigns = api.db.set_agents((&id, &people.group), request.agents, (api.clock)()).await?;
    let detail =
        json!({ "campaign": id, "campaigns": campaigns, "from": people.agents, "to": request.agents });
    Ok((Detail::of(detail), Json(campaign(&api, &id).await?)).into_response())
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

pub(crate) async fn campaign(api: &Api, id: &str) -> Result<CampaignRow, Problem> {
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

/// Lets a gray release go on to the step that waits for somebody's yes.
pub(crate) async fn widen(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let row = campaign(&api, &id).await?;
    let release = settings(&row)?.release.filter(|_| row.share_next > row.share);
    let release = release.ok_or_else(|| {
        Problem::conflict("nothing_to_widen", "no step of a gray release waits for a yes: see `share_next`")
    })?;
    api.db.set_share(&id, row.share_next, &release.value, (api.clock)()).await?;
    let detail = Detail::of(json!({ "from": row.share, "to": row.share_next }));
    Ok((StatusCode::ACCEPTED, detail, Json(campaign(&api, &id).await?)).into_response())
}

fn settings(row: &CampaignRow) -> Result<CampaignSettings, Problem> {
    serde_json::from_value(row.settings.clone())
        .map_err(|_| Problem::conflict("wrong_settings", "this build cannot read the campaign's settings"))
}

#[derive(Deserialize)]
pub(crate) struct Looked {
    limit: Option<u32>,
}

/// The contacts that a person looks at before they are called, the most urgent first.
pub(crate) async fn preview(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
    Query(page): Query<Looked>,
) -> Result<Json<Value>, Problem> {
    let row = campaign(&api, &id).await?;
    by_hand(&row)?;
    let ready = api.db.ready_contacts(&id, (api.clock)(), page.limit.unwrap_or(20).clamp(1, 200)).await?;
    let contacts: Vec<Value> = ready
        .iter()
        .map(|contact| {
            json!({
                "contact": contact.n, "callee": contact.callee, "variables": contact.variables,
                "external_id": contact.external_id, "attempts": contact.attempts,
                "callback_at": contact.callback_at,
            })
        })
        .collect();
    Ok(Json(json!({ "contacts": contacts })))
}

fn by_hand(row: &CampaignRow) -> Result<CampaignSettings, Problem> {
    let settings = settings(row)?;
    if settings.mode != Mode::Preview {
        return Err(Problem::conflict(
            "no_preview",
            "the dialer calls this campaign's contacts (see `mode`)",
        ));
    }
    Ok(settings)
}

/// Calls a contact that a person has looked at.
pub(crate) async fn call(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path((id, n)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let row = campaign(&api, &id).await?;
    let settings = by_hand(&row)?;
    let (contact, state) = contact(&api, &id, &n).await?;
    let n = contact.n;
    if row.state != "running" || state != "ready" {
        return Err(not_ready(&row, &state));
    }
    let script = api.scripts.current(&settings.script_id);
    let script =
        script.ok_or_else(|| Problem::conflict("unknown_script", "the campaign's script is gone"))?;
    match call_contact(&api.db, &api.gate, (&id, &settings, &script), &contact, (api.clock)()).await? {
        Began::Started(call) => {
            api.hub.changed(call);
            api.wakers.dispatcher();
            let location = [(LOCATION, format!("/v1/calls/{call}"))];
            let detail = Detail::of(json!({ "campaign": id, "contact": n, "call": call }));
            Ok((StatusCode::ACCEPTED, detail, location, Json(json!({ "call": call }))).into_response())
        }
        Began::Waits(until, reason) => {
            Err(Problem::refused(reason, "contact", format!("not permitted before {until}")))
        }
        Began::Never(reason) => {
            Err(Problem::refused("not_permitted", "contact", format!("this contact is not called: {reason}")))
        }
        Began::Gone => Err(not_ready(&row, "taken by somebody else")),
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SkipRequest {
    #[serde(default)]
    why: String,
}

/// Passes a contact over for good.
pub(crate) async fn skip(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path((id, n)): Path<(String, String)>,
    body: Sent,
) -> Result<Response, Problem> {
    let row = campaign(&api, &id).await?;
    by_hand(&row)?;
    let request: SkipRequest = body.json_or_default()?;
    let (contact, state) = contact(&api, &id, &n).await?;
    let n = contact.n;
    if state != "ready" {
        return Err(not_ready(&row, &state));
    }
    let why = request.why.trim();
    let why = if why.is_empty() { "passed over" } else { why };
    let moved = Moved { n, until: None, why: why.to_owned(), callback: Promise::Drop };
    api.db.settle_contacts(&[moved], (api.clock)()).await?;
    let detail = Detail::of(json!({ "campaign": id, "contact": n, "why": why }));
    Ok((StatusCode::NO_CONTENT, detail, ()).into_response())
}

async fn contact(api: &Api, id: &str, n: &str) -> Result<(ContactRow, String), Problem> {
    let found = match n.parse() {
        Ok(n) => api.db.contact(id, n).await?,
        Err(_) => None,
    };
    found.ok_or_else(|| Problem::not_found("the campaign has no contact of this number"))
}

fn not_ready(row: &CampaignRow, state: &str) -> Problem {
    let detail = format!("the campaign is {}, and the contact is {state}", row.state);
    Problem::conflict("not_ready", detail)
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
    let settings = settings(&row)?;
    let pace = pace.calls_per_hour.unwrap_or(0.0);
    let found = preflight(&api.db, &api.gate, &api.scripts, &id, &settings, pace, (api.clock)()).await?;
    match found {
        Some(report) => Ok(Json(report).into_response()),
        None => Err(Problem::conflict("unknown_script", "the campaign's script is gone")),
    }
}
