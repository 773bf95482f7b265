//! Signalling over TCP and TLS with peers that were not written here: SIPp (Debian: sip-tester) and baresip.
//!
//! Without a peer its tests say so and pass, unless `TRUNKLINE_REQUIRE_PEERS=1` demands it. Everything runs on
//! loopback, and every process is ended with the test that began it.

use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{Certificates, Peer, baresip, certificates, installed, wait_for_listener};
use crate::line::{answered, failed, hung_up, line, until};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, crypto};
use trunkline_line::{SipTransports, TlsSettings};
use trunkline_ports::free_port;
use trunkline_sip::FailureCause;
use trunkline_sip::message::Transport;

/// Nothing more in its settings, and nothing behind its account.
const PLAIN: (&str, &str) = ("", "");

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

// --- TLS -------------------------------------------------------------------------------------------------

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

#[tokio::test]
async fn baresip_is_called_over_tls_and_hung_up() {
    let (folder, own) = (tempfile::tempdir().unwrap(), certificates());
    let Some((_peer, at)) = baresip(folder.path(), &own, free_port(), PLAIN).await else { return };
    let line = line(SipTransports { tcp: false, tls: tls_settings(&own, &own) }).await;
    let (key, mut events) = line.call("bare", at, Transport::Tls).await;
    until(&mut events, answered).await;
    line.hang_up(key, &mut events).await;
}

#[tokio::test]
async fn baresip_calls_us_over_tls() {
    use std::io::Write;

    let (folder, own, control) = (tempfile::tempdir().unwrap(), certificates(), free_port());
    let Some((_peer, _)) = baresip(folder.path(), &own, control, PLAIN).await else { return };
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
    let Some((_peer, at)) = baresip(folder.path(), &own, free_port(), PLAIN).await else { return };
    let line = line(SipTransports { tcp: false, tls: tls_settings(&other, &other) }).await;
    let begun = Instant::now();
    let (_, mut events) = line.call("bare", at, Transport::Tls).await;
    let failure = until(&mut events, failed).await;
    assert_eq!(failure.cause, FailureCause::Unreachable);
    assert!(failure.to_string().contains("certificate"), "{failure}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}
