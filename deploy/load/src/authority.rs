//! The test authority: the cloud's certificate, and one for each box.

use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use trunkline_model::BoxId;

/// A root, and below it the authority of the boxes, as in a fleet.
pub(crate) struct Authority {
    /// The root, PEM.
    pub(crate) root_pem: String,
    root: Issuer<'static, KeyPair>,
    boxes_pem: String,
    boxes: Issuer<'static, KeyPair>,
    trusted: Arc<RootCertStore>,
}

impl Authority {
    pub(crate) fn new() -> Result<Self> {
        let (params, key) = (authority("load root", 1), KeyPair::generate()?);
        let root_pem = params.self_signed(&key)?.pem();
        let root = Issuer::new(params, key);
        let (params, key) = (authority("load boxes", 0), KeyPair::generate()?);
        let boxes_pem = params.signed_by(&key, &root)?.pem();
        let boxes = Issuer::new(params, key);
        let mut trusted = RootCertStore::empty();
        trusted.add(CertificateDer::from_pem_slice(root_pem.as_bytes())?)?;
        Ok(Self { root_pem, root, boxes_pem, boxes, trusted: Arc::new(trusted) })
    }

    /// Makes the cloud's certificate and key, PEM.
    pub(crate) fn server(&self) -> Result<(String, String)> {
        let params = leaf("cloud", vec!["127.0.0.1".to_owned()], ExtendedKeyUsagePurpose::ServerAuth)?;
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &self.root)?.pem(), key.serialize_pem()))
    }

    /// Makes a box's key and certificate, and what it speaks TLS with.
    pub(crate) fn client(&self, id: &BoxId) -> Result<Arc<ClientConfig>> {
        let params = leaf(id.as_str(), Vec::new(), ExtendedKeyUsagePurpose::ClientAuth)?;
        let key = KeyPair::generate()?;
        let chain = params.signed_by(&key, &self.boxes)?.pem() + &self.boxes_pem;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).ok().context("a new key is no key")?;
        let mut tls = ClientConfig::builder()
            .with_root_certificates(Arc::clone(&self.trusted))
            .with_client_auth_cert(chain, key)?;
        // Every handshake is a whole one, as after a restart of the cloud, which forgets its tickets.
        tls.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(tls))
    }
}

fn authority(name: &str, below: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn leaf(name: &str, names: Vec<String>, usage: ExtendedKeyUsagePurpose) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}
