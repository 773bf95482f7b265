//! One call's task: it moves sound, time and news between the core and the world, and decides nothing.

mod desks;
mod handover;
mod listen;
mod phone;
mod prepare;
mod speak;
mod supervise;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tracing::{Instrument, debug, info, info_span, warn};
use trunkline_call::{Call, CallConfig, Hearing, Media, Numbers, Output, Transcript};
use trunkline_dialogue::Script;
use trunkline_dialogue::action::Endpoint;
use trunkline_line::trunks::{Attempt, PlacedCall};
use trunkline_line::{Attached, Clip as Sound, Command, MediaNews, MediaStats, Recording};
use trunkline_speech::ear::{Ear, EarConfig, EarEvent, Endpoint as EarEndpoint, NodeEar};
use trunkline_speech::recognise::{Dictation, Language, Lexicon, RecognizeOptions};
use trunkline_speech::synth::Locale;
use trunkline_wire::{
    CallProgress, DialCommand, MediaRecord, ProgressStage, RecordingRecord, SuperviseCommand, TurnReply,
    TurnRequest,
};
use trunkline_words::Filter;

use crate::kept::InUse;
use crate::speech::VoiceOf;
use crate::supervisor::{Shared, file, since};
use handover::{Handover, RINGBACK, Ready, hand_over_news, news_of, woken};
use speak::Playing;
use supervise::{Supervision, supervisor_news};

pub(crate) use desks::Desks;
pub(crate) use listen::AnswerPolicy;
pub(crate) use phone::resolve;
pub(crate) use prepare::ready;
pub(crate) use supervise::Supervisors;

/// The far end still holds some of the last prompt in its buffer when the last packet is sent.
const PLAYOUT_DRAIN: Duration = Duration::from_millis(200);
/// The synthesiser has as many sessions.
const RENDER_AT_ONCE: usize = 2;
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
const MAX_TURN_MS: u32 = 20_000;
const IDLE: Duration = Duration::from_secs(60);

/// What reaches a call from outside.
#[derive(Debug)]
pub(crate) enum Message {
    Reply(Box<TurnReply>),
    OwnReply(Box<TurnReply>),
    Cancel,
    HandOver {
        wish: u32,
        to: Option<String>,
    },
    Supervise(SuperviseCommand),
    Prepared(Result<Box<Prepared>, String>),
    Rendering {
        done: usize,
        of: usize,
    },
    Transcript {
        pause: u32,
        transcript: Transcript,
    },
    /// What was said before the answer.
    EarlyWords(String),
    /// That what is not known yet of it is not waited for.
    NoMoreEarlyWords,
    TurnProbability {
        pause: u32,
        probability: f32,
    },
    HandOverSound {
        number: u32,
        ready: Ready,
    },
    Clip {
        say: u32,
        clip: Option<Sound>,
        first: bool,
        last: bool,
    },
}

/// What a call needs before it is dialled.
#[derive(Debug)]
pub(crate) struct Prepared {
    script: Arc<Script>,
    voice: VoiceOf,
    words: Arc<Filter>,
    floor: InUse,
}

/// Where a call comes from.
#[derive(Debug)]
pub(crate) enum Origin {
    /// It is to be dialled.
    Dial,
    /// A customer called, and it rings here; with the trunk that it came from.
    Rings(PlacedCall, String),
}

/// Runs the call to its end.
pub(crate) async fn run(
    shared: Arc<Shared>,
    command: DialCommand,
    origin: Origin,
    own: mpsc::UnboundedSender<Message>,
    inbox: mpsc::UnboundedReceiver<Message>,
) {
    let span = info_span!("call", call.id = %command.call);
    let (config, now, wall) = (CallConfig::default(), Instant::now(), Timestamp::now());
    let (core, line, trunk) = match origin {
        Origin::Dial => (Call::new(command.clone(), config, now, wall), None, String::new()),
        Origin::Rings(line, trunk) => (Call::inbound(command.clone(), config, now, wall), Some(line), trunk),
    };
    let listener = listen::Listener::new(shared.config.country, Instant::now());
    let driver = Driver {
        ear: Ear::new(Some(&shared.speech.silero), EarConfig::default()),
        dictation: Dictation::new(Arc::clone(&shared.speech.pool)),
        shared,
        command,
        core,
        own,
        inbox,
        inbound: line.is_some(),
        line,
        trunk,
        earlier: Vec::new(),
        answered: false,
        handover: None,
        handovers: 0,
        taking: false,
        supervision: None,
        supervise_wish: 0,
        listener,
        attached: None,
        recording: None,
        recording_error: String::new(),
        codec: "",
        encrypted: false,
        stats: None,
        clock: None,
        voice: None,
        script: None,
        floor: None,
        playing: None,
        stopped: None,
        begun: Instant::now(),
    };
    driver.run().instrument(span).await;
}

