//! What a box reports about one component, as the cloud reads it: lenient, since boxes are older or newer.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use trunkline_trust::Sha256;

/// One component, as `edge/update` writes it into the reported document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ComponentReport {
    /// What is installed and works.
    #[serde(default)]
    pub current: Option<Version>,
    /// The least release number that the box takes.
    #[serde(default)]
    pub floor: u64,
    /// The name of the state of the update.
    #[serde(default)]
    pub stage: String,
    /// What the state is about.
    #[serde(default)]
    pub job: Option<Version>,
    /// Why it ended, if it did not end well.
    #[serde(default)]
    pub reason: Option<Value>,
    /// What it waits for.
    #[serde(default)]
    pub waiting: Option<Value>,
    /// Bytes that are still to be fetched.
    #[serde(default)]
    pub to_fetch: Option<u64>,
}

/// A version that a report names; unknown fields are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The hash of its manifest.
    pub version: Sha256,
}

/// What is known about a box for a rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct BoxReport {
    /// When anything was last heard of it.
    pub seen: Timestamp,
    /// When this report was made, by the cloud's clock; its stage stands since then.
    pub at: Timestamp,
    /// The component in question; none when the box never reported it.
    pub component: Option<ComponentReport>,
}

/// Where a box stands with one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It has not taken the assignment up.
    NotBegun,
    /// It is on its way: fetching, waiting, restarting, testing.
    UnderWay,
    /// It runs and has proved itself.
    Committed,
    /// It was refused or could not be staged.
    Failed,
    /// It was started and the old version runs again.
    RolledBack,
    /// It was about to start, and nothing was heard for too long.
    Silent,
    /// A person took it back.
    Cancelled,
}

impl BoxReport {
    /// Says where the box stands with a version. A box that was switching and is not heard of for
    /// `silence` is silent.
    pub fn standing(&self, version: Sha256, silence: jiff::SignedDuration, now: Timestamp) -> Standing {
        let Some(component) = &self.component else { return Standing::NotBegun };
        let is = |named: &Option<Version>| named.as_ref().is_some_and(|named| named.version == version);
        if !is(&component.job) {
            return if is(&component.current) { Standing::Committed } else { Standing::NotBegun };
        }
        match component.stage.as_str() {
            "committed" => Standing::Committed,
            "failed" => Standing::Failed,
            "rolled_back" | "rolling_back" => Standing::RolledBack,
            "cancelled" => Standing::Cancelled,
            "arming" | "rebooting" | "trial" | "committing" if now > self.seen + silence => Standing::Silent,
            // Also stages that only a newer box knows.
            _ => Standing::UnderWay,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn t0() -> Timestamp {
        "2026-06-01T08:00:00Z".parse().unwrap()
    }

    #[test]
    fn reads_a_report_as_boxes_of_version_1_send_it() {
        let sent = include_str!("golden/component_report.v1.json");
        let read: ComponentReport = serde_json::from_str(sent).unwrap();
        assert_eq!(read.stage, "rolled_back");
        assert_eq!(read.reason.unwrap()["why"], "self_test");
        assert_eq!(read.floor, 2);
        assert_ne!(read.current.unwrap(), read.job.unwrap());
    }

    #[test]
    fn a_box_is_silent_only_when_it_was_switching() {
        let version = trunkline_trust::sha256(b"new");
        let report = |stage: &str| BoxReport {
            seen: t0(),
            at: t0(),
            component: Some(ComponentReport {
                stage: stage.into(),
                job: Some(Version { version }),
                ..ComponentReport::default()
            }),
        };
        let two_hours = SignedDuration::from_hours(2);
        let late = t0() + SignedDuration::from_hours(3);
        for (stage, now, expected) in [
            ("rebooting", t0(), Standing::UnderWay),
            ("rebooting", late, Standing::Silent),
            ("downloading", late, Standing::UnderWay),
            ("committed", late, Standing::Committed),
            ("of_tomorrow", late, Standing::UnderWay),
        ] {
            assert_eq!(report(stage).standing(version, two_hours, now), expected, "{stage}");
        }
        let other = trunkline_trust::sha256(b"other");
        assert_eq!(report("failed").standing(other, two_hours, t0()), Standing::NotBegun);
    }
}
