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
//! **Invariant:** nothing is served that `openapi.json` does not describe.
//!
//! Absent on purpose: SQL (`cloud/db`), dispatching and callbacks (`cloud/worker`).

mod alerts;
mod answer;
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
mod openapi;
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
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::response::Response;
use jiff::Timestamp;
use trunkline_db::Db;
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
        openapi::router()
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
