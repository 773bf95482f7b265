//! How long customers waited for words, by box and hour.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use sqlx::{Row, SqliteConnection};
use trunkline_fleet::speed::{Times, bucket};
use trunkline_model::BoxId;
use trunkline_wire::CallRecord;

use crate::store::{count, parsed, to_json};
use crate::{Db, DbError};

/// Rollouts judge by the last two weeks at most.
const KEPT: SignedDuration = SignedDuration::from_hours(24 * 14);
const FIRST_WORD: u8 = 0;
const REPLY: u8 = 1;

/// How long the customers of one box waited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// From the answer to the first word.
    pub first_words: Times,
    /// From the end of the customer's speech to the first packet of the reply.
    pub replies: Times,
}

impl Db {
    /// Returns how long customers waited in the calls that ended since then, by box, from the next full hour on.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn waits(&self, since: Timestamp) -> Result<BTreeMap<BoxId, Waits>, DbError> {
        let rows = sqlx::query(
            "SELECT box, kind, bucket, SUM(n) AS n FROM call_speed WHERE hour >= ? GROUP BY box, kind, bucket",
        )
        // An hour that had begun was in part before it.
        .bind((since.as_second() + 3_599).div_euclid(3_600))
        .fetch_all(self.reader())
        .await?;
        let mut waits: BTreeMap<BoxId, Waits> = BTreeMap::new();
        for row in &rows {
            let waits = waits.entry(parsed("box id", row.try_get("box")?)?).or_default();
            let kind: u8 = row.try_get("kind")?;
            let times = if kind == FIRST_WORD { &mut waits.first_words } else { &mut waits.replies };
            times.add(row.try_get("bucket")?, count(row.try_get("n")?));
        }
        Ok(waits)
    }

    /// Forgets what is older than two weeks.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn forget_waits(&self, now: Timestamp) -> Result<(), DbError> {
        let before = now.saturating_sub(KEPT).unwrap_or(Timestamp::MIN);
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM call_speed WHERE hour < ?").bind(hour(before)).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }
}

/// Counts the waits of a call whose record came in.
pub(crate) async fn note_waits(
    conn: &mut SqliteConnection,
    by: &BoxId,
    record: &CallRecord,
) -> Result<(), DbError> {
    let mut counts: BTreeMap<(u8, u8), u64> = BTreeMap::new();
    let robot = record.turns.iter().flat_map(|turn| &turn.robot);
    if let Some(first) = robot.map(|said| said.start_s).min_by(f32::total_cmp) {
        counts.insert((FIRST_WORD, bucket(f64::from(first) * 1_000.0)), 1);
    }
    let answers = record.turns.iter().filter(|turn| turn.customer.is_some());
    for reply in answers.filter_map(|turn| turn.latency.as_ref()) {
        *counts.entry((REPLY, bucket(f64::from(reply.first_packet_ms)))).or_default() += 1;
    }
    if counts.is_empty() {
        return Ok(());
    }
    let counts: Vec<(u8, u8, u64)> =
        counts.into_iter().map(|((kind, bucket), n)| (kind, bucket, n)).collect();
    sqlx::query(
        "INSERT INTO call_speed (box, hour, kind, bucket, n)
         SELECT ?1, ?2, one.value ->> 0, one.value ->> 1, one.value ->> 2 FROM json_each(?3) AS one WHERE true
         ON CONFLICT (hour, box, kind, bucket) DO UPDATE SET n = n + excluded.n",
    )
    .bind(by.as_str())
    .bind(hour(record.ended))
    .bind(to_json("waits", &counts)?)
    .execute(conn)
    .await?;
    Ok(())
}

fn hour(at: Timestamp) -> i64 {
    at.as_second().div_euclid(3_600)
}
