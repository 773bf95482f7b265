//! Who takes the floor while the robot speaks: noises, fillers and signs of listening on one side, real
//! speech on the other.
//!
//! Ear, recogniser, end-of-turn model and the decisions of the call are the box's, the understanding is the
//! cloud's. The prompt, the line, the link and the clock are not: a frame comes every 20 ms of virtual time,
//! and a recognition takes as long in it as it took on this machine. So the outcome does not depend on what
//! else runs here, but for the sounds whose recognition is late.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use jiff::Timestamp;
use jiff::civil::DateTime;
use trunkline_audio::Codec;
use trunkline_audio::channel::telephone_channel;
use trunkline_call::{Call, CallConfig, Hearing, Line, Media, Numbers, Output, Transcript};
use trunkline_dialogue::Script;
use trunkline_dialogue::action::Endpoint as Expected;
use trunkline_model::CallId;
use trunkline_nlu::Engine;
use trunkline_speech::ear::{Ear, EarConfig, EarEvent, Endpoint, NodeEar};
use trunkline_speech::recognise::{Language, Lexicon, RecognizeOptions, Recognizer};
use trunkline_speech::synth::{Locale, PromptStore};
use trunkline_speech::turn::EndOfTurn;
use trunkline_speech::vad::SileroModel;
use trunkline_wire::{DialCommand, ScriptRef, TurnReply, TurnRequest};

use super::sound::{self, Clip, RATE};

const FRAME: Duration = Duration::from_millis(20);
/// How long the prompt takes: long enough that no sound is near its end, where a yes would answer it.
const PROMPT: Duration = Duration::from_secs(14);
/// When the sound begins, at the earliest.
const BEGINS: Duration = Duration::from_millis(2_000);
/// How long a piece of noise is.
const NOISE: usize = 5 * RATE as usize / 2;
/// When the calls are: what is said of days counts from here.
const NOON: DateTime = jiff::civil::date(2026, 11, 23).at(12, 0, 0, 0);
/// Quiet after the sound, in which everything is decided.
const AFTER: Duration = Duration::from_millis(4_000);
/// What people say while they listen, in voices that the robot does not use.
const LISTENING: [(Locale, &str, &[&str], &[&str]); 2] = [
    (
        Locale::ZhCn,
        "signs of listening, zh",
        &["嗯", "嗯嗯", "哦", "对", "对对", "是的", "好的", "呃", "啊", "嗯，好"],
        &["zm_yunjian", "zf_xiaoni", "zm_yunyang", "zf_xiaobei", "zm_yunxia"],
    ),
    (
        Locale::EnUs,
        "signs of listening, en",
        &["uh-huh", "mm-hmm", "yeah", "okay", "right", "oh", "um", "I see"],
        &["am_eric", "af_nova", "am_liam", "af_sarah", "am_echo", "af_sky"],
    ),
];

/// What people break in with, in other voices that the robot does not use.
const SHORT: [(Locale, &str, &[&str], &[&str]); 2] = [
    (
        Locale::ZhCn,
        "short words, zh",
        &["不", "不是", "不用", "不要", "没有", "等一下", "什么", "你是谁", "别说了", "没空"],
        &["zm_yunxi", "zf_xiaoyi", "zm_yunxia"],
    ),
    (
        Locale::EnUs,
        "short words, en",
        &[
            "no",
            "stop",
            "wait",
            "hold on",
            "what",
            "sorry",
            "not now",
            "who is this",
            "no thanks",
            "I'm busy",
        ],
        &["am_michael", "af_bella", "am_onyx"],
    ),
];

/// Whether a sound may stop the robot for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    NoTurn,
    Speech,
    SyntheticSpeech,
}

