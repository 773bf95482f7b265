//! The life of a call from the request to the box that takes it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;
use sqlx::{QueryBuilder, Row, SqliteConnection};
use trunkline_model::{BoxId, CallId, Callee, Disposition, E164};
use trunkline_wire::{ScriptRef, SuperviseCommand, SuperviseWish, TransferCommand};

use crate::judged::give;
use crate::log::{append, append_all};
use crate::store::{ROWS_AT_ONCE, number, parsed, to_json};
use crate::view::{self, load};
use crate::{Call, CallStatus, Db, DbError, spool};

/// A call that somebody asks for, checked.
#[derive(Clone)]
pub struct NewCall {
    /// Its id.
    pub id: CallId,
    /// Whom to call.
    pub callee: Callee,
    /// The number to show.
    pub caller_id: Option<E164>,
    /// What to say.
    pub script: ScriptRef,
    /// The script's variables, checked and completed.
    pub variables: BTreeMap<String, String>,
    /// The caller's own reference.
    pub external_id: Option<String>,
    /// Where to report.
    pub callback_url: Option<String>,
    /// Before this instant it is not dialled.
    pub not_before: Timestamp,
    /// After this instant it is not dialled any more.
    pub not_after: Timestamp,
    /// What the gate is to know about the contact, as a JSON object.
    pub facts: String,
    /// Higher goes first among the calls that wait.
    pub priority: i32,
    /// The campaign and the contact that it is for.
    pub campaign: Option<(String, u64)>,
    /// W3C traceparent.
    pub trace: String,
    /// Name of the token, the caller's key, and SHA-256 of the request: the same key and request
    /// give the same call.
    pub idempotency: Option<(String, String, String)>,
}

/// What became of a [`NewCall`].
#[derive(Clone, Debug, PartialEq)]
pub enum Created {
    /// A new call.
    New(Call),
    /// The same request came before: this is its call.
    Same(Call),
    /// The same key came before with another request.
    KeyReused,
    /// The customer asked not to be called again.
    Suppressed,
}

/// What became of a wish to cancel.
#[derive(Clone, Debug, PartialEq)]
pub enum Cancelled {
    /// There is no such call.
    NoSuchCall,
    /// It was over already.
    Over(Call),
    /// No box had it: it is over now.
    Ended(Call),
    /// A box has it and will be told.
    Asked(Call),
}

/// What became of a wish about a call that talks: to hand it to a person, or to have a supervisor on it.
#[derive(Clone, Debug, PartialEq)]
pub enum TransferAsked {
    /// There is no such call.
    NoSuchCall,
    /// Nobody talks, yet or any more.
    NotTalking(Call),
    /// The box will be told.
    Asked(Call),
}

/// A command that a box may not have got.
#[derive(Clone, Debug, PartialEq)]
pub enum Resend {
    /// Dial.
    Dial(Box<Call>, BoxId),
    /// Cancel.
    Cancel(CallId, BoxId),
    /// Hand the call to a person.
    Transfer(TransferCommand, BoxId),
    /// Have a supervisor on the call.
    Supervise(SuperviseCommand, BoxId),
}

