//! Voice activity: is somebody speaking right now?
//!
//! Two witnesses and a judge. [`SileroVad`] is a small neural network that knows a voice from a
//! lorry but answers some 50 ms late and blurs the edges; [`EnergyVad`] knows the edges to 20 ms but
//! takes every sound for a voice. [`SpeechDetector`] starts speech when the network is convinced and
//! dates its beginning and end by the energy.
//!
//! All positions are counts of 8 kHz samples since the first one pushed: time is what the sound says,
//! not when a thread ran, so latencies can be derived from a recording.
//!
//! No clock, no thread, no audio device here.

mod energy;
mod silero;

pub use energy::{EnergyFrame, EnergyVad};
pub use silero::{SileroError, SileroModel, SileroVad};

/// Samples per second of the telephone.
pub const TELEPHONE_RATE: u32 = 8_000;
/// Samples in the frame that decisions are made on: 20 ms.
pub const FRAME: usize = 160;

/// Limits of a [`SpeechDetector`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DetectorConfig {
    /// Probability above which silence may become speech, 0 to 1.
    pub on: f32,
    /// Probability below which speech may become silence.
    pub off: f32,
    /// Speech that must have been heard before it counts, in ms.
    pub start_ms: u32,
    /// Silence after which speech is said to have stopped, in ms.
    pub stop_ms: u32,
}

impl Default for DetectorConfig {
    fn default() -> Self {
        Self { on: 0.5, off: 0.3, start_ms: 60, stop_ms: 120 }
    }
}

/// A change between speech and silence. Positions are in samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpeechEvent {
    /// Somebody speaks since `at`.
    Started {
        /// Where the sound began; earlier than the moment this is said.
        at: u64,
    },
    /// Nobody has spoken since `at`.
    Stopped {
        /// Where the sound ended; at least `stop_ms` before the moment this is said.
        at: u64,
    },
}

/// Tells speech from everything else, frame by frame.
#[derive(Debug)]
pub struct SpeechDetector {
    config: DetectorConfig,
    silero: Option<SileroVad>,
    energy: EnergyVad,
    pending: Vec<i16>,
    position: u64,
    speaking: bool,
    /// Frames of evidence for speech gathered in silence.
    rise: u32,
    /// Where the sound that may become speech began.
    rise_at: u64,
    /// End of the last frame that had sound above the floor, in silence or not.
    loud_until: u64,
    voice_end: u64,
    voiced: u64,
    last: EnergyFrame,
    probability: f32,
    failures: u32,
}

impl SpeechDetector {
    /// Starts with nothing heard. Without a model, energy decides alone.
    pub fn new(model: Option<&SileroModel>, config: DetectorConfig) -> Self {
        Self {
            config,
            silero: model.map(SileroVad::new),
            energy: EnergyVad::new(),
            pending: Vec::with_capacity(2 * FRAME),
            position: 0,
            speaking: false,
            rise: 0,
            rise_at: 0,
            loud_until: 0,
            voice_end: 0,
            voiced: 0,
            last: EnergyFrame::SILENT,
            probability: 0.0,
            failures: 0,
        }
    }

    /// Changes the limits from here on.
    pub fn configure(&mut self, config: DetectorConfig) {
        self.config = config;
    }

    /// Returns the limits.
    pub fn config(&self) -> DetectorConfig {
        self.config
    }

    /// Takes sound of any length and reports what changed in it, in order.
    pub fn push(&mut self, pcm: &[i16], mut changed: impl FnMut(SpeechEvent)) {
        // Frames of 20 ms come in whole; anything else is cut here.
        if self.pending.is_empty() && pcm.len() == FRAME {
            if let Some(event) = self.frame(pcm) {
                changed(event);
            }
            return;
        }
        self.pending.extend_from_slice(pcm);
        let mut pending = std::mem::take(&mut self.pending);
        let mut frames = pending.chunks_exact(FRAME);
        for frame in &mut frames {
            if let Some(event) = self.frame(frame) {
                changed(event);
            }
        }
        let left = frames.remainder().len();
        pending.drain(..pending.len() - left);
        self.pending = pending;
    }

