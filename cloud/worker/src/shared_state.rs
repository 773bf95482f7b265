//! Calls as other systems see them in Redis: a hash for each, and a stream of what happened.
//!
//! The log of calls in the database is the source, and how far it was copied stands in Redis itself, written
//! in the same transaction, with a mark of the database that it was copied from. So a Redis that was away is brought
//! up to date from there, one that lost its memory is filled again, and one that another database filled is rid of
//! that one's calls first. Nothing else waits for this task: a call is never slower for it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use redis::aio::MultiplexedConnection;
use tokio::sync::broadcast::error::RecvError;
use trunkline_db::{Call, CallFilter, CallLogEntry, Db, DbError};
use trunkline_model::CallId;

use crate::dispatch::Chain;
use crate::{Hub, Stop};

const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(15);
/// An answer that takes longer is none.
const ANSWER: Duration = Duration::from_secs(3);
/// The log is looked at this often even when nobody says that it changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const BATCH: u32 = 500;

/// Where, and for how long.
#[derive(Clone)]
pub struct SharedStateConfig {
    /// `rediss://[USER:PASSWORD@]HOST:PORT[/DB]`, or `redis://` without encryption.
    pub url: String,
    /// Who signed the server's certificate, PEM; the system's authorities by default.
    pub ca: Option<Vec<u8>>,
    /// How long a call's hash stays after its last change.
    pub ttl: Duration,
    /// The stream's name; the position is kept beside it, under the name with `:position` behind it.
    pub stream: String,
    /// Entries that the stream keeps, about.
    pub max_len: u32,
    /// Outcome codes that count as a conversion.
    pub conversions: Vec<String>,
}

/// Why a copy failed.
#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error("Redis did not take it")]
    Redis(#[from] redis::RedisError),
    #[error("Redis does not answer")]
    Silent(#[from] tokio::time::error::Elapsed),
    #[error("the calls could not be read")]
    Db(#[from] DbError),
}

/// The task's state.
pub(crate) struct SharedState {
    db: Db,
    hub: Hub,
    config: SharedStateConfig,
}

/// How far which database was copied, as it stands in Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    database: String,
    position: u64,
}

impl Mark {
    fn parse(text: &str) -> Option<Self> {
        let (database, position) = text.split_once(' ')?;
        Some(Self { database: database.to_owned(), position: position.parse().ok()? })
    }
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.database, self.position)
    }
}

