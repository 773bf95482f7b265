//! Which script answers which number: the cloud's table, kept on the disk so that calls are answered without the
//! cloud, and its scripts made ready ahead.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use tracing::{debug, info, warn};
use trunkline_wire::NumbersCommand;

use crate::call::ready;
use crate::supervisor::Shared;

/// The table.
#[derive(Debug)]
pub(crate) struct Numbers {
    path: PathBuf,
    table: Mutex<Arc<NumbersCommand>>,
}

impl Numbers {
    /// Opens what is kept below `dir`. A file that cannot be read counts as none: the cloud sends its table again.
    pub(crate) fn open(dir: &Path) -> Self {
        let path = dir.join("numbers.json");
        let kept = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                warn!("{} cannot be read, the cloud sends it again: {error}", path.display());
                NumbersCommand::default()
            }),
            Err(_) => NumbersCommand::default(),
        };
        Self { path, table: Mutex::new(Arc::new(kept)) }
    }

    /// Returns the table.
    pub(crate) fn table(&self) -> Arc<NumbersCommand> {
        Arc::clone(&self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a table in; it is on the disk when this returns.
    ///
    /// # Errors
    /// When the disk does not take it; then the old one stays.
    pub(crate) fn take(&self, table: NumbersCommand) -> Result<()> {
        let bytes = serde_json::to_vec(&table)?;
        let part = self.path.with_extension("part");
        let write = || {
            let mut file = fs::File::create(&part)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&part, &self.path)
        };
        write().with_context(|| format!("cannot write {}", self.path.display()))?;
        *self.table.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
        Ok(())
    }
}

/// Fetches the scripts of the table and renders what they say, so that nobody waits for it on the telephone. Ends early
/// when there is another table.
pub(crate) async fn make_ready(shared: Arc<Shared>) {
    let table = shared.numbers.table();
    for route in &table.routes {
        if shared.numbers.table().table != table.table {
            return;
        }
        match ready(&shared, &route.script, &route.variables, &table.words, |_, _| {}).await {
            Ok(_) => debug!(binding = route.binding, script = %route.script.id, "Ready for calls"),
            // The next call tries again.
            Err(error) => {
                warn!(binding = route.binding, script = %route.script.id, "Not ready for calls: {error}")
            }
        }
    }
    if !table.routes.is_empty() {
        info!(routes = table.routes.len(), "Calls from customers are answered");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_outlives_the_program_and_a_broken_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let numbers = Numbers::open(dir.path());
        assert_eq!(*numbers.table(), NumbersCommand::default());
        let table: NumbersCommand =
            serde_json::from_str(include_str!("../../../shared/wire/src/golden/numbers.v1.json")).unwrap();
        numbers.take(table.clone()).unwrap();
        assert_eq!(*Numbers::open(dir.path()).table(), table);
        fs::write(dir.path().join("numbers.json"), "{").unwrap();
        assert_eq!(*Numbers::open(dir.path()).table(), NumbersCommand::default());
    }
}
