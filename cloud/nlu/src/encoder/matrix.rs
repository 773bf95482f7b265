//! The arithmetic: a linear layer whose weights are laid out for the processor, and the small
//! functions between layers, all run with the widest vector instructions the machine has.

use pulp::{Arch, WithSimd};

use super::file::BLOCK;

/// Outputs computed side by side: two registers of eight.
const LANES: usize = 16;
/// Input rows computed side by side: with `LANES`, twelve of the sixteen registers of AVX2.
const ROWS: usize = 6;

/// Runs `work` compiled for the widest instruction set of this machine.
///
/// `work` and what it calls must be `#[inline(always)]`, else they stay compiled for the least.
pub(crate) fn with_simd<R>(work: impl FnOnce() -> R) -> R {
    struct Work<F>(F);
    impl<R, F: FnOnce() -> R> WithSimd for Work<F> {
        type Output = R;

        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, simd: S) -> R {
            simd.vectorize(Inner(self.0))
        }
    }
    struct Inner<F>(F);
    impl<R, F: FnOnce() -> R> pulp::NullaryFnOnce for Inner<F> {
        type Output = R;

        #[inline(always)]
        fn call(self) -> R {
            (self.0)()
        }
    }
    Arch::new().dispatch(Work(work))
}

/// `y = x W^T + b`, with the 4-bit weights widened to bytes and their scales beside them.
///
/// A pass over a short turn is bound by reading the weights: a byte each, they are a quarter of
/// what `f32` would be, and exact.
pub(super) struct Linear {
    inputs: usize,
    outputs: usize,
    /// Panels of `LANES` outputs; in a panel, for each input, the `LANES` weights.
    weights: Vec<i8>,
    /// Panels likewise; in a panel, for each block of inputs, the `LANES` scales.
    scales: Vec<f32>,
    bias: Vec<f32>,
}

impl Linear {
    /// Takes rows of `inputs` weights, one row an output, with a scale per block of a row.
    pub(super) fn new(weights: &[i8], scales: &[f32], bias: Vec<f32>, inputs: usize) -> Self {
        let outputs = bias.len();
        let blocks = inputs / BLOCK;
        let panels = outputs.div_ceil(LANES);
        let mut linear = Self {
            inputs,
            outputs,
            weights: vec![0; panels * LANES * inputs],
            scales: vec![0.0; panels * LANES * blocks],
            bias,
        };
        for output in 0..outputs {
            let (panel, lane) = (output / LANES, output % LANES);
            let row = &weights[output * inputs..][..inputs];
            for (input, weight) in row.iter().enumerate() {
                linear.weights[(panel * inputs + input) * LANES + lane] = *weight;
            }
            let row = &scales[output * blocks..][..blocks];
            for (block, scale) in row.iter().enumerate() {
                linear.scales[(panel * blocks + block) * LANES + lane] = *scale;
            }
        }
        linear
    }

    /// Writes `rows` rows of outputs to `y`; `scratch` is overwritten.
    #[inline(always)]
    pub(super) fn apply(&self, x: &[f32], rows: usize, y: &mut [f32], scratch: &mut Vec<f32>) {
        // The rows of a group lie side by side per input, as the inner loop reads them.
        scratch.clear();
        scratch.resize(rows * self.inputs, 0.0);
        for first in (0..rows).step_by(ROWS) {
            let together = ROWS.min(rows - first);
            let packed = &mut scratch[first * self.inputs..][..together * self.inputs];
            for r in 0..together {
                let row = &x[(first + r) * self.inputs..][..self.inputs];
                for (value, slot) in row.iter().zip(packed[r..].iter_mut().step_by(together)) {
                    *slot = *value;
                }
            }
        }
        let blocks = self.inputs / BLOCK;
        for panel in 0..self.outputs.div_ceil(LANES) {
            let weights = &self.weights[panel * LANES * self.inputs..][..LANES * self.inputs];
            let scales = &self.scales[panel * LANES * blocks..][..LANES * blocks];
            for first in (0..rows).step_by(ROWS) {
                let together = ROWS.min(rows - first);
                let packed = &scratch[first * self.inputs..][..together * self.inputs];
                let mut write = |sums: &[[f32; LANES]]| {
                    self.write(sums, first, panel * LANES, y);
                };
                match together {
                    1 => write(&tile::<1>(weights, scales, packed)),
                    2 => write(&tile::<2>(weights, scales, packed)),
                    3 => write(&tile::<3>(weights, scales, packed)),
                    4 => write(&tile::<4>(weights, scales, packed)),
                    5 => write(&tile::<5>(weights, scales, packed)),
                    _ => write(&tile::<ROWS>(weights, scales, packed)),
                }
            }
        }
    }

    #[inline(always)]
    fn write(&self, sums: &[[f32; LANES]], first_row: usize, first_output: usize, y: &mut [f32]) {
        let used = LANES.min(self.outputs - first_output);
        for (r, sum) in sums.iter().enumerate() {
            let out = &mut y[(first_row + r) * self.outputs + first_output..][..used];
            for ((out, sum), bias) in out.iter_mut().zip(sum).zip(&self.bias[first_output..]) {
                *out = sum + bias;
            }
        }
    }
}