impl Db {
    /// Takes a call in.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn create_call(&self, new: &NewCall, now: Timestamp) -> Result<Created, DbError> {
        let mut tx = self.begin().await?;
        if let Some(known) = known_request(&mut tx, new).await? {
            return Ok(known);
        }
        let suppressed = sqlx::query("SELECT 1 FROM suppressions WHERE callee = ?")
            .bind(new.callee.reveal())
            .fetch_optional(&mut *tx)
            .await?;
        if suppressed.is_some() {
            return Ok(Created::Suppressed);
        }
        insert_calls(&mut tx, &[new], now).await?;
        if let Some((token, key, body)) = &new.idempotency {
            sqlx::query("INSERT INTO idempotency (token, key, body, call, at) VALUES (?, ?, ?, ?, ?)")
                .bind(token)
                .bind(key)
                .bind(body)
                .bind(new.id.to_string())
                .bind(now.as_millisecond())
                .execute(&mut *tx)
                .await?;
        }
        let call = existing(&mut tx, new.id).await?;
        tx.commit().await?;
        Ok(Created::New(call))
    }

    /// Looks a request up by its key: [`Created::Same`], [`Created::KeyReused`], or `None` when it is new.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn known_request(&self, new: &NewCall) -> Result<Option<Created>, DbError> {
        let mut conn = self.reader().acquire().await?;
        known_request(&mut conn, new).await
    }

    /// Returns the calls that wait for a box, the most urgent and of these the oldest first.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn queued(&self, now: Timestamp, limit: u32) -> Result<Vec<Call>, DbError> {
        let rows =
            sqlx::query(
                "SELECT * FROM calls WHERE status = 'queued' AND retry_at <= ? ORDER BY priority DESC, id LIMIT ?",
            )
                .bind(now.as_millisecond())
                .bind(limit)
                .fetch_all(self.reader())
                .await?;
        rows.iter().map(view::read).collect()
    }

    /// Returns the calls that wait for a box and that one of these boxes may carry, as far as whoever asked for them is
    /// concerned; in the order of [`Self::queued`]. `numbers` names boxes with room for calls to numbers, `addresses`
    /// those with room for calls to SIP addresses. What waits for other boxes holds nobody up. The first `passed` of them
    /// are passed over.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn queued_for(
        &self,
        (numbers, addresses): (&[&BoxId], &[&BoxId]),
        now: Timestamp,
        (limit, passed): (u32, u32),
    ) -> Result<Vec<Call>, DbError> {
        let rows = sqlx::query(
            "SELECT * FROM calls
             WHERE status = 'queued' AND retry_at <= ?1 AND EXISTS (
                SELECT 1 FROM json_each(CASE WHEN callee LIKE 'sip:%' THEN ?3 ELSE ?2 END) AS room
                WHERE COALESCE(json_array_length(facts, '$.boxes'), 0) = 0 OR EXISTS (
                    SELECT 1 FROM json_each(facts, '$.boxes') AS named
                    WHERE substr(named.value, 1, instr(named.value || '/', '/') - 1) = room.value))
             ORDER BY priority DESC, id LIMIT ?4 OFFSET ?5",
        )
        .bind(now.as_millisecond())
        .bind(to_json("boxes", &numbers)?)
        .bind(to_json("boxes", &addresses)?)
        .bind(limit)
        .bind(passed)
        .fetch_all(self.reader())
        .await?;
        rows.iter().map(view::read).collect()
    }

    /// Gives a queued call to a box. Returns false when it is not queued any more.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn assign(&self, id: CallId, to: &BoxId, now: Timestamp) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let given = give(&mut tx, &[(id, to)], now).await?;
        tx.commit().await?;
        Ok(!given.is_empty())
    }

    /// These boxes took these calls.
    ///
    /// # Errors
    /// [`DbError`]; then nothing was noted.
    pub async fn accepted(&self, taken: &[(CallId, BoxId)], now: Timestamp) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "UPDATE calls SET accepted_at = ?2, updated_at = ?2 FROM json_each(?1) AS one
             WHERE calls.id = one.value ->> 0 AND box = one.value ->> 1 AND accepted_at IS NULL AND status <> 'ended'",
        )
        .bind(to_json("calls", &taken)?)
        .bind(now.as_millisecond())
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// The box did not take the call: it waits again, until `retry_at`. Returns how many times it
    /// was refused by now; `None` when the box's word came too late to matter. That a box is `busy` does not count.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn refused(
        &self,
        id: CallId,
        by: &BoxId,
        reason: &str,
        busy: bool,
        retry_at: Timestamp,
        now: Timestamp,
    ) -> Result<Option<u32>, DbError> {
        let mut tx = self.begin().await?;
        let changed = sqlx::query(
            "UPDATE calls SET status = 'queued', box = NULL, sent_at = NULL, refusals = refusals + ?6,
                retry_at = ?4, updated_at = ?5, cause = ?3
             WHERE id = ?1 AND box = ?2 AND status = 'dispatched' AND accepted_at IS NULL",
        )
        .bind(id.to_string())
        .bind(by.as_str())
        .bind(format!("box {by} refused: {reason}"))
        .bind(retry_at.as_millisecond())
        .bind(now.as_millisecond())
        .bind(i64::from(!busy))
        .execute(&mut *tx)
        .await?
        .rows_affected();
        let refusals = if changed == 1 {
            append(&mut tx, id, "call.refused", json!({ "box": by, "reason": reason }), now).await?;
            Some(existing(&mut tx, id).await?.refusals)
        } else {
            None
        };
        tx.commit().await?;
        Ok(refusals)
    }

    /// Ends a call that no box has. Returns false when a box has it, or when it is over.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn end_queued(
        &self,
        id: CallId,
        disposition: Disposition,
        cause: &str,
        now: Timestamp,
    ) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let ended = end_queued_in(&mut tx, id, disposition, cause, now).await?;
        tx.commit().await?;
        Ok(ended)
    }

    /// Cancels a call: at once when no box has it, else by asking the box.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn cancel(&self, id: CallId, now: Timestamp) -> Result<Cancelled, DbError> {
        let mut tx = self.begin().await?;
        let Some(call) = load(&mut tx, id).await? else { return Ok(Cancelled::NoSuchCall) };
        if call.status == CallStatus::Ended {
            return Ok(Cancelled::Over(call));
        }
        append(&mut tx, id, "call.cancel", json!({}), now).await?;
        let cause = "cancelled by the caller of the API";
        let ended = end_queued_in(&mut tx, id, Disposition::Cancelled, cause, now).await?;
        if !ended {
            sqlx::query("UPDATE calls SET cancel_requested = 1 WHERE id = ?")
                .bind(id.to_string())
                .execute(&mut *tx)
                .await?;
        }
        let call = existing(&mut tx, id).await?;
        tx.commit().await?;
        Ok(if ended { Cancelled::Ended(call) } else { Cancelled::Asked(call) })
    }

    /// Notes that a call is to be handed to a person, at `to` or where its script says. The box is told until `until`.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn ask_transfer(
        &self,
        id: CallId,
        to: Option<&str>,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<TransferAsked, DbError> {
        let mut tx = self.begin().await?;
        let Some(call) = load(&mut tx, id).await? else { return Ok(TransferAsked::NoSuchCall) };
        if call.status != CallStatus::Answered {
            return Ok(TransferAsked::NotTalking(call));
        }
        append(&mut tx, id, "call.transfer", json!({ "to": to }), now).await?;
        sqlx::query(
            "UPDATE calls SET transfer_wish = transfer_wish + 1, transfer_to = ?2, transfer_until = ?3,
                transfer_sent_at = 0 WHERE id = ?1",
        )
        .bind(id.to_string())
        .bind(to)
        .bind(until.as_millisecond())
        .execute(&mut *tx)
        .await?;
        let call = existing(&mut tx, id).await?;
        tx.commit().await?;
        Ok(TransferAsked::Asked(call))
    }

    /// Takes in that somebody wants a supervisor on a call, or to change what she does there; the box is told until
    /// `until`.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn ask_supervise(
        &self,
        id: CallId,
        mode: SuperviseWish,
        to: Option<&str>,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<TransferAsked, DbError> {
        let mut tx = self.begin().await?;
        let Some(call) = load(&mut tx, id).await? else { return Ok(TransferAsked::NoSuchCall) };
        if call.status != CallStatus::Answered {
            return Ok(TransferAsked::NotTalking(call));
        }
        append(&mut tx, id, "call.supervise", json!({ "mode": mode, "to": to }), now).await?;
        sqlx::query(
            "UPDATE calls SET supervise_wish = supervise_wish + 1, supervise_mode = ?2, supervise_to = ?3,
                supervise_until = ?4, supervise_sent_at = 0 WHERE id = ?1",
        )
        .bind(id.to_string())
        .bind(mode.as_str())
        .bind(to)
        .bind(until.as_millisecond())
        .execute(&mut *tx)
        .await?;
        let call = existing(&mut tx, id).await?;
        tx.commit().await?;
        Ok(TransferAsked::Asked(call))
    }

    /// Returns the commands sent before `sent_before` whose effect nobody has seen, and marks them
    /// as sent now.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn resends(&self, sent_before: Timestamp, now: Timestamp) -> Result<Vec<Resend>, DbError> {
        let mut tx = self.begin().await?;
        let dials = sqlx::query(
            "UPDATE calls SET sent_at = ?2 WHERE status = 'dispatched' AND status <> 'ended' AND accepted_at IS NULL
                AND sent_at <= ?1 AND not_after > ?2
                AND EXISTS (SELECT 1 FROM boxes WHERE boxes.box = calls.box AND online = 1)
             RETURNING *",
        )
        .bind(sent_before.as_millisecond())
        .bind(now.as_millisecond())
        .fetch_all(&mut *tx)
        .await?;
        let cancels = sqlx::query(
            "UPDATE calls SET cancel_sent_at = ?2 WHERE cancel_requested = 1
                AND status <> 'queued' AND status <> 'ended' AND cancel_sent_at <= ?1
                AND EXISTS (SELECT 1 FROM boxes WHERE boxes.box = calls.box AND online = 1)
             RETURNING id, box",
        )
        .bind(sent_before.as_millisecond())
        .bind(now.as_millisecond())
        .fetch_all(&mut *tx)
        .await?;
        let transfers = sqlx::query(
            "UPDATE calls SET transfer_sent_at = ?2 WHERE transfer_until > ?2 AND transfer_sent_at <= ?1
                AND status = 'answered' AND status <> 'ended'
                AND EXISTS (SELECT 1 FROM boxes WHERE boxes.box = calls.box AND online = 1)
             RETURNING id, box, transfer_wish, transfer_to",
        )
        .bind(sent_before.as_millisecond())
        .bind(now.as_millisecond())
        .fetch_all(&mut *tx)
        .await?;
        let supervisions = sqlx::query(
            "UPDATE calls SET supervise_sent_at = ?2 WHERE supervise_until > ?2 AND supervise_sent_at <= ?1
                AND status = 'answered' AND status <> 'ended'
                AND EXISTS (SELECT 1 FROM boxes WHERE boxes.box = calls.box AND online = 1)
             RETURNING id, box, supervise_wish, supervise_mode, supervise_to",
        )
        .bind(sent_before.as_millisecond())
        .bind(now.as_millisecond())
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        let mut resends = Vec::new();
        for row in &dials {
            let call = view::read(row)?;
            if let Some(to) = call.box_id.clone() {
                resends.push(Resend::Dial(Box::new(call), to));
            }
        }
        for row in &cancels {
            let id = parsed("call id", row.try_get("id")?)?;
            resends.push(Resend::Cancel(id, parsed("box id", row.try_get("box")?)?));
        }
        for row in &transfers {
            let command = TransferCommand {
                call: parsed("call id", row.try_get("id")?)?,
                wish: row.try_get("transfer_wish")?,
                to: row.try_get("transfer_to")?,
            };
            resends.push(Resend::Transfer(command, parsed("box id", row.try_get("box")?)?));
        }
        for row in &supervisions {
            let command = SuperviseCommand {
                call: parsed("call id", row.try_get("id")?)?,
                wish: row.try_get("supervise_wish")?,
                mode: parsed("supervise mode", row.try_get("supervise_mode")?)?,
                to: row.try_get("supervise_to")?,
            };
            resends.push(Resend::Supervise(command, parsed("box id", row.try_get("box")?)?));
        }
        Ok(resends)
    }

    /// Ends the queued calls whose time is up, marks the running ones lost of which nothing was
    /// heard since `silent_since`, and returns both.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn sweep(&self, silent_since: Timestamp, now: Timestamp) -> Result<Vec<CallId>, DbError> {
        // A box that took a command just before its end needs a moment to say so.
        let unanswered_since = now.as_millisecond() - 30_000;
        let due = sqlx::query(
            "SELECT id, status, cause, box, accepted_at FROM calls WHERE status <> 'ended' AND (
                (status = 'queued' AND not_after <= ?1)
                OR (status <> 'queued' AND lost = 0 AND updated_at <= ?2)
                OR (status = 'dispatched' AND lost = 0 AND accepted_at IS NULL AND not_after <= ?3))",
        )
        .bind(now.as_millisecond())
        .bind(silent_since.as_millisecond())
        .bind(unanswered_since)
        .fetch_all(self.reader())
        .await?;
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let online: i64 = sqlx::query("SELECT COUNT(*) AS n FROM boxes WHERE online = 1")
            .fetch_one(self.reader())
            .await?
            .try_get("n")?;
        let mut tx = self.begin().await?;
        let mut changed = Vec::new();
        for row in &due {
            let id: CallId = parsed("call id", row.try_get("id")?)?;
            let done = if row.try_get::<String, _>("status")? == CallStatus::Queued.as_str() {
                let refused: String = row.try_get("cause")?;
                let cause = match (refused.is_empty(), online) {
                    (false, _) => refused,
                    (true, 0) => "no box was online before the deadline".to_owned(),
                    (true, _) => "no box had a free channel before the deadline".to_owned(),
                };
                end_queued_in(&mut tx, id, Disposition::Expired, &cause, now).await?
            } else {
                let by: Option<String> = row.try_get("box")?;
                let by = by.unwrap_or_default();
                let accepted = row.try_get::<Option<i64>, _>("accepted_at")?.is_some();
                let cause = if accepted {
                    format!("box {by} has said nothing about the call for a long time")
                } else {
                    format!("box {by} did not answer the command to dial")
                };
                mark_lost(&mut tx, id, &cause, now).await?
            };
            if done {
                changed.push(id);
            }
        }
        tx.commit().await?;
        Ok(changed)
    }
}

