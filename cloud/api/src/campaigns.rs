//! Campaigns: making one, starting and stopping it, and what it has before it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::json;
use trunkline_db::{CampaignRow, ContactRow, Moved, Promise};
use trunkline_dialer::campaign::{Command, State as CampaignState, apply};
use trunkline_dialer::preflight::Preflight;
use trunkline_model::{CallId, Callee};
use trunkline_policy::next_open;
use trunkline_worker::campaigns::{Began, CampaignSettings, Mode, call_contact, preflight};
use uuid::Uuid;

use crate::answer::{Accepted, Created, Done, Gone};
use crate::auth::Caller;
use crate::calls::callback;
use crate::openapi::{Operation, Route, get, post, put};
use crate::query::Query;
use crate::sent::{MaybeSent, Sent};
use crate::{Api, Problem};

const MOST_AGENTS: u32 = 10_000;
/// What a name for people has at least.
pub(crate) const NOT_BLANK: &str = r"\S";

pub(crate) fn routes() -> Vec<Route> {
    let tell =
        |path, operation: Operation| Route::at(path).on(operation.says("The campaign").fails(&[404, 409]));
    vec![
        Route::at("/v1/campaigns")
            .on(post("createCampaign", create, "Makes a campaign").says("The campaign, as a draft"))
            .on(get("listCampaigns", list, "Lists campaigns").says("All of them")),
        Route::at("/v1/campaigns/{id}").on(get(
            "getCampaign",
            show,
            "Shows a campaign and how many contacts are where",
        )
        .says("The campaign")
        .fails(&[404])),
        Route::at("/v1/campaigns/{id}/people").on(put(
            "setPeople",
            people,
            "Says how many people take calls now",
        )
        .about("Of this campaign, and of all that share its group.")
        .example(json!({ "agents": 6 }))
        .says("The campaign")
        .fails(&[404, 409])),
        Route::at("/v1/campaigns/{id}/preflight").on(get(
            "preflight",
            before,
            "Says how many contacts may be called now, later and never, and why",
        )
        .says("The report")
        .fails(&[404, 409])),
        tell("/v1/campaigns/{id}/start", post("startCampaign", start, "Tells a campaign to start")),
        tell("/v1/campaigns/{id}/pause", post("pauseCampaign", pause, "Tells a campaign to pause")),
        tell("/v1/campaigns/{id}/resume", post("resumeCampaign", resume, "Tells a campaign to resume")),
        tell("/v1/campaigns/{id}/stop", post("stopCampaign", stop, "Tells a campaign to stop")),
        Route::at("/v1/campaigns/{id}/widen").on(post(
            "widenCampaign",
            widen,
            "Lets a gray release go on to the step that waits for a yes",
        )
        .says("The campaign with its new share")
        .fails(&[404, 409])),
        Route::at("/v1/campaigns/{id}/preview").on(get(
            "previewContacts",
            preview,
            "The contacts that a person looks at before they are called, the most urgent first",
        )
        .says("The contacts")
        .fails(&[404, 409])),
        Route::at("/v1/campaigns/{id}/contacts/{n}/call").on(post(
            "callContact",
            call,
            "Calls a contact that a person has looked at",
        )
        .part::<u64>("n", "The contact")
        .says("The call")
        .fails(&[404, 409, 422])),
        Route::at("/v1/campaigns/{id}/contacts/{n}/skip").on(post(
            "skipContact",
            skip,
            "Passes a contact over for good",
        )
        .part::<u64>("n", "The contact")
        .example(json!({ "why": "paid this morning" }))
        .says("It is passed over")
        .fails(&[404, 409])),
    ]
}

/// A campaign as the API shows it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Campaign", transform = with_pacing)]
pub(crate) struct Shown {
    #[serde(flatten)]
    row: CampaignRow,
    /// How many contacts are where; of a single campaign that is looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    contacts: Option<BTreeMap<String, u64>>,
    /// Why contacts wait or were not called, and how many; of a single campaign that is looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    reasons: Option<BTreeMap<String, u64>>,
}

