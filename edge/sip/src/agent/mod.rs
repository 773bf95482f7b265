//! The user agent: messages and time in, messages and events out.

mod call;
mod config;
mod dialog;
mod digit;
mod event;
mod exchange;
mod in_dialog;
mod register;
mod registrar;
mod reliable;
mod session;
mod strangers;
mod tables;
mod transfer;
mod uac;
mod uas;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub use config::{
    Account, CommandError, InboundAuth, InviteRequest, RegisterRequest, Reliability, SessionTimers, UaConfig,
};
pub use event::{
    CallNews, DialogKey, Failure, FailureCause, Gauges, HangupReason, Output, SipEvent, Stats, TransferStep,
};
pub use registrar::{Binding, RegistrarConfig};
pub use transfer::Replaces;

use call::{Call, Phase};
use exchange::note_source;
use register::Registration;
use registrar::Registrar;
use strangers::Strangers;
use tables::{Alarms, Clients, Ended, Owner, Purpose, ServerKey, Servers};

use crate::digest::{Attempts, Verifier};
use crate::message::{
    CSeq, Headers, Hop, Message, Method, NameAddr, ParseError, Request, Response, Uri, Via,
};
use crate::transaction::{OnAck, OnResponse};

/// Methods that are answered with more than a 405.
const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, PRACK, UPDATE, INFO, REFER, NOTIFY";
/// Extensions that a request may require of us.
const SUPPORTED: &str = "100rel, replaces, timer";
const REPLACES_IS_FOR_INVITE: &str = "Replaces is for an INVITE that begins a call";
/// Requests of others under way at most; beyond it new ones are ignored.
const MAX_SERVERS: usize = 8_192;
/// A SIP endpoint: calls out and in, pings, registrations.
///
/// After every `handle_*` call and every command, drain [`Self::poll_output`]; then wait for a datagram or for
/// [`Self::poll_timeout`], whichever comes first. The crate's front page has the loop.
pub struct UserAgent {
    config: UaConfig,
    rng: StdRng,
    outputs: VecDeque<Output>,
    alarms: Alarms,
    clients: Clients,
    servers: Servers,
    calls: BTreeMap<u64, Call>,
    /// Calls whose end was not told yet.
    live_calls: usize,
    /// Call-ID and our tag name a call, whatever the other side's tag.
    by_dialog: HashMap<(String, String), u64>,
    /// Call-ID, their tag and number of each INVITE that rings here, to notice one that came two ways.
    ringing_here: HashMap<(String, String, u32), u64>,
    registrations: BTreeMap<u16, Registration>,
    verifier: Option<Verifier>,
    /// Where telephones are that register here; made when the first one does.
    registrar: Option<Registrar>,
    strangers: Strangers,
    /// Dialogs that ended not long ago.
    ended: Ended,
    next_id: u64,
    stats: Stats,
    /// Bytes of the datagram being taken in: a stranger gets no more back.
    heard_bytes: usize,
}

impl UserAgent {
    /// Makes an agent. `seed` must be random outside tests: tags, branches and nonces come from it.
    pub fn new(config: UaConfig, seed: [u8; 32]) -> Self {
        Self {
            config,
            rng: StdRng::from_seed(seed),
            outputs: VecDeque::new(),
            alarms: Alarms::default(),
            clients: Clients::default(),
            servers: Servers::default(),
            calls: BTreeMap::new(),
            live_calls: 0,
            by_dialog: HashMap::new(),
            ringing_here: HashMap::new(),
            registrations: BTreeMap::new(),
            verifier: None,
            registrar: None,
            strangers: Strangers::new(),
            ended: Ended::default(),
            next_id: 0,
            stats: Stats::default(),
            heard_bytes: 0,
        }
    }

