//! The callbacks' spool: durable, in order per call.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use sqlx::{Row, SqliteConnection};
use trunkline_model::CallId;
use uuid::Uuid;

use crate::log::append;
use crate::store::{count, instant, number, parsed, to_json};
use crate::{CallDetail, CallbackView, Db, DbError, view};

/// A callback that is due.
#[derive(Clone)]
pub struct Delivery {
    /// Its id, the same at every attempt.
    pub id: String,
    /// The call.
    pub call: CallId,
    /// Such as `call.ended`.
    pub kind: String,
    /// Where to.
    pub url: String,
    /// The body.
    pub payload: String,
    /// Attempts made so far.
    pub attempts: u32,
    /// When it was put into the spool.
    pub created_at: Timestamp,
}

/// A receiver that fails.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Endpoint {
    /// Its address.
    pub url: String,
    /// Since when every attempt failed.
    pub failing_since: Timestamp,
    /// How many.
    pub failures: u32,
    /// The last failure.
    pub last_error: String,
    /// When it was disabled; then nothing is sent to it until somebody enables it.
    pub disabled_at: Option<Timestamp>,
}

/// A line of the delivery log.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct LoggedCallback {
    /// Its number, for paging.
    pub n: u64,
    /// The call.
    pub call: CallId,
    /// Where to.
    pub url: String,
    /// When it was put into the spool.
    pub created_at: Timestamp,
    /// How it fared.
    #[serde(flatten)]
    pub callback: CallbackView,
}

/// How an attempt went.
#[derive(Clone, Debug, PartialEq)]
pub enum AttemptResult {
    /// The receiver has it.
    Delivered {
        /// HTTP status.
        status: u16,
    },
    /// Try again.
    Retry {
        /// HTTP status, when there was an answer.
        status: Option<u16>,
        /// What went wrong.
        error: String,
        /// When.
        at: Timestamp,
    },
    /// Never again.
    GivenUp {
        /// HTTP status, when there was an answer.
        status: Option<u16>,
        /// What went wrong.
        error: String,
    },
}

