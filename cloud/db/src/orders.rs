//! What people told single boxes to do, how far that is, and the files that boxes sent for it.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use trunkline_model::BoxId;
use trunkline_wire::{OrderCommand, OrderReport};
use uuid::Uuid;

use crate::fleet::append;
use crate::store::{count, instant, json, number, parsed, to_json};
use crate::{Db, DbError};

/// So many orders of one box are open at once; the box remembers many more.
const MOST_OPEN: i64 = 8;
/// An order that a box has begun is given up when nothing was heard of it for so long after its end.
const NO_WORD: SignedDuration = SignedDuration::from_hours(2);
/// An order that is over is forgotten after this time; the log of the fleet keeps its story.
const KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);
/// A file that is not complete is given up after this time.
const HALF_A_FILE: SignedDuration = SignedDuration::from_hours(24);

/// One order.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Order")]
pub struct OrderRow {
    /// The order.
    pub id: Uuid,
    /// The box that it is for.
    #[serde(rename = "box")]
    pub box_id: BoxId,
    /// What is sent to the box.
    #[serde(flatten)]
    pub command: OrderView,
    /// The name of the token that gave it.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// It is not begun after this instant.
    pub expires: Timestamp,
    /// How far it is.
    #[schemars(extend("enum" = ["queued", "sent", "running", "done", "failed", "expired"]))]
    pub state: String,
    /// Why it failed or expired, or what it waits for: a word that programs can rely on.
    pub reason: String,
    /// In words.
    pub detail: String,
    /// When its state changed last.
    pub changed: Timestamp,
    /// What the box sent for it, once that is complete.
    pub file: Option<FileRow>,
}

/// The part of an order that says what to do.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct OrderView {
    /// Such as `drain`.
    pub kind: String,
    /// Calls under way are not waited for.
    pub now: bool,
    /// `drain`: until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// `logs`: so many lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lines: Option<u32>,
    /// `logs`: none before this instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// A file that a box sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "SentFile")]
pub struct FileRow {
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of it, in hexadecimal.
    pub sha256: String,
    /// It is removed then.
    pub until: Timestamp,
}

impl OrderRow {
    /// Returns what is sent to the box.
    pub fn command(&self) -> OrderCommand {
        let OrderView { kind, now, until, lines, since } = self.command.clone();
        OrderCommand { order: self.id, kind, expires: self.expires, now, until, lines, since }
    }
}

/// Why a box may not send this for an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileRefused {
    /// It has no such open order.
    NoOrder,
    /// The part does not begin where the last one ended, which is here; or it reaches beyond the end.
    NotNext(u64),
}

