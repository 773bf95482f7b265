//! The author's side: documents are drafted, signed by several people, and published in an order in
//! which a box that looks at any moment sees the old state or the new one.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::client::{Client, TrustError};
use crate::envelope::{Envelope, EnvelopeError, RoleKeys};
use crate::key::{PublicKey, Signer};
use crate::meta::{Header, KeyEntry, MetaFile, Root, Snapshot, Targets, TimestampMeta};

/// Why a repository cannot be read or published.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// A file that must be there is not.
    #[error("the repository has no {0}")]
    Missing(String),
    /// A file cannot be read.
    #[error("{file} cannot be read: {reason}")]
    Unreadable {
        /// Which file.
        file: String,
        /// Why.
        reason: String,
    },
    /// A document is not signed by enough people, or not by the right ones.
    #[error("{document} cannot be published")]
    NotSigned {
        /// Which document.
        document: String,
        /// What is missing.
        source: EnvelopeError,
    },
    /// The number of a document does not follow the published one.
    #[error("{document} has version {version}, and {expected} comes next")]
    Version {
        /// Which document.
        document: String,
        /// Its version.
        version: u64,
        /// The version that comes next.
        expected: u64,
    },
    /// A document could not be signed.
    #[error("could not sign {document}")]
    Sign {
        /// Which document.
        document: String,
        /// Why.
        source: EnvelopeError,
    },
    /// A box would not believe the result; nothing was published.
    #[error("a box would refuse what would be published")]
    Refused(#[from] TrustError),
}

/// A role's keys when a root is made.
#[derive(Clone, Debug)]
pub struct Holders {
    /// The public keys.
    pub keys: Vec<PublicKey>,
    /// How many of them must sign.
    pub threshold: u32,
}

/// Who holds what, when a root is made.
#[derive(Clone, Debug)]
pub struct Ceremony {
    /// Offline; 2 of 3 is a good start.
    pub root: Holders,
    /// The releases. Offline; 2 of n.
    pub targets: Holders,
    /// Online.
    pub snapshot: Holders,
    /// Online.
    pub timestamp: Holders,
    /// Online: what each box is to run.
    pub assignment: Holders,
}

impl Ceremony {
    /// Returns the root document of this version, still unsigned.
    pub fn root(&self, version: u64, expires: Timestamp) -> Envelope {
        let mut keys = BTreeMap::new();
        let mut role = |holders: &Holders| {
            for key in &holders.keys {
                keys.insert(key.id(), KeyEntry::from(*key));
            }
            RoleKeys {
                keyids: holders.keys.iter().map(PublicKey::id).collect(),
                threshold: holders.threshold,
            }
        };
        let roles = BTreeMap::from([
            ("root".into(), role(&self.root)),
            ("targets".into(), role(&self.targets)),
            ("snapshot".into(), role(&self.snapshot)),
            ("timestamp".into(), role(&self.timestamp)),
        ]);
        let assignment = Some(role(&self.assignment));
        Envelope::new(json!(Root {
            header: Header::new("root", version, expires),
            consistent_snapshot: true,
            keys,
            roles,
            assignment,
            rest: Map::new(),
        }))
    }
}

/// How long the online documents live.
#[derive(Clone, Copy, Debug)]
pub struct Lives {
    /// The snapshot.
    pub snapshot: SignedDuration,
    /// The timestamp; a box cannot be held back for longer than this.
    pub timestamp: SignedDuration,
}

impl Default for Lives {
    fn default() -> Self {
        Self { snapshot: SignedDuration::from_hours(24 * 30), timestamp: SignedDuration::from_hours(24 * 7) }
    }
}

/// What is published now.
#[derive(Clone, Debug)]
pub struct Published {
    first_root: Vec<u8>,
    roots: u64,
    root: Root,
    targets: Option<Targets>,
    snapshot: Option<Snapshot>,
    timestamp: u64,
}

/// The file of the newest root, as a repository names it.
pub fn root_file(version: u64) -> String {
    format!("{version}.root.json")
}

/// The file of a role's document, as a repository names it.
pub fn role_file(role: &str, version: u64) -> String {
    format!("{version}.{role}.json")
}

impl Published {
    /// Reads what is published; `read` returns a metadata file by name.
    ///
    /// # Errors
    /// [`RepoError::Missing`] without a first root, [`RepoError::Unreadable`].
    pub fn read(mut read: impl FnMut(&str) -> Option<Vec<u8>>) -> Result<Self, RepoError> {
        let first_root = read(&root_file(1)).ok_or_else(|| RepoError::Missing(root_file(1)))?;
        let mut roots = 1;
        let mut newest = first_root.clone();
        while let Some(bytes) = read(&root_file(roots + 1)) {
            (newest, roots) = (bytes, roots + 1);
        }
        let root = document(&root_file(roots), &newest)?;
        let (mut snapshot, mut targets, mut timestamp) = (None, None, 0);
        if let Some(bytes) = read("timestamp.json") {
            let doc: TimestampMeta = document("timestamp.json", &bytes)?;
            timestamp = doc.header.version;
            let version = doc.meta.get("snapshot.json").map_or(0, |meta| meta.version);
            let file = role_file("snapshot", version);
            let bytes = read(&file).ok_or_else(|| RepoError::Missing(file.clone()))?;
            let doc: Snapshot = document(&file, &bytes)?;
            let version = doc.meta.get("targets.json").map_or(0, |meta| meta.version);
            let file = role_file("targets", version);
            let bytes = read(&file).ok_or_else(|| RepoError::Missing(file.clone()))?;
            targets = Some(document(&file, &bytes)?);
            snapshot = Some(doc);
        }
        Ok(Self { first_root, roots, root, targets, snapshot, timestamp })
    }

