//! The box's side: which file is fetched next, and whether it is believed (TUF specification 1.0, section 5).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeOwned;

use crate::envelope::{Envelope, EnvelopeError, RoleKeys};
use crate::hash::sha256;
use crate::key::{KeyId, PublicKey};
use crate::meta::{
    AssignedTarget, Assignment, Delegated, Header, MetaFile, Release, Root, Snapshot, Target, Targets,
    TimestampMeta,
};

/// The longest root document, in bytes.
pub const MAX_ROOT: u64 = 512 * 1024;
/// The longest timestamp document, in bytes.
pub const MAX_TIMESTAMP: u64 = 16 * 1024;
/// The longest snapshot document, in bytes, whatever the timestamp says.
pub const MAX_SNAPSHOT: u64 = 2 * 1024 * 1024;
/// The longest targets document, in bytes, whatever the snapshot says.
pub const MAX_TARGETS: u64 = 16 * 1024 * 1024;
/// How many new roots are followed in one refresh.
pub const MAX_NEW_ROOTS: u32 = 256;
/// How many delegated roles are read.
pub const MAX_DELEGATED: usize = 32;
/// A metadata file that is not whole after this time is given up: a server may be slow, but not for ever.
pub const METADATA_DEADLINE: Duration = Duration::from_secs(60);

/// Why metadata, a target or an assignment is not believed. What was trusted before stays so.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The outer shape or the signatures are wrong.
    #[error("{file}")]
    Envelope {
        /// Which file.
        file: String,
        /// What is wrong.
        source: EnvelopeError,
    },
    /// Rightly signed, but not what this version can read.
    #[error("{file} is signed and cannot be read: {reason}")]
    Content {
        /// Which file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// Longer than allowed.
    #[error("{file} has {length} bytes, {max} are allowed")]
    TooLong {
        /// Which file.
        file: String,
        /// How long it is; at least, when it was cut off.
        length: u64,
        /// How long it may be.
        max: u64,
    },
    /// An older version than the one that is trusted already: a roll-back.
    #[error("{file} is version {offered}, and version {trusted} is known already")]
    RolledBack {
        /// Which file.
        file: String,
        /// The version that was offered.
        offered: u64,
        /// The version that is trusted.
        trusted: u64,
    },
    /// Past its date: somebody may be holding newer versions back.
    #[error("{file} expired at {expires}")]
    Expired {
        /// Which file.
        file: String,
        /// When.
        expires: Timestamp,
    },
    /// Not the file that the document above it names: parts of different versions were mixed.
    #[error("{file} is not the one that {named_by} names")]
    Mixed {
        /// Which file.
        file: String,
        /// Which document names another.
        named_by: String,
    },
    /// A file that must exist is not there.
    #[error("{0} is missing")]
    Missing(String),
    /// A file came that was not asked for.
    #[error("{0} was not asked for")]
    Unexpected(String),
    /// More new roots than are followed.
    #[error("more than {MAX_NEW_ROOTS} new roots")]
    TooManyRoots,
    /// No release has this name, or its delegation does not allow it.
    #[error("no release is named `{0}`")]
    Unknown(String),
    /// The assignment is for another box.
    #[error("the assignment is for `{0}`")]
    OtherBox(String),
    /// The releases have another hash under this name than the assignment: one of the two keys was misused.
    #[error("the assignment and the releases name different hashes for `{0}`")]
    Disagree(String),
}

/// A file to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Its name below the repository's metadata.
    pub name: String,
    /// Stop reading after this many bytes, and hand in what was read so far: it will be refused.
    pub max_bytes: u64,
    /// Stop after this time.
    pub within: Duration,
}

/// What is trusted, and how far a refresh has come.
#[derive(Clone, Debug)]
pub struct Client {
    root: Root,
    timestamp: Option<Trusted<TimestampMeta>>,
    snapshot: Option<Trusted<Snapshot>>,
    /// `targets` and the delegated roles, by role name.
    targets: BTreeMap<String, Trusted<Targets>>,
    step: Step,
    now: Timestamp,
    new_roots: u32,
    save: VecDeque<(String, Option<Vec<u8>>)>,
}

#[derive(Clone, Debug)]
struct Trusted<T> {
    doc: T,
    bytes: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Idle,
    Root,
    Timestamp,
    Snapshot,
    /// Roles that are still to be read.
    Targets(VecDeque<String>),
}

