//! Which version of each script new calls get, and which they got before.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use trunkline_model::{ScriptId, ScriptVersion};

use crate::store::{instant, json, parsed};
use crate::{Db, DbError};

/// A version became the one that new calls get.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Publication {
    /// The script.
    #[serde(skip)]
    pub id: ScriptId,
    /// The hash of its content.
    pub version: ScriptVersion,
    /// Since when.
    pub published_at: Timestamp,
    /// The token that asked for it; `None` for a file of the server's folder.
    pub published_by: Option<String>,
    /// The linter's warnings of then, as JSON.
    pub findings: serde_json::Value,
}

impl Db {
    /// Makes a version the one that new calls get, and keeps its text. Returns the publication that counts and
    /// whether it is a new one: the version that counts already is not published twice.
    ///
    /// # Errors
    /// [`DbError`]; then nothing has changed.
    pub async fn publish_script(
        &self,
        (id, version, canonical): (&ScriptId, &ScriptVersion, &str),
        token: Option<&str>,
        findings: &serde_json::Value,
        now: Timestamp,
    ) -> Result<(Publication, bool), DbError> {
        let mut tx = self.begin().await?;
        keep(&mut tx, id, version, canonical, now).await?;
        let last = sqlx::query("SELECT * FROM script_publications WHERE id = ? ORDER BY n DESC LIMIT 1")
            .bind(id.as_str())
            .fetch_optional(&mut *tx)
            .await?;
        let last = last.as_ref().map(read).transpose()?;
        if let Some(last) = last.filter(|last| last.version == *version) {
            tx.commit().await?;
            return Ok((last, false));
        }
        insert(&mut tx, id, version, token, findings, now).await?;
        tx.commit().await?;
        let published = Publication {
            id: id.clone(),
            version: version.clone(),
            published_at: instant(now.as_millisecond())?,
            published_by: token.map(str::to_owned),
            findings: findings.clone(),
        };
        Ok((published, true))
    }

    /// Takes a file of the server's folder in: it is published when it is another one than at the last start, and
    /// else leaves in place what was published since.
    ///
    /// # Errors
    /// [`DbError`]; then nothing has changed.
    pub async fn script_from_file(
        &self,
        (id, version, canonical): (&ScriptId, &ScriptVersion, &str),
        now: Timestamp,
    ) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        keep(&mut tx, id, version, canonical, now).await?;
        let last = sqlx::query(
            "SELECT version FROM script_publications WHERE id = ? AND token IS NULL ORDER BY n DESC LIMIT 1",
        )
        .bind(id.as_str())
        .fetch_optional(&mut *tx)
        .await?;
        let known: Option<String> = last.map(|row| row.try_get("version")).transpose()?;
        if known.as_deref() != Some(version.as_str()) {
            insert(&mut tx, id, version, None, &serde_json::json!([]), now).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Returns the canonical text of a script version that was ever loaded.
    ///
    /// # Errors
    /// [`DbError::Sql`].
    pub async fn script(&self, version: &ScriptVersion) -> Result<Option<String>, DbError> {
        let row = sqlx::query("SELECT canonical FROM scripts WHERE version = ?")
            .bind(version.as_str())
            .fetch_optional(self.reader())
            .await?;
        Ok(row.map(|row| row.try_get("canonical")).transpose()?)
    }

    /// Returns the canonical text of a version of this script.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn script_of(&self, id: &ScriptId, version: &ScriptVersion) -> Result<Option<String>, DbError> {
        let row = sqlx::query("SELECT canonical FROM scripts WHERE version = ? AND id = ?")
            .bind(version.as_str())
            .bind(id.as_str())
            .fetch_optional(self.reader())
            .await?;
        Ok(row.map(|row| row.try_get("canonical")).transpose()?)
    }

    /// Returns the publication that counts for each script.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn publications(&self) -> Result<Vec<Publication>, DbError> {
        let rows = sqlx::query(
            "SELECT * FROM script_publications WHERE n IN (SELECT MAX(n) FROM script_publications GROUP BY id)
             ORDER BY id",
        )
        .fetch_all(self.reader())
        .await?;
        rows.iter().map(read).collect()
    }

    /// Returns the publications of a script, the newest first.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn publications_of(&self, id: &ScriptId, limit: u32) -> Result<Vec<Publication>, DbError> {
        let rows = sqlx::query("SELECT * FROM script_publications WHERE id = ? ORDER BY n DESC LIMIT ?")
            .bind(id.as_str())
            .bind(limit)
            .fetch_all(self.reader())
            .await?;
        rows.iter().map(read).collect()
    }
}

async fn keep(
    conn: &mut SqliteConnection,
    id: &ScriptId,
    version: &ScriptVersion,
    canonical: &str,
    now: Timestamp,
) -> Result<(), DbError> {
    sqlx::query("INSERT OR IGNORE INTO scripts (version, id, canonical, at) VALUES (?, ?, ?, ?)")
        .bind(version.as_str())
        .bind(id.as_str())
        .bind(canonical)
        .bind(now.as_millisecond())
        .execute(conn)
        .await?;
    Ok(())
}

async fn insert(
    conn: &mut SqliteConnection,
    id: &ScriptId,
    version: &ScriptVersion,
    token: Option<&str>,
    findings: &serde_json::Value,
    now: Timestamp,
) -> Result<(), DbError> {
    sqlx::query("INSERT INTO script_publications (id, version, token, findings, at) VALUES (?, ?, ?, ?, ?)")
        .bind(id.as_str())
        .bind(version.as_str())
        .bind(token)
        .bind(findings.to_string())
        .bind(now.as_millisecond())
        .execute(conn)
        .await?;
    Ok(())
}

fn read(row: &SqliteRow) -> Result<Publication, DbError> {
    Ok(Publication {
        id: parsed("script id", row.try_get("id")?)?,
        version: parsed("script version", row.try_get("version")?)?,
        published_at: instant(row.try_get("at")?)?,
        published_by: row.try_get("token")?,
        findings: json("findings of a script", row.try_get("findings")?)?,
    })
}
