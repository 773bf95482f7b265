//! One operation of the document while it is put together.

use std::collections::BTreeMap;

use axum::http::Method;
use schemars::JsonSchema;
use serde_json::{Value, json};

use super::schemas::Schemas;
use crate::scope;

/// Who may ask.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Security {
    /// Everybody.
    #[default]
    None,
    /// Who holds a token with the scope of the area.
    Token,
    /// A box, by its certificate.
    Certificate,
}

/// What is known of an operation so far.
pub(crate) struct Draft<'a> {
    pub(crate) schemas: &'a mut Schemas,
    path: &'static str,
    method: Method,
    security: Security,
    parameters: Vec<Value>,
    body: Option<(bool, BTreeMap<&'static str, Value>)>,
    example: Option<Value>,
    about_body: Option<&'static str>,
    answers: BTreeMap<u16, Value>,
}

impl<'a> Draft<'a> {
    /// Begins with what the address says.
    pub(super) fn new(schemas: &'a mut Schemas, path: &'static str, method: Method) -> Self {
        let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let parameters = names
            .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
            .collect();
        Self {
            schemas,
            path,
            method,
            security: Security::None,
            parameters,
            body: None,
            example: None,
            about_body: None,
            answers: BTreeMap::new(),
        }
    }

    pub(super) fn security(&mut self, security: Security) {
        self.security = security;
    }

    /// Adds a header, or says more about a part of the address.
    pub(super) fn parameter(&mut self, place: &str, name: &str, about: &str, schema: Value) {
        let known = self.parameters.iter().position(|one| one["in"] == place && one["name"] == name);
        assert!(known.is_some() || place != "path", "`{}` has no part `{name}`", self.path);
        let mut parameter = match known {
            Some(at) => self.parameters.remove(at),
            None => json!({ "name": name, "in": place }),
        };
        parameter["schema"] = schema;
        if !about.is_empty() {
            parameter["description"] = about.into();
        }
        self.parameters.insert(known.unwrap_or(self.parameters.len()), parameter);
    }

    /// Adds what `T` reads from behind `?`.
    pub(super) fn query<T: JsonSchema>(&mut self) {
        for (name, mut schema, required) in self.schemas.fields::<T>() {
            let mut parameter = json!({ "name": name, "in": "query" });
            if required {
                parameter["required"] = true.into();
            }
            if let Some(about) = schema.as_object_mut().and_then(|schema| schema.remove("description")) {
                parameter["description"] = about;
            }
            parameter["schema"] = schema;
            self.parameters.push(parameter);
        }
    }

    /// Adds a form of the body.
    pub(super) fn body(&mut self, media: &'static str, schema: Value, required: bool) {
        let (must, forms) = self.body.get_or_insert_default();
        *must = required;
        forms.insert(media, schema);
    }

    pub(super) fn about_body(&mut self, about: &'static str) {
        self.about_body = Some(about);
    }

    pub(super) fn example(&mut self, example: Value) {
        self.example = Some(example);
    }

    /// Adds an answer, as far as it is not a problem.
    pub(super) fn answer(&mut self, status: u16, content: Option<(&str, Value)>) {
        let answer = self.answers.entry(status).or_insert_with(|| json!({}));
        if let Some((media, schema)) = content {
            answer["content"][media] = json!({ "schema": schema });
        }
    }

    /// Says in words what an answer is; without a status the one that there is.
    pub(super) fn about_answer(&mut self, status: Option<u16>, about: &str) {
        let found = match status {
            Some(status) => self.answers.get_mut(&status),
            None => self.answers.range_mut(..400).next().map(|(_, answer)| answer),
        };
        match found {
            Some(answer) => answer["description"] = about.into(),
            None => panic!("{} {} has no such answer: {about}", self.method, self.path),
        }
    }

    /// Adds statuses that come with a problem document.
    pub(super) fn problems(&mut self, statuses: &[u16]) {
        for status in statuses {
            let name = match status {
                401 => "Unauthorized",
                429 => "TooManyRequests",
                _ => "Problem",
            };
            let reference = json!({ "$ref": format!("#/components/responses/{name}") });
            self.answers.entry(*status).or_insert(reference);
        }
    }

    /// Returns the operation as the document has it.
    pub(super) fn finish(mut self, id: &str, summary: &str, about: Option<&str>) -> Value {
        // The bucket of a token is before everything below `/v1/`.
        if self.security == Security::Token && self.path.starts_with("/v1/") {
            self.problems(&[429]);
        }
        let answers = self.answers.into_iter().map(|(status, answer)| (status.to_string(), answer));
        let mut operation = json!({
            "operationId": id, "summary": summary, "responses": answers.collect::<serde_json::Map<_, _>>(),
            "security": match self.security {
                Security::None => json!([]),
                Security::Token => json!([{ "token": [scope::needed(&self.method, self.path)] }]),
                Security::Certificate => json!([{ "certificate": [] }]),
            },
        });
        if let Some(about) = about {
            operation["description"] = about.into();
        }
        if !self.parameters.is_empty() {
            operation["parameters"] = self.parameters.into();
        }
        if let Some((required, forms)) = self.body {
            let mut body = json!({ "required": required });
            for (media, schema) in forms {
                body["content"][media]["schema"] = schema;
                if let Some(example) = &self.example {
                    body["content"][media]["example"] = example.clone();
                }
            }
            if let Some(about) = self.about_body {
                body["description"] = about.into();
            }
            operation["requestBody"] = body;
        }
        operation
    }
}
