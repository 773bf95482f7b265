//! Conversions from what the packages hold to what the robot loads.
//!
//! Everything is a plain function of bytes. Not here on purpose: other quantisations than q8_0,
//! and models with 128 mel bands.

pub mod ct2;
pub mod lexicon;
pub mod mel;
pub mod q8;
pub mod tokens;
pub mod whisper;

#[cfg(test)]
mod tests;

/// Why a model could not be converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The container is not the version that is known here.
    #[error("the weights are a CTranslate2 file of version {version}, and only 6 is known")]
    Ct2Version {
        /// The version it says it has.
        version: u32,
    },
    /// A tensor is of a kind that does not exist.
    #[error("a tensor is stored as unknown kind {code}")]
    Ct2Kind {
        /// The code found.
        code: u8,
    },
    /// The file ends in the middle.
    #[error("the file ends at byte {at}, inside: {what}")]
    Short {
        /// What was being read.
        what: &'static str,
        /// Where it began.
        at: usize,
    },
    /// Something that must be text is not.
    #[error("no readable text at {at}: {what}")]
    Text {
        /// What was being read.
        what: &'static str,
        /// The byte, or the line of a list.
        at: usize,
    },
    /// A tensor the model needs is not there.
    #[error("the weights have no tensor `{name}`")]
    NoTensor {
        /// Its name in the source.
        name: String,
    },
    /// Sizes contradict each other.
    #[error("the weights do not fit together: {what}")]
    Shape {
        /// What is wrong.
        what: &'static str,
    },
    /// The weights belong to another kind of model.
    #[error("the weights are for `{spec}`, not for whisper")]
    NotWhisper {
        /// What the file says it is.
        spec: String,
    },
    /// The vocabulary is no JSON list of texts.
    #[error("could not read the vocabulary")]
    Vocabulary {
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The vocabulary has no `<|endoftext|>`.
    #[error("the vocabulary has no end-of-text token")]
    NoEndOfText,
    /// A lexicon is not the expected JSON.
    #[error("could not read lexicon {index} of those to merge")]
    Lexicon {
        /// Which one, counted from 0.
        index: usize,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A step was given the wrong number of sources.
    #[error("this step takes {want}, and the manifest lists {got} sources")]
    Sources {
        /// What it takes.
        want: &'static str,
        /// How many were given.
        got: usize,
    },
}
