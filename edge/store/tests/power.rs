//! 1,000 power cuts: what was acknowledged to the producer is there, and nothing else is made of it.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use trunkline_store::{Files, Journal, OutboxStore};

/// A folder in memory that forgets at a power cut what was not synced, in any combination.
#[derive(Clone, Debug, Default)]
struct Sim(Rc<RefCell<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// Files by number; names point at them.
    files: BTreeMap<u64, Node>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// Names that came and went since the folder was synced.
    renamed: Vec<(PathBuf, Option<u64>)>,
    next: u64,
    fuel: Option<u32>,
}

#[derive(Debug, Default)]
struct Node {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Writes and lengths since the file was synced.
    pending: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Bytes(usize, Vec<u8>),
    Length(usize),
}

impl Sim {
    fn change(&self) -> io::Result<()> {
        match &mut self.0.borrow_mut().fuel {
            Some(0) => Err(io::Error::other("the power is gone")),
            Some(fuel) => {
                *fuel -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn crash(&self, rng: &mut ChaCha8Rng) {
        let mut inner = self.0.borrow_mut();
        inner.fuel = None;
        for (name, node) in std::mem::take(&mut inner.renamed) {
            if rng.random_bool(0.5) {
                match node {
                    Some(node) => inner.durable_names.insert(name, node),
                    None => inner.durable_names.remove(&name),
                };
            }
        }
        inner.names = inner.durable_names.clone();
        for node in inner.files.values_mut() {
            for change in std::mem::take(&mut node.pending) {
                if rng.random_bool(0.4) {
                    continue;
                }
                match change {
                    Change::Length(len) => node.durable.resize(len, 0),
                    Change::Bytes(at, mut bytes) => {
                        match rng.random_range(0..3) {
                            // Torn, or with a sector of rubbish, or whole.
                            0 => bytes.truncate(rng.random_range(0..=bytes.len())),
                            1 => {
                                let from = rng.random_range(0..bytes.len());
                                let to = bytes.len().min(from + 512);
                                rng.fill_bytes(&mut bytes[from..to]);
                            }
                            _ => {}
                        }
                        let end = at + bytes.len();
                        if node.durable.len() < end {
                            node.durable.resize(end, 0);
                        }
                        node.durable[at..end].copy_from_slice(&bytes);
                    }
                }
            }
            node.now = node.durable.clone();
        }
    }
}

impl Files for Sim {
    type File = u64;

    fn create_dir(&mut self, _dir: &Path) -> io::Result<()> {
        self.change()
    }

    fn list(&self, _dir: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.0.borrow().names.keys().cloned().collect())
    }

    fn append_to(&mut self, path: &Path) -> io::Result<u64> {
        self.change()?;
        let mut inner = self.0.borrow_mut();
        if let Some(node) = inner.names.get(path) {
            return Ok(*node);
        }
        inner.next += 1;
        let node = inner.next;
        inner.files.insert(node, Node::default());
        inner.names.insert(path.to_owned(), node);
        inner.renamed.push((path.to_owned(), Some(node)));
        Ok(node)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let inner = self.0.borrow();
        let node = inner.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(inner.files[node].now.clone())
    }

    fn write(&mut self, file: &mut u64, bytes: &[u8]) -> io::Result<()> {
        self.change()?;
        let mut inner = self.0.borrow_mut();
        let node = inner.files.get_mut(file).unwrap();
        let at = node.now.len();
        node.now.extend_from_slice(bytes);
        node.pending.push(Change::Bytes(at, bytes.to_vec()));
        Ok(())
    }

    fn set_len(&mut self, file: &mut u64, len: u64) -> io::Result<()> {
        self.change()?;
        let mut inner = self.0.borrow_mut();
        let node = inner.files.get_mut(file).unwrap();
        let len = usize::try_from(len).unwrap();
        node.now.resize(len, 0);
        node.pending.push(Change::Length(len));
        Ok(())
    }

    fn sync(&mut self, file: &mut u64) -> io::Result<()> {
        self.change()?;
        let mut inner = self.0.borrow_mut();
        let node = inner.files.get_mut(file).unwrap();
        node.durable = node.now.clone();
        node.pending.clear();
        Ok(())
    }

    fn sync_dir(&mut self, _dir: &Path) -> io::Result<()> {
        self.change()?;
        let mut inner = self.0.borrow_mut();
        inner.durable_names = inner.names.clone();
        inner.renamed.clear();
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.change()?;
        let mut inner = self.0.borrow_mut();
        inner.names.remove(path);
        inner.renamed.push((path.to_owned(), None));
        Ok(())
    }
}

#[test]
fn after_1_000_power_cuts_no_acknowledged_record_is_lost_and_no_number_is_given_out_twice() {
    const CUTS: u64 = 1_000;
    let (mut cuts, mut acknowledged) = (0, 0u64);
    let mut seed = 0;
    while cuts < CUTS {
        seed += 1;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let sim = Sim::default();
        // What the producer was told is on the disk, and what it last asked for without being told.
        let mut told: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let mut asked: Option<Vec<u8>> = None;
        let mut forgotten = 0;
        for _ in 0..10 {
            sim.0.borrow_mut().fuel = Some(rng.random_range(0..60));
            if let Ok(mut journal) = Journal::open_on(sim.clone(), Path::new("j"), 600) {
                for _ in 0..40 {
                    let mut payload = vec![0; rng.random_range(1..200)];
                    rng.fill_bytes(&mut payload);
                    asked = Some(payload.clone());
                    match journal.append(7, &payload) {
                        Ok(seq) => {
                            assert!(told.insert(seq, payload).is_none(), "SIM_SEED={seed}: {seq} twice");
                            asked = None;
                        }
                        Err(_) => break,
                    }
                    if rng.random_bool(0.05) {
                        let newest = told.keys().next_back().copied().unwrap_or(0);
                        forgotten = forgotten.max(rng.random_range(0..=newest));
                        if journal.forget_before(forgotten + 1).is_err() {
                            break;
                        }
                    }
                }
            }
            sim.crash(&mut rng);
            cuts += 1;

            let journal = Journal::open_on(sim.clone(), Path::new("j"), 600).unwrap();
            let found = journal.read_from(1, usize::MAX).unwrap();
            let by_seq: BTreeMap<u64, &Vec<u8>> = found.iter().map(|one| (one.seq, &one.payload)).collect();
            for (seq, payload) in told.range(forgotten + 1..) {
                assert_eq!(by_seq.get(seq), Some(&payload), "SIM_SEED={seed}: record {seq} is lost");
            }
            let numbers: Vec<u64> = found.iter().map(|one| one.seq).collect();
            assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "SIM_SEED={seed}: {numbers:?}");
            let newest = told.keys().next_back().copied().unwrap_or(0);
            assert!(journal.next_seq() > newest, "SIM_SEED={seed}");
            // The record that was under way may be there: whole, with its number, or not at all.
            for one in found.iter().filter(|one| one.seq > newest) {
                assert_eq!(Some(&one.payload), asked.as_ref(), "SIM_SEED={seed}: made up");
                told.insert(one.seq, one.payload.clone());
            }
        }
        acknowledged += told.len() as u64;
    }
    println!("{cuts} cuts, {acknowledged} records acknowledged, none lost");
    assert!(acknowledged > CUTS, "the cuts left no time to write: {acknowledged}");
}

/// Spoils files as a power cut does that sled was not prepared for.
fn spoil(dir: &Path, rng: &mut ChaCha8Rng) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            spoil(&path, rng);
            continue;
        }
        let mut bytes = fs::read(&path).unwrap();
        match rng.random_range(0..5) {
            0 => bytes.truncate(rng.random_range(0..=bytes.len())),
            1 if !bytes.is_empty() => {
                let from = rng.random_range(0..bytes.len());
                let to = bytes.len().min(from + 4_096);
                bytes[from..to].fill(0);
            }
            2 if !bytes.is_empty() => {
                let from = rng.random_range(0..bytes.len());
                let to = bytes.len().min(from + 512);
                rng.fill_bytes(&mut bytes[from..to]);
            }
            3 => drop(fs::write(path.with_extension("generating"), b"unfinished")),
            _ => {}
        }
        fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn a_state_store_spoilt_in_60_ways_always_opens_again_and_no_acknowledged_event_is_lost() {
    for seed in 0..60 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let dir = tempfile::tempdir().unwrap();
        let mut store = OutboxStore::open(dir.path()).unwrap();
        for n in 0..6u8 {
            store.append(0, &[n; 20]).unwrap();
        }
        store.set_acked_upto(2).unwrap();
        store.open_call(&[7; 16], b"a command").unwrap();
        store.next_session(1_000).unwrap();
        drop(store);
        spoil(&dir.path().join("state"), &mut rng);

        let mut store = OutboxStore::open(dir.path()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(store.acked_upto() <= 2, "seed {seed}: what the cloud never had was forgotten");
        let records = store.read_from(3, 10).unwrap();
        let seen: Vec<u8> = records.iter().map(|record| record.payload[0]).collect();
        assert_eq!(seen, [2, 3, 4, 5], "seed {seed}");
        assert_eq!(store.append(0, b"next").unwrap(), 7);
        store.set_acked_upto(7).unwrap();
        assert!(store.next_session(2_000).unwrap() > 2_000);
    }
}
