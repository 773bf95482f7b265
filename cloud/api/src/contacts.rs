//! Contacts on their way in, as CSV or XLSX, and on their way out, as CSV.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::stream::unfold;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;
use trunkline_db::{DbError, ImportRow, NewContact};
use uuid::Uuid;

use crate::answer::Answer;
use crate::audit::Detail;
use crate::auth::Caller;
use crate::campaigns::campaign;
use crate::import::{ImportError, Importer, Line, cell, xlsx};
use crate::openapi::{Operation, Route, get, post, text};
use crate::problem::Chain;
use crate::query::Query;
use crate::{Api, Problem};

/// Lines that are stored together.
const BATCH: usize = 1_000;
/// Bad lines that the answer lists; `/v1/imports/{id}/errors` has all.
const LISTED: u32 = 1_000;
const PAGE: u32 = 1_000;

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::at("/v1/campaigns/{id}/contacts").on(importing(post(
            "addContacts",
            import,
            "Adds contacts from CSV of any length, or from an XLSX workbook of up to 32 MiB",
        ))),
        Route::at("/v1/campaigns/{id}/contacts.csv").on(exporting(get(
            "exportContacts",
            export,
            "What the contacts came to, as CSV",
        ))),
        Route::at("/v1/campaigns/{id}/imports").on(get(
            "listImports",
            imports,
            "The imports of a campaign, those under way included",
        )
        .says("The newest first")
        .fails(&[404])),
        Route::at("/v1/imports/{id}")
            .on(get("showImport", progress, "How far an import is").says("The import").fails(&[404])),
        Route::at("/v1/imports/{id}/errors").on(get(
            "importErrors",
            import_errors,
            "The lines of an import that are no contacts",
        )
        .says("A page of them")
        .fails(&[404])),
    ]
}

/// An operation that takes a file of contacts.
pub(crate) fn importing(operation: Operation) -> Operation {
    const XLSX: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
    operation
        .about(
            "A body that begins as a workbook is read as one, whatever its type says. Bad lines are reported and passed \
             over; the answer lists 1,000 of them, /v1/imports/{id}/errors all. Watch a long one under \
             /v1/campaigns/{id}/imports.",
        )
        .takes("text/csv", text())
        .takes(XLSX, json!({ "type": "string", "contentMediaType": XLSX }))
        .or::<Json<Report>>(200, "What was imported, and each bad line")
        .or::<Answer<422, Report>>(422, "The file cannot be read on; what was imported stays")
        .fails(&[404])
}

/// An operation that hands contacts out.
pub(crate) fn exporting(operation: Operation) -> Operation {
    operation
        .about(
            "A field that a spreadsheet could take for a formula begins with an apostrophe; an import takes it off \
             again.",
        )
        .or_sends(200, "A line for each contact", "text/csv", text())
        .fails(&[404])
}

/// What came of a file of contacts.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ImportReport")]
pub(crate) struct Report {
    #[serde(flatten)]
    row: ImportRow,
    /// How the text was written.
    #[schemars(extend("enum" = ["UTF-8", "GBK"]))]
    encoding: &'static str,
    /// The first bad lines.
    errors: Vec<LineError>,
}

/// A line that is no contact.
#[derive(Serialize, JsonSchema)]
pub(crate) struct LineError {
    /// From 1, the header being the first.
    #[schemars(range(min = 1))]
    line: u64,
    /// Why not.
    reason: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Imports {
    pub(crate) imports: Vec<ImportRow>,
}

/// A page of bad lines.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct LineErrors {
    errors: Vec<LineError>,
    /// Where the next page begins; `null` at the end.
    next: Option<u64>,
}

#[derive(Deserialize, JsonSchema)]
pub(crate) struct Mapping {
    /// Other names for columns: `COLUMN:name,COLUMN:name`.
    map: Option<String>,
}

/// Contacts as CSV of any length, or as an XLSX workbook. What was stored before a fatal error stays stored.
pub(crate) async fn import(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(campaign_id): Path<String>,
    Query(mapping): Query<Mapping>,
    body: Body,
) -> Result<Response, Problem> {
    campaign(&api, &campaign_id).await?;
    import_into(&api, &campaign_id, mapping, body).await
}