/// A sound that comes while the prompt plays.
pub(crate) struct Sound {
    /// Row of the table.
    kind: &'static str,
    name: String,
    class: Class,
    pcm: Vec<i16>,
    language: Language,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Outcome {
    /// From its first voice to the frame in which the prompt was held, in ms.
    held_ms: Option<f64>,
    /// For how long the prompt was held before it went on, in ms; all such times together.
    silent_ms: f64,
    taken: bool,
}

/// The models of the box.
pub(crate) struct Bench<'a> {
    pub(crate) recognizer: &'a dyn Recognizer,
    pub(crate) silero: &'a SileroModel,
    pub(crate) end_of_turn: &'a EndOfTurn,
    /// What the cloud understands with.
    pub(crate) engine: &'a Engine,
    /// Time from the box's question to the cloud's answer.
    pub(crate) cloud: Duration,
    /// How long a packet waits in the jitter buffer.
    pub(crate) jitter: Duration,
}

/// Some two hundred sounds that are no turns: what people say while they listen, and pieces of noise as
/// loud as a voice and 10 dB softer.
pub(crate) fn no_turns(clips: &[Clip], prompts: &PromptStore, count: usize) -> Result<Vec<Sound>> {
    let mut sounds = Vec::new();
    for (locale, kind, words, voices) in LISTENING {
        sounds.extend(spoken(prompts, locale, kind, Class::NoTurn, words, voices)?);
    }
    let step = (sounds.len() / (count * 2 / 5).max(1)).max(1);
    let mut sounds: Vec<Sound> = sounds.into_iter().step_by(step).collect();
    let noises: Vec<&Clip> = clips.iter().filter(|clip| clip.kind == "noise").collect();
    let wanted = count.saturating_sub(sounds.len());
    let places = wanted.div_ceil(noises.len().max(1)).max(2);
    let pieces = (0..places).flat_map(|place| noises.iter().map(move |clip| (place, *clip)));
    for (n, (place, clip)) in pieces.take(wanted).enumerate() {
        let level = if n % 2 == 0 { -26.0 } else { -36.0 };
        let piece = sound::at_level(sound::cut(&clip.narrow()?, NOISE, place, places), level);
        sounds.push(Sound {
            kind: if clip.path.contains("sneeze") || clip.path.contains("baby") {
                "sneezes and babies"
            } else {
                "other noises"
            },
            name: format!("{} {place}", clip.path),
            class: Class::NoTurn,
            pcm: telephone_channel(&piece, Codec::Pcma),
            language: if n % 2 == 0 { Language::ZH } else { Language::EN },
        });
    }
    Ok(sounds)
}

/// Refusals and questions of a word or two, which are as short as signs of listening. Synthetic, and therefore not
/// among the totals.
pub(crate) fn short_words(prompts: &PromptStore) -> Result<Vec<Sound>> {
    let mut sounds = Vec::new();
    for (locale, kind, words, voices) in SHORT {
        sounds.extend(spoken(prompts, locale, kind, Class::SyntheticSpeech, words, voices)?);
    }
    Ok(sounds)
}

fn spoken(
    prompts: &PromptStore,
    locale: Locale,
    kind: &'static str,
    class: Class,
    words: &[&str],
    voices: &[&str],
) -> Result<Vec<Sound>> {
    let language = if locale == Locale::ZhCn { Language::ZH } else { Language::EN };
    let all = words.iter().flat_map(|word| voices.iter().map(move |voice| (word, voice)));
    all.map(|(word, voice)| {
        let pcm = sound::synthetic(prompts, locale, voice, word)?;
        Ok(Sound { kind, name: format!("{word} ({voice})"), class, pcm, language })
    })
    .collect()
}

