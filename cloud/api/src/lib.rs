//! The HTTP API: calls, scripts, the fleet, the console page, and what boxes fetch.
//!
//! Handlers check, ask the database and tell the worker; they decide nothing about a call. Callers
//! show a bearer token, boxes a client certificate. Errors are problem documents (RFC 9457) with a
//! `code` that programs can rely on.
//!
//! **Invariant:** a token is compared by its SHA-256 and stored nowhere else; it opens what its scopes name.
//! **Invariant:** nothing is changed that is not in the audit log first.
//! **Invariant:** nobody but a box with a good certificate reads or changes anything below `/box/`, except to
//! ask for its first one.
//! **Invariant:** no call is stored that the gate does not permit, and each decision has its receipt.
//! **Invariant:** a TCP peer that says nothing delays nobody: handshakes run beside the accept loop.
//!
//! Absent on purpose: SQL (`cloud/db`), dispatching and callbacks (`cloud/worker`).

mod alerts;
mod audit;
mod auth;
mod authority;
mod boxes;
mod callbacks;
mod calls;
mod campaigns;
mod console;
mod contacts;
mod enrol;
mod experiments;
mod fleet;
mod import;
mod keys;
mod lists;
mod metrics;
mod numbers;
mod orders;
mod problem;
mod query;
mod rate;
mod receipts;
mod records;
mod repo;
mod rollouts;
mod scope;
mod scripts;
mod sent;
mod stream;
mod suppression;
mod tls;

#[cfg(test)]
mod fleet_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use jiff::Timestamp;
use trunkline_db::Db;
use trunkline_wire::MAX_ORDER_PART;
use trunkline_worker::{Engine, Gate, Hub, Scripts, Wakers, WordLists};

pub use authority::{Authority, AuthorityError};
pub use fleet::Fleet;
pub use metrics::{OpenFiles, figures};
pub use problem::Problem;
pub use rate::{Buckets, Rate};
pub use tls::{Connection, Peer, TlsListener, TlsSetupError, server_config};

/// The largest request body, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// What the handlers share.
#[derive(Clone)]
pub struct Api {
    /// The database.
    pub db: Db,
    /// The scripts.
    pub scripts: Arc<Scripts>,
    /// The understanding, trained for each script that is published.
    pub engine: Arc<Engine>,
    /// Who may be called.
    pub gate: Arc<Gate>,
    /// The word lists in force, as the worker has them.
    pub words: Arc<WordLists>,
    /// What time it is; tests have their own.
    pub clock: fn() -> Timestamp,
    /// What each token has spent.
    pub buckets: Buckets,
    /// The files that this process has open.
    pub files: Arc<OpenFiles>,
    /// Says which calls changed.
    pub hub: Hub,
    /// Wakes the worker.
    pub wakers: Wakers,
    /// Who may do what in the fleet, and with which keys.
    pub fleet: Fleet,
    /// Settings.
    pub config: ApiConfig,
}

/// Settings of the API.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// The deadline of a call that names none.
    pub not_after: Duration,
    /// Callbacks are configured.
    pub callbacks: bool,
    /// Callbacks may go to private addresses.
    pub allow_private: bool,
    /// How many requests a token may make.
    pub rate: Rate,
}

