//! How many files the system lets this process open: every connection is one, and every box holds two.

use std::fs;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::ready;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::Mutex;
use tokio::time::Sleep;
use trunkline_api::OpenFiles;
use trunkline_db::Db;

/// What may be opened beside the boxes' connections: the database, the API's requests, callbacks, logs.
const OTHERS: u64 = 256;
/// Of those, so many are lent to connections that have not yet said whose they are.
const STRANGERS: u64 = 64;
/// So many connections at most are accepted before the accept loop gives way (tokio's budget of a task).
const BURST: u64 = 128;
/// One for its calls and one for its keeper.
const PER_BOX: u64 = 2;
/// How often it is looked whether there is room again.
const LOOK: Duration = Duration::from_millis(100);
/// How long the number of boxes that are away is believed.
const AWAY_COUNTS: Duration = Duration::from_secs(1);

/// Raises the limit as far as the system allows without being asked, and returns it.
pub(crate) fn raise() -> anyhow::Result<u64> {
    let (soft, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).context("could not read the limit of open files")?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("could not raise the limit of open files")?;
    }
    Ok(hard)
}

/// Says whether the limit is enough for the calls of the boxes that are known, before the first of them is turned
/// away. Where it is not enough for all that they connect with, it says so loudly, and calls come first.
pub(crate) fn check(limit: u64, boxes: u64) -> anyhow::Result<()> {
    let remedy = || {
        let enough = needed(boxes, PER_BOX).next_power_of_two();
        format!("set `LimitNOFILE={enough}` in its systemd unit, or `ulimit -Hn {enough}` before it starts")
    };
    let least = needed(boxes, 1);
    ensure!(
        limit >= least,
        "this process may open {limit} files, and the calls of {boxes} boxes alone need {least}: {}",
        remedy()
    );
    if limit < needed(boxes, PER_BOX) {
        tracing::error!(
            limit,
            boxes,
            "The limit of open files is too low for both connections of every box: some are not managed and not updated; {}",
            remedy()
        );
    } else if limit < needed(boxes + boxes / 4, PER_BOX) {
        tracing::warn!(
            limit,
            boxes,
            "The limit of open files will be too low when the fleet grows by a quarter; {}",
            remedy()
        );
    }
    Ok(())
}

fn needed(boxes: u64, each: u64) -> u64 {
    OTHERS + each * boxes
}

/// Keeps so many files free that the API and the database work, however many boxes come.
pub(crate) struct Room {
    files: Arc<OpenFiles>,
    /// How many boxes are away, and when that was asked.
    away: Mutex<Option<(Instant, u64)>>,
    /// What the accept loop may take before files are counted again.
    credit: AtomicU64,
}

impl Room {
    pub(crate) fn new(limit: u64) -> Self {
        let files = Arc::new(OpenFiles { limit: limit.into(), ..OpenFiles::default() });
        let room = Self { files, away: Mutex::default(), credit: AtomicU64::new(0) };
        room.count();
        room
    }

    /// Returns what there is to show of it.
    pub(crate) fn files(&self) -> Arc<OpenFiles> {
        Arc::clone(&self.files)
    }

