//! What an agent tells: progress of calls, and why they end.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::transfer::Replaces;
use crate::identity::Parties;
use crate::message::{Headers, NameAddr, Params, Response, Transport, Uri};
use crate::sdp::MediaParams;

/// One call, from its INVITE to its end, with all the dialogs that a forking proxy may make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialogKey(pub(crate) u64);

/// What comes out of a [`super::UserAgent`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A message to send: as one datagram, or on a connection to or from there.
    Send {
        /// Over what.
        transport: Transport,
        /// Where to.
        to: SocketAddr,
        /// The message.
        bytes: Bytes,
    },
    /// Something happened.
    Event(SipEvent),
    /// Something happened within a call that only some owners of calls act on.
    News {
        /// The call.
        key: DialogKey,
        /// What.
        news: CallNews,
    },
}

/// What happens within a call beside its beginning, its media and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallNews {
    /// Our change of the media was refused; the call goes on as it was.
    MediaRefused {
        /// The code of the refusal, or of the 2xx that could not be read.
        code: u16,
    },
    /// What the other side says to a key that we pressed by INFO.
    DigitAnswered {
        /// Which key.
        digit: char,
        /// The code: 2xx where it is taken; `None` when there was no answer.
        code: Option<u16>,
    },
    /// How a transfer goes that we asked for.
    Transfer(TransferStep),
    /// The other side asks us to call somebody else. Report with [`super::UserAgent::report_transfer`].
    TransferAsked {
        /// Whom.
        target: Box<NameAddr>,
        /// The call of theirs to take the place of, in an attended transfer.
        replaces: Option<Box<Replaces>>,
    },
}

/// The steps of a transfer that we asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferStep {
    /// The other side tries.
    Accepted,
    /// How far their call is: the code of a provisional answer to it.
    Progress(u16),
    /// Their call is up; ours can be hung up.
    Done(u16),
    /// Their call failed, with its code if they say so; ours goes on.
    Failed(Option<u16>),
    /// They do not do it at all, or did not answer; our own bridge is the way then.
    Refused(Option<u16>),
}

/// What happened.
///
/// Every call ends with exactly one of [`Self::Failed`], [`Self::PeerHungUp`] and [`Self::Ended`]; after it
/// the key is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SipEvent {
    /// Somebody calls; a 100 went out already.
    Incoming {
        /// The call.
        key: DialogKey,
        /// Where the INVITE came from.
        source: SocketAddr,
        /// Who calls, as they say.
        from: Box<NameAddr>,
        /// Whom they want.
        to: Box<Uri>,
        /// Both, as far as the INVITE says more than that.
        parties: Box<Parties>,
        /// Whether the INVITE had an offer; without one, ours goes out with the answer.
        has_offer: bool,
        /// The call that this one takes the place of once it is accepted (RFC 3891); that one is then hung up.
        replaces: Option<DialogKey>,
    },
    /// The next hop has the INVITE.
    Trying {
        /// The call.
        key: DialogKey,
    },
    /// There is progress: 180 to 183 and the like.
    Ringing {
        /// The call.
        key: DialogKey,
        /// The code.
        code: u16,
        /// What is agreed for early media, when the response said so.
        early: Option<MediaParams>,
    },
    /// The call is up. An outgoing one: the 2xx came. An incoming one: the ACK came.
    Answered {
        /// The call.
        key: DialogKey,
        /// What is agreed.
        media: MediaParams,
    },
    /// The other side changed the media: hold, resume, another address or codec.
    MediaChanged {
        /// The call.
        key: DialogKey,
        /// What is agreed now.
        media: MediaParams,
    },
    /// A digit came as INFO.
    Digit {
        /// The call.
        key: DialogKey,
        /// `0` to `9`, `*`, `#`, `A` to `D`.
        digit: char,
        /// How long it was pressed.
        duration_ms: u16,
    },
    /// The call did not come about, or its signalling broke.
    Failed {
        /// The call.
        key: DialogKey,
        /// Why.
        failure: Failure,
    },
    /// The other side hung up.
    PeerHungUp {
        /// The call.
        key: DialogKey,
        /// Why, as far as they say.
        reason: HangupReason,
    },
    /// Our BYE was answered, or given up.
    Ended {
        /// The call.
        key: DialogKey,
    },
    /// The binding holds.
    Registered {
        /// Which, as [`super::RegisterRequest::trunk`] said.
        trunk: u16,
        /// For so long; it is refreshed before.
        expires: Duration,
    },
    /// The binding could not be made or refreshed.
    RegistrationFailed {
        /// Which, as [`super::RegisterRequest::trunk`] said.
        trunk: u16,
        /// Why.
        failure: Failure,
        /// When it is tried again; `None` if it is not.
        retry_in: Option<Duration>,
    },
    /// The binding was taken back.
    Unregistered,
    /// A ping was answered, with whatever code.
    OptionsAnswered {
        /// By whom.
        to: SocketAddr,
        /// The code.
        code: u16,
        /// How long it took.
        rtt: Duration,
    },
    /// A ping was not answered.
    OptionsUnanswered {
        /// By whom.
        to: SocketAddr,
        /// Why, as far as is known, such as a certificate that does not fit.
        why: String,
    },
}

