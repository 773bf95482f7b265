//! Alerts of the fleet.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use trunkline_fleet::alert::{Alert, Change, Kind};
use trunkline_model::BoxId;

use crate::fleet::append;
use crate::store::{count, instant, parsed};
use crate::{Db, DbError};

/// An alert as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Alert")]
pub struct AlertRow {
    /// Its number.
    #[serde(rename = "id")]
    pub n: u64,
    /// Of which box.
    #[serde(rename = "box")]
    pub box_id: BoxId,
    /// What is wrong.
    pub kind: Kind,
    /// Of which trunk or component; empty for the box as a whole.
    pub about: String,
    /// In words, as it was seen last.
    pub detail: String,
    /// Since when it is an alert.
    pub since: Timestamp,
    /// When it was seen last.
    pub last: Timestamp,
    /// When it was over.
    pub cleared: Option<Timestamp>,
    /// Until when nobody wants to hear of it.
    pub silent_until: Option<Timestamp>,
    /// Who said so.
    pub silent_by: Option<String>,
}

impl Db {
    /// Returns what is not over, also what is no alert yet.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn open_alerts(&self) -> Result<Vec<Alert>, DbError> {
        let rows = sqlx::query("SELECT * FROM alerts WHERE cleared IS NULL ORDER BY n")
            .fetch_all(self.reader())
            .await?;
        rows.iter().map(read).collect()
    }

    /// Keeps changes, and writes what is raised and over into the fleet's log.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn change_alerts(&self, changes: &[Change], now: Timestamp) -> Result<(), DbError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        for change in changes {
            match change {
                Change::Seen(alert) => keep(&mut tx, alert).await?,
                Change::Raised(alert) => {
                    keep(&mut tx, alert).await?;
                    note(&mut tx, alert, "alert", now).await?;
                }
                Change::Cleared(alert) => {
                    let over = "UPDATE alerts SET cleared = ?4 WHERE box = ?1 AND kind = ?2 AND about = ?3 \
                                AND cleared IS NULL";
                    end(&mut tx, alert, over, now).await?;
                    note(&mut tx, alert, "alert over", now).await?;
                }
                Change::Forgotten(alert) => {
                    let gone = "DELETE FROM alerts WHERE box = ?1 AND kind = ?2 AND about = ?3 AND first <= ?4 \
                                AND cleared IS NULL";
                    end(&mut tx, alert, gone, now).await?;
                }
            }
        }
        Ok(tx.commit().await?)
    }

    /// Returns the newest alerts, those that are not over before those that are.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn alerts(&self, with_cleared: bool, limit: u32) -> Result<Vec<AlertRow>, DbError> {
        let rows = sqlx::query(
            "SELECT * FROM alerts WHERE raised IS NOT NULL AND (? OR cleared IS NULL) \
             ORDER BY cleared IS NOT NULL, n DESC LIMIT ?",
        )
        .bind(with_cleared)
        .bind(limit)
        .fetch_all(self.reader())
        .await?;
        rows.iter().map(read_row).collect()
    }

    /// Lets an alert be silent until an instant; `None` when there is none of this number that is not over.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn silence_alert(
        &self,
        n: u64,
        by: &str,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Option<AlertRow>, DbError> {
        let mut tx = self.begin().await?;
        let row = sqlx::query(
            "UPDATE alerts SET silent_until = ?, silent_by = ? WHERE n = ? AND raised IS NOT NULL \
             AND cleared IS NULL RETURNING *",
        )
        .bind(until.as_millisecond())
        .bind(by)
        .bind(i64::try_from(n).unwrap_or(i64::MAX))
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let alert = read_row(&row)?;
        let detail = format!("{} {} until {until}", alert.kind.name(), alert.about);
        append(&mut tx, by, alert.box_id.as_str(), "alert silenced", &detail, now).await?;
        tx.commit().await?;
        Ok(Some(alert))
    }
}

async fn keep(tx: &mut SqliteConnection, alert: &Alert) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO alerts (box, kind, about, detail, first, last, raised) VALUES (?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT (box, kind, about) WHERE cleared IS NULL DO UPDATE SET detail = excluded.detail, \
         last = excluded.last, raised = excluded.raised",
    )
    .bind(alert.id.as_str())
    .bind(alert.kind.name())
    .bind(&alert.about)
    .bind(&alert.detail)
    .bind(alert.first.as_millisecond())
    .bind(alert.last.as_millisecond())
    .bind(alert.raised.map(Timestamp::as_millisecond))
    .execute(tx)
    .await?;
    Ok(())
}

