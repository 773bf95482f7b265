//! One Ed25519 key on a token, by the library that the token's maker brought.

use std::fmt;
use std::io;
use std::path::PathBuf;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use trunkline_trust::{KeyError, PublicKey, Signer};

use crate::pin::{self, PinError};
use crate::uri::TokenUri;

/// Why a key on a token cannot be used or made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// No library.
    #[error("no PKCS#11 module is named: add module-path=… to the URI, or set TRUNKLINE_PKCS11_MODULE")]
    NoModule,
    /// The library cannot be loaded.
    #[error("cannot load the PKCS#11 module {module}: is the token's software installed?")]
    Module {
        /// Its path.
        module: PathBuf,
        /// Why.
        source: Error,
    },
    /// No token is the one that the URI means.
    #[error("there is no {wanted}: {seen}")]
    NoToken {
        /// Which one is meant.
        wanted: String,
        /// Those that are there.
        seen: String,
    },
    /// Several are.
    #[error("the URI fits several tokens ({seen}): add token=… or serial=…")]
    ManyTokens {
        /// Which ones.
        seen: String,
    },
    /// A token that knows no Ed25519.
    #[error(
        "token `{token}` does not offer {mechanism}, which Ed25519 needs: take another token, or a key in a file"
    )]
    NoMechanism {
        /// The token's label.
        token: String,
        /// The mechanism, in the words of PKCS#11.
        mechanism: &'static str,
    },
    /// No PIN, or a wrong one.
    #[error("token `{token}` is not open")]
    Pin {
        /// The token's label.
        token: String,
        /// Why.
        source: PinError,
    },
    /// The key is not there.
    #[error("there is no {wanted}: {seen}")]
    NoKey {
        /// Which key on which token.
        wanted: String,
        /// The keys that are there.
        seen: String,
    },
    /// Several keys are meant.
    #[error("several keys are {wanted}: add id=…")]
    ManyKeys {
        /// Which key on which token.
        wanted: String,
    },
    /// A key is to be made where one is.
    #[error("{0} is there already")]
    There(String),
    /// A key without a label cannot be found again by people.
    #[error("say object=…: the new key needs a label")]
    NoLabel,
    /// Another kind of key.
    #[error("{0} is no Ed25519 key")]
    NotEd25519(String),
    /// The token shows no public half.
    #[error(
        "the token does not show the public half of {0}: import it beside the private one, with the same id"
    )]
    NoPublicHalf(String),
    /// A kind of key that is absent on purpose.
    #[error(
        "{0} wants the PIN before each signature (CKA_ALWAYS_AUTHENTICATE): take a key or a slot that does not"
    )]
    EachTime(String),
    /// What came back is not what was asked for.
    #[error(
        "what the token signs with {0} does not verify: the private and the public half there are not of one key"
    )]
    Wrong(String),
    /// Whatever else the token says.
    #[error("could not {doing}")]
    Token {
        /// What was being done.
        doing: &'static str,
        /// What it says.
        source: Error,
    },
}

/// A key that stays on its token. The session ends with this value; the token must stay plugged in.
pub struct TokenKey {
    session: Session,
    private: ObjectHandle,
    public: PublicKey,
    name: String,
}

impl TokenKey {
    /// Finds the key; `ask` is asked for the PIN where the URI names no file with it.
    ///
    /// # Errors
    /// [`TokenError`]; a wrong PIN is not tried again.
    pub fn open(uri: &TokenUri, ask: &mut dyn FnMut(&str) -> io::Result<String>) -> Result<Self, TokenError> {
        let token = Token::find(uri)?;
        token.can(MechanismType::EDDSA, "CKM_EDDSA")?;
        let session = token.session(false)?;
        token.log_in(&session, uri, ask)?;
        let private = find(&session, uri, ObjectClass::PRIVATE_KEY)?;
        let each_time = attributes(&session, private, &[AttributeType::AlwaysAuthenticate])?;
        if each_time.contains(&Attribute::AlwaysAuthenticate(true)) {
            return Err(TokenError::EachTime(uri.to_string()));
        }
        let public = match public_half(&session, uri, private)? {
            Some(public) => public,
            None => return Err(TokenError::NoPublicHalf(uri.to_string())),
        };
        Ok(Self { session, private, public, name: uri.to_string() })
    }

