//! Requests sent and answered: the transactions of an agent, with credentials and alarms.

use std::time::Instant;

use bytes::Bytes;

use super::UserAgent;
use super::event::{DialogKey, Failure, FailureCause, SipEvent};
use super::tables::{Client, Owner, Purpose, Server, ServerKey};
use crate::digest::{Advice, Attempts, ClientAuth, Credentials, Subject};
use crate::message::{CSeq, Headers, Hop, Method, Request, Response, Transport, Via};
use crate::transaction::{ClientTx, OnServerTimeout, OnTimeout, ServerTx};

impl UserAgent {
    /// Sends a request that has everything but its Via. Returns the id of its transaction.
    pub(super) fn start(
        &mut self,
        now: Instant,
        request: Request,
        to: Hop,
        purpose: Purpose,
        attempts: Attempts,
    ) -> u64 {
        let branch = format!("z9hG4bK{}", self.token(12));
        self.start_with_branch(now, request, branch, to, purpose, attempts)
    }

    pub(super) fn start_with_branch(
        &mut self,
        now: Instant,
        mut request: Request,
        branch: String,
        to: Hop,
        purpose: Purpose,
        attempts: Attempts,
    ) -> u64 {
        request.headers.push_front("Via", self.via(to.transport, &branch).to_wire());
        let bytes = request.to_bytes();
        let reliable = to.transport.is_reliable();
        let tx = if request.method == Method::Invite {
            ClientTx::invite(now, self.config.timers, reliable)
        } else {
            ClientTx::other(now, self.config.timers, reliable)
        };
        let id = self.id();
        self.send(to, bytes.clone());
        self.clients.insert(
            id,
            Client { tx, request, branch, bytes, to, purpose, ack: None, attempts, sent_at: now },
        );
        self.rearm_client(id);
        id
    }

    /// Makes our Via for a request over `transport`.
    pub(super) fn via(&self, transport: Transport, branch: &str) -> Via {
        Via::new(transport.via_name(), self.config.local_for(transport), branch)
    }

    /// Puts a Via on an ACK and sends it. Returns its bytes, for the copies of what it acknowledges.
    pub(super) fn send_ack(&mut self, mut ack: Request, to: Hop) -> Bytes {
        let branch = format!("z9hG4bK{}", self.token(12));
        ack.headers.push_front("Via", self.via(to.transport, &branch).to_wire());
        let bytes = ack.to_bytes();
        self.send(to, bytes.clone());
        bytes
    }

    /// Sends a refused request again with the credentials asked for, if that makes sense.
    ///
    /// Returns the new transaction, or `None` when the refusal stands.
    pub(super) fn retry_with_credentials(
        &mut self,
        now: Instant,
        id: u64,
        credentials: &Option<Credentials>,
        auth: &mut ClientAuth,
        response: &Response,
        number: u32,
    ) -> Option<u64> {
        let credentials = credentials.as_ref().or(self.config.credentials.as_ref())?.clone();
        let cnonce = self.token(8);
        let client = self.clients.get_mut(id)?;
        let mut attempts = client.attempts.clone();
        if auth.handle_challenge(&response.headers, &mut attempts, &cnonce) == Advice::GiveUp {
            return None;
        }
        let mut request = client.request.clone();
        let (to, purpose) = (client.to, client.purpose);
        let vias: Vec<String> = request.headers.list("Via").skip(1).map(str::to_owned).collect();
        request.headers.remove("Via");
        for via in vias.iter().rev() {
            request.headers.push_front("Via", via);
        }
        request.headers.set("CSeq", CSeq { number, method: request.method.clone() }.to_wire());
        authorize(auth, &credentials, &mut request);
        Some(self.start(now, request, to, purpose, attempts))
    }

    /// Puts credentials for every challenge of the call so far into a request.
    pub(super) fn authorize(
        &self,
        credentials: &Option<Credentials>,
        auth: &mut ClientAuth,
        request: &mut Request,
    ) {
        if let Some(credentials) = credentials.as_ref().or(self.config.credentials.as_ref()) {
            authorize(auth, credentials, request);
        }
    }

