//! What the sound of a call says beside words: the network's tones, and who or what answered.

use std::time::{Duration, Instant};

use serde::Deserialize;
use tracing::{debug, info};
use trunkline_audio::tone::{HeardTone, ProgressDetector, ProgressTone};
use trunkline_audio::{
    Announcement, Answerer, AnswererDetector, AnswererRules, AnswererVerdict, EarlyListener, EarlySound,
    EarlyVerdict, FRAME,
};
use trunkline_call::{Line, Machine, MachineKind};
use trunkline_dialogue::Script;
use trunkline_model::Disposition;
use trunkline_sip::Failure;
use trunkline_speech::ear::{Ear, EarConfig, EarEvent};
use trunkline_speech::recognise::{Job, Language, RecognizeOptions};
use trunkline_wire::{AnswererRecord, CallRecord, ToneRecord, VoiceV1};

use super::{Driver, Message};
use crate::config::CountryName;
use crate::failure;

/// `[answer]`: what follows from who answered.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnswerPolicy {
    /// What is done when a machine or a fax answers of which the script says nothing: `go_on` with the script, or
    /// `hang_up`.
    #[serde(default)]
    machine: OnMachine,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OnMachine {
    #[default]
    GoOn,
    HangUp,
}

/// Tones and announcements of a call that are kept in its record.
const MAX_TONES: usize = 8;
/// Voice in what is taken for an announcement, in milliseconds: less is a ring, a click, a greeting too early.
const SHORTEST_ANNOUNCEMENT: u32 = 1_000;
/// So often the recogniser is asked about one call that is not answered, one time after the other; from then on once in
/// [`ASKED_EVERY`]. Songs that are played instead of ringing have words as well, and an announcement may come after them.
const ASKED_AT_ONCE: u32 = 6;
const ASKED_EVERY: Duration = Duration::from_secs(5);
/// How long the end of a call is held back for the words of an announcement.
const WORDS_WITHIN: Duration = Duration::from_secs(3);
/// Silence that ends what was being said, in frames.
const SILENCE: usize = 50;

/// Listens to one call.
pub(super) struct Listener {
    begun: Instant,
    progress: ProgressDetector,
    early: EarlyListener,
    answerer: AnswererDetector,
    tones: Vec<ToneRecord>,
    verdict: Option<AnswererRecord>,
    /// Listens for announcements before the answer.
    ear: Option<Ear>,
    /// A piece of speech was not given to the recogniser yet.
    waits: bool,
    /// How often the recogniser was asked and when last, and whether it is at work.
    asked: u32,
    asked_at: Instant,
    asks: bool,
    /// How the call failed, which is told when the words of what was played are known.
    failed: Option<Line>,
}

impl Listener {
    pub(super) fn new(country: CountryName, now: Instant) -> Self {
        Self {
            begun: now,
            progress: ProgressDetector::new(country.country()),
            early: EarlyListener::new(country.country()),
            answerer: AnswererDetector::new(AnswererRules::default()),
            tones: Vec::new(),
            verdict: None,
            ear: None,
            waits: false,
            asked: 0,
            asked_at: now,
            asks: false,
            failed: None,
        }
    }

    fn keep(&mut self, tone: &str, evidence: String) {
        if self.tones.len() < MAX_TONES {
            let at_ms = u32::try_from(self.begun.elapsed().as_millis()).unwrap_or(u32::MAX);
            self.tones.push(ToneRecord { tone: tone.to_owned(), at_ms, evidence });
        }
    }

    /// Takes a frame in; returns a tone that is new.
    fn hear_tone(&mut self, frame: &[i16; FRAME]) -> Option<HeardTone> {
        let heard = self.progress.push(frame)?;
        self.keep(heard.tone.as_str(), heard.evidence.clone());
        Some(heard)
    }

    fn note(&mut self, verdict: &AnswererVerdict) {
        info!(at_ms = verdict.at_ms, "Answered by: {}, {}", verdict.who.as_str(), verdict.evidence);
        self.verdict = Some(AnswererRecord {
            verdict: verdict.who.as_str().to_owned(),
            at_ms: u32::try_from(verdict.at_ms).unwrap_or(u32::MAX),
            evidence: verdict.evidence.clone(),
        });
    }

