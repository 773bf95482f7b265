//! What boxes are told about whom nobody calls, and how far each of them is.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::{Row, SqliteConnection};
use trunkline_model::{BoxId, Callee};
use trunkline_policy::receipt::{Anchor, Body, Entry};
use trunkline_policy::{Change, Fingerprint, OptOut, Suppression as Listed};
use trunkline_wire::Suppression;

use crate::policy::append_receipt;
use crate::store::{count, instant, json, number, parsed};
use crate::{Db, DbError};

/// How far a box is with the suppressions.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Confirmation")]
pub struct Confirmed {
    /// The box.
    #[serde(rename = "box")]
    pub id: BoxId,
    /// It is connected.
    pub online: bool,
    /// It has everything up to this number.
    pub upto: u64,
    /// For how long the first change that it lacks has been known, in seconds; 0 when it lacks none.
    pub lag_s: u64,
}

impl Db {
    /// Returns the number of the newest change; 0 when there is none.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn suppression_head(&self) -> Result<u64, DbError> {
        let row = sqlx::query("SELECT COALESCE(MAX(n), 0) AS n FROM suppression_log")
            .fetch_one(self.reader())
            .await?;
        Ok(count(row.try_get("n")?))
    }

    /// Returns changes after number `after`, in order, at most `limit`, as boxes get them.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn suppressions_after(&self, after: u64, limit: u32) -> Result<Vec<Suppression>, DbError> {
        let rows = sqlx::query("SELECT * FROM suppression_log WHERE n > ? ORDER BY n LIMIT ?")
            .bind(number(after))
            .bind(limit)
            .fetch_all(self.reader())
            .await?;
        rows.iter()
            .map(|row| {
                let callee: Callee = parsed("callee", row.try_get("callee")?)?;
                let (kind, what): (String, String) = (row.try_get("kind")?, row.try_get("what")?);
                let change = match kind.as_str() {
                    "opt_out" => Change::OptedOut(OptOut {
                        scope: json("scope of an opt-out", &what)?,
                        channel: row.try_get("channel")?,
                        at: instant(row.try_get("at")?)?,
                    }),
                    "listed" => {
                        let until: Option<i64> = row.try_get("until")?;
                        Change::Listed(Listed { list: what, until: until.map(instant).transpose()? })
                    }
                    "unlisted" => Change::Unlisted(what),
                    _ => return Err(DbError::Damaged { what: "kind of suppression", text: kind }),
                };
                Ok(Suppression { n: count(row.try_get("n")?), who: Fingerprint::of(&callee), change })
            })
            .collect()
    }

    /// Takes a box's word for how far it is. A box that claims more than there is has another database's
    /// changes and begins anew.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn box_confirmed(&self, id: &BoxId, upto: u64) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        confirmed(&mut tx, id, upto).await?;
        Ok(tx.commit().await?)
    }

    /// Returns how far every box is.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn confirmations(&self, now: Timestamp) -> Result<Vec<Confirmed>, DbError> {
        let rows = sqlx::query(
            "SELECT box, online, suppressed_upto,
                (SELECT MIN(at) FROM suppression_log WHERE n = boxes.suppressed_upto + 1) AS since
             FROM boxes ORDER BY box",
        )
        .fetch_all(self.reader())
        .await?;
        rows.iter()
            .map(|row| {
                let since: Option<i64> = row.try_get("since")?;
                let lag_ms = since.map_or(0, |since| (now.as_millisecond() - since).max(0));
                Ok(Confirmed {
                    id: parsed("box id", row.try_get("box")?)?,
                    online: row.try_get("online")?,
                    upto: count(row.try_get("suppressed_upto")?),
                    lag_s: count(lag_ms / 1_000),
                })
            })
            .collect()
    }
}

pub(crate) async fn confirmed(conn: &mut SqliteConnection, id: &BoxId, upto: u64) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE boxes SET suppressed_upto =
            CASE WHEN ?2 <= (SELECT COALESCE(MAX(n), 0) FROM suppression_log) THEN ?2 ELSE 0 END
         WHERE box = ?1",
    )
    .bind(id.as_str())
    .bind(number(upto))
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes a receipt of a box into the cloud's chain, with where it stands in the box's own.
pub(crate) async fn anchor_receipt(
    conn: &mut SqliteConnection,
    by: &BoxId,
    entry: &Entry,
    body: &Body,
    now: Timestamp,
) -> Result<(), DbError> {
    let last = sqlx::query("SELECT seq, hash FROM box_receipts WHERE box = ? ORDER BY n DESC LIMIT 1")
        .bind(by.as_str())
        .fetch_optional(&mut *conn)
        .await?;
    let follows = match &last {
        Some(row) => {
            entry.seq == count(row.try_get("seq")?) + 1 && entry.prev == row.try_get::<String, _>("hash")?
        }
        None => entry.seq == 1,
    };
    let anchor = Anchor { box_id: by.to_string(), seq: entry.seq, hash: entry.hash.clone(), follows };
    let receipt = append_receipt(conn, &Body { anchor: Some(anchor), ..body.clone() }, now).await?;
    sqlx::query("INSERT INTO box_receipts (box, seq, hash, receipt) VALUES (?, ?, ?, ?)")
        .bind(by.as_str())
        .bind(number(entry.seq))
        .bind(&entry.hash)
        .bind(number(receipt.seq))
        .execute(conn)
        .await?;
    Ok(())
}