/// Writes calls that were not there, and the first line of their logs.
pub(crate) async fn insert_calls(
    conn: &mut SqliteConnection,
    calls: &[&NewCall],
    now: Timestamp,
) -> Result<(), DbError> {
    let at = now.as_millisecond();
    let rows: Vec<(&NewCall, String)> = calls
        .iter()
        .map(|new| Ok((*new, to_json("variables", &new.variables)?)))
        .collect::<Result<_, DbError>>()?;
    for some in rows.chunks(ROWS_AT_ONCE) {
        let mut insert = QueryBuilder::new(
            "INSERT INTO calls (id, status, callee, caller_id, script_id, script_version, variables,
                external_id, callback_url, trace, created_at, updated_at, not_after, retry_at, facts,
                priority, campaign, contact) ",
        );
        insert.push_values(some, |mut row, (new, variables)| {
            let (campaign, contact) = new.campaign.as_ref().map(|(id, n)| (id, number(*n))).unzip();
            row.push_bind(new.id.to_string()).push("'queued'").push_bind(new.callee.reveal());
            row.push_bind(new.caller_id.as_ref().map(E164::reveal)).push_bind(new.script.id.as_str());
            row.push_bind(new.script.version.as_str()).push_bind(variables).push_bind(&new.external_id);
            row.push_bind(&new.callback_url).push_bind(&new.trace).push_bind(at).push_bind(at);
            row.push_bind(new.not_after.as_millisecond()).push_bind(new.not_before.as_millisecond().max(0));
            row.push_bind(&new.facts).push_bind(new.priority).push_bind(campaign).push_bind(contact);
        });
        insert.build().persistent(some.len() == ROWS_AT_ONCE).execute(&mut *conn).await?;
    }
    let lines: Vec<_> = calls.iter().map(|new| (new.id, json!({}))).collect();
    append_all(conn, "call.queued", &lines, now).await
}

