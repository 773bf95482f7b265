//! Merges pronunciation lexicons: later ones win.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ConvertError;

/// How a word is pronounced: one way, or one per part of speech (`null`: not said apart).
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Entry {
    One(String),
    ByTag(BTreeMap<String, Option<String>>),
}

/// Merges JSON objects of word to pronunciation into one, sorted and without spaces, so that the
/// same sources always give the same bytes.
///
/// # Errors
///
/// When a source is not such an object.
pub fn merge(sources: &[Vec<u8>]) -> Result<Vec<u8>, ConvertError> {
    let mut all = BTreeMap::<String, Entry>::new();
    for (index, source) in sources.iter().enumerate() {
        let lexicon: BTreeMap<String, Entry> =
            serde_json::from_slice(source).map_err(|source| ConvertError::Lexicon { index, source })?;
        all.extend(lexicon);
    }
    serde_json::to_vec(&all).map_err(|source| ConvertError::Lexicon { index: sources.len(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_lexicon_wins_and_the_words_come_out_sorted() {
        let silver = br#"{"tomato": "a", "AB": "x"}"#.to_vec();
        let gold = r#"{"tomato": "təˈmɑto", "use": {"VERB": "juz", "DEFAULT": "jus", "X": null}}"#.as_bytes().to_vec();
        let merged = String::from_utf8(merge(&[silver, gold]).unwrap()).unwrap();
        assert_eq!(merged, r#"{"AB":"x","tomato":"təˈmɑto","use":{"DEFAULT":"jus","VERB":"juz","X":null}}"#);
    }

    #[test]
    fn a_source_of_another_shape_is_named() {
        let good = b"{}".to_vec();
        assert!(matches!(merge(&[good, b"[1]".to_vec()]), Err(ConvertError::Lexicon { index: 1, .. })));
    }
}
