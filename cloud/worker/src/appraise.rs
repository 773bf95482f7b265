//! Looks at every finished call: what was wrong with it, and what it shows about the experiments of its script.
//!
//! A record waits in a queue of the database until it was looked at, so that a cloud that is killed looks at it
//! after its next start, and each call counts once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rand::SeedableRng;
use rand::rngs::StdRng;
use ring::digest;
use tokio::sync::broadcast::error::RecvError;
use trunkline_db::{Db, DbError, ExperimentResult};
use trunkline_dialogue::document::{CONTROL, Experiment, Policy};
use trunkline_dialogue::{Script, assign};
use trunkline_experiment::{Guard, Thompson, Verdict};
use trunkline_model::ScriptId;
use trunkline_quality::{Rules, chosen, inspect};
use trunkline_wire::CallRecord;

use crate::dispatch::Chain;
use crate::{Stop, Worker};

const BATCH: u32 = 50;
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The share of harmless arms that the guard may stop by mistake.
const ALPHA: f64 = 0.05;
/// The share of customers that an adaptive experiment spreads evenly, so that the guard still sees `control`.
const FLOOR: f64 = 0.1;

/// What the experiments of all scripts have shown so far, as far as it was needed.
#[derive(Debug, Default)]
pub struct Experiments {
    known: Mutex<BTreeMap<ScriptId, Shown>>,
}

/// What the experiments of one script have shown.
#[derive(Debug, Default)]
struct Shown {
    /// The last result that is part of it.
    upto: u64,
    learned: BTreeMap<String, Thompson>,
    guards: BTreeMap<(String, String), Guard>,
}

impl Shown {
    fn learn(&mut self, script: &Script, result: &ExperimentResult) {
        let Some(experiment) = script.document().experiments.get(&result.experiment) else { return };
        self.learned
            .entry(result.experiment.clone())
            .or_insert_with(|| unlearned(experiment))
            .learn(&result.arm, result.success);
        let Some(guard) = &experiment.guard else { return };
        for arm in experiment.arms.keys().filter(|arm| *arm != CONTROL) {
            let watched = self
                .guards
                .entry((result.experiment.clone(), arm.clone()))
                .or_insert_with(|| Guard::new(f64::from(guard.max_rise), ALPHA));
            if result.arm == *arm {
                watched.arm(result.harmed);
            } else if result.arm == CONTROL {
                watched.control(result.harmed);
            }
        }
    }

    /// Returns the arms that their guards would stop, with the pairs of calls that show it.
    fn harmful(&self) -> Vec<(String, String, u64)> {
        let stopped = self.guards.iter().filter(|(_, guard)| guard.verdict() == Verdict::Stop);
        stopped.map(|((experiment, arm), guard)| (experiment.clone(), arm.clone(), guard.pairs())).collect()
    }
}

impl Experiments {
    /// Learns what is new, and returns what `look` makes of all of it.
    async fn update<T>(
        &self,
        db: &Db,
        script: &Script,
        look: impl FnOnce(&Shown) -> T,
    ) -> Result<T, DbError> {
        let upto = self.lock().get(script.id()).map_or(0, |shown| shown.upto);
        let news = db.experiment_results(script.id(), upto).await?;
        let mut known = self.lock();
        let shown = known.entry(script.id().clone()).or_default();
        for (n, result) in news {
            // Somebody else may have read the same lines meanwhile; each counts once.
            if n > shown.upto {
                shown.learn(script, &result);
                shown.upto = n;
            }
        }
        Ok(look(shown))
    }