impl SipEvent {
    /// Returns the call that it belongs to, if it belongs to one.
    pub fn key(&self) -> Option<DialogKey> {
        match self {
            Self::Incoming { key, .. }
            | Self::Trying { key }
            | Self::Ringing { key, .. }
            | Self::Answered { key, .. }
            | Self::MediaChanged { key, .. }
            | Self::Digit { key, .. }
            | Self::Failed { key, .. }
            | Self::PeerHungUp { key, .. }
            | Self::Ended { key } => Some(*key),
            Self::Registered { .. }
            | Self::RegistrationFailed { .. }
            | Self::Unregistered
            | Self::OptionsAnswered { .. }
            | Self::OptionsUnanswered { .. } => None,
        }
    }

    /// Tells whether it is the last one of its call.
    pub fn ends_call(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::PeerHungUp { .. } | Self::Ended { .. })
    }
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause}{}{}", self.code_text(), self.reason_text())]
pub struct Failure {
    /// The kind.
    pub cause: FailureCause,
    /// The response's code, if a response said so.
    pub sip_code: Option<u16>,
    /// The phrase of the response or of its Reason header, or what happened here.
    pub reason: Option<String>,
    /// The network's cause (ITU-T Q.850), from the Reason header (RFC 3326).
    pub q850: Option<u8>,
}

impl Failure {
    pub(crate) fn here(cause: FailureCause, reason: &str) -> Self {
        Self { cause, sip_code: None, reason: Some(reason.to_owned()), q850: None }
    }

    fn code_text(&self) -> String {
        match (self.sip_code, self.q850) {
            (Some(code), Some(q850)) => format!(" ({code}, Q.850 {q850})"),
            (Some(code), None) => format!(" ({code})"),
            (None, Some(q850)) => format!(" (Q.850 {q850})"),
            (None, None) => String::new(),
        }
    }

    fn reason_text(&self) -> String {
        self.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default()
    }

    /// Reads why a request was refused. `after_credentials`: it had just answered a challenge.
    pub(crate) fn of_response(response: &Response, after_credentials: bool) -> Self {
        let reason = HangupReason::read(&response.headers);
        let text = reason.text.or_else(|| Some(response.phrase.clone()).filter(|phrase| !phrase.is_empty()));
        Self {
            cause: FailureCause::of(response.code, reason.q850, after_credentials),
            sip_code: Some(response.code),
            reason: text,
            q850: reason.q850,
        }
    }
}

