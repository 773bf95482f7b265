//! Opt-outs and list entries on their way to the boxes, and each box's word that it has them.

use serde::{Deserialize, Serialize};
use trunkline_policy::{Change, Fingerprint};

/// One numbered change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppression {
    /// Its number: rises without end, for all boxes the same.
    pub n: u64,
    /// Whom it is about.
    pub who: Fingerprint,
    /// What became known.
    pub change: Change,
}

/// `req/suppress`: take these changes in, keep them, and say so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuppressCommand {
    /// The box must have everything up to this number already; otherwise it only says how far it is.
    pub after: u64,
    /// With these changes it has everything up to this number.
    pub upto: u64,
    /// The changes, in order.
    #[serde(default)]
    pub changes: Vec<Suppression>,
}

/// `res/suppress`: what the box has on its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuppressReply {
    /// Everything up to this number.
    pub upto: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_command_as_the_first_cloud_sent_it() {
        let read: SuppressCommand = serde_json::from_str(include_str!("golden/suppress.v1.json")).unwrap();
        assert_eq!((read.after, read.upto, read.changes.len()), (40, 43, 3));
        assert!(matches!(read.changes[0].change, Change::OptedOut(_)));
        assert!(matches!(&read.changes[1].change, Change::Listed(entry) if entry.list == "national"));
        assert_eq!(read.changes[2].change, Change::Unlisted("tenant".into()));
    }
}
