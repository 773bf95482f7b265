//! `trunkctl speech bench`: what this machine hears, how soon it answers, and how much it carries; and
//! `trunkctl speech bundle`: other models for it.

mod answered;
mod barge_in;
mod bundle;
mod carry;
mod closed;
mod concealment;
mod early;
mod first_sound;
mod loss;
#[cfg(feature = "neteq")]
mod neteq;
mod nothing;
mod peer;
mod prosody;
mod python;
mod replies;
mod sound;
mod turns;
mod voices;
mod wire;
mod words;

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use trunkline_nlu::Engine;
use trunkline_speech::bundle::{Bundle, Tuning};
use trunkline_speech::recognise::{PoolConfig, Recognizer, RecognizerPool, Whisper, WhisperConfig};
use trunkline_speech::synth::{Locale, PromptStore, open_synthesizer};
use trunkline_speech::turn::EndOfTurn;
use trunkline_speech::vad::SileroModel;

use carry::Models;
use peer::Peer;
use sound::Clip;

/// What is kept in memory of the phrases that the bench says.
const PROMPT_MEMORY: usize = 16 * 1024 * 1024;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Measures what this machine hears, how soon it answers and what it carries, and prints tables.
    ///
    /// The parts run one after the other and take some half an hour on two cores, less with a smaller
    /// --count; at the end stands what this box can carry. Callers are recordings from --data; where none
    /// fit, sentences in synthetic voices, and the table says so. Times of other programs' work are in
    /// the figures of latency, carry and barge-in: run them on a quiet box, or with real-time priority.
    #[command(after_help = "Examples:\n  trunkctl speech bench --data ./recordings\n  \
        trunkctl speech bench all --data ./recordings --count 20 --markdown bench.md\n  \
        trunkctl speech bench latency carry --lang en --data ./recordings\n  \
        trunkctl speech bench words --bundle ./sense-voice --data ./recordings\n  \
        trunkctl speech bench barge-in --count 200 --data ./recordings\n  \
        trunkctl speech bench nothing --count 200 --data ./recordings\n  \
        trunkctl speech bench loss --only zh --networks 3 --data ./recordings\n  \
        trunkctl speech bench concealment --data ./recordings   (installs pesq and pystoi)\n  \
        trunkctl speech bench peer --count 30 --data ./recordings   (installs faster-whisper, 400 MB)\n  \
        chrt -f 5 trunkctl speech bench latency --data ./recordings")]
    Bench(Options),
    /// Makes, installs and switches bundles of recogniser models, on files alone.
    #[command(subcommand)]
    Bundle(bundle::Command),
}

#[derive(Args)]
pub(crate) struct Options {
    /// What to measure; all of it when none is named. `peer` runs when it is named, or was installed.
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Folder with recordings and their manifest.tsv.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Folder with the models; by default where `trunkline-models fetch` puts them.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Model file of the recogniser.
    #[arg(long, default_value = "whisper-base-q8_0.bin", value_name = "FILE")]
    whisper: String,
    /// Folder of a bundle whose recogniser is measured instead.
    #[arg(long, value_name = "DIR", conflicts_with = "whisper")]
    bundle: Option<PathBuf>,
    /// Language of the callers.
    #[arg(long, value_enum, default_value_t = Lang::Zh)]
    lang: Lang,
    /// Time from the box's question to the cloud's answer, in ms: the link both ways and the understanding.
    #[arg(long, default_value_t = 75, value_name = "MS")]
    cloud: u64,
    /// How long a packet waits in the jitter buffer, in ms.
    #[arg(long, default_value_t = 20, value_name = "MS")]
    jitter: u64,
    /// How long the robot speaks between two turns, in ms.
    #[arg(long, default_value_t = 3_500, value_name = "MS")]
    prompt: u64,
    /// Seconds for each number of calls.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Most calls to try.
    #[arg(long, default_value_t = 24)]
    calls: usize,
    /// Recordings of each kind; by default 40, and 200 sounds of each side for barge-in.
    #[arg(long)]
    count: Option<usize>,
    /// Only the rows of words, peer, voices and loss whose name holds this, such as `zh` or `10 dB`.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    only: String,
    /// What the networks of loss and concealment do is drawn from this.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many networks of each kind speech goes through in loss, each drawn anew.
    #[arg(long, default_value_t = 1, value_name = "N")]
    networks: u64,
    /// What kind of answer the ear expects.
    #[arg(long, value_enum, default_value_t = Kind::Normal)]
    expect: Kind,
    /// Call pauses only when they are certain.
    #[arg(long)]
    patient: bool,
    /// Threads of the recogniser for one utterance while nothing else waits; 0 takes what the box takes.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Also write the tables to this file.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Every part, one after the other.
    All,
    /// Error rates of free transcription.
    Words,
    /// The same beside faster-whisper, which is installed when it is missing.
    Peer,
    /// Error rates of free transcription through bad networks.
    Loss,
    /// How gaps are filled, by PESQ and STOI, which are installed when they are missing; beside neteq where it is built in.
    Concealment,
    /// Closed questions.
    Closed,
    /// Sound without speech, and speech that is lost.
    Nothing,
    /// Noises, signs of listening and real interruptions while the robot speaks.
    BargeIn,
    /// People, voicemails, menus, screening assistants, faxes and nobody, told apart.
    Answered,
    /// Tones, announcements and colour rings before the answer, told apart.
    Early,
    /// Turns that are cut off, against the time that one waits at their end.
    Turns,
    /// How well the tone of voice is measured.
    Prosody,
    /// What the voices cost and whether they are understood.
    Voices,
    /// When the first sound comes of words that nobody rendered.
    FirstSound,
    /// Reply latency of one call, stage by stage.
    Latency,
    /// How many conversations the machine carries.
    Carry,
}

