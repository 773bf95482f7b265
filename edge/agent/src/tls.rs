//! Mutual TLS towards the cloud, the same for MQTT and for blobs.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::config::Cloud;

/// Builds the client side: trusts only the cloud's own authority and shows the box's certificate.
pub(crate) fn client(cloud: &Cloud) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for cert in certificates(&cloud.ca)? {
        roots.add(cert).with_context(|| format!("{} holds no usable authority", cloud.ca.display()))?;
    }
    let key = PrivateKeyDer::from_pem_file(&cloud.key)
        .with_context(|| format!("{} holds no private key in PEM", cloud.key.display()))?;
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(&cloud.cert)?, key)
        .with_context(|| format!("{} and its key do not fit", cloud.cert.display()))?;
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let certs = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("{} is not a certificate in PEM", path.display()))?;
    if certs.is_empty() {
        bail!("{} holds no certificate", path.display());
    }
    Ok(certs)
}
