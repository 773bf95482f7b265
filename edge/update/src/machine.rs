//! One component's way from one version to the next, without I/O.
//!
//! ```text
//! Assigned ─▶ Checking ─▶ Downloading ─▶ Verifying ─▶ Staged ─▶ WaitWindow ─▶ Arming ─▶ Rebooting
//!     │           └───────────┴────────────┴────────────┴──────────┘              ╎ new process
//!     │                       Cancelled, Failed                                   ▼
//!     └─▶ Failed              RolledBack ◀─ RollingBack ◀─────────────────────── Trial
//!                                                       Committed ◀─ Committing ◀─┘
//! ```
//!
//! Every arrow is written down ([`Action::Persist`]) before anything follows from it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use trunkline_trust::{Schedule, Sha256};

use crate::boot::BootRecord;
use crate::manifest::{Chunk, Manifest, Range, ranges};
use crate::slots::Missing;
use crate::state::{FAILURES, Failures, Installed, Job, REMEMBERED, Reason, Stage, State, Status, Wait};

/// The self-test must end within this time.
pub const SELF_TEST: Duration = Duration::from_secs(600);
/// After a first roll-back the version is tried again after this time.
pub const SECOND_TRY: SignedDuration = SignedDuration::from_hours(1);
/// What lacks room, power or a boot record is looked at again after this time.
pub const LOOK_AGAIN: Duration = Duration::from_secs(600);
/// This much stays free beside a staged version, in bytes.
pub const RESERVE: u64 = 64 * 1024 * 1024;
/// A start that never comes is asked for this often.
const STARTS: u8 = 3;
/// A slot that loses what is written is written this often.
const ROUNDS: u8 = 3;

/// The moment, as the shell sees it.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Time since the process started; never goes back.
    pub mono: Duration,
    /// The wall clock; may be wrong.
    pub wall: Timestamp,
    /// The minute of the local day, 0 to 1439.
    pub local_minute: u16,
}

/// What the box is doing besides.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// Calls that have not ended.
    pub calls: u32,
    /// Somebody on site asked that nothing changes now.
    pub locked: bool,
    /// There is power enough for an update.
    pub power: bool,
    /// The most that may be fetched without being asked, while the line costs money per byte.
    pub metered_limit: Option<u64>,
    /// The hours in which the branch lets versions be switched, in minutes of the local day; a window over midnight
    /// has from > to. None: at any time.
    pub hours: Option<(u16, u16)>,
    /// The most that the branch lets be fetched, in bytes per second.
    pub bytes_per_s: Option<u64>,
    /// Another component is between two versions.
    pub other_is_switching: bool,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            calls: 0,
            locked: false,
            power: true,
            metered_limit: None,
            hours: None,
            bytes_per_s: None,
            other_is_switching: false,
        }
    }
}

/// What is to be done; each is answered by the `handle_…` that its documentation names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write the state file durably, then [`Machine::handle_persisted`].
    Persist(Box<State>),
    /// Fetch the manifest of the job; [`Machine::handle_manifest`].
    FetchManifest(Job),
    /// Probe the boot record and prepare the slot; [`Machine::handle_staged`].
    Stage,
    /// Fetch a range of the pack and write its chunks; [`Machine::handle_range`].
    Fetch(Range),
    /// Read the slot back and seal it; [`Machine::handle_verified`].
    Verify,
    /// Take no new calls from now on, or take them again. Not answered.
    Drain(bool),
    /// Put the slot on trial; [`Machine::handle_armed`].
    Arm(Sha256),
    /// Start again, by way of the launcher. Not answered: a new process follows.
    Switch,
    /// Test the running version; [`Machine::handle_self_test`].
    SelfTest,
    /// Make the running slot the good one; [`Machine::handle_committed`].
    Commit,
    /// Take the version off trial; [`Machine::handle_given_up`].
    GiveUp(Sha256),
}

/// Why something did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It may work later.
    Passing(String),
    /// The server's answer, 400 to 499: asking again changes nothing.
    Refused(u16),
    /// What came is not what was released, and asking again changes nothing.
    NotAsReleased(String),
    /// The disk or the slot failed.
    Disk(String),
}

