//! Programs in Python that others wrote: installed into a folder of the cache, and asked a line at a time.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;

/// Lies in the folder when everything is installed.
const DONE: &str = "installed";

/// A folder with packages and a script of ours that uses them.
pub(crate) struct Python {
    dir: PathBuf,
    python: PathBuf,
    script: PathBuf,
}

impl Python {
    /// Names the folder, whether it is there or not.
    pub(crate) fn at(dir: PathBuf) -> Self {
        Self { python: dir.join("venv/bin/python"), script: dir.join("script.py"), dir }
    }

    /// Whether something was installed, to its end.
    pub(crate) fn is_installed(&self) -> bool {
        self.dir.join(DONE).is_file()
    }

    /// Installs packages, each named with its version.
    ///
    /// # Errors
    /// When there is no Python, or the packages cannot be had.
    pub(crate) fn install(&self, packages: &[&str]) -> Result<()> {
        std::fs::create_dir_all(&self.dir).with_context(|| format!("cannot make {}", self.dir.display()))?;
        if !self.python.is_file() {
            run(Command::new("python3").args(["-m", "venv"]).arg(self.dir.join("venv")))?;
        }
        run(Command::new(&self.python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(packages))?;
        let done = self.dir.join(DONE);
        std::fs::write(&done, packages.join("\n")).with_context(|| format!("cannot write {}", done.display()))
    }

    /// A command that runs the script, which is written anew.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn script(&self, text: &str) -> Result<Command> {
        std::fs::write(&self.script, text)
            .with_context(|| format!("cannot write {}", self.script.display()))?;
        let mut command = Command::new(&self.python);
        command.arg(&self.script);
        Ok(command)
    }
}

/// Runs a command to its end, without what it says.
///
/// # Errors
/// When it cannot be run or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command.stdout(Stdio::null()).status().with_context(|| format!("cannot run {shown}"))?;
    anyhow::ensure!(status.success(), "{shown} failed: {status}");
    Ok(())
}

/// A running program that answers each line with a line, both in JSON; it ends when this is dropped.
pub(crate) struct Session {
    child: Child,
    jobs: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    sounds: tempfile::TempDir,
}

impl Session {
    /// Starts a command.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let shown = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {shown}"))?;
        let (Some(jobs), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("{shown} has no pipes");
        };
        let sounds = tempfile::tempdir().context("cannot make a folder for the sound")?;
        Ok(Self { child, jobs: Some(jobs), answers: BufReader::new(answers), sounds })
    }

    /// Writes sound where the program can read it, for as long as the session lasts; a second one of the same name
    /// takes its place.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn sound(&self, name: &str, rate: u32, samples: &[i16]) -> Result<PathBuf> {
        let file = self.sounds.path().join(name);
        trunkline_audio::wav::write(&file, rate, &[samples])
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }

    /// Gives it a job and returns the answer.
    ///
    /// # Errors
    /// When it has ended, or answers something else.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, job: &serde_json::Value) -> Result<T> {
        let jobs = self.jobs.as_mut().context("the other program has ended")?;
        writeln!(jobs, "{job}")?;
        jobs.flush()?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("the other program said `{}`", line.trim()))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Without jobs to come it ends by itself.
        self.jobs = None;
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_fails_is_named() {
        let error = run(Command::new("false").arg("--this")).unwrap_err();
        assert!(error.to_string().contains("--this"), "{error}");
    }

    #[test]
    fn a_program_is_asked_and_what_it_says_amiss_is_shown() {
        let mut session = Session::start(&mut Command::new("cat")).unwrap();
        let answer: Vec<u32> = session.ask(&serde_json::json!([1, 2])).unwrap();
        assert_eq!(answer, [1, 2]);
        let error = session.ask::<Vec<u32>>(&serde_json::json!("no")).unwrap_err();
        assert!(error.to_string().contains("no"), "{error}");
    }
}
