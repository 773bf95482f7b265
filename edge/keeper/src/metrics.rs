//! `GET /metrics` for whoever watches this one box (Prometheus text format 0.0.4), on an address of the machine itself; and
//! the same figures pushed to a collector of OpenTelemetry.
//!
//! Off unless `[metrics]` and `[otlp]` say where. What the fleet's headquarters sees of all boxes is at the cloud's `/metrics`; here
//! are the figures that change by the second. Labels have few values and name nobody.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use trunkline_figures::{OtlpConfig, Page, Pusher, Resource};
use trunkline_wire::Reported;

use crate::calls::{Figures, Standing};
use crate::cloud::CloudError;
use crate::keep::KeepError;

/// So many may ask at the same time; more are turned away.
const AT_ONCE: usize = 8;
/// A request that does not come within this time is none.
const REQUEST: Duration = Duration::from_secs(5);
const LONGEST_REQUEST: usize = 4 * 1024;

/// What the figures are taken from.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) report: watch::Receiver<Reported>,
    pub(crate) standing: watch::Receiver<Standing>,
    pub(crate) linked: watch::Receiver<bool>,
}

/// Answers for ever. An address that cannot be had is said, and costs nothing else.
pub(crate) async fn serve(at: SocketAddr, watched: Watched) {
    match TcpListener::bind(at).await {
        Ok(listener) => answer_all(listener, watched).await,
        Err(error) => tracing::error!(%at, %error, "Figures cannot be served: [metrics] listen"),
    }
}

async fn answer_all(listener: TcpListener, watched: Watched) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Too many open files, say: it passes.
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else { continue };
        let watched = watched.clone();
        tokio::spawn(async move {
            let _ = tokio::time::timeout(REQUEST, answer(stream, &watched)).await;
            drop(permit);
        });
    }
}

