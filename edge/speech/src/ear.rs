//! One ear per call: when a turn begins, pauses, goes on and ends.
//!
//! Sound goes in by [`Ear::push`]; what happened comes out by [`Ear::poll_event`]. At the first pause
//! the call may start to recognise, to judge and to draft an answer; what it learns it tells back
//! ([`Ear::set_turn_probability`], [`Ear::set_hypothesis_matched`]), and the silence needed to end
//! the turn shrinks or grows accordingly. If the caller goes on, [`EarEvent::SpeechResumed`] says
//! which drafts to throw away.
//!
//! ```text
//!   Idle --SpeechStarted--> Speaking --PauseDetected--> Paused --TurnEnded--> Idle
//!                              ^                           |
//!                              +------SpeechResumed--------+
//! ```
//!
//! **Invariant:** no clock: all times are positions in the sound pushed so far.
//! **Invariant:** memory does not grow over a call; the longest turn bounds it.

use std::collections::VecDeque;
use std::time::Duration;

mod endpoint;
mod front;

pub use endpoint::{Endpoint, Verdict, silence_needed};

use front::Front;

use crate::prosody::{Prosody, Spoken};
use crate::recognise::Utterance;
use crate::vad::{DetectorConfig, SileroModel, SpeechDetector, SpeechEvent, TELEPHONE_RATE};

/// Samples per millisecond.
const PER_MS: u64 = TELEPHONE_RATE as u64 / 1_000;
/// Sound kept before a turn, so that its first consonant is whole.
const PRE_ROLL: u64 = 200 * PER_MS;
/// Sound given after the end of the voice: the detector cuts soft ends.
const TAIL: u64 = 160 * PER_MS;
/// Sound kept when nobody speaks: the pre-roll and what the detector takes to decide.
const IDLE_MEMORY: u64 = 1_000 * PER_MS;
/// The longest turn; a recogniser takes 30 s.
const LONGEST_TURN_MS: u32 = 28_000;

/// What a call sets once.
#[derive(Debug, Clone, PartialEq)]
pub struct EarConfig {
    /// Limits of the speech detector while the robot is silent.
    pub detector: DetectorConfig,
    /// Probability that starts speech while a prompt plays: its echo must not.
    pub on_during_prompt: f32,
    /// Speech that must be heard while a prompt plays, in ms.
    pub start_during_prompt_ms: u32,
    /// While a prompt plays, a sound of this length that may be a voice is told at once …
    pub early_ms: u32,
    /// … if the detector gives it at least this probability …
    pub early_on: f32,
    /// … and is taken back when it was not certain within this time.
    pub early_within_ms: u32,
    /// So many sounds taken back in a row show that the line is noisy or echoes: only what is certain is told from
    /// then on, until a voice was.
    pub early_mistakes: u32,
    /// Voice a turn must hold to be one, in ms; less is a click or a cough.
    pub min_voiced_ms: u32,
    /// Quiet, in ms, after which an eager ear calls a pause before the detector is certain of it
    /// ([`Ear::set_eager`]).
    pub eager_ms: u32,
}

impl Default for EarConfig {
    fn default() -> Self {
        Self {
            detector: DetectorConfig::default(),
            on_during_prompt: 0.6,
            start_during_prompt_ms: 60,
            early_ms: 40,
            early_on: 0.2,
            early_within_ms: 240,
            early_mistakes: 2,
            min_voiced_ms: 80,
            eager_ms: 60,
        }
    }
}

/// What a node of the script sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeEar {
    /// What kind of answer is expected.
    pub endpoint: Endpoint,
    /// A turn is ended after this, whatever the caller does; at most 28 s.
    pub max_turn_ms: u32,
}

impl Default for NodeEar {
    fn default() -> Self {
        Self { endpoint: Endpoint::Normal, max_turn_ms: 20_000 }
    }
}

