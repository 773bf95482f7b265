//! How many calls a campaign may start now: lines, speed, numbers to show, and the people who must take its calls.
//!
//! The decision is `trunkline_dialer::people`; here its figures are gathered from the campaign's own last calls, and
//! what was decided is kept with the campaign, for people to see and for the next pass.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline_db::{CampaignSums, ContactRow, Db, DbError};
use trunkline_dialer::caller::{Pool, Wear};
use trunkline_dialer::pacing::{Governor, Limits};
use trunkline_dialer::people::{Ledger, Method, Paced, Reason, Scene, pace};
use trunkline_policy::Contact;
use trunkline_policy::abandonment::{Formula, Tally};

use crate::campaigns::{CampaignSettings, Mode};
use crate::{ContactFacts, Gate};

const DAY: SignedDuration = SignedDuration::from_hours(24);
/// Speed is counted over this long.
const SPEED_S: i64 = 10;
/// The packs are taken from this many contacts, the most urgent.
const PACKS_OF: usize = 50;
/// What the last day counts beside the last hour.
const DAY_SHARE: f64 = 0.1;

/// The people whom a campaign's calls are handed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PeopleSettings")]
pub struct People {
    /// People who take calls now; `PUT …/people` changes it.
    #[schemars(range(max = 10_000))]
    pub agents: u32,
    /// Campaigns that name the same group share its people; empty for people of its own.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub group: String,
    /// How long one talks with a customer, in seconds, where nothing is known better: the network does not say when
    /// a call ends that it took from us.
    #[serde(default = "talk_s")]
    pub talk_s: u32,
    /// How long one writes up, in seconds.
    #[serde(default = "wrap_s")]
    pub wrap_s: u32,
}

fn talk_s() -> u32 {
    120
}

fn wrap_s() -> u32 {
    15
}

/// What holds a campaign back, in the word of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "HeldBackBy")]
pub enum Held {
    /// Nothing.
    None,
    /// No contact is due.
    Contacts,
    /// Its own `max_at_once`.
    MaxAtOnce,
    /// No line is free.
    Channels,
    /// Its own `calls_per_second`.
    CallsPerSecond,
    /// All of its numbers rest or have had their calls.
    CallerIds,
    /// There are not enough people for more.
    People,
    /// People do not take the calls that they are given.
    NobodyTakesCalls,
    /// Near the cap: each call has its person until the rate has fallen.
    Abandonment,
    /// Above the cap: nothing is started.
    AbandonmentCap,
}

/// How a campaign is paced, as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pacing {
    /// Its mode.
    pub mode: Mode,
    /// Calls that it would start now, by its due contacts and `max_at_once`.
    pub wanted: u32,
    /// Calls that it may start.
    pub allowed: u32,
    /// What holds it back.
    pub reason: Held,
    /// The same for people.
    pub why: String,
    /// What it knows of its people; absent where its calls are handed to nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub people: Option<PeopleNow>,
    /// When that was decided.
    pub at: Timestamp,
}

/// What a campaign knows of its people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PeopleNow {
    /// At work, by the settings.
    pub agents: u32,
    /// In a call, being rung, or writing up.
    pub busy: u32,
    /// Calls that nobody has answered yet.
    pub ringing: u32,
    /// Calls in which the robot talks.
    pub talking: u32,
    /// The share of calls that are answered, from its own last calls.
    pub answer_rate: f64,
    /// The share of answered calls that are handed over.
    pub transfer_rate: f64,
    /// Abandoned of all answered calls, the worse of 24 hours and the pack's window.
    pub abandonment: f64,
    /// The pack's cap.
    pub cap: f64,
    /// The governor makes it careful until the rate is below 0.6 of the cap.
    pub careful: bool,
}

/// A campaign as the pacing sees it.
pub(crate) struct Subject<'a> {
    pub(crate) campaign: &'a str,
    pub(crate) settings: &'a CampaignSettings,
    /// What the last pass decided.
    pub(crate) before: &'a serde_json::Value,
    /// Contacts that are due.
    pub(crate) due: &'a [ContactRow],
    /// Contacts that are being called.
    pub(crate) calling: u32,
    /// Free channels of the lines.
    pub(crate) lines: u32,
}

/// Calls that campaigns of this pass were allowed, by group: they need the group's people too.
pub(crate) type InPass = BTreeMap<String, u32>;

