//! A script that was read, checked and named by its content.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;
use trunkline_model::{ScriptId, ScriptVersion};

use crate::action::Variables;
use crate::code::Code;
use crate::compile::compile;
use crate::document::{Document, OnMachine, SCHEMA, Voice};
use crate::expr::type_name;
use crate::graph::Graph;
use crate::lint::{self, Finding, did_you_mean};
use crate::scalar::Pos;
use crate::vars::{self, VariableError};

/// The largest script that is read, in bytes; its canonical form may have no more either, for that is what is stored
/// and what boxes fetch. Some fifty times what a long script has: every sentence of it is rendered ahead.
pub const MAX_BYTES: usize = 1024 * 1024;

/// A script that was read and has no errors. Share it by `Arc`.
#[derive(Clone, Debug)]
pub struct Script {
    document: Document,
    graph: Graph,
    id: ScriptId,
    version: ScriptVersion,
    canonical: String,
}

/// What a message on a voicemail tells whoever hears it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// The same for every customer.
    Neutral,
    /// It holds variables: a name, an amount.
    Personal,
}

/// Why a script could not be loaded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LoadError {
    /// Larger than [`MAX_BYTES`], as it is or in its canonical form.
    #[error("the script or its canonical form has {bytes} bytes, {MAX_BYTES} are allowed; split it")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not UTF-8.
    #[error("the script is not UTF-8 from byte {at} on (line {line}); save it as UTF-8")]
    NotUtf8 {
        /// The first byte that does not fit.
        at: usize,
        /// Its line.
        line: usize,
    },
    /// Not YAML, or not of the shape of a script.
    #[error("{line}:{column}: {message}; {remedy}")]
    Shape {
        /// What kind of mistake.
        code: Code,
        /// The line, from 1.
        line: u32,
        /// The column, from 1.
        column: u32,
        /// What is wrong.
        message: String,
        /// What to do.
        remedy: String,
    },
    /// Of the right shape, and wrong.
    #[error("{}", show(.0))]
    Rejected(Vec<Finding>),
}

