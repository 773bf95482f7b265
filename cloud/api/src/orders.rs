//! Orders to single boxes: people give them and see what came of them, boxes send the files that they asked for.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::header::{ACCEPT_RANGES, CONTENT_RANGE, CONTENT_TYPE, ETAG, RANGE};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use trunkline_db::{FileRefused, OrderRow};
use trunkline_wire::{MAX_ORDER_FILE, MAX_ORDER_PART, OrderCommand, OrderFile, OrderFileHad};
use uuid::Uuid;

use crate::answer::Created;
use crate::auth::{Caller, Known, Member, sha256_hex};
use crate::fleet::{box_id, operator};
use crate::openapi::{Route, binary, get, post, put, text};
use crate::repo::{Wanted, range};
use crate::sent::Sent;
use crate::{Api, Problem};

const SHOWN: u32 = 50;
/// An order that nobody took is forgotten after this time, unless it says otherwise.
const USUAL_S: u32 = 15 * 60;
const SHORTEST_S: u32 = 30;
const LONGEST_S: u32 = 24 * 3_600;
/// Nobody remembers after this time why a box takes no calls.
const LONGEST_DRAIN: SignedDuration = SignedDuration::from_hours(24 * 30);
const USUAL_LINES: u32 = 200;
const MOST_LINES: u32 = 5_000;
/// What a box has sent is kept for so long.
const KEPT: SignedDuration = SignedDuration::from_hours(72);

pub(crate) fn routes() -> Vec<Route> {
    let create = post(
        "orderBox",
        create,
        "Tells a box to do something, once: the box remembers the order, and one that is too old is never begun",
    );
    let list = get("listOrders", list, "Lists the last 50 orders of a box, the newest first");
    let show = get("showOrder", show, "Shows what came of an order");
    let file = get(
        "fetchOrderFile",
        file,
        "Fetches what a box sent for an order, whole or by ranges of at most 256 KiB; it is kept for 72 hours",
    );
    let file = file
        .part::<String>("id", "The box")
        .part::<Uuid>("order", "The order")
        .header("Range", "Such as `bytes=262144-`; the answer is 206 and at most 256 KiB long.", text())
        .or_sends(200, "The file", BYTES, binary())
        .or_sends(206, "A part of it", BYTES, binary())
        .or_sends(416, "It is not that long", "", text())
        .fails(&[404]);
    let begin = post(
        "beginOrderFile",
        begin_file,
        "A box has a file to send for an order; the answer says how much of it came already",
    );
    let add = put("addOrderPart", add_part, "The next part of that file, at most 256 KiB")
        .part::<Uuid>("id", "The order")
        .part::<u64>("at", "Where it begins")
        .says("How much of it is here")
        .fails(&[404, 409, 422]);
    vec![
        Route::at("/v1/boxes/{id}/orders")
            .on(create
                .part::<String>("id", "The box")
                .says("The order was kept and goes to the box")
                .fails(&[404, 409]))
            .on(list.part::<String>("id", "The box").says("The orders").fails(&[404])),
        Route::at("/v1/boxes/{id}/orders/{order}").on(show
            .part::<String>("id", "The box")
            .part::<Uuid>("order", "The order")
            .says("The order")
            .fails(&[404])),
        Route::at("/v1/boxes/{id}/orders/{order}/file").on(file),
        Route::at("/box/v1/orders/{id}/file")
            .on(begin.part::<Uuid>("id", "The order").says("How much of it is here").fails(&[404])),
        Route::at("/box/v1/orders/{id}/file/{at}").on(add).with_limit(MAX_ORDER_PART),
    ]
}

const BYTES: &str = "application/octet-stream";

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Kind {
    Drain,
    Undrain,
    Restart,
    Reboot,
    Logs,
    Diag,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Undrain => "undrain",
            Self::Restart => "restart",
            Self::Reboot => "reboot",
            Self::Logs => "logs",
            Self::Diag => "diag",
        }
    }
}

