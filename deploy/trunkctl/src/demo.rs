//! The demonstration: one call, from the CRM's request to its callback, with everything real but the
//! carrier.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use trunkctl::campaign::{self, Size};
use trunkctl::fleet::{self, FleetPlan};
use trunkctl::stage::{Plan, Stage, cache_dir};
use trunkline_audio::latency::{self, Analysis, Side};
use trunkline_wire::TurnRecord;

/// How many of the customer's turns the cloud answers before it is killed.
const TURNS_WITH_CLOUD: usize = 2;
/// A call of some ten turns, with room for a slow machine.
const CALL_WITHIN: Duration = Duration::from_secs(600);

#[derive(Args)]
pub(crate) struct Options {
    /// Language of robot and customer.
    #[arg(long, value_enum, default_value_t = Lang::Zh)]
    lang: Lang,
    /// Who the customer is: `agrees`, `declines`, `optout`, `interrupts`, or a persona file.
    #[arg(long, default_value = "agrees")]
    persona: String,
    /// Show a fleet instead: so many boxes join, are configured and updated, one while it carries a call, and one
    /// falls back.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "3")]
    fleet: Option<usize>,
    /// Call this softphone instead of the simulated customer.
    #[arg(long, value_name = "sip:USER@HOST[:PORT]")]
    phone: Option<String>,
    /// Play the call on this machine's sound card (`default`, or a device's name).
    #[arg(long, value_name = "DEVICE", num_args = 0..=1, default_missing_value = "default")]
    listen: Option<String>,
    /// Stay up afterwards and print the console's address.
    #[arg(long)]
    keep: bool,
    /// Kill the cloud in the middle of the call: the box goes on by itself, and the cloud hears of it afterwards.
    #[arg(long, conflicts_with_all = ["phone", "campaign", "fleet"])]
    kill_cloud: bool,
    /// Let the customer call: a number is bound to the script, and the box answers.
    #[arg(long, conflicts_with_all = ["phone", "campaign", "fleet", "kill_cloud"])]
    inbound: bool,
    /// Run a campaign with so many customers instead of one call, and kill the cloud while it runs. They
    /// pick up and hang up at once, are busy, or decline: it shows dialling and the gate, not talking.
    #[arg(long, value_name = "N", conflicts_with_all = ["phone", "listen", "keep"],
          value_parser = clap::value_parser!(u16).range(10..=2_000))]
    campaign: Option<u16>,
    /// How often the cloud is killed during a campaign.
    #[arg(long, value_name = "K", default_value_t = 2, requires = "campaign")]
    kills: u8,
    /// Folder for keys, data, logs and recordings; below the user's cache folder by default.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Folder with the scripts.
    #[arg(long, default_value = "shared/scripts")]
    scripts: PathBuf,
    /// Folder with the personas.
    #[arg(long, default_value = "deploy/personas")]
    personas: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Lang {
    /// Mandarin: a repayment reminder.
    Zh,
    /// English: a clinic confirms an appointment.
    En,
}

impl Lang {
    fn name(self) -> &'static str {
        match self {
            Self::Zh => "zh",
            Self::En => "en",
        }
    }

    fn request(self) -> Value {
        match self {
            Self::Zh => json!({
                "script_id": "repayment-reminder-zh",
                "callee": "+8613800138000",
                "variables": zh_variables(),
            }),
            Self::En => json!({
                "script_id": "appointment-confirmation-en",
                "callee": "+12025550143",
                "variables": en_variables(),
            }),
        }
    }
}

fn zh_variables() -> Value {
    json!({ "org": "和顺银行", "name": "王芳", "amount": "1280.50", "due_date": due_date(3) })
}

fn en_variables() -> Value {
    json!({ "org": "Riverside Clinic", "name": "Anna Miller", "doctor": "Doctor Patel", "date": due_date(2), "time": "15:30" })
}

fn due_date(days: i64) -> String {
    let date = jiff::Zoned::now().date();
    date.checked_add(jiff::Span::new().days(days)).unwrap_or(date).to_string()
}

pub(crate) fn run(options: Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            // The demonstration itself listens for the end when it was told to stay.
            biased;
            done = show(&options) => done,
            () = stop_asked() => bail!("interrupted"),
        }
    })
}

async fn show(options: &Options) -> Result<()> {
    match options.fleet {
        Some(boxes) => demo_fleet(options, boxes).await,
        None => demo(options).await,
    }
}

