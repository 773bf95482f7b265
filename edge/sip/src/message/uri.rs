//! `sip:`, `sips:` and `tel:` addresses (RFC 3261 §19.1, RFC 3966), and the `;name=value` lists behind them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::text::{find_outside_quotes, is_token, quote, split_outside_quotes, unquote};

/// A list of `;name=value` parameters in the order they came in; names compare without case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, Option<String>)>);

impl Params {
    /// Returns the value of `name` without quotes; a parameter without a value reads as empty.
    pub fn get(&self, name: &str) -> Option<String> {
        self.0
            .iter()
            .find(|(have, _)| have.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_deref().map(unquote).unwrap_or_default())
    }

    /// Tells whether `name` is there, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(have, _)| have.eq_ignore_ascii_case(name))
    }

    /// Sets `name`, in its old place if it was there; a value that is no token is quoted.
    pub fn set(&mut self, name: &str, value: Option<&str>) {
        let value = value.map(|v| if is_param_value(v) { v.to_owned() } else { quote(v) });
        match self.0.iter_mut().find(|(have, _)| have.eq_ignore_ascii_case(name)) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Removes `name`.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(have, _)| !have.eq_ignore_ascii_case(name));
    }

    /// Tells whether there is no parameter.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads `a=b;c`, with or without a leading semicolon.
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = split_outside_quotes(text, ';').map(|part| match find_outside_quotes(part, '=') {
            Some(at) => (part[..at].trim().to_owned(), Some(part[at + 1..].trim().to_owned())),
            None => (part.to_owned(), None),
        });
        Self(pairs.filter(|(name, _)| !name.is_empty()).collect())
    }

    pub(crate) fn write_to(&self, out: &mut String) {
        for (name, value) in &self.0 {
            out.push(';');
            out.push_str(name);
            if let Some(value) = value {
                out.push('=');
                out.push_str(value);
            }
        }
    }
}

fn is_param_value(text: &str) -> bool {
    is_token(text)
        || (!text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".:[]-_".contains(&b)))
}

/// The kind of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `sip:`
    Sip,
    /// `sips:`, over TLS on every hop.
    Sips,
    /// `tel:`, a telephone number without a host.
    Tel,
    /// Something else, kept as it came.
    Other(String),
}

/// Why text is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// There is no `scheme:` in front.
    #[error("the address has no scheme")]
    NoScheme,
    /// The host is missing or has characters that no host has.
    #[error("the address has no usable host")]
    BadHost,
    /// The port is not a number from 1 to 65535.
    #[error("the port of the address is not a port")]
    BadPort,
    /// There is white space or a control character inside.
    #[error("the address has white space or control characters in it")]
    BadCharacter,
}

/// An address such as `sip:1001@192.0.2.1:5060;transport=udp`.
///
/// The user part is often a customer's number, so `Debug` shows its last two characters only; the text
/// for the wire is [`Uri::to_wire`].
#[derive(Clone, PartialEq, Eq)]
pub struct Uri {
    /// `sip`, `sips`, `tel` or another.
    pub scheme: Scheme,
    /// What stands before `@`, escaped as on the wire; the number of a `tel:` address; all of another scheme's.
    pub user: Option<String>,
    /// Host name or address, IPv6 in brackets; empty for `tel:` and other schemes.
    pub host: String,
    /// The port, if given.
    pub port: Option<u16>,
    /// What stands behind semicolons.
    pub params: Params,
    /// What stands behind `?`, unread.
    pub headers: Option<String>,
}

impl Uri {
    /// Makes `sip:user@host`; `host` may carry a port. The user is escaped as needed.
    ///
    /// # Errors
    /// When `host` is no host.
    pub fn sip(user: &str, host: &str) -> Result<Self, UriError> {
        let (host, port) = parse_host_port(host)?;
        let user = if user.is_empty() { None } else { Some(escape_user(user)) };
        Ok(Self { scheme: Scheme::Sip, user, host, port, params: Params::default(), headers: None })
    }

    /// Makes `sip:user@address:port`.
    pub fn at(user: &str, addr: SocketAddr) -> Self {
        let host = match addr.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let user = if user.is_empty() { None } else { Some(escape_user(user)) };
        let port = Some(addr.port());
        Self { scheme: Scheme::Sip, user, host, port, params: Params::default(), headers: None }
    }

