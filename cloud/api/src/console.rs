//! The console page, which runs no code or style but its own.

use std::sync::OnceLock;

use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest;

use crate::openapi::{Route, get, text};

const PAGE: &str = include_str!("console.html");

pub(crate) fn routes() -> Vec<Route> {
    let page = get("console", page, "The console page").or_sends(200, "The page", "text/html", text());
    vec![Route::at("/console").on(page)]
}

pub(crate) async fn page() -> Response {
    static POLICY: OnceLock<String> = OnceLock::new();
    let policy = POLICY.get_or_init(|| policy(PAGE));
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, policy.as_str()),
        (REFERRER_POLICY, "no-referrer"),
    ];
    (headers, PAGE).into_response()
}

/// Only the page's own script and style run, known by their hashes, and it talks to its own server.
fn policy(page: &str) -> String {
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash_of(page, "script"),
        hash_of(page, "style"),
    )
}

fn hash_of(page: &str, element: &str) -> String {
    let inner = page
        .split_once(&format!("<{element}>"))
        .and_then(|(_, rest)| rest.split_once(&format!("</{element}>")))
        .map_or("", |(inner, _)| inner);
    let hash = digest::digest(&digest::SHA256, inner.as_bytes());
    format!("'sha256-{}'", STANDARD.encode(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_loads_nothing_from_elsewhere_and_runs_only_itself() {
        assert!(!PAGE.contains("http://") && !PAGE.contains("https://"), "no external address");
        assert!(!PAGE.contains(" style=\"") && !PAGE.contains(" onclick="), "the policy would block it");
        let policy = policy(PAGE);
        let empty = hash_of("", "script");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(!policy.contains(&empty), "script and style were found");
    }
}
