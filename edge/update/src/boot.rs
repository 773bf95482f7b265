//! The boot record: which slot is good, and which is on trial for how many more starts.
//!
//! Kept twice, in `boot.0` and `boot.1`, the newer one by its number; each is replaced as a whole and
//! carries a checksum, so that a medium that spoils one copy spoils no decision.

use std::io;

use serde::{Deserialize, Serialize};
use trunkline_trust::Sha256;

use crate::disk::{Disk, replace};

/// One of the two places that a version can lie in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// Returns the other one.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Returns its folder's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

/// A slot that must prove itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnTrial {
    /// Which.
    pub slot: Slot,
    /// The manifest that it was sealed with.
    pub version: Sha256,
    /// How many more times it may be started.
    pub tries_left: u8,
}

/// What the launcher goes by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootRecord {
    /// Counts the changes.
    pub number: u64,
    /// The slot that has proved itself; none before the first installation.
    pub good: Option<Slot>,
    /// The slot on trial.
    pub trial: Option<OnTrial>,
    /// The last version that was given up, by the launcher or by its own self-test.
    pub gave_up: Option<Sha256>,
}

impl BootRecord {
    /// Reads the newer of the readable copies; an empty record when there is none.
    pub fn read(disk: &impl Disk) -> Self {
        let copies = COPIES.iter().filter_map(|path| decode(&disk.read(path).ok()?));
        copies.max_by_key(|record| record.number).unwrap_or_default()
    }

    /// Writes the record, with the next number, over the older copy. It is durable when this returns.
    ///
    /// # Errors
    /// Whatever the disk says; the record on the disk is then the old one or the new one.
    pub fn write(&mut self, disk: &mut impl Disk) -> io::Result<()> {
        let mut next = self.clone();
        next.number += 1;
        let copy = COPIES[usize::from(next.number % 2 == 1)];
        replace(disk, copy, &encode(&next)?)?;
        *self = next;
        Ok(())
    }
}

const COPIES: [&str; 2] = ["boot.0", "boot.1"];

fn encode(record: &BootRecord) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(record)?;
    let mut bytes = format!("{:08x} ", crc32c::crc32c(&body)).into_bytes();
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Option<BootRecord> {
    let (sum, body) = (bytes.get(..8)?, bytes.get(9..)?);
    let sum = u32::from_str_radix(std::str::from_utf8(sum).ok()?, 16).ok()?;
    if sum != crc32c::crc32c(body) {
        return None;
    }
    serde_json::from_slice(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn the_newer_copy_counts_and_the_older_one_helps_when_it_is_spoilt() {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = RealDisk::new(dir.path()).unwrap();
        assert_eq!(BootRecord::read(&disk), BootRecord::default());
        let mut record = BootRecord { good: Some(Slot::A), ..BootRecord::default() };
        record.write(&mut disk).unwrap();
        let first = record.clone();
        record.good = Some(Slot::B);
        record.write(&mut disk).unwrap();
        assert_eq!(BootRecord::read(&disk), record);

        for spoilt in [&b""[..], b"00000000 {}", &[0xff; 200]] {
            let newest = COPIES[usize::from(record.number % 2 == 1)];
            std::fs::write(dir.path().join(newest), spoilt).unwrap();
            assert_eq!(BootRecord::read(&disk), first);
        }
    }
}
