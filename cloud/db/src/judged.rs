//! What becomes of contacts and calls that were judged together: their receipts and what follows from them, all of it
//! or nothing. One commit for hundreds: a commit waits for the disk, whatever is in it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::json;
use sqlx::{Row, SqliteConnection};
use trunkline_model::{BoxId, CallId, Disposition};
use trunkline_policy::receipt::Body;

use crate::calls::{defer_in, end_queued_in, insert_calls};
use crate::campaigns::{Moved, Promise};
use crate::log::append_all;
use crate::policy::append_receipts;
use crate::store::{count, number, parsed, to_json};
use crate::{Db, DbError, NewCall};

/// A contact that was judged.
#[derive(Clone)]
pub struct JudgedContact {
    /// Its number.
    pub n: u64,
    /// The decision.
    pub receipt: Body,
    /// What becomes of it.
    pub fate: ContactFate,
}

/// What becomes of a contact.
#[derive(Clone)]
pub enum ContactFate {
    /// It is called. Contact and call change together, or not at all.
    Starts(Box<NewCall>),
    /// It waits until then, for this reason.
    Waits(Timestamp, String),
    /// It is not called at all, for this reason.
    Done(String),
}

/// A call that waits for a box and was judged for one.
#[derive(Clone)]
pub struct JudgedCall {
    /// The call.
    pub id: CallId,
    /// The decision.
    pub receipt: Body,
    /// What becomes of it.
    pub fate: CallFate,
}

/// What becomes of a call that waits for a box.
#[derive(Clone)]
pub enum CallFate {
    /// This box gets it.
    Given(BoxId),
    /// It waits until then, for this reason.
    Waits(Timestamp, String),
    /// It is over, for this reason.
    Ends(Disposition, String),
}

impl Db {
    /// Files what was decided about contacts of a campaign. Says of each whether it took effect: one that is not ready
    /// any more is not called, nor is any while the campaign does not run.
    ///
    /// # Errors
    /// [`DbError`]; then nothing was filed.
    pub async fn file_contacts(
        &self,
        campaign: &str,
        judged: &[JudgedContact],
        now: Timestamp,
    ) -> Result<Vec<bool>, DbError> {
        let (mut starts, mut settled) = (Vec::new(), Vec::new());
        for one in judged {
            match &one.fate {
                ContactFate::Starts(call) => starts.push((one.n, call.as_ref())),
                ContactFate::Waits(until, why) => settled.push(Moved {
                    n: one.n,
                    until: Some(*until),
                    why: why.clone(),
                    callback: Promise::Keep,
                }),
                ContactFate::Done(why) => {
                    settled.push(Moved { n: one.n, until: None, why: why.clone(), callback: Promise::Drop })
                }
            }
        }
        let receipts: Vec<&Body> = judged.iter().map(|one| &one.receipt).collect();
        let mut tx = self.begin().await?;
        append_receipts(&mut tx, &receipts, now).await?;
        let mut took_effect = start(&mut tx, campaign, &starts, now).await?;
        took_effect.extend(settle(&mut tx, &settled, READY).await?);
        tx.commit().await?;
        Ok(judged.iter().map(|one| took_effect.contains(&one.n)).collect())
    }

    /// Files what was decided about calls that wait for a box. Says of each whether it took effect: one that does not
    /// wait any more stays as it is.
    ///
    /// # Errors
    /// [`DbError`]; then nothing was filed.
    pub async fn file_calls(&self, judged: &[JudgedCall], now: Timestamp) -> Result<Vec<bool>, DbError> {
        let receipts: Vec<&Body> = judged.iter().map(|one| &one.receipt).collect();
        let mut given = Vec::new();
        let mut tx = self.begin().await?;
        append_receipts(&mut tx, &receipts, now).await?;
        let mut took_effect = BTreeSet::new();
        for one in judged {
            let changed = match &one.fate {
                CallFate::Given(to) => {
                    given.push((one.id, to));
                    continue;
                }
                CallFate::Waits(until, why) => defer_in(&mut tx, one.id, *until, why, now).await?,
                CallFate::Ends(how, why) => end_queued_in(&mut tx, one.id, *how, why, now).await?,
            };
            if changed {
                took_effect.insert(one.id);
            }
        }
        took_effect.extend(give(&mut tx, &given, now).await?);
        tx.commit().await?;
        Ok(judged.iter().map(|one| took_effect.contains(&one.id)).collect())
    }
}

