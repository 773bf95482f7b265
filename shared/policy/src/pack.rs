//! A pack: one jurisdiction's parameters, versioned and signed.

use jiff::civil::Date;
use ring::digest::{SHA256, digest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::{
    AfterRules, Area, BasisRules, CallRules, ContactRules, Hours, LineRules, SignOff, TimeRules,
};

/// The version of the file format.
pub const SCHEMA: &str = "trunkline/policy/1";

/// Why a pack cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The text is no pack.
    #[error("the pack `{name}` cannot be read: {text}")]
    Unreadable {
        /// Its name.
        name: String,
        /// What is wrong, with line and column.
        text: String,
    },
    /// The pack says something impossible.
    #[error("the pack `{name}` {problem}")]
    Impossible {
        /// Its name.
        name: String,
        /// What.
        problem: String,
    },
}

/// Which pack, in receipts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackRef {
    /// Its name.
    pub id: String,
    /// Its version.
    pub version: u32,
    /// SHA-256 of its text, hexadecimal.
    pub sha256: String,
}

/// A policy pack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pack {
    /// The version of the format: `trunkline/policy/1`.
    pub schema: String,
    /// Its name.
    pub id: String,
    /// Rises with every change.
    pub version: u32,
    /// What people call it.
    pub title: String,
    /// Countries that it is for, ISO 3166-1 alpha-2; empty for a pack that is chosen by name only.
    pub countries: Vec<String>,
    /// The first day on which it is in force.
    #[schemars(with = "String")]
    pub effective: Date,
    /// When its sources were last looked at.
    #[schemars(with = "String")]
    pub looked_at: Date,
    /// Who stands for it.
    #[serde(default)]
    pub sign_off: Option<SignOff>,
    /// Group A.
    pub contact: ContactRules,
    /// Group B.
    pub basis: BasisRules,
    /// Group C.
    pub line: LineRules,
    /// Group D.
    pub time: TimeRules,
    /// Stricter regions.
    #[serde(default)]
    pub areas: Vec<Area>,
    /// Group E.
    pub call: CallRules,
    /// Group F.
    pub after: AfterRules,
    /// SHA-256 of the text that it was read from.
    #[serde(skip)]
    sha256: String,
    /// That text.
    #[serde(skip)]
    text: String,
}

impl Pack {
    /// Reads a pack from YAML.
    ///
    /// # Errors
    /// [`PackError`] naming what is wrong.
    pub fn from_yaml(name: &str, text: &str) -> Result<Self, PackError> {
        let mut pack: Self = serde_saphyr::from_str(text)
            .map_err(|e| PackError::Unreadable { name: name.to_owned(), text: e.to_string() })?;
        pack.sha256 = hex::encode(digest(&SHA256, text.as_bytes()));
        text.clone_into(&mut pack.text);
        pack.check().map_err(|problem| PackError::Impossible { name: name.to_owned(), problem })?;
        Ok(pack)
    }

    /// Returns which pack this is.
    pub fn reference(&self) -> PackRef {
        PackRef { id: self.id.clone(), version: self.version, sha256: self.sha256.clone() }
    }

    /// Returns the text that it was read from, byte for byte as it was hashed.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn check(&self) -> Result<(), String> {
        if self.schema != SCHEMA {
            return Err(format!("has the schema `{}`; this build reads `{SCHEMA}`", self.schema));
        }
        if self.countries.iter().any(|c| c.len() != 2 || c.bytes().any(|b| !b.is_ascii_uppercase())) {
            return Err("names a country that is not two capital letters".into());
        }
        let purpose_hours = self.time.purpose_hours.iter().flat_map(|p| &p.hours);
        let area_hours = self.areas.iter().flat_map(|area| &area.hours);
        let all: Vec<&Hours> = self.time.hours.value.iter().chain(purpose_hours).chain(area_hours).collect();
        if all.is_empty() {
            return Err("has no calling hours at all".into());
        }
        if let Some(hours) = all.iter().find(|hours| hours.from >= hours.to) {
            return Err(format!("has hours from {} to {}, which is never", hours.from, hours.to));
        }
        if self.time.ring_min_s.value > self.time.ring_max_s.value {
            return Err("lets a call ring longer at least than at most".into());
        }
        let share = |value: f64| (0.0..=1.0).contains(&value);
        if !share(self.after.abandonment_cap.value) || !share(self.line.answer_floor.value) {
            return Err("has a share that is not between 0 and 1".into());
        }
        let value = serde_json::to_value(self).map_err(|e| e.to_string())?;
        without_source(&value, "").map_or(Ok(()), |path| Err(format!("gives no source for `{path}`")))
    }
}

/// Finds a `source` that says nothing.
fn without_source(value: &serde_json::Value, path: &str) -> Option<String> {
    use serde_json::Value;
    match value {
        Value::Object(map) => map.iter().find_map(|(key, inner)| {
            let here = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            if key == "source" && inner.as_str().is_none_or(|text| text.trim().len() < 4) {
                return Some(path.to_owned());
            }
            without_source(inner, &here)
        }),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(at, inner)| without_source(inner, &format!("{path}[{at}]")))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// Returns the JSON Schema of a pack.
pub fn schema() -> serde_json::Value {
    let mut value = schemars::schema_for!(Pack).to_value();
    value["$id"] = SCHEMA.into();
    value
}
