//! RTCP packets as bytes (RFC 3550 §6.4 to §6.6).

use super::NtpTime;
use crate::packet::{need, u16_at, u32_at};
use crate::{RtpError, RtpTicks, Ssrc};

/// What a sender says about its own stream (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderInfo {
    /// When the report was made, by the wall clock.
    pub ntp: NtpTime,
    /// The same instant on the media clock.
    pub ticks: RtpTicks,
    /// Packets sent so far.
    pub packets: u32,
    /// Octets of payload sent so far.
    pub octets: u32,
}

/// What a receiver says about one stream (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportBlock {
    /// The stream.
    pub ssrc: Ssrc,
    /// Packets lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Packets lost since the beginning, in 24 bits; duplicates can make it negative.
    pub lost: i32,
    /// Highest number received, with the count of wraps above it.
    pub highest_seq: u32,
    /// Mean deviation of the arrival times, in media clock ticks.
    pub jitter: u32,
    /// [`NtpTime::middle`] of the last sender report, 0 when there was none.
    pub last_sr: u32,
    /// Time since that report, in 2⁻¹⁶ seconds.
    pub delay_since_sr: u32,
}

/// The report blocks of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportBlocks<'a>(&'a [u8]);

impl<'a> ReportBlocks<'a> {
    /// Returns the blocks in their order.
    pub fn iter(self) -> impl Iterator<Item = ReportBlock> + 'a {
        self.0.chunks_exact(BLOCK).map(|b| ReportBlock {
            ssrc: Ssrc(u32_at(b, 0)),
            fraction_lost: b[4],
            lost: i32::from_be_bytes([b[5], b[6], b[7], 0]) >> 8,
            highest_seq: u32_at(b, 8),
            jitter: u32_at(b, 12),
            last_sr: u32_at(b, 16),
            delay_since_sr: u32_at(b, 20),
        })
    }
}

/// One packet out of a compound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtcpPacket<'a> {
    /// SR: about the sender's own stream, and what it receives.
    SenderReport {
        /// Who reports.
        ssrc: Ssrc,
        /// About its own stream.
        info: SenderInfo,
        /// About what it receives.
        blocks: ReportBlocks<'a>,
    },
    /// RR: from one that sends nothing.
    ReceiverReport {
        /// Who reports.
        ssrc: Ssrc,
        /// About what it receives.
        blocks: ReportBlocks<'a>,
    },
    /// SDES: the lasting name of the first source described, when it is given.
    SourceDescription {
        /// Which stream.
        ssrc: Ssrc,
        /// Its canonical name.
        cname: Option<&'a [u8]>,
    },
    /// BYE: the stream is over.
    Bye {
        /// Which stream.
        ssrc: Ssrc,
        /// Why, when it is said.
        reason: Option<&'a [u8]>,
    },
    /// Anything else, skipped.
    Other {
        /// The packet type.
        packet_type: u8,
    },
}

/// The packets of a compound; ends after the first that cannot be read.
#[derive(Clone, Debug)]
pub struct Compound<'a> {
    rest: &'a [u8],
}

/// Reads a datagram of one or more RTCP packets.
#[must_use]
pub fn parse_compound(datagram: &[u8]) -> Compound<'_> {
    Compound { rest: datagram }
}

impl<'a> Iterator for Compound<'a> {
    type Item = Result<RtcpPacket<'a>, RtpError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let (packet, rest) = match split(self.rest) {
            Ok(split) => split,
            Err(error) => {
                self.rest = &[];
                return Some(Err(error));
            }
        };
        self.rest = rest;
        let read = read(packet);
        if read.is_err() {
            self.rest = &[];
        }
        Some(read)
    }
}

/// Splits off the first packet, whole, by the length in its header.
fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), RtpError> {
    need(bytes, 4)?;
    if bytes[0] >> 6 != 2 {
        return Err(RtpError::Version(bytes[0] >> 6));
    }
    let len = 4 * (usize::from(u16_at(bytes, 2)) + 1);
    need(bytes, len)?;
    Ok(bytes.split_at(len))
}

