//! The events of a call as they happen (server-sent events).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use futures_util::stream::unfold;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use trunkline_db::LogEntry;
use trunkline_model::CallId;

use crate::auth::Caller;
use crate::calls::{call_id, no_such_call};
use crate::openapi::{Route, get, text};
use crate::problem::Chain;
use crate::{Api, Problem};

/// The log is looked at this often even when nobody says that it changed.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A stream stays open this long after the call for its callbacks.
const LINGER: Duration = Duration::from_secs(30);

pub(crate) fn routes() -> Vec<Route> {
    let events = get(
        "followCall",
        events,
        "Tells what happened on a call and what happens, until it is over",
    )
    .part::<CallId>("id", "")
    .header("Last-Event-ID", "Go on after this event", text())
    .says(
        "Events: call.queued, call.dispatched, call.refused, call.deferred, call.progress, turn.decided, \
             call.turn, call.cancel, call.transfer, call.supervise, call.lost, call.ended, callback",
    )
    .fails(&[404]);
    vec![Route::at("/v1/calls/{id}/events").on(events)]
}

pub(crate) async fn events(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let call = call_id(&id)?;
    if api.db.call(call).await?.is_none() {
        return Err(no_such_call());
    }
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let follower = Follower {
        // Listening begins before the log is read, so that nothing falls between the two.
        changes: api.hub.listen(),
        call,
        last: last.and_then(|text| text.parse().ok()).unwrap_or(0),
        waiting: VecDeque::new(),
        ended: None,
        api,
    };
    let stream = unfold(follower, |mut follower| async move {
        let entry = follower.next().await?;
        Some((Ok(event(follower.call, &entry)), follower))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

struct Follower {
    api: Arc<Api>,
    call: CallId,
    changes: broadcast::Receiver<CallId>,
    last: u64,
    waiting: VecDeque<LogEntry>,
    ended: Option<Instant>,
}

impl Follower {
    async fn next(&mut self) -> Option<LogEntry> {
        loop {
            if let Some(entry) = self.waiting.pop_front() {
                self.last = entry.n;
                if entry.kind == "call.ended" {
                    self.ended = Some(Instant::now());
                }
                return Some(entry);
            }
            match self.api.db.log_after(self.call, self.last).await {
                Ok(entries) => self.waiting.extend(entries),
                Err(error) => {
                    tracing::error!(error = %Chain(&error), "A call's events could not be read");
                    return None;
                }
            }
            if self.waiting.is_empty() {
                if self.is_settled().await {
                    return None;
                }
                self.changed().await;
            }
        }
    }

    async fn is_settled(&self) -> bool {
        let Some(ended) = self.ended else { return false };
        let pending = self.api.db.has_pending_callbacks(self.call).await;
        !pending.unwrap_or(false) || ended.elapsed() > LINGER
    }

    async fn changed(&mut self) {
        let timeout = tokio::time::sleep(LOOK_EVERY);
        tokio::pin!(timeout);
        loop {
            tokio::select! {
                () = &mut timeout => return,
                changed = self.changes.recv() => match changed {
                    Ok(call) if call == self.call => return,
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Lagged(_)) => return,
                    Err(broadcast::error::RecvError::Closed) => {
                        timeout.await;
                        return;
                    }
                },
            }
        }
    }
}

fn event(call: CallId, entry: &LogEntry) -> Event {
    let mut data = json!({ "call": call, "at": entry.at, "type": entry.kind });
    if let (Value::Object(data), Value::Object(more)) = (&mut data, &entry.data) {
        for (key, value) in more {
            // The type of a callback must not hide the type of the event.
            let key = if key == "type" { "callback_type" } else { key };
            data.insert(key.to_owned(), value.clone());
        }
    }
    Event::default().id(entry.n.to_string()).event(entry.kind.clone()).data(data.to_string())
}
