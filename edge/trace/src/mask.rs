//! Takes out of a message what must not be kept or shown.
//!
//! Headers are shortened, bodies keep their length, so that `Content-Length` stays true. What is not known to be
//! harmless in credentials or in a body is taken out: a new parameter is hidden until somebody looks at it.

use std::borrow::Cow;

/// What stands for a secret in a header.
const HIDDEN: &str = "***";
/// Parameters of credentials and challenges that may be seen (RFC 7616 §3.3, §3.4).
const SEEN: [&str; 8] = ["username", "realm", "algorithm", "qop", "uri", "nc", "stale", "domain"];

/// Returns the text of a message without its secrets: digest responses, nonces and everything else in credentials
/// that need not be seen, passwords in addresses, signed identities, keys of encrypted sound, pressed keys, and
/// bodies of kinds that are not known. Octets that are not UTF-8 become `?`.
#[must_use]
pub fn secrets(message: &[u8]) -> String {
    let text = lossy(message);
    let (head, gap, body) = split(&text);
    let mut kind = String::new();
    let mut out = String::with_capacity(text.len());
    for (at, line) in unfold(head).iter().enumerate() {
        if at == 0 {
            out.push_str(&without_passwords(line));
        } else {
            let (name, value) = header(line);
            if matches!(name.as_str(), "content-type" | "c") {
                kind = value.trim().to_ascii_lowercase();
            }
            out.push_str(&secret_header(line, &name, value));
        }
        out.push_str("\r\n");
    }
    out.truncate(out.len().saturating_sub(2));
    out.push_str(gap);
    out.push_str(&secret_body(&kind, body));
    out
}

/// Returns the text of a message, whose secrets are out already, without telephone numbers and names of people: of
/// the user part of an address, a display name or a long number the last two characters are left.
#[must_use]
pub fn numbers(message: &str) -> String {
    let (head, gap, body) = split(message);
    let mut out = String::with_capacity(message.len());
    for (at, line) in head.split("\r\n").enumerate() {
        if at > 0 {
            out.push_str("\r\n");
        }
        let (name, value) = if at == 0 { (String::new(), line) } else { header(line) };
        let text = users(value);
        let text = if TECHNICAL.contains(&name.as_str()) || (at == 0 && line.starts_with("SIP/")) {
            text
        } else {
            long_numbers(&display_names(&text))
        };
        out.push_str(&line[..line.len() - value.len()]);
        out.push_str(&text);
    }
    out.push_str(gap);
    for line in body.split_inclusive('\n') {
        let (text, end) = line_end(line);
        let hidden = match text.get(..2) {
            Some("o=") => {
                let user = text[2..].split(' ').next().unwrap_or_default();
                format!("o={}{}", hide(user), &text[2 + user.len()..])
            }
            Some("e=" | "p=" | "i=") => format!("{}{}", &text[..2], "x".repeat(text.len() - 2)),
            Some(_) | None => users(text),
        };
        out.push_str(&hidden);
        out.push_str(end);
    }
    out
}

/// Headers whose digits are nobody's number.
const TECHNICAL: [&str; 24] = [
    "via",
    "v",
    "call-id",
    "i",
    "cseq",
    "content-length",
    "l",
    "content-type",
    "c",
    "max-forwards",
    "user-agent",
    "server",
    "allow",
    "supported",
    "k",
    "require",
    "date",
    "session-expires",
    "x",
    "min-se",
    "expires",
    "rseq",
    "rack",
    "timestamp",
];

/// Leaves the last two characters of what is long enough to bear it; the length stays.
fn hide(text: &str) -> String {
    let count = text.chars().count();
    if text == "-" {
        return text.to_owned();
    }
    let left = if count > 4 { 2 } else { 0 };
    let width = |c: char| c.len_utf8();
    text.chars()
        .enumerate()
        .map(|(at, c)| if at + left >= count { c.to_string() } else { "x".repeat(width(c)) })
        .collect()
}

/// Hides the user part of every address in `text`.
fn users(text: &str) -> String {
    addresses(text, |user, password| format!("{}{password}", hide(user)))
}

