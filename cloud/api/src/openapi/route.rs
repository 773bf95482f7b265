//! An address with what is served there, and its description: one statement for both.

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{self, MethodFilter, MethodRouter};
use schemars::JsonSchema;
use serde_json::{Map, Value};

use super::draft::Draft;
use super::schemas::{MOST, Schemas};
use super::signature::{Output, Signature};
use crate::Api;

/// An address, and what may be asked there.
pub(crate) struct Route {
    path: &'static str,
    served: MethodRouter<Arc<Api>>,
    operations: Vec<Operation>,
}

impl Route {
    /// Begins with nothing.
    pub(crate) fn at(path: &'static str) -> Self {
        Self { path, served: MethodRouter::new(), operations: Vec::new() }
    }

    /// Serves an operation.
    pub(crate) fn on(mut self, mut operation: Operation) -> Self {
        self.served = self.served.merge(std::mem::take(&mut operation.served));
        self.operations.push(operation);
        self
    }

    /// Takes bodies of at most so many bytes.
    pub(crate) fn with_limit(mut self, bytes: usize) -> Self {
        self.served = self.served.layer(DefaultBodyLimit::max(bytes));
        self
    }

    /// Returns the address and what serves it.
    pub(super) fn served(self) -> (&'static str, MethodRouter<Arc<Api>>) {
        (self.path, self.served)
    }

    /// Returns the address and its description.
    pub(super) fn described(self, schemas: &mut Schemas) -> (String, Value) {
        let operations = self.operations.into_iter().map(|operation| {
            let method = operation.method.as_str().to_lowercase();
            (method, operation.described(self.path, schemas))
        });
        (self.path.to_owned(), operations.collect::<Map<_, _>>().into())
    }
}

/// A word on an operation that its handler's signature does not say.
type Word = Box<dyn FnOnce(&mut Draft<'_>)>;

/// What is served for one method.
pub(crate) struct Operation {
    method: Method,
    served: MethodRouter<Arc<Api>>,
    id: &'static str,
    summary: &'static str,
    about: Option<&'static str>,
    signature: fn(&mut Draft<'_>),
    words: Vec<Word>,
}

macro_rules! methods {
    ($($name:ident $method:ident,)*) => {
        $(
            /// Serves a handler; `id` names the operation for clients that are generated.
            pub(crate) fn $name<H, T, I, O>(id: &'static str, handler: H, summary: &'static str) -> Operation
            where
                H: Handler<T, Arc<Api>> + Signature<I, O>,
                T: 'static,
            {
                Operation {
                    method: Method::$method,
                    served: routing::on(MethodFilter::$method, handler),
                    id,
                    summary,
                    about: None,
                    signature: H::describe,
                    words: Vec::new(),
                }
            }
        )*
    };
}

methods!(get GET, post POST, put PUT, delete DELETE,);

impl Operation {
    fn word(mut self, word: impl FnOnce(&mut Draft<'_>) + 'static) -> Self {
        self.words.push(Box::new(word));
        self
    }

    /// Says more than fits in a line.
    pub(crate) fn about(mut self, text: &'static str) -> Self {
        self.about = Some(text);
        self
    }

    /// Says what the answer is that the handler's signature names.
    pub(crate) fn says(self, text: &'static str) -> Self {
        self.word(move |draft| draft.about_answer(None, text))
    }

    /// Adds an answer with a body as `O` has it, of this status.
    pub(crate) fn or<O: Output>(self, status: u16, text: &'static str) -> Self {
        self.word(move |draft| {
            O::describe(draft);
            draft.about_answer(Some(status), text);
        })
    }

    /// Adds an answer whose body is no JSON; an empty `media` is for one without a body.
    pub(crate) fn or_sends(
        self,
        status: u16,
        text: &'static str,
        media: &'static str,
        schema: Value,
    ) -> Self {
        self.word(move |draft| {
            draft.answer(status, (!media.is_empty()).then_some((media, schema)));
            draft.about_answer(Some(status), text);
        })
    }

    /// Adds refusals, which come with a problem document.
    pub(crate) fn fails(self, statuses: &'static [u16]) -> Self {
        self.word(move |draft| draft.problems(statuses))
    }

    /// Says what a part of the address is.
    pub(crate) fn part<T: JsonSchema>(self, name: &'static str, text: &'static str) -> Self {
        self.word(move |draft| {
            let mut schema = draft.schemas.read::<T>();
            if let Some(schema) = schema.as_object_mut() {
                schema.remove("description");
                if schema.get("type").is_some_and(|kind| kind == "integer") {
                    schema.entry("maximum").or_insert(MOST.into());
                }
            }
            draft.parameter("path", name, text, schema);
        })
    }

    /// Names a header that is read; `schema` is of its text.
    pub(crate) fn header(self, name: &'static str, text: &'static str, schema: Value) -> Self {
        self.word(move |draft| draft.parameter("header", name, text, schema))
    }

    /// Adds a form of a body that the handler reads by itself.
    pub(crate) fn takes(self, media: &'static str, schema: Value) -> Self {
        self.word(move |draft| draft.body(media, schema, true))
    }

    /// Says what the body is.
    pub(crate) fn about_body(self, text: &'static str) -> Self {
        self.word(move |draft| draft.about_body(text))
    }

    /// Shows a body.
    pub(crate) fn example(self, example: Value) -> Self {
        self.word(move |draft| draft.example(example))
    }

    fn described(self, path: &'static str, schemas: &mut Schemas) -> Value {
        let mut draft = Draft::new(schemas, path, self.method);
        (self.signature)(&mut draft);
        for word in self.words {
            word(&mut draft);
        }
        draft.finish(self.id, self.summary, self.about)
    }
}
