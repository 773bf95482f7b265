//! Fields that have a short form: `barge_in: off`, `yes: node`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::is_false;
use crate::scalar::At;

/// Whether the customer may break into a prompt: `on`, `off`, or `{off_until: words}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BargeInSpec {
    /// At any time.
    On,
    /// Not at all.
    Off,
    /// Once these words of the prompt were played.
    OffUntil(String),
}

impl<'de> Deserialize<'de> for BargeInSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = BargeInSpec;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`on`, `off` or {off_until: \"words of the prompt\"}")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<BargeInSpec, E> {
                match text {
                    "on" => Ok(BargeInSpec::On),
                    "off" => Ok(BargeInSpec::Off),
                    other => Err(E::unknown_variant(other, &["on", "off", "off_until"])),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BargeInSpec, A::Error> {
                let spec = OffUntilSpec::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(BargeInSpec::OffUntil(spec.off_until))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OffUntilSpec {
    /// The protected words, as they stand in the prompt; the prompt can be broken into behind them.
    off_until: String,
}

impl JsonSchema for BargeInSpec {
    fn schema_name() -> Cow<'static, str> {
        "BargeIn".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let off_until = OffUntilSpec::json_schema(generator);
        schemars::json_schema!({ "oneOf": [{ "type": "string", "enum": ["on", "off"] }, off_until] })
    }
}

/// Where an answer leads: the name of a node, or more. Besides nodes there are two names: `handoff`, a
/// person, and `return`, back to where a digression came from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Edge {
    /// What is said on the way. In a ladder, the first wording the first time, the second the second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub say: Vec<At<String>>,
    /// How often a ladder speaks before it gives up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u8>,
    /// Where to go; in a ladder, when it gives up.
    pub then: At<String>,
    /// Slots that are given a value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, At<String>>,
    /// Slots that the same answer fills on this edge only.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fill: BTreeMap<String, At<String>>,
    /// With this answer the right person is known to be speaking. A `yes` to a question that names a
    /// variable of type `person` says so by itself.
    #[serde(skip_serializing_if = "is_false")]
    pub confirms: bool,
    /// Where arms of experiments go instead, by `experiment.arm`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub arms: BTreeMap<String, At<String>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EdgeSpec {
    /// What is said on the way; in a ladder several wordings take turns.
    #[serde(default)]
    #[schemars(with = "WordingSchema")]
    say: Wording,
    /// How often a ladder speaks before it gives up.
    #[serde(default)]
    #[schemars(range(min = 1, max = 5))]
    max: Option<u8>,
    /// Where to go; in a ladder, when it gives up.
    then: At<String>,
    /// Slots that are given a value.
    #[serde(default)]
    set: BTreeMap<String, At<String>>,
    /// Slots that the same answer fills on this edge only.
    #[serde(default)]
    fill: BTreeMap<String, At<String>>,
    /// With this answer the right person is known to be speaking.
    #[serde(default)]
    confirms: bool,
    /// Where arms of experiments go instead, by `experiment.arm`.
    #[serde(default)]
    arms: BTreeMap<String, At<String>>,
}

impl<'de> Deserialize<'de> for Edge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Edge;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the name of a node, or {say: …, then: node}")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Edge, E> {
                let then = At::bare(text.to_owned());
                Ok(Edge {
                    say: Vec::new(),
                    max: None,
                    then,
                    set: BTreeMap::new(),
                    fill: BTreeMap::new(),
                    confirms: false,
                    arms: BTreeMap::new(),
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Edge, A::Error> {
                let EdgeSpec { say, max, then, set, fill, confirms, arms } =
                    EdgeSpec::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Edge { say: say.0, max, then, set, fill, confirms, arms })
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl JsonSchema for Edge {
    fn schema_name() -> Cow<'static, str> {
        "Edge".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let full = EdgeSpec::json_schema(generator);
        schemars::json_schema!({ "oneOf": [{ "type": "string" }, full] })
    }
}

/// One wording or several.
#[derive(Default)]
struct Wording(Vec<At<String>>);

#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum WordingSchema {
    One(String),
    Several(Vec<String>),
}

impl<'de> Deserialize<'de> for Wording {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Wording;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a wording or a list of wordings")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Wording, E> {
                Ok(Wording(vec![At::bare(text.to_owned())]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Wording, A::Error> {
                let mut wordings = Vec::new();
                while let Some(wording) = seq.next_element()? {
                    wordings.push(wording);
                }
                Ok(Wording(wordings))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}
