//! The program for calls proves itself with a key in a TPM (swtpm, Debian's package of that name), by TLS 1.3 and 1.2.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::fs;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConnection, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};
use trunkline_edge::box_tls;
use trunkline_keeper::{Identity, KeyConfig, KeyStore};
use trunkline_tpm::swtpm::Swtpm;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cert: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), cert }
    }

    /// A server that lets in who has a certificate of this authority.
    fn server(&self, version: &'static SupportedProtocolVersion) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap()).unwrap();
        let clients = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
        let builder = ServerConfig::builder_with_protocol_versions(&[version]);
        builder.with_client_cert_verifier(clients).with_single_cert(vec![cert], key).unwrap()
    }
}

/// Lets both talk until neither has anything to say.
fn shake_hands(client: &mut ClientConnection, server: &mut ServerConnection) -> Result<(), rustls::Error> {
    while client.wants_write() || server.wants_write() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut bytes = Vec::new();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

#[test]
fn who_asks_for_the_boxs_certificate_gets_a_signature_of_the_tpm() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let Some(swtpm) = Swtpm::start(dir).unwrap() else { return };
    let store = KeyConfig { store: KeyStore::Tpm, device: Some(swtpm.device().into()), handle: None };
    let identity = Identity::open(&dir.join("identity"), &store).unwrap();

    let request = rcgen::CertificateSigningRequestParams::from_der(&identity.new_request().unwrap().into());
    let public = request.expect("signed by the key that it names").public_key;
    let authority = Authority::new();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, identity.id().as_str());
    identity.save_certificate(&params.signed_by(&public, &authority.issuer).unwrap().pem()).unwrap();
    fs::write(dir.join("ca.pem"), &authority.cert).unwrap();

    let files = ["ca.pem", "identity/box.pem", "identity/key.tpm"].map(|name| dir.join(name));
    let (client, certificate) = box_tls(&files[0], &files[1], &files[2]).unwrap();
    for version in rustls::ALL_VERSIONS {
        let server = Arc::new(authority.server(version));
        let name = "localhost".try_into().unwrap();
        let mut client = ClientConnection::new(Arc::clone(&client), name).unwrap();
        let mut server = ServerConnection::new(server).unwrap();
        shake_hands(&mut client, &mut server).unwrap();
        assert_eq!(client.protocol_version(), Some(version.version));
        assert_eq!(server.peer_certificates().unwrap().len(), 1, "the box showed its certificate");
        certificate.reload().unwrap();
    }

    swtpm.clear().unwrap();
    let refused = certificate.reload().unwrap_err();
    assert!(format!("{refused:#}").contains("join as a new one"), "{refused:#}");
    let mut client = ClientConnection::new(client, "localhost".try_into().unwrap()).unwrap();
    let mut server = ServerConnection::new(Arc::new(authority.server(&rustls::version::TLS13))).unwrap();
    assert!(shake_hands(&mut client, &mut server).is_err(), "nobody signs in its name any more");
}
