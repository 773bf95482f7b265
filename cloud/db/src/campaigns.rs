//! Campaigns and their contacts.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use trunkline_model::{CallId, Callee, Disposition};

use crate::judged::{OVER, READY, settle};
use crate::log::append_all;
use crate::store::{count, instant, json, number, parsed, to_json};
use crate::{Db, DbError};

/// A campaign as it is stored; what its settings mean is the worker's.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Campaign")]
pub struct CampaignRow {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Where it is.
    #[schemars(extend("enum" = ["draft", "running", "paused", "finished", "stopped"]))]
    pub state: String,
    /// Why it is in this state, for people.
    pub why: String,
    /// Its settings as they were given, with the defaults of then.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub settings: serde_json::Value,
    /// The share of its contacts that a gray release has come to, in percent; 0 before its first step, and without one.
    pub share: u8,
    /// The share that it could go on to if somebody says so; 0 for none.
    pub share_next: u8,
    /// Since when it has that share.
    pub share_since: Timestamp,
    /// How it is paced now, by its last pass; an empty object before the first.
    pub pacing: serde_json::Value,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its state last changed.
    pub updated_at: Timestamp,
}

/// A contact to be stored.
#[derive(Clone)]
pub struct NewContact {
    /// Whom to call.
    pub callee: Callee,
    /// The script's variables.
    pub variables: BTreeMap<String, String>,
    /// What the gate is to know, as JSON.
    pub facts: String,
    /// The CRM's reference.
    pub external_id: Option<String>,
    /// Lower comes first.
    pub priority: u16,
}

/// A contact whose turn it is.
#[derive(Clone)]
pub struct ContactRow {
    /// Its number.
    pub n: u64,
    /// Whom to call.
    pub callee: Callee,
    /// The script's variables.
    pub variables: BTreeMap<String, String>,
    /// What the gate is to know, as JSON.
    pub facts: String,
    /// The CRM's reference.
    pub external_id: Option<String>,
    /// Attempts so far.
    pub attempts: u32,
    /// When the customer asked to be called, while that call is still to be made.
    pub callback_at: Option<Timestamp>,
    /// The call in which they asked.
    pub callback_call: Option<CallId>,
}

/// What a call needs of a line.
#[derive(Clone, Debug, PartialEq)]
pub struct Wants {
    /// Names of the boxes or lines that it is for; none for all.
    pub boxes: Vec<String>,
    /// Whom it calls.
    pub callee: Callee,
    /// The number that it shows.
    pub caller_id: Option<String>,
}

/// A contact whose call is over, with all its calls so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Settling {
    /// The contact.
    pub n: u64,
    /// Whom it is.
    pub callee: Callee,
    /// What the gate is to know, as JSON.
    pub facts: String,
    /// Its calls; the oldest first.
    pub calls: Vec<EndedAttempt>,
}

/// A call of a contact that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct EndedAttempt {
    /// The call.
    pub call: CallId,
    /// When it ended.
    pub at: Timestamp,
    /// How it ended on the line.
    pub disposition: Disposition,
    /// Why, in words.
    pub cause: String,
    /// The code of what came of it; empty for nothing.
    pub outcome: String,
    /// What the script filled in.
    pub slots: BTreeMap<String, String>,
}

/// What follows for a contact whose call is over, or that waits.
#[derive(Clone, Debug, PartialEq)]
pub struct Moved {
    /// The contact.
    pub n: u64,
    /// Until when it waits; `None` when it is done.
    pub until: Option<Timestamp>,
    /// Why.
    pub why: String,
    /// What becomes of a callback that it has been promised.
    pub callback: Promise,
}

/// A callback that a contact has been promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// As it was: nobody has been called since.
    Keep,
    /// Over: it was kept, or given up.
    Drop,
    /// A new one, made in this call.
    New(CallId, Timestamp),
}

/// A page of a campaign's contacts.
pub(crate) const CONTACTS_AFTER: &str =
    "SELECT * FROM campaign_contacts WHERE campaign = ? AND n > ? ORDER BY n LIMIT ?";

