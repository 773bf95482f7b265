//! Looks at every tracked file and says what breaks a rule, where, and what to do.

mod links;
mod manifest;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Lines above which a file of Rust is worth a look for a part that owns its own state.
const LONG_FILE: usize = 800;

/// A broken rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    /// From 1; 0 when the file as a whole is meant.
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// Checks the repository that the current folder is in; `false` when a rule is broken.
pub(crate) fn run() -> Result<bool> {
    let root = PathBuf::from(git(Path::new("."), &["rev-parse", "--show-toplevel"])?.trim_end());
    let listed = git(&root, &["ls-files", "-z"])?;
    let paths: BTreeSet<&str> = listed.split('\0').filter(|path| !path.is_empty()).collect();
    let mut texts = BTreeMap::new();
    for path in &paths {
        match std::fs::read(root.join(path)) {
            Ok(bytes) => {
                if let Ok(text) = String::from_utf8(bytes) {
                    texts.insert(*path, text);
                }
            }
            // Removed and not committed yet, or a link to a folder.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {path}")),
        }
    }

    let findings = check(&paths, &texts);
    for (path, lines) in long_files(&texts) {
        println!("note: {path} has {lines} lines; is there a part that owns its own state?");
    }
    for finding in &findings {
        eprintln!("error: {finding}");
    }
    match findings.len() {
        0 => println!("tidy: {} files, nothing to say", paths.len()),
        count => eprintln!("tidy: {count} broken rules"),
    }
    Ok(findings.is_empty())
}

fn check(paths: &BTreeSet<&str>, texts: &BTreeMap<&str, String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in texts {
        if path.ends_with("/Cargo.toml") {
            findings.extend(manifest::check(path, text));
        }
        if *path != "Cargo.lock" {
            findings.extend(text::check_machine(path, text));
        }
        if path.ends_with(".rs") {
            findings.extend(text::check_leftovers(path, text));
        }
        if path.ends_with(".md") {
            findings.extend(links::check(path, text, paths));
        }
    }
    findings.extend(manifest::check_list(paths));
    findings
}

fn long_files<'a>(texts: &'a BTreeMap<&str, String>) -> impl Iterator<Item = (&'a str, usize)> {
    texts
        .iter()
        .filter(|(path, _)| path.ends_with(".rs"))
        .map(|(path, text)| (*path, text.lines().count()))
        .filter(|(_, lines)| *lines > LONG_FILE)
}

fn git(dir: &Path, args: &[&str]) -> Result<String> {
    let done = Command::new("git").current_dir(dir).args(args).output().context("cannot run git")?;
    if !done.status.success() {
        bail!("git {} failed: {}", args.join(" "), String::from_utf8_lossy(&done.stderr).trim_end());
    }
    String::from_utf8(done.stdout).context("a tracked path is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_crate_has_no_findings() {
        let texts = BTreeMap::from([
            (
                "edge/x/Cargo.toml",
                "[package]\nversion.workspace = true\n[lints]\nworkspace = true\n".to_owned(),
            ),
            ("edge/x/src/lib.rs", "//! Nothing.\n".to_owned()),
            ("README.md", "See [the code](edge/x/src/lib.rs).\n".to_owned()),
        ]);
        let paths: BTreeSet<&str> = texts.keys().copied().chain(manifest::pure_manifests()).collect();
        let known: BTreeSet<&str> = paths.iter().copied().collect();
        assert_eq!(check(&known, &texts), []);
    }

    #[test]
    fn each_kind_of_file_gets_its_checks() {
        let texts = BTreeMap::from([
            ("edge/x/Cargo.toml", "[package]\nversion = \"1.0.0\"\n".to_owned()),
            ("edge/x/src/lib.rs", ["// FIX", "ME later\n"].concat()),
            ("README.md", "See [the code](missing.rs).\n".to_owned()),
            ("Cargo.lock", ["/wo", "rk/\n"].concat()),
        ]);
        let paths: BTreeSet<&str> = texts.keys().copied().chain(manifest::pure_manifests()).collect();
        let findings = check(&paths, &texts);
        let at: Vec<&str> = findings.iter().map(|finding| finding.path.as_str()).collect();
        assert_eq!(at, ["README.md", "edge/x/Cargo.toml", "edge/x/Cargo.toml", "edge/x/src/lib.rs"]);
    }

    #[test]
    fn a_long_file_is_a_note_and_no_error() {
        let texts = BTreeMap::from([("a.rs", "\n".repeat(LONG_FILE + 1)), ("b.rs", "\n".repeat(LONG_FILE))]);
        assert_eq!(long_files(&texts).collect::<Vec<_>>(), [("a.rs", LONG_FILE + 1)]);
        assert_eq!(text::check_leftovers("a.rs", &texts["a.rs"]), []);
    }

    #[test]
    fn a_finding_names_its_place() {
        assert_eq!(Finding::new("a.rs", 3, "no").to_string(), "a.rs:3: no");
        assert_eq!(Finding::new("a.rs", 0, "no").to_string(), "a.rs: no");
    }
}
