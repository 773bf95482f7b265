//! Loudness: measuring, setting, fading, and the silence at both ends.
//!
//! Levels are in dBFS of the mean square: a full-scale square wave is 0 dBFS, a full-scale sine
//! -3 dBFS. Speech on a telephone is comfortable at about -20 dBFS while someone speaks.

use std::ops::Range;

use crate::clip;

/// Returns the level of all samples; -100 for silence.
#[must_use]
pub fn rms_dbfs(samples: &[i16]) -> f32 {
    let power = samples.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>() / samples.len().max(1) as f64;
    dbfs(power)
}

/// Returns the level of the largest sample; -100 for silence.
#[must_use]
pub fn peak_dbfs(samples: &[i16]) -> f32 {
    dbfs(samples.iter().map(|&s| f64::from(s).powi(2)).fold(0.0, f64::max))
}

/// Returns the level of speech while someone speaks; `None` when nothing is there.
///
/// An approximation of ITU-T P.56: frames of 20 ms count when they are within 15.9 dB of the level
/// that the counting frames have together.
#[must_use]
pub fn active_dbfs(samples: &[i16], rate: u32) -> Option<f32> {
    let frame = (rate as usize / 50).max(1);
    let powers: Vec<f64> = samples
        .chunks(frame)
        .map(|frame| frame.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>() / frame.len() as f64)
        .collect();
    let mut level = powers.iter().sum::<f64>() / powers.len().max(1) as f64;
    if level < 1.0 {
        return None;
    }
    // Leaving soft frames out raises the level, which leaves more out; this settles quickly.
    for _ in 0..20 {
        let floor = level / MARGIN;
        let (sum, count) =
            powers.iter().filter(|&&p| p >= floor).fold((0.0, 0u32), |(s, n), p| (s + p, n + 1));
        let next = sum / f64::from(count.max(1));
        if (next - level).abs() < level * 1e-4 {
            break;
        }
        level = next;
    }
    Some(dbfs(level))
}

/// Makes everything louder or softer, clipping what gets too loud.
pub fn gain(samples: &mut [i16], db: f32) {
    let factor = 10f32.powf(db / 20.0);
    for sample in samples {
        *sample = clip(f32::from(*sample) * factor);
    }
}

/// Brings the active level to `target_dbfs` and returns the gain in dB.
///
/// Peaks that would rise over about -3 dBFS are bent down smoothly, never clipped. Silence stays
/// silence, with a gain of 0.
pub fn normalise(samples: &mut [i16], rate: u32, target_dbfs: f32) -> f32 {
    let Some(level) = active_dbfs(samples, rate) else { return 0.0 };
    let db = (target_dbfs - level).clamp(-60.0, 60.0);
    let factor = 10f32.powf(db / 20.0);
    for sample in samples {
        *sample = clip(limit(f32::from(*sample) * factor));
    }
    db
}

/// Raises the first `ms` from nothing, so that the start makes no click.
pub fn fade_in(samples: &mut [i16], rate: u32, ms: u32) {
    let len = fade_len(samples, rate, ms);
    for (n, sample) in samples[..len].iter_mut().enumerate() {
        *sample = clip(f32::from(*sample) * slope(n, len));
    }
}

/// Lowers the last `ms` to nothing, so that the end makes no click.
pub fn fade_out(samples: &mut [i16], rate: u32, ms: u32) {
    let len = fade_len(samples, rate, ms);
    let start = samples.len() - len;
    for (n, sample) in samples[start..].iter_mut().enumerate() {
        *sample = clip(f32::from(*sample) * slope(len - 1 - n, len));
    }
}

/// Returns where sound begins and ends, with 10 ms of margin; empty when there is none.
///
/// Sound is what stands within 35 dB of the active level, and above -60 dBFS.
#[must_use]
pub fn trim_silence(samples: &[i16], rate: u32) -> Range<usize> {
    let Some(level) = active_dbfs(samples, rate) else { return 0..0 };
    let floor = (level - 35.0).max(-60.0);
    let frame = (rate as usize / 200).max(1);
    let mut loud =
        samples.chunks(frame).enumerate().filter(|(_, frame)| rms_dbfs(frame) > floor).map(|(n, _)| n);
    let Some(first) = loud.next() else { return 0..0 };
    let last = loud.next_back().unwrap_or(first);
    let start = (first * frame).saturating_sub(2 * frame);
    start..((last + 3) * frame).min(samples.len())
}

/// Bends what is over the knee so that it approaches full scale and never reaches it.
fn limit(sample: f32) -> f32 {
    let size = sample.abs();
    if size <= KNEE {
        return sample;
    }
    let room = CEILING - KNEE;
    (KNEE + room * (1.0 - (-(size - KNEE) / room).exp())).copysign(sample)
}

