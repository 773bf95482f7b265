//! Tokens that the API gives out, and the log of who changed what.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::store::{count, instant, json, number, to_json};
use crate::{Db, DbError};

/// A token to be kept.
#[derive(Clone, Debug, PartialEq)]
pub struct NewKey {
    /// Its id.
    pub id: String,
    /// What people call it; no two tokens have the same name.
    pub name: String,
    /// SHA-256 of the token, hexadecimal.
    pub sha256: String,
    /// What it may be used for.
    pub scopes: Vec<String>,
    /// Who made it.
    pub created_by: String,
    /// When it ends; `None` is never.
    pub expires_at: Option<Timestamp>,
}

/// A token as it is shown; the token itself is nowhere.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeyRow {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it may be used for.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// What a valid token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The token's name.
    pub name: String,
    /// What it may be used for; `None` is everything, as for tokens from the operator's own file.
    pub scopes: Option<Vec<String>>,
}

/// A line of the audit log.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct AuditEntry {
    /// Its number.
    pub n: u64,
    /// When.
    pub at: Timestamp,
    /// Whose token, or `server`.
    pub who: String,
    /// How.
    pub method: String,
    /// Where.
    pub path: String,
    /// What came of it, as an HTTP status; `None` when the server died over it.
    pub status: Option<u16>,
    /// What was changed, where the path does not say it.
    pub detail: Value,
}

impl Db {
    /// Keeps a token. Returns false when the name is taken.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn create_key(&self, key: &NewKey, now: Timestamp) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let made = sqlx::query(
            "INSERT OR IGNORE INTO api_keys (id, name, sha256, scopes, created_at, created_by, expires_at)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE NOT EXISTS (SELECT 1 FROM tokens WHERE name = ?2)",
        )
        .bind(&key.id)
        .bind(&key.name)
        .bind(&key.sha256)
        .bind(to_json("scopes", &key.scopes)?)
        .bind(now.as_millisecond())
        .bind(&key.created_by)
        .bind(key.expires_at.map(|at| at.as_millisecond()))
        .execute(&mut *tx)
        .await?
        .rows_affected();
        tx.commit().await?;
        Ok(made == 1)
    }

    /// Returns every token that the API gave out.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn keys(&self) -> Result<Vec<KeyRow>, DbError> {
        let rows = sqlx::query("SELECT * FROM api_keys ORDER BY id").fetch_all(self.reader()).await?;
        rows.iter().map(read_key).collect()
    }

    /// Ends a token at once. Returns it, or `None` when there is none with this id.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn revoke_key(&self, id: &str, now: Timestamp) -> Result<Option<KeyRow>, DbError> {
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE api_keys SET revoked_at = COALESCE(revoked_at, ?2) WHERE id = ?1")
            .bind(id)
            .bind(now.as_millisecond())
            .execute(&mut *tx)
            .await?;
        let row =
            sqlx::query("SELECT * FROM api_keys WHERE id = ?").bind(id).fetch_optional(&mut *tx).await?;
        tx.commit().await?;
        row.as_ref().map(read_key).transpose()
    }

    /// Returns what the token with this SHA-256 stands for, if it is valid now.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn holder(&self, sha256: &str, now: Timestamp) -> Result<Option<Holder>, DbError> {
        if let Some(name) = self.token_name(sha256).await? {
            return Ok(Some(Holder { name, scopes: None }));
        }
        let row = sqlx::query(
            "SELECT name, scopes FROM api_keys WHERE sha256 = ?1 AND revoked_at IS NULL
                AND (expires_at IS NULL OR expires_at > ?2)",
        )
        .bind(sha256)
        .bind(now.as_millisecond())
        .fetch_optional(self.reader())
        .await?;
        row.map(|row| {
            let scopes = json("scopes", row.try_get("scopes")?)?;
            Ok(Holder { name: row.try_get("name")?, scopes: Some(scopes) })
        })
        .transpose()
    }

    /// Writes down that somebody is about to change something, and returns the entry's number.
    ///
    /// # Errors
    /// [`DbError`]; then nothing may be changed.
    pub async fn audit_begin(
        &self,
        who: &str,
        method: &str,
        path: &str,
        now: Timestamp,
    ) -> Result<u64, DbError> {
        let mut tx = self.begin().await?;
        let done = sqlx::query("INSERT INTO audit (at, who, method, path) VALUES (?, ?, ?, ?)")
            .bind(now.as_millisecond())
            .bind(who)
            .bind(method)
            .bind(path)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(count(done.last_insert_rowid()))
    }

    /// Writes down what came of it, once.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn audit_end(&self, n: u64, status: u16, detail: &Value) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE audit SET status = ?2, detail = ?3 WHERE n = ?1 AND status IS NULL")
            .bind(number(n))
            .bind(status)
            .bind(detail.to_string())
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Writes down a setting of the server's own, if it is another one than at the last start.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn audit_setting(&self, what: &str, detail: &Value, now: Timestamp) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let last =
            sqlx::query("SELECT detail FROM audit WHERE who = 'server' AND path = ? ORDER BY n DESC LIMIT 1")
                .bind(what)
                .fetch_optional(&mut *tx)
                .await?;
        let text = detail.to_string();
        if let Some(row) = last
            && row.try_get::<String, _>("detail")? == text
        {
            return Ok(false);
        }
        sqlx::query(
            "INSERT INTO audit (at, who, method, path, status, detail) VALUES (?, 'server', 'START', ?, 200, ?)",
        )
        .bind(now.as_millisecond())
        .bind(what)
        .bind(text)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Returns the log before number `before`, the newest first.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn audit(&self, before: Option<u64>, limit: u32) -> Result<Vec<AuditEntry>, DbError> {
        let rows = sqlx::query("SELECT * FROM audit WHERE ?1 IS NULL OR n < ?1 ORDER BY n DESC LIMIT ?2")
            .bind(before.map(number))
            .bind(limit)
            .fetch_all(self.reader())
            .await?;
        rows.iter()
            .map(|row| {
                Ok(AuditEntry {
                    n: count(row.try_get("n")?),
                    at: instant(row.try_get("at")?)?,
                    who: row.try_get("who")?,
                    method: row.try_get("method")?,
                    path: row.try_get("path")?,
                    status: row.try_get("status")?,
                    detail: json("detail of an audit entry", row.try_get("detail")?)?,
                })
            })
            .collect()
    }
}

fn read_key(row: &SqliteRow) -> Result<KeyRow, DbError> {
    let at = |name: &str| -> Result<Option<Timestamp>, DbError> {
        row.try_get::<Option<i64>, _>(name)?.map(instant).transpose()
    };
    Ok(KeyRow {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        scopes: json("scopes", row.try_get("scopes")?)?,
        created_at: instant(row.try_get("created_at")?)?,
        created_by: row.try_get("created_by")?,
        expires_at: at("expires_at")?,
        revoked_at: at("revoked_at")?,
    })
}
