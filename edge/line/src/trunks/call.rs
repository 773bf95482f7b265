//! One call out: on the best trunk that takes it, and on the next if that one fails before the far end rang.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, info, warn};
use trunkline_sip::message::{Transport, Uri};
use trunkline_sip::sdp::MediaParams;
use trunkline_sip::trunk::{Next, NoTrunk, Route, TrunkId};
use trunkline_sip::{
    Binding, CallNews, DialogKey, Failure, FailureCause, HangupReason, SipEvent, TransferStep,
};

use super::legs::{Leg, Place, Standing};
use super::{Shared, Trunk, TrunkSetup};
use crate::keys::KeysBy;
use crate::media::RtpSockets;
use crate::player::Command as SoundOrder;
use crate::sip::{Command, SipHandle, TraceName};

/// Whom to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A number, on whichever trunk takes the call.
    Number(String),
    /// An address, past the trunks, at the given place.
    Direct(Box<Uri>, SocketAddr),
    /// A telephone that registered here, as [`super::Trunks::phone`] finds it.
    Phone(Box<Binding>),
}

/// A call to make.
#[derive(Clone, Debug)]
pub struct CallRequest {
    /// Whom.
    pub target: Target,
    /// The number to show; else what the trunk has for that.
    pub from: Option<String>,
    /// How long to let it ring.
    pub ring: Duration,
}

/// One try on one trunk that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The trunk's name.
    pub trunk: String,
    /// Why it failed.
    pub failure: Failure,
}

/// What is told about a call.
#[derive(Debug)]
pub enum LineNews {
    /// It goes out on this trunk.
    Dialing {
        /// The trunk's name; empty for a call past the trunks.
        trunk: String,
    },
    /// That trunk did not take it; the next one is tried, if there is one.
    TrunkFailed(Attempt),
    /// The far end rings, or the network plays something.
    Ringing {
        /// Early media: what is agreed, and the sockets, the first time.
        early: Option<(MediaParams, Option<RtpSockets>)>,
    },
    /// It is answered.
    Answered {
        /// What is agreed.
        media: MediaParams,
        /// The sockets, unless early media have them already.
        sockets: Option<RtpSockets>,
    },
    /// The other side changed the media: hold, resume, another address or codec.
    MediaChanged(MediaParams),
    /// A digit came as INFO.
    Digit(char),
    /// How a transfer goes that was ordered.
    Transfer(TransferStep),
    /// It did not come about, for this reason of the trunk that was tried last. The last news.
    Failed(Failure),
    /// The other side hung up. The last news.
    PeerHungUp(HangupReason),
    /// Our own hang-up is done. The last news.
    Ended,
}

/// What its owner wants of a call.
#[derive(Debug)]
pub enum LineOrder {
    /// Hang up, or give up.
    HangUp(HangupReason),
    /// Ask the other side to call somebody else; [`LineNews::Transfer`] tells how it goes.
    Refer(Box<Uri>),
    /// Ask the other side to take the place of our end of that other call (RFC 5589); [`LineNews::Transfer`] tells
    /// how it goes. Refused where the two are not on the same trunk: nobody else knows that call.
    TakeOver(Standing),
    /// Press a key by INFO; see [`PlacedCall::press`].
    Digit(char),
    /// Answer a call that came in and rings.
    Answer,
    /// Refuse a call that came in and rings, with this status.
    Refuse(u16),
}

/// A call under way. Dropping it hangs up.
#[derive(Debug)]
pub struct PlacedCall {
    /// What is told.
    pub news: mpsc::UnboundedReceiver<LineNews>,
    pub(super) orders: mpsc::UnboundedSender<LineOrder>,
    pub(super) place: Place,
}

impl PlacedCall {
    /// Gives an order; false when the call is over.
    pub fn order(&self, order: LineOrder) -> bool {
        self.orders.send(order).is_ok()
    }

