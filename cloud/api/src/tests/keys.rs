//! Tokens with scopes and an end, and the log of changes.

use super::*;

async fn send_as(
    api: &Api,
    token: &str,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> (StatusCode, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {token}"))
        .body(body.map_or(Body::empty(), |body| Body::from(body.to_string())))
        .unwrap();
    let response = api.clone().router().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

#[tokio::test]
async fn a_token_is_shown_once_kept_as_a_hash_and_opens_what_its_scopes_name_until_it_ends() {
    let (dir, mut api) = api(false).await;
    let wanted = json!({
        "name": "dashboard", "scopes": ["calls:read", "keys:write"], "expires_at": "2026-11-23T03:00:00Z",
    });
    let (status, made) = send(&api, Method::POST, "/v1/keys", Some(wanted.clone())).await;
    assert_eq!(status, StatusCode::CREATED, "{made:#}");
    let token = made["token"].as_str().unwrap().to_owned();
    let (_, listed) = send(&api, Method::GET, "/v1/keys", None).await;
    assert_eq!(listed["keys"][0]["name"], "dashboard");
    assert!(!listed.to_string().contains(&token));
    api.db.ping().await.unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(
            !bytes.windows(token.len()).any(|window| window == token.as_bytes()),
            "the token is on the disk"
        );
    }

    let (status, _) = send_as(&api, &token, Method::GET, "/v1/calls", None).await;
    assert_eq!(status, StatusCode::OK);
    let (status, problem) =
        send_as(&api, &token, Method::POST, "/v1/calls", Some(sample(&api, "+8613800138000").await)).await;
    assert_eq!((status.as_u16(), &problem["code"]), (403, &json!("scope_missing")));
    assert_eq!(send_as(&api, &token, Method::GET, "/v1/boxes", None).await.0, StatusCode::FORBIDDEN);
    // Nobody gives out more than he holds.
    let more = json!({ "name": "more", "scopes": ["admin"] });
    assert_eq!(send_as(&api, &token, Method::POST, "/v1/keys", Some(more)).await.0, StatusCode::FORBIDDEN);
    let same = json!({ "name": "same", "scopes": ["calls:read"] });
    assert_eq!(send_as(&api, &token, Method::POST, "/v1/keys", Some(same)).await.0, StatusCode::CREATED);

    for (change, code) in [
        (json!({ "name": "dashboard" }), "name_taken"),
        (json!({ "name": "crm" }), "name_taken"),
        (json!({ "name": "server" }), "bad_name"),
        (json!({ "name": "" }), "bad_name"),
        (json!({ "scopes": [] }), "unknown_scope"),
        (json!({ "scopes": ["calls:delete"] }), "unknown_scope"),
        (json!({ "name": "x", "expires_at": "2026-11-23T01:00:00Z" }), "expires_past"),
        (json!({ "colour": 1 }), "malformed_body"),
    ] {
        let mut wrong = wanted.clone();
        for (key, value) in change.as_object().unwrap() {
            wrong[key] = value.clone();
        }
        let (status, problem) = send(&api, Method::POST, "/v1/keys", Some(wrong)).await;
        assert!(status.is_client_error(), "{change}");
        assert_eq!(problem["code"], code, "{change}");
    }

    // It ends by itself, and another one ends at once.
    let path = format!("/v1/keys/{}", made["id"].as_str().unwrap());
    api.clock = ten_at_night;
    assert_eq!(send_as(&api, &token, Method::GET, "/v1/calls", None).await.0, StatusCode::UNAUTHORIZED);
    api.clock = ten_in_shanghai;
    assert_eq!(send_as(&api, &token, Method::GET, "/v1/calls", None).await.0, StatusCode::OK);
    let (status, revoked) = send(&api, Method::DELETE, &path, None).await;
    assert_eq!((status, &revoked["revoked_at"]), (StatusCode::OK, &json!("2026-11-23T02:00:00Z")));
    assert_eq!(send_as(&api, &token, Method::GET, "/v1/calls", None).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(send(&api, Method::DELETE, "/v1/keys/key_0", None).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn every_change_is_in_the_log_with_who_when_and_what_and_nothing_takes_it_out() {
    let (_dir, api) = api(false).await;
    let call = sample(&api, "+8613800138000").await;
    let (_, call) = send(&api, Method::POST, "/v1/calls", Some(call)).await;
    send(&api, Method::POST, "/v1/opt-outs", Some(json!({ "callee": "+8613800138001" }))).await;
    send(&api, Method::POST, "/v1/opt-outs", Some(json!({ "callee": "x" }))).await;
    send(&api, Method::POST, "/v1/keys", Some(json!({ "name": "k", "scopes": ["audit:read"] }))).await;
    send_as(&api, "guess", Method::POST, "/v1/opt-outs", Some(json!({ "callee": "+8613800138002" }))).await;
    send(&api, Method::GET, "/v1/calls", None).await;

    let (status, log) = send(&api, Method::GET, "/v1/audit", None).await;
    assert_eq!(status, StatusCode::OK);
    let entries = log["entries"].as_array().unwrap();
    let told: Vec<(&str, u64)> = entries
        .iter()
        .map(|entry| (entry["path"].as_str().unwrap(), entry["status"].as_u64().unwrap()))
        .collect();
    assert_eq!(told, [("/v1/keys", 201), ("/v1/opt-outs", 422), ("/v1/opt-outs", 201), ("/v1/calls", 202)]);
    assert!(entries.iter().all(|entry| entry["who"] == "crm" && entry["at"] == "2026-11-23T02:00:00Z"));
    assert_eq!(entries[3]["detail"]["call"], call["id"]);
    assert_eq!(entries[0]["detail"]["scopes"], json!(["audit:read"]));
    let text = log.to_string();
    assert!(!text.contains("138001380") && !text.contains("tl_"), "no number and no token: {text}");
    let (_, page) = send(&api, Method::GET, "/v1/audit?limit=2", None).await;
    let next = page["next"].as_u64().unwrap();
    let (_, rest) = send(&api, Method::GET, &format!("/v1/audit?limit=2&before={next}"), None).await;
    assert_eq!(rest["entries"][0]["status"], 201);
    assert_eq!(rest["entries"][1]["path"], "/v1/calls");

    // A setting of the server is told when it changes.
    let at = ten_in_shanghai();
    assert!(api.db.audit_setting("policy packs", &json!([1]), at).await.unwrap());
    assert!(!api.db.audit_setting("policy packs", &json!([1]), at).await.unwrap());
    assert!(api.db.audit_setting("policy packs", &json!([2]), at).await.unwrap());
    // An entry is completed once.
    api.db.audit_end(1, 500, &json!({ "forged": true })).await.unwrap();
    let last = api.db.audit(Some(2), 1).await.unwrap();
    assert_eq!(last[0].status, Some(202));
}
