//! Calls that others make: INVITE, our answers, their CANCEL and ACK (RFC 3261 §8.2, §9.2, §13.3).

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::call::{Call, Offered, Phase, Unacked, Up};
use super::config::CommandError;
use super::dialog::Dialog;
use super::event::{DialogKey, Failure, FailureCause, HangupReason, SipEvent};
use super::exchange::Answer;
use super::reliable::ReliableSide;
use super::session::Asked;
use super::tables::ServerKey;
use super::transfer::Replaced;
use super::uac::sdp_body;
use super::{ALLOW, SUPPORTED, UserAgent};
use crate::digest::{ClientAuth, Subject, Verdict, Verifier};
use crate::identity::Parties;
use crate::message::{Hop, Method, Request, Response};
use crate::sdp::{LocalMedia, MediaParams, SdpError, SdpOrigin};

impl UserAgent {
    /// Takes in an INVITE that begins a call.
    pub(super) fn handle_invite(&mut self, now: Instant, from: Hop, key: ServerKey, request: Request) {
        if !self.may_call(from) {
            self.stats.refused += 1;
            self.answer_without_state(&request.headers, from, 403, "Forbidden", &[]);
            return;
        }
        if !self.is_authorised(now, from, &request) {
            return;
        }
        let caller = request.headers.from().and_then(|from| from.tag()).unwrap_or_default();
        let number = request.headers.cseq().map(|cseq| cseq.number).unwrap_or_default();
        let call_id = request.headers.call_id().unwrap_or_default().to_owned();
        let ringing = (call_id.clone(), caller, number);
        if self.ringing_here.contains_key(&ringing) {
            // The same INVITE came by two ways (§8.2.2.2).
            self.answer_without_state(&request.headers, from, 482, "Loop Detected", &[]);
            return;
        }
        let asked = Asked::read(&request.headers);
        if asked.is_too_short(self.config.session_timers) {
            let shortest = self.config.session_timers.unwrap_or_default().shortest.as_secs().to_string();
            let more = [("Min-SE", shortest.as_str())];
            self.answer_without_state(&request.headers, from, 422, "Session Interval Too Small", &more);
            return;
        }
        let replaces = match self.find_replaced(from, &request.headers) {
            Replaced::Nothing => None,
            Replaced::Call(key) => Some(key),
            Replaced::No(code, phrase) => {
                self.stats.refused += u64::from(code == 403);
                self.answer_without_state(&request.headers, from, code, phrase, &[]);
                return;
            }
        };
        if self.live_calls >= self.config.max_calls {
            self.answer_without_state(&request.headers, from, 503, "Service Unavailable", &[]);
            return;
        }
        let offer = sdp_body(&request.headers, &request.body);
        if offer.is_none() && !request.body.is_empty() {
            let more = [("Accept", "application/sdp")];
            self.answer_without_state(&request.headers, from, 415, "Unsupported Media Type", &more);
            return;
        }
        let local_tag = self.token(8);
        let (Some(dialog), Some(caller), Some(callee), Some(parties)) = (
            Dialog::of_request(&request, &local_tag),
            request.headers.from(),
            request.headers.to(),
            Parties::read(&request),
        ) else {
            self.answer_without_state(&request.headers, from, 400, "Contact is missing", &[]);
            return;
        };

        let reliable = ReliableSide::of_invite(&request.headers, self.config.reliable);
        let peer_updates = request.headers.lists("Allow", "UPDATE");
        let server = self.open_server(from, key, request);
        let id = self.id();
        if let Some(open) = self.servers.get_mut(server) {
            open.call = Some(id);
        }
        if let Some(trying) = self.response(server, 100, "Trying") {
            self.respond(now, server, &trying);
        }
        self.ringing_here.insert(ringing, server);
        let has_offer = offer.is_some();
        let origin = SdpOrigin::new(rand::Rng::random(&mut self.rng));
        self.insert_call(Call {
            key: id,
            call_id,
            local_tag,
            media: LocalMedia::new(self.config.local),
            origin,
            next_hop: from,
            began_here: false,
            credentials: None,
            auth: ClientAuth::default(),
            invite: None,
            acks: Vec::new(),
            phase: Phase::Offered(Box::new(Offered {
                dialog,
                server,
                offer,
                answered_early: None,
                give_up_at: now + self.config.incoming_ring_limit,
                reliable,
                asked,
                peer_updates,
                replaces,
                retry_after: None,
            })),
        });
        self.tell(SipEvent::Incoming {
            key: DialogKey(id),
            source: from.addr,
            from: Box::new(caller),
            to: Box::new(callee.uri),
            parties: Box::new(parties),
            has_offer,
            replaces: replaces.map(DialogKey),
        });
    }