    /// Returns how many samples have been judged.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Tells whether somebody speaks.
    pub fn is_speaking(&self) -> bool {
        self.speaking
    }

    /// Returns the samples since the voice was last heard; 0 while it is.
    pub fn silence(&self) -> u64 {
        self.position - self.voice_end.min(self.position)
    }

    /// Returns where the voice was last heard.
    pub fn voice_end(&self) -> u64 {
        self.voice_end
    }

    /// Returns the samples of voice heard so far, pauses left out. It only grows.
    pub fn voiced(&self) -> u64 {
        self.voiced
    }

    /// Returns the network's last word, 0 to 1; 0 or 1 by energy without one.
    pub fn probability(&self) -> f32 {
        self.probability
    }

    /// Returns the level of the last frame.
    pub fn energy(&self) -> EnergyFrame {
        self.last
    }

    /// Returns how often the network failed; each time energy stepped in.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    fn frame(&mut self, pcm: &[i16]) -> Option<SpeechEvent> {
        let begin = self.position;
        self.position += FRAME as u64;
        let end = self.position;
        self.last = self.energy.frame(pcm);
        self.ask(pcm);

        let loud = self.last.active;
        if loud && begin > self.loud_until + u64::from(TELEPHONE_RATE / 50) * 3 {
            // The sound that may turn out to be speech began here.
            self.rise_at = begin;
        }
        if loud {
            self.loud_until = end;
        }
        if self.speaking { self.while_speaking(loud, end) } else { self.while_silent(loud, end) }
    }

    /// Asks the network; its answer covers the last whole window.
    fn ask(&mut self, pcm: &[i16]) {
        let by_energy = if self.last.active { 1.0 } else { 0.0 };
        let Some(silero) = self.silero.as_mut() else {
            self.probability = by_energy;
            return;
        };
        match silero.push(pcm) {
            Ok(Some(probability)) => self.probability = probability,
            Ok(None) => {}
            Err(error) => {
                // A call must go on with half a detector rather than none.
                if self.failures == 0 {
                    tracing::warn!(%error, "Voice activity model failed; energy decides alone");
                }
                self.failures += 1;
                self.probability = by_energy;
            }
        }
    }

    fn while_silent(&mut self, loud: bool, end: u64) -> Option<SpeechEvent> {
        if self.probability < self.config.on {
            self.rise = 0;
            return None;
        }
        // A frame that convinces fully counts for two.
        self.rise += if self.probability > 0.9 { 2 } else { 1 };
        if loud {
            self.voiced += FRAME as u64;
        }
        if self.rise * 20 < self.config.start_ms {
            return None;
        }
        self.rise = 0;
        self.speaking = true;
        // The network is late by two of its windows at most: an earlier beginning is another sound.
        let earliest = end.saturating_sub(u64::from(TELEPHONE_RATE) * 3 / 10);
        let at = if self.loud_until > earliest { self.rise_at.max(earliest) } else { end - FRAME as u64 };
        let at = at.max(self.voice_end);
        self.voice_end = end;
        Some(SpeechEvent::Started { at })
    }

    fn while_speaking(&mut self, loud: bool, end: u64) -> Option<SpeechEvent> {
        if loud && self.probability >= self.config.off {
            self.voice_end = end;
            self.voiced += FRAME as u64;
            return None;
        }
        let silent_ms = self.silence() * 1_000 / u64::from(TELEPHONE_RATE);
        let agreed = self.probability < self.config.off;
        if agreed && silent_ms >= u64::from(self.config.stop_ms) {
            self.speaking = false;
            return Some(SpeechEvent::Stopped { at: self.voice_end });
        }
        if !agreed && silent_ms >= 3 * u64::from(self.config.stop_ms) {
            // A voice too soft to rise above the noise: believe the network for the last frame.
            self.voice_end = end;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A voice without words: a 150 Hz buzz in syllables of 200 ms.
    fn buzz(samples: usize, level: f32) -> Vec<i16> {
        (0..samples)
            .map(|n| {
                let t = n as f32 / 8_000.0;
                let tone: f32 =
                    (1..12).map(|k| (std::f32::consts::TAU * 150.0 * k as f32 * t).sin() / k as f32).sum();
                let syllable = 0.55 + 0.45 * (std::f32::consts::TAU * 5.0 * t).sin();
                (tone * syllable * level * 0.5) as i16
            })
            .collect()
    }

    fn hiss(samples: usize, level: i32) -> Vec<i16> {
        let mut state = 0x1234_5678u32;
        (0..samples)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((state >> 16) as i32 % (2 * level + 1) - level) as i16
            })
            .collect()
    }

    fn events(detector: &mut SpeechDetector, pcm: &[i16], chunk: usize) -> Vec<SpeechEvent> {
        let mut events = Vec::new();
        for part in pcm.chunks(chunk) {
            detector.push(part, |event| events.push(event));
        }
        events
    }

    fn within(event: SpeechEvent, expected: u64, slack: u64) -> bool {
        let (SpeechEvent::Started { at } | SpeechEvent::Stopped { at }) = event;
        at.abs_diff(expected) <= slack
    }

    #[test]
    fn by_energy_alone_edges_are_dated_to_a_frame_or_two() {
        let mut detector = SpeechDetector::new(None, DetectorConfig::default());
        let mut sound = hiss(8_000, 20);
        sound.extend(buzz(8_000, 6_000.0));
        sound.extend(hiss(8_000, 20));
        let events = events(&mut detector, &sound, 160);
        assert_eq!(events.len(), 2, "{events:?}");
        assert!(
            matches!(events[0], SpeechEvent::Started { .. }) && within(events[0], 8_000, 400),
            "{events:?}"
        );
        assert!(
            matches!(events[1], SpeechEvent::Stopped { .. }) && within(events[1], 16_000, 800),
            "{events:?}"
        );
        assert!(detector.silence() >= 7_000);
        assert!((5_000..9_000).contains(&detector.voiced()), "{}", detector.voiced());
    }

    #[test]
    fn the_size_of_the_pieces_makes_no_difference() {
        let mut sound = hiss(4_000, 20);
        sound.extend(buzz(6_000, 4_000.0));
        sound.extend(hiss(4_000, 20));
        let whole = events(&mut SpeechDetector::new(None, DetectorConfig::default()), &sound, 160);
        for chunk in [1, 79, 161, 320, 14_000] {
            let mut detector = SpeechDetector::new(None, DetectorConfig::default());
            assert_eq!(events(&mut detector, &sound, chunk), whole, "pieces of {chunk}");
        }
    }

    #[test]
    fn steady_noise_is_no_speech_once_its_level_is_known() {
        let mut detector = SpeechDetector::new(None, DetectorConfig::default());
        let noise = hiss(80_000, 1_200);
        let late = events(&mut detector, &noise[..16_000], 160).len();
        let events = events(&mut detector, &noise[16_000..], 160);
        assert!(
            events.iter().all(|e| matches!(e, SpeechEvent::Stopped { .. })),
            "{late} before, then {events:?}"
        );
    }

    #[test]
    fn the_network_dates_the_edges_of_a_real_voice() {
        let Some(model) = silero::tests::model() else { return };
        let Some(pcm) = silero::tests::recording("digits", 12_000) else { return };
        let mut sound = vec![0; 8_000];
        let begin = sound.len();
        sound.extend(&pcm);
        let end = sound.len();
        sound.extend(vec![0; 8_000]);
        let mut detector = SpeechDetector::new(Some(&model), DetectorConfig::default());
        let events = events(&mut detector, &sound, 160);
        assert!(events.len() >= 2 && events.len().is_multiple_of(2), "{events:?}");
        let (SpeechEvent::Started { at } | SpeechEvent::Stopped { at }) = events[0];
        assert!(at as usize + 800 >= begin && (at as usize) < end, "{events:?}, voice in {begin}..{end}");
        let (SpeechEvent::Started { at } | SpeechEvent::Stopped { at }) = events[events.len() - 1];
        assert!((at as usize) < end + 800, "{events:?}, voice in {begin}..{end}");
        assert_eq!(detector.failures(), 0);
    }
}