    pub(super) fn describe(&mut self, record: &mut CallRecord) {
        record.tones = std::mem::take(&mut self.tones);
        record.answerer = self.verdict.take();
    }
}

impl Driver {
    /// Takes in the sound of a call that is not answered yet.
    pub(super) fn listen_early(&mut self, frame: &[i16; FRAME]) {
        if !self.inbound {
            self.listen_for_announcements(frame);
        }
        if let Some(verdict) = self.listener.early.push(frame) {
            self.judge_early(&verdict);
        }
    }

    /// Notes what is played before the answer, and ends the call where that says how it ends.
    fn judge_early(&mut self, verdict: &EarlyVerdict) {
        let (what, evidence) = (verdict.what.as_str(), &verdict.evidence);
        info!(at_ms = verdict.at_ms, "Before the answer: {what}, {evidence}");
        self.listener.keep(what, evidence.clone());
        let disposition = match verdict.what {
            EarlySound::Tone(ProgressTone::Busy) => Disposition::Busy,
            EarlySound::Tone(ProgressTone::Congestion) => Disposition::NetworkFault,
            EarlySound::Announcement(Announcement::InvalidNumber) => Disposition::InvalidNumber,
            EarlySound::Announcement(Announcement::PowerOff) => Disposition::PowerOff,
            EarlySound::Announcement(Announcement::Suspended | Announcement::Unreachable) => {
                Disposition::Unreachable
            }
            EarlySound::Announcement(Announcement::InCall) => Disposition::Busy,
            EarlySound::Announcement(Announcement::NoAnswer) => Disposition::NoAnswer,
            EarlySound::Announcement(Announcement::Congestion) => Disposition::NetworkFault,
            // The network says more in a moment, or somebody answers.
            EarlySound::Tone(ProgressTone::Ringback | ProgressTone::Information | ProgressTone::Fax)
            | EarlySound::Announcement(Announcement::LeaveMessage)
            | EarlySound::ColourRing
            | EarlySound::Hold => return,
        };
        let sip_code = match self.listener.failed.take() {
            Some(Line::Failed { sip_code, .. }) => sip_code,
            Some(_) | None => None,
        };
        let cause = format!("the network plays {what}: {evidence}");
        self.core.handle_line(Instant::now(), Line::Failed { disposition, cause, sip_code });
    }

    /// Asks the recogniser about whatever sounds like speech before the answer.
    fn listen_for_announcements(&mut self, frame: &[i16; FRAME]) {
        let (listener, silero) = (&mut self.listener, &self.shared.speech.silero);
        let ear = listener.ear.get_or_insert_with(|| Ear::new(Some(silero), EarConfig::default()));
        ear.push(frame);
        while let Some(event) = ear.poll_event() {
            listener.waits |= matches!(event, EarEvent::PauseDetected { voiced_ms, .. } if voiced_ms >= SHORTEST_ANNOUNCEMENT);
        }
        let may_ask = listener.asked < ASKED_AT_ONCE || listener.asked_at.elapsed() >= ASKED_EVERY;
        if listener.waits && may_ask {
            self.ask_what_is_said();
        }
    }

    fn ask_what_is_said(&mut self) {
        let listener = &mut self.listener;
        if listener.asks {
            return;
        }
        let Some(utterance) = listener.ear.as_ref().and_then(Ear::utterance) else { return };
        (listener.waits, listener.asked_at) = (false, Instant::now());
        listener.asked += 1;
        let mut options = RecognizeOptions::new(self.language());
        // In many countries they come in two languages.
        let others = [Language::ZH, Language::EN].into_iter().filter(|other| *other != self.language());
        options.languages.extend(others);
        let own = self.own.clone();
        let job = Job { audio: utterance, options, waiting_since: None };
        let asked = self.shared.speech.pool.submit(job, move |done| {
            let text = done.result.map(|found| found.text).unwrap_or_default();
            let _ = own.send(Message::EarlyWords(text));
        });
        match asked {
            Ok(_) => self.listener.asks = true,
            Err(error) => debug!(%error, "The recogniser takes no announcements"),
        }
    }

