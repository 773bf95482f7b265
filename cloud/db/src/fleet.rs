//! Who joined the fleet, and with which certificate; what each box should be and says it is.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use trunkline_fleet::enrol::{ANNOUNCEMENTS, ClaimCode, EnrolError, Enrolment, Limits, Person, Proof, claim};
use trunkline_fleet::shadow::{Document, Entry, History};
use trunkline_model::BoxId;
use trunkline_wire::Reported;

use crate::store::{count, instant, json, number, parsed, to_json};
use crate::{Db, DbError};

/// A certificate that was signed for a box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its serial number, as lower-case hexadecimal digits without leading zeros.
    pub serial: String,
    /// The box.
    pub box_id: BoxId,
    /// It and those between it and the root, PEM.
    pub pem: String,
    /// From when on it is no longer valid.
    pub not_after: Timestamp,
}

/// The newest report of a box.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportRow {
    /// The box.
    pub box_id: BoxId,
    /// What it said.
    pub reported: Reported,
    /// When, by the cloud's clock.
    pub at: Timestamp,
}

/// A line of the fleet's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FleetEntry {
    /// When.
    pub at: Timestamp,
    /// Who; `cloud` for what happened by itself.
    pub by: String,
    /// The box or the rollout.
    pub about: String,
    /// Such as `approved`.
    pub what: String,
    /// In words.
    pub detail: String,
}

impl Db {
    /// Takes a box's announcement. Repeating a request costs nothing; a new one counts against the address
    /// that it came from.
    ///
    /// # Errors
    /// [`DbError`]; inside, why the announcement is refused.
    pub async fn announce(
        &self,
        box_id: &BoxId,
        request: &[u8],
        proof: &Proof,
        from: &str,
        now: Timestamp,
    ) -> Result<Result<Enrolment, EnrolError>, DbError> {
        let mut tx = self.begin().await?;
        let known = read_enrolment(&mut tx, box_id).await?;
        let same = known.as_ref().is_some_and(|known| known.request == request && known.proof == *proof);
        let mut limits = read_limits(&mut tx, "announcements").await?;
        if !same && let Err(refused) = limits.check(from, ANNOUNCEMENTS, now) {
            return Ok(Err(refused));
        }
        let enrolment = match known {
            Some(mut known) => match known.announce_again(request.to_vec(), proof.clone(), now) {
                Ok(()) => known,
                Err(refused) => return Ok(Err(refused)),
            },
            None => Enrolment::announce(box_id.clone(), request.to_vec(), proof.clone(), now),
        };
        if !same {
            limits.count(from, now);
            write_limits(&mut tx, "announcements", &limits).await?;
            forget_stale(&mut tx, now).await?;
        }
        write_enrolment(&mut tx, &enrolment, now).await?;
        tx.commit().await?;
        Ok(Ok(enrolment))
    }

    /// Finds the waiting box that a code belongs to and claims it. Wrong codes count, also over restarts.
    ///
    /// # Errors
    /// [`DbError`]; inside, why there is no such box for this person.
    pub async fn claim_box(
        &self,
        code: &ClaimCode,
        by: &Person,
        branch: &str,
        now: Timestamp,
    ) -> Result<Result<BoxId, EnrolError>, DbError> {
        let mut tx = self.begin().await?;
        let mut limits = read_limits(&mut tx, "claims").await?;
        let rows =
            sqlx::query("SELECT doc FROM enrolments WHERE state = 'waiting'").fetch_all(&mut *tx).await?;
        let mut waiting: Vec<Enrolment> =
            rows.iter().map(|row| json("enrolment", row.try_get("doc")?)).collect::<Result<_, DbError>>()?;
        waiting.retain(|enrolment| !enrolment.is_stale(now));
        let done = claim(&mut waiting, code, by, branch, &mut limits, now);
        write_limits(&mut tx, "claims", &limits).await?;
        if let Ok(id) = &done
            && let Some(claimed) = waiting.iter().find(|enrolment| enrolment.box_id == *id)
        {
            write_enrolment(&mut tx, claimed, now).await?;
            append(&mut tx, &by.name, id.as_str(), "claimed", branch, now).await?;
        }
        tx.commit().await?;
        Ok(done)
    }

