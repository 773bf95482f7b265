//! Which number of a pool is shown to a callee.
//!
//! A number has so many calls in any 24 hours and a rest after each, so that none wears out and is marked as a
//! nuisance. That is care for the numbers: the caps of a contact count over all of them.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline_model::E164;

/// Numbers that a campaign may show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CallerIdPool")]
pub struct Pool {
    /// The numbers.
    #[schemars(length(min = 1, max = 1_000), extend("uniqueItems" = true))]
    pub numbers: Vec<E164>,
    /// Calls that each may be shown in within 24 hours, over all campaigns.
    #[serde(default = "cap")]
    #[schemars(range(min = 1))]
    pub per_day: u32,
    /// The rest of a number after the start of a call, in seconds.
    #[serde(default)]
    pub rest_s: u32,
    /// A number that begins like the callee's comes first, where the packs permit it.
    #[serde(default)]
    pub local_presence: bool,
}

fn cap() -> u32 {
    100
}

/// What a number has behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wear {
    /// Calls in the last 24 hours.
    pub calls: u32,
    /// When the last one was started.
    pub last: Option<Timestamp>,
}

/// A number was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Its place in the pool.
    pub at: usize,
    /// Because it begins like the callee's.
    pub local: bool,
    /// Why this one, for the receipt; holds no digit of the callee's.
    pub why: String,
}

/// A number that begins like another has as many digits in common as this at least, country included.
const LOCAL_DIGITS: usize = 5;

impl Pool {
    /// Says what is wrong with the settings.
    pub fn wrong(&self) -> Option<&'static str> {
        if self.numbers.is_empty() || self.numbers.len() > 1_000 {
            return Some("1 to 1000 numbers");
        }
        if self.per_day == 0 {
            return Some("`per_day` of at least 1");
        }
        (1..self.numbers.len())
            .any(|at| self.numbers[..at].contains(&self.numbers[at]))
            .then_some("each number once")
    }

    /// Chooses a number for a callee's number; `None` while all rest or have had their calls. `wear` is by place.
    ///
    /// Of several that the line `may_show` the one with the fewest calls is taken, and of these the one that rested
    /// longest.
    pub fn choose(
        &self,
        wear: &[Wear],
        callee: &str,
        may_show: impl Fn(&E164) -> bool,
        now: Timestamp,
    ) -> Option<Chosen> {
        let rested = |wear: &Wear| {
            let rest = SignedDuration::from_secs(i64::from(self.rest_s));
            wear.last.is_none_or(|last| last.saturating_add(rest).unwrap_or(Timestamp::MAX) <= now)
        };
        let of = |at: usize| wear.get(at).copied().unwrap_or_default();
        let usable: Vec<usize> = (0..self.numbers.len())
            .filter(|at| of(*at).calls < self.per_day && rested(&of(*at)) && may_show(&self.numbers[*at]))
            .collect();
        let alike = |at: usize| alike(self.numbers[at].reveal(), callee);
        let most = usable.iter().map(|at| alike(*at)).max()?;
        let local = self.local_presence && most >= LOCAL_DIGITS;
        let at = usable
            .iter()
            .copied()
            .filter(|at| !local || alike(*at) == most)
            .min_by_key(|at| (of(*at).calls, of(*at).last, *at))?;
        let because = if local { "it begins like the callee's" } else { "the fewest calls" };
        let why = format!(
            "{because}; {} of {} calls in 24 h, {} of {} numbers usable",
            of(at).calls,
            self.per_day,
            usable.len(),
            self.numbers.len()
        );
        Some(Chosen { at, local, why })
    }
}

fn alike(a: &str, b: &str) -> usize {
    a.bytes().skip(1).zip(b.bytes().skip(1)).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(per_day: u32, rest_s: u32, local_presence: bool) -> Pool {
        let numbers = ["+12125550100", "+13125550100", "+13125550101"];
        let numbers = numbers.map(|number| number.parse().unwrap()).to_vec();
        Pool { numbers, per_day, rest_s, local_presence }
    }

    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(1_763_863_200 + s).unwrap()
    }

    #[test]
    fn the_number_with_the_fewest_calls_is_shown_and_none_above_its_cap_or_in_its_rest() {
        let wear = |calls, ago: i64| Wear { calls, last: Some(at(-ago)) };
        let chosen =
            |pool: &Pool, wear: &[Wear]| pool.choose(wear, "+14155550123", |_| true, at(0)).map(|one| one.at);
        let worn = [wear(3, 60), wear(2, 60), wear(2, 90)];
        assert_eq!(chosen(&pool(10, 0, false), &worn), Some(2), "rested longest");
        assert_eq!(chosen(&pool(10, 70, false), &worn), Some(2));
        assert_eq!(chosen(&pool(10, 91, false), &worn), None);
        assert_eq!(chosen(&pool(2, 0, false), &worn), None);
        assert_eq!(chosen(&pool(3, 0, false), &[wear(3, 60), wear(3, 60)]), Some(2), "never shown");
    }

    #[test]
    fn a_local_number_comes_first_only_where_that_is_wanted_and_looks_local() {
        let callee = "+13125550199";
        assert_eq!(pool(10, 0, false).choose(&[], callee, |_| true, at(0)).unwrap().at, 0);
        let local = pool(10, 0, true).choose(&[], callee, |_| true, at(0)).unwrap();
        assert!(local.local && local.at == 1, "{local:?}");
        assert!(!local.why.contains("3125550199"));
        let far = pool(10, 0, true).choose(&[], "+14155550123", |_| true, at(0)).unwrap();
        assert!(!far.local, "the same country is not local");
    }

    #[test]
    fn a_pool_without_numbers_or_with_one_twice_is_wrong() {
        let mut wrong = pool(10, 0, false);
        assert_eq!(wrong.wrong(), None);
        wrong.numbers.push("+12125550100".parse().unwrap());
        assert_eq!(wrong.wrong(), Some("each number once"));
        assert!(Pool { numbers: vec![], ..wrong }.wrong().is_some());
    }
}
