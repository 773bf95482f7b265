//! Where a message goes, and over what (RFC 3261 §18, §26.2).

use std::fmt;
use std::net::SocketAddr;

use super::uri::{Scheme, Uri};

/// What carries a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// One message a datagram.
    #[default]
    Udp,
    /// Messages one after the other on a connection.
    Tcp,
    /// As TCP, encrypted.
    Tls,
}

impl Transport {
    /// Returns the name in Via.
    pub fn via_name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        }
    }

    /// Returns the value of the `transport` parameter of an address.
    pub fn param(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }

    /// Reads either; `None` for a transport that is not spoken here.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Udp, Self::Tcp, Self::Tls].into_iter().find(|t| t.param().eq_ignore_ascii_case(text.trim()))
    }

    /// Tells whether it delivers by itself, so that transactions need not resend.
    pub fn is_reliable(self) -> bool {
        self != Self::Udp
    }
}

/// A place to send to or hear from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hop {
    /// Over what.
    pub transport: Transport,
    /// Where.
    pub addr: SocketAddr,
}

impl Hop {
    /// Names a place over a transport.
    pub fn new(transport: Transport, addr: SocketAddr) -> Self {
        Self { transport, addr }
    }

    /// Names a place over UDP.
    pub fn udp(addr: SocketAddr) -> Self {
        Self::new(Transport::Udp, addr)
    }

    /// Returns where a request for `uri` goes, if its host is a literal address.
    ///
    /// `sips:` and a `transport` parameter say over what; without either it is what `otherwise` uses, if that is
    /// the same machine or encrypted (a call is never carried on in the clear), else UDP.
    pub fn of_uri(uri: &Uri, otherwise: Option<Self>) -> Option<Self> {
        let mut addr = uri.socket_addr()?;
        let named = uri.params.get("transport").and_then(|text| Transport::parse(&text));
        let transport = match (&uri.scheme, named) {
            (Scheme::Sips, _) => Transport::Tls,
            (_, Some(named)) => named,
            (_, None) => match otherwise {
                Some(other) if other.addr.ip() == addr.ip() || other.transport == Transport::Tls => {
                    other.transport
                }
                Some(_) | None => Transport::Udp,
            },
        };
        if uri.port.is_none() && transport == Transport::Tls {
            addr.set_port(5061);
        }
        Some(Self { transport, addr })
    }
}

impl From<SocketAddr> for Hop {
    fn from(addr: SocketAddr) -> Self {
        Self::udp(addr)
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.transport.via_name(), self.addr)
    }
}

impl fmt::Debug for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(uri: &str, otherwise: &str) -> String {
        let otherwise = otherwise
            .split_once('/')
            .map(|(transport, addr)| Hop::new(Transport::parse(transport).unwrap(), addr.parse().unwrap()));
        Hop::of_uri(&Uri::parse(uri).unwrap(), otherwise).map_or("none".to_owned(), |hop| hop.to_string())
    }

    #[test]
    fn the_address_says_over_what_it_is_reached() {
        assert_eq!(hop("sip:a@192.0.2.1", ""), "UDP/192.0.2.1:5060");
        assert_eq!(hop("sip:a@192.0.2.1;transport=TCP", ""), "TCP/192.0.2.1:5060");
        assert_eq!(hop("sip:a@192.0.2.1;transport=tls", ""), "TLS/192.0.2.1:5061");
        assert_eq!(hop("sips:a@192.0.2.1", ""), "TLS/192.0.2.1:5061");
        assert_eq!(hop("sip:a@pbx.example.com", ""), "none");
    }

    #[test]
    fn an_address_that_says_nothing_follows_the_connection_and_never_leaves_encryption() {
        assert_eq!(hop("sip:a@192.0.2.1:5080", "tcp/192.0.2.1:5060"), "TCP/192.0.2.1:5080");
        assert_eq!(hop("sip:a@192.0.2.9:5080", "tcp/192.0.2.1:5060"), "UDP/192.0.2.9:5080");
        assert_eq!(hop("sip:a@192.0.2.9:5081", "tls/192.0.2.1:5061"), "TLS/192.0.2.9:5081");
    }
}
