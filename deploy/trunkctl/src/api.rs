//! The cloud's HTTP API, as a CRM developer uses it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

/// A client with a token.
#[derive(Clone, Debug)]
pub struct Api {
    client: reqwest::Client,
    base: String,
    token: String,
}

impl Api {
    /// Trusts only the authority in `ca`.
    ///
    /// # Errors
    /// When the authority cannot be read.
    pub fn new(base: &str, ca: &Path, token: &str) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(
            CertificateDer::from_pem_file(ca).with_context(|| format!("cannot read {}", ca.display()))?,
        )?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .connect_timeout(Duration::from_secs(5))
            .build()
            .context("cannot set up HTTPS")?;
        Ok(Self { client, base: base.trim_end_matches('/').to_owned(), token: token.to_owned() })
    }

    /// Returns the address of the console.
    pub fn console(&self) -> String {
        format!("{}/console", self.base)
    }

    /// Sends `GET path` and returns the body as text.
    ///
    /// # Errors
    /// When there is no answer, or the answer is a refusal.
    pub async fn text(&self, path: &str) -> Result<String> {
        let request = self.client.get(format!("{}{path}", self.base)).bearer_auth(&self.token);
        let response =
            request.timeout(Duration::from_secs(30)).send().await.context("the cloud does not answer")?;
        let status = response.status();
        let text = response.text().await.context("the answer broke off")?;
        if !status.is_success() {
            bail!("the cloud answered {status}: {text}");
        }
        Ok(text)
    }

    /// Sends `POST path` and returns status and body.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn post(&self, path: &str, body: &Value) -> Result<(u16, Value)> {
        let request = self.client.post(format!("{}{path}", self.base)).bearer_auth(&self.token).json(body);
        let response =
            request.timeout(Duration::from_secs(10)).send().await.context("the cloud does not answer")?;
        let status = response.status().as_u16();
        Ok((status, response.json().await.unwrap_or(Value::Null)))
    }

    /// Sends `PUT path` and returns status and body.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn put(&self, path: &str, body: &Value) -> Result<(u16, Value)> {
        let request = self.client.put(format!("{}{path}", self.base)).bearer_auth(&self.token).json(body);
        let response =
            request.timeout(Duration::from_secs(10)).send().await.context("the cloud does not answer")?;
        let status = response.status().as_u16();
        Ok((status, response.json().await.unwrap_or(Value::Null)))
    }

    /// Returns the body of an answer that is no refusal.
    ///
    /// # Errors
    /// The refusal, in the cloud's words.
    pub fn granted((status, body): (u16, Value)) -> Result<Value> {
        if (200..300).contains(&status) {
            return Ok(body);
        }
        let text = |key: &str| body[key].as_str().unwrap_or("no reason given").to_owned();
        bail!("the cloud refused ({status} {}): {}", text("code"), text("detail"))
    }

    /// Sends `POST path` and returns the body.
    ///
    /// # Errors
    /// When there is no answer, or one with another status, with the cloud's reason.
    pub async fn expect(&self, status: u16, path: &str, body: &Value) -> Result<Value> {
        let (got, answer) = self.post(path, body).await?;
        if got != status {
            bail!("the cloud answered {got} to {path}: {answer}");
        }
        Ok(answer)
    }

    /// Sends a file as it is with `POST path` and returns the body.
    ///
    /// # Errors
    /// When there is no answer, or a refusal, with the cloud's reason.
    pub async fn upload(&self, path: &str, file: String) -> Result<Value> {
        let request = self.client.post(format!("{}{path}", self.base)).bearer_auth(&self.token).body(file);
        let response =
            request.timeout(Duration::from_secs(60)).send().await.context("the cloud does not answer")?;
        let status = response.status();
        let answer: Value = response.json().await.unwrap_or(Value::Null);
        if !status.is_success() {
            bail!("the cloud answered {status} to {path}: {answer}");
        }
        Ok(answer)
    }

    /// Sends a text as it is with `POST path` and returns status and body.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(&self, path: &str, kind: &str, text: String) -> Result<(u16, Value)> {
        let request = self.client.post(format!("{}{path}", self.base)).bearer_auth(&self.token);
        let request = request.header("content-type", kind).body(text);
        // Publishing a script trains the understanding.
        let response =
            request.timeout(Duration::from_secs(120)).send().await.context("the cloud does not answer")?;
        let status = response.status().as_u16();
        Ok((status, response.json().await.unwrap_or(Value::Null)))
    }

    /// Sends `GET path` and returns status and body.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn get(&self, path: &str) -> Result<(u16, Value)> {
        let request = self.client.get(format!("{}{path}", self.base)).bearer_auth(&self.token);
        let response =
            request.timeout(Duration::from_secs(10)).send().await.context("the cloud does not answer")?;
        let status = response.status().as_u16();
        Ok((status, response.json().await.unwrap_or(Value::Null)))
    }

    /// Fetches a part of a file, from a byte on, as long as the cloud likes to send it at once.
    ///
    /// # Errors
    /// When there is no answer, or a refusal.
    pub async fn part(&self, path: &str, from: u64) -> Result<Vec<u8>> {
        let request = self.client.get(format!("{}{path}", self.base)).bearer_auth(&self.token);
        let request = request.header("range", format!("bytes={from}-")).timeout(Duration::from_secs(120));
        let response = request.send().await.context("the cloud does not answer")?;
        let status = response.status().as_u16();
        if status != 206 {
            bail!("the cloud answered {status} to {path}");
        }
        Ok(response.bytes().await.context("the answer broke off")?.to_vec())
    }

    /// Asks for a call and returns its id.
    ///
    /// # Errors
    /// When the cloud refuses, with its reason.
    pub async fn call(&self, body: &Value) -> Result<String> {
        let (status, answer) = self.post("/v1/calls", body).await?;
        if status != 202 {
            bail!(
                "the cloud refused the call ({status}): {}",
                answer["detail"].as_str().unwrap_or("no reason given")
            );
        }
        Ok(answer["id"].as_str().context("a call without an id")?.to_owned())
    }

    /// Returns a call as it stands.
    ///
    /// # Errors
    /// When the cloud does not know it.
    pub async fn show(&self, id: &str) -> Result<Value> {
        let (status, call) = self.get(&format!("/v1/calls/{id}")).await?;
        if status != 200 {
            bail!("the cloud does not know call {id} ({status})");
        }
        Ok(call)
    }

    /// Waits until a call has ended and every callback was delivered or given up.
    ///
    /// # Errors
    /// When that takes longer than `within`.
    pub async fn wait_ended(&self, id: &str, within: Duration) -> Result<Value> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            // The cloud may be restarting under a test's hands.
            if let Ok(call) = self.show(id).await
                && call["status"] == "ended"
                && call["callbacks"]
                    .as_array()
                    .is_none_or(|all| all.iter().all(|one| one["state"] != "pending"))
            {
                return Ok(call);
            }
            if tokio::time::Instant::now() > deadline {
                let call = self.show(id).await.unwrap_or(Value::Null);
                bail!("call {id} had not ended after {} s: {call}", within.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Follows a call's events until the stream ends; `on_event` gets name and data.
    ///
    /// # Errors
    /// When the stream breaks off.
    pub async fn follow(&self, id: &str, mut on_event: impl FnMut(&str, &Value)) -> Result<()> {
        let url = format!("{}/v1/calls/{id}/events", self.base);
        let response = self.client.get(url).bearer_auth(&self.token).send().await?.error_for_status()?;
        let mut stream = response.bytes_stream();
        let mut text = Vec::new();
        while let Some(chunk) = stream.next().await {
            text.extend_from_slice(&chunk.context("the stream of events broke off")?);
            while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = text.drain(..end + 2).collect();
                let event = String::from_utf8_lossy(&event);
                let field = |name: &str| {
                    event
                        .lines()
                        .find_map(|line| line.strip_prefix(name).map(|rest| rest.trim_start().to_owned()))
                };
                if let (Some(name), Some(data)) = (field("event:"), field("data:")) {
                    on_event(&name, &serde_json::from_str(&data).unwrap_or(Value::Null));
                }
            }
        }
        Ok(())
    }
}
