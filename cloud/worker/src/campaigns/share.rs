//! Shares the free lines of all boxes out among the campaigns, and fills them.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use trunkline_db::{CampaignRow, ContactRow, DbError, Moved, Promise};
use trunkline_dialer::allot::{Demand, Grant, allot};
use trunkline_model::E164;

use super::begin::{Began, call_contacts};
use super::settings::{CampaignSettings, numbers_of};
use super::{LOOKED_AT, Running};
use crate::Worker;
use crate::lines::{Fits, Lines};
use crate::pacing::{InPass, Pacing, Subject};

/// So many calls that wait for a box are set off against free lines.
const OWED: u32 = 5_000;
/// How long a contact waits that no line carries: somebody may add one.
const NO_LINE_PAUSE: SignedDuration = SignedDuration::from_mins(10);
/// How long a contact waits whose lines are full while others are not.
const FULL_PAUSE: SignedDuration = SignedDuration::from_secs(15);
/// So many are judged together: a pass holds the database's writer no longer than for these.
const JUDGED_AT_ONCE: usize = 250;
/// Figures of the pacing that tell nothing new are written this often.
const FIGURES_EVERY: SignedDuration = SignedDuration::from_secs(5);

impl Worker {
    /// Shares the free channels of all boxes out.
    pub(super) async fn shares(
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
    pub(super) async fn start_calls(
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
}

/// Calls that a campaign may start, by the profiles of the lines that are free for them: which line of a profile a call
/// takes is the dispatcher's choice.
pub(super) type Berths = BTreeMap<usize, usize>;

/// Sums grants up by their campaigns, in the order in which these got their first: calls of one campaign are judged
/// together.
pub(super) fn by_campaign(grants: &[Grant], lines: &Lines) -> Vec<(usize, Berths)> {
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
