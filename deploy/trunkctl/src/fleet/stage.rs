//! The demonstration of the fleet: everything is done by the commands and addresses that people and boxes use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use trunkline_update::{FileSlots, Manifest, RealDisk};

use super::describe;
use super::line::Line;
use crate::api::Api;
use crate::process::Process;
use crate::setup;

const CLOUD_READY: Duration = Duration::from_secs(60);
const BOX_READY: Duration = Duration::from_secs(30);
/// Each step of the demonstration ends within this time or fails.
const STEP: Duration = Duration::from_secs(240);

/// What is shown, and where.
#[derive(Clone, Debug)]
pub struct FleetPlan {
    /// Folder for everything; what is there is removed first.
    pub dir: PathBuf,
    /// Folder with the programs.
    pub programs: PathBuf,
    /// Folder with the scripts, which the cloud wants.
    pub scripts: PathBuf,
    /// Folder with the personas: one of them is called.
    pub personas: PathBuf,
    /// How many boxes; at least 2, so that there is somebody beside the canary.
    pub boxes: usize,
}

/// What came of it.
#[derive(Debug)]
pub struct Account {
    /// Each box as the cloud shows it at the end.
    pub boxes: Vec<Value>,
    /// The rollout of the good version.
    pub good: Value,
    /// The rollout of the bad version.
    pub bad: Value,
    /// The box that had the bad version.
    pub canary: String,
    /// The call that was under way when the good version came.
    pub call: Value,
    /// What was said of the box that carried it meanwhile.
    pub waited: Option<String>,
    /// What that box knew of itself.
    pub bundle: PathBuf,
}

/// One box: its folder and its launcher.
struct TestBox {
    dir: PathBuf,
    id: String,
    code: String,
    _launcher: Process,
}

