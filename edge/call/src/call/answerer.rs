//! What answered was no person.
//!
//! What is done then is the script's: a message after the beep of a voicemail, one sentence to an assistant that
//! screens calls, or the end of the call. Without a word of it in the script, the box's own setting decides.

use std::time::{Duration, Instant};

use tracing::{debug, info};
use trunkline_dialogue::action::Event;
use trunkline_model::Disposition;

use super::{Call, Hearing, Output, Phase};

/// A greeting without a beep is over when nothing was heard for so long.
const QUIET: Duration = Duration::from_secs(3);
/// How long the beep of a voicemail is waited for.
const BEEP_WITHIN: Duration = Duration::from_secs(30);
/// How long the person behind an assistant is waited for.
const PERSON_WITHIN: Duration = Duration::from_secs(60);
/// What assistants say while one waits, and people do not greet with.
const ASKS_TO_WAIT: &[&str] = &[
    "请稍等",
    "请稍候",
    "正在转接",
    "正在为您",
    "转告",
    "please wait",
    "stay on the line",
    "hold the line",
    "one moment",
];

/// Which machine answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineKind {
    /// It takes messages.
    Voicemail,
    /// It asks who calls and why.
    Screener,
    /// Another, or one of which the kind is not known.
    Other,
}

/// What is known of a machine that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Which.
    pub kind: MachineKind,
    /// It has just beeped: what is said now is recorded.
    pub beep: bool,
    /// What it was known by, for people.
    pub evidence: String,
    /// What the box does with machines of which the script says nothing.
    pub hang_up: bool,
}

/// What is being done with a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WithMachine {
    /// The end of its greeting is waited for, which has been quiet since then.
    AwaitsBeep { quiet_since: Option<Instant>, until: Instant },
    /// It was told who calls; the person is waited for.
    AwaitsPerson { until: Instant },
}

impl Call {
    /// A machine answered, or more is known of the one that did.
    pub fn handle_machine(&mut self, now: Instant, machine: Machine) {
        if self.phase != Phase::Talking || self.transfer.is_some() || self.disposition.is_some() {
            return;
        }
        let Some(script) = self.script.clone() else { return };
        let has_message = script.leaves_message().is_some();
        match machine.kind {
            MachineKind::Voicemail if has_message && machine.beep => {
                self.leave_message(now, machine.evidence)
            }
            MachineKind::Voicemail if has_message => self.await_beep(now, machine.evidence),
            MachineKind::Screener if matches!(self.with_machine, Some(WithMachine::AwaitsPerson { .. })) => {}
            MachineKind::Screener => {
                match trunkline_dialogue::to_screener(&script, &self.command.variables) {
                    Some(text) => self.tell_screener(now, text),
                    None => self.by_rule(now, script.hangs_up_on_machines(), machine),
                }
            }
            MachineKind::Voicemail | MachineKind::Other => {
                self.by_rule(now, script.hangs_up_on_machines(), machine);
            }
        }
    }

    fn by_rule(&mut self, now: Instant, rule: Option<bool>, machine: Machine) {
        if rule.unwrap_or(machine.hang_up) {
            self.end_at_machine(now, machine.evidence);
        }
    }

    fn end_at_machine(&mut self, now: Instant, evidence: String) {
        self.with_machine = None;
        self.cause = evidence;
        self.end_as(Disposition::Machine);
        self.outcome_of(now, &Event::HungUp);
        self.hang_up(now);
    }

    fn await_beep(&mut self, now: Instant, evidence: String) {
        if matches!(self.with_machine, Some(WithMachine::AwaitsBeep { .. })) {
            return;
        }
        info!("A voicemail: its beep is waited for");
        self.cause = evidence;
        self.be_silent();
        self.with_machine = Some(WithMachine::AwaitsBeep { quiet_since: None, until: now + BEEP_WITHIN });
    }

