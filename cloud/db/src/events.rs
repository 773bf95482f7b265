//! Events of the boxes: stored once, their effects in the same transaction, acknowledged after it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::json;
use sqlx::{QueryBuilder, Row, SqliteConnection};
use trunkline_model::{BoxId, CallId, Callee};
use trunkline_policy::receipt::{Body, Entry};
use trunkline_wire::{Ack, CallInbound, CallProgress, CallRecord, TurnRecord};
use uuid::Uuid;

use crate::experiments::is_due;
use crate::log::append;
use crate::numbers::apply_inbound;
use crate::pacing::{note_ended, note_progress};
use crate::speed::note_waits;
use crate::store::{ROWS_AT_ONCE, count, number, parsed, to_json};
use crate::suppress::anchor_receipt;
use crate::view::load;
use crate::{CallStatus, Db, DbError, spool};

/// How many missing numbers an acknowledgement lists at most; it reaches less far when there are more.
const MAX_EXCEPT: usize = 500;

/// One event as a box sent it.
#[derive(Clone)]
pub struct Event {
    /// The box.
    pub box_id: BoxId,
    /// The box's session.
    pub sess: u64,
    /// Its number; (box, seq) is unique for ever.
    pub seq: u64,
    /// The message's id.
    pub id: Uuid,
    /// When the box wrote it.
    pub ts: Timestamp,
    /// Its type.
    pub kind: String,
    /// W3C traceparent.
    pub trace: String,
    /// The body as JSON text.
    pub body: String,
    /// What it does.
    pub effect: Effect,
}

/// What an event does.
#[derive(Clone)]
pub enum Effect {
    /// `call.inbound`.
    Inbound(Box<CallInbound>),
    /// `call.progress`.
    Progress(CallProgress),
    /// `call.turn`.
    Turn(CallId, Box<TurnRecord>),
    /// `call.ended`.
    Ended(Box<CallRecord>),
    /// `gate.receipt`: what the gate on the box decided, as it stands in the box's chain.
    Receipt(Box<Entry>, Box<Body>),
    /// Of a type that this build does not know: kept, without effect.
    Unknown,
    /// Not what its type says: kept for people to look at, without effect. It is acknowledged all
    /// the same, or the box would send it for ever.
    Unreadable(String),
}

/// What became of a batch of events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ingested {
    /// What to acknowledge.
    pub acks: Vec<(BoxId, Ack)>,
    /// The calls that changed.
    pub touched: Vec<CallId>,
    /// Events that had come before.
    pub duplicates: u32,
    /// Events with a known number and another content.
    pub conflicts: u32,
    /// Events about calls that belong to another box: kept, without effect.
    pub foreign: u32,
}

impl Db {
    /// Stores events and applies their effects, all or nothing. What came before changes nothing.
    ///
    /// # Errors
    /// [`DbError`]; then nothing was stored and nothing may be acknowledged.
    pub async fn ingest(&self, events: &[Event], now: Timestamp) -> Result<Ingested, DbError> {
        let mut result = Ingested::default();
        let mut highest: BTreeMap<&BoxId, u64> = BTreeMap::new();
        let mut tx = self.begin().await?;
        let mut new = store_all(&mut tx, events, now).await?;
        for event in events {
            let top = highest.entry(&event.box_id).or_default();
            *top = event.seq.max(*top);
            // A number that comes twice in one batch is new once.
            let stored = match new.remove(&(event.box_id.as_str(), event.seq)) {
                true => Stored::New,
                false => known(&mut tx, event, now).await?,
            };
            match stored {
                Stored::New => {}
                Stored::Known => {
                    result.duplicates += 1;
                    continue;
                }
                // Effects are idempotent by call, so that a box which lost its counter is heard.
                Stored::Conflict => result.conflicts += 1,
            }
            if is_foreign(&mut tx, event).await? {
                result.foreign += 1;
                continue;
            }
            if let Some(call) = apply(&mut tx, event, now).await? {
                result.touched.push(call);
            }
        }
        if !highest.is_empty() {
            result.acks = acks(&mut tx, highest, now).await?;
        }
        tx.commit().await?;
        Ok(result)
    }

