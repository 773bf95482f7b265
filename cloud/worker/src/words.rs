//! The word lists in force: a folder of files that may change while the cloud runs.
//!
//! A call gets the lists that are in force when it is dialled, by the hashes of their texts, and the box fetches
//! what it does not have. A file that has become wrong changes nothing: the lists before stay in force, and the
//! log says what is wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ring::digest;
use trunkline_words::{Filter, WordList};

/// How often the folder is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Texts that are kept for boxes whose calls began under older lists.
const KEPT: usize = 64;
/// What every box takes in one piece.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// The word lists of a folder.
#[derive(Debug, Default)]
pub struct WordLists {
    dir: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    looked: Option<Instant>,
    seen: Vec<(PathBuf, SystemTime, u64)>,
    /// SHA-256 of each list in force.
    current: Vec<String>,
    /// The same lists, ready to be held against texts.
    filter: Arc<Filter>,
    /// Texts by hash, and the order in which they came.
    texts: BTreeMap<String, String>,
    order: Vec<String>,
}

/// Why the lists of a folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct WordsError(Vec<String>);

impl WordLists {
    /// Reads the `*.yaml` files of a folder; without a folder there are no lists.
    ///
    /// # Errors
    /// [`WordsError`], with all that is wrong in all files.
    pub fn open(dir: Option<PathBuf>) -> Result<Self, WordsError> {
        let mut state = State::default();
        if let Some(dir) = &dir {
            state.seen = stamps(dir).map_err(|error| WordsError(vec![error]))?;
            let (texts, filter) = read(&state.seen)?;
            state.take(texts, filter);
            state.looked = Some(Instant::now());
        }
        Ok(Self { dir, state: Mutex::new(state) })
    }

    /// Returns the hashes of the lists in force, having looked at the folder again if that was some seconds ago.
    pub fn current(&self) -> Vec<String> {
        self.looked().current.clone()
    }

    /// Returns the lists in force as one filter, having looked as [`current`](Self::current) does.
    pub fn filter(&self) -> Arc<Filter> {
        Arc::clone(&self.looked().filter)
    }

    /// Returns the text of a list that is in force, or was not long ago.
    pub fn text(&self, sha256: &str) -> Option<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).texts.get(sha256).cloned()
    }

    fn looked(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dir) = &self.dir
            && state.looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY)
        {
            state.looked = Some(Instant::now());
            state.look(dir);
        }
        state
    }
}

impl State {
    fn look(&mut self, dir: &Path) {
        let stamps = match stamps(dir) {
            Ok(stamps) => stamps,
            Err(error) => return tracing::error!(error, "The word lists cannot be read; those before stay"),
        };
        if stamps == self.seen {
            return;
        }
        match read(&stamps) {
            Ok((texts, filter)) => {
                tracing::info!(lists = texts.len(), "The word lists have changed");
                self.take(texts, filter);
            }
            Err(error) => tracing::error!(%error, "A word list is wrong; those before stay in force"),
        }
        self.seen = stamps;
    }

    fn take(&mut self, texts: Vec<String>, filter: Filter) {
        self.filter = Arc::new(filter);
        self.current.clear();
        for text in texts {
            let hash = hex::encode(digest::digest(&digest::SHA256, text.as_bytes()));
            self.current.push(hash.clone());
            self.order.retain(|other| *other != hash);
            self.order.push(hash.clone());
            self.texts.insert(hash, text);
        }
        while self.order.len() > KEPT.max(self.current.len()) {
            let oldest = self.order.remove(0);
            self.texts.remove(&oldest);
        }
    }
}

fn stamps(dir: &Path) -> Result<Vec<(PathBuf, SystemTime, u64)>, String> {
    let told = |error: std::io::Error| format!("{}: {error}", dir.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(told)? {
        let path = entry.map_err(told)?.path();
        if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            let meta = std::fs::metadata(&path).map_err(told)?;
            found.push((path, meta.modified().unwrap_or(SystemTime::UNIX_EPOCH), meta.len()));
        }
    }
    found.sort();
    Ok(found)
}

fn read(stamps: &[(PathBuf, SystemTime, u64)]) -> Result<(Vec<String>, Filter), WordsError> {
    let (mut texts, mut lists, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for (path, ..) in stamps {
        let list = std::fs::read_to_string(path)
            .map_err(|error| error.to_string())
            .and_then(|text| match text.len() {
                ..=MAX_BYTES => Ok(text),
                more => Err(format!(
                    "it has {more} bytes, and {MAX_BYTES} is the limit: cut it into several lists"
                )),
            })
            .and_then(|text| Ok((WordList::from_yaml(&text).map_err(|error| error.to_string())?, text)));
        match list {
            Ok((list, text)) => {
                lists.push(list);
                texts.push(text);
            }
            Err(error) => wrong.push(format!("{}: {error}", path.display())),
        }
    }
    if !wrong.is_empty() {
        return Err(WordsError(wrong));
    }
    let filter = Filter::new(&lists).map_err(|error| WordsError(vec![error.to_string()]))?;
    Ok((texts, filter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(word: &str) -> String {
        format!("schema: trunkline/words/1\nid: a\nentries: [{{words: [{word}], side: robot}}]\n")
    }

    #[test]
    fn a_list_that_changes_is_in_force_and_one_that_breaks_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yaml");
        std::fs::write(&file, list("one")).unwrap();
        let lists = WordLists::open(Some(dir.path().to_owned())).unwrap();
        let first = lists.current();
        assert!(lists.text(&first[0]).unwrap().contains("one"));

        let look = |text: &str| {
            std::fs::write(&file, text).unwrap();
            lists.state.lock().unwrap().looked = None;
            lists.current()
        };
        let second = look(&list("another"));
        assert_ne!(first, second);
        assert!(lists.text(&first[0]).is_some(), "a running call may still want it");
        assert_eq!(look("entries: what"), second);
        assert_ne!(look(&list("a third one")), second);
        std::fs::remove_file(&file).unwrap();
        lists.state.lock().unwrap().looked = None;
        assert!(lists.current().is_empty());
    }

    #[test]
    fn a_wrong_list_keeps_the_cloud_from_starting_and_the_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("b.yaml"), list("'，'")).unwrap();
        let error = WordLists::open(Some(dir.path().to_owned())).unwrap_err().to_string();
        assert!(error.contains("b.yaml") && error.contains("no letter"), "{error}");
        std::fs::write(dir.path().join("b.yaml"), format!("#{}", "x".repeat(MAX_BYTES))).unwrap();
        let error = WordLists::open(Some(dir.path().to_owned())).unwrap_err().to_string();
        assert!(error.contains("the limit"), "{error}");
        assert!(WordLists::open(Some(dir.path().join("none"))).is_err());
        assert!(WordLists::open(None).unwrap().current().is_empty());
    }
}
