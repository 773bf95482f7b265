//! Who gets into the broker, and what they may do there.

use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{LastWill, Packet, PubAckReason, SubscribeReasonCode};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::harness::{Ca, Cloud, Connect, FakeBox, Link, Pair, Site, TOKEN, envelope};

const SHORT: Duration = Duration::from_secs(5);

fn connect<'a>(site: &'a Site, cloud: &Cloud, pair: Option<&'a Pair>, client_id: &'a str) -> Connect<'a> {
    Connect { ca: &site.ca.cert, pair, mqtt: cloud.mqtt, client_id, user: None, will: None }
}

async fn subscribe(link: &mut Link, filter: &str) -> bool {
    link.client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
    let ack =
        link.next(SHORT, |packet| if let Packet::SubAck(ack) = packet { Some(ack) } else { None }).await;
    matches!(ack.expect("an answer to SUBSCRIBE").return_codes[..], [SubscribeReasonCode::Success(_)])
}

async fn publish(link: &mut Link, topic: &str) -> PubAckReason {
    link.client.publish(topic, QoS::AtLeastOnce, false, "{}").await.unwrap();
    let ack =
        link.next(SHORT, |packet| if let Packet::PubAck(ack) = packet { Some(ack) } else { None }).await;
    ack.expect("an answer to PUBLISH").reason
}

#[tokio::test]
async fn a_box_reaches_its_own_topics_and_no_others() {
    let site = Site::new();
    let cloud = site.start();
    let pair = site.ca.client(Some("tl-a"));
    let mut link = connect(&site, &cloud, Some(&pair), "tl-a").open().await.unwrap();

    for own in [
        "tl/1/tl-a/ack",
        "tl/1/tl-a/turn/res",
        "tl/1/tl-a/req/+",
        "tl/1/tl-a/cfg/desired",
        "tl/1/tl-a/job/next",
    ] {
        assert!(subscribe(&mut link, own).await, "{own}");
    }
    for foreign in [
        "#",
        "tl/1/+/ack",
        "tl/1/tl-b/ack",
        "tl/1/tl-b/req/dial",
        "tl/1/tl-a/#",
        "tl/1/tl-a/evt/call",
        "$SYS/#",
    ] {
        assert!(!subscribe(&mut link, foreign).await, "{foreign}");
    }
    for own in [
        "tl/1/tl-a/conn",
        "tl/1/tl-a/evt/call",
        "tl/1/tl-a/turn",
        "tl/1/tl-a/res/cloud",
        "tl/1/tl-a/cfg/reported",
    ] {
        assert_ne!(publish(&mut link, own).await, PubAckReason::NotAuthorized, "{own}");
    }
    for foreign in ["tl/1/tl-b/conn", "tl/1/tl-b/req/dial", "tl/1/tl-a/req/dial", "tl/1/tl-a/ack", "x"] {
        assert_eq!(publish(&mut link, foreign).await, PubAckReason::NotAuthorized, "{foreign}");
    }
}

#[tokio::test]
async fn what_one_box_must_not_say_does_not_reach_another() {
    let site = Site::new();
    let cloud = site.start();
    let mut victim = FakeBox::connect(&site, &cloud, "tl-b", 1, 1).await;
    let pair = site.ca.client(Some("tl-a"));
    let mut link = connect(&site, &cloud, Some(&pair), "tl-a").open().await.unwrap();
    let forged = envelope(&victim.id, 1, 0, "dial", &json!({}));
    link.client.publish("tl/1/tl-b/req/dial", QoS::AtLeastOnce, false, forged).await.unwrap();
    assert_eq!(publish(&mut link, "tl/1/tl-b/conn").await, PubAckReason::NotAuthorized);
    let heard =
        victim.heard_within::<serde_json::Value>("tl/1/tl-b/req/dial", Duration::from_millis(500)).await;
    assert!(heard.is_none());

    // Its own topic, another box's name inside: not believed.
    let lie = envelope(&victim.id, 9, 0, "conn", &json!({"online": false, "sess": 9}));
    link.client.publish("tl/1/tl-a/conn", QoS::AtLeastOnce, false, lie).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (_, boxes) = cloud.get("/v1/boxes").await;
    assert_eq!(boxes["boxes"][0]["box"], "tl-b");
    assert_eq!(boxes["boxes"][0]["online"], true);
}

#[tokio::test]
async fn nobody_gets_in_without_a_certificate_of_ours_that_names_a_box() {
    let site = Site::new();
    let cloud = site.start();
    assert!(connect(&site, &cloud, None, "tl-a").open().await.is_err(), "no certificate");

    let stranger = Ca::new().client(Some("tl-a"));
    assert!(connect(&site, &cloud, Some(&stranger), "tl-a").open().await.is_err(), "another CA's");

    let nameless = site.ca.client(None);
    let mut attempt = connect(&site, &cloud, Some(&nameless), "tl-a");
    attempt.user = Some("tl-a");
    assert!(attempt.open().await.is_err(), "no name, and the user name claims one");

    let odd = site.ca.client(Some("Not A Box/#"));
    assert!(connect(&site, &cloud, Some(&odd), "Not A Box/#").open().await.is_err(), "no box's name");

    let good = site.ca.client(Some("tl-a"));
    assert!(connect(&site, &cloud, Some(&good), "tl-b").open().await.is_err(), "another box's client id");
    let mut attempt = connect(&site, &cloud, Some(&good), "tl-a");
    attempt.user = Some("tl-b");
    let mut link = attempt.open().await.unwrap();
    assert_eq!(
        publish(&mut link, "tl/1/tl-b/conn").await,
        PubAckReason::NotAuthorized,
        "the user name counts for nothing"
    );
}

