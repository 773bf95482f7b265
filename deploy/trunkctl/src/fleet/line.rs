//! The box of the fleet that carries calls: its line, its customer, and the call that an update has to wait for.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::FleetPlan;
use crate::api::Api;
use crate::process::Process;
use crate::stage;

/// Models are loaded, a script is fetched, its sentences are rendered.
const WITHIN: Duration = Duration::from_secs(240);

/// The line, and whoever is at its other end.
pub(super) struct Line {
    address: SocketAddr,
    _customer: Process,
}

impl Line {
    /// Puts a customer at the other end.
    pub(super) fn start(plan: &FleetPlan) -> Result<Self> {
        let persona = plan.personas.join("en-agrees.yaml").display().to_string();
        let args = ["--persona", &persona];
        let (log, prompts) = (plan.dir.join("logs/customer.log"), stage::prompts_dir());
        let (customer, address) = stage::start_callee(&plan.programs, &log, "127.0.0.1:0", &prompts, &args)?;
        Ok(Self { address, _customer: customer })
    }

    /// Returns `edge.toml` of the box at this end, which lies beside its `box.toml`.
    pub(super) fn edge_toml(&self, id: &str, cloud: &str) -> String {
        format!(
            "box = \"{id}\"\ndata_dir = \"calls\"\n\n{cloud}cert = \"data/identity/box.pem\"\n\
             key = \"data/identity/key.pem\"\n\n[trunk]\nname = \"carrier\"\nproxy = \"{}\"\nbind = \"127.0.0.1:0\"\n\
             caller_id = \"+862155550100\"\n\n[speech]\nprompts = \"{}\"\n",
            self.address,
            stage::prompts_dir().display()
        )
    }

    /// Has the customer called; returns the call once she has answered.
    pub(super) async fn call(&self, crm: &Api, id: &str) -> Result<String> {
        let date = jiff::Zoned::now().date().checked_add(jiff::Span::new().days(2))?.to_string();
        until(crm, "/v1/boxes", "with a box that takes calls", |shown| {
            shown["boxes"]
                .as_array()
                .is_some_and(|all| all.iter().any(|one| one["box"] == id && one["online"] == true))
        })
        .await?;
        let call = crm
            .call(&json!({
                "script_id": "appointment-confirmation-en", "callee": "+12025550143",
                "variables": { "org": "Riverside Clinic", "name": "Anna Miller", "doctor": "Doctor Patel",
                    "date": date, "time": "15:30" },
            }))
            .await?;
        until(crm, &format!("/v1/calls/{call}"), "answered", |shown| {
            shown["status"] == "answered" || shown["status"] == "ended"
        })
        .await?;
        Ok(call)
    }

    /// Returns the call once it is over.
    pub(super) async fn over(&self, crm: &Api, call: &str) -> Result<Value> {
        let ended = crm.wait_ended(call, WITHIN).await?;
        if ended["disposition"] != "completed" && ended["disposition"] != "customer_hung_up" {
            bail!("the call was cut short: {ended:#}");
        }
        Ok(ended)
    }
}

async fn until(api: &Api, path: &str, what: &str, ready: impl Fn(&Value) -> bool) -> Result<()> {
    let deadline = Instant::now() + WITHIN;
    loop {
        let (_, shown) = api.get(path).await.with_context(|| format!("cannot ask for {path}"))?;
        if ready(&shown) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("{path} was not {what} within {} s: {shown:#}", WITHIN.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
