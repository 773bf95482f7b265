//! Updates from a stick: the same repository in a folder, with assignments, and signed results written back.
//!
//! ```text
//! trunkline/metadata/…            as on the server
//! trunkline/targets/…  packs/…
//! trunkline/assignments/{box}.json
//! trunkline/results/{box}.json    written by the box, signed with its own key
//! ```

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;
use trunkline_trust::{Envelope, EnvelopeError, PublicKey, RoleKeys, Signer};

use crate::state::Status;
use crate::updater::{Fetch, FetchError};

/// The folder on a stick.
pub const STICK_FOLDER: &str = "trunkline";

/// A repository in a folder.
#[derive(Clone, Debug)]
pub struct FolderSource {
    root: PathBuf,
}

impl FolderSource {
    /// Takes the folder that holds `metadata`, `targets` and `packs`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Gets what [`crate::Todo::Fetch`] asks for, reading no more than it allows.
    ///
    /// # Errors
    /// [`FetchError::Status`] 404 for a file that is not there, [`FetchError::Network`] for a bad medium.
    pub fn get(&self, fetch: &Fetch) -> Result<Vec<u8>, FetchError> {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(self.root.join(&fetch.path))?;
            let mut most = fetch.max_bytes + 1;
            if let Some((offset, length)) = fetch.range {
                file.seek(SeekFrom::Start(offset))?;
                most = length;
            }
            let mut bytes = Vec::new();
            file.take(most).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                FetchError::Status(404)
            } else {
                FetchError::Network(error.to_string())
            }
        })
    }

    /// Returns the assignment for a box, if the stick has one.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn assignment(&self, box_id: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.root.join("assignments").join(format!("{box_id}.json"))) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What a box did with a stick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StickResult {
    /// The box.
    #[serde(rename = "box")]
    pub box_id: String,
    /// When, by the box's clock.
    pub at: jiff::Timestamp,
    /// What each component came to.
    pub components: Vec<Status>,
    /// Why the assignment on the stick was not believed, if it was not.
    pub trouble: Option<String>,
}

/// Why a result cannot be written or believed.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// The stick said no.
    #[error("could not write the result")]
    Write(#[from] io::Error),
    /// Not signed by the box's key, or not signed at all.
    #[error("the result is not signed by the box")]
    Signature(#[from] EnvelopeError),
    /// Signed, and of another shape.
    #[error("the result cannot be read")]
    Content(#[from] serde_json::Error),
}

/// Writes a result to the stick, signed with the box's key.
///
/// # Errors
/// [`ResultError`].
pub fn write_result(root: &Path, result: &StickResult, key: &dyn Signer) -> Result<PathBuf, ResultError> {
    let mut envelope = Envelope::new(json!(result));
    envelope.sign(key)?;
    let dir = root.join("results");
    fs::create_dir_all(&dir)?;
    let path = dir.join(format!("{}.json", result.box_id));
    let draft = path.with_extension("tmp");
    fs::write(&draft, envelope.to_bytes())?;
    File::open(&draft)?.sync_all()?;
    fs::rename(&draft, &path)?;
    File::open(&dir)?.sync_all()?;
    Ok(path)
}

/// Reads a result that a box signed.
///
/// # Errors
/// [`ResultError`].
pub fn read_result(bytes: &[u8], key: PublicKey) -> Result<StickResult, ResultError> {
    let envelope = Envelope::parse(bytes)?;
    let role = RoleKeys { keyids: vec![key.id()], threshold: 1 };
    envelope.verify(&[(key.id(), key)].into(), &role)?;
    Ok(serde_json::from_value(envelope.signed().clone())?)
}

#[cfg(test)]
mod tests {
    use trunkline_trust::FileKey;

    use super::*;

    #[test]
    fn a_result_is_believed_only_with_the_signature_of_its_box() {
        let dir = tempfile::tempdir().unwrap();
        let key = FileKey::from_seed(&[9; 32]).unwrap();
        let result = StickResult {
            box_id: "tl-a".into(),
            at: "2026-06-01T08:00:00Z".parse().unwrap(),
            components: vec![],
            trouble: Some("no".into()),
        };
        let path = write_result(dir.path(), &result, &key).unwrap();
        let bytes = fs::read(path).unwrap();
        assert_eq!(read_result(&bytes, key.public()).unwrap(), result);
        let other = FileKey::from_seed(&[8; 32]).unwrap();
        assert!(read_result(&bytes, other.public()).is_err());
        let changed = String::from_utf8(bytes).unwrap().replace("\"no\"", "\"yes\"");
        assert!(read_result(changed.as_bytes(), key.public()).is_err());
    }
}