    /// Takes in the words of what was played before the answer.
    pub(super) fn hear_announcement(&mut self, text: &str) {
        self.listener.asks = false;
        if self.answered {
            return;
        }
        if let Some(verdict) = self.listener.early.handle_words(text) {
            self.judge_early(&verdict);
        }
        if self.listener.failed.is_some() && self.listener.waits {
            self.ask_what_is_said();
        }
        if !self.listener.asks {
            self.fail_as_told();
        }
    }

    /// Tells the core that the call came to nothing: after the words of an announcement that ran until now are known,
    /// because they say more than a code.
    pub(super) fn fail(&mut self, failure: &Failure) {
        let line = failure::line(failure);
        if !self.answered && failure.sip_code.is_some() && self.listener.ear.is_some() {
            for _ in 0..SILENCE {
                self.listen_for_announcements(&[0; FRAME]);
            }
            if self.listener.waits {
                self.ask_what_is_said();
            }
        }
        if !self.listener.asks || self.answered {
            return self.core.handle_line(Instant::now(), line);
        }
        debug!("The call failed while an announcement is being understood");
        self.listener.failed = Some(line);
        let own = self.own.clone();
        tokio::spawn(async move {
            tokio::time::sleep(WORDS_WITHIN).await;
            let _ = own.send(Message::NoMoreEarlyWords);
        });
    }

    /// Tells the failure that was held back, if one was.
    pub(super) fn fail_as_told(&mut self) {
        if let Some(line) = self.listener.failed.take() {
            self.core.handle_line(Instant::now(), line);
        }
    }

    /// Takes in the sound of a call that was answered.
    pub(super) fn listen_answered(&mut self, frame: &[i16; FRAME]) {
        let now = Instant::now();
        if let Some(heard) = self.listener.hear_tone(frame)
            && matches!(heard.tone, ProgressTone::Busy | ProgressTone::Congestion)
        {
            // A line without signalling says so that it was hung up.
            info!("The far end plays {}: it was hung up", heard.tone.as_str());
            self.core.handle_line(now, Line::PeerHungUp);
        }
        // Whoever calls is somebody: who answered is a question of calls that the box made.
        if !self.inbound
            && let Some(verdict) = self.listener.answerer.push(frame)
        {
            self.judge(now, &verdict);
        }
    }

    /// Takes in the words of the far end.
    pub(super) fn listen_to_words(&mut self, text: &str) {
        if !self.inbound
            && let Some(verdict) = self.listener.answerer.handle_words(text)
        {
            self.judge(Instant::now(), &verdict);
        }
    }

    /// Listens to how the customer speaks, where the script wants it and the plan that the gate judges says so:
    /// it does only where every pack permits it and the consent is written.
    pub(super) fn listen_to_tone_of_voice(&mut self, script: &Script) {
        let permitted = self.command.gate.as_ref().is_some_and(|order| order.dossier.plan.emotion);
        if permitted && script.hears_tone_of_voice() {
            info!("The tone of voice is listened to");
            self.ear.hear_tone_of_voice();
        }
    }

    /// How the turn that runs was spoken, where that is listened to and there is something to compare it with.
    pub(super) fn tone_of_voice(&mut self) -> Option<VoiceV1> {
        let against = self.ear.tone_of_voice()?.against?;
        Some(VoiceV1 {
            arousal: against.arousal,
            pitch_st: against.pitch_st,
            loudness_db: against.loudness_db,
            pace: against.pace,
            pauses: against.pauses,
        })
    }

    fn judge(&mut self, now: Instant, verdict: &AnswererVerdict) {
        self.listener.note(verdict);
        let kind = match verdict.who {
            Answerer::Human | Answerer::Silence => return,
            Answerer::Voicemail => MachineKind::Voicemail,
            Answerer::Screener => MachineKind::Screener,
            Answerer::Machine | Answerer::Menu | Answerer::Fax => MachineKind::Other,
        };
        let machine = Machine {
            kind,
            beep: verdict.beep,
            evidence: format!("{}: {}", verdict.who.as_str(), verdict.evidence),
            hang_up: self.shared.config.answer.machine == OnMachine::HangUp,
        };
        self.core.handle_machine(now, machine);
    }
}
