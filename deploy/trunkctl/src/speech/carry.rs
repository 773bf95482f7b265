//! How soon the box answers, and how many conversations it carries.
//!
//! Callers made of recordings speak in real time into ears of their own; recogniser and end-of-turn
//! model are the box's, shared as they are on the box; the cloud is a delay. So this measures what a
//! call waits for on this machine, from the last sound of speech to the moment at which the reply is
//! due on the wire. What it leaves out is the line itself (a frame of 20 ms and the far end's buffer)
//! and the understanding, whose time is part of the delay.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use trunkline_speech::ear::{Ear, EarConfig, EarEvent, Endpoint, NodeEar};
use trunkline_speech::recognise::{
    Dictation, Language, RecognizeOptions, RecognizerPool, Transcript, Utterance,
};
use trunkline_speech::turn::EndOfTurn;
use trunkline_speech::vad::SileroModel;

use super::sound::Spoken;

/// A frame of the telephone.
const FRAME: Duration = Duration::from_millis(20);
const FRAME_SAMPLES: usize = 160;
/// Nothing was answered after so long: the turn was missed.
const MISSED_AFTER: Duration = Duration::from_secs(5);

/// What the measurement assumes of everything that is not on the box.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World {
    /// Time from the box's question to the cloud's answer, both ways and the understanding.
    pub(crate) cloud: Duration,
    /// How long a packet waits in the jitter buffer.
    pub(crate) jitter: Duration,
    /// How long the robot speaks between two turns.
    pub(crate) prompt: Duration,
    /// What kind of answer the ear is told to expect.
    pub(crate) endpoint: Endpoint,
    /// Whether the ear may guess early when the recogniser is idle.
    pub(crate) eager: bool,
}

/// The models of the box.
#[derive(Clone)]
pub(crate) struct Models {
    pub(crate) pool: Arc<RecognizerPool>,
    pub(crate) silero: SileroModel,
    pub(crate) end_of_turn: Arc<EndOfTurn>,
}

/// One answered turn: milliseconds since the last sound of speech.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waterfall {
    pub(crate) seen: f64,
    pub(crate) recognised: f64,
    pub(crate) judged: f64,
    pub(crate) replied: f64,
    pub(crate) over: f64,
    pub(crate) answered: f64,
}

/// What a number of conversations at the same time came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) turns: Vec<Waterfall>,
    /// Answered while the caller had not finished.
    pub(crate) cut_off: usize,
    /// Never answered.
    pub(crate) missed: usize,
    /// Nothing was recognised, and the caller would have been asked again.
    pub(crate) empty: usize,
    /// Recognitions thrown away because the caller went on.
    pub(crate) dropped: usize,
    /// Cores in use, on average.
    pub(crate) cores: f64,
}

impl Measured {
    /// Returns a percentile, 0 to 100, of one of the figures.
    pub(crate) fn percentile(&self, percent: usize, of: impl Fn(&Waterfall) -> f64) -> Option<f64> {
        let mut all: Vec<f64> = self.turns.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all.get(((all.len() * percent).div_ceil(100)).saturating_sub(1)).copied()
    }
}

enum News {
    Text { call: usize, pause: u32, transcript: Option<Box<Transcript>> },
    Judged { call: usize, pause: u32, probability: f32 },
}

struct Judge {
    call: usize,
    pause: u32,
    audio: Utterance,
}

/// What is known of the pause that may be the end of the turn.
#[derive(Default)]
struct Draft {
    pause: u32,
    seen: Option<Instant>,
    recognised: Option<Instant>,
    judged: Option<Instant>,
    reply_due: Option<Instant>,
    over: Option<Instant>,
    empty: bool,
}

struct Caller {
    ear: Ear,
    dictation: Dictation,
    clips: VecDeque<usize>,
    clip: usize,
    /// Samples of the clip that were spoken; `None` while the caller listens.
    at: Option<usize>,
    begun: Instant,
    speaks_at: Instant,
    speech_end: Option<Instant>,
    line: VecDeque<[i16; FRAME_SAMPLES]>,
    draft: Option<Draft>,
}

/// Lets `calls` callers hold conversations for `length` and measures each turn.
pub(crate) fn measure(
    models: &Models,
    clips: &[Spoken],
    language: Language,
    calls: usize,
    length: Duration,
    world: World,
) -> Result<Measured> {
    anyhow::ensure!(!clips.is_empty(), "there is nothing to say: no recordings were found");
    let (news, inbox) = mpsc::channel();
    let (judge, work) = mpsc::channel::<Judge>();
    let thread = start_judge(models, work, &news)?;
    let mut run = Run {
        models,
        clips,
        language,
        world,
        news,
        judge,
        callers: Vec::new(),
        found: Measured::default(),
        depth: (world.jitter.as_millis() / FRAME.as_millis()) as usize,
    };
    let start = Instant::now();
    let cpu = cpu_time();
    for call in 0..calls {
        // The callers are out of step, as strangers are.
        let offset = FRAME.mul_f64(350.0 * call as f64 / calls as f64);
        run.callers.push(run.caller(call, start + offset));
    }
    let mut due = start;
    while start.elapsed() < length {
        run.tick(due);
        due += FRAME;
        run.wait(&inbox, due);
    }
    run.found.cores = (cpu_time() - cpu).as_secs_f64() / start.elapsed().as_secs_f64();
    let Run { found, judge, callers, .. } = run;
    drop((judge, callers));
    let _ = thread.join();
    Ok(found)
}

