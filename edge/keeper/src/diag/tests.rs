//! What must not leave the box does not, wherever it is planted; what people look for is there.

use std::collections::BTreeMap;
use std::io::Read as _;

use flate2::read::GzDecoder;
use trunkline_store::Journal;
use trunkline_wire::{CallsReport, Health, TrunkReport};

use super::*;

/// Names, numbers, spoken texts and secrets, as they might come into anything that is read.
const PLANTED: [&str; 16] = [
    "Anna Miller",
    "anna.miller",
    "王小明",
    "+8613800138000",
    "13800138000",
    "138-0013-8000",
    "yes I will pay the whole debt on Friday",
    "我星期五一定还钱",
    "hunter22-sip",
    "Digest username",
    "8613912345678",
    "Bearer sk-9f8e7d6c5b4a3f2e1d0c",
    "sk-9f8e7d6c5b4a3f2e1d0c",
    "K7QX2M9P",
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg",
    "Riverside Clinic",
];

struct Site {
    dir: tempfile::TempDir,
    sources: Sources,
}

fn site() -> Site {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "box.toml",
        "data_dir = \"data\"\n[cloud]\nmqtt = \"hq.example.net:8883\"\napi = \"https://hq.example.net:8443\"\nca = \"ca.pem\"\n[calls]\nconfig = \"edge.toml\"\n[orders]\nreboot = [\"/usr/bin/anna.miller\"]\n",
    );
    write(
        "edge.toml",
        "box = \"tl-a\"\ndata_dir = \"calls\"\nchannels = 7\n[[trunk]]\nname = \"carrier-a\"\nproxy = \"sip.example.net:5061\"\n\
         transport = \"tls\"\nuser = \"8613912345678\"\npassword_file = \"sip-password\"\ncaller_id = \"+8613800138000\"\n\
         [transfer]\n\"Anna Miller\" = \"13800138000\"\n[[phone]]\nname = \"王小明\"\npassword = \"hunter22-sip\"\n",
    );
    write("sip-password", "hunter22-sip\n");
    write("data/identity/claim", "K7QX2M9P\n");
    write(
        "data/identity/key.pem",
        "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg\n-----END PRIVATE KEY-----\n",
    );
    write(
        "data/desired.json",
        &json!({"version": 12, "hash": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "body": {
            "name": "Riverside Clinic", "updates": {"metered_mib": 64}, "Anna Miller": "王小明",
            "calls": {"trunk": [{"proxy": "192.0.2.1:5060", "user": "anna.miller", "password": "hunter22-sip"}]}}})
        .to_string(),
    );
    write(
        "data/calls.json",
        &json!({"transfer": {"anna.miller": "138-0013-8000"}, "channels": 9}).to_string(),
    );
    write("data/orders.json", &json!({"known": [{"command": {"kind": "drain"}, "at": "done", "boot": "x", "detail": "Anna Miller"}]}).to_string());
    plant_store(dir.path());
    plant_logs(&dir.path().join("data/logs"));
    let config = Config::load(&dir.path().join("box.toml")).unwrap();
    let mut history = History::open(&config.data_dir);
    history.note(&report(), "2026-11-23T10:00:00Z".parse().unwrap());
    Site { sources: Sources::new(&config), dir }
}

/// A call under way, and what it left.
fn plant_store(dir: &Path) {
    let mut journal = Journal::open(&dir.join("calls/journal")).unwrap();
    for text in PLANTED {
        journal.append(1, json!({"callee": text, "said": text}).to_string().as_bytes()).unwrap();
    }
    for folder in ["recordings", "state", "blobs", "traces"] {
        let folder = dir.join("calls").join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("13800138000 Anna Miller.wav"), PLANTED.join("\n")).unwrap();
    }
}

/// Every planted text as a message, inside one of our own sentences, and as the value of fields with all kinds of names.
fn plant_logs(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    for program in PROGRAMS {
        let mut text = String::new();
        let mut add = |message: &str, fields: &[(&str, &str)]| {
            let fields: BTreeMap<String, String> =
                fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let (level, target) = ("INFO".to_owned(), "trunkline_keeper::keep".to_owned());
            let at = "2026-11-23T10:00:00Z".parse().unwrap();
            text +=
                &serde_json::to_string(&Line { at, level, target, message: message.into(), fields }).unwrap();
            text += "\n";
        };
        add("The certificate was renewed", &[("box.id", "tl-abc"), ("free_mib", "512")]);
        for planted in PLANTED {
            add(planted, &[]);
            add(&format!("The box cannot join: {planted}"), &[("why", planted)]);
            add(
                &format!("cannot read {planted}: No such file or directory (os error 2)"),
                &[("trunk", planted)],
            );
            add(
                "heard",
                &[("text", planted), ("reason", planted), ("box.id", planted), ("call.id", planted)],
            );
            add(&format!("{planted} {planted}"), &[("script", &format!("\"{planted}\""))]);
        }
        text += "no JSON, and 13800138000 Anna Miller in it\n";
        fs::write(dir.join(format!("{program}.log")), text).unwrap();
    }
}

