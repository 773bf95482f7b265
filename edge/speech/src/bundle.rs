//! Models of the recogniser as bundles: versions of their own, installed, activated and rolled back.
//!
//! A bundle is a folder with a [`Manifest`] (`bundle.toml`) and the files that it names by length and
//! SHA-256. [`Bundles`] keeps them in one folder on the box:
//!
//! ```text
//! bundles/
//!   active.toml                    which one is in use, and those before it
//!   whisper-small/2026.1/          one version of one model
//!     bundle.toml
//!     ggml-small-q8_0.bin
//! ```
//!
//! **Invariant:** what is not whole is never activated, and never replaces what is: a bundle is copied
//! beside the others, read back and compared, and only then renamed to its name.
//! **Invariant:** `active.toml` is replaced in one step, so a box that loses power has either the old
//! one in use or the new one.
//!
//! Absent on purpose: fetching (a stick, a release or a person brings the folder) and signatures (a
//! release has them; a folder that a technician installs by hand is hers to vouch for).

mod files;
mod manifest;
mod open;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use manifest::{BundleName, Engine, Figure, Manifest, ManifestError, ModelFile, Role};
pub use open::{OpenError, Opened, Tuning, open, open_active};

/// Name of the manifest inside a bundle.
pub const MANIFEST: &str = "bundle.toml";
/// Name of the file that says which bundle is in use.
const ACTIVE: &str = "active.toml";
/// Folder that a bundle is copied into before it has its name.
const INCOMING: &str = ".incoming";
/// Bundles that are remembered as used before.
const REMEMBERED: usize = 8;

