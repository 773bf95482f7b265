//! The signed repository, handed out to boxes: whole files and ranges of them (RFC 9110 §14).
//!
//! Nothing here is believed by a box before it has checked signatures and hashes itself.

use std::io::SeekFrom;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use trunkline_trust::is_plain_name;

use crate::auth::Known;
use crate::openapi::{Route, binary, get, text};
use crate::{Api, Problem};

const PIECE: usize = 64 * 1024;
const BYTES: &str = "application/octet-stream";

/// Where the repository has its files.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum Folder {
    Metadata,
    Targets,
    Packs,
}

pub(crate) fn routes() -> Vec<Route> {
    let file = get("boxRepo", file, "For boxes: a file of the signed repository, or a range of it")
        .part::<Folder>("folder", "")
        .header("Range", "Such as `bytes=262144-`", text())
        .or_sends(200, "The file", BYTES, binary())
        .or_sends(206, "The range", BYTES, binary())
        .or_sends(416, "It is not that long", "", text())
        .fails(&[404]);
    vec![Route::at("/box/v1/repo/{folder}/{name}").on(file)]
}

pub(crate) async fn file(
    State(api): State<Arc<Api>>,
    Known(by): Known,
    Path((folder, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let missing = || Problem::not_found("the repository has no such file");
    let repo = api.fleet.repo.clone().ok_or_else(missing)?;
    if serde_json::from_value::<Folder>(folder.as_str().into()).is_err() || !is_plain_name(&name) {
        return Err(missing());
    }
    let mut file = File::open(repo.join(&folder).join(&name)).await.map_err(|_| missing())?;
    let length = file.metadata().await.map(|meta| meta.len()).map_err(|_| missing())?;
    let wanted = headers.get(RANGE).and_then(|value| value.to_str().ok());
    let (from, to) = match wanted.map(|text| range(text, length)) {
        None | Some(Wanted::Whole) => (0, length),
        Some(Wanted::Part(from, to)) => (from, to),
        Some(Wanted::Beyond) => {
            let headers = [(CONTENT_RANGE, format!("bytes */{length}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, headers).into_response());
        }
    };
    let failed = |error: std::io::Error| Problem::internal("A file of the repository cannot be read", &error);
    file.seek(SeekFrom::Start(from)).await.map_err(failed)?;
    let status = if (from, to) == (0, length) { StatusCode::OK } else { StatusCode::PARTIAL_CONTENT };
    tracing::debug!(box.id = %by, folder, name, from, to, "A box fetches");
    let mut headers = HeaderMap::new();
    let mut set = |name, value: String| {
        if let Ok(value) = value.parse() {
            headers.insert(name, value);
        }
    };
    set(CONTENT_TYPE, BYTES.into());
    set(CONTENT_LENGTH, (to - from).to_string());
    set(ACCEPT_RANGES, "bytes".into());
    set(CACHE_CONTROL, "private, no-cache".into());
    if status == StatusCode::PARTIAL_CONTENT {
        set(CONTENT_RANGE, format!("bytes {from}-{}/{length}", to - 1));
    }
    let pieces = stream::try_unfold((file, to - from), |(mut file, left)| async move {
        if left == 0 {
            return Ok::<_, std::io::Error>(None);
        }
        let mut piece = vec![0; PIECE.min(usize::try_from(left).unwrap_or(PIECE))];
        file.read_exact(&mut piece).await?;
        let left = left - piece.len() as u64;
        Ok(Some((Bytes::from(piece), (file, left))))
    });
    Ok((status, headers, Body::from_stream(pieces)).into_response())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// No range, or one of a kind that need not be served.
    Whole,
    /// From the first byte up to before the second.
    Part(u64, u64),
    /// Nothing of it is there.
    Beyond,
}

/// Reads one range of bytes. Several at once are answered with the whole, as the standard allows.
pub(crate) fn range(text: &str, length: u64) -> Wanted {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|spec| spec.split_once('-')) else {
        return Wanted::Whole;
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    match (number(first), number(last)) {
        (Some(from), _) if from >= length => Wanted::Beyond,
        (Some(from), Some(to)) if to >= from => Wanted::Part(from, to.saturating_add(1).min(length)),
        (Some(from), None) if last.trim().is_empty() => Wanted::Part(from, length),
        (None, Some(tail)) if first.trim().is_empty() && tail > 0 => {
            Wanted::Part(length.saturating_sub(tail), length)
        }
        _ => Wanted::Whole,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        for (text, expected) in [
            ("bytes=0-9", Wanted::Part(0, 10)),
            ("bytes=90-", Wanted::Part(90, 100)),
            ("bytes=-5", Wanted::Part(95, 100)),
            ("bytes=90-500", Wanted::Part(90, 100)),
            ("bytes=100-", Wanted::Beyond),
            ("bytes=9-3", Wanted::Whole),
            ("bytes=0-1,5-6", Wanted::Whole),
            ("lines=1-2", Wanted::Whole),
        ] {
            assert_eq!(range(text, 100), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_range_reaches_beyond_the_file(text in "(bytes=)?[0-9,-]{0,25}", length in 0u64..1_000) {
            if let Wanted::Part(from, to) = range(&text, length) {
                prop_assert!(from < to && to <= length || length == 0);
            }
        }
    }
}