/// Where the ear's clock stands on ours: its position after the last frame, when that frame was
/// taken from the jitter buffer, and how long before that it had arrived.
#[derive(Clone, Copy)]
struct EarClock {
    position_ms: u64,
    arrived: Instant,
}

impl EarClock {
    fn instant(self, position_ms: u64) -> Instant {
        let before = Duration::from_millis(self.position_ms.saturating_sub(position_ms));
        self.arrived.checked_sub(before).unwrap_or(self.arrived)
    }
}

struct Driver {
    shared: Arc<Shared>,
    command: DialCommand,
    core: Call,
    ear: Ear,
    own: mpsc::UnboundedSender<Message>,
    inbox: mpsc::UnboundedReceiver<Message>,
    /// The customer called.
    inbound: bool,
    line: Option<PlacedCall>,
    /// The trunk that carries the call, and those that did not.
    trunk: String,
    earlier: Vec<Attempt>,
    answered: bool,
    handover: Option<Handover>,
    /// Hand-overs so far.
    handovers: u32,
    /// The network is asked to join customer and person without us.
    taking: bool,
    supervision: Option<Supervision>,
    /// The last wish about a supervisor that was followed.
    supervise_wish: u32,
    listener: listen::Listener,
    attached: Option<Attached>,
    recording: Option<Recording>,
    recording_error: String,
    codec: &'static str,
    encrypted: bool,
    stats: Option<MediaStats>,
    clock: Option<EarClock>,
    voice: Option<VoiceOf>,
    script: Option<Arc<Script>>,
    floor: Option<InUse>,
    dictation: Dictation,
    playing: Option<Playing>,
    /// The prompt before it, whose end the media thread has still to tell.
    stopped: Option<Playing>,
    begun: Instant,
}

impl Driver {
    async fn run(mut self) {
        loop {
            while let Some(output) = self.core.poll_output() {
                self.perform(output).await;
            }
            if self.core.is_done() {
                info!(ms = since(self.begun), "Call filed");
                return;
            }
            let due = self.core.poll_timeout().map_or_else(|| Instant::now() + IDLE, |(due, _why)| due);
            let notify = self.attached.as_ref().map(|attached| Arc::clone(&attached.notify));
            tokio::select! {
                message = self.inbox.recv() => {
                    if let Some(message) = message {
                        self.on_message(message).await;
                    }
                }
                news = news_of(self.line.as_mut()) => self.on_line(news).await,
                news = hand_over_news(self.handover.as_mut()) => self.on_hand_over(news),
                news = supervisor_news(self.supervision.as_mut()) => self.on_supervisor(news),
                () = woken(notify.as_ref()) => self.on_media(),
                () = tokio::time::sleep_until(due.into()) => self.core.handle_timeout(Instant::now()),
            }
        }
    }

