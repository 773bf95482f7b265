//! Keys of encrypted media in SDP: the `crypto` attribute (RFC 4568), alone or as an offer to who can (RFC 8643).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// How media are encrypted and authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CryptoSuite {
    /// AES in counter mode, a tag of 80 bits.
    AesCm128Sha1Tag80,
    /// AES in counter mode, a tag of 32 bits.
    AesCm128Sha1Tag32,
}

impl CryptoSuite {
    /// Returns the name in SDP (RFC 4568 §6.2).
    pub fn name(self) -> &'static str {
        match self {
            Self::AesCm128Sha1Tag80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AesCm128Sha1Tag32 => "AES_CM_128_HMAC_SHA1_32",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::AesCm128Sha1Tag80, Self::AesCm128Sha1Tag32].into_iter().find(|suite| suite.name() == text)
    }
}

/// A master key of 16 octets and its salt of 14. Never shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MediaKey(pub [u8; 30]);

impl fmt::Debug for MediaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MediaKey(…)")
    }
}

/// What we bring to the negotiation of encryption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secure {
    /// The key of what we send; random, and fresh for each call.
    pub key: MediaKey,
    /// What we can, best first.
    pub suites: Vec<CryptoSuite>,
    /// Whether there is no call without; otherwise it is encrypted where the other side can.
    pub required: bool,
}

impl Secure {
    /// Both suites, the longer tag first.
    pub fn new(key: [u8; 30], required: bool) -> Self {
        let suites = vec![CryptoSuite::AesCm128Sha1Tag80, CryptoSuite::AesCm128Sha1Tag32];
        Self { key: MediaKey(key), suites, required }
    }

    /// Writes the lines of an offer.
    pub(super) fn offer_lines(&self) -> String {
        self.suites.iter().zip(1..).map(|(suite, tag)| line(tag, *suite, &self.key)).collect()
    }

    /// Takes the first of their offered lines that we can, with the line of our answer.
    pub(super) fn choose(&self, offered: &[Crypto]) -> Option<(SecureParams, String)> {
        let chosen = offered.iter().find(|crypto| self.suites.contains(&crypto.suite))?;
        let params = SecureParams { suite: chosen.suite, local: self.key, remote: chosen.key };
        Some((params, line(chosen.tag, chosen.suite, &self.key)))
    }

    /// Reads their answer to our lines.
    pub(super) fn read_answer(&self, answered: &[Crypto]) -> Option<SecureParams> {
        let crypto = answered.first()?;
        let place = usize::try_from(crypto.tag).ok()?.checked_sub(1)?;
        let ours = self.suites.get(place).is_some_and(|suite| *suite == crypto.suite);
        ours.then_some(SecureParams { suite: crypto.suite, local: self.key, remote: crypto.key })
    }
}

/// What was agreed about encryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecureParams {
    /// How.
    pub suite: CryptoSuite,
    /// The key of what we send.
    pub local: MediaKey,
    /// The key of what comes.
    pub remote: MediaKey,
}

/// One `crypto` line that we can use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crypto {
    tag: u32,
    suite: CryptoSuite,
    key: MediaKey,
}

impl Crypto {
    /// Reads what stands behind `a=crypto:`; `None` for a suite or an option that is not spoken here.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let tag = words.next()?.parse().ok()?;
        let suite = CryptoSuite::parse(words.next()?)?;
        let inline = words.next()?.strip_prefix("inline:")?;
        // Several keys, or a key with an identifier behind it, need what is not here.
        if inline.contains(';') {
            return None;
        }
        let mut parts = inline.split('|');
        let key = STANDARD.decode(parts.next()?).ok()?;
        if parts.any(|part| part.contains(':')) {
            return None;
        }
        // An option that is not known must be refused, unless it says that it may be ignored (§6.3.7).
        if words.any(|option| !option.starts_with('-')) {
            return None;
        }
        Some(Self { tag, suite, key: MediaKey(key.try_into().ok()?) })
    }
}

fn line(tag: u32, suite: CryptoSuite, key: &MediaKey) -> String {
    format!("a=crypto:{tag} {} inline:{}\r\n", suite.name(), STANDARD.encode(key.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_never_shows() {
        assert_eq!(format!("{:?}", Secure::new([65; 30], true).key), "MediaKey(…)");
    }

    #[test]
    fn lines_with_options_that_are_not_spoken_are_passed_over() {
        let key = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNk";
        let read =
            |tail: &str| Crypto::parse(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key}{tail}")).is_some();
        assert!(read(""));
        assert!(read("|2^20"));
        assert!(read(" -WSH=64"));
        assert!(!read("|2^20|1:4"));
        assert!(!read(" UNENCRYPTED_SRTP"));
        assert!(Crypto::parse(&format!("1 F8_128_HMAC_SHA1_80 inline:{key}")).is_none());
        assert!(Crypto::parse("1 AES_CM_128_HMAC_SHA1_80 inline:c2hvcnQ=").is_none());
        assert!(Crypto::parse("").is_none());
    }
}
