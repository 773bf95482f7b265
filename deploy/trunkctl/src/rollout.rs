//! `trunkctl rollout`: a release on its way into the fleet, by way of the cloud.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use trunkctl::api::Api;
use trunkctl::fleet::describe;
use trunkline_model::DayHours;

use crate::boxes::{Cloud, block_on};
use crate::progress::{Progress, Unit};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Begins with the first wave of a published release.
    #[command(
        after_help = "Examples:\n  trunkctl rollout start --release app-1.4.2.json\n  trunkctl rollout start --release app-1.4.2.json --hours 22:00-05:00 --site-rate 512\n\nExits with 0 when it has begun, 1 when it was refused, 2 when it was misused."
    )]
    Start(StartOptions),
    /// Follows a rollout until it has ended or was paused; exits with 1 when it was paused or stopped.
    Watch {
        #[command(flatten)]
        cloud: Cloud,
        /// The rollout.
        id: String,
    },
    /// Shows a rollout, and for each box why it is not updated.
    Show {
        #[command(flatten)]
        cloud: Cloud,
        /// The rollout; without it, all of them in short.
        id: Option<String>,
    },
    /// Lets nothing new begin.
    Pause {
        #[command(flatten)]
        cloud: Cloud,
        /// The rollout.
        id: String,
        /// Why, for the others.
        #[arg(long)]
        why: String,
    },
    /// Goes on after a pause; what went wrong so far no longer counts.
    Resume {
        #[command(flatten)]
        cloud: Cloud,
        /// The rollout.
        id: String,
    },
    /// Ends it where it is.
    Stop {
        #[command(flatten)]
        cloud: Cloud,
        /// The rollout.
        id: String,
    },
}

#[derive(Args)]
pub(crate) struct StartOptions {
    #[command(flatten)]
    cloud: Cloud,
    /// The release, such as `app-1.4.2.json`.
    #[arg(long)]
    release: String,
    /// Only these boxes; without it, every enrolled one.
    #[arg(long = "box", value_name = "ID")]
    boxes: Vec<String>,
    /// How many percent of the boxes have the version at the end of each wave, such as 1,10,100.
    #[arg(long, value_delimiter = ',')]
    percents: Vec<u8>,
    /// How long a wave lasts at least, such as PT24H or 2h.
    #[arg(long)]
    soak: Option<jiff::SignedDuration>,
    /// Boxes switch in these hours of their local day only, such as 22:00-05:00; a branch may have its own besides.
    #[arg(long, value_name = "HH:MM-HH:MM")]
    hours: Option<DayHours>,
    /// From this instant on no hours are waited for; calls still end first.
    #[arg(long, value_name = "INSTANT")]
    deadline: Option<jiff::Timestamp>,
    /// The most that one box fetches, in KiB per second.
    #[arg(long, value_name = "KIB")]
    box_rate: Option<u64>,
    /// The most that all boxes of one branch fetch together, in KiB per second.
    #[arg(long, value_name = "KIB")]
    site_rate: Option<u64>,
    /// Two waves and a short look, for what cannot wait.
    #[arg(long)]
    emergency: bool,
}

pub(crate) fn run(command: Command) -> Result<()> {
    block_on(async {
        match command {
            Command::Start(options) => start(options).await,
            Command::Watch { cloud, id } => watch(&cloud, &id).await,
            Command::Show { cloud, id: Some(id) } => {
                let shown = Api::granted(cloud.connect()?.get(&format!("/v1/rollouts/{id}")).await?)?;
                cloud.show(&shown, describe::rollout);
                Ok(())
            }
            Command::Show { cloud, id: None } => {
                let shown = Api::granted(cloud.connect()?.get("/v1/rollouts").await?)?;
                cloud.show_each(&shown["rollouts"], |one| describe::headline(one) + "\n");
                Ok(())
            }
            Command::Pause { cloud, id, why } => tell(&cloud, &id, "pause", &json!({ "why": why })).await,
            Command::Resume { cloud, id } => tell(&cloud, &id, "resume", &Value::Null).await,
            Command::Stop { cloud, id } => tell(&cloud, &id, "stop", &Value::Null).await,
        }
    })
}

async fn start(options: StartOptions) -> Result<()> {
    let mut profile = Map::new();
    if !options.percents.is_empty() {
        profile.insert("percents".into(), json!(options.percents));
    }
    if let Some(soak) = options.soak {
        profile.insert("soak".into(), json!(soak));
    }
    let limits = [
        ("hours", options.hours.map(|hours| json!(hours))),
        ("deadline", options.deadline.map(|deadline| json!(deadline))),
        ("box_kib_per_s", options.box_rate.map(|rate| json!(rate))),
        ("site_kib_per_s", options.site_rate.map(|rate| json!(rate))),
    ];
    profile.extend(limits.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    let mut body = json!({ "release": options.release, "emergency": options.emergency, "profile": profile });
    if !options.boxes.is_empty() {
        body["boxes"] = json!(options.boxes);
    }
    let rollout = Api::granted(options.cloud.connect()?.post("/v1/rollouts", &body).await?)?;
    options.cloud.show(&rollout, describe::rollout);
    Ok(())
}

async fn tell(cloud: &Cloud, id: &str, command: &str, body: &Value) -> Result<()> {
    let path = format!("/v1/rollouts/{id}/{command}");
    let rollout = Api::granted(cloud.connect()?.post(&path, body).await?)?;
    cloud.show(&rollout, describe::rollout);
    Ok(())
}

/// Prints what changes: the headline, and a line for each box that goes on; with `--json` each state in a line.
async fn watch(cloud: &Cloud, id: &str) -> Result<()> {
    let (api, path) = (cloud.connect()?, format!("/v1/rollouts/{id}"));
    let mut shown = Api::granted(api.get(&path).await?)?;
    let all = shown["boxes"].as_array().map_or(0, Vec::len) as u64;
    let mut progress = Progress::new("rollout", Unit::Boxes, all, cloud.json);
    let mut told = Vec::new();
    loop {
        let said = describe::steps(&shown);
        if cloud.json {
            if said != told {
                println!("{shown}");
            }
        } else {
            let (done, note) = describe::so_far(&shown);
            progress.set(done, &note);
            said.iter().filter(|step| !told.contains(*step)).for_each(|step| progress.print(&step.line));
        }
        told = said;
        match shown["state"]["phase"].as_str() {
            Some("finished") => return Ok(()),
            Some("running") => tokio::time::sleep(Duration::from_secs(1)).await,
            _ => bail!("{}", describe::headline(&shown)),
        }
        shown = Api::granted(api.get(&path).await?)?;
    }
}
