//! When a contact is tried again.

use std::collections::BTreeMap;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How an attempt ended, as far as trying again is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "RetryCause")]
pub enum Cause {
    /// The far end was busy.
    Busy,
    /// It rang and nobody answered.
    NoAnswer,
    /// The far end declined.
    Rejected,
    /// The telephone is switched off.
    PowerOff,
    /// The far end cannot be reached.
    Unreachable,
    /// No such number.
    InvalidNumber,
    /// A machine answered.
    Voicemail,
    /// Our side or the network failed.
    SystemFault,
    /// Somebody answered.
    Answered,
}

/// What follows one cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RetryRule")]
pub struct Rule {
    /// How long to wait, in minutes.
    pub delay_min: u32,
    /// How many attempts may end with this cause.
    pub max: u32,
    /// Try in another part of the day: morning, afternoon, evening.
    #[serde(default)]
    pub other_day_part: bool,
}

/// The rules of a campaign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RetryRules")]
pub struct Rules {
    /// By cause; a cause without a rule ends it.
    pub by_cause: BTreeMap<Cause, Rule>,
    /// Attempts over all causes together.
    pub max_attempts: u32,
}

impl Default for Rules {
    fn default() -> Self {
        let rule = |delay_min, max, other_day_part| Rule { delay_min, max, other_day_part };
        let by_cause = BTreeMap::from([
            (Cause::Busy, rule(30, 3, false)),
            (Cause::NoAnswer, rule(120, 3, true)),
            (Cause::Rejected, rule(24 * 60, 1, true)),
            (Cause::PowerOff, rule(240, 2, true)),
            (Cause::Unreachable, rule(240, 2, true)),
            (Cause::Voicemail, rule(240, 2, true)),
            (Cause::SystemFault, rule(5, 3, false)),
        ]);
        Self { by_cause, max_attempts: 6 }
    }
}

/// What comes next for a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another attempt, not before this instant.
    At(Timestamp),
    /// None: somebody answered.
    Reached,
    /// None: there is no rule for the cause.
    Final(Cause),
    /// None: the attempts with this cause, or all attempts, are used up.
    UsedUp,
}

/// Decides what follows the attempts so far (instant of the end, cause), the oldest first. `zone` is
/// the callee's. Whether the instant is permitted, is the gate's to say.
pub fn next(rules: &Rules, attempts: &[(Timestamp, Cause)], zone: &TimeZone) -> Next {
    let Some((last, cause)) = attempts.last().copied() else { return Next::At(Timestamp::MIN) };
    if cause == Cause::Answered {
        return Next::Reached;
    }
    let Some(rule) = rules.by_cause.get(&cause) else { return Next::Final(cause) };
    let same = attempts.iter().filter(|(_, other)| *other == cause).count();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    if count(attempts.len()) >= rules.max_attempts || count(same) > rule.max {
        return Next::UsedUp;
    }
    let at = last.saturating_add(SignedDuration::from_mins(rule.delay_min.into())).unwrap_or(Timestamp::MAX);
    Next::At(if rule.other_day_part { in_another_part(last, at, zone) } else { at })
}

/// The parts of a day begin at midnight, noon and 17:00.
fn part(hour: i8) -> u8 {
    match hour {
        ..12 => 0,
        12..17 => 1,
        _ => 2,
    }
}

/// Returns `at`, or the beginning of the next part of the day when `at` lies in the part of `last`.
fn in_another_part(last: Timestamp, at: Timestamp, zone: &TimeZone) -> Timestamp {
    let before = last.to_zoned(zone.clone());
    let local = at.to_zoned(zone.clone());
    if part(before.hour()) != part(local.hour()) {
        return at;
    }
    let (days, hour) = match part(local.hour()) {
        0 => (0, 12),
        1 => (0, 17),
        _ => (1, 0),
    };
    let date = local.date().checked_add(days.days()).unwrap_or(local.date());
    let begins = date.to_datetime(Time::constant(hour, 0, 0, 0)).to_zoned(zone.clone());
    begins.map_or(at, |begins| begins.timestamp().max(at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn shanghai() -> TimeZone {
        TimeZone::get("Asia/Shanghai").unwrap()
    }

    #[test]
    fn a_busy_line_is_tried_in_half_an_hour_and_a_silent_one_in_another_part_of_the_day() {
        let rules = Rules::default();
        let ten = at("2026-11-23T02:00:00Z");
        assert_eq!(next(&rules, &[(ten, Cause::Busy)], &shanghai()), Next::At(at("2026-11-23T02:30:00Z")));
        // 10:00 and two hours is noon, another part already.
        assert_eq!(
            next(&rules, &[(ten, Cause::NoAnswer)], &shanghai()),
            Next::At(at("2026-11-23T04:00:00Z"))
        );
        // 12:30 and two hours is the same afternoon: it becomes 17:00.
        let noon = at("2026-11-23T04:30:00Z");
        assert_eq!(
            next(&rules, &[(noon, Cause::NoAnswer)], &shanghai()),
            Next::At(at("2026-11-23T09:00:00Z"))
        );
        // 18:00 and two hours is the same evening: it becomes the next day.
        let evening = at("2026-11-23T10:00:00Z");
        assert_eq!(
            next(&rules, &[(evening, Cause::NoAnswer)], &shanghai()),
            Next::At(at("2026-11-23T16:00:00Z"))
        );
    }

    #[test]
    fn one_cap_holds_over_all_causes_and_each_cause_has_its_own() {
        let rules = Rules::default();
        let n = |n: i64| Timestamp::from_second(n * 100_000).unwrap();
        let busy: Vec<_> = (0..4).map(|i| (n(i), Cause::Busy)).collect();
        assert!(matches!(next(&rules, &busy[..3], &shanghai()), Next::At(_)));
        assert_eq!(next(&rules, &busy, &shanghai()), Next::UsedUp);
        let mixed =
            [Cause::Busy, Cause::NoAnswer, Cause::PowerOff, Cause::Busy, Cause::NoAnswer, Cause::Unreachable];
        let mixed: Vec<_> = (0..).zip(mixed).map(|(i, cause)| (n(i), cause)).collect();
        assert_eq!(next(&rules, &mixed, &shanghai()), Next::UsedUp);
        assert_eq!(
            next(&rules, &[(n(1), Cause::InvalidNumber)], &shanghai()),
            Next::Final(Cause::InvalidNumber)
        );
        assert_eq!(next(&rules, &[(n(1), Cause::Answered)], &shanghai()), Next::Reached);
    }

    proptest! {
        #[test]
        fn a_retry_is_never_earlier_than_its_delay(second in 0_i64..4_000_000_000, zone in 0_usize..3) {
            let zone = ["America/New_York", "Asia/Shanghai", "Europe/London"][zone];
            let zone = TimeZone::get(zone).unwrap();
            let last = Timestamp::from_second(second).unwrap();
            let Next::At(next) = next(&Rules::default(), &[(last, Cause::NoAnswer)], &zone) else {
                return Err(TestCaseError::fail("a second attempt is due"));
            };
            prop_assert!(next.duration_since(last) >= SignedDuration::from_hours(2));
            prop_assert!(next.duration_since(last) <= SignedDuration::from_hours(26));
        }
    }
}
