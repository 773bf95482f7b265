//! The scripts: those that new calls may name, and every older version that a call still speaks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Instant;

use jiff::Timestamp;
use trunkline_db::{Db, DbError};
use trunkline_dialogue::Script;
use trunkline_model::{ScriptId, ScriptVersion};
use trunkline_nlu::Engine;
use trunkline_turn::PrepareError;

/// Why scripts could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ScriptsError {
    /// The folder cannot be read.
    #[error("could not read the script folder `{path}`; set `scripts.dir` to a folder that exists")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is nothing in it.
    #[error("the script folder `{0}` holds no *.yaml file; put a script there")]
    Empty(PathBuf),
    /// Files are wrong: every finding of every file.
    #[error("{}", .0.join("\n"))]
    Wrong(Vec<String>),
    /// The database failed.
    #[error("a script could not be stored")]
    Db(#[from] DbError),
    /// A script that cannot be understood.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
}

/// The scripts in use.
pub struct Scripts {
    current: BTreeMap<ScriptId, Arc<Script>>,
    versions: RwLock<BTreeMap<ScriptVersion, Arc<Script>>>,
}

impl Scripts {
    /// Reads every `*.yaml` and `*.yml` file of a folder.
    ///
    /// # Errors
    /// [`ScriptsError::Folder`], [`ScriptsError::Empty`], or [`ScriptsError::Wrong`] with all that is
    /// wrong in all files.
    pub fn read(dir: &Path) -> Result<Self, ScriptsError> {
        let folder = |source| ScriptsError::Folder { path: dir.to_owned(), source };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(folder)? {
            let path = entry.map_err(folder)?.path();
            if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
                files.push(path);
            }
        }
        files.sort();
        let mut current: BTreeMap<ScriptId, Arc<Script>> = BTreeMap::new();
        let mut wrong = Vec::new();
        for path in &files {
            let loaded = std::fs::read(path)
                .map_err(|error| error.to_string())
                .and_then(|bytes| Script::load_bytes(&bytes).map_err(|error| error.to_string()));
            match loaded {
                Ok(script) if current.contains_key(script.id()) => {
                    let id = script.id();
                    wrong.push(format!("{}: another file has a script `{id}` too", path.display()));
                }
                Ok(script) => {
                    current.insert(script.id().clone(), Arc::new(script));
                }
                Err(findings) => {
                    wrong.extend(findings.lines().map(|line| format!("{}: {line}", path.display())));
                }
            }
        }
        if !wrong.is_empty() {
            return Err(ScriptsError::Wrong(wrong));
        }
        if current.is_empty() {
            return Err(ScriptsError::Empty(dir.to_owned()));
        }
        let versions = current.values().map(|script| (script.version().clone(), Arc::clone(script)));
        Ok(Self { versions: RwLock::new(versions.collect()), current })
    }

    /// Keeps the canonical texts in the database and trains the understanding for each script.
    ///
    /// # Errors
    /// [`ScriptsError::Db`] or [`ScriptsError::Prepare`].
    pub async fn prepare(&self, db: &Db, engine: &Arc<Engine>) -> Result<(), ScriptsError> {
        // Side by side: training is what a start waits for.
        let prepared = self.current.values().map(async |script| {
            db.save_script(script.id(), script.version(), script.canonical(), Timestamp::now()).await?;
            let began = Instant::now();
            train(engine, script).await?;
            let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::info!(script = %script.id(), version = %script.version(), took_ms, "Script ready");
            Ok::<(), ScriptsError>(())
        });
        futures_util::future::try_join_all(prepared).await?;
        Ok(())
    }

    /// Returns the script that a new call gets.
    pub fn current(&self, id: &ScriptId) -> Option<&Arc<Script>> {
        self.current.get(id)
    }

    /// Returns all scripts that a new call may name.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Script>> {
        self.current.values()
    }

    /// Returns a version that some call speaks, also one whose file has changed since.
    ///
    /// # Errors
    /// [`ScriptsError`] when the stored text is not usable by this build.
    pub async fn version(
        &self,
        version: &ScriptVersion,
        db: &Db,
        engine: &Arc<Engine>,
    ) -> Result<Option<Arc<Script>>, ScriptsError> {
        if let Some(script) = self.known(version) {
            return Ok(Some(script));
        }
        let Some(canonical) = db.script(version).await? else { return Ok(None) };
        let script = Script::load(&canonical)
            .map_err(|error| ScriptsError::Wrong(vec![format!("stored version {version}: {error}")]))?;
        let script = Arc::new(script);
        train(engine, &script).await?;
        if let Ok(mut versions) = self.versions.write() {
            versions.insert(version.clone(), Arc::clone(&script));
        }
        Ok(Some(script))
    }

    fn known(&self, version: &ScriptVersion) -> Option<Arc<Script>> {
        self.versions.read().ok()?.get(version).cloned()
    }
}

async fn train(engine: &Arc<Engine>, script: &Arc<Script>) -> Result<(), ScriptsError> {
    let (engine, task) = (Arc::clone(engine), Arc::clone(script));
    match tokio::task::spawn_blocking(move || trunkline_turn::prepare(&engine, &task)).await {
        Ok(result) => Ok(result?),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
