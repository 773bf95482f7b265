//! Numbers that customers call.

use super::*;

fn binding(number: Value) -> Value {
    json!({
        "number": number, "script_id": "appointment-confirmation-en",
        "variables": { "org": "Riverside Clinic", "name": "Alex Morgan", "doctor": "Doctor Patel",
            "date": "2026-11-27", "time": "15:00" },
    })
}

#[tokio::test]
async fn a_number_is_bound_to_a_script_changed_and_let_go() {
    let (_dir, api) = api(false).await;
    let (status, made) =
        send(&api, Method::POST, "/v1/numbers", Some(binding(json!("+86 21 5555 0100")))).await;
    assert_eq!(status, StatusCode::CREATED, "{made:#}");
    assert_eq!((&made["number"], &made["trouble"]), (&json!("+862155550100"), &Value::Null));
    let path = format!("/v1/numbers/{}", made["id"].as_str().unwrap());

    let (status, problem) =
        send(&api, Method::POST, "/v1/numbers", Some(binding(json!("+862155550100")))).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("number_taken")));
    let mut here = binding(json!("+862155550100"));
    here["boxes"] = json!(["tl-a", "tl-b"]);
    let (status, own) = send(&api, Method::POST, "/v1/numbers", Some(here.clone())).await;
    assert_eq!(status, StatusCode::CREATED, "a box may have its own: {own:#}");
    here["boxes"] = json!(["tl-b", "tl-c"]);
    assert_eq!(send(&api, Method::POST, "/v1/numbers", Some(here)).await.0, StatusCode::CONFLICT);

    let (status, changed) = send(&api, Method::PUT, &path, Some(binding(Value::Null))).await;
    assert_eq!((status, &changed["number"], &changed["id"]), (StatusCode::OK, &Value::Null, &made["id"]));
    let (_, all) = send(&api, Method::GET, "/v1/numbers", None).await;
    assert_eq!(all["numbers"].as_array().unwrap().len(), 2);
    assert_eq!(send(&api, Method::GET, &path, None).await.1, changed);

    assert_eq!(send(&api, Method::DELETE, &path, None).await.0, StatusCode::NO_CONTENT);
    for (method, body) in
        [(Method::GET, None), (Method::DELETE, None), (Method::PUT, Some(binding(json!("8001"))))]
    {
        assert_eq!(send(&api, method, &path, body).await.0, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_binding_that_could_not_answer_is_refused_with_what_is_wrong() {
    let (_dir, api) = api(false).await;
    for (field, value, code) in [
        ("number", json!("+0123"), "malformed_number"),
        ("number", json!("80 01"), "malformed_number"),
        ("script_id", json!("none"), "unknown_script"),
        ("variables", json!({ "org": "x" }), "missing_variable"),
        ("boxes", json!(["Not A Box"]), "malformed_box"),
        ("callback_url", json!("https://crm.example/hook"), "callbacks_disabled"),
    ] {
        let mut body = binding(json!("8001"));
        body[field] = value;
        let (status, problem) = send(&api, Method::POST, "/v1/numbers", Some(body)).await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::UNPROCESSABLE_ENTITY, &json!(code)),
            "{problem:#}"
        );
    }
    let mut many = binding(json!("8001"));
    many["variables"]["org"] = "x".repeat(40_000).into();
    let mut full = StatusCode::OK;
    for n in 0..4 {
        many["number"] = format!("80{n}").into();
        full = send(&api, Method::POST, "/v1/numbers", Some(many.clone())).await.0;
    }
    assert_eq!(full, StatusCode::UNPROCESSABLE_ENTITY, "no more than a box can be told");
}
