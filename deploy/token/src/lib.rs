//! Keys of releases on PKCS#11 tokens: a stick, a card or a module that signs and gives its key to nobody.
//!
//! - [`TokenUri`]: which key, as people write it (RFC 7512). No I/O.
//! - [`TokenKey`]: finds or makes the key, and signs with it by CKM_EDDSA (PKCS#11 3.0 §2.3.14). What fails says what
//!   to do.
//!
//! The token's maker brings a library, which is loaded when the program runs, from the path that the URI names: nothing
//! of it is linked. `trunkctl` alone depends on this crate; boxes and the cloud verify signatures and know no token.
//!
//! **Invariant:** a PIN comes from a file or from a person at the terminal, is tried once, and stands in no error and no log.
//! **Invariant:** what a token signed is verified with its public half before anybody else sees it.
//!
//! Absent on purpose: tokens that want their PIN before each signature (CKA_ALWAYS_AUTHENTICATE), setting up tokens and
//! PINs (their makers' tools do), keys other than Ed25519, and C_Finalize: the module is let go with the process, since a
//! second key on it may be in use.

mod key;
mod pin;
mod uri;

pub use key::{TokenError, TokenKey};
pub use pin::PinError;
pub use uri::{TokenUri, UriError};
