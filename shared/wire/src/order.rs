//! What people at headquarters tell one box to do, and what it says came of that.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The largest file that a box sends for an order, in bytes; what would be larger is cut on the box.
pub const MAX_ORDER_FILE: u64 = 4 * 1024 * 1024;
/// The largest part of it that is sent, or fetched, at once, in bytes.
pub const MAX_ORDER_PART: usize = 256 * 1024;

/// `req/order`: do this once. It is repeated until a report names it, so the box remembers its id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderCommand {
    /// The order; version 7.
    pub order: Uuid,
    /// What to do: `drain`, `undrain`, `restart`, `reboot`, `logs`, `diag`. A kind that the box does not know fails.
    pub kind: String,
    /// It is not begun after this instant by the cloud's clock, as the envelope tells it.
    pub expires: Timestamp,
    /// Calls under way are not waited for.
    #[serde(default, skip_serializing_if = "is_false")]
    pub now: bool,
    /// `drain`: until then; without it until `undrain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// `logs`: at most so many lines, the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<u32>,
    /// `logs`: none before this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// How far an order is, as its box reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderReport {
    /// The order.
    pub order: Uuid,
    /// `running`, `done` or `failed`.
    pub state: String,
    /// Why it failed, as a word that programs can rely on; while it runs, what it waits for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// In words; holds no personal data.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// `POST /box/v1/orders/{id}/file`: a box has this to send for an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderFile {
    /// How long it is, in bytes, at most 4 MiB.
    #[schemars(range(min = 1, max = MAX_ORDER_FILE))]
    pub bytes: u64,
    /// SHA-256 of it, 64 hexadecimal digits.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub sha256: String,
}

/// The answer to that, and to each part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderFileHad {
    /// The cloud has so many bytes; the next part begins there.
    pub bytes: u64,
}

fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Envelope, Reported, parse};

    #[test]
    fn reads_what_boxes_and_clouds_of_version_1_send() {
        let order: Envelope<OrderCommand> =
            parse(include_str!("golden/req_order.v1.json").as_bytes()).unwrap();
        assert_eq!((order.body.kind.as_str(), order.body.now), ("restart", true));
        assert_eq!(order.body.until, None);
        let reported: Envelope<Reported> =
            parse(include_str!("golden/cfg_reported.v1c.json").as_bytes()).unwrap();
        assert_eq!(reported.body.orders[0].order, order.body.order);
        assert_eq!((reported.body.orders[0].state.as_str(), &*reported.body.boot), ("running", "0d5e"));
    }
}
