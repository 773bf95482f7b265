//! Requests within a call: BYE, re-INVITE, UPDATE, INFO, OPTIONS (RFC 3261 §12.2.2, §14.2, §15.1.2, RFC 3311).

use std::time::Instant;

use bytes::Bytes;

use super::call::{Call, Phase};
use super::event::{DialogKey, Failure, FailureCause, HangupReason, SipEvent};
use super::exchange::Answer;
use super::session::Asked;
use super::tables::ServerKey;
use super::uac::sdp_body;
use super::{ALLOW, UserAgent};
use crate::message::{Hop, Method, Request};
use crate::sdp::{MediaParams, SdpError};

pub(super) const OK: Answer<'_> = Answer { code: 200, phrase: "OK", headers: &[] };
pub(super) const NO_SUCH_CALL: Answer<'_> =
    Answer { code: 481, phrase: "Call/Transaction Does Not Exist", headers: &[] };
const NOT_NOW: Answer<'_> = Answer { code: 491, phrase: "Request Pending", headers: &[] };
/// An INVITE or offer came while the one before it waits for our answer (§14.2, RFC 3311 §5.2).
const TOO_EARLY: Answer<'_> =
    Answer { code: 500, phrase: "Server Internal Error", headers: &[("Retry-After", "2")] };
pub(super) const NOT_ACCEPTABLE: Answer<'_> =
    Answer { code: 488, phrase: "Not Acceptable Here", headers: &[] };

impl UserAgent {
    /// Takes in a request with a To tag.
    pub(super) fn handle_in_dialog(
        &mut self,
        now: Instant,
        from: Hop,
        key: ServerKey,
        to_tag: &str,
        request: Request,
    ) {
        let headers = &request.headers;
        let call_id = headers.call_id().unwrap_or_default().to_owned();
        let remote_tag = headers.from().and_then(|from| from.tag()).unwrap_or_default();
        let number = headers.cseq().map(|cseq| cseq.number).unwrap_or_default();
        let found = self.by_dialog.get(&(call_id, to_tag.to_owned())).copied();
        let mut taken = found.and_then(|key| self.calls.remove(&key));
        let in_order =
            taken.as_mut().and_then(|call| call.dialog_mut(&remote_tag)).map(|d| d.count_remote(number));
        match (taken, in_order) {
            (Some(mut call), Some(true)) => {
                self.handle_call_request(now, from, key, &mut call, &remote_tag, request);
                let id = call.key;
                self.keep_or_forget(call);
                self.go_on_after_prack(now, id);
            }
            (Some(call), Some(false)) => {
                let out_of_order = Answer { code: 500, phrase: "Request out of order", headers: &[] };
                self.answer(now, from, key, request, out_of_order);
                self.keep_or_forget(call);
            }
            (call, _) => {
                if let Some(call) = call {
                    self.keep_or_forget(call);
                }
                if self.may_answer(now, from) {
                    self.answer_without_state(
                        &request.headers,
                        from,
                        NO_SUCH_CALL.code,
                        NO_SUCH_CALL.phrase,
                        &[],
                    );
                }
            }
        }
    }

    fn handle_call_request(
        &mut self,
        now: Instant,
        from: Hop,
        key: ServerKey,
        call: &mut Call,
        remote_tag: &str,
        request: Request,
    ) {
        let required = super::unknown_extensions(&request.headers);
        if !required.is_empty() {
            let headers = [("Unsupported", required.as_str())];
            self.answer(
                now,
                from,
                key,
                request,
                Answer { code: 420, phrase: "Bad Extension", headers: &headers },
            );
            return;
        }
        if super::names_a_call_in_vain(&request) {
            let answer = Answer { code: 400, phrase: super::REPLACES_IS_FOR_INVITE, headers: &[] };
            self.answer(now, from, key, request, answer);
            return;
        }
        match &request.method {
            Method::Bye => self.handle_bye(now, from, key, call, request),
            Method::Invite => self.handle_reinvite(now, from, key, call, request),
            Method::Update => self.handle_update(now, from, key, call, remote_tag, request),
            Method::Info => self.handle_info(now, from, key, call, request),
            Method::Options => {
                let headers = [("Allow", ALLOW), ("Accept", "application/sdp")];
                self.answer(now, from, key, request, Answer { headers: &headers, ..OK });
            }
            Method::Prack => self.handle_prack(now, from, key, call, request),
            Method::Notify => self.handle_notify(now, from, key, call, request),
            Method::Refer => self.handle_refer(now, from, key, call, request),
            Method::Subscribe | Method::Publish => {
                self.answer(now, from, key, request, Answer { code: 489, phrase: "Bad Event", headers: &[] });
            }
            Method::Register | Method::Message | Method::Other(_) => {
                let headers = [("Allow", ALLOW)];
                let answer = Answer { code: 405, phrase: "Method Not Allowed", headers: &headers };
                self.answer(now, from, key, request, answer);
            }
            // Neither comes this way.
            Method::Ack | Method::Cancel => {}
        }
    }

