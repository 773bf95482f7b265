//! Alerts: what somebody should look at on a box, said once, until it is over or somebody wants to hear no more of it.
//!
//! A condition becomes an alert only when it has stood for a while, and ends only when it has been away for a while:
//! a line that comes and goes is one alert and not fifty.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline_model::BoxId;

/// A condition that has been away for so long is over.
const OVER_AFTER: SignedDuration = SignedDuration::from_mins(2);
/// A box reports once a minute; after this time it is silent.
const SILENT: SignedDuration = SignedDuration::from_mins(5);

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "AlertKind")]
pub enum Kind {
    /// Nothing is heard of it.
    Silent,
    /// Its program for calls does not run.
    CallsDown,
    /// A trunk takes no calls.
    TrunkDown,
    /// Its disk is nearly full: less than 2 % or 512 MiB are free.
    DiskLow,
    /// Less than 5 % of its memory is free.
    MemoryLow,
    /// It is hotter than 85 °C.
    Hot,
    /// Its clock is off by more than 30 s.
    ClockWrong,
    /// An update did not pass, and the version before runs again.
    RolledBack,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Silent,
        Self::CallsDown,
        Self::TrunkDown,
        Self::DiskLow,
        Self::MemoryLow,
        Self::Hot,
        Self::ClockWrong,
        Self::RolledBack,
    ];

    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::CallsDown => "calls_down",
            Self::TrunkDown => "trunk_down",
            Self::DiskLow => "disk_low",
            Self::MemoryLow => "memory_low",
            Self::Hot => "hot",
            Self::ClockWrong => "clock_wrong",
            Self::RolledBack => "rolled_back",
        }
    }

    /// Returns the kind of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// How long the condition stands before anybody is told.
    fn hold(self) -> SignedDuration {
        match self {
            // These do not come and go.
            Self::Silent | Self::RolledBack | Self::DiskLow | Self::ClockWrong => SignedDuration::ZERO,
            Self::CallsDown | Self::TrunkDown => SignedDuration::from_mins(1),
            Self::MemoryLow | Self::Hot => SignedDuration::from_mins(5),
        }
    }
}

/// What the box says of its machine; what it does not say is not judged.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Machine {
    /// Memory that programs can have, MiB.
    pub memory_free_mib: Option<u64>,
    /// All of it.
    pub memory_mib: Option<u64>,
    /// Room on the disk with the box's data, MiB.
    pub disk_free_mib: Option<u64>,
    /// All of it.
    pub disk_mib: Option<u64>,
    /// The hottest sensor, °C.
    pub temperature_c: Option<i32>,
    /// By how much its clock is off, seconds.
    pub clock_off_s: Option<i64>,
}

/// What is known of a box.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The box.
    pub id: BoxId,
    /// When its newest report came.
    pub at: Timestamp,
    /// Its machine.
    pub machine: Machine,
    /// Why its program for calls is down, if it has one and it is.
    pub calls_down: Option<String>,
    /// Trunks that take no calls, with what was wrong last.
    pub trunks_down: Vec<(String, String)>,
    /// Components whose update was rolled back, with the reason.
    pub rolled_back: Vec<(String, String)>,
}

/// Something that is wrong at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// Of which trunk or component; empty for the box as a whole.
    pub about: String,
    /// In words.
    pub detail: String,
}

