//! The scripts: those that new calls may name, and every older version that a call still speaks.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::Mutex;
use trunkline_db::{Db, DbError, Publication};
use trunkline_dialogue::{Finding, LoadError, Script, lint, lint_under};
use trunkline_model::{ScriptId, ScriptVersion};
use trunkline_nlu::Engine;
use trunkline_policy::Pack;
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

/// Why a script was not published. Nothing has changed when this is returned.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The linter found errors: all findings, warnings too.
    #[error("the script has errors")]
    Rejected(Vec<Finding>),
    /// Nothing can be trained for it.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// The database failed.
    #[error("the script could not be stored")]
    Db(#[from] DbError),
}

/// A script that new calls get from now on.
#[derive(Clone, Debug)]
pub struct Published {
    /// The script.
    pub script: Arc<Script>,
    /// Since when, and by whose word.
    pub publication: Publication,
    /// Whether anything has changed: the version that counts already is not published twice.
    pub new: bool,
}

/// The scripts in use.
pub struct Scripts {
    known: RwLock<Known>,
    /// One is published at a time, so that what is known here is what the database says.
    publishing: Mutex<()>,
}

struct Known {
    current: BTreeMap<ScriptId, Arc<Script>>,
    versions: BTreeMap<ScriptVersion, Arc<Script>>,
    /// The versions that are not current, by when they came; the oldest makes way.
    older: VecDeque<ScriptVersion>,
}

/// So many versions that no new call gets are kept ready; one that a call still speaks is read again.
const OLDER_KEPT: usize = 64;

impl Known {
    fn keep(&mut self, script: &Arc<Script>) {
        if self.versions.insert(script.version().clone(), Arc::clone(script)).is_none() {
            self.older.push_back(script.version().clone());
        }
    }

    /// Returns the versions that make way.
    fn make_room(&mut self) -> Vec<ScriptVersion> {
        let current = &self.current;
        self.older.retain(|version| !current.values().any(|script| script.version() == version));
        let mut gone = Vec::new();
        while self.older.len() > OLDER_KEPT {
            let Some(oldest) = self.older.pop_front() else { break };
            self.versions.remove(&oldest);
            gone.push(oldest);
        }
        gone
    }
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
        let known = Known { versions: versions.collect(), older: VecDeque::new(), current };
        Ok(Self { known: RwLock::new(known), publishing: Mutex::new(()) })
    }

    /// Keeps the canonical texts in the database, takes over what was published beside the files, and trains the
    /// understanding for each script.
    ///
    /// # Errors
    /// [`ScriptsError::Db`] or [`ScriptsError::Prepare`].
    pub async fn prepare(&self, db: &Db, engine: &Arc<Engine>) -> Result<(), ScriptsError> {
        self.load(db, Timestamp::now()).await?;
        // Side by side: training is what a start waits for.
        let prepared = self.all().into_iter().map(async |script| {
            let began = Instant::now();
            train(engine, &script).await?;
            let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::info!(script = %script.id(), version = %script.version(), took_ms, "Script ready");
            Ok::<(), ScriptsError>(())
        });
        futures_util::future::try_join_all(prepared).await?;
        Ok(())
    }

    /// Keeps the files' canonical texts in the database and takes over what was published beside them: a file that
    /// is another one than at the last start is published with it, and what was published since stays.
    ///
    /// # Errors
    /// [`ScriptsError::Db`].
    pub async fn load(&self, db: &Db, now: Timestamp) -> Result<(), ScriptsError> {
        let files = self.all();
        for script in &files {
            db.script_from_file((script.id(), script.version(), script.canonical()), now).await?;
        }
        for publication in db.publications().await? {
            let is_file = files.iter().any(|script| *script.version() == publication.version);
            // A file that was taken away is no longer offered.
            if is_file || publication.published_by.is_none() {
                continue;
            }
            let Some(canonical) = db.script(&publication.version).await? else { continue };
            match Script::load(&canonical) {
                Ok(script) => drop(self.offer(&Arc::new(script))),
                Err(error) => {
                    tracing::error!(script = %publication.id, version = %publication.version, %error, "A published script is not usable by this build");
                }
            }
        }
        Ok(())
    }

    /// Publishes a script: the understanding is trained, it is stored, and new calls get it. `warnings` are kept with
    /// it, `token` is whose word it is.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish(
        &self,
        db: &Db,
        engine: &Arc<Engine>,
        (script, warnings): (Script, &[Finding]),
        token: &str,
        now: Timestamp,
    ) -> Result<Published, PublishError> {
        let script = Arc::new(script);
        let _one = self.publishing.lock().await;
        train(engine, &script).await?;
        let findings = warnings.iter().map(Finding::to_json).collect();
        let of = (script.id(), script.version(), script.canonical());
        let (publication, new) = db.publish_script(of, Some(token), &findings, now).await?;
        for gone in self.offer(&script) {
            engine.forget(gone.as_str());
        }
        tracing::info!(script = %script.id(), version = %script.version(), new, by = token, "Script published");
        Ok(Published { script, publication, new })
    }

    /// Makes a script the one that new calls get. Returns the versions that made way.
    fn offer(&self, script: &Arc<Script>) -> Vec<ScriptVersion> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.keep(script);
        let before = known.current.insert(script.id().clone(), Arc::clone(script));
        if let Some(before) = before.filter(|before| before.version() != script.version()) {
            known.older.push_back(before.version().clone());
        }
        known.make_room()
    }

    /// Returns the script that a new call gets.
    pub fn current(&self, id: &ScriptId) -> Option<Arc<Script>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).current.get(id).cloned()
    }

    /// Returns all scripts that a new call may name.
    pub fn all(&self) -> Vec<Arc<Script>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).current.values().cloned().collect()
    }

    /// Returns a version that some call speaks, also one that is not current any more.
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
        let gone = {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            known.keep(&script);
            known.make_room()
        };
        for version in gone {
            engine.forget(version.as_str());
        }
        Ok(Some(script))
    }

    fn known(&self, version: &ScriptVersion) -> Option<Arc<Script>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).versions.get(version).cloned()
    }
}