    /// Starts a repository from its first root, which must be signed.
    ///
    /// # Errors
    /// [`RepoError::Refused`] when the root is not signed as it says itself.
    pub fn start(first_root: Vec<u8>) -> Result<Self, RepoError> {
        let client = Client::open(&first_root, |_| None)?;
        let root = client.root().clone();
        let expected =
            RepoError::Version { document: "root".into(), version: root.header.version, expected: 1 };
        if root.header.version != 1 {
            return Err(expected);
        }
        Ok(Self { first_root, roots: 1, root, targets: None, snapshot: None, timestamp: 0 })
    }

    /// Returns the newest root.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Returns the newest releases; none before the first.
    pub fn targets(&self) -> Option<&Targets> {
        self.targets.as_ref()
    }

    /// Starts the next version of the releases as a copy of the published one, for people to change and sign.
    pub fn draft_targets(&self, expires: Timestamp) -> Targets {
        let version = self.targets.as_ref().map_or(0, |targets| targets.header.version) + 1;
        let header = Header::new("targets", version, expires);
        match &self.targets {
            Some(targets) => Targets { header, ..targets.clone() },
            None => Targets { header, targets: BTreeMap::new(), delegations: None, rest: Map::new() },
        }
    }

    /// Checks a new root: the next number, signed by the old keys and by its own.
    ///
    /// # Errors
    /// [`RepoError::Version`], [`RepoError::NotSigned`].
    pub fn check_root(&self, envelope: &Envelope) -> Result<Root, RepoError> {
        let new: Root = document("root", &envelope.to_bytes())?;
        let not_signed = |source| RepoError::NotSigned { document: "root".into(), source };
        envelope.verify(&self.root.public_keys(), &self.root.role("root")).map_err(not_signed)?;
        envelope.verify(&new.public_keys(), &new.role("root")).map_err(not_signed)?;
        self.check_version("root", new.header.version, self.roots + 1)?;
        Ok(new)
    }

    /// Publishes a new root, new releases or documents of delegated roles (by role name), or nothing but
    /// a new snapshot and timestamp. Returns the files in the order in which they are to be written:
    /// `timestamp.json` is the last, and until it is there nothing has changed for any box.
    ///
    /// `read` returns a published metadata file by name.
    ///
    /// # Errors
    /// [`RepoError`]; nothing is to be written then.
    pub fn publish(
        &self,
        new_root: Option<&Envelope>,
        new: &[(&str, &Envelope)],
        online: &dyn Signer,
        now: Timestamp,
        lives: Lives,
        mut read: impl FnMut(&str) -> Option<Vec<u8>>,
    ) -> Result<Vec<(String, Vec<u8>)>, RepoError> {
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        if let Some(envelope) = new_root {
            let root = self.check_root(envelope)?;
            files.push((root_file(root.header.version), envelope.to_bytes()));
        }
        let mut meta = self.snapshot.as_ref().map(|doc| doc.meta.clone()).unwrap_or_default();
        for (role, envelope) in new {
            let doc: Targets = document(role, &envelope.to_bytes())?;
            let name = format!("{role}.json");
            let before = meta.get(&name).map_or(0, |meta| meta.version);
            self.check_version(role, doc.header.version, before + 1)?;
            let bytes = envelope.to_bytes();
            meta.insert(name, MetaFile::of(doc.header.version, &bytes));
            files.push((role_file(role, doc.header.version), bytes));
        }
        let sign = |document: &str, value: Value| {
            let mut envelope = Envelope::new(value);
            let failed = |source| RepoError::Sign { document: document.into(), source };
            envelope.sign(online).map_err(failed)?;
            Ok::<_, RepoError>(envelope.to_bytes())
        };
        let version = self.snapshot.as_ref().map_or(0, |doc| doc.header.version) + 1;
        let header = Header::new("snapshot", version, now + lives.snapshot);
        let snapshot = sign("snapshot", json!(Snapshot { header, meta, rest: Map::new() }))?;
        let named = BTreeMap::from([("snapshot.json".into(), MetaFile::of(version, &snapshot))]);
        files.push((role_file("snapshot", version), snapshot));
        let header = Header::new("timestamp", self.timestamp + 1, now + lives.timestamp);
        let timestamp = sign("timestamp", json!(TimestampMeta { header, meta: named, rest: Map::new() }))?;
        files.push(("timestamp.json".into(), timestamp));

        // Look at it as a box would that knows nothing but the first root.
        let mut client = Client::open(&self.first_root, |_| None)?;
        client.begin(now);
        while let Some(fetch) = client.poll_fetch() {
            let new = files.iter().find(|(name, _)| *name == fetch.name).map(|(_, bytes)| bytes.clone());
            match new.or_else(|| read(&fetch.name)) {
                Some(bytes) => client.handle_file(&fetch.name, &bytes)?,
                None => client.handle_absent(&fetch.name)?,
            }
        }
        Ok(files)
    }

    fn check_version(&self, document: &str, version: u64, expected: u64) -> Result<(), RepoError> {
        if version != expected {
            return Err(RepoError::Version { document: document.into(), version, expected });
        }
        Ok(())
    }
}

fn document<T: DeserializeOwned>(file: &str, bytes: &[u8]) -> Result<T, RepoError> {
    let unreadable = |reason: String| RepoError::Unreadable { file: file.into(), reason };
    let envelope = Envelope::parse(bytes).map_err(|error| unreadable(error.to_string()))?;
    serde_json::from_value(envelope.signed().clone()).map_err(|error| unreadable(error.to_string()))
}
