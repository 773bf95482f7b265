//! Group E: what must hold in the call, as far as the script and the plan promise it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::rules::Wording;
use crate::{Basis, Case, Check, Disclosure, Finding, Purpose, Reason};

fn discloses(case: &Case<'_>, check: Check, what: Disclosure) -> Finding {
    let wanted = case.pack.call.disclose.value.contains(&what);
    let done = case.plan.script.discloses.contains(&what);
    let saw = format!("wanted {wanted}, in the script {done}");
    if wanted && !done {
        Finding::block(check, Reason::DisclosureMissing, saw)
    } else {
        Finding::allow(check, saw)
    }
}

/// E1: the script says that a machine speaks. Where in the script it stands is the linter's.
pub fn e1_ai_disclosure(case: &Case<'_>) -> Finding {
    discloses(case, Check::E1, Disclosure::Ai)
}

/// E2: the script says who calls.
pub fn e2_identity(case: &Case<'_>) -> Finding {
    discloses(case, Check::E2, Disclosure::Identity)
}

/// E3: nobody is recorded without at least what the pack wants.
pub fn e3_recording(case: &Case<'_>) -> Finding {
    use crate::Recording;
    let (planned, least) = (case.plan.recording, case.pack.call.recording.value);
    let saw = format!("{planned:?}, at least {least:?}").to_lowercase();
    if planned == Recording::None {
        return Finding::allow(Check::E3, saw);
    }
    let told = case.plan.script.discloses.contains(&Disclosure::Recording);
    if least > Recording::None && (planned < least || !told) {
        Finding::block(Check::E3, Reason::DisclosureMissing, format!("{saw}, told {told}"))
    } else {
        Finding::allow(Check::E3, saw)
    }
}

/// E4: the first word comes before the call counts as abandoned.
pub fn e4_first_word(case: &Case<'_>) -> Finding {
    let (planned, max) = (case.plan.first_word_ms, case.pack.call.first_word_ms.value);
    let saw = format!("{planned} ms of {max} ms");
    if planned > max {
        Finding::skip(Check::E4, Reason::FirstWordLate, saw)
    } else {
        Finding::allow(Check::E4, saw)
    }
}

/// E5: one can opt out during the call, in every way that the pack wants.
pub fn e5_opt_out(case: &Case<'_>) -> Finding {
    let (rule, script) = (case.pack.call.opt_out.value, &case.plan.script);
    let saw = format!("spoken {}, key {}", script.opt_out_spoken, script.opt_out_key);
    if (rule.spoken && !script.opt_out_spoken) || (rule.key && !script.opt_out_key) {
        Finding::block(Check::E5, Reason::OptOutMissing, saw)
    } else {
        Finding::allow(Check::E5, saw)
    }
}

/// E6: no text of the script holds a phrase that deceives or threatens.
pub fn e6_no_deception(case: &Case<'_>) -> Finding {
    let texts = &case.plan.script.texts;
    match forbidden_in(texts, &case.pack.call.forbidden.value) {
        Some(saw) => Finding::block(Check::E6, Reason::Deception, saw),
        None => Finding::allow(Check::E6, format!("{} texts", texts.len())),
    }
}

/// Texts, what may not be in them, and the phrase of it that is.
type Searched = (Arc<Vec<String>>, Vec<Wording>, Option<String>);

/// So many scripts and packs are judged in turns.
const SEARCHED: usize = 8;

thread_local! {
    /// What was found last: thousands of calls are judged with the same texts.
    static LAST: RefCell<VecDeque<Searched>> = const { RefCell::new(VecDeque::new()) };
}

/// Returns the first forbidden phrase that stands in one of the texts, with its language.
fn forbidden_in(texts: &Arc<Vec<String>>, forbidden: &[Wording]) -> Option<String> {
    LAST.with_borrow_mut(|last| {
        let same = |(known, by, _): &&Searched| Arc::ptr_eq(known, texts) && by == forbidden;
        if let Some((.., found)) = last.iter().find(same) {
            return found.clone();
        }
        let found = search(texts, forbidden);
        last.truncate(SEARCHED - 1);
        last.push_front((Arc::clone(texts), forbidden.to_vec(), found.clone()));
        found
    })
}

fn search(texts: &[String], forbidden: &[Wording]) -> Option<String> {
    let texts: Vec<String> = texts.iter().map(|text| text.to_lowercase()).collect();
    for wording in forbidden {
        let said = |phrase: &&String| texts.iter().any(|text| text.contains(phrase.as_str()));
        if let Some(phrase) = wording.phrases.iter().find(said) {
            return Some(format!("`{phrase}` in {}", wording.language));
        }
    }
    None
}

/// E7: a debt is named to the right person only.
pub fn e7_right_party(case: &Case<'_>) -> Finding {
    let debt = case.plan.purpose == Purpose::DebtReminder;
    let saw = format!("a debt {debt}, asked who speaks {}", case.plan.script.right_party);
    if debt && case.pack.call.right_party.value && !case.plan.script.right_party {
        Finding::block(Check::E7, Reason::RightPartyMissing, saw)
    } else {
        Finding::allow(Check::E7, saw)
    }
}

/// E8: who asks for a person gets one, or a call back.
pub fn e8_human(case: &Case<'_>) -> Finding {
    let saw = format!("in the script {}", case.plan.script.human);
    if case.pack.call.human.value && !case.plan.script.human {
        Finding::block(Check::E8, Reason::HumanMissing, saw)
    } else {
        Finding::allow(Check::E8, saw)
    }
}

/// E9: what is left on a voicemail is permitted.
pub fn e9_voicemail(case: &Case<'_>) -> Finding {
    let saw = format!("{:?}", case.plan.voicemail).to_lowercase();
    if case.pack.call.voicemail.value.contains(&case.plan.voicemail) {
        Finding::allow(Check::E9, saw)
    } else {
        Finding::block(Check::E9, Reason::VoicemailPlan, saw)
    }
}

/// E10: emotions and voiceprints are processed where it is permitted, with a written consent.
pub fn e10_emotion(case: &Case<'_>) -> Finding {
    if !case.plan.emotion {
        return Finding::allow(Check::E10, "off");
    }
    let written = case.contact.consent.as_ref().is_some_and(|consent| {
        consent.basis == Basis::Written && consent.revoked.is_none_or(|at| at > case.now)
    });
    let saw = format!("on, written consent {written}");
    if case.pack.call.emotion.value && written {
        Finding::allow(Check::E10, saw)
    } else {
        Finding::block(Check::E10, Reason::EmotionProcessing, saw)
    }
}