    /// Changes where a box is on its way, and writes down who did it. `None` when the box is not known.
    ///
    /// # Errors
    /// [`DbError`]; inside, why the change is refused. Nothing is written then.
    pub async fn change_enrolment<T>(
        &self,
        box_id: &BoxId,
        by: &str,
        what: &str,
        now: Timestamp,
        change: impl FnOnce(&mut Enrolment) -> Result<(T, Option<Certificate>), EnrolError> + Send,
    ) -> Result<Option<Result<T, EnrolError>>, DbError> {
        let mut tx = self.begin().await?;
        let Some(mut enrolment) = read_enrolment(&mut tx, box_id).await? else { return Ok(None) };
        let (value, certificate) = match change(&mut enrolment) {
            Ok(done) => done,
            Err(refused) => return Ok(Some(Err(refused))),
        };
        if let Some(certificate) = &certificate {
            sqlx::query("INSERT INTO certificates (serial, box, pem, not_after, at) VALUES (?, ?, ?, ?, ?)")
                .bind(&certificate.serial)
                .bind(certificate.box_id.as_str())
                .bind(&certificate.pem)
                .bind(certificate.not_after.as_millisecond())
                .bind(now.as_millisecond())
                .execute(&mut *tx)
                .await?;
        }
        write_enrolment(&mut tx, &enrolment, now).await?;
        let detail = certificate.map(|new| format!("certificate {}", new.serial)).unwrap_or_default();
        append(&mut tx, by, box_id.as_str(), what, &detail, now).await?;
        tx.commit().await?;
        Ok(Some(Ok(value)))
    }