/// Real speech: sentences and orders, at most six seconds of each, and single words one for eight of them.
pub(crate) fn turns(clips: &[Clip], count: usize) -> Result<Vec<Sound>> {
    let fits =
        |clip: &&Clip| matches!(clip.kind.as_str(), "asr" | "commands") || clip.path.contains("/complete/");
    let all: Vec<&Clip> = clips.iter().filter(fits).collect();
    let step = (all.len() as f64 / count.max(1) as f64).max(1.0);
    let words: Vec<&Clip> = clips.iter().filter(|clip| clip.kind == "digits").collect();
    let lone = (count / 9).min(words.len());
    let chosen = (0..(count - lone).min(all.len())).filter_map(|n| all.get((n as f64 * step) as usize));
    chosen
        .chain(words.iter().step_by((words.len() / lone.max(1)).max(1)).take(lone))
        .map(|clip| {
            let mut pcm = clip.telephone()?;
            pcm.truncate(6 * RATE as usize);
            let zh = clip.language == "zh";
            Ok(Sound {
                kind: match clip.language.as_str() {
                    _ if clip.kind == "digits" => "one real word, en",
                    "zh" => "real speech, zh",
                    "en-l2zh" => "real speech, en by Mandarin speakers",
                    _ => "real speech, en",
                },
                name: clip.path.clone(),
                class: Class::Speech,
                pcm,
                language: if zh { Language::ZH } else { Language::EN },
            })
        })
        .collect()
}

/// Plays every sound over a prompt of its own and tells the table.
pub(crate) fn run(
    bench: &Bench<'_>,
    sounds: &[Sound],
    progress: &mut dyn FnMut(&str),
    tell: &mut dyn FnMut(&str),
) -> Result<String> {
    let scripts = [
        prepared(bench.engine, include_str!("closed.zh.yaml"))?,
        prepared(bench.engine, include_str!("closed.en.yaml"))?,
    ];
    let mut rows: BTreeMap<(Class, &str), Vec<Outcome>> = BTreeMap::new();
    for (n, sound) in sounds.iter().enumerate() {
        progress(&format!("barge-in: {n} of {}", sounds.len()));
        let script = &scripts[usize::from(sound.language == Language::EN)];
        let begins = BEGINS + Duration::from_millis(((n * 37) % 500) as u64);
        let (outcome, text) = World::new(bench, script, sound.language)?.play(&sound.pcm, begins)?;
        if std::env::var_os("SHOW").is_some() && outcome.taken == (sound.class == Class::NoTurn) {
            println!("  {} {}: {outcome:?} [{text}]", sound.kind, sound.name);
        }
        rows.entry((sound.class, sound.kind)).or_default().push(outcome);
    }
    progress("");
    tell(&format!(
        "\n## Barge-in\n\nEach sound comes some two seconds into a prompt that may be broken into. Held: the prompt \
         is paused at the sound; taken: the robot gives the floor up for good. ms from the first voice to the \
         last packet of the prompt, {} ms in the jitter buffer among them; a prompt that goes on was held for \
         as long as stands in the last column.\n\n\
         | sound | held | took the floor | first voice to held: median, p95 | held before it goes on: median, p95 |\n\
         | --- | ---: | ---: | ---: | ---: |",
        bench.jitter.as_millis()
    ));
    let mut totals: BTreeMap<Class, Vec<Outcome>> = BTreeMap::new();
    for ((class, kind), outcomes) in &rows {
        tell(&row(kind, outcomes, bench.jitter));
        totals.entry(*class).or_default().extend(outcomes);
    }
    for (class, outcomes) in &totals {
        let name = match class {
            Class::NoTurn => "**all that is no turn**",
            Class::Speech => "**all speech**",
            Class::SyntheticSpeech => continue,
        };
        tell(&row(name, outcomes, bench.jitter));
    }
    let share = |class: Class| {
        let outcomes = totals.get(&class).map_or(&[][..], Vec::as_slice);
        let taken = outcomes.iter().filter(|outcome| outcome.taken).count();
        100.0 * taken as f64 / outcomes.len().max(1) as f64
    };
    let speech = totals.get(&Class::Speech).map_or(&[][..], Vec::as_slice);
    let held: Vec<f64> = speech.iter().filter_map(|o| o.held_ms).collect();
    Ok(format!(
        "Barge-in: {:.1} % of interruptions take the floor, {:.1} % of noises and signs of listening; the prompt \
         stops {} ms after the first voice (95th percentile).",
        share(Class::Speech),
        share(Class::NoTurn),
        percentile(&held, 95)
            .map_or("-".to_owned(), |ms| format!("{:.0}", ms + bench.jitter.as_secs_f64() * 1e3))
    ))
}