/// In which order they run: what takes no notice of time first, so that it warms the machine up.
const ORDER: [Part; 15] = [
    Part::Words,
    Part::Peer,
    Part::Loss,
    Part::Concealment,
    Part::Closed,
    Part::Nothing,
    Part::BargeIn,
    Part::Early,
    Part::Answered,
    Part::Turns,
    Part::Prosody,
    Part::Voices,
    Part::FirstSound,
    Part::Latency,
    Part::Carry,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Lang {
    Zh,
    En,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Short,
    Normal,
    Long,
}

/// Runs the command.
pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Bench(options) => {
            trunkline_speech::openmp::settle().context("cannot set OpenMP up as on the box")?;
            bench(&options)
        }
        Command::Bundle(command) => bundle::run(command),
    }
}

/// The tables as they grow: printed at once, and kept for the file.
struct Report {
    text: String,
    /// What each part came to, in a sentence.
    conclusions: Vec<String>,
}

impl Report {
    fn line(&mut self, line: &str) {
        println!("{line}");
        let _ = writeln!(self.text, "{line}");
    }

    fn conclude(&mut self, sentence: String) {
        self.conclusions.push(sentence);
    }

    /// Prints what this box can carry.
    fn finish(&mut self) {
        let conclusions = std::mem::take(&mut self.conclusions);
        if conclusions.is_empty() {
            return;
        }
        self.line("\n## What this box can carry\n");
        for sentence in conclusions {
            self.line(&format!("- {sentence}"));
        }
    }
}

/// Shows what is being done while somebody watches.
fn show_progress(what: &str) {
    let mut terminal = std::io::stderr();
    if terminal.is_terminal() {
        let _ = write!(terminal, "\r\x1b[K{what}");
        let _ = terminal.flush();
    }
}

/// The parts to run, in order.
fn wanted(named: &[Part], is_peer_installed: bool) -> Vec<Part> {
    let all = named.is_empty() || named.contains(&Part::All);
    ORDER
        .into_iter()
        // Concealment installs programs and plays in real time: only who names it wants that.
        .filter(|part| {
            let runs_along = *part != Part::Concealment && (*part != Part::Peer || is_peer_installed);
            named.contains(part) || all && runs_along
        })
        .collect()
}

fn bench(options: &Options) -> Result<()> {
    let dir = match &options.models {
        Some(dir) => dir.clone(),
        None => default_models()?,
    };
    let cache = dir.parent().unwrap_or(&dir).to_owned();
    let clips = sound::clips(&options.data)?;
    let mut report = Report { text: String::new(), conclusions: Vec::new() };
    let (whisper, model) = recognizer(&dir, options)?;
    report.line(&format!("Machine: {}; {}. Model: {model}.", machine(), load()));
    let noises: Vec<Vec<i16>> =
        clips.iter().filter(|clip| clip.kind == "noise").map(Clip::narrow).collect::<Result<_>>()?;
    let models = models(&dir, &whisper, options)?;
    let parts = wanted(&options.parts, Peer::find(&cache).is_some());
    let begun = Instant::now();
    for (n, part) in parts.iter().enumerate() {
        if std::io::stderr().is_terminal() {
            let minutes = begun.elapsed().as_secs() / 60;
            eprintln!("\n[{} of {}] {part:?}, after {minutes} min", n + 1, parts.len());
        }
        let subject = Subject { dir: &dir, cache: &cache, whisper: whisper.as_ref(), models: &models };
        run_part(*part, &subject, (&clips[..], &noises[..]), options, &mut report)?;
    }
    report.finish();
    if let Some(path) = &options.markdown {
        std::fs::write(path, &report.text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("\nwritten to {}", path.display());
    }
    Ok(())
}

/// Opens the recogniser that is measured. Returns it with its name.
fn recognizer(dir: &Path, options: &Options) -> Result<(Arc<dyn Recognizer>, String)> {
    if let Some(bundle) = &options.bundle {
        let bundle = Bundle::read(bundle)?;
        let pool = PoolConfig::default();
        let threads = if options.threads > 0 { options.threads } else { pool.threads };
        let states = std::thread::available_parallelism().map_or(1, usize::from);
        let recognizer = trunkline_speech::bundle::open(&bundle, Tuning { states, threads })?;
        return Ok((recognizer, format!("bundle {}", bundle.manifest.name())));
    }
    let whisper = Whisper::load(&dir.join(&options.whisper), WhisperConfig::default())
        .context("fetch the models with `trunkline-models fetch`")?;
    Ok((Arc::new(whisper), options.whisper.clone()))
}

/// What is measured.
struct Subject<'a> {
    dir: &'a Path,
    cache: &'a Path,
    whisper: &'a dyn Recognizer,
    models: &'a Models,
}

