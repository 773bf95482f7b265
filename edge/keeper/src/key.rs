//! The box's key: in a file, or in a TPM that signs with it and never shows it.
//!
//! ```text
//! identity/key.pem     the private key (P-256), mode 0600; or, with `[key] store = "tpm"`,
//! identity/key.tpm     where the key is, and its public part: no secret
//! ```
//!
//! The cargo feature `tpm` has the TPM built in. Without it a box that is configured for one does not start.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::KeyPair;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::sign::SigningKey;

#[cfg(feature = "tpm")]
pub(crate) mod in_tpm;

/// Whether this program can use a TPM.
pub(crate) const TPM_BUILT_IN: bool = cfg!(feature = "tpm");

/// What to do where it cannot.
pub(crate) const NOT_BUILT_IN: &str = "this program was built without TPM: build it with `--features tpm`, or let the box \
                                       keep its key in a file (`[key] store = \"file\"`)";

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file cannot be read or written.
    #[error("could not use `{path}`")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds neither a key nor where one is.
    #[error("`{0}` holds no private key in PEM, and does not say which key of a TPM it is")]
    Content(PathBuf),
    /// The key is of a kind that TLS cannot use.
    #[error("the key in `{path}` cannot be used for TLS")]
    Kind {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The key is in a TPM, for which this program was not built.
    #[error("the key of `{path}` is in a TPM, and {NOT_BUILT_IN}")]
    NoTpm {
        /// The file.
        path: PathBuf,
    },
    /// The TPM said no, or nothing.
    #[cfg(feature = "tpm")]
    #[error(transparent)]
    Tpm(#[from] trunkline_tpm::TpmError),
}

/// The key, wherever it is.
#[derive(Debug)]
pub(crate) enum BoxKey {
    /// In a file.
    File(KeyPair),
    /// In a TPM.
    #[cfg(feature = "tpm")]
    Tpm(trunkline_tpm::TpmKey),
}

impl rcgen::PublicKeyData for BoxKey {
    fn der_bytes(&self) -> &[u8] {
        match self {
            Self::File(pair) => pair.der_bytes(),
            #[cfg(feature = "tpm")]
            Self::Tpm(key) => key.public(),
        }
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        match self {
            Self::File(pair) => pair.algorithm(),
            #[cfg(feature = "tpm")]
            Self::Tpm(_) => &rcgen::PKCS_ECDSA_P256_SHA256,
        }
    }
}

impl rcgen::SigningKey for BoxKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        match self {
            Self::File(pair) => rcgen::SigningKey::sign(pair, message),
            #[cfg(feature = "tpm")]
            Self::Tpm(key) => in_tpm::sign(key, message).map_err(|error| {
                tracing::error!("The box's key cannot sign: {}", crate::keep::chain(&error));
                rcgen::Error::RemoteKeyError
            }),
        }
    }
}

impl BoxKey {
    /// Returns it as TLS uses it.
    pub(crate) fn for_tls(&self, path: &Path) -> Result<Arc<dyn SigningKey>, KeyError> {
        match self {
            Self::File(pair) => pem_for_tls(pair.serialize_pem().as_bytes(), path),
            #[cfg(feature = "tpm")]
            Self::Tpm(key) => Ok(Arc::new(in_tpm::TlsKey(key.clone()))),
        }
    }
}

/// Reads a key for TLS: from a file in PEM, or from the TPM that a box's `key.tpm` names.
///
/// # Errors
/// [`KeyError`].
pub fn tls_key(path: &Path) -> Result<Arc<dyn SigningKey>, KeyError> {
    let text = fs::read(path).map_err(|source| KeyError::File { path: path.to_owned(), source })?;
    if text.windows(11).any(|eleven| eleven == b"-----BEGIN ") {
        return pem_for_tls(&text, path);
    }
    #[cfg(feature = "tpm")]
    return Ok(Arc::new(in_tpm::TlsKey(in_tpm::Note::parse(&text, path)?.key(path)?)));
    #[cfg(not(feature = "tpm"))]
    return Err(if toml::from_slice::<toml::Table>(&text).is_ok_and(|note| note.contains_key("handle")) {
        KeyError::NoTpm { path: path.to_owned() }
    } else {
        KeyError::Content(path.to_owned())
    });
}

fn pem_for_tls(pem: &[u8], path: &Path) -> Result<Arc<dyn SigningKey>, KeyError> {
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| KeyError::Content(path.to_owned()))?;
    let provider = rustls::crypto::ring::default_provider();
    let loaded = provider.key_provider.load_private_key(key);
    loaded.map_err(|source| KeyError::Kind { path: path.to_owned(), source })
}
