//! RTP, RTCP, jitter buffer and telephone events for calls with G.711 or Opus, without I/O.
//!
//! - [`RtpPacket`], [`RtpSender`]: reading and writing packets (RFC 3550 §5).
//! - [`TelephoneEvent`], [`EventSender`], [`EventReceiver`]: keys (RFC 4733).
//! - [`ComfortNoise`]: what silence sounds like where it is not sent (RFC 3389).
//! - [`JitterBuffer`]: packets in at any time, one 20 ms frame out per tick.
//! - [`srtp`]: both encrypted, around whole packets (RFC 3711).
//! - [`rtcp`]: reports, reception statistics and their timetable (RFC 3550 §6).
//!
//! Datagrams and the time of their arrival come in as arguments. The shell that owns the sockets,
//! chooses the random first values and knows which peer is authorised is `edge/agent`.
//!
//! **Invariant:** nothing here opens a socket, reads a clock or allocates per packet.
//! **Invariant:** no bytes from a peer can panic it; the worst they get is an error or a count.
//!
//! Absent on purpose: decoding. What a frame of Opus sounds like is `edge/audio`'s.

mod comfort;
mod delay;
mod event;
mod jitter;
mod packet;
pub mod rtcp;
mod sender;
pub mod srtp;

pub use comfort::{COMFORT_NOISE_PT, ComfortNoise};
pub use event::{EventReceiver, EventSender, TelephoneEvent, digit_event, event_digit};
pub use jitter::{Frame, JitterBuffer, JitterConfig, JitterStats, Parts, Pushed};
pub use packet::{Csrcs, Extension, RtpError, RtpPacket, RtpTicks, Seq, Ssrc, is_rtcp};
pub use sender::RtpSender;

/// Rate of the RTP clock of G.711 and of its telephone events, in ticks per second.
pub const CLOCK_HZ: u32 = 8_000;

/// Ticks, and for G.711 also octets and samples, in one frame of 20 ms.
pub const FRAME_TICKS: u32 = 160;

/// A buffer of this size holds any packet that arrives over Ethernet unfragmented.
pub const MAX_PACKET: usize = 1_500;
