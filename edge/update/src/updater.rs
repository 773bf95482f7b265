//! Everything together: metadata, assignment, and one [`Machine`] with its slots per component.
//!
//! Disk work is done here; the network, the clock, calls and starting again belong to the shell, which asks
//! [`Updater::poll`] what to do.

use std::time::Duration;

use jiff::Timestamp;
use trunkline_trust::{Assignment, Client, TrustError, sha256};

use crate::boot::Slot;
use crate::disk::{Disk, replace};
use crate::machine::{Action, Check, Conditions, Fault, Machine, Now};
use crate::manifest::{MAX_MANIFEST, Manifest, Range};
use crate::slots::{FileSlots, SlotError, Slots};
use crate::state::{Installed, Job, State, Status};

/// A fetch may take this long, and its length at [`SLOWEST`] besides.
pub const FETCH_TIME: Duration = Duration::from_secs(15);
/// A source that is slower than this, in bytes per second, is given up and asked again later.
pub const SLOWEST: u64 = 8 * 1024;
/// While calls are under way, a box fetches no faster than this, in bytes per second.
pub const BESIDE_CALLS: u64 = 64 * 1024;
/// Metadata that is refused is asked for again after this time.
const REFUSED_AGAIN: Duration = Duration::from_secs(3_600);

/// What the box is.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its id, as assignments name it.
    pub box_id: String,
    /// What it is, as releases name it, such as `x86-64`.
    pub platform: String,
    /// The day the software was built: a clock before it is wrong.
    pub built: Timestamp,
}

/// What the shell shall do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Todo {
    /// Get a file or a part of one, and call [`Updater::handle_fetched`] with the same number.
    Fetch(Fetch),
    /// Take no new calls from now on, or take them again.
    Drain(bool),
    /// Start the component again by way of the launcher.
    Switch {
        /// Which.
        component: String,
    },
    /// Test the running version of the component, then [`Updater::handle_self_test`].
    SelfTest {
        /// Which.
        component: String,
    },
    /// Nothing now. Come again at this time since the start of the process at the latest, and whenever
    /// something happened.
    Wait {
        /// When; none: only when something happens.
        until: Option<Duration>,
    },
}

/// Something to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Its number; answers to older numbers are ignored.
    pub number: u64,
    /// Where it lies below the repository's root.
    pub path: String,
    /// From which byte on and how many; none: the whole file.
    pub range: Option<(u64, u64)>,
    /// Stop reading after this many bytes plus one.
    pub max_bytes: u64,
    /// Give up after this time with [`FetchError::Slow`].
    pub within: Duration,
    /// Read no faster than this; a call on the same line must not suffer.
    pub bytes_per_s: Option<u64>,
}

/// Why something could not be got.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The server answered with a status other than 200 and 206; a missing file of a folder is 404.
    #[error("the server answered {0}")]
    Status(u16),
    /// No connection, or it broke.
    #[error("the network failed: {0}")]
    Network(String),
    /// It took too long.
    #[error("the server was too slow")]
    Slow,
}

#[derive(Debug)]
struct Part<D> {
    component: String,
    machine: Machine,
    slots: FileSlots<D>,
}

#[derive(Clone, Debug)]
struct Flight {
    fetch: Fetch,
    until: Duration,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Metadata(String),
    Manifest { part: usize, job: Job },
    Range { part: usize, range: Range },
}

/// The updates of one box.
#[derive(Debug)]
pub struct Updater<D> {
    config: Config,
    disk: D,
    client: Client,
    parts: Vec<Part<D>>,
    /// What was assigned and is not checked yet.
    offered: Option<Vec<u8>>,
    /// What is assigned.
    assignment: Option<Assignment>,
    /// The number of the newest assignment that was ever accepted.
    last: u64,
    refreshing: bool,
    refresh_at: Duration,
    refresh_tries: u32,
    trouble: Option<String>,
    flight: Option<Flight>,
    number: u64,
    fetch_at: Duration,
    conditions: Conditions,
}

