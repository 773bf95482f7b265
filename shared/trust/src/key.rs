//! Ed25519 keys by ring: the public halves as metadata names them, and whoever can sign.

use std::fmt;

use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::canonical;
use crate::hash::sha256;

/// The id of a key: SHA-256 of the canonical form of its metadata, as lowercase hexadecimal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(String);

impl KeyId {
    /// Returns the hexadecimal text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The public half of an Ed25519 key (RFC 8032).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Wraps the 32 bytes of a public key.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// Returns the key as 64 hexadecimal digits.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Returns the id under which metadata that we write names the key.
    pub fn id(&self) -> KeyId {
        let value = self.to_value();
        KeyId(sha256(&canonical::to_bytes(&value).unwrap_or_default()).to_string())
    }

    /// Returns the key as it stands in metadata (TUF specification, section 4.2).
    pub fn to_value(&self) -> serde_json::Value {
        json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": self.to_hex()}})
    }

    /// Says whether `signature` over `message` was made with the other half of this key.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.to_hex())
    }
}

/// Why a key cannot be used or a signature was not made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not a private Ed25519 key in PKCS#8.
    #[error("not a private Ed25519 key in PKCS#8: {0}")]
    NotAKey(String),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes for a key")]
    NoRandomness,
    /// A token or a service that holds the key said no.
    #[error("the key's holder did not sign: {0}")]
    Refused(String),
}

/// Something that signs with an Ed25519 key that it may never show: a file, a token, a service.
pub trait Signer {
    /// Returns the public half.
    fn public(&self) -> PublicKey;

    /// Signs `message` (64 bytes, RFC 8032).
    ///
    /// # Errors
    /// [`KeyError::Refused`] when the holder of the key does not sign.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError>;
}

/// A key in memory, read from a file by whoever owns the disk.
pub struct FileKey(Ed25519KeyPair);

impl FileKey {
    /// Makes a key and returns its PKCS#8 form, which is what belongs into a file of mode 0600.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`].
    pub fn generate() -> Result<Vec<u8>, KeyError> {
        let pkcs8 =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::NoRandomness)?;
        Ok(pkcs8.as_ref().to_vec())
    }

    /// Reads a key from PKCS#8, version 1 or 2.
    ///
    /// # Errors
    /// [`KeyError::NotAKey`].
    pub fn from_pkcs8(bytes: &[u8]) -> Result<Self, KeyError> {
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes)
            .map(Self)
            .map_err(|error| KeyError::NotAKey(error.to_string()))
    }

    /// Returns the key made from 32 secret bytes; tests make the same keys each time with it.
    ///
    /// # Errors
    /// [`KeyError::NotAKey`].
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, KeyError> {
        Ed25519KeyPair::from_seed_unchecked(seed)
            .map(Self)
            .map_err(|error| KeyError::NotAKey(error.to_string()))
    }
}

impl Signer for FileKey {
    fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(bytes)
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        Ok(self.0.sign(message).as_ref().to_vec())
    }
}

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileKey({})", self.public().id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_made_signs_after_it_was_read_back() {
        let pkcs8 = FileKey::generate().unwrap();
        let key = FileKey::from_pkcs8(&pkcs8).unwrap();
        let signature = key.sign(b"hello").unwrap();
        assert!(key.public().verifies(b"hello", &signature));
        assert!(!key.public().verifies(b"hellO", &signature));
        assert!(!key.public().verifies(b"hello", &signature[1..]));
        assert!(FileKey::from_pkcs8(&pkcs8[..40]).is_err());
    }

    #[test]
    fn a_key_has_the_id_that_others_compute() {
        // SHA-256 of {"keytype":"ed25519","keyval":{"public":"00…"},"scheme":"ed25519"}, by sha256sum.
        let key = PublicKey::from_bytes([0; 32]);
        let text = format!(
            "{{\"keytype\":\"ed25519\",\"keyval\":{{\"public\":\"{}\"}},\"scheme\":\"ed25519\"}}",
            "0".repeat(64)
        );
        assert_eq!(key.id().as_str(), sha256(text.as_bytes()).to_string());
        assert_eq!(PublicKey::from_hex(&key.to_hex()), Some(key));
        assert_eq!(PublicKey::from_hex("12"), None);
    }

    #[test]
    fn a_private_key_does_not_show_itself() {
        let key = FileKey::from_seed(&[7; 32]).unwrap();
        assert_eq!(format!("{key:?}"), format!("FileKey({})", key.public().id()));
    }
}
