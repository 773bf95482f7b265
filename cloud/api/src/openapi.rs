//! The description of the API (OpenAPI 3.1), generated from what is served.
//!
//! A [`Route`] is an address with its handlers and their description in one statement: nothing else reaches the router,
//! so nothing is served that is not described (a test looks). Bodies, answers and what stands behind `?` are described by the types
//! that the handlers read and write; `openapi.json` beside this file is the result, for those who generate clients.

mod draft;
mod route;
mod schemas;
mod signature;

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::ser::PrettyFormatter;
use serde_json::{Map, Value, json};
use trunkline_db::CallbackPayload;
use trunkline_worker::pacing::Pacing;

pub(crate) use route::{Operation, Route, delete, get, post, put};
use schemas::Schemas;

use crate::problem::Document;
use crate::{
    Api, alerts, audit, boxes, callbacks, calls, campaigns, console, contacts, enrol, experiments, fleet,
    keys,
};
use crate::{
    lists, metrics, numbers, orders, receipts, records, repo, rollouts, scripts, stream, suppression,
};

/// Everything that is served.
fn routes() -> Vec<Route> {
    [
        calls::routes(),
        stream::routes(),
        receipts::routes(),
        records::routes(),
        campaigns::routes(),
        contacts::routes(),
        lists::routes(),
        suppression::routes(),
        numbers::routes(),
        scripts::routes(),
        experiments::routes(),
        callbacks::routes(),
        boxes::routes(),
        fleet::routes(),
        orders::routes(),
        rollouts::routes(),
        alerts::routes(),
        keys::routes(),
        audit::routes(),
        enrol::routes(),
        repo::routes(),
        metrics::routes(),
        console::routes(),
        own(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Returns a router that serves everything.
pub(crate) fn router() -> Router<Arc<Api>> {
    routes()
        .into_iter()
        .map(Route::served)
        .fold(Router::new(), |router, (path, served)| router.route(path, served))
}

fn own() -> Vec<Route> {
    let described = get("openapi", show, "This document").or_sends(
        200,
        "This document",
        "application/json",
        json!({ "type": "object" }),
    );
    vec![Route::at("/openapi.json").on(described)]
}

async fn show() -> Response {
    static TEXT: LazyLock<String> = LazyLock::new(|| text_of(&document()));
    ([(CONTENT_TYPE, "application/json")], TEXT.as_str()).into_response()
}

/// Returns the schema of a text.
pub(crate) fn text() -> Value {
    json!({ "type": "string" })
}

/// Returns the schema of bytes.
pub(crate) fn binary() -> Value {
    json!({ "type": "string", "format": "binary" })
}

/// Puts the document together.
fn document() -> Value {
    let mut schemas = Schemas::new();
    let paths: Map<String, Value> = routes().into_iter().map(|route| route.described(&mut schemas)).collect();
    let webhook = webhook(&mut schemas);
    let responses = responses(&mut schemas);
    // Named by `Campaign`, which the database writes without knowing what it is.
    schemas.written::<Pacing>();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Trunkline",
            "version": "1",
            "description": "Robot calls: ask for them, follow them, call them off. Errors are problem documents \
                            (RFC 9457) whose `code` programs can rely on.",
        },
        "security": [{ "token": [] }],
        "paths": paths,
        "webhooks": { "call": { "post": webhook } },
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http", "scheme": "bearer",
                    "description": "A token; each operation names the scope that it needs. `admin` holds all others.",
                },
                "certificate": { "type": "mutualTLS", "description": "A box's certificate" },
            },
            "responses": responses,
            "schemas": schemas.named(),
        },
    })
}

fn responses(schemas: &mut Schemas) -> Value {
    let problem = |schemas: &mut Schemas, description: &str, headers: Value| {
        let schema = schemas.written::<Document>();
        let mut response = json!({ "description": description, "content": { "application/problem+json": { "schema": schema } } });
        if headers.is_object() {
            response["headers"] = headers;
        }
        response
    };
    let header = |about: &str, kind: &str| json!({ "description": about, "schema": { "type": kind } });
    json!({
        "Problem": problem(schemas, "Why not", Value::Null),
        "Unauthorized": problem(
            schemas,
            "Nobody is known by what came along",
            json!({ "WWW-Authenticate": header("`Bearer`", "string") }),
        ),
        "TooManyRequests": problem(
            schemas,
            "Too often",
            json!({
                "Retry-After": header("Seconds until it may be tried again", "integer"),
                "RateLimit": header("What is left to the token, in the form of the IETF's draft", "string"),
                "RateLimit-Policy": header("What a token may spend", "string"),
            }),
        ),
    })
}