impl Db {
    /// Returns what is due: of each call only the oldest that is pending, so that a receiver sees
    /// the events of a call in order.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn due_callbacks(&self, now: Timestamp, limit: u32) -> Result<Vec<Delivery>, DbError> {
        let rows = sqlx::query(
            "SELECT * FROM callbacks AS c WHERE state = 'pending' AND next_at <= ?
                AND url NOT IN (SELECT url FROM callback_endpoints WHERE disabled_at IS NOT NULL)
                AND NOT EXISTS (SELECT 1 FROM callbacks AS d
                    WHERE d.call = c.call AND d.state = 'pending' AND d.n < c.n)
             ORDER BY next_at LIMIT ?",
        )
        .bind(now.as_millisecond())
        .bind(limit)
        .fetch_all(self.reader())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Delivery {
                    id: row.try_get("id")?,
                    call: parsed("call id", row.try_get("call")?)?,
                    kind: row.try_get("kind")?,
                    url: row.try_get("url")?,
                    payload: row.try_get("payload")?,
                    attempts: u32::try_from(count(row.try_get("attempts")?)).unwrap_or(u32::MAX),
                    created_at: instant(row.try_get("created_at")?)?,
                })
            })
            .collect()
    }

    /// Returns when the next pending callback is due.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn next_callback_at(&self) -> Result<Option<Timestamp>, DbError> {
        let row = sqlx::query(
            "SELECT MIN(next_at) AS at FROM callbacks WHERE state = 'pending'
                AND url NOT IN (SELECT url FROM callback_endpoints WHERE disabled_at IS NOT NULL)",
        )
        .fetch_one(self.reader())
        .await?;
        row.try_get::<Option<i64>, _>("at")?.map(instant).transpose()
    }

    /// Writes down how an attempt went.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn callback_attempted(
        &self,
        delivery: &Delivery,
        result: &AttemptResult,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let (state, status, error, next_at, delivered_at) = match result {
            AttemptResult::Delivered { status } => ("delivered", Some(*status), "", now, Some(now)),
            AttemptResult::Retry { status, error, at } => ("pending", *status, error.as_str(), *at, None),
            AttemptResult::GivenUp { status, error } => ("failed", *status, error.as_str(), now, None),
        };
        let mut tx = self.begin().await?;
        sqlx::query(
            "UPDATE callbacks SET state = ?2, attempts = attempts + 1, last_status = ?3, last_error = ?4,
                next_at = ?5, delivered_at = ?6 WHERE id = ?1",
        )
        .bind(&delivery.id)
        .bind(state)
        .bind(status)
        .bind(error)
        .bind(next_at.as_millisecond())
        .bind(delivered_at.map(|at| at.as_millisecond()))
        .execute(&mut *tx)
        .await?;
        let data = json!({
            "id": delivery.id, "type": delivery.kind, "state": state,
            "attempts": delivery.attempts + 1, "status": status, "error": error,
        });
        append(&mut tx, delivery.call, "callback", data, now).await?;
        Ok(tx.commit().await?)
    }

    /// Keeps count of a receiver's failures. Returns true when this one disabled it: it has failed at every
    /// attempt since `fail_since` or longer, at least ten times.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn endpoint_attempted(
        &self,
        url: &str,
        error: Option<&str>,
        fail_since: Timestamp,
        now: Timestamp,
    ) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let Some(error) = error else {
            sqlx::query("DELETE FROM callback_endpoints WHERE url = ?").bind(url).execute(&mut *tx).await?;
            tx.commit().await?;
            return Ok(false);
        };
        sqlx::query(
            "INSERT INTO callback_endpoints (url, failing_since, failures, last_error) VALUES (?1, ?2, 1, ?3)
             ON CONFLICT (url) DO UPDATE SET failures = failures + 1, last_error = ?3",
        )
        .bind(url)
        .bind(now.as_millisecond())
        .bind(error)
        .execute(&mut *tx)
        .await?;
        let disabled = sqlx::query(
            "UPDATE callback_endpoints SET disabled_at = ?2
             WHERE url = ?1 AND disabled_at IS NULL AND failures >= 10 AND failing_since <= ?3",
        )
        .bind(url)
        .bind(now.as_millisecond())
        .bind(fail_since.as_millisecond())
        .execute(&mut *tx)
        .await?
        .rows_affected();
        tx.commit().await?;
        Ok(disabled == 1)
    }

    /// Returns the receivers that fail.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn failing_endpoints(&self) -> Result<Vec<Endpoint>, DbError> {
        let rows = sqlx::query("SELECT * FROM callback_endpoints ORDER BY failing_since")
            .fetch_all(self.reader())
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Endpoint {
                    url: row.try_get("url")?,
                    failing_since: instant(row.try_get("failing_since")?)?,
                    failures: u32::try_from(count(row.try_get("failures")?)).unwrap_or(u32::MAX),
                    last_error: row.try_get("last_error")?,
                    disabled_at: row.try_get::<Option<i64>, _>("disabled_at")?.map(instant).transpose()?,
                })
            })
            .collect()
    }

    /// Lets a receiver have its callbacks again, all that wait for it at once. Returns false when it was
    /// not failing.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn enable_endpoint(&self, url: &str, now: Timestamp) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let known = sqlx::query("DELETE FROM callback_endpoints WHERE url = ?")
            .bind(url)
            .execute(&mut *tx)
            .await?
            .rows_affected();
        // The time that it was disabled does not count towards giving up.
        sqlx::query(
            "UPDATE callbacks SET next_at = ?2, created_at = ?2 WHERE url = ?1 AND state = 'pending'",
        )
        .bind(url)
        .bind(now.as_millisecond())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(known == 1)
    }

    /// Puts a callback into the spool again, delivered or not, under its old id. Returns false when there
    /// is none with this id.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn replay_callback(&self, id: &str, now: Timestamp) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let changed = sqlx::query(
            "UPDATE callbacks SET state = 'pending', next_at = ?2, created_at = ?2, attempts = 0,
                last_error = '', last_status = NULL WHERE id = ?1",
        )
        .bind(id)
        .bind(now.as_millisecond())
        .execute(&mut *tx)
        .await?
        .rows_affected();
        tx.commit().await?;
        Ok(changed == 1)
    }

    /// Returns the newest callbacks, of one state where one is named, older than `before`.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn callbacks(
        &self,
        state: Option<&str>,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<LoggedCallback>, DbError> {
        let rows = sqlx::query(
            "SELECT * FROM callbacks WHERE (?1 IS NULL OR state = ?1) AND (?2 IS NULL OR n < ?2)
             ORDER BY n DESC LIMIT ?3",
        )
        .bind(state)
        .bind(before.map(number))
        .bind(limit)
        .fetch_all(self.reader())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(LoggedCallback {
                    n: count(row.try_get("n")?),
                    call: parsed("call id", row.try_get("call")?)?,
                    url: row.try_get("url")?,
                    created_at: instant(row.try_get("created_at")?)?,
                    callback: view::read_callback(row)?,
                })
            })
            .collect()
    }

    /// Says whether a call has callbacks that are neither delivered nor given up.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn has_pending_callbacks(&self, call: CallId) -> Result<bool, DbError> {
        let row = sqlx::query("SELECT 1 FROM callbacks WHERE call = ? AND state = 'pending' LIMIT 1")
            .bind(call.to_string())
            .fetch_optional(self.reader())
            .await?;
        Ok(row.is_some())
    }
}