    /// Presses a key as the trunk wants it: by INFO at once, or else as the order for the call's sound that is returned.
    pub fn press(&self, digit: char) -> Option<SoundOrder> {
        match self.place.get().map(|standing| standing.keys).unwrap_or_default() {
            KeysBy::Events => Some(SoundOrder::Digit(digit)),
            KeysBy::Sound => Some(SoundOrder::DigitAsSound(digit)),
            KeysBy::Info => {
                self.order(LineOrder::Digit(digit));
                None
            }
        }
    }

    /// Returns where it stands, once it is dialled and until it is over.
    pub fn standing(&self) -> Option<Standing> {
        self.place.get()
    }

    /// Returns the way to ask where it stands, for somebody who has not the call itself.
    pub(crate) fn place(&self) -> Place {
        self.place.clone()
    }
}

pub(super) fn place(shared: Arc<Shared>, request: CallRequest, trace: Option<TraceName>) -> PlacedCall {
    let (told, news) = mpsc::unbounded_channel();
    let (orders, inbox) = mpsc::unbounded_channel();
    let place = Place::default();
    let task = Task { shared, request, trace, told, orders: inbox, place: place.clone(), last_failure: None };
    tokio::spawn(task.run());
    PlacedCall { news, orders, place }
}

struct Task {
    shared: Arc<Shared>,
    request: CallRequest,
    trace: Option<TraceName>,
    told: mpsc::UnboundedSender<LineNews>,
    orders: mpsc::UnboundedReceiver<LineOrder>,
    place: Place,
    last_failure: Option<Failure>,
}

/// A call on one trunk.
struct Ongoing<'a> {
    setup: &'a TrunkSetup,
    agent: SipHandle,
    key: DialogKey,
    leg: Leg,
    events: mpsc::UnboundedReceiver<SipEvent>,
    news: mpsc::UnboundedReceiver<CallNews>,
    sockets: Option<RtpSockets>,
    /// Where our sound is, wherever the sockets have gone.
    local: SocketAddr,
    /// What is agreed, once it is answered.
    agreed: Option<MediaParams>,
    trunk: Option<TrunkId>,
    /// Whether another trunk could take over.
    may_go_on: bool,
    heard: bool,
    rang: bool,
    given_up: bool,
    /// Until when the trunk must have said something.
    first_word_by: Instant,
}

/// How a try ended.
enum End {
    /// The call is over, and this is the last news of it.
    Over(LineNews),
    Failed {
        failure: Failure,
        rang: bool,
        ours: bool,
    },
}

impl Task {
    async fn run(mut self) {
        let last = match self.request.target.clone() {
            Target::Direct(to, next_hop) => {
                let shared = Arc::clone(&self.shared);
                self.directly(shared.trunks.first(), *to, next_hop, None).await
            }
            Target::Phone(phone) => {
                let (shared, at) = (Arc::clone(&self.shared), phone.at);
                self.directly(shared.phones.as_ref(), phone.contact, at.addr, Some(at.transport)).await
            }
            Target::Number(number) => self.on_a_trunk(&number).await,
        };
        let _ = self.told.send(last);
    }

    async fn directly(
        &mut self,
        trunk: Option<&Trunk>,
        to: Uri,
        next_hop: SocketAddr,
        transport: Option<Transport>,
    ) -> LineNews {
        let Some(trunk) = trunk else { return LineNews::Failed(no_trunk(NoTrunk::NoChannel)) };
        let _ = self.told.send(LineNews::Dialing { trunk: String::new() });
        let begun = self.begin(trunk, None, to, (next_hop, transport), false).await;
        match begun {
            Err(failure) => LineNews::Failed(failure),
            Ok(ongoing) => match self.follow(ongoing).await {
                End::Over(news) => news,
                End::Failed { failure, .. } => LineNews::Failed(failure),
            },
        }
    }

