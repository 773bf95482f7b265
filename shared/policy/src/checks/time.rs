//! Group D: time and frequency. All of them count over every campaign, line and box.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::rules::{Cap, CapCheck, CapWindow, Counted, Hours, Scope};
use crate::{Area, Attempt, AttemptResult, Case, Check, Finding, Reason, next_open, zones_of};

/// D1: the hour is right in every zone that the callee may be in: the pack's hours, the region's and
/// the campaign's own together.
pub fn d1_hours(case: &Case<'_>) -> Finding {
    let zones = zones_of(case.contact, case.pack);
    if zones.bad || zones.zones.is_empty() {
        return Finding::block(Check::D1, Reason::ZoneUnknown, zones.by);
    }
    let rules = &case.pack.time;
    let special = rules.purpose_hours.iter().find(|special| special.purposes.contains(&case.plan.purpose));
    let mut sets: Vec<&[Hours]> = vec![special.map_or(&rules.hours.value, |special| &special.hours)];
    sets.extend(areas(case).map(|area| area.hours.as_slice()).filter(|hours| !hours.is_empty()));
    if !case.plan.windows.is_empty() {
        sets.push(&case.plan.windows);
    }
    let saw = format!("{} sets of hours in {} zones", sets.len(), zones.zones.len());
    match next_open(&sets, &rules.holidays.value, &zones.zones, case.now) {
        Some(at) if at == case.now => Finding::allow(Check::D1, saw),
        Some(at) => Finding::defer(Check::D1, at, Reason::OutsideHours, saw),
        None => Finding::skip(Check::D1, Reason::WindowNeverOpens, saw),
    }
}

/// The stricter regions that apply: the contact's own, or all where its region is not known.
fn areas<'a>(case: &'a Case<'_>) -> impl Iterator<Item = &'a Area> {
    let region = case.contact.region.as_deref();
    case.pack
        .areas
        .iter()
        .filter(move |area| region.is_none_or(|code| area.regions.iter().any(|r| r == code)))
}

/// D2: attempts of a day.
pub fn d2_daily(case: &Case<'_>) -> Finding {
    capped(case, Check::D2, CapCheck::D2, Reason::DailyCap)
}

/// D3: conversations of a day.
pub fn d3_conversations(case: &Case<'_>) -> Finding {
    capped(case, Check::D3, CapCheck::D3, Reason::ConversationCap)
}

/// D4: attempts of seven days, and the rest after a conversation.
pub fn d4_week(case: &Case<'_>) -> Finding {
    let found = capped(case, Check::D4, CapCheck::D4, Reason::WeeklyCap);
    let rules = &case.pack.time;
    let days = rules.conversation_rest_days.value;
    if days == 0 || !rules.rest_purposes.contains(&case.plan.purpose) {
        return found;
    }
    let about = |attempt: &&Attempt| case.contact.debt.is_none() || attempt.debt == case.contact.debt;
    let last = case.history.iter().filter(about).filter(|a| a.result.is_conversation());
    let Some(last) = last.map(|attempt| attempt.at).max() else { return found };
    let until = later(last, i64::from(days) * 24);
    if until <= case.now || found.verdict.severity() > 1 {
        return found;
    }
    let rest = Finding::defer(Check::D4, until, Reason::ConversationRest, format!("conversation at {last}"));
    Finding { verdict: found.verdict.worse(rest.verdict), ..rest }
}

/// D5: the pause since the last attempt, longer after an abandoned call while no person could take
/// the next one.
pub fn d5_spacing(case: &Case<'_>) -> Finding {
    let rules = &case.pack.time;
    let Some(last) = case.history.iter().max_by_key(|attempt| attempt.at) else {
        return Finding::allow(Check::D5, "the first attempt");
    };
    let spaced = last
        .at
        .saturating_add(SignedDuration::from_mins(i64::from(rules.spacing_min.value)))
        .unwrap_or(Timestamp::MAX);
    let abandoned = case.history.iter().filter(|a| a.result == AttemptResult::Abandoned).map(|a| a.at).max();
    let rested = abandoned
        .filter(|_| !case.plan.human_available)
        .map(|at| later(at, i64::from(rules.abandoned_rest_h.value)));
    let saw = format!("last at {}", last.at);
    match rested {
        Some(until) if until > case.now && until >= spaced => {
            Finding::defer(Check::D5, until, Reason::AbandonedRest, saw)
        }
        _ if spaced > case.now => Finding::defer(Check::D5, spaced, Reason::Spacing, saw),
        Some(_) | None => Finding::allow(Check::D5, saw),
    }
}

/// D6: attempts of a life time.
pub fn d6_lifetime(case: &Case<'_>) -> Finding {
    capped(case, Check::D6, CapCheck::D6, Reason::LifetimeCap)
}

