//! What is agreed about Opus beside its name (RFC 7587 §6.1, §7).

/// Bits a second that we like to get: narrow-band speech with copies for what is lost.
const BITRATE: u32 = 24_000;

/// What libopus can do, in bits a second.
const BITRATES: std::ops::RangeInclusive<u32> = 6_000..=510_000;

/// What the other side wants of the Opus that we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpusParams {
    /// Whether it makes use of copies of a frame in the next packet (`useinbandfec`).
    pub fec: bool,
    /// Bits a second at most (`maxaveragebitrate`), 6000 to 510000.
    pub max_bitrate: u32,
}

impl Default for OpusParams {
    /// What holds where nothing is said: no copies, and any bitrate.
    fn default() -> Self {
        Self { fec: false, max_bitrate: *BITRATES.end() }
    }
}

impl OpusParams {
    /// Reads the format's parameters; what is not understood is passed over.
    pub(super) fn parse(text: &str) -> Self {
        let mut params = Self::default();
        for pair in text.split(';') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (name.trim(), value.trim());
            if name.eq_ignore_ascii_case("useinbandfec") {
                params.fec = value == "1";
            } else if name.eq_ignore_ascii_case("maxaveragebitrate")
                && let Ok(bitrate) = value.parse::<u32>()
            {
                params.max_bitrate = bitrate.clamp(*BITRATES.start(), *BITRATES.end());
            }
        }
        params
    }
}

/// What we want of the Opus that we are sent, and say of ours. We decode to 8 kHz and mono, so that more would be sent
/// in vain; silence is to be sent like anything else.
pub(super) fn ours(payload_type: u8) -> String {
    format!(
        "a=fmtp:{payload_type} maxplaybackrate=8000;sprop-maxcapturerate=8000;maxaveragebitrate={BITRATE};stereo=0;\
         sprop-stereo=0;useinbandfec=1;usedtx=0\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_other_side_wants_is_read_within_what_can_be() {
        let read = |text| {
            let params = OpusParams::parse(text);
            (params.fec, params.max_bitrate)
        };
        assert_eq!(read(""), (false, 510_000));
        assert_eq!(read("useinbandfec=1; maxaveragebitrate=20000"), (true, 20_000));
        assert_eq!(read("minptime=10;UseInbandFec=0;maxaveragebitrate=1"), (false, 6_000));
        assert_eq!(read("maxaveragebitrate=9999999;=;;x;useinbandfec"), (false, 510_000));
        assert_eq!(read("maxaveragebitrate=many"), (false, 510_000));
    }
}
