//! A repository with its keys, a box with a disk, and its life from start to start.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod sim;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use trunkline_trust::{
    AssignedTarget, Assignment, Ceremony, Envelope, FileKey, Holders, Lives, Published, Release, Schedule,
    Sha256, Signer, sha256, target_of,
};
use trunkline_update::{
    Check, Conditions, Config, Disk, Fetch, FetchError, FileSlots, Manifest, Now, Packer, Slot, Start,
    Status, Todo, Updater, launch,
};

pub const BOX: &str = "tl-a";
pub const DAY: SignedDuration = SignedDuration::from_hours(24);

pub fn t0() -> Timestamp {
    "2026-06-01T08:00:00Z".parse().unwrap()
}

pub fn key(n: u8) -> FileKey {
    FileKey::from_seed(&[n; 32]).unwrap()
}

fn holders(numbers: &[u8], threshold: u32) -> Holders {
    Holders { keys: numbers.iter().map(|n| key(*n).public()).collect(), threshold }
}

fn signed(mut envelope: Envelope, keys: &[u8]) -> Envelope {
    for n in keys {
        envelope.sign(&key(*n)).unwrap();
    }
    envelope
}

/// What is published, by path; and every version that was ever released.
#[derive(Clone)]
pub struct Repo {
    pub files: BTreeMap<String, Vec<u8>>,
    pub versions: BTreeMap<String, (Manifest, Vec<u8>)>,
    published: Published,
    number: u64,
}

/// The files of a version: most of them shared with the other ones.
pub fn content(version: &str) -> Vec<(String, Vec<u8>)> {
    let common: Vec<u8> = (0..90_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let common = if version.contains("all-new") {
        (0..900_000u32).map(|n| (n.wrapping_mul(40_503).wrapping_add(n >> 7) >> 5) as u8).collect()
    } else {
        common
    };
    let mut binary = common.clone();
    binary.splice(45_000..45_000, format!("version {version}").into_bytes());
    vec![
        ("bin/edge".into(), binary),
        ("etc/empty".into(), vec![]),
        ("lib/deep/common.bin".into(), common),
        ("version".into(), version.as_bytes().to_vec()),
    ]
}

impl Repo {
    pub fn new() -> Self {
        let ceremony = Ceremony {
            root: holders(&[1, 2, 3], 2),
            targets: holders(&[11, 12], 2),
            snapshot: holders(&[21], 1),
            timestamp: holders(&[21], 1),
            assignment: holders(&[31], 1),
        };
        let root = signed(ceremony.root(1, t0() + DAY * 365), &[1, 2]).to_bytes();
        let published = Published::start(root.clone()).unwrap();
        let files = BTreeMap::from([("metadata/1.root.json".to_owned(), root)]);
        Self { files, versions: BTreeMap::new(), published, number: 0 }
    }

    pub fn factory_root(&self) -> Vec<u8> {
        self.files["metadata/1.root.json"].clone()
    }

    pub fn release(&mut self, component: &str, version: &str, number: u64, floor: u64) -> Sha256 {
        self.release_for(component, version, number, floor, &[], t0())
    }

    pub fn release_for(
        &mut self,
        component: &str,
        version: &str,
        number: u64,
        floor: u64,
        platforms: &[&str],
        now: Timestamp,
    ) -> Sha256 {
        let mut packer = Packer::default();
        for (path, bytes) in content(version) {
            packer.add(&path, path.starts_with("bin/"), &bytes);
        }
        let release = Release {
            component: component.into(),
            version: version.into(),
            release: number,
            floor,
            platforms: platforms.iter().map(|&name| name.to_owned()).collect(),
        };
        let (manifest, pack) = packer.finish(release.clone()).unwrap();
        let bytes = manifest.to_bytes();
        let (hash, name) = (sha256(&bytes), format!("{component}-{version}.json"));
        let mut draft = self.published.draft_targets(now + DAY * 90);
        draft.targets.insert(name.clone(), target_of(bytes.len() as u64, hash, &release));
        self.files.insert(format!("targets/{hash}.{name}"), bytes);
        self.files.insert(format!("packs/{hash}.pack"), pack.clone());
        self.versions.insert(name, (manifest, pack));
        let envelope = signed(Envelope::new(json!(draft)), &[11, 12]);
        self.publish(&[("targets", &envelope)], now);
        hash
    }

    pub fn publish(&mut self, new: &[(&str, &Envelope)], now: Timestamp) {
        let read = |name: &str| self.files.get(&format!("metadata/{name}")).cloned();
        let files = self.published.publish(None, new, &key(21), now, Lives::default(), read).unwrap();
        self.files.extend(files.into_iter().map(|(name, bytes)| (format!("metadata/{name}"), bytes)));
        let read = |name: &str| self.files.get(&format!("metadata/{name}")).cloned();
        self.published = Published::read(read).unwrap();
    }

    /// An assignment with the next number.
    pub fn assign(&mut self, names: &[&str], when: Schedule) -> Vec<u8> {
        self.number += 1;
        let targets = names
            .iter()
            .map(|&name| {
                let (manifest, _) = &self.versions[name];
                let sha256 = sha256(&manifest.to_bytes());
                AssignedTarget { component: manifest.release.component.clone(), name: name.into(), sha256 }
            })
            .collect();
        let mut assignment = Assignment::new(BOX, self.number, t0() + DAY * 30, targets);
        assignment.when = when;
        signed(Envelope::new(json!(assignment)), &[31]).to_bytes()
    }

    pub fn get(&self, fetch: &Fetch) -> Result<Vec<u8>, FetchError> {
        let bytes = self.files.get(&fetch.path).ok_or(FetchError::Status(404))?;
        let bytes = match fetch.range {
            None => &bytes[..],
            Some((offset, length)) => &bytes[offset as usize..(offset + length) as usize],
        };
        Ok(bytes[..bytes.len().min(fetch.max_bytes as usize + 1)].to_vec())
    }
}

/// How a version behaves on its first start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Passes,
    Fails,
    /// The process dies before it has said anything.
    Dies,
    /// It says nothing at all.
    Hangs,
}

