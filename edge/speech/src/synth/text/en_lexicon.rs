//! How English words sound: a word list, then endings, then the letters.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Why the word list could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LexiconError {
    /// The file cannot be read.
    #[error("could not read the lexicon `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not a JSON object of words.
    #[error("the lexicon `{path}` is damaged")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
}

/// What the words before and after make of a word's sound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Around {
    /// The word is likely a verb ("to record").
    pub(super) verb: bool,
}

/// Words and their sounds. Some 180,000 entries in about 8 MB: one text, and an index sorted by word.
pub struct Lexicon {
    text: String,
    /// Start of an entry and the lengths of its word, its sound, and its sound as a verb.
    index: Vec<(u32, u8, u8, u8)>,
    letters: Option<EspeakLetters>,
}

impl Lexicon {
    /// Reads a JSON object whose values are symbols, or objects of symbols by part of speech.
    ///
    /// # Errors
    /// When the file is missing or damaged.
    pub fn load(path: &Path) -> Result<Self, LexiconError> {
        let bytes =
            std::fs::read(path).map_err(|source| LexiconError::Read { path: path.to_owned(), source })?;
        let entries: HashMap<String, serde_json::Value> = serde_json::from_slice(&bytes)
            .map_err(|source| LexiconError::Parse { path: path.to_owned(), source })?;
        Ok(Self::from_entries(entries).with_letters(EspeakLetters::find()))
    }

    /// Builds a lexicon from entries; words it does not hold are spelled.
    pub fn from_entries(entries: HashMap<String, serde_json::Value>) -> Self {
        let mut words: Vec<(String, serde_json::Value)> = entries.into_iter().collect();
        words.sort_by(|a, b| a.0.cmp(&b.0));
        let mut text = String::new();
        let mut index = Vec::with_capacity(words.len());
        for (word, value) in words {
            let (sound, verb) = match &value {
                serde_json::Value::String(sound) => (sound.as_str(), ""),
                serde_json::Value::Object(parts) => {
                    let part = |name: &str| parts.get(name).and_then(|v| v.as_str());
                    // No default sound means that the word is spelled.
                    let Some(sound) = part("DEFAULT") else { continue };
                    (sound, part("VERB").unwrap_or(""))
                }
                serde_json::Value::Null
                | serde_json::Value::Bool(_)
                | serde_json::Value::Number(_)
                | serde_json::Value::Array(_) => continue,
            };
            let lengths = (
                u8::try_from(word.len()),
                u8::try_from(sound.len()),
                u8::try_from(verb.len()),
                u32::try_from(text.len()),
            );
            let (Ok(w), Ok(s), Ok(v), Ok(start)) = lengths else { continue };
            index.push((start, w, s, v));
            text.push_str(&word);
            text.push_str(sound);
            text.push_str(verb);
        }
        text.shrink_to_fit();
        Self { text, index, letters: None }
    }

    /// Asks espeak-ng for words that are in no list.
    #[must_use]
    pub fn with_letters(mut self, letters: Option<EspeakLetters>) -> Self {
        self.letters = letters;
        self
    }

    fn entry(&self, word: &str, around: Around) -> Option<&str> {
        let at = self
            .index
            .binary_search_by(|&(start, w, _, _)| {
                let start = start as usize;
                self.text[start..start + w as usize].cmp(word)
            })
            .ok()?;
        let (start, w, s, v) = self.index[at];
        let sound = start as usize + w as usize;
        let verb = sound + s as usize;
        if around.verb && v > 0 {
            return Some(&self.text[verb..verb + v as usize]);
        }
        Some(&self.text[sound..verb])
    }

    /// The word as listed, in any case.
    pub(super) fn listed(&self, word: &str, around: Around) -> Option<&str> {
        if let Some(found) = self.entry(word, around) {
            return Some(found);
        }
        let lower = word.to_lowercase();
        if let Some(found) = self.entry(&lower, around) {
            return Some(found);
        }
        let mut letters = lower.chars();
        let first = letters.next()?;
        let capital: String = first.to_uppercase().chain(letters).collect();
        self.entry(&capital, around)
    }

