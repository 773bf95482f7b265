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
use std::io;
use std::path::{Path, PathBuf};

use crate::files::{Files, RealFiles};

const HEADER: usize = 24;
/// A segment file that has reached this length gets a successor.
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
pub struct Journal<F: Files = RealFiles> {
    files: F,
    segment_bytes: u64,
    dir: PathBuf,
    /// First sequence number of each segment file.
    segments: BTreeMap<u64, PathBuf>,
    file: F::File,
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
        Self::open_on(RealFiles, dir, SEGMENT_BYTES)
    }
}

impl<F: Files> Journal<F> {
    /// Opens a journal on any file system, with segments of about `segment_bytes`.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_on(mut files: F, dir: &Path, segment_bytes: u64) -> Result<Self, JournalError> {
        files.create_dir(dir).map_err(err("create", dir))?;
        let mut segments = BTreeMap::new();
        for path in files.list(dir).map_err(err("list", dir))? {
            let first = path
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.strip_suffix(".log"))
                .and_then(|digits| digits.parse::<u64>().ok());
            if let Some(first) = first {
                segments.insert(first, path);
            }
        }
        let newest = segments.last_key_value().map(|(first, path)| (*first, path.clone()));
        let (first, path, bytes) = match newest {
            Some((first, path)) => {
                let bytes = files.read(&path).map_err(err("read", &path))?;
                (first, path, bytes)
            }
            None => {
                let path = segment_path(dir, 1);
                segments.insert(1, path.clone());
                (1, path, Vec::new())
            }
        };
        let (records, good) = parse_segment(&bytes, first);
        let next_seq = records.last().map_or(first, |record| record.seq + 1);
        let mut file = files.append_to(&path).map_err(err("open", &path))?;
        files.set_len(&mut file, good).map_err(err("cut", &path))?;
        files.sync(&mut file).map_err(err("sync", &path))?;
        // Makes the new or the cut file's name durable, which syncing the file alone does not.
        files.sync_dir(dir).map_err(err("sync", dir))?;
        let (dir, broken) = (dir.to_owned(), false);
        Ok(Self { files, segment_bytes, dir, segments, file, path, bytes: good, next_seq, broken })
    }

    /// Appends `payload` and returns its sequence number once it is on the disk.
    ///
    /// # Errors
    /// [`JournalError`]; then nothing was recorded and the number is not used.
    pub fn append(&mut self, now_ms: u64, payload: &[u8]) -> Result<u64, JournalError> {
        if payload.len() > MAX_PAYLOAD {
            return Err(JournalError::TooLarge(payload.len()));
        }
        if self.broken || self.bytes >= self.segment_bytes {
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
        let written = self.files.write(&mut self.file, &bytes).and_then(|()| self.files.sync(&mut self.file));
        if let Err(source) = written {
            // Half a record must not stand before a whole one: cut it, or start a new file next time.
            self.broken = self.files.set_len(&mut self.file, self.bytes).is_err();
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
            let bytes = self.files.read(path).map_err(err("read", path))?;
            let (records, _) = parse_segment(&bytes, *first);
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
    /// its name holds the next number. The oldest goes first, so that a power cut leaves no gap.
    ///
    /// # Errors
    /// [`JournalError::Io`] when a file cannot be removed.
    pub fn forget_before(&mut self, keep_from: u64) -> Result<(), JournalError> {
        let firsts: Vec<u64> = self.segments.keys().copied().collect();
        for pair in firsts.windows(2) {
            if pair[1] <= keep_from
                && let Some(path) = self.segments.remove(&pair[0])
            {
                self.files.remove(&path).map_err(err("remove", &path))?;
                self.files.sync_dir(&self.dir).map_err(err("sync", &self.dir))?;
            }
        }
        Ok(())
    }

    fn roll(&mut self) -> Result<(), JournalError> {
        let path = segment_path(&self.dir, self.next_seq);
        let mut file = self.files.append_to(&path).map_err(err("create", &path))?;
        // A file of that name can only be the one whose first record failed: nothing in it counts.
        self.files.set_len(&mut file, 0).map_err(err("cut", &path))?;
        self.files.sync_dir(&self.dir).map_err(err("sync", &self.dir))?;
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

/// Returns the good records of a segment and how many bytes they take.
fn parse_segment(bytes: &[u8], first: u64) -> (Vec<Record>, u64) {
    let (mut records, mut at, mut expected) = (Vec::new(), 0, first);
    while let Some(record) = parse_record(&bytes[at..], expected) {
        at += HEADER + record.payload.len();
        expected += 1;
        records.push(record);
    }
    (records, at as u64)
}

/// How much a journal holds, without a word of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Files.
    pub segments: u64,
    /// Their length together.
    pub bytes: u64,
    /// Whole records.
    pub records: u64,
    /// The number of the last one; 0 for none.
    pub last_seq: u64,
    /// When the first one was written, Unix time in milliseconds; 0 for none.
    pub oldest_ms: u64,
    /// Bytes behind the last whole record of a file: a torn tail, or a record that is being written.
    pub torn_bytes: u64,
}

/// Looks at a journal that another process may be writing; changes nothing.
///
/// # Errors
/// When the folder or a file of it cannot be read.
pub fn survey(dir: &Path) -> io::Result<Survey> {
    let mut found = Survey::default();
    let mut files: Vec<(u64, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".log"));
        if let Some(first) = name.and_then(|digits| digits.parse().ok()) {
            files.push((first, path));
        }
    }
    files.sort();
    for (first, path) in files {
        let bytes = std::fs::read(&path)?;
        let (records, good) = parse_segment(&bytes, first);
        found.segments += 1;
        found.bytes += bytes.len() as u64;
        found.records += records.len() as u64;
        found.torn_bytes += (bytes.len() as u64).saturating_sub(good);
        found.last_seq = records.last().map_or(found.last_seq, |last| last.seq);
        if let (0, Some(oldest)) = (found.oldest_ms, records.first()) {
            found.oldest_ms = oldest.written_ms;
        }
    }
    Ok(found)
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
    use std::fs;

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
    fn a_survey_counts_beside_a_writer_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(survey(&dir.path().join("absent")).is_err());
        let mut journal = Journal::open(dir.path()).unwrap();
        journal.append(7, b"one").unwrap();
        journal.append(8, b"two").unwrap();
        let whole = 2 * (HEADER as u64 + 3);
        let expected =
            Survey { segments: 1, bytes: whole, records: 2, last_seq: 2, oldest_ms: 7, torn_bytes: 0 };
        assert_eq!(survey(dir.path()).unwrap(), expected);
        let mut torn = fs::read(&journal.path).unwrap();
        torn.extend(b"half");
        fs::write(&journal.path, &torn).unwrap();
        assert_eq!(survey(dir.path()).unwrap(), Survey { bytes: whole + 4, torn_bytes: 4, ..expected });
        assert_eq!(fs::read(&journal.path).unwrap(), torn);
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