/// One check of a self-test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Such as `trunk registered`.
    pub name: String,
    /// What was wrong; none when it passed.
    pub failed: Option<String>,
}

/// The machine.
#[derive(Debug)]
pub struct Machine {
    component: String,
    platform: String,
    state: State,
    /// The state differs from what is on the disk.
    dirty: bool,
    /// An action was given out and not answered.
    busy: bool,
    manifest: Option<Manifest>,
    /// What is still to be fetched, once the slot was prepared.
    plan: Option<Plan>,
    rounds: u8,
    tries: u32,
    look_at: Option<Duration>,
    waiting: Option<Wait>,
    testing_until: Option<Duration>,
    may_switch: bool,
    draining: bool,
    fetched: u64,
}

#[derive(Debug)]
struct Plan {
    ranges: Vec<Range>,
    bytes: u64,
}

impl Plan {
    /// Takes the first `written` bytes of a range out of what is missing.
    fn advance(&mut self, range: &Range, written: u64) {
        let Some(left) = self.ranges.iter_mut().find(|left| left.offset == range.offset) else { return };
        let done = left.offset + written;
        left.chunks.retain(|chunk| chunk.offset >= done);
        let end = left.offset + left.length;
        left.offset = left.chunks.first().map_or(end, |chunk| chunk.offset);
        left.length = end - left.offset;
        self.bytes = self.bytes.saturating_sub(written);
        self.ranges.retain(|left| !left.chunks.is_empty());
    }
}

impl Machine {
    /// Goes on where the state file says, in a process that was started from a slot holding `running`.
    pub fn open(
        component: &str,
        platform: &str,
        state: Option<State>,
        running: Option<&Installed>,
        record: &BootRecord,
        now: Now,
    ) -> Self {
        let mut machine = Self {
            component: component.into(),
            platform: platform.into(),
            state: state.unwrap_or_default(),
            dirty: false,
            busy: false,
            manifest: None,
            plan: None,
            rounds: 0,
            tries: 0,
            look_at: None,
            waiting: None,
            testing_until: None,
            may_switch: false,
            draining: false,
            fetched: 0,
        };
        machine.resume(running, record, now);
        machine
    }

    fn resume(&mut self, running: Option<&Installed>, record: &BootRecord, now: Now) {
        let runs = |job: &Job| running.is_some_and(|running| running.version == job.version);
        let tried = |job: &Job| record.trial.is_some_and(|trial| trial.version == job.version);
        let next = match self.state.stage.clone() {
            Stage::Checking { job } | Stage::Downloading { job } | Stage::Verifying { job } => {
                Stage::Checking { job }
            }
            Stage::Staged { job } => Stage::WaitWindow { job },
            // The good slot did not start, and an older one runs: what was committed can be assigned anew.
            Stage::Committed { job } if !runs(&job) => Stage::Idle,
            Stage::Arming { job } | Stage::Rebooting { job, .. } if runs(&job) => Stage::Trial { job },
            // It was put on trial and the old version runs: the start is still to come, or the launcher
            // could not count it.
            Stage::Arming { job } if tried(&job) => Stage::Rebooting { job, asked: 0 },
            Stage::Rebooting { job, asked } if tried(&job) && asked >= STARTS => {
                Stage::RollingBack { job, reason: Reason::NeverStarted }
            }
            // Armed, started as often as allowed before this process ever ran, and given up.
            Stage::Arming { job } if record.gave_up == Some(job.version) => {
                self.rolled_back(job, Reason::NeverPassed, now)
            }
            // The record forgets a trial only when it was given up.
            Stage::Rebooting { job, .. } if !tried(&job) => self.rolled_back(job, Reason::NeverPassed, now),
            Stage::Trial { job } | Stage::Committing { job } if !runs(&job) => {
                self.rolled_back(job, Reason::NeverPassed, now)
            }
            // Also when the launcher had nothing else to start: asking again would only start it again.
            Stage::RollingBack { job, reason } if !tried(&job) => self.rolled_back(job, reason, now),
            same @ (Stage::Idle
            | Stage::Assigned { .. }
            | Stage::WaitWindow { .. }
            | Stage::Arming { .. }
            | Stage::Rebooting { .. }
            | Stage::Trial { .. }
            | Stage::Committing { .. }
            | Stage::Committed { .. }
            | Stage::RollingBack { .. }
            | Stage::RolledBack { .. }
            | Stage::Failed { .. }
            | Stage::Cancelled { .. }) => same,
        };
        self.enter(next);
        // A box that was never updated runs what it was delivered with, and one whose state file was lost
        // what it committed last: the floor of that is known from the version itself.
        let on_trial = match (running, record.trial) {
            (Some(running), Some(trial)) => trial.version == running.version,
            _ => false,
        };
        let proved = !self.state.stage.is_switching() && !on_trial;
        if !proved
            && !self.state.stage.is_switching()
            && let Some(running) = running
        {
            // On trial, and nothing is known of it: the state file was lost. It goes back, and is assigned anew.
            let job = Job {
                name: String::new(),
                version: running.version,
                length: 0,
                release: running.release.clone(),
                when: Schedule::default(),
                assignment: 0,
            };
            self.enter(Stage::RollingBack { job, reason: Reason::NeverPassed });
        }
        if proved && let Some(running) = running {
            let floor = self.state.floor.max(running.release.floor);
            if self.state.current.as_ref() != Some(running) || floor != self.state.floor {
                self.state.current = Some(running.clone());
                self.state.floor = floor;
                self.dirty = true;
            }
        }
    }