    /// Returns where a box is on its way.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn enrolment(&self, box_id: &BoxId) -> Result<Option<Enrolment>, DbError> {
        read_enrolment(&mut *self.reader().acquire().await?, box_id).await
    }

    /// Returns every box that ever announced itself and was not forgotten.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn enrolments(&self) -> Result<Vec<Enrolment>, DbError> {
        let rows = sqlx::query("SELECT doc FROM enrolments ORDER BY box").fetch_all(self.reader()).await?;
        rows.iter().map(|row| json("enrolment", row.try_get("doc")?)).collect()
    }

    /// Returns the boxes that were revoked after `since`.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn revoked_since(&self, since: Timestamp) -> Result<Vec<BoxId>, DbError> {
        let rows = sqlx::query("SELECT box FROM enrolments WHERE state = 'revoked' AND at > ?")
            .bind(since.as_millisecond())
            .fetch_all(self.reader())
            .await?;
        rows.iter().map(|row| parsed("box id", row.try_get("box")?)).collect()
    }

    /// Says whether a connection with this certificate is let in. A box that was never enrolled here, whose
    /// certificate somebody signed by hand, is let in unless `only_enrolled`.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn may_connect(
        &self,
        box_id: &BoxId,
        serial: &str,
        only_enrolled: bool,
    ) -> Result<bool, DbError> {
        Ok(match self.enrolment(box_id).await? {
            Some(enrolment) => enrolment.may_connect(serial),
            None => !only_enrolled,
        })
    }

    /// Returns a certificate by its serial number.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn certificate(&self, serial: &str) -> Result<Option<Certificate>, DbError> {
        let row = sqlx::query("SELECT * FROM certificates WHERE serial = ?")
            .bind(serial)
            .fetch_optional(self.reader())
            .await?;
        row.map(|row| {
            Ok(Certificate {
                serial: row.try_get("serial")?,
                box_id: parsed("box id", row.try_get("box")?)?,
                pem: row.try_get("pem")?,
                not_after: instant(row.try_get("not_after")?)?,
            })
        })
        .transpose()
    }

    /// Changes what a box should be; `None` when that is nothing new.
    ///
    /// # Errors
    /// [`DbError`]; [`DbError::Damaged`] also for a body that has no hash.
    pub async fn change_desired(
        &self,
        box_id: &BoxId,
        by: &str,
        body: serde_json::Value,
        now: Timestamp,
    ) -> Result<Option<Document>, DbError> {
        let mut tx = self.begin().await?;
        let last = newest_desired(&mut tx, box_id).await?;
        let mut history = History::new(last.into_iter().collect());
        let changed = history
            .change(by, body, now)
            .map_err(|e| DbError::Damaged { what: "desired document", text: e.to_string() })?;
        let Some(document) = changed.cloned() else { return Ok(None) };
        sqlx::query("INSERT INTO desired (box, version, hash, body, by_whom, at) VALUES (?, ?, ?, ?, ?, ?)")
            .bind(box_id.as_str())
            .bind(number(document.version))
            .bind(document.hash.to_string())
            .bind(to_json("desired document", &document.body)?)
            .bind(by)
            .bind(now.as_millisecond())
            .execute(&mut *tx)
            .await?;
        let detail = format!("version {}", document.version);
        append(&mut tx, by, box_id.as_str(), "configured", &detail, now).await?;
        tx.commit().await?;
        Ok(Some(document))
    }

    /// Returns everything that a box was ever to be, oldest first.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn desired_history(&self, box_id: &BoxId) -> Result<History, DbError> {
        let rows = sqlx::query("SELECT * FROM desired WHERE box = ? ORDER BY version")
            .bind(box_id.as_str())
            .fetch_all(self.reader())
            .await?;
        Ok(History::new(rows.iter().map(read_entry).collect::<Result<_, _>>()?))
    }

    /// Returns what a box should be now.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn desired(&self, box_id: &BoxId) -> Result<Option<Document>, DbError> {
        let entry = newest_desired(&mut *self.reader().acquire().await?, box_id).await?;
        Ok(entry.map(|entry| entry.document))
    }

    /// Returns the boxes that did not look at their newest desired document, or not at this one, with its version.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn behind_desired(&self) -> Result<Vec<(BoxId, u64)>, DbError> {
        let rows = sqlx::query(
            "SELECT d.box, d.version FROM desired d LEFT JOIN reported r ON r.box = d.box
             WHERE d.version = (SELECT MAX(version) FROM desired WHERE box = d.box)
               AND (r.version IS NULL OR r.version <> d.version OR r.hash <> d.hash)",
        )
        .fetch_all(self.reader())
        .await?;
        rows.iter()
            .map(|row| Ok((parsed("box id", row.try_get("box")?)?, count(row.try_get("version")?))))
            .collect()
    }

    /// Keeps what a box says it is.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn save_reported(
        &self,
        box_id: &BoxId,
        reported: &Reported,
        now: Timestamp,
    ) -> Result<(), DbError> {
        self.save_reports(&[(box_id.clone(), reported.clone())], now).await
    }

    /// Keeps what boxes say they are, in order and in one transaction: each of them says so every minute.
    ///
    /// # Errors
    /// [`DbError`]; then none is kept.
    pub async fn save_reports(&self, reports: &[(BoxId, Reported)], now: Timestamp) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        for (box_id, reported) in reports {
            sqlx::query(
                "INSERT OR REPLACE INTO reported (box, version, hash, assignment, doc, draining, at)
                 VALUES (?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(box_id.as_str())
            .bind(number(reported.version))
            .bind(&reported.hash)
            .bind(number(reported.assignment))
            .bind(to_json("report", reported)?)
            .bind(reported.calls.as_ref().is_some_and(|calls| calls.draining))
            .bind(now.as_millisecond())
            .execute(&mut *tx)
            .await?;
        }
        Ok(tx.commit().await?)
    }

    /// Returns the newest report of a box.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn reported(&self, box_id: &BoxId) -> Result<Option<ReportRow>, DbError> {
        let row = sqlx::query("SELECT * FROM reported WHERE box = ?")
            .bind(box_id.as_str())
            .fetch_optional(self.reader())
            .await?;
        row.as_ref().map(read_report).transpose()
    }

    /// Returns the newest report of every box.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn all_reported(&self) -> Result<Vec<ReportRow>, DbError> {
        let rows = sqlx::query("SELECT * FROM reported ORDER BY box").fetch_all(self.reader()).await?;
        rows.iter().map(read_report).collect()
    }

    /// Writes down what happened to a box or a rollout.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn log_fleet(
        &self,
        by: &str,
        about: &str,
        what: &str,
        detail: &str,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        append(&mut tx, by, about, what, detail, now).await?;
        Ok(tx.commit().await?)
    }

    /// Returns what happened to a box or a rollout, the newest `limit` entries, oldest first.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn fleet_log(&self, about: &str, limit: u32) -> Result<Vec<FleetEntry>, DbError> {
        let rows = sqlx::query("SELECT * FROM fleet_log WHERE about = ? ORDER BY n DESC LIMIT ?")
            .bind(about)
            .bind(limit)
            .fetch_all(self.reader())
            .await?;
        rows.iter()
            .rev()
            .map(|row| {
                Ok(FleetEntry {
                    at: instant(row.try_get("at")?)?,
                    by: row.try_get("by_whom")?,
                    about: row.try_get("about")?,
                    what: row.try_get("what")?,
                    detail: row.try_get("detail")?,
                })
            })
            .collect()
    }
}

