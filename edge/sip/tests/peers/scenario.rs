//! Scenarios for SIPp, put together step by step, so that each test shows what its peer does.
//!
//! SIPp's `[last_…]` speaks of the message that came last; the headers of the first INVITE are kept in variables,
//! because its final answer often comes after a PRACK or a CANCEL.

use std::fmt::Write;

const SDP: &str = "v=0\no=peer 1 1 IN IP4 [media_ip]\ns=-\nc=IN IP4 [media_ip]\nt=0 0\n\
    m=audio [media_port] RTP/AVP 8 101\na=rtpmap:8 PCMA/8000\na=rtpmap:101 telephone-event/8000\na=ptime:20\n";

/// The headers by which an answer repeats the way that the INVITE of [`Scenario::called_by_proxy`] took.
pub(crate) const ROUTED: &str = "Via:[$behind]\n[$route]";

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Called,
    Calling,
}

/// What a message carries.
#[derive(Clone, Copy)]
pub(crate) enum Body<'a> {
    None,
    Sdp,
    /// A session description with one more attribute, such as `a=sendonly`.
    SdpWith(&'a str),
    /// Any other: its type and its text.
    Other(&'a str, &'a str),
}

pub(crate) struct Scenario {
    role: Role,
    steps: String,
    checks: usize,
}

impl Scenario {
    /// A peer that is called: it has the INVITE already when the next step begins.
    pub(crate) fn called() -> Self {
        let mut called = Self { role: Role::Called, steps: String::new(), checks: 0 };
        called.recv_invite();
        called
    }

    /// As [`Self::called`], behind a proxy that stays in the path: an answer needs [`ROUTED`] among its headers.
    pub(crate) fn called_by_proxy() -> Self {
        let mut called = Self::asked();
        let headers = [("Via", "via"), ("From", "from"), ("To", "to"), ("CSeq", "cseq")];
        // SIPp looks at the first header of a name only.
        let line = "Record-Route: [^[:cntrl:]]*";
        let more = format!(
            "<ereg regexp=\" .*\" search_in=\"hdr\" header=\"Via:\" occurrence=\"2\" check_it=\"true\" \
             assign_to=\"behind\"/><ereg regexp=\"{line}([[:cntrl:]]+{line})*\" search_in=\"msg\" \
             check_it=\"true\" assign_to=\"route\"/>"
        );
        called.recv_keeping(&headers, &more);
        called
    }

    /// A peer that calls: it has sent the INVITE already when the next step begins.
    pub(crate) fn calling(headers: &str, body: Body<'_>) -> Self {
        let mut calling = Self { role: Role::Calling, steps: String::new(), checks: 0 };
        calling.request("INVITE", 1, headers, body);
        calling
    }

    /// A peer that is asked for something else than a call.
    pub(crate) fn asked() -> Self {
        Self { role: Role::Called, steps: String::new(), checks: 0 }
    }

    fn recv_invite(&mut self) {
        self.recv_keeping(&[("Via", "via"), ("From", "from"), ("To", "to"), ("CSeq", "cseq")], "");
    }

    fn recv_keeping(&mut self, headers: &[(&str, &str)], more: &str) {
        let mut kept = more.to_owned();
        for (name, into) in headers {
            let _ = write!(
                kept,
                "<ereg regexp=\" .*\" search_in=\"hdr\" header=\"{name}:\" check_it=\"true\" assign_to=\"{into}\"/>"
            );
        }
        let _ = writeln!(self.steps, "<recv request=\"INVITE\" rrs=\"true\"><action>{kept}</action></recv>");
    }

    /// Waits for an INVITE that begins the call anew, such as one with credentials.
    pub(crate) fn recv_invite_again(mut self) -> Self {
        self.recv_invite();
        self
    }

    /// Waits for an INVITE within the call and keeps what its refusal needs.
    pub(crate) fn recv_reinvite(mut self) -> Self {
        self.recv_keeping(&[("Via", "via"), ("CSeq", "cseq")], "");
        self
    }

    /// Waits for a request.
    pub(crate) fn recv(self, method: &str) -> Self {
        self.step(&format!("<recv request=\"{method}\"/>"))
    }

