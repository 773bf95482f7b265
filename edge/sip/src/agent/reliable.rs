//! Provisional answers that arrive for certain, both ways (RFC 3262).

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::UserAgent;
use super::call::{Call, Calling, Early, Offered, Phase};
use super::config::Reliability;
use super::event::{DialogKey, SipEvent};
use super::exchange::Answer;
use super::in_dialog::{NO_SUCH_CALL, NOT_ACCEPTABLE, OK};
use super::tables::{Purpose, ServerKey};
use super::uac::sdp_body;
use crate::digest::Attempts;
use crate::message::{Headers, Hop, Method, Request, Response};
use crate::sdp::LocalMedia;

/// What our provisional answers to one INVITE must keep to.
#[derive(Debug, Default)]
pub(super) struct ReliableSide {
    /// They demand it of every provisional answer.
    pub(super) required: bool,
    /// They know it.
    pub(super) supported: bool,
    number: u32,
    pub(super) unacked: Option<UnackedProgress>,
    /// Our answer to their offer was acknowledged, so that the 200 need not repeat it.
    pub(super) answer_arrived: bool,
    /// What to send once the one under way was acknowledged.
    queued: Option<Queued>,
}

#[derive(Debug)]
enum Queued {
    Ringing(Option<LocalMedia>),
    Accept(LocalMedia),
}

/// A provisional answer without its PRACK yet.
#[derive(Debug)]
pub(super) struct UnackedProgress {
    number: u32,
    bytes: Bytes,
    to: Hop,
    pub(super) resend_at: Instant,
    interval: Duration,
    pub(super) give_up_at: Instant,
    has_answer: bool,
}

impl ReliableSide {
    pub(super) fn of_invite(headers: &Headers, ours: Reliability) -> Self {
        let required = headers.lists("Require", "100rel");
        let supported = required || headers.lists("Supported", "100rel");
        let supported = supported && (required || ours != Reliability::Never);
        Self { required, supported, ..Self::default() }
    }

    /// Tells whether a provisional answer must go out this way.
    pub(super) fn applies(&self, with_answer: bool, ours: Reliability) -> bool {
        self.required || (self.supported && (with_answer || ours == Reliability::Required))
    }

    /// Waits with a provisional answer until the one before it was acknowledged; false if there is none.
    pub(super) fn queue_ringing(&mut self, early: Option<&LocalMedia>) -> bool {
        let wait = self.unacked.is_some();
        if wait && !matches!(self.queued, Some(Queued::Accept(_))) {
            self.queued = Some(Queued::Ringing(early.cloned()));
        }
        wait
    }

    /// Waits with the 200 until the answer in a provisional one was acknowledged (§3); false if there is none.
    pub(super) fn queue_accept(&mut self, media: &LocalMedia) -> bool {
        let wait = self.unacked.as_ref().is_some_and(|unacked| unacked.has_answer);
        if wait {
            self.queued = Some(Queued::Accept(media.clone()));
        }
        wait
    }
}

impl UserAgent {
    // --- their provisional answers to our INVITE -------------------------------------------------------------

    /// Acknowledges a reliable provisional answer; false if it is a copy or out of order and must be forgotten.
    pub(super) fn take_in_progress(
        &mut self,
        now: Instant,
        call: &mut Call,
        at: usize,
        response: &Response,
    ) -> bool {
        if !response.headers.lists("Require", "100rel") {
            return true;
        }
        let number = response.headers.get("RSeq").and_then(|text| text.trim().parse::<u32>().ok());
        let invite = response.headers.cseq().map(|cseq| cseq.number).unwrap_or_default();
        let next_hop = call.next_hop;
        let Phase::Calling(Calling { early, .. }) = &mut call.phase else { return false };
        let (Some(number), Some(Early { dialog, reliable, .. })) = (number, early.get_mut(at)) else {
            return false;
        };
        // §4: the first number is the start; after it each is one more.
        if reliable.is_some_and(|last| number != last.wrapping_add(1)) {
            return false;
        }
        *reliable = Some(number);
        let mut prack = dialog.next_request(Method::Prack);
        prack.headers.push("RAck", format!("{number} {invite} INVITE"));
        prack.headers.push("User-Agent", &self.config.user_agent);
        let to = dialog.next_hop(next_hop);
        self.authorize(&call.credentials, &mut call.auth, &mut prack);
        self.start(now, prack, to, Purpose::Prack(call.key), Attempts::default());
        true
    }

    /// Takes in the final answer to a PRACK, or to an UPDATE in an early dialog: only a challenge matters.
    pub(super) fn handle_prack_response(&mut self, now: Instant, id: u64, key: u64, response: &Response) {
        if !matches!(response.code, 401 | 407) {
            return;
        }
        let Some(mut call) = self.calls.remove(&key) else { return };
        let remote_tag = response.headers.to().and_then(|to| to.tag()).unwrap_or_default();
        if let Some(number) = call.dialog_mut(&remote_tag).map(|dialog| dialog.local_cseq + 1)
            && self
                .retry_with_credentials(now, id, &call.credentials, &mut call.auth, response, number)
                .is_some()
            && let Some(dialog) = call.dialog_mut(&remote_tag)
        {
            dialog.local_cseq = number;
        }
        self.keep_or_forget(call);
    }

