//! A long list on its way in: 3 % of its lines are broken, and the cloud needs no more room for it.
//!
//! `TRUNKLINE_IMPORT_ROWS=1000000` makes it as long as a list may get; the figures are printed.

use std::time::Instant;

use axum::http::StatusCode;
use futures_util::stream;
use serde_json::{Value, json};

use crate::harness::{Site, TOKEN};

const LINES_AT_ONCE: u64 = 500;

/// Returns line `n`, from 1, and whether it is broken: each third of the 3 % in another way.
fn line(n: u64) -> (String, bool) {
    match n % 100 {
        17 => (format!("1555{n:07},no plus,c{n}\n"), true),
        43 => (format!("+1555{n:07},a field is missing\n"), true),
        91 => (format!(",nobody,c{n}\n"), true),
        _ => (format!("+1555{n:07},\"Customer, {n}\",c{n}\n"), false),
    }
}

#[tokio::test]
async fn a_long_list_with_broken_lines_comes_in_with_each_of_them_named_and_without_more_memory() {
    let rows: u64 =
        std::env::var("TRUNKLINE_IMPORT_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(20_000);
    let site = Site::new();
    let cloud = site.start();
    let settings = json!({ "script_id": "appointment-confirmation-en" });
    let (status, made) =
        cloud.post("/v1/campaigns", &json!({ "name": "A long list", "settings": settings })).await;
    assert_eq!(status, StatusCode::CREATED, "{made:#}");
    let path = format!("/v1/campaigns/{}", made["id"].as_str().unwrap());
    let before = cloud.peak_kib();

    let chunks = (0..=rows / LINES_AT_ONCE).map(move |chunk| {
        let header = if chunk == 0 { "phone,name,external_id\n" } else { "" };
        let from = chunk * LINES_AT_ONCE + 1;
        let lines = (from..(from + LINES_AT_ONCE).min(rows + 1)).map(|n| line(n).0);
        Ok::<_, std::io::Error>(header.to_owned() + &lines.collect::<String>())
    });
    let begun = Instant::now();
    let upload = cloud
        .http
        .post(cloud.url(&format!("{path}/contacts?map=phone:callee")))
        .bearer_auth(TOKEN)
        .body(reqwest::Body::wrap_stream(stream::iter(chunks)))
        .send();
    let watch = async {
        // The import can be watched while it runs.
        loop {
            let (_, listed) = cloud.get(&format!("{path}/imports")).await;
            if listed["imports"][0]["lines"].as_u64().unwrap_or(0) > 0 {
                return listed["imports"][0].clone();
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let (answer, seen) = tokio::join!(upload, watch);
    assert!(seen["lines"].as_u64().unwrap() <= rows);
    let report: Value = answer.unwrap().json().await.unwrap();
    let took = begun.elapsed();
    let grown = cloud.peak_kib() - before;
    println!(
        "{rows} rows in {took:.1?}: {:.0} rows/s, peak memory {before} KiB before and {grown} KiB more with it",
        rows as f64 / took.as_secs_f64()
    );

    let bad: Vec<u64> = (1..=rows).filter(|n| line(*n).1).map(|n| n + 1).collect();
    assert_eq!(
        (&report["lines"], &report["rejected"], &report["imported"], &report["fatal"]),
        (&json!(rows), &json!(bad.len()), &json!(rows - bad.len() as u64), &Value::Null)
    );
    assert!(report["errors"].as_array().unwrap().len() <= 1_000);
    let (mut named, mut after) = (Vec::new(), 0);
    loop {
        let id = report["id"].as_str().unwrap();
        let (_, page) = cloud.get(&format!("/v1/imports/{id}/errors?after={after}&limit=10000")).await;
        named.extend(page["errors"].as_array().unwrap().iter().map(|one| one["line"].as_u64().unwrap()));
        match page["next"].as_u64() {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(named, bad, "every broken line is named");
    assert!(grown < 96 * 1024, "{grown} KiB more");

    // Out again, with nothing in it that a spreadsheet would run.
    let export = cloud.http.get(cloud.url(&format!("{path}/contacts.csv"))).bearer_auth(TOKEN);
    let text = export.send().await.unwrap().text().await.unwrap();
    assert_eq!(text.lines().count() as u64, rows - bad.len() as u64 + 1);
    assert!(text.lines().skip(1).all(|line| line.starts_with("'+1555")), "{:?}", text.lines().nth(1));
}
