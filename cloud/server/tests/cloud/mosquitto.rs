//! The cloud with a real Mosquitto beside it: an enrolled box speaks, no other does, and who is revoked is out.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{LastWill, Packet, PubAckReason, SubscribeReasonCode};
use serde_json::{Value, json};
use trunkline_wire::{Ack, Envelope, topic};

use crate::fleet::{TestBox, seen, site};
use crate::harness::{Cloud, Connect, Link, Pair, Site, envelope};

const SHORT: Duration = Duration::from_secs(5);
const WITHIN: Duration = Duration::from_secs(60);

/// A Mosquitto with the configuration that the cloud wrote for it.
struct Mosquitto {
    process: Child,
    address: SocketAddr,
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Mosquitto {
    /// `None` where there is none and need not be one.
    fn start(conf: &Path, address: SocketAddr) -> Option<Self> {
        let log = conf.with_file_name("mosquitto.log");
        let started = ["mosquitto", "/usr/sbin/mosquitto"].into_iter().find_map(|program| {
            let log = std::fs::File::options().create(true).append(true).open(&log).unwrap();
            Command::new(program).arg("-c").arg(conf).stdout(Stdio::null()).stderr(log).spawn().ok()
        });
        let Some(process) = started else {
            println!("skipped: mosquitto missing, run apt-get install mosquitto");
            assert_ne!(
                std::env::var("TRUNKLINE_REQUIRE_PEERS").as_deref(),
                Ok("1"),
                "the peers are required here"
            );
            return None;
        };
        let mosquitto = Self { process, address };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(10), "Mosquitto does not listen: {said}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(mosquitto)
    }
}

/// A site whose cloud has a Mosquitto beside it.
fn with_mosquitto() -> Option<(Site, Mosquitto)> {
    let site = site();
    let address = SocketAddr::from(([127, 0, 0, 1], trunkline_ports::free_port()));
    let cloud = site.ca.client(Some("cloud"));
    site.write("cloud.pem", &cloud.cert);
    site.write("cloud.key", &cloud.key);
    let config = std::fs::read_to_string(site.dir.path().join("cloud.toml")).unwrap();
    let (before, rest) = config.split_once("[mqtt]").unwrap();
    let (_, after) = rest.split_once("[scripts]").unwrap();
    let beside = format!(
        "[mosquitto]\naddress = \"{address}\"\nca = \"ca.pem\"\ncert = \"cloud.pem\"\nkey = \"cloud.key\"\n"
    );
    site.write("cloud.toml", &format!("{before}{beside}[scripts]{after}"));
    let path = |name: &str| site.dir.path().join(name);
    let written = Command::new(env!("CARGO_BIN_EXE_trunkline-cloud"))
        .arg("mosquitto")
        .arg("--dir")
        .arg(path("mosquitto"))
        .args(["--listen", &address.to_string(), "--user", "root", "--cert"])
        .args([path("server.pem"), "--key".into(), path("server.key"), "--client-ca".into(), path("ca.pem")])
        .output()
        .unwrap();
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let mosquitto = Mosquitto::start(&path("mosquitto/mosquitto.conf"), address)?;
    Some((site, mosquitto))
}

fn connect<'a>(site: &'a Site, at: SocketAddr, pair: &'a Pair, client_id: &'a str) -> Connect<'a> {
    Connect { ca: &site.ca.cert, pair: Some(pair), mqtt: at, client_id, user: None, will: None }
}

/// Whether each of these filters is granted.
async fn granted(link: &mut Link, filter: &str) -> bool {
    link.client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
    let ack =
        link.next(SHORT, |packet| if let Packet::SubAck(ack) = packet { Some(ack) } else { None }).await;
    matches!(ack.expect("an answer to SUBSCRIBE").return_codes[..], [SubscribeReasonCode::Success(_)])
}

async fn published(link: &mut Link, topic: &str, payload: Vec<u8>) -> PubAckReason {
    link.client.publish(topic, QoS::AtLeastOnce, false, payload).await.unwrap();
    let ack =
        link.next(SHORT, |packet| if let Packet::PubAck(ack) = packet { Some(ack) } else { None }).await;
    ack.expect("an answer to PUBLISH").reason
}

