//! "Why is this box not updated?", answered in one sentence for each box.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use trunkline_model::BoxId;

use crate::report::{BoxReport, Standing};
use crate::rollout::{Cause, Phase, Rollout};

/// A box that was not heard of for this long is offline.
pub const OFFLINE: SignedDuration = SignedDuration::from_mins(10);

/// Why a box does not run the version of a rollout, or that it does.
#[derive(Clone, Debug, PartialEq)]
pub enum Why {
    /// It does.
    UpToDate,
    /// The rollout does not mean it.
    NotMeant,
    /// Its wave has not begun.
    NotItsTurn {
        /// Its wave, from 1.
        wave: usize,
        /// The wave that is under way, from 1.
        current: usize,
    },
    /// The rollout is paused.
    Paused {
        /// Why.
        cause: Cause,
    },
    /// The rollout was ended.
    Stopped {
        /// By whom.
        by: String,
    },
    /// It was never heard of.
    NeverHeard,
    /// It is switched off, or its network is down.
    Offline {
        /// Since when.
        since: Timestamp,
    },
    /// It is connected and has not begun.
    NotBegun,
    /// It is on its way.
    UnderWay {
        /// The state.
        stage: String,
        /// What it waits for, in words.
        waiting: Option<String>,
        /// Bytes left to fetch.
        to_fetch: Option<u64>,
    },
    /// It was about to start the new version, and nothing was heard since.
    Silent {
        /// Since when.
        since: Timestamp,
    },
    /// It failed, was refused or rolled back.
    WentWrong {
        /// The state.
        stage: String,
        /// The reason, in words.
        reason: String,
    },
    /// A person took it back.
    Cancelled,
}

/// Answers for one box.
pub fn why(rollout: &Rollout, box_id: &BoxId, report: Option<&BoxReport>, now: Timestamp) -> Why {
    let Some(wave) = rollout.wave_of(box_id) else { return Why::NotMeant };
    let standing = report.map(|report| rollout.standing(report, now));
    if let (Some(report), Some(standing)) = (report, standing) {
        // What happened on the box comes first: it stays true whatever the rollout does.
        let component = report.component.clone().unwrap_or_default();
        match standing {
            Standing::Committed => return Why::UpToDate,
            Standing::Failed | Standing::RolledBack => {
                let reason = component.reason.as_ref().map_or_else(|| "no reason was given".into(), reason);
                return Why::WentWrong { stage: component.stage, reason };
            }
            Standing::Silent => return Why::Silent { since: report.seen },
            Standing::Cancelled => return Why::Cancelled,
            Standing::UnderWay if now <= report.seen + OFFLINE => {
                let waiting = component.waiting.as_ref().map(waiting);
                return Why::UnderWay { stage: component.stage, waiting, to_fetch: component.to_fetch };
            }
            Standing::UnderWay | Standing::NotBegun => {}
        }
    }
    match &rollout.phase {
        Phase::Running { wave: current, .. } if wave > *current => {
            return Why::NotItsTurn { wave: wave + 1, current: current + 1 };
        }
        Phase::Paused { cause, .. } => return Why::Paused { cause: cause.clone() },
        Phase::Stopped { by, .. } => return Why::Stopped { by: by.clone() },
        Phase::Running { .. } | Phase::Finished { .. } => {}
    }
    match report {
        None => Why::NeverHeard,
        Some(report) if now > report.seen + OFFLINE => Why::Offline { since: report.seen },
        Some(_) => Why::NotBegun,
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UpToDate => f.write_str("it runs this version"),
            Self::NotMeant => f.write_str("the rollout does not include it"),
            Self::NotItsTurn { wave, current } => write!(f, "it is in wave {wave}, and wave {current} runs"),
            Self::Paused { cause } => write!(f, "the rollout is paused: {cause}"),
            Self::Stopped { by } => write!(f, "{by} stopped the rollout"),
            Self::NeverHeard => f.write_str("it was never heard of"),
            Self::Offline { since } => write!(f, "it is offline since {since}"),
            Self::NotBegun => f.write_str("it is connected and has not taken the assignment up yet"),
            Self::UnderWay { stage, waiting: Some(waiting), .. } => write!(f, "{stage}: it waits {waiting}"),
            Self::UnderWay { stage, to_fetch: Some(bytes), .. } if *bytes > 0 => {
                write!(f, "{stage}: {bytes} bytes are left to fetch")
            }
            Self::UnderWay { stage, .. } => write!(f, "{stage}: under way"),
            Self::Silent { since } => {
                write!(f, "it was about to start the version and is silent since {since}")
            }
            Self::WentWrong { stage, reason } => write!(f, "{stage}: {reason}"),
            Self::Cancelled => f.write_str("the update was taken back"),
        }
    }
}

/// Puts what a box waits for into words; what only a newer box knows is shown as it came.
fn waiting(wait: &Value) -> String {
    let text = |key: &str| wait[key].as_str().unwrap_or_default().to_owned();
    let number = |key: &str| wait[key].as_u64().unwrap_or_default();
    let clock = |minute: u64| format!("{:02}:{:02}", minute / 60, minute % 60);
    match wait["for"].as_str() {
        Some("power") => "for power".into(),
        Some("boot_record") => format!("for a boot record that can be written ({})", text("detail")),
        Some("room") => format!("for room: {} bytes are needed, {} are free", number("need"), number("free")),
        Some("metered") => {
            format!("for a line that costs nothing: {} bytes are to be fetched", number("bytes"))
        }
        Some("retry") => format!("to try again for the {}. time ({})", number("tries"), text("after")),
        Some("window") => format!("for its hours, {} to {}", clock(number("from")), clock(number("to"))),
        Some("calls") if number("count") == 1 => "for a call to end".into(),
        Some("calls") => format!("for {} calls to end", number("count")),
        Some("lock") => "for somebody on site to release it".into(),
        Some("other_component") => "for another component".into(),
        Some("second_try") => format!("for its second try at {}", text("at")),
        _ => format!("for {wait}"),
    }
}

/// Puts a box's reason into words.
fn reason(reason: &Value) -> String {
    let text = |key: &str| reason[key].as_str().unwrap_or_default().to_owned();
    match reason["why"].as_str() {
        Some("below_floor") => format!("older than the floor, release {}", reason["floor"]),
        Some("wrong_platform") => "made for other machines".into(),
        Some("failed_before") => "failed twice on this box before".into(),
        Some("refused") => format!("the server answered {}", reason["status"]),
        Some("not_as_released") => format!("not what was released: {}", text("detail")),
        Some("bad_medium") => format!("the disk does not keep what is written: {}", text("detail")),
        Some("never_passed") => "started as often as allowed and never passed".into(),
        Some("never_started") => "never started".into(),
        Some("self_test") => {
            let failed: Vec<String> = reason["failed"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|check| {
                    format!("{} ({})", check[0].as_str().unwrap_or("?"), check[1].as_str().unwrap_or("?"))
                })
                .collect();
            format!("the self-test failed: {}", failed.join(", "))
        }
        Some("self_test_timeout") => "the self-test did not end".into(),
        _ => reason.to_string(),
    }
}
