//! The fleet in words, for people at a terminal.

use serde_json::Value;

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// Returns a box in one line.
pub fn line(one: &Value) -> String {
    let enrolment = &one["enrolment"];
    let state = enrolment["state"].as_str().unwrap_or("by hand");
    let branch = enrolment["branch"].as_str().unwrap_or("-");
    let sync = one["sync"]["sync"].as_str().unwrap_or("nothing wanted");
    let app = one["components"].as_array().into_iter().flatten().find(|part| part["component"] == "app");
    let (version, stage) = match app {
        Some(app) => (text(&app["current"]["release"]["version"]), text(&app["stage"])),
        None => (one["software"].as_str().unwrap_or("-"), "-"),
    };
    format!(
        "{:<20} {state:<8} branch {branch:<8} runs {version:<8} update {stage:<12} {sync}",
        text(&one["box"])
    )
}

/// Returns everything about a box.
pub fn page(shown: &Value) -> String {
    let mut page = line(shown) + "\n";
    page += &format!("  heard of at {}\n", text(&shown["seen"]));
    page += &health(&shown["reported"]);
    for difference in shown["sync"]["differences"].as_array().into_iter().flatten() {
        let reason = difference["reason"].as_str().unwrap_or("the box does not say why");
        page += &format!(
            "  {} should be {} and is {}: {reason}\n",
            text(&difference["path"]),
            difference["wanted"],
            difference["found"]
        );
    }
    for update in shown["updates"].as_array().into_iter().flatten() {
        page += &format!("  {}: {}\n", text(&update["target"]), text(&update["why"]));
    }
    if let Some(trouble) = shown["trouble"].as_str() {
        page += &format!("  its assignment is not believed: {trouble}\n");
    }
    for entry in shown["log"].as_array().into_iter().flatten() {
        page += &format!(
            "  {}  {} {} {}\n",
            text(&entry["at"]),
            text(&entry["by"]),
            text(&entry["what"]),
            entry["detail"].as_str().unwrap_or_default()
        );
    }
    page
}

/// Returns how machine and lines of a box are, as far as it says so.
fn health(reported: &Value) -> String {
    let (machine, calls) = (&reported["health"], &reported["calls"]);
    let mut said = Vec::new();
    let mut room = |name: &str, free: &Value, all: &Value| {
        if let (Some(free), Some(all)) = (free.as_u64(), all.as_u64()) {
            said.push(format!("{name} {free} of {all} MiB free"));
        }
    };
    room("disk", &machine["disk_free_mib"], &machine["disk_mib"]);
    room("memory", &machine["memory_free_mib"], &machine["memory_mib"]);
    said.extend(machine["load"].as_f64().map(|load| format!("load {load:.1}")));
    said.extend(machine["temperature_c"].as_i64().map(|hot| format!("{hot} °C")));
    said.extend(machine["clock_off_s"].as_i64().map(|off| format!("clock off by {off} s")));
    let mut page = if said.is_empty() { String::new() } else { format!("  {}\n", said.join(", ")) };
    if let Some(state) = calls["state"].as_str() {
        let draining = if calls["draining"] == true { ", takes no new ones" } else { "" };
        let why = calls["why"].as_str().map(|why| format!(": {why}")).unwrap_or_default();
        page += &format!("  calls: {state}{why}, {} under way{draining}\n", calls["calls"]);
    }
    if reported["drained"].is_object() {
        let until = reported["drained"]["until"].as_str().map(|until| format!(" until {until}"));
        page += &format!("  drained by order{}\n", until.unwrap_or_default());
    }
    for trunk in calls["trunks"].as_array().into_iter().flatten() {
        let up = if trunk["up"] == true { "up" } else { "down" };
        let trouble = trunk["trouble"].as_str().map(|trouble| format!(": {trouble}")).unwrap_or_default();
        page += &format!("  trunk {}: {up}{trouble}\n", text(&trunk["name"]));
    }
    page
}

/// Returns an alert in one line.
pub fn alert(alert: &Value) -> String {
    let about = alert["about"].as_str().filter(|about| !about.is_empty());
    let about = about.map(|about| format!(" {about}")).unwrap_or_default();
    let silent = alert["silent_until"].as_str().map(|until| format!("  (silent until {until})"));
    let over = alert["cleared"].as_str().map(|at| format!("  (over since {at})"));
    format!(
        "{:>6}  {}  {:<20} {}{about}: {}{}",
        alert["id"].as_u64().unwrap_or_default(),
        text(&alert["since"]),
        text(&alert["box"]),
        text(&alert["kind"]),
        text(&alert["detail"]),
        over.or(silent).unwrap_or_default()
    )
}

