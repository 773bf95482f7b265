//! The key: made or found, and signed with.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::channel::Channel;
use crate::wire::{self, Reply};

/// Where the key lies unless the configuration says otherwise: in the range of the owner that nobody else was given
/// (TCG "Registry of Reserved TPM 2.0 Handles and Localities").
pub const DEFAULT_HANDLE: Handle = Handle(0x8102_0001);

/// A busy TPM is asked again after 20 ms, 40 ms, and so on up to 640 ms: 10 s in all.
const TRIES: u32 = 20;

// Codes of part 2 §6.6.3, without what says which handle, session or parameter is meant.
const BUSY: [u32; 4] = [0x908, 0x90A, 0x920, 0x922];
const LOCKOUT: u32 = 0x921;
const NO_ROOM: u32 = 0x14B;
const TAKEN: u32 = 0x14C;
const NOT_STARTED: u32 = 0x100;
const NO_HANDLE: u32 = 0x08B;
const WRONG_PASSWORD: [u32; 2] = [0x08E, 0x0A2];

/// Why the key cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum TpmError {
    /// Nothing lies at the path.
    #[error(
        "there is no TPM at `{path}`: switch it on in the machine's firmware (TPM 2.0, fTPM or PTT), or name the right \
         device"
    )]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// The device is there, for others.
    #[error(
        "the TPM at `{path}` may not be used by this user: put the user into the device's group, mostly `tss`"
    )]
    Forbidden {
        /// The path.
        path: PathBuf,
    },
    /// Talking to it failed.
    #[error("the TPM at `{path}` does not answer")]
    Talk {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is of the generation before.
    #[error(
        "the TPM at `{path}` is a TPM 1.2, which has no such keys: switch it to 2.0 in the machine's firmware"
    )]
    Old {
        /// The path.
        path: PathBuf,
    },
    /// Nobody started it.
    #[error(
        "the TPM at `{path}` was not started: a device of the kernel is, a TPM in software needs `startup-clear`"
    )]
    NotStarted {
        /// The path.
        path: PathBuf,
    },
    /// Too many wrong passwords were given to it.
    #[error(
        "the TPM is locked after wrong passwords: wait until it lets go by itself (hours), or run \
         `tpm2_dictionarylockout --clear-lockout`"
    )]
    LockedOut,
    /// Its owner has a password.
    #[error(
        "the TPM's owner has a password, and the box makes its key without one: take it away with `tpm2_changeauth -c \
         owner`, or clear the TPM in the machine's firmware before the box joins"
    )]
    OwnerPassword,
    /// Its memory is full.
    #[error(
        "the TPM has no room for another key: `tpm2_getcap handles-persistent` lists them, `tpm2_evictcontrol -C o -c \
         HANDLE` takes one away"
    )]
    NoRoom,
    /// Something of somebody else's lies there.
    #[error("at {handle} of the TPM lies something else than a box's key: choose another handle")]
    Taken {
        /// The handle.
        handle: Handle,
    },
    /// The key that was there is not.
    #[error(
        "the box's key is no longer at {handle} of the TPM: it was cleared, or is another one than before. What it signed \
         stays valid, but nobody can sign in its name again; let the box join as a new one, and revoke the old one"
    )]
    Gone {
        /// The handle.
        handle: Handle,
    },
    /// It answered with a code that nothing above is about.
    #[error("the TPM refused to {doing} (code {code:#x}; `tpm2_rc_decode {code:#x}` explains it)")]
    Refused {
        /// What was asked.
        doing: &'static str,
        /// Its code (part 2 §6.6).
        code: u32,
    },
    /// It answered with something else than what was asked.
    #[error("the TPM answered nonsense when it was asked to {doing}")]
    Nonsense {
        /// What was asked.
        doing: &'static str,
    },
}

/// A place for keys that outlive a restart, in the owner's range: 0x81000000 to 0x817fffff.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Handle(u32);

impl Handle {
    /// Takes a number in the range.
    pub fn new(number: u32) -> Option<Self> {
        (0x8100_0000..=0x817F_FFFF).contains(&number).then_some(Self(number))
    }

