//! Turns running campaigns into calls: settles what ended, looks at the fuse, and starts what lines,
//! pacing and the gate permit.
//!
//! It reads everything, decides with `cloud/dialer`, and applies; a contact and its call change in one
//! transaction, so that a restart, or a second scheduler, calls nobody twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline_db::{
    CampaignRow, ContactFate, ContactRow, Db, DbError, EndedAlike, EndedAttempt, JudgedContact, Moved,
    NewCall, Promise, Settling,
};
use trunkline_dialer::allot::{Demand, Grant, allot};
use trunkline_dialer::callback::{Callbacks, asked_time};
use trunkline_dialer::caller::{Pool, Wear};
use trunkline_dialer::campaign::Fuse;
use trunkline_dialer::preflight::{Preflight, report};
use trunkline_dialer::release::{Release, Seen, Verdict as Step, judge};
use trunkline_dialer::retry::{Cause, Next, Rules, next};
use trunkline_dialogue::Script;
use trunkline_model::{CallId, Disposition, E164, ScriptId};
use trunkline_policy::receipt::Asked;
use trunkline_policy::{Contact, Hours, Verdict, zones_of};
use trunkline_wire::ScriptRef;
use uuid::Uuid;

use crate::dispatch::Chain;
use crate::gate::Question;
use crate::lines::{Fits, Lines};
use crate::pacing::{InPass, Pacing, People, Subject};
use crate::{Ask, ContactFacts, Gate, Scripts, Stop, Worker};

/// How long a started call may wait for its box. A short lease: with a lost link dialling gets slower.
const LEASE: SignedDuration = SignedDuration::from_secs(60);
/// How long a leader leads without a word.
const LEAD: SignedDuration = SignedDuration::from_secs(10);
const TICK: Duration = Duration::from_secs(1);
/// At most so many contacts of a campaign are looked at in a pass.
const LOOKED_AT: u32 = 2_000;
/// So many calls that wait for a box are set off against free lines.
const OWED: u32 = 5_000;
/// How long a contact waits that no line carries: somebody may add one.
const NO_LINE_PAUSE: SignedDuration = SignedDuration::from_mins(10);
/// How long a contact waits whose lines are full while others are not.
const FULL_PAUSE: SignedDuration = SignedDuration::from_secs(15);
/// So many are judged together: a pass holds the database's writer no longer than for these.
const JUDGED_AT_ONCE: usize = 250;
/// So many are judged in a pass; what is left is for the next one, which follows at once and sees what has changed since.
const JUDGED_IN_PASS: usize = 500;
/// So many contacts whose calls are over are moved on in a pass.
const SETTLED_AT_ONCE: u32 = 5_000;
/// Figures of the pacing that tell nothing new are written this often.
const FIGURES_EVERY: SignedDuration = SignedDuration::from_secs(5);

/// What a campaign wants, as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CampaignSettings {
    /// What is said.
    pub script_id: ScriptId,
    /// Variables that are the same for all contacts.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// When it calls, in the callee's time; empty leaves it to the packs.
    #[serde(default)]
    pub windows: Vec<Hours>,
    /// The number to show.
    #[serde(default)]
    pub caller_id: Option<E164>,
    /// Boxes that it may use; empty means all.
    #[serde(default)]
    pub boxes: Vec<String>,
    /// 0 comes before 1, and so on.
    #[serde(default)]
    pub class: u8,
    /// Its share among campaigns of its class.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub weight: u32,
    /// Calls at once.
    #[serde(default = "many")]
    #[schemars(range(min = 1))]
    pub max_at_once: u32,
    /// What follows which end.
    #[serde(default)]
    pub retry: Rules,
    /// What follows when a customer asks to be called later: the contact is called again at that time, in the first
    /// legal moment from then on. On unless `outcomes` is empty.
    #[serde(default)]
    pub callbacks: Callbacks,
    /// When it stops itself.
    #[serde(default)]
    pub fuse: Fuse,
    /// Where its calls are reported to.
    #[serde(default)]
    pub callback_url: Option<String>,
    /// Who says when a contact is called.
    #[serde(default)]
    pub mode: Mode,
    /// Whom its calls are handed to; `progressive` and `predictive` need them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub people: Option<People>,
    /// Numbers to show, of which each call gets one; in the place of `caller_id`. The choice stands in the receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller_ids: Option<Pool>,
    /// Calls that it may start in a second, on average over ten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.01, max = 1_000))]
    pub calls_per_second: Option<f64>,
    /// A gray release: it begins with a few contacts and widens by gates. Absent for all at once.
    #[serde(default)]
    pub release: Option<ReleaseSettings>,
}

