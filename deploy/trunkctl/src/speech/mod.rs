//! `trunkctl speech bench`: what this machine hears, how soon it answers, and how much it carries; and
//! `trunkctl speech bundle`: other models for it.

mod bundle;
mod carry;
mod closed;
mod sound;
mod turns;
mod words;

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use trunkline_nlu::Engine;
use trunkline_speech::bundle::{Bundle, Tuning};
use trunkline_speech::ear::Endpoint;
use trunkline_speech::recognise::{Language, PoolConfig, Recognizer, RecognizerPool, Whisper, WhisperConfig};
use trunkline_speech::synth::{Locale, PromptStore, open_synthesizer};
use trunkline_speech::turn::EndOfTurn;
use trunkline_speech::vad::SileroModel;

use carry::{Measured, Models, World};
use sound::{Clip, Spoken};

/// What is kept in memory of the phrases that the bench says.
const PROMPT_MEMORY: usize = 16 * 1024 * 1024;
/// The promise: an answer within this.
const PROMISED_MS: f64 = 800.0;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Measures recognition, reply latency and capacity on this machine, and prints tables.
    ///
    /// Callers are recordings from --data; where none fit, sentences in synthetic voices, and the table
    /// says so. A run of all parts takes some fifteen minutes on two cores.
    #[command(after_help = "Examples:\n  trunkctl speech bench --data ./recordings\n  \
        trunkctl speech bench latency carry --lang en --data ./recordings\n  \
        trunkctl speech bench words --bundle ./sense-voice --data ./recordings\n  \
        trunkctl speech bench words --count 60 --data ./recordings --markdown edge/speech/BENCHMARKS.md")]
    Bench(Options),
    /// Makes, installs and switches bundles of recogniser models, on files alone.
    #[command(subcommand)]
    Bundle(bundle::Command),
}

#[derive(Args)]
pub(crate) struct Options {
    /// What to measure; all of it when none is named.
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
    /// Recordings of each kind.
    #[arg(long, default_value_t = 40)]
    count: usize,
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
    /// Reply latency of one call, stage by stage.
    Latency,
    /// How many conversations the machine carries.
    Carry,
    /// Turns that are cut off, against the time that one waits at their end.
    Turns,
    /// Error rates of free transcription.
    Words,
    /// Closed questions.
    Closed,
}

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
}

impl Report {
    fn line(&mut self, line: &str) {
        println!("{line}");
        let _ = writeln!(self.text, "{line}");
    }
}

