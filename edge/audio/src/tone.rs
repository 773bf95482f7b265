//! Tones of the telephone network: ringback and keys, made and heard.

mod detect;
mod generate;
mod progress;

pub use detect::{DtmfDetector, Goertzel};
pub use generate::{
    Country, Signal, ToneGenerator, busy, congestion, dtmf, dtmf_samples, information, ringback,
};
pub use progress::{HeardTone, ProgressDetector, ProgressTone};

/// The keys by row and column (ITU-T Q.23).
const KEYS: [[char; 4]; 4] =
    [['1', '2', '3', 'A'], ['4', '5', '6', 'B'], ['7', '8', '9', 'C'], ['*', '0', '#', 'D']];

/// Frequencies of the rows and the columns, in Hz.
const ROWS: [f32; 4] = [697.0, 770.0, 852.0, 941.0];
const COLUMNS: [f32; 4] = [1_209.0, 1_336.0, 1_477.0, 1_633.0];
