//! The asking side (RFC 3261 §17.1).

use std::time::{Duration, Instant};

use super::Timers;

/// A client transaction.
#[derive(Clone, Debug)]
pub struct ClientTx {
    timers: Timers,
    invite: bool,
    reliable: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing heard yet (Calling, Trying): Timer A or E resends, Timer B or F gives up.
    Asking {
        resend_at: Instant,
        interval: Duration,
        give_up_at: Instant,
    },
    /// A provisional answer came to an INVITE; it may take as long as a telephone rings.
    Ringing,
    /// A provisional answer came to something else: it is still resent, every T2.
    Proceeding {
        resend_at: Instant,
        give_up_at: Instant,
    },
    /// Refused, or answered if no INVITE: resent answers are absorbed until Timer D or K.
    Completed {
        until: Instant,
    },
    /// An INVITE was accepted: further 2xx go up to the dialogs until Timer M (RFC 6026 §7.2).
    Accepted {
        until: Instant,
    },
    Terminated,
}

/// What to do with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnResponse {
    /// Hand it up.
    Deliver,
    /// Send the ACK of §17.1.1.3 and hand it up.
    AckAndDeliver,
    /// Send that ACK again, nothing more.
    AckAgain,
    /// Forget it.
    Absorb,
}

/// What a deadline brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTimeout {
    /// Nothing was due.
    Nothing,
    /// Send the request again.
    Resend,
    /// No answer came in time; the transaction is over.
    GiveUp,
    /// The transaction ended quietly.
    Ended,
}

impl ClientTx {
    /// Begins an INVITE transaction; its request is being sent now.
    pub fn invite(now: Instant, timers: Timers, reliable: bool) -> Self {
        Self::new(now, timers, true, reliable)
    }

    /// Begins any other transaction; its request is being sent now.
    pub fn other(now: Instant, timers: Timers, reliable: bool) -> Self {
        Self::new(now, timers, false, reliable)
    }

    fn new(now: Instant, timers: Timers, invite: bool, reliable: bool) -> Self {
        let give_up_at = now + timers.patience();
        let resend_at = if reliable { give_up_at } else { now + timers.t1 };
        Self { timers, invite, reliable, state: State::Asking { resend_at, interval: timers.t1, give_up_at } }
    }

    /// Takes in the code of a response that belongs here.
    pub fn handle_response(&mut self, now: Instant, code: u16) -> OnResponse {
        let waiting = matches!(self.state, State::Asking { .. } | State::Ringing | State::Proceeding { .. });
        match (self.invite, code) {
            (_, 0..=199) => {
                if !waiting {
                    return OnResponse::Absorb;
                }
                if self.invite {
                    self.state = State::Ringing;
                } else if let State::Asking { give_up_at, .. } = self.state {
                    let resend_at = if self.reliable { give_up_at } else { now + self.timers.t2 };
                    self.state = State::Proceeding { resend_at, give_up_at };
                }
                OnResponse::Deliver
            }
            (true, 200..=299) => match self.state {
                State::Asking { .. } | State::Ringing => {
                    self.state = State::Accepted { until: now + self.timers.patience() };
                    OnResponse::Deliver
                }
                State::Accepted { .. } => OnResponse::Deliver,
                State::Proceeding { .. } | State::Completed { .. } | State::Terminated => OnResponse::Absorb,
            },
            (true, _) => match self.state {
                State::Asking { .. } | State::Ringing => {
                    // Timer D: at least 32 s over UDP, whatever T1 is; shorter T1 shortens it here too, for tests.
                    self.complete(now, self.timers.patience());
                    OnResponse::AckAndDeliver
                }
                State::Completed { .. } => OnResponse::AckAgain,
                State::Proceeding { .. } | State::Accepted { .. } | State::Terminated => OnResponse::Absorb,
            },
            (false, _) => {
                if !waiting {
                    return OnResponse::Absorb;
                }
                self.complete(now, self.timers.t4);
                OnResponse::Deliver
            }
        }
    }

    fn complete(&mut self, now: Instant, linger: Duration) {
        self.state = if self.reliable { State::Terminated } else { State::Completed { until: now + linger } };
    }

