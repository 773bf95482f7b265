//! Schemas of the types that handlers read and write.
//!
//! What is read and what is written differ (a field with a default may be left out of a request and stands in every
//! answer), so there is a generator for each; they share one table of names.

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value};

/// Where named schemas stand in the document.
const PLACE: &str = "/components/schemas";

/// The largest whole number that every program reads as it stands (RFC 8259 §6).
pub(super) const MOST: u64 = (1 << 53) - 1;

/// Generates schemas, and keeps those that have names.
pub(crate) struct Schemas {
    requests: SchemaGenerator,
    answers: SchemaGenerator,
}

impl Schemas {
    pub(super) fn new() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = PLACE.into();
                settings.meta_schema = None;
            })
        };
        Self {
            requests: settings().for_deserialize().into_generator(),
            answers: settings().for_serialize().with_transform(RecursiveTransform(left_out)).into_generator(),
        }
    }

    /// Returns the schema of what is read into `T`.
    pub(crate) fn read<T: JsonSchema>(&mut self) -> Value {
        plain(self.requests.subschema_for::<T>())
    }

    /// Returns the schema of what `T` is written as.
    pub(crate) fn written<T: JsonSchema>(&mut self) -> Value {
        let mut schema = self.answers.subschema_for::<T>();
        RecursiveTransform(left_out).transform(&mut schema);
        plain(schema)
    }

    /// Returns what `T` reads from behind `?`: a schema for each name, and whether it must be there.
    pub(crate) fn fields<T: JsonSchema>(&mut self) -> Vec<(String, Value, bool)> {
        let schema = plain(T::json_schema(&mut self.requests));
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let Value::Object(fields) = schema["properties"].clone() else { return Vec::new() };
        fields
            .into_iter()
            .map(|(name, mut schema)| {
                let must = required.iter().any(|one| *one == name.as_str());
                without_null(&mut schema);
                if schema["type"] == "integer" && schema.get("maximum").is_none() {
                    schema["maximum"] = MOST.into();
                }
                (name, schema, must)
            })
            .collect()
    }

    /// Returns the schemas that have names.
    ///
    /// # Panics
    /// When a type is read in another form than it is written, and both have the same name.
    pub(super) fn named(mut self) -> Map<String, Value> {
        let mut named: Map<String, Value> = Map::new();
        let both = [self.answers.take_definitions(true), self.requests.take_definitions(false)];
        for (name, schema) in both.into_iter().flatten() {
            let schema = Schema::try_from(schema).map_or(Value::Null, plain);
            if let Some(other) = named.get(&name) {
                assert_eq!(
                    *other, schema,
                    "`{name}` is read and written in two forms: name one with #[schemars(rename)]"
                );
            }
            named.insert(name, schema);
        }
        named
    }
}

/// Brings a schema into the form in which clients are generated from it most easily.
fn plain(mut schema: Schema) -> Value {
    RecursiveTransform(|schema: &mut Schema| {
        names_of_variants(schema);
        whole_numbers(schema);
        no_default(schema);
        words(schema);
    })
    .transform(&mut schema);
    schema.to_value()
}

/// An enumeration whose variants have documentation becomes one list of names again.
fn names_of_variants(schema: &mut Schema) {
    let Some(variants) = schema.get("oneOf").and_then(Value::as_array) else { return };
    let (mut names, mut lines) = (Vec::new(), Vec::new());
    for variant in variants {
        if variant["type"] != "string" {
            return;
        }
        match (variant.get("const"), variant.get("enum").and_then(Value::as_array)) {
            (Some(name), None) => {
                if let (Some(name), Some(text)) = (name.as_str(), variant["description"].as_str()) {
                    lines.push(format!("`{name}`: {text}"));
                }
                names.push(name.clone());
            }
            (None, Some(some)) => names.extend(some.iter().cloned()),
            _ => return,
        }
    }
    let about = schema.get("description").and_then(Value::as_str).map(str::to_owned);
    let text: Vec<String> = about.into_iter().chain(lines).collect();
    schema.remove("oneOf");
    schema.insert("type".into(), "string".into());
    schema.insert("enum".into(), names.into());
    schema.insert("description".into(), text.join("\n\n").into());
}

/// JSON knows no widths: what they mean is said as limits, as far as every program can read the number.
fn whole_numbers(schema: &mut Schema) {
    let format = schema.get("format").and_then(Value::as_str);
    if !format.is_some_and(|format| format.starts_with("uint") || format == "int64") {
        return;
    }
    if format == Some("uint32") && schema.get("maximum").is_none() {
        schema.insert("maximum".into(), u32::MAX.into());
    }
    schema.remove("format");
}

/// `null` says nothing that the type does not say.
fn no_default(schema: &mut Schema) {
    if schema.get("default") == Some(&Value::Null) {
        schema.remove("default");
    }
}

/// Documentation in Rust has links and line breaks that mean nothing here.
fn words(schema: &mut Schema) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        let paragraphs: Vec<String> = text.split("\n\n").map(|one| one.replace('\n', " ")).collect();
        *text = paragraphs.join("\n\n").replace("[`", "`").replace("`]", "`").replace("`None`", "`null`");
    }
}

/// A field that an answer may lack is left out where it would be `null`.
fn left_out(schema: &mut Schema) {
    let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let Some(Value::Object(fields)) = schema.get_mut("properties") else { return };
    for (name, field) in fields {
        if !required.iter().any(|one| one == name.as_str()) {
            without_null(field);
        }
    }
}

/// Takes `null` out of what a field may be: in an address it is left out instead.
fn without_null(schema: &mut Value) {
    if let Some(kinds) = schema["type"].as_array() {
        let kinds: Vec<Value> = kinds.iter().filter(|kind| **kind != "null").cloned().collect();
        schema["type"] = if kinds.len() == 1 { kinds[0].clone() } else { kinds.into() };
    }
    if let Some(schema) = schema.as_object_mut()
        && let Some(choices) = schema.get("anyOf").and_then(Value::as_array).cloned()
    {
        let mut choices = choices.into_iter().filter(|one| one["type"] != "null");
        if let (Some(Value::Object(only)), None) = (choices.next(), choices.next()) {
            schema.remove("anyOf");
            schema.extend(only);
        }
    }
}
