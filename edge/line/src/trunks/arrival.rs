//! One call in: offered to whoever takes calls, rung, answered or refused.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::{debug, info, warn};
use trunkline_sip::identity::Parties;
use trunkline_sip::message::Uri;
use trunkline_sip::sdp::MediaParams;
use trunkline_sip::trunk::TrunkId;
use trunkline_sip::{CallNews, DialogKey, FailureCause, HangupReason, SipEvent, TransferStep};

use super::call::here;
use super::legs::{Leg, Place, Standing};
use super::{LineNews, LineOrder, PlacedCall, Shared, Trunk, ids};
use crate::media::RtpSockets;
use crate::sip::{Command, SipHandle, TraceName};

/// Calls that wait for somebody to look at them.
const WAITING: usize = 32;
/// When a caller who found us busy may try again.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// A call that comes from a trunk. It rings once it is [taken](Self::take); dropping it refuses it.
#[derive(Debug)]
pub struct IncomingCall {
    shared: Arc<Shared>,
    trunk: TrunkId,
    name: String,
    agent: SipHandle,
    /// Which of the agents that is.
    at: usize,
    key: DialogKey,
    parties: Box<Parties>,
    trace: Option<TraceName>,
    events: Option<mpsc::UnboundedReceiver<SipEvent>>,
}

impl IncomingCall {
    /// Returns the name of the trunk that it comes from.
    pub fn trunk(&self) -> &str {
        &self.name
    }

    /// Returns who calls whom, as the INVITE says.
    pub fn parties(&self) -> &Parties {
        &self.parties
    }

    /// Returns the numbers that may have been dialled, the likeliest first.
    pub fn called(&self) -> Vec<String> {
        self.parties.called(&self.shared.config.contact_user)
    }

    /// Refuses it, and says when it is worth another try.
    pub fn refuse(mut self, code: u16, retry_after: Option<Duration>) {
        self.turn_away(code, retry_after);
    }

    /// Rings as with [`Self::take`], and is traced under this name.
    pub fn take_as(mut self, trace: TraceName) -> PlacedCall {
        let name = Command::Name { key: self.key, trace: trace.clone(), trunk: self.name.clone() };
        self.agent.send(name);
        self.trace = Some(trace);
        self.take()
    }

    /// Rings, until [`LineOrder::Answer`] or [`LineOrder::Refuse`].
    pub fn take(mut self) -> PlacedCall {
        let (told, news) = mpsc::unbounded_channel();
        let (orders, inbox) = mpsc::unbounded_channel();
        let place = Place::default();
        if let Some(events) = self.events.take() {
            let keys = self.shared.trunk(self.trunk).map(|trunk| trunk.setup.keys).unwrap_or_default();
            let standing = Standing { agent: self.at, trunk: Some(self.trunk), key: self.key, keys };
            self.agent.send(Command::Ring(self.key));
            let (watcher, watched) = mpsc::unbounded_channel();
            self.agent.send(Command::Watch(self.key, watcher));
            let task = Task {
                shared: Arc::clone(&self.shared),
                trunk: self.trunk,
                agent: self.agent.clone(),
                key: self.key,
                leg: Leg::begin(&self.shared, standing, place.clone()),
                trace: self.trace.take(),
                events,
                watched,
                told,
                orders: inbox,
                answered: false,
                sockets: None,
                local: None,
                media: None,
            };
            tokio::spawn(task.run());
        }
        PlacedCall { news, orders, place }
    }

    fn turn_away(&mut self, code: u16, retry_after: Option<Duration>) {
        if self.events.take().is_some() {
            self.agent.send(Command::RejectFor { key: self.key, code, retry_after });
            self.shared.pool().release(self.trunk);
        }
    }
}

impl Drop for IncomingCall {
    fn drop(&mut self) {
        self.turn_away(503, Some(AGAIN_AFTER));
    }
}

/// Makes the way by which calls reach whoever takes them.
pub(super) fn takers() -> (mpsc::Sender<IncomingCall>, mpsc::Receiver<IncomingCall>) {
    mpsc::channel(WAITING)
}