    fn handle_bye(&mut self, now: Instant, from: Hop, key: ServerKey, call: &mut Call, request: Request) {
        let reason = HangupReason::read(&request.headers);
        self.answer(now, from, key, request, OK);
        let dialog_key = DialogKey(call.key);
        match &call.phase {
            // Both hang up at once: our own BYE's answer ends the call.
            Phase::Leaving { .. } | Phase::Lingering { .. } => {}
            Phase::Up(_) => self.end_call(call, SipEvent::PeerHungUp { key: dialog_key, reason }),
            Phase::Offered(_) => {
                self.refuse(now, call, 487);
                let failure = Failure {
                    cause: FailureCause::Cancelled,
                    sip_code: reason.sip_code,
                    reason: reason.text,
                    q850: reason.q850,
                };
                self.end_call(call, SipEvent::Failed { key: dialog_key, failure });
            }
            // Our INVITE was answered, we never heard so, and they gave up waiting for the ACK.
            Phase::Calling(_) => {
                self.end_call(call, SipEvent::PeerHungUp { key: dialog_key, reason });
                let until = Some(now + self.config.timers.patience());
                call.phase = Phase::Lingering { until, cancel_on_progress: true };
            }
        }
    }

    fn handle_reinvite(
        &mut self,
        now: Instant,
        from: Hop,
        key: ServerKey,
        call: &mut Call,
        request: Request,
    ) {
        let dialog_key = DialogKey(call.key);
        let up = match &mut call.phase {
            Phase::Up(up) => up,
            Phase::Offered(_) | Phase::Calling(_) => {
                self.answer(now, from, key, request, TOO_EARLY);
                return;
            }
            Phase::Leaving { .. } | Phase::Lingering { .. } => {
                self.answer(now, from, key, request, NO_SUCH_CALL);
                return;
            }
        };
        // Ours is under way, or the one before waits for its ACK: glare (§14.2).
        if up.unacked.is_some() || up.exchange.is_some() {
            self.answer(now, from, key, request, NOT_NOW);
            return;
        }
        let asked = Asked::read(&request.headers);
        if asked.is_too_short(self.config.session_timers) {
            self.answer_too_short(now, from, key, request);
            return;
        }
        let (body, agreed) = match sdp_body(&request.headers, &request.body) {
            None => (call.origin.offer(&call.media), None),
            Some(offer) => match call.origin.answer(&call.media, &offer) {
                Ok((answer, agreed)) => (answer, Some(agreed)),
                Err(_) => {
                    self.answer(now, from, key, request, NOT_ACCEPTABLE);
                    return;
                }
            },
        };
        if let Some(contact) = request.headers.contact() {
            up.dialog.target = contact.uri;
        }
        let number = request.headers.cseq().map(|cseq| cseq.number).unwrap_or_default();
        let server = self.open_server(from, key, request);
        let Some(mut response) = self.dialog_response(server, 200, "OK", &call.local_tag) else { return };
        response.headers.push("Content-Type", "application/sdp");
        response.body = Bytes::from(body);
        up.timer = self.answer_timer(now, asked, &mut response);
        let sent = self.respond(now, server, &response);
        up.unacked = sent.map(|(bytes, to)| self.unacked(now, number, bytes, to, agreed.is_none(), false));
        if let Some(media) = agreed
            && up.media.as_ref() != Some(&media)
        {
            up.media = Some(media.clone());
            self.tell(SipEvent::MediaChanged { key: dialog_key, media });
        }
    }

