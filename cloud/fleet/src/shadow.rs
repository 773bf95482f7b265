//! What a box should be (desired) against what it says it is (reported), and who changed what.

use std::collections::BTreeSet;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use trunkline_trust::{Sha256, canonical, sha256};

/// A document with its version and hash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DesiredDocument")]
pub struct Document {
    /// Counts up with each change.
    pub version: u64,
    /// SHA-256 of the canonical form of the body.
    pub hash: Sha256,
    /// What it says.
    pub body: Value,
}

/// A body that holds a number with a fraction, which has no canonical form.
#[derive(Debug, thiserror::Error)]
#[error("the document cannot be hashed")]
pub struct Unhashable(#[from] canonical::CanonicalError);

impl Document {
    /// Makes the document of this version.
    ///
    /// # Errors
    /// [`Unhashable`].
    pub fn new(version: u64, body: Value) -> Result<Self, Unhashable> {
        let hash = sha256(&canonical::to_bytes(&body)?);
        Ok(Self { version, hash, body })
    }
}

/// What a box says it made of its desired document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reported {
    /// The desired version that it looked at last.
    pub version: u64,
    /// Its hash: the box may have seen another document under this number.
    pub hash: Sha256,
    /// What is in force on it.
    pub body: Value,
    /// What it could not apply, and why.
    #[serde(default)]
    pub problems: Vec<Problem>,
    /// When it said so, by the cloud's clock.
    pub at: Timestamp,
}

/// A part of the desired document that a box could not apply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Where in the document, as `/trunk/proxy` (RFC 6901).
    pub path: String,
    /// Why.
    pub reason: String,
}

/// One difference between what should be and what is.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Difference {
    /// Where, as `/trunk/proxy`.
    pub path: String,
    /// What should be there; none: nothing.
    pub wanted: Option<Value>,
    /// What is there.
    pub found: Option<Value>,
    /// Why, if the box has said so.
    pub reason: Option<String>,
}

/// How a box stands to its desired document.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "sync", rename_all = "snake_case")]
pub enum Sync {
    /// It never reported.
    NeverReported,
    /// It has not looked at this version yet.
    Behind {
        /// The version that it looked at last.
        reported: u64,
    },
    /// It claims a newer version, or another document under the same number: somebody restored a backup.
    Confused,
    /// Everything is in force.
    InSync,
    /// It looked and could not apply everything.
    Differs {
        /// What is different.
        differences: Vec<Difference>,
    },
}

/// Compares what a box should be with what it says it is. What the box reports beyond what was asked of it is
/// no difference.
pub fn compare(desired: &Document, reported: Option<&Reported>) -> Sync {
    let Some(reported) = reported else { return Sync::NeverReported };
    if reported.version < desired.version {
        return Sync::Behind { reported: reported.version };
    }
    if reported.version > desired.version || reported.hash != desired.hash {
        return Sync::Confused;
    }
    let mut differences = Vec::new();
    diff("", Some(&desired.body), Some(&reported.body), false, &mut differences);
    for difference in &mut differences {
        let problem = reported.problems.iter().find(|problem| covers(&problem.path, &difference.path));
        difference.reason = problem.map(|problem| problem.reason.clone());
    }
    if differences.is_empty() { Sync::InSync } else { Sync::Differs { differences } }
}

/// One change of a desired document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DesiredEntry")]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// What it was from then on.
    pub document: Document,
}

/// Every desired document that a box ever had.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    entries: Vec<Entry>,
}

impl History {
    /// Reads a history from its entries, oldest first.
    pub fn new(entries: Vec<Entry>) -> Self {
        Self { entries }
    }

    /// Adds a change; returns the new document, or none when nothing is different.
    ///
    /// # Errors
    /// [`Unhashable`].
    pub fn change(&mut self, by: &str, body: Value, now: Timestamp) -> Result<Option<&Document>, Unhashable> {
        let last = self.entries.last().map(|entry| &entry.document);
        let document = Document::new(last.map_or(0, |last| last.version) + 1, body)?;
        if last.is_some_and(|last| last.hash == document.hash) {
            return Ok(None);
        }
        self.entries.push(Entry { at: now, by: by.into(), document });
        Ok(self.entries.last().map(|entry| &entry.document))
    }

    /// Returns the entries, oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns what was wanted at a moment.
    pub fn in_force(&self, at: Timestamp) -> Option<&Entry> {
        self.entries.iter().rev().find(|entry| entry.at <= at)
    }

    /// Returns what a version changed against the one before it.
    pub fn changed_by(&self, version: u64) -> Vec<Difference> {
        let at = self.entries.iter().position(|entry| entry.document.version == version);
        let Some(at) = at else { return Vec::new() };
        let empty = json!({});
        let before = at.checked_sub(1).map_or(&empty, |before| &self.entries[before].document.body);
        let mut differences = Vec::new();
        diff("", Some(&self.entries[at].document.body), Some(before), true, &mut differences);
        differences
    }
}

