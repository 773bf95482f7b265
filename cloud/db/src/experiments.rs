//! Finished calls on their way to be looked at, and what the experiments among them have shown.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;
use sqlx::{Row, SqliteConnection};
use trunkline_model::{CallId, ScriptId};
use trunkline_wire::CallRecord;

use crate::store::{count, instant, json, number, parsed};
use crate::{Db, DbError};

/// What came of one call of an experiment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExperimentResult {
    /// The experiment.
    pub experiment: String,
    /// The arm that the customer got.
    pub arm: String,
    /// It ended as the experiment hopes.
    pub success: bool,
    /// It ended as the experiment must not make frequent.
    pub harmed: bool,
}

/// What the calls of an arm came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Calls that count.
    pub calls: u64,
    /// Those that ended as the experiment hopes.
    pub successes: u64,
    /// Those that ended as the experiment must not make frequent.
    pub harmed: u64,
}

/// An arm that nobody gets any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoppedArm {
    /// The experiment.
    pub experiment: String,
    /// The arm.
    pub arm: String,
    /// Why.
    pub why: String,
    /// Since when.
    pub at: Timestamp,
}

impl Db {
    /// Returns records that nobody has looked at, the oldest first; one that cannot be read any more stands there by
    /// its call alone.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn unappraised(&self, limit: u32) -> Result<Vec<Result<CallRecord, CallId>>, DbError> {
        let rows = sqlx::query(
            "SELECT d.call, r.record FROM appraisals_due d JOIN records r ON r.call = d.call ORDER BY d.n LIMIT ?",
        )
        .bind(limit)
        .fetch_all(self.reader())
        .await?;
        rows.iter()
            .map(|row| match json("call record", row.try_get("record")?) {
                Ok(record) => Ok(Ok(record)),
                Err(_) => Ok(Err(parsed("call id", &row.try_get::<String, _>("call")?)?)),
            })
            .collect()
    }

    /// Takes a call out of the queue without looking at it.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn pass_over(&self, call: CallId) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM appraisals_due WHERE call = ?")
            .bind(call.to_string())
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Keeps what was found in a call, once.
    ///
    /// # Errors
    /// [`DbError`]; then nothing was kept.
    pub async fn keep_appraisal(
        &self,
        record: &CallRecord,
        inspection: &Value,
        listen: bool,
        results: &[ExperimentResult],
        now: Timestamp,
    ) -> Result<(), DbError> {
        let call = record.call.to_string();
        let mut tx = self.begin().await?;
        sqlx::query("INSERT OR IGNORE INTO appraisals (call, inspection, listen, at) VALUES (?, ?, ?, ?)")
            .bind(&call)
            .bind(inspection.to_string())
            .bind(listen)
            .bind(now.as_millisecond())
            .execute(&mut *tx)
            .await?;
        for result in results {
            sqlx::query(
                "INSERT OR IGNORE INTO experiment_results (call, script, experiment, arm, success, harmed, at)
                 VALUES (?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(&call)
            .bind(record.script.id.as_str())
            .bind(&result.experiment)
            .bind(&result.arm)
            .bind(result.success)
            .bind(result.harmed)
            .bind(now.as_millisecond())
            .execute(&mut *tx)
            .await?;
        }
        sqlx::query("DELETE FROM appraisals_due WHERE call = ?").bind(&call).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    /// Returns what was found in a call, and whether a person is to listen to it.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn appraisal(&self, call: CallId) -> Result<Option<(Value, bool)>, DbError> {
        let row = sqlx::query("SELECT inspection, listen FROM appraisals WHERE call = ?")
            .bind(call.to_string())
            .fetch_optional(self.reader())
            .await?;
        row.map(|row| Ok((json("inspection", row.try_get("inspection")?)?, row.try_get("listen")?)))
            .transpose()
    }

    /// Returns the results of a script's experiments after line `after`, in order, with their lines.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn experiment_results(
        &self,
        script: &ScriptId,
        after: u64,
    ) -> Result<Vec<(u64, ExperimentResult)>, DbError> {
        let rows = sqlx::query(
            "SELECT n, experiment, arm, success, harmed FROM experiment_results
             WHERE script = ? AND n > ? ORDER BY n",
        )
        .bind(script.as_str())
        .bind(number(after))
        .fetch_all(self.reader())
        .await?;
        rows.iter()
            .map(|row| {
                let result = ExperimentResult {
                    experiment: row.try_get("experiment")?,
                    arm: row.try_get("arm")?,
                    success: row.try_get("success")?,
                    harmed: row.try_get("harmed")?,
                };
                Ok((count(row.try_get("n")?), result))
            })
            .collect()
    }

    /// Returns what the calls of each experiment and arm of a script came to.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn experiment_tallies(
        &self,
        script: &ScriptId,
    ) -> Result<BTreeMap<(String, String), Tally>, DbError> {
        let rows = sqlx::query(
            "SELECT experiment, arm, COUNT(*) AS calls, SUM(success) AS successes, SUM(harmed) AS harmed
             FROM experiment_results WHERE script = ? GROUP BY experiment, arm",
        )
        .bind(script.as_str())
        .fetch_all(self.reader())
        .await?;
        rows.iter()
            .map(|row| {
                let tally = Tally {
                    calls: count(row.try_get("calls")?),
                    successes: count(row.try_get("successes")?),
                    harmed: count(row.try_get("harmed")?),
                };
                Ok(((row.try_get("experiment")?, row.try_get("arm")?), tally))
            })
            .collect()
    }

    /// Returns the arm that was drawn for a customer, or keeps the one that was drawn now.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn sticky_arm(
        &self,
        script: &ScriptId,
        experiment: &str,
        who: &str,
        drawn: &str,
        now: Timestamp,
    ) -> Result<String, DbError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT OR IGNORE INTO experiment_arms (script, experiment, who, arm, at) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(script.as_str())
        .bind(experiment)
        .bind(who)
        .bind(drawn)
        .bind(now.as_millisecond())
        .execute(&mut *tx)
        .await?;
        let row =
            sqlx::query("SELECT arm FROM experiment_arms WHERE script = ? AND experiment = ? AND who = ?")
                .bind(script.as_str())
                .bind(experiment)
                .bind(who)
                .fetch_one(&mut *tx)
                .await?;
        tx.commit().await?;
        Ok(row.try_get("arm")?)
    }

    /// Returns the arms of a script that nobody gets any more.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn stopped_arms(&self, script: &ScriptId) -> Result<Vec<StoppedArm>, DbError> {
        let rows = sqlx::query("SELECT * FROM experiment_stops WHERE script = ? ORDER BY experiment, arm")
            .bind(script.as_str())
            .fetch_all(self.reader())
            .await?;
        rows.iter()
            .map(|row| {
                Ok(StoppedArm {
                    experiment: row.try_get("experiment")?,
                    arm: row.try_get("arm")?,
                    why: row.try_get("why")?,
                    at: instant(row.try_get("at")?)?,
                })
            })
            .collect()
    }

    /// Stops an arm; says whether it was running.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn stop_arm(
        &self,
        script: &ScriptId,
        experiment: &str,
        arm: &str,
        why: &str,
        now: Timestamp,
    ) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let done = sqlx::query(
            "INSERT OR IGNORE INTO experiment_stops (script, experiment, arm, why, at) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(script.as_str())
        .bind(experiment)
        .bind(arm)
        .bind(why)
        .bind(now.as_millisecond())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(done.rows_affected() == 1)
    }
}

/// Has a call looked at.
pub(crate) async fn is_due(conn: &mut SqliteConnection, call: CallId) -> Result<(), DbError> {
    sqlx::query("INSERT OR IGNORE INTO appraisals_due (call) VALUES (?)")
        .bind(call.to_string())
        .execute(conn)
        .await?;
    Ok(())
}
