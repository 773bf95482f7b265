//! Where versions lie: what updates need of a pair of slots, and the pair made of folders.
//!
//! ```text
//! boot.0 boot.1   the boot record, twice
//! a/  b/          the files of a version
//! a.part          the manifest of what is being staged into a/
//! a.seal          the same file, renamed once every byte of a/ was read back: only sealed slots start
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use trunkline_trust::{Hasher, Release, Sha256, sha256};

use crate::boot::{BootRecord, OnTrial, Slot};
use crate::disk::{Disk, replace};
use crate::manifest::{Chunk, File, Manifest, ManifestError};

/// How many starts a new version gets.
pub const TRIES: u8 = 3;

/// Why something could not be done with a slot.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// The disk said no.
    #[error("could not {doing}")]
    Disk {
        /// What was being done.
        doing: &'static str,
        /// What the disk said.
        source: io::Error,
    },
    /// What lies there is no manifest, or not the expected one.
    #[error("slot {slot:?} has no usable manifest")]
    Manifest {
        /// Which slot.
        slot: Slot,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// Bytes that do not have the hash they were fetched for.
    #[error("a chunk has other bytes than its hash says")]
    WrongChunk,
    /// While a version is on trial, the slot to fall back to stays as it is.
    #[error("a version is on trial")]
    OnTrial,
    /// Only a sealed slot can be put on trial.
    #[error("slot {0:?} is not sealed")]
    NotSealed(Slot),
    /// Every chunk has its hash and a file has not: the manifest cannot be met.
    #[error("the manifest contradicts itself")]
    Contradiction,
    /// No slot can be started.
    #[error("no slot holds a whole version")]
    NothingToStart,
}

/// What a slot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The hash of the manifest: what releases and assignments name.
    pub version: Sha256,
    /// What the version says about itself.
    pub release: Release,
}

/// What is missing of a version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// The chunks that must be fetched.
    pub chunks: Vec<Chunk>,
    /// How many bytes more the slot will take than it does now.
    pub room: u64,
}

/// A pair of slots, one running and one to be written. [`FileSlots`] holds folders; images on partitions are
/// another implementation.
///
/// Every method can be called again after a power cut in the middle of it.
pub trait Slots {
    /// Returns what the boot record says.
    fn record(&self) -> &BootRecord;

    /// Returns the slot that this process was started from.
    fn running(&self) -> Slot;

    /// Returns what a slot holds, if it is whole.
    fn sealed(&self, slot: Slot) -> Option<Sealed>;

    /// Returns how many bytes can be written.
    ///
    /// # Errors
    /// [`SlotError::Disk`].
    fn free(&self) -> Result<u64, SlotError>;

    /// Writes the boot record, to learn before the download whether that works; forgets what was given up.
    ///
    /// # Errors
    /// [`SlotError::Disk`].
    fn probe(&mut self) -> Result<(), SlotError>;

    /// Prepares the slot that is not running for a version, takes over what the running one has of it and
    /// what was staged before, and returns what is missing.
    ///
    /// # Errors
    /// [`SlotError`].
    fn stage(&mut self, manifest: &Manifest) -> Result<Missing, SlotError>;

    /// Writes a fetched chunk wherever the version has it.
    ///
    /// # Errors
    /// [`SlotError::WrongChunk`] for bytes of another hash, [`SlotError::Disk`].
    fn write_chunk(&mut self, manifest: &Manifest, chunk: &Chunk, bytes: &[u8]) -> Result<(), SlotError>;

    /// Makes everything durable, reads it back from the medium, and seals the slot if it is whole;
    /// otherwise returns the chunks that must be fetched again.
    ///
    /// # Errors
    /// [`SlotError::Disk`].
    fn verify(&mut self, manifest: &Manifest) -> Result<Vec<Chunk>, SlotError>;

    /// Puts the slot that is not running on trial.
    ///
    /// # Errors
    /// [`SlotError::NotSealed`] when it does not hold this version whole, [`SlotError::Disk`].
    fn arm(&mut self, version: Sha256) -> Result<(), SlotError>;

    /// Makes the running slot the good one.
    ///
    /// # Errors
    /// [`SlotError::Disk`].
    fn commit(&mut self) -> Result<(), SlotError>;

    /// Takes a version off trial: the next start is the good slot.
    ///
    /// # Errors
    /// [`SlotError::Disk`].
    fn give_up(&mut self, version: Sha256) -> Result<(), SlotError>;
}