/// Takes contacts in for a campaign or a list.
pub(crate) async fn import_into(
    api: &Api,
    campaign_id: &str,
    mapping: Mapping,
    body: Body,
) -> Result<Response, Problem> {
    let pairs = mapping.map.unwrap_or_default();
    let map = pairs.split(',').filter_map(|pair| pair.split_once(':'));
    let map: BTreeMap<String, String> =
        map.map(|(from, to)| (from.trim().to_owned(), to.trim().to_owned())).collect();
    let mut stream = body.into_data_stream();
    let head = match stream.next().await {
        Some(Ok(bytes)) => bytes,
        Some(Err(_)) | None => Bytes::new(),
    };
    let is_xlsx = xlsx::is_xlsx(&head);
    let id = format!("imp_{}", Uuid::now_v7().simple());
    api.db.begin_import(&id, campaign_id, if is_xlsx { "xlsx" } else { "csv" }, (api.clock)()).await?;
    let run = Run { api, id: &id, campaign: campaign_id };
    let (encoding, fatal) = if is_xlsx {
        ("UTF-8", run.workbook(head, stream, map).await?)
    } else {
        run.csv(head, stream, map).await?
    };
    api.db.end_import(&id, fatal.as_deref(), (api.clock)()).await?;
    let row = api.db.import(&id).await?.ok_or_else(Problem::failed)?;
    let listed = api.db.import_errors(&id, 0, LISTED).await?;
    let status = if fatal.is_none() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let detail =
        json!({ "import": id, "lines": row.lines, "imported": row.imported, "rejected": row.rejected });
    let report = Report { row, encoding, errors: errors(listed) };
    Ok((status, Detail::of(detail), Json(report)).into_response())
}

fn errors(listed: Vec<(u64, String)>) -> Vec<LineError> {
    listed.into_iter().map(|(line, reason)| LineError { line, reason }).collect()
}

/// One file on its way in.
struct Run<'a> {
    api: &'a Api,
    id: &'a str,
    campaign: &'a str,
}

impl Run<'_> {
    /// Reads CSV as it arrives. Returns the encoding, and why nothing more could be read.
    async fn csv(
        &self,
        head: Bytes,
        mut stream: BodyDataStream,
        map: BTreeMap<String, String>,
    ) -> Result<(&'static str, Option<String>), Problem> {
        let mut importer = Importer::new(map);
        let mut lines = Vec::new();
        let mut next = Some(Ok(head));
        let fatal = loop {
            let pushed = match next {
                Some(Ok(bytes)) => importer.push(&bytes, &mut lines),
                Some(Err(_)) => break Some("the body broke off".to_owned()),
                None => break importer.finish(&mut lines).err().map(|error| error.to_string()),
            };
            if let Err(error) = pushed {
                break Some(error.to_string());
            }
            if lines.len() >= BATCH {
                self.store(&mut lines).await?;
            }
            next = stream.next().await;
        };
        self.store(&mut lines).await?;
        Ok((importer.encoding(), fatal))
    }

    /// Takes a workbook in whole and reads it beside the runtime.
    async fn workbook(
        &self,
        head: Bytes,
        mut stream: BodyDataStream,
        map: BTreeMap<String, String>,
    ) -> Result<Option<String>, Problem> {
        let mut file = head.to_vec();
        while let Some(bytes) = stream.next().await {
            let Ok(bytes) = bytes else { return Ok(Some("the body broke off".to_owned())) };
            if file.len() + bytes.len() > xlsx::LARGEST {
                return Ok(Some(ImportError::WorkbookLarge.to_string()));
            }
            file.extend_from_slice(&bytes);
        }
        let (sender, mut receiver) = mpsc::channel(4);
        let reading = tokio::task::spawn_blocking(move || xlsx::read(file, map, &sender));
        while let Some(mut lines) = receiver.recv().await {
            self.store(&mut lines).await?;
        }
        match reading.await {
            Ok(end) => Ok(end.err().map(|error| error.to_string())),
            Err(error) => {
                tracing::error!(%error, "A workbook broke its reader");
                Ok(Some(ImportError::Workbook.to_string()))
            }
        }
    }

    async fn store(&self, lines: &mut Vec<Line>) -> Result<(), DbError> {
        let (mut contacts, mut errors) = (Vec::with_capacity(lines.len()), Vec::new());
        for line in lines.drain(..) {
            match line {
                Ok(row) => contacts.push(NewContact {
                    callee: row.callee,
                    variables: row.variables,
                    facts: row.facts.to_json(),
                    external_id: row.external_id,
                    priority: row.priority,
                }),
                Err(error) => errors.push((error.line, error.reason)),
            }
        }
        let now = (self.api.clock)();
        self.api.db.import_batch(self.id, self.campaign, &contacts, &errors, now).await
    }
}

