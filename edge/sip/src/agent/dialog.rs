//! A dialog: the two tags, the way to the other side, and the request counters (RFC 3261 §12).

use bytes::Bytes;

use crate::message::{CSeq, Headers, Hop, Method, NameAddr, Params, Request, Response, Uri};

/// One dialog, early or confirmed.
#[derive(Clone, Debug)]
pub(super) struct Dialog {
    call_id: String,
    /// Us, with our tag.
    local: NameAddr,
    /// Them, with their tag once known.
    remote: NameAddr,
    /// Where requests are for: their Contact.
    pub(super) target: Uri,
    routes: Vec<NameAddr>,
    pub(super) local_cseq: u32,
    remote_cseq: Option<u32>,
}

impl Dialog {
    /// Makes the dialog that a response to our INVITE tells of.
    pub(super) fn of_response(invite: &Request, response: &Response) -> Option<Self> {
        let mut routes = response.headers.record_route();
        routes.reverse();
        Some(Self {
            call_id: invite.headers.call_id()?.to_owned(),
            local: invite.headers.from()?,
            remote: response.headers.to()?,
            target: response.headers.contact().map_or_else(|| invite.uri.clone(), |contact| contact.uri),
            routes,
            local_cseq: invite.headers.cseq()?.number,
            remote_cseq: None,
        })
    }

    /// Makes the dialog that an INVITE from others begins, with our tag.
    pub(super) fn of_request(invite: &Request, tag: &str) -> Option<Self> {
        Some(Self {
            call_id: invite.headers.call_id()?.to_owned(),
            local: invite.headers.to()?.with_tag(tag),
            remote: invite.headers.from()?,
            target: invite.headers.contact()?.uri,
            routes: invite.headers.record_route(),
            // §12.1.1 leaves the start open; a small one is friendly to everybody's counters.
            local_cseq: 0,
            remote_cseq: Some(invite.headers.cseq()?.number),
        })
    }

    pub(super) fn remote_tag(&self) -> String {
        self.remote.tag().unwrap_or_default()
    }

    /// Counts a request of theirs in; false if it comes out of order (§12.2.2).
    pub(super) fn count_remote(&mut self, number: u32) -> bool {
        if self.remote_cseq.is_some_and(|last| number <= last) {
            return false;
        }
        self.remote_cseq = Some(number);
        true
    }

    /// Makes the next request, without Via and Contact.
    pub(super) fn next_request(&mut self, method: Method) -> Request {
        self.local_cseq += 1;
        self.request(method, self.local_cseq)
    }

    /// Makes a request with the given number: an ACK has that of its INVITE (§12.2.1.1).
    pub(super) fn request(&self, method: Method, number: u32) -> Request {
        let mut headers = Headers::default();
        let strict = self.routes.first().filter(|first| !first.uri.params.has("lr"));
        let uri = match strict {
            None => {
                for route in &self.routes {
                    headers.push("Route", route.to_wire());
                }
                self.target.clone()
            }
            // A strict router wants itself in the Request-URI and the target as the last Route.
            Some(first) => {
                for route in &self.routes[1..] {
                    headers.push("Route", route.to_wire());
                }
                headers.push("Route", NameAddr::new(self.target.clone()).to_wire());
                let mut uri = first.uri.clone();
                uri.headers = None;
                uri.params.remove("method");
                uri
            }
        };
        headers.push("Max-Forwards", "70");
        headers.push("From", self.local.to_wire());
        headers.push("To", self.remote.to_wire());
        headers.push("Call-ID", &self.call_id);
        headers.push("CSeq", CSeq { number, method: method.clone() }.to_wire());
        Request { method, uri, headers, body: Bytes::new() }
    }

    /// Returns where requests go: the first route or the target, or `otherwise` if that has a name for a host.
    pub(super) fn next_hop(&self, otherwise: Hop) -> Hop {
        let first = self.routes.first().map_or(&self.target, |route| &route.uri);
        Hop::of_uri(first, Some(otherwise)).unwrap_or(otherwise)
    }

    /// Takes over what was counted in the early dialog that this one confirms.
    pub(super) fn confirm(&mut self, early: &Self) {
        self.local_cseq = self.local_cseq.max(early.local_cseq);
        self.remote_cseq = early.remote_cseq;
    }

    /// Returns our address without tag.
    pub(super) fn local_uri(&self) -> Uri {
        self.local.uri.clone()
    }
}

/// Makes Contact out of our address.
pub(super) fn contact(user: &str, local: Hop) -> NameAddr {
    let mut uri = Uri::at(user, local.addr);
    if local.transport.is_reliable() {
        uri.params.set("transport", Some(local.transport.param()));
    }
    NameAddr { display: None, uri, params: Params::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    fn request(text: &str) -> Request {
        match Message::parse(text.as_bytes()) {
            Ok(Message::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    fn incoming(record_route: &str) -> Dialog {
        let text = format!(
            "INVITE sip:us@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=t\r\nTo: <sip:us@h>\r\n\
             Call-ID: c\r\nCSeq: 7 INVITE\r\nContact: <sip:a@192.0.2.9:5070>\r\n{record_route}\r\n"
        );
        Dialog::of_request(&request(&text), "ours").unwrap()
    }

    #[test]
    fn loose_routes_stand_in_route_and_the_target_in_the_request_line() {
        let mut dialog = incoming("Record-Route: <sip:192.0.2.1;lr>, <sip:192.0.2.2:5080;lr>\r\n");
        let bye = dialog.next_request(Method::Bye);
        assert_eq!(bye.uri.to_wire(), "sip:a@192.0.2.9:5070");
        assert_eq!(
            bye.headers.list("Route").collect::<Vec<_>>(),
            ["<sip:192.0.2.1;lr>", "<sip:192.0.2.2:5080;lr>"]
        );
        assert_eq!(
            dialog.next_hop(Hop::udp("127.0.0.1:1".parse().unwrap())).to_string(),
            "UDP/192.0.2.1:5060"
        );
    }

    #[test]
    fn a_strict_router_stands_in_the_request_line_and_the_target_comes_last() {
        let mut dialog = incoming("Record-Route: <sip:192.0.2.1>, <sip:192.0.2.2;lr>\r\n");
        let bye = dialog.next_request(Method::Bye);
        assert_eq!(bye.uri.to_wire(), "sip:192.0.2.1");
        assert_eq!(
            bye.headers.list("Route").collect::<Vec<_>>(),
            ["<sip:192.0.2.2;lr>", "<sip:a@192.0.2.9:5070>"]
        );
    }

    #[test]
    fn a_request_out_of_order_is_noticed() {
        let mut dialog = incoming("");
        assert!(!dialog.count_remote(7));
        assert!(dialog.count_remote(9));
        assert!(!dialog.count_remote(8));
    }
}
