//! A cloud to test against: certificates, configuration, the process, a box and a CRM.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use ring::digest;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{LastWill, Packet, Publish, PublishProperties};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, MqttOptions};
use rumqttc::{TlsConfiguration, Transport};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;
use trunkline_model::BoxId;
use trunkline_wire::{DialCommand, DialReply, Envelope, WIRE_VERSION, topic};
use uuid::Uuid;

pub(crate) const TOKEN: &str = "a token for tests";
pub(crate) const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdef";
const WAIT: Duration = Duration::from_secs(20);

/// A certificate and its key, PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

/// A certificate authority.
pub(crate) struct Ca {
    pub(crate) cert: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test CA");
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap().pem();
        Self { cert, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, mut params: CertificateParams, name: Option<&str>) -> Pair {
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { cert, key: key.serialize_pem() }
    }

    pub(crate) fn server(&self) -> Pair {
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params, Some("localhost"))
    }

    /// A server's certificate that is valid since an hour ago.
    pub(crate) fn young_server(&self) -> Pair {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let hour_ago = Timestamp::now().as_second() - 3_600;
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(hour_ago as u64);
        self.sign(params, Some("localhost"))
    }

    /// The authority of the boxes, signed by this one.
    pub(crate) fn intermediate(&self) -> Pair {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        self.sign(params, Some("boxes"))
    }

    pub(crate) fn client(&self, name: Option<&str>) -> Pair {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, name)
    }
}

/// A folder with all that a cloud needs.
pub(crate) struct Site {
    pub(crate) dir: TempDir,
    pub(crate) ca: Ca,
}

impl Site {
    pub(crate) fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let site = Self { dir: tempfile::tempdir().unwrap(), ca: Ca::new() };
        let server = site.ca.server();
        site.write("ca.pem", &site.ca.cert);
        site.write("server.pem", &server.cert);
        site.write("server.key", &server.key);
        let sha256 = hex::encode(digest::digest(&digest::SHA256, TOKEN.as_bytes()));
        site.write("tokens", &format!("# for tests\ncrm {sha256}\n"));
        let secret = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, SECRET);
        site.write("secret", &format!("whsec_{secret}\n"));
        site.write("cloud.toml", &site.config("127.0.0.1:0", "127.0.0.1:0"));
        site
    }

    /// The same with the encoder; `None` where the model is not there and need not be.
    pub(crate) fn with_encoder() -> Option<Self> {
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let dir = variable("TRUNKLINE_MODELS")
            .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("trunkline/models")))
            .or_else(|| variable("HOME").map(|home| home.join(".cache/trunkline/models")))?;
        if !dir.join("e5-small-q4.bin").exists() {
            assert!(std::env::var("TRUNKLINE_REQUIRE_MODELS").as_deref() != Ok("1"), "the model is required");
            println!("skipped: model e5-small-q4.bin missing, run deploy/get-models");
            return None;
        }
        let site = Self::new();
        let config = site.config("127.0.0.1:0", "127.0.0.1:0").replace("no-models", dir.to_str()?);
        site.write("cloud.toml", &config.replace("optional = true", "optional = false"));
        Some(site)
    }

    pub(crate) fn config(&self, api: &str, mqtt: &str) -> String {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/scripts");
        format!(
            r#"
            data_dir = "data"
            [api]
            listen = "{api}"
            cert = "server.pem"
            key = "server.key"
            client_ca = "ca.pem"
            [mqtt]
            listen = "{mqtt}"
            cert = "server.pem"
            key = "server.key"
            client_ca = "ca.pem"
            [scripts]
            dir = "{}"
            [tokens]
            file = "tokens"
            [callbacks]
            secret_file = "secret"
            allow_private = true
            [models]
            dir = "no-models"
            optional = true
            # The fake boxes' trunks reach nobody, and the number is of the range kept for fiction.
            [policy.lab]
            numbers = ["+15550100"]
            boxes = ["tl-a", "tl-b"]
            "#,
            scripts.display()
        )
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trunkline-cloud"));
        command.arg("--config").arg(self.dir.path().join("cloud.toml"));
        command
    }

    pub(crate) fn start(&self) -> Cloud {
        self.start_as(self.command())
    }

    /// Starts it so that it may open no more files than `limit`.
    pub(crate) fn start_with_files(&self, limit: u32) -> Cloud {
        let plain = self.command();
        let mut limited = Command::new("prlimit");
        limited.arg(format!("--nofile={limit}:{limit}")).arg(plain.get_program()).args(plain.get_args());
        self.start_as(limited)
    }

    fn start_as(&self, mut command: Command) -> Cloud {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("cloud.log"))
            .unwrap();
        let mut process = command.stdout(Stdio::piped()).stderr(log).spawn().expect("the binary starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = |key: &str| -> SocketAddr {
            let found = line.split_whitespace().find_map(|word| word.strip_prefix(key));
            found.unwrap_or_else(|| panic!("not ready: {line:?}\n{}", self.log())).parse().unwrap()
        };
        let (api, mqtt) = (address("api=https://"), address("mqtt="));
        let ca = reqwest::Certificate::from_pem(self.ca.cert.as_bytes()).unwrap();
        let http = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap();
        Cloud { process, api, mqtt, http }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("cloud.log")).unwrap_or_default()
    }

    /// An HTTP client that shows a certificate.
    pub(crate) fn http_as(&self, pair: &Pair) -> reqwest::Client {
        let ca = reqwest::Certificate::from_pem(self.ca.cert.as_bytes()).unwrap();
        let identity = reqwest::Identity::from_pem(format!("{}{}", pair.cert, pair.key).as_bytes()).unwrap();
        reqwest::Client::builder().tls_certs_only([ca]).identity(identity).no_proxy().build().unwrap()
    }
}