fn without_passwords(text: &str) -> String {
    let text =
        addresses(
            text,
            |user, password| {
                if password.is_empty() { user.to_owned() } else { format!("{user}:{HIDDEN}") }
            },
        );
    // An address may carry headers along, such as credentials.
    let lower = text.to_ascii_lowercase();
    let Some(at) = ["authorization=", "identity="].iter().filter_map(|name| lower.find(name)).min() else {
        return text;
    };
    let from = at + lower[at..].find('=').map_or(0, |equals| equals + 1);
    let len = text[from..].find(|c: char| matches!(c, '&' | '>' | '"') || c.is_whitespace());
    let rest = len.map_or("", |len| &text[from + len..]);
    format!("{}{HIDDEN}{}", &text[..from], without_passwords(rest))
}

/// Rewrites the user part and the password (with its colon) of every address in `text`.
fn addresses(text: &str, rewrite: impl Fn(&str, &str) -> String) -> String {
    let lower = text.to_ascii_lowercase();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some((from, is_tel)) = next_address(&lower, at) {
        out.push_str(&text[at..from]);
        let stops = |c: char| matches!(c, '>' | '<' | '"' | ',') || c.is_whitespace();
        let end = text[from..].find(stops).map_or(text.len(), |len| from + len);
        let address = &text[from..end];
        let user = match (is_tel, address.find('@')) {
            (true, _) => &address[..address.find([';', '?']).unwrap_or(address.len())],
            (false, Some(len)) => &address[..len],
            (false, None) => "",
        };
        let (name, password) = match user.find(':') {
            Some(colon) if !is_tel => user.split_at(colon),
            Some(_) | None => (user, ""),
        };
        if !user.is_empty() {
            out.push_str(&rewrite(name, password));
        }
        at = from + user.len();
    }
    out.push_str(&text[at..]);
    out
}

/// Returns where the next address begins behind its scheme, and whether it is `tel:`.
fn next_address(lower: &str, at: usize) -> Option<(usize, bool)> {
    let find = |scheme: &str| lower[at..].find(scheme).map(|found| at + found + scheme.len());
    let sip = ["sip:", "sips:"].iter().filter_map(|scheme| find(scheme)).min();
    match (sip, find("tel:")) {
        (Some(sip), Some(tel)) if tel < sip => Some((tel, true)),
        (Some(sip), _) => Some((sip, false)),
        (None, Some(tel)) => Some((tel, true)),
        (None, None) => None,
    }
}

/// Hides what stands in front of `<`, and user names of credentials.
fn display_names(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('<') {
        let before = &rest[..open];
        let from = before.rfind(',').map_or(0, |comma| comma + 1);
        let name = before[from..].trim();
        let inner = name.trim_matches('"');
        out.push_str(&before[..from]);
        out.push_str(&if inner.is_empty() {
            before[from..].to_owned()
        } else {
            before[from..].replace(inner, &hide(inner))
        });
        let close = rest[open..].find('>').map_or(rest.len(), |len| open + len + 1);
        out.push_str(&rest[open..close]);
        rest = &rest[close..];
    }
    out.push_str(rest);
    match out.to_ascii_lowercase().find("username=\"") {
        Some(at) => {
            let from = at + "username=\"".len();
            let len = out[from..].find('"').unwrap_or(out.len() - from);
            format!("{}{}{}", &out[..from], hide(&out[from..from + len]), &out[from + len..])
        }
        None => out,
    }
}

/// Hides runs of six digits and more, but in tags.
fn long_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let is_tag = rest.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("tag="));
        let word = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '=' | '~'));
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let taken = match (is_tag, digits) {
            (true, _) => rest.find(word).unwrap_or(rest.len()).max(4),
            (false, 0) => rest.chars().next().map_or(1, char::len_utf8),
            (false, digits) => digits,
        };
        let (part, behind) = rest.split_at(taken);
        out.push_str(&if digits >= 6 && !is_tag { hide(part) } else { part.to_owned() });
        rest = behind;
    }
    out
}

