//! `trunkctl box drain | undrain | restart | reboot | logs | diag`: orders to one box, and what came of them.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use ring::digest;
use serde_json::{Value, json};
use trunkctl::api::Api;
use trunkctl::fleet::describe;

use crate::boxes::Cloud;
use crate::progress::{Progress, Unit};

/// The order came too late for the box.
const EXPIRED: u8 = 3;
/// Nobody knows yet what comes of it.
const STILL_OPEN: u8 = 4;
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// An order that was begun in time may go on for so long: models are loaded, a machine starts.
const BEGUN: Duration = Duration::from_secs(600);
const TRIES: u32 = 5;

const CODES: &str = "Exits with 0 when it is done, 1 when it failed or was refused, 3 when the box did not take it in time, \
                     and 4 when it was still open at the end of the wait.";

/// Orders to one box.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Lets a box take no new calls; those under way go on.
    ///
    /// Until `undrain`, or for a time; it outlives restarts of the box. Done when the box has confirmed it.
    #[command(after_help = format!("Examples:\n  trunkctl box drain tl-7q2k --for 2h\n  trunkctl box drain tl-7q2k\n\n{CODES}"))]
    Drain {
        #[command(flatten)]
        order: Order,
        /// Take calls again after this time, such as 2h.
        #[arg(long = "for", value_name = "TIME", value_parser = time, conflicts_with = "until")]
        lasts: Option<SignedDuration>,
        /// Take calls again at this instant, such as 2026-11-23T18:00:00Z.
        #[arg(long, value_name = "INSTANT")]
        until: Option<Timestamp>,
    },
    /// Lets a box take calls again.
    #[command(after_help = format!("Examples:\n  trunkctl box undrain tl-7q2k\n\n{CODES}"))]
    Undrain {
        #[command(flatten)]
        order: Order,
    },
    /// Starts a box's program for calls anew, once its calls are over.
    #[command(after_help = format!("Examples:\n  trunkctl box restart tl-7q2k\n  trunkctl box restart tl-7q2k --now\n\n{CODES}"))]
    Restart {
        #[command(flatten)]
        order: Order,
        /// End calls under way politely instead of waiting for them.
        #[arg(long)]
        now: bool,
    },
    /// Starts a box's machine anew, once its calls are over. Done when it is back.
    #[command(after_help = format!("Examples:\n  trunkctl box reboot tl-7q2k --within 1h\n\n{CODES}"))]
    Reboot {
        #[command(flatten)]
        order: Order,
        /// End calls under way instead of waiting for them.
        #[arg(long)]
        now: bool,
    },
    /// Prints a box's last log lines; what could be a name, a number, speech or a secret was hidden on the box.
    #[command(after_help = format!("Examples:\n  trunkctl box logs tl-7q2k\n  trunkctl box logs tl-7q2k --lines 1000 --since 1h --out box.log\n\n{CODES}"))]
    Logs {
        #[command(flatten)]
        order: Order,
        /// At most so many, 1 to 5000.
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5_000))]
        lines: u32,
        /// None older than this, such as 1h.
        #[arg(long, value_name = "TIME", value_parser = time)]
        since: Option<SignedDuration>,
        /// Write them into a file.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Fetches what a box knows of itself: versions, settings, health, sizes, logs; no names, numbers or secrets.
    ///
    /// A tar archive compressed by gzip, 4 MiB at most. On the box: `trunkline-edge diag`.
    #[command(after_help = format!("Examples:\n  trunkctl box diag tl-7q2k --out tl-7q2k.tar.gz\n\n{CODES}"))]
    Diag {
        #[command(flatten)]
        order: Order,
        /// The file.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Fetches the file of an order again; it is kept for 72 hours. What was fetched before is not fetched again.
    #[command(after_help = "Examples:\n  trunkctl box fetch tl-7q2k 019a3f20-… --out tl-7q2k.tar.gz")]
    Fetch {
        #[command(flatten)]
        cloud: Cloud,
        /// The box.
        id: String,
        /// The order.
        order: String,
        /// The file.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Lists a box's last orders.
    Orders {
        #[command(flatten)]
        cloud: Cloud,
        /// The box.
        id: String,
    },
}

/// To whom, and how it is waited for.
#[derive(Args)]
pub(crate) struct Order {
    #[command(flatten)]
    cloud: Cloud,
    /// The box.
    id: String,
    /// A box that has not begun it by then never will: 30s to 24h.
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = time)]
    within: SignedDuration,
    /// Only give the order.
    #[arg(long)]
    no_wait: bool,
}

