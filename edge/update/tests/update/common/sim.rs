//! A disk in memory that forgets at a power cut what was not synced: writes are dropped or torn, names are
//! lost or kept, in any combination.

#![allow(unreachable_pub, reason = "as its parent")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use trunkline_update::Disk;

type Ino = u64;

#[derive(Clone, Default)]
struct FileNode {
    durable: Vec<u8>,
    now: Vec<u8>,
    pending: Vec<Write>,
}

#[derive(Clone)]
enum Write {
    Bytes(u64, Vec<u8>),
    Length(u64),
}

#[derive(Clone, Default)]
struct DirNode {
    durable: BTreeMap<String, Ino>,
    now: BTreeMap<String, Ino>,
    pending: Vec<Name>,
}

#[derive(Clone)]
enum Name {
    Add(String, Ino),
    Remove(String),
    Rename(String, String),
}

#[derive(Clone, Default)]
struct Inner {
    files: BTreeMap<Ino, FileNode>,
    dirs: BTreeMap<Ino, DirNode>,
    next: Ino,
    /// Changes that still work before the power is cut.
    fuel: Option<u64>,
    changes: u64,
    read_only: bool,
    free: u64,
}

/// A folder on such a disk; clones see the same disk.
#[derive(Clone)]
pub struct Sim {
    inner: Rc<RefCell<Inner>>,
    prefix: String,
}

const ROOT: Ino = 0;

impl Sim {
    pub fn new() -> Self {
        let mut inner = Inner { next: 1, free: 1 << 40, ..Inner::default() };
        inner.dirs.insert(ROOT, DirNode::default());
        Self { inner: Rc::new(RefCell::new(inner)), prefix: String::new() }
    }

    /// A folder below, which is made and durable.
    pub fn folder(&self, name: &str) -> Self {
        let mut root = Self { inner: self.inner.clone(), prefix: String::new() };
        root.create_dir(name).unwrap();
        root.sync_dir("").unwrap();
        Self { inner: self.inner.clone(), prefix: name.into() }
    }

    /// A copy of the whole disk that lives on by itself.
    pub fn fork(&self) -> Self {
        let inner = self.inner.borrow().clone();
        Self { inner: Rc::new(RefCell::new(inner)), prefix: self.prefix.clone() }
    }

    pub fn cut_after(&self, changes: Option<u64>) {
        self.inner.borrow_mut().fuel = changes;
    }

    pub fn is_dead(&self) -> bool {
        self.inner.borrow().fuel == Some(0)
    }

    pub fn changes(&self) -> u64 {
        self.inner.borrow().changes
    }

    pub fn set_read_only(&self, read_only: bool) {
        self.inner.borrow_mut().read_only = read_only;
    }

    pub fn set_free(&self, free: u64) {
        self.inner.borrow_mut().free = free;
    }

    /// Flips a bit of a file, as a bad medium does.
    pub fn spoil(&self, path: &str, at: usize) {
        let ino = self.file(path).unwrap();
        let mut inner = self.inner.borrow_mut();
        let file = inner.files.get_mut(&ino).unwrap();
        file.now[at] ^= 1;
        file.durable = file.now.clone();
        file.pending.clear();
    }

    /// The power goes and comes back.
    pub fn crash(&self, rng: &mut ChaCha8Rng) {
        let mut inner = self.inner.borrow_mut();
        inner.fuel = None;
        // Some file systems keep the order of names, some do not.
        let ordered = rng.random_bool(0.5);
        for dir in inner.dirs.values_mut() {
            let kept = rng.random_range(0..=dir.pending.len());
            for (at, change) in std::mem::take(&mut dir.pending).into_iter().enumerate() {
                let keep = if ordered { at < kept } else { rng.random_bool(0.5) };
                if !keep {
                    continue;
                }
                match change {
                    Name::Add(name, ino) => drop(dir.durable.insert(name, ino)),
                    Name::Remove(name) => drop(dir.durable.remove(&name)),
                    Name::Rename(from, to) => {
                        if let Some(ino) = dir.durable.remove(&from) {
                            dir.durable.insert(to, ino);
                        }
                    }
                }
            }
            dir.now = dir.durable.clone();
        }
        for file in inner.files.values_mut() {
            for write in std::mem::take(&mut file.pending) {
                if rng.random_bool(0.5) {
                    continue;
                }
                match write {
                    Write::Length(len) => file.durable.resize(len as usize, 0),
                    Write::Bytes(offset, bytes) => {
                        // Possibly torn.
                        let whole = rng.random_bool(0.5);
                        let len = if whole { bytes.len() } else { rng.random_range(0..=bytes.len()) };
                        put(&mut file.durable, offset, &bytes[..len]);
                    }
                }
            }
            file.now = file.durable.clone();
        }
    }

    fn full(&self, path: &str) -> String {
        [self.prefix.as_str(), path]
            .iter()
            .filter(|part| !part.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join("/")
    }

    fn walk(inner: &Inner, path: &str) -> Option<Ino> {
        let mut at = ROOT;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            at = *inner.dirs.get(&at)?.now.get(part)?;
        }
        Some(at)
    }