    /// Waits for a request in whose header `name` stands what `expression` matches.
    pub(crate) fn recv_with(mut self, method: &str, name: &str, expression: &str) -> Self {
        self.checks += 1;
        let found = format!("found{}", self.checks);
        let expression = expression.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
        let (place, header) =
            if name.is_empty() { ("body", String::new()) } else { ("hdr", format!(" header=\"{name}:\"")) };
        self.step(&format!(
            "<recv request=\"{method}\"><action><ereg regexp=\"{expression}\" search_in=\"{place}\"{header} \
             check_it=\"true\" assign_to=\"{found}\"/></action></recv>\n<Reference variables=\"{found}\"/>"
        ))
    }

    /// Waits for an answer.
    pub(crate) fn recv_code(self, code: u16) -> Self {
        self.step(&format!("<recv response=\"{code}\" rrs=\"true\"/>"))
    }

    /// Waits for an answer in whose header `name` stands what `expression` matches.
    pub(crate) fn recv_header(mut self, code: u16, name: &str, expression: &str) -> Self {
        self.checks += 1;
        let found = format!("found{}", self.checks);
        self.step(&format!(
            "<recv response=\"{code}\" rrs=\"true\"><action><ereg regexp=\"{expression}\" search_in=\"hdr\" \
             header=\"{name}:\" check_it=\"true\" assign_to=\"{found}\"/></action></recv>\n\
             <Reference variables=\"{found}\"/>"
        ))
    }

    /// Waits for a reliable progress and keeps its number as `[$rseq]`.
    pub(crate) fn recv_rseq(self, code: u16) -> Self {
        self.step(&format!(
            "<recv response=\"{code}\" rrs=\"true\"><action><ereg regexp=\"[0-9]+\" search_in=\"hdr\" \
             header=\"RSeq:\" check_it=\"true\" assign_to=\"rseq\"/></action></recv>"
        ))
    }

    /// Lets an answer come or not.
    pub(crate) fn maybe_code(self, code: u16) -> Self {
        self.step(&format!("<recv response=\"{code}\" optional=\"true\"/>"))
    }

    /// Is hung up in the end; a request may come before, and is answered with `code`.
    pub(crate) fn hung_up_perhaps_after(self, method: &str, code: u16) -> Self {
        let asked = self.step(&format!("<recv request=\"{method}\" optional=\"true\" next=\"1\"/>"));
        let asked = asked.step("<recv request=\"BYE\" next=\"2\"/>\n<label id=\"1\"/>");
        let asked = asked.reply(code, "", Body::None).recv("BYE").step("<label id=\"2\"/>");
        asked.reply(200, "", Body::None)
    }

    pub(crate) fn pause(self, ms: u32) -> Self {
        self.step(&format!("<pause milliseconds=\"{ms}\"/>"))
    }

    /// Answers the request that came last.
    pub(crate) fn reply(self, code: u16, headers: &str, body: Body<'_>) -> Self {
        let head = format!(
            "SIP/2.0 {code} Phrase\n[last_Via:]\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n[last_CSeq:]\n"
        );
        self.send(&head, headers, body, "")
    }

    /// Answers the INVITE of the call.
    pub(crate) fn answer(self, code: u16, headers: &str, body: Body<'_>) -> Self {
        self.answer_as("t1", code, headers, body)
    }

    /// Answers the INVITE of the call as one of several that it was forked to.
    pub(crate) fn answer_as(self, tag: &str, code: u16, headers: &str, body: Body<'_>) -> Self {
        let head = format!(
            "SIP/2.0 {code} Phrase\nVia:[$via]\nFrom:[$from]\nTo:[$to];tag={tag}\n[last_Call-ID:]\nCSeq:[$cseq]\n\
             Contact: <sip:peer@[local_ip]:[local_port];transport=[transport]>\n"
        );
        self.send(&head, headers, body, "")
    }

    /// Refuses the request whose headers were kept last, an INVITE within the call.
    pub(crate) fn reply_kept(self, code: u16) -> Self {
        let head = format!(
            "SIP/2.0 {code} Phrase\nVia:[$via]\nFrom:[$from]\nTo:[$to];tag=t1\n[last_Call-ID:]\nCSeq:[$cseq]\n"
        );
        self.send(&head, "", Body::None, "")
    }

