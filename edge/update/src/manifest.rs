//! What a version consists of: its files, cut into chunks by their content.
//!
//! The manifest is the target that releases name and hash. The chunks lie in one *pack* beside it, each
//! distinct one once, in the order of first use; a box fetches the ranges of the pack that it does not have.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use trunkline_trust::{Release, Sha256, sha256};

use crate::chunk;

/// The longest manifest that is read, in bytes.
pub const MAX_MANIFEST: u64 = 16 * 1024 * 1024;
/// The longest range that is fetched at once, in bytes.
pub const MAX_RANGE: u64 = 4 * 1024 * 1024;
/// The longest chunk, in bytes.
pub const MAX_CHUNK: u32 = chunk::MAX as u32;

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON of the expected shape.
    #[error("the manifest cannot be read")]
    Json(#[from] serde_json::Error),
    /// Well-formed, and against a rule.
    #[error("the manifest is wrong: {0}")]
    Rule(String),
}

/// The content of one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this format: 1.
    pub format: u32,
    /// What the version says about itself, as in the releases.
    pub release: Release,
    /// The length of the pack in bytes.
    pub pack_length: u64,
    /// The files, sorted by path.
    pub files: Vec<File>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its path with `/`, without `.` and `..`.
    pub path: String,
    /// Permission bits; 0o755 or 0o644.
    pub mode: u32,
    /// Its length in bytes.
    pub length: u64,
    /// The hash of the whole file.
    pub sha256: Sha256,
    /// Its chunks in order.
    pub chunks: Vec<Chunk>,
}

/// A piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The hash of its bytes.
    pub sha256: Sha256,
    /// Its length in bytes.
    pub length: u32,
    /// Where it lies in the pack.
    pub offset: u64,
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// [`ManifestError`]; nothing that it would lead to outside of its slot or beyond its lengths passes.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = serde_json::from_slice(bytes)?;
        let rule = |text: String| Err(ManifestError::Rule(text));
        if manifest.format != 1 {
            return rule(format!("format {} is not known", manifest.format));
        }
        let mut paths: BTreeSet<&str> = BTreeSet::new();
        for file in &manifest.files {
            if !is_inside(&file.path) {
                return rule(format!("the path `{:.100}` leads outside", file.path));
            }
            if !paths.insert(&file.path) {
                return rule(format!("`{}` stands twice", file.path));
            }
            let mut length = 0u64;
            for chunk in &file.chunks {
                if chunk.length == 0 || chunk.length > MAX_CHUNK {
                    return rule(format!("a chunk of {} bytes", chunk.length));
                }
                let end = chunk.offset.checked_add(u64::from(chunk.length));
                if end.is_none_or(|end| end > manifest.pack_length) {
                    return rule(format!("a chunk of `{}` lies beyond the pack", file.path));
                }
                length += u64::from(chunk.length);
            }
            if length != file.length {
                return rule(format!("the chunks of `{}` have {length} bytes", file.path));
            }
        }
        // A file cannot be a folder at the same time.
        for path in &paths {
            let above = path.match_indices('/').map(|(at, _)| &path[..at]);
            if let Some(above) = above.into_iter().find(|above| paths.contains(above)) {
                return rule(format!("`{above}` is a file and a folder"));
            }
        }
        Ok(manifest)
    }

    /// Returns the manifest as the file that releases hash.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Returns how many bytes all files have together.
    pub fn installed_length(&self) -> u64 {
        self.files.iter().map(|file| file.length).sum()
    }
}

/// Says whether a path stays inside the folder that it is joined to.
fn is_inside(path: &str) -> bool {
    path.len() <= 1_000
        && !path.contains(['\\', '\0'])
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

/// Puts a manifest and its pack together; files must come sorted by path.
#[derive(Debug, Default)]
pub struct Packer {
    files: Vec<File>,
    pack: Vec<u8>,
    known: BTreeMap<Sha256, u64>,
}

impl Packer {
    /// Adds a file.
    pub fn add(&mut self, path: &str, executable: bool, bytes: &[u8]) {
        let mut chunks = Vec::new();
        for piece in chunk::split(bytes) {
            let hash = sha256(piece);
            let offset = *self.known.entry(hash).or_insert_with(|| {
                let offset = self.pack.len() as u64;
                self.pack.extend_from_slice(piece);
                offset
            });
            chunks.push(Chunk { sha256: hash, length: u32::try_from(piece.len()).unwrap_or(0), offset });
        }
        let mode = if executable { 0o755 } else { 0o644 };
        let (length, sha256) = (bytes.len() as u64, sha256(bytes));
        self.files.push(File { path: path.into(), mode, length, sha256, chunks });
    }

    /// Returns the manifest and the pack.
    ///
    /// # Errors
    /// [`ManifestError`] when a box would refuse the manifest.
    pub fn finish(self, release: Release) -> Result<(Manifest, Vec<u8>), ManifestError> {
        let pack_length = self.pack.len() as u64;
        let manifest = Manifest { format: 1, release, pack_length, files: self.files };
        let bytes = manifest.to_bytes();
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(ManifestError::Rule(format!("{} bytes are too many", bytes.len())));
        }
        Ok((Manifest::parse(&bytes)?, self.pack))
    }
}

