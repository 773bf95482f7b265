//! The whole chain over loopback: API, broker, box, SIP, RTP, whisper, understanding, Kokoro.
//!
//! The customer is a process of its own that shares nothing with the robot but SIP and RTP. Run one
//! at a time: what is measured is a machine with nothing else to do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use trunkctl::campaign::{self, Size};
use trunkctl::fleet::{self, FleetPlan};
use trunkctl::process::Usage;
use trunkctl::stage::{Plan, Stage};
use trunkline_audio::latency::{self, Options, Side};

#[path = "e2e/early.rs"]
mod early;

const CALL_WITHIN: Duration = Duration::from_secs(600);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn persona(name: &str) -> String {
    root().join(format!("deploy/personas/{name}.yaml")).display().to_string()
}

fn plan(dir: &Path) -> Plan {
    Plan::new(dir, &root().join("shared/scripts")).unwrap()
}

fn request(lang: &str, number: u32, callback: &str) -> Value {
    let day = jiff::Zoned::now().date().checked_add(jiff::Span::new().days(3)).unwrap().to_string();
    match lang {
        "zh" => json!({
            "script_id": "repayment-reminder-zh", "callee": format!("+861380013{number:04}"), "callback_url": callback,
            "variables": { "org": "和顺银行", "name": "王芳", "amount": "1280.50", "due_date": day },
        }),
        _ => json!({
            "script_id": "appointment-confirmation-en", "callee": format!("+120255501{number:02}"),
            "callback_url": callback,
            "variables": { "org": "Riverside Clinic", "name": "Anna Miller", "doctor": "Doctor Patel",
                "date": day, "time": "15:30" },
        }),
    }
}

