//! What the gate needs to know, and the receipts of what it decided.

use jiff::Timestamp;
use sqlx::{QueryBuilder, Row, SqliteConnection};
use trunkline_model::{CallId, Callee, Disposition};
use trunkline_policy::receipt::{Body, Entry};
use trunkline_policy::{Attempt, AttemptResult, ListState, OptOut, OptOutScope, Suppression};

use crate::store::{ROWS_AT_ONCE, count, instant, json, number, to_json};
use crate::{Db, DbError};

/// What is on record about a callee.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OnRecord {
    /// Attempts over every campaign, line and box, one's own call left out.
    pub history: Vec<Attempt>,
    /// Opt-outs, spoken ones included.
    pub opt_outs: Vec<OptOut>,
    /// Entries of suppression lists.
    pub suppressions: Vec<Suppression>,
    /// The lists.
    pub lists: Vec<ListState>,
}

/// An entry for a suppression list.
#[derive(Clone, Debug, PartialEq)]
pub struct NewSuppression {
    /// The list.
    pub list: String,
    /// Whom it names.
    pub callee: Callee,
    /// When it ends; `None` is never.
    pub until: Option<Timestamp>,
}

impl Db {
    /// Returns what is on record about a callee, without the call `except`.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn on_record(&self, callee: &Callee, except: CallId) -> Result<OnRecord, DbError> {
        let found = self.on_record_of(&[(callee, except)]).await?;
        Ok(found.into_iter().next().unwrap_or_default())
    }

    /// Returns what is on record about each of these callees, without the call beside it; in their order. As many
    /// statements for a thousand as for one.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn on_record_of(&self, asked: &[(&Callee, CallId)]) -> Result<Vec<OnRecord>, DbError> {
        let mut conn = self.reader().acquire().await?;
        on_record_of(&mut conn, asked).await
    }

    /// Appends a decision to the chain of receipts and returns the entry.
    ///
    /// # Errors
    /// [`DbError`]; then nothing was appended.
    pub async fn append_receipt(&self, body: &Body, now: Timestamp) -> Result<Entry, DbError> {
        let mut tx = self.begin().await?;
        let entry = append_receipt(&mut tx, body, now).await?;
        tx.commit().await?;
        Ok(entry)
    }

    /// Returns the receipts of a call, in order.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn receipts_of(&self, call: CallId) -> Result<Vec<Entry>, DbError> {
        let rows = sqlx::query("SELECT * FROM receipts WHERE call = ? ORDER BY seq")
            .bind(call.to_string())
            .fetch_all(self.reader())
            .await?;
        rows.iter().map(read_entry).collect()
    }

    /// Returns receipts after number `after`, in order, at most `limit`.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn receipts_after(&self, after: u64, limit: u32) -> Result<Vec<Entry>, DbError> {
        let rows = sqlx::query("SELECT * FROM receipts WHERE seq > ? ORDER BY seq LIMIT ?")
            .bind(number(after))
            .bind(limit)
            .fetch_all(self.reader())
            .await?;
        rows.iter().map(read_entry).collect()
    }

    /// Writes an opt-out down. One that is there already stays as it is.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn opt_out(&self, callee: &Callee, opt_out: &OptOut) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        sqlx::query("INSERT OR IGNORE INTO opt_outs (callee, scope, channel, at) VALUES (?, ?, ?, ?)")
            .bind(callee.reveal())
            .bind(to_json("scope of an opt-out", &opt_out.scope)?)
            .bind(&opt_out.channel)
            .bind(opt_out.at.as_millisecond())
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Puts entries on their lists, and takes the lists for up to date as of `now`.
    ///
    /// # Errors
    /// [`DbError`]; then nothing was stored.
    pub async fn suppress(&self, entries: &[NewSuppression], now: Timestamp) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        for entry in entries {
            sqlx::query(
                "INSERT INTO suppression_entries (list, callee, until, at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (list, callee) DO UPDATE SET until = ?3, at = ?4",
            )
            .bind(&entry.list)
            .bind(entry.callee.reveal())
            .bind(entry.until.map(|at| at.as_millisecond()))
            .bind(now.as_millisecond())
            .execute(&mut *tx)
            .await?;
            touch_list(&mut tx, &entry.list, now).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Says that a list is up to date, also where it names nobody.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn list_is_current(&self, list: &str, as_of: Timestamp) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        touch_list(&mut tx, list, as_of).await?;
        Ok(tx.commit().await?)
    }

    /// Takes an entry off a list. Opt-outs are on no list and cannot be taken back.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn unsuppress(&self, list: &str, callee: &Callee) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let gone = sqlx::query("DELETE FROM suppression_entries WHERE list = ? AND callee = ?")
            .bind(list)
            .bind(callee.reveal())
            .execute(&mut *tx)
            .await?
            .rows_affected();
        tx.commit().await?;
        Ok(gone > 0)
    }
}

