//! The four kinds of metadata of TUF and the box's assignment, as types (TUF specification 1.0, section 4).
//!
//! Fields that this version does not know stay in `rest`: signatures cover them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::envelope::RoleKeys;
use crate::hash::Sha256;
use crate::key::{KeyId, PublicKey};

/// The version of the TUF specification that is written; any 1.x is read.
pub const SPEC_VERSION: &str = "1.0.31";

/// What every kind of metadata says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// `root`, `targets`, `snapshot`, `timestamp` or `assignment`.
    #[serde(rename = "_type")]
    pub kind: String,
    /// The version of the specification, `1.…`.
    pub spec_version: String,
    /// Counts up from 1 with every new document of this role.
    pub version: u64,
    /// From this moment on it is not to be believed.
    pub expires: Timestamp,
}

impl Header {
    /// Starts a document of `kind`.
    pub fn new(kind: &str, version: u64, expires: Timestamp) -> Self {
        // Whole seconds, as the specification has it.
        let expires = Timestamp::from_second(expires.as_second()).unwrap_or(expires);
        Self { kind: kind.into(), spec_version: SPEC_VERSION.into(), version, expires }
    }
}

/// Who may sign what; signed offline by several people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Root {
    /// What every kind says.
    #[serde(flatten)]
    pub header: Header,
    /// Files other than `timestamp.json` carry their version or hash in their name.
    pub consistent_snapshot: bool,
    /// Every key that a role names.
    pub keys: BTreeMap<KeyId, KeyEntry>,
    /// The keys of each of the four roles.
    pub roles: BTreeMap<String, RoleKeys>,
    /// Who may tell a box what to run. A field of ours: the specification has no such role.
    #[serde(rename = "x-assignment", skip_serializing_if = "Option::is_none")]
    pub assignment: Option<RoleKeys>,
    /// Unknown fields.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Root {
    /// Returns the keys of this document that can be used, by their ids.
    pub fn public_keys(&self) -> BTreeMap<KeyId, PublicKey> {
        usable(&self.keys)
    }

    /// Returns the keys of a role; a role that is missing can be signed by nobody.
    pub fn role(&self, name: &str) -> RoleKeys {
        self.roles.get(name).cloned().unwrap_or(RoleKeys { keyids: Vec::new(), threshold: u32::MAX })
    }
}

/// A key as metadata has it. Kinds other than Ed25519 are kept and never used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyEntry {
    keytype: String,
    scheme: String,
    keyval: KeyVal,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct KeyVal {
    public: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl From<PublicKey> for KeyEntry {
    fn from(key: PublicKey) -> Self {
        Self {
            keytype: "ed25519".into(),
            scheme: "ed25519".into(),
            keyval: KeyVal { public: key.to_hex(), rest: Map::new() },
            rest: Map::new(),
        }
    }
}

fn usable(keys: &BTreeMap<KeyId, KeyEntry>) -> BTreeMap<KeyId, PublicKey> {
    keys.iter()
        .filter(|(_, entry)| entry.keytype == "ed25519" && entry.scheme == "ed25519")
        .filter_map(|(id, entry)| Some((id.clone(), PublicKey::from_hex(&entry.keyval.public)?)))
        .collect()
}

/// What a document says about another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetaFile {
    /// Its version.
    pub version: u64,
    /// Its length in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Its hashes by algorithm; `sha256` is looked at.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hashes: BTreeMap<String, String>,
    /// Unknown fields.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl MetaFile {
    /// Describes a document.
    pub fn of(version: u64, bytes: &[u8]) -> Self {
        let hash = crate::hash::sha256(bytes).to_string();
        Self {
            version,
            length: Some(bytes.len() as u64),
            hashes: BTreeMap::from([("sha256".into(), hash)]),
            rest: Map::new(),
        }
    }

    /// Returns the SHA-256, if one is given.
    pub fn sha256(&self) -> Option<Sha256> {
        self.hashes.get("sha256")?.parse().ok()
    }
}

/// Which versions belong together, so that nobody can mix old with new.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// What every kind says.
    #[serde(flatten)]
    pub header: Header,
    /// Every document that says what targets there are, by its name such as `targets.json`.
    pub meta: BTreeMap<String, MetaFile>,
    /// Unknown fields.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Which snapshot is the newest; lives some days, so that nobody can hold a box back for longer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimestampMeta {
    /// What every kind says.
    #[serde(flatten)]
    pub header: Header,
    /// `snapshot.json` and nothing else.
    pub meta: BTreeMap<String, MetaFile>,
    /// Unknown fields.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Which files were released.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Targets {
    /// What every kind says.
    #[serde(flatten)]
    pub header: Header,
    /// The files by name.
    pub targets: BTreeMap<String, Target>,
    /// Who else may release files, and which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delegations: Option<Delegations>,
    /// Unknown fields.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// One released file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Its length in bytes.
    pub length: u64,
    /// Its hashes by algorithm; `sha256` must be there.
    pub hashes: BTreeMap<String, String>,
    /// What we say about it; see [`Release`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<Value>,
    /// Unknown fields.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Target {
    /// Returns the SHA-256, if one is given.
    pub fn sha256(&self) -> Option<Sha256> {
        self.hashes.get("sha256")?.parse().ok()
    }

    /// Returns what the release says about itself; `None` when it does not say all of it.
    pub fn release(&self) -> Option<Release> {
        serde_json::from_value(self.custom.clone()?).ok()
    }
}

