//! What the box knows of itself, in one file for whoever has to find out what is wrong with it, and its last log lines.
//!
//! Everything that is read is masked here, before it leaves ([`crate::redact`]); of calls, recordings and the journal
//! only sizes and counts are read. It works beside the running box, and without it.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use trunkline_telemetry::Line;
use trunkline_wire::{MAX_ORDER_FILE, Reported};

use crate::clock::Clock;
use crate::config::Config;
use crate::keep::{CALLS, DESIRED};
use crate::launcher::{SLOT_VARIABLE, VERSION_VARIABLE};
use crate::ordered::read_boot;
use crate::redact::{self, Known};
use crate::{health, ordered};

/// Where the history of the box's health is kept, below the data folder.
const HISTORY: &str = "history.json";
/// Between two entries of it, and how many there are: a day.
const EVERY: SignedDuration = SignedDuration::from_mins(10);
const ENTRIES: usize = 144;
/// The programs of a box, by the names of their logs.
const PROGRAMS: [&str; 2] = ["keeper", "calls"];
/// So many lines of each go into a bundle, if there is room for them.
const LINES: usize = 3_000;
const README: &str = "A Trunkline box, as it knew itself. See FLEET.md, \"Orders\".\n\n\
    versions.json  the programs, the start of the machine\n\
    system.json    disk, memory, load, clock, interfaces\n\
    config/        what the box was set to; secrets, numbers and names of people are [hidden]\n\
    shadow.json    what headquarters wants of it\n\
    health.json    how it was in the last day, its lines and updates with it\n\
    orders.json    the last orders\n\
    store.json     how much it keeps, without a word of it\n\
    logs/          the last lines; words that do not stand in the program's own source are [hidden]\n\n\
    No recording, transcript, name or number to call is in here.\n";

/// Where the box's knowledge of itself lies.
#[derive(Clone, Debug)]
pub struct Sources {
    config: Config,
}

impl Sources {
    /// Takes the places from the box's configuration.
    pub fn new(config: &Config) -> Self {
        Self { config: config.clone() }
    }

    /// Returns the last log lines of the box's programs, masked, oldest first: at most `lines`, none before `since`.
    ///
    /// # Errors
    /// When the logs are there and cannot be read.
    pub fn logs(&self, lines: Option<usize>, since: Option<Timestamp>) -> io::Result<Vec<u8>> {
        let known = self.known();
        let mut all: Vec<(&str, Line)> = Vec::new();
        for program in PROGRAMS {
            let read = trunkline_telemetry::read(&self.config.logs_dir(), program)?;
            all.extend(read.into_iter().map(|line| (program, line)));
        }
        all.retain(|(_, line)| since.is_none_or(|since| line.at >= since));
        all.sort_by_key(|(_, line)| line.at);
        let skip = all.len().saturating_sub(lines.unwrap_or(LINES));
        let mut text = Vec::new();
        for (program, line) in &all[skip..] {
            writeln!(text, "{program:<6} {}", redact::line(line, &known))?;
        }
        if text.is_empty() {
            writeln!(text, "no line was logged in this time")?;
        }
        let most = usize::try_from(MAX_ORDER_FILE).unwrap_or(usize::MAX);
        let from = text.len().saturating_sub(most);
        Ok(text.split_off(from))
    }

    /// Returns the bundle: a tar archive, compressed by gzip, of at most 4 MiB.
    ///
    /// # Errors
    /// When the archive cannot be made. What cannot be read is noted in it.
    pub fn bundle(&self, at: Timestamp) -> io::Result<Vec<u8>> {
        let mut lines = LINES;
        loop {
            let bundle = self.bundle_with(at, lines)?;
            if bundle.len() as u64 <= MAX_ORDER_FILE || lines == 0 {
                return Ok(bundle);
            }
            lines /= 2;
        }
    }

