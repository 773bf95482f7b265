//! The RTP packet and the wrapping numbers in it (RFC 3550 §5.1).

/// Who sends: a random number that names one stream of packets (RFC 3550 §8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ssrc(pub u32);

/// Ticks of an RTP media clock, as carried on the wire; wraps at 2³² (RFC 3550 §5.1).
///
/// Not samples: G.722 samples at 16 kHz but ticks at 8 kHz (RFC 3551 §4.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RtpTicks(pub u32);

impl RtpTicks {
    /// Returns the time `ticks` later.
    #[must_use]
    pub fn wrapping_add(self, ticks: u32) -> Self {
        Self(self.0.wrapping_add(ticks))
    }

    /// Returns the ticks from `earlier` to `self`, negative when `earlier` is in fact later.
    ///
    /// Right for distances of less than 2³¹ ticks, which is three days at 8 kHz.
    #[must_use]
    pub fn since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }
}

/// Number of a packet in its stream; wraps at 2¹⁶.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seq(pub u16);

impl Seq {
    /// Returns the number that follows.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// Returns how many packets `self` is after `earlier`, negative when it is before.
    ///
    /// Right for distances of less than 2¹⁵ packets, which is eleven minutes at 50 a second.
    #[must_use]
    pub fn since(self, earlier: Self) -> i16 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }
}

/// Why bytes are not a packet, or a packet does not fit into bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RtpError {
    /// The bytes end before what they announce.
    #[error("the packet is cut short: it holds {len} bytes and announces at least {need}")]
    Short {
        /// Bytes that are there.
        len: usize,
        /// Bytes that the header asks for.
        need: usize,
    },
    /// The version is not 2.
    #[error("the packet has version {0}, and only version 2 is spoken here")]
    Version(u8),
    /// The padding count is zero or reaches into the header.
    #[error("the packet announces {0} bytes of padding, which cannot be")]
    Padding(u8),
    /// A field of a packet to be written is out of its range.
    #[error("{field} is out of range")]
    Field {
        /// The field, as RFC 3550 names it.
        field: &'static str,
    },
    /// The buffer to write into is too small.
    #[error("the packet needs {need} bytes, and the buffer has {room}")]
    NoRoom {
        /// Bytes needed.
        need: usize,
        /// Bytes offered.
        room: usize,
    },
}

/// The contributing sources of a mixed packet, at most 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Csrcs<'a>(&'a [u8]);

impl<'a> Csrcs<'a> {
    /// Reads a list in wire form; `None` unless it is made of whole entries, at most 15.
    #[must_use]
    pub fn from_wire(bytes: &'a [u8]) -> Option<Self> {
        (bytes.len().is_multiple_of(4) && bytes.len() <= 60).then_some(Self(bytes))
    }

    /// Returns the sources in their order.
    pub fn iter(self) -> impl Iterator<Item = Ssrc> + 'a {
        self.0.chunks_exact(4).map(|b| Ssrc(u32::from_be_bytes([b[0], b[1], b[2], b[3]])))
    }

    /// Returns how many there are.
    #[must_use]
    pub fn len(self) -> usize {
        self.0.len() / 4
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

/// The header extension, uninterpreted (RFC 3550 §5.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    /// What kind of extension, defined by the profile.
    pub profile: u16,
    /// Its content: whole 32-bit words.
    pub data: &'a [u8],
}

/// A view of one RTP packet (RFC 3550 §5.1).
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// |V=2|P|X|  CC   |M|     PT      |              seq              |
/// |                             ticks                             |
/// |                             ssrc                              |
/// |                        csrc, CC times                         |
/// |  extension: profile           |  words of data                | if X
/// |  payload …                                  … padding, count  | if P
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    /// For speech: the first packet after silence.
    pub marker: bool,
    /// What the payload is, below 128: 0 µ-law, 8 A-law, others by negotiation.
    pub payload_type: u8,
    /// Number of the packet.
    pub seq: Seq,
    /// Time of the payload's first sample.
    pub ticks: RtpTicks,
    /// The stream.
    pub ssrc: Ssrc,
    /// Who was mixed into it.
    pub csrc: Csrcs<'a>,
    /// The header extension, if there is one.
    pub extension: Option<Extension<'a>>,
    /// Bytes of padding after the payload, its count byte included; 0 is none.
    pub padding: u8,
    /// The payload, without padding.
    pub payload: &'a [u8],
}