/// A range of the pack, and the chunks in it by offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Where it begins in the pack.
    pub offset: u64,
    /// Its length; at most [`MAX_RANGE`].
    pub length: u64,
    /// The distinct chunks in it, by offset.
    pub chunks: Vec<Chunk>,
}

/// Puts missing chunks together into ranges: neighbours travel in one request.
pub fn ranges(missing: impl IntoIterator<Item = Chunk>) -> Vec<Range> {
    let sorted: BTreeMap<u64, Chunk> = missing.into_iter().map(|chunk| (chunk.offset, chunk)).collect();
    let mut ranges: Vec<Range> = Vec::new();
    for chunk in sorted.into_values() {
        let length = u64::from(chunk.length);
        match ranges.last_mut() {
            Some(last) if last.offset + last.length == chunk.offset && last.length + length <= MAX_RANGE => {
                last.length += length;
                last.chunks.push(chunk);
            }
            _ => ranges.push(Range { offset: chunk.offset, length, chunks: vec![chunk] }),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn release() -> Release {
        Release { component: "app".into(), version: "1".into(), release: 1, floor: 0, platforms: vec![] }
    }

    fn noise(seed: u64, len: usize) -> Vec<u8> {
        use rand::{RngCore, SeedableRng};
        let mut bytes = vec![0; len];
        rand_chacha::ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
        bytes
    }

    #[test]
    fn what_changed_in_the_middle_costs_a_few_chunks_only() {
        let old = noise(1, 4_000_000);
        let mut new = old.clone();
        new.splice(2_000_000..2_000_010, *b"a little longer than before");
        let mut packer = Packer::default();
        packer.add("a", true, &old);
        let (first, _) = packer.finish(release()).unwrap();
        let mut packer = Packer::default();
        packer.add("a", true, &new);
        let (second, _) = packer.finish(release()).unwrap();
        let have: BTreeSet<Sha256> = first.files[0].chunks.iter().map(|chunk| chunk.sha256).collect();
        let missing: Vec<Chunk> =
            second.files[0].chunks.iter().filter(|chunk| !have.contains(&chunk.sha256)).copied().collect();
        let bytes: u64 = missing.iter().map(|chunk| u64::from(chunk.length)).sum();
        assert!(missing.len() <= 2 && bytes < 600_000, "{} chunks, {bytes} bytes", missing.len());
        assert_eq!(ranges(missing).len(), 1);
    }

    #[test]
    fn the_same_bytes_travel_once() {
        let mut packer = Packer::default();
        let bytes = noise(2, 300_000);
        packer.add("a", false, &bytes);
        packer.add("b", false, &bytes);
        packer.add("empty", false, b"");
        let (manifest, pack) = packer.finish(release()).unwrap();
        assert_eq!(pack, bytes);
        assert_eq!(manifest.installed_length(), 600_000);
        assert!(manifest.files[2].chunks.is_empty());
    }

    #[test]
    fn a_manifest_that_leads_outside_is_refused() {
        let good = {
            let mut packer = Packer::default();
            packer.add("bin/x", true, b"hello");
            packer.finish(release()).unwrap().0
        };
        assert_eq!(Manifest::parse(&good.to_bytes()).unwrap(), good);
        for path in ["../x", "/x", "a//b", "a/./b", "", "a\\b", "a\0"] {
            let mut bad = good.clone();
            bad.files[0].path = path.into();
            assert!(Manifest::parse(&bad.to_bytes()).is_err(), "{path:?}");
        }
        let change: [fn(&mut Manifest); 7] = [
            |bad| bad.format = 2,
            |bad| bad.pack_length = 1,
            |bad| bad.files[0].length = 6,
            |bad| bad.files[0].chunks[0].offset = u64::MAX,
            |bad| bad.files[0].chunks[0].length = 0,
            |bad| bad.files.push(bad.files[0].clone()),
            |bad| bad.files.push(File { path: "bin".into(), ..bad.files[0].clone() }),
        ];
        for (at, change) in change.iter().enumerate() {
            let mut bad = good.clone();
            change(&mut bad);
            assert!(Manifest::parse(&bad.to_bytes()).is_err(), "{at}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_reader(bytes: Vec<u8>) {
            let _ = Manifest::parse(&bytes);
        }

        #[test]
        fn ranges_hold_each_missing_chunk_once_and_nothing_else(
            lengths in prop::collection::vec((1u32..200_000, any::<bool>()), 0..60)
        ) {
            let mut at = 0;
            let mut missing = Vec::new();
            for (length, gone) in lengths {
                if gone {
                    let hash = sha256(&at.to_string().into_bytes());
                    missing.push(Chunk { sha256: hash, length, offset: at });
                }
                at += u64::from(length);
            }
            let ranges = ranges(missing.clone());
            let inside: Vec<Chunk> = ranges.iter().flat_map(|range| range.chunks.clone()).collect();
            prop_assert_eq!(inside, missing);
            for range in &ranges {
                prop_assert!(range.length <= MAX_RANGE);
                let sum: u64 = range.chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
                prop_assert_eq!(sum, range.length);
            }
        }
    }
}