    async fn perform(&mut self, output: Output) {
        match output {
            Output::Prepare => self.prepare(),
            Output::Dial => self.dial().await,
            Output::Answer => self.answer(),
            Output::HangUp => self.hang_up().await,
            Output::Play { say, text } => self.play(say, &text),
            Output::Warm { text, soon } => self.warm(&text, soon),
            Output::Pause => {
                self.order(Command::Pause);
                self.ear.set_prompt_playing(false);
            }
            Output::Resume => {
                self.order(Command::Resume);
                self.ear.set_prompt_playing(true);
            }
            Output::Stop => {
                self.stopped = self.playing.take().inspect(Playing::give_up);
                self.order(Command::Stop);
                self.ear.set_prompt_playing(false);
            }
            Output::Expect { endpoint } => {
                let endpoint = match endpoint {
                    Endpoint::Short => EarEndpoint::Short,
                    Endpoint::Normal => EarEndpoint::Normal,
                    Endpoint::Long => EarEndpoint::Long,
                };
                self.ear.configure(NodeEar { endpoint, max_turn_ms: MAX_TURN_MS });
            }
            Output::ForgetTurn => self.ear.reset_turn(),
            Output::Recognize { pause, phrases, numbers, asides } => {
                self.recognize(pause, phrases, numbers, asides)
            }
            Output::DropRecognition { .. } => self.dictation.went_on(),
            Output::Matched { pause, matched } => {
                self.ear.set_hypothesis_matched(pause, matched);
                self.drain_ear();
            }
            Output::Ask(request) => self.shared.uplink.ask(request),
            Output::TakeTurn(request) => self.take_turn(request),
            Output::Transfer { to, timeout, waiting, summary } => {
                self.transfer(&to, timeout, waiting, summary).await;
            }
            Output::TransferOver => self.let_go(),
            Output::Progress(stage, detail) => self.progress(stage, detail),
            Output::Turn(turn) => {
                let body = serde_json::json!({ "call": self.command.call, "turn": turn });
                self.event("call.turn", &body);
            }
            Output::File => self.close().await,
            Output::Ended(mut record) => {
                self.describe_line(&mut record);
                self.trace_end(&record);
                info!(disposition = %record.disposition, turns = record.turns.len(), "Call over");
                if record.suppress && !self.command.callee.is_anonymous() {
                    self.shared.gate.opted_out(&self.command.callee, record.ended);
                }
                file(&self.shared.uplink, &record);
            }
        }
    }

    fn event<T: serde::Serialize>(&self, kind: &'static str, body: &T) {
        if let Err(error) = self.shared.uplink.event(kind, body) {
            warn!(kind, "Could not keep an event: {error:#}");
        }
    }

    fn progress(&self, stage: ProgressStage, detail: String) {
        self.event("call.progress", &CallProgress { call: self.command.call, stage, detail });
    }

    /// Answers a turn with what the box understands by itself.
    fn take_turn(&self, request: TurnRequest) {
        let Some(script) = self.script.clone() else { return };
        info!(turn = request.turn, "The cloud is late: the box takes the turn");
        let Some(engine) = self.floor.as_ref().map(InUse::engine) else { return };
        let own = self.own.clone();
        let variables = self.command.variables.clone();
        tokio::task::spawn_blocking(move || {
            let now = jiff::Zoned::now().datetime();
            let reply = trunkline_turn::answer(&engine, &script, &variables, &request, now);
            let _ = own.send(Message::OwnReply(Box::new(reply)));
        });
    }

    /// Fetches the script, learns to understand it, and renders every prompt that is known before dialling.
    fn prepare(&self) {
        let (shared, command, own) = (Arc::clone(&self.shared), self.command.clone(), self.own.clone());
        let task = async move {
            for pack in shared.gate.missing(&command) {
                let text = shared.blobs.policy_pack(&pack.sha256).await.map_err(|e| format!("{e:#}"))?;
                shared.gate.take_pack(&pack, &text).map_err(|e| format!("{e:#}"))?;
            }
            let rendering = |done, of| drop(own.send(Message::Rendering { done, of }));
            ready(&shared, &command.script, &command.variables, &command.words, rendering).await
        };
        let own = self.own.clone();
        tokio::spawn(
            async move {
                let _ = own.send(Message::Prepared(task.await));
            }
            .in_current_span(),
        );
    }

    fn order(&mut self, command: Command) {
        if let Some(attached) = &mut self.attached
            && attached.commands.push(command).is_err()
        {
            warn!("The media thread does not take orders");
        }
    }

    fn on_media(&mut self) {
        self.on_news();
        while let Some(received) = self.attached.as_mut().and_then(|attached| attached.frames.pop().ok()) {
            if !self.answered {
                self.listen_early(&received.samples);
                continue;
            }
            self.listen_answered(&received.samples);
            // A guess costs nobody anything while no recogniser works.
            self.ear.set_eager(self.shared.speech.pool.is_idle());
            self.ear.push(&received.samples);
            let delay = Duration::from_micros(u64::from(received.delay_samples) * 125);
            self.clock = Some(EarClock {
                position_ms: self.ear.position_ms(),
                arrived: received.at.checked_sub(delay).unwrap_or(received.at),
            });
            self.drain_ear();
            self.dictation.listen_ahead(&self.ear, self.language());
        }
    }