/// A box, and the versions it may run.
pub struct Life<D> {
    pub disk: D,
    pub components: Vec<(String, D)>,
    pub repo: Repo,
    pub verdicts: BTreeMap<String, Verdict>,
    pub assignment: Option<Vec<u8>>,
    pub conditions: Conditions,
    /// Since the box was made; the wall clock follows it.
    pub clock: Duration,
    pub local_minute: u16,
    /// The state of the first component after each step.
    pub stages: Vec<String>,
    pub drained: bool,
    pub starts: u32,
    pub fetched: BTreeMap<String, u64>,
    /// Replaces what the repository answers.
    #[allow(clippy::type_complexity, reason = "one closure, used by tests")]
    pub answer: Box<dyn FnMut(&Repo, &Fetch) -> Result<Vec<u8>, FetchError>>,
}

/// Why a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing more will happen by itself.
    Settled,
    /// A start was asked for.
    Switch,
    /// The disk is gone, or the process died.
    Died,
}

impl<D: Disk + Clone> Life<D> {
    pub fn new(disk: D, app: D, repo: Repo, installed: &str) -> Self {
        let (manifest, pack) = &repo.versions[installed];
        let app = FileSlots::install(app, manifest, pack).unwrap();
        Self::on(disk, app, repo)
    }

    /// A box on a disk that has something installed.
    pub fn on(disk: D, app: D, repo: Repo) -> Self {
        Self {
            disk,
            components: vec![("app".into(), app)],
            repo,
            verdicts: BTreeMap::new(),
            assignment: None,
            conditions: Conditions::default(),
            clock: Duration::ZERO,
            local_minute: 600,
            stages: Vec::new(),
            drained: false,
            starts: 0,
            fetched: BTreeMap::new(),
            answer: Box::new(|repo, fetch| repo.get(fetch)),
        }
    }

    pub fn now(&self) -> Now {
        let wall = t0() + SignedDuration::try_from(self.clock).unwrap();
        Now { mono: self.clock, wall, local_minute: self.local_minute }
    }

    /// Starts the box: every slot that starts must be a whole version that was released, byte for byte.
    pub fn start(&mut self) -> Option<Updater<D>> {
        // A new process takes calls until it is told not to.
        self.drained = false;
        let mut components = Vec::new();
        for (name, disk) in &mut self.components {
            let start = launch(disk).unwrap_or_else(|error| panic!("bricked: {error}"));
            self.starts += 1;
            check_start(disk, &start, &self.repo);
            components.push((name.clone(), disk.clone(), start.slot));
        }
        let config = Config { box_id: BOX.into(), platform: "x86-64".into(), built: t0() };
        let root = self.repo.factory_root();
        let mut updater = Updater::open(config, self.disk.clone(), &root, components, self.now()).unwrap();
        if let Some(bytes) = &self.assignment {
            updater.handle_assignment(bytes.clone());
        }
        Some(updater)
    }

