//! A stick for the field tech: the signed repository, assignments for some boxes, and their results.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use trunkline_model::BoxId;
use trunkline_trust::{AssignedTarget, Assignment, Client, Envelope, Schedule, TrustError};
use trunkline_update::{STICK_FOLDER, StickResult, copy_durably};

use crate::progress::{Progress, Unit};
use crate::{keys, release};

#[derive(Args)]
pub(crate) struct Options {
    /// The folder where the stick is mounted.
    #[arg(long, value_name = "DIR")]
    usb: PathBuf,
    /// The repository.
    #[arg(long, default_value = "repo")]
    repo: PathBuf,
    /// The releases to put on the stick, such as `app-1.4.2.json`; one per component.
    #[arg(long = "release", value_name = "NAME")]
    releases: Vec<String>,
    /// The boxes that may take them.
    #[arg(long = "box", value_name = "ID")]
    boxes: Vec<BoxId>,
    /// The private key for assignments: a file, or a `pkcs11:` URI.
    #[arg(long)]
    key: Option<PathBuf>,
    /// For how many days the stick is good.
    #[arg(long, default_value_t = 7)]
    days: i64,
    /// Try a version again that a box has given up.
    #[arg(long)]
    retry_failed: bool,
    /// Only show what boxes have written onto the stick.
    #[arg(long, conflicts_with_all = ["releases", "boxes", "key"])]
    results: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let stick = options.usb.join(STICK_FOLDER);
    if options.results { results(&stick, options.json) } else { flash(&stick, options) }
}

fn flash(stick: &Path, options: &Options) -> Result<()> {
    if options.releases.is_empty() || options.boxes.is_empty() {
        bail!("say which releases (--release) are for which boxes (--box)");
    }
    let key = keys::open(options.key.as_ref().context("--key is needed for the assignments")?)?;
    let now = Timestamp::now();
    let client = look(&options.repo, now)?;
    let mut targets = Vec::new();
    for name in &options.releases {
        let target = client.target(name, now)?;
        let hash = target.sha256().with_context(|| format!("{name} has no SHA-256"))?;
        let component = target.release().with_context(|| format!("{name} says nothing of itself"))?.component;
        targets.push(AssignedTarget { component, name: name.clone(), sha256: hash });
    }
    let bytes = copy_repository(&options.repo, stick, &targets, options.json)?;
    let folder = stick.join("assignments");
    fs::create_dir_all(&folder)?;
    for id in &options.boxes {
        // Seconds count up without anybody keeping count: sticks and cloud share the key and the rule.
        let number = u64::try_from(now.as_second()).unwrap_or(1);
        let expires = now + SignedDuration::from_hours(24 * options.days);
        let mut assignment = Assignment::new(id.as_str(), number, expires, targets.clone());
        assignment.when = Schedule { retry_failed: options.retry_failed, ..Schedule::default() };
        let mut envelope = Envelope::new(json!(assignment));
        envelope.sign(&*key)?;
        client
            .check_assignment(&envelope.to_bytes(), id.as_str(), 0, now)
            .with_context(|| format!("box {id} would not believe the assignment"))?;
        let file = folder.join(format!("{id}.json"));
        let draft = file.with_extension("draft");
        fs::write(&draft, envelope.to_bytes())?;
        copy_durably(&draft, &file, |_| {})?;
        fs::remove_file(&draft)?;
    }
    if options.json {
        println!("{}", json!({"stick": stick, "boxes": options.boxes, "bytes": bytes, "targets": targets}));
    } else {
        println!(
            "{} holds {} for {} boxes, {bytes} bytes",
            stick.display(),
            options.releases.join(", "),
            options.boxes.len()
        );
        println!("It is good until the timestamp's date or for {} days, whichever ends first.", options.days);
    }
    Ok(())
}

/// Copies what the targets need onto the stick; returns how many bytes.
fn copy_repository(repo: &Path, stick: &Path, targets: &[AssignedTarget], quiet: bool) -> Result<u64> {
    let mut paths: Vec<String> = targets
        .iter()
        .flat_map(|target| {
            let (hash, name) = (target.sha256, &target.name);
            [format!("packs/{hash}.pack"), format!("targets/{hash}.{name}")]
        })
        .collect();
    // The timestamp goes last: a stick that is pulled out too early is refused, not half believed.
    let mut names: Vec<String> = fs::read_dir(repo.join("metadata"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    names.retain(|name| name.ends_with(".json"));
    names.sort_by_key(|name| name == "timestamp.json");
    paths.extend(names.iter().map(|name| format!("metadata/{name}")));
    let mut total = 0;
    for path in &paths {
        let file = repo.join(path);
        total += fs::metadata(&file).with_context(|| format!("cannot read {}", file.display()))?.len();
    }
    let mut progress = Progress::new("copying", Unit::Bytes, total, quiet);
    for path in &paths {
        let to = stick.join(path);
        fs::create_dir_all(to.parent().unwrap_or(stick))?;
        copy_durably(&repo.join(path), &to, |more| progress.add(more, path))
            .with_context(|| format!("cannot copy {path} to {}", stick.display()))?;
    }
    Ok(total)
}

/// Reads the repository as a box would that knows nothing but the first root.
pub(crate) fn look(repo: &Path, now: Timestamp) -> Result<Client> {
    let root = release::metadata(repo, "1.root.json").context("the repository has no root")?;
    let mut client = Client::open(&root, |_| None)?;
    client.begin(now);
    while let Some(fetch) = client.poll_fetch() {
        let done: Result<(), TrustError> = match release::metadata(repo, &fetch.name) {
            Some(bytes) => client.handle_file(&fetch.name, &bytes),
            None => client.handle_absent(&fetch.name),
        };
        done.with_context(|| format!("a box would refuse {}; see `trunkctl release publish`", fetch.name))?;
    }
    Ok(client)
}

fn results(stick: &Path, as_json: bool) -> Result<()> {
    let folder = stick.join("results");
    let entries = fs::read_dir(&folder).with_context(|| format!("no results in {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    for file in files {
        let bytes = fs::read(&file)?;
        let envelope = Envelope::parse(&bytes).with_context(|| format!("{} is broken", file.display()))?;
        if as_json {
            println!("{}", envelope.signed());
            continue;
        }
        let result: StickResult = serde_json::from_value(envelope.signed().clone())
            .with_context(|| format!("{} is broken", file.display()))?;
        println!("{}  {}", result.box_id, result.at);
        for status in &result.components {
            let version = status.current.as_ref().map_or("nothing", |current| &current.release.version);
            println!("  {:<10} {:<12} runs {version}", status.component, status.stage);
        }
        if let Some(trouble) = &result.trouble {
            println!("  {trouble}");
        }
    }
    Ok(())
}