/// Returns what is wrong with a box. Of one that is silent nothing else is known.
pub fn look(seen: &Seen, now: Timestamp) -> Vec<Finding> {
    let silent_for = now.duration_since(seen.at);
    if silent_for > SILENT {
        let detail = format!("nothing was heard of it since {}", seen.at.strftime("%F %T UTC"));
        return vec![Finding { kind: Kind::Silent, about: String::new(), detail }];
    }
    let mut findings = Vec::new();
    let mut find = |kind, about: &str, detail: String| {
        findings.push(Finding { kind, about: about.to_owned(), detail });
    };
    if let Some(why) = &seen.calls_down {
        find(Kind::CallsDown, "", why.clone());
    }
    for (trunk, why) in &seen.trunks_down {
        find(
            Kind::TrunkDown,
            trunk,
            if why.is_empty() { "it takes no calls".to_owned() } else { why.clone() },
        );
    }
    for (component, why) in &seen.rolled_back {
        find(Kind::RolledBack, component, why.clone());
    }
    let machine = &seen.machine;
    if let (Some(free), Some(all)) = (machine.disk_free_mib, machine.disk_mib)
        && (free < 512 || free * 50 < all)
    {
        find(Kind::DiskLow, "", format!("{free} of {all} MiB are free"));
    }
    if let (Some(free), Some(all)) = (machine.memory_free_mib, machine.memory_mib)
        && free * 20 < all
    {
        find(Kind::MemoryLow, "", format!("{free} of {all} MiB are free"));
    }
    if let Some(hot) = machine.temperature_c.filter(|hot| *hot > 85) {
        find(Kind::Hot, "", format!("{hot} °C"));
    }
    if let Some(off) = machine.clock_off_s.filter(|off| off.abs() > 30) {
        find(
            Kind::ClockWrong,
            "",
            format!("its clock is {} s {}", off.abs(), if off > 0 { "fast" } else { "slow" }),
        );
    }
    findings
}

/// An alert, or a condition that may become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Of which box.
    pub id: BoxId,
    /// What is wrong.
    pub kind: Kind,
    /// Of which trunk or component.
    pub about: String,
    /// In words, as it was seen last.
    pub detail: String,
    /// When it was seen first.
    pub first: Timestamp,
    /// When it was seen last.
    pub last: Timestamp,
    /// When it became an alert.
    pub raised: Option<Timestamp>,
    /// When it was over.
    pub cleared: Option<Timestamp>,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was seen, for the first time or again; keep it.
    Seen(Alert),
    /// Somebody should look.
    Raised(Alert),
    /// It is over.
    Cleared(Alert),
    /// It never stood long enough; forget it.
    Forgotten(Alert),
}

