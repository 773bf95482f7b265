//! A call as the API and the callbacks show it.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use trunkline_model::{BoxId, CallId, Callee, Direction, Disposition, E164, Outcome};
use trunkline_wire::{
    AnswererRecord, AttemptRecord, CallRecord, MediaRecord, ProgressStage, RecordingRecord, ScriptRef,
    ToneRecord, TransferRecord, TurnRecord,
};

use crate::store::{count, instant, json, parsed};
use crate::{Db, DbError};

/// How far a call has come. The order is the order of a call's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallStatus {
    /// Waits for a box with a free channel.
    Queued,
    /// A box was told to dial.
    Dispatched,
    /// The box renders prompts.
    Preparing,
    /// The INVITE is out.
    Dialing,
    /// The far end rings.
    Ringing,
    /// Somebody answered.
    Answered,
    /// It is over.
    Ended,
}

impl CallStatus {
    const ALL: [Self; 7] = [
        Self::Queued,
        Self::Dispatched,
        Self::Preparing,
        Self::Dialing,
        Self::Ringing,
        Self::Answered,
        Self::Ended,
    ];

    /// Returns the name used in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Dispatched => "dispatched",
            Self::Preparing => "preparing",
            Self::Dialing => "dialing",
            Self::Ringing => "ringing",
            Self::Answered => "answered",
            Self::Ended => "ended",
        }
    }

    /// Returns the status of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

impl From<ProgressStage> for CallStatus {
    fn from(stage: ProgressStage) -> Self {
        match stage {
            ProgressStage::Preparing => Self::Preparing,
            ProgressStage::Dialing => Self::Dialing,
            ProgressStage::Ringing => Self::Ringing,
            ProgressStage::Answered => Self::Answered,
        }
    }
}

/// A call without its turns. Its `Debug` shows no personal data.
#[derive(Clone, PartialEq, Serialize, JsonSchema)]
pub struct Call {
    /// The call.
    pub id: CallId,
    /// How far it is.
    pub status: CallStatus,
    /// Its box has said nothing for a long time; a record that still arrives clears this.
    pub lost: bool,
    /// Who called whom.
    pub direction: Direction,
    /// The customer: whom the call goes to, or who calls; `sip:anonymous@anonymous.invalid` for a caller who hides the
    /// number.
    pub callee: Callee,
    /// The number that the customer called.
    pub called: Option<String>,
    /// The number to show.
    pub caller_id: Option<E164>,
    /// What is said.
    pub script: ScriptRef,
    /// The script's variables.
    pub variables: BTreeMap<String, String>,
    /// The caller's own reference.
    pub external_id: Option<String>,
    /// Where changes are reported to.
    pub callback_url: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// After this instant it is not dialled any more.
    pub not_after: Timestamp,
    /// The box that carries it.
    #[serde(rename = "box")]
    pub box_id: Option<BoxId>,
    /// The box's own words about what it is doing.
    pub detail: String,
    /// When it rang.
    pub rang_at: Option<Timestamp>,
    /// When somebody answered.
    pub answered_at: Option<Timestamp>,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// How it ended on the line.
    pub disposition: Option<Disposition>,
    /// Why, for people.
    pub cause: String,
    /// The final SIP status.
    pub sip_code: Option<u16>,
    /// What came of it.
    pub outcome: Option<Outcome>,
    /// The customer asked not to be called again.
    pub suppress: bool,
    /// What the gate is to know about the contact, as a JSON object.
    #[serde(skip)]
    pub facts: String,
    /// The campaign that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign: Option<String>,
    /// W3C traceparent of the request that asked for it.
    #[serde(skip)]
    pub trace: String,
    /// How many times a box refused it.
    #[serde(skip)]
    pub refusals: u32,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("id", &self.id)
            .field("status", &self.status)
            .field("lost", &self.lost)
            .field("callee", &self.callee)
            .field("script", &self.script.id)
            .field("box", &self.box_id)
            .field("disposition", &self.disposition)
            .finish_non_exhaustive()
    }
}

