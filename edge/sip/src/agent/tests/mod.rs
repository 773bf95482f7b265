//! Two agents on a simulated network, and one agent against written-out messages, in virtual time.

mod calls;
mod chaos;
mod digits;
mod lossy;
mod peer;
mod registrar;
mod registration;
mod reliable;
mod replaces;
mod session;
mod transfer;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::sdp::LocalMedia;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Caller,
    Callee,
}

/// How bad the network is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    pub(super) loss: f64,
    pub(super) duplicate: f64,
    pub(super) longest_delay_ms: u64,
}

pub(super) const FAIR: Weather = Weather { loss: 0.0, duplicate: 0.0, longest_delay_ms: 10 };

/// Two agents and what is in flight between them.
pub(super) struct Pair {
    pub(super) t0: Instant,
    pub(super) now: Instant,
    pub(super) caller: UserAgent,
    pub(super) callee: UserAgent,
    pub(super) weather: Weather,
    pub(super) rng: StdRng,
    wire: BTreeMap<(Instant, u64), (Hop, SocketAddr, Bytes)>,
    sequence: u64,
    /// Start lines with the millisecond they were sent at.
    pub(super) sent: Vec<(u128, Side, String)>,
    pub(super) events: Vec<(u128, Side, SipEvent)>,
    /// Events the test has not looked at.
    unread: Vec<(Side, SipEvent)>,
    pub(super) news: Vec<(Side, CallNews)>,
}

pub(super) fn addr(side: Side) -> SocketAddr {
    match side {
        Side::Caller => "192.0.2.1:5060".parse().unwrap(),
        Side::Callee => "192.0.2.2:5060".parse().unwrap(),
    }
}

pub(super) fn media(side: Side) -> LocalMedia {
    let port = match side {
        Side::Caller => 4_000,
        Side::Callee => 6_000,
    };
    LocalMedia::new(SocketAddr::new(addr(side).ip(), port))
}

pub(super) fn config(side: Side) -> UaConfig {
    let mut config = UaConfig::new(addr(side));
    match side {
        Side::Caller => config.trunk = Some(addr(Side::Callee)),
        Side::Callee => config.allowed_peers = Some(vec![addr(Side::Caller).ip()]),
    }
    config
}

impl Pair {
    pub(super) fn new() -> Self {
        Self::with(config(Side::Caller), config(Side::Callee), 1)
    }

    pub(super) fn with(caller: UaConfig, callee: UaConfig, seed: u64) -> Self {
        let now = Instant::now();
        let mut rng = StdRng::seed_from_u64(seed);
        Self {
            t0: now,
            now,
            caller: UserAgent::new(caller, rng.random()),
            callee: UserAgent::new(callee, rng.random()),
            weather: FAIR,
            rng,
            wire: BTreeMap::new(),
            sequence: 0,
            sent: Vec::new(),
            events: Vec::new(),
            unread: Vec::new(),
            news: Vec::new(),
        }
    }

    pub(super) fn call(&mut self) -> DialogKey {
        let request = InviteRequest::new("4000", Uri::sip("1001", "192.0.2.2").unwrap(), media(Side::Caller));
        self.caller.invite(self.now, request).unwrap()
    }

    pub(super) fn agent(&mut self, side: Side) -> &mut UserAgent {
        match side {
            Side::Caller => &mut self.caller,
            Side::Callee => &mut self.callee,
        }
    }

    fn ms(&self) -> u128 {
        self.now.duration_since(self.t0).as_millis()
    }

