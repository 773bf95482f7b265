//! What an attacker between repository and box, or with some of the keys, can do: nothing.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Box, DAY, World, ceremony, key, signed, t0};
use proptest::prelude::*;
use serde_json::json;
use trunkline_trust::{
    AssignedTarget, Assignment, Delegated, Delegations, Envelope, EnvelopeError, KeyEntry, MAX_ROOT,
    RoleKeys, Signer, TrustError, sha256,
};

#[test]
fn a_box_sees_what_was_released_and_fetches_nothing_twice() {
    let mut world = World::new();
    let mut branch = Box::new(&world);
    assert_eq!(branch.refresh(&world.metadata, t0()).unwrap(), 4);
    assert_eq!(branch.client.target("app-1.0.0.json", t0()).unwrap().release().unwrap().release, 1);
    assert_eq!(branch.refresh(&world.metadata, t0()).unwrap(), 2, "only root and timestamp are asked for");

    world.release("app", "1.1.0", 2, t0());
    branch.restart();
    assert_eq!(branch.client.target("app-1.0.0.json", t0()).unwrap().length, 9);
    assert_eq!(branch.refresh(&world.metadata, t0()).unwrap(), 4);
    assert!(branch.client.target("app-1.1.0.json", t0()).is_ok());
    assert_eq!(branch.client.releases().count(), 2);
}

#[test]
fn roll_back_an_older_timestamp_is_refused_also_after_a_restart() {
    let mut world = World::new();
    let old = world.metadata.clone();
    world.release("app", "1.1.0", 2, t0());
    let mut branch = Box::new(&world);
    branch.refresh(&world.metadata, t0()).unwrap();
    for restart in [false, true] {
        if restart {
            branch.restart();
        }
        let error = branch.refresh(&old, t0()).unwrap_err();
        assert!(matches!(error, TrustError::RolledBack { offered: 1, trusted: 2, .. }), "{error}");
        assert!(branch.client.target("app-1.1.0.json", t0()).is_ok(), "what was trusted stays so");
    }
}

#[test]
fn roll_back_a_new_timestamp_for_an_older_snapshot_is_refused() {
    let mut world = World::new();
    let old = world.metadata["1.snapshot.json"].clone();
    world.release("app", "1.1.0", 2, t0());
    let mut branch = Box::new(&world);
    branch.refresh(&world.metadata, t0()).unwrap();

    // Even whoever holds the timestamp key cannot go back to an older snapshot.
    let mut forged: serde_json::Value = serde_json::from_slice(&world.metadata["timestamp.json"]).unwrap();
    forged["signed"]["version"] = json!(3);
    forged["signed"]["meta"]["snapshot.json"] =
        json!({"version": 1, "length": old.len(), "hashes": {"sha256": sha256(&old)}});
    let forged = signed(Envelope::new(forged["signed"].clone()), &[21]).to_bytes();
    world.metadata.insert("timestamp.json".into(), forged);
    let error = branch.refresh(&world.metadata, t0()).unwrap_err();
    assert!(matches!(error, TrustError::RolledBack { offered: 1, trusted: 2, .. }), "{error}");
}

#[test]
fn roll_back_a_new_snapshot_with_older_releases_or_without_them_is_refused() {
    let mut world = World::new();
    world.release("app", "1.1.0", 2, t0());
    let mut branch = Box::new(&world);
    branch.refresh(&world.metadata, t0()).unwrap();
    let old = world.metadata["1.targets.json"].clone();
    for meta in [
        json!({"targets.json": {"version": 1, "length": old.len(), "hashes": {"sha256": sha256(&old)}}}),
        json!({}),
    ] {
        let mut snapshot: serde_json::Value =
            serde_json::from_slice(&world.metadata["2.snapshot.json"]).unwrap();
        snapshot["signed"]["version"] = json!(3);
        snapshot["signed"]["meta"] = meta;
        let snapshot = signed(Envelope::new(snapshot["signed"].clone()), &[21]).to_bytes();
        let mut timestamp: serde_json::Value =
            serde_json::from_slice(&world.metadata["timestamp.json"]).unwrap();
        timestamp["signed"]["version"] = json!(3);
        timestamp["signed"]["meta"]["snapshot.json"] =
            json!({"version": 3, "length": snapshot.len(), "hashes": {"sha256": sha256(&snapshot)}});
        let timestamp = signed(Envelope::new(timestamp["signed"].clone()), &[21]).to_bytes();
        let mut files = world.metadata.clone();
        files.insert("timestamp.json".into(), timestamp);
        files.insert("3.snapshot.json".into(), snapshot);
        let error = branch.refresh(&files, t0()).unwrap_err();
        assert!(matches!(error, TrustError::RolledBack { .. } | TrustError::Missing(_)), "{error}");
    }
}

