//! The outbox's memory: the journal of events, and in sled how far they were acknowledged.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::warn;

use crate::journal::{Journal, JournalError, Record};

const CACHE_BYTES: u64 = 16 * 1024 * 1024;
const LOCK_TRIES: u32 = 25;
/// Ids of filed calls that are remembered, the oldest going first (version 7 sorts by time).
const SEEN_CALLS: usize = 10_000;

/// Why the store could not be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// sled failed, also after it was made anew.
    #[error("could not open the state store {}", path.display())]
    Sled {
        /// Where.
        path: PathBuf,
        /// sled's reason.
        source: sled::Error,
    },
    /// sled failed while running.
    #[error("could not write the state store")]
    Write(#[from] sled::Error),
}

/// Events on their way to the cloud, and the counter of sessions.
#[derive(Debug)]
pub struct OutboxStore {
    journal: Journal,
    db: sled::Db,
    acked_upto: u64,
}

impl OutboxStore {
    /// Opens the store below `dir`. A state store that will not open is set aside and made anew:
    /// everything still in the journal is then sent again.
    ///
    /// # Errors
    /// [`StoreError`] when the disk does not allow it.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let journal = Journal::open(&dir.join("journal"))?;
        let db = open_sled(&dir.join("state"))?;
        let acked_upto = read_u64(&db, b"acked_upto")?.unwrap_or(0).min(journal.next_seq() - 1);
        Ok(Self { journal, db, acked_upto })
    }

    /// Appends an event; it is on the disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::Journal`]; then nothing was recorded.
    pub fn append(&mut self, now_ms: u64, payload: &[u8]) -> Result<u64, StoreError> {
        Ok(self.journal.append(now_ms, payload)?)
    }

    /// Returns the number that the next event gets.
    pub fn next_seq(&self) -> u64 {
        self.journal.next_seq()
    }

    /// Returns up to which number the cloud has everything.
    pub fn acked_upto(&self) -> u64 {
        self.acked_upto
    }

    /// Reads events from number `from` on.
    ///
    /// # Errors
    /// [`StoreError::Journal`] when a file cannot be read.
    pub fn read_from(&self, from: u64, limit: usize) -> Result<Vec<Record>, StoreError> {
        Ok(self.journal.read_from(from, limit)?)
    }

    /// Notes that the cloud has committed everything up to `upto`, and removes old files.
    ///
    /// # Errors
    /// [`StoreError`]; the note is then lost at worst, and events are sent again.
    pub fn set_acked_upto(&mut self, upto: u64) -> Result<(), StoreError> {
        let upto = upto.min(self.journal.next_seq() - 1);
        if upto <= self.acked_upto {
            return Ok(());
        }
        self.acked_upto = upto;
        self.db.insert(b"acked_upto", &upto.to_le_bytes())?;
        self.journal.forget_before(upto + 1)?;
        Ok(())
    }

    /// Notes a call that the box has taken, durably, so that it is filed even if the box dies.
    ///
    /// # Errors
    /// [`StoreError::Write`] when it cannot be kept; the call must then not be taken.
    pub fn open_call(&mut self, call: &[u8; 16], command: &[u8]) -> Result<(), StoreError> {
        self.db.open_tree("open_calls")?.insert(call, command)?;
        self.db.flush()?;
        Ok(())
    }

    /// Notes that the record of a call is in the journal.
    ///
    /// # Errors
    /// [`StoreError::Write`]; the call is then filed a second time after a restart at worst, which
    /// the cloud recognises by its id.
    pub fn close_call(&mut self, call: &[u8; 16]) -> Result<(), StoreError> {
        self.db.open_tree("open_calls")?.remove(call)?;
        let seen = self.db.open_tree("seen_calls")?;
        seen.insert(call, &[])?;
        while seen.len() > SEEN_CALLS {
            seen.pop_min()?;
        }
        Ok(())
    }

    /// Says whether the record of this call was filed, now or before a restart.
    ///
    /// # Errors
    /// [`StoreError::Write`] when the state store fails.
    pub fn was_filed(&self, call: &[u8; 16]) -> Result<bool, StoreError> {
        Ok(self.db.open_tree("seen_calls")?.contains_key(call)?)
    }

    /// Returns the commands of calls that were taken and never filed: the box died during them.
    ///
    /// # Errors
    /// [`StoreError::Write`] when the state store fails.
    pub fn unfiled_calls(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        let tree = self.db.open_tree("open_calls")?;
        Ok(tree.iter().values().map(|value| value.map(|bytes| bytes.to_vec())).collect::<Result<_, _>>()?)
    }

    /// Returns the number of the session that begins now: larger than any before, also when the
    /// state store was lost, as long as the clock has not gone back (`now_s` is Unix time).
    ///
    /// # Errors
    /// [`StoreError::Write`] when it cannot be kept.
    pub fn next_session(&mut self, now_s: u64) -> Result<u64, StoreError> {
        let session = read_u64(&self.db, b"session")?.unwrap_or(0).max(now_s) + 1;
        self.db.insert(b"session", &session.to_le_bytes())?;
        self.db.flush()?;
        Ok(session)
    }
}