    /// Takes what is assigned to this component. Anything but a change is harmless.
    pub fn handle_wanted(&mut self, wanted: Job) {
        let stage = &self.state.stage;
        if stage.is_switching() || stage.job() == Some(&wanted) {
            return;
        }
        let ended = !stage.is_before_arming();
        if let Some(job) = stage.job()
            && job.version == wanted.version
        {
            // The same version under a newer assignment: its hours may have changed, and an update that
            // ended is begun again.
            if !ended {
                let mut state = self.state.clone();
                replace_job(&mut state.stage, wanted);
                self.enter(state.stage);
                return;
            }
            if job.assignment >= wanted.assignment {
                return;
            }
        }
        let next = self.judge(wanted);
        if let Some(next) = next {
            self.forget_progress();
            self.busy = false;
            self.enter(next);
        }
    }

    /// Takes an update back, if it is not armed yet, and the second try of one that was rolled back; returns
    /// whether there was something to take back.
    pub fn handle_cancel(&mut self) -> bool {
        if let Stage::RolledBack { job, reason, retry: Some(_) } = self.state.stage.clone() {
            self.enter(Stage::RolledBack { job, reason, retry: None });
            return true;
        }
        let Some(job) = self.state.stage.job().filter(|_| self.state.stage.is_before_arming()) else {
            return false;
        };
        let job = job.clone();
        self.forget_progress();
        self.busy = false;
        self.enter(Stage::Cancelled { job });
        true
    }

    /// The state file is written.
    pub fn handle_persisted(&mut self, written: &State) {
        self.busy = false;
        self.dirty = self.state != *written;
    }

    /// The state file could not be written: nothing moves until it can.
    pub fn handle_persist_failed(&mut self, now: Now, detail: &str) {
        self.busy = false;
        self.again(now, detail);
    }

    /// The manifest was fetched and read, or not.
    pub fn handle_manifest(&mut self, now: Now, result: Result<Manifest, Fault>) {
        let Stage::Checking { job } = self.state.stage.clone() else { return };
        self.busy = false;
        match result {
            Ok(manifest) if manifest.release == job.release => {
                self.tries = 0;
                self.manifest = Some(manifest);
            }
            Ok(_) => {
                let detail = "the manifest is of another release".to_owned();
                self.enter(Stage::Failed { job, reason: Reason::NotAsReleased { detail } });
            }
            Err(fault) => self.fault(now, job, fault),
        }
    }