impl Client {
    /// Starts from the root that came with the box and from what was saved later (by
    /// [`Self::poll_save`]; `read` returns a saved file). Saved files that the keys do not vouch for are left out.
    ///
    /// # Errors
    /// [`TrustError`] when `factory_root` is not a root that its own keys have signed.
    pub fn open(
        factory_root: &[u8],
        mut read: impl FnMut(&str) -> Option<Vec<u8>>,
    ) -> Result<Self, TrustError> {
        let root = own_root(factory_root)?;
        let root = match read(ROOT).map(|bytes| own_root(&bytes)) {
            Some(Ok(saved)) if saved.header.version >= root.header.version => saved,
            _ => root,
        };
        let mut client = Self {
            root,
            timestamp: None,
            snapshot: None,
            targets: BTreeMap::new(),
            step: Step::Idle,
            now: Timestamp::UNIX_EPOCH,
            new_roots: 0,
            save: VecDeque::new(),
        };
        if let Some(bytes) = read(TIMESTAMP) {
            client.timestamp = client.read_timestamp(&bytes).ok();
        }
        if let (Some(bytes), Some(_)) = (read(SNAPSHOT), &client.timestamp) {
            client.snapshot = client.read_snapshot(&bytes).ok();
        }
        if client.snapshot.is_some() {
            let mut roles = VecDeque::from([TARGETS_ROLE.to_owned()]);
            while let Some(role) = roles.pop_front() {
                let doc = read(&file_of(&role)).and_then(|bytes| client.read_targets(&role, &bytes).ok());
                if let Some(doc) = doc {
                    client.targets.insert(role.clone(), doc);
                    if role == TARGETS_ROLE {
                        roles.extend(client.delegated().iter().map(|role| role.name.clone()));
                    }
                }
            }
        }
        Ok(client)
    }

    /// Begins to ask for what is new; a refresh under way starts again. `now` should never be before
    /// the day the software was built, however wrong the clock is.
    pub fn begin(&mut self, now: Timestamp) {
        self.now = now;
        self.new_roots = 0;
        self.step = Step::Root;
    }

    /// Returns the file to fetch next; `None` when nothing is under way.
    pub fn poll_fetch(&self) -> Option<Fetch> {
        let (name, max_bytes) = match &self.step {
            Step::Idle => return None,
            Step::Root => (format!("{}.root.json", self.root.header.version + 1), MAX_ROOT),
            Step::Timestamp => (TIMESTAMP.to_owned(), MAX_TIMESTAMP),
            Step::Snapshot => {
                let meta = self.snapshot_meta()?;
                (format!("{}.{SNAPSHOT}", meta.version), limit(meta, MAX_SNAPSHOT))
            }
            Step::Targets(roles) => {
                let role = roles.front()?;
                let meta = self.targets_meta(role)?;
                (format!("{}.{}", meta.version, file_of(role)), limit(meta, MAX_TARGETS))
            }
        };
        Some(Fetch { name, max_bytes, within: METADATA_DEADLINE })
    }

    /// Takes the file that was asked for.
    ///
    /// # Errors
    /// [`TrustError`]; the refresh is then over, and what was trusted before stays trusted.
    pub fn handle_file(&mut self, name: &str, bytes: &[u8]) -> Result<(), TrustError> {
        let result = self.take(name, bytes);
        if result.is_err() {
            self.step = Step::Idle;
        }
        result
    }

    /// The file that was asked for does not exist (404 or 403). For a root this says that there is none newer.
    ///
    /// # Errors
    /// [`TrustError::Missing`] for any other file, [`TrustError::Expired`] for the root that is left.
    pub fn handle_absent(&mut self, name: &str) -> Result<(), TrustError> {
        if self.step != Step::Root {
            self.step = Step::Idle;
            return Err(TrustError::Missing(name.into()));
        }
        self.step = Step::Idle;
        self.check_date(ROOT, &self.root.header)?;
        self.step = Step::Timestamp;
        Ok(())
    }

    /// Gives a refresh up, because a file could not be fetched. What was trusted before stays so.
    pub fn abort(&mut self) {
        self.step = Step::Idle;
    }

    /// Returns a file to save durably under this name, or (`None`) to remove. Drain it after every
    /// `handle_*`; files are complete, and any prefix of the row of changes may be lost.
    pub fn poll_save(&mut self) -> Option<(String, Option<Vec<u8>>)> {
        self.save.pop_front()
    }

