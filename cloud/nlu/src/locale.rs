//! The languages that can be understood.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A language with its own universal intents, entities and text rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Locale {
    /// Mandarin in simplified characters.
    Zh,
    /// English.
    En,
}

/// The language of a script is neither Mandarin nor English.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the language `{0}` is not known; use `zh-CN` or `en-US`")]
pub struct UnknownLocale(pub String);

impl FromStr for Locale {
    type Err = UnknownLocale;

    /// Reads a language tag such as `zh`, `zh-CN` or `en_GB` by its first part.
    fn from_str(tag: &str) -> Result<Self, UnknownLocale> {
        let first = tag.split(['-', '_']).next().unwrap_or_default();
        if first.eq_ignore_ascii_case("zh") || first.eq_ignore_ascii_case("cmn") {
            Ok(Self::Zh)
        } else if first.eq_ignore_ascii_case("en") {
            Ok(Self::En)
        } else {
            Err(UnknownLocale(tag.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_read_by_its_first_part() {
        assert_eq!("zh-CN".parse(), Ok(Locale::Zh));
        assert_eq!("en_GB".parse(), Ok(Locale::En));
        assert_eq!("EN".parse(), Ok(Locale::En));
        assert!("fr-FR".parse::<Locale>().is_err());
        assert!("".parse::<Locale>().is_err());
    }
}
