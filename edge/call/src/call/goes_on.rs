//! A customer who was answered too early and goes on.
//!
//! Nobody reacts to words in the first third of a second. Who begins to speak that soon after an answer began has
//! only paused: the answer is held, and once there are words it is taken back. The dialogue stands again where
//! it stood before the turn, and what was said before the pause and after it is one turn. Only pure steps are
//! undone: a refusal stays one.
//!
//! Source: reaction times to speech of 200 ms and more, Levinson and Torreira 2015.

use std::sync::Arc;
use std::time::Instant;

use trunkline_dialogue::State;
use trunkline_dialogue::action::{Endpoint, Listen};
use trunkline_wire::{TurnRecord, VoiceV1};

use super::{Call, Output, Transcript};
use crate::hearing::{Ended, Utterance};

/// What stood before an answer, as long as it can be taken back.
#[derive(Debug)]
pub(super) struct Undo {
    pub(super) state: State,
    pub(super) listen: Option<Listen>,
    pub(super) phrases: Arc<[String]>,
    pub(super) said: Said,
    /// Until when speech cannot be a reaction; unknown before the answer is heard.
    pub(super) until: Option<Instant>,
}

/// The part of a turn that was answered too early.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) logprob: f32,
    pub(super) voice: Option<VoiceV1>,
    pub(super) start: Instant,
    pub(super) end: Instant,
}

impl Call {
    /// Says whether speech that begins now goes on with the turn that is being answered.
    pub(super) fn may_go_on(&self, now: Instant) -> bool {
        self.undo.as_ref().and_then(|undo| undo.until).is_some_and(|until| now <= until)
    }

    /// Takes the answer back: its words are there, so the customer did go on.
    pub(super) fn take_back(&mut self) {
        self.goes_on = false;
        let Some(undo) = self.undo.take() else { return };
        if self.playing.take().is_some() {
            self.out.push_back(Output::Stop);
        }
        self.queue.clear();
        let endpoint = undo.listen.as_ref().map_or(Endpoint::Normal, |listen| listen.endpoint);
        self.out.push_back(Output::Expect { endpoint });
        (self.state, self.listen, self.phrases) = (Some(undo.state), undo.listen, undo.phrases);
        self.no_input_at = None;
        self.barged_in = false;
        self.turn = TurnRecord { turn: self.turn.turn.saturating_sub(1), ..TurnRecord::default() };
        self.before = Some(undo.said);
    }

    /// The words of the turn: what was said before it went on, and what after.
    pub(super) fn whole(&self, transcript: &Transcript) -> Transcript {
        let Some(before) = &self.before else { return transcript.clone() };
        if transcript.text.is_empty() {
            return Transcript { text: before.text.clone(), logprob: before.logprob, voice: before.voice };
        }
        let first = before.text.trim_end_matches(['。', '.', '，', ',', '…', ' ']);
        let text = format!("{first}{}{}", if self.speaks_chinese() { "，" } else { ", " }, transcript.text);
        // How the last words were spoken counts.
        let voice = transcript.voice.or(before.voice);
        Transcript { text, logprob: before.logprob.min(transcript.logprob), voice }
    }

    pub(super) fn speaks_chinese(&self) -> bool {
        self.script.as_ref().is_some_and(|script| script.locale().starts_with("zh"))
    }

    /// The customer went on with nothing after all: the first part is the turn.
    pub(super) fn only_the_first_part(&mut self, now: Instant) -> bool {
        let Some(before) = &self.before else { return false };
        let pause = self.utterance.as_ref().map_or(0, |utterance| utterance.pause);
        let mut utterance = Utterance::new(pause, before.end, now);
        utterance.asr_done = Some(now);
        utterance.transcript = Some(Transcript::default());
        utterance.ended = Some(Ended { at: now, speech_start: before.start });
        self.speaking = false;
        self.utterance = Some(utterance);
        self.out.push_back(Output::ForgetTurn);
        self.advance(now);
        true
    }
}