/// What a box is to do.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderRequest {
    kind: Kind,
    /// restart, reboot: calls under way are not waited for, they are ended politely.
    #[serde(default)]
    now: bool,
    /// drain: until then, at most 30 days; without it until undrain.
    #[serde(default)]
    until: Option<Timestamp>,
    /// logs: at most so many, the newest; 200 if not said.
    #[serde(default)]
    #[schemars(range(min = 1, max = MOST_LINES))]
    lines: Option<u32>,
    /// logs: none before this instant.
    #[serde(default)]
    since: Option<Timestamp>,
    /// A box that has not begun it by then never will, in seconds.
    #[serde(default)]
    #[schemars(range(min = SHORTEST_S, max = LONGEST_S), extend("default" = USUAL_S))]
    within_s: Option<u32>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Orders {
    orders: Vec<OrderRow>,
}

impl OrderRequest {
    fn command(self, now: Timestamp) -> Result<OrderCommand, Problem> {
        let out = |field, allowed: bool, of: &str| {
            let detail = || format!("only with {of}");
            if allowed { Ok(()) } else { Err(Problem::refused("not_of_this_kind", field, detail())) }
        };
        out("now", !self.now || matches!(self.kind, Kind::Restart | Kind::Reboot), "restart and reboot")?;
        out("until", self.until.is_none() || self.kind == Kind::Drain, "drain")?;
        out("lines", self.lines.is_none() || self.kind == Kind::Logs, "logs")?;
        out("since", self.since.is_none() || self.kind == Kind::Logs, "logs")?;
        if let Some(until) = self.until
            && (until <= now || until.duration_since(now) > LONGEST_DRAIN)
        {
            return Err(Problem::refused("bad_until", "until", "later than now, and within 30 days"));
        }
        if self.lines.is_some_and(|lines| !(1..=MOST_LINES).contains(&lines)) {
            return Err(Problem::refused("bad_lines", "lines", format!("1 to {MOST_LINES}")));
        }
        let within = self.within_s.unwrap_or(USUAL_S);
        if !(SHORTEST_S..=LONGEST_S).contains(&within) {
            let detail = format!("{SHORTEST_S} to {LONGEST_S} seconds");
            return Err(Problem::refused("bad_within", "within_s", detail));
        }
        Ok(OrderCommand {
            order: Uuid::now_v7(),
            kind: self.kind.name().to_owned(),
            expires: now + SignedDuration::from_secs(i64::from(within)),
            now: self.now,
            until: self.until,
            lines: (self.kind == Kind::Logs).then(|| self.lines.unwrap_or(USUAL_LINES)),
            since: self.since,
        })
    }
}

/// Tells a box to do something, once.
pub(crate) async fn create(
    State(api): State<Arc<Api>>,
    Member(by): Member,
    Path(id): Path<String>,
    body: Sent<OrderRequest>,
) -> Result<Created<OrderRow>, Problem> {
    operator(&by)?;
    let (id, now) = (box_id(&id)?, (api.clock)());
    let enrolment = api.db.enrolment(&id).await?;
    if enrolment.is_none() && api.db.reported(&id).await?.is_none() {
        return Err(Problem::not_found("there is no such box"));
    }
    if enrolment.is_some_and(|one| one.state.name() == "revoked") {
        return Err(Problem::conflict("revoked", "this box was revoked and hears nothing any more"));
    }
    let command = body.json()?.command(now)?;
    let Some(order) = api.db.create_order(&id, &command, &by.name, now).await? else {
        let detail = "too many orders of this box are open; they end by themselves";
        return Err(Problem::conflict("too_many_open", detail));
    };
    tracing::info!(box.id = %id, by = by.name, order = %order.id, kind = command.kind, "A box was given an order");
    api.wakers.fleet();
    let detail = json!({ "order": order.id, "kind": command.kind });
    Ok(Created::of(order).noting(detail))
}

/// The last orders of a box, the newest first.
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Json<Orders>, Problem> {
    Ok(Json(Orders { orders: api.db.orders(&box_id(&id)?, SHOWN).await? }))
}

pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    _: Caller,
    Path((id, order)): Path<(String, String)>,
) -> Result<Json<OrderRow>, Problem> {
    Ok(Json(find(&api, &id, &order).await?))
}