    pub(super) fn handle_client_timeout(&mut self, now: Instant, id: u64) {
        let Some(client) = self.clients.get_mut(id) else { return };
        match client.tx.handle_timeout(now) {
            OnTimeout::Nothing => self.rearm_client(id),
            OnTimeout::Resend => {
                let (to, bytes) = (client.to, client.bytes.clone());
                self.send_again(to, bytes);
                self.rearm_client(id);
            }
            OnTimeout::GiveUp => {
                let failure = Failure::here(FailureCause::Unreachable, "nobody answers at the next hop");
                self.end_client(now, id, Some(failure));
            }
            OnTimeout::Ended => self.end_client(now, id, None),
        }
    }

    /// Forgets a transaction; with `failure`, it never got a final answer.
    pub(super) fn end_client(&mut self, now: Instant, id: u64, failure: Option<Failure>) {
        let Some(client) = self.clients.remove(id) else { return };
        self.alarms.set(Owner::Client(id), None);
        match (client.purpose, failure) {
            (Purpose::Invite(key), failure) => self.handle_invite_end(now, id, key, failure),
            (Purpose::Bye(key), Some(_)) => self.finish(key, SipEvent::Ended { key: DialogKey(key) }),
            (Purpose::Options, Some(failure)) => {
                let why = failure.reason.unwrap_or_default();
                self.tell(SipEvent::OptionsUnanswered { to: client.to.addr, why });
            }
            (Purpose::Register(trunk), Some(failure)) => {
                self.handle_register_failure(now, trunk, id, failure, None);
            }
            (Purpose::Exchange(key), Some(_)) => self.handle_exchange_lost(now, id, key),
            (Purpose::Refer(key), Some(_)) => self.handle_refer_response(now, id, key, None),
            (Purpose::Bye(_) | Purpose::Options | Purpose::Register(_), None) => {}
            (Purpose::Digit(key), Some(_)) => self.handle_digit_response(now, id, key, None),
            (Purpose::Exchange(_) | Purpose::Refer(_) | Purpose::Digit(_), None) => {}
            (Purpose::Cancel | Purpose::StrayBye | Purpose::Prack(_) | Purpose::Notify, _) => {}
        }
    }

    pub(super) fn rearm_client(&mut self, id: u64) {
        let alarm = self.clients.get(id).and_then(|client| client.tx.poll_timeout());
        self.alarms.set(Owner::Client(id), alarm);
    }

    /// Begins to answer a request.
    pub(super) fn open_server(&mut self, from: Hop, key: ServerKey, request: Request) -> u64 {
        let id = self.id();
        let reply_to = reply_to(&request.headers, from);
        let (timers, reliable) = (self.config.timers, from.transport.is_reliable());
        let tx = if request.method == Method::Invite {
            ServerTx::invite(timers, reliable)
        } else {
            ServerTx::other(timers, reliable)
        };
        self.servers.insert(id, Server { tx, key, request, last: None, reply_to, call: None });
        id
    }

    /// Begins an answer to an open request.
    pub(super) fn response(&self, id: u64, code: u16, phrase: &str) -> Option<Response> {
        let mut response = Response::answer(&self.servers.get(id)?.request.headers, code, phrase);
        response.headers.push("Server", &self.config.user_agent);
        Some(response)
    }

    /// Sends an answer. Returns its bytes and where they went, unless a final one went out before.
    pub(super) fn respond(&mut self, now: Instant, id: u64, response: &Response) -> Option<(Bytes, Hop)> {
        let server = self.servers.get_mut(id)?;
        if !server.tx.respond(now, response.code) {
            return None;
        }
        let bytes = response.to_bytes();
        server.last = Some(bytes.clone());
        let to = server.reply_to;
        let over = server.tx.is_terminated();
        self.send(to, bytes.clone());
        if over {
            self.servers.remove(id);
            self.alarms.set(Owner::Server(id), None);
        } else {
            self.rearm_server(id);
        }
        Some((bytes, to))
    }

