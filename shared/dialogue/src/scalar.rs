//! Scalars of the file format: values that know where they stand, and lengths of time.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A place in the source file; both count from 1, and 0 means "nowhere in particular".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pos {
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

impl Pos {
    /// Returns this place, or `other` where this one is not known.
    pub(crate) fn or(self, other: Self) -> Self {
        if self.line == 0 { other } else { self }
    }
}

impl fmt::Display for Pos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A value and where it stands in the file. Two are equal when their values are.
#[derive(Clone, Debug, Default)]
pub struct At<T> {
    value: T,
    pos: Pos,
}

impl<T> At<T> {
    /// Wraps a value whose own place is not known; the thing that it is part of knows its.
    pub(crate) fn bare(value: T) -> Self {
        Self { value, pos: Pos::default() }
    }

    /// Returns where the value stands.
    pub fn pos(&self) -> Pos {
        self.pos
    }
}

impl<T> Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for At<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = serde_saphyr::Spanned::<T>::deserialize(deserializer)?;
        let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let at = spanned.referenced;
        Ok(Self { value: spanned.value, pos: Pos { line: number(at.line()), column: number(at.column()) } })
    }
}

impl<T: Serialize> Serialize for At<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A length of time as people write it: `4s`, `1.5s`, `800ms`; at most ten minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pause(Duration);

impl Pause {
    /// The longest that a script may ask for.
    pub const MAX: Duration = Duration::from_secs(600);

    /// Wraps a whole number of seconds.
    pub const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// Returns the length.
    pub fn get(self) -> Duration {
        self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let (digits, unit_ms) = match text.strip_suffix("ms") {
            Some(digits) => (digits, 1.0),
            None => (text.strip_suffix('s')?, 1000.0),
        };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return None;
        }
        let ms = digits.parse::<f64>().ok()? * unit_ms;
        let limit = 600_000.0;
        // The range is checked first, so the conversion cannot saturate.
        (0.0..=limit).contains(&ms).then(|| Self(Duration::from_millis(ms.round() as u64)))
    }
}

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        if ms.is_multiple_of(1000) { write!(f, "{}s", ms / 1000) } else { write!(f, "{ms}ms") }
    }
}

impl<'de> Deserialize<'de> for Pause {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom(format!(
                "`{text}` is no length of time; write it like 4s or 800ms, at most 600s"
            ))
        })
    }
}

impl Serialize for Pause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Pause {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Pause".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^[0-9]+(\.[0-9]+)?(ms|s)$",
            "description": "A length of time such as 4s or 800ms, at most 600s."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_reads_back_as_written() {
        for (text, ms) in [("4s", 4000), ("1.5s", 1500), ("800ms", 800), ("0s", 0), ("600s", 600_000)] {
            let pause = Pause::parse(text).unwrap();
            assert_eq!(pause.get(), Duration::from_millis(ms));
            assert_eq!(Pause::parse(&pause.to_string()), Some(pause));
        }
        for bad in ["", "s", "4", "4m", "-4s", "1e3s", "601s", "4 s", "..s", "NaNs", "infs"] {
            assert_eq!(Pause::parse(bad), None, "{bad}");
        }
    }
}