    fn drain(&mut self) {
        for side in [Side::Caller, Side::Callee] {
            while let Some(output) = self.agent(side).poll_output() {
                let at = self.ms();
                match output {
                    Output::Event(event) => {
                        self.events.push((at, side, event.clone()));
                        self.unread.push((side, event));
                    }
                    Output::News { news, .. } => self.news.push((side, news)),
                    Output::Send { transport, to, bytes } => {
                        let text = String::from_utf8_lossy(&bytes);
                        let first = text.lines().next().unwrap();
                        self.sent.push((at, side, first.split(" sip:").next().unwrap().to_owned()));
                        let copies = 1 + usize::from(self.rng.random_bool(self.weather.duplicate));
                        for _ in 0..copies {
                            if self.rng.random_bool(self.weather.loss) {
                                continue;
                            }
                            let delay = self.rng.random_range(1..=self.weather.longest_delay_ms);
                            self.sequence += 1;
                            let due = self.now + Duration::from_millis(delay);
                            let from = Hop::new(transport, addr(side));
                            self.wire.insert((due, self.sequence), (from, to, bytes.clone()));
                        }
                    }
                }
            }
        }
    }

    /// Does the next thing that is due before `limit`; false if there is none.
    fn step(&mut self, limit: Instant) -> bool {
        self.drain();
        let wire = self.wire.keys().next().map(|key| key.0);
        let timers = [self.caller.poll_timeout(), self.callee.poll_timeout()];
        let due = timers.into_iter().flatten().map(|timer| timer.0).chain(wire).min();
        let Some(due) = due.filter(|due| *due <= limit) else { return false };
        self.now = self.now.max(due);
        while let Some(entry) = self.wire.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let (from, to, bytes) = entry.remove();
            for side in [Side::Caller, Side::Callee] {
                if addr(side) == to {
                    let now = self.now;
                    self.agent(side).handle_message(now, from, &bytes);
                }
            }
        }
        self.caller.handle_timeout(self.now);
        self.callee.handle_timeout(self.now);
        self.drain();
        true
    }

    /// Lets time run until an event comes that `wanted` likes; panics after ten minutes.
    pub(super) fn until<T>(&mut self, side: Side, wanted: impl Fn(&SipEvent) -> Option<T>) -> T {
        let limit = self.now + Duration::from_secs(600);
        loop {
            self.drain();
            let found = self.unread.iter().position(|(at, event)| *at == side && wanted(event).is_some());
            if let Some(found) = found {
                let (_, event) = self.unread.remove(found);
                return wanted(&event).unwrap();
            }
            assert!(self.step(limit), "never came; so far {:#?}", self.events);
        }
    }

    /// Lets time run until the other side of a call tells `wanted`; panics after ten minutes.
    pub(super) fn until_news(&mut self, side: Side, wanted: impl Fn(&CallNews) -> bool) -> CallNews {
        let limit = self.now + Duration::from_secs(600);
        loop {
            self.drain();
            if let Some(at) = self.news.iter().position(|(at, news)| *at == side && wanted(news)) {
                return self.news.remove(at).1;
            }
            assert!(self.step(limit), "never came; so far {:#?}", self.news);
        }
    }

    /// Loses everything that is sent from now on.
    pub(super) fn cut(&mut self) {
        self.weather.loss = 1.0;
    }

    /// Lets time run for so long.
    pub(super) fn run_for(&mut self, time: Duration) {
        let limit = self.now + time;
        while self.step(limit) {}
        self.now = limit;
    }

    /// Lets time run until nothing is left to do.
    pub(super) fn settle(&mut self) {
        self.run_for(Duration::from_secs(600));
        assert!(self.caller.is_idle(), "caller: {:?}\n{:#?}", self.caller.gauges(), self.sent);
        assert!(self.callee.is_idle(), "callee: {:?}\n{:#?}", self.callee.gauges(), self.sent);
    }

    pub(super) fn sent_by(&self, side: Side) -> Vec<&str> {
        self.sent.iter().filter(|line| line.1 == side).map(|line| line.2.as_str()).collect()
    }

    /// Sets a call up and returns its two keys.
    pub(super) fn set_up(&mut self) -> (DialogKey, DialogKey) {
        let caller = self.call();
        let callee = self.until(Side::Callee, incoming);
        self.callee.accept(self.now, callee, media(Side::Callee)).unwrap();
        self.until(Side::Caller, answered);
        self.until(Side::Callee, answered);
        (caller, callee)
    }
}

pub(super) fn incoming(event: &SipEvent) -> Option<DialogKey> {
    if let SipEvent::Incoming { key, .. } = event { Some(*key) } else { None }
}