async fn end(
    tx: &mut SqliteConnection,
    alert: &Alert,
    statement: &'static str,
    now: Timestamp,
) -> Result<(), DbError> {
    sqlx::query(statement)
        .bind(alert.id.as_str())
        .bind(alert.kind.name())
        .bind(&alert.about)
        .bind(now.as_millisecond())
        .execute(tx)
        .await?;
    Ok(())
}

async fn note(tx: &mut SqliteConnection, alert: &Alert, what: &str, now: Timestamp) -> Result<(), DbError> {
    let detail = [alert.kind.name(), &alert.about, &alert.detail].join(" ");
    append(tx, "cloud", alert.id.as_str(), what, &detail, now).await
}

fn kind(row: &SqliteRow) -> Result<Kind, DbError> {
    let name: String = row.try_get("kind")?;
    Kind::parse(&name).ok_or_else(|| DbError::Damaged { what: "kind of alert", text: "unknown".to_owned() })
}

fn read(row: &SqliteRow) -> Result<Alert, DbError> {
    Ok(Alert {
        id: parsed("box id", row.try_get("box")?)?,
        kind: kind(row)?,
        about: row.try_get("about")?,
        detail: row.try_get("detail")?,
        first: instant(row.try_get("first")?)?,
        last: instant(row.try_get("last")?)?,
        raised: row.try_get::<Option<i64>, _>("raised")?.map(instant).transpose()?,
        cleared: row.try_get::<Option<i64>, _>("cleared")?.map(instant).transpose()?,
    })
}

fn read_row(row: &SqliteRow) -> Result<AlertRow, DbError> {
    let alert = read(row)?;
    let silent: i64 = row.try_get("silent_until")?;
    Ok(AlertRow {
        n: count(row.try_get("n")?),
        since: alert.raised.unwrap_or(alert.first),
        box_id: alert.id,
        kind: alert.kind,
        about: alert.about,
        detail: alert.detail,
        last: alert.last,
        cleared: alert.cleared,
        silent_until: (silent > 0).then(|| instant(silent)).transpose()?,
        silent_by: Some(row.try_get::<String, _>("silent_by")?).filter(|by| !by.is_empty()),
    })
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use trunkline_fleet::alert::{Finding, step};

    use super::*;

    #[tokio::test]
    async fn an_alert_is_kept_silenced_and_over_and_may_come_again() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("cloud.db")).await.unwrap();
        let (id, t0): (BoxId, Timestamp) = ("tl-a".parse().unwrap(), "2026-11-23T10:00:00Z".parse().unwrap());
        let minute = SignedDuration::from_mins(1);
        let down = [Finding { kind: Kind::TrunkDown, about: "carrier".into(), detail: "408".into() }];
        let live = async |findings: &[Finding], now: Timestamp| {
            let open = db.open_alerts().await.unwrap();
            db.change_alerts(&step(&id, &open, findings, now), now).await.unwrap();
        };
        live(&down, t0).await;
        assert!(db.alerts(true, 10).await.unwrap().is_empty(), "it has not stood for long enough");
        live(&down, t0 + minute).await;
        let raised = db.alerts(false, 10).await.unwrap();
        assert_eq!(
            (raised[0].kind, raised[0].detail.as_str(), raised[0].since),
            (Kind::TrunkDown, "408", t0 + minute)
        );

        assert_eq!(db.silence_alert(99, "li", t0 + minute * 9, t0).await.unwrap(), None);
        let silent = db.silence_alert(raised[0].n, "li", t0 + minute * 9, t0).await.unwrap().unwrap();
        assert_eq!((silent.silent_until, silent.silent_by.as_deref()), (Some(t0 + minute * 9), Some("li")));
        live(&down, t0 + minute * 2).await;
        assert_eq!(
            db.alerts(false, 10).await.unwrap()[0].silent_by.as_deref(),
            Some("li"),
            "being seen changes nothing"
        );

        live(&[], t0 + minute * 5).await;
        assert!(db.alerts(false, 10).await.unwrap().is_empty());
        assert_eq!(db.alerts(true, 10).await.unwrap()[0].cleared, Some(t0 + minute * 5));
        live(&down, t0 + minute * 6).await;
        live(&down, t0 + minute * 7).await;
        let all = db.alerts(true, 10).await.unwrap();
        assert_eq!((all.len(), all[0].cleared, all[0].silent_until), (2, None, None), "a new one, and loud");
        let log: Vec<String> =
            db.fleet_log("tl-a", 10).await.unwrap().into_iter().map(|one| one.what).collect();
        assert_eq!(log.iter().filter(|what| *what == "alert").count(), 2);
    }
}
