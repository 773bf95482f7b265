//! One call to the customer, or one that she makes: moves sound and news between her mind and the line.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, info, warn};
use trunkline_audio::{Codec, FRAME};
use trunkline_line::{
    Attached, Command, MediaConfig, MediaNews, MediaStats, Recording, RecordingResult, RtpSockets, SipCommand,
};
use trunkline_sip::message::Uri;
use trunkline_sip::sdp::{Codec as SdpCodec, LocalMedia, MediaParams};
use trunkline_sip::{DialogKey, FailureCause, HangupReason, InviteRequest, SipEvent};
use trunkline_speech::recognise::{CancelToken, Job, Language, RecognizeOptions, Utterance};
use trunkline_speech::vad::{DetectorConfig, SpeechDetector, SpeechEvent};

use crate::customer::{Customer, Output};
use crate::event::{By, Event, Outcome, Usage};
use crate::mouth::{Mouth, Voiced};
use crate::persona::PickUp;
use crate::server::Shared;
use crate::sound::Cast;

const SAMPLES_PER_MS: usize = 8;
/// The recogniser takes 30 s at once; the question stands at the end of what was said.
const MEMORY_MS: usize = 28_000;
/// Sound given to the recogniser before and after the robot's voice.
const MARGIN_MS: u64 = 200;
/// Without a packet for so long the caller is gone.
const LOST_AFTER: Duration = Duration::from_secs(20);
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// How long our own BYE may take before we no longer wait for its answer.
const BYE_WITHIN: Duration = Duration::from_secs(3);

/// A call that comes in, or one of hers.
pub(crate) struct Incoming {
    pub(crate) number: u32,
    pub(crate) key: DialogKey,
    /// The user part of the URI that was called, or that she calls.
    pub(crate) user: String,
    pub(crate) cast: Arc<Cast>,
    /// The way by which the signalling task reaches this call once it is accepted.
    pub(crate) own: mpsc::UnboundedSender<SipEvent>,
    pub(crate) events: mpsc::UnboundedReceiver<SipEvent>,
}

/// A call that she makes.
#[derive(Clone, Debug)]
pub struct Dial {
    /// Whom she calls; the host must be an address.
    pub to: Uri,
    /// The number that she calls from.
    pub from: String,
}

/// What the recogniser said about a turn.
struct Understood {
    turn: u32,
    text: Option<String>,
    took: Duration,
}

/// Runs the call to its end.
pub(crate) async fn run(shared: Arc<Shared>, incoming: Incoming) {
    let before = Usage::now();
    let (number, persona) = (incoming.number, Arc::clone(incoming.cast.persona()));
    let (user, name) = (incoming.user.clone(), persona.name.clone());
    shared.tell(&Event::Ringing { call: number, number: user, persona: name });
    let mut report = Report::default();
    let outcome = match persona.pick_up {
        PickUp::Busy => refuse(&shared, incoming, 486, Outcome::Busy).await,
        PickUp::Rejects(code) => refuse(&shared, incoming, code, Outcome::Rejected).await,
        PickUp::Answers | PickUp::HangsUp | PickUp::Never => answer(&shared, incoming, &mut report).await,
    };
    finish(&shared, number, outcome, report, before);
}

/// Calls somebody, and runs the call to its end.
pub(crate) async fn dial(shared: Arc<Shared>, number: u32, cast: Arc<Cast>, dial: Dial) {
    let before = Usage::now();
    let (user, name) = (dial.to.user_text(), cast.persona().name.clone());
    shared.tell(&Event::Dialing { call: number, number: user.clone(), persona: name });
    let mut report = Report::default();
    let outcome = match place(&shared, number, user, cast, dial, &mut report).await {
        Ok(outcome) => outcome,
        Err(reason) => {
            warn!(call = number, reason, "The call failed");
            Outcome::Failed
        }
    };
    finish(&shared, number, outcome, report, before);
}

