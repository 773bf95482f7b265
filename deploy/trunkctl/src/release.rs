//! Releases in a local repository: made, signed by several people, published in the right order.
//!
//! ```text
//! REPO/metadata  targets  packs      what boxes fetch; any web server can hand it out
//! REPO/draft                         what is not signed by enough people yet
//! ```
//!
//! Offline keys never come near the repository: `release sign` needs the folder `draft` only, which a stick
//! can carry to each holder and back.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use trunkline_trust::{
    Ceremony, Envelope, Holders, Lives, Published, Release, RoleKeys, Root, Targets, is_plain_name, sha256,
    target_of,
};
use trunkline_update::{Packer, RealDisk, replace};

use crate::keys;
use crate::progress::{Progress, Unit};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Makes a key: KEY for whoever signs, in a file (mode 0600) or on a token; its public half for everybody.
    #[command(after_help = keys::HELP)]
    Key {
        /// Where to: a file, or a `pkcs11:` URI.
        key: PathBuf,
        /// Where the public half goes; without it KEY.pub, and for a token the key's label with .pub.
        #[arg(long, value_name = "FILE")]
        public: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Prints the public half of a key, such as one that a token's own tool has made.
    #[command(after_help = keys::HELP)]
    Public {
        /// The private key: a file, or a `pkcs11:` URI.
        key: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Drafts the root: who may sign what. The next one when there is one already.
    Root(RootOptions),
    /// Cuts a folder into a release and adds it to the drafted releases.
    Create(CreateOptions),
    /// Adds a signature to every draft that the key may sign.
    #[command(after_help = keys::HELP)]
    Sign {
        /// The repository, or a copy of it with the folder `draft`.
        #[arg(long, default_value = "repo")]
        repo: PathBuf,
        /// The private key: a file, or a `pkcs11:` URI.
        #[arg(long)]
        key: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Publishes the drafts that enough people have signed, and renews snapshot and timestamp.
    #[command(after_help = keys::HELP)]
    Publish {
        /// The repository.
        #[arg(long, default_value = "repo")]
        repo: PathBuf,
        /// The online key, which signs snapshot and timestamp: a file, or a `pkcs11:` URI.
        #[arg(long)]
        key: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows what is published and what is drafted.
    Show {
        /// The repository.
        #[arg(long, default_value = "repo")]
        repo: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub(crate) struct RootOptions {
    /// The repository.
    #[arg(long, default_value = "repo")]
    repo: PathBuf,
    /// Public keys of the root's holders (offline): files, or `pkcs11:` URIs of tokens that are plugged in.
    #[arg(long = "root", required = true, num_args = 1.., value_name = "PUB")]
    root: Vec<PathBuf>,
    /// How many of them must sign.
    #[arg(long, default_value_t = 2)]
    root_threshold: u32,
    /// Public keys of those who release (offline).
    #[arg(long = "release", required = true, num_args = 1.., value_name = "PUB")]
    release: Vec<PathBuf>,
    /// How many of them must sign.
    #[arg(long, default_value_t = 2)]
    release_threshold: u32,
    /// The online key for snapshot and timestamp.
    #[arg(long, value_name = "PUB")]
    online: PathBuf,
    /// The online key for assignments.
    #[arg(long, value_name = "PUB")]
    assign: PathBuf,
    /// How many days the root is good for.
    #[arg(long, default_value_t = 365)]
    days: i64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct CreateOptions {
    /// The repository.
    #[arg(long, default_value = "repo")]
    repo: PathBuf,
    /// What has the version: app, models, scripts, prompts, policy, …
    #[arg(long)]
    component: String,
    /// The version as people say it.
    #[arg(long)]
    version: String,
    /// The release number: above that of every earlier release of the component. Without it, the next one.
    #[arg(long)]
    number: Option<u64>,
    /// Once this version is committed, a box refuses releases below this number for ever.
    #[arg(long, default_value_t = 0)]
    floor: u64,
    /// What it runs on; without it, on everything.
    #[arg(long = "platform")]
    platforms: Vec<String>,
    /// The folder with the files.
    #[arg(long)]
    from: PathBuf,
    /// How many days the list of releases is good for without being signed again.
    #[arg(long, default_value_t = 90)]
    days: i64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Key { key, public, json } => keys::make(&key, public, json),
        Command::Public { key, json } => keys::print_public(&key, json),
        Command::Root(options) => draft_root(&options),
        Command::Create(options) => create(&options),
        Command::Sign { repo, key, json } => sign(&repo, &key, json),
        Command::Publish { repo, key, json } => publish(&repo, &key, json),
        Command::Show { repo, json } => show(&repo, json),
    }
}

/// Returns a published metadata file.
pub(crate) fn metadata(repo: &Path, name: &str) -> Option<Vec<u8>> {
    fs::read(repo.join("metadata").join(name)).ok()
}

/// Reads what is published.
pub(crate) fn published(repo: &Path) -> Result<Published> {
    Published::read(|name| metadata(repo, name))
        .with_context(|| format!("{} holds no repository", repo.display()))
}

fn draft(repo: &Path, role: &str) -> PathBuf {
    repo.join("draft").join(format!("{role}.json"))
}

fn read_draft(repo: &Path, role: &str) -> Result<Option<Envelope>> {
    let file = draft(repo, role);
    match fs::read(&file) {
        Ok(bytes) => {
            Ok(Some(Envelope::parse(&bytes).with_context(|| format!("{} is broken", file.display()))?))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

fn write_draft(repo: &Path, role: &str, envelope: &Envelope) -> Result<()> {
    put(repo, &format!("draft/{role}.json"), &envelope.to_bytes())
}

/// Writes a file of the repository durably and as a whole.
fn put(repo: &Path, path: &str, bytes: &[u8]) -> Result<()> {
    let mut disk = RealDisk::new(repo)?;
    replace(&mut disk, path, bytes).with_context(|| format!("cannot write {path} in {}", repo.display()))
}

fn draft_root(options: &RootOptions) -> Result<()> {
    let holders = |files: &[PathBuf], threshold: u32| -> Result<Holders> {
        let keys = files.iter().map(|file| keys::read_public(file)).collect::<Result<Vec<_>>>()?;
        if threshold == 0 || keys.len() < threshold as usize {
            bail!("{threshold} of {} keys cannot sign", keys.len());
        }
        Ok(Holders { keys, threshold })
    };
    let online = holders(std::slice::from_ref(&options.online), 1)?;
    let ceremony = Ceremony {
        root: holders(&options.root, options.root_threshold)?,
        targets: holders(&options.release, options.release_threshold)?,
        snapshot: online.clone(),
        timestamp: online,
        assignment: holders(std::slice::from_ref(&options.assign), 1)?,
    };
    let version = match metadata(&options.repo, "1.root.json") {
        Some(_) => published(&options.repo)?.root().header.version + 1,
        None => 1,
    };
    let expires = in_days(options.days);
    write_draft(&options.repo, "root", &ceremony.root(version, expires))?;
    if options.json {
        println!("{}", json!({ "root": version, "threshold": options.root_threshold, "expires": expires }));
        return Ok(());
    }
    println!("root {version} is drafted; {} of its holders must sign it", options.root_threshold);
    if version > 1 {
        println!("and so must enough holders of root {}", version - 1);
    }
    Ok(())
}

fn create(options: &CreateOptions) -> Result<()> {
    let name = format!("{}-{}.json", options.component, options.version);
    if !is_plain_name(&name) {
        bail!("`{name}` is no name for a release: use a-z, 0-9, `-`, `_`, `+` and `.`");
    }
    let mut drafted = match read_draft(&options.repo, "targets")? {
        Some(envelope) => serde_json::from_value::<Targets>(envelope.signed().clone())?,
        None => match metadata(&options.repo, "1.root.json") {
            Some(_) => published(&options.repo)?.draft_targets(in_days(options.days)),
            // Before the first root is signed, releases can be drafted all the same.
            None => Targets {
                header: trunkline_trust::Header::new("targets", 1, in_days(options.days)),
                targets: BTreeMap::new(),
                delegations: None,
                rest: serde_json::Map::new(),
            },
        },
    };
    let known = drafted.targets.values().filter_map(trunkline_trust::Target::release);
    let newest = known
        .filter(|known| known.component == options.component)
        .map(|known| known.release)
        .max()
        .unwrap_or(0);
    let number = options.number.unwrap_or(newest + 1);
    if number <= newest {
        bail!("release {number} is not above {newest}, the newest of {}", options.component);
    }
    if options.floor > number {
        bail!("a floor of {} would refuse this very release, {number}", options.floor);
    }
    let release = Release {
        component: options.component.clone(),
        version: options.version.clone(),
        release: number,
        floor: options.floor,
        platforms: options.platforms.clone(),
    };
    let mut packer = Packer::default();
    let files = files_below(&options.from)?;
    let mut progress = Progress::new("cutting", Unit::Bytes, length_of(&files)?, options.json);
    for (path, file) in &files {
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        packer.add(path, is_executable(file)?, &bytes);
        progress.add(bytes.len() as u64, path);
    }
    drop(progress);
    let (manifest, pack) = packer.finish(release.clone())?;
    let bytes = manifest.to_bytes();
    let hash = sha256(&bytes);
    put(&options.repo, &format!("packs/{hash}.pack"), &pack)?;
    put(&options.repo, &format!("targets/{hash}.{name}"), &bytes)?;
    drafted.targets.insert(name.clone(), target_of(bytes.len() as u64, hash, &release));
    // The signatures of an earlier draft do not cover this one.
    write_draft(&options.repo, "targets", &Envelope::new(json!(drafted)))?;
    if options.json {
        let line = json!({"name": name, "sha256": hash, "release": release, "files": files.len(),
            "bytes": manifest.installed_length(), "pack_bytes": pack.len()});
        println!("{line}");
    } else {
        println!("{name}  release {number}, {} files, {} bytes", files.len(), manifest.installed_length());
        println!("{hash}");
        println!("Next: each holder runs `trunkctl release sign`, then `trunkctl release publish`");
    }
    Ok(())
}

/// Returns the files below a folder by their paths in the release, sorted. Links are refused: what they
/// point at on the box is not what was signed.
fn files_below(root: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                let relative = path.strip_prefix(root)?.to_str().context("a file's name is no UTF-8")?;
                found.insert(relative.to_owned(), path.clone());
            } else {
                bail!("{} is neither a file nor a folder", path.display());
            }
        }
    }
    if found.is_empty() {
        bail!("{} holds no files", root.display());
    }
    Ok(found)
}

fn length_of(files: &BTreeMap<String, PathBuf>) -> Result<u64> {
    files.values().try_fold(0, |sum, file| Ok(sum + fs::metadata(file)?.len()))
}

fn is_executable(file: &Path) -> Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::metadata(file)?.permissions().mode() & 0o100 != 0)
}

fn sign(repo: &Path, key: &Path, json: bool) -> Result<()> {
    let key = keys::open(key)?;
    let id = key.public().id();
    let mut signed = Vec::new();
    for role in ["root", "targets"] {
        let Some(mut envelope) = read_draft(repo, role)? else { continue };
        let may = signers(repo, role, &envelope)?;
        if !may.iter().any(|role| role.keyids.contains(&id)) {
            if !json {
                println!("{role}: this key has no say in it");
            }
            continue;
        }
        envelope.sign(&*key)?;
        write_draft(repo, role, &envelope)?;
        let count = envelope.claimed().count();
        if !json {
            println!("{role}: signed, {count} signatures in all");
        }
        signed.push(json!({ "role": role, "signatures": count }));
    }
    if signed.is_empty() {
        bail!("there is no draft that this key may sign");
    }
    if json {
        println!("{}", json!({ "signed": signed }));
    }
    Ok(())
}

/// Returns whose signatures a draft needs: for a root, those of the published one and its own.
fn signers(repo: &Path, role: &str, envelope: &Envelope) -> Result<Vec<RoleKeys>> {
    let mut needed = Vec::new();
    if metadata(repo, "1.root.json").is_some() {
        needed.push(published(repo)?.root().role(role));
    }
    let new_root = match role {
        "root" => Some(envelope.clone()),
        _ => read_draft(repo, "root")?,
    };
    if let Some(root) = new_root {
        let root: Root = serde_json::from_value(root.signed().clone())?;
        needed.push(root.role(role));
    }
    Ok(needed)
}

fn publish(repo: &Path, key: &Path, json: bool) -> Result<()> {
    let online = keys::open(key)?;
    let (root, targets) = (read_draft(repo, "root")?, read_draft(repo, "targets")?);
    let mut written = Vec::new();
    let (published, root) = match (metadata(repo, "1.root.json"), root) {
        (Some(_), root) => (published(repo)?, root),
        (None, Some(root)) => {
            if targets.is_none() {
                bail!("a repository begins with a root and a first release: see `trunkctl release create`");
            }
            let bytes = root.to_bytes();
            let published = Published::start(bytes.clone()).context("the root cannot be published")?;
            written.push(("1.root.json".to_owned(), bytes));
            (published, None)
        }
        (None, None) => bail!("{} has no root: see `trunkctl release root`", repo.display()),
    };
    let new: Vec<(&str, &Envelope)> = targets.iter().map(|envelope| ("targets", envelope)).collect();
    let read = |name: &str| {
        let fresh = written.iter().find(|(file, _)| file == name).map(|(_, bytes)| bytes.clone());
        fresh.or_else(|| metadata(repo, name))
    };
    let files = published.publish(root.as_ref(), &new, &*online, Timestamp::now(), Lives::default(), read)?;
    written.extend(files);
    for (name, bytes) in &written {
        put(repo, &format!("metadata/{name}"), bytes)?;
    }
    for role in ["root", "targets"] {
        let file = draft(repo, role);
        if file.exists() {
            fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
        }
    }
    let names: Vec<&String> = written.iter().map(|(name, _)| name).collect();
    if json {
        println!("{}", json!({ "published": names }));
    } else {
        for name in names {
            println!("published {name}");
        }
    }
    Ok(())
}

fn show(repo: &Path, json: bool) -> Result<()> {
    let published = published(repo)?;
    let root = published.root();
    let targets = published.targets();
    let releases: Vec<_> = targets
        .into_iter()
        .flat_map(|targets| targets.targets.iter())
        .filter_map(|(name, target)| Some((name, target.sha256()?, target.release()?)))
        .collect();
    let drafts: Vec<(&str, usize)> = ["root", "targets"]
        .into_iter()
        .filter_map(|role| Some((role, read_draft(repo, role).ok()??.claimed().count())))
        .collect();
    if json {
        let releases: Vec<_> = releases
            .iter()
            .map(|(name, hash, release)| json!({"name": name, "sha256": hash, "release": release}))
            .collect();
        println!(
            "{}",
            json!({"root": root.header, "targets": targets.map(|targets| &targets.header),
                "releases": releases, "drafts": drafts})
        );
        return Ok(());
    }
    println!("root {}, until {}", root.header.version, root.header.expires);
    if let Some(targets) = targets {
        println!("releases {}, until {}", targets.header.version, targets.header.expires);
    }
    for (name, hash, release) in releases {
        println!("  {name:<32} release {:<5} floor {:<5} {hash}", release.release, release.floor);
    }
    for (role, signatures) in drafts {
        println!("draft of {role}: {signatures} signatures");
    }
    Ok(())
}

fn in_days(days: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_hours(24 * days)
}
