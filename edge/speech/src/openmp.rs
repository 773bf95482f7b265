//! How the threads of one computation wait for each other.
//!
//! whisper.cpp splits each operator over OpenMP threads, which meet some thousand times in an
//! utterance. Threads that spin for long while they wait eat a busy box (ten times the time, measured
//! with two on two busy cores); threads that sleep at once lose a third of the decoder's speed to
//! waking up. A short spin has neither fault. The OpenMP runtime reads its settings when a process
//! starts, so they cannot be set from within: the process starts itself once more.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Rounds of spinning before a thread sleeps; some ten microseconds. Measured: 0 costs 40 % more per
/// decoder step with two threads, 100,000 gains nothing over this.
const SPIN: &str = "5000";
const SPIN_COUNT: &str = "GOMP_SPINCOUNT";
const WAIT_POLICY: &str = "OMP_WAIT_POLICY";

/// Tells whether the threads of this process wait for each other as they should.
#[must_use]
pub fn is_settled() -> bool {
    std::env::var_os(SPIN_COUNT).is_some() || std::env::var_os(WAIT_POLICY).is_some()
}

/// Starts this program again with the settings, unless somebody set them: to be called first in `main`.
/// The process keeps its id, arguments and environment.
///
/// # Errors
/// When the program cannot be started again; it can go on as it is.
pub fn settle() -> io::Result<()> {
    if is_settled() {
        return Ok(());
    }
    let mut arguments = std::env::args_os();
    let mut program = Command::new(std::env::current_exe()?);
    if let Some(name) = arguments.next() {
        program.arg0(name);
    }
    Err(program.args(arguments).env(SPIN_COUNT, SPIN).exec())
}