/// A call with its turns, its recording and its callbacks.
#[derive(Clone, PartialEq, Serialize, JsonSchema)]
pub struct CallDetail {
    /// The call.
    #[serde(flatten)]
    pub call: Call,
    /// What the script filled in.
    pub slots: BTreeMap<String, String>,
    /// Turn by turn.
    pub turns: Vec<TurnRecord>,
    /// Where the sound is.
    pub recording: Option<RecordingRecord>,
    /// How the line sounded.
    pub media: Option<MediaRecord>,
    /// What happened on the line, once the call is over.
    pub line: Option<LineView>,
    /// How the reports about it fared; absent from the reports themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callbacks: Option<Vec<CallbackView>>,
    /// What the inspection of the finished call found: score, measures, and remarks with rule, severity and turn. Some
    /// seconds after the end; absent from the reports, which go out before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub inspection: Option<serde_json::Value>,
    /// Whether a person is to listen to the call: each with a critical remark, and a share of the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<bool>,
}

/// What happened on the line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct LineView {
    /// The trunk that carried the call, or was tried last; empty for a call past the trunks.
    pub trunk: String,
    /// Trunks that were tried before it.
    pub attempts: Vec<AttemptRecord>,
    /// Hand-overs to persons, with their fate.
    pub transfers: Vec<TransferRecord>,
    /// Tones of the network.
    pub tones: Vec<ToneRecord>,
    /// Who or what answered.
    pub answerer: Option<AnswererRecord>,
}

/// One callback's state.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Callback")]
pub struct CallbackView {
    /// Stable over all attempts.
    pub id: String,
    /// Such as `call.ended`.
    #[serde(rename = "type")]
    pub kind: String,
    /// How it stands.
    #[schemars(extend("enum" = ["pending", "delivered", "failed"]))]
    pub state: String,
    /// Attempts made.
    pub attempts: u32,
    /// When the next attempt is due.
    pub next_at: Option<Timestamp>,
    /// HTTP status of the last attempt.
    pub last_status: Option<u16>,
    /// What went wrong at the last attempt.
    pub last_error: String,
    /// When it arrived.
    pub delivered_at: Option<Timestamp>,
}

/// Which calls to list.
#[derive(Clone, Debug, Default)]
pub struct CallFilter {
    /// Only this status.
    pub status: Option<CallStatus>,
    /// Only calls older than this one.
    pub before: Option<CallId>,
    /// At most this many.
    pub limit: u32,
}

impl Db {
    /// Returns a call.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn call(&self, id: CallId) -> Result<Option<Call>, DbError> {
        let mut conn = self.reader().acquire().await?;
        load(&mut conn, id).await
    }

    /// Says whether a call is over, as far as is known.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn is_over(&self, id: CallId) -> Result<bool, DbError> {
        let row = sqlx::query("SELECT 1 FROM calls WHERE id = ? AND status = 'ended'")
            .bind(id.to_string())
            .fetch_optional(self.reader())
            .await?;
        Ok(row.is_some())
    }

    /// Returns calls, the newest first.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn calls(&self, filter: &CallFilter) -> Result<Vec<Call>, DbError> {
        // Ids are UUIDs of version 7, so their order is the order of creation.
        let rows = sqlx::query(
            "SELECT * FROM calls WHERE (?1 IS NULL OR status = ?1) AND (?2 IS NULL OR id < ?2)
             ORDER BY id DESC LIMIT ?3",
        )
        .bind(filter.status.map(CallStatus::as_str))
        .bind(filter.before.map(|id| id.to_string()))
        .bind(filter.limit)
        .fetch_all(self.reader())
        .await?;
        rows.iter().map(read).collect()
    }

    /// Returns a call with everything that is known about it.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn call_detail(&self, id: CallId) -> Result<Option<CallDetail>, DbError> {
        let mut conn = self.reader().acquire().await?;
        let Some(mut detail) = detail(&mut conn, id).await? else { return Ok(None) };
        let rows = sqlx::query("SELECT * FROM callbacks WHERE call = ? ORDER BY n")
            .bind(id.to_string())
            .fetch_all(&mut *conn)
            .await?;
        detail.callbacks = Some(rows.iter().map(read_callback).collect::<Result<_, _>>()?);
        drop(conn);
        if let Some((inspection, listen)) = self.appraisal(id).await? {
            (detail.inspection, detail.listen) = (Some(inspection), Some(listen));
        }
        Ok(Some(detail))
    }
}

pub(crate) async fn load(conn: &mut SqliteConnection, id: CallId) -> Result<Option<Call>, DbError> {
    let row =
        sqlx::query("SELECT * FROM calls WHERE id = ?").bind(id.to_string()).fetch_optional(conn).await?;
    row.as_ref().map(read).transpose()
}

