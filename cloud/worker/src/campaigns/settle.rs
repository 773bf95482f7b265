//! What becomes of a contact whose call is over.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use trunkline_db::{EndedAttempt, Settling};
use trunkline_dialer::callback::{Callbacks, asked_time};
use trunkline_dialer::retry::{Cause, Next, Rules, next};
use trunkline_model::Disposition;

/// Returns the cause that an end means for trying again; `None` when no telephone was tried.
pub fn cause_of(disposition: Disposition) -> Option<Cause> {
    match disposition {
        Disposition::Completed | Disposition::CustomerHungUp | Disposition::Transferred => {
            Some(Cause::Answered)
        }
        Disposition::Machine => Some(Cause::Voicemail),
        Disposition::Busy => Some(Cause::Busy),
        Disposition::NoAnswer => Some(Cause::NoAnswer),
        Disposition::Declined => Some(Cause::Rejected),
        Disposition::InvalidNumber => Some(Cause::InvalidNumber),
        Disposition::PowerOff => Some(Cause::PowerOff),
        Disposition::Unreachable => Some(Cause::Unreachable),
        Disposition::TrunkRefused
        | Disposition::CodecMismatch
        | Disposition::NetworkFault
        | Disposition::MediaLost
        | Disposition::CloudLost
        | Disposition::BoxFault => Some(Cause::SystemFault),
        Disposition::Expired | Disposition::Cancelled => None,
    }
}

/// What becomes of a contact whose call is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It waits as before: nobody was called.
    Still(Timestamp, String),
    /// It is tried again.
    Until(Timestamp, String),
    /// The customer asked to be called; then, as far as that was understood.
    Callback(Timestamp),
    /// It is done.
    Done(String),
}

/// Decides what becomes of a contact whose call is over.
pub fn settle(
    rules: &Rules,
    callbacks: &Callbacks,
    contact: &Settling,
    zone: &TimeZone,
    now: Timestamp,
) -> Settled {
    let attempts: Vec<(Timestamp, Cause)> =
        contact.calls.iter().filter_map(|call| Some((call.at, cause_of(call.disposition)?))).collect();
    let Some(last_call) = contact.calls.last() else {
        return Settled::Still(now, String::new());
    };
    let EndedAttempt { disposition: last, cause: why, .. } = last_call;
    match last {
        // No line was free in time, or the gate said no at the last moment: nobody was called.
        Disposition::Expired => {
            return Settled::Still(
                now.saturating_add(SignedDuration::from_secs(5)).unwrap_or(now),
                why.clone(),
            );
        }
        Disposition::Cancelled if why.starts_with("not permitted") => {
            return Settled::Still(
                now.saturating_add(SignedDuration::from_mins(1)).unwrap_or(now),
                why.clone(),
            );
        }
        Disposition::Cancelled => return Settled::Done("cancelled".into()),
        Disposition::Completed
        | Disposition::CustomerHungUp
        | Disposition::Transferred
        | Disposition::Machine
        | Disposition::Busy
        | Disposition::NoAnswer
        | Disposition::Declined
        | Disposition::InvalidNumber
        | Disposition::PowerOff
        | Disposition::Unreachable
        | Disposition::TrunkRefused
        | Disposition::CodecMismatch
        | Disposition::NetworkFault
        | Disposition::MediaLost
        | Disposition::BoxFault
        | Disposition::CloudLost => {}
    }
    match next(rules, &attempts, zone) {
        Next::At(at) => Settled::Until(at.max(now), format!("again after {last}")),
        Next::Reached => called_back(rules, callbacks, contact, last_call, (zone, attempts.len())),
        Next::Final(_) => Settled::Done(last.as_str().into()),
        Next::UsedUp => Settled::Done("attempts used up".into()),
    }
}

/// Decides whether somebody who was reached is called once more because they asked for it.
fn called_back(
    rules: &Rules,
    callbacks: &Callbacks,
    contact: &Settling,
    last: &EndedAttempt,
    (zone, attempts): (&TimeZone, usize),
) -> Settled {
    let asks = |call: &EndedAttempt| callbacks.outcomes.contains(&call.outcome);
    if !asks(last) {
        return Settled::Done("reached".into());
    }
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    // The one that is asked for now is among them.
    if count(contact.calls.iter().filter(|call| asks(call)).count()) > callbacks.max {
        return Settled::Done("callbacks used up".into());
    }
    if count(attempts) >= rules.max_attempts {
        return Settled::Done("attempts used up".into());
    }
    let slot = |name: &String| last.slots.get(name).map(String::as_str);
    let asked = asked_time(slot(&callbacks.date_slot), slot(&callbacks.time_slot), last.at, zone);
    let wait = SignedDuration::from_mins(callbacks.default_min.into());
    Settled::Callback(asked.unwrap_or_else(|| last.at.saturating_add(wait).unwrap_or(last.at)))
}