    /// Makes a key on the token, which never gives it away, and tries it once.
    ///
    /// # Errors
    /// [`TokenError`]; [`TokenError::There`] when there is a key with this label or id.
    pub fn generate(
        uri: &TokenUri,
        ask: &mut dyn FnMut(&str) -> io::Result<String>,
    ) -> Result<Self, TokenError> {
        let label = uri.object.clone().ok_or(TokenError::NoLabel)?.into_bytes();
        let token = Token::find(uri)?;
        token.can(MechanismType::EDDSA, "CKM_EDDSA")?;
        token.can(MechanismType::ECC_EDWARDS_KEY_PAIR_GEN, "CKM_EC_EDWARDS_KEY_PAIR_GEN")?;
        let session = token.session(true)?;
        token.log_in(&session, uri, ask)?;
        for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
            let label = Attribute::Label(label.clone());
            let same_id = uri.id.clone().map(Attribute::Id);
            for same in [Some(label), same_id].into_iter().flatten() {
                if !objects(&session, &[Attribute::Class(class), same])?.is_empty() {
                    return Err(TokenError::There(uri.to_string()));
                }
            }
        }
        let id = match &uri.id {
            Some(id) => id.clone(),
            None => session.generate_random_vec(8).map_err(failed("get random bytes from the token"))?,
        };
        let named = [Attribute::Token(true), Attribute::Label(label), Attribute::Id(id)];
        let public =
            [Attribute::Private(false), Attribute::Verify(true), Attribute::EcParams(ED25519.into())];
        let private = [
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
        ];
        let (public, private) = session
            .generate_key_pair(
                &Mechanism::EccEdwardsKeyPairGen,
                &[&named[..], &public[..]].concat(),
                &[&named[..], &private[..]].concat(),
            )
            .map_err(failed("make a key on the token"))?;
        let name = uri.to_string();
        let public = point(&session, public)?.ok_or_else(|| TokenError::NotEd25519(name.clone()))?;
        let key = Self { session, private, public, name };
        key.sign_checked(b"trunkline: is this a key?")?;
        Ok(key)
    }

    /// Returns the public half; asks for the PIN only where the token hides it.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn public_of(
        uri: &TokenUri,
        ask: &mut dyn FnMut(&str) -> io::Result<String>,
    ) -> Result<PublicKey, TokenError> {
        let token = Token::find(uri)?;
        let session = token.session(false)?;
        let found = objects(&session, &template(uri, ObjectClass::PUBLIC_KEY))?;
        match found[..] {
            [] => {}
            [one] => return point(&session, one)?.ok_or_else(|| TokenError::NotEd25519(uri.to_string())),
            _ => return Err(TokenError::ManyKeys { wanted: uri.to_string() }),
        }
        drop(session);
        Ok(Self::open(uri, ask)?.public)
    }

    fn sign_checked(&self, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        let pure = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519));
        let signature =
            self.session.sign(&pure, self.private, message).map_err(failed("sign on the token"))?;
        if self.public.verifies(message, &signature) {
            Ok(signature)
        } else {
            Err(TokenError::Wrong(self.name.clone()))
        }
    }
}

impl Signer for TokenKey {
    fn public(&self) -> PublicKey {
        self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.sign_checked(message).map_err(|error| match std::error::Error::source(&error) {
            Some(source) => KeyError::Refused(format!("{error}: {source}")),
            None => KeyError::Refused(error.to_string()),
        })
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({}, {})", self.name, self.public.id())
    }
}

/// The token that a URI means.
struct Token {
    module: Pkcs11,
    slot: Slot,
    info: TokenInfo,
}

impl Token {
    fn find(uri: &TokenUri) -> Result<Self, TokenError> {
        let module = load(uri)?;
        let mut there = Vec::new();
        for slot in module.get_slots_with_token().map_err(failed("list the tokens"))? {
            let info = module.get_token_info(slot).map_err(failed("look at a token"))?;
            // SoftHSM has an empty place for the next token always.
            if info.token_initialized() {
                there.push((slot, info));
            }
        }
        let seen = |tokens: &[(Slot, TokenInfo)]| {
            let named = tokens.iter().map(|(_, info)| format!("`{}`", info.label()));
            named.collect::<Vec<_>>().join(", ")
        };
        let all = seen(&there);
        let is =
            |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        there.retain(|(slot, info)| {
            is(&uri.token, info.label())
                && is(&uri.manufacturer, info.manufacturer_id())
                && is(&uri.model, info.model())
                && is(&uri.serial, info.serial_number())
                && uri.slot.is_none_or(|wanted| wanted == slot.id())
        });
        if there.len() > 1 {
            return Err(TokenError::ManyTokens { seen: seen(&there) });
        }
        let (slot, info) = there.pop().ok_or_else(|| {
            let seen = if all.is_empty() {
                "the module sees no token; is it plugged in, and may you use it?".into()
            } else {
                format!("the module sees {all}")
            };
            TokenError::NoToken { wanted: uri.token_name(), seen }
        })?;
        Ok(Self { module, slot, info })
    }