/// Reads and lints a script of YAML or JSON, also under policy packs. Returns what the linter warns of; the error
/// holds all findings, and at least one error.
///
/// # Errors
/// [`PublishError::Rejected`].
pub async fn check(bytes: Vec<u8>, packs: &[&Pack]) -> Result<(Script, Vec<Finding>), PublishError> {
    let packs: Vec<Pack> = packs.iter().map(|pack| (*pack).clone()).collect();
    match tokio::task::spawn_blocking(move || check_now(&bytes, &packs)).await {
        Ok(checked) => checked.map_err(PublishError::Rejected),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

fn check_now(bytes: &[u8], packs: &[Pack]) -> Result<(Script, Vec<Finding>), Vec<Finding>> {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    match Script::load_bytes(bytes) {
        Ok(script) => {
            let found = found_in(text, packs).unwrap_or_default();
            if found.iter().any(Finding::is_error) { Err(found) } else { Ok((script, found)) }
        }
        // The linter adds its warnings, and says nothing of a file that it cannot read.
        Err(error @ LoadError::Rejected(_)) => {
            Err(found_in(text, packs).unwrap_or_else(|_| error.findings()))
        }
        Err(error) => Err(error.findings()),
    }
}

fn found_in(text: &str, packs: &[Pack]) -> Result<Vec<Finding>, LoadError> {
    let mut found = lint(text)?;
    for pack in packs {
        let under = lint_under(text, pack)?;
        found.extend(under.into_iter().filter(|one| !found.contains(one)).collect::<Vec<_>>());
    }
    found.sort_by_key(|one| (one.line, one.column, one.severity));
    Ok(found)
}

async fn train(engine: &Arc<Engine>, script: &Arc<Script>) -> Result<(), PrepareError> {
    let (engine, task) = (Arc::clone(engine), Arc::clone(script));
    match tokio::task::spawn_blocking(move || trunkline_turn::prepare(&engine, &task)).await {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