/// Starts a stage whose customer is `personas[0]`, and each further persona at its own number.
async fn stage(dir: &Path, personas: &[(&str, &str)], change: impl FnOnce(&mut Plan)) -> Stage {
    let mut plan = plan(dir);
    change(&mut plan);
    let mut args = vec!["--persona".to_owned(), persona(personas[0].1)];
    for (number, name) in &personas[1..] {
        args.push("--persona-for".to_owned());
        args.push(format!("{number}={}", persona(name)));
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Stage::start(plan, &args, |what| println!("… {what}")).await.unwrap()
}

async fn call(stage: &Stage, request: &Value) -> Value {
    let id = stage.api.call(request).await.unwrap();
    stage.api.wait_ended(&id, CALL_WITHIN).await.unwrap()
}

/// What `trunkctl call trace` shows of a call on the box.
fn trace(stage: &Stage, call: &Value) -> String {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_trunkctl"));
    let done = command
        .args(["call", "trace", call["id"].as_str().unwrap(), "--config"])
        .arg(stage.dir().join("edge.toml"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn transcript(call: &Value) -> String {
    let turns = call["turns"].as_array().cloned().unwrap_or_default();
    let lines = turns.iter().map(|turn| {
        let robot: Vec<_> =
            turn["robot"].as_array().into_iter().flatten().map(|said| said["text"].clone()).collect();
        format!(
            "{} | {} -> {} {} | {robot:?}",
            turn["turn"], turn["customer"]["text"], turn["decision"]["node"], turn["decision"]["because"]
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Three customers on one script end with three outcomes; the answers come in time.
async fn three_customers(lang: &str, numbers: [u32; 3]) {
    let dir = tempfile::tempdir().unwrap();
    let full = |number: u32| {
        if lang == "zh" { format!("+861380013{number:04}") } else { format!("+120255501{number:02}") }
    };
    let (declines, optout) = (full(numbers[1]), full(numbers[2]));
    let names = ["agrees", "declines", "optout"].map(|kind| format!("{lang}-{kind}"));
    let personas = [
        ("", names[0].as_str()),
        (declines.as_str(), names[1].as_str()),
        (optout.as_str(), names[2].as_str()),
    ];
    let mut stage = stage(dir.path(), &personas, |_| {}).await;
    let url = stage.callbacks.url();
    let mut latencies = Vec::new();
    for (number, outcome) in numbers.iter().zip(["agreed", "declined", "opt_out"]) {
        let call = call(&stage, &request(lang, *number, &url)).await;
        println!("{outcome}\n{}", transcript(&call));
        assert_eq!(call["outcome"]["code"], outcome, "{}", transcript(&call));
        assert_eq!(call["suppress"], outcome == "opt_out");
        let recording = call["recording"]["path"].as_str().unwrap();
        let analysis = latency::analyse_file(Path::new(recording), Side::Left, &Options::default()).unwrap();
        assert!(!analysis.turns.is_empty(), "no answered turn in {recording}");
        println!("{analysis}");
        latencies.extend(analysis.turns.iter().map(|turn| turn.latency_ms));
        if outcome == "agreed" {
            let linked =
                call["turns"].as_array().unwrap().iter().filter(|turn| turn["customer"].is_object()).count();
            assert!(linked >= 5, "{linked} linked turns\n{}", transcript(&call));
        }
    }
    latencies.sort_by(f64::total_cmp);
    println!("{lang}: median {:.0} ms over {} turns", latencies[latencies.len() / 2], latencies.len());

    // Who asked not to be called again is not called again.
    let (status, answer) = stage.api.post("/v1/calls", &request(lang, numbers[2], &url)).await.unwrap();
    assert_eq!((status, answer["code"].as_str()), (422, Some("suppressed")), "{answer}");
    let ended: Vec<_> =
        stage.callbacks.received().into_iter().filter(|one| one["type"] == "call.ended").collect();
    assert_eq!(ended.len(), 3, "each call is reported once");
    assert_eq!(stage.callbacks.refused(), 0);
    for process in [stage.callee.take(), stage.edge.take(), stage.cloud.take()].into_iter().flatten() {
        process.stop().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_customers_end_with_three_outcomes_in_mandarin() {
    three_customers("zh", [1001, 1002, 1003]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_customers_end_with_three_outcomes_in_english() {
    three_customers("en", [41, 42, 43]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_outlives_the_cloud_and_its_record_arrives_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let mut stage = stage(dir.path(), &[("", "zh-agrees")], |_| {}).await;
    let request = request("zh", 2001, &stage.callbacks.url());
    let id = stage.api.call(&request).await.unwrap();
    // Killed once the customer has said something: in the middle of the conversation.
    loop {
        let call = stage.api.show(&id).await.unwrap();
        if call["turns"].as_array().is_some_and(|turns| turns.iter().any(|turn| turn["customer"].is_object()))
        {
            break;
        }
        assert_ne!(call["status"], "ended", "{}", transcript(&call));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stage.cloud.take().unwrap().kill();
    // The box takes the turns itself, and the customer notices nothing.
    let mut customer = Vec::new();
    for _ in 0..1_200 {
        customer.extend(stage.callee.as_ref().unwrap().take_lines());
        if customer.iter().any(|line: &String| line.contains("\"hung_up\"")) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let hung_up = customer.iter().find(|line| line.contains("\"hung_up\"")).expect("the call never ended");
    assert!(hung_up.contains("\"robot\""), "{hung_up}");
    stage.restart_cloud().unwrap();
    let call = stage.api.wait_ended(&id, Duration::from_secs(90)).await.unwrap();
    println!("{}", transcript(&call));
    assert_eq!(
        (&call["disposition"], &call["outcome"]["code"]),
        (&json!("completed"), &json!("agreed")),
        "{call}"
    );
    let turns = call["turns"].as_array().unwrap().iter().filter(|turn| turn["customer"].is_object());
    let own: Vec<bool> = turns.map(|turn| turn["decision"]["local"] == true).collect();
    assert!(own.len() >= 5 && !own[0] && own[1..].iter().filter(|own| **own).count() >= 3, "{own:?}\n{call}");
    let ended = stage.callbacks.received().into_iter().filter(|one| one["type"] == "call.ended").count();
    assert_eq!(ended, 1, "the record counts once");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_calls_one_after_another_leak_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let stage = stage(dir.path(), &[("", "hang-up-at-once")], |_| {}).await;
    let url = stage.callbacks.url();
    let usage = |stage: &Stage| {
        [&stage.cloud, &stage.edge, &stage.callee]
            .map(|process| process.as_ref().map(|p| p.usage()).unwrap_or_default())
    };
    // Threads and pools are filled by the first calls.
    for number in 3000..3003 {
        call(&stage, &request("zh", number, &url)).await;
    }
    tokio::time::sleep(Duration::from_secs(12)).await;
    let before = usage(&stage);
    for number in 3003..3013 {
        let call = call(&stage, &request("zh", number, &url)).await;
        assert_eq!(call["disposition"], "customer_hung_up", "{call}");
        assert!(call["outcome"]["code"].is_string(), "{call}");
    }
    tokio::time::sleep(Duration::from_secs(12)).await;
    let after = usage(&stage);
    for (name, (before, after)) in ["cloud", "box", "customer"].iter().zip(before.iter().zip(&after)) {
        println!("{name}: before {before:?}, after ten calls {after:?}");
        assert_kept(name, *before, *after);
    }
}

fn assert_kept(name: &str, before: Usage, after: Usage) {
    assert!(after.files <= before.files + 2, "{name} keeps files open");
    assert!(after.threads <= before.threads + 4, "{name} keeps threads");
    assert!(after.memory_kib <= before.memory_kib + before.memory_kib / 10 + 20_000, "{name} keeps memory");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_who_breaks_in_stops_the_prompt() {
    let dir = tempfile::tempdir().unwrap();
    let stage = stage(dir.path(), &[("", "zh-interrupts")], |_| {}).await;
    let call = call(&stage, &request("zh", 4001, &stage.callbacks.url())).await;
    println!("{}", transcript(&call));
    let turns = call["turns"].as_array().unwrap();
    assert!(turns.iter().any(|turn| turn["customer"]["barged_in"] == true), "{call}");
    let cut = turns.iter().flat_map(|turn| turn["robot"].as_array().cloned().unwrap_or_default());
    let cut: Vec<f64> = cut.filter_map(|said| said["heard"].as_f64()).filter(|heard| *heard < 0.95).collect();
    assert!(!cut.is_empty(), "no prompt was cut: {call}");
}

/// Waits for `count` calls and returns the newest.
async fn newest(stage: &Stage, count: usize) -> Value {
    for _ in 0..600 {
        let (_, listed) = stage.api.get("/v1/calls").await.unwrap();
        let calls = listed["calls"].as_array().cloned().unwrap_or_default();
        if calls.len() >= count {
            return calls[0].clone();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("there never were {count} calls");
}

const WANTS_NONE: &str = "schema: trunkline/persona/1\nname: 李先生，打回来要求不再来电\nlocale: zh-CN\n\
    voice: zm_yunjian\nthinking: {min: 0.2s, max: 0.5s}\nrules: [{hear: any, say: 不要再给我打电话了。}]\n";

/// A customer calls the number that a script is bound to, and another one while the cloud is away.
#[tokio::test(flavor = "multi_thread")]
async fn a_customer_who_calls_reaches_the_script_of_the_number_also_while_the_cloud_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let free = || std::net::SocketAddr::from(([127, 0, 0, 1], trunkline_ports::free_port()));
    let bind = free();
    let plan = Plan { trunk: Some(free()), bind: Some(bind), ..plan(dir.path()) };
    let mut stage = Stage::start(plan, &[], |what| println!("… {what}")).await.unwrap();
    let mut binding = request("zh", 0, &stage.callbacks.url());
    binding.as_object_mut().unwrap().remove("callee");
    binding["number"] = "+862155550100".into();
    let (status, made) = stage.api.post("/v1/numbers", &binding).await.unwrap();
    assert_eq!(status, 201, "{made:#}");
    let log = dir.path().join("logs/box.log");
    for _ in 0..1_200 {
        if std::fs::read_to_string(&log).unwrap().contains("Calls from customers are answered") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    // As a trunk in the same country writes it.
    let to = format!("sip:02155550100@{bind}");
    // She need not listen to know what she wants.
    let optout = dir.path().join("wants-none.yaml").display().to_string();
    std::fs::write(&optout, WANTS_NONE).unwrap();
    let from = "+8613800138099";
    stage.start_callee(&["--persona", &optout, "--once", "--dial", &to, "--from", from]).unwrap();
    let call = newest(&stage, 1).await;
    let call = stage.api.wait_ended(call["id"].as_str().unwrap(), CALL_WITHIN).await.unwrap();
    println!("{}", transcript(&call));
    assert_eq!((&call["direction"], &call["callee"]), (&json!("inbound"), &json!(from)), "{call:#}");
    assert_eq!((&call["called"], &call["suppress"]), (&json!("+862155550100"), &json!(true)));
    assert_eq!(call["outcome"]["code"], "opt_out", "{}", transcript(&call));
    let understood = call["turns"].as_array().unwrap().iter().filter(|turn| turn["customer"].is_object());
    assert!(understood.clone().any(|turn| turn["decision"]["local"] != true), "no turn went to the cloud");
    assert!(Path::new(call["recording"]["path"].as_str().unwrap()).exists());
    let mut again = request("zh", 0, &stage.callbacks.url());
    again["callee"] = from.into();
    let (status, answer) = stage.api.post("/v1/calls", &again).await.unwrap();
    assert_eq!((status, answer["code"].as_str()), (422, Some("suppressed")), "{answer}");

    stage.callee.take().unwrap().stop().unwrap();
    stage.cloud.take().unwrap().kill();
    let quick = persona("hang-up-at-once");
    stage.start_callee(&["--persona", &quick, "--once", "--dial", &to, "--from", "anonymous"]).unwrap();
    let mut told = Vec::new();
    for _ in 0..300 {
        told.extend(stage.callee.as_ref().unwrap().take_lines());
        if told.iter().any(|line: &String| line.contains("\"ended\"")) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(told.iter().any(|line| line.contains("\"outcome\":\"answered\"")), "{told:?}");
    stage.restart_cloud().unwrap();
    let call = newest(&stage, 2).await;
    let call = stage.api.wait_ended(call["id"].as_str().unwrap(), CALL_WITHIN).await.unwrap();
    assert_eq!(call["callee"], "sip:anonymous@anonymous.invalid", "{call:#}");
    assert_eq!((&call["direction"], &call["disposition"]), (&json!("inbound"), &json!("customer_hung_up")));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let told: Vec<String> = (stage.callbacks.received().iter())
        .map(|one| one["type"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(told, ["call.ringing", "call.answered", "call.ended"].repeat(2));
}

/// Of two desks the first is busy. Who sits at the second hears who calls and why, and then the two talk through the
/// box: each understands what the other says. A supervisor, whom `trunkctl call listen` has called, hears all of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_customer_is_handed_over_and_talks_with_the_person_through_the_box() {
    let dir = tempfile::tempdir().unwrap();
    let personas = [("", "en-asks-person"), ("8001", "busy"), ("8002", "en-desk"), ("8003", "en-desk")];
    let stage = stage(dir.path(), &personas, |plan| {
        plan.edge_extra = "[supervise]\nto = [\"8003\"]\n[transfer]\n\
                           branch = { to = [\"8001\", \"8002\"], each = \"10s\" }\n"
            .to_owned();
    })
    .await;
    let id = stage.api.call(&request("en", 44, &stage.callbacks.url())).await.unwrap();
    let path = format!("/v1/calls/{id}/supervise");
    // Who is not named in `[supervise]` is never called.
    for to in ["8001", "8003"] {
        let answered =
            async || stage.api.post(&path, &json!({ "mode": "listen", "to": to })).await.unwrap().0;
        while answered().await != 202 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let call = stage.api.wait_ended(&id, CALL_WITHIN).await.unwrap();
    println!("{}", transcript(&call));
    let told: Vec<Value> =
        stage.callee.as_ref().unwrap().take_lines().iter().flat_map(|l| serde_json::from_str(l)).collect();
    let desk =
        told.iter().find(|one| one["event"] == "ringing" && one["number"] == "8002").map(|one| &one["call"]);
    let heard = |number: &Value| -> String {
        let of_call = told.iter().filter(|one| one["event"] == "heard" && one["call"] == *number);
        of_call.filter_map(|one| one["text"].as_str()).collect::<Vec<_>>().join(" | ").to_lowercase()
    };
    let (customer, person) = (heard(&json!(1)), heard(desk.expect("the second desk rings")));
    println!("the customer heard: {customer}\nthe person heard: {person}");
    assert_eq!(
        (&call["disposition"], &call["outcome"]["code"]),
        (&json!("transferred"), &json!("transferred")),
        "{told:#?}"
    );
    assert!(
        person.contains("appointment") && !customer.contains("handed over"),
        "the summary is the person's alone"
    );
    assert!(customer.contains("front desk") && customer.contains("garage"), "{customer}");
    assert!(person.contains("park"), "{person}");
    let rang = |number: &str| {
        told.iter().filter(|one| one["event"] == "ringing" && one["number"] == number).collect::<Vec<_>>()
    };
    assert!(
        rang("8001").len() <= 1 && rang("8003").len() == 1,
        "the busy desk is called for the customer alone"
    );
    let supervisor = heard(&rang("8003")[0]["call"]);
    println!("the supervisor heard: {supervisor}");
    assert!(supervisor.contains("park") && supervisor.contains("front desk"), "{supervisor}");
    let handed = &call["line"]["transfers"][0];
    let told = ["to", "how", "fate", "who"].map(|key| handed[key].as_str().unwrap_or_default());
    assert_eq!(told, ["branch", "bridge", "done", "8002"], "{handed}");
}

/// A voicemail is waited for, and gets the script's message after its beep.
#[tokio::test(flavor = "multi_thread")]
async fn a_voicemail_gets_its_message_after_the_beep() {
    let dir = tempfile::tempdir().unwrap();
    let stage = stage(dir.path(), &[("", "en-voicemail")], |_| {}).await;
    let call = call(&stage, &request("en", 7, &stage.callbacks.url())).await;
    println!("{}\n{}", call["cause"], transcript(&call));
    assert_eq!(call["disposition"], "machine", "{call}");
    let cause = call["cause"].as_str().unwrap();
    assert!(cause.contains("beep") && cause.ends_with("a message was left"), "{cause}");
    let turns = call["turns"].as_array().unwrap();
    let last = &turns.last().unwrap()["robot"][0];
    assert!(last["text"].as_str().unwrap().contains("automated call about an appointment"), "{call}");
    assert_eq!(last["heard"], 1.0, "{call}");
}

/// What goes wrong on the line ends with a disposition that says what it was, on API and callback.
#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_on_the_line_is_told_as_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let numbers: Vec<String> = (5000..5006).map(|number| format!("+861380013{number:04}")).collect();
    let personas = [
        ("", "hang-up-at-once"),
        (numbers[1].as_str(), "busy"),
        (numbers[2].as_str(), "reject-488"),
        (numbers[3].as_str(), "no-answer"),
        (numbers[4].as_str(), "forbidden"),
    ];
    let mut stage =
        stage(dir.path(), &personas, |plan| plan.cloud_extra = "[calls]\nring = \"5s\"\n".to_owned()).await;
    let url = stage.callbacks.url();
    for (number, disposition, code) in [
        (5000, "customer_hung_up", None),
        (5001, "busy", Some(486)),
        (5002, "codec_mismatch", Some(488)),
        (5003, "no_answer", None),
        (5004, "trunk_refused", Some(403)),
    ] {
        let call = call(&stage, &request("zh", number, &url)).await;
        println!("{disposition}: {}", call["cause"]);
        assert_eq!(call["disposition"], disposition, "{call}");
        let ladder = trace(&stage, &call);
        assert!(ladder.contains("INVITE sip:") && ladder.contains(disposition), "{ladder}");
        if disposition == "customer_hung_up" {
            assert!(ladder.contains("BYE sip:") && ladder.contains("Sound: PCMA, in the clear"), "{ladder}");
        }
        if let Some(code) = code {
            assert!(ladder.contains(&format!("◀── far  {code} ")), "{ladder}");
            assert_eq!(call["sip_code"], code);
        }
    }
    // Nobody is there any more: the same trunk, a dead port.
    stage.callee.take().unwrap().stop().unwrap();
    let call = call(&stage, &request("zh", 5005, &url)).await;
    assert_eq!(call["disposition"], "unreachable", "{call}");

    let told: Vec<_> =
        stage.callbacks.received().into_iter().filter(|one| one["type"] == "call.ended").collect();
    let told: Vec<_> =
        told.iter().map(|one| one["data"]["disposition"].as_str().unwrap_or_default()).collect();
    assert_eq!(
        told,
        ["customer_hung_up", "busy", "codec_mismatch", "no_answer", "trunk_refused", "unreachable"]
    );

    // What the API refuses before anything is dialled.
    for (change, status, code) in [
        (json!({ "script_id": "no-such-script" }), 422, "unknown_script"),
        (json!({ "callee": "12345" }), 422, "malformed_number"),
        (json!({ "variables": { "name": "王芳" } }), 422, "missing_variable"),
    ] {
        let mut wrong = request("zh", 5005, &url);
        for (key, value) in change.as_object().unwrap() {
            wrong[key] = value.clone();
        }
        let (got, answer) = stage.api.post("/v1/calls", &wrong).await.unwrap();
        assert_eq!((got, answer["code"].as_str()), (status, Some(code)), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trunk_that_refuses_us_is_told_as_that() {
    let dir = tempfile::tempdir().unwrap();
    let credentials = dir.path().join("trunk.password");
    trunkctl::setup::write(&credentials, "not-the-right-one\n", 0o600).unwrap();
    let stage = stage(dir.path(), &[("", "wrong-password")], |plan| {
        plan.trunk_extra = "user = \"branch1\"\npassword_file = \"trunk.password\"\n".to_owned();
    })
    .await;
    let call = call(&stage, &request("zh", 6001, &stage.callbacks.url())).await;
    assert_eq!(call["disposition"], "trunk_refused", "{call}");
    assert!(matches!(call["sip_code"].as_u64(), Some(401 | 403 | 407)), "{call}");
}

/// What is wrong with the machine is said at the start, in a sentence that names it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_box_is_said_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let no_sound_card =
        Plan { edge_extra: "[monitor]\ndevice = \"no-such-card\"\n".to_owned(), ..plan(dir.path()) };
    let models = dir.path().join("models");
    std::fs::create_dir(&models).unwrap();
    std::fs::write(models.join("silero-vad.onnx"), b"half a model").unwrap();
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let wrong_model = format!("models = \"{}\"\n", models.display());
    let with_trunk = |mut plan: Plan| {
        plan.trunk = Some(taken.local_addr().unwrap());
        plan
    };
    let port_taken = Plan { bind: Some(taken.local_addr().unwrap()), ..plan(dir.path()) };
    for (plan, expected) in [
        (with_trunk(port_taken), "is another program using it"),
        (with_trunk(no_sound_card), "no-such-card"),
        (with_trunk(Plan { edge_extra: wrong_model, ..plan(dir.path()) }), "silero-vad.onnx"),
    ] {
        let error = Stage::start(plan, &[], |_| {}).await.expect_err("it must not start");
        let text = format!("{error:#}");
        assert!(text.contains(expected), "{text}");
    }
}

/// A box without room for recordings takes no call and says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_box_without_disk_space_refuses_the_call_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let stage = stage(dir.path(), &[("", "hang-up-at-once")], |plan| {
        plan.edge_extra = "[recording]\nmin_free_mib = 1000000000\n".to_owned();
    })
    .await;
    let call = call(&stage, &request("zh", 7001, &stage.callbacks.url())).await;
    assert_eq!(call["disposition"], "box_fault", "{call}");
    assert!(call["cause"].as_str().unwrap().contains("disk space"), "{call}");
}

/// Three boxes join, are configured and updated by a canary wave, one of them not before its call is over; a bad
/// version falls back and stops there.
#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_joins_is_updated_and_survives_a_bad_version() {
    let dir = tempfile::tempdir().unwrap();
    let plan = FleetPlan {
        dir: dir.path().join("fleet"),
        programs: fleet::programs_beside().unwrap(),
        scripts: fleet::scripts_in(&root().join("shared/scripts")).unwrap(),
        personas: root().join("deploy/personas"),
        boxes: 3,
    };
    let began = std::time::Instant::now();
    let account =
        fleet::demonstrate(&plan, |what| println!("{:6.1} s  {what}", began.elapsed().as_secs_f64()))
            .await
            .unwrap();
    for one in &account.boxes {
        assert_eq!(one["enrolment"]["state"], "issued", "{one:#}");
        let app = &one["components"][0];
        assert_eq!(app["current"]["release"]["version"], "1.1.0", "{one:#}");
    }
    let difference = account.boxes.iter().find(|one| one["sync"]["sync"] == "differs").unwrap();
    assert_eq!(difference["sync"]["differences"][0]["reason"], "this version does not know it");
    assert_eq!(account.good["state"]["phase"], "finished");
    assert_eq!(account.bad["state"]["cause"]["cause"], "cannot_pass");
    for one in account.bad["boxes"].as_array().unwrap() {
        let canary = one["box"] == account.canary.as_str();
        let expected = if canary { "the test call had no sound" } else { "the rollout is paused" };
        assert!(one["why"].as_str().unwrap().contains(expected), "{one}");
    }
    let waited = account.waited.expect("the update waited for the call");
    assert!(waited.contains("it waits for a call to end"), "{waited}");
    assert_eq!(account.call["outcome"]["code"], "agreed", "{:#}", account.call);
    holds_no_customer(&account.bundle);
}

/// Looks through everything that a box which has held a call says of itself.
fn holds_no_customer(bundle: &Path) {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(bundle).unwrap()));
    let mut all = String::new();
    for entry in archive.entries().unwrap() {
        std::io::Read::read_to_string(&mut entry.unwrap(), &mut all).unwrap();
    }
    for word in ["Anna", "Miller", "Patel", "Riverside", "2025550143", "862155550100", "BEGIN PRIVATE"] {
        assert!(!all.contains(word), "{word} in {all}");
    }
    for word in ["\"name\": \"carrier\"", "\"journal\"", "disk_mib", "The keeper is linked to the cloud"] {
        assert!(all.contains(word), "no {word} in {all}");
    }
}

/// 200 customers, each with a telephone that counts how often it rings. They hang up at once, are busy, or
/// decline; the cloud is killed twice on the way.
#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_calls_two_hundred_once_each_though_the_cloud_is_killed_twice_and_its_receipts_verify() {
    let dir = tempfile::tempdir().unwrap();
    let size = Size { contacts: 200, kills: 2, within: Duration::from_secs(300) };
    let args = campaign::customers(&root().join("deploy/personas"), size);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut stage =
        Stage::start(Plan { channels: 10, ..plan(dir.path()) }, &args, |what| println!("… {what}"))
            .await
            .unwrap();
    let report = campaign::run(&mut stage, size, |what| println!("{what}")).await.unwrap();
    println!("{} telephones in {:?}", report.rang.len(), report.took);
    report.check(size).unwrap();
    assert_eq!(report.killed, 2);

    let verify =
        std::process::Command::new(env!("CARGO_BIN_EXE_trunkctl")).args(stage.verify_args()).output();
    let verify = verify.unwrap();
    let said = String::from_utf8_lossy(&verify.stdout).into_owned();
    assert!(verify.status.success(), "{said}{}", String::from_utf8_lossy(&verify.stderr));
    // Made, leased, and judged once more on the box in the second before dialling.
    let receipts: u64 = said.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap();
    assert!(receipts >= 3 * size.contacts as u64, "{said}");
    // The box's own chain holds too, beyond the kills.
    let file = dir.path().join("box/receipts.jsonl").display().to_string();
    let own = ["receipts", "verify", &file];
    let own = std::process::Command::new(env!("CARGO_BIN_EXE_trunkctl")).args(own).output().unwrap();
    let said = String::from_utf8_lossy(&own.stdout).into_owned();
    assert!(own.status.success() && said.starts_with("ok: 200 receipts"), "{said}");
}

const TINY: &str = r#"schema: trunkline/script/1
id: tiny
locale: en-US
purpose: notice
voice: {name: af_heart}
vars: {org: {type: text, required: true}}
nodes:
  - id: open
    say: "This is the automated assistant of {org}, and this call is recorded. All right?"
    barge_in: {off_until: this call is recorded}
    on: {"yes": bye, "no": bye}
  - {id: bye, say: "Goodbye.", end: done}
handoff: {to: desk, fail: bye}
outcomes: [{code: transferred}, {code: opt_out}, {code: done, when: "true"}]
"#;

/// The customer opts out while the box is still rendering her prompts: the lease is given, and her telephone
/// does not ring.
#[tokio::test(flavor = "multi_thread")]
async fn an_opt_out_between_lease_and_dialling_keeps_the_telephone_from_ringing() {
    let dir = tempfile::tempdir().unwrap();
    // Few prompts, none of them rendered: some seconds of preparation.
    let (prompts, scripts) = (dir.path().join("prompts"), dir.path().join("scripts"));
    std::fs::create_dir(&scripts).unwrap();
    std::fs::write(scripts.join("tiny.yaml"), TINY).unwrap();
    let stage = stage(dir.path(), &[("", "hang-up-at-once")], |plan| {
        (plan.prompts, plan.scripts) = (Some(prompts), scripts);
    })
    .await;
    let asked = json!({
        "script_id": "tiny", "callee": "+8613800138001", "variables": { "org": "Riverside Clinic" },
        "callback_url": stage.callbacks.url(),
    });
    let id = stage.api.call(&asked).await.unwrap();
    while stage.api.show(&id).await.unwrap()["status"] != "preparing" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let opt_out = json!({ "callee": "+8613800138001" });
    stage.api.expect(201, "/v1/opt-outs", &opt_out).await.unwrap();
    let call = stage.api.wait_ended(&id, CALL_WITHIN).await.unwrap();
    assert_eq!(
        (call["disposition"].as_str(), call["cause"].as_str()),
        (Some("cancelled"), Some("not permitted: opted_out")),
        "{call}"
    );
    let rang = stage.callee.as_ref().unwrap().take_lines();
    assert!(!rang.iter().any(|line| line.contains("\"ringing\"")), "{rang:?}");
    let (_, receipts) = stage.api.get(&format!("/v1/calls/{id}/receipt")).await.unwrap();
    let last = receipts["receipts"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (&last["body"]["stage"], &last["body"]["decision"]["reason"]),
        (&json!("dial"), &json!("opted_out"))
    );
    assert_eq!(last["body"]["anchor"]["follows"], true, "{last:#}");
    let (_, state) = stage.api.get("/v1/suppressions").await.unwrap();
    assert_eq!(
        (&state["head"], &state["boxes"][0]["upto"]),
        (&json!(1), &json!(1)),
        "the box has confirmed it"
    );
}