    async fn on_a_trunk(&mut self, number: &str) -> LineNews {
        let shared = Arc::clone(&self.shared);
        let mut rng = StdRng::from_seed(rand::random());
        let mut route = shared.pool().route(Instant::now(), &mut rng);
        let shown = self.request.from.as_deref();
        route.retain(|id| shared.trunk(id).is_some_and(|trunk| trunk.setup.may_carry(shown, number)));
        if route.is_empty() {
            return LineNews::Failed(here(FailureCause::ServerError, NO_LINE.to_owned()));
        }
        loop {
            let id = match self.take(&mut route).await {
                Ok(id) => id,
                Err(news) => return news,
            };
            let Some(trunk) = shared.trunk(id) else { continue };
            let more = !route.is_empty();
            let _ = self.told.send(LineNews::Dialing { trunk: trunk.setup.name.clone() });
            let ended = match (Uri::sip(number, &trunk.setup.domain()), trunk.hop()) {
                (Ok(to), Some(hop)) => {
                    match self.begin(trunk, Some(id), to, (hop.addr, Some(hop.transport)), more).await {
                        Ok(ongoing) => self.follow(ongoing).await,
                        Err(failure) => End::Failed { failure, rang: false, ours: false },
                    }
                }
                (Err(error), _) => End::Failed {
                    failure: here(FailureCause::NotFound, error.to_string()),
                    rang: false,
                    ours: false,
                },
                (Ok(_), None) => {
                    let why = trunk.state().trouble.clone();
                    End::Failed { failure: here(FailureCause::Unreachable, why), rang: false, ours: false }
                }
            };
            shared.pool().release(id);
            let (failure, rang, ours) = match ended {
                End::Over(news) => return news,
                End::Failed { failure, rang, ours } => (failure, rang, ours),
            };
            if ours {
                return LineNews::Failed(failure);
            }
            let next = shared.with_pool(id, |pool| pool.handle_failure(Instant::now(), id, &failure, rang));
            match next {
                Next::GiveUp => return LineNews::Failed(failure),
                Next::TryNext => {
                    info!(trunk = trunk.setup.name, rang, "The trunk does not take the call: {failure}");
                    shared.note(trunk, |state| state.trouble = failure.to_string());
                    self.last_failure = Some(failure.clone());
                    let attempt = Attempt { trunk: trunk.setup.name.clone(), failure };
                    let _ = self.told.send(LineNews::TrunkFailed(attempt));
                }
            }
        }
    }