    fn language(&self) -> Language {
        match self.voice.as_ref().map(VoiceOf::locale) {
            Some(Locale::ZhCn) => Language::ZH,
            Some(Locale::EnUs | Locale::EnGb) | None => Language::EN,
        }
    }

    fn on_news(&mut self) {
        while let Some(news) = self.attached.as_mut().and_then(|attached| attached.news.pop().ok()) {
            let now = Instant::now();
            match news {
                MediaNews::Started { say: RINGBACK, .. }
                | MediaNews::Finished { say: RINGBACK }
                | MediaNews::Held { say: RINGBACK, .. } => {}
                MediaNews::Started { say, at } => {
                    self.ear.set_prompt_playing(true);
                    let length = self.playing.as_ref().map_or(1, Playing::length);
                    let length = Duration::from_micros(length as u64 * 125);
                    self.core.handle_media(now, Media::Started { say, at, length });
                }
                MediaNews::Finished { say } => {
                    self.ear.set_prompt_playing(false);
                    let broke_off = self.playing.as_ref().and_then(Playing::broke_off);
                    self.core.handle_media(
                        now,
                        match broke_off {
                            Some(heard) => Media::Failed { say, heard },
                            None => Media::Finished { say },
                        },
                    );
                }
                MediaNews::Held { say, samples } => {
                    let of = [&self.playing, &self.stopped].into_iter().flatten().find(|one| one.say == say);
                    if let Some(heard) = of.map(|one| one.heard(samples)) {
                        self.core.handle_media(now, Media::Held { say, heard });
                    }
                }
                MediaNews::Digit(digit) => self.pass_digit(digit),
                MediaNews::Lost => self.core.handle_media(now, Media::Lost),
                MediaNews::Closed(stats) => self.stats = Some(stats),
            }
        }
    }

    fn drain_ear(&mut self) {
        let Some(clock) = self.clock else { return };
        while let Some(event) = self.ear.poll_event() {
            let news = match event {
                EarEvent::SpeechStarted { .. } => Hearing::SpeechStarted,
                EarEvent::PauseDetected { pause, speech_end_ms, .. } => {
                    Hearing::Paused { pause, speech_end: clock.instant(speech_end_ms) }
                }
                EarEvent::SpeechResumed { pause, .. } => Hearing::Resumed { pause },
                EarEvent::FalseStart { .. } => Hearing::FalseStart,
                EarEvent::TurnEnded { pause, speech_start_ms, speech_end_ms, .. } => Hearing::TurnEnded {
                    pause,
                    speech_start: clock.instant(speech_start_ms),
                    speech_end: clock.instant(speech_end_ms),
                },
            };
            self.core.handle_hearing(Instant::now(), news);
        }
    }

    fn recognize(
        &mut self,
        pause: u32,
        phrases: Arc<[String]>,
        numbers: Option<Numbers>,
        asides: Arc<[String]>,
    ) {
        let Some(utterance) = self.ear.utterance() else {
            return self.core.handle_transcript(Instant::now(), pause, Transcript::default());
        };
        let mut options = RecognizeOptions::new(self.language());
        options.phrases = phrases;
        options.asides = asides;
        options.lexicon = numbers.map(|numbers| match numbers {
            Numbers::Digits => Lexicon::Digits,
            Numbers::Amount => Lexicon::Amount,
        });
        let (own, voice) = (self.own.clone(), self.tone_of_voice());
        let submitted = self.dictation.recognise(utterance.clone(), options, Instant::now(), move |done| {
            let transcript = match done.result {
                Ok(found) => {
                    debug!(took_ms = found.took.as_millis() as u64, queued_ms = done.queued.as_millis() as u64,
                        rejected = ?found.rejected, choice_logprob = found.choice.as_ref().map(|choice| choice.logprob), raw_logprob = found.avg_logprob, "Recognised");
                    Transcript { text: found.text, logprob: found.avg_logprob, voice }
                }
                Err(error) => {
                    debug!(%error, "Not recognised");
                    Transcript::default()
                }
            };
            let _ = own.send(Message::Transcript { pause, transcript });
        });
        if let Err(error) = submitted {
            warn!(%error, "The recogniser takes no work");
            self.core.handle_transcript(Instant::now(), pause, Transcript::default());
        }
        let (model, own) = (Arc::clone(&self.shared.speech.end_of_turn), self.own.clone());
        tokio::task::spawn_blocking(move || match model.complete_probability(&utterance.samples) {
            Ok(probability) => {
                let _ = own.send(Message::TurnProbability { pause, probability });
            }
            Err(error) => debug!(%error, "No verdict on the end of the turn"),
        });
    }