/// Returns an order in one line.
pub fn order(order: &Value) -> String {
    let why = [&order["reason"], &order["detail"]];
    let why: Vec<&str> = why.iter().filter_map(|one| one.as_str()).filter(|one| !one.is_empty()).collect();
    let why = if why.is_empty() { String::new() } else { format!(": {}", why.join(", ")) };
    let until = order["until"].as_str().map(|until| format!(" until {until}")).unwrap_or_default();
    format!(
        "{}  {:<20} {}{until} by {}: {}{why}  {}",
        text(&order["at"]),
        text(&order["box"]),
        text(&order["kind"]),
        text(&order["by"]),
        text(&order["state"]),
        text(&order["id"]),
    )
}

/// Returns what an order waits for.
pub fn order_waits(order: &Value) -> String {
    match (text(&order["state"]), text(&order["reason"])) {
        ("queued", _) => "the box is not linked; it is told when it comes back",
        ("sent", _) => "the box was told",
        ("running", "calls_under_way") => {
            "the box takes no new calls and waits for the end of those under way"
        }
        ("running", "confirmation") => "the box waits for its program for calls",
        ("running", "starting") => "the program for calls is starting",
        ("running", "its_turn") => "the box is busy with an order before",
        ("running", _) => "the box has begun",
        ("expired", _) => "its time is over; perhaps the box has begun it",
        _ => "waiting",
    }
    .to_owned()
}

/// Returns one change of what a box should be.
pub fn change(change: &Value) -> String {
    let mut said =
        format!("{}  version {} by {}\n", text(&change["at"]), change["version"], text(&change["by"]));
    for difference in change["changed"].as_array().into_iter().flatten() {
        said +=
            &format!("  {} {} -> {}\n", text(&difference["path"]), difference["found"], difference["wanted"]);
    }
    said
}

/// Returns what a box was to be at some moment, and who had made it so.
pub fn in_force(entry: &Value) -> String {
    let document = &entry["document"];
    let body = serde_json::to_string_pretty(&document["body"]).unwrap_or_default();
    format!(
        "since {}  version {} by {}\n{body}\n",
        text(&entry["at"]),
        document["version"],
        text(&entry["by"])
    )
}

/// Returns a rollout in one line.
pub fn headline(rollout: &Value) -> String {
    let state = &rollout["state"];
    let waves: Vec<String> =
        rollout["waves"].as_array().into_iter().flatten().map(ToString::to_string).collect();
    let wave = state["wave"].as_u64().map_or(String::new(), |wave| format!(" in wave {}", wave + 1));
    let mut said = format!(
        "{}  {}{wave} (waves of {} boxes)",
        text(&rollout["id"]),
        text(&state["phase"]),
        waves.join(", ")
    );
    let cause = &state["cause"];
    match cause["cause"].as_str() {
        Some("person") => said += &format!(": {}: {}", text(&cause["name"]), text(&cause["why"])),
        Some("cannot_pass") => {
            said += &format!(": {} of the wave's {} boxes went wrong", cause["bad"], cause["of"])
        }
        Some("too_many_bad") => {
            said += &format!(": {} boxes went wrong, {} may", cause["bad"], cause["allowed"])
        }
        Some("worse") => {
            let permille = cause["by_permille"].as_u64().unwrap_or_default();
            let figure = text(&cause["figure"]).replace('_', " ");
            said +=
                &format!(": {figure}: {}.{} percentage points above the rest", permille / 10, permille % 10);
        }
        Some(other) => said += &format!(": {other}"),
        None => {}
    }
    said
}

/// Returns a rollout with a sentence for each box.
pub fn rollout(rollout: &Value) -> String {
    let mut page = headline(rollout) + "\n";
    for one in rollout["boxes"].as_array().into_iter().flatten() {
        page += &(box_of_rollout(one) + "\n");
    }
    page
}

fn box_of_rollout(one: &Value) -> String {
    format!("  wave {}  {:<20} {}", one["wave"], text(&one["box"]), text(&one["why"]))
}

/// A line of a rollout that is watched; two are equal when nothing has gone on, whatever bytes were fetched meanwhile.
pub struct Step {
    /// What is said.
    pub line: String,
    about: String,
}

impl PartialEq for Step {
    fn eq(&self, other: &Self) -> bool {
        self.about == other.about
    }
}

/// Returns the headline of a rollout and a line for each box, to be told when they change.
pub fn steps(rollout: &Value) -> Vec<Step> {
    let headline = headline(rollout);
    let boxes = rollout["boxes"].as_array().into_iter().flatten().map(|one| {
        // "downloading: 4096 bytes are left", and next "downloading: 1024 bytes are left", are one step.
        let stage = text(&one["why"]).split(": ").next().unwrap_or_default();
        Step { line: box_of_rollout(one), about: format!("{} {stage} {}", one["box"], one["standing"]) }
    });
    [Step { line: headline.clone(), about: headline }].into_iter().chain(boxes).collect()
}