    /// Takes the next trunk, waiting for a turn if need be.
    async fn take(&mut self, route: &mut Route) -> Result<TrunkId, LineNews> {
        let give_up_at = Instant::now() + self.shared.config.turn_within;
        loop {
            let now = Instant::now();
            let taken = self.shared.pool().take(now, route);
            let wait = match taken {
                Ok(id) => return Ok(id),
                Err(NoTrunk::TooFast { wait }) if now + wait <= give_up_at => wait,
                Err(none) => {
                    // What the last trunk said is more to the point than that there is no other.
                    let failure = self.last_failure.take().unwrap_or_else(|| no_trunk(none));
                    return Err(LineNews::Failed(failure));
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                order = self.orders.recv() => match order {
                    Some(
                        LineOrder::Refer(_)
                        | LineOrder::TakeOver(_)
                        | LineOrder::Digit(_)
                        | LineOrder::Answer
                        | LineOrder::Refuse(_),
                    ) => {}
                    Some(LineOrder::HangUp(_)) | None => {
                        return Err(LineNews::Failed(here(FailureCause::Cancelled, "withdrawn before it was dialled")));
                    }
                },
            }
        }
    }

    async fn begin<'a>(
        &mut self,
        trunk: &'a Trunk,
        id: Option<TrunkId>,
        to: Uri,
        (next_hop, transport): (SocketAddr, Option<Transport>),
        may_go_on: bool,
    ) -> Result<Ongoing<'a>, Failure> {
        let setup = &trunk.setup;
        let agent = self.shared.agent(trunk).clone();
        let sockets = self.shared.bind_rtp(setup.bind.ip());
        let ready = sockets.and_then(|sockets| Ok((sockets.local()?, sockets)));
        let (local, sockets) = ready.map_err(|error| here(FailureCause::ServerError, error.to_string()))?;
        let mut invite = setup.invite(self.request.from.as_deref(), to, next_hop, setup.media(local));
        invite.transport = transport;
        invite.ring_timeout = self.request.ring;
        let (sender, events) = mpsc::unbounded_channel();
        let (answer, key) = oneshot::channel();
        agent.send(Command::Invite { request: Box::new(invite), events: sender, answer });
        let key = key.await.map_err(|_| here(FailureCause::ServerError, "the SIP task has ended"))?;
        let key = key.map_err(|error| here(FailureCause::ServerError, error.to_string()))?;
        if let Some(trace) = self.trace.clone() {
            let trunk = id.map_or_else(String::new, |_| setup.name.clone());
            agent.send(Command::Name { key, trace, trunk });
        }
        let (watcher, news) = mpsc::unbounded_channel();
        agent.send(Command::Watch(key, watcher));
        let standing = Standing { agent: trunk.agent, trunk: id, key, keys: setup.keys };
        Ok(Ongoing {
            setup,
            agent,
            key,
            leg: Leg::begin(&self.shared, standing, self.place.clone()),
            events,
            news,
            sockets: Some(sockets),
            local,
            agreed: None,
            trunk: id,
            may_go_on,
            heard: false,
            rang: false,
            given_up: false,
            first_word_by: Instant::now() + self.shared.config.first_word,
        })
    }

    async fn follow(&mut self, mut call: Ongoing<'_>) -> End {
        let mut orders_open = true;
        let mut news_open = true;
        let mut ours = false;
        loop {
            let waits = call.may_go_on && !call.heard && !call.given_up;
            tokio::select! {
                event = call.events.recv() => match event {
                    Some(event) => {
                        if let Some(mut end) = self.take_in(&mut call, event) {
                            if let End::Failed { ours: told, .. } = &mut end {
                                *told = ours;
                            }
                            return end;
                        }
                    }
                    None => {
                        let failure = here(FailureCause::ServerError, "the SIP task has ended");
                        return End::Failed { failure, rang: call.rang, ours };
                    }
                },
                news = call.news.recv(), if news_open => match news {
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
                    Some(LineOrder::HangUp(reason)) => {
                        ours = true;
                        call.agent.send(Command::HangUp(call.key, Some(reason)));
                    }
                    Some(LineOrder::Refer(target)) => self.refer(&call, *target, None).await,
                    Some(LineOrder::TakeOver(other)) => self.take_over(&call, other).await,
                    Some(LineOrder::Digit(digit)) => drop(call.agent.send(Command::Digit(call.key, digit))),
                    Some(LineOrder::Answer | LineOrder::Refuse(_)) => {}
                    None => {
                        orders_open = false;
                        ours = true;
                        call.agent.send(Command::HangUp(call.key, Some(HangupReason::normal())));
                    }
                },
                key = call.leg.moved() => {
                    if ours || call.given_up {
                        call.agent.send(Command::Reject(key, 603));
                    } else {
                        self.move_to(&mut call, key).await;
                    }
                }
                () = tokio::time::sleep_until(call.first_word_by.into()), if waits => {
                    debug!("No word from the trunk; the next one is tried");
                    call.given_up = true;
                    call.agent.send(Command::HangUp(call.key, None));
                }
            }
        }
    }

    async fn refer(&self, call: &Ongoing<'_>, target: Uri, replaces: Option<DialogKey>) {
        let (answer, asked) = oneshot::channel();
        call.agent.send(Command::Refer { key: call.key, target, replaces, answer });
        if !matches!(asked.await, Ok(Ok(()))) {
            let _ = self.told.send(LineNews::Transfer(TransferStep::Refused(None)));
        }
    }

    async fn take_over(&self, call: &Ongoing<'_>, other: Standing) {
        if call.leg.standing().is_beside(other) {
            // Whom the other call reaches stands in its own dialog.
            let unused = Uri::at("", call.agent.local());
            self.refer(call, unused, Some(other.key)).await;
        } else {
            let _ = self.told.send(LineNews::Transfer(TransferStep::Refused(None)));
        }
    }

    /// Goes on as the call `key`, which wants to take the place of this one; as before where that cannot be.
    async fn move_to(&mut self, call: &mut Ongoing<'_>, key: DialogKey) {
        let (sender, events) = mpsc::unbounded_channel();
        let (answer, agreed) = oneshot::channel();
        // The sound stays where it is on our side, so that nothing of it is lost.
        let media = call.setup.media(call.local);
        call.agent.send(Command::Accept { key, media, events: sender, answer });
        let agreed = match agreed.await {
            Ok(Ok(agreed)) => agreed,
            Ok(Err(error)) => return debug!(%error, "The call was not moved"),
            Err(_) => return debug!("The SIP task has ended"),
        };
        info!("The network moved the call");
        let (watcher, news) = mpsc::unbounded_channel();
        call.agent.send(Command::Watch(key, watcher));
        if let Some(trace) = self.trace.clone() {
            let trunk = call.trunk.map_or_else(String::new, |_| call.setup.name.clone());
            call.agent.send(Command::Name { key, trace, trunk });
        }
        (call.key, call.events, call.news, call.heard) = (key, events, news, true);
        call.leg.goes_on_as(key);
        if let Some(media) = agreed {
            let _ = self.told.send(answered(call, media));
        }
    }

    fn take_in(&mut self, call: &mut Ongoing<'_>, event: SipEvent) -> Option<End> {
        if !call.heard
            && let Some(id) = call.trunk
            && matches!(event, SipEvent::Trying { .. } | SipEvent::Ringing { .. } | SipEvent::Answered { .. })
        {
            call.heard = true;
            self.shared.alive(id);
        }
        let news = match event {
            SipEvent::Ringing { early, .. } => {
                call.rang = true;
                LineNews::Ringing { early: early.map(|media| (media, call.sockets.take())) }
            }
            // The ACK of a call that was moved says nothing new.
            SipEvent::Answered { media, .. } if call.agreed.as_ref() == Some(&media) => return None,
            SipEvent::Answered { media, .. } => answered(call, media),
            SipEvent::MediaChanged { media, .. } => LineNews::MediaChanged(media),
            SipEvent::Digit { digit, .. } => LineNews::Digit(digit),
            SipEvent::Failed { failure, .. } => {
                let failure = if call.given_up {
                    here(FailureCause::Unreachable, "it does not answer the call")
                } else {
                    failure
                };
                return Some(End::Failed { failure, rang: call.rang, ours: false });
            }
            SipEvent::PeerHungUp { reason, .. } => return Some(End::Over(LineNews::PeerHungUp(reason))),
            SipEvent::Ended { .. } => return Some(End::Over(LineNews::Ended)),
            SipEvent::Trying { .. }
            | SipEvent::Incoming { .. }
            | SipEvent::Registered { .. }
            | SipEvent::RegistrationFailed { .. }
            | SipEvent::Unregistered
            | SipEvent::OptionsAnswered { .. }
            | SipEvent::OptionsUnanswered { .. } => return None,
        };
        let _ = self.told.send(news);
        None
    }
}

/// Takes in what is agreed: the first time the call is answered, and later it goes on elsewhere.
fn answered(call: &mut Ongoing<'_>, media: MediaParams) -> LineNews {
    // Whatever breaks from here on, nobody is called a second time.
    call.rang = true;
    match call.agreed.replace(media.clone()) {
        None => LineNews::Answered { media, sockets: call.sockets.take() },
        Some(_) => LineNews::MediaChanged(media),
    }
}

pub(super) fn here(cause: FailureCause, reason: impl Into<String>) -> Failure {
    Failure { cause, sip_code: None, reason: Some(reason.into()), q850: None }
}

const NO_LINE: &str =
    "no trunk may call this number with this caller ID: see `serves` and `caller_ids` of the trunks";

fn no_trunk(why: NoTrunk) -> Failure {
    here(FailureCause::ServerError, why.to_string())
}
