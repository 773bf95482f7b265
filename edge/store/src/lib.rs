//! What the box must not forget: an append-only journal that is the truth, and sled for what can be
//! derived from it.
//!
//! The journal's `append` returns after `fdatasync`; only then may anybody be told. sled holds how
//! far the cloud has acknowledged; if it will not open it is set aside and made anew, and the cloud
//! de-duplicates what is sent again.
//!
//! **Invariant:** a sequence number, once given out, is never given out again, not even after every
//! record was acknowledged and removed.
//! **Invariant:** a torn tail is cut at the first record whose checksum is wrong; what was
//! acknowledged to the producer lies before it.
//!
//! Absent on purpose: what the records mean, and when to send them (`edge/link`).

mod files;
mod journal;
mod outbox;

pub use files::{Files, RealFiles};
pub use journal::{Journal, JournalError, MAX_PAYLOAD, Record, Survey, survey};
pub use outbox::{OutboxStore, StoreError};