    /// Returns the number.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A TPM, by where it is.
#[derive(Clone, Debug)]
pub struct Tpm {
    path: PathBuf,
}

impl Tpm {
    /// Names a device such as `/dev/tpmrm0`, or the socket of a TPM in software. Nothing is opened yet.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Returns the key at the handle; makes it where nothing lies. Of several processes that do so at once, one makes
    /// it and all return the same.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn key_or_make(&self, handle: Handle) -> Result<TpmKey, TpmError> {
        let mut channel = self.open()?;
        if let Some(public) = self.public(&mut channel, handle)? {
            return Ok(self.key_of(handle, public));
        }
        let made = self.ask(&mut channel, "make the key", &wire::create_primary())?;
        let loaded =
            made.body().and_then(wire::read_loaded).ok_or(TpmError::Nonsense { doing: "make the key" })?;
        let kept = self.ask(&mut channel, "keep the key", &wire::keep_at(loaded, handle.0));
        // The copy in memory goes in any case; without a resource manager it would take one of three places.
        let _ = self.ask(&mut channel, "forget the copy", &wire::flush(loaded));
        match kept {
            // Somebody was faster, with the same key.
            Ok(_) | Err(TpmError::Refused { code: TAKEN, .. }) => {}
            Err(error) => return Err(error),
        }
        let public =
            self.public(&mut channel, handle)?.ok_or(TpmError::Nonsense { doing: "keep the key" })?;
        Ok(self.key_of(handle, public))
    }

    /// Returns the key at the handle if it is the one with this public part (`04`, x, y).
    ///
    /// # Errors
    /// [`TpmError::Gone`] when it is not there or another one is, and the others.
    pub fn key(&self, handle: Handle, public: &[u8]) -> Result<TpmKey, TpmError> {
        let found = self.public(&mut self.open()?, handle)?;
        match found.filter(|found| found == public) {
            Some(found) => Ok(self.key_of(handle, found)),
            None => Err(TpmError::Gone { handle }),
        }
    }

    fn key_of(&self, handle: Handle, public: [u8; wire::POINT]) -> TpmKey {
        TpmKey { tpm: self.clone(), handle, public }
    }

    fn open(&self) -> Result<Channel, TpmError> {
        let path = self.path.clone();
        Channel::open(&self.path).map_err(|source| {
            let kind = source.kind();
            if kind == ErrorKind::NotFound {
                TpmError::Missing { path }
            } else if kind == ErrorKind::PermissionDenied {
                TpmError::Forbidden { path }
            } else {
                TpmError::Talk { path, source }
            }
        })
    }

    /// Returns the public part of what lies at the handle.
    fn public(&self, channel: &mut Channel, handle: Handle) -> Result<Option<[u8; wire::POINT]>, TpmError> {
        let answer = match self.ask(channel, "show the key", &wire::ask_public(handle.0)) {
            Err(TpmError::Refused { code: NO_HANDLE, .. }) => return Ok(None),
            answer => answer?,
        };
        match answer.body().and_then(wire::read_public) {
            Some(public) => Ok(Some(public)),
            None => Err(TpmError::Taken { handle }),
        }
    }

    /// Sends one command, again while the TPM is busy.
    fn ask(&self, channel: &mut Channel, doing: &'static str, command: &[u8]) -> Result<Answer, TpmError> {
        let path = || self.path.clone();
        for attempt in 0..TRIES {
            let bytes = channel.ask(command).map_err(|source| TpmError::Talk { path: path(), source })?;
            let code = match Reply::parse(&bytes) {
                None => return Err(TpmError::Nonsense { doing }),
                Some(Reply::Old) => return Err(TpmError::Old { path: path() }),
                Some(Reply::Done { .. }) => return Ok(Answer(bytes)),
                Some(Reply::Code(code)) => code,
            };
            if !BUSY.contains(&code) {
                return Err(refusal(doing, code, path()));
            }
            thread::sleep(Duration::from_millis(20 << attempt.min(5)));
        }
        let source = io::Error::new(ErrorKind::TimedOut, "it is busy");
        Err(TpmError::Talk { path: path(), source })
    }
}