    /// The slot was prepared, with `free` bytes left; or not.
    pub fn handle_staged(
        &mut self,
        now: Now,
        conditions: &Conditions,
        result: Result<(Missing, u64), String>,
    ) {
        let Stage::Checking { job } = self.state.stage.clone() else { return };
        self.busy = false;
        let (missing, free) = match result {
            Ok(prepared) => prepared,
            Err(detail) => return self.wait(now, Wait::BootRecord { detail }),
        };
        let need = missing.room + RESERVE;
        if need > free {
            return self.wait(now, Wait::Room { need, free });
        }
        let bytes = missing.chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
        if conditions.metered_limit.is_some_and(|limit| bytes > limit) {
            return self.wait(now, Wait::Metered { bytes });
        }
        self.plan = Some(Plan { ranges: ranges(missing.chunks), bytes });
        self.enter(Stage::Downloading { job });
    }

    /// Of a range, the chunks in its first `written` bytes are in the slot; the rest failed, if it did.
    pub fn handle_range(&mut self, now: Now, range: &Range, written: u64, fault: Option<Fault>) {
        let Stage::Downloading { job } = self.state.stage.clone() else { return };
        self.busy = false;
        if written > 0 {
            self.tries = 0;
            self.waiting = None;
            self.fetched += written;
            if let Some(plan) = &mut self.plan {
                plan.advance(range, written);
            }
        }
        if let Some(fault) = fault {
            self.fault(now, job, fault);
        }
    }

    /// The slot was read back: sealed when nothing is wrong.
    pub fn handle_verified(&mut self, now: Now, result: Result<Vec<Chunk>, Fault>) {
        let Stage::Verifying { job } = self.state.stage.clone() else { return };
        self.busy = false;
        match result {
            Ok(wrong) if wrong.is_empty() => self.enter(Stage::Staged { job }),
            Ok(wrong) => {
                self.rounds += 1;
                if self.rounds >= ROUNDS {
                    let detail = format!("{} chunks read back wrong", wrong.len());
                    return self.enter(Stage::Failed { job, reason: Reason::BadMedium { detail } });
                }
                let bytes = wrong.iter().map(|chunk| u64::from(chunk.length)).sum();
                self.plan = Some(Plan { ranges: ranges(wrong), bytes });
                self.enter(Stage::Downloading { job });
            }
            Err(fault) => self.fault(now, job, fault),
        }
    }

    /// The slot is on trial, or not.
    pub fn handle_armed(&mut self, now: Now, result: Result<(), Fault>) {
        let Stage::Arming { job } = self.state.stage.clone() else { return };
        self.busy = false;
        match result {
            Ok(()) => self.enter(Stage::Rebooting { job, asked: 0 }),
            // The slot lost its seal meanwhile: stage it again.
            Err(Fault::NotAsReleased(_)) => {
                self.forget_progress();
                self.enter(Stage::Checking { job });
            }
            Err(Fault::Passing(detail) | Fault::Disk(detail)) => self.again(now, &detail),
            Err(Fault::Refused(status)) => self.again(now, &status.to_string()),
        }
    }

    /// The self-test ended.
    pub fn handle_self_test(&mut self, checks: &[Check]) {
        let Stage::Trial { job } = self.state.stage.clone() else { return };
        self.busy = false;
        let failed: Vec<(String, String)> =
            checks.iter().filter_map(|check| Some((check.name.clone(), check.failed.clone()?))).collect();
        if failed.is_empty() {
            self.enter(Stage::Committing { job });
        } else {
            self.enter(Stage::RollingBack { job, reason: Reason::SelfTest { failed } });
        }
    }

    /// The running slot is the good one, or the record could not be written.
    pub fn handle_committed(&mut self, now: Now, result: Result<(), String>) {
        let Stage::Committing { job } = self.state.stage.clone() else { return };
        self.busy = false;
        match result {
            Ok(()) => {
                // The floor rises here and nowhere else.
                self.state.floor = self.state.floor.max(job.release.floor);
                self.state.current = Some(Installed { version: job.version, release: job.release.clone() });
                self.state.failures.remove(&job.version);
                self.enter(Stage::Committed { job });
            }
            Err(detail) => self.again(now, &detail),
        }
    }

