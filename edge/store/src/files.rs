//! What the journal asks of a file system, so that a test can cut the power between any two of its changes.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file system. Nothing is durable before [`Files::sync`] of a file (its bytes) or [`Files::sync_dir`] of a
/// folder (the names in it) returns.
pub trait Files: fmt::Debug {
    /// An open file, written at its end.
    type File: fmt::Debug;

    /// Makes a folder and those above it.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn create_dir(&mut self, dir: &Path) -> io::Result<()>;

    /// Returns the paths in a folder.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;

    /// Opens a file for writing at its end, making it when there is none.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn append_to(&mut self, path: &Path) -> io::Result<Self::File>;

    /// Reads a whole file.
    ///
    /// # Errors
    /// `NotFound`, or whatever the disk says.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Writes at the end of a file.
    ///
    /// # Errors
    /// Whatever the disk says; some of the bytes may be there.
    fn write(&mut self, file: &mut Self::File, bytes: &[u8]) -> io::Result<()>;

    /// Sets a file's length.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn set_len(&mut self, file: &mut Self::File, len: u64) -> io::Result<()>;

    /// Makes a file's bytes and length durable.
    ///
    /// # Errors
    /// Whatever the disk says; then nothing is known about the bytes.
    fn sync(&mut self, file: &mut Self::File) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn sync_dir(&mut self, dir: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn remove(&mut self, path: &Path) -> io::Result<()>;
}

/// The file system of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFiles;

impl Files for RealFiles {
    type File = fs::File;

    fn create_dir(&mut self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
    }

    fn append_to(&mut self, path: &Path) -> io::Result<fs::File> {
        OpenOptions::new().create(true).append(true).open(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn write(&mut self, file: &mut fs::File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn set_len(&mut self, file: &mut fs::File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    fn sync(&mut self, file: &mut fs::File) -> io::Result<()> {
        // The length counts as data that is needed to read the file: `fdatasync` writes it, too.
        file.sync_data()
    }

    fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}
