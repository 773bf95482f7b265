//! What calls need before they are dialled and share while they run: the understanding of their scripts, and
//! the filter of their word lists.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use trunkline_dialogue::Script;
use trunkline_nlu::Engine;
use trunkline_words::Filter;

use crate::blobs::Blobs;

/// Scripts whose understanding stays although no call uses them; a campaign comes back to them.
const UNUSED_KEPT: usize = 8;

/// What the box understands by itself: rules and n-grams of the scripts in use.
#[derive(Debug)]
pub(crate) struct Floor {
    engine: Arc<Engine>,
    /// A token for each version that is known, and one more for each call that uses it.
    used: Mutex<BTreeMap<String, Arc<()>>>,
}

/// Keeps the understanding of a script for as long as a call may ask for it.
#[derive(Debug)]
pub(crate) struct InUse {
    engine: Arc<Engine>,
    _token: Arc<()>,
}

impl InUse {
    /// Returns what understands the script, and others.
    pub(crate) fn engine(&self) -> Arc<Engine> {
        Arc::clone(&self.engine)
    }
}

impl Floor {
    pub(crate) fn new() -> Self {
        Self { engine: Arc::new(Engine::floor_only()), used: Mutex::default() }
    }

    /// Learns to understand a script, which takes some tenths of a second unless it is known; forgets scripts
    /// that nobody uses when there are many.
    pub(crate) fn prepare(&self, script: &Script) -> Result<InUse> {
        let token = {
            let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            let token = Arc::clone(used.entry(script.version().to_string()).or_default());
            let unused: Vec<String> = used
                .iter()
                .filter(|(_, token)| Arc::strong_count(token) == 1)
                .map(|(version, _)| version.clone())
                .collect();
            for version in unused.iter().skip(UNUSED_KEPT) {
                used.remove(version);
                self.engine.forget(version);
            }
            token
        };
        trunkline_turn::prepare(&self.engine, script)?;
        Ok(InUse { engine: Arc::clone(&self.engine), _token: token })
    }
}

/// The filter of the word lists that calls were dialled under last.
#[derive(Debug, Default)]
pub(crate) struct Words {
    last: Mutex<(Vec<String>, Arc<Filter>)>,
}

impl Words {
    /// Returns the filter of these lists, by the SHA-256 of their texts.
    pub(crate) async fn filter(&self, blobs: &Blobs, lists: &[String]) -> Result<Arc<Filter>> {
        if let Some(filter) = self.known(lists) {
            return Ok(filter);
        }
        let mut parsed = Vec::with_capacity(lists.len());
        for sha256 in lists {
            parsed.push(blobs.word_list(sha256).await?);
        }
        // Ten thousand words take a tenth of a second, and calls wait for nothing else on this thread.
        let compiled = tokio::task::spawn_blocking(move || Filter::new(&parsed)).await;
        let filter = Arc::new(compiled.context("the word lists")??);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = (lists.to_vec(), Arc::clone(&filter));
        Ok(filter)
    }

    fn known(&self, lists: &[String]) -> Option<Arc<Filter>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        (last.0 == lists).then(|| Arc::clone(&last.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(n: usize) -> Script {
        let text = include_str!("../../../shared/dialogue/tests/data/rich-en.yaml");
        Script::load(&text.replacen("Hi!", &format!("Hi, {n}!"), 1)).unwrap()
    }

    #[test]
    fn a_script_that_a_call_uses_is_never_forgotten_and_unused_ones_do_not_pile_up() {
        let floor = Floor::new();
        let (first, many) = (script(0), UNUSED_KEPT + 4);
        let in_use = floor.prepare(&first).unwrap();
        for n in 1..=many {
            drop(floor.prepare(&script(n)).unwrap());
        }
        assert!(in_use.engine().is_prepared(first.version().as_str()));
        let known = (1..=many).filter(|n| in_use.engine().is_prepared(script(*n).version().as_str())).count();
        assert!(known <= UNUSED_KEPT + 1, "{known}");
        assert!(in_use.engine().is_prepared(script(many).version().as_str()), "the newest is known");
    }
}
