//! People's side of the fleet: who joins and leaves, what each box should be, and how it is.

use std::collections::BTreeMap;
use std::path::Path as FilePath;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use trunkline_db::{BoxRow, FleetEntry, ReportRow};
use trunkline_fleet::enrol::{ClaimCode, EnrolError, Enrolment, Person, Role, State as At};
use trunkline_fleet::shadow::{self, Document, Entry, Problem as NotApplied, Reported};
use trunkline_fleet::why::why;
use trunkline_model::BoxId;
use trunkline_worker::fleet::box_report;

use crate::answer::{Created, Done};
use crate::auth::{Caller, Member};
use crate::authority::{Authority, Request};
use crate::enrol::{authority, refusal};
use crate::openapi::{Route, get, post, put};
use crate::sent::Sent;
use crate::{Api, Problem};

const MAX_TEXT: usize = 200;
const LOG: u32 = 50;

pub(crate) fn routes() -> Vec<Route> {
    let claim = post("claimBox", claim, "Claims the box whose label has this code, for a branch");
    let approve = post("approveBox", approve, "Approves a claim and signs the box's certificate")
        .about("By somebody else than who claimed it, with the role `fleet_admin`.");
    let refuse = post("refuseBox", refuse, "Refuses a claim; the box waits again");
    let list = get(
        "listFleet",
        list,
        "Lists every box in one line: enrolment, difference to what it should be, versions",
    );
    let show = get("showBox", show, "Shows a box, its differences, its log, and why it is not updated");
    let revoke =
        post("revokeBox", revoke, "Takes every certificate of a box away; its sessions end within 5 s");
    let transfer = post("transferBox", transfer, "Gives a box to another branch");
    let set = put("setDesired", set_desired, "Changes what a box should be; the body is the whole document");
    let desired = get("getDesired", desired, "Shows what a box should be, or should have been at a moment");
    let history = get("boxHistory", history, "Shows who changed what of a box, and when");
    vec![
        Route::at("/v1/enrolments").on(get(
            "listEnrolments",
            enrolments,
            "Lists boxes that join, and how far they are",
        )
        .says("The boxes")),
        Route::at("/v1/enrolments/claim").on(claim.says("Claimed").fails(&[409])),
        Route::at("/v1/enrolments/{id}/approve").on(approve
            .part::<String>("id", "The box")
            .says("The box has its certificate")
            .fails(&[404, 409, 501])),
        Route::at("/v1/enrolments/{id}/refuse")
            .on(refuse.part::<String>("id", "The box").says("It waits").fails(&[404, 409])),
        Route::at("/v1/fleet").on(list.says("The boxes")),
        Route::at("/v1/boxes/{id}").on(show.part::<String>("id", "The box").says("The box").fails(&[404])),
        Route::at("/v1/boxes/{id}/revoke")
            .on(revoke.part::<String>("id", "The box").says("Revoked").fails(&[404, 409])),
        Route::at("/v1/boxes/{id}/transfer")
            .on(transfer.part::<String>("id", "The box").says("Transferred").fails(&[404, 409])),
        Route::at("/v1/boxes/{id}/desired")
            .on(desired
                .part::<String>("id", "The box")
                .says("The document with its version, hash, author and time")
                .fails(&[404]))
            .on(set
                .part::<String>("id", "The box")
                .says("The document with its version and hash")
                .fails(&[404])),
        Route::at("/v1/boxes/{id}/history")
            .on(history.part::<String>("id", "The box").says("The changes, oldest first").fails(&[404])),
    ]
}

/// Who may do what in the fleet, and with which keys.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    /// Signs boxes' certificates; without it no box joins.
    pub authority: Option<Arc<Authority>>,
    /// What each person may do, by the name of their token.
    pub roles: Arc<BTreeMap<String, Role>>,
    /// The signed repository that boxes fetch from.
    pub repo: Option<Arc<FilePath>>,
    /// Boxes whose certificates were signed by hand stay outside.
    pub only_enrolled: bool,
}

/// One box on its way, as people see it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Enrolment")]
pub(crate) struct EnrolmentView {
    #[serde(rename = "box")]
    box_id: BoxId,
    #[serde(flatten)]
    state: At,
}