    fn file(&self, path: &str) -> io::Result<Ino> {
        let inner = self.inner.borrow();
        Self::walk(&inner, &self.full(path))
            .filter(|ino| inner.files.contains_key(ino))
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Takes one change from the fuel.
    fn change(&self) -> io::Result<()> {
        let mut inner = self.inner.borrow_mut();
        if inner.fuel == Some(0) {
            return Err(io::Error::other("the power is gone"));
        }
        if inner.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        if let Some(fuel) = &mut inner.fuel {
            *fuel -= 1;
        }
        inner.changes += 1;
        Ok(())
    }

    fn split(&self, path: &str) -> (String, String) {
        let full = self.full(path);
        match full.rsplit_once('/') {
            Some((dir, name)) => (dir.into(), name.into()),
            None => (String::new(), full),
        }
    }

    fn open(&self, path: &str) -> io::Result<Ino> {
        if let Ok(ino) = self.file(path) {
            return Ok(ino);
        }
        let (dir, name) = self.split(path);
        let mut inner = self.inner.borrow_mut();
        let dir = Self::walk(&inner, &dir).ok_or(io::ErrorKind::NotFound)?;
        let ino = inner.next;
        inner.next += 1;
        inner.files.insert(ino, FileNode::default());
        let dir = inner.dirs.get_mut(&dir).ok_or(io::ErrorKind::NotADirectory)?;
        dir.now.insert(name.clone(), ino);
        dir.pending.push(Name::Add(name, ino));
        Ok(ino)
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        let (dir, name) = self.split(path);
        let mut inner = self.inner.borrow_mut();
        let Some(dir) = Self::walk(&inner, &dir) else { return Ok(()) };
        let dir = inner.dirs.get_mut(&dir).unwrap();
        if dir.now.remove(&name).is_some() {
            dir.pending.push(Name::Remove(name));
        }
        Ok(())
    }
}

fn put(bytes: &mut Vec<u8>, offset: u64, what: &[u8]) {
    let (from, to) = (offset as usize, offset as usize + what.len());
    if bytes.len() < to {
        bytes.resize(to, 0);
    }
    bytes[from..to].copy_from_slice(what);
}

impl Disk for Sim {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let ino = self.file(path)?;
        Ok(self.inner.borrow().files[&ino].now.clone())
    }

    fn read_at(&self, path: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let ino = self.file(path)?;
        let inner = self.inner.borrow();
        let bytes = &inner.files[&ino].now;
        let from = offset as usize;
        bytes.get(from..from + len).map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn len(&self, path: &str) -> io::Result<Option<u64>> {
        let Ok(ino) = self.file(path) else { return Ok(None) };
        Ok(Some(self.inner.borrow().files[&ino].now.len() as u64))
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let inner = self.inner.borrow();
        let dir = Self::walk(&inner, &self.full(path)).and_then(|ino| inner.dirs.get(&ino));
        Ok(dir.map(|dir| dir.now.keys().cloned().collect()).unwrap_or_default())
    }

    fn free(&self) -> io::Result<u64> {
        Ok(self.inner.borrow().free)
    }

    fn create_dir(&mut self, path: &str) -> io::Result<()> {
        let full = self.full(path);
        let mut at = ROOT;
        for part in full.split('/').filter(|part| !part.is_empty()) {
            let known = self.inner.borrow().dirs[&at].now.get(part).copied();
            at = match known {
                Some(ino) => ino,
                None => {
                    self.change()?;
                    let mut inner = self.inner.borrow_mut();
                    let ino = inner.next;
                    inner.next += 1;
                    inner.dirs.insert(ino, DirNode::default());
                    let dir = inner.dirs.get_mut(&at).unwrap();
                    dir.now.insert(part.into(), ino);
                    dir.pending.push(Name::Add(part.into(), ino));
                    ino
                }
            };
        }
        Ok(())
    }

    fn write_at(&mut self, path: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change()?;
        let ino = self.open(path)?;
        let mut inner = self.inner.borrow_mut();
        let file = inner.files.get_mut(&ino).unwrap();
        put(&mut file.now, offset, bytes);
        file.pending.push(Write::Bytes(offset, bytes.to_vec()));
        Ok(())
    }

    fn set(&mut self, path: &str, len: u64, _mode: u32) -> io::Result<()> {
        self.change()?;
        let ino = self.open(path)?;
        let mut inner = self.inner.borrow_mut();
        let file = inner.files.get_mut(&ino).unwrap();
        file.now.resize(len as usize, 0);
        file.pending.push(Write::Length(len));
        Ok(())
    }

    fn sync(&mut self, path: &str) -> io::Result<()> {
        self.change()?;
        let ino = self.file(path)?;
        let mut inner = self.inner.borrow_mut();
        let file = inner.files.get_mut(&ino).unwrap();
        file.durable = file.now.clone();
        file.pending.clear();
        Ok(())
    }

    fn sync_dir(&mut self, path: &str) -> io::Result<()> {
        self.change()?;
        let full = self.full(path);
        let mut inner = self.inner.borrow_mut();
        let ino = Self::walk(&inner, &full).ok_or(io::ErrorKind::NotFound)?;
        let dir = inner.dirs.get_mut(&ino).ok_or(io::ErrorKind::NotADirectory)?;
        dir.durable = dir.now.clone();
        dir.pending.clear();
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.change()?;
        self.file(from)?;
        let ((dir, from), (_, to)) = (self.split(from), self.split(to));
        let mut inner = self.inner.borrow_mut();
        let ino = Self::walk(&inner, &dir).ok_or(io::ErrorKind::NotFound)?;
        let dir = inner.dirs.get_mut(&ino).unwrap();
        let moved = dir.now.remove(&from).ok_or(io::ErrorKind::NotFound)?;
        dir.now.insert(to.clone(), moved);
        dir.pending.push(Name::Rename(from, to));
        Ok(())
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        self.change()?;
        self.unlink(path)
    }

    fn remove_tree(&mut self, path: &str) -> io::Result<()> {
        self.change()?;
        self.unlink(path)
    }
}