fn finish(shared: &Shared, number: u32, outcome: Outcome, report: Report, before: Usage) {
    let stats = report.stats.unwrap_or_default();
    let used = Usage::now().cpu_ms.saturating_sub(before.cpu_ms);
    info!(call = number, ?outcome, seconds = report.seconds, "Call over");
    shared.tell(&Event::Ended {
        call: number,
        outcome,
        seconds: report.seconds,
        robot_turns: report.robot_turns,
        said: report.said,
        received: stats.received,
        sent: stats.sent,
        lost: stats.lost,
        recording: report.recording,
        cpu_ms: used,
    });
}

#[derive(Default)]
struct Report {
    seconds: f64,
    robot_turns: u32,
    said: u32,
    stats: Option<MediaStats>,
    recording: Option<PathBuf>,
}

/// Dials, and talks once she is answered.
async fn place(
    shared: &Arc<Shared>,
    number: u32,
    user: String,
    cast: Arc<Cast>,
    dial: Dial,
    report: &mut Report,
) -> Result<Outcome, String> {
    let rng = ChaCha8Rng::seed_from_u64(shared.seed ^ u64::from(number));
    let sockets = shared.ports.bind().map_err(|error| error.to_string())?;
    let media = offered(&sockets, &cast.persona().codecs)?;
    let request = InviteRequest::new(dial.from, dial.to, media);
    let (own, events) = mpsc::unbounded_channel();
    let (answer, key) = oneshot::channel();
    shared.sip.send(SipCommand::Invite { request: Box::new(request), events: own.clone(), answer });
    let key = key.await.map_err(|_| "the SIP task has ended")?.map_err(|error| error.to_string())?;
    let mut call = Incoming { number, key, user, cast, own, events };
    let mut stop = shared.stop.clone();
    loop {
        tokio::select! {
            event = call.events.recv() => match event {
                Some(SipEvent::Answered { media, .. }) => {
                    return Ok(converse(shared, call, rng, sockets, &media, report).await);
                }
                Some(SipEvent::Failed { failure, .. }) => {
                    info!(call = number, "Not answered: {failure}");
                    return Ok(match failure.cause {
                        FailureCause::Busy => Outcome::Busy,
                        FailureCause::NoAnswer => Outcome::NoAnswer,
                        FailureCause::NotAcceptable => Outcome::NotAcceptable,
                        FailureCause::Cancelled => Outcome::Cancelled,
                        FailureCause::Declined
                        | FailureCause::NotFound
                        | FailureCause::Unauthorized
                        | FailureCause::Forbidden => Outcome::Rejected,
                        FailureCause::Unreachable | FailureCause::ServerError | FailureCause::Protocol => {
                            Outcome::Failed
                        }
                    });
                }
                Some(event) if is_over(&event) => return Err("it was hung up before it was answered".to_owned()),
                Some(_) => {}
                None => return Err("the SIP task has ended".to_owned()),
            },
            () = told_to_stop(&mut stop) => {
                shared.sip.send(SipCommand::HangUp(key, None));
                return Ok(Outcome::Cancelled);
            }
        }
    }
}

async fn refuse(shared: &Shared, mut incoming: Incoming, code: u16, outcome: Outcome) -> Outcome {
    // A moment of ringing, as a real exchange needs to find out.
    tokio::time::sleep(Duration::from_millis(100)).await;
    shared.sip.send(SipCommand::Reject(incoming.key, code));
    let _ = tokio::time::timeout(CLOSE_WITHIN, until_over(&mut incoming.events)).await;
    outcome
}

async fn until_over(events: &mut mpsc::UnboundedReceiver<SipEvent>) {
    while let Some(event) = events.recv().await {
        if is_over(&event) {
            return;
        }
    }
}

fn is_over(event: &SipEvent) -> bool {
    matches!(event, SipEvent::Failed { .. } | SipEvent::PeerHungUp { .. } | SipEvent::Ended { .. })
}

