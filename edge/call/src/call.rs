//! The call itself.

mod answerer;
mod transfer;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing::{debug, warn};
use trunkline_dialogue::action::{Action, BargeIn, Endpoint, Event, Listen, Say};
use trunkline_dialogue::{Script, State};
use trunkline_model::{CallId, Disposition, Outcome};
use trunkline_wire::{
    ActionV1, CallRecord, CustomerTurn, DecisionRecord, DialCommand, LatencyRecord, MediaRecord,
    ProgressStage, RecordingRecord, RobotTurn, TransferRecord, TurnEvent, TurnKind, TurnRecord, TurnReply,
    TurnRequest, WordRecord,
};
use trunkline_words::{Filter, Found};

use crate::expected::{self, Numbers};
use crate::floor;
use crate::hearing::{Answer, Asked, Ended, Utterance};
use crate::timeline::{Timeline, seconds, signed_ms};
use transfer::Transfer;
pub use transfer::{TransferFailure, TransferNews, TransferWay};

/// Time limits of a call.
#[derive(Clone, Copy, Debug)]
pub struct CallConfig {
    /// A question to the cloud is repeated after this long.
    pub ask_again_after: Duration,
    /// How long after the customer's last sound the cloud may answer; then the box takes the turn itself …
    pub cloud_budget: Duration,
    /// … but the cloud has at least this long for the words …
    pub cloud_patience: Duration,
    /// … and this long when it did not answer the turn before either.
    pub silent_patience: Duration,
    /// After this long without any answer, counted from the end of the turn, the call is given up.
    pub cloud_lost_after: Duration,
    /// The longest conversation.
    pub longest: Duration,
    /// How long a hang-up may take on the line.
    pub hangup_within: Duration,
}

impl Default for CallConfig {
    fn default() -> Self {
        Self {
            ask_again_after: Duration::from_millis(700),
            cloud_budget: Duration::from_millis(900),
            cloud_patience: Duration::from_millis(600),
            silent_patience: Duration::from_millis(150),
            cloud_lost_after: Duration::from_millis(3_500),
            longest: Duration::from_secs(15 * 60),
            hangup_within: Duration::from_secs(5),
        }
    }
}

/// News from the line.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// The far end rings.
    Ringing,
    /// Somebody answered, and sound flows.
    Answered,
    /// The call never came about.
    Failed {
        /// What kind of failure.
        disposition: Disposition,
        /// The line's words.
        cause: String,
        /// The final SIP status.
        sip_code: Option<u16>,
    },
    /// The customer hung up.
    PeerHungUp,
    /// Our hang-up is done.
    Ended,
}

/// News from the media thread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Media {
    /// The first packet of a prompt was sent at `at`; all of it lasts `length`.
    Started {
        /// Which prompt.
        say: u32,
        /// When.
        at: Instant,
        /// How long it plays.
        length: Duration,
    },
    /// The last packet of a prompt was sent.
    Finished {
        /// Which prompt.
        say: u32,
    },
    /// A prompt was paused or stopped after this share of it, 0 to 1.
    Held {
        /// Which prompt.
        say: u32,
        /// How much of it was sent.
        heard: f32,
    },
    /// A prompt could not be spoken at all.
    Failed {
        /// Which prompt.
        say: u32,
    },
    /// Nothing was received for too long.
    Lost,
}

/// News from the ear.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hearing {
    /// The customer began to speak.
    SpeechStarted,
    /// The customer paused; recognition of what was said may begin.
    Paused {
        /// Number of the pause.
        pause: u32,
        /// When the last sound of speech arrived.
        speech_end: Instant,
    },
    /// The customer went on: everything guessed from that pause is void.
    Resumed {
        /// Number of the pause.
        pause: u32,
    },
    /// It was no speech.
    FalseStart,
    /// The silence was long enough: the turn is over.
    TurnEnded {
        /// Number of the pause.
        pause: u32,
        /// When the first sound of speech arrived.
        speech_start: Instant,
        /// When the last sound of speech arrived.
        speech_end: Instant,
    },
}

/// What was recognised; an empty text means that there were no words.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transcript {
    /// The words.
    pub text: String,
    /// Mean log-probability per token.
    pub logprob: f32,
}