async fn demo_fleet(options: &Options, boxes: usize) -> Result<()> {
    let plan = FleetPlan {
        dir: options.dir.clone().unwrap_or_else(fleet::usual_dir),
        programs: fleet::programs_beside()?,
        scripts: fleet::scripts_in(&options.scripts)?,
        personas: options.personas.clone(),
        boxes,
    };
    println!("A fleet of {boxes} boxes on this machine. Logs: {}", plan.dir.join("logs").display());
    let began = std::time::Instant::now();
    let account =
        fleet::demonstrate(&plan, |what| println!("{:6.1} s  {what}", began.elapsed().as_secs_f64())).await?;
    println!(
        "\n{} boxes joined and run 1.1.0; {} had 1.2.0, went back by itself, and the rollout is paused:\n{}",
        account.boxes.len(),
        account.canary,
        fleet::describe::headline(&account.bad)
    );
    Ok(())
}

async fn demo(options: &Options) -> Result<()> {
    if let Some(contacts) = options.campaign {
        return campaign(options, contacts.into()).await;
    }
    let dir = options.dir.clone().unwrap_or_else(|| cache_dir().join("demo"));
    let mut plan = Plan::new(&dir, &options.scripts)?;
    if let Some(device) = &options.listen {
        let device = if device == "default" { String::new() } else { format!("device = {device:?}\n") };
        plan.edge_extra = format!("[monitor]\n{device}");
    }
    let persona = persona_file(options)?;
    let mut request = options.lang.request();
    let (trunk, customer_wav) =
        (options.phone.as_deref().map(phone_address).transpose()?, dir.join("customer.wav"));
    let wav = customer_wav.display().to_string();
    let mut args: Vec<&str> = Vec::new();
    let ours = free_address();
    if options.inbound {
        (plan.trunk, plan.bind) = (Some(free_address()), Some(ours));
    } else if let Some(phone) = &options.phone {
        plan.trunk = trunk;
        plan.trunk_extra = "allow_sip_targets = true\n".to_owned();
        request["callee"] = json!(phone);
    } else {
        args = vec!["--persona", &persona, "--record", &wav];
    }
    println!(
        "Trunkline demo: everything on this machine, nothing leaves it. Logs: {}",
        dir.join("logs").display()
    );
    let mut stage = Stage::start(plan, &args, |what| println!("  … {what}")).await?;
    request["callback_url"] = json!(stage.callbacks.url());

    let id = if options.inbound {
        let caller = ["--persona", &persona, "--record", &wav];
        customer_calls(&mut stage, request, ours, &caller).await?
    } else {
        println!("\n$ POST /v1/calls {}", brief(&request));
        stage.api.call(&request).await?
    };
    let mut show = Show { in_place: std::io::IsTerminal::is_terminal(&std::io::stdout()), ..Show::default() };
    let enough = tokio::sync::Notify::new();
    let followed = {
        let api = stage.api.clone();
        let follow = api.follow(&id, |name, data| {
            show.event(name, data);
            if options.kill_cloud && show.answered >= TURNS_WITH_CLOUD {
                enough.notify_one();
            }
        });
        tokio::select! {
            followed = tokio::time::timeout(CALL_WITHIN, follow) => Some(followed),
            () = enough.notified() => None,
        }
    };
    if followed.is_none() {
        go_on_without_cloud(&mut stage).await?;
    } else if !matches!(followed, Some(Ok(Ok(())))) {
        println!("  (the live view broke off; waiting for the end)");
    }
    let call = stage.api.wait_ended(&id, CALL_WITHIN).await?;
    // What was not seen live: the rest of a call whose cloud was away.
    for turn in serde_json::from_value::<Vec<TurnRecord>>(call["turns"].clone()).unwrap_or_default() {
        show.turn_once(&turn);
    }
    summary(&stage, &call, options.phone.is_none().then_some(customer_wav.as_path()))?;
    if options.keep {
        println!("\nConsole: {}   token: {}", stage.api.console(), stage.token);
        println!("Your browser will warn about the development certificate. Ctrl-C stops everything.");
        stop_asked().await;
    }
    if let Some(callee) = stage.callee.take() {
        callee.stop()?;
    }
    if let Some(edge) = stage.edge.take() {
        edge.stop()?;
    }
    if let Some(cloud) = stage.cloud.take() {
        cloud.stop()?;
    }
    if call["disposition"] == "completed" || call["disposition"] == "customer_hung_up" {
        Ok(())
    } else {
        let cause = call["cause"].as_str().unwrap_or_default();
        bail!("the call did not come about: {} {cause}", call["disposition"].as_str().unwrap_or("?"))
    }
}

