//! Cloud and box push their figures to one collector, and name nobody. (TLS and OTLP itself: `shared/figures`.)

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use serde_json::json;
use tokio::sync::mpsc;
use trunkline_figures::OtlpConfig;

use crate::fleet::{TestBox, seen, site};

#[tokio::test(flavor = "multi_thread")]
async fn the_figures_of_cloud_and_box_reach_a_collector_and_name_nobody() {
    let (collected, mut pushed) = mpsc::channel::<Bytes>(64);
    let take = async |State(collected): State<mpsc::Sender<Bytes>>, body: Bytes| {
        let _ = collected.send(body).await;
    };
    let router = Router::new().route("/v1/metrics", post(take)).with_state(collected);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let collector = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });

    let site = site();
    let config = std::fs::read_to_string(site.dir.path().join("cloud.toml")).unwrap();
    site.write("cloud.toml", &format!("{config}[otlp]\nendpoint = \"{endpoint}\"\nperiod = \"5s\"\n"));
    let cloud = site.start();
    let mut new = TestBox::new(&site, &cloud, "box");
    new.config.otlp =
        Some(OtlpConfig { endpoint, ca: None, token_file: None, period: Duration::from_secs(5) });
    let keeping = new.start(None);
    new.join(&cloud).await;
    keeping.stop().await;
    let path = format!("/v1/boxes/{}", new.id());
    let desired = format!("{path}/desired");
    let named = json!({ "name": "Branch of Wang Fang" });
    let (status, answer) = cloud.ask("li", reqwest::Method::PUT, &desired, &named).await;
    assert_eq!(status, 200, "{answer}");
    let keeping = new.start(None);
    seen(&cloud, &path, "in sync", |shown| shown["sync"]["sync"] == "in_sync").await;

    let (mut from_cloud, mut from_box) = (false, false);
    while !(from_cloud && from_box) {
        let body = tokio::time::timeout(Duration::from_secs(60), pushed.recv()).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&body);
        for secret in ["Wang Fang", "0451"] {
            assert!(!text.contains(secret), "{secret}");
        }
        if text.contains("trunkline-cloud") {
            assert!(text.contains("trunkline_boxes_reporting") && !text.contains(&new.id()));
            from_cloud = true;
        } else {
            assert!(text.contains("trunkline-edge") && text.contains("trunkline_box_up"));
            assert!(text.contains(&new.id()));
            from_box = true;
        }
    }
    keeping.stop().await;
    collector.abort();
}

#[test]
fn a_collector_that_makes_no_sense_is_named_before_the_cloud_listens() {
    let site = site();
    let config = std::fs::read_to_string(site.dir.path().join("cloud.toml")).unwrap();
    for (section, said) in [
        ("endpoint = \"http://collector.example:4318\"", "https://"),
        ("endpoint = \"https://c:4318\"\nca = \"absent.pem\"", "absent.pem"),
        ("endpoint = \"https://c:4318\"\ntoken_file = \"absent\"", "token_file"),
        ("endpoint = \"https://c:4318\"\nperiod = \"1s\"", "period"),
    ] {
        site.write("cloud.toml", &format!("{config}[otlp]\n{section}\n"));
        let done = site.command().output().unwrap();
        let error = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && error.contains(said), "{section}: {error}");
    }
}
