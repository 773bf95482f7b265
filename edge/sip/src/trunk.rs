//! Which trunk a call goes out on: priority and weight, channels, calls per second, health, failover.
//!
//! A pool knows every trunk of a box. It is asked for a [`Route`] when a call is to be made, and told how the call
//! went; time and randomness are arguments, and pings are sent by whoever owns the sockets.

mod srv;

use std::time::{Duration, Instant};

use rand::Rng;

pub use srv::{SrvRecord, order_srv};

use crate::agent::{Failure, FailureCause};

/// Names a trunk of a pool, in the order of its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrunkId(pub u16);

/// What a pool is told about one trunk.
#[derive(Clone, Debug, PartialEq)]
pub struct TrunkSettings {
    /// The lower, the earlier it is tried, as in SRV.
    pub priority: u16,
    /// How often it comes first among those of its priority, in proportion; 0 is nearly never.
    pub weight: u16,
    /// Calls at a time.
    pub channels: u32,
    /// New calls a second that it takes, such as 5.0; more are put on the next trunk, or wait.
    pub calls_per_second: f64,
    /// How often it is asked by OPTIONS whether it is alive; `None` for a trunk that does not answer those.
    pub ping_every: Option<Duration>,
}

impl Default for TrunkSettings {
    /// The first to try, 30 channels, 5 calls a second, a ping every 30 s.
    fn default() -> Self {
        Self {
            priority: 0,
            weight: 1,
            channels: 30,
            calls_per_second: 5.0,
            ping_every: Some(Duration::from_secs(30)),
        }
    }
}

/// How a trunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It takes calls, as far as is known.
    Up,
    /// It did not answer: it is tried when no other is left.
    Down,
    /// It said that it has too much to do: left alone until then.
    Resting {
        /// When it is asked again.
        until: Instant,
    },
}

/// The trunks that one call may still try, best first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    left: Vec<TrunkId>,
}

impl Route {
    /// Leaves out the trunks that may not carry the call.
    pub fn retain(&mut self, may_carry: impl Fn(TrunkId) -> bool) {
        self.left.retain(|id| may_carry(*id));
    }

    /// Tells whether every trunk was tried.
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }
}

/// What to do after a call failed on one trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It was the trunk's fault: take the next of the route.
    TryNext,
    /// It was about whom we call, or about us: the next trunk would say the same.
    GiveUp,
}

/// Why no call can go out now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTrunk {
    /// Every trunk has as many calls as it may, or was tried.
    #[error("no trunk has a channel free")]
    NoChannel,
    /// A trunk has a channel, but takes the next call only later.
    #[error("the trunks take the next call only in {wait:?}")]
    TooFast {
        /// In how long.
        wait: Duration,
    },
}

#[derive(Debug)]
struct Trunk {
    settings: TrunkSettings,
    health: Health,
    calls: u32,
    /// New calls that it takes now, a bucket that fills at its rate up to one second's worth.
    credit: f64,
    credited_at: Option<Instant>,
    ping_at: Option<Instant>,
    missed_pings: u32,
    /// It wants a registration, and there is none now.
    unregistered: bool,
}

/// Pings without an answer after which a trunk counts as down.
const MISSED: u32 = 2;
/// How long a trunk is left alone that answered 503 without saying for how long.
const REST: Duration = Duration::from_secs(30);
/// The longest rest that a trunk may ask for.
const LONGEST_REST: Duration = Duration::from_secs(600);

/// All trunks of a box.
#[derive(Debug)]
pub struct TrunkPool {
    trunks: Vec<Trunk>,
}

impl TrunkPool {
    /// Makes a pool; all trunks count as up until they show otherwise.
    pub fn new(settings: impl IntoIterator<Item = TrunkSettings>) -> Self {
        let trunk = |settings: TrunkSettings| Trunk {
            credit: settings.calls_per_second.max(1.0),
            settings,
            health: Health::Up,
            calls: 0,
            credited_at: None,
            ping_at: None,
            missed_pings: 0,
            unregistered: false,
        };
        Self { trunks: settings.into_iter().map(trunk).collect() }
    }

