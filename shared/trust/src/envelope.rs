//! A signed document: what was signed, exactly as it came, and the signatures.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::canonical::{self, CanonicalError};
use crate::key::{KeyError, KeyId, PublicKey, Signer};

/// More signatures than anybody has keys for; a longer list is refused before it costs time.
const MAX_SIGNATURES: usize = 64;

/// Who may sign for a role, and how many of them must.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleKeys {
    /// The ids of the keys.
    pub keyids: Vec<KeyId>,
    /// How many different keys must have signed; at least 1.
    pub threshold: u32,
}

/// Why a document is not what the keys say.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Not JSON that everybody reads alike.
    #[error(transparent)]
    Json(#[from] CanonicalError),
    /// The outer shape is not `{"signed": {…}, "signatures": […]}`.
    #[error("not a signed document: {0}")]
    Shape(String),
    /// Fewer of the role's keys have signed than must.
    #[error("signed by {good} of the {threshold} keys that must sign")]
    Threshold {
        /// How many different keys of the role signed rightly.
        good: u32,
        /// How many must.
        threshold: u32,
    },
    /// A key could not be used.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A signed document. Fields that this version does not know are kept, since signatures cover them.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    signed: Value,
    signatures: Vec<Signature>,
    /// Unknown fields beside `signed` and `signatures`; no signature covers them, and nothing reads them.
    rest: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Signature {
    keyid: KeyId,
    sig: String,
}

impl Envelope {
    /// Starts a document that nobody has signed yet.
    pub fn new(signed: Value) -> Self {
        Self { signed, signatures: Vec::new(), rest: Map::new() }
    }

    /// Reads a document. Nothing in it is to be believed before [`Self::verify`].
    ///
    /// # Errors
    /// [`EnvelopeError::Json`] and [`EnvelopeError::Shape`].
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let Value::Object(mut fields) = canonical::parse(bytes)? else {
            return Err(EnvelopeError::Shape("not an object".into()));
        };
        let signed = fields.remove("signed").filter(Value::is_object);
        let signed = signed.ok_or_else(|| EnvelopeError::Shape("no object `signed`".into()))?;
        let signatures = fields.remove("signatures").unwrap_or_default();
        if signatures.as_array().is_none_or(|list| list.len() > MAX_SIGNATURES) {
            return Err(EnvelopeError::Shape("no short list `signatures`".into()));
        }
        let signatures =
            serde_json::from_value(signatures).map_err(|error| EnvelopeError::Shape(error.to_string()))?;
        Ok(Self { signed, signatures, rest: fields })
    }

    /// Returns what was signed.
    pub fn signed(&self) -> &Value {
        &self.signed
    }

    /// Returns the ids of the keys that claim to have signed.
    pub fn claimed(&self) -> impl Iterator<Item = &KeyId> {
        self.signatures.iter().map(|signature| &signature.keyid)
    }

    /// Adds a signature, in place of an older one by the same key.
    ///
    /// # Errors
    /// [`EnvelopeError::Json`] when the content cannot be signed, [`EnvelopeError::Key`] when the
    /// signer says no.
    pub fn sign(&mut self, signer: &dyn Signer) -> Result<(), EnvelopeError> {
        let message = canonical::to_bytes(&self.signed)?;
        let keyid = signer.public().id();
        let sig = hex::encode(signer.sign(&message)?);
        self.signatures.retain(|signature| signature.keyid != keyid);
        self.signatures.push(Signature { keyid, sig });
        self.signatures.sort_by(|a, b| a.keyid.cmp(&b.keyid));
        Ok(())
    }

    /// Returns how many different keys of the role have signed rightly. A key counts once, under
    /// however many ids it is listed.
    ///
    /// # Errors
    /// [`EnvelopeError::Json`] when the content has no canonical form.
    pub fn count(&self, keys: &BTreeMap<KeyId, PublicKey>, role: &RoleKeys) -> Result<u32, EnvelopeError> {
        let message = canonical::to_bytes(&self.signed)?;
        let good: BTreeSet<&PublicKey> = self
            .signatures
            .iter()
            .filter(|signature| role.keyids.contains(&signature.keyid))
            .filter_map(|signature| Some((keys.get(&signature.keyid)?, hex::decode(&signature.sig).ok()?)))
            .filter(|(key, sig)| key.verifies(&message, sig))
            .map(|(key, _)| key)
            .collect();
        Ok(u32::try_from(good.len()).unwrap_or(u32::MAX))
    }

    /// Checks that enough of the role's keys have signed.
    ///
    /// # Errors
    /// [`EnvelopeError::Threshold`], also for a role whose threshold is 0.
    pub fn verify(&self, keys: &BTreeMap<KeyId, PublicKey>, role: &RoleKeys) -> Result<(), EnvelopeError> {
        let good = self.count(keys, role)?;
        if role.threshold == 0 || good < role.threshold {
            return Err(EnvelopeError::Threshold { good, threshold: role.threshold });
        }
        Ok(())
    }

    /// Returns the document as a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut fields = self.rest.clone();
        fields.insert("signatures".into(), json!(self.signatures));
        fields.insert("signed".into(), self.signed.clone());
        let mut bytes = serde_json::to_vec_pretty(&Value::Object(fields)).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::FileKey;

    fn key(n: u8) -> FileKey {
        FileKey::from_seed(&[n; 32]).unwrap()
    }

    fn table(keys: &[&FileKey]) -> BTreeMap<KeyId, PublicKey> {
        keys.iter().map(|key| (key.public().id(), key.public())).collect()
    }

    fn role(keys: &[&FileKey], threshold: u32) -> RoleKeys {
        RoleKeys { keyids: keys.iter().map(|key| key.public().id()).collect(), threshold }
    }

    #[test]
    fn two_of_three_keys_must_sign_and_one_key_counts_once() {
        let (a, b, c) = (key(1), key(2), key(3));
        let (keys, role) = (table(&[&a, &b, &c]), role(&[&a, &b, &c], 2));
        let mut envelope = Envelope::new(json!({"x": 1}));
        assert!(matches!(envelope.verify(&keys, &role), Err(EnvelopeError::Threshold { good: 0, .. })));
        envelope.sign(&a).unwrap();
        envelope.sign(&a).unwrap();
        assert!(matches!(envelope.verify(&keys, &role), Err(EnvelopeError::Threshold { good: 1, .. })));
        envelope.sign(&c).unwrap();
        envelope.verify(&keys, &role).unwrap();
    }

    #[test]
    fn one_key_listed_under_two_ids_counts_once() {
        let a = key(1);
        let mut keys = table(&[&a]);
        let alias: KeyId = serde_json::from_value(json!("ff")).unwrap();
        keys.insert(alias.clone(), a.public());
        let role = RoleKeys { keyids: vec![a.public().id(), alias.clone()], threshold: 2 };
        let mut envelope = Envelope::new(json!({"x": 1}));
        envelope.sign(&a).unwrap();
        let mut twin = envelope.signatures[0].clone();
        twin.keyid = alias;
        envelope.signatures.push(twin);
        assert!(matches!(envelope.verify(&keys, &role), Err(EnvelopeError::Threshold { good: 1, .. })));
    }

    #[test]
    fn a_threshold_of_zero_lets_nobody_in() {
        let a = key(1);
        let envelope = Envelope::new(json!({}));
        assert!(envelope.verify(&table(&[&a]), &role(&[&a], 0)).is_err());
    }

    #[test]
    fn a_key_of_another_role_does_not_count() {
        let (a, b) = (key(1), key(2));
        let mut envelope = Envelope::new(json!({}));
        envelope.sign(&b).unwrap();
        assert!(envelope.verify(&table(&[&a, &b]), &role(&[&a], 1)).is_err());
    }

    #[test]
    fn unknown_fields_are_kept_and_covered() {
        let a = key(1);
        let mut envelope = Envelope::new(json!({"known": 1, "of_tomorrow": {"z": [1, 2]}}));
        envelope.sign(&a).unwrap();
        let read = Envelope::parse(&envelope.to_bytes()).unwrap();
        assert_eq!(read, envelope);
        read.verify(&table(&[&a]), &role(&[&a], 1)).unwrap();

        let changed = String::from_utf8(envelope.to_bytes()).unwrap().replace("\"z\"", "\"y\"");
        let changed = Envelope::parse(changed.as_bytes()).unwrap();
        assert!(changed.verify(&table(&[&a]), &role(&[&a], 1)).is_err());
    }

    #[test]
    fn an_endless_list_of_signatures_is_refused() {
        let one = json!({"keyid": "00", "sig": "00"});
        let document = json!({"signed": {}, "signatures": vec![one; MAX_SIGNATURES + 1]});
        assert!(Envelope::parse(&serde_json::to_vec(&document).unwrap()).is_err());
    }
}
