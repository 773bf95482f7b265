//! How the rate of abandoned calls is counted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A formula for the rate of abandoned calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Formula {
    /// Abandoned calls among all calls that a person answered (16 CFR 310.4(b)(4)(i)).
    Tsr,
    /// Abandoned calls, with those wrongly taken for a machine, among themselves and the calls that
    /// were passed to an agent (Ofcom, persistent misuse statement of 2016, annex on the calculation).
    Ofcom,
}

/// What happened in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Calls that a person answered.
    pub answered_live: u64,
    /// Of these, passed to an agent, or to the robot within the time allowed.
    pub connected: u64,
    /// Of these, abandoned: nobody spoke to the callee within two seconds of the greeting.
    pub abandoned: u64,
    /// Live calls that were hung up because they were taken for a machine.
    pub false_machines: u64,
}

impl Tally {
    /// Returns the rate, 0 to 1; 0 where nothing happened.
    pub fn rate(&self, formula: Formula) -> f64 {
        let (of, among) = match formula {
            Formula::Tsr => (self.abandoned, self.answered_live),
            Formula::Ofcom => {
                let bad = self.abandoned + self.false_machines;
                (bad, bad + self.connected)
            }
        };
        if among == 0 { 0.0 } else { of as f64 / among as f64 }
    }

    /// Adds what happened in another window.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            answered_live: self.answered_live + other.answered_live,
            connected: self.connected + other.connected,
            abandoned: self.abandoned + other.abandoned,
            false_machines: self.false_machines + other.false_machines,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_of_a_hundred_are_three_per_cent_by_both_formulas_without_machines() {
        let tally = Tally { answered_live: 100, connected: 97, abandoned: 3, false_machines: 0 };
        assert_eq!((tally.rate(Formula::Tsr), tally.rate(Formula::Ofcom)), (0.03, 0.03));
    }

    #[test]
    fn ofcom_counts_people_who_were_taken_for_machines_and_leaves_out_who_hung_up_first() {
        let tally = Tally { answered_live: 100, connected: 90, abandoned: 3, false_machines: 2 };
        assert_eq!(tally.rate(Formula::Tsr), 0.03);
        assert!((tally.rate(Formula::Ofcom) - 5.0 / 95.0).abs() < 1e-12);
    }

    #[test]
    fn nothing_is_no_rate() {
        assert_eq!(Tally::default().rate(Formula::Ofcom), 0.0);
    }
}
