//! Group F: what must hold afterwards.

use jiff::SignedDuration;
use jiff::tz::TimeZone;

use crate::{Case, Check, Finding, Reason};

/// F1: records are kept as long as they must.
pub fn f1_retention(case: &Case<'_>) -> Finding {
    let (kept, least) = (case.operations.retention_days, case.pack.after.retention_days.value);
    let saw = format!("{kept} days, at least {least}");
    if kept < least {
        Finding::block(Check::F1, Reason::RetentionShort, saw)
    } else {
        Finding::allow(Check::F1, saw)
    }
}

/// F2: what is known about a person can be handed out and erased.
pub fn f2_rights(case: &Case<'_>) -> Finding {
    let in_place = case.operations.subject_rights;
    let saw = format!("in place {in_place}");
    if case.pack.after.subject_rights.value && !in_place {
        Finding::block(Check::F2, Reason::RightsMissing, saw)
    } else {
        Finding::allow(Check::F2, saw)
    }
}

/// F3: no complaint waits too long for its answer.
pub fn f3_complaints(case: &Case<'_>) -> Finding {
    let (oldest, max) = (case.operations.oldest_complaint_days, case.pack.after.complaint_days.value);
    let saw = format!("the oldest waits {oldest} days of {max}");
    if oldest > max {
        Finding::skip(Check::F3, Reason::ComplaintsOverdue, saw)
    } else {
        Finding::allow(Check::F3, saw)
    }
}

/// F4: the campaign abandons fewer calls than the cap. Above it, it is looked at again in 15 minutes.
pub fn f4_abandonment(case: &Case<'_>) -> Finding {
    let rules = &case.pack.after;
    let Some(rate) = case.operations.abandonment else {
        return Finding::allow(Check::F4, "nothing abandoned");
    };
    let saw =
        format!("{rate:.4} of {:.4} by {:?}", rules.abandonment_cap.value, rules.abandonment_formula.value);
    if rate > rules.abandonment_cap.value {
        let until = case.now.saturating_add(SignedDuration::from_mins(15)).unwrap_or(case.now);
        Finding::defer(Check::F4, until, Reason::AbandonmentCap, saw)
    } else {
        Finding::allow(Check::F4, saw)
    }
}

/// F5: audio that leaves carries its label.
pub fn f5_label(case: &Case<'_>) -> Finding {
    let labelled = case.operations.audio_label;
    let saw = format!("labelled {labelled}");
    if case.pack.after.audio_label.value && !labelled {
        Finding::block(Check::F5, Reason::LabelMissing, saw)
    } else {
        Finding::allow(Check::F5, saw)
    }
}

/// F6: somebody signed the pack, and it is in force.
pub fn f6_pack(case: &Case<'_>) -> Finding {
    let pack = case.pack;
    let today = case.now.to_zoned(TimeZone::UTC).date();
    let saw = format!("{} version {} from {}", pack.id, pack.version, pack.effective);
    match &pack.sign_off {
        Some(signed) if signed.role.trim().is_empty() => Finding::block(Check::F6, Reason::PackUnsigned, saw),
        None => Finding::block(Check::F6, Reason::PackUnsigned, saw),
        Some(_) if pack.effective > today => Finding::block(Check::F6, Reason::PackNotInForce, saw),
        Some(signed) => Finding::allow(Check::F6, format!("{saw}, signed by {}", signed.role)),
    }
}
