//! The box as a member of the fleet: the commands `launch`, `keep`, `claim`, `diag` and `logs` around `edge/keeper`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tokio::sync::watch;
use trunkline_keeper::{
    CALLS, Carrier, Clock, Config, End, Identity, Launcher, Running, SLOT_VARIABLE, SWITCH, Settings,
    Sources, VERSION_VARIABLE,
};
use trunkline_update::Slot;
use trunkline_wire::NotApplied;

use crate::overlay;

const PROGRAM: &str = "bin/trunkline-edge";
const USUAL_LOG: &str = "info,rumqttc=warn";

/// Starts versions from their slots until told to stop.
pub(crate) async fn launch(path: &Path) -> Result<()> {
    let config = Config::load(path)?;
    let Some(updates) = &config.updates else {
        bail!("{}: there is no [updates] section that says where the versions lie", path.display());
    };
    let path = std::fs::canonicalize(path).with_context(|| format!("cannot find {}", path.display()))?;
    let launcher = Launcher {
        slots: updates.slots.clone(),
        program: PROGRAM.to_owned(),
        args: vec!["keep".to_owned(), "--config".to_owned(), path.display().to_string()],
    };
    trunkline_keeper::supervise(&launcher, stop()).await?;
    Ok(())
}

/// Keeps the box in the fleet; ends with [`SWITCH`] when another version is to start.
pub(crate) async fn keep(path: &Path) -> Result<ExitCode> {
    let config = Config::load(path)?;
    let id = Identity::open(&config.identity_dir(), &config.key)?.id().clone();
    keep_log(&config.logs_dir(), "keeper");
    let running = running();
    let version = running.as_ref().map_or(env!("CARGO_PKG_VERSION"), |running| running.version.as_str());
    println!("ready box={id} version={version}");
    let carrier = carrier(&config)?;
    let mut log_was_set = false;
    let apply = |settings: &mut Settings| {
        let mut problems = apply_log(settings, &mut log_was_set);
        if let Some(calls) = &config.calls {
            problems.extend(overlay::settle(&calls.config, &mut settings.calls));
        }
        tracing::info!(name = settings.name, "Settings are in force");
        problems
    };
    let clock = Clock::of_the_machine();
    let end = trunkline_keeper::keep(&config, &clock, running, carrier, stop(), apply).await?;
    Ok(match end {
        End::Stopped => ExitCode::SUCCESS,
        End::Switch => ExitCode::from(SWITCH),
    })
}

/// Prints the code for the label.
pub(crate) fn claim(path: &Path) -> Result<()> {
    let config = Config::load(path)?;
    let identity = Identity::open(&config.identity_dir(), &config.key)?;
    println!("{} {}", identity.id(), identity.claim_code()?.reveal());
    Ok(())
}

/// Writes what the box knows of itself into a file, masked; the box may be running, or not.
pub(crate) fn diag(path: &Path, out: &Path) -> Result<()> {
    let config = Config::load(path)?;
    let bundle =
        Sources::new(&config).bundle(Clock::of_the_machine().now()).context("no bundle could be made")?;
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(out)
        .with_context(|| format!("cannot create {}", out.display()))?;
    file.write_all(&bundle).with_context(|| format!("cannot write {}", out.display()))?;
    println!("{}  {} bytes", out.display(), bundle.len());
    Ok(())
}

/// Prints the last log lines of the box's programs, masked.
pub(crate) fn logs(path: &Path, lines: usize) -> Result<()> {
    let text =
        Sources::new(&Config::load(path)?).logs(Some(lines), None).context("the logs cannot be read")?;
    std::io::stdout().write_all(&text)?;
    Ok(())
}

/// Keeps the last of the log beside standard error, for orders of headquarters.
pub(crate) fn keep_log(dir: &Path, name: &str) {
    if let Err(error) = trunkline_telemetry::keep(dir, name) {
        tracing::warn!(%error, "The last of the log is not kept");
    }
}

/// Returns how the calls of this box are started: by this very program, so that they are of the keeper's version.
fn carrier(config: &Config) -> Result<Option<Carrier>> {
    let Some(calls) = &config.calls else { return Ok(None) };
    let program = std::env::current_exe().context("cannot find this program")?;
    let (edge, with) = (calls.config.display(), config.data_dir.join(CALLS));
    let logs = config.logs_dir().display().to_string();
    let (edge, with) = (edge.to_string(), with.display().to_string());
    let args = ["run", "--kept", "--config", &edge, "--with", &with, "--logs", &logs];
    Ok(Some(Carrier { program, args: args.map(str::to_owned).to_vec() }))
}

/// Puts in force what is logged; returns what cannot be, and takes it out. The log stays as it was started until
/// headquarters says something about it.
fn apply_log(settings: &mut Settings, log_was_set: &mut bool) -> Vec<NotApplied> {
    let mut problems = Vec::new();
    if settings.log.is_some() || *log_was_set {
        let done = trunkline_telemetry::set_filter(settings.log.as_deref().unwrap_or(USUAL_LOG));
        match done {
            Ok(()) => *log_was_set = true,
            Err(reason) => {
                settings.log = None;
                problems.push(NotApplied { path: "/log".to_owned(), reason });
            }
        }
    }
    problems
}

/// What the launcher says about this process.
fn running() -> Option<Running> {
    let slot = match std::env::var(SLOT_VARIABLE).ok()?.as_str() {
        "a" => Slot::A,
        "b" => Slot::B,
        _ => return None,
    };
    Some(Running { slot, version: std::env::var(VERSION_VARIABLE).ok()? })
}

fn stop() -> watch::Receiver<bool> {
    let (stopper, stop) = watch::channel(false);
    tokio::spawn(async move {
        crate::wait_for_stop().await;
        let _ = stopper.send(true);
    });
    stop
}