    /// Plans a call: by priority, weighted at random within one, trunks that are down or resting last.
    pub fn route(&self, now: Instant, rng: &mut impl Rng) -> Route {
        let records: Vec<(bool, SrvRecord<TrunkId>)> = self
            .trunks
            .iter()
            .enumerate()
            .map(|(at, trunk)| {
                let target = TrunkId(u16::try_from(at).unwrap_or(u16::MAX));
                let (priority, weight) = (trunk.settings.priority, trunk.settings.weight);
                (trunk.is_well(now), SrvRecord { priority, weight, target })
            })
            .collect();
        let mut left = Vec::with_capacity(records.len());
        for wanted in [true, false] {
            let some: Vec<_> = records.iter().filter(|(well, _)| *well == wanted).map(|(_, r)| *r).collect();
            left.extend(order_srv(&some, rng).into_iter().map(|record| record.target));
        }
        Route { left }
    }

    /// Takes the next trunk of a route that has a channel and takes a call now, and counts the call on it.
    ///
    /// # Errors
    /// When there is none. The route keeps those that are only too busy now, so that it can be asked again.
    pub fn take(&mut self, now: Instant, route: &mut Route) -> Result<TrunkId, NoTrunk> {
        let mut wait: Option<Duration> = None;
        for at in 0..route.left.len() {
            let id = route.left[at];
            let Some(trunk) = self.trunks.get_mut(usize::from(id.0)) else { continue };
            if trunk.calls >= trunk.settings.channels {
                continue;
            }
            trunk.refill(now);
            if trunk.credit >= 1.0 {
                trunk.credit -= 1.0;
                trunk.calls += 1;
                route.left.remove(at);
                return Ok(id);
            }
            let rate = trunk.settings.calls_per_second;
            let until_next = Duration::try_from_secs_f64((1.0 - trunk.credit) / rate.max(1e-3));
            let until_next = until_next.unwrap_or(LONGEST_REST);
            wait = Some(wait.map_or(until_next, |wait| wait.min(until_next)));
        }
        Err(wait.map_or(NoTrunk::NoChannel, |wait| NoTrunk::TooFast { wait }))
    }

    /// Counts a call that comes from a trunk; false when the trunk has as many calls as it may. How many come a second
    /// is the trunk's own affair.
    pub fn take_from(&mut self, id: TrunkId) -> bool {
        let Some(trunk) = self.trunks.get_mut(usize::from(id.0)) else { return false };
        let free = trunk.calls < trunk.settings.channels;
        trunk.calls += u32::from(free);
        free
    }

    /// Counts a call off, however it ended. Every [`Self::take`] and every good [`Self::take_from`] needs exactly one.
    pub fn release(&mut self, id: TrunkId) {
        if let Some(trunk) = self.trunks.get_mut(usize::from(id.0)) {
            trunk.calls = trunk.calls.saturating_sub(1);
        }
    }

    /// Takes in that a call failed before its answer, and tells whether the next trunk may do better.
    ///
    /// `rang`: the far end was reached, so that another trunk would only ring there again.
    pub fn handle_failure(&mut self, now: Instant, id: TrunkId, failure: &Failure, rang: bool) -> Next {
        let trouble = trouble(failure);
        if let Some(trunk) = self.trunks.get_mut(usize::from(id.0)) {
            match trouble {
                Some(Trouble::Silent) if !rang => trunk.miss(now, MISSED),
                Some(Trouble::Overloaded) => trunk.health = Health::Resting { until: now + REST },
                Some(Trouble::Silent | Trouble::Broken) | None => {}
            }
        }
        if trouble.is_some() && !rang { Next::TryNext } else { Next::GiveUp }
    }

    /// Takes in that a trunk asks to be left alone for a while, as Retry-After says.
    pub fn handle_retry_after(&mut self, now: Instant, id: TrunkId, wait: Duration) {
        if let Some(trunk) = self.trunks.get_mut(usize::from(id.0)) {
            trunk.health = Health::Resting { until: now + wait.min(LONGEST_REST) };
        }
    }

    /// Takes in that a trunk showed itself alive: it answered a ping, or a call.
    pub fn handle_alive(&mut self, id: TrunkId) {
        if let Some(trunk) = self.trunks.get_mut(usize::from(id.0)) {
            trunk.missed_pings = 0;
            if trunk.health == Health::Down {
                trunk.health = Health::Up;
            }
        }
    }

