//! The packed model file `E5S1`, little endian throughout.
//!
//! ```text
//! "E5S1" u32 version
//! i32 hidden, layers, heads, ffn, vocabulary, positions, types; f32 eps; i32 block
//! i32 pieces, bos, eos, pad, unk; u64 blob_len
//! u32 offsets[pieces + 1]; f32 scores[pieces]; u8 blob[blob_len]
//! i32 rules; u32 rules_len; rules x { u32 from; u8 n; u32 to[n] }
//! i32 tensors; tensors x { u16 len; name; u8 kind; u32 values; u64 offset; u64 bytes }
//! ```
//! Kind 0 is `f32`; kind 1 is blocks of 32 values in 18 bytes: an `f16` scale, then 16 bytes whose
//! low halves are values 0 to 15 and high halves values 16 to 31, each minus 8 times the scale.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

use memmap2::Mmap;

use super::EncoderError;

/// Values in a quantised block.
pub(super) const BLOCK: usize = 32;
/// Bytes of a quantised block.
pub(super) const BLOCK_BYTES: usize = 18;

/// What is wrong with a model file.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ModelFileError {
    /// It does not start with the letters of the format.
    #[error("it does not start with `E5S1`, so it is some other kind of file")]
    Magic,
    /// It is of a version that this reader does not know.
    #[error("its format version is {0}, and only 1 is known")]
    Version(u32),
    /// It ends too early.
    #[error("it ends inside {0}; fetch it again")]
    Truncated(&'static str),
    /// A number in it makes no sense.
    #[error("its {0} is out of range")]
    Value(&'static str),
    /// A tensor is not in it or has the wrong size.
    #[error("its tensor `{0}` is missing or has the wrong size")]
    Tensor(String),
}

/// The sizes in the header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) hidden: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) ffn: usize,
    pub(super) vocabulary: usize,
    pub(super) positions: usize,
    pub(super) eps: f32,
}

/// Where the tokenizer's tables lie.
#[derive(Clone, Debug)]
pub(super) struct PieceTables {
    pub(super) bos: u32,
    pub(super) eos: u32,
    pub(super) unk: u32,
    /// Byte offset of each piece in `blob`, and one past the last.
    pub(super) offsets: Vec<u32>,
    pub(super) scores: Vec<f32>,
    pub(super) blob: Range<usize>,
    /// One character to several, sorted by character.
    pub(super) rules: BTreeMap<u32, Vec<char>>,
}

#[derive(Clone, Debug)]
struct Tensor {
    kind: u8,
    values: usize,
    bytes: Range<usize>,
}

/// A mapped model file whose every range has been checked against its length.
pub(super) struct ModelFile {
    map: Mmap,
    pub(super) sizes: Sizes,
    pub(super) pieces: PieceTables,
    tensors: BTreeMap<String, Tensor>,
}