    /// Acknowledges the refusal that came last: its ACK belongs to the INVITE's own transaction.
    pub(crate) fn ack_refusal(self, number: u32) -> Self {
        let uri = if self.role == Role::Called { "[next_url]" } else { "sip:1001@[remote_ip]:[remote_port]" };
        let head = format!(
            "ACK {uri} SIP/2.0\n[last_Via:]\nMax-Forwards: 70\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n\
             CSeq: {number} ACK\n"
        );
        self.send(&head, "", Body::None, "")
    }

    /// Withdraws the INVITE: a CANCEL has its branch.
    pub(crate) fn cancel(self, headers: &str) -> Self {
        let head = "CANCEL sip:1001@[remote_ip]:[remote_port] SIP/2.0\n\
                    Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch-3]\nMax-Forwards: 70\n\
                    From: \"Peer\" <sip:4000@[local_ip]:[local_port]>;tag=[pid]c[call_number]\n\
                    To: <sip:1001@[remote_ip]:[remote_port]>\nCall-ID: [call_id]\nCSeq: 1 CANCEL\n";
        self.send(head, headers, Body::None, "")
    }

    /// Asks for something within the call.
    pub(crate) fn request(&mut self, method: &str, number: u32, headers: &str, body: Body<'_>) {
        let (uri, from, to) = match self.role {
            Role::Called => ("[next_url]", "From:[$to];tag=t1", "To:[$from]"),
            Role::Calling => (
                if method == "INVITE" && number == 1 {
                    "sip:1001@[remote_ip]:[remote_port]"
                } else {
                    "[next_url]"
                },
                "From: \"Peer\" <sip:4000@[local_ip]:[local_port]>;tag=[pid]c[call_number]",
                "To: <sip:1001@[remote_ip]:[remote_port]>[peer_tag_param]",
            ),
        };
        let head = format!(
            "{method} {uri} SIP/2.0\nVia: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\n\
             Max-Forwards: 70\n{from}\n{to}\nCall-ID: [call_id]\nCSeq: {number} {method}\n\
             Contact: <sip:peer@[local_ip]:[local_port];transport=[transport]>\n"
        );
        let again = if method == "ACK" { "" } else { " retrans=\"500\"" };
        let sent = std::mem::replace(self, Self { role: self.role, steps: String::new(), checks: 0 });
        *self = sent.send(&head, headers, body, again);
    }

    /// As [`Self::request`], in a chain.
    pub(crate) fn then_request(mut self, method: &str, number: u32, headers: &str, body: Body<'_>) -> Self {
        self.request(method, number, headers, body);
        self
    }

    fn send(mut self, head: &str, headers: &str, body: Body<'_>, attributes: &str) -> Self {
        let (kind, text) = match body {
            Body::None => (String::new(), String::new()),
            Body::Sdp => ("Content-Type: application/sdp\n".to_owned(), SDP.to_owned()),
            Body::SdpWith(more) => ("Content-Type: application/sdp\n".to_owned(), format!("{SDP}{more}\n")),
            Body::Other(kind, text) => (format!("Content-Type: {kind}\n"), text.to_owned()),
        };
        let headers = if headers.is_empty() { String::new() } else { format!("{headers}\n") };
        let length = if text.is_empty() { "0" } else { "[len]" };
        let _ = writeln!(
            self.steps,
            "<send{attributes}><![CDATA[\n{head}{headers}{kind}Content-Length: {length}\n\n{text}]]></send>"
        );
        self
    }

    fn step(mut self, xml: &str) -> Self {
        self.steps.push_str(xml);
        self.steps.push('\n');
        self
    }

    /// Returns the file that SIPp reads.
    pub(crate) fn to_xml(&self) -> String {
        // SIPp refuses a file with a variable that is set and never read.
        let kept = self.steps.contains("assign_to=\"via\"");
        let kept = if kept { "<Reference variables=\"via,from,to,cseq\"/>\n" } else { "" };
        let route = self.steps.contains("assign_to=\"route\"");
        let route = if route { "<Reference variables=\"route,behind\"/>\n" } else { "" };
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<scenario name=\"test\">\n{}{kept}{route}</scenario>\n",
            self.steps
        )
    }
}
