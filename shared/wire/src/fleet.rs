//! How a box joins, what it should be, what it says it is, and what it is to run.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::envelope::TrunkReport;
use crate::order::OrderReport;

/// `POST /box/v1/enrol`: a box that has no certificate asks for one. It sends the same request until it is
/// answered with a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnrolRequest {
    /// PKCS#10 (RFC 2986) for a P-256 key, in DER, as base 64 (RFC 4648 §4).
    pub csr: String,
    /// HMAC-SHA-256 over the DER bytes, the claim code being the key; 64 hexadecimal digits.
    pub proof: String,
}

/// The answer to [`EnrolRequest`] and [`RenewRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnrolReply {
    /// How far the box is: `waiting`, `claimed`, `approved`, `issued`.
    pub state: String,
    /// What time it is. A box whose clock was never set goes by this.
    pub now: Timestamp,
    /// The box's certificate and those between it and the root, PEM, once it was issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Ask again after so many seconds.
    #[serde(default)]
    pub retry_s: u64,
}

/// `POST /box/v1/renew`, with the certificate that is to be replaced: another certificate for the same key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RenewRequest {
    /// PKCS#10 in DER, as base 64.
    pub csr: String,
}

/// `cfg/desired`: what the box should be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// Counts up with each change.
    pub version: u64,
    /// SHA-256 of the canonical form of the body, 64 hexadecimal digits.
    pub hash: String,
    /// What is wanted, by section.
    pub body: Value,
}

/// `cfg/reported`: what the box says it is. Sent when the link comes up, when something changes, and once a
/// minute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reported {
    /// The desired version that the box looked at last; 0: none.
    #[serde(default)]
    pub version: u64,
    /// Its hash; empty: none.
    #[serde(default)]
    pub hash: String,
    /// What is in force.
    #[serde(default)]
    pub body: Value,
    /// What could not be applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<NotApplied>,
    /// One entry per component that has versions, as the updater tells it.
    #[serde(default)]
    pub components: Vec<Value>,
    /// The number of the newest assignment that reached the box.
    #[serde(default)]
    pub assignment: u64,
    /// Why that assignment is not believed, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The program that speaks.
    #[serde(default)]
    pub software: String,
    /// How the machine is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// How its program for calls is; absent for a box without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<CallsReport>,
    /// What tells this start of the machine from every other; empty where it cannot say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub boot: String,
    /// How far the last orders are, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<OrderReport>,
    /// It takes no new calls because an order says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<Drained>,
}

/// A box that takes no new calls by order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drained {
    /// The order.
    pub by: Uuid,
    /// Until then; without it until another order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// How a box's machine is; what it cannot say is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "BoxHealth")]
pub struct Health {
    /// Seconds since the machine started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_s: Option<u64>,
    /// Processes that wanted to run, on average over a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<f64>,
    /// Memory that programs can have, MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_free_mib: Option<u64>,
    /// All of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// Room on the disk with the box's data, MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_free_mib: Option<u64>,
    /// All of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_mib: Option<u64>,
    /// The hottest sensor, °C.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_c: Option<i32>,
    /// By how much the machine's clock is ahead of what the box goes by, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_off_s: Option<i64>,
}

/// How a box's program for calls is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallsReport {
    /// `starting`, `up` or `down`.
    pub state: String,
    /// Why it is down.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Calls that have not ended.
    #[serde(default)]
    pub calls: u32,
    /// No new calls are taken.
    #[serde(default)]
    pub draining: bool,
    /// Its trunks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trunks: Vec<TrunkReport>,
}

/// A part of [`Desired`] that the box could not apply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NotApplied {
    /// Where in the document, as `/calls/trunk` (RFC 6901).
    pub path: String,
    /// Why.
    pub reason: String,
}

/// `job/next`: what the box is to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobNext {
    /// The number of the assignment.
    pub number: u64,
    /// The signed assignment, as text: its signature covers its bytes.
    pub assignment: String,
    /// Components whose update is taken back, unless it is armed already.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cancel: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Envelope, parse};

    #[test]
    fn reads_what_boxes_and_clouds_of_version_1_send() {
        let desired: Envelope<Desired> =
            parse(include_str!("golden/cfg_desired.v1.json").as_bytes()).unwrap();
        assert_eq!((desired.body.version, &desired.body.body["name"]), (3, &"Branch 0451".into()));
        let reported: Envelope<Reported> =
            parse(include_str!("golden/cfg_reported.v1.json").as_bytes()).unwrap();
        assert_eq!(reported.body.problems[0].path, "/gsm");
        assert_eq!(reported.body.components[0]["stage"], "committed");
        let newer: Envelope<Reported> =
            parse(include_str!("golden/cfg_reported.v1b.json").as_bytes()).unwrap();
        assert_eq!(newer.body.health.unwrap().temperature_c, Some(61));
        assert_eq!(newer.body.calls.unwrap().trunks[0].name, "carrier-a");
        let job: Envelope<JobNext> = parse(include_str!("golden/job_next.v1.json").as_bytes()).unwrap();
        assert_eq!((job.body.number, job.body.cancel), (7, vec!["app".to_owned()]));
        let enrol: EnrolReply = serde_json::from_str(include_str!("golden/enrol_reply.v1.json")).unwrap();
        assert_eq!((enrol.state.as_str(), enrol.certificate), ("claimed", None));
    }

    #[test]
    fn a_box_that_says_little_is_understood() {
        let read: Reported = serde_json::from_str("{}").unwrap();
        assert_eq!((read.version, read.assignment), (0, 0));
    }
}
