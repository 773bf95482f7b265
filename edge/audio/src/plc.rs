//! Conceals lost frames, after the idea of ITU-T G.711 Appendix I.
//!
//! The last pitch period is repeated while a loss lasts, fading out from 10 ms to 60 ms, and the
//! speech that returns is blended in. Appendix I delays all sound by 3.75 ms to smooth the first join;
//! here the join is smoothed by removing the step between the last sample and the repeated period,
//! because the delay would be paid by every frame and the join only by lost ones.
//!
//! Where the sound behind the gap is there already, as in a jitter buffer that holds more than a frame, it is
//! extended backwards in the same way, and the gap goes over from the one to the other
//! ([0036](../../../shared/docs/adr/0036-a-gap-is-filled-from-both-sides.md)).

use crate::clip;

/// Fills gaps of one stream at 8 kHz. Give it every frame in order, good or lost.
#[derive(Clone, Debug)]
pub struct Plc {
    /// The last samples played, oldest first.
    history: [f32; HISTORY],
    /// The same when the loss began.
    past: [f32; HISTORY],
    ahead: Extension,
    /// Samples concealed in this loss so far.
    concealed: usize,
}

impl Default for Plc {
    fn default() -> Self {
        Self::new()
    }
}

impl Plc {
    /// Begins with silence.
    #[must_use]
    pub fn new() -> Self {
        Self { history: [0.0; HISTORY], past: [0.0; HISTORY], ahead: Extension::none(), concealed: 0 }
    }

    /// Takes a frame that arrived; after a loss, its beginning is blended with the concealment.
    pub fn good(&mut self, frame: &mut [i16]) {
        if self.concealed > 0 {
            // A quarter period, and 4 ms more for each 10 ms of loss, at most 10 ms.
            let overlap = (self.ahead.pitch / 4 + self.concealed / 80 * 32).clamp(20, 80).min(frame.len());
            for (n, sample) in frame[..overlap].iter_mut().enumerate() {
                let share = share(n, overlap);
                *sample = clip(f32::from(*sample) * share + self.faded() * (1.0 - share));
            }
            self.concealed = 0;
        }
        self.remember(frame);
    }

    /// Fills a frame that is lost.
    pub fn conceal(&mut self, frame: &mut [i16]) {
        for sample in frame.iter_mut() {
            *sample = clip(self.extend());
        }
        self.remember(frame);
    }

    /// Fills a frame that is lost, when the sound behind it is known: 20 ms of it at least, 40 ms are better.
    pub fn conceal_before(&mut self, frame: &mut [i16], following: &[i16]) {
        if following.len() < LEAST_FOLLOWING {
            self.conceal(frame);
            return;
        }
        let len = frame.len();
        for (n, sample) in frame.iter_mut().enumerate() {
            *sample = clip(self.extend() * (1.0 - share(n, len)));
        }
        let mut reversed = [0.0; MOST_FOLLOWING];
        let known = following.len().min(MOST_FOLLOWING);
        for (slot, &sample) in reversed[..known].iter_mut().rev().zip(following) {
            *slot = f32::from(sample);
        }
        let mut back = Extension::of(&reversed[..known]);
        for (n, sample) in frame.iter_mut().enumerate().rev() {
            *sample = clip(f32::from(*sample) + back.next() * share(n, len));
        }
        // What follows is run into already.
        self.concealed = 0;
        self.remember(frame);
    }

    /// Forgets the past, as for a new stream.
    pub fn reset(&mut self) {
        *self = Self::new();
    }

    /// The next concealed sample.
    fn extend(&mut self) -> f32 {
        if self.concealed == 0 {
            self.past = self.history;
            self.ahead = Extension::of(&self.past);
        } else if self.concealed == LENGTHEN_AT || self.concealed == LENGTHEN_AT * 2 {
            // One period over and over sounds like a buzzer: take two, then three.
            self.ahead.lengthen(&self.past);
        }
        let sample = self.faded();
        self.concealed += 1;
        sample
    }

    fn faded(&mut self) -> f32 {
        let fade = (self.concealed.saturating_sub(FADE_FROM)) as f32 / (FADE_TO - FADE_FROM) as f32;
        self.ahead.next() * (1.0 - fade).max(0.0)
    }

    fn remember(&mut self, frame: &[i16]) {
        let frame = &frame[frame.len().saturating_sub(HISTORY)..];
        self.history.copy_within(frame.len().., 0);
        for (slot, &sample) in self.history[HISTORY - frame.len()..].iter_mut().zip(frame) {
            *slot = f32::from(sample);
        }
    }
}

/// What sound would be if it went on as it was.
#[derive(Clone, Debug)]
struct Extension {
    /// The piece that is repeated, ending with the last good sample.
    period: [f32; MAX_PITCH * 3],
    period_len: usize,
    pitch: usize,
    /// Where in the period we are.
    at: usize,
    /// Step to remove at the join, fading.
    step: f32,
}

