//! How much memory the box can still give: Linux hands out more than there is and kills later, so an
//! engine that asked for too much would take the calls with it. What the machine and the service's
//! control group have left is looked at before.

use std::path::Path;

/// What another lane of an engine takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Need {
    /// What one takes, as the first one showed.
    pub(super) bytes: u64,
    /// What must be left behind it.
    pub(super) keep_free: u64,
}

/// What an engine leaves free of the machine's memory unless it is told otherwise: 192 MiB, for the
/// calls, the prompts and the system.
pub(super) const KEEP_FREE: u64 = 192 * 1_024 * 1_024;

/// A lane is never taken for smaller than this; pages that were there already hide part of it.
const LEAST: u64 = 16 * 1_024 * 1_024;

impl Need {
    /// Takes what the process has grown by since it held `before` for what a lane needs.
    pub(super) fn measured(before: Option<u64>, keep_free: u64) -> Self {
        let grown = held().zip(before).map_or(0, |(now, before)| now.saturating_sub(before));
        Self { bytes: grown.max(LEAST), keep_free }
    }

    /// Returns what is there when it is too little; `None` when it is enough or not known.
    pub(super) fn lacking(self, available: Option<u64>) -> Option<u64> {
        available.filter(|left| *left < self.bytes.saturating_add(self.keep_free))
    }
}

/// Returns the bytes that can still be had: what the machine has available or, if that is less, what
/// the control groups of this process leave. `None` where the system does not say.
pub(super) fn available() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| machine(&text));
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok();
    let group = groups.and_then(|text| group_left(&text, Path::new("/sys/fs/cgroup")));
    match (machine, group) {
        (Some(machine), Some(group)) => Some(machine.min(group)),
        (machine, group) => machine.or(group),
    }
}

/// Returns the bytes of memory that this process holds.
pub(super) fn held() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    kilobytes(&text, "VmRSS:")
}

fn machine(meminfo: &str) -> Option<u64> {
    kilobytes(meminfo, "MemAvailable:")
}

fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1_024)
}

/// The least that any control group (version 2) above this process leaves.
fn group_left(cgroup: &str, root: &Path) -> Option<u64> {
    let own = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut path = root.join(own.trim_start_matches('/'));
    let mut least = None;
    while path.starts_with(root) {
        let number = |name: &str| std::fs::read_to_string(path.join(name)).ok()?.trim().parse::<u64>().ok();
        if let (Some(most), Some(used)) = (number("memory.max"), number("memory.current")) {
            let left = most.saturating_sub(used);
            least = Some(least.map_or(left, |known: u64| known.min(left)));
        }
        if !path.pop() {
            break;
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_is_read_in_bytes() {
        let text = "MemTotal:       16000 kB\nMemFree:         100 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(machine(text), Some(2_048 * 1_024));
        assert_eq!(machine("MemTotal: 1 kB\n"), None);
        assert_eq!(machine("MemAvailable: much\n"), None);
    }

    #[test]
    fn the_tightest_control_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("box/memory.max", "1000\n");
        write("box/memory.current", "400\n");
        write("box/calls/memory.max", "max\n");
        write("box/calls/memory.current", "300\n");
        assert_eq!(group_left("0::/box/calls\n", root.path()), Some(600));
        assert_eq!(group_left("0::/other\n", root.path()), None);
        assert_eq!(group_left("1:name=systemd:/\n", root.path()), None);
    }

    #[test]
    fn too_little_is_told_and_enough_is_not() {
        let need = Need { bytes: 100, keep_free: 50 };
        assert_eq!(need.lacking(Some(149)), Some(149));
        assert_eq!(need.lacking(Some(150)), None);
        assert_eq!(need.lacking(None), None);
        assert_eq!(Need { bytes: 1, keep_free: u64::MAX }.lacking(Some(5)), Some(5));
    }

    #[test]
    fn this_machine_says_what_it_has() {
        if cfg!(target_os = "linux") {
            assert!(held().unwrap() > 0 && available().is_some());
        }
    }
}
