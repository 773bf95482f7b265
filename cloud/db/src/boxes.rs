//! The boxes: who is online, with how many channels.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::{Row, SqliteConnection};
use trunkline_model::BoxId;
use trunkline_wire::Birth;

use crate::store::{count, instant, number, parsed};
use crate::{Db, DbError, suppress};

/// One box.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BoxRow {
    /// The box.
    #[serde(rename = "box")]
    pub id: BoxId,
    /// It is connected.
    pub online: bool,
    /// Its session.
    pub sess: u64,
    /// Its software.
    pub software: String,
    /// How many calls it carries at once.
    pub channels: u32,
    /// How many calls it carries, as far as the cloud knows.
    pub busy: u32,
    /// When it last said something.
    pub last_seen: Timestamp,
    /// It has said that it has the suppressions up to this number.
    pub suppressed_upto: u64,
    /// It has all of them. A box that has not gets no new lease.
    pub confirmed: bool,
    /// The table of numbers that it has; `None` for a box that answers no calls.
    #[serde(skip)]
    pub numbers: Option<String>,
}

impl Db {
    /// Returns every box that ever connected.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn boxes(&self) -> Result<Vec<BoxRow>, DbError> {
        let rows = sqlx::query(
            "SELECT boxes.*, (SELECT COUNT(*) FROM calls WHERE calls.box = boxes.box AND lost = 0
                AND status NOT IN ('queued', 'ended')) AS busy,
                suppressed_upto >= (SELECT COALESCE(MAX(n), 0) FROM suppression_log) AS confirmed
             FROM boxes ORDER BY box",
        )
        .fetch_all(self.reader())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(BoxRow {
                    id: parsed("box id", row.try_get("box")?)?,
                    online: row.try_get("online")?,
                    sess: count(row.try_get("sess")?),
                    software: row.try_get("software")?,
                    channels: row.try_get("channels")?,
                    busy: row.try_get("busy")?,
                    last_seen: instant(row.try_get("last_seen")?)?,
                    suppressed_upto: count(row.try_get("suppressed_upto")?),
                    confirmed: row.try_get("confirmed")?,
                    numbers: row.try_get("numbers")?,
                })
            })
            .collect()
    }

    /// Takes a birth or a will. A message of an older session than the known one changes nothing.
    /// Returns whether the box's state was set by it.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn box_said(&self, id: &BoxId, birth: &Birth, now: Timestamp) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let known: Option<i64> = sqlx::query("SELECT sess FROM boxes WHERE box = ?")
            .bind(id.as_str())
            .fetch_optional(&mut *tx)
            .await?
            .map(|row| row.try_get("sess"))
            .transpose()?;
        if known.is_some_and(|sess| number(birth.sess) < sess) {
            return Ok(false);
        }
        if birth.online {
            sqlx::query(
                "INSERT INTO boxes (box, online, sess, software, channels, last_seen, numbers)
                 VALUES (?1, 1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (box) DO UPDATE
                 SET online = 1, sess = ?2, software = ?3, channels = ?4, last_seen = ?5, numbers = ?6",
            )
            .bind(id.as_str())
            .bind(number(birth.sess))
            .bind(&birth.software)
            .bind(birth.channels)
            .bind(now.as_millisecond())
            .bind(&birth.numbers)
            .execute(&mut *tx)
            .await?;
        } else {
            sqlx::query("UPDATE boxes SET online = 0, last_seen = ? WHERE box = ?")
                .bind(now.as_millisecond())
                .bind(id.as_str())
                .execute(&mut *tx)
                .await?;
        }
        if birth.online {
            // What it says now counts, also when it is less than before: its disk may be another one.
            suppress::confirmed(&mut tx, id, birth.suppressions.unwrap_or(0)).await?;
        }
        if let Some(oldest) = birth.oldest {
            give_up_below(&mut tx, id, oldest).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Takes every box for gone: the embedded broker has just started, so nobody is connected.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn all_boxes_offline(&self) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE boxes SET online = 0").execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }
}

/// The box holds nothing below `oldest` any more: what is missing there will not come.
async fn give_up_below(conn: &mut SqliteConnection, id: &BoxId, oldest: u64) -> Result<(), DbError> {
    sqlx::query("UPDATE boxes SET contiguous = MAX(contiguous, ?) WHERE box = ?")
        .bind(number(oldest.saturating_sub(1)))
        .bind(id.as_str())
        .execute(conn)
        .await?;
    Ok(())
}
