//! Ids with kinds: a box cannot be passed where a call is meant.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind}: {rule}")]
pub struct IdError {
    kind: &'static str,
    text: String,
    rule: &'static str,
}

impl IdError {
    fn new(kind: &'static str, text: &str, rule: &'static str) -> Self {
        Self { kind, text: text.chars().take(80).collect(), rule }
    }
}

/// One telephone call, from the request that asked for it to its filed record. A UUID of version 7,
/// so that ids sort by the time at which they were made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct CallId(Uuid);

impl CallId {
    /// Wraps an id that a shell made ([`Uuid::now_v7`]).
    pub fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// Returns the id made from `bits`; for tests and golden files.
    pub fn from_u128(bits: u128) -> Self {
        Self(Uuid::from_u128(bits))
    }

    /// Returns the id as the UUID that it is.
    pub fn as_uuid(&self) -> Uuid {
        self.0
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for CallId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Uuid::parse_str(text).map(Self).map_err(|_| IdError::new("call id", text, "it must be a UUID"))
    }
}

macro_rules! slug {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $pattern:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the text of the id.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.to_owned())) } else { Err(IdError::new($kind, text, $rule)) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn is_slug(text: &str, max: usize) -> bool {
    let first_is_plain = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    first_is_plain
        && text.len() <= max
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
}

slug!(
    /// One box, named as in its certificate's common name; also a level of its MQTT topics, so it
    /// can hold neither `/` nor a wildcard.
    BoxId,
    "box id",
    "1 to 64 characters of a-z, 0-9, `-`, `_` and `.`, the first a letter or a digit",
    "^[a-z0-9][a-z0-9._-]{0,63}$",
    |text| is_slug(text, 64)
);

slug!(
    /// A script by the name that people gave it, such as `repayment-reminder-zh`.
    ScriptId,
    "script id",
    "1 to 100 characters of a-z, 0-9, `-`, `_` and `.`, the first a letter or a digit",
    "^[a-z0-9][a-z0-9._-]{0,99}$",
    |text| is_slug(text, 100)
);

slug!(
    /// A version of a script: the SHA-256 of its canonical form, as 64 lowercase hexadecimal digits.
    ScriptVersion,
    "script version",
    "64 lowercase hexadecimal digits",
    "^[0-9a-f]{64}$",
    |text| text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_id_cannot_reach_into_another_topic() {
        for bad in ["", "a/b", "+", "#", "Box", "-a", "tl box", &"a".repeat(65)] {
            assert!(bad.parse::<BoxId>().is_err(), "{bad}");
        }
        assert_eq!("tl-7q2m".parse::<BoxId>().unwrap().as_str(), "tl-7q2m");
    }

    #[test]
    fn an_id_error_says_what_was_expected() {
        let error = "xyz".parse::<CallId>().unwrap_err();
        assert_eq!(error.to_string(), "`xyz` is not a call id: it must be a UUID");
    }

    #[test]
    fn ids_are_checked_when_they_are_deserialised() {
        assert!(serde_json::from_str::<ScriptId>("\"No Spaces\"").is_err());
        assert!(serde_json::from_str::<ScriptVersion>("\"abc\"").is_err());
    }
}
