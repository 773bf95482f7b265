//! Takes steady noise out of an utterance before it is recognised.
//!
//! The whole utterance is there, so the noise in each band is read from its quietest moments; each band
//! of each moment is then weakened by Wiener's rule with the decision-directed estimate of the ratio of
//! signal to noise (Ephraim and Malah 1984), never by more than a floor: what is emptied altogether
//! sounds like music, and a recogniser takes that worse than noise.

use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

/// Samples of a frame: 32 ms at 16 kHz.
const FRAME: usize = 512;
/// Frames overlap by three quarters.
const HOP: usize = FRAME / 4;
const BINS: usize = FRAME / 2 + 1;
/// Which of a band's moments, sorted by power, is taken for noise alone.
const QUIET_SHARE: f32 = 0.2;
/// How far below its mean the power of steady noise lies in such moments, as a factor (exponential).
const BIAS: f32 = 4.0;
/// How much of the last frame's result counts for the estimate of this one's.
const MEMORY: f32 = 0.96;

/// The transforms with their tables. Shared between threads.
pub struct Denoiser {
    forward: Arc<dyn RealToComplex<f32>>,
    back: Arc<dyn ComplexToReal<f32>>,
    window: [f32; FRAME],
    floor: f32,
}

impl Denoiser {
    /// Prepares to weaken noise by at most `floor_db` decibels.
    pub fn new(floor_db: f32) -> Self {
        let mut planner = RealFftPlanner::new();
        let turn = |n: usize| std::f64::consts::TAU * n as f64 / FRAME as f64;
        Self {
            forward: planner.plan_fft_forward(FRAME),
            back: planner.plan_fft_inverse(FRAME),
            // The root of Hann, once before and once after: frames add up to a constant.
            window: std::array::from_fn(|n| ((0.5 - 0.5 * turn(n).cos()) as f32).sqrt()),
            floor: 10.0f32.powf(-floor_db.abs() / 20.0),
        }
    }

    /// Returns the sound (16 kHz) with less noise, as long as it was. Sound too short to tell noise from
    /// voice comes back as it is.
    pub fn clean(&self, samples: &[f32]) -> Vec<f32> {
        let frames = samples.len().div_ceil(HOP) + 3;
        if samples.len() < 8 * FRAME {
            return samples.to_vec();
        }
        let mut work = self.forward.make_input_vec();
        let mut spectra = vec![Complex::new(0.0f32, 0.0); frames * BINS];
        let lead = FRAME - HOP;
        for (frame, spectrum) in spectra.chunks_exact_mut(BINS).enumerate() {
            for (n, slot) in work.iter_mut().enumerate() {
                let at = (frame * HOP + n).checked_sub(lead);
                *slot = at.and_then(|at| samples.get(at)).copied().unwrap_or(0.0) * self.window[n];
            }
            // The lengths are the plan's own, so this cannot fail.
            if self.forward.process(&mut work, spectrum).is_err() {
                return samples.to_vec();
            }
        }
        let noise = noise_of(&spectra);
        let mut before = vec![0.0f32; BINS];
        for spectrum in spectra.chunks_exact_mut(BINS) {
            for ((value, noise), before) in spectrum.iter_mut().zip(&noise).zip(&mut before) {
                let posterior = value.norm_sqr() / noise;
                let prior = MEMORY * *before + (1.0 - MEMORY) * (posterior - 1.0).max(0.0);
                let gain = (prior / (1.0 + prior)).max(self.floor);
                *before = gain * gain * posterior;
                *value *= gain;
            }
        }
        let mut out = vec![0.0f32; samples.len()];
        // Four frames overlap, and the squares of their windows add up to 2.
        let scale = 1.0 / (2.0 * FRAME as f32);
        for (frame, spectrum) in spectra.chunks_exact_mut(BINS).enumerate() {
            spectrum[0].im = 0.0;
            spectrum[BINS - 1].im = 0.0;
            if self.back.process(spectrum, &mut work).is_err() {
                return samples.to_vec();
            }
            for (n, value) in work.iter().enumerate() {
                let at = (frame * HOP + n).checked_sub(lead);
                if let Some(slot) = at.and_then(|at| out.get_mut(at)) {
                    *slot += value * self.window[n] * scale;
                }
            }
        }
        out
    }
}

/// The noise's power in each band.
fn noise_of(spectra: &[Complex<f32>]) -> Vec<f32> {
    let frames = spectra.len() / BINS;
    let mut column = Vec::with_capacity(frames);
    let mut noise: Vec<f32> = (0..BINS)
        .map(|bin| {
            column.clear();
            column.extend(spectra.chunks_exact(BINS).map(|spectrum| spectrum[bin].norm_sqr()));
            // Digital silence before and behind is no noise that anybody made.
            column.retain(|power| *power > 1e-9);
            column.sort_by(f32::total_cmp);
            let at = (column.len() as f32 * QUIET_SHARE) as usize;
            column.get(at).map_or(1e-9, |power| power * BIAS)
        })
        .collect();
    // One band's guess is rough; its neighbours' are as good.
    let rough = noise.clone();
    for bin in 1..BINS - 1 {
        noise[bin] = (rough[bin - 1] + 2.0 * rough[bin] + rough[bin + 1]) / 4.0;
    }
    noise
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize, level: f32) -> Vec<f32> {
        let mut state = 1u32;
        (0..length)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((state >> 8) as f32 / 8_388_608.0 - 1.0) * level
            })
            .collect()
    }

    fn power(samples: &[f32]) -> f32 {
        samples.iter().map(|s| s * s).sum::<f32>() / samples.len() as f32
    }

    #[test]
    fn noise_alone_is_weakened_by_nearly_the_floor() {
        let sound = noise(32_000, 0.1);
        let out = Denoiser::new(12.0).clean(&sound);
        let db = 10.0 * (power(&out[4_000..28_000]) / power(&sound[4_000..28_000])).log10();
        assert!((-12.5..=-8.0).contains(&db), "{db} dB");
    }

    #[test]
    fn a_voice_far_above_the_noise_stays_as_it_is() {
        let mut sound = noise(48_000, 0.001);
        for (n, sample) in sound[16_000..32_000].iter_mut().enumerate() {
            *sample += 0.3 * (n as f32 * 0.1).sin();
        }
        let out = Denoiser::new(12.0).clean(&sound);
        let db = 10.0 * (power(&out[17_000..31_000]) / power(&sound[17_000..31_000])).log10();
        assert!(db.abs() < 0.3, "{db} dB");
        assert_eq!(out.len(), sound.len());
    }

    proptest::proptest! {
        #[test]
        fn any_sound_keeps_its_length_and_stays_finite(
            pieces in proptest::collection::vec((-1.0f32..1.0, 1usize..4_000), 0..12),
        ) {
            let sound: Vec<f32> = pieces.iter().flat_map(|(value, times)| vec![*value; *times]).collect();
            let out = Denoiser::new(10.0).clean(&sound);
            proptest::prop_assert_eq!(out.len(), sound.len());
            proptest::prop_assert!(out.iter().all(|s| s.is_finite()));
        }
    }
}
