//! A turn of the customer: from the first pause to the answer that is acted on, the cloud's or the box's own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, warn};
use trunkline_dialogue::State;
use trunkline_model::Disposition;
use trunkline_wire::{
    ActionV1, CustomerTurn, DecisionRecord, LatencyRecord, TurnEvent, TurnKind, TurnRecord, TurnReply,
    TurnRequest,
};

use super::goes_on::{Said, Undo};
use super::prompt::word_record;
use super::{Call, Output, Phase, Transcript};
use crate::hearing::{Answer, Asked, Utterance};
use crate::timeline::{seconds, signed_ms};
use crate::{expected, floor};

impl Call {
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
            let until =
                now + Duration::from_millis(u64::from(reply.pending_ms)) + self.config.silent_patience;
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
    pub(super) fn take_reply(&mut self, now: Instant, reply: TurnReply, local: bool) {
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
                self.out.push_back(Output::Warm { text: self.words.speakable(text).text, soon: true });
            }
        }
        self.out.push_back(Output::Matched { pause: utterance.pause, matched });
        utterance.reply = Some(Answer { reply, at: now, local });
        self.advance(now);
    }

    pub(super) fn begin_utterance(&mut self, pause: u32, speech_end: Instant, now: Instant) {
        self.utterance = Some(Utterance::new(pause, speech_end, now));
        // Who goes on still answers the question before.
        let (listen, phrases) = match self.undo.as_ref().filter(|_| self.goes_on) {
            Some(undo) => (&undo.listen, &undo.phrases),
            None => (&self.listen, &self.phrases),
        };
        let numbers = listen.as_ref().and_then(expected::numbers);
        let phrases = Arc::clone(phrases);
        let listens = self.is_over_a_prompt() && floor::is_early(self.heard()) && self.is_short(speech_end);
        let asides = if listens { floor::signs(self.speaks_chinese()) } else { Arc::default() };
        self.out.push_back(Output::Recognize { pause, phrases, numbers, asides });
    }

    /// Says whether the customer speaks while a prompt is held.
    fn is_over_a_prompt(&self) -> bool {
        self.playing.as_ref().is_some_and(|playing| playing.paused)
    }

    /// How much of the prompt was heard, 0 to 1.
    fn heard(&self) -> f32 {
        self.turn.robot.last().map_or(0.0, |robot| robot.heard)
    }

    fn spoken_until(&self, speech_end: Instant) -> Duration {
        self.speech_began.map_or(Duration::ZERO, |began| speech_end.saturating_duration_since(began))
    }

    /// Says whether this may be no more than a sign of listening. Who goes on with what was answered too early says
    /// something, however short.
    fn is_short(&self, speech_end: Instant) -> bool {
        !self.goes_on && self.speech_began.is_some() && self.spoken_until(speech_end) < floor::SHORT
    }

    pub(super) fn drop_utterance(&mut self) {
        if let Some(utterance) = self.utterance.take() {
            self.out.push_back(Output::DropRecognition { pause: utterance.pause });
        }
    }

    /// What was taken for speech was none: go on where the robot was.
    pub(super) fn not_heard(&mut self, now: Instant) {
        if self.only_the_first_part(now) {
            return;
        }
        self.speaking = false;
        self.goes_on = false;
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
    pub(super) fn advance(&mut self, now: Instant) {
        if self.awaits_person(now) {
            return;
        }
        let Some(utterance) = &self.utterance else { return };
        let Some(transcript) = &utterance.transcript else { return };
        let has_ended = utterance.ended.is_some();
        // Nobody waits for half a sentence to be said again: who was not understood is asked.
        let insists = utterance.ended.is_some_and(|ended| {
            let spoken = utterance.speech_end.saturating_duration_since(ended.speech_start);
            transcript.text.is_empty() && self.is_over_a_prompt() && spoken >= floor::LONG
        });
        if transcript.text.is_empty() && (self.before.is_none() || !has_ended) && !insists {
            if has_ended {
                self.not_heard(now);
            }
            return;
        }
        if self.is_over_a_prompt() && !insists {
            let heard = self.heard();
            let short = self.is_short(utterance.speech_end);
            let meaning = utterance.reply.as_ref().map(|answer| floor::is_meant(&answer.reply.understanding));
            if !floor::is_taken(&transcript.text, heard) || (short && meaning == Some(false)) {
                debug!("A sign of listening; the prompt goes on");
                self.drop_utterance();
                return self.not_heard(now);
            }
            // A turn that may turn out to be none is not confirmed before it is understood.
            if short && meaning.is_none() && utterance.asked.is_some() && has_ended {
                return;
            }
            if self.goes_on {
                self.take_back();
            }
        }
        let Some(utterance) = &self.utterance else { return };
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

    pub(super) fn ask(&mut self, now: Instant) {
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
    pub(super) fn take_over_at(&self) -> Option<Instant> {
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

    pub(super) fn take_turn(&mut self, now: Instant) {
        let request = self.request(now);
        if let Some(utterance) = &mut self.utterance {
            utterance.taken = true;
        }
        debug!("The cloud is late; the box takes the turn");
        self.out.extend(request.map(Output::TakeTurn));
    }

    /// What is asked about the utterance.
    pub(super) fn request(&self, now: Instant) -> Option<TurnRequest> {
        let utterance = self.utterance.as_ref()?;
        let transcript = self.whole(utterance.transcript.as_ref()?);
        Some(TurnRequest {
            call: self.command.call,
            turn: self.turn.turn + 1,
            rev: utterance.asked?.rev,
            mode: if utterance.ended.is_some() { TurnKind::Final } else { TurnKind::Draft },
            event: TurnEvent::Heard {
                text: transcript.text,
                logprob: transcript.logprob,
                voice: transcript.voice,
            },
            state: self.state.as_ref().and_then(|state| serde_json::to_value(state).ok()),
            elapsed_s: self.elapsed_s(now),
            budget_ms: u32::try_from(self.config.cloud_lost_after.as_millis()).unwrap_or(u32::MAX),
        })
    }

    /// The turn is over and the answer is here: act on it.
    pub(super) fn accept(&mut self, now: Instant) {
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
        let transcript = self.whole(&transcript);
        let found = self.words.heard(&transcript.text);
        let went_on = self.before.is_some();
        let said = Said {
            text: transcript.text.clone(),
            logprob: transcript.logprob,
            voice: transcript.voice,
            start: self.before.as_ref().map_or(ended.speech_start, |before| before.start),
            end: utterance.speech_end,
        };
        let start_s = seconds(answered, said.start);
        let (before, listen, phrases) = (self.state.clone(), self.listen.clone(), Arc::clone(&self.phrases));
        self.close_turn();
        let from_end = |at: Instant| signed_ms(utterance.speech_end, at);
        self.turn = TurnRecord {
            turn,
            customer: Some(CustomerTurn {
                text: transcript.text,
                start_s,
                end_s: seconds(answered, utterance.speech_end),
                logprob: transcript.logprob,
                barged_in,
                went_on,
                voice: transcript.voice,
            }),
            decision: DecisionRecord {
                node: reply.node,
                because: reply.because,
                understanding: reply.understanding,
                local,
            },
            words: found.iter().map(|found| word_record("customer", found)).collect(),
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
        let words = |text: &String| self.words.speakable(text).text;
        let next = reply.next.iter().map(|text| Output::Warm { text: words(text), soon: false });
        self.out.extend(next);
        self.perform(now, reply.actions.into_iter().filter_map(ActionV1::into_action).collect());
        if self.playing.is_some() {
            self.undo = before.map(|state| Undo { state, listen, phrases, said, until: None });
        }
    }
}
