//! How the machine is: what Linux says of itself.

use std::fs;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use trunkline_wire::Health;

use crate::clock::Clock;

/// Looks at the machine; `data` lies on the disk whose room counts. What cannot be read is left out.
pub(crate) fn look(data: &Path, clock: &Clock) -> Health {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (memory, zones) = (read("/proc/meminfo"), "/sys/class/thermal");
    let disk = statvfs(data).ok();
    let mib = |blocks: u64, size: u64| blocks.saturating_mul(size) / (1024 * 1024);
    Health {
        uptime_s: first_number(&read("/proc/uptime")).map(|seconds| seconds as u64),
        load: first_number(&read("/proc/loadavg")),
        memory_free_mib: meminfo(&memory, "MemAvailable"),
        memory_mib: meminfo(&memory, "MemTotal"),
        disk_free_mib: disk.map(|disk| mib(disk.blocks_available(), disk.fragment_size())),
        disk_mib: disk.map(|disk| mib(disk.blocks(), disk.fragment_size())),
        temperature_c: hottest(Path::new(zones)),
        clock_off_s: Some(clock.off().as_secs()).filter(|off| *off != 0),
    }
}

/// The first number of `/proc/uptime` and `/proc/loadavg`.
fn first_number(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

/// A line of `/proc/meminfo`, in MiB; it counts KiB.
fn meminfo(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(rest.split_whitespace().next()?.parse::<u64>().ok()? / 1024)
}

/// The hottest of the kernel's thermal zones, °C; they count thousandths. Sensors that are not there say nonsense.
fn hottest(zones: &Path) -> Option<i32> {
    let read =
        |zone: fs::DirEntry| fs::read_to_string(zone.path().join("temp")).ok()?.trim().parse::<i32>().ok();
    let all = fs::read_dir(zones).ok()?.filter_map(|zone| read(zone.ok()?));
    all.map(|thousandths| thousandths / 1_000).filter(|degrees| (-40..=150).contains(degrees)).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_says_how_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let health = look(dir.path(), &Clock::of_the_machine());
        assert!(health.disk_free_mib.unwrap() <= health.disk_mib.unwrap());
        assert!(health.memory_free_mib.unwrap() <= health.memory_mib.unwrap());
        assert!(health.uptime_s.unwrap() > 0 && health.load.unwrap() >= 0.0);
        assert_eq!(health.clock_off_s, None);
    }

    #[test]
    fn a_dead_battery_shows_once_the_cloud_has_said_what_time_it_is() {
        let clock = Clock::new(|| jiff::Timestamp::UNIX_EPOCH);
        clock.learn(jiff::Timestamp::from_second(1_800_000_000).unwrap());
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(look(dir.path(), &clock).clock_off_s, Some(-1_800_000_000));
    }

    #[test]
    fn the_hottest_zone_counts_and_a_sensor_that_is_not_there_does_not() {
        let dir = tempfile::tempdir().unwrap();
        for (zone, text) in [("a", "45500\n"), ("b", "61000\n"), ("c", "-274000\n"), ("d", "?")] {
            fs::create_dir(dir.path().join(zone)).unwrap();
            fs::write(dir.path().join(zone).join("temp"), text).unwrap();
        }
        assert_eq!(hottest(dir.path()), Some(61));
        assert_eq!(hottest(&dir.path().join("none")), None);
    }

    #[test]
    fn what_the_kernel_writes_is_read_and_nonsense_is_nothing() {
        let text = "MemTotal:       24576000 kB\nMemAvailable:    2048000 kB\n";
        assert_eq!((meminfo(text, "MemTotal"), meminfo(text, "MemAvailable")), (Some(24_000), Some(2_000)));
        assert_eq!((meminfo(text, "MemFree"), meminfo("MemTotal: x kB", "MemTotal")), (None, None));
        assert_eq!((first_number("0.52 0.58 0.59"), first_number("")), (Some(0.52), None));
    }
}