/// The number that the customer calls, and how a trunk of the same country writes it.
const OUR_NUMBER: (&str, &str) = ("+862155550100", "02155550100");
/// What the box logs once it answers by a table of numbers.
const ANSWERED: &str = "Calls from customers are answered";
/// The box fetches the script and renders what it will say first.
const BOUND_WITHIN: Duration = Duration::from_secs(120);

/// Binds our number to the script, and lets the customer call it; returns the call.
async fn customer_calls(
    stage: &mut Stage,
    mut binding: Value,
    ours: SocketAddr,
    caller: &[&str],
) -> Result<String> {
    let from = binding.as_object_mut().and_then(|binding| binding.remove("callee"));
    let from = from.as_ref().and_then(Value::as_str).unwrap_or("anonymous").to_owned();
    binding["number"] = OUR_NUMBER.0.into();
    let log = stage.dir().join("logs/box.log");
    let told = || std::fs::read_to_string(&log).unwrap_or_default().matches(ANSWERED).count();
    // The log goes on from one run to the next.
    let before = told();
    println!("\n$ POST /v1/numbers {}", brief(&binding));
    stage.api.expect(201, "/v1/numbers", &binding).await?;
    let deadline = std::time::Instant::now() + BOUND_WITHIN;
    while told() == before {
        ensure!(
            std::time::Instant::now() < deadline,
            "the box did not take the number up: see {}",
            log.display()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let to = format!("sip:{}@{ours}", OUR_NUMBER.1);
    println!("  … the box answers calls to {}; {from} calls it", OUR_NUMBER.0);
    stage.start_callee(&[caller, &["--once", "--dial", &to, "--from", &from]].concat())?;
    let deadline = std::time::Instant::now() + BOUND_WITHIN;
    loop {
        let (_, listed) = stage.api.get("/v1/calls").await?;
        if let Some(id) = listed["calls"][0]["id"].as_str() {
            return Ok(id.to_owned());
        }
        ensure!(std::time::Instant::now() < deadline, "no call came");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Returns an address that nobody listens at.
fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], trunkline_ports::free_port()))
}

