//! What became of a call that was not answered, from the SIP status and the network's cause.
//!
//! Sources: ITU-T Q.850 §2.2.7 for the causes, RFC 3398 §8.2.6 for what gateways make of them, RFC 3326 for Reason.

use crate::agent::{Failure, FailureCause};

/// How a call ended that nobody answered, as somebody who called by hand would say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// The line is in use.
    Busy,
    /// It rang, and nobody answered.
    NoAnswer,
    /// Somebody, or a list, turned the call away.
    Rejected,
    /// The telephone is switched off or out of reach of its network.
    PowerOff,
    /// The line exists and cannot be reached: out of order, suspended, no way there.
    Unreachable,
    /// There is no such number, or not any more.
    InvalidNumber,
    /// A network on the way failed or is full; the same call may work later.
    Network,
    /// Our own doing: password, rights, codecs, a withdrawn call.
    Ours,
}

impl Outcome {
    /// Tells what a status and a cause mean. The cause is the network's own word and counts where it says something.
    pub fn of(sip_code: Option<u16>, q850: Option<u8>) -> Self {
        let by_cause = q850.and_then(Self::of_q850);
        match sip_code {
            // Whatever the network behind says, these are answers to us.
            Some(401 | 407 | 402) => Self::Ours,
            Some(code) => by_cause.unwrap_or_else(|| Self::of_status(code)),
            None => by_cause.unwrap_or(Self::Network),
        }
    }

    /// Tells what a failure of the agent means.
    pub fn of_failure(failure: &Failure) -> Self {
        match (failure.sip_code, failure.q850, failure.cause) {
            (_, _, FailureCause::Unauthorized | FailureCause::NotAcceptable | FailureCause::Cancelled) => {
                Self::Ours
            }
            (None, None, FailureCause::NoAnswer) => Self::NoAnswer,
            (None, None, FailureCause::Unreachable | FailureCause::ServerError | FailureCause::Protocol) => {
                Self::Network
            }
            (None, None, FailureCause::Busy) => Self::Busy,
            (None, None, FailureCause::Declined) => Self::Rejected,
            (None, None, FailureCause::NotFound) => Self::InvalidNumber,
            (None, None, FailureCause::Forbidden) => Self::Ours,
            (code, q850, _) => Self::of(code, q850),
        }
    }

    fn of_status(code: u16) -> Self {
        match code {
            486 | 600 => Self::Busy,
            408 | 480 | 487 => Self::NoAnswer,
            603 | 607 | 608 | 433 => Self::Rejected,
            404 | 410 | 414 | 416 | 484 | 485 | 604 => Self::InvalidNumber,
            403 | 400 | 405 | 406 | 413 | 415 | 420 | 421 | 422 | 488 | 493 | 606 => Self::Ours,
            430 | 482 | 483 => Self::Network,
            500..=599 => Self::Network,
            600..=699 => Self::Rejected,
            _ => Self::Network,
        }
    }

    fn of_q850(cause: u8) -> Option<Self> {
        Some(match cause {
            1 | 22 | 28 => Self::InvalidNumber,
            17 => Self::Busy,
            19 => Self::NoAnswer,
            21 | 24 => Self::Rejected,
            // Subscriber absent: what mobile networks say of a telephone that is off or out of coverage.
            20 => Self::PowerOff,
            // No route to network or destination, no user responding, destination out of order.
            2 | 3 | 18 | 27 => Self::Unreachable,
            // No circuit, network out of order, temporary failure, congestion, circuit not available, unspecified.
            34 | 38 | 41 | 42 | 43 | 44 | 46 | 47 | 102 | 111 | 127 => Self::Network,
            // Facility not subscribed, barred, bearer not authorised or not there, incompatible.
            50 | 52..=55 | 57 | 58 | 65 | 69 | 70 | 79 | 87 | 88 | 95..=101 => Self::Ours,
            // Normal clearing, normal unspecified and the rest leave it to the status.
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn status_and_cause_together_name_the_outcome() {
        for (code, q850, outcome) in [
            (486, None, Outcome::Busy),
            (600, None, Outcome::Busy),
            (480, None, Outcome::NoAnswer),
            (480, Some(19), Outcome::NoAnswer),
            (480, Some(20), Outcome::PowerOff),
            (480, Some(18), Outcome::Unreachable),
            (404, Some(3), Outcome::Unreachable),
            (404, None, Outcome::InvalidNumber),
            (404, Some(1), Outcome::InvalidNumber),
            (484, Some(28), Outcome::InvalidNumber),
            (410, Some(22), Outcome::InvalidNumber),
            (403, Some(21), Outcome::Rejected),
            (603, None, Outcome::Rejected),
            (502, Some(27), Outcome::Unreachable),
            (503, Some(34), Outcome::Network),
            (503, Some(17), Outcome::Busy),
            (500, Some(41), Outcome::Network),
            (480, Some(16), Outcome::NoAnswer),
            (480, Some(31), Outcome::NoAnswer),
            (401, Some(17), Outcome::Ours),
            (403, Some(57), Outcome::Ours),
            (488, None, Outcome::Ours),
            (302, None, Outcome::Network),
        ] {
            assert_eq!(Outcome::of(Some(code), q850), outcome, "{code} with {q850:?}");
        }
        assert_eq!(Outcome::of(None, Some(20)), Outcome::PowerOff);
        assert_eq!(Outcome::of(None, None), Outcome::Network);
    }

    #[test]
    fn what_no_response_said_is_judged_by_what_happened_here() {
        let of = |cause| Outcome::of_failure(&Failure { cause, sip_code: None, reason: None, q850: None });
        assert_eq!(of(FailureCause::NoAnswer), Outcome::NoAnswer);
        assert_eq!(of(FailureCause::Unreachable), Outcome::Network);
        assert_eq!(of(FailureCause::Cancelled), Outcome::Ours);
        assert_eq!(of(FailureCause::NotAcceptable), Outcome::Ours);
    }

    proptest! {
        #[test]
        fn every_pair_has_an_outcome(code in proptest::option::of(300u16..700), q850 in proptest::option::of(0u8..128)) {
            let _ = Outcome::of(code, q850);
        }
    }
}
