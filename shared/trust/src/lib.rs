//! Signed metadata of releases, without I/O: what a box believes, and how authors make it believable.
//!
//! The shape is that of The Update Framework (TUF specification 1.0): *root* says who may sign what,
//! *targets* what was released, *snapshot* which documents belong together, *timestamp* which snapshot
//! is the newest. Keys are Ed25519, signatures cover canonical JSON. To these four comes the
//! *assignment*: what one box is to run, signed online. A box acts only when the releases, signed offline
//! by several people, and its assignment name the same hash, so that neither a stolen server nor a
//! single stolen release key moves a box.
//!
//! - [`Client`] is the box's side: it says which file to fetch and how long it may be, takes the bytes and
//!   says what to save. Roll-back, freeze, mix and match, wrong thresholds, endless and slow files end as a
//!   [`TrustError`], and what was trusted before stays so.
//! - [`ClaimCode`] and [`Proof`] are how a box that nobody knows yet shows that it has its label.
//! - [`Published`] and [`Ceremony`] are the author's side; [`Signer`] stands for a key that may lie in a
//!   file, in a token or behind a service.
//!
//! **Invariant:** nothing here opens a file or a socket or reads a clock.
//! **Invariant:** nothing that a signature does not cover is believed, and no bytes can panic a reader.
//! **Invariant:** fields that this version does not know are kept, since signatures cover them.
//!
//! Absent on purpose: delegation below a delegated role, and targets without a SHA-256.

pub mod canonical;
mod claim;
mod client;
mod envelope;
mod hash;
mod key;
mod meta;
mod repo;

pub use claim::{ClaimCode, Proof, box_name};
pub use client::{
    Client, Fetch, MAX_DELEGATED, MAX_NEW_ROOTS, MAX_ROOT, MAX_SNAPSHOT, MAX_TARGETS, MAX_TIMESTAMP,
    METADATA_DEADLINE, TrustError, is_plain_name,
};
pub use envelope::{Envelope, EnvelopeError, RoleKeys};
pub use hash::{Hasher, NotASha256, Sha256, sha256};
pub use key::{FileKey, KeyError, KeyId, PublicKey, Signer};
pub use meta::{
    AssignedTarget, Assignment, Delegated, Delegations, Header, KeyEntry, MetaFile, Release, Root,
    SPEC_VERSION, Schedule, Snapshot, Target, Targets, TimestampMeta, target_of,
};
pub use repo::{Ceremony, Holders, Lives, Published, RepoError, role_file, root_file};