impl Db {
    /// Stores a new campaign.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn create_campaign(
        &self,
        id: &str,
        name: &str,
        settings: &serde_json::Value,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO campaigns (id, name, settings, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?4)",
        )
        .bind(id)
        .bind(name)
        .bind(settings.to_string())
        .bind(now.as_millisecond())
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// Returns a campaign.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn campaign(&self, id: &str) -> Result<Option<CampaignRow>, DbError> {
        let row = sqlx::query("SELECT * FROM campaigns WHERE id = ?")
            .bind(id)
            .fetch_optional(self.reader())
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Returns all campaigns, or those in one state.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn campaigns(&self, state: Option<&str>) -> Result<Vec<CampaignRow>, DbError> {
        let rows = sqlx::query("SELECT * FROM campaigns WHERE ?1 IS NULL OR state = ?1 ORDER BY id")
            .bind(state)
            .fetch_all(self.reader())
            .await?;
        rows.iter().map(read).collect()
    }

    /// Moves a campaign from one state to another. Returns false when it is not in the first any more.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn move_campaign(
        &self,
        id: &str,
        from: &str,
        to: &str,
        why: &str,
        now: Timestamp,
    ) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let changed = sqlx::query(
            "UPDATE campaigns SET state = ?3, why = ?4, updated_at = ?5 WHERE id = ?1 AND state = ?2",
        )
        .bind(id)
        .bind(from)
        .bind(to)
        .bind(why)
        .bind(now.as_millisecond())
        .execute(&mut *tx)
        .await?
        .rows_affected();
        tx.commit().await?;
        Ok(changed == 1)
    }

    /// Stores contacts; one whose number the campaign has already stays as it is. Returns how many were new.
    ///
    /// # Errors
    /// [`DbError`]; then none was stored.
    pub async fn add_contacts(&self, campaign: &str, contacts: &[NewContact]) -> Result<u64, DbError> {
        let mut tx = self.begin().await?;
        let new = insert_contacts(&mut tx, campaign, contacts).await?;
        tx.commit().await?;
        Ok(new)
    }

    /// Returns how many contacts are in which state, and for what reason.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn contact_counts(&self, campaign: &str) -> Result<Vec<(String, String, u64)>, DbError> {
        let rows = sqlx::query(
            "SELECT state, why, COUNT(*) AS n FROM campaign_contacts WHERE campaign = ? GROUP BY state, why",
        )
        .bind(campaign)
        .fetch_all(self.reader())
        .await?;
        rows.iter()
            .map(|row| Ok((row.try_get("state")?, row.try_get("why")?, count(row.try_get("n")?))))
            .collect()
    }

    /// Returns contacts that may be called by now, the most urgent first: those who asked for this time before all others.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn ready_contacts(
        &self,
        campaign: &str,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<ContactRow>, DbError> {
        let promised = sqlx::query(
            "SELECT * FROM campaign_contacts
             WHERE campaign = ? AND state = 'ready' AND callback_at IS NOT NULL AND next_at <= ?
             ORDER BY next_at LIMIT ?",
        );
        let others = sqlx::query(
            "SELECT * FROM campaign_contacts
             WHERE campaign = ? AND state = 'ready' AND callback_at IS NULL AND next_at <= ?
             ORDER BY priority, next_at, n LIMIT ?",
        );
        let mut ready = Vec::new();
        for query in [promised, others] {
            let left = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(ready.len());
            let rows = query
                .bind(campaign)
                .bind(now.as_millisecond())
                .bind(i64::try_from(left).unwrap_or(i64::MAX))
                .fetch_all(self.reader())
                .await?;
            for row in &rows {
                ready.push(read_contact(row)?);
            }
        }
        Ok(ready)
    }

    /// Returns contacts after number `after`, in the order in which they came.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn contacts_after(
        &self,
        campaign: &str,
        after: u64,
        limit: u32,
    ) -> Result<Vec<ContactRow>, DbError> {
        let rows = sqlx::query(CONTACTS_AFTER)
            .bind(campaign)
            .bind(number(after))
            .bind(limit)
            .fetch_all(self.reader())
            .await?;
        rows.iter().map(read_contact).collect()
    }

    /// Returns a contact of a campaign and its state: `ready`, `held`, `calling` or `done`.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn contact(&self, campaign: &str, n: u64) -> Result<Option<(ContactRow, String)>, DbError> {
        let row = sqlx::query("SELECT * FROM campaign_contacts WHERE campaign = ? AND n = ?")
            .bind(campaign)
            .bind(number(n))
            .fetch_optional(self.reader())
            .await?;
        row.as_ref().map(|row| Ok((read_contact(row)?, row.try_get("state")?))).transpose()
    }

    /// Moves contacts on whose calls are over, and writes into the log of a call that a callback was promised in it.
    ///
    /// # Errors
    /// [`DbError`]; then none was moved.
    pub async fn settle_contacts(&self, settled: &[Moved], now: Timestamp) -> Result<(), DbError> {
        if settled.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        let moved = settle(&mut tx, settled, OVER).await?;
        let promised: Vec<_> = settled
            .iter()
            .filter(|one| moved.contains(&one.n))
            .filter_map(|one| match one.callback {
                Promise::New(call, at) => Some((call, serde_json::json!({ "at": at }))),
                Promise::Keep | Promise::Drop => None,
            })
            .collect();
        append_all(&mut tx, "call.callback_promised", &promised, now).await?;
        Ok(tx.commit().await?)
    }

    /// Moves contacts on that are ready; one that was called meanwhile stays as it is.
    ///
    /// # Errors
    /// [`DbError`]; then none was moved.
    pub async fn move_ready(&self, moved: &[Moved]) -> Result<(), DbError> {
        if moved.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        settle(&mut tx, moved, READY).await?;
        Ok(tx.commit().await?)
    }

    /// Returns contacts whose call is over while they still count as called.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn settling(&self, campaign: &str, limit: u32) -> Result<Vec<Settling>, DbError> {
        let rows = sqlx::query(
            "WITH over AS MATERIALIZED (
                SELECT c.n, c.callee, c.facts FROM campaign_contacts AS c JOIN calls ON calls.id = c.call
                WHERE c.campaign = ? AND c.state = 'calling' AND calls.status = 'ended' LIMIT ?)
             SELECT over.n, over.callee, over.facts, calls.id, calls.ended_at, calls.disposition, calls.cause, calls.outcome_code,
                CASE WHEN calls.outcome_code IS NULL THEN NULL
                    ELSE (SELECT record -> '$.slots' FROM records WHERE records.call = calls.id) END AS slots
             FROM over CROSS JOIN calls ON calls.contact = over.n
             WHERE calls.status = 'ended' ORDER BY over.n, calls.id",
        )
        .bind(campaign)
        .bind(limit)
        .fetch_all(self.reader())
        .await?;
        let mut found: Vec<Settling> = Vec::new();
        for row in &rows {
            let n = count(row.try_get("n")?);
            let name: String = row.try_get("disposition")?;
            let disposition = Disposition::ALL
                .into_iter()
                .find(|known| known.as_str() == name)
                .ok_or(DbError::Damaged { what: "disposition", text: name })?;
            let slots: Option<String> = row.try_get("slots")?;
            let call = EndedAttempt {
                call: parsed("call id", row.try_get("id")?)?,
                at: instant(row.try_get("ended_at")?)?,
                disposition,
                cause: row.try_get("cause")?,
                outcome: row.try_get::<Option<String>, _>("outcome_code")?.unwrap_or_default(),
                slots: slots.map_or(Ok(BTreeMap::new()), |text| json("slots", &text))?,
            };
            match found.last_mut() {
                Some(last) if last.n == n => last.calls.push(call),
                _ => found.push(Settling {
                    n,
                    callee: parsed("callee", row.try_get("callee")?)?,
                    facts: row.try_get("facts")?,
                    calls: vec![call],
                }),
            }
        }
        Ok(found)
    }

    /// Returns when calls of the campaign ended since `since`, and how.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn campaign_ends(
        &self,
        campaign: &str,
        since: Timestamp,
    ) -> Result<Vec<(Timestamp, String)>, DbError> {
        let rows = sqlx::query(
            "SELECT ended_at, disposition FROM calls WHERE campaign = ? AND status = 'ended' AND ended_at > ?",
        )
        .bind(campaign)
        .bind(since.as_millisecond())
        .fetch_all(self.reader())
        .await?;
        rows.iter().map(|row| Ok((instant(row.try_get("ended_at")?)?, row.try_get("disposition")?))).collect()
    }

    /// Returns how many calls wait for a box.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn queued_count(&self) -> Result<u64, DbError> {
        let row = sqlx::query("SELECT COUNT(*) AS n FROM calls WHERE status = 'queued'")
            .fetch_one(self.reader())
            .await?;
        Ok(count(row.try_get("n")?))
    }

    /// Returns the first `limit` calls that wait for a box.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn queued_wants(&self, limit: u32) -> Result<Vec<Wants>, DbError> {
        let rows = sqlx::query(
            "SELECT COALESCE(facts -> '$.boxes', '[]') AS boxes, callee, caller_id FROM calls
             WHERE status = 'queued' ORDER BY priority DESC, id LIMIT ?",
        )
        .bind(limit)
        .fetch_all(self.reader())
        .await?;
        rows.iter()
            .map(|row| {
                let boxes: String = row.try_get("boxes")?;
                Ok(Wants { boxes: json("boxes of a call", &boxes)?, ..wants(row)? })
            })
            .collect()
    }

    /// Returns the calls that boxes carry now, or were given, with their boxes.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn carried(&self) -> Result<Vec<Wants>, DbError> {
        let rows = sqlx::query(
            "SELECT box, callee, caller_id FROM calls
             WHERE box IS NOT NULL AND lost = 0 AND status <> 'ended' AND status <> 'queued' AND direction = 'outbound'",
        )
        .fetch_all(self.reader())
        .await?;
        rows.iter().map(|row| Ok(Wants { boxes: vec![row.try_get("box")?], ..wants(row)? })).collect()
    }

    /// Takes the lead until `until`, or keeps it. Returns false while somebody else has it.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn lead(
        &self,
        what: &str,
        holder: &str,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let taken = sqlx::query(
            "INSERT INTO leaders (what, holder, until) VALUES (?1, ?2, ?3)
             ON CONFLICT (what) DO UPDATE SET holder = ?2, until = ?3 WHERE holder = ?2 OR until <= ?4",
        )
        .bind(what)
        .bind(holder)
        .bind(until.as_millisecond())
        .bind(now.as_millisecond())
        .execute(&mut *tx)
        .await?
        .rows_affected();
        tx.commit().await?;
        Ok(taken == 1)
    }

    /// Returns the calls of a campaign, for tests and reports.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn campaign_calls(&self, campaign: &str) -> Result<Vec<CallId>, DbError> {
        let rows = sqlx::query("SELECT id FROM calls WHERE campaign = ? ORDER BY id")
            .bind(campaign)
            .fetch_all(self.reader())
            .await?;
        rows.iter().map(|row| parsed("call id", row.try_get("id")?)).collect()
    }
}