impl From<Enrolment> for EnrolmentView {
    fn from(enrolment: Enrolment) -> Self {
        Self { box_id: enrolment.box_id, state: enrolment.state }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Enrolments {
    enrolments: Vec<EnrolmentView>,
}

pub(crate) async fn enrolments(State(api): State<Arc<Api>>, _: Member) -> Result<Json<Enrolments>, Problem> {
    Ok(Json(Enrolments { enrolments: api.db.enrolments().await?.into_iter().map(Into::into).collect() }))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(crate) struct ClaimRequest {
    /// 8 characters, as on the label.
    code: String,
    /// Where it will stand.
    #[schemars(length(min = 1, max = MAX_TEXT))]
    branch: String,
}

/// Claims the box whose label has this code, for a branch.
pub(crate) async fn claim(
    State(api): State<Arc<Api>>,
    Member(by): Member,
    body: Sent<ClaimRequest>,
) -> Result<Created<EnrolmentView>, Problem> {
    let request = body.json()?;
    let branch = text("branch", &request.branch)?;
    // Something that is no code at all is answered like a wrong one, and costs the same.
    let code = ClaimCode::parse(&request.code)
        .ok_or_else(|| Problem::refused("malformed_code", "code", "8 characters, as on the label"))?;
    let now = (api.clock)();
    match api.db.claim_box(&code, &by, branch, now).await? {
        Ok(id) => {
            tracing::info!(box.id = %id, by = by.name, branch, "A box was claimed");
            Ok(Created::of(enrolment(&api, &id).await?))
        }
        Err(error) => {
            tracing::warn!(by = by.name, %error, "A claim was refused");
            Err(refusal(&error))
        }
    }
}

/// Says yes to a claim and signs the box's certificate; not by whoever claimed it.
pub(crate) async fn approve(
    State(api): State<Arc<Api>>,
    Member(by): Member,
    Path(id): Path<String>,
) -> Result<Done<EnrolmentView>, Problem> {
    let authority = authority(&api)?;
    let (id, now) = (box_id(&id)?, (api.clock)());
    let signer = by.clone();
    change(&api, &id, &by, "approved", now, move |enrolment| {
        enrolment.approve(&signer, now)?;
        // The request was checked when it came; what cannot be read any more is not the box's.
        let request = Request::parse(enrolment.request.clone()).ok_or(EnrolError::Replayed)?;
        let signed = authority.sign(&request, now).map_err(|error| {
            tracing::error!(%error, "A certificate could not be signed");
            EnrolError::WrongState { state: "approved", needs: "an authority that signs" }
        })?;
        enrolment.issued(&signed.serial, signed.not_after)?;
        Ok(((), Some(signed)))
    })
    .await?;
    tracing::info!(box.id = %id, by = by.name, "A box was approved and has its certificate");
    Ok(Done::of(enrolment(&api, &id).await?))
}

/// Says no to a claim.
pub(crate) async fn refuse(
    State(api): State<Arc<Api>>,
    Member(by): Member,
    Path(id): Path<String>,
) -> Result<Done<EnrolmentView>, Problem> {
    let (id, now) = (box_id(&id)?, (api.clock)());
    let person = by.clone();
    change(&api, &id, &by, "refused", now, move |enrolment| Ok((enrolment.refuse(&person, now)?, None)))
        .await?;
    Ok(Done::of(enrolment(&api, &id).await?))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(crate) struct RevokeRequest {
    /// For people, and for the log.
    #[schemars(length(min = 1, max = MAX_TEXT))]
    reason: String,
}

/// Takes every certificate of a box away; its sessions end within seconds.
pub(crate) async fn revoke(
    State(api): State<Arc<Api>>,
    Member(by): Member,
    Path(id): Path<String>,
    body: Sent<RevokeRequest>,
) -> Result<Done<EnrolmentView>, Problem> {
    let request = body.json()?;
    let reason = text("reason", &request.reason)?.to_owned();
    let (id, now) = (box_id(&id)?, (api.clock)());
    let person = by.clone();
    let what = format!("revoked: {reason}");
    change(&api, &id, &by, &what, now, move |enrolment| Ok((enrolment.revoke(&person, &reason, now)?, None)))
        .await?;
    api.wakers.fleet();
    tracing::warn!(box.id = %id, by = by.name, "A box was revoked");
    Ok(Done::of(enrolment(&api, &id).await?))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(crate) struct TransferRequest {
    /// Where it will stand.
    #[schemars(length(min = 1, max = MAX_TEXT))]
    branch: String,
}

/// Gives a box to another branch.
pub(crate) async fn transfer(
    State(api): State<Arc<Api>>,
    Member(by): Member,
    Path(id): Path<String>,
    body: Sent<TransferRequest>,
) -> Result<Done<EnrolmentView>, Problem> {
    let request = body.json()?;
    let branch = text("branch", &request.branch)?.to_owned();
    let (id, now) = (box_id(&id)?, (api.clock)());
    let person = by.clone();
    let what = format!("transferred to {branch}");
    change(&api, &id, &by, &what, now, move |enrolment| Ok((enrolment.transfer(&person, &branch)?, None)))
        .await?;
    Ok(Done::of(enrolment(&api, &id).await?))
}

async fn change(
    api: &Api,
    id: &BoxId,
    by: &Person,
    what: &str,
    now: Timestamp,
    change: impl FnOnce(&mut Enrolment) -> Result<((), Option<trunkline_db::Certificate>), EnrolError> + Send,
) -> Result<(), Problem> {
    match api.db.change_enrolment(id, &by.name, what, now, change).await? {
        Some(done) => done.map_err(|error| refusal(&error)),
        None => Err(unknown()),
    }
}

async fn enrolment(api: &Api, id: &BoxId) -> Result<EnrolmentView, Problem> {
    api.db.enrolment(id).await?.map(Into::into).ok_or_else(unknown)
}

/// A box in one line.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "FleetBox")]
pub(crate) struct Line {
    #[serde(rename = "box")]
    id: BoxId,
    /// Where it is on its way into the fleet.
    enrolment: Option<At>,
    /// When it last reported.
    seen: Option<Timestamp>,
    software: Option<String>,
    /// How it stands to its desired document: with differences and their reasons where it differs.
    sync: Option<shadow::Sync>,
    /// What it could not apply.
    problems: Vec<trunkline_wire::NotApplied>,
    /// What runs and how far an update is, by component.
    #[schemars(with = "Vec<Map<String, Value>>")]
    components: Vec<Value>,
    /// Why its newest assignment is not believed.
    trouble: Option<String>,
    /// How it carries calls.
    calls: Option<BoxRow>,
}

/// A box with its differences and its history.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "FleetBoxDetail")]
pub(crate) struct Detailed {
    #[serde(flatten)]
    line: Line,
    /// For each rollout, why the box does not run it.
    updates: Vec<Update>,
    /// What it should be.
    desired: Option<Document>,
    /// What it said of itself.
    reported: Option<trunkline_wire::Reported>,
    /// What was done about it, the newest first.
    log: Vec<FleetEntry>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct Update {
    rollout: String,
    /// The release.
    target: String,
    /// Why not, for people.
    why: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Lines {
    boxes: Vec<Line>,
}

/// Every box in one line: where it is on its way, whether it is as it should be, and what it runs.
pub(crate) async fn list(State(api): State<Arc<Api>>, _: Caller) -> Result<Json<Lines>, Problem> {
    let enrolments = api.db.enrolments().await?;
    let reports: BTreeMap<BoxId, ReportRow> =
        api.db.all_reported().await?.into_iter().map(|row| (row.box_id.clone(), row)).collect();
    let links: BTreeMap<BoxId, BoxRow> =
        api.db.boxes().await?.into_iter().map(|row| (row.id.clone(), row)).collect();
    let mut ids: Vec<BoxId> = enrolments.iter().map(|one| one.box_id.clone()).collect();
    ids.extend(reports.keys().chain(links.keys()).cloned());
    ids.sort();
    ids.dedup();
    let mut boxes = Vec::new();
    for id in ids {
        let enrolment = enrolments.iter().find(|one| one.box_id == id).cloned();
        let desired = api.db.desired(&id).await?;
        boxes.push(line(&id, enrolment, desired.as_ref(), reports.get(&id), links.get(&id)));
    }
    Ok(Json(Lines { boxes }))
}

/// One box with its differences, its history, and why it is not updated.
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Json<Detailed>, Problem> {
    let (id, now) = (box_id(&id)?, (api.clock)());
    let enrolment = api.db.enrolment(&id).await?;
    let report = api.db.reported(&id).await?;
    let link = api.db.boxes().await?.into_iter().find(|row| row.id == id);
    if enrolment.is_none() && report.is_none() && link.is_none() {
        return Err(unknown());
    }
    let desired = api.db.desired(&id).await?;
    let line = line(&id, enrolment, desired.as_ref(), report.as_ref(), link.as_ref());
    let mut updates = Vec::new();
    for rollout in api.db.rollouts().await? {
        if rollout.wave_of(&id).is_none() {
            continue;
        }
        let told = report.as_ref().map(|row| box_report(row, &rollout.target.component));
        let answer = why(&rollout, &id, told.as_ref(), now);
        updates.push(Update { rollout: rollout.id, target: rollout.target.name, why: answer.to_string() });
    }
    let log = api.db.fleet_log(id.as_str(), LOG).await?;
    Ok(Json(Detailed { line, updates, desired, reported: report.map(|row| row.reported), log }))
}

fn line(
    id: &BoxId,
    enrolment: Option<Enrolment>,
    desired: Option<&Document>,
    report: Option<&ReportRow>,
    link: Option<&BoxRow>,
) -> Line {
    let sync = desired.map(|desired| shadow::compare(desired, report.map(as_core).as_ref()));
    Line {
        id: id.clone(),
        enrolment: enrolment.map(|one| one.state),
        seen: report.map(|row| row.at),
        software: report.map(|row| row.reported.software.clone()),
        sync,
        problems: report.map(|row| row.reported.problems.clone()).unwrap_or_default(),
        components: report.map(|row| row.reported.components.clone()).unwrap_or_default(),
        trouble: report.and_then(|row| row.reported.trouble.clone()),
        calls: link.cloned(),
    }
}

/// The report as the core compares it.
pub(crate) fn as_core(row: &ReportRow) -> Reported {
    let told = &row.reported;
    let problems = told
        .problems
        .iter()
        .map(|one| NotApplied { path: one.path.clone(), reason: one.reason.clone() })
        .collect();
    Reported {
        version: told.version,
        // What is no hash is none that anybody wanted.
        hash: told.hash.parse().unwrap_or_else(|_| trunkline_trust::sha256(&[])),
        body: told.body.clone(),
        problems,
        at: row.at,
    }
}

/// Sections such as `name`, `log`, `updates` and `calls`; numbers without fractions.
#[derive(Deserialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Sections(#[schemars(with = "Map<String, Value>")] Value);

/// Changes what a box should be; the body is the whole document.
pub(crate) async fn set_desired(
    State(api): State<Arc<Api>>,
    Member(by): Member,
    Path(id): Path<String>,
    body: Sent<Sections>,
) -> Result<Json<Document>, Problem> {
    operator(&by)?;
    let Sections(document) = body.json()?;
    if !document.is_object() {
        return Err(Problem::refused("malformed_document", "", "a document is an object of sections"));
    }
    let id = box_id(&id)?;
    if let Err(error) = Document::new(1, document.clone()) {
        return Err(Problem::refused("malformed_document", "", error.to_string()));
    }
    let changed = api.db.change_desired(&id, &by.name, document, (api.clock)()).await?;
    if let Some(changed) = &changed {
        tracing::info!(box.id = %id, by = by.name, version = changed.version, "A box is to be changed");
        api.wakers.fleet();
    }
    let desired = match changed {
        Some(changed) => Some(changed),
        None => api.db.desired(&id).await?,
    };
    desired.map(Json).ok_or_else(Problem::failed)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AtQuery {
    /// What was in force then; now when left out.
    at: Option<Timestamp>,
}

/// What a box should be, or what it should have been at a moment.
pub(crate) async fn desired(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
    query: Result<Query<AtQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Entry>, Problem> {
    let Query(query) = query
        .map_err(|_| Problem::refused("malformed_time", "at", "an instant such as 2026-11-22T10:32:00Z"))?;
    let id = box_id(&id)?;
    let history = api.db.desired_history(&id).await?;
    let entry = history.in_force(query.at.unwrap_or(Timestamp::MAX));
    entry
        .map(|entry| Json(entry.clone()))
        .ok_or_else(|| Problem::not_found("nothing was wanted of this box then"))
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Changes {
    changes: Vec<Change>,
}

/// A change of what a box should be.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DesiredChange")]
struct Change {
    at: Timestamp,
    by: String,
    version: u64,
    /// What is different since then.
    changed: Vec<shadow::Difference>,
}

/// Who changed what of a box, and when.
pub(crate) async fn history(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Json<Changes>, Problem> {
    let history = api.db.desired_history(&box_id(&id)?).await?;
    let changes = history
        .entries()
        .iter()
        .map(|entry| {
            let version = entry.document.version;
            Change { at: entry.at, by: entry.by.clone(), version, changed: history.changed_by(version) }
        })
        .collect();
    Ok(Json(Changes { changes }))
}

/// Refuses people who may only claim boxes.
pub(crate) fn operator(by: &Person) -> Result<(), Problem> {
    match by.role {
        Role::Operator | Role::FleetAdmin => Ok(()),
        role @ Role::Branch => Err(refusal(&EnrolError::NotAllowed { role })),
    }
}

pub(crate) fn box_id(text: &str) -> Result<BoxId, Problem> {
    text.parse().map_err(|_| unknown())
}

fn unknown() -> Problem {
    Problem::not_found("there is no such box")
}

fn text<'a>(field: &'static str, text: &'a str) -> Result<&'a str, Problem> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > MAX_TEXT {
        return Err(Problem::refused("malformed_text", field, "1 to 200 characters"));
    }
    Ok(text)
}
