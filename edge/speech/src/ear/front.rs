//! What is done to the sound before anybody judges it, and to an utterance before it is recognised.
//!
//! Little, on purpose: the models were trained on sound as it comes. A constant offset is taken out
//! as it arrives, because it hides soft speech from everything that looks at levels; an utterance
//! that is far softer than any telephone makes it is brought up, because a recogniser takes whispers
//! from far away for noise. What has a usual level is left as it is.

use trunkline_audio::level::{active_dbfs, peak_dbfs};

use crate::vad::TELEPHONE_RATE;

/// Share of the last output that is kept: a corner at 30 Hz, a decade below the telephone's band.
const KEPT: f32 = 0.976_7;
/// What keeps the level of everything far above the corner: without it a difference of two samples is louder.
const PASSED: f32 = (1.0 + KEPT) / 2.0;
/// Active speech below this level, in dB to full scale, is brought up.
const SOFT_DBFS: f32 = -38.0;
/// To this level, where callers usually are.
const USUAL_DBFS: f32 = -26.0;
/// But by no more than this, in dB: what is softer is mostly the codec's own grain.
const MOST_DB: f32 = 30.0;
/// And its peaks stay below this.
const PEAK_DBFS: f32 = -1.0;

/// Takes a constant offset out of sound as it arrives.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Front {
    last_in: Option<f32>,
    last_out: f32,
}

impl Front {
    /// Appends the cleaned `pcm` to `out`.
    pub(super) fn clean(&mut self, pcm: &[i16], out: &mut Vec<i16>) {
        out.extend(pcm.iter().map(|&sample| {
            let x = f32::from(sample);
            // A line that begins with an offset begins with silence, not with a step.
            let y = PASSED * (x - self.last_in.unwrap_or(x)) + KEPT * self.last_out;
            self.last_in = Some(x);
            self.last_out = y;
            y.round() as i16
        }));
    }
}

/// Brings the sound of an utterance up when it is far too soft; returns the gain in dB.
pub(super) fn bring_up(pcm: &mut [i16]) -> f32 {
    let Some(level) = active_dbfs(pcm, TELEPHONE_RATE).filter(|level| *level < SOFT_DBFS) else { return 0.0 };
    let db = (USUAL_DBFS - level).min(MOST_DB).min(PEAK_DBFS - peak_dbfs(pcm));
    if db <= 0.0 {
        return 0.0;
    }
    trunkline_audio::level::gain(pcm, db);
    db
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hz: f32, level: f32, offset: i16, samples: usize) -> Vec<i16> {
        (0..samples)
            .map(|n| ((std::f32::consts::TAU * hz * n as f32 / 8_000.0).sin() * level) as i16 + offset)
            .collect()
    }

    fn cleaned(pcm: &[i16]) -> Vec<i16> {
        let (mut front, mut out) = (Front::default(), Vec::new());
        front.clean(pcm, &mut out);
        out
    }

    #[test]
    fn an_offset_goes_and_the_telephone_band_stays() {
        for hz in [300.0, 1_000.0, 3_400.0] {
            let plain = tone(hz, 8_000.0, 0, 8_000);
            let out = cleaned(&tone(hz, 8_000.0, 9_000, 8_000));
            let power =
                |pcm: &[i16]| pcm.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / pcm.len() as f64;
            let change = 10.0 * (power(&out[800..]) / power(&plain[800..])).log10();
            assert!(change.abs() < 0.1, "{hz} Hz by {change} dB");
            let mean = out[800..].iter().map(|s| f64::from(*s)).sum::<f64>() / 7_200.0;
            assert!(mean.abs() < 20.0, "{mean}");
        }
        assert!(cleaned(&[i16::MIN; 100]).iter().all(|s| *s == 0));
    }

    #[test]
    fn soft_speech_is_brought_up_and_usual_speech_is_left_alone() {
        let mut usual = tone(500.0, 3_000.0, 0, 8_000);
        assert_eq!(bring_up(&mut usual), 0.0);
        assert_eq!(usual, tone(500.0, 3_000.0, 0, 8_000));
        let mut soft = tone(500.0, 60.0, 0, 8_000);
        let db = bring_up(&mut soft);
        assert!((25.0..=MOST_DB).contains(&db), "{db}");
        let mut click = vec![0; 8_000];
        click[4_000] = 30_000;
        click[10] = 30;
        bring_up(&mut click);
        assert!(click.iter().all(|s| s.unsigned_abs() <= 30_000));
        assert_eq!(bring_up(&mut [0; 800]), 0.0);
    }

    proptest::proptest! {
        #[test]
        fn the_size_of_the_pieces_makes_no_difference(
            pcm in proptest::collection::vec(proptest::num::i16::ANY, 0..600),
            at in 0usize..600,
        ) {
            let at = at.min(pcm.len());
            let (mut front, mut out) = (Front::default(), Vec::new());
            front.clean(&pcm[..at], &mut out);
            front.clean(&pcm[at..], &mut out);
            proptest::prop_assert_eq!(out, cleaned(&pcm));
        }
    }
}