fn run_part(
    part: Part,
    of: &Subject<'_>,
    (clips, noises): (&[Clip], &[Vec<i16>]),
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let count = options.count.unwrap_or(40);
    let (whisper, models) = (of.whisper, of.models);
    let mut tell = |line: &str| report.line(line);
    let mut progress = show_progress;
    let sentence = match part {
        Part::All => return Ok(()),
        Part::Words => {
            let cases = words::cases(clips, noises, count, &options.only)?;
            words::run(whisper, &cases, count, &mut progress, &mut tell)?
        }
        Part::Peer => {
            let peer = match Peer::find(of.cache) {
                Some(peer) => peer,
                None => Peer::install(of.cache, &mut progress)?,
            };
            let cases = words::cases(clips, noises, count, &options.only)?;
            words::beside(whisper, &peer, &cases, count, &mut progress, &mut tell)?
        }
        Part::Loss => {
            let (only, seed, rounds) = (&*options.only, options.seed, options.networks);
            loss::run(whisper, clips, &loss::Terms { count, only, seed, rounds }, &mut progress, &mut tell)?
        }
        Part::Concealment => {
            concealment::run(whisper, (clips, count, options.seed), of.cache, &mut progress, &mut tell)?
        }
        Part::Closed => return closed(report, of, clips, noises, options),
        Part::Nothing => {
            let counts = (options.count.unwrap_or(100), options.count.unwrap_or(200));
            nothing::run(whisper, &models.silero, clips, counts, &mut progress, &mut tell)?
        }
        Part::BargeIn => {
            let count = options.count.unwrap_or(200);
            let engine = Engine::load(of.dir)?;
            let prompts = prompts(of)?;
            let mut sounds = barge_in::no_turns(clips, &prompts, count)?;
            sounds.extend(barge_in::short_words(&prompts)?);
            sounds.extend(barge_in::turns(clips, count)?);
            let bench = barge_in::Bench {
                recognizer: whisper,
                silero: &models.silero,
                end_of_turn: &models.end_of_turn,
                engine: &engine,
                cloud: Duration::from_millis(options.cloud),
                jitter: Duration::from_millis(options.jitter),
            };
            barge_in::run(&bench, &sounds, &mut progress, &mut tell)?
        }
        Part::Answered => {
            let models = (whisper, &models.silero);
            answered::run(models, clips, noises, &prompts(of)?, &mut progress, &mut tell)?
        }
        Part::Early => {
            let models = (whisper, &models.silero);
            early::run(models, clips, noises, &prompts(of)?, (&mut progress, &mut tell))?
        }
        Part::Turns => {
            let language = match options.lang {
                Lang::Zh => "zh",
                Lang::En => "en",
            };
            return turns::run(&models.silero, &models.end_of_turn, clips, language, count, &mut tell);
        }
        Part::Prosody => prosody::run(clips, &mut progress, &mut tell)?,
        Part::Voices => {
            let what = (&*options.only, options.count.unwrap_or(8));
            voices::run(whisper, of.dir, what, &mut progress, &mut tell)?
        }
        Part::FirstSound => {
            let what = (&*options.only, options.count.unwrap_or(3));
            first_sound::run(whisper, of.dir, what, &mut progress, &mut tell)?
        }
        Part::Latency => {
            return replies::latency(report, models, &replies::callers(clips, options)?, options);
        }
        Part::Carry => return replies::carry(report, models, &replies::callers(clips, options)?, options),
    };
    report.conclude(sentence);
    Ok(())
}

fn prompts(of: &Subject<'_>) -> Result<PromptStore> {
    let folder = of.cache.join("bench-prompts");
    PromptStore::open(&folder, open_synthesizer(of.dir)?, PROMPT_MEMORY)
        .with_context(|| format!("cannot use {}", folder.display()))
}

