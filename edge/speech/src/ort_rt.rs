//! ONNX Runtime: found in the model folder, loaded once per process, one place for session options.
//!
//! The library is loaded when first asked for (`libonnxruntime.so` beside the models), not linked,
//! so a box whose library is missing still starts and says what is missing.
//!
//! **Invariant:** a process has one ONNX environment. Whoever asks first decides which library file
//! is used; later calls get the same environment, whatever path they name.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
static LOADING: Mutex<()> = Mutex::new(());

/// Why a model could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OrtError {
    /// The shared library is not there, or is too old for this build.
    #[error("could not load ONNX Runtime from `{path}`: {reason}")]
    Library {
        /// Where it was looked for.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// The runtime refused to start.
    #[error("could not start ONNX Runtime")]
    Environment(#[source] ort::Error),
    /// The model file is missing or is no valid model.
    #[error("could not open model `{path}`")]
    Model {
        /// The model file.
        path: PathBuf,
        /// What the runtime said.
        source: ort::Error,
    },
    /// A session option was refused.
    #[error("could not set session option {option}: {reason}")]
    Option {
        /// Which option.
        option: &'static str,
        /// What the runtime said.
        reason: String,
    },
}

/// How a session runs. The default suits a box that holds many calls: one thread per model, so that
/// one synthesis cannot take the cores from the calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionSettings {
    /// Threads inside one operator, 1 or more.
    pub intra_threads: usize,
    /// Plan memory ahead by the first run's shapes. Helps only where the input length never changes.
    pub memory_pattern: bool,
    /// Let idle threads spin for work: a little faster with several threads, and burns a core.
    pub spin: bool,
    /// Keep a growing arena for tensors instead of giving memory back after each run.
    pub arena: bool,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self { intra_threads: 1, memory_pattern: true, spin: false, arena: true }
    }
}

/// The folder that holds the models: `$TRUNKLINE_MODELS`, else `$XDG_CACHE_HOME/trunkline/models`,
/// else `~/.cache/trunkline/models`.
pub fn model_dir() -> PathBuf {
    let named = |key: &str| std::env::var_os(key).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(dir) = named("TRUNKLINE_MODELS") {
        return dir;
    }
    let cache = named("XDG_CACHE_HOME")
        .or_else(|| named("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(|| PathBuf::from("."));
    cache.join("trunkline").join("models")
}

/// The ONNX Runtime library inside a model folder.
pub fn library_in(model_dir: &Path) -> PathBuf {
    model_dir.join("libonnxruntime.so")
}

/// Loads ONNX Runtime from `library` and starts its environment; later calls return the first one.
///
/// # Errors
/// [`OrtError::Library`] when the file is missing or too old, [`OrtError::Environment`] when it does
/// not start. A failed call leaves nothing behind and may be repeated.
pub fn init_ort(library: &Path) -> Result<&'static Environment, OrtError> {
    let _one_at_a_time = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = ENVIRONMENT.get() {
        return Ok(environment);
    }
    let refused = |reason: String| OrtError::Library { path: library.to_owned(), reason };
    if !library.is_file() {
        return Err(refused("no such file".to_owned()));
    }
    let builder = ort::environment::init_from(library).map_err(|e| refused(e.to_string()))?;
    let environment = builder.with_name("trunkline").build().map_err(OrtError::Environment)?;
    environment.set_log_level(ort::logging::LogLevel::Error);
    Ok(ENVIRONMENT.get_or_init(|| environment))
}

/// Opens a model with the library that lies in the model folder ([`model_dir`]) unless one is loaded
/// already.
///
/// # Errors
/// See [`OrtError`].
pub fn open_session(model: &Path, settings: SessionSettings) -> Result<Session, OrtError> {
    let environment = match ENVIRONMENT.get() {
        Some(environment) => environment,
        None => init_ort(&library_in(&model_dir()))?,
    };
    let failed = |source| OrtError::Model { path: model.to_owned(), source };
    let builder = Session::builder(environment).map_err(failed)?;
    let mut builder = configure(builder, settings)?;
    builder.commit_from_file(model).map_err(failed)
}

fn configure(builder: SessionBuilder, settings: SessionSettings) -> Result<SessionBuilder, OrtError> {
    fn named(
        option: &'static str,
        result: ort::session::builder::BuilderResult,
    ) -> Result<SessionBuilder, OrtError> {
        result.map_err(|e| OrtError::Option { option, reason: e.to_string() })
    }
    let flag = |on: bool| if on { "1" } else { "0" };
    let mut b = named("optimization level", builder.with_optimization_level(GraphOptimizationLevel::Level3))?;
    b = named("intra threads", b.with_intra_threads(settings.intra_threads.max(1)))?;
    b = named("inter threads", b.with_inter_threads(1))?;
    b = named("memory pattern", b.with_memory_pattern(settings.memory_pattern))?;
    b = named("spinning", b.with_config_entry("session.intra_op.allow_spinning", flag(settings.spin)))?;
    if !settings.arena {
        let cpu = ort::memory::MemoryInfo::new(
            ort::memory::AllocationDevice::CPU,
            0,
            ort::memory::AllocatorType::Device,
            ort::memory::MemoryType::Default,
        )
        .map_err(|e| OrtError::Option { option: "allocator", reason: e.to_string() })?;
        b = named("allocator", b.with_allocator(cpu))?;
    }
    Ok(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_named_in_the_error() {
        if ENVIRONMENT.get().is_some() {
            return;
        }
        let error = init_ort(Path::new("/nonexistent/libonnxruntime.so"));

        let text = error.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(text.is_empty() || text.contains("/nonexistent/libonnxruntime.so"), "{text}");
    }
}
