//! Samples in, samples out: what a telephone call does with sound.
//!
//! - [`Codec`]: G.711 in both laws. [`g722`]: twice its bandwidth in as many octets. [`opus`]: fewer octets, and
//!   copies for what is lost.
//! - [`plc`]: conceals lost frames. [`resample`]: any ratio of rates, streaming or whole.
//! - [`level`]: measuring and setting loudness, fades, trimming. [`tone`]: call tones and keys, made
//!   and heard. [`noise`]: comfort noise. [`channel`], [`network`], [`music`]: what a telephone line
//!   does to speech and a network to packets, and music on hold, for tests.
//! - [`EarlyListener`]: what is heard before an answer; [`announcement`]: what the network says in words.
//! - [`AnswererDetector`]: who or what answered a call, by its sound.
//! - [`record`]: the two-channel recording. [`wav`]: reading and writing of whole files.
//! - [`probe`]: a signal whose echo tells delay and loss.
//! - [`latency`]: how fast the robot answers, measured from a recording.
//!
//! Sound is 16-bit samples in slices, at 8 kHz unless a rate is said.
//!
//! **Invariant:** what runs once per frame of a call ([`Codec`], [`opus`], [`plc`], [`resample::Resampler`],
//! [`tone::ToneGenerator`], [`tone::DtmfDetector`]) allocates nothing and touches no file.
//!
//! Absent on purpose: devices (`edge/soundcard`), threads and rings (the shell feeds
//! [`record::RecordingWriter`] from its own), and anything that understands speech (`edge/speech`).

mod announcement;
mod answerer;
pub mod channel;
mod early;
mod g711;
pub mod g722;
pub mod latency;
pub mod level;
pub mod music;
pub mod network;
pub mod noise;
pub mod opus;
pub mod plc;
pub mod probe;
pub mod record;
pub mod resample;
pub mod tone;
mod vad;
pub mod wav;

pub use announcement::{Announcement, announcement, announcement_after_answer};
pub use answerer::{Answerer, AnswererDetector, AnswererRules, AnswererVerdict};
pub use early::{EarlyListener, EarlySound, EarlyVerdict};
pub use g711::Codec;

/// Samples of one frame of 20 ms at 8 kHz.
pub const FRAME: usize = 160;

/// Converts samples to the range -1 to 1.
#[must_use]
pub fn to_f32(samples: &[i16]) -> Vec<f32> {
    samples.iter().map(|&sample| f32::from(sample) / 32_768.0).collect()
}

/// Converts from the range -1 to 1, clipping what is outside.
#[must_use]
pub fn to_i16(samples: &[f32]) -> Vec<i16> {
    samples.iter().map(|&sample| clip(sample * 32_768.0)).collect()
}

/// Rounds to the nearest sample in range.
fn clip(value: f32) -> i16 {
    // `as` saturates, and makes silence of what is not a number.
    value.round() as i16
}
