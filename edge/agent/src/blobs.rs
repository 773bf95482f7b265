//! Scripts, policy packs and word lists by the hash of their content, fetched once and kept.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
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
    fetching: Fetching,
}

/// What is being fetched now. Calls of a new script begin at the same moment: one of them fetches it, the others wait.
type Fetching = Arc<Mutex<HashMap<ScriptVersion, Arc<tokio::sync::Mutex<()>>>>>;

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
        Ok(Self { client, base: base.trim_end_matches('/').to_owned(), dir, fetching: Fetching::default() })
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
        kept_or(&self.dir, &self.fetching, version, self.fetch(version)).await
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
}

/// Returns a blob from the disk, where it is there and whole; else what `fetch` brings, which is then kept.
async fn kept_or(
    dir: &Path,
    fetching: &Fetching,
    version: &ScriptVersion,
    fetch: impl Future<Output = Result<Vec<u8>>>,
) -> Result<Vec<u8>> {
    let path = dir.join(version.as_str());
    let kept = || fs::read(&path).ok().filter(|bytes| hash(bytes) == version.as_str());
    if let Some(bytes) = kept() {
        return Ok(bytes);
    }
    let all = || fetching.lock().unwrap_or_else(PoisonError::into_inner);
    let turn = Arc::clone(all().entry(version.clone()).or_default());
    let mine = turn.lock().await;
    let got = match kept() {
        Some(bytes) => Ok(bytes),
        None => match fetch.await {
            Ok(bytes) => {
                let done = keep(&path, &bytes);
                done.with_context(|| format!("cannot keep {}", path.display())).map(|()| bytes)
            }
            Err(error) => Err(error),
        },
    };
    drop(mine);
    drop(turn);
    // Not where somebody waits for their turn: who comes now would fetch it beside them.
    all().retain(|_, turn| Arc::strong_count(turn) > 1);
    got
}

fn keep(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let part = path.with_extension("part");
    let mut file = fs::File::create(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(part, path)
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn calls_that_begin_together_fetch_their_script_once_and_all_have_it() {
        for round in 0..20 {
            let dir = Arc::new(tempfile::tempdir().unwrap());
            let (bytes, fetching) = (format!("a script {round}").into_bytes(), Fetching::default());
            let version: ScriptVersion = hash(&bytes).parse().unwrap();
            let fetched = Arc::new(AtomicUsize::new(0));
            let calls: Vec<_> = (0..10)
                .map(|_| {
                    let (dir, bytes, version) = (Arc::clone(&dir), bytes.clone(), version.clone());
                    let (fetched, fetching) = (Arc::clone(&fetched), Arc::clone(&fetching));
                    tokio::spawn(async move {
                        let fetch = async {
                            fetched.fetch_add(1, Ordering::Relaxed);
                            tokio::task::yield_now().await;
                            Ok(bytes.clone())
                        };
                        kept_or(dir.path(), &fetching, &version, fetch).await.map(|got| got == bytes)
                    })
                })
                .collect();
            for call in calls {
                assert!(call.await.unwrap().unwrap());
            }
            assert_eq!(fetched.load(Ordering::Relaxed), 1);
            assert!(fetching.lock().unwrap().is_empty());
        }
    }

    #[tokio::test]
    async fn what_could_not_be_fetched_is_fetched_by_the_next_who_asks() {
        let dir = tempfile::tempdir().unwrap();
        let (bytes, fetching) = (b"a script".to_vec(), Fetching::default());
        let version: ScriptVersion = hash(&bytes).parse().unwrap();
        let failed = kept_or(dir.path(), &fetching, &version, async { bail!("no answer") }).await;
        assert!(failed.is_err());
        let got = kept_or(dir.path(), &fetching, &version, async { Ok(bytes.clone()) }).await.unwrap();
        assert_eq!(got, bytes);
    }
}