impl Subject<'_> {
    /// Decides how many calls may start.
    pub(crate) async fn decide(
        &self,
        db: &Db,
        gate: &Gate,
        wear: Option<&[Wear]>,
        in_pass: &mut InPass,
        now: Timestamp,
    ) -> Result<Pacing, DbError> {
        let settings = self.settings;
        let due = u32::try_from(self.due.len()).unwrap_or(u32::MAX);
        let room = settings.max_at_once.saturating_sub(self.calling);
        let wanted = due.min(room);
        let mut limit = if due == 0 {
            Limit(0, Held::Contacts)
        } else if room < due {
            Limit(room, Held::MaxAtOnce)
        } else {
            Limit(due, Held::None)
        };
        limit.tighten(self.lines, Held::Channels);
        if let Some(speed) = settings.calls_per_second {
            let since = now.saturating_sub(SignedDuration::from_secs(SPEED_S)).unwrap_or(now);
            let begun = db.begun_since(self.campaign, since).await?;
            limit.tighten(starts(speed, begun), Held::CallsPerSecond);
        }
        if let (Some(pool), Some(wear)) = (&settings.caller_ids, wear) {
            limit.tighten(left(pool, wear, now), Held::CallerIds);
        }
        let known: Option<Pacing> = serde_json::from_value(self.before.clone()).ok();
        let mut people = known.and_then(|known| known.people);
        if let (Some(settings), true) = (&settings.people, due > 0) {
            let already = in_pass.entry(self.group(settings)).or_default();
            let careful = people.as_ref().is_some_and(|people| people.careful);
            let (paced, seen) = self.people(db, gate, settings, careful, *already, now).await?;
            limit.tighten(paced.allowed, held(paced.reason));
            *already = already.saturating_add(limit.0);
            people = Some(seen);
        }
        let why = why(limit.1, people.as_ref());
        Ok(Pacing {
            mode: settings.mode,
            wanted,
            allowed: limit.0,
            reason: limit.1,
            why,
            people: people.filter(|_| settings.people.is_some()),
            at: now,
        })
    }

    fn group(&self, people: &People) -> String {
        if people.group.is_empty() { format!("of {}", self.campaign) } else { people.group.clone() }
    }

    async fn people(
        &self,
        db: &Db,
        gate: &Gate,
        people: &People,
        careful: bool,
        already: u32,
        now: Timestamp,
    ) -> Result<(Paced, PeopleNow), DbError> {
        let ago = |span: SignedDuration| now.saturating_sub(span).unwrap_or(Timestamp::MIN);
        let rule = self.rule(gate);
        let hour = db.campaign_sums(self.campaign, ago(SignedDuration::from_hours(1))).await?;
        let day = db.campaign_sums(self.campaign, ago(DAY)).await?;
        let window = db
            .campaign_sums(self.campaign, ago(SignedDuration::from_hours(24 * i64::from(rule.days))))
            .await?;
        let mut scene = scene(people, &hour, &day);
        scene.ringing = already;
        let spans = (seconds(people.talk_s), seconds(people.wrap_s));
        for campaign in self.sharing(db, people).await? {
            let under_way = db.under_way(&campaign, spans, now).await?;
            scene.busy += under_way.people;
            scene.ringing += under_way.ringing;
            scene.talking += under_way.talking;
        }
        let (missed, last) = db.missed_in_a_row(self.campaign, trunkline_dialer::people::MISSED).await?;
        scene.missed = missed;
        scene.missed_s =
            last.map_or(u32::MAX, |at| u32::try_from(now.duration_since(at).as_secs()).unwrap_or(0));
        let ledger =
            Ledger { day: tally(&day), window: tally(&window), cap: rule.cap, formula: rule.formula };
        let mut governor = Governor::new(rule.cap, rule.formula).resumed(careful);
        let method = match self.settings.mode {
            Mode::Robot | Mode::Preview => Method::Mean,
            Mode::Progressive => Method::Progressive,
            Mode::Predictive => Method::Predictive,
        };
        let lines = self.lines;
        let limits =
            Limits { channels: lines, starts: lines, recognisers: lines, humans: None, p_transfer: 0.0 };
        let paced = pace(method, &scene, &ledger, &mut governor, &limits);
        let seen = PeopleNow {
            agents: scene.agents,
            busy: scene.busy,
            ringing: scene.ringing,
            talking: scene.talking,
            answer_rate: rounded(scene.p_answer),
            transfer_rate: rounded(scene.p_transfer),
            abandonment: rounded(ledger.rate()),
            cap: rule.cap,
            careful: governor.is_falling_back(),
        };
        Ok((paced, seen))
    }

    /// Returns the campaigns that need the same people, this one included.
    async fn sharing(&self, db: &Db, people: &People) -> Result<Vec<String>, DbError> {
        if people.group.is_empty() {
            return Ok(vec![self.campaign.to_owned()]);
        }
        db.campaigns_of_people(&people.group).await
    }

    /// Returns the strictest rule of the packs for its most urgent contacts.
    fn rule(&self, gate: &Gate) -> Rule {
        let rules = self.due.iter().take(PACKS_OF).flat_map(|contact| {
            let facts: ContactFacts = serde_json::from_str(&contact.facts).unwrap_or_default();
            let who = Contact { country: facts.country, ..Contact::new(contact.callee.clone()) };
            let packs = gate.packs().applicable(&who);
            let rules = packs.iter().map(|pack| Rule {
                cap: pack.after.abandonment_cap.value,
                formula: pack.after.abandonment_formula.value,
                days: pack.after.abandonment_days.value,
            });
            rules.collect::<Vec<_>>()
        });
        let strictest = rules.min_by(|a, b| a.cap.total_cmp(&b.cap).then(b.days.cmp(&a.days)));
        strictest.unwrap_or(Rule { cap: 0.0, formula: Formula::Tsr, days: 30 })
    }
}

