//! A token bucket for each API token, and the header fields that tell about it.
//!
//! `RateLimit-Policy` and `RateLimit` as in the IETF's draft on RateLimit header fields; a refusal is 429
//! with `Retry-After` (RFC 6585 §4, RFC 9110 §10.2.3).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use crate::auth::sha256_hex;
use crate::{Api, Problem};

/// So many tokens are remembered; who is forgotten begins with a full bucket.
const REMEMBERED: usize = 10_000;

/// How many requests a token may make.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Requests per second in the long run.
    pub per_second: f64,
    /// Requests at once.
    pub burst: u32,
}

impl Default for Rate {
    fn default() -> Self {
        Self { per_second: 100.0, burst: 1_000 }
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    level: f64,
    at: Timestamp,
}

/// What a request finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spent {
    /// It may go on.
    pub(crate) allowed: bool,
    /// Requests left at once.
    pub(crate) left: u32,
    /// Seconds until one more may be made, or until the bucket is full.
    pub(crate) wait_s: u64,
}

/// The buckets of all tokens.
#[derive(Clone, Debug, Default)]
pub struct Buckets(Arc<Mutex<BTreeMap<String, Bucket>>>);

impl Buckets {
    pub(crate) fn spend(&self, who: &str, rate: &Rate, now: Timestamp) -> Spent {
        let mut buckets = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let full = f64::from(rate.burst.max(1));
        let per_second = rate.per_second.max(1e-3);
        if buckets.len() >= REMEMBERED && !buckets.contains_key(who) {
            buckets.retain(|_, bucket| bucket.level + since(bucket.at, now) * per_second < full);
            if buckets.len() >= REMEMBERED {
                buckets.pop_first();
            }
        }
        let bucket = buckets.entry(who.to_owned()).or_insert(Bucket { level: full, at: now });
        // A clock that goes back fills nothing.
        bucket.level = (bucket.level + since(bucket.at, now) * per_second).min(full);
        bucket.at = now;
        let allowed = bucket.level >= 1.0;
        if allowed {
            bucket.level -= 1.0;
        }
        let missing = if allowed { full - bucket.level } else { 1.0 - bucket.level };
        Spent { allowed, left: bucket.level as u32, wait_s: (missing / per_second).ceil() as u64 }
    }
}

fn since(at: Timestamp, now: Timestamp) -> f64 {
    now.duration_since(at).as_secs_f64().max(0.0)
}

pub(crate) async fn limit(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let token = request.headers().get(AUTHORIZATION).map(|value| sha256_hex(value.as_bytes()));
    let (Some(who), true) = (token, request.uri().path().starts_with("/v1/")) else {
        return next.run(request).await;
    };
    let rate = api.config.rate;
    let spent = api.buckets.spend(&who, &rate, (api.clock)());
    let mut response = if spent.allowed {
        next.run(request).await
    } else {
        let mut response = Problem::too_many(spent.wait_s).into_response();
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(spent.wait_s.max(1)));
        response
    };
    let window = (f64::from(rate.burst) / rate.per_second.max(1e-3)).ceil() as u64;
    let policy = format!("\"default\";q={};w={window}", rate.burst);
    let state = format!("\"default\";r={};t={}", spent.left, spent.wait_s);
    for (name, value) in [("ratelimit-policy", policy), ("ratelimit", state)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_a_burst_through_and_then_its_rate_and_each_token_has_its_own() {
        let (buckets, rate) = (Buckets::default(), Rate { per_second: 2.0, burst: 3 });
        let at = |ms: i64| Timestamp::from_millisecond(1_000_000 + ms).unwrap();
        let allowed = |who: &str, ms: i64| buckets.spend(who, &rate, at(ms)).allowed;
        assert_eq!([0, 0, 0, 0].map(|ms| allowed("a", ms)), [true, true, true, false]);
        assert_eq!(buckets.spend("a", &rate, at(0)), Spent { allowed: false, left: 0, wait_s: 1 });
        assert!(allowed("b", 0));
        assert!(allowed("a", 500) && !allowed("a", 600) && allowed("a", 1_000));
        assert!(!allowed("a", -60_000), "a clock that goes back gives nothing");
        assert!(allowed("a", 3_600_000));
        assert_eq!(buckets.spend("a", &rate, at(3_600_000)).left, 1, "an hour fills one bucket and no more");
    }
}
