//! What a callee tells about itself: one JSON object a line.

use std::path::PathBuf;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::Serialize;

/// News of one call, or the last word. Seconds count from the moment she picked up.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Somebody calls.
    Ringing {
        /// Number of the call, from 1.
        call: u32,
        /// The user part of the URI that was called.
        number: String,
        /// Who is called.
        persona: String,
    },
    /// She calls somebody.
    Dialing {
        /// Number of the call, from 1.
        call: u32,
        /// The user part of the URI that she calls.
        number: String,
        /// Who calls.
        persona: String,
    },
    /// She picked up, or was answered.
    Answered {
        /// Number of the call.
        call: u32,
        /// What the sound is coded in.
        codec: &'static str,
    },
    /// The robot finished a turn.
    Heard {
        /// Number of the call.
        call: u32,
        /// The robot's turn, from 1.
        turn: u32,
        /// What she understood; `null` when she did not try.
        text: Option<String>,
        /// When the robot began.
        start_s: f64,
        /// When it ended.
        end_s: f64,
        /// How long the recogniser took, waiting included.
        took_ms: Option<u64>,
        /// The keyword that decided her answer.
        matched: Option<String>,
    },
    /// She said something.
    Said {
        /// Number of the call.
        call: u32,
        /// The robot's turn that she answered; 0 for her greeting.
        turn: u32,
        /// Her words.
        text: String,
        /// When she began.
        start_s: f64,
        /// When she ended.
        end_s: f64,
        /// Whether she spoke over the robot.
        interrupts: bool,
    },
    /// The call was ended by somebody.
    HungUp {
        /// Number of the call.
        call: u32,
        /// Who did.
        by: By,
    },
    /// The call is over and its recording closed.
    Ended {
        /// Number of the call.
        call: u32,
        /// What came of it.
        outcome: Outcome,
        /// From picking up to the end.
        seconds: f64,
        /// Turns of the robot.
        robot_turns: u32,
        /// Utterances of hers.
        said: u32,
        /// RTP packets received.
        received: u64,
        /// RTP packets sent.
        sent: u64,
        /// RTP packets that never came.
        lost: u64,
        /// The recording.
        recording: Option<PathBuf>,
        /// Processor time of the whole process during the call.
        cpu_ms: u64,
    },
    /// The process ends.
    Summary {
        /// Calls so far.
        calls: u32,
        /// Processor time since the process was ready.
        cpu_s: f64,
        /// The most memory it ever held.
        max_rss_mb: u64,
    },
}

/// Who ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The other end.
    Robot,
    /// She.
    Customer,
    /// Sound or signalling broke off.
    Line,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// She picked up, or was answered.
    Answered,
    /// Her line was busy.
    Busy,
    /// It was turned away.
    Rejected,
    /// Nobody came until the caller or the line gave up.
    NoAnswer,
    /// The caller gave up before she came.
    Cancelled,
    /// No codec that both talk.
    NotAcceptable,
    /// Something broke; the log has the reason.
    Failed,
}

/// What this process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) cpu_ms: u64,
    pub(crate) max_rss_kb: u64,
}

impl Usage {
    /// Asks the system.
    pub(crate) fn now() -> Self {
        let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Self::default() };
        let ms = usage.user_time().num_milliseconds() + usage.system_time().num_milliseconds();
        Self {
            cpu_ms: u64::try_from(ms).unwrap_or(0),
            max_rss_kb: u64::try_from(usage.max_rss()).unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_flat_object() {
        let event = Event::HungUp { call: 2, by: By::Robot };
        assert_eq!(serde_json::to_string(&event).unwrap(), r#"{"event":"hung_up","call":2,"by":"robot"}"#);
    }
}