/// What the shell shall do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Fetch the script, check it, and render its prompts; then [`Call::handle_prepared`].
    Prepare,
    /// Dial.
    Dial,
    /// Hang up or give up, in whatever state the line is.
    HangUp,
    /// Speak; one prompt at a time.
    Play {
        /// Number of the prompt.
        say: u32,
        /// The words.
        text: String,
    },
    /// Make ready to speak this: a guess, it may never be played.
    Warm {
        /// The words.
        text: String,
    },
    /// Hold the prompt at once; answered by [`Media::Held`].
    Pause,
    /// Go on with the held prompt.
    Resume,
    /// Give the prompt up.
    Stop,
    /// How long the expected answer is.
    Expect {
        /// For the end-of-turn decision.
        endpoint: Endpoint,
    },
    /// Forget the turn in the ear: it is not used.
    ForgetTurn,
    /// Recognise what was said up to this pause.
    Recognize {
        /// Number of the pause.
        pause: u32,
        /// Whole answers that may well be given, the node's hot words among them.
        phrases: Arc<[String]>,
        /// What kind of number is asked for, if any.
        numbers: Option<Numbers>,
    },
    /// The recognition of this pause is of no use any more.
    DropRecognition {
        /// Number of the pause.
        pause: u32,
    },
    /// Whether what was said so far is something that was expected here.
    Matched {
        /// Number of the pause.
        pause: u32,
        /// Expected or not.
        matched: bool,
    },
    /// Ask the cloud.
    Ask(TurnRequest),
    /// The cloud is late: answer the turn on the box, with what it understands; then
    /// [`Call::handle_own_reply`].
    TakeTurn(TurnRequest),
    /// Hand the call to a person; [`Call::handle_transfer`] tells how it goes.
    Transfer {
        /// Where to, as the script names it.
        to: String,
        /// How long to let it ring; the call gives up by itself then.
        timeout: Duration,
    },
    /// The hand-over is given up, or the customer is gone: whoever is being called for it is let go.
    TransferOver,
    /// Tell the cloud how far the call is.
    Progress(ProgressStage, String),
    /// A turn, complete or with more to come: the newest of a number replaces the older.
    Turn(TurnRecord),
    /// Stop media and close the recording; then [`Call::handle_filed`].
    File,
    /// The call is over; file this record.
    Ended(Box<CallRecord>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Preparing,
    Dialing,
    Talking,
    /// Our hang-up is on its way.
    HangingUp,
    /// The recording is being closed.
    Filing,
    Done,
}

#[derive(Debug)]
struct Playing {
    say: u32,
    barge_in: BargeIn,
    chars: usize,
    /// When the customer may break in: known once it plays.
    open_at: Option<Instant>,
    paused: bool,
}

/// One call.
#[derive(Debug)]
pub struct Call {
    command: DialCommand,
    config: CallConfig,
    timeline: Timeline,
    script: Option<Arc<Script>>,
    words: Arc<Filter>,
    state: Option<State>,
    phase: Phase,
    out: VecDeque<Output>,

    started: Instant,
    rang: Option<Instant>,
    answered: Option<Instant>,
    hangup_by: Option<Instant>,
    disposition: Option<Disposition>,
    cause: String,
    sip_code: Option<u16>,
    outcome: Option<Outcome>,
    suppress: bool,

    queue: VecDeque<Action>,
    playing: Option<Playing>,
    next_say: u32,
    listen: Option<Listen>,
    /// What the node expects to hear, for the recogniser.
    phrases: Arc<[String]>,
    no_input_at: Option<Instant>,
    transfer: Option<Transfer>,
    transfers: Vec<TransferRecord>,
    speaking: bool,
    barged_in: bool,
    utterance: Option<Utterance>,
    next_rev: u32,
    /// The turn before was taken here, and the cloud has not been heard of since.
    cloud_is_silent: bool,

    turn: TurnRecord,
    speech_end: Option<Instant>,
    turns: Vec<TurnRecord>,
}

impl Call {
    /// Takes a command; `wall` is the time of day at `now`.
    pub fn new(command: DialCommand, config: CallConfig, now: Instant, wall: Timestamp) -> Self {
        Self {
            command,
            config,
            timeline: Timeline::new(now, wall),
            script: None,
            words: Arc::default(),
            state: None,
            phase: Phase::Preparing,
            out: VecDeque::from([Output::Progress(ProgressStage::Preparing, String::new()), Output::Prepare]),
            started: now,
            rang: None,
            answered: None,
            hangup_by: None,
            disposition: None,
            cause: String::new(),
            sip_code: None,
            outcome: None,
            suppress: false,
            queue: VecDeque::new(),
            playing: None,
            next_say: 0,
            listen: None,
            phrases: Arc::default(),
            no_input_at: None,
            transfer: None,
            transfers: Vec::new(),
            speaking: false,
            barged_in: false,
            utterance: None,
            next_rev: 1,
            cloud_is_silent: false,
            turn: TurnRecord::default(),
            speech_end: None,
            turns: Vec::new(),
        }
    }

    /// Returns which call this is.
    pub fn id(&self) -> CallId {
        self.command.call
    }