    fn can(&self, mechanism: MechanismType, name: &'static str) -> Result<(), TokenError> {
        let all =
            self.module.get_mechanism_list(self.slot).map_err(failed("ask the token what it can do"))?;
        if all.contains(&mechanism) {
            return Ok(());
        }
        Err(TokenError::NoMechanism { token: self.info.label().to_owned(), mechanism: name })
    }

    fn session(&self, writes: bool) -> Result<Session, TokenError> {
        let session = if writes {
            self.module.open_rw_session(self.slot)
        } else {
            self.module.open_ro_session(self.slot)
        };
        session.map_err(failed("open a session with the token"))
    }

    fn log_in(
        &self,
        session: &Session,
        uri: &TokenUri,
        ask: &mut dyn FnMut(&str) -> io::Result<String>,
    ) -> Result<(), TokenError> {
        if !self.info.login_required() {
            return Ok(());
        }
        // A token is open or not for the whole process: another key of it may have opened it.
        if session.get_session_info().is_ok_and(|info| is_open(info.session_state())) {
            return Ok(());
        }
        let closed = |source| TokenError::Pin { token: self.info.label().to_owned(), source };
        let pin = if self.info.protected_authentication_path() {
            eprintln!("Type the PIN of token `{}` on the token or its reader", self.info.label());
            None
        } else {
            Some(pin::get(uri, &self.info, ask).map_err(closed)?)
        };
        match session.login(UserType::User, pin.as_ref()) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(Error::Pkcs11(RvError::PinLocked, _)) => Err(closed(PinError::Locked)),
            Err(Error::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _)) => {
                Err(closed(pin::after_a_wrong_one(self.module.get_token_info(self.slot).ok())))
            }
            Err(source) => Err(TokenError::Token { doing: "log in at the token", source }),
        }
    }
}

/// The curve by its object identifier, 1.3.101.112 (RFC 8410 §3).
const ED25519: [u8; 5] = [0x06, 0x03, 0x2B, 0x65, 0x70];

fn is_open(state: cryptoki::session::SessionState) -> bool {
    use cryptoki::session::SessionState::{RoUser, RwUser};
    matches!(state, RoUser | RwUser)
}

fn failed(doing: &'static str) -> impl Fn(Error) -> TokenError {
    move |source| TokenError::Token { doing, source }
}

fn load(uri: &TokenUri) -> Result<Pkcs11, TokenError> {
    let from_environment = || std::env::var_os("TRUNKLINE_PKCS11_MODULE").filter(|path| !path.is_empty());
    let path = uri.module.clone().or_else(|| from_environment().map(PathBuf::from));
    let path = path.ok_or(TokenError::NoModule)?;
    let broken = |source| TokenError::Module { module: path.clone(), source };
    let module = Pkcs11::new(&path).map_err(broken)?;
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        // Another key of this process came first.
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(module),
        Err(source) => Err(broken(source)),
    }
}

fn template(uri: &TokenUri, class: ObjectClass) -> Vec<Attribute> {
    let mut wanted = vec![Attribute::Class(class)];
    wanted.extend(uri.object.clone().map(|label| Attribute::Label(label.into_bytes())));
    wanted.extend(uri.id.clone().map(Attribute::Id));
    wanted
}

fn objects(session: &Session, wanted: &[Attribute]) -> Result<Vec<ObjectHandle>, TokenError> {
    session.find_objects(wanted).map_err(failed("look for the key on the token"))
}

fn attributes(
    session: &Session,
    object: ObjectHandle,
    wanted: &[AttributeType],
) -> Result<Vec<Attribute>, TokenError> {
    session.get_attributes(object, wanted).map_err(failed("look at the key on the token"))
}

