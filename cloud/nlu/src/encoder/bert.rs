//! The forward pass of BERT (Devlin et al. 2018; layer norm after each block), for a batch of
//! token lists laid end to end, so that each weight is read once for the whole batch.

use std::ops::Range;
use std::sync::Arc;

use super::file::{ModelFile, ModelFileError};
use super::matrix::{Linear, add_norm, dot, exp, gelu, with_simd};

pub(super) struct Bert {
    file: Arc<ModelFile>,
    words: Range<usize>,
    /// Position and token-type embeddings, added up.
    positions: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
}

struct Norm {
    gain: Vec<f32>,
    bias: Vec<f32>,
}

struct Layer {
    /// Query, key and value in one, since they read the same input.
    qkv: Linear,
    out: Linear,
    out_norm: Norm,
    widen: Linear,
    narrow: Linear,
    end_norm: Norm,
}

impl Bert {
    pub(super) fn new(file: Arc<ModelFile>) -> Result<Self, ModelFileError> {
        let sizes = file.sizes;
        let (hidden, ffn) = (sizes.hidden, sizes.ffn);
        let words = file.blocks("emb.word", sizes.vocabulary * hidden)?;
        let mut positions = file.values("emb.pos", sizes.positions * hidden)?;
        // There are two types and only the first is used.
        let types = file.values("emb.type", 2 * hidden)?;
        for row in positions.chunks_exact_mut(hidden) {
            for (value, kind) in row.iter_mut().zip(&types) {
                *value += kind;
            }
        }
        let norm = |name: &str| -> Result<Norm, ModelFileError> {
            Ok(Norm {
                gain: file.values(&format!("{name}.w"), hidden)?,
                bias: file.values(&format!("{name}.b"), hidden)?,
            })
        };
        let linear = |names: &[String], inputs: usize, outputs: usize| {
            let (mut weights, mut scales, mut bias) = (Vec::new(), Vec::new(), Vec::new());
            for name in names {
                let (steps, block_scales) = file.steps(&format!("{name}.w"), inputs * outputs)?;
                weights.extend(steps);
                scales.extend(block_scales);
                bias.extend(file.values(&format!("{name}.b"), outputs)?);
            }
            Ok::<_, ModelFileError>(Linear::new(&weights, &scales, bias, inputs))
        };
        let mut layers = Vec::with_capacity(sizes.layers);
        for n in 0..sizes.layers {
            let name = |part: &str| format!("l{n}.{part}");
            layers.push(Layer {
                qkv: linear(&[name("q"), name("k"), name("v")], hidden, hidden)?,
                out: linear(&[name("ao")], hidden, hidden)?,
                out_norm: norm(&name("aln"))?,
                widen: linear(&[name("fi")], hidden, ffn)?,
                narrow: linear(&[name("fo")], ffn, hidden)?,
                end_norm: norm(&name("oln"))?,
            });
        }
        Ok(Self { norm: norm("emb.ln")?, words, positions, layers, file })
    }

    pub(super) fn dimensions(&self) -> usize {
        self.file.sizes.hidden
    }

    /// Returns one vector of length 1 per token list. Every list has at least one token.
    pub(super) fn forward(&self, batch: &[Vec<u32>]) -> Vec<f32> {
        with_simd(
            #[inline(always)]
            || self.forward_inner(batch),
        )
    }

    #[inline(always)]
    fn forward_inner(&self, batch: &[Vec<u32>]) -> Vec<f32> {
        let sizes = self.file.sizes;
        let hidden = sizes.hidden;
        let rows: usize = batch.iter().map(Vec::len).sum();
        let mut x = vec![0.0; rows * hidden];
        let tokens = batch.iter().flat_map(|list| list.iter().enumerate());
        for (row, (position, id)) in x.chunks_exact_mut(hidden).zip(tokens) {
            self.file.unpack_row(&self.words, *id as usize, row);
            let position = position.min(sizes.positions - 1);
            for (value, add) in row.iter_mut().zip(&self.positions[position * hidden..]) {
                *value += add;
            }
        }
        add_norm(&mut x, None, &self.norm.gain, &self.norm.bias, sizes.eps);

        let mut qkv = vec![0.0; rows * 3 * hidden];
        let mut mixed = vec![0.0; rows * hidden];
        let mut wide = vec![0.0; rows * sizes.ffn];
        let mut narrow = vec![0.0; rows * hidden];
        let mut scratch = Vec::new();
        let mut weights = Vec::new();
        for layer in &self.layers {
            layer.qkv.apply(&x, rows, &mut qkv, &mut scratch);
            let mut first = 0;
            for list in batch {
                let span = first..first + list.len();
                attend(&qkv, span, hidden, sizes.heads, &mut mixed, &mut weights);
                first += list.len();
            }
            layer.out.apply(&mixed, rows, &mut narrow, &mut scratch);
            let norm = &layer.out_norm;
            add_norm(&mut x, Some(&narrow), &norm.gain, &norm.bias, sizes.eps);
            layer.widen.apply(&x, rows, &mut wide, &mut scratch);
            gelu(&mut wide);
            layer.narrow.apply(&wide, rows, &mut narrow, &mut scratch);
            let norm = &layer.end_norm;
            add_norm(&mut x, Some(&narrow), &norm.gain, &norm.bias, sizes.eps);
        }

        let mut out = vec![0.0; batch.len() * hidden];
        let mut first = 0;
        for (list, mean) in batch.iter().zip(out.chunks_exact_mut(hidden)) {
            for row in x[first * hidden..(first + list.len()) * hidden].chunks_exact(hidden) {
                for (mean, value) in mean.iter_mut().zip(row) {
                    *mean += value;
                }
            }
            first += list.len();
            let length = dot(mean, mean).sqrt().max(1e-12);
            for value in mean {
                *value /= length;
            }
        }
        out
    }
}

/// Scaled dot-product attention of one text's rows among themselves.
#[inline(always)]
fn attend(
    qkv: &[f32],
    span: Range<usize>,
    hidden: usize,
    heads: usize,
    mixed: &mut [f32],
    weights: &mut Vec<f32>,
) {
    let width = hidden / heads;
    let scale = 1.0 / (width as f32).sqrt();
    let part = |row: usize, which: usize, head: usize| {
        &qkv[row * 3 * hidden + which * hidden + head * width..][..width]
    };
    for head in 0..heads {
        for row in span.clone() {
            let query = part(row, 0, head);
            weights.clear();
            weights.extend(span.clone().map(|other| dot(query, part(other, 1, head)) * scale));
            let highest = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut total = 0.0;
            for weight in weights.iter_mut() {
                *weight = exp(*weight - highest);
                total += *weight;
            }
            let out = &mut mixed[row * hidden + head * width..][..width];
            out.fill(0.0);
            for (other, weight) in span.clone().zip(weights.iter()) {
                let share = weight / total;
                for (out, value) in out.iter_mut().zip(part(other, 2, head)) {
                    *out += share * value;
                }
            }
        }
    }
}
