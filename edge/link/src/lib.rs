//! When the box sends which event to the cloud, without I/O.
//!
//! Events lie in the journal (`edge/store`). At most [`WINDOW`] are under way at a time; one is
//! finished when the cloud's own acknowledgement covers it, which the cloud sends after its database
//! commit. The broker's PUBACK proves nothing and is not looked at.
//!
//! **Invariant:** nothing here opens a socket or reads a clock.
//! **Invariant:** an event is never skipped: the acknowledged mark moves only over a gapless run.
//!
//! Absent on purpose: turns, which are not kept (`edge/call` asks again), and MQTT itself
//! (`edge/agent`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use trunkline_wire::Ack;

/// How many events may be under way without an acknowledgement.
pub const WINDOW: u64 = 100;
/// After this long without an acknowledgement an event is sent again.
pub const RESEND_AFTER: Duration = Duration::from_secs(10);

/// What the shell shall do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Publish the event of this number.
    Send(u64),
    /// Everything up to this number is in the cloud's database: the journal may forget it.
    Acknowledged(u64),
}

/// The state of sending.
#[derive(Debug)]
pub struct Outbox {
    connected: bool,
    /// Every event up to here is acknowledged.
    acked: u64,
    /// The newest event in the journal.
    newest: u64,
    /// Events under way, and when each was sent last.
    in_flight: BTreeMap<u64, Instant>,
    /// The next event that was not sent in this connection.
    next: u64,
    resend: Vec<u64>,
    announce: bool,
}

impl Outbox {
    /// Starts with what the store says: acknowledged up to `acked`, the newest being `newest`.
    pub fn new(acked: u64, newest: u64) -> Self {
        Self {
            connected: false,
            acked,
            newest,
            in_flight: BTreeMap::new(),
            next: acked + 1,
            resend: Vec::new(),
            announce: false,
        }
    }

    /// The link is up: whatever was under way on the old one is sent again.
    pub fn handle_connected(&mut self) {
        self.connected = true;
        self.in_flight.clear();
        self.resend.clear();
        self.next = self.acked + 1;
    }

    /// The link is down.
    pub fn handle_disconnected(&mut self) {
        self.connected = false;
    }

    /// The journal has a new event.
    pub fn handle_appended(&mut self, seq: u64) {
        self.newest = self.newest.max(seq);
    }

    /// The cloud acknowledged. Numbers that were never given out are ignored.
    pub fn handle_ack(&mut self, ack: &Ack) {
        let upto = ack.upto.min(self.newest);
        let missing: Vec<u64> =
            ack.except.iter().copied().filter(|seq| *seq > self.acked && *seq <= upto).collect();
        let gapless = missing.iter().min().map_or(upto, |first| first - 1);
        self.in_flight.retain(|seq, _| *seq > upto || missing.contains(seq));
        self.resend = missing;
        if gapless > self.acked {
            self.acked = gapless;
            self.announce = true;
        }
        self.next = self.next.max(self.acked + 1);
    }