/// Joins boxes, configures them, updates them by a canary wave, and lets a bad version fall back; `told` hears
/// what happens.
///
/// # Errors
/// Whatever does not happen in time, with what was seen instead.
pub async fn demonstrate(plan: &FleetPlan, mut told: impl FnMut(&str)) -> Result<Account> {
    if plan.boxes < 2 {
        bail!("a fleet has at least 2 boxes: one of them is the canary");
    }
    clear(&plan.dir)?;
    let made = setup::make_keys(&plan.dir, "tl-by-hand", &[])?;
    let people = setup::make_fleet_keys(&plan.dir)?;

    told("the release keys are made, two of three sign the root; version 1.0.0 is released");
    let releases = Releases { plan };
    releases.begin()?;
    releases.publish("1.0.0", PASSES)?;

    told("the boxes are made: each has its key, a label, and the first version; the first is to carry calls");
    let labels: Vec<Label> = (1..=plan.boxes).map(|number| make(plan, number)).collect::<Result<_>>()?;
    let line = Line::start(plan)?;
    told("the cloud starts: it signs boxes' certificates and hands the releases out");
    let (_cloud, api, mqtt) = start_cloud(plan, &labels[0].id)?;
    let base = format!("https://{api}");
    let client = |token: &str| Api::new(&base, &plan.dir.join("ca.pem"), token);
    let (mei, li, crm) = (client(&people.branch)?, client(&people.admin)?, client(&made.token)?);

    told("the boxes are plugged in and ask for a certificate");
    let mut boxes = Vec::new();
    for (at, label) in labels.into_iter().enumerate() {
        boxes.push(plug_in(plan, label, &api, &mqtt, (at == 0).then_some(&line))?);
    }
    for (number, one) in boxes.iter().enumerate() {
        until(&li, &format!("/v1/boxes/{}", one.id), "waiting", |shown| {
            shown["enrolment"]["state"] == "waiting"
        })
        .await?;
        let branch = format!("045{}", number + 1);
        let claim = json!({ "code": one.code, "branch": branch });
        Api::granted(mei.post("/v1/enrolments/claim", &claim).await?)?;
        told(&format!("  {}  mei in branch {branch} types the code on the label: {}", one.id, one.code));
        let approve = format!("/v1/enrolments/{}/approve", one.id);
        if let Ok(alone) = Api::granted(mei.post(&approve, &Value::Null).await?) {
            bail!("mei approved what she has claimed: {alone}");
        }
        Api::granted(li.post(&approve, &Value::Null).await?)?;
        told(&format!("  {}  li at headquarters approves; the certificate is signed", one.id));
    }

    told("headquarters says what each box should be; one is asked for what it does not have");
    for (number, one) in boxes.iter().enumerate() {
        let mut wanted =
            json!({ "name": format!("Branch 045{}", number + 1), "updates": { "metered_mib": 512 } });
        if number == 0 {
            wanted["gsm"] = json!({ "ports": 8 });
            wanted["calls"] = json!({ "channels": 3 });
        }
        Api::granted(li.put(&format!("/v1/boxes/{}/desired", one.id), &wanted).await?)?;
    }
    for (number, one) in boxes.iter().enumerate() {
        let expected = if number == 0 { "differs" } else { "in_sync" };
        let shown =
            until(&li, &format!("/v1/boxes/{}", one.id), expected, |shown| shown["sync"]["sync"] == expected)
                .await?;
        told(&format!("  {}", describe::line(&shown)));
        for refused in describe::page(&shown).lines().filter(|line| line.contains(" should be ")) {
            told(refused);
        }
    }

    releases.publish("1.1.0", PASSES)?;
    told("a customer is called by the box that carries calls, and answers");
    let call = line.call(&crm, &boxes[0].id).await?;
    told("version 1.1.0 is rolled out meanwhile: a canary first, then the rest; the call is let finish");
    let good = begin(&li, "1.1.0", plan.boxes).await?;
    let mut waited = None;
    let mut watch = |said: &str| {
        if said.contains(&boxes[0].id) && said.contains("to end") {
            waited = Some(said.trim().to_owned());
        }
        told(said);
    };
    let good = follow(&li, &good, &mut watch, |shown| shown["state"]["phase"] == "finished").await?;
    let call = line.over(&crm, &call).await?;
    told(&format!("  the call of meanwhile ended as it should: outcome {}", call["outcome"]["code"]));

    told(
        "headquarters lets the box take no calls, asks what it knows of itself, and starts its program for calls anew",
    );
    let bundle = plan.dir.join("diag.tar.gz");
    let li_gives = |words: &[&str]| order(plan, &base, words);
    for (words, said) in [
        (vec!["drain", &boxes[0].id, "--for", "1h"], "it takes no new calls"),
        (
            vec!["diag", &boxes[0].id, "--out", &bundle.display().to_string()],
            "its bundle is here, its hash checked",
        ),
        (vec!["restart", &boxes[0].id], "its program for calls is up again, and still takes none"),
        (vec!["undrain", &boxes[0].id], "it takes calls again"),
    ] {
        li_gives(&words)?;
        told(&format!("  trunkctl box {}: {said}", words[0]));
    }

    told("version 1.2.0 is released; nobody knows yet that it is bad");
    releases.publish("1.2.0", FAILS)?;
    let bad = begin(&li, "1.2.0", plan.boxes).await?;
    let canary = bad["boxes"][0]["box"].as_str().unwrap_or_default().to_owned();
    let bad = follow(&li, &bad, &mut told, |shown| {
        shown["state"]["phase"] == "paused" && shown["boxes"][0]["standing"] == "rolled_back"
    })
    .await?;
    until(&li, &format!("/v1/boxes/{canary}"), "back on the old version", |shown| {
        shown["components"][0]["stage"] == "rolled_back"
    })
    .await?;

    told("the fleet at the end:");
    let all = Api::granted(li.get("/v1/fleet").await?)?;
    let all: Vec<Value> = all["boxes"].as_array().cloned().unwrap_or_default();
    for one in &all {
        told(&format!("  {}", describe::line(one)));
    }
    // What the cloud says is one thing, what lies on the disks another.
    for one in &boxes {
        let slots = RealDisk::new(&one.dir.join("slots"))?;
        let start = trunkline_update::launch(&mut slots.clone())?;
        let version = start.sealed.release.version;
        if version != "1.1.0" || start.on_trial {
            bail!("{} would start {version}", one.id);
        }
    }
    Ok(Account { boxes: all, good, bad, canary, call, waited, bundle })
}

