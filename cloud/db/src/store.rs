//! Opening the file, and what is too small for a file of its own: tokens, suppressions.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Row, Sqlite, SqlitePool, Transaction};
use trunkline_model::Callee;

use crate::DbError;
use crate::migrations::BuiltIn;

/// A handle to the database; clones share the connections.
#[derive(Clone, Debug)]
pub struct Db {
    writer: SqlitePool,
    reader: SqlitePool,
}

impl Db {
    /// Opens the file, creates it when it is not there, and brings its schema up to date.
    ///
    /// # Errors
    /// [`DbError::Open`] or [`DbError::Migrate`].
    pub async fn open(path: &Path) -> Result<Self, DbError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10));
        let opened = |source| DbError::Open { path: path.display().to_string(), source };
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(60))
            .connect_with(options.clone())
            .await
            .map_err(opened)?;
        Migrator::new(BuiltIn).await?.run(&writer).await?;
        let reader =
            SqlitePoolOptions::new().max_connections(4).connect_with(options).await.map_err(opened)?;
        Ok(Self { writer, reader })
    }

    /// Writes what is pending and closes the file.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    /// Says whether the database answers.
    ///
    /// # Errors
    /// [`DbError::Sql`] when it does not.
    pub async fn ping(&self) -> Result<(), DbError> {
        sqlx::query("SELECT 1").execute(&self.reader).await?;
        Ok(())
    }

    /// Returns what tells this database from others: a random text, made with it.
    ///
    /// # Errors
    /// [`DbError::Sql`].
    pub async fn identity(&self) -> Result<String, DbError> {
        Ok(sqlx::query("SELECT id FROM identity").fetch_one(&self.reader).await?.try_get("id")?)
    }

    pub(crate) fn reader(&self) -> &SqlitePool {
        &self.reader
    }

    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, DbError> {
        Ok(self.writer.begin().await?)
    }

    /// Makes `tokens` (name, SHA-256 of the token in hexadecimal) the only ones that are valid.
    ///
    /// # Errors
    /// [`DbError::Sql`].
    pub async fn replace_tokens(&self, tokens: &[(String, String)]) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM tokens").execute(&mut *tx).await?;
        for (name, sha256) in tokens {
            sqlx::query("INSERT OR REPLACE INTO tokens (sha256, name) VALUES (?, ?)")
                .bind(sha256)
                .bind(name)
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    /// Returns the name of the token with this SHA-256, if it is valid.
    ///
    /// # Errors
    /// [`DbError::Sql`].
    pub async fn token_name(&self, sha256: &str) -> Result<Option<String>, DbError> {
        let row = sqlx::query("SELECT name FROM tokens WHERE sha256 = ?")
            .bind(sha256)
            .fetch_optional(&self.reader)
            .await?;
        Ok(row.map(|row| row.try_get("name")).transpose()?)
    }

    /// Says whether this customer asked not to be called again.
    ///
    /// # Errors
    /// [`DbError::Sql`].
    pub async fn is_suppressed(&self, callee: &Callee) -> Result<bool, DbError> {
        let row = sqlx::query("SELECT 1 FROM suppressions WHERE callee = ?")
            .bind(callee.reveal())
            .fetch_optional(&self.reader)
            .await?;
        Ok(row.is_some())
    }
}

/// So many rows are inserted by one statement: what a pass judges together.
pub(crate) const ROWS_AT_ONCE: usize = 250;

pub(crate) fn parsed<T: FromStr>(what: &'static str, text: &str) -> Result<T, DbError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|e: T::Err| DbError::Damaged { what, text: e.to_string() })
}

pub(crate) fn json<T: serde::de::DeserializeOwned>(what: &'static str, text: &str) -> Result<T, DbError> {
    serde_json::from_str(text).map_err(|e| DbError::Damaged { what, text: e.to_string() })
}

pub(crate) fn to_json<T: serde::Serialize>(what: &'static str, value: &T) -> Result<String, DbError> {
    serde_json::to_string(value).map_err(|e| DbError::Damaged { what, text: e.to_string() })
}

pub(crate) fn instant(millis: i64) -> Result<Timestamp, DbError> {
    Timestamp::from_millisecond(millis)
        .map_err(|e| DbError::Damaged { what: "time stamp", text: e.to_string() })
}

pub(crate) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(crate) fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
