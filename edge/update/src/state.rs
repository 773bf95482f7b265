//! What the box remembers of an update across power cuts, and how it tells others about it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trunkline_trust::{Release, Schedule, Sha256};

/// A version that failed this often on a box is refused there until somebody asks for it again.
pub const FAILURES: u8 = 2;
/// How many failed versions are remembered; the ones that were assigned first are forgotten first.
pub const REMEMBERED: usize = 16;

/// What is to be installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The target's name in the releases.
    pub name: String,
    /// The hash of the manifest.
    pub version: Sha256,
    /// The length of the manifest in bytes.
    pub length: u64,
    /// What the version says about itself.
    pub release: Release,
    /// When it may be switched to.
    pub when: Schedule,
    /// The number of the assignment.
    pub assignment: u64,
}

/// How far an update has come. Written before each step is taken; each state can be entered again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum Stage {
    /// Nothing was ever assigned.
    #[default]
    Idle,
    /// Something new is to be installed.
    Assigned {
        /// What.
        job: Job,
    },
    /// Is there room, power, a boot record that can be written? What is missing?
    Checking {
        /// What.
        job: Job,
    },
    /// Chunks are being fetched into the other slot.
    Downloading {
        /// What.
        job: Job,
    },
    /// The slot is read back.
    Verifying {
        /// What.
        job: Job,
    },
    /// The slot is sealed.
    Staged {
        /// What.
        job: Job,
    },
    /// For its hours, for calls to end, for a lock to go.
    WaitWindow {
        /// What.
        job: Job,
    },
    /// The slot is being put on trial. From here on it cannot be cancelled.
    Arming {
        /// What.
        job: Job,
    },
    /// The process or the machine is to start again.
    Rebooting {
        /// What.
        job: Job,
        /// How often a start was asked for.
        asked: u8,
    },
    /// The new version runs and tests itself.
    Trial {
        /// What.
        job: Job,
    },
    /// It passed; the slot becomes the good one.
    Committing {
        /// What.
        job: Job,
    },
    /// It is the good one.
    Committed {
        /// What.
        job: Job,
    },
    /// It failed; the next start is the old version.
    RollingBack {
        /// What.
        job: Job,
        /// Why.
        reason: Reason,
    },
    /// The old version runs again.
    RolledBack {
        /// What.
        job: Job,
        /// Why.
        reason: Reason,
        /// When it is tried once more; never when it failed too often.
        retry: Option<Timestamp>,
    },
    /// It was refused, or it could not be staged.
    Failed {
        /// What.
        job: Job,
        /// Why.
        reason: Reason,
    },
    /// Somebody took it back before it was armed, or something newer was assigned.
    Cancelled {
        /// What.
        job: Job,
    },
}

/// Why an update ended otherwise than by a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Reason {
    /// Older than what a committed version allows.
    BelowFloor {
        /// The least release number that is allowed.
        floor: u64,
    },
    /// Made for other machines.
    WrongPlatform,
    /// It failed here before, too often.
    FailedBefore,
    /// The server says that it does not have it, or does not give it (4xx).
    Refused {
        /// The status.
        status: u16,
    },
    /// What was fetched is not what was released.
    NotAsReleased {
        /// What is wrong.
        detail: String,
    },
    /// The slot does not keep what is written to it.
    BadMedium {
        /// What is wrong.
        detail: String,
    },
    /// The new version was started as often as allowed and never passed.
    NeverPassed,
    /// The new version was never started.
    NeverStarted,
    /// The self-test failed.
    SelfTest {
        /// The checks that failed, with what they said.
        failed: Vec<(String, String)>,
    },
    /// The self-test did not end in time.
    SelfTestTimeout,
}

/// What an update waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "for", rename_all = "snake_case")]
pub enum Wait {
    /// The battery or the supply is too weak.
    Power,
    /// The boot record cannot be written.
    BootRecord {
        /// What the disk said.
        detail: String,
    },
    /// The slot has no room.
    Room {
        /// Bytes that are needed.
        need: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The line is metered and this much would have to be fetched.
    Metered {
        /// Bytes.
        bytes: u64,
    },
    /// The network or the disk failed; another try follows.
    Retry {
        /// What went wrong.
        after: String,
        /// How often in a row.
        tries: u32,
    },
    /// The hours in which the box may switch.
    Window {
        /// Minute of the local day.
        from: u16,
        /// Minute of the local day.
        to: u16,
    },
    /// Calls that have not ended.
    Calls {
        /// How many.
        count: u32,
    },
    /// Somebody on site holds the box.
    Lock,
    /// Another component is being switched.
    OtherComponent,
    /// The second try after a roll-back.
    SecondTry {
        /// When.
        at: Timestamp,
    },
}

/// What is installed and works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// The hash of the manifest.
    pub version: Sha256,
    /// What the version says about itself.
    pub release: Release,
}

