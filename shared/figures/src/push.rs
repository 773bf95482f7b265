//! Pushing: OTLP over HTTP with protobuf (the protocol's specification, "OTLP/HTTP").

use std::error::Error;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::time::MissedTickBehavior;

use crate::otlp::{Resource, left_out};
use crate::page::Page;

/// A push may take so long, and no longer than the time between two.
const LONGEST_PUSH: Duration = Duration::from_secs(10);
/// So long is waited at most because a collector asks for it.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);
/// Of an answer that is no longer, its words are read.
const LONGEST_ANSWER: usize = 16 * 1024;

/// `[otlp]`: a collector of OpenTelemetry, to which the figures of `/metrics` are pushed.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OtlpConfig {
    /// Its address for OTLP over HTTP, such as `https://collector.example:4318`; `http` only on this machine.
    pub endpoint: String,
    /// Who signed its certificate, PEM.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// A file with the token that it asks for, readable by its owner only.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// The time between two pushes, 5 seconds to an hour.
    #[serde(default = "a_minute", with = "humantime_serde")]
    pub period: Duration,
}

fn a_minute() -> Duration {
    Duration::from_secs(60)
}

/// Why nothing can be pushed.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// A value makes no sense.
    #[error("[otlp] {0}")]
    Value(String),
    /// The token cannot be read.
    #[error("[otlp] token_file: cannot read `{path}`")]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl OtlpConfig {
    /// Checks the values, and takes relative paths from `base`.
    ///
    /// # Errors
    /// [`OtlpError::Value`].
    pub fn settle(&mut self, base: &Path) -> Result<(), OtlpError> {
        let endpoint = &self.endpoint;
        let host = |scheme| Some(endpoint.strip_prefix(scheme)?.split('/').next().unwrap_or_default());
        let here = |host: &str| {
            ["127.0.0.1", "[::1]", "localhost"]
                .contains(&host.rsplit_once(':').map_or(host, |(host, _)| host))
        };
        let good = match (host("https://"), host("http://")) {
            (Some(host), _) => !host.is_empty(),
            (None, Some(host)) => here(host),
            (None, None) => false,
        };
        if !good {
            let text =
                format!("endpoint = `{endpoint}`: it begins with https:// (http:// only for this machine)");
            return Err(OtlpError::Value(text));
        }
        if !(Duration::from_secs(5)..=Duration::from_secs(3_600)).contains(&self.period) {
            return Err(OtlpError::Value("period: 5 seconds to an hour".to_owned()));
        }
        for path in [&mut self.ca, &mut self.token_file].into_iter().flatten() {
            *path = base.join(&*path);
        }
        Ok(())
    }

    /// Reads the token, if there is one.
    ///
    /// # Errors
    /// [`OtlpError::Token`], also when others on the machine can read it.
    pub fn pusher(&self, client: Client, who: Resource) -> Result<Pusher, OtlpError> {
        let token = match &self.token_file {
            None => None,
            Some(path) => {
                let cannot = |source| OtlpError::Token { path: path.clone(), source };
                if fs::metadata(path).map_err(cannot)?.mode() & 0o077 != 0 {
                    return Err(cannot(io::Error::other("others can read it: run `chmod 600` on it")));
                }
                let text = format!("Bearer {}", fs::read_to_string(path).map_err(cannot)?.trim());
                let mut value = HeaderValue::try_from(text)
                    .map_err(|_| cannot(io::Error::other("it is no token: one line of ASCII is")))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let base = self.endpoint.trim_end_matches('/');
        let url = if base.ends_with("/v1/metrics") { base.to_owned() } else { format!("{base}/v1/metrics") };
        Ok(Pusher { client, url, token, who, period: self.period })
    }
}

/// Who pushes: where to, as whom, how often.
#[derive(Clone, Debug)]
pub struct Pusher {
    client: Client,
    url: String,
    token: Option<HeaderValue>,
    who: Resource,
    period: Duration,
}

/// Pushes for ever what `figures` says at each moment, or why it cannot say it.
///
/// A collector that is away is told of once, with what to do, and once more when it is back. Nothing is kept for it.
pub async fn push<F>(pusher: Pusher, mut figures: impl FnMut() -> F)
where
    F: Future<Output = Result<(Page, Timestamp), String>>,
{
    // Boxes that were switched on by the same fuse must not push in the same instant.
    tokio::time::sleep(pusher.period.mul_f32(rand::random::<f32>())).await;
    let mut due = tokio::time::interval(pusher.period);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut standing = Standing::default();
    loop {
        due.tick().await;
        let done = match figures().await {
            Ok((page, at)) => pusher.once(&page, at).await,
            Err(why) => Err(Failure::Figures(why)),
        };
        match standing.note(&done) {
            Some(Say::Failing(why)) => tracing::warn!("No figures reach the collector: {why}"),
            Some(Say::Back(missed)) => tracing::info!(missed, "Figures reach the collector again"),
            None => {}
        }
        if let Err(Failure::Busy { wait: Some(wait), .. }) = done {
            tokio::time::sleep(wait.min(LONGEST_WAIT)).await;
        }
    }
}

impl Pusher {
    async fn once(&self, page: &Page, at: Timestamp) -> Result<(), Failure> {
        let request = self
            .client
            .post(&self.url)
            .header(CONTENT_TYPE, "application/x-protobuf")
            .timeout(LONGEST_PUSH.min(self.period))
            .body(page.otlp(&self.who, at));
        let request = match &self.token {
            Some(token) => request.header(AUTHORIZATION, token),
            None => request,
        };
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return match left_out(&words(response).await) {
                Some((count, message)) => Err(Failure::Part { count, message }),
                None => Ok(()),
            };
        }
        if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE {
            let wait =
                response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            return Err(Failure::Busy { url: self.url.clone(), wait: wait.map(Duration::from_secs) });
        }
        Err(Failure::Refused { url: self.url.clone(), status: status.as_u16() })
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let mut why = String::new();
        let mut cause = error.source();
        while let Some(error) = cause {
            why = format!("{why}: {error}");
            cause = error.source();
        }
        Failure::Unreachable { url: self.url.clone(), why }
    }
}

