//! The binary `trunkline-load`: a fleet on one machine, and a row for the table.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use trunkline_load::{Plan, Promises, Report, run};

const EXAMPLES: &str = "\
Examples:
  cargo build --release -p trunkline-cloud -p trunkline-load
  target/release/trunkline-load                       2,000 boxes, a minute and a half
  target/release/trunkline-load --boxes 10000 --phase 1000x60 --phase 2000x600 --kills 2

It ends with status 1 when something is lost or a promise is not kept, and names it.";

/// Holds many boxes over mutual TLS on one cloud, kills it meanwhile, and looks for what was lost.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Options {
    /// How many boxes.
    #[arg(long, default_value_t = 2_000)]
    boxes: usize,
    /// Events per second of all boxes together, and for how many seconds, such as `1000x60`; may be repeated.
    #[arg(long = "phase", value_name = "RATExSECONDS", value_parser = phase, default_value = "1000x60")]
    phases: Vec<(u32, Duration)>,
    /// How often the cloud is killed, while events go on as in the first phase.
    #[arg(long, default_value_t = 2)]
    kills: u32,
    /// The program `trunkline-cloud`; the one beside this program when left out.
    #[arg(long)]
    cloud: Option<PathBuf>,
    /// Folder for the cloud, which stays; one that is removed at the end when left out.
    #[arg(long)]
    dir: Option<PathBuf>,
}

fn phase(text: &str) -> Result<(u32, Duration), String> {
    let said = || "write it as `1000x60`: events per second, `x`, seconds".to_owned();
    let (rate, seconds) = text.split_once('x').ok_or_else(said)?;
    let rate = rate.parse().ok().filter(|rate| *rate > 0).ok_or_else(said)?;
    let seconds = seconds.parse().ok().filter(|seconds| *seconds > 0).ok_or_else(said)?;
    Ok((rate, Duration::from_secs(seconds)))
}

fn main() -> ExitCode {
    match load(Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("trunkline-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn load(options: Options) -> Result<bool> {
    let beside = || Some(std::env::current_exe().ok()?.with_file_name("trunkline-cloud"));
    let cloud = options.cloud.or_else(beside).context("say where trunkline-cloud is: --cloud PATH")?;
    let passing = tempfile::tempdir().context("cannot make a folder for the cloud")?;
    let dir = options.dir.unwrap_or_else(|| passing.path().to_owned());
    let plan = Plan { boxes: options.boxes, phases: options.phases, kills: options.kills, cloud, dir };
    let report = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("could not start the runtime")?
        .block_on(run(&plan))?;
    println!("{}\n{}", Report::head(), report.row());
    println!("{} attempts to connect failed or connections broke", report.broken);
    let broken = report.broken_promises(&Promises::default());
    for promise in &broken {
        println!("NOT KEPT: {promise}");
    }
    Ok(broken.is_empty())
}