impl<'a> RtpPacket<'a> {
    /// Reads a datagram.
    ///
    /// # Errors
    /// Says what is wrong with the bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RtpError> {
        need(bytes, HEADER)?;
        if bytes[0] >> 6 != 2 {
            return Err(RtpError::Version(bytes[0] >> 6));
        }
        let csrc_end = HEADER + 4 * usize::from(bytes[0] & 0x0f);
        need(bytes, csrc_end)?;
        let mut at = csrc_end;
        let extension = if bytes[0] & 0x10 != 0 {
            need(bytes, at + 4)?;
            let profile = u16_at(bytes, at);
            let end = at + 4 + 4 * usize::from(u16_at(bytes, at + 2));
            need(bytes, end)?;
            let data = &bytes[at + 4..end];
            at = end;
            Some(Extension { profile, data })
        } else {
            None
        };
        let padding = if bytes[0] & 0x20 != 0 { bytes[bytes.len() - 1] } else { 0 };
        let end = bytes.len() - usize::from(padding).min(bytes.len());
        if end < at || (bytes[0] & 0x20 != 0 && padding == 0) {
            return Err(RtpError::Padding(padding));
        }
        Ok(Self {
            marker: bytes[1] & 0x80 != 0,
            payload_type: bytes[1] & 0x7f,
            seq: Seq(u16_at(bytes, 2)),
            ticks: RtpTicks(u32_at(bytes, 4)),
            ssrc: Ssrc(u32_at(bytes, 8)),
            csrc: Csrcs(&bytes[HEADER..csrc_end]),
            extension,
            padding,
            payload: &bytes[at..end],
        })
    }

    /// Writes the packet to the start of `out` and returns its length.
    ///
    /// # Errors
    /// [`RtpError::NoRoom`] when `out` is too small, [`RtpError::Field`] when the payload type is over
    /// 127 or the extension is not made of whole words.
    pub fn write_into(&self, out: &mut [u8]) -> Result<usize, RtpError> {
        if self.payload_type > 0x7f {
            return Err(RtpError::Field { field: "payload type" });
        }
        let words = match self.extension {
            Some(e) if !e.data.len().is_multiple_of(4) => {
                return Err(RtpError::Field { field: "extension" });
            }
            Some(e) => u16::try_from(e.data.len() / 4).map_err(|_| RtpError::Field { field: "extension" })?,
            None => 0,
        };
        let extension = self.extension.map_or(0, |e| 4 + e.data.len());
        let payload_at = HEADER + self.csrc.0.len() + extension;
        let padding_at = payload_at + self.payload.len();
        let total = padding_at + usize::from(self.padding);
        if out.len() < total {
            return Err(RtpError::NoRoom { need: total, room: out.len() });
        }
        out[0] = 0x80
            | u8::from(self.padding > 0) << 5
            | u8::from(self.extension.is_some()) << 4
            | (self.csrc.len() as u8 & 0x0f);
        out[1] = u8::from(self.marker) << 7 | self.payload_type;
        out[2..4].copy_from_slice(&self.seq.0.to_be_bytes());
        out[4..8].copy_from_slice(&self.ticks.0.to_be_bytes());
        out[8..12].copy_from_slice(&self.ssrc.0.to_be_bytes());
        let mut at = HEADER + self.csrc.0.len();
        out[HEADER..at].copy_from_slice(self.csrc.0);
        if let Some(e) = self.extension {
            out[at..at + 2].copy_from_slice(&e.profile.to_be_bytes());
            out[at + 2..at + 4].copy_from_slice(&words.to_be_bytes());
            at += 4;
            out[at..at + e.data.len()].copy_from_slice(e.data);
        }
        out[payload_at..padding_at].copy_from_slice(self.payload);
        if self.padding > 0 {
            out[padding_at..total - 1].fill(0);
            out[total - 1] = self.padding;
        }
        Ok(total)
    }
}

/// Returns whether a datagram on a port that carries both is RTCP rather than RTP (RFC 5761 §4).
#[must_use]
pub fn is_rtcp(datagram: &[u8]) -> bool {
    datagram.len() >= 4 && datagram[0] >> 6 == 2 && (192..=223).contains(&datagram[1])
}

