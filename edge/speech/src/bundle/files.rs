//! What bundles need of a disk: hashes, copies that are on it for sure, and files replaced in one step.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use ring::digest::{Context, SHA256};

use super::{Bundle, BundleError, MANIFEST, ModelFile};

/// Returns the length and the SHA-256 of a file, read in pieces.
pub(super) fn digest(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut context = Context::new(&SHA256);
    let mut piece = vec![0; 1 << 20];
    let mut bytes = 0u64;
    loop {
        match file.read(&mut piece)? {
            0 => return Ok((bytes, hex::encode(context.finish()))),
            n => {
                bytes += n as u64;
                context.update(piece.get(..n).unwrap_or_default());
            }
        }
    }
}

/// Compares a file of a bundle with what the manifest says. With `stamps`, a folder, a hash once found
/// right is remembered for as long as the file's length and time of change stay: hashing what is
/// hundreds of megabytes takes a box longer than it may take to start.
pub(super) fn check(bundle: &Bundle, file: &ModelFile, stamps: Option<&Path>) -> Result<(), BundleError> {
    let path = bundle.dir.join(&file.path);
    let name = || bundle.manifest.name();
    let meta = match fs::metadata(&path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(BundleError::Missing { bundle: name(), path });
        }
        Err(source) => return Err(BundleError::Disk { doing: "read", path, source }),
    };
    // The length is told at once, and a half-fetched file is the usual case.
    if meta.len() != file.bytes {
        return Err(BundleError::Length { bundle: name(), path, expected: file.bytes, got: meta.len() });
    }
    let stamp = stamp_text(&meta, file);
    let stamp_path = stamps.map(|dir| dir.join(format!("{}--{}", name(), file.path)));
    if let (Some(at), Some(text)) = (&stamp_path, &stamp)
        && fs::read_to_string(at).is_ok_and(|found| found == *text)
    {
        return Ok(());
    }
    let (_, got) =
        digest(&path).map_err(|source| BundleError::Disk { doing: "read", path: path.clone(), source })?;
    if got != file.sha256 {
        if let Some(at) = &stamp_path {
            let _ = fs::remove_file(at);
        }
        return Err(BundleError::Hash { bundle: name(), path, expected: file.sha256.clone(), got });
    }
    if let (Some(at), Some(text)) = (stamp_path, stamp) {
        // A folder that cannot be written to costs the time at the next start, not the start.
        let _ = replace(&at, text.as_bytes());
    }
    Ok(())
}

fn stamp_text(meta: &fs::Metadata, file: &ModelFile) -> Option<String> {
    let changed = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
    Some(format!("{} {} {changed}\n", file.sha256, meta.len()))
}

/// Copies the files of a bundle and its manifest into a new folder; they are on the disk when it returns.
pub(super) fn copy_bundle(from: &Bundle, to: &Path) -> Result<(), BundleError> {
    make_folder(to)?;
    for file in &from.manifest.files {
        copy(&from.dir.join(&file.path), &to.join(&file.path))?;
    }
    copy(&from.dir.join(MANIFEST), &to.join(MANIFEST))?;
    sync_folder(to)
}

fn copy(from: &Path, to: &Path) -> Result<(), BundleError> {
    let read = |source| BundleError::Disk { doing: "read", path: from.to_owned(), source };
    let write = |source| BundleError::Disk { doing: "write", path: to.to_owned(), source };
    let mut source = File::open(from).map_err(read)?;
    let mut target = File::create(to).map_err(write)?;
    io::copy(&mut source, &mut target).map_err(write)?;
    target.sync_all().map_err(write)
}

/// Replaces a file in one step: whoever reads it finds the old text or the new one, also after a loss of
/// power.
pub(super) fn replace(path: &Path, text: &[u8]) -> Result<(), BundleError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    make_folder(folder)?;
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{}.part", std::process::id()));
    let fresh = PathBuf::from(fresh);
    let write = |source| BundleError::Disk { doing: "write", path: fresh.clone(), source };
    let mut file = File::create(&fresh).map_err(write)?;
    file.write_all(text).map_err(write)?;
    file.sync_all().map_err(write)?;
    drop(file);
    rename(&fresh, path)
}

/// Renames, and makes sure that the name is on the disk.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), BundleError> {
    let folder = to.parent().unwrap_or(Path::new("."));
    make_folder(folder)?;
    fs::rename(from, to).map_err(|source| BundleError::Disk {
        doing: "rename to",
        path: to.to_owned(),
        source,
    })?;
    sync_folder(folder)
}

fn make_folder(path: &Path) -> Result<(), BundleError> {
    fs::create_dir_all(path).map_err(|source| BundleError::Disk {
        doing: "make folder",
        path: path.to_owned(),
        source,
    })
}

fn sync_folder(path: &Path) -> Result<(), BundleError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|source| BundleError::Disk {
        doing: "write",
        path: path.to_owned(),
        source,
    })
}

/// The folders in a folder that are not hidden; none when it does not exist.
pub(super) fn folders(path: &Path) -> Result<Vec<PathBuf>, BundleError> {
    let failed = |source| BundleError::Disk { doing: "read", path: path.to_owned(), source };
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !is_hidden && entry.path().is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}