/// Why a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    /// Enough silence for what is known of the turn.
    Silence,
    /// The turn reached `max_turn_ms`; the caller may still be speaking.
    TooLong,
}

/// What the ear noticed. Times are milliseconds since the first sample pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarEvent {
    /// The caller speaks.
    SpeechStarted {
        /// Where the sound began.
        at_ms: u64,
        /// Where it was certain: the difference is the detector's delay.
        decided_ms: u64,
    },
    /// The caller has paused: recognise [`Ear::utterance`] and judge it.
    PauseDetected {
        /// The pause's number, to be given back with what is learned of it.
        pause: u32,
        /// Where the voice ended.
        speech_end_ms: u64,
        /// Voice in the turn so far.
        voiced_ms: u32,
    },
    /// The caller goes on: what was drafted for the pause is void.
    SpeechResumed {
        /// The pause that was none.
        pause: u32,
        /// Where the voice came back.
        at_ms: u64,
    },
    /// Too short to have been speech; the turn never was.
    FalseStart {
        /// Where the sound began.
        at_ms: u64,
    },
    /// The turn is over.
    TurnEnded {
        /// The pause that ended it; what was drafted for it holds. 0 when the turn was cut while the
        /// caller spoke.
        pause: u32,
        /// Where the voice began.
        speech_start_ms: u64,
        /// Where the voice ended: latency counts from here.
        speech_end_ms: u64,
        /// Where it was decided.
        decided_ms: u64,
        /// Voice in the turn.
        voiced_ms: u32,
        /// Why.
        why: EndedBy,
    },
}

/// A turn in the buffer; positions in samples.
#[derive(Debug, Clone, Copy)]
struct Turn {
    start: u64,
    end: u64,
    voiced_before: u64,
    voiced: u64,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Idle,
    /// Told as the beginning of speech, of which the detector is not certain yet.
    Suspected {
        since: u64,
    },
    Speaking(Turn),
    Paused {
        turn: Turn,
        pause: u32,
        verdict: Verdict,
        certain: bool,
    },
}

/// Listens to one call.
#[derive(Debug)]
pub struct Ear {
    config: EarConfig,
    node: NodeEar,
    front: Front,
    /// The piece that is judged now, without its offset; kept to allocate once.
    piece: Vec<i16>,
    detector: SpeechDetector,
    state: State,
    last_turn: Option<Turn>,
    events: VecDeque<EarEvent>,
    sound: VecDeque<i16>,
    /// Position of the first sample in `sound`.
    sound_at: u64,
    pauses: u32,
    /// Moving average of this caller's pauses within turns, in ms; 0 until there was one.
    own_pause_ms: u32,
    eager: bool,
    prompt_playing: bool,
    /// Consecutive samples of sound above the noise.
    loud: u64,
    /// Suspected beginnings that were taken back since the last voice.
    mistakes: u32,
    prosody: Option<Box<Prosody>>,
    /// Up to where turns are part of the caller's usual way.
    learnt: u64,
}

impl Ear {
    /// Starts to listen. Without a model, energy decides alone what is speech.
    pub fn new(model: Option<&SileroModel>, config: EarConfig) -> Self {
        let detector = SpeechDetector::new(model, config.detector);
        Self {
            config,
            node: NodeEar::default(),
            front: Front::default(),
            piece: Vec::with_capacity(crate::vad::FRAME),
            detector,
            state: State::Idle,
            last_turn: None,
            events: VecDeque::with_capacity(8),
            sound: VecDeque::with_capacity((IDLE_MEMORY + 160) as usize),
            sound_at: 0,
            pauses: 0,
            own_pause_ms: 0,
            eager: false,
            prompt_playing: false,
            loud: 0,
            mistakes: 0,
            prosody: None,
            learnt: 0,
        }
    }

    /// Sets what the node expects; counts for the turn that runs, too.
    pub fn configure(&mut self, node: NodeEar) {
        let max_turn_ms = node.max_turn_ms.clamp(500, LONGEST_TURN_MS);
        self.node = NodeEar { max_turn_ms, ..node };
    }