fn find(session: &Session, uri: &TokenUri, class: ObjectClass) -> Result<ObjectHandle, TokenError> {
    let found = objects(session, &template(uri, class))?;
    match found[..] {
        [one] => {
            let kind = attributes(session, one, &[AttributeType::KeyType])?;
            if kind.contains(&Attribute::KeyType(KeyType::EC_EDWARDS)) {
                Ok(one)
            } else {
                Err(TokenError::NotEd25519(uri.to_string()))
            }
        }
        [] => {
            let mut seen = Vec::new();
            for other in objects(session, &[Attribute::Class(class)])? {
                for attribute in attributes(session, other, &[AttributeType::Label])? {
                    if let Attribute::Label(label) = attribute {
                        seen.push(format!("`{}`", String::from_utf8_lossy(&label)));
                    }
                }
            }
            let seen = match seen.len() {
                0 => "the token holds no private key; `trunkctl release key` makes one".to_owned(),
                _ => format!("the token holds {}", seen.join(", ")),
            };
            Err(TokenError::NoKey { wanted: uri.to_string(), seen })
        }
        _ => Err(TokenError::ManyKeys { wanted: uri.to_string() }),
    }
}

/// Returns the public half of a private key: from the object beside it with the same id, or from itself.
fn public_half(
    session: &Session,
    uri: &TokenUri,
    private: ObjectHandle,
) -> Result<Option<PublicKey>, TokenError> {
    let mut beside = vec![Attribute::Class(ObjectClass::PUBLIC_KEY)];
    let id = attributes(session, private, &[AttributeType::Id])?;
    let same = id.into_iter().filter(|id| !matches!(id, Attribute::Id(id) if id.is_empty()));
    beside.extend(same);
    if beside.len() == 1 {
        beside = template(uri, ObjectClass::PUBLIC_KEY);
    }
    for public in objects(session, &beside)?.into_iter().chain([private]) {
        if let Some(key) = point(session, public)? {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

/// Returns the point of a public Ed25519 key, or what a private one says of it.
fn point(session: &Session, object: ObjectHandle) -> Result<Option<PublicKey>, TokenError> {
    let said = attributes(session, object, &[AttributeType::EcPoint, AttributeType::PublicKeyInfo])?;
    let mut points = said.iter().filter_map(|attribute| {
        if let Attribute::EcPoint(bytes) | Attribute::PublicKeyInfo(bytes) = attribute {
            read_point(bytes)
        } else {
            None
        }
    });
    Ok(points.next())
}

/// Reads a public key in the forms that tokens give it: the 32 bytes alone (PKCS#11 3.0 §2.3.5), as an OCTET STRING
/// (as its version 2.40 had it for other curves, and SoftHSM has it), as a BIT STRING, or as SubjectPublicKeyInfo (RFC 8410 §4).
fn read_point(bytes: &[u8]) -> Option<PublicKey> {
    const INFO: [u8; 12] = [0x30, 0x2A, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70, 0x03, 0x21, 0x00];
    let heads: [&[u8]; 4] = [&[], &[0x04, 0x20], &[0x03, 0x21, 0x00], &INFO];
    let point = heads.iter().find_map(|head| bytes.strip_prefix(*head).filter(|rest| rest.len() == 32))?;
    Some(PublicKey::from_bytes(point.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_is_read_in_each_form_that_tokens_give_it() {
        let key: Vec<u8> = (4..36).collect();
        let wanted = Some(PublicKey::from_bytes(key.clone().try_into().unwrap()));
        let info = b"\x30\x2A\x30\x05\x06\x03\x2B\x65\x70\x03\x21\x00";
        for head in [&b""[..], b"\x04\x20", b"\x03\x21\x00", info] {
            assert_eq!(read_point(&[head, &key].concat()), wanted, "{head:x?}");
            assert_eq!(read_point(&[head, &key[1..]].concat()), None, "{head:x?}");
        }
        // Ed448 has 57 bytes, P-256 an uncompressed point of 65.
        assert_eq!(read_point(&[&b"\x04\x39"[..], &[7; 57]].concat()), None);
        assert_eq!(read_point(&[&b"\x04\x41\x04"[..], &[7; 64]].concat()), None);
        assert_eq!(read_point(&[]), None);
    }
}