    /// Does what was due at `now`. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) -> OnTimeout {
        match &mut self.state {
            State::Asking { resend_at, interval, give_up_at } => {
                if now >= *give_up_at {
                    self.state = State::Terminated;
                    return OnTimeout::GiveUp;
                }
                if now < *resend_at {
                    return OnTimeout::Nothing;
                }
                // Timer A doubles without bound, Timer E up to T2.
                *interval *= 2;
                if !self.invite {
                    *interval = (*interval).min(self.timers.t2);
                }
                *resend_at = now + *interval;
                OnTimeout::Resend
            }
            State::Proceeding { resend_at, give_up_at } => {
                if now >= *give_up_at {
                    self.state = State::Terminated;
                    return OnTimeout::GiveUp;
                }
                if now < *resend_at {
                    return OnTimeout::Nothing;
                }
                *resend_at = now + self.timers.t2;
                OnTimeout::Resend
            }
            State::Completed { until } | State::Accepted { until } => {
                if now < *until {
                    return OnTimeout::Nothing;
                }
                self.state = State::Terminated;
                OnTimeout::Ended
            }
            State::Ringing | State::Terminated => OnTimeout::Nothing,
        }
    }

    /// Ends it at once, as after a transport error.
    pub fn terminate(&mut self) {
        self.state = State::Terminated;
    }

    /// Returns when [`Self::handle_timeout`] is due, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match self.state {
            State::Asking { resend_at, give_up_at, .. } if give_up_at <= resend_at => {
                Some((give_up_at, if self.invite { "timer B" } else { "timer F" }))
            }
            State::Asking { resend_at, .. } => {
                Some((resend_at, if self.invite { "timer A" } else { "timer E" }))
            }
            State::Proceeding { resend_at, give_up_at } if give_up_at <= resend_at => {
                Some((give_up_at, "timer F"))
            }
            State::Proceeding { resend_at, .. } => Some((resend_at, "timer E")),
            State::Completed { until } => Some((until, if self.invite { "timer D" } else { "timer K" })),
            State::Accepted { until } => Some((until, "timer M")),
            State::Ringing | State::Terminated => None,
        }
    }

    /// Tells whether nothing was heard yet.
    pub fn is_unheard(&self) -> bool {
        matches!(self.state, State::Asking { .. })
    }

    /// Tells whether it can be forgotten.
    pub fn is_terminated(&self) -> bool {
        self.state == State::Terminated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(t0: Instant, at: Instant) -> u128 {
        at.duration_since(t0).as_millis()
    }

    /// Lets time run until nothing is due; returns when it resent, and the last outcome with its time.
    fn run(tx: &mut ClientTx, t0: Instant) -> (Vec<u128>, Option<(u128, OnTimeout)>) {
        let mut sent = vec![0];
        let mut last = None;
        while let Some((due, _)) = tx.poll_timeout() {
            match tx.handle_timeout(due) {
                OnTimeout::Resend => sent.push(ms(t0, due)),
                OnTimeout::Nothing => panic!("a deadline that brings nothing"),
                end @ (OnTimeout::GiveUp | OnTimeout::Ended) => last = Some((ms(t0, due), end)),
            }
        }
        (sent, last)
    }

    #[test]
    fn an_invite_nobody_answers_is_sent_seven_times_and_given_up_after_32_s() {
        let t0 = Instant::now();
        let mut tx = ClientTx::invite(t0, Timers::default(), false);
        let (sent, last) = run(&mut tx, t0);
        assert_eq!(sent, [0, 500, 1_500, 3_500, 7_500, 15_500, 31_500]);
        assert_eq!(last, Some((32_000, OnTimeout::GiveUp)));
        assert!(tx.is_terminated());
    }

    #[test]
    fn another_request_is_sent_eleven_times_with_gaps_of_at_most_4_s() {
        let t0 = Instant::now();
        let (sent, last) = run(&mut ClientTx::other(t0, Timers::default(), false), t0);
        assert_eq!(sent, [0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]);
        assert_eq!(last, Some((32_000, OnTimeout::GiveUp)));
    }

    #[test]
    fn over_a_reliable_transport_nothing_is_resent() {
        let t0 = Instant::now();
        let (sent, last) = run(&mut ClientTx::invite(t0, Timers::default(), true), t0);
        assert_eq!((sent.len(), last), (1, Some((32_000, OnTimeout::GiveUp))));
    }

    #[test]
    fn a_ringing_invite_waits_without_a_deadline() {
        let t0 = Instant::now();
        let mut tx = ClientTx::invite(t0, Timers::default(), false);
        assert_eq!(tx.handle_response(t0, 180), OnResponse::Deliver);
        assert_eq!(tx.poll_timeout(), None);
        assert!(!tx.is_unheard());
    }

    #[test]
    fn a_refused_invite_acks_every_copy_of_the_refusal_for_32_s() {
        let t0 = Instant::now();
        let mut tx = ClientTx::invite(t0, Timers::default(), false);
        assert_eq!(tx.handle_response(t0, 486), OnResponse::AckAndDeliver);
        assert_eq!(tx.handle_response(t0, 486), OnResponse::AckAgain);
        assert_eq!(tx.handle_response(t0, 180), OnResponse::Absorb);
        assert_eq!(run(&mut tx, t0).1, Some((32_000, OnTimeout::Ended)));
        assert_eq!(tx.handle_response(t0, 486), OnResponse::Absorb);
    }

    #[test]
    fn an_accepted_invite_hands_up_every_further_2xx_for_32_s() {
        let t0 = Instant::now();
        let mut tx = ClientTx::invite(t0, Timers::default(), false);
        assert_eq!(tx.handle_response(t0, 200), OnResponse::Deliver);
        assert_eq!(tx.handle_response(t0, 200), OnResponse::Deliver);
        assert_eq!(tx.handle_response(t0, 486), OnResponse::Absorb);
        assert_eq!(run(&mut tx, t0).1, Some((32_000, OnTimeout::Ended)));
    }

    #[test]
    fn a_provisional_answer_slows_a_request_down_to_t2_but_does_not_stop_it() {
        let t0 = Instant::now();
        let mut tx = ClientTx::other(t0, Timers::default(), false);
        assert_eq!(tx.handle_response(t0, 100), OnResponse::Deliver);
        let (sent, last) = run(&mut tx, t0);
        assert_eq!(sent, [0, 4_000, 8_000, 12_000, 16_000, 20_000, 24_000, 28_000]);
        assert_eq!(last, Some((32_000, OnTimeout::GiveUp)));
    }

    #[test]
    fn an_answered_request_absorbs_copies_for_5_s() {
        let t0 = Instant::now();
        let mut tx = ClientTx::other(t0, Timers::default(), false);
        assert_eq!(tx.handle_response(t0, 200), OnResponse::Deliver);
        assert_eq!(tx.handle_response(t0, 200), OnResponse::Absorb);
        assert_eq!(run(&mut tx, t0).1, Some((5_000, OnTimeout::Ended)));
    }
}
