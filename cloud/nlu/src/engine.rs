//! The encoder and one trained classifier per script version, behind one door.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::civil::DateTime;
use serde::Serialize;

use crate::classify::{Classifier, ClassifierOptions, Decision, IntentExamples};
use crate::encoder::{Encoder, EncoderError, MODEL_FILE};
use crate::entities::{Entity, extract};
use crate::locale::Locale;
use crate::sentiment::sentiment;

/// Everything that was understood from one turn.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Understanding {
    /// What it means for the dialogue.
    pub decision: Decision,
    /// The dates, sums, numbers and so on in it, by position.
    pub entities: Vec<Entity>,
    /// The mood of its words, from -1 to 1.
    pub sentiment: f32,
}

/// Why the engine could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The encoder's file is there and cannot be used.
    #[error("could not load the encoder")]
    Encoder(#[from] EncoderError),
    /// The script version was never prepared, or has been forgotten.
    #[error("script version `{version}` has not been prepared")]
    UnknownVersion {
        /// The version asked for.
        version: String,
    },
    /// Training on so much would hold up every call.
    #[error("the script has {examples} example phrases, and at most {MAX_EXAMPLES} can be trained on")]
    TooManyExamples {
        /// How many there are.
        examples: usize,
    },
}

/// More example phrases than any script that a person can maintain.
const MAX_EXAMPLES: usize = 20_000;

/// Understands the turns of all scripts. Share it by [`Arc`]; every method takes `&self`.
///
/// The calls are pure computation of some 10 to 40 ms with the encoder: from async code run them
/// on a blocking thread.
#[derive(Debug, Default)]
pub struct Engine {
    encoder: Option<Encoder>,
    scripts: RwLock<BTreeMap<String, Arc<Script>>>,
}

#[derive(Debug)]
struct Script {
    locale: Locale,
    classifier: Classifier,
}

impl Engine {
    /// Loads the encoder from the model folder. Where its file is missing the engine works without
    /// and says so in every decision.
    ///
    /// # Errors
    /// The file is there but damaged or unreadable.
    pub fn load(model_dir: &Path) -> Result<Self, EngineError> {
        let path = model_dir.join(MODEL_FILE);
        if !path.exists() {
            tracing::warn!(
                path = %path.display(),
                "The sentence encoder is missing: intents are decided by rules and n-grams only. \
                 Run the models step."
            );
            return Ok(Self::floor_only());
        }
        Ok(Self { encoder: Some(Encoder::open(&path)?), scripts: RwLock::default() })
    }

    /// Returns an engine without an encoder: rules and n-grams only.
    #[must_use]
    pub fn floor_only() -> Self {
        Self::default()
    }

    /// Says whether the encoder is loaded.
    #[must_use]
    pub fn has_encoder(&self) -> bool {
        self.encoder.is_some()
    }

    /// Trains and keeps the classifier of a script version. For a version that is kept already it
    /// does nothing, since a version is the hash of its content.
    ///
    /// # Errors
    /// The script has too many examples.
    pub fn prepare(
        &self,
        version: &str,
        locale: Locale,
        intents: &[IntentExamples],
    ) -> Result<(), EngineError> {
        if self.is_prepared(version) {
            return Ok(());
        }
        let examples = intents.iter().map(|intent| intent.examples.len()).sum();
        if examples > MAX_EXAMPLES {
            return Err(EngineError::TooManyExamples { examples });
        }
        // Trained outside the lock: other scripts' turns go on meanwhile.
        let classifier =
            Classifier::train(self.encoder.as_ref(), intents, locale, ClassifierOptions::default());
        let script = Arc::new(Script { locale, classifier });
        self.scripts.write().unwrap_or_else(PoisonError::into_inner).insert(version.to_owned(), script);
        tracing::info!(version, examples, "Script prepared for understanding");
        Ok(())
    }

    /// Says whether [`Self::understand`] knows the version.
    #[must_use]
    pub fn is_prepared(&self, version: &str) -> bool {
        self.script(version).is_some()
    }

    /// Drops a version that no call uses any more.
    pub fn forget(&self, version: &str) {
        self.scripts.write().unwrap_or_else(PoisonError::into_inner).remove(version);
    }

    /// Understands one turn. `expected` are the intents for which the node has an edge; `now` is
    /// the local time of the customer, from which `tomorrow` is counted.
    ///
    /// # Errors
    /// The version has not been prepared.
    pub fn understand(
        &self,
        version: &str,
        text: &str,
        expected: &[&str],
        now: DateTime,
    ) -> Result<Understanding, EngineError> {
        let script = self
            .script(version)
            .ok_or_else(|| EngineError::UnknownVersion { version: version.to_owned() })?;
        Ok(Understanding {
            decision: script.classifier.classify(text, expected),
            entities: extract(text, script.locale, now),
            sentiment: sentiment(text, script.locale),
        })
    }

    /// Returns the packed floor head of a prepared version, for the edge's bundle.
    #[must_use]
    pub fn floor(&self, version: &str) -> Option<Vec<u8>> {
        self.script(version).map(|script| script.classifier.floor().to_bytes())
    }

    fn script(&self, version: &str) -> Option<Arc<Script>> {
        self.scripts.read().unwrap_or_else(PoisonError::into_inner).get(version).cloned()
    }
}
