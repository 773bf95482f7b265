//! The life of a campaign, and the fuse that stops one which fails.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far a campaign is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is being written; nobody is called.
    Draft,
    /// Contacts are called.
    Running,
    /// It stands still, and can go on.
    Paused,
    /// Every contact is done.
    Finished,
    /// It was stopped for good.
    Stopped,
}

impl State {
    /// All of them, in order.
    pub const ALL: [Self; 5] = [Self::Draft, Self::Running, Self::Paused, Self::Finished, Self::Stopped];

    /// Returns the name used in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Finished => "finished",
            Self::Stopped => "stopped",
        }
    }

    /// Returns the state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What somebody wants of a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Begin.
    Start,
    /// Stand still; calls under way are finished.
    Pause,
    /// Go on.
    Resume,
    /// End for good.
    Stop,
}

/// The campaign is in a state in which that is not possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a campaign that is {from} cannot be told to {command:?}")]
pub struct Refused {
    /// Its state.
    pub from: State,
    /// What was wanted.
    pub command: Command,
}

/// Returns the state after a command. Repeating a command changes nothing.
///
/// # Errors
/// [`Refused`].
pub fn apply(from: State, command: Command) -> Result<State, Refused> {
    match (from, command) {
        (State::Draft, Command::Start) | (State::Paused, Command::Resume | Command::Start) => {
            Ok(State::Running)
        }
        (State::Running, Command::Start | Command::Resume) => Ok(State::Running),
        (State::Running, Command::Pause) | (State::Paused, Command::Pause) => Ok(State::Paused),
        (State::Draft | State::Running | State::Paused | State::Stopped, Command::Stop) => Ok(State::Stopped),
        (State::Draft, Command::Pause | Command::Resume)
        | (State::Finished, Command::Start | Command::Pause | Command::Resume | Command::Stop)
        | (State::Stopped, Command::Start | Command::Pause | Command::Resume) => {
            Err(Refused { from, command })
        }
    }
}

/// Pauses a campaign most of whose calls fail: a wrong list, a dead trunk.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fuse {
    /// The share of failures, 0 to 1, from which it blows.
    #[schemars(range(min = 0, max = 1))]
    pub share: f64,
    /// How far back it looks, in seconds.
    pub within_s: u32,
    /// Below this many attempts it holds.
    pub least: u32,
}

impl Default for Fuse {
    fn default() -> Self {
        Self { share: 0.5, within_s: 120, least: 5 }
    }
}

impl Fuse {
    /// Says why to pause, if the ended attempts (when, failed) ask for it. An attempt that nobody
    /// answered did not fail; one that the line could not make did.
    pub fn blown(&self, ended: &[(Timestamp, bool)], now: Timestamp) -> Option<String> {
        let since =
            now.saturating_sub(SignedDuration::from_secs(self.within_s.into())).unwrap_or(Timestamp::MIN);
        let recent = ended.iter().filter(|(at, _)| *at > since && *at <= now);
        let (all, failed) =
            recent.fold((0_u32, 0_u32), |(all, bad), (_, failed)| (all + 1, bad + u32::from(*failed)));
        if all < self.least.max(1) || f64::from(failed) < self.share * f64::from(all) {
            return None;
        }
        Some(format!("{failed} of {all} calls failed within {} s", self.within_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_campaign_never_runs_again() {
        assert_eq!(apply(State::Draft, Command::Start), Ok(State::Running));
        assert_eq!(apply(State::Running, Command::Pause), Ok(State::Paused));
        assert_eq!(apply(State::Paused, Command::Resume), Ok(State::Running));
        assert_eq!(apply(State::Running, Command::Stop), Ok(State::Stopped));
        for command in [Command::Start, Command::Pause, Command::Resume] {
            assert!(apply(State::Stopped, command).is_err());
        }
    }

    #[test]
    fn the_fuse_blows_at_half_of_at_least_five_within_its_time() {
        let fuse = Fuse::default();
        let at = |s: i64| Timestamp::from_second(1_000 + s).unwrap();
        let mut ended: Vec<(Timestamp, bool)> = (0..4).map(|s| (at(s), true)).collect();
        assert_eq!(fuse.blown(&ended, at(10)), None, "four are too few");
        ended.extend((4..8).map(|s| (at(s), false)));
        assert_eq!(fuse.blown(&ended, at(10)).as_deref(), Some("4 of 8 calls failed within 120 s"));
        ended.push((at(9), false));
        assert_eq!(fuse.blown(&ended, at(10)), None, "less than half");
        assert_eq!(fuse.blown(&ended, at(1_000)), None, "long ago");
    }
}
