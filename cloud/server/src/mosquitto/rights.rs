//! Which boxes a Mosquitto lets speak, without I/O: the commands for its dynamic security plugin.
//!
//! Each enrolled box is a client of that plugin with a role of its own, which opens the box's topics in the right
//! direction (as `acl.rs` has them) and nothing else. Who is no client can open a connection, when its certificate is
//! signed by our authority, and is then denied every topic. Taking a client away ends its connections at once.
//!
//! **Invariant:** what is not known to be enrolled has no rights; the plugin's defaults deny.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use trunkline_model::BoxId;

/// Where commands go.
pub(crate) const CONTROL: &str = "$CONTROL/dynamic-security/v1";
/// Where they are answered.
pub(crate) const ANSWERS: &str = "$CONTROL/dynamic-security/v1/response";
/// The user, the common name of a certificate, under whose name the cloud comes.
pub(crate) const CLOUD: &str = "cloud";

/// What a box may publish, below `tl/1/{box}/`.
const UP: [&str; 7] = ["conn", "turn", "tel", "evt/+", "res/+", "cfg/reported", "job/+/status"];
/// What it may hear there.
const DOWN: [&str; 5] = ["ack", "turn/res", "req/#", "cfg/#", "job/#"];
/// Boxes told of in one message: some 60 KiB.
const BATCH: usize = 50;
/// Clients asked for in one message.
const PAGE: usize = 1_000;

/// What is known of the plugin's clients.
#[derive(Debug, Default)]
pub(crate) struct Rights {
    /// The boxes that have rights; `None` while they are still being asked for.
    known: Option<BTreeSet<BoxId>>,
    listed: BTreeSet<BoxId>,
    offset: usize,
    asked: bool,
}

impl Rights {
    /// A new connection: nothing is known.
    pub(crate) fn handle_connected(&mut self) {
        *self = Self::default();
    }

    /// Takes an answer of the plugin; `Err` says what it refused, and everything is asked for again.
    pub(crate) fn handle_answer(&mut self, payload: &[u8]) -> Result<(), String> {
        let answer: Value = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
        for one in answer["responses"].as_array().into_iter().flatten() {
            let error = one["error"].as_str().unwrap_or_default();
            // Somebody was faster, or it is repeated: all the same.
            if !error.is_empty() && !error.ends_with("already exists") && !error.ends_with("not found") {
                let refused = format!("{}: {error}", one["command"].as_str().unwrap_or("a command"));
                self.handle_connected();
                return Err(refused);
            }
            if one["command"] == "listClients" && self.asked && self.known.is_none() {
                self.take_page(&one["data"]);
            }
        }
        Ok(())
    }

    fn take_page(&mut self, data: &Value) {
        let clients = data["clients"].as_array().map(Vec::as_slice).unwrap_or_default();
        // Who is not named like a box is none of ours.
        let boxes = clients.iter().filter_map(Value::as_str).filter(|name| *name != CLOUD);
        self.listed.extend(boxes.filter_map(|name| name.parse::<BoxId>().ok()));
        self.offset += clients.len();
        self.asked = false;
        let total = data["totalCount"].as_u64().unwrap_or_default();
        if clients.is_empty() || self.offset as u64 >= total {
            self.known = Some(std::mem::take(&mut self.listed));
        }
    }

    /// Returns the next message for the plugin, so that the boxes in `wanted` and no others have rights.
    pub(crate) fn poll(&mut self, wanted: &BTreeSet<BoxId>) -> Option<Value> {
        let Some(known) = &mut self.known else {
            if self.asked {
                return None;
            }
            self.asked = true;
            return Some(commands(vec![
                json!({ "command": "listClients", "verbose": false, "count": PAGE, "offset": self.offset }),
            ]));
        };
        let gone: Vec<BoxId> = known.difference(wanted).take(BATCH).cloned().collect();
        let new: Vec<BoxId> = wanted.difference(known).take(BATCH - gone.len()).cloned().collect();
        if gone.is_empty() && new.is_empty() {
            return None;
        }
        let mut all = Vec::new();
        for id in gone {
            all.extend(expel(&id));
            known.remove(&id);
        }
        for id in new {
            all.extend(admit(&id));
            known.insert(id);
        }
        Some(commands(all))
    }

    /// Takes a box's rights at once, whatever is known of it. Returns the message, and whether it had any.
    pub(crate) fn take_from(&mut self, id: &BoxId) -> (Value, bool) {
        let had = self.known.as_mut().is_none_or(|known| known.remove(id));
        (commands(expel(id).to_vec()), had)
    }
}

/// The rights that the cloud itself needs, and no box: what the plugin begins with.
pub(crate) fn first() -> Value {
    let acls: Vec<Value> =
        [("publishClientSend", CONTROL), ("publishClientReceive", ANSWERS), ("subscribePattern", ANSWERS)]
            .into_iter()
            .chain(
                ["publishClientSend", "publishClientReceive", "subscribePattern"]
                    .map(|kind| (kind, "tl/1/#")),
            )
            .map(|(kind, topic)| allow(kind, topic))
            .collect();
    json!({
        "defaultACLAccess": {
            "publishClientSend": false, "publishClientReceive": false, "subscribe": false, "unsubscribe": true,
        },
        "clients": [{ "username": CLOUD, "roles": [{ "rolename": CLOUD }] }],
        "roles": [{ "rolename": CLOUD, "acls": acls }],
    })
}