/// A script whose intents the engine knows.
fn prepared(engine: &Engine, script: &str) -> Result<Arc<Script>> {
    let script = load(script)?;
    trunkline_turn::prepare(engine, &script)?;
    Ok(Arc::new(script))
}

fn load(script: &str) -> Result<Script> {
    Script::load(script).map_err(|error| anyhow::anyhow!("the bench's script: {error}"))
}

fn row(name: &str, outcomes: &[Outcome], jitter: Duration) -> String {
    let all = outcomes.len().max(1);
    let count = |of: &dyn Fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| of(outcome)).count();
    let jitter = jitter.as_secs_f64() * 1_000.0;
    let held: Vec<f64> = outcomes.iter().filter_map(|o| o.held_ms).map(|ms| ms + jitter).collect();
    let silent: Vec<f64> =
        outcomes.iter().filter(|o| !o.taken && o.silent_ms > 0.0).map(|o| o.silent_ms).collect();
    let pair = |of: &[f64]| match (percentile(of, 50), percentile(of, 95)) {
        (Some(median), Some(most)) => format!("{median:.0}, {most:.0}"),
        _ => "-".to_owned(),
    };
    let taken = count(&|outcome| outcome.taken);
    format!(
        "| {name} | {} of {} | {taken} of {} ({:.1} %) | {} | {} |",
        count(&|outcome| outcome.held_ms.is_some()),
        outcomes.len(),
        outcomes.len(),
        100.0 * taken as f64 / all as f64,
        pair(&held),
        pair(&silent)
    )
}

/// A percentile by the nearest rank.
pub(crate) fn percentile(values: &[f64], percent: usize) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied()
}

/// What arrives later.
enum News {
    Text { pause: u32, transcript: Transcript },
    Judged { pause: u32, probability: f32 },
    Reply(Box<TurnReply>),
}

/// One call while its first prompt plays.
struct World<'a> {
    bench: &'a Bench<'a>,
    script: Arc<Script>,
    call: Call,
    ear: Ear,
    language: Language,
    now: Instant,
    /// When the first sample of the ear was.
    start: Instant,
    say: Option<u32>,
    held_since: Option<Instant>,
    played: Duration,
    first_voice: Option<Instant>,
    due: Vec<(Instant, News)>,
    outcome: Outcome,
    text: String,
}

impl<'a> World<'a> {
    fn new(bench: &'a Bench<'a>, script: &Arc<Script>, language: Language) -> Result<Self> {
        let now = Instant::now();
        let wall = Timestamp::UNIX_EPOCH;
        let command = DialCommand {
            call: CallId::from_u128(1),
            callee: "sip:caller@example.invalid".parse()?,
            caller_id: None,
            script: ScriptRef { id: script.id().clone(), version: script.version().clone() },
            variables: script.example_variables(),
            before: Timestamp::MAX,
            ring_s: 30,
            gate: None,
            arms: BTreeMap::new(),
            words: Vec::new(),
        };
        let mut world = Self {
            bench,
            script: Arc::clone(script),
            call: Call::new(command, CallConfig::default(), now, wall),
            ear: Ear::new(Some(bench.silero), EarConfig::default()),
            language,
            now,
            start: now,
            say: None,
            held_since: None,
            played: Duration::ZERO,
            first_voice: None,
            due: Vec::new(),
            outcome: Outcome::default(),
            text: String::new(),
        };
        world.call.handle_prepared(now, Ok(Arc::clone(script)));
        world.call.handle_line(now, Line::Ringing);
        world.call.handle_line(now, Line::Answered);
        Ok(world)
    }

