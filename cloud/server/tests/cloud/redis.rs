//! Calls as other systems see them, in a real Redis that dies and comes back empty.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::Commands;
use serde_json::{Value, json};

use crate::harness::{Cloud, FakeBox, Site};

/// A Redis of our own on a free port of this machine. It keeps nothing on disk.
struct Redis {
    process: Child,
    port: u16,
}

impl Redis {
    /// `None` where there is none and need not be one.
    fn start(site: &Site, port: Option<u16>) -> Option<Self> {
        let port = port.unwrap_or_else(trunkline_ports::free_port);
        let started = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--requirepass", "not a secret", "--dir"])
            .arg(site.dir.path())
            .stdout(Stdio::null())
            .spawn();
        let Ok(process) = started else {
            println!("skipped: redis-server missing, run apt-get install redis-server");
            assert_ne!(
                std::env::var("TRUNKLINE_REQUIRE_PEERS").as_deref(),
                Ok("1"),
                "the peers are required here"
            );
            return None;
        };
        let redis = Self { process, port };
        let began = Instant::now();
        while redis.open().is_none() {
            assert!(began.elapsed() < Duration::from_secs(10), "Redis does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(redis)
    }

    fn url(port: u16) -> String {
        format!("redis://:not%20a%20secret@127.0.0.1:{port}")
    }

    fn open(&self) -> Option<redis::Connection> {
        redis::Client::open(Self::url(self.port)).unwrap().get_connection().ok()
    }

    /// Waits until a call's hash has this status and returns it.
    fn status(&self, call: &str, status: &str) -> std::collections::BTreeMap<String, String> {
        let mut connection = self.open().unwrap();
        let began = Instant::now();
        loop {
            let hash: std::collections::BTreeMap<String, String> =
                connection.hgetall(format!("call:{call}")).unwrap();
            if hash.get("status").is_some_and(|found| found == status) {
                return hash;
            }
            assert!(began.elapsed() < Duration::from_secs(40), "{call} never was {status}: {hash:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Has a call dialled; returns its id and how long that took.
async fn dialled(cloud: &Cloud, fake: &mut FakeBox, callee: &str) -> (String, Duration) {
    let began = Instant::now();
    let request = json!({
        "callee": callee, "script_id": "appointment-confirmation-en", "external_id": "crm-7",
        "variables": { "org": "Riverside Clinic", "name": "Alex Morgan", "doctor": "Doctor Patel",
            "date": "2026-11-27", "time": "15:00" },
    });
    let (status, call) = cloud.post("/v1/calls", &request).await;
    assert!(status.is_success(), "{call:#}");
    let call = fake.dialled().await.call;
    (call.to_string(), began.elapsed())
}

fn ended(call: &str) -> Value {
    let now = jiff::Timestamp::now();
    json!({
        "call": call, "script": { "id": "appointment-confirmation-en", "version": "0".repeat(64) },
        "started": now, "answered": now, "ended": now,
        "disposition": "completed", "outcome": { "code": "agreed", "label": "Confirmed" }, "turns": [],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_stand_in_redis_and_a_redis_that_was_away_delays_nothing_and_is_filled_again() {
    let site = Site::new();
    let Some(redis) = Redis::start(&site, None) else { return };
    let port = redis.port;
    site.write("redis.url", &Redis::url(port));
    let config = site.config("127.0.0.1:0", "127.0.0.1:0");
    site.write("cloud.toml", &format!("{config}\n[redis]\nurl_file = \"redis.url\"\nttl = \"1h\"\n"));
    let cloud = site.start();
    let mut fake = FakeBox::connect(&site, &cloud, "tl-a", 1, 8).await;

    let (first, usual) = dialled(&cloud, &mut fake, "+15550100401").await;
    fake.event(1, "call.progress", &json!({ "call": first, "stage": "answered" })).await;
    let hash = redis.status(&first, "answered");
    assert_eq!(
        (hash["script_id"].as_str(), hash["external_id"].as_str()),
        ("appointment-confirmation-en", "crm-7")
    );
    assert_eq!((hash["conversion"].as_str(), hash["box"].as_str()), ("", "tl-a"));
    fake.event(2, "call.ended", &ended(&first)).await;
    let hash = redis.status(&first, "ended");
    assert_eq!((hash["outcome"].as_str(), hash["conversion"].as_str()), ("agreed", "1"));
    let mut connection = redis.open().unwrap();
    let ttl: i64 = connection.ttl(format!("call:{first}")).unwrap();
    assert!((3_000..=3_600).contains(&ttl), "{ttl}");
    let kinds = |connection: &mut redis::Connection| -> Vec<String> {
        let entries: Vec<(String, Vec<String>)> =
            redis::cmd("XRANGE").arg("calls").arg("-").arg("+").query(connection).unwrap();
        let kind = |fields: &[String]| {
            fields.chunks(2).find(|pair| pair[0] == "type").map(|pair| pair[1].clone()).unwrap_or_default()
        };
        entries.iter().map(|(_, fields)| kind(fields)).collect()
    };
    let told = kinds(&mut connection);
    assert_eq!(told.last().map(String::as_str), Some("call.ended"), "{told:?}");
    assert!(told.len() >= 3, "{told:?}");

    // It dies with all that it knew. Nobody waits for it.
    drop(connection);
    drop(redis);
    let (second, without) = dialled(&cloud, &mut fake, "+15550100402").await;
    assert!(without < usual * 4 + Duration::from_secs(1), "{without:?} after {usual:?}");
    fake.event(3, "call.progress", &json!({ "call": second, "stage": "answered" })).await;
    cloud.call_when(&second, "answered", |call| call["status"] == "answered").await;

    let redis = Redis::start(&site, Some(port)).unwrap();
    redis.status(&first, "ended");
    redis.status(&second, "answered");
    fake.event(4, "call.ended", &ended(&second)).await;
    redis.status(&second, "ended");
    let told = kinds(&mut redis.open().unwrap());
    assert_eq!(told.iter().filter(|kind| *kind == "call.ended").count(), 1, "only what is new: {told:?}");

    // The same Redis with another database: nothing of the first is served as if it were this one's.
    drop(fake);
    drop(cloud);
    let other = Site::new();
    other.write("redis.url", &Redis::url(port));
    let config = other.config("127.0.0.1:0", "127.0.0.1:0");
    other.write("cloud.toml", &format!("{config}\n[redis]\nurl_file = \"redis.url\"\nttl = \"1h\"\n"));
    let cloud = other.start();
    let mut fake = FakeBox::connect(&other, &cloud, "tl-a", 1, 8).await;
    let (third, _) = dialled(&cloud, &mut fake, "+15550100403").await;
    redis.status(&third, "dispatched");
    let left: Vec<String> = redis.open().unwrap().keys("call:*").unwrap();
    assert_eq!(left, [format!("call:{third}")]);
}
