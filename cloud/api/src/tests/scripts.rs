//! Scripts that are published.

use trunkline_dialogue::MAX_BYTES;

use super::*;

const SCRIPT: &str = include_str!("../../../../shared/scripts/repayment-reminder-zh.yaml");

async fn publish(api: &Api, token: &str, text: impl Into<Body>) -> (StatusCode, Value) {
    publish_as(api, token, "", text).await
}

async fn publish_as(api: &Api, token: &str, how: &str, text: impl Into<Body>) -> (StatusCode, Value) {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("/v1/scripts{how}"))
        .header("authorization", format!("bearer {token}"))
        .header("content-type", "application/yaml")
        .body(text.into())
        .unwrap();
    let response = api.clone().router().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test]
async fn a_script_is_published_once_new_calls_get_it_and_an_older_version_can_come_back() {
    let (_dir, api) = api(false).await;
    let before = api.scripts.current(&"repayment-reminder-zh".parse().unwrap()).unwrap();
    let (status, same) = publish(&api, TOKEN, SCRIPT).await;
    assert_eq!((status, &same["new"]), (StatusCode::OK, &json!(false)), "{same:#}");
    assert_eq!((&same["version"], &same["published_by"]), (&json!(before.version()), &Value::Null));

    let changed = SCRIPT.replace("请问您近期方便还上吗", "请问您这几天方便还上吗");
    assert_ne!(changed, SCRIPT);
    let (status, new) = publish(&api, TOKEN, changed.clone()).await;
    assert_eq!(
        (status, &new["new"], &new["published_by"]),
        (StatusCode::CREATED, &json!(true), &json!("crm"))
    );
    let version = new["version"].as_str().unwrap();
    assert_ne!(version, before.version().as_str());
    assert!(api.engine.is_prepared(version), "the understanding was trained");
    assert_eq!(publish(&api, TOKEN, changed).await.0, StatusCode::OK, "the same again changes nothing");

    let (_, call) = send(&api, Method::POST, "/v1/calls", Some(sample(&api, "+8613800138000").await)).await;
    assert_eq!(call["script"]["version"], version, "{call:#}");
    let (_, shown) = send(&api, Method::GET, "/v1/scripts/repayment-reminder-zh", None).await;
    let versions: Vec<&str> =
        shown["versions"].as_array().unwrap().iter().filter_map(|one| one["version"].as_str()).collect();
    assert_eq!(versions, [version, before.version().as_str()]);
    let path = format!("/v1/scripts/repayment-reminder-zh/versions/{version}");
    let (status, text) = send(&api, Method::GET, &path, None).await;
    assert_eq!((status, &text["id"]), (StatusCode::OK, &json!("repayment-reminder-zh")));
    let other = path.replace("repayment-reminder-zh", "appointment-confirmation-en");
    assert_eq!(send(&api, Method::GET, &other, None).await.0, StatusCode::NOT_FOUND);

    // Another start: what was published stays, until the file itself is another one.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.yaml"), SCRIPT).unwrap();
    let id = before.id();
    let again = Scripts::read(folder.path()).unwrap();
    again.load(&api.db, Timestamp::now()).await.unwrap();
    assert_eq!(again.current(id).unwrap().version().as_str(), version);
    let edited = SCRIPT.replace("请问您近期方便还上吗", "请问您本周方便还上吗");
    std::fs::write(folder.path().join("a.yaml"), edited).unwrap();
    let third = Scripts::read(folder.path()).unwrap();
    let by_file = third.current(id).unwrap().version().clone();
    third.load(&api.db, Timestamp::now()).await.unwrap();
    assert_eq!(*third.current(id).unwrap().version(), by_file);

    let (status, back) = publish(&api, TOKEN, SCRIPT).await;
    assert_eq!((status, &back["version"]), (StatusCode::CREATED, &json!(before.version())));
    let (_, audit) = send(&api, Method::GET, "/v1/audit", None).await;
    assert_eq!(audit["entries"][0]["detail"]["version"], json!(before.version()), "{audit:#}");
}

