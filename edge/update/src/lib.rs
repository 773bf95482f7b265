//! Updates of the box: fetch, verify, stage, switch, prove, commit or roll back.
//!
//! - [`Machine`] is the way of one component from version to version, without I/O. Each state is written
//!   down before anything follows from it, and can be entered again after a power cut.
//! - [`FileSlots`] holds two versions in two folders. A slot is sealed once every byte was read back from
//!   the medium; [`launch`] starts sealed slots only, counts the starts of one on trial, and falls back.
//! - [`Updater`] puts metadata (`shared/trust`), machines and slots together. The shell around it
//!   (`edge/agent`) does what [`Todo`] says: it has the network, the clock, the calls and the self-test.
//! - [`Packer`] cuts a version into chunks by content, so that only what changed travels; [`FolderSource`]
//!   is a repository on a stick.
//!
//! **Invariant:** a version starts only when the releases (offline keys) and the assignment (online key) named
//! its hash and every byte of it was read back.
//! **Invariant:** whatever is cut off at any moment, the next start is the last version that was committed, or
//! the new one as a trial that is counted.
//! **Invariant:** the floor rises with a commit and never falls; a commit waits for nobody outside.
//!
//! Absent on purpose: HTTP, the self-test's checks, and slots on partitions (`RaucSlots` implements [`Slots`]).

mod boot;
mod chunk;
mod disk;
mod machine;
mod manifest;
mod slots;
mod state;
mod stick;
mod updater;

pub use boot::{BootRecord, OnTrial, Slot};
pub use disk::{Disk, RealDisk, copy_durably, replace};
pub use machine::{
    Action, Check, Conditions, Fault, LOOK_AGAIN, Machine, Now, RESERVE, SECOND_TRY, SELF_TEST,
};
pub use manifest::{
    Chunk, File, MAX_CHUNK, MAX_MANIFEST, MAX_RANGE, Manifest, ManifestError, Packer, Range, ranges,
};
pub use slots::{FileSlots, Missing, Sealed, SlotError, Slots, Start, TRIES, launch};
pub use state::{FAILURES, Failures, Installed, Job, REMEMBERED, Reason, Stage, State, Status, Wait};
pub use stick::{FolderSource, ResultError, STICK_FOLDER, StickResult, read_result, write_result};
pub use updater::{BESIDE_CALLS, Config, FETCH_TIME, Fetch, FetchError, SLOWEST, Todo, Updater};
