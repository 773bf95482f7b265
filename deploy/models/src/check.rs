//! Whether a file on the disk is the model that was measured.
//!
//! Hashing 80 MB takes a box longer than it may take to start, so a hash once found right is
//! remembered in a stamp beside the models, for as long as the file's length and time of change
//! stay. A stamp guards against broken copies and wrong versions, not against somebody who can
//! write to the folder: that one could exchange this program as well.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use ring::digest::{Context, SHA256};

use crate::manifest::{Digest, Manifest, ManifestError, ModelFile};

/// Where stamps lie, below the folder that holds the models.
const STAMPS: &str = ".stamps";

/// Why a model must not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// This build has no such model.
    #[error("`{name}` is no model of this build")]
    Unknown {
        /// The name that was asked for.
        name: String,
    },
    /// There is no such file.
    #[error("model {path} is missing; run deploy/get-models")]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file has the wrong content.
    #[error(
        "model {path} is not the one expected: its SHA-256 is {got} instead of {expected}; delete it and run deploy/get-models"
    )]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The hash in the list.
        expected: Digest,
        /// The hash of the file.
        got: Digest,
    },
    /// The file could not be read.
    #[error("could not read model {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The list of this build is broken.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// What a look at a file found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is the model.
    Good,
    /// It is not there.
    Missing,
    /// It is something else; this is its hash.
    Wrong(Digest),
}

/// Returns the folder that models are kept in: `$TRUNKLINE_MODELS`, else `trunkline/models` below
/// `$XDG_CACHE_HOME` or `~/.cache`; a service without a home has `/var/cache/trunkline/models`.
pub fn model_dir() -> PathBuf {
    dir_from(|name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from))
}

/// Checks the file at `path` against the model file `name`, such as `silero-vad.onnx` or
/// `kokoro-voices/af_heart.bin`; reads it only when it changed since the last time.
///
/// # Errors
///
/// When this build has no such model, or the file is missing, unreadable or not that model.
pub fn check(path: &Path, name: &str) -> Result<(), ModelError> {
    let manifest = Manifest::built_in()?;
    let file = manifest.file(name).ok_or_else(|| ModelError::Unknown { name: name.to_owned() })?;
    match look(path, file, Trust::Stamp) {
        Ok(State::Good) => Ok(()),
        Ok(State::Missing) => Err(ModelError::Missing { path: path.to_owned() }),
        Ok(State::Wrong(got)) => {
            Err(ModelError::Wrong { path: path.to_owned(), expected: file.sha256.clone(), got })
        }
        Err(source) => Err(ModelError::Read { path: path.to_owned(), source }),
    }
}

/// How much a stamp is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// A fitting stamp spares the reading.
    Stamp,
    /// The file is read in any case.
    Nothing,
}

/// Says whether the file at `path` is `file`, and renews its stamp.
pub(crate) fn look(path: &Path, file: &ModelFile, trust: Trust) -> io::Result<State> {
    let stamp = match stamp_text(path, &file.sha256) {
        Ok(stamp) => stamp,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(State::Missing),
        Err(e) => return Err(e),
    };
    let stamp_path = stamp_path(path, &file.path);
    if trust == Trust::Stamp && fs::read_to_string(&stamp_path).is_ok_and(|s| s == stamp) {
        return Ok(State::Good);
    }
    let got = hash_file(path)?;
    if got != file.sha256 {
        // The next look must not find a stamp of an earlier, good file.
        let _ = fs::remove_file(&stamp_path);
        return Ok(State::Wrong(got));
    }
    // A folder that cannot be written to, as on a sealed image, costs the time, not the start.
    let _ = write_stamp(&stamp_path, &stamp);
    Ok(State::Good)
}

/// Returns the hash of a file, read in pieces.
pub(crate) fn hash_file(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut context = Context::new(&SHA256);
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(Digest::of(context.finish().as_ref())),
            n => context.update(piece.get(..n).unwrap_or_default()),
        }
    }
}

/// Returns the hash of bytes.
pub(crate) fn hash_bytes(bytes: &[u8]) -> Digest {
    Digest::of(ring::digest::digest(&SHA256, bytes).as_ref())
}

/// Everything that must be unchanged for a remembered hash to count.
fn stamp_text(path: &Path, expected: &Digest) -> io::Result<String> {
    let path = path.canonicalize()?;
    let meta = path.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file"));
    }
    let changed = meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    Ok(format!("{expected} {} {changed} {}\n", meta.len(), path.display()))
}

