//! Log-mel features as Kaldi computes them, on which the models of this folder were trained.
//!
//! 25 ms every 10 ms: mean taken out, pre-emphasis 0.97, a window, a transform over 512 points, power
//! in 80 mel bands (1127 ln(1 + f / 700), triangles in mel, without area norm), natural logarithm.
//! No dither: the same sound gives the same text. What differs between families is in
//! [`FbankOptions`]; stacking and normalisation follow in [`stack`] and [`normalise`].

use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

/// Mel bands.
pub(super) const BANDS: usize = 80;

const RATE: f64 = 16_000.0;
const WINDOW: usize = 400;
const HOP: usize = 160;
const FFT: usize = 512;
/// Lowest frequency of the lowest band.
const LOW_HERTZ: f64 = 20.0;
const PRE_EMPHASIS: f32 = 0.97;

/// The shape that a frame is multiplied with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Hann to the power of 0.85.
    Povey,
    /// Hamming, symmetric.
    Hamming,
}

/// In what the families differ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct FbankOptions {
    pub(super) shape: Shape,
    /// Only frames that lie within the sound whole; otherwise it is mirrored at its ends.
    pub(super) snip_edges: bool,
    /// Highest frequency of the highest band.
    pub(super) high_hertz: f64,
    /// What a sample of 1 is multiplied with.
    pub(super) scale: f32,
}

impl FbankOptions {
    /// As the recipes of icefall compute them (by way of lhotse), and WeNet's except for the scale.
    pub(super) const ICEFALL: Self =
        Self { shape: Shape::Povey, snip_edges: false, high_hertz: RATE / 2.0 - 400.0, scale: 1.0 };
    /// As FunASR's front end does: SenseVoice and Paraformer.
    pub(super) const FUNASR: Self =
        Self { shape: Shape::Hamming, snip_edges: true, high_hertz: RATE / 2.0, scale: 32_768.0 };
}

/// Rows of numbers, one for each step in time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Features {
    pub(super) data: Vec<f32>,
    /// Numbers in a row.
    pub(super) width: usize,
}

impl Features {
    pub(super) fn rows(&self) -> usize {
        self.data.len() / self.width.max(1)
    }
}

/// The transform with its tables. Shared between threads.
pub(super) struct Fbank {
    fft: Arc<dyn RealToComplex<f32>>,
    window: [f32; WINDOW],
    bands: Vec<Band>,
    options: FbankOptions,
}

/// The bins of one band that are not zero.
struct Band {
    first: usize,
    weights: Vec<f32>,
}

impl Fbank {
    pub(super) fn new(options: FbankOptions) -> Self {
        let window = std::array::from_fn(|n| {
            let turn = (std::f64::consts::TAU * n as f64 / (WINDOW - 1) as f64).cos();
            (match options.shape {
                Shape::Povey => (0.5 - 0.5 * turn).powf(0.85),
                Shape::Hamming => 0.54 - 0.46 * turn,
            }) as f32
        });
        let fft = RealFftPlanner::new().plan_fft_forward(FFT);
        Self { fft, window, bands: mel_bands(options.high_hertz), options }
    }

    /// Returns one row of 80 numbers for every 10 ms of 16 kHz sound.
    pub(super) fn compute(&self, samples: &[f32]) -> Features {
        let frames = self.frames(samples.len());
        let mut data = Vec::with_capacity(frames * BANDS);
        let mut work = self.fft.make_input_vec();
        let mut spectrum = self.fft.make_output_vec();
        let mut scratch = self.fft.make_scratch_vec();
        let mut power = vec![0.0f32; spectrum.len()];
        for frame in 0..frames {
            self.cut(samples, frame, &mut work);
            // Lengths are those that the plan made, so this cannot fail.
            if self.fft.process_with_scratch(&mut work, &mut spectrum, &mut scratch).is_err() {
                spectrum.fill(realfft::num_complex::Complex::new(0.0, 0.0));
            }
            for (power, bin) in power.iter_mut().zip(&spectrum) {
                *power = bin.norm_sqr();
            }
            data.extend(self.bands.iter().map(|band| {
                let bins = power.iter().skip(band.first).zip(&band.weights);
                bins.map(|(power, weight)| power * weight).sum::<f32>().max(f32::EPSILON).ln()
            }));
        }
        Features { data, width: BANDS }
    }

    fn frames(&self, samples: usize) -> usize {
        if !self.options.snip_edges {
            (samples + HOP / 2) / HOP
        } else if samples < WINDOW {
            0
        } else {
            1 + (samples - WINDOW) / HOP
        }
    }

    /// Puts one windowed frame into `work`, zeros behind it.
    fn cut(&self, samples: &[f32], frame: usize, work: &mut [f32]) {
        let before = if self.options.snip_edges { 0 } else { WINDOW / 2 - HOP / 2 };
        let first = (frame * HOP) as isize - before as isize;
        let (inside, rest) = work.split_at_mut(WINDOW);
        rest.fill(0.0);
        for (n, slot) in inside.iter_mut().enumerate() {
            let at = mirrored(first + n as isize, samples.len());
            *slot = samples.get(at).copied().unwrap_or(0.0) * self.options.scale;
        }
        let mean = inside.iter().sum::<f32>() / WINDOW as f32;
        for sample in inside.iter_mut() {
            *sample -= mean;
        }
        for n in (1..WINDOW).rev() {
            inside[n] -= PRE_EMPHASIS * inside[n - 1];
        }
        inside[0] -= PRE_EMPHASIS * inside[0];
        for (sample, weight) in inside.iter_mut().zip(&self.window) {
            *sample *= weight;
        }
    }
}

