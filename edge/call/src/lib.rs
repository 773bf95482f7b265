//! One call from the command to dial, or from its first ring here, until its filed record, over any line, without I/O.
//!
//! The line, the media, the ear, the recogniser and the cloud are told about in `handle_*` calls;
//! what to do is polled from [`Call::poll_output`]. The shell that owns the sockets and threads is
//! `edge/agent`.
//!
//! The cloud understands what the customer said; what follows from an event that needs no
//! understanding (answered, silence, hung up) is stepped here with the same interpreter, so that
//! the first words and a silent customer wait for nobody. A turn that the cloud does not answer in
//! time is answered on the box too, by the shell; the state is the box's, so the cloud's next answer
//! goes on from there.
//!
//! **Invariant:** nothing here opens a socket, reads a clock or draws a random number.
//! **Invariant:** every call that was begun yields exactly one [`Output::Ended`], whatever happens.
//! **Invariant:** only pure steps are taken on a guess: before the turn is known to be over nothing
//! is said, stored or changed.

mod arrival;
mod call;
mod expected;
mod floor;
mod hearing;
mod timeline;

pub use arrival::{Arrival, arrive};
pub use call::{
    Call, CallConfig, Hearing, Line, Machine, MachineKind, Media, Output, Transcript, TransferFailure,
    TransferNews, TransferWay,
};
pub use expected::{Numbers, numbers as expected_numbers, phrases as expected_phrases};

#[cfg(test)]
mod tests;
