//! The last lines of a program's log, in two files of bounded length.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{PoisonError, RwLock};
use std::thread;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// A file that has reached this length becomes the one before, whose predecessor goes.
const LONGEST: u64 = 1024 * 1024;
/// A line is cut here: an error may bring a whole page along.
const LONGEST_TEXT: usize = 2_000;

/// So many lines wait for the disk; what comes while it is stuck is lost here, and is on standard error all the same.
const WAITING: usize = 1_024;

static KEPT: RwLock<Option<SyncSender<Vec<u8>>>> = RwLock::new(None);

/// One line of a log, with its values apart from its words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When it was written.
    pub at: Timestamp,
    /// `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`.
    pub level: String,
    /// The module that wrote it.
    pub target: String,
    /// Its words, with the values that stand among them.
    pub message: String,
    /// Its other values, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
}

/// Keeps what is logged from now on in `dir/name.log` and `dir/name.log.1`, 1 MiB each at most, mode 0600.
///
/// # Errors
/// When the folder, the file or the thread that writes it cannot be made.
pub fn keep(dir: &Path, name: &str) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut kept = Kept::open(dir.join(format!("{name}.log")))?;
    let (sender, lines) = sync_channel::<Vec<u8>>(WAITING);
    // Whoever logs may be the thread of all sound, which waits for no disk.
    thread::Builder::new().name("log".into()).spawn(move || {
        for line in lines {
            // A full disk must not stop a call.
            let _ = kept.write(&line);
        }
    })?;
    *KEPT.write().unwrap_or_else(PoisonError::into_inner) = Some(sender);
    Ok(())
}

/// Returns the lines that [`keep`] kept, oldest first. A line that cannot be read is left out.
///
/// # Errors
/// When the files are there and cannot be read.
pub fn read(dir: &Path, name: &str) -> io::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for file in [format!("{name}.log.1"), format!("{name}.log")] {
        let text = match fs::read(dir.join(file)) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        lines.extend(text.lines().filter_map(|line| serde_json::from_str(line).ok()));
    }
    Ok(lines)
}

struct Kept {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Kept {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path, file, bytes })
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.bytes + line.len() as u64 > LONGEST {
            let mut before = self.path.clone().into_os_string();
            before.push(".1");
            fs::rename(&self.path, before)?;
            *self = Self::open(self.path.clone())?;
        }
        self.file.write_all(line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

/// Sees every event that is shown.
pub(crate) struct Keeper;

impl<S: Subscriber> Layer<S> for Keeper {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let kept = KEPT.read().unwrap_or_else(PoisonError::into_inner);
        let Some(kept) = kept.as_ref() else { return };
        let metadata = event.metadata();
        let mut seen = Seen::default();
        event.record(&mut seen);
        let line = Line {
            at: Timestamp::now(),
            level: metadata.level().to_string(),
            target: metadata.target().to_owned(),
            message: seen.message,
            fields: seen.fields,
        };
        let Ok(mut bytes) = serde_json::to_vec(&line) else { return };
        bytes.push(b'\n');
        let _ = kept.try_send(bytes);
    }
}

#[derive(Default)]
struct Seen {
    message: String,
    fields: BTreeMap<String, String>,
}

impl Visit for Seen {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.note(field, value.chars().take(LONGEST_TEXT).collect());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        let _ = write!(text, "{value:?}");
        self.note(field, text.chars().take(LONGEST_TEXT).collect());
    }
}

impl Seen {
    fn note(&mut self, field: &Field, text: String) {
        if field.name() == "message" {
            self.message = text;
        } else {
            self.fields.insert(field.name().to_owned(), text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_logged_is_kept_with_its_values_and_the_files_stay_small() {
        let dir = tempfile::tempdir().unwrap();
        crate::init("info");
        tracing::info!("before anybody keeps it");
        keep(dir.path(), "program").unwrap();
        tracing::warn!(free_mib = 7, why = "a disk", "It is full: {}", 3);
        tracing::debug!("of no interest");
        let lines = wait(|| Some(read(dir.path(), "program").unwrap()).filter(|lines| !lines.is_empty()));
        let line = lines.iter().find(|line| line.target.ends_with("kept::tests")).unwrap();
        assert_eq!((line.level.as_str(), line.message.as_str()), ("WARN", "It is full: 3"));
        assert_eq!((line.fields["free_mib"].as_str(), line.fields["why"].as_str()), ("7", "a disk"));
        assert!(lines.iter().all(|line| line.message != "of no interest"));
        assert!(read(dir.path(), "absent").unwrap().is_empty());

        for _ in 0..700 {
            tracing::info!(text = "x".repeat(5_000), "long");
        }
        wait(|| (fs::read_dir(dir.path()).unwrap().count() == 2).then_some(()));
        let longest = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len());
        assert!(longest.max().unwrap() <= LONGEST);
    }

    fn wait<T>(seen: impl Fn() -> Option<T>) -> T {
        for _ in 0..400 {
            if let Some(seen) = seen() {
                return seen;
            }
            thread::sleep(std::time::Duration::from_millis(25));
        }
        panic!("it was not seen in 10 s");
    }
}
