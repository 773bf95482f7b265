//! `[fleet]` of the configuration, and the keys that it names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Deserialize;
use trunkline_api::{Authority, Fleet};
use trunkline_fleet::enrol::Role;
use trunkline_trust::{FileKey, Signer as _};
use trunkline_worker::FleetKeys;

use crate::config::read_private;

/// `[fleet]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FleetConfig {
    /// The authority that signs boxes' certificates, PEM: an intermediate, followed by those between it and the
    /// root. The root's key stays offline.
    pub(crate) ca_cert: PathBuf,
    /// Its private key, PEM, mode 0600.
    pub(crate) ca_key: PathBuf,
    /// The organisation in boxes' certificates.
    #[serde(default = "default_organisation")]
    pub(crate) organisation: String,
    /// What each person may do, by the name of their token: `branch`, `operator` or `fleet_admin`.
    #[serde(default)]
    pub(crate) roles: BTreeMap<String, Role>,
    /// Boxes whose certificates were signed by hand stay outside.
    #[serde(default)]
    pub(crate) only_enrolled: bool,
    /// The signed repository, as `trunkctl release` writes it.
    #[serde(default)]
    pub(crate) repo: Option<PathBuf>,
    /// The key that signs assignments, as `trunkctl release key` writes it, mode 0600.
    #[serde(default)]
    pub(crate) assign_key: Option<PathBuf>,
}

fn default_organisation() -> String {
    "Trunkline".to_owned()
}

/// What `[fleet]` stands for.
#[derive(Clone, Default)]
pub(crate) struct FleetSetup {
    pub(crate) api: Fleet,
    pub(crate) keys: Option<FleetKeys>,
}

impl FleetConfig {
    /// Takes paths from the folder of the configuration.
    pub(crate) fn resolve(&mut self, base: &Path) {
        for path in [&mut self.ca_cert, &mut self.ca_key] {
            *path = base.join(&*path);
        }
        for path in [&mut self.repo, &mut self.assign_key].into_iter().flatten() {
            *path = base.join(&*path);
        }
    }

    /// Reads the keys and looks at the repository.
    pub(crate) fn load(&self) -> anyhow::Result<FleetSetup> {
        let key = read_private("key of the boxes' authority", &self.ca_key)?;
        let cert = std::fs::read_to_string(&self.ca_cert)
            .with_context(|| format!("could not read `{}` (`fleet.ca_cert`)", self.ca_cert.display()))?;
        let authority = Authority::new(&cert, &key, &self.organisation)
            .with_context(|| format!("`{}` and its key cannot sign", self.ca_cert.display()))?;
        ensure!(
            self.repo.is_some() == self.assign_key.is_some(),
            "`fleet.repo` and `fleet.assign_key` belong together: give both or neither"
        );
        let keys = match (&self.repo, &self.assign_key) {
            (Some(repo), Some(path)) => {
                let assign = Arc::new(read_key(path)?);
                check_repository(repo, &assign)?;
                Some(FleetKeys { repo: repo.clone(), assign })
            }
            _ => None,
        };
        let api = Fleet {
            authority: Some(Arc::new(authority)),
            roles: Arc::new(self.roles.clone()),
            repo: self.repo.clone().map(Arc::from),
            only_enrolled: self.only_enrolled,
        };
        Ok(FleetSetup { api, keys })
    }
}

/// Says at the start what every box would say later. A repository that has expired stops no calls.
fn check_repository(repo: &Path, assign: &FileKey) -> anyhow::Result<()> {
    let client = match trunkline_worker::fleet::look(repo, Timestamp::now()) {
        Ok(client) => client,
        Err(error) => {
            let error = anyhow::Error::new(error);
            tracing::error!(repo = %repo.display(), "Boxes will refuse the repository: {error:#}");
            return Ok(());
        }
    };
    let allowed = client
        .root()
        .assignment
        .as_ref()
        .is_some_and(|role| role.keyids.contains(&assign.public().id()) && role.threshold == 1);
    ensure!(allowed, "`fleet.assign_key` is not the key that the repository's root names for assignments");
    Ok(())
}

fn read_key(path: &Path) -> anyhow::Result<FileKey> {
    let text = read_private("key for assignments", path)?;
    let body: String = text.lines().map(str::trim).filter(|line| !line.starts_with("-----")).collect();
    let bytes = STANDARD.decode(body).with_context(|| format!("`{}` is no key", path.display()))?;
    FileKey::from_pkcs8(&bytes).with_context(|| format!("`{}` is no key", path.display()))
}