    /// Takes in a datagram. Whatever is in it, the worst it does is to be counted.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        self.handle_message(now, Hop::udp(from), bytes);
    }

    /// Takes in one message from any transport; those of a connection are cut by [`crate::stream::Framer`].
    pub fn handle_message(&mut self, now: Instant, from: Hop, bytes: &[u8]) {
        self.stats.received += 1;
        self.heard_bytes = bytes.len();
        match Message::parse(bytes) {
            Ok(Message::Request(request)) => self.handle_request(now, from, request),
            Ok(Message::Response(response)) => self.handle_response(now, response),
            Err(ParseError::KeepAlive) => {}
            Err(ParseError::NotSip(what)) => {
                self.stats.malformed += 1;
                tracing::trace!(what, "Datagram ignored: {what}");
            }
            Err(ParseError::BadRequest { code, what, method, headers }) => {
                self.stats.malformed += 1;
                tracing::debug!(code, what, "Bad request: {what}");
                // An ACK is never answered, and a stranger only so often.
                if method != "ACK" && self.may_answer(now, from) {
                    let mut headers = *headers;
                    if let Some(via) = headers.top_via() {
                        note_source(&mut headers, via, from);
                        self.answer_without_state(&headers, from, code, what, &[]);
                    }
                }
            }
        }
    }

    /// Does everything that was due at `now`. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(owner) = self.alarms.pop_due(now) {
            match owner {
                Owner::Client(id) => self.handle_client_timeout(now, id),
                Owner::Server(id) => self.handle_server_timeout(now, id),
                Owner::Call(key) => self.handle_call_timeout(now, key),
                Owner::Registration(trunk) => self.handle_registration_timeout(now, trunk),
            }
        }
    }

    /// Takes in that no datagram can be sent to `to` now: every request there without an answer fails at once.
    pub fn handle_send_error(&mut self, now: Instant, to: SocketAddr, kind: io::ErrorKind) {
        self.handle_transport_error(now, Hop::udp(to), &kind.to_string());
    }

    /// As [`Self::handle_send_error`], for a connection that could not be made or broke: `what` is why, such as a
    /// certificate that does not fit.
    pub fn handle_transport_error(&mut self, now: Instant, to: Hop, what: &str) {
        for id in self.clients.unheard_at(to) {
            let Some(client) = self.clients.get_mut(id) else { continue };
            client.tx.terminate();
            let failure =
                Failure::here(FailureCause::Unreachable, &format!("the next hop cannot be reached: {what}"));
            self.end_client(now, id, Some(failure));
        }
        self.renew_registrations_at(now, to);
        if let Some(registrar) = self.registrar.as_mut().filter(|_| to.transport.is_reliable()) {
            registrar.handle_lost(to);
        }
    }

    /// Lets calls be taken from one more address, such as that of a trunk whose name was looked up.
    pub fn allow_peer(&mut self, ip: std::net::IpAddr) {
        let peers = self.config.allowed_peers.get_or_insert_default();
        if !peers.contains(&ip) {
            peers.push(ip);
        }
    }

    /// Lets an address move the calls that go through it: its INVITEs may take their place (RFC 3891).
    pub fn allow_replacing(&mut self, ip: std::net::IpAddr) {
        if !self.config.may_replace.contains(&ip) {
            self.config.may_replace.push(ip);
        }
    }

    /// Returns the next datagram to send or event to tell.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when to call [`Self::handle_timeout`] next, and why, for the log.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.alarms.next()
    }

    /// Asks `to` whether it is alive; [`SipEvent::OptionsAnswered`] or [`SipEvent::OptionsUnanswered`] follows.
    pub fn options(&mut self, now: Instant, to: SocketAddr) {
        self.options_over(now, Hop::new(self.config.transport, to));
    }

    /// As [`Self::options`], over a transport of choice.
    pub fn options_over(&mut self, now: Instant, to: Hop) {
        let target = Uri::at("", to.addr);
        let domain = self.config.domain.clone();
        let from = self.from(&self.config.contact_user.clone(), None, domain.as_deref(), to);
        let mut request = self.request(Method::Options, target.clone(), from, NameAddr::new(target), to, 1);
        request.headers.push("Accept", "application/sdp");
        self.start(now, request, to, Purpose::Options, Attempts::default());
    }

    /// Returns the SIP Call-ID of a call, while its key is known.
    pub fn call_id(&self, key: DialogKey) -> Option<&str> {
        self.calls.get(&key.0).map(|call| call.call_id.as_str())
    }

    /// Returns how much is in the tables.
    pub fn gauges(&self) -> Gauges {
        Gauges {
            calls: self.live_calls,
            lingering_calls: self.calls.len() - self.live_calls,
            client_transactions: self.clients.len(),
            server_transactions: self.servers.len(),
            strangers: self.strangers.len(),
        }
    }

    /// Returns what was counted since the start.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Tells whether no call and no transaction is left.
    pub fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.clients.len() == 0 && self.servers.len() == 0
    }

    // --- responses ---------------------------------------------------------------------------------------

    fn handle_response(&mut self, now: Instant, response: Response) {
        let (Some(via), Some(cseq)) = (response.headers.top_via(), response.headers.cseq()) else { return };
        let found = via.branch().and_then(|branch| self.clients.find(&branch, &cseq.method));
        let Some((id, client)) = found.and_then(|id| Some((id, self.clients.get_mut(id)?))) else {
            self.stats.unmatched += 1;
            return;
        };
        let verdict = client.tx.handle_response(now, response.code);
        match verdict {
            OnResponse::Deliver => {}
            OnResponse::AckAndDeliver => self.ack_refusal(id, &response),
            OnResponse::AckAgain => {
                if let Some((bytes, to)) = client.ack.clone().map(|ack| (ack, client.to)) {
                    self.send_again(to, bytes);
                }
                return;
            }
            OnResponse::Absorb => return,
        }
        self.rearm_client(id);
        let Some(client) = self.clients.get(id) else { return };
        let (purpose, to, sent_at) = (client.purpose, client.to, client.sent_at);
        match purpose {
            Purpose::Invite(key) => self.handle_invite_response(now, id, key, &response),
            Purpose::Options if response.code >= 200 => {
                let rtt = now.saturating_duration_since(sent_at);
                self.tell(SipEvent::OptionsAnswered { to: to.addr, code: response.code, rtt });
            }
            Purpose::Bye(key) if response.code >= 200 => self.handle_bye_response(now, id, key, &response),
            Purpose::Register(trunk) if response.code >= 200 => {
                self.handle_register_response(now, trunk, id, &response);
            }
            Purpose::Exchange(key) => self.handle_exchange_response(now, id, key, &response),
            Purpose::Prack(key) => self.handle_prack_response(now, id, key, &response),
            Purpose::Refer(key) if response.code >= 200 => {
                self.handle_refer_response(now, id, key, Some(&response));
            }
            Purpose::Digit(key) if response.code >= 200 => {
                self.handle_digit_response(now, id, key, Some(&response));
            }
            Purpose::Cancel
            | Purpose::StrayBye
            | Purpose::Options
            | Purpose::Bye(_)
            | Purpose::Register(_)
            | Purpose::Refer(_)
            | Purpose::Digit(_)
            | Purpose::Notify => {}
        }
        if self.clients.get(id).is_some_and(|client| client.tx.is_terminated()) {
            self.end_client(now, id, None);
        }
    }

    /// Acknowledges a refused INVITE on its own transaction (RFC 3261 §17.1.1.3).
    fn ack_refusal(&mut self, id: u64, response: &Response) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let invite = &client.request;
        let mut headers = Headers::default();
        if let Some(via) = invite.headers.list("Via").next() {
            headers.push("Via", via);
        }
        headers.copy(&invite.headers, "Route");
        headers.push("Max-Forwards", "70");
        headers.copy(&invite.headers, "From");
        headers.copy(&response.headers, "To");
        headers.copy(&invite.headers, "Call-ID");
        let number = invite.headers.cseq().map(|cseq| cseq.number).unwrap_or_default();
        headers.push("CSeq", CSeq { number, method: Method::Ack }.to_wire());
        let ack =
            Request { method: Method::Ack, uri: invite.uri.clone(), headers, body: Bytes::new() }.to_bytes();
        client.ack = Some(ack.clone());
        let to = client.to;
        self.send(to, ack);
    }

    // --- requests ----------------------------------------------------------------------------------------

    fn handle_request(&mut self, now: Instant, from: Hop, mut request: Request) {
        let Some(via) = request.headers.top_via() else { return };
        let matched = if request.method == Method::Ack { Method::Invite } else { request.method.clone() };
        let key = ServerKey::of(&request, &via, &matched);
        note_source(&mut request.headers, via, from);

        if let Some(id) = self.servers.find(&key) {
            self.handle_copy(now, from, id, request);
            return;
        }
        if request.method == Method::Ack {
            self.handle_dialog_ack(now, &request);
            return;
        }
        if self.servers.len() >= MAX_SERVERS {
            self.stats.dropped += 1;
            return;
        }
        if request.method == Method::Cancel {
            let invite =
                ServerKey::of(&request, &request.headers.top_via().unwrap_or_else(no_via), &Method::Invite);
            self.handle_cancel(now, from, key, &invite, request);
            return;
        }
        if let Some(to_tag) = request.headers.to().and_then(|to| to.tag()) {
            self.handle_in_dialog(now, from, key, &to_tag, request);
            return;
        }
        if request.method == Method::Register && self.config.registrar.is_some() {
            self.handle_register(now, from, key, request);
            return;
        }
        if !self.is_known(from) {
            if self.may_answer(now, from) {
                self.stats.refused += 1;
                self.answer_without_state(&request.headers, from, 403, "Forbidden", &[]);
            }
            return;
        }
        self.handle_out_of_dialog(now, from, key, request);
    }

    fn handle_copy(&mut self, now: Instant, from: Hop, id: u64, request: Request) {
        let Some(server) = self.servers.get_mut(id) else { return };
        if request.method == Method::Ack {
            if server.tx.handle_ack(now) == OnAck::Deliver {
                self.handle_dialog_ack(now, &request);
            }
            self.rearm_server(id);
            return;
        }
        if server.tx.handle_copy()
            && let Some(bytes) = server.last.clone()
        {
            let to = server.reply_to;
            tracing::trace!(%from, "Request came again, answered again");
            self.send_again(to, bytes);
        }
    }

    fn handle_out_of_dialog(&mut self, now: Instant, from: Hop, key: ServerKey, request: Request) {
        // What is required and not spoken is refused by name (RFC 3261 §8.2.2.3).
        let required = unknown_extensions(&request.headers);
        if !required.is_empty() {
            self.answer_without_state(
                &request.headers,
                from,
                420,
                "Bad Extension",
                &[("Unsupported", &required)],
            );
            return;
        }
        if names_a_call_in_vain(&request) {
            self.answer_without_state(&request.headers, from, 400, REPLACES_IS_FOR_INVITE, &[]);
            return;
        }
        match &request.method {
            Method::Invite => self.handle_invite(now, from, key, request),
            Method::Options => {
                let more = [("Allow", ALLOW), ("Accept", "application/sdp"), ("Supported", SUPPORTED)];
                self.answer_without_state(&request.headers, from, 200, "OK", &more);
            }
            Method::Bye | Method::Update | Method::Info | Method::Prack | Method::Notify => {
                self.answer_without_state(
                    &request.headers,
                    from,
                    481,
                    "Call/Transaction Does Not Exist",
                    &[],
                );
            }
            Method::Subscribe | Method::Publish => {
                self.answer_without_state(&request.headers, from, 489, "Bad Event", &[]);
            }
            Method::Ack | Method::Cancel => {}
            Method::Register | Method::Refer | Method::Message | Method::Other(_) => {
                let more = [("Allow", ALLOW)];
                self.answer_without_state(&request.headers, from, 405, "Method Not Allowed", &more);
            }
        }
    }

    /// Tells whether requests out of the blue are taken from there.
    fn is_known(&self, from: Hop) -> bool {
        let listed = self.config.allowed_peers.as_ref().is_some_and(|peers| peers.contains(&from.addr.ip()));
        listed || self.config.trunk.is_some_and(|trunk| trunk.ip() == from.addr.ip())
    }

    /// Tells whether a faulty or unwanted request is answered at all: a stranger's only so often.
    fn may_answer(&mut self, now: Instant, from: Hop) -> bool {
        let may = self.is_known(from) || self.strangers.take(now, from.addr.ip());
        self.stats.dropped += u64::from(!may);
        may
    }

    /// Tells whether calls are taken from there: the trunk must be listed for that, too.
    fn may_call(&self, from: Hop) -> bool {
        self.config.allowed_peers.as_ref().is_some_and(|peers| peers.contains(&from.addr.ip()))
    }

    // --- calls -------------------------------------------------------------------------------------------

    fn insert_call(&mut self, call: Call) {
        self.by_dialog.insert((call.call_id.clone(), call.local_tag.clone()), call.key);
        self.live_calls += 1;
        self.put_back(call);
    }

    /// Puts a call back that was taken out to work on it.
    fn put_back(&mut self, call: Call) {
        self.alarms.set(Owner::Call(call.key), call.alarm());
        self.calls.insert(call.key, call);
    }

    /// Tells the end of a call, and keeps it only if late answers to its INVITE may still come.
    fn finish(&mut self, key: u64, event: SipEvent) {
        let Some(mut call) = self.calls.remove(&key) else { return };
        self.end_call(&mut call, event);
        self.keep_or_forget(call);
    }

    /// As [`Self::finish`], for a call that was taken out; it must be kept or forgotten afterwards.
    fn end_call(&mut self, call: &mut Call, event: SipEvent) {
        if matches!(call.phase, Phase::Lingering { .. }) {
            return;
        }
        match &call.phase {
            Phase::Offered(offered) => self.forget_ringing(offered.server),
            Phase::Up(up) => self.ended.note(&call.call_id, &call.local_tag, &up.dialog.remote_tag()),
            Phase::Leaving { dialog } => {
                self.ended.note(&call.call_id, &call.local_tag, &dialog.remote_tag());
            }
            Phase::Calling(_) | Phase::Lingering { .. } => {}
        }
        call.phase = Phase::Lingering { until: None, cancel_on_progress: false };
        self.live_calls = self.live_calls.saturating_sub(1);
        self.tell(event);
    }

    fn keep_or_forget(&mut self, call: Call) {
        if matches!(call.phase, Phase::Lingering { .. }) && call.invite.is_none() {
            self.by_dialog.remove(&(call.call_id.clone(), call.local_tag.clone()));
            self.alarms.set(Owner::Call(call.key), None);
        } else {
            self.put_back(call);
        }
    }

    // --- small things ------------------------------------------------------------------------------------

    /// Begins a request outside a dialog, without Via.
    fn request(
        &mut self,
        method: Method,
        uri: Uri,
        from: NameAddr,
        to: NameAddr,
        next_hop: Hop,
        number: u32,
    ) -> Request {
        let mut headers = Headers::default();
        headers.push("Max-Forwards", "70");
        headers.push("From", from.to_wire());
        headers.push("To", to.to_wire());
        headers.push("Call-ID", self.token(16));
        headers.push("CSeq", CSeq { number, method: method.clone() }.to_wire());
        headers.push("Contact", self.contact(next_hop.transport).to_wire());
        headers.push("User-Agent", &self.config.user_agent);
        Request { method, uri, headers, body: Bytes::new() }
    }

    /// Makes our From with a fresh tag, at `host` or else at the next hop.
    fn from(&mut self, user: &str, display: Option<String>, host: Option<&str>, next_hop: Hop) -> NameAddr {
        let named = host.and_then(|host| Uri::sip(user, host).ok());
        let uri = named.unwrap_or_else(|| {
            let mut uri = Uri::at(user, next_hop.addr);
            uri.port = None;
            uri
        });
        let tag = self.token(8);
        NameAddr { display, uri, params: Default::default() }.with_tag(&tag)
    }

    fn send(&mut self, to: Hop, bytes: Bytes) {
        self.stats.sent += 1;
        self.outputs.push_back(Output::Send { transport: to.transport, to: to.addr, bytes });
    }

    fn send_again(&mut self, to: Hop, bytes: Bytes) {
        self.stats.resent += 1;
        self.send(to, bytes);
    }

    fn tell(&mut self, event: SipEvent) {
        self.outputs.push_back(Output::Event(event));
    }

    fn tell_news(&mut self, key: DialogKey, news: CallNews) {
        self.outputs.push_back(Output::News { key, news });
    }

    fn token(&mut self, bytes: usize) -> String {
        (0..bytes).map(|_| format!("{:02x}", self.rng.random::<u8>())).collect()
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

/// Tells whether a request says Replaces that may not: only an INVITE that begins a call takes one's place
/// (RFC 3891 §3).
fn names_a_call_in_vain(request: &Request) -> bool {
    let begins =
        request.method == Method::Invite && request.headers.to().is_some_and(|to| to.tag().is_none());
    !begins && request.headers.get("Replaces").is_some()
}

/// Returns what a request requires and we do not speak, as Unsupported names it.
fn unknown_extensions(headers: &Headers) -> String {
    let known = |wanted: &str| SUPPORTED.split(", ").any(|have| have.eq_ignore_ascii_case(wanted));
    headers.list("Require").filter(|wanted| !known(wanted)).collect::<Vec<_>>().join(", ")
}

fn no_via() -> Via {
    Via::new("UDP", SocketAddr::from(([0, 0, 0, 0], 0)), "")
}

#[cfg(test)]
mod tests;
