//! How somebody speaks: pitch, loudness, pace and pauses of a turn, against the same caller's turns before.
//!
//! Sound goes in by [`Prosody::push`]; when a turn has paused, [`Prosody::measure`] says how it was spoken and
//! how far that is from this caller's own way so far, and when it has ended [`Prosody::learn`] adds it to that
//! way. Nothing is compared with other people: who always speaks fast and high is calm when speaking fast and
//! high. The first seconds of a caller have nothing to be compared with, and no verdict.
//!
//! | measure | how | source |
//! | --- | --- | --- |
//! | pitch, in semitones | median over voiced frames, see [`pitch`] | |
//! | its range | from the 10th to the 90th percentile | |
//! | loudness, in dB | mean power of the frames that speak | |
//! | pace, nuclei per second | peaks of the level with dips of 2 dB between them, where there is a voice | de Jong and Wempe 2009 |
//! | pauses | share of the turn that is quiet for 200 ms or more | |
//!
//! Arousal weighs how far the first four are above the caller's usual, in units of how much they vary from
//! sentence to sentence of calm readers: all four rise in anger, and in joy (Juslin and Laukka 2003). It is the
//! voice's excitement and nothing else. The weights were set by hand, not learnt, and were never tried on
//! recordings of angry people.
//!
//! **Invariant:** no clock and no I/O: times are positions in the sound pushed so far.
//! **Invariant:** memory is fixed at the beginning, and nothing is allocated while sound comes in.

use crate::vad::TELEPHONE_RATE;

mod pitch;

use pitch::{SPAN, pitch};

/// Samples from one look to the next: 20 ms.
const HOP: usize = TELEPHONE_RATE as usize / 50;
/// Looks in a second.
const PER_S: f32 = 50.0;
/// Looks that are remembered: the longest turn and a second before it.
const REMEMBERED: usize = 30 * 50;
/// What is softer than this, in dB to full scale, has no pitch worth knowing.
const SOFTEST_DBFS: f32 = -58.0;
/// Frames this far under the loudest tenth of a turn are no speech, in dB.
const ACTIVE_DB: f32 = 22.0;
/// The shortest voice that is judged, in voiced frames: 0.24 s.
const SHORTEST: usize = 12;
/// A gap from this on is a pause, in frames.
const PAUSE: usize = 10;
/// A peak of the level counts when the level falls so far before the next, in dB.
const DIP_DB: f32 = 2.0;
/// Frames whose pitch is further from the median than this, in semitones, are slips by an octave.
const OCTAVE_SLIP: f32 = 8.0;
/// Voice that must have been heard of a caller before anything is compared, in seconds.
const KNOWN_S: f32 = 1.5;
/// After so much voice a caller's way changes no faster than over so much, in seconds.
const MEMORY_S: f32 = 20.0;
/// What one turn weighs at most, in seconds of voice.
const TURN_S: f32 = 4.0;
/// Voice after which half of a difference is believed, in seconds.
const BELIEVED_S: f32 = 1.5;

/// How calm speakers vary from one sentence to the next, as one standard deviation: pitch and its range in
/// semitones, loudness in dB, pace in nuclei per second. As `trunkctl speech bench prosody` finds it in readers;
/// loudness a third more, since a telephone is not held as still in a conversation.
const USUAL: Way = Way { pitch: 1.1, range: 1.7, loudness: 2.4, pace: 0.7, pauses: 0.11 };

/// How one turn was spoken, or how a caller speaks in general.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Way {
    /// Median pitch, in semitones above 55 Hz.
    pub pitch: f32,
    /// How far the pitch moves, from the 10th to the 90th percentile, in semitones.
    pub range: f32,
    /// Mean power while speaking, in dB to full scale.
    pub loudness: f32,
    /// Nuclei of syllables per second, pauses left out.
    pub pace: f32,
    /// Share of the turn that is pauses of 200 ms or more, 0 to 1.
    pub pauses: f32,
}