fn bench(options: &Options) -> Result<()> {
    let wanted = |part| options.parts.is_empty() || options.parts.contains(&part);
    let dir = match &options.models {
        Some(dir) => dir.clone(),
        None => default_models()?,
    };
    let clips = sound::clips(&options.data)?;
    let mut report = Report { text: String::new() };
    let (whisper, model) = recognizer(&dir, options)?;
    report.line(&format!("Machine: {}. Model: {model}.", machine()));
    let noises: Vec<Vec<i16>> =
        clips.iter().filter(|clip| clip.kind == "noise").map(Clip::narrow).collect::<Result<_>>()?;
    let models = models(&dir, &whisper, options)?;
    if wanted(Part::Turns) {
        let language = match options.lang {
            Lang::Zh => "zh",
            Lang::En => "en",
        };
        let mut tell = |line: &str| report.line(line);
        turns::run(&models.silero, &models.end_of_turn, &clips, language, options.count, &mut tell)?;
    }
    if wanted(Part::Latency) || wanted(Part::Carry) {
        let callers = callers(&clips, options)?;
        if wanted(Part::Latency) {
            latency(&mut report, &models, &callers, options)?;
        }
        if wanted(Part::Carry) {
            carry(&mut report, &models, &callers, options)?;
        }
    }
    if wanted(Part::Words) {
        words::run(whisper.as_ref(), &clips, &noises, options.count, &mut |line| report.line(line))?;
    }
    if wanted(Part::Closed) {
        closed(&mut report, &dir, whisper.as_ref(), &clips, &noises, options)?;
    }
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

fn world(options: &Options) -> World {
    World {
        cloud: Duration::from_millis(options.cloud),
        jitter: Duration::from_millis(options.jitter),
        prompt: Duration::from_millis(options.prompt),
        endpoint: match options.expect {
            Kind::Short => Endpoint::Short,
            Kind::Normal => Endpoint::Normal,
            Kind::Long => Endpoint::Long,
        },
        eager: !options.patient,
    }
}

/// Real speech of the language that is about as long as answers are.
fn callers(clips: &[Clip], options: &Options) -> Result<Vec<Spoken>> {
    let language = match options.lang {
        Lang::Zh => "zh",
        Lang::En => "en",
    };
    let mut callers = Vec::new();
    for clip in clips {
        let fits = clip.language == language && (clip.kind == "asr" || clip.path.contains("/complete/"));
        if !fits {
            continue;
        }
        let sound = clip.telephone()?;
        if let Some(spoken) = Spoken::new(sound, &format!("{language} {}", clip.kind))
            && spoken.speech_end < 8_000 * 6
        {
            callers.push(spoken);
        }
    }
    if callers.is_empty() {
        bail!("{} holds no speech in `{language}` of up to six seconds", options.data.display());
    }
    Ok(callers)
}

fn language(options: &Options) -> Language {
    match options.lang {
        Lang::Zh => Language::ZH,
        Lang::En => Language::EN,
    }
}

fn latency(report: &mut Report, models: &Models, callers: &[Spoken], options: &Options) -> Result<()> {
    report.line(&format!(
        "\n## Reply latency, one call\n\nReal recordings as the caller ({}), {} ms to the cloud and back, jitter buffer {} ms, ms after the last sound of speech:\n",
        carry::kinds(callers),
        options.cloud,
        options.jitter
    ));
    let length = Duration::from_secs(options.seconds * 3);
    let found = carry::measure(models, callers, language(options), 1, length, world(options))?;
    report.line("| stage | median | p95 |\n| --- | ---: | ---: |");
    type Stage = fn(&carry::Waterfall) -> f64;
    let stages: [(&str, Stage); 6] = [
        ("pause seen, recogniser starts", |w| w.seen),
        ("end-of-turn model", |w| w.judged),
        ("recognised", |w| w.recognised),
        ("cloud answered", |w| w.replied),
        ("silence long enough, turn over", |w| w.over),
        ("**reply**", |w| w.answered),
    ];
    for (name, of) in stages {
        let figure = |percent| found.percentile(percent, of).map_or("-".to_owned(), |ms| format!("{ms:.0}"));
        report.line(&format!("| {name} | {} | {} |", figure(50), figure(95)));
    }
    report.line(&format!("\n{}", summary(&found)));
    Ok(())
}

fn summary(found: &Measured) -> String {
    let heard = found.turns.len() + found.empty + found.cut_off;
    let share = 100.0 * found.cut_off as f64 / heard.max(1) as f64;
    format!(
        "{} turns answered, {} cut off ({share:.1} %), {} not understood, {} missed; {} guesses thrown away; {:.2} cores in use.",
        found.turns.len(),
        found.cut_off,
        found.empty,
        found.missed,
        found.dropped,
        found.cores
    )
}

fn carry(report: &mut Report, models: &Models, callers: &[Spoken], options: &Options) -> Result<()> {
    report.line(&format!(
        "\n## Conversations at the same time\n\nThe robot speaks {:.1} s between turns; {} s for each row:\n\n| calls | median | p95 | cut off | missed | cores |\n| ---: | ---: | ---: | ---: | ---: | ---: |",
        options.prompt as f64 / 1_000.0,
        options.seconds
    ));
    let mut carried = 0;
    let mut calls = 2;
    while calls <= options.calls {
        let length = Duration::from_secs(options.seconds);
        let found = carry::measure(models, callers, language(options), calls, length, world(options))?;
        let figure = |percent| found.percentile(percent, |w| w.answered);
        let shown = |ms: Option<f64>| ms.map_or("-".to_owned(), |ms| format!("{ms:.0}"));
        report.line(&format!(
            "| {calls} | {} | {} | {} of {} | {} | {:.2} |",
            shown(figure(50)),
            shown(figure(95)),
            found.cut_off,
            found.turns.len() + found.cut_off + found.empty,
            found.missed,
            found.cores
        ));
        if figure(95).is_none_or(|ms| ms > PROMISED_MS) {
            break;
        }
        carried = calls;
        calls += if calls < 8 { 2 } else { 4 };
    }
    report.line(&format!("\nCarried within {PROMISED_MS:.0} ms at the 95th percentile: **{carried}**."));
    Ok(())
}

fn closed(
    report: &mut Report,
    dir: &Path,
    whisper: &dyn Recognizer,
    clips: &[Clip],
    noises: &[Vec<i16>],
    options: &Options,
) -> Result<()> {
    let engine = Engine::load(dir)?;
    let cache = dir.parent().unwrap_or(dir).join("bench-prompts");
    let prompts = PromptStore::open(&cache, open_synthesizer(dir)?, PROMPT_MEMORY)
        .with_context(|| format!("cannot use {}", cache.display()))?;
    let bench = closed::Bench { recognizer: whisper, prompts: &prompts, engine: &engine, noises };
    let locale = match options.lang {
        Lang::Zh => Locale::ZhCn,
        Lang::En => Locale::EnUs,
    };
    let live = std::io::stderr().is_terminal();
    let mut progress = |what: &str| {
        if live {
            eprint!("\r\x1b[K{what}");
            let _ = std::io::stderr().flush();
        }
    };
    let mut rows = bench.run(locale, &mut progress)?;
    if options.lang == Lang::En {
        let digits: Vec<Clip> = clips.iter().filter(|clip| clip.kind == "digits").cloned().collect();
        rows.extend(bench.digits(&digits, options.count * 3)?);
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
