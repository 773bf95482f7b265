//! One ECDSA P-256 key in a TPM 2.0: made there, used there, never outside (TCG "TPM 2.0 Library", parts 1 to 3).
//!
//! - `wire`: the five commands that this takes, as bytes, and the answers to them. No I/O.
//! - `channel`: the kernel's device (`/dev/tpmrm0`), or the socket of a TPM in software.
//! - [`Tpm`] and [`TpmKey`]: make or find the key, sign with it. What fails says what to do.
//! - [`swtpm`]: a TPM in software, for tests.
//!
//! The key is a primary key of the owner's hierarchy, made from the TPM's own seed, and lies at a persistent handle: it
//! is there after a restart without a file, and a process that signs needs no parent, no password and no loading.
//!
//! **Invariant:** the key cannot be read, copied or moved: the TPM vouches for that by the attributes that are checked.
//! **Invariant:** no bytes from a TPM can panic the reader.
//! **Invariant:** nothing is held between two signatures, so that several processes can use one key.
//!
//! Absent on purpose: PCRs, sealing and attestation; encryption of the bus to a TPM on a chip of its own (what passes
//! there is a hash and its signature); passwords of the owner.

mod channel;
mod key;
pub mod swtpm;
mod wire;

pub use key::{DEFAULT_HANDLE, Handle, Tpm, TpmError, TpmKey};
pub use wire::{Reply, read_public, read_signature};
