//! The topics `tl/1/{box}/…`. A box reaches its own only; the broker's rules see to that.

use trunkline_model::BoxId;

/// The prefix of every topic: protocol name and version.
pub const PREFIX: &str = "tl/1";

/// Returns the filter that matches everything below one box.
pub fn box_filter(id: &BoxId) -> String {
    format!("{PREFIX}/{id}/#")
}

macro_rules! topic {
    ($($(#[$doc:meta])* $name:ident = $tail:literal;)*) => {
        $($(#[$doc])*
        pub fn $name(id: &BoxId) -> String {
            format!(concat!("{}/{}/", $tail), PREFIX, id)
        })*
    };
}

topic! {
    /// Box to cloud, QoS 1, retained: birth and will.
    conn = "conn";
    /// Box to cloud, QoS 1: events of the class `call`, from the outbox.
    evt_call = "evt/call";
    /// Box to cloud, QoS 0: a turn request.
    turn = "turn";
    /// Cloud to box, QoS 1: acknowledgement of events.
    ack = "ack";
    /// Cloud to box, QoS 0: the answer to a turn request.
    turn_res = "turn/res";
    /// Cloud to box, QoS 1 with expiry: dial a call.
    req_dial = "req/dial";
    /// Cloud to box, QoS 1 with expiry: cancel a call.
    req_cancel = "req/cancel";
    /// Cloud to box, QoS 1 with expiry: hand a call to a person.
    req_transfer = "req/transfer";
    /// Cloud to box, QoS 1 with expiry: let a supervisor listen to a call.
    req_supervise = "req/supervise";
    /// Cloud to box, QoS 1: opt-outs and list entries to keep.
    req_suppress = "req/suppress";
    /// Cloud to box, QoS 1 with expiry: which script answers calls to which number.
    req_numbers = "req/numbers";
    /// Cloud to the box's keeper, QoS 1 with expiry: do this once.
    req_order = "req/order";
    /// Box to cloud, QoS 1: which table of numbers the box has.
    res_numbers = "res/numbers";
    /// Box to cloud, QoS 1: the answer to a request.
    res = "res/cloud";
    /// Cloud to box, QoS 1: what the box should be.
    cfg_desired = "cfg/desired";
    /// Box to cloud, QoS 1: what the box says it is.
    cfg_reported = "cfg/reported";
    /// Cloud to box, QoS 1: what the box is to run.
    job_next = "job/next";
    /// Box to cloud, QoS 1: how far it has the suppressions.
    res_suppress = "res/suppress";
}

/// Splits `tl/1/{box}/{tail}`; `None` for any other topic.
pub fn split(topic: &str) -> Option<(BoxId, &str)> {
    let rest = topic.strip_prefix(PREFIX)?.strip_prefix('/')?;
    let (id, tail) = rest.split_once('/')?;
    Some((id.parse().ok()?, tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_splits_into_its_box_and_the_rest() {
        let id: BoxId = "tl-a1".parse().unwrap();
        assert_eq!(split(&evt_call(&id)), Some((id, "evt/call")));
        assert_eq!(split("tl/2/tl-a1/turn"), None);
        assert_eq!(split("tl/1/+/turn"), None);
    }
}