async fn answer(mut stream: TcpStream, watched: &Watched) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut piece = [0; 1_024];
    while !request.windows(4).any(|four| four == b"\r\n\r\n") && request.len() < LONGEST_REQUEST {
        match stream.read(&mut piece).await? {
            0 => return Ok(()),
            read => request.extend_from_slice(&piece[..read]),
        }
    }
    let (status, body) = if request.starts_with(b"GET /metrics ") {
        ("200 OK", watched.page().prometheus())
    } else {
        ("404 Not Found", "figures are at /metrics\n".to_owned())
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// Returns who pushes them to a collector. Over `http` no TLS is spoken, which the configuration allows on this machine only.
pub(crate) fn pusher(config: &OtlpConfig, tls: &ClientConfig, who: Resource) -> Result<Pusher, KeepError> {
    let client = Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(REQUEST)
        .build()
        .map_err(CloudError::Network)?;
    Ok(config.pusher(client, who)?)
}

impl Watched {
    /// Returns the figures of now.
    pub(crate) fn page(&self) -> Page {
        let figures = match &*self.standing.borrow() {
            Standing::Up(state) => state.figures.clone(),
            Standing::Starting | Standing::Down(_) => None,
        };
        page(&self.report.borrow(), figures.as_ref(), *self.linked.borrow())
    }
}

/// The page. A figure that the box does not have is not on it.
fn page(report: &Reported, figures: Option<&Figures>, linked: bool) -> Page {
    let mut page = Page::default();
    let calls = report.calls.clone().unwrap_or_default();
    let health = report.health.clone().unwrap_or_default();
    let is = |yes: bool| Some(f64::from(u8::from(yes)));
    let of = |count: usize| Some(count as f64);
    page.family(
        "trunkline_box_linked",
        "Links to headquarters that stand.",
        "link",
        [("keeper", is(linked)), ("calls", figures.and_then(|figures| is(figures.linked)))],
    );
    page.figure("trunkline_box_up", "The program for calls runs.", is(calls.state == "up"));
    page.figure("trunkline_box_draining", "No new calls are taken.", is(calls.draining));
    page.family(
        "trunkline_box_calls",
        "Calls under way, and how many there may be.",
        "state",
        [
            ("under_way", Some(f64::from(calls.calls))),
            ("channels", figures.map(|figures| f64::from(figures.channels))),
        ],
    );
    let up = calls.trunks.iter().filter(|trunk| trunk.up).count();
    page.family(
        "trunkline_box_trunks",
        "Trunks by whether they take calls.",
        "state",
        [("up", of(up)), ("down", of(calls.trunks.len() - up))],
    );
    page.figure(
        "trunkline_box_lateness_seconds",
        "The greatest lateness of the thread that moves all sound, within 15 s.",
        figures.map(|figures| figures.late_us as f64 / 1e6),
    );
    page.family(
        "trunkline_box_recogniser",
        "Threads of the recogniser, those at work, and utterances that wait.",
        "state",
        [
            ("threads", figures.map(|figures| f64::from(figures.workers))),
            ("busy", figures.map(|figures| f64::from(figures.busy))),
            ("waiting", figures.map(|figures| f64::from(figures.queued))),
        ],
    );
    page.family(
        "trunkline_box_recognition_seconds",
        "What one more utterance would wait, and what one takes.",
        "part",
        [
            ("wait", figures.map(|figures| f64::from(figures.wait_ms) / 1e3)),
            ("run", figures.map(|figures| f64::from(figures.run_ms) / 1e3)),
        ],
    );
    page.figure(
        "trunkline_box_outbox_events",
        "Events that headquarters has not acknowledged.",
        figures.map(|figures| figures.backlog as f64),
    );
    let stages = report.components.iter().map(|part| (part["stage"].as_str().unwrap_or("other"), Some(1.0)));
    page.family("trunkline_box_update", "Components by how far their update is.", "stage", stages);
    let mib = |mib: Option<u64>| mib.map(|mib| mib as f64 * 1_048_576.0);
    page.family(
        "trunkline_box_free_bytes",
        "Room on the disk with the box's data, and memory.",
        "of",
        [("disk", mib(health.disk_free_mib)), ("memory", mib(health.memory_free_mib))],
    );
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;
    use trunkline_wire::{CallsReport, Health, TrunkReport};

    use super::*;
    use crate::CallsState;

    fn report() -> Reported {
        let trunk = |up| TrunkReport { name: "carrier-a".into(), up, ..TrunkReport::default() };
        Reported {
            calls: Some(CallsReport {
                state: "up".into(),
                calls: 3,
                trunks: vec![trunk(true), trunk(false)],
                ..CallsReport::default()
            }),
            components: ["app", "models"].map(|name| json!({"component": name, "stage": "committed"})).into(),
            health: Some(Health { disk_free_mib: Some(2), ..Health::default() }),
            ..Reported::default()
        }
    }

    fn figures() -> Figures {
        Figures {
            channels: 4,
            linked: true,
            late_us: 1_500,
            workers: 2,
            busy: 1,
            queued: 5,
            wait_ms: 250,
            run_ms: 180,
            backlog: 7,
        }
    }

    #[tokio::test]
    async fn prometheus_is_answered_and_what_is_drawn_and_what_there_is_are_the_same() {
        let (_report, report) = watch::channel(report());
        let state = CallsState { ready: true, figures: Some(figures()), ..CallsState::default() };
        let (_standing, standing) = watch::channel(Standing::Up(state));
        let (_linked, linked) = watch::channel(true);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let serving = tokio::spawn(answer_all(listener, Watched { report, standing, linked }));
        let ask = async |request: &str| {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            text
        };
        let text = ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        for line in [
            "trunkline_box_calls{state=\"under_way\"} 3",
            "trunkline_box_calls{state=\"channels\"} 4",
            "trunkline_box_trunks{state=\"down\"} 1",
            "trunkline_box_lateness_seconds 0.0015",
            "trunkline_box_recogniser{state=\"waiting\"} 5",
            "trunkline_box_recognition_seconds{part=\"wait\"} 0.25",
            "trunkline_box_outbox_events 7",
            "trunkline_box_update{stage=\"committed\"} 2",
            "trunkline_box_free_bytes{of=\"disk\"} 2097152",
            "trunkline_box_linked{link=\"keeper\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("carrier-a") && !text.contains("of=\"memory\""));
        assert!(ask("POST / HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 404"));
        // Whoever says nothing, or too much, holds nobody up.
        let _mute = TcpStream::connect(at).await.unwrap();
        assert!(ask(&"x".repeat(LONGEST_REQUEST)).await.starts_with("HTTP/1.1 404"));
        serving.abort();

        let names = |text: &str| -> BTreeSet<String> {
            let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            words.filter(|word| word.starts_with("trunkline_box_")).map(str::to_owned).collect()
        };
        assert_eq!(names(include_str!("../../../deploy/grafana/box.json")), names(&text));
    }

    #[test]
    fn a_box_without_calls_has_fewer_figures() {
        let page = page(&Reported::default(), None, false).prometheus();
        assert!(page.contains("trunkline_box_up 0\n") && !page.contains("trunkline_box_outbox_events 0"));
    }
}