    fn handle_update(
        &mut self,
        now: Instant,
        from: Hop,
        key: ServerKey,
        call: &mut Call,
        remote_tag: &str,
        request: Request,
    ) {
        let offer = sdp_body(&request.headers, &request.body);
        // An offer needs the one before it to be answered.
        let blocked = match &call.phase {
            Phase::Up(up) => up.unacked.as_ref().is_some_and(|unacked| unacked.wants_answer),
            Phase::Offered(offered) => offered.answered_early.is_none() || offered.reliable.unacked.is_some(),
            Phase::Calling(calling) => !calling
                .early
                .iter()
                .any(|early| early.dialog.remote_tag() == remote_tag && early.media.is_some()),
            Phase::Leaving { .. } | Phase::Lingering { .. } => true,
        };
        // Two offers at once (RFC 3311 §5.2).
        if offer.is_some() && matches!(&call.phase, Phase::Up(up) if up.exchange.is_some()) {
            self.answer(now, from, key, request, NOT_NOW);
            return;
        }
        let asked = Asked::read(&request.headers);
        if asked.is_too_short(self.config.session_timers) {
            self.answer_too_short(now, from, key, request);
            return;
        }
        if offer.is_some() && blocked {
            self.answer(now, from, key, request, TOO_EARLY);
            return;
        }
        let answered: Result<Option<(String, MediaParams)>, SdpError> =
            offer.map(|offer| call.origin.answer(&call.media, &offer)).transpose();
        let Ok(answered) = answered else {
            self.answer(now, from, key, request, NOT_ACCEPTABLE);
            return;
        };
        if let (Some(contact), Some(dialog)) = (request.headers.contact(), call.dialog_mut(remote_tag)) {
            dialog.target = contact.uri;
        }
        let server = self.open_server(from, key, request);
        let Some(mut response) = self.dialog_response(server, 200, "OK", &call.local_tag) else { return };
        if let Phase::Up(up) = &mut call.phase {
            up.timer = self.answer_timer(now, asked, &mut response);
        }
        let Some((answer, media)) = answered else {
            self.respond(now, server, &response);
            return;
        };
        response.headers.push("Content-Type", "application/sdp");
        let text = answer.clone();
        response.body = Bytes::from(answer);
        self.respond(now, server, &response);
        let known = match &mut call.phase {
            Phase::Up(up) => Some(&mut up.media),
            Phase::Calling(calling) => {
                let mine = calling.early.iter_mut().find(|early| early.dialog.remote_tag() == remote_tag);
                mine.map(|early| &mut early.media)
            }
            Phase::Offered(offered) => {
                let changed = offered.answered_early.as_ref().map(|(_, media)| media) != Some(&media);
                offered.answered_early = Some((text, media.clone()));
                if changed {
                    self.tell(SipEvent::MediaChanged { key: DialogKey(call.key), media });
                }
                return;
            }
            Phase::Leaving { .. } | Phase::Lingering { .. } => None,
        };
        if let Some(known) = known
            && known.as_ref() != Some(&media)
        {
            *known = Some(media.clone());
            self.tell(SipEvent::MediaChanged { key: DialogKey(call.key), media });
        }
    }

    fn answer_too_short(&mut self, now: Instant, from: Hop, key: ServerKey, request: Request) {
        let shortest = self.config.session_timers.unwrap_or_default().shortest.as_secs().to_string();
        let headers = [("Min-SE", shortest.as_str())];
        let answer = Answer { code: 422, phrase: "Session Interval Too Small", headers: &headers };
        self.answer(now, from, key, request, answer);
    }

    /// Digits are the only thing that INFO is taken for.
    fn handle_info(&mut self, now: Instant, from: Hop, key: ServerKey, call: &mut Call, request: Request) {
        let kind = request.headers.get("Content-Type").map(|kind| kind.trim().to_ascii_lowercase());
        match kind.as_deref() {
            None => self.answer(now, from, key, request, OK),
            Some("application/dtmf-relay" | "application/dtmf") => {
                let digit = read_digit(&String::from_utf8_lossy(&request.body));
                self.answer(now, from, key, request, OK);
                if let Some((digit, duration_ms)) = digit {
                    self.tell(SipEvent::Digit { key: DialogKey(call.key), digit, duration_ms });
                }
            }
            Some(_) => {
                let headers = [("Accept", "application/dtmf-relay, application/dtmf")];
                let answer = Answer { code: 415, phrase: "Unsupported Media Type", headers: &headers };
                self.answer(now, from, key, request, answer);
            }
        }
    }
}

/// Reads `Signal=5`, `Duration=160`, or a digit alone.
fn read_digit(body: &str) -> Option<(char, u16)> {
    let mut digit = None;
    let mut duration_ms = 160;
    for line in body.lines() {
        let (name, value) = line.split_once('=').unwrap_or(("signal", line));
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            "signal" if digit.is_none() => {
                let mut chars = value.chars();
                let read = chars.next().map(|c| c.to_ascii_uppercase());
                digit =
                    read.filter(|c| matches!(c, '0'..='9' | '*' | '#' | 'A'..='D') && chars.next().is_none());
            }
            "duration" => duration_ms = value.parse().unwrap_or(duration_ms),
            _ => {}
        }
    }
    digit.map(|digit| (digit, duration_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digit_is_read_in_both_spellings() {
        assert_eq!(read_digit("Signal=5\r\nDuration=200\r\n"), Some(('5', 200)));
        assert_eq!(read_digit("Signal= *\r\n"), Some(('*', 160)));
        assert_eq!(read_digit("#"), Some(('#', 160)));
        assert_eq!(read_digit("Signal=12"), None);
        assert_eq!(read_digit(""), None);
    }
}
