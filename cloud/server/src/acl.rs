//! What a box may do on the broker: its own topics, in the right direction, and nothing else.

use trunkline_model::BoxId;
use trunkline_wire::topic;

/// Says whether a client with this certificate may use this client id. The id must name the box, or
/// one box could take over the session of another; behind a `:` it may say more.
pub(crate) fn client_id_allowed(id: &BoxId, client_id: &str) -> bool {
    client_id.strip_prefix(id.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

/// Says whether a box may publish to a topic.
pub(crate) fn publish_allowed(id: &BoxId, name: &str) -> bool {
    if name.contains(['+', '#']) {
        return false;
    }
    let Some((owner, tail)) = topic::split(name) else { return false };
    if owner != *id {
        return false;
    }
    match tail.split('/').collect::<Vec<_>>()[..] {
        ["conn" | "turn" | "tel"] | ["cfg", "reported"] => true,
        ["evt" | "res", class] => !class.is_empty(),
        ["job", job, "status"] => !job.is_empty(),
        _ => false,
    }
}

/// Says whether a box may subscribe to a filter. Wildcards are allowed below `req`, `cfg` and `job`
/// only, where everything is the box's own.
pub(crate) fn subscribe_allowed(id: &BoxId, filter: &str) -> bool {
    let Some((owner, tail)) = topic::split(filter) else { return false };
    if owner != *id {
        return false;
    }
    match tail.split('/').collect::<Vec<_>>()[..] {
        ["ack"] | ["turn", "res"] => true,
        ["req" | "cfg" | "job", ref rest @ ..] => !rest.is_empty() && !rest[0].is_empty(),
        _ => false,
    }
}

/// Says whether a will may be left on a topic.
pub(crate) fn will_allowed(id: &BoxId, name: &str) -> bool {
    name == topic::conn(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> BoxId {
        "tl-a".parse().unwrap()
    }

    #[test]
    fn a_box_publishes_upwards_on_its_own_topics_only() {
        for good in ["conn", "evt/call", "turn", "tel", "res/cloud", "cfg/reported", "job/7/status"] {
            assert!(publish_allowed(&own(), &format!("tl/1/tl-a/{good}")), "{good}");
            assert!(!publish_allowed(&own(), &format!("tl/1/tl-b/{good}")), "{good}");
            assert!(!publish_allowed(&own(), &format!("tl/1/tl-a{good}")), "{good}");
        }
        for bad in
            ["ack", "turn/res", "req/dial", "cfg/desired", "job/next", "evt", "evt/", "evt/a/b", "conn/x", ""]
        {
            assert!(!publish_allowed(&own(), &format!("tl/1/tl-a/{bad}")), "{bad}");
        }
        for bad in ["", "#", "+/1/tl-a/conn", "tl/1/+/conn", "tl/2/tl-a/conn", "$SYS/x", "tl/1/tl-a/evt/+"] {
            assert!(!publish_allowed(&own(), bad), "{bad}");
        }
    }

    #[test]
    fn a_box_listens_downwards_on_its_own_topics_only() {
        for good in ["ack", "turn/res", "req/dial", "req/+", "req/#", "cfg/desired", "job/next", "job/+"] {
            assert!(subscribe_allowed(&own(), &format!("tl/1/tl-a/{good}")), "{good}");
            assert!(!subscribe_allowed(&own(), &format!("tl/1/tl-b/{good}")), "{good}");
        }
        for bad in ["#", "+", "+/res", "turn/+", "conn", "evt/call", "turn", "req", "req/", "tel"] {
            assert!(!subscribe_allowed(&own(), &format!("tl/1/tl-a/{bad}")), "{bad}");
        }
        for bad in ["#", "tl/#", "tl/1/#", "tl/1/+/ack", "tl/+/tl-a/ack", "$share/g/tl/1/tl-a/ack", "$SYS/#"]
        {
            assert!(!subscribe_allowed(&own(), bad), "{bad}");
        }
    }

    #[test]
    fn a_client_id_names_its_box() {
        assert!(client_id_allowed(&own(), "tl-a"));
        assert!(client_id_allowed(&own(), "tl-a:probe"));
        for bad in ["", "tl-b", "tl-ab", "tl-a.b", "x:tl-a"] {
            assert!(!client_id_allowed(&own(), bad), "{bad}");
        }
    }

    #[test]
    fn a_will_is_left_on_the_boxs_own_connection_topic_only() {
        assert!(will_allowed(&own(), "tl/1/tl-a/conn"));
        for bad in ["tl/1/tl-b/conn", "tl/1/tl-b/req/dial", "tl/1/tl-a/req/dial", "tl/1/tl-a/evt/call"] {
            assert!(!will_allowed(&own(), bad), "{bad}");
        }
    }
}
