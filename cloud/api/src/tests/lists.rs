//! Lists of contacts, and campaigns that are made of them.

use super::*;

async fn upload(api: &Api, path: &str, csv: &str) -> (StatusCode, Value) {
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header("authorization", format!("bearer {TOKEN}"))
        .body(Body::from(csv.to_owned()))
        .unwrap();
    let response = api.clone().router().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap())
}

async fn count(api: &Api, campaign: &str) -> Value {
    let (_, shown) = send(api, Method::GET, &format!("/v1/campaigns/{campaign}"), None).await;
    shown["contacts"]["ready"].clone()
}

#[tokio::test]
async fn campaigns_are_made_of_lists_and_of_each_other_and_nobody_stands_in_one_twice() {
    let (_dir, api) = api(false).await;
    let (status, list) = send(&api, Method::POST, "/v1/lists", Some(json!({"name": "First overdue"}))).await;
    assert_eq!(status, StatusCode::CREATED, "{list:#}");
    let list = list["id"].as_str().unwrap().to_owned();
    let mut csv = "callee,external_id\n".to_owned();
    for n in 0..12 {
        csv += &format!("+86138001380{n:02},c{n}\n");
    }
    let (status, report) = upload(&api, &format!("/v1/lists/{list}/contacts"), &csv).await;
    assert_eq!((status, &report["imported"]), (StatusCode::OK, &json!(12)), "{report:#}");
    let (_, shown) = send(&api, Method::GET, &format!("/v1/lists/{list}"), None).await;
    assert_eq!((&shown["contacts"], &shown["name"]), (&json!(12), &json!("First overdue")));
    let (_, imports) = send(&api, Method::GET, &format!("/v1/lists/{list}/imports"), None).await;
    assert_eq!(imports["imports"].as_array().unwrap().len(), 1);

    let settings = json!({ "script_id": "repayment-reminder-zh" });
    let body = json!({ "name": "November", "settings": settings });
    let (_, made) = send(&api, Method::POST, "/v1/campaigns", Some(body)).await;
    let campaign = made["id"].as_str().unwrap().to_owned();
    upload(&api, &format!("/v1/campaigns/{campaign}/contacts"), "callee\n+8613800138003\n").await;
    for (copied, duplicates) in [(11, 1), (0, 12)] {
        let path = format!("/v1/campaigns/{campaign}/lists");
        let (status, added) = send(&api, Method::POST, &path, Some(json!({ "list": list }))).await;
        assert_eq!(
            (status, &added),
            (StatusCode::OK, &json!({ "copied": copied, "duplicates": duplicates }))
        );
    }
    assert_eq!(count(&api, &campaign).await, json!(12));

    let path = format!("/v1/campaigns/{campaign}/copy");
    let (status, bare) = send(&api, Method::POST, &path, None).await;
    assert_eq!(
        (status, &bare["state"], &bare["name"]),
        (StatusCode::CREATED, &json!("draft"), &json!("November"))
    );
    let body = json!({ "name": "December", "contacts": true });
    let (_, whole) = send(&api, Method::POST, &path, Some(body)).await;
    assert_eq!(whole["settings"], made["settings"]);
    assert_eq!(count(&api, bare["id"].as_str().unwrap()).await, Value::Null);
    assert_eq!(count(&api, whole["id"].as_str().unwrap()).await, json!(12));

    let (status, _) = send(&api, Method::DELETE, &format!("/v1/lists/{list}"), None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(count(&api, &campaign).await, json!(12), "what was copied stays");
    let (_, lists) = send(&api, Method::GET, "/v1/lists", None).await;
    assert_eq!(lists, json!({ "lists": [] }));
    for (method, path) in [
        (Method::GET, format!("/v1/lists/{list}")),
        (Method::DELETE, format!("/v1/lists/{list}")),
        (Method::GET, format!("/v1/campaigns/{list}")),
        (Method::GET, format!("/v1/lists/{campaign}")),
    ] {
        assert_eq!(send(&api, method, &path, None).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    let path = format!("/v1/campaigns/{campaign}/lists");
    let (status, problem) = send(&api, Method::POST, &path, Some(json!({ "list": list }))).await;
    assert_eq!((status, &problem["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("unknown_list")));
    let (status, _) = send(&api, Method::POST, "/v1/lists", Some(json!({ "name": " " }))).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
}
