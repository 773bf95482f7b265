//! The answering side (RFC 3261 §17.2).

use std::time::{Duration, Instant};

use super::Timers;

/// A server transaction.
#[derive(Clone, Debug)]
pub struct ServerTx {
    timers: Timers,
    invite: bool,
    reliable: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No final answer yet.
    Proceeding,
    /// An INVITE was refused: Timer G resends the refusal, Timer H gives up waiting for the ACK.
    Refused {
        resend_at: Instant,
        interval: Duration,
        give_up_at: Instant,
    },
    /// The ACK came; copies of it are absorbed until Timer I.
    Confirmed {
        until: Instant,
    },
    /// An INVITE was accepted; copies of it are absorbed until Timer L, the 2xx is its dialog's business.
    Accepted {
        until: Instant,
    },
    /// Anything else was answered; copies get the same answer until Timer J.
    Answered {
        until: Instant,
    },
    Terminated,
}

/// What an ACK means to the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnAck {
    /// It ends the resending of a refusal, or is a copy of the one that did.
    Absorb,
    /// It is not for a refusal: the dialog wants it.
    Deliver,
}

/// What a deadline brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnServerTimeout {
    /// Nothing was due.
    Nothing,
    /// Send the last response again.
    Resend,
    /// The transaction ended, with or without the ACK it waited for.
    Ended,
}

impl ServerTx {
    /// Begins with an INVITE.
    pub fn invite(timers: Timers, reliable: bool) -> Self {
        Self { timers, invite: true, reliable, state: State::Proceeding }
    }

    /// Begins with any other request.
    pub fn other(timers: Timers, reliable: bool) -> Self {
        Self { timers, invite: false, reliable, state: State::Proceeding }
    }

    /// Takes in another copy of the request; tells whether the last response goes out again.
    pub fn handle_copy(&self) -> bool {
        match self.state {
            State::Proceeding | State::Refused { .. } | State::Answered { .. } => true,
            State::Confirmed { .. } | State::Accepted { .. } | State::Terminated => false,
        }
    }

    /// Notes that a response with `code` is being sent. Returns false if it must not be: a final one went out.
    pub fn respond(&mut self, now: Instant, code: u16) -> bool {
        if self.state != State::Proceeding {
            return false;
        }
        if code >= 200 {
            self.state = match (self.invite, code < 300) {
                (true, true) => State::Accepted { until: now + self.timers.patience() },
                (true, false) => {
                    let give_up_at = now + self.timers.patience();
                    let resend_at = if self.reliable { give_up_at } else { now + self.timers.t1 };
                    State::Refused { resend_at, interval: self.timers.t1, give_up_at }
                }
                (false, _) if self.reliable => State::Terminated,
                (false, _) => State::Answered { until: now + self.timers.patience() },
            };
        }
        true
    }

    /// Takes in an ACK with the branch of this transaction.
    pub fn handle_ack(&mut self, now: Instant) -> OnAck {
        match self.state {
            State::Refused { .. } => {
                self.state = if self.reliable {
                    State::Terminated
                } else {
                    State::Confirmed { until: now + self.timers.t4 }
                };
                OnAck::Absorb
            }
            State::Confirmed { .. } | State::Proceeding | State::Answered { .. } => OnAck::Absorb,
            State::Accepted { .. } | State::Terminated => OnAck::Deliver,
        }
    }

    /// Does what was due at `now`. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) -> OnServerTimeout {
        match &mut self.state {
            State::Refused { resend_at, interval, give_up_at } => {
                if now >= *give_up_at {
                    self.state = State::Terminated;
                    return OnServerTimeout::Ended;
                }
                if now < *resend_at {
                    return OnServerTimeout::Nothing;
                }
                *interval = (*interval * 2).min(self.timers.t2);
                *resend_at = now + *interval;
                OnServerTimeout::Resend
            }
            State::Confirmed { until } | State::Accepted { until } | State::Answered { until } => {
                if now < *until {
                    return OnServerTimeout::Nothing;
                }
                self.state = State::Terminated;
                OnServerTimeout::Ended
            }
            State::Proceeding | State::Terminated => OnServerTimeout::Nothing,
        }
    }

    /// Returns when [`Self::handle_timeout`] is due, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match self.state {
            State::Refused { resend_at, give_up_at, .. } if give_up_at <= resend_at => {
                Some((give_up_at, "timer H"))
            }
            State::Refused { resend_at, .. } => Some((resend_at, "timer G")),
            State::Confirmed { until } => Some((until, "timer I")),
            State::Accepted { until } => Some((until, "timer L")),
            State::Answered { until } => Some((until, "timer J")),
            State::Proceeding | State::Terminated => None,
        }
    }

    /// Tells whether a final response is still owed.
    pub fn is_proceeding(&self) -> bool {
        self.state == State::Proceeding
    }

    /// Tells whether it can be forgotten.
    pub fn is_terminated(&self) -> bool {
        self.state == State::Terminated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(tx: &mut ServerTx, t0: Instant) -> Vec<(u128, OnServerTimeout)> {
        let mut log = Vec::new();
        while let Some((due, _)) = tx.poll_timeout() {
            log.push((due.duration_since(t0).as_millis(), tx.handle_timeout(due)));
        }
        log
    }

    #[test]
    fn a_refusal_is_resent_until_32_s_when_no_ack_comes() {
        let t0 = Instant::now();
        let mut tx = ServerTx::invite(Timers::default(), false);
        assert!(tx.respond(t0, 180));
        assert!(tx.handle_copy());
        assert!(tx.respond(t0, 486));
        let log = run(&mut tx, t0);
        let resent: Vec<_> = log.iter().filter(|l| l.1 == OnServerTimeout::Resend).map(|l| l.0).collect();
        assert_eq!(resent, [500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]);
        assert_eq!(log.last(), Some(&(32_000, OnServerTimeout::Ended)));
    }

    #[test]
    fn an_ack_ends_the_resending_of_a_refusal_and_its_copies_are_absorbed() {
        let t0 = Instant::now();
        let mut tx = ServerTx::invite(Timers::default(), false);
        tx.respond(t0, 486);
        assert_eq!(tx.handle_ack(t0), OnAck::Absorb);
        assert_eq!(tx.handle_ack(t0), OnAck::Absorb);
        assert!(!tx.handle_copy());
        assert_eq!(run(&mut tx, t0), [(5_000, OnServerTimeout::Ended)]);
    }

    #[test]
    fn only_one_final_answer_is_ever_given() {
        let t0 = Instant::now();
        let mut tx = ServerTx::invite(Timers::default(), false);
        assert!(tx.respond(t0, 200));
        assert!(!tx.respond(t0, 487));
        assert_eq!(tx.handle_ack(t0), OnAck::Deliver);
        assert!(!tx.handle_copy(), "the dialog resends the 2xx");
        assert_eq!(run(&mut tx, t0), [(32_000, OnServerTimeout::Ended)]);
    }

    #[test]
    fn another_request_is_answered_the_same_way_for_32_s() {
        let t0 = Instant::now();
        let mut tx = ServerTx::other(Timers::default(), false);
        assert!(tx.respond(t0, 200));
        assert!(tx.handle_copy());
        assert_eq!(run(&mut tx, t0), [(32_000, OnServerTimeout::Ended)]);
    }
}