/// The imports of a campaign, those under way included.
pub(crate) async fn imports(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Json<Imports>, Problem> {
    campaign(&api, &id).await?;
    Ok(Json(Imports { imports: api.db.imports(&id).await? }))
}

/// How far an import is.
pub(crate) async fn progress(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Json<ImportRow>, Problem> {
    api.db.import(&id).await?.map(Json).ok_or_else(no_such_import)
}

fn no_such_import() -> Problem {
    Problem::not_found("there is no import with this id")
}

#[derive(Deserialize, JsonSchema)]
pub(crate) struct After {
    /// `next` of the page before.
    after: Option<u64>,
    #[schemars(range(min = 1, max = 10_000), extend("default" = PAGE))]
    limit: Option<u32>,
}

/// The lines of an import that are no contacts.
pub(crate) async fn import_errors(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
    Query(page): Query<After>,
) -> Result<Json<LineErrors>, Problem> {
    if api.db.import(&id).await?.is_none() {
        return Err(no_such_import());
    }
    let limit = page.limit.unwrap_or(PAGE).clamp(1, 10_000);
    let listed = api.db.import_errors(&id, page.after.unwrap_or(0), limit).await?;
    let next = listed.last().map(|(line, _)| *line).filter(|_| listed.len() as u64 == u64::from(limit));
    Ok(Json(LineErrors { errors: errors(listed), next }))
}

/// What the contacts came to, as CSV in which nothing is a formula.
pub(crate) async fn export(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    campaign(&api, &id).await?;
    Ok(export_of(api, id))
}

/// The contacts of a campaign or a list as CSV.
pub(crate) fn export_of(api: Arc<Api>, id: String) -> Response {
    let header = "callee,external_id,state,reason,attempts,disposition,outcome,callback_at\r\n".to_owned();
    let pages = unfold((api, id, 0, Some(header)), |(api, id, after, header)| async move {
        let mut text = header.unwrap_or_default();
        let page = match api.db.contact_results(&id, after, PAGE).await {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(error = %Chain(&error), "An export broke off");
                return None;
            }
        };
        let Some(last) = page.last().map(|last| last.n) else {
            return (!text.is_empty()).then_some((Ok::<_, Infallible>(text), (api, id, after, None)));
        };
        for row in page {
            let cells = [
                cell(row.callee.reveal()),
                cell(row.external_id.as_deref().unwrap_or_default()),
                cell(&row.state),
                cell(&row.why),
                row.attempts.to_string(),
                cell(row.disposition.as_deref().unwrap_or_default()),
                cell(row.outcome.as_deref().unwrap_or_default()),
                row.callback_at.map(|at| at.to_string()).unwrap_or_default(),
            ];
            text += &cells.join(",");
            text += "\r\n";
        }
        Some((Ok(text), (api, id, last, None)))
    });
    let headers = [
        (CONTENT_TYPE, "text/csv; charset=utf-8"),
        (CONTENT_DISPOSITION, "attachment; filename=\"contacts.csv\""),
    ];
    (headers, Body::from_stream(pages)).into_response()
}
