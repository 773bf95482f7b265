//! When a contact who asked to be called at another time is called.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a campaign does about customers who ask to be called later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "CallbackRules")]
pub struct Callbacks {
    /// Codes of outcomes that ask for it; none switches callbacks off.
    pub outcomes: Vec<String>,
    /// The script's slot with the day, `2026-11-27`.
    pub date_slot: String,
    /// The script's slot with the time of day in the callee's zone, `15:00`.
    pub time_slot: String,
    /// How many a contact gets; they count as attempts too.
    pub max: u32,
    /// How long to wait where no time was understood, in minutes.
    pub default_min: u32,
}

impl Default for Callbacks {
    fn default() -> Self {
        Self {
            outcomes: vec!["callback".into()],
            date_slot: "callback_date".into(),
            time_slot: "callback_time".into(),
            max: 2,
            default_min: 120,
        }
    }
}

/// A time further off than this was misunderstood.
const FURTHEST: SignedDuration = SignedDuration::from_hours(60 * 24);

/// Returns the instant that was asked for in a call that ended at `ended`, in the callee's zone: a day without a time
/// of day is its beginning (the windows say the rest), a time of day without a day the next one. `None` where nothing
/// was understood, what was is over, or it is more than 60 days off.
pub fn asked_time(
    date: Option<&str>,
    time: Option<&str>,
    ended: Timestamp,
    zone: &TimeZone,
) -> Option<Timestamp> {
    let date: Option<Date> = date.and_then(|text| text.parse().ok());
    let time: Option<Time> = time.and_then(|text| text.parse().ok());
    // A time of day on a day that does not have it, by daylight saving, moves by the gap.
    let at =
        |date: Date, time: Time| date.to_datetime(time).to_zoned(zone.clone()).ok().map(|z| z.timestamp());
    let found = match (date, time) {
        (None, None) => None,
        (Some(date), time) => at(date, time.unwrap_or(Time::midnight())),
        (None, Some(time)) => {
            let today = ended.to_zoned(zone.clone()).date();
            let today_at = at(today, time).filter(|at| *at > ended);
            today_at.or_else(|| at(today.checked_add(1.day()).ok()?, time))
        }
    };
    found.filter(|at| *at > ended && at.duration_since(ended) <= FURTHEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_understood_in_the_callees_zone() {
        let ended: Timestamp = "2026-11-23T06:00:00Z".parse().unwrap();
        let shanghai = TimeZone::get("Asia/Shanghai").unwrap();
        let of = |date, time| asked_time(date, time, ended, &shanghai).map(|at| at.to_string());
        // It is 14:00 there.
        for (date, time, at) in [
            (Some("2026-11-25"), Some("15:30"), Some("2026-11-25T07:30:00Z")),
            (Some("2026-11-25"), None, Some("2026-11-24T16:00:00Z")),
            (Some("2026-11-25"), Some("tomorrow"), Some("2026-11-24T16:00:00Z")),
            (None, Some("18:00"), Some("2026-11-23T10:00:00Z")),
            (None, Some("09:00"), Some("2026-11-24T01:00:00Z")),
            (None, None, None),
            (Some("next_week"), None, None),
            // Today without a time, yesterday, and a date that was misheard.
            (Some("2026-11-23"), None, None),
            (Some("2026-11-22"), Some("10:00"), None),
            (Some("2062-11-25"), Some("10:00"), None),
        ] {
            assert_eq!(of(date, time).as_deref(), at, "{date:?} {time:?}");
        }
    }

    #[test]
    fn a_time_that_the_day_does_not_have_is_not_lost() {
        let zone = TimeZone::get("America/New_York").unwrap();
        let ended: Timestamp = "2027-03-12T15:00:00Z".parse().unwrap();
        let at = asked_time(Some("2027-03-14"), Some("02:30"), ended, &zone);
        assert_eq!(at, Some("2027-03-14T07:30:00Z".parse().unwrap()), "02:30 is 03:30 that day");
    }
}