    /// Opens a transaction and answers it at once.
    pub(super) fn answer(
        &mut self,
        now: Instant,
        from: Hop,
        key: ServerKey,
        request: Request,
        answer: Answer<'_>,
    ) {
        self.answer_with_body(now, from, key, request, answer, Bytes::new());
    }

    /// As [`Self::answer`], with a body.
    pub(super) fn answer_with_body(
        &mut self,
        now: Instant,
        from: Hop,
        key: ServerKey,
        request: Request,
        answer: Answer<'_>,
        body: Bytes,
    ) {
        let id = self.open_server(from, key, request);
        let Some(mut response) = self.response(id, answer.code, answer.phrase) else { return };
        response.body = body;
        for (name, value) in answer.headers {
            response.headers.push(name, value);
        }
        let tag = self.token(8);
        response.tag_to(&tag);
        self.respond(now, id, &response);
    }

    /// Answers without remembering it: for what needs no state, and for strangers.
    pub(super) fn answer_without_state(
        &mut self,
        headers: &Headers,
        from: Hop,
        code: u16,
        phrase: &str,
        more: &[(&str, &str)],
    ) {
        let mut response = Response::answer(headers, code, phrase);
        let tag = self.token(8);
        response.tag_to(&tag);
        for (name, value) in more {
            response.headers.push(name, value);
        }
        let to = reply_to(headers, from);
        let bytes = response.to_bytes();
        // A forged source must not turn us into an amplifier.
        if bytes.len() > self.heard_bytes && !self.is_known(from) {
            self.stats.dropped += 1;
            return;
        }
        self.send(to, bytes);
    }

    pub(super) fn handle_server_timeout(&mut self, now: Instant, id: u64) {
        let Some(server) = self.servers.get_mut(id) else { return };
        match server.tx.handle_timeout(now) {
            OnServerTimeout::Nothing => self.rearm_server(id),
            OnServerTimeout::Resend => {
                if let Some(bytes) = server.last.clone() {
                    let to = server.reply_to;
                    self.send_again(to, bytes);
                }
                self.rearm_server(id);
            }
            OnServerTimeout::Ended => self.servers.remove(id),
        }
    }

    pub(super) fn rearm_server(&mut self, id: u64) {
        let alarm = self.servers.get(id).and_then(|server| server.tx.poll_timeout());
        self.alarms.set(Owner::Server(id), alarm);
    }
}

/// Returns where an answer goes: by datagram as Via says, on a connection back the way it came (§18.2.2).
pub(super) fn reply_to(headers: &Headers, from: Hop) -> Hop {
    match (from.transport.is_reliable(), headers.top_via()) {
        (false, Some(via)) => Hop::udp(via.reply_to(from.addr)),
        (true, _) | (_, None) => from,
    }
}

/// What to answer at once.
pub(super) struct Answer<'a> {
    pub(super) code: u16,
    pub(super) phrase: &'a str,
    pub(super) headers: &'a [(&'a str, &'a str)],
}

fn authorize(auth: &mut ClientAuth, credentials: &Credentials, request: &mut Request) {
    let (uri, body) = (request.uri.to_wire(), request.body.clone());
    let method = request.method.clone();
    let subject = Subject { method: method.as_str(), uri: &uri, body: &body };
    auth.authorize(credentials, subject, &mut request.headers);
}

/// Writes into the topmost Via where the request came from, so that every answer carries it.
pub(super) fn note_source(headers: &mut Headers, mut via: Via, from: Hop) {
    via.note_source(from.addr);
    let below: Vec<String> = headers.list("Via").skip(1).map(str::to_owned).collect();
    headers.remove("Via");
    for via in below.iter().rev() {
        headers.push_front("Via", via);
    }
    headers.push_front("Via", via.to_wire());
}
