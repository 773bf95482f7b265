//! The box's copy of whom nobody calls: a file of changes, and what follows from them in memory.
//!
//! A change is on the disk before the cloud is told that the box has it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use trunkline_model::Callee;
use trunkline_policy::{Change, Dossier, Fingerprint, OptOut, Stoplist};
use trunkline_wire::SuppressCommand;

/// A line of the file. Number 0 is the box's own word, which the cloud numbers later.
#[derive(Serialize, Deserialize)]
struct Line {
    n: u64,
    who: Fingerprint,
    change: Change,
}

/// The copy.
pub(crate) struct StoplistFile {
    path: PathBuf,
    file: File,
    list: Stoplist,
    upto: u64,
}

impl StoplistFile {
    /// Opens the file. A line that was cut off by a power cut is taken off; a file that cannot be read
    /// otherwise is set aside, and the cloud sends everything again.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut bytes = Vec::new();
        match File::open(path) {
            Ok(mut file) => {
                file.read_to_end(&mut bytes).with_context(|| format!("cannot read {}", path.display()))?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot open {}", path.display())),
        }
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let mut list = Stoplist::default();
        let mut upto = 0;
        let mut readable = true;
        for line in bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let Ok(line) = serde_json::from_slice::<Line>(line) else {
                readable = false;
                break;
            };
            list.apply(line.who, &line.change);
            if line.n > 0 {
                upto = line.n;
            }
        }
        if !readable {
            let aside = path.with_extension("unreadable");
            fs::rename(path, &aside).with_context(|| format!("cannot set {} aside", path.display()))?;
            warn!(path = %aside.display(), "The suppressions could not be read; the cloud sends them again");
            // What was read stays in force until then: it can only keep telephones from ringing.
            upto = 0;
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        if readable && whole < bytes.len() {
            file.set_len(whole as u64).with_context(|| format!("cannot mend {}", path.display()))?;
        }
        info!(numbers = list.len(), upto, "Suppressions read");
        Ok(Self { path: path.to_owned(), file, list, upto })
    }

    /// Returns up to which number it has everything.
    pub(crate) fn upto(&self) -> u64 {
        self.upto
    }

    /// Takes changes in and returns how far it is now. Changes beyond a gap are left.
    pub(crate) fn take(&mut self, command: &SuppressCommand) -> Result<u64> {
        if command.after > self.upto {
            return Ok(self.upto);
        }
        let mut text = Vec::new();
        for change in &command.changes {
            let line = Line { n: change.n, who: change.who, change: change.change.clone() };
            serde_json::to_writer(&mut text, &line)?;
            text.push(b'\n');
        }
        self.append(&text)?;
        for change in &command.changes {
            self.list.apply(change.who, &change.change);
        }
        self.upto = command.upto;
        Ok(self.upto)
    }

    /// Keeps what somebody said to this box, before the cloud knows.
    pub(crate) fn opted_out(&mut self, callee: &Callee, opt_out: OptOut) -> Result<()> {
        let line = Line { n: 0, who: Fingerprint::of(callee), change: Change::OptedOut(opt_out) };
        // In memory first: it counts on this box whatever the disk does.
        self.list.apply(line.who, &line.change);
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        self.append(&text)
    }

    /// Adds what is known here to what the lease brought.
    pub(crate) fn complete(&self, dossier: &mut Dossier, callee: &Callee) {
        let (opt_outs, suppressions) = self.list.about(callee);
        dossier.opt_outs.extend_from_slice(opt_outs);
        dossier.suppressions.extend_from_slice(suppressions);
    }

    fn append(&mut self, text: &[u8]) -> Result<()> {
        self.file
            .write_all(text)
            .and_then(|()| self.file.sync_data())
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use trunkline_policy::{OptOutScope, Suppression as Listed};
    use trunkline_wire::Suppression;

    use super::*;

    fn callee(n: u32) -> Callee {
        format!("+861380013{n:04}").parse().unwrap()
    }

    fn opt_out() -> OptOut {
        let at = "2026-11-23T02:00:00Z".parse().unwrap();
        OptOut { scope: OptOutScope::Number, channel: "spoken".into(), at }
    }

    fn command(after: u64, upto: u64) -> SuppressCommand {
        let changes = (after + 1..=upto)
            .map(|n| Suppression {
                n,
                who: Fingerprint::of(&callee(n as u32)),
                change: Change::OptedOut(opt_out()),
            })
            .collect();
        SuppressCommand { after, upto, changes }
    }

    fn knows(list: &StoplistFile, n: u32) -> bool {
        !list.list.about(&callee(n)).0.is_empty()
    }

    #[test]
    fn what_was_confirmed_is_there_after_a_restart_and_a_torn_line_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("suppressions.jsonl");
        let mut list = StoplistFile::open(&path).unwrap();
        assert_eq!(list.take(&command(0, 3)).unwrap(), 3);
        assert_eq!(list.take(&command(5, 6)).unwrap(), 3, "a gap is not jumped over");
        assert_eq!(list.take(&command(2, 4)).unwrap(), 4, "what is known may come again");
        list.opted_out(&callee(9), opt_out()).unwrap();
        drop(list);
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(b"{\"n\":5,\"who\":\"00");
        fs::write(&path, bytes).unwrap();

        let mut list = StoplistFile::open(&path).unwrap();
        assert_eq!(list.upto(), 4);
        assert!(knows(&list, 4) && knows(&list, 9) && !knows(&list, 5));
        assert_eq!(list.take(&command(4, 5)).unwrap(), 5);
        drop(list);
        assert_eq!(StoplistFile::open(&path).unwrap().upto(), 5, "the torn line was taken off");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_asked_for_again_and_what_was_read_counts_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("suppressions.jsonl");
        StoplistFile::open(&path).unwrap().take(&command(0, 2)).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(b"rubbish\n");
        fs::write(&path, bytes).unwrap();
        let list = StoplistFile::open(&path).unwrap();
        assert_eq!(list.upto(), 0);
        assert!(knows(&list, 1));
        assert!(dir.path().join("suppressions.unreadable").exists());
    }

    #[test]
    fn an_entry_that_left_its_list_is_gone_and_an_opt_out_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut list = StoplistFile::open(&dir.path().join("suppressions.jsonl")).unwrap();
        list.take(&command(0, 1)).unwrap();
        let who = Fingerprint::of(&callee(1));
        let listed = Change::Listed(Listed { list: "tenant".into(), until: None });
        let changes = vec![
            Suppression { n: 2, who, change: listed },
            Suppression { n: 3, who, change: Change::Unlisted("tenant".into()) },
        ];
        list.take(&SuppressCommand { after: 1, upto: 3, changes }).unwrap();
        let (opt_outs, suppressions) = list.list.about(&callee(1));
        assert_eq!((opt_outs.len(), suppressions.len()), (1, 0));
    }
}
