//! A client of TUF that we did not write reads what we publish, and agrees on what it refuses.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::fs;
use std::path::Path;

use common::{DAY, World, ceremony, key, signed, t0};
use serde_json::json;
use tough::schema::decoded::{Decoded, Hex};
use tough::{ExpirationEnforcement, FilesystemTransport, RepositoryLoader, TargetName};
use trunkline_trust::{Delegated, Delegations, Envelope, KeyEntry, RoleKeys, Signer, sha256};

fn write(world: &World, dir: &Path) {
    for (folder, files) in [("metadata", &world.metadata), ("targets", &world.targets)] {
        let folder = dir.join(folder);
        fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in files {
            fs::write(folder.join(name), bytes).unwrap();
        }
    }
}

async fn load(world: &World, dir: &Path) -> Result<tough::Repository, tough::error::Error> {
    write(world, dir);
    let url = |folder: &str| url_of(&dir.join(folder));
    RepositoryLoader::new(&world.factory_root(), url("metadata"), url("targets"))
        .transport(FilesystemTransport)
        // The world of these tests has its own calendar.
        .expiration_enforcement(ExpirationEnforcement::Unsafe)
        .load()
        .await
}

fn url_of(dir: &Path) -> url::Url {
    url::Url::from_directory_path(dir).unwrap()
}

async fn content(repository: &tough::Repository, name: &str) -> Option<Vec<u8>> {
    use futures_util::TryStreamExt as _;
    let stream = repository.read_target(&TargetName::new(name).unwrap()).await.unwrap()?;
    let chunks: Vec<_> = stream.try_collect().await.unwrap();
    Some(chunks.concat())
}

#[tokio::test]
async fn tough_verifies_our_repository_through_releases_delegation_and_three_roots() {
    let mut world = World::new();
    world.release("app", "1.1.0", 2, t0());
    let mut second = ceremony();
    second.root.keys = [1, 2, 4].map(|n| key(n).public()).to_vec();
    world.rotate(&second, &[1, 2], t0());
    let mut third = second.clone();
    third.snapshot.keys = vec![key(22).public()];
    third.timestamp.keys = vec![key(22).public()];
    world.online = 22;
    world.rotate(&third, &[2, 4], t0());

    let mut targets = world.published.draft_targets(t0() + DAY * 90);
    let id = key(51).public().id();
    targets.delegations = Some(Delegations {
        keys: [(id.clone(), KeyEntry::from(key(51).public()))].into(),
        roles: vec![Delegated {
            name: "content".into(),
            keys: RoleKeys { keyids: vec![id], threshold: 1 },
            paths: vec!["scripts-*".into()],
            terminating: true,
            rest: Default::default(),
        }],
        rest: Default::default(),
    });
    let targets = signed(Envelope::new(json!(targets)), &[11, 12, 13]);
    let mut scripts = world.draft("scripts", "x", 1, t0());
    scripts.targets.retain(|name, _| name == "scripts-x.json");
    scripts.header.version = 1;
    let scripts = signed(Envelope::new(json!(scripts)), &[51]);
    world.publish(None, &[("targets", &targets), ("content", &scripts)], t0());

    let dir = tempfile::tempdir().unwrap();
    let repository = load(&world, dir.path()).await.unwrap();
    assert_eq!(repository.root().signed.version.get(), 3);
    assert_eq!(repository.all_targets().count(), 3);
    for (name, text) in
        [("app-1.0.0.json", "app 1.0.0"), ("app-1.1.0.json", "app 1.1.0"), ("scripts-x.json", "scripts x")]
    {
        assert_eq!(content(&repository, name).await.unwrap(), text.as_bytes());
    }
    let (_, target) = repository.all_targets().find(|(name, _)| name.raw() == "app-1.1.0.json").unwrap();
    let ours: Decoded<Hex> = sha256(b"app 1.1.0").as_bytes().to_vec().into();
    assert_eq!(target.hashes.sha256, ours);
}

#[tokio::test]
async fn tough_refuses_what_we_refuse() {
    let mut world = World::new();
    let bytes = world.metadata["1.targets.json"].clone();
    let text = String::from_utf8(bytes).unwrap().replace("\"length\": 9", "\"length\": 8");
    world.metadata.insert("1.targets.json".into(), text.into_bytes());
    let dir = tempfile::tempdir().unwrap();
    assert!(load(&world, dir.path()).await.is_err());
}
