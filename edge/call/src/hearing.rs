//! What is known about the utterance that the customer is speaking or has just spoken.

use std::time::Instant;

use trunkline_wire::TurnReply;

use crate::call::Transcript;

/// One pause in the customer's speech, which may turn out to be the end of the turn.
#[derive(Debug)]
pub(crate) struct Utterance {
    pub(crate) pause: u32,
    pub(crate) speech_end: Instant,
    pub(crate) asr_start: Instant,
    pub(crate) asr_done: Option<Instant>,
    pub(crate) transcript: Option<Transcript>,
    /// The cloud was asked, with this revision.
    pub(crate) asked: Option<Asked>,
    pub(crate) reply: Option<Answer>,
    pub(crate) ended: Option<Ended>,
    /// The cloud is making an answer, until then.
    pub(crate) pending: Option<Instant>,
    /// The box was asked to take the turn itself.
    pub(crate) taken: bool,
}

/// An answer to the utterance.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) reply: TurnReply,
    pub(crate) at: Instant,
    /// The box's own, not the cloud's.
    pub(crate) local: bool,
}

/// A question to the cloud that is on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) rev: u32,
    /// When these words were first sent.
    pub(crate) first: Instant,
    pub(crate) resend_at: Instant,
    pub(crate) give_up_at: Option<Instant>,
    pub(crate) confirmed: bool,
}

/// The turn is known to be over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) at: Instant,
    pub(crate) speech_start: Instant,
}

impl Utterance {
    pub(crate) fn new(pause: u32, speech_end: Instant, now: Instant) -> Self {
        Self {
            pause,
            speech_end,
            asr_start: now,
            asr_done: None,
            transcript: None,
            asked: None,
            reply: None,
            ended: None,
            pending: None,
            taken: false,
        }
    }
}
