//! Files of contacts on their way in, and what a campaign's contacts came to.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use trunkline_model::Callee;

use crate::campaigns::insert_contacts;
use crate::store::{count, instant, number, parsed, to_json};
use crate::{Db, DbError, NewContact};

/// A file on its way in.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Import")]
pub struct ImportRow {
    /// Its id.
    pub id: String,
    /// The campaign that it is for.
    pub campaign: String,
    /// What the file is.
    #[schemars(extend("enum" = ["csv", "xlsx"]))]
    pub format: String,
    /// How far it is. One that runs without moving was broken off by the server's end.
    #[schemars(extend("enum" = ["running", "done", "failed"]))]
    pub state: String,
    /// Lines that were read, the header not counted.
    pub lines: u64,
    /// Contacts that are new.
    pub imported: u64,
    /// Contacts that the campaign had already, or that stand twice in the file.
    pub duplicates: u64,
    /// Lines that are no contacts.
    pub rejected: u64,
    /// Why nothing more could be read.
    pub fatal: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it last moved.
    pub updated_at: Timestamp,
}

/// What a contact came to.
#[derive(Clone)]
pub struct ContactResult {
    /// Its number.
    pub n: u64,
    /// Whom it is.
    pub callee: Callee,
    /// The CRM's reference.
    pub external_id: Option<String>,
    /// `ready`, `calling` or `done`.
    pub state: String,
    /// Why.
    pub why: String,
    /// Attempts.
    pub attempts: u32,
    /// When the customer asked to be called, while that call is still to be made.
    pub callback_at: Option<Timestamp>,
    /// How the last call ended on the line.
    pub disposition: Option<String>,
    /// What came of it.
    pub outcome: Option<String>,
}

/// A page of what became of a campaign's contacts.
pub(crate) const RESULTS_AFTER: &str =
    "SELECT c.n, c.callee, c.external_id, c.state, c.why, c.attempts, c.callback_at, last.disposition, last.outcome_code
     FROM campaign_contacts AS c
     LEFT JOIN calls AS last ON last.id = (SELECT MAX(id) FROM calls WHERE calls.contact = c.n)
     WHERE c.campaign = ? AND c.n > ? ORDER BY c.n LIMIT ?";

impl Db {
    /// Begins an import.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn begin_import(
        &self,
        id: &str,
        campaign: &str,
        format: &str,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO imports (id, campaign, format, started_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?4)",
        )
        .bind(id)
        .bind(campaign)
        .bind(format)
        .bind(now.as_millisecond())
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// Stores contacts, the lines that are none, and how far the file is, all or nothing.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn import_batch(
        &self,
        id: &str,
        campaign: &str,
        contacts: &[NewContact],
        errors: &[(u64, &str)],
        now: Timestamp,
    ) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        let new = insert_contacts(&mut tx, campaign, contacts).await?;
        sqlx::query(
            "INSERT OR IGNORE INTO import_errors (import, line, reason)
             SELECT ?1, value ->> 0, value ->> 1 FROM json_each(?2) ORDER BY key",
        )
        .bind(id)
        .bind(to_json("errors of an import", &errors)?)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "UPDATE imports SET lines = lines + ?2, imported = imported + ?3, rejected = rejected + ?4,
                updated_at = ?5 WHERE id = ?1",
        )
        .bind(id)
        .bind(number((contacts.len() + errors.len()) as u64))
        .bind(number(new))
        .bind(number(errors.len() as u64))
        .bind(now.as_millisecond())
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// Ends an import.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn end_import(&self, id: &str, fatal: Option<&str>, now: Timestamp) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE imports SET state = ?2, fatal = ?3, updated_at = ?4 WHERE id = ?1")
            .bind(id)
            .bind(if fatal.is_none() { "done" } else { "failed" })
            .bind(fatal)
            .bind(now.as_millisecond())
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Returns an import.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn import(&self, id: &str) -> Result<Option<ImportRow>, DbError> {
        let row =
            sqlx::query("SELECT * FROM imports WHERE id = ?").bind(id).fetch_optional(self.reader()).await?;
        row.as_ref().map(read).transpose()
    }

    /// Returns the imports of a campaign, the newest first, at most 100.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn imports(&self, campaign: &str) -> Result<Vec<ImportRow>, DbError> {
        let rows = sqlx::query("SELECT * FROM imports WHERE campaign = ? ORDER BY id DESC LIMIT 100")
            .bind(campaign)
            .fetch_all(self.reader())
            .await?;
        rows.iter().map(read).collect()
    }

    /// Returns the lines after line `after` that were no contacts, with the reason.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn import_errors(
        &self,
        id: &str,
        after: u64,
        limit: u32,
    ) -> Result<Vec<(u64, String)>, DbError> {
        let rows = sqlx::query(
            "SELECT line, reason FROM import_errors WHERE import = ? AND line > ? ORDER BY line LIMIT ?",
        )
        .bind(id)
        .bind(number(after))
        .bind(limit)
        .fetch_all(self.reader())
        .await?;
        rows.iter().map(|row| Ok((count(row.try_get("line")?), row.try_get("reason")?))).collect()
    }

    /// Returns what contacts after number `after` came to, in the order in which they came in.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn contact_results(
        &self,
        campaign: &str,
        after: u64,
        limit: u32,
    ) -> Result<Vec<ContactResult>, DbError> {
        let rows = sqlx::query(RESULTS_AFTER)
            .bind(campaign)
            .bind(number(after))
            .bind(limit)
            .fetch_all(self.reader())
            .await?;
        rows.iter()
            .map(|row| {
                Ok(ContactResult {
                    n: count(row.try_get("n")?),
                    callee: parsed("callee", row.try_get("callee")?)?,
                    external_id: row.try_get("external_id")?,
                    state: row.try_get("state")?,
                    why: row.try_get("why")?,
                    attempts: row.try_get("attempts")?,
                    callback_at: row.try_get::<Option<i64>, _>("callback_at")?.map(instant).transpose()?,
                    disposition: row.try_get("disposition")?,
                    outcome: row.try_get("outcome_code")?,
                })
            })
            .collect()
    }
}

fn read(row: &SqliteRow) -> Result<ImportRow, DbError> {
    let of = |name: &str| -> Result<u64, DbError> { Ok(count(row.try_get(name)?)) };
    let (lines, imported, rejected) = (of("lines")?, of("imported")?, of("rejected")?);
    Ok(ImportRow {
        id: row.try_get("id")?,
        campaign: row.try_get("campaign")?,
        format: row.try_get("format")?,
        state: row.try_get("state")?,
        lines,
        imported,
        duplicates: lines.saturating_sub(imported + rejected),
        rejected,
        fatal: row.try_get("fatal")?,
        started_at: instant(row.try_get("started_at")?)?,
        updated_at: instant(row.try_get("updated_at")?)?,
    })
}