/// The kinds of failure, as far as a caller acts on them differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FailureCause {
    /// The line is in use.
    #[error("busy")]
    Busy,
    /// It rang, and nobody answered.
    #[error("no answer")]
    NoAnswer,
    /// Somebody turned the call away.
    #[error("declined")]
    Declined,
    /// There is no such number.
    #[error("no such number")]
    NotFound,
    /// The trunk does not know our password.
    #[error("credentials refused")]
    Unauthorized,
    /// The trunk knows us and forbids it.
    #[error("forbidden")]
    Forbidden,
    /// No agreement on media.
    #[error("no agreement on media")]
    NotAcceptable,
    /// Nobody answers there, or the way there is closed.
    #[error("unreachable")]
    Unreachable,
    /// The trunk has trouble of its own.
    #[error("trouble at the trunk")]
    ServerError,
    /// It was withdrawn before the answer.
    #[error("cancelled")]
    Cancelled,
    /// The other side does not keep to the protocol, or asks for what we do not speak.
    #[error("protocol error")]
    Protocol,
}

impl FailureCause {
    /// Maps a code; the network's cause decides where the code alone says little (RFC 3398 §8.2.6).
    fn of(code: u16, q850: Option<u8>, after_credentials: bool) -> Self {
        let network = q850.and_then(Self::of_q850);
        match code {
            401 | 407 => Self::Unauthorized,
            403 if after_credentials && q850.is_none() => Self::Unauthorized,
            402 | 403 => network.unwrap_or(Self::Forbidden),
            404 | 410 | 414 | 416 | 484 | 485 | 604 => Self::NotFound,
            406 | 415 | 488 | 606 => Self::NotAcceptable,
            408 => network.unwrap_or(Self::NoAnswer),
            480 | 487 => network.unwrap_or(Self::NoAnswer),
            486 | 600 => Self::Busy,
            603 | 607 | 608 => network.unwrap_or(Self::Declined),
            504 => network.unwrap_or(Self::Unreachable),
            500..=599 => network.unwrap_or(Self::ServerError),
            600..=699 => Self::Declined,
            _ => network.unwrap_or(Self::Protocol),
        }
    }

    fn of_q850(cause: u8) -> Option<Self> {
        Some(match cause {
            // Unallocated, number changed, invalid format.
            1 | 22 | 28 => Self::NotFound,
            17 => Self::Busy,
            18 | 19 => Self::NoAnswer,
            21 => Self::Declined,
            // No route, subscriber absent, destination out of order.
            2 | 3 | 20 | 27 => Self::Unreachable,
            34 | 38 | 41 | 42 | 44 | 47 => Self::ServerError,
            // Facility barred, bearer not authorised.
            50 | 55 | 57 | 87 => Self::Forbidden,
            58 | 65 | 79 | 88 => Self::NotAcceptable,
            _ => return None,
        })
    }
}

/// Why a call was hung up (RFC 3326).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HangupReason {
    /// The network's cause (ITU-T Q.850).
    pub q850: Option<u8>,
    /// A SIP code.
    pub sip_code: Option<u16>,
    /// A few words.
    pub text: Option<String>,
}

impl HangupReason {
    /// Q.850 cause 16, normal clearing.
    pub fn normal() -> Self {
        Self { q850: Some(16), sip_code: None, text: None }
    }

    /// Reads the Reason headers; all empty when there are none.
    pub(crate) fn read(headers: &Headers) -> Self {
        let mut reason = Self::default();
        for value in headers.list("Reason").take(8) {
            let (protocol, params) = value.split_once(';').unwrap_or((value, ""));
            let params = Params::parse(params);
            let cause = params.get("cause").and_then(|cause| cause.parse::<u16>().ok());
            let text = params.get("text").filter(|text| !text.is_empty());
            if protocol.trim().eq_ignore_ascii_case("Q.850") {
                reason.q850 = cause.and_then(|c| u8::try_from(c).ok()).filter(|c| *c < 128).or(reason.q850);
                reason.text = text.or(reason.text);
            } else if protocol.trim().eq_ignore_ascii_case("SIP") {
                reason.sip_code = cause.or(reason.sip_code);
                reason.text = reason.text.or(text);
            }
        }
        reason
    }

