//! Rules for the manifest of a crate.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::Finding;

/// Crates that decide and touch nothing: no runtime among their dependencies.
const PURE: [&str; 13] = [
    "cloud/fleet/Cargo.toml",
    "cloud/nlu/Cargo.toml",
    "cloud/turn/Cargo.toml",
    "edge/audio/Cargo.toml",
    "edge/call/Cargo.toml",
    "edge/link/Cargo.toml",
    "edge/rtp/Cargo.toml",
    "edge/sip/Cargo.toml",
    "shared/dialogue/Cargo.toml",
    "shared/model/Cargo.toml",
    "shared/trust/Cargo.toml",
    "shared/wire/Cargo.toml",
    "shared/words/Cargo.toml",
];

/// Tables of dependencies; those of tests may hold a runtime even in a pure crate.
const TABLES: [(&str, bool); 3] =
    [("dependencies", true), ("build-dependencies", true), ("dev-dependencies", false)];

pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    let manifest: Table = match text.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![Finding::new(path, 0, format!("cannot be read: {error}"))],
    };
    let mut findings = Vec::new();
    if manifest.get("lints").is_none_or(|lints| !inherits(lints)) {
        findings.push(Finding::new(path, 0, "add `[lints]` with `workspace = true`"));
    }
    if manifest
        .get("package")
        .and_then(|package| package.get("version"))
        .is_none_or(|version| !inherits(version))
    {
        findings.push(Finding::new(path, 0, "write `version.workspace = true`: the root has the version"));
    }
    check_dependencies(path, &manifest, &mut findings);
    for (_, target) in manifest.get("target").and_then(Value::as_table).into_iter().flatten() {
        if let Some(target) = target.as_table() {
            check_dependencies(path, target, &mut findings);
        }
    }
    findings
}

/// The list of pure crates must not outlive them: a crate that moved would no longer be looked at.
pub(super) fn check_list(paths: &BTreeSet<&str>) -> Vec<Finding> {
    pure_manifests()
        .filter(|path| !paths.contains(path))
        .map(|path| Finding::new(path, 0, "is in the list of pure crates in deploy/xtask and does not exist"))
        .collect()
}

pub(super) fn pure_manifests() -> impl Iterator<Item = &'static str> {
    PURE.into_iter()
}

fn check_dependencies(path: &str, owner: &Table, findings: &mut Vec<Finding>) {
    let pure = PURE.contains(&path);
    for (table, ships) in TABLES {
        for (name, value) in owner.get(table).and_then(Value::as_table).into_iter().flatten() {
            let own = ["version", "path", "git"].into_iter().find(|key| value.get(key).is_some());
            if !inherits(value) || own.is_some() {
                findings.push(Finding::new(
                    path,
                    0,
                    format!(
                        "[{table}] {name}: write `{name}.workspace = true`: the root has versions and paths"
                    ),
                ));
            }
            if pure && ships && (name == "tokio" || name.starts_with("tokio-")) {
                findings.push(Finding::new(
                    path,
                    0,
                    format!(
                        "[{table}] {name}: this crate is pure; sockets and time belong to the shell around it"
                    ),
                ));
            }
        }
    }
}

fn inherits(value: &Value) -> bool {
    value.get("workspace").and_then(Value::as_bool) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "[package]\nname = \"x\"\nversion.workspace = true\n[lints]\nworkspace = true\n";

    fn messages(path: &str, rest: &str) -> Vec<String> {
        check(path, &format!("{HEAD}{rest}")).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn inherited_dependencies_with_features_are_fine() {
        let rest =
            "[dependencies]\nserde.workspace = true\ntokio = { workspace = true, features = [\"rt\"] }\n";
        assert_eq!(messages("edge/agent/Cargo.toml", rest), Vec::<String>::new());
    }

    #[test]
    fn a_missing_lints_table_and_an_own_version_are_named() {
        let found = check("edge/x/Cargo.toml", "[package]\nversion = \"0.1.0\"\n");
        assert_eq!(found.len(), 2);
        assert!(found[0].message.contains("[lints]"), "{found:?}");
        assert!(found[1].message.contains("version.workspace"), "{found:?}");
        assert_eq!(
            check("edge/x/Cargo.toml", "[package]\nversion.workspace = true\n[lints.rust]\n").len(),
            1
        );
    }

    #[test]
    fn own_versions_and_paths_are_named_wherever_they_hide() {
        for rest in [
            "[dependencies]\nserde = \"1\"\n",
            "[dependencies]\nserde = { version = \"1\" }\n",
            "[dependencies]\nserde = { workspace = true, path = \"../serde\" }\n",
            "[dev-dependencies]\nmodel = { path = \"../model\" }\n",
            "[build-dependencies]\ncc = \"1\"\n",
            "[target.'cfg(unix)'.dependencies]\nnix = \"0.31\"\n",
        ] {
            assert_eq!(messages("edge/agent/Cargo.toml", rest).len(), 1, "{rest}");
        }
    }

    #[test]
    fn a_pure_crate_has_a_runtime_in_its_tests_at_most() {
        let runtime = "tokio.workspace = true\n";
        assert_eq!(messages("edge/sip/Cargo.toml", &format!("[dependencies]\n{runtime}")).len(), 1);
        assert_eq!(
            messages("edge/sip/Cargo.toml", "[dependencies]\ntokio-rustls.workspace = true\n").len(),
            1
        );
        assert_eq!(messages("edge/sip/Cargo.toml", &format!("[dev-dependencies]\n{runtime}")).len(), 0);
        assert_eq!(messages("edge/line/Cargo.toml", &format!("[dependencies]\n{runtime}")).len(), 0);
    }

    #[test]
    fn a_pure_crate_that_is_gone_must_leave_the_list() {
        let all: BTreeSet<&str> = pure_manifests().collect();
        assert_eq!(check_list(&all), []);
        let fewer: BTreeSet<&str> = pure_manifests().skip(1).collect();
        assert_eq!(check_list(&fewer).len(), 1);
    }

    #[test]
    fn a_manifest_that_is_no_toml_is_named() {
        assert_eq!(check("edge/x/Cargo.toml", "[package").len(), 1);
    }
}