/// What the launcher is to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The slot; its folder is `a` or `b` below the root.
    pub slot: Slot,
    /// What it holds.
    pub sealed: Sealed,
    /// Whether it still has to prove itself.
    pub on_trial: bool,
}

/// Decides which slot starts, and counts. The launcher calls this before anything else of the version runs.
///
/// A slot on trial is counted down durably and hashed as a whole before it starts. When its tries are gone, its
/// bytes are wrong or the count cannot be written, the good slot starts; when that one is not whole, the other.
///
/// # Errors
/// [`SlotError::NothingToStart`].
pub fn launch(disk: &mut impl Disk) -> Result<Start, SlotError> {
    let mut record = BootRecord::read(disk);
    if let Some(trial) = record.trial {
        let sealed = read_seal(disk, trial.slot).filter(|(sealed, _)| sealed.version == trial.version);
        let whole = trial.tries_left > 0
            && sealed.as_ref().is_some_and(|(_, manifest)| inspect(disk, trial.slot, manifest).whole);
        if whole && let Some((sealed, _)) = sealed {
            record.trial = Some(OnTrial { tries_left: trial.tries_left - 1, ..trial });
            if record.write(disk).is_ok() {
                return Ok(Start { slot: trial.slot, sealed, on_trial: true });
            }
        } else {
            record.trial = None;
            record.gave_up = Some(trial.version);
            // If this cannot be written, the next start decides the same again.
            let _ = record.write(disk);
        }
    }
    let good = record.good.unwrap_or(Slot::A);
    let trial = record.trial.map(|trial| trial.slot);
    for slot in [good, good.other()] {
        // What is on trial starts only as a trial, unless there is nothing else.
        if trial == Some(slot) && slot != good && read_seal(disk, good).is_some() {
            continue;
        }
        if let Some((sealed, manifest)) = read_seal(disk, slot) {
            // The good slot has proved itself and starts without being hashed; any other one must be whole.
            if slot == good || inspect(disk, slot, &manifest).whole {
                return Ok(Start { slot, sealed, on_trial: false });
            }
        }
    }
    Err(SlotError::NothingToStart)
}

/// A pair of folders on any file system that renames atomically.
#[derive(Debug)]
pub struct FileSlots<D> {
    disk: D,
    running: Slot,
    record: BootRecord,
}

impl<D: Disk> FileSlots<D> {
    /// Opens the pair for a process that [`launch`] started from `running`.
    pub fn open(disk: D, running: Slot) -> Self {
        let record = BootRecord::read(&disk);
        Self { disk, running, record }
    }

    /// Installs the first version into slot A, from its manifest and pack; for images, sticks and tests.
    ///
    /// # Errors
    /// [`SlotError`].
    pub fn install(mut disk: D, manifest: &Manifest, pack: &[u8]) -> Result<D, SlotError> {
        disk.create_dir("").map_err(doing("make the folder"))?;
        let mut slots = Self { record: BootRecord::read(&disk), disk, running: Slot::B };
        let missing = slots.stage(manifest)?;
        for chunk in &missing.chunks {
            let from = usize::try_from(chunk.offset).unwrap_or(usize::MAX);
            let bytes = pack.get(from..).and_then(|rest| rest.get(..chunk.length as usize));
            slots.write_chunk(manifest, chunk, bytes.ok_or(SlotError::WrongChunk)?)?;
        }
        if !slots.verify(manifest)?.is_empty() {
            return Err(SlotError::WrongChunk);
        }
        slots.record.good = Some(Slot::A);
        slots.record.trial = None;
        slots.record.write(&mut slots.disk).map_err(doing("write the boot record"))?;
        Ok(slots.disk)
    }

    /// Returns the disk.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// Returns the disk, to keep other files beside the slots.
    pub fn disk_mut(&mut self) -> &mut D {
        &mut self.disk
    }

    fn target(&self) -> Slot {
        self.running.other()
    }

    fn refuse_on_trial(&self) -> Result<(), SlotError> {
        match self.record.trial {
            Some(trial) if trial.slot == self.running => Err(SlotError::OnTrial),
            _ => Ok(()),
        }
    }