pub(crate) fn need(bytes: &[u8], need: usize) -> Result<(), RtpError> {
    if bytes.len() < need { Err(RtpError::Short { len: bytes.len(), need }) } else { Ok(()) }
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

const HEADER: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_compared_across_their_wrap() {
        assert_eq!(Seq(2).since(Seq(65_534)), 4);
        assert_eq!(Seq(65_534).since(Seq(2)), -4);
        assert_eq!(Seq(65_535).next(), Seq(0));
        assert_eq!(RtpTicks(100).since(RtpTicks(u32::MAX - 59)), 160);
        assert_eq!(RtpTicks(u32::MAX).wrapping_add(161), RtpTicks(160));
    }

    #[test]
    fn a_header_is_read_field_by_field() {
        let bytes = [
            0xb1, 0x88, 0x12, 0x34, 0, 0, 0, 160, 0xde, 0xad, 0xbe,
            0xef, // fixed part, P and X, one CSRC
            0, 0, 0, 7, // CSRC
            0xbe, 0xde, 0, 1, 1, 2, 3, 4, // extension of one word
            0xd5, 0xd5, 0, 2, // two bytes of payload, two of padding
        ];
        let packet = RtpPacket::parse(&bytes).unwrap();
        assert!(packet.marker);
        assert_eq!((packet.payload_type, packet.seq, packet.ticks), (8, Seq(0x1234), RtpTicks(160)));
        assert_eq!(packet.ssrc, Ssrc(0xdead_beef));
        assert_eq!(packet.csrc.iter().collect::<Vec<_>>(), [Ssrc(7)]);
        assert_eq!(packet.extension, Some(Extension { profile: 0xbede, data: &[1, 2, 3, 4] }));
        assert_eq!((packet.payload, packet.padding), (&[0xd5, 0xd5][..], 2));
        let mut out = [0; 64];
        let len = packet.write_into(&mut out).unwrap();
        assert_eq!(out[..len], bytes);
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_reason() {
        assert_eq!(RtpPacket::parse(&[0x80; 11]), Err(RtpError::Short { len: 11, need: 12 }));
        assert_eq!(RtpPacket::parse(&[0x40; 12]), Err(RtpError::Version(1)));
        let mut padded = [0u8; 12];
        padded[0] = 0xa0;
        assert_eq!(RtpPacket::parse(&padded), Err(RtpError::Padding(0)));
        padded[11] = 200;
        assert_eq!(RtpPacket::parse(&padded), Err(RtpError::Padding(200)));
    }

    #[test]
    fn reports_are_told_from_speech_by_the_second_byte() {
        assert!(is_rtcp(&[0x80, 200, 0, 6]));
        assert!(is_rtcp(&[0x81, 203, 0, 1]));
        assert!(!is_rtcp(&[0x80, 0x88, 0, 6]));
        assert!(!is_rtcp(&[0x80, 101, 0, 6]));
        assert!(!is_rtcp(&[0x80]));
    }

    proptest! {
        #[test]
        fn a_packet_reads_back_as_written(
            marker: bool, payload_type in 0u8..128, seq: u16, ticks: u32, ssrc: u32,
            csrc in proptest::collection::vec(any::<[u8; 4]>(), 0..16),
            extension in proptest::option::of((any::<u16>(), proptest::collection::vec(any::<[u8; 4]>(), 0..8))),
            padding: u8, payload in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let csrc = csrc.concat();
            let data = extension.as_ref().map(|(_, words)| words.concat()).unwrap_or_default();
            let packet = RtpPacket {
                marker, payload_type, seq: Seq(seq), ticks: RtpTicks(ticks), ssrc: Ssrc(ssrc),
                csrc: Csrcs::from_wire(&csrc).unwrap(),
                extension: extension.map(|(profile, _)| Extension { profile, data: &data }),
                padding, payload: &payload,
            };
            let mut out = [0xaa; 1_024];
            let len = packet.write_into(&mut out).unwrap();
            prop_assert_eq!(RtpPacket::parse(&out[..len]), Ok(packet));
            prop_assert_eq!(
                packet.write_into(&mut out[..len - 1]),
                Err(RtpError::NoRoom { need: len, room: len - 1 })
            );
        }

        #[test]
        fn no_bytes_panic_the_packet_parser(bytes: Vec<u8>) {
            if let Ok(packet) = RtpPacket::parse(&bytes) {
                let mut out = vec![0; bytes.len()];
                prop_assert_eq!(packet.write_into(&mut out), Ok(bytes.len()));
            }
        }

        #[test]
        fn no_bytes_that_start_like_a_packet_panic_the_parser(
            first in 0x80u8..0xc0, rest in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut bytes = vec![first];
            bytes.extend(rest);
            let _ = RtpPacket::parse(&bytes);
        }
    }
}