fn models(dir: &Path, whisper: &Arc<dyn Recognizer>, options: &Options) -> Result<Models> {
    let mut config = PoolConfig::default();
    if options.threads > 0 {
        config.threads = options.threads;
    }
    let pool = RecognizerPool::new(Arc::clone(whisper), config).context("cannot start the recogniser")?;
    Ok(Models {
        pool: Arc::new(pool),
        silero: SileroModel::load(&dir.join("silero-vad.onnx"))?,
        end_of_turn: Arc::new(EndOfTurn::load(&dir.join("smart-turn-v3.2.onnx"))?),
    })
}

fn closed(
    report: &mut Report,
    of: &Subject<'_>,
    clips: &[Clip],
    noises: &[Vec<i16>],
    options: &Options,
) -> Result<()> {
    let engine = Engine::load(of.dir)?;
    let prompts = prompts(of)?;
    let bench = closed::Bench { recognizer: of.whisper, prompts: &prompts, engine: &engine, noises };
    let locale = match options.lang {
        Lang::Zh => Locale::ZhCn,
        Lang::En => Locale::EnUs,
    };
    let mut progress = show_progress;
    let mut rows = bench.run(locale, &mut progress)?;
    if options.lang == Lang::En {
        let digits: Vec<Clip> = clips.iter().filter(|clip| clip.kind == "digits").cloned().collect();
        rows.extend(bench.digits(&digits, options.count.unwrap_or(40) * 3)?);
    }
    progress("");
    report.line("\n## Closed questions\n\nUnderstood as meant, by free transcription and with the expected answers weighed; in brackets: nothing understood, the robot asks again.\n\n| question | voices | condition | free | weighed | CPU ms more |\n| --- | --- | --- | ---: | ---: | ---: |");
    let cell = |score: closed::Score| {
        format!(
            "{:.0} % ({} of {})",
            100.0 * score.right as f64 / score.all.max(1) as f64,
            score.nothing,
            score.all
        )
    };
    for row in &rows {
        report.line(&format!(
            "| {} | {} | {} | {} | {} | {} |",
            row.question,
            row.source,
            row.condition,
            cell(row.free),
            cell(row.weighed),
            row.extra.as_millis() / row.weighed.all.max(1) as u128
        ));
    }
    for ((source, condition), (free, weighed)) in closed::totals(&rows) {
        report.conclude(format!(
            "Closed questions, {source} {} answers, {condition}: {} understood.",
            locale.tag(),
            cell(weighed)
        ));
        report.line(&format!("| **all** | {source} | {condition} | {} | {} | |", cell(free), cell(weighed)));
    }
    Ok(())
}

fn default_models() -> Result<PathBuf> {
    let named = |key: &str| std::env::var_os(key).map(PathBuf::from);
    named("TRUNKLINE_MODELS")
        .or_else(|| named("XDG_CACHE_HOME").map(|dir| dir.join("trunkline/models")))
        .or_else(|| named("HOME").map(|dir| dir.join(".cache/trunkline/models")))
        .context("name the folder of the models with --models")
}

/// The processor's name and the number of cores.
fn machine() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |key: &str| {
        cpus.lines().find(|line| line.starts_with(key)).and_then(|line| line.split(':').nth(1)).map(str::trim)
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let wide = value("flags").is_some_and(|flags| flags.contains("avx512f"));
    format!(
        "{}, {cores} cores{}",
        value("model name").unwrap_or("unknown processor"),
        if wide { ", AVX-512" } else { "" }
    )
}

/// How busy the machine is, so that a table says what else ran.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!("load average {}", text.split(' ').next().filter(|load| !load.is_empty()).unwrap_or("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_run_in_order_and_the_peer_only_when_it_is_there_or_asked_for() {
        let all: Vec<Part> = ORDER.into_iter().filter(|part| *part != Part::Concealment).collect();
        assert_eq!(wanted(&[], true), all);
        assert_eq!(wanted(&[Part::All], true), all);
        assert!(!wanted(&[], false).contains(&Part::Peer));
        assert_eq!(wanted(&[Part::Carry, Part::Peer], false), [Part::Peer, Part::Carry]);
        assert!(wanted(&[Part::All, Part::Peer], false).contains(&Part::Peer));
    }

    #[test]
    fn a_report_ends_with_what_its_parts_came_to() {
        let mut report = Report { text: String::new(), conclusions: Vec::new() };
        report.finish();
        assert!(report.text.is_empty());
        report.conclude("Ten calls.".to_owned());
        report.finish();
        assert!(report.text.ends_with("## What this box can carry\n\n- Ten calls.\n"), "{}", report.text);
    }
}
