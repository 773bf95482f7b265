//! Scripts as files: lint and show.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use trunkline_dialogue::{Script, lint, testing};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Says what is wrong with a script, and where.
    Lint {
        /// Script files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Runs the tests inside a script with the intents that they state.
    Test {
        /// Script files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Prints the id, the version and the canonical form.
    Show {
        /// A script file.
        file: PathBuf,
    },
    /// Prints the JSON Schema of the format, for editors.
    Schema,
}

pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Lint { files } => lint_files(&files),
        Command::Test { files } => test_files(&files),
        Command::Show { file } => {
            let script = load(&file)?;
            println!("{} {}", script.id(), script.version());
            println!("{}", script.canonical());
            Ok(())
        }
        Command::Schema => {
            println!("{}", serde_json::to_string_pretty(&trunkline_dialogue::schema())?);
            Ok(())
        }
    }
}

fn read(file: &PathBuf) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn load(file: &PathBuf) -> Result<Script> {
    Script::load(&read(file)?).with_context(|| format!("{} cannot be used", file.display()))
}

fn lint_files(files: &[PathBuf]) -> Result<()> {
    let mut wrong = 0;
    for file in files {
        let findings = lint(&read(file)?).with_context(|| format!("{} cannot be read", file.display()))?;
        for finding in &findings {
            println!("{}:{finding}", file.display());
        }
        if Script::load(&read(file)?).is_err() {
            wrong += 1;
        } else {
            println!("{}: fine, {} remarks", file.display(), findings.len());
        }
    }
    if wrong > 0 { bail!("{wrong} of {} scripts cannot be published", files.len()) } else { Ok(()) }
}

fn test_files(files: &[PathBuf]) -> Result<()> {
    let mut failed = 0;
    for file in files {
        for result in testing::run_given(&load(file)?) {
            println!("{}: {} {}", file.display(), if result.passed() { "ok  " } else { "FAIL" }, result.name);
            if !result.passed() {
                failed += 1;
                for line in result.transcript.iter().chain(&result.failures) {
                    println!("    {line}");
                }
            }
        }
    }
    if failed > 0 { bail!("{failed} tests failed") } else { Ok(()) }
}
