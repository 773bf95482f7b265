//! What is heard before the answer: the network's tones, its announcements, or what is played instead of ringing.
//!
//! Tones and their cadence come first, then music, then words. A colour ring is music, or speech that is no
//! announcement: the far telephone rings, and nothing ends.

use std::collections::VecDeque;
use std::f32::consts::TAU;
use std::fmt;

use crate::announcement::{self, Announcement, announcement};
use crate::tone::{Country, Goertzel, HeardTone, ProgressDetector, ProgressTone};
use crate::{FRAME, announcement_after_answer, clip};

/// What a sound before the answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EarlySound {
    /// A tone of the network.
    Tone(ProgressTone),
    /// Music or speech that the called person has callers hear instead of ringing.
    ColourRing,
    /// The network says what is the matter.
    Announcement(Announcement),
    /// The network asks to wait.
    Hold,
}

impl EarlySound {
    /// Returns the word that stands in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tone(tone) => tone.as_str(),
            Self::ColourRing => "colour_ring",
            Self::Announcement(announcement) => announcement.as_str(),
            Self::Hold => "hold",
        }
    }
}

/// A verdict on what is heard before the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct EarlyVerdict {
    /// What it is.
    pub what: EarlySound,
    /// Milliseconds of sound until then.
    pub at_ms: u64,
    /// What it was recognised by, for people.
    pub evidence: String,
}

/// Listens to one call that is not answered, 20 ms after 20 ms.
#[derive(Debug)]
pub struct EarlyListener {
    progress: ProgressDetector,
    music: Music,
    frames: u64,
    /// Pieces of speech that say nothing that a network says.
    other_words: u32,
    is_ring_told: bool,
}

impl EarlyListener {
    /// Listens with the tones of `country`.
    #[must_use]
    pub fn new(country: Country) -> Self {
        Self {
            progress: ProgressDetector::new(country),
            music: Music::new(),
            frames: 0,
            other_words: 0,
            is_ring_told: false,
        }
    }

    /// Takes the next 20 ms and returns what is new. A colour ring is told once.
    pub fn push(&mut self, frame: &[i16; FRAME]) -> Option<EarlyVerdict> {
        self.frames += 1;
        if let Some(HeardTone { tone, at_ms, evidence }) = self.progress.push(frame) {
            return Some(EarlyVerdict { what: EarlySound::Tone(tone), at_ms, evidence });
        }
        self.music.push(frame, self.progress.is_tone());
        if self.is_ring_told {
            return None;
        }
        let evidence = self.music.evidence()?;
        Some(self.ring(evidence))
    }

    /// Takes in what was recognised of a piece of it, however little; nothing where no words were.
    pub fn handle_words(&mut self, text: &str) -> Option<EarlyVerdict> {
        if let Some(part) = announcement::asks_to_wait(text) {
            return Some(self.verdict(EarlySound::Hold, format!("the words `{part}`")));
        }
        if let Some((what, part)) = announcement(text) {
            return Some(self.verdict(EarlySound::Announcement(what), format!("the words `{part}`")));
        }
        // What the network says may also be misheard, or new to us.
        if text.is_empty() || announcement_after_answer(text).is_some() {
            return None;
        }
        self.other_words += 1;
        if self.is_ring_told || self.other_words < WORDS_OF_RING {
            return None;
        }
        Some(self.ring(format!("{} times words that no network says", self.other_words)))
    }

    fn ring(&mut self, evidence: String) -> EarlyVerdict {
        self.is_ring_told = true;
        self.verdict(EarlySound::ColourRing, evidence)
    }

    fn verdict(&self, what: EarlySound, evidence: String) -> EarlyVerdict {
        EarlyVerdict { what, at_ms: self.frames * FRAME_MS, evidence }
    }
}