fn secret_header(line: &str, name: &str, value: &str) -> String {
    let before = &line[..line.len() - value.len()];
    match name {
        "authorization" | "proxy-authorization" | "www-authenticate" | "proxy-authenticate" => {
            let value = value.trim_start();
            let (scheme, params) = value.split_once(' ').unwrap_or((value, ""));
            if scheme.eq_ignore_ascii_case("digest") {
                format!("{before} {scheme} {}", credentials(params))
            } else {
                // The whole of `Basic` is a password.
                format!("{before} {} {HIDDEN}", if params.is_empty() { "" } else { scheme })
            }
        }
        "authentication-info" | "proxy-authentication-info" => format!("{before} {}", credentials(value)),
        "identity" | "y" => format!("{before} {HIDDEN}"),
        // A message without an empty line would have its body among the headers.
        _ if name.as_bytes().get(1) == Some(&b'=') => secret_sdp(line).into_owned(),
        _ => format!("{before}{}", without_passwords(value)),
    }
}

/// Hides the values of parameters that need not be seen.
fn credentials(params: &str) -> String {
    let mut out: Vec<String> = Vec::new();
    let mut rest = params;
    while !rest.trim().is_empty() {
        let mut quoted = false;
        let mut escaped = false;
        let end = rest.find(|c: char| {
            let ends = c == ',' && !quoted;
            quoted ^= c == '"' && !escaped;
            escaped = c == '\\' && quoted && !escaped;
            ends
        });
        let (param, behind) = end.map_or((rest, ""), |end| (&rest[..end], &rest[end + 1..]));
        let (name, value) = param.split_once('=').unwrap_or((HIDDEN, ""));
        let seen = SEEN.iter().any(|seen| seen.eq_ignore_ascii_case(name.trim()));
        out.push(match (seen, value.trim_start().starts_with('"')) {
            (true, _) => format!("{}={}", name.trim(), without_passwords(value.trim())),
            (false, true) => format!("{}=\"{HIDDEN}\"", name.trim()),
            (false, false) => format!("{}={HIDDEN}", name.trim()),
        });
        rest = behind;
    }
    out.join(", ")
}

fn secret_body(kind: &str, body: &str) -> String {
    let kind = kind.split(';').next().unwrap_or_default().trim();
    match kind {
        "application/sdp" => lines(body, secret_sdp),
        // A description of the session in a call that carries ISUP along.
        "message/sipfrag" => {
            let masked = secrets(body.as_bytes());
            if masked.len() == body.len() {
                masked
            } else {
                lines(body, |line| Cow::Owned("x".repeat(line.len())))
            }
        }
        multipart if multipart.starts_with("multipart/") => lines(body, |line| {
            let is_sdp = line.as_bytes().get(1) == Some(&b'=') && line.as_bytes()[0].is_ascii_lowercase();
            let is_frame = line.starts_with("--") || line.to_ascii_lowercase().starts_with("content-");
            match (is_sdp, is_frame) {
                (true, _) => secret_sdp(line),
                (false, true) => Cow::Borrowed(line),
                (false, false) => Cow::Owned("x".repeat(line.len())),
            }
        }),
        _ => lines(body, |line| match line.split_once('=') {
            // How long a key was pressed is no secret, which one is.
            Some((name, _)) if name.trim().eq_ignore_ascii_case("duration") => Cow::Borrowed(line),
            Some((name, value)) if name.trim().eq_ignore_ascii_case("signal") => {
                Cow::Owned(format!("{name}={}", "x".repeat(value.len())))
            }
            Some(_) | None => Cow::Owned("x".repeat(line.len())),
        }),
    }
}

fn secret_sdp(line: &str) -> Cow<'_, str> {
    let lower = line.to_ascii_lowercase();
    let hidden_from = if lower.starts_with("a=crypto") {
        // Without the word nobody knows where the key begins.
        Some(lower.find("inline:").map_or("a=crypto".len(), |at| at + "inline:".len()))
    } else if lower.starts_with("a=key-mgmt") || lower.starts_with("a=ice-pwd") {
        Some("a=ice-pwd".len())
    } else if lower.starts_with("k=") {
        Some(2)
    } else {
        None
    };
    match hidden_from {
        Some(from) => Cow::Owned(format!("{}{}", &line[..from], "x".repeat(line.len() - from))),
        None => Cow::Borrowed(line),
    }
}

