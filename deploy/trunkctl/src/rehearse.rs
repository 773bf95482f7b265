//! Rollouts kept in a file: for a fleet without a server, for rehearsals, and to see what a server would do.
//!
//! The file holds the rollout (`cloud/fleet`), the reports what boxes say of themselves:
//! `{"tl-a": {"seen": "2026-…Z", "component": {…}}, …}`, the `component` as in a box's reported document.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;
use trunkline_fleet::report::{BoxReport, ComponentReport, Standing};
use trunkline_fleet::rollout::{Change, Order, Phase, Profile, Rollout};
use trunkline_fleet::why::why;
use trunkline_model::BoxId;
use trunkline_trust::{AssignedTarget, Assignment, Envelope};
use trunkline_update::{RealDisk, replace};

use crate::{flash, keys};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Begins a rollout of a published release.
    Start(StartOptions),
    /// Looks at the reports, and begins the next wave or pauses where the gates say so.
    Step(FileOptions),
    /// Shows how far it is, and for each box why it is not updated.
    Show(FileOptions),
    /// Writes a signed assignment for every box whose turn it is.
    Assign(AssignOptions),
    /// Lets nothing new begin.
    Pause {
        /// The rollout and its reports.
        #[command(flatten)]
        file: FileOptions,
        /// Why, for the others.
        #[arg(long)]
        why: String,
    },
    /// Goes on after a pause; what went wrong so far no longer counts.
    Resume(FileOptions),
    /// Ends it where it is.
    Stop(FileOptions),
}

#[derive(Args)]
pub(crate) struct StartOptions {
    /// Where the rollout is kept.
    #[arg(long, default_value = "rollout.json")]
    file: PathBuf,
    /// The repository.
    #[arg(long, default_value = "repo")]
    repo: PathBuf,
    /// The release, such as `app-1.4.2.json`.
    #[arg(long)]
    release: String,
    /// A file with a box id per line.
    #[arg(long)]
    boxes: PathBuf,
    /// Two waves and a short look, for what cannot wait.
    #[arg(long)]
    emergency: bool,
}

#[derive(Args)]
pub(crate) struct FileOptions {
    /// Where the rollout is kept.
    #[arg(long, default_value = "rollout.json")]
    file: PathBuf,
    /// What the boxes report.
    #[arg(long)]
    reports: Option<PathBuf>,
    /// Who does this, for the others.
    #[arg(long, env = "USER", default_value = "somebody")]
    by: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct AssignOptions {
    /// The rollout and its reports.
    #[command(flatten)]
    file: FileOptions,
    /// The repository.
    #[arg(long, default_value = "repo")]
    repo: PathBuf,
    /// The private key for assignments: a file, or a `pkcs11:` URI.
    #[arg(long)]
    key: PathBuf,
    /// The folder for the assignments, one file per box.
    #[arg(long)]
    out: PathBuf,
    /// For how many days they are good.
    #[arg(long, default_value_t = 30)]
    days: i64,
}

/// A line of the reports.
#[derive(Deserialize)]
struct Line {
    seen: Timestamp,
    #[serde(default)]
    component: Option<ComponentReport>,
}

pub(crate) fn run(command: Command) -> Result<()> {
    let now = Timestamp::now();
    match command {
        Command::Start(options) => start(&options, now),
        Command::Step(options) => step(&options, now),
        Command::Show(options) => show(&options, now),
        Command::Assign(options) => assign(&options, now),
        Command::Pause { file, why } => change(&file, |rollout, _| Ok(rollout.pause(&file.by, &why, now)?)),
        Command::Resume(file) => change(&file, |rollout, boxes| Ok(rollout.resume(now, boxes)?)),
        Command::Stop(file) => change(&file, |rollout, _| Ok(rollout.stop(&file.by, now)?)),
    }
}

fn start(options: &StartOptions, now: Timestamp) -> Result<()> {
    if options.file.exists() {
        bail!("{} holds a rollout already", options.file.display());
    }
    let client = flash::look(&options.repo, now)?;
    let target = client.target(&options.release, now)?;
    let component = target.release().context("the release says nothing of itself")?.component;
    let sha256 = target.sha256().context("the release has no SHA-256")?;
    let target = AssignedTarget { component, name: options.release.clone(), sha256 };
    let text = fs::read_to_string(&options.boxes)
        .with_context(|| format!("cannot read {}", options.boxes.display()))?;
    let boxes: Vec<BoxId> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.parse().map_err(anyhow::Error::from))
        .collect::<Result<_>>()?;
    let profile = if options.emergency { Profile::emergency() } else { Profile::default() };
    let id = format!("{}@{}", options.release, now.as_second());
    let rollout = Rollout::start(&id, target, profile, boxes, now)?;
    let sizes: Vec<String> = rollout.waves.iter().map(|wave| wave.len().to_string()).collect();
    write(&options.file, &rollout)?;
    println!("{id}: waves of {} boxes; the first has begun", sizes.join(", "));
    Ok(())
}