    /// Checks the caller's password, if one is asked for; answers the request when it fails.
    fn is_authorised(&mut self, now: Instant, from: Hop, request: &Request) -> bool {
        let Some(auth) = self.config.inbound_auth.clone() else { return true };
        if self.verifier.is_none() {
            let key = rand::Rng::random(&mut self.rng);
            self.verifier = Some(Verifier::new(auth.realm, auth.users, auth.algorithms, key, now));
        }
        let Some(verifier) = self.verifier.as_mut() else { return false };
        let uri = request.uri.to_wire();
        let subject = Subject { method: request.method.as_str(), uri: &uri, body: &request.body };
        let stale = match verifier.verify(now, &request.headers, false, subject) {
            Verdict::Known(_) => return true,
            Verdict::Missing | Verdict::Wrong => false,
            Verdict::Stale => true,
        };
        let challenges = verifier.challenges(now, stale);
        let more: Vec<_> = challenges.iter().map(|value| ("WWW-Authenticate", value.as_str())).collect();
        self.answer_without_state(&request.headers, from, 401, "Unauthorized", &more);
        false
    }

    /// Tells the caller that it rings: 180, or with `early` 183 and the answer to the offer.
    ///
    /// Returns what is agreed for early media.
    ///
    /// # Errors
    /// When there is no such call, it does not ring here, or (the call is then turned away with 488) media
    /// cannot be agreed on.
    pub fn ringing(
        &mut self,
        now: Instant,
        key: DialogKey,
        early: Option<LocalMedia>,
    ) -> Result<Option<MediaParams>, CommandError> {
        let mut call = self.take_offered(key)?;
        let Phase::Offered(offered) = &mut call.phase else {
            self.put_back(call);
            return Err(CommandError::WrongState);
        };
        if offered.reliable.queue_ringing(early.as_ref()) {
            let agreed = offered.answered_early.as_ref().map(|(_, media)| media.clone());
            self.put_back(call);
            return Ok(agreed);
        }
        let mut agreed = None;
        if let Some(media) = early {
            call.media = media;
            if let Some(offer) = &offered.offer
                && offered.answered_early.is_none()
            {
                match call.origin.answer(&call.media, offer) {
                    Ok(answered) => offered.answered_early = Some(answered),
                    Err(error) => return Err(self.not_acceptable(now, call, error)),
                }
            }
            agreed = offered.answered_early.clone();
        }
        let (server, tag) = (offered.server, call.local_tag.clone());
        let (code, phrase) = if agreed.is_some() { (183, "Session Progress") } else { (180, "Ringing") };
        if let Some(mut response) = self.dialog_response(server, code, phrase, &tag) {
            if let Some((answer, _)) = &agreed {
                response.headers.push("Content-Type", "application/sdp");
                response.body = Bytes::from(answer.clone());
            }
            if offered.reliable.applies(agreed.is_some(), self.config.reliable) {
                self.respond_reliably(now, offered, response);
            } else {
                self.respond(now, server, &response);
            }
        }
        self.put_back(call);
        Ok(agreed.map(|(_, media)| media))
    }