/// Index with the sound mirrored at its ends, the end sample itself repeated.
fn mirrored(index: isize, len: usize) -> usize {
    let len = len as isize;
    if len == 0 {
        return 0;
    }
    // One period is the sound forwards and backwards.
    let index = index.rem_euclid(2 * len);
    (if index < len { index } else { 2 * len - 1 - index }) as usize
}

fn mel(hertz: f64) -> f64 {
    1_127.0 * (1.0 + hertz / 700.0).ln()
}

fn mel_bands(high_hertz: f64) -> Vec<Band> {
    let (low, high) = (mel(LOW_HERTZ), mel(high_hertz));
    let step = (high - low) / (BANDS + 1) as f64;
    (0..BANDS)
        .map(|band| {
            let left = low + band as f64 * step;
            let (middle, right) = (left + step, left + 2.0 * step);
            let weight = |bin: usize| {
                let at = mel(bin as f64 * RATE / FFT as f64);
                ((at - left) / step).min((right - at) / (right - middle)).max(0.0)
            };
            // Kaldi leaves the bin of half the rate out.
            let inside: Vec<usize> = (0..FFT / 2).filter(|bin| weight(*bin) > 0.0).collect();
            let first = inside.first().copied().unwrap_or(0);
            Band { first, weights: inside.iter().map(|bin| weight(*bin) as f32).collect() }
        })
        .collect()
}

/// Puts `window` rows side by side, every `shift` rows: a low frame rate. The first row is repeated
/// before the beginning so that the first window is centred on it, and the last behind the end, as
/// FunASR does when it trains.
pub(super) fn stack(features: &Features, window: usize, shift: usize) -> Features {
    let rows = features.rows();
    let (window, shift) = (window.max(1), shift.max(1));
    let lead = (window - 1) / 2;
    let mut data = Vec::with_capacity(rows.div_ceil(shift) * window * features.width);
    for start in (0..rows).step_by(shift) {
        for n in 0..window {
            let row = (start + n).saturating_sub(lead).min(rows - 1);
            data.extend_from_slice(&features.data[row * features.width..(row + 1) * features.width]);
        }
    }
    Features { data, width: features.width * window }
}