    /// Tells whether the robot speaks: then it takes a little more to be heard as the caller. But the first sound
    /// that may be a voice is told at once, so that the robot can fall silent, and taken back by
    /// [`EarEvent::FalseStart`] when it was none.
    pub fn set_prompt_playing(&mut self, playing: bool) {
        self.prompt_playing = playing;
        let mut detector = self.config.detector;
        if playing {
            detector.on = self.config.on_during_prompt;
            detector.start_ms = self.config.start_during_prompt_ms;
        }
        self.detector.configure(detector);
    }

    /// Tells whether there is room for guesses: an eager ear calls a pause as soon as the sound has
    /// fallen quiet, some 60 ms after the voice, and takes it back when the voice goes on. That saves
    /// the time in which the detector makes sure, at the price of work that is often thrown away.
    pub fn set_eager(&mut self, eager: bool) {
        self.eager = eager;
    }

    /// Listens to how the caller speaks from now on, as well as to when. Call it before the first sound: times
    /// are counted from there. Off by default.
    pub fn hear_tone_of_voice(&mut self) {
        self.prosody = Some(Box::default());
    }

    /// Says how the turn that runs, or the last one, was spoken; `None` when that is not listened to
    /// ([`Self::hear_tone_of_voice`]), or there is too little voice in it.
    pub fn tone_of_voice(&mut self) -> Option<Spoken> {
        let (turn, end) = match &self.state {
            State::Speaking(turn) => (*turn, self.position()),
            State::Paused { turn, .. } => (*turn, turn.end),
            State::Idle | State::Suspected { .. } => self.last_turn.map(|turn| (turn, turn.end))?,
        };
        self.prosody.as_mut()?.measure(turn.start / PER_MS, end / PER_MS)
    }

    /// Takes the next sound of the caller, 8 kHz; 20 ms at a time is best, any length works.
    pub fn push(&mut self, pcm: &[i16]) {
        // Frame by frame, so that a long piece gives the same events as many short ones.
        for piece in pcm.chunks(crate::vad::FRAME) {
            self.piece.clear();
            self.front.clean(piece, &mut self.piece);
            self.sound.extend(&self.piece);
            if let Some(prosody) = &mut self.prosody {
                prosody.push(&self.piece);
            }
            let mut changes = [None; 2];
            let mut count = 0;
            self.detector.push(&self.piece, |event| {
                if let Some(slot) = changes.get_mut(count) {
                    *slot = Some(event);
                    count += 1;
                }
            });
            for change in changes.into_iter().flatten() {
                self.on_change(change);
            }
            self.suspect();
            self.on_time();
            self.forget();
        }
    }

    /// Returns the next event. Drain it after every `push` and every `set_…`.
    pub fn poll_event(&mut self) -> Option<EarEvent> {
        self.events.pop_front()
    }

    /// Tells the end-of-turn model's verdict on a pause; ignored when the pause is over.
    pub fn set_turn_probability(&mut self, pause: u32, probability: f32) {
        if probability.is_finite() {
            self.learn(pause, |verdict| verdict.complete = Some(probability.clamp(0.0, 1.0)));
        }
    }

    /// Tells whether what was recognised in a pause is something the node expects; ignored when the
    /// pause is over.
    pub fn set_hypothesis_matched(&mut self, pause: u32, matched: bool) {
        self.learn(pause, |verdict| verdict.matched = Some(matched));
    }