    /// Returns the root that is trusted.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Returns a release by name, if everything above it is in date.
    ///
    /// # Errors
    /// [`TrustError::Unknown`], [`TrustError::Expired`], [`TrustError::Missing`] before the first refresh.
    pub fn target(&self, name: &str, now: Timestamp) -> Result<&Target, TrustError> {
        let timestamp = self.timestamp.as_ref().ok_or_else(|| TrustError::Missing(TIMESTAMP.into()))?;
        let snapshot = self.snapshot.as_ref().ok_or_else(|| TrustError::Missing(SNAPSHOT.into()))?;
        let targets =
            self.targets.get(TARGETS_ROLE).ok_or_else(|| TrustError::Missing("targets.json".into()))?;
        for (file, header) in [
            (ROOT, &self.root.header),
            (TIMESTAMP, &timestamp.doc.header),
            (SNAPSHOT, &snapshot.doc.header),
            ("targets.json", &targets.doc.header),
        ] {
            date(file, header, now)?;
        }
        if let Some(target) = targets.doc.targets.get(name) {
            return Ok(target);
        }
        for role in self.delegated().iter().filter(|role| role.covers(name)) {
            if let Some(found) = self.targets.get(&role.name)
                && let Some(target) = found.doc.targets.get(name)
            {
                date(&file_of(&role.name), &found.doc.header, now)?;
                return Ok(target);
            }
            if role.terminating {
                break;
            }
        }
        Err(TrustError::Unknown(name.into()))
    }

    /// Returns every release by name, those of `targets` and then those of delegated roles.
    pub fn releases(&self) -> impl Iterator<Item = (&str, &Target)> {
        let own = self.targets.get(TARGETS_ROLE).into_iter().flat_map(|doc| doc.doc.targets.iter());
        let delegated = self.delegated().iter().flat_map(|role| {
            let doc = self.targets.get(&role.name).into_iter();
            doc.flat_map(|doc| doc.doc.targets.iter()).filter(|(name, _)| role.covers(name))
        });
        own.chain(delegated).map(|(name, target)| (name.as_str(), target))
    }

    /// Reads an assignment: rightly signed, for this box, newer than `last`, in date, and each target
    /// released under the same hash for the component that is meant.
    ///
    /// # Errors
    /// [`TrustError`]; the box then stays as it is.
    pub fn check_assignment(
        &self,
        bytes: &[u8],
        box_id: &str,
        last: u64,
        now: Timestamp,
    ) -> Result<Assignment, TrustError> {
        const FILE: &str = "assignment";
        let keys = self.root.assignment.clone();
        let keys = keys.ok_or_else(|| TrustError::Missing("the root's keys for assignments".into()))?;
        let doc: Assignment = open(FILE, bytes, FILE, &[(&self.root.public_keys(), &keys)])?;
        if doc.box_id != box_id {
            return Err(TrustError::OtherBox(doc.box_id));
        }
        if doc.header.version < last {
            return Err(rolled_back(FILE, doc.header.version, last));
        }
        date(FILE, &doc.header, now)?;
        for target in &doc.targets {
            self.agreed(target, now)?;
            if doc.targets.iter().filter(|other| other.component == target.component).count() > 1 {
                let reason = format!("`{}` is assigned twice", target.component);
                return Err(TrustError::Content { file: FILE.into(), reason });
            }
        }
        Ok(doc)
    }

    /// Returns the release that an assigned target names, if the releases know it under the same hash.
    ///
    /// # Errors
    /// [`TrustError::Disagree`], or as [`Self::target`].
    pub fn agreed(
        &self,
        assigned: &AssignedTarget,
        now: Timestamp,
    ) -> Result<(&Target, Release), TrustError> {
        let target = self.target(&assigned.name, now)?;
        let disagree = || TrustError::Disagree(assigned.name.clone());
        let release = target.release().ok_or_else(disagree)?;
        if target.sha256() != Some(assigned.sha256) || release.component != assigned.component {
            return Err(disagree());
        }
        Ok((target, release))
    }

    fn take(&mut self, name: &str, bytes: &[u8]) -> Result<(), TrustError> {
        let fetch = self.poll_fetch().filter(|fetch| fetch.name == name);
        let fetch = fetch.ok_or_else(|| TrustError::Unexpected(name.into()))?;
        let length = bytes.len() as u64;
        if length > fetch.max_bytes {
            return Err(TrustError::TooLong { file: name.into(), length, max: fetch.max_bytes });
        }
        match self.step.clone() {
            Step::Idle => Err(TrustError::Unexpected(name.into())),
            Step::Root => self.take_root(name, bytes),
            Step::Timestamp => self.take_timestamp(bytes),
            Step::Snapshot => self.take_snapshot(bytes),
            Step::Targets(roles) => self.take_targets(roles, bytes),
        }
    }