    /// Plays a sound over the prompt, and returns what it did and the words that were heard.
    fn play(mut self, pcm: &[i16], begins: Duration) -> Result<(Outcome, String)> {
        let quiet = vec![0; (begins.as_millis() as usize) * 8];
        let after = vec![0; (AFTER.as_millis() as usize) * 8];
        let line = [&quiet[..], pcm, &after].concat();
        self.first_voice = sound::first_voice(pcm)
            .map(|at| self.start + Duration::from_micros(((quiet.len() + at) * 125) as u64));
        self.settle()?;
        for frame in line.chunks(160) {
            self.now += FRAME;
            if self.held_since.is_none() {
                self.played += FRAME;
            }
            self.arrivals()?;
            let recognises = self.due.iter().any(|(_, news)| matches!(news, News::Text { .. }));
            self.ear.set_eager(!recognises);
            self.ear.push(frame);
            self.drain()?;
            if self.call.poll_timeout().is_some_and(|(due, _)| due <= self.now) {
                self.call.handle_timeout(self.now);
                self.settle()?;
            }
            if self.outcome.taken {
                break;
            }
        }
        if let Some(since) = self.held_since {
            self.outcome.silent_ms += (self.now - since).as_secs_f64() * 1_000.0;
        }
        Ok((self.outcome, self.text))
    }