/// What a box sent for an order, by ranges of at most 256 KiB.
pub(crate) async fn file(
    State(api): State<Arc<Api>>,
    Member(by): Member,
    Path((id, order)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    operator(&by)?;
    let order = find(&api, &id, &order).await?;
    let missing = || Problem::not_found("the box has sent no file for this order, or its time is over");
    let file = order.file.ok_or_else(missing)?;
    let (bytes, _) = api.db.order_file(&order.id).await?.ok_or_else(missing)?;
    let length = bytes.len() as u64;
    let wanted = headers.get(RANGE).and_then(|value| value.to_str().ok()).map(|text| range(text, length));
    let (from, to) = match wanted {
        None | Some(Wanted::Whole) => (0, length),
        Some(Wanted::Part(from, to)) => (from, to),
        Some(Wanted::Beyond) => {
            let headers = [(CONTENT_RANGE, format!("bytes */{length}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, headers).into_response());
        }
    };
    // A part that is asked for is a part; who wants everything at once has asked for no range.
    let to = if wanted.is_some() { to.min(from + MAX_ORDER_PART as u64) } else { to };
    let status = if wanted.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let at = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    let part = bytes[at(from)..at(to)].to_vec();
    let mut headers: Vec<(HeaderName, String)> = vec![
        (CONTENT_TYPE, BYTES.to_owned()),
        (ETAG, format!("\"{}\"", file.sha256)),
        (ACCEPT_RANGES, "bytes".to_owned()),
    ];
    if status == StatusCode::PARTIAL_CONTENT {
        headers.push((CONTENT_RANGE, format!("bytes {from}-{}/{length}", to.saturating_sub(1))));
    }
    let mut response = (status, part).into_response();
    for (name, value) in headers {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

async fn find(api: &Api, id: &str, order: &str) -> Result<OrderRow, Problem> {
    let missing = || Problem::not_found("this box has no such order");
    let (id, order) = (box_id(id)?, order.parse::<Uuid>().map_err(|_| missing())?);
    api.db.order(&order).await?.filter(|order| order.box_id == id).ok_or_else(missing)
}

/// A box has a file to send.
pub(crate) async fn begin_file(
    State(api): State<Arc<Api>>,
    Known(by): Known,
    Path(id): Path<String>,
    body: Sent<OrderFile>,
) -> Result<Json<OrderFileHad>, Problem> {
    let (id, promised) = (order_id(&id)?, body.json()?);
    let is_hash = promised.sha256.len() == 64
        && promised.sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_hash {
        return Err(Problem::refused("bad_hash", "sha256", "64 hexadecimal digits in lower case"));
    }
    if promised.bytes == 0 || promised.bytes > MAX_ORDER_FILE {
        return Err(Problem::refused("bad_length", "bytes", format!("1 to {MAX_ORDER_FILE}")));
    }
    let begun = api.db.begin_order_file(&by, &id, promised.bytes, &promised.sha256).await?;
    Ok(Json(OrderFileHad { bytes: begun.map_err(refused)? }))
}

/// The next part of it. With the last one its hash is looked at; one that is wrong is thrown away.
pub(crate) async fn add_part(
    State(api): State<Arc<Api>>,
    Known(by): Known,
    Path((id, at)): Path<(String, String)>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<OrderFileHad>, Problem> {
    let (id, part) = (order_id(&id)?, body.map_err(|_| Problem::larger_than("256 KiB"))?);
    let at = at.parse().map_err(|_| Problem::not_found("a part begins at a number of bytes"))?;
    let added = api.db.add_order_part(&by, &id, at, &part).await?;
    let (has, bytes) = added.map_err(refused)?;
    if has == bytes && api.db.order(&id).await?.is_some_and(|order| order.file.is_none()) {
        let good = api.db.order_file(&id).await?.is_some_and(|(all, promised)| sha256_hex(&all) == promised);
        let until = good.then(|| (api.clock)() + KEPT);
        api.db.close_order_file(&id, until).await?;
        if !good {
            return Err(Problem::refused(
                "wrong_hash",
                "sha256",
                "what came is not what was promised; send it anew",
            ));
        }
        tracing::info!(box.id = %by, order = %id, bytes, "A box has sent the file of an order");
    }
    Ok(Json(OrderFileHad { bytes: has }))
}

fn order_id(text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| Problem::not_found("there is no such order"))
}

fn refused(why: FileRefused) -> Problem {
    match why {
        FileRefused::NoOrder => Problem::not_found("this box has no such order that wants a file"),
        FileRefused::NotNext(has) => {
            Problem::conflict("not_next", format!("the part that comes next begins at {has}"))
        }
    }
}
