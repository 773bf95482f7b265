//! The cloud's addresses for boxes, over HTTPS.

use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::RANGE;
use reqwest::{Client, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use trunkline_trust::Proof;
use trunkline_update::{Fetch, FetchError};
use trunkline_wire::{EnrolReply, EnrolRequest, MAX_ORDER_PART, OrderFile, OrderFileHad, RenewRequest};
use uuid::Uuid;

const CONNECT: Duration = Duration::from_secs(10);
const QUESTION: Duration = Duration::from_secs(20);
/// A part of a file may go over a slow line.
const PART: Duration = Duration::from_secs(120);

/// Why the cloud did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    /// No connection, no answer, or none that can be read.
    #[error("the cloud does not answer")]
    Network(#[from] reqwest::Error),
    /// It answered, and refused.
    #[error("the cloud refused ({status} {code}): {detail}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The problem's code, such as `replayed`.
        code: String,
        /// In words.
        detail: String,
    },
}

/// A client of the cloud.
#[derive(Clone, Debug)]
pub struct Cloud {
    client: Client,
    base: String,
}

impl Cloud {
    /// Makes a client that speaks this TLS.
    ///
    /// # Errors
    /// [`CloudError::Network`] when the client cannot be made.
    pub fn new(base: &str, tls: &Arc<rustls::ClientConfig>) -> Result<Self, CloudError> {
        let client = Client::builder()
            .tls_backend_preconfigured((**tls).clone())
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .build()?;
        Ok(Self { client, base: base.trim_end_matches('/').to_owned() })
    }

    /// Asks for the first certificate, or what became of the question.
    ///
    /// # Errors
    /// [`CloudError`].
    pub async fn enrol(&self, request: &[u8], proof: &Proof) -> Result<EnrolReply, CloudError> {
        self.post("/box/v1/enrol", &EnrolRequest { csr: STANDARD.encode(request), proof: proof.to_hex() })
            .await
    }

    /// Asks for the certificate that follows the one that is shown.
    ///
    /// # Errors
    /// [`CloudError`].
    pub async fn renew(&self, request: &[u8]) -> Result<EnrolReply, CloudError> {
        self.post("/box/v1/renew", &RenewRequest { csr: STANDARD.encode(request) }).await
    }

    /// Sends a file for an order, part by part; what came already of the same file is not sent again.
    ///
    /// # Errors
    /// [`CloudError`].
    pub async fn send_order_file(&self, order: &Uuid, file: &[u8]) -> Result<(), CloudError> {
        let path = format!("/box/v1/orders/{order}/file");
        let promise =
            OrderFile { bytes: file.len() as u64, sha256: trunkline_trust::sha256(file).to_string() };
        let mut has: OrderFileHad = self.post(&path, &promise).await?;
        while has.bytes < promise.bytes {
            let from = usize::try_from(has.bytes).unwrap_or(file.len()).min(file.len());
            let part = file[from..file.len().min(from + MAX_ORDER_PART)].to_vec();
            let request = self.client.put(format!("{}{path}/{from}", self.base)).body(part).timeout(PART);
            let had: OrderFileHad = answer(request).await?;
            if had.bytes <= has.bytes {
                let detail = "it takes no more of the file".to_owned();
                return Err(CloudError::Refused { status: 200, code: "no_progress".to_owned(), detail });
            }
            has = had;
        }
        Ok(())
    }

    async fn post<T: Serialize, R: DeserializeOwned>(&self, path: &str, body: &T) -> Result<R, CloudError> {
        answer(self.client.post(format!("{}{path}", self.base)).json(body).timeout(QUESTION)).await
    }

    /// Gets a file of the repository or a range of one. Of a range that was cut off, what came is returned.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn fetch(&self, fetch: &Fetch) -> Result<Vec<u8>, FetchError> {
        let mut bytes = Vec::new();
        let reading = tokio::time::timeout(fetch.within, self.read(fetch, &mut bytes)).await;
        let done = reading.unwrap_or(Err(FetchError::Slow));
        match done {
            Ok(()) => Ok(bytes),
            // What is there need not travel again; the updater asks for the rest.
            Err(FetchError::Network(_) | FetchError::Slow) if fetch.range.is_some() && !bytes.is_empty() => {
                Ok(bytes)
            }
            Err(error) => Err(error),
        }
    }

    async fn read(&self, fetch: &Fetch, bytes: &mut Vec<u8>) -> Result<(), FetchError> {
        let mut request = self.client.get(format!("{}/box/v1/repo/{}", self.base, fetch.path));
        if let Some((offset, length)) = fetch.range {
            request =
                request.header(RANGE, format!("bytes={offset}-{}", (offset + length).saturating_sub(1)));
        }
        let mut response = request.send().await.map_err(|error| network(&error))?;
        let status = response.status();
        if status != StatusCode::OK && status != StatusCode::PARTIAL_CONTENT {
            return Err(FetchError::Status(status.as_u16()));
        }
        // A server may answer with the whole file.
        let mut skip = match fetch.range {
            Some((offset, _)) if status == StatusCode::OK => offset,
            _ => 0,
        };
        let most = fetch.range.map_or(fetch.max_bytes + 1, |(_, length)| length);
        let began = Instant::now();
        while let Some(piece) = response.chunk().await.map_err(|error| network(&error))? {
            let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(piece.len());
            skip -= skipped as u64;
            let left = usize::try_from(most).unwrap_or(usize::MAX) - bytes.len();
            let piece = &piece[skipped..];
            bytes.extend_from_slice(&piece[..piece.len().min(left)]);
            if bytes.len() as u64 >= most {
                return Ok(());
            }
            if let Some(rate) = fetch.bytes_per_s {
                // Not reading slows the sender down, by the window of TCP.
                let due = Duration::from_secs_f64(bytes.len() as f64 / rate.max(1) as f64);
                tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
            }
        }
        Ok(())
    }
}

async fn answer<R: DeserializeOwned>(request: reqwest::RequestBuilder) -> Result<R, CloudError> {
    let response = request.send().await?;
    let status = response.status();
    if status.is_success() {
        return Ok(response.json().await?);
    }
    let problem: serde_json::Value = response.json().await.unwrap_or_default();
    let text = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
    Err(CloudError::Refused { status: status.as_u16(), code: text("code"), detail: text("detail") })
}

fn network(error: &reqwest::Error) -> FetchError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    FetchError::Network(text)
}