async fn answer(shared: &Arc<Shared>, mut incoming: Incoming, report: &mut Report) -> Outcome {
    let persona = Arc::clone(incoming.cast.persona());
    shared.sip.send(SipCommand::Ring(incoming.key));
    let mut rng = ChaCha8Rng::seed_from_u64(shared.seed ^ u64::from(incoming.number));
    let never = persona.pick_up == PickUp::Never;
    let rings =
        if never { Duration::MAX } else { Duration::from_millis(persona.answer_after.draw(&mut rng)) };
    let mut stop = shared.stop.clone();
    tokio::select! {
        () = sleep(rings) => {}
        () = until_over(&mut incoming.events) => return if never { Outcome::NoAnswer } else { Outcome::Cancelled },
        () = told_to_stop(&mut stop) => {
            shared.sip.send(SipCommand::HangUp(incoming.key, None));
            return Outcome::Failed;
        }
    }
    let sockets = match shared.ports.bind() {
        Ok(sockets) => sockets,
        Err(error) => return fail(shared, &incoming, &error.to_string()),
    };
    let media = match accept(shared, &mut incoming, &sockets, &persona.codecs).await {
        Ok(Some(media)) => media,
        Ok(None) => return Outcome::NotAcceptable,
        Err(reason) => return fail(shared, &incoming, &reason),
    };
    converse(shared, incoming, rng, sockets, &media, report).await
}

/// Talks until one of them hangs up.
async fn converse(
    shared: &Shared,
    incoming: Incoming,
    rng: ChaCha8Rng,
    sockets: RtpSockets,
    media: &MediaParams,
    report: &mut Report,
) -> Outcome {
    let codec = match media.codec {
        SdpCodec::Pcmu => Codec::Pcmu,
        SdpCodec::Pcma => Codec::Pcma,
        // Personas name codecs of G.711, so that nothing else is agreed on.
        SdpCodec::G722 | SdpCodec::Opus => {
            return fail(shared, &incoming, "a codec was agreed on that was not offered");
        }
    };
    shared.tell(&Event::Answered { call: incoming.number, codec: codec.name() });
    let config = MediaConfig { remote: media.remote, codec, dtmf_pt: media.dtmf_pt, lost_after: LOST_AFTER };
    let (tap, recording) = match begin_recording(shared, &incoming, report) {
        Some(Recording { frames, done }) => (Some(frames), Some(done)),
        None => (None, None),
    };
    let attached = shared.media.attach(sockets, config, tap, None);
    Conversation::new(shared, incoming, rng, attached, recording).run(report).await;
    Outcome::Answered
}

async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn sleep(duration: Duration) {
    if duration == Duration::MAX { std::future::pending().await } else { tokio::time::sleep(duration).await }
}

fn fail(shared: &Shared, incoming: &Incoming, reason: &str) -> Outcome {
    warn!(call = incoming.number, reason, "The call failed");
    shared.sip.send(SipCommand::HangUp(incoming.key, None));
    Outcome::Failed
}

/// Picks up. `Ok(None)`: there is no codec that both talk, and the line has refused the call.
async fn accept(
    shared: &Shared,
    incoming: &mut Incoming,
    sockets: &RtpSockets,
    codecs: &[Codec],
) -> Result<Option<MediaParams>, String> {
    let media = offered(sockets, codecs)?;
    let (answer, result) = oneshot::channel();
    shared.sip.send(SipCommand::Accept { key: incoming.key, media, events: incoming.own.clone(), answer });
    match result.await.map_err(|_| "the SIP task has ended".to_owned())? {
        Ok(Some(media)) => return Ok(Some(media)),
        Ok(None) => {}
        Err(trunkline_sip::CommandError::Sdp(error)) => {
            info!(call = incoming.number, %error, "No common media");
            return Ok(None);
        }
        Err(error) => return Err(error.to_string()),
    }
    // The INVITE had no offer: ours was in the 200, and the answer comes with the ACK.
    while let Some(event) = incoming.events.recv().await {
        if let SipEvent::Answered { media, .. } = event {
            return Ok(Some(media));
        }
        if is_over(&event) {
            break;
        }
    }
    Err("the caller left before the media were agreed on".to_owned())
}