fn read(packet: &[u8]) -> Result<RtcpPacket<'_>, RtpError> {
    let count = usize::from(packet[0] & 0x1f);
    let padding = if packet[0] & 0x20 != 0 { packet[packet.len() - 1] } else { 0 };
    if usize::from(padding) > packet.len() - 4 {
        return Err(RtpError::Padding(padding));
    }
    let bytes = &packet[..packet.len() - usize::from(padding)];
    let blocks = |at: usize| {
        need(bytes, at + count * BLOCK)?;
        Ok(ReportBlocks(&bytes[at..at + count * BLOCK]))
    };
    match packet[1] {
        SENDER_REPORT => {
            need(bytes, 28)?;
            let info = SenderInfo {
                ntp: NtpTime(u64::from(u32_at(bytes, 8)) << 32 | u64::from(u32_at(bytes, 12))),
                ticks: RtpTicks(u32_at(bytes, 16)),
                packets: u32_at(bytes, 20),
                octets: u32_at(bytes, 24),
            };
            Ok(RtcpPacket::SenderReport { ssrc: Ssrc(u32_at(bytes, 4)), info, blocks: blocks(28)? })
        }
        RECEIVER_REPORT => {
            need(bytes, 8)?;
            Ok(RtcpPacket::ReceiverReport { ssrc: Ssrc(u32_at(bytes, 4)), blocks: blocks(8)? })
        }
        SOURCE_DESCRIPTION if count > 0 => {
            need(bytes, 8)?;
            Ok(RtcpPacket::SourceDescription { ssrc: Ssrc(u32_at(bytes, 4)), cname: cname(&bytes[8..]) })
        }
        BYE if count > 0 => {
            need(bytes, 4 + 4 * count)?;
            let text = &bytes[4 + 4 * count..];
            let reason = text.split_first().and_then(|(&len, text)| text.get(..usize::from(len)));
            Ok(RtcpPacket::Bye { ssrc: Ssrc(u32_at(bytes, 4)), reason })
        }
        packet_type => Ok(RtcpPacket::Other { packet_type }),
    }
}

/// Finds the canonical name among the items of the first chunk (RFC 3550 §6.5).
fn cname(mut items: &[u8]) -> Option<&[u8]> {
    while let [kind, len, rest @ ..] = items {
        if *kind == 0 {
            return None;
        }
        let text = rest.get(..usize::from(*len))?;
        if *kind == CNAME {
            return Some(text);
        }
        items = &rest[text.len()..];
    }
    None
}