    fn take_root(&mut self, name: &str, bytes: &[u8]) -> Result<(), TrustError> {
        // Signed by the keys that were trusted, and by its own.
        let envelope = Envelope::parse(bytes).map_err(in_file(name))?;
        envelope.verify(&self.root.public_keys(), &self.root.role(ROOT_ROLE)).map_err(in_file(name))?;
        let new = own_root(bytes)?;
        let expected = self.root.header.version + 1;
        if new.header.version != expected {
            return Err(rolled_back(name, new.header.version, expected));
        }
        self.new_roots += 1;
        if self.new_roots > MAX_NEW_ROOTS {
            return Err(TrustError::TooManyRoots);
        }
        // Keys that were exchanged may have been stolen and used to make versions so high that nothing
        // could follow: what they signed is forgotten (section 5.3.11).
        let changed = |role: &str| {
            (self.root.role(role), keys_of(&self.root, role)) != (new.role(role), keys_of(&new, role))
        };
        let (timestamp, snapshot) = (changed("timestamp"), changed("snapshot"));
        if timestamp || snapshot {
            self.timestamp = None;
            self.snapshot = None;
            self.save.push_back((TIMESTAMP.into(), None));
            self.save.push_back((SNAPSHOT.into(), None));
        }
        if changed(TARGETS_ROLE) {
            self.targets.clear();
        }
        self.root = new;
        self.save.push_back((ROOT.into(), Some(bytes.to_vec())));
        Ok(())
    }

    fn take_timestamp(&mut self, bytes: &[u8]) -> Result<(), TrustError> {
        let new = self.read_timestamp(bytes)?;
        if let Some(old) = &self.timestamp {
            let (offered, trusted) = (new.doc.header.version, old.doc.header.version);
            if offered < trusted {
                return Err(rolled_back(TIMESTAMP, offered, trusted));
            }
            let named = |doc: &TimestampMeta| doc.meta.get(SNAPSHOT).map_or(0, |meta| meta.version);
            if named(&new.doc) < named(&old.doc) {
                return Err(rolled_back(SNAPSHOT, named(&new.doc), named(&old.doc)));
            }
        }
        self.check_date(TIMESTAMP, &new.doc.header)?;
        self.save.push_back((TIMESTAMP.into(), Some(bytes.to_vec())));
        self.timestamp = Some(new);
        let same = self.snapshot.as_ref().is_some_and(|old| {
            self.snapshot_meta().is_some_and(|meta| names(meta, old.doc.header.version, &old.bytes))
        });
        if same {
            if let Some(old) = &self.snapshot {
                self.check_date(SNAPSHOT, &old.doc.header)?;
            }
            self.next_targets(VecDeque::from([TARGETS_ROLE.to_owned()]))
        } else {
            self.step = Step::Snapshot;
            Ok(())
        }
    }

    fn take_snapshot(&mut self, bytes: &[u8]) -> Result<(), TrustError> {
        let new = self.read_snapshot(bytes)?;
        if let Some(old) = &self.snapshot {
            for (file, meta) in &old.doc.meta {
                let offered = new.doc.meta.get(file).map(|meta| meta.version);
                match offered {
                    None => return Err(TrustError::Missing(file.clone())),
                    Some(offered) if offered < meta.version => {
                        return Err(rolled_back(file, offered, meta.version));
                    }
                    Some(_) => {}
                }
            }
        }
        self.check_date(SNAPSHOT, &new.doc.header)?;
        self.save.push_back((SNAPSHOT.into(), Some(bytes.to_vec())));
        self.snapshot = Some(new);
        self.drop_unnamed();
        self.next_targets(VecDeque::from([TARGETS_ROLE.to_owned()]))
    }

    fn take_targets(&mut self, mut roles: VecDeque<String>, bytes: &[u8]) -> Result<(), TrustError> {
        let Some(role) = roles.pop_front() else { return Ok(()) };
        let new = self.read_targets(&role, bytes)?;
        self.check_date(&file_of(&role), &new.doc.header)?;
        self.save.push_back((file_of(&role), Some(bytes.to_vec())));
        self.targets.insert(role.clone(), new);
        if role == TARGETS_ROLE {
            self.drop_unnamed();
            roles = self.delegated().iter().map(|role| role.name.clone()).collect();
        }
        self.next_targets(roles)
    }

