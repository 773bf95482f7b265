//! Asking for calls, looking at them, and calling them off.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp};
use ring::rand::{SecureRandom, SystemRandom};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use trunkline_db::{Call, CallDetail, CallFilter, CallStatus, Cancelled, Created, NewCall, TransferAsked};
use trunkline_dialogue::VariableError;
use trunkline_model::{CallId, Callee, E164, ScriptId};
use trunkline_policy::{Consent, Verdict};
use trunkline_wire::{ScriptRef, SuperviseWish, UnknownWish};
use trunkline_worker::{Ask, ContactFacts, check_target};
use uuid::Uuid;

use crate::answer::Accepted;
use crate::auth::{Caller, sha256_hex};
use crate::openapi::{Route, get, post, text};
use crate::query::Query;
use crate::sent::{MaybeSent, Sent};
use crate::{Api, Problem};

const MAX_TEXT: usize = 200;
const MAX_URL: usize = 2_000;

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::at("/v1/calls")
            .on(post("createCall", create, "Asks for a call")
                .header(
                    "Idempotency-Key",
                    "The same key and body give the same call; the same key with another body is 409.",
                    json!({ "type": "string", "minLength": 1, "maxLength": MAX_TEXT }),
                )
                .header("traceparent", "W3C Trace Context; goes along to the box.", text())
                .says("The call was taken")
                .fails(&[409]))
            .on(get("listCalls", list, "Lists calls, the newest first").says("A page").fails(&[422])),
        Route::at("/v1/calls/{id}").on(get(
            "showCall",
            show,
            "Shows a call with its turns, recording and callbacks",
        )
        .part::<CallId>("id", "")
        .says("The call")
        .fails(&[404])),
        Route::at("/v1/calls/{id}/cancel").on(post(
            "cancelCall",
            cancel,
            "Calls a call off: at once when no box has it, else by asking the box",
        )
        .part::<CallId>("id", "")
        .says("It is over, or the box is asked")
        .fails(&[404, 409])),
        Route::at("/v1/calls/{id}/transfer").on(post(
            "transferCall",
            transfer,
            "Hands a call that was answered to a person, whatever its script is at",
        )
        .part::<CallId>("id", "")
        .example(json!({ "to": "branch" }))
        .says(
            "The box is told. What becomes of it stands in the call's record under `transfers`, and in its events",
        )
        .fails(&[404, 409])),
        Route::at("/v1/calls/{id}/supervise").on(post(
            "superviseCall",
            supervise,
            "Has a supervisor's telephone called and joined to a call that was answered, or changes who hears her \
             there",
        )
        .part::<CallId>("id", "")
        .example(json!({ "mode": "listen", "to": "phone:203" }))
        .says(
            "The box is told. It calls only whom its `[supervise]` names. What becomes of it stands in the call's \
             events",
        )
        .fails(&[404, 409])),
    ]
}

/// Body of `POST /v1/calls`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallRequest {
    /// A number in international form, or sip:user@host.
    #[schemars(example = "+8613800138000")]
    callee: String,
    /// The number to show.
    #[serde(default)]
    caller_id: Option<String>,
    /// What is said.
    script_id: String,
    /// Where changes are reported to.
    #[serde(default)]
    #[schemars(length(max = MAX_URL), url)]
    callback_url: Option<String>,
    /// The script's variables.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Variable>")]
    variables: BTreeMap<String, Value>,
    /// The caller's own reference.
    #[serde(default)]
    #[schemars(length(max = MAX_TEXT))]
    external_id: Option<String>,
    /// The higher comes first; beyond its limits it counts as the limit.
    #[serde(default)]
    #[schemars(range(min = -100, max = 100))]
    priority: i32,
    /// It is not dialled before this instant.
    #[serde(default)]
    not_before: Option<Timestamp>,
    /// It is not dialled after this instant.
    #[serde(default)]
    not_after: Option<Timestamp>,
    /// What the compliance gate is to know about the contact.
    #[serde(default)]
    contact: ContactRequest,
}

