//! A receiver of callbacks, as a CRM would have one: it checks the signature and keeps what came.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

/// What came, in order.
#[derive(Clone, Debug)]
pub struct Callbacks {
    inner: Arc<Inner>,
    address: SocketAddr,
}

#[derive(Debug)]
struct Inner {
    key: hmac::Key,
    good: Mutex<Vec<serde_json::Value>>,
    refused: Mutex<u32>,
}

impl Callbacks {
    /// Starts a receiver on loopback that knows the secret in `secret_file` (`whsec_…`).
    ///
    /// # Errors
    /// When the secret cannot be read or no port can be had.
    pub async fn start(secret_file: &Path) -> Result<Self> {
        let text = fs::read_to_string(secret_file)
            .with_context(|| format!("cannot read {}", secret_file.display()))?;
        let secret = text.trim().strip_prefix("whsec_").context("a callback secret begins with whsec_")?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(secret)?);
        let inner = Arc::new(Inner { key, good: Mutex::new(Vec::new()), refused: Mutex::new(0) });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let app = Router::new().route("/callback", post(receive)).with_state(Arc::clone(&inner));
        tokio::spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { inner, address })
    }

    /// Returns the address to give as `callback_url`.
    pub fn url(&self) -> String {
        format!("http://{}/callback", self.address)
    }

    /// Returns the bodies whose signature was right, in order.
    pub fn received(&self) -> Vec<serde_json::Value> {
        self.inner.good.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns how many came with a wrong signature.
    pub fn refused(&self) -> u32 {
        *self.inner.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn receive(State(inner): State<Arc<Inner>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    match check(&inner.key, &headers, &body) {
        Some(value) => {
            inner.good.lock().unwrap_or_else(PoisonError::into_inner).push(value);
            StatusCode::NO_CONTENT
        }
        None => {
            *inner.refused.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            StatusCode::UNAUTHORIZED
        }
    }
}

/// Checks a delivery as the Standard Webhooks specification says; `None` when it is not genuine or
/// older than five minutes.
fn check(key: &hmac::Key, headers: &HeaderMap, body: &[u8]) -> Option<serde_json::Value> {
    let header = |name: &str| headers.get(name)?.to_str().ok();
    let (id, sent, signatures) =
        (header("webhook-id")?, header("webhook-timestamp")?, header("webhook-signature")?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    if sent.parse::<u64>().ok()?.abs_diff(now) > 300 {
        return None;
    }
    let mut signed = format!("{id}.{sent}.").into_bytes();
    signed.extend_from_slice(body);
    let genuine =
        signatures.split(' ').filter_map(|signature| signature.strip_prefix("v1,")).any(|signature| {
            STANDARD.decode(signature).is_ok_and(|tag| hmac::verify(key, &signed, &tag).is_ok())
        });
    if genuine { serde_json::from_slice(body).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_with_one_byte_changed_is_not_genuine() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let body = br#"{"type":"call.ended"}"#;
        let tag = hmac::sign(&key, format!("msg_1.{now}.{}", std::str::from_utf8(body).unwrap()).as_bytes());
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", "msg_1".parse().unwrap());
        headers.insert("webhook-timestamp", now.to_string().parse().unwrap());
        headers.insert("webhook-signature", format!("v1,{}", STANDARD.encode(tag)).parse().unwrap());
        assert!(check(&key, &headers, body).is_some());
        assert!(check(&key, &headers, br#"{"type":"call.endeD"}"#).is_none());
    }
}