    /// Empties the target slot for a version, in an order in which it never looks whole.
    fn clear(&mut self, manifest: &[u8]) -> Result<(), SlotError> {
        let slot = self.target();
        let name = slot.name();
        if self.record.trial.is_some_and(|trial| trial.slot == slot) {
            self.record.trial = None;
            self.record.write(&mut self.disk).map_err(doing("write the boot record"))?;
        }
        self.disk.remove(&format!("{name}.seal")).map_err(doing("remove a seal"))?;
        self.disk.remove(&format!("{name}.part")).map_err(doing("remove a manifest"))?;
        self.disk.sync_dir("").map_err(doing("sync the folder"))?;
        self.disk.remove_tree(name).map_err(doing("empty a slot"))?;
        self.disk.create_dir(name).map_err(doing("make a slot"))?;
        replace(&mut self.disk, &format!("{name}.part"), manifest).map_err(doing("write a manifest"))
    }
}

impl<D: Disk> Slots for FileSlots<D> {
    fn record(&self) -> &BootRecord {
        &self.record
    }

    fn running(&self) -> Slot {
        self.running
    }

    fn sealed(&self, slot: Slot) -> Option<Sealed> {
        read_seal(&self.disk, slot).map(|(sealed, _)| sealed)
    }

    fn free(&self) -> Result<u64, SlotError> {
        self.disk.free().map_err(doing("ask for room"))
    }

    fn probe(&mut self) -> Result<(), SlotError> {
        self.record.gave_up = None;
        self.record.write(&mut self.disk).map_err(doing("write the boot record"))
    }

    fn stage(&mut self, manifest: &Manifest) -> Result<Missing, SlotError> {
        let slot = self.target();
        self.refuse_on_trial()?;
        let bytes = manifest.to_bytes();
        let part = format!("{}.part", slot.name());
        let resumed = self.disk.read(&part).is_ok_and(|found| found == bytes);
        if self.sealed(slot).is_some_and(|sealed| sealed.version == sha256(&bytes)) {
            // Whole already, if its bytes still are: the seal comes off until they were read again.
            let seal = format!("{}.seal", slot.name());
            self.disk.rename(&seal, &part).map_err(doing("take a seal off"))?;
            self.disk.sync_dir("").map_err(doing("sync the folder"))?;
        } else if !resumed {
            self.clear(&bytes)?;
        }
        // Anything that no file of the version explains must go before the slot is sealed; a slot that is
        // begun anew is empty, and one that is resumed holds this version's files only.
        let mut had = 0;
        for file in &manifest.files {
            let path = in_slot(slot, &file.path);
            let (dir, _) = path.rsplit_once('/').unwrap_or(("", ""));
            self.disk.create_dir(dir).map_err(doing("make a folder"))?;
            had += self.disk.len(&path).map_err(doing("look at a file"))?.unwrap_or(0).min(file.length);
            self.disk.set(&path, file.length, file.mode).map_err(doing("make a file"))?;
        }
        let wrong = inspect(&self.disk, slot, manifest).wrong;
        let mut wanted: BTreeMap<Sha256, Chunk> =
            wrong.into_iter().map(|chunk| (chunk.sha256, chunk)).collect();
        // What the running version has need not travel. Its bytes are hashed on the way over.
        if let Some((_, running)) = read_seal(&self.disk, self.running) {
            for file in &running.files {
                let mut at = 0;
                for chunk in &file.chunks {
                    if let Some(want) = wanted.get(&chunk.sha256).copied() {
                        let path = in_slot(self.running, &file.path);
                        if let Ok(bytes) = self.disk.read_at(&path, at, chunk.length as usize)
                            && sha256(&bytes) == want.sha256
                        {
                            self.write_chunk(manifest, &want, &bytes)?;
                            wanted.remove(&chunk.sha256);
                        }
                    }
                    at += u64::from(chunk.length);
                }
            }
        }
        let room = manifest.installed_length().saturating_sub(had);
        Ok(Missing { chunks: wanted.into_values().collect(), room })
    }

    fn write_chunk(&mut self, manifest: &Manifest, chunk: &Chunk, bytes: &[u8]) -> Result<(), SlotError> {
        if bytes.len() != chunk.length as usize || sha256(bytes) != chunk.sha256 {
            return Err(SlotError::WrongChunk);
        }
        let slot = self.target();
        for file in &manifest.files {
            for (at, piece) in pieces(file) {
                if piece.sha256 == chunk.sha256 {
                    let path = in_slot(slot, &file.path);
                    self.disk.write_at(&path, at, bytes).map_err(doing("write a chunk"))?;
                }
            }
        }
        Ok(())
    }