fn report() -> Reported {
    let trunk = TrunkReport {
        name: "carrier-a".into(),
        up: false,
        registered: Some(false),
        trouble: "403 for sip:13800138000@sip.example.net, Anna Miller".into(),
        calls_per_second: Some(5.0),
        ..TrunkReport::default()
    };
    let why = "the program said: yes I will pay the whole debt on Friday".to_owned();
    Reported {
        software: "1.4.2".into(),
        body: json!({"name": "Anna Miller"}),
        trouble: Some("王小明".into()),
        health: Some(Health {
            disk_free_mib: Some(12_345_678),
            temperature_c: Some(61),
            ..Health::default()
        }),
        calls: Some(CallsReport { state: "down".into(), why, trunks: vec![trunk], ..CallsReport::default() }),
        components: vec![
            json!({"component": "app", "stage": "committed", "reason": {"text": "Anna Miller"}}),
        ],
        ..Reported::default()
    }
}

fn unpacked(bundle: &[u8]) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(GzDecoder::new(bundle));
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files.insert(name, text);
    }
    files
}

#[test]
fn nothing_that_was_planted_leaves_the_box_and_what_people_look_for_does() {
    let site = site();
    let bundle = site.sources.bundle(Timestamp::now()).unwrap();
    let files = unpacked(&bundle);
    let logs = String::from_utf8(site.sources.logs(None, None).unwrap()).unwrap();
    for (name, text) in
        files.iter().map(|(name, text)| (name.as_str(), text.as_str())).chain([("logs", logs.as_str())])
    {
        for planted in PLANTED {
            let whole = format!("{name} {text}");
            assert!(!whole.contains(planted), "{planted} in {name}:\n{text}");
            let digits: String = planted.chars().filter(char::is_ascii_digit).collect();
            assert!(digits.len() < 7 || !whole.contains(&digits), "{digits} in {name}:\n{text}");
        }
    }
    let read = |name: &str| -> Value { serde_json::from_str(&files[&format!("diag/{name}")]).unwrap() };
    let edge = read("config/edge.json");
    assert_eq!((&edge["channels"], &edge["trunk"][0]["name"]), (&json!(7), &json!("carrier-a")));
    assert_eq!(edge["trunk"][0]["proxy"], "sip.example.net:5061");
    assert_eq!(read("config/box.json")["cloud"]["mqtt"], "hq.example.net:8883");
    let shadow = read("shadow.json");
    assert_eq!((&shadow["version"], &shadow["body"]["updates"]["metered_mib"]), (&json!(12), &json!(64)));
    assert_eq!(shadow["body"]["calls"]["trunk"][0]["proxy"], "192.0.2.1:5060");
    let store = read("store.json");
    assert_eq!((&store["journal"]["records"], &store["journal"]["torn_bytes"]), (&json!(16), &json!(0)));
    let recordings =
        store["folders"].as_array().unwrap().iter().find(|one| one["folder"] == "recordings").unwrap();
    assert_eq!(recordings["files"], 1);
    let health = &read("health.json")[0];
    assert_eq!((&health["health"]["temperature_c"], &health["software"]), (&json!(61), &json!("1.4.2")));
    assert_eq!(
        (&health["calls"]["state"], &health["calls"]["trunks"][0]["up"]),
        (&json!("down"), &json!(false))
    );
    assert_eq!(
        (&health["components"][0]["stage"], &health["at"]),
        (&json!("committed"), &json!("2026-11-23T10:00:00Z"))
    );
    assert!(health["health"]["disk_free_mib"] == 12_345_678);
    let system = read("system.json");
    assert!(
        system["health"]["disk_mib"].as_u64() > Some(0) && system["interfaces"][0]["address"].is_string()
    );
    assert!(read("versions.json")["boot"].as_str().unwrap().len() > 10);
    assert_eq!(read("orders.json")["known"][0]["command"]["kind"], "drain");
    let log = &files["diag/logs/calls.log"];
    for said in [
        "INFO",
        "The certificate was renewed box.id=tl-abc free_mib=512",
        "The box cannot join: [hidden]",
        "os error 2",
    ] {
        assert!(log.contains(said), "{said} in {log}");
    }
    drop(site.dir);
}

#[test]
fn a_bundle_is_made_of_whatever_is_there_and_stays_within_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let text = "data_dir = \"none\"\n[cloud]\nmqtt = \"c:8883\"\napi = \"https://c:8443\"\nca = \"ca.pem\"\n[calls]\nconfig = \"no.toml\"\n";
    fs::write(dir.path().join("box.toml"), text).unwrap();
    let sources = Sources::new(&Config::load(&dir.path().join("box.toml")).unwrap());
    let files = unpacked(&sources.bundle(Timestamp::now()).unwrap());
    assert!(files["diag/config/edge.json"].contains("cannot_be_read"));
    assert!(files["diag/README.txt"].contains("No recording"));
    let none = String::from_utf8(sources.logs(Some(5), None).unwrap()).unwrap();
    assert_eq!(none, "no line was logged in this time\n");
}

#[test]
fn the_last_lines_are_those_that_were_asked_for() {
    let site = site();
    let lines = |most, since: Option<&str>| {
        let since = since.map(|since| since.parse().unwrap());
        String::from_utf8(site.sources.logs(most, since).unwrap()).unwrap().lines().count()
    };
    assert_eq!(lines(Some(3), None), 3);
    assert_eq!(lines(None, Some("2026-11-23T10:00:00Z")), 2 * (1 + 5 * PLANTED.len()));
    assert_eq!(lines(None, Some("2026-11-23T10:00:01Z")), 1, "one line says that there are none");
}
