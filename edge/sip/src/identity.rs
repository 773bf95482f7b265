//! Who calls, as a trunk wants to be told: From, P-Asserted-Identity, Privacy, Diversion (RFC 3323, RFC 3325, RFC 5806).

use crate::agent::InviteRequest;
use crate::message::{NameAddr, Uri};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::LocalMedia;

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
