//! Cloud, box and customer on one machine.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::api::Api;
use crate::callbacks::Callbacks;
use crate::process::Process;
use crate::setup::{self, Edge};

const CLOUD_READY: Duration = Duration::from_secs(120);
const EDGE_READY: Duration = Duration::from_secs(120);
/// The first time, every sentence of the customer is synthesised before she can be called.
const CALLEE_READY: Duration = Duration::from_secs(600);

/// What stands on the stage.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Folder for keys, data, logs and recordings.
    pub dir: PathBuf,
    /// Folder with the programs.
    pub programs: PathBuf,
    /// Folder with the scripts.
    pub scripts: PathBuf,
    /// Where the trunk is; the customer's own address when there is a customer.
    pub trunk: Option<SocketAddr>,
    /// Where the box listens for SIP; any free port by default.
    pub bind: Option<SocketAddr>,
    /// Further lines for `[trunk]` of the box.
    pub trunk_extra: String,
    /// Further sections of the box's configuration.
    pub edge_extra: String,
    /// Further sections of the cloud's configuration.
    pub cloud_extra: String,
    /// How many calls the box carries.
    pub channels: u32,
    /// Folder for rendered prompts; the user's cache, which outlives a run, by default.
    pub prompts: Option<PathBuf>,
}

impl Plan {
    /// A plan with nothing special, the programs being beside the running one.
    ///
    /// # Errors
    /// When the running program's own folder is not known.
    pub fn new(dir: &Path, scripts: &Path) -> Result<Self> {
        let own = std::env::current_exe().context("where am I?")?;
        let mut programs = own.parent().context("a program without a folder")?.to_owned();
        // Tests run from the folder below.
        if programs.ends_with("deps") {
            programs.pop();
        }
        Ok(Self {
            dir: dir.to_owned(),
            programs,
            scripts: fs::canonicalize(scripts)
                .with_context(|| format!("there is no folder {} with scripts", scripts.display()))?,
            trunk: None,
            bind: None,
            trunk_extra: String::new(),
            edge_extra: String::new(),
            cloud_extra: String::new(),
            channels: 2,
            prompts: None,
        })
    }
}

/// The running programs. All are stopped when this is dropped.
#[derive(Debug)]
pub struct Stage {
    plan: Plan,
    /// The cloud; `None` while a test has it down.
    pub cloud: Option<Process>,
    /// The box.
    pub edge: Option<Process>,
    /// The customer.
    pub callee: Option<Process>,
    /// The cloud's API.
    pub api: Api,
    /// The CRM's side.
    pub callbacks: Callbacks,
    /// The API token.
    pub token: String,
    /// `host:port` of API and broker.
    addresses: (String, String),
    /// Where the customer's line is.
    pub callee_address: Option<SocketAddr>,
}

impl Stage {
    /// Starts a customer with these arguments (`--persona …`), a cloud with an empty database, and a
    /// box whose trunk is the customer; without arguments no customer, and the trunk of the plan.
    ///
    /// # Errors
    /// Whatever keeps one of them from being ready, with the end of its log.
    pub async fn start(plan: Plan, callee_args: &[&str], mut told: impl FnMut(&str)) -> Result<Self> {
        fs::create_dir_all(plan.dir.join("logs"))
            .with_context(|| format!("cannot create {}", plan.dir.display()))?;
        let made = setup::make_keys(&plan.dir, "tl-demo", &[])?;
        for fresh in ["cloud", "box/journal", "box/state"] {
            let _ = fs::remove_dir_all(plan.dir.join(fresh));
        }
        for fresh in ["box/suppressions.jsonl", "box/receipts.jsonl", "box/numbers.json"] {
            let _ = fs::remove_file(plan.dir.join(fresh));
        }
        let callbacks = Callbacks::start(&plan.dir.join("callback.secret")).await?;

        told("starting the cloud");
        let config = setup::cloud_toml(&plan.scripts, "127.0.0.1:0", "127.0.0.1:0", "cloud", Some("tl-demo"));
        setup::write(&plan.dir.join("cloud.toml"), &format!("{config}\n{}", plan.cloud_extra), 0o644)?;
        let (cloud, ready) = start_cloud(&plan)?;
        let addresses = addresses_of(&ready)?;
        // From now on at the same ports, so that it can be killed and come back.
        let config = setup::cloud_toml(&plan.scripts, &addresses.0, &addresses.1, "cloud", Some("tl-demo"));
        setup::write(&plan.dir.join("cloud.toml"), &format!("{config}\n{}", plan.cloud_extra), 0o644)?;
        let api = Api::new(&format!("https://{}", addresses.0), &plan.dir.join("ca.pem"), &made.token)?;
        let mut stage = Self {
            plan,
            cloud: Some(cloud),
            edge: None,
            callee: None,
            api,
            callbacks,
            token: made.token,
            addresses,
            callee_address: None,
        };
        if !callee_args.is_empty() {
            told("preparing the customer (her sentences are synthesised once, then kept)");
            stage.start_callee(callee_args)?;
        }
        told("starting the box (loading the models)");
        stage.start_edge()?;
        stage.wait_for_box().await?;
        Ok(stage)
    }

    /// Starts a customer at the address of the one before, or at any.
    ///
    /// # Errors
    /// When she is not ready.
    pub fn start_callee(&mut self, args: &[&str]) -> Result<()> {
        let listen =
            self.callee_address.map_or_else(|| "127.0.0.1:0".to_owned(), |address| address.to_string());
        let log = self.plan.dir.join("logs/callee.log");
        let (callee, address) = start_callee(&self.plan.programs, &log, &listen, &self.prompts_dir(), args)?;
        self.callee_address = Some(address);
        self.callee = Some(callee);
        Ok(())
    }