impl Db {
    /// Keeps an order; `None` when too many are open for the box.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn create_order(
        &self,
        box_id: &BoxId,
        command: &OrderCommand,
        by: &str,
        now: Timestamp,
    ) -> Result<Option<OrderRow>, DbError> {
        let mut tx = self.begin().await?;
        let open: i64 = sqlx::query(
            "SELECT COUNT(*) AS n FROM orders WHERE box = ? AND state IN ('queued', 'sent', 'running')",
        )
        .bind(box_id.as_str())
        .fetch_one(&mut *tx)
        .await?
        .try_get("n")?;
        if open >= MOST_OPEN {
            return Ok(None);
        }
        sqlx::query(
            "INSERT INTO orders (id, box, kind, command, by_whom, at, expires, state, changed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'queued', ?6)",
        )
        .bind(command.order.to_string())
        .bind(box_id.as_str())
        .bind(&command.kind)
        .bind(to_json("order", command)?)
        .bind(by)
        .bind(now.as_millisecond())
        .bind(command.expires.as_millisecond())
        .execute(&mut *tx)
        .await?;
        let detail = format!("{} ({})", command.kind, command.order);
        append(&mut tx, by, box_id.as_str(), "ordered", &detail, now).await?;
        let row = read(&mut tx, &command.order).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// Returns an order.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn order(&self, id: &Uuid) -> Result<Option<OrderRow>, DbError> {
        read(&mut *self.reader().acquire().await?, id).await
    }

    /// Returns the orders of a box, the newest first.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn orders(&self, box_id: &BoxId, limit: u32) -> Result<Vec<OrderRow>, DbError> {
        let rows = sqlx::query("SELECT * FROM orders WHERE box = ? ORDER BY at DESC, id DESC LIMIT ?")
            .bind(box_id.as_str())
            .bind(limit)
            .fetch_all(self.reader())
            .await?;
        rows.iter().map(row).collect()
    }

    /// Returns the orders that no box has begun yet and that are still good, oldest first.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn orders_to_send(&self, now: Timestamp) -> Result<Vec<OrderRow>, DbError> {
        let rows = sqlx::query(
            "SELECT * FROM orders WHERE state IN ('queued', 'sent') AND expires > ? ORDER BY at, id",
        )
        .bind(now.as_millisecond())
        .fetch_all(self.reader())
        .await?;
        rows.iter().map(row).collect()
    }

    /// Notes that an order went out to a box that listens.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn order_sent(&self, id: &Uuid, now: Timestamp) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE orders SET state = 'sent', changed = ? WHERE id = ? AND state = 'queued'")
            .bind(now.as_millisecond())
            .bind(id.to_string())
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Takes what a box says of its orders. What is over stays over, except that a box's word outweighs an order's
    /// end. Returns those that are over since.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn orders_told(
        &self,
        box_id: &BoxId,
        told: &[OrderReport],
        now: Timestamp,
    ) -> Result<Vec<OrderRow>, DbError> {
        let mut over = Vec::new();
        for report in told {
            let Some(known) = self.order(&report.order).await? else { continue };
            let same = (known.state.as_str(), known.reason.as_str(), known.detail.as_str())
                == (report.state.as_str(), report.reason.as_str(), report.detail.as_str());
            let closed = matches!(known.state.as_str(), "done" | "failed");
            let word = matches!(report.state.as_str(), "running" | "done" | "failed");
            if known.box_id != *box_id || same || closed || !word {
                continue;
            }
            let mut tx = self.begin().await?;
            sqlx::query(
                "UPDATE orders SET state = ?, reason = ?, detail = ?, changed = ?
                 WHERE id = ? AND state NOT IN ('done', 'failed')",
            )
            .bind(&report.state)
            .bind(shortened(&report.reason))
            .bind(shortened(&report.detail))
            .bind(now.as_millisecond())
            .bind(report.order.to_string())
            .execute(&mut *tx)
            .await?;
            if report.state != "running" {
                let what = format!("order {}", report.state);
                let detail = format!("{} ({}) {}", known.command.kind, known.id, shortened(&report.reason));
                append(&mut tx, "cloud", box_id.as_str(), &what, detail.trim_end(), now).await?;
                over.extend(read(&mut tx, &report.order).await?);
            }
            tx.commit().await?;
        }
        Ok(over)
    }

    /// Ends orders whose time is over, and forgets files whose time is over, and orders that have long been over.
    /// Returns those that it ended.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn expire_orders(&self, now: Timestamp) -> Result<Vec<OrderRow>, DbError> {
        let long_ago = now.saturating_sub(NO_WORD).unwrap_or(Timestamp::MIN);
        let due = sqlx::query(
            "SELECT id FROM orders WHERE (state IN ('queued', 'sent') AND expires <= ?1)
                OR (state = 'running' AND expires <= ?2 AND changed <= ?2)",
        )
        .bind(now.as_millisecond())
        .bind(long_ago.as_millisecond())
        .fetch_all(self.reader())
        .await?;
        let mut over = Vec::new();
        for row in due {
            let id: Uuid = parsed("order id", row.try_get("id")?)?;
            let mut tx = self.begin().await?;
            let Some(known) = read(&mut tx, &id).await? else { continue };
            let (state, reason) = match known.state.as_str() {
                "queued" => ("expired", "not_there"),
                "sent" => ("expired", "no_answer"),
                "running" => ("failed", "no_word"),
                _ => continue,
            };
            sqlx::query("UPDATE orders SET state = ?, reason = ?, changed = ? WHERE id = ?")
                .bind(state)
                .bind(reason)
                .bind(now.as_millisecond())
                .bind(id.to_string())
                .execute(&mut *tx)
                .await?;
            let detail = format!("{} ({id}) {reason}", known.command.kind);
            append(&mut tx, "cloud", known.box_id.as_str(), &format!("order {state}"), &detail, now).await?;
            over.extend(read(&mut tx, &id).await?);
            tx.commit().await?;
        }
        self.forget_order_files(now).await?;
        self.forget_orders(now).await?;
        Ok(over)
    }

    async fn forget_orders(&self, now: Timestamp) -> Result<(), DbError> {
        let before = now.saturating_sub(KEPT).unwrap_or(Timestamp::MIN).as_millisecond();
        let old = "changed <= ? AND state IN ('done', 'failed', 'expired') AND bytes IS NULL";
        let some = sqlx::query(&format!("SELECT 1 FROM orders WHERE {old} LIMIT 1"))
            .bind(before)
            .fetch_optional(self.reader())
            .await?;
        if some.is_none() {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        sqlx::query(&format!("DELETE FROM orders WHERE {old}")).bind(before).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    async fn forget_order_files(&self, now: Timestamp) -> Result<(), DbError> {
        let half = now.saturating_sub(HALF_A_FILE).unwrap_or(Timestamp::MIN);
        let due = sqlx::query(
            "SELECT id FROM orders WHERE bytes IS NOT NULL
                AND (kept <= ?1 OR (kept IS NULL AND changed <= ?2))",
        )
        .bind(now.as_millisecond())
        .bind(half.as_millisecond())
        .fetch_all(self.reader())
        .await?;
        for row in due {
            let id: String = row.try_get("id")?;
            let mut tx = self.begin().await?;
            drop_file(&mut tx, &id).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Begins to take a file for an order, or goes on with the same one; returns how much of it there is.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn begin_order_file(
        &self,
        box_id: &BoxId,
        id: &Uuid,
        bytes: u64,
        sha256: &str,
    ) -> Result<Result<u64, FileRefused>, DbError> {
        let mut tx = self.begin().await?;
        let Some((known, promised)) = open_for(&mut tx, box_id, id).await? else {
            return Ok(Err(FileRefused::NoOrder));
        };
        if promised != Some((bytes, sha256.to_owned())) {
            if known.file.is_some() {
                // What people may be reading is not replaced.
                return Ok(Err(FileRefused::NoOrder));
            }
            drop_file(&mut tx, &id.to_string()).await?;
            sqlx::query("UPDATE orders SET bytes = ?, sha256 = ? WHERE id = ?")
                .bind(number(bytes))
                .bind(sha256)
                .bind(id.to_string())
                .execute(&mut *tx)
                .await?;
        }
        let has = held(&mut tx, id).await?;
        tx.commit().await?;
        Ok(Ok(has))
    }

    /// Takes the next part of a file; returns how much of it there is, and how much there will be. A part that came
    /// already changes nothing.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn add_order_part(
        &self,
        box_id: &BoxId,
        id: &Uuid,
        at: u64,
        part: &[u8],
    ) -> Result<Result<(u64, u64), FileRefused>, DbError> {
        let mut tx = self.begin().await?;
        let Some((_, Some((bytes, _)))) = open_for(&mut tx, box_id, id).await? else {
            return Ok(Err(FileRefused::NoOrder));
        };
        let has = held(&mut tx, id).await?;
        let end = at.saturating_add(part.len() as u64);
        if end <= has {
            return Ok(Ok((has, bytes)));
        }
        if at != has || end > bytes {
            return Ok(Err(FileRefused::NotNext(has)));
        }
        sqlx::query("INSERT INTO order_parts (id, at, bytes) VALUES (?, ?, ?)")
            .bind(id.to_string())
            .bind(number(at))
            .bind(part)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(Ok((end, bytes)))
    }

    /// Says that a file is complete and as promised, and is kept until then; or, with `None`, that it is not and is
    /// to be sent anew.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn close_order_file(&self, id: &Uuid, until: Option<Timestamp>) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        match until {
            None => drop_file(&mut tx, &id.to_string()).await?,
            Some(until) => {
                sqlx::query("UPDATE orders SET kept = ? WHERE id = ?")
                    .bind(until.as_millisecond())
                    .bind(id.to_string())
                    .execute(&mut *tx)
                    .await?;
            }
        }
        Ok(tx.commit().await?)
    }

    /// Returns what there is of an order's file, with what was promised of it.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn order_file(&self, id: &Uuid) -> Result<Option<(Vec<u8>, String)>, DbError> {
        let row = sqlx::query("SELECT sha256 FROM orders WHERE id = ? AND bytes IS NOT NULL")
            .bind(id.to_string())
            .fetch_optional(self.reader())
            .await?;
        let Some(row) = row else { return Ok(None) };
        let parts = sqlx::query("SELECT bytes FROM order_parts WHERE id = ? ORDER BY at")
            .bind(id.to_string())
            .fetch_all(self.reader())
            .await?;
        let mut all = Vec::new();
        for part in parts {
            all.extend(part.try_get::<Vec<u8>, _>("bytes")?);
        }
        Ok(Some((all, row.try_get("sha256")?)))
    }
}