/// Writes a compound packet into a buffer, part by part.
///
/// A compound begins with a report, even an empty one, and has a description (RFC 3550 §6.1).
#[derive(Debug)]
pub struct RtcpWriter<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> RtcpWriter<'a> {
    /// Begins at the start of `out`.
    pub fn new(out: &'a mut [u8]) -> Self {
        Self { out, len: 0 }
    }

    /// Adds a sender report.
    ///
    /// # Errors
    /// [`RtpError::NoRoom`], or [`RtpError::Field`] with more than 31 blocks; what was written before
    /// stands. The same holds for the other parts.
    pub fn sender_report(
        &mut self,
        ssrc: Ssrc,
        info: &SenderInfo,
        blocks: &[ReportBlock],
    ) -> Result<(), RtpError> {
        let body = self.part(SENDER_REPORT, blocks.len(), 24 + blocks.len() * BLOCK)?;
        body[..4].copy_from_slice(&ssrc.0.to_be_bytes());
        body[4..12].copy_from_slice(&info.ntp.0.to_be_bytes());
        body[12..16].copy_from_slice(&info.ticks.0.to_be_bytes());
        body[16..20].copy_from_slice(&info.packets.to_be_bytes());
        body[20..24].copy_from_slice(&info.octets.to_be_bytes());
        write_blocks(&mut body[24..], blocks);
        Ok(())
    }

    /// Adds a receiver report.
    ///
    /// # Errors
    /// As [`sender_report`](Self::sender_report).
    pub fn receiver_report(&mut self, ssrc: Ssrc, blocks: &[ReportBlock]) -> Result<(), RtpError> {
        let body = self.part(RECEIVER_REPORT, blocks.len(), 4 + blocks.len() * BLOCK)?;
        body[..4].copy_from_slice(&ssrc.0.to_be_bytes());
        write_blocks(&mut body[4..], blocks);
        Ok(())
    }

    /// Adds the canonical name of a source, at most 255 bytes.
    ///
    /// # Errors
    /// As [`sender_report`](Self::sender_report).
    pub fn source_description(&mut self, ssrc: Ssrc, cname: &str) -> Result<(), RtpError> {
        let len = u8::try_from(cname.len()).map_err(|_| RtpError::Field { field: "CNAME" })?;
        // The list of items ends with at least one zero, and the chunk with a whole word.
        let items = (2 + cname.len() + 1).next_multiple_of(4);
        let body = self.part(SOURCE_DESCRIPTION, 1, 4 + items)?;
        body.fill(0);
        body[..4].copy_from_slice(&ssrc.0.to_be_bytes());
        body[4] = CNAME;
        body[5] = len;
        body[6..6 + cname.len()].copy_from_slice(cname.as_bytes());
        Ok(())
    }

    /// Adds the end of a stream; an empty `reason` is left out.
    ///
    /// # Errors
    /// As [`sender_report`](Self::sender_report).
    pub fn bye(&mut self, ssrc: Ssrc, reason: &str) -> Result<(), RtpError> {
        let len = u8::try_from(reason.len()).map_err(|_| RtpError::Field { field: "reason" })?;
        let text = if len == 0 { 0 } else { (1 + reason.len()).next_multiple_of(4) };
        let body = self.part(BYE, 1, 4 + text)?;
        body.fill(0);
        body[..4].copy_from_slice(&ssrc.0.to_be_bytes());
        if len > 0 {
            body[4] = len;
            body[5..5 + reason.len()].copy_from_slice(reason.as_bytes());
        }
        Ok(())
    }

    /// Returns the length of the whole.
    #[must_use]
    pub fn finish(self) -> usize {
        self.len
    }

    /// Writes the header of a part and returns the room for its body.
    fn part(&mut self, packet_type: u8, count: usize, body: usize) -> Result<&mut [u8], RtpError> {
        let count = u8::try_from(count)
            .ok()
            .filter(|&count| count < 32)
            .ok_or(RtpError::Field { field: "number of reports" })?;
        let end = self.len + 4 + body;
        if self.out.len() < end {
            return Err(RtpError::NoRoom { need: end, room: self.out.len() });
        }
        let part = &mut self.out[self.len..end];
        self.len = end;
        part[0] = 0x80 | count;
        part[1] = packet_type;
        part[2..4].copy_from_slice(&((body / 4) as u16).to_be_bytes());
        Ok(&mut part[4..])
    }
}

fn write_blocks(out: &mut [u8], blocks: &[ReportBlock]) {
    for (out, block) in out.chunks_exact_mut(BLOCK).zip(blocks) {
        out[..4].copy_from_slice(&block.ssrc.0.to_be_bytes());
        out[4] = block.fraction_lost;
        let lost = block.lost.clamp(-0x80_0000, 0x7f_ffff).to_be_bytes();
        out[5..8].copy_from_slice(&lost[1..]);
        out[8..12].copy_from_slice(&block.highest_seq.to_be_bytes());
        out[12..16].copy_from_slice(&block.jitter.to_be_bytes());
        out[16..20].copy_from_slice(&block.last_sr.to_be_bytes());
        out[20..24].copy_from_slice(&block.delay_since_sr.to_be_bytes());
    }
}

