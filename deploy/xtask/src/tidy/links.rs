//! Links in Markdown must lead somewhere in a clean clone.

use std::collections::BTreeSet;

use super::Finding;

pub(super) fn check(path: &str, text: &str, paths: &BTreeSet<&str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut fenced = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if fenced {
            continue;
        }
        for target in targets(&without_code(line)) {
            if let Err(reason) = resolve(path, target, paths) {
                findings.push(Finding::new(path, number, format!("link `{target}` {reason}")));
            }
        }
    }
    findings
}

/// Yields what `[text](target)`, `![text](target)` and `[label]: target` point at.
fn targets(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    if let Some((_, target)) = line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")) {
        found.push(target);
    }
    for (at, opening) in line.match_indices("](") {
        let rest = &line[at + opening.len()..];
        found.extend(rest.split_once(')').map(|(target, _)| target));
    }
    // A title may follow, and the target may stand in angle brackets.
    found
        .into_iter()
        .filter_map(|target| target.split_whitespace().next())
        .map(|target| target.trim_start_matches('<').trim_end_matches('>'))
        .collect()
}

fn resolve(from: &str, target: &str, paths: &BTreeSet<&str>) -> Result<(), &'static str> {
    let file = target.split('#').next().unwrap_or_default();
    if file.is_empty() || target.contains("://") || target.starts_with("mailto:") {
        return Ok(());
    }
    if file.starts_with('/') {
        return Err("begins at the root: write it relative to this file");
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in file.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().ok_or("leads out of the repository")?;
            }
            part => parts.push(part),
        }
    }
    let wanted = parts.join("/");
    let folder = format!("{wanted}/");
    let is_folder = || paths.range(folder.as_str()..).next().is_some_and(|path| path.starts_with(&folder));
    if wanted.is_empty() || paths.contains(wanted.as_str()) || is_folder() {
        Ok(())
    } else {
        Err("leads to nothing that is tracked")
    }
}

/// Blanks what stands between back-ticks.
fn without_code(line: &str) -> String {
    line.split('`').enumerate().map(|(n, part)| if n % 2 == 0 { part } else { "" }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<usize> {
        let paths = BTreeSet::from(["README.md", "docs/A.md", "docs/adr/0001-x.md", "src/lib.rs"]);
        check(path, text, &paths).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn links_to_files_folders_and_the_web_resolve() {
        let text = "[a](docs/A.md) [b](docs/adr/) ![c](src/lib.rs \"title\") [d](https://example.org/x)\n\
                    [e](#below) [f](docs/A.md#part) [g](./docs/adr/0001-x.md)\n\n[h]: <src/lib.rs>\n";
        assert_eq!(found("README.md", text), Vec::<usize>::new());
        assert_eq!(found("docs/A.md", "[up](../README.md) [beside](adr) [root](..)"), Vec::<usize>::new());
    }

    #[test]
    fn links_that_lead_nowhere_are_found_with_their_line() {
        assert_eq!(found("README.md", "fine\n[a](docs/B.md) and [b](doc)\n\n[c]: gone.md\n"), [2, 2, 4]);
        assert_eq!(found("docs/A.md", "[a](../../README.md)\n[b](/README.md)"), [1, 2]);
    }

    #[test]
    fn code_holds_no_links() {
        assert_eq!(found("README.md", "`[a](gone.md)`\n```\n[b](gone.md)\n```\n[c](gone.md)\n"), [5]);
    }
}
