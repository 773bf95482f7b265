//! Rollouts, and what each box was assigned.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use trunkline_fleet::rollout::{Phase, Rollout, RolloutError};
use trunkline_fleet::sequential::Share;
use trunkline_model::BoxId;
use trunkline_trust::AssignedTarget;

use crate::fleet::append;
use crate::store::{count, instant, json, number, parsed, to_json};
use crate::{Db, DbError};

/// What a box is to run, signed.
#[derive(Clone, Debug, PartialEq)]
pub struct AssignmentRow {
    /// The box.
    pub box_id: BoxId,
    /// Counts up for each box.
    pub number: u64,
    /// What it names.
    pub targets: Vec<AssignedTarget>,
    /// Components whose update is taken back.
    pub cancel: Vec<String>,
    /// The signed document.
    pub doc: String,
    /// From when on it is no longer believed.
    pub expires: Timestamp,
}

/// Figures of the calls of one box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallFigures {
    /// Calls that ended, and those that failed for technical reasons.
    pub failures: Share,
    /// Calls that were answered, and those whose customer asked not to be called again.
    pub opt_outs: Share,
}

impl Db {
    /// Keeps a rollout that has just begun.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn add_rollout(&self, rollout: &Rollout, by: &str, now: Timestamp) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        write(&mut tx, rollout, now).await?;
        append(&mut tx, by, &rollout.id, "started", &rollout.target.name, now).await?;
        Ok(tx.commit().await?)
    }

    /// Changes a rollout, and writes down who did it. `None` when there is none of this id.
    ///
    /// # Errors
    /// [`DbError`]; inside, why the rollout does not do that.
    pub async fn change_rollout<T>(
        &self,
        id: &str,
        by: &str,
        now: Timestamp,
        change: impl FnOnce(&mut Rollout) -> Result<(T, Option<String>), RolloutError> + Send,
    ) -> Result<Option<Result<T, RolloutError>>, DbError> {
        let mut tx = self.begin().await?;
        let row =
            sqlx::query("SELECT doc FROM rollouts WHERE id = ?").bind(id).fetch_optional(&mut *tx).await?;
        let Some(row) = row else { return Ok(None) };
        let mut rollout: Rollout = json("rollout", row.try_get("doc")?)?;
        let before = rollout.clone();
        let (value, what) = match change(&mut rollout) {
            Ok(done) => done,
            Err(refused) => return Ok(Some(Err(refused))),
        };
        if rollout != before {
            write(&mut tx, &rollout, now).await?;
            if let Some(what) = what {
                append(&mut tx, by, id, &what, "", now).await?;
            }
            tx.commit().await?;
        }
        Ok(Some(Ok(value)))
    }

    /// Returns a rollout.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn rollout(&self, id: &str) -> Result<Option<Rollout>, DbError> {
        let row = sqlx::query("SELECT doc FROM rollouts WHERE id = ?")
            .bind(id)
            .fetch_optional(self.reader())
            .await?;
        row.map(|row| json("rollout", row.try_get("doc")?)).transpose()
    }

    /// Returns every rollout, oldest first.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn rollouts(&self) -> Result<Vec<Rollout>, DbError> {
        let rows = sqlx::query("SELECT doc FROM rollouts ORDER BY at, id").fetch_all(self.reader()).await?;
        rows.iter().map(|row| json("rollout", row.try_get("doc")?)).collect()
    }

    /// Returns what a box was assigned last.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn assignment(&self, box_id: &BoxId) -> Result<Option<AssignmentRow>, DbError> {
        let row = sqlx::query("SELECT * FROM assignments WHERE box = ?")
            .bind(box_id.as_str())
            .fetch_optional(self.reader())
            .await?;
        row.as_ref().map(read_assignment).transpose()
    }

    /// Returns what every box was assigned last.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn assignments(&self) -> Result<Vec<AssignmentRow>, DbError> {
        let rows = sqlx::query("SELECT * FROM assignments ORDER BY box").fetch_all(self.reader()).await?;
        rows.iter().map(read_assignment).collect()
    }

    /// Returns the assignments that did not reach their boxes yet.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn behind_assignment(&self) -> Result<Vec<AssignmentRow>, DbError> {
        let rows = sqlx::query(
            "SELECT a.* FROM assignments a LEFT JOIN reported r ON r.box = a.box
             WHERE r.assignment IS NULL OR r.assignment < a.number",
        )
        .fetch_all(self.reader())
        .await?;
        rows.iter().map(read_assignment).collect()
    }

    /// Keeps what a box is assigned from now on.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn save_assignment(&self, row: &AssignmentRow, now: Timestamp) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT OR REPLACE INTO assignments (box, number, targets, cancel, doc, expires, at)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(row.box_id.as_str())
        .bind(number(row.number))
        .bind(to_json("targets of an assignment", &row.targets)?)
        .bind(to_json("cancelled components", &row.cancel)?)
        .bind(&row.doc)
        .bind(row.expires.as_millisecond())
        .bind(now.as_millisecond())
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// Returns the figures of the calls that ended since then, by box.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn call_figures(&self, since: Timestamp) -> Result<BTreeMap<BoxId, CallFigures>, DbError> {
        let rows = sqlx::query(
            "SELECT box, COUNT(*) AS calls,
                 SUM(disposition IN ('media_lost', 'cloud_lost', 'box_fault', 'network_fault',
                     'codec_mismatch', 'trunk_refused')) AS failed,
                 SUM(answered_at IS NOT NULL) AS answered, SUM(suppress <> 0) AS opted_out
             FROM calls WHERE ended_at >= ? AND box IS NOT NULL GROUP BY box",
        )
        .bind(since.as_millisecond())
        .fetch_all(self.reader())
        .await?;
        rows.iter()
            .map(|row| {
                let column = |name: &str| Ok::<_, DbError>(count(row.try_get(name)?));
                let figures = CallFigures {
                    failures: Share { cases: column("calls")?, bad: column("failed")? },
                    opt_outs: Share { cases: column("answered")?, bad: column("opted_out")? },
                };
                Ok((parsed("box id", row.try_get("box")?)?, figures))
            })
            .collect()
    }
}

async fn write(conn: &mut SqliteConnection, rollout: &Rollout, now: Timestamp) -> Result<(), DbError> {
    let phase = match rollout.phase {
        Phase::Running { .. } => "running",
        Phase::Paused { .. } => "paused",
        Phase::Finished { .. } => "finished",
        Phase::Stopped { .. } => "stopped",
    };
    sqlx::query(
        "INSERT INTO rollouts (id, phase, doc, at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (id) DO UPDATE SET phase = ?2, doc = ?3",
    )
    .bind(&rollout.id)
    .bind(phase)
    .bind(to_json("rollout", rollout)?)
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

fn read_assignment(row: &SqliteRow) -> Result<AssignmentRow, DbError> {
    Ok(AssignmentRow {
        box_id: parsed("box id", row.try_get("box")?)?,
        number: count(row.try_get("number")?),
        targets: json("targets of an assignment", row.try_get("targets")?)?,
        cancel: json("cancelled components", row.try_get("cancel")?)?,
        doc: row.try_get("doc")?,
        expires: instant(row.try_get("expires")?)?,
    })
}