impl<D: Disk + Clone> Updater<D> {
    /// Goes on where the disk says. `disk` holds metadata and assignment; each component has its own folder
    /// and the slot that the launcher started.
    ///
    /// # Errors
    /// [`TrustError`] when the root that the box was delivered with is not one.
    pub fn open(
        config: Config,
        disk: D,
        factory_root: &[u8],
        components: Vec<(String, D, Slot)>,
        now: Now,
    ) -> Result<Self, TrustError> {
        let client = Client::open(factory_root, |name| disk.read(&format!("trust/{name}")).ok())?;
        let parts = components
            .into_iter()
            .map(|(component, disk, running)| {
                let state = disk.read(STATE).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
                let slots = FileSlots::open(disk, running);
                let installed = slots
                    .sealed(running)
                    .map(|sealed| Installed { version: sealed.version, release: sealed.release });
                let machine = Machine::open(
                    &component,
                    &config.platform,
                    state,
                    installed.as_ref(),
                    slots.record(),
                    now,
                );
                Part { component, machine, slots }
            })
            .collect();
        let offered = disk.read(ASSIGNMENT).ok();
        let last = disk.read(LAST).ok().and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok());
        Ok(Self {
            config,
            disk,
            client,
            parts,
            offered,
            assignment: None,
            last: last.unwrap_or(0),
            refreshing: false,
            refresh_at: Duration::ZERO,
            refresh_tries: 0,
            trouble: None,
            flight: None,
            number: 0,
            fetch_at: Duration::ZERO,
            conditions: Conditions::default(),
        })
    }

    /// Takes an assignment as it came from the cloud or a stick. It is believed only after the metadata were
    /// refreshed and agree with it.
    pub fn handle_assignment(&mut self, bytes: Vec<u8>) {
        self.offered = Some(bytes);
        (self.refresh_at, self.refresh_tries, self.trouble) = (Duration::ZERO, 0, None);
    }

    /// Takes what else the box is doing.
    pub fn handle_conditions(&mut self, conditions: Conditions) {
        self.conditions = conditions;
    }

    /// Takes back the update of a component that is not armed yet; returns whether there was one.
    pub fn handle_cancel(&mut self, component: &str) -> bool {
        let Some(at) = self.parts.iter().position(|part| part.component == component) else { return false };
        let cancelled = self.parts[at].machine.handle_cancel();
        if cancelled {
            self.drop_flight_of(at);
        }
        cancelled
    }

    /// Takes the result of a self-test.
    pub fn handle_self_test(&mut self, component: &str, checks: &[Check]) {
        if let Some(part) = self.parts.iter_mut().find(|part| part.component == component) {
            part.machine.handle_self_test(checks);
        }
    }

    /// Takes what was fetched; of a part of a file, what came before a cut is worth handing in, since it need
    /// not be fetched again. An answer to a number that is not under way any more is ignored.
    pub fn handle_fetched(&mut self, now: Now, number: u64, result: Result<Vec<u8>, FetchError>) {
        let Some(flight) = self.flight.take_if(|flight| flight.fetch.number == number) else { return };
        let result = match result {
            Ok(bytes) if bytes.len() as u64 > flight.fetch.max_bytes => Err(Fault::NotAsReleased(format!(
                "{} is longer than {} bytes",
                flight.fetch.path, flight.fetch.max_bytes
            ))),
            Ok(bytes) => Ok(bytes),
            // Too many requests, and a server that gave up waiting for ours, say so of the moment only.
            Err(FetchError::Status(status @ 400..=499)) if !matches!(status, 408 | 429) => {
                Err(Fault::Refused(status))
            }
            Err(error) => Err(Fault::Passing(error.to_string())),
        };
        match flight.what {
            What::Metadata(name) => self.take_metadata(now, &name, result),
            What::Manifest { part, job } => {
                let read = result.and_then(|bytes| {
                    if sha256(&bytes) != job.version {
                        return Err(Fault::NotAsReleased("the manifest has another hash".into()));
                    }
                    Manifest::parse(&bytes).map_err(|error| Fault::NotAsReleased(error.to_string()))
                });
                self.parts[part].machine.handle_manifest(now, read);
            }
            What::Range { part, range } => {
                let part = &mut self.parts[part];
                let (written, fault) = match (result, part.machine.manifest()) {
                    (Ok(bytes), Some(manifest)) => write_range(&mut part.slots, manifest, &range, &bytes),
                    (Ok(_), None) => (0, Some(Fault::Passing("the manifest is gone".into()))),
                    (Err(fault), _) => (0, Some(fault)),
                };
                part.machine.handle_range(now, &range, written, fault);
            }
        }
    }

    /// Returns the next thing to do. Call it again after each [`Todo`] but [`Todo::Wait`].
    pub fn poll(&mut self, now: Now) -> Todo {
        if let Some(flight) = self.flight.take_if(|flight| now.mono >= flight.until) {
            // The shell did not keep the time. Whatever comes later is ignored.
            self.flight = Some(Flight { until: Duration::MAX, ..flight.clone() });
            self.handle_fetched(now, flight.fetch.number, Err(FetchError::Slow));
        }
        if let Some(todo) = self.poll_metadata(now) {
            return todo;
        }
        self.present();
        for at in 0..self.parts.len() {
            let mut conditions = self.conditions;
            conditions.other_is_switching = self
                .parts
                .iter()
                .enumerate()
                .any(|(other, part)| other != at && part.machine.state().stage.is_switching());
            // A machine that waits for its turn on the line keeps its question.
            while self.may_ask(now, at) {
                let Some(action) = self.parts[at].machine.poll_action(now, &conditions) else { break };
                if let Some(todo) = self.perform(now, at, &conditions, action) {
                    return todo;
                }
            }
        }
        let flight = self.flight.as_ref().map(|flight| flight.until);
        let may_refresh = self.offered.is_some() && !self.refreshing && flight.is_none();
        let refresh = may_refresh.then_some(self.refresh_at);
        let paced = (self.flight.is_none() && self.fetch_at > now.mono).then_some(self.fetch_at);
        let machines = self.parts.iter().filter_map(|part| part.machine.poll_timeout(now));
        Todo::Wait { until: machines.chain(flight).chain(refresh).chain(paced).min() }
    }

    /// Returns what to report, one entry per component.
    pub fn status(&self) -> Vec<Status> {
        self.parts.iter().map(|part| part.machine.status()).collect()
    }

    /// Returns why the newest assignment is not believed, if it is not.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Returns the slots of a component.
    pub fn slots(&self, component: &str) -> Option<&FileSlots<D>> {
        self.parts.iter().find(|part| part.component == component).map(|part| &part.slots)
    }

    fn perform(&mut self, now: Now, at: usize, conditions: &Conditions, action: Action) -> Option<Todo> {
        let part = &mut self.parts[at];
        let machine = &mut part.machine;
        match action {
            Action::Persist(state) => match persist(part.slots.disk_mut(), &state) {
                Ok(()) => machine.handle_persisted(&state),
                Err(error) => machine.handle_persist_failed(now, &error),
            },
            Action::FetchManifest(job) => {
                let path = format!("targets/{}.{}", job.version, job.name);
                let max_bytes = job.length.min(MAX_MANIFEST);
                return Some(self.fetch(now, path, None, max_bytes, What::Manifest { part: at, job }));
            }
            Action::Stage => {
                let result = match machine.manifest().cloned() {
                    Some(manifest) => prepare(&mut part.slots, &manifest).map_err(|error| in_words(&error)),
                    None => Err("the manifest is gone".into()),
                };
                machine.handle_staged(now, conditions, result);
            }
            Action::Fetch(range) => {
                let job = machine.state().stage.job()?;
                let path = format!("packs/{}.pack", job.version);
                let wanted = Some((range.offset, range.length));
                let length = range.length;
                return Some(self.fetch(now, path, wanted, length, What::Range { part: at, range }));
            }
            Action::Verify => {
                let result = match machine.manifest().cloned() {
                    Some(manifest) => part.slots.verify(&manifest).map_err(|error| fault(&error)),
                    None => Err(Fault::Passing("the manifest is gone".into())),
                };
                machine.handle_verified(now, result);
            }
            Action::Drain(on) => return Some(Todo::Drain(on)),
            Action::Arm(version) => {
                let result = part.slots.arm(version).map_err(|error| fault(&error));
                machine.handle_armed(now, result);
            }
            Action::Switch => return Some(Todo::Switch { component: part.component.clone() }),
            Action::SelfTest => return Some(Todo::SelfTest { component: part.component.clone() }),
            Action::Commit => {
                let result = part.slots.commit().map_err(|error| in_words(&error));
                machine.handle_committed(now, result);
            }
            Action::GiveUp(version) => {
                let result = part.slots.give_up(version).map_err(|error| in_words(&error));
                machine.handle_given_up(now, result);
            }
        }
        None
    }

    /// One fetch at a time, and no faster than the budget: a machine is asked only when it may fetch, or
    /// cannot want to.
    fn may_ask(&self, now: Now, at: usize) -> bool {
        let name = self.parts[at].machine.state().stage.name();
        let free = self.flight.is_none() && !self.refreshing;
        !matches!(name, "checking" | "downloading") || (free && now.mono >= self.fetch_at)
    }

    /// Returns how fast may be fetched now, in bytes per second.
    fn budget(&self) -> Option<u64> {
        let assigned = self.assignment.as_ref().and_then(|assignment| assignment.when.bytes_per_s);
        let beside_calls = (self.conditions.calls > 0).then_some(BESIDE_CALLS);
        let least = [assigned, self.conditions.bytes_per_s, beside_calls].into_iter().flatten().min();
        // At a rate below the slowest source nothing would ever be whole in time.
        least.map(|rate| rate.max(SLOWEST))
    }

    fn fetch(
        &mut self,
        now: Now,
        path: String,
        range: Option<(u64, u64)>,
        max_bytes: u64,
        what: What,
    ) -> Todo {
        self.number += 1;
        let within = FETCH_TIME + Duration::from_secs(max_bytes / SLOWEST);
        let bytes_per_s = self.budget().filter(|_| matches!(what, What::Range { .. }));
        if let Some(rate) = bytes_per_s {
            self.fetch_at = now.mono + Duration::from_millis(max_bytes.saturating_mul(1_000) / rate);
        }
        let fetch = Fetch { number: self.number, path, range, max_bytes, within, bytes_per_s };
        // The shell keeps the time; this is for a shell that does not.
        let until = now.mono + within + FETCH_TIME;
        self.flight = Some(Flight { fetch: fetch.clone(), until, what });
        Todo::Fetch(fetch)
    }

    fn poll_metadata(&mut self, now: Now) -> Option<Todo> {
        if !self.refreshing && self.offered.is_some() && now.mono >= self.refresh_at && self.flight.is_none()
        {
            self.client.begin(now.wall.max(self.config.built));
            self.refreshing = true;
        }
        if !self.refreshing || self.flight.is_some() {
            return None;
        }
        if let Some(wanted) = self.client.poll_fetch() {
            let path = format!("metadata/{}", wanted.name);
            let what = What::Metadata(wanted.name);
            let todo = self.fetch(now, path, None, wanted.max_bytes, what);
            return Some(todo);
        }
        self.refreshing = false;
        self.check_offer(now);
        None
    }

    fn take_metadata(&mut self, now: Now, name: &str, result: Result<Vec<u8>, Fault>) {
        let (error, refused) = match result {
            Ok(bytes) => (self.client.handle_file(name, &bytes).err().map(|error| in_words(&error)), true),
            // Stores answer 403 for what is not there when listing is not allowed.
            Err(Fault::Refused(403 | 404)) => {
                (self.client.handle_absent(name).err().map(|error| in_words(&error)), true)
            }
            Err(Fault::Refused(status)) => (Some(format!("the server answered {status}")), true),
            Err(Fault::NotAsReleased(detail)) => (Some(detail), true),
            Err(Fault::Passing(detail) | Fault::Disk(detail)) => (Some(detail), false),
        };
        let saved = self.save_metadata();
        if let Some(error) = error.or(saved.err()) {
            self.client.abort();
            self.refreshing = false;
            self.trouble = Some(error);
            self.refresh_tries = self.refresh_tries.saturating_add(1);
            let soon = Duration::from_secs(5) * 2u32.pow(self.refresh_tries.min(8) - 1);
            self.refresh_at = now.mono + if refused { REFUSED_AGAIN } else { soon };
        }
    }

    fn save_metadata(&mut self) -> Result<(), String> {
        while let Some((name, bytes)) = self.client.poll_save() {
            let path = format!("trust/{name}");
            let done = match bytes {
                Some(bytes) => replace(&mut self.disk, &path, &bytes),
                None => self.disk.remove(&path).and_then(|()| self.disk.sync_dir("trust")),
            };
            done.map_err(|error| format!("could not save {path}: {error}"))?;
        }
        Ok(())
    }

    /// The metadata are fresh: is the assignment to be believed?
    fn check_offer(&mut self, now: Now) {
        let Some(bytes) = self.offered.take() else { return };
        let wall = now.wall.max(self.config.built);
        match self.client.check_assignment(&bytes, &self.config.box_id, self.last, wall) {
            Ok(assignment) => {
                let kept = replace(&mut self.disk, ASSIGNMENT, &bytes).and_then(|()| {
                    replace(&mut self.disk, LAST, assignment.header.version.to_string().as_bytes())
                });
                if let Err(error) = kept {
                    self.trouble = Some(format!("could not keep the assignment: {error}"));
                    self.refresh_at = now.mono + REFUSED_AGAIN;
                    self.offered = Some(bytes);
                    return;
                }
                self.last = assignment.header.version;
                self.assignment = Some(assignment);
                (self.trouble, self.refresh_tries) = (None, 0);
            }
            Err(error) => self.trouble = Some(in_words(&error)),
        }
    }

    /// Shows each machine what it is to run.
    fn present(&mut self) {
        let Some(assignment) = &self.assignment else { return };
        let mut begun = Vec::new();
        for (at, part) in self.parts.iter_mut().enumerate() {
            let wanted = assignment.targets.iter().find(|target| target.component == part.component);
            let job = wanted.and_then(|wanted| {
                // The check when it came has found it; dates play no part any more.
                let (name, target) = self.client.releases().find(|(name, _)| *name == wanted.name)?;
                Some(Job {
                    name: name.into(),
                    version: wanted.sha256,
                    length: target.length,
                    release: target.release()?,
                    when: assignment.when.clone(),
                    assignment: assignment.header.version,
                })
            });
            if let Some(job) = job {
                let before = part.machine.state().stage.job().map(|job| job.version);
                let version = job.version;
                part.machine.handle_wanted(job);
                if before != Some(version) && part.machine.state().stage.name() == "assigned" {
                    begun.push(at);
                }
            }
        }
        for at in begun {
            self.drop_flight_of(at);
        }
    }

    fn drop_flight_of(&mut self, at: usize) {
        self.flight = self.flight.take().filter(|flight| match &flight.what {
            What::Metadata(_) => true,
            What::Manifest { part, .. } | What::Range { part, .. } => *part != at,
        });
    }
}

