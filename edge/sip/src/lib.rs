//! A SIP user agent without I/O: messages, SDP, digest, transactions, calls, a registration and a registrar.
//!
//! Sources: RFC 3261 (SIP), RFC 6026 (accepted INVITEs), RFC 3264 and RFC 8866 (offer and answer, SDP), RFC 7616
//! and RFC 8760 (digest), RFC 3262 (reliable provisional answers), RFC 3311 (UPDATE), RFC 3326 (Reason), RFC 3515,
//! RFC 3891 (transfer, Replaces), RFC 3581 (rport), RFC 4028 (session timers), RFC 4475 (torture messages).
//!
//! Datagrams, time and randomness come in as arguments; datagrams, events and the next deadline are polled out
//! of [`UserAgent`]. The shell owns the socket and the clock:
//!
//! ```no_run
//! use std::net::UdpSocket;
//! use std::time::{Duration, Instant};
//! use trunkline_sip::message::Uri;
//! use trunkline_sip::sdp::LocalMedia;
//! use trunkline_sip::{InviteRequest, Output, SipEvent, UaConfig, UserAgent};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let socket = UdpSocket::bind("127.0.0.1:0")?;
//!     let mut config = UaConfig::new(socket.local_addr()?);
//!     config.trunk = Some("127.0.0.1:5060".parse()?);
//!     let mut agent = UserAgent::new(config, [7; 32]); // a random seed outside examples
//!
//!     let media = LocalMedia::new("127.0.0.1:4000".parse()?);
//!     let call = agent.invite(Instant::now(), InviteRequest::new("robot", Uri::sip("1001", "127.0.0.1")?, media))?;
//!     let mut buffer = [0; 65_535];
//!     loop {
//!         while let Some(output) = agent.poll_output() {
//!             match output {
//!                 Output::Send { to, bytes, .. } => {
//!                     if let Err(error) = socket.send_to(&bytes, to) {
//!                         agent.handle_send_error(Instant::now(), to, error.kind());
//!                     }
//!                 }
//!                 Output::Event(SipEvent::Answered { media, .. }) => {
//!                     println!("speak {:?} to {}", media.codec, media.remote);
//!                     agent.bye(Instant::now(), call, None)?;
//!                 }
//!                 Output::Event(SipEvent::Failed { failure, .. }) => return Err(failure.into()),
//!                 Output::Event(SipEvent::Ended { .. }) => return Ok(()),
//!                 Output::Event(_) | Output::News { .. } => {}
//!             }
//!         }
//!         let due = agent.poll_timeout().map(|(due, _why)| due.saturating_duration_since(Instant::now()));
//!         socket.set_read_timeout(Some(due.unwrap_or(Duration::from_secs(1)).max(Duration::from_millis(1))))?;
//!         match socket.recv_from(&mut buffer) {
//!             Ok((length, from)) => agent.handle_datagram(Instant::now(), from, &buffer[..length]),
//!             Err(_) => agent.handle_timeout(Instant::now()),
//!         }
//!         agent.handle_timeout(Instant::now());
//!     }
//! }
//! ```
//!
//! **Invariant:** nothing here opens a socket, reads a clock or spawns a task.
//! **Invariant:** no bytes from a peer can panic it; the worst they get is counted.
//! **Invariant:** every table is bounded, and a call ends with exactly one event.
//! **Invariant:** `Debug` of what may hold a number or a name shows its last two characters at most.
//!
//! TCP and TLS look the same from here: an [`Output::Send`] names the transport, and what a connection brings
//! is cut into messages by [`stream::Framer`] and handed to [`UserAgent::handle_message`].
//!
//! Absent on purpose: names are not resolved (a target with a name for a host is reached through the trunk), and
//! a transfer that others ask for is only told, never carried out by itself.

pub mod agent;
pub mod cause;
pub mod digest;
pub mod hunt;
pub mod identity;
pub mod message;
pub mod sdp;
pub mod stream;
pub mod transaction;
pub mod trunk;

pub use agent::{
    Account, Binding, CallNews, CommandError, DialogKey, Failure, FailureCause, Gauges, HangupReason,
    InboundAuth, InviteRequest, Output, RegisterRequest, RegistrarConfig, Reliability, Replaces,
    SessionTimers, SipEvent, Stats, TransferStep, UaConfig, UserAgent,
};
