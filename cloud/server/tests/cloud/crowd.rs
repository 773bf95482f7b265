//! A fleet on this machine: every box with a certificate of its own, and the cloud killed while they speak.

use std::path::PathBuf;
use std::time::Duration;

use trunkline_load::{Plan, Promises, Report, run};

/// What is promised, with the patience of a build for development on a machine that does other things too.
const PROMISES: Promises = Promises {
    back: Duration::from_secs(60),
    p99: Duration::from_secs(15),
    memory_kib: 1024 * 1024,
    share: 0.9,
};

const BOXES: usize = 2_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_boxes_survives_a_kill_of_the_cloud_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan {
        boxes: BOXES,
        phases: vec![(400, Duration::from_secs(5))],
        kills: 1,
        cloud: PathBuf::from(env!("CARGO_BIN_EXE_trunkline-cloud")),
        dir: dir.path().to_owned(),
    };
    let report = run(&plan).await.unwrap();
    println!("{}\n{}", Report::head(), report.row());
    assert_eq!(report.broken_promises(&PROMISES), Vec::<String>::new());
    // More were made than the phase without a fault asked for: those while the cloud was away are among them.
    let compared = report.compared;
    assert!(compared.made > 2_000 && compared.stored == compared.made, "{report:?}");
    assert!(report.broken >= BOXES as u64, "the kill broke every connection");
}