/// Compares what is wrong with a box now with its alerts that are not over.
pub fn step(id: &BoxId, open: &[Alert], findings: &[Finding], now: Timestamp) -> Vec<Change> {
    let mut changes = Vec::new();
    for finding in findings {
        let known = open.iter().find(|alert| alert.kind == finding.kind && alert.about == finding.about);
        let mut alert = known.cloned().unwrap_or_else(|| Alert {
            id: id.clone(),
            kind: finding.kind,
            about: finding.about.clone(),
            detail: String::new(),
            first: now,
            last: now,
            raised: None,
            cleared: None,
        });
        (alert.last, alert.detail) = (now, finding.detail.clone());
        if alert.raised.is_none() && now.duration_since(alert.first) >= finding.kind.hold() {
            alert.raised = Some(now);
            changes.push(Change::Raised(alert));
        } else {
            changes.push(Change::Seen(alert));
        }
    }
    for alert in open {
        let gone = !findings.iter().any(|one| one.kind == alert.kind && one.about == alert.about);
        if !gone || now.duration_since(alert.last) < OVER_AFTER {
            continue;
        }
        let over = Alert { cleared: Some(now), ..alert.clone() };
        changes.push(if over.raised.is_some() { Change::Cleared(over) } else { Change::Forgotten(over) });
    }
    changes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn well() -> Seen {
        Seen {
            id: "tl-a".parse().unwrap(),
            at: at(0),
            machine: Machine {
                memory_free_mib: Some(2_000),
                memory_mib: Some(4_000),
                disk_free_mib: Some(10_000),
                disk_mib: Some(30_000),
                temperature_c: Some(60),
                clock_off_s: Some(-2),
            },
            calls_down: None,
            trunks_down: Vec::new(),
            rolled_back: Vec::new(),
        }
    }

    /// Runs a box through what it is seen as, every ten seconds, and returns when alerts were raised and cleared.
    fn live(seen: impl Fn(i64) -> Vec<Finding>, until: i64) -> Vec<(i64, &'static str, Kind)> {
        let (id, mut open, mut told) = ("tl-a".parse().unwrap(), Vec::<Alert>::new(), Vec::new());
        for second in (0..until).step_by(10) {
            for change in step(&id, &open, &seen(second), at(second)) {
                let (what, alert) = match change {
                    Change::Seen(alert) => ("seen", alert),
                    Change::Raised(alert) => ("raised", alert),
                    Change::Cleared(alert) => ("cleared", alert),
                    Change::Forgotten(alert) => ("forgotten", alert),
                };
                if what != "seen" {
                    told.push((second, what, alert.kind));
                }
                open.retain(|known| known.kind != alert.kind || known.about != alert.about);
                if alert.cleared.is_none() {
                    open.push(alert);
                }
            }
        }
        told
    }

    fn trunk() -> Finding {
        Finding { kind: Kind::TrunkDown, about: "carrier".into(), detail: String::new() }
    }

    #[test]
    fn a_box_that_is_well_has_nothing() {
        assert_eq!(look(&well(), at(60)), vec![]);
    }

    #[test]
    fn each_thing_that_is_wrong_is_said_in_words_and_a_silent_box_is_only_silent() {
        let mut ill = well();
        ill.machine.disk_free_mib = Some(400);
        ill.machine.memory_free_mib = Some(100);
        ill.machine.temperature_c = Some(90);
        ill.machine.clock_off_s = Some(-31);
        ill.calls_down = Some("it ended by itself".into());
        ill.trunks_down = vec![("carrier".into(), "408".into())];
        ill.rolled_back = vec![("app".into(), "the self-test failed".into())];
        let found = look(&ill, at(60));
        let kinds: Vec<Kind> = found.iter().map(|one| one.kind).collect();
        let expected = [
            Kind::CallsDown,
            Kind::TrunkDown,
            Kind::RolledBack,
            Kind::DiskLow,
            Kind::MemoryLow,
            Kind::Hot,
            Kind::ClockWrong,
        ];
        assert_eq!(kinds, expected);
        assert_eq!(found[6].detail, "its clock is 31 s slow");
        let silent = look(&ill, at(301));
        assert_eq!((silent.len(), silent[0].kind), (1, Kind::Silent));
    }

    #[test]
    fn a_line_that_comes_and_goes_is_one_alert() {
        let flaps = |second: i64| if second < 1_000 && second % 60 < 30 { vec![trunk()] } else { vec![] };
        let told = live(flaps, 2_000);
        assert_eq!(told, [(60, "raised", Kind::TrunkDown), (1_100, "cleared", Kind::TrunkDown)]);
    }

    #[test]
    fn what_lasts_a_moment_is_no_alert() {
        let told = live(|second| if second < 40 { vec![trunk()] } else { vec![] }, 600);
        assert_eq!(told, [(150, "forgotten", Kind::TrunkDown)]);
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.name()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }

    proptest! {
        /// Whatever comes and goes, raised and cleared take turns, and nothing is raised twice.
        #[test]
        fn raised_and_cleared_take_turns(pattern in prop::collection::vec(any::<bool>(), 1..200)) {
            let seen = |second: i64| {
                let there = pattern.get(usize::try_from(second / 10).unwrap()).copied().unwrap_or(false);
                if there { vec![trunk()] } else { vec![] }
            };
            let told = live(seen, 10 * pattern.len() as i64 + 500);
            let loud: Vec<&str> = told.iter().map(|one| one.1).filter(|what| *what != "forgotten").collect();
            for (n, what) in loud.iter().enumerate() {
                prop_assert_eq!(*what, if n % 2 == 0 { "raised" } else { "cleared" });
            }
            prop_assert_eq!(loud.len() % 2, 0, "at the end nothing is wrong");
        }
    }
}