    /// Forgets documents that the new snapshot or the new keys no longer vouch for: until their
    /// successors are there, what they released cannot be had, and nothing old is mixed with new.
    fn drop_unnamed(&mut self) {
        let targets = std::mem::take(&mut self.targets);
        for role in [TARGETS_ROLE].into_iter().map(str::to_owned).chain(targets.keys().cloned()) {
            if let Some(held) = targets.get(&role)
                && let Ok(read) = self.read_targets(&role, &held.bytes)
            {
                self.targets.insert(role, read);
            }
        }
    }

    /// Goes on to the first role whose document is not the one that the snapshot names.
    fn next_targets(&mut self, mut roles: VecDeque<String>) -> Result<(), TrustError> {
        while let Some(role) = roles.front().cloned() {
            let file = file_of(&role);
            let meta = self.targets_meta(&role).ok_or_else(|| TrustError::Missing(file.clone()))?;
            let held =
                self.targets.get(&role).filter(|held| names(meta, held.doc.header.version, &held.bytes));
            let Some(held) = held else {
                self.step = Step::Targets(roles);
                return Ok(());
            };
            self.check_date(&file, &held.doc.header)?;
            roles.pop_front();
            if role == TARGETS_ROLE {
                roles = self.delegated().iter().map(|role| role.name.clone()).collect();
            }
        }
        self.step = Step::Idle;
        Ok(())
    }

    fn read_timestamp(&self, bytes: &[u8]) -> Result<Trusted<TimestampMeta>, TrustError> {
        let keys = self.root.public_keys();
        let doc: TimestampMeta =
            open(TIMESTAMP, bytes, "timestamp", &[(&keys, &self.root.role("timestamp"))])?;
        if !doc.meta.contains_key(SNAPSHOT) {
            return Err(TrustError::Content { file: TIMESTAMP.into(), reason: "names no snapshot".into() });
        }
        Ok(Trusted { doc, bytes: bytes.to_vec() })
    }

    fn read_snapshot(&self, bytes: &[u8]) -> Result<Trusted<Snapshot>, TrustError> {
        let keys = self.root.public_keys();
        let doc: Snapshot = open(SNAPSHOT, bytes, "snapshot", &[(&keys, &self.root.role("snapshot"))])?;
        let named = self.snapshot_meta().is_some_and(|meta| names(meta, doc.header.version, bytes));
        if !named {
            return Err(TrustError::Mixed { file: SNAPSHOT.into(), named_by: TIMESTAMP.into() });
        }
        Ok(Trusted { doc, bytes: bytes.to_vec() })
    }

    fn read_targets(&self, role: &str, bytes: &[u8]) -> Result<Trusted<Targets>, TrustError> {
        let file = file_of(role);
        let (keys, who) = if role == TARGETS_ROLE {
            (self.root.public_keys(), self.root.role(TARGETS_ROLE))
        } else {
            let above = self.targets.get(TARGETS_ROLE).and_then(|doc| doc.doc.delegations.as_ref());
            let above = above.ok_or_else(|| TrustError::Missing("targets.json".into()))?;
            let who = above.roles.iter().find(|delegated| delegated.name == role);
            let who = who.ok_or_else(|| TrustError::Unexpected(file.clone()))?;
            (above.public_keys(), who.keys.clone())
        };
        let doc: Targets = open(&file, bytes, "targets", &[(&keys, &who)])?;
        if !self.targets_meta(role).is_some_and(|meta| names(meta, doc.header.version, bytes)) {
            return Err(TrustError::Mixed { file, named_by: SNAPSHOT.into() });
        }
        // Names become names of files, here and on the server.
        let roles = doc.delegations.iter().flat_map(|below| below.roles.iter().map(|role| &role.name));
        let reserved = |name: &String| RESERVED.contains(&name.as_str());
        if let Some(name) = doc.targets.keys().chain(roles.clone()).find(|name| !is_plain_name(name)) {
            return Err(TrustError::Content { file, reason: format!("`{name:.80}` is no plain name") });
        }
        if let Some(name) = roles.clone().find(|name| reserved(name)) {
            return Err(TrustError::Content { file, reason: format!("`{name}` is no role below targets") });
        }
        Ok(Trusted { doc, bytes: bytes.to_vec() })
    }