/// Tells music by its notes: partials that keep their pitch while they sound, several at once, and others after them.
/// The partials of a voice glide.
struct Music {
    filters: Vec<Goertzel>,
    /// The last 60 ms.
    window: [i16; WINDOW],
    /// Hann's window, so that one strong partial does not look like many.
    hann: [f32; WINDOW],
    powers: Vec<f32>,
    /// Partials that sound: where each began, in Hz, and for how many frames.
    partials: Vec<(f32, u32)>,
    /// The last seconds: whether a frame held sound, notes, and how many notes began in it.
    seen: VecDeque<Seen>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    sounds: bool,
    notes: bool,
    begun: u32,
}

impl Music {
    fn new() -> Self {
        let filters = (0..BINS).map(|n| Goertzel::new(LOWEST_HZ + n as f32 * STEP_HZ, 8_000)).collect();
        Self {
            filters,
            window: [0; WINDOW],
            hann: std::array::from_fn(|n| 1.0 - (TAU * (n as f32 + 0.5) / WINDOW as f32).cos()),
            powers: vec![0.0; BINS],
            partials: Vec::with_capacity(BINS),
            seen: VecDeque::with_capacity(SPAN),
        }
    }

    fn push(&mut self, frame: &[i16; FRAME], tone: bool) {
        self.window.copy_within(FRAME.., 0);
        self.window[WINDOW - FRAME..].copy_from_slice(frame);
        if self.seen.len() == SPAN {
            self.seen.pop_front();
        }
        let power = self.window.iter().map(|s| f32::from(*s).powi(2)).sum::<f32>() / WINDOW as f32;
        if tone || power < QUIETEST {
            self.partials.clear();
            self.seen.push_back(Seen::default());
            return;
        }
        let mut faded = [0; WINDOW];
        for ((faded, sample), share) in faded.iter_mut().zip(&self.window).zip(&self.hann) {
            *faded = clip(f32::from(*sample) * share / 2.0);
        }
        for (power, filter) in self.powers.iter_mut().zip(&self.filters) {
            *power = 4.0 * filter.power(&faded);
        }
        let begun = self.follow(power);
        let steady = self.partials.iter().filter(|(_, frames)| *frames >= NOTE_FRAMES).count();
        self.seen.push_back(Seen { sounds: true, notes: steady >= AT_ONCE, begun });
    }

    /// Goes on with the partials that keep their pitch; returns how many have just become notes.
    fn follow(&mut self, power: f32) -> u32 {
        let before = std::mem::take(&mut self.partials);
        let mut begun = 0;
        for n in 1..BINS - 1 {
            let (left, here, right) = (self.powers[n - 1], self.powers[n], self.powers[n + 1]);
            if here < left || here <= right || here < power * WEAKEST {
                continue;
            }
            // The top of a parabola through the three.
            let shift = 0.5 * (left - right) / (left - 2.0 * here + right).min(-f32::EPSILON);
            let hz = LOWEST_HZ + (n as f32 + shift.clamp(-0.5, 0.5)) * STEP_HZ;
            let same = before.iter().find(|(from, _)| (from - hz).abs() <= DRIFT_HZ);
            let (from, frames) = same.map_or((hz, 1), |(from, frames)| (*from, frames + 1));
            begun += u32::from(frames == NOTE_FRAMES);
            self.partials.push((from, frames));
        }
        begun
    }

    /// Returns why this is music, if it is.
    fn evidence(&self) -> Option<String> {
        let (mut sounds, mut notes, mut begun) = (0, 0, 0);
        for seen in &self.seen {
            sounds += u32::from(seen.sounds);
            notes += u32::from(seen.notes);
            begun += seen.begun;
        }
        let share = f64::from(notes) / f64::from(sounds.max(1));
        let is_music = sounds as usize >= SPAN / 2 && share >= SHARE && begun >= LEAST_BEGUN;
        is_music.then(|| {
            let seconds = f64::from(sounds) * FRAME_MS as f64 / 1_000.0;
            format!("music: {begun} notes in {seconds:.1} s, several at once in {:.0} % of it", share * 100.0)
        })
    }
}

impl fmt::Debug for Music {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Music").field("partials", &self.partials).finish_non_exhaustive()
    }
}