fn time(text: &str) -> Result<SignedDuration, String> {
    let time: SignedDuration =
        text.parse().map_err(|_| "write a time such as 90s, 15m or 2h30m".to_owned())?;
    if time.is_positive() { Ok(time) } else { Err("a time from now on, longer than nothing".to_owned()) }
}

pub(crate) async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Drain { order, lasts, until } => {
            let until = until.or(lasts.map(|lasts| Timestamp::now() + lasts));
            order.give(json!({ "kind": "drain", "until": until }), None).await
        }
        Command::Undrain { order } => order.give(json!({ "kind": "undrain" }), None).await,
        Command::Restart { order, now } => order.give(json!({ "kind": "restart", "now": now }), None).await,
        Command::Reboot { order, now } => order.give(json!({ "kind": "reboot", "now": now }), None).await,
        Command::Logs { order, lines, since, out } => {
            let since = since.map(|since| Timestamp::now() - since);
            let wanted = json!({ "kind": "logs", "lines": lines, "since": since });
            order.give(wanted, Some(out.as_deref())).await
        }
        Command::Diag { order, out } => order.give(json!({ "kind": "diag" }), Some(Some(&out))).await,
        Command::Fetch { cloud, id, order, out } => {
            let (api, path) = (cloud.connect()?, format!("/v1/boxes/{id}/orders/{order}"));
            let shown = Api::granted(api.get(&path).await?)?;
            fetch(&api, &path, &shown, &out, cloud.json).await?;
            if cloud.json {
                println!("{shown}");
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Orders { cloud, id } => {
            let listed = Api::granted(cloud.connect()?.get(&format!("/v1/boxes/{id}/orders")).await?)?;
            cloud.show_each(&listed["orders"], |order| describe::order(order) + "\n");
            Ok(ExitCode::SUCCESS)
        }
    }
}

impl Order {
    /// Gives the order and waits for its end; `file` is where its file goes, `Some(None)` is the terminal.
    async fn give(&self, mut wanted: Value, file: Option<Option<&Path>>) -> Result<ExitCode> {
        let api = self.cloud.connect()?;
        wanted["within_s"] = self.within.as_secs().into();
        let all = format!("/v1/boxes/{}/orders", self.id);
        let given = Api::granted(api.post(&all, &wanted).await?)?;
        let path = format!("{all}/{}", given["id"].as_str().context("an order without an id")?);
        let order = if self.no_wait { given } else { self.wait(&api, &path, given).await? };
        let done = order["state"] == "done";
        if let (true, Some(file)) = (done, file) {
            match file {
                Some(out) => fetch(&api, &path, &order, out, self.cloud.json).await?,
                None => {
                    let text = whole(&api, &path, &order, Vec::new()).await?;
                    std::io::stdout().write_all(&text)?;
                }
            }
        }
        if self.cloud.json {
            // The lines themselves are what was asked for.
            if file != Some(None) {
                println!("{order}");
            }
        } else {
            eprintln!("{}", describe::order(&order));
        }
        Ok(match order["state"].as_str() {
            Some("done") => ExitCode::SUCCESS,
            Some("failed") => ExitCode::FAILURE,
            Some("expired") => ExitCode::from(EXPIRED),
            _ if self.no_wait => ExitCode::SUCCESS,
            _ => ExitCode::from(STILL_OPEN),
        })
    }