/// D7: it rings long enough to be answered, and not for ever.
pub fn d7_ring(case: &Case<'_>) -> Finding {
    let (min, max) = (case.pack.time.ring_min_s.value, case.pack.time.ring_max_s.value);
    let saw = format!("{} s, allowed {min} to {max}", case.plan.ring_s);
    if (min..=max).contains(&case.plan.ring_s) {
        Finding::allow(Check::D7, saw)
    } else {
        Finding::block(Check::D7, Reason::RingTime, saw)
    }
}

fn capped(case: &Case<'_>, check: Check, which: CapCheck, reason: Reason) -> Finding {
    let regional = areas(case).flat_map(|area| &area.caps);
    let purpose = case.plan.purpose;
    let caps: Vec<&Cap> = case
        .pack
        .time
        .caps
        .iter()
        .chain(regional)
        .filter(|cap| cap.check == which && (cap.purposes.is_empty() || cap.purposes.contains(&purpose)))
        .collect();
    let mut worst = Finding::allow(check, format!("{} caps", caps.len()));
    for cap in caps {
        let found = one_cap(case, check, cap, reason);
        if worst.verdict.worse(found.verdict) != worst.verdict || worst.verdict.severity() == 0 {
            worst = found;
        }
    }
    worst
}

fn one_cap(case: &Case<'_>, check: Check, cap: &Cap, reason: Reason) -> Finding {
    let mut counted: Vec<Timestamp> =
        case.history.iter().filter(|attempt| counts(case, cap, attempt)).map(|attempt| attempt.at).collect();
    counted.sort_unstable();
    let saw =
        |n: usize| format!("{n} of {} {:?} per {:?} and {:?}", cap.max, cap.count, cap.scope, cap.window);
    let max = usize::try_from(cap.max).unwrap_or(usize::MAX);
    if max == 0 {
        return Finding::skip(check, reason, saw(counted.len()));
    }
    match cap.window {
        CapWindow::Lifetime => {
            if counted.len() >= max {
                Finding::skip(check, reason, saw(counted.len()))
            } else {
                Finding::allow(check, saw(counted.len()))
            }
        }
        CapWindow::Sliding24h | CapWindow::SevenDays => {
            let hours = if cap.window == CapWindow::Sliding24h { 24 } else { 7 * 24 };
            let inside: Vec<Timestamp> =
                counted.into_iter().filter(|at| later(*at, hours) > case.now).collect();
            if inside.len() < max {
                return Finding::allow(check, saw(inside.len()));
            }
            // When this one has left the window, one fewer than the cap is in it.
            let leaves = inside[inside.len() - max];
            Finding::defer(check, later(leaves, hours), reason, saw(inside.len()))
        }
        CapWindow::CalendarDay => {
            let mut worst = Finding::allow(check, saw(0));
            for (_, zone) in zones_of(case.contact, case.pack).zones {
                let (from, to) = day_of(case.now, &zone);
                let n = counted.iter().filter(|at| **at >= from).count();
                let found = if n < max {
                    Finding::allow(check, saw(n))
                } else {
                    Finding::defer(check, to, reason, saw(n))
                };
                if worst.verdict.severity() == 0 || worst.verdict.worse(found.verdict) != worst.verdict {
                    worst = found;
                }
            }
            worst
        }
    }
}

fn counts(case: &Case<'_>, cap: &Cap, attempt: &Attempt) -> bool {
    let whom = match cap.scope {
        Scope::Number => attempt.same_number,
        Scope::Person => true,
        // An unknown debt may be this one.
        Scope::Debt => {
            case.contact.debt.is_none() || attempt.debt.is_none() || attempt.debt == case.contact.debt
        }
    };
    let what = match cap.count {
        Counted::Attempts => true,
        Counted::NotConnected => {
            matches!(attempt.result, AttemptResult::NotConnected | AttemptResult::Open)
        }
        Counted::Conversations => attempt.result.is_conversation() || attempt.result == AttemptResult::Open,
    };
    whom && what
}

fn later(at: Timestamp, hours: i64) -> Timestamp {
    at.saturating_add(SignedDuration::from_hours(hours)).unwrap_or(Timestamp::MAX)
}

/// Returns the first instant of the local day, and of the next one. A day may have 23 or 25 hours, and
/// in some zones does not begin at midnight.
fn day_of(now: Timestamp, zone: &TimeZone) -> (Timestamp, Timestamp) {
    let date = now.to_zoned(zone.clone()).date();
    let start = |midnight: DateTime| zone.to_ambiguous_zoned(midnight).compatible().map(|z| z.timestamp());
    let from = start(date.at(0, 0, 0, 0)).unwrap_or(now);
    let to = date.tomorrow().ok().and_then(|next| start(next.at(0, 0, 0, 0)).ok());
    (from, to.unwrap_or_else(|| later(now, 24)))
}