/// Begins the calls of contacts that are ready, while their campaign runs; returns which.
async fn start(
    conn: &mut SqliteConnection,
    campaign: &str,
    starts: &[(u64, &NewCall)],
    now: Timestamp,
) -> Result<BTreeSet<u64>, DbError> {
    if starts.is_empty() {
        return Ok(BTreeSet::new());
    }
    let rows: Vec<_> = starts.iter().map(|(n, call)| json!([number(*n), call.id])).collect();
    let taken: BTreeSet<u64> = sqlx::query(
        "UPDATE campaign_contacts SET state = 'calling', call = one.value ->> 1, attempts = attempts + 1, why = ''
         FROM json_each(?1) AS one
         WHERE n = one.value ->> 0 AND state = 'ready'
            AND EXISTS (SELECT 1 FROM campaigns WHERE id = ?2 AND state = 'running')
         RETURNING n",
    )
    .bind(to_json("contacts", &rows)?)
    .bind(campaign)
    .fetch_all(&mut *conn)
    .await?
    .iter()
    .map(|row| Ok(count(row.try_get("n")?)))
    .collect::<Result<_, DbError>>()?;
    let calls: Vec<&NewCall> =
        starts.iter().filter(|(n, _)| taken.contains(n)).map(|(_, call)| *call).collect();
    insert_calls(conn, &calls, now).await?;
    Ok(taken)
}

/// A contact that nobody calls now.
pub(crate) const READY: &str = "state = 'ready'";
/// A contact whose call is over.
pub(crate) const OVER: &str = "state = 'calling'
    AND EXISTS (SELECT 1 FROM calls WHERE calls.id = campaign_contacts.call AND calls.status = 'ended')";

/// Lets contacts wait until an instant, or is done with them for good; returns those that changed.
///
/// Only those of which `condition` holds: somebody else may have called one meanwhile.
pub(crate) async fn settle(
    conn: &mut SqliteConnection,
    settled: &[Moved],
    condition: &'static str,
) -> Result<BTreeSet<u64>, DbError> {
    if settled.is_empty() {
        return Ok(BTreeSet::new());
    }
    let rows: Vec<_> = settled
        .iter()
        .map(|one| {
            let (keep, promised, by) = match one.callback {
                Promise::Keep => (1, None, None),
                Promise::Drop => (0, None, None),
                Promise::New(call, at) => (0, Some(at.as_millisecond()), Some(call)),
            };
            json!([number(one.n), one.until.map(|at| at.as_millisecond()), one.why, keep, promised, by])
        })
        .collect();
    let query = format!(
        "UPDATE campaign_contacts SET why = one.value ->> 2,
            state = CASE WHEN one.value ->> 1 IS NULL THEN 'done' ELSE 'ready' END,
            call = CASE WHEN one.value ->> 1 IS NULL THEN call ELSE NULL END,
            next_at = COALESCE(one.value ->> 1, next_at),
            callback_at = CASE WHEN one.value ->> 3 = 1 THEN callback_at ELSE one.value ->> 4 END,
            callback_call = CASE WHEN one.value ->> 3 = 1 THEN callback_call ELSE one.value ->> 5 END
         FROM json_each(?) AS one WHERE n = one.value ->> 0 AND {condition} RETURNING n"
    );
    sqlx::query(&query)
        .bind(to_json("contacts", &rows)?)
        .fetch_all(conn)
        .await?
        .iter()
        .map(|row| Ok(count(row.try_get("n")?)))
        .collect()
}

/// Gives queued calls to boxes; returns which.
pub(crate) async fn give(
    conn: &mut SqliteConnection,
    given: &[(CallId, &BoxId)],
    now: Timestamp,
) -> Result<Vec<CallId>, DbError> {
    if given.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "UPDATE calls SET status = 'dispatched', box = one.value ->> 1, sent_at = ?2, updated_at = ?2, cause = '',
            accepted_at = NULL
         FROM json_each(?1) AS one WHERE calls.id = one.value ->> 0 AND status = 'queued' RETURNING calls.id, box",
    )
    .bind(to_json("calls", &given)?)
    .bind(now.as_millisecond())
    .fetch_all(&mut *conn)
    .await?;
    let mut lines = Vec::with_capacity(rows.len());
    for row in &rows {
        let to: String = row.try_get("box")?;
        lines.push((parsed("call id", row.try_get("id")?)?, json!({ "box": to })));
    }
    append_all(conn, "call.dispatched", &lines, now).await?;
    Ok(lines.into_iter().map(|(id, _)| id).collect())
}