/// Who says when a contact is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "CampaignMode")]
pub enum Mode {
    /// The dialer. Where calls are handed to people there are enough of them on average.
    #[default]
    Robot,
    /// The dialer, and each call has its person.
    Progressive,
    /// The dialer, and as many calls as people will probably be free for in time.
    Predictive,
    /// A person, who looks at each contact first.
    Preview,
}

/// A gray release of a campaign.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseSettings {
    /// The steps, and what must hold before the next.
    pub plan: Release,
    /// The variable whose number is what a contact is worth: the least comes first. By the order of the contacts
    /// where there is none.
    #[serde(default)]
    #[schemars(regex(pattern = "^[A-Za-z0-9_]*$"))]
    pub value: String,
    /// Codes of good outcomes.
    pub good: Vec<String>,
    /// Codes of outcomes that are complaints.
    #[serde(default)]
    pub complaints: Vec<String>,
}

impl ReleaseSettings {
    fn seen(&self, ended: &[EndedAlike]) -> Seen {
        let sum = |count: &dyn Fn(&EndedAlike) -> u64| {
            u32::try_from(ended.iter().map(count).sum::<u64>()).unwrap_or(u32::MAX)
        };
        let of = |codes: &[String], alike: &EndedAlike| {
            if codes.contains(&alike.outcome) { alike.calls } else { 0 }
        };
        Seen {
            conversations: sum(&|alike| alike.calls),
            good: sum(&|alike| of(&self.good, alike)),
            opt_outs: sum(&|alike| if alike.suppress { alike.calls } else { 0 }),
            complaints: sum(&|alike| of(&self.complaints, alike)),
            turns: sum(&|alike| alike.turns),
            no_match: sum(&|alike| alike.dead_ends),
        }
    }
}

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
async fn wear(db: &Db, settings: &CampaignSettings, now: Timestamp) -> Result<Option<Vec<Wear>>, DbError> {
    let Some(pool) = &settings.caller_ids else { return Ok(None) };
    let since = now.saturating_sub(SignedDuration::from_hours(24)).unwrap_or(Timestamp::MIN);
    let shown = db.shown_since(&pool.numbers, since).await?;
    Ok(Some(shown.into_iter().map(|(calls, last)| Wear { calls, last }).collect()))
}

