//! What a campaign wants, as it is stored.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline_db::{ContactRow, EndedAlike};
use trunkline_dialer::callback::Callbacks;
use trunkline_dialer::caller::Pool;
use trunkline_dialer::campaign::Fuse;
use trunkline_dialer::release::{Release, Seen};
use trunkline_dialer::retry::Rules;
use trunkline_model::{E164, ScriptId};
use trunkline_policy::Hours;
use trunkline_policy::receipt::Asked;

use crate::ContactFacts;
use crate::pacing::People;

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
    pub(super) fn seen(&self, ended: &[EndedAlike]) -> Seen {
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

fn one() -> u32 {
    1
}

fn many() -> u32 {
    1_000
}

/// Returns what is to be known about a contact's call: its own facts, and the campaign's windows and boxes.
pub fn facts_of(contact: &ContactRow, settings: &CampaignSettings) -> ContactFacts {
    let mut facts: ContactFacts = serde_json::from_str(&contact.facts).unwrap_or_default();
    facts.windows.clone_from(&settings.windows);
    facts.boxes.clone_from(&settings.boxes);
    facts.asked = contact.callback_at.zip(contact.callback_call).map(|(at, call)| Asked { call, at });
    facts
}

/// Returns the numbers that a campaign shows; none where its lines show their own.
pub(super) fn numbers_of(settings: &CampaignSettings) -> &[E164] {
    match (&settings.caller_ids, &settings.caller_id) {
        (Some(pool), _) => &pool.numbers,
        (None, Some(one)) => std::slice::from_ref(one),
        (None, None) => &[],
    }
}