pub(crate) async fn append(
    conn: &mut SqliteConnection,
    by: &str,
    about: &str,
    what: &str,
    detail: &str,
    now: Timestamp,
) -> Result<(), DbError> {
    sqlx::query("INSERT INTO fleet_log (at, by_whom, about, what, detail) VALUES (?, ?, ?, ?, ?)")
        .bind(now.as_millisecond())
        .bind(by)
        .bind(about)
        .bind(what)
        .bind(detail)
        .execute(conn)
        .await?;
    Ok(())
}

async fn read_enrolment(conn: &mut SqliteConnection, box_id: &BoxId) -> Result<Option<Enrolment>, DbError> {
    let row = sqlx::query("SELECT doc FROM enrolments WHERE box = ?")
        .bind(box_id.as_str())
        .fetch_optional(conn)
        .await?;
    row.map(|row| json("enrolment", row.try_get("doc")?)).transpose()
}

async fn write_enrolment(
    conn: &mut SqliteConnection,
    enrolment: &Enrolment,
    now: Timestamp,
) -> Result<(), DbError> {
    sqlx::query("INSERT OR REPLACE INTO enrolments (box, state, doc, at) VALUES (?, ?, ?, ?)")
        .bind(enrolment.box_id.as_str())
        .bind(enrolment.state.name())
        .bind(to_json("enrolment", enrolment)?)
        .bind(now.as_millisecond())
        .execute(conn)
        .await?;
    Ok(())
}

/// Announcements that nobody claimed are forgotten, so that strangers cannot fill the table for ever.
async fn forget_stale(conn: &mut SqliteConnection, now: Timestamp) -> Result<(), DbError> {
    let before = now.saturating_sub(trunkline_fleet::enrol::WAITING_LIFE).unwrap_or(Timestamp::MIN);
    sqlx::query("DELETE FROM enrolments WHERE state = 'waiting' AND at < ?")
        .bind(before.as_millisecond())
        .execute(conn)
        .await?;
    Ok(())
}

async fn read_limits(conn: &mut SqliteConnection, what: &str) -> Result<Limits, DbError> {
    let row =
        sqlx::query("SELECT doc FROM fleet_limits WHERE what = ?").bind(what).fetch_optional(conn).await?;
    Ok(row.map(|row| json("limits", row.try_get("doc")?)).transpose()?.unwrap_or_default())
}

async fn write_limits(conn: &mut SqliteConnection, what: &str, limits: &Limits) -> Result<(), DbError> {
    sqlx::query("INSERT OR REPLACE INTO fleet_limits (what, doc) VALUES (?, ?)")
        .bind(what)
        .bind(to_json("limits", limits)?)
        .execute(conn)
        .await?;
    Ok(())
}

async fn newest_desired(conn: &mut SqliteConnection, box_id: &BoxId) -> Result<Option<Entry>, DbError> {
    let row = sqlx::query("SELECT * FROM desired WHERE box = ? ORDER BY version DESC LIMIT 1")
        .bind(box_id.as_str())
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(read_entry).transpose()
}

fn read_entry(row: &SqliteRow) -> Result<Entry, DbError> {
    Ok(Entry {
        at: instant(row.try_get("at")?)?,
        by: row.try_get("by_whom")?,
        document: Document {
            version: count(row.try_get("version")?),
            hash: parsed("hash of a document", row.try_get("hash")?)?,
            body: json("desired document", row.try_get("body")?)?,
        },
    })
}

fn read_report(row: &SqliteRow) -> Result<ReportRow, DbError> {
    Ok(ReportRow {
        box_id: parsed("box id", row.try_get("box")?)?,
        reported: json("report", row.try_get("doc")?)?,
        at: instant(row.try_get("at")?)?,
    })
}
