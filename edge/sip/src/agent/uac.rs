//! Calls that we make: INVITE, its answers, forks, CANCEL, BYE (RFC 3261 §9, §13, §15).

use std::time::Instant;

use super::call::{Call, Calling, Early, Phase, SentAck, Up, Withdrawn};
use super::config::{CommandError, InviteRequest, Reliability};
use super::dialog::Dialog;
use super::event::{DialogKey, Failure, FailureCause, HangupReason, SipEvent};
use super::tables::{Owner, Purpose};
use super::{ALLOW, UserAgent};
use crate::digest::{Attempts, ClientAuth};
use crate::message::{Headers, Hop, Method, NameAddr, Request, Response, Uri};
use crate::sdp::{MediaParams, SdpError, SdpOrigin};

/// Early dialogs, and 2xx answers, that one INVITE may bring at most.
const MAX_FORKS: usize = 8;
/// Headers that a caller of [`UserAgent::invite`] may not set, because the protocol does.
const RESERVED: [&str; 20] = [
    "Via",
    "From",
    "To",
    "Call-ID",
    "CSeq",
    "Contact",
    "Max-Forwards",
    "Route",
    "Record-Route",
    "Content-Length",
    "Content-Type",
    "Authorization",
    "Proxy-Authorization",
    "Allow",
    "Require",
    "User-Agent",
    "Supported",
    "Session-Expires",
    "Min-SE",
    "Replaces",
];