impl Extension {
    fn none() -> Self {
        Self { period: [0.0; MAX_PITCH * 3], period_len: 0, pitch: 0, at: 0, step: 0.0 }
    }

    /// Extends sound of [`LEAST_FOLLOWING`] samples or more.
    fn of(past: &[f32]) -> Self {
        let mut extension = Self { pitch: find_pitch(past), ..Self::none() };
        extension.lengthen(past);
        extension.at = 0;
        if let [.., before, last] = past {
            extension.step = last + (last - before) - extension.period[0];
        }
        extension
    }

    /// Takes one period more, and makes its end run into its beginning.
    fn lengthen(&mut self, past: &[f32]) {
        if self.period_len >= self.pitch * 3 {
            return;
        }
        // The same samples go on, now one period later in the longer piece.
        self.at += self.pitch;
        self.period_len += self.pitch;
        let start = past.len() - self.period_len;
        self.period[..self.period_len].copy_from_slice(&past[start..]);
        let overlap = self.pitch / 4;
        for n in 0..overlap {
            let share = share(n, overlap);
            let sample = &mut self.period[self.period_len - overlap + n];
            *sample = *sample * (1.0 - share) + past[start - overlap + n] * share;
        }
    }

    fn next(&mut self) -> f32 {
        if self.period_len == 0 {
            return 0.0;
        }
        let sample = self.period[self.at] + self.step;
        self.step *= STEP_DECAY;
        self.at = (self.at + 1) % self.period_len;
        sample
    }
}

/// The share of what comes in at `n` of `len`, between 0 and 1.
fn share(n: usize, len: usize) -> f32 {
    (n + 1) as f32 / (len + 1) as f32
}

/// The lag at which the end of sound, 20 ms where there is as much, resembles what was before most.
fn find_pitch(sound: &[f32]) -> usize {
    let window = WINDOW.min(sound.len() / 2);
    let longest = MAX_PITCH.min(sound.len() - window);
    let mut likeness = [0.0f32; MAX_PITCH + 1];
    for (lag, likeness) in likeness[..=longest].iter_mut().enumerate().skip(MIN_PITCH) {
        *likeness = self::likeness(sound, window, lag);
    }
    let strongest = |from: usize, to: usize| {
        (from..=to).max_by(|&a, &b| likeness[a].total_cmp(&likeness[b])).unwrap_or(from)
    };
    let best = strongest(MIN_PITCH, longest);
    // Twice the period fits as well as the period, and sounds rougher.
    for part in [3, 2] {
        let lag = best / part;
        if lag > MIN_PITCH {
            let near = strongest(lag - 1, lag + 2);
            if likeness[near] > 0.85 * likeness[best] {
                return near;
            }
        }
    }
    best
}

fn likeness(sound: &[f32], window: usize, lag: usize) -> f32 {
    let now = &sound[sound.len() - window..];
    let before = &sound[sound.len() - window - lag..sound.len() - lag];
    let (mut product, mut energy) = (0.0, 0.0);
    for (a, b) in now.iter().zip(before) {
        product += a * b;
        energy += b * b;
    }
    product / energy.max(1_000.0).sqrt()
}

/// 200 Hz … 66 Hz, as Appendix I.
const MIN_PITCH: usize = 40;
const MAX_PITCH: usize = 120;

/// Samples compared: 20 ms.
const WINDOW: usize = 160;

/// Three of the longest periods and a quarter of one: 48.75 ms, as Appendix I.
const HISTORY: usize = MAX_PITCH * 3 + MAX_PITCH / 4;

/// Of what follows a gap: 20 ms show periods of 10 ms, and 40 ms the longest.
const LEAST_FOLLOWING: usize = 160;
const MOST_FOLLOWING: usize = 320;

const FADE_FROM: usize = 80;
const FADE_TO: usize = 480;

/// Appendix I takes the second period after 10 ms. Within one lost frame the nearest period alone is
/// closer to the truth, so it is taken after 20.
const LENGTHEN_AT: usize = 160;