/// The state file of one component.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// How far.
    #[serde(flatten)]
    pub stage: Stage,
    /// What is installed and works.
    pub current: Option<Installed>,
    /// Releases below this number are refused. Rises with a commit, never falls.
    pub floor: u64,
    /// How often versions failed here.
    #[serde(default)]
    pub failures: BTreeMap<Sha256, Failures>,
}

/// How often a version failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// How often.
    pub count: u8,
    /// The assignment under which it failed last.
    pub assignment: u64,
}

impl Stage {
    /// Returns the name of the state.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Assigned { .. } => "assigned",
            Self::Checking { .. } => "checking",
            Self::Downloading { .. } => "downloading",
            Self::Verifying { .. } => "verifying",
            Self::Staged { .. } => "staged",
            Self::WaitWindow { .. } => "wait_window",
            Self::Arming { .. } => "arming",
            Self::Rebooting { .. } => "rebooting",
            Self::Trial { .. } => "trial",
            Self::Committing { .. } => "committing",
            Self::Committed { .. } => "committed",
            Self::RollingBack { .. } => "rolling_back",
            Self::RolledBack { .. } => "rolled_back",
            Self::Failed { .. } => "failed",
            Self::Cancelled { .. } => "cancelled",
        }
    }

    /// Returns what it is about.
    pub fn job(&self) -> Option<&Job> {
        match self {
            Self::Idle => None,
            Self::Assigned { job }
            | Self::Checking { job }
            | Self::Downloading { job }
            | Self::Verifying { job }
            | Self::Staged { job }
            | Self::WaitWindow { job }
            | Self::Arming { job }
            | Self::Rebooting { job, .. }
            | Self::Trial { job }
            | Self::Committing { job }
            | Self::Committed { job }
            | Self::RollingBack { job, .. }
            | Self::RolledBack { job, .. }
            | Self::Failed { job, .. }
            | Self::Cancelled { job } => Some(job),
        }
    }

    /// Says whether an update is under way that can still be taken back.
    pub fn is_before_arming(&self) -> bool {
        match self {
            Self::Assigned { .. }
            | Self::Checking { .. }
            | Self::Downloading { .. }
            | Self::Verifying { .. }
            | Self::Staged { .. }
            | Self::WaitWindow { .. } => true,
            Self::Idle
            | Self::Arming { .. }
            | Self::Rebooting { .. }
            | Self::Trial { .. }
            | Self::Committing { .. }
            | Self::Committed { .. }
            | Self::RollingBack { .. }
            | Self::RolledBack { .. }
            | Self::Failed { .. }
            | Self::Cancelled { .. } => false,
        }
    }

    /// Says whether the box is between two versions.
    pub fn is_switching(&self) -> bool {
        match self {
            Self::Arming { .. }
            | Self::Rebooting { .. }
            | Self::Trial { .. }
            | Self::Committing { .. }
            | Self::RollingBack { .. } => true,
            Self::Idle
            | Self::Assigned { .. }
            | Self::Checking { .. }
            | Self::Downloading { .. }
            | Self::Verifying { .. }
            | Self::Staged { .. }
            | Self::WaitWindow { .. }
            | Self::Committed { .. }
            | Self::RolledBack { .. }
            | Self::Failed { .. }
            | Self::Cancelled { .. } => false,
        }
    }

    /// Returns why it ended, if it did not end well.
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Self::RollingBack { reason, .. }
            | Self::RolledBack { reason, .. }
            | Self::Failed { reason, .. } => Some(reason),
            Self::Idle
            | Self::Assigned { .. }
            | Self::Checking { .. }
            | Self::Downloading { .. }
            | Self::Verifying { .. }
            | Self::Staged { .. }
            | Self::WaitWindow { .. }
            | Self::Arming { .. }
            | Self::Rebooting { .. }
            | Self::Trial { .. }
            | Self::Committing { .. }
            | Self::Committed { .. }
            | Self::Cancelled { .. } => None,
        }
    }
}

/// What a box reports about one component; goes into its reported document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The component.
    pub component: String,
    /// What is installed and works.
    pub current: Option<Installed>,
    /// The least release number that the box takes.
    pub floor: u64,
    /// The name of the state; see [`Stage`].
    pub stage: String,
    /// What it is about.
    pub job: Option<Job>,
    /// Why it ended, if it did not end well.
    pub reason: Option<Reason>,
    /// What it waits for.
    pub waiting: Option<Wait>,
    /// Bytes fetched of this version since the process started.
    pub fetched: u64,
    /// Bytes that are still to be fetched, once that is known.
    pub to_fetch: Option<u64>,
}
