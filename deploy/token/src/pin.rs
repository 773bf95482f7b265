//! The PIN of a token: from a file or from a person, tried once.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cryptoki::slot::TokenInfo;
use cryptoki::types::AuthPin;

use crate::uri::TokenUri;

/// Why there is no PIN, or the token did not take it.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The file cannot be read.
    #[error("cannot read the PIN in {file}")]
    File {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read the file.
    #[error("others can read the PIN in {0}: chmod 600 it")]
    Open(PathBuf),
    /// Nothing in the file, or nothing typed.
    #[error("the PIN is empty; it was not tried")]
    Empty,
    /// Nobody can be asked.
    #[error("the token wants a PIN, and nobody can be asked for it: add pin-source=file:/… to the URI")]
    Nobody(#[source] io::Error),
    /// The PIN was wrong.
    #[error("the PIN is wrong; {0}. It was not tried a second time")]
    Wrong(&'static str),
    /// Too many wrong ones, before or with this one.
    #[error("the token is locked after wrong PINs: its administrator (SO) has to set a new one")]
    Locked,
    /// One wrong PIN more locks the token, and a file may be out of date.
    #[error("the token has one try left before it locks: leave pin-source out and type the PIN yourself")]
    OneTryLeft,
    /// The token has no PIN yet.
    #[error("the token has no PIN for its user yet: set one with its maker's tool")]
    NotSet,
}

/// Gets the PIN; asks with `ask` where the URI names no file.
pub(crate) fn get(
    uri: &TokenUri,
    info: &TokenInfo,
    ask: &mut dyn FnMut(&str) -> io::Result<String>,
) -> Result<AuthPin, PinError> {
    if info.user_pin_locked() {
        return Err(PinError::Locked);
    }
    if !info.user_pin_initialized() {
        return Err(PinError::NotSet);
    }
    let pin = match &uri.pin_file {
        Some(_) if info.user_pin_final_try() => return Err(PinError::OneTryLeft),
        Some(file) => read(file)?,
        None => ask(&format!("PIN of token `{}`: ", info.label())).map_err(PinError::Nobody)?,
    };
    if pin.is_empty() { Err(PinError::Empty) } else { Ok(pin.into()) }
}

fn read(file: &Path) -> Result<String, PinError> {
    let failed = |source| PinError::File { file: file.to_owned(), source };
    if fs::metadata(file).map_err(failed)?.mode() & 0o077 != 0 {
        return Err(PinError::Open(file.to_owned()));
    }
    let text = fs::read_to_string(file).map_err(failed)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Says how many tries are left, as far as a token says so (PKCS#11 §3.2, CKF_USER_PIN_…).
pub(crate) fn after_a_wrong_one(info: Option<TokenInfo>) -> PinError {
    match info {
        Some(info) if info.user_pin_locked() => PinError::Locked,
        Some(info) if info.user_pin_final_try() => PinError::Wrong("the token has one try left"),
        Some(info) if info.user_pin_count_low() => {
            PinError::Wrong("the token counts wrong tries, and does not say how many are left")
        }
        _ => PinError::Wrong("the token does not say how many tries are left"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_with_a_pin_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pin");
        assert!(matches!(read(&file), Err(PinError::File { .. })));
        fs::write(&file, "77 4411\r\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let open = read(&file).unwrap_err().to_string();
        assert!(open.contains("chmod 600") && !open.contains("4411"), "{open}");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read(&file).unwrap(), "77 4411", "spaces belong to it");
    }
}
