//! The append-only journal.
//!
//! ```text
//! segment file `{first seq:020}.log`
//!  0      4      8              16             24
//!  +------+------+--------------+--------------+----------------+
//!  | len  | crc  | seq          | unix ms      | payload (len)  |   little endian,
//!  +------+------+--------------+--------------+----------------+   crc32c over seq..payload
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

const HEADER: usize = 24;
const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

/// The longest payload that is taken, in bytes.
pub const MAX_PAYLOAD: usize = 1024 * 1024;

/// Why the journal could not be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk said no. Nothing was recorded.
    #[error("could not {doing} journal file {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// The disk's answer.
        source: io::Error,
    },
    /// Larger than [`MAX_PAYLOAD`].
    #[error("a record of {0} bytes is too large for the journal")]
    TooLarge(usize),
}

/// One record as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number, from 1, without gaps.
    pub seq: u64,
    /// When it was written, Unix time in milliseconds.
    pub written_ms: u64,
    /// The bytes.
    pub payload: Vec<u8>,
}

/// An open journal. One process at a time; `edge/agent` locks the data folder.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    /// First sequence number of each segment file.
    segments: BTreeMap<u64, PathBuf>,
    file: File,
    path: PathBuf,
    bytes: u64,
    next_seq: u64,
    /// Set when a failed write left bytes behind that could not be cut off.
    broken: bool,
}

impl Journal {
    /// Opens the journal in `dir`, making it when there is none, and cuts a torn tail.
    ///
    /// # Errors
    /// [`JournalError::Io`] when the folder or a file cannot be read or written.
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        fs::create_dir_all(dir).map_err(err("create", dir))?;
        let mut segments = BTreeMap::new();
        for entry in fs::read_dir(dir).map_err(err("list", dir))? {
            let path = entry.map_err(err("list", dir))?.path();
            let first = path
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.strip_suffix(".log"))
                .and_then(|digits| digits.parse::<u64>().ok());
            if let Some(first) = first {
                segments.insert(first, path);
            }
        }
        let (first, path) = match segments.last_key_value() {
            Some((first, path)) => (*first, path.clone()),
            None => {
                let path = segment_path(dir, 1);
                segments.insert(1, path.clone());
                (1, path)
            }
        };
        let (records, good) = if path.exists() { read_segment(&path, first)? } else { (Vec::new(), 0) };
        let next_seq = records.last().map_or(first, |record| record.seq + 1);
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(err("open", &path))?;
        file.set_len(good).map_err(err("cut", &path))?;
        file.sync_all().map_err(err("sync", &path))?;
        sync_dir(dir)?;
        Ok(Self { dir: dir.to_owned(), segments, file, path, bytes: good, next_seq, broken: false })
    }

    /// Appends `payload` and returns its sequence number once it is on the disk.
    ///
    /// # Errors
    /// [`JournalError`]; then nothing was recorded and the number is not used.
    pub fn append(&mut self, now_ms: u64, payload: &[u8]) -> Result<u64, JournalError> {
        if payload.len() > MAX_PAYLOAD {
            return Err(JournalError::TooLarge(payload.len()));
        }
        if self.broken || self.bytes >= SEGMENT_BYTES {
            self.roll()?;
        }
        let seq = self.next_seq;
        let mut bytes = Vec::with_capacity(HEADER + payload.len());
        bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&seq.to_le_bytes());
        bytes.extend_from_slice(&now_ms.to_le_bytes());
        bytes.extend_from_slice(payload);
        let crc = crc32c::crc32c(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        let written = self.file.write_all(&bytes).and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            // Half a record must not stand before a whole one: cut it, or start a new file next time.
            self.broken = self.file.set_len(self.bytes).is_err();
            return Err(JournalError::Io { doing: "write", path: self.path.clone(), source });
        }
        self.bytes += bytes.len() as u64;
        self.next_seq += 1;
        Ok(seq)
    }

    /// Returns the number that the next record gets.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Reads up to `limit` records from number `from` on, in order.
    ///
    /// # Errors
    /// [`JournalError::Io`] when a file cannot be read.
    pub fn read_from(&self, from: u64, limit: usize) -> Result<Vec<Record>, JournalError> {
        let start = self.segments.range(..=from).next_back().map_or(0, |(first, _)| *first);
        let mut found = Vec::new();
        for (first, path) in self.segments.range(start..) {
            let (records, _) = read_segment(path, *first)?;
            for record in records {
                if record.seq >= from && record.seq < self.next_seq {
                    found.push(record);
                    if found.len() == limit {
                        return Ok(found);
                    }
                }
            }
        }
        Ok(found)
    }

    /// Removes the files that hold nothing at or above `keep_from`; the newest always stays, since
    /// its name holds the next number.
    ///
    /// # Errors
    /// [`JournalError::Io`] when a file cannot be removed.
    pub fn forget_before(&mut self, keep_from: u64) -> Result<(), JournalError> {
        let firsts: Vec<u64> = self.segments.keys().copied().collect();
        for pair in firsts.windows(2) {
            if pair[1] <= keep_from
                && let Some(path) = self.segments.remove(&pair[0])
            {
                fs::remove_file(&path).map_err(err("remove", &path))?;
            }
        }
        Ok(())
    }

    fn roll(&mut self) -> Result<(), JournalError> {
        let path = segment_path(&self.dir, self.next_seq);
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(err("create", &path))?;
        // A file of that name can only be the one whose first record failed: nothing in it counts.
        file.set_len(0).map_err(err("cut", &path))?;
        sync_dir(&self.dir)?;
        self.segments.insert(self.next_seq, path.clone());
        (self.file, self.path, self.bytes, self.broken) = (file, path, 0, false);
        Ok(())
    }
}

fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.log"))
}

fn err(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::Io { doing, path, source }
}

/// Makes a new or removed name durable, which syncing the file alone does not.
fn sync_dir(dir: &Path) -> Result<(), JournalError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(err("sync", dir))
}

/// Returns the good records of a segment and how many bytes they take.
fn read_segment(path: &Path, first: u64) -> Result<(Vec<Record>, u64), JournalError> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(err("read", path))?;
    let (mut records, mut at, mut expected) = (Vec::new(), 0, first);
    while let Some(record) = parse_record(&bytes[at..], expected) {
        at += HEADER + record.payload.len();
        expected += 1;
        records.push(record);
    }
    Ok((records, at as u64))
}

fn parse_record(bytes: &[u8], expected: u64) -> Option<Record> {
    let header: &[u8; HEADER] = bytes.first_chunk()?;
    let u32_at = |at: usize| Some(u32::from_le_bytes(*header[at..].first_chunk()?));
    let u64_at = |at: usize| Some(u64::from_le_bytes(*header[at..].first_chunk()?));
    let len = u32_at(0)? as usize;
    let end = HEADER.checked_add(len).filter(|_| len <= MAX_PAYLOAD)?;
    let body = bytes.get(8..end)?;
    let seq = u64_at(8)?;
    if crc32c::crc32c(body) != u32_at(4)? || seq != expected {
        return None;
    }
    Some(Record { seq, written_ms: u64_at(16)?, payload: body[16..].to_vec() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_appended_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        assert_eq!(journal.append(7, b"one").unwrap(), 1);
        assert_eq!(journal.append(8, b"two").unwrap(), 2);
        drop(journal);

        let journal = Journal::open(dir.path()).unwrap();
        let records = journal.read_from(1, 10).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!(records[1], Record { seq: 2, written_ms: 8, payload: b"two".to_vec() });
        assert_eq!(journal.next_seq(), 3);
    }

    #[test]
    fn numbers_are_not_reused_after_everything_was_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        let big = vec![1; 900_000];
        for _ in 0..12 {
            journal.append(0, &big).unwrap();
        }
        journal.forget_before(13).unwrap();
        assert!(journal.read_from(1, 100).unwrap().len() < 12);
        drop(journal);
        assert_eq!(Journal::open(dir.path()).unwrap().next_seq(), 13);
    }

    #[test]
    fn a_cut_at_any_byte_loses_only_what_was_not_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        for n in 0..5u8 {
            journal.append(0, &vec![n; 10 + usize::from(n)]).unwrap();
        }
        let path = journal.path.clone();
        drop(journal);
        let whole = fs::read(&path).unwrap();
        let ends: Vec<usize> = (0..5)
            .scan(0, |at, n| {
                *at += HEADER + 10 + n;
                Some(*at)
            })
            .collect();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let mut journal = Journal::open(dir.path()).unwrap();
            let kept = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(journal.read_from(1, 10).unwrap().len(), kept, "cut at {cut}");
            assert_eq!(journal.append(0, b"next").unwrap(), kept as u64 + 1);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_on_the_disk_panic_the_reader(bytes: Vec<u8>) {
            let dir = tempfile::tempdir().unwrap();
            fs::write(segment_path(dir.path(), 1), &bytes).unwrap();
            let mut journal = Journal::open(dir.path()).unwrap();
            let seq = journal.append(0, b"x").unwrap();
            prop_assert_eq!(journal.read_from(seq, 1).unwrap().len(), 1);
        }
    }
}
