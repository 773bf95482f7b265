//! Changing a call that is up: hold and resume by re-INVITE, glare, session timers (RFC 3261 §14, RFC 4028).

use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::Rng;

use super::call::{Call, Phase, SentAck};
use super::config::{CommandError, SessionTimers};
use super::event::{CallNews, DialogKey, Failure, FailureCause, HangupReason, SipEvent};
use super::tables::Purpose;
use super::uac::sdp_body;
use super::{ALLOW, UserAgent, dialog};
use crate::digest::Attempts;
use crate::message::{Headers, Hop, Method, Params, Request, Response};
use crate::sdp::{Direction, LocalMedia};

/// A change of ours that waits for its answer.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) tx: u64,
    /// What we shall have when it is accepted; `None` if it only refreshes the session.
    pub(super) media: Option<LocalMedia>,
}

/// A change that waits for its moment: something else is under way, or both sides asked at once (491).
#[derive(Debug)]
pub(super) struct Again {
    pub(super) at: Instant,
    pub(super) media: Option<LocalMedia>,
}

/// Who keeps the session alive, and until when it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timer {
    interval: Duration,
    /// When we refresh; `None` if they do.
    pub(super) refresh_at: Option<Instant>,
    pub(super) expires_at: Instant,
}

/// Whatever they say, refreshing more often than this would be a flood.
const SHORTEST: Duration = Duration::from_secs(6);

impl Timer {
    fn new(now: Instant, interval: Duration, ours: bool) -> Self {
        // §10: whoever does not refresh hangs up a little before the session ends, so that both agree on it.
        let early = (interval / 3).min(Duration::from_secs(32));
        let refresh_at = ours.then(|| now + interval / 2);
        Self { interval, refresh_at, expires_at: now + interval - early }
    }

    pub(super) fn next(&self) -> Instant {
        self.refresh_at.map_or(self.expires_at, |at| at.min(self.expires_at))
    }
}

/// The Session-Expires header, or what stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// Whether the other side knows session timers at all.
    supported: bool,
    expires: Option<Duration>,
    /// `Some(true)`: whoever sends the request refreshes.
    by_requester: Option<bool>,
}

impl Asked {
    pub(super) fn read(headers: &Headers) -> Self {
        let supported = headers.lists("Supported", "timer") || headers.lists("Require", "timer");
        let (mut expires, mut by_requester) = (None, None);
        if let Some(text) = headers.get("Session-Expires") {
            let (seconds, params) = text.split_once(';').unwrap_or((text, ""));
            expires = seconds.trim().parse().ok().map(|s: u32| Duration::from_secs(u64::from(s)));
            by_requester = Params::parse(params).get("refresher").and_then(|who| match who.as_str() {
                "uac" => Some(true),
                "uas" => Some(false),
                _ => None,
            });
        }
        Self { supported, expires, by_requester }
    }

    /// Tells whether it asks for less than we allow and would understand a 422 (§9).
    pub(super) fn is_too_short(&self, ours: Option<SessionTimers>) -> bool {
        let shortest = ours.map_or(Duration::ZERO, |ours| ours.shortest);
        self.supported && self.expires.is_some_and(|expires| expires < shortest)
    }
}

impl UserAgent {
    /// Offers other media in a call that is up, by re-INVITE. [`SipEvent::MediaChanged`] or
    /// [`CallNews::MediaRefused`] follows; if both sides ask at once it is tried again by itself.
    ///
    /// # Errors
    /// When there is no such call or it is not up.
    pub fn change_media(
        &mut self,
        now: Instant,
        key: DialogKey,
        media: LocalMedia,
    ) -> Result<(), CommandError> {
        let Some(mut call) = self.calls.remove(&key.0) else { return Err(CommandError::UnknownCall) };
        let done = match &mut call.phase {
            Phase::Up(up) if up.exchange.is_some() || up.unacked.is_some() => {
                up.again = Some(Again { at: now + self.config.timers.t1, media: Some(media) });
                Ok(())
            }
            Phase::Up(_) => {
                self.start_exchange(now, &mut call, Some(media));
                Ok(())
            }
            Phase::Calling(_) | Phase::Offered(_) | Phase::Leaving { .. } => Err(CommandError::WrongState),
            Phase::Lingering { .. } => Err(CommandError::UnknownCall),
        };
        self.put_back(call);
        done
    }