/// An answer that says that it was done.
struct Answer(Vec<u8>);

impl Answer {
    fn body(&self) -> Option<&[u8]> {
        match Reply::parse(&self.0)? {
            Reply::Done { body, .. } => Some(body),
            Reply::Code(_) | Reply::Old => None,
        }
    }
}

fn refusal(doing: &'static str, code: u32, path: PathBuf) -> TpmError {
    // With bit 7 set, bits 8 to 11 and 6 say which handle, session or parameter is meant (part 2 §6.6.2).
    let meant = if code & 0x080 == 0 { code & 0xFFF } else { code & 0x0BF };
    match meant {
        LOCKOUT => TpmError::LockedOut,
        NO_ROOM => TpmError::NoRoom,
        NOT_STARTED => TpmError::NotStarted { path },
        code if WRONG_PASSWORD.contains(&code) => TpmError::OwnerPassword,
        NO_HANDLE | TAKEN => TpmError::Refused { doing, code: meant },
        _ => TpmError::Refused { doing, code },
    }
}

/// The box's key, as far as it can be had: its public part, and who signs with the rest.
#[derive(Clone, Debug)]
pub struct TpmKey {
    tpm: Tpm,
    handle: Handle,
    public: [u8; wire::POINT],
}

impl TpmKey {
    /// Returns the public part: `04`, x, y (SEC 1 §2.3.3).
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// Has a SHA-256 signed (ECDSA, P-256); returns `SEQUENCE { r, s }` in DER. Takes as long as the TPM takes: 1 to 30 ms
    /// in a processor's firmware, some 100 ms on a chip of its own.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn sign(&self, sha256: &[u8; 32]) -> Result<Vec<u8>, TpmError> {
        let doing = "sign";
        let command = wire::sign(self.handle.0, sha256);
        let answer = match self.tpm.ask(&mut self.tpm.open()?, doing, &command) {
            Err(TpmError::Refused { code: NO_HANDLE, .. }) => {
                return Err(TpmError::Gone { handle: self.handle });
            }
            answer => answer?,
        };
        answer.body().and_then(wire::read_signature).ok_or(TpmError::Nonsense { doing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_becomes_what_to_do_whichever_argument_it_is_about() {
        let said = |code| refusal("keep the key", code, "/dev/tpmrm0".into()).to_string();
        for (code, what) in [
            (0x921, "tpm2_dictionarylockout"),
            (0x14B, "tpm2_evictcontrol"),
            (0x9A2, "tpm2_changeauth"),
            (0x98E, "tpm2_changeauth"),
            (0x100, "startup-clear"),
            (0x1C4, "0x1c4"),
        ] {
            assert!(said(code).contains(what), "{code:#x}: {}", said(code));
        }
        for code in [0x18B, 0x28B] {
            let error = refusal("show the key", code, PathBuf::new());
            assert!(matches!(error, TpmError::Refused { code: NO_HANDLE, .. }), "{error}");
        }
    }

    #[test]
    fn a_handle_is_one_of_the_owners() {
        assert_eq!(Handle::new(0x8102_0001), Some(DEFAULT_HANDLE));
        for wrong in [0, 0x80FF_FFFF, 0x8180_0000, u32::MAX] {
            assert_eq!(Handle::new(wrong), None);
        }
    }

    #[test]
    fn what_is_no_tpm_is_said_to_be_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tpmrm0");
        let missing = Tpm::at(&path).key_or_make(DEFAULT_HANDLE).unwrap_err();
        assert!(matches!(missing, TpmError::Missing { .. }) && missing.to_string().contains("firmware"));
        std::fs::write(&path, "").unwrap();
        let mute = Tpm::at(&path).key_or_make(DEFAULT_HANDLE).unwrap_err();
        assert!(matches!(mute, TpmError::Talk { .. }), "{mute}");
    }
}