    fn bundle_with(&self, at: Timestamp, lines: usize) -> io::Result<Vec<u8>> {
        let known = self.known();
        let mut archive = Archive::new(at);
        archive.add("README.txt", README.as_bytes())?;
        archive.json("versions.json", &self.versions(at))?;
        archive.json("system.json", &self.system())?;
        let own = serde_json::to_value(&self.config).unwrap_or_default();
        archive.json("config/box.json", &redact::settings(&own, &known))?;
        if let Some(calls) = &self.config.calls {
            archive.json("config/edge.json", &shown(edge_toml(&calls.config), &known))?;
            archive.json("config/edge-by-headquarters.json", &shown(self.kept(CALLS), &known))?;
        }
        archive.json("shadow.json", &shown(self.kept(DESIRED), &known))?;
        archive.json("health.json", &shown(self.kept(HISTORY), &known))?;
        archive.json("orders.json", &shown(self.kept(ordered::ORDERS), &known))?;
        archive.json("store.json", &self.store())?;
        for program in PROGRAMS {
            let read = trunkline_telemetry::read(&self.config.logs_dir(), program).unwrap_or_default();
            let last = &read[read.len().saturating_sub(lines)..];
            let text: String = last.iter().map(|line| redact::line(line, &known) + "\n").collect();
            archive.add(&format!("logs/{program}.log"), text.as_bytes())?;
        }
        archive.finish()
    }

    fn kept(&self, name: &str) -> Result<Value, String> {
        let bytes = fs::read(self.config.data_dir.join(name)).map_err(|error| error.kind().to_string())?;
        serde_json::from_slice(&bytes).map_err(|_| "it cannot be read".to_owned())
    }

    fn versions(&self, at: Timestamp) -> Value {
        let variable = |name: &str| std::env::var(name).ok();
        json!({
            "made": at,
            "program": env!("CARGO_PKG_VERSION"),
            "slot": variable(SLOT_VARIABLE),
            "version": variable(VERSION_VARIABLE),
            "boot": read_boot(&self.config.orders.boot_id),
            "platform": std::env::consts::ARCH,
        })
    }

    fn system(&self) -> Value {
        let clock = Clock::of_the_machine();
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let mut interfaces: Vec<Value> = Vec::new();
        for one in nix::ifaddrs::getifaddrs().into_iter().flatten() {
            let address = one.address.as_ref();
            let v4 = address.and_then(|one| one.as_sockaddr_in()).map(|one| one.ip().to_string());
            let v6 = address.and_then(|one| one.as_sockaddr_in6()).map(|one| one.ip().to_string());
            if let Some(ip) = v4.or(v6) {
                let up = one.flags.contains(nix::net::if_::InterfaceFlags::IFF_RUNNING);
                interfaces.push(json!({ "interface": one.interface_name, "address": ip, "up": up }));
            }
        }
        json!({
            "health": health::look(&self.config.data_dir, &clock),
            "kernel": read("/proc/sys/kernel/osrelease"),
            "cpus": std::thread::available_parallelism().map_or(0, usize::from),
            "clock": { "now": clock.now(), "known": clock.is_known(), "zone": jiff::tz::TimeZone::system().iana_name() },
            "interfaces": interfaces,
        })
    }

    /// How much lies where, by folders that we know.
    fn store(&self) -> Value {
        let mut found = vec![folder("box", &self.config.data_dir)];
        let calls = self.config.calls.as_ref().and_then(|calls| {
            let data = edge_toml(&calls.config).ok()?["data_dir"].as_str()?.to_owned();
            Some(calls.config.parent().unwrap_or(Path::new(".")).join(data))
        });
        let mut journal = Value::Null;
        if let Some(data) = calls {
            for name in ["journal", "state", "recordings", "prompts", "blobs", "bundles", "traces"] {
                found.push(folder(name, &data.join(name)));
            }
            journal = match trunkline_store::survey(&data.join("journal")) {
                Ok(survey) => json!({
                    "segments": survey.segments, "bytes": survey.bytes, "records": survey.records,
                    "last_seq": survey.last_seq, "oldest_ms": survey.oldest_ms, "torn_bytes": survey.torn_bytes,
                }),
                Err(error) => json!({ "cannot_be_read": error.kind().to_string() }),
            };
        }
        if let Some(updates) = &self.config.updates {
            found.push(folder("slots", &updates.slots));
        }
        json!({ "folders": found, "journal": journal })
    }