/// Returns the fields of a call's hash.
pub fn fields(call: &Call, conversions: &[String]) -> Vec<(&'static str, String)> {
    let text = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    let outcome = call.outcome.as_ref().map(|outcome| outcome.code.clone()).unwrap_or_default();
    let conversion = if outcome.is_empty() {
        ""
    } else if conversions.contains(&outcome) {
        "1"
    } else {
        "0"
    };
    vec![
        ("status", call.status.as_str().to_owned()),
        ("script_id", call.script.id.as_str().to_owned()),
        ("script_version", call.script.version.as_str().to_owned()),
        ("external_id", call.external_id.clone().unwrap_or_default()),
        ("box", call.box_id.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("created_at", call.created_at.to_string()),
        ("answered_at", text(call.answered_at)),
        ("ended_at", text(call.ended_at)),
        ("disposition", call.disposition.map(|end| end.as_str().to_owned()).unwrap_or_default()),
        ("cause", call.cause.clone()),
        ("outcome", outcome),
        ("conversion", conversion.to_owned()),
        ("suppress", u8::from(call.suppress).to_string()),
    ]
}

impl SharedState {
    pub(crate) fn new(db: Db, hub: Hub, config: SharedStateConfig) -> Self {
        Self { db, hub, config }
    }

    pub(crate) async fn run(self, mut stop: Stop) {
        let mut backoff = FIRST_BACKOFF;
        loop {
            let failed = tokio::select! {
                failed = self.copy(&mut backoff) => failed,
                () = stop.stopped() => return,
            };
            tracing::warn!(error = %Chain(&failed), wait_ms = backoff.as_millis() as u64, "Calls are not shared through Redis; it is tried again");
            tokio::select! {
                () = tokio::time::sleep(backoff) => {}
                () = stop.stopped() => return,
            }
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
        }
    }

    /// Copies until something fails.
    async fn copy(&self, backoff: &mut Duration) -> CopyError {
        match self.try_copy(backoff).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn try_copy(&self, backoff: &mut Duration) -> Result<std::convert::Infallible, CopyError> {
        let client = self.client()?;
        // Listening begins before the log is read, so that nothing falls between the two.
        let mut changes = self.hub.listen();
        let mut conn = tokio::time::timeout(ANSWER, client.get_multiplexed_async_connection()).await??;
        let database = self.db.identity().await?;
        let mut position = self.position(&mut conn, &database).await?;
        *backoff = FIRST_BACKOFF;
        tracing::info!(position, "Calls are shared through Redis");
        loop {
            let entries = self.db.log_of_all_after(position, BATCH).await?;
            if let Some(last) = entries.last().map(|last| last.n) {
                self.write(&mut conn, &entries, &Mark { database: database.clone(), position: last }).await?;
                position = last;
                continue;
            }
            match tokio::time::timeout(LOOK_EVERY, changes.recv()).await {
                Ok(Err(RecvError::Closed)) => tokio::time::sleep(LOOK_EVERY).await,
                Ok(Ok(_) | Err(RecvError::Lagged(_))) => {}
                // A quiet second: is it still there, and still the one that was filled?
                Err(_) => {
                    let mark = Mark { database: database.clone(), position };
                    if self.known(&mut conn).await? != Some(mark) {
                        position = self.position(&mut conn, &database).await?;
                    }
                }
            }
        }
    }

    fn client(&self) -> Result<redis::Client, redis::RedisError> {
        let url = self.config.url.as_str();
        match &self.config.ca {
            Some(ca) => {
                let certificates = redis::TlsCertificates { client_tls: None, root_cert: Some(ca.clone()) };
                redis::Client::build_with_tls(url, certificates)
            }
            None => redis::Client::open(url),
        }
    }

    fn key(&self) -> String {
        format!("{}:position", self.config.stream)
    }

    /// Returns the mark, if there is one that can be read.
    async fn known(&self, conn: &mut MultiplexedConnection) -> Result<Option<Mark>, CopyError> {
        let mut ask = redis::cmd("GET");
        ask.arg(self.key());
        let text: Option<String> = tokio::time::timeout(ANSWER, ask.query_async(conn)).await??;
        Ok(text.as_deref().and_then(Mark::parse))
    }

    /// Removes the calls that another database put there.
    async fn forget(&self, conn: &mut MultiplexedConnection, database: &str) -> Result<(), CopyError> {
        let (mut cursor, mut removed) = (0_u64, 0_usize);
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg("call:*").arg("COUNT").arg(BATCH);
            let (next, keys): (u64, Vec<String>) =
                tokio::time::timeout(ANSWER, scan.query_async(conn)).await??;
            let mut ask = redis::pipe();
            for key in &keys {
                ask.cmd("HGET").arg(key).arg("database");
            }
            if !keys.is_empty() {
                let of: Vec<Option<String>> = tokio::time::timeout(ANSWER, ask.query_async(conn)).await??;
                let theirs = keys.iter().zip(of).filter(|(_, of)| of.as_deref() == Some(database));
                let mut remove = redis::cmd("DEL");
                let theirs: Vec<&String> = theirs.map(|(key, _)| key).collect();
                if !theirs.is_empty() {
                    removed += theirs.len();
                    remove.arg(theirs);
                    let () = tokio::time::timeout(ANSWER, remove.query_async(conn)).await??;
                }
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        tracing::warn!(calls = removed, "Redis held the calls of another database; they were removed");
        Ok(())
    }

    /// Returns from where to copy on. A Redis that knows no position, or one of another database, is filled
    /// with every call that is open or young enough.
    async fn position(&self, conn: &mut MultiplexedConnection, database: &str) -> Result<u64, CopyError> {
        let head = self.db.log_head().await?;
        match self.known(conn).await? {
            Some(mark) if mark.database != database => self.forget(conn, &mark.database).await?,
            Some(mark) if mark.position <= head => return Ok(mark.position),
            Some(_) | None => {}
        }
        let ttl = SignedDuration::try_from(self.config.ttl).unwrap_or(SignedDuration::MAX);
        let since = Timestamp::now().saturating_sub(ttl).unwrap_or(Timestamp::MIN);
        let mut filter = CallFilter { limit: BATCH, ..CallFilter::default() };
        let mut filled = 0;
        loop {
            let calls = self.db.calls(&filter).await?;
            let Some(last) = calls.last() else { break };
            filter.before = Some(last.id);
            let young: Vec<&Call> = calls
                .iter()
                .filter(|call| call.ended_at.is_none_or(|at| at > since) && call.created_at > since)
                .collect();
            if young.is_empty() {
                break;
            }
            filled += young.len();
            let mut pipe = redis::pipe();
            pipe.atomic();
            for call in young {
                self.hash(&mut pipe, call, database);
            }
            let () = tokio::time::timeout(ANSWER, pipe.query_async(conn)).await??;
        }
        let mut set = redis::cmd("SET");
        set.arg(self.key()).arg(Mark { database: database.to_owned(), position: head }.to_string());
        let () = tokio::time::timeout(ANSWER, set.query_async(conn)).await??;
        tracing::info!(calls = filled, "Redis knew nothing and was filled again");
        Ok(head)
    }

    fn hash(&self, pipe: &mut redis::Pipeline, call: &Call, database: &str) {
        let key = format!("call:{}", call.id);
        pipe.cmd("HSET").arg(&key).arg(fields(call, &self.config.conversions));
        pipe.arg("database").arg(database).ignore();
        pipe.cmd("EXPIRE").arg(&key).arg(self.config.ttl.as_secs()).ignore();
    }

    /// Writes what happened, the calls as they stand, and the position, all or nothing.
    async fn write(
        &self,
        conn: &mut MultiplexedConnection,
        entries: &[CallLogEntry],
        mark: &Mark,
    ) -> Result<(), CopyError> {
        let mut calls: BTreeMap<CallId, Option<Call>> = BTreeMap::new();
        for entry in entries {
            if let Entry::Vacant(unread) = calls.entry(entry.call) {
                unread.insert(self.db.call(entry.call).await?);
            }
        }
        let mut pipe = redis::pipe();
        pipe.atomic();
        for call in calls.values().flatten() {
            self.hash(&mut pipe, call, &mark.database);
        }
        for entry in entries {
            let of = |name: &str| entry.data[name].as_str().unwrap_or_default().to_owned();
            pipe.cmd("XADD")
                .arg(&self.config.stream)
                .arg("MAXLEN")
                .arg("~")
                .arg(self.config.max_len)
                .arg("*");
            pipe.arg("n").arg(entry.n).arg("call").arg(entry.call.to_string()).arg("type").arg(&entry.kind);
            pipe.arg("at").arg(entry.at.to_string());
            // What was said stays in the record; here is only how the call moved.
            for name in ["stage", "disposition", "cause", "reason"] {
                let value = of(name);
                if !value.is_empty() {
                    pipe.arg(name).arg(value);
                }
            }
            pipe.ignore();
        }
        pipe.cmd("SET").arg(self.key()).arg(mark.to_string()).ignore();
        let () = tokio::time::timeout(ANSWER, pipe.query_async(conn)).await??;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_as_written_and_the_bare_number_of_older_builds_is_none() {
        let mark = Mark { database: "ab12".into(), position: 7 };
        assert_eq!(Mark::parse(&mark.to_string()), Some(mark));
        assert_eq!(Mark::parse("7"), None);
    }
}
