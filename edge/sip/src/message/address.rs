//! The structured headers that every request carries: From, To, Contact and Route values, Via, CSeq.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::Method;
use super::text::{find_outside_quotes, one_line, quote, unquote};
use super::uri::{Params, Uri, UriError, parse_host_port, parse_ip, redacted};

/// An address with a display name and header parameters, as in From, To, Contact and Route.
#[derive(Clone, PartialEq, Eq)]
pub struct NameAddr {
    /// The display name without quotes.
    pub display: Option<String>,
    /// The address.
    pub uri: Uri,
    /// The parameters behind the address, such as `tag`; not those of the address itself.
    pub params: Params,
}

impl NameAddr {
    /// Wraps an address without name or parameters.
    pub fn new(uri: Uri) -> Self {
        Self { display: None, uri, params: Params::default() }
    }

    /// Reads `"Name" <sip:a@b>;tag=x` or `sip:a@b;tag=x`.
    ///
    /// # Errors
    /// When the address cannot be read or a bracket or quote is left open.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let text = text.trim();
        // A `<` inside the quoted display name is not the one.
        let Some(open) = find_outside_quotes(text, '<') else {
            // Without brackets everything behind `;` belongs to the header (RFC 3261 §20).
            let (uri, params) = text.split_once(';').unwrap_or((text, ""));
            return Ok(Self { display: None, uri: Uri::parse(uri)?, params: Params::parse(params) });
        };
        let close = text[open..].find('>').map(|at| at + open).ok_or(UriError::BadCharacter)?;
        let display = text[..open].trim();
        let display = if display.is_empty() { None } else { Some(unquote(display)) };
        let rest = text[close + 1..].trim();
        if !rest.is_empty() && !rest.starts_with(';') {
            return Err(UriError::BadCharacter);
        }
        Ok(Self { display, uri: Uri::parse(&text[open + 1..close])?, params: Params::parse(rest) })
    }

    /// Returns the text for the wire, always with angle brackets.
    pub fn to_wire(&self) -> String {
        let mut out = String::new();
        if let Some(display) = &self.display {
            out.push_str(&quote(display));
            out.push(' ');
        }
        out.push('<');
        self.uri.write_to(&mut out);
        out.push('>');
        self.params.write_to(&mut out);
        one_line(&out)
    }

    /// Returns the `tag` parameter.
    pub fn tag(&self) -> Option<String> {
        self.params.get("tag").filter(|tag| !tag.is_empty())
    }

    /// Returns the same with `tag` set.
    #[must_use]
    pub fn with_tag(mut self, tag: &str) -> Self {
        self.params.set("tag", Some(tag));
        self
    }
}

impl fmt::Debug for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(display) = &self.display {
            write!(f, "{:?} ", redacted(display))?;
        }
        write!(f, "<{:?}>", self.uri)
    }
}

/// One hop of a Via header (RFC 3261 §20.42).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// `UDP`, `TCP`, `TLS`, …
    pub transport: String,
    /// Host of the sender, IPv6 in brackets.
    pub host: String,
    /// Port of the sender, if given.
    pub port: Option<u16>,
    /// `branch`, `received`, `rport`, …
    pub params: Params,
}

impl Via {
    /// Makes our own hop: `rport` asks for answers to where we sent from (RFC 3581).
    pub fn new(transport: &str, sent_by: SocketAddr, branch: &str) -> Self {
        let host = match sent_by.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let mut params = Params::default();
        params.set("rport", None);
        params.set("branch", Some(branch));
        Self { transport: transport.to_owned(), host, port: Some(sent_by.port()), params }
    }

    /// Reads one Via value; white space around slashes and colon is forgiven.
    pub fn parse(text: &str) -> Option<Self> {
        let (head, params) = match find_outside_quotes(text, ';') {
            Some(at) => (&text[..at], &text[at..]),
            None => (text, ""),
        };
        let (name, rest) = head.split_once('/')?;
        let (version, rest) = rest.split_once('/')?;
        if !name.trim().eq_ignore_ascii_case("SIP") || version.trim() != "2.0" {
            return None;
        }
        let rest = rest.trim_start();
        let (transport, sent_by) = rest.split_once([' ', '\t'])?;
        let (host, port) = parse_host_port(sent_by).ok()?;
        Some(Self { transport: transport.to_owned(), host, port, params: Params::parse(params) })
    }

    /// Returns the text for the wire.
    pub fn to_wire(&self) -> String {
        let mut out = format!("SIP/2.0/{} {}", self.transport, self.host);
        if let Some(port) = self.port {
            out.push_str(&format!(":{port}"));
        }
        self.params.write_to(&mut out);
        out
    }

    /// Returns the branch, the name of the transaction.
    pub fn branch(&self) -> Option<String> {
        self.params.get("branch").filter(|branch| !branch.is_empty())
    }