#[test]
fn freeze_a_box_that_only_sees_old_files_notices_after_a_week() {
    let world = World::new();
    let mut branch = Box::new(&world);
    branch.refresh(&world.metadata, t0()).unwrap();
    branch.refresh(&world.metadata, t0() + DAY * 6).unwrap();
    let later = t0() + DAY * 7;
    let error = branch.refresh(&world.metadata, later).unwrap_err();
    assert!(matches!(&error, TrustError::Expired { file, .. } if file == "timestamp.json"), "{error}");
    let error = branch.client.target("app-1.0.0.json", later).unwrap_err();
    assert!(matches!(error, TrustError::Expired { .. }), "an expired world moves nothing");
}

#[test]
fn freeze_each_document_has_its_date() {
    let mut world = World::new();
    let mut branch = Box::new(&world);
    world.publish(None, &[], t0() + DAY * 89);
    branch.refresh(&world.metadata, t0() + DAY * 89).unwrap();
    let error = branch.refresh(&world.metadata, t0() + DAY * 90).unwrap_err();
    assert!(matches!(&error, TrustError::Expired { file, .. } if file == "targets.json"), "{error}");
    let error = branch.refresh(&world.metadata, t0() + DAY * 365).unwrap_err();
    assert!(matches!(&error, TrustError::Expired { file, .. } if file == "root.json"), "{error}");
}

#[test]
fn mix_and_match_rightly_signed_parts_of_two_states_are_refused() {
    let mut world = World::new();
    let mut other = World::new();
    world.release("app", "1.1.0", 2, t0());
    other.release("app", "6.6.6", 2, t0());
    for file in ["2.snapshot.json", "2.targets.json"] {
        let mut mixed = world.metadata.clone();
        mixed.insert(file.into(), other.metadata[file].clone());
        let error = Box::new(&world).refresh(&mixed, t0()).unwrap_err();
        assert!(matches!(error, TrustError::Mixed { .. } | TrustError::TooLong { .. }), "{file}: {error}");
    }
}

#[test]
fn wrong_threshold_one_release_key_alone_releases_nothing() {
    let mut world = World::new();
    let draft = world.draft("app", "6.6.6", 2, t0());
    for keys in [&[][..], &[11], &[11, 11], &[11, 21], &[1, 2, 3]] {
        let envelope = signed(Envelope::new(json!(draft)), keys);
        let refused = world.published.publish(
            None,
            &[("targets", &envelope)],
            &key(21),
            t0(),
            trunkline_trust::Lives::default(),
            |name| world.metadata.get(name).cloned(),
        );
        assert!(refused.is_err(), "the author's tool refuses {keys:?}");

        // And so does the box, if somebody with the online key publishes it all the same.
        let bytes = envelope.to_bytes();
        let meta = json!({"targets.json": {"version": 2, "length": bytes.len(), "hashes": {"sha256": sha256(&bytes)}}});
        let head = |kind, meta| json!({"_type": kind, "spec_version": "1.0.31", "version": 2, "expires": t0() + DAY, "meta": meta});
        let snapshot = signed(Envelope::new(head("snapshot", meta)), &[21]).to_bytes();
        let meta = json!({"snapshot.json": {"version": 2, "length": snapshot.len(), "hashes": {"sha256": sha256(&snapshot)}}});
        let timestamp = signed(Envelope::new(head("timestamp", meta)), &[21]).to_bytes();
        let mut files = world.metadata.clone();
        files.insert("timestamp.json".into(), timestamp);
        files.insert("2.snapshot.json".into(), snapshot);
        files.insert("2.targets.json".into(), bytes);
        let error = Box::new(&world).refresh(&files, t0()).unwrap_err();
        assert!(
            matches!(
                &error,
                TrustError::Envelope { source: EnvelopeError::Threshold { threshold: 2, .. }, .. }
            ),
            "{keys:?}: {error}"
        );
    }
}

