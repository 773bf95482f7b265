//! What changed between two versions of a script, by node and not by line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::script::Script;

/// One thing of a script that is not the same in the other version.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// What kind of thing: `node`, `intent`, `slot`, `outcome`, `script` for the head, …
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Whether it came, went or changed.
    pub what: What,
    /// What of it changed, where it is in both.
    pub fields: Vec<Field>,
}

/// Whether a thing came, went or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Only the newer version has it.
    Added,
    /// Only the older version has it.
    Removed,
    /// Both have it, and it differs.
    Changed,
}

/// One field of a thing that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Field {
    /// Its path, such as `say` or `on.yes`.
    pub path: String,
    /// What it was; null when it was not there.
    pub before: Value,
    /// What it is; null when it is not there any more.
    pub after: Value,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.what {
            What::Added => '+',
            What::Removed => '-',
            What::Changed => '~',
        };
        write!(f, "{sign} {} {}", self.kind, self.name)?;
        for field in &self.fields {
            match (&field.before, &field.after) {
                (Value::Null, after) => write!(f, "\n    {}: + {}", field.path, shown(after))?,
                (before, Value::Null) => write!(f, "\n    {}: - {}", field.path, shown(before))?,
                (before, after) => {
                    write!(f, "\n    {}: - {}", field.path, shown(before))?;
                    write!(f, "\n    {:<1$}  + {2}", "", field.path.chars().count(), shown(after))?;
                }
            }
        }
        Ok(())
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string()
        }
    }
}

/// The lists and maps of a file whose entries have names: the field, what one is called, and the field
/// with its name where it is a list.
const NAMED: [(&str, &str, Option<&str>); 10] = [
    ("vars", "variable", None),
    ("slots", "slot", None),
    ("entities", "entity", None),
    ("experiments", "experiment", None),
    ("intents", "intent", None),
    ("nodes", "node", Some("id")),
    ("digressions", "digression", Some("on")),
    ("outcomes", "outcome", Some("code")),
    ("tests", "test", Some("name")),
    ("defaults", "defaults", None),
];

/// Lists what changed from one version of a script to another: the head first, then nodes and the rest in
/// the order of the newer file. The same content gives an empty list.
pub fn diff(before: &Script, after: &Script) -> Vec<Change> {
    let (old, new) = (value(before), value(after));
    let mut changes = Vec::new();
    let named: BTreeSet<&str> = NAMED.iter().map(|(field, _, _)| *field).collect();
    let mut fields = Vec::new();
    compare_fields("", &without(&old, &named), &without(&new, &named), &mut fields);
    let opening = |script: &Script| script.document().nodes.first().map(|node| node.id.to_string());
    if opening(before) != opening(after) {
        let name = |script| opening(script).map_or(Value::Null, Value::from);
        fields.push(Field { path: "opening".to_owned(), before: name(before), after: name(after) });
    }
    if !fields.is_empty() {
        let name = after.id().to_string();
        changes.push(Change { kind: "script", name, what: What::Changed, fields });
    }
    for (field, kind, key) in NAMED {
        let (old, new) = (entries(&old, field, key), entries(&new, field, key));
        let in_old: BTreeMap<&str, &Value> =
            old.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let in_new: BTreeSet<&str> = new.iter().map(|(name, _)| name.as_str()).collect();
        for (name, value) in &new {
            let (what, fields) = match in_old.get(name.as_str()) {
                None => (What::Added, Vec::new()),
                Some(earlier) if earlier == value => continue,
                Some(earlier) => {
                    let mut fields = Vec::new();
                    compare_fields("", earlier, value, &mut fields);
                    (What::Changed, fields)
                }
            };
            changes.push(Change { kind, name: name.clone(), what, fields });
        }
        for (name, _) in old.iter().filter(|(name, _)| !in_new.contains(name.as_str())) {
            changes.push(Change { kind, name: name.clone(), what: What::Removed, fields: Vec::new() });
        }
    }
    changes
}

fn value(script: &Script) -> Value {
    // The canonical form is JSON that we wrote ourselves.
    serde_json::from_str(script.canonical()).unwrap_or_default()
}

fn without(value: &Value, fields: &BTreeSet<&str>) -> Value {
    let mut value = value.clone();
    if let Some(map) = value.as_object_mut() {
        map.retain(|name, _| !fields.contains(name.as_str()));
    }
    value
}

/// Lists the entries of a list or map with their names; a name that comes again gets a number.
fn entries<'v>(value: &'v Value, field: &str, key: Option<&str>) -> Vec<(String, &'v Value)> {
    match (value.get(field), key) {
        (Some(Value::Object(map)), _) => map.iter().map(|(name, value)| (name.clone(), value)).collect(),
        (Some(Value::Array(list)), Some(key)) => {
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            list.iter()
                .map(|entry| {
                    let name = entry.get(key).and_then(Value::as_str).unwrap_or_default();
                    let count = counts.entry(name).or_default();
                    *count += 1;
                    let name = if *count > 1 { format!("{name} ({count})") } else { name.to_owned() };
                    (name, entry)
                })
                .collect()
        }
        _ => Vec::new(),
    }
}

/// Compares field by field; lists of plain texts are compared by what came and what went.
fn compare_fields(path: &str, before: &Value, after: &Value, out: &mut Vec<Field>) {
    if before == after {
        return;
    }
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for name in names {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let of = |map: &serde_json::Map<String, Value>| map.get(name).cloned().unwrap_or_default();
                compare_fields(&path, &of(old), &of(new), out);
            }
        }
        (Value::Array(old), Value::Array(new)) if path == "examples" => {
            let gone: Vec<Value> = old.iter().filter(|v| !new.contains(v)).cloned().collect();
            let came: Vec<Value> = new.iter().filter(|v| !old.contains(v)).cloned().collect();
            let list = |values: Vec<Value>| if values.is_empty() { Value::Null } else { values.into() };
            let (before, after) = (list(gone), list(came));
            // The same ones in another order train the same head.
            if before != after {
                out.push(Field { path: path.to_owned(), before, after });
            }
        }
        _ => out.push(Field { path: path.to_owned(), before: before.clone(), after: after.clone() }),
    }
}