    fn delegated(&self) -> &[Delegated] {
        let roles = self
            .targets
            .get(TARGETS_ROLE)
            .and_then(|doc| doc.doc.delegations.as_ref())
            .map_or(&[][..], |delegations| &delegations.roles);
        &roles[..roles.len().min(MAX_DELEGATED)]
    }

    fn snapshot_meta(&self) -> Option<&MetaFile> {
        self.timestamp.as_ref()?.doc.meta.get(SNAPSHOT)
    }

    fn targets_meta(&self, role: &str) -> Option<&MetaFile> {
        self.snapshot.as_ref()?.doc.meta.get(&file_of(role))
    }

    fn check_date(&self, file: &str, header: &Header) -> Result<(), TrustError> {
        date(file, header, self.now)
    }
}

/// Reads a root that vouches for itself, as the first of a chain must.
fn own_root(bytes: &[u8]) -> Result<Root, TrustError> {
    let envelope = Envelope::parse(bytes).map_err(in_file(ROOT))?;
    let root: Root = content(ROOT, &envelope)?;
    open::<Root>(ROOT, bytes, ROOT_ROLE, &[(&root.public_keys(), &root.role(ROOT_ROLE))])
}

/// Reads a document that each of `by` must have signed.
fn open<T: DeserializeOwned>(
    file: &str,
    bytes: &[u8],
    kind: &str,
    by: &[(&BTreeMap<KeyId, PublicKey>, &RoleKeys)],
) -> Result<T, TrustError> {
    let envelope = Envelope::parse(bytes).map_err(in_file(file))?;
    for (keys, role) in by {
        envelope.verify(keys, role).map_err(in_file(file))?;
    }
    let header: Header = content(file, &envelope)?;
    let wrong = |reason: &str| TrustError::Content { file: file.into(), reason: reason.into() };
    if header.kind != kind {
        return Err(wrong(&format!("it is of the kind `{}`", header.kind)));
    }
    if !header.spec_version.starts_with("1.") {
        return Err(wrong(&format!("specification {} is not known", header.spec_version)));
    }
    if header.version == 0 {
        return Err(wrong("versions begin at 1"));
    }
    content(file, &envelope)
}

fn content<T: DeserializeOwned>(file: &str, envelope: &Envelope) -> Result<T, TrustError> {
    T::deserialize(envelope.signed())
        .map_err(|error| TrustError::Content { file: file.into(), reason: error.to_string() })
}

fn keys_of(root: &Root, role: &str) -> Vec<Option<PublicKey>> {
    let keys = root.public_keys();
    root.role(role).keyids.iter().map(|id| keys.get(id).copied()).collect()
}

/// Says whether a name is safe as a part of a path and of an address: 1 to 128 characters of `a-z`,
/// `0-9`, `-`, `_`, `+` and `.`, the first a letter or a digit.
pub fn is_plain_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= 128
        && name.bytes().next().is_some_and(plain)
        && name.bytes().all(|byte| plain(byte) || b"-_+.".contains(&byte))
}

/// Says whether these are the bytes that a document names.
fn names(meta: &MetaFile, version: u64, bytes: &[u8]) -> bool {
    meta.version == version
        && meta.length.is_none_or(|length| length == bytes.len() as u64)
        && (meta.hashes.is_empty() || meta.sha256() == Some(sha256(bytes)))
}

fn limit(meta: &MetaFile, max: u64) -> u64 {
    meta.length.map_or(max, |length| length.min(max))
}

fn date(file: &str, header: &Header, now: Timestamp) -> Result<(), TrustError> {
    if header.expires <= now {
        return Err(TrustError::Expired { file: file.into(), expires: header.expires });
    }
    Ok(())
}

fn rolled_back(file: &str, offered: u64, trusted: u64) -> TrustError {
    TrustError::RolledBack { file: file.into(), offered, trusted }
}

fn in_file(file: &str) -> impl FnOnce(EnvelopeError) -> TrustError {
    let file = file.to_owned();
    move |source| TrustError::Envelope { file, source }
}

fn file_of(role: &str) -> String {
    format!("{role}.json")
}

const ROOT: &str = "root.json";
const TIMESTAMP: &str = "timestamp.json";
const SNAPSHOT: &str = "snapshot.json";
const RESERVED: [&str; 4] = ["root", "targets", "snapshot", "timestamp"];
const ROOT_ROLE: &str = "root";
const TARGETS_ROLE: &str = "targets";