#[test]
fn key_rotation_from_1_to_2_to_3_is_followed_and_old_keys_lose_their_power() {
    let mut world = World::new();
    let mut early = Box::new(&world);
    early.refresh(&world.metadata, t0()).unwrap();

    // Root 2 exchanges a root key; root 3 exchanges the release keys and the online key.
    let mut second = ceremony();
    second.root.keys = [1, 2, 4].map(|n| key(n).public()).to_vec();
    world.rotate(&second, &[1, 2], t0());
    let mut third = second.clone();
    third.targets.keys = [14, 15].map(|n| key(n).public()).to_vec();
    third.snapshot.keys = vec![key(22).public()];
    third.timestamp.keys = vec![key(22).public()];
    let root = signed(third.root(3, t0() + DAY * 365), &[2, 4]);
    let targets = world.draft("app", "1.1.0", 2, t0());
    let targets = signed(Envelope::new(json!(targets)), &[14, 15]);
    world.online = 22;
    world.publish(Some(&root), &[("targets", &targets)], t0());

    for mut branch in [early, Box::new(&world)] {
        branch.refresh(&world.metadata, t0()).unwrap();
        assert_eq!(branch.client.root().header.version, 3);
        assert!(branch.client.target("app-1.1.0.json", t0()).is_ok());
        branch.restart();
        assert_eq!(branch.client.root().header.version, 3, "the root is not forgotten");
        // What the old online key signs is not believed any more.
        let old: serde_json::Value = serde_json::from_slice(&world.metadata["timestamp.json"]).unwrap();
        let forged = signed(Envelope::new(old["signed"].clone()), &[21]).to_bytes();
        let mut files = world.metadata.clone();
        files.insert("timestamp.json".into(), forged);
        assert!(matches!(branch.refresh(&files, t0()), Err(TrustError::Envelope { .. })));
    }
}

#[test]
fn a_root_without_the_old_keys_or_without_its_own_is_refused() {
    let world = World::new();
    let mut stolen = ceremony();
    stolen.root.keys = [41, 42].map(|n| key(n).public()).to_vec();
    for keys in [&[41, 42][..], &[1, 2], &[1, 41, 42]] {
        let root = signed(stolen.root(2, t0() + DAY), keys);
        assert!(world.published.check_root(&root).is_err(), "{keys:?}");
        let mut files = world.metadata.clone();
        files.insert("2.root.json".into(), root.to_bytes());
        let mut branch = Box::new(&world);
        assert!(matches!(branch.refresh(&files, t0()), Err(TrustError::Envelope { .. })), "{keys:?}");
        assert_eq!(branch.client.root().header.version, 1);
    }
    // Rightly signed, but a jump over a number, or no step at all.
    for version in [1, 3] {
        let root = signed(ceremony().root(version, t0() + DAY), &[1, 2]);
        let mut files = world.metadata.clone();
        files.insert("2.root.json".into(), root.to_bytes());
        let result = Box::new(&world).refresh(&files, t0());
        assert!(matches!(result, Err(TrustError::RolledBack { .. })), "{version}");
    }
}

#[test]
fn a_stolen_online_key_cannot_push_versions_so_high_that_nothing_can_follow() {
    let mut world = World::new();
    let mut branch = Box::new(&world);
    let old: serde_json::Value = serde_json::from_slice(&world.metadata["timestamp.json"]).unwrap();
    let mut signed_part = old["signed"].clone();
    signed_part["version"] = json!(u64::MAX);
    let mut files = world.metadata.clone();
    files.insert("timestamp.json".into(), signed(Envelope::new(signed_part), &[21]).to_bytes());
    branch.refresh(&files, t0()).unwrap();
    assert!(branch.refresh(&world.metadata, t0()).is_err());

    let mut healed = ceremony();
    healed.snapshot.keys = vec![key(23).public()];
    healed.timestamp.keys = vec![key(23).public()];
    world.online = 23;
    world.rotate(&healed, &[1, 3], t0());
    branch.refresh(&world.metadata, t0()).unwrap();
    assert!(branch.client.target("app-1.0.0.json", t0()).is_ok());
}

