//! What was signalled in the last calls of a box, and how their sound was: kept, shown and written for other tools.
//!
//! - [`Tracer`]: takes each message as it was sent or received and keeps the last calls in a folder, one file per leg
//!   (one SIP Call-ID), bounded in number and bytes. Its thread masks and writes; who hands a message over never waits.
//! - [`mask`]: takes the secrets out of a message, before anything is written, and telephone numbers when it is shown.
//! - [`Trace`]: one leg as it was kept. [`ladder`] shows legs as text, [`pcap`] as packets that Wireshark opens.
//!
//! **Invariant:** no password, digest response, nonce, key of encrypted sound or pressed key gets into a file.
//! **Invariant:** nobody who is not let in can fill the folder: an unwanted INVITE is kept in memory for a while only.
//! **Invariant:** a full disk ends traces, never calls.
//!
//! Absent on purpose: packets of sound (a recording has them), registrations and pings (the log has them).

mod keep;
pub mod ladder;
mod line;
pub mod mask;
pub mod pcap;
mod sdp;
mod trace;

pub use keep::{Limits, Tapped, Tracer};
pub use line::{MediaReport, Way};
pub use sdp::SdpSummary;
pub use trace::{Kept, Trace, find, list};