impl From<CampaignRow> for Shown {
    fn from(row: CampaignRow) -> Self {
        Self { row, contacts: None, reasons: None }
    }
}

/// Says what the database keeps for the worker without knowing what it is.
fn with_pacing(schema: &mut Schema) {
    if let Some(fields) = schema.get_mut("properties") {
        let pacing = json!({ "$ref": "#/components/schemas/Pacing" });
        fields["pacing"] = json!({
            "description": "How it is paced now, by its last pass; an empty object before the first",
            "anyOf": [pacing, { "type": "object", "maxProperties": 0 }],
        });
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Campaigns {
    campaigns: Vec<Shown>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CampaignRequest {
    /// What people call it.
    #[schemars(length(min = 1, max = 200), regex(pattern = NOT_BLANK))]
    name: String,
    settings: CampaignSettings,
}

pub(crate) async fn create(
    State(api): State<Arc<Api>>,
    _: Caller,
    body: Sent<CampaignRequest>,
) -> Result<Created<Shown>, Problem> {
    let request = body.json()?;
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
    let detail = json!({ "campaign": id, "name": row.name, "settings": row.settings });
    Ok(Created::of(row.into()).at(format!("/v1/campaigns/{id}")).noting(detail))
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

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(crate) struct AgentsRequest {
    /// People who take calls now.
    #[schemars(range(max = MOST_AGENTS))]
    agents: u32,
}

/// Says how many people take calls now: of this campaign, and of all that share its group.
pub(crate) async fn people(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
    body: Sent<AgentsRequest>,
) -> Result<Done<Shown>, Problem> {
    let request = body.json()?;
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
    Ok(Done::of(campaign(&api, &id).await?.into()).noting(detail))
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

pub(crate) async fn list(State(api): State<Arc<Api>>, _: Caller) -> Result<Json<Campaigns>, Problem> {
    let campaigns = api.db.campaigns(None).await?.into_iter().map(Shown::from).collect();
    Ok(Json(Campaigns { campaigns }))
}

pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Json<Shown>, Problem> {
    let row = campaign(&api, &id).await?;
    let mut contacts: BTreeMap<String, u64> = BTreeMap::new();
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    for (state, why, n) in api.db.contact_counts(&id).await? {
        *contacts.entry(state).or_default() += n;
        if !why.is_empty() {
            *reasons.entry(why).or_default() += n;
        }
    }
    Ok(Json(Shown { row, contacts: Some(contacts), reasons: Some(reasons) }))
}

pub(crate) async fn campaign(api: &Api, id: &str) -> Result<CampaignRow, Problem> {
    api.db.campaign(id).await?.ok_or_else(|| Problem::not_found("there is no campaign with this id"))
}

pub(crate) async fn start(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Accepted<Shown>, Problem> {
    command(&api, id, Command::Start).await
}

pub(crate) async fn pause(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Accepted<Shown>, Problem> {
    command(&api, id, Command::Pause).await
}

pub(crate) async fn resume(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Accepted<Shown>, Problem> {
    command(&api, id, Command::Resume).await
}

pub(crate) async fn stop(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Accepted<Shown>, Problem> {
    command(&api, id, Command::Stop).await
}

async fn command(api: &Api, id: String, command: Command) -> Result<Accepted<Shown>, Problem> {
    let row = campaign(api, &id).await?;
    let from = CampaignState::from_name(&row.state).unwrap_or(CampaignState::Stopped);
    let to = apply(from, command).map_err(|e| Problem::conflict("wrong_state", e.to_string()))?;
    if from != to && !api.db.move_campaign(&id, from.as_str(), to.as_str(), "", (api.clock)()).await? {
        return Err(Problem::conflict("wrong_state", "somebody else was faster; look at it again"));
    }
    let detail = json!({ "from": from.as_str(), "to": to.as_str() });
    Ok(Accepted::of(campaign(api, &id).await?.into()).noting(detail))
}

/// Lets a gray release go on to the step that waits for somebody's yes.
pub(crate) async fn widen(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Accepted<Shown>, Problem> {
    let row = campaign(&api, &id).await?;
    let release = settings(&row)?.release.filter(|_| row.share_next > row.share);
    let release = release.ok_or_else(|| {
        Problem::conflict("nothing_to_widen", "no step of a gray release waits for a yes: see `share_next`")
    })?;
    api.db.set_share(&id, row.share_next, &release.value, (api.clock)()).await?;
    let detail = json!({ "from": row.share, "to": row.share_next });
    Ok(Accepted::of(campaign(&api, &id).await?.into()).noting(detail))
}

fn settings(row: &CampaignRow) -> Result<CampaignSettings, Problem> {
    serde_json::from_value(row.settings.clone())
        .map_err(|_| Problem::conflict("wrong_settings", "this build cannot read the campaign's settings"))
}

#[derive(Deserialize, JsonSchema)]
pub(crate) struct Looked {
    /// At most so many.
    #[schemars(range(min = 1, max = 200), extend("default" = 20))]
    limit: Option<u32>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Previews {
    contacts: Vec<Preview>,
}

/// A contact that a person looks at.
#[derive(Serialize, JsonSchema)]
struct Preview {
    /// Its number in the campaign.
    contact: u64,
    callee: Callee,
    variables: BTreeMap<String, String>,
    external_id: Option<String>,
    attempts: u32,
    /// When the contact asked to be called.
    callback_at: Option<Timestamp>,
}

/// The contacts that a person looks at before they are called, the most urgent first.
pub(crate) async fn preview(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
    Query(page): Query<Looked>,
) -> Result<Json<Previews>, Problem> {
    let row = campaign(&api, &id).await?;
    by_hand(&row)?;
    let ready = api.db.ready_contacts(&id, (api.clock)(), page.limit.unwrap_or(20).clamp(1, 200)).await?;
    let contacts = ready
        .into_iter()
        .map(|contact| Preview {
            contact: contact.n,
            callee: contact.callee,
            variables: contact.variables,
            external_id: contact.external_id,
            attempts: contact.attempts,
            callback_at: contact.callback_at,
        })
        .collect();
    Ok(Json(Previews { contacts }))
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

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Begun {
    call: CallId,
}

/// Calls a contact that a person has looked at.
pub(crate) async fn call(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path((id, n)): Path<(String, String)>,
) -> Result<Accepted<Begun>, Problem> {
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
            let detail = json!({ "campaign": id, "contact": n, "call": call });
            Ok(Accepted::of(Begun { call }).at(format!("/v1/calls/{call}")).noting(detail))
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

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(crate) struct SkipRequest {
    /// For people.
    #[serde(default)]
    why: String,
}

/// Passes a contact over for good.
pub(crate) async fn skip(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path((id, n)): Path<(String, String)>,
    body: MaybeSent<SkipRequest>,
) -> Result<Gone, Problem> {
    let row = campaign(&api, &id).await?;
    by_hand(&row)?;
    let request = body.json_or_default()?;
    let (contact, state) = contact(&api, &id, &n).await?;
    let n = contact.n;
    if state != "ready" {
        return Err(not_ready(&row, &state));
    }
    let why = request.why.trim();
    let why = if why.is_empty() { "passed over" } else { why };
    let moved = Moved { n, until: None, why: why.to_owned(), callback: Promise::Drop };
    api.db.move_ready(&[moved]).await?;
    Ok(Gone::noting(json!({ "campaign": id, "contact": n, "why": why })))
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

#[derive(Deserialize, JsonSchema)]
pub(crate) struct Pace {
    /// By which the end is estimated.
    #[schemars(range(min = 0))]
    calls_per_hour: Option<f64>,
}

pub(crate) async fn before(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
    Query(pace): Query<Pace>,
) -> Result<Json<Preflight>, Problem> {
    let row = campaign(&api, &id).await?;
    let settings = settings(&row)?;
    let pace = pace.calls_per_hour.unwrap_or(0.0);
    let found = preflight(&api.db, &api.gate, &api.scripts, &id, &settings, pace, (api.clock)()).await?;
    found.map(Json).ok_or_else(|| Problem::conflict("unknown_script", "the campaign's script is gone"))
}
