//! Languages by the codes that whisper knows.

use std::fmt;
use std::time::Duration;

use super::{Rejection, Transcript};

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

/// Languages that the engine takes for another: what is spoken in the second counts as the first.
const KIN: &[(&str, &str)] = &[("zh", "yue"), ("en", "cy")];
/// A text is doubted from here on, unless the engine was sure of its words. Recorded Mandarin and English over the
/// telephone stay below 0.35, in noise and clipped too.
const FOREIGN: f32 = 0.4;
/// Mean log-probability that words need at [`FOREIGN`]. It rises slowly from there, since synthetic Mandarin was seen
/// at 0.64 with words at -0.64,
const DOUBTED: f32 = -0.95;
/// and comes to this when it is certain that another language was spoken.
const SURE: f32 = -0.35;
/// Speech that tells the language; a word or two do not.
const LONG_ENOUGH: Duration = Duration::from_millis(1_200);

/// Returns the probability, 0 to 1, that none of the allowed languages was spoken, by the decoder's scores
/// of the languages' numbers.
pub(super) fn foreign(allowed: &[Language], score: impl Fn(i32) -> f32) -> f32 {
    let scores: Vec<f32> = (0..=whisper_rs::get_lang_max_id()).map(score).collect();
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !highest.is_finite() {
        return 0.0;
    }
    let weight = |number: i32| {
        let score = usize::try_from(number).ok().and_then(|n| scores.get(n));
        score.map_or(0.0, |score| (score - highest).exp())
    };
    let all: f32 = scores.iter().map(|score| (score - highest).exp()).sum();
    let own: f32 = allowed
        .iter()
        .map(|language| {
            let kin = KIN.iter().filter(|(of, _)| *of == language.code());
            let kin = kin.filter_map(|(_, kin)| whisper_rs::get_lang_id(kin)).map(weight).sum::<f32>();
            weight(language.engine_id()) + kin
        })
        .sum();
    (1.0 - own / all).clamp(0.0, 1.0)
}

/// Throws away text of speech that was surely in a language which nobody expects here.
pub(super) fn doubt(transcript: &mut Transcript, foreign: f32, voiced: Option<Duration>) {
    let long_enough = voiced.unwrap_or(transcript.audio) >= LONG_ENOUGH;
    let unsure = transcript.avg_logprob < least_logprob(foreign);
    if transcript.rejected.is_none() && foreign > FOREIGN && long_enough && unsure {
        transcript.text.clear();
        transcript.draft = None;
        transcript.rejected = Some(Rejection::OtherLanguage);
    }
}

fn least_logprob(foreign: f32) -> f32 {
    DOUBTED + (SURE - DOUBTED) * ((foreign - FOREIGN) / (1.0 - FOREIGN)).powi(2)
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
    fn what_is_spoken_elsewhere_is_what_neither_the_allowed_nor_their_kin_explain() {
        let only = |code: &str| {
            let id = whisper_rs::get_lang_id(code).unwrap();
            move |number: i32| if number == id { 20.0 } else { 0.0 }
        };
        assert!(foreign(&[Language::ZH], only("zh")) < 0.01);
        assert!(foreign(&[Language::ZH], only("yue")) < 0.01);
        assert!(foreign(&[Language::ZH], only("fr")) > 0.99);
        assert!(foreign(&[Language::ZH, Language::EN], only("en")) < 0.01);
        assert_eq!(foreign(&[Language::ZH], |_| f32::NEG_INFINITY), 0.0);
    }

    #[test]
    fn the_surer_the_engine_is_of_another_language_the_surer_it_must_be_of_its_words() {
        assert!((least_logprob(FOREIGN) - DOUBTED).abs() < 1e-6);
        assert!((least_logprob(1.0) - SURE).abs() < 1e-6);
        assert!(least_logprob(0.6) < least_logprob(0.9));
        // Clear Mandarin from a synthesiser, and Portuguese written as English.
        assert!(least_logprob(0.64) < -0.7 && least_logprob(0.85) > -0.7);
    }

    #[test]
    fn nonsense_is_no_language() {
        for tag in ["", "-", "xx", "zh\0", "12", "中文"] {
            assert_eq!(Language::from_tag(tag), None, "{tag:?}");
        }
    }
}
