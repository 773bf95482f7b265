//! Languages by the codes that whisper knows.

use std::fmt;

/// A spoken language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Language(&'static str);

impl Language {
    /// Mandarin.
    pub const ZH: Self = Self("zh");
    /// English.
    pub const EN: Self = Self("en");

    /// Reads a language tag (RFC 5646): `zh-CN`, `zh_Hans`, `en`, `de-AT`. Only the first part counts,
    /// and it must be a language that whisper was trained on.
    pub fn from_tag(tag: &str) -> Option<Self> {
        let primary = tag.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
        if primary.is_empty() || !primary.bytes().all(|b| b.is_ascii_lowercase()) {
            return None;
        }
        let primary = if primary == "cmn" { "zh".to_owned() } else { primary };
        // The engine prints what it does not know unless its log is turned off first.
        whisper_rs::install_logging_hooks();
        let id = whisper_rs::get_lang_id(&primary)?;
        whisper_rs::get_lang_str(id).map(Self)
    }

    /// Returns the two or three letters.
    pub fn code(self) -> &'static str {
        self.0
    }

    /// Tells whether it is written without spaces between words.
    pub fn is_spaceless(self) -> bool {
        matches!(self.0, "zh" | "yue" | "ja" | "th" | "lo" | "my" | "km")
    }

    /// The engine's number of the language.
    pub(crate) fn engine_id(self) -> i32 {
        whisper_rs::get_lang_id(self.0).unwrap_or(0)
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_with_regions_and_scripts_name_their_language() {
        for (tag, code) in
            [("zh-CN", "zh"), ("zh_Hans_CN", "zh"), ("cmn", "zh"), ("EN", "en"), ("de-AT", "de")]
        {
            assert_eq!(Language::from_tag(tag).map(Language::code), Some(code), "{tag}");
        }
    }

    #[test]
    fn nonsense_is_no_language() {
        for tag in ["", "-", "xx", "zh\0", "12", "中文"] {
            assert_eq!(Language::from_tag(tag), None, "{tag:?}");
        }
    }
}
