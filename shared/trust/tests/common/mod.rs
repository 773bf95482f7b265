//! A repository in memory with all its keys, and a box that looks at it.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use trunkline_trust::{
    Ceremony, Client, Envelope, FileKey, Holders, Lives, Published, Release, Root, Signer, Targets,
    TrustError, sha256, target_of,
};

pub const DAY: SignedDuration = SignedDuration::from_hours(24);

pub fn t0() -> Timestamp {
    "2026-06-01T08:00:00Z".parse().unwrap()
}

pub fn key(n: u8) -> FileKey {
    FileKey::from_seed(&[n; 32]).unwrap()
}

fn holders(numbers: &[u8], threshold: u32) -> Holders {
    Holders { keys: numbers.iter().map(|n| key(*n).public()).collect(), threshold }
}

/// Root keys 1 to 3 (two must sign), release keys 11 to 13 (two must sign), online key 21, assignment key 31.
pub fn ceremony() -> Ceremony {
    Ceremony {
        root: holders(&[1, 2, 3], 2),
        targets: holders(&[11, 12, 13], 2),
        snapshot: holders(&[21], 1),
        timestamp: holders(&[21], 1),
        assignment: holders(&[31], 1),
    }
}

pub fn signed(mut envelope: Envelope, keys: &[u8]) -> Envelope {
    for n in keys {
        envelope.sign(&key(*n)).unwrap();
    }
    envelope
}

pub struct World {
    pub metadata: BTreeMap<String, Vec<u8>>,
    pub targets: BTreeMap<String, Vec<u8>>,
    pub published: Published,
    pub online: u8,
}

impl World {
    /// A repository with one release, `app-1.0.0.json`.
    pub fn new() -> Self {
        let root = signed(ceremony().root(1, t0() + DAY * 365), &[1, 2]).to_bytes();
        let published = Published::start(root.clone()).unwrap();
        let metadata = BTreeMap::from([("1.root.json".to_owned(), root)]);
        let mut world = Self { metadata, targets: BTreeMap::new(), published, online: 21 };
        world.release("app", "1.0.0", 1, t0());
        world
    }

    pub fn factory_root(&self) -> Vec<u8> {
        self.metadata["1.root.json"].clone()
    }

    pub fn reread(&mut self) {
        self.published = Published::read(|name| self.metadata.get(name).cloned()).unwrap();
    }

    pub fn draft(&mut self, component: &str, version: &str, number: u64, now: Timestamp) -> Targets {
        let content = format!("{component} {version}").into_bytes();
        let mut draft = self.published.draft_targets(now + DAY * 90);
        let release = Release {
            component: component.into(),
            version: version.into(),
            release: number,
            floor: 0,
            platforms: vec![],
        };
        let name = format!("{component}-{version}.json");
        draft.targets.insert(name.clone(), target_of(content.len() as u64, sha256(&content), &release));
        self.targets.insert(format!("{}.{name}", sha256(&content)), content);
        draft
    }

    pub fn release(&mut self, component: &str, version: &str, number: u64, now: Timestamp) {
        let draft = self.draft(component, version, number, now);
        let envelope = signed(Envelope::new(serde_json::json!(draft)), &[11, 12]);
        self.publish(None, &[("targets", &envelope)], now);
    }

    pub fn publish(&mut self, root: Option<&Envelope>, new: &[(&str, &Envelope)], now: Timestamp) {
        let metadata = &self.metadata;
        let files = self
            .published
            .publish(root, new, &key(self.online), now, Lives::default(), |name| metadata.get(name).cloned())
            .unwrap();
        self.metadata.extend(files);
        self.reread();
    }

    /// Makes the next root from `ceremony`, signed by these keys.
    pub fn rotate(&mut self, ceremony: &Ceremony, keys: &[u8], now: Timestamp) {
        let version = self.published.root().header.version + 1;
        let root = signed(ceremony.root(version, now + DAY * 365), keys);
        self.publish(Some(&root), &[], now);
    }

    pub fn root(&self) -> &Root {
        self.published.root()
    }
}

/// A box: what it trusts, and its disk.
pub struct Box {
    pub client: Client,
    pub disk: BTreeMap<String, Vec<u8>>,
    factory_root: Vec<u8>,
}

impl Box {
    pub fn new(world: &World) -> Self {
        let factory_root = world.factory_root();
        Self { client: Client::open(&factory_root, |_| None).unwrap(), disk: BTreeMap::new(), factory_root }
    }

    /// Refreshes from what a server (or somebody in between) hands out.
    pub fn refresh(&mut self, files: &BTreeMap<String, Vec<u8>>, now: Timestamp) -> Result<u32, TrustError> {
        self.client.begin(now);
        let mut fetched = 0;
        let mut result = Ok(());
        while let Some(fetch) = self.client.poll_fetch() {
            assert!(fetch.within.as_secs() <= 60);
            fetched += 1;
            result = match files.get(&fetch.name) {
                Some(bytes) => {
                    // The shell stops reading just after the limit.
                    let most = usize::try_from(fetch.max_bytes).unwrap() + 1;
                    self.client.handle_file(&fetch.name, &bytes[..bytes.len().min(most)])
                }
                None => self.client.handle_absent(&fetch.name),
            };
            while let Some((name, bytes)) = self.client.poll_save() {
                match bytes {
                    Some(bytes) => drop(self.disk.insert(name, bytes)),
                    None => drop(self.disk.remove(&name)),
                }
            }
        }
        result.map(|()| fetched)
    }

    pub fn restart(&mut self) {
        self.client = Client::open(&self.factory_root, |name| self.disk.get(name).cloned()).unwrap();
    }
}
