//! The box's own chain of receipts: a file that `trunkctl receipts verify` reads.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;
use tracing::warn;
use trunkline_policy::receipt::{Body, Entry, Verifier};

/// A file beyond this size is kept as `.1`, and the chain goes on in a new one. The cloud has all of it.
const LARGEST: u64 = 64 * 1024 * 1024;

/// The chain and its end.
pub(crate) struct Chain {
    path: PathBuf,
    file: File,
    head: Option<(u64, String)>,
    bytes: u64,
}

impl Chain {
    /// Opens the chain and verifies it. One that does not hold is set aside for people to look at, and a
    /// new one begins, which the cloud notices.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let before = read(&path.with_extension("1.jsonl"), None).ok().and_then(|(head, _)| head);
        let (head, bytes) = match read(path, before) {
            Ok(found) => found,
            Err(error) => {
                let aside = path.with_extension(format!("broken-{}", Timestamp::now().as_second()));
                warn!(path = %aside.display(), "The chain of receipts does not hold and is set aside: {error:#}");
                fs::rename(path, &aside).with_context(|| format!("cannot set {} aside", path.display()))?;
                (None, 0)
            }
        };
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        // A line that a power cut tore was never sent and never dialled upon.
        file.set_len(bytes).with_context(|| format!("cannot mend {}", path.display()))?;
        Ok(Self { path: path.to_owned(), file, head, bytes })
    }

    /// Appends a receipt; it is on the disk when this returns.
    pub(crate) fn append(&mut self, body: &Body, now: Timestamp) -> Result<Entry> {
        if self.bytes > LARGEST {
            fs::rename(&self.path, self.path.with_extension("1.jsonl"))?;
            self.file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            self.bytes = 0;
        }
        // To the millisecond, as every instant that reaches the cloud.
        let now = Timestamp::from_millisecond(now.as_millisecond())?;
        let prev = self.head.as_ref().map(|(seq, hash)| (*seq, hash.as_str()));
        let entry = Entry::follow(prev, body, now)?;
        let mut line = entry.line()?;
        line.push('\n');
        self.file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.sync_data())
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        self.bytes += line.len() as u64;
        self.head = Some((entry.seq, entry.hash.clone()));
        Ok(entry)
    }
}

type Head = Option<(u64, String)>;

/// Verifies a file and returns its head and the length of its whole lines.
fn read(path: &Path, before: Head) -> Result<(Head, u64)> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((before, 0)),
        Err(error) => return Err(error.into()),
    };
    let mut reader = BufReader::new(file);
    let (mut line, mut bytes, mut verifier) = (String::new(), 0, None);
    loop {
        line.clear();
        let read = reader.read_line(&mut line)?;
        let Some(whole) = line.strip_suffix('\n') else {
            let head = match &verifier {
                Some(verifier) => Verifier::head(verifier).map(|(seq, hash)| (seq, hash.to_owned())),
                None => before,
            };
            return Ok((head, bytes));
        };
        let verifier = match &mut verifier {
            Some(verifier) => verifier,
            // After a file that was kept as `.1` the chain goes on. Where that one is gone, this one can
            // only be verified in itself; the cloud has anchored what came before.
            None => verifier.insert(match (&before, serde_json::from_str::<Entry>(whole)) {
                (Some((seq, hash)), Ok(first)) if first.seq == seq + 1 => Verifier::after(*seq, hash.clone()),
                (None, Ok(first)) if first.seq > 1 => Verifier::after(first.seq - 1, first.prev),
                (Some(_) | None, _) => Verifier::new(),
            }),
        };
        verifier.push(whole).map_err(|error| anyhow!(error))?;
        bytes += read as u64;
    }
}
