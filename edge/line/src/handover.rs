//! A person is called for a customer who waits, and the two calls are joined.
//!
//! Who is called when and what follows from it is decided by [`trunkline_sip::hunt::Hunt`]; here are the calls, their
//! sound and the clock. The customer's own call stays with its owner, who gets one end of the bridge.

mod leg;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::debug;
use trunkline_sip::Failure;
use trunkline_sip::hunt::{Hunt, HuntOrder, HuntPlan};

use crate::bridge::Bridge;
use crate::media::MediaHandle;
use crate::player::Clip;
use crate::sip::TraceName;
use crate::trunks::{CallRequest, Standing, Trunks};
use leg::{Leg, LegNews, LegOrder};

const IDLE: Duration = Duration::from_secs(60);

/// Whom to call for a customer, and how.
#[derive(Clone, Debug)]
pub struct HandOverRequest {
    /// The persons; the plan names them by their place here.
    pub persons: Vec<CallRequest>,
    /// Who is called when, and what is asked of who answers.
    pub plan: HuntPlan,
    /// After so long without a packet a person is gone.
    pub lost_after: Duration,
    /// Under which name the calls are traced, if they are.
    pub trace: Option<TraceName>,
}

/// What is told of a hand-over.
#[derive(Debug)]
pub enum HandOverNews {
    /// This person answered; she is not joined yet.
    Answered {
        /// Her place among the persons.
        who: usize,
    },
    /// This person is joined: the other end of her bridge, for the customer's call.
    Joined {
        /// Her place among the persons.
        who: usize,
        /// The end for [`crate::Command::Bridge`] of the customer's call.
        bridge: Box<Bridge>,
        /// Where the call to her stands, for [`crate::trunks::LineOrder::TakeOver`].
        standing: Option<Standing>,
    },
    /// The person who is joined pressed a key.
    Digit(char),
    /// The person who was joined hung up. The last news.
    HungUp,
    /// Nobody took the call. The last news.
    Failed(Failure),
}

#[derive(Debug)]
enum Order {
    Summary(Option<Arc<[Clip]>>),
    Digit(char),
}

/// A hand-over under way. Dropping it lets go of everybody who was called or joined.
#[derive(Debug)]
pub struct HandOver {
    /// What is told.
    pub news: mpsc::UnboundedReceiver<HandOverNews>,
    orders: mpsc::UnboundedSender<Order>,
}

impl HandOver {
    /// Begins to call.
    pub fn begin(trunks: Trunks, media: MediaHandle, request: HandOverRequest) -> Self {
        let (told, news) = mpsc::unbounded_channel();
        let (orders, inbox) = mpsc::unbounded_channel();
        let (leg_told, leg_news) = mpsc::unbounded_channel();
        let task = Task {
            hunt: Hunt::new(Instant::now(), request.plan),
            persons: request.persons,
            lost_after: request.lost_after,
            trace: request.trace,
            trunks,
            media,
            legs: BTreeMap::new(),
            leg_told,
            summary: None,
            told,
        };
        tokio::spawn(task.run(inbox, leg_news));
        Self { news, orders }
    }

    /// Gives the sound of the summary, or says that there will be none.
    pub fn give_summary(&self, clips: Option<Vec<Clip>>) {
        let clips = clips.filter(|clips| !clips.is_empty());
        let _ = self.orders.send(Order::Summary(clips.map(Into::into)));
    }

    /// Passes a key of the customer on to the person who is joined.
    pub fn pass_digit(&self, digit: char) {
        let _ = self.orders.send(Order::Digit(digit));
    }
}

struct Task {
    hunt: Hunt,
    persons: Vec<CallRequest>,
    lost_after: Duration,
    trace: Option<TraceName>,
    trunks: Trunks,
    media: MediaHandle,
    legs: BTreeMap<usize, Leg>,
    leg_told: mpsc::UnboundedSender<(usize, LegNews)>,
    summary: Option<Arc<[Clip]>>,
    told: mpsc::UnboundedSender<HandOverNews>,
}

impl Task {
    async fn run(
        mut self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        mut leg_news: mpsc::UnboundedReceiver<(usize, LegNews)>,
    ) {
        loop {
            while let Some(order) = self.hunt.poll_output() {
                if !self.perform(order) {
                    return;
                }
            }
            let due = self.hunt.poll_timeout().map_or_else(|| Instant::now() + IDLE, |(due, _why)| due);
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                Some((who, news)) = leg_news.recv() => self.on_leg(who, news),
                () = tokio::time::sleep_until(due.into()) => self.hunt.handle_timeout(Instant::now()),
            }
        }
    }

    /// Does what the hunt orders; false when that was the last.
    fn perform(&mut self, order: HuntOrder) -> bool {
        match order {
            HuntOrder::Call(who) => {
                let Some(request) = self.persons.get(who) else { return true };
                let call = match &self.trace {
                    Some(trace) => self.trunks.place_as(request.clone(), trace.clone()),
                    None => self.trunks.place(request.clone()),
                };
                let leg = Leg::start(who, call, self.media.clone(), self.lost_after, self.leg_told.clone());
                self.legs.insert(who, leg);
                true
            }
            HuntOrder::LetGo(who) => {
                debug!(who, "A person is let go");
                self.legs.remove(&who);
                true
            }
            HuntOrder::Won(who) => self.tell(HandOverNews::Answered { who }),
            HuntOrder::Announce(who) => {
                match (self.legs.get(&who), &self.summary) {
                    (Some(leg), Some(clips)) => leg.order(LegOrder::Announce(Arc::clone(clips))),
                    (Some(_) | None, _) => self.hunt.handle_announced(Instant::now(), who),
                }
                true
            }
            HuntOrder::Join(who) => {
                let (bridge, theirs) = Bridge::pair();
                let leg = self.legs.get(&who);
                if let Some(leg) = leg {
                    leg.order(LegOrder::Join(theirs));
                }
                let standing = leg.and_then(Leg::standing);
                self.tell(HandOverNews::Joined { who, bridge, standing })
            }
            HuntOrder::HungUp => {
                self.tell(HandOverNews::HungUp);
                false
            }
            HuntOrder::Failed(failure) => {
                self.tell(HandOverNews::Failed(failure));
                false
            }
        }
    }

    fn tell(&self, news: HandOverNews) -> bool {
        self.told.send(news).is_ok()
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Summary(clips) => {
                let ready = clips.is_some();
                self.summary = clips;
                self.hunt.handle_summary(Instant::now(), ready);
            }
            Order::Digit(digit) => {
                if let Some(leg) = self.hunt.joined().and_then(|who| self.legs.get(&who)) {
                    leg.order(LegOrder::Digit(digit));
                }
            }
        }
    }

    fn on_leg(&mut self, who: usize, news: LegNews) {
        let now = Instant::now();
        if !self.legs.contains_key(&who) {
            return;
        }
        match news {
            LegNews::Answered => self.hunt.handle_answered(now, who),
            LegNews::Announced => self.hunt.handle_announced(now, who),
            LegNews::Digit(digit) if self.hunt.joined() == Some(who) => {
                self.tell(HandOverNews::Digit(digit));
            }
            LegNews::Digit(digit) => self.hunt.handle_digit(now, who, digit),
            LegNews::HungUp => self.hunt.handle_hung_up(now, who),
            LegNews::Failed(failure) => self.hunt.handle_failed(now, who, failure),
        }
    }
}