    /// Reads an address without angle brackets.
    ///
    /// # Errors
    /// When there is no scheme, or the host or port of a SIP address cannot be read.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let text = text.trim();
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(UriError::BadCharacter);
        }
        let (scheme, rest) = text.split_once(':').ok_or(UriError::NoScheme)?;
        if !is_token(scheme) {
            return Err(UriError::NoScheme);
        }
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "sip" => Scheme::Sip,
            "sips" => Scheme::Sips,
            "tel" => Scheme::Tel,
            other => Scheme::Other(other.to_owned()),
        };
        match scheme {
            Scheme::Sip | Scheme::Sips => Self::parse_sip(scheme, rest),
            Scheme::Tel => {
                let (number, params) = rest.split_once(';').unwrap_or((rest, ""));
                let params = Params::parse(params);
                Ok(Self {
                    scheme,
                    user: Some(number.to_owned()),
                    host: String::new(),
                    port: None,
                    params,
                    headers: None,
                })
            }
            Scheme::Other(_) => Ok(Self {
                scheme,
                user: Some(rest.to_owned()),
                host: String::new(),
                port: None,
                params: Params::default(),
                headers: None,
            }),
        }
    }

    fn parse_sip(scheme: Scheme, rest: &str) -> Result<Self, UriError> {
        // The user part may hold `;` and `?`, so it is cut off first.
        let (user, rest) = match rest.split_once('@') {
            Some((user, rest)) => (Some(user.to_owned()), rest),
            None => (None, rest),
        };
        let (rest, headers) = match rest.split_once('?') {
            Some((rest, headers)) => (rest, Some(headers.to_owned())),
            None => (rest, None),
        };
        let (host_port, params) = rest.split_once(';').unwrap_or((rest, ""));
        let (host, port) = parse_host_port(host_port)?;
        Ok(Self { scheme, user, host, port, params: Params::parse(params), headers })
    }

    /// Returns the text for the wire.
    pub fn to_wire(&self) -> String {
        let mut out = String::new();
        self.write_to(&mut out);
        out
    }

    pub(crate) fn write_to(&self, out: &mut String) {
        match &self.scheme {
            Scheme::Sip => out.push_str("sip:"),
            Scheme::Sips => out.push_str("sips:"),
            Scheme::Tel => out.push_str("tel:"),
            Scheme::Other(name) => {
                out.push_str(name);
                out.push(':');
            }
        }
        if let Some(user) = &self.user {
            out.push_str(user);
            if !self.host.is_empty() {
                out.push('@');
            }
        }
        out.push_str(&self.host);
        if let Some(port) = self.port {
            out.push(':');
            out.push_str(&port.to_string());
        }
        self.params.write_to(out);
        if let Some(headers) = &self.headers {
            out.push('?');
            out.push_str(headers);
        }
    }

    /// Returns the user part with `%xx` undone and without password or parameters; empty if there is none.
    pub fn user_text(&self) -> String {
        let user = self.user.as_deref().unwrap_or_default();
        let user = user.split([';', ':']).next().unwrap_or_default();
        unescape(user)
    }

    /// Returns the socket address if the host is a literal one; 5060 (5061 for `sips:`) when no port stands there.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        let ip = parse_ip(&self.host)?;
        let port = self.port.unwrap_or(if self.scheme == Scheme::Sips { 5061 } else { 5060 });
        Some(SocketAddr::new(ip, port))
    }

    /// Tells whether it is `sip:` or `sips:`.
    pub fn is_sip(&self) -> bool {
        matches!(self.scheme, Scheme::Sip | Scheme::Sips)
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match &self.scheme {
            Scheme::Sip => "sip",
            Scheme::Sips => "sips",
            Scheme::Tel => "tel",
            Scheme::Other(name) => name,
        };
        write!(f, "{scheme}:{}", redacted(self.user.as_deref().unwrap_or_default()))?;
        if !self.host.is_empty() {
            write!(f, "@{}", self.host)?;
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        Ok(())
    }
}

/// Shows at most the last two characters of what may be a number or a name.
pub(crate) fn redacted(text: &str) -> String {
    let count = text.chars().count();
    match count {
        0 => String::new(),
        1..=5 => "…".to_owned(),
        _ => format!("…{}", text.chars().skip(count - 2).collect::<String>()),
    }
}