/// A running process.
pub(crate) struct Cloud {
    process: Child,
    pub(crate) api: SocketAddr,
    pub(crate) mqtt: SocketAddr,
    pub(crate) http: reqwest::Client,
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Cloud {
    /// As the kernel does it when memory is short.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Sends SIGTERM and returns whether the process ended well in time.
    pub(crate) async fn terminate(mut self) -> bool {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        for _ in 0..200 {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.success();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }

    /// The most memory that it has had, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.api)
    }

    /// Asks as somebody with this token.
    pub(crate) async fn ask(
        &self,
        token: &str,
        method: reqwest::Method,
        path: &str,
        body: &Value,
    ) -> (StatusCode, Value) {
        let request = self.http.request(method, self.url(path)).bearer_auth(token);
        let request = if body.is_null() { request } else { request.json(body) };
        let response = request.send().await.unwrap();
        (response.status(), response.json().await.unwrap_or_default())
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        let response = self.http.get(self.url(path)).bearer_auth(TOKEN).send().await.unwrap();
        (response.status(), response.json().await.unwrap_or_default())
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let response = self.http.post(self.url(path)).bearer_auth(TOKEN).json(body).send().await.unwrap();
        (response.status(), response.json().await.unwrap_or_default())
    }

    /// Waits until the call looks as it should.
    pub(crate) async fn call_when(&self, id: &str, what: &str, ready: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        for _ in 0..200 {
            (_, last) = self.get(&format!("/v1/calls/{id}")).await;
            if ready(&last) {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the call never was {what}: {last:#}");
    }
}

/// How a box connects.
#[derive(Clone)]
pub(crate) struct Connect<'a> {
    pub(crate) ca: &'a str,
    pub(crate) pair: Option<&'a Pair>,
    pub(crate) mqtt: SocketAddr,
    pub(crate) client_id: &'a str,
    pub(crate) user: Option<&'a str>,
    pub(crate) will: Option<LastWill>,
}

impl Connect<'_> {
    fn options(&self) -> MqttOptions {
        let mut options = MqttOptions::new(self.client_id, self.mqtt.ip().to_string(), self.mqtt.port());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes()).unwrap()).unwrap();
        let tls = rustls::ClientConfig::builder().with_root_certificates(roots);
        let tls = match self.pair {
            Some(pair) => {
                let chain = CertificateDer::pem_slice_iter(pair.cert.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                tls.with_client_auth_cert(chain.collect::<Result<_, _>>().unwrap(), key).unwrap()
            }
            None => tls.with_no_client_auth(),
        };
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(tls))));
        let mut network = options.network_options();
        network.set_tcp_nodelay(true);
        options.set_network_options(network);
        options.set_keep_alive(Duration::from_secs(10)).set_clean_start(false);
        options.set_session_expiry_interval(Some(600));
        options.set_max_packet_size(Some(300 * 1024));
        if let Some(user) = self.user {
            options.set_credentials(user, "x");
        }
        if let Some(will) = self.will.clone() {
            options.set_last_will(will);
        }
        options
    }

    /// Connects and returns the client and what comes in, or why it was refused.
    pub(crate) async fn open(&self) -> Result<Link, ConnectionError> {
        Self::begin(self.options()).await
    }

    /// The same, with a session that ends with the connection.
    pub(crate) async fn open_once(&self) -> Result<Link, ConnectionError> {
        let mut options = self.options();
        options.set_clean_start(true).set_session_expiry_interval(None);
        Self::begin(options).await
    }

    async fn begin(options: MqttOptions) -> Result<Link, ConnectionError> {
        let (client, mut events) = AsyncClient::new(options, 200);
        // Unbounded: acknowledgements that nobody reads must not stop the polling.
        let (sender, packets) = mpsc::unbounded_channel();
        loop {
            if let Event::Incoming(Packet::ConnAck(_)) = events.poll().await? {
                break;
            }
        }
        let polling = tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                if let Event::Incoming(packet) = event
                    && sender.send(packet).is_err()
                {
                    return;
                }
            }
        });
        Ok(Link { client, packets, polling })
    }
}