    fn leave_message(&mut self, now: Instant, evidence: String) {
        let Some(script) = self.script.clone() else { return };
        let Some(text) = trunkline_dialogue::to_voicemail(&script, &self.command.variables) else { return };
        self.be_silent();
        self.with_machine = None;
        self.cause = format!("{evidence}; a message was left");
        self.say_last(now, Disposition::Machine, "voicemail", text);
    }

    fn tell_screener(&mut self, now: Instant, text: String) {
        info!("An assistant screens the call: it is told who calls");
        self.be_silent();
        self.with_machine = Some(WithMachine::AwaitsPerson { until: now + PERSON_WITHIN });
        self.say_alone(now, "screener", "an assistant asks who calls", text, None);
    }

    /// Stops the prompt and everything that was to follow.
    fn be_silent(&mut self) {
        self.drop_utterance();
        if self.playing.take().is_some() {
            self.out.push_back(Output::Stop);
        }
        self.queue.clear();
        self.out.push_back(Output::ForgetTurn);
        (self.listen, self.no_input_at, self.undo) = (None, None, None);
        (self.speaking, self.barged_in, self.goes_on) = (false, false, false);
    }

    /// Takes news of the far end's sound while the end of a greeting is waited for; `true` if it does.
    pub(super) fn awaits_beep(&mut self, now: Instant, news: Hearing) -> bool {
        let Some(WithMachine::AwaitsBeep { quiet_since, .. }) = &mut self.with_machine else { return false };
        match news {
            Hearing::SpeechStarted | Hearing::Resumed { .. } => *quiet_since = None,
            Hearing::Paused { .. } | Hearing::FalseStart | Hearing::TurnEnded { .. } => {
                quiet_since.get_or_insert(now);
            }
        }
        true
    }

    /// Takes words while the person behind an assistant is waited for; `true` if it does. The first that are no
    /// machine's begin the conversation anew.
    pub(super) fn awaits_person(&mut self, now: Instant) -> bool {
        let Some(WithMachine::AwaitsPerson { .. }) = self.with_machine else { return false };
        let Some(utterance) = &self.utterance else { return true };
        let (Some(transcript), Some(_)) = (&utterance.transcript, utterance.ended) else { return true };
        let text = transcript.text.to_lowercase();
        let is_person = !text.is_empty() && !ASKS_TO_WAIT.iter().any(|words| text.contains(words));
        self.drop_utterance();
        self.speaking = false;
        self.out.push_back(Output::ForgetTurn);
        if is_person {
            debug!("The person is there");
            self.with_machine = None;
            self.begin_anew(now);
        }
        true
    }

    /// Begins the script again, for a person who heard nothing of it.
    fn begin_anew(&mut self, now: Instant) {
        let Some(script) = &self.script else { return };
        let state = trunkline_dialogue::start_with_arms(script, &self.command.variables, &self.command.arms);
        if let Ok(state) = state {
            self.state = Some(state);
            self.step_here(now, &Event::Answered);
        }
    }

    /// When the wait for a beep or a person is over, and why, for the log.
    pub(super) fn machine_due(&self) -> Option<Instant> {
        match self.with_machine? {
            WithMachine::AwaitsBeep { quiet_since, until } => {
                Some(quiet_since.map_or(until, |since| until.min(since + QUIET)))
            }
            WithMachine::AwaitsPerson { until } => Some(until),
        }
    }

    pub(super) fn machine_timed_out(&mut self, now: Instant) {
        match self.with_machine {
            Some(WithMachine::AwaitsBeep { quiet_since: Some(since), .. }) if since + QUIET <= now => {
                let evidence = std::mem::take(&mut self.cause);
                self.leave_message(now, evidence);
            }
            Some(WithMachine::AwaitsBeep { .. }) => {
                let cause = format!("{}; its greeting did not end", self.cause);
                self.end_at_machine(now, cause);
            }
            Some(WithMachine::AwaitsPerson { .. }) => {
                self.end_at_machine(now, "an assistant screened the call, and nobody took it".to_owned());
            }
            None => {}
        }
    }
}