    /// Counts what is stored of each box; for checks of the whole.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn event_counts(&self) -> Result<BTreeMap<BoxId, EventCount>, DbError> {
        let rows = sqlx::query(
            "SELECT box, COUNT(*) AS events, COUNT(DISTINCT id) AS messages, MAX(seq) AS highest,
                (SELECT COUNT(*) FROM event_conflicts c WHERE c.box = e.box) AS conflicts
             FROM call_events e GROUP BY box",
        )
        .fetch_all(self.reader())
        .await?;
        rows.iter()
            .map(|row| {
                let events = EventCount {
                    events: count(row.try_get("events")?),
                    messages: count(row.try_get("messages")?),
                    highest: count(row.try_get("highest")?),
                    conflicts: count(row.try_get("conflicts")?),
                };
                Ok((parsed("box id", row.try_get("box")?)?, events))
            })
            .collect()
    }
}

/// What is stored of one box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCount {
    /// How many events; (box, seq) is stored once.
    pub events: u64,
    /// How many different messages brought them.
    pub messages: u64,
    /// The highest number.
    pub highest: u64,
    /// How often a known number came again with another content.
    pub conflicts: u64,
}

impl EventCount {
    /// Says whether the numbers from 1 to the highest are there without a gap, each brought by a message of its own.
    pub fn is_whole(&self) -> bool {
        self.events == self.highest && self.messages == self.highest && self.conflicts == 0
    }
}

enum Stored {
    New,
    Known,
    Conflict,
}

/// Stores the events whose numbers are not known yet; returns those by box and number.
async fn store_all<'e>(
    conn: &mut SqliteConnection,
    events: &'e [Event],
    now: Timestamp,
) -> Result<BTreeSet<(&'e str, u64)>, DbError> {
    let boxes: BTreeSet<&str> = events.iter().map(|event| event.box_id.as_str()).collect();
    let mut new = BTreeSet::new();
    for some in events.chunks(ROWS_AT_ONCE) {
        let mut insert = QueryBuilder::new(
            "INSERT OR IGNORE INTO call_events (box, seq, sess, id, ts, kind, trace, body, fault, at) ",
        );
        insert.push_values(some, |mut row, event| {
            row.push_bind(event.box_id.as_str()).push_bind(number(event.seq)).push_bind(number(event.sess));
            row.push_bind(event.id.to_string()).push_bind(event.ts.as_millisecond()).push_bind(&event.kind);
            row.push_bind(&event.trace).push_bind(&event.body).push_bind(fault(event));
            row.push_bind(now.as_millisecond());
        });
        insert.push(" RETURNING box, seq");
        let rows = insert.build().persistent(some.len() == ROWS_AT_ONCE).fetch_all(&mut *conn).await?;
        for row in rows {
            let (by, seq): (String, i64) = (row.try_get("box")?, row.try_get("seq")?);
            new.extend(boxes.get(by.as_str()).map(|by| (*by, count(seq))));
        }
    }
    Ok(new)
}

/// Why an event is kept without effect.
fn fault(event: &Event) -> Option<&str> {
    match &event.effect {
        Effect::Unreadable(fault) => Some(fault.as_str()),
        Effect::Receipt(entry, _) if !entry.is_intact() => Some("the receipt was changed on its way"),
        Effect::Inbound(_)
        | Effect::Progress(_)
        | Effect::Turn(..)
        | Effect::Ended(_)
        | Effect::Receipt(..)
        | Effect::Unknown => None,
    }
}