/// Collects differences; `both` also those that only `found` has.
fn diff(path: &str, wanted: Option<&Value>, found: Option<&Value>, both: bool, out: &mut Vec<Difference>) {
    if let (Some(Value::Object(wanted)), Some(Value::Object(found))) = (wanted, found) {
        let mut keys: BTreeSet<&String> = wanted.keys().collect();
        if both {
            keys.extend(found.keys());
        }
        let get = |map: &'_ Map<String, Value>, key: &str| map.get(key).cloned();
        for key in keys {
            let below = format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
            diff(&below, get(wanted, key).as_ref(), get(found, key).as_ref(), both, out);
        }
    } else if wanted != found {
        let (wanted, found) = (wanted.cloned(), found.cloned());
        out.push(Difference { path: path.into(), wanted, found, reason: None });
    }
}

/// Says whether a problem at `above` explains a difference at `path`.
fn covers(above: &str, path: &str) -> bool {
    path == above || path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/')) || above.is_empty()
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;

    fn t0() -> Timestamp {
        "2026-06-02T10:00:00Z".parse().unwrap()
    }

    fn reported(of: &Document, body: Value) -> Reported {
        Reported { version: of.version, hash: of.hash, body, problems: vec![], at: t0() }
    }

    #[test]
    fn a_box_that_applied_everything_is_in_sync_also_when_it_reports_more() {
        let desired = Document::new(3, json!({"trunk": {"proxy": "a"}, "channels": 4})).unwrap();
        let more = json!({"trunk": {"proxy": "a", "state": "up"}, "channels": 4, "uptime": 7});
        assert_eq!(compare(&desired, Some(&reported(&desired, more))), Sync::InSync);
        assert_eq!(compare(&desired, None), Sync::NeverReported);
    }

    #[test]
    fn what_a_box_could_not_apply_is_shown_with_its_reason() {
        let desired = Document::new(3, json!({"trunk": {"proxy": "a"}, "channels": 4, "gsm": 1})).unwrap();
        let mut report = reported(&desired, json!({"trunk": {"proxy": "b"}, "channels": 4}));
        report.problems = vec![Problem { path: "/trunk".into(), reason: "the proxy does not answer".into() }];
        let Sync::Differs { differences } = compare(&desired, Some(&report)) else { panic!("in sync") };
        let seen: Vec<(&str, Option<&str>)> =
            differences.iter().map(|one| (one.path.as_str(), one.reason.as_deref())).collect();
        assert_eq!(seen, [("/gsm", None), ("/trunk/proxy", Some("the proxy does not answer"))]);
    }

    #[test]
    fn an_older_and_a_foreign_document_are_told_apart() {
        let old = Document::new(2, json!({"a": 1})).unwrap();
        let desired = Document::new(3, json!({"a": 2})).unwrap();
        let behind = reported(&old, json!({"a": 1}));
        assert_eq!(compare(&desired, Some(&behind)), Sync::Behind { reported: 2 });
        let foreign = Document::new(3, json!({"a": 3})).unwrap();
        assert_eq!(compare(&desired, Some(&reported(&foreign, json!({"a": 3})))), Sync::Confused);
    }

    #[test]
    fn the_history_says_what_was_in_force_last_tuesday_who_changed_it_and_what() {
        let hour = SignedDuration::from_hours(1);
        let mut history = History::default();
        history.change("li", json!({"channels": 2, "old": true}), t0()).unwrap();
        history.change("mei", json!({"channels": 4}), t0() + hour).unwrap();
        let unchanged = history.change("mei", json!({"channels": 4}), t0() + hour * 2).unwrap();
        assert!(unchanged.is_none(), "saving the same again is no change");
        assert!(history.in_force(t0() - hour).is_none());
        let then = history.in_force("2026-06-02T10:32:00Z".parse().unwrap()).unwrap();
        assert_eq!((then.by.as_str(), &then.document.body["channels"]), ("li", &json!(2)));
        assert_eq!(history.in_force(t0() + hour * 9).unwrap().by, "mei");
        let paths: Vec<String> = history.changed_by(2).into_iter().map(|one| one.path).collect();
        assert_eq!(paths, ["/channels", "/old"]);
    }

    proptest! {
        #[test]
        fn a_document_differs_from_itself_in_nothing(keys in prop::collection::btree_map("[a-c/~]{0,3}", 0i64..3, 0..5)) {
            let body = json!({"x": keys, "y": [1, 2]});
            let document = Document::new(1, body.clone()).unwrap();
            prop_assert_eq!(compare(&document, Some(&reported(&document, body))), Sync::InSync);
        }
    }
}