fn persist<D: Disk>(disk: &mut D, state: &State) -> Result<(), String> {
    let bytes = serde_json::to_vec_pretty(state).map_err(|error| error.to_string())?;
    replace(disk, STATE, &bytes).map_err(|error| format!("could not write the state file: {error}"))
}

fn prepare(slots: &mut impl Slots, manifest: &Manifest) -> Result<(crate::slots::Missing, u64), SlotError> {
    slots.probe()?;
    let free = slots.free()?;
    Ok((slots.stage(manifest)?, free))
}

/// Writes the chunks of a range; returns how many bytes of whole chunks are written, and what went wrong then.
fn write_range(
    slots: &mut impl Slots,
    manifest: &Manifest,
    range: &Range,
    bytes: &[u8],
) -> (u64, Option<Fault>) {
    let mut written = 0;
    for chunk in &range.chunks {
        let from = usize::try_from(written).unwrap_or(usize::MAX);
        let piece = bytes.get(from..).and_then(|rest| rest.get(..chunk.length as usize));
        // A short answer is a cut; other bytes than were released may be a bad line, or worse: either way
        // they are not written, and asked for again.
        let Some(piece) = piece else {
            return (written, Some(Fault::Passing("the answer was cut off".into())));
        };
        if let Err(error) = slots.write_chunk(manifest, chunk, piece) {
            return (written, Some(fault(&error)));
        }
        written += u64::from(chunk.length);
    }
    (written, None)
}

fn fault(error: &SlotError) -> Fault {
    match error {
        SlotError::Disk { .. } => Fault::Disk(in_words(error)),
        SlotError::WrongChunk | SlotError::OnTrial | SlotError::NothingToStart => {
            Fault::Passing(in_words(error))
        }
        SlotError::Contradiction | SlotError::Manifest { .. } | SlotError::NotSealed(_) => {
            Fault::NotAsReleased(in_words(error))
        }
    }
}

/// An error with its causes.
fn in_words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

const STATE: &str = "state.json";
const ASSIGNMENT: &str = "assignment.json";
const LAST: &str = "assignment.last";