fn step(options: &FileOptions, now: Timestamp) -> Result<()> {
    let (mut rollout, boxes) = (read(&options.file)?, reports(options)?);
    let change = rollout.step(now, &boxes, &[]);
    write(&options.file, &rollout)?;
    let text = match &change {
        None => "nothing has changed".to_owned(),
        Some(Change::Wave(wave)) => format!("wave {} begins", wave + 1),
        Some(Change::Paused(cause)) => format!("paused: {cause}"),
        Some(Change::Finished) => "finished".to_owned(),
    };
    if options.json {
        println!("{}", json!({"changed": change.is_some(), "text": text, "rollout": phase(&rollout)?}));
    } else {
        println!("{text}");
    }
    Ok(())
}

fn show(options: &FileOptions, now: Timestamp) -> Result<()> {
    let (rollout, boxes) = (read(&options.file)?, reports(options)?);
    let answers: Vec<(usize, &BoxId, String)> = rollout
        .waves
        .iter()
        .enumerate()
        .flat_map(|(wave, ids)| ids.iter().map(move |id| (wave, id)))
        .map(|(wave, id)| (wave + 1, id, why(&rollout, id, boxes.get(id), now).to_string()))
        .collect();
    if options.json {
        let boxes: Vec<_> = answers
            .iter()
            .map(|(wave, id, answer)| json!({"wave": wave, "box": id, "why": answer}))
            .collect();
        println!("{}", json!({"rollout": phase(&rollout)?, "boxes": boxes}));
        return Ok(());
    }
    match &rollout.phase {
        Phase::Running { wave, since } => println!("{}: wave {} since {since}", rollout.id, wave + 1),
        Phase::Paused { wave, since, cause } => {
            println!("{}: paused in wave {} since {since}: {cause}", rollout.id, wave + 1);
        }
        Phase::Finished { at } => println!("{}: finished at {at}", rollout.id),
        Phase::Stopped { wave, at, by } => {
            println!("{}: stopped in wave {} at {at} by {by}", rollout.id, wave + 1);
        }
    }
    for (standing, count) in rollout.counts(now, &boxes) {
        let name = match standing {
            Standing::NotBegun => "not begun",
            Standing::UnderWay => "under way",
            Standing::Committed => "committed",
            Standing::Failed => "failed",
            Standing::RolledBack => "rolled back",
            Standing::Silent => "silent",
            Standing::Cancelled => "taken back",
        };
        println!("  {count:>6} {name}");
    }
    for (wave, id, answer) in answers {
        println!("wave {wave}  {id:<24} {answer}");
    }
    Ok(())
}

fn assign(options: &AssignOptions, now: Timestamp) -> Result<()> {
    let (rollout, boxes) = (read(&options.file.file)?, reports(&options.file)?);
    let client = flash::look(&options.repo, now)?;
    let key = keys::open(&options.key)?;
    let mut disk = RealDisk::new(&options.out)?;
    let mut told = Vec::new();
    for id in rollout.waves.iter().flatten() {
        if rollout.order(now, id, boxes.get(id)) != Order::Run {
            continue;
        }
        let number = u64::try_from(now.as_second()).unwrap_or(1);
        let expires = now + SignedDuration::from_hours(24 * options.days);
        let assignment = Assignment::new(id.as_str(), number, expires, vec![rollout.target.clone()]);
        let mut envelope = Envelope::new(json!(assignment));
        envelope.sign(&*key)?;
        client
            .check_assignment(&envelope.to_bytes(), id.as_str(), 0, now)
            .with_context(|| format!("box {id} would not believe the assignment"))?;
        replace(&mut disk, &format!("{id}.json"), &envelope.to_bytes())?;
        told.push(id);
    }
    if options.file.json {
        println!("{}", json!({ "assigned": told }));
    } else {
        println!("{} assignments in {}", told.len(), options.out.display());
    }
    Ok(())
}

fn change(
    options: &FileOptions,
    what: impl FnOnce(&mut Rollout, &BTreeMap<BoxId, BoxReport>) -> Result<()>,
) -> Result<()> {
    let (mut rollout, boxes) = (read(&options.file)?, reports(options)?);
    what(&mut rollout, &boxes)?;
    write(&options.file, &rollout)?;
    if options.json {
        println!("{}", phase(&rollout)?);
    } else {
        println!("{}: done", rollout.id);
    }
    Ok(())
}

/// How far a rollout is, without its lists of boxes.
fn phase(rollout: &Rollout) -> Result<serde_json::Value> {
    let sizes: Vec<usize> = rollout.waves.iter().map(Vec::len).collect();
    Ok(json!({"id": rollout.id, "target": rollout.target, "waves": sizes, "phase": rollout.phase}))
}

fn read(file: &Path) -> Result<Rollout> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} holds no rollout", file.display()))
}

fn write(file: &Path, rollout: &Rollout) -> Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = file.file_name().and_then(|name| name.to_str()).context("a file's name is no UTF-8")?;
    let mut disk = RealDisk::new(folder)?;
    replace(&mut disk, name, &serde_json::to_vec_pretty(rollout)?)
        .with_context(|| format!("cannot write {}", file.display()))
}

fn reports(options: &FileOptions) -> Result<BTreeMap<BoxId, BoxReport>> {
    let Some(file) = &options.reports else { return Ok(BTreeMap::new()) };
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let lines: BTreeMap<BoxId, Line> =
        serde_json::from_slice(&bytes).with_context(|| format!("{} holds no reports", file.display()))?;
    Ok(lines
        .into_iter()
        .map(|(id, line)| (id, BoxReport { seen: line.seen, at: line.seen, component: line.component }))
        .collect())
}