/// What the compliance gate is to know about the contact.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ContactRequest {
    /// The legal basis.
    #[serde(default)]
    consent: Option<Consent>,
    /// Country of the address.
    #[serde(default)]
    country: Option<String>,
    /// State or province of the address.
    #[serde(default)]
    region: Option<String>,
    /// IANA time zone.
    #[serde(default)]
    zone: Option<String>,
    /// The debt that the call is about.
    #[serde(default)]
    debt: Option<String>,
    /// To be called by people only.
    #[serde(default)]
    vulnerable: bool,
}

/// What a variable may be set to: numbers and booleans are taken as they are written.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(
    dead_code,
    reason = "it is a schema; `texts` reads the values, so that the refusal names the variable"
)]
pub(crate) enum Variable {
    Text(String),
    Number(f64),
    Flag(bool),
    Nothing(()),
}

impl From<ContactRequest> for ContactFacts {
    fn from(request: ContactRequest) -> Self {
        let ContactRequest { consent, country, region, zone, debt, vulnerable } = request;
        Self { consent, country, region, zone, debt, vulnerable, ..Self::default() }
    }
}

pub(crate) async fn create(
    State(api): State<Arc<Api>>,
    Caller(token): Caller,
    headers: HeaderMap,
    body: Sent<CallRequest>,
) -> Result<Accepted<Call>, Problem> {
    let (request, body) = body.with_bytes()?;
    let now = (api.clock)();
    let mut new = check(&api, request, &headers, (token, &body), now)?;
    // The same request again gets its answer, whatever the hour is by now.
    match api.db.known_request(&new).await? {
        Some(Created::Same(call)) => return Ok(accepted(call)),
        Some(_) => return Err(key_reused()),
        None => {}
    }
    new.not_before = permitted(&api, &new, now).await?.max(new.not_before);
    match api.db.create_call(&new, now).await? {
        Created::New(call) => {
            tracing::info!(call.id = %call.id, script = %call.script.id, "Call asked for");
            api.hub.changed(call.id);
            api.wakers.dispatcher();
            Ok(accepted(call))
        }
        Created::Same(call) => Ok(accepted(call)),
        Created::KeyReused => Err(key_reused()),
        Created::Suppressed => {
            Err(Problem::refused("suppressed", "callee", "this customer asked not to be called again"))
        }
    }
}

fn key_reused() -> Problem {
    Problem::conflict("idempotency_key_reused", "this Idempotency-Key came before with another body")
}

/// Asks the gate. Returns the instant from which on the call may be dialled.
async fn permitted(api: &Api, new: &NewCall, now: Timestamp) -> Result<Timestamp, Problem> {
    let Some(script) = api.scripts.current(&new.script.id) else {
        return Err(Problem::refused("unknown_script", "script_id", "there is no script with this id"));
    };
    let facts: ContactFacts = serde_json::from_str(&new.facts).unwrap_or_default();
    let ask = Ask {
        call: new.id,
        callee: &new.callee,
        caller_id: new.caller_id.as_ref(),
        facts: &facts,
        campaign: None,
    };
    let at = now.max(new.not_before);
    let decision = api.gate.judge(&api.db, &ask, &script, None, at).await?;
    let receipt = format!("; the receipt is at /v1/calls/{}/receipt", new.id);
    match decision.verdict {
        Verdict::Allow => Ok(at),
        Verdict::Defer { until, .. } if until < new.not_after => Ok(until),
        Verdict::Defer { until, reason } => {
            let detail = format!("not permitted before {until}, which is after the call's end{receipt}");
            Err(Problem::refused(reason.as_str(), "callee", detail))
        }
        Verdict::Skip { reason } | Verdict::Block { reason } => {
            let saw = decision.checks.iter().find(|found| found.verdict.reason() == Some(reason));
            let saw = saw.map(|found| format!("check {}: {}", found.check, found.saw)).unwrap_or_default();
            Err(Problem::refused(reason.as_str(), "callee", format!("not permitted ({saw}){receipt}")))
        }
    }
}

