//! Reads the `model.bin` of CTranslate2, version 6.
//!
//! ```text
//! u32 version   str spec   u32 revision
//! u32 n         n x { str name  u8 rank  u32 dims[rank]  u8 dtype  u32 bytes  data }
//! u32 n         n x { str alias  str target }
//! ```
//! Little endian; `str` is a u16 length that counts a closing NUL, the bytes, the NUL.
//!
//! **Invariant:** no bytes can panic it, and it allocates no more than the file is long.

use std::collections::BTreeMap;

use super::ConvertError;

/// The only version of the container that is known here.
const VERSION: u32 = 6;

/// A file taken apart; the tensors point into it.
#[derive(Debug)]
pub struct Ct2<'a> {
    /// What the weights are for, such as `WhisperSpec`.
    pub spec: String,
    tensors: BTreeMap<String, Tensor<'a>>,
}

/// One stored array.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    shape: [u32; 4],
    rank: usize,
    kind: Kind,
    data: &'a [u8],
}

/// How the numbers of a [`Tensor`] are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 32-bit floats.
    F32,
    /// 8-bit integers.
    I8,
    /// 16-bit integers.
    I16,
    /// 32-bit integers.
    I32,
    /// 16-bit floats (IEEE 754 binary16).
    F16,
    /// The upper half of 32-bit floats.
    Bf16,
}

impl<'a> Ct2<'a> {
    /// Takes a whole file apart.
    ///
    /// # Errors
    ///
    /// When it is of another version, ends early, or its sizes contradict each other.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ConvertError> {
        let mut r = Reader { bytes, at: 0 };
        let version = r.u32("version")?;
        if version != VERSION {
            return Err(ConvertError::Ct2Version { version });
        }
        let spec = r.text("spec")?;
        r.u32("revision")?;
        let count = r.u32("number of tensors")?;
        let mut tensors = BTreeMap::new();
        for _ in 0..count {
            let name = r.text("tensor name")?;
            tensors.insert(name, r.tensor()?);
        }
        // Aliases only say that the projection shares the embedding, which ggml takes for granted.
        let count = r.u32("number of aliases")?;
        for _ in 0..count {
            r.text("alias")?;
            r.text("alias target")?;
        }
        Ok(Self { spec, tensors })
    }

    /// Returns the tensor of that name.
    ///
    /// # Errors
    ///
    /// When the file has none.
    pub fn get(&self, name: &str) -> Result<Tensor<'a>, ConvertError> {
        self.tensors.get(name).copied().ok_or_else(|| ConvertError::NoTensor { name: name.to_owned() })
    }

    /// Says how many of `prefix0/…`, `prefix1/…` follow each other without a gap.
    pub fn layers(&self, prefix: &str) -> u32 {
        let mut n = 0;
        loop {
            let start = format!("{prefix}{n}/");
            if !self.tensors.range(start.clone()..).next().is_some_and(|(name, _)| name.starts_with(&start)) {
                return n;
            }
            n += 1;
        }
    }
}

impl<'a> Tensor<'a> {
    /// Returns the dimensions, outermost first.
    pub fn shape(&self) -> &[u32] {
        self.shape.get(..self.rank).unwrap_or_default()
    }

    /// Returns a scalar of an integer kind.
    pub fn scalar(&self) -> Option<i32> {
        if self.rank != 0 {
            return None;
        }
        match self.kind {
            Kind::I8 => self.data.first().map(|&b| i32::from(b.cast_signed())),
            Kind::I16 => self.data.try_into().ok().map(i16::from_le_bytes).map(i32::from),
            Kind::I32 => self.data.try_into().ok().map(i32::from_le_bytes),
            Kind::F32 | Kind::F16 | Kind::Bf16 => None,
        }
    }

    /// Returns rows `from..to` of the outermost dimension.
    ///
    /// # Errors
    ///
    /// When there are fewer rows.
    pub fn rows(&self, from: u32, to: u32) -> Result<Self, ConvertError> {
        let total = *self.shape().first().ok_or(ConvertError::Shape { what: "rows of a scalar" })?;
        if from > to || to > total {
            return Err(ConvertError::Shape { what: "more rows wanted than there are" });
        }
        let row = self.data.len() / (total as usize).max(1);
        let data = self.data.get(from as usize * row..to as usize * row).unwrap_or_default();
        let mut shape = self.shape;
        shape[0] = to - from;
        Ok(Self { shape, data, ..*self })
    }

    /// Returns the numbers as 32-bit floats.
    ///
    /// # Errors
    ///
    /// When they are integers: those weights were quantised with scales of their own.
    pub fn floats(&self) -> Result<Vec<f32>, ConvertError> {
        Ok(match self.kind {
            Kind::F32 => {
                self.data.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
            }
            Kind::F16 => {
                self.data.chunks_exact(2).map(|c| half::f16::from_le_bytes([c[0], c[1]]).to_f32()).collect()
            }
            Kind::Bf16 => {
                self.data.chunks_exact(2).map(|c| half::bf16::from_le_bytes([c[0], c[1]]).to_f32()).collect()
            }
            Kind::I8 | Kind::I16 | Kind::I32 => return Err(ConvertError::Shape { what: "integer weights" }),
        })
    }
}

impl Kind {
    fn from_code(code: u8) -> Result<Self, ConvertError> {
        Ok(match code {
            0 => Self::F32,
            1 => Self::I8,
            2 => Self::I16,
            3 => Self::I32,
            4 => Self::F16,
            5 => Self::Bf16,
            _ => return Err(ConvertError::Ct2Kind { code }),
        })
    }

    fn size(self) -> u64 {
        match self {
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 => 1,
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], ConvertError> {
        let end = self.at.checked_add(n).ok_or(ConvertError::Short { what, at: self.at })?;
        let got = self.bytes.get(self.at..end).ok_or(ConvertError::Short { what, at: self.at })?;
        self.at = end;
        Ok(got)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], ConvertError> {
        let at = self.at;
        self.take(N, what)?.try_into().map_err(|_| ConvertError::Short { what, at })
    }

    fn u8(&mut self, what: &'static str) -> Result<u8, ConvertError> {
        Ok(u8::from_le_bytes(self.array(what)?))
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, ConvertError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn text(&mut self, what: &'static str) -> Result<String, ConvertError> {
        let at = self.at;
        let len = u16::from_le_bytes(self.array(what)?);
        let (nul, text) =
            self.take(usize::from(len), what)?.split_last().ok_or(ConvertError::Text { what, at })?;
        match std::str::from_utf8(text) {
            Ok(text) if *nul == 0 => Ok(text.to_owned()),
            Ok(_) | Err(_) => Err(ConvertError::Text { what, at }),
        }
    }

    fn tensor(&mut self) -> Result<Tensor<'a>, ConvertError> {
        let rank = usize::from(self.u8("rank")?);
        let mut shape = [1; 4];
        let mut expected = 1_u64;
        for i in 0..rank {
            let dim = self.u32("dimension")?;
            *shape.get_mut(i).ok_or(ConvertError::Shape { what: "more than four dimensions" })? = dim;
            expected = expected.saturating_mul(u64::from(dim));
        }
        let kind = Kind::from_code(self.u8("kind of number")?)?;
        let len = self.u32("length of a tensor")?;
        if u64::from(len) != expected.saturating_mul(kind.size()) {
            return Err(ConvertError::Shape { what: "a tensor whose length does not fit its dimensions" });
        }
        let data = self.take(len as usize, "tensor data")?;
        Ok(Tensor { shape, rank, kind, data })
    }
}
