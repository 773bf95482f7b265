//! Music on hold, made from a seed, for tests and benchmarks: chords, a bass, a melody that slides and
//! trembles like a voice, and a drum. The same seed makes the same piece on every machine.

use std::f32::consts::TAU;

use crate::channel::{Random, to_level};

/// Samples per second.
const RATE: f32 = 8_000.0;
/// Semitones over the key of the four chords that half of all songs have, each with its third and fifth.
const CHORDS: [[i32; 3]; 4] = [[0, 4, 7], [9, 12, 16], [5, 9, 12], [7, 11, 14]];
/// Steps of the scale that a melody walks on.
const SCALE: [i32; 8] = [0, 2, 4, 5, 7, 9, 11, 12];

/// Makes `len` samples of music at 8 kHz with a level of `dbfs` (mean square).
#[must_use]
pub fn hold_music(len: usize, dbfs: f32, seed: u64) -> Vec<i16> {
    let mut random = Random::new(seed);
    let mut pick = |from: f32, to: f32| from + (to - from) * (random.next() + 1.0) / 2.0;
    let key = pick(45.0, 57.0).floor();
    let beat = (RATE * 60.0 / pick(84.0, 132.0)) as usize;
    let brightness = pick(0.5, 0.9);
    let mut mix = vec![0.0f32; len];
    let mut step = pick(0.0, 7.0) as usize;
    for (number, at) in (0..len).step_by(beat).enumerate() {
        let chord = CHORDS[number / 4 % CHORDS.len()];
        let note = |semitones: i32| 440.0 * ((key + semitones as f32 - 69.0) / 12.0).exp2();
        pluck(&mut mix, at, 4 * beat, note(chord[0]) / 2.0, 0.5, brightness, 1.2);
        for (n, semitones) in chord.iter().enumerate() {
            let at = at + n * beat / 3;
            pluck(&mut mix, at, 2 * beat, note(semitones + 12), 0.25, brightness, 2.5);
        }
        drum(&mut mix, at, if number % 2 == 1 { 0.5 } else { 0.2 }, &mut pick);
        // The melody rests now and then, so that the music has pauses as speech has.
        if number % 8 != 7 {
            step = (step as f32 + pick(-2.5, 2.5)).clamp(0.0, 7.0) as usize;
            let length = if pick(0.0, 1.0) < 0.5 { beat } else { beat / 2 };
            sing(&mut mix, at, length, note(SCALE[step] + 24), 0.45);
        }
    }
    to_level(mix, dbfs)
}

/// A string that is plucked: harmonics that die away, the high ones sooner.
fn pluck(mix: &mut [f32], at: usize, length: usize, hz: f32, loud: f32, brightness: f32, decay: f32) {
    for (n, sample) in mix.iter_mut().skip(at).take(length).enumerate() {
        let t = n as f32 / RATE;
        let attack = (t / 0.004).min(1.0);
        *sample += (1..=6)
            .filter(|k| hz * (*k as f32) < RATE / 2.0)
            .map(|k| {
                let k = k as f32;
                brightness.powf(k) * (-decay * k.sqrt() * t).exp() * (TAU * hz * k * t).sin()
            })
            .sum::<f32>()
            * loud
            * attack;
    }
}

/// A long tone that swells and trembles, with the formants of an open vowel.
fn sing(mix: &mut [f32], at: usize, length: usize, hz: f32, loud: f32) {
    let mut phase = 0.0f32;
    for (n, sample) in mix.iter_mut().skip(at).take(length).enumerate() {
        let t = n as f32 / RATE;
        let left = (length - n) as f32 / RATE;
        phase += TAU * hz * (1.0 + 0.012 * (TAU * 5.5 * t).sin()) / RATE;
        let formed = |k: f32| {
            let f = hz * k;
            (-((f - 800.0) / 300.0).powi(2)).exp() + 0.5 * (-((f - 1_200.0) / 300.0).powi(2)).exp() + 0.1
        };
        let tone: f32 = (1..=8)
            .filter(|k| hz * (*k as f32) < RATE / 2.0)
            .map(|k| formed(k as f32) * (phase * k as f32).sin())
            .sum();
        *sample += tone * loud * (t / 0.03).min(1.0) * (left / 0.05).min(1.0);
    }
}

fn drum(mix: &mut [f32], at: usize, loud: f32, pick: &mut impl FnMut(f32, f32) -> f32) {
    for (n, sample) in mix.iter_mut().skip(at).take(800).enumerate() {
        *sample += loud * pick(-1.0, 1.0) * (-(n as f32) / 160.0).exp();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::rms_dbfs;

    #[test]
    fn a_seed_makes_one_piece_and_another_seed_another() {
        let piece = hold_music(16_000, -26.0, 1);
        assert_eq!(piece, hold_music(16_000, -26.0, 1));
        assert_ne!(piece, hold_music(16_000, -26.0, 2));
        assert!((rms_dbfs(&piece) + 26.0).abs() < 0.5, "{}", rms_dbfs(&piece));
    }

    #[test]
    fn it_goes_on_and_no_length_breaks_it() {
        let piece = hold_music(80_000, -26.0, 3);
        assert!(piece.chunks(8_000).all(|second| rms_dbfs(second) > -40.0));
        for len in [0, 1, 799] {
            assert_eq!(hold_music(len, -26.0, 4).len(), len);
        }
    }
}