/// What is said about a turn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spoken {
    /// How it was spoken.
    pub way: Way,
    /// Voice in it, in seconds.
    pub voiced_s: f32,
    /// Against this caller's turns before; `None` while too little of them is known.
    pub against: Option<Against>,
}

/// A turn against the same caller's turns before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Against {
    /// Higher (or lower) by so many semitones.
    pub pitch_st: f32,
    /// Louder (or softer) by so many dB.
    pub loudness_db: f32,
    /// Faster (above 1) or slower, as a factor.
    pub pace: f32,
    /// More (or less) of the turn is pauses, as a share.
    pub pauses: f32,
    /// Excitement of the voice, from -1, far calmer than usual, over 0, as usual, to 1.
    pub arousal: f32,
}

/// One look at the sound.
#[derive(Debug, Clone, Copy, Default)]
struct Frame {
    /// In dB to full scale.
    level: f32,
    /// In semitones above 55 Hz; 0 where there is no voice.
    pitch: f32,
}

/// Listens to how one caller speaks.
#[derive(Debug)]
pub struct Prosody {
    /// The newest samples, oldest first; `fresh` of them came since the last look.
    sound: [f32; SPAN],
    fresh: usize,
    frames: Box<[Frame]>,
    /// Frames looked at so far; the newest is at `(looked - 1) % REMEMBERED`.
    looked: u64,
    scratch: Vec<f32>,
    usual: Option<Way>,
    known_s: f32,
}

impl Default for Prosody {
    fn default() -> Self {
        Self {
            sound: [0.0; SPAN],
            fresh: 0,
            frames: vec![Frame::default(); REMEMBERED].into(),
            looked: 0,
            scratch: Vec::with_capacity(REMEMBERED),
            usual: None,
            known_s: 0.0,
        }
    }
}

impl Prosody {
    /// Takes the next sound, 8 kHz, in pieces of any length.
    pub fn push(&mut self, mut pcm: &[i16]) {
        while !pcm.is_empty() {
            let n = pcm.len().min(HOP - self.fresh);
            let (now, later) = pcm.split_at(n);
            self.sound.copy_within(n.., 0);
            for (slot, sample) in self.sound[SPAN - n..].iter_mut().zip(now) {
                *slot = f32::from(*sample) / 32_768.0;
            }
            self.fresh += n;
            pcm = later;
            if self.fresh == HOP {
                self.fresh = 0;
                self.look();
            }
        }
    }

    /// Says how the turn from `from_ms` to `to_ms` was spoken, positions in the sound pushed so far; `None` when
    /// there is too little voice in it to say anything, or it is forgotten already.
    pub fn measure(&mut self, from_ms: u64, to_ms: u64) -> Option<Spoken> {
        let (way, voiced) = self.way(from_ms, to_ms)?;
        let voiced_s = voiced as f32 / PER_S;
        let known = self.usual.filter(|_| self.known_s >= KNOWN_S);
        let against = known.map(|usual| {
            // Little voice says little, of a turn as of a caller.
            let belief = (voiced_s / (voiced_s + 0.2)) * (self.known_s / (self.known_s + BELIEVED_S));
            Against {
                pitch_st: way.pitch - usual.pitch,
                loudness_db: way.loudness - usual.loudness,
                pace: way.pace / usual.pace.max(0.5),
                pauses: way.pauses - usual.pauses,
                arousal: arousal(&way, &usual) * belief,
            }
        });
        Some(Spoken { way, voiced_s, against })
    }