/// Stores contacts, unless the campaign has their numbers already; returns how many were new. In one statement: a
/// list of a million is a matter of the statements that it takes.
pub(crate) async fn insert_contacts(
    conn: &mut SqliteConnection,
    campaign: &str,
    contacts: &[NewContact],
) -> Result<u64, DbError> {
    let rows: Vec<serde_json::Value> = contacts
        .iter()
        .map(|contact| {
            let variables = to_json("variables", &contact.variables)?;
            let NewContact { callee, facts, external_id, priority, .. } = contact;
            Ok(serde_json::json!([callee.reveal(), variables, facts, external_id, priority]))
        })
        .collect::<Result<_, DbError>>()?;
    let done = sqlx::query(
        "INSERT OR IGNORE INTO campaign_contacts (campaign, callee, variables, facts, external_id, priority, state)
         SELECT ?1, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4,
            (SELECT CASE WHEN EXISTS (SELECT 1 FROM campaigns WHERE id = ?1 AND share BETWEEN 1 AND 99)
                THEN 'held' ELSE 'ready' END)
         FROM json_each(?2) ORDER BY key",
    )
    .bind(campaign)
    .bind(to_json("contacts", &rows)?)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

fn read(row: &SqliteRow) -> Result<CampaignRow, DbError> {
    Ok(CampaignRow {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        state: row.try_get("state")?,
        why: row.try_get("why")?,
        settings: json("settings of a campaign", row.try_get("settings")?)?,
        share: row.try_get("share")?,
        share_next: row.try_get("share_next")?,
        share_since: instant(row.try_get("share_since")?)?,
        pacing: json("pacing of a campaign", row.try_get("pacing")?)?,
        created_at: instant(row.try_get("created_at")?)?,
        updated_at: instant(row.try_get("updated_at")?)?,
    })
}

fn wants(row: &SqliteRow) -> Result<Wants, DbError> {
    Ok(Wants {
        boxes: Vec::new(),
        callee: parsed("callee", row.try_get("callee")?)?,
        caller_id: row.try_get("caller_id")?,
    })
}

fn read_contact(row: &SqliteRow) -> Result<ContactRow, DbError> {
    Ok(ContactRow {
        n: count(row.try_get("n")?),
        callee: parsed("callee", row.try_get("callee")?)?,
        variables: json("variables", row.try_get("variables")?)?,
        facts: row.try_get("facts")?,
        external_id: row.try_get("external_id")?,
        attempts: row.try_get("attempts")?,
        callback_at: row.try_get::<Option<i64>, _>("callback_at")?.map(instant).transpose()?,
        callback_call: row
            .try_get::<Option<&str>, _>("callback_call")?
            .map(|id| parsed("call", id))
            .transpose()?,
    })
}
