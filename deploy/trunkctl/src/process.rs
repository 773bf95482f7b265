//! Child processes: started, waited for until they say `ready`, stopped by their own id.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const STOP_WITHIN: Duration = Duration::from_secs(10);

/// A program that runs beside this one; it is stopped when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    lines: Arc<Mutex<VecDeque<String>>>,
}

/// What a process is doing to the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory in KiB.
    pub memory_kib: u64,
    /// Threads.
    pub threads: u64,
    /// Open files and sockets.
    pub files: u64,
}

impl Process {
    /// Starts `program` and waits until it prints a line that begins with `ready`; returns that line
    /// too. What it logs goes to `log`.
    ///
    /// # Errors
    /// When it cannot be started, ends, or is not ready within `within`; the end of its log is told.
    pub fn start(
        name: &str,
        program: &Path,
        args: &[&str],
        log: &Path,
        within: Duration,
    ) -> Result<(Self, String)> {
        let stderr = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .with_context(|| {
                format!("cannot start {}; build it first: cargo build --workspace", program.display())
            })?;
        let stdout = child.stdout.take().context("no standard output")?;
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let (ready_tx, ready) = mpsc::channel();
        let kept = Arc::clone(&lines);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { return };
                if line.starts_with("ready") {
                    let _ = ready_tx.send(line);
                } else {
                    kept.lock().unwrap_or_else(PoisonError::into_inner).push_back(line);
                }
            }
        });
        let mut process = Self { name: name.to_owned(), child, log: log.to_owned(), lines };
        let deadline = Instant::now() + within;
        loop {
            match ready.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => return Ok((process, line)),
                Err(mpsc::RecvTimeoutError::Timeout | mpsc::RecvTimeoutError::Disconnected) => {
                    if let Some(status) = process.child.try_wait()? {
                        bail!("{name} ended at once ({status}):\n{}", process.log_tail());
                    }
                    if Instant::now() > deadline {
                        bail!("{name} was not ready within {} s:\n{}", within.as_secs(), process.log_tail());
                    }
                    thread::sleep(Duration::from_millis(20));
                }
            }
        }
    }

    /// Returns its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Takes the lines that it printed since the last call.
    pub fn take_lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    /// Returns the end of its log.
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// Says whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Returns what it uses now, as `/proc` tells.
    pub fn usage(&self) -> Usage {
        let dir = PathBuf::from(format!("/proc/{}", self.child.id()));
        let status = fs::read_to_string(dir.join("status")).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        Usage {
            memory_kib: field("VmRSS:").unwrap_or(0),
            threads: field("Threads:").unwrap_or(0),
            files: fs::read_dir(dir.join("fd")).map_or(0, |entries| entries.count() as u64),
        }
    }

    /// Kills it at once, as a power cut would.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to stop and waits; kills it when it does not.
    ///
    /// # Errors
    /// When it ended with a status other than success.
    pub fn stop(mut self) -> Result<()> {
        let status = self.end()?;
        if !status.success() {
            bail!("{} ended with {status}:\n{}", self.name, self.log_tail());
        }
        Ok(())
    }

    fn end(&mut self) -> Result<std::process::ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        let pid = Pid::from_raw(i32::try_from(self.child.id()).context("a process id beyond the system's")?);
        kill(pid, Signal::SIGTERM).context("cannot signal a child")?;
        let deadline = Instant::now() + STOP_WITHIN;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.child.kill()?;
        Ok(self.child.wait()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
