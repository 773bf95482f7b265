//! Hearing how a call gets on: ringback, busy, congestion, information tones, fax.
//!
//! Sources: ITU-T E.180 and its Supplement 2 for the tones of each network, E.180 §7 for the information tone, ITU-T
//! T.30 §4.1 for fax. A frame of 20 ms tells frequencies 50 Hz apart, so that 440 and 450 Hz are one: what a tone
//! means is decided by its cadence.

use std::collections::VecDeque;
use std::fmt;

use super::{Country, Goertzel, Signal, busy, congestion, information, ringback};
use crate::FRAME;

/// A tone of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProgressTone {
    /// The far telephone rings.
    Ringback,
    /// The far line is in use, or was hung up.
    Busy,
    /// The network is full.
    Congestion,
    /// An announcement follows: the number is not what it should be.
    Information,
    /// A fax machine, calling or answering.
    Fax,
}

impl ProgressTone {
    /// Returns the word that stands in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ringback => "ringback",
            Self::Busy => "busy",
            Self::Congestion => "congestion",
            Self::Information => "information",
            Self::Fax => "fax",
        }
    }
}

/// A tone that was recognised.
#[derive(Clone, Debug, PartialEq)]
pub struct HeardTone {
    /// Which.
    pub tone: ProgressTone,
    /// Milliseconds of sound until then.
    pub at_ms: u64,
    /// What it was recognised by, for people.
    pub evidence: String,
}

/// Hears the tones of one country's network, 20 ms after 20 ms.
pub struct ProgressDetector {
    bands: [Vec<Goertzel>; BANDS.len()],
    patterns: Vec<Pattern>,
    frames: u64,
    cadence: Cadence,
    sit: Sit,
    steady: (Option<Band>, u32),
    told: Option<ProgressTone>,
}

/// Where the energy of a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Band {
    /// 350 to 650 Hz: ringback, busy and congestion everywhere.
    Call,
    /// The three parts of the information tone.
    First,
    Second,
    Third,
    /// 1,100 Hz: a fax calls.
    FaxCalls,
    /// 2,100 Hz: a fax or a modem answers.
    FaxAnswers,
}

/// The bands with the centres of their filters, in Hz.
const BANDS: [(Band, &[f32]); 6] = [
    (Band::Call, &[350.0, 400.0, 450.0, 500.0, 550.0, 600.0, 650.0]),
    (Band::First, &[900.0, 950.0, 1_000.0]),
    (Band::Second, &[1_350.0, 1_400.0, 1_450.0]),
    (Band::Third, &[1_750.0, 1_800.0, 1_850.0]),
    (Band::FaxCalls, &[1_050.0, 1_100.0, 1_150.0]),
    (Band::FaxAnswers, &[2_050.0, 2_100.0, 2_150.0]),
];

const FRAME_MS: u32 = 20;
/// About -42 dBFS, as mean square: below, nothing is heard.
const QUIETEST: f32 = 260.0 * 260.0;
/// A tone holds this share of a frame's energy.
const PURE: f32 = 0.72;
/// Longer sound of another kind between two tones is an announcement, music or somebody who speaks.
const DIRT_FRAMES: u32 = 3;

#[derive(Clone, Debug)]
struct Pattern {
    tone: ProgressTone,
    /// Milliseconds of sound and of silence, in turn.
    pairs: Vec<(u32, u32)>,
    /// How many of them must be heard one after another.
    need: usize,
}

impl Pattern {
    fn of(tone: ProgressTone, signal: &Signal) -> Self {
        let pairs: Vec<(u32, u32)> = signal
            .cadence
            .chunks_exact(2)
            .filter(|pair| pair[0] > 0)
            .map(|pair| (u32::from(pair[0]), u32::from(pair[1])))
            .collect();
        // A long cadence is its own proof; a short one needs more of it.
        let need = match (tone, pairs.len()) {
            (ProgressTone::Ringback, 1) => 1,
            (_, 1) => 3,
            (_, pairs) => pairs.max(2) + 1,
        };
        Self { tone, pairs, need }
    }

    /// Tells whether the newest of `heard` are this cadence, begun anywhere in it.
    fn fits(&self, heard: &VecDeque<(u32, u32)>) -> bool {
        let Some(from) = heard.len().checked_sub(self.need) else { return false };
        (0..self.pairs.len()).any(|turn| {
            heard.iter().skip(from).enumerate().all(|(at, (on, off))| {
                let (wanted_on, wanted_off) = self.pairs[(turn + at) % self.pairs.len()];
                near(*on, wanted_on) && near(*off, wanted_off)
            })
        })
    }
}

/// Networks keep their cadences to a tenth or so; frames add their own 20 ms.
fn near(heard: u32, wanted: u32) -> bool {
    heard.abs_diff(wanted) <= (wanted * 3 / 20).max(45)
}