fn commands(commands: Vec<Value>) -> Value {
    json!({ "commands": commands })
}

fn allow(kind: &str, topic: &str) -> Value {
    json!({ "acltype": kind, "topic": topic, "priority": 0, "allow": true })
}

/// A box that came before it had rights hears nothing and does not know it: its connections are ended, and it comes
/// again.
fn admit(id: &BoxId) -> [Value; 4] {
    let topic = |tail: &str| format!("tl/1/{id}/{tail}");
    let up = UP.iter().map(|tail| allow("publishClientSend", &topic(tail)));
    let down = ["publishClientReceive", "subscribePattern"]
        .into_iter()
        .flat_map(|kind| DOWN.iter().map(move |tail| allow(kind, &topic(tail))));
    let acls: Vec<Value> = up.chain(down).collect();
    [
        json!({ "command": "createRole", "rolename": id, "acls": acls }),
        json!({ "command": "createClient", "username": id, "roles": [{ "rolename": id }] }),
        json!({ "command": "disableClient", "username": id }),
        json!({ "command": "enableClient", "username": id }),
    ]
}

fn expel(id: &BoxId) -> [Value; 2] {
    [json!({ "command": "deleteClient", "username": id }), json!({ "command": "deleteRole", "rolename": id })]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl;

    fn ids(names: &[&str]) -> BTreeSet<BoxId> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn page(total: usize, clients: &[&str]) -> Vec<u8> {
        let data = json!({ "totalCount": total, "clients": clients });
        json!({ "responses": [{ "command": "listClients", "data": data }] }).to_string().into_bytes()
    }

    fn names(message: &Value) -> Vec<String> {
        let all = message["commands"].as_array().unwrap().iter();
        let clients = all.filter(|one| one["username"].is_string());
        clients
            .map(|one| format!("{} {}", one["command"].as_str().unwrap(), one["username"].as_str().unwrap()))
            .collect()
    }

    #[test]
    fn who_is_enrolled_gets_rights_and_who_is_not_any_more_loses_them() {
        let mut rights = Rights::default();
        let wanted = ids(&["tl-a", "tl-b"]);
        let ask = rights.poll(&wanted).unwrap();
        assert_eq!(ask["commands"][0]["command"], "listClients");
        assert_eq!(rights.poll(&wanted), None, "it waits for the answer");
        rights.handle_answer(&page(3, &["cloud", "tl-b"])).unwrap();
        let ask = rights.poll(&wanted).unwrap();
        assert_eq!(ask["commands"][0]["offset"], 2, "there is another page");
        rights.handle_answer(&page(3, &["tl-old"])).unwrap();
        let message = rights.poll(&wanted).unwrap();
        assert_eq!(
            names(&message),
            ["deleteClient tl-old", "createClient tl-a", "disableClient tl-a", "enableClient tl-a"]
        );
        assert_eq!(rights.poll(&wanted), None);
        assert_eq!(names(&rights.poll(&ids(&["tl-a"])).unwrap()), ["deleteClient tl-b"]);
    }

    #[test]
    fn a_box_that_is_thrown_out_is_gone_at_once_also_before_anything_is_known() {
        let mut rights = Rights::default();
        assert_eq!(names(&rights.take_from(&"tl-a".parse().unwrap()).0), ["deleteClient tl-a"]);
        rights.poll(&ids(&[]));
        rights.handle_answer(&page(2, &["cloud", "tl-a"])).unwrap();
        assert!(rights.take_from(&"tl-a".parse().unwrap()).1);
        assert!(!rights.take_from(&"tl-a".parse().unwrap()).1, "the second time there is nobody");
    }

    #[test]
    fn what_is_refused_is_said_and_asked_for_again() {
        let mut rights = Rights::default();
        rights.poll(&ids(&[]));
        rights.handle_answer(&page(1, &["cloud"])).unwrap();
        rights.poll(&ids(&["tl-a"]));
        let known = br#"{"responses":[{"command":"createClient","error":"Client already exists"}]}"#;
        assert!(rights.handle_answer(known).is_ok());
        let refused = br#"{"responses":[{"command":"createRole","error":"Internal error"}]}"#;
        assert_eq!(rights.handle_answer(refused).unwrap_err(), "createRole: Internal error");
        assert_eq!(rights.poll(&ids(&[])).unwrap()["commands"][0]["command"], "listClients");
        assert!(rights.handle_answer(b"nonsense").is_err());
    }

    #[test]
    fn a_boxs_role_opens_what_the_embedded_broker_opens() {
        let id: BoxId = "tl-a".parse().unwrap();
        let plain = |tail: &str| format!("tl/1/tl-a/{}", tail.replace(['+', '#'], "x"));
        assert!(UP.iter().all(|tail| acl::publish_allowed(&id, &plain(tail))));
        assert!(DOWN.iter().all(|tail| acl::subscribe_allowed(&id, &format!("tl/1/tl-a/{tail}"))));
        let role = &admit(&id)[0]["acls"];
        let topics: Vec<&str> =
            role.as_array().unwrap().iter().map(|acl| acl["topic"].as_str().unwrap()).collect();
        assert_eq!(topics.len(), UP.len() + 2 * DOWN.len());
        assert!(topics.iter().all(|topic| topic.starts_with("tl/1/tl-a/")));
    }
}