async fn known_request(conn: &mut SqliteConnection, new: &NewCall) -> Result<Option<Created>, DbError> {
    let Some((token, key, body)) = &new.idempotency else { return Ok(None) };
    let known = sqlx::query("SELECT body, call FROM idempotency WHERE token = ? AND key = ?")
        .bind(token)
        .bind(key)
        .fetch_optional(&mut *conn)
        .await?;
    let Some(row) = known else { return Ok(None) };
    if row.try_get::<String, _>("body")? != *body {
        return Ok(Some(Created::KeyReused));
    }
    let id = parsed("call id", row.try_get("call")?)?;
    Ok(load(conn, id).await?.map(Created::Same))
}

async fn existing(conn: &mut SqliteConnection, id: CallId) -> Result<Call, DbError> {
    load(conn, id).await?.ok_or_else(|| DbError::Damaged { what: "call", text: "it vanished".into() })
}

/// Lets a queued call wait until `retry_at`, and writes down why.
impl Db {
    /// Lets calls that wait for a box wait until an instant, each for its reason.
    ///
    /// # Errors
    /// [`DbError`]; then all stay as they are.
    pub async fn defer_calls(
        &self,
        deferred: &[(CallId, &str)],
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), DbError> {
        if deferred.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        for (id, why) in deferred {
            defer_in(&mut tx, *id, until, why, now).await?;
        }
        Ok(tx.commit().await?)
    }
}

