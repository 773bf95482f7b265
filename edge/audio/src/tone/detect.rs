//! Hearing tones.

use std::f32::consts::TAU;

use super::{COLUMNS, KEYS, ROWS};

/// Measures the strength of one frequency (Goertzel's algorithm).
#[derive(Clone, Copy, Debug)]
pub struct Goertzel {
    coefficient: f32,
}

impl Goertzel {
    /// Prepares for a frequency at a sample rate, both in Hz.
    #[must_use]
    pub fn new(hz: f32, rate: u32) -> Self {
        Self { coefficient: 2.0 * (TAU * hz / rate.max(1) as f32).cos() }
    }

    /// Returns the mean square that the frequency contributes to `samples`, in units of a sample.
    ///
    /// A lone sine at the frequency gives half the square of its amplitude. The width of the filter
    /// is the rate over the number of samples.
    #[must_use]
    pub fn power(&self, samples: &[i16]) -> f32 {
        let (mut s1, mut s2) = (0.0f32, 0.0f32);
        for &sample in samples {
            let s = f32::from(sample) + self.coefficient * s1 - s2;
            s2 = s1;
            s1 = s;
        }
        let square = s1 * s1 + s2 * s2 - self.coefficient * s1 * s2;
        2.0 * square.max(0.0) / (samples.len().max(1) as f32).powi(2)
    }
}

/// Hears keys in the sound of a line, where the peer does not send them as events.
///
/// A key counts after two frames of 20 ms that agree and is reported once, until two frames without
/// it. Speech is kept out by asking that the two tones hold most of the energy and differ by no more
/// than networks let them (ITU-T Q.24).
#[derive(Clone, Debug)]
pub struct DtmfDetector {
    rows: [Goertzel; 4],
    columns: [Goertzel; 4],
    last: Option<char>,
    agreed: u32,
    reported: Option<char>,
    absent: u32,
}

impl DtmfDetector {
    /// Prepares for a sample rate in Hz.
    #[must_use]
    pub fn new(rate: u32) -> Self {
        Self {
            rows: ROWS.map(|hz| Goertzel::new(hz, rate)),
            columns: COLUMNS.map(|hz| Goertzel::new(hz, rate)),
            last: None,
            agreed: 0,
            reported: None,
            absent: 0,
        }
    }

    /// Takes the next 20 ms and returns a key when it is newly pressed.
    pub fn push(&mut self, frame: &[i16]) -> Option<char> {
        let key = self.hear(frame);
        self.agreed = if key == self.last { self.agreed + 1 } else { 1 };
        self.last = key;
        if key != self.reported {
            self.absent += 1;
            if self.absent >= 2 {
                self.reported = None;
            }
        } else {
            self.absent = 0;
        }
        if key.is_some() && self.agreed >= 2 && self.reported != key {
            self.reported = key;
            self.absent = 0;
            return key;
        }
        None
    }

    /// The key in one frame by itself.
    fn hear(&self, frame: &[i16]) -> Option<char> {
        let total = frame.iter().map(|&s| f32::from(s).powi(2)).sum::<f32>() / frame.len().max(1) as f32;
        if total < QUIETEST {
            return None;
        }
        let (row, low) = strongest(&self.rows, frame)?;
        let (column, high) = strongest(&self.columns, frame)?;
        let twist = high / low;
        let pure = low + high > 0.7 * total;
        (pure && (TWIST_LOW..=TWIST_HIGH).contains(&twist)).then_some(KEYS[row][column])
    }
}

/// The strongest of a group, if it stands clearly above the others.
fn strongest(group: &[Goertzel; 4], frame: &[i16]) -> Option<(usize, f32)> {
    let powers = group.map(|bin| bin.power(frame));
    let best = (0..4).max_by(|&a, &b| powers[a].total_cmp(&powers[b]))?;
    let clear = powers.iter().enumerate().all(|(n, &power)| n == best || power * 3.0 < powers[best]);
    clear.then_some((best, powers[best]))
}

/// About -42 dBFS.
const QUIETEST: f32 = 260.0 * 260.0;

/// The high tone may be 8 dB weaker or 6 dB stronger than the low one.
const TWIST_LOW: f32 = 0.158;
const TWIST_HIGH: f32 = 4.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Codec;
    use crate::channel::{mix_at_snr, telephone_channel, white_noise};
    use crate::level::gain;
    use crate::tone::dtmf_samples;

    fn heard(sound: &[i16]) -> String {
        let mut detector = DtmfDetector::new(8_000);
        sound.chunks(160).filter_map(|frame| detector.push(frame)).collect()
    }

    #[test]
    fn keys_of_70_ms_are_heard_through_the_channel_at_many_levels_and_phases() {
        let keys = "1234567890*#ABCD5551";
        for db in [-25.0, -10.0, 0.0] {
            for offset in [0, 37, 101] {
                let mut sound = vec![0; offset];
                sound.extend(dtmf_samples(keys, 8_000, 70, 70));
                gain(&mut sound, db);
                let sound = telephone_channel(&sound, Codec::Pcma);
                assert_eq!(heard(&sound), keys, "at {db} dB, offset {offset}");
            }
        }
    }

    #[test]
    fn keys_are_heard_over_noise_and_noise_is_not() {
        let mut sound = dtmf_samples("0918273645", 8_000, 100, 100);
        mix_at_snr(&mut sound, &white_noise(8_000, -20.0, 3), 8_000, 15.0);
        assert_eq!(heard(&sound), "0918273645");
        assert_eq!(heard(&white_noise(800_000, -15.0, 4)), "");
        assert_eq!(heard(&[0; 8_000]), "");
    }

    #[test]
    fn one_tone_alone_is_no_key() {
        let sine: Vec<i16> =
            (0..8_000).map(|n| ((n as f32 * TAU * 697.0 / 8_000.0).sin() * 8_000.0) as i16).collect();
        assert_eq!(heard(&sine), "");
    }
}