async fn acknowledged(link: &mut Link, upto: u64) -> bool {
    let ack = link.next(WITHIN, |packet| {
        let Packet::Publish(publish) = packet else { return None };
        let ack: Envelope<Ack> = serde_json::from_slice(&publish.payload).ok()?;
        (ack.body.upto >= upto && ack.body.except.is_empty()).then_some(())
    });
    ack.await.is_some()
}

async fn boxes(cloud: &Cloud, id: &str) -> Value {
    let (_, all) = cloud.get("/v1/boxes").await;
    all["boxes"].as_array().unwrap().iter().find(|one| one["box"] == id).cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_mosquitto_beside_it_an_enrolled_box_speaks_and_a_revoked_one_is_out() {
    let Some((site, mosquitto)) = with_mosquitto() else { return };
    let cloud = site.start();
    assert_eq!(cloud.mqtt, mosquitto.address);

    // Two boxes join as they do with the embedded broker; what they are to be reaches them through Mosquitto.
    let [one, other] = ["one", "other"].map(|name| TestBox::new(&site, &cloud, name));
    for new in [&one, &other] {
        let keeping = new.start(None);
        new.join(&cloud).await;
        keeping.stop().await;
        // It waits for half a minute before it asks again, unless it is started again.
        let keeping = new.start(None);
        let path = format!("/v1/boxes/{}", new.id());
        seen(&cloud, &path, "linked", |shown| shown["seen"].is_string()).await;
        keeping.stop().await;
    }
    let keeping = one.start(None);
    let path = format!("/v1/boxes/{}", one.id());
    let (status, answer) =
        cloud.ask("li", reqwest::Method::PUT, &format!("{path}/desired"), &json!({ "name": "0451" })).await;
    assert_eq!(status, 200, "{answer}");
    seen(&cloud, &path, "in sync", |shown| shown["sync"]["sync"] == "in_sync").await;
    keeping.stop().await;

    // Its events are stored and acknowledged, also over restarts of either side.
    let (pair, id) = (one.pair(), one.id());
    let box_id = id.parse().unwrap();
    let mut link = connect(&site, mosquitto.address, &pair, &id).open().await.unwrap();
    assert!(granted(&mut link, &topic::ack(&box_id)).await);
    assert!(granted(&mut link, &format!("tl/1/{id}/req/+")).await);
    let birth = json!({"online": true, "sess": 5, "software": "fake 1", "channels": 1, "oldest": 1});
    let birth = envelope(&box_id, 5, 0, "conn", &birth);
    link.client.publish(topic::conn(&box_id), QoS::AtLeastOnce, true, birth).await.unwrap();
    let event = |seq| envelope(&box_id, 5, seq, "audit.x", &json!({ "n": seq }));
    let evt = topic::evt_call(&box_id);
    link.client.publish(evt.as_str(), QoS::AtLeastOnce, false, event(1)).await.unwrap();
    assert!(acknowledged(&mut link, 1).await, "{}", site.log());
    cloud.kill();
    // Taken by Mosquitto, heard by nobody: the box has no acknowledgement and sends it again.
    link.client.publish(evt.as_str(), QoS::AtLeastOnce, false, event(2)).await.unwrap();
    assert!(link.next(Duration::from_millis(300), |_| None::<()>).await.is_none());
    let cloud = site.start();
    let began = Instant::now();
    while boxes(&cloud, &id).await["online"] != true {
        assert!(began.elapsed() < WITHIN, "its birth was kept and is told again: {}", site.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    link.client.publish(evt.as_str(), QoS::AtLeastOnce, false, event(2)).await.unwrap();
    assert!(acknowledged(&mut link, 2).await, "{}", site.log());

    // A box reaches its own topics and nobody else's, whatever it calls itself.
    let (its, theirs) = (other.pair(), other.id());
    let mut stranger = connect(&site, mosquitto.address, &its, &theirs).open().await.unwrap();
    for filter in
        ["#", "tl/1/#", &format!("tl/1/{id}/req/+"), &format!("tl/1/{id}/ack"), "$SYS/#", "$CONTROL/#"]
    {
        assert!(!granted(&mut stranger, filter).await, "{filter}");
    }
    for to in [
        &evt,
        &format!("tl/1/{id}/req/dial"),
        &format!("tl/1/{theirs}/req/dial"),
        "$CONTROL/dynamic-security/v1",
    ] {
        let reason = published(&mut stranger, to, event(3)).await;
        assert_eq!(reason, PubAckReason::NotAuthorized, "{to}");
    }
    assert_eq!(
        published(&mut stranger, &format!("tl/1/{theirs}/evt/call"), event(3)).await,
        PubAckReason::Success
    );
    let lie = envelope(&box_id, 9, 0, "conn", &json!({"online": false, "sess": 9}));
    let mut willing = connect(&site, mosquitto.address, &its, "x");
    willing.will = Some(LastWill::new(topic::conn(&box_id), lie, QoS::AtLeastOnce, true, None));
    drop(willing.open().await);
    // One whose certificate is good and who was never enrolled has no topic at all.
    let unknown = site.ca.client(Some("tl-unknown"));
    let mut mute = connect(&site, mosquitto.address, &unknown, "tl-unknown").open().await.unwrap();
    assert!(!granted(&mut mute, "tl/1/tl-unknown/ack").await);
    let reason = published(&mut mute, "tl/1/tl-unknown/evt/call", event(1)).await;
    assert_eq!(reason, PubAckReason::NotAuthorized);
    let nobody = Connect { pair: None, ..connect(&site, mosquitto.address, &its, "x") };
    assert!(nobody.open().await.is_err(), "no certificate");
    assert_eq!(boxes(&cloud, &id).await["online"], true, "the forged will counts for nothing");

    // Revoked: out at once, also after a restart of both, and with nothing that was kept.
    let began = Instant::now();
    let (status, _) = cloud
        .ask("li", reqwest::Method::POST, &format!("{path}/revoke"), &json!({ "reason": "stolen" }))
        .await;
    assert_eq!(status, 200);
    assert!(link.next(Duration::from_secs(10), |_| None::<()>).await.is_none());
    println!("with Mosquitto a revoked box was out after {:?}", began.elapsed());
    assert!(began.elapsed() < SHORT, "{}", site.log());
    let mut again = connect(&site, mosquitto.address, &pair, &id).open().await.unwrap();
    assert!(!granted(&mut again, &topic::ack(&box_id)).await);
    assert_eq!(published(&mut again, &evt, event(3)).await, PubAckReason::NotAuthorized);
    let began = Instant::now();
    while boxes(&cloud, &id).await["online"] != false {
        assert!(began.elapsed() < WITHIN, "it is gone: {}", site.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let (conf, address) = (site.dir.path().join("mosquitto/mosquitto.conf"), mosquitto.address);
    drop(mosquitto);
    let mosquitto = Mosquitto::start(&conf, address).unwrap();
    let mut again = connect(&site, mosquitto.address, &pair, &id).open().await.unwrap();
    assert!(!granted(&mut again, &topic::ack(&box_id)).await, "Mosquitto keeps who may speak");
    let mut stays = connect(&site, mosquitto.address, &its, &theirs).open().await.unwrap();
    assert!(granted(&mut stays, &topic::ack(&theirs.parse().unwrap())).await);
    let event = envelope(&theirs.parse().unwrap(), 5, 1, "audit.x", &json!({ "n": 1 }));
    let began = Instant::now();
    loop {
        let evt = format!("tl/1/{theirs}/evt/call");
        stays.client.publish(evt, QoS::AtLeastOnce, false, event.clone()).await.unwrap();
        if link_acknowledges(&mut stays).await {
            break;
        }
        assert!(began.elapsed() < WITHIN, "the cloud is back at Mosquitto: {}", site.log());
    }
}

/// Whether an acknowledgement comes within a second.
async fn link_acknowledges(link: &mut Link) -> bool {
    let ack = link.next(Duration::from_secs(1), |packet| matches!(packet, Packet::Publish(_)).then_some(()));
    ack.await.is_some()
}
