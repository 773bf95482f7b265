//! A campaign through one box against simulated customers, with the cloud killed while it runs.
//!
//! Everybody picks up and hangs up at once, is busy, or declines: these calls measure dialling, leases,
//! records and the gate, not conversations. Who was called is counted by the customers' own telephones.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::stage::Stage;

/// The cloud stays away this long, so that calls under way end without it.
const AWAY: Duration = Duration::from_secs(2);
/// Customers in a row of whom one is busy, and of whom one declines.
const BUSY: usize = 5;
const DECLINES: usize = 7;

/// How large, and how rough.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Customers that are called.
    pub contacts: usize,
    /// How often the cloud is killed, evenly over the run.
    pub kills: usize,
    /// How long it may take.
    pub within: Duration,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// How often each telephone rang, by number; who never rang is not in it.
    pub rang: BTreeMap<String, u32>,
    /// The campaign as the cloud shows it at its end.
    pub campaign: Value,
    /// The customer who opted out before it was her turn.
    pub opted_out: String,
    /// How long it took.
    pub took: Duration,
    /// Times the cloud was killed.
    pub killed: usize,
}

/// The number of a customer: from a range that the stage's laboratory declares.
pub fn number(n: usize) -> String {
    format!("+861380013{n:04}")
}

/// Returns the arguments of the customers' program.
pub fn customers(personas: &Path, size: Size) -> Vec<String> {
    let file = |name: &str| personas.join(format!("{name}.yaml")).display().to_string();
    let mut args = vec!["--persona".to_owned(), file("hang-up-at-once")];
    for n in 0..size.contacts {
        if let Some(name) = other_than_hanging_up(n) {
            args.push("--persona-for".to_owned());
            args.push(format!("{}={}", number(n), file(name)));
        }
    }
    args
}

fn other_than_hanging_up(n: usize) -> Option<&'static str> {
    match n {
        n if n % BUSY == BUSY - 1 => Some("busy"),
        n if n % DECLINES == DECLINES - 1 => Some("declines"),
        _ => None,
    }
}

/// Returns the reasons that a campaign of this size ends with, by contact.
pub fn expected(size: Size) -> BTreeMap<String, u64> {
    let mut reasons = BTreeMap::from([("opted_out".to_owned(), 1)]);
    for n in 0..size.contacts {
        // Without rules for trying again, the cause is the end.
        let reason = match other_than_hanging_up(n) {
            None => "reached",
            Some("busy") => "busy",
            Some(_) => "declined",
        };
        *reasons.entry(reason.to_owned()).or_default() += 1;
    }
    reasons
}