/// `R` rows times one panel.
#[inline(always)]
fn tile<const R: usize>(weights: &[i8], scales: &[f32], packed: &[f32]) -> [[f32; LANES]; R] {
    let mut sums = [[0.0_f32; LANES]; R];
    let (weights, _) = weights.as_chunks::<LANES>();
    let (scales, _) = scales.as_chunks::<LANES>();
    let (packed, _) = packed.as_chunks::<R>();
    let blocks = weights.chunks_exact(BLOCK).zip(packed.chunks_exact(BLOCK));
    for ((weights, packed), scale) in blocks.zip(scales) {
        let mut partial = [[0.0_f32; LANES]; R];
        for (w, x) in weights.iter().zip(packed) {
            let mut wide = [0.0_f32; LANES];
            for lane in 0..LANES {
                wide[lane] = f32::from(w[lane]);
            }
            for r in 0..R {
                for lane in 0..LANES {
                    partial[r][lane] = x[r].mul_add(wide[lane], partial[r][lane]);
                }
            }
        }
        for r in 0..R {
            for lane in 0..LANES {
                sums[r][lane] = partial[r][lane].mul_add(scale[lane], sums[r][lane]);
            }
        }
    }
    sums
}

/// `x = layer_norm(x + y)` for every row, with gain and bias.
#[inline(always)]
pub(super) fn add_norm(x: &mut [f32], y: Option<&[f32]>, gain: &[f32], bias: &[f32], eps: f32) {
    let width = gain.len();
    if let Some(y) = y {
        for (x, y) in x.iter_mut().zip(y) {
            *x += y;
        }
    }
    for row in x.chunks_exact_mut(width) {
        let mean = sum(row) / width as f32;
        for value in row.iter_mut() {
            *value -= mean;
        }
        let scale = 1.0 / (dot(row, row) / width as f32 + eps).sqrt();
        for ((value, gain), bias) in row.iter_mut().zip(gain).zip(bias) {
            *value = *value * scale * gain + bias;
        }
    }
}

/// The sum of products, in eight running sums.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 8];
    let (a8, a_rest) = a.as_chunks::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    for (a, b) in a8.iter().zip(b8) {
        for lane in 0..8 {
            sums[lane] = a[lane].mul_add(b[lane], sums[lane]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[inline(always)]
fn sum(a: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 8];
    let (a8, rest) = a.as_chunks::<8>();
    for a in a8 {
        for lane in 0..8 {
            sums[lane] += a[lane];
        }
    }
    sums.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

/// `e^x` to about 2 parts in 10^7, without branches, so that a loop over it is vectorised.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// 1.5 * 2^23: adding it rounds to the nearest integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    // ln 2 in two parts, so that the remainder keeps its low bits.
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let p = 1.0 / 5_040.0;
    let p = r.mul_add(p, 1.0 / 720.0);
    let p = r.mul_add(p, 1.0 / 120.0);
    let p = r.mul_add(p, 1.0 / 24.0);
    let p = r.mul_add(p, 1.0 / 6.0);
    let p = r.mul_add(p, 0.5);
    let p = r.mul_add(p, 1.0);
    let p = r.mul_add(p, 1.0);
    let exponent = (shifted.to_bits() << 23).wrapping_add(127 << 23);
    p * f32::from_bits(exponent)
}

/// The exact (error function) form of GELU, by Abramowitz and Stegun 7.1.26 (error 1.5e-7).
#[inline(always)]
pub(super) fn gelu(values: &mut [f32]) {
    for value in values {
        let x = *value;
        let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
        let t = 1.0 / z.mul_add(0.327_591_1, 1.0);
        let p = t.mul_add(1.061_405_4, -1.453_152);
        let p = t.mul_add(p, 1.421_413_7);
        let p = t.mul_add(p, -0.284_496_74);
        let p = t.mul_add(p, 0.254_829_6);
        let tail = p * t * exp(-z * z);
        let erf = (1.0 - tail).copysign(x);
        *value = 0.5 * x * (1.0 + erf);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_layer_equals_the_plain_sums_for_every_number_of_rows() {
        let (inputs, outputs) = (64, 21);
        let weights: Vec<i8> = (0..inputs * outputs).map(|i| ((i * 7_919) % 16) as i8 - 8).collect();
        let scales: Vec<f32> = (0..2 * outputs).map(|i| 0.01 * i as f32).collect();
        let bias: Vec<f32> = (0..outputs).map(|i| i as f32).collect();
        let linear = Linear::new(&weights, &scales, bias.clone(), inputs);
        for rows in 1..16 {
            let x: Vec<f32> = (0..rows * inputs).map(|i| ((i * 31) % 53) as f32 / 53.0).collect();
            let mut y = vec![0.0; rows * outputs];
            with_simd(|| linear.apply(&x, rows, &mut y, &mut Vec::new()));
            for r in 0..rows {
                for o in 0..outputs {
                    let plain: f32 = (0..inputs)
                        .map(|i| {
                            let weight = f32::from(weights[o * inputs + i]);
                            x[r * inputs + i] * weight * scales[o * 2 + i / BLOCK]
                        })
                        .sum::<f32>()
                        + bias[o];
                    assert!((y[r * outputs + o] - plain).abs() < 1e-3);
                }
            }
        }
    }

    #[test]
    fn exp_and_gelu_follow_the_exact_functions() {
        for step in -800..=800 {
            let x = step as f32 / 10.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 3e-6, "exp({x})");
        }
        let mut values = [-6.0, -1.0, 0.0, 0.5, 1.0, 3.0];
        gelu(&mut values);
        let exact = [-5.9e-9, -0.158_655_25, 0.0, 0.345_731_23, 0.841_344_8, 2.995_950_2];
        for (value, exact) in values.iter().zip(exact) {
            assert!((value - exact).abs() < 1e-5, "{value} for {exact}");
        }
    }
}
