//! Small values of a persona file: lengths of time, ranges of them, and what is said.

use std::fmt;
use std::time::Duration;

use rand::Rng;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A length of time as people write it: `0.6s`, `800ms`; at most ten minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(Duration);

impl Span {
    /// Wraps milliseconds.
    pub const fn millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// Returns whole milliseconds.
    pub fn as_ms(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns the length.
    pub fn get(self) -> Duration {
        self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let (digits, unit_ms) = match text.strip_suffix("ms") {
            Some(digits) => (digits, 1.0),
            None => (text.strip_suffix('s')?, 1_000.0),
        };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return None;
        }
        let ms = digits.parse::<f64>().ok()? * unit_ms;
        (0.0..=600_000.0).contains(&ms).then(|| Self::millis(ms.round() as u64))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(text.trim()).ok_or_else(|| {
            de::Error::custom(format!(
                "`{text}` is no length of time; write `0.6s` or `800ms`, ten minutes at most"
            ))
        })
    }
}

/// A length that is drawn anew each time: `1.2s`, or `{min: 0.3s, max: 1s}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Between {
    /// The shortest.
    pub min: Span,
    /// The longest.
    pub max: Span,
}

impl Between {
    /// Wraps two lengths in milliseconds.
    pub const fn millis(min: u64, max: u64) -> Self {
        Self { min: Span::millis(min), max: Span::millis(max) }
    }

    /// Draws a length, in milliseconds.
    pub fn draw(self, rng: &mut impl Rng) -> u64 {
        rng.random_range(self.min.as_ms()..=self.max.as_ms())
    }
}

impl<'de> Deserialize<'de> for Between {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Range {
            min: Span,
            max: Span,
        }
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Between;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time such as `1.2s`, or `{min: 0.3s, max: 1s}`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Between, E> {
                let span = Span::parse(text.trim()).ok_or_else(|| {
                    E::custom(format!("`{text}` is no length of time; write `0.6s` or `800ms`"))
                })?;
                Ok(Between { min: span, max: span })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Between, A::Error> {
                let range = Range::deserialize(de::value::MapAccessDeserializer::new(map))?;
                if range.min > range.max {
                    return Err(de::Error::custom("`min` is longer than `max`"));
                }
                Ok(Between { min: range.min, max: range.max })
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// One piece of an utterance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Words.
    Text(String),
    /// Silence.
    Pause(Span),
}

/// Something that is said in one go, hesitations included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Utterance {
    /// In order; there is at least one text.
    pub parts: Vec<Part>,
}

impl Utterance {
    /// Returns the words without the pauses.
    pub fn text(&self) -> String {
        let texts: Vec<&str> = self
            .parts
            .iter()
            .filter_map(|part| match part {
                Part::Text(text) => Some(text.as_str()),
                Part::Pause(_) => None,
            })
            .collect();
        texts.join(" ")
    }
}

/// The ways in which a thing may be said; one is drawn.
///
/// `text` is one way, `[text, text]` are several, `[text, {pause: 0.6s}, text]` is one way with a
/// hesitation, and `[[text, {pause: 1s}, text], text]` are two ways of which one hesitates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Say(pub Vec<Utterance>);

enum Item {
    Part(Part),
    List(Vec<Part>),
}

impl<'de> Deserialize<'de> for Say {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Say;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a list of texts, or texts and `{pause: 0.6s}` in order")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Say, E> {
                Ok(Say(vec![utterance(vec![Part::Text(text.to_owned())])?]))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Say, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Say, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Say, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element::<Item>()? {
                    items.push(item);
                }
                say(items)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

fn say<E: de::Error>(items: Vec<Item>) -> Result<Say, E> {
    let hesitates = items.iter().any(|item| matches!(item, Item::Part(Part::Pause(_))));
    let mut ways = Vec::new();
    let mut parts = Vec::new();
    for item in items {
        match item {
            Item::Part(part) if hesitates => parts.push(part),
            Item::Part(part) => ways.push(utterance(vec![part])?),
            Item::List(_) if hesitates => {
                return Err(E::custom(
                    "a list stands beside a pause; put each way of saying it into a list of its own",
                ));
            }
            Item::List(list) => ways.push(utterance(list)?),
        }
    }
    if hesitates {
        ways.push(utterance(parts)?);
    }
    if ways.is_empty() {
        Err(E::custom("nothing is said; leave `say` out to stay silent"))
    } else {
        Ok(Say(ways))
    }
}

fn utterance<E: de::Error>(parts: Vec<Part>) -> Result<Utterance, E> {
    let speaks = |part: &Part| match part {
        Part::Text(text) => text.chars().any(char::is_alphanumeric),
        Part::Pause(_) => true,
    };
    let words = parts.iter().any(|part| matches!(part, Part::Text(_)));
    if !words || !parts.iter().all(speaks) {
        return Err(E::custom("there are no words to say here"));
    }
    Ok(Utterance { parts })
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Item;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, `{pause: 0.6s}`, or a list of them")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Item, E> {
                Ok(Item::Part(Part::Text(text.to_owned())))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Item, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Item, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Item, A::Error> {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Silence {
                    pause: Span,
                }
                let silence = Silence::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Item::Part(Part::Pause(silence.pause)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Item, A::Error> {
                let mut parts = Vec::new();
                while let Some(item) = seq.next_element::<Item>()? {
                    match item {
                        Item::Part(part) => parts.push(part),
                        Item::List(_) => return Err(de::Error::custom("lists go two deep at most")),
                    }
                }
                Ok(Item::List(parts))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Say, String> {
        let options = serde_saphyr::options! { strict_booleans: true };
        serde_saphyr::from_str_with_options(yaml, options).map_err(|error| error.to_string())
    }

    fn texts(yaml: &str) -> Vec<String> {
        read(yaml).unwrap().0.iter().map(Utterance::text).collect()
    }

    #[test]
    fn a_thing_can_be_said_in_one_way_or_in_several() {
        assert_eq!(texts("好的"), ["好的"]);
        assert_eq!(texts("[yes, sure]"), ["yes", "sure"]);
        assert_eq!(texts("28"), ["28"]);
    }

    #[test]
    fn a_pause_makes_one_utterance_of_a_list() {
        let say = read("[嗯, {pause: 0.6s}, 下周五吧]").unwrap();
        let pause = Part::Pause(Span::millis(600));
        assert_eq!(
            say.0,
            [Utterance { parts: vec![Part::Text("嗯".into()), pause, Part::Text("下周五吧".into())] }]
        );
        assert_eq!(texts("[[well, {pause: 300ms}, yes], sure]"), ["well yes", "sure"]);
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        for yaml in [
            "[]",
            "……",
            "[{pause: 1s}]",
            "[a, {pause: 1s}, [b]]",
            "[[a, [b]]]",
            "[{break: 1s}]",
            "[a, {pause: 1h}]",
        ] {
            assert!(read(yaml).is_err(), "{yaml}");
        }
    }

    #[test]
    fn lengths_of_time_have_a_unit_and_a_limit() {
        assert_eq!(Span::parse("1.25s"), Some(Span::millis(1_250)));
        assert_eq!(Span::parse("80ms"), Some(Span::millis(80)));
        for text in ["5", "5m", "-1s", "s", "601s", "1.2.3s", ""] {
            assert_eq!(Span::parse(text), None, "{text}");
        }
        let range: Between = serde_saphyr::from_str("{min: 1s, max: 2s}").unwrap();
        assert_eq!(range, Between::millis(1_000, 2_000));
        assert!(serde_saphyr::from_str::<Between>("{min: 3s, max: 2s}").is_err());
    }
}
