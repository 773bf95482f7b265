//! The log of a call: what happened, in the order in which the cloud learned of it.

use jiff::Timestamp;
use serde_json::Value;
use sqlx::{Row, SqliteConnection};
use trunkline_model::CallId;
use trunkline_wire::TurnReply;

use crate::store::{count, instant, json, number, parsed, to_json};
use crate::{Db, DbError};

/// One line of a call's log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogEntry {
    /// Its number, rising over all calls.
    pub n: u64,
    /// Such as `call.progress`.
    pub kind: String,
    /// When.
    pub at: Timestamp,
    /// What.
    pub data: Value,
}

/// One line of the log of all calls.
#[derive(Clone, Debug, PartialEq)]
pub struct CallLogEntry {
    /// The call.
    pub call: CallId,
    /// Its number, rising over all calls.
    pub n: u64,
    /// Such as `call.progress`.
    pub kind: String,
    /// When.
    pub at: Timestamp,
    /// What.
    pub data: Value,
}

impl Db {
    /// Returns what happened on any call after line `after`, at most `limit` lines.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn log_of_all_after(&self, after: u64, limit: u32) -> Result<Vec<CallLogEntry>, DbError> {
        let rows = sqlx::query("SELECT n, call, kind, data, at FROM call_log WHERE n > ? ORDER BY n LIMIT ?")
            .bind(number(after))
            .bind(limit)
            .fetch_all(self.reader())
            .await?;
        rows.iter()
            .map(|row| {
                Ok(CallLogEntry {
                    call: parsed("call id", &row.try_get::<String, _>("call")?)?,
                    n: count(row.try_get("n")?),
                    kind: row.try_get("kind")?,
                    at: instant(row.try_get("at")?)?,
                    data: json("log line", row.try_get("data")?)?,
                })
            })
            .collect()
    }

    /// Returns the number of the last line of the log; 0 for an empty one.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn log_head(&self) -> Result<u64, DbError> {
        let row =
            sqlx::query("SELECT coalesce(max(n), 0) AS n FROM call_log").fetch_one(self.reader()).await?;
        Ok(count(row.try_get("n")?))
    }

    /// Returns what happened on a call after line `after`.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn log_after(&self, call: CallId, after: u64) -> Result<Vec<LogEntry>, DbError> {
        let rows = sqlx::query("SELECT n, kind, data, at FROM call_log WHERE call = ? AND n > ? ORDER BY n")
            .bind(call.to_string())
            .bind(number(after))
            .fetch_all(self.reader())
            .await?;
        rows.iter()
            .map(|row| {
                Ok(LogEntry {
                    n: count(row.try_get("n")?),
                    kind: row.try_get("kind")?,
                    at: instant(row.try_get("at")?)?,
                    data: json("log line", row.try_get("data")?)?,
                })
            })
            .collect()
    }

    /// Keeps the answer to a final turn, once per (call, turn, rev); says whether it was new.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn store_reply(&self, reply: &TurnReply, log: Value, now: Timestamp) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let inserted = sqlx::query(
            "INSERT OR IGNORE INTO turn_replies (call, turn, rev, reply, at) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(reply.call.to_string())
        .bind(reply.turn)
        .bind(reply.rev)
        .bind(to_json("turn reply", reply)?)
        .bind(now.as_millisecond())
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if inserted == 1 {
            append(&mut tx, reply.call, "turn.decided", log, now).await?;
        }
        tx.commit().await?;
        Ok(inserted == 1)
    }
}

pub(crate) async fn append(
    conn: &mut SqliteConnection,
    call: CallId,
    kind: &str,
    data: Value,
    now: Timestamp,
) -> Result<(), DbError> {
    sqlx::query("INSERT INTO call_log (call, kind, data, at) VALUES (?, ?, ?, ?)")
        .bind(call.to_string())
        .bind(kind)
        .bind(data.to_string())
        .bind(now.as_millisecond())
        .execute(conn)
        .await?;
    Ok(())
}

/// Appends a line of one kind to the logs of several calls.
pub(crate) async fn append_all(
    conn: &mut SqliteConnection,
    kind: &str,
    lines: &[(CallId, Value)],
    now: Timestamp,
) -> Result<(), DbError> {
    let rows: Vec<_> = lines.iter().map(|(call, data)| (call, data.to_string())).collect();
    sqlx::query(
        "INSERT INTO call_log (call, kind, data, at)
         SELECT value ->> 0, ?2, value ->> 1, ?3 FROM json_each(?1) ORDER BY key",
    )
    .bind(to_json("log lines", &rows)?)
    .bind(kind)
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}