/// Returns what she can talk.
fn offered(sockets: &RtpSockets, codecs: &[Codec]) -> Result<LocalMedia, String> {
    let mut media = LocalMedia::new(sockets.local().map_err(|error| error.to_string())?);
    media.codecs = codecs
        .iter()
        .map(|codec| match codec {
            Codec::Pcmu => SdpCodec::Pcmu,
            Codec::Pcma => SdpCodec::Pcma,
        })
        .collect();
    Ok(media)
}

fn begin_recording(shared: &Shared, incoming: &Incoming, report: &mut Report) -> Option<Recording> {
    let path = shared.recording_path(incoming.number)?;
    // A recorder never writes over a file; here the file of the last run is what was asked for.
    let _ = std::fs::remove_file(&path);
    match shared.recorder.begin(&path, &incoming.number.to_string(), &Timestamp::now().to_string()) {
        Ok(recording) => {
            report.recording = Some(path);
            Some(recording)
        }
        Err(error) => {
            warn!(error, "No recording of this call");
            None
        }
    }
}

/// What she is saying.
struct Saying {
    utterance: usize,
    interrupts: bool,
    turn: u32,
    begun_ms: Option<u64>,
}

struct Conversation<'a> {
    shared: &'a Shared,
    incoming: Incoming,
    customer: Customer,
    mouth: Mouth,
    attached: Attached,
    recording: Option<oneshot::Receiver<RecordingResult>>,
    detector: SpeechDetector,
    /// The last sound that came in, for the recogniser; empty when she needs no ears.
    heard: VecDeque<i16>,
    /// Frames that came in.
    ticks: u64,
    /// When the first did.
    begun: Option<Instant>,
    saying: Option<Saying>,
    said: u32,
    job: Option<CancelToken>,
    took: Option<Duration>,
    understood: mpsc::UnboundedSender<Understood>,
    inbox: mpsc::UnboundedReceiver<Understood>,
    over: bool,
}

impl<'a> Conversation<'a> {
    fn new(
        shared: &'a Shared,
        incoming: Incoming,
        mut rng: ChaCha8Rng,
        attached: Attached,
        recording: Option<oneshot::Receiver<RecordingResult>>,
    ) -> Self {
        let (understood, inbox) = mpsc::unbounded_channel();
        let mind = ChaCha8Rng::seed_from_u64(rng.random());
        Self {
            shared,
            customer: Customer::new(Arc::clone(incoming.cast.persona()), mind),
            mouth: Mouth::new(incoming.cast.noise.clone()),
            incoming,
            attached,
            recording,
            // The robot's line carries nothing but the robot: its level is evidence enough, and cheap.
            detector: SpeechDetector::new(None, DetectorConfig::default()),
            heard: VecDeque::new(),
            ticks: 0,
            begun: None,
            saying: None,
            said: 0,
            job: None,
            took: None,
            understood,
            inbox,
            over: false,
        }
    }

    async fn run(mut self, report: &mut Report) {
        let begun = Instant::now();
        let notify = Arc::clone(&self.attached.notify);
        let mut stop = self.shared.stop.clone();
        let at_once = self.incoming.cast.persona().pick_up == PickUp::HangsUp;
        if at_once {
            self.hang_up(By::Customer).await;
        }
        while !self.over {
            tokio::select! {
                () = notify.notified() => self.on_media().await,
                event = self.incoming.events.recv() => self.on_sip(event),
                Some(understood) = self.inbox.recv() => {
                    self.job = None;
                    self.took = Some(understood.took);
                    self.customer.handle_heard(understood.turn, understood.text);
                }
                () = told_to_stop(&mut stop) => self.hang_up(By::Customer).await,
            }
            self.drain().await;
        }
        report.seconds = (begun.elapsed().as_secs_f64() * 100.0).round() / 100.0;
        report.robot_turns = self.customer.robot_turns();
        report.said = self.said;
        report.stats = self.close().await;
    }

