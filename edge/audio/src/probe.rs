//! A signal that finds itself again: how long the way to the far end and back is, and what of it comes back.
//!
//! Two sweeps through the band of a telephone, one rising and one falling, are played and looked for in what is
//! heard. The sum over a whole sweep brings an echo out that is well below the noise of the line.

use std::f32::consts::TAU;

use crate::level::{fade_in, fade_out};

const RATE: usize = 8_000;
/// The band of a telephone, with room to its edges, in Hz.
const FROM_HZ: f32 = 350.0;
const TO_HZ: f32 = 3_200.0;
/// Samples of a sweep, and between the two.
const SWEEP: usize = 4_800;
const GAP: usize = 1_600;
/// The longest way that is looked for: 1.2 s.
const MAX_DELAY: usize = 9_600;
/// Peak of the sweeps: -13 dBFS as a sine, about -7 dBm0.
const AMPLITUDE: f32 = 10_370.0;
/// An echo stands out of everything else that is heard by so much.
const STANDS_OUT: f32 = 7.0;
/// More loss than this is no echo that anybody hears.
const MAX_LOSS_DB: f32 = 65.0;

/// What came back of the probe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Echo {
    /// Samples from being sent to being heard.
    pub delay: usize,
    /// How much softer it came back, in dB (an echo return loss); below 0 it came back louder.
    pub loss_db: f32,
    /// How far it stands out of everything else that was heard, as a ratio.
    pub clearness: f32,
}

/// Returns the probe: 1.4 s at 8 kHz.
#[must_use]
pub fn signal() -> Vec<i16> {
    let mut all = sweep(FROM_HZ, TO_HZ);
    all.extend(std::iter::repeat_n(0, GAP));
    all.extend(sweep(TO_HZ, FROM_HZ));
    all
}

/// Looks for the probe in what was heard. `heard` and the probe begin at the same instant; of `heard`, 1.2 s more than
/// the probe's length are of use. `None` when nothing stands out.
#[must_use]
pub fn find(heard: &[i16]) -> Option<Echo> {
    let rising = find_sweep(&sweep(FROM_HZ, TO_HZ), heard);
    let falling = find_sweep(&sweep(TO_HZ, FROM_HZ), heard.get(SWEEP + GAP..)?);
    match (rising, falling) {
        // Both must say the same, or it is chance: the one that is clearer then.
        (Some(a), Some(b)) if a.delay.abs_diff(b.delay) <= RATE / 20 => {
            Some(if a.clearness > b.clearness { a } else { b })
        }
        (Some(_) | None, Some(_) | None) => None,
    }
}

fn sweep(from: f32, to: f32) -> Vec<i16> {
    let mut samples: Vec<i16> = (0..SWEEP)
        .map(|n| {
            let t = n as f32 / RATE as f32;
            let slope = (to - from) / (SWEEP as f32 / RATE as f32);
            ((TAU * (from * t + slope * t * t / 2.0)).sin() * AMPLITUDE) as i16
        })
        .collect();
    fade_in(&mut samples, RATE as u32, 10);
    fade_out(&mut samples, RATE as u32, 10);
    samples
}

fn find_sweep(sweep: &[i16], heard: &[i16]) -> Option<Echo> {
    let sweep: Vec<f32> = sweep.iter().map(|&s| f32::from(s)).collect();
    let heard: Vec<f32> = heard.iter().map(|&s| f32::from(s)).collect();
    let energy: f32 = sweep.iter().map(|s| s * s).sum();
    let gains: Vec<f32> = heard
        .windows(sweep.len())
        .take(MAX_DELAY)
        .map(|window| window.iter().zip(&sweep).map(|(a, b)| a * b).sum::<f32>() / energy)
        .collect();
    let peak = |range: std::ops::Range<usize>| {
        let within = gains.get(range).unwrap_or_default().iter().enumerate();
        within.map(|(n, gain)| (n, gain.abs())).max_by(|a, b| a.1.total_cmp(&b.1))
    };
    let (_, highest) = peak(0..gains.len())?;
    // A sweep that was filtered on the way has several peaks close together, and the far end may echo again: the
    // first that is nearly as high is where the way ends.
    let delay = gains.iter().position(|gain| gain.abs() >= highest * 0.8)?;
    let mut others: Vec<f32> = gains.iter().map(|gain| gain.abs()).collect();
    others.sort_by(f32::total_cmp);
    let usual = others[others.len() / 2].max(1e-7);
    let (clearness, loss_db) = (highest / usual, -20.0 * highest.max(1e-7).log10());
    (clearness >= STANDS_OUT && loss_db <= MAX_LOSS_DB).then_some(Echo { delay, loss_db, clearness })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is heard of the probe after `delay` samples, `db` softer, with noise at `noise_dbfs` and through the law.
    fn heard(delay: usize, db: f32, noise: i16) -> Vec<i16> {
        let signal = signal();
        let mut heard = vec![0i16; signal.len() + 12_000];
        let factor = 10f32.powf(-db / 20.0);
        for (n, sample) in signal.iter().enumerate() {
            heard[delay + n] = (f32::from(*sample) * factor) as i16;
        }
        let mut random = 1u32;
        for sample in &mut heard {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *sample = sample.saturating_add(((random >> 16) as i16) % noise.max(1));
        }
        let mut coded = vec![0u8; heard.len()];
        crate::Codec::Pcma.encode(&heard, &mut coded);
        crate::Codec::Pcma.decode(&coded, &mut heard);
        heard
    }

    #[test]
    fn an_echo_is_found_with_its_delay_and_loss() {
        for (delay, db, noise) in [(0, 0.0, 1), (160, 6.0, 30), (2_400, 20.0, 100), (8_000, 35.0, 100)] {
            let echo =
                find(&heard(delay, db, noise)).unwrap_or_else(|| panic!("{db} dB at {delay} is not found"));
            assert!(echo.delay.abs_diff(delay) <= 4, "{echo:?} for {delay}");
            assert!((echo.loss_db - db).abs() < 1.5, "{echo:?} for {db}");
        }
    }

    #[test]
    fn silence_noise_and_a_tone_are_no_echo() {
        let mut tone = vec![0i16; 24_000];
        for (n, sample) in tone.iter_mut().enumerate() {
            *sample = ((TAU * 450.0 * n as f32 / 8_000.0).sin() * 8_000.0) as i16;
        }
        assert_eq!(find(&tone), None);
        assert_eq!(find(&heard(0, 120.0, 1)), None);
        assert_eq!(find(&heard(0, 120.0, 3_000)), None);
        assert_eq!(find(&[]), None);
        assert_eq!(find(&[0; 8_000]), None);
    }
}