#[test]
fn endless_data_is_cut_off_at_the_limit_of_each_file() {
    let world = World::new();
    for name in ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"] {
        let mut files = world.metadata.clone();
        files.insert(name.into(), vec![b' '; usize::try_from(MAX_ROOT).unwrap() + 100]);
        let error = Box::new(&world).refresh(&files, t0()).unwrap_err();
        assert!(matches!(error, TrustError::TooLong { .. }), "{name}: {error}");
    }
}

#[test]
fn endless_roots_end() {
    let mut world = World::new();
    for version in 2..=300 {
        let root = signed(ceremony().root(version, t0() + DAY), &[1, 2]).to_bytes();
        world.metadata.insert(format!("{version}.root.json"), root);
    }
    let mut branch = Box::new(&world);
    assert!(matches!(branch.refresh(&world.metadata, t0()), Err(TrustError::TooManyRoots)));
    branch.refresh(&world.metadata, t0()).unwrap();
    assert_eq!(branch.client.root().header.version, 300, "the next refresh goes on from there");
}

fn assignment(world: &World, box_id: &str, version: u64, name: &str) -> Envelope {
    let targets = world.published.targets().unwrap();
    let sha256 = targets.targets.get(name).map_or(sha256(b"x"), |target| target.sha256().unwrap());
    let target = AssignedTarget { component: "app".into(), name: name.into(), sha256 };
    Envelope::new(json!(Assignment::new(box_id, version, t0() + DAY, vec![target])))
}

#[test]
fn an_assignment_moves_a_box_only_where_the_offline_keys_released_the_same_hash() {
    let mut world = World::new();
    world.release("models", "2.0.0", 1, t0());
    let mut branch = Box::new(&world);
    branch.refresh(&world.metadata, t0()).unwrap();
    let check =
        |envelope: &Envelope, last| branch.client.check_assignment(&envelope.to_bytes(), "tl-a", last, t0());

    let good = signed(assignment(&world, "tl-a", 5, "app-1.0.0.json"), &[31]);
    assert_eq!(check(&good, 5).unwrap().targets[0].name, "app-1.0.0.json");
    assert!(matches!(check(&good, 6), Err(TrustError::RolledBack { offered: 5, trusted: 6, .. })));
    let late = branch.client.check_assignment(&good.to_bytes(), "tl-a", 5, t0() + DAY);
    assert!(matches!(late, Err(TrustError::Expired { .. })));
    let other = signed(assignment(&world, "tl-b", 5, "app-1.0.0.json"), &[31]);
    assert!(matches!(check(&other, 0), Err(TrustError::OtherBox(_))));
    let unsigned = signed(assignment(&world, "tl-a", 5, "app-1.0.0.json"), &[21]);
    assert!(matches!(check(&unsigned, 0), Err(TrustError::Envelope { .. })));
    let unreleased = signed(assignment(&world, "tl-a", 5, "app-6.6.6.json"), &[31]);
    assert!(matches!(check(&unreleased, 0), Err(TrustError::Unknown(_))));
    let wrong_kind = signed(assignment(&world, "tl-a", 5, "models-2.0.0.json"), &[31]);
    assert!(matches!(check(&wrong_kind, 0), Err(TrustError::Disagree(_))));
    let mut wrong_hash = assignment(&world, "tl-a", 5, "app-1.0.0.json").signed().clone();
    wrong_hash["targets"][0]["sha256"] = json!(sha256(b"other"));
    let wrong_hash = signed(Envelope::new(wrong_hash), &[31]);
    assert!(matches!(check(&wrong_hash, 0), Err(TrustError::Disagree(_))));
}

/// A repository in which key 51 may release scripts, and has released one and something else.
fn delegating(world: &mut World, names: &[&str]) {
    let mut targets = world.published.draft_targets(t0() + DAY * 90);
    let keyids = vec![key(51).public().id()];
    targets.delegations = Some(Delegations {
        keys: [(key(51).public().id(), KeyEntry::from(key(51).public()))].into(),
        roles: vec![Delegated {
            name: "content".into(),
            keys: RoleKeys { keyids, threshold: 1 },
            paths: vec!["scripts-*".into()],
            terminating: true,
            rest: Default::default(),
        }],
        rest: Default::default(),
    });
    let targets = signed(Envelope::new(json!(targets)), &[11, 13]);
    let mut content = world.draft("scripts", "x", 1, t0());
    let entry = content.targets["scripts-x.json"].clone();
    content.targets = names.iter().map(|name| ((*name).to_owned(), entry.clone())).collect();
    content.delegations = None;
    content.header.version = 1;
    let content = signed(Envelope::new(json!(content)), &[51]);
    world.publish(None, &[("targets", &targets), ("content", &content)], t0());
}

