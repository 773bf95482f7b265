//! `trunkctl`: what people do with Trunkline from a terminal.
//!
//! `setup` makes keys, certificates and configurations for development; `demo` runs the whole chain
//! and shows a call; `script` checks scripts; `recording` measures recordings of any origin; `line` proves a line on
//! site, and `call` shows what was signalled in a call.

mod boxes;
mod call;
mod demo;
mod flash;
mod keys;
mod line;
mod orders;
mod progress;
mod receipts;
mod rehearse;
mod release;
mod rollout;
mod script;
mod speech;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use trunkctl::setup;
use trunkline_audio::latency::{self, Options, Side};

#[derive(Parser)]
#[command(
    name = "trunkctl",
    version,
    about = "Set up, try, check and measure Trunkline",
    after_help = "Examples:\n  trunkctl demo --lang zh\n  trunkctl demo --lang en --phone sip:me@192.0.2.7:5060\n  \
                  trunkctl recording latency call.wav\n  \
                  trunkctl line test -c edge.toml --call 13800138000 --ask\n  trunkctl call trace 019a3f20 -c edge.toml\n  \
                  trunkctl script lint shared/scripts/*.yaml\n  \
                  trunkctl setup --dir ./dev --box tl-branch1\n  \
                  trunkctl completion bash\n  trunkctl demo --fleet 3\n  trunkctl box list --dir ./dev\n  \
                  trunkctl box diag tl-7q2k --out tl-7q2k.tar.gz\n\n\
                  Exit status: 0 done, 1 failed or refused, 2 misused; of an order to a box also 3 not taken in time,\n\
                  4 still open."
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs cloud, box and customer on this machine, places one call and shows it.
    Demo(demo::Options),
    /// Makes a development authority, certificates, tokens and configurations.
    Setup(setup::Options),
    /// Works on scripts, and publishes them.
    #[command(subcommand)]
    Script(script::Command),
    /// Measures what this machine hears and carries, and brings other models to it.
    #[command(subcommand)]
    Speech(speech::Command),
    /// Works on word lists: what the robot must not say, and what is noticed.
    #[command(subcommand)]
    Words(words::Command),
    /// Verifies receipts of the compliance gate.
    #[command(subcommand)]
    Receipts(receipts::Command),
    /// Makes, signs and publishes releases in a local repository.
    #[command(subcommand)]
    Release(release::Command),
    /// Lets boxes join, configures them, says how they are, and gives them orders.
    #[command(subcommand)]
    Box(boxes::Command),
    /// Begins and watches how a release spreads through the fleet.
    #[command(subcommand)]
    Rollout(rollout::Command),
    /// Rollouts kept in a file: for a fleet without a server, and to see what a server would do.
    #[command(subcommand)]
    Rehearse(rehearse::Command),
    /// Puts releases for some boxes onto a stick, or shows what boxes wrote back.
    Flash(flash::Options),
    /// Shows what was signalled in the last calls of this box.
    #[command(subcommand)]
    Call(call::Command),
    /// Proves a line on site and prints a sheet.
    #[command(subcommand)]
    Line(line::Command),
    /// Works on recordings.
    #[command(subcommand)]
    Recording(RecordingCommand),
    /// Prints what a shell needs to complete commands and options by the tab key.
    #[command(
        after_help = "Examples:\n  trunkctl completion bash > ~/.local/share/bash-completion/completions/trunkctl\n  \
                            trunkctl completion zsh > ~/.zfunc/_trunkctl\n  \
                            trunkctl completion fish > ~/.config/fish/completions/trunkctl.fish"
    )]
    Completion {
        /// The shell.
        shell: Shell,
    },
}

#[derive(Subcommand)]
enum RecordingCommand {
    /// Measures from the sound how long the robot lets the customer wait for an answer.
    ///
    /// From the end of the customer's speech to the first sound of the robot, turn by turn. Works on
    /// any two-channel WAV file; in the box's own recordings the customer is on the left.
    Latency {
        /// Two-channel WAV files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// The channel with the customer.
        #[arg(long, value_enum, default_value_t = Channel::Left)]
        customer: Channel,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
        /// Exit with status 1 when the median over all files is above this many milliseconds.
        #[arg(long, value_name = "MS")]
        max_median: Option<f64>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Channel {
    Left,
    Right,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.command {
        Command::Demo(options) => demo::run(options),
        Command::Setup(options) => setup::run(&options),
        // Its exit status says more than whether there was an error.
        Command::Script(command) => return script::run(command),
        Command::Receipts(command) => receipts::run(command),
        Command::Words(command) => words::run(command),
        Command::Speech(command) => speech::run(command),
        Command::Release(command) => release::run(command),
        Command::Box(command) => return boxes::run(command),
        Command::Rollout(command) => rollout::run(command),
        Command::Rehearse(command) => rehearse::run(command),
        Command::Flash(options) => flash::run(&options),
        Command::Call(command) => call::run(command),
        // A sheet with a failure on it is no error of the program.
        Command::Line(command) => return line::run(command),
        Command::Recording(RecordingCommand::Latency { files, customer, json, max_median }) => {
            recording_latency(&files, customer, json, max_median)
        }
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Args::command(), "trunkctl", &mut std::io::stdout());
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trunkctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn recording_latency(
    files: &[PathBuf],
    customer: Channel,
    json: bool,
    max_median: Option<f64>,
) -> Result<()> {
    let side = match customer {
        Channel::Left => Side::Left,
        Channel::Right => Side::Right,
    };
    let mut all: Vec<f64> = Vec::new();
    for file in files {
        let analysis = latency::analyse_file(file, side, &Options::default())?;
        all.extend(analysis.turns.iter().map(|turn| turn.latency_ms));
        if json {
            let turns: Vec<_> = analysis
                .turns
                .iter()
                .map(|turn| {
                    serde_json::json!({
                        "customer_end_s": turn.customer_end_s,
                        "robot_start_s": turn.robot_start_s,
                        "latency_ms": turn.latency_ms,
                    })
                })
                .collect();
            println!(
                "{}",
                serde_json::json!({ "file": file, "turns": turns, "median_ms": analysis.median_ms() })
            );
        } else {
            println!("{}\n{analysis}", file.display());
        }
    }
    let Some(limit) = max_median else { return Ok(()) };
    all.sort_by(f64::total_cmp);
    match all.get(all.len() / 2) {
        None => bail!("no turn was found in which the robot answers the customer"),
        Some(median) if *median > limit => bail!("the median of {median:.0} ms is above {limit:.0} ms"),
        Some(_) => Ok(()),
    }
}
