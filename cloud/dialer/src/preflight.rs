//! What a campaign has before it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;
use trunkline_policy::Verdict;

/// "Of 10,000: so many now, so many later, so many never, done at about …".
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Preflight {
    /// Contacts.
    pub contacts: u64,
    /// May be called now.
    pub now: u64,
    /// Later, by reason.
    pub later: BTreeMap<&'static str, u64>,
    /// Never, by reason.
    pub never: BTreeMap<&'static str, u64>,
    /// When the first of those that come later may be called.
    pub next: Option<Timestamp>,
    /// When all will have been called once, at the given pace; `None` without a pace.
    pub done: Option<Timestamp>,
}

/// Sums verdicts up. `pace` is in calls per hour.
pub fn report(verdicts: impl IntoIterator<Item = Verdict>, pace: f64, now: Timestamp) -> Preflight {
    let mut report = Preflight::default();
    let mut opens: Vec<Timestamp> = Vec::new();
    for verdict in verdicts {
        report.contacts += 1;
        match verdict {
            Verdict::Allow => {
                report.now += 1;
                opens.push(now);
            }
            Verdict::Defer { until, reason } => {
                *report.later.entry(reason.as_str()).or_default() += 1;
                report.next = Some(report.next.map_or(until, |next| next.min(until)));
                opens.push(until);
            }
            Verdict::Skip { reason } | Verdict::Block { reason } => {
                *report.never.entry(reason.as_str()).or_default() += 1;
            }
        }
    }
    if pace > 0.0 && !opens.is_empty() {
        // Each is called at its instant or when the line before it is free, whichever is later.
        opens.sort_unstable();
        let each = SignedDuration::from_secs_f64(3_600.0 / pace);
        let mut clock = now;
        for open in opens {
            clock = clock.max(open).saturating_add(each).unwrap_or(Timestamp::MAX);
        }
        report.done = Some(clock);
    }
    report
}

#[cfg(test)]
mod tests {
    use trunkline_policy::Reason;

    use super::*;

    #[test]
    fn verdicts_are_counted_by_reason_and_the_end_is_foreseen() {
        let t = |h: i64| Timestamp::from_second(h * 3_600).unwrap();
        let mut verdicts = vec![Verdict::Allow; 10];
        verdicts.extend(vec![Verdict::Defer { until: t(5), reason: Reason::OutsideHours }; 4]);
        verdicts.push(Verdict::Defer { until: t(3), reason: Reason::Spacing });
        verdicts.extend([
            Verdict::Block { reason: Reason::OptedOut },
            Verdict::Skip { reason: Reason::LifetimeCap },
        ]);
        let report = report(verdicts, 4.0, t(0));
        assert_eq!((report.contacts, report.now), (17, 10));
        assert_eq!(report.later, BTreeMap::from([("outside_hours", 4), ("spacing", 1)]));
        assert_eq!(report.never, BTreeMap::from([("lifetime_cap", 1), ("opted_out", 1)]));
        assert_eq!(report.next, Some(t(3)));
        // Ten calls until 2:30, one at 3:00 to 3:15, four from 5:00 to 6:00.
        assert_eq!(report.done, Some(t(6)));
    }
}
