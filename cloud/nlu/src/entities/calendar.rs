//! Days counted from today.

use jiff::ToSpan;
use jiff::civil::{Date, Weekday};

/// The day `days` ahead (or back).
pub(super) fn days_ahead(today: Date, days: i64) -> Option<Date> {
    if days.abs() > 36_500 {
        return None;
    }
    today.checked_add(days.days()).ok()
}

/// The same day `months` ahead, or the month's last where it is shorter.
pub(super) fn months_ahead(today: Date, months: i64) -> Option<Date> {
    if months.abs() > 1_200 {
        return None;
    }
    today.checked_add(months.months()).ok()
}

/// The next such weekday, today included.
pub(super) fn coming(today: Date, weekday: Weekday) -> Option<Date> {
    days_ahead(today, i64::from(today.weekday().until(weekday)))
}

/// A weekday of the calendar week `weeks` ahead; weeks start on Monday.
pub(super) fn in_week(today: Date, weeks: i64, weekday: Weekday) -> Option<Date> {
    let monday = -i64::from(today.weekday().to_monday_zero_offset());
    let offset = i64::from(weekday.to_monday_zero_offset());
    days_ahead(today, monday + weeks * 7 + offset)
}

/// The next day with this number, today included, in this month or the first that has one.
pub(super) fn coming_day(today: Date, day: i8) -> Option<Date> {
    (0..4).find_map(|months| day_of_month(today, months, day).filter(|date| *date >= today))
}

/// A numbered day of the month `months` ahead.
pub(super) fn day_of_month(today: Date, months: i64, day: i8) -> Option<Date> {
    let month = months_ahead(today.first_of_month(), months)?;
    Date::new(month.year(), month.month(), day).ok()
}

/// The last day of the month `months` ahead.
pub(super) fn end_of_month(today: Date, months: i64) -> Option<Date> {
    months_ahead(today.first_of_month(), months).map(Date::last_of_month)
}

/// The next such day of a month, today included; the year is added where it was not said.
pub(super) fn coming_date(today: Date, month: i8, day: i8) -> Option<Date> {
    (0..9)
        .filter_map(|years| Date::new(today.year().checked_add(years)?, month, day).ok())
        .find(|date| *date >= today)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn days_that_do_not_exist_are_skipped_or_refused() {
        let today = date(2026, 1, 31);
        assert_eq!(coming_day(today, 31), Some(today));
        assert_eq!(coming_day(today, 30), Some(date(2026, 3, 30)));
        assert_eq!(coming_date(today, 2, 29), Some(date(2028, 2, 29)));
        assert_eq!(coming_date(today, 2, 30), None);
        assert_eq!(end_of_month(today, 1), Some(date(2026, 2, 28)));
        assert_eq!(days_ahead(today, i64::MAX), None);
    }
}
