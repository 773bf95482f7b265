//! Who calls, as a trunk wants to be told, and as it tells: From, P-Asserted-Identity, Privacy, Diversion,
//! P-Called-Party-ID (RFC 3323, RFC 3325, RFC 5806, RFC 7315).

use crate::agent::InviteRequest;
use crate::message::{Headers, NameAddr, Request, Uri};

/// How one trunk wants the caller's identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityPolicy {
    /// Whether the network is told the number in P-Asserted-Identity, which only a trusted trunk may be.
    pub assert: Assert,
    /// The host behind the number in these headers; without one the `domain` of the account.
    pub domain: Option<String>,
    /// Hides the number from whom is called (CLIR): an anonymous From and `Privacy: id`.
    pub anonymous: bool,
    /// Whom a forwarded call was meant for first, and why it was sent on (such as `unconditional`, `no-answer`).
    pub diversion: Option<(String, String)>,
}

/// Which header says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Assert {
    /// None.
    #[default]
    No,
    /// P-Asserted-Identity (RFC 3325 §9.1).
    Asserted,
    /// P-Preferred-Identity (RFC 3325 §9.2): the trunk decides.
    Preferred,
}

impl IdentityPolicy {
    /// Writes the identity into a call that is about to be made. `host` stands in for a missing domain.
    pub fn apply(&self, request: &mut InviteRequest, host: &str) {
        let host = self.domain.as_deref().unwrap_or(host);
        let number = request.from_user.clone();
        let name = match self.assert {
            Assert::No => None,
            Assert::Asserted => Some("P-Asserted-Identity"),
            Assert::Preferred => Some("P-Preferred-Identity"),
        };
        if let (Some(name), Ok(uri)) = (name, Uri::sip(&number, host)) {
            let identity = NameAddr { display: request.from_display.clone(), ..NameAddr::new(uri) };
            request.extra_headers.push((name.to_owned(), identity.to_wire()));
        }
        if self.anonymous {
            // RFC 3323 §4.1.1.3.
            request.from_user = "anonymous".to_owned();
            request.from_display = Some("Anonymous".to_owned());
            request.from_host = Some("anonymous.invalid".to_owned());
            request.extra_headers.push(("Privacy".to_owned(), "id".to_owned()));
        }
        if let Some((first, reason)) = &self.diversion
            && let Ok(uri) = Uri::sip(first, host)
        {
            let mut diversion = NameAddr::new(uri);
            diversion.params.set("reason", Some(reason));
            request.extra_headers.push(("Diversion".to_owned(), diversion.to_wire()));
        }
    }
}

/// Numbers that one call was forwarded from are followed no further than this.
const MAX_DIVERSIONS: usize = 8;

/// Who calls whom, as an INVITE from a trunk says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parties {
    /// The network's word for who calls: P-Asserted-Identity. The peer must be one that is trusted with it.
    asserted: Option<Uri>,
    /// The caller's own word.
    from: Uri,
    /// The caller does not want to be known.
    private: bool,
    /// Which address the network meant: P-Called-Party-ID, where the Request-URI is our registered contact.
    called_party: Option<Uri>,
    request_uri: Uri,
    to: Uri,
    /// Whom the call was meant for before it was forwarded, the last one first.
    diverted: Vec<Uri>,
}

impl Parties {
    /// Reads an INVITE; `None` when From or To cannot be read.
    pub fn read(request: &Request) -> Option<Self> {
        let headers = &request.headers;
        let one = |name| addresses(headers, name).next();
        let diverted = addresses(headers, "Diversion").take(MAX_DIVERSIONS).collect();
        // RFC 3325 §9.1: there may be two, one of them a `tel:`.
        let asserted = addresses(headers, "P-Asserted-Identity").find(|uri| !uri.user_text().is_empty());
        let private = headers.all("Privacy").flat_map(|value| value.split([';', ','])).any(|what| {
            ["id", "user", "header"].iter().any(|hidden| what.trim().eq_ignore_ascii_case(hidden))
        });
        Some(Self {
            asserted,
            from: headers.from()?.uri,
            private,
            called_party: one("P-Called-Party-ID"),
            request_uri: request.uri.clone(),
            to: headers.to()?.uri,
            diverted,
        })
    }

    /// Returns who calls; `None` for somebody who hides it.
    pub fn caller(&self) -> Option<&Uri> {
        if self.private {
            return None;
        }
        let hidden = |uri: &Uri| {
            let user = uri.user_text();
            user.is_empty()
                || ["anonymous", "restricted", "unavailable", "unknown"]
                    .iter()
                    .any(|name| user.eq_ignore_ascii_case(name))
                || uri.host.to_string().eq_ignore_ascii_case("anonymous.invalid")
        };
        self.asserted.as_ref().or(Some(&self.from)).filter(|uri| !hidden(uri))
    }

    /// Returns the numbers that may have been dialled, the likeliest first: the network's word, the Request-URI unless
    /// it is `contact`, our own user at a registrar, To, and whom the call was meant for before it was forwarded.
    pub fn called(&self, contact: &str) -> Vec<String> {
        let mut called: Vec<String> = Vec::new();
        let named = self.called_party.iter().chain([&self.request_uri, &self.to]).chain(&self.diverted);
        for uri in named {
            let user = uri.user_text();
            // Parameters of a number in a SIP URI, such as `;phone-context=`, are no part of it.
            let user = user.split(';').next().unwrap_or_default().to_owned();
            if !user.is_empty() && user != contact && !called.contains(&user) {
                called.push(user);
            }
        }
        called
    }
}