    /// Returns the sound of the turn that runs, or of the last one, from 200 ms before its beginning
    /// to shortly after its end, ready for a recogniser.
    pub fn utterance(&self) -> Option<Utterance> {
        let (turn, open) = match &self.state {
            State::Speaking(turn) => (*turn, true),
            State::Paused { turn, .. } => (*turn, false),
            State::Idle | State::Suspected { .. } => (self.last_turn?, false),
        };
        let end = if open { self.position() } else { (turn.end + TAIL).min(self.position()) };
        let from = turn.start.saturating_sub(PRE_ROLL).max(self.sound_at);
        if end <= from {
            return None;
        }
        let index = |at: u64| usize::try_from(at - self.sound_at).unwrap_or(usize::MAX).min(self.sound.len());
        let mut pcm: Vec<i16> = self.sound.range(index(from)..index(end)).copied().collect();
        front::bring_up(&mut pcm);
        let voiced = if open { self.detector.voiced() - turn.voiced_before } else { turn.voiced };
        let voiced = Duration::from_millis(voiced / PER_MS);
        Some(Utterance::from_telephone(&pcm).with_voiced(voiced).of_turn(from))
    }

    /// Returns for how long the turn has run, in ms, as far as it will be in [`Self::utterance`]; `None`
    /// between turns.
    pub fn turn_ms(&self) -> Option<u32> {
        let end = |turn: &Turn| (turn.end + TAIL).min(self.position());
        let (turn, end) = match &self.state {
            State::Speaking(turn) => (turn, self.position()),
            State::Paused { turn, .. } => (turn, end(turn)),
            State::Idle | State::Suspected { .. } => return None,
        };
        Some(to_ms(end.saturating_sub(turn.start.saturating_sub(PRE_ROLL))))
    }

    /// Returns how much sound has been pushed, in ms.
    pub fn position_ms(&self) -> u64 {
        self.position() / PER_MS
    }

    /// Returns for how long nobody has spoken, in ms; 0 while somebody does.
    pub fn silence_ms(&self) -> u64 {
        self.detector.silence() / PER_MS
    }

    /// Tells whether the caller speaks at this moment.
    pub fn is_speaking(&self) -> bool {
        self.detector.is_speaking()
    }

    /// Tells whether a turn runs, be it in a pause.
    pub fn is_in_turn(&self) -> bool {
        !matches!(self.state, State::Idle | State::Suspected { .. })
    }

    /// Returns the level of the last 20 ms in dB to full scale.
    pub fn level_dbfs(&self) -> f32 {
        self.detector.energy().level
    }

    /// Returns the noise floor in dB to full scale.
    pub fn noise_dbfs(&self) -> f32 {
        self.detector.energy().floor
    }

    /// Returns the detector's last word, 0 to 1.
    pub fn speech_probability(&self) -> f32 {
        self.detector.probability()
    }

    /// Forgets the turn that runs and what was not polled: the call moved on without it.
    pub fn reset_turn(&mut self) {
        self.state = State::Idle;
        self.last_turn = None;
        self.events.clear();
    }

    fn position(&self) -> u64 {
        self.sound_at + self.sound.len() as u64
    }

    fn on_change(&mut self, change: SpeechEvent) {
        match (change, self.state) {
            (SpeechEvent::Started { at }, before @ (State::Idle | State::Suspected { .. })) => {
                self.learn_the_last_turn();
                let turn = Turn { start: at, end: at, voiced_before: self.voiced_when_started(), voiced: 0 };
                self.state = State::Speaking(turn);
                if matches!(before, State::Idle) {
                    self.tell(EarEvent::SpeechStarted { at_ms: at / PER_MS, decided_ms: self.position_ms() });
                }
            }
            (SpeechEvent::Started { at }, State::Paused { turn, pause, .. }) => {
                let gap = u32::try_from(at.saturating_sub(turn.end) / PER_MS).unwrap_or(u32::MAX);
                self.own_pause_ms =
                    if self.own_pause_ms == 0 { gap } else { (3 * self.own_pause_ms + gap) / 4 };
                self.state = State::Speaking(turn);
                self.tell(EarEvent::SpeechResumed { pause, at_ms: at / PER_MS });
            }
            (SpeechEvent::Stopped { at }, State::Speaking(turn)) => self.on_stop(at, turn),
            (SpeechEvent::Stopped { .. }, State::Paused { turn, pause, verdict, .. }) => {
                self.state = State::Paused { turn, pause, verdict, certain: true };
            }
            (SpeechEvent::Started { .. }, State::Speaking(_))
            | (SpeechEvent::Stopped { .. }, State::Idle | State::Suspected { .. }) => {}
        }
    }

