//! What can go wrong while fetching, in words for somebody who wants to go on.

use std::io;
use std::path::{Path, PathBuf};

use crate::convert::ConvertError;
use crate::manifest::Digest;

/// Why models could not be fetched. What was finished before stays finished.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nothing in the list has that name.
    #[error("there is no model `{name}`; there are: {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// All names of models.
        known: String,
    },
    /// Somebody else is fetching into the same folder.
    #[error("another fetch (process {holder}) is filling {dir}; wait for it, then run this again")]
    Locked {
        /// The folder.
        dir: PathBuf,
        /// The process, as it wrote itself down.
        holder: String,
    },
    /// The disk is too small.
    #[error("{dir} needs {} more and has {} free: make room for another {}, or choose another folder with --dir", megabytes(*need), megabytes(*free), megabytes(need.saturating_sub(*free)))]
    NoRoom {
        /// The folder.
        dir: PathBuf,
        /// Bytes that downloads and results take.
        need: u64,
        /// Bytes free, less than `need`.
        free: u64,
    },
    /// A registry's client is not installed.
    #[error("`{tool}` is not installed, and package {package} comes through it: {remedy}")]
    NoTool {
        /// The client.
        tool: &'static str,
        /// What was to be fetched.
        package: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A registry's client gave up.
    #[error(
        "`{command}` failed ({status}); run this again once the network or the registry answers, finished downloads are kept\n{said}"
    )]
    Tool {
        /// The command line.
        command: String,
        /// How it ended.
        status: String,
        /// The end of what it wrote.
        said: String,
    },
    /// A registry's client left another file than the list says.
    #[error("`{command}` succeeded but left {found} instead of {archive}")]
    NotDelivered {
        /// The command line.
        command: String,
        /// The file that was expected.
        archive: String,
        /// The files that are there.
        found: String,
    },
    /// A file does not have the hash in the list.
    #[error(
        "{what} has the wrong content and was set aside as {kept}\n  expected {expected}\n  got      {got}\n{remedy}"
    )]
    WrongHash {
        /// Which file, or which part of which.
        what: String,
        /// Where it lies now.
        kept: PathBuf,
        /// The hash in the list.
        expected: Digest,
        /// The hash it has.
        got: Digest,
        /// What to do.
        remedy: &'static str,
    },
    /// A file is not in its archive.
    #[error("could not read {member} from {archive}")]
    Member {
        /// The archive.
        archive: PathBuf,
        /// The file inside.
        member: String,
        /// What the reader said.
        source: io::Error,
    },
    /// A model could not be converted.
    #[error("could not make {file}")]
    Convert {
        /// The result that was wanted.
        file: String,
        /// What is wrong with the sources.
        source: ConvertError,
    },
    /// The disk or the system refused.
    #[error("could not {doing} {path}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Names what was being done to which file.
pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FetchError {
    let path = path.to_owned();
    move |source| FetchError::Io { doing, path, source }
}

/// Writes a length the way people compare lengths.
pub fn megabytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