async fn touch_list(conn: &mut SqliteConnection, list: &str, as_of: Timestamp) -> Result<(), DbError> {
    sqlx::query("INSERT INTO suppression_lists (list, as_of) VALUES (?1, ?2) ON CONFLICT (list) DO UPDATE SET as_of = MAX(as_of, ?2)")
        .bind(list)
        .bind(as_of.as_millisecond())
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn append_receipt(
    conn: &mut SqliteConnection,
    body: &Body,
    now: Timestamp,
) -> Result<Entry, DbError> {
    let mut entries = append_receipts(conn, &[body], now).await?;
    entries.pop().ok_or_else(|| DbError::Damaged { what: "receipt", text: "it was not written".into() })
}

/// Appends decisions in their order.
pub(crate) async fn append_receipts(
    conn: &mut SqliteConnection,
    bodies: &[&Body],
    now: Timestamp,
) -> Result<Vec<Entry>, DbError> {
    let head = sqlx::query("SELECT seq, hash FROM receipts ORDER BY seq DESC LIMIT 1")
        .fetch_optional(&mut *conn)
        .await?;
    let head: Option<(u64, String)> =
        head.map(|row| Ok::<_, DbError>((count(row.try_get("seq")?), row.try_get("hash")?))).transpose()?;
    // To the millisecond, as every instant here.
    let now = instant(now.as_millisecond())?;
    let mut entries: Vec<Entry> = Vec::with_capacity(bodies.len());
    for body in bodies {
        let prev = entries.last().map(|entry| (entry.seq, entry.hash.as_str()));
        let prev = prev.or_else(|| head.as_ref().map(|(seq, hash)| (*seq, hash.as_str())));
        let entry = Entry::follow(prev, body, now)
            .map_err(|e| DbError::Damaged { what: "receipt", text: e.to_string() })?;
        entries.push(entry);
    }
    let rows: Vec<(&Entry, CallId)> =
        entries.iter().zip(bodies).map(|(entry, body)| (entry, body.call)).collect();
    for some in rows.chunks(ROWS_AT_ONCE) {
        let mut insert = QueryBuilder::new("INSERT INTO receipts (seq, call, prev, hash, at, body) ");
        insert.push_values(some, |mut row, (entry, call)| {
            row.push_bind(number(entry.seq)).push_bind(call.to_string()).push_bind(&entry.prev);
            row.push_bind(&entry.hash).push_bind(entry.at.to_string()).push_bind(&entry.body);
        });
        insert.build().persistent(some.len() == ROWS_AT_ONCE).execute(&mut *conn).await?;
    }
    Ok(entries)
}

fn read_entry(row: &sqlx::sqlite::SqliteRow) -> Result<Entry, DbError> {
    let at: String = row.try_get("at")?;
    Ok(Entry {
        seq: count(row.try_get("seq")?),
        prev: row.try_get("prev")?,
        hash: row.try_get("hash")?,
        at: crate::store::parsed("instant of a receipt", &at)?,
        body: row.try_get("body")?,
    })
}

async fn on_record_of(
    conn: &mut SqliteConnection,
    asked: &[(&Callee, CallId)],
) -> Result<Vec<OnRecord>, DbError> {
    let rows: Vec<[String; 2]> =
        asked.iter().map(|(callee, except)| [callee.reveal().to_owned(), except.to_string()]).collect();
    let asked_json = to_json("callees", &rows)?;
    let lists = sqlx::query("SELECT list, as_of FROM suppression_lists")
        .fetch_all(&mut *conn)
        .await?
        .iter()
        .map(|row| Ok(ListState { list: row.try_get("list")?, as_of: instant(row.try_get("as_of")?)? }))
        .collect::<Result<Vec<ListState>, DbError>>()?;
    let mut found = vec![OnRecord { lists, ..OnRecord::default() }; asked.len()];
    // CROSS JOIN keeps the order: each callee is looked up by an index, however many calls there are.
    for row in sqlx::query(
        "SELECT asked.key AS whose, sent_at, rang_at, answered_at, disposition,
            handover = 'missed' OR abandoned AS missed, facts
         FROM json_each(?) AS asked CROSS JOIN calls ON calls.callee = asked.value ->> 0
         WHERE calls.id <> asked.value ->> 1 AND sent_at IS NOT NULL AND status <> 'queued' ORDER BY calls.rowid",
    )
    .bind(&asked_json)
    .fetch_all(&mut *conn)
    .await?
    {
        let disposition: Option<String> = row.try_get("disposition")?;
        let rang = row.try_get::<Option<i64>, _>("rang_at")?.is_some();
        let answered = row.try_get::<Option<i64>, _>("answered_at")?.is_some();
        let Some(mut result) = result_of(disposition.as_deref(), rang, answered) else { continue };
        // Who heard no word, or was to be handed over and nobody came, waited for us in vain. A machine did not.
        let machine = disposition.as_deref() == Some(Disposition::Machine.as_str());
        if answered && !machine && row.try_get("missed")? {
            result = AttemptResult::Abandoned;
        }
        let facts: serde_json::Value = json("facts", row.try_get("facts")?)?;
        let attempt = Attempt {
            at: instant(row.try_get("sent_at")?)?,
            result,
            same_number: true,
            debt: facts["debt"].as_str().map(str::to_owned),
        };
        if let Some(record) = of(&mut found, &row)? {
            record.history.push(attempt);
        }
    }
    for row in sqlx::query(
        "SELECT asked.key AS whose, scope, channel, at
         FROM json_each(?) AS asked CROSS JOIN opt_outs ON opt_outs.callee = asked.value ->> 0",
    )
    .bind(&asked_json)
    .fetch_all(&mut *conn)
    .await?
    {
        let opt_out = OptOut {
            scope: json("scope of an opt-out", row.try_get("scope")?)?,
            channel: row.try_get("channel")?,
            at: instant(row.try_get("at")?)?,
        };
        if let Some(record) = of(&mut found, &row)? {
            record.opt_outs.push(opt_out);
        }
    }
    for row in sqlx::query(
        "SELECT asked.key AS whose, at
         FROM json_each(?) AS asked CROSS JOIN suppressions ON suppressions.callee = asked.value ->> 0",
    )
    .bind(&asked_json)
    .fetch_all(&mut *conn)
    .await?
    {
        let at = instant(row.try_get("at")?)?;
        if let Some(record) = of(&mut found, &row)? {
            record.suppressions.push(Suppression { list: "asked on the telephone".into(), until: None });
            record.opt_outs.push(OptOut { scope: OptOutScope::Number, channel: "spoken".into(), at });
        }
    }
    for row in sqlx::query(
        "SELECT asked.key AS whose, list, until
         FROM json_each(?) AS asked CROSS JOIN suppression_entries AS e ON e.callee = asked.value ->> 0",
    )
    .bind(&asked_json)
    .fetch_all(&mut *conn)
    .await?
    {
        let until: Option<i64> = row.try_get("until")?;
        let entry = Suppression { list: row.try_get("list")?, until: until.map(instant).transpose()? };
        if let Some(record) = of(&mut found, &row)? {
            record.suppressions.push(entry);
        }
    }
    Ok(found)
}

/// The record that a row is about.
fn of<'a>(
    found: &'a mut [OnRecord],
    row: &sqlx::sqlite::SqliteRow,
) -> Result<Option<&'a mut OnRecord>, DbError> {
    Ok(usize::try_from(row.try_get::<i64, _>("whose")?).ok().and_then(|at| found.get_mut(at)))
}

/// What an attempt counts as; `None` when the callee's telephone cannot have rung.
fn result_of(disposition: Option<&str>, rang: bool, answered: bool) -> Option<AttemptResult> {
    let Some(name) = disposition else { return Some(AttemptResult::Open) };
    let disposition = Disposition::ALL.into_iter().find(|known| known.as_str() == name);
    Some(match disposition {
        Some(Disposition::Completed | Disposition::CustomerHungUp | Disposition::Transferred) => {
            AttemptResult::Conversation
        }
        Some(Disposition::MediaLost | Disposition::CloudLost) => AttemptResult::Connected,
        Some(Disposition::Expired | Disposition::BoxFault | Disposition::TrunkRefused)
            if !rang && !answered =>
        {
            return None;
        }
        Some(Disposition::Cancelled) if !rang && !answered => return None,
        Some(_) if answered => AttemptResult::Connected,
        Some(_) => AttemptResult::NotConnected,
        None => AttemptResult::Open,
    })
}
