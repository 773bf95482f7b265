//! Orders of people to single boxes: sent until the box says something of them, and ended when their time is over.
//!
//! A box names the last orders in each of its reports, so nothing is acknowledged separately: what a report names is
//! not sent again. The broker keeps an order for a box that is away no longer than until the next one is sent.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use trunkline_db::{DbError, OrderRow};
use trunkline_model::BoxId;
use trunkline_wire::{OrderReport, topic};

use crate::broker::envelope;
use crate::fleet::{FleetError, SEND_AGAIN, Sent};
use crate::{Publication, Qos, Worker};

impl Worker {
    /// Takes what a box says of its orders.
    pub(crate) async fn orders_told(
        &self,
        by: &BoxId,
        told: &[OrderReport],
        now: Timestamp,
    ) -> Result<(), DbError> {
        for order in self.db.orders_told(by, told, now).await? {
            log(&order);
        }
        Ok(())
    }

    /// Sends what no box has begun, and ends what nobody takes any more.
    pub(crate) async fn look_at_orders(&self, sent: &mut Sent, now: Timestamp) -> Result<(), FleetError> {
        for order in self.db.expire_orders(now).await? {
            log(&order);
            sent.remove(&(order.box_id.clone(), "order", Some(order.id)));
        }
        let clock = Instant::now();
        for order in self.db.orders_to_send(now).await? {
            let key = (order.box_id.clone(), "order", Some(order.id));
            let due = sent.get(&key).is_none_or(|(_, at)| clock.saturating_duration_since(*at) >= SEND_AGAIN);
            if due {
                sent.insert(key, (0, clock));
                self.send_box_order(&order, now).await?;
            }
        }
        sent.retain(|(_, what, _), (_, at)| {
            *what != "order" || clock.saturating_duration_since(*at) < SEND_AGAIN * 2
        });
        Ok(())
    }

    /// Sends at once what a box lacks that has just said which orders it knows.
    pub(crate) async fn send_open_orders(&self, to: &BoxId, now: Timestamp) -> Result<(), FleetError> {
        for order in self.db.orders_to_send(now).await? {
            if order.box_id == *to && order.state == "queued" {
                self.send_box_order(&order, now).await?;
            }
        }
        Ok(())
    }

    async fn send_box_order(&self, order: &OrderRow, now: Timestamp) -> Result<(), FleetError> {
        let left = order.expires.duration_since(now);
        let left = Duration::try_from(left).unwrap_or_default().max(Duration::from_secs(1));
        let message = Publication {
            topic: topic::req_order(&order.box_id),
            payload: envelope(&order.box_id, 0, "order", "", order.command())?,
            qos: Qos::AtLeastOnce,
            expiry: Some(left.min(SEND_AGAIN)),
            correlation: None,
        };
        if self.broker.publish(message).await? > 0 {
            self.db.order_sent(&order.id, now).await?;
        }
        Ok(())
    }
}

fn log(order: &OrderRow) {
    let (kind, state, reason) = (&order.command.kind, &order.state, &order.reason);
    if state == "done" {
        tracing::info!(box.id = %order.box_id, order = %order.id, kind, "A box has done what it was told");
    } else {
        tracing::warn!(box.id = %order.box_id, order = %order.id, kind, state, reason, "An order came to nothing");
    }
}