/// What a released version says about itself, in its target's `custom`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The thing that has versions: `app`, `image`, `models`, `scripts`, …
    pub component: String,
    /// The version as people say it.
    pub version: String,
    /// Counts up with every release of the component; the floor compares these, not the texts.
    pub release: u64,
    /// Once this version was committed, releases below this number are refused on the box for ever.
    #[serde(default)]
    pub floor: u64,
    /// What it runs on; empty: on everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
}

/// Further roles below `targets`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delegations {
    /// Their keys.
    pub keys: BTreeMap<KeyId, KeyEntry>,
    /// The roles, the more important ones first.
    pub roles: Vec<Delegated>,
    /// Unknown fields.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Delegations {
    /// Returns the keys that can be used, by their ids.
    pub fn public_keys(&self) -> BTreeMap<KeyId, PublicKey> {
        usable(&self.keys)
    }
}

/// A role that may release some of the files, such as scripts, which change daily and cannot wait for
/// people with offline keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delegated {
    /// Its name; its document is `{name}.json`.
    pub name: String,
    /// Who signs for it.
    #[serde(flatten)]
    pub keys: RoleKeys,
    /// Names of files that it may release; `*` stands for any characters but `/`.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Files that match are looked up nowhere after this role.
    pub terminating: bool,
    /// Unknown fields.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Delegated {
    /// Says whether the role may release a file of this name.
    pub fn covers(&self, name: &str) -> bool {
        self.paths.iter().any(|pattern| matches(pattern.as_bytes(), name.as_bytes()))
    }
}

/// Matches `*` (any characters but `/`) and plain characters; without recursion, so that a pattern of
/// many stars costs no more than pattern times name.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if *byte == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, from)) if name[from] != b'/' => {
                    star = Some((at, from + 1));
                    (p, n) = (at + 1, from + 1);
                }
                _ => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// What one box is to run, signed online. Alone it moves nothing: each target must also be released,
/// under the same hash, by the offline keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// What every kind says; `version` counts up per box.
    #[serde(flatten)]
    pub header: Header,
    /// The box that is meant.
    #[serde(rename = "box")]
    pub box_id: String,
    /// What it is to run, at most one target per component.
    pub targets: Vec<AssignedTarget>,
    /// When it may switch.
    #[serde(default)]
    pub when: Schedule,
    /// Unknown fields.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Assignment {
    /// Starts an assignment for a box.
    pub fn new(box_id: &str, version: u64, expires: Timestamp, targets: Vec<AssignedTarget>) -> Self {
        let header = Header::new("assignment", version, expires);
        Self { header, box_id: box_id.into(), targets, when: Schedule::default(), rest: Map::new() }
    }
}

/// One thing that a box is to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AssignedTarget {
    /// The component.
    pub component: String,
    /// The target's name in the releases.
    pub name: String,
    /// The hash that the releases must have for it.
    pub sha256: Sha256,
}

/// When a box may switch to what it was assigned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Minutes of the local day, from and to; a window over midnight has from > to. None: at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<(u16, u16)>,
    /// From this moment on, the window is not waited for; calls still end first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The most that this box may fetch, in bytes per second; its part of what its site may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_s: Option<u64>,
    /// Set when a version that failed here before is to be tried once more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retry_failed: bool,
}

/// Returns a target's entry for bytes and what they are.
pub fn target_of(length: u64, sha256: Sha256, release: &Release) -> Target {
    Target {
        length,
        hashes: BTreeMap::from([("sha256".into(), sha256.to_string())]),
        custom: Some(json!(release)),
        rest: Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_matches_anything_but_a_slash() {
        let cases = [
            ("script-*", "script-abc.json", true),
            ("script-*", "script-", true),
            ("script-*", "app-1.json", false),
            ("*.json", "a/b.json", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-", false),
            ("", "", true),
            ("", "a", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_ends_in_time() {
        let (pattern, name) = ("*a".repeat(200), "a".repeat(5_000) + "b");
        assert!(!matches(pattern.as_bytes(), name.as_bytes()));
    }

    #[test]
    fn a_release_without_its_number_is_no_release() {
        let target = |custom| Target { length: 1, hashes: BTreeMap::new(), custom, rest: Map::new() };
        assert_eq!(target(None).release(), None);
        assert_eq!(target(Some(json!({"component": "app", "version": "1"}))).release(), None);
        let whole = json!({"component": "app", "version": "1", "release": 3, "later": true});
        assert_eq!(target(Some(whole)).release().unwrap().release, 3);
    }

    proptest! {
        #[test]
        fn every_name_matches_itself_and_a_star_per_part(name in "[a-z/.]{0,20}") {
            prop_assert!(matches(name.as_bytes(), name.as_bytes()));
            let stars: Vec<&str> = name.split('/').map(|_| "*").collect();
            prop_assert!(matches(stars.join("/").as_bytes(), name.as_bytes()));
        }
    }
}