    fn on_stop(&mut self, at: u64, turn: Turn) {
        let voiced = self.detector.voiced() - turn.voiced_before;
        if voiced < u64::from(self.config.min_voiced_ms) * PER_MS {
            self.state = State::Idle;
            self.mistakes += 1;
            self.tell(EarEvent::FalseStart { at_ms: turn.start / PER_MS });
            return;
        }
        self.pause(Turn { end: at.max(turn.start), voiced, ..turn }, true);
    }

    fn pause(&mut self, turn: Turn, certain: bool) {
        self.pauses += 1;
        self.mistakes = 0;
        let pause = self.pauses;
        self.state = State::Paused { turn, pause, verdict: Verdict::default(), certain };
        self.tell(EarEvent::PauseDetected {
            pause,
            speech_end_ms: turn.end / PER_MS,
            voiced_ms: to_ms(turn.voiced),
        });
    }

    /// Calls a pause before the detector does, or takes such a call back.
    fn be_eager(&mut self) {
        let voiced_now = self.detector.voiced();
        match self.state {
            State::Speaking(turn) => {
                let voiced = voiced_now - turn.voiced_before;
                let enough = voiced >= u64::from(self.config.min_voiced_ms) * PER_MS;
                let quiet = self.detector.silence() >= u64::from(self.config.eager_ms) * PER_MS;
                if self.eager && enough && quiet {
                    self.pause(
                        Turn { end: self.detector.voice_end().max(turn.start), voiced, ..turn },
                        false,
                    );
                }
            }
            State::Paused { turn, pause, certain: false, .. } if self.detector.voice_end() > turn.end => {
                // A closed consonant, not a pause: it says nothing of this caller's pauses.
                let at_ms = self.detector.voice_end() / PER_MS;
                self.state = State::Speaking(turn);
                self.tell(EarEvent::SpeechResumed { pause, at_ms });
            }
            State::Idle | State::Suspected { .. } | State::Paused { .. } => {}
        }
    }

    /// Tells what may be the beginning of speech before the detector is certain, or takes it back.
    fn suspect(&mut self) {
        let frame = self.piece.len() as u64;
        self.loud = if self.detector.energy().active { self.loud + frame } else { 0 };
        let config = &self.config;
        match self.state {
            State::Idle
                if self.prompt_playing
                    && self.mistakes < config.early_mistakes
                    && self.loud >= u64::from(config.early_ms) * PER_MS
                    && self.detector.probability() >= config.early_on =>
            {
                let since = self.position();
                self.state = State::Suspected { since };
                let at_ms = since.saturating_sub(self.loud) / PER_MS;
                self.tell(EarEvent::SpeechStarted { at_ms, decided_ms: since / PER_MS });
            }
            State::Suspected { since }
                if self.position() - since >= u64::from(config.early_within_ms) * PER_MS =>
            {
                self.mistakes += 1;
                self.state = State::Idle;
                self.tell(EarEvent::FalseStart { at_ms: since / PER_MS });
            }
            State::Idle | State::Suspected { .. } | State::Speaking(_) | State::Paused { .. } => {}
        }
    }

    /// Whatever only time decides.
    fn on_time(&mut self) {
        self.be_eager();
        match self.state {
            State::Idle => {
                // After a turn that was cut, the caller may be speaking still: that is a new turn.
                if self.detector.is_speaking() {
                    self.on_change(SpeechEvent::Started { at: self.position() });
                }
            }
            State::Suspected { .. } => {}
            State::Speaking(turn) => self.end_if_too_long(turn, 0),
            State::Paused { turn, pause, verdict, certain } => {
                let needed = silence_needed(self.node.endpoint, verdict, self.own_pause_ms);
                if certain && self.position().saturating_sub(turn.end) >= u64::from(needed) * PER_MS {
                    self.end_turn(turn, pause, EndedBy::Silence);
                } else {
                    self.end_if_too_long(turn, pause);
                }
            }
        }
    }

