//! Who the box is: its key, the request for its certificate, its claim code, and its certificate.
//!
//! ```text
//! identity/key.pem        the private key (P-256), mode 0600; or `key.tpm`, which says where in a TPM it is
//! identity/request.der    what was sent to the cloud; the same bytes each time
//! identity/claim          the code on the label, mode 0600; a factory may put it there
//! identity/box.pem        the certificate, with those between it and the root
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData as _};
use rustls::sign::SigningKey;
use trunkline_model::BoxId;
#[cfg(feature = "tpm")]
use trunkline_tpm::{DEFAULT_HANDLE, Handle, Tpm};
use trunkline_trust::{ClaimCode, box_name};

use crate::config::{KeyConfig, KeyStore};
use crate::key::{BoxKey, KeyError};

/// Why the box's identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("could not {doing} `{path}`")]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("`{path}` is not {what}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
    },
    /// Others on the machine can read a secret.
    #[error("`{0}` holds a secret and others can read it: run `chmod 600` on it")]
    Open(PathBuf),
    /// The key cannot be made or used.
    #[error("the box's key cannot be used")]
    Key(#[from] rcgen::Error),
    /// The place of the key does not give it.
    #[error(transparent)]
    Store(#[from] KeyError),
    /// The box has a key in another place than the configuration says.
    #[error(
        "`{0}` is there, but `[key] store` says that the key is elsewhere. A box keeps the key that it joined with: set \
         `store` back, or move the folder away, so that the box joins as a new one"
    )]
    Elsewhere(PathBuf),
}

/// The box's identity, in a folder.
#[derive(Debug)]
pub struct Identity {
    dir: PathBuf,
    key: BoxKey,
    id: BoxId,
}

impl Identity {
    /// Opens the folder; on the first start makes the key, and a claim code where the factory left none.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn open(dir: &Path, store: &KeyConfig) -> Result<Self, IdentityError> {
        fs::create_dir_all(dir).map_err(file("make the folder", dir))?;
        let (path, elsewhere) = match store.store {
            KeyStore::File => (dir.join("key.pem"), dir.join("key.tpm")),
            KeyStore::Tpm => (dir.join("key.tpm"), dir.join("key.pem")),
        };
        if elsewhere.exists() {
            return Err(IdentityError::Elsewhere(elsewhere));
        }
        let key = match store.store {
            KeyStore::File => key_in_file(&path)?,
            KeyStore::Tpm => key_in_tpm(&path, store)?,
        };
        let what = "a key that names a box";
        let id = box_name(&key.subject_public_key_info()).parse();
        let id = id.map_err(|_| IdentityError::Content { path, what })?;
        Ok(Self { dir: dir.to_owned(), key, id })
    }

    /// Returns the box's id, which follows from its key.
    pub fn id(&self) -> &BoxId {
        &self.id
    }

    /// Returns the code on the label. A box from a workshop makes its own at the first question.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn claim_code(&self) -> Result<ClaimCode, IdentityError> {
        let path = self.dir.join("claim");
        let made = || ClaimCode::from_random(rand::random()).reveal() + "\n";
        let text = read_or_make(&path, 0o600, || Ok(made().into_bytes()))?;
        check_private(&path)?;
        let what = "a claim code of 8 characters";
        let code = ClaimCode::parse(String::from_utf8_lossy(&text).trim());
        code.ok_or(IdentityError::Content { path, what })
    }

    /// Returns the request for the first certificate; the same bytes each time, since a second request under the
    /// same name looks like somebody else's.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn first_request(&self) -> Result<Vec<u8>, IdentityError> {
        read_or_make(&self.dir.join("request.der"), 0o644, || self.new_request())
    }

    /// Makes a request for the next certificate.
    ///
    /// # Errors
    /// [`IdentityError::Key`].
    pub fn new_request(&self) -> Result<Vec<u8>, IdentityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, self.id.as_str());
        Ok(params.serialize_request(&self.key)?.der().to_vec())
    }

    /// Returns the certificate, if the box has one.
    ///
    /// # Errors
    /// [`IdentityError::File`].
    pub fn certificate(&self) -> Result<Option<String>, IdentityError> {
        let path = self.dir.join("box.pem");
        match fs::read_to_string(&path) {
            Ok(pem) => Ok(Some(pem)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(IdentityError::File { doing: "read", path, source }),
        }
    }

    /// Keeps a certificate; it is on the disk when this returns.
    ///
    /// # Errors
    /// [`IdentityError::Content`] for one that is not for this box, [`IdentityError::File`].
    pub fn save_certificate(&self, pem: &str) -> Result<(), IdentityError> {
        let path = self.dir.join("box.pem");
        if life(pem).is_none_or(|life| life.holder != self.id.as_str()) {
            return Err(IdentityError::Content { path, what: "a certificate for this box" });
        }
        write(&path, pem.as_bytes(), 0o644)
    }

    /// Returns who signs with the private key, for TLS.
    pub(crate) fn tls_key(&self) -> Result<Arc<dyn SigningKey>, IdentityError> {
        Ok(self.key.for_tls(&self.dir)?)
    }
}

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) holder: String,
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
}