/// Returns how many boxes have committed, and in a few words how the others are.
pub fn so_far(rollout: &Value) -> (u64, String) {
    let count = |standing: &str| rollout["counts"][standing].as_u64().unwrap_or_default();
    let others = [("under_way", "under way"), ("failed", "failed"), ("rolled_back", "rolled back")];
    let others = others.into_iter().chain([("silent", "silent")]).filter(|(standing, _)| count(standing) > 0);
    let others: Vec<String> =
        others.map(|(standing, words)| format!("{} {words}", count(standing))).collect();
    (count("committed"), others.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_box_that_cannot_do_what_is_wanted_says_why() {
        let shown = json!({
            "box": "tl-a", "enrolment": {"state": "issued", "branch": "0451"}, "seen": "2026-11-22T10:00:00Z",
            "sync": {"sync": "differs", "differences": [
                {"path": "/gsm", "wanted": 8, "found": null, "reason": "this version does not know it"}]},
            "components": [{"component": "app", "stage": "committed", "current": {"release": {"version": "1.1.0"}}}],
            "updates": [{"rollout": "r", "target": "app-1.1.0.json", "why": "it runs this version"}], "log": [],
        });
        assert_eq!(
            page(&shown),
            "tl-a                 issued   branch 0451     runs 1.1.0    update committed    differs\n  \
             heard of at 2026-11-22T10:00:00Z\n  /gsm should be 8 and is null: this version does not know it\n  \
             app-1.1.0.json: it runs this version\n"
        );
    }

    #[test]
    fn machine_lines_and_alerts_are_said_in_words() {
        let reported = json!({
            "health": {"disk_free_mib": 9_000, "disk_mib": 30_000, "load": 0.52, "temperature_c": 61},
            "calls": {"state": "up", "calls": 2, "draining": true, "trunks": [
                {"name": "carrier-a", "up": true}, {"name": "carrier-b", "up": false, "trouble": "408"}]},
        });
        assert_eq!(
            health(&reported),
            "  disk 9000 of 30000 MiB free, load 0.5, 61 °C\n  calls: up, 2 under way, takes no new ones\n  \
             trunk carrier-a: up\n  trunk carrier-b: down: 408\n"
        );
        assert_eq!(health(&json!({})), "");
        let shown = json!({"id": 7, "box": "tl-a", "kind": "trunk_down", "about": "carrier-b", "detail": "408",
            "since": "2026-11-23T10:00:00Z", "cleared": null, "silent_until": null});
        assert_eq!(
            alert(&shown),
            "     7  2026-11-23T10:00:00Z  tl-a                 trunk_down carrier-b: 408"
        );
    }

    #[test]
    fn an_order_says_what_came_of_it() {
        let shown = json!({"id": "019a", "box": "tl-a", "kind": "drain", "by": "li", "at": "2026-11-23T10:00:00Z",
            "until": "2026-11-23T12:00:00Z", "state": "failed", "reason": "no_calls", "detail": "it has none"});
        assert_eq!(
            order(&shown),
            "2026-11-23T10:00:00Z  tl-a                 drain until 2026-11-23T12:00:00Z by li: failed: no_calls, it has none  019a"
        );
        assert!(order_waits(&json!({"state": "running", "reason": "calls_under_way"})).contains("under way"));
    }

    #[test]
    fn a_paused_rollout_says_why() {
        let shown = json!({
            "id": "r", "waves": [1, 2],
            "state": {"phase": "paused", "wave": 0, "cause": {"cause": "cannot_pass", "bad": 1, "of": 1}},
            "boxes": [{"box": "tl-a", "wave": 1, "why": "rolled_back: never started"}],
        });
        assert_eq!(
            rollout(&shown),
            "r  paused in wave 1 (waves of 1, 2 boxes): 1 of the wave's 1 boxes went wrong\n  \
             wave 1  tl-a                 rolled_back: never started\n"
        );
    }

    #[test]
    fn of_a_rollout_that_is_watched_only_steps_are_told() {
        let at = |why: &str| {
            json!({"id": "r", "waves": [2], "state": {"phase": "running", "wave": 0},
                "counts": {"committed": 1, "under_way": 1}, "boxes": [
                {"box": "tl-a", "wave": 1, "standing": "committed", "why": "it runs this version"},
                {"box": "tl-b", "wave": 1, "standing": "under_way", "why": why}]})
        };
        let before = steps(&at("downloading: 4096 bytes are left to fetch"));
        let same = steps(&at("downloading: 1024 bytes are left to fetch"));
        assert!(before == same);
        let after = steps(&at("wait_window: it waits for a call to end"));
        let new: Vec<&str> =
            after.iter().filter(|step| !same.contains(step)).map(|step| &step.line[..]).collect();
        assert_eq!(new, ["  wave 1  tl-b                 wait_window: it waits for a call to end"]);
        assert_eq!(so_far(&at("x")), (1, "1 under way".into()));
        let worse =
            json!({"phase": "paused", "cause": {"cause": "worse", "figure": "opt_outs", "by_permille": 25}});
        let said = headline(&json!({"id": "r", "waves": [2], "state": worse}));
        assert!(said.ends_with(": opt outs: 2.5 percentage points above the rest"), "{said}");
    }
}