impl ModelFile {
    pub(super) fn open(path: &Path) -> Result<Self, EncoderError> {
        let open = |source| EncoderError::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(open)?;
        #[expect(
            unsafe_code,
            reason = "the model step writes the file under another name and renames it, so it \
                      never changes while it is mapped"
        )]
        let map = unsafe { Mmap::map(&file) }.map_err(open)?;
        Self::parse(map).map_err(|source| EncoderError::Damaged { path: path.to_owned(), source })
    }

    fn parse(map: Mmap) -> Result<Self, ModelFileError> {
        let mut at = Cursor { bytes: &map, at: 0 };
        if at.take(4, "the header").ok() != Some(b"E5S1".as_slice()) {
            return Err(ModelFileError::Magic);
        }
        match at.u32("the header")? {
            1 => {}
            other => return Err(ModelFileError::Version(other)),
        }
        let sizes = Self::sizes(&mut at)?;
        let pieces = Self::pieces(&mut at, &sizes)?;
        let tensors = Self::tensors(&mut at)?;
        Ok(Self { sizes, pieces, tensors, map })
    }

    fn sizes(at: &mut Cursor<'_>) -> Result<Sizes, ModelFileError> {
        let sizes = Sizes {
            hidden: at.size(4_096, "hidden size")?,
            layers: at.size(64, "number of layers")?,
            heads: at.size(64, "number of heads")?,
            ffn: at.size(16_384, "inner size")?,
            vocabulary: at.size(1_000_000, "vocabulary")?,
            positions: at.size(8_192, "number of positions")?,
            eps: {
                at.size(16, "number of types")?;
                at.f32("the header")?
            },
        };
        let block = at.size(BLOCK, "block size")?;
        let divisible = sizes.hidden.is_multiple_of(BLOCK)
            && sizes.ffn.is_multiple_of(BLOCK)
            && sizes.hidden.is_multiple_of(sizes.heads);
        if block != BLOCK || !divisible {
            return Err(ModelFileError::Value("block size"));
        }
        Ok(sizes)
    }

    fn pieces(at: &mut Cursor<'_>, sizes: &Sizes) -> Result<PieceTables, ModelFileError> {
        const PLACE: &str = "the piece tables";
        let count = at.size(sizes.vocabulary, "number of pieces")?;
        let mut special = [0; 4];
        for id in &mut special {
            *id = at.u32(PLACE)?;
            if *id as usize >= count {
                return Err(ModelFileError::Value("special token"));
            }
        }
        let [bos, eos, _pad, unk] = special;
        let blob_len = usize::try_from(at.u64(PLACE)?).unwrap_or(usize::MAX);
        let offsets: Vec<u32> =
            at.take((count + 1) * 4, PLACE)?.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
        let scores = floats(at.take(count * 4, PLACE)?);
        let start = at.at;
        at.take(blob_len, PLACE)?;
        let rising = offsets.windows(2).all(|pair| pair[0] <= pair[1]);
        if !rising || offsets.last().is_none_or(|&end| end as usize > blob_len) {
            return Err(ModelFileError::Value("piece offset"));
        }
        let rule_count = at.u32(PLACE)?;
        let rules_len = at.u32(PLACE)? as usize;
        let mut inner = Cursor { bytes: at.take(rules_len, PLACE)?, at: 0 };
        let mut rules = BTreeMap::new();
        for _ in 0..rule_count {
            let from = inner.u32(PLACE)?;
            let to_count = inner.take(1, PLACE)?[0];
            let mut to = Vec::with_capacity(usize::from(to_count));
            for _ in 0..to_count {
                let value = inner.u32(PLACE)?;
                to.push(char::from_u32(value).ok_or(ModelFileError::Value("rule"))?);
            }
            rules.insert(from, to);
        }
        Ok(PieceTables { bos, eos, unk, offsets, scores, blob: start..start + blob_len, rules })
    }

    fn tensors(at: &mut Cursor<'_>) -> Result<BTreeMap<String, Tensor>, ModelFileError> {
        const PLACE: &str = "the tensor directory";
        let count = at.size(4_096, "number of tensors")?;
        let mut tensors = BTreeMap::new();
        for _ in 0..count {
            let len = at.take(2, PLACE)?;
            let len = usize::from(u16::from_le_bytes([len[0], len[1]]));
            let name = String::from_utf8_lossy(at.take(len, PLACE)?).into_owned();
            let kind = at.take(1, PLACE)?[0];
            let values = at.u32(PLACE)? as usize;
            let start = usize::try_from(at.u64(PLACE)?).unwrap_or(usize::MAX);
            let len = usize::try_from(at.u64(PLACE)?).unwrap_or(usize::MAX);
            let end = start.saturating_add(len);
            if end > at.bytes.len() {
                return Err(ModelFileError::Truncated("the tensors"));
            }
            tensors.insert(name, Tensor { kind, values, bytes: start..end });
        }
        Ok(tensors)
    }

    /// The bytes of all pieces, one after another.
    pub(super) fn piece_blob(&self) -> &[u8] {
        &self.map[self.pieces.blob.clone()]
    }

    /// The raw blocks of a 4-bit tensor of `values` values.
    pub(super) fn blocks(&self, name: &str, values: usize) -> Result<Range<usize>, ModelFileError> {
        match self.tensors.get(name) {
            Some(t) if t.kind == 1 && t.values == values && t.bytes.len() == values / BLOCK * BLOCK_BYTES => {
                Ok(t.bytes.clone())
            }
            _ => Err(ModelFileError::Tensor(name.to_owned())),
        }
    }

    /// A plain tensor of `values` values.
    pub(super) fn values(&self, name: &str, values: usize) -> Result<Vec<f32>, ModelFileError> {
        match self.tensors.get(name) {
            Some(t) if t.kind == 0 && t.bytes.len() == values * 4 => Ok(floats(&self.map[t.bytes.clone()])),
            _ => Err(ModelFileError::Tensor(name.to_owned())),
        }
    }

    /// A 4-bit tensor of `values` values: the steps from -8 to 7, and the scale of each block.
    pub(super) fn steps(&self, name: &str, values: usize) -> Result<(Vec<i8>, Vec<f32>), ModelFileError> {
        let (blocks, _) = self.map[self.blocks(name, values)?].as_chunks::<BLOCK_BYTES>();
        let mut steps = Vec::with_capacity(values);
        let mut scales = Vec::with_capacity(blocks.len());
        for block in blocks {
            scales.push(half(u16::from_le_bytes([block[0], block[1]])));
            steps.extend(block[2..].iter().map(|byte| (byte & 0x0f) as i8 - 8));
            steps.extend(block[2..].iter().map(|byte| (byte >> 4) as i8 - 8));
        }
        Ok((steps, scales))
    }

    /// Unpacks row `row` of the 4-bit matrix at `blocks` into `out`, whose length is the row's.
    pub(super) fn unpack_row(&self, blocks: &Range<usize>, row: usize, out: &mut [f32]) {
        let len = out.len() / BLOCK * BLOCK_BYTES;
        let start = blocks.start + row * len;
        unpack(&self.map[start..start + len], out);
    }
}

