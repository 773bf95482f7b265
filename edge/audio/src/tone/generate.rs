//! Making tones.

use std::f32::consts::TAU;

use super::{COLUMNS, KEYS, ROWS};
use crate::clip;
use crate::level::{fade_in, fade_out};

/// A tone as a country's network defines it (ITU-T E.180).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Signal {
    /// One or two frequencies in Hz, sounding together; 0 is none.
    pub frequencies: [f32; 2],
    /// The first frequency is modulated in strength by this one, in Hz; 0 is not at all.
    pub modulation: f32,
    /// Milliseconds on and off in turn, over and over, ending at the first zero; no cadence at all is
    /// a tone without pause.
    pub cadence: [u16; 4],
    /// Level while it sounds, in dBFS.
    pub dbfs: f32,
}

/// Whose network a tone belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Country {
    /// China.
    Cn,
    /// United States and Canada.
    Us,
    /// United Kingdom.
    Uk,
    /// Germany.
    De,
    /// France.
    Fr,
    /// Russia.
    Ru,
    /// India.
    In,
    /// Japan.
    Jp,
    /// Singapore.
    Sg,
    /// Brazil.
    Br,
}

/// Returns what a caller hears while the far telephone rings.
#[must_use]
pub const fn ringback(country: Country) -> Signal {
    const BRITISH: [u16; 4] = [400, 200, 400, 2_000];
    let (frequencies, modulation, cadence) = match country {
        Country::Cn => ([450.0, 0.0], 0.0, [1_000, 4_000, 0, 0]),
        Country::Us => ([440.0, 480.0], 0.0, [2_000, 4_000, 0, 0]),
        Country::Uk => ([400.0, 450.0], 0.0, BRITISH),
        Country::De | Country::Ru | Country::Br => ([425.0, 0.0], 0.0, [1_000, 4_000, 0, 0]),
        Country::Fr => ([440.0, 0.0], 0.0, [1_500, 3_500, 0, 0]),
        Country::In => ([400.0, 0.0], 25.0, BRITISH),
        Country::Jp => ([400.0, 0.0], 15.0, [1_000, 2_000, 0, 0]),
        Country::Sg => ([425.0, 0.0], 24.0, BRITISH),
    };
    Signal { frequencies, modulation, cadence, dbfs: -20.0 }
}

/// Returns what a caller hears when the far line is in use.
#[must_use]
pub const fn busy(country: Country) -> Signal {
    let (frequencies, cadence) = match country {
        Country::Cn => ([450.0, 0.0], [350, 350, 0, 0]),
        Country::Us => ([480.0, 620.0], [500, 500, 0, 0]),
        Country::Uk => ([400.0, 0.0], [375, 375, 0, 0]),
        Country::De => ([425.0, 0.0], [480, 480, 0, 0]),
        Country::Fr => ([440.0, 0.0], [500, 500, 0, 0]),
        Country::Ru => ([425.0, 0.0], [350, 350, 0, 0]),
        Country::In => ([400.0, 0.0], [750, 750, 0, 0]),
        Country::Jp => ([400.0, 0.0], [500, 500, 0, 0]),
        Country::Sg => ([425.0, 0.0], [750, 750, 0, 0]),
        Country::Br => ([425.0, 0.0], [250, 250, 0, 0]),
    };
    Signal { frequencies, modulation: 0.0, cadence, dbfs: -20.0 }
}

/// Returns what a caller hears when the network is full.
#[must_use]
pub const fn congestion(country: Country) -> Signal {
    let (frequencies, cadence) = match country {
        Country::Cn => ([450.0, 0.0], [700, 700, 0, 0]),
        Country::Us => ([480.0, 620.0], [250, 250, 0, 0]),
        Country::Uk => ([400.0, 0.0], [400, 350, 225, 525]),
        Country::De => ([425.0, 0.0], [240, 240, 0, 0]),
        Country::Fr => ([440.0, 0.0], [250, 250, 0, 0]),
        Country::Ru => ([425.0, 0.0], [175, 175, 0, 0]),
        Country::In => ([400.0, 0.0], [250, 250, 0, 0]),
        Country::Jp => ([400.0, 0.0], [500, 500, 0, 0]),
        Country::Sg => ([425.0, 0.0], [250, 250, 0, 0]),
        Country::Br => ([425.0, 0.0], [250, 250, 750, 250]),
    };
    Signal { frequencies, modulation: 0.0, cadence, dbfs: -20.0 }
}

/// Returns the cadence of the tone before an announcement, in milliseconds on and off, where it is not the usual
/// one of three rising tones.
#[must_use]
pub const fn information(country: Country) -> Option<&'static [(u32, u32)]> {
    match country {
        Country::Cn => Some(&[(100, 100), (100, 100), (100, 100), (400, 400)]),
        Country::Us
        | Country::Uk
        | Country::De
        | Country::Fr
        | Country::Ru
        | Country::In
        | Country::Jp
        | Country::Sg
        | Country::Br => None,
    }
}

/// Returns the tone of a key without a cadence, `None` when `key` is none.
#[must_use]
pub fn dtmf(key: char, dbfs: f32) -> Option<Signal> {
    let key = key.to_ascii_uppercase();
    KEYS.iter().zip(ROWS).find_map(|(keys, row)| {
        let column = keys.iter().position(|&k| k == key)?;
        Some(Signal { frequencies: [row, COLUMNS[column]], modulation: 0.0, cadence: [0; 4], dbfs })
    })
}