    /// Whether exactly this spelling is listed.
    pub(super) fn has(&self, word: &str) -> bool {
        self.entry(word, Around::default()).is_some()
    }

    /// How `word` sounds: listed, or with an ending, or joined of two, or by its letters.
    pub(super) fn sound(&self, word: &str, around: Around) -> String {
        if let Some(found) = self.listed(word, around) {
            return found.to_owned();
        }
        if let Some(found) = self.with_ending(word, around) {
            return found;
        }
        if let Some(found) = self.compound(word) {
            return found;
        }
        if let Some(found) = self.letters.as_ref().and_then(|l| l.sound(word)) {
            return found;
        }
        spell(word)
    }

    fn with_ending(&self, word: &str, around: Around) -> Option<String> {
        let word = word.to_lowercase().replace('’', "'");
        let stems = |cut: usize, adds: &[&str]| -> Option<&str> {
            let stem = word.get(..word.len().checked_sub(cut)?).filter(|s| s.len() >= 2)?;
            adds.iter().find_map(|add| self.listed(&format!("{stem}{add}"), around))
        };
        if let Some(stem) = word.strip_suffix("'s").or_else(|| word.strip_suffix("s'")) {
            return Some(plural(&self.sound(stem, around)));
        }
        if word.ends_with("ies")
            && let Some(stem) = stems(3, &["y"])
        {
            return Some(plural(stem));
        }
        if word.ends_with('s') && !word.ends_with("ss") {
            let cut = if word.ends_with("es") { stems(2, &[""]) } else { None };
            if let Some(stem) = stems(1, &[""]).or(cut) {
                return Some(plural(stem));
            }
        }
        if word.ends_with("ied")
            && let Some(stem) = stems(3, &["y"])
        {
            return Some(past(stem));
        }
        if word.ends_with("ed")
            && let Some(stem) =
                stems(2, &["", "e"]).or_else(|| doubled(&word, 2).and_then(|s| self.listed(s, around)))
        {
            return Some(past(stem));
        }
        if word.ends_with("ing")
            && let Some(stem) =
                stems(3, &["", "e"]).or_else(|| doubled(&word, 3).and_then(|s| self.listed(s, around)))
        {
            return Some(flapped(stem, "ɪŋ"));
        }
        if word.ends_with("ly")
            && let Some(stem) = stems(2, &[""])
        {
            return Some(format!("{stem}li"));
        }
        if word.ends_with("er")
            && let Some(stem) = stems(2, &["", "e"])
        {
            return Some(flapped(stem, "əɹ"));
        }
        None
    }

    /// "callcentre" as "call" and "centre": both listed, each of three letters or more.
    fn compound(&self, word: &str) -> Option<String> {
        let word = word.to_lowercase();
        if !word.is_ascii() || word.len() < 7 {
            return None;
        }
        for cut in (3..=word.len() - 3).rev() {
            let (head, tail) = (&word[..cut], &word[cut..]);
            if let (Some(head), Some(tail)) =
                (self.entry(head, Around::default()), self.entry(tail, Around::default()))
            {
                return Some(format!("{head}{}", tail.replace('ˈ', "ˌ")));
            }
        }
        None
    }
}

/// The stem before a doubled consonant: "stopped" gives "stop".
fn doubled(word: &str, ending: usize) -> Option<&str> {
    let stem = word.get(..word.len().checked_sub(ending)?)?;
    let mut letters = stem.bytes().rev();
    let (last, before) = (letters.next()?, letters.next()?);
    (last == before && last.is_ascii_alphabetic()).then(|| &stem[..stem.len() - 1])
}

fn plural(stem: &str) -> String {
    match stem.chars().last() {
        Some('p' | 't' | 'k' | 'f' | 'θ') => format!("{stem}s"),
        Some('s' | 'z' | 'ʃ' | 'ʒ' | 'ʧ' | 'ʤ') => format!("{stem}ᵻz"),
        _ => format!("{stem}z"),
    }
}

