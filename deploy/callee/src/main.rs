//! `trunkline-callee`: a customer on a SIP line.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use trunkline_callee::server::Teller;
use trunkline_callee::{Callee, CalleeConfig, Cast, Dial, Event, Persona, PersonaError, sound};
use trunkline_sip::message::Uri;

const EXAMPLES: &str = "\
Examples:
  One call, then exit; what happens as JSON lines on standard output:
    trunkline-callee --listen 127.0.0.1:5070 --persona deploy/personas/zh-agrees.yaml --once --events

  Several customers on one line, told apart by the number that is called:
    trunkline-callee --listen 127.0.0.1:5070 --persona deploy/personas/en-agrees.yaml \\
        --persona-for 1002=deploy/personas/busy.yaml --persona-for 1003=deploy/personas/no-answer.yaml

  She calls, and hangs up when the robot is done:
    trunkline-callee --listen 127.0.0.1:0 --persona deploy/personas/zh-agrees.yaml --once \\
        --dial sip:+862155550100@127.0.0.1:5062 --from +8613800138000

  Record from her side (left: what she heard; right: what she said) and measure the robot:
    trunkline-callee --listen 127.0.0.1:5070 --persona deploy/personas/en-agrees.yaml --once --record call.wav
    trunkctl recording latency --customer right call.wav

Exit status: 0 when the calls are over or it was told to stop; 2 for a bad argument or persona; 1 otherwise.
The keys of a persona file are described in the documentation of this crate (deploy/callee/src/lib.rs).";

/// A customer on a SIP line, who picks up, listens and answers as her persona says.
///
/// Prints `ready sip=ADDRESS` when she can be called.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    /// Where to take calls, such as 127.0.0.1:5070; port 0 takes any free one.
    #[arg(long, value_name = "IP:PORT")]
    listen: SocketAddr,
    /// Who answers; a YAML file.
    #[arg(long, value_name = "FILE", required_unless_present = "persona_for")]
    persona: Option<PathBuf>,
    /// Who answers this number (the user part of the URI that is called); may be repeated.
    #[arg(long, value_name = "NUMBER=FILE", value_parser = number_and_file)]
    persona_for: Vec<(String, PathBuf)>,
    /// Exit after so many calls.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    calls: Option<u32>,
    /// Exit after one call.
    #[arg(long, conflicts_with = "calls")]
    once: bool,
    /// Call this address before anything else, as the persona; the host must be an address.
    #[arg(long, value_name = "SIP-URI", value_parser = sip_address, requires = "persona")]
    dial: Option<Uri>,
    /// The number to call from.
    #[arg(long, value_name = "NUMBER", default_value = "customer", requires = "dial")]
    from: String,
    /// Print what happens as JSON lines.
    #[arg(long)]
    events: bool,
    /// UDP ports for sound, two for each call.
    #[arg(long, value_name = "FIRST-LAST", value_parser = port_range, default_value = "41000-41099")]
    rtp: RangeInclusive<u16>,
    /// Decides every choice she makes.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Record from her side: left what she heard, right what she said. The second call goes to FILE-2.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Who else may call; this machine always may.
    #[arg(long, value_name = "IP")]
    allow: Vec<IpAddr>,
    /// Folder with the models; default: the cache folder that deploy/get-models fills.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Folder for rendered speech; default: `prompts` beside the models.
    #[arg(long, value_name = "DIR")]
    prompts: Option<PathBuf>,
}

fn sip_address(text: &str) -> Result<Uri, String> {
    let wrong = "write sip:NUMBER@IP:PORT, such as sip:+862155550100@127.0.0.1:5062";
    Uri::parse(text).ok().filter(|uri| uri.socket_addr().is_some()).ok_or_else(|| wrong.to_owned())
}

fn number_and_file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((number, file)) if !number.is_empty() && !file.is_empty() => {
            Ok((number.to_owned(), file.into()))
        }
        _ => Err("write NUMBER=FILE, such as 1002=busy.yaml".to_owned()),
    }
}

fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let ports =
        text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    match ports {
        Some((first, last)) if first >= 1_024 && last > first => Ok(first..=last),
        _ => Err("write FIRST-LAST, such as 41000-41099, from 1024".to_owned()),
    }
}

fn main() -> ExitCode {
    if let Err(error) = trunkline_speech::openmp::settle() {
        eprintln!("trunkline-callee: recognition may be slow, OpenMP keeps its own settings: {error}");
    }
    let args = Args::parse();
    trunkline_telemetry::init("info,ort=warn");
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trunkline-callee: {error:#}");
            ExitCode::from(if error.is::<PersonaError>() { 2 } else { 1 })
        }
    }
}

fn run(args: Args) -> Result<()> {
    let (casts, ears) = cast(&args)?;
    let mut casts = casts.into_iter();
    let persona = if args.persona.is_some() { casts.next() } else { None };
    let numbers: BTreeMap<String, Cast> =
        args.persona_for.iter().map(|(number, _)| number.clone()).zip(casts).collect();
    let tell: Teller = if args.events { Box::new(print) } else { Box::new(|_| ()) };
    let config = CalleeConfig {
        listen: args.listen,
        rtp: args.rtp,
        allow: args.allow,
        persona,
        numbers,
        ears,
        record: args.record,
        seed: args.seed,
        calls: if args.once { Some(1) } else { args.calls },
        dial: args.dial.map(|to| Dial { to, from: args.from }),
        tell,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        let callee = Callee::open(config).await?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot watch for signals")?;
        say(&format!("ready sip={}", callee.local()));
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            info!("Told to stop");
        };
        callee.run(stop).await;
        Ok(())
    })
}

type Ears = Option<std::sync::Arc<trunkline_speech::recognise::RecognizerPool>>;

/// Reads the personas, in the order of the arguments, and makes their sound.
fn cast(args: &Args) -> Result<(Vec<Cast>, Ears)> {
    let files = args.persona.iter().chain(args.persona_for.iter().map(|(_, file)| file));
    let personas: Vec<Persona> = files.map(|file| Persona::load(file)).collect::<Result<_, _>>()?;
    let models = args.models.clone().unwrap_or_else(trunkline_speech::ort_rt::model_dir);
    let prompts = args.prompts.clone().unwrap_or_else(|| match models.parent() {
        Some(cache) => cache.join("prompts"),
        None => models.join("prompts"),
    });
    let casts = sound::rehearse(personas, &models, &prompts)?;
    let ears = sound::ears(&casts.iter().collect::<Vec<_>>(), &models)?;
    Ok((casts, ears))
}

fn print(event: &Event) {
    match serde_json::to_string(event) {
        Ok(line) => say(&line),
        Err(error) => tracing::warn!(%error, "An event cannot be written"),
    }
}

/// Whoever reads may have gone; the calls go on.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_hold_together() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn ports_and_numbers_are_checked() {
        assert_eq!(port_range("41000-41099"), Ok(41_000..=41_099));
        assert!(port_range("80-90").is_err() && port_range("5000").is_err() && port_range("9-8").is_err());
        assert!(sip_address("sip:8001@127.0.0.1:5062").is_ok() && sip_address("sip:8001@robot").is_err());
        assert!(number_and_file("1002=busy.yaml").is_ok() && number_and_file("busy.yaml").is_err());
    }
}