fn unpack(bytes: &[u8], out: &mut [f32]) {
    let (blocks, _) = bytes.as_chunks::<BLOCK_BYTES>();
    let (targets, _) = out.as_chunks_mut::<BLOCK>();
    for (block, target) in blocks.iter().zip(targets) {
        let scale = half(u16::from_le_bytes([block[0], block[1]]));
        for (i, byte) in block[2..].iter().enumerate() {
            target[i] = (f32::from(byte & 0x0f) - 8.0) * scale;
            target[i + 16] = (f32::from(byte >> 4) - 8.0) * scale;
        }
    }
}

/// Widens an IEEE 754 half.
fn half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from((bits >> 10) & 0x1f);
    let fraction = f32::from(bits & 0x3ff) / 1_024.0;
    let magnitude = match exponent {
        0 => fraction * 2.0_f32.powi(-14),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        e => (1.0 + fraction) * 2.0_f32.powi(e - 15),
    };
    sign * magnitude
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let (values, _) = bytes.as_chunks();
    values.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize, place: &'static str) -> Result<&'a [u8], ModelFileError> {
        let end = self.at.saturating_add(len);
        let part = self.bytes.get(self.at..end).ok_or(ModelFileError::Truncated(place))?;
        self.at = end;
        Ok(part)
    }

    fn array<const N: usize>(&mut self, place: &'static str) -> Result<[u8; N], ModelFileError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N, place)?);
        Ok(out)
    }

    fn u32(&mut self, place: &'static str) -> Result<u32, ModelFileError> {
        self.array(place).map(u32::from_le_bytes)
    }

    fn u64(&mut self, place: &'static str) -> Result<u64, ModelFileError> {
        self.array(place).map(u64::from_le_bytes)
    }

    fn f32(&mut self, place: &'static str) -> Result<f32, ModelFileError> {
        self.array(place).map(f32::from_le_bytes)
    }

    /// A size from 1 to `max`.
    fn size(&mut self, max: usize, what: &'static str) -> Result<usize, ModelFileError> {
        let value = self.u32("the header")? as usize;
        if (1..=max).contains(&value) { Ok(value) } else { Err(ModelFileError::Value(what)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_widen_to_what_the_standard_says() {
        assert_eq!(half(0x3c00), 1.0);
        assert_eq!(half(0xc000), -2.0);
        assert_eq!(half(0x0001), 2.0_f32.powi(-24));
        assert_eq!(half(0x7bff), 65_504.0);
        assert!(half(0x7e00).is_nan());
    }

    #[test]
    fn a_block_unpacks_low_halves_first() {
        let mut block = [0x88; BLOCK_BYTES];
        block[..2].copy_from_slice(&0x3c00_u16.to_le_bytes());
        block[2] = 0xf0;
        let mut out = [0.0; BLOCK];
        unpack(&block, &mut out);
        assert_eq!((out[0], out[16], out[1]), (-8.0, 7.0, 0.0));
    }

    #[test]
    fn a_wrong_or_cut_file_is_named_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.bin");
        let fails_with = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            match ModelFile::open(&path) {
                Err(EncoderError::Damaged { source, .. }) => source,
                Err(other) => panic!("{other}"),
                Ok(_) => panic!("it was taken for a model"),
            }
        };
        assert_eq!(fails_with(b"RIFF....WAVE"), ModelFileError::Magic);
        assert_eq!(fails_with(b"E5S1\x02\0\0\0"), ModelFileError::Version(2));
        assert_eq!(fails_with(b"E5S1\x01\0\0\0\x80\x01\0\0"), ModelFileError::Truncated("the header"));
        assert_eq!(fails_with(b"E5S1\x01\0\0\0\xff\xff\xff\xff"), ModelFileError::Value("hidden size"));
    }
}