impl Api {
    /// Returns the routes. Serve them with `into_make_service_with_connect_info::<Peer>()`, so that
    /// boxes are recognised.
    pub fn router(self) -> Router {
        let api = Arc::new(self);
        Router::new()
            .route("/v1/calls", post(calls::create).get(calls::list))
            .route("/v1/calls/{id}", get(calls::show))
            .route("/v1/calls/{id}/cancel", post(calls::cancel))
            .route("/v1/calls/{id}/transfer", post(calls::transfer))
            .route("/v1/calls/{id}/supervise", post(calls::supervise))
            .route("/v1/calls/{id}/events", get(stream::events))
            .route("/v1/calls/{id}/receipt", get(receipts::of_call))
            .route("/v1/receipts", get(receipts::chain))
            .route("/v1/opt-outs", post(suppression::opt_out))
            .route("/v1/suppressions", post(suppression::extend).get(suppression::confirmations))
            .route("/v1/callbacks", get(callbacks::list))
            .route("/v1/callbacks/{id}/replay", post(callbacks::replay))
            .route("/v1/callback-endpoints", get(callbacks::endpoints))
            .route("/v1/callback-endpoints/enable", post(callbacks::enable))
            .route("/v1/campaigns", post(campaigns::create).get(campaigns::list))
            .route("/v1/campaigns/{id}", get(campaigns::show))
            .route("/v1/campaigns/{id}/contacts", post(contacts::import))
            .route("/v1/campaigns/{id}/lists", post(lists::add))
            .route("/v1/campaigns/{id}/copy", post(lists::copy))
            .route("/v1/campaigns/{id}/widen", post(campaigns::widen))
            .route("/v1/campaigns/{id}/preview", get(campaigns::preview))
            .route("/v1/campaigns/{id}/contacts/{n}/call", post(campaigns::call))
            .route("/v1/campaigns/{id}/contacts/{n}/skip", post(campaigns::skip))
            .route("/v1/lists", post(lists::create).get(lists::all))
            .route("/v1/lists/{id}", get(lists::show).delete(lists::remove))
            .route("/v1/lists/{id}/contacts", post(lists::import))
            .route("/v1/lists/{id}/contacts.csv", get(lists::export))
            .route("/v1/lists/{id}/imports", get(lists::imports))
            .route("/v1/campaigns/{id}/contacts.csv", get(contacts::export))
            .route("/v1/campaigns/{id}/imports", get(contacts::imports))
            .route("/v1/imports/{id}", get(contacts::progress))
            .route("/v1/imports/{id}/errors", get(contacts::import_errors))
            .route("/v1/campaigns/{id}/preflight", get(campaigns::before))
            .route("/v1/campaigns/{id}/people", put(campaigns::people))
            .route("/v1/campaigns/{id}/{command}", post(campaigns::command))
            .route("/v1/numbers", post(numbers::create).get(numbers::list))
            .route("/v1/numbers/{id}", get(numbers::show).put(numbers::change).delete(numbers::remove))
            .route("/v1/records", get(records::list))
            .route("/v1/records.csv", get(records::export))
            .route("/v1/keys", post(keys::create).get(keys::list))
            .route("/v1/keys/{id}", delete(keys::revoke))
            .route("/v1/audit", get(audit::list))
            .route("/v1/scripts", get(scripts::list).post(scripts::publish))
            .route("/v1/scripts/{id}", get(scripts::show))
            .route("/v1/scripts/{id}/versions/{version}", get(scripts::version))
            .route("/v1/experiments", get(experiments::list))
            .route("/v1/experiments/{id}/stop", post(experiments::stop))
            .route("/v1/boxes", get(boxes::list))
            .route("/v1/enrolments", get(fleet::enrolments))
            .route("/v1/enrolments/claim", post(fleet::claim))
            .route("/v1/enrolments/{id}/approve", post(fleet::approve))
            .route("/v1/enrolments/{id}/refuse", post(fleet::refuse))
            .route("/v1/fleet", get(fleet::list))
            .route("/v1/alerts", get(alerts::list))
            .route("/v1/alerts/{id}/silence", post(alerts::silence))
            .route("/v1/boxes/{id}", get(fleet::show))
            .route("/v1/boxes/{id}/revoke", post(fleet::revoke))
            .route("/v1/boxes/{id}/transfer", post(fleet::transfer))
            .route("/v1/boxes/{id}/desired", put(fleet::set_desired).get(fleet::desired))
            .route("/v1/boxes/{id}/history", get(fleet::history))
            .route("/v1/boxes/{id}/orders", post(orders::create).get(orders::list))
            .route("/v1/boxes/{id}/orders/{order}", get(orders::show))
            .route("/v1/boxes/{id}/orders/{order}/file", get(orders::file))
            .route("/v1/rollouts", post(rollouts::start).get(rollouts::list))
            .route("/v1/rollouts/{id}", get(rollouts::show))
            .route("/v1/rollouts/{id}/{command}", post(rollouts::command))
            .route("/box/v1/enrol", post(enrol::enrol))
            .route("/box/v1/renew", post(enrol::renew))
            .route("/box/v1/repo/{folder}/{name}", get(repo::file))
            .route("/box/v1/orders/{id}/file", post(orders::begin_file))
            .route(
                "/box/v1/orders/{id}/file/{at}",
                put(orders::add_part).layer(DefaultBodyLimit::max(MAX_ORDER_PART)),
            )
            .route("/box/v1/blobs/{sha256}", get(boxes::blob))
            .route("/metrics", get(metrics::scrape))
            .route("/console", get(console::page))
            .route("/openapi.json", get(console::openapi))
            .route("/healthz", get(health))
            .fallback(async || Problem::not_found("there is nothing at this address"))
            .method_not_allowed_fallback(async || Problem::method_not_allowed())
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .layer(axum::middleware::from_fn_with_state(Arc::clone(&api), audit::keep))
            .layer(axum::middleware::from_fn_with_state(Arc::clone(&api), rate::limit))
            .layer(axum::middleware::map_response(hardened))
            .with_state(api)
    }
}

async fn hardened(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn health(State(api): State<Arc<Api>>) -> Response {
    match api.db.ping().await {
        Ok(()) => axum::Json(serde_json::json!({ "status": "ok" })).into_response(),
        Err(error) => {
            tracing::error!(error = %problem::Chain(&error), "The database does not answer");
            let body = serde_json::json!({ "status": "the database does not answer" });
            (StatusCode::SERVICE_UNAVAILABLE, axum::Json(body)).into_response()
        }
    }
}
