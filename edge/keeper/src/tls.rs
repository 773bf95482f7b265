//! TLS towards the cloud, with a clock that may be wrong and a certificate that changes under way.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::client::ResolvesClientCert;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::clock::Clock;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The cloud's authority cannot be read.
    #[error("there is no authority in `{path}`: {reason}")]
    Authority {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The box's certificate or key cannot be used.
    #[error("the box's certificate cannot be used: {0}")]
    Own(String),
    /// rustls said no.
    #[error("TLS cannot be set up")]
    Rustls(#[from] Error),
}

/// The certificate that is shown to the cloud: none before the box has joined, another one after a renewal.
#[derive(Debug, Default)]
pub(crate) struct Wallet(RwLock<Option<Arc<CertifiedKey>>>);

impl Wallet {
    /// Shows this certificate from the next connection on.
    pub(crate) fn put(&self, certificate_pem: &str, key: Arc<dyn SigningKey>) -> Result<(), TlsError> {
        let own = |error: &dyn std::fmt::Display| TlsError::Own(error.to_string());
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate_pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| own(&error))?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|error| own(&error))?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(certified));
        Ok(())
    }
}

impl ResolvesClientCert for Wallet {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Trusts the authorities in `ca` only, and shows what is in the wallet.
pub(crate) fn client(ca: &Path, clock: &Clock, wallet: Arc<Wallet>) -> Result<Arc<ClientConfig>, TlsError> {
    let authority = |reason: String| TlsError::Authority { path: ca.display().to_string(), reason };
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(ca).map_err(|error| authority(error.to_string()))?;
    for certificate in found {
        let certificate = certificate.map_err(|error| authority(error.to_string()))?;
        roots.add(certificate).map_err(|error| authority(error.to_string()))?;
    }
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| authority(error.to_string()))?;
    let verifier = Patient { inner, clock: clock.clone() };
    let config = ClientConfig::builder_with_details(provider(), Arc::new(Believed(clock.clone())))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(wallet);
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[derive(Debug)]
struct Believed(Clock);

impl TimeProvider for Believed {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// Checks the cloud's certificate as usual. While the clock is known to be wrong, one that seems not to be
/// valid yet is looked at on its first day: signature and name must be right all the same.
#[derive(Debug)]
struct Patient {
    inner: Arc<WebPkiServerVerifier>,
    clock: Clock,
}

impl ServerCertVerifier for Patient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let done = self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp, now);
        let early = matches!(
            done,
            Err(Error::InvalidCertificate(
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }
            ))
        );
        if !early || self.clock.is_known() {
            return done;
        }
        let Some(first) = first_day(end_entity) else { return done };
        tracing::warn!("The clock is wrong: the cloud's certificate is looked at on its first day");
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp, first)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn first_day(certificate: &CertificateDer<'_>) -> Option<UnixTime> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let seconds = u64::try_from(parsed.validity().not_before.timestamp()).ok()?;
    Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}