    /// Adds a turn that is over to what is usual for this caller. An excited one counts for less, so that anger
    /// does not become usual at once.
    pub fn learn(&mut self, from_ms: u64, to_ms: u64) {
        let Some(Spoken { way, voiced_s, against }) = self.measure(from_ms, to_ms) else { return };
        let excited = against.map_or(0.0, |against| against.arousal.clamp(0.0, 1.0));
        let weight = voiced_s.min(TURN_S) * (1.0 - 0.8 * excited);
        let share = weight / (self.known_s + weight);
        let mix = |old: f32, new: f32| old + share * (new - old);
        self.usual = Some(match self.usual {
            None => way,
            Some(old) => Way {
                pitch: mix(old.pitch, way.pitch),
                range: mix(old.range, way.range),
                loudness: mix(old.loudness, way.loudness),
                pace: mix(old.pace, way.pace),
                pauses: mix(old.pauses, way.pauses),
            },
        });
        self.known_s = (self.known_s + weight).min(MEMORY_S);
    }

    /// Returns what is usual for this caller, once anything is known.
    pub fn usual(&self) -> Option<Way> {
        self.usual
    }

    fn look(&mut self) {
        let newest = &self.sound[SPAN - HOP..];
        let power = newest.iter().map(|s| s * s).sum::<f32>() / HOP as f32;
        let level = 10.0 * power.max(1e-10).log10();
        let hz = (level > SOFTEST_DBFS).then(|| pitch(&self.sound)).flatten();
        let frame = Frame { level, pitch: hz.map_or(0.0, |hz| 12.0 * (hz / 55.0).log2()) };
        let at = (self.looked % REMEMBERED as u64) as usize;
        if let Some(slot) = self.frames.get_mut(at) {
            *slot = frame;
        }
        self.looked += 1;
    }

    fn frame(&self, at: u64) -> Frame {
        self.frames.get((at % REMEMBERED as u64) as usize).copied().unwrap_or_default()
    }

