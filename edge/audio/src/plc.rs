//! Conceals lost frames, after the idea of ITU-T G.711 Appendix I.
//!
//! The last pitch period is repeated while a loss lasts, fading out from 10 ms to 60 ms, and the
//! speech that returns is blended in. Appendix I delays all sound by 3.75 ms to smooth the first join;
//! here the join is smoothed by removing the step between the last sample and the repeated period,
//! because the delay would be paid by every frame and the join only by lost ones.

use crate::clip;

/// Fills gaps of one stream at 8 kHz. Give it every frame in order, good or lost.
#[derive(Clone, Debug)]
pub struct Plc {
    /// The last samples played, oldest first.
    history: [f32; HISTORY],
    /// The same when the loss began.
    past: [f32; HISTORY],
    /// The piece that is repeated, ending with the last good sample.
    period: [f32; MAX_PITCH * 3],
    period_len: usize,
    pitch: usize,
    /// Where in the period we are.
    at: usize,
    /// Samples concealed in this loss so far.
    concealed: usize,
    /// Step to remove at the join, fading.
    step: f32,
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
        Self {
            history: [0.0; HISTORY],
            past: [0.0; HISTORY],
            period: [0.0; MAX_PITCH * 3],
            period_len: 0,
            pitch: 0,
            at: 0,
            concealed: 0,
            step: 0.0,
        }
    }

    /// Takes a frame that arrived; after a loss, its beginning is blended with the concealment.
    pub fn good(&mut self, frame: &mut [i16]) {
        if self.concealed > 0 {
            // A quarter period, and 4 ms more for each 10 ms of loss, at most 10 ms.
            let overlap = (self.pitch / 4 + self.concealed / 80 * 32).clamp(20, 80).min(frame.len());
            for (n, sample) in frame[..overlap].iter_mut().enumerate() {
                let share = (n + 1) as f32 / (overlap + 1) as f32;
                *sample = clip(f32::from(*sample) * share + self.next() * (1.0 - share));
            }
            self.concealed = 0;
        }
        self.remember(frame);
    }

    /// Fills a frame that is lost.
    pub fn conceal(&mut self, frame: &mut [i16]) {
        for sample in frame.iter_mut() {
            if self.concealed == 0 {
                self.begin();
            } else if self.concealed == LENGTHEN_AT || self.concealed == LENGTHEN_AT * 2 {
                // One period over and over sounds like a buzzer: take two, then three.
                self.lengthen();
            }
            *sample = clip(self.next());
            self.concealed += 1;
        }
        self.remember(frame);
    }

    /// Forgets the past, as for a new stream.
    pub fn reset(&mut self) {
        *self = Self::new();
    }

    fn begin(&mut self) {
        self.past = self.history;
        self.pitch = self.find_pitch();
        self.period_len = 0;
        self.at = 0;
        self.lengthen();
        self.at = 0;
        let [.., before, last] = self.past;
        self.step = last + (last - before) - self.period[0];
    }

    /// Takes one period more, and makes its end run into its beginning.
    fn lengthen(&mut self) {
        if self.period_len >= self.pitch * 3 {
            return;
        }
        // The same samples go on, now one period later in the longer piece.
        self.at += self.pitch;
        self.period_len += self.pitch;
        let start = HISTORY - self.period_len;
        self.period[..self.period_len].copy_from_slice(&self.past[start..]);
        let overlap = self.pitch / 4;
        for n in 0..overlap {
            let share = (n + 1) as f32 / (overlap + 1) as f32;
            let sample = &mut self.period[self.period_len - overlap + n];
            *sample = *sample * (1.0 - share) + self.past[start - overlap + n] * share;
        }
    }

    fn next(&mut self) -> f32 {
        if self.period_len == 0 {
            return 0.0;
        }
        let sample = self.period[self.at] + self.step;
        self.step *= STEP_DECAY;
        self.at = (self.at + 1) % self.period_len;
        let fade = (self.concealed.saturating_sub(FADE_FROM)) as f32 / (FADE_TO - FADE_FROM) as f32;
        sample * (1.0 - fade).max(0.0)
    }

    /// The lag at which the last 20 ms resemble what was before most.
    fn find_pitch(&self) -> usize {
        let mut likeness = [0.0f32; MAX_PITCH + 1];
        for (lag, likeness) in likeness.iter_mut().enumerate().skip(MIN_PITCH) {
            *likeness = self.likeness(lag);
        }
        let strongest = |from: usize, to: usize| {
            (from..=to).max_by(|&a, &b| likeness[a].total_cmp(&likeness[b])).unwrap_or(from)
        };
        let best = strongest(MIN_PITCH, MAX_PITCH);
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

    fn likeness(&self, lag: usize) -> f32 {
        let now = &self.history[HISTORY - WINDOW..];
        let before = &self.history[HISTORY - WINDOW - lag..HISTORY - lag];
        let (mut product, mut energy) = (0.0, 0.0);
        for (a, b) in now.iter().zip(before) {
            product += a * b;
            energy += b * b;
        }
        product / energy.max(1_000.0).sqrt()
    }

    fn remember(&mut self, frame: &[i16]) {
        let frame = &frame[frame.len().saturating_sub(HISTORY)..];
        self.history.copy_within(frame.len().., 0);
        for (slot, &sample) in self.history[HISTORY - frame.len()..].iter_mut().zip(frame) {
            *slot = f32::from(sample);
        }
    }
}

/// 200 Hz … 66 Hz, as Appendix I.
const MIN_PITCH: usize = 40;
const MAX_PITCH: usize = 120;

/// Samples compared: 20 ms.
const WINDOW: usize = 160;

/// Three of the longest periods and a quarter of one: 48.75 ms, as Appendix I.
const HISTORY: usize = MAX_PITCH * 3 + MAX_PITCH / 4;

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
            frames in proptest::collection::vec((any::<bool>(), any::<i16>(), 0usize..400), 0..40),
        ) {
            let mut plc = Plc::new();
            for (lost, value, len) in frames {
                let mut frame = vec![value; len];
                if lost { plc.conceal(&mut frame) } else { plc.good(&mut frame) }
            }
        }
    }
}