fn addresses<'a>(headers: &'a Headers, name: &'a str) -> impl Iterator<Item = Uri> + 'a {
    headers.list(name).filter_map(|value| NameAddr::parse(value).ok()).map(|address| address.uri)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;
    use crate::sdp::LocalMedia;

    fn parties(uri: &str, more: &str) -> Parties {
        let text = format!(
            "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
             Call-ID: 1\r\nCSeq: 1 INVITE\r\nContact: <sip:192.0.2.1>\r\n{more}Content-Length: 0\r\n\r\n"
        );
        let Ok(Message::Request(request)) = Message::parse(text.as_bytes()) else { panic!("{text}") };
        Parties::read(&request).unwrap()
    }

    fn caller(parties: &Parties) -> Option<String> {
        parties.caller().map(Uri::user_text)
    }

    const NAMES: &str = "From: <sip:13800138000@192.0.2.1>;tag=a\r\nTo: <sip:02155550100@192.0.2.9>\r\n";

    #[test]
    fn the_networks_word_for_the_caller_comes_before_the_callers_own() {
        assert_eq!(caller(&parties("sip:02155550100@192.0.2.9", NAMES)).as_deref(), Some("13800138000"));
        let asserted =
            format!("{NAMES}P-Asserted-Identity: \"W\" <sip:+8613900139000@ims.example;user=phone>\r\n");
        assert_eq!(caller(&parties("sip:1@192.0.2.9", &asserted)).as_deref(), Some("+8613900139000"));
        let tel = format!("{NAMES}P-Asserted-Identity: <tel:+8613900139000>\r\n");
        assert_eq!(caller(&parties("sip:1@192.0.2.9", &tel)).as_deref(), Some("+8613900139000"));
    }

    #[test]
    fn who_hides_is_not_known_though_the_network_knows() {
        let hidden =
            "From: \"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=a\r\nTo: <sip:1@192.0.2.9>\r\n";
        assert_eq!(caller(&parties("sip:1@192.0.2.9", hidden)), None);
        let known = format!("{hidden}P-Asserted-Identity: <sip:13800138000@192.0.2.1>\r\n");
        assert_eq!(caller(&parties("sip:1@192.0.2.9", &known)).as_deref(), Some("13800138000"));
        let private = format!("{known}Privacy: id;critical\r\n");
        assert_eq!(caller(&parties("sip:1@192.0.2.9", &private)), None);
    }

    #[test]
    fn the_number_that_was_dialled_is_looked_for_where_trunks_write_it() {
        let plain = parties("sip:+862155550100@192.0.2.9;user=phone", NAMES);
        assert_eq!(plain.called("tl-demo"), ["+862155550100", "02155550100"]);
        assert_eq!(parties("sip:tl-demo@192.0.2.9", NAMES).called("tl-demo"), ["02155550100"]);
        let more = format!(
            "{NAMES}P-Called-Party-ID: <sip:4001@192.0.2.9>\r\n\
             Diversion: <sip:95588@192.0.2.1>;reason=no-answer, <sip:95599@192.0.2.1>\r\n"
        );
        let forwarded = parties("sip:tl-demo@192.0.2.9", &more);
        assert_eq!(forwarded.called("tl-demo"), ["4001", "02155550100", "95588", "95599"]);
    }

    fn headers(policy: &IdentityPolicy) -> (String, Vec<String>) {
        let to = Uri::sip("13800138000", "192.0.2.1").unwrap();
        let mut request =
            InviteRequest::new("01012345678", to, LocalMedia::new("192.0.2.2:4000".parse().unwrap()));
        policy.apply(&mut request, "trunk.example.com");
        let lines = request.extra_headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        (format!("{}@{}", request.from_user, request.from_host.unwrap_or_default()), lines)
    }

    #[test]
    fn a_hidden_caller_is_told_to_the_network_only() {
        let policy = IdentityPolicy { assert: Assert::Asserted, anonymous: true, ..Default::default() };
        let (from, lines) = headers(&policy);
        assert_eq!(from, "anonymous@anonymous.invalid");
        assert_eq!(lines, ["P-Asserted-Identity: <sip:01012345678@trunk.example.com>", "Privacy: id"]);
    }

    #[test]
    fn a_forwarded_call_says_for_whom_it_was() {
        let policy = IdentityPolicy {
            assert: Assert::Preferred,
            domain: Some("ims.example.net".to_owned()),
            diversion: Some(("4000".to_owned(), "no-answer".to_owned())),
            ..Default::default()
        };
        let (_, lines) = headers(&policy);
        assert_eq!(
            lines,
            [
                "P-Preferred-Identity: <sip:01012345678@ims.example.net>",
                "Diversion: <sip:4000@ims.example.net>;reason=no-answer"
            ]
        );
    }

    #[test]
    fn without_a_policy_nothing_is_added() {
        assert_eq!(headers(&IdentityPolicy::default()), ("01012345678@".to_owned(), vec![]));
    }
}