fn show(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl LoadError {
    /// Returns what is wrong as findings, each with its place, as the linter gives them.
    pub fn findings(&self) -> Vec<Finding> {
        let nowhere = Pos::default();
        match self {
            Self::Rejected(findings) => findings.clone(),
            Self::TooLarge { bytes } => {
                let message =
                    format!("the script or its canonical form has {bytes} bytes, {MAX_BYTES} are allowed");
                vec![Finding::error(Code::TooLarge, nowhere, message, "split it, such as by campaign")]
            }
            Self::NotUtf8 { at, line } => {
                let pos = Pos { line: u32::try_from(*line).unwrap_or(u32::MAX), column: 1 };
                let message = format!("the script is not UTF-8 from byte {at} on");
                vec![Finding::error(Code::NotUtf8, pos, message, "save it as UTF-8")]
            }
            Self::Shape { code, line, column, message, remedy } => {
                vec![Finding::error(*code, Pos { line: *line, column: *column }, message, remedy)]
            }
        }
    }
}

impl Script {
    /// Reads a script from YAML, or from its canonical JSON, which is YAML too.
    ///
    /// # Errors
    ///
    /// When it is too large, no YAML, not of the shape of a script, or refused by the linter.
    pub fn load(text: &str) -> Result<Self, LoadError> {
        let document = read(text)?;
        let (graph, mut findings) = compile(&document);
        if let Some(graph) = &graph {
            findings.extend(lint::check(&document, graph));
        }
        findings.retain(Finding::is_error);
        let (Some(graph), true) = (graph, findings.is_empty()) else {
            findings.sort_by_key(|f| (f.line, f.column));
            return Err(LoadError::Rejected(findings));
        };
        let canonical = canonical(&document);
        if canonical.len() > MAX_BYTES {
            return Err(LoadError::TooLarge { bytes: canonical.len() });
        }
        let refused = |message: String| {
            LoadError::Rejected(vec![Finding::error(
                Code::BadName,
                document.id.pos(),
                message,
                "rename the script",
            )])
        };
        let id: ScriptId =
            document.id.parse().map_err(|e: trunkline_model::IdError| refused(e.to_string()))?;
        let digest = ring::digest::digest(&ring::digest::SHA256, canonical.as_bytes());
        let version =
            ScriptVersion::try_from(hex::encode(digest.as_ref())).map_err(|e| refused(e.to_string()))?;
        Ok(Self { document, graph, id, version, canonical })
    }

    /// Reads a script from bytes, as [`Self::load`] does.
    ///
    /// # Errors
    ///
    /// As [`Self::load`], and when the bytes are not UTF-8.
    pub fn load_bytes(bytes: &[u8]) -> Result<Self, LoadError> {
        if bytes.len() > MAX_BYTES {
            return Err(LoadError::TooLarge { bytes: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|e| {
            let at = e.valid_up_to();
            LoadError::NotUtf8 { at, line: 1 + bytes[..at].iter().filter(|b| **b == b'\n').count() }
        })?;
        Self::load(text)
    }

    /// Returns the name that people gave it.
    pub fn id(&self) -> &ScriptId {
        &self.id
    }

    /// Returns the hash of its content.
    pub fn version(&self) -> &ScriptVersion {
        &self.version
    }

    /// Returns the JSON that the version is the SHA-256 of: keys in order, no spaces, and nothing that
    /// has its default. Loading it gives the same script.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// Returns the language that it speaks, as a BCP 47 tag.
    pub fn locale(&self) -> &str {
        &self.document.locale
    }

    /// Returns the robot's voice.
    pub fn voice(&self) -> &Voice {
        &self.document.voice
    }

    /// Says what is done with a machine that answers, if the script says so: `true` is to hang up.
    pub fn hangs_up_on_machines(&self) -> Option<bool> {
        let rules = self.document().answered_by.as_ref()?;
        rules.machine.map(|rule| rule == OnMachine::HangUp)
    }

    /// Returns what kind of message is left on a voicemail, if any is.
    pub fn leaves_message(&self) -> Option<Message> {
        let text = self.graph().voicemail.as_ref()?;
        Some(if text.vars().next().is_some() { Message::Personal } else { Message::Neutral })
    }

    /// Says whether the script wants to know how the customer speaks.
    pub fn hears_tone_of_voice(&self) -> bool {
        self.document.tone_of_voice.as_ref().is_some_and(|wanted| **wanted)
    }

    /// Lists the script's own intents with their examples, for training.
    pub fn intents(&self) -> Vec<(String, Vec<String>)> {
        let owned = |examples: &[crate::At<String>]| examples.iter().map(|e| e.to_string()).collect();
        self.document.intents.iter().map(|(name, i)| (name.clone(), owned(&i.examples))).collect()
    }

    /// Returns the words of the script's own entities: for each, its values and the ways to say them.
    pub fn entities(&self) -> impl Iterator<Item = (&str, &BTreeMap<String, Vec<String>>)> {
        self.document.entities.iter().map(|(name, entity)| (name.as_str(), &entity.values))
    }

    /// Returns the file as it was read.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// Checks the variables of a call, and returns them trimmed and with the defaults filled in.
    ///
    /// # Errors
    ///
    /// Lists all that are missing, unknown or not of their type.
    pub fn check_variables(&self, given: &Variables) -> Result<Variables, Vec<VariableError>> {
        let declared = &self.document.vars;
        let (mut out, mut errors) = (Variables::new(), Vec::new());
        for (name, value) in given {
            let Some(var) = declared.get(name) else {
                let known: Vec<&str> = declared.keys().map(String::as_str).collect();
                let shown: String = name.chars().take(64).collect();
                let remedy = did_you_mean(&shown, &known);
                errors.push(VariableError::Unknown { name: shown, remedy });
                continue;
            };
            // An empty value is what a CRM sends for one that it has not.
            if value.trim().is_empty() {
                continue;
            }
            let range = (var.min, var.max);
            match vars::check(var.kind, &var.values, value) {
                Ok(value) if !vars::in_range(range, &value) => errors.push(VariableError::Wrong {
                    name: name.clone(),
                    type_name: type_name(var.kind),
                    rule: vars::range_rule(range),
                }),
                Ok(value) => {
                    out.insert(name.clone(), value);
                }
                Err(rule) => errors.push(VariableError::Wrong {
                    name: name.clone(),
                    type_name: type_name(var.kind),
                    rule,
                }),
            }
        }
        for (name, var) in declared {
            let refused =
                errors.iter().any(|e| matches!(e, VariableError::Wrong { name: n, .. } if n == name));
            if out.contains_key(name) || refused {
                continue;
            }
            match &var.default {
                Some(value) => {
                    out.insert(name.clone(), value.trim().to_owned());
                }
                None if var.required => {
                    errors.push(VariableError::Missing { name: name.clone(), type_name: type_name(var.kind) })
                }
                None => {}
            }
        }
        if errors.is_empty() { Ok(out) } else { Err(errors) }
    }

    /// Returns a value for each variable, for tests and previews.
    pub fn example_variables(&self) -> Variables {
        examples(&self.document)
    }

    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Fills in the defaults and passes the rest on unchecked.
    pub(crate) fn with_defaults(&self, given: &Variables) -> Variables {
        let mut out: Variables = given
            .iter()
            .filter(|(_, value)| !value.trim().is_empty())
            .map(|(name, value)| (name.clone(), value.trim().to_owned()))
            .collect();
        for (name, var) in &self.document.vars {
            if let (false, Some(value)) = (out.contains_key(name), &var.default) {
                out.insert(name.clone(), value.trim().to_owned());
            }
        }
        out
    }
}

/// Reads the file's shape; what it means is checked later.
pub(crate) fn read(text: &str) -> Result<Document, LoadError> {
    if text.len() > MAX_BYTES {
        return Err(LoadError::TooLarge { bytes: text.len() });
    }
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options.clone()).map_err(|e| {
        // A later version may have fields that mean nothing here; that it is one says more.
        if let Ok(Head { schema: Some(schema) }) = serde_saphyr::from_str_with_options(text, options)
            && *schema != SCHEMA
        {
            let Pos { line, column } = schema.pos();
            let message = format!("this program does not know the format `{}`", &*schema);
            let remedy = format!("write schema: {SCHEMA}, or update the program");
            return LoadError::Shape { code: Code::UnknownSchema, line, column, message, remedy };
        }
        let at = e.location().unwrap_or(serde_saphyr::Location::UNKNOWN);
        let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let (line, column) = (number(at.line()), number(at.column()));
        let message = message(&e);
        let remedy = remedy(&message);
        LoadError::Shape { code: Code::Shape, line, column, message, remedy }
    })
}

/// What a file of any version says of itself.
#[derive(serde::Deserialize)]
struct Head {
    #[serde(default)]
    schema: Option<crate::At<String>>,
}

/// Returns the parser's message without the place and the excerpt, which we print ourselves.
fn message(error: &serde_saphyr::Error) -> String {
    let whole = error.without_snippet().to_string();
    let first = whole.lines().next().unwrap_or_default();
    // Behind these stand the place, and an option of the parser that no author can set.
    let ends = [" at line ", ", line ", ", set DuplicateKeyPolicy"];
    let end = ends.iter().filter_map(|e| first.find(e)).min().unwrap_or(first.len());
    first[..end].trim().chars().take(300).collect()
}

fn remedy(message: &str) -> String {
    let known = [
        ("unknown field", "check the spelling; the JSON Schema lists what may stand here"),
        ("missing field", "add it"),
        ("duplicate", "drop one of the two"),
        ("unknown variant", "use one of those listed"),
        ("invalid type", "check the indentation and the quotes"),
    ];
    let found = known.iter().find(|(part, _)| message.contains(part));
    found.map_or("check the indentation and the quotes around this place", |(_, remedy)| remedy).to_owned()
}

/// Returns a value for each variable: its example, its default, or one that suits its type.
pub(crate) fn examples(document: &Document) -> Variables {
    let chinese = document.locale.starts_with("zh");
    let value = |var: &crate::document::Var| {
        var.example
            .as_ref()
            .or(var.default.as_ref())
            .map_or_else(|| vars::sample(var.kind, &var.values, chinese), |v| v.trim().to_owned())
    };
    document.vars.iter().map(|(name, var)| (name.clone(), value(var))).collect()
}

/// Returns the JSON Schema of the file format.
pub fn schema() -> Value {
    schemars::schema_for!(Document).to_value()
}

/// Writes a document as JSON with sorted keys and without spaces.
fn canonical(document: &Document) -> String {
    let mut out = String::new();
    match serde_json::to_value(document) {
        Ok(value) => write_sorted(&value, &mut out),
        // Every field is a string, a number, a list or a map with string keys.
        Err(e) => out = format!("{{\"unwritable\":{:?}}}", e.to_string()),
    }
    out
}

fn write_sorted(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            out.push('{');
            for (i, (key, value)) in sorted.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                let _ = write!(out, "{}:", Value::from(key.as_str()));
                write_sorted(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_sorted(item, out);
            }
            out.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let _ = write!(out, "{value}");
        }
    }
}