fn lines<'a>(body: &'a str, rewrite: impl Fn(&'a str) -> Cow<'a, str>) -> String {
    let mut out = String::with_capacity(body.len());
    for line in body.split_inclusive('\n') {
        let (text, end) = line_end(line);
        out.push_str(&rewrite(text));
        out.push_str(end);
    }
    out
}

fn line_end(line: &str) -> (&str, &str) {
    line.split_at(line.trim_end_matches(['\r', '\n']).len())
}

/// Cuts a message into head, empty line and body.
fn split(text: &str) -> (&str, &str, &str) {
    let gaps = ["\r\n\r\n", "\n\r\n", "\n\n"];
    let first = gaps.iter().filter_map(|gap| text.find(gap).map(|at| (at, *gap))).min_by_key(|(at, _)| *at);
    match first {
        Some((at, gap)) => (&text[..at], &text[at..at + gap.len()], &text[at + gap.len()..]),
        None => (text, "", ""),
    }
}

/// Returns the lines of a head; those that go on on the next line are put together (RFC 3261 §7.3.1).
fn unfold(head: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for line in head.split(['\n', '\r']).filter(|line| !line.is_empty()) {
        match out.last_mut() {
            Some(last) if line.starts_with([' ', '\t']) => {
                last.push(' ');
                last.push_str(line.trim_start());
            }
            Some(_) | None => out.push(line.to_owned()),
        }
    }
    out
}

/// Returns the name of a header in small letters, and its value as it stands.
fn header(line: &str) -> (String, &str) {
    match line.split_once(':') {
        Some((name, value)) => (name.trim().to_ascii_lowercase(), value),
        None => (String::new(), line),
    }
}

