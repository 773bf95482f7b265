//! Rules for what is written in a file. The patterns are put together from halves, so that this
//! file, too, is looked at.

use super::Finding;

/// Folders at the root of a machine that somebody worked on.
const FOLDERS: [[&str; 2]; 3] = [["/wo", "rk/"], ["/ro", "ot/"], ["/fa", "rm/"]];

/// Hosts of package registries. Which mirror is used is the business of each registry's own client.
const HOSTS: [[&str; 2]; 6] = [
    ["index.crates", ".io"],
    ["static.crates", ".io"],
    ["python", "hosted.org"],
    ["pypi", ".org"],
    ["registry.npm", "js"],
    ["deb.debian", ".org"],
];

/// Work that was put off, and tests that do not run.
const LEFTOVERS: [[&str; 2]; 5] =
    [["TO", "DO"], ["FIX", "ME"], ["to", "do!"], ["unimple", "mented!"], ["#[ig", "nore"]];

/// Finds what holds on one machine only.
pub(super) fn check_machine(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in lines(text) {
        for folder in FOLDERS.map(|halves| halves.concat()) {
            // A folder of that name below some other folder is no folder of this machine.
            if occurrences(line, &folder).any(|before| !before.is_some_and(is_path_char)) {
                findings.push(Finding::new(
                    path,
                    number,
                    format!("names `{folder}`, a folder of one machine"),
                ));
            }
        }
        for host in HOSTS.map(|halves| halves.concat()) {
            if line.contains(&host) {
                let message = format!("names `{host}`: leave addresses of registries to their clients");
                findings.push(Finding::new(path, number, message));
            }
        }
    }
    findings
}

/// Finds unfinished work in a file of Rust.
pub(super) fn check_leftovers(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in lines(text) {
        for word in LEFTOVERS.map(|halves| halves.concat()) {
            let found = line.match_indices(&word).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                let next = line[at + word.len()..].chars().next();
                let inside = before.is_some_and(is_word_char);
                let goes_on = is_plain(&word) && next.is_some_and(is_word_char);
                !inside && !goes_on
            });
            if found {
                let message =
                    format!("has `{word}`: finish it, or assert what holds today and say why it is wrong");
                findings.push(Finding::new(path, number, message));
            }
        }
    }
    findings
}

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines())
}

/// Yields the character before each place where `what` begins.
fn occurrences<'a>(line: &'a str, what: &'a str) -> impl Iterator<Item = Option<char>> + 'a {
    line.match_indices(what).map(|(at, _)| line[..at].chars().next_back())
}

fn is_plain(word: &str) -> bool {
    word.chars().all(char::is_alphabetic)
}

fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_path_char(c: char) -> bool {
    is_word_char(c) || matches!(c, '.' | '-' | '~' | '}' | ')' | '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_one_machine_are_found_with_their_line() {
        let folder = FOLDERS[0].concat();
        let text = format!("fine\nsee {folder}main for more\n");
        assert_eq!(check_machine("a.md", &text).iter().map(|found| found.line).collect::<Vec<_>>(), [2]);
        for text in [format!("\"{folder}x\""), format!("{folder}x"), format!("(cd {folder}x)")] {
            assert_eq!(check_machine("a.md", &text).len(), 1, "{text}");
        }
    }

    #[test]
    fn a_folder_of_that_name_somewhere_else_is_fine() {
        let folder = FOLDERS[0].concat();
        for text in [format!("target{folder}x"), format!("${{DIR}}{folder}x"), "hard work/life".to_owned()] {
            assert_eq!(check_machine("a.md", &text), [], "{text}");
        }
    }

    #[test]
    fn hosts_of_registries_are_found() {
        for host in HOSTS.map(|halves| halves.concat()) {
            assert_eq!(check_machine("a.toml", &format!("url = \"https://{host}/x\"")).len(), 1, "{host}");
        }
        assert_eq!(check_machine("a.md", "get it from crates.io or with npm"), []);
    }

    #[test]
    fn unfinished_work_is_found_as_a_word_of_its_own() {
        for word in LEFTOVERS.map(|halves| halves.concat()) {
            assert_eq!(check_leftovers("a.rs", &format!("    {word}")).len(), 1, "{word}");
            assert_eq!(check_leftovers("a.rs", &format!("    x_{word}")), [], "{word}");
        }
        assert_eq!(check_leftovers("a.rs", &format!("{}S", LEFTOVERS[0].concat())), []);
    }

    #[test]
    fn this_file_is_clean_itself() {
        let own = include_str!("text.rs");
        assert_eq!(check_machine("text.rs", own), []);
        assert_eq!(check_leftovers("text.rs", own), []);
    }
}