    /// The version is off trial, or the record could not be written.
    pub fn handle_given_up(&mut self, now: Now, result: Result<(), String>) {
        self.busy = false;
        match result {
            Ok(()) => self.may_switch = true,
            Err(detail) => self.again(now, &detail),
        }
    }

    /// Returns the next thing to do; none while something is unanswered, waited for or finished.
    pub fn poll_action(&mut self, now: Now, conditions: &Conditions) -> Option<Action> {
        if let Some(until) = self.testing_until
            && now.mono >= until
            && let Stage::Trial { job } = self.state.stage.clone()
        {
            self.testing_until = None;
            self.busy = false;
            self.enter(Stage::RollingBack { job, reason: Reason::SelfTestTimeout });
        }
        if self.busy || self.look_at.is_some_and(|at| now.mono < at) {
            return None;
        }
        self.look_at = None;
        if self.dirty {
            self.busy = true;
            return Some(Action::Persist(Box::new(self.state.clone())));
        }
        let action = self.decide(now, conditions)?;
        // Nothing follows a start in this process; a drain is not answered.
        self.busy = !matches!(action, Action::Drain(_));
        Some(action)
    }

    /// Returns when [`Self::poll_action`] may have something new without anything else happening.
    pub fn poll_timeout(&self, now: Now) -> Option<Duration> {
        let minute = || now.mono + Duration::from_secs(60);
        let waits_for_the_clock = match &self.state.stage {
            Stage::WaitWindow { .. } => Some(minute()),
            Stage::RolledBack { retry: Some(_), .. } => Some(minute()),
            Stage::Idle
            | Stage::Assigned { .. }
            | Stage::Checking { .. }
            | Stage::Downloading { .. }
            | Stage::Verifying { .. }
            | Stage::Staged { .. }
            | Stage::Arming { .. }
            | Stage::Rebooting { .. }
            | Stage::Trial { .. }
            | Stage::Committing { .. }
            | Stage::Committed { .. }
            | Stage::RollingBack { .. }
            | Stage::RolledBack { retry: None, .. }
            | Stage::Failed { .. }
            | Stage::Cancelled { .. } => None,
        };
        [self.look_at, self.testing_until, waits_for_the_clock].into_iter().flatten().min()
    }

    /// Returns the manifest that is being staged, if this process has it.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// Returns what is remembered.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Returns what to report.
    pub fn status(&self) -> Status {
        Status {
            component: self.component.clone(),
            current: self.state.current.clone(),
            floor: self.state.floor,
            stage: self.state.stage.name().into(),
            job: self.state.stage.job().cloned(),
            reason: self.state.stage.reason().cloned(),
            waiting: self.waiting.clone(),
            fetched: self.fetched,
            to_fetch: self.plan.as_ref().map(|plan| plan.bytes),
        }
    }

