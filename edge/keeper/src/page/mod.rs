//! The box's own page, for whoever stands before it: how it is, and why it does not work.
//!
//! - [`Page`] serves it over HTTP on the local network while the box has not joined, or always.
//! - `guard` decides who gets in: who knows the code on the label, and does not guess too often.
//! - `checks` looks at the line, names, the time and the way to the cloud.
//! - `view` writes it, in English and Chinese.
//!
//! **Invariant:** nothing can be changed from here, and no secret but the code that opened it is shown.

mod checks;
mod guard;
mod listener;
mod view;
mod words;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Query, State};
use axum::http::header::{
    ACCEPT_LANGUAGE, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, LOCATION, REFERRER_POLICY,
    RETRY_AFTER, SET_COOKIE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use trunkline_wire::Reported;

use crate::clock::Clock;
use crate::config::{Config, PageConfig};
use crate::identity::{Identity, IdentityError, life};
use checks::{Checks, Target};
use guard::{Guard, Verdict};
use listener::{Few, PeerAddress};
use view::Shown;
use words::Language;

/// What was looked at is good for so long: pages that are loaded again and again do no work.
const FRESH: Duration = Duration::from_secs(5);
const COOKIE_NAME: &str = "trunkline";

/// What the page shows of the keeper once the box has joined.
#[derive(Clone)]
pub(crate) struct Joined {
    pub(crate) linked: watch::Receiver<bool>,
    pub(crate) reports: watch::Receiver<Reported>,
}

/// The page while it is served; dropping it ends it.
pub(crate) struct Page {
    joined: watch::Sender<Option<Joined>>,
    serving: JoinHandle<()>,
    always: bool,
}

impl Drop for Page {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Desk {
    identity: Identity,
    clock: Clock,
    target: Target,
    guard: Mutex<Guard>,
    joined: watch::Receiver<Option<Joined>>,
    looked: tokio::sync::Mutex<Option<(Instant, Checks)>>,
}

impl Page {
    /// Serves the page where the configuration asks for it. That its port is taken stops no box.
    ///
    /// # Errors
    /// [`IdentityError`] when there is no code.
    pub(crate) async fn start(config: &Config, clock: &Clock) -> Result<Option<Self>, IdentityError> {
        let Some(PageConfig { listen, always }) = config.page.clone() else { return Ok(None) };
        let identity = Identity::open(&config.identity_dir(), &config.key)?;
        if !always && identity.certificate()?.is_some() {
            return Ok(None);
        }
        let code = identity.claim_code()?;
        let socket = match TcpListener::bind(listen).await {
            Ok(socket) => socket,
            Err(error) => {
                tracing::error!(%listen, %error, "The box's page cannot be served; the box goes on without it");
                return Ok(None);
            }
        };
        let address = socket.local_addr().unwrap_or(listen);
        tracing::info!(%address, "The box's page is at http://{address}");
        let (joined, joined_rx) = watch::channel(None);
        let desk = Desk {
            identity,
            clock: clock.clone(),
            target: Target::of(&config.cloud),
            guard: Mutex::new(Guard::new(code)),
            joined: joined_rx,
            looked: tokio::sync::Mutex::default(),
        };
        let service = router(Arc::new(desk)).into_make_service_with_connect_info::<PeerAddress>();
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(Few::new(socket), service).await {
                tracing::error!(%error, "The box's page is served no more");
            }
        });
        Ok(Some(Self { joined, serving, always }))
    }

    /// The box has joined: says how it is from now on. Returns nothing when the page was for joining only.
    pub(crate) fn joined(self, joined: Joined) -> Option<Self> {
        if !self.always {
            tracing::info!("The box has joined, and its page is served no more");
            return None;
        }
        self.joined.send_replace(Some(joined));
        Some(self)
    }
}

fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/", get(front))
        .route("/login", post(login))
        .route("/logout", post(logout))
        .route("/label.svg", get(label))
        .fallback(|| async { answer(StatusCode::NOT_FOUND, "text/plain", "not found\n".to_owned()) })
        .layer(DefaultBodyLimit::max(512))
        .with_state(desk)
}

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    lang: String,
}

async fn front(State(desk): State<Arc<Desk>>, Query(asked): Query<Asked>, headers: HeaderMap) -> Response {
    let language = Language::of(&asked.lang, text(&headers, &ACCEPT_LANGUAGE));
    if !desk.is_in(&headers) {
        return html(StatusCode::OK, view::login(language, None));
    }
    html(StatusCode::OK, view::status(language, &desk.shown().await))
}