    /// Puts the other side on hold: they are asked to send nothing, we may play music.
    ///
    /// # Errors
    /// As [`Self::change_media`].
    pub fn hold(&mut self, now: Instant, key: DialogKey) -> Result<(), CommandError> {
        self.change_direction(now, key, Direction::SendOnly)
    }

    /// Ends the hold.
    ///
    /// # Errors
    /// As [`Self::change_media`].
    pub fn resume(&mut self, now: Instant, key: DialogKey) -> Result<(), CommandError> {
        self.change_direction(now, key, Direction::SendRecv)
    }

    fn change_direction(
        &mut self,
        now: Instant,
        key: DialogKey,
        direction: Direction,
    ) -> Result<(), CommandError> {
        let call = self.calls.get(&key.0).ok_or(CommandError::UnknownCall)?;
        let media = LocalMedia { direction, ..call.media.clone() };
        self.change_media(now, key, media)
    }

    /// Sends a re-INVITE with `media`, or without any a refresh: UPDATE where they take it, else a re-INVITE that
    /// changes nothing.
    fn start_exchange(&mut self, now: Instant, call: &mut Call, media: Option<LocalMedia>) {
        let Phase::Up(up) = &mut call.phase else { return };
        let update = media.is_none() && up.peer_updates;
        let method = if update { Method::Update } else { Method::Invite };
        let mut request = up.dialog.next_request(method);
        let to = up.dialog.next_hop(call.next_hop);
        request.headers.push("Contact", self.contact(to.transport).to_wire());
        request.headers.push("Allow", ALLOW);
        request.headers.push("User-Agent", &self.config.user_agent);
        if let Some(timers) = self.config.session_timers {
            request.headers.push("Supported", "timer");
            let interval = up.timer.map_or(timers.interval, |timer| timer.interval);
            let who = match up.timer {
                Some(timer) if timer.refresh_at.is_none() => ";refresher=uas",
                Some(_) => ";refresher=uac",
                None => "",
            };
            request.headers.push("Session-Expires", format!("{}{who}", interval.as_secs()));
            request.headers.push("Min-SE", timers.shortest.min(interval).as_secs().to_string());
        }
        if !update {
            request.headers.push("Content-Type", "application/sdp");
            request.body = Bytes::from(call.origin.offer(media.as_ref().unwrap_or(&call.media)));
        }
        self.authorize(&call.credentials, &mut call.auth, &mut request);
        let tx = self.start(now, request, to, Purpose::Exchange(call.key), Attempts::default());
        if let Phase::Up(up) = &mut call.phase {
            up.exchange = Some(Exchange { tx, media });
            up.again = None;
        }
    }

    /// Takes in an answer to our re-INVITE or refreshing UPDATE.
    pub(super) fn handle_exchange_response(&mut self, now: Instant, id: u64, key: u64, response: &Response) {
        if response.code < 200 {
            return;
        }
        let Some(mut call) = self.calls.remove(&key) else { return };
        let invite = response.headers.cseq().is_some_and(|cseq| cseq.method == Method::Invite);
        if invite && response.code < 300 && !self.acknowledge_change(&mut call, response) {
            self.keep_or_forget(call);
            return;
        }
        let mine = match &mut call.phase {
            Phase::Up(up) => up.exchange.take_if(|exchange| exchange.tx == id),
            Phase::Calling(_) | Phase::Offered(_) | Phase::Leaving { .. } | Phase::Lingering { .. } => None,
        };
        if let Some(exchange) = mine {
            self.end_exchange(now, id, &mut call, exchange, response);
        }
        self.keep_or_forget(call);
    }

    /// Sends the ACK of a 2xx to a re-INVITE; false if it was a copy.
    fn acknowledge_change(&mut self, call: &mut Call, response: &Response) -> bool {
        let Some(number) = response.headers.cseq().map(|cseq| cseq.number) else { return false };
        let remote_tag = response.headers.to().and_then(|to| to.tag()).unwrap_or_default();
        if let Some(ack) = call.acks.iter().find(|ack| ack.number == number && ack.remote_tag == remote_tag) {
            let (to, bytes) = (ack.to, ack.bytes.clone());
            self.send_again(to, bytes);
            return false;
        }
        let next_hop = call.next_hop;
        let Some(dialog) = call.dialog_mut(&remote_tag) else { return false };
        if let Some(contact) = response.headers.contact() {
            dialog.target = contact.uri;
        }
        let (ack, to) = (dialog.request(Method::Ack, number), dialog.next_hop(next_hop));
        let bytes = self.send_ack(ack, to);
        // The ACKs of the first INVITE are not needed any more once a later one is answered.
        call.acks.retain(|ack| ack.number + 4 > number);
        call.acks.push(SentAck { remote_tag, number, bytes, to });
        true
    }

