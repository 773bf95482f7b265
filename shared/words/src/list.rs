//! The file of a word list.

use std::collections::BTreeSet;

use serde::Deserialize;

/// A list that people keep: what is not to be said, and what is to be noticed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WordList {
    schema: Schema,
    /// Its name, as it stands in records.
    pub id: String,
    /// What it is for.
    #[serde(default)]
    pub title: String,
    /// The words.
    pub entries: Vec<Entry>,
}

/// Words that are treated alike.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The words or phrases.
    pub words: Vec<String>,
    /// How bad it is.
    #[serde(default)]
    pub severity: Severity,
    /// Who must not say it.
    pub side: Side,
    /// What is done when the robot is about to say it. What a customer says is noted, whatever stands here.
    #[serde(default)]
    pub action: Action,
    /// What the robot says instead, for `replace`.
    #[serde(default)]
    pub with: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Schema {
    #[serde(rename = "trunkline/words/1")]
    V1,
}

/// How bad a word is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    #[default]
    Info,
    /// A person should look at the call.
    Warn,
    /// Somebody must.
    Critical,
}

impl Severity {
    /// Returns its name, as in files and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Critical => "critical",
        }
    }
}

/// Whose words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The robot's.
    Robot,
    /// The customer's.
    Customer,
    /// Anybody's.
    Both,
}

/// What is done when the robot is about to say a word; the later ones are the stronger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is said, and stands in the record.
    #[default]
    Note,
    /// Other words are said instead.
    Replace,
    /// The sentence is left out.
    Withhold,
}

impl Action {
    /// Returns its name, as in files and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Replace => "replace",
            Self::Withhold => "withhold",
        }
    }
}

/// A list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It is not of the form that a list has.
    #[error("{0}")]
    Form(String),
    /// A list without a name.
    #[error("`id` is empty: give the list a name, it stands in the records")]
    NoName,
    /// A word that can never be found.
    #[error("`{0}` has no letter, digit or character to look for: take it out")]
    Nothing(String),
    /// A word twice, with two meanings.
    #[error("`{0}` stands in two entries for the same side: keep one")]
    Twice(String),
    /// Nothing to say instead.
    #[error("`{0}` is to be replaced and `with` is empty: say with what, or withhold it")]
    WithNothing(String),
}

impl WordList {
    /// Reads a list.
    ///
    /// # Errors
    /// [`ListError`], with the place in the file where the form is wrong.
    pub fn from_yaml(text: &str) -> Result<Self, ListError> {
        let list: Self = serde_saphyr::from_str(text).map_err(|error| ListError::Form(error.to_string()))?;
        if list.id.trim().is_empty() {
            return Err(ListError::NoName);
        }
        let (mut robot, mut customer) = (BTreeSet::new(), BTreeSet::new());
        for entry in &list.entries {
            for word in &entry.words {
                let folded = crate::fold::Folded::new(word).text;
                if !folded.contains(char::is_alphanumeric) {
                    return Err(ListError::Nothing(word.clone()));
                }
                let (robots, customers) = (entry.side != Side::Customer, entry.side != Side::Robot);
                if (robots && !robot.insert(folded.clone())) || (customers && !customer.insert(folded)) {
                    return Err(ListError::Twice(word.clone()));
                }
                if entry.action == Action::Replace && entry.with.trim().is_empty() {
                    return Err(ListError::WithNothing(word.clone()));
                }
            }
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &str) -> Result<WordList, ListError> {
        WordList::from_yaml(&format!("schema: trunkline/words/1\nid: a\nentries: {entries}\n"))
    }

    #[test]
    fn what_is_wrong_with_a_list_is_said() {
        for (entries, expected) in [
            ("[{words: [a], side: robot, action: shout}]", "shout"),
            ("[{words: [a], sides: robot}]", "sides"),
            ("[{words: ['，。'], side: robot}]", "no letter"),
            ("[{words: [a], side: both}, {words: [A], side: robot}]", "two entries"),
            ("[{words: [a], side: robot, action: replace}]", "`with` is empty"),
        ] {
            let error = list(entries).unwrap_err().to_string();
            assert!(error.contains(expected), "{entries}: {error}");
        }
        assert!(list("[{words: [a], side: customer}, {words: [A], side: robot}]").is_ok());
        assert!(WordList::from_yaml("schema: trunkline/words/9\nid: a\nentries: []").is_err());
        assert!(matches!(
            WordList::from_yaml("schema: trunkline/words/1\nid: ' '\nentries: []"),
            Err(ListError::NoName)
        ));
    }
}