async fn login(
    State(desk): State<Arc<Desk>>,
    ConnectInfo(from): ConnectInfo<PeerAddress>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let language = Language::of(&asked.lang, text(&headers, &ACCEPT_LANGUAGE));
    let typed = field(&body, "code").unwrap_or_default();
    let verdict = desk.guard().try_code(whole(from.0.ip()), &typed, Instant::now(), rand::random());
    match verdict {
        Verdict::In(token) => {
            let cookie = format!("{COOKIE_NAME}={token}; Path=/; HttpOnly; SameSite=Strict");
            let mut response = answer(StatusCode::SEE_OTHER, "text/plain", String::new());
            put(&mut response, SET_COOKIE, &cookie);
            put(&mut response, LOCATION, &format!("/?lang={}", language.code()));
            response
        }
        Verdict::Wrong => html(StatusCode::FORBIDDEN, view::login(language, Some(language.words().wrong))),
        Verdict::Wait(wait) => {
            let body = view::login(language, Some(language.words().wait));
            let mut response = html(StatusCode::TOO_MANY_REQUESTS, body);
            put(&mut response, RETRY_AFTER, &wait.as_secs().max(1).to_string());
            response
        }
    }
}

async fn logout(State(desk): State<Arc<Desk>>, headers: HeaderMap) -> Response {
    if let Some(token) = token(&headers) {
        desk.guard().leave(token);
    }
    let mut response = answer(StatusCode::SEE_OTHER, "text/plain", String::new());
    put(&mut response, SET_COOKIE, &format!("{COOKIE_NAME}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"));
    put(&mut response, LOCATION, "/");
    response
}

/// The label as a picture to scan, while the box waits to be claimed.
async fn label(State(desk): State<Arc<Desk>>, headers: HeaderMap) -> Response {
    let code = desk.identity.claim_code().ok().filter(|_| desk.is_in(&headers) && !desk.has_joined());
    match code.and_then(|code| view::label(desk.identity.id(), &code)) {
        Some(svg) => answer(StatusCode::OK, "image/svg+xml", svg),
        None => answer(StatusCode::NOT_FOUND, "text/plain", "not found\n".to_owned()),
    }
}

impl Desk {
    fn guard(&self) -> std::sync::MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_in(&self, headers: &HeaderMap) -> bool {
        token(headers).is_some_and(|token| self.guard().is_in(token, Instant::now()))
    }

    fn has_joined(&self) -> bool {
        self.identity.certificate().is_ok_and(|certificate| certificate.is_some())
    }

    async fn shown(&self) -> Shown {
        let certificate = self.identity.certificate().ok().flatten();
        let joined = self.joined.borrow().clone();
        let code = self.identity.claim_code().ok().filter(|_| certificate.is_none());
        Shown {
            id: self.identity.id().clone(),
            code,
            until: certificate.as_deref().and_then(life).map(|life| life.until),
            now: self.clock.now(),
            linked: joined.as_ref().is_some_and(|joined| *joined.linked.borrow()),
            report: joined.map(|joined| joined.reports.borrow().clone()),
            checks: self.checks().await,
        }
    }

    /// Looks anew when the last look is old; whoever asks meanwhile waits for the same one.
    async fn checks(&self) -> Checks {
        let mut looked = self.looked.lock().await;
        if let Some((at, checks)) = looked.as_ref()
            && at.elapsed() < FRESH
        {
            return checks.clone();
        }
        let checks = checks::look(&self.target, &self.clock).await;
        *looked = Some((Instant::now(), checks.clone()));
        checks
    }
}

/// An IPv4 address that came as IPv6 counts as itself, and all addresses of one IPv6 network as one.
fn whole(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        ip @ IpAddr::V4(_) => ip,
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn token(headers: &HeaderMap) -> Option<&str> {
    text(headers, &COOKIE)
        .split(';')
        .find_map(|one| one.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('='))
        .filter(|token| !token.is_empty())
}

/// A field of a form; what is not of this form is nothing.
fn field(body: &[u8], name: &str) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let value = text.split('&').find_map(|one| one.strip_prefix(name)?.strip_prefix('='))?;
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn html(status: StatusCode, body: String) -> Response {
    answer(status, "text/html; charset=utf-8", body)
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> Response {
    let mut response = (status, body).into_response();
    for (name, value) in [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn put(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests;
