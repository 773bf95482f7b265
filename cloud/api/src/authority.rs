//! The online authority that signs boxes' certificates, and the requests that it signs.
//!
//! Of a request only the key is taken: name, use and life of the certificate are the cloud's decision.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKey, PublicKeyData, SanType,
    SerialNumber, date_time_ymd,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::CertificateSigningRequestDer;
use trunkline_db::Certificate;
use trunkline_fleet::enrol::{CERTIFICATE_LIFE, box_id};
use trunkline_model::BoxId;

/// The clocks of those who check may be so much behind.
const BEFORE: Duration = Duration::from_secs(3_600);

/// Why the authority cannot be used or did not sign.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The certificate or the key cannot be read.
    #[error("the authority's {what} cannot be used")]
    Unusable {
        /// `certificate` or `key`.
        what: &'static str,
        /// Why.
        source: rcgen::Error,
    },
    /// Signing failed.
    #[error("a certificate could not be signed")]
    Sign(#[from] rcgen::Error),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomness,
}

/// The authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    chain: String,
    organisation: String,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("organisation", &self.organisation).finish_non_exhaustive()
    }
}

impl Authority {
    /// Takes the authority's certificate, with those between it and the root behind it, and its key, PEM.
    ///
    /// # Errors
    /// [`AuthorityError::Unusable`].
    pub fn new(chain: &str, key: &str, organisation: &str) -> Result<Self, AuthorityError> {
        let unusable = |what| move |source| AuthorityError::Unusable { what, source };
        let key = KeyPair::from_pem(key).map_err(unusable("key"))?;
        let issuer = Issuer::from_ca_cert_pem(chain, key).map_err(unusable("certificate"))?;
        Ok(Self { issuer, chain: chain.to_owned(), organisation: organisation.to_owned() })
    }

    /// Signs a certificate of [`CERTIFICATE_LIFE`] for the key of a request.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub(crate) fn sign(&self, request: &Request, now: Timestamp) -> Result<Certificate, AuthorityError> {
        let mut serial = [0; 16];
        SystemRandom::new().fill(&mut serial).map_err(|_| AuthorityError::NoRandomness)?;
        // Positive (RFC 5280 §4.1.2.2), and with a first digit that is not 0, so that everybody writes it alike.
        serial[0] = serial[0] & 0x7f | 0x10;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, self.organisation.as_str());
        params.distinguished_name.push(DnType::CommonName, request.box_id.as_str());
        let uri = format!("urn:trunkline:box:{}", request.box_id);
        params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(SerialNumber::from(serial.to_vec()));
        let until = now + CERTIFICATE_LIFE;
        params.not_before = date_time_ymd(1970, 1, 1) + since_1970(now).saturating_sub(BEFORE);
        params.not_after = date_time_ymd(1970, 1, 1) + since_1970(until);
        let certificate = params.signed_by(&request.key, &self.issuer)?;
        let pem = format!("{}{}", certificate.pem(), self.chain);
        Ok(Certificate { serial: hex::encode(serial), box_id: request.box_id.clone(), pem, not_after: until })
    }
}

fn since_1970(at: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0))
}

/// A certificate request whose own signature is right: whoever made it holds the key.
pub(crate) struct Request {
    /// Follows from the key.
    pub(crate) box_id: BoxId,
    /// As it came.
    pub(crate) der: Vec<u8>,
    key: PublicKey,
}

/// The longest request, in bytes; one for a P-256 key has some 250.
const MAX_REQUEST: usize = 4 * 1024;

impl Request {
    /// Reads a request (PKCS#10, DER) for a P-256 key and checks its signature; `None` for anything else.
    pub(crate) fn parse(der: Vec<u8>) -> Option<Self> {
        if der.len() > MAX_REQUEST {
            return None;
        }
        let read =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der.as_slice()))
                .ok()?;
        let key = read.public_key;
        if key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return None;
        }
        let box_id = box_id(&key.subject_public_key_info())?;
        Some(Self { box_id, der, key })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use rcgen::{BasicConstraints, IsCa};

    use super::*;

    /// An authority whose root is itself.
    pub(crate) fn authority() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "tests");
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap().pem();
        Authority::new(&cert, &key.serialize_pem(), "Tests").unwrap()
    }

    pub(crate) fn request(key: &KeyPair) -> Vec<u8> {
        CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
    }

    #[test]
    fn only_the_key_of_a_request_goes_into_the_certificate() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["cloud.example".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "tl-another");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let asked = Request::parse(params.serialize_request(&key).unwrap().der().to_vec()).unwrap();
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let signed = authority().sign(&asked, now).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(signed.pem.as_bytes()).unwrap();
        let read = pem.parse_x509().unwrap();
        let names: Vec<&str> = read.subject().iter_common_name().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(names, [asked.box_id.as_str()]);
        assert_eq!(read.serial.to_str_radix(16), signed.serial);
        assert_eq!(read.validity().not_after.timestamp(), (now + CERTIFICATE_LIFE).as_second());
        let usage = read.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
        assert!(!signed.pem.contains("cloud.example"));
    }

    #[test]
    fn a_request_that_its_key_did_not_sign_is_none() {
        let mut der = request(&KeyPair::generate().unwrap());
        assert!(Request::parse(der.clone()).is_some());
        let last = der.len() - 1;
        der[last] ^= 1;
        assert!(Request::parse(der).is_none());
        let other = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        assert!(Request::parse(request(&other)).is_none(), "another kind of key");
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_reader_of_requests(bytes: Vec<u8>) {
            prop_assert!(Request::parse(bytes).is_none());
        }
    }
}
