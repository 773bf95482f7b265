//! Takes single files out of wheels (zip) and npm packages (gzipped tar).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::manifest::Ecosystem;

/// Reads files out of archives whose hashes were checked before.
///
/// A tar has no index, so the last one stays unpacked in memory: the 54 voices come out of one.
#[derive(Default)]
pub(super) struct Archives {
    unpacked: Option<(PathBuf, BTreeMap<PathBuf, Vec<u8>>)>,
}

impl Archives {
    /// Returns one file of an archive.
    pub(super) fn read(&mut self, archive: &Path, ecosystem: Ecosystem, member: &str) -> io::Result<Vec<u8>> {
        match ecosystem {
            Ecosystem::Pypi => {
                let mut zip = zip::ZipArchive::new(open(archive)?).map_err(io::Error::other)?;
                let mut out = Vec::new();
                zip.by_name(member).map_err(io::Error::other)?.read_to_end(&mut out)?;
                Ok(out)
            }
            Ecosystem::Npm => {
                let files = match self.unpacked.take() {
                    Some((path, files)) if path == archive => files,
                    Some(_) | None => unpack(archive)?,
                };
                let (_, files) = self.unpacked.insert((archive.to_owned(), files));
                files
                    .get(Path::new(member))
                    .cloned()
                    .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the archive has no such file"))
            }
        }
    }
}

fn unpack(archive: &Path) -> io::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(flate2::read::GzDecoder::new(open(archive)?)).entries()? {
        let mut entry = entry?;
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        files.insert(entry.path()?.into_owned(), content);
    }
    Ok(files)
}

fn open(archive: &Path) -> io::Result<BufReader<File>> {
    Ok(BufReader::new(File::open(archive)?))
}
