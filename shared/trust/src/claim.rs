//! What a box and the cloud must agree on before they know each other: the claim code, the proof that is made
//! with it, and the name that follows from a key.

use std::fmt;

use ring::{digest, hmac};
use serde::{Deserialize, Serialize};

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The code on a box's label: 8 characters of Crockford's base 32 (40 bits), without I, L, O and U.
#[derive(Clone, PartialEq, Eq)]
pub struct ClaimCode([u8; 8]);

impl ClaimCode {
    /// Makes a code from 40 random bits.
    pub fn from_random(bits: u64) -> Self {
        let mut text = [0; 8];
        for (at, character) in text.iter_mut().enumerate() {
            *character = ALPHABET[(bits >> (5 * at)) as usize & 31];
        }
        Self(text)
    }

    /// Reads what a person typed: in any case, with dashes and spaces, I and L for 1 and O for 0.
    pub fn parse(text: &str) -> Option<Self> {
        let typed: Vec<u8> = text
            .bytes()
            .filter(|byte| !matches!(byte, b'-' | b' '))
            .map(|byte| match byte.to_ascii_uppercase() {
                b'I' | b'L' => b'1',
                b'O' => b'0',
                other => other,
            })
            .collect();
        let code: [u8; 8] = typed.try_into().ok()?;
        code.iter().all(|byte| ALPHABET.contains(byte)).then_some(Self(code))
    }

    /// Returns the code as it stands on the label, `ABCD-EFGH`. It opens the door once; do not log it.
    pub fn reveal(&self) -> String {
        let text: String = self.0.iter().copied().map(char::from).collect();
        format!("{}-{}", &text[..4], &text[4..])
    }

    /// Returns the proof that a box sends with its request.
    pub fn proof(&self, request: &[u8]) -> Proof {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let mut proof = [0; 32];
        proof.copy_from_slice(hmac::sign(&key, request).as_ref());
        Proof(proof)
    }

    /// Says whether a request was made by somebody who knows the code; takes the same time either way.
    pub fn proves(&self, request: &[u8], proof: &Proof) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        hmac::verify(&key, request, &proof.0).is_ok()
    }

    /// Returns what is kept of a spent code: enough to know it again, bound to its box.
    pub fn spent(&self, box_name: &str) -> String {
        let text = [box_name.as_bytes(), &self.0].concat();
        hex::encode(digest::digest(&digest::SHA256, &text))
    }
}

impl fmt::Debug for ClaimCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClaimCode(…)")
    }
}

/// HMAC-SHA-256 of a certificate request with the claim code as key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof(pub [u8; 32]);

impl Proof {
    /// Reads 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        hex::decode(text).ok()?.try_into().ok().map(Self)
    }

    /// Returns 64 hexadecimal digits.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }
}

/// Returns a box's name from its public key: `tl-` and 16 characters of base 32 of the SHA-256 of the
/// SubjectPublicKeyInfo (DER).
pub fn box_name(spki: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, spki);
    let bits = hash.as_ref().first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes));
    let text: String = (0..16)
        .map(|at| char::from(b"abcdefghijklmnopqrstuvwxyz234567"[(bits >> (123 - 5 * at)) as usize & 31]))
        .collect();
    format!("tl-{text}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn codes_are_read_as_people_type_them_and_do_not_show_themselves() {
        let code = ClaimCode::from_random(0xab_cdef_0123);
        let label = code.reveal();
        for typed in
            [label.to_lowercase(), label.replace('-', " "), label.replace('0', "o").replace('1', "l")]
        {
            assert_eq!(ClaimCode::parse(&typed), Some(code.clone()), "{typed}");
        }
        assert_eq!(ClaimCode::parse("ABCD-EFG"), None);
        assert_eq!(ClaimCode::parse("ABCD-EFGU"), None);
        assert!(!format!("{code:?}").contains(&label));
    }

    #[test]
    fn a_proof_belongs_to_its_code_and_its_request() {
        let (code, other) = (ClaimCode::from_random(1), ClaimCode::from_random(2));
        let proof = code.proof(b"request");
        assert!(code.proves(b"request", &proof));
        assert!(!other.proves(b"request", &proof) && !code.proves(b"another", &proof));
        assert_eq!(Proof::from_hex(&proof.to_hex()), Some(proof));
        assert_eq!(Proof::from_hex("12"), None);
    }

    proptest! {
        #[test]
        fn every_code_reads_back(bits in 0u64..1 << 40) {
            let code = ClaimCode::from_random(bits);
            prop_assert_eq!(ClaimCode::parse(&code.reveal()), Some(code));
        }

        #[test]
        fn no_text_panics_the_reader(text: String, key: Vec<u8>) {
            let _ = (ClaimCode::parse(&text), Proof::from_hex(&text));
            prop_assert_eq!(box_name(&key).len(), 19);
        }
    }
}
