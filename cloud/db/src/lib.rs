//! The cloud's database: every query and every migration; nothing else speaks SQL.
//!
//! SQLite in WAL mode with one writer connection, so that transactions queue up instead of failing
//! with "database is locked". A commit is on the disk when the call returns (`synchronous = FULL`):
//! boxes delete their events on the strength of it.
//!
//! **Invariant:** (box, seq) is stored once; the effects of an event and its row share a transaction.
//! **Invariant:** a call has at most one record, and a record that arrived is never replaced.
//! **Invariant:** an entry of the audit log is completed once and then stays.
//! **Invariant:** receipts are appended only, each to the hash of the one before; an opt-out is never removed.
//!
//! Absent on purpose: decisions (`cloud/worker`), and any clock: `now` is an argument.

mod alerts;
mod boxes;
mod calls;
mod campaigns;
mod events;
mod experiments;
mod fleet;
mod imports;
mod judged;
mod keys;
mod lists;
mod log;
mod migrations;
mod numbers;
mod orders;
mod pacing;
mod policy;
mod records;
mod release;
mod rollouts;
mod scripts;
mod speed;
mod spool;
mod store;
mod suppress;
mod view;

#[cfg(test)]
mod fleet_tests;
#[cfg(test)]
mod tests;

pub use alerts::AlertRow;
pub use boxes::BoxRow;
pub use calls::{Cancelled, Created, NewCall, Resend, TransferAsked};
pub use campaigns::{CampaignRow, ContactRow, EndedAttempt, Moved, NewContact, Promise, Settling, Wants};
pub use events::{Effect, Event, EventCount, Ingested};
pub use experiments::{ExperimentResult, StoppedArm, Tally};
pub use fleet::{Certificate, FleetEntry, ReportRow};
pub use imports::{ContactResult, ImportRow};
pub use judged::{CallFate, ContactFate, JudgedCall, JudgedContact};
pub use keys::{AuditEntry, Holder, KeyRow, NewKey};
pub use lists::{Copied, ListRow};
pub use log::{CallLogEntry, LogEntry};
pub use numbers::{Bound, NumberRow};
pub use orders::{FileRefused, FileRow, OrderRow, OrderView};
pub use pacing::{CampaignSums, UnderWay};
pub use policy::{NewSuppression, OnRecord};
pub use records::{EndedCall, RecordFilter};
pub use release::EndedAlike;
pub use rollouts::{AssignmentRow, CallFigures};
pub use scripts::Publication;
pub use speed::Waits;
pub use spool::{AttemptResult, CallbackPayload, Delivery, Endpoint, LoggedCallback};
pub use store::Db;
pub use suppress::Confirmed;
pub use view::{Call, CallDetail, CallFilter, CallStatus, CallbackView, LineView};

/// Why a query failed.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The file could not be opened or created.
    #[error("could not open the database `{path}`")]
    Open {
        /// The file.
        path: String,
        /// Why.
        source: sqlx::Error,
    },
    /// The file has a schema that this build cannot bring up to date.
    #[error("could not bring the database up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A statement failed.
    #[error("the database refused a statement")]
    Sql(#[from] sqlx::Error),
    /// A stored value is not what this build wrote.
    #[error("the database holds a {what} that cannot be read: {text}")]
    Damaged {
        /// Kind of value.
        what: &'static str,
        /// How it failed; never the value itself, which may be personal data.
        text: String,
    },
}