    fn on_sip(&mut self, event: Option<SipEvent>) {
        match event {
            Some(SipEvent::PeerHungUp { .. }) => self.gone(By::Robot),
            Some(SipEvent::Failed { .. } | SipEvent::Ended { .. }) | None => self.gone(By::Line),
            Some(
                SipEvent::Incoming { .. }
                | SipEvent::Trying { .. }
                | SipEvent::Ringing { .. }
                | SipEvent::Answered { .. }
                | SipEvent::MediaChanged { .. }
                | SipEvent::Digit { .. }
                | SipEvent::Registered { .. }
                | SipEvent::RegistrationFailed { .. }
                | SipEvent::Unregistered
                | SipEvent::OptionsAnswered { .. }
                | SipEvent::OptionsUnanswered { .. },
            ) => {}
        }
    }

    fn gone(&mut self, by: By) {
        if !self.over {
            self.over = true;
            self.shared.tell(&Event::HungUp { call: self.incoming.number, by });
        }
    }

    async fn hang_up(&mut self, by: By) {
        if self.over {
            return;
        }
        self.gone(by);
        self.shared.sip.send(SipCommand::HangUp(self.incoming.key, Some(HangupReason::normal())));
        let _ = tokio::time::timeout(BYE_WITHIN, until_over(&mut self.incoming.events)).await;
    }

    async fn on_media(&mut self) {
        let keeps = self.incoming.cast.persona().talk.needs_ears();
        while let Ok(received) = self.attached.frames.pop() {
            if self.begun.is_none() {
                self.begun = Some(received.at);
            }
            self.ticks += 1;
            if keeps {
                let excess = (self.heard.len() + FRAME).saturating_sub(MEMORY_MS * SAMPLES_PER_MS);
                self.heard.drain(..excess);
                self.heard.extend(received.samples);
            }
            let customer = &mut self.customer;
            self.detector.push(&received.samples, |event| match event {
                SpeechEvent::Started { at } => customer.handle_robot_started(at / SAMPLES_PER_MS as u64),
                SpeechEvent::Stopped { at } => customer.handle_robot_stopped(at / SAMPLES_PER_MS as u64),
            });
            self.customer.handle_time(self.ticks * 20);
        }
        self.on_news().await;
        let commands = &mut self.attached.commands;
        let voiced = self.mouth.tick(self.ticks, |command| {
            if commands.push(command).is_err() {
                debug!("The media thread does not take sound");
            }
        });
        for change in voiced {
            self.on_voice(change);
        }
    }

    async fn on_news(&mut self) {
        while let Ok(news) = self.attached.news.pop() {
            match news {
                MediaNews::Started { say, at } if self.mouth.is_current(say) => {
                    let since =
                        self.begun.map_or(Duration::ZERO, |begun| at.saturating_duration_since(begun));
                    self.on_voice(Voiced::Began { at_ms: u64::try_from(since.as_millis()).unwrap_or(0) });
                }
                MediaNews::Finished { say } if self.mouth.is_current(say) => {
                    self.on_voice(Voiced::Ended { at_ms: self.ticks * 20 });
                }
                MediaNews::Lost => self.hang_up(By::Line).await,
                MediaNews::Started { .. }
                | MediaNews::Finished { .. }
                | MediaNews::Held { .. }
                | MediaNews::Digit(_)
                | MediaNews::Closed(_) => {}
            }
        }
    }

    fn on_voice(&mut self, change: Voiced) {
        match change {
            Voiced::Began { at_ms } => {
                if let Some(saying) = &mut self.saying {
                    saying.begun_ms = Some(at_ms);
                }
            }
            Voiced::Ended { at_ms } => {
                let Some(saying) = self.saying.take() else { return };
                self.said += 1;
                self.shared.tell(&Event::Said {
                    call: self.incoming.number,
                    turn: saying.turn,
                    text: self.incoming.cast.persona().utterances[saying.utterance].text(),
                    start_s: seconds(saying.begun_ms.unwrap_or(at_ms)),
                    end_s: seconds(at_ms),
                    interrupts: saying.interrupts,
                });
                self.customer.handle_said();
            }
        }
    }