fn past(stem: &str) -> String {
    match stem.chars().last() {
        Some('p' | 'k' | 'f' | 'θ' | 'ʃ' | 's' | 'ʧ') => format!("{stem}t"),
        Some('d') => format!("{stem}ᵻd"),
        Some('t') => flapped(stem, "ᵻd"),
        _ => format!("{stem}d"),
    }
}

/// A t between vowels is a flap in American speech.
fn flapped(stem: &str, ending: &str) -> String {
    let mut letters = stem.chars().rev();
    let t = letters.next() == Some('t');
    let vowel = letters.next().is_some_and(|c| "AIOWYiuæɑəɛɪɹʊʌɔɜ".contains(c));
    if t && vowel { format!("{}ɾ{ending}", &stem[..stem.len() - 1]) } else { format!("{stem}{ending}") }
}

/// The names of letters and digits, stressed on the last.
pub(super) fn spell(word: &str) -> String {
    let names: Vec<&str> = word.chars().filter_map(letter).collect();
    let mut spelled = String::new();
    for (i, name) in names.iter().enumerate() {
        let stress = if i + 1 == names.len() { 'ˈ' } else { 'ˌ' };
        // The stress stands before the vowel.
        let vowel = name.find(|c: char| "AIOWYiuæɑəɛɪʊʌɔɜ".contains(c)).unwrap_or(0);
        spelled.push_str(&name[..vowel]);
        spelled.push(stress);
        spelled.push_str(&name[vowel..]);
    }
    spelled
}

fn letter(c: char) -> Option<&'static str> {
    Some(match c.to_ascii_lowercase() {
        'a' => "A",
        'b' => "bi",
        'c' => "si",
        'd' => "di",
        'e' => "i",
        'f' => "ɛf",
        'g' => "ʤi",
        'h' => "Aʧ",
        'i' => "I",
        'j' => "ʤA",
        'k' => "kA",
        'l' => "ɛl",
        'm' => "ɛm",
        'n' => "ɛn",
        'o' => "O",
        'p' => "pi",
        'q' => "kju",
        'r' => "ɑɹ",
        's' => "ɛs",
        't' => "ti",
        'u' => "ju",
        'v' => "vi",
        'w' => "dʌbᵊlju",
        'x' => "ɛks",
        'y' => "wI",
        'z' => "zi",
        _ => return None,
    })
}

/// Asks the program `espeak-ng` how a word sounds. It runs as a program of its own, some 5 ms a
/// word; answers are kept.
pub struct EspeakLetters {
    program: PathBuf,
    known: Mutex<HashMap<String, Option<String>>>,
}

/// Words kept before the table starts over.
const KEEP: usize = 4096;

impl EspeakLetters {
    /// Finds the program on the search path.
    pub fn find() -> Option<Self> {
        let path = std::env::var_os("PATH")?;
        let program = std::env::split_paths(&path)
            .map(|dir| dir.join("espeak-ng"))
            .find(|program| program.is_file())?;
        Some(Self { program, known: Mutex::default() })
    }

    /// The sound of one word in Kokoro's symbols; `None` when the program does not know either.
    pub fn sound(&self, word: &str) -> Option<String> {
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(word) {
            return known.clone();
        }
        let sound = self.ask(word).map(|ipa| from_espeak(&ipa)).filter(|s| !s.is_empty());
        let mut known = lock();
        if known.len() >= KEEP {
            known.clear();
        }
        known.insert(word.to_owned(), sound.clone());
        sound
    }