/// An MQTT connection that is polled in the background.
pub(crate) struct Link {
    pub(crate) client: AsyncClient,
    pub(crate) packets: mpsc::UnboundedReceiver<Packet>,
    polling: tokio::task::JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        // Without DISCONNECT, so that the will is published.
        self.polling.abort();
    }
}

impl Link {
    /// Returns the next packet that `pick` wants; `None` when none comes within `wait`.
    pub(crate) async fn next<T>(&mut self, wait: Duration, pick: impl Fn(Packet) -> Option<T>) -> Option<T> {
        let found = async {
            while let Some(packet) = self.packets.recv().await {
                if let Some(found) = pick(packet) {
                    return Some(found);
                }
            }
            None
        };
        tokio::time::timeout(wait, found).await.ok().flatten()
    }
}

/// A client that plays the box.
pub(crate) struct FakeBox {
    pub(crate) id: BoxId,
    pub(crate) link: Link,
    sess: u64,
    waiting: Vec<Publish>,
}

impl FakeBox {
    pub(crate) async fn connect(site: &Site, cloud: &Cloud, name: &str, sess: u64, channels: u32) -> Self {
        let id: BoxId = name.parse().unwrap();
        let pair = site.ca.client(Some(name));
        let will = envelope(&id, sess, 0, "conn", &json!({"online": false, "sess": sess}));
        let link = Connect {
            ca: &site.ca.cert,
            pair: Some(&pair),
            mqtt: cloud.mqtt,
            client_id: name,
            user: None,
            will: Some(LastWill::new(topic::conn(&id), will, QoS::AtLeastOnce, true, None)),
        }
        .open()
        .await
        .unwrap();
        for filter in [topic::ack(&id), topic::turn_res(&id), format!("tl/1/{id}/req/+")] {
            link.client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
        }
        let mut fake = Self { id, link, sess, waiting: Vec::new() };
        for _ in 0..3 {
            let granted = fake
                .link
                .next(WAIT, |packet| if let Packet::SubAck(ack) = packet { Some(ack) } else { None })
                .await
                .expect("an answer to SUBSCRIBE");
            let codes = format!("{:?}", granted.return_codes);
            assert!(codes.contains("Success"), "{codes}");
        }
        let birth = json!({"online": true, "sess": sess, "software": "fake 1", "channels": channels, "oldest": 1, "numbers": ""});
        fake.publish(&topic::conn(&fake.id.clone()), 0, "conn", &birth, QoS::AtLeastOnce, None).await;
        fake
    }

    /// Takes the next call that the cloud wants dialled.
    pub(crate) async fn dialled(&mut self) -> DialCommand {
        let (dial, _) = self.heard::<DialCommand>(&topic::req_dial(&self.id.clone())).await;
        self.reply(&DialReply { call: dial.body.call, accepted: true, reason: String::new(), busy: false })
            .await;
        dial.body
    }

    async fn publish(
        &self,
        to: &str,
        seq: u64,
        kind: &str,
        body: &impl Serialize,
        qos: QoS,
        correlation: Option<&str>,
    ) {
        let properties = PublishProperties {
            correlation_data: correlation.map(|data| Bytes::copy_from_slice(data.as_bytes())),
            response_topic: correlation.map(|_| topic::turn_res(&self.id)),
            ..PublishProperties::default()
        };
        self.link
            .client
            .publish_with_properties(
                to,
                qos,
                false,
                envelope(&self.id, self.sess, seq, kind, body),
                properties,
            )
            .await
            .unwrap();
    }

    pub(crate) async fn event(&self, seq: u64, kind: &str, body: &impl Serialize) {
        self.publish(&topic::evt_call(&self.id), seq, kind, body, QoS::AtLeastOnce, None).await;
    }

    pub(crate) async fn reply(&self, body: &impl Serialize) {
        self.publish(&topic::res(&self.id), 0, "dial.reply", body, QoS::AtLeastOnce, None).await;
    }