    /// What stands in the places for secrets is hidden wherever else it stands.
    fn known(&self) -> Known {
        let mut known = Known::default();
        for name in ["claim", "key.pem"] {
            for line in fs::read_to_string(self.config.identity_dir().join(name)).unwrap_or_default().lines()
            {
                known.add(line);
            }
        }
        if let Ok(overlay) = self.kept(CALLS) {
            known.add_from("", &overlay);
        }
        if let Some(calls) = &self.config.calls
            && let Ok(edge) = edge_toml(&calls.config)
        {
            known.add_from("", &edge);
            let base = calls.config.parent().unwrap_or(Path::new("."));
            for file in secret_files(&edge) {
                for line in fs::read_to_string(base.join(file)).unwrap_or_default().lines() {
                    known.add(line);
                }
            }
        }
        known
    }
}

/// The files that a configuration names as those with passwords.
fn secret_files(value: &Value) -> Vec<PathBuf> {
    let mut found = Vec::new();
    match value {
        Value::Array(all) => found.extend(all.iter().flat_map(secret_files)),
        Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str() {
                    Some(path) if key.ends_with("_file") => found.push(PathBuf::from(path)),
                    _ => found.extend(secret_files(value)),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    found
}

fn edge_toml(path: &Path) -> Result<Value, String> {
    let text = fs::read_to_string(path).map_err(|error| error.kind().to_string())?;
    let table: toml::Table = toml::from_str(&text).map_err(|_| "it is no TOML".to_owned())?;
    serde_json::to_value(table).map_err(|_| "it cannot be read".to_owned())
}

fn shown(read: Result<Value, String>, known: &Known) -> Value {
    match read {
        Ok(value) => redact::settings(&value, known),
        Err(why) => json!({ "cannot_be_read": why }),
    }
}

/// How many files lie in a folder and below, and how long they are.
fn folder(name: &str, path: &Path) -> Value {
    let (mut files, mut bytes, mut left) = (0u64, 0u64, vec![path.to_owned()]);
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => left.push(entry.path()),
                Ok(meta) => {
                    files += 1;
                    bytes += meta.len();
                }
                Err(_) => {}
            }
        }
    }
    json!({ "folder": name, "there": path.exists(), "files": files, "bytes": bytes })
}

/// How the box was in the last day.
#[derive(Debug)]
pub(crate) struct History {
    path: PathBuf,
    entries: Vec<Value>,
    noted: Option<Timestamp>,
}

impl History {
    pub(crate) fn open(data: &Path) -> Self {
        let path = data.join(HISTORY);
        let entries = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { path, entries: entries.unwrap_or_default(), noted: None }
    }

    /// Notes how the box is, unless it was noted not long ago.
    pub(crate) fn note(&mut self, report: &Reported, now: Timestamp) {
        let recent = |at: Timestamp| now.duration_since(at) < EVERY && now >= at;
        if self.noted.is_some_and(recent) {
            return;
        }
        self.noted = Some(now);
        let mut entry = serde_json::to_value(report).unwrap_or_default();
        if let Some(fields) = entry.as_object_mut() {
            // What is wanted stands in the shadow.
            fields.remove("body");
            fields.insert("at".to_owned(), json!(now));
        }
        self.entries.push(entry);
        let old = self.entries.len().saturating_sub(ENTRIES);
        self.entries.drain(..old);
        let bytes = serde_json::to_vec(&self.entries).unwrap_or_default();
        // It is for people who look for a fault; losing it loses nothing else.
        if let Err(error) = write_beside(&self.path, &bytes) {
            tracing::debug!(%error, "How the box is could not be noted");
        }
    }
}

fn write_beside(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, bytes)?;
    fs::rename(new, path)
}

/// A tar archive that is compressed while it grows.
struct Archive {
    tar: tar::Builder<GzEncoder<Vec<u8>>>,
    at: u64,
}

impl Archive {
    fn new(at: Timestamp) -> Self {
        let gzip = GzEncoder::new(Vec::new(), Compression::default());
        let at = Duration::try_from(at.as_duration()).map_or(0, |since| since.as_secs());
        Self { tar: tar::Builder::new(gzip), at }
    }

    fn add(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.at);
        self.tar.append_data(&mut header, format!("diag/{name}"), bytes)
    }

    fn json(&mut self, name: &str, value: &Value) -> io::Result<()> {
        self.add(name, format!("{value:#}\n").as_bytes())
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        self.tar.into_inner()?.finish()
    }
}

#[cfg(test)]
mod tests;
