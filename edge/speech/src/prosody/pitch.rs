//! The pitch of a voice that comes over a telephone.
//!
//! A telephone carries nothing below 300 Hz, so most voices come without their fundamental. What is left of
//! their harmonics still repeats once in each period of it, and repetition is what is looked for: the normalised
//! square difference of a window and what stands a lag later, over all lags of human voices (McLeod and Wyvill
//! 2005). A strong formant repeats as well, several times a period, so the window is centre-clipped first
//! (Sondhi 1968), and a short lag wins over a longer one only when it fits almost as well.

use crate::vad::TELEPHONE_RATE;

/// The longest period that is looked for: 65 Hz.
const MAX_LAG: usize = TELEPHONE_RATE as usize / 65;
/// The shortest: 420 Hz.
const MIN_LAG: usize = TELEPHONE_RATE as usize / 420;
/// What is compared with itself: 36 ms, two periods of the lowest voices; whole lanes of eight.
const WINDOW: usize = 288;
/// Samples that one look needs.
pub(super) const SPAN: usize = WINDOW + MAX_LAG + 1;
/// Samples nearer to zero than this share of the loudest count as zero.
const CLIP: f32 = 0.35;
/// A peak that is this near to the best one wins if its lag is shorter.
const AS_GOOD: f32 = 0.88;
/// How well a window must repeat itself to be a voice, 1 being perfectly.
const VOICED: f32 = 0.55;

/// Returns the pitch at the newest [`SPAN`] samples, in Hz; `None` where nothing repeats.
pub(super) fn pitch(sound: &[f32; SPAN]) -> Option<f32> {
    let mut x = *sound;
    centre_clip(&mut x);
    let own: f32 = x[..WINDOW].iter().map(|s| s * s).sum();
    if own <= 0.0 {
        return None;
    }
    let mut fit = [0.0f32; MAX_LAG + 2];
    let mut shifted: f32 = x[MIN_LAG - 1..MIN_LAG - 1 + WINDOW].iter().map(|s| s * s).sum();
    for (lag, fit) in fit.iter_mut().enumerate().take(MAX_LAG + 2).skip(MIN_LAG - 1) {
        let Some(later) = x.get(lag..lag + WINDOW) else { break };
        *fit = 2.0 * product(&x[..WINDOW], later) / (own + shifted).max(f32::MIN_POSITIVE);
        let next = x.get(lag + WINDOW).copied().unwrap_or_default();
        shifted = (shifted - x[lag] * x[lag] + next * next).max(0.0);
    }
    let is_peak = |lag: &usize| fit[*lag] > fit[*lag - 1] && fit[*lag] >= fit[*lag + 1];
    let best = (MIN_LAG..=MAX_LAG).filter(is_peak).map(|lag| fit[lag]).fold(0.0, f32::max);
    if best < VOICED {
        return None;
    }
    let lag = (MIN_LAG..=MAX_LAG).filter(is_peak).find(|lag| fit[*lag] >= AS_GOOD * best)?;
    // The top of the parabola through the peak and its neighbours.
    let (left, top, right) = (fit[lag - 1], fit[lag], fit[lag + 1]);
    let bend = left - 2.0 * top + right;
    let off = if bend < 0.0 { (0.5 * (left - right) / bend).clamp(-0.5, 0.5) } else { 0.0 };
    Some(TELEPHONE_RATE as f32 / (lag as f32 + off))
}

/// The sum of products, in eight lanes that a compiler can lay side by side.
fn product(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a * b;
        }
    }
    lanes.iter().sum()
}

/// Takes away what lies near zero, which is where formants ring between two beats of the voice.
fn centre_clip(x: &mut [f32; SPAN]) {
    let third = SPAN / 3;
    let loudest = |part: &[f32]| part.iter().fold(0.0f32, |most, s| most.max(s.abs()));
    let floor = CLIP * loudest(&x[..third]).min(loudest(&x[SPAN - third..]));
    for sample in x {
        *sample = if *sample > floor {
            *sample - floor
        } else if *sample < -floor {
            *sample + floor
        } else {
            0.0
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A voice of `hz` without anything below 300 Hz or above 3.4 kHz, whose formant is at `formant` Hz.
    fn voice(hz: f32, formant: f32) -> [f32; SPAN] {
        let mut sound = [0.0; SPAN];
        for k in 1..60 {
            let f = hz * k as f32;
            if !(300.0..3_400.0).contains(&f) {
                continue;
            }
            let gain = 1.0 / (1.0 + ((f - formant) / 150.0).powi(2)) + 0.3 / k as f32;
            for (n, sample) in sound.iter_mut().enumerate() {
                let t = n as f32 / TELEPHONE_RATE as f32;
                *sample += gain * (std::f32::consts::TAU * f * t + k as f32 * 0.7).cos();
            }
        }
        sound
    }

    #[test]
    fn the_pitch_is_found_although_the_fundamental_is_not_there() {
        for hz in [80.0, 105.0, 140.0, 190.0, 230.0, 280.0] {
            for formant in [450.0, 700.0] {
                let found = pitch(&voice(hz, formant)).unwrap_or_default();
                assert!((found / hz - 1.0).abs() < 0.03, "{found} for {hz} Hz, formant {formant}");
            }
        }
    }

    #[test]
    fn noise_and_silence_have_no_pitch() {
        assert_eq!(pitch(&[0.0; SPAN]), None);
        let mut state = 1u32;
        let mut found = 0;
        for _ in 0..200 {
            let mut noise = [0.0; SPAN];
            for sample in &mut noise {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *sample = (state >> 16) as f32 / 32_768.0 - 1.0;
            }
            found += usize::from(pitch(&noise).is_some());
        }
        assert!(found < 4, "{found} of 200");
        assert!(pitch(&[f32::NAN; SPAN]).is_none());
    }
}