    /// Answers an incoming call with 200.
    ///
    /// Returns what is agreed, so that sound can flow at once; `None` when the INVITE had no offer, and the
    /// agreement comes with [`SipEvent::Answered`].
    ///
    /// # Errors
    /// As [`Self::ringing`].
    pub fn accept(
        &mut self,
        now: Instant,
        key: DialogKey,
        media: LocalMedia,
    ) -> Result<Option<MediaParams>, CommandError> {
        let mut call = self.take_offered(key)?;
        let Phase::Offered(offered) = &mut call.phase else {
            self.put_back(call);
            return Err(CommandError::WrongState);
        };
        if offered.reliable.queue_accept(&media) {
            let agreed = offered.answered_early.as_ref().map(|(_, media)| media.clone());
            self.put_back(call);
            return Ok(agreed);
        }
        if offered.answered_early.is_none() {
            call.media = media;
        }
        let (body, agreed) = match (&offered.offer, offered.answered_early.take()) {
            // What a PRACK acknowledged is agreed and need not be said twice (RFC 3262 §5).
            (_, Some((_, agreed))) if offered.reliable.answer_arrived => (String::new(), Some(agreed)),
            (_, Some((answer, agreed))) => (answer, Some(agreed)),
            (Some(offer), None) => match call.origin.answer(&call.media, offer) {
                Ok((answer, agreed)) => (answer, Some(agreed)),
                Err(error) => return Err(self.not_acceptable(now, call, error)),
            },
            (None, None) => (call.origin.offer(&call.media), None),
        };
        let (server, dialog) = (offered.server, offered.dialog.clone());
        let (asked, peer_updates, replaces) = (offered.asked, offered.peer_updates, offered.replaces);
        let mut timer = None;
        let cseq = self.servers.get(server).and_then(|open| open.request.headers.cseq());
        let cseq = cseq.map(|cseq| cseq.number).unwrap_or_default();
        let sent = self.dialog_response(server, 200, "OK", &call.local_tag).and_then(|mut response| {
            if !body.is_empty() {
                response.headers.push("Content-Type", "application/sdp");
                response.body = Bytes::from(body);
            }
            timer = self.answer_timer(now, asked, &mut response);
            self.respond(now, server, &response)
        });
        self.forget_ringing(server);
        let unacked = sent.map(|(bytes, to)| self.unacked(now, cseq, bytes, to, agreed.is_none(), true));
        let up = Up { unacked, timer, ..Up::new(dialog, agreed.clone(), peer_updates) };
        call.phase = Phase::Up(Box::new(up));
        self.put_back(call);
        if let Some(replaced) = replaces {
            // It may have ended in the meantime, which is as good.
            let _ = self.bye(now, DialogKey(replaced), None);
        }
        Ok(agreed)
    }

    /// Turns an incoming call away, with 486 for busy, 603 for declined and so on.
    ///
    /// [`SipEvent::Failed`] follows.
    ///
    /// # Errors
    /// When there is no such call or it does not ring here any more.
    pub fn reject(&mut self, now: Instant, key: DialogKey, code: u16) -> Result<(), CommandError> {
        self.reject_for(now, key, code, None)
    }

    /// As [`Self::reject`]; the caller is told after how long it is worth another try (RFC 3261 §20.33).
    ///
    /// # Errors
    /// As [`Self::reject`].
    pub fn reject_for(
        &mut self,
        now: Instant,
        key: DialogKey,
        code: u16,
        retry_after: Option<Duration>,
    ) -> Result<(), CommandError> {
        let mut call = self.take_offered(key)?;
        let code = if (300..700).contains(&code) { code } else { 480 };
        if let Phase::Offered(offered) = &mut call.phase {
            offered.retry_after = retry_after;
        }
        self.refuse(now, &mut call, code);
        let failure = Failure {
            cause: FailureCause::Cancelled,
            sip_code: Some(code),
            reason: Some("turned away here".to_owned()),
            q850: None,
        };
        self.end_call(&mut call, SipEvent::Failed { key, failure });
        self.keep_or_forget(call);
        Ok(())
    }

    fn not_acceptable(&mut self, now: Instant, mut call: Call, error: SdpError) -> CommandError {
        self.refuse(now, &mut call, 488);
        let key = DialogKey(call.key);
        let mut failure = Failure::here(FailureCause::NotAcceptable, &error.to_string());
        failure.sip_code = Some(488);
        self.end_call(&mut call, SipEvent::Failed { key, failure });
        self.keep_or_forget(call);
        CommandError::Sdp(error)
    }

    /// Sends a final refusal on the INVITE of a call that rings here.
    pub(super) fn refuse(&mut self, now: Instant, call: &mut Call, code: u16) {
        let Phase::Offered(offered) = &call.phase else { return };
        let (server, retry_after) = (offered.server, offered.retry_after);
        if let Some(mut response) = self.dialog_response(server, code, phrase(code), &call.local_tag) {
            if let Some(wait) = retry_after {
                response.headers.push("Retry-After", wait.as_secs().max(1).to_string());
            }
            response.headers.remove("Contact");
            response.headers.remove("Record-Route");
            response.headers.remove("Supported");
            self.respond(now, server, &response);
        }
    }