pub(super) fn answered(event: &SipEvent) -> Option<crate::sdp::MediaParams> {
    if let SipEvent::Answered { media, .. } = event { Some(media.clone()) } else { None }
}

pub(super) fn failed(event: &SipEvent) -> Option<Failure> {
    if let SipEvent::Failed { failure, .. } = event { Some(failure.clone()) } else { None }
}

pub(super) fn hung_up(event: &SipEvent) -> Option<HangupReason> {
    if let SipEvent::PeerHungUp { reason, .. } = event { Some(reason.clone()) } else { None }
}

pub(super) fn changed(event: &SipEvent) -> Option<crate::sdp::Direction> {
    if let SipEvent::MediaChanged { media, .. } = event { Some(media.direction) } else { None }
}

pub(super) fn ended(event: &SipEvent) -> Option<()> {
    matches!(event, SipEvent::Ended { .. }).then_some(())
}

/// One agent against messages that the test writes out.
pub(super) struct Solo {
    pub(super) now: Instant,
    pub(super) agent: UserAgent,
    pub(super) peer: SocketAddr,
}

impl Solo {
    pub(super) fn new(side: Side) -> Self {
        let peer = match side {
            Side::Caller => addr(Side::Callee),
            Side::Callee => addr(Side::Caller),
        };
        Self { now: Instant::now(), agent: UserAgent::new(config(side), [3; 32]), peer }
    }

    pub(super) fn hear(&mut self, text: &str) {
        let text = text.replace("\r\n", "\n").replace('\n', "\r\n");
        self.agent.handle_datagram(self.now, self.peer, text.as_bytes());
    }

    pub(super) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((due, _)) = self.agent.poll_timeout().filter(|(due, _)| *due <= end) {
            self.now = due;
            self.agent.handle_timeout(due);
        }
        self.now = end;
    }

    /// Returns what was sent and told since the last time.
    pub(super) fn take(&mut self) -> (Vec<Message>, Vec<SipEvent>) {
        let (mut messages, mut events) = (Vec::new(), Vec::new());
        while let Some(output) = self.agent.poll_output() {
            match output {
                Output::Send { bytes, .. } => {
                    messages.push(Message::parse(&bytes).expect("we print what we can read"))
                }
                Output::Event(event) => events.push(event),
                Output::News { .. } => {}
            }
        }
        (messages, events)
    }

    pub(super) fn requests(&mut self) -> Vec<Request> {
        let only = |message| match message {
            Message::Request(request) => Some(request),
            Message::Response(_) => None,
        };
        self.take().0.into_iter().filter_map(only).collect()
    }

    pub(super) fn responses(&mut self) -> Vec<Response> {
        let only = |message| match message {
            Message::Response(response) => Some(response),
            Message::Request(_) => None,
        };
        self.take().0.into_iter().filter_map(only).collect()
    }

    /// Calls out and returns the INVITE.
    pub(super) fn call(&mut self) -> (DialogKey, Request) {
        let request = InviteRequest::new("4000", Uri::sip("1001", "192.0.2.2").unwrap(), media(Side::Caller));
        let key = self.agent.invite(self.now, request).unwrap();
        (key, self.requests().remove(0))
    }
}

/// Writes an answer to `request`, with `tag` on To and `more` header lines, as a peer would.
pub(super) fn reply(request: &Request, code: u16, tag: &str, more: &str, body: &str) -> String {
    let mut response = Response::answer(&request.headers, code, "Phrase");
    response.tag_to(tag);
    for line in more.lines() {
        let (name, value) = line.split_once(':').unwrap();
        response.headers.push(name, value);
    }
    response.body = Bytes::from(body.to_owned());
    String::from_utf8(response.to_bytes().to_vec()).unwrap()
}

/// A plain session description at `addr`.
pub(super) fn sdp(addr: &str, attributes: &str) -> String {
    let (ip, port) = addr.split_once(':').unwrap();
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 8\r\n{attributes}"
    )
}