    /// Returns how a stretch was spoken, and how many voiced frames that rests on.
    fn way(&mut self, from_ms: u64, to_ms: u64) -> Option<(Way, usize)> {
        let hop_ms = 1_000 / PER_S as u64;
        let oldest = self.looked.saturating_sub(REMEMBERED as u64);
        let from = (from_ms / hop_ms).max(oldest);
        let to = to_ms.div_ceil(hop_ms).min(self.looked);
        if to <= from {
            return None;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let found = self.way_of(from, to, &mut scratch);
        scratch.clear();
        self.scratch = scratch;
        found
    }

    fn way_of(&self, from: u64, to: u64, scratch: &mut Vec<f32>) -> Option<(Way, usize)> {
        fill(scratch, (from..to).map(|at| self.frame(at).level));
        let floor = share_of(scratch, 0.9)? - ACTIVE_DB;
        let speaks = |at: u64| self.frame(at).level >= floor;
        let first = (from..to).find(|at| speaks(*at))?;
        let last = (from..to).rfind(|at| speaks(*at))?;

        let voiced = |at: &u64| speaks(*at) && self.frame(*at).pitch > 0.0;
        fill(scratch, (first..=last).filter(voiced).map(|at| self.frame(at).pitch));
        let median = share_of(scratch, 0.5)?;
        scratch.retain(|pitch| (pitch - median).abs() < OCTAVE_SLIP);
        let count = scratch.len();
        if count < SHORTEST {
            return None;
        }
        let (pitch, low, high) = (share_of(scratch, 0.5)?, share_of(scratch, 0.1)?, share_of(scratch, 0.9)?);

        let (mut power, mut active, mut paused, mut gap) = (0.0, 0usize, 0usize, 0usize);
        for at in first..=last {
            if speaks(at) {
                power += 10f32.powf(self.frame(at).level / 10.0);
                active += 1;
                paused += if gap >= PAUSE { gap } else { 0 };
                gap = 0;
            } else {
                gap += 1;
            }
        }
        let all = (last - first + 1) as usize;
        let speaking_s = (all - paused) as f32 / PER_S;
        let way = Way {
            pitch,
            range: high - low,
            loudness: 10.0 * (power / active.max(1) as f32).max(1e-10).log10(),
            pace: self.nuclei(first, last, floor) as f32 / speaking_s.max(0.2),
            pauses: paused as f32 / all as f32,
        };
        Some((way, count))
    }

    /// Counts the nuclei of syllables: peaks of the smoothed level where there is a voice, with a dip before the
    /// next.
    fn nuclei(&self, first: u64, last: u64, floor: f32) -> usize {
        let smooth = |at: u64| {
            let near = at.saturating_sub(1).max(first)..=(at + 1).min(last);
            let count = near.end() - near.start() + 1;
            near.map(|at| self.frame(at).level.max(floor - 6.0)).sum::<f32>() / count as f32
        };
        let (mut count, mut rising, mut voiced) = (0, true, false);
        let (mut high, mut low) = (f32::NEG_INFINITY, f32::INFINITY);
        for at in first..=last {
            let level = smooth(at);
            if rising && level > high {
                high = level;
                voiced = self.frame(at).pitch > 0.0;
            } else if rising && high - level >= DIP_DB {
                count += usize::from(voiced);
                (rising, low) = (false, level);
            } else if !rising {
                low = low.min(level);
                if level - low >= DIP_DB {
                    (rising, high, voiced) = (true, level, self.frame(at).pitch > 0.0);
                }
            }
        }
        count + usize::from(rising && voiced)
    }
}

/// How far above usual the four measures are that rise with excitement, -1 to 1.
fn arousal(way: &Way, usual: &Way) -> f32 {
    // One measure that is far off, by an octave slip or a door that slams, must not decide alone.
    let off = |now: f32, then: f32, unit: f32| ((now - then) / unit).clamp(-4.0, 4.0);
    let sum = 0.4 * off(way.pitch, usual.pitch, USUAL.pitch)
        + 0.1 * off(way.range, usual.range, USUAL.range)
        + 0.35 * off(way.loudness, usual.loudness, USUAL.loudness)
        + 0.15 * off(way.pace, usual.pace, USUAL.pace);
    (sum / 2.0).tanh()
}

fn fill(scratch: &mut Vec<f32>, values: impl Iterator<Item = f32>) {
    scratch.clear();
    scratch.extend(values.take(REMEMBERED));
}

/// The value below which `share` of the values lie; sorts them.
fn share_of(values: &mut [f32], share: f32) -> Option<f32> {
    values.sort_unstable_by(f32::total_cmp);
    values.get(((values.len().saturating_sub(1)) as f32 * share).round() as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A voice without its fundamental, in syllables of 200 ms each; `pace` is syllables per second.
    fn speech(hz: f32, level: f32, pace: f32, seconds: f32) -> Vec<i16> {
        let samples = (seconds * TELEPHONE_RATE as f32) as usize;
        (0..samples)
            .map(|n| {
                let t = n as f32 / TELEPHONE_RATE as f32;
                let tone: f32 = (1..40)
                    .map(|k| (hz * k as f32, k))
                    .filter(|(f, _)| (300.0..3_400.0).contains(f))
                    .map(|(f, k)| (std::f32::consts::TAU * f * t + k as f32).cos() / k as f32)
                    .sum();
                let syllable = 0.5 - 0.5 * (std::f32::consts::TAU * pace * t).cos();
                (tone * syllable * level) as i16
            })
            .collect()
    }

    /// Says a turn with a pause behind it; returns where it began and ended.
    fn say(prosody: &mut Prosody, at: &mut u64, sound: &[i16]) -> (u64, u64) {
        let from = *at;
        prosody.push(sound);
        prosody.push(&[0; 4_000]);
        *at += sound.len() as u64 / 8 + 500;
        (from, *at - 500)
    }

    fn caller(hz: f32, level: f32) -> (Prosody, u64) {
        let (mut prosody, mut at) = (Prosody::default(), 0);
        for _ in 0..3 {
            let (from, to) = say(&mut prosody, &mut at, &speech(hz, level, 4.0, 2.0));
            prosody.learn(from, to);
        }
        (prosody, at)
    }

    fn arousal_of(hz: f32, level: f32, pace: f32) -> f32 {
        let (mut prosody, mut at) = caller(120.0, 3_000.0);
        let (from, to) = say(&mut prosody, &mut at, &speech(hz, level, pace, 2.0));
        prosody.measure(from, to).unwrap().against.unwrap().arousal
    }

    #[test]
    fn higher_louder_and_faster_than_usual_is_excited_and_the_contrary_is_not() {
        let usual = arousal_of(120.0, 3_000.0, 4.0);
        assert!(usual.abs() < 0.1, "{usual}");
        let raised = [
            arousal_of(143.0, 3_000.0, 4.0),
            arousal_of(120.0, 6_000.0, 4.0),
            arousal_of(120.0, 3_000.0, 5.5),
        ];
        assert!(raised.iter().all(|arousal| *arousal > usual + 0.05), "{usual} {raised:?}");
        assert!(arousal_of(143.0, 6_000.0, 5.5) > 0.5);
        assert!(arousal_of(104.0, 1_500.0, 3.0) < -0.4);
    }

    #[test]
    fn the_first_words_of_a_caller_are_compared_with_nothing_and_a_yes_is_too_short() {
        let (mut prosody, mut at) = (Prosody::default(), 0);
        let (from, to) = say(&mut prosody, &mut at, &speech(220.0, 9_000.0, 6.0, 2.0));
        assert_eq!(prosody.measure(from, to).unwrap().against, None);
        let (mut prosody, mut at) = caller(120.0, 3_000.0);
        let (from, to) = say(&mut prosody, &mut at, &speech(200.0, 9_000.0, 4.0, 0.15));
        assert_eq!(prosody.measure(from, to), None);
        assert_eq!(prosody.measure(at + 60_000, at + 61_000), None, "it was never heard");
    }

    #[test]
    fn a_call_that_is_softer_all_through_is_judged_the_same() {
        let at_level = |factor: f32| {
            let (mut prosody, mut at) = caller(150.0, 3_000.0 * factor);
            let (from, to) = say(&mut prosody, &mut at, &speech(180.0, 5_000.0 * factor, 4.0, 2.0));
            prosody.measure(from, to).unwrap().against.unwrap().arousal
        };
        let (usual, soft) = (at_level(1.0), at_level(0.1));
        assert!((usual - soft).abs() < 0.03, "{usual} {soft}");
    }

    #[test]
    fn who_gets_used_to_anger_is_still_seen_to_be_angry_for_a_while() {
        let (mut prosody, mut at) = caller(120.0, 3_000.0);
        for turn in 0..3 {
            let (from, to) = say(&mut prosody, &mut at, &speech(160.0, 8_000.0, 5.5, 2.0));
            let arousal = prosody.measure(from, to).unwrap().against.unwrap().arousal;
            assert!(arousal > 0.5, "turn {turn}: {arousal}");
            prosody.learn(from, to);
        }
    }

    #[test]
    fn pieces_of_any_length_give_the_same_and_syllables_are_counted() {
        let sound = speech(140.0, 4_000.0, 4.0, 3.0);
        let whole = {
            let mut prosody = Prosody::default();
            prosody.push(&sound);
            prosody.measure(0, 3_000)
        };
        let way = whole.unwrap().way;
        assert!((way.pitch - 12.0 * (140.0f32 / 55.0).log2()).abs() < 0.5, "{way:?}");
        assert!((3.3..4.7).contains(&way.pace), "{way:?}");
        for length in [1, 33, 160, 161, 4_000] {
            let mut prosody = Prosody::default();
            sound.chunks(length).for_each(|piece| prosody.push(piece));
            assert_eq!(prosody.measure(0, 3_000), whole, "pieces of {length}");
        }
    }
}