impl Life {
    /// Returns when two thirds of it are over: time to renew.
    pub(crate) fn renew_at(&self) -> Timestamp {
        let life = self.until.duration_since(self.from);
        self.from + life / 3 * 2
    }
}

/// Reads the first certificate of a chain.
pub(crate) fn life(pem: &str) -> Option<Life> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
    let read = pem.parse_x509().ok()?;
    let second = |at: i64| Timestamp::from_second(at).ok();
    Some(Life {
        holder: read.subject().iter_common_name().next()?.as_str().ok()?.to_owned(),
        from: second(read.validity().not_before.timestamp())?,
        until: second(read.validity().not_after.timestamp())?,
    })
}

fn key_in_file(path: &Path) -> Result<BoxKey, IdentityError> {
    let pem = read_or_make(path, 0o600, || Ok(KeyPair::generate()?.serialize_pem().into_bytes()))?;
    check_private(path)?;
    let what = "a private key in PEM";
    let pair = KeyPair::from_pem(&String::from_utf8_lossy(&pem));
    Ok(BoxKey::File(pair.map_err(|_| IdentityError::Content { path: path.to_owned(), what })?))
}

/// The key that `path` names; at the first start makes one, and says there where it is.
#[cfg(feature = "tpm")]
fn key_in_tpm(path: &Path, store: &KeyConfig) -> Result<BoxKey, IdentityError> {
    use crate::key::in_tpm::{Note, note_of};

    let device = store.device.clone().unwrap_or_else(|| PathBuf::from("/dev/tpmrm0"));
    let handle = store.handle.and_then(Handle::new).unwrap_or(DEFAULT_HANDLE);
    let tpm = |error| IdentityError::Store(KeyError::Tpm(error));
    let make = || Ok(note_of(&device, handle, &Tpm::at(&device).key_or_make(handle).map_err(tpm)?));
    let text = read_or_make(path, 0o600, make)?;
    let key = Note::parse(&text, path)?.key_at(&device, handle, path)?;
    // The device has another name than before: the program for calls goes by the note.
    let note = note_of(&device, handle, &key);
    if note != text {
        write(path, &note, 0o600)?;
    }
    Ok(BoxKey::Tpm(key))
}

#[cfg(not(feature = "tpm"))]
fn key_in_tpm(path: &Path, _: &KeyConfig) -> Result<BoxKey, IdentityError> {
    Err(IdentityError::Store(KeyError::NoTpm { path: path.to_owned() }))
}

fn file<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> IdentityError + 'a {
    move |source| IdentityError::File { doing, path: path.to_owned(), source }
}

