//! The key in a TPM: where it is, and who signs with it.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::{SubjectPublicKeyInfoDer, alg_id};
use rustls::sign::{Signer, SigningKey, public_key_to_spki};
use rustls::{SignatureAlgorithm, SignatureScheme};
use serde::Deserialize;
use tokio::runtime::{Handle as Runtime, RuntimeFlavor};
use trunkline_tpm::{Handle, Tpm, TpmError, TpmKey};
use trunkline_trust::sha256;

use super::KeyError;

/// `key.tpm`: where the key is, and its public part, by which a cleared TPM is noticed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Note {
    device: PathBuf,
    handle: u32,
    public: String,
}

impl Note {
    pub(crate) fn parse(text: &[u8], path: &Path) -> Result<Self, KeyError> {
        toml::from_slice(text).map_err(|_| KeyError::Content(path.to_owned()))
    }

    /// Returns the key, where this note says that it is.
    pub(crate) fn key(&self, path: &Path) -> Result<TpmKey, KeyError> {
        let handle = Handle::new(self.handle).ok_or_else(|| KeyError::Content(path.to_owned()))?;
        self.key_at(&self.device, handle, path)
    }

    /// Returns the key, where the configuration says that it is.
    pub(crate) fn key_at(&self, device: &Path, handle: Handle, path: &Path) -> Result<TpmKey, KeyError> {
        let public = STANDARD.decode(&self.public).map_err(|_| KeyError::Content(path.to_owned()))?;
        Ok(Tpm::at(device).key(handle, &public)?)
    }
}

/// Says where a key is, as [`Note::parse`] reads it.
pub(crate) fn note_of(device: &Path, handle: Handle, key: &TpmKey) -> Vec<u8> {
    let device = toml::Value::from(device.display().to_string());
    let public = STANDARD.encode(key.public());
    let text = "# Where this box's key is. There is no secret in this file; it is written by the box.";
    format!("{text}\ndevice = {device}\nhandle = {handle}\npublic = \"{public}\"\n").into_bytes()
}

/// Has the SHA-256 of a message signed.
pub(crate) fn sign(key: &TpmKey, message: &[u8]) -> Result<Vec<u8>, TpmError> {
    let hash = sha256(message);
    let signed = || key.sign(hash.as_bytes());
    // A slow chip takes a tenth of a second, in which the other tasks of this thread are moved to another one.
    match Runtime::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(signed),
        _ => signed(),
    }
}

/// The key as rustls asks for it.
#[derive(Clone, Debug)]
pub(crate) struct TlsKey(pub(crate) TpmKey);

impl SigningKey for TlsKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let known = offered.contains(&SignatureScheme::ECDSA_NISTP256_SHA256);
        known.then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(public_key_to_spki(&alg_id::ECDSA_P256, self.0.public()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for TlsKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        sign(&self.0, message).map_err(|error| {
            let why = crate::keep::chain(&error);
            tracing::error!("No connection to the cloud can be made, since the key cannot sign: {why}");
            rustls::Error::General(why)
        })
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}