/// Gives an order to a box by the command that people use; its status says whether it was done.
fn order(plan: &FleetPlan, api: &str, words: &[&str]) -> Result<()> {
    let output = Command::new(plan.programs.join("trunkctl"))
        .current_dir(&plan.dir)
        .args(["box"])
        .args(words)
        .args(["--dir", ".", "--token", "token.li", "--api", api])
        .output()
        .context("cannot start trunkctl; build it first: cargo build --workspace")?;
    if !output.status.success() {
        bail!("trunkctl box {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Empties a folder that an earlier demonstration has filled, and no other.
fn clear(dir: &Path) -> Result<()> {
    let mark = dir.join(".fleet-demo");
    let filled = fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if filled && !mark.exists() {
        bail!("{} holds something else; choose another folder with --dir", dir.display());
    }
    if filled {
        fs::remove_dir_all(dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    fs::create_dir_all(dir.join("logs")).with_context(|| format!("cannot create {}", dir.display()))?;
    setup::write(&mark, "", 0o644)
}

/// The own test of a version that works.
const PASSES: &str = "exit 0";
/// The own test of a version that does not.
const FAILS: &str = "echo 'the test call had no sound'; exit 1";

/// The author's side, by the commands that authors use.
struct Releases<'a> {
    plan: &'a FleetPlan,
}

impl Releases<'_> {
    fn trunkctl(&self, line: &str) -> Result<()> {
        let output = Command::new(self.plan.programs.join("trunkctl"))
            .current_dir(&self.plan.dir)
            .args(line.split_whitespace())
            .output()
            .context("cannot start trunkctl; build it first: cargo build --workspace")?;
        if !output.status.success() {
            bail!("trunkctl {line}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    fn begin(&self) -> Result<()> {
        for key in ["root-1", "root-2", "root-3", "release-1", "release-2", "online", "assign"] {
            self.trunkctl(&format!("release key {key}"))?;
        }
        self.trunkctl(
            "release root --root root-1.pub root-2.pub root-3.pub --release release-1.pub release-2.pub \
             --online online.pub --assign assign.pub",
        )
    }

    /// Makes a version of the program that boxes run, has it signed by two people, and publishes it.
    fn publish(&self, version: &str, own_test: &str) -> Result<()> {
        let bundle = self.plan.dir.join(format!("bundle-{version}"));
        fs::create_dir_all(bundle.join("bin"))?;
        let program = self.plan.programs.join("trunkline-edge");
        fs::copy(&program, bundle.join("bin/trunkline-edge"))
            .with_context(|| format!("cannot copy {}; build it first", program.display()))?;
        setup::write(&bundle.join("bin/self-test"), &format!("#!/bin/sh\n{own_test}\n"), 0o755)?;
        setup::write(&bundle.join("version"), &format!("{version}\n"), 0o644)?;
        self.trunkctl(&format!(
            "release create --component app --version {version} --from bundle-{version}"
        ))?;
        fs::remove_dir_all(&bundle)?;
        let first = version == "1.0.0";
        let signers: &[&str] =
            if first { &["root-1", "root-3", "release-1", "release-2"] } else { &["release-1", "release-2"] };
        for key in signers {
            self.trunkctl(&format!("release sign --key {key}"))?;
        }
        self.trunkctl("release publish --key online")
    }

    /// Returns manifest and pack of the first version, as the factory installs it.
    fn first(&self) -> Result<(Manifest, Vec<u8>)> {
        let targets = self.plan.dir.join("repo/targets");
        let name = fs::read_dir(&targets)?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .find(|name| name.ends_with(".app-1.0.0.json"))
            .context("version 1.0.0 is not in the repository")?;
        let hash = name.split('.').next().unwrap_or_default();
        let manifest = Manifest::parse(&fs::read(targets.join(&name))?)?;
        Ok((manifest, fs::read(self.plan.dir.join(format!("repo/packs/{hash}.pack")))?))
    }
}

/// A box that was made and is in its carton.
struct Label {
    dir: PathBuf,
    id: String,
    code: String,
}

/// Installs the first version and makes the box's key, as the factory does.
fn make(plan: &FleetPlan, number: usize) -> Result<Label> {
    let dir = plan.dir.join(format!("box-{number}"));
    fs::create_dir_all(&dir)?;
    let (manifest, pack) = Releases { plan }.first()?;
    FileSlots::install(RealDisk::new(&dir.join("slots"))?, &manifest, &pack)?;
    let file = box_toml(&dir, &cloud_section("127.0.0.1:1", "127.0.0.1:1"), false)?;
    let claim =
        Command::new(plan.programs.join("trunkline-edge")).args(["claim", "--config", &file]).output()?;
    let label = String::from_utf8_lossy(&claim.stdout).into_owned();
    let (id, code) = label.trim().split_once(' ').context("the box has no label")?;
    Ok(Label { dir, id: id.to_owned(), code: code.to_owned() })
}

/// Tells the box where its cloud is, and which line it has, and switches it on.
fn plug_in(plan: &FleetPlan, label: Label, api: &str, mqtt: &str, line: Option<&Line>) -> Result<TestBox> {
    let Label { dir, id, code } = label;
    let cloud = cloud_section(api, mqtt);
    let file = box_toml(&dir, &cloud, line.is_some())?;
    if let Some(line) = line {
        setup::write(&dir.join("edge.toml"), &line.edge_toml(&id, &cloud), 0o644)?;
    }
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (program, log) = (plan.programs.join("trunkline-edge"), plan.dir.join(format!("logs/{name}.log")));
    let (launcher, _) = Process::start("the box", &program, &["launch", "--config", &file], &log, BOX_READY)?;
    Ok(TestBox { dir, id, code, _launcher: launcher })
}

fn cloud_section(api: &str, mqtt: &str) -> String {
    let port = |address: &str| address.rsplit_once(':').map_or("", |(_, port)| port).to_owned();
    format!(
        "[cloud]\nmqtt = \"localhost:{}\"\napi = \"https://localhost:{}\"\nca = \"../ca.pem\"\n",
        port(mqtt),
        port(api)
    )
}

fn box_toml(dir: &Path, cloud: &str, carries_calls: bool) -> Result<String> {
    let calls = if carries_calls { "\n[calls]\nconfig = \"edge.toml\"\n" } else { "" };
    let config = format!(
        "data_dir = \"data\"\n\n{cloud}\n[updates]\nroot = \"../repo/metadata/1.root.json\"\n\
         slots = \"slots\"\n{calls}"
    );
    setup::write(&dir.join("box.toml"), &config, 0o644)?;
    Ok(dir.join("box.toml").display().to_string())
}

/// Starts the cloud; `carries_calls` may call numbers that are kept for tests. Returns the addresses of API and broker.
fn start_cloud(plan: &FleetPlan, carries_calls: &str) -> Result<(Process, String, String)> {
    let mut config =
        setup::cloud_toml(&plan.scripts, "127.0.0.1:0", "127.0.0.1:0", "cloud", Some(carries_calls));
    config += setup::FLEET;
    setup::write(&plan.dir.join("cloud.toml"), &config, 0o644)?;
    let file = plan.dir.join("cloud.toml").display().to_string();
    let log = plan.dir.join("logs/cloud.log");
    let program = plan.programs.join("trunkline-cloud");
    let (cloud, ready) = Process::start("the cloud", &program, &["--config", &file], &log, CLOUD_READY)?;
    let (api, mqtt) = crate::stage::addresses_of(&ready)?;
    Ok((cloud, api, mqtt))
}

/// Asks until an address shows what is waited for.
async fn until(api: &Api, path: &str, what: &str, ready: impl Fn(&Value) -> bool) -> Result<Value> {
    let deadline = Instant::now() + STEP;
    loop {
        let (_, shown) = api.get(path).await?;
        if ready(&shown) {
            return Ok(shown);
        }
        if Instant::now() > deadline {
            bail!("{path} was not {what} within {} s: {shown:#}", STEP.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn begin(api: &Api, version: &str, boxes: usize) -> Result<Value> {
    // One box first, whatever the size of the fleet.
    let first = (100 / boxes).clamp(1, 50);
    let profile = json!({ "percents": [first, 100], "soak": "PT2S" });
    let body = json!({ "release": format!("app-{version}.json"), "profile": profile });
    Api::granted(api.post("/v1/rollouts", &body).await?)
}

/// Tells what changes of a rollout until it is over.
async fn follow(
    api: &Api,
    rollout: &Value,
    told: &mut impl FnMut(&str),
    over: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let path = format!("/v1/rollouts/{}", rollout["id"].as_str().unwrap_or_default());
    let deadline = Instant::now() + STEP;
    let mut last = String::new();
    loop {
        let shown = Api::granted(api.get(&path).await?)?;
        let page = describe::rollout(&shown);
        for line in page.lines().filter(|line| !last.lines().any(|known| known == *line)) {
            told(&format!("  {line}"));
        }
        last = page;
        if over(&shown) {
            return Ok(shown);
        }
        if Instant::now() > deadline {
            bail!("the rollout did not come to its end within {} s: {shown:#}", STEP.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Returns the folder of a fleet that is shown to people.
pub fn usual_dir() -> PathBuf {
    crate::stage::cache_dir().join("fleet-demo")
}

/// Returns where the programs lie: beside the one that runs.
///
/// # Errors
/// When the running program's own folder is not known.
pub fn programs_beside() -> Result<PathBuf> {
    let own = std::env::current_exe().context("where am I?")?;
    let mut programs = own.parent().context("a program without a folder")?.to_owned();
    // Tests run from the folder below.
    if programs.ends_with("deps") {
        programs.pop();
    }
    Ok(programs)
}

/// Returns the folder of the scripts as an absolute path.
///
/// # Errors
/// When it is not there.
pub fn scripts_in(folder: &Path) -> Result<PathBuf> {
    fs::canonicalize(folder).with_context(|| format!("there is no folder {}", folder.display()))
}