/// A box's words are cut where they would fill the table.
fn shortened(text: &str) -> String {
    text.chars().take(500).collect()
}

async fn drop_file(conn: &mut SqliteConnection, id: &str) -> Result<(), DbError> {
    sqlx::query("DELETE FROM order_parts WHERE id = ?").bind(id).execute(&mut *conn).await?;
    sqlx::query("UPDATE orders SET bytes = NULL, sha256 = NULL, kept = NULL WHERE id = ?")
        .bind(id)
        .execute(conn)
        .await?;
    Ok(())
}

async fn held(conn: &mut SqliteConnection, id: &Uuid) -> Result<u64, DbError> {
    let row = sqlx::query("SELECT COALESCE(SUM(LENGTH(bytes)), 0) AS n FROM order_parts WHERE id = ?")
        .bind(id.to_string())
        .fetch_one(conn)
        .await?;
    Ok(count(row.try_get("n")?))
}

/// Returns an order for which its box may send a file, and what it promised of one.
async fn open_for(
    conn: &mut SqliteConnection,
    box_id: &BoxId,
    id: &Uuid,
) -> Result<Option<(OrderRow, Option<(u64, String)>)>, DbError> {
    let found = sqlx::query(
        "SELECT * FROM orders WHERE id = ? AND box = ? AND kind IN ('logs', 'diag')
            AND state IN ('sent', 'running', 'queued', 'expired')",
    )
    .bind(id.to_string())
    .bind(box_id.as_str())
    .fetch_optional(conn)
    .await?;
    let Some(found) = found else { return Ok(None) };
    let bytes: Option<i64> = found.try_get("bytes")?;
    let sha256: Option<String> = found.try_get("sha256")?;
    Ok(Some((row(&found)?, bytes.map(count).zip(sha256))))
}