/// Runs a campaign on a stage whose customers were started with [`customers`].
///
/// # Errors
/// Whatever the cloud refuses, or that it took too long.
pub async fn run(stage: &mut Stage, size: Size, mut told: impl FnMut(&str)) -> Result<Report> {
    let opted_out = number(size.contacts);
    let path = prepare(stage, size, &opted_out).await?;
    let begun = Instant::now();
    let mut rang: BTreeMap<String, u32> = BTreeMap::new();
    let (mut killed, mut shown) = (0, 0);
    loop {
        ensure!(
            begun.elapsed() < size.within,
            "only {} of {} were called in time",
            rang.len(),
            size.contacts
        );
        count(stage, &mut rang);
        if rang.len() >= shown + 20 {
            shown = rang.len();
            told(&format!("{shown} of {} telephones have rung", size.contacts));
        }
        if killed < size.kills && rang.len() >= size.contacts * (killed + 1) / (size.kills + 1) {
            killed += 1;
            let cloud = stage.cloud.take().context("no cloud to kill")?;
            cloud.kill();
            told(&format!("the cloud was killed (SIGKILL) after {} telephones", rang.len()));
            tokio::time::sleep(AWAY).await;
            count(stage, &mut rang);
            stage.restart_cloud()?;
            told("the cloud is back");
        }
        if let Ok((200, campaign)) = stage.api.get(&path).await
            && campaign["state"] != "running"
        {
            // Whoever were called once more by mistake would still be ringing.
            tokio::time::sleep(Duration::from_secs(3)).await;
            count(stage, &mut rang);
            return Ok(Report { rang, campaign, opted_out, took: begun.elapsed(), killed });
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Makes the campaign, fills it, lets one customer opt out, and starts it.
async fn prepare(stage: &Stage, size: Size, opted_out: &str) -> Result<String> {
    let day = jiff::Zoned::now().date().checked_add(jiff::Span::new().days(3))?;
    let settings = json!({
        "script_id": "repayment-reminder-zh",
        // The same words for everybody, so that they are rendered once.
        "variables": { "org": "和顺银行", "name": "王芳", "amount": "1280.50", "due_date": day.to_string() },
        "retry": { "by_cause": {}, "max_attempts": 1 },
    });
    let body = json!({ "name": "A campaign on one box", "settings": settings });
    let made = stage.api.expect(201, "/v1/campaigns", &body).await?;
    let path = format!("/v1/campaigns/{}", made["id"].as_str().context("a campaign without an id")?);
    let mut csv = "callee,external_id\n".to_owned();
    for n in 0..=size.contacts {
        csv += &format!("{},customer-{n}\n", number(n));
    }
    let report = stage.api.upload(&format!("{path}/contacts"), csv).await?;
    ensure!(report["imported"] == size.contacts + 1, "the import went wrong: {report}");
    stage.api.expect(201, "/v1/opt-outs", &json!({ "callee": opted_out })).await?;
    stage.api.expect(202, &format!("{path}/start"), &json!({})).await?;
    Ok(path)
}

/// Counts the telephones that rang since the last look.
fn count(stage: &Stage, rang: &mut BTreeMap<String, u32>) {
    for line in stage.callee.iter().flat_map(|callee| callee.take_lines()) {
        let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
        if let (Some("ringing"), Some(number)) = (event["event"].as_str(), event["number"].as_str()) {
            *rang.entry(number.to_owned()).or_default() += 1;
        }
    }
}

impl Report {
    /// Says what does not hold; `Ok` when everybody was called once and the one who opted out was not.
    ///
    /// # Errors
    /// The first promise that was broken.
    pub fn check(&self, size: Size) -> Result<()> {
        if let Some((number, times)) = self.rang.iter().find(|(_, times)| **times > 1) {
            bail!("the telephone that ends with {} rang {times} times", &number[number.len() - 4..]);
        }
        ensure!(!self.rang.contains_key(&self.opted_out), "the customer who opted out was called");
        ensure!(self.rang.len() == size.contacts, "{} of {} telephones rang", self.rang.len(), size.contacts);
        ensure!(self.campaign["state"] == "finished", "the campaign is not finished: {}", self.campaign);
        let reasons: BTreeMap<String, u64> = serde_json::from_value(self.campaign["reasons"].clone())?;
        ensure!(reasons == expected(size), "the contacts ended with {reasons:?}, not {:?}", expected(size));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(contacts: usize) -> (Size, Report) {
        let size = Size { contacts, kills: 0, within: Duration::from_secs(1) };
        let rang = (0..contacts).map(|n| (number(n), 1)).collect();
        let campaign = json!({ "state": "finished", "reasons": expected(size) });
        let report = Report { rang, campaign, opted_out: number(contacts), took: Duration::ZERO, killed: 0 };
        (size, report)
    }

    #[test]
    fn a_second_ring_a_missing_one_and_a_call_to_who_opted_out_are_found() {
        let (size, good) = report(12);
        good.check(size).unwrap();
        let mut twice = good.clone();
        twice.rang.insert(number(3), 2);
        assert!(twice.check(size).unwrap_err().to_string().contains("0003 rang 2 times"));
        let mut missing = good.clone();
        missing.rang.remove(&number(3));
        assert!(missing.check(size).is_err());
        let mut unwanted = good;
        unwanted.rang.insert(number(12), 1);
        assert!(unwanted.check(size).unwrap_err().to_string().contains("opted out"));
    }
}