/// The answer, as far as it is read.
async fn words(mut response: Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        bytes.extend_from_slice(&piece);
        if bytes.len() > LONGEST_ANSWER {
            break;
        }
    }
    bytes
}

/// Why a push came to nothing.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(
        "{url} cannot be reached{why}; is a collector running there, and is 4318 or what stands in `[otlp] endpoint` its \
         port for OTLP over HTTP?"
    )]
    Unreachable { url: String, why: String },
    #[error("{url} has too much to do")]
    Busy { url: String, wait: Option<Duration> },
    #[error("{url} answered {status}: {}", advice(*.status))]
    Refused { url: String, status: u16 },
    #[error("the collector left out {count} of them: {message}")]
    Part { count: i64, message: String },
    #[error("there are none: {0}")]
    Figures(String),
}

fn advice(status: u16) -> &'static str {
    match status {
        401 | 403 => "it wants another token; see `[otlp] token_file`",
        404 | 405 => {
            "`[otlp] endpoint` is its address without `/v1/metrics`, of its port for OTLP over HTTP (mostly 4318)"
        }
        415 => "that port does not take protobuf over HTTP; 4317 is mostly for gRPC, 4318 for HTTP",
        _ => "its log says why",
    }
}

/// Whether pushes arrive, so that only a change is told.
#[derive(Debug, Default)]
struct Standing {
    missed: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Say {
    Failing(String),
    Back(u64),
}

impl Standing {
    /// Takes what became of a push; returns what is to be said of it.
    fn note(&mut self, done: &Result<(), Failure>) -> Option<Say> {
        match done {
            Err(why) => {
                self.missed += 1;
                (self.missed == 1).then(|| Say::Failing(why.to_string()))
            }
            Ok(()) => {
                let missed = std::mem::take(&mut self.missed);
                (missed > 0).then_some(Say::Back(missed))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn read(text: &str) -> Result<OtlpConfig, String> {
        let mut config: OtlpConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        config.settle(Path::new("/etc/x")).map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn a_collector_is_named_by_https_and_by_http_only_on_this_machine() {
        let config = read("endpoint = \"https://c:4318\"\nca = \"ca.pem\"\nperiod = \"15s\"").unwrap();
        assert_eq!((config.period, config.ca.unwrap()), (Duration::from_secs(15), "/etc/x/ca.pem".into()));
        for good in
            ["http://localhost:4318", "http://127.0.0.1:4318/", "http://[::1]:4318", "https://c/v1/metrics"]
        {
            read(&format!("endpoint = \"{good}\"")).unwrap();
        }
        for (wrong, said) in [
            ("endpoint = \"http://c:4318\"", "https://"),
            ("endpoint = \"http://127.0.0.1.evil:4318\"", "https://"),
            ("endpoint = \"c:4318\"", "https://"),
            ("endpoint = \"https://\"", "https://"),
            ("endpoint = \"https://c\"\nperiod = \"1s\"", "period"),
            ("endpoint = \"https://c\"\nperoid = \"9s\"", "peroid"),
        ] {
            assert!(read(wrong).unwrap_err().contains(said), "{wrong}");
        }
    }

    #[test]
    fn a_token_that_others_can_read_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "secret\n").unwrap();
        let config =
            read(&format!("endpoint = \"http://localhost\"\ntoken_file = \"{}\"", path.display())).unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let pusher = || {
            let who = Resource { service: "x", instance: "y".into(), version: "1".into() };
            config.pusher(Client::new(), who)
        };
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(pusher().is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let made = pusher().unwrap();
        assert_eq!(
            (made.token.as_ref().unwrap(), made.url.as_str()),
            (&"Bearer secret".parse().unwrap(), "http://localhost/v1/metrics")
        );
        assert!(!format!("{made:?}").contains("secret"));
    }

    #[test]
    fn a_collector_that_is_away_is_told_of_once_and_once_when_it_is_back() {
        let mut standing = Standing::default();
        let away = || Err(Failure::Refused { url: "https://c".into(), status: 401 });
        let Some(Say::Failing(why)) = standing.note(&away()) else { panic!("it is told") };
        assert!(why.contains("token_file"), "{why}");
        for _ in 0..10 {
            assert_eq!(standing.note(&away()), None);
        }
        assert_eq!(standing.note(&Ok(())), Some(Say::Back(11)));
        assert_eq!(standing.note(&Ok(())), None);
    }
}