async fn read(conn: &mut SqliteConnection, id: &Uuid) -> Result<Option<OrderRow>, DbError> {
    let found =
        sqlx::query("SELECT * FROM orders WHERE id = ?").bind(id.to_string()).fetch_optional(conn).await?;
    found.as_ref().map(row).transpose()
}

fn row(row: &SqliteRow) -> Result<OrderRow, DbError> {
    let command: OrderCommand = json("order", row.try_get("command")?)?;
    let kept: Option<i64> = row.try_get("kept")?;
    let file = match (row.try_get::<Option<i64>, _>("bytes")?, row.try_get("sha256")?, kept) {
        (Some(bytes), Some(sha256), Some(kept)) => {
            Some(FileRow { bytes: count(bytes), sha256, until: instant(kept)? })
        }
        _ => None,
    };
    let OrderCommand { kind, now, until, lines, since, .. } = command;
    Ok(OrderRow {
        id: parsed("order id", row.try_get("id")?)?,
        box_id: parsed("box id", row.try_get("box")?)?,
        command: OrderView { kind, now, until, lines, since },
        by: row.try_get("by_whom")?,
        at: instant(row.try_get("at")?)?,
        expires: instant(row.try_get("expires")?)?,
        state: row.try_get("state")?,
        reason: row.try_get("reason")?,
        detail: row.try_get("detail")?,
        changed: instant(row.try_get("changed")?)?,
        file,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t0() -> Timestamp {
        "2026-11-23T10:00:00Z".parse().unwrap()
    }

    fn at(minutes: i64) -> Timestamp {
        t0() + SignedDuration::from_mins(minutes)
    }

    async fn open() -> (tempfile::TempDir, Db, BoxId) {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("cloud.sqlite")).await.unwrap();
        (dir, db, "tl-a".parse().unwrap())
    }

    fn command(kind: &str) -> OrderCommand {
        OrderCommand { order: Uuid::now_v7(), kind: kind.into(), expires: at(15), ..OrderCommand::default() }
    }

    fn told(order: Uuid, state: &str, reason: &str) -> [OrderReport; 1] {
        [OrderReport { order, state: state.into(), reason: reason.into(), detail: String::new() }]
    }

    #[tokio::test]
    async fn an_order_is_sent_until_the_box_says_something_and_ends_once() {
        let (_dir, db, id) = open().await;
        let order = command("restart");
        let created = db.create_order(&id, &order, "li", t0()).await.unwrap().unwrap();
        assert_eq!(
            (created.state.as_str(), created.command(), created.by.as_str()),
            ("queued", order.clone(), "li")
        );
        assert_eq!(db.orders_to_send(at(1)).await.unwrap().len(), 1);
        db.order_sent(&order.order, at(1)).await.unwrap();
        assert_eq!(db.orders_to_send(at(2)).await.unwrap()[0].state, "sent");

        let other: BoxId = "tl-b".parse().unwrap();
        let foreign = db.orders_told(&other, &told(order.order, "done", ""), at(2)).await.unwrap();
        assert!(foreign.is_empty(), "another box's word");
        db.orders_told(&id, &told(order.order, "running", "calls_under_way"), at(2)).await.unwrap();
        assert!(db.orders_to_send(at(3)).await.unwrap().is_empty());
        let over = db.orders_told(&id, &told(order.order, "done", ""), at(3)).await.unwrap();
        assert_eq!(over[0].state, "done");
        for late in ["running", "failed", "of_tomorrow"] {
            assert!(db.orders_told(&id, &told(order.order, late, "x"), at(4)).await.unwrap().is_empty());
        }
        assert_eq!(db.order(&order.order).await.unwrap().unwrap().state, "done");
        let log: Vec<String> =
            db.fleet_log("tl-a", 10).await.unwrap().into_iter().map(|one| one.what).collect();
        assert_eq!(log, ["ordered", "order done"]);
    }

    #[tokio::test]
    async fn an_order_that_nobody_took_expires_and_says_why() {
        let (_dir, db, id) = open().await;
        let (away, mute, stuck) = (command("restart"), command("reboot"), command("drain"));
        for order in [&away, &mute, &stuck] {
            db.create_order(&id, order, "li", t0()).await.unwrap().unwrap();
        }
        db.order_sent(&mute.order, t0()).await.unwrap();
        db.orders_told(&id, &told(stuck.order, "running", ""), t0()).await.unwrap();
        assert!(db.expire_orders(at(14)).await.unwrap().is_empty());
        let reasons: Vec<_> = db.expire_orders(at(15)).await.unwrap();
        let mut reasons: Vec<&str> = reasons.iter().map(|one| one.reason.as_str()).collect();
        reasons.sort_unstable();
        assert_eq!(reasons, ["no_answer", "not_there"]);
        assert!(db.orders_to_send(at(10)).await.unwrap().is_empty(), "it is not sent a day later either");
        assert_eq!(db.expire_orders(at(135)).await.unwrap()[0].reason, "no_word");
        // It was on its way when it expired, and the box did it: that is what happened.
        let over = db.orders_told(&id, &told(mute.order, "done", ""), at(16)).await.unwrap();
        assert_eq!(over[0].state, "done");
        for _ in 0..8 {
            db.create_order(&id, &command("logs"), "li", at(20)).await.unwrap().unwrap();
        }
        assert!(db.create_order(&id, &command("logs"), "li", at(20)).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn an_order_that_has_long_been_over_is_forgotten_and_one_that_is_open_is_not() {
        let (_dir, db, id) = open().await;
        let (old, late, open, filed) =
            (command("restart"), command("reboot"), command("drain"), command("logs"));
        let long_open = at(200 * 24 * 60);
        for order in [&old, &late, &filed] {
            db.create_order(&id, order, "li", t0()).await.unwrap().unwrap();
        }
        let open = OrderCommand { expires: long_open, ..open };
        db.create_order(&id, &open, "li", t0()).await.unwrap().unwrap();
        db.orders_told(&id, &told(open.order, "running", ""), t0()).await.unwrap();
        db.begin_order_file(&id, &filed.order, 2, "aa").await.unwrap().unwrap();
        db.add_order_part(&id, &filed.order, 0, b"ab").await.unwrap().unwrap();
        db.close_order_file(&filed.order, Some(long_open)).await.unwrap();
        db.orders_told(&id, &told(old.order, "done", ""), at(1)).await.unwrap();
        db.orders_told(&id, &told(filed.order, "done", ""), at(1)).await.unwrap();
        db.orders_told(&id, &told(late.order, "failed", "x"), at(2)).await.unwrap();
        let left = async || -> Vec<Uuid> {
            db.orders(&id, 10).await.unwrap().into_iter().map(|order| order.id).collect()
        };
        let days_90 = 90 * 24 * 60;
        db.expire_orders(at(days_90)).await.unwrap();
        assert_eq!(left().await.len(), 4);
        db.expire_orders(at(days_90 + 1)).await.unwrap();
        let kept = left().await;
        assert!(!kept.contains(&old.order) && kept.contains(&late.order), "the oldest alone is gone");
        db.expire_orders(at(days_90 + 2)).await.unwrap();
        let mut kept = left().await;
        kept.sort_unstable();
        let mut expected = [open.order, filed.order];
        expected.sort_unstable();
        assert_eq!(kept, expected, "one is not over, and people may still read the file of the other");
        db.expire_orders(long_open).await.unwrap();
        assert!(!left().await.contains(&filed.order), "with its file");
    }

    #[tokio::test]
    async fn a_file_comes_part_by_part_goes_on_after_a_break_and_is_forgotten_in_time() {
        let (_dir, db, id) = open().await;
        let order = command("logs");
        db.create_order(&id, &order, "li", t0()).await.unwrap().unwrap();
        let begin = async |sha: &str| db.begin_order_file(&id, &order.order, 6, sha).await.unwrap();
        let add = async |at, part: &[u8]| db.add_order_part(&id, &order.order, at, part).await.unwrap();
        assert_eq!(add(0, b"ab").await, Err(FileRefused::NoOrder), "nothing was promised");
        assert_eq!(begin("aa").await, Ok(0));
        assert_eq!(add(0, b"abc").await, Ok((3, 6)));
        assert_eq!(add(0, b"abc").await, Ok((3, 6)), "again");
        assert_eq!(add(4, b"ef").await, Err(FileRefused::NotNext(3)));
        assert_eq!(add(3, b"defg").await, Err(FileRefused::NotNext(3)), "more than was promised");
        assert_eq!(begin("aa").await, Ok(3), "after a break");
        assert_eq!(add(3, b"def").await, Ok((6, 6)));
        assert_eq!(db.order_file(&order.order).await.unwrap(), Some((b"abcdef".to_vec(), "aa".into())));
        assert_eq!(db.order(&order.order).await.unwrap().unwrap().file, None, "not looked at yet");
        db.close_order_file(&order.order, Some(at(60))).await.unwrap();
        assert_eq!(db.order(&order.order).await.unwrap().unwrap().file.unwrap().bytes, 6);
        assert_eq!(begin("bb").await, Err(FileRefused::NoOrder), "what people read is not replaced");
        db.expire_orders(at(61)).await.unwrap();
        assert_eq!(db.order_file(&order.order).await.unwrap(), None);

        let other: BoxId = "tl-b".parse().unwrap();
        let foreign = db.begin_order_file(&other, &order.order, 1, "aa").await.unwrap();
        assert_eq!(foreign, Err(FileRefused::NoOrder));
    }
}