#[derive(Deserialize, JsonSchema)]
pub(crate) struct Page {
    #[schemars(range(min = 1, max = 200), extend("default" = 50))]
    limit: Option<u32>,
    /// `next` of the page before.
    #[schemars(with = "Option<CallId>")]
    before: Option<String>,
    /// Only calls that are so far.
    #[schemars(with = "Option<CallStatus>")]
    status: Option<String>,
}

/// A page of calls.
#[derive(Serialize, JsonSchema)]
pub(crate) struct CallPage {
    calls: Vec<Call>,
    /// Where the next page begins; `null` at the end.
    next: Option<CallId>,
}

pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    _: Caller,
    Query(page): Query<Page>,
) -> Result<Json<CallPage>, Problem> {
    let limit = page.limit.unwrap_or(50).clamp(1, 200);
    let status = page
        .status
        .map(|name| {
            CallStatus::from_name(&name)
                .ok_or_else(|| Problem::refused("unknown_status", "status", "there is no such status"))
        })
        .transpose()?;
    let before = page
        .before
        .map(|id| {
            id.parse().map_err(|_| Problem::refused("malformed_cursor", "before", "this is no call id"))
        })
        .transpose()?;
    let calls = api.db.calls(&CallFilter { status, before, limit }).await?;
    let full = u32::try_from(calls.len()).unwrap_or(u32::MAX) == limit;
    let next = if full { calls.last().map(|call| call.id) } else { None };
    Ok(Json(CallPage { calls, next }))
}

pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Json<CallDetail>, Problem> {
    api.db.call_detail(call_id(&id)?).await?.map(Json).ok_or_else(no_such_call)
}