    fn verify(&mut self, manifest: &Manifest) -> Result<Vec<Chunk>, SlotError> {
        let slot = self.target();
        let part = format!("{}.part", slot.name());
        if self.sealed(slot).is_some_and(|sealed| sealed.version == sha256(&manifest.to_bytes())) {
            return Ok(Vec::new());
        }
        if !self.disk.read(&part).is_ok_and(|found| found == manifest.to_bytes()) {
            return Err(SlotError::NotSealed(slot));
        }
        let mut dirs = BTreeSet::from([slot.name().to_owned()]);
        for file in &manifest.files {
            let path = in_slot(slot, &file.path);
            self.disk.set(&path, file.length, file.mode).map_err(doing("make a file"))?;
            self.disk.sync(&path).map_err(doing("sync a file"))?;
            dirs.extend(path.match_indices('/').map(|(at, _)| path[..at].to_owned()));
        }
        for dir in dirs {
            self.disk.sync_dir(&dir).map_err(doing("sync a folder"))?;
        }
        self.disk.sync_dir("").map_err(doing("sync the folder"))?;
        let found = inspect(&self.disk, slot, manifest);
        if !found.whole {
            return if found.wrong.is_empty() { Err(SlotError::Contradiction) } else { Ok(found.wrong) };
        }
        self.disk.rename(&part, &format!("{}.seal", slot.name())).map_err(doing("seal a slot"))?;
        self.disk.sync_dir("").map_err(doing("sync the folder"))?;
        Ok(Vec::new())
    }

    fn arm(&mut self, version: Sha256) -> Result<(), SlotError> {
        let slot = self.target();
        self.refuse_on_trial()?;
        if self.sealed(slot).is_none_or(|sealed| sealed.version != version) {
            return Err(SlotError::NotSealed(slot));
        }
        // Also when the running slot was a fallback: what runs is what one returns to.
        self.record.good = Some(self.running);
        self.record.trial = Some(OnTrial { slot, version, tries_left: TRIES });
        self.record.gave_up = self.record.gave_up.filter(|given_up| *given_up != version);
        self.record.write(&mut self.disk).map_err(doing("write the boot record"))
    }

    fn commit(&mut self) -> Result<(), SlotError> {
        if self.record.trial.is_none() && self.record.good == Some(self.running) {
            return Ok(());
        }
        self.record.good = Some(self.running);
        self.record.trial = None;
        self.record.gave_up = None;
        self.record.write(&mut self.disk).map_err(doing("write the boot record"))
    }

    fn give_up(&mut self, version: Sha256) -> Result<(), SlotError> {
        if self.record.trial.is_none_or(|trial| trial.version != version) {
            return Ok(());
        }
        self.record.trial = None;
        self.record.gave_up = Some(version);
        self.record.write(&mut self.disk).map_err(doing("write the boot record"))
    }
}

fn doing(doing: &'static str) -> impl FnOnce(io::Error) -> SlotError {
    move |source| SlotError::Disk { doing, source }
}

fn in_slot(slot: Slot, path: &str) -> String {
    format!("{}/{path}", slot.name())
}

/// Yields each chunk of a file with its place in the file.
fn pieces(file: &File) -> impl Iterator<Item = (u64, &Chunk)> {
    file.chunks.iter().scan(0, |at, chunk| {
        let here = *at;
        *at += u64::from(chunk.length);
        Some((here, chunk))
    })
}

fn read_seal(disk: &impl Disk, slot: Slot) -> Option<(Sealed, Manifest)> {
    let bytes = disk.read(&format!("{}.seal", slot.name())).ok()?;
    let manifest = Manifest::parse(&bytes).ok()?;
    Some((Sealed { version: sha256(&bytes), release: manifest.release.clone() }, manifest))
}

struct Inspection {
    /// The chunks whose bytes are not what the manifest says.
    wrong: Vec<Chunk>,
    /// Every file is there and has its length and its hash.
    whole: bool,
}

/// Reads every byte of a slot.
fn inspect(disk: &impl Disk, slot: Slot, manifest: &Manifest) -> Inspection {
    let mut found = Inspection { wrong: Vec::new(), whole: true };
    for file in &manifest.files {
        let path = in_slot(slot, &file.path);
        let mut all = Hasher::new();
        for (at, chunk) in pieces(file) {
            match disk.read_at(&path, at, chunk.length as usize) {
                Ok(bytes) if sha256(&bytes) == chunk.sha256 => all.update(&bytes),
                _ => found.wrong.push(*chunk),
            }
        }
        let right_length = disk.len(&path).is_ok_and(|length| length == Some(file.length));
        found.whole &= right_length && all.finish() == file.sha256;
    }
    found.whole &= found.wrong.is_empty();
    found
}