const BLOCK: usize = 24;
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const BYE: u8 = 203;
const CNAME: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block() -> impl Strategy<Value = ReportBlock> {
        (any::<u32>(), any::<u8>(), -0x80_0000..0x80_0000i32, any::<[u32; 4]>()).prop_map(
            |(ssrc, fraction_lost, lost, [highest_seq, jitter, last_sr, delay_since_sr])| ReportBlock {
                ssrc: Ssrc(ssrc),
                fraction_lost,
                lost,
                highest_seq,
                jitter,
                last_sr,
                delay_since_sr,
            },
        )
    }

    #[test]
    fn a_report_from_another_implementation_is_read() {
        // Laid out by hand from RFC 3550 §6.4.1: SR with one block, SDES, BYE with a reason.
        let bytes = [
            0x81, 200, 0, 12, 0, 0, 0, 1, 0xe8, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 3, 0xe8, 0, 0, 0, 50, 0, 0,
            0x1f, 0x40, 0, 0, 0, 2, 64, 0xff, 0xff, 0xfe, 0, 1, 0, 9, 0, 0, 0, 16, 0x11, 0x22, 0x33, 0x44, 0,
            0, 0x80, 0, // SDES
            0x81, 202, 0, 3, 0, 0, 0, 1, 1, 4, b'a', b'@', b'b', b'c', 0, 0, // BYE
            0x81, 203, 0, 2, 0, 0, 0, 1, 3, b'e', b'n', b'd',
        ];
        let packets: Vec<_> = parse_compound(&bytes).map(Result::unwrap).collect();
        let RtcpPacket::SenderReport { ssrc: Ssrc(1), info, blocks } = packets[0] else { panic!() };
        assert_eq!((info.ticks.0, info.packets, info.octets), (1_000, 50, 8_000));
        let block = blocks.iter().next().unwrap();
        assert_eq!((block.lost, block.fraction_lost, block.highest_seq), (-2, 64, 0x0001_0009));
        assert_eq!(packets[1], RtcpPacket::SourceDescription { ssrc: Ssrc(1), cname: Some(b"a@bc") });
        assert_eq!(packets[2], RtcpPacket::Bye { ssrc: Ssrc(1), reason: Some(b"end") });
    }

    proptest! {
        #[test]
        fn a_compound_reads_back_as_written(
            ssrc: u32, ntp: u64, numbers: [u32; 3],
            blocks in proptest::collection::vec(block(), 0..5),
            cname in "[a-z0-9@.]{0,40}", reason in "[a-z ]{0,20}",
        ) {
            let ssrc = Ssrc(ssrc);
            let info = SenderInfo {
                ntp: NtpTime(ntp), ticks: RtpTicks(numbers[0]), packets: numbers[1], octets: numbers[2],
            };
            let mut out = [0xaa; 1_500];
            let mut writer = RtcpWriter::new(&mut out);
            writer.sender_report(ssrc, &info, &blocks).unwrap();
            writer.receiver_report(ssrc, &blocks).unwrap();
            writer.source_description(ssrc, &cname).unwrap();
            writer.bye(ssrc, &reason).unwrap();
            let len = writer.finish();
            let packets: Vec<_> = parse_compound(&out[..len]).map(Result::unwrap).collect();
            prop_assert_eq!(packets.len(), 4);
            let RtcpPacket::SenderReport { ssrc: s, info: i, blocks: b } = packets[0] else { panic!() };
            prop_assert_eq!((s, i, b.iter().collect::<Vec<_>>()), (ssrc, info, blocks.clone()));
            let RtcpPacket::ReceiverReport { ssrc: s, blocks: b } = packets[1] else { panic!() };
            prop_assert_eq!((s, b.iter().collect::<Vec<_>>()), (ssrc, blocks));
            prop_assert_eq!(packets[2], RtcpPacket::SourceDescription { ssrc, cname: Some(cname.as_bytes()) });
            let reason = (!reason.is_empty()).then_some(reason.as_bytes());
            prop_assert_eq!(packets[3], RtcpPacket::Bye { ssrc, reason });
            for short in 0..len {
                let _ = parse_compound(&out[..short]).count();
            }
        }

        #[test]
        fn no_bytes_panic_the_rtcp_parser(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..120), kind in 199u8..206,
        ) {
            let _ = parse_compound(&bytes).count();
            if bytes.len() >= 4 {
                bytes[0] = 0x80 | bytes[0] & 0x3f;
                bytes[1] = kind;
                bytes[2] = 0;
                bytes[3] %= 30;
                for packet in parse_compound(&bytes).flatten() {
                    if let RtcpPacket::SenderReport { blocks, .. } = packet {
                        let _ = blocks.iter().count();
                    }
                }
            }
        }
    }
}
