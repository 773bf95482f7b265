//! Multinomial logistic regression, dense and sparse, trained the same way every time.
//!
//! Dense (on sentence vectors): Adam over shuffled batches. Sparse (on hashed n-grams): AdaGrad one
//! example at a time, which touches only what the example holds. Both weigh examples, so that a
//! class of two is not drowned by a class of fifty. The shuffle comes from a fixed seed.

use crate::encoder::with_simd;

/// How dense training goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DenseOptions {
    pub(crate) epochs: usize,
    pub(crate) rate: f32,
    /// Strength of the pull towards zero, per example.
    pub(crate) l2: f32,
}

/// A linear classifier over dense vectors.
#[derive(Clone, Debug)]
pub(crate) struct Dense {
    pub(crate) dim: usize,
    pub(crate) weights: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

/// Rows looked at together.
const BATCH: usize = 128;

impl Dense {
    /// Trains on `rows` of `dim` values; `weights` has one entry per row.
    pub(crate) fn train(
        rows: &[f32],
        dim: usize,
        labels: &[usize],
        weights: &[f32],
        classes: usize,
        options: DenseOptions,
    ) -> Self {
        with_simd(
            #[inline(always)]
            || Self::train_inner(rows, dim, labels, weights, classes, options),
        )
    }

    #[inline(always)]
    fn train_inner(
        rows: &[f32],
        dim: usize,
        labels: &[usize],
        weights: &[f32],
        classes: usize,
        options: DenseOptions,
    ) -> Self {
        const BETA1: f32 = 0.9;
        const BETA2: f32 = 0.999;
        let width = dim + 1;
        // The bias is the last column of each class.
        let mut w = vec![0.0_f32; classes * width];
        let mut first = vec![0.0_f32; w.len()];
        let mut second = vec![0.0_f32; w.len()];
        let mut gradient = vec![0.0_f32; w.len()];
        let mut logits = vec![0.0_f32; classes];
        let mut order: Vec<usize> = (0..labels.len()).collect();
        let mut shuffle = Shuffle::default();
        let steps = options.epochs * labels.len().div_ceil(BATCH);
        let mut step = 0;
        for _ in 0..options.epochs {
            shuffle.shuffle(&mut order);
            for batch in order.chunks(BATCH) {
                gradient.fill(0.0);
                for &row in batch {
                    let x = &rows[row * dim..][..dim];
                    for (logit, w) in logits.iter_mut().zip(w.chunks_exact(width)) {
                        *logit = fused_dot(&w[..dim], x) + w[dim];
                    }
                    softmax(&mut logits);
                    logits[labels[row]] -= 1.0;
                    for (error, g) in logits.iter().zip(gradient.chunks_exact_mut(width)) {
                        let error = error * weights[row];
                        if error.abs() > 1e-5 {
                            for (g, x) in g.iter_mut().zip(x) {
                                *g = error.mul_add(*x, *g);
                            }
                            g[dim] += error;
                        }
                    }
                }
                step += 1;
                let progress = step as f32 / steps as f32;
                let rate = options.rate * 0.5 * (1.0 + (progress * std::f32::consts::PI).cos());
                let unbias1 = 1.0 - BETA1.powi(step.min(10_000));
                let unbias2 = 1.0 - BETA2.powi(step.min(10_000));
                let share = 1.0 / batch.len() as f32;
                for (((w, g), m), v) in w.iter_mut().zip(&gradient).zip(&mut first).zip(&mut second) {
                    let g = g.mul_add(share, options.l2 * *w);
                    *m = BETA1 * *m + (1.0 - BETA1) * g;
                    *v = BETA2 * *v + (1.0 - BETA2) * g * g;
                    *w -= rate * (*m / unbias1) / ((*v / unbias2).sqrt() + 1e-8);
                }
            }
        }
        let (weights, bias) = w.chunks_exact(width).map(|w| (&w[..dim], w[dim])).fold(
            (Vec::new(), Vec::new()),
            |(mut all, mut bias), (w, b)| {
                all.extend_from_slice(w);
                bias.push(b);
                (all, bias)
            },
        );
        Self { dim, weights, bias }
    }

    /// Returns one logit per class.
    pub(crate) fn logits(&self, x: &[f32]) -> Vec<f32> {
        with_simd(
            #[inline(always)]
            || {
                self.weights
                    .chunks_exact(self.dim)
                    .zip(&self.bias)
                    .map(|(w, b)| fused_dot(w, x) + b)
                    .collect()
            },
        )
    }
}

/// A row of hashed features: index and value.
pub(crate) type SparseRow = Vec<(usize, f32)>;

/// A linear classifier over sparse vectors, weights by feature.
#[derive(Clone, Debug)]
pub(crate) struct Sparse {
    pub(crate) weights: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

/// How sparse training goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SparseOptions {
    pub(crate) epochs: usize,
    pub(crate) rate: f32,
    pub(crate) l2: f32,
}

impl Sparse {
    pub(crate) fn train(
        rows: &[SparseRow],
        features: usize,
        labels: &[usize],
        weights: &[f32],
        classes: usize,
        options: SparseOptions,
    ) -> Self {
        with_simd(
            #[inline(always)]
            || Self::train_inner(rows, features, labels, weights, classes, options),
        )
    }

