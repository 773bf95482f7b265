//! What is wrong with a script, where, and what to do about it.
//!
//! The compiler finds what does not fit together (names, types); this file finds what fits and is still
//! wrong: places that are never reached, calls that never end, words that the law asks for.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;
use trunkline_policy::Pack;

use crate::code::Code;
use crate::compile::compile;
use crate::document::Document;
use crate::graph::Graph;
use crate::scalar::Pos;
use crate::script::{LoadError, read};

mod graph;
mod guards;
mod opening;
mod pack;
mod person;
mod rest;
mod words;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The script is refused.
    Error,
    /// It can be published, and somebody should look.
    Warning,
}

/// One thing that is wrong with a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of mistake it is.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// The line in the file, from 1; 0 when it is about the file as a whole.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl Finding {
    pub(crate) fn error(code: Code, pos: Pos, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            line: pos.line,
            column: pos.column,
            message: message.into(),
            remedy: remedy.into(),
        }
    }

    pub(crate) fn warning(
        code: Code,
        pos: Pos,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, pos, message, remedy) }
    }

    /// Returns it as programs read it: as a [`PlainFinding`].
    pub fn to_json(&self) -> serde_json::Value {
        let plain = PlainFinding {
            code: self.code.as_str(),
            severity: match self.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            line: self.line,
            column: self.column,
            message: &self.message,
            remedy: &self.remedy,
        };
        serde_json::to_value(plain).unwrap_or_default()
    }

    /// Says whether it refuses the script.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// A finding as programs read it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Finding")]
pub struct PlainFinding<'a> {
    /// What kind of mistake it is, such as `unreachable`.
    code: &'a str,
    /// How bad it is.
    #[schemars(extend("enum" = ["error", "warning"]))]
    severity: &'a str,
    /// The line, from 1; 0 when it is about the whole text.
    line: u32,
    /// The column, from 1.
    column: u32,
    /// What is wrong.
    message: &'a str,
    /// What to do.
    remedy: &'a str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        if self.line > 0 {
            write!(f, "{}:{}: ", self.line, self.column)?;
        }
        write!(f, "{severity}[{}]: {}; {}", self.code, self.message, self.remedy)
    }
}

/// Returns all that is wrong with a script, errors and warnings, in the order of the file.
///
/// # Errors
///
/// When it is too large or not of the shape of a script, so that nothing more can be said.
pub fn lint(text: &str) -> Result<Vec<Finding>, LoadError> {
    let document = read(text)?;
    let (graph, mut findings) = compile(&document);
    if let Some(graph) = &graph {
        findings.extend(check(&document, graph));
    }
    findings.sort_by_key(|f| (f.line, f.column, f.severity));
    Ok(findings)
}

/// As [`lint`], for a script that is used under a policy pack: with what the gate would refuse its calls for.
///
/// # Errors
///
/// As [`lint`].
pub fn lint_under(text: &str, by: &Pack) -> Result<Vec<Finding>, LoadError> {
    let mut findings = lint(text)?;
    let document = read(text)?;
    let (graph, _) = compile(&document);
    findings.extend(pack::under(&document, graph.as_ref(), by));
    findings.sort_by_key(|f| (f.line, f.column, f.severity));
    Ok(findings)
}

/// Checks a script that compiled.
pub(crate) fn check(document: &Document, graph: &Graph) -> Vec<Finding> {
    let mut linter = Linter { document, graph, findings: Vec::new() };
    linter.reachable();
    linter.exits();
    linter.spinning();
    linter.opening();
    linter.amounts();
    linter.texts();
    linter.intents();
    linter.human();
    linter.guards();
    linter.unused();
    linter.tests();
    linter.findings
}

struct Linter<'d> {
    document: &'d Document,
    graph: &'d Graph,
    findings: Vec<Finding>,
}

impl Linter<'_> {
    fn error(&mut self, code: Code, pos: Pos, message: impl Into<String>, remedy: impl Into<String>) {
        self.findings.push(Finding::error(code, pos, message, remedy));
    }

    fn warn(&mut self, code: Code, pos: Pos, message: impl Into<String>, remedy: impl Into<String>) {
        self.findings.push(Finding::warning(code, pos, message, remedy));
    }
}

/// Returns a remedy that names the nearest known name, or all of them.
pub(crate) fn did_you_mean(name: &str, known: &[&str]) -> String {
    let near = known.iter().map(|k| (distance(name, k), *k)).min();
    match near {
        None => "none is declared; declare it".to_owned(),
        Some((d, nearest)) if d <= 2 && d < nearest.chars().count() => format!("did you mean `{nearest}`?"),
        Some(_) => {
            let shown: Vec<&str> = known.iter().take(20).copied().collect();
            let more = if known.len() > shown.len() { ", …" } else { "" };
            format!("known are {}{more}", shown.join(", "))
        }
    }
}

/// The number of characters to change, add or drop to make one of the other.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