/// Passes a call on to whoever takes calls.
pub(super) fn offer(
    shared: &Arc<Shared>,
    agent: usize,
    key: DialogKey,
    source: SocketAddr,
    parties: Box<Parties>,
) {
    let handle = shared.agents[agent].clone();
    let taker = shared.taker();
    let found = trunk_at(shared, agent, source);
    let (Some(taker), Some((id, trunk))) = (taker, found) else {
        debug!("A call that nobody here takes");
        handle.send(Command::RejectFor { key, code: 404, retry_after: None });
        return;
    };
    shared.alive(id);
    if !shared.pool().take_from(id) {
        debug!(trunk = trunk.setup.name, "A call more than the trunk may have");
        handle.send(Command::RejectFor { key, code: 486, retry_after: Some(AGAIN_AFTER) });
        return;
    }
    let (owner, events) = mpsc::unbounded_channel();
    handle.send(Command::Own { key, events: owner });
    let call = IncomingCall {
        shared: Arc::clone(shared),
        trunk: id,
        name: trunk.setup.name.clone(),
        agent: handle,
        at: agent,
        key,
        parties,
        trace: None,
        events: Some(events),
    };
    // One that finds no room, or nobody any more, is dropped, and so refused.
    let _ = taker.try_send(call);
}

/// Returns whose call it is: a trunk may send from another port than it listens on.
fn trunk_at(shared: &Shared, agent: usize, source: SocketAddr) -> Option<(TrunkId, &Trunk)> {
    let same = |exact: bool| {
        ids().zip(&shared.trunks).find(|(_, trunk)| {
            let addr = trunk.state().addr;
            trunk.agent == agent
                && trunk.setup.inbound
                && addr.is_some_and(|addr| if exact { addr == source } else { addr.ip() == source.ip() })
        })
    };
    same(true).or_else(|| same(false))
}

struct Task {
    shared: Arc<Shared>,
    trunk: TrunkId,
    agent: SipHandle,
    key: DialogKey,
    leg: Leg,
    trace: Option<TraceName>,
    events: mpsc::UnboundedReceiver<SipEvent>,
    watched: mpsc::UnboundedReceiver<CallNews>,
    told: mpsc::UnboundedSender<LineNews>,
    orders: mpsc::UnboundedReceiver<LineOrder>,
    answered: bool,
    /// Until the media are agreed on.
    sockets: Option<RtpSockets>,
    /// Where our sound is, once it is answered.
    local: Option<SocketAddr>,
    media: Option<MediaParams>,
}

impl Task {
    async fn run(mut self) {
        let last = self.follow().await;
        self.shared.pool().release(self.trunk);
        let _ = self.told.send(last);
    }