/// Adds `neg_mean` to each row and multiplies it with `inv_stddev`; both have a row's width.
pub(super) fn normalise(features: &mut Features, neg_mean: &[f32], inv_stddev: &[f32]) {
    for row in features.data.chunks_mut(features.width.max(1)) {
        for ((value, shift), scale) in row.iter_mut().zip(neg_mean).zip(inv_stddev) {
            *value = (*value + shift) * scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rising tone over noise from a small generator, which any language can repeat.
    fn sound(samples: usize) -> Vec<f32> {
        let mut seed: u32 = 1;
        (0..samples)
            .map(|n| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let noise = f64::from(seed >> 16) / 65_536.0 - 0.5;
                let t = n as f64 / RATE;
                let tone = (std::f64::consts::TAU * (200.0 * t + 1_500.0 * t * t)).sin();
                (0.3 * tone + 0.02 * noise) as f32
            })
            .collect()
    }

    /// The same by its definition: doubles, a transform term by term, no tables.
    fn by_definition(samples: &[f32], options: FbankOptions, frame: usize) -> Vec<f64> {
        let first = if options.snip_edges { frame as i64 * 160 } else { frame as i64 * 160 + 80 - 200 };
        let len = samples.len() as i64;
        let mut cut: Vec<f64> = (first..first + 400)
            .map(|mut at| {
                while at < 0 || at >= len {
                    at = if at < 0 { -at - 1 } else { 2 * len - 1 - at };
                }
                f64::from(samples[at as usize]) * f64::from(options.scale)
            })
            .collect();
        let mean = cut.iter().sum::<f64>() / 400.0;
        cut.iter_mut().for_each(|sample| *sample -= mean);
        let emphasised: Vec<f64> = (0..400).map(|n| cut[n] - 0.97 * cut[n.saturating_sub(1)]).collect();
        let windowed: Vec<f64> = emphasised
            .iter()
            .enumerate()
            .map(|(n, sample)| {
                let turn = (std::f64::consts::TAU * n as f64 / 399.0).cos();
                sample
                    * match options.shape {
                        Shape::Povey => (0.5 - 0.5 * turn).powf(0.85),
                        Shape::Hamming => 0.54 - 0.46 * turn,
                    }
            })
            .collect();
        let power: Vec<f64> = (0..256)
            .map(|bin| {
                let (mut re, mut im) = (0.0, 0.0);
                for (n, sample) in windowed.iter().enumerate() {
                    let angle = std::f64::consts::TAU * bin as f64 * n as f64 / 512.0;
                    re += sample * angle.cos();
                    im -= sample * angle.sin();
                }
                re * re + im * im
            })
            .collect();
        let mel = |hertz: f64| 1_127.0 * (1.0 + hertz / 700.0).ln();
        let (low, high) = (mel(20.0), mel(options.high_hertz));
        (0..80)
            .map(|band| {
                let edge = |n: usize| low + (high - low) * n as f64 / 81.0;
                let (left, middle, right) = (edge(band), edge(band + 1), edge(band + 2));
                let energy: f64 = power
                    .iter()
                    .enumerate()
                    .map(|(bin, power)| {
                        let at = mel(bin as f64 * 31.25);
                        let weight = if at <= left || at >= right {
                            0.0
                        } else if at <= middle {
                            (at - left) / (middle - left)
                        } else {
                            (right - at) / (right - middle)
                        };
                        power * weight
                    })
                    .sum();
                energy.max(f64::from(f32::EPSILON)).ln()
            })
            .collect()
    }

    #[test]
    fn features_are_what_their_definition_says() {
        let sound = sound(8_000);
        let wenet = FbankOptions { scale: 32_768.0, ..FbankOptions::ICEFALL };
        for options in [FbankOptions::ICEFALL, FbankOptions::FUNASR, wenet] {
            let features = Fbank::new(options).compute(&sound);
            assert_eq!(features.rows(), if options.snip_edges { 48 } else { 50 });
            for frame in [0, 1, 17, features.rows() - 1] {
                let expected = by_definition(&sound, options, frame);
                let got = &features.data[frame * BANDS..(frame + 1) * BANDS];
                for (band, (got, expected)) in got.iter().zip(&expected).enumerate() {
                    let off = (f64::from(*got) - expected).abs();
                    assert!(off < 2e-3, "{options:?} frame {frame} band {band}: {got} against {expected}");
                }
            }
        }
    }

    #[test]
    fn features_are_those_of_kaldi_native_fbank() {
        // Rows `family frame v0 … v79`, written once by kaldi-native-fbank for the sound above.
        let golden = include_str!("golden_fbank.tsv");
        let sound = sound(8_000);
        let mut seen = 0;
        for line in golden.lines().filter(|line| !line.starts_with('#')) {
            let mut columns = line.split('\t');
            let options = match columns.next().unwrap() {
                "icefall" => FbankOptions::ICEFALL,
                "funasr" => FbankOptions::FUNASR,
                other => panic!("{other}"),
            };
            let features = Fbank::new(options).compute(&sound);
            let frame: usize = columns.next().unwrap().parse().unwrap();
            let expected: Vec<f32> = columns.map(|v| v.parse().unwrap()).collect();
            assert_eq!(expected.len(), BANDS);
            let got = &features.data[frame * BANDS..(frame + 1) * BANDS];
            for (band, (got, expected)) in got.iter().zip(&expected).enumerate() {
                assert!((got - expected).abs() < 5e-3, "{line:.20} band {band}: {got} against {expected}");
            }
            seen += 1;
        }
        assert_eq!(seen, 6);
    }

    #[test]
    fn sound_of_any_length_gives_its_number_of_rows() {
        for (samples, icefall, funasr) in
            [(0, 0, 0), (1, 0, 0), (79, 0, 0), (80, 1, 0), (399, 2, 0), (400, 3, 1), (16_000, 100, 98)]
        {
            let rows = |options| Fbank::new(options).compute(&vec![0.1; samples]).rows();
            assert_eq!(
                (rows(FbankOptions::ICEFALL), rows(FbankOptions::FUNASR)),
                (icefall, funasr),
                "{samples}"
            );
        }
    }

    #[test]
    fn silence_lies_at_the_floor() {
        let features = Fbank::new(FbankOptions::ICEFALL).compute(&[0.0; 1_600]);
        assert!(features.data.iter().all(|value| (value - f32::EPSILON.ln()).abs() < 1e-6));
    }

    #[test]
    fn stacked_rows_are_centred_and_none_is_lost() {
        let rows = |n: usize| Features { data: (0..n).map(|v| v as f32).collect(), width: 1 };
        let stacked = stack(&rows(14), 7, 6);
        assert_eq!(stacked.width, 7);
        assert_eq!(stacked.rows(), 3);
        assert_eq!(stacked.data[..7], [0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0]);
        assert_eq!(stacked.data[7..14], [3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
        assert_eq!(stacked.data[14..], [9.0, 10.0, 11.0, 12.0, 13.0, 13.0, 13.0]);
        assert_eq!(stack(&rows(0), 7, 6).rows(), 0);
        assert_eq!(stack(&rows(5), 1, 1), rows(5));
    }

    #[test]
    fn normalised_rows_are_shifted_and_scaled() {
        let mut features = Features { data: vec![1.0, 2.0, 3.0, 4.0], width: 2 };
        normalise(&mut features, &[-1.0, -2.0], &[2.0, 0.5]);
        assert_eq!(features.data, [0.0, 0.0, 4.0, 1.0]);
    }
}