    /// Says how far it has the suppressions.
    pub(crate) async fn suppressed(&self, body: &impl Serialize) {
        self.publish(&topic::res_suppress(&self.id), 0, "suppress.reply", body, QoS::AtLeastOnce, None).await;
    }

    /// Says what it is, as its keeper does.
    pub(crate) async fn reported(&self, body: &impl Serialize) {
        let topic = topic::cfg_reported(&self.id);
        self.publish(&topic, 0, "cfg.reported", body, QoS::AtLeastOnce, None).await;
    }

    /// Says which table of numbers it has.
    pub(crate) async fn has_numbers(&self, body: &impl Serialize) {
        self.publish(&topic::res_numbers(&self.id), 0, "numbers.reply", body, QoS::AtLeastOnce, None).await;
    }

    pub(crate) async fn ask(&self, correlation: &str, body: &impl Serialize) {
        self.publish(&topic::turn(&self.id), 0, "turn", body, QoS::AtMostOnce, Some(correlation)).await;
    }

    /// Sends what is no turn where turns are sent.
    pub(crate) async fn ask_raw(&self, payload: &[u8]) {
        let topic = topic::turn(&self.id);
        self.link.client.publish(topic, QoS::AtMostOnce, false, payload.to_vec()).await.unwrap();
    }

    /// Returns the next message on a topic, and its correlation data.
    pub(crate) async fn heard<T: DeserializeOwned>(&mut self, on: &str) -> (Envelope<T>, Option<String>) {
        self.heard_within(on, WAIT).await.unwrap_or_else(|| panic!("nothing came on {on}"))
    }

    pub(crate) async fn heard_within<T: DeserializeOwned>(
        &mut self,
        on: &str,
        wait: Duration,
    ) -> Option<(Envelope<T>, Option<String>)> {
        let publish = match self.waiting.iter().position(|publish| publish.topic == on) {
            Some(at) => self.waiting.remove(at),
            None => {
                let deadline = tokio::time::Instant::now() + wait;
                loop {
                    let left = deadline.saturating_duration_since(tokio::time::Instant::now());
                    let next = self.link.next(left, |packet| {
                        if let Packet::Publish(publish) = packet { Some(publish) } else { None }
                    });
                    let publish = next.await?;
                    if publish.topic == on {
                        break publish;
                    }
                    self.waiting.push(publish);
                }
            }
        };
        let correlation = publish
            .properties
            .and_then(|properties| properties.correlation_data)
            .map(|data| String::from_utf8(data.to_vec()).unwrap());
        Some((serde_json::from_slice(&publish.payload).unwrap(), correlation))
    }
}

pub(crate) fn envelope(id: &BoxId, sess: u64, seq: u64, kind: &str, body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(&Envelope {
        v: WIRE_VERSION,
        id: Uuid::from_u64_pair(sess, seq),
        box_id: id.clone(),
        sess,
        seq,
        ts: Timestamp::now(),
        mono: 0,
        kind: kind.to_owned(),
        trace: String::new(),
        body,
    })
    .unwrap()
}

/// What came in at the CRM.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) id: String,
    pub(crate) timestamp: String,
    pub(crate) signature: String,
    pub(crate) body: String,
}

impl Received {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// An HTTP server that plays the CRM. It answers with the given statuses first, then with 200.
pub(crate) struct Crm {
    pub(crate) url: String,
    received: Arc<Mutex<Vec<Received>>>,
}

type CrmState = (Arc<Mutex<Vec<Received>>>, Arc<Mutex<Vec<u16>>>);

impl Crm {
    pub(crate) async fn start(mut statuses: Vec<u16>) -> Self {
        statuses.reverse();
        let received = Arc::new(Mutex::new(Vec::new()));
        let state: CrmState = (Arc::clone(&received), Arc::new(Mutex::new(statuses)));
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", socket.local_addr().unwrap());
        let router = Router::new().route("/hook", post(take)).with_state(state);
        tokio::spawn(async move { axum::serve(socket, router).await });
        Self { url, received }
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Received> {
        for _ in 0..300 {
            if self.received().len() >= count {
                return self.received();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("only {} of {count} callbacks came", self.received().len());
    }
}

async fn take(State((received, statuses)): State<CrmState>, headers: HeaderMap, body: String) -> StatusCode {
    let header = |name: &str| headers.get(name).unwrap().to_str().unwrap().to_owned();
    received.lock().unwrap().push(Received {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
        body,
    });
    let status = statuses.lock().unwrap().pop().unwrap_or(200);
    StatusCode::from_u16(status).unwrap()
}