fn fade_len(samples: &[i16], rate: u32, ms: u32) -> usize {
    (u64::from(rate) * u64::from(ms) / 1_000).min(samples.len() as u64) as usize
}

/// Half a cosine, which has no corner at either end.
fn slope(n: usize, len: usize) -> f32 {
    0.5 - 0.5 * (n as f32 / len as f32 * std::f32::consts::PI).cos()
}

fn dbfs(power: f64) -> f32 {
    (10.0 * (power / (32_768.0 * 32_768.0)).max(1e-10).log10()) as f32
}

/// 15.9 dB, the margin of P.56.
const MARGIN: f64 = 38.9;

/// -3 dBFS and just below full scale.
const KNEE: f32 = 23_170.0;
const CEILING: f32 = 32_500.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::white_noise;
    use proptest::prelude::*;

    #[test]
    fn a_full_scale_sine_is_3_db_below_a_full_scale_square() {
        let sine: Vec<i16> = (0..8_000).map(|n| ((n as f32 * 0.37).sin() * 32_767.0) as i16).collect();
        assert!((rms_dbfs(&sine) + 3.01).abs() < 0.02);
        assert!((rms_dbfs(&[32_767, -32_768]) - 0.0).abs() < 0.01);
        assert!(peak_dbfs(&sine).abs() < 0.01);
        assert_eq!((rms_dbfs(&[]), peak_dbfs(&[0; 8])), (-100.0, -100.0));
    }

    #[test]
    fn pauses_do_not_lower_the_active_level() {
        let mut sound = white_noise(40_000, -22.0, 3);
        let without = active_dbfs(&sound, 8_000).unwrap();
        for pause in [4_000..12_000, 20_000..38_000] {
            sound[pause].fill(3);
        }
        let with = active_dbfs(&sound, 8_000).unwrap();
        assert!((with - without).abs() < 0.3, "{with} against {without}");
        assert_eq!(active_dbfs(&[0; 400], 8_000), None);
    }

    #[test]
    fn normalising_sets_the_active_level_and_never_clips() {
        for level in [-50.0, -30.0, -12.0] {
            let mut sound = white_noise(16_000, level, 4);
            let db = normalise(&mut sound, 8_000, -20.0);
            assert!((active_dbfs(&sound, 8_000).unwrap() + 20.0).abs() < 0.3);
            assert!((db - (-20.0 - level)).abs() < 0.3);
        }
        let mut hot = white_noise(16_000, -20.0, 5);
        normalise(&mut hot, 8_000, -6.0);
        assert!(peak_dbfs(&hot) < 0.0);
        let mut silence = [0; 100];
        assert_eq!(normalise(&mut silence, 8_000, -20.0), 0.0);
    }

    #[test]
    fn fades_begin_and_end_at_nothing_and_leave_the_middle() {
        let mut sound = [10_000i16; 800];
        fade_in(&mut sound, 8_000, 5);
        fade_out(&mut sound, 8_000, 5);
        assert_eq!((sound[0], sound[799]), (0, 0));
        assert!(sound[..40].is_sorted());
        assert!(sound[40..760].iter().all(|&s| s == 10_000));
        let mut tiny = [500i16; 3];
        fade_in(&mut tiny, 8_000, 5);
        fade_out(&mut tiny, 8_000, 5);
        fade_out(&mut [], 8_000, 5);
    }

    #[test]
    fn silence_at_both_ends_is_found() {
        let mut sound = vec![2i16; 8_000];
        sound[3_000..5_000].copy_from_slice(&white_noise(2_000, -20.0, 6));
        let range = trim_silence(&sound, 8_000);
        assert!((2_880..=3_000).contains(&range.start), "{range:?}");
        assert!((5_000..=5_120).contains(&range.end), "{range:?}");
        assert_eq!(trim_silence(&[0; 500], 8_000), 0..0);
    }

    proptest! {
        #[test]
        fn no_sound_panics_the_meters(mut sound: Vec<i16>, rate in 0u32..50_000, db in -200f32..200.0) {
            let _ = (rms_dbfs(&sound), peak_dbfs(&sound), active_dbfs(&sound, rate));
            let range = trim_silence(&sound, rate);
            prop_assert!(range.end <= sound.len() && range.start <= range.end);
            normalise(&mut sound, rate, db);
            fade_in(&mut sound, rate, 5);
            fade_out(&mut sound, rate, 5);
            gain(&mut sound, db);
        }
    }
}
