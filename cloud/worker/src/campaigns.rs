//! Turns running campaigns into calls: settles what ended, looks at the fuse, and starts what lines,
//! pacing and the gate permit.
//!
//! It reads everything, decides with `cloud/dialer`, and applies; a contact and its call change in one
//! transaction, so that a restart, or a second scheduler, calls nobody twice.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use trunkline_db::{CampaignRow, ContactRow, DbError, Moved, Promise, Settling};
use trunkline_dialer::caller::Wear;
use trunkline_dialer::release::{Verdict as Step, judge};
use trunkline_dialer::retry::Cause;
use trunkline_dialogue::Script;
use trunkline_model::Disposition;
use trunkline_policy::{Contact, zones_of};
use uuid::Uuid;

pub use self::begin::{Began, call_contact};
pub use self::preflight::preflight;
pub use self::settings::{CampaignSettings, Mode, ReleaseSettings, facts_of};
pub use self::settle::{Settled, cause_of, settle};
use crate::dispatch::Chain;
use crate::{ContactFacts, Stop, Worker};

mod begin;
mod preflight;
mod settings;
mod settle;
mod share;

/// How long a leader leads without a word.
const LEAD: SignedDuration = SignedDuration::from_secs(10);
const TICK: Duration = Duration::from_secs(1);
/// At most so many contacts of a campaign are looked at in a pass.
const LOOKED_AT: u32 = 2_000;
/// So many are judged in a pass; what is left is for the next one, which follows at once and sees what has changed since.
const JUDGED_IN_PASS: usize = 500;
/// So many contacts whose calls are over are moved on in a pass.
const SETTLED_AT_ONCE: u32 = 5_000;

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
        for (at, berths) in share::by_campaign(&grants, &lines) {
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
        let wear = begin::wear(&self.db, &settings, now).await?;
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

#[cfg(test)]
mod tests;
