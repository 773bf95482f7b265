//! Group A: the contact.

use jiff::{SignedDuration, Timestamp};
use trunkline_model::Callee;

use crate::rules::SipRule;
use crate::{Case, Check, Finding, LineType, OptOutScope, Reason, Suppression, classify, zones_of};

/// A1: the number is valid and of a type that may be called. Emergency and premium numbers never are,
/// in the laboratory neither.
pub fn a1_number(case: &Case<'_>) -> Finding {
    let lab = case.pack.contact.sip.value == SipRule::LabTargets;
    let number = match &case.contact.callee {
        Callee::Sip(_) if lab => return Finding::allow(Check::A1, "a SIP address in a laboratory"),
        Callee::Sip(_) => return Finding::block(Check::A1, Reason::SipNotAllowed, "a SIP address"),
        Callee::Number(number) => number,
    };
    let target = classify(number);
    let country = target.country.as_deref().unwrap_or("no country");
    let saw = format!("{:?} in {country}", target.line_type).to_lowercase();
    match target.line_type {
        LineType::Emergency => Finding::block(Check::A1, Reason::NumberEmergency, saw),
        LineType::Premium => Finding::block(Check::A1, Reason::NumberPremium, saw),
        // Test numbers are often ones that the plan never gives out.
        _ if lab => Finding::allow(Check::A1, format!("{saw}, a test number")),
        _ if !target.valid => Finding::block(Check::A1, Reason::NumberInvalid, saw),
        known if case.pack.contact.line_types.value.contains(&known) => Finding::allow(Check::A1, saw),
        LineType::Mobile
        | LineType::Fixed
        | LineType::FixedOrMobile
        | LineType::Other
        | LineType::TollFree
        | LineType::Service
        | LineType::Unknown => Finding::block(Check::A1, Reason::NumberType, saw),
    }
}

/// A2: a country is known by which the pack was chosen.
pub fn a2_jurisdiction(case: &Case<'_>) -> Finding {
    let country = match &case.contact.callee {
        _ if case.pack.contact.sip.value == SipRule::LabTargets => Some("a laboratory".to_owned()),
        Callee::Sip(_) => case.contact.country.clone(),
        Callee::Number(number) => classify(number).country.or_else(|| case.contact.country.clone()),
    };
    match country {
        Some(country) => {
            let region = case.contact.region.as_deref().unwrap_or("any region");
            Finding::allow(Check::A2, format!("{country}, {region}: pack {}", case.pack.id))
        }
        None => Finding::block(Check::A2, Reason::JurisdictionUnknown, "no country"),
    }
}

/// A3: the zones in which the callee may be are known; a stored zone that does not exist fails closed.
pub fn a3_zone(case: &Case<'_>) -> Finding {
    let found = zones_of(case.contact, case.pack);
    if found.bad || found.zones.is_empty() {
        return Finding::block(Check::A3, Reason::ZoneUnknown, found.by);
    }
    let names: Vec<&str> = found.zones.iter().map(|(name, _)| name.as_str()).collect();
    Finding::allow(Check::A3, format!("{} by {}", names.join(" "), found.by))
}

/// A4: no list names the contact, and every list that the pack wants is fresh.
pub fn a4_suppression(case: &Case<'_>) -> Finding {
    let live = |until: Option<Timestamp>| until.is_none_or(|until| until > case.now);
    let campaign = case.plan.campaign.as_deref();
    let holds = |entry: &&Suppression| live(entry.until) && entry.covers(campaign);
    if let Some(entry) = case.contact.suppressions.iter().find(holds) {
        return Finding::block(Check::A4, Reason::Suppressed, format!("list {}", entry.list));
    }
    let mut seen = Vec::new();
    for rule in &case.pack.contact.lists {
        if !rule.purposes.is_empty() && !rule.purposes.contains(&case.plan.purpose) {
            continue;
        }
        let Some(max_age_h) = rule.max_age_h else { continue };
        let state = case.operations.lists.iter().find(|state| state.list == rule.list);
        let max_age = SignedDuration::from_hours(i64::from(max_age_h));
        match state {
            Some(state) if case.now.duration_since(state.as_of) <= max_age => seen.push(rule.list.as_str()),
            Some(_) => {
                return Finding::block(
                    Check::A4,
                    Reason::ListStale,
                    format!("list {} is too old", rule.list),
                );
            }
            None => {
                return Finding::block(
                    Check::A4,
                    Reason::ListStale,
                    format!("list {} was never loaded", rule.list),
                );
            }
        }
    }
    Finding::allow(Check::A4, format!("not listed; fresh: {}", seen.join(" ")))
}

/// A5: no opt-out covers this call. One that does is for ever.
pub fn a5_opt_out(case: &Case<'_>) -> Finding {
    let covers = |scope: &OptOutScope| match scope {
        OptOutScope::Number | OptOutScope::Person => true,
        OptOutScope::Debt(debt) => case.contact.debt.as_ref() == Some(debt),
        OptOutScope::Purpose(purpose) => *purpose == case.plan.purpose,
    };
    match case.contact.opt_outs.iter().find(|opt_out| covers(&opt_out.scope)) {
        Some(opt_out) => {
            Finding::block(Check::A5, Reason::OptedOut, format!("by {} on {}", opt_out.channel, opt_out.at))
        }
        None => {
            Finding::allow(Check::A5, format!("{} opt-outs, none covers this", case.contact.opt_outs.len()))
        }
    }
}

/// A6: nobody said that the number is somebody else's, or it was verified since and the wait is over.
pub fn a6_wrong_party(case: &Case<'_>) -> Finding {
    let Some(marked) = case.contact.wrong_party_at else {
        return Finding::allow(Check::A6, "never marked");
    };
    let days = case.pack.contact.wrong_party_days.value;
    let over =
        marked.saturating_add(SignedDuration::from_hours(i64::from(days) * 24)).unwrap_or(Timestamp::MAX);
    match case.contact.reverified_at {
        Some(verified) if verified > marked && case.now >= over => {
            Finding::allow(Check::A6, format!("marked {marked}, verified {verified}"))
        }
        Some(verified) if verified > marked => Finding::defer(
            Check::A6,
            over,
            Reason::WrongParty,
            format!("marked {marked}, verified {verified}"),
        ),
        Some(_) | None => Finding::block(Check::A6, Reason::WrongParty, format!("marked {marked}")),
    }
}

/// A7: a robot does not call minors and vulnerable people.
pub fn a7_vulnerable(case: &Case<'_>) -> Finding {
    if case.contact.vulnerable && case.pack.contact.vulnerable_by_people_only.value {
        Finding::block(Check::A7, Reason::HumanOnly, "marked as vulnerable")
    } else {
        Finding::allow(Check::A7, if case.contact.vulnerable { "marked as vulnerable" } else { "not marked" })
    }
}
