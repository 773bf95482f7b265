//! Which customer gets which arm of an experiment.

use std::collections::BTreeMap;

use crate::action::Variables;
use crate::document::{CONTROL, Experiment};
use crate::script::Script;

/// Returns the arm of every experiment of a script for a customer. It follows from the experiment's name and
/// weights and the customer alone, so every box, replica, campaign and later version of the script gives the
/// same one. A customer who is not named by the variable gets `control`.
pub fn assign(script: &Script, variables: &Variables) -> BTreeMap<String, String> {
    let vars = script.with_defaults(variables);
    script
        .document()
        .experiments
        .iter()
        .map(|(name, experiment)| {
            let arm = vars.get(experiment.by.as_str()).and_then(|who| arm(name, experiment, who));
            (name.clone(), arm.unwrap_or(CONTROL).to_owned())
        })
        .collect()
}

/// Spreads customers evenly over the weights: the first 64 bits of a SHA-256 are as good as drawn.
fn arm<'e>(name: &str, experiment: &'e Experiment, who: &str) -> Option<&'e str> {
    let total: u64 = experiment.arms.values().map(|weight| u64::from(*weight)).sum();
    let digest = ring::digest::digest(&ring::digest::SHA256, format!("{name}\n{who}").as_bytes());
    let first = digest.as_ref().first_chunk().map(|bytes| u64::from_be_bytes(*bytes))?;
    // A share of all that there is, without the unevenness of a remainder.
    let point = u64::try_from((u128::from(first) * u128::from(total)) >> 64).ok()?;
    let mut passed = 0;
    experiment.arms.iter().find_map(|(arm, weight)| {
        passed += u64::from(*weight);
        (point < passed).then_some(arm.as_str())
    })
}