    /// Says whether the record was filed: nothing more will come.
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done && self.out.is_empty()
    }

    /// Has what the robot says held against these word lists, and what the customer says.
    pub fn set_words(&mut self, words: Arc<Filter>) {
        self.words = words;
    }

    /// The script is here and its prompts are rendered, or it cannot be had and `Err` says why.
    pub fn handle_prepared(&mut self, now: Instant, prepared: Result<Arc<Script>, String>) {
        if self.phase != Phase::Preparing {
            return;
        }
        let script = match prepared {
            Ok(script) => script,
            Err(reason) => return self.fail(now, Disposition::BoxFault, reason),
        };
        if self.timeline.wall(now) > self.command.before {
            let reason = "the call could not be prepared before the instant by which it had to be dialled";
            return self.fail(now, Disposition::Expired, reason.to_owned());
        }
        match trunkline_dialogue::start(&script, &self.command.variables) {
            Ok(state) => self.state = Some(state),
            Err(errors) => {
                let reason = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                return self.fail(now, Disposition::BoxFault, format!("variables do not fit: {reason}"));
            }
        }
        self.script = Some(script);
        self.phase = Phase::Dialing;
        self.out.push_back(Output::Progress(ProgressStage::Dialing, String::new()));
        self.out.push_back(Output::Dial);
    }

    /// Something happened on the line.
    pub fn handle_line(&mut self, now: Instant, news: Line) {
        if self.leaves_transfer(now, &news) {
            return;
        }
        match (self.phase, news) {
            (Phase::Dialing, Line::Ringing) => {
                if self.rang.is_none() {
                    self.rang = Some(now);
                    self.out.push_back(Output::Progress(ProgressStage::Ringing, String::new()));
                }
            }
            (Phase::Dialing, Line::Answered) => {
                self.answered = Some(now);
                self.phase = Phase::Talking;
                self.out.push_back(Output::Progress(ProgressStage::Answered, String::new()));
                self.step_here(now, &Event::Answered);
            }
            (Phase::Dialing | Phase::HangingUp, Line::Failed { disposition, cause, sip_code }) => {
                self.sip_code = sip_code;
                if self.disposition.is_none() {
                    self.disposition = Some(disposition);
                    self.cause = cause;
                }
                self.file(now);
            }
            (Phase::Talking, Line::PeerHungUp) => {
                // A customer who hangs up while the goodbye plays has heard the call out.
                let over = self.outcome.is_some() || self.state.as_ref().is_some_and(State::is_ended);
                self.end_as(if over { Disposition::Completed } else { Disposition::CustomerHungUp });
                if self.outcome.is_none() {
                    self.outcome_of(now, &Event::HungUp);
                }
                self.file(now);
            }
            (Phase::Talking, Line::Ended | Line::Failed { .. }) => {
                self.end_as(Disposition::NetworkFault);
                self.outcome_of(now, &Event::HungUp);
                self.file(now);
            }
            (Phase::Dialing, Line::PeerHungUp | Line::Ended) => {
                self.end_as(Disposition::NetworkFault);
                self.file(now);
            }
            (Phase::HangingUp, Line::Answered) => self.out.push_back(Output::HangUp),
            (Phase::HangingUp, Line::PeerHungUp | Line::Ended) => self.file(now),
            (Phase::Preparing | Phase::Filing | Phase::Done, _)
            | (Phase::Talking, Line::Ringing | Line::Answered)
            | (Phase::HangingUp, Line::Ringing) => {}
        }
    }

    /// Something happened to a prompt or to the sound.
    pub fn handle_media(&mut self, now: Instant, news: Media) {
        if self.phase != Phase::Talking {
            if let Media::Held { heard, .. } = news {
                self.note_heard(heard);
            }
            return;
        }
        match news {
            Media::Started { say, at, length } => {
                let Some(playing) = self.playing.as_mut().filter(|playing| playing.say == say) else {
                    return;
                };
                playing.open_at = match playing.barge_in {
                    BargeIn::Allowed => Some(at),
                    BargeIn::Off => None,
                    BargeIn::OffUntil { chars } => {
                        let share = chars as f32 / playing.chars.max(1) as f32;
                        Some(at + length.mul_f32(share.clamp(0.0, 1.0)))
                    }
                };
                self.on_started(at);
            }
            Media::Finished { say } | Media::Failed { say } => {
                if self.playing.as_ref().is_some_and(|playing| playing.say == say) {
                    self.playing = None;
                    self.note_heard(if matches!(news, Media::Finished { .. }) { 1.0 } else { 0.0 });
                    self.run_queue(now);
                }
            }
            Media::Held { say, heard } => {
                if self.playing.as_ref().is_none_or(|playing| playing.say == say) {
                    self.note_heard(heard);
                }
            }
            // Whoever is being handed over may be on hold.
            Media::Lost if self.transfer.is_some() => {}
            Media::Lost => {
                self.end_as(Disposition::MediaLost);
                self.outcome_of(now, &Event::HungUp);
                self.hang_up(now);
            }
        }
    }

    /// The ear noticed something.
    pub fn handle_hearing(&mut self, now: Instant, news: Hearing) {
        if self.phase != Phase::Talking || self.transfer.is_some() {
            return;
        }
        match news {
            Hearing::SpeechStarted => {
                self.speaking = true;
                self.try_barge_in(now);
            }
            Hearing::Paused { pause, speech_end } => {
                if self.is_protected() {
                    return;
                }
                self.drop_utterance();
                self.begin_utterance(pause, speech_end, now);
            }
            Hearing::Resumed { .. } => {
                self.drop_utterance();
                self.speaking = true;
                self.try_barge_in(now);
            }
            Hearing::FalseStart => self.not_heard(now),
            Hearing::TurnEnded { pause, speech_start, speech_end } => {
                self.speaking = false;
                if self.is_protected() {
                    debug!("Speech over protected words is not used");
                    self.drop_utterance();
                    self.out.push_back(Output::ForgetTurn);
                    return;
                }
                if self.utterance.as_ref().is_none_or(|utterance| utterance.pause != pause) {
                    self.drop_utterance();
                    self.begin_utterance(pause, speech_end, now);
                }
                if let Some(utterance) = &mut self.utterance {
                    utterance.ended = Some(Ended { at: now, speech_start });
                    utterance.speech_end = speech_end;
                }
                self.advance(now);
            }
        }
    }

    /// Recognition of a pause is done; an error counts as no words.
    pub fn handle_transcript(&mut self, now: Instant, pause: u32, transcript: Transcript) {
        let Some(utterance) = self.utterance.as_mut().filter(|utterance| utterance.pause == pause) else {
            return;
        };
        utterance.asr_done = Some(now);
        utterance.transcript = Some(transcript);
        self.advance(now);
    }

    /// The cloud answered. Answers to other turns and revisions say only that it is there.
    pub fn handle_reply(&mut self, now: Instant, reply: TurnReply) {
        if !reply.error.is_empty() {
            // The same question again may fare better once a replica has loaded the script.
            return warn!(error = %reply.error, turn = reply.turn, "The cloud could not answer a turn");
        }
        self.cloud_is_silent = false;
        if reply.pending_ms > 0 {
            // Whoever writes the words is waited for as long as the script allows.
            let until = now + Duration::from_millis(u64::from(reply.pending_ms)) + self.config.silent_patience;
            if let Some(utterance) = &mut self.utterance
                && utterance.asked.is_some_and(|asked| asked.rev == reply.rev)
            {
                utterance.pending = Some(until);
            }
            return;
        }
        self.take_reply(now, reply, false);
    }

    /// The box answered a turn itself, as [`Output::TakeTurn`] asked.
    pub fn handle_own_reply(&mut self, now: Instant, reply: TurnReply) {
        if !reply.error.is_empty() {
            return warn!(error = %reply.error, turn = reply.turn, "The box could not answer a turn either");
        }
        self.take_reply(now, reply, true);
    }

    /// Keeps the first answer to the words that were said last.
    fn take_reply(&mut self, now: Instant, reply: TurnReply, local: bool) {
        if self.phase != Phase::Talking || reply.turn != self.turn.turn + 1 {
            return;
        }
        let Some(utterance) = self.utterance.as_mut() else { return };
        let ours = utterance.asked.is_some_and(|asked| asked.rev == reply.rev);
        if !ours || utterance.reply.is_some() {
            return;
        }
        let matched = reply.understanding.intent.is_some();
        for action in &reply.actions {
            if let ActionV1::Say { text, .. } = action {
                self.out.push_back(Output::Warm { text: self.words.speakable(text).text });
            }
        }
        self.out.push_back(Output::Matched { pause: utterance.pause, matched });
        utterance.reply = Some(Answer { reply, at: now, local });
        self.advance(now);
    }

    /// The call is not wanted any more.
    pub fn handle_cancel(&mut self, now: Instant) {
        match self.phase {
            Phase::Preparing => {
                self.end_as(Disposition::Cancelled);
                self.file(now);
            }
            Phase::Dialing => {
                self.end_as(Disposition::Cancelled);
                self.hang_up(now);
            }
            Phase::Talking => self.say_goodbye(now, Disposition::Cancelled),
            Phase::HangingUp | Phase::Filing | Phase::Done => {}
        }
    }

    /// The box cannot go on with the call, for the reason that it gives.
    pub fn handle_fault(&mut self, now: Instant, reason: String) {
        match self.phase {
            Phase::Preparing | Phase::Dialing => self.fail(now, Disposition::BoxFault, reason),
            Phase::Talking => {
                self.cause = reason;
                self.end_as(Disposition::BoxFault);
                self.outcome_of(now, &Event::HungUp);
                self.hang_up(now);
            }
            Phase::HangingUp | Phase::Filing | Phase::Done => {}
        }
    }

    /// The gate on the box says no, in the second before dialling: nobody was called.
    pub fn handle_not_permitted(&mut self, now: Instant, reason: String) {
        match self.phase {
            Phase::Preparing | Phase::Dialing => self.fail(now, Disposition::Cancelled, reason),
            Phase::Talking | Phase::HangingUp | Phase::Filing | Phase::Done => {}
        }
    }

    /// Media are stopped and the recording is closed: the record can be written.
    pub fn handle_filed(
        &mut self,
        now: Instant,
        recording: Option<RecordingRecord>,
        media: Option<MediaRecord>,
    ) {
        if self.phase != Phase::Filing {
            return;
        }
        self.give_up_transfer(now);
        self.phase = Phase::Done;
        self.close_turn();
        let record = CallRecord {
            call: self.command.call,
            script: self.command.script.clone(),
            started: self.timeline.wall(self.started),
            rang: self.rang.map(|at| self.timeline.wall(at)),
            answered: self.answered.map(|at| self.timeline.wall(at)),
            ended: self.timeline.wall(now),
            disposition: self.disposition.unwrap_or(Disposition::BoxFault),
            cause: std::mem::take(&mut self.cause),
            sip_code: self.sip_code,
            outcome: self.outcome.take(),
            suppress: self.suppress,
            slots: self.state.as_ref().map(|state| state.slots().clone()).unwrap_or_default(),
            turns: std::mem::take(&mut self.turns),
            recording,
            media,
            trunk: String::new(),
            attempts: Vec::new(),
            transfers: std::mem::take(&mut self.transfers),
            tones: Vec::new(),
            answerer: None,
        };
        self.out.push_back(Output::Ended(Box::new(record)));
    }

    /// Does whatever was due at `now`. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.phase == Phase::HangingUp && self.hangup_by.is_some_and(|at| at <= now) {
            return self.file(now);
        }
        if self.phase != Phase::Talking {
            return;
        }
        if self.transfer.is_some() {
            return self.handle_transfer_timeout(now);
        }
        if self.answered.is_some_and(|at| at + self.config.longest <= now) {
            return self.say_goodbye(now, Disposition::Completed);
        }
        if self.open_at().is_some_and(|at| at <= now) {
            self.try_barge_in(now);
        }
        if let Some(asked) = self.utterance.as_ref().and_then(|utterance| utterance.asked)
            && self.utterance.as_ref().is_some_and(|utterance| utterance.reply.is_none())
        {
            if asked.give_up_at.is_some_and(|at| at <= now) {
                warn!("No answer to what the customer said; saying goodbye");
                return self.say_goodbye(now, Disposition::CloudLost);
            }
            if self.take_over_at().is_some_and(|at| at <= now) {
                self.take_turn(now);
            }
            if asked.resend_at <= now {
                self.ask(now);
            }
        }
        if self.no_input_at.is_some_and(|at| at <= now) && !self.speaking && self.utterance.is_none() {
            self.no_input_at = None;
            self.step_here(now, &Event::NoInput);
        }
    }

    /// Returns the next thing to do. Drain it after every `handle_*` call.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Returns when to call [`Self::handle_timeout`] next, and why, for the log.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let waiting = self.utterance.as_ref().filter(|utterance| utterance.reply.is_none());
        let asked = waiting.and_then(|utterance| utterance.asked);
        let silent = !self.speaking && self.utterance.is_none();
        let handing_over = self.transfer_due().filter(|_| self.phase == Phase::Talking);
        let talking = self.phase == Phase::Talking && handing_over.is_none();
        [
            (handing_over, "hand-over takes too long"),
            (self.hangup_by.filter(|_| self.phase == Phase::HangingUp), "hang-up takes too long"),
            (self.answered.map(|at| at + self.config.longest).filter(|_| talking), "longest call"),
            (self.open_at().filter(|_| talking), "protected words are over"),
            (self.take_over_at().filter(|_| talking), "the cloud is late"),
            (asked.map(|asked| asked.resend_at).filter(|_| talking), "ask the cloud again"),
            (asked.and_then(|asked| asked.give_up_at).filter(|_| talking), "nobody answers the turn"),
            (self.no_input_at.filter(|_| talking && silent), "no input"),
        ]
        .into_iter()
        .filter_map(|(at, why)| Some((at?, why)))
        .min_by_key(|(at, _)| *at)
    }

    /// Steps the dialogue on the box: for events that need no understanding.
    fn step_here(&mut self, now: Instant, event: &Event) {
        let (Some(script), Some(state)) = (self.script.clone(), self.state.clone()) else { return };
        let step = trunkline_dialogue::step(&script, &state, event, self.elapsed_s(now));
        self.close_turn();
        if !matches!(event, Event::Answered) {
            self.turn.turn = self.turns.last().map_or(0, |turn| turn.turn + 1);
        }
        self.turn.decision = DecisionRecord {
            node: step.node.clone(),
            because: step.because.clone(),
            local: true,
            ..DecisionRecord::default()
        };
        self.state = Some(step.state);
        self.perform(now, step.actions);
    }

    /// Takes the outcome that an event leads to, and nothing else of it.
    fn outcome_of(&mut self, now: Instant, event: &Event) {
        let (Some(script), Some(state)) = (&self.script, &self.state) else { return };
        let step = trunkline_dialogue::step(script, state, event, self.elapsed_s(now));
        for action in step.actions {
            if let Action::End { outcome } = action {
                self.outcome = Some(outcome);
            }
        }
    }

    fn perform(&mut self, now: Instant, actions: Vec<Action>) {
        if self.playing.take().is_some() {
            self.out.push_back(Output::Stop);
        }
        // A refusal counts from the moment it was understood: whatever is said over its confirmation,
        // and however the call ends, must not undo it.
        self.suppress |= actions.contains(&Action::Suppress);
        self.queue = actions.into();
        self.listen = self.queue.iter().find_map(|action| match action {
            Action::Listen(listen) => Some(listen.clone()),
            Action::Say(_) | Action::Transfer { .. } | Action::Suppress | Action::End { .. } => None,
        });
        if let (Some(script), Some(listen)) = (&self.script, &self.listen) {
            self.phrases = expected::phrases(script, listen);
        }
        self.no_input_at = None;
        self.barged_in = false;
        let endpoint = self.listen.as_ref().map_or(Endpoint::Normal, |listen| listen.endpoint);
        self.out.push_back(Output::Expect { endpoint });
        self.run_queue(now);
    }

    fn run_queue(&mut self, now: Instant) {
        while let Some(action) = self.queue.pop_front() {
            match action {
                Action::Say(say) => {
                    if self.play(say) {
                        return;
                    }
                }
                Action::Listen(listen) => {
                    self.no_input_at = Some(now + listen.no_input);
                    return;
                }
                Action::Suppress => {}
                Action::Transfer { to, timeout } => return self.begin_transfer(now, to, timeout),
                Action::End { outcome } => {
                    self.outcome = Some(outcome);
                    self.end_as(Disposition::Completed);
                    return self.hang_up(now);
                }
            }
        }
        // A reply that neither listens nor ends would leave the customer in silence for ever.
        self.no_input_at = Some(now + Duration::from_secs(5));
    }

    /// Begins to speak, if there is anything left to say.
    fn play(&mut self, say: Say) -> bool {
        let spoken = self.words.speakable(&say.text);
        if !spoken.found.is_empty() {
            warn!(node = say.node, words = spoken.found.len(), "The robot was about to say words of a word list");
        }
        self.turn.words.extend(spoken.found.iter().map(|found| word_record("robot", found)));
        if spoken.text.is_empty() && !say.text.is_empty() {
            return false;
        }
        let say = Say { text: spoken.text, ..say };
        self.next_say += 1;
        self.playing = Some(Playing {
            say: self.next_say,
            barge_in: say.barge_in,
            chars: say.text.chars().count(),
            open_at: None,
            paused: false,
        });
        self.turn.robot.push(RobotTurn { text: say.text.clone(), start_s: 0.0, heard: 0.0 });
        self.out.push_back(Output::Play { say: self.next_say, text: say.text });
        true
    }

    fn on_started(&mut self, at: Instant) {
        let Some(answered) = self.answered else { return };
        if let Some(robot) = self.turn.robot.last_mut()
            && robot.start_s == 0.0
        {
            robot.start_s = seconds(answered, at);
        }
        if self.turn.robot.len() == 1
            && let (Some(latency), Some(speech_end)) = (self.turn.latency.as_mut(), self.speech_end.take())
        {
            latency.first_packet_ms = signed_ms(speech_end, at);
        }
        if self.turn.robot.len() == 1 {
            self.out.push_back(Output::Turn(self.turn.clone()));
        }
    }

    fn note_heard(&mut self, heard: f32) {
        if let Some(robot) = self.turn.robot.last_mut() {
            robot.heard = heard.clamp(0.0, 1.0);
        }
    }

    /// Files the turn that was open and begins the next.
    fn close_turn(&mut self) {
        let turn = std::mem::take(&mut self.turn);
        if turn.robot.is_empty() && turn.customer.is_none() && turn.decision.node.is_empty() {
            return;
        }
        self.turn.turn = turn.turn;
        self.out.push_back(Output::Turn(turn.clone()));
        self.turns.push(turn);
    }

    /// Says whether a prompt plays that the customer may not break into now.
    fn is_protected(&self) -> bool {
        self.playing.as_ref().is_some_and(|playing| !playing.paused)
    }

    /// When the words that play now stop being protected, if somebody waits for that.
    fn open_at(&self) -> Option<Instant> {
        self.playing
            .as_ref()
            .filter(|playing| !playing.paused && self.speaking)
            .and_then(|playing| playing.open_at)
    }

    fn try_barge_in(&mut self, now: Instant) {
        let Some(playing) = self.playing.as_mut().filter(|playing| !playing.paused) else { return };
        if self.speaking && playing.open_at.is_some_and(|at| at <= now) {
            playing.paused = true;
            self.barged_in = true;
            self.out.push_back(Output::Pause);
        }
    }

    fn begin_utterance(&mut self, pause: u32, speech_end: Instant, now: Instant) {
        self.utterance = Some(Utterance::new(pause, speech_end, now));
        let numbers = self.listen.as_ref().and_then(expected::numbers);
        self.out.push_back(Output::Recognize { pause, phrases: Arc::clone(&self.phrases), numbers });
    }

    fn drop_utterance(&mut self) {
        if let Some(utterance) = self.utterance.take() {
            self.out.push_back(Output::DropRecognition { pause: utterance.pause });
        }
    }

    /// What was taken for speech was none: go on where the robot was.
    fn not_heard(&mut self, now: Instant) {
        self.speaking = false;
        self.utterance = None;
        self.out.push_back(Output::ForgetTurn);
        if let Some(playing) = self.playing.as_mut().filter(|playing| playing.paused) {
            playing.paused = false;
            self.barged_in = false;
            self.out.push_back(Output::Resume);
        } else if let (None, Some(listen)) = (&self.playing, &self.listen) {
            // The customer made a sound: the silence is counted anew, but not for ever.
            let fresh = now + listen.no_input / 2;
            self.no_input_at = Some(self.no_input_at.map_or(fresh, |at| at.max(fresh)));
        }
    }

    /// Does the next thing that is possible for the utterance.
    fn advance(&mut self, now: Instant) {
        let Some(utterance) = &self.utterance else { return };
        let Some(transcript) = &utterance.transcript else { return };
        if transcript.text.is_empty() {
            if utterance.ended.is_some() {
                self.not_heard(now);
            }
            return;
        }
        if self.playing.as_ref().is_some_and(|playing| playing.paused) {
            let heard = self.turn.robot.last().map_or(0.0, |robot| robot.heard);
            if !floor::is_taken(&transcript.text, heard) {
                debug!("A sign of listening; the prompt goes on");
                self.drop_utterance();
                return self.not_heard(now);
            }
        }
        match (utterance.asked, &utterance.reply, utterance.ended) {
            (None, _, _) => self.ask(now),
            // Only now is the cloud told that the turn counts.
            (Some(asked), _, Some(_)) if !asked.confirmed => {
                self.ask(now);
                self.advance(now);
            }
            (Some(_), Some(_), Some(_)) => self.accept(now),
            (Some(_), _, _) => {}
        }
    }

    fn ask(&mut self, now: Instant) {
        let Some(utterance) = self.utterance.as_mut() else { return };
        let (rev, first) = match utterance.asked {
            Some(asked) => (asked.rev, asked.first),
            None => {
                self.next_rev += 1;
                (self.next_rev, now)
            }
        };
        let ended = utterance.ended;
        utterance.asked = Some(Asked {
            rev,
            first,
            resend_at: now + self.config.ask_again_after,
            give_up_at: ended.map(|ended| ended.at + self.config.cloud_lost_after),
            confirmed: ended.is_some(),
        });
        let request = self.request(now);
        self.out.extend(request.map(Output::Ask));
    }

    /// Returns when the box takes the turn itself, if it comes to that.
    fn take_over_at(&self) -> Option<Instant> {
        let waits = |utterance: &&Utterance| utterance.reply.is_none() && !utterance.taken;
        let utterance = self.utterance.as_ref().filter(waits)?;
        let (asked, ended, config) = (utterance.asked?, utterance.ended?, &self.config);
        Some(if self.cloud_is_silent {
            ended.at.max(asked.first + config.silent_patience)
        } else {
            let budget = utterance.speech_end + config.cloud_budget;
            let late = ended.at.max(budget).max(asked.first + config.cloud_patience);
            utterance.pending.map_or(late, |until| late.max(until))
        })
    }

    fn take_turn(&mut self, now: Instant) {
        let request = self.request(now);
        if let Some(utterance) = &mut self.utterance {
            utterance.taken = true;
        }
        debug!("The cloud is late; the box takes the turn");
        self.out.extend(request.map(Output::TakeTurn));
    }

    /// What is asked about the utterance.
    fn request(&self, now: Instant) -> Option<TurnRequest> {
        let utterance = self.utterance.as_ref()?;
        let transcript = utterance.transcript.as_ref()?;
        Some(TurnRequest {
            call: self.command.call,
            turn: self.turn.turn + 1,
            rev: utterance.asked?.rev,
            mode: if utterance.ended.is_some() { TurnKind::Final } else { TurnKind::Draft },
            event: TurnEvent::Heard { text: transcript.text.clone(), logprob: transcript.logprob },
            state: self.state.as_ref().and_then(|state| serde_json::to_value(state).ok()),
            elapsed_s: self.elapsed_s(now),
            budget_ms: u32::try_from(self.config.cloud_lost_after.as_millis()).unwrap_or(u32::MAX),
        })
    }

    /// The turn is over and the answer is here: act on it.
    fn accept(&mut self, now: Instant) {
        let Some(utterance) = self.utterance.take() else { return };
        let (Some(Answer { reply, at: replied, local }), Some(ended), Some(transcript), Some(answered)) =
            (utterance.reply, utterance.ended, utterance.transcript, self.answered)
        else {
            return;
        };
        let state = match serde_json::from_value::<State>(reply.state) {
            Ok(state) => state,
            Err(error) => {
                warn!(%error, "The state of an answer cannot be read");
                return self.say_goodbye(now, Disposition::CloudLost);
            }
        };
        let turn = self.turn.turn + 1;
        let barged_in = self.barged_in;
        let said = self.words.heard(&transcript.text);
        self.close_turn();
        let from_end = |at: Instant| signed_ms(utterance.speech_end, at);
        self.turn = TurnRecord {
            turn,
            customer: Some(CustomerTurn {
                text: transcript.text,
                start_s: seconds(answered, ended.speech_start),
                end_s: seconds(answered, utterance.speech_end),
                logprob: transcript.logprob,
                barged_in,
            }),
            decision: DecisionRecord {
                node: reply.node,
                because: reply.because,
                understanding: reply.understanding,
                local,
            },
            words: said.iter().map(|found| word_record("customer", found)).collect(),
            robot: Vec::new(),
            latency: Some(LatencyRecord {
                asr_start_ms: from_end(utterance.asr_start),
                asr_done_ms: utterance.asr_done.map_or(0.0, from_end),
                reply_ms: from_end(replied),
                turn_end_ms: from_end(ended.at),
                first_packet_ms: 0.0,
                cloud_ms: reply.took_us as f32 / 1_000.0,
            }),
        };
        self.cloud_is_silent |= local;
        self.speech_end = Some(utterance.speech_end);
        self.state = Some(state);
        self.perform(now, reply.actions.into_iter().filter_map(ActionV1::into_action).collect());
    }

    fn say_goodbye(&mut self, now: Instant, disposition: Disposition) {
        self.give_up_transfer(now);
        let Some(script) = self.script.clone() else { return self.hang_up(now) };
        self.drop_utterance();
        self.speaking = false;
        self.end_as(disposition);
        let outcome = match &self.state {
            Some(state) => trunkline_dialogue::outcome_now(&script, state, self.elapsed_s(now)),
            None => return self.hang_up(now),
        };
        let text = trunkline_dialogue::goodbye(&script, &self.command.variables);
        let turn = self.turn.turn + 1;
        self.close_turn();
        self.turn.turn = turn;
        self.turn.decision = DecisionRecord {
            node: "goodbye".to_owned(),
            because: disposition.as_str().to_owned(),
            local: true,
            ..DecisionRecord::default()
        };
        self.perform(
            now,
            vec![
                Action::Say(Say { node: "goodbye".to_owned(), text, barge_in: BargeIn::Off, generate: None }),
                Action::End { outcome },
            ],
        );
    }

    fn fail(&mut self, now: Instant, disposition: Disposition, cause: String) {
        self.end_as(disposition);
        self.cause = cause;
        if self.phase == Phase::Dialing { self.hang_up(now) } else { self.file(now) }
    }

    /// The first reason counts: what follows from it is not the cause.
    fn end_as(&mut self, disposition: Disposition) {
        self.disposition.get_or_insert(disposition);
    }

    fn hang_up(&mut self, now: Instant) {
        if self.playing.take().is_some() {
            self.out.push_back(Output::Stop);
        }
        self.drop_utterance();
        self.phase = Phase::HangingUp;
        self.hangup_by = Some(now + self.config.hangup_within);
        self.out.push_back(Output::HangUp);
    }

    fn file(&mut self, _now: Instant) {
        self.drop_utterance();
        self.playing = None;
        self.phase = Phase::Filing;
        self.out.push_back(Output::File);
    }

    fn elapsed_s(&self, now: Instant) -> u32 {
        self.answered
            .map_or(0, |at| u32::try_from(now.saturating_duration_since(at).as_secs()).unwrap_or(u32::MAX))
    }
}

fn word_record(by: &str, found: &Found) -> WordRecord {
    WordRecord {
        by: by.to_owned(),
        word: found.word.clone(),
        list: found.list.clone(),
        severity: found.severity.as_str().to_owned(),
        action: if by == "robot" { found.action.as_str().to_owned() } else { "note".to_owned() },
    }
}
