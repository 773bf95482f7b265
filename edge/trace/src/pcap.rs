//! Messages as packets, in the format that tcpdump and Wireshark read.
//!
//! Every message becomes one UDP packet, also one that went over TCP or TLS: what is shown is what was said, not how
//! it was carried. Times are in microseconds, the link layer is bare IP (`LINKTYPE_RAW`).

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use crate::Way;
use crate::trace::Trace;

const MAGIC: u32 = 0xa1b2_c3d4;
const LINKTYPE_RAW: u32 = 101;
/// What fits into a UDP packet beside its headers.
const MAX_TEXT: usize = 65_000;

/// Writes the messages of all legs in the order of their times. `show` makes of a message what is written, such as
/// [`crate::mask::numbers`].
///
/// # Errors
/// When writing fails.
pub fn write(out: &mut impl Write, legs: &[Trace], show: impl Fn(&str) -> String) -> io::Result<()> {
    out.write_all(&MAGIC.to_le_bytes())?;
    for half in [2u16, 4] {
        out.write_all(&half.to_le_bytes())?;
    }
    for word in [0, 0, 65_535, LINKTYPE_RAW] {
        out.write_all(&word.to_le_bytes())?;
    }
    let mut messages: Vec<_> = legs.iter().flat_map(|leg| &leg.messages).collect();
    messages.sort_by_key(|message| message.at);
    for message in messages {
        let text = show(&message.text);
        let text = &text.as_bytes()[..text.len().min(MAX_TEXT)];
        let (from, to) = match message.way {
            Way::Out => (message.local, message.remote),
            Way::In => (message.remote, message.local),
        };
        let packet = packet(from, to, text);
        let seconds = u32::try_from(message.at.div_euclid(1_000_000)).unwrap_or(0);
        let micros = message.at.rem_euclid(1_000_000) as u32;
        let length = packet.len() as u32;
        for word in [seconds, micros, length, length] {
            out.write_all(&word.to_le_bytes())?;
        }
        out.write_all(&packet)?;
    }
    out.flush()
}

/// Builds an IP packet with a UDP packet in it (RFC 791 §3.1, RFC 8200 §3, RFC 768).
fn packet(from: SocketAddr, to: SocketAddr, text: &[u8]) -> Vec<u8> {
    let udp_len = (8 + text.len()) as u16;
    let mut udp = Vec::with_capacity(usize::from(udp_len));
    for half in [from.port(), to.port(), udp_len, 0] {
        udp.extend(half.to_be_bytes());
    }
    udp.extend(text);
    let addresses = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets(), to.octets()].concat(),
        (from, to) => [v6(from), v6(to)].concat(),
    };
    // The pseudo header: addresses, protocol and length.
    let mut summed = addresses.clone();
    summed.extend([0, 17]);
    summed.extend(udp_len.to_be_bytes());
    summed.extend(&udp);
    // 0 would say that there is no checksum.
    let checksum = match checksum(&summed) {
        0 => 0xffff,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&checksum.to_be_bytes());

    let mut packet = Vec::with_capacity(40 + udp.len());
    if addresses.len() == 8 {
        packet.extend([0x45, 0]);
        packet.extend((20 + udp_len).to_be_bytes());
        packet.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
        packet.extend(&addresses);
        let sum = self::checksum(&packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        packet.extend([0x60, 0, 0, 0]);
        packet.extend(udp_len.to_be_bytes());
        packet.extend([17, 64]);
        packet.extend(&addresses);
    }
    packet.extend(udp);
    packet
}

fn v6(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// The checksum of the Internet (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kept;

    fn leg(local: &str, remote: &str) -> Trace {
        let kept = |at, way, text: &str| Kept {
            at,
            way,
            transport: "UDP".to_owned(),
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            text: text.to_owned(),
        };
        let messages =
            vec![kept(1_500_000_000_000_007, Way::Out, "abc"), kept(1_500_000_000_250_000, Way::In, "four")];
        Trace { messages, ..Trace::default() }
    }

    /// Reads what was written as RFC 791 and RFC 768 say, and checks every sum.
    fn read(bytes: &[u8]) -> Vec<(u32, u32, String, String, Vec<u8>)> {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!((word(0), word(4), word(16), word(20)), (0xa1b2_c3d4, 0x0004_0002, 65_535, 101));
        let (mut at, mut found) = (24, Vec::new());
        while at < bytes.len() {
            let (seconds, micros, length) = (word(at), word(at + 4), word(at + 8) as usize);
            assert_eq!(word(at + 12) as usize, length);
            let ip = &bytes[at + 16..at + 16 + length];
            let (header, addresses) = if ip[0] >> 4 == 4 { (20, 12..20) } else { (40, 8..40) };
            if header == 20 {
                assert_eq!(checksum(&ip[..20]), 0);
                assert_eq!(usize::from(u16::from_be_bytes([ip[2], ip[3]])), length);
            }
            let udp = &ip[header..];
            assert_eq!(usize::from(u16::from_be_bytes([udp[4], udp[5]])), udp.len());
            let pseudo = [&ip[addresses], &[0, 17], &udp[4..6], udp].concat();
            assert_eq!(checksum(&pseudo), 0);
            let port = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]).to_string();
            found.push((seconds, micros, port(0), port(2), udp[8..].to_vec()));
            at += 16 + length;
        }
        found
    }

    #[test]
    fn packets_carry_the_messages_with_right_sums_and_times() {
        for (local, remote) in
            [("192.0.2.1:5060", "198.51.100.7:5070"), ("[2001:db8::1]:5060", "[2001:db8::2]:5070")]
        {
            let mut bytes = Vec::new();
            write(&mut bytes, &[leg(local, remote)], str::to_uppercase).unwrap();
            let text = |text: &str| text.as_bytes().to_vec();
            let (ours, theirs) = ("5060".to_owned(), "5070".to_owned());
            assert_eq!(
                read(&bytes),
                [
                    (1_500_000_000, 7, ours.clone(), theirs.clone(), text("ABC")),
                    (1_500_000_000, 250_000, theirs, ours, text("FOUR")),
                ]
            );
        }
    }
}
