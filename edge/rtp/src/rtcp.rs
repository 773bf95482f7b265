//! RTCP: what each side tells the other about the stream (RFC 3550 §6).
//!
//! [`RtcpWriter`] and [`parse_compound`] are the bytes, [`Reception`] counts what arrives, and
//! [`RtcpSession`] is the timetable of one call: when to report, and what the peer's reports say.
//! [`quality`] estimates how it sounds.

pub mod quality;
mod reception;
mod session;
mod wire;

pub use reception::{Reception, ReceptionStats};
pub use session::{RtcpNews, RtcpSession};
pub use wire::{Compound, ReportBlock, ReportBlocks, RtcpPacket, RtcpWriter, SenderInfo, parse_compound};

use std::time::Duration;

/// Wall-clock time in 2⁻³² seconds since 1900 (RFC 3550 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NtpTime(pub u64);

impl NtpTime {
    /// Converts the time since 1970 that the system's clock gives.
    #[must_use]
    pub fn from_unix(since_1970: Duration) -> Self {
        let seconds = since_1970.as_secs().wrapping_add(SECONDS_1900_TO_1970) << 32;
        let fraction = (u64::from(since_1970.subsec_nanos()) << 32) / 1_000_000_000;
        Self(seconds | fraction)
    }

    /// Returns the middle 32 bits, in which reports refer to each other: 2⁻¹⁶ seconds.
    #[must_use]
    pub fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

/// Seventy years with seventeen leap days.
const SECONDS_1900_TO_1970: u64 = 2_208_988_800;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unix_epoch_and_half_a_second_are_where_they_belong() {
        let time = NtpTime::from_unix(Duration::from_millis(500));
        assert_eq!(time.0, (2_208_988_800 << 32) | 0x8000_0000);
        assert_eq!(time.middle(), (2_208_988_800u64 << 16) as u32 | 0x8000);
    }
}