fn stamp_path(path: &Path, name: &str) -> PathBuf {
    let above = Path::new(name).components().count();
    let folder = if path.ends_with(name) { path.ancestors().nth(above) } else { path.parent() };
    folder.unwrap_or(Path::new("")).join(STAMPS).join(name.replace('/', "--"))
}

fn write_stamp(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // Two programs may start at once: each writes its own file, and the last rename wins.
    let fresh = path.with_extension(format!("{}.part", std::process::id()));
    fs::write(&fresh, text)?;
    fs::rename(&fresh, path)
}

fn dir_from(var: impl Fn(&str) -> Option<PathBuf>) -> PathBuf {
    if let Some(dir) = var("TRUNKLINE_MODELS") {
        return dir;
    }
    // The base-directory rules say that a relative path there counts as unset.
    let cache =
        var("XDG_CACHE_HOME").filter(|p| p.is_absolute()).or_else(|| var("HOME").map(|h| h.join(".cache")));
    cache.unwrap_or_else(|| PathBuf::from("/var/cache")).join("trunkline/models")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Step;

    fn model(content: &[u8]) -> ModelFile {
        ModelFile {
            path: "voices/a.bin".into(),
            bytes: content.len() as u64,
            sha256: hash_bytes(content),
            step: Step::Copy,
            from: Vec::new(),
        }
    }

    fn placed(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("voices/a.bin");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        (dir, path)
    }

    #[test]
    fn a_file_is_read_once_and_then_remembered() {
        let (dir, path) = placed(b"weights");
        let file = model(b"weights");
        assert_eq!(look(&path, &file, Trust::Stamp).unwrap(), State::Good);
        assert!(dir.path().join(".stamps/voices--a.bin").is_file());

        // The same length and time with other bytes: only the stamp can call this good.
        let time = path.metadata().unwrap().modified().unwrap();
        fs::write(&path, b"WEIGHTS").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        assert_eq!(look(&path, &file, Trust::Stamp).unwrap(), State::Good);

        // Looking for real finds it, and forgets the stamp.
        assert!(matches!(look(&path, &file, Trust::Nothing).unwrap(), State::Wrong(_)));
        assert!(matches!(look(&path, &file, Trust::Stamp).unwrap(), State::Wrong(_)));
    }

    #[test]
    fn a_file_that_changed_is_read_again() {
        let (_dir, path) = placed(b"weights");
        let file = model(b"weights");
        assert_eq!(look(&path, &file, Trust::Stamp).unwrap(), State::Good);
        fs::write(&path, b"weight").unwrap();
        assert_eq!(look(&path, &file, Trust::Stamp).unwrap(), State::Wrong(hash_bytes(b"weight")));
        fs::remove_file(&path).unwrap();
        assert_eq!(look(&path, &file, Trust::Stamp).unwrap(), State::Missing);
    }

    #[test]
    fn a_stamp_of_another_version_of_the_model_does_not_count() {
        let (_dir, path) = placed(b"weights");
        assert_eq!(look(&path, &model(b"weights"), Trust::Stamp).unwrap(), State::Good);
        assert!(matches!(look(&path, &model(b"newer"), Trust::Stamp).unwrap(), State::Wrong(_)));
    }

    #[test]
    fn the_error_says_what_was_found_and_what_to_do() {
        let (_dir, path) = placed(b"not a detector");
        let error = check(&path, "silero-vad.onnx").unwrap_err().to_string();
        assert!(error.contains(&hash_bytes(b"not a detector").to_string()), "{error}");
        assert!(error.contains("a.bin") && error.contains("deploy/get-models"), "{error}");
        assert!(matches!(check(&path, "silero"), Err(ModelError::Unknown { .. })));
        let gone = path.with_file_name("gone");
        assert!(matches!(check(&gone, "silero-vad.onnx"), Err(ModelError::Missing { .. })));
        let folder = path.parent().unwrap();
        assert!(matches!(check(folder, "silero-vad.onnx"), Err(ModelError::Read { .. })));
    }

    #[test]
    fn the_folder_follows_the_environment() {
        let dir = |set: &'static [(&str, &str)]| {
            dir_from(move |name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| PathBuf::from(v)))
        };
        assert_eq!(dir(&[("TRUNKLINE_MODELS", "/m"), ("HOME", "/h")]), Path::new("/m"));
        assert_eq!(dir(&[("XDG_CACHE_HOME", "/c"), ("HOME", "/h")]), Path::new("/c/trunkline/models"));
        assert_eq!(dir(&[("XDG_CACHE_HOME", "c"), ("HOME", "/h")]), Path::new("/h/.cache/trunkline/models"));
        assert_eq!(dir(&[]), Path::new("/var/cache/trunkline/models"));
    }
}