    /// Runs one process until it ends or `is_dead` says so.
    pub fn run(&mut self, updater: &mut Updater<D>, is_dead: impl Fn() -> bool) -> End {
        for _ in 0..20_000 {
            if is_dead() {
                return End::Died;
            }
            updater.handle_conditions(self.conditions);
            let todo = updater.poll(self.now());
            let stage = updater.status()[0].stage.clone();
            if self.stages.last() != Some(&stage) {
                self.stages.push(stage);
            }
            if is_dead() {
                return End::Died;
            }
            match todo {
                Todo::Fetch(fetch) => {
                    let result = (self.answer)(&self.repo, &fetch);
                    if let Ok(bytes) = &result {
                        *self.fetched.entry(fetch.path.clone()).or_default() += bytes.len() as u64;
                    }
                    updater.handle_fetched(self.now(), fetch.number, result);
                }
                Todo::Drain(on) => self.drained = on,
                Todo::Switch { .. } => {
                    assert_eq!(self.conditions.calls, 0, "a call was cut");
                    assert!(self.drained, "new calls could have come in");
                    self.drained = false;
                    return End::Switch;
                }
                Todo::SelfTest { component } => {
                    let running = updater.slots(&component).unwrap();
                    let sealed =
                        trunkline_update::Slots::sealed(running, trunkline_update::Slots::running(running));
                    let version = sealed.unwrap().release.version;
                    let check = |failed| Check { name: "test call".into(), failed };
                    match self.verdicts.get(&version).copied().unwrap_or(Verdict::Passes) {
                        Verdict::Passes => updater.handle_self_test(&component, &[check(None)]),
                        Verdict::Fails => {
                            updater.handle_self_test(&component, &[check(Some("no sound".into()))])
                        }
                        Verdict::Dies => return End::Died,
                        Verdict::Hangs => {}
                    }
                }
                Todo::Wait { until } => {
                    let settled = updater.status().iter().all(|status| {
                        let second_try = status.waiting.is_some();
                        matches!(status.stage.as_str(), "idle" | "committed" | "failed" | "cancelled")
                            || (status.stage == "rolled_back" && !second_try)
                    });
                    match until {
                        None => return End::Settled,
                        // What is asked for again within the hour is a passing trouble.
                        Some(until) if settled && until >= self.clock + Duration::from_secs(1_800) => {
                            return End::Settled;
                        }
                        Some(until) => self.clock = self.clock.max(until),
                    }
                }
            }
        }
        panic!("never settles: {:?}", updater.status());
    }

    /// Starts and runs until nothing more happens by itself; returns what the box reports then.
    pub fn live(&mut self, is_dead: impl Fn() -> bool + Copy, mut on_death: impl FnMut()) -> Vec<Status> {
        for _ in 0..60 {
            let Some(mut updater) = self.start() else { continue };
            match self.run(&mut updater, is_dead) {
                End::Settled => return updater.status(),
                End::Switch => {}
                End::Died => on_death(),
            }
        }
        panic!("starts for ever: {:?}", self.stages);
    }

    pub fn running(&mut self) -> String {
        let start = launch(&mut self.components[0].1).unwrap();
        start.sealed.release.version
    }
}

/// What starts must be, byte for byte, one of the versions that were released, and nothing besides.
pub fn check_start(disk: &impl Disk, start: &Start, repo: &Repo) {
    let slot = match start.slot {
        Slot::A => "a",
        Slot::B => "b",
    };
    let known = content(&start.sealed.release.version);
    for (path, bytes) in &known {
        let found = disk.read(&format!("{slot}/{path}")).unwrap_or_default();
        assert!(found == *bytes, "an unverified start: {path} of {start:?}");
    }
    let released: BTreeSet<Sha256> =
        repo.versions.values().map(|(manifest, _)| sha256(&manifest.to_bytes())).collect();
    assert!(released.contains(&start.sealed.version));
    assert_eq!(disk.list(slot).unwrap(), ["bin", "etc", "lib", "version"]);
}
