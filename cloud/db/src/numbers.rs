//! Numbers and the scripts that answer them, and the calls that came in on them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use trunkline_model::{BoxId, ScriptId};
use trunkline_wire::CallInbound;

use crate::log::append;
use crate::store::{instant, json as read_json, parsed, to_json};
use crate::{Db, DbError, spool};

/// Bindings that there may be, and their text all together: a box gets its table in one message.
const MOST: usize = 500;
const MOST_BYTES: usize = 128 * 1024;

/// What answers calls to a number.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Binding")]
pub struct NumberRow {
    /// Its id.
    pub id: String,
    /// The number, in international form or as an extension; `None` for every number without a binding of its own.
    pub number: Option<String>,
    /// The script, by name: the version that is current when somebody calls.
    pub script_id: ScriptId,
    /// The script's variables.
    pub variables: BTreeMap<String, String>,
    /// Where changes of the calls are reported to.
    pub callback_url: Option<String>,
    /// On which boxes; on all when empty, unless a binding for the box itself is there.
    pub boxes: BTreeSet<BoxId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What became of a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// It holds.
    Done,
    /// There is none with this id.
    NoSuchBinding,
    /// This one has the number on the same box already.
    Taken(String),
    /// There are as many as a box can be told.
    Full,
}

impl Db {
    /// Binds a number, or changes the binding of this id.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn bind_number(&self, row: &NumberRow, change: bool) -> Result<Bound, DbError> {
        let mut tx = self.begin().await?;
        let all = all(&mut tx).await?;
        if change != all.iter().any(|other| other.id == row.id) {
            return Ok(Bound::NoSuchBinding);
        }
        let others: Vec<&NumberRow> = all.iter().filter(|other| other.id != row.id).collect();
        if let Some(other) = others.iter().find(|other| other.clashes(row)) {
            return Ok(Bound::Taken(other.id.clone()));
        }
        let bytes = others.iter().map(|other| other.size()).sum::<usize>() + row.size();
        if others.len() >= MOST || bytes > MOST_BYTES {
            return Ok(Bound::Full);
        }
        sqlx::query(
            "INSERT INTO numbers (id, number, script_id, variables, callback_url, boxes, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (id) DO UPDATE SET number = ?2, script_id = ?3, variables = ?4, callback_url = ?5,
                boxes = ?6, updated_at = ?8",
        )
        .bind(&row.id)
        .bind(&row.number)
        .bind(row.script_id.as_str())
        .bind(to_json("variables", &row.variables)?)
        .bind(&row.callback_url)
        .bind(to_json("boxes", &row.boxes)?)
        .bind(row.created_at.as_millisecond())
        .bind(row.updated_at.as_millisecond())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Bound::Done)
    }

    /// Returns all bindings, the oldest first.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn numbers(&self) -> Result<Vec<NumberRow>, DbError> {
        let mut conn = self.reader().acquire().await?;
        all(&mut conn).await
    }

    /// Returns a binding.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn number(&self, id: &str) -> Result<Option<NumberRow>, DbError> {
        let mut conn = self.reader().acquire().await?;
        one(&mut conn, id).await
    }

    /// Takes a binding away; says whether there was one.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn unbind_number(&self, id: &str) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let removed = sqlx::query("DELETE FROM numbers WHERE id = ?").bind(id).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(removed.rows_affected() == 1)
    }

    /// Notes which table of numbers a box has.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn box_has_numbers(&self, id: &BoxId, table: &str) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE boxes SET numbers = ? WHERE box = ?")
            .bind(table)
            .bind(id.as_str())
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }
}

impl NumberRow {
    /// Says whether two bindings are about the same calls.
    fn clashes(&self, other: &Self) -> bool {
        let everywhere = self.boxes.is_empty() && other.boxes.is_empty();
        self.number == other.number && (everywhere || !self.boxes.is_disjoint(&other.boxes))
    }

    /// Bytes that it takes in the message to a box, about.
    fn size(&self) -> usize {
        let variables = self.variables.iter().map(|(name, value)| name.len() + 2 * value.len() + 8);
        300 + self.number.as_ref().map_or(0, String::len) + variables.sum::<usize>()
    }
}

async fn all(conn: &mut SqliteConnection) -> Result<Vec<NumberRow>, DbError> {
    let rows = sqlx::query("SELECT * FROM numbers ORDER BY id").fetch_all(conn).await?;
    rows.iter().map(read).collect()
}

async fn one(conn: &mut SqliteConnection, id: &str) -> Result<Option<NumberRow>, DbError> {
    let row = sqlx::query("SELECT * FROM numbers WHERE id = ?").bind(id).fetch_optional(conn).await?;
    row.as_ref().map(read).transpose()
}

fn read(row: &SqliteRow) -> Result<NumberRow, DbError> {
    Ok(NumberRow {
        id: row.try_get("id")?,
        number: row.try_get("number")?,
        script_id: parsed("script id", row.try_get("script_id")?)?,
        variables: read_json("variables", row.try_get("variables")?)?,
        callback_url: row.try_get("callback_url")?,
        boxes: read_json("boxes", row.try_get("boxes")?)?,
        created_at: instant(row.try_get("created_at")?)?,
        updated_at: instant(row.try_get("updated_at")?)?,
    })
}

/// Takes in that a customer called; a call that is known stays as it is. Where its changes are reported to is what the
/// binding says now.
pub(crate) async fn apply_inbound(
    conn: &mut SqliteConnection,
    by: &BoxId,
    inbound: &CallInbound,
    now: Timestamp,
) -> Result<(), DbError> {
    let binding = one(conn, &inbound.binding).await?;
    let binding = binding.filter(|binding| binding.boxes.is_empty() || binding.boxes.contains(by));
    let new = sqlx::query(
        "INSERT OR IGNORE INTO calls (id, status, direction, called, callee, script_id, script_version, variables,
            callback_url, created_at, updated_at, not_after, box, accepted_at, rang_at)
         VALUES (?1, 'ringing', 'inbound', ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?8, ?10, ?9, ?8)",
    )
    .bind(inbound.call.to_string())
    .bind(&inbound.called)
    .bind(inbound.caller.reveal())
    .bind(inbound.script.id.as_str())
    .bind(inbound.script.version.as_str())
    .bind(to_json("variables", &inbound.variables)?)
    .bind(binding.and_then(|binding| binding.callback_url))
    .bind(inbound.rang.as_millisecond())
    .bind(now.as_millisecond())
    .bind(by.as_str())
    .execute(&mut *conn)
    .await?
    .rows_affected();
    if new == 1 {
        let data = json!({
            "box": by, "trunk": inbound.trunk, "called": inbound.called, "binding": inbound.binding,
        });
        append(conn, inbound.call, "call.inbound", data, now).await?;
        spool::enqueue(conn, inbound.call, "call.ringing", now).await?;
    }
    Ok(())
}