pub(crate) async fn cancel(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Accepted<Call>, Problem> {
    match api.db.cancel(call_id(&id)?, (api.clock)()).await? {
        Cancelled::NoSuchCall => Err(no_such_call()),
        Cancelled::Over(_) => Err(Problem::conflict("already_ended", "the call is over already")),
        Cancelled::Ended(call) | Cancelled::Asked(call) => {
            api.hub.changed(call.id);
            api.wakers.dispatcher();
            api.wakers.courier();
            Ok(Accepted::of(call))
        }
    }
}

/// How long a box is told of a hand-over: nobody wants one that comes later.
const TRANSFER_WITHIN: SignedDuration = SignedDuration::from_secs(15);

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(crate) struct TransferRequest {
    /// Where to, by a name that the box's configuration knows; as the script has it when absent.
    #[serde(default)]
    #[schemars(length(min = 1, max = MAX_TEXT))]
    to: Option<String>,
}

/// Hands a call to a person, whatever its script is at.
pub(crate) async fn transfer(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
    body: MaybeSent<TransferRequest>,
) -> Result<Accepted<Call>, Problem> {
    let id = call_id(&id)?;
    let request = body.json_or_default()?;
    let to = named(request.to.as_deref())?;
    let now = (api.clock)();
    let until = now.saturating_add(TRANSFER_WITHIN).unwrap_or(now);
    match api.db.ask_transfer(id, to, until, now).await? {
        TransferAsked::NoSuchCall => Err(no_such_call()),
        TransferAsked::NotTalking(call) => Err(not_talking(&call, "handed over")),
        TransferAsked::Asked(call) => {
            api.hub.changed(call.id);
            api.wakers.dispatcher();
            let detail = json!({ "call": call.id, "to": to });
            Ok(Accepted::of(call).noting(detail))
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(crate) struct SuperviseRequest {
    #[schemars(with = "SuperviseWish")]
    mode: String,
    /// Whom to call, as the box's `[supervise]` names her; the first one there when absent.
    #[serde(default)]
    #[schemars(length(min = 1, max = MAX_TEXT))]
    to: Option<String>,
}

/// Has a supervisor's telephone called and joined to a call, or changes who hears her there.
pub(crate) async fn supervise(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
    body: Sent<SuperviseRequest>,
) -> Result<Accepted<Call>, Problem> {
    let id = call_id(&id)?;
    let request = body.json()?;
    let mode: SuperviseWish = request
        .mode
        .parse()
        .map_err(|error: UnknownWish| Problem::refused("invalid_mode", "mode", error.to_string()))?;
    let to = named(request.to.as_deref())?;
    let now = (api.clock)();
    let until = now.saturating_add(TRANSFER_WITHIN).unwrap_or(now);
    match api.db.ask_supervise(id, mode, to, until, now).await? {
        TransferAsked::NoSuchCall => Err(no_such_call()),
        TransferAsked::NotTalking(call) => Err(not_talking(&call, "listened to")),
        TransferAsked::Asked(call) => {
            api.hub.changed(call.id);
            api.wakers.dispatcher();
            let detail = json!({ "call": call.id, "mode": mode, "to": to });
            Ok(Accepted::of(call).noting(detail))
        }
    }
}

/// Returns a name as a box's configuration may have it.
fn named(to: Option<&str>) -> Result<Option<&str>, Problem> {
    let to = to.map(str::trim);
    if to.is_some_and(|to| to.is_empty() || to.len() > MAX_TEXT || to.chars().any(char::is_control)) {
        let detail = format!("a name as the box's configuration has it, of 1 to {MAX_TEXT} bytes");
        return Err(Problem::refused("invalid_to", "to", detail));
    }
    Ok(to)
}

fn not_talking(call: &Call, done: &str) -> Problem {
    let detail = format!("the call is {}: only one that was answered can be {done}", call.status.as_str());
    Problem::conflict("not_talking", detail)
}

pub(crate) fn call_id(text: &str) -> Result<CallId, Problem> {
    text.parse().map_err(|_| no_such_call())
}

pub(crate) fn no_such_call() -> Problem {
    Problem::not_found("there is no call with this id")
}

fn accepted(call: Call) -> Accepted<Call> {
    let (id, detail) = (call.id, json!({ "call": call.id, "script": call.script }));
    Accepted::of(call).at(format!("/v1/calls/{id}")).noting(detail)
}

pub(crate) fn unreadable(error: serde_json::Error) -> Problem {
    if error.is_data() {
        Problem { status: StatusCode::UNPROCESSABLE_ENTITY, ..Problem::malformed(error.to_string()) }
    } else {
        Problem::malformed(format!("the body is not JSON: {error}"))
    }
}

fn check(
    api: &Api,
    request: CallRequest,
    headers: &HeaderMap,
    (token, body): (String, &[u8]),
    now: Timestamp,
) -> Result<NewCall, Problem> {
    let number = |field: &str, error: trunkline_model::NumberError| {
        Problem::refused("malformed_number", field, error.to_string())
    };
    let callee: Callee = request.callee.parse().map_err(|e| number("callee", e))?;
    let caller_id: Option<E164> =
        request.caller_id.map(|text| text.parse().map_err(|e| number("caller_id", e))).transpose()?;

    let unknown = || {
        let detail = "there is no script with this id; GET /v1/scripts lists them";
        Problem::refused("unknown_script", "script_id", detail)
    };
    let script_id: ScriptId = request.script_id.parse().map_err(|_| unknown())?;
    let script = api.scripts.current(&script_id).ok_or_else(unknown)?;
    let variables = script.check_variables(&texts(request.variables)?).map_err(variable_problem)?;

    let callback_url = request.callback_url.map(|url| callback(api, url)).transpose()?;
    let external_id = request.external_id.map(|id| short(id, "external_id")).transpose()?;
    let default = SignedDuration::try_from(api.config.not_after).unwrap_or(SignedDuration::MAX);
    let not_after = match request.not_after {
        Some(at) if at <= now => {
            return Err(Problem::refused("not_after_past", "not_after", "this instant has passed"));
        }
        Some(at) => at,
        None => {
            let begin = request.not_before.unwrap_or(now).max(now);
            begin.saturating_add(default).unwrap_or(Timestamp::MAX)
        }
    };
    if request.not_before.is_some_and(|at| at >= not_after) {
        return Err(Problem::refused("not_before_late", "not_before", "the call would begin after its end"));
    }
    let idempotency = headers
        .get("idempotency-key")
        .map(|value| {
            let key = value.to_str().ok().filter(|key| !key.is_empty() && key.len() <= MAX_TEXT);
            key.map(|key| (token, key.to_owned(), sha256_hex(body))).ok_or_else(|| {
                Problem::refused("malformed_key", "Idempotency-Key", "1 to 200 visible characters")
            })
        })
        .transpose()?;
    Ok(NewCall {
        id: CallId::new(Uuid::now_v7()),
        callee,
        caller_id,
        script: ScriptRef { id: script_id, version: script.version().clone() },
        variables,
        external_id,
        callback_url,
        not_before: request.not_before.unwrap_or(now),
        not_after,
        facts: ContactFacts::from(request.contact).to_json(),
        priority: request.priority.clamp(-100, 100),
        campaign: None,
        trace: trace(headers),
        idempotency,
    })
}

/// Numbers and booleans are taken as they are written; lists and objects are not.
pub(crate) fn texts(variables: BTreeMap<String, Value>) -> Result<BTreeMap<String, String>, Problem> {
    variables
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| match value {
            Value::String(text) => Ok((name, text)),
            Value::Number(number) => Ok((name, number.to_string())),
            Value::Bool(flag) => Ok((name, flag.to_string())),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                let detail = format!("variable `{name}` must be a text or a number");
                Err(Problem::refused("wrong_variable", &format!("variables.{name}"), detail))
            }
        })
        .collect()
}

pub(crate) fn variable_problem(errors: Vec<VariableError>) -> Problem {
    let (code, name) = match errors.first() {
        Some(VariableError::Missing { name, .. }) => ("missing_variable", name.as_str()),
        Some(VariableError::Unknown { name, .. }) => ("unknown_variable", name.as_str()),
        Some(VariableError::Wrong { name, .. }) => ("wrong_variable", name.as_str()),
        None => ("wrong_variable", ""),
    };
    let detail = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    Problem::refused(code, &format!("variables.{name}"), detail)
}

pub(crate) fn callback(api: &Api, url: String) -> Result<String, Problem> {
    if !api.config.callbacks {
        let detail = "this server has no callback secret (`callbacks.secret_file`), so it sends none";
        return Err(Problem::refused("callbacks_disabled", "callback_url", detail));
    }
    if url.len() > MAX_URL {
        return Err(Problem::refused("bad_callback_url", "callback_url", "the address is too long"));
    }
    match check_target(&url, api.config.allow_private) {
        Ok(_) => Ok(url),
        Err(error) => Err(Problem::refused("bad_callback_url", "callback_url", error.to_string())),
    }
}

fn short(text: String, field: &str) -> Result<String, Problem> {
    if text.chars().count() <= MAX_TEXT {
        Ok(text)
    } else {
        Err(Problem::refused("too_long", field, "at most 200 characters"))
    }
}

/// The caller's traceparent, else a new one (W3C Trace Context §3.2).
fn trace(headers: &HeaderMap) -> String {
    let given = headers.get("traceparent").and_then(|value| value.to_str().ok());
    if let Some(given) = given.filter(|text| is_traceparent(text)) {
        return given.to_owned();
    }
    let mut bytes = [0_u8; 24];
    if SystemRandom::new().fill(&mut bytes).is_err() {
        return String::new();
    }
    format!("00-{}-{}-01", hex::encode(&bytes[..16]), hex::encode(&bytes[16..]))
}

fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    lengths == [2, 32, 16, 2]
        && text.bytes().all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
