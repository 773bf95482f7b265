//! `trunkctl rollout`: a release on its way into the fleet, by way of the cloud.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use trunkctl::api::Api;
use trunkctl::fleet::describe;

use crate::boxes::{Cloud, block_on};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Begins with the first wave of a published release.
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

/// Prints each state that differs from the one before; with `--json` a line each.
async fn watch(cloud: &Cloud, id: &str) -> Result<()> {
    let (api, mut last) = (cloud.connect()?, String::new());
    loop {
        let shown = Api::granted(api.get(&format!("/v1/rollouts/{id}")).await?)?;
        let page = describe::rollout(&shown);
        if page != last {
            cloud.show(&shown, |_| page.clone());
            last = page;
        }
        match shown["state"]["phase"].as_str() {
            Some("finished") => return Ok(()),
            Some("running") => tokio::time::sleep(Duration::from_secs(1)).await,
            _ => bail!("{}", describe::headline(&shown)),
        }
    }
}
