//! Scripts, policy packs and word lists by the hash of their content, fetched once and kept.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ring::digest;
use trunkline_dialogue::Script;
use trunkline_model::ScriptVersion;
use trunkline_words::WordList;

const MAX_SCRIPT: usize = 8 * 1024 * 1024;
const TRIES: u32 = 4;

/// Fetches blobs from the cloud over mutual TLS.
#[derive(Clone)]
pub(crate) struct Blobs {
    client: reqwest::Client,
    base: String,
    dir: PathBuf,
}

impl Blobs {
    /// Keeps blobs in `dir`.
    pub(crate) fn new(tls: &Arc<rustls::ClientConfig>, base: &str, dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured((**tls).clone())
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(20))
            .build()
            .context("cannot set up HTTPS")?;
        Ok(Self { client, base: base.trim_end_matches('/').to_owned(), dir })
    }

    /// Returns the script of that version, from the disk where it is there and whole.
    pub(crate) async fn script(&self, version: &ScriptVersion) -> Result<Arc<Script>> {
        let bytes = self.blob(version).await?;
        Ok(Arc::new(Script::load_bytes(&bytes).context("the script cannot be used")?))
    }

    /// Returns the text of the policy pack with that SHA-256.
    pub(crate) async fn policy_pack(&self, sha256: &str) -> Result<String> {
        // A hash is a hash: the type only checks that it is one.
        let version: ScriptVersion =
            sha256.parse().map_err(|_| anyhow::anyhow!("a policy pack is named by no hash"))?;
        String::from_utf8(self.blob(&version).await?).context("the policy pack is no text")
    }

    /// Returns the word list with that SHA-256.
    pub(crate) async fn word_list(&self, sha256: &str) -> Result<WordList> {
        let version: ScriptVersion =
            sha256.parse().map_err(|_| anyhow::anyhow!("a word list is named by no hash"))?;
        let text = String::from_utf8(self.blob(&version).await?).context("the word list is no text")?;
        WordList::from_yaml(&text).context("the word list cannot be used")
    }

    async fn blob(&self, version: &ScriptVersion) -> Result<Vec<u8>> {
        let path = self.dir.join(version.as_str());
        let kept = fs::read(&path).ok().filter(|bytes| hash(bytes) == version.as_str());
        match kept {
            Some(bytes) => Ok(bytes),
            None => {
                let bytes = self.fetch(version).await?;
                self.keep(&path, &bytes).with_context(|| format!("cannot keep {}", path.display()))?;
                Ok(bytes)
            }
        }
    }

    async fn fetch(&self, version: &ScriptVersion) -> Result<Vec<u8>> {
        let url = format!("{}/box/v1/blobs/{version}", self.base);
        let mut wait = Duration::from_millis(200);
        for attempt in 1.. {
            match self.fetch_once(&url, version).await {
                Ok(bytes) => return Ok(bytes),
                // What the cloud says it does not have will not be there on the next try either.
                Err(error) if attempt == TRIES || error.downcast_ref::<NotThere>().is_some() => {
                    return Err(error.context(format!("cannot fetch {version}")));
                }
                Err(error) => tracing::warn!(attempt, "Fetching a blob failed: {error:#}"),
            }
            tokio::time::sleep(wait).await;
            wait *= 3;
        }
        bail!("no attempt was made")
    }

    async fn fetch_once(&self, url: &str, version: &ScriptVersion) -> Result<Vec<u8>> {
        let mut response = self.client.get(url).send().await.context("no answer")?;
        let status = response.status();
        if status.is_client_error() {
            return Err(anyhow::Error::new(NotThere(status.as_u16())));
        }
        if !status.is_success() {
            bail!("the cloud answered {status}");
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.context("the transfer broke off")? {
            if bytes.len() + chunk.len() > MAX_SCRIPT {
                bail!("it is larger than {MAX_SCRIPT} bytes");
            }
            bytes.extend_from_slice(&chunk);
        }
        if hash(&bytes) != version.as_str() {
            bail!("what came is not what its hash says");
        }
        Ok(bytes)
    }

    fn keep(&self, path: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
        let part = path.with_extension("part");
        let mut file = fs::File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(part, path)
    }
}

#[derive(Debug)]
struct NotThere(u16);

impl std::fmt::Display for NotThere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the cloud does not have it (HTTP {})", self.0)
    }
}

impl std::error::Error for NotThere {}

fn hash(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}
