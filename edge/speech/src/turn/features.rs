//! Log-mel features as whisper's encoder was trained on, over a window of 8 s.
//!
//! The sound is brought to mean 0 and variance 1; then 25 ms Hann windows every 10 ms, centred and
//! mirrored at the ends; power in 80 mel bands (Slaney's scale and area norm); base-10 logarithm,
//! cut off 8 below the loudest, and brought to about -1..1.

use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

/// Samples of the window: 8 s at 16 kHz.
pub(super) const SAMPLES: usize = 8 * RATE;
/// Mel bands.
pub(super) const MELS: usize = 80;
/// Steps of 10 ms.
pub(super) const FRAMES: usize = SAMPLES / HOP;

const RATE: usize = 16_000;
const HOP: usize = 160;
const FFT: usize = 400;
const BINS: usize = FFT / 2 + 1;

/// The transform with its tables. Shared between threads.
pub struct LogMel {
    fft: Arc<dyn RealToComplex<f32>>,
    window: [f32; FFT],
    bands: Vec<Band>,
}

/// The bins of one mel band that are not zero.
struct Band {
    first: usize,
    weights: Vec<f32>,
}

impl Default for LogMel {
    fn default() -> Self {
        Self::new()
    }
}

impl LogMel {
    /// Computes the tables.
    pub fn new() -> Self {
        let turn = |n: usize| std::f64::consts::TAU * n as f64 / FFT as f64;
        let window = std::array::from_fn(|n| (0.5 - 0.5 * turn(n).cos()) as f32);
        Self { fft: RealFftPlanner::new().plan_fft_forward(FFT), window, bands: mel_bands() }
    }

    /// Returns 80 rows (mel bands, lowest first) of 800 columns (steps of 10 ms) for the last 8 s of
    /// `samples` (16 kHz); shorter sound has silence put before it.
    pub fn compute(&self, samples: &[f32]) -> Vec<f32> {
        let sound = &samples[samples.len().saturating_sub(SAMPLES)..];
        let lead = SAMPLES - sound.len();
        let padded = normalised(sound, lead);

        let mut out = vec![0.0f32; MELS * FRAMES];
        let mut work = self.fft.make_input_vec();
        let mut spectrum = self.fft.make_output_vec();
        let mut scratch = self.fft.make_scratch_vec();
        let mut power = [0.0f32; BINS];
        let mut loudest = f32::NEG_INFINITY;
        let mut column = [0.0f32; MELS];
        for frame in 0..FRAMES {
            // Inside the silence put before, every frame is the same: computed once.
            let same = frame > 2 && frame * HOP + FFT / 2 <= lead;
            if !same {
                let from = (frame * HOP) as isize - (FFT / 2) as isize;
                for (n, slot) in work.iter_mut().enumerate() {
                    *slot = padded[mirrored(from + n as isize)] * self.window[n];
                }
                // Lengths are those that the plan made, so this cannot fail.
                if self.fft.process_with_scratch(&mut work, &mut spectrum, &mut scratch).is_err() {
                    spectrum.fill(realfft::num_complex::Complex::new(0.0, 0.0));
                }
                for (p, c) in power.iter_mut().zip(&spectrum) {
                    *p = c.norm_sqr();
                }
                for (value, band) in column.iter_mut().zip(&self.bands) {
                    let bins = &power[band.first..band.first + band.weights.len()];
                    let energy: f32 = bins.iter().zip(&band.weights).map(|(p, w)| p * w).sum();
                    *value = energy.max(1e-10).log10();
                    loudest = loudest.max(*value);
                }
            }
            for (mel, value) in column.iter().enumerate() {
                out[mel * FRAMES + frame] = *value;
            }
        }
        for value in &mut out {
            *value = (value.max(loudest - 8.0) + 4.0) / 4.0;
        }
        out
    }
}

/// Puts `lead` zeros before the sound and brings the whole to mean 0 and variance 1.
fn normalised(sound: &[f32], lead: usize) -> Vec<f32> {
    let n = (lead + sound.len()) as f64;
    let mean = sound.iter().map(|s| f64::from(*s)).sum::<f64>() / n;
    let square = sound.iter().map(|s| f64::from(*s) * f64::from(*s)).sum::<f64>() / n;
    let scale = 1.0 / (square - mean * mean + 1e-7).max(1e-7).sqrt();
    let shift = |s: f64| ((s - mean) * scale) as f32;
    let mut out = vec![shift(0.0); lead];
    out.extend(sound.iter().map(|s| shift(f64::from(*s))));
    out
}

/// Index into the window with its ends mirrored (the end sample itself is not repeated).
fn mirrored(index: isize) -> usize {
    let last = SAMPLES as isize - 1;
    let index = index.abs();
    (if index > last { 2 * last - index } else { index }) as usize
}

/// Slaney's scale: linear to 1 kHz, then 27 steps for each factor of 6.4.
fn mel(hertz: f64) -> f64 {
    if hertz < 1_000.0 { hertz * 3.0 / 200.0 } else { 15.0 + (hertz / 1_000.0).ln() * 27.0 / 6.4f64.ln() }
}

