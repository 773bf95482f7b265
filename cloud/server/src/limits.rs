//! How many files the system lets this process open: every box holds two connections.

use anyhow::{Context as _, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What is open beside the boxes: the database, the API's requests, callbacks, logs.
const OTHERS: u64 = 256;
/// One for its calls and one for its keeper.
const PER_BOX: u64 = 2;

/// Raises the limit as far as the system allows without being asked, and returns it.
pub(crate) fn raise() -> anyhow::Result<u64> {
    let (soft, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).context("could not read the limit of open files")?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("could not raise the limit of open files")?;
    }
    Ok(hard)
}

/// Says whether the limit is enough for the boxes that are known, before the first of them is turned away. Warns
/// when it will not be for a quarter more.
pub(crate) fn check(limit: u64, boxes: u64) -> anyhow::Result<()> {
    let needed = needed(boxes);
    ensure!(
        limit >= needed,
        "this process may open {limit} files, and {boxes} boxes need {needed}: set `LimitNOFILE={}` in its systemd unit, or `ulimit -Hn` before it starts",
        needed.next_power_of_two()
    );
    if limit < self::needed(boxes + boxes / 4) {
        tracing::warn!(
            limit,
            boxes,
            "The limit of open files will be too low when the fleet grows by a quarter"
        );
    }
    Ok(())
}

fn needed(boxes: u64) -> u64 {
    OTHERS + PER_BOX * boxes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_boxes_need_more_files_than_a_shell_allows_and_the_remedy_is_said() {
        assert!(check(1_024, 300).is_ok());
        let error = check(1_024, 10_000).unwrap_err().to_string();
        assert!(error.contains("20256") && error.contains("LimitNOFILE=32768"), "{error}");
        assert!(check(32_768, 10_000).is_ok());
    }

    #[test]
    fn the_limit_is_raised_to_what_the_system_allows() {
        let limit = raise().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (limit, limit));
    }
}