    fn end_exchange(
        &mut self,
        now: Instant,
        id: u64,
        call: &mut Call,
        mut exchange: Exchange,
        response: &Response,
    ) {
        let key = DialogKey(call.key);
        match response.code {
            200..=299 => {
                self.note_timer(now, call, &response.headers, true);
                let Some(media) = exchange.media else { return };
                let answer = sdp_body(&response.headers, &response.body);
                let agreed = answer.and_then(|answer| call.origin.read_answer(&media, &answer).ok());
                let (Some(agreed), Phase::Up(up)) = (agreed, &mut call.phase) else {
                    self.tell_news(key, CallNews::MediaRefused { code: response.code });
                    return;
                };
                up.media = Some(agreed.clone());
                call.media = media;
                self.tell(SipEvent::MediaChanged { key, media: agreed });
            }
            401 | 407 => {
                let Phase::Up(up) = &mut call.phase else { return };
                let number = up.dialog.local_cseq + 1;
                let retried =
                    self.retry_with_credentials(now, id, &call.credentials, &mut call.auth, response, number);
                match (retried, &mut call.phase) {
                    (Some(tx), Phase::Up(up)) => {
                        up.dialog.local_cseq = number;
                        exchange.tx = tx;
                        up.exchange = Some(exchange);
                    }
                    _ => self.refused(key, exchange, response.code),
                }
            }
            // Both asked at once (§14.1): whoever made the Call-ID waits longer.
            491 => {
                let ours = call.began_here;
                let wait = if ours { 2_100..4_000 } else { 10..2_000 };
                let wait = Duration::from_millis(self.rng.random_range(wait));
                if let Phase::Up(up) = &mut call.phase {
                    up.again.get_or_insert(Again { at: now + wait, media: exchange.media });
                }
            }
            422 => {
                let wanted = min_se(&response.headers);
                let grown = match (&mut call.phase, wanted) {
                    (Phase::Up(up), Some(wanted)) => {
                        let timer = up.timer.get_or_insert(Timer::new(now, Duration::from_secs(90), true));
                        let grown = wanted > timer.interval;
                        timer.interval = timer.interval.max(wanted);
                        grown
                    }
                    _ => false,
                };
                if grown {
                    self.start_exchange(now, call, exchange.media);
                } else {
                    self.refused(key, exchange, response.code);
                }
            }
            // The other side does not know the call any more (RFC 3261 §12.2.1.2).
            408 | 481 => {
                let failure = Failure {
                    cause: FailureCause::Unreachable,
                    sip_code: Some(response.code),
                    reason: Some("the other side does not know the call any more".to_owned()),
                    q850: None,
                };
                self.break_off(now, call, failure, None);
            }
            code => self.refused(key, exchange, code),
        }
    }

    /// A change was refused: the session goes on as it was (§14.1).
    fn refused(&mut self, key: DialogKey, exchange: Exchange, code: u16) {
        if exchange.media.is_some() {
            self.tell_news(key, CallNews::MediaRefused { code });
        }
    }

    /// Our change was never answered: the call is broken (RFC 3261 §12.2.1.2).
    pub(super) fn handle_exchange_lost(&mut self, now: Instant, id: u64, key: u64) {
        let Some(mut call) = self.calls.remove(&key) else { return };
        let mine = match &call.phase {
            Phase::Up(up) => up.exchange.as_ref().is_some_and(|exchange| exchange.tx == id),
            Phase::Calling(_) | Phase::Offered(_) | Phase::Leaving { .. } | Phase::Lingering { .. } => false,
        };
        if mine {
            let failure = Failure::here(FailureCause::Unreachable, "the other side does not answer any more");
            self.break_off(now, &mut call, failure, None);
        }
        self.keep_or_forget(call);
    }

