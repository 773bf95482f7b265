//! Token texts: from the printable letters that GPT-2's vocabulary is stored in back to bytes.
//!
//! The vocabulary writes every byte as one visible character: printable Latin-1 as itself, the 68
//! others as U+0100 onwards in order of value.

use std::collections::BTreeMap;

use super::ConvertError;

/// What closes the ordinary tokens; whisper.cpp makes up all from here on by itself.
const END_OF_TEXT: &str = "<|endoftext|>";

/// Reads a vocabulary, a JSON list or one token per line, and returns the bytes of all ordinary
/// tokens.
///
/// Some multilingual vocabularies have an empty text just before `<|endoftext|>`: that is an
/// ordinary token without bytes.
///
/// # Errors
///
/// When it is no list of texts, has no end-of-text token, or holds a letter outside GPT-2's map.
pub fn read(vocabulary: &[u8]) -> Result<Vec<Vec<u8>>, ConvertError> {
    let texts: Vec<String> = if vocabulary.first() == Some(&b'[') {
        serde_json::from_slice(vocabulary).map_err(|source| ConvertError::Vocabulary { source })?
    } else {
        let text =
            std::str::from_utf8(vocabulary).map_err(|_| ConvertError::Text { what: "vocabulary", at: 0 })?;
        text.split('\n').map(str::to_owned).collect()
    };
    let end = texts.iter().position(|t| t == END_OF_TEXT).ok_or(ConvertError::NoEndOfText)?;
    let map = letters_to_bytes();
    texts[..end]
        .iter()
        .enumerate()
        .map(|(at, text)| {
            let bytes: Option<Vec<u8>> = text.chars().map(|c| map.get(&c).copied()).collect();
            bytes.ok_or(ConvertError::Text { what: "a token of the vocabulary", at })
        })
        .collect()
}

/// Returns the byte that each letter stands for.
fn letters_to_bytes() -> BTreeMap<char, u8> {
    let mut map = BTreeMap::new();
    let mut spare = 0x100_u32;
    for byte in 0..=u8::MAX {
        let letter = if matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF) {
            char::from(byte)
        } else {
            spare += 1;
            char::from_u32(spare - 1).unwrap_or_default()
        };
        map.insert(letter, byte);
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_letter() {
        let map = letters_to_bytes();
        assert_eq!(map.len(), 256);
        let bytes: std::collections::BTreeSet<u8> = map.values().copied().collect();
        assert_eq!(bytes.len(), 256);
        // The well known ones: a space is Ġ, a line end Ċ, and NUL the first spare letter.
        assert_eq!((map[&'Ġ'], map[&'Ċ'], map[&'Ā'], map[&'a']), (b' ', b'\n', 0, b'a'));
        assert_eq!(map[&'Ń'], 0xAD, "the soft hyphen is the last spare letter");
    }

    #[test]
    fn both_ways_of_storing_a_vocabulary_read_alike() {
        let json = r#"["a", "Ġthe", "å¥½", "<|endoftext|>", "<|en|>"]"#;
        let lines = "a\nĠthe\nå¥½\n<|endoftext|>\n<|en|>\n";
        let want = vec![b"a".to_vec(), b" the".to_vec(), "好".as_bytes().to_vec()];
        assert_eq!(read(json.as_bytes()).unwrap(), want);
        assert_eq!(read(lines.as_bytes()).unwrap(), want);
    }

    #[test]
    fn a_vocabulary_without_an_end_or_with_foreign_letters_is_refused() {
        assert!(matches!(read(b"[\"a\"]"), Err(ConvertError::NoEndOfText)));
        assert!(matches!(read("好\n<|endoftext|>\n".as_bytes()), Err(ConvertError::Text { at: 0, .. })));
        assert!(matches!(read(b"[1]"), Err(ConvertError::Vocabulary { .. })));
    }
}