    /// Looks until the order is over; tells what changes meanwhile.
    async fn wait(&self, api: &Api, path: &str, given: Value) -> Result<Value> {
        let within = Duration::try_from(self.within).unwrap_or_default();
        let deadline = Instant::now() + within + BEGUN;
        let (mut order, mut told) = (given, String::new());
        loop {
            let state = order["state"].as_str().unwrap_or_default();
            if matches!(state, "done" | "failed") || (state == "expired" && Instant::now() > deadline - BEGUN)
            {
                return Ok(order);
            }
            let now = describe::order_waits(&order);
            if now != told && !self.cloud.json {
                eprintln!("{now}");
            }
            told = now;
            if Instant::now() > deadline {
                return Ok(order);
            }
            tokio::time::sleep(LOOK_EVERY).await;
            // A cloud that starts anew keeps its orders.
            if let Ok((200, shown)) = api.get(path).await {
                order = shown;
            }
        }
    }
}

/// Fetches the file of an order; goes on with what an earlier try has left beside it.
async fn fetch(api: &Api, path: &str, order: &Value, out: &Path, quiet: bool) -> Result<()> {
    let mut part = out.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let before = fs::read(&part).unwrap_or_default();
    let resumed = !before.is_empty();
    let total = order["file"]["bytes"].as_u64().unwrap_or_default();
    let mut progress = Progress::new("fetching", Unit::Bytes, total, quiet);
    let keep =
        |bytes: &[u8]| fs::write(&part, bytes).with_context(|| format!("cannot write {}", part.display()));
    let mut kept = |bytes: &[u8]| {
        progress.set(bytes.len() as u64, "");
        keep(bytes)
    };
    let fetched = match whole_kept(api, path, order, before, &mut kept).await {
        // What lay there was of another file.
        Err(_) if resumed => whole_kept(api, path, order, Vec::new(), &mut kept).await?,
        fetched => fetched?,
    };
    keep(&fetched)?;
    drop(progress);
    fs::rename(&part, out).with_context(|| format!("cannot write {}", out.display()))?;
    eprintln!("{}  {} bytes, hash checked", out.display(), fetched.len());
    Ok(())
}

async fn whole(api: &Api, path: &str, order: &Value, before: Vec<u8>) -> Result<Vec<u8>> {
    whole_kept(api, path, order, before, &mut |_| Ok(())).await
}

/// Fetches part by part, shows each state to `kept`, and checks length and hash.
async fn whole_kept(
    api: &Api,
    path: &str,
    order: &Value,
    before: Vec<u8>,
    kept: &mut impl FnMut(&[u8]) -> Result<()>,
) -> Result<Vec<u8>> {
    let file = &order["file"];
    let (Some(length), Some(sha256)) = (file["bytes"].as_u64(), file["sha256"].as_str()) else {
        bail!("the box has sent no file for this order, or its 72 hours are over");
    };
    let (mut bytes, mut failures) = (before, 0);
    while (bytes.len() as u64) < length {
        match api.part(&format!("{path}/file"), bytes.len() as u64).await {
            Ok(part) if part.is_empty() => bail!("the cloud sends nothing more of the file"),
            Ok(part) => {
                bytes.extend(part);
                kept(&bytes)?;
            }
            Err(error) if failures + 1 < TRIES => {
                failures += 1;
                eprintln!("{error:#}; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) => return Err(error),
        }
    }
    let found = hex::encode(digest::digest(&digest::SHA256, &bytes));
    if bytes.len() as u64 != length || found != sha256 {
        bail!("what came is not what the box has sent: its hash is {found} and should be {sha256}");
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_people_say_them() {
        assert_eq!(time("2h30m"), Ok(SignedDuration::from_mins(150)));
        assert_eq!(time("90s"), Ok(SignedDuration::from_secs(90)));
        assert!(time("0s").is_err() && time("-5m").is_err() && time("soon").is_err());
    }
}
