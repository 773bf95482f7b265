//! A real process on a real folder, killed in each state: SIGKILL, then the launcher and a new process.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{End, Life, Repo, Verdict};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use trunkline_trust::Schedule;
use trunkline_update::{Disk, RealDisk, State};

const DIR: &str = "TRUNKLINE_UPDATE_TEST_DIR";
const KILL_IN: &str = "TRUNKLINE_UPDATE_TEST_KILL_IN";
const VERDICT: &str = "TRUNKLINE_UPDATE_TEST_VERDICT";

fn repo() -> Repo {
    let mut repo = Repo::new();
    repo.release("app", "1.0.0", 1, 0);
    repo.release("app", "2.0.0", 2, 2);
    repo
}

/// A real folder whose process is killed as soon as a state is written down.
#[derive(Clone)]
struct Deadly {
    disk: RealDisk,
    kill_in: Option<(String, PathBuf)>,
}

impl Deadly {
    fn new(dir: PathBuf) -> Self {
        Self { disk: RealDisk::new(&dir).unwrap(), kill_in: None }
    }
}

impl Disk for Deadly {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        self.disk.read(path)
    }
    fn read_at(&self, path: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.disk.read_at(path, offset, len)
    }
    fn len(&self, path: &str) -> io::Result<Option<u64>> {
        self.disk.len(path)
    }
    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.disk.list(path)
    }
    fn free(&self) -> io::Result<u64> {
        self.disk.free()
    }
    fn create_dir(&mut self, path: &str) -> io::Result<()> {
        self.disk.create_dir(path)
    }
    fn write_at(&mut self, path: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.write_at(path, offset, bytes)
    }
    fn set(&mut self, path: &str, len: u64, mode: u32) -> io::Result<()> {
        self.disk.set(path, len, mode)
    }
    fn sync(&mut self, path: &str) -> io::Result<()> {
        self.disk.sync(path)
    }
    fn sync_dir(&mut self, path: &str) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)?;
        if let (Some((state, marker)), "state.json") = (&self.kill_in, to)
            && !marker.exists()
        {
            let written: State = serde_json::from_slice(&self.disk.read(to)?)?;
            if written.stage.name() == state {
                std::fs::write(marker, state)?;
                kill(Pid::this(), Signal::SIGKILL).unwrap();
            }
        }
        Ok(())
    }
    fn remove(&mut self, path: &str) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn remove_tree(&mut self, path: &str) -> io::Result<()> {
        self.disk.remove_tree(path)
    }
}

/// The box in `dir`; the first time, with 1.0.0 installed.
fn open(dir: &Path, verdict: &str) -> Life<Deadly> {
    let installed = dir.join("app/boot.1").exists();
    let mut repo = repo();
    let assignment = repo.assign(&["app-2.0.0.json"], Schedule::default());
    let (disk, app) = (Deadly::new(dir.join("update")), Deadly::new(dir.join("app")));
    let mut life =
        if installed { Life::on(disk, app, repo) } else { Life::new(disk, app, repo, "app-1.0.0.json") };
    life.assignment = Some(assignment);
    if verdict == "fails" {
        life.verdicts.insert("2.0.0".into(), Verdict::Fails);
    }
    life
}

/// The other side: one life of the box, from a start to the next. Does nothing when it is not started by
/// the test below.
#[test]
fn child_process() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let (kill_in, verdict) = (std::env::var(KILL_IN).unwrap(), std::env::var(VERDICT).unwrap());
    let dir = PathBuf::from(dir);
    let mut life = open(&dir, &verdict);
    life.components[0].1.kill_in = Some((kill_in, dir.join("killed")));
    let mut updater = life.start().unwrap();
    match life.run(&mut updater, || false) {
        End::Settled => std::fs::write(dir.join("settled"), updater.status()[0].stage.clone()).unwrap(),
        End::Switch => {}
        End::Died => panic!("cannot die otherwise"),
    }
}

#[test]
fn a_process_killed_in_any_state_ends_in_the_right_slot() {
    let forward = [
        "assigned",
        "checking",
        "downloading",
        "verifying",
        "staged",
        "wait_window",
        "arming",
        "rebooting",
        "trial",
        "committing",
        "committed",
    ];
    let back = ["arming", "rebooting", "trial", "rolling_back", "rolled_back"];
    let cases = forward.map(|state| ("passes", state)).into_iter().chain(back.map(|state| ("fails", state)));
    for (verdict, state) in cases {
        let dir = tempfile::tempdir().unwrap();
        let _installed = open(dir.path(), verdict);
        for _ in 0..12 {
            let done = Command::new(std::env::current_exe().unwrap())
                .args(["killed::child_process", "--exact", "--nocapture"])
                .env(DIR, dir.path())
                .env(KILL_IN, state)
                .env(VERDICT, verdict)
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(!text.contains("panicked"), "{verdict} {state}: {text}");
            if dir.path().join("settled").exists() {
                break;
            }
        }
        assert!(dir.path().join("killed").exists(), "{verdict}: was never in {state}");
        let settled = std::fs::read_to_string(dir.path().join("settled")).unwrap();
        let mut life = open(dir.path(), verdict);
        let expected = if verdict == "passes" { ("2.0.0", "committed") } else { ("1.0.0", "rolled_back") };
        assert_eq!((life.running().as_str(), settled.as_str()), expected, "killed in {state}");
    }
}
