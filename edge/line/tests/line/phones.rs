//! Telephones of the office that were not written here register at our box and are called through it: baresip.
//!
//! Without it the tests say so and pass, unless `TRUNKLINE_REQUIRE_PEERS=1` demands it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{Certificates, Peer, baresip_as, certificates};
use tempfile::TempDir;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};
use trunkline_line::trunks::{
    CallRequest, LineNews, LineOrder, PhonesSetup, Proxy, Target, TrunkSetup, Trunks, TrunksConfig,
};
use trunkline_ports::{free_port, sound_ports};
use trunkline_sip::digest::{Algorithm, Credentials};
use trunkline_sip::message::Transport;
use trunkline_sip::{HangupReason, RegistrarConfig};

const PATIENCE: Duration = Duration::from_secs(15);

fn server(own: &Certificates) -> Arc<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    Arc::new(builder.with_single_cert(chain, key).unwrap())
}

/// A box at which user 201 may register; returns where, over UDP and TCP, and over TLS.
async fn office(own: &Certificates) -> (Trunks, SocketAddr, SocketAddr) {
    let rtp_ports = sound_ports();
    let tls = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut registrar = RegistrarConfig::new("branch17", vec![Credentials::new("201", "secret")]);
    // This baresip stops at an algorithm that it does not know, instead of passing it over.
    registrar.algorithms = vec![Algorithm::MD5];
    let phones =
        PhonesSetup { bind: "127.0.0.1:0".parse().unwrap(), tls: Some((tls, server(own))), registrar };
    let config = TrunksConfig { rtp_ports, phones: Some(phones), ..TrunksConfig::default() };
    let proxy = Proxy { host: "127.0.0.1".to_owned(), port: free_port() };
    let setup = TrunkSetup::new("nobody", proxy, "127.0.0.1:0".parse().unwrap());
    let trunks = Trunks::start(config, vec![setup]).await.unwrap();
    let at = trunks.phones_local().unwrap();
    (trunks, at, tls)
}

/// A telephone that registers as 201 and answers by itself.
async fn telephone(
    at: SocketAddr,
    transport: &str,
    password: &str,
    own: &Certificates,
) -> Option<(Peer, TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let account = format!(
        "<sip:201@{at};transport={transport}>;auth_user=201;auth_pass={password};regint=60;answermode=auto"
    );
    let more = "ausrc_srate 8000\nauplay_srate 8000\naudio_channels 1\nsip_verify_server no";
    let (peer, _) = baresip_as(folder.path(), own, free_port(), more, &account).await?;
    Some((peer, folder))
}

async fn registered(trunks: &Trunks) -> Vec<Target> {
    let limit = Instant::now() + PATIENCE;
    loop {
        let found = trunks.phone("201").await;
        if !found.is_empty() {
            return found;
        }
        assert!(Instant::now() < limit, "it never registered");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_telephone_registers_over_each_transport_and_is_called_where_it_is() {
    for transport in [Transport::Udp, Transport::Tcp, Transport::Tls] {
        let own = certificates();
        let (trunks, plain, tls) = office(&own).await;
        let at = if transport == Transport::Tls { tls } else { plain };
        let Some((peer, folder)) = telephone(at, transport.param(), "secret", &own).await else { return };
        let log = || std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        let target = registered(&trunks).await.remove(0);
        let Target::Phone(binding) = &target else { panic!("{target:?}") };
        assert_eq!(binding.at.transport, transport);
        let from = Some("4000".to_owned());
        let mut call = trunks.place(CallRequest { target, from, ring: Duration::from_secs(20) });
        loop {
            match tokio::time::timeout(PATIENCE, call.news.recv()).await {
                Ok(Some(LineNews::Answered { .. })) => break,
                Ok(Some(LineNews::Dialing { .. } | LineNews::Ringing { .. })) => {}
                other => panic!("{transport:?}: {other:?}\n{}", log()),
            }
        }
        call.order(LineOrder::HangUp(HangupReason::normal()));
        loop {
            match tokio::time::timeout(PATIENCE, call.news.recv()).await {
                Ok(Some(LineNews::Ended)) => break,
                Ok(Some(LineNews::MediaChanged(_))) => {}
                other => panic!("{transport:?}: {other:?}\n{}", log()),
            }
        }
        drop(peer);
        if transport != Transport::Udp {
            let limit = Instant::now() + PATIENCE;
            while !trunks.phone("201").await.is_empty() {
                assert!(Instant::now() < limit, "its connection is gone, and it is still looked for there");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_telephone_with_a_wrong_password_is_not_called() {
    let own = certificates();
    let (trunks, plain, _) = office(&own).await;
    let Some(right) = telephone(plain, "udp", "secret", &own).await else { return };
    assert_eq!(registered(&trunks).await.len(), 1);
    let Some(wrong) = telephone(plain, "udp", "guess", &own).await else { return };
    // It registers within some milliseconds of its start.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(trunks.phone("201").await.len(), 1);
    assert!(trunks.phone("nobody").await.is_empty());
    drop((wrong, right));
}