    /// Returns the arms that differ from those that the script gives by itself: drawn ones, and `control` for a
    /// customer whose arm was stopped.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn arms(
        &self,
        db: &Db,
        script: &Script,
        variables: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<BTreeMap<String, String>, DbError> {
        let experiments = &script.document().experiments;
        if experiments.is_empty() {
            return Ok(BTreeMap::new());
        }
        let drawn = self.update(db, script, |shown| drawn(shown, script)).await?;
        let stopped = db.stopped_arms(script.id()).await?;
        let stopped: BTreeSet<(&str, &str)> =
            stopped.iter().map(|one| (one.experiment.as_str(), one.arm.as_str())).collect();
        let own = assign(script, variables);
        let mut arms = BTreeMap::new();
        for (name, experiment) in experiments {
            let given = own.get(name).map_or(CONTROL, String::as_str);
            let mut arm = given.to_owned();
            if experiment.policy == Policy::Adaptive
                && let Some(who) = variables.get(experiment.by.as_str())
            {
                let drawn = drawn.get(name).map_or(given, String::as_str);
                arm = db.sticky_arm(script.id(), name, &fingerprint(name, who), drawn, now).await?;
            }
            if stopped.contains(&(name.as_str(), arm.as_str())) {
                arm = CONTROL.to_owned();
            }
            if arm != given {
                arms.insert(name.clone(), arm);
            }
        }
        Ok(arms)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ScriptId, Shown>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Draws an arm of each adaptive experiment.
fn drawn(shown: &Shown, script: &Script) -> BTreeMap<String, String> {
    let mut rng = StdRng::from_os_rng();
    let adaptive = script.document().experiments.iter().filter(|(_, one)| one.policy == Policy::Adaptive);
    adaptive
        .filter_map(|(name, experiment)| {
            let arm = match shown.learned.get(name) {
                Some(thompson) => thompson.draw(&mut rng)?.to_owned(),
                None => unlearned(experiment).draw(&mut rng)?.to_owned(),
            };
            Some((name.clone(), arm))
        })
        .collect()
}

fn unlearned(experiment: &Experiment) -> Thompson {
    Thompson::new(experiment.arms.keys().map(String::as_str), FLOOR)
}

/// A customer by a hash: who is part of an experiment must not be readable from it.
fn fingerprint(experiment: &str, who: &str) -> String {
    let digest = digest::digest(&digest::SHA256, format!("{experiment}\n{who}").as_bytes());
    hex::encode(digest)
}

/// Returns what a call shows about the experiments of its script. Only answered calls with an outcome count.
fn results(record: &CallRecord, script: &Script) -> Vec<ExperimentResult> {
    let Some(outcome) = record.outcome.as_ref().filter(|_| record.answered.is_some()) else {
        return Vec::new();
    };
    let experiments = &script.document().experiments;
    let result = |(name, arm): (&String, &String)| {
        let experiment = experiments.get(name)?;
        let harm = experiment.guard.as_ref().map(|guard| guard.outcome.as_str());
        Some(ExperimentResult {
            experiment: name.clone(),
            arm: arm.clone(),
            success: outcome.code == experiment.metric.as_str(),
            harmed: harm == Some(outcome.code.as_str()) || (harm == Some("opt_out") && record.suppress),
        })
    };
    record.arms.iter().filter_map(result).collect()
}

pub(crate) async fn run(worker: Arc<Worker>, mut stop: Stop) {
    let mut changes = worker.hub.listen();
    loop {
        match worker.appraise().await {
            Ok(0) => {}
            Ok(_) => continue,
            Err(error) => tracing::error!(error = %Chain(&error), "Finished calls could not be looked at"),
        }
        tokio::select! {
            changed = changes.recv() => {
                if matches!(changed, Err(RecvError::Closed)) {
                    return;
                }
                // Calls end together; one look is enough for all.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = stop.stopped() => return,
        }
    }
}

impl Worker {
    /// Looks at some calls; returns how many.
    async fn appraise(&self) -> Result<usize, DbError> {
        let due = self.db.unappraised(BATCH).await?;
        let count = due.len();
        for record in due {
            let now = Timestamp::now();
            let record = match record {
                Ok(record) => record,
                Err(call) => {
                    tracing::error!(call.id = %call, "A record cannot be read any more and is not inspected");
                    self.db.pass_over(call).await?;
                    continue;
                }
            };
            let script = match self.scripts.version(&record.script.version, &self.db, &self.engine).await {
                Ok(Some(script)) => script,
                Ok(None) | Err(_) => {
                    let unknown =
                        serde_json::json!({ "score": null, "remarks": [], "why": "its script is not known" });
                    self.db.keep_appraisal(&record, &unknown, true, &[], now).await?;
                    continue;
                }
            };
            let found = inspect(&record, &script, &Rules::default());
            let listen = record.answered.is_some() && chosen(record.call, &found, self.config.listen_share);
            let results = results(&record, &script);
            let inspection = serde_json::to_value(&found).unwrap_or_default();
            self.db.keep_appraisal(&record, &inspection, listen, &results, now).await?;
            if !results.is_empty() {
                self.watch(&script, now).await?;
            }
        }
        Ok(count)
    }

    /// Stops the arms whose guards say so.
    async fn watch(&self, script: &Script, now: Timestamp) -> Result<(), DbError> {
        for (experiment, arm, pairs) in self.experiments.update(&self.db, script, Shown::harmful).await? {
            let why = format!("after {pairs} pairs of calls it harms more than the guard allows");
            if self.db.stop_arm(script.id(), &experiment, &arm, &why, now).await? {
                tracing::error!(script = %script.id(), experiment, arm, why, "An arm of an experiment was stopped");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use trunkline_model::CallId;

    use super::*;

    const SCRIPT: &str = include_str!("../../../shared/dialogue/tests/data/rich-en.yaml");

    fn record(n: u128, script: &Script, arm: (&str, &str), outcome: &str) -> CallRecord {
        serde_json::from_value(json!({
            "call": CallId::from_u128(n), "script": { "id": script.id(), "version": script.version() },
            "started": "2026-11-22T10:00:00Z", "answered": "2026-11-22T10:00:05Z",
            "ended": "2026-11-22T10:00:35Z", "disposition": "completed",
            "outcome": { "code": outcome, "label": "" }, "arms": { arm.0: arm.1 }, "turns": [],
        }))
        .unwrap()
    }

    /// The first experiment of the script, an arm that is not `control`, and the outcomes that count.
    fn experiment(script: &Script) -> (String, String, String, String) {
        let (name, experiment) = script.document().experiments.iter().next().unwrap();
        let arm = experiment.arms.keys().find(|arm| *arm != CONTROL).unwrap();
        let harm = experiment.guard.as_ref().unwrap().outcome.to_string();
        (name.clone(), arm.clone(), experiment.metric.to_string(), harm)
    }

    #[test]
    fn a_call_counts_for_the_arm_that_it_had_and_only_when_it_was_answered() {
        let script = Script::load(SCRIPT).unwrap();
        let (name, arm, metric, harm) = experiment(&script);
        let good = results(&record(1, &script, (&name, &arm), &metric), &script);
        assert_eq!((good.len(), good[0].success, good[0].harmed), (1, true, false));
        let bad = results(&record(2, &script, (&name, &arm), &harm), &script);
        assert_eq!((bad[0].success, bad[0].harmed, bad[0].arm.as_str()), (false, true, arm.as_str()));
        let unanswered = CallRecord { answered: None, ..record(3, &script, (&name, &arm), &metric) };
        assert!(results(&unanswered, &script).is_empty());
        assert!(results(&record(4, &script, ("no such experiment", "b"), &metric), &script).is_empty());
    }

    #[tokio::test]
    async fn a_harmful_arm_is_stopped_after_a_restart_too_and_its_customers_get_control() {
        let script = Script::load(SCRIPT).unwrap();
        let (name, arm, metric, harm) = experiment(&script);
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("db")).await.unwrap();
        let now = Timestamp::now();
        let mut stopped_at = None;
        for n in 0..400 {
            let (mine, outcome) = if n % 2 == 0 { (CONTROL, &metric) } else { (arm.as_str(), &harm) };
            let record = record(n, &script, (&name, mine), outcome);
            let found = results(&record, &script);
            db.keep_appraisal(&record, &json!({}), false, &found, now).await.unwrap();
            // A fresh memory each time, as after a restart.
            let harmful = Experiments::default().update(&db, &script, Shown::harmful).await.unwrap();
            if !harmful.is_empty() {
                stopped_at = Some(n);
                break;
            }
        }
        assert!(stopped_at.is_some_and(|n| n < 100), "{stopped_at:?}");

        let by = script.document().experiments[&name].by.to_string();
        let customer = |who: usize| {
            let mut variables = script.example_variables();
            variables.insert(by.clone(), who.to_string());
            variables
        };
        let experiments = Experiments::default();
        let has_arm = |arms: &BTreeMap<String, String>, who: usize| {
            arms.get(&name).cloned().unwrap_or_else(|| assign(&script, &customer(who))[&name].clone())
        };
        let mut before = Vec::new();
        for who in 0..30 {
            let arms = experiments.arms(&db, &script, &customer(who), now).await.unwrap();
            before.push(has_arm(&arms, who));
        }
        assert!(before.contains(&arm), "{before:?}");
        assert!(db.stop_arm(script.id(), &name, &arm, "too many opt-outs", now).await.unwrap());
        assert!(!db.stop_arm(script.id(), &name, &arm, "again", now).await.unwrap());
        for (who, before) in before.iter().enumerate() {
            let arms = experiments.arms(&db, &script, &customer(who), now).await.unwrap();
            let expected = if *before == arm { CONTROL } else { before };
            assert_eq!(has_arm(&arms, who), expected, "who had another arm keeps it");
        }
    }
}
