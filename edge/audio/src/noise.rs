//! Making comfort noise: as loud and as coloured as the far end describes its silence (RFC 3389).

/// Lattice stages at most.
const MAX_ORDER: usize = 10;

/// Makes noise that goes on without a seam from frame to frame.
#[derive(Clone, Debug)]
pub struct NoiseGenerator {
    state: u64,
    lattice: [f32; MAX_ORDER],
}

impl NoiseGenerator {
    /// Begins; the same `seed` makes the same noise.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed | 1, lattice: [0.0; MAX_ORDER] }
    }

    /// Fills a frame with noise `level` dB below overload (0 to 127), coloured by `reflections` (each within −1 and 1).
    pub fn fill(&mut self, level: u8, reflections: &[f32], frame: &mut [i16]) {
        let reflections = &reflections[..reflections.len().min(MAX_ORDER)];
        // The filter makes louder what it lets through; white noise goes in as much quieter.
        let gain: f32 = reflections.iter().map(|k| (1.0 - k * k).max(0.0).sqrt()).product();
        let rms = 32_768.0 * 10f32.powf(-f32::from(level.min(127)) / 20.0);
        // Uniform noise between −1 and 1 has an RMS of 1/√3.
        let amplitude = rms * 3f32.sqrt() * gain;
        for sample in frame {
            let mut forward = self.uniform() * amplitude;
            for stage in (0..reflections.len()).rev() {
                let k = reflections[stage];
                let behind = self.lattice[stage];
                forward -= k * behind;
                if stage + 1 < MAX_ORDER {
                    self.lattice[stage + 1] = behind + k * forward;
                }
            }
            self.lattice[0] = forward;
            *sample = crate::clip(forward);
        }
    }

    /// Returns the next value between −1 and 1 (xorshift64*, S. Vigna, "An experimental exploration of Marsaglia's
    /// xorshift generators, scrambled").
    fn uniform(&mut self) -> f32 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let bits = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40;
        bits as f32 / 8_388_608.0 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rms(samples: &[i16]) -> f32 {
        (samples.iter().map(|s| f32::from(*s).powi(2)).sum::<f32>() / samples.len() as f32).sqrt()
    }

    #[test]
    fn the_level_is_as_described_whatever_the_colour() {
        for reflections in [&[][..], &[-0.9], &[0.5, -0.3, 0.2], &[-0.95, 0.9]] {
            for level in [30u8, 50, 60] {
                let mut samples = vec![0; 80_000];
                NoiseGenerator::new(7).fill(level, reflections, &mut samples);
                let wanted = 32_768.0 * 10f32.powf(-f32::from(level) / 20.0);
                let off = 20.0 * (rms(&samples) / wanted).log10();
                assert!(off.abs() < 1.0, "{reflections:?} at {level}: off by {off} dB");
            }
        }
    }

    #[test]
    fn a_low_colour_is_low() {
        let mut samples = vec![0; 16_000];
        NoiseGenerator::new(3).fill(30, &[-0.9], &mut samples);
        let rise: f32 = samples.windows(2).map(|w| (f32::from(w[1]) - f32::from(w[0])).powi(2)).sum();
        let all: f32 = samples.iter().map(|s| f32::from(*s).powi(2)).sum();
        // The correlation of neighbours is the first reflection coefficient with its sign turned.
        assert!((rise / all - 0.2).abs() < 0.05, "{}", rise / all);
    }

    proptest! {
        #[test]
        fn no_description_makes_it_run_away(level: u8, ks in proptest::collection::vec(-0.992f32..0.992, 0..10)) {
            let mut samples = vec![0; 800];
            NoiseGenerator::new(1).fill(level, &ks, &mut samples);
            let mut more = vec![0; 160];
            let mut generator = NoiseGenerator::new(1);
            generator.fill(127, &ks, &mut more);
            prop_assert!(more.iter().all(|s| s.unsigned_abs() < 100));
        }
    }
}