/// Why something could not be done with a bundle. Nothing that was in use is changed then.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The manifest is missing or says something impossible.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A file that the manifest names is not there.
    #[error("bundle {bundle} is not whole: `{path}` is missing")]
    Missing {
        /// Which bundle.
        bundle: BundleName,
        /// The file.
        path: PathBuf,
    },
    /// A file was copied or fetched in part, or is another one.
    #[error("bundle {bundle} is not whole: `{path}` has {got} bytes instead of {expected}")]
    Length {
        /// Which bundle.
        bundle: BundleName,
        /// The file.
        path: PathBuf,
        /// What the manifest says.
        expected: u64,
        /// What is there.
        got: u64,
    },
    /// A file has the right length and the wrong content.
    #[error("bundle {bundle} is damaged: the SHA-256 of `{path}` is {got} instead of {expected}")]
    Hash {
        /// Which bundle.
        bundle: BundleName,
        /// The file.
        path: PathBuf,
        /// What the manifest says.
        expected: String,
        /// What is there.
        got: String,
    },
    /// The same id and version is there already, with other content.
    #[error("bundle {bundle} is installed already with other content: give the new one another version")]
    Other {
        /// Which bundle.
        bundle: BundleName,
    },
    /// It is not installed.
    #[error("bundle {bundle} is not installed in `{dir}`")]
    Unknown {
        /// Which bundle.
        bundle: BundleName,
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// There is nothing to go back to.
    #[error("no bundle was in use before, there is nothing to go back to")]
    NoneBefore,
    /// The file that says which bundle is in use cannot be read.
    #[error("`{path}` does not say which bundle is in use: {reason}")]
    Active {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk refused something.
    #[error("could not {doing} `{path}`")]
    Disk {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// A bundle in its folder.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    /// What it says of itself.
    pub manifest: Manifest,
    /// Where it lies.
    pub dir: PathBuf,
}

impl Bundle {
    /// Reads the manifest in a folder. The files are not looked at: see [`Self::verify`].
    ///
    /// # Errors
    /// When the manifest is missing or says something impossible.
    pub fn read(dir: &Path) -> Result<Self, BundleError> {
        Ok(Self { manifest: Manifest::read(&dir.join(MANIFEST))?, dir: dir.to_owned() })
    }

    /// Compares every file with its length and hash.
    ///
    /// # Errors
    /// [`BundleError::Missing`], [`BundleError::Length`] or [`BundleError::Hash`], with the file named.
    pub fn verify(&self) -> Result<(), BundleError> {
        self.manifest.files.iter().try_for_each(|file| files::check(self, file, None))
    }

    /// The path of the file with a role.
    pub fn file(&self, role: Role) -> Option<PathBuf> {
        self.manifest.file(role).map(|file| self.dir.join(&file.path))
    }
}

/// What `active.toml` holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Active {
    /// In use.
    active: Option<BundleName>,
    /// In use before, the latest first.
    #[serde(default)]
    before: Vec<BundleName>,
}

/// The bundles of a box.
#[derive(Debug, Clone)]
pub struct Bundles {
    dir: PathBuf,
}

impl Bundles {
    /// Names the folder; it need not exist yet.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes the bundle in `from` over: copies, compares every file with its hash, and gives it its
    /// place. It is not in use by that. A bundle that is there already, the same, is left as it is.
    ///
    /// # Errors
    /// When it is not whole or the disk refuses; then nothing has changed.
    pub fn install(&self, from: &Path) -> Result<BundleName, BundleError> {
        let incoming = Bundle::read(from)?;
        // What is not whole is not worth a copy.
        incoming.verify()?;
        let name = incoming.manifest.name();
        let place = self.place(&name);
        if place.exists() {
            return match Bundle::read(&place) {
                Ok(there) if there.manifest == incoming.manifest && there.verify().is_ok() => Ok(name),
                Ok(there) if there.manifest == incoming.manifest => self.repair(&incoming, &place),
                Ok(_) | Err(_) => Err(BundleError::Other { bundle: name }),
            };
        }
        let copy = self.copy(&incoming)?;
        files::rename(&copy, &place)?;
        Ok(name)
    }

    /// Puts a whole copy in the place of a damaged one of the same content.
    fn repair(&self, incoming: &Bundle, place: &Path) -> Result<BundleName, BundleError> {
        let copy = self.copy(incoming)?;
        let aside = self.dir.join(INCOMING).join(format!("damaged-{}", std::process::id()));
        files::rename(place, &aside)?;
        files::rename(&copy, place)?;
        // A folder that stays costs room, not the bundle.
        let _ = fs::remove_dir_all(&aside);
        Ok(incoming.manifest.name())
    }

    /// Copies a bundle beside the others, and compares what the disk gives back.
    fn copy(&self, incoming: &Bundle) -> Result<PathBuf, BundleError> {
        let dir = self.dir.join(INCOMING).join(format!(
            "{}-{}-{}",
            incoming.manifest.id,
            incoming.manifest.version,
            std::process::id()
        ));
        let _ = fs::remove_dir_all(&dir);
        let outcome = files::copy_bundle(incoming, &dir).and_then(|()| Bundle::read(&dir)?.verify());
        match outcome {
            Ok(()) => Ok(dir),
            Err(error) => {
                let _ = fs::remove_dir_all(&dir);
                Err(error)
            }
        }
    }

    /// Lists what is installed, in the order of its names. Folders without a readable manifest are left
    /// out.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(&self) -> Result<Vec<Bundle>, BundleError> {
        let mut found = Vec::new();
        for id in files::folders(&self.dir)? {
            for version in files::folders(&id)? {
                found.extend(Bundle::read(&version));
            }
        }
        found.sort_by_key(|bundle| bundle.manifest.name());
        Ok(found)
    }

    /// Finds an installed bundle.
    ///
    /// # Errors
    /// [`BundleError::Unknown`] when it is not there, [`BundleError::Manifest`] when it cannot be read.
    pub fn get(&self, name: &BundleName) -> Result<Bundle, BundleError> {
        let place = self.place(name);
        if !place.is_dir() {
            return Err(BundleError::Unknown { bundle: name.clone(), dir: self.dir.clone() });
        }
        Bundle::read(&place)
    }

    /// Puts an installed bundle into use, from the next start of the box on. Every file is compared with
    /// its hash first.
    ///
    /// # Errors
    /// When it is not there or not whole; the one in use stays in use.
    pub fn activate(&self, name: &BundleName) -> Result<(), BundleError> {
        self.get(name)?.verify()?;
        let mut state = self.state()?;
        if state.active.as_ref() == Some(name) {
            return Ok(());
        }
        state.before.retain(|before| before != name);
        if let Some(before) = state.active.replace(name.clone()) {
            state.before.insert(0, before);
        }
        state.before.truncate(REMEMBERED);
        self.save(&state)
    }

    /// Puts the bundle that was in use before into use again, and forgets the one that is.
    ///
    /// # Errors
    /// When none was, or it is not whole any more; the one in use stays in use.
    pub fn roll_back(&self) -> Result<BundleName, BundleError> {
        let mut state = self.state()?;
        if state.before.is_empty() {
            return Err(BundleError::NoneBefore);
        }
        let name = state.before.remove(0);
        self.get(&name)?.verify()?;
        state.active = Some(name.clone());
        self.save(&state)?;
        Ok(name)
    }

    /// Puts no bundle into use: the box takes the model that it came with.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn deactivate(&self) -> Result<(), BundleError> {
        let mut state = self.state()?;
        if let Some(before) = state.active.take() {
            state.before.insert(0, before);
            state.before.truncate(REMEMBERED);
        }
        self.save(&state)
    }

    /// Removes an installed bundle that is not in use.
    ///
    /// # Errors
    /// When it is in use, not there, or the disk refuses.
    pub fn remove(&self, name: &BundleName) -> Result<(), BundleError> {
        let mut state = self.state()?;
        if state.active.as_ref() == Some(name) {
            let reason = "it is in use; put another one into use first";
            let source = io::Error::new(io::ErrorKind::ResourceBusy, reason);
            return Err(BundleError::Disk { doing: "remove", path: self.place(name), source });
        }
        self.get(name)?;
        state.before.retain(|before| before != name);
        self.save(&state)?;
        let place = self.place(name);
        fs::remove_dir_all(&place).map_err(|source| BundleError::Disk {
            doing: "remove",
            path: place,
            source,
        })
    }

    /// Returns the bundle in use.
    ///
    /// # Errors
    /// When the file that says so cannot be read.
    pub fn active(&self) -> Result<Option<BundleName>, BundleError> {
        Ok(self.state()?.active)
    }

    /// Returns those in use before, the latest first, without repetition.
    ///
    /// # Errors
    /// As [`Self::active`].
    pub fn before(&self) -> Result<Vec<BundleName>, BundleError> {
        let mut seen = BTreeSet::new();
        Ok(self.state()?.before.into_iter().filter(|name| seen.insert(name.clone())).collect())
    }

    fn place(&self, name: &BundleName) -> PathBuf {
        self.dir.join(name.id()).join(name.version())
    }

    fn state(&self) -> Result<Active, BundleError> {
        let path = self.dir.join(ACTIVE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Active::default()),
            Err(error) => return Err(BundleError::Active { path, reason: error.to_string() }),
        };
        toml::from_str(&text)
            .map_err(|error| BundleError::Active { path, reason: error.message().to_owned() })
    }

    fn save(&self, state: &Active) -> Result<(), BundleError> {
        let path = self.dir.join(ACTIVE);
        let text = toml::to_string(state)
            .map_err(|error| BundleError::Active { path: path.clone(), reason: error.to_string() })?;
        files::replace(&path, text.as_bytes())
    }
}
