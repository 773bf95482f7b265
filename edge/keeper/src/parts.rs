//! What a box has beside its program, with versions of its own: models, scripts, sounds, policy packs.
//!
//! Each part is a pair of slots like the program's, released, assigned, proved and taken back in the same way. The link
//! `current` in its folder leads to the version in force; the program for calls is told that path and is started anew with
//! each version.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use trunkline_update::{BootRecord, RealDisk, Slot, launch};

use crate::config::UpdatesConfig;

/// Beside the slots, the way to the one in force.
const CURRENT: &str = "current";

/// A part that can be updated, and the slot that is in force.
pub(crate) type Part = (String, RealDisk, Slot);

/// Decides which version of each part is in force, and counts those on trial; once per start of the keeper. A part whose
/// folder cannot be used is said and left as it is.
pub(crate) fn open(config: &UpdatesConfig) -> Vec<Part> {
    let open = |(name, folder): (&String, &PathBuf)| match open_one(name, folder) {
        Ok((disk, slot)) => Some((name.clone(), disk, slot)),
        Err(error) => {
            tracing::error!(part = name, %error, "A part of this box cannot be updated");
            None
        }
    };
    config.parts.iter().filter_map(open).collect()
}

fn open_one(name: &str, folder: &Path) -> io::Result<(RealDisk, Slot)> {
    let mut disk = RealDisk::new(folder)?;
    let start = launch(&mut disk).ok();
    let record = BootRecord::read(&disk);
    // Before the first one has proved itself there is none to fall back to: what was given up is not used all the same.
    let start = start.filter(|start| {
        let good = record.good == Some(start.slot);
        start.on_trial || good || record.gave_up != Some(start.sealed.version)
    });
    point(folder, start.as_ref().map(|start| start.slot))?;
    let Some(start) = start else { return Ok((disk, Slot::B)) };
    let version = &start.sealed.release.version;
    tracing::info!(part = name, version, on_trial = start.on_trial, "A version is in force");
    Ok((disk, start.slot))
}

/// Makes `current` lead to a slot, or nowhere; at no moment to half of one.
fn point(folder: &Path, slot: Option<Slot>) -> io::Result<()> {
    let (link, draft) = (folder.join(CURRENT), folder.join("current.new"));
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    };
    gone(fs::remove_file(&draft))?;
    match slot {
        Some(slot) => {
            symlink(slot.name(), &draft)?;
            fs::rename(&draft, &link)
        }
        None => gone(fs::remove_file(&link)),
    }
}

#[cfg(test)]
mod tests {
    use trunkline_trust::{Release, sha256};
    use trunkline_update::{FileSlots, Manifest, Packer, Slots as _};

    use super::*;

    fn version(name: &str, number: u64) -> (Manifest, Vec<u8>) {
        let mut packer = Packer::default();
        packer.add("version", false, name.as_bytes());
        let (component, version) = ("models".to_owned(), name.to_owned());
        packer.finish(Release { component, version, release: number, floor: 0, platforms: vec![] }).unwrap()
    }

    /// Stages a version and puts it on trial, as the updater does.
    fn put_on_trial((disk, slot): (RealDisk, Slot), (manifest, pack): &(Manifest, Vec<u8>)) {
        let mut pair = FileSlots::open(disk, slot);
        for chunk in pair.stage(manifest).unwrap().chunks {
            let from = chunk.offset as usize;
            pair.write_chunk(manifest, &chunk, &pack[from..from + chunk.length as usize]).unwrap();
        }
        assert!(pair.verify(manifest).unwrap().is_empty());
        pair.arm(sha256(&manifest.to_bytes())).unwrap();
    }

    #[test]
    fn a_part_begins_with_nothing_and_its_link_follows_trial_commit_and_fall_back() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("models");
        let current = || fs::read_to_string(folder.join("current/version")).ok();
        let open = || open_one("models", &folder).unwrap();
        let nothing = open();
        assert_eq!(current(), None);

        // A first version that does not prove itself is not used, though there is no other.
        let (first, second) = (version("1", 1), version("2", 2));
        put_on_trial(nothing, &first);
        let (disk, slot) = open();
        assert_eq!(current().as_deref(), Some("1"));
        FileSlots::open(disk, slot).give_up(sha256(&first.0.to_bytes())).unwrap();
        let nothing = open();
        assert_eq!(current(), None);

        put_on_trial(nothing, &first);
        let (disk, slot) = open();
        FileSlots::open(disk, slot).commit().unwrap();
        put_on_trial(open(), &second);
        for _ in 0..3 {
            open();
            assert_eq!(current().as_deref(), Some("2"), "on trial");
        }
        open();
        assert_eq!(current().as_deref(), Some("1"), "three starts, and it has not proved itself");
    }

    #[test]
    fn a_folder_that_is_a_file_costs_its_part_and_not_the_box() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("models"), "no folder").unwrap();
        let parts = ["models", "scripts"].map(|name| (name.to_owned(), dir.path().join(name)));
        let config = UpdatesConfig {
            root: "root.json".into(),
            slots: "slots".into(),
            platform: "x86-64".into(),
            parts: parts.into(),
        };
        let opened = open(&config);
        assert_eq!(opened.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>(), ["scripts"]);
    }
}