    /// Says whether a call still rings here.
    pub fn is_offered(&self, key: DialogKey) -> bool {
        self.calls.get(&key.0).is_some_and(|call| matches!(call.phase, Phase::Offered(_)))
    }

    /// Takes out a call that rings here.
    fn take_offered(&mut self, key: DialogKey) -> Result<Call, CommandError> {
        match self.calls.get(&key.0).map(|call| &call.phase) {
            Some(Phase::Offered(_)) => self.calls.remove(&key.0).ok_or(CommandError::UnknownCall),
            Some(Phase::Calling(_) | Phase::Up(_) | Phase::Leaving { .. }) => Err(CommandError::WrongState),
            Some(Phase::Lingering { .. }) | None => Err(CommandError::UnknownCall),
        }
    }

    /// Begins a response that makes or keeps a dialog: our tag, Contact, the recorded route (§12.1.1).
    pub(super) fn dialog_response(
        &self,
        server: u64,
        code: u16,
        phrase: &str,
        tag: &str,
    ) -> Option<Response> {
        let mut response = self.response(server, code, phrase)?;
        response.tag_to(tag);
        let asked = &self.servers.get(server)?.request;
        response.headers.copy(&asked.headers, "Record-Route");
        let transport = self.servers.get(server)?.reply_to.transport;
        response.headers.push("Contact", self.contact(transport).to_wire());
        response.headers.push("Allow", ALLOW);
        if code >= 200 {
            response.headers.push("Supported", SUPPORTED);
        }
        Some(response)
    }

    pub(super) fn unacked(
        &self,
        now: Instant,
        cseq: u32,
        bytes: Bytes,
        to: Hop,
        wants_answer: bool,
        first: bool,
    ) -> Unacked {
        let timers = self.config.timers;
        Unacked {
            cseq,
            bytes,
            to,
            resend_at: now + timers.t1,
            interval: timers.t1,
            give_up_at: now + timers.patience(),
            wants_answer,
            first,
        }
    }

    /// Forgets that an INVITE rings here.
    pub(super) fn forget_ringing(&mut self, server: u64) {
        let Some(open) = self.servers.get(server) else { return };
        let headers = &open.request.headers;
        let tag = headers.from().and_then(|from| from.tag()).unwrap_or_default();
        let number = headers.cseq().map(|cseq| cseq.number).unwrap_or_default();
        self.ringing_here.remove(&(headers.call_id().unwrap_or_default().to_owned(), tag, number));
    }

    /// Takes in a CANCEL; `invite` names the request it withdraws.
    pub(super) fn handle_cancel(
        &mut self,
        now: Instant,
        from: Hop,
        key: ServerKey,
        invite: &ServerKey,
        request: Request,
    ) {
        let Some(server) = self.servers.find(invite) else {
            if self.may_answer(now, from) {
                self.answer_without_state(
                    &request.headers,
                    from,
                    481,
                    "Call/Transaction Does Not Exist",
                    &[],
                );
            }
            return;
        };
        let reason = HangupReason::read(&request.headers);
        self.answer(now, from, key, request, Answer { code: 200, phrase: "OK", headers: &[] });
        let call = self.servers.get(server).and_then(|open| open.call);
        let Some(mut call) = call.and_then(|call| self.calls.remove(&call)) else { return };
        if matches!(call.phase, Phase::Offered(_)) {
            self.refuse(now, &mut call, 487);
            let failure = Failure {
                cause: FailureCause::Cancelled,
                sip_code: reason.sip_code,
                reason: reason.text.or_else(|| Some("the caller gave up".to_owned())),
                q850: reason.q850,
            };
            let key = DialogKey(call.key);
            self.end_call(&mut call, SipEvent::Failed { key, failure });
        }
        self.keep_or_forget(call);
    }