    fn ask(&self, word: &str) -> Option<String> {
        let mut child = Command::new(&self.program)
            .args(["-q", "--ipa", "-v", "en-us", "--stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        // A word has a few bytes: the pipe takes them without a reader.
        child.stdin.take()?.write_all(word.as_bytes()).ok()?;
        let output = child.wait_with_output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// Rewrites espeak's IPA in the symbols of the lexicon.
fn from_espeak(ipa: &str) -> String {
    let mut sound = ipa.replace(['\u{361}', '\u{200d}', '\u{303}', '\u{32f}'], "");
    const PAIRS: [(&str, &str); 24] = [
        ("aɪ", "I"),
        ("aʊ", "W"),
        ("eɪ", "A"),
        ("oʊ", "O"),
        ("əʊ", "O"),
        ("ɔɪ", "Y"),
        ("dʒ", "ʤ"),
        ("tʃ", "ʧ"),
        ("ɜːɹ", "ɜɹ"),
        ("ɜː", "ɜɹ"),
        ("ɚ", "əɹ"),
        ("l\u{329}", "ᵊl"),
        ("n\u{329}", "ᵊn"),
        ("əl", "ᵊl"),
        ("ɪə", "iə"),
        ("e", "ɛ"),
        ("o", "ɔ"),
        ("a", "ɑ"),
        ("r", "ɹ"),
        ("x", "k"),
        ("ç", "k"),
        ("ɐ", "ə"),
        ("ʔ", "t"),
        ("ɬ", "l"),
    ];
    for (from, to) in PAIRS {
        sound = sound.replace(from, to);
    }
    sound.chars().filter(|c| "AIOWYbdfhijklmnpstuvwzæðŋɑɔəɛɜɡɪɹɾʃʊʌʒʤʧˈˌθᵊᵻ".contains(*c)).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn small() -> Lexicon {
        let words = serde_json::json!({
            "hello": "həlˈO", "call": "kˈɔl", "center": "sˈɛntəɹ", "pay": "pˈA", "wait": "wˈAt",
            "stop": "stˈɑp", "carry": "kˈæɹi", "box": "bˈɑks", "bank": "bˈæŋk", "slow": "slˈO",
            "record": {"DEFAULT": "ɹˈɛkəɹd", "VERB": "ɹəkˈɔɹd"}, "AM": {"DEFAULT": null},
            "Monday": "mˈʌndˌA", "apple": "ˈæpᵊl", "thank": "θˈæŋk", "you": "ju", "the": "ði",
            "to": "tu", "balance": "bˈælᵊns", "is": "ɪz", "two": "tˈu", "dollars": "dˈɑləɹz",
            "and": "ænd", "NASA": "nˈæsə", "please": "plˈiz", "an": "æn", "car": "kˈɑɹ",
            "far": "fˈɑɹ", "away": "əwˈA", "hold": "hˈOld",
        });
        let serde_json::Value::Object(words) = words else { unreachable!() };
        Lexicon::from_entries(words.into_iter().collect())
    }

    #[test]
    fn a_word_is_listed_or_has_an_ending_or_is_joined_or_is_spelled() {
        let lexicon = small();
        let cases = [
            ("hello", "həlˈO"),
            ("Hello", "həlˈO"),
            ("HELLO", "həlˈO"),
            ("monday", "mˈʌndˌA"),
            ("banks", "bˈæŋks"),
            ("boxes", "bˈɑksᵻz"),
            ("pays", "pˈAz"),
            ("bank's", "bˈæŋks"),
            ("carries", "kˈæɹiz"),
            ("carried", "kˈæɹid"),
            ("stopped", "stˈɑpt"),
            ("waited", "wˈAɾᵻd"),
            ("waiting", "wˈAɾɪŋ"),
            ("slowly", "slˈOli"),
            ("callcenter", "kˈɔlsˌɛntəɹ"),
            ("xq", "ˌɛkskjˈu"),
        ];
        for (word, sound) in cases {
            assert_eq!(lexicon.sound(word, Around::default()), sound, "{word}");
        }
        assert_eq!(lexicon.sound("record", Around { verb: true }), "ɹəkˈɔɹd");
        assert_eq!(lexicon.sound("record", Around::default()), "ɹˈɛkəɹd");
    }

    #[test]
    fn the_symbols_of_espeak_become_those_of_the_voice() {
        assert_eq!(from_espeak("tɹˈʌŋklaɪn"), "tɹˈʌŋklIn");
        assert_eq!(from_espeak("kənfˈɜːmd"), "kənfˈɜɹmd");
        assert_eq!(from_espeak("ɹˈaʊɾɚz"), "ɹˈWɾəɹz");
    }
}