#[derive(Clone, Debug, Default)]
struct Cadence {
    /// Frames of sound and of silence since the tone began last.
    on: u32,
    off: u32,
    dirt: u32,
    heard: VecDeque<(u32, u32)>,
}

impl Cadence {
    /// Takes a frame in; true when a sound and the silence behind it are complete.
    fn push(&mut self, tone: bool, dirty: bool) -> bool {
        if tone {
            let complete = self.on > 0 && self.off > 0;
            if complete {
                if self.heard.len() == 8 {
                    self.heard.pop_front();
                }
                self.heard.push_back((self.on * FRAME_MS, self.off * FRAME_MS));
                (self.on, self.off) = (0, 0);
            }
            self.dirt = 0;
            self.on += 1;
            return complete;
        }
        self.dirt = if dirty { self.dirt + 1 } else { 0 };
        if self.dirt >= DIRT_FRAMES || self.off * FRAME_MS > 7_000 {
            *self = Self::default();
        } else if self.on > 0 {
            self.off += 1;
        }
        false
    }
}

/// How far an information tone is.
#[derive(Clone, Copy, Debug, Default)]
struct Sit {
    part: usize,
    frames: u32,
    gap: u32,
}

impl Sit {
    /// Takes a frame in; true when the third part has sounded.
    fn push(&mut self, band: Option<Band>) -> bool {
        const PARTS: [Band; 3] = [Band::First, Band::Second, Band::Third];
        if band == Some(PARTS[self.part]) {
            self.frames += 1;
            self.gap = 0;
            // A part lasts 330 ms, in some networks 270.
            if self.part == 2 && self.frames * FRAME_MS == 200 {
                *self = Self::default();
                return true;
            }
            return false;
        }
        let next = PARTS.get(self.part + 1).copied();
        if next.is_some() && band == next && (200..=460).contains(&(self.frames * FRAME_MS)) {
            *self = Self { part: self.part + 1, frames: 1, gap: 0 };
            return false;
        }
        self.gap += 1;
        if self.gap > 3 {
            *self = Self::default();
        }
        false
    }
}

impl ProgressDetector {
    /// Listens for the tones of `country`, and for fax and the information tone of any.
    #[must_use]
    pub fn new(country: Country) -> Self {
        let mut patterns = vec![
            Pattern::of(ProgressTone::Ringback, &ringback(country)),
            Pattern::of(ProgressTone::Busy, &busy(country)),
            Pattern::of(ProgressTone::Congestion, &congestion(country)),
        ];
        if let Some(pairs) = information(country) {
            let need = pairs.len();
            patterns.push(Pattern { tone: ProgressTone::Information, pairs: pairs.to_vec(), need });
        }
        Self {
            bands: BANDS.map(|(_, centres)| centres.iter().map(|hz| Goertzel::new(*hz, 8_000)).collect()),
            patterns,
            frames: 0,
            cadence: Cadence::default(),
            sit: Sit::default(),
            steady: (None, 0),
            told: None,
        }
    }

    /// Takes the next 20 ms and returns a tone when it is recognised; each is told once, until another one is.
    pub fn push(&mut self, frame: &[i16; FRAME]) -> Option<HeardTone> {
        self.frames += 1;
        let power = frame.iter().map(|s| f32::from(*s).powi(2)).sum::<f32>() / FRAME as f32;
        let sounds = power >= QUIETEST;
        let band = if sounds { self.band(frame, power) } else { None };
        self.steady =
            if band.is_some() && band == self.steady.0 { (band, self.steady.1 + 1) } else { (band, 1) };

        let found = if self.sit.push(band) {
            Some((ProgressTone::Information, "950, 1400 and 1800 Hz one after another".to_owned()))
        } else {
            let complete = self.cadence.push(band == Some(Band::Call), sounds);
            self.fax().or_else(|| if complete { self.by_cadence() } else { None })
        };
        let (tone, evidence) = found.filter(|(tone, _)| self.told != Some(*tone))?;
        self.told = Some(tone);
        Some(HeardTone { tone, at_ms: self.frames * u64::from(FRAME_MS), evidence })
    }

    /// Whether the last frame was a tone as networks use them, of whatever meaning.
    pub(crate) fn is_tone(&self) -> bool {
        self.steady.0.is_some()
    }

    fn band(&self, frame: &[i16], power: f32) -> Option<Band> {
        BANDS.iter().zip(&self.bands).find_map(|((band, _), filters)| {
            let inside: f32 = filters.iter().map(|filter| filter.power(frame)).sum();
            (inside >= PURE * power).then_some(*band)
        })
    }

    fn fax(&self) -> Option<(ProgressTone, String)> {
        let ms = self.steady.1 * FRAME_MS;
        match self.steady.0 {
            // 0.5 s every 3 s; a beep of that pitch is shorter.
            Some(Band::FaxCalls) if ms == 440 => Some((ProgressTone::Fax, "1100 Hz for 440 ms".to_owned())),
            Some(Band::FaxAnswers) if ms == 1_000 => {
                Some((ProgressTone::Fax, "2100 Hz for 1000 ms".to_owned()))
            }
            Some(_) | None => None,
        }
    }

