//! From the voice's sound to the telephone's: 8 kHz, 16 bits, one loudness, no clicks.

use trunkline_audio::resample::resample_f32;

use super::{ClauseEnd, SAMPLE_RATE, Speech};

/// Samples per second on the telephone.
pub const TELEPHONE_RATE: u32 = 8_000;

/// Loudness of a prompt while it speaks, in dB below full scale.
pub const PROMPT_LEVEL_DBFS: f32 = -20.0;

/// The highest peak left in a prompt: 1 dB below full scale.
const PEAK: f32 = 0.891;

/// Length of the fades at both ends.
const FADE_MS: usize = 5;

/// Sound ready for a call: [`TELEPHONE_RATE`], one channel.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TelephoneSpeech {
    /// Samples.
    pub samples: Vec<i16>,
    /// The clauses in order, ends in samples at [`TELEPHONE_RATE`].
    pub clauses: Vec<ClauseEnd>,
}

impl Speech {
    /// Brings the sound to the telephone's rate and to [`PROMPT_LEVEL_DBFS`], with short fades at
    /// both ends.
    pub fn telephone(&self) -> TelephoneSpeech {
        let mut samples = if self.samples.is_empty() {
            Vec::new()
        } else {
            resample_f32(&self.samples, SAMPLE_RATE, TELEPHONE_RATE)
        };
        set_level(&mut samples, TELEPHONE_RATE as usize, PROMPT_LEVEL_DBFS);
        fade(&mut samples, TELEPHONE_RATE as usize * FADE_MS / 1000);
        let length = samples.len();
        let scale = |end: usize| (end as u64 * u64::from(TELEPHONE_RATE) / u64::from(SAMPLE_RATE)) as usize;
        let mut clauses: Vec<ClauseEnd> = self
            .clauses
            .iter()
            .map(|c| ClauseEnd { text: c.text.clone(), end: scale(c.end).min(length) })
            .collect();
        if let Some(last) = clauses.last_mut() {
            last.end = length;
        }
        let samples = samples.iter().map(|s| (s * 32767.0).round() as i16).collect();
        TelephoneSpeech { samples, clauses }
    }
}

/// Brings the parts that speak to `target` dB below full scale; peaks that would clip are bent.
fn set_level(samples: &mut [f32], rate: usize, target: f32) {
    let Some(active) = active_rms(samples, rate) else { return };
    let gain = 10f32.powf(target / 20.0) / active;
    for s in samples {
        *s = bend(*s * gain);
    }
}

/// Straight up to half of full scale, then ever flatter towards [`PEAK`].
fn bend(x: f32) -> f32 {
    const KNEE: f32 = 0.5;
    let size = x.abs();
    if size <= KNEE {
        return x;
    }
    let room = PEAK - KNEE;
    let bent = KNEE + room * (1.0 - (-(size - KNEE) / room).exp());
    bent.copysign(x)
}

/// RMS over the 20 ms frames that lie within 25 dB of the loudest; `None` for silence.
fn active_rms(samples: &[f32], rate: usize) -> Option<f32> {
    let powers: Vec<f32> = samples
        .chunks((rate / 50).max(1))
        .map(|frame| frame.iter().map(|s| s * s).sum::<f32>() / frame.len() as f32)
        .collect();
    let loudest = powers.iter().copied().fold(0.0, f32::max);
    if loudest < 1e-9 {
        return None;
    }
    let floor = loudest * 10f32.powf(-2.5);
    let active: Vec<f32> = powers.into_iter().filter(|p| *p >= floor).collect();
    Some((active.iter().sum::<f32>() / active.len() as f32).sqrt())
}

/// Fades in and out over `length` samples.
pub(super) fn fade(samples: &mut [f32], length: usize) {
    let length = length.min(samples.len() / 2);
    for i in 0..length {
        let gain = i as f32 / length as f32;
        samples[i] *= gain;
        let last = samples.len() - 1 - i;
        samples[last] *= gain;
    }
}

/// The part of `samples` that is not silence, with a little room on both sides.
pub(super) fn speaking(samples: &[f32], rate: usize) -> std::ops::Range<usize> {
    let frame = (rate / 100).max(1);
    let peaks: Vec<f32> =
        samples.chunks(frame).map(|f| f.iter().fold(0.0, |m: f32, s| m.max(s.abs()))).collect();
    let loudest = peaks.iter().copied().fold(0.0, f32::max);
    let floor = (loudest * 0.01).max(1e-4);
    let first = peaks.iter().position(|p| *p > floor);
    let last = peaks.iter().rposition(|p| *p > floor);
    let (Some(first), Some(last)) = (first, last) else { return 0..0 };
    let start = first.saturating_sub(2) * frame;
    let end = ((last + 4) * frame).min(samples.len());
    start..end
}

/// The quietest place within `reach` samples of `near`.
pub(super) fn quietest(samples: &[f32], near: usize, reach: usize, rate: usize) -> usize {
    let frame = (rate / 100).max(1);
    let from = near.saturating_sub(reach) / frame;
    let to = (near + reach).min(samples.len()) / frame;
    let power = |i: usize| {
        let end = ((i + 3) * frame).min(samples.len());
        samples[(i * frame).min(end)..end].iter().map(|s| s * s).sum::<f32>()
    };
    (from..to)
        .min_by(|a, b| power(*a).total_cmp(&power(*b)))
        .map_or(near, |i| (i * frame + frame * 3 / 2).min(samples.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(seconds: f32, level: f32) -> Vec<f32> {
        (0..(seconds * SAMPLE_RATE as f32) as usize)
            .map(|i| level * (i as f32 * 440.0 * std::f32::consts::TAU / SAMPLE_RATE as f32).sin())
            .collect()
    }

    #[test]
    fn a_prompt_has_the_telephones_rate_and_level_whatever_came_in() {
        for level in [0.01, 0.1, 0.9] {
            let samples = tone(1.0, level);
            let clause = ClauseEnd { text: "a".to_owned(), end: samples.len() };
            let speech = Speech { samples, clauses: vec![clause] };

            let phone = speech.telephone();

            assert!(phone.samples.len().abs_diff(8000) <= 8, "{}", phone.samples.len());
            let rms = (phone.samples.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>()
                / phone.samples.len() as f64)
                .sqrt();
            let dbfs = 20.0 * (rms / 32768.0).log10();
            assert!((dbfs + 20.0).abs() < 0.5, "{dbfs}");
            assert_eq!(phone.clauses[0].end, phone.samples.len());
        }
    }

    #[test]
    fn silence_and_nothing_stay_as_they_are() {
        assert_eq!(Speech::default().telephone(), TelephoneSpeech::default());
        let silent = Speech { samples: vec![0.0; 2400], clauses: Vec::new() };
        assert!(silent.telephone().samples.iter().all(|s| *s == 0));
    }

    #[test]
    fn silence_around_speech_is_found() {
        let mut samples = vec![0.0; 12_000];
        samples.extend(tone(0.5, 0.5));
        samples.extend(vec![0.0; 12_000]);

        let range = speaking(&samples, SAMPLE_RATE as usize);

        assert!(range.start > 11_000 && range.start <= 12_000, "{range:?}");
        assert!(range.end >= 24_000 && range.end < 25_000, "{range:?}");
    }
}
