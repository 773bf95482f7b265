//! A collector over real TLS, that is away, comes back and is asked as OTLP says; and what it got, read by the messages of
//! OpenTelemetry's own package for Python.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use rustls::pki_types::PrivateKeyDer;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use trunkline_figures::{OtlpConfig, Page, Resource, push};

/// What came with one request.
struct Asked {
    head: String,
    body: Vec<u8>,
}

struct Authority {
    acceptor: TlsAcceptor,
    cert: reqwest::Certificate,
}

impl Authority {
    fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let key = rcgen::KeyPair::generate().unwrap();
        let own =
            rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
        let cert = reqwest::Certificate::from_pem(own.pem().as_bytes()).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![own.der().clone()], key).unwrap();
        Self { acceptor: TlsAcceptor::from(Arc::new(config)), cert }
    }

    fn client(&self) -> reqwest::Client {
        reqwest::Client::builder().tls_certs_only([self.cert.clone()]).no_proxy().build().unwrap()
    }

    /// Answers each request with the next of these, and with the last for ever; `asked` hears of each.
    async fn collect(self, at: SocketAddr, answers: &'static [&'static str], asked: mpsc::Sender<Asked>) {
        let listener = TcpListener::bind(at).await.unwrap();
        let mut answers = answers.iter();
        let mut answer = answers.next().unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = self.acceptor.accept(stream).await else { continue };
            let (mut read, mut piece) = (Vec::new(), [0; 4_096]);
            let request = loop {
                let count = stream.read(&mut piece).await.unwrap();
                assert!(count > 0, "the request is cut off");
                read.extend_from_slice(&piece[..count]);
                let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
                let head = String::from_utf8(read[..end].to_vec()).unwrap().to_ascii_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                if read.len() == end + 4 + length.parse::<usize>().unwrap() {
                    break Asked { head, body: read[end + 4..].to_vec() };
                }
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            answer = answers.next().unwrap_or(answer);
            if asked.send(request).await.is_err() {
                return;
            }
        }
    }
}

const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const BUSY: &str = "HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

fn page(round: u64) -> Page {
    let mut page = Page::default();
    page.figure("trunkline_round_seconds", "Which round it is.", Some(round as f64));
    page.family("trunkline_boxes", "Boxes.", "state", [("waiting", Some(0.0)), ("issued", Some(2.5))]);
    page.figure("trunkline_unknown", "Not known now.", None);
    page
}

fn who() -> Resource {
    Resource { service: "trunkline-edge", instance: "tl-7q2k".into(), version: "1.4.2".into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_was_away_gets_the_newest_figures_only() {
    let authority = Authority::new();
    let at = std::net::SocketAddr::from(([127, 0, 0, 1], trunkline_ports::free_port()));
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "secret\n").unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let config = OtlpConfig {
        endpoint: format!("https://{at}"),
        ca: None,
        token_file: Some(token),
        period: Duration::from_millis(20),
    };
    let pusher = config.pusher(authority.client(), who()).unwrap();
    let rounds = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&rounds);
    let pushing = tokio::spawn(push(pusher, move || {
        let round = count.fetch_add(1, Ordering::SeqCst);
        async move { Ok((page(round), Timestamp::UNIX_EPOCH)) }
    }));
    while rounds.load(Ordering::SeqCst) < 10 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (asked, mut heard) = mpsc::channel(1);
    let collecting = tokio::spawn(authority.collect(at, &[BUSY, FINE], asked));
    let mut last = 9;
    for _ in 0..5 {
        let Asked { head, body } = heard.recv().await.unwrap();
        for line in [
            "post /v1/metrics http/1.1",
            "content-type: application/x-protobuf",
            "authorization: bearer secret",
        ] {
            assert!(head.contains(line), "{line}: {head}");
        }
        let round = (0..=rounds.load(Ordering::SeqCst))
            .rev()
            .find(|round| page(*round).otlp(&who(), Timestamp::UNIX_EPOCH) == body);
        let round = round.expect("the page of one round");
        assert!(round > last, "{round} after {last}: nothing is sent late or twice");
        last = round;
    }
    pushing.abort();
    collecting.abort();
}

/// Python with OpenTelemetry's messages: where `deploy/test` puts it, or where the environment says.
fn python() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    let found = variable("TRUNKLINE_OTLP_PYTHON")
        .or_else(|| cache.map(|cache| cache.join("trunkline/opentelemetry/bin/python")))
        .filter(|path| path.is_file());
    if found.is_none() {
        println!("skipped: OpenTelemetry's messages missing, run deploy/test packages");
        assert_ne!(
            std::env::var("TRUNKLINE_REQUIRE_PEERS").as_deref(),
            Ok("1"),
            "the peers are required here"
        );
    }
    found
}

/// Prints the request as JSON, and nothing if a field in it has a number that OpenTelemetry does not know.
const READ: &str = "
import sys
from google.protobuf.json_format import MessageToJson
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest as Request
request = Request.FromString(sys.stdin.buffer.read())
known = Request.FromString(request.SerializeToString())
known.DiscardUnknownFields()
assert known == request and known.ByteSize() == request.ByteSize(), 'unknown fields'
print(MessageToJson(request, preserving_proto_field_name=True))
";

#[test]
fn opentelemetrys_own_messages_read_the_figures_that_prometheus_reads() {
    let Some(python) = python() else { return };
    let at: Timestamp = "2026-11-23T19:58:25.5Z".parse().unwrap();
    let mut child =
        Command::new(python).args(["-c", READ]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&page(7).otlp(&who(), at)).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success());
    let read: Value = serde_json::from_slice(&done.stdout).unwrap();
    let resource = &read["resource_metrics"][0];
    let named: Vec<_> = resource["resource"]["attributes"].as_array().unwrap().iter().collect();
    let named = named
        .iter()
        .map(|one| (one["key"].as_str().unwrap(), one["value"]["string_value"].as_str().unwrap()));
    assert_eq!(
        named.collect::<Vec<_>>(),
        [
            ("service.name", "trunkline-edge"),
            ("service.instance.id", "tl-7q2k"),
            ("service.version", "1.4.2")
        ]
    );
    let scope = &resource["scope_metrics"][0];
    assert_eq!(scope["scope"]["name"], "trunkline");
    let mut lines = BTreeSet::new();
    for metric in scope["metrics"].as_array().unwrap() {
        let name = metric["name"].as_str().unwrap();
        assert_eq!(metric["unit"].as_str(), name.ends_with("_seconds").then_some("s"));
        for point in metric["gauge"]["data_points"].as_array().unwrap() {
            assert_eq!(point["time_unix_nano"], at.as_nanosecond().to_string());
            let label = point["attributes"].as_array().map_or(String::new(), |labels| {
                let (key, value) = (&labels[0]["key"], &labels[0]["value"]["string_value"]);
                format!("{{{}={value}}}", key.as_str().unwrap())
            });
            lines.insert(format!("{name}{label} {}", point["as_double"].as_f64().unwrap()));
        }
    }
    let text = page(7).prometheus();
    assert_eq!(lines, text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect());
}
