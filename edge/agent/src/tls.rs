//! TLS: mutual towards the cloud, the same for MQTT and for blobs; and towards trunks and telephones.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context, Result, bail};
use rustls::client::{ResolvesClientCert, WantsClientCert};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, SignatureScheme};

/// Builds the client side towards the cloud: trusts only its own authority and shows the box's certificate. `key` is the
/// key in PEM, or the `key.tpm` of a box whose key is in a TPM.
///
/// # Errors
/// When a file is missing or holds something else, named.
pub fn box_client(ca: &Path, cert: &Path, key: &Path) -> Result<(Arc<ClientConfig>, Arc<BoxCertificate>)> {
    let own = Arc::new(BoxCertificate::load(cert, key)?);
    let config = trusting(ca)?.with_client_cert_resolver(Arc::clone(&own) as _);
    Ok((Arc::new(config), own))
}

/// The box's certificate, which its keeper renews while calls go on.
#[derive(Debug)]
pub struct BoxCertificate {
    cert: PathBuf,
    key: PathBuf,
    shown: RwLock<Arc<CertifiedKey>>,
}

impl BoxCertificate {
    fn load(cert: &Path, key: &Path) -> Result<Self> {
        let shown = RwLock::new(read(cert, key)?);
        Ok(Self { cert: cert.to_owned(), key: key.to_owned(), shown })
    }

    /// Reads the files again; the next connection shows what they hold.
    ///
    /// # Errors
    /// When they cannot be used; nothing has changed then.
    pub fn reload(&self) -> Result<()> {
        let new = read(&self.cert, &self.key)?;
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }
}

impl ResolvesClientCert for BoxCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.shown.read().unwrap_or_else(PoisonError::into_inner)))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn read(cert: &Path, key: &Path) -> Result<Arc<CertifiedKey>> {
    let certified = CertifiedKey::new(certificates(cert)?, trunkline_keeper::tls_key(key)?);
    certified.keys_match().with_context(|| format!("{} and its key do not fit", cert.display()))?;
    Ok(Arc::new(certified))
}

/// Builds a client that trusts the authority in `ca` only, and shows the certificate and key of `own` where asked.
///
/// # Errors
/// When a file is missing or holds something else, named.
pub fn client_of(ca: &Path, own: Option<(&Path, &Path)>) -> Result<Arc<ClientConfig>> {
    let builder = trusting(ca)?;
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => builder
            .with_client_auth_cert(certificates(cert)?, private_key(key)?)
            .with_context(|| format!("{} and its key do not fit", cert.display()))?,
    };
    Ok(Arc::new(config))
}

fn trusting(ca: &Path) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let mut roots = RootCertStore::empty();
    for cert in certificates(ca)? {
        roots.add(cert).with_context(|| format!("{} holds no usable authority", ca.display()))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .context("no version of TLS is left")?;
    Ok(builder.with_root_certificates(roots))
}

fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path)
        .with_context(|| format!("{} holds no private key in PEM", path.display()))
}

/// Builds a server that shows this certificate.
///
/// # Errors
/// When a file is missing or holds something else, named.
pub fn server_of(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>> {
    let config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .context("no version of TLS is left")?
        .with_no_client_auth()
        .with_single_cert(certificates(cert)?, private_key(key)?)
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
