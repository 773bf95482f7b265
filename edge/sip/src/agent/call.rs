//! One call: what is remembered of it in each phase.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::dialog::Dialog;
use super::event::{Failure, HangupReason};
use super::reliable::ReliableSide;
use super::session::{Again, Asked, Exchange, Timer};
use crate::digest::{ClientAuth, Credentials};
use crate::message::Hop;
use crate::sdp::{LocalMedia, MediaParams, SdpOrigin};

/// One call, ours or theirs.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) key: u64,
    pub(super) call_id: String,
    pub(super) local_tag: String,
    /// What we bring to every negotiation of this call.
    pub(super) media: LocalMedia,
    pub(super) origin: SdpOrigin,
    /// Where requests go whose target has a name for a host.
    pub(super) next_hop: Hop,
    /// Whether the Call-ID is ours.
    pub(super) began_here: bool,
    pub(super) credentials: Option<Credentials>,
    pub(super) auth: ClientAuth,
    /// Our INVITE, until its transaction has ended.
    pub(super) invite: Option<u64>,
    /// The ACKs sent for each 2xx, by the tag of who sent it.
    pub(super) acks: Vec<SentAck>,
    pub(super) phase: Phase,
}

/// An ACK to be sent again for each copy of its 2xx.
#[derive(Debug)]
pub(super) struct SentAck {
    pub(super) remote_tag: String,
    /// The number of the INVITE it belongs to.
    pub(super) number: u32,
    pub(super) bytes: Bytes,
    pub(super) to: Hop,
}

#[derive(Debug)]
pub(super) enum Phase {
    Calling(Calling),
    Offered(Box<Offered>),
    Up(Box<Up>),
    /// Our BYE is on its way.
    Leaving {
        dialog: Box<Dialog>,
    },
    /// The end was told; only late answers to our INVITE are still dealt with.
    Lingering {
        until: Option<Instant>,
        cancel_on_progress: bool,
    },
}

/// Our INVITE is out.
#[derive(Debug)]
pub(super) struct Calling {
    pub(super) early: Vec<Early>,
    pub(super) trying_told: bool,
    pub(super) give_up_at: Instant,
    /// Set once it is to be withdrawn: what to tell when it is.
    pub(super) withdrawn: Option<Withdrawn>,
}

#[derive(Debug)]
pub(super) struct Withdrawn {
    pub(super) failure: Failure,
    /// When to stop waiting for the final answer to the INVITE (RFC 3261 §9.1).
    pub(super) until: Instant,
}

/// A dialog that a provisional answer began.
#[derive(Debug)]
pub(super) struct Early {
    pub(super) dialog: Dialog,
    pub(super) media: Option<MediaParams>,
    /// The number of their last reliable provisional answer.
    pub(super) reliable: Option<u32>,
}

/// Their INVITE waits for our answer.
#[derive(Debug)]
pub(super) struct Offered {
    pub(super) dialog: Dialog,
    pub(super) server: u64,
    pub(super) offer: Option<String>,
    /// What a 183 said already, which the 200 repeats.
    pub(super) answered_early: Option<(String, MediaParams)>,
    pub(super) give_up_at: Instant,
    pub(super) reliable: ReliableSide,
    /// What they ask for about the session's timer.
    pub(super) asked: Asked,
    /// Whether they take UPDATE.
    pub(super) peer_updates: bool,
    /// The call that this one takes the place of.
    pub(super) replaces: Option<u64>,
    /// What a refusal says about another try.
    pub(super) retry_after: Option<Duration>,
}

/// Answered.
#[derive(Debug)]
pub(super) struct Up {
    pub(super) dialog: Dialog,
    pub(super) media: Option<MediaParams>,
    /// Our 2xx waits for its ACK.
    pub(super) unacked: Option<Unacked>,
    /// A BYE that waits for that ACK (RFC 3261 §15).
    pub(super) bye_wanted: Option<HangupReason>,
    /// Our change under way.
    pub(super) exchange: Option<Exchange>,
    /// Our change that waits.
    pub(super) again: Option<Again>,
    pub(super) timer: Option<Timer>,
    /// Whether they take UPDATE.
    pub(super) peer_updates: bool,
    /// Whether we asked them to call somebody else, so that news of it are expected.
    pub(super) transferring: bool,
    /// The number of the REFER that they wait for news about.
    pub(super) asked_transfer: Option<u32>,
    /// Keys to press by INFO with how long each is held, in milliseconds; the first is under way.
    pub(super) digits: VecDeque<(char, u16)>,
}

impl Up {
    pub(super) fn new(dialog: Dialog, media: Option<MediaParams>, peer_updates: bool) -> Self {
        Self {
            dialog,
            media,
            unacked: None,
            bye_wanted: None,
            exchange: None,
            again: None,
            timer: None,
            peer_updates,
            transferring: false,
            asked_transfer: None,
            digits: VecDeque::new(),
        }
    }
}

/// A 2xx of ours without its ACK yet (RFC 3261 §13.3.1.4).
#[derive(Debug)]
pub(super) struct Unacked {
    pub(super) cseq: u32,
    pub(super) bytes: Bytes,
    pub(super) to: Hop,
    pub(super) resend_at: Instant,
    pub(super) interval: Duration,
    pub(super) give_up_at: Instant,
    /// The 2xx has our offer, so the ACK has the answer.
    pub(super) wants_answer: bool,
    /// It answers the INVITE that began the call.
    pub(super) first: bool,
}

impl Unacked {
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.resend_at.min(self.give_up_at)
    }
}

impl Call {
    /// Returns when the call itself has something to do, and why.
    pub(super) fn alarm(&self) -> Option<(Instant, &'static str)> {
        match &self.phase {
            Phase::Calling(calling) => Some(match &calling.withdrawn {
                Some(withdrawn) => (withdrawn.until, "answer to a withdrawn INVITE"),
                None => (calling.give_up_at, "ring limit"),
            }),
            Phase::Offered(offered) => {
                let progress = offered.reliable.unacked.as_ref();
                let progress = progress.map(|unacked| (unacked.resend_at.min(unacked.give_up_at), "PRACK"));
                [Some((offered.give_up_at, "incoming ring limit")), progress].into_iter().flatten().min()
            }
            Phase::Up(up) => [
                up.unacked
                    .as_ref()
                    .map(|unacked| (unacked.resend_at.min(unacked.give_up_at), "ACK of a 2xx")),
                up.again.as_ref().map(|again| (again.at, "change of media")),
                up.timer.map(|timer| (timer.next(), "session timer")),
            ]
            .into_iter()
            .flatten()
            .min(),
            Phase::Leaving { .. } => None,
            Phase::Lingering { until, .. } => until.map(|until| (until, "late answers")),
        }
    }

    /// Returns the dialog of a confirmed call, or the one that an incoming INVITE began.
    pub(super) fn dialog_mut(&mut self, remote_tag: &str) -> Option<&mut Dialog> {
        let dialog = match &mut self.phase {
            Phase::Calling(calling) => {
                return calling
                    .early
                    .iter_mut()
                    .map(|e| &mut e.dialog)
                    .find(|d| d.remote_tag() == remote_tag);
            }
            Phase::Offered(offered) => &mut offered.dialog,
            Phase::Up(up) => &mut up.dialog,
            Phase::Leaving { dialog } => dialog,
            Phase::Lingering { .. } => return None,
        };
        (dialog.remote_tag() == remote_tag).then_some(dialog)
    }
}