/// The step at the join is gone within some 2 ms.
const STEP_DECAY: f32 = 0.85;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::rms_dbfs;
    use proptest::prelude::*;

    /// A voice-like sound: harmonics of 125 Hz.
    fn voiced(from: usize, len: usize) -> Vec<i16> {
        (from..from + len)
            .map(|n| {
                let phase = n as f32 * 125.0 / 8_000.0 * std::f32::consts::TAU;
                ((phase.sin() + 0.6 * (2.0 * phase + 0.7).sin() + 0.4 * (5.0 * phase).sin()) * 5_000.0) as i16
            })
            .collect()
    }

    fn error_db(a: &[i16], b: &[i16]) -> f32 {
        let error: Vec<i16> = a.iter().zip(b).map(|(a, b)| a.wrapping_sub(*b)).collect();
        rms_dbfs(&error) - rms_dbfs(a)
    }

    #[test]
    fn a_lost_frame_of_a_steady_voice_is_nearly_restored() {
        let mut plc = Plc::new();
        for frame in 0..5 {
            plc.good(&mut voiced(frame * 160, 160));
        }
        let mut lost = [0; 160];
        plc.conceal(&mut lost);
        let expected = voiced(5 * 160, 160);
        assert!(error_db(&expected[..80], &lost[..80]) < -20.0);
        assert!(error_db(&expected, &lost) < -10.0);
        // And what returns is joined without a step.
        let mut back = voiced(6 * 160, 160);
        plc.good(&mut back);
        let step = (i32::from(back[0]) - i32::from(lost[159])).abs();
        assert!(step < 3_000, "a step of {step}");
        assert_eq!(back[100..], voiced(6 * 160, 160)[100..]);
    }

    #[test]
    fn the_join_has_no_step_larger_than_the_voice_itself() {
        let mut plc = Plc::new();
        for frame in 0..5 {
            plc.good(&mut voiced(frame * 160 + 37, 160));
        }
        let steepest =
            voiced(0, 800).windows(2).map(|w| (i32::from(w[1]) - i32::from(w[0])).abs()).max().unwrap();
        let last = i32::from(voiced(4 * 160 + 37, 160)[159]);
        let mut lost = [0; 160];
        plc.conceal(&mut lost);
        assert!((i32::from(lost[0]) - last).abs() <= steepest * 5 / 4);
    }

    #[test]
    fn a_long_loss_fades_to_silence_after_60_ms() {
        let mut plc = Plc::new();
        for frame in 0..5 {
            plc.good(&mut voiced(frame * 160, 160));
        }
        let mut levels = Vec::new();
        for _ in 0..5 {
            let mut lost = [0; 160];
            plc.conceal(&mut lost);
            levels.push(rms_dbfs(&lost));
        }
        assert!(levels.is_sorted_by(|a, b| a >= b), "{levels:?}");
        assert!(levels[3] < -80.0, "{levels:?}");
    }

    /// A voice whose pitch and strength rise, as they do within a word.
    fn rising(from: usize, len: usize) -> Vec<i16> {
        (from..from + len)
            .map(|n| {
                let t = n as f32 / 8_000.0;
                let phase = (110.0 * t + 100.0 * t * t) * std::f32::consts::TAU;
                let strength = 3_000.0 + 30_000.0 * t;
                ((phase.sin() + 0.6 * (2.0 * phase + 0.7).sin() + 0.4 * (5.0 * phase).sin()) * strength)
                    as i16
            })
            .collect()
    }

    #[test]
    fn a_gap_with_a_known_other_side_is_filled_better_than_one_without() {
        let gained = |known: usize| {
            let gains = (5..15).map(|lost_at| {
                let mut plc = Plc::new();
                for frame in 0..lost_at {
                    plc.good(&mut rising(frame * 160, 160));
                }
                let (truth, following) = (rising(lost_at * 160, 160), rising(lost_at * 160 + 160, known));
                let (mut blind, mut seeing) = ([0; 160], [0; 160]);
                plc.clone().conceal(&mut blind);
                plc.conceal_before(&mut seeing, &following);
                error_db(&truth, &blind) - error_db(&truth, &seeing)
            });
            gains.sum::<f32>() / 10.0
        };
        for known in [160, 320] {
            assert!(gained(known) > 2.0, "{} dB with {known} samples", gained(known));
        }
        assert_eq!(gained(159), 0.0);
    }

    #[test]
    fn what_was_filled_from_both_sides_runs_into_what_follows_untouched() {
        let mut plc = Plc::new();
        for frame in 0..5 {
            plc.good(&mut voiced(frame * 160, 160));
        }
        let mut lost = [0; 160];
        plc.conceal_before(&mut lost, &voiced(6 * 160, 320));
        let mut back = voiced(6 * 160, 160);
        plc.good(&mut back);
        assert_eq!(back, voiced(6 * 160, 160));
        let step = (i32::from(back[0]) - i32::from(lost[159])).abs();
        assert!(step < 2_000, "a step of {step}");
    }

    #[test]
    fn nothing_heard_conceals_as_nothing() {
        let mut plc = Plc::default();
        let mut lost = [99; 160];
        plc.conceal(&mut lost);
        assert_eq!(lost, [0; 160]);
    }

    #[test]
    fn good_frames_pass_untouched() {
        let mut plc = Plc::new();
        let mut frame = voiced(0, 160);
        plc.good(&mut frame);
        assert_eq!(frame, voiced(0, 160));
    }

    proptest! {
        #[test]
        fn any_sound_with_any_losses_panics_nothing(
            frames in proptest::collection::vec((0..3, any::<i16>(), 0usize..400, 0usize..400), 0..40),
        ) {
            let mut plc = Plc::new();
            for (what, value, len, known) in frames {
                let mut frame = vec![value; len];
                match what {
                    0 => plc.conceal(&mut frame),
                    1 => plc.conceal_before(&mut frame, &vec![value.wrapping_neg(); known]),
                    _ => plc.good(&mut frame),
                }
            }
        }
    }
}