impl UserAgent {
    /// Begins a call.
    ///
    /// # Errors
    /// When there are too many calls, or nothing says where to send the INVITE.
    pub fn invite(&mut self, now: Instant, request: InviteRequest) -> Result<DialogKey, CommandError> {
        // Ended calls wait half a minute for late answers; they may be a few times as many as live ones.
        if self.live_calls >= self.config.max_calls || self.calls.len() >= 8 * self.config.max_calls + 64 {
            return Err(CommandError::TooManyCalls);
        }
        let next_hop = self.route(&request.to, request.next_hop, request.transport)?;
        let account = request.account.unwrap_or_default();
        let host = request.from_host.or(account.domain).or(self.config.domain.clone());
        let from = self.from(&request.from_user, request.from_display, host.as_deref(), next_hop);
        let mut origin = SdpOrigin::new(rand::Rng::random(&mut self.rng));
        let local_tag = from.tag().unwrap_or_default();
        let to = NameAddr::new(request.to.clone());
        let mut invite = self.request(Method::Invite, request.to, from, to, next_hop, 1);
        invite.headers.push("Allow", ALLOW);
        let mut supported = vec!["replaces"];
        match self.config.reliable {
            Reliability::Never => {}
            Reliability::Supported => supported.push("100rel"),
            Reliability::Required => invite.headers.push("Require", "100rel"),
        }
        if self.config.session_timers.is_some() {
            supported.push("timer");
        }
        invite.headers.push("Supported", supported.join(", "));
        self.ask_timer(&mut invite);
        if let Some(replaces) = &request.replaces {
            invite.headers.push("Require", "replaces");
            invite.headers.push("Replaces", replaces.to_wire());
        }
        for (name, value) in &request.extra_headers {
            if !RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name)) {
                invite.headers.push(name, value);
            }
        }
        invite.headers.push("Content-Type", "application/sdp");
        invite.body = origin.offer(&request.media).into();

        let key = self.id();
        let call_id = invite.headers.call_id().unwrap_or_default().to_owned();
        let tx = self.start(now, invite, next_hop, Purpose::Invite(key), Attempts::default());
        self.insert_call(Call {
            key,
            call_id,
            local_tag,
            media: request.media,
            origin,
            next_hop,
            began_here: true,
            credentials: account.credentials,
            auth: ClientAuth::default(),
            invite: Some(tx),
            acks: Vec::new(),
            phase: Phase::Calling(Calling {
                early: Vec::new(),
                trying_told: false,
                give_up_at: now + request.ring_timeout,
                withdrawn: None,
            }),
        });
        Ok(DialogKey(key))
    }

    /// Returns where a request for `to` goes first.
    pub(super) fn route(
        &self,
        to: &Uri,
        next_hop: Option<std::net::SocketAddr>,
        transport: Option<crate::message::Transport>,
    ) -> Result<Hop, CommandError> {
        let trunk = next_hop.or(self.config.trunk);
        let usual = transport.unwrap_or(self.config.transport);
        match trunk {
            Some(addr) => Ok(Hop::new(usual, addr)),
            None => {
                let mut hop = Hop::of_uri(to, None).ok_or(CommandError::NoRoute)?;
                if let Some(transport) = transport {
                    hop.transport = transport;
                } else if !to.params.has("transport") && to.scheme == crate::message::Scheme::Sip {
                    hop.transport = usual;
                }
                Ok(hop)
            }
        }
    }

    /// Withdraws a call that is not answered yet; [`SipEvent::Failed`] follows.
    ///
    /// An answer that crosses the CANCEL is acknowledged and hung up at once.
    ///
    /// # Errors
    /// When there is no such call, or it is answered already.
    pub fn cancel(&mut self, now: Instant, key: DialogKey) -> Result<(), CommandError> {
        let call = self.calls.get(&key.0).ok_or(CommandError::UnknownCall)?;
        match &call.phase {
            Phase::Calling(_) => {
                self.withdraw(
                    now,
                    key.0,
                    Failure::here(FailureCause::Cancelled, "withdrawn before the answer"),
                );
                Ok(())
            }
            Phase::Offered(_) | Phase::Up(_) | Phase::Leaving { .. } => Err(CommandError::WrongState),
            Phase::Lingering { .. } => Err(CommandError::UnknownCall),
        }
    }

    /// Hangs up in whatever state the call is: withdraws, turns away, or sends BYE.
    ///
    /// # Errors
    /// When there is no such call.
    pub fn bye(
        &mut self,
        now: Instant,
        key: DialogKey,
        reason: Option<HangupReason>,
    ) -> Result<(), CommandError> {
        let Some(mut call) = self.calls.remove(&key.0) else { return Err(CommandError::UnknownCall) };
        match &mut call.phase {
            Phase::Calling(_) => {
                self.put_back(call);
                self.cancel(now, key)
            }
            Phase::Offered(_) => {
                self.put_back(call);
                self.reject(now, key, 480)
            }
            Phase::Up(up) if up.unacked.is_some() => {
                up.bye_wanted = Some(reason.unwrap_or_default());
                self.put_back(call);
                Ok(())
            }
            Phase::Up(_) => {
                self.send_bye(now, &mut call, reason);
                self.put_back(call);
                Ok(())
            }
            Phase::Leaving { .. } => {
                self.put_back(call);
                Ok(())
            }
            Phase::Lingering { .. } => {
                self.put_back(call);
                Err(CommandError::UnknownCall)
            }
        }
    }

    /// Sends BYE for an answered call and waits for its answer.
    pub(super) fn send_bye(&mut self, now: Instant, call: &mut Call, reason: Option<HangupReason>) {
        let Phase::Up(up) = &call.phase else { return };
        let mut dialog = Box::new(up.dialog.clone());
        let to = dialog.next_hop(call.next_hop);
        let mut bye = self.bye_request(&mut dialog, call);
        if let Some(reason) = reason {
            reason.write_to(&mut bye.headers);
        }
        call.phase = Phase::Leaving { dialog };
        self.start(now, bye, to, Purpose::Bye(call.key), Attempts::default());
    }

    fn bye_request(&mut self, dialog: &mut Dialog, call: &mut Call) -> Request {
        let mut bye = dialog.next_request(Method::Bye);
        bye.headers.push("User-Agent", &self.config.user_agent);
        self.authorize(&call.credentials, &mut call.auth, &mut bye);
        bye
    }

    /// Takes in the final answer to a BYE: whatever it says, the call is over, unless it asks for a password.
    pub(super) fn handle_bye_response(&mut self, now: Instant, id: u64, key: u64, response: &Response) {
        let Some(mut call) = self.calls.remove(&key) else { return };
        if let Phase::Leaving { dialog } = &mut call.phase
            && matches!(response.code, 401 | 407)
        {
            let number = dialog.local_cseq + 1;
            if self
                .retry_with_credentials(now, id, &call.credentials, &mut call.auth, response, number)
                .is_some()
            {
                dialog.local_cseq = number;
                self.put_back(call);
                return;
            }
        }
        self.end_call(&mut call, SipEvent::Ended { key: DialogKey(key) });
        self.keep_or_forget(call);
    }

    // --- answers to our INVITE ---------------------------------------------------------------------------

    pub(super) fn handle_invite_response(&mut self, now: Instant, id: u64, key: u64, response: &Response) {
        let Some(mut call) = self.calls.remove(&key) else { return };
        match response.code {
            100..=199 => self.handle_progress(now, id, &mut call, response),
            200..=299 => self.handle_2xx(now, id, &mut call, response),
            _ => self.handle_refusal(now, id, &mut call, response),
        }
        self.keep_or_forget(call);
    }

    fn handle_progress(&mut self, now: Instant, id: u64, call: &mut Call, response: &Response) {
        let key = DialogKey(call.key);
        let calling = match &mut call.phase {
            Phase::Calling(calling) => calling,
            Phase::Lingering { cancel_on_progress, until } => {
                if std::mem::take(cancel_on_progress) {
                    *until = Some(now + self.config.timers.patience());
                    self.send_cancel(now, id);
                }
                return;
            }
            Phase::Offered(_) | Phase::Up(_) | Phase::Leaving { .. } => return,
        };
        if !calling.trying_told {
            calling.trying_told = true;
            self.tell(SipEvent::Trying { key });
        }
        if response.code == 100 || calling.withdrawn.is_some() {
            return;
        }
        let tag = response.headers.to().and_then(|to| to.tag());
        let mut found = None;
        if let (Some(tag), Some(client)) = (tag, self.clients.get(id)) {
            let known = calling.early.iter().position(|early| early.dialog.remote_tag() == tag);
            let at = match known {
                Some(at) => Some(at),
                None if calling.early.len() >= MAX_FORKS => None,
                None => Dialog::of_response(&client.request, response).map(|dialog| {
                    calling.early.push(Early { dialog, media: None, reliable: None });
                    calling.early.len() - 1
                }),
            };
            found = at;
        }
        let mut early_media = None;
        if let Some(at) = found {
            if !self.take_in_progress(now, call, at, response) {
                return;
            }
            if let Phase::Calling(calling) = &mut call.phase {
                let early = &mut calling.early[at];
                if let Some(answer) = sdp_body(&response.headers, &response.body)
                    && let Ok(media) = call.origin.read_answer(&call.media, &answer)
                {
                    early.media = Some(media);
                }
                early_media = early.media.clone();
            }
        }
        self.tell(SipEvent::Ringing { key, code: response.code, early: early_media });
    }

    fn handle_2xx(&mut self, now: Instant, id: u64, call: &mut Call, response: &Response) {
        let remote_tag = response.headers.to().and_then(|to| to.tag()).unwrap_or_default();
        let number = response.headers.cseq().map(|cseq| cseq.number);
        if let Some(ack) =
            call.acks.iter().find(|ack| ack.remote_tag == remote_tag && Some(ack.number) == number)
        {
            let (to, bytes) = (ack.to, ack.bytes.clone());
            self.send_again(to, bytes);
            return;
        }
        let Some(client) = self.clients.get(id) else { return };
        let invite = client.request.clone();
        let Some(mut dialog) = Dialog::of_response(&invite, response) else { return };
        if call.acks.len() >= MAX_FORKS {
            self.stats.dropped += 1;
            return;
        }
        self.acknowledge(call, &dialog, &invite);

        let key = DialogKey(call.key);
        let Phase::Calling(calling) = &mut call.phase else {
            // A second fork answered, or one that crossed our withdrawal: nobody wants it.
            self.send_stray_bye(now, call, dialog, None);
            return;
        };
        if let Some(withdrawn) = calling.withdrawn.take() {
            self.end_call(call, SipEvent::Failed { key, failure: withdrawn.failure });
            self.send_stray_bye(now, call, dialog, None);
            return;
        }
        let early = calling.early.iter().find(|early| early.dialog.remote_tag() == remote_tag);
        if let Some(early) = early {
            dialog.confirm(&early.dialog);
        }
        let early = early.and_then(|early| early.media.clone());
        match agreed(call, response, early) {
            Ok(media) => {
                let updates = response.headers.lists("Allow", "UPDATE");
                call.phase = Phase::Up(Box::new(Up::new(dialog, Some(media.clone()), updates)));
                self.note_timer(now, call, &response.headers, true);
                self.tell(SipEvent::Answered { key, media });
            }
            Err(error) => {
                let failure = Failure::here(FailureCause::NotAcceptable, &error.to_string());
                self.end_call(call, SipEvent::Failed { key, failure });
                let reason = HangupReason {
                    sip_code: Some(488),
                    q850: None,
                    text: Some("Not Acceptable Here".into()),
                };
                self.send_stray_bye(now, call, dialog, Some(reason));
            }
        }
    }

    /// Sends the ACK of a 2xx and keeps it for the copies of the 2xx (RFC 3261 §13.2.2.4).
    fn acknowledge(&mut self, call: &mut Call, dialog: &Dialog, invite: &Request) {
        let number = invite.headers.cseq().map(|cseq| cseq.number).unwrap_or_default();
        let mut ack = dialog.request(Method::Ack, number);
        ack.headers.copy(&invite.headers, "Authorization");
        ack.headers.copy(&invite.headers, "Proxy-Authorization");
        let to = dialog.next_hop(call.next_hop);
        let bytes = self.send_ack(ack, to);
        call.acks.push(SentAck { remote_tag: dialog.remote_tag(), number, bytes, to });
    }

    fn send_stray_bye(
        &mut self,
        now: Instant,
        call: &mut Call,
        mut dialog: Dialog,
        reason: Option<HangupReason>,
    ) {
        let to = dialog.next_hop(call.next_hop);
        let mut bye = self.bye_request(&mut dialog, call);
        if let Some(reason) = reason {
            reason.write_to(&mut bye.headers);
        }
        self.start(now, bye, to, Purpose::StrayBye, Attempts::default());
    }

    fn handle_refusal(&mut self, now: Instant, id: u64, call: &mut Call, response: &Response) {
        let key = DialogKey(call.key);
        let Phase::Calling(calling) = &mut call.phase else { return };
        let attempts = self.clients.get(id).map(|client| client.attempts.clone()).unwrap_or_default();
        if matches!(response.code, 401 | 407) && calling.withdrawn.is_none() {
            let number = self.clients.get(id).and_then(|client| client.request.headers.cseq());
            let number = number.map_or(1, |cseq| cseq.number) + 1;
            let retried =
                self.retry_with_credentials(now, id, &call.credentials, &mut call.auth, response, number);
            if let Some(tx) = retried {
                calling.early.clear();
                call.invite = Some(tx);
                return;
            }
        }
        // The timer asked for is too short for a hop on the way (RFC 4028 §7.3).
        if response.code == 422
            && calling.withdrawn.is_none()
            && let Some(mut invite) = self.clients.get(id).map(|client| client.request.clone())
            && self.raise_timer(&mut invite, response)
        {
            let number = invite.headers.cseq().map_or(1, |cseq| cseq.number) + 1;
            invite.headers.remove("Via");
            invite.headers.set("CSeq", crate::message::CSeq { number, method: Method::Invite }.to_wire());
            self.authorize(&call.credentials, &mut call.auth, &mut invite);
            calling.early.clear();
            let (to, purpose) = (call.next_hop, Purpose::Invite(call.key));
            call.invite = Some(self.start(now, invite, to, purpose, attempts));
            return;
        }
        let after_credentials = attempts.any() && calling.early.is_empty();
        let failure = Failure::of_response(response, after_credentials);
        let failure = match calling.withdrawn.take() {
            // The ring limit passed, yet the far end had a better reason at the same moment.
            Some(withdrawn) if withdrawn.failure.cause == FailureCause::NoAnswer && response.code != 487 => {
                failure
            }
            Some(withdrawn) => withdrawn.failure,
            None => failure,
        };
        // What is left of the transaction acknowledges copies by itself.
        call.invite = None;
        self.end_call(call, SipEvent::Failed { key, failure });
    }

    /// The INVITE's transaction is over; with `failure`, it never got a final answer.
    pub(super) fn handle_invite_end(&mut self, now: Instant, id: u64, key: u64, failure: Option<Failure>) {
        let _ = now;
        let Some(mut call) = self.calls.remove(&key) else { return };
        if call.invite != Some(id) {
            self.put_back(call);
            return;
        }
        call.invite = None;
        if let Some(failure) = failure
            && let Phase::Calling(calling) = &mut call.phase
        {
            let failure = calling.withdrawn.take().map_or(failure, |withdrawn| withdrawn.failure);
            self.end_call(&mut call, SipEvent::Failed { key: DialogKey(key), failure });
        }
        self.keep_or_forget(call);
    }

    // --- withdrawing -------------------------------------------------------------------------------------

    /// Withdraws our INVITE (RFC 3261 §9.1): CANCEL once something was heard; if nothing was, the end is told
    /// at once and a CANCEL follows should the far end wake up.
    pub(super) fn withdraw(&mut self, now: Instant, key: u64, failure: Failure) {
        let Some(mut call) = self.calls.remove(&key) else { return };
        let Phase::Calling(calling) = &mut call.phase else {
            self.put_back(call);
            return;
        };
        if calling.withdrawn.is_some() {
            self.put_back(call);
            return;
        }
        let unheard =
            call.invite.and_then(|id| self.clients.get(id)).is_some_and(|client| client.tx.is_unheard());
        if unheard {
            self.end_call(&mut call, SipEvent::Failed { key: DialogKey(key), failure });
            call.phase = Phase::Lingering { until: None, cancel_on_progress: true };
        } else {
            calling.withdrawn = Some(Withdrawn { failure, until: now + self.config.timers.patience() });
            if let Some(id) = call.invite {
                self.send_cancel(now, id);
            }
        }
        self.keep_or_forget(call);
    }

    fn send_cancel(&mut self, now: Instant, invite: u64) {
        let Some(client) = self.clients.get(invite) else { return };
        let mut headers = Headers::default();
        headers.copy(&client.request.headers, "Route");
        headers.push("Max-Forwards", "70");
        for name in ["From", "To", "Call-ID"] {
            headers.copy(&client.request.headers, name);
        }
        let number = client.request.headers.cseq().map(|cseq| cseq.number).unwrap_or_default();
        headers.push("CSeq", crate::message::CSeq { number, method: Method::Cancel }.to_wire());
        headers.push("User-Agent", &self.config.user_agent);
        let uri = client.request.uri.clone();
        let cancel = Request { method: Method::Cancel, uri, headers, body: bytes::Bytes::new() };
        let (branch, to) = (client.branch.clone(), client.to);
        self.start_with_branch(now, cancel, branch, to, Purpose::Cancel, Attempts::default());
    }

    /// Does what was due for a call.
    pub(super) fn handle_call_timeout(&mut self, now: Instant, key: u64) {
        let Some(call) = self.calls.get(&key) else { return };
        match &call.phase {
            Phase::Calling(Calling { withdrawn: None, give_up_at, .. }) if now >= *give_up_at => {
                let unheard =
                    call.invite.and_then(|id| self.clients.get(id)).is_some_and(|c| c.tx.is_unheard());
                let failure = if unheard {
                    Failure::here(FailureCause::Unreachable, "nobody answers at the next hop")
                } else {
                    Failure::here(FailureCause::NoAnswer, "nobody answered in time")
                };
                self.withdraw(now, key, failure);
            }
            Phase::Calling(Calling { withdrawn: Some(withdrawn), .. }) if now >= withdrawn.until => {
                let failure = withdrawn.failure.clone();
                self.abandon_invite(key);
                self.finish(key, SipEvent::Failed { key: DialogKey(key), failure });
            }
            Phase::Lingering { until: Some(until), .. } if now >= *until => {
                self.abandon_invite(key);
                if let Some(call) = self.calls.remove(&key) {
                    self.keep_or_forget(call);
                }
            }
            Phase::Offered(offered) if now >= offered.give_up_at => {
                let _ = self.reject(now, DialogKey(key), 480);
            }
            Phase::Offered(offered) if offered.reliable.unacked.is_some() => {
                self.handle_unacked_progress(now, key);
            }
            Phase::Up(up) if up.unacked.as_ref().is_some_and(|unacked| unacked.is_due(now)) => {
                self.handle_unacked(now, key);
            }
            Phase::Up(_) => self.handle_session_timeout(now, key),
            Phase::Calling(_) | Phase::Offered(_) | Phase::Leaving { .. } | Phase::Lingering { .. } => {
                let alarm = call.alarm();
                self.alarms.set(Owner::Call(key), alarm);
            }
        }
    }

    /// Forgets an INVITE that was withdrawn and never finally answered.
    fn abandon_invite(&mut self, key: u64) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        let Some(id) = call.invite.take() else { return };
        self.alarms.set(Owner::Client(id), None);
        self.clients.remove(id);
    }
}

/// Returns what a 2xx agrees to: its own answer, else what a provisional one of the same dialog said before.
fn agreed(call: &Call, response: &Response, early: Option<MediaParams>) -> Result<MediaParams, SdpError> {
    match (sdp_body(&response.headers, &response.body), early) {
        (Some(answer), _) => call.origin.read_answer(&call.media, &answer),
        (None, Some(media)) => Ok(media),
        (None, None) => Err(SdpError::Unreadable),
    }
}

/// Returns the body as text if it is SDP; a body without a type is taken for it.
pub(super) fn sdp_body(headers: &Headers, body: &[u8]) -> Option<String> {
    if body.is_empty() {
        return None;
    }
    let kind = headers.get("Content-Type").unwrap_or("application/sdp");
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/sdp").then(|| String::from_utf8_lossy(body).into_owned())
}
