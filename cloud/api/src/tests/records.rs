//! Calls that are over, for programs and for spreadsheets.

use super::*;

#[tokio::test]
async fn every_call_that_ends_is_listed_once_in_the_order_of_the_ends() {
    let (_dir, api) = api(false).await;
    let mut calls = Vec::new();
    for n in 0..3 {
        let mut body = sample(&api, &format!("+861380013800{n}")).await;
        body["external_id"] = "=SUM(A1)".into();
        let (status, call) = send(&api, Method::POST, "/v1/calls", Some(body)).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{call:#}");
        calls.push(call["id"].as_str().unwrap().to_owned());
    }
    let (_, none) = send(&api, Method::GET, "/v1/records", None).await;
    assert_eq!(none, json!({ "records": [], "next": 0, "more": false }));
    for at in [1, 0, 2] {
        send(&api, Method::POST, &format!("/v1/calls/{}/cancel", calls[at]), None).await;
    }

    let (mut seen, mut after) = (Vec::new(), 0);
    loop {
        let (status, page) =
            send(&api, Method::GET, &format!("/v1/records?limit=2&after={after}"), None).await;
        assert_eq!(status, StatusCode::OK, "{page:#}");
        for ended in page["records"].as_array().unwrap() {
            assert_eq!((&ended["record"], &ended["call"]["status"]), (&Value::Null, &json!("ended")));
            seen.push(ended["call"]["id"].as_str().unwrap().to_owned());
        }
        after = page["next"].as_u64().unwrap();
        if page["more"] == false {
            break;
        }
    }
    assert_eq!(seen, [calls[1].clone(), calls[0].clone(), calls[2].clone()]);
    let (_, later) = send(&api, Method::GET, &format!("/v1/records?after={after}"), None).await;
    assert_eq!(
        (&later["records"], &later["next"]),
        (&json!([]), &json!(after)),
        "a reader waits at its place"
    );

    for (filter, expected) in [
        ("disposition=cancelled", 3),
        ("disposition=completed", 0),
        ("script_id=repayment-reminder-zh", 3),
        ("script_id=another", 0),
        ("until=2026-11-23T02:00:00Z", 0),
        ("since=2026-11-23T02:00:00Z", 3),
        ("outcome=agreed", 0),
    ] {
        let (_, page) = send(&api, Method::GET, &format!("/v1/records?{filter}"), None).await;
        assert_eq!(page["records"].as_array().unwrap().len(), expected, "{filter}");
    }
    for (wrong, code) in [
        ("disposition=gone", "unknown_disposition"),
        ("since=yesterday", "malformed_instant"),
        ("script_id=%20", "unknown_script"),
    ] {
        let (status, problem) = send(&api, Method::GET, &format!("/v1/records?{wrong}"), None).await;
        assert_eq!((status, &problem["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!(code)));
    }
}

#[tokio::test]
async fn a_spreadsheet_of_records_holds_no_formula() {
    let (_dir, api) = api(false).await;
    let mut body = sample(&api, "+8613800138000").await;
    body["external_id"] = "=SUM(A1)".into();
    let (_, call) = send(&api, Method::POST, "/v1/calls", Some(body)).await;
    send(&api, Method::POST, &format!("/v1/calls/{}/cancel", call["id"].as_str().unwrap()), None).await;
    let request = Request::builder()
        .uri("/v1/records.csv")
        .header("authorization", format!("bearer {TOKEN}"))
        .body(Body::empty())
        .unwrap();
    let response = api.clone().router().oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/csv; charset=utf-8");
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].starts_with("call,external_id,callee"));
    assert!(lines[1].contains(",'=SUM(A1),'+8613800138000,") && lines[1].contains(",cancelled,"), "{text}");
}
