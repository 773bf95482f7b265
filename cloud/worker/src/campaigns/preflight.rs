//! Says of all contacts of a campaign what the gate and the lines would, without calling anybody.

use std::collections::BTreeMap;

use jiff::Timestamp;
use trunkline_db::DbError;
use trunkline_dialer::preflight::{Preflight, report};
use trunkline_model::CallId;
use trunkline_policy::Verdict;

use super::settings::{CampaignSettings, facts_of, numbers_of};
use crate::gate::Question;
use crate::lines::{Fits, Lines};
use crate::{Ask, ContactFacts, Gate, Scripts};

/// Looks at every contact of a campaign as the gate would now. `pace` is in calls per hour.
///
/// # Errors
/// [`DbError`].
pub async fn preflight(
    db: &trunkline_db::Db,
    gate: &Gate,
    scripts: &Scripts,
    campaign: &str,
    settings: &CampaignSettings,
    pace: f64,
    now: Timestamp,
) -> Result<Option<Preflight>, DbError> {
    let Some(script) = scripts.current(&settings.script_id) else { return Ok(None) };
    let lines = Lines::read(db, now).await?;
    let within_reach = lines.within_reach(&lines.allowed(&settings.boxes));
    let numbers = numbers_of(settings);
    let mut verdicts = Vec::new();
    let mut no_line: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut after = 0;
    loop {
        let page = db.contacts_after(campaign, after, 1_000).await?;
        let Some(last) = page.last() else { break };
        after = last.n;
        let facts: Vec<ContactFacts> = page.iter().map(|contact| facts_of(contact, settings)).collect();
        let questions: Vec<Question<'_>> = page
            .iter()
            .zip(&facts)
            .map(|(contact, facts)| {
                let ask = Ask {
                    call: CallId::from_u128(0),
                    callee: &contact.callee,
                    caller_id: settings.caller_id.as_ref(),
                    facts,
                    campaign: Some(campaign),
                };
                Question { ask, script: &script, by: None }
            })
            .collect();
        let judged = gate.judge_all(db, &questions, now).await?;
        for (judged, contact) in judged.into_iter().zip(&page) {
            let verdict = judged.receipt.decision.verdict;
            let may = matches!(verdict, Verdict::Allow | Verdict::Defer { .. });
            match lines.fits(&within_reach, numbers, &contact.callee) {
                Fits::No(why) if may => *no_line.entry(why).or_default() += 1,
                Fits::Yes | Fits::No(_) => verdicts.push(verdict),
            }
        }
    }
    let mut found = report(verdicts, pace, now);
    found.contacts += no_line.values().sum::<u64>();
    found.never.append(&mut no_line);
    Ok(Some(found))
}
