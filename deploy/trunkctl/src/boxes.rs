//! `trunkctl box`: who joins the fleet, what each box should be, how it is, and orders to it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use jiff::Timestamp;
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
    },
    /// Shows one box: enrolment, differences, updates, log.
    Show {
        #[command(flatten)]
        cloud: Cloud,
        /// The box.
        id: String,
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
    /// Gives a box to another branch; it keeps its certificate and its settings.
    #[command(
        after_help = "Examples:\n  trunkctl box transfer tl-7q2k --branch harbour\n  trunkctl box transfer tl-7q2k --branch harbour --yes --json\n\nExits with 0 when it is done, 1 when it was refused or not confirmed."
    )]
    Transfer {
        #[command(flatten)]
        sure: Sure,
        /// The branch that it is for from now on.
        #[arg(long)]
        branch: String,
    },
    /// Takes a box out of the fleet for good: its certificates are revoked, and it is out within seconds.
    ///
    /// It can come back only as a new box: with a new key, claimed and approved again.
    #[command(
        after_help = "Examples:\n  trunkctl box decommission tl-7q2k\n  trunkctl box decommission tl-7q2k --yes --json\n\nExits with 0 when it is done, 1 when it was refused or not confirmed."
    )]
    Decommission {
        #[command(flatten)]
        sure: Sure,
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
    /// Shows who changed what of a box, and when; or what was in force at a moment.
    #[command(
        after_help = "Examples:\n  trunkctl box history tl-7q2k\n  trunkctl box history tl-7q2k --at 2026-11-17T10:32:00+08:00"
    )]
    History {
        #[command(flatten)]
        cloud: Cloud,
        /// The box.
        id: String,
        /// Instead, the document that was in force at this instant, and who had made it so.
        #[arg(long, value_name = "INSTANT")]
        at: Option<Timestamp>,
    },
    #[command(flatten)]
    Order(orders::Command),
}

/// A box to which something is done that is not easily taken back.
#[derive(Args)]
pub(crate) struct Sure {
    #[command(flatten)]
    cloud: Cloud,
    /// The box.
    id: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

impl Sure {
    /// Has the box's name typed, unless `--yes` was given.
    fn confirm(&self, what: &str) -> Result<()> {
        if self.yes {
            return Ok(());
        }
        let id = &self.id;
        eprint!("{what}\nType the name of the box to go on: ");
        let mut typed = String::new();
        std::io::stdin().read_line(&mut typed).context("cannot read from the terminal")?;
        ensure!(typed.trim() == id, "not confirmed, nothing was changed: type `{id}`, or say --yes");
        Ok(())
    }

    async fn tell(&self, command: &str, body: &Value) -> Result<()> {
        let path = format!("/v1/boxes/{}/{command}", self.id);
        let done = Api::granted(self.cloud.connect()?.post(&path, body).await?)?;
        self.cloud.show(&done, enrolment);
        Ok(())
    }
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
    /// Print JSON, as the cloud answers it.
    #[arg(long)]
    pub(crate) json: bool,
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

impl Cloud {
    /// Prints an answer: as it is, or in these words.
    pub(crate) fn show(&self, answer: &Value, words: impl Fn(&Value) -> String) {
        if self.json { println!("{answer}") } else { print!("{}", words(answer)) }
    }

    /// Prints a list: as it is, or each part in these words.
    pub(crate) fn show_each(&self, list: &Value, words: impl Fn(&Value) -> String) {
        self.show(list, |list| list.as_array().into_iter().flatten().map(&words).collect());
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
        Command::List { cloud } => {
            let all = Api::granted(cloud.connect()?.get("/v1/fleet").await?)?;
            cloud.show_each(&all["boxes"], |one| describe::line(one) + "\n");
        }
        Command::Show { cloud, id } => {
            let shown = Api::granted(cloud.connect()?.get(&format!("/v1/boxes/{id}")).await?)?;
            cloud.show(&shown, describe::page);
        }
        Command::Claim { cloud, code, branch } => {
            let body = json!({ "code": code, "branch": branch });
            let claimed = Api::granted(cloud.connect()?.post("/v1/enrolments/claim", &body).await?)?;
            cloud.show(&claimed, enrolment);
        }
        Command::Approve { cloud, id } => {
            let path = format!("/v1/enrolments/{id}/approve");
            cloud.show(&Api::granted(cloud.connect()?.post(&path, &Value::Null).await?)?, enrolment);
        }
        Command::Revoke { cloud, id, reason } => {
            let path = format!("/v1/boxes/{id}/revoke");
            let revoked = cloud.connect()?.post(&path, &json!({ "reason": reason })).await?;
            cloud.show(&Api::granted(revoked)?, enrolment);
        }
        Command::Transfer { sure, branch } => {
            sure.confirm(&format!("{} is to be a box of the branch `{branch}`.", sure.id))?;
            sure.tell("transfer", &json!({ "branch": branch })).await?;
        }
        Command::Decommission { sure } => {
            sure.confirm(&format!("{} is to leave the fleet for good: its certificates are revoked, and its link is cut within seconds.", sure.id))?;
            // The reason by which the log tells it from a certificate that was lost.
            sure.tell("revoke", &json!({ "reason": "decommissioned" })).await?;
        }
        Command::Configure { cloud, id, file } => {
            let text =
                std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let document: Value =
                serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))?;
            let path = format!("/v1/boxes/{id}/desired");
            let desired = Api::granted(cloud.connect()?.put(&path, &document).await?)?;
            cloud.show(&desired, |desired| {
                format!("version {}  {}\n", desired["version"], desired["hash"].as_str().unwrap_or_default())
            });
        }
        Command::Alerts { cloud, all } => {
            let path = if all { "/v1/alerts?all=true" } else { "/v1/alerts" };
            let alerts = Api::granted(cloud.connect()?.get(path).await?)?;
            cloud.show_each(&alerts["alerts"], |alert| describe::alert(alert) + "\n");
        }
        Command::Silence { cloud, alert, hours } => {
            let path = format!("/v1/alerts/{alert}/silence");
            let silent = Api::granted(cloud.connect()?.post(&path, &json!({ "hours": hours })).await?)?;
            cloud.show(&silent, |alert| describe::alert(alert) + "\n");
        }
        Command::History { cloud, id, at: Some(at) } => {
            let path = format!("/v1/boxes/{id}/desired?at={at}");
            let entry = Api::granted(cloud.connect()?.get(&path).await?)?;
            cloud.show(&entry, describe::in_force);
        }
        Command::History { cloud, id, at: None } => {
            let history = Api::granted(cloud.connect()?.get(&format!("/v1/boxes/{id}/history")).await?)?;
            cloud.show_each(&history["changes"], describe::change);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn enrolment(enrolment: &Value) -> String {
    let text = |key: &str| enrolment[key].as_str().unwrap_or_default();
    format!("{}  {}\n", text("box"), text("state"))
}