    fn arrivals(&mut self) -> Result<()> {
        let (arrived, due) = std::mem::take(&mut self.due).into_iter().partition(|(at, _)| *at <= self.now);
        self.due = due;
        let arrived: Vec<(Instant, News)> = arrived;
        for (_, news) in arrived {
            match news {
                News::Text { pause, transcript } => self.call.handle_transcript(self.now, pause, transcript),
                News::Judged { pause, probability } => self.ear.set_turn_probability(pause, probability),
                News::Reply(reply) => self.call.handle_reply(self.now, *reply),
            }
            self.settle()?;
            self.drain()?;
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        while let Some(event) = self.ear.poll_event() {
            let at = |ms: u64| self.start + Duration::from_millis(ms);
            let news = match event {
                EarEvent::SpeechStarted { .. } => Hearing::SpeechStarted,
                EarEvent::PauseDetected { pause, speech_end_ms, .. } => {
                    Hearing::Paused { pause, speech_end: at(speech_end_ms) }
                }
                EarEvent::SpeechResumed { pause, .. } => Hearing::Resumed { pause },
                EarEvent::FalseStart { .. } => Hearing::FalseStart,
                EarEvent::TurnEnded { pause, speech_start_ms, speech_end_ms, .. } => Hearing::TurnEnded {
                    pause,
                    speech_start: at(speech_start_ms),
                    speech_end: at(speech_end_ms),
                },
            };
            self.call.handle_hearing(self.now, news);
            self.settle()?;
        }
        Ok(())
    }

    /// Does what the call asks for.
    fn settle(&mut self) -> Result<()> {
        while let Some(output) = self.call.poll_output() {
            match output {
                Output::Play { say, .. } => {
                    self.say = Some(say);
                    self.call.handle_media(self.now, Media::Started { say, at: self.now, length: PROMPT });
                    self.ear.set_prompt_playing(true);
                }
                Output::Pause => self.hold(),
                Output::Resume => {
                    if let Some(since) = self.held_since.take() {
                        self.outcome.silent_ms += (self.now - since).as_secs_f64() * 1_000.0;
                    }
                    self.ear.set_prompt_playing(true);
                }
                Output::Expect { endpoint } => {
                    let endpoint = match endpoint {
                        Expected::Short => Endpoint::Short,
                        Expected::Normal => Endpoint::Normal,
                        Expected::Long => Endpoint::Long,
                    };
                    self.ear.configure(NodeEar { endpoint, max_turn_ms: 20_000 });
                }
                Output::ForgetTurn => self.ear.reset_turn(),
                Output::Recognize { pause, phrases, numbers, asides } => {
                    self.recognise(pause, phrases, numbers, asides)?
                }
                Output::DropRecognition { pause } => {
                    self.due
                        .retain(|(_, news)| !matches!(news, News::Text { pause: of, .. } if *of == pause));
                }
                Output::Matched { pause, matched } => self.ear.set_hypothesis_matched(pause, matched),
                Output::Ask(request) | Output::TakeTurn(request) => {
                    let reply = Box::new(self.understood(request)?);
                    self.due.push((self.now + self.bench.cloud, News::Reply(reply)));
                }
                // The next words of the robot take the place of these: it has stopped for good.
                Output::Stop => self.outcome.taken = true,
                Output::Prepare
                | Output::Dial
                | Output::Answer
                | Output::HangUp
                | Output::Transfer { .. }
                | Output::TransferOver
                | Output::Warm { .. }
                | Output::Progress(..)
                | Output::Turn(_)
                | Output::File
                | Output::Ended(_) => {}
            }
        }
        Ok(())
    }

    /// What the cloud says to a turn.
    fn understood(&self, request: TurnRequest) -> Result<TurnReply> {
        let reply = trunkline_turn::answer(self.bench.engine, &self.script, &BTreeMap::new(), &request, NOON);
        anyhow::ensure!(reply.error.is_empty(), "a turn of the bench: {}", reply.error);
        Ok(reply)
    }

    fn hold(&mut self) {
        self.held_since = Some(self.now);
        if let (None, Some(first)) = (self.outcome.held_ms, self.first_voice) {
            // A hold before the first voice was for something softer before it: none of its time is ours.
            let ms = self.now.saturating_duration_since(first).as_secs_f64() * 1_000.0;
            self.outcome.held_ms = Some(ms);
        }
        self.ear.set_prompt_playing(false);
        if let Some(say) = self.say {
            let heard = (self.played.as_secs_f32() / PROMPT.as_secs_f32()).min(1.0);
            self.call.handle_media(self.now, Media::Held { say, heard });
        }
    }

    fn recognise(
        &mut self,
        pause: u32,
        phrases: Arc<[String]>,
        numbers: Option<Numbers>,
        asides: Arc<[String]>,
    ) -> Result<()> {
        let Some(audio) = self.ear.utterance() else {
            self.call.handle_transcript(self.now, pause, Transcript::default());
            return Ok(());
        };
        let lexicon = numbers.map(|numbers| match numbers {
            Numbers::Digits => Lexicon::Digits,
            Numbers::Amount => Lexicon::Amount,
        });
        let options =
            RecognizeOptions { threads: 1, phrases, asides, lexicon, ..RecognizeOptions::new(self.language) };
        let found = self.bench.recognizer.recognize(&audio, &options)?;
        self.text.clone_from(&found.raw);
        let transcript = Transcript { text: found.text, logprob: found.avg_logprob, voice: None };
        self.due.push((self.now + found.took, News::Text { pause, transcript }));
        let begun = Instant::now();
        let probability = self.bench.end_of_turn.complete_probability(&audio.samples)?;
        self.due.push((self.now + begun.elapsed(), News::Judged { pause, probability }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_the_nearest_rank() {
        let values: Vec<f64> = (1..=20).rev().map(f64::from).collect();
        assert_eq!(percentile(&values, 50), Some(10.0));
        assert_eq!(percentile(&values, 95), Some(19.0));
        assert_eq!(percentile(&values, 100), Some(20.0));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn a_row_counts_what_was_held_and_what_was_taken() {
        let held = Outcome { held_ms: Some(60.0), silent_ms: 300.0, taken: false };
        let taken = Outcome { held_ms: Some(40.0), silent_ms: 0.0, taken: true };
        let text = row("x", &[held, taken, Outcome::default()], Duration::from_millis(20));
        assert_eq!(text, "| x | 2 of 3 | 1 of 3 (33.3 %) | 60, 80 | 300, 300 |");
    }

    #[test]
    fn the_scripts_of_the_bench_may_be_broken_into() {
        for text in [include_str!("closed.zh.yaml"), include_str!("closed.en.yaml")] {
            assert!(load(text).is_ok());
            assert!(!text.contains("barge_in"), "what is protected cannot be broken into");
        }
    }
}
