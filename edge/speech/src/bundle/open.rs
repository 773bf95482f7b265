//! From a bundle to a recogniser; and from the bundle in use, or one before it, when that one fails.

use std::sync::Arc;

use super::{Bundle, BundleError, BundleName, Bundles, Engine, Role, files};
use crate::recognise::{
    LoadError, OnnxConfig, OnnxError, OnnxFiles, OnnxRecognizer, Recognizer, Whisper, WhisperConfig,
};

/// Why a bundle gives no recogniser.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not there or not whole.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// whisper.cpp does not take its model.
    #[error("bundle {bundle} does not load")]
    Whisper {
        /// Which bundle.
        bundle: BundleName,
        /// What whisper.cpp said.
        source: LoadError,
    },
    /// ONNX Runtime does not take its model.
    #[error("bundle {bundle} does not load")]
    Onnx {
        /// Which bundle.
        bundle: BundleName,
        /// What is wrong with it.
        source: Box<OnnxError>,
    },
}

/// How much of the machine a recogniser may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// Utterances at the same time.
    pub states: usize,
    /// Threads for each, where the engine fixes them when it opens a model.
    pub threads: usize,
}

/// Makes a recogniser of a bundle. Its files are compared with their lengths and hashes first; `stamps`
/// remembers hashes that were right.
///
/// # Errors
/// See [`OpenError`].
pub fn open(bundle: &Bundle, tuning: Tuning) -> Result<Arc<dyn Recognizer>, OpenError> {
    let stamps = bundle.dir.parent().and_then(|dir| dir.parent()).map(|dir| dir.join(".stamps"));
    for file in &bundle.manifest.files {
        files::check(bundle, file, stamps.as_deref())?;
    }
    let name = bundle.manifest.name();
    let file = |role: Role| {
        let missing = || BundleError::Missing { bundle: name.clone(), path: role.name().into() };
        bundle.file(role).ok_or_else(missing)
    };
    let files = match bundle.manifest.engine {
        Engine::Whisper => {
            let config = WhisperConfig { states: tuning.states, ..WhisperConfig::default() };
            let whisper = Whisper::load(&file(Role::Model)?, config)
                .map_err(|source| OpenError::Whisper { bundle: name.clone(), source })?;
            return Ok(Arc::new(whisper));
        }
        Engine::Ctc => OnnxFiles::Ctc { model: file(Role::Model)?, tokens: file(Role::Tokens)? },
        Engine::Paraformer => {
            OnnxFiles::Paraformer { model: file(Role::Model)?, tokens: file(Role::Tokens)? }
        }
        Engine::Transducer => OnnxFiles::Transducer {
            encoder: file(Role::Encoder)?,
            decoder: file(Role::Decoder)?,
            joiner: file(Role::Joiner)?,
            tokens: file(Role::Tokens)?,
        },
    };
    let config = OnnxConfig {
        languages: bundle.manifest.known_languages(),
        states: tuning.states,
        threads: tuning.threads,
        ..OnnxConfig::default()
    };
    let recognizer = OnnxRecognizer::load(&files, config)
        .map_err(|error| OpenError::Onnx { bundle: name.clone(), source: Box::new(error) })?;
    Ok(Arc::new(recognizer))
}

/// A recogniser of a box's bundles.
pub struct Opened {
    /// The recogniser.
    pub recognizer: Arc<dyn Recognizer>,
    /// Which bundle it is of.
    pub name: BundleName,
    /// Those that should have been used and do not load, with what is wrong. When this is not empty,
    /// somebody must be told.
    pub failed: Vec<(BundleName, OpenError)>,
}

/// Opens the bundle that is asked for or else in use; when it does not load, those before it, the latest
/// first. What is in use is not changed by that: the next start tries it again. `Ok(None)`: no bundle is
/// in use.
///
/// # Errors
/// When bundles are in use and none of them loads: all of them, with what is wrong.
pub fn open_active(
    bundles: &Bundles,
    asked: Option<&BundleName>,
    tuning: Tuning,
) -> Result<Option<Opened>, Vec<(BundleName, OpenError)>> {
    let mut failed: Vec<(BundleName, OpenError)> = Vec::new();
    let mut names: Vec<BundleName> = asked.cloned().into_iter().collect();
    match bundles.active().and_then(|active| Ok((active, bundles.before()?))) {
        Ok((active, before)) => names.extend(active.into_iter().chain(before)),
        // Which were in use is not known: whatever is installed may be tried.
        Err(error) => {
            let installed = bundles.list().unwrap_or_default();
            names.extend(installed.into_iter().map(|bundle| bundle.manifest.name()));
            match names.first() {
                Some(first) => failed.push((first.clone(), error.into())),
                None => {
                    tracing::error!(%error, "No bundle is installed, and which one should be in use cannot be read: {error}");
                    return Ok(None);
                }
            }
        }
    }
    let mut tried: Vec<BundleName> = Vec::new();
    for name in names {
        if tried.contains(&name) {
            continue;
        }
        match bundles.get(&name).map_err(OpenError::from).and_then(|bundle| open(&bundle, tuning)) {
            Ok(recognizer) => return Ok(Some(Opened { recognizer, name, failed })),
            Err(error) => failed.push((name.clone(), error)),
        }
        tried.push(name);
    }
    if failed.is_empty() { Ok(None) } else { Err(failed) }
}
