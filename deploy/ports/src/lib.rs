//! Ports for tests and demonstrations that must be known before they are taken: a peer's configuration names them.
//!
//! Asking the system for any free port and giving it back at once is a race: the next socket of any process may be
//! given the same one. The ports from here lie below those that Linux gives out by itself (`ip_local_port_range`,
//! 32,768 and up), and each is kept from all other processes that ask here until this one ends, by a name in the
//! abstract namespace of Unix sockets (unix(7)), which the system forgets with the process.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::{Range, RangeInclusive};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

/// Where single ports are taken from.
const SINGLE: Range<u16> = 10_000..20_000;
/// Where runs of ports for sound are taken from.
const SOUND: Range<u16> = 20_000..32_000;
/// Ports in a run: twenty calls with RTP and RTCP each.
const RUN: u16 = 40;

/// Returns an even port that is free for UDP and TCP on all IPv4 addresses, and so are the nine after it: peers take
/// some of them without being asked (baresip for TLS, SIPp for video).
///
/// # Panics
/// When all are taken.
#[must_use]
pub fn free_port() -> u16 {
    reserve(SINGLE, 10)
}

/// Returns 40 ports in a row for sound, the first of them even. Strangers may have single ones of them.
///
/// # Panics
/// When all are taken.
#[must_use]
pub fn sound_ports() -> RangeInclusive<u16> {
    let first = reserve(SOUND, RUN);
    first..=first + RUN - 1
}

fn reserve(range: Range<u16>, step: u16) -> u16 {
    let places = u32::from((range.end - range.start) / step);
    // Not the first place for all: who asks would wait at the names of those who asked before.
    let first = std::process::id().wrapping_mul(0x9E37_79B1) % places;
    (0..places)
        .map(|n| range.start + step * ((first + n) % places) as u16)
        .find(|port| keep(*port) && (*port..*port + step.min(10)).all(is_free))
        .unwrap_or_else(|| panic!("all ports of {range:?} are taken"))
}

/// Keeps a port from other processes, until this one ends.
fn keep(port: u16) -> bool {
    let name = SocketAddr::from_abstract_name(format!("trunkline-port-{port}"));
    name.and_then(|name| UnixListener::bind_addr(&name)).map(std::mem::forget).is_ok()
}

fn is_free(port: u16) -> bool {
    let at = (Ipv4Addr::UNSPECIFIED, port);
    TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn nobody_is_given_a_port_twice_and_each_can_be_taken() {
        let given: Vec<u16> = (0..50).map(|_| free_port()).collect();
        assert_eq!(given.iter().collect::<HashSet<_>>().len(), 50);
        for port in given {
            assert!(port % 2 == 0 && SINGLE.contains(&port), "{port}");
            let _tcp = TcpListener::bind(("127.0.0.1", port)).unwrap();
            let _udp = UdpSocket::bind(("127.0.0.1", port)).unwrap();
            assert!((1..10).all(|n| is_free(port + n)));
        }
    }

    #[test]
    fn what_a_stranger_has_is_not_given() {
        let mine = free_port();
        let _has = UdpSocket::bind(("127.0.0.1", mine)).unwrap();
        assert!(!is_free(mine) && !keep(mine));
    }

    #[test]
    fn runs_for_sound_do_not_overlap() {
        let (one, other) = (sound_ports(), sound_ports());
        assert!(one.clone().all(|port| !other.contains(&port)));
        assert_eq!((one.len(), one.start() % 2), (40, 0));
    }
}