    pub(crate) fn write_to(&self, headers: &mut Headers) {
        let mut push = |protocol: &str, cause: u16| {
            let mut value = format!("{protocol};cause={cause}");
            if let Some(text) = &self.text {
                value.push_str(&format!(";text={}", crate::message::quote(text)));
            }
            headers.push("Reason", value);
        };
        if let Some(code) = self.sip_code {
            push("SIP", code);
        }
        if let Some(cause) = self.q850 {
            push("Q.850", u16::from(cause));
        }
    }
}

/// How much is in an agent's tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Calls that have not ended.
    pub calls: usize,
    /// Calls that ended, kept while late answers to their INVITE may come.
    pub lingering_calls: usize,
    /// Requests of ours that are not done.
    pub client_transactions: usize,
    /// Requests of others that are not done.
    pub server_transactions: usize,
    /// Sources of unwanted requests that are remembered for their rate.
    pub strangers: usize,
}

/// What an agent has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Datagrams taken in.
    pub received: u64,
    /// Datagrams and messages put out.
    pub sent: u64,
    /// Of those put out, how many were sent before.
    pub resent: u64,
    /// Datagrams that are no SIP, or faulty requests.
    pub malformed: u64,
    /// Requests by strangers that were refused.
    pub refused: u64,
    /// Messages ignored because of a rate or a full table.
    pub dropped: u64,
    /// Responses and ACKs that belong to nothing.
    pub unmatched: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: u16, reason: Option<&str>, after_credentials: bool) -> Failure {
        let mut headers = Headers::default();
        if let Some(reason) = reason {
            headers.push("Reason", reason);
        }
        let response = Response { code, phrase: "Phrase".to_owned(), headers, body: Bytes::new() };
        Failure::of_response(&response, after_credentials)
    }

    #[test]
    fn codes_map_to_what_a_caller_would_do() {
        let cause = |code| failure(code, None, false).cause;
        assert_eq!(cause(486), FailureCause::Busy);
        assert_eq!(cause(600), FailureCause::Busy);
        assert_eq!(cause(480), FailureCause::NoAnswer);
        assert_eq!(cause(408), FailureCause::NoAnswer);
        assert_eq!(cause(603), FailureCause::Declined);
        assert_eq!(cause(404), FailureCause::NotFound);
        assert_eq!(cause(484), FailureCause::NotFound);
        assert_eq!(cause(403), FailureCause::Forbidden);
        assert_eq!(cause(488), FailureCause::NotAcceptable);
        assert_eq!(cause(503), FailureCause::ServerError);
        assert_eq!(cause(302), FailureCause::Protocol);
        assert_eq!(failure(403, None, true).cause, FailureCause::Unauthorized);
        assert_eq!(failure(403, Some("Q.850;cause=57"), true).cause, FailureCause::Forbidden);
    }

    #[test]
    fn the_networks_cause_decides_where_the_code_says_little() {
        let read = failure(480, Some("SIP;cause=480, Q.850 ;cause=20;text=\"Subscriber, absent\""), false);
        assert_eq!(read.cause, FailureCause::Unreachable);
        assert_eq!(read.q850, Some(20));
        assert_eq!(read.reason.as_deref(), Some("Subscriber, absent"));
        assert_eq!(failure(503, Some("Q.850;cause=17"), false).cause, FailureCause::Busy);
        assert_eq!(
            failure(486, Some("Q.850;cause=1"), false).cause,
            FailureCause::Busy,
            "486 is clear enough"
        );
        assert_eq!(failure(480, Some("Q.850;cause=999"), false).q850, None);
    }

    #[test]
    fn a_reason_reads_back_as_written() {
        let reason =
            HangupReason { q850: Some(16), sip_code: Some(200), text: Some("say \"bye\"".to_owned()) };
        let mut headers = Headers::default();
        reason.write_to(&mut headers);
        assert_eq!(HangupReason::read(&headers), reason);
    }

    #[test]
    fn a_failure_reads_as_one_sentence() {
        assert_eq!(failure(486, Some("Q.850;cause=17"), false).to_string(), "busy (486, Q.850 17): Phrase");
    }
}