    /// Says whether a box's connection, which is open already, may stay; who may not is counted. One that is not for
    /// calls may only while all boxes that are away would still find room for theirs.
    pub(crate) async fn admits(&self, for_calls: bool, db: &Db) -> bool {
        let kept = if for_calls { 0 } else { self.away(db).await };
        let admitted = self.count() + kept <= self.for_boxes();
        if !admitted {
            self.files.refused.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    async fn away(&self, db: &Db) -> u64 {
        let mut known = self.away.lock().await;
        if let Some((_, away)) = known.filter(|(asked, _)| asked.elapsed() < AWAY_COUNTS) {
            return away;
        }
        match db.offline_count().await {
            Ok(away) => {
                *known = Some((Instant::now(), away));
                away
            }
            Err(error) => {
                tracing::warn!(%error, "Boxes that are away could not be counted");
                0
            }
        }
    }

    /// Says whether some more connections may be accepted, whoever they are. Files are counted the more often the
    /// fewer are left.
    fn accepts(&self) -> bool {
        let credit = self.credit.load(Ordering::Relaxed);
        if credit >= BURST {
            self.credit.store(credit - BURST, Ordering::Relaxed);
            return true;
        }
        let left = (self.for_boxes() + STRANGERS).saturating_sub(self.count());
        self.credit.store(left.saturating_sub(BURST), Ordering::Relaxed);
        left > 0
    }

    fn for_boxes(&self) -> u64 {
        self.files.limit.load(Ordering::Relaxed).saturating_sub(OTHERS)
    }

    fn count(&self) -> u64 {
        let open = open_files();
        self.files.open.store(open, Ordering::Relaxed);
        open
    }
}

/// Polls an accept loop only while there is room for what it accepts. Until then who comes waits in the system's queue.
pub(crate) async fn while_there_is_room(room: Arc<Room>, accepting: impl Future<Output = ()>) {
    let mut accepting = pin!(accepting);
    let mut pause: Option<Pin<Box<Sleep>>> = None;
    std::future::poll_fn(|cx| {
        loop {
            if let Some(pause) = &mut pause {
                ready!(pause.as_mut().poll(cx));
            }
            pause = None;
            if room.accepts() {
                return accepting.as_mut().poll(cx);
            }
            pause = Some(Box::pin(tokio::time::sleep(LOOK)));
        }
    })
    .await;
}

/// Counts this process' open files. From Linux 6.2 on the folder's size is their number; before, they are listed.
fn open_files() -> u64 {
    let at = "/proc/self/fd";
    match fs::metadata(at).map_or(0, |folder| folder.len()) {
        0 => fs::read_dir(at).map_or(0, |files| files.count() as u64),
        open => open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cloud_starts_when_every_box_can_hold_calls_and_says_what_to_do_otherwise() {
        assert!(check(1_024, 300).is_ok());
        let error = check(1_024, 10_000).unwrap_err().to_string();
        assert!(error.contains("10256") && error.contains("LimitNOFILE=32768"), "{error}");
        assert!(check(10_256, 10_000).is_ok(), "one connection each, with a loud word");
        assert!(check(10_255, 10_000).is_err());
    }

    #[test]
    fn the_limit_is_raised_to_what_the_system_allows() {
        let limit = raise().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (limit, limit));
    }

    #[test]
    fn a_file_more_is_counted() {
        // Other tests may open and close files in between, but not so many.
        let before = open_files();
        let files: Vec<_> = (0..500).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        assert!(open_files() > before + 250, "{before}");
        drop(files);
    }

    #[tokio::test]
    async fn nobody_is_accepted_without_room_and_the_loop_goes_on_when_there_is_some() {
        let accepted = Arc::new(AtomicU64::new(0));
        let counting = Arc::clone(&accepted);
        let accepting = async move {
            loop {
                counting.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        // As many as are lent to strangers are open already.
        let _files: Vec<_> = (0..STRANGERS).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        let room = Arc::new(Room::new(OTHERS));
        let mut running = pin!(while_there_is_room(Arc::clone(&room), accepting));
        let awhile = 3 * LOOK;
        assert!(tokio::time::timeout(awhile, &mut running).await.is_err());
        assert_eq!(accepted.load(Ordering::Relaxed), 0);

        room.files.limit.store(20_000, Ordering::Relaxed);
        assert!(tokio::time::timeout(awhile, &mut running).await.is_err());
        assert!(accepted.load(Ordering::Relaxed) > 0);
    }

    #[tokio::test]
    async fn a_second_connection_leaves_room_for_the_calls_of_boxes_that_are_away() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("cloud.sqlite")).await.unwrap();
        for n in 0..600 {
            let birth = trunkline_wire::Birth {
                online: true,
                sess: 1,
                software: String::new(),
                channels: 1,
                oldest: None,
                trunks: Vec::new(),
                suppressions: None,
                numbers: None,
            };
            db.box_said(&format!("tl-{n}").parse().unwrap(), &birth, jiff::Timestamp::UNIX_EPOCH)
                .await
                .unwrap();
        }
        db.all_boxes_offline().await.unwrap();
        let room = Room::new(OTHERS + 600);
        assert!(room.admits(true, &db).await);
        assert!(!room.admits(false, &db).await);
        assert_eq!(room.files().refused.load(Ordering::Relaxed), 1);
    }
}
