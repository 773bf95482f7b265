//! What the robot says: one prompt at a time, what may be broken into and when, and what was heard of it.

use std::time::{Duration, Instant};

use tracing::warn;
use trunkline_dialogue::action::{Action, Endpoint, Say};
use trunkline_model::Disposition;
use trunkline_wire::{RobotTurn, WordRecord};
use trunkline_words::Found;

use super::{Call, Output, Playing};
use crate::expected;
use crate::timeline::{seconds, signed_ms};

impl Call {
    pub(super) fn perform(&mut self, now: Instant, actions: Vec<Action>) {
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
        (self.undo, self.goes_on, self.before) = (None, false, None);
        let endpoint = self.listen.as_ref().map_or(Endpoint::Normal, |listen| listen.endpoint);
        self.out.push_back(Output::Expect { endpoint });
        self.run_queue(now);
    }

    pub(super) fn run_queue(&mut self, now: Instant) {
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
                Action::Transfer { to, timeout, waiting, whisper } => {
                    return self.begin_transfer(now, to, timeout, waiting, whisper);
                }
                Action::End { outcome } => {
                    self.outcome = Some(outcome);
                    self.end_as(Disposition::Completed);
                    return self.hang_up(now);
                }
            }
        }
        if self.with_machine.is_some() {
            return;
        }
        // A reply that neither listens nor ends would leave the customer in silence for ever.
        self.no_input_at = Some(now + Duration::from_secs(5));
    }

    /// Begins to speak, if there is anything left to say.
    pub(super) fn play(&mut self, say: Say) -> bool {
        let spoken = self.words.speakable(&say.text);
        if !spoken.found.is_empty() {
            warn!(
                node = say.node,
                words = spoken.found.len(),
                "The robot was about to say words of a word list"
            );
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

    pub(super) fn on_started(&mut self, at: Instant) {
        if let Some(undo) = &mut self.undo
            && undo.until.is_none()
        {
            undo.until = Some(at + self.config.reaction);
        }
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

    pub(super) fn note_heard(&mut self, heard: f32) {
        if let Some(robot) = self.turn.robot.last_mut() {
            robot.heard = heard.clamp(0.0, 1.0);
        }
    }

    /// Says whether a prompt plays that the customer may not break into now.
    pub(super) fn is_protected(&self) -> bool {
        self.playing.as_ref().is_some_and(|playing| !playing.paused)
    }

    /// When the words that play now stop being protected, if somebody waits for that.
    pub(super) fn open_at(&self) -> Option<Instant> {
        self.playing
            .as_ref()
            .filter(|playing| !playing.paused && self.speaking)
            .and_then(|playing| playing.open_at)
    }

    pub(super) fn try_barge_in(&mut self, now: Instant) {
        let goes_on = self.may_go_on(now);
        let Some(playing) = self.playing.as_mut().filter(|playing| !playing.paused) else { return };
        let is_open = playing.open_at.is_some_and(|at| at <= now);
        if self.speaking && (is_open || goes_on) {
            playing.paused = true;
            self.goes_on = goes_on;
            self.barged_in = !goes_on;
            self.out.push_back(Output::Pause);
        }
    }
}

pub(super) fn word_record(by: &str, found: &Found) -> WordRecord {
    WordRecord {
        by: by.to_owned(),
        word: found.word.clone(),
        list: found.list.clone(),
        severity: found.severity.as_str().to_owned(),
        action: if by == "robot" { found.action.as_str().to_owned() } else { "note".to_owned() },
    }
}