    fn decide(&mut self, now: Now, conditions: &Conditions) -> Option<Action> {
        match self.state.stage.clone() {
            Stage::Idle | Stage::Committed { .. } | Stage::Failed { .. } | Stage::Cancelled { .. } => {
                self.drain(false)
            }
            Stage::RolledBack { job, retry, .. } => {
                let undrain = self.drain(false);
                if undrain.is_none() && retry.is_some_and(|at| now.wall >= at) {
                    self.enter(Stage::Assigned { job });
                    return self.persist();
                }
                self.waiting = retry.map(|at| Wait::SecondTry { at });
                undrain
            }
            Stage::Assigned { job } => {
                self.forget_progress();
                self.enter(Stage::Checking { job });
                self.persist()
            }
            Stage::Checking { job } => {
                if !conditions.power {
                    self.wait(now, Wait::Power);
                    return None;
                }
                if self.manifest.is_none() {
                    return Some(Action::FetchManifest(job));
                }
                Some(Action::Stage)
            }
            Stage::Downloading { job } => match &self.plan {
                None => {
                    self.enter(Stage::Checking { job });
                    self.persist()
                }
                Some(plan) => match plan.ranges.first() {
                    Some(range) => Some(Action::Fetch(range.clone())),
                    None => {
                        self.enter(Stage::Verifying { job });
                        self.persist()
                    }
                },
            },
            Stage::Verifying { .. } => Some(Action::Verify),
            Stage::Staged { job } => {
                self.enter(Stage::WaitWindow { job });
                self.persist()
            }
            Stage::WaitWindow { job } => {
                let wait = waits_for(&job, now, conditions);
                let (drain, wait) = match wait {
                    None if conditions.calls > 0 => (true, Some(Wait::Calls { count: conditions.calls })),
                    other => (other.is_none(), other),
                };
                self.waiting = wait;
                if let Some(action) = self.drain(drain) {
                    return Some(action);
                }
                if self.waiting.is_some() {
                    return None;
                }
                self.enter(Stage::Arming { job });
                self.persist()
            }
            Stage::Arming { job } => Some(Action::Arm(job.version)),
            Stage::Rebooting { job, asked } => {
                // The process may be a new one that takes calls, killed between arming and starting again.
                if let Some(action) = self.drain(true) {
                    return Some(action);
                }
                if conditions.calls > 0 {
                    self.waiting = Some(Wait::Calls { count: conditions.calls });
                    return None;
                }
                if asked >= STARTS {
                    self.enter(Stage::RollingBack { job, reason: Reason::NeverStarted });
                    return self.persist();
                }
                if !self.may_switch {
                    // The count is on the disk before the start is asked for.
                    self.enter(Stage::Rebooting { job, asked: asked + 1 });
                    self.may_switch = true;
                    return self.persist();
                }
                Some(Action::Switch)
            }
            Stage::Trial { .. } => {
                if let Some(action) = self.drain(true) {
                    return Some(action);
                }
                self.testing_until = Some(now.mono + SELF_TEST);
                Some(Action::SelfTest)
            }
            Stage::Committing { .. } => Some(Action::Commit),
            Stage::RollingBack { job, .. } => {
                if !self.may_switch {
                    return Some(Action::GiveUp(job.version));
                }
                if let Some(action) = self.drain(true) {
                    return Some(action);
                }
                if conditions.calls > 0 {
                    self.waiting = Some(Wait::Calls { count: conditions.calls });
                    return None;
                }
                Some(Action::Switch)
            }
        }
    }

    /// Says what becomes of a job; nothing when it runs already.
    fn judge(&mut self, job: Job) -> Option<Stage> {
        if self.state.current.as_ref().is_some_and(|current| current.version == job.version) {
            return self.state.stage.is_before_arming().then(|| {
                let old = self.state.stage.job().cloned().unwrap_or(job);
                Stage::Cancelled { job: old }
            });
        }
        if job.release.release < self.state.floor {
            let reason = Reason::BelowFloor { floor: self.state.floor };
            return Some(Stage::Failed { job, reason });
        }
        if !job.release.platforms.is_empty() && !job.release.platforms.contains(&self.platform) {
            return Some(Stage::Failed { job, reason: Reason::WrongPlatform });
        }
        if let Some(failures) = self.state.failures.get(&job.version)
            && failures.count >= FAILURES
        {
            let asked_again = job.when.retry_failed && job.assignment > failures.assignment;
            if !asked_again {
                return Some(Stage::Failed { job, reason: Reason::FailedBefore });
            }
            self.state.failures.remove(&job.version);
        }
        Some(Stage::Assigned { job })
    }

