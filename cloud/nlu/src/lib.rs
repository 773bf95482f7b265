//! What the customer meant: the intent of a turn, its entities and its mood.
//!
//! [`Engine`] holds one multilingual sentence [`Encoder`] and, per script version, a [`Classifier`]
//! trained from the script's own examples. Above both stand the [universal intents](UNIVERSAL) with
//! their rules; below, the [`FloorHead`], which needs no encoder and takes the turn where there is
//! none. Every [`Decision`] carries its evidence.
//!
//! Sources: Devlin et al. 2018 (BERT), Wang et al. 2024 (multilingual E5), Kudo 2018 (unigram
//! pieces). The model file comes from the models step; `BENCHMARKS.md` has the measured figures.
//!
//! **Invariant:** nothing here opens a socket, reads a clock or draws a random number: the same
//! script, text and `now` give the same answer.
//! **Invariant:** no text can panic it or make it slow; what is too long is cut.
//!
//! Absent on purpose: memory of earlier turns (the dialogue's) and prosody (the edge's).

mod classify;
pub mod encoder;
mod engine;
pub mod entities;
mod floor;
mod locale;
mod pattern;
mod sentiment;
mod softmax;
mod text;
mod universal;

pub use classify::{Classifier, ClassifierOptions, Decision, IntentExamples, Layer};
pub use encoder::Encoder;
pub use engine::{Engine, EngineError, Understanding};
pub use entities::{Currency, Entity, EntityKind, EntityValue, extract};
pub use floor::{FloorError, FloorHead};
pub use locale::{Locale, UnknownLocale};
pub use sentiment::sentiment;
pub use universal::UNIVERSAL;