#[tokio::test]
async fn a_script_with_errors_is_refused_with_all_of_them_and_warnings_do_not_refuse_one() {
    let (_dir, api) = api(false).await;
    let wrong = SCRIPT
        .replacen("id: repayment-reminder-zh", "id: broken-zh", 1)
        .replace("{due_date}", "{due_dat}")
        .replace("{amount}元", "{amout}元");
    let (status, problem) = publish(&api, TOKEN, wrong).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem:#}");
    assert_eq!(problem["code"], "script_rejected");
    let findings = problem["findings"].as_array().unwrap();
    assert!(findings.iter().filter(|one| one["severity"] == "error").count() >= 2, "{findings:#?}");
    for finding in findings {
        for key in ["code", "severity", "message", "remedy"] {
            assert!(finding[key].as_str().is_some_and(|text| !text.is_empty()), "{finding:#}");
        }
        assert!(finding["line"].as_u64().is_some() && finding["column"].as_u64().is_some());
    }
    assert!(api.scripts.current(&"broken-zh".parse().unwrap()).is_none(), "nothing was stored");
    assert!(api.db.publications().await.unwrap().iter().all(|one| one.id.as_str() != "broken-zh"));

    for unreadable in ["", "a: [", "[1, 2]", "{\"schema\": \"trunkline/script/9\"}"] {
        let (status, problem) = publish(&api, TOKEN, unreadable).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{unreadable}: {problem:#}");
        assert_eq!(problem["findings"].as_array().unwrap().len(), 1, "{problem:#}");
    }
}

#[tokio::test]
async fn a_script_may_have_a_mebibyte_and_whoever_sends_more_hears_what_to_do() {
    let (_dir, api) = api(false).await;
    let largest = format!("{SCRIPT}\n#{}\n", "-".repeat(MAX_BYTES - SCRIPT.len() - 3));
    assert_eq!(largest.len(), MAX_BYTES);
    let (status, answer) = publish(&api, TOKEN, largest.clone()).await;
    assert_eq!(status, StatusCode::OK, "{answer:#}");
    for larger in [largest + "\n", "#".repeat(2_000_000), "#".repeat(5_000_001), "#".repeat(19_000_000)] {
        let bytes = larger.len();
        let (status, problem) = publish(&api, TOKEN, larger).await;
        assert_eq!((status.as_u16(), &problem["code"]), (413, &json!("too_large")), "{bytes}: {problem:#}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("1048576 bytes") && detail.contains("split it"), "{detail}");
    }
}

#[tokio::test]
async fn what_a_policy_pack_does_not_permit_refuses_a_script_where_one_is_named() {
    let (_dir, api) = api(false).await;
    let listening = SCRIPT.replacen("locale:", "tone_of_voice: true\nlocale:", 1);
    assert_ne!(listening, SCRIPT);
    let (status, problem) = publish_as(&api, TOKEN, "?pack=eu,us", listening.clone()).await;
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("script_rejected")), "{problem:#}");
    let errors: Vec<&Value> =
        problem["findings"].as_array().unwrap().iter().filter(|one| one["severity"] == "error").collect();
    assert!(errors.iter().all(|one| one["code"] == "forbidden-by-pack"), "{problem:#}");
    assert!(errors[0]["message"].as_str().unwrap().contains("`eu`") && errors[0]["line"].as_u64() > Some(0));
    let (status, problem) = publish_as(&api, TOKEN, "?pack=eu,xx", listening.clone()).await;
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("unknown_pack")), "{problem:#}");
    assert!(problem["detail"].as_str().unwrap().contains("default-strict"), "{problem:#}");
    let (status, problem) = publish_as(&api, TOKEN, "?packs=eu", listening.clone()).await;
    assert_eq!((status.as_u16(), &problem["code"]), (400, &json!("malformed_query")), "{problem:#}");

    // It is checked, and that is all.
    let before = api.db.publications().await.unwrap();
    let (status, checked) = publish_as(&api, TOKEN, "?dry_run=true", listening.clone()).await;
    assert_eq!((status, &checked["new"]), (StatusCode::OK, &json!(false)), "{checked:#}");
    assert_ne!(
        checked["version"],
        json!(api.scripts.current(&"repayment-reminder-zh".parse().unwrap()).unwrap().version())
    );
    assert_eq!(api.db.publications().await.unwrap(), before);
    let (status, _) = publish_as(&api, TOKEN, "?dry_run=true&pack=eu", listening).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let (status, published) = publish_as(&api, TOKEN, "?pack=eu,uk,cn", SCRIPT).await;
    assert_eq!(status, StatusCode::OK, "{published:#}");
}

#[tokio::test]
async fn publishing_needs_the_scope_for_it() {
    let (_dir, api) = api(false).await;
    let scopes = json!({ "name": "reader", "scopes": ["scripts:read"] });
    let (status, key) = send(&api, Method::POST, "/v1/keys", Some(scopes)).await;
    assert_eq!(status, StatusCode::CREATED, "{key:#}");
    let (status, problem) = publish(&api, key["token"].as_str().unwrap(), SCRIPT).await;
    assert_eq!((status, &problem["code"]), (StatusCode::FORBIDDEN, &json!("scope_missing")));
}
