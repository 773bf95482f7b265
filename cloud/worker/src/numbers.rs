//! Tells every box which script answers which number, and repeats it until the box says that it has it.
//!
//! A table is named by the hash of what it says, so a new script version or word list is a new table.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ring::digest;
use trunkline_db::NumberRow;
use trunkline_dialogue::{Script, VariableError};
use trunkline_model::BoxId;
use trunkline_wire::{NumberRoute, NumbersCommand, NumbersReply, ScriptRef, topic};

use crate::broker::envelope;
use crate::dispatch::{Chain, DispatchError, RESEND_AFTER};
use crate::{Publication, Qos, Scripts, Stop, Worker};

/// How often the bindings are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The variable that takes the caller's number, in a script that declares it.
const PHONE: &str = "phone";
/// What a number looks like, to see whether the script's variable takes one.
const SOME_NUMBER: &str = "+8613800138000";

/// What was last sent to a box: its session, the table, and when.
type Sent = BTreeMap<BoxId, (u64, String, Instant)>;

/// Returns what a box is told about a binding.
///
/// # Errors
/// Why calls on it cannot be answered as it stands: its variables do not fit its script.
pub fn route(row: &NumberRow, script: &Script) -> Result<NumberRoute, Vec<VariableError>> {
    let variables = script.check_variables(&row.variables)?;
    let phone = !row.variables.contains_key(PHONE) && {
        let mut with_phone = row.variables.clone();
        with_phone.insert(PHONE.to_owned(), SOME_NUMBER.to_owned());
        script.check_variables(&with_phone).is_ok()
    };
    Ok(NumberRoute {
        binding: row.id.clone(),
        number: row.number.clone(),
        script: ScriptRef { id: script.id().clone(), version: script.version().clone() },
        variables,
        phone: phone.then(|| PHONE.to_owned()),
    })
}

/// Returns the table of one box: a binding that names the box comes before one for all. Bindings that do not fit
/// their scripts are left out.
pub fn table(rows: &[NumberRow], of: &BoxId, scripts: &Scripts, words: Vec<String>) -> NumbersCommand {
    let mut chosen: BTreeMap<Option<&str>, &NumberRow> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.boxes.is_empty() || row.boxes.contains(of)) {
        let number = row.number.as_deref();
        if !row.boxes.is_empty() || !chosen.contains_key(&number) {
            chosen.insert(number, row);
        }
    }
    let usable = |row: &&NumberRow| {
        let script = scripts.current(&row.script_id)?;
        route(row, &script).ok()
    };
    let routes: Vec<NumberRoute> = chosen.values().filter_map(usable).collect();
    if routes.is_empty() {
        return NumbersCommand::default();
    }
    let unnamed = NumbersCommand { table: String::new(), routes, words };
    let text = serde_json::to_string(&unnamed).unwrap_or_default();
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    NumbersCommand { table: hex::encode(&hash.as_ref()[..16]), ..unnamed }
}

pub(crate) async fn run(worker: Arc<Worker>, mut stop: Stop) {
    let mut sent = Sent::new();
    loop {
        if let Err(error) = worker.push_numbers(&mut sent).await {
            tracing::error!(error = %Chain(&error), "Numbers could not be pushed and are tried again");
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = stop.stopped() => return,
        }
    }
}

impl Worker {
    async fn push_numbers(&self, sent: &mut Sent) -> Result<(), DispatchError> {
        let (rows, words) = (self.db.numbers().await?, self.words.current());
        for row in self.db.answering_boxes().await? {
            let Some(has) = row.numbers else { continue };
            let table = table(&rows, &row.id, &self.scripts, words.clone());
            let told = sent.get(&row.id).is_some_and(|(sess, told, at)| {
                (*sess, told) == (row.sess, &table.table) && at.elapsed() < RESEND_AFTER
            });
            if has == table.table || told {
                continue;
            }
            let (name, routes) = (table.table.clone(), table.routes.len());
            self.broker
                .publish(Publication {
                    topic: topic::req_numbers(&row.id),
                    payload: envelope(&row.id, row.sess, "numbers", "", table)?,
                    qos: Qos::AtLeastOnce,
                    expiry: Some(RESEND_AFTER),
                    correlation: None,
                })
                .await?;
            tracing::info!(box.id = %row.id, routes, "A box is told its numbers");
            sent.insert(row.id, (row.sess, name, Instant::now()));
        }
        Ok(())
    }

    pub(crate) async fn numbers_answered(
        &self,
        by: &BoxId,
        reply: &NumbersReply,
    ) -> Result<(), trunkline_db::DbError> {
        tracing::debug!(box.id = %by, "A box has its numbers");
        self.db.box_has_numbers(by, &reply.table).await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use jiff::Timestamp;

    use super::*;

    fn binding(id: &str, number: Option<&str>, boxes: &[&str]) -> NumberRow {
        let variables = [("org", "Riverside"), ("name", "Alex"), ("doctor", "Patel"), ("date", "2026-11-27")];
        let variables = variables.into_iter().chain([("time", "15:00")]);
        NumberRow {
            id: id.to_owned(),
            number: number.map(str::to_owned),
            script_id: "appointment-confirmation-en".parse().unwrap(),
            variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            callback_url: None,
            boxes: boxes.iter().map(|id| id.parse().unwrap()).collect::<BTreeSet<BoxId>>(),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn told(rows: &[NumberRow], of: &str) -> (String, Vec<String>) {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/scripts");
        let table = table(rows, &of.parse().unwrap(), &Scripts::read(&dir).unwrap(), vec!["w".to_owned()]);
        (table.table, table.routes.into_iter().map(|route| route.binding).collect())
    }

    #[test]
    fn a_box_is_told_its_own_bindings_before_those_for_all_and_none_that_cannot_be_used() {
        let mut wrong = binding("wrong", Some("8002"), &[]);
        wrong.variables.clear();
        let rows = [
            binding("all", Some("8001"), &[]),
            binding("own", Some("8001"), &["a"]),
            binding("any", None, &[]),
            binding("other", Some("8003"), &["b"]),
            wrong,
        ];
        let (first, routes) = told(&rows, "a");
        assert_eq!(routes, ["any", "own"]);
        assert_eq!(told(&rows, "b").1, ["any", "all", "other"]);
        assert_ne!(first, told(&rows[2..3], "a").0, "another table has another name");
        assert_eq!(told(&rows[3..], "a"), (String::new(), Vec::new()));
    }
}