    fn end_if_too_long(&mut self, turn: Turn, pause: u32) {
        if self.position().saturating_sub(turn.start) >= u64::from(self.node.max_turn_ms) * PER_MS {
            let turn = if pause == 0 {
                Turn { end: self.position(), voiced: self.detector.voiced() - turn.voiced_before, ..turn }
            } else {
                turn
            };
            self.end_turn(turn, pause, EndedBy::TooLong);
        }
    }

    fn end_turn(&mut self, turn: Turn, pause: u32, why: EndedBy) {
        self.state = State::Idle;
        self.last_turn = Some(turn);
        self.tell(EarEvent::TurnEnded {
            pause,
            speech_start_ms: turn.start / PER_MS,
            speech_end_ms: turn.end / PER_MS,
            decided_ms: self.position_ms(),
            voiced_ms: to_ms(turn.voiced),
            why,
        });
    }

    fn learn(&mut self, of: u32, change: impl FnOnce(&mut Verdict)) {
        if let State::Paused { pause, verdict, .. } = &mut self.state
            && *pause == of
        {
            change(verdict);
            // The silence may have been long enough for this already.
            self.on_time();
        }
    }

    /// A turn that was used is the caller's usual way from the next one on.
    fn learn_the_last_turn(&mut self) {
        if let (Some(prosody), Some(turn)) = (&mut self.prosody, self.last_turn)
            && turn.start >= self.learnt
        {
            self.learnt = turn.end;
            prosody.learn(turn.start / PER_MS, turn.end / PER_MS);
        }
    }

    /// The detector counts voice while it makes up its mind; that belongs to the turn.
    fn voiced_when_started(&self) -> u64 {
        let making_up = u64::from(self.detector.config().start_ms) * PER_MS;
        self.detector.voiced().saturating_sub(making_up)
    }

    fn tell(&mut self, event: EarEvent) {
        // Nobody polls: the call is gone. Keep the latest.
        if self.events.len() >= 64 {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn forget(&mut self) {
        let keep_from = match self.state {
            State::Speaking(turn) | State::Paused { turn, .. } => turn.start.saturating_sub(PRE_ROLL),
            State::Idle | State::Suspected { .. } => {
                let recent = self.position().saturating_sub(IDLE_MEMORY);
                // The last turn may still be asked for; it goes when it is older than its own length.
                match self.last_turn {
                    Some(turn) if self.position() < turn.end + u64::from(LONGEST_TURN_MS) * PER_MS => {
                        recent.min(turn.start.saturating_sub(PRE_ROLL))
                    }
                    Some(_) | None => recent,
                }
            }
        };
        let longest = u64::from(LONGEST_TURN_MS) * PER_MS + IDLE_MEMORY;
        let keep_from = keep_from.max(self.position().saturating_sub(longest));
        let excess =
            usize::try_from(keep_from.saturating_sub(self.sound_at)).unwrap_or(0).min(self.sound.len());
        // In steps, because taking from the front is work.
        if excess >= 1_600 {
            self.sound.drain(..excess);
            self.sound_at += excess as u64;
        }
        if !self.is_in_turn() && self.last_turn.is_some_and(|turn| turn.start < self.sound_at) {
            self.last_turn = None;
        }
        let small = (IDLE_MEMORY * 2) as usize;
        if self.sound.len() < small && self.sound.capacity() > 2 * small {
            self.sound.shrink_to(small);
        }
    }
}

fn to_ms(samples: u64) -> u32 {
    u32::try_from(samples / PER_MS).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