    async fn follow(&mut self) -> LineNews {
        let (mut orders_open, mut news_open, mut leaving) = (true, true, false);
        loop {
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => {
                        if let Some(last) = self.take_in(event) {
                            return last;
                        }
                    }
                    // Withdrawn before we could listen to it.
                    None => return LineNews::Failed(here(FailureCause::Cancelled, "the caller gave up")),
                },
                news = self.watched.recv(), if news_open => match news {
                    Some(CallNews::Transfer(step)) => {
                        let _ = self.told.send(LineNews::Transfer(step));
                    }
                    Some(CallNews::DigitAnswered { code: Some(200..=299), .. }) => {}
                    Some(CallNews::DigitAnswered { code, .. }) => {
                        warn!(code, "The other side does not take keys by INFO: change `keys` of the trunk");
                    }
                    Some(CallNews::MediaRefused { .. } | CallNews::TransferAsked { .. }) => {}
                    None => news_open = false,
                },
                order = self.orders.recv(), if orders_open => match order {
                    Some(LineOrder::Answer) => self.answer().await,
                    Some(LineOrder::Refuse(code)) => {
                        let retry_after = Some(AGAIN_AFTER);
                        self.agent.send(Command::RejectFor { key: self.key, code, retry_after });
                    }
                    Some(LineOrder::HangUp(reason)) => {
                        leaving = true;
                        self.agent.send(Command::HangUp(self.key, Some(reason)));
                    }
                    Some(LineOrder::Refer(target)) => self.refer(*target, None).await,
                    Some(LineOrder::TakeOver(other)) => self.take_over(other).await,
                    Some(LineOrder::Digit(digit)) => {
                        self.agent.send(Command::Digit(self.key, digit));
                    }
                    None => {
                        (orders_open, leaving) = (false, true);
                        self.let_go();
                    }
                },
                key = self.leg.moved() => {
                    if leaving {
                        self.agent.send(Command::Reject(key, 603));
                    } else {
                        self.move_to(key).await;
                    }
                }
            }
        }
    }

    fn let_go(&self) {
        self.agent.send(if self.answered {
            Command::HangUp(self.key, Some(HangupReason::normal()))
        } else {
            Command::RejectFor { key: self.key, code: 503, retry_after: Some(AGAIN_AFTER) }
        });
    }

    async fn answer(&mut self) {
        let shared = Arc::clone(&self.shared);
        let Some(trunk) = shared.trunk(self.trunk).filter(|_| !self.answered) else { return };
        let sockets = shared.bind_rtp(trunk.setup.bind.ip());
        let (local, sockets) = match sockets.and_then(|sockets| Ok((sockets.local()?, sockets))) {
            Ok(ready) => ready,
            Err(error) => {
                warn!(%error, "No sockets for the sound of a call");
                return self.let_go();
            }
        };
        let (sender, events) = mpsc::unbounded_channel();
        let (answer, agreed) = oneshot::channel();
        let media = trunk.setup.media(local);
        self.agent.send(Command::Accept { key: self.key, media, events: sender, answer });
        match agreed.await {
            Ok(Ok(media)) => {
                self.answered = true;
                self.events = events;
                self.sockets = Some(sockets);
                self.local = Some(local);
                if let Some(media) = media {
                    self.tell_answered(media);
                }
            }
            // Refused for its media, or withdrawn: the end of the call is on its way.
            Ok(Err(error)) => debug!(%error, "Could not answer"),
            Err(_) => debug!("The SIP task has ended"),
        }
    }

    fn tell_answered(&mut self, media: MediaParams) {
        self.media = Some(media.clone());
        let _ = self.told.send(LineNews::Answered { media, sockets: self.sockets.take() });
    }

    async fn refer(&self, target: Uri, replaces: Option<DialogKey>) {
        let (answer, asked) = oneshot::channel();
        self.agent.send(Command::Refer { key: self.key, target, replaces, answer });
        if !matches!(asked.await, Ok(Ok(()))) {
            let _ = self.told.send(LineNews::Transfer(TransferStep::Refused(None)));
        }
    }

    async fn take_over(&self, other: Standing) {
        if self.leg.standing().is_beside(other) {
            // Whom the other call reaches stands in its own dialog.
            self.refer(Uri::at("", self.agent.local()), Some(other.key)).await;
        } else {
            let _ = self.told.send(LineNews::Transfer(TransferStep::Refused(None)));
        }
    }

    /// Goes on as the call `key`, which wants to take the place of this one; as before where that cannot be.
    async fn move_to(&mut self, key: DialogKey) {
        let shared = Arc::clone(&self.shared);
        let (Some(trunk), Some(local)) = (shared.trunk(self.trunk), self.local) else {
            self.agent.send(Command::Reject(key, 603));
            return;
        };
        let (sender, events) = mpsc::unbounded_channel();
        let (answer, agreed) = oneshot::channel();
        // The sound stays where it is on our side, so that nothing of it is lost.
        let media = trunk.setup.media(local);
        self.agent.send(Command::Accept { key, media, events: sender, answer });
        let agreed = match agreed.await {
            Ok(Ok(agreed)) => agreed,
            Ok(Err(error)) => return debug!(%error, "The call was not moved"),
            Err(_) => return debug!("The SIP task has ended"),
        };
        info!("The network moved the call");
        let (watcher, watched) = mpsc::unbounded_channel();
        self.agent.send(Command::Watch(key, watcher));
        if let Some(trace) = self.trace.clone() {
            self.agent.send(Command::Name { key, trace, trunk: trunk.setup.name.clone() });
        }
        (self.key, self.events, self.watched) = (key, events, watched);
        self.leg.goes_on_as(key);
        if let Some(media) = agreed {
            self.media = Some(media.clone());
            let _ = self.told.send(LineNews::MediaChanged(media));
        }
    }

    fn take_in(&mut self, event: SipEvent) -> Option<LineNews> {
        match event {
            // An offer of ours was answered with the ACK; otherwise the ACK says nothing new.
            SipEvent::Answered { media, .. } if self.sockets.is_some() => self.tell_answered(media),
            SipEvent::Answered { media, .. } | SipEvent::MediaChanged { media, .. } => {
                if self.media.as_ref() != Some(&media) {
                    self.media = Some(media.clone());
                    let _ = self.told.send(LineNews::MediaChanged(media));
                }
            }
            SipEvent::Digit { digit, .. } => {
                let _ = self.told.send(LineNews::Digit(digit));
            }
            SipEvent::Failed { failure, .. } => return Some(LineNews::Failed(failure)),
            SipEvent::PeerHungUp { reason, .. } => return Some(LineNews::PeerHungUp(reason)),
            SipEvent::Ended { .. } => return Some(LineNews::Ended),
            SipEvent::Trying { .. }
            | SipEvent::Ringing { .. }
            | SipEvent::Incoming { .. }
            | SipEvent::Registered { .. }
            | SipEvent::RegistrationFailed { .. }
            | SipEvent::Unregistered
            | SipEvent::OptionsAnswered { .. }
            | SipEvent::OptionsUnanswered { .. } => {}
        }
        None
    }
}