#[test]
fn a_delegated_key_releases_what_it_may_and_nothing_else() {
    let mut world = World::new();
    delegating(&mut world, &["scripts-x.json", "app-6.6.6.json"]);
    let mut branch = Box::new(&world);
    branch.refresh(&world.metadata, t0()).unwrap();
    for restart in [false, true] {
        if restart {
            branch.restart();
        }
        assert!(branch.client.target("scripts-x.json", t0()).is_ok());
        assert!(matches!(branch.client.target("app-6.6.6.json", t0()), Err(TrustError::Unknown(_))));
        assert_eq!(branch.client.releases().count(), 2);
    }
    assert_eq!(branch.refresh(&world.metadata, t0()).unwrap(), 2);
}

#[test]
fn names_that_would_reach_into_other_folders_are_refused() {
    for name in ["../x", "a/b", "", ".hidden", "A", "a\u{0}"] {
        let mut world = World::new();
        let draft = world.draft("app", "2", 2, t0());
        let mut targets = json!(draft);
        targets["targets"][name] = targets["targets"]["app-2.json"].clone();
        let envelope = signed(Envelope::new(targets), &[11, 12]);
        let refused = world.published.publish(
            None,
            &[("targets", &envelope)],
            &key(21),
            t0(),
            trunkline_trust::Lives::default(),
            |name| world.metadata.get(name).cloned(),
        );
        assert!(refused.is_err(), "{name:?}");
    }
}

#[test]
fn a_disk_that_lost_any_of_the_saved_files_recovers() {
    let mut world = World::new();
    delegating(&mut world, &["scripts-x.json"]);
    let mut branch = Box::new(&world);
    branch.refresh(&world.metadata, t0()).unwrap();
    for lost in branch.disk.keys().cloned().collect::<Vec<_>>() {
        for rubbish in [None, Some(b"{\"signed\":{}".to_vec())] {
            let whole = branch.disk.clone();
            match rubbish {
                None => drop(branch.disk.remove(&lost)),
                Some(bytes) => drop(branch.disk.insert(lost.clone(), bytes)),
            }
            branch.restart();
            branch.refresh(&world.metadata, t0()).unwrap();
            assert!(branch.client.target("scripts-x.json", t0()).is_ok(), "{lost}");
            assert_eq!(branch.disk.keys().collect::<Vec<_>>(), whole.keys().collect::<Vec<_>>());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn one_changed_byte_anywhere_releases_nothing_new(file in 0usize..4, at in any::<prop::sample::Index>(), to: u8) {
        let mut world = World::new();
        world.release("app", "1.1.0", 2, t0());
        let name = ["1.root.json", "timestamp.json", "2.snapshot.json", "2.targets.json"][file];
        let before = Box::new(&world);
        let mut files = world.metadata.clone();
        let bytes = files.get_mut(name).unwrap();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        let mut branch = before;
        let result = branch.refresh(&files, t0());
        if name == "1.root.json" {
            prop_assert!(result.is_ok(), "the factory root is not fetched");
        } else if name == "timestamp.json" {
            // White space outside of what is signed may change; nothing else.
            if result.is_ok() {
                prop_assert!(branch.client.target("app-1.1.0.json", t0()).is_ok());
            }
        } else {
            prop_assert!(result.is_err());
        }
    }

    #[test]
    fn no_bytes_panic_the_client(bytes: Vec<u8>, file in 0usize..4) {
        let world = World::new();
        let name = ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"][file];
        let mut files = world.metadata.clone();
        files.insert(name.into(), bytes.clone());
        prop_assert!(Box::new(&world).refresh(&files, t0()).is_err());
        let mut branch = Box::new(&world);
        branch.refresh(&world.metadata, t0()).unwrap();
        prop_assert!(branch.client.check_assignment(&bytes, "tl-a", 0, t0()).is_err());
    }
}