const FRAME_MS: u64 = 20;
/// As often must something be said that is no announcement.
const WORDS_OF_RING: u32 = 2;
/// About -42 dBFS, as mean square.
const QUIETEST: f32 = 260.0 * 260.0;
const WINDOW: usize = 480;
/// Below, voices glide too little to be told.
const LOWEST_HZ: f32 = 400.0;
const STEP_HZ: f32 = 12.5;
const BINS: usize = 145;
/// Share of the power that a partial has at least.
const WEAKEST: f32 = 0.005;
/// A note keeps its pitch within this.
const DRIFT_HZ: f32 = 6.0;
/// A note lasts 160 ms or more.
const NOTE_FRAMES: u32 = 8;
/// So many partials sound at once.
const AT_ONCE: usize = 2;
/// What is looked at: 4 s.
const SPAN: usize = 200;
/// Voices reach 0.05, in a cry, and music seldom stays below 0.35.
const SHARE: f64 = 0.2;
const LEAST_BEGUN: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Codec;
    use crate::channel::{telephone_channel, white_noise};
    use crate::music::hold_music;
    use crate::tone::{ToneGenerator, busy, congestion, ringback};

    fn verdicts(country: Country, sound: &[i16]) -> Vec<EarlySound> {
        let mut listener = EarlyListener::new(country);
        let frames = sound.chunks_exact(FRAME).map(|frame| <&[i16; FRAME]>::try_from(frame).unwrap());
        frames.filter_map(|frame| listener.push(frame)).map(|verdict| verdict.what).collect()
    }

    #[test]
    fn music_instead_of_ringing_is_a_colour_ring_and_no_tone_of_the_network() {
        for seed in 0..20 {
            let sound = telephone_channel(&hold_music(20 * 8_000, -20.0, seed), Codec::Pcma);
            let found = verdicts(Country::Cn, &sound);
            assert_eq!(found, [EarlySound::ColourRing], "seed {seed}");
        }
    }

    #[test]
    fn tones_noise_keys_and_silence_are_no_colour_ring() {
        for country in [Country::Cn, Country::Us, Country::Uk, Country::In, Country::Jp, Country::Sg] {
            for signal in [ringback(country), busy(country), congestion(country)] {
                let mut sound = vec![0; 20 * 8_000];
                ToneGenerator::new(8_000, signal).fill(&mut sound);
                let found = verdicts(country, &telephone_channel(&sound, Codec::Pcma));
                assert!(!found.contains(&EarlySound::ColourRing), "{country:?}: {found:?}");
            }
        }
        for sound in [
            white_noise(160_000, -20.0, 5),
            vec![0; 160_000],
            crate::tone::dtmf_samples("1234567890*#", 8_000, 350, 350),
        ] {
            assert_eq!(verdicts(Country::Cn, &sound), []);
        }
    }

    #[test]
    fn words_that_no_network_says_are_a_colour_ring_the_second_time() {
        let mut listener = EarlyListener::new(Country::Cn);
        assert_eq!(listener.handle_words("春天里的那个百花香"), None);
        assert_eq!(listener.handle_words(""), None);
        let verdict = listener.handle_words("朗里格朗里格朗").unwrap();
        assert_eq!(verdict.what, EarlySound::ColourRing);
        assert!(verdict.evidence.contains("2 times"), "{}", verdict.evidence);
        assert_eq!(listener.handle_words("朗里格朗里格朗"), None, "it is told once");
        let what = listener.handle_words("您拨打的电话暂时无人接听").map(|verdict| verdict.what);
        assert_eq!(what, Some(EarlySound::Announcement(Announcement::NoAnswer)), "also after a ring");
    }

    #[test]
    fn an_announcement_that_asks_to_wait_or_is_not_understood_is_no_colour_ring() {
        let mut listener = EarlyListener::new(Country::Cn);
        for _ in 0..3 {
            let what =
                listener.handle_words("您拨打的电话正在通话中，请不要挂机").map(|verdict| verdict.what);
            assert_eq!(what, Some(EarlySound::Hold));
            assert_eq!(listener.handle_words("您不打的电话与关系"), None);
        }
    }
}