/// Says of an event whose number is known whether it is the same.
async fn known(conn: &mut SqliteConnection, event: &Event, now: Timestamp) -> Result<Stored, DbError> {
    let known = sqlx::query("SELECT kind, body FROM call_events WHERE box = ? AND seq = ?")
        .bind(event.box_id.as_str())
        .bind(number(event.seq))
        .fetch_one(&mut *conn)
        .await?;
    let same = known.try_get::<String, _>("kind")? == event.kind
        && known.try_get::<String, _>("body")? == event.body;
    if same {
        return Ok(Stored::Known);
    }
    let repeated =
        sqlx::query("SELECT 1 FROM event_conflicts WHERE box = ? AND seq = ? AND kind = ? AND body = ?")
            .bind(event.box_id.as_str())
            .bind(number(event.seq))
            .bind(&event.kind)
            .bind(&event.body)
            .fetch_optional(&mut *conn)
            .await?;
    if repeated.is_some() {
        return Ok(Stored::Known);
    }
    sqlx::query("INSERT INTO event_conflicts (box, seq, kind, body, at) VALUES (?, ?, ?, ?, ?)")
        .bind(event.box_id.as_str())
        .bind(number(event.seq))
        .bind(&event.kind)
        .bind(&event.body)
        .bind(now.as_millisecond())
        .execute(conn)
        .await?;
    Ok(Stored::Conflict)
}

/// Says whether the event is about a call that another box carries, and marks it so.
async fn is_foreign(conn: &mut SqliteConnection, event: &Event) -> Result<bool, DbError> {
    let call = match &event.effect {
        Effect::Inbound(inbound) => inbound.call,
        Effect::Progress(progress) => progress.call,
        Effect::Turn(call, _) => *call,
        Effect::Ended(record) => record.call,
        Effect::Receipt(_, body) => body.call,
        Effect::Unknown | Effect::Unreadable(_) => return Ok(false),
    };
    let row = sqlx::query("SELECT box FROM calls WHERE id = ?")
        .bind(call.to_string())
        .fetch_optional(&mut *conn)
        .await?;
    let Some(row) = row else { return Ok(false) };
    if row.try_get::<Option<String>, _>("box")?.as_deref() == Some(event.box_id.as_str()) {
        return Ok(false);
    }
    sqlx::query("UPDATE call_events SET fault = 'the call is not this box''s' WHERE box = ? AND seq = ?")
        .bind(event.box_id.as_str())
        .bind(number(event.seq))
        .execute(conn)
        .await?;
    Ok(true)
}

async fn apply(
    conn: &mut SqliteConnection,
    event: &Event,
    now: Timestamp,
) -> Result<Option<CallId>, DbError> {
    match &event.effect {
        Effect::Inbound(inbound) => {
            apply_inbound(conn, &event.box_id, inbound, now).await?;
            Ok(Some(inbound.call))
        }
        Effect::Progress(progress) => {
            apply_progress(conn, &event.box_id, progress, event.ts, now).await?;
            Ok(Some(progress.call))
        }
        Effect::Turn(call, turn) => {
            upsert_turn(conn, *call, turn, now).await?;
            heard_of(conn, *call, &event.box_id, now).await?;
            append(conn, *call, "call.turn", json!({ "turn": turn }), now).await?;
            Ok(Some(*call))
        }
        Effect::Ended(record) => {
            let new = apply_ended(conn, event, record, now).await?;
            Ok(new.then_some(record.call))
        }
        Effect::Receipt(entry, body) => {
            if entry.is_intact() {
                anchor_receipt(conn, &event.box_id, entry, body, now).await?;
                heard_of(conn, body.call, &event.box_id, now).await?;
            }
            Ok(None)
        }
        Effect::Unknown | Effect::Unreadable(_) => Ok(None),
    }
}

