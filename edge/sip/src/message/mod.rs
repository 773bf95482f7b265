//! Requests and responses, read leniently and printed strictly (RFC 3261 §7, §20, §25).
//!
//! A message is a start line, a list of headers in their order, and a body. Compact header forms become the
//! long ones, folded lines are unfolded, `Content-Length` is taken off when reading and put on when printing.
//! What cannot be read in a request comes back as [`ParseError::BadRequest`] with the headers that could,
//! because such a request deserves an answer.
//!
//! Absent on purpose: the grammar of headers that nothing here acts on. They are kept as text.

mod address;
mod hop;
mod text;
mod uri;

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

pub use address::{CSeq, NameAddr, Via};
pub use hop::{Hop, Transport};
pub use uri::{Params, Scheme, Uri, UriError};

pub(crate) use text::{find_outside_quotes, one_line, quote, split_outside_quotes, unquote};
pub(crate) use uri::{escape, unescape};

/// The method of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// Begins a call, or changes it.
    Invite,
    /// Confirms the final answer to an INVITE.
    Ack,
    /// Ends a call.
    Bye,
    /// Withdraws an INVITE that is not answered yet.
    Cancel,
    /// Asks what the other side can do; used as a ping.
    Options,
    /// Binds an address to a place.
    Register,
    /// Changes a session without INVITE (RFC 3311).
    Update,
    /// Carries things within a call, such as digits (RFC 6086).
    Info,
    /// Acknowledges a reliable provisional answer (RFC 3262).
    Prack,
    /// Asks to call somebody else (RFC 3515).
    Refer,
    /// Reports an event (RFC 6665).
    Notify,
    /// Asks for events (RFC 6665).
    Subscribe,
    /// Carries a text (RFC 3428).
    Message,
    /// Publishes a state (RFC 3903).
    Publish,
    /// Anything else.
    Other(String),
}

impl Method {
    /// Reads a method; case matters (RFC 3261 §7.1).
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "INVITE" => Self::Invite,
            "ACK" => Self::Ack,
            "BYE" => Self::Bye,
            "CANCEL" => Self::Cancel,
            "OPTIONS" => Self::Options,
            "REGISTER" => Self::Register,
            "UPDATE" => Self::Update,
            "INFO" => Self::Info,
            "PRACK" => Self::Prack,
            "REFER" => Self::Refer,
            "NOTIFY" => Self::Notify,
            "SUBSCRIBE" => Self::Subscribe,
            "MESSAGE" => Self::Message,
            "PUBLISH" => Self::Publish,
            other if text::is_token(other) => Self::Other(other.to_owned()),
            _ => return None,
        })
    }

    /// Returns the name on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Invite => "INVITE",
            Self::Ack => "ACK",
            Self::Bye => "BYE",
            Self::Cancel => "CANCEL",
            Self::Options => "OPTIONS",
            Self::Register => "REGISTER",
            Self::Update => "UPDATE",
            Self::Info => "INFO",
            Self::Prack => "PRACK",
            Self::Refer => "REFER",
            Self::Notify => "NOTIFY",
            Self::Subscribe => "SUBSCRIBE",
            Self::Message => "MESSAGE",
            Self::Publish => "PUBLISH",
            Self::Other(name) => name,
        }
    }
}

/// Headers in the order they came in.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(Cow<'static, str>, String)>);

