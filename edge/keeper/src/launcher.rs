//! The launcher: starts the slot that `edge/update` chooses, and again whenever it ends.
//!
//! It is part of the machine and of no version, so that a bad version cannot take it along.

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use trunkline_update::{RealDisk, Slot, SlotError, launch};

/// The status with which a program says: start again, another version may be due (75 is `EX_TEMPFAIL` of
/// `sysexits.h`).
pub const SWITCH: u8 = 75;
/// The environment variable that tells a program its slot.
pub const SLOT_VARIABLE: &str = "TRUNKLINE_SLOT";
/// The environment variable that tells a program its version.
pub const VERSION_VARIABLE: &str = "TRUNKLINE_VERSION";

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A program that ran for so long did not end because of how it began.
const STABLE: Duration = Duration::from_secs(120);
/// Programs that are asked to stop get this time, in which calls end.
const FAREWELL: Duration = Duration::from_secs(600);

/// Why the launcher gave up.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The folder of the slots cannot be used.
    #[error("the slots in `{path}` cannot be used")]
    Slots {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no version that could be started.
    #[error("nothing can be started")]
    Nothing(#[from] SlotError),
}

/// What is started, and how.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// The folder with the two slots.
    pub slots: PathBuf,
    /// The program, relative to its slot.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
}

/// Starts versions until `stop` says so, and passes the order to stop on.
///
/// # Errors
/// [`LaunchError`]: only when nothing at all can be started. A version that ends is started again, more and
/// more slowly; one on trial is counted and given up by [`launch`].
pub async fn supervise(launcher: &Launcher, mut stop: watch::Receiver<bool>) -> Result<(), LaunchError> {
    let slots = |source| LaunchError::Slots { path: launcher.slots.clone(), source };
    let mut disk = RealDisk::new(&launcher.slots).map_err(slots)?;
    let mut pause = FIRST_PAUSE;
    loop {
        let start = launch(&mut disk)?;
        let version = &start.sealed.release.version;
        tracing::info!(version, slot = start.slot.name(), on_trial = start.on_trial, "Starting a version");
        let began = Instant::now();
        let ended = match spawn(launcher, start.slot, version) {
            Ok(mut child) => tokio::select! {
                status = child.wait() => status.map(Some),
                () = stopped(&mut stop) => {
                    farewell(&mut child).await;
                    return Ok(());
                }
            },
            Err(error) => Err(error),
        };
        match &ended {
            Ok(status) if *status == Some(ExitStatus::from_raw(i32::from(SWITCH) << 8)) => {
                tracing::info!(version, "It asks for the next start");
                pause = FIRST_PAUSE;
                continue;
            }
            Ok(status) => {
                let status = status.map(|status| status.to_string()).unwrap_or_default();
                tracing::error!(version, on_trial = start.on_trial, status, "A version ended by itself");
            }
            Err(error) => tracing::error!(version, %error, "A version could not be started"),
        }
        if began.elapsed() >= STABLE {
            pause = FIRST_PAUSE;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopped(&mut stop) => return Ok(()),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Waits for the order to stop. What the channel lends must not be held while something else is waited for.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn spawn(launcher: &Launcher, slot: Slot, version: &str) -> std::io::Result<Child> {
    let folder = launcher.slots.join(slot.name());
    Command::new(folder.join(&launcher.program))
        .args(&launcher.args)
        .env(SLOT_VARIABLE, slot.name())
        .env(VERSION_VARIABLE, version)
        .kill_on_drop(true)
        .spawn()
}

async fn farewell(child: &mut Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    if let Some(pid) = pid
        && let Err(error) = kill(pid, Signal::SIGTERM)
    {
        tracing::warn!(%error, "A program could not be asked to stop");
    }
    if tokio::time::timeout(FAREWELL, child.wait()).await.is_err() {
        tracing::error!("A program did not stop when it was asked to, and is killed");
        let _ = child.kill().await;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use trunkline_trust::Release;
    use trunkline_update::{FileSlots, Manifest, Packer, Slots as _};

    use super::*;

    /// A version whose program appends its name to a file and ends with a status.
    fn version(name: &str, number: u64, log: &Path, status: u8) -> (Manifest, Vec<u8>) {
        let script =
            format!("#!/bin/sh\necho {name} $TRUNKLINE_SLOT $1 >> {}\nexit {status}\n", log.display());
        let mut packer = Packer::default();
        packer.add("bin/program", true, script.as_bytes());
        let release = Release {
            component: "app".into(),
            version: name.into(),
            release: number,
            floor: 0,
            platforms: vec![],
        };
        packer.finish(release).unwrap()
    }

    #[tokio::test]
    async fn a_version_on_trial_that_dies_three_times_gives_way_to_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let slots = dir.path().join("slots");
        let (old, pack) = version("old", 1, &log, 0);
        let disk = FileSlots::install(RealDisk::new(&slots).unwrap(), &old, &pack).unwrap();
        // The new version is staged and armed as the updater does it.
        let (new, pack) = version("new", 2, &log, 1);
        let mut pair = FileSlots::open(disk, Slot::A);
        for chunk in pair.stage(&new).unwrap().chunks {
            let from = chunk.offset as usize;
            pair.write_chunk(&new, &chunk, &pack[from..from + chunk.length as usize]).unwrap();
        }
        assert!(pair.verify(&new).unwrap().is_empty());
        pair.arm(trunkline_trust::sha256(&new.to_bytes())).unwrap();

        let launcher = Launcher { slots, program: "bin/program".into(), args: vec!["keep".into()] };
        let (stopper, stop) = watch::channel(false);
        let running = tokio::spawn(async move { supervise(&launcher, stop).await });
        let lines = async || fs::read_to_string(&log).unwrap_or_default().lines().count();
        for _ in 0..200 {
            if lines().await >= 4 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        stopper.send(true).unwrap();
        running.await.unwrap().unwrap();
        let text = fs::read_to_string(&log).unwrap();
        let seen: Vec<&str> = text.lines().take(4).collect();
        assert_eq!(seen, ["new b keep", "new b keep", "new b keep", "old a keep"]);
    }

    #[tokio::test]
    async fn an_empty_folder_is_said_and_not_tried_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let launcher = Launcher { slots: dir.path().join("slots"), program: "x".into(), args: vec![] };
        let (_stopper, stop) = watch::channel(false);
        let error = supervise(&launcher, stop).await.unwrap_err();
        assert!(matches!(error, LaunchError::Nothing(_)), "{error}");
    }
}