fn read_u64(db: &sled::Db, key: &[u8]) -> Result<Option<u64>, sled::Error> {
    Ok(db.get(key)?.and_then(|bytes| Some(u64::from_le_bytes(*bytes.first_chunk()?))))
}

fn open_sled(path: &Path) -> Result<sled::Db, StoreError> {
    // A snapshot that a power cut left unfinished makes the next open fail; nothing in it is needed.
    if let Ok(entries) = std::fs::read_dir(path) {
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().ends_with(".generating") {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
    let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(Some(500));
    let mut tries = 0;
    let error = loop {
        match config.open() {
            Ok(db) => return Ok(db),
            // The lock of a process that was just killed may linger for a moment.
            Err(sled::Error::Io(error)) if error.to_string().contains("lock") && tries < LOCK_TRIES => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(200));
            }
            Err(error) => break error,
        }
    };
    if matches!(&error, sled::Error::Io(io) if io.to_string().contains("lock")) {
        return Err(StoreError::Sled { path: path.to_owned(), source: error });
    }
    let aside = path.with_extension("unreadable");
    warn!(%error, aside = %aside.display(), "State store does not open; setting it aside and making a new one");
    let _ = std::fs::remove_dir_all(&aside);
    let _ = std::fs::rename(path, &aside);
    config.open().map_err(|source| StoreError::Sled { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_acknowledged_is_remembered_and_the_rest_is_still_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = OutboxStore::open(dir.path()).unwrap();
        for n in 0..10u8 {
            store.append(0, &[n]).unwrap();
        }
        store.set_acked_upto(4).unwrap();
        drop(store);
        let store = OutboxStore::open(dir.path()).unwrap();
        assert_eq!(store.acked_upto(), 4);
        assert_eq!(store.read_from(5, 100).unwrap().len(), 6);
    }

    #[test]
    fn a_state_store_full_of_rubbish_is_set_aside_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = OutboxStore::open(dir.path()).unwrap();
        store.append(0, b"kept").unwrap();
        store.set_acked_upto(1).unwrap();
        store.append(0, b"also kept").unwrap();
        drop(store);
        let state = dir.path().join("state");
        std::fs::remove_dir_all(&state).unwrap();
        std::fs::create_dir(&state).unwrap();
        std::fs::write(state.join("conf"), b"rubbish").unwrap();
        std::fs::write(state.join("db"), vec![0xa5; 100_000]).unwrap();

        let store = OutboxStore::open(dir.path()).unwrap();
        let records = store.read_from(store.acked_upto() + 1, 10).unwrap();
        assert_eq!(records.last().unwrap().payload, b"also kept");
    }

    #[test]
    fn a_call_that_was_taken_and_not_filed_is_found_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = OutboxStore::open(dir.path()).unwrap();
        store.open_call(&[1; 16], b"first").unwrap();
        store.open_call(&[2; 16], b"second").unwrap();
        store.close_call(&[1; 16]).unwrap();
        drop(store);
        let store = OutboxStore::open(dir.path()).unwrap();
        assert_eq!(store.unfiled_calls().unwrap(), [b"second".to_vec()]);
        assert!(store.was_filed(&[1; 16]).unwrap());
        assert!(!store.was_filed(&[2; 16]).unwrap());
    }

    #[test]
    fn session_numbers_rise() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = OutboxStore::open(dir.path()).unwrap();
        let first = store.next_session(1_000).unwrap();
        let second = store.next_session(500).unwrap();
        assert!(second > first && first > 1_000);
    }
}
