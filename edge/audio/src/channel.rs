//! What a telephone line does to speech: band limits, the codec and noise. For tests and benchmarks.

use crate::level::{active_dbfs, rms_dbfs};
use crate::{Codec, clip};

/// Passes speech at 8 kHz through a telephone channel: 300 to 3400 Hz, then a round trip of G.711.
#[must_use]
pub fn telephone_channel(samples: &[i16], codec: Codec) -> Vec<i16> {
    let mut filters = [
        // Fourth-order Butterworth on each side; the Q values are those of its two pairs of poles.
        Biquad::high_pass(300.0, 0.541),
        Biquad::high_pass(300.0, 1.307),
        Biquad::low_pass(3_400.0, 0.541),
        Biquad::low_pass(3_400.0, 1.307),
    ];
    let filtered: Vec<i16> = samples
        .iter()
        .map(|&sample| clip(filters.iter_mut().fold(f32::from(sample), |sample, filter| filter.next(sample))))
        .collect();
    let mut octets = vec![0; filtered.len()];
    codec.encode(&filtered, &mut octets);
    let mut out = vec![0; filtered.len()];
    codec.decode(&octets, &mut out);
    out
}

/// Adds `noise`, repeated as needed, so that the speech in `samples` stands `snr_db` above it.
///
/// The level of speech is that of its active parts, so pauses do not make the noise softer. Sound
/// without speech, or noise of nothing, is left as it is.
pub fn mix_at_snr(samples: &mut [i16], noise: &[i16], rate: u32, snr_db: f32) {
    let Some(speech) = active_dbfs(samples, rate) else { return };
    if noise.iter().all(|&sample| sample == 0) {
        return;
    }
    let gain = 10f32.powf((speech - snr_db - rms_dbfs(noise)) / 20.0);
    for (sample, &noise) in samples.iter_mut().zip(noise.iter().cycle()) {
        *sample = clip(f32::from(*sample) + f32::from(noise) * gain);
    }
}

/// Makes noise that is equally strong at all frequencies; the same for the same seed.
#[must_use]
pub fn white_noise(len: usize, dbfs: f32, seed: u64) -> Vec<i16> {
    let mut random = Random::new(seed);
    to_level((0..len).map(|_| random.next()).collect(), dbfs)
}

/// Makes noise that falls by 3 dB an octave, like that of rooms; the same for the same seed.
#[must_use]
pub fn pink_noise(len: usize, dbfs: f32, seed: u64) -> Vec<i16> {
    let mut random = Random::new(seed);
    // Sums of noise held for 1, 2, 4 … samples (Voss and McCartney).
    let mut held = [0.0f32; 12];
    let pink = (0..len)
        .map(|n| {
            let which = n.trailing_zeros() as usize;
            if let Some(slot) = held.get_mut(which) {
                *slot = random.next();
            }
            held.iter().sum::<f32>() + random.next()
        })
        .collect();
    to_level(pink, dbfs)
}

pub(crate) fn to_level(mut noise: Vec<f32>, dbfs: f32) -> Vec<i16> {
    let mean = noise.iter().sum::<f32>() / noise.len().max(1) as f32;
    noise.iter_mut().for_each(|sample| *sample -= mean);
    let power = noise.iter().map(|sample| sample * sample).sum::<f32>() / noise.len().max(1) as f32;
    let gain = 32_768.0 * 10f32.powf(dbfs / 20.0) / power.sqrt().max(1e-9);
    noise.into_iter().map(|sample| clip(sample * gain)).collect()
}

/// SplitMix64: enough for noise, and the same on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Between -1 and 1.
    pub(crate) fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// A second-order filter at 8 kHz, by the bilinear transform.
struct Biquad {
    feed: [f32; 3],
    back: [f32; 2],
    state: [f32; 2],
}

impl Biquad {
    fn high_pass(hz: f32, q: f32) -> Self {
        let (cos, alpha) = Self::angle(hz, q);
        Self::new([(1.0 + cos) / 2.0, -1.0 - cos, (1.0 + cos) / 2.0], cos, alpha)
    }

    fn low_pass(hz: f32, q: f32) -> Self {
        let (cos, alpha) = Self::angle(hz, q);
        Self::new([(1.0 - cos) / 2.0, 1.0 - cos, (1.0 - cos) / 2.0], cos, alpha)
    }

    fn angle(hz: f32, q: f32) -> (f32, f32) {
        let angle = hz / 8_000.0 * std::f32::consts::TAU;
        (angle.cos(), angle.sin() / (2.0 * q))
    }

    fn new(feed: [f32; 3], cos: f32, alpha: f32) -> Self {
        let scale = 1.0 / (1.0 + alpha);
        Self {
            feed: feed.map(|f| f * scale),
            back: [-2.0 * cos * scale, (1.0 - alpha) * scale],
            state: [0.0; 2],
        }
    }

    fn next(&mut self, input: f32) -> f32 {
        let out = self.feed[0] * input + self.state[0];
        self.state[0] = self.feed[1] * input - self.back[0] * out + self.state[1];
        self.state[1] = self.feed[2] * input - self.back[1] * out;
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tone::Goertzel;

    fn left_of(hz: f32) -> f32 {
        let sine: Vec<i16> = (0..8_000)
            .map(|n| (8_000.0 * (n as f32 * hz / 8_000.0 * std::f32::consts::TAU).sin()) as i16)
            .collect();
        let out = telephone_channel(&sine, Codec::Pcma);
        rms_dbfs(&out[4_000..]) - rms_dbfs(&sine)
    }

    #[test]
    fn the_channel_passes_the_middle_and_stops_the_ends() {
        assert!(left_of(1_000.0).abs() < 0.5);
        assert!(left_of(500.0).abs() < 0.5);
        assert!(left_of(3_000.0) > -1.5);
        assert!((-4.0..-2.0).contains(&left_of(300.0)));
        assert!(left_of(100.0) < -30.0);
        assert!(left_of(3_800.0) < -15.0);
    }

    #[test]
    fn noise_has_the_level_asked_for_and_the_seed_decides_it() {
        for make in [white_noise, pink_noise] {
            let noise = make(16_000, -30.0, 7);
            assert!((rms_dbfs(&noise) + 30.0).abs() < 0.2);
            assert_eq!(noise, make(16_000, -30.0, 7));
            assert_ne!(noise, make(16_000, -30.0, 8));
        }
    }

    #[test]
    fn pink_noise_is_stronger_below() {
        let noise = pink_noise(80_000, -20.0, 1);
        let band = |hz: f32| (0..50).map(|n| Goertzel::new(hz + n as f32, 8_000).power(&noise)).sum::<f32>();
        let ratio = 10.0 * (band(200.0) / band(3_200.0)).log10();
        assert!((9.0..15.0).contains(&ratio), "{ratio} dB over four octaves");
    }

    #[test]
    fn speech_stands_above_the_noise_by_what_was_asked() {
        let mut sound = white_noise(8_000, -20.0, 1);
        sound[3_000..6_000].fill(0);
        let clean = sound.clone();
        mix_at_snr(&mut sound, &pink_noise(2_000, -3.0, 2), 8_000, 15.0);
        let noise: Vec<i16> = sound.iter().zip(&clean).map(|(a, b)| a - b).collect();
        assert!((rms_dbfs(&noise) + 35.0).abs() < 0.7, "{}", rms_dbfs(&noise));
        let mut silence = [0; 100];
        mix_at_snr(&mut silence, &[5; 10], 8_000, 10.0);
        assert_eq!(silence, [0; 100]);
    }
}