    /// Does what was due for a session: a change that waited, a refresh, its end.
    pub(super) fn handle_session_timeout(&mut self, now: Instant, key: u64) {
        let Some(mut call) = self.calls.remove(&key) else { return };
        if let Phase::Up(up) = &mut call.phase {
            if up.timer.is_some_and(|timer| now >= timer.expires_at) {
                let failure =
                    Failure::here(FailureCause::Unreachable, "the session was not refreshed in time");
                let reason = HangupReason {
                    q850: None,
                    sip_code: Some(408),
                    text: Some("session expired".to_owned()),
                };
                self.break_off(now, &mut call, failure, Some(reason));
            } else if up.exchange.is_some() || up.unacked.is_some() {
                // One thing at a time; what waits is looked at again soon.
                let later = now + self.config.timers.t1;
                if let Some(again) = &mut up.again {
                    again.at = again.at.max(later);
                }
                if let Some(timer) = &mut up.timer {
                    timer.refresh_at = timer.refresh_at.map(|at| at.max(later));
                }
            } else if let Some(again) = up.again.take_if(|again| now >= again.at) {
                self.start_exchange(now, &mut call, again.media);
            } else if let Some(timer) = &mut up.timer
                && timer.refresh_at.is_some_and(|at| now >= at)
            {
                // Should it be refused, there is time for one more try.
                timer.refresh_at = Some(now + (timer.expires_at.saturating_duration_since(now)) / 2);
                self.start_exchange(now, &mut call, None);
            }
        }
        self.keep_or_forget(call);
    }

    // --- what stands in the messages -----------------------------------------------------------------------

    /// Asks for a session timer in an INVITE of ours.
    pub(super) fn ask_timer(&self, request: &mut Request) {
        if let Some(timers) = self.config.session_timers {
            request.headers.push("Session-Expires", timers.interval.as_secs().to_string());
            request.headers.push("Min-SE", timers.shortest.as_secs().to_string());
        }
    }

    /// Raises what our INVITE asks for to what a 422 wants; false if that makes no sense.
    pub(super) fn raise_timer(&self, request: &mut Request, response: &Response) -> bool {
        let asked = Asked::read(&request.headers).expires.unwrap_or_default();
        let Some(wanted) = min_se(&response.headers).filter(|wanted| *wanted > asked) else { return false };
        request.headers.set("Session-Expires", wanted.as_secs().to_string());
        request.headers.set("Min-SE", wanted.as_secs().to_string());
        true
    }

    /// Takes over the timer that a 2xx agreed on. `sent`: the request was ours.
    pub(super) fn note_timer(&mut self, now: Instant, call: &mut Call, headers: &Headers, sent: bool) {
        let Phase::Up(up) = &mut call.phase else { return };
        let asked = Asked::read(headers);
        up.timer = match (asked.expires, self.config.session_timers) {
            (Some(expires), Some(_)) => {
                let interval = expires.max(SHORTEST);
                // Without a word about it, the one who asked refreshes (§7.2).
                let ours = asked.by_requester.unwrap_or(true) == sent;
                Some(Timer::new(now, interval, ours))
            }
            // They know nothing of timers and answer all the same: our refreshing still finds a dead call.
            (None, Some(_)) => up
                .timer
                .filter(|timer| timer.refresh_at.is_some())
                .map(|timer| Timer::new(now, timer.interval, true)),
            (_, None) => None,
        };
    }

    /// Writes into our 2xx what is agreed about the timer, and returns it (§9).
    pub(super) fn answer_timer(&self, now: Instant, asked: Asked, response: &mut Response) -> Option<Timer> {
        let ours = self.config.session_timers?;
        let interval = asked.expires.unwrap_or(ours.interval).max(ours.shortest);
        // Who does not know timers cannot refresh; who does, does as it said, or leaves it to us.
        let by_requester = asked.supported && asked.by_requester == Some(true);
        let who = if by_requester { "uac" } else { "uas" };
        response.headers.push("Session-Expires", format!("{};refresher={who}", interval.as_secs()));
        if asked.supported {
            response.headers.push("Require", "timer");
        }
        Some(Timer::new(now, interval, !by_requester))
    }

    /// Returns our Contact, as reached over `transport`.
    pub(super) fn contact(&self, transport: crate::message::Transport) -> crate::message::NameAddr {
        dialog::contact(&self.config.contact_user, Hop::new(transport, self.config.local_for(transport)))
    }
}

fn min_se(headers: &Headers) -> Option<Duration> {
    let text = headers.get("Min-SE")?;
    let seconds = text.split(';').next().unwrap_or_default().trim().parse::<u32>().ok()?;
    // Longer than a day is no timer.
    (seconds <= 86_400).then(|| Duration::from_secs(u64::from(seconds)))
}