impl Headers {
    /// Returns the first value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Yields every line of `name`, uncut.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(have, _)| have.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Yields every value of `name`, lines with several values cut at their commas.
    pub fn list<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.all(name).flat_map(|line| split_outside_quotes(line, ','))
    }

    /// Appends a header. Line breaks in `value` become spaces.
    pub fn push(&mut self, name: &str, value: impl AsRef<str>) {
        self.0.push((canonical_name(name), one_line(value.as_ref()).trim().to_owned()));
    }

    /// Puts a header in front of all others.
    pub fn push_front(&mut self, name: &str, value: impl AsRef<str>) {
        self.0.insert(0, (canonical_name(name), one_line(value.as_ref()).trim().to_owned()));
    }

    /// Replaces every header of that name by one, in the place of the first.
    pub fn set(&mut self, name: &str, value: impl AsRef<str>) {
        let at = self.0.iter().position(|(have, _)| have.eq_ignore_ascii_case(name));
        self.remove(name);
        let header = (canonical_name(name), one_line(value.as_ref()).trim().to_owned());
        match at {
            Some(at) => self.0.insert(at.min(self.0.len()), header),
            None => self.0.push(header),
        }
    }

    /// Removes every header of that name.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(have, _)| !have.eq_ignore_ascii_case(name));
    }

    /// Returns how many header lines there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Copies every line of `name` from `other`.
    pub fn copy(&mut self, other: &Headers, name: &str) {
        for value in other.all(name) {
            self.push(name, value);
        }
    }

    /// Returns the topmost Via.
    pub fn top_via(&self) -> Option<Via> {
        self.list("Via").next().and_then(Via::parse)
    }

    /// Returns From.
    pub fn from(&self) -> Option<NameAddr> {
        self.get("From").and_then(|text| NameAddr::parse(text).ok())
    }

    /// Returns To.
    pub fn to(&self) -> Option<NameAddr> {
        self.get("To").and_then(|text| NameAddr::parse(text).ok())
    }

    /// Returns Call-ID.
    pub fn call_id(&self) -> Option<&str> {
        self.get("Call-ID").filter(|id| !id.is_empty())
    }

    /// Returns CSeq.
    pub fn cseq(&self) -> Option<CSeq> {
        self.get("CSeq").and_then(CSeq::parse)
    }

    /// Returns the first Contact that is an address (not `*`).
    pub fn contact(&self) -> Option<NameAddr> {
        self.list("Contact").find_map(|text| NameAddr::parse(text).ok())
    }

    /// Returns the Record-Route addresses from top to bottom.
    pub fn record_route(&self) -> Vec<NameAddr> {
        self.list("Record-Route").filter_map(|text| NameAddr::parse(text).ok()).collect()
    }

    /// Tells whether a header that lists tokens, such as Require, has `token`.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.list(name).any(|have| have.eq_ignore_ascii_case(token))
    }
}

/// A request.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// What is asked.
    pub method: Method,
    /// Of whom.
    pub uri: Uri,
    /// Everything but Content-Length.
    pub headers: Headers,
    /// The body, often SDP.
    pub body: Bytes,
}

/// A response.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// 100 to 699.
    pub code: u16,
    /// The phrase behind the code.
    pub phrase: String,
    /// Everything but Content-Length.
    pub headers: Headers,
    /// The body, often SDP.
    pub body: Bytes,
}

/// A request or a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A request.
    Request(Request),
    /// A response.
    Response(Response),
}

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Only line ends or zero bytes: a keep-alive, which is no fault (RFC 5626 §4.4.1).
    #[error("nothing but line ends")]
    KeepAlive,
    /// Neither request nor response, or damaged beyond an answer.
    #[error("not a SIP message: {0}")]
    NotSip(&'static str),
    /// A request with a fault, to be answered with `code`, for which the headers that were read suffice.
    #[error("bad request: {what}")]
    BadRequest {
        /// 400, 416 or 505.
        code: u16,
        /// What is wrong, fit for the phrase of the answer.
        what: &'static str,
        /// The method as it was written.
        method: String,
        /// The headers.
        headers: Box<Headers>,
    },
}

/// Headers a message may have at most; more is an attack or a loop.
const MAX_HEADERS: usize = 256;

impl Message {
    /// Reads one datagram.
    ///
    /// # Errors
    /// [`ParseError::BadRequest`] when it was a request that can still be answered.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let start =
            bytes.iter().position(|b| !matches!(b, b'\r' | b'\n' | 0)).ok_or(ParseError::KeepAlive)?;
        let (lines, body) = split_head(&bytes[start..]);
        let mut lines = lines.into_iter();
        let first = lines.next().ok_or(ParseError::KeepAlive)?;
        let mut fault: Option<(u16, &'static str)> = None;
        let mut headers = Headers::default();
        for line in lines {
            if headers.len() >= MAX_HEADERS {
                return Err(ParseError::NotSip("too many headers"));
            }
            match line.split_once(':') {
                Some((name, value)) if text::is_token(name.trim_end()) => {
                    headers.0.push((canonical_name(name.trim_end()), one_line(value).trim().to_owned()));
                }
                _ => fault = fault.or(Some((400, "Unreadable header line"))),
            }
        }
        let body = match cut_body(&headers, body) {
            Ok(body) => Bytes::copy_from_slice(body),
            Err(what) => {
                fault = fault.or(Some((400, what)));
                Bytes::new()
            }
        };
        let length_lines = headers.all("Content-Length").count();
        if length_lines > 1 {
            fault = fault.or(Some((400, "Several Content-Length headers")));
        }
        headers.remove("Content-Length");

        if first.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("SIP/")) {
            if fault.is_some_and(|(_, what)| what != "Unreadable header line") {
                return Err(ParseError::NotSip("a response whose body is cut off"));
            }
            return parse_response(&first, headers, body).map(Self::Response);
        }
        parse_request(&first, headers, body, fault).map(Self::Request)
    }

    /// Returns the headers.
    pub fn headers(&self) -> &Headers {
        match self {
            Self::Request(request) => &request.headers,
            Self::Response(response) => &response.headers,
        }
    }
}

