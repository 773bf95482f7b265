//! Signalling over TCP and TLS with peers that were not written here: SIPp (Debian: sip-tester) and baresip.
//!
//! Without a peer its tests say so and pass, unless `TRUNKLINE_REQUIRE_PEERS=1` demands it. Everything runs on
//! loopback, and every process is ended with the test that began it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, crypto};
use trunkline_line::{SipCommand, SipHandle, SipTransports, TlsSettings, start_sip_with};
use trunkline_sip::message::{Transport, Uri};
use trunkline_sip::sdp::LocalMedia;
use trunkline_sip::{DialogKey, Failure, FailureCause, InviteRequest, SipEvent, UaConfig};

/// A peer's process, ended with the test.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Peer {
    async fn is_content(&mut self) {
        for _ in 0..400 {
            if let Some(status) = self.0.try_wait().unwrap() {
                assert!(status.success(), "the peer ended with {status}");
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the peer does not end");
    }
}

fn installed(program: &str, probe: &str, package: &str) -> bool {
    let found = Command::new(program).arg(probe).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        let demanded = std::env::var("TRUNKLINE_REQUIRE_PEERS").as_deref() == Ok("1");
        assert!(!demanded, "{program} is required and missing");
        println!("skipped: {program} is not installed (Debian package {package})");
    }
    found
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn sipp(arguments: &[&str]) -> Option<Peer> {
    if !installed("sipp", "-v", "sip-tester") {
        return None;
    }
    let mut command = Command::new("sipp");
    command.args(["-t", "t1", "-i", "127.0.0.1", "-mi", "127.0.0.1", "-nostdin", "-m", "1"]);
    command.args(["-timeout", "60s", "-timeout_error"]).args(arguments).current_dir(std::env::temp_dir());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    Some(Peer(command.spawn().unwrap()))
}

/// Our line, with what it tells.
struct Line {
    sip: SipHandle,
    unclaimed: mpsc::UnboundedReceiver<SipEvent>,
}

async fn line(transports: SipTransports) -> Line {
    let (told, unclaimed) = mpsc::unbounded_channel();
    let configure = |local| {
        let mut config = UaConfig::new(local);
        config.allowed_peers = Some(vec!["127.0.0.1".parse().unwrap()]);
        config
    };
    let sip = start_sip_with("127.0.0.1:0".parse().unwrap(), transports, configure, told).await.unwrap();
    Line { sip, unclaimed }
}

fn media() -> LocalMedia {
    LocalMedia::new("127.0.0.1:40000".parse().unwrap())
}

type Events = mpsc::UnboundedReceiver<SipEvent>;

impl Line {
    async fn call(&self, user: &str, at: SocketAddr, transport: Transport) -> (DialogKey, Events) {
        let mut request = InviteRequest::new("4000", Uri::at(user, at), media());
        request.transport = Some(transport);
        let (events, news) = mpsc::unbounded_channel();
        let (answer, key) = oneshot::channel();
        self.sip.send(SipCommand::Invite { request: Box::new(request), events, answer });
        (key.await.unwrap().unwrap(), news)
    }

    async fn take_call(&mut self) -> (DialogKey, Events) {
        let key = until(&mut self.unclaimed, |event| {
            if let SipEvent::Incoming { key, .. } = event { Some(*key) } else { None }
        })
        .await;
        let (events, news) = mpsc::unbounded_channel();
        let (answer, done) = oneshot::channel();
        self.sip.send(SipCommand::Accept { key, media: media(), events, answer });
        done.await.unwrap().unwrap();
        (key, news)
    }

    async fn hang_up(&self, key: DialogKey, events: &mut Events) {
        self.sip.send(SipCommand::HangUp(key, None));
        until(events, |event| matches!(event, SipEvent::Ended { .. }).then_some(())).await;
    }
}

async fn until<T>(events: &mut Events, wanted: impl Fn(&SipEvent) -> Option<T>) -> T {
    let limit = Duration::from_secs(20);
    let found = tokio::time::timeout(limit, async {
        let mut seen = Vec::new();
        while let Some(event) = events.recv().await {
            if let Some(found) = wanted(&event) {
                return found;
            }
            seen.push(event);
        }
        panic!("the line ended after {seen:#?}");
    });
    found.await.expect("it never came")
}

fn answered(event: &SipEvent) -> Option<()> {
    matches!(event, SipEvent::Answered { .. }).then_some(())
}

fn hung_up(event: &SipEvent) -> Option<()> {
    matches!(event, SipEvent::PeerHungUp { .. }).then_some(())
}

fn failed(event: &SipEvent) -> Option<Failure> {
    if let SipEvent::Failed { failure, .. } = event { Some(failure.clone()) } else { None }
}

#[tokio::test]
async fn sipp_calls_us_over_tcp() {
    let mut line = line(SipTransports { tcp: true, tls: TlsSettings::default() }).await;
    let (target, port) = (line.sip.local().to_string(), free_port().to_string());
    let Some(mut peer) = sipp(&["-sn", "uac", "-p", &port, &target]) else { return };
    let (_, mut events) = line.take_call().await;
    until(&mut events, answered).await;
    until(&mut events, hung_up).await;
    peer.is_content().await;
}

#[tokio::test]
async fn we_call_sipp_over_tcp() {
    let line = line(SipTransports::default()).await;
    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let Some(mut peer) = sipp(&["-sn", "uas", "-p", &at.port().to_string()]) else { return };
    wait_for_listener(at).await;
    let (key, mut events) = line.call("1001", at, Transport::Tcp).await;
    until(&mut events, answered).await;
    line.hang_up(key, &mut events).await;
    peer.is_content().await;
}

#[tokio::test]
async fn a_connection_that_nobody_takes_fails_the_call_at_once() {
    let line = line(SipTransports::default()).await;
    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let begun = Instant::now();
    let (_, mut events) = line.call("1001", at, Transport::Tcp).await;
    let failure = until(&mut events, failed).await;
    assert_eq!(failure.cause, FailureCause::Unreachable);
    assert!(begun.elapsed() < Duration::from_secs(5), "{failure}");
}

#[tokio::test]
async fn one_address_gets_so_many_connections_and_no_more() {
    use tokio::io::AsyncReadExt;

    let line = line(SipTransports { tcp: true, tls: TlsSettings::default() }).await;
    let mut open = Vec::new();
    for _ in 0..40 {
        open.push(tokio::net::TcpStream::connect(line.sip.local()).await.unwrap());
    }
    let mut refused = 0;
    for stream in &mut open {
        let read = stream.read_u8();
        refused += usize::from(tokio::time::timeout(Duration::from_millis(200), read).await.is_ok());
    }
    assert_eq!(refused, 8);
}

async fn wait_for_listener(at: SocketAddr) {
    for _ in 0..200 {
        if TcpStream::connect(at).is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nobody listens at {at}");
}

// --- TLS -------------------------------------------------------------------------------------------------

/// An authority and a certificate of it for the loopback address.
struct Certificates {
    authority: String,
    certificate: String,
    key: String,
}

fn certificates() -> Certificates {
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    Certificates { authority: authority.pem(), certificate: certificate.pem(), key: key.serialize_pem() }
}

fn tls_settings(trusted: &Certificates, own: &Certificates) -> TlsSettings {
    let provider = Arc::new(crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.authority.as_bytes()).unwrap()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let chain = vec![CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsSettings {
        client: Some(Arc::new(client)),
        server: Some(("127.0.0.1:0".parse().unwrap(), Arc::new(server))),
        ..TlsSettings::default()
    }
}

/// Starts baresip with a certificate. It answers by itself; its TLS port is the one after its UDP port.
async fn baresip(folder: &Path, own: &Certificates, control: u16) -> Option<(Peer, SocketAddr)> {
    if !installed("baresip", "-h", "baresip-core") {
        return None;
    }
    let at = SocketAddr::from(([127, 0, 0, 1], free_port() & !1));
    let path = |name: &str| folder.join(name);
    std::fs::write(path("own.pem"), format!("{}{}", own.certificate, own.key)).unwrap();
    std::fs::write(path("ca.pem"), &own.authority).unwrap();
    let folder = folder.display();
    let config = format!(
        "sip_listen {at}\nsip_certificate {folder}/own.pem\nsip_cafile {folder}/ca.pem\naudio_player aubridge,loop\n\
         audio_source aubridge,loop\naudio_alert aubridge,alert\nmodule_path /usr/lib/baresip/modules\n\
         module g711.so\nmodule aubridge.so\nmodule_tmp account.so\nmodule_app menu.so\nmodule_app ctrl_tcp.so\n\
         ctrl_tcp_listen 127.0.0.1:{control}\n"
    );
    std::fs::write(path("config"), config).unwrap();
    let account = "<sip:bare@127.0.0.1;transport=tls>;regint=0;answermode=auto\n";
    std::fs::write(path("accounts"), account).unwrap();
    std::fs::write(path("contacts"), "").unwrap();
    let log = std::fs::File::create(path("log")).unwrap();
    let mut command = Command::new("baresip");
    command.arg("-f").arg(path("")).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let peer = Peer(command.spawn().unwrap());
    wait_for_listener(SocketAddr::from(([127, 0, 0, 1], control))).await;
    Some((peer, SocketAddr::new(at.ip(), at.port() + 1)))
}

#[tokio::test]
async fn baresip_is_called_over_tls_and_hung_up() {
    let (folder, own) = (tempfile::tempdir().unwrap(), certificates());
    let Some((_peer, at)) = baresip(folder.path(), &own, free_port()).await else { return };
    let line = line(SipTransports { tcp: false, tls: tls_settings(&own, &own) }).await;
    let (key, mut events) = line.call("bare", at, Transport::Tls).await;
    until(&mut events, answered).await;
    line.hang_up(key, &mut events).await;
}

#[tokio::test]
async fn baresip_calls_us_over_tls() {
    use std::io::Write;

    let (folder, own, control) = (tempfile::tempdir().unwrap(), certificates(), free_port());
    let Some((_peer, _)) = baresip(folder.path(), &own, control).await else { return };
    let mut line = line(SipTransports { tcp: false, tls: tls_settings(&own, &own) }).await;
    let target = format!("sip:1001@{};transport=tls", line.sip.local_tls().unwrap());
    let command = format!("{{\"command\":\"dial\",\"params\":\"{target}\",\"token\":\"t\"}}");
    let mut steering = TcpStream::connect(("127.0.0.1", control)).unwrap();
    write!(steering, "{}:{command},", command.len()).unwrap();
    let (key, mut events) = line.take_call().await;
    until(&mut events, answered).await;
    line.hang_up(key, &mut events).await;
}

#[tokio::test]
async fn a_certificate_of_a_stranger_is_told_at_once_as_what_it_is() {
    let (folder, own, other) = (tempfile::tempdir().unwrap(), certificates(), certificates());
    let Some((_peer, at)) = baresip(folder.path(), &own, free_port()).await else { return };
    let line = line(SipTransports { tcp: false, tls: tls_settings(&other, &other) }).await;
    let begun = Instant::now();
    let (_, mut events) = line.call("bare", at, Transport::Tls).await;
    let failure = until(&mut events, failed).await;
    assert_eq!(failure.cause, FailureCause::Unreachable);
    assert!(failure.to_string().contains("certificate"), "{failure}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}