/// Reads `host`, `host:port`, `[v6]:port`; white space around the colon is forgiven (RFC 4475 §3.1.1.1).
pub(crate) fn parse_host_port(text: &str) -> Result<(String, Option<u16>), UriError> {
    let text = text.trim();
    let (host, port) = if text.starts_with('[') {
        let end = text.find(']').ok_or(UriError::BadHost)?;
        let (host, rest) = text.split_at(end + 1);
        let rest = rest.trim();
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(UriError::BadHost),
        }
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let host = host.trim();
    let good = if host.starts_with('[') {
        parse_ip(host).is_some()
    } else {
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    };
    if !good {
        return Err(UriError::BadHost);
    }
    let port = match port.map(str::trim) {
        None | Some("") => None,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(digits.parse::<u16>().ok().filter(|p| *p != 0).ok_or(UriError::BadPort)?)
        }
        Some(_) => return Err(UriError::BadPort),
    };
    Ok((host.to_owned(), port))
}

/// Reads an IPv4 address, or an IPv6 one with or without brackets.
pub(crate) fn parse_ip(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok()
}

fn escape_user(user: &str) -> String {
    let mut out = String::with_capacity(user.len());
    for byte in user.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Escapes everything that could mean something in the header part of an address (RFC 3261 §19.1.1).
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Undoes `%xx`.
pub(crate) fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|h| std::str::from_utf8(h).ok());
        match (bytes[at], hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(value)) => {
                out.push(value);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_with_everything_is_taken_apart() {
        let uri = Uri::parse(
            "sip:+8613800138000;phone-context=x:pw@[2001:db8::1]:5080;transport=udp;lr?subject=a@b",
        )
        .unwrap();

        assert_eq!(uri.user_text(), "+8613800138000");
        assert_eq!(uri.host, "[2001:db8::1]");
        assert_eq!(uri.port, Some(5080));
        assert_eq!(uri.params.get("TRANSPORT").as_deref(), Some("udp"));
        assert!(uri.params.has("lr"));
        assert_eq!(uri.headers.as_deref(), Some("subject=a@b"));
        assert_eq!(uri.socket_addr(), Some("[2001:db8::1]:5080".parse().unwrap()));
    }

    #[test]
    fn a_number_does_not_show_in_debug_output() {
        let uri = Uri::parse("sip:+8613800138000@192.0.2.1").unwrap();
        assert_eq!(format!("{uri:?}"), "sip:…00@192.0.2.1");
        assert_eq!(format!("{:?}", Uri::parse("tel:+4930123456;a=b").unwrap()), "tel:…56");
    }

    #[test]
    fn a_user_with_odd_characters_is_escaped_and_read_back() {
        let uri = Uri::sip("a b@c/#1", "example.invalid").unwrap();
        assert_eq!(uri.to_wire(), "sip:a%20b%40c%2F%231@example.invalid");
        assert_eq!(uri.user_text(), "a b@c/#1");
    }

    #[test]
    fn addresses_without_scheme_host_or_port_number_are_refused() {
        assert_eq!(Uri::parse("1001"), Err(UriError::NoScheme));
        assert_eq!(Uri::parse("sip:"), Err(UriError::BadHost));
        assert_eq!(Uri::parse("sip:a@"), Err(UriError::BadHost));
        assert_eq!(Uri::parse("sip:a@h:0"), Err(UriError::BadPort));
        assert_eq!(Uri::parse("sip:a@h:99999"), Err(UriError::BadPort));
        assert_eq!(Uri::parse("sip:a@[::1"), Err(UriError::BadHost));
        assert_eq!(Uri::parse("sip:a b@h"), Err(UriError::BadCharacter));
    }

    prop_compose! {
        fn sip_uri()(
            user in proptest::option::of("[a-z0-9+%.]{1,12}"),
            host in prop_oneof!["[a-z][a-z0-9.-]{0,12}", Just("192.0.2.7".to_owned()), Just("[2001:db8::7]".to_owned())],
            port in proptest::option::of(1u16..),
            params in proptest::collection::vec(("[a-z]{1,6}", proptest::option::of("[a-z0-9.]{1,6}")), 0..4),
            headers in proptest::option::of("[a-z]{1,4}=[a-z]{1,4}"),
        ) -> Uri {
            Uri { scheme: Scheme::Sip, user, host, port, params: Params(params), headers }
        }
    }

    proptest! {
        #[test]
        fn an_address_reads_back_as_written(uri in sip_uri()) {
            prop_assert_eq!(Uri::parse(&uri.to_wire()), Ok(uri));
        }

        #[test]
        fn no_text_panics_the_address_reader(text in ".*") {
            let _ = Uri::parse(&text);
            let _ = Uri::parse(&format!("sip:{text}")).map(|uri| (uri.socket_addr(), uri.user_text()));
        }
    }
}