pub(crate) async fn defer_in(
    conn: &mut SqliteConnection,
    id: CallId,
    retry_at: Timestamp,
    why: &str,
    now: Timestamp,
) -> Result<bool, DbError> {
    let changed = sqlx::query(
        "UPDATE calls SET retry_at = ?2, cause = ?3, updated_at = ?4 WHERE id = ?1 AND status = 'queued'",
    )
    .bind(id.to_string())
    .bind(retry_at.as_millisecond())
    .bind(why)
    .bind(now.as_millisecond())
    .execute(&mut *conn)
    .await?
    .rows_affected();
    if changed == 1 {
        append(conn, id, "call.deferred", json!({ "until": retry_at, "reason": why }), now).await?;
    }
    Ok(changed == 1)
}

pub(crate) async fn end_queued_in(
    conn: &mut SqliteConnection,
    id: CallId,
    disposition: Disposition,
    cause: &str,
    now: Timestamp,
) -> Result<bool, DbError> {
    let changed = sqlx::query(
        "UPDATE calls SET status = 'ended', disposition = ?2, cause = ?3, ended_at = ?4, updated_at = ?4
         WHERE id = ?1 AND status = 'queued'",
    )
    .bind(id.to_string())
    .bind(disposition.as_str())
    .bind(cause)
    .bind(now.as_millisecond())
    .execute(&mut *conn)
    .await?
    .rows_affected();
    if changed == 0 {
        return Ok(false);
    }
    let data = json!({
        "disposition": disposition, "cause": cause, "sip_code": null, "outcome": null, "record": null,
    });
    append(conn, id, "call.ended", data, now).await?;
    spool::enqueue(conn, id, "call.ended", now).await?;
    Ok(true)
}

async fn mark_lost(
    conn: &mut SqliteConnection,
    id: CallId,
    cause: &str,
    now: Timestamp,
) -> Result<bool, DbError> {
    let changed = sqlx::query(
        "UPDATE calls SET lost = 1, cause = ? WHERE id = ? AND lost = 0 AND status NOT IN ('queued', 'ended')",
    )
    .bind(cause)
    .bind(id.to_string())
    .execute(&mut *conn)
    .await?
    .rows_affected();
    if changed == 1 {
        append(conn, id, "call.lost", json!({ "cause": cause }), now).await?;
        spool::enqueue(conn, id, "call.lost", now).await?;
    }
    Ok(changed == 1)
}
