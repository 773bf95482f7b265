//! Collects the sentences and words that stand in the sources of what runs on a box: of a log only these leave it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

fn main() -> io::Result<()> {
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .ok_or_else(|| io::Error::other("CARGO_MANIFEST_DIR is not set"))?;
    let root = Path::new(&here).join("../..");
    let mut files = Vec::new();
    for part in ["edge", "shared"] {
        for entry in fs::read_dir(root.join(part))? {
            let sources = entry?.path().join("src");
            if sources.is_dir() {
                println!("cargo::rerun-if-changed={}", sources.display());
                sources_in(&sources, &mut files)?;
            }
        }
    }
    let (mut phrases, mut tokens) = (BTreeSet::new(), BTreeSet::new());
    for file in files {
        let text = fs::read_to_string(&file)?;
        // By our custom the tests stand at the end of a file.
        let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for literal in literals(text) {
            if is_sentence(&literal) {
                phrases.insert(literal);
            } else if is_token(&literal) {
                tokens.insert(literal);
            }
        }
    }
    let out = std::env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("OUT_DIR is not set"))?;
    for (name, all) in [("phrases.rs", phrases), ("tokens.rs", tokens)] {
        let mut list = String::from("&[\n");
        for one in all {
            let _ = writeln!(list, "    {one:?},");
        }
        list.push_str("]\n");
        fs::write(Path::new(&out).join(name), list)?;
    }
    Ok(())
}

fn sources_in(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "tests") {
                sources_in(&path, found)?;
            }
        } else if path.extension().is_some_and(|ending| ending == "rs")
            && path.file_stem().is_none_or(|name| name != "tests")
        {
            found.push(path);
        }
    }
    Ok(())
}

/// Two words at least, in Latin letters; what holds several lines is a page and no sentence.
fn is_sentence(text: &str) -> bool {
    let plain = outside_braces(text);
    let words =
        plain.split_whitespace().filter(|word| word.chars().filter(char::is_ascii_alphabetic).count() >= 2);
    words.count() >= 2 && text.is_ascii() && !text.contains('\n') && text.len() <= 300
}

/// A word that programs say to each other, such as `rolled_back`.
fn is_token(text: &str) -> bool {
    let fine = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    (2..=30).contains(&text.len())
        && text.chars().all(fine)
        && text.starts_with(|letter: char| letter.is_ascii_lowercase())
}

fn outside_braces(text: &str) -> String {
    let (mut out, mut inside) = (String::new(), false);
    for letter in text.chars() {
        match letter {
            '{' => inside = true,
            '}' => inside = false,
            _ if !inside => out.push(letter),
            _ => {}
        }
    }
    out
}

/// The plain string literals of a source, with their escapes resolved; comments hold none.
fn literals(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(letter) = rest.next() {
        match letter {
            '/' if rest.peek() == Some(&'/') => while rest.next().is_some_and(|next| next != '\n') {},
            // A quotation mark as a character is no beginning of a text.
            '\'' if rest.peek() == Some(&'"') => _ = rest.next(),
            '\'' if rest.peek() == Some(&'\\') => _ = (rest.next(), rest.next()),
            '"' => {
                let mut literal = String::new();
                while let Some(next) = rest.next() {
                    match next {
                        '"' => break,
                        '\\' => match rest.next() {
                            Some('n') => literal.push('\n'),
                            Some('t') => literal.push('\t'),
                            Some('\n') => while rest.next_if(|next| next.is_whitespace()).is_some() {},
                            Some(other) => literal.push(other),
                            None => break,
                        },
                        other => literal.push(other),
                    }
                }
                found.push(literal);
            }
            _ => {}
        }
    }
    found
}
