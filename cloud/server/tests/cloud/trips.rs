//! How long a turn is on its way, there and back over mutual TLS.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use trunkline_wire::{TurnReply, topic};

use crate::harness::{FakeBox, Site};

const TRIPS: usize = 400;
/// One side that waits for more to send (Nagle) before it sends costs 40 ms and more each time.
const NAGLE: Duration = Duration::from_millis(30);

/// Without the encoder the cloud computes next to nothing, and what is left is the way.
#[tokio::test]
async fn a_turn_goes_there_and_back_without_waiting_for_more_to_send() {
    let site = Site::new();
    let cloud = site.start();
    let mut fake = FakeBox::connect(&site, &cloud, "tl-a", 1, 1).await;
    let call = json!({
        "callee": "+1 555 010 0199", "script_id": "appointment-confirmation-en",
        "variables": {
            "org": "Riverside Clinic", "name": "Alex Morgan", "doctor": "Doctor Patel",
            "date": "2026-11-27", "time": "15:00",
        },
    });
    let (status, call) = cloud.post("/v1/calls", &call).await;
    assert_eq!(status, 202, "{call:#}");
    fake.dialled().await;
    let on = topic::turn_res(&fake.id.clone());
    let ask = |turn: u32, event: Value, state: &Value| {
        let mut body = json!({
            "call": call["id"], "turn": turn, "rev": 0, "mode": "draft", "event": event, "elapsed_s": 3,
            "budget_ms": 5000,
        });
        if !state.is_null() {
            body["state"] = state.clone();
        }
        body
    };
    fake.ask("open", &ask(0, json!({"kind": "answered"}), &Value::Null)).await;
    let (opening, _) = fake.heard::<TurnReply>(&on).await;
    let heard = ask(1, json!({"kind": "heard", "text": "yes", "logprob": -0.2}), &opening.body.state);
    let (mut trips, mut ways) = (Vec::new(), Vec::new());
    for trip in 0..TRIPS {
        let began = Instant::now();
        fake.ask(&trip.to_string(), &heard).await;
        let (reply, correlation) = fake.heard::<TurnReply>(&on).await;
        let took = began.elapsed();
        assert_eq!((correlation, reply.body.node.as_str()), (Some(trip.to_string()), "visit"));
        trips.push(took);
        ways.push(took.saturating_sub(Duration::from_micros(reply.body.took_us)));
    }
    let at = |all: &mut Vec<Duration>, share: f64| {
        all.sort_unstable();
        all[((all.len() - 1) as f64 * share) as usize]
    };
    println!(
        "{TRIPS} turns there and back: p50 {:?}, p99 {:?}; without the cloud's computing: p50 {:?}, p99 {:?}",
        at(&mut trips, 0.5),
        at(&mut trips, 0.99),
        at(&mut ways, 0.5),
        at(&mut ways, 0.99)
    );
    assert!(at(&mut ways, 0.5) < NAGLE, "is TCP_NODELAY off?");
}