    async fn on_message(&mut self, message: Message) {
        let now = Instant::now();
        match message {
            Message::Reply(reply) => self.core.handle_reply(now, *reply),
            Message::OwnReply(reply) => self.core.handle_own_reply(now, *reply),
            Message::Cancel => self.core.handle_cancel(now),
            Message::HandOver { wish, to } => self.core.handle_hand_over(now, wish, to),
            Message::Supervise(command) => self.supervise(command).await,
            Message::Prepared(Ok(prepared)) => {
                let Prepared { script, voice, words, floor } = *prepared;
                self.voice = Some(voice);
                self.listen_to_tone_of_voice(&script);
                self.script = Some(Arc::clone(&script));
                self.floor = Some(floor);
                self.core.set_words(words);
                self.core.handle_prepared(now, Ok(script));
            }
            Message::Prepared(Err(reason)) => self.core.handle_prepared(now, Err(reason)),
            Message::Rendering { done, of } => {
                self.progress(ProgressStage::Preparing, format!("{done} of {of} prompts rendered"));
            }
            Message::Transcript { pause, transcript } => {
                self.listen_to_words(&transcript.text);
                self.core.handle_transcript(now, pause, transcript);
            }
            Message::EarlyWords(text) => self.hear_announcement(&text),
            Message::NoMoreEarlyWords => self.fail_as_told(),
            Message::TurnProbability { pause, probability } => {
                self.ear.set_turn_probability(pause, probability);
                self.drain_ear();
            }
            Message::HandOverSound { number, ready } => self.on_ready(number, ready),
            Message::Clip { say, clip, first, last } => self.on_clip(now, say, clip, first, last),
        }
    }

    /// Stops the sound, closes the recording and tells the core.
    async fn close(&mut self) {
        self.dictation.cancel();
        self.let_go();
        self.end_supervision("call over");
        self.line = None;
        self.order(Command::Close);
        if let Some(notify) = self.attached.as_ref().map(|attached| Arc::clone(&attached.notify)) {
            let closed = async {
                while self.stats.is_none() {
                    notify.notified().await;
                    self.on_news();
                }
            };
            if tokio::time::timeout(CLOSE_WITHIN, closed).await.is_err() {
                warn!("The media thread did not close the call in time");
            }
        }
        self.attached = None;
        let recording = match self.recording.take() {
            None => Some(self.recording_error.clone())
                .filter(|error| !error.is_empty())
                .map(|error| RecordingRecord { error, ..RecordingRecord::default() }),
            Some(recording) => match tokio::time::timeout(CLOSE_WITHIN, recording.done).await {
                Ok(Ok(result)) => Some(RecordingRecord {
                    path: result.path.display().to_string(),
                    seconds: result.seconds,
                    sha256: result.sha256,
                    error: result.error.unwrap_or_default(),
                }),
                Ok(Err(_)) | Err(_) => Some(RecordingRecord {
                    error: "the recorder did not close the file in time".to_owned(),
                    ..RecordingRecord::default()
                }),
            },
        };
        self.trace_media();
        let media = self.stats.map(|stats| MediaRecord {
            codec: self.codec.to_owned(),
            received: stats.received,
            sent: stats.sent,
            lost: stats.lost,
            late: stats.late,
            jitter_ms: stats.jitter_ms,
            mos: stats.report(self.codec, self.encrypted).mos_heard,
        });
        self.core.handle_filed(Instant::now(), recording, media);
    }
}