/// Kills the cloud, lets the call come to its end without it, and starts it again.
async fn go_on_without_cloud(stage: &mut Stage) -> Result<()> {
    stage.cloud.take().context("no cloud to kill")?.kill();
    println!("  -- the cloud was killed (SIGKILL); the call goes on, what is said is shown afterwards --");
    let ended = async {
        loop {
            let lines = stage.callee.as_ref().map(trunkctl::process::Process::take_lines).unwrap_or_default();
            if lines.iter().any(|line| line.contains("\"hung_up\"")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(CALL_WITHIN, ended).await.context("the call did not end")?;
    println!("  -- the call is over; the cloud is started again and gets the record --");
    stage.restart_cloud()
}

async fn campaign(options: &Options, contacts: usize) -> Result<()> {
    let within = Duration::from_secs(120) + Duration::from_secs(2) * contacts.try_into().unwrap_or(u32::MAX);
    let size = Size { contacts, kills: options.kills.into(), within };
    let dir = options.dir.clone().unwrap_or_else(|| cache_dir().join("demo"));
    let mut plan = Plan::new(&dir, &options.scripts)?;
    plan.channels = 10;
    let args = campaign::customers(&options.personas, size);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut stage = Stage::start(plan, &args, |what| println!("  … {what}")).await?;
    println!(
        "A campaign: {contacts} customers, one box, 10 lines. They hang up at once, are busy, or decline."
    );
    let report = campaign::run(&mut stage, size, |what| println!("  {what}")).await?;
    report.check(size)?;
    println!(
        "\n{contacts} customers were called once each, and the one who opted out was not; {:.0} s, the cloud was killed {} times",
        report.took.as_secs_f64(),
        report.killed
    );
    for (reason, n) in report.campaign["reasons"].as_object().into_iter().flatten() {
        println!("  {n:>5}  {reason}");
    }
    let args = stage.verify_args();
    println!("\n$ trunkctl {}", args.join(" "));
    let program = std::env::current_exe()?;
    let verified = std::process::Command::new(program).args(&args).status().context("cannot run trunkctl")?;
    for process in [stage.callee.take(), stage.edge.take(), stage.cloud.take()].into_iter().flatten() {
        process.stop()?;
    }
    ensure!(verified.success(), "the receipts do not verify");
    Ok(())
}

/// Waits for Ctrl-C or SIGTERM, so that what was started is stopped too.
async fn stop_asked() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

fn persona_file(options: &Options) -> Result<String> {
    let named = options.personas.join(format!("{}-{}.yaml", options.lang.name(), options.persona));
    for candidate in [named.as_path(), Path::new(&options.persona)] {
        if candidate.is_file() {
            return Ok(candidate.display().to_string());
        }
    }
    bail!("there is no persona `{}`: neither {} nor a file of that name", options.persona, named.display())
}

/// Returns the address behind a `sip:` address.
fn phone_address(phone: &str) -> Result<SocketAddr> {
    let host = phone.strip_prefix("sip:").and_then(|rest| rest.split_once('@')).map(|(_, host)| host);
    let host = host.with_context(|| format!("`{phone}` is not of the form sip:user@host:port"))?;
    let with_port = if host.contains(':') { host.to_owned() } else { format!("{host}:5060") };
    let mut found = with_port.to_socket_addrs().with_context(|| format!("{with_port} cannot be found"))?;
    found.next().with_context(|| format!("{with_port} has no address"))
}

fn brief(request: &Value) -> String {
    request.to_string()
}

/// Prints a call while it runs.
#[derive(Default)]
struct Show {
    shown: Vec<u32>,
    /// Turns of the customer that were answered.
    answered: usize,
    /// A terminal: progress overwrites itself.
    in_place: bool,
    /// What ends a line of progress that was left open.
    line_end: String,
}

impl Show {
    fn event(&mut self, name: &str, data: &Value) {
        match name {
            "call.progress" => {
                let detail = data["detail"].as_str().unwrap_or_default();
                let stage = data["stage"].as_str().unwrap_or_default();
                if detail.is_empty() || !self.in_place {
                    println!("{}  [{stage}] {detail}", std::mem::take(&mut self.line_end));
                } else {
                    print!("\r  [{stage}] {detail}   ");
                    let _ = std::io::Write::flush(&mut std::io::stdout());
                    self.line_end = "\n".to_owned();
                }
            }
            "call.turn" => {
                if let Ok(turn) = serde_json::from_value::<TurnRecord>(data["turn"].clone()) {
                    self.turn(&turn);
                }
            }
            "callback" => println!(
                "  [callback] {} {}",
                data["type"].as_str().unwrap_or_default(),
                data["state"].as_str().unwrap_or_default()
            ),
            _ => {}
        }
    }

    fn turn_once(&mut self, turn: &TurnRecord) {
        if !self.shown.contains(&turn.turn) {
            self.turn(turn);
        }
    }

    fn turn(&mut self, turn: &TurnRecord) {
        if self.shown.contains(&turn.turn) {
            for robot in turn.robot.iter().filter(|robot| robot.heard > 0.0 && robot.heard < 0.99) {
                println!("           (interrupted after {:.0} % of it)", robot.heard * 100.0);
            }
            return;
        }
        self.shown.push(turn.turn);
        self.answered += usize::from(turn.customer.is_some());
        if let Some(customer) = &turn.customer {
            let barged = if customer.barged_in { " (breaking in)" } else { "" };
            println!("{:7.1} s  customer: {}{barged}", customer.start_s, customer.text);
        }
        let decision = &turn.decision;
        let understood = &decision.understanding;
        let intent = understood.intent.as_deref().unwrap_or("-");
        print!("           → node {}", decision.node);
        if turn.customer.is_some() {
            print!("  intent {intent} {:.2} ({})", understood.score, understood.layer);
            if understood.sentiment.abs() >= 0.3 {
                print!("  mood {:+.1}", understood.sentiment);
            }
            if let Some(voice) = turn.customer.as_ref().and_then(|customer| customer.voice) {
                print!("  voice {:+.1}, {}", voice.arousal, understood.temper);
            }
        }
        println!("  [{}]{}", decision.because, if decision.local { "  decided on the box" } else { "" });
        if let Some(latency) = &turn.latency {
            println!(
                "           reply after {:.0} ms: pause seen {:.0}, recognised {:.0}, cloud answered {:.0} (computing {:.0}), turn over {:.0}, first packet {:.0}",
                latency.first_packet_ms,
                latency.asr_start_ms,
                latency.asr_done_ms,
                latency.reply_ms,
                latency.cloud_ms,
                latency.turn_end_ms,
                latency.first_packet_ms
            );
        }
        for robot in &turn.robot {
            println!("{:7.1} s  robot:    {}", robot.start_s, robot.text);
        }
    }
}

fn summary(stage: &Stage, call: &Value, customer_wav: Option<&Path>) -> Result<()> {
    println!("\nOutcome");
    println!("  disposition   {} {}", text(&call["disposition"]), text(&call["cause"]));
    println!("  outcome       {} {}", text(&call["outcome"]["code"]), text(&call["outcome"]["label"]));
    println!("  slots         {}", call["slots"]);
    println!("  record        GET /v1/calls/{}", text(&call["id"]));
    let received = stage.callbacks.received();
    println!(
        "  callbacks     {} delivered with a valid signature, {} refused",
        received.len(),
        stage.callbacks.refused()
    );
    let recording = call["recording"]["path"].as_str().unwrap_or_default();
    println!("  recording     {recording}  (left the customer, right the robot)");
    for handed in call["line"]["transfers"].as_array().into_iter().flatten() {
        let [to, how, fate, who] = ["to", "how", "fate", "who"].map(|key| text(&handed[key]));
        println!("  hand-over     {to} {how} {fate} {who}");
    }
    if let Some(media) = call.get("media").filter(|media| !media.is_null()) {
        println!("  line          {media}");
    }
    if !recording.is_empty() {
        let analysis = latency::analyse_file(Path::new(recording), Side::Left, &latency::Options::default())?;
        println!("\nReply latency, measured from the box's recording\n{analysis}");
    }
    if let Some(path) = customer_wav.filter(|path| path.is_file()) {
        let analysis = latency::analyse_file(path, Side::Right, &latency::Options::default())?;
        println!("The same as the customer's own end recorded it: {}", figures(&analysis));
    }
    if let Ok(turns) = serde_json::from_value::<Vec<TurnRecord>>(call["turns"].clone()) {
        stages(&turns);
    }
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn figures(analysis: &Analysis) -> String {
    let show = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0} ms"));
    format!(
        "median {}, p95 {}, {} turns",
        show(analysis.median_ms()),
        show(analysis.p95_ms()),
        analysis.turns.len()
    )
}

/// Prints the median of each stage over the turns.
fn stages(turns: &[TurnRecord]) {
    let latencies: Vec<_> = turns.iter().filter_map(|turn| turn.latency).collect();
    if latencies.is_empty() {
        return;
    }
    println!(
        "Stages, median over {} turns, ms after the end of speech as the detector saw it",
        latencies.len()
    );
    let stage = |name: &str, of: fn(&trunkline_wire::LatencyRecord) -> f32| {
        let mut values: Vec<f32> = latencies.iter().map(of).collect();
        values.sort_by(f32::total_cmp);
        println!("  {name:<34} {:6.0}", values[values.len() / 2]);
    };
    stage("first pause seen, recogniser starts", |latency| latency.asr_start_ms);
    stage("recognised", |latency| latency.asr_done_ms);
    stage("cloud answered", |latency| latency.reply_ms);
    stage("  of which the cloud computed", |latency| latency.cloud_ms);
    stage("silence long enough, turn over", |latency| latency.turn_end_ms);
    stage("first packet of the reply", |latency| latency.first_packet_ms);
}

#[cfg(test)]
mod tests {
    use trunkline_wire::CallRecord;

    use super::*;

    #[test]
    fn a_phone_needs_a_user_and_a_host() {
        assert_eq!(phone_address("sip:me@127.0.0.1:5099").unwrap().to_string(), "127.0.0.1:5099");
        assert_eq!(phone_address("sip:me@127.0.0.1").unwrap().port(), 5060);
        assert!(phone_address("me@127.0.0.1").is_err());
    }

    #[test]
    fn a_record_of_the_first_version_is_shown_without_trouble() {
        let record: CallRecord =
            serde_json::from_str(include_str!("../../../shared/wire/src/golden/call_ended.v1.json")).unwrap();
        let mut show = Show::default();
        show.event("call.turn", &json!({ "turn": record.turns[0] }));
        assert_eq!(show.shown, [0]);
    }
}