    /// Takes in the ACK of a 2xx.
    pub(super) fn handle_dialog_ack(&mut self, now: Instant, request: &Request) {
        let headers = &request.headers;
        let to_tag = headers.to().and_then(|to| to.tag()).unwrap_or_default();
        let call_id = headers.call_id().unwrap_or_default().to_owned();
        let found = self.by_dialog.get(&(call_id, to_tag)).copied();
        let Some(mut call) = found.and_then(|key| self.calls.remove(&key)) else {
            self.stats.unmatched += 1;
            return;
        };
        self.take_in_ack(now, &mut call, request);
        self.keep_or_forget(call);
    }

    fn take_in_ack(&mut self, now: Instant, call: &mut Call, request: &Request) {
        let key = DialogKey(call.key);
        let number = request.headers.cseq().map(|cseq| cseq.number);
        let Phase::Up(up) = &mut call.phase else { return };
        let Some(unacked) = up.unacked.take_if(|unacked| Some(unacked.cseq) == number) else { return };
        if unacked.wants_answer {
            let answer = sdp_body(&request.headers, &request.body).ok_or(SdpError::Unreadable);
            match answer.and_then(|answer| call.origin.read_answer(&call.media, &answer)) {
                Ok(media) => {
                    let changed = up.media.as_ref() != Some(&media);
                    up.media = Some(media.clone());
                    if changed && !unacked.first {
                        self.tell(SipEvent::MediaChanged { key, media });
                    }
                }
                // The offer of a re-INVITE failed: the session goes on as it was (RFC 3261 §14.1).
                Err(_) if !unacked.first => {}
                Err(error) => {
                    let failure = Failure::here(FailureCause::NotAcceptable, &error.to_string());
                    self.break_off(now, call, failure, None);
                    return;
                }
            }
        }
        let Phase::Up(up) = &mut call.phase else { return };
        if unacked.first
            && let Some(media) = up.media.clone()
        {
            self.tell(SipEvent::Answered { key, media });
        }
        if let Some(reason) = up.bye_wanted.take() {
            self.send_bye(now, call, Some(reason));
        }
    }

    /// Hangs up a call whose signalling broke, and tells it as a failure.
    pub(super) fn break_off(
        &mut self,
        now: Instant,
        call: &mut Call,
        failure: Failure,
        reason: Option<HangupReason>,
    ) {
        let key = DialogKey(call.key);
        if let Phase::Up(up) = &call.phase {
            let mut dialog = up.dialog.clone();
            let to = dialog.next_hop(call.next_hop);
            let mut bye = dialog.next_request(Method::Bye);
            bye.headers.push("User-Agent", &self.config.user_agent);
            if let Some(reason) = reason {
                reason.write_to(&mut bye.headers);
            }
            self.authorize(&call.credentials, &mut call.auth, &mut bye);
            self.start(now, bye, to, super::tables::Purpose::StrayBye, Default::default());
        }
        self.end_call(call, SipEvent::Failed { key, failure });
    }

    /// Resends a 2xx without its ACK, or gives the call up (§13.3.1.4).
    pub(super) fn handle_unacked(&mut self, now: Instant, key: u64) {
        let Some(mut call) = self.calls.remove(&key) else { return };
        if let Phase::Up(up) = &mut call.phase
            && let Some(unacked) = &mut up.unacked
        {
            if now >= unacked.give_up_at {
                let wanted = up.bye_wanted.take();
                up.unacked = None;
                match wanted {
                    Some(reason) => self.send_bye(now, &mut call, Some(reason)),
                    None => {
                        let failure =
                            Failure::here(FailureCause::Protocol, "the answer was never acknowledged");
                        self.break_off(now, &mut call, failure, None);
                    }
                }
            } else if now >= unacked.resend_at {
                unacked.interval = (unacked.interval * 2).min(self.config.timers.t2);
                unacked.resend_at = now + unacked.interval;
                let (to, bytes) = (unacked.to, unacked.bytes.clone());
                self.send_again(to, bytes);
            }
        }
        self.keep_or_forget(call);
    }
}

/// Returns the usual phrase of a code that we send.
pub(super) fn phrase(code: u16) -> &'static str {
    match code {
        100 => "Trying",
        180 => "Ringing",
        183 => "Session Progress",
        200..=299 => "OK",
        504 => "Server Time-out",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        480 => "Temporarily Unavailable",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        500..=599 => "Server Error",
        600 => "Busy Everywhere",
        603 => "Decline",
        _ => "Rejected",
    }
}