fn webhook(schemas: &mut Schemas) -> Value {
    let header = |name: &str| json!({ "name": name, "in": "header", "required": true, "schema": text() });
    json!({
        "summary": "A call changed",
        "description": "Signed as Standard Webhooks asks: `webhook-signature` is `v1,` and the base64 of HMAC-SHA256 \
                        over `{webhook-id}.{webhook-timestamp}.{body}`. In order per call, at least once, with the \
                        same id at each attempt; repeated for a day.",
        "parameters": [header("webhook-id"), header("webhook-timestamp"), header("webhook-signature")],
        "requestBody": { "content": { "application/json": { "schema": schemas.written::<CallbackPayload>() } } },
        "responses": { "2XX": { "description": "Taken" }, "410": { "description": "Never again" } },
    })
}

/// Returns the document as it is committed: a space for each level, names in one order whatever this build's maps do.
fn text_of(document: &Value) -> String {
    let mut text = Vec::new();
    let mut writer = serde_json::Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b" "));
    match Ordered(document).serialize(&mut writer) {
        Ok(()) => String::from_utf8_lossy(&text).into_owned() + "\n",
        Err(error) => unreachable!("a value of JSON is written as JSON: {error}"),
    }
}

/// What is read first stands first; all else by its name.
const FIRST: [&str; 14] = [
    "openapi",
    "info",
    "title",
    "summary",
    "description",
    "operationId",
    "name",
    "in",
    "required",
    "type",
    "format",
    "paths",
    "parameters",
    "requestBody",
];

struct Ordered<'a>(&'a Value);

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().collect();
                fields.sort_by_key(|(name, _)| {
                    let first = FIRST.iter().position(|one| one == name);
                    (first.unwrap_or(FIRST.len()), name.as_str())
                });
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, &Ordered(value))?;
                }
                map.end()
            }
            Value::Array(values) => {
                let mut list = serializer.serialize_seq(Some(values.len()))?;
                for value in values {
                    list.serialize_element(&Ordered(value))?;
                }
                list.end()
            }
            other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                other.serialize(serializer)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_committed_document_is_the_one_of_this_build() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/openapi.json");
        let now = text_of(&document());
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(&path, &now).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == now, "openapi.json is old: UPDATE_SCHEMA=1 cargo test -p trunkline-api openapi");
    }

    #[test]
    fn nothing_is_served_past_the_description() {
        let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        let mut served = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|kind| kind == "rs") {
                    let calls =
                        std::fs::read_to_string(&path).unwrap().matches(concat!(".rou", "te(")).count();
                    served.extend(std::iter::repeat_n(path, calls));
                }
            }
        }
        assert!(served.len() == 1, "only `router` above may give axum an address: use `Route`; {served:?}");
    }

    #[test]
    fn every_operation_says_how_it_succeeds_and_has_a_name_of_its_own() {
        let document = document();
        let mut names = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let name = operation["operationId"].as_str().unwrap();
                assert!(names.insert(name.to_owned()), "{name} stands twice");
                let answers = operation["responses"].as_object().unwrap();
                assert!(
                    answers.keys().any(|status| status.starts_with('2')),
                    "{method} {path} never succeeds"
                );
                for (status, answer) in answers {
                    let told = answer.get("$ref").or(answer.get("description"));
                    assert!(told.is_some(), "{method} {path}: what is {status}?");
                }
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_no_two_types_have_one_name() {
        let document = document();
        let mut open = vec![&document];
        while let Some(value) = open.pop() {
            match value {
                Value::Object(fields) => {
                    if let Some(Value::String(to)) = fields.get("$ref") {
                        assert!(document.pointer(to.trim_start_matches('#')).is_some(), "{to}");
                    }
                    open.extend(fields.values());
                }
                Value::Array(values) => open.extend(values),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        for name in document["components"]["schemas"].as_object().unwrap().keys() {
            // The generator numbers types of the same name.
            assert!(
                !name.ends_with(|c: char| c.is_ascii_digit()),
                "{name}: name it with #[schemars(rename)]"
            );
        }
    }
}