    #[inline(always)]
    fn train_inner(
        rows: &[SparseRow],
        features: usize,
        labels: &[usize],
        weights: &[f32],
        classes: usize,
        options: SparseOptions,
    ) -> Self {
        let mut w = vec![0.0_f32; features * classes];
        let mut sum = vec![1e-6_f32; w.len()];
        let mut bias = vec![0.0_f32; classes];
        let mut bias_sum = vec![1e-6_f32; classes];
        let mut order: Vec<usize> = (0..labels.len()).collect();
        let mut errors = vec![0.0_f32; classes];
        let mut shuffle = Shuffle::default();
        for _ in 0..options.epochs {
            shuffle.shuffle(&mut order);
            for &row in &order {
                errors.copy_from_slice(&bias);
                for (feature, value) in &rows[row] {
                    let w = &w[feature * classes..][..classes];
                    for (e, w) in errors.iter_mut().zip(w) {
                        *e = value.mul_add(*w, *e);
                    }
                }
                softmax(&mut errors);
                errors[labels[row]] -= 1.0;
                for e in &mut errors {
                    *e *= weights[row];
                }
                for (feature, value) in &rows[row] {
                    let w = &mut w[feature * classes..][..classes];
                    let s = &mut sum[feature * classes..][..classes];
                    for ((w, s), e) in w.iter_mut().zip(s).zip(&errors) {
                        let g = value.mul_add(*e, options.l2 * *w);
                        *s = g.mul_add(g, *s);
                        *w -= options.rate * g / s.sqrt();
                    }
                }
                for ((b, s), e) in bias.iter_mut().zip(&mut bias_sum).zip(&errors) {
                    *s = e.mul_add(*e, *s);
                    *b -= 0.1 * options.rate * e / s.sqrt();
                }
            }
        }
        Self { weights: w, bias }
    }
}

/// Turns logits into probabilities in place.
#[inline(always)]
pub(crate) fn softmax(logits: &mut [f32]) {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0;
    for logit in logits.iter_mut() {
        *logit = (*logit - highest).exp();
        total += *logit;
    }
    for logit in logits {
        *logit /= total;
    }
}

/// The weight of each example so that every class counts alike: a script's intent with three
/// examples stands beside a universal one with fifty.
pub(crate) fn balanced(labels: &[usize], classes: usize) -> Vec<f32> {
    let mut counts = vec![0_usize; classes];
    for &label in labels {
        counts[label] += 1;
    }
    let mean = labels.len() as f32 / classes.max(1) as f32;
    labels.iter().map(|&label| (mean / counts[label] as f32).clamp(0.2, 6.0)).collect()
}

/// The sum of products for code that already runs inside [`with_simd`].
#[inline(always)]
pub(crate) fn fused_dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 16];
    let (a16, a_rest) = a.as_chunks::<16>();
    let (b16, b_rest) = b.as_chunks::<16>();
    for (a, b) in a16.iter().zip(b16) {
        for lane in 0..16 {
            sums[lane] = a[lane].mul_add(b[lane], sums[lane]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// A fixed pseudo-random order (xorshift64*), so that training twice gives the same bits.
struct Shuffle(u64);

impl Default for Shuffle {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Shuffle {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n as u64) as usize
    }

    fn shuffle(&mut self, order: &mut [usize]) {
        for i in (1..order.len()).rev() {
            order.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clouds_of_points_are_told_apart_and_twice_the_same() {
        let rows: Vec<f32> = (0..40)
            .flat_map(|i| {
                let side = if i % 2 == 0 { 1.0 } else { -1.0 };
                [side + (i as f32 / 100.0), (i as f32 * 0.37).sin()]
            })
            .collect();
        let labels: Vec<usize> = (0..40).map(|i| i % 2).collect();
        let options = DenseOptions { epochs: 60, rate: 0.1, l2: 1e-3 };
        let train = || Dense::train(&rows, 2, &labels, &[1.0; 40], 2, options);
        let (a, b) = (train(), train());
        assert_eq!(a.weights, b.weights);
        for (row, label) in rows.chunks(2).zip(&labels) {
            let logits = a.logits(row);
            assert!(logits[*label] > logits[1 - *label]);
        }
    }

    #[test]
    fn a_rare_class_weighs_more_per_example() {
        let weights = balanced(&[0, 0, 0, 0, 0, 0, 0, 0, 1, 1], 2);
        assert!(weights[9] > weights[0]);
    }
}
