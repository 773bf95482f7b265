//! The boxes: who is online, with how many channels.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::{Row, SqliteConnection};
use trunkline_model::BoxId;
use trunkline_wire::{Birth, TrunkReport};

use crate::store::{count, instant, json, number, parsed, to_json};
use crate::{Db, DbError, suppress};

/// Three reports are missing by then.
const DRAINING_COUNTS: SignedDuration = SignedDuration::from_mins(5);

/// One box.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Box")]
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
    /// It has confirmed every opt-out and list entry up to this number.
    pub suppressed_upto: u64,
    /// It has confirmed all of them; otherwise it gets no new call.
    pub confirmed: bool,
    /// It takes no new calls, by its keeper's report of this instant: by an order, or since it waits for the end of
    /// its calls.
    pub draining: Option<Timestamp>,
    /// The table of numbers that it has; `None` for a box that answers no calls.
    #[serde(skip)]
    pub numbers: Option<String>,
    /// How each of its trunks is, as it last said; empty for a box without trunks, or an older one. Campaigns start no
    /// calls on a box whose trunks are all down.
    pub trunks: Vec<TrunkReport>,
}

impl BoxRow {
    /// Says whether a new call may be given to it. A report that it takes none counts for five minutes: a keeper that
    /// went away for good must not keep its box idle, which refuses by itself what it cannot take.
    pub fn takes_calls(&self, now: Timestamp) -> bool {
        let drained = self.draining.is_some_and(|at| now.duration_since(at) < DRAINING_COUNTS);
        self.online && self.confirmed && !drained
    }

    /// Returns how many new calls a second its trunks take together, of those that take calls: 0 where none does,
    /// `None` where nothing is known.
    pub fn calls_per_second(&self) -> Option<f64> {
        if self.trunks.is_empty() {
            return None;
        }
        self.trunks.iter().filter(|trunk| trunk.up).map(|trunk| trunk.calls_per_second).sum()
    }
}

impl Db {
    /// Returns every box that ever connected.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn boxes(&self) -> Result<Vec<BoxRow>, DbError> {
        self.boxes_where("TRUE").await
    }

    /// Returns how many boxes ever connected.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn box_count(&self) -> Result<u64, DbError> {
        let row = sqlx::query("SELECT COUNT(*) AS n FROM boxes").fetch_one(self.reader()).await?;
        Ok(count(row.try_get("n")?))
    }

    /// Returns how many boxes once connected and are not connected now.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn offline_count(&self) -> Result<u64, DbError> {
        let row =
            sqlx::query("SELECT COUNT(*) AS n FROM boxes WHERE online = 0").fetch_one(self.reader()).await?;
        Ok(count(row.try_get("n")?))
    }

    /// Returns the boxes that are connected and lack suppressions: few of many, most of the time.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn unconfirmed_boxes(&self) -> Result<Vec<BoxRow>, DbError> {
        let lacks = "online = 1 AND suppressed_upto < (SELECT COALESCE(MAX(n), 0) FROM suppression_log)";
        self.boxes_where(lacks).await
    }

    /// Returns the boxes that are connected and answer calls.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn answering_boxes(&self) -> Result<Vec<BoxRow>, DbError> {
        self.boxes_where("online = 1 AND numbers IS NOT NULL").await
    }

    /// Returns how many calls each of these boxes was given since the instant beside it, in their order.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn given_since(&self, asked: &[(&BoxId, Timestamp)]) -> Result<Vec<u32>, DbError> {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<(&BoxId, i64)> =
            asked.iter().map(|(id, since)| (*id, since.as_millisecond())).collect();
        let rows = sqlx::query(
            "SELECT (SELECT COUNT(*) FROM calls WHERE box = asked.value ->> 0 AND sent_at > asked.value ->> 1) AS n
             FROM json_each(?) AS asked ORDER BY asked.key",
        )
        .bind(to_json("boxes", &rows)?)
        .fetch_all(self.reader())
        .await?;
        rows.iter().map(|row| Ok(row.try_get("n")?)).collect()
    }

    async fn boxes_where(&self, condition: &'static str) -> Result<Vec<BoxRow>, DbError> {
        let query = format!(
            "SELECT boxes.*, (SELECT COUNT(*) FROM calls WHERE calls.box = boxes.box AND lost = 0
                AND status <> 'ended' AND status <> 'queued') AS busy,
                suppressed_upto >= (SELECT COALESCE(MAX(n), 0) FROM suppression_log) AS confirmed,
                (SELECT r.at FROM reported r WHERE r.box = boxes.box AND r.draining) AS drained_at
             FROM boxes WHERE {condition} ORDER BY box"
        );
        let rows = sqlx::query(&query).fetch_all(self.reader()).await?;
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
                    draining: row.try_get::<Option<i64>, _>("drained_at")?.map(instant).transpose()?,
                    numbers: row.try_get("numbers")?,
                    trunks: json("trunks of a box", row.try_get("trunks")?)?,
                })
            })
            .collect()
    }

    /// Takes births and wills, in order and in one transaction: after an outage every box has one to say. A message
    /// of an older session than the known one changes nothing. Returns for each whether the box's state was set by it.
    ///
    /// # Errors
    /// [`DbError`]; then none of them counts.
    pub async fn boxes_said(&self, births: &[(BoxId, Birth)], now: Timestamp) -> Result<Vec<bool>, DbError> {
        let mut tx = self.begin().await?;
        let mut set = Vec::with_capacity(births.len());
        for (id, birth) in births {
            set.push(said(&mut tx, id, birth, now).await?);
        }
        tx.commit().await?;
        Ok(set)
    }

    /// Takes one birth or will, as [`Self::boxes_said`] does.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn box_said(&self, id: &BoxId, birth: &Birth, now: Timestamp) -> Result<bool, DbError> {
        let said = self.boxes_said(&[(id.clone(), birth.clone())], now).await?;
        Ok(said == [true])
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

async fn said(
    conn: &mut SqliteConnection,
    id: &BoxId,
    birth: &Birth,
    now: Timestamp,
) -> Result<bool, DbError> {
    let known: Option<i64> = sqlx::query("SELECT sess FROM boxes WHERE box = ?")
        .bind(id.as_str())
        .fetch_optional(&mut *conn)
        .await?
        .map(|row| row.try_get("sess"))
        .transpose()?;
    if known.is_some_and(|sess| number(birth.sess) < sess) {
        return Ok(false);
    }
    if birth.online {
        sqlx::query(
            "INSERT INTO boxes (box, online, sess, software, channels, last_seen, numbers, trunks)
             VALUES (?1, 1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (box) DO UPDATE
             SET online = 1, sess = ?2, software = ?3, channels = ?4, last_seen = ?5, numbers = ?6, trunks = ?7",
        )
        .bind(id.as_str())
        .bind(number(birth.sess))
        .bind(&birth.software)
        .bind(birth.channels)
        .bind(now.as_millisecond())
        .bind(&birth.numbers)
        .bind(to_json("trunks of a box", &birth.trunks)?)
        .execute(&mut *conn)
        .await?;
        // What it says now counts, also when it is less than before: its disk may be another one.
        suppress::confirmed(conn, id, birth.suppressions.unwrap_or(0)).await?;
    } else {
        sqlx::query("UPDATE boxes SET online = 0, last_seen = ? WHERE box = ?")
            .bind(now.as_millisecond())
            .bind(id.as_str())
            .execute(&mut *conn)
            .await?;
    }
    if let Some(oldest) = birth.oldest {
        give_up_below(conn, id, oldest).await?;
    }
    Ok(true)
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
