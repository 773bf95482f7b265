//! The few things that updates ask of a disk, so that tests can cut the power between any two of them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

/// A folder, by relative paths with `/`. Nothing is durable before [`Disk::sync`] of a file (its bytes) or
/// [`Disk::sync_dir`] of a folder (the names in it) returns.
pub trait Disk {
    /// Reads a whole file.
    ///
    /// # Errors
    /// `NotFound`, or whatever the disk says.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;

    /// Reads `len` bytes from `offset` on.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file is shorter.
    fn read_at(&self, path: &str, offset: u64, len: usize) -> io::Result<Vec<u8>>;

    /// Returns a file's length, and `None` when it is not there.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn len(&self, path: &str) -> io::Result<Option<u64>>;

    /// Returns the names in a folder, sorted; none when it is not there.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;

    /// Returns how many bytes can still be written.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn free(&self) -> io::Result<u64>;

    /// Makes a folder and those above it.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn create_dir(&mut self, path: &str) -> io::Result<()>;

    /// Writes bytes at an offset, making the file when there is none.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn write_at(&mut self, path: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Sets a file's length and permission bits, making the file when there is none.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn set(&mut self, path: &str, len: u64, mode: u32) -> io::Result<()>;

    /// Makes a file's bytes durable, and forgets cached copies, so that the next read asks the medium.
    ///
    /// # Errors
    /// Whatever the disk says; then nothing is known about the bytes.
    fn sync(&mut self, path: &str) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn sync_dir(&mut self, path: &str) -> io::Result<()>;

    /// Gives a file another name in the same folder, replacing what has it.
    ///
    /// # Errors
    /// `NotFound`, or whatever the disk says.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; one that is not there is fine.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn remove(&mut self, path: &str) -> io::Result<()>;

    /// Removes a folder with everything in it; one that is not there is fine.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn remove_tree(&mut self, path: &str) -> io::Result<()>;
}

/// Replaces a file so that after a power cut it has the old bytes or the new ones, and the new ones when
/// this has returned.
///
/// # Errors
/// Whatever the disk says; the file then has the old bytes or the new ones.
pub fn replace(disk: &mut impl Disk, path: &str, bytes: &[u8]) -> io::Result<()> {
    let (dir, _) = path.rsplit_once('/').unwrap_or(("", path));
    let draft = format!("{path}.tmp");
    disk.create_dir(dir)?;
    disk.remove(&draft)?;
    disk.write_at(&draft, 0, bytes)?;
    disk.sync(&draft)?;
    disk.rename(&draft, path)?;
    disk.sync_dir(dir)?;
    // The folder itself may be new.
    match dir.rsplit_once('/') {
        Some((above, _)) => disk.sync_dir(above),
        None if !dir.is_empty() => disk.sync_dir(""),
        None => Ok(()),
    }
}

/// A real folder.
#[derive(Clone, Debug)]
pub struct RealDisk {
    root: PathBuf,
}

impl RealDisk {
    /// Works below `root`, which is made when it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        Ok(Self { root: root.to_owned() })
    }

    /// Returns the folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Joins a path that must stay inside, and not follow a link out of it.
    fn path(&self, path: &str) -> io::Result<PathBuf> {
        let relative = Path::new(path);
        if relative.components().any(|part| !matches!(part, Component::Normal(_))) && !path.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{path}` leads outside")));
        }
        Ok(self.root.join(relative))
    }
}

impl Disk for RealDisk {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path(path)?)
    }

    fn read_at(&self, path: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut file = File::open(self.path(path)?)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = vec![0; len];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn len(&self, path: &str) -> io::Result<Option<u64>> {
        match fs::symlink_metadata(self.path(path)?) {
            Ok(meta) if meta.is_file() => Ok(Some(meta.len())),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.path(path)?) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn free(&self) -> io::Result<u64> {
        let stat = nix::sys::statvfs::statvfs(&self.root)?;
        Ok(stat.blocks_available() * stat.fragment_size())
    }

    fn create_dir(&mut self, path: &str) -> io::Result<()> {
        fs::create_dir_all(self.path(path)?)
    }

    fn write_at(&mut self, path: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(self.path(path)?)?;
        file.write_all_at(bytes, offset)
    }

    fn set(&mut self, path: &str, len: u64, mode: u32) -> io::Result<()> {
        let path = self.path(path)?;
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        file.set_len(len)?;
        file.set_permissions(fs::Permissions::from_mode(mode & 0o777))
    }

    fn sync(&mut self, path: &str) -> io::Result<()> {
        let file = File::open(self.path(path)?)?;
        file.sync_all()?;
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        Ok(())
    }

    fn sync_dir(&mut self, path: &str) -> io::Result<()> {
        File::open(self.path(path)?)?.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from)?, self.path(to)?)
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        absent_is_fine(fs::remove_file(self.path(path)?))
    }

    fn remove_tree(&mut self, path: &str) -> io::Result<()> {
        if path.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the root stays"));
        }
        absent_is_fine(fs::remove_dir_all(self.path(path)?))
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Copies one file of the real world, `from`, to another, durably and under its final name at once.
/// Used for what is written onto sticks.
///
/// # Errors
/// Whatever either disk says.
pub fn copy_durably(from: &Path, to: &Path, mut copied: impl FnMut(u64)) -> io::Result<()> {
    let draft = to.with_extension("tmp");
    let (mut source, mut target) = (File::open(from)?, File::create(&draft)?);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = source.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        target.write_all(&buffer[..read])?;
        copied(read as u64);
    }
    target.sync_all()?;
    fs::rename(&draft, to)?;
    File::open(to.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_lead_outside() {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = RealDisk::new(dir.path()).unwrap();
        for bad in ["../x", "/etc/passwd", "a/../../x", "./x"] {
            assert!(disk.write_at(bad, 0, b"x").is_err(), "{bad}");
        }
        assert!(disk.remove_tree("").is_err());
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = RealDisk::new(dir.path()).unwrap();
        replace(&mut disk, "x/state", b"a longer text").unwrap();
        replace(&mut disk, "x/state", b"short").unwrap();
        assert_eq!(disk.read("x/state").unwrap(), b"short");
        assert_eq!(disk.list("x").unwrap(), ["state"]);
        assert_eq!(disk.len("x/other").unwrap(), None);
        assert!(disk.free().unwrap() > 0);
    }
}
