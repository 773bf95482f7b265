//! JSON as signatures need it: read strictly, written in one way only.
//!
//! The written form is the canonical JSON that TUF uses: no white space, keys sorted, strings with `"`
//! and `\` escaped and nothing else, whole numbers only.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Why bytes are not JSON that can be signed or checked.
#[derive(Debug, thiserror::Error)]
pub enum CanonicalError {
    /// Not JSON, or an object with the same key twice: two readers could see two documents.
    #[error("not JSON that everybody reads alike")]
    Json(#[from] serde_json::Error),
    /// A number with a fraction, which different writers write differently.
    #[error("the number {0} is not a whole number")]
    Fraction(String),
}

/// Reads JSON, refusing objects that hold a key twice and anything after the end.
///
/// # Errors
/// [`CanonicalError::Json`].
pub fn parse(bytes: &[u8]) -> Result<Value, CanonicalError> {
    Ok(serde_json::from_slice::<Strict>(bytes)?.0)
}

/// Writes `value` in its canonical form.
///
/// # Errors
/// [`CanonicalError::Fraction`].
pub fn to_bytes(value: &Value) -> Result<Vec<u8>, CanonicalError> {
    let mut out = Vec::new();
    write(value, &mut out)?;
    Ok(out)
}

fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(flag) => out.extend_from_slice(if *flag { b"true" } else { b"false" }),
        Value::Number(number) if number.is_f64() => {
            return Err(CanonicalError::Fraction(number.to_string()));
        }
        Value::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::String(text) => write_text(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(fields) => {
            // Sorted here, not left to the map: serde_json keeps insertion order when any crate asks for it.
            let mut sorted: Vec<(&String, &Value)> = fields.iter().collect();
            sorted.sort_by_key(|(key, _)| key.as_bytes());
            out.push(b'{');
            for (at, (key, item)) in sorted.into_iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_text(key, out);
                out.push(b':');
                write(item, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// A value whose objects have each key once.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::from(text))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut read = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            read.push(item);
        }
        Ok(Value::Array(read))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut read = Map::new();
        while let Some((key, Strict(item))) = fields.next_entry::<String, Strict>()? {
            if read.insert(key.clone(), item).is_some() {
                return Err(A::Error::custom(format!("the key `{key}` stands twice")));
            }
        }
        Ok(Value::Object(read))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn text(value: &Value) -> String {
        String::from_utf8(to_bytes(value).unwrap()).unwrap()
    }

    #[test]
    fn keys_are_sorted_and_only_quotes_and_backslashes_are_escaped() {
        let value = json!({"b": [1, -2, true, null], "a": "x\"\\\n ü", "B": {}});
        assert_eq!(text(&value), "{\"B\":{},\"a\":\"x\\\"\\\\\n ü\",\"b\":[1,-2,true,null]}");
    }

    #[test]
    fn a_key_that_stands_twice_is_refused_at_any_depth() {
        for bad in [r#"{"a":1,"a":2}"#, r#"[{"x":{"a":1,"b":2,"a":1}}]"#, r#"{"a":1} "#] {
            let read = parse(bad.as_bytes());
            assert_eq!(read.is_err(), bad != r#"{"a":1} "#, "{bad}");
        }
    }

    #[test]
    fn fractions_cannot_be_signed() {
        assert!(matches!(to_bytes(&json!({"a": 1.5})), Err(CanonicalError::Fraction(_))));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            // Control characters are left out: canonical JSON writes them as they are, and JSON refuses them.
            "[ -~ä-ü水]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[ -~水]{0,8}", inner, 0..6)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn canonical_json_reads_back_as_the_same_value(value in value()) {
            let bytes = to_bytes(&value).unwrap();
            prop_assert_eq!(parse(&bytes).unwrap(), value);
        }

        #[test]
        fn no_bytes_panic_the_reader(bytes: Vec<u8>) {
            if let Ok(value) = parse(&bytes) {
                let _ = to_bytes(&value);
            }
        }
    }
}
