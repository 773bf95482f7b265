//! Campaigns whose contacts a person looks at, and gray releases.

use super::*;

async fn campaign(api: &Api, extra: Value) -> (StatusCode, Value) {
    let example = sample(api, "+8613800138000").await["variables"].clone();
    let mut settings = json!({ "script_id": "repayment-reminder-zh", "variables": example });
    for (name, value) in extra.as_object().unwrap() {
        settings[name] = value.clone();
    }
    send(api, Method::POST, "/v1/campaigns", Some(json!({ "name": "November", "settings": settings }))).await
}

async fn filled(api: &Api, path: &str, csv: &str) {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("{path}/contacts"))
        .header("authorization", format!("bearer {TOKEN}"))
        .body(Body::from(csv.to_owned()))
        .unwrap();
    assert!(api.clone().router().oneshot(request).await.unwrap().status().is_success());
}

#[tokio::test]
async fn a_person_looks_at_each_contact_and_calls_it_or_passes_it_over() {
    let (_dir, api) = api(false).await;
    let (status, made) = campaign(&api, json!({ "mode": "preview" })).await;
    assert_eq!(status, StatusCode::CREATED, "{made:#}");
    let path = format!("/v1/campaigns/{}", made["id"].as_str().unwrap());
    filled(&api, &path, "callee,external_id\n+8613800138001,a\n+8613800138002,b\n+8613800138003,c\n").await;
    let (status, looked) = send(&api, Method::GET, &format!("{path}/preview?limit=2"), None).await;
    assert_eq!(status, StatusCode::OK, "{looked:#}");
    let contacts = looked["contacts"].as_array().unwrap();
    assert_eq!((contacts.len(), &contacts[0]["external_id"]), (2, &json!("a")));
    let (first, second) =
        (contacts[0]["contact"].as_u64().unwrap(), contacts[1]["contact"].as_u64().unwrap());

    let call = |n: u64| format!("{path}/contacts/{n}/call");
    let (status, problem) = send(&api, Method::POST, &call(first), None).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("not_ready")), "it is a draft");
    send(&api, Method::POST, &format!("{path}/start"), None).await;
    let (status, started) = send(&api, Method::POST, &call(first), None).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{started:#}");
    let (_, shown) =
        send(&api, Method::GET, &format!("/v1/calls/{}", started["call"].as_str().unwrap()), None).await;
    assert_eq!((&shown["status"], &shown["external_id"]), (&json!("queued"), &json!("a")));
    let (status, problem) = send(&api, Method::POST, &call(first), None).await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::CONFLICT, &json!("not_ready")),
        "nobody is called twice"
    );

    let skip = format!("{path}/contacts/{second}/skip");
    let (status, _) = send(&api, Method::POST, &skip, Some(json!({ "why": "paid this morning" }))).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, _) = send(&api, Method::POST, &call(second), None).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let (_, shown) = send(&api, Method::GET, &path, None).await;
    assert_eq!(shown["contacts"], json!({ "calling": 1, "done": 1, "ready": 1 }));
    assert_eq!(shown["reasons"]["paid this morning"], 1);
    assert_eq!(send(&api, Method::POST, &call(9_999), None).await.0, StatusCode::NOT_FOUND);

    let (_, robots) = campaign(&api, json!({})).await;
    let path = format!("/v1/campaigns/{}/preview", robots["id"].as_str().unwrap());
    let (status, problem) = send(&api, Method::GET, &path, None).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("no_preview")));
}

#[tokio::test]
async fn a_release_whose_steps_lead_nowhere_is_refused_and_a_step_waits_for_a_yes() {
    let (_dir, api) = api(false).await;
    let release = |steps: Value| {
        let gate =
            json!({ "least": 5, "good_outcome": 0.2, "opt_out": 0.05, "complaint": 0.0, "no_match": 0.3 });
        json!({ "release": { "plan": { "steps": steps, "gate": gate, "automatic": false },
            "value": "amount", "good": ["agreed"] } })
    };
    let (status, problem) = campaign(&api, release(json!([10, 5]))).await;
    assert_eq!((status, &problem["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("bad_release")));
    let mut quoted = release(json!([10, 100]));
    quoted["release"]["value"] = "a\"b".into();
    let (status, problem) = campaign(&api, quoted).await;
    assert_eq!(
        (status, &problem["field"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("settings.release.value"))
    );
    let (status, made) = campaign(&api, release(json!([10, 100]))).await;
    assert_eq!((status, &made["share"]), (StatusCode::CREATED, &json!(0)), "{made:#}");
    let id = made["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/campaigns/{id}");
    let mut csv = "callee,amount\n".to_owned();
    for n in 0..20 {
        csv += &format!("+86138001380{n:02},{}\n", 1_000 - n * 10);
    }
    filled(&api, &path, &csv).await;
    let (status, problem) = send(&api, Method::POST, &format!("{path}/widen"), None).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("nothing_to_widen")));

    let now = ten_in_shanghai();
    api.db.set_share(&id, 10, "amount", now).await.unwrap();
    let ready = api.db.ready_contacts(&id, now, 100).await.unwrap();
    let mut amounts: Vec<&str> = ready.iter().map(|contact| contact.variables["amount"].as_str()).collect();
    amounts.sort_unstable();
    assert_eq!(amounts, ["810", "820"], "the two of twenty that are worth least");
    // Who comes later waits too.
    filled(&api, &path, "callee,amount\n+8613800138050,1\n").await;
    assert_eq!(api.db.ready_contacts(&id, now, 100).await.unwrap().len(), 2);

    api.db.share_could_be(&id, 100).await.unwrap();
    let (status, wide) = send(&api, Method::POST, &format!("{path}/widen"), None).await;
    assert_eq!((status, &wide["share"], &wide["share_next"]), (StatusCode::ACCEPTED, &json!(100), &json!(0)));
    assert_eq!(api.db.ready_contacts(&id, now, 100).await.unwrap().len(), 21);
}
