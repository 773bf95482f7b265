//! Group C: the line and the caller id. Without a line these checks wait: they run again when one is chosen.

use crate::rules::SipRule;
use crate::{Case, Check, Did, Finding, Line, LineKind, Reason, classify};
use trunkline_model::Callee;

const NO_LINE: &str = "no line yet";

fn with_line(case: &Case<'_>, check: Check, judge: impl FnOnce(&Line) -> Finding) -> Finding {
    case.line.map_or_else(|| Finding::allow(check, NO_LINE), judge)
}

fn with_did(case: &Case<'_>, check: Check, judge: impl FnOnce(&Did) -> Finding) -> Finding {
    with_line(case, check, |line| match &line.did {
        Some(did) => judge(did),
        None => Finding::allow(check, "the trunk's own number"),
    })
}

/// C1: the caller id is ours, with proof, and who calls it back is answered. A laboratory's call leaves
/// by a laboratory's line.
pub fn c1_caller_id(case: &Case<'_>) -> Finding {
    with_line(case, Check::C1, |line| {
        let lab = case.pack.contact.sip.value == SipRule::LabTargets;
        let number = matches!(case.contact.callee, Callee::Number(_));
        if lab && number && !line.lab {
            return Finding::skip(Check::C1, Reason::LabLineRequired, "a line that reaches telephones");
        }
        let rules = &case.pack.line;
        match (&line.caller_id, &line.did) {
            (None, None) => Finding::allow(Check::C1, "the trunk's own number"),
            (Some(asked), Some(did)) if did.number != *asked => {
                Finding::block(Check::C1, Reason::CallerIdUnknown, "another number's entry")
            }
            (Some(_), None) if rules.registered.value => {
                Finding::block(Check::C1, Reason::CallerIdUnknown, "not in the registry")
            }
            (Some(_), None) => Finding::allow(Check::C1, "not in the registry"),
            (_, Some(did)) if rules.registered.value && did.proof.is_none() => {
                Finding::block(Check::C1, Reason::CallerIdUnknown, "registered without proof")
            }
            (_, Some(did)) if rules.reachable.value && !did.reachable => {
                Finding::block(Check::C1, Reason::CallerIdUnreachable, "nobody answers it")
            }
            (_, Some(_)) => Finding::allow(Check::C1, "registered with proof, answered"),
        }
    })
}

/// C2: the class of the caller id fits the purpose; an inbound-only number calls nobody.
pub fn c2_class(case: &Case<'_>) -> Finding {
    with_did(case, Check::C2, |did| {
        let saw = format!("{:?} for {}", did.class, case.plan.purpose.as_str()).to_lowercase();
        if did.inbound_only {
            return Finding::block(Check::C2, Reason::CallerIdClass, format!("{saw}, inbound only"));
        }
        let rule = case.pack.line.classes.iter().find(|rule| rule.class == did.class);
        match rule {
            Some(rule) if !rule.purposes.contains(&case.plan.purpose) => {
                Finding::block(Check::C2, Reason::CallerIdClass, saw)
            }
            Some(_) | None => Finding::allow(Check::C2, saw),
        }
    })
}

/// C3: the line signs calls at least as strongly as the pack wants.
pub fn c3_attestation(case: &Case<'_>) -> Finding {
    with_line(case, Check::C3, |line| {
        let wanted = case.pack.line.attestation.value;
        let saw = format!("{:?}, wanted {wanted:?}", line.attestation);
        // `None` is weaker than every level.
        if line.attestation < wanted {
            Finding::skip(Check::C3, Reason::Attestation, saw)
        } else {
            Finding::allow(Check::C3, saw)
        }
    })
}

/// C4: the caller id has calls left today and is in good repute.
pub fn c4_wear(case: &Case<'_>) -> Finding {
    with_did(case, Check::C4, |did| {
        let rules = &case.pack.line;
        let saw = format!(
            "{} calls, answered {:?}, {} complaints",
            did.calls_today, did.answer_rate, did.complaints
        );
        if did.calls_today >= rules.calls_per_day.value {
            return Finding::skip(Check::C4, Reason::CallerIdWorn, saw);
        }
        let unheard = did.answer_rate.is_some_and(|rate| rate < rules.answer_floor.value);
        if unheard || did.complaints >= rules.complaints.value {
            return Finding::skip(Check::C4, Reason::CallerIdResting, saw);
        }
        Finding::allow(Check::C4, saw)
    })
}

/// C5: caps count over all lines, SIMs and campaigns; a history that does not, fails closed.
pub fn c5_no_evasion(case: &Case<'_>) -> Finding {
    if case.operations.history_complete {
        Finding::allow(Check::C5, format!("{} attempts over all lines", case.history.len()))
    } else {
        Finding::skip(Check::C5, Reason::CapEvasion, "the history does not cover all lines")
    }
}

/// C6: a number that looks local is one of ours, where that is permitted at all.
pub fn c6_local_presence(case: &Case<'_>) -> Finding {
    with_line(case, Check::C6, |line| {
        if !line.local_presence {
            return Finding::allow(Check::C6, "not used");
        }
        let owned = line.did.as_ref().is_some_and(|did| did.proof.is_some());
        if case.pack.line.local_presence.value && owned {
            Finding::allow(Check::C6, "an owned number")
        } else {
            Finding::skip(Check::C6, Reason::LocalPresence, if owned { "not permitted" } else { "not owned" })
        }
    })
}

fn with_sim(case: &Case<'_>, check: Check, judge: impl FnOnce(Option<&crate::Sim>) -> Finding) -> Finding {
    with_line(case, check, |line| match line.kind {
        LineKind::Sip => Finding::allow(check, "a SIP trunk"),
        LineKind::Gsm => judge(line.sim.as_ref()),
    })
}

/// C7: the SIM is registered to who operates it, and used at its branch.
pub fn c7_sim_registered(case: &Case<'_>) -> Finding {
    with_sim(case, Check::C7, |sim| {
        let holds = sim.is_some_and(|sim| sim.holder.as_deref() == Some(&sim.operator) && sim.at_its_branch);
        if holds || !case.pack.line.sim_registered.value {
            Finding::allow(Check::C7, if holds { "registered here" } else { "not asked for" })
        } else {
            Finding::block(
                Check::C7,
                Reason::SimRegistration,
                "not registered to the operator of this branch",
            )
        }
    })
}

/// C8: the SIM is the one that belongs into this module, and the module is what it was.
pub fn c8_sim_fixed(case: &Case<'_>) -> Finding {
    with_sim(case, Check::C8, |sim| {
        let same = sim.is_some_and(|sim| sim.identity_unchanged);
        if same || !case.pack.line.sim_fixed.value {
            Finding::allow(Check::C8, if same { "unchanged" } else { "not asked for" })
        } else {
            Finding::block(Check::C8, Reason::SimSwapped, "ICCID, IMSI or IMEI differ from the registration")
        }
    })
}

/// C9: GSM lines are permitted where this one enters the network, by the callee's pack.
pub fn c9_gsm(case: &Case<'_>) -> Finding {
    with_sim(case, Check::C9, |_| {
        let to = match &case.contact.callee {
            Callee::Number(number) => classify(number).country,
            Callee::Sip(_) => None,
        };
        let saw = format!("from {:?} to {to:?}", case.line.and_then(|line| line.country.as_deref()));
        if case.pack.line.gsm.value {
            Finding::allow(Check::C9, saw)
        } else {
            Finding::skip(Check::C9, Reason::GsmProhibited, saw)
        }
    })
}