    /// Marks what has waited too long as due again.
    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.connected {
            return;
        }
        for (seq, sent) in &self.in_flight {
            if now.saturating_duration_since(*sent) >= RESEND_AFTER && !self.resend.contains(seq) {
                self.resend.push(*seq);
            }
        }
    }

    /// Returns the next thing to do. Drain it after every `handle_*` call.
    pub fn poll_output(&mut self, now: Instant) -> Option<Output> {
        if std::mem::take(&mut self.announce) {
            return Some(Output::Acknowledged(self.acked));
        }
        if !self.connected {
            return None;
        }
        if let Some(seq) = self.resend.pop() {
            self.in_flight.insert(seq, now);
            return Some(Output::Send(seq));
        }
        if self.next <= self.newest && self.in_flight.len() < WINDOW as usize {
            let seq = self.next;
            self.next += 1;
            self.in_flight.insert(seq, now);
            return Some(Output::Send(seq));
        }
        None
    }

    /// Returns when to call [`Self::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let oldest = self.in_flight.values().min().filter(|_| self.connected)?;
        Some(*oldest + RESEND_AFTER)
    }

    /// Returns how many events the cloud does not have yet.
    pub fn backlog(&self) -> u64 {
        self.newest - self.acked
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain(outbox: &mut Outbox, now: Instant) -> Vec<Output> {
        std::iter::from_fn(|| outbox.poll_output(now)).collect()
    }

    #[test]
    fn events_wait_until_the_link_is_up_and_go_again_when_it_came_back() {
        let now = Instant::now();
        let mut outbox = Outbox::new(3, 5);
        assert_eq!(drain(&mut outbox, now), []);
        outbox.handle_connected();
        assert_eq!(drain(&mut outbox, now), [Output::Send(4), Output::Send(5)]);
        outbox.handle_disconnected();
        outbox.handle_connected();
        assert_eq!(drain(&mut outbox, now), [Output::Send(4), Output::Send(5)]);
    }

    #[test]
    fn an_acknowledgement_with_a_gap_moves_the_mark_to_the_gap_and_sends_what_is_missing() {
        let now = Instant::now();
        let mut outbox = Outbox::new(0, 5);
        outbox.handle_connected();
        drain(&mut outbox, now);
        outbox.handle_ack(&Ack { upto: 5, except: vec![3] });
        assert_eq!(drain(&mut outbox, now), [Output::Acknowledged(2), Output::Send(3)]);
        outbox.handle_ack(&Ack { upto: 5, except: vec![] });
        assert_eq!(drain(&mut outbox, now), [Output::Acknowledged(5)]);
        assert_eq!(outbox.backlog(), 0);
    }

    #[test]
    fn what_nobody_acknowledges_is_sent_again_after_ten_seconds() {
        let now = Instant::now();
        let mut outbox = Outbox::new(0, 1);
        outbox.handle_connected();
        drain(&mut outbox, now);
        assert_eq!(outbox.poll_timeout(), Some(now + RESEND_AFTER));
        outbox.handle_timeout(now + RESEND_AFTER);
        assert_eq!(drain(&mut outbox, now + RESEND_AFTER), [Output::Send(1)]);
    }

    #[test]
    fn no_more_than_the_window_is_under_way() {
        let mut outbox = Outbox::new(0, 1_000);
        outbox.handle_connected();
        assert_eq!(drain(&mut outbox, Instant::now()).len(), 100);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Append,
        Up,
        Down,
        Deliver(u8),
        Ack,
        Wait,
    }

    proptest! {
        /// A lossy link and a cloud that stores what it gets: whatever happened, once the link stays
        /// up everything has arrived and is acknowledged.
        #[test]
        fn everything_arrives_once_the_link_stays_up(
            steps in prop::collection::vec(
                prop_oneof![
                    3 => Just(Step::Append), 1 => Just(Step::Up), 1 => Just(Step::Down),
                    3 => any::<u8>().prop_map(Step::Deliver), 2 => Just(Step::Ack), 1 => Just(Step::Wait),
                ],
                0..200,
            )
        ) {
            let mut now = Instant::now();
            let mut outbox = Outbox::new(0, 0);
            let mut wire: Vec<u64> = Vec::new();
            let mut cloud = std::collections::BTreeSet::new();
            let mut newest = 0;
            let ack = |cloud: &std::collections::BTreeSet<u64>| {
                let upto = cloud.last().copied().unwrap_or(0);
                Ack { upto, except: (1..=upto).filter(|seq| !cloud.contains(seq)).collect() }
            };
            for step in steps {
                match step {
                    Step::Append => { newest += 1; outbox.handle_appended(newest); }
                    Step::Up => outbox.handle_connected(),
                    Step::Down => { outbox.handle_disconnected(); wire.clear(); }
                    Step::Deliver(n) if !wire.is_empty() => {
                        let at = usize::from(n) % wire.len();
                        let seq = wire.swap_remove(at);
                        if n % 3 != 0 { cloud.insert(seq); }
                    }
                    Step::Deliver(_) => {}
                    Step::Ack => outbox.handle_ack(&ack(&cloud)),
                    Step::Wait => { now += RESEND_AFTER; outbox.handle_timeout(now); }
                }
                while let Some(output) = outbox.poll_output(now) {
                    match output {
                        Output::Send(seq) => wire.push(seq),
                        Output::Acknowledged(upto) => {
                            prop_assert!((1..=upto).all(|seq| cloud.contains(&seq)), "forgot too early");
                        }
                    }
                }
            }
            outbox.handle_connected();
            for _ in 0..10 {
                now += RESEND_AFTER;
                outbox.handle_timeout(now);
                while let Some(output) = outbox.poll_output(now) {
                    if let Output::Send(seq) = output { cloud.insert(seq); }
                }
                outbox.handle_ack(&ack(&cloud));
            }
            prop_assert_eq!(cloud.len() as u64, newest);
            prop_assert_eq!(outbox.backlog(), 0);
        }
    }
}
