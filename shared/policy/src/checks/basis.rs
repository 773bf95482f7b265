//! Group B: the legal basis.

use crate::{Basis, Case, Check, Finding, Reason};

/// B1: the basis is as strong as the purpose needs, covers it, is in force, and is proven. A purpose
/// without a rule is blocked.
pub fn b1_consent(case: &Case<'_>) -> Finding {
    let purpose = case.plan.purpose;
    let Some(rule) = case.pack.basis.consent.iter().find(|rule| rule.purposes.contains(&purpose)) else {
        return Finding::block(
            Check::B1,
            Reason::ConsentMissing,
            format!("no rule for {}", purpose.as_str()),
        );
    };
    let block = |reason, saw: String| Finding::block(Check::B1, reason, saw);
    let Some(consent) = &case.contact.consent else {
        return if rule.at_least == Basis::None {
            Finding::allow(Check::B1, "none needed")
        } else {
            block(Reason::ConsentMissing, format!("none; {:?} needed", rule.at_least).to_lowercase())
        };
    };
    let saw = format!("{:?} for {}", consent.basis, purpose.as_str()).to_lowercase();
    if consent.revoked.is_some_and(|at| at <= case.now) {
        return block(Reason::ConsentRevoked, saw);
    }
    if consent.basis < rule.at_least {
        return block(Reason::ConsentMissing, saw);
    }
    if consent.given.is_some_and(|at| at > case.now) {
        return block(Reason::ConsentMissing, format!("{saw}, given in the future"));
    }
    if consent.expires.is_some_and(|at| at <= case.now) {
        return block(Reason::ConsentExpired, saw);
    }
    if !consent.purposes.is_empty() && !consent.purposes.contains(&purpose) {
        return block(Reason::ConsentScope, saw);
    }
    if rule.ai_voice && !consent.ai_voice {
        return block(Reason::ConsentAiVoice, saw);
    }
    if rule.proof && consent.proof.as_ref().is_none_or(|proof| proof.trim().is_empty()) {
        return block(Reason::ConsentProof, saw);
    }
    Finding::allow(Check::B1, saw)
}

/// B2: the purpose may be served, over this caller id.
pub fn b2_purpose(case: &Case<'_>) -> Finding {
    let purpose = case.plan.purpose;
    let class = case.line.and_then(|line| line.did.as_ref()).map(|did| did.class);
    let hit = case
        .pack
        .basis
        .forbidden
        .iter()
        .find(|rule| rule.purpose == purpose && rule.over.is_none_or(|over| class == Some(over)));
    match hit {
        Some(rule) if rule.over.is_none() => {
            Finding::block(Check::B2, Reason::PurposeForbidden, format!("{} is not served", purpose.as_str()))
        }
        Some(_) => Finding::skip(
            Check::B2,
            Reason::PurposeForbidden,
            format!("{} is not served over this class of caller id", purpose.as_str()),
        ),
        None => Finding::allow(Check::B2, purpose.as_str()),
    }
}

/// B3: a revocation reaches every box in time.
pub fn b3_revocation(case: &Case<'_>) -> Finding {
    let (lag, max) = (case.operations.revocation_lag_s, case.pack.basis.revocation_s.value);
    let saw = format!("{lag} s of {max} s");
    if lag > max {
        Finding::skip(Check::B3, Reason::RevocationLag, saw)
    } else {
        Finding::allow(Check::B3, saw)
    }
}