fn lossy(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(std::iter::repeat_n('?', chunk.invalid().len()));
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INVITE: &str = "INVITE sip:+8613800138000@192.0.2.1;user=phone SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK1234567890\r\n\
        From: \"Wang Fang\" <sip:branch17:hunter2@example.com>;tag=1928301774\r\n\
        t: <tel:+8613800138000;phone-context=x>\r\n\
        Call-ID: 1234567890abc@192.0.2.9\r\n\
        CSeq: 2 INVITE\r\n\
        Proxy-Authorization: Digest username=\"branch17\", realm=\"example.com\", nonce=\"dcd98b7102dd\",\r\n \
        uri=\"sip:+8613800138000@192.0.2.1\", response=\"6629fae49393a05397450978507c4ef1\", cnonce=\"0a4f113b\", \
        opaque=\"5ccc069c\", qop=auth, nc=00000001, newparam=\"a,b\"\r\n\
        Identity: eyJhbGciOiJFUzI1NiJ9.eyJ0biI6Ijg2MTM4In0.c2ln;info=<https://cert.example/x>\r\n\
        P-Asserted-Identity: <sip:02155550100@example.com>\r\n\
        Content-Type: application/sdp\r\n\
        Content-Length: 5\r\n\r\n\
        v=0\r\no=4000 1 1 IN IP4 192.0.2.9\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9|2^20\r\n\
        k=clear:secretkey\r\na=rtpmap:8 PCMA/8000\r\n";

    #[test]
    fn nothing_secret_is_left_and_what_helps_is() {
        let masked = secrets(INVITE.as_bytes());
        for secret in [
            "hunter2",
            "dcd98b7102dd",
            "6629fae4",
            "0a4f113b",
            "5ccc069c",
            "a,b",
            "eyJ",
            "WVNfX1",
            "secretkey",
        ] {
            assert!(!masked.contains(secret), "{secret} in {masked}");
        }
        for kept in [
            "realm=\"example.com\"",
            "qop=auth",
            "nc=00000001",
            "username=\"branch17\"",
            "PCMA/8000",
            "AES_CM_128_HMAC_SHA1_80 inline:xxx",
            "z9hG4bK1234567890",
            "+8613800138000",
        ] {
            assert!(masked.contains(kept), "{kept} not in {masked}");
        }
        let body = |text: &str| text.split_once("\r\n\r\n").unwrap().1.len();
        assert_eq!(body(&masked), body(INVITE), "a body keeps its length");
    }

    #[test]
    fn numbers_and_names_are_hidden_where_they_are_shown() {
        let shown = numbers(&secrets(INVITE.as_bytes()));
        for personal in ["13800138", "Wang", "02155550", "branch17"] {
            assert!(!shown.contains(personal), "{personal} in {shown}");
        }
        for kept in [
            "xxx00@192.0.2.1",
            "tag=1928301774",
            "1234567890abc@192.0.2.9",
            "z9hG4bK1234567890",
            "o=xxxx 1 1 IN",
        ] {
            assert!(shown.contains(kept), "{kept} not in {shown}");
        }
    }

    #[test]
    fn pressed_keys_and_unknown_bodies_are_hidden() {
        let info = |kind: &str, body: &str| {
            secrets(format!("INFO sip:a@b SIP/2.0\r\nc: {kind}\r\n\r\n{body}").as_bytes())
        };
        let relay = info("application/dtmf-relay", "Signal= 5\r\nDuration= 160\r\n");
        assert!(relay.ends_with("Signal=xx\r\nDuration= 160\r\n"), "{relay}");
        assert!(info("application/dtmf", "7").ends_with("\r\n\r\nx"));
        assert!(!info("application/kpml-response+xml", "<kpml-response digits=\"4711\"/>").contains("4711"));
        assert!(!info("text/plain", "4000 1234").contains("1234"));
        let mixed = info(
            "multipart/mixed;boundary=b",
            "--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\na=crypto:1 X inline:SECRET\r\n--b\r\n\u{1}ISUP 13800138000\r\n",
        );
        assert!(mixed.contains("v=0") && !mixed.contains("SECRET") && !mixed.contains("13800"), "{mixed}");
    }

    #[test]
    fn other_schemes_and_embedded_credentials_are_hidden() {
        let of = |header: &str| secrets(format!("REGISTER sip:b SIP/2.0\r\n{header}\r\n\r\n").as_bytes());
        assert!(!of("Authorization: Basic YTpi").contains("YTpi"));
        assert!(!of("Authorization:Bearer abc.def").contains("abc"));
        assert!(!of("Authorization: abcdef").contains("abcdef"));
        assert!(!of("AUTHORIZATION : Digest response = \"0123abc\"").contains("0123abc"));
        assert!(!of("Refer-To: <sip:a@b?Authorization=Digest%20zzz&X=1>").contains("zzz"));
        assert!(!of("WWW-Authenticate: Digest realm=\"a\\\"b\", nonce=\"qqq\"").contains("qqq"));
        assert!(of("WWW-Authenticate: Digest realm=\"a\", nonce=\"q\"").contains("realm=\"a\""));
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes: Vec<u8>) {
            let masked = secrets(&bytes);
            let _ = numbers(&masked);
        }

        #[test]
        fn no_text_breaks_it(text in "(INVITE sip:.{0,20}\r\n)?([A-Za-z-]{1,20}:.{0,40}\r?\n[ \t]?){0,6}\r\n(.{0,60}\n){0,4}") {
            let masked = secrets(text.as_bytes());
            let _ = numbers(&masked);
        }

        #[test]
        fn a_response_is_hidden_however_it_is_written(
            response in "[a-f0-9]{32}", space in "[ \t]{0,3}", fold in "(\r\n )?", quote in "\"?",
            name in "(?i)(proxy-)?authorization", before in "(realm=\"x,y\",|nonce=\"z\" , |)",
        ) {
            let text = format!("INVITE sip:a@b SIP/2.0\r\n{name}{space}:{space}Digest {before}{fold}response{space}={space}{quote}{response}{quote}\r\n\r\n");
            let masked = secrets(text.as_bytes());
            prop_assert!(!masked.contains(&response), "{}", masked);
        }
    }
}