    /// Returns where an answer goes for a request that came from `source` (RFC 3261 §18.2.2, RFC 3581).
    pub fn reply_to(&self, source: SocketAddr) -> SocketAddr {
        if self.params.has("rport") {
            return source;
        }
        SocketAddr::new(source.ip(), self.port.unwrap_or(5060))
    }

    /// Notes where the request really came from: `rport` if asked for, `received` if the host says otherwise.
    pub fn note_source(&mut self, source: SocketAddr) {
        if self.params.has("rport") {
            self.params.set("rport", Some(&source.port().to_string()));
        }
        if parse_ip(&self.host) != Some(source.ip()) {
            self.params.set("received", Some(&source.ip().to_string()));
        }
    }
}

/// The number and method of a request within its dialog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CSeq {
    /// Sequence number, below 2³¹.
    pub number: u32,
    /// The method, the same as the request's.
    pub method: Method,
}

impl CSeq {
    /// Reads `314159 INVITE`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let number = words.next()?;
        let method = words.next()?;
        if words.next().is_some() || !number.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let number = number.parse::<u32>().ok().filter(|n| *n < 1 << 31)?;
        Some(Self { number, method: Method::parse(method)? })
    }

    /// Returns the text for the wire.
    pub fn to_wire(&self) -> String {
        format!("{} {}", self.number, self.method.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_display_name_may_hold_brackets_quotes_and_commas() {
        let text = r#""J. \"Q\" <x>, Ann" <sip:a@b;lr>;tag=7"#;
        let addr = NameAddr::parse(text).unwrap();
        assert_eq!(addr.display.as_deref(), Some(r#"J. "Q" <x>, Ann"#));
        assert!(addr.uri.params.has("lr"));
        assert_eq!(addr.tag().as_deref(), Some("7"));
        assert_eq!(addr.to_wire(), text);
    }

    #[test]
    fn without_brackets_the_parameters_are_the_headers_own() {
        let addr = NameAddr::parse("sip:a@b;tag=7").unwrap();
        assert_eq!(addr.tag().as_deref(), Some("7"));
        assert!(addr.uri.params.is_empty());
    }

    #[test]
    fn a_via_with_spaces_everywhere_is_read() {
        let via = Via::parse("SIP  / 2.0  /UDP  192.0.2.2 : 5070 ;rport ; branch=z9hG4bK390skdjuw").unwrap();
        assert_eq!((via.host.as_str(), via.port), ("192.0.2.2", Some(5070)));
        assert_eq!(via.branch().as_deref(), Some("z9hG4bK390skdjuw"));
    }

    #[test]
    fn an_answer_goes_to_the_source_port_only_if_rport_asks_for_it() {
        let source = "198.51.100.1:40000".parse().unwrap();
        let with = Via::parse("SIP/2.0/UDP 192.0.2.2:5070;rport;branch=x").unwrap();
        let without = Via::parse("SIP/2.0/UDP 192.0.2.2:5070;branch=x").unwrap();
        assert_eq!(with.reply_to(source), source);
        assert_eq!(without.reply_to(source), "198.51.100.1:5070".parse().unwrap());
        let mut noted = with;
        noted.note_source(source);
        assert_eq!(noted.to_wire(), "SIP/2.0/UDP 192.0.2.2:5070;rport=40000;branch=x;received=198.51.100.1");
    }

    #[test]
    fn a_sequence_number_beyond_31_bits_is_refused() {
        assert!(CSeq::parse("2147483647 INVITE").is_some());
        assert!(CSeq::parse("2147483648 INVITE").is_none());
        assert!(CSeq::parse("-1 INVITE").is_none());
        assert!(CSeq::parse("36893488147419103232 REGISTER").is_none());
    }

    proptest! {
        #[test]
        fn a_named_address_reads_back_as_written(
            display in proptest::option::of("[ -~]{1,12}".prop_map(|s| s.trim().to_owned())),
            user in "[a-z0-9]{1,8}",
            tag in proptest::option::of("[a-z0-9]{1,8}"),
        ) {
            let mut addr = NameAddr::new(Uri::sip(&user, "example.invalid").unwrap());
            addr.display = display;
            if let Some(tag) = tag {
                addr = addr.with_tag(&tag);
            }
            prop_assert_eq!(NameAddr::parse(&addr.to_wire()), Ok(addr));
        }

        #[test]
        fn no_text_panics_the_structured_header_readers(text in ".*") {
            let _ = NameAddr::parse(&text).map(|addr| addr.to_wire());
            let _ = Via::parse(&text).map(|via| via.to_wire());
            let _ = Via::parse(&format!("SIP/2.0/UDP {text}")).map(|via| via.to_wire());
            let _ = CSeq::parse(&text);
        }
    }
}