/// Makes the sound of keys pressed one after another at -10 dBFS; what is no key is a pause.
#[must_use]
pub fn dtmf_samples(keys: &str, rate: u32, on_ms: u32, off_ms: u32) -> Vec<i16> {
    let len = |ms: u32| (u64::from(rate) * u64::from(ms) / 1_000) as usize;
    let mut out = Vec::new();
    for key in keys.chars() {
        let mut sound = vec![0; len(on_ms)];
        if let Some(signal) = dtmf(key, -10.0) {
            ToneGenerator::new(rate, signal).fill(&mut sound);
            fade_in(&mut sound, rate, 2);
            fade_out(&mut sound, rate, 2);
        }
        out.extend(sound);
        out.resize(out.len() + len(off_ms), 0);
    }
    out
}

/// Plays a signal for as long as it is asked to.
#[derive(Clone, Debug)]
pub struct ToneGenerator {
    rate: f32,
    signal: Signal,
    amplitude: f32,
    /// Phases of the two frequencies and the modulation, in turns.
    phases: [f32; 3],
    /// Which part of the cadence, and the samples left of it.
    part: usize,
    left: u32,
}

impl ToneGenerator {
    /// Prepares a signal from its beginning.
    #[must_use]
    pub fn new(rate: u32, signal: Signal) -> Self {
        let sounding = signal.frequencies.iter().filter(|&&hz| hz > 0.0).count().max(1) as f32;
        // A sine is 3 dB below its peak; the modulation below takes its mean square as 1.
        let amplitude = 32_768.0 * 10f32.powf(signal.dbfs / 20.0) * (2.0 / sounding).sqrt();
        let mut generator =
            Self { rate: rate.max(1) as f32, signal, amplitude, phases: [0.0; 3], part: 3, left: 0 };
        generator.next_part();
        generator
    }

    /// Fills a frame; the next call goes on where this one ends.
    pub fn fill(&mut self, frame: &mut [i16]) {
        for sample in frame {
            if self.left == 0 {
                self.next_part();
            }
            self.left = self.left.saturating_sub(1);
            *sample = if self.part.is_multiple_of(2) { self.next() } else { 0 };
        }
    }

    fn next(&mut self) -> i16 {
        let speeds = [self.signal.frequencies[0], self.signal.frequencies[1], self.signal.modulation];
        let [first, second, modulation] = self.phases.map(|phase| (phase * TAU).sin());
        for (phase, hz) in self.phases.iter_mut().zip(speeds) {
            *phase = (*phase + hz / self.rate).fract();
        }
        let strength = if self.signal.modulation > 0.0 {
            // 80 % deep; the root keeps the mean square.
            (1.0 + 0.8 * modulation) / 1.149
        } else {
            1.0
        };
        clip(self.amplitude * (first * strength + second))
    }

    fn next_part(&mut self) {
        let next = (self.part + 1) % 4;
        self.part = if self.signal.cadence[next] == 0 { 0 } else { next };
        let ms = self.signal.cadence[self.part];
        self.left = if ms == 0 { u32::MAX } else { (f32::from(ms) * self.rate / 1_000.0) as u32 };
        if self.part.is_multiple_of(2) {
            // Begins at a zero crossing, which makes no click.
            self.phases = [0.0; 3];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::rms_dbfs;
    use crate::tone::Goertzel;

    const COUNTRIES: [Country; 10] = [
        Country::Cn,
        Country::Us,
        Country::Uk,
        Country::De,
        Country::Fr,
        Country::Ru,
        Country::In,
        Country::Jp,
        Country::Sg,
        Country::Br,
    ];

    #[test]
    fn ringback_sounds_and_pauses_as_each_network_does_over_and_over() {
        for country in COUNTRIES {
            let signal = ringback(country);
            let mut generator = ToneGenerator::new(8_000, signal);
            let mut at = 0;
            for (part, &ms) in signal.cadence.iter().filter(|&&ms| ms > 0).enumerate().cycle().take(7) {
                let mut sound = vec![0; usize::from(ms) * 8];
                generator.fill(&mut sound);
                let expected = if part % 2 == 0 { -20.0 } else { -100.0 };
                let level = rms_dbfs(&sound);
                assert!((level - expected).abs() < 0.3, "{country:?} at {at} ms: {level:.1} dBFS");
                at += u32::from(ms);
            }
        }
    }

    #[test]
    fn the_frequencies_are_those_asked_for() {
        let mut sound = vec![0; 8_000];
        ToneGenerator::new(8_000, ringback(Country::Us)).fill(&mut sound);
        let power = |hz: f32| Goertzel::new(hz, 8_000).power(&sound);
        assert!(power(440.0) > 1_000.0 * power(460.0));
        assert!((power(440.0) / power(480.0) - 1.0).abs() < 0.05);
    }

    #[test]
    fn a_tone_without_cadence_never_ends() {
        let mut generator = ToneGenerator::new(8_000, dtmf('5', -20.0).unwrap());
        let mut frame = [0; 160];
        for _ in 0..1_000 {
            generator.fill(&mut frame);
        }
        assert!(rms_dbfs(&frame) > -21.0);
        assert_eq!(dtmf('x', -20.0), None);
    }
}
