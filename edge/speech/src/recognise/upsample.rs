//! From the telephone's 8 kHz to the models' 16 kHz.
//!
//! Every second sample of the result is the input; those between are interpolated by a half-band
//! filter (windowed sinc), which keeps the telephone band and leaves its mirror image more than
//! 50 dB down. Whole utterances only, so there is no state and no delay.

use std::sync::OnceLock;

/// Input samples on each side of an interpolated one.
const REACH: usize = 16;

/// Doubles the sample rate and scales to -1..1. The result has twice as many samples.
pub(crate) fn double_rate(pcm: &[i16]) -> Vec<f32> {
    let taps = taps();
    let sample = |index: isize| -> f32 {
        usize::try_from(index).ok().and_then(|i| pcm.get(i)).map_or(0.0, |s| f32::from(*s) / 32_768.0)
    };
    let mut out = Vec::with_capacity(pcm.len() * 2);
    // The middle needs no bounds check, and is nearly everything.
    for n in 0..pcm.len() {
        out.push(f32::from(pcm[n]) / 32_768.0);
        let inside = n + 1 >= REACH && n + REACH < pcm.len();
        let between = if inside {
            let left = &pcm[n + 1 - REACH..=n];
            let right = &pcm[n + 1..=n + REACH];
            let mut sum = 0.0;
            for k in 0..REACH {
                sum += taps[k] * (f32::from(left[REACH - 1 - k]) + f32::from(right[k]));
            }
            sum / 32_768.0
        } else {
            (0..REACH)
                .map(|k| taps[k] * (sample(n as isize - k as isize) + sample((n + 1 + k) as isize)))
                .sum()
        };
        out.push(between);
    }
    out
}

/// Weights of the neighbours at distance 0.5, 1.5, 2.5 ... input samples, on either side.
fn taps() -> &'static [f32; REACH] {
    static TAPS: OnceLock<[f32; REACH]> = OnceLock::new();
    TAPS.get_or_init(|| {
        let mut taps = [0.0f64; REACH];
        for (k, tap) in taps.iter_mut().enumerate() {
            let x = std::f64::consts::PI * (k as f64 + 0.5);
            let place = (k as f64 + 0.5) / (REACH as f64 + 0.5);
            // Blackman window.
            let w = std::f64::consts::PI * place;
            let window = 0.42 + 0.5 * w.cos() + 0.08 * (2.0 * w).cos();
            *tap = x.sin() / x * window;
        }
        // Both sides together have to pass a constant unchanged.
        let total: f64 = 2.0 * taps.iter().sum::<f64>();
        taps.map(|tap| (tap / total) as f32)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_of_the_telephone_band_comes_out_as_the_same_tone() {
        for hertz in [300.0f64, 1_000.0, 2_500.0, 3_300.0] {
            let tone = |rate: f64, n: usize| (2.0 * std::f64::consts::PI * hertz * n as f64 / rate).sin();
            let pcm: Vec<i16> = (0..2_000).map(|n| (tone(8_000.0, n) * 16_000.0) as i16).collect();
            let out = double_rate(&pcm);

            let worst = (200..3_800)
                .map(|n| (f64::from(out[n]) - tone(16_000.0, n) * 16_000.0 / 32_768.0).abs())
                .fold(0.0, f64::max);
            assert!(worst < 0.01, "{hertz} Hz is off by {worst}");
        }
    }

    #[test]
    fn the_shortest_inputs_do_no_harm() {
        assert!(double_rate(&[]).is_empty());
        assert_eq!(double_rate(&[5]).len(), 2);
        assert_eq!(double_rate(&[i16::MIN; 33]).len(), 66);
    }
}
