//! An experiment from the dialled call to the arm that is stopped.

use serde_json::{Value, json};
use trunkline_dialogue::{Script, assign};
use trunkline_wire::DialCommand;

use crate::harness::{Cloud, FakeBox, Site};

const SCRIPT: &str = include_str!("../../../../shared/dialogue/tests/data/rich-en.yaml");

async fn dialled(
    cloud: &Cloud,
    fake: &mut FakeBox,
    script: &Script,
    customer: &str,
    callee: u32,
) -> DialCommand {
    let mut variables = script.example_variables();
    variables.insert("customer".to_owned(), customer.to_owned());
    let request = json!({
        "callee": format!("+15550100{callee}"), "script_id": script.id(), "variables": variables,
    });
    let (status, call) = cloud.post("/v1/calls", &request).await;
    assert!(status.is_success(), "{call:#}");
    fake.dialled().await
}

#[tokio::test]
async fn what_an_arm_achieved_is_shown_and_who_had_a_stopped_arm_gets_control() {
    let site = Site::new();
    let scripts = site.dir.path().join("scripts");
    std::fs::create_dir(&scripts).unwrap();
    std::fs::write(scripts.join("a.yaml"), SCRIPT).unwrap();
    let config = site.config("127.0.0.1:0", "127.0.0.1:0");
    let all = config.lines().find(|line| line.contains("shared/scripts")).unwrap().trim().to_owned();
    site.write("cloud.toml", &config.replace(&all, &format!("dir = \"{}\"", scripts.display())));
    let cloud = site.start();
    let mut fake = FakeBox::connect(&site, &cloud, "tl-a", 1, 8).await;

    let script = Script::load(SCRIPT).unwrap();
    let arm_of = |customer: &str| {
        let mut variables = script.example_variables();
        variables.insert("customer".to_owned(), customer.to_owned());
        assign(&script, &variables)["tone"].clone()
    };
    let warm = (0..100).map(|n| format!("c{n}")).find(|customer| arm_of(customer) == "warm").unwrap();
    let dial = dialled(&cloud, &mut fake, &script, &warm, 501).await;
    assert!(dial.arms.is_empty(), "the script's own choice needs no word: {:?}", dial.arms);
    let end = json!({
        "call": dial.call, "script": dial.script, "started": "2026-11-22T10:00:00Z",
        "answered": "2026-11-22T10:00:05Z", "ended": "2026-11-22T10:00:35Z", "disposition": "completed",
        "outcome": { "code": "done", "label": "" }, "arms": { "tone": "warm" }, "turns": [],
    });
    fake.event(1, "call.ended", &end).await;
    let id = dial.call.to_string();
    cloud.call_when(&id, "inspected", |call| call["inspection"].is_object()).await;
    let (_, shown) = cloud.get("/v1/experiments").await;
    let arms = shown["experiments"][0]["arms"].as_array().unwrap().clone();
    let of = |arms: &[Value], name: &str| arms.iter().find(|one| one["arm"] == name).cloned().unwrap();
    assert_eq!(
        (&of(&arms, "warm")["calls"], &of(&arms, "warm")["successes"]),
        (&json!(1), &json!(1)),
        "{shown:#}"
    );
    assert_eq!(of(&arms, "control")["calls"], 0);

    let stop = json!({ "experiment": "tone", "arm": "warm", "why": "complaints" });
    let url = format!("/v1/experiments/{}/stop", script.id());
    for (wrong, status) in [
        (json!({ "experiment": "tone", "arm": "control" }), 422),
        (json!({ "experiment": "none", "arm": "warm" }), 422),
        (json!({ "arm": "warm" }), 422),
    ] {
        assert_eq!(cloud.post(&url, &wrong).await.0, status, "{wrong}");
    }
    assert_eq!(cloud.post("/v1/experiments/none/stop", &stop).await.0, 404);
    let (status, done) = cloud.post(&url, &stop).await;
    assert_eq!((status.as_u16(), &done["was_running"]), (200, &json!(true)), "{done:#}");
    let dial = dialled(&cloud, &mut fake, &script, &warm, 502).await;
    assert_eq!(dial.arms.get("tone").map(String::as_str), Some("control"));
    let (_, shown) = cloud.get("/v1/experiments").await;
    assert_eq!(of(shown["experiments"][0]["arms"].as_array().unwrap(), "warm")["why"], "complaints");
}
