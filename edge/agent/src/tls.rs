//! TLS: mutual towards the cloud, the same for MQTT and for blobs; and towards trunks and telephones.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::config::Cloud;

/// Builds the client side: trusts only the cloud's own authority and shows the box's certificate.
pub(crate) fn client(cloud: &Cloud) -> Result<Arc<ClientConfig>> {
    client_of(&cloud.ca, Some((cloud.cert.as_path(), cloud.key.as_path())))
}

/// Builds a client that trusts the authority in `ca` only, and shows the certificate and key of `own` where asked.
pub(crate) fn client_of(ca: &Path, own: Option<(&Path, &Path)>) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for cert in certificates(ca)? {
        roots.add(cert).with_context(|| format!("{} holds no usable authority", ca.display()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("no version of TLS is left")?
        .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let private = PrivateKeyDer::from_pem_file(key)
                .with_context(|| format!("{} holds no private key in PEM", key.display()))?;
            builder
                .with_client_auth_cert(certificates(cert)?, private)
                .with_context(|| format!("{} and its key do not fit", cert.display()))?
        }
    };
    Ok(Arc::new(config))
}

/// Builds a server that shows this certificate.
pub(crate) fn server_of(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>> {
    let private = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("{} holds no private key in PEM", key.display()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("no version of TLS is left")?
        .with_no_client_auth()
        .with_single_cert(certificates(cert)?, private)
        .with_context(|| format!("{} and its key do not fit", cert.display()))?;
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
