//! `trunkctl box`: who joins the fleet, what each box should be, how it is, and orders to it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use trunkctl::api::Api;
use trunkctl::fleet::describe;

use crate::orders;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Lists every box with its versions and what is not as it should be.
    List {
        #[command(flatten)]
        cloud: Cloud,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows one box: enrolment, differences, updates, log.
    Show {
        #[command(flatten)]
        cloud: Cloud,
        /// The box.
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Claims the box whose label has this code.
    Claim {
        #[command(flatten)]
        cloud: Cloud,
        /// The code on the label.
        code: String,
        /// The branch that the box is for.
        #[arg(long)]
        branch: String,
    },
    /// Approves what somebody else has claimed; the box then gets its certificate.
    Approve {
        #[command(flatten)]
        cloud: Cloud,
        /// The box.
        id: String,
    },
    /// Takes a box's certificates away; it is out within seconds.
    Revoke {
        #[command(flatten)]
        cloud: Cloud,
        /// The box.
        id: String,
        /// Why, for the log.
        #[arg(long)]
        reason: String,
    },
    /// Changes what a box should be.
    Configure {
        #[command(flatten)]
        cloud: Cloud,
        /// The box.
        id: String,
        /// A JSON file with the whole document.
        #[arg(long)]
        file: PathBuf,
    },
    /// Lists what somebody should look at.
    Alerts {
        #[command(flatten)]
        cloud: Cloud,
        /// Those that are over as well.
        #[arg(long)]
        all: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Lets an alert be silent for some hours; one that comes again after it was over is loud.
    Silence {
        #[command(flatten)]
        cloud: Cloud,
        /// The alert's number.
        alert: u64,
        /// For how long, 1 to 336.
        #[arg(long, default_value_t = 8)]
        hours: u32,
    },
    /// Shows who changed what of a box, and when.
    History {
        #[command(flatten)]
        cloud: Cloud,
        /// The box.
        id: String,
    },
    #[command(flatten)]
    Order(orders::Command),
}

/// Which cloud, and as whom.
#[derive(Args)]
pub(crate) struct Cloud {
    /// Folder with `ca.pem` and `token`, as `trunkctl setup` makes it.
    #[arg(long, default_value = "dev", env = "TRUNKLINE_DIR")]
    dir: PathBuf,
    /// Base address of the API.
    #[arg(long, default_value = "https://localhost:8443", env = "TRUNKLINE_API")]
    api: String,
    /// File with the token, when it is not `token` in that folder.
    #[arg(long, env = "TRUNKLINE_TOKEN_FILE")]
    token: Option<PathBuf>,
}

impl Cloud {
    /// Returns a client.
    pub(crate) fn connect(&self) -> Result<Api> {
        let file = self.token.clone().unwrap_or_else(|| self.dir.join("token"));
        let token = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read the token in {}", file.display()))?;
        Api::new(&self.api, &self.dir.join("ca.pem"), token.trim())
    }
}

/// Runs something that asks the cloud.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

pub(crate) fn run(command: Command) -> ExitCode {
    block_on(ask(command)).unwrap_or_else(|error| {
        eprintln!("trunkctl: {error:#}");
        ExitCode::FAILURE
    })
}

async fn ask(command: Command) -> Result<ExitCode> {
    match command {
        // What came of an order is its exit status.
        Command::Order(order) => return orders::run(order).await,
        Command::List { cloud, json } => {
            let all = Api::granted(cloud.connect()?.get("/v1/fleet").await?)?;
            if json {
                println!("{}", all["boxes"]);
                return Ok(ExitCode::SUCCESS);
            }
            for one in all["boxes"].as_array().into_iter().flatten() {
                println!("{}", describe::line(one));
            }
        }
        Command::Show { cloud, id, json } => {
            let shown = Api::granted(cloud.connect()?.get(&format!("/v1/boxes/{id}")).await?)?;
            if json { println!("{shown}") } else { print!("{}", describe::page(&shown)) }
        }
        Command::Claim { cloud, code, branch } => {
            let body = json!({ "code": code, "branch": branch });
            say(&cloud.connect()?.post("/v1/enrolments/claim", &body).await?)?;
        }
        Command::Approve { cloud, id } => {
            let path = format!("/v1/enrolments/{id}/approve");
            say(&cloud.connect()?.post(&path, &Value::Null).await?)?;
        }
        Command::Revoke { cloud, id, reason } => {
            let path = format!("/v1/boxes/{id}/revoke");
            say(&cloud.connect()?.post(&path, &json!({ "reason": reason })).await?)?;
        }
        Command::Configure { cloud, id, file } => {
            let text =
                std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let document: Value =
                serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))?;
            let path = format!("/v1/boxes/{id}/desired");
            let desired = Api::granted(cloud.connect()?.put(&path, &document).await?)?;
            println!("version {}  {}", desired["version"], desired["hash"].as_str().unwrap_or_default());
        }
        Command::Alerts { cloud, all, json } => {
            let path = if all { "/v1/alerts?all=true" } else { "/v1/alerts" };
            let alerts = Api::granted(cloud.connect()?.get(path).await?)?;
            if json {
                println!("{}", alerts["alerts"]);
                return Ok(ExitCode::SUCCESS);
            }
            for alert in alerts["alerts"].as_array().into_iter().flatten() {
                println!("{}", describe::alert(alert));
            }
        }
        Command::Silence { cloud, alert, hours } => {
            let path = format!("/v1/alerts/{alert}/silence");
            let silent = Api::granted(cloud.connect()?.post(&path, &json!({ "hours": hours })).await?)?;
            println!("{}", describe::alert(&silent));
        }
        Command::History { cloud, id } => {
            let history = Api::granted(cloud.connect()?.get(&format!("/v1/boxes/{id}/history")).await?)?;
            for change in history["changes"].as_array().into_iter().flatten() {
                print!("{}", describe::change(change));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn say(answer: &(u16, Value)) -> Result<()> {
    let enrolment = Api::granted(answer.clone())?;
    let text = |key: &str| enrolment[key].as_str().unwrap_or_default().to_owned();
    println!("{}  {}", text("box"), text("state"));
    Ok(())
}