struct Rule {
    cap: f64,
    formula: Formula,
    days: u32,
}

/// So many calls, because of this.
struct Limit(u32, Held);

impl Limit {
    fn tighten(&mut self, to: u32, because: Held) {
        if to < self.0 {
            *self = Self(to, because);
        }
    }
}

fn seconds(s: u32) -> SignedDuration {
    SignedDuration::from_secs(i64::from(s))
}

fn rounded(share: f64) -> f64 {
    (share * 10_000.0).round() / 10_000.0
}

fn tally(sums: &CampaignSums) -> Tally {
    Tally {
        answered_live: sums.answered,
        connected: sums.answered.saturating_sub(sums.abandoned),
        abandoned: sums.abandoned,
        false_machines: 0,
    }
}

/// Estimates from the last hour and, with less weight, the last day; guesses count as a few calls.
fn scene(people: &People, hour: &CampaignSums, day: &CampaignSums) -> Scene {
    let both = |of: fn(&CampaignSums) -> u64| of(hour) as f64 + DAY_SHARE * of(day) as f64;
    let answered = both(|sums| sums.answered);
    let mean_s =
        |ms: u64, calls: u64, guess_s: f64| (ms as f64 / 1_000.0 + 5.0 * guess_s) / (calls as f64 + 5.0);
    Scene {
        agents: people.agents,
        busy: 0,
        ringing: 0,
        talking: 0,
        p_answer: (answered + 3.0) / (both(|sums| sums.tried) + 10.0),
        p_transfer: (both(|sums| sums.handovers) + 2.5) / (answered + 5.0),
        until_s: mean_s(day.until_ms, day.handovers, 45.0),
        handle_s: mean_s(day.handled_ms, day.handled, f64::from(people.talk_s)) + f64::from(people.wrap_s),
        missed: 0,
        missed_s: 0,
    }
}

/// Calls that may start in this second.
fn starts(speed: f64, begun: u32) -> u32 {
    let owed = (speed * SPEED_S as f64).floor() - f64::from(begun);
    (owed.max(0.0) as u32).min(speed.ceil().max(1.0) as u32)
}

/// Calls that the numbers of a pool may still show at this moment, by their rest and their calls of the day.
fn left(pool: &Pool, wear: &[Wear], now: Timestamp) -> u32 {
    let of = |wear: &Wear| {
        let calls = pool.per_day.saturating_sub(wear.calls);
        let rests = wear
            .last
            .is_some_and(|last| last.saturating_add(seconds(pool.rest_s)).unwrap_or(Timestamp::MAX) > now);
        match (rests, pool.rest_s) {
            (true, _) => 0,
            (false, 0) => calls,
            (false, _) => calls.min(1),
        }
    };
    wear.iter().map(of).fold(0, u32::saturating_add)
}

fn held(reason: Reason) -> Held {
    match reason {
        Reason::None => Held::Channels,
        Reason::People => Held::People,
        Reason::NobodyTakesCalls => Held::NobodyTakesCalls,
        Reason::Abandonment => Held::Abandonment,
        Reason::AbandonmentCap => Held::AbandonmentCap,
    }
}

fn why(held: Held, people: Option<&PeopleNow>) -> String {
    let rate = people.map_or(0.0, |people| people.abandonment) * 100.0;
    let cap = people.map_or(0.0, |people| people.cap) * 100.0;
    let (agents, busy) = people.map_or((0, 0), |people| (people.agents, people.busy));
    match held {
        Held::None => String::new(),
        Held::Contacts => "no contact is due".into(),
        Held::MaxAtOnce => "as many calls at once as `max_at_once` permits".into(),
        Held::Channels => "no more lines are free, or their trunks take no more calls in this second".into(),
        Held::CallsPerSecond => "as fast as `calls_per_second` permits".into(),
        Held::CallerIds => "every number of `caller_ids` rests or has had its calls of 24 h".into(),
        Held::People => format!("{busy} of {agents} people are busy, and more calls would find none free"),
        Held::NobodyTakesCalls => {
            "the last hand-overs were taken by nobody; after a pause of 10 minutes one call at a time is tried"
                .into()
        }
        Held::Abandonment => format!(
            "{rate:.2} % of answered calls were abandoned and the cap is {cap:.2} %: each call has its person until \
             it is below {:.2} %",
            0.6 * cap
        ),
        Held::AbandonmentCap => format!(
            "{rate:.2} % of answered calls were abandoned and the cap is {cap:.2} %: nothing is started until the \
             rate of the last 24 h is below it"
        ),
    }
}

#[cfg(test)]
mod tests;
