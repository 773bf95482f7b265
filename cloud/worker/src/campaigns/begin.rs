//! Calls contacts that the gate lets through.

use jiff::{SignedDuration, Timestamp};
use trunkline_db::{ContactFate, ContactRow, Db, DbError, JudgedContact, NewCall};
use trunkline_dialer::caller::Wear;
use trunkline_dialogue::Script;
use trunkline_model::{CallId, E164};
use trunkline_policy::Verdict;
use trunkline_wire::ScriptRef;
use uuid::Uuid;

use super::settings::{CampaignSettings, facts_of};
use crate::gate::Question;
use crate::{Ask, ContactFacts, Gate};

/// How long a started call may wait for its box. A short lease: with a lost link dialling gets slower.
const LEASE: SignedDuration = SignedDuration::from_secs(60);

/// What became of the wish to call a contact.
#[derive(Clone, Debug, PartialEq)]
pub enum Began {
    /// The call is under way.
    Started(CallId),
    /// The gate says later.
    Waits(Timestamp, &'static str),
    /// The contact is not called at all, for this reason.
    Never(String),
    /// It is not ready any more, or its campaign does not run.
    Gone,
}

/// Calls a contact of a running campaign, if the gate lets it through. Contact and call change together.
///
/// # Errors
/// [`DbError`].
pub async fn call_contact(
    db: &Db,
    gate: &Gate,
    of: (&str, &CampaignSettings, &Script),
    contact: &ContactRow,
    now: Timestamp,
) -> Result<Began, DbError> {
    let mut wear = wear(db, of.1, now).await?;
    let mut began =
        call_contacts(db, gate, of, (std::slice::from_ref(contact), &|_, _| true), wear.as_deref_mut(), now)
            .await?;
    Ok(began.pop().unwrap_or(Began::Gone))
}

/// Returns what the numbers of a campaign's pool have behind them; `None` without a pool.
pub(super) async fn wear(
    db: &Db,
    settings: &CampaignSettings,
    now: Timestamp,
) -> Result<Option<Vec<Wear>>, DbError> {
    let Some(pool) = &settings.caller_ids else { return Ok(None) };
    let since = now.saturating_sub(SignedDuration::from_hours(24)).unwrap_or(Timestamp::MIN);
    let shown = db.shown_since(&pool.numbers, since).await?;
    Ok(Some(shown.into_iter().map(|(calls, last)| Wear { calls, last }).collect()))
}

/// Says of a contact, by its place, whether the line that is free for it may show a number.
pub(super) type MayShow<'a> = dyn Fn(usize, &E164) -> bool + Sync + 'a;

/// A contact with all that its call would have.
struct Prospect<'a> {
    contact: &'a ContactRow,
    id: CallId,
    facts: ContactFacts,
    caller_id: Option<E164>,
    /// Its place in the pool.
    shows: Option<usize>,
}

/// Counts one more call that shows a number.
fn wear_on(wear: &mut [Wear], shows: usize, now: Timestamp) {
    if let Some(shown) = wear.get_mut(shows) {
        *shown = Wear { calls: shown.calls + 1, last: Some(now) };
    }
}

/// Calls contacts of a running campaign, those that the gate lets through; the answers are in their order. All receipts,
/// contacts and calls change together.
pub(super) async fn call_contacts(
    db: &Db,
    gate: &Gate,
    (campaign, settings, script): (&str, &CampaignSettings, &Script),
    (contacts, may_show): (&[ContactRow], &MayShow<'_>),
    mut wear: Option<&mut [Wear]>,
    now: Timestamp,
) -> Result<Vec<Began>, DbError> {
    let mut began = vec![Began::Waits(now, "caller_ids"); contacts.len()];
    let mut prospects = Vec::with_capacity(contacts.len());
    // What the numbers would have behind them if every call were made.
    let mut ahead = wear.as_deref().map(<[Wear]>::to_vec);
    for (at, contact) in contacts.iter().enumerate() {
        let mut facts = facts_of(contact, settings);
        let (mut caller_id, mut shows) = (settings.caller_id.clone(), None);
        if let (Some(pool), Some(ahead)) = (&settings.caller_ids, &mut ahead) {
            let Some(chosen) =
                pool.choose(ahead, contact.callee.reveal(), |number| may_show(at, number), now)
            else {
                continue;
            };
            caller_id = pool.numbers.get(chosen.at).cloned();
            facts.local_presence = chosen.local;
            facts.shown = chosen.why;
            shows = Some(chosen.at);
            wear_on(ahead, chosen.at, now);
        }
        prospects.push((at, Prospect { contact, id: CallId::new(Uuid::now_v7()), facts, caller_id, shows }));
    }
    let questions: Vec<Question<'_>> = prospects
        .iter()
        .map(|(_, one)| {
            let ask = Ask {
                call: one.id,
                callee: &one.contact.callee,
                caller_id: one.caller_id.as_ref(),
                facts: &one.facts,
                campaign: Some(campaign),
            };
            Question { ask, script, by: None }
        })
        .collect();
    let judged: Vec<JudgedContact> = gate
        .judge_all(db, &questions, now)
        .await?
        .into_iter()
        .zip(&prospects)
        .map(|(judged, (_, one))| {
            let fate = fate(&judged.receipt.decision.verdict, one, (campaign, settings, script), now);
            JudgedContact { n: one.contact.n, receipt: judged.receipt, fate }
        })
        .collect();
    let filed = db.file_contacts(campaign, &judged, now).await?;
    for (((at, one), judged), filed) in prospects.iter().zip(&judged).zip(filed) {
        began[*at] = match &judged.fate {
            ContactFate::Starts(_) if filed => {
                if let (Some(wear), Some(shows)) = (wear.as_deref_mut(), one.shows) {
                    wear_on(wear, shows, now);
                }
                Began::Started(one.id)
            }
            ContactFate::Starts(_) => Began::Gone,
            ContactFate::Waits(until, _) => {
                let reason = judged.receipt.decision.verdict.reason();
                Began::Waits(*until, reason.map_or("", |reason| reason.as_str()))
            }
            ContactFate::Done(why) => Began::Never(why.clone()),
        };
    }
    Ok(began)
}

fn fate(
    verdict: &Verdict,
    one: &Prospect<'_>,
    (campaign, settings, script): (&str, &CampaignSettings, &Script),
    now: Timestamp,
) -> ContactFate {
    match verdict {
        Verdict::Allow => {}
        Verdict::Defer { until, reason } => return ContactFate::Waits(*until, reason.as_str().to_owned()),
        Verdict::Skip { reason } | Verdict::Block { reason } => {
            return ContactFate::Done(reason.as_str().to_owned());
        }
    }
    let mut variables = settings.variables.clone();
    variables.extend(one.contact.variables.clone());
    let Ok(variables) = script.check_variables(&variables) else {
        return ContactFate::Done("its variables do not fit the script".to_owned());
    };
    ContactFate::Starts(Box::new(NewCall {
        id: one.id,
        callee: one.contact.callee.clone(),
        caller_id: one.caller_id.clone(),
        script: ScriptRef { id: script.id().clone(), version: script.version().clone() },
        variables,
        external_id: one.contact.external_id.clone(),
        callback_url: settings.callback_url.clone(),
        not_before: now,
        not_after: now.saturating_add(LEASE).unwrap_or(now),
        facts: one.facts.to_json(),
        priority: 0,
        campaign: Some((campaign.to_owned(), one.contact.n)),
        trace: String::new(),
        idempotency: None,
    }))
}