    /// Starts the box.
    ///
    /// # Errors
    /// When it is not ready.
    pub fn start_edge(&mut self) -> Result<()> {
        let trunk = self.callee_address.or(self.plan.trunk).context("neither a customer nor a trunk")?;
        let bind = match self.plan.bind {
            Some(bind) => bind,
            None => SocketAddr::new(local_ip_towards(trunk)?, 0),
        };
        let port_of =
            |address: &str| address.rsplit_once(':').map(|(_, port)| port.to_owned()).unwrap_or_default();
        let config = setup::edge_toml(&Edge {
            box_id: "tl-demo",
            data: "box",
            mqtt: &format!("localhost:{}", port_of(&self.addresses.1)),
            api: &format!("https://localhost:{}", port_of(&self.addresses.0)),
            trunk: &trunk.to_string(),
            bind: &bind.to_string(),
            channels: self.plan.channels,
            extra_trunk: &self.plan.trunk_extra,
            extra: &format!(
                "[speech]\nprompts = \"{}\"\n{}",
                self.prompts_dir().display(),
                self.plan.edge_extra
            ),
        });
        setup::write(&self.plan.dir.join("edge.toml"), &config, 0o644)?;
        let config = self.plan.dir.join("edge.toml").display().to_string();
        let (program, log) = (self.plan.programs.join("trunkline-edge"), self.plan.dir.join("logs/box.log"));
        let args = ["run", "--config", &config];
        let (edge, _) = Process::start("the box", &program, &args, &log, EDGE_READY)?;
        self.edge = Some(edge);
        Ok(())
    }

    /// Starts the cloud again, at the same addresses and on the same data.
    ///
    /// # Errors
    /// When it is not ready.
    pub fn restart_cloud(&mut self) -> Result<()> {
        let (cloud, _) = start_cloud(&self.plan)?;
        self.cloud = Some(cloud);
        Ok(())
    }

    /// Waits until the cloud sees the box.
    ///
    /// # Errors
    /// When that takes longer than half a minute.
    pub async fn wait_for_box(&mut self) -> Result<()> {
        for _ in 0..300 {
            if let Ok((200, boxes)) = self.api.get("/v1/boxes").await
                && boxes["boxes"].as_array().is_some_and(|all| all.iter().any(|one| one["online"] == true))
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let tail = self.edge.as_ref().map(Process::log_tail).unwrap_or_default();
        bail!("the box did not reach the cloud within 30 s:\n{tail}")
    }

    /// Returns the arguments with which `trunkctl` verifies the cloud's receipts.
    pub fn verify_args(&self) -> Vec<String> {
        let file = |name: &str| self.plan.dir.join(name).display().to_string();
        let url = format!("https://{}", self.addresses.0);
        let args =
            ["receipts", "verify", "--url", &url, "--ca", &file("ca.pem"), "--token-file", &file("token")];
        args.map(str::to_owned).to_vec()
    }

    /// Returns the folder of everything.
    pub fn dir(&self) -> &Path {
        &self.plan.dir
    }

    /// Rendered prompts outlive a run: they are named by what they say and sound like.
    fn prompts_dir(&self) -> PathBuf {
        self.plan.prompts.clone().unwrap_or_else(prompts_dir)
    }
}

/// Returns the folder of rendered prompts that are kept from one run to the next.
pub(crate) fn prompts_dir() -> PathBuf {
    std::env::var_os("TRUNKLINE_PROMPTS").map_or_else(|| cache_dir().join("prompts"), PathBuf::from)
}

/// Starts a customer; returns her and the address of her line.
pub(crate) fn start_callee(
    programs: &Path,
    log: &Path,
    listen: &str,
    prompts: &Path,
    args: &[&str],
) -> Result<(Process, SocketAddr)> {
    let prompts = prompts.display().to_string();
    let mut all = vec!["--listen", listen, "--events", "--prompts", prompts.as_str()];
    all.extend_from_slice(args);
    let program = programs.join("trunkline-callee");
    let (callee, ready) = Process::start("the customer", &program, &all, log, CALLEE_READY)?;
    let address = ready.split_whitespace().find_map(|word| word.strip_prefix("sip=")?.parse().ok());
    Ok((callee, address.with_context(|| format!("`{ready}` names no address"))?))
}

fn start_cloud(plan: &Plan) -> Result<(Process, String)> {
    let config = plan.dir.join("cloud.toml").display().to_string();
    let (program, log) = (plan.programs.join("trunkline-cloud"), plan.dir.join("logs/cloud.log"));
    Process::start("the cloud", &program, &["--config", &config], &log, CLOUD_READY)
}

/// Returns `host:port` of API and broker from the line in which the cloud says that it is ready.
pub(crate) fn addresses_of(ready: &str) -> Result<(String, String)> {
    let find = |prefix: &str| ready.split_whitespace().find_map(|word| word.strip_prefix(prefix));
    match (find("api=https://"), find("mqtt=")) {
        (Some(api), Some(mqtt)) => Ok((api.to_owned(), mqtt.to_owned())),
        _ => bail!("`{ready}` does not name the cloud's addresses"),
    }
}

/// Returns the address of this machine that `peer` sees.
fn local_ip_towards(peer: SocketAddr) -> Result<std::net::IpAddr> {
    let any = if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(peer).with_context(|| format!("there is no way to {peer}"))?;
    Ok(socket.local_addr()?.ip())
}

/// Returns the user's cache folder for Trunkline.
pub fn cache_dir() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let home = || std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from).join(".cache");
    base.unwrap_or_else(home).join("trunkline")
}