/// Says of a contact, by its place, whether the line that is free for it may show a number.
type MayShow<'a> = dyn Fn(usize, &E164) -> bool + Sync + 'a;

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
async fn call_contacts(
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

fn one() -> u32 {
    1
}

fn many() -> u32 {
    1_000
}

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

/// Returns what is to be known about a contact's call: its own facts, and the campaign's windows and boxes.
pub fn facts_of(contact: &ContactRow, settings: &CampaignSettings) -> ContactFacts {
    let mut facts: ContactFacts = serde_json::from_str(&contact.facts).unwrap_or_default();
    facts.windows.clone_from(&settings.windows);
    facts.boxes.clone_from(&settings.boxes);
    facts.asked = contact.callback_at.zip(contact.callback_call).map(|(at, call)| Asked { call, at });
    facts
}

pub(crate) async fn run(worker: Arc<Worker>, mut stop: Stop) {
    let me = Uuid::now_v7().to_string();
    loop {
        let now = Timestamp::now();
        let until = now.saturating_add(LEAD).unwrap_or(now);
        let mut pause = TICK;
        match worker.db.lead("campaigns", &me, until, now).await {
            Ok(true) => match worker.campaigns(now).await {
                Ok(false) => {}
                Ok(true) => pause = Duration::ZERO,
                Err(error) => {
                    tracing::error!(error = %Chain(&error), "Campaigns could not be moved on; it is tried again");
                }
            },
            Ok(false) => {}
            Err(error) => tracing::error!(error = %Chain(&error), "The lead could not be taken"),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.stopped() => return,
        }
    }
}

/// A campaign with what its settings say.
struct Running {
    row: CampaignRow,
    settings: CampaignSettings,
    script: Arc<Script>,
    /// What the numbers of its pool have behind them.
    wear: Option<Vec<Wear>>,
}

impl Worker {
    /// One pass over all running campaigns. Says whether there is more to start than one pass may.
    ///
    /// # Errors
    /// [`DbError`]; what was applied until then holds.
    pub async fn campaigns(&self, now: Timestamp) -> Result<bool, DbError> {
        let mut running = Vec::new();
        for row in self.db.campaigns(Some("running")).await? {
            let Some(campaign) = self.usable(row, now).await? else { continue };
            self.settle_all(&campaign, now).await?;
            if !self.fused(&campaign, now).await? && self.released(&campaign, now).await? {
                running.push(campaign);
            }
        }
        if running.is_empty() {
            return Ok(false);
        }
        let mut ready: Vec<Vec<ContactRow>> = Vec::new();
        for campaign in &running {
            ready.push(match campaign.settings.mode {
                Mode::Robot | Mode::Progressive | Mode::Predictive => {
                    self.db.ready_contacts(&campaign.row.id, now, LOOKED_AT).await?
                }
                Mode::Preview => Vec::new(),
            });
        }
        let mut left = JUDGED_IN_PASS;
        let (lines, grants) = self.shares(&mut running, &mut ready, now).await?;
        for (at, berths) in by_campaign(&grants, &lines) {
            let judged =
                self.start_calls(&mut running[at], &mut ready[at], &lines, (berths, left), now).await?;
            left -= judged.min(left);
        }
        for campaign in &running {
            self.finish(campaign, now).await?;
        }
        Ok(left == 0)
    }

    async fn usable(&self, row: CampaignRow, now: Timestamp) -> Result<Option<Running>, DbError> {
        let settings: Option<CampaignSettings> = serde_json::from_value(row.settings.clone()).ok();
        let found = settings.and_then(|settings| {
            let script = self.scripts.current(&settings.script_id)?;
            Some((settings, script))
        });
        let Some((settings, script)) = found else {
            self.db.move_campaign(&row.id, "running", "paused", "its script is gone", now).await?;
            return Ok(None);
        };
        let wear = wear(&self.db, &settings, now).await?;
        Ok(Some(Running { row, settings, script, wear }))
    }

    async fn settle_all(&self, campaign: &Running, now: Timestamp) -> Result<(), DbError> {
        let settling = self.db.settling(&campaign.row.id, SETTLED_AT_ONCE).await?;
        let settled: Vec<Moved> = settling
            .iter()
            .map(|contact| {
                let zone = self.zone_of(contact);
                let settings = &campaign.settings;
                let moved = |until, why, callback| Moved { n: contact.n, until, why, callback };
                match settle(&settings.retry, &settings.callbacks, contact, &zone, now) {
                    Settled::Still(at, why) => moved(Some(at), why, Promise::Keep),
                    Settled::Until(at, why) => moved(Some(at), why, Promise::Drop),
                    Settled::Callback(at) => {
                        let promise =
                            contact.calls.last().map_or(Promise::Drop, |last| Promise::New(last.call, at));
                        moved(Some(at), "callback".into(), promise)
                    }
                    Settled::Done(why) => moved(None, why, Promise::Drop),
                }
            })
            .collect();
        self.db.settle_contacts(&settled, now).await
    }

    /// The zone in which what a contact said is understood: the one that is stored for them, however sure that is, else
    /// the first in which they may be.
    fn zone_of(&self, contact: &Settling) -> TimeZone {
        let facts: ContactFacts = serde_json::from_str(&contact.facts).unwrap_or_default();
        if let Some(stored) = facts.zone.as_deref().and_then(|name| TimeZone::get(name).ok()) {
            return stored;
        }
        let mut who = Contact::new(contact.callee.clone());
        (who.country, who.region) = (facts.country, facts.region);
        let packs = self.gate.packs().applicable(&who);
        let zone = packs.first().and_then(|pack| zones_of(&who, pack).zones.into_iter().next());
        zone.map_or(TimeZone::UTC, |(_, zone)| zone)
    }

    async fn fused(&self, campaign: &Running, now: Timestamp) -> Result<bool, DbError> {
        let fuse = &campaign.settings.fuse;
        let back = SignedDuration::from_secs(fuse.within_s.into());
        // Nothing of before the campaign was last started counts.
        let since = now.saturating_sub(back).unwrap_or(now).max(campaign.row.updated_at);
        let ends: Vec<(Timestamp, bool)> = self
            .db
            .campaign_ends(&campaign.row.id, since)
            .await?
            .into_iter()
            .filter_map(|(at, name)| {
                let end = Disposition::ALL.into_iter().find(|end| end.as_str() == name)?;
                let cause = cause_of(end)?;
                Some((at, matches!(cause, Cause::SystemFault | Cause::Unreachable | Cause::InvalidNumber)))
            })
            .collect();
        let Some(why) = fuse.blown(&ends, now) else { return Ok(false) };
        tracing::warn!(campaign = campaign.row.id, why, "A campaign's fuse blew: it is paused");
        self.db.move_campaign(&campaign.row.id, "running", "paused", &why, now).await
    }

    /// Moves a gray release on. Says whether the campaign still runs.
    async fn released(&self, campaign: &Running, now: Timestamp) -> Result<bool, DbError> {
        let Some(release) = &campaign.settings.release else { return Ok(true) };
        let row = &campaign.row;
        let first = release.plan.steps.first().copied().unwrap_or(100);
        if row.share == 0 {
            tracing::info!(campaign = row.id, share = first, "A gray release begins");
            self.db.set_share(&row.id, first, &release.value, now).await?;
            return Ok(true);
        }
        // Nothing of before the campaign was last started counts.
        let since = row.share_since.max(row.updated_at);
        let seen = release.seen(&self.db.ended_alike(&row.id, since).await?);
        match judge(&release.plan, row.share, &seen) {
            Step::Wait | Step::Done => Ok(true),
            Step::Widen(next) => {
                tracing::info!(campaign = row.id, share = next, ?seen, "A gray release widens");
                self.db.set_share(&row.id, next, &release.value, now).await?;
                Ok(true)
            }
            Step::Ready(next) => {
                self.db.share_could_be(&row.id, next).await?;
                Ok(true)
            }
            Step::Halt(why) => {
                tracing::warn!(
                    campaign = row.id,
                    why,
                    ?seen,
                    "A gate of a gray release does not hold: it is paused"
                );
                let why = format!("gray release at {} %: {why}", row.share);
                self.db.move_campaign(&row.id, "running", "paused", &why, now).await?;
                Ok(false)
            }
        }
    }

    /// Shares the free channels of all boxes out.
    async fn shares(
        &self,
        running: &mut [Running],
        ready: &mut [Vec<ContactRow>],
        now: Timestamp,
    ) -> Result<(Lines, Vec<Grant>), DbError> {
        let mut lines = Lines::read(&self.db, now).await?;
        let waiting = self.db.queued_wants(OWED).await?;
        lines.owe(&waiting, |call| self.gate.boxes_for(&call.callee, &call.boxes));
        let free = lines.free();
        let mut demands = Vec::with_capacity(running.len());
        let mut in_pass = InPass::new();
        for ((at, campaign), ready) in (0..).zip(running).zip(ready) {
            self.put_off(&lines, &campaign.settings, ready, now).await?;
            let calling = self.db.contacts_called(&campaign.row.id).await?;
            let subject = Subject {
                campaign: &campaign.row.id,
                settings: &campaign.settings,
                before: &campaign.row.pacing,
                due: ready,
                calling,
                lines: free,
            };
            let decided =
                subject.decide(&self.db, &self.gate, campaign.wear.as_deref(), &mut in_pass, now).await?;
            let wanted = decided.allowed;
            self.keep_pacing(campaign, &decided, now).await?;
            demands.push(Demand {
                campaign: at,
                class: campaign.settings.class,
                weight: campaign.settings.weight,
                wanted,
                running: calling,
                routes: lines
                    .routes(numbers_of(&campaign.settings), ready.iter().map(|contact| &contact.callee)),
                lines: lines.allowed(&campaign.settings.boxes),
                waited_s: self.waited(&campaign.row, now).await?,
            });
        }
        let grants = allot(&lines.lines, &lines.room, &demands);
        Ok((lines, grants))
    }

    /// Lets contacts wait that no line of the campaign carries, and where these fill the whole look, those whose lines are
    /// all full: they must not hide the others.
    async fn put_off(
        &self,
        lines: &Lines,
        settings: &CampaignSettings,
        ready: &mut Vec<ContactRow>,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let (allowed, numbers) = (lines.allowed(&settings.boxes), numbers_of(settings));
        let many = u32::try_from(ready.len()).is_ok_and(|all| all == LOOKED_AT);
        let (within_reach, open) = (lines.within_reach(&allowed), lines.open(&allowed));
        let mut moved = Vec::new();
        ready.retain(|contact| {
            let (why, wait) = match lines.fits(&within_reach, numbers, &contact.callee) {
                Fits::No(why) => (why, NO_LINE_PAUSE),
                Fits::Yes if many && !open.is_empty() => {
                    let may = lines.profiles_for(numbers, &contact.callee);
                    if may.iter().any(|profile| open.contains(profile)) {
                        return true;
                    }
                    ("lines_full", FULL_PAUSE)
                }
                Fits::Yes => return true,
            };
            let until = Some(now.saturating_add(wait).unwrap_or(now));
            moved.push(Moved { n: contact.n, until, why: why.to_owned(), callback: Promise::Keep });
            false
        });
        self.db.move_ready(&moved).await
    }

    /// Seconds since a campaign last began a call, or was started.
    async fn waited(&self, campaign: &CampaignRow, now: Timestamp) -> Result<u32, DbError> {
        let last = self.db.last_begun(&campaign.id).await?;
        let since = last.map_or(campaign.updated_at, |last| last.max(campaign.updated_at));
        Ok(u32::try_from(now.duration_since(since).as_secs().max(0)).unwrap_or(u32::MAX))
    }

    /// Starts up to `calls` calls, passing over contacts that the gate does not let through, and judges `most` contacts
    /// at most; returns how many it judged.
    async fn start_calls(
        &self,
        campaign: &mut Running,
        ready: &mut Vec<ContactRow>,
        lines: &Lines,
        (mut berths, most): (Berths, usize),
        now: Timestamp,
    ) -> Result<usize, DbError> {
        let mut judged = 0;
        while judged < most {
            let next = JUDGED_AT_ONCE.min(most - judged);
            let numbers = numbers_of(&campaign.settings);
            let (some, over) =
                board(ready, &mut berths, next, |contact| lines.profiles_for(numbers, &contact.callee));
            if some.is_empty() {
                break;
            }
            judged += some.len();
            let of = (campaign.row.id.as_str(), &campaign.settings, &*campaign.script);
            let wear = campaign.wear.as_deref_mut();
            let may_show =
                |at: usize, number: &E164| over.get(at).is_some_and(|profile| lines.shows(*profile, number));
            let began = call_contacts(&self.db, &self.gate, of, (&some, &may_show), wear, now).await?;
            for (began, profile) in began.into_iter().zip(&over) {
                match began {
                    Began::Started(id) => self.hub.changed(id),
                    // Its line is free for another.
                    Began::Waits(..) | Began::Never(_) | Began::Gone => {
                        *berths.entry(*profile).or_default() += 1;
                    }
                }
            }
            self.wakers.dispatcher();
        }
        Ok(judged)
    }

    /// Keeps what was decided where it says something else than before, and not each second for its figures alone.
    async fn keep_pacing(&self, campaign: &Running, now_is: &Pacing, now: Timestamp) -> Result<(), DbError> {
        let before: Option<Pacing> = serde_json::from_value(campaign.row.pacing.clone()).ok();
        if let Some(before) = before {
            let same = Pacing { at: before.at, ..now_is.clone() } == before;
            let alike = before.reason == now_is.reason
                && before.people.as_ref().map(|people| people.careful)
                    == now_is.people.as_ref().map(|people| people.careful);
            if same || (alike && now.duration_since(before.at) < FIGURES_EVERY) {
                return Ok(());
            }
            if before.reason != now_is.reason && now_is.people.is_some() {
                tracing::info!(campaign = campaign.row.id, reason = ?now_is.reason, why = now_is.why, "A campaign's pace changes");
            }
        }
        self.db.set_pacing(&campaign.row.id, &serde_json::to_value(now_is).unwrap_or_default()).await
    }

    async fn finish(&self, campaign: &Running, now: Timestamp) -> Result<(), DbError> {
        if self.db.contacts_are_done(&campaign.row.id).await? {
            self.db
                .move_campaign(&campaign.row.id, "running", "finished", "every contact is done", now)
                .await?;
            tracing::info!(campaign = campaign.row.id, "A campaign is finished");
        }
        Ok(())
    }
}

/// Calls that a campaign may start, by the profiles of the lines that are free for them: which line of a profile a call
/// takes is the dispatcher's choice.
type Berths = BTreeMap<usize, usize>;

/// Sums grants up by their campaigns, in the order in which these got their first: calls of one campaign are judged
/// together.
fn by_campaign(grants: &[Grant], lines: &Lines) -> Vec<(usize, Berths)> {
    let mut summed: Vec<(usize, Berths)> = Vec::new();
    for grant in grants {
        let (Ok(at), Ok(calls)) = (usize::try_from(grant.campaign), usize::try_from(grant.calls)) else {
            continue;
        };
        let Some(line) = lines.lines.get(grant.line) else { continue };
        match summed.iter_mut().find(|(known, _)| *known == at) {
            Some((_, berths)) => *berths.entry(line.profile).or_default() += calls,
            None => summed.push((at, Berths::from([(line.profile, calls)]))),
        }
    }
    summed
}

/// Takes out of `ready` up to `most` contacts that the berths are for, in their order, each with its profile.
fn board(
    ready: &mut Vec<ContactRow>,
    berths: &mut Berths,
    most: usize,
    profiles_for: impl Fn(&ContactRow) -> Vec<usize>,
) -> (Vec<ContactRow>, Vec<usize>) {
    let (mut some, mut over, mut left) = (Vec::new(), Vec::new(), Vec::new());
    for contact in ready.drain(..) {
        let full = some.len() >= most || berths.values().all(|calls| *calls == 0);
        let may = if full { Vec::new() } else { profiles_for(&contact) };
        let free = |profile: &usize| berths.get(profile).copied().unwrap_or_default();
        // Where most are free, so that the last one of a scarce line is left for who needs it.
        let best = may.into_iter().filter(|profile| free(profile) > 0).max_by_key(free);
        match best.and_then(|profile| Some((profile, berths.get_mut(&profile)?))) {
            Some((profile, calls)) => {
                *calls -= 1;
                some.push(contact);
                over.push(profile);
            }
            None => left.push(contact),
        }
    }
    *ready = left;
    (some, over)
}

/// Returns the numbers that a campaign shows; none where its lines show their own.
fn numbers_of(settings: &CampaignSettings) -> &[E164] {
    match (&settings.caller_ids, &settings.caller_id) {
        (Some(pool), _) => &pool.numbers,
        (None, Some(one)) => std::slice::from_ref(one),
        (None, None) => &[],
    }
}

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

#[cfg(test)]
mod tests;