fn parse_response(first: &str, headers: Headers, body: Bytes) -> Result<Response, ParseError> {
    let mut words = first.splitn(3, ' ');
    let version = words.next().unwrap_or_default();
    if !version.eq_ignore_ascii_case("SIP/2.0") {
        return Err(ParseError::NotSip("a response of another version"));
    }
    let code = words.next().unwrap_or_default();
    let code = code.parse::<u16>().ok().filter(|c| code.len() == 3 && (100..700).contains(c));
    let code = code.ok_or(ParseError::NotSip("a status code out of range"))?;
    let phrase = words.next().unwrap_or_default().trim().to_owned();
    if headers.top_via().is_none() || headers.call_id().is_none() || headers.cseq().is_none() {
        return Err(ParseError::NotSip("a response without Via, Call-ID or CSeq"));
    }
    Ok(Response { code, phrase, headers, body })
}

fn parse_request(
    first: &str,
    headers: Headers,
    body: Bytes,
    fault: Option<(u16, &'static str)>,
) -> Result<Request, ParseError> {
    let Some((method_text, rest)) = first.trim().split_once(' ') else {
        return Err(ParseError::NotSip("no request line"));
    };
    let Some((uri_text, version)) = rest.trim().rsplit_once(' ') else {
        return Err(ParseError::NotSip("no request line"));
    };
    if !version.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("SIP/")) {
        return Err(ParseError::NotSip("no SIP version"));
    }
    if headers.top_via().is_none() {
        return Err(ParseError::NotSip("a request without a Via to answer to"));
    }
    let bad = |code, what| ParseError::BadRequest {
        code,
        what,
        method: method_text.to_owned(),
        headers: Box::new(headers.clone()),
    };
    if !version.eq_ignore_ascii_case("SIP/2.0") {
        return Err(bad(505, "Version Not Supported"));
    }
    let Some(method) = Method::parse(method_text) else { return Err(bad(400, "Unreadable method")) };
    if let Some((code, what)) = fault {
        return Err(bad(code, what));
    }
    let uri = match Uri::parse(uri_text.trim()) {
        Ok(uri) if matches!(uri.scheme, Scheme::Other(_)) => return Err(bad(416, "Unsupported URI Scheme")),
        Ok(uri) => uri,
        Err(_) => return Err(bad(400, "Unreadable Request-URI")),
    };
    for name in ["From", "To", "Call-ID", "CSeq"] {
        match headers.all(name).count() {
            1 => {}
            0 => return Err(bad(400, "A mandatory header is missing")),
            _ => return Err(bad(400, "A header that may stand once stands twice")),
        }
    }
    if headers.from().is_none() || headers.to().is_none() || headers.call_id().is_none() {
        return Err(bad(400, "Unreadable From, To or Call-ID"));
    }
    match headers.cseq() {
        None => Err(bad(400, "Unreadable CSeq")),
        Some(cseq) if cseq.method != method => Err(bad(400, "CSeq names another method")),
        Some(_) => Ok(Request { method, uri, headers, body }),
    }
}

/// Cuts the head into unfolded lines and returns what follows the empty line.
fn split_head(bytes: &[u8]) -> (Vec<String>, &[u8]) {
    let mut lines: Vec<String> = Vec::new();
    let mut rest = bytes;
    loop {
        let (line, after) = match rest.iter().position(|b| *b == b'\n') {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => (rest, &rest[rest.len()..]),
        };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return (lines, after);
        }
        let folded = matches!(line[0], b' ' | b'\t') && lines.len() > 1;
        let text = String::from_utf8_lossy(line);
        match lines.last_mut() {
            Some(last) if folded => {
                last.push(' ');
                last.push_str(text.trim());
            }
            _ => lines.push(text.into_owned()),
        }
        rest = after;
    }
}

