//! The call itself.

mod answerer;
mod goes_on;
mod news;
mod prompt;
mod transfer;
mod turn;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use tracing::{debug, warn};
use trunkline_dialogue::action::{Action, BargeIn, Event, Listen, Say};
use trunkline_dialogue::{Script, State};
use trunkline_model::{CallId, Direction, Disposition, Outcome};
use trunkline_wire::{
    CallRecord, DecisionRecord, DialCommand, MediaRecord, ProgressStage, RecordingRecord, TransferRecord,
    TurnRecord,
};
use trunkline_words::Filter;

use crate::hearing::{Ended, Utterance};
use crate::timeline::Timeline;
use answerer::WithMachine;
pub use answerer::{Machine, MachineKind};
use goes_on::{Said, Undo};
pub use news::{CallConfig, Hearing, Line, Media, Output, Transcript};
use transfer::Transfer;
pub use transfer::{TransferFailure, TransferNews, TransferWay};

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
    direction: Direction,
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
    with_machine: Option<WithMachine>,
    transfer: Option<Transfer>,
    transfers: Vec<TransferRecord>,
    /// The wishes for a hand-over from outside that came so far.
    wishes: u32,
    speaking: bool,
    /// When the speech that runs, or was heard last, was noticed.
    speech_began: Option<Instant>,
    barged_in: bool,
    utterance: Option<Utterance>,
    /// The answer that can still be taken back.
    undo: Option<Undo>,
    /// Speech has begun that may go on with the turn that is being answered.
    goes_on: bool,
    /// What was said of this turn before it was answered too early.
    before: Option<Said>,
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
            direction: Direction::Outbound,
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
            with_machine: None,
            transfer: None,
            transfers: Vec::new(),
            wishes: 0,
            speaking: false,
            speech_began: None,
            barged_in: false,
            utterance: None,
            undo: None,
            goes_on: false,
            before: None,
            next_rev: 1,
            cloud_is_silent: false,
            turn: TurnRecord::default(),
            speech_end: None,
            turns: Vec::new(),
        }
    }

    /// Takes a call that a customer makes and that rings here: `command` has the caller where whom to call stands, and
    /// its instant and its gate mean nothing. It is answered as soon as it is prepared.
    pub fn inbound(command: DialCommand, config: CallConfig, now: Instant, wall: Timestamp) -> Self {
        let mut call = Self::new(command, config, now, wall);
        call.direction = Direction::Inbound;
        call.rang = Some(now);
        call
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
        if self.direction.is_outbound() && self.timeline.wall(now) > self.command.before {
            let reason = "the call could not be prepared before the instant by which it had to be dialled";
            return self.fail(now, Disposition::Expired, reason.to_owned());
        }
        match trunkline_dialogue::start_with_arms(&script, &self.command.variables, &self.command.arms) {
            Ok(state) => self.state = Some(state),
            Err(errors) => {
                let reason = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                return self.fail(now, Disposition::BoxFault, format!("variables do not fit: {reason}"));
            }
        }
        self.script = Some(script);
        self.phase = Phase::Dialing;
        match self.direction {
            Direction::Outbound => {
                self.out.push_back(Output::Progress(ProgressStage::Dialing, String::new()));
                self.out.push_back(Output::Dial);
            }
            Direction::Inbound => self.out.push_back(Output::Answer),
        }
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
            // Whoever calls may give up while we make ready.
            (
                Phase::Preparing | Phase::Dialing | Phase::HangingUp,
                Line::Failed { disposition, cause, sip_code },
            ) => {
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
                self.end_as(if over {
                    Disposition::Completed
                } else if self.with_machine.is_some() {
                    // A voicemail that hangs up before its beep is nobody who was reached.
                    Disposition::Machine
                } else {
                    Disposition::CustomerHungUp
                });
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
            (Phase::Preparing | Phase::Dialing, Line::PeerHungUp | Line::Ended) => {
                self.end_as(Disposition::NetworkFault);
                self.file(now);
            }
            (Phase::HangingUp, Line::Answered) => self.out.push_back(Output::HangUp),
            (Phase::HangingUp, Line::PeerHungUp | Line::Ended) => self.file(now),
            (Phase::Filing | Phase::Done, _)
            | (Phase::Preparing, Line::Ringing | Line::Answered)
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
            Media::Finished { say } | Media::Failed { say, .. } => {
                if self.playing.as_ref().is_some_and(|playing| playing.say == say) {
                    self.playing = None;
                    self.note_heard(if let Media::Failed { heard, .. } = news { heard } else { 1.0 });
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
        if self.phase != Phase::Talking || self.transfer.is_some() || self.awaits_beep(now, news) {
            return;
        }
        match news {
            Hearing::SpeechStarted => {
                self.speaking = true;
                self.speech_began = Some(now);
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
            direction: self.direction,
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
            arms: self.state.as_ref().map(|state| state.arms().clone()).unwrap_or_default(),
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
        if self.machine_due().is_some_and(|at| at <= now) {
            return self.machine_timed_out(now);
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
            (self.machine_due().filter(|_| talking), "a machine was waited for"),
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
        if !matches!(event, Event::Answered) || !self.turns.is_empty() {
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

    fn say_goodbye(&mut self, now: Instant, disposition: Disposition) {
        let Some(script) = self.script.clone() else { return self.hang_up(now) };
        let text = trunkline_dialogue::goodbye(&script, &self.command.variables);
        self.say_last(now, disposition, "goodbye", text);
    }

    /// Says a text that nobody may break into, and hangs up.
    fn say_last(&mut self, now: Instant, disposition: Disposition, node: &str, text: String) {
        self.give_up_transfer(now);
        self.with_machine = None;
        self.drop_utterance();
        self.speaking = false;
        self.end_as(disposition);
        let outcome = match (&self.script, &self.state) {
            (Some(script), Some(state)) => {
                trunkline_dialogue::outcome_now(script, state, self.elapsed_s(now))
            }
            _ => return self.hang_up(now),
        };
        self.say_alone(now, node, disposition.as_str(), text, Some(Action::End { outcome }));
    }

    /// Says a text of the box's own in a turn of its own, which nobody may break into.
    fn say_alone(&mut self, now: Instant, node: &str, because: &str, text: String, then: Option<Action>) {
        let turn = self.turn.turn + 1;
        self.close_turn();
        self.turn.turn = turn;
        self.turn.decision = DecisionRecord {
            node: node.to_owned(),
            because: because.to_owned(),
            local: true,
            ..DecisionRecord::default()
        };
        let say = Say { node: node.to_owned(), text, barge_in: BargeIn::Off, generate: None };
        self.perform(now, [Some(Action::Say(say)), then].into_iter().flatten().collect());
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
