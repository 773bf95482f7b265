use std::collections::BTreeMap;
use std::sync::Mutex;

use jiff::SignedDuration;
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use trunkline_db::{Effect, Event, NewCall};
use trunkline_model::{BoxId, CallId};
use trunkline_wire::{CallProgress, CallRecord, ProgressStage, ScriptRef};
use uuid::Uuid;

use super::*;

const SECRET: &[u8] = b"0123456789abcdef01234567";

fn quick(allow_private: bool) -> CallbackConfig {
    CallbackConfig {
        first_pause: Duration::from_millis(30),
        timeout: Duration::from_millis(500),
        ..CallbackConfig::new(SECRET.to_vec(), allow_private)
    }
}

#[test]
fn the_signature_is_the_one_that_standard_webhooks_publishes() {
    // The example of the specification's reference libraries.
    let secret = parse_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    let made = signature(&secret, id, 1_614_265_330, r#"{"test": 2432232314}"#);
    assert_eq!(made, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[test]
fn a_secret_is_long_and_marked_as_one() {
    for bad in ["", "whsec_", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_???"] {
        assert_eq!(parse_secret(bad), Err(SecretError), "{bad}");
    }
}

#[test]
fn pauses_double_up_to_an_hour_and_never_fall_together() {
    let config = CallbackConfig::new(SECRET.to_vec(), false);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for (failures, seconds) in [(1, 5.0), (2, 10.0), (5, 80.0), (11, 3_600.0), (60, 3_600.0)] {
        for _ in 0..100 {
            let pause = delay(&config, failures, &mut rng).as_secs_f64();
            assert!((seconds * 0.8..=seconds * 1.2).contains(&pause), "{failures}: {pause}");
        }
    }
}

#[test]
fn a_receiver_is_given_up_after_a_day_or_at_its_own_word() {
    let config = CallbackConfig::new(SECRET.to_vec(), false);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let created_at: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
    let delivery = Delivery {
        id: "msg_1".into(),
        call: CallId::from_u128(1),
        kind: "call.ended".into(),
        url: "https://crm.example/".into(),
        payload: "{}".into(),
        attempts: 3,
        created_at,
    };
    let mut after = |hours: i64, sent| {
        judge(&config, &delivery, sent, &mut rng, created_at + SignedDuration::from_hours(hours))
    };
    assert_eq!(after(1, Ok(204)), AttemptResult::Delivered { status: 204 });
    assert!(matches!(after(1, Ok(500)), AttemptResult::Retry { status: Some(500), .. }));
    assert!(matches!(after(1, Err("refused".into())), AttemptResult::Retry { status: None, .. }));
    assert!(matches!(after(1, Ok(302)), AttemptResult::Retry { error, .. } if error.contains("redirect")));
    assert!(matches!(after(1, Ok(410)), AttemptResult::GivenUp { .. }));
    assert!(matches!(after(24, Ok(500)), AttemptResult::GivenUp { .. }));
}

/// An HTTP server that answers from a list of raw answers and keeps the bodies.
struct Receiver {
    url: String,
    bodies: Arc<Mutex<Vec<String>>>,
}

impl Receiver {
    async fn start(answers: &[&'static str]) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", socket.local_addr().unwrap());
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let (kept, answers) = (Arc::clone(&bodies), answers.to_vec());
        tokio::spawn(async move {
            let mut answers = answers.into_iter();
            loop {
                let (mut stream, _) = socket.accept().await.unwrap();
                let mut read = Vec::new();
                let body = loop {
                    let mut chunk = [0; 4_096];
                    let n = stream.read(&mut chunk).await.unwrap();
                    read.extend_from_slice(&chunk[..n]);
                    let text = String::from_utf8_lossy(&read).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let length = head
                        .lines()
                        .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok())
                        .unwrap_or(0);
                    if n == 0 || body.len() >= length {
                        break body.to_owned();
                    }
                };
                kept.lock().unwrap().push(body);
                let answer = answers.next().unwrap_or("200 OK\r\n");
                let answer = format!("HTTP/1.1 {answer}content-length: 0\r\nconnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self { url, bodies }
    }

    fn kinds(&self) -> Vec<String> {
        let bodies = self.bodies.lock().unwrap();
        let kind = |body: &String| -> serde_json::Value { serde_json::from_str(body).unwrap() };
        bodies.iter().map(|body| kind(body)["type"].as_str().unwrap().to_owned()).collect()
    }
}

/// A database in which a call rang and ended.
async fn spool(url: &str) -> (TempDir, Db, CallId) {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(&dir.path().join("cloud.sqlite")).await.unwrap();
    let call = CallId::from_u128(7);
    let script = ScriptRef { id: "demo".parse().unwrap(), version: "0".repeat(64).parse().unwrap() };
    let now = Timestamp::now();
    let new = NewCall {
        id: call,
        callee: "+8613800138000".parse().unwrap(),
        caller_id: None,
        script: script.clone(),
        variables: BTreeMap::new(),
        external_id: None,
        callback_url: Some(url.to_owned()),
        not_before: Timestamp::UNIX_EPOCH,
        facts: "{}".into(),
        priority: 0,
        campaign: None,
        not_after: now + SignedDuration::from_secs(60),
        trace: String::new(),
        idempotency: None,
    };
    db.create_call(&new, now).await.unwrap();
    let box_id: BoxId = "tl-a".parse().unwrap();
    db.assign(call, &box_id, now).await.unwrap();
    let record: CallRecord = serde_json::from_value(serde_json::json!({
        "call": call, "script": script, "started": now, "ended": now, "disposition": "no_answer",
    }))
    .unwrap();
    let ringing = CallProgress { call, stage: ProgressStage::Ringing, detail: String::new() };
    let effects = [Effect::Progress(ringing), Effect::Ended(Box::new(record))];
    let events: Vec<Event> = (1..)
        .zip(effects)
        .map(|(seq, effect)| Event {
            box_id: box_id.clone(),
            sess: 1,
            seq,
            id: Uuid::from_u128(1),
            ts: now,
            kind: "x".into(),
            trace: String::new(),
            body: "{}".into(),
            effect,
        })
        .collect();
    db.ingest(&events, now).await.unwrap();
    (dir, db, call)
}

async fn courier(db: &Db, config: CallbackConfig) -> tokio::sync::watch::Sender<bool> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (stopper, stop) = Stop::new();
    let courier = Courier::new(db.clone(), config, Hub::new(), Wakers::default()).unwrap();
    tokio::spawn(courier.run(stop));
    stopper
}

async fn states(db: &Db, call: CallId) -> Vec<(String, u32, String)> {
    let callbacks = db.call_detail(call).await.unwrap().unwrap().callbacks.unwrap();
    callbacks.into_iter().map(|one| (one.state, one.attempts, one.last_error)).collect()
}

async fn until(
    db: &Db,
    call: CallId,
    ready: impl Fn(&[(String, u32, String)]) -> bool,
) -> Vec<(String, u32, String)> {
    for _ in 0..200 {
        let states = states(db, call).await;
        if ready(&states) {
            return states;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("never: {:?}", states(db, call).await);
}

#[tokio::test]
async fn a_failed_callback_is_repeated_before_the_next_one_of_the_call() {
    let receiver = Receiver::start(&[
        "500 Internal Server Error\r\n",
        "307 Temporary Redirect\r\nlocation: /elsewhere\r\n",
    ])
    .await;
    let (_dir, db, call) = spool(&receiver.url).await;
    let _running = courier(&db, quick(true)).await;

    let states = until(&db, call, |all| all.iter().all(|(state, ..)| state == "delivered")).await;
    assert_eq!(states.iter().map(|(_, attempts, _)| *attempts).collect::<Vec<_>>(), [3, 1]);
    assert_eq!(receiver.kinds(), ["call.ringing", "call.ringing", "call.ringing", "call.ended"]);
    let bodies = receiver.bodies.lock().unwrap().clone();
    assert_eq!(bodies[0], bodies[2], "what is repeated is the same to the byte");
}

#[tokio::test]
async fn what_was_not_delivered_is_delivered_after_a_restart() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = socket.local_addr().unwrap();
    drop(socket);
    let (_dir, db, call) = spool(&format!("http://{closed}/hook")).await;
    let slow = CallbackConfig { first_pause: Duration::from_millis(300), ..quick(true) };
    let running = courier(&db, slow.clone()).await;
    until(&db, call, |all| all[0].1 >= 1).await;
    running.send(true).unwrap();

    let socket = TcpListener::bind(closed).await.unwrap();
    let _running = courier(&db, slow).await;
    let (mut stream, _) =
        tokio::time::timeout(Duration::from_secs(10), socket.accept()).await.unwrap().unwrap();
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"POST");
}

#[tokio::test]
async fn a_name_that_leads_inside_is_not_followed() {
    let receiver = Receiver::start(&[]).await;
    let port = receiver.url.rsplit_once(':').unwrap().1;
    // Resolved by the hosts file to an address of this machine.
    let (_dir, db, call) = spool(&format!("http://localhost.:{port}")).await;
    let _running = courier(&db, quick(false)).await;
    let states = until(&db, call, |all| all[0].1 >= 1).await;
    assert!(states[0].2.contains("private"), "{states:?}");
    assert!(receiver.bodies.lock().unwrap().is_empty());

    let resolved = PublicOnly.resolve("localhost".parse().unwrap()).await;
    assert!(resolved.is_err());
}

#[tokio::test]
async fn a_receiver_that_never_answers_delays_nobody_else() {
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_dir, db, call) = spool(&format!("http://{}/hook", mute.local_addr().unwrap())).await;
    let _running = courier(&db, quick(true)).await;
    let states = until(&db, call, |all| all[0].1 >= 1).await;
    assert_eq!((states[0].0.as_str(), states[1].1), ("pending", 0), "and the order is kept");
}

#[tokio::test]
async fn a_receiver_that_always_fails_is_disabled_keeps_its_callbacks_and_gets_them_when_enabled() {
    let receiver = Receiver::start(&["500 Internal Server Error\r\n"; 10]).await;
    let (_dir, db, call) = spool(&receiver.url).await;
    let config = CallbackConfig {
        longest_pause: Duration::from_millis(40),
        disable_after: Duration::ZERO,
        ..quick(true)
    };
    let _running = courier(&db, config).await;
    until(&db, call, |all| all[0].1 >= 10).await;
    for _ in 0..100 {
        if db.failing_endpoints().await.unwrap().iter().any(|one| one.disabled_at.is_some()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let failing = db.failing_endpoints().await.unwrap();
    assert_eq!((failing.len(), failing[0].failures), (1, 10));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(receiver.kinds().len(), 10, "nothing is sent to it any more");
    assert!(states(&db, call).await.iter().all(|(state, ..)| state == "pending"), "and nothing is lost");

    assert!(db.enable_endpoint(&receiver.url, Timestamp::now()).await.unwrap());
    until(&db, call, |all| all.iter().all(|(state, ..)| state == "delivered")).await;
    assert!(db.failing_endpoints().await.unwrap().is_empty());

    let log = db.callbacks(Some("delivered"), None, 10).await.unwrap();
    assert!(db.replay_callback(&log[0].callback.id, Timestamp::now()).await.unwrap());
    until(&db, call, |all| all[1].1 == 1 && all[1].0 == "delivered").await;
    for _ in 0..300 {
        if receiver.kinds().len() == 13 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(receiver.kinds().last().map(String::as_str), Some("call.ended"), "sent again");
    assert_eq!(receiver.kinds().len(), 13);
    assert!(!db.replay_callback("msg_unknown", Timestamp::now()).await.unwrap());
}
