//! Takes opt-outs and list entries to every connected box, and repeats them until the box confirms.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use trunkline_db::BoxRow;
use trunkline_model::BoxId;
use trunkline_wire::{SuppressCommand, SuppressReply, topic};

use crate::broker::envelope;
use crate::dispatch::{Chain, DispatchError, RESEND_AFTER};
use crate::{Publication, Qos, Stop, Worker};

/// How often boxes are looked at even when nobody says that something changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Changes in one message: some 100 KiB of the 256 that a message may have.
const BATCH: u32 = 500;

/// What was last sent to a box.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sent {
    sess: u64,
    after: u64,
    at: Instant,
}

/// Says which boxes are to be told what comes after which number: those online that lack something and
/// were not told so in this session a moment ago.
pub(crate) fn due(boxes: &[BoxRow], sent: &BTreeMap<BoxId, Sent>, now: Instant) -> Vec<(BoxId, u64, u64)> {
    boxes
        .iter()
        .filter(|row| row.online && !row.confirmed)
        .filter(|row| {
            sent.get(&row.id).is_none_or(|sent| {
                sent.sess != row.sess
                    || sent.after != row.suppressed_upto
                    || now.saturating_duration_since(sent.at) >= RESEND_AFTER
            })
        })
        .map(|row| (row.id.clone(), row.sess, row.suppressed_upto))
        .collect()
}

pub(crate) async fn run(worker: Arc<Worker>, mut stop: Stop) {
    let mut sent = BTreeMap::new();
    loop {
        if let Err(error) = worker.push_suppressions(&mut sent).await {
            tracing::error!(error = %Chain(&error), "Suppressions could not be pushed and are tried again");
        }
        tokio::select! {
            () = worker.wakers.suppressor_woken() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = stop.stopped() => return,
        }
    }
}

impl Worker {
    async fn push_suppressions(&self, sent: &mut BTreeMap<BoxId, Sent>) -> Result<(), DispatchError> {
        let boxes = self.db.unconfirmed_boxes().await?;
        for (id, sess, after) in due(&boxes, sent, Instant::now()) {
            let changes = self.db.suppressions_after(after, BATCH).await?;
            let Some(upto) = changes.last().map(|last| last.n) else { continue };
            let command = SuppressCommand { after, upto, changes };
            self.broker
                .publish(Publication {
                    topic: topic::req_suppress(&id),
                    payload: envelope(&id, sess, "suppress", "", command)?,
                    qos: Qos::AtLeastOnce,
                    expiry: Some(RESEND_AFTER),
                    correlation: None,
                })
                .await?;
            sent.insert(id, Sent { sess, after, at: Instant::now() });
        }
        Ok(())
    }

    pub(crate) async fn suppress_answered(
        &self,
        by: &BoxId,
        reply: SuppressReply,
    ) -> Result<(), trunkline_db::DbError> {
        self.db.box_confirmed(by, reply.upto).await?;
        tracing::debug!(box.id = %by, upto = reply.upto, "A box has the suppressions");
        // There may be more for it, and it may have leases again.
        self.wakers.suppressor();
        self.wakers.dispatcher();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn row(id: &str, online: bool, upto: u64, confirmed: bool) -> BoxRow {
        BoxRow {
            id: id.parse().unwrap(),
            online,
            sess: 1,
            software: String::new(),
            channels: 1,
            busy: 0,
            last_seen: Timestamp::UNIX_EPOCH,
            suppressed_upto: upto,
            confirmed,
            draining: None,
            numbers: None,
            trunks: Vec::new(),
        }
    }

    #[test]
    fn a_box_is_told_at_once_then_again_after_a_while_and_at_once_when_it_moved_on_or_came_back() {
        let now = Instant::now();
        let boxes = [row("a", true, 0, false), row("b", false, 0, false), row("c", true, 9, true)];
        let told: Vec<String> =
            due(&boxes, &BTreeMap::new(), now).into_iter().map(|(id, ..)| id.to_string()).collect();
        assert_eq!(told, ["a"], "who is away or has everything is told nothing");
        let a: BoxId = "a".parse().unwrap();
        let sent = |sess, after| BTreeMap::from([(a.clone(), Sent { sess, after, at: now })]);
        assert!(due(&boxes, &sent(1, 0), now + Duration::from_secs(1)).is_empty());
        assert_eq!(due(&boxes, &sent(1, 0), now + RESEND_AFTER).len(), 1);
        assert_eq!(due(&[row("a", true, 500, false)], &sent(1, 0), now), [(a.clone(), 1, 500)]);
        assert_eq!(due(&boxes, &sent(0, 0), now).len(), 1, "a new session has not heard it");
    }
}