fn hertz(mel: f64) -> f64 {
    if mel < 15.0 { mel * 200.0 / 3.0 } else { 1_000.0 * ((mel - 15.0) * 6.4f64.ln() / 27.0).exp() }
}

fn mel_bands() -> Vec<Band> {
    let top = mel(RATE as f64 / 2.0);
    let edge = |n: usize| hertz(top * n as f64 / (MELS + 1) as f64);
    let bin_hertz = RATE as f64 / FFT as f64;
    (0..MELS)
        .map(|band| {
            let (low, middle, high) = (edge(band), edge(band + 1), edge(band + 2));
            let weight = |bin: usize| {
                let f = bin as f64 * bin_hertz;
                let rise = (f - low) / (middle - low);
                let fall = (high - f) / (high - middle);
                rise.min(fall).max(0.0) * 2.0 / (high - low)
            };
            let inside: Vec<usize> = (0..BINS).filter(|bin| weight(*bin) > 0.0).collect();
            let first = inside.first().copied().unwrap_or(0);
            Band { first, weights: inside.iter().map(|bin| weight(*bin) as f32).collect() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(hertz: f64, seconds: f64) -> Vec<f32> {
        (0..(seconds * RATE as f64) as usize)
            .map(|n| (std::f64::consts::TAU * hertz * n as f64 / RATE as f64).sin() as f32 * 0.3)
            .collect()
    }

    fn column(features: &[f32], frame: usize) -> Vec<f32> {
        (0..MELS).map(|mel| features[mel * FRAMES + frame]).collect()
    }

    #[test]
    fn silence_is_flat_at_the_floor() {
        // All values are at 1e-10: (-10 + 4) / 4.
        for features in [LogMel::new().compute(&[]), LogMel::new().compute(&[0.0; SAMPLES])] {
            assert_eq!(features.len(), MELS * FRAMES);
            assert!(features.iter().all(|v| (v + 1.5).abs() < 1e-5), "{}", features[0]);
        }
    }

    #[test]
    fn a_tone_has_its_peak_in_its_band_and_the_height_the_formula_gives() {
        let features = LogMel::new().compute(&sine(1_000.0, 8.0));
        let column = column(&features, 400);
        let (band, value) = column.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        let bands = mel_bands();
        let at_tone = |band: &Band| {
            // The tone lies in bin 25 exactly; a Hann window spreads it to the bins beside.
            (24usize..=26)
                .map(|bin| {
                    let weight =
                        bin.checked_sub(band.first).and_then(|n| band.weights.get(n)).copied().unwrap_or(0.0);
                    let amplitude: f32 = if bin == 25 { 0.5 } else { 0.25 };
                    weight * (amplitude * 2.0f32.sqrt() * FFT as f32 / 2.0).powi(2)
                })
                .sum::<f32>()
        };
        let (expected_band, power) =
            bands.iter().map(at_tone).enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        assert_eq!(band, expected_band);
        // A sine of variance 1 has amplitude sqrt(2).
        assert!((value - (power.log10() + 4.0) / 4.0).abs() < 1e-3, "{value} against {power}");
        assert!(column.iter().all(|v| *v >= value - 2.0 - 1e-4));
    }

    #[test]
    fn loudness_does_not_matter() {
        let (loud, quiet) = (sine(440.0, 2.0), sine(440.0, 2.0).iter().map(|s| s * 0.05).collect::<Vec<_>>());
        let (a, b) = (LogMel::new().compute(&loud), LogMel::new().compute(&quiet));
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 0.01));
    }

    #[test]
    fn short_sound_stands_at_the_end() {
        let features = LogMel::new().compute(&sine(700.0, 1.0));
        let energy =
            |frame: usize| column(&features, frame).iter().copied().fold(f32::NEG_INFINITY, f32::max);
        assert!(energy(100) < energy(750) - 0.5);
        assert!((energy(100) - energy(600)).abs() < 1e-4, "the silence before is uniform");
    }

    #[test]
    fn what_is_skipped_as_uniform_would_have_come_out_the_same() {
        // The same sound once with the silence given, once with it put before.
        let tone = sine(700.0, 1.0);
        let mut whole = vec![0.0; SAMPLES - tone.len()];
        whole.extend(&tone);
        let (a, b) = (LogMel::new().compute(&tone), LogMel::new().compute(&whole));
        let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-3, "{worst}");
    }

    #[test]
    fn the_bands_tile_the_range_with_equal_area() {
        let bands = mel_bands();
        assert!(bands.iter().all(|band| !band.weights.is_empty()));
        assert!((mel(hertz(40.0)) - 40.0).abs() < 1e-9);
        assert!((mel(1_000.0) - 15.0).abs() < 1e-9);
        // Area norm: a wide band's weights sum to about 1 per bin width of 40 Hz.
        let sum: f32 = bands[MELS - 1].weights.iter().sum();
        assert!((sum * 40.0 - 1.0).abs() < 0.05, "{sum}");
    }
}