/// Cuts the body to its stated length; without one, a datagram's body runs to its end (RFC 3261 §18.3).
fn cut_body<'a>(headers: &Headers, body: &'a [u8]) -> Result<&'a [u8], &'static str> {
    let Some(text) = headers.get("Content-Length") else { return Ok(body) };
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err("Content-Length is no number");
    }
    match text.parse::<usize>() {
        Ok(length) => body.get(..length).ok_or("Content-Length exceeds the datagram"),
        Err(_) => Err("Content-Length exceeds the datagram"),
    }
}

impl Request {
    /// Returns the bytes for the wire.
    pub fn to_bytes(&self) -> Bytes {
        let first = format!("{} {} SIP/2.0", self.method.as_str(), self.uri.to_wire());
        print(&one_line(&first), &self.headers, &self.body)
    }
}

impl Response {
    /// Begins an answer to the request that had `headers`: Via, From, To, Call-ID and CSeq are copied (§8.2.6.2).
    pub fn answer(headers: &Headers, code: u16, phrase: &str) -> Self {
        let mut copied = Headers::default();
        for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
            copied.copy(headers, name);
        }
        Self { code, phrase: phrase.to_owned(), headers: copied, body: Bytes::new() }
    }

    /// Sets the tag of To unless there is one.
    pub fn tag_to(&mut self, tag: &str) {
        if let Some(to) = self.headers.to()
            && to.tag().is_none()
        {
            self.headers.set("To", to.with_tag(tag).to_wire());
        }
    }

    /// Returns the bytes for the wire.
    pub fn to_bytes(&self) -> Bytes {
        let first = format!("SIP/2.0 {} {}", self.code, self.phrase);
        print(&one_line(&first), &self.headers, &self.body)
    }
}

fn print(first: &str, headers: &Headers, body: &[u8]) -> Bytes {
    let mut out = String::with_capacity(512);
    out.push_str(first);
    out.push_str("\r\n");
    for (name, value) in &headers.0 {
        out.push_str(name);
        out.push_str(": ");
        out.push_str(value);
        out.push_str("\r\n");
    }
    out.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    let mut out = out.into_bytes();
    out.extend_from_slice(body);
    out.into()
}

// Messages are full of numbers and names, so their `Debug` shows the start line without its address.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Headers({})", self.0.len())
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Request({} {:?}, {:?}, {} bytes)",
            self.method.as_str(),
            self.uri,
            self.headers,
            self.body.len()
        )
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Response({} {:?}, {} bytes)", self.code, self.headers, self.body.len())
    }
}

/// Returns the long, usual spelling of a header name; an unknown name stays as it is.
fn canonical_name(name: &str) -> Cow<'static, str> {
    if let [letter] = name.as_bytes() {
        let known = COMPACT.iter().find(|(short, _)| short.eq_ignore_ascii_case(&char::from(*letter)));
        if let Some((_, long)) = known {
            return Cow::Borrowed(long);
        }
    }
    match KNOWN.iter().find(|known| known.eq_ignore_ascii_case(name)) {
        Some(known) => Cow::Borrowed(known),
        None => Cow::Owned(one_line(name)),
    }
}

/// Single-letter header names (RFC 3261 §7.3.3 and the later ones in the IANA registry).
const COMPACT: [(char, &str); 19] = [
    ('a', "Accept-Contact"),
    ('b', "Referred-By"),
    ('c', "Content-Type"),
    ('d', "Request-Disposition"),
    ('e', "Content-Encoding"),
    ('f', "From"),
    ('i', "Call-ID"),
    ('j', "Reject-Contact"),
    ('k', "Supported"),
    ('l', "Content-Length"),
    ('m', "Contact"),
    ('n', "Identity-Info"),
    ('o', "Event"),
    ('r', "Refer-To"),
    ('s', "Subject"),
    ('t', "To"),
    ('u', "Allow-Events"),
    ('v', "Via"),
    ('x', "Session-Expires"),
];

/// Header names that this crate asks for or sends, in their usual spelling.
const KNOWN: [&str; 36] = [
    "Accept",
    "Allow",
    "Authorization",
    "CSeq",
    "Call-ID",
    "Contact",
    "Content-Length",
    "Content-Type",
    "Date",
    "Diversion",
    "Event",
    "Expires",
    "From",
    "Max-Forwards",
    "Min-Expires",
    "Min-SE",
    "P-Asserted-Identity",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "RAck",
    "RSeq",
    "Reason",
    "Record-Route",
    "Require",
    "Retry-After",
    "Route",
    "Server",
    "Service-Route",
    "Session-Expires",
    "Supported",
    "To",
    "Unsupported",
    "User-Agent",
    "Via",
    "WWW-Authenticate",
    "Warning",
];

#[cfg(test)]
mod tests;
