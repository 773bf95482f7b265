//! Lists of contacts, kept apart from the campaigns that are made of them.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::store::{count, instant, number};
use crate::{Db, DbError};

/// Contacts that are copied in one transaction: others must get to write in between.
const AT_ONCE: u64 = 5_000;

/// A list.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "List")]
pub struct ListRow {
    /// Its id.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// How many contacts it has.
    pub contacts: u64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What came of copying contacts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Copied {
    /// Contacts that are new there.
    pub copied: u64,
    /// Contacts that were there already.
    pub duplicates: u64,
}

const SELECT: &str =
    "SELECT l.*, (SELECT COUNT(*) FROM campaign_contacts AS c WHERE c.campaign = l.id) AS contacts
                      FROM lists AS l";

impl Db {
    /// Makes an empty list.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn create_list(&self, id: &str, name: &str, now: Timestamp) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        sqlx::query("INSERT INTO lists (id, name, created_at) VALUES (?, ?, ?)")
            .bind(id)
            .bind(name)
            .bind(now.as_millisecond())
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Returns a list.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn list(&self, id: &str) -> Result<Option<ListRow>, DbError> {
        let row =
            sqlx::query(&format!("{SELECT} WHERE l.id = ?")).bind(id).fetch_optional(self.reader()).await?;
        row.as_ref().map(read).transpose()
    }

    /// Returns all lists, the oldest first.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn lists(&self) -> Result<Vec<ListRow>, DbError> {
        let rows = sqlx::query(&format!("{SELECT} ORDER BY l.id")).fetch_all(self.reader()).await?;
        rows.iter().map(read).collect()
    }

    /// Removes a list with its contacts and its imports; says whether there was one. Campaigns that were made of it
    /// keep what they copied.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn remove_list(&self, id: &str) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let removed = sqlx::query("DELETE FROM lists WHERE id = ?").bind(id).execute(&mut *tx).await?;
        if removed.rows_affected() == 1 {
            sqlx::query("DELETE FROM campaign_contacts WHERE campaign = ?")
                .bind(id)
                .execute(&mut *tx)
                .await?;
            sqlx::query(
                "DELETE FROM import_errors WHERE import IN (SELECT id FROM imports WHERE campaign = ?)",
            )
            .bind(id)
            .execute(&mut *tx)
            .await?;
            sqlx::query("DELETE FROM imports WHERE campaign = ?").bind(id).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(removed.rows_affected() == 1)
    }

    /// Copies the contacts of a list or a campaign to a campaign, without what became of them. What is interrupted
    /// is made whole by doing it again: a contact is copied once.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn copy_contacts(&self, from: &str, to: &str) -> Result<Copied, DbError> {
        let (mut after, mut done) = (0, Copied::default());
        loop {
            let row = sqlx::query(
                "SELECT COUNT(*) AS seen, MAX(n) AS last FROM
                    (SELECT n FROM campaign_contacts WHERE campaign = ? AND n > ? ORDER BY n LIMIT ?)",
            )
            .bind(from)
            .bind(number(after))
            .bind(number(AT_ONCE))
            .fetch_one(self.reader())
            .await?;
            let Some(last) = row.try_get::<Option<i64>, _>("last")? else { return Ok(done) };
            let seen = count(row.try_get("seen")?);
            let mut tx = self.begin().await?;
            let new = sqlx::query(
                "INSERT OR IGNORE INTO campaign_contacts
                    (campaign, callee, variables, facts, external_id, priority, state)
                 SELECT ?1, callee, variables, facts, external_id, priority, CASE WHEN EXISTS
                    (SELECT 1 FROM campaigns WHERE id = ?1 AND share BETWEEN 1 AND 99) THEN 'held' ELSE 'ready' END
                 FROM campaign_contacts WHERE campaign = ?2 AND n > ?3 AND n <= ?4 ORDER BY n",
            )
            .bind(to)
            .bind(from)
            .bind(number(after))
            .bind(last)
            .execute(&mut *tx)
            .await?
            .rows_affected();
            tx.commit().await?;
            done.copied += new;
            done.duplicates += seen.saturating_sub(new);
            after = count(last);
        }
    }
}

fn read(row: &SqliteRow) -> Result<ListRow, DbError> {
    Ok(ListRow {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        contacts: count(row.try_get("contacts")?),
        created_at: instant(row.try_get("created_at")?)?,
    })
}