async fn apply_progress(
    conn: &mut SqliteConnection,
    by: &BoxId,
    progress: &CallProgress,
    ts: Timestamp,
    now: Timestamp,
) -> Result<(), DbError> {
    append(
        conn,
        progress.call,
        "call.progress",
        json!({ "stage": progress.stage, "detail": progress.detail }),
        now,
    )
    .await?;
    let Some(call) = load(conn, progress.call).await? else { return Ok(()) };
    if call.status == CallStatus::Ended {
        return Ok(());
    }
    heard_of(conn, progress.call, by, now).await?;
    let status = CallStatus::from(progress.stage);
    if status < call.status {
        return Ok(());
    }
    sqlx::query(
        "UPDATE calls SET status = ?2, detail = ?3,
            rang_at = CASE WHEN ?2 = 'ringing' THEN COALESCE(rang_at, ?4) ELSE rang_at END,
            answered_at = CASE WHEN ?2 = 'answered' THEN COALESCE(answered_at, ?4) ELSE answered_at END
         WHERE id = ?1",
    )
    .bind(progress.call.to_string())
    .bind(status.as_str())
    .bind(&progress.detail)
    .bind(ts.as_millisecond())
    .execute(&mut *conn)
    .await?;
    note_progress(conn, progress, ts).await?;
    if status > call.status {
        match status {
            CallStatus::Ringing => spool::enqueue(conn, progress.call, "call.ringing", now).await?,
            CallStatus::Answered => spool::enqueue(conn, progress.call, "call.answered", now).await?,
            CallStatus::Queued
            | CallStatus::Dispatched
            | CallStatus::Preparing
            | CallStatus::Dialing
            | CallStatus::Ended => {}
        }
    }
    Ok(())
}

async fn apply_ended(
    conn: &mut SqliteConnection,
    event: &Event,
    record: &CallRecord,
    now: Timestamp,
) -> Result<bool, DbError> {
    let inserted =
        sqlx::query("INSERT OR IGNORE INTO records (call, box, seq, record, at) VALUES (?, ?, ?, ?, ?)")
            .bind(record.call.to_string())
            .bind(event.box_id.as_str())
            .bind(number(event.seq))
            .bind(to_json("call record", record)?)
            .bind(now.as_millisecond())
            .execute(&mut *conn)
            .await?
            .rows_affected();
    if inserted == 0 {
        return Ok(false);
    }
    is_due(conn, record.call).await?;
    for turn in &record.turns {
        upsert_turn(conn, record.call, turn, now).await?;
    }
    let millis = |at: Option<Timestamp>| at.map(|at| at.as_millisecond());
    sqlx::query(
        "UPDATE calls SET status = 'ended', lost = 0, box = ?2, disposition = ?3, cause = ?4, sip_code = ?5,
            outcome_code = ?6, outcome_label = ?7, suppress = ?8, rang_at = COALESCE(?9, rang_at),
            answered_at = COALESCE(?10, answered_at), ended_at = ?11, updated_at = ?12, detail = ''
         WHERE id = ?1",
    )
    .bind(record.call.to_string())
    .bind(event.box_id.as_str())
    .bind(record.disposition.as_str())
    .bind(&record.cause)
    .bind(record.sip_code)
    .bind(record.outcome.as_ref().map(|outcome| outcome.code.as_str()))
    .bind(record.outcome.as_ref().map(|outcome| outcome.label.as_str()))
    .bind(record.suppress)
    .bind(millis(record.rang))
    .bind(millis(record.answered))
    .bind(record.ended.as_millisecond())
    .bind(now.as_millisecond())
    .execute(&mut *conn)
    .await?;
    note_ended(conn, record).await?;
    note_waits(conn, &event.box_id, record).await?;
    if record.suppress {
        sqlx::query(
            "INSERT OR IGNORE INTO suppressions (callee, call, at)
             SELECT callee, id, ?2 FROM calls WHERE id = ?1 AND callee <> ?3",
        )
        .bind(record.call.to_string())
        .bind(now.as_millisecond())
        // A caller who hides the number cannot be kept from being called.
        .bind(Callee::anonymous().reveal())
        .execute(&mut *conn)
        .await?;
    }
    let data = json!({
        "disposition": record.disposition, "cause": record.cause, "sip_code": record.sip_code,
        "outcome": record.outcome, "record": record,
    });
    append(conn, record.call, "call.ended", data, now).await?;
    spool::enqueue(conn, record.call, "call.ended", now).await?;
    Ok(true)
}