    /// Takes in whether our registration at a trunk holds: without it the trunk is tried last.
    pub fn handle_registration(&mut self, id: TrunkId, holds: bool) {
        if let Some(trunk) = self.trunks.get_mut(usize::from(id.0)) {
            trunk.unregistered = !holds;
        }
    }

    /// Tells whether a trunk takes calls now, as far as is known; false for one that does not exist.
    pub fn is_well(&self, now: Instant, id: TrunkId) -> bool {
        self.trunks.get(usize::from(id.0)).is_some_and(|trunk| trunk.is_well(now))
    }

    /// Takes in that a ping was not answered.
    pub fn handle_ping_lost(&mut self, now: Instant, id: TrunkId) {
        if let Some(trunk) = self.trunks.get_mut(usize::from(id.0)) {
            trunk.miss(now, 1);
        }
    }

    /// Returns the trunks to ping now; each is due again after its interval, one that is down more often.
    pub fn due_pings(&mut self, now: Instant) -> Vec<TrunkId> {
        let mut due = Vec::new();
        for (at, trunk) in self.trunks.iter_mut().enumerate() {
            let Some(every) = trunk.settings.ping_every else { continue };
            if trunk.ping_at.is_none_or(|at| now >= at) {
                let every =
                    if trunk.health == Health::Down { every.min(Duration::from_secs(10)) } else { every };
                trunk.ping_at = Some(now + every);
                due.push(TrunkId(u16::try_from(at).unwrap_or(u16::MAX)));
            }
        }
        due
    }

    /// Returns when [`Self::due_pings`] has something again; `None` if no trunk is pinged.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let pinged = self.trunks.iter().filter(|trunk| trunk.settings.ping_every.is_some());
        pinged.map(|trunk| trunk.ping_at.unwrap_or(now)).min()
    }

    /// Returns how a trunk is; `None` if there is none of that name.
    pub fn health(&self, id: TrunkId) -> Option<Health> {
        self.trunks.get(usize::from(id.0)).map(|trunk| trunk.health)
    }

    /// Returns how many calls are on a trunk.
    pub fn calls(&self, id: TrunkId) -> u32 {
        self.trunks.get(usize::from(id.0)).map_or(0, |trunk| trunk.calls)
    }

    /// Returns how many calls could begin now, all trunks that are well together.
    pub fn free_channels(&self, now: Instant) -> u32 {
        let well = self.trunks.iter().filter(|trunk| trunk.is_well(now));
        well.map(|trunk| trunk.settings.channels.saturating_sub(trunk.calls)).sum()
    }
}

impl Trunk {
    fn is_well(&self, now: Instant) -> bool {
        if self.unregistered {
            return false;
        }
        match self.health {
            Health::Up => true,
            Health::Down => false,
            Health::Resting { until } => now >= until,
        }
    }

    fn refill(&mut self, now: Instant) {
        let since = self.credited_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let rate = self.settings.calls_per_second;
        self.credit = (self.credit + since.as_secs_f64() * rate).min(rate.max(1.0));
        self.credited_at = Some(now);
        if self.is_well(now) && matches!(self.health, Health::Resting { .. }) {
            self.health = Health::Up;
        }
    }

    fn miss(&mut self, now: Instant, times: u32) {
        self.missed_pings = self.missed_pings.saturating_add(times);
        if self.missed_pings >= MISSED {
            if self.health != Health::Down {
                self.ping_at = Some(now + Duration::from_secs(5));
            }
            self.health = Health::Down;
        }
    }
}

/// What a failure says about the trunk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// Nothing was heard from it.
    Silent,
    /// It has too much to do (503).
    Overloaded,
    /// It, or what is behind it, is broken in a way that another trunk may not be.
    Broken,
}

fn trouble(failure: &Failure) -> Option<Trouble> {
    // The network's own word on whom we call counts for every trunk: busy, no answer, no such number, …
    let about_callee = failure.q850.is_some_and(|cause| matches!(cause, 1 | 16..=22 | 26..=28 | 31));
    match (failure.sip_code, failure.cause) {
        (Some(_), _) if about_callee => None,
        (None, FailureCause::Unreachable) => Some(Trouble::Silent),
        (Some(503), _) => Some(Trouble::Overloaded),
        (Some(408), _) => Some(Trouble::Silent),
        (Some(500..=599), _) => Some(Trouble::Broken),
        (Some(_) | None, _) => None,
    }
}

#[cfg(test)]
mod tests;