/// What a callback carries.
#[derive(Serialize, JsonSchema)]
pub struct CallbackPayload {
    /// What happened.
    #[serde(rename = "type")]
    #[schemars(extend("enum" = ["call.ringing", "call.answered", "call.ended", "call.lost"]))]
    pub kind: String,
    /// When.
    pub timestamp: Timestamp,
    /// The call as it stood then.
    pub data: CallDetail,
}

/// Puts a report about the call as it now stands into the spool, if anybody wants reports.
pub(crate) async fn enqueue(
    conn: &mut SqliteConnection,
    call: CallId,
    kind: &str,
    now: Timestamp,
) -> Result<(), DbError> {
    let row = sqlx::query("SELECT callback_url FROM calls WHERE id = ?")
        .bind(call.to_string())
        .fetch_optional(&mut *conn)
        .await?;
    let url: Option<String> = row.map(|row| row.try_get("callback_url")).transpose()?.flatten();
    let Some(url) = url else { return Ok(()) };
    let Some(detail) = view::detail(conn, call).await? else { return Ok(()) };
    // The id is drawn from the row's number, so that even a test sees the same ids in each run.
    let payload = CallbackPayload { kind: kind.to_owned(), timestamp: now, data: detail };
    let payload = to_json("payload of a callback", &payload)?;
    let rows: i64 = sqlx::query("SELECT COALESCE(MAX(n), 0) + 1 AS n FROM callbacks")
        .fetch_one(&mut *conn)
        .await?
        .try_get("n")?;
    let id = format!("msg_{}", Uuid::from_u64_pair(call_half(call), count(rows)).simple());
    sqlx::query(
        "INSERT INTO callbacks (id, call, kind, url, payload, created_at, next_at) VALUES (?, ?, ?, ?, ?, ?6, ?6)",
    )
    .bind(id)
    .bind(call.to_string())
    .bind(kind)
    .bind(url)
    .bind(payload)
    .bind(number(count(now.as_millisecond())))
    .execute(conn)
    .await?;
    Ok(())
}

fn call_half(call: CallId) -> u64 {
    let (high, low) = call.as_uuid().as_u64_pair();
    high ^ low
}