    fn by_cadence(&self) -> Option<(ProgressTone, String)> {
        let pattern = self.patterns.iter().find(|pattern| pattern.fits(&self.cadence.heard))?;
        let (on, off) = self.cadence.heard.back()?;
        let evidence = format!("a tone below 650 Hz, {on} ms on and {off} ms off, {} times", pattern.need);
        Some((pattern.tone, evidence))
    }
}

impl fmt::Debug for ProgressDetector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgressDetector").field("frames", &self.frames).field("told", &self.told).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Codec;
    use crate::channel::{mix_at_snr, telephone_channel, white_noise};
    use crate::tone::ToneGenerator;

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

    fn heard(country: Country, sound: &[i16]) -> Vec<HeardTone> {
        let mut detector = ProgressDetector::new(country);
        let frames = sound.chunks_exact(FRAME).map(|frame| <&[i16; FRAME]>::try_from(frame).unwrap());
        frames.filter_map(|frame| detector.push(frame)).collect()
    }

    fn tones(country: Country, sound: &[i16]) -> Vec<ProgressTone> {
        heard(country, sound).into_iter().map(|heard| heard.tone).collect()
    }

    fn signal(signal: Signal, seconds: usize) -> Vec<i16> {
        let mut sound = vec![0; seconds * 8_000];
        ToneGenerator::new(8_000, signal).fill(&mut sound);
        sound
    }

    #[test]
    fn every_networks_tones_are_told_apart_through_noise_and_wherever_they_begin() {
        for country in COUNTRIES {
            for (wanted, played) in [
                (ProgressTone::Ringback, ringback(country)),
                (ProgressTone::Busy, busy(country)),
                (ProgressTone::Congestion, congestion(country)),
            ] {
                for cut in [0, 1_337, 3_001] {
                    let mut sound = signal(played, 14);
                    let noise = white_noise(sound.len(), -20.0, 9);
                    mix_at_snr(&mut sound, &noise, 8_000, 25.0);
                    let sound = telephone_channel(&sound[cut..], Codec::Pcma);
                    // In Japan one cadence means both.
                    let same = busy(country).cadence == congestion(country).cadence;
                    let wanted =
                        if same && wanted == ProgressTone::Congestion { ProgressTone::Busy } else { wanted };
                    assert_eq!(tones(country, &sound), [wanted], "{country:?} from sample {cut}");
                }
            }
        }
    }

    #[test]
    fn a_busy_line_is_known_within_some_cycles() {
        let found = heard(Country::Cn, &signal(busy(Country::Cn), 10));
        assert!((1_400..=2_500).contains(&found[0].at_ms), "{found:?}");
        assert!(found[0].evidence.contains("3 times"), "{found:?}");
    }

    #[test]
    fn the_information_tone_is_known_by_its_three_parts_in_their_order() {
        let part = |hz: f32| {
            let mut sound = vec![0; 2_640];
            let tone = Signal { frequencies: [hz, 0.0], modulation: 0.0, cadence: [0; 4], dbfs: -20.0 };
            ToneGenerator::new(8_000, tone).fill(&mut sound);
            sound
        };
        let up = [part(950.0), part(1_400.0), part(1_800.0), vec![0; 8_000]].concat();
        assert_eq!(tones(Country::De, &up), [ProgressTone::Information]);
        let down = [part(1_800.0), part(1_400.0), part(950.0), vec![0; 8_000]].concat();
        assert_eq!(tones(Country::De, &down), []);
    }

    #[test]
    fn chinas_information_tone_is_known_by_its_cadence() {
        let mut sound = Vec::new();
        for _ in 0..4 {
            for (on, off) in information(Country::Cn).unwrap() {
                let mut part = vec![0; *on as usize * 8];
                let steady = Signal { cadence: [0; 4], ..busy(Country::Cn) };
                ToneGenerator::new(8_000, steady).fill(&mut part);
                sound.extend(part);
                sound.resize(sound.len() + *off as usize * 8, 0);
            }
        }
        assert_eq!(tones(Country::Cn, &sound), [ProgressTone::Information]);
    }

    #[test]
    fn neither_noise_nor_keys_nor_silence_are_tones_of_the_network() {
        assert_eq!(tones(Country::Cn, &white_noise(400_000, -20.0, 5)), []);
        assert_eq!(tones(Country::Us, &crate::tone::dtmf_samples("1234567890*#", 8_000, 350, 350)), []);
        assert_eq!(tones(Country::Cn, &vec![0; 80_000]), []);
    }

    #[test]
    fn a_line_that_rings_and_then_is_busy_is_told_as_both() {
        let sound = [signal(ringback(Country::Cn), 11), signal(busy(Country::Cn), 5)].concat();
        assert_eq!(tones(Country::Cn, &sound), [ProgressTone::Ringback, ProgressTone::Busy]);
    }
}