pub(crate) async fn detail(conn: &mut SqliteConnection, id: CallId) -> Result<Option<CallDetail>, DbError> {
    let Some(call) = load(conn, id).await? else { return Ok(None) };
    let record: Option<CallRecord> = sqlx::query("SELECT record FROM records WHERE call = ?")
        .bind(id.to_string())
        .fetch_optional(&mut *conn)
        .await?
        .map(|row| json("call record", row.try_get("record")?))
        .transpose()?;
    let mut turns: Vec<TurnRecord> = Vec::new();
    for row in sqlx::query("SELECT record FROM turns WHERE call = ? ORDER BY turn")
        .bind(id.to_string())
        .fetch_all(&mut *conn)
        .await?
    {
        turns.push(json("turn", row.try_get("record")?)?);
    }
    let (slots, recording, media, line) = match record {
        Some(record) => {
            let line = LineView {
                trunk: record.trunk,
                attempts: record.attempts,
                transfers: record.transfers,
                tones: record.tones,
                answerer: record.answerer,
            };
            (record.slots, record.recording, record.media, Some(line))
        }
        None => (BTreeMap::new(), None, None, None),
    };
    Ok(Some(CallDetail {
        call,
        slots,
        turns,
        recording,
        media,
        line,
        callbacks: None,
        inspection: None,
        listen: None,
    }))
}

pub(crate) fn read(row: &SqliteRow) -> Result<Call, DbError> {
    let at = |column: &str| -> Result<Option<Timestamp>, DbError> {
        row.try_get::<Option<i64>, _>(column)?.map(instant).transpose()
    };
    let text = |column: &str| -> Result<String, DbError> { Ok(row.try_get(column)?) };
    let status = text("status")?;
    let disposition: Option<String> = row.try_get("disposition")?;
    let outcome_code: Option<String> = row.try_get("outcome_code")?;
    let outcome_label: Option<String> = row.try_get("outcome_label")?;
    Ok(Call {
        id: parsed("call id", &text("id")?)?,
        status: CallStatus::from_name(&status)
            .ok_or_else(|| DbError::Damaged { what: "call status", text: status.clone() })?,
        lost: row.try_get("lost")?,
        direction: match text("direction")?.as_str() {
            "inbound" => Direction::Inbound,
            _ => Direction::Outbound,
        },
        callee: parsed("callee", &text("callee")?)?,
        called: row.try_get("called")?,
        caller_id: row
            .try_get::<Option<String>, _>("caller_id")?
            .map(|text| parsed("caller id", &text))
            .transpose()?,
        script: ScriptRef {
            id: parsed("script id", &text("script_id")?)?,
            version: parsed("script version", &text("script_version")?)?,
        },
        variables: json("variables", &text("variables")?)?,
        external_id: row.try_get("external_id")?,
        callback_url: row.try_get("callback_url")?,
        created_at: instant(row.try_get("created_at")?)?,
        not_after: instant(row.try_get("not_after")?)?,
        box_id: row.try_get::<Option<String>, _>("box")?.map(|text| parsed("box id", &text)).transpose()?,
        detail: text("detail")?,
        rang_at: at("rang_at")?,
        answered_at: at("answered_at")?,
        ended_at: at("ended_at")?,
        disposition: disposition
            .map(|name| {
                Disposition::ALL
                    .into_iter()
                    .find(|d| d.as_str() == name)
                    .ok_or(DbError::Damaged { what: "disposition", text: name })
            })
            .transpose()?,
        cause: text("cause")?,
        sip_code: row.try_get("sip_code")?,
        outcome: outcome_code.map(|code| Outcome { code, label: outcome_label.unwrap_or_default() }),
        suppress: row.try_get("suppress")?,
        facts: text("facts")?,
        campaign: row.try_get("campaign")?,
        trace: text("trace")?,
        refusals: row.try_get("refusals")?,
    })
}

pub(crate) fn read_callback(row: &SqliteRow) -> Result<CallbackView, DbError> {
    let state: String = row.try_get("state")?;
    let next_at = if state == "pending" { Some(instant(row.try_get("next_at")?)?) } else { None };
    Ok(CallbackView {
        id: row.try_get("id")?,
        kind: row.try_get("kind")?,
        state,
        attempts: u32::try_from(count(row.try_get("attempts")?)).unwrap_or(u32::MAX),
        next_at,
        last_status: row.try_get("last_status")?,
        last_error: row.try_get("last_error")?,
        delivered_at: row.try_get::<Option<i64>, _>("delivered_at")?.map(instant).transpose()?,
    })
}
