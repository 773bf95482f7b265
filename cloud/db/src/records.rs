//! Calls that are over, in the order in which that became known.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::Row;
use trunkline_model::{Disposition, ScriptId};

use crate::store::{count, instant, json, number};
use crate::view::read;
use crate::{Call, Db, DbError};

/// Which records to list.
#[derive(Clone, Debug, Default)]
pub struct RecordFilter {
    /// Only what became known after this place in the order.
    pub after: u64,
    /// Only calls of this script.
    pub script: Option<ScriptId>,
    /// Only calls that ended like this on the line.
    pub disposition: Option<Disposition>,
    /// Only calls of which this came.
    pub outcome: Option<String>,
    /// Only what became known at or after this instant.
    pub since: Option<Timestamp>,
    /// Only what became known before it.
    pub until: Option<Timestamp>,
    /// At most this many.
    pub limit: u32,
}

/// A call that is over, with all that is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct EndedCall {
    /// Its place in the order, from which a reader goes on.
    pub n: u64,
    /// When its end became known.
    pub at: Timestamp,
    /// The call.
    pub call: Call,
    /// The record as the box filed it, turn by turn; `null` for a call that no box carried, or whose box is gone.
    #[schemars(with = "Option<Map<String, Value>>")]
    pub record: Option<Value>,
    /// What the inspection found; `null` for the first seconds.
    #[schemars(with = "Option<Map<String, Value>>")]
    pub inspection: Option<Value>,
    /// Whether a person is to listen.
    pub listen: Option<bool>,
}

impl Db {
    /// Returns calls that are over, in the order in which that became known. A call that was given up and whose
    /// record arrived all the same comes again, at its new place.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn ended_calls(&self, filter: &RecordFilter) -> Result<Vec<EndedCall>, DbError> {
        let millis = |at: Option<Timestamp>| at.map(|at| at.as_millisecond());
        let rows = sqlx::query(
            "SELECT l.n AS place, l.at AS known_at, r.record AS filed, a.inspection AS found, a.listen AS listen, c.*
             FROM call_log l
             JOIN calls c ON c.id = l.call
             LEFT JOIN records r ON r.call = l.call
             LEFT JOIN appraisals a ON a.call = l.call
             WHERE l.kind = 'call.ended' AND l.n > ?1
                AND (?2 IS NULL OR c.script_id = ?2) AND (?3 IS NULL OR c.disposition = ?3)
                AND (?4 IS NULL OR c.outcome_code = ?4) AND (?5 IS NULL OR l.at >= ?5) AND (?6 IS NULL OR l.at < ?6)
                AND NOT EXISTS (SELECT 1 FROM call_log later
                    WHERE later.call = l.call AND later.kind = 'call.ended' AND later.n > l.n)
             ORDER BY l.n LIMIT ?7",
        )
        .bind(number(filter.after))
        .bind(filter.script.as_ref().map(ScriptId::as_str))
        .bind(filter.disposition.map(Disposition::as_str))
        .bind(filter.outcome.as_deref())
        .bind(millis(filter.since))
        .bind(millis(filter.until))
        .bind(filter.limit)
        .fetch_all(self.reader())
        .await?;
        rows.iter()
            .map(|row| {
                let text = |column: &str| row.try_get::<Option<&str>, _>(column);
                Ok(EndedCall {
                    n: count(row.try_get("place")?),
                    at: instant(row.try_get("known_at")?)?,
                    call: read(row)?,
                    record: text("filed")?.map(|text| json("call record", text)).transpose()?,
                    inspection: text("found")?.map(|text| json("inspection", text)).transpose()?,
                    listen: row.try_get("listen")?,
                })
            })
            .collect()
    }
}