fn start_judge(
    models: &Models,
    work: Receiver<Judge>,
    news: &Sender<News>,
) -> Result<std::thread::JoinHandle<()>> {
    let (model, news) = (Arc::clone(&models.end_of_turn), news.clone());
    let judge = move || {
        for Judge { call, pause, audio } in work {
            if let Ok(probability) = model.complete_probability(&audio.samples) {
                let _ = news.send(News::Judged { call, pause, probability });
            }
        }
    };
    std::thread::Builder::new().name("judge".to_owned()).spawn(judge).context("cannot start a thread")
}

struct Run<'a> {
    models: &'a Models,
    clips: &'a [Spoken],
    language: Language,
    world: World,
    news: Sender<News>,
    judge: Sender<Judge>,
    callers: Vec<Caller>,
    found: Measured,
    /// Frames in the jitter buffer.
    depth: usize,
}

impl Run<'_> {
    fn caller(&self, call: usize, speaks_at: Instant) -> Caller {
        let mut ear = Ear::new(Some(&self.models.silero), EarConfig::default());
        ear.configure(NodeEar { endpoint: self.world.endpoint, max_turn_ms: 20_000 });
        // Each caller says all clips, beginning somewhere else.
        let count = self.clips.len();
        let clips = (0..count).map(|n| (n + call * 7) % count).collect();
        Caller {
            ear,
            dictation: Dictation::new(Arc::clone(&self.models.pool)),
            clips,
            clip: 0,
            at: None,
            begun: speaks_at,
            speaks_at,
            speech_end: None,
            line: VecDeque::new(),
            draft: None,
        }
    }

    /// One frame of every caller.
    fn tick(&mut self, due: Instant) {
        for call in 0..self.callers.len() {
            self.speak(call, due);
            let caller = &mut self.callers[call];
            if caller.line.len() > self.depth
                && let Some(frame) = caller.line.pop_front()
            {
                caller.ear.set_eager(self.world.eager && self.models.pool.is_idle());
                caller.ear.push(&frame);
                caller.dictation.listen_ahead(&caller.ear, self.language);
            }
            self.drain(call);
            self.give_up(call);
        }
    }

    fn speak(&mut self, call: usize, due: Instant) {
        let caller = &mut self.callers[call];
        if caller.at.is_none() && due >= caller.speaks_at {
            let clip = caller.clips.pop_front().unwrap_or(0);
            caller.clips.push_back(clip);
            (caller.clip, caller.at, caller.begun, caller.speech_end) = (clip, Some(0), due, None);
        }
        let mut frame = [0i16; FRAME_SAMPLES];
        if let Some(at) = caller.at {
            let spoken = &self.clips[caller.clip];
            let rest = spoken.samples.get(at..).unwrap_or_default();
            let n = rest.len().min(FRAME_SAMPLES);
            frame[..n].copy_from_slice(&rest[..n]);
            caller.at = Some(at + FRAME_SAMPLES);
            if caller.speech_end.is_none() && at + FRAME_SAMPLES > spoken.speech_end {
                // The packet is sent when its 20 ms are over.
                caller.speech_end = Some(due + FRAME);
            }
        }
        caller.line.push_back(frame);
    }

    fn drain(&mut self, call: usize) {
        while let Some(event) = self.callers[call].ear.poll_event() {
            let now = Instant::now();
            match event {
                EarEvent::SpeechStarted { .. } | EarEvent::FalseStart { .. } => {}
                EarEvent::PauseDetected { pause, .. } => self.recognise(call, pause, now),
                EarEvent::SpeechResumed { .. } => self.forget(call),
                EarEvent::TurnEnded { pause, .. } => {
                    if self.callers[call].draft.as_ref().is_none_or(|draft| draft.pause != pause) {
                        self.recognise(call, pause, now);
                    }
                    if let Some(draft) = &mut self.callers[call].draft {
                        draft.over = Some(now);
                    }
                    self.answer(call);
                }
            }
        }
    }

    fn recognise(&mut self, call: usize, pause: u32, now: Instant) {
        self.forget(call);
        let Some(audio) = self.callers[call].ear.utterance() else { return };
        let news = self.news.clone();
        let options = RecognizeOptions::new(self.language);
        let submitted = self.callers[call].dictation.recognise(audio.clone(), options, now, move |done| {
            let _ = news.send(News::Text { call, pause, transcript: done.result.ok().map(Box::new) });
        });
        let _ = self.judge.send(Judge { call, pause, audio });
        self.callers[call].draft =
            submitted.is_ok().then(|| Draft { pause, seen: Some(now), ..Draft::default() });
    }

    fn forget(&mut self, call: usize) {
        if self.callers[call].draft.take().is_some() {
            self.found.dropped += 1;
            self.callers[call].dictation.went_on();
        }
    }

    fn on_news(&mut self, news: News) {
        let now = Instant::now();
        match news {
            News::Text { call, pause, transcript } => {
                let cloud = self.world.cloud;
                let Some(draft) = self.callers[call].draft.as_mut().filter(|draft| draft.pause == pause)
                else {
                    return;
                };
                draft.recognised = Some(now);
                draft.empty = transcript.is_none_or(|transcript| transcript.text.is_empty());
                draft.reply_due = Some(now + cloud);
            }
            News::Judged { call, pause, probability } => {
                if let Some(draft) = self.callers[call].draft.as_mut().filter(|draft| draft.pause == pause) {
                    draft.judged = Some(now);
                }
                self.callers[call].ear.set_turn_probability(pause, probability);
                self.drain(call);
            }
        }
    }

    /// Handles what arrives until the next frame is due, replies at the moment they come.
    fn wait(&mut self, inbox: &Receiver<News>, until: Instant) {
        loop {
            let now = Instant::now();
            for call in 0..self.callers.len() {
                let due = self.callers[call].draft.as_ref().and_then(|draft| draft.reply_due);
                if due.is_some_and(|due| due <= now) {
                    if let Some(draft) = &mut self.callers[call].draft
                        && !draft.empty
                    {
                        let pause = draft.pause;
                        self.callers[call].ear.set_hypothesis_matched(pause, true);
                    }
                    self.drain(call);
                    self.answer(call);
                }
            }
            let next = self
                .callers
                .iter()
                .filter_map(|caller| caller.draft.as_ref()?.reply_due.filter(|due| *due > now))
                .min()
                .map_or(until, |due| due.min(until));
            if until <= now {
                return;
            }
            match inbox.recv_timeout(next.saturating_duration_since(now)) {
                Ok(news) => self.on_news(news),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Answers when the turn is over and the reply is there.
    fn answer(&mut self, call: usize) {
        let now = Instant::now();
        let caller = &mut self.callers[call];
        let Some(draft) = &caller.draft else { return };
        let (Some(over), Some(replied)) = (draft.over, draft.reply_due.filter(|due| *due <= now)) else {
            return;
        };
        let Some(draft) = caller.draft.take() else { return };
        let remaining = self.clips[caller.clip].speech_end.saturating_sub(caller.at.unwrap_or(usize::MAX));
        match caller.speech_end {
            // More than a drawn breath of speech was still to come.
            None if remaining > 8 * 200 => {
                if std::env::var_os("SHOW").is_some() {
                    eprintln!("clip {}: cut off, {} ms were still to come", caller.clip, remaining / 8);
                }
                self.found.cut_off += 1;
            }
            None => {}
            Some(_) if draft.empty => self.found.empty += 1,
            Some(end) => {
                let since = |at: Option<Instant>| at.map_or(f64::NAN, |at| (signed(end, at)) * 1_000.0);
                if std::env::var_os("SHOW").is_some() {
                    let (seen, over) = (since(draft.seen), since(Some(over)));
                    eprintln!(
                        "clip {}: seen {seen:.0}, over {over:.0}, answered {:.0} ms",
                        caller.clip,
                        since(Some(now))
                    );
                }
                self.found.turns.push(Waterfall {
                    seen: since(draft.seen),
                    recognised: since(draft.recognised),
                    judged: since(draft.judged),
                    replied: since(Some(replied)),
                    over: since(Some(over)),
                    answered: since(Some(now)),
                });
            }
        }
        caller.at = None;
        caller.speech_end = None;
        caller.speaks_at = now + self.world.prompt;
        caller.ear.reset_turn();
    }

    fn give_up(&mut self, call: usize) {
        let now = Instant::now();
        let caller = &mut self.callers[call];
        if caller.speech_end.is_some_and(|end| now.saturating_duration_since(end) > MISSED_AFTER) {
            self.found.missed += 1;
            caller.at = None;
            caller.speech_end = None;
            caller.speaks_at = now;
            caller.ear.reset_turn();
        }
    }
}

fn signed(from: Instant, to: Instant) -> f64 {
    if to >= from { (to - from).as_secs_f64() } else { -(from - to).as_secs_f64() }
}

/// CPU time of this process, all threads.
pub(crate) fn cpu_time() -> Duration {
    nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).map_or(Duration::ZERO, |usage| {
        let time = |t: nix::sys::time::TimeVal| {
            Duration::from_secs(t.tv_sec().unsigned_abs()) + Duration::from_micros(t.tv_usec().unsigned_abs())
        };
        time(usage.user_time()) + time(usage.system_time())
    })
}

/// What the callers say, by kind, for the head of a table.
pub(crate) fn kinds(clips: &[Spoken]) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    for clip in clips {
        *counts.entry(clip.kind.as_str()).or_default() += 1;
    }
    counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
}