/// A sign of life from the box that carries the call.
async fn heard_of(
    conn: &mut SqliteConnection,
    call: CallId,
    by: &BoxId,
    now: Timestamp,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE calls SET lost = 0, updated_at = ?3, accepted_at = COALESCE(accepted_at, ?3)
         WHERE id = ?1 AND box = ?2 AND status <> 'ended'",
    )
    .bind(call.to_string())
    .bind(by.as_str())
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

async fn upsert_turn(
    conn: &mut SqliteConnection,
    call: CallId,
    turn: &TurnRecord,
    now: Timestamp,
) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO turns (call, turn, record, at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (call, turn) DO UPDATE SET record = ?3, at = ?4",
    )
    .bind(call.to_string())
    .bind(turn.turn)
    .bind(to_json("turn", turn)?)
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

/// Works out what may be acknowledged to each box: never beyond `top`, the highest number in this batch, so that a box
/// which counts from 1 again is not told that its new events have arrived. Three statements for all boxes together: with
/// thousands of boxes each has few events in a batch.
async fn acks(
    conn: &mut SqliteConnection,
    tops: BTreeMap<&BoxId, u64>,
    now: Timestamp,
) -> Result<Vec<(BoxId, Ack)>, DbError> {
    let ids = to_json("boxes", &tops.keys().collect::<Vec<_>>())?;
    // `WHERE TRUE` tells the upsert from a join.
    let known = sqlx::query(
        "INSERT INTO boxes (box, online, sess, last_seen) SELECT value, 0, 0, ?2 FROM json_each(?1) WHERE TRUE
         ON CONFLICT (box) DO UPDATE SET last_seen = ?2 RETURNING box, contiguous",
    )
    .bind(&ids)
    .bind(now.as_millisecond())
    .fetch_all(&mut *conn)
    .await?;
    let mut runs: BTreeMap<String, Run> = BTreeMap::new();
    for row in known {
        runs.insert(row.try_get("box")?, Run::from(count(row.try_get("contiguous")?)));
    }
    let seen = sqlx::query(
        "SELECT e.box, e.seq FROM json_each(?) AS asked CROSS JOIN boxes b ON b.box = asked.value
         CROSS JOIN call_events e ON e.box = b.box AND e.seq > b.contiguous ORDER BY asked.key, e.seq",
    )
    .bind(&ids)
    .fetch_all(&mut *conn)
    .await?;
    for row in seen {
        if let Some(run) = runs.get_mut(row.try_get::<&str, _>("box")?) {
            run.take(count(row.try_get("seq")?));
        }
    }
    let longer: Vec<(&str, i64)> = runs
        .iter()
        .filter(|(_, run)| run.contiguous > run.before)
        .map(|(id, run)| (id.as_str(), number(run.contiguous)))
        .collect();
    if !longer.is_empty() {
        sqlx::query(
            "UPDATE boxes SET contiguous = said.value ->> 1 FROM json_each(?) AS said
             WHERE boxes.box = said.value ->> 0",
        )
        .bind(to_json("boxes", &longer)?)
        .execute(conn)
        .await?;
    }
    let acks =
        tops.into_iter().filter_map(|(id, top)| Some((id.clone(), runs.remove(id.as_str())?.ack(top))));
    Ok(acks.collect())
}

/// The numbers of one box, in order.
struct Run {
    before: u64,
    contiguous: u64,
    upto: u64,
    except: Vec<u64>,
    full: bool,
}

impl Run {
    fn from(contiguous: u64) -> Self {
        Self { before: contiguous, contiguous, upto: contiguous, except: Vec::new(), full: false }
    }

    fn take(&mut self, seq: u64) {
        if self.full {
            return;
        }
        if seq == self.contiguous + 1 {
            self.contiguous = seq;
        } else {
            let gap = self.upto + 1..seq;
            if self.except.len() as u64 + gap.end.saturating_sub(gap.start) > MAX_EXCEPT as u64 {
                self.full = true;
                return;
            }
            self.except.extend(gap);
        }
        self.upto = seq;
    }

    fn ack(self, top: u64) -> Ack {
        let upto = self.upto.min(top);
        Ack { upto, except: self.except.into_iter().filter(|seq| *seq <= upto).collect() }
    }
}