#[tokio::test]
async fn a_will_cannot_speak_to_another_box() {
    let site = Site::new();
    let cloud = site.start();
    let pair = site.ca.client(Some("tl-a"));
    for topic in ["tl/1/tl-b/req/dial", "tl/1/tl-b/conn", "tl/1/tl-a/req/dial"] {
        let mut attempt = connect(&site, &cloud, Some(&pair), "tl-a");
        attempt.will = Some(LastWill::new(topic, "{}", QoS::AtLeastOnce, false, None));
        assert!(attempt.open().await.is_err(), "{topic}");
    }
}

#[tokio::test]
async fn a_box_that_vanishes_is_offline_by_its_will() {
    let site = Site::new();
    let cloud = site.start();
    let fake = FakeBox::connect(&site, &cloud, "tl-a", 5, 2).await;
    let online = async |wanted: bool| {
        for _ in 0..100 {
            let (_, boxes) = cloud.get("/v1/boxes").await;
            if boxes["boxes"][0]["online"] == wanted {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        false
    };
    assert!(online(true).await);
    drop(fake);
    assert!(online(false).await, "{}", site.log());
}

#[tokio::test]
async fn peers_that_say_nothing_block_nobody_and_are_cut_off() {
    let site = Site::new();
    let cloud = site.start();
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(cloud.mqtt).await.unwrap());
        silent.push(TcpStream::connect(cloud.api).await.unwrap());
    }
    let pair = site.ca.client(Some("tl-a"));
    let began = Instant::now();
    connect(&site, &cloud, Some(&pair), "tl-a").open().await.unwrap();
    assert_eq!(cloud.get("/healthz").await.0, 200);
    println!("with 40 silent peers, a box and a request got in within {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(5));

    let cut = tokio::time::timeout(Duration::from_secs(20), silent[0].read_u8()).await;
    assert!(matches!(cut, Ok(Err(_))), "a silent peer keeps its place for ever");
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_and_the_broker_lives_on() {
    let site = Site::new();
    let cloud = site.start();
    let pair = site.ca.client(Some("tl-a"));
    let mut link = connect(&site, &cloud, Some(&pair), "tl-a").open().await.unwrap();
    link.client.publish("tl/1/tl-a/evt/call", QoS::AtLeastOnce, false, vec![b'x'; 280 * 1024]).await.unwrap();
    let ack =
        link.next(SHORT, |packet| if let Packet::PubAck(ack) = packet { Some(ack) } else { None }).await;
    assert!(ack.is_none(), "it was acknowledged");
    let mut link = connect(&site, &cloud, Some(&pair), "tl-a").open().await.unwrap();
    assert_ne!(publish(&mut link, "tl/1/tl-a/evt/call").await, PubAckReason::NotAuthorized);
}

/// Returns a figure of the cloud's page.
async fn figure(cloud: &Cloud, name: &str) -> f64 {
    let page = cloud.http.get(cloud.url("/metrics")).bearer_auth(TOKEN).send().await.unwrap();
    let page = page.text().await.unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("{name}: {page}")).trim().parse().unwrap()
}

#[tokio::test]
async fn who_finds_no_file_left_is_refused_and_the_api_and_the_database_work_on() {
    let site = Site::new();
    // 256 are kept, and some are open before anybody comes.
    let cloud = site.start_with_files(360);
    let mut inside = Vec::new();
    let mut refused = 0;
    for number in 0..120 {
        let name = format!("tl-{number}");
        let pair = site.ca.client(Some(&name));
        match connect(&site, &cloud, Some(&pair), &name).open_once().await {
            Ok(link) => inside.push(link),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 20 && inside.len() > 20, "{} are in, {refused} were refused", inside.len());
    assert!(figure(&cloud, "trunkline_connections_refused").await >= f64::from(refused));
    assert_eq!(figure(&cloud, "trunkline_open_files{state=\"limit\"}").await, 360.0);

    // Strangers who say nothing take what is lent to them, and no more.
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(TcpStream::connect(cloud.mqtt).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(figure(&cloud, "trunkline_open_files{state=\"open\"}").await < 340.0, "{}", site.log());
    for number in 0..30 {
        let said = cloud.post("/v1/opt-outs", &json!({ "callee": format!("+8613800138{number:03}") })).await;
        assert!(said.0.is_success(), "{said:?}");
    }
    drop(silent);

    // Who goes makes room, and the next one gets it.
    inside.truncate(inside.len() / 2);
    let pair = site.ca.client(Some("tl-late"));
    let until = Instant::now() + Duration::from_secs(30);
    while connect(&site, &cloud, Some(&pair), "tl-late").open_once().await.is_err() {
        assert!(
            Instant::now() < until,
            "{} are open: the room of those who left is not given again",
            figure(&cloud, "trunkline_open_files{state=\"open\"}").await
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    drop(inside);
}
