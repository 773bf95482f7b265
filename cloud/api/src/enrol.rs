//! What a box asks for itself: its first certificate, and the next one.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use trunkline_db::Certificate;
use trunkline_fleet::enrol::{EnrolError, Proof, State as At};
use trunkline_wire::{EnrolReply, EnrolRequest, RenewRequest};

use crate::answer::Accepted;
use crate::auth::{Origin, Shown};
use crate::authority::{Authority, Request};
use crate::openapi::{Route, post};
use crate::sent::Sent;
use crate::{Api, Problem};

/// A box that waits for people asks this often.
const WAITING_S: u64 = 10;
/// A box that was claimed will soon be approved.
const CLAIMED_S: u64 = 3;

pub(crate) fn routes() -> Vec<Route> {
    let enrol = post(
        "boxEnrol",
        enrol,
        "For boxes: asks for the first certificate; the same request again asks what became of it",
    );
    let enrol = enrol
        .or::<Json<EnrolReply>>(200, "The certificate")
        .or::<Accepted<EnrolReply>>(202, "Ask again later, after `Retry-After` seconds")
        .fails(&[409, 429, 501]);
    let renew = post(
        "boxRenew",
        renew,
        "For boxes: asks for the next certificate, with the present one, which may have expired up to 30 days ago",
    );
    let renew = renew.says("The certificate").fails(&[403, 409, 501]);
    vec![Route::at("/box/v1/enrol").on(enrol), Route::at("/box/v1/renew").on(renew)]
}

/// Takes a box's announcement; the same request again is how it asks what became of it.
pub(crate) async fn enrol(
    State(api): State<Arc<Api>>,
    Origin(from): Origin,
    body: Sent<EnrolRequest>,
) -> Result<Response, Problem> {
    authority(&api)?;
    let asked = body.json()?;
    let request = request(&asked.csr)?;
    let proof = Proof::from_hex(&asked.proof)
        .ok_or_else(|| Problem::refused("bad_proof", "proof", "64 hexadecimal digits"))?;
    let now = (api.clock)();
    let known = api.db.announce(&request.box_id, &request.der, &proof, &from, now).await?;
    let enrolment = known.map_err(|error| refusal(&error))?;
    let retry_s = match &enrolment.state {
        At::Issued { serial, .. } => {
            let certificate = api.db.certificate(serial).await?;
            return Ok(issued(certificate.map(|one| one.pem), now).into_response());
        }
        At::Waiting { .. } => WAITING_S,
        At::Claimed { .. } | At::Approved { .. } | At::Revoked { .. } => CLAIMED_S,
    };
    tracing::debug!(box.id = %request.box_id, from, state = enrolment.state.name(), "A box asks to join");
    let reply = EnrolReply { state: enrolment.state.name().into(), now, certificate: None, retry_s };
    let mut response = (StatusCode::ACCEPTED, Json(reply)).into_response();
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_s));
    Ok(response)
}

/// Signs the successor of the certificate that is shown, which may have expired not too long ago.
pub(crate) async fn renew(
    State(api): State<Arc<Api>>,
    shown: Shown,
    body: Sent<RenewRequest>,
) -> Result<Json<EnrolReply>, Problem> {
    let authority = authority(&api)?;
    let asked = body.json()?;
    let request = request(&asked.csr)?;
    if request.box_id != shown.box_id {
        return Err(Problem::refused("another_key", "csr", "a certificate is renewed for the same key"));
    }
    let now = (api.clock)();
    let Some(enrolment) = api.db.enrolment(&shown.box_id).await? else {
        return Err(Problem::forbidden("not_enrolled", "this box was never enrolled here"));
    };
    // A box that never received the last one asks with the one before it, and gets what was signed then.
    if let At::Issued { serial, until, .. } = &enrolment.state
        && *serial != shown.serial
        && enrolment.may_connect(&shown.serial)
        && now < *until
    {
        let certificate = api.db.certificate(serial).await?;
        return Ok(issued(certificate.map(|one| one.pem), now));
    }
    enrolment.may_renew(&shown.serial, now).map_err(|error| refusal(&error))?;
    let new = authority.sign(&request, now).map_err(|error| Problem::internal("A renewal failed", &error))?;
    let pem = new.pem.clone();
    let by = shown.box_id.as_str();
    let done = api
        .db
        .change_enrolment(&shown.box_id, by, "renewed", now, |enrolment| {
            enrolment.renewed(&shown.serial, &new.serial, new.not_after, now)?;
            Ok(((), Some::<Certificate>(new)))
        })
        .await?;
    match done {
        Some(Ok(())) => {
            tracing::info!(box.id = by, "A box renewed its certificate");
            Ok(issued(Some(pem), now))
        }
        Some(Err(error)) => Err(refusal(&error)),
        None => Err(Problem::forbidden("not_enrolled", "this box was never enrolled here")),
    }
}

fn issued(certificate: Option<String>, now: Timestamp) -> Json<EnrolReply> {
    Json(EnrolReply { state: "issued".into(), now, certificate, retry_s: 0 })
}

pub(crate) fn authority(api: &Api) -> Result<Arc<Authority>, Problem> {
    let none = || Problem::not_set_up("no box joins here: the server has no `[fleet]` section");
    api.fleet.authority.clone().ok_or_else(none)
}

fn request(csr: &str) -> Result<Request, Problem> {
    let read = STANDARD.decode(csr).ok().and_then(Request::parse);
    let rule = "PKCS#10 in base 64, for a P-256 key, signed by it";
    read.ok_or_else(|| Problem::refused("bad_csr", "csr", rule))
}

/// Says why something about a box was refused.
pub(crate) fn refusal(error: &EnrolError) -> Problem {
    let detail = error.to_string();
    match error {
        EnrolError::TooMany { .. } => Problem::later("too_many_tries", detail),
        EnrolError::WrongCode => Problem::refused("wrong_code", "code", detail),
        EnrolError::Spent => Problem::refused("spent_code", "code", detail),
        EnrolError::NotAllowed { .. } => Problem::forbidden("not_allowed", detail),
        EnrolError::SamePerson => Problem::forbidden("second_person_needed", detail),
        EnrolError::WrongState { .. } => Problem::conflict("wrong_state", detail),
        EnrolError::Replayed => Problem::conflict("replayed", detail),
        EnrolError::TooLate { .. } => Problem::forbidden("expired_too_long_ago", detail),
        EnrolError::OldCertificate => Problem::conflict("old_certificate", detail),
    }
}