    // --- our provisional answers to their INVITE -------------------------------------------------------------

    /// Sends a provisional answer that asks for a PRACK.
    pub(super) fn respond_reliably(&mut self, now: Instant, offered: &mut Offered, mut response: Response) {
        let reliable = &mut offered.reliable;
        if reliable.number == 0 {
            reliable.number = rand::Rng::random_range(&mut self.rng, 1..1 << 20);
        }
        reliable.number += 1;
        response.headers.push("Require", "100rel");
        response.headers.push("RSeq", reliable.number.to_string());
        let has_answer = !response.body.is_empty();
        let Some((bytes, to)) = self.respond(now, offered.server, &response) else { return };
        let timers = self.config.timers;
        offered.reliable.unacked = Some(UnackedProgress {
            number: offered.reliable.number,
            bytes,
            to,
            resend_at: now + timers.t1,
            interval: timers.t1,
            give_up_at: now + timers.patience(),
            has_answer,
        });
    }

    /// Resends a provisional answer without its PRACK, or turns the call away (§3).
    pub(super) fn handle_unacked_progress(&mut self, now: Instant, key: u64) {
        let Some(mut call) = self.calls.remove(&key) else { return };
        let mut lost = false;
        if let Phase::Offered(offered) = &mut call.phase
            && let Some(unacked) = &mut offered.reliable.unacked
        {
            if now >= unacked.give_up_at {
                lost = true;
            } else if now >= unacked.resend_at {
                unacked.interval *= 2;
                unacked.resend_at = now + unacked.interval;
                let (to, bytes) = (unacked.to, unacked.bytes.clone());
                self.send_again(to, bytes);
            }
        }
        self.put_back(call);
        if lost {
            let _ = self.reject(now, DialogKey(key), 504);
        }
    }

    pub(super) fn handle_prack(
        &mut self,
        now: Instant,
        from: Hop,
        key: ServerKey,
        call: &mut Call,
        request: Request,
    ) {
        let acknowledged = read_rack(&request.headers);
        let matched = match &mut call.phase {
            Phase::Offered(offered) => {
                let invite = self.servers.get(offered.server).and_then(|open| open.request.headers.cseq());
                let invite = invite.map(|cseq| cseq.number);
                let reliable = &mut offered.reliable;
                let taken = reliable.unacked.take_if(|unacked| {
                    acknowledged
                        .is_some_and(|(number, cseq)| number == unacked.number && Some(cseq) == invite)
                });
                reliable.answer_arrived |= taken.as_ref().is_some_and(|unacked| unacked.has_answer);
                taken.is_some()
            }
            Phase::Calling(_) | Phase::Up(_) | Phase::Leaving { .. } | Phase::Lingering { .. } => false,
        };
        if !matched {
            self.answer(now, from, key, request, NO_SUCH_CALL);
            return;
        }
        // A PRACK may carry the next offer (§5).
        match sdp_body(&request.headers, &request.body) {
            None => self.answer(now, from, key, request, OK),
            Some(offer) => match call.origin.answer(&call.media, &offer) {
                Err(_) => self.answer(now, from, key, request, NOT_ACCEPTABLE),
                Ok((text, media)) => {
                    let headers = [("Content-Type", "application/sdp")];
                    let body = text.clone().into();
                    self.answer_with_body(now, from, key, request, Answer { headers: &headers, ..OK }, body);
                    if let Phase::Offered(offered) = &mut call.phase {
                        offered.answered_early = Some((text, media.clone()));
                    }
                    self.tell(SipEvent::MediaChanged { key: DialogKey(call.key), media });
                }
            },
        }
    }

    /// Does what waited for a PRACK. The call must be in its table.
    pub(super) fn go_on_after_prack(&mut self, now: Instant, key: u64) {
        let queued = match self.calls.get_mut(&key).map(|call| &mut call.phase) {
            Some(Phase::Offered(offered)) if offered.reliable.unacked.is_none() => {
                offered.reliable.queued.take()
            }
            _ => None,
        };
        // What fails here was told by an event of the call.
        match queued {
            Some(Queued::Ringing(early)) => {
                let _ = self.ringing(now, DialogKey(key), early);
            }
            Some(Queued::Accept(media)) => {
                let _ = self.accept(now, DialogKey(key), media);
            }
            None => {}
        }
    }
}

/// Reads `RAck: 776656 1 INVITE`.
fn read_rack(headers: &Headers) -> Option<(u32, u32)> {
    let mut words = headers.get("RAck")?.split_ascii_whitespace();
    let (number, cseq) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (words.next()? == "INVITE").then_some((number, cseq))
}
