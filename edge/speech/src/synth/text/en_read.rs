//! English words to symbols, with the sounds that depend on the neighbours.

use super::en_lexicon::{Around, Lexicon, spell};
use super::en_written::spoken;

/// Words after which the next is likely a verb.
const BEFORE_VERB: [&str; 22] = [
    "to", "will", "would", "can", "could", "shall", "should", "may", "might", "must", "please", "not", "i",
    "you", "we", "they", "don't", "can't", "won't", "didn't", "let's", "i'll",
];

/// Two- and three-letter words that are words also when written in capitals.
const SHORT_WORDS: [&str; 20] = [
    "OK", "NO", "YES", "THE", "AND", "FOR", "YOU", "ARE", "NOT", "OUR", "WE", "TO", "OF", "IN", "ON", "IS",
    "MR", "PIN", "SIM", "MRS",
];

/// Reads English.
pub struct EnglishReader {
    lexicon: Lexicon,
}

impl EnglishReader {
    /// Reads with this lexicon.
    pub fn new(lexicon: Lexicon) -> Self {
        Self { lexicon }
    }

    /// Reads one clause.
    pub(super) fn read(&self, clause: &str, british: bool) -> String {
        let written = spoken(clause, british);
        let mut sounds: Vec<(String, String)> = Vec::new();
        let mut before = String::new();
        for piece in written.split_whitespace() {
            let comma = piece.ends_with(',');
            let word = piece.trim_end_matches(',');
            let verb = BEFORE_VERB.contains(&before.as_str());
            let mut sound = self.word(word, Around { verb });
            before = word.to_lowercase();
            if sound.is_empty() {
                continue;
            }
            if comma {
                sound.push(',');
            }
            sounds.push((before.clone(), sound));
        }
        for i in 0..sounds.len() {
            let vowel_next = sounds.get(i + 1).map(|(_, s)| begins_with_vowel(s));
            let light = match (sounds[i].0.as_str(), vowel_next) {
                ("the", Some(true)) => "ði",
                ("the", _) => "ðə",
                ("to", Some(true)) => "tʊ",
                ("to", Some(false)) => "tə",
                ("a", Some(_)) => "ɐ",
                ("an", _) => "ɐn",
                _ => continue,
            };
            sounds[i].1 = light.to_owned();
        }
        let said: Vec<String> = sounds.into_iter().map(|(_, s)| s).collect();
        let said = said.join(" ");
        if british { non_rhotic(&said) } else { said }
    }

    fn word(&self, word: &str, around: Around) -> String {
        let letters: String = word.chars().filter(|c| c.is_alphabetic() || *c == '\'').collect();
        if letters.is_empty() {
            return String::new();
        }
        if letters.chars().count() == 1 {
            return match letters.as_str() {
                "I" => "ˌI".to_owned(),
                "a" => "ɐ".to_owned(),
                other => spell(other),
            };
        }
        let capitals = letters.chars().all(|c| c.is_ascii_uppercase());
        if capitals && !SHORT_WORDS.contains(&letters.as_str()) {
            // Short ones are initials; longer ones are words that someone shouts, or a name that is
            // listed in capitals.
            if letters.len() <= 3
                || !self.lexicon.has(&letters) && self.lexicon.listed(&letters, around).is_none()
            {
                return spell(&letters);
            }
        }
        if matches!(letters.as_str(), "am" | "pm") && around == Around::default() {
            return if letters == "am" { "ɐm".to_owned() } else { spell("pm") };
        }
        self.lexicon.sound(&letters, around)
    }
}

fn begins_with_vowel(sound: &str) -> bool {
    sound.chars().find(|c| !matches!(c, 'ˈ' | 'ˌ')).is_some_and(|c| "AIOQWYaiueɑɐɒæɔəɛɜɪʊʌᵊᵻ".contains(c))
}

/// American symbols to British ones as far as rules go: no r unless a vowel follows, the vowel of
/// "go", no flaps.
fn non_rhotic(said: &str) -> String {
    let said = said.replace('O', "Q").replace(['T', 'ɾ'], "t").replace('ᵻ', "ɪ");
    let chars: Vec<char> = said.chars().collect();
    let vowel = |c: char| "AIQWYaiueɑɐɒæɔəɛɜɪʊʌᵊ".contains(c);
    let mut out = String::new();
    for (i, &c) in chars.iter().enumerate() {
        if c != 'ɹ' {
            out.push(c);
            continue;
        }
        let next = chars[i + 1..].iter().find(|c| !matches!(c, 'ˈ' | 'ˌ' | ' '));
        if next.is_some_and(|n| vowel(*n)) {
            out.push('ɹ');
            continue;
        }
        match out.chars().last() {
            Some('ɑ' | 'ɔ' | 'ɜ') => out.push('ː'),
            Some('ɛ') => out.push('ː'),
            Some('ɪ' | 'ʊ' | 'I' | 'W') => out.push('ə'),
            Some('i') => {
                out.pop();
                out.push_str("ɪə");
            }
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::en_lexicon::tests::small;
    use super::*;

    #[test]
    fn sounds_depend_on_the_neighbours() {
        let reader = EnglishReader::new(small());
        let cases = [
            ("the apple", "ði ˈæpᵊl"),
            ("the bank", "ðə bˈæŋk"),
            ("to record", "tə ɹəkˈɔɹd"),
            ("a bank", "ɐ bˈæŋk"),
            ("NASA", "nˈæsə"),
            ("ATM", "ˌAtˌiˈɛm"),
            ("PLEASE HOLD", "plˈiz hˈOld"),
            ("$2", "tˈu dˈɑləɹz"),
        ];
        for (text, sound) in cases {
            assert_eq!(reader.read(text, false), sound, "{text}");
        }
        assert_eq!(reader.read("car", true), "kˈɑː");
        assert_eq!(reader.read("far away", true), "fˈɑɹ əwˈA");
        assert_eq!(reader.read("hello", true), "həlˈQ");
    }
}