    /// Notes a failed start of a version and says when it is tried again.
    fn rolled_back(&mut self, job: Job, reason: Reason, now: Now) -> Stage {
        let entry = self.state.failures.entry(job.version);
        let failures = entry.or_insert(Failures { count: 0, assignment: job.assignment });
        failures.count = failures.count.saturating_add(1);
        failures.assignment = job.assignment;
        let retry = (failures.count < FAILURES).then(|| now.wall + SECOND_TRY);
        while self.state.failures.len() > REMEMBERED {
            let oldest = self.state.failures.iter().min_by_key(|(_, failures)| failures.assignment);
            let Some(oldest) = oldest.map(|(version, _)| *version) else { break };
            self.state.failures.remove(&oldest);
        }
        Stage::RolledBack { job, reason, retry }
    }

    fn fault(&mut self, now: Now, job: Job, fault: Fault) {
        let reason = match fault {
            Fault::Passing(detail) | Fault::Disk(detail) => return self.again(now, &detail),
            Fault::Refused(status) => Reason::Refused { status },
            Fault::NotAsReleased(detail) => Reason::NotAsReleased { detail },
        };
        self.forget_progress();
        self.enter(Stage::Failed { job, reason });
    }

    /// Tries the same again, later each time: 5 s, 10 s, … 10 min.
    fn again(&mut self, now: Now, after: &str) {
        self.tries = self.tries.saturating_add(1);
        let delay = Duration::from_secs(5) * 2u32.pow(self.tries.min(8) - 1);
        self.look_at = Some(now.mono + delay.min(LOOK_AGAIN));
        self.waiting = Some(Wait::Retry { after: after.into(), tries: self.tries });
    }

    fn wait(&mut self, now: Now, wait: Wait) {
        self.look_at = Some(now.mono + LOOK_AGAIN);
        self.waiting = Some(wait);
    }

    fn enter(&mut self, stage: Stage) {
        if self.state.stage != stage {
            self.state.stage = stage;
            self.dirty = true;
            self.waiting = None;
            self.look_at = None;
            self.may_switch = false;
            self.testing_until = None;
        }
    }

    fn persist(&mut self) -> Option<Action> {
        self.busy = true;
        Some(Action::Persist(Box::new(self.state.clone())))
    }

    fn drain(&mut self, on: bool) -> Option<Action> {
        (self.draining != on).then(|| {
            self.draining = on;
            Action::Drain(on)
        })
    }

    fn forget_progress(&mut self) {
        (self.manifest, self.plan, self.rounds, self.tries) = (None, None, 0, 0);
        (self.look_at, self.waiting) = (None, None);
    }
}

/// Says what stands in the way of a switch, other than calls.
fn waits_for(job: &Job, now: Now, conditions: &Conditions) -> Option<Wait> {
    if conditions.locked {
        return Some(Wait::Lock);
    }
    if conditions.other_is_switching {
        return Some(Wait::OtherComponent);
    }
    if !conditions.power {
        return Some(Wait::Power);
    }
    let late = job.when.deadline.is_some_and(|deadline| now.wall >= deadline);
    // It must be time for both, the rollout and the branch.
    let mut windows = [job.when.window, conditions.hours].into_iter().flatten();
    let closed = windows.find(|(from, to)| !is_within(now.local_minute, *from, *to));
    closed.filter(|_| !late).map(|(from, to)| Wait::Window { from, to })
}

/// Says whether a minute lies in a window, which may go over midnight. From = to is the whole day.
fn is_within(minute: u16, from: u16, to: u16) -> bool {
    if from < to { (from..to).contains(&minute) } else { minute >= from || minute < to }
}

fn replace_job(stage: &mut Stage, new: Job) {
    match stage {
        Stage::Assigned { job }
        | Stage::Checking { job }
        | Stage::Downloading { job }
        | Stage::Verifying { job }
        | Stage::Staged { job }
        | Stage::WaitWindow { job } => *job = new,
        Stage::Idle
        | Stage::Arming { .. }
        | Stage::Rebooting { .. }
        | Stage::Trial { .. }
        | Stage::Committing { .. }
        | Stage::Committed { .. }
        | Stage::RollingBack { .. }
        | Stage::RolledBack { .. }
        | Stage::Failed { .. }
        | Stage::Cancelled { .. } => {}
    }
}
