//! Calls that customers make: which script answers which number, and that somebody called.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trunkline_model::{CallId, Callee};

use crate::ScriptRef;

/// What answers calls to one of our numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberRoute {
    /// The binding, as the cloud names it.
    pub binding: String,
    /// The number that is called, in international form or as an extension; absent for every number that has no
    /// route of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    /// What to say.
    pub script: ScriptRef,
    /// The script's variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// The variable that takes the caller's number, where the script has one for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
}

/// `req/numbers`: these routes and no others. The box keeps them, so that calls are answered while the cloud is away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumbersCommand {
    /// Names this table: the box says it back.
    pub table: String,
    /// The routes; a number stands in them once, and so does its absence.
    #[serde(default)]
    pub routes: Vec<NumberRoute>,
    /// The word lists in force, each by the SHA-256 of its text, as in [`crate::DialCommand`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<String>,
}

/// `res/numbers`: the table that the box has on its disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumbersReply {
    /// As [`NumbersCommand::table`] said.
    pub table: String,
}

/// `call.inbound`, an event: a customer calls, and the box takes the call. The first event of that call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallInbound {
    /// The call; the box made the id.
    pub call: CallId,
    /// The route that was taken.
    pub binding: String,
    /// Who calls. Personal data.
    pub caller: Callee,
    /// The number that was called, as the route has it or as the trunk wrote it.
    pub called: String,
    /// The trunk that it came from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trunk: String,
    /// What is said.
    pub script: ScriptRef,
    /// The script's variables, the caller's number among them where the script has one for it. Personal data.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// When it rang.
    pub rang: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_table_as_the_first_cloud_with_numbers_sent_it() {
        let read: NumbersCommand = serde_json::from_str(include_str!("golden/numbers.v1.json")).unwrap();
        assert_eq!((read.table.as_str(), read.routes.len(), read.words.len()), ("5d41", 2, 1));
        assert_eq!(read.routes[0].number.as_deref(), Some("+862155550100"));
        assert_eq!(read.routes[0].phone.as_deref(), Some("phone"));
        assert_eq!((&read.routes[1].number, read.routes[1].variables["org"].as_str()), (&None, "和顺银行"));
    }

    #[test]
    fn reads_that_somebody_called_as_the_first_box_told_it() {
        let read: CallInbound = serde_json::from_str(include_str!("golden/call_inbound.v1.json")).unwrap();
        assert_eq!(read.call, CallId::from_u128(43));
        assert_eq!((read.caller.reveal(), read.called.as_str()), ("+8613800138000", "+862155550100"));
        assert!(!format!("{read:?}").contains("13800138000"));
    }
}
