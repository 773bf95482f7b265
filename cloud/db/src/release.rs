//! How far gray releases are, and what they have shown.

use jiff::Timestamp;
use sqlx::Row;

use crate::store::{count, number};
use crate::{Db, DbError};

/// Contacts that are moved in one transaction: others must get to write in between.
const AT_ONCE: u64 = 20_000;

/// Calls of a campaign that came to the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedAlike {
    /// Their outcome's code; empty for none.
    pub outcome: String,
    /// Whether the customers asked not to be called again.
    pub suppress: bool,
    /// How many.
    pub calls: u64,
    /// Turns of the customers in them.
    pub turns: u64,
    /// Of these not understood, or in which nothing was heard, as far as the calls were inspected.
    pub dead_ends: u64,
}

impl Db {
    /// Lets a campaign call the first `share` percent of its contacts and holds the others: by the number in their
    /// variable `value`, the lowest first; by the order in which they came where there is none.
    ///
    /// # Errors
    /// [`DbError`]. What is interrupted is made whole by doing it again.
    pub async fn set_share(&self, id: &str, share: u8, value: &str, now: Timestamp) -> Result<(), DbError> {
        const VALUE: &str = "COALESCE(CAST(json_extract(variables, ?2) AS REAL), 0.0)";
        let path = format!("$.\"{value}\"");
        let row =
            sqlx::query("SELECT COUNT(*) AS n, MAX(n) AS last FROM campaign_contacts WHERE campaign = ?")
                .bind(id)
                .fetch_one(self.reader())
                .await?;
        let (all, last) = (count(row.try_get("n")?), row.try_get::<Option<i64>, _>("last")?.map_or(0, count));
        let within = (all * u64::from(share)).div_ceil(100).max(1);
        let cut = sqlx::query(&format!(
            "SELECT {VALUE} AS value, n FROM campaign_contacts WHERE campaign = ?1 ORDER BY value, n LIMIT 1 OFFSET ?3"
        ))
        .bind(id)
        .bind(&path)
        .bind(number(within - 1))
        .fetch_optional(self.reader())
        .await?;
        let (cut_value, cut_n) = match cut.filter(|_| share < 100) {
            Some(row) => (row.try_get("value")?, row.try_get("n")?),
            None => (f64::MAX, i64::MAX),
        };
        let mut from = 0;
        while from <= last {
            let to = from + AT_ONCE;
            let mut tx = self.begin().await?;
            sqlx::query(&format!(
                "UPDATE campaign_contacts SET state = CASE WHEN ({VALUE}, n) <= (?3, ?4) THEN 'ready' ELSE 'held' END
                 WHERE campaign = ?1 AND n >= ?5 AND n < ?6 AND state IN ('ready', 'held')"
            ))
            .bind(id)
            .bind(&path)
            .bind(cut_value)
            .bind(cut_n)
            .bind(number(from))
            .bind(number(to))
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            from = to;
        }
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE campaigns SET share = ?2, share_next = 0, share_since = ?3 WHERE id = ?1")
            .bind(id)
            .bind(share)
            .bind(now.as_millisecond())
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Notes that a release could go on to this share if somebody says so.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn share_could_be(&self, id: &str, next: u8) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE campaigns SET share_next = ?2 WHERE id = ?1 AND share_next <> ?2")
            .bind(id)
            .bind(next)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Returns what the conversations of a campaign came to that ended after `since`.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn ended_alike(&self, campaign: &str, since: Timestamp) -> Result<Vec<EndedAlike>, DbError> {
        let rows = sqlx::query(
            "SELECT COALESCE(c.outcome_code, '') AS outcome, c.suppress AS suppress, COUNT(*) AS calls,
                SUM((SELECT COUNT(*) FROM turns AS t WHERE t.call = c.id AND t.turn > 0)) AS turns,
                SUM(COALESCE(json_extract(a.inspection, '$.dead_ends'), 0)) AS dead_ends
             FROM calls AS c LEFT JOIN appraisals AS a ON a.call = c.id
             WHERE c.campaign = ? AND c.status = 'ended' AND c.answered_at IS NOT NULL AND c.ended_at > ?
             GROUP BY outcome, c.suppress",
        )
        .bind(campaign)
        .bind(since.as_millisecond())
        .fetch_all(self.reader())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(EndedAlike {
                    outcome: row.try_get("outcome")?,
                    suppress: row.try_get("suppress")?,
                    calls: count(row.try_get("calls")?),
                    turns: count(row.try_get("turns")?),
                    dead_ends: count(row.try_get("dead_ends")?),
                })
            })
            .collect()
    }
}