    async fn drain(&mut self) {
        while let Some(output) = self.customer.poll_output() {
            match output {
                Output::Say { utterance, interrupts } => {
                    let turn = self.customer.robot_turns();
                    self.saying = Some(Saying { utterance, interrupts, turn, begun_ms: None });
                    let clip = Arc::clone(&self.incoming.cast.clips[utterance]);
                    if let Some(command) = self.mouth.say(clip)
                        && self.attached.commands.push(command).is_err()
                    {
                        debug!("The media thread does not take sound");
                    }
                }
                Output::Recognise { turn, from_ms, to_ms } => self.recognise(turn, from_ms, to_ms),
                Output::Forget => {
                    if let Some(job) = self.job.take() {
                        job.cancel();
                    }
                }
                Output::Understood { turn, from_ms, to_ms, text, matched } => {
                    self.shared.tell(&Event::Heard {
                        call: self.incoming.number,
                        turn,
                        text,
                        start_s: seconds(from_ms),
                        end_s: seconds(to_ms),
                        took_ms: self.took.take().map(|took| u64::try_from(took.as_millis()).unwrap_or(0)),
                        matched,
                    });
                }
                Output::HangUp => self.hang_up(By::Customer).await,
            }
        }
    }

    /// Gives what the robot said to the recogniser.
    fn recognise(&mut self, turn: u32, from_ms: u64, to_ms: u64) {
        let Some(pool) = &self.shared.ears else { return self.customer.handle_heard(turn, None) };
        let first_ms = self.ticks * 20 - (self.heard.len() / SAMPLES_PER_MS) as u64;
        let place = |ms: u64| (ms.saturating_sub(first_ms) as usize * SAMPLES_PER_MS).min(self.heard.len());
        let (from, to) = (place(from_ms.saturating_sub(MARGIN_MS)), place(to_ms + MARGIN_MS));
        let sound: Vec<i16> = self.heard.range(from..to.max(from)).copied().collect();
        let locale = self.incoming.cast.persona().locale.tag();
        let Some(language) = Language::from_tag(locale) else {
            return self.customer.handle_heard(turn, None);
        };
        let options = RecognizeOptions::new(language);
        let job =
            Job { audio: Utterance::from_telephone(&sound), options, waiting_since: Some(Instant::now()) };
        let understood = self.understood.clone();
        let asked = Instant::now();
        let submitted = pool.submit(job, move |done| {
            let text = match done.result {
                Ok(transcript) => Some(transcript.text),
                Err(trunkline_speech::recognise::RecognizeError::Cancelled) => return,
                Err(error) => {
                    warn!(%error, "The robot was not understood");
                    None
                }
            };
            // The call may be over by now.
            let _ = understood.send(Understood { turn, text, took: asked.elapsed() });
        });
        match submitted {
            Ok(token) => self.job = Some(token),
            Err(error) => {
                warn!(%error, "The recogniser takes no work");
                self.customer.handle_heard(turn, None);
            }
        }
    }

    /// Stops the sound and waits for the counts and for the recording.
    async fn close(mut self) -> Option<MediaStats> {
        if let Some(job) = self.job.take() {
            job.cancel();
        }
        let _ = self.attached.commands.push(Command::Close);
        let notify = Arc::clone(&self.attached.notify);
        let closed = async {
            loop {
                while let Ok(news) = self.attached.news.pop() {
                    if let MediaNews::Closed(stats) = news {
                        return stats;
                    }
                }
                notify.notified().await;
            }
        };
        let stats = tokio::time::timeout(CLOSE_WITHIN, closed).await.ok();
        if let Some(recording) = self.recording.take() {
            match tokio::time::timeout(CLOSE_WITHIN, recording).await {
                Ok(Ok(RecordingResult { error: Some(error), .. })) => {
                    warn!(error, "The recording ended early")
                }
                Ok(Ok(RecordingResult { error: None, .. })) => {}
                Ok(Err(_)) | Err(_) => warn!("The recorder did not close the file in time"),
            }
        }
        stats
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}