/// Reads a file, or makes it where it is not there yet. Of several processes that do so at once, one makes it
/// and all read the same.
fn read_or_make(
    path: &Path,
    mode: u32,
    make: impl FnOnce() -> Result<Vec<u8>, IdentityError>,
) -> Result<Vec<u8>, IdentityError> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        read => return read.map_err(file("read", path)),
    }
    let draft = path.with_extension(format!("new-{}", rand::random::<u32>()));
    write(&draft, &make()?, mode)?;
    // Unlike a renaming, a link replaces nothing.
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft).map_err(file("remove", &draft))?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(IdentityError::File { doing: "write", path: path.to_owned(), source: error });
        }
        _ => {}
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(file("write", path))?;
    fs::read(path).map_err(file("read", path))
}

/// Writes a file so that after a power cut it has the old bytes or the new ones, with its mode from the first
/// byte on.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), IdentityError> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".tmp");
    let draft = PathBuf::from(draft);
    let done = || -> io::Result<()> {
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    done().map_err(file("write", path))
}

fn check_private(path: &Path) -> Result<(), IdentityError> {
    let meta = fs::metadata(path).map_err(file("look at", path))?;
    if meta.mode() & 0o077 != 0 { Err(IdentityError::Open(path.to_owned())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn open(dir: &Path) -> Result<Identity, IdentityError> {
        Identity::open(dir, &KeyConfig::default())
    }

    #[test]
    fn key_code_and_request_are_made_once_and_the_secrets_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path()).unwrap();
        let (code, request) = (first.claim_code().unwrap(), first.first_request().unwrap());
        let again = open(dir.path()).unwrap();
        assert_eq!((again.id(), again.claim_code().unwrap()), (first.id(), code));
        assert_eq!(again.first_request().unwrap(), request);
        assert_ne!(again.new_request().unwrap(), request);
        for name in ["key.pem", "claim"] {
            assert_eq!(fs::metadata(dir.path().join(name)).unwrap().mode() & 0o777, 0o600, "{name}");
        }
        fs::set_permissions(dir.path().join("key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(open(dir.path()), Err(IdentityError::Open(_))));
    }

    #[test]
    fn processes_that_open_it_at_once_agree_on_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let ids: Vec<_> = std::thread::scope(|scope| {
            let open = || {
                let identity = open(dir.path()).unwrap();
                (identity.id().clone(), identity.claim_code().unwrap(), identity.first_request().unwrap())
            };
            let all: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(ids.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "no drafts are left");
    }

    #[test]
    fn a_box_whose_key_is_elsewhere_makes_no_second_one() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).unwrap();
        let tpm = KeyConfig { store: KeyStore::Tpm, ..KeyConfig::default() };
        let refused = Identity::open(dir.path(), &tpm).unwrap_err();
        assert!(matches!(&refused, IdentityError::Elsewhere(path) if path.ends_with("key.pem")), "{refused}");
        fs::rename(dir.path().join("key.pem"), dir.path().join("key.tpm")).unwrap();
        assert!(matches!(open(dir.path()), Err(IdentityError::Elsewhere(_))));
    }

    #[test]
    fn the_factorys_code_counts_and_a_broken_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let identity = open(dir.path()).unwrap();
        write(&dir.path().join("claim"), b"abcd-efgh\n", 0o600).unwrap();
        assert_eq!(identity.claim_code().unwrap().reveal(), "ABCD-EFGH");
        write(&dir.path().join("claim"), b"no code", 0o600).unwrap();
        assert!(identity.claim_code().unwrap_err().to_string().contains("claim code"));
    }

    #[test]
    fn a_certificate_for_somebody_else_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let identity = open(dir.path()).unwrap();
        let sign = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params.not_before = rcgen::date_time_ymd(2026, 1, 1);
            params.not_after = rcgen::date_time_ymd(2026, 4, 1);
            params.self_signed(&identity.key).unwrap().pem()
        };
        assert!(identity.save_certificate(&sign("tl-other")).is_err());
        assert!(identity.save_certificate("nothing").is_err());
        assert_eq!(identity.certificate().unwrap(), None);
        let own = sign(identity.id().as_str());
        identity.save_certificate(&own).unwrap();
        assert_eq!(identity.certificate().unwrap(), Some(own.clone()));
        assert_eq!(life(&own).unwrap().renew_at().to_string(), "2026-03-02T00:00:00Z");
    }
}
